
/*
 * The host of a store; see kv_host.h, and kv_store_host() in kv_store.h.
 */


#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "store/kv_committer.h"
#include "store/kv_host.h"
#include "store/kv_member.h"
#include "store/kv_timeout.h"


/* how often who waits for the claim looks whether its holder lives; ms */
#define KV_HOST_LOOK      100u

/* after which it says who does not give the claim up; ns */
#define KV_HOST_PATIENCE  UINT64_C(5000000000)


static void kv_host_enter(kv_store_t *store);
static bool kv_host_claim(kv_store_t *store);
static void kv_host_stand_by(kv_store_t *store, uint64_t *since);
static void kv_host_sleep(kv_store_t *store);
static bool kv_host_has_work(kv_zone_t *zone);
static void kv_host_leave(kv_store_t *store);
static void kv_host_futex_wait(_Atomic uint32_t *futex, uint32_t value,
    uint64_t ms);


void
kv_store_host(kv_store_t *store)
{
    uint64_t  since;

    store->hosts = true;
    since = 0;

    kv_host_enter(store);

    while (!store->stop) {

        if (!kv_host_claim(store)) {
            kv_host_stand_by(store, &since);
            continue;
        }

        since = 0;

        if (store->conf.npeers) {
            kv_member_run(store);
            continue;
        }

        kv_committer_run(store);

        if (!store->stop) {
            kv_host_sleep(store);
        }
    }

    if (store->worker) {
        kv_host_leave(store);
    }
}


/* Takes a place in the zone, as soon as one is free. */

static void
kv_host_enter(kv_store_t *store)
{
    bool             logged;
    struct timespec  pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_HOST_LOOK * 1000000;
    logged = false;

    while (!store->stop && kv_store_enter(store) != KV_OK) {

        if (!logged) {
            logged = true;
            kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": all %u places "
                         "are taken, by workers of older configurations: the "
                         "process that writes waits for one",
                         store->conf.name, store->zone->nworkers);
        }

        (void) nanosleep(&pause, NULL);
    }
}


/* Whether this process has the claim now. */

static bool
kv_host_claim(kv_store_t *store)
{
    uint32_t    mine;
    kv_zone_t  *zone;

    zone = store->zone;
    mine = store->number + 1;

    if (atomic_load(&zone->committer) == mine) {
        return true;
    }

    if (!kv_committer_claim(store)) {
        return false;
    }

    (void) atomic_fetch_add(&zone->hosts, 1);
    (void) atomic_compare_exchange_strong(&zone->next_host, &mine, 0);

    return true;
}


/* Waits for the claim, which another process has. */

static void
kv_host_stand_by(kv_store_t *store, uint64_t *since)
{
    uint32_t    next, holder;
    uint64_t    now;
    kv_zone_t  *zone;

    zone = store->zone;
    now = kv_now_ns();

    /* of several that wait, one must stay: see kv_store_host_needed() */

    next = atomic_load(&zone->next_host);

    if (next == 0 || !kv_host_lives(zone, next)) {
        (void) atomic_compare_exchange_strong(&zone->next_host, &next,
                                              store->number + 1);
    }

    holder = atomic_load(&zone->committer);

    if (*since == 0) {
        *since = now;

    } else if (now - *since > KV_HOST_PATIENCE && holder) {
        *since = now;
        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": process %d, of an "
                     "older configuration, does not stop writing: continue or "
                     "kill it", store->conf.name,
                     (int) atomic_load(&zone->workers[holder - 1].pid));
    }

    if (holder) {
        kv_host_futex_wait(&zone->committer, holder, KV_HOST_LOOK);
    }
}


/* Sleeps until there is work. */

static void
kv_host_sleep(kv_store_t *store)
{
    uint32_t    value;
    uint64_t    timeout;
    kv_zone_t  *zone;

    zone = store->zone;

    value = atomic_load(&zone->host_futex);
    atomic_store(&zone->host_sleeps, 1);

    timeout = kv_store_next_timeout(store);

    if (atomic_load(&zone->committer) != store->number + 1
        || atomic_load(&zone->reap))
    {
        /* no memory for a batch; a dead worker that could not be reaped */

        kv_host_futex_wait(&zone->host_futex, value,
                           kv_min(timeout, (uint64_t) KV_STORE_WATCH));

    } else if (!store->stop && !kv_host_has_work(zone)) {
        kv_host_futex_wait(&zone->host_futex, value, timeout);
    }

    atomic_store(&zone->host_sleeps, 0);
}


static bool
kv_host_has_work(kv_zone_t *zone)
{
    return kv_state_reads(zone)
           ? kv_committer_needed(zone)
           : atomic_load(&zone->state) == KV_ZONE_BROKEN
             && kv_state_may_retry(zone);
}


/* Gives the claim up, and its place. */

static void
kv_host_leave(kv_store_t *store)
{
    uint32_t    mine;
    kv_zone_t  *zone;

    zone = store->zone;
    mine = store->number + 1;

    (void) atomic_compare_exchange_strong(&zone->next_host, &mine, 0);

    kv_committer_unclaim(store);

    (void) syscall(SYS_futex, &zone->committer, FUTEX_WAKE, INT_MAX, NULL,
                   NULL, 0);

    kv_store_leave(store);
}


bool
kv_store_host_needed(kv_store_t *store, bool waited)
{
    uint32_t    mine, next, holder;
    unsigned    i;
    kv_zone_t  *zone;

    zone = store->zone;
    mine = store->number + 1;
    next = atomic_load(&zone->next_host);
    holder = atomic_load(&zone->committer);

    if (store->worker == NULL
        || (waited && holder != mine)
        || (next && next != mine && kv_host_lives(zone, next)))
    {
        return false;
    }

    for (i = 1; i <= zone->nworkers; i++) {
        if (i != mine && i != holder && kv_host_lives(zone, i)) {
            return true;
        }
    }

    return false;
}


void
kv_store_host_end(kv_store_t *store)
{
    kv_store_stop(store);
    kv_fence();
    kv_host_wake(store);
}


/* Waits as long as the word has that value, for `ms`, or KV_TIMEOUT_NEVER. */

static void
kv_host_futex_wait(_Atomic uint32_t *futex, uint32_t value, uint64_t ms)
{
    struct timespec  timeout;

    timeout.tv_sec = (time_t) (kv_min(ms, UINT32_MAX) / 1000);
    timeout.tv_nsec = (long) (kv_min(ms, UINT32_MAX) % 1000) * 1000000;

    (void) syscall(SYS_futex, futex, FUTEX_WAIT, value,
                   ms == KV_TIMEOUT_NEVER ? NULL : &timeout, NULL, 0);
}
