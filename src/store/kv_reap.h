
/*
 * Reaping workers that died: freeing what they held.  With the commit lock
 * held.
 */


#ifndef KV_REAP_H
#define KV_REAP_H


#include "store/kv_handle.h"


/*
 * Locks the kv_worker_t of dead workers, and sets dead[i] for number i; whether
 * there are any.  Before the queue is taken: once the committer has worked that
 * off, none of their records is queued or taken, and all can be freed.
 */
bool kv_reap_lock_dead(kv_zone_t *zone, bool *dead);

/*
 * Frees what they held, and the kv_worker_t; or unlocks it for the next time.
 */
void kv_reap(kv_store_t *store, const bool *dead);


#endif /* KV_REAP_H */
