
/*
 * The committer.  At any time at most one thread of one process is it: the
 * holder of the commit lock.
 *
 *
 * A round
 *
 * Takes all that is queued, oldest first (the "hand"), and works it off in
 * batches.  For each batch: give LSNs, write, sync, and only then apply to the
 * map in LSN order, and only then report.  While a batch is being synced the
 * queue fills again: the disk sets the size of the batches.
 *
 * What happens when a committer dies is told in kv_takeover.c.
 */


#include <assert.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "store/kv_commit_private.h"
#include "store/kv_compact.h"
#include "store/kv_evict.h"
#include "store/kv_fair.h"
#include "base/kv_failpoint.h"


/* free pages below one in so many: compact as a matter of course */
#define KV_COMPACT_SHARE  8

/* how long the committer waits for the next write, and what is soon; ns */
#define KV_SPIN           200000
#define KV_SPIN_SOON      1000000

/* how soon a committer that waits sees that its process is to end; ns */
#define KV_WAIT_SLICE     10000000

/*
 * Entries of a cleared map freed at a time: a millisecond, between batches;
 * and at once, so that who clears a small one finds the room when it is
 * answered.
 */
#define KV_SWEEP_STEP     4096
#define KV_SWEEP_NOW      16384

/* how long a clear waits for readers to leave what it cleared; tries, ns */
#define KV_SWEEP_TRIES    20
#define KV_SWEEP_PAUSE    20000

/* how long pages are emptied for those who were taken together; ns */
#define KV_RESERVE_NS     3000000

/* entries that are looked at for what moved away from them, at a time */
#define KV_STALE_STEP     20000


typedef struct {
    kv_retire_list_t  *retired;
    unsigned           freed;
} kv_stale_t;


static bool kv_commit_wanted(kv_zone_t *zone);
static bool kv_commit_spin(kv_zone_t *zone);
static bool kv_commit_round(kv_store_t *store, kv_batch_t *batch);
static void kv_commit_wait(kv_store_t *store);
static kv_op_t *kv_commit_take(kv_zone_t *zone);
static void kv_commit_refuse(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *hand);
static kv_op_t *kv_batch_build(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *hand);
static kv_rc_t kv_batch_write(kv_store_t *store, kv_batch_t *batch);
static bool kv_commit_without_puts(kv_store_t *store, kv_batch_t *batch,
    kv_rc_t rc);
static kv_rc_t kv_commit_refused(kv_store_t *store, kv_rc_t rc, size_t len,
    const kv_err_t *err);
static void kv_commit_written(kv_store_t *store, uint64_t lsn, size_t len,
    bool puts);
static kv_rc_t kv_commit_borrow(kv_store_t *store);
static bool kv_commit_apply_one(kv_zone_t *zone, kv_op_t *op);
static int kv_commit_set_reserved(kv_zone_t *zone, unsigned puts);
static kv_rc_t kv_commit_clearable(kv_zone_t *zone);
static bool kv_commit_sweep_now(kv_zone_t *zone);
static bool kv_commit_between(kv_store_t *store);
static kv_rc_t kv_commit_reserve(kv_store_t *store, kv_batch_t *batch,
    kv_op_t *op);
static bool kv_commit_stuck(kv_zone_t *zone, const kv_op_t *op);
static uint64_t kv_commit_can_free(kv_zone_t *zone);
static uint64_t kv_commit_can_move(kv_store_t *store);
static kv_rc_t kv_commit_free_stale(kv_store_t *store);
static kv_rc_t kv_commit_look_again(kv_store_t *store);
static void kv_commit_stale(void *data, const kv_entry_t *e);
static kv_rc_t kv_commit_compact(kv_store_t *store, kv_batch_t *batch,
    uint32_t need, bool *more, uint64_t *missing);
static bool kv_commit_reclaim(kv_store_t *store);
static void kv_commit_request(kv_store_t *store);
static void kv_commit_request_background(kv_store_t *store, uint32_t requests);
static void kv_commit_idle(kv_store_t *store);


void
kv_commit_push(kv_zone_t *zone, kv_op_t *op)
{
    kv_op_t  *head;

    atomic_store_explicit(&op->state, KV_OP_QUEUED, memory_order_release);

    kv_failpoint(KV_FAILPOINT_QUEUED);

    head = kv_get_relaxed(zone->queue);

    do {
        op->next = head;

    } while (!atomic_compare_exchange_weak(&zone->queue, &head, op));

    kv_failpoint(KV_FAILPOINT_PUSHED);

    (void) atomic_fetch_add(&zone->queued, 1);
}


/*
 * The committer says that it waits and then looks at the time; here it is the
 * other way round: so one of the two sees the other.
 */

void
kv_commit_start_by(kv_zone_t *zone, uint64_t ns)
{
    uint64_t  start;

    start = atomic_load(&zone->start_ns);

    do {
        if (ns >= start) {
            return;
        }

    } while (!atomic_compare_exchange_weak(&zone->start_ns, &start, ns));

    if (atomic_load(&zone->waits)) {
        (void) atomic_fetch_add(&zone->hurried, 1);
        (void) syscall(SYS_futex, &zone->hurried, FUTEX_WAKE, 1, NULL, NULL,
                       0);
    }
}


bool
kv_commit_claim(kv_store_t *store)
{
    bool        dead;
    uint32_t    holder, mine;
    kv_zone_t  *zone;

    zone = store->zone;
    mine = store->number + 1;
    holder = atomic_load(&zone->committer);

    if (holder == 0) {
        return atomic_compare_exchange_strong(&zone->committer, &holder,
                                              mine);
    }

    if (holder == mine) {
        return false;
    }

    dead = kv_worker_lock_dead(&zone->workers[holder - 1]);

    if (!dead) {
        return false;
    }

    kv_worker_unlock(&zone->workers[holder - 1]);
    atomic_store(&zone->reap, 1);

    return atomic_compare_exchange_strong(&zone->committer, &holder, mine);
}


void
kv_commit_unclaim(kv_store_t *store)
{
    uint32_t  mine;

    mine = store->number + 1;

    (void) atomic_compare_exchange_strong(&store->zone->committer, &mine, 0);
}


void
kv_commit_run(kv_store_t *store)
{
    bool         dead[KV_WORKERS_MAX], some, more, whole;
    kv_rc_t      rc;
    kv_err_t     err;
    uint32_t     mine, none;
    kv_zone_t   *zone;
    kv_batch_t  *batch;

    zone = store->zone;
    mine = store->number + 1;

    rc = kv_commit_lock(store, &zone->commit_lock);

    if (rc == KV_BUSY) {
        kv_commit_unclaim(store);
        return;
    }

    kv_failpoint(KV_FAILPOINT_COMMIT_LOCKED);

    if (store->batch == NULL) {
        store->batch = calloc(1, sizeof(kv_batch_t));
    }

    batch = store->batch;

    if (batch == NULL || kv_store_grow_wal(store) != KV_OK) {
        kv_err_set(&err, "out of memory for a batch; what waits is tried "
                   "again");
        kv_state_refused(store, KV_AGAIN, 0, &err);

        if (rc == KV_DEAD) {
            kv_commit_break(store, "the committer died");
        }

        kv_commit_unclaim(store);
        kv_mutex_unlock(&zone->commit_lock);
        return;
    }

    if (rc == KV_DEAD && !kv_takeover(store, batch)) {
        kv_commit_break(store, "the committer died while it changed the map");
    }

    for ( ;; ) {

        if (kv_heap_broken(zone->heap) && kv_state_reads(zone)) {
            kv_commit_break(store, "a worker died while it changed the heap");
        }

        if (atomic_load(&zone->state) == KV_ZONE_BROKEN
            && kv_store_grow_wal(store) == KV_OK
            && kv_state_retry_due(zone) && !kv_store_stopping(store))
        {
            kv_commit_rebuild(store);
        }

        whole = kv_state_whole(zone);

        if (whole) {
            do {
                some = kv_commit_lock_dead(zone, dead);
                more = kv_commit_round(store, batch);

                if (some) {
                    kv_commit_reap(store, dead);
                }

                more = kv_commit_between(store) || more;

            } while (!kv_store_stopping(store)
                     && (more || kv_commit_spin(zone)));

            kv_commit_idle(store);
        }

        /* the claim goes before the last look: whoever pushes later sees it */

        none = 0;
        atomic_store(&zone->committer, 0);

        kv_failpoint(KV_FAILPOINT_UNCLAIMED);

        if (kv_store_stopping(store)
            || !kv_state_reads(zone)
            || !kv_commit_wanted(zone)
            || !atomic_compare_exchange_strong(&zone->committer, &none, mine))
        {
            break;
        }
    }

    if (kv_store_stopping(store)
        && (atomic_load(&zone->queue) || !kv_state_reads(zone)))
    {
        /* somebody who stays is to go on */

        kv_store_wake_all(store);
    }

    kv_mutex_unlock(&zone->commit_lock);
}


kv_rc_t
kv_commit_lock(kv_store_t *store, kv_mutex_t *lock)
{
    kv_rc_t  rc;

    do {
        rc = kv_mutex_lock_for(lock, KV_STORE_WATCH);

    } while (rc == KV_BUSY && !kv_store_stopping(store));

    return rc;
}


/* Whether somebody asked for something while the claim was being given up. */

static bool
kv_commit_wanted(kv_zone_t *zone)
{
    return atomic_load(&zone->queue) || kv_heap_broken(zone->heap)
           || (atomic_load(&zone->want_sync) && kv_state_writes(zone)
               && kv_state_retry_due(zone));
}


/*
 * A client that writes one by one comes back soon after its answer, and to
 * wake a thread for it again costs about as much as this takes.  So after a
 * write that came soon after the last the committer stays for a moment,
 * yielding to whoever wants the processor; once in vain, and it goes to sleep
 * at once until writes come soon again.  Whether there is something to do.
 */

static bool
kv_commit_spin(kv_zone_t *zone)
{
    uint64_t  now, end;

    if (!kv_state_whole(zone)) {
        return false;
    }

    now = kv_now_ns();

    if (!zone->spin) {
        zone->spin = now - zone->idle_ns < KV_SPIN_SOON;
        zone->idle_ns = now;
        return false;
    }

    end = now + KV_SPIN;

    while (atomic_load_explicit(&zone->queue, memory_order_relaxed) == NULL) {

        if (kv_now_ns() >= end) {
            zone->spin = 0;
            zone->idle_ns = end;
            return false;
        }

        (void) sched_yield();
    }

    return true;
}


/* Whether there was anything to do. */

static bool
kv_commit_round(kv_store_t *store, kv_batch_t *batch)
{
    kv_op_t    *hand;
    kv_zone_t  *zone;

    zone = store->zone;

    if (atomic_load(&zone->queue) == NULL || !kv_state_whole(zone)) {
        return false;
    }

    if (atomic_load(&zone->start_ns)) {
        kv_commit_wait(store);
    }

    hand = kv_commit_take(zone);
    batch->room_ns = 0;

    kv_failpoint(KV_FAILPOINT_TAKEN);

    kv_batch_run_all(store, batch, hand);

    return true;
}


/*
 * With a delay: until nobody in the queue wants to wait any longer, or this
 * process is to end, since it may be the last that takes writes.
 */

static void
kv_commit_wait(kv_store_t *store)
{
    uint32_t          hurried;
    uint64_t          now, began, start;
    kv_zone_t        *zone;
    struct timespec   slice;

    zone = store->zone;
    began = kv_now_ns();
    slice.tv_sec = 0;

    atomic_store(&zone->waits, 1);

    for ( ;; ) {
        hurried = atomic_load(&zone->hurried);
        start = atomic_load(&zone->start_ns);

        if (start == UINT64_MAX) {

            /* pushed, and about to be said; or it died in between */

            start = began + store->conf.delay * 1000000;
        }

        now = kv_now_ns();

        if (now >= start || kv_store_stopping(store)) {
            break;
        }

        slice.tv_nsec = (long) kv_min(start - now, KV_WAIT_SLICE);

        (void) syscall(SYS_futex, &zone->hurried, FUTEX_WAIT, hurried, &slice,
                       NULL, 0);
    }

    atomic_store(&zone->waits, 0);
}


/* Takes the queue; returns the oldest, from which `follow` leads on. */

static kv_op_t *
kv_commit_take(kv_zone_t *zone)
{
    kv_op_t  *head, *oldest;

    /* before the swap, so that what is pushed later is not forgotten */

    atomic_store(&zone->queued, 0);
    atomic_store(&zone->start_ns, UINT64_MAX);

    head = atomic_load(&zone->queue);

    do {
        atomic_store(&zone->taken, head);

        kv_failpoint(KV_FAILPOINT_NAMED);

    } while (!atomic_compare_exchange_weak(&zone->queue, &head, NULL));

    kv_failpoint(KV_FAILPOINT_SWAPPED);

    kv_commit_mark_taken(zone, head, &oldest);

    return oldest;
}


void
kv_commit_mark_taken(kv_zone_t *zone, kv_op_t *head, kv_op_t **oldest)
{
    kv_op_t  *op, *follow;

    follow = NULL;

    for (op = head; op; op = op->next) {
        op->follow = follow;
        follow = op;
        atomic_store_explicit(&op->state, KV_OP_TAKEN, memory_order_release);
    }

    *oldest = follow;

    atomic_store(&zone->taken, NULL);
}


void
kv_batch_run_all(kv_store_t *store, kv_batch_t *batch, kv_op_t *hand)
{
    kv_rc_t  rc;

    while (hand) {

        if (hand->code == KV_OP_RESERVE) {
            batch->op[0] = hand;
            hand = hand->follow;

            rc = kv_commit_reserve(store, batch, batch->op[0]);
            kv_commit_report(store, batch, batch->op, 1, rc);
            kv_commit_wake(store, batch);
            continue;
        }

        if (kv_store_grow_wal(store) != KV_OK) {
            kv_commit_refuse(store, batch, hand);
            return;
        }

        hand = kv_batch_build(store, batch, hand);

        if (kv_heap_broken(store->zone->heap)) {

            /* what is in hand is answered when the workers let go of it */

            kv_commit_break(store, "a worker died while it changed the heap");
            return;
        }

        kv_commit_report(store, batch, batch->refused, batch->nrefused,
                         KV_NO_MEMORY);
        kv_commit_report(store, batch, &batch->not_cleared,
                         batch->not_cleared != NULL, KV_UNAVAILABLE);

        rc = batch->n ? kv_batch_write(store, batch) : KV_OK;

        if (rc != KV_OK && kv_commit_without_puts(store, batch, rc)) {
            rc = kv_batch_write(store, batch);
        }

        if (rc == KV_OK && batch->n
            && !kv_commit_apply(store, batch->op, batch->n))
        {
            kv_commit_break(store, "the heap broke while a batch was applied");
            return;
        }

        kv_commit_report(store, batch, batch->op, batch->n, rc);
        kv_commit_wake(store, batch);

        kv_failpoint(KV_FAILPOINT_REPORTED);

        if (!kv_commit_reclaim(store)) {
            return;
        }

        kv_commit_request(store);
    }
}


/* There is no memory to write the hand from. */

static void
kv_commit_refuse(kv_store_t *store, kv_batch_t *batch, kv_op_t *hand)
{
    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\": out of memory for a "
                 "batch: writes are refused, later ones try again",
                 store->conf.name);

    while (hand) {
        batch->op[0] = hand;
        hand = hand->follow;

        kv_commit_report(store, batch, batch->op, 1, KV_UNAVAILABLE);
    }

    kv_commit_wake(store, batch);
}


/* Fills a batch from the hand; returns what is left of the hand. */

static kv_op_t *
kv_batch_build(kv_store_t *store, kv_batch_t *batch, kv_op_t *hand)
{
    int           stock, retire;
    kv_op_t      *op;
    kv_rc_t       clear;
    unsigned      puts, clears, seen;
    kv_zone_t    *zone;
    kv_record_t   rec;

    zone = store->zone;
    batch->n = 0;
    batch->nrefused = 0;
    batch->not_cleared = NULL;

    /* what the map may need, while an operation can still be refused */

    for (op = hand, puts = 0, clears = 0, seen = 0;
         op && op->code != KV_OP_RESERVE && seen < KV_BATCH_MAX;
         op = op->follow, seen++)
    {
        if (op->code == KV_OP_CLEAR && clears++) {
            break;
        }

        puts += op->code == KV_OP_PUT;
    }

    kv_phase_changing(zone);
    stock = puts ? kv_commit_set_reserved(zone, puts) : 0;
    retire = kv_epoch_reserve(&zone->retired, seen);
    clear = clears ? kv_commit_clearable(zone) : KV_OK;
    kv_phase_idle(zone);

    kv_wal_begin(store->wal);

    for (op = hand; op && seen; op = op->follow, seen--) {

        memset(&rec, 0, sizeof(rec));
        rec.op = (kv_op_code_t) op->code;

        if ((op->code == KV_OP_PUT && stock <= 0)
            || (op->code != KV_OP_CLEAR && retire-- <= 0))
        {
            batch->refused[batch->nrefused++] = op;
            continue;
        }

        if (op->code == KV_OP_PUT) {
            rec.value_len = op->entry->value_len;
            rec.value = batch->iov;
            rec.value_n = kv_entry_iov(op->entry, batch->iov,
                                       sizeof(batch->iov)
                                       / sizeof(batch->iov[0]), 0);
            stock--;
        }

        if (op->code == KV_OP_CLEAR && clear != KV_OK) {
            batch->not_cleared = op;
            continue;
        }

        if (op->entry) {
            rec.key = op->entry->key;
            rec.key_len = op->entry->key_len;
        }

        if (kv_wal_add(store->wal, &rec) != KV_OK) {
            break;
        }

        batch->op[batch->n++] = op;
    }

    return op;
}


/*
 * What a cleared map still holds is free, all but done: a put is not refused
 * for it.
 */

static int
kv_commit_set_reserved(kv_zone_t *zone, unsigned puts)
{
    int       stock;
    unsigned  i;

    stock = 0;

    for (i = 0; i < KV_SWEEP_NOW / KV_SWEEP_STEP; i++) {
        stock = kv_map_reserve(&zone->map, puts);

        if (stock < 0 || stock == (int) puts
            || kv_map_sweep(&zone->map, KV_SWEEP_STEP) != KV_AGAIN)
        {
            break;
        }
    }

    return stock;
}


/*
 * Whether there is an empty map to take the place of the one to be cleared.  If
 * a reader stands still in one that was cleared before, there may be none, and
 * nobody waits for that.
 */

static kv_rc_t
kv_commit_clearable(kv_zone_t *zone)
{
    kv_rc_t           rc;
    unsigned          tries;
    struct timespec   pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_SWEEP_PAUSE;

    rc = kv_map_clearable(&zone->map, 1);

    for (tries = 0; rc == KV_BUSY && tries < KV_SWEEP_TRIES; tries++) {
        (void) nanosleep(&pause, NULL);
        rc = kv_map_clearable(&zone->map, 1);
    }

    return rc;
}


/* KV_OK once the batch is as durable as each of its operations wants it. */

static kv_rc_t
kv_batch_write(kv_store_t *store, kv_batch_t *batch)
{
    bool        sync, puts;
    size_t      len;
    kv_rc_t     rc;
    unsigned    i;
    uint64_t    lsn;
    kv_err_t    err;
    kv_zone_t  *zone;

    zone = store->zone;

    if (!kv_state_writes(zone)) {
        return KV_UNAVAILABLE;
    }

    lsn = atomic_load(&zone->wal.next_lsn);
    len = kv_wal_pending(store->wal);
    puts = false;

    for (i = 0; i < batch->n; i++) {
        batch->op[i]->lsn = lsn + i;
        puts = puts || batch->op[i]->code == KV_OP_PUT;
    }

    kv_failpoint(KV_FAILPOINT_WRITE);

    rc = kv_wal_write(store->wal, &err);

    kv_failpoint(KV_FAILPOINT_WRITTEN);

    if (rc != KV_OK) {
        return kv_commit_refused(store, rc, len, &err);
    }

    sync = kv_commit_promised(zone, batch->op, batch->n);

    kv_failpoint(KV_FAILPOINT_PROMISED);

    kv_commit_written(store, lsn, len, puts);

    kv_measure_count(&zone->stats.batch, batch->n);

    if (sync || kv_store_sync_due(store) == 1
        || atomic_load(&zone->want_sync))
    {
        return kv_commit_sync(store);
    }

    return KV_OK;
}


/*
 * A batch could not be written for want of something: its puts are told `rc`.
 * Whether there is something else in it, which has the log's reserve: that is
 * the batch now.
 */

static bool
kv_commit_without_puts(kv_store_t *store, kv_batch_t *batch, kv_rc_t rc)
{
    kv_op_t      *op;
    unsigned      i, n, puts;
    kv_record_t   rec;

    /* not if it is in the log, and the sync failed */

    if (!kv_state_hard(store->zone)
        || batch->op[0]->lsn < atomic_load(&store->zone->wal.next_lsn))
    {
        return false;
    }

    for (i = 0, puts = 0; i < batch->n; i++) {
        puts += batch->op[i]->code == KV_OP_PUT;
    }

    if (puts == 0 || puts == batch->n) {
        return false;
    }

    kv_wal_begin(store->wal);

    memset(&rec, 0, sizeof(rec));

    for (i = 0, n = 0; i < batch->n; i++) {
        op = batch->op[i];

        if (op->code == KV_OP_PUT) {
            kv_commit_report(store, batch, &op, 1, rc);
            continue;
        }

        rec.op = (kv_op_code_t) op->code;
        rec.key = op->entry ? op->entry->key : NULL;
        rec.key_len = op->entry ? op->entry->key_len : 0;

        (void) kv_wal_add(store->wal, &rec);

        batch->op[n++] = op;
    }

    batch->n = n;

    return true;
}


bool
kv_commit_promised(kv_zone_t *zone, kv_op_t **op, unsigned n)
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


/* The answer to those whose batch, of `len` bytes, could not be written. */

static kv_rc_t
kv_commit_refused(kv_store_t *store, kv_rc_t rc, size_t len,
    const kv_err_t *err)
{
    if (rc != KV_NO_SPACE && rc != KV_AGAIN) {
        kv_state_no_writes(store, err);
        return KV_UNAVAILABLE;
    }

    kv_state_refused(store, rc, len, err);

    if (rc == KV_AGAIN) {
        return KV_UNAVAILABLE;
    }

    kv_commit_request_background(store, KV_REQUEST_FREE_DISK);

    return KV_NO_SPACE;
}


/* A batch that begins with `lsn`, of `len` bytes, is in the log. */

static void
kv_commit_written(kv_store_t *store, uint64_t lsn, size_t len, bool puts)
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

    /* deletes have a reserve: that they go well says nothing */

    kv_state_wrote(store, puts ? len : 0, extended);
}


kv_rc_t
kv_commit_sync_now(kv_store_t *store)
{
    kv_rc_t  rc;

    rc = kv_commit_borrow(store);

    if (rc == KV_BUSY) {
        atomic_store(&store->zone->want_sync, 1);
        return KV_AGAIN;
    }

    if (rc == KV_OK) {
        rc = kv_state_writes(store->zone) ? kv_commit_sync(store)
                                          : KV_UNAVAILABLE;
        kv_mutex_unlock(&store->zone->commit_lock);
    }

    return rc;
}


bool
kv_commit_can_write(kv_store_t *store)
{
    kv_rc_t   rc;
    kv_err_t  err;

    if (kv_commit_borrow(store) != KV_OK) {
        return false;
    }

    rc = kv_wal_check(store->wal, &err);

    kv_mutex_unlock(&store->zone->commit_lock);

    return rc == KV_OK;
}


/*
 * The commit lock, for a thread that is not the committer's, if nobody holds
 * it.  KV_OK with the lock and a log; KV_BUSY or KV_UNAVAILABLE without.
 */

static kv_rc_t
kv_commit_borrow(kv_store_t *store)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    rc = kv_mutex_trylock(&zone->commit_lock);

    if (rc != KV_OK && rc != KV_DEAD) {
        return KV_BUSY;
    }

    if (rc == KV_DEAD) {

        /* there is no time here to finish what it had in hand */

        kv_commit_break(store, "the committer died");
        kv_store_wake_all(store);

    } else if (kv_store_grow_wal(store) == KV_OK) {
        return KV_OK;
    }

    kv_mutex_unlock(&zone->commit_lock);

    return KV_UNAVAILABLE;
}


kv_rc_t
kv_commit_sync(kv_store_t *store)
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

        kv_measure_count(&zone->stats.sync, (now - start) / 1000);
        atomic_store(&zone->synced_ns, now);
        atomic_store(&zone->unsynced, 0);
        atomic_store(&zone->sync_ms, 0);
        atomic_store(&zone->want_sync, 0);

        kv_state_went_well(zone);
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
kv_commit_apply(kv_store_t *store, kv_op_t **op, unsigned n)
{
    unsigned    i;
    kv_zone_t  *zone;

    zone = store->zone;
    kv_phase_changing(zone);

    for (i = 0; i < n; i++) {

        if (!kv_commit_apply_one(zone, op[i])) {
            return false;
        }

        kv_failpoint(KV_FAILPOINT_APPLYING);

        if (i % 32 == 31) {
            kv_map_grow(&zone->map);
        }
    }

    kv_map_grow(&zone->map);

    atomic_store(&zone->applied_lsn, op[n - 1]->lsn);

    /* so that who deletes or clears finds the room when it is answered */

    if (kv_epoch_reserve(&zone->retired, 0) != 0
        || kv_epoch_reclaim(&zone->retired) != KV_OK
        || kv_heap_broken(zone->heap))
    {
        return false;
    }

    kv_phase_idle(zone);

    kv_failpoint(KV_FAILPOINT_APPLIED);

    return true;
}


static bool
kv_commit_apply_one(kv_zone_t *zone, kv_op_t *op)
{
    uint64_t     hash, payload;
    kv_entry_t  *old, *e;

    e = kv_op_entry(op);

    switch (op->code) {

    case KV_OP_PUT:
        payload = e->key_len + (uint64_t) e->value_len;
        kv_set_relaxed(zone->stats.payload,
                       kv_get_relaxed(zone->stats.payload) + payload);

        hash = kv_map_hash(&zone->map, e->key, e->key_len);
        kv_op_set_entry(op, NULL);
        old = kv_map_put(&zone->map, hash, e);
        break;

    case KV_OP_DELETE:
        hash = kv_map_hash(&zone->map, e->key, e->key_len);
        old = kv_map_delete(&zone->map, hash, e->key, e->key_len);

        if (kv_entry_destroy(zone->heap, &op->entry) != KV_OK) {
            return false;
        }

        break;

    default:
        assert(op->code == KV_OP_CLEAR);

        kv_map_clear(&zone->map);

        return kv_commit_sweep_now(zone);
    }

    kv_failpoint(KV_FAILPOINT_LINKED);

    return old == NULL
           || kv_epoch_retire(&zone->retired, old, KV_RETIRED_ENTRY) == KV_OK;
}


void
kv_commit_report(kv_store_t *store, kv_batch_t *batch, kv_op_t **op,
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

        kv_measure_count(&zone->stats.wait,
                         (now - op[i]->queued_ns) / 1000);

        batch->wake[op[i]->worker] = 1;

        op[i]->result = rc;
        atomic_store_explicit(&op[i]->state, KV_OP_DONE, memory_order_release);

        kv_failpoint(KV_FAILPOINT_REPORTING);
    }
}


void
kv_commit_wake(kv_store_t *store, kv_batch_t *batch)
{
    unsigned  i;

    kv_failpoint(KV_FAILPOINT_WAKE);

    /* who stops looking sees the results, or we see that it has stopped */

    kv_fence();

    for (i = 0; i < store->zone->nworkers; i++) {

        if (batch->wake[i]) {
            batch->wake[i] = 0;

            if (!atomic_load(&store->zone->workers[i].looking)) {
                kv_store_wake(store, i);
            }

            kv_failpoint(KV_FAILPOINT_WAKING);
        }
    }
}


/*
 * A part of what a cleared map held is freed now.  Readers leave it within
 * microseconds, unless one is stopped.
 */

static bool
kv_commit_sweep_now(kv_zone_t *zone)
{
    kv_rc_t           rc;
    unsigned          tries;
    struct timespec   pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_SWEEP_PAUSE;

    rc = kv_map_sweep(&zone->map, KV_SWEEP_NOW);

    for (tries = 0; rc == KV_BUSY && tries < KV_SWEEP_TRIES; tries++) {
        (void) nanosleep(&pause, NULL);
        rc = kv_map_sweep(&zone->map, KV_SWEEP_NOW);
    }

    return rc != KV_DEAD && !kv_heap_broken(zone->heap);
}


/*
 * What is done between rounds if nobody waits for one: a cleared map is taken
 * apart.  Whether there is more of it that can be done now.
 */

static bool
kv_commit_between(kv_store_t *store)
{
    kv_rc_t           rc;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = store->zone;

    if (!kv_map_unswept(&zone->map) || !kv_state_whole(zone)) {
        return false;
    }

    if (atomic_load(&zone->queue)) {
        return true;
    }

    kv_phase_changing(zone);
    rc = kv_map_sweep(&zone->map, KV_SWEEP_STEP);

    if (rc == KV_DEAD) {
        kv_commit_break(store, "a worker died while it changed the heap");
        return false;
    }

    kv_phase_idle(zone);

    if (rc != KV_AGAIN) {
        return false;
    }

    /* who never sleeps is made to wait by the system, with the lock held */

    pause.tv_sec = 0;
    pause.tv_nsec = KV_SWEEP_PAUSE;
    (void) nanosleep(&pause, NULL);

    return true;
}


/*
 * A request for room.  Compaction has so much time for all the requests that
 * were taken together, which all have what it gains; who still wants more is to
 * come again.  What it found last holds until something was freed.
 */

static kv_rc_t
kv_commit_reserve(kv_store_t *store, kv_batch_t *batch, kv_op_t *op)
{
    bool         more, young;
    kv_rc_t      rc;
    unsigned     who;
    uint64_t     missing, own, age;
    kv_zone_t   *zone;

    zone = store->zone;
    who = KV_EVICT_UPLOADS|KV_EVICT_READERS
          |(kv_commit_stuck(zone, op) ? KV_EVICT_LARGE : 0);
    age = op->flags & KV_OP_URGENT ? KV_EVICT_URGENT : KV_EVICT_AGE;
    own = (uint64_t) op->result * KV_PAGE_SIZE;

    kv_phase_changing(zone);

    more = batch->room_ns < KV_RESERVE_NS && !kv_store_full(store, op->need);

    rc = kv_commit_compact(store, batch, op->need, &more, &missing);

    if (rc == KV_OK && missing && zone->retired.stale) {
        rc = kv_commit_free_stale(store);
    }

    if (rc == KV_UNAVAILABLE) {
        return rc;
    }

    kv_phase_idle(zone);

    if (missing == 0) {
        return KV_OK;
    }

    if (rc == KV_AGAIN) {
        return rc;
    }

    if (batch->room_ns >= KV_RESERVE_NS || more || kv_map_unswept(&zone->map)) {
        return KV_AGAIN;
    }

    /* holders are not driven away in vain */

    if (kv_commit_can_free(zone) >= missing + own
        && (kv_evict(store, who, missing, age, NULL)
            || kv_commit_can_free(zone) > own))
    {
        return KV_AGAIN;
    }

    if (kv_store_scarce(store) == 0 && kv_commit_can_move(store) >= missing
        && (kv_evict(store, who|KV_EVICT_LIVE, missing, age, &young)
            || young))
    {
        return KV_AGAIN;
    }

    atomic_store(&zone->full_used, kv_heap_used(zone->heap));
    atomic_store(&zone->full_ns, kv_now_ns());
    atomic_store(&zone->full_need, kv_max(op->need, 1u));

    return KV_NO_MEMORY;
}


/* Whether who stands for lack of memory is the one that is first to get any. */

static bool
kv_commit_stuck(kv_zone_t *zone, const kv_op_t *op)
{
    uint32_t  oldest;

    return (op->flags & KV_OP_STUCK)
           && kv_fair_oldest(zone, &oldest)
           && kv_get_relaxed(zone->workers[op->worker].hungry[0]) >> 32
              == oldest;
}


/* Bytes that come free if all who hold memory let go of it. */

static uint64_t
kv_commit_can_free(kv_zone_t *zone)
{
    return kv_heap_held(zone->heap, KV_HELD_UPLOADS)
           + kv_heap_held(zone->heap, KV_HELD_READERS);
}


/* Bytes that compaction could put together if nothing stood in its way. */

static uint64_t
kv_commit_can_move(kv_store_t *store)
{
    kv_heap_stat_t  st;

    return kv_store_heap_stat(store, &st) == KV_OK
           ? st.movable_pages * KV_PAGE_SIZE : 0;
}


/*
 * Frees what moved away from values while they were sent, where they are not
 * any more: in some part of the map.  KV_AGAIN if there may be more room now,
 * or in the next part; KV_OK or KV_UNAVAILABLE.
 */

static kv_rc_t
kv_commit_free_stale(kv_store_t *store)
{
    kv_zone_t         *zone;
    kv_retire_list_t  *retired;
    kv_stale_t         stale;

    zone = store->zone;
    retired = &zone->retired;

    if (retired->stale_from == 0) {
        retired->stale = 0;
    }

    stale.retired = retired;
    stale.freed = 0;

    if (kv_heap_lock(zone->heap) != KV_OK) {
        return KV_UNAVAILABLE;
    }

    retired->stale_from = kv_map_walk(&zone->map, retired->stale_from,
                                      KV_STALE_STEP, kv_commit_stale, &stale);
    kv_heap_unlock(zone->heap);

    /* what is before that is not counted again, but this is looked at next */

    retired->stale += retired->stale_from != 0;

    return stale.freed || retired->stale_from ? KV_AGAIN : KV_OK;
}


static void
kv_commit_stale(void *data, const kv_entry_t *e)
{
    kv_stale_t *stale = data;

    if (e->flags & KV_ENTRY_PIECES) {
        stale->freed += kv_epoch_free_stale(stale->retired, (kv_entry_t *) e);
    }
}


/*
 * Frees what readers have left, and as long as there is time and `*more` is
 * set, empties pages, until there is room for `need` bytes; says how many are
 * missing then, and whether it could go on.  KV_OK or KV_UNAVAILABLE.
 */

static kv_rc_t
kv_commit_compact(kv_store_t *store, kv_batch_t *batch, uint32_t need,
    bool *more, uint64_t *missing)
{
    bool              again;
    kv_rc_t           rc, swept;
    uint64_t          start, pages;
    kv_zone_t        *zone;
    kv_heap_stat_t    st;
    struct timespec   pause;

    zone = store->zone;
    start = kv_now_ns();
    again = kv_store_scarce(store) == 0;

    pause.tv_sec = 0;
    pause.tv_nsec = 20000;

    pages = need <= KV_ENTRY_INLINE ? 1 : kv_entry_pages_max(need);
    *missing = 0;

    for ( ;; ) {

        swept = kv_map_sweep(&zone->map, KV_SWEEP_STEP);

        if (swept == KV_DEAD
            || kv_epoch_reclaim(&zone->retired) != KV_OK
            || kv_store_heap_stat(store, &st) != KV_OK)
        {
            return KV_UNAVAILABLE;
        }

        pages += st.reserve_pages;
        *missing = st.free_pages < pages
                   ? (pages - st.free_pages) * KV_PAGE_SIZE : 0;
        pages -= st.reserve_pages;

        if (need == 0) {
            *missing = 0;
        }

        if (*missing == 0 || !*more) {
            break;
        }

        if (batch->room_ns + (kv_now_ns() - start) >= KV_RESERVE_NS) {
            break;
        }

        if (swept == KV_AGAIN) {
            continue;
        }

        rc = kv_compact_page(store, true);

        if (rc == KV_DEAD) {
            return KV_UNAVAILABLE;
        }

        if (rc == KV_DECLINED && again
            && st.movable_pages * KV_PAGE_SIZE >= *missing)
        {
            again = false;
            rc = kv_commit_look_again(store);

            if (rc != KV_OK) {
                return rc;
            }

            continue;
        }

        if (rc == KV_DECLINED && kv_epoch_count(&zone->retired) == 0) {
            *more = false;
            break;
        }

        if (rc == KV_DECLINED) {
            (void) nanosleep(&pause, NULL);
        }
    }

    batch->room_ns += kv_now_ns() - start;

    return KV_OK;
}


/* Before it is said that no page can be emptied, though much is free. */

static kv_rc_t
kv_commit_look_again(kv_store_t *store)
{
    kv_heap_t  *heap;

    heap = store->zone->heap;

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_UNAVAILABLE;
    }

    kv_heap_evac_again(heap);
    kv_heap_unlock(heap);

    return KV_OK;
}


/*
 * After each batch: what readers have left is freed, and, when free pages get
 * few, a sparse one is emptied.  False if the zone broke.
 */

static bool
kv_commit_reclaim(kv_store_t *store)
{
    kv_rc_t          rc;
    kv_zone_t       *zone;
    kv_heap_stat_t   st;

    zone = store->zone;

    kv_evict_over(store);

    if (kv_store_heap_stat(store, &st) != KV_OK) {
        return false;
    }

    if (kv_epoch_count(&zone->retired) == 0 && zone->retired.pinned == NULL
        && !kv_map_unswept(&zone->map)
        && st.free_pages * KV_PAGE_SIZE > st.size / KV_COMPACT_SHARE)
    {
        return true;
    }

    kv_phase_changing(zone);

    rc = kv_epoch_reclaim(&zone->retired);

    if (rc == KV_OK && kv_map_sweep(&zone->map, KV_SWEEP_STEP) == KV_DEAD) {
        rc = KV_DEAD;
    }

    if (rc == KV_OK
        && st.free_pages * KV_PAGE_SIZE <= st.size / KV_COMPACT_SHARE)
    {
        rc = kv_compact_page(store, false);
    }

    if (rc == KV_DEAD) {
        kv_commit_break(store, "a worker died while it changed the heap");
        return false;
    }

    kv_phase_idle(zone);

    return true;
}


/* Asks for a spare segment in time, and for snapshots. */

static void
kv_commit_request(kv_store_t *store)
{
    uint32_t    requests;
    uint64_t    grown, size, snapshot;
    kv_zone_t  *zone;

    zone = store->zone;
    requests = 0;

    if (zone->wal.segment_lsn != zone->wanted_segment
        && zone->wal.offset > zone->wal.segment_size / 2)
    {
        zone->wanted_segment = zone->wal.segment_lsn;
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

    if (kv_state_hard(zone)) {
        requests |= KV_REQUEST_FREE_DISK;
    }

    kv_commit_request_background(store, requests);
}


/* For background work, which our event loop is to post a task for. */

static void
kv_commit_request_background(kv_store_t *store, uint32_t requests)
{
    if ((requests & ~atomic_fetch_or(&store->zone->requests, requests)) == 0
        || store->worker == NULL)
    {
        return;
    }

    if (kv_store_stopping(store)) {
        kv_store_pass_on(store);

    } else {
        kv_store_wake(store, store->number);
    }
}


static void
kv_commit_idle(kv_store_t *store)
{
    kv_err_t    err;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_evict_over(store);

    if (!kv_state_writes(zone)) {
        return;
    }

    if (kv_store_sync_due(store) == 1
        || (atomic_load(&zone->want_sync) && kv_state_retry_due(zone)))
    {
        (void) kv_commit_sync(store);
    }

    if (kv_store_mark_due(store) == 1
        || (atomic_load(&zone->unmarked) && kv_store_stopping(store)))
    {
        atomic_store(&zone->unmarked, 0);

        if (kv_wal_mark(store->wal, &err) == KV_ERROR) {
            kv_state_no_writes(store, &err);
        }
    }
}
