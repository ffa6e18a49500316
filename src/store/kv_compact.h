
/*
 * Compaction: joins what is free but scattered.  Moves the live objects of
 * sparse pages into others of their class, so that whole pages become free.
 * Part of the committer's work: the committer alone changes the map, so it
 * alone can move what the map points to.
 */


#ifndef KV_COMPACT_H
#define KV_COMPACT_H


#include "store/kv_zone.h"


/*
 * Empties one page: a sparse one, or with `dense` any whose objects fit into
 * others.  What was there goes to the retire list, so that the page is free
 * once readers have left and kv_epoch_reclaim() ran.  What cannot be moved now
 * (an upload's, what is being sent) stays, and the page in use.  With the
 * commit lock held and the phase set.  KV_OK (something was moved), KV_AGAIN
 * (nothing in that page could be, the next call takes another), KV_DECLINED (no
 * page is worth it), KV_DEAD.
 */
kv_rc_t kv_compact_page(kv_zone_t *zone, bool dense);


#endif /* KV_COMPACT_H */
