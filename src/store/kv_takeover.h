
/*
 * Taking over from a committer that died.
 */


#ifndef KV_TAKEOVER_H
#define KV_TAKEOVER_H


#include "store/kv_batch.h"


/*
 * Finishes what the dead predecessor had taken.  With the commit lock held.
 * False if the zone must be rebuilt.
 */
bool kv_takeover(kv_store_t *store, kv_batch_t *batch);

/*
 * The same of a node with peers, where others decide what becomes of it: what
 * the dead one had taken is answered KV_UNAVAILABLE.
 */
bool kv_takeover_refuse(kv_store_t *store, kv_batch_t *batch);


#endif /* KV_TAKEOVER_H */
