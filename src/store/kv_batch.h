
/*
 * A batch: what it consists of, and its way from the queue into the log and the
 * map.  Give LSNs, write, sync, and only then apply to the map in LSN order,
 * and only then report.  All of it with the commit lock held.
 */


#ifndef KV_BATCH_H
#define KV_BATCH_H


#include "store/kv_await.h"
#include "store/kv_decide.h"
#include "store/kv_handle.h"


/* the most operations in a batch, so that no answer waits for too many */
#define KV_BATCH_MAX       KV_DECIDE_MAX


/* In the committer's own memory. */

typedef struct {
    kv_op_t       *op[KV_BATCH_MAX];
    unsigned       n;
    kv_op_t       *refused[KV_BATCH_MAX];   /* no memory for these */
    unsigned       nrefused;
    kv_op_t       *not_cleared;             /* no empty map for this one */
    kv_op_t       *undone[KV_BATCH_MAX];    /* decided not to be done */
    unsigned       nundone;
    kv_decide_t    decide;
    uint64_t       reserve_ns;              /* spent by kv_reserve() */
    kv_changes_t   changes;                 /* of keys, by kv_batch_apply() */
    uint8_t        wake[KV_WORKERS_MAX];    /* workers to wake */
    struct iovec   iov[KV_VALUE_MAX / KV_PAGE_SIZE
                       + KV_ENTRY_TAILS];
} kv_batch_t;


/* Commits a taken list, from the oldest operation on, in batches. */
void kv_batch_run_all(kv_store_t *store, kv_batch_t *batch, kv_op_t *taken);

/*
 * Whether one of the operations, which are in the log, must be durable before
 * it is done.  If not, sets zone->sync_ms to the shortest time within which one
 * of them must be.
 */
bool kv_batch_must_sync(kv_zone_t *zone, kv_op_t **op, unsigned n);

/*
 * Makes the log durable.  KV_OK, or KV_UNAVAILABLE: never (kv_state_writes()
 * says no), or not now.  Not while writes are disabled.
 */
kv_rc_t kv_batch_sync(kv_store_t *store);

/*
 * Applies logged operations to the map, with what was reserved for them.  False
 * if the heap broke: then the zone must be rebuilt.
 */
bool kv_batch_apply(kv_store_t *store, kv_op_t **op, unsigned n);

/* Makes operations DONE, with a result; and wakes their workers. */
void kv_batch_report(kv_store_t *store, kv_batch_t *batch, kv_op_t **op,
    unsigned n, kv_rc_t rc);
void kv_batch_wake(kv_store_t *store, kv_batch_t *batch);


#endif /* KV_BATCH_H */
