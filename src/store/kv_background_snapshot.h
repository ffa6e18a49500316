
/*
 * Taking a snapshot of a store in use, and deleting what it makes superfluous.
 * With the background lock held.
 */


#ifndef KV_BACKGROUND_SNAPSHOT_H
#define KV_BACKGROUND_SNAPSHOT_H


#include "store/kv_handle.h"


/* Snapshots that are kept, with the log after the oldest of them. */
#define KV_SNAPSHOTS_KEPT  2u


/*
 * Takes a snapshot.  KV_OK; KV_DECLINED: nothing was written since the last
 * one; KV_CANCELLED: the process is to end, or the zone broke.  Else it failed,
 * and was logged: KV_NO_SPACE, KV_NO_MEMORY, KV_AGAIN, KV_ERROR.
 */
kv_rc_t kv_background_snapshot(kv_store_t *store);

/*
 * Waits until the log is durable up to an LSN that was applied; with
 * sync=always it is.  KV_OK; KV_CANCELLED: the process is to end, or the zone
 * broke; KV_ERROR, `err` filled.  In any thread but the event loop's, without
 * the background lock, too.
 */
kv_rc_t kv_background_durable(kv_store_t *store, uint64_t lsn, kv_err_t *err);

/*
 * Whether the last snapshot is not there any more, nor a newer one: an operator
 * may have deleted it, and a start would be refused.  Then it is logged, once,
 * and the caller must take another one.
 */
bool kv_background_snapshot_gone(kv_store_t *store);

/*
 * Deletes all snapshots but the newest `keep`, and the log that only the others
 * need, except for `spares` segments that are kept for reuse.  If there are
 * fewer snapshots than `keep`, the log is kept from its start.  What backups
 * hold (kv_hold.h) and an archive waits for is kept, too, unless `keep` says
 * that the disk is full: below KV_SNAPSHOTS_KEPT.  With `gently` it makes spare
 * segments meanwhile if a committer asks for one, and ends early when
 * background work is to end.  KV_OK, or KV_ERROR and the like with `err`
 * filled.
 */
kv_rc_t kv_background_purge(kv_store_t *store, unsigned keep, unsigned spares,
    bool gently, kv_err_t *err);


#endif /* KV_BACKGROUND_SNAPSHOT_H */
