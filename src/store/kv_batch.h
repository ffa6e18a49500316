
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

/* the most expired keys that are deleted at a time: see kv_expire.h */
#define KV_EXPIRE_MAX      512u


/* In the committer's own memory. */

typedef struct {
    kv_op_t       *op[KV_BATCH_MAX];        /* with the members of groups */
    unsigned       n;
    kv_op_t       *group[KV_BATCH_MAX];     /* whose they are */
    unsigned       ngroups;
    kv_op_t       *refused[KV_BATCH_MAX];   /* no memory for these */
    unsigned       nrefused;
    kv_op_t       *not_cleared;             /* no empty map for this one */
    kv_op_t       *undone[KV_BATCH_MAX];    /* decided not to be done */
    unsigned       nundone;
    uint64_t       time_ms;                 /* when it was decided */
    uint64_t       hash[KV_BATCH_MAX];      /* of op[i]'s key: to apply it */
    kv_decide_t    decide;
    kv_entry_t    *expired[KV_EXPIRE_MAX];  /* kv_expire.c: to be deleted, */
    uint64_t       expired_hash[KV_EXPIRE_MAX];    /* and their keys' hashes */
    uint64_t       reserve_ns;              /* spent by kv_reserve() */
    kv_changes_t   changes;                 /* of keys, by kv_batch_apply() */
    uint8_t        wake[KV_WORKERS_MAX];    /* workers to wake */
    struct iovec   iov[KV_VALUE_MAX / KV_PAGE_SIZE
                       + KV_ENTRY_TAILS];
} kv_batch_t;


/* Commits a taken list, from the oldest operation on, in batches. */
void kv_batch_run_all(kv_store_t *store, kv_batch_t *batch, kv_op_t *taken);

/*
 * The steps of that, for who has other ways to write it.  First, builds the
 * next batch, in store->wal, from the beginning of the list; what is refused is
 * reported.  False: there is none, as the list was empty, or the zone broke.
 */
bool kv_batch_next(kv_store_t *store, kv_batch_t *batch, kv_op_t **taken);

/* Second, gives its records LSNs, from that one on. */
void kv_batch_number(kv_batch_t *batch, uint64_t lsn);

/*
 * Last, when it is written and durable, KV_OK, or is not to be done: applies
 * it, reports, and cleans up.  False: the zone broke.
 */
bool kv_batch_end(kv_store_t *store, kv_batch_t *batch, kv_rc_t rc);

/*
 * Whether one of the operations, which are in the log, must be durable before
 * it is done.  If not, sets zone->sync_ms to the shortest time within which one
 * of them must be.
 */
bool kv_batch_must_sync(kv_zone_t *zone, kv_op_t **op, unsigned n);

/*
 * Of a replicated log: has this process lead, if it can, before there is a
 * batch.  If it cannot, the state says why, and the next batch tries again.
 */
void kv_batch_lead(kv_store_t *store);

/*
 * Writes what was added to the log, for these operations or none.  KV_OK: it is
 * as durable as they require; it is durable within `within` milliseconds,
 * unless that is 0.  KV_NO_SPACE, KV_REFUSED: it is not in the log.  Or
 * KV_UNAVAILABLE: it may be.  The state says why.  Not while writes are
 * disabled.
 */
kv_rc_t kv_batch_log(kv_store_t *store, kv_op_t **op, unsigned n,
    uint32_t within);

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

/*
 * Ends the changes of the map that make all up to `lsn` visible, with the phase
 * set; resets it, and tells the workers that wait for one of the changes that
 * were noted (kv_await_tell()).  False as above.
 */
bool kv_batch_applied(kv_store_t *store, uint64_t lsn);

/*
 * After each batch: frees what readers have left, empties a sparse page when
 * free pages get few, and requests a spare segment in time, and snapshots.
 * False if the zone broke.
 */
bool kv_batch_clean_up(kv_store_t *store);

/*
 * The last part of that, which with conf.npeers is for the thread that writes
 * the log: requests a spare segment in time, and snapshots.
 */
void kv_batch_request(kv_store_t *store);

/* Makes operations DONE, with a result; and wakes their workers. */
void kv_batch_report(kv_store_t *store, kv_batch_t *batch, kv_op_t **op,
    unsigned n, kv_rc_t rc);
void kv_batch_wake(kv_store_t *store, kv_batch_t *batch);


#endif /* KV_BATCH_H */
