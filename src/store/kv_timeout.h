
/*
 * When there is work that nobody waits for: a sync, the mark at the end of a
 * log that has gone quiet.  kv_store_next_timeout() is the first of them.
 */


#ifndef KV_TIMEOUT_H
#define KV_TIMEOUT_H


#include "store/kv_handle.h"


/*
 * Milliseconds until that for the sync alone (where anything unsynced is of a
 * configuration with sync=<interval>, this process's or another), and for the
 * mark alone.  0: never; 1: now.
 */
uint64_t kv_timeout_sync(kv_store_t *store);
uint64_t kv_timeout_mark(kv_store_t *store);


#endif /* KV_TIMEOUT_H */
