
/*
 * The process's handle of a store, for the files of this room: messages,
 * waking, the process's end, and buffers for the log.
 */


#ifndef KV_HANDLE_H
#define KV_HANDLE_H


#include "store/kv_store_private.h"


/* a batch ends before it gets larger than that, if it has two operations */
#define KV_BATCH_BYTES     (4u << 20)


void kv_store_log(kv_store_t *store, kv_log_level_t level, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));

/* Wakes the worker in a slot, or every one. */
void kv_store_wake(kv_store_t *store, unsigned worker);
void kv_store_wake_all(kv_store_t *store);

/* Whether threads should come to an end soon. */
static inline bool
kv_store_stopping(kv_store_t *store)
{
    return store->stop || (store->conf.stopping && store->conf.stopping());
}

/*
 * Waits for a lock as long as the process need not stop, and for a moment if it
 * must.  As kv_mutex_lock(), or KV_BUSY.
 */
kv_rc_t kv_store_lock(kv_store_t *store, kv_mutex_t *lock);

/*
 * Makes the log's handles large enough for every value that may be in the
 * queue, and for segments of the size in force: a worker of another
 * configuration may have taken larger ones than this one would, at any time,
 * so it is to be called after the queue was taken, with no batch begun.  KV_OK
 * or KV_NO_MEMORY.  Under the handle's lock.
 */
kv_rc_t kv_store_grow_wal(kv_store_t *store);
kv_rc_t kv_store_grow_background(kv_store_t *store);

/* Heap figures; KV_OK or KV_UNAVAILABLE, then all of them are 0. */
kv_rc_t kv_store_heap_stat(kv_store_t *store, kv_heap_stat_t *st);


#endif /* KV_HANDLE_H */
