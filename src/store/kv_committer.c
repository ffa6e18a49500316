
/*
 * The committer; see kv_committer.h.  At any time at most one thread of one
 * process is the committer: the holder of the commit lock.
 *
 * A round takes all that is queued, oldest first, and commits it in batches
 * (kv_batch.c).  While a batch is being synced the queue fills again: the disk
 * sets the size of the batches.
 *
 * kv_takeover.c says what happens when a committer dies.
 */


#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "store/kv_committer.h"
#include "store/kv_batch.h"
#include "store/kv_clock.h"
#include "store/kv_evict.h"
#include "store/kv_expire.h"
#include "store/kv_host.h"
#include "store/kv_queue.h"
#include "store/kv_reap.h"
#include "store/kv_rebuild.h"
#include "store/kv_sweep.h"
#include "store/kv_takeover.h"
#include "store/kv_timeout.h"
#include "base/kv_failpoint.h"


/* how long the committer spins for a write, and what counts as soon; ns */
#define KV_SPIN           200000
#define KV_SPIN_SOON      1000000

/* how often a committer that waits checks whether its process ends; ns */
#define KV_WAIT_SLICE     10000000


static bool kv_committer_begin(kv_store_t *store, bool died);
static void kv_committer_work(kv_store_t *store);
static bool kv_committer_claim_again(kv_store_t *store);
static bool kv_committer_spin(kv_zone_t *zone);
static bool kv_committer_round(kv_store_t *store, kv_batch_t *batch);
static void kv_committer_wait(kv_store_t *store);
static void kv_committer_idle(kv_store_t *store);
static kv_rc_t kv_committer_borrow(kv_store_t *store);


bool
kv_committer_claim(kv_store_t *store)
{
    uint32_t      holder, mine;
    kv_zone_t    *zone;
    kv_worker_t  *worker;

    if (store->conf.hosted && !store->hosts) {
        kv_host_wake(store);
        return false;
    }

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

    worker = &zone->workers[holder - 1];

    if (kv_worker_lock_dead(worker)) {
        kv_worker_unlock(worker);
        atomic_store(&zone->reap, 1);

    } else if (atomic_load(&worker->in_use)) {
        return false;
    }

    /*
     * Or it has been reaped: of a process that is killed the main thread may
     * end first, and another worker take the claim, before its committer has
     * given the claim up, or taken it again.
     */

    return atomic_compare_exchange_strong(&zone->committer, &holder, mine);
}


void
kv_committer_unclaim(kv_store_t *store)
{
    uint32_t  mine;

    mine = store->number + 1;

    (void) atomic_compare_exchange_strong(&store->zone->committer, &mine, 0);
}


void
kv_committer_run(kv_store_t *store)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    rc = kv_store_lock(store, &zone->commit_lock);

    if (rc == KV_BUSY) {
        kv_committer_unclaim(store);
        return;
    }

    kv_failpoint(KV_FAILPOINT_COMMIT_LOCKED);

    if (kv_committer_begin(store, rc == KV_DEAD)) {

        do {
            kv_committer_work(store);

        } while (kv_committer_claim_again(store));

        if (kv_store_stopping(store)
            && (atomic_load(&zone->queue) || !kv_state_reads(zone)))
        {
            /* a worker that does not end takes over */

            kv_store_wake_all(store);
        }
    }

    kv_mutex_unlock(&zone->commit_lock);
}


/*
 * Makes the buffers, and takes over from a committer that died.  False, with
 * the claim given up, if there is no memory for the buffers.
 */

static bool
kv_committer_begin(kv_store_t *store, bool died)
{
    kv_err_t  err;

    if (store->batch == NULL) {
        store->batch = calloc(1, sizeof(kv_batch_t));
    }

    if (store->batch == NULL || kv_store_grow_wal(store) != KV_OK) {
        kv_err_set(&err, "out of memory for a batch; what waits is tried "
                   "again");
        kv_state_refused(store, KV_AGAIN, 0, &err);

        if (died) {
            kv_state_break(store, "the committer died");
        }

        kv_committer_unclaim(store);
        return false;
    }

    if (died && !kv_takeover(store, store->batch)) {
        kv_state_break(store, "the committer died while it changed the map");
    }

    if (died) {

        /* of the batch that the dead one was writing */

        kv_clock_end(store->zone);
    }

    return true;
}


/* Rebuilds the zone if it is broken, and commits all that is queued. */

static void
kv_committer_work(kv_store_t *store)
{
    bool        dead[KV_WORKERS_MAX], some, more;
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_heap_broken(zone->heap) && kv_state_reads(zone)) {
        kv_state_break(store, "a worker died while it changed the heap");
    }

    if (atomic_load(&zone->state) == KV_ZONE_BROKEN
        && kv_store_grow_wal(store) == KV_OK
        && kv_state_may_retry(zone) && !kv_store_stopping(store))
    {
        kv_rebuild(store);
    }

    if (!kv_state_whole(zone)) {
        return;
    }

    if (store->hosts) {
        kv_batch_lead(store);
    }

    do {
        some = kv_reap_lock_dead(zone, dead);
        more = kv_committer_round(store, store->batch);

        if (some) {
            kv_reap(store, dead);
        }

        more = kv_sweep_between(store) || more;
        more = kv_expire_between(store, store->batch) || more;

    } while (!kv_store_stopping(store) && (more || kv_committer_spin(zone)));

    kv_committer_idle(store);
}


/*
 * Gives the claim up, and takes it again if there is work.  The claim is given
 * up before the last check of the queue: a worker that pushes later finds it
 * free.  A host keeps the claim, and looks for work itself.
 */

static bool
kv_committer_claim_again(kv_store_t *store)
{
    uint32_t    none;
    kv_zone_t  *zone;

    if (store->hosts) {
        return false;
    }

    zone = store->zone;
    none = 0;

    atomic_store(&zone->committer, 0);

    kv_failpoint(KV_FAILPOINT_UNCLAIMED);

    return !kv_store_stopping(store)
           && kv_state_reads(zone)
           && kv_committer_needed(zone)
           && atomic_compare_exchange_strong(&zone->committer, &none,
                                             store->number + 1);
}


bool
kv_committer_needed(kv_zone_t *zone)
{
    return atomic_load(&zone->queue) || kv_heap_broken(zone->heap)
           || (atomic_load(&zone->sync_requested) && kv_state_writes(zone)
               && kv_state_may_retry(zone));
}


/*
 * A client that writes one by one comes back soon after its answer, and to wake
 * a thread for it again costs about as much as this takes.  So after a write
 * that came soon after the last the committer spins for a moment, yielding the
 * processor.  If none comes in that time, it does not spin again until writes
 * come soon again.  Whether there is something to do.
 */

static bool
kv_committer_spin(kv_zone_t *zone)
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


/* Commits what is queued; whether there was anything. */

static bool
kv_committer_round(kv_store_t *store, kv_batch_t *batch)
{
    kv_op_t    *taken;
    kv_zone_t  *zone;

    zone = store->zone;

    if (atomic_load(&zone->queue) == NULL || !kv_state_whole(zone)) {
        return false;
    }

    if (atomic_load(&zone->start_ns)) {
        kv_committer_wait(store);
    }

    taken = kv_queue_take(zone);
    batch->reserve_ns = 0;

    kv_failpoint(KV_FAILPOINT_TAKEN);

    kv_batch_run_all(store, batch, taken);

    return true;
}


/*
 * With a delay: waits until an operation in the queue is due, or this process
 * ends, since it may be the last that takes writes.
 */

static void
kv_committer_wait(kv_store_t *store)
{
    uint32_t          changes;
    uint64_t          now, began, start;
    kv_zone_t        *zone;
    struct timespec   slice;

    zone = store->zone;
    began = kv_now_ns();
    slice.tv_sec = 0;

    atomic_store(&zone->waits, 1);

    for ( ;; ) {
        changes = atomic_load(&zone->start_futex);
        start = atomic_load(&zone->start_ns);

        if (start == UINT64_MAX) {

            /* pushed, but its worker has not set the time yet, or died */

            start = began + store->conf.delay * 1000000;
        }

        now = kv_now_ns();

        if (now >= start || kv_store_stopping(store)) {
            break;
        }

        slice.tv_nsec = (long) kv_min(start - now, KV_WAIT_SLICE);

        (void) syscall(SYS_futex, &zone->start_futex, FUTEX_WAIT, changes,
                       &slice, NULL, 0);
    }

    atomic_store(&zone->waits, 0);
}


/* The work of a committer whose queue is empty: evictions, sync, mark. */

static void
kv_committer_idle(kv_store_t *store)
{
    kv_err_t    err;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_evict_over(store);

    if (!kv_state_writes(zone)) {
        return;
    }

    if (kv_timeout_sync(store) == KV_TIMEOUT_NOW
        || (atomic_load(&zone->sync_requested) && kv_state_may_retry(zone)))
    {
        (void) kv_batch_sync(store);
    }

    if (kv_timeout_mark(store) == KV_TIMEOUT_NOW
        || (atomic_load(&zone->unmarked) && kv_store_stopping(store)))
    {
        atomic_store(&zone->unmarked, 0);
        zone->wal.time_ms = kv_clock_ms(zone);

        if (kv_wal_mark(store->wal, &err) == KV_ERROR) {
            kv_state_no_writes(store, &err);
        }
    }
}


kv_rc_t
kv_committer_sync_now(kv_store_t *store)
{
    kv_rc_t  rc;

    rc = kv_committer_borrow(store);

    if (rc == KV_BUSY) {
        atomic_store(&store->zone->sync_requested, 1);

        if (store->conf.hosted) {
            kv_host_wake(store);
        }

        return KV_AGAIN;
    }

    if (rc == KV_OK) {
        rc = kv_state_writes(store->zone) ? kv_batch_sync(store)
                                          : KV_UNAVAILABLE;
        kv_mutex_unlock(&store->zone->commit_lock);
    }

    return rc;
}


bool
kv_committer_can_write(kv_store_t *store)
{
    kv_rc_t   rc;
    kv_err_t  err;

    if (kv_committer_borrow(store) != KV_OK) {
        return false;
    }

    rc = kv_wal_check(store->wal, &err);

    kv_mutex_unlock(&store->zone->commit_lock);

    return rc == KV_OK;
}


/*
 * Locks the commit lock, if it is free, for a thread that is not the
 * committer's.  KV_OK with the lock and a log; KV_BUSY or KV_UNAVAILABLE
 * without.
 */

static kv_rc_t
kv_committer_borrow(kv_store_t *store)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    rc = kv_mutex_trylock(&zone->commit_lock);

    if (rc != KV_OK && rc != KV_DEAD) {
        return KV_BUSY;
    }

    if (rc == KV_DEAD) {

        /* not here: to finish what the dead committer had taken takes long */

        kv_state_break(store, "the committer died");
        kv_store_wake_all(store);

    } else if (kv_store_grow_wal(store) == KV_OK) {
        return KV_OK;
    }

    kv_mutex_unlock(&zone->commit_lock);

    return KV_UNAVAILABLE;
}
