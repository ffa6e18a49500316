
/*
 * The tail of the log in memory: the entries that peers may still be sent, and
 * those that wait for the disk.  It has exactly the indexes that the engine
 * believes the log to have, whether they are on disk or not.
 */


#ifndef KV_RAFT_LOG_H
#define KV_RAFT_LOG_H


#include "raft/kv_raft_entry.h"


typedef struct {
    uint64_t           before;       /* the index before the first one's */
    uint64_t           n;
    uint64_t           size;         /* of the ring, a power of two */
    uint64_t           bytes;        /* of the entries' data */
    kv_raft_entry_t  **ring;         /* index i is at i % size */
} kv_raft_log_t;


/* An empty log, whose first entry will have the index `before` + 1. */
void kv_raft_log_init(kv_raft_log_t *log, uint64_t before);
void kv_raft_log_free(kv_raft_log_t *log);

/* The last index; that before the first one if there is none. */
uint64_t kv_raft_log_last(const kv_raft_log_t *log);

/* The entry, which stays the log's, or NULL if it is not there. */
kv_raft_entry_t *kv_raft_log_get(const kv_raft_log_t *log, uint64_t index);

/* Adds an entry, and a reference, behind the last one. */
void kv_raft_log_append(kv_raft_log_t *log, kv_raft_entry_t *e);

/* Drops the index and all behind it; all up to the index. */
void kv_raft_log_cut(kv_raft_log_t *log, uint64_t index);
void kv_raft_log_trim(kv_raft_log_t *log, uint64_t index);


#endif /* KV_RAFT_LOG_H */
