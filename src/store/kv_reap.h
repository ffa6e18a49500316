
/*
 * Clearing away after workers that died.  With the commit lock held.
 */


#ifndef KV_REAP_H
#define KV_REAP_H


#include "store/kv_handle.h"


/*
 * Locks the slots of dead workers, dead[i] for slot i; whether there are any.
 * To be called before the queue is taken: once that is worked off, no record
 * of theirs is in the queue or taken, and all can be freed.
 */
bool kv_reap_lock_dead(kv_zone_t *zone, bool *dead);

/* Frees what they had, and the slots; or unlocks them for the next time. */
void kv_reap(kv_store_t *store, const bool *dead);


#endif /* KV_REAP_H */
