
/*
 * What the files of the commit stage share: kv_commit.c (batches),
 * kv_takeover.c (a committer that died), kv_reap.c (workers that died),
 * kv_rebuild.c (a zone that is half changed).  All of it with the commit lock
 * held.
 */


#ifndef KV_COMMIT_PRIVATE_H
#define KV_COMMIT_PRIVATE_H


#include "store/kv_commit.h"


/* One batch; in the committer's own memory. */

typedef struct {
    kv_op_t       *op[KV_BATCH_MAX];
    unsigned       n;
    kv_op_t       *refused[KV_BATCH_MAX];   /* no memory for these */
    unsigned       nrefused;
    kv_op_t       *not_cleared;             /* no empty map for this one */
    uint64_t       room_ns;                 /* spent on making room */
    uint8_t        wake[KV_WORKERS_MAX];    /* slots to be woken */
    struct iovec   iov[KV_VALUE_MAX / KV_PAGE_SIZE
                       + KV_ENTRY_TAILS];
} kv_batch_t;


/*
 * Takes over operations that were swapped out of the queue: links them from
 * the oldest on and marks them.
 */
void kv_commit_mark_taken(kv_zone_t *zone, kv_op_t *head, kv_op_t **oldest);

/*
 * Waits for a lock as long as the process need not stop, and for a moment if it
 * must.  As kv_mutex_lock(), or KV_BUSY.
 */
kv_rc_t kv_commit_lock(kv_store_t *store, kv_mutex_t *lock);

/* Works off operations, from the oldest on, in batches. */
void kv_batch_run_all(kv_store_t *store, kv_batch_t *batch, kv_op_t *hand);

/*
 * Whether one of the operations, which are in the log, is to be durable before
 * it is done; if not, the zone knows how soon they are to be.
 */
bool kv_commit_promised(kv_zone_t *zone, kv_op_t **op, unsigned n);

/*
 * Makes the log durable.  KV_OK, or KV_UNAVAILABLE: never (kv_state_writes()
 * says no), or not now.  Not to be called when writes are disabled.
 */
kv_rc_t kv_commit_sync(kv_store_t *store);

/*
 * Applies logged operations to the map; there is a reserve for them.  False
 * if the heap broke: then the zone must be rebuilt.
 */
bool kv_commit_apply(kv_store_t *store, kv_op_t **op, unsigned n);

/* Delivers results; the workers are woken by kv_commit_wake(). */
void kv_commit_report(kv_store_t *store, kv_batch_t *batch, kv_op_t **op,
    unsigned n, kv_rc_t rc);
void kv_commit_wake(kv_store_t *store, kv_batch_t *batch);


/* kv_takeover.c */

/*
 * Finishes what the dead predecessor had in hand.  False if the zone must be
 * rebuilt.
 */
bool kv_takeover(kv_store_t *store, kv_batch_t *batch);


/* kv_reap.c */

/*
 * Locks the slots of dead workers, dead[i] for slot i; whether there are any.
 * To be called before the queue is taken: once that is worked off, no record
 * of theirs is in the queue or in a hand, and all can be freed.
 */
bool kv_commit_lock_dead(kv_zone_t *zone, bool *dead);

/* Frees what they had, and the slots; or unlocks them for the next time. */
void kv_commit_reap(kv_store_t *store, const bool *dead);


/* kv_rebuild.c */

/* Nobody uses the zone any more from now on; says why. */
void kv_commit_break(kv_store_t *store, const char *why);

/*
 * Loads a broken zone from disk.  What was queued is answered by the workers
 * themselves, with KV_UNAVAILABLE.
 */
void kv_commit_rebuild(kv_store_t *store);


#endif /* KV_COMMIT_PRIVATE_H */
