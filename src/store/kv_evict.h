
/*
 * Eviction: uploads and readers give up memory of the zone that others need.
 *
 * Two sorts of memory are held for as long as a client likes: what an upload
 * has received, and a value that was overwritten or deleted while it is being
 * sent.  Each has a limit (kv_store_conf_t), and both are given up when a write
 * finds no memory.  The slowest holder goes first.  An upload's pace is the
 * lesser of two: what it received a second all the time, and twice what it
 * received a second lately (the last half second to second).  A reader's pace
 * is the most that it can have taken: the value over the time.  A holder
 * younger than KV_EVICT_AGE is spared, however slow, or, once a write has
 * itself waited for that long, one younger than KV_EVICT_URGENT.  An upload
 * that received nothing for half a second is not spared.  Time in which an
 * upload had to wait for memory does not count.
 *
 * An upload that receives KV_EVICT_FAST or more, and began at most
 * KV_EVICT_LONG ago, is not ranked like that: it goes neither for a limit nor
 * for a younger upload.  Only if an older upload was sent more than it has
 * memory for (kv_fair.h), has waited for KV_EVICT_AGE, and there is no other
 * victim, the largest of them goes; of several that began at the same time one
 * counts as older than the others.  So a client that sends fast, stops and
 * starts anew cannot push out an upload that was there before it, and a younger
 * upload that is slower is not the first to go.
 *
 * The limits count when the zone cannot spare the memory: while a quarter of it
 * is free no write needs what uploads and readers hold.
 *
 * A reader of a value that is still stored holds no memory, but a value that is
 * being sent cannot be moved, nor can what an upload has received: a few of
 * them, one a page, keep compaction from joining free memory.  Where only that
 * keeps a write from finding memory, and a quarter of the zone is free, they go
 * too.
 *
 * The committer sets a bit in the ticket of the holder's record (kv_worker.h)
 * and a flag in its kv_worker_t, and wakes the worker.  The worker answers the
 * upload, or cuts the reader's connection, and releases the record; then the
 * memory is free, a reader's after the next kv_epoch_reclaim().
 *
 * A worker that does not run is neither told nor waited for, because it does
 * not see what its clients send.  Once it runs again, the time in which it did
 * not is taken out of its holders' clocks.
 */


#ifndef KV_EVICT_H
#define KV_EVICT_H


#include "store/kv_handle.h"


#define KV_EVICT_AGE       1000000000u     /* nanoseconds */
#define KV_EVICT_URGENT    100000000u

/* bytes a second */
#define KV_EVICT_FAST      1572864u
#define KV_EVICT_LONG      8000000000ull   /* nanoseconds */

/* between two checks of the limits, nanoseconds */
#define KV_EVICT_INTERVAL  100000000u

#define KV_EVICT_UPLOADS   (1u << KV_HELD_UPLOADS)
#define KV_EVICT_READERS   (1u << KV_HELD_READERS)
#define KV_EVICT_LIVE      (1u << KV_HELD)     /* readers of what is stored */
#define KV_EVICT_LARGE     (1u << (KV_HELD + 1))  /* KV_EVICT_FAST ones */


/*
 * Tells the slowest holders of these sorts (KV_EVICT_...), of at least that age
 * (nanoseconds), to go, until `bytes` are to come free, or a bounded number was
 * told.  Those that were told before and have not gone yet count.  Returns the
 * bytes to come: 0 if no holder is old enough; `*young` (may be NULL) says
 * whether there are readers that are not.  With the commit lock held.
 */
uint64_t kv_evict(kv_store_t *store, unsigned who, uint64_t bytes,
    uint64_t age, bool *young);

/* For kv_store_beat(). */
void kv_evict_beat(kv_store_t *store);

/* The same as kv_evict() for what is over the limits. */
void kv_evict_over(kv_store_t *store);

/*
 * Whether more is held than the limits allow, and than the zone can spare.
 */
bool kv_store_over(kv_store_t *store);

/* Bytes used of the last quarter of the zone; 0 if it is all free. */
uint64_t kv_store_scarce(kv_store_t *store);


#endif /* KV_EVICT_H */
