
/*
 * A node of a cluster of several, of a store with conf.npeers, in the process
 * that hosts it (kv_host.h): it founds the cluster with the others, elects a
 * leader with them, and says in zone->node what it is.
 *
 * No records are replicated yet: writes are refused.
 */


#ifndef KV_MEMBER_H
#define KV_MEMBER_H


#include "store/kv_handle.h"


#if KV_HAVE_RAFT

/*
 * The host's work while it has the claim, as kv_committer_run() where there are
 * no peers; but it sleeps in here, too.  Returns when the process must stop, or
 * has lost the claim.
 */
void kv_member_run(kv_store_t *store);

#else

static inline void
kv_member_run(kv_store_t *store)
{
    (void) store;
}

#endif


#endif /* KV_MEMBER_H */
