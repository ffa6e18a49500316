
/*
 * A node of a cluster of several, of a store with conf.npeers, in the process
 * that hosts it (kv_host.h): it founds the cluster with the others, elects a
 * leader with them, says in zone->node what it is, and writes what the leader
 * does.
 *
 * What a write was answered for is in the logs of a majority.  What is not
 * there yet: a node that lacks more than the others' logs have stays behind,
 * and reads are those of the map of who takes itself for the leader.
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
