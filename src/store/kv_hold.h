
/*
 * What keeps snapshots and the log from being deleted or used again while a
 * backup reads them: holds, which are in the zone.
 *
 * A hold belongs to a worker, and goes when that one leaves or dies.  It lasts
 * until the log has grown by so much since it was taken, or the disk is full:
 * then the process that deletes takes it away first, in one step.  So its owner
 * looks at it after each read: if the hold is still there, what was read was.
 *
 * A hold that is taken while another process deletes comes too late for what
 * that one goes by; but it never deletes the newest snapshot and what is above
 * that, and a new one is the work of the same process.
 */


#ifndef KV_HOLD_H
#define KV_HOLD_H


#include "store/kv_handle.h"


/*
 * Takes a hold, on everything, until the log has grown by `bytes`.  KV_OK with
 * its number in *hold; KV_BUSY: there are KV_HOLDS.
 */
kv_rc_t kv_hold_take(kv_store_t *store, uint64_t bytes, unsigned *hold);

/* Gives it back. */
void kv_hold_give(kv_store_t *store, unsigned hold);

/*
 * What is held from now on: snapshots from S = `lsn` on, and the log above it;
 * it never goes back.  False: the hold was taken away.
 */
bool kv_hold_set(kv_store_t *store, unsigned hold, uint64_t lsn);

/* Gives back all of a worker that has left or is dead. */
void kv_hold_leave(kv_zone_t *zone, unsigned worker);

/*
 * Before anything is deleted: the least LSN that is held, or UINT64_MAX.  Holds
 * that have lasted long enough are taken away; with `all` all of them.
 */
uint64_t kv_hold_least(kv_zone_t *zone, bool all);

/* How many there are. */
unsigned kv_hold_count(kv_zone_t *zone);


#endif /* KV_HOLD_H */
