
/*
 * Batches: see kv_batch.h.
 */


#include <assert.h>
#include <limits.h>

#include "store/kv_batch.h"
#include "store/kv_clock.h"
#include "store/kv_compact.h"
#include "store/kv_counter.h"
#include "store/kv_evict.h"
#include "store/kv_group.h"
#include "store/kv_listed.h"
#include "store/kv_replica.h"
#include "store/kv_reserve.h"
#include "store/kv_sweep.h"
#include "store/kv_timeout.h"
#include "store/kv_watch.h"
#include "base/kv_failpoint.h"


/* operations ahead of the one that is applied whose buckets are fetched */
#define KV_BATCH_AHEAD    8

/* compact after a batch if at most this share of the pages is free */
#define KV_COMPACT_SHARE  8


/* What is reserved for a batch. */

typedef struct {
    unsigned      ops;               /* operations and groups, at most */
    int           puts;              /* puts that the map has memory for */
    int           retired;           /* objects that may leave the map */
    kv_rc_t       clear;             /* whether there is an empty map */
} kv_batch_reserve_t;


/* What is refused of a batch that is too large for the disk. */

typedef struct {
    size_t        size;              /* what takes more in the log */
    unsigned      keep;              /* all but so many of the others */
} kv_batch_drop_t;


static void kv_batch_give_memory(kv_store_t *store, kv_batch_t *batch);
static void kv_batch_refuse_all(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *taken);
static kv_op_t *kv_batch_build(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *taken);
static void kv_batch_reserve(kv_zone_t *zone, kv_op_t *taken,
    kv_batch_reserve_t *reserved);
static int kv_batch_reserve_list(kv_zone_t *zone, kv_op_t *taken, unsigned ops,
    int puts);
static kv_rc_t kv_batch_decide(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *op);
static bool kv_batch_admit(kv_batch_t *batch, kv_op_t *op,
    kv_batch_reserve_t *reserved);
static void kv_batch_pass(kv_op_t *op, kv_batch_reserve_t *reserved);
static kv_rc_t kv_batch_add(kv_store_t *store, kv_batch_t *batch, kv_op_t *op);
static void kv_batch_record(kv_batch_t *batch, const kv_op_t *op,
    kv_record_t *rec);
static void kv_batch_report_refused(kv_store_t *store, kv_batch_t *batch);
static void kv_batch_report_undone(kv_store_t *store, kv_batch_t *batch,
    kv_rc_t rc);
static kv_rc_t kv_batch_write(kv_store_t *store, kv_batch_t *batch);
static bool kv_batch_drop(kv_store_t *store, kv_batch_t *batch, kv_rc_t rc,
    kv_op_t **taken);
static bool kv_batch_choose(kv_batch_t *batch, kv_batch_drop_t *drop);
static size_t kv_batch_log_size(kv_op_t *op);
static inline bool kv_batch_member(const kv_op_t *op);
static unsigned kv_batch_count_puts(kv_op_t *const *op, unsigned n);
static inline bool kv_batch_frees(const kv_op_t *op);
static kv_op_t **kv_batch_drop_one(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *op, kv_rc_t rc, kv_batch_drop_t *drop, kv_op_t **end);
static kv_rc_t kv_batch_refused(kv_store_t *store, kv_rc_t rc, size_t len,
    const kv_err_t *err);
static void kv_batch_written(kv_store_t *store, uint64_t lsn, size_t len,
    bool puts);
static void kv_batch_fetch(kv_zone_t *zone, kv_op_t *op, uint64_t *hash);
static bool kv_batch_apply_one(kv_zone_t *zone, kv_listed_t *listed,
    kv_op_t *op, uint64_t hash, kv_changes_t *changes);
static bool kv_batch_deleted(kv_zone_t *zone, kv_op_t *op, kv_entry_t *old);
static bool kv_batch_apply_touch(kv_zone_t *zone, kv_listed_t *listed,
    kv_op_t *op, uint64_t hash, kv_entry_t *e);
static bool kv_batch_reclaim(kv_store_t *store);
static void kv_batch_request_background(kv_store_t *store, uint32_t requests);


void
kv_batch_run_all(kv_store_t *store, kv_batch_t *batch, kv_op_t *taken)
{
    kv_rc_t  rc;

    while (kv_batch_next(store, batch, &taken)) {
        rc = kv_batch_write(store, batch);

        while (rc != KV_OK && kv_batch_drop(store, batch, rc, &taken)) {
            rc = kv_batch_write(store, batch);
        }

        if (!kv_batch_end(store, batch, rc)) {
            return;
        }
    }
}


bool
kv_batch_next(kv_store_t *store, kv_batch_t *batch, kv_op_t **taken)
{
    while (*taken && (*taken)->code == KV_OP_RESERVE) {
        batch->op[0] = *taken;
        *taken = (*taken)->follow;

        kv_batch_give_memory(store, batch);
    }

    if (*taken == NULL) {
        return false;
    }

    if (kv_store_grow_wal(store) != KV_OK) {
        kv_batch_refuse_all(store, batch, *taken);
        *taken = NULL;
        return false;
    }

    *taken = kv_batch_build(store, batch, *taken);

    if (kv_heap_broken(store->zone->heap)) {

        /* the workers answer what is left of the list when they reset */

        kv_state_break(store, "a worker died while it changed the heap");
        return false;
    }

    kv_batch_report_refused(store, batch);

    return true;
}


bool
kv_batch_end(kv_store_t *store, kv_batch_t *batch, kv_rc_t rc)
{
    if (rc == KV_OK && batch->n
        && !kv_batch_apply(store, batch->op, batch->n))
    {
        kv_state_break(store, "the heap broke while a batch was applied");
        return false;
    }

    kv_clock_end(store->zone);

    kv_batch_report(store, batch, batch->op, batch->n, rc);
    kv_batch_report(store, batch, batch->group, batch->ngroups, rc);
    kv_batch_report_undone(store, batch, rc);
    kv_batch_wake(store, batch);

    kv_failpoint(KV_FAILPOINT_REPORTED);

    return kv_batch_clean_up(store);
}


/* A request for memory: batch->op[0]. */

static void
kv_batch_give_memory(kv_store_t *store, kv_batch_t *batch)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_set_relaxed(zone->stats.reserves,
                   kv_get_relaxed(zone->stats.reserves) + 1);

    rc = kv_reserve(store, batch->op[0], &batch->reserve_ns);

    if (rc == KV_NO_MEMORY && kv_timeout_expire(zone) == KV_TIMEOUT_NOW) {

        /* what has expired is deleted behind this round */

        atomic_store(&zone->full_need, 0);
        rc = KV_AGAIN;
    }

    kv_batch_report(store, batch, batch->op, 1, rc);
    kv_batch_wake(store, batch);
}


bool
kv_batch_clean_up(kv_store_t *store)
{
    if (!kv_batch_reclaim(store)) {
        return false;
    }

    if (store->conf.npeers == 0) {
        kv_batch_request(store);
    }

    return true;
}


/* Refuses the taken list: there is no memory to write it from. */

static void
kv_batch_refuse_all(kv_store_t *store, kv_batch_t *batch, kv_op_t *taken)
{
    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\": out of memory for a "
                 "batch: writes are refused, later ones try again",
                 store->conf.name);

    while (taken) {
        batch->op[0] = taken;
        taken = taken->follow;

        kv_batch_report(store, batch, batch->op, 1, KV_REFUSED);
    }

    kv_batch_wake(store, batch);
}


/* Fills a batch from the taken list; returns the rest of the list. */

static kv_op_t *
kv_batch_build(kv_store_t *store, kv_batch_t *batch, kv_op_t *taken)
{
    kv_op_t             *op, *follow;
    uint64_t             now;
    unsigned             n;
    kv_batch_reserve_t   reserved;

    batch->n = 0;
    batch->ngroups = 0;
    batch->nrefused = 0;
    batch->nundone = 0;
    batch->not_cleared = NULL;

    now = kv_clock_begin(store->zone);
    kv_decide_begin(&batch->decide, now);
    kv_batch_reserve(store->zone, taken, &reserved);

    kv_wal_begin(store->wal);
    batch->time_ms = now;

    for (op = taken; op && reserved.ops; op = follow, reserved.ops--) {
        follow = op->follow;

        n = batch->n;
        op->result = kv_batch_decide(store, batch, op);

        if (n && (op->result == KV_NO_MEMORY || op->result == KV_AGAIN)) {

            /*
             * It leads the next batch: for a copy, what this one deletes comes
             * free first; and a group may find no space for itself.
             */

            op->follow = follow;
            break;
        }

        if (op->result != KV_OK) {
            kv_batch_pass(op, &reserved);
            batch->undone[batch->nundone++] = op;
            continue;
        }

        if (!kv_batch_admit(batch, op, &reserved)) {
            kv_group_back_out(batch, n);
            continue;
        }

        if (kv_batch_add(store, batch, op) != KV_OK) {

            /* it leads the next batch: what deciding wrote there is undone */

            op->follow = follow;
            break;
        }
    }

    return op;
}


/* As kv_decide(), or kv_group_decide(), which adds the group's members. */

static kv_rc_t
kv_batch_decide(kv_store_t *store, kv_batch_t *batch, kv_op_t *op)
{
    kv_rc_t  rc;

    if (op->code != KV_OP_GROUP) {
        return kv_decide_depends(op)
               ? kv_decide(store->zone, &batch->decide, batch->op, batch->n, op)
               : KV_OK;
    }

    rc = kv_group_decide(store, batch, op);

    /* segments may have become smaller since it was made */

    return rc == KV_AGAIN && batch->n == 0 ? KV_UNAVAILABLE : rc;
}


/* Adds what is to be done to the log.  KV_AGAIN: there is no space for it. */

static kv_rc_t
kv_batch_add(kv_store_t *store, kv_batch_t *batch, kv_op_t *op)
{
    kv_rc_t      rc;
    kv_op_t     *one;
    kv_record_t  rec;

    for (one = kv_group_first(op); one; one = kv_group_next(one)) {
        kv_batch_record(batch, one, &rec);
        rc = kv_wal_add(store->wal, &rec);

        if (rc != KV_OK) {
            assert(op->code != KV_OP_GROUP);
            return rc;
        }
    }

    if (op->code == KV_OP_GROUP) {
        batch->group[batch->ngroups++] = op;

    } else {
        batch->op[batch->n++] = op;
    }

    return KV_OK;
}


/* Reserves what the map may need while operations can still be refused. */

static void
kv_batch_reserve(kv_zone_t *zone, kv_op_t *taken, kv_batch_reserve_t *reserved)
{
    bool       clears;
    kv_op_t   *op, *one;
    unsigned   puts, before, ops, n;

    clears = false;
    before = 0;

    for (op = taken, puts = 0, ops = 0, n = 0;
         op && op->code != KV_OP_RESERVE;
         op = op->follow, ops++)
    {
        n += kv_group_count(op);

        if (n > KV_BATCH_MAX) {
            n -= kv_group_count(op);
            break;
        }

        if (op->code == KV_OP_CLEAR) {

            if (clears) {
                break;
            }

            clears = true;
            before = puts;
        }

        for (one = kv_group_first(op); one; one = kv_group_next(one)) {
            puts += kv_op_puts(one);
        }
    }

    /* a clear that finds no key needs no empty map, which may take long */

    clears = clears && (before || !kv_map_blank(&zone->map));

    kv_phase_changing(zone);
    reserved->ops = ops;
    reserved->puts = puts ? kv_sweep_reserve(zone, puts) : 0;
    reserved->puts = kv_batch_reserve_list(zone, taken, ops, reserved->puts);
    reserved->retired = kv_epoch_reserve(&zone->retired, n);
    reserved->clear = clears ? kv_sweep_clearable(zone) : KV_OK;
    kv_phase_idle(zone);
}


/* For how many of the puts, `puts` at most, the index has memory, too. */

static int
kv_batch_reserve_list(kv_zone_t *zone, kv_op_t *taken, unsigned ops, int puts)
{
    int       n;
    kv_op_t  *op, *one;

    if (!zone->list) {
        return puts;
    }

    kv_listed_reserve_begin(zone);

    for (op = taken, n = 0; ops; op = op->follow, ops--) {

        for (one = kv_group_first(op); one; one = kv_group_next(one)) {

            if (kv_op_puts(one)) {

                if (n == puts || !kv_listed_reserve(zone, one)) {
                    return n;
                }

                n++;
            }
        }
    }

    return n;
}


/* Takes an operation's part of the reserve, or adds it to the refused. */

static bool
kv_batch_admit(kv_batch_t *batch, kv_op_t *op, kv_batch_reserve_t *reserved)
{
    int       puts, n;
    kv_op_t  *one;

    if (op->code == KV_OP_CLEAR) {

        if (reserved->clear != KV_OK) {
            batch->not_cleared = op;
            return false;
        }

        return true;
    }

    puts = 0;
    n = 0;

    for (one = kv_group_first(op); one; one = kv_group_next(one)) {
        puts += kv_op_puts(one);
        n++;
    }

    if ((puts && puts > reserved->puts) || n > reserved->retired) {
        kv_batch_pass(op, reserved);
        batch->refused[batch->nrefused++] = op;
        return false;
    }

    reserved->puts -= puts;
    reserved->retired -= n;

    return true;
}


/*
 * The puts of an operation that is not done leave their part of the reserve to
 * nobody: what the index keeps for them fits keys of their size.
 */

static void
kv_batch_pass(kv_op_t *op, kv_batch_reserve_t *reserved)
{
    kv_op_t  *one;

    for (one = kv_group_first(op); one; one = kv_group_next(one)) {
        if (kv_op_puts(one) && reserved->puts > 0) {
            reserved->puts--;
        }
    }
}


/* The record of an operation; its value is in batch->iov until the next. */

static void
kv_batch_record(kv_batch_t *batch, const kv_op_t *op, kv_record_t *rec)
{
    memset(rec, 0, sizeof(kv_record_t));
    rec->op = kv_op_puts(op) ? KV_OP_PUT : (kv_op_code_t) op->code;

    if (kv_op_puts(op)) {
        rec->value_len = op->entry->value_len;
        rec->value = batch->iov;
        rec->value_n = kv_entry_iov(op->entry, batch->iov,
                                    sizeof(batch->iov) / sizeof(batch->iov[0]),
                                    0);
        rec->meta = kv_entry_meta(op->entry, &rec->meta_len);
    }

    if (op->entry) {
        rec->key = op->entry->key;
        rec->key_len = op->entry->key_len;

        /* a delete that has one is of a key that has expired: kv_expire.c */

        rec->expires = op->code == KV_OP_DELETE ? 0
                                                : kv_entry_expires(op->entry);
    }

    if (rec->expires || op->code == KV_OP_TOUCH) {
        rec->flags = KV_RECORD_EXPIRES;
    }

    if (rec->meta_len) {
        rec->flags |= KV_RECORD_META;
    }
}


/* Reports what has no place in the batch. */

static void
kv_batch_report_refused(kv_store_t *store, kv_batch_t *batch)
{
    kv_batch_report(store, batch, batch->refused, batch->nrefused,
                    KV_NO_MEMORY);
    kv_batch_report(store, batch, &batch->not_cleared,
                    batch->not_cleared != NULL, KV_UNAVAILABLE);
}


/*
 * Reports what the batch has decided not to do, each with its own result.  That
 * tells of the batch: not before it is durable, and not if it failed.
 */

static void
kv_batch_report_undone(kv_store_t *store, kv_batch_t *batch, kv_rc_t rc)
{
    unsigned   i;
    kv_op_t  **op;

    for (i = 0; i < batch->nundone; i++) {
        op = &batch->undone[i];

        kv_batch_report(store, batch, op, 1,
                        rc == KV_OK ? (kv_rc_t) (*op)->result : rc);
    }
}


/* Writes the batch.  KV_OK: it is as durable as its operations require. */

static kv_rc_t
kv_batch_write(kv_store_t *store, kv_batch_t *batch)
{
    if (batch->n == 0) {
        return KV_OK;
    }

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    kv_batch_number(batch, atomic_load(&store->zone->wal.next_lsn));
    store->zone->wal.time_ms = batch->time_ms;

    return kv_batch_log(store, batch->op, batch->n, 0);
}


void
kv_batch_number(kv_batch_t *batch, uint64_t lsn)
{
    unsigned  i;

    for (i = 0; i < batch->n; i++) {
        assert(kv_get_relaxed(batch->op[i]->state) == KV_OP_TAKEN);

        batch->op[i]->lsn = lsn + i;
    }
}


void
kv_batch_lead(kv_store_t *store)
{
    kv_rc_t   rc;
    kv_err_t  err;

    if (!kv_replicates(store) || !kv_state_writes(store->zone)) {
        return;
    }

    rc = kv_replica_begin(store, &err);

    kv_store_log_wal(store);

    if (rc != KV_OK) {
        (void) kv_batch_refused(store, rc, 0, &err);
    }
}


kv_rc_t
kv_batch_log(kv_store_t *store, kv_op_t **op, unsigned n, uint32_t within)
{
    bool        sync, replicates;
    size_t      len;
    kv_rc_t     rc;
    uint32_t    ms;
    uint64_t    lsn;
    kv_err_t    err;
    kv_zone_t  *zone;

    zone = store->zone;
    lsn = atomic_load(&zone->wal.next_lsn);
    len = kv_wal_pending(store->wal);

    assert(lsn > atomic_load(&zone->applied_lsn));

    kv_failpoint(KV_FAILPOINT_WRITE);

    replicates = kv_replicates(store);
    rc = replicates ? kv_replica_write(store, &err)
                    : kv_wal_write(store->wal, &err);

    kv_failpoint(KV_FAILPOINT_WRITTEN);

    kv_store_log_wal(store);

    if (rc != KV_OK) {
        return kv_batch_refused(store, rc, len, &err);
    }

    sync = kv_batch_must_sync(zone, op, n);
    ms = atomic_load(&zone->sync_ms);

    if (within && !sync && (ms == 0 || within < ms)) {
        atomic_store(&zone->sync_ms, within);
    }

    kv_failpoint(KV_FAILPOINT_PROMISED);

    kv_batch_written(store, lsn, len, kv_batch_count_puts(op, n) != 0);

    if (n) {
        kv_histogram_count(&zone->stats.batch, n, KV_FIGURE_FIRST_OPS);
    }

    if (sync || kv_timeout_sync(store) == KV_TIMEOUT_NOW
        || atomic_load(&zone->sync_requested)
        || atomic_load(&zone->sync_next))
    {
        rc = kv_batch_sync(store);

        if (rc == KV_OK) {
            atomic_store(&zone->sync_next, 0);
        }
    }

    if (rc == KV_OK && replicates
        && kv_replica_commit(store, &err) != KV_OK)
    {
        kv_state_no_writes(store, &err);
        rc = KV_UNAVAILABLE;
    }

    return rc;
}


/*
 * A batch lacked disk space or met an error that may pass: reports `rc` for
 * some of it.  True if operations are left for which the log has a reserve:
 * they are the batch now, and are decided again, as the others may have been
 * why one was to be done or not.  What finds no place in it is put before
 * *taken.
 */

static bool
kv_batch_drop(kv_store_t *store, kv_batch_t *batch, kv_rc_t rc,
    kv_op_t **taken)
{
    kv_op_t           *list, **end;
    unsigned           i;
    kv_batch_drop_t    drop, puts;

    /* not if it is in the log, and the sync failed */

    if (!kv_state_refuses(store->zone)
        || batch->op[0]->lsn < atomic_load(&store->zone->wal.next_lsn)
        || !kv_batch_choose(batch, &drop))
    {
        return false;
    }

    puts.size = SIZE_MAX;
    puts.keep = UINT_MAX;

    list = NULL;
    end = &list;

    for (i = 0; i < batch->n; i++) {
        if (!kv_batch_member(batch->op[i])) {
            end = kv_batch_drop_one(store, batch, batch->op[i], rc, &drop, end);
        }
    }

    for (i = 0; i < batch->ngroups; i++) {
        end = kv_batch_drop_one(store, batch, batch->group[i], rc, &drop, end);
    }

    for (i = 0; i < batch->nundone; i++) {
        end = kv_batch_drop_one(store, batch, batch->undone[i], rc, &puts, end);
    }

    *end = NULL;
    list = kv_batch_build(store, batch, list);

    kv_batch_report_refused(store, batch);

    for (end = &list; *end; end = &(*end)->follow) {
        /* void */
    }

    *end = *taken;
    *taken = list;

    return true;
}


/*
 * What is to go: the puts, and all else that frees nothing.  If there is none,
 * what is larger than half of the largest, as one large group must not take
 * single deletes with it; and if all are of about one size, the second half.
 * False: nothing would be left, or it would be the same again.
 */

static bool
kv_batch_choose(kv_batch_t *batch, kv_batch_drop_t *drop)
{
    size_t    size, least, most;
    unsigned  i, n, puts;

    drop->size = SIZE_MAX;
    drop->keep = UINT_MAX;

    puts = kv_batch_count_puts(batch->op, batch->n);

    if (puts) {
        return batch->n - puts + batch->nundone
               - kv_batch_count_puts(batch->undone, batch->nundone) > 0;
    }

    least = SIZE_MAX;
    most = 0;

    for (i = 0, n = 0; i < batch->n + batch->ngroups; i++) {

        if (i < batch->n && kv_batch_member(batch->op[i])) {
            continue;
        }

        size = kv_batch_log_size(i < batch->n ? batch->op[i]
                                              : batch->group[i - batch->n]);
        least = kv_min(least, size);
        most = kv_max(most, size);
        n++;
    }

    if (least <= most / 2) {
        drop->size = most / 2;

    } else {
        drop->keep = n / 2;
    }

    return n > 1;
}


/* About what an operation or a group that frees memory takes in the log. */

static size_t
kv_batch_log_size(kv_op_t *op)
{
    size_t  size;

    size = 0;

    for (op = kv_group_first(op); op; op = kv_group_next(op)) {
        size += sizeof(kv_record_header_t)
                + (op->entry ? op->entry->key_len : 0);
    }

    return size;
}


static inline bool
kv_batch_member(const kv_op_t *op)
{
    return op->flags & KV_OP_MEMBER;
}


static unsigned
kv_batch_count_puts(kv_op_t *const *op, unsigned n)
{
    unsigned  i, puts;

    for (i = 0, puts = 0; i < n; i++) {
        puts += !kv_batch_frees(op[i]);
    }

    return puts;
}


/* Whether it frees memory, so that the log has a reserve for it. */

static inline bool
kv_batch_frees(const kv_op_t *op)
{
    return op->code == KV_OP_CLEAR
           || ((op->code == KV_OP_DELETE || op->code == KV_OP_GROUP)
               && !(op->flags & KV_OP_MIXED));
}


/* Reports it, or adds it to the end of a list, of what is to be kept. */

static kv_op_t **
kv_batch_drop_one(kv_store_t *store, kv_batch_t *batch, kv_op_t *op,
    kv_rc_t rc, kv_batch_drop_t *drop, kv_op_t **end)
{
    if (!kv_batch_frees(op) || drop->keep == 0
        || kv_batch_log_size(op) > drop->size)
    {
        kv_batch_report(store, batch, &op, 1, rc);
        return end;
    }

    drop->keep--;

    /* it is in no log: a committer that takes over must not believe it is */

    if (op->code == KV_OP_GROUP) {
        kv_group_again(op);

    } else {
        __atomic_store_n(&op->lsn, 0, __ATOMIC_RELEASE);
    }

    *end = op;

    return &op->follow;
}


bool
kv_batch_must_sync(kv_zone_t *zone, kv_op_t **op, unsigned n)
{
    unsigned  i;
    uint32_t  ms;

    ms = atomic_load(&zone->unsynced) ? atomic_load(&zone->sync_ms) : 0;

    for (i = 0; i < n; i++) {

        if (op[i]->flags & KV_OP_SYNC) {
            return true;
        }

        if (op[i]->sync_ms && (ms == 0 || op[i]->sync_ms < ms)) {
            ms = op[i]->sync_ms;
        }
    }

    atomic_store(&zone->sync_ms, ms);

    return false;
}


/* The result for a batch of `len` bytes that could not be written. */

static kv_rc_t
kv_batch_refused(kv_store_t *store, kv_rc_t rc, size_t len,
    const kv_err_t *err)
{
    if (rc != KV_NO_SPACE && rc != KV_AGAIN) {
        kv_state_no_writes(store, err);
        return KV_UNAVAILABLE;
    }

    kv_state_refused(store, rc, len, err);

    if (rc == KV_AGAIN) {
        return KV_REFUSED;
    }

    kv_batch_request_background(store, KV_REQUEST_FREE_DISK);

    return KV_NO_SPACE;
}


/* A batch that begins with `lsn`, of `len` bytes, is in the log. */

static void
kv_batch_written(kv_store_t *store, uint64_t lsn, size_t len, bool puts)
{
    bool        extended;
    uint64_t    now;
    kv_zone_t  *zone;

    zone = store->zone;
    now = kv_now_ns();

    /* a new segment begins with a sync of the one before */

    if (atomic_load(&zone->wal.durable_lsn) + 1 == lsn) {
        atomic_store(&zone->unsynced_ns, now);
    }

    atomic_store(&zone->unsynced, 1);
    atomic_store(&zone->unmarked, 1);
    atomic_store(&zone->written_ns, now);

    extended = atomic_load(&zone->current_segment) != zone->wal.segment_lsn;
    atomic_store(&zone->current_segment, zone->wal.segment_lsn);

    /* deletes use the reserve: that they succeed says nothing of the disk */

    kv_state_wrote(store, puts ? len : 0, extended);
}


kv_rc_t
kv_batch_sync(kv_store_t *store)
{
    kv_rc_t     rc;
    uint64_t    start, now;
    kv_err_t    err;
    kv_zone_t  *zone;

    zone = store->zone;
    start = kv_now_ns();

    rc = kv_wal_sync(store->wal, &err);

    kv_failpoint(KV_FAILPOINT_SYNCED);

    if (rc == KV_OK) {
        now = kv_now_ns();

        kv_histogram_count(&zone->stats.sync, (now - start) / 1000,
                           KV_FIGURE_FIRST_US);
        atomic_store(&zone->synced_ns, now);
        atomic_store(&zone->unsynced, 0);
        atomic_store(&zone->sync_ms, 0);
        atomic_store(&zone->sync_requested, 0);

        kv_state_succeeded(zone);
        kv_state_wrote(store, 0, false);

        return KV_OK;
    }

    if (rc == KV_ERROR) {
        kv_state_no_writes(store, &err);

    } else {
        kv_state_refused(store, rc, 0, &err);
        kv_state_retry(zone);
    }

    return KV_UNAVAILABLE;
}


/* False if the heap broke: then the zone must be rebuilt. */

bool
kv_batch_apply(kv_store_t *store, kv_op_t **op, unsigned n)
{
    unsigned     i;
    uint64_t     lsn;
    kv_zone_t   *zone;
    kv_batch_t  *batch;
    kv_listed_t  listed;

    zone = store->zone;
    batch = store->batch;
    lsn = atomic_load(&zone->applied_lsn);

    kv_changes_begin(&batch->changes);
    kv_phase_changing(zone);
    kv_listed_begin(&listed, zone);

    for (i = 0; i < kv_min(n, KV_BATCH_AHEAD); i++) {
        kv_batch_fetch(zone, op[i], &batch->hash[i]);
    }

    for (i = 0; i < n; i++) {

        if (i + KV_BATCH_AHEAD < n) {
            kv_batch_fetch(zone, op[i + KV_BATCH_AHEAD],
                           &batch->hash[i + KV_BATCH_AHEAD]);
        }

        /* in the log, in its order, and not applied yet */

        assert(op[i]->lsn > lsn);
        assert(op[i]->lsn < atomic_load(&zone->wal.next_lsn));
        assert(kv_get_relaxed(op[i]->state) == KV_OP_TAKEN);

        lsn = op[i]->lsn;

        if (kv_batch_member(op[i]) && (i == 0 || !kv_batch_member(op[i - 1]))) {
            kv_group_begin(zone, op + i, n - i);
        }

        if (!kv_batch_apply_one(zone, &listed, op[i], batch->hash[i],
                                &batch->changes))
        {
            return false;
        }

        kv_failpoint(KV_FAILPOINT_APPLYING);

        if (kv_batch_member(op[i])
            && (i + 1 == n || !kv_batch_member(op[i + 1])))
        {
            kv_listed_flush(&listed);
            kv_group_end(zone);
        }

        if (i % 32 == 31) {
            kv_map_grow(&zone->map);
        }
    }

    kv_map_grow(&zone->map);
    kv_listed_flush(&listed);

    return kv_batch_applied(store, lsn);
}


bool
kv_batch_applied(kv_store_t *store, uint64_t lsn)
{
    uint64_t     from;
    kv_zone_t   *zone;
    kv_batch_t  *batch;

    zone = store->zone;

    kv_timers_set_next(&zone->timers);

    /* in this order: who knows an LSN that is applied finds it in the feed */

    from = kv_watch_publish(zone);

    kv_failpoint(KV_FAILPOINT_FED);

    atomic_store(&zone->applied_lsn, lsn);

    if (kv_replicates(store)) {
        kv_replica_applied(store);
    }

    /* a client that deletes or clears has the memory when it is answered */

    if (kv_epoch_reserve(&zone->retired, 0) != 0
        || kv_epoch_reclaim(&zone->retired) != KV_OK
        || kv_heap_broken(zone->heap))
    {
        return false;
    }

    kv_phase_idle(zone);

    kv_failpoint(KV_FAILPOINT_APPLIED);

    batch = store->batch;
    kv_await_tell(zone, &batch->changes, batch->wake);

    if (zone->feed.size) {
        kv_watch_tell(zone, from, batch->wake);
    }

    return true;
}


/* Has the processor fetch the bucket of an operation's key. */

static void
kv_batch_fetch(kv_zone_t *zone, kv_op_t *op, uint64_t *hash)
{
    if (op->entry) {
        *hash = kv_map_hash(&zone->map, op->entry->key, op->entry->key_len);
        kv_map_prefetch(&zone->map, *hash);
    }
}


static bool
kv_batch_apply_one(kv_zone_t *zone, kv_listed_t *listed, kv_op_t *op,
    uint64_t hash, kv_changes_t *changes)
{
    kv_entry_t  *old, *e;

    e = kv_op_entry(op);

    switch (op->code) {

    case KV_OP_INCR:
        op->sum = kv_counter_value(e);

        /* fall through */

    case KV_OP_PUT:
        kv_set_relaxed(zone->stats.payload,
                       kv_get_relaxed(zone->stats.payload)
                       + kv_entry_payload(e));

        kv_entry_set_lsn(e, op->lsn);

        kv_op_set_entry(op, NULL);
        kv_timers_add(&zone->timers, e);
        old = kv_map_put(&zone->map, hash, e);
        kv_listed_put(listed, e, old);
        kv_changes_add(changes, hash);
        kv_watch_feed(zone, KV_FEED_PUT, op->lsn, e);
        break;

    case KV_OP_DELETE:
        kv_watch_feed(zone, KV_FEED_DELETE, op->lsn, e);
        old = kv_map_delete(&zone->map, hash, e->key, e->key_len);

        if (old) {
            kv_listed_delete(listed, old);
            kv_changes_add(changes, hash);
        }

        if (!kv_batch_deleted(zone, op, old)) {
            return false;
        }

        break;

    case KV_OP_TOUCH:
        return kv_batch_apply_touch(zone, listed, op, hash, e);

    default:
        assert(op->code == KV_OP_CLEAR);

        kv_listed_clear(listed);
        kv_map_clear(&zone->map);
        kv_changes_add_all(changes);
        kv_watch_feed(zone, KV_FEED_CLEAR, op->lsn, NULL);
        kv_timers_reset(&zone->timers, kv_clock_passed(zone));

        return kv_sweep_now(zone);
    }

    kv_failpoint(KV_FAILPOINT_LINKED);

    if (old == NULL) {
        return true;
    }

    kv_timers_remove(&zone->timers, old);

    return kv_epoch_retire(&zone->retired, old, KV_RETIRED_ENTRY) == KV_OK;
}


/* The key's entry gets the time of `e`, or `e`, a copy of it, its place. */

static bool
kv_batch_apply_touch(kv_zone_t *zone, kv_listed_t *listed, kv_op_t *op,
    uint64_t hash, kv_entry_t *e)
{
    kv_entry_t  *old;

    old = kv_map_find(&zone->map, hash, e->key, e->key_len);

    assert(old);

    if (op->flags & KV_OP_COPIED) {
        assert(kv_entry_expiry(old) == NULL);

        kv_entry_set_lsn(e, kv_entry_lsn(old));
        kv_op_set_entry(op, NULL);
        kv_timers_add(&zone->timers, e);
        (void) kv_map_relocate(&zone->map, old, e);
        kv_listed_put(listed, e, old);

        kv_failpoint(KV_FAILPOINT_LINKED);

        return kv_epoch_retire(&zone->retired, old, KV_RETIRED_ENTRY) == KV_OK;
    }

    if (kv_entry_expiry(old)) {
        kv_timers_remove(&zone->timers, old);
        kv_entry_set_expires(old, kv_entry_expires(e));
        kv_timers_add(&zone->timers, old);
    }

    return kv_entry_destroy(zone->heap, &op->entry) == KV_OK;
}


/*
 * A delete has taken `old` out of the map, or found nothing.  If it returns the
 * value, it has a copy already (kv_decide()), or pins the value here, before
 * that is retired.
 */

static bool
kv_batch_deleted(kv_zone_t *zone, kv_op_t *op, kv_entry_t *old)
{
    if (op->flags & KV_OP_RETURN) {
        assert(old);

        if (!(old->flags & KV_ENTRY_PIECES)) {
            return true;
        }
    }

    if (kv_entry_destroy(zone->heap, &op->entry) != KV_OK) {
        return false;
    }

    if (op->flags & KV_OP_RETURN) {
        kv_epoch_pin(old);

        kv_failpoint(KV_FAILPOINT_RETURNED);

        kv_op_set_entry(op, old);
    }

    return true;
}


void
kv_batch_report(kv_store_t *store, kv_batch_t *batch, kv_op_t **op,
    unsigned n, kv_rc_t rc)
{
    unsigned    i;
    uint64_t    now;
    kv_zone_t  *zone;

    if (n == 0) {
        return;
    }

    zone = store->zone;
    now = kv_now_ns();

    for (i = 0; i < n; i++) {

        if (kv_batch_member(op[i])) {
            continue;
        }

        assert(kv_get_relaxed(op[i]->state) == KV_OP_TAKEN);

        if (op[i]->code == KV_OP_GROUP) {
            kv_group_done(op[i]);
        }

        kv_histogram_count(&zone->stats.wait,
                           (now - op[i]->queued_ns) / 1000, KV_FIGURE_FIRST_US);

        batch->wake[op[i]->worker] = 1;

        op[i]->result = rc;
        atomic_store_explicit(&op[i]->state, KV_OP_DONE, memory_order_release);

        kv_failpoint(KV_FAILPOINT_REPORTING);
    }
}


void
kv_batch_wake(kv_store_t *store, kv_batch_t *batch)
{
    unsigned  i;

    kv_failpoint(KV_FAILPOINT_WAKE);

    /* a worker that stops polling sees the results, or we wake it */

    kv_fence();

    for (i = 0; i < store->zone->nworkers; i++) {

        if (batch->wake[i]) {
            batch->wake[i] = 0;

            if (!atomic_load(&store->zone->workers[i].polling)) {
                kv_store_wake(store, i);
            }

            kv_failpoint(KV_FAILPOINT_WAKING);
        }
    }
}


/*
 * Frees what readers have left, and empties a sparse page when free pages get
 * few.  False if the zone broke.
 */

static bool
kv_batch_reclaim(kv_store_t *store)
{
    bool        few;
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_evict_over(store);

    few = kv_heap_few_pages(zone->heap, KV_COMPACT_SHARE);

    if (kv_epoch_count(&zone->retired) == 0 && zone->retired.pinned == NULL
        && !kv_zone_unswept(zone) && !few)
    {
        return true;
    }

    kv_phase_changing(zone);

    rc = kv_epoch_reclaim(&zone->retired);

    if (rc == KV_OK && kv_sweep_step(zone, KV_SWEEP_STEP) == KV_DEAD) {
        rc = KV_DEAD;
    }

    if (rc == KV_OK && few) {
        rc = kv_compact_page(zone, false);
    }

    if (rc == KV_DEAD) {
        kv_state_break(store, "a worker died while it changed the heap");
        return false;
    }

    kv_phase_idle(zone);

    return true;
}


void
kv_batch_request(kv_store_t *store)
{
    uint32_t    requests;
    uint64_t    grown, size, snapshot;
    kv_zone_t  *zone;

    zone = store->zone;
    requests = 0;

    if (zone->wal.segment_lsn != zone->spare_requested
        && zone->wal.offset > zone->wal.segment_size / 2)
    {
        zone->spare_requested = zone->wal.segment_lsn;
        requests |= KV_REQUEST_SEGMENT;
    }

    snapshot = atomic_load(&zone->snapshot);

    if (snapshot) {
        grown = atomic_load(&zone->wal.bytes)
                - atomic_load(&zone->snapshot_log_bytes);

        /* a snapshot costs its size: no more often than the log grows by it */

        size = kv_max(snapshot, atomic_load(&zone->snapshot_bytes));

        if (grown >= size) {
            requests |= KV_REQUEST_SNAPSHOT;
        }
    }

    if (kv_state_refuses(zone)) {
        requests |= KV_REQUEST_FREE_DISK;
    }

    kv_batch_request_background(store, requests);
}


/* Requests background work; our event loop, or another, posts the task. */

static void
kv_batch_request_background(kv_store_t *store, uint32_t requests)
{
    if ((requests & ~atomic_fetch_or(&store->zone->requests, requests)) == 0
        || store->worker == NULL)
    {
        return;
    }

    if (kv_store_stopping(store)) {
        kv_store_leave_work(store);

    } else if (store->hosts) {

        /* the first worker that wakes up claims it */

        kv_store_wake_all(store);

    } else {
        kv_store_wake(store, store->number);
    }
}
