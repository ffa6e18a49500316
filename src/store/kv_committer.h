
/*
 * The committer: queue -> durable -> applied.  The narrow place that every
 * write passes, and the one that a replicated log will replace: from outside it
 * is kv_queue_push(), and operations that become DONE.
 */


#ifndef KV_COMMITTER_H
#define KV_COMMITTER_H


#include "store/kv_store.h"


/*
 * Makes the caller responsible for running kv_committer_run(), if nobody is or
 * whoever is died.  True if it is now.
 */
bool kv_committer_claim(kv_store_t *store);
void kv_committer_unclaim(kv_store_t *store);

/*
 * Commits until the queue is empty, or the process is asked to stop.  Finishes
 * first what a dead predecessor left, rebuilds the zone if it must, and clears
 * away after dead workers.
 */
void kv_committer_run(kv_store_t *store);

/*
 * Makes all that was written durable, from a thread that is not the
 * committer's.  KV_OK; KV_AGAIN if a committer is at work: it was asked to do
 * so; KV_UNAVAILABLE: not now, or never (kv_state.h).
 */
kv_rc_t kv_committer_sync_now(kv_store_t *store);

/*
 * Whether the log's current segment can be written to, from such a thread.
 * False also if a committer is at work: that will find out itself.
 */
bool kv_committer_can_write(kv_store_t *store);


#endif /* KV_COMMITTER_H */
