
/*
 * Rebuilding a zone that a death left half changed: every worker lets go of it,
 * and the committer loads it from disk as at start.
 */


#include <time.h>

#include "store/kv_await.h"
#include "store/kv_rebuild.h"
#include "base/kv_failpoint.h"
#include "store/kv_recover.h"
#include "store/kv_watch.h"


/* how long a worker may take to let go before that is logged; ns */
#define KV_QUIESCE_LOG_INTERVAL  UINT64_C(1000000000)


static bool kv_rebuild_quiesce(kv_store_t *store);


void
kv_rebuild(kv_store_t *store)
{
    kv_rc_t     rc;
    unsigned    i;
    kv_err_t    err;
    uint64_t    applied, last;
    kv_zone_t  *zone;

    zone = store->zone;

    (void) atomic_fetch_add(&zone->generation, 1);

    if (!kv_rebuild_quiesce(store)) {
        return;
    }

    /* a snapshot ends when it sees the broken state */

    if (kv_store_lock(store, &zone->background_lock) == KV_BUSY) {
        return;
    }

    for (i = 0; i < zone->nworkers; i++) {
        kv_worker_forget_ops(&zone->workers[i]);
        atomic_store(&zone->workers[i].scanned, 0);
    }

    atomic_store(&zone->queue, NULL);
    atomic_store(&zone->queued, 0);
    atomic_store(&zone->start_ns, UINT64_MAX);
    atomic_store(&zone->taken, NULL);
    atomic_store(&zone->groups, 0);
    atomic_store(&zone->reap, 1);
    kv_phase_idle(zone);

    kv_failpoint(KV_FAILPOINT_REBUILDING);

    /* kv_recover() has no message for KV_DEAD: a worker died in the heap */

    kv_err_set(&err, "a worker died meanwhile");

    applied = atomic_load(&zone->applied_lsn);

    rc = kv_recover(store, &err);

    last = atomic_load(&zone->wal.next_lsn) - 1;

    if (rc == KV_OK && last < applied) {

        /* files are gone or damaged that no other file tells of */

        kv_err_set(&err, "the log in \"%s\" ends with LSN %llu, but writes up "
                   "to %llu were acknowledged: put back what was deleted or "
                   "replaced there, and restart; a restart without it gives "
                   "them up", store->conf.path, (unsigned long long) last,
                   (unsigned long long) applied);
        rc = KV_DAMAGED;
    }

    kv_mutex_unlock(&zone->background_lock);

    kv_state_rebuilt(store, rc, &err);

    /* what waited meanwhile may have missed a change */

    kv_await_tell_all(zone);
    kv_watch_tell_all(zone);
    kv_store_wake_all(store);
}


/*
 * Waits until every living worker has answered KV_TODO_RESET.  It must wait
 * even for one that was stopped (SIGSTOP): that may be reading what is to be
 * replaced.
 */

static bool
kv_rebuild_quiesce(kv_store_t *store)
{
    bool              all, dead;
    int32_t           pid;
    unsigned          i;
    uint64_t          generation, since;
    kv_worker_t      *worker;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = store->zone;
    generation = atomic_load(&zone->generation);
    since = kv_now_ns();

    if (store->hosts) {

        /* a host has no event loop, and no records */

        store->generation = generation;
        atomic_store(&store->worker->generation, generation);
    }

    pause.tv_sec = 0;
    pause.tv_nsec = 1000000;

    for ( ;; ) {
        pid = 0;
        all = true;

        for (i = 0; i < zone->nworkers; i++) {
            worker = &zone->workers[i];

            if (!atomic_load(&worker->in_use)
                || atomic_load(&worker->generation) >= generation)
            {
                continue;
            }

            dead = kv_worker_lock_dead(worker);

            if (dead) {
                kv_worker_unlock(worker);
                continue;
            }

            kv_store_wake(store, i);
            all = false;
            pid = atomic_load(&worker->pid);

            kv_failpoint(KV_FAILPOINT_QUIESCING);
        }

        if (all) {
            return true;
        }

        if (kv_store_stopping(store)) {
            return false;
        }

        if (kv_now_ns() - since >= KV_QUIESCE_LOG_INTERVAL) {
            since = kv_now_ns();
            kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\" cannot be rebuilt "
                         "yet: process %d does not let go of it; continue or "
                         "kill it", store->conf.name, (int) pid);
        }

        (void) nanosleep(&pause, NULL);
    }
}
