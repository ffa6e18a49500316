
/*
 * What is done beside the commits: spare segments made in time, snapshots,
 * and deleting what they make superfluous.
 */


#ifndef KV_BACKGROUND_H
#define KV_BACKGROUND_H


#include "store/kv_store.h"


/*
 * Does what zone->requests asks for.  At most one process at a time; others
 * return at once.
 */
void kv_background_run(kv_store_t *store);


#endif /* KV_BACKGROUND_H */
