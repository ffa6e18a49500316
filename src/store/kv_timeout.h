
/*
 * When there is work that no client waits for: a sync, the mark at the end of a
 * log that has gone quiet, keys that expire.  kv_store_next_timeout() is the
 * first of them.
 */


#ifndef KV_TIMEOUT_H
#define KV_TIMEOUT_H


#include "store/kv_handle.h"


/*
 * Milliseconds until the sync alone (of what a configuration with
 * sync=<interval> wrote, this process's or another's), and until the mark
 * alone; KV_TIMEOUT_NOW, KV_TIMEOUT_NEVER.
 */
uint64_t kv_timeout_sync(kv_store_t *store);
uint64_t kv_timeout_mark(kv_store_t *store);

/* The same until a committer has keys to delete, and can (kv_expire.h). */
uint64_t kv_timeout_expire(kv_zone_t *zone);

/* The same until it may evict again, if kv_store_over() (kv_evict.h). */
uint64_t kv_timeout_evict(kv_zone_t *zone);


#endif /* KV_TIMEOUT_H */
