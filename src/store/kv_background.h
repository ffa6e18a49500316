
/*
 * What is done beside the commits: spare segments made in time, snapshots,
 * and deleting what they make superfluous.
 */


#ifndef KV_BACKGROUND_H
#define KV_BACKGROUND_H


#include "store/kv_store.h"


/* What a snapshot copies of the map in one epoch, at most this many entries. */
#define KV_SCAN_ENTRIES   256u

/* Snapshots that are kept, with the log after the oldest of them. */
#define KV_SNAPSHOTS_KEPT  2u

/* Segments kept for reuse. */
#define KV_SPARES_KEPT    4u


/*
 * Does what zone->wants asks for.  At most one process at a time; others
 * return at once.
 */
void kv_background_run(kv_store_t *store);


#endif /* KV_BACKGROUND_H */
