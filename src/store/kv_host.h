
/*
 * The host of a store with conf->hosted: the one process that commits.
 *
 * Elsewhere each process of a store may be the committer, and the next one
 * becomes it when the last has nothing more to do.  In a store that is hosted a
 * process of its own is the committer for good, because it has what no other
 * has: the engine of a cluster, with its connections.  The others push, and
 * wake it.  Its claim is zone->committer, as that of any committer, so that its
 * death is noticed and its batch is taken over in the same way (kv_takeover.c);
 * only a host takes over.
 *
 * At a reload there are two of them for a while.  The new one waits in
 * zone->next_host for the claim, and the old one, which is told to end, gives
 * it up between two rounds.  If no other waits for it, as at a quit, the old
 * one stays as long as other processes use the zone.
 *
 * The host itself is in kv_store_host.c.
 */


#ifndef KV_HOST_H
#define KV_HOST_H


#include "store/kv_handle.h"


/* Wakes the host, if it sleeps, because there is work.  Any thread. */
void kv_host_wake(kv_store_t *store);

/* Whether the process is there whose kv_worker_t has that number + 1. */
bool kv_host_lives(kv_zone_t *zone, uint32_t holder);


#endif /* KV_HOST_H */
