
/*
 * How the nodes of a cluster find each other; see kv_found.c.
 */


#ifndef KV_FOUND_H
#define KV_FOUND_H


#include "store/kv_handle.h"


#if KV_HAVE_RAFT

/*
 * After the log of a store with conf.npeers was read: whether this version can
 * go on with its cluster, with these peers.  KV_OK, or KV_ERROR, `err` filled.
 */
kv_rc_t kv_found_check(kv_store_t *store, kv_err_t *err);

#else

static inline kv_rc_t
kv_found_check(kv_store_t *store, kv_err_t *err)
{
    (void) store;
    (void) err;

    return KV_OK;
}

#endif


#endif /* KV_FOUND_H */
