
/*
 * Whether a store has a host, and how it is woken; see kv_host.h.
 */


#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/kv_host.h"


/* bits of zone->unhosted that are a time; milliseconds */
#define KV_HOST_TIME  44


void
kv_host_wake(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    /*
     * The caller has made its work visible before, the host looks for work
     * after it has set `host_sleeps`: so one of the two sees the other.  Only
     * the host resets it: a caller may be killed before the last line.
     */

    if (atomic_load(&zone->host_sleeps)) {
        (void) atomic_fetch_add(&zone->host_futex, 1);
        (void) syscall(SYS_futex, &zone->host_futex, FUTEX_WAKE, 1, NULL, NULL,
                       0);
    }
}


bool
kv_host_lives(kv_zone_t *zone, uint32_t holder)
{
    kv_worker_t  *worker;

    worker = &zone->workers[holder - 1];

    if (!atomic_load(&worker->in_use)) {
        return false;
    }

    if (kv_worker_lock_dead(worker)) {
        kv_worker_unlock(worker);
        return false;
    }

    return true;
}


/*
 * When it was first seen that there is none is noted with the number of hosts
 * that there were before: what is left of it later says nothing.
 */

uint64_t
kv_store_unhosted(kv_store_t *store)
{
    uint32_t    holder;
    uint64_t    now, hosts, since;
    kv_zone_t  *zone;

    zone = store->zone;

    if (!store->conf.hosted) {
        return 0;
    }

    hosts = (uint64_t) atomic_load(&zone->hosts) << KV_HOST_TIME;
    holder = atomic_load(&zone->committer);

    if (holder && kv_host_lives(zone, holder)) {
        return 0;
    }

    now = kv_now_ns() / 1000000;
    now = hosts | (now & ((UINT64_C(1) << KV_HOST_TIME) - 1));
    since = atomic_load(&zone->unhosted);

    if (since >> KV_HOST_TIME != hosts >> KV_HOST_TIME || since == 0) {
        atomic_store(&zone->unhosted, now);
        since = now;
    }

    return now > since ? now - since + 1 : 1;
}
