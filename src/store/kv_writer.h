
/*
 * The thread that writes and syncs the log of a node that has peers: while it
 * waits for the disk the host's thread, which runs the engine, goes on to talk
 * to them.
 *
 * From kv_writer_start() to kv_writer_end() it alone writes, and changes what
 * the zone says of the log, in the name of the host's thread, which holds the
 * commit lock.
 */


#ifndef KV_WRITER_H
#define KV_WRITER_H


#include "raft/kv_raft.h"
#include "store/kv_handle.h"


typedef struct kv_writer_s  kv_writer_t;


/* What an entry with records, RAFT_COMMAND, begins with; they follow. */

typedef struct {
    uint64_t    lsn;                 /* of the first one */
    uint64_t    time_ms;             /* the leader's when it was built; or 0 */
} kv_writer_records_t;


typedef enum {
    KV_WRITER_OK = 0,
    KV_WRITER_REFUSED,               /* the last try met an error that may pass:
                                        it is tried again */
    KV_WRITER_FAILED                 /* never to be tried again */
} kv_writer_state_t;


/*
 * `wake` is called, in the thread, when kv_writer_done() has something to say.
 * NULL, `err` filled: there is no memory, or no thread.
 */
kv_writer_t *kv_writer_start(kv_store_t *store, void (*wake)(void *ctx),
    void *ctx, kv_err_t *err);

/* What is being written is finished, what waits is not begun. */
void kv_writer_end(kv_writer_t *writer);

/* To be written, in the order of the calls; `w` is there until it is done. */
void kv_writer_add(kv_writer_t *writer, const kv_raft_write_t *w);

/* Up to which number all is synced, or 0. */
uint64_t kv_writer_done(const kv_writer_t *writer);

kv_writer_state_t kv_writer_state(const kv_writer_t *writer);

/* While it is held, the log is not cut back: for who reads it.  Any thread. */
void kv_writer_hold(kv_writer_t *writer);
void kv_writer_let_go(kv_writer_t *writer);

/* Syncs the log, if the zone asks for it: zone->sync_requested. */
void kv_writer_sync(kv_writer_t *writer);


#endif /* KV_WRITER_H */
