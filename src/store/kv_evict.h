
/*
 * Eviction: uploads and readers give up memory of the zone that others need.
 *
 * Two sorts of memory are held for as long as a client likes: what an upload
 * has received, and a value that was overwritten or deleted while it is being
 * sent.  Each has a limit (kv_store_conf_t), which counts while less than a
 * quarter of the zone is free; and holders go when a write finds no memory.
 *
 * The slowest goes first.  An upload's pace is the lesser of two: what it
 * received a second all the time, and twice that lately (the last half second
 * to second), without the time in which it waited for memory.  A reader's pace
 * is the most that it can have taken: the value over the time.  A holder
 * younger than KV_EVICT_AGE is spared, or, once a write has itself waited for
 * that long, one younger than KV_EVICT_URGENT; but not an upload that received
 * nothing for half a second.
 *
 * A fast upload (KV_EVICT_FAST, and not older than KV_EVICT_LONG) goes neither
 * for a limit nor for a younger upload.  Only if an older one was sent more
 * than it has memory for (kv_fair.h), has waited for KV_EVICT_AGE, and there is
 * no other victim, the largest fast one goes; of several that began at the same
 * time one counts as the older.  So a client that sends fast, stops and starts
 * anew cannot push out an upload that was there before it, and a younger upload
 * that is slower is not the first to go.
 *
 * A reader of a stored value holds no memory, but what is being sent, or being
 * received, cannot be moved: a few of them, one a page, keep compaction from
 * joining free memory.  If only that is in a write's way, and a quarter of the
 * zone is free, they go too.
 *
 * The committer sets a bit in the ticket of the holder's record (kv_worker.h)
 * and a flag in its kv_worker_t, and wakes the worker.  The worker answers the
 * upload, or cuts the reader's connection, and releases the record; then the
 * memory is free, a reader's after the next kv_epoch_reclaim().
 *
 * A worker that does not run does not see what its clients send: it is neither
 * told nor waited for, and once it runs again, its holders' clocks leave that
 * time out.
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

/*
 * Bytes of values that puts under way hold, all of which is here: nobody is
 * slow, but they are not stored yet, and what they replace is not free.  With
 * the commit lock held.
 */
uint64_t kv_evict_under_way(kv_store_t *store);

/* For kv_store_beat(); returns the time, monotonic, nanoseconds. */
uint64_t kv_evict_beat(kv_store_t *store);

/* The same as kv_evict() for what is over the limits. */
void kv_evict_over(kv_store_t *store);

/*
 * Whether more is held than the limits allow, and than the zone can spare.
 */
bool kv_store_over(kv_store_t *store);

/* Bytes used of the last quarter of the zone; 0 if it is all free. */
uint64_t kv_store_scarce(kv_store_t *store);


#endif /* KV_EVICT_H */
