
/*
 * Rebuilding a zone that a death left half changed.  With the commit lock held.
 */


#ifndef KV_REBUILD_H
#define KV_REBUILD_H


#include "store/kv_handle.h"


/*
 * Loads a broken zone from disk.  The workers themselves answer what was
 * queued, with KV_UNAVAILABLE.
 */
void kv_rebuild(kv_store_t *store);


#endif /* KV_REBUILD_H */
