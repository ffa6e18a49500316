
/*
 * The process's handle of a store, for the files of this folder: messages,
 * waking, the process's end, and buffers for the log.
 */


#ifndef KV_HANDLE_H
#define KV_HANDLE_H


#include "store/kv_store_private.h"


/* bytes of a batch, unless one record is longer: 4 MiB in a group's lines */
#define KV_BATCH_BYTES     ((4u << 20) + (256u << 10))


void kv_store_log(kv_store_t *store, kv_log_level_t level, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));

/*
 * Logs what the operator should know of the log's last replay or write: see
 * kv_wal_warning() and kv_wal_renewed().
 */
void kv_store_log_wal(kv_store_t *store);
void kv_store_log_of(kv_store_t *store, kv_wal_t *wal);

/* Wakes the worker of this number, or all workers. */
void kv_store_wake(kv_store_t *store, unsigned worker);
void kv_store_wake_all(kv_store_t *store);

/*
 * Whether threads must end soon.  A host goes on when its process is to quit,
 * until kv_store_host_end().
 */
static inline bool
kv_store_stopping(kv_store_t *store)
{
    return store->stop
           || (store->conf.stopping && !store->hosts && store->conf.stopping());
}

/*
 * Waits for a lock as long as the process need not stop, and for KV_STORE_WATCH
 * if it must.  As kv_mutex_lock(), or KV_BUSY.
 */
kv_rc_t kv_store_lock(kv_store_t *store, kv_mutex_t *lock);

/*
 * Makes the log's handle large enough for every value that may be in the queue,
 * and for segments of the configured size.  A worker of another configuration
 * may have queued a larger value at any time, so the caller has taken the queue
 * before, and has begun no batch.  KV_OK or KV_NO_MEMORY.  Under the handle's
 * lock.
 */
kv_rc_t kv_store_grow_wal(kv_store_t *store);
kv_rc_t kv_store_grow_background(kv_store_t *store);

/* The same for a handle of the caller's, NULL: it has none yet. */
kv_rc_t kv_store_grow_log(kv_store_t *store, kv_wal_t **log,
    kv_store_sizes_t *sizes);

/* The bytes that the records of one batch may take.  Any process. */
size_t kv_store_batch_space(kv_zone_t *zone);

/* Makes the first chunk's FREE records those that the process takes. */
void kv_store_first_ops(kv_store_t *store);

/* Heap figures; KV_OK, or KV_UNAVAILABLE: then all of them are 0. */
kv_rc_t kv_store_heap_stat(kv_store_t *store, kv_heap_stat_t *st);


#endif /* KV_HANDLE_H */
