
/*
 * The committer: queue -> durable -> applied.  Every write passes it: from
 * outside it is kv_queue_push(), and operations that become DONE.
 */


#ifndef KV_COMMITTER_H
#define KV_COMMITTER_H


#include "store/kv_store.h"
#include "store/kv_zone.h"


/*
 * Claims the committer role if it is free or its holder is dead.  True: the
 * caller must run kv_committer_run(), or kv_committer_unclaim() if it cannot.
 * In a store that is hosted it is the host's alone (kv_host.h), which a call of
 * another process wakes.
 */
bool kv_committer_claim(kv_store_t *store);
void kv_committer_unclaim(kv_store_t *store);

/*
 * Commits until the queue is empty, or the process must stop.  First finishes
 * what a dead predecessor left, and rebuilds the zone if it is broken; reaps
 * dead workers.
 */
void kv_committer_run(kv_store_t *store);

/* Whether there is work that somebody waits for, in a zone that is whole. */
bool kv_committer_needed(kv_zone_t *zone);

/*
 * Makes all that was written durable, from a thread that is not the
 * committer's.  KV_OK; KV_AGAIN: a committer is at work, and will do it;
 * KV_UNAVAILABLE: not now, or never (kv_state.h).
 */
kv_rc_t kv_committer_sync_now(kv_store_t *store);

/*
 * Whether the log's current segment can be written to, from such a thread.
 * False also if a committer is at work: that finds out by writing.
 */
bool kv_committer_can_write(kv_store_t *store);


#endif /* KV_COMMITTER_H */
