
/*
 * Work beside the commits: spare segments made in time, snapshots, and deleting
 * what they make superfluous.
 */


#ifndef KV_BACKGROUND_H
#define KV_BACKGROUND_H


#include "store/kv_store.h"


/*
 * Does the work in zone->requests.  One process at a time; in others it returns
 * at once.
 */
void kv_background_run(kv_store_t *store);


#endif /* KV_BACKGROUND_H */
