
/*
 * When there is work that no client waits for; see kv_timeout.h.
 */


#include "store/kv_timeout.h"
#include "store/kv_clock.h"
#include "store/kv_evict.h"


/* while a committer is at work, it does this itself if it gets to it; ms */
#define KV_TIMEOUT_COMMITTER  10u


static uint64_t kv_timeout_until(uint64_t ns);


uint64_t
kv_store_next_timeout(kv_store_t *store)
{
    uint64_t    timeout, mark, expire, evict;
    kv_zone_t  *zone;

    zone = store->zone;

    if (store->conf.hosted && !store->hosts) {

        /* no write, which would wake the host, comes with an upload's bytes */

        return kv_store_over(store)
               ? kv_max(kv_timeout_evict(zone), (uint64_t) KV_TIMEOUT_COMMITTER)
               : KV_TIMEOUT_NEVER;
    }

    if (!kv_state_reads(zone)) {

        /* if the process that rebuilds it gives up, or dies, another goes on */

        return atomic_load(&zone->state) == KV_ZONE_BROKEN
               && !kv_store_stopping(store)
               ? kv_max(kv_timeout_until(kv_state_retry_ns(zone)),
                        (uint64_t) KV_STORE_WATCH)
               : KV_TIMEOUT_NEVER;
    }

    timeout = kv_timeout_sync(store);
    mark = kv_timeout_mark(store);
    timeout = kv_min(timeout, mark);
    expire = kv_timeout_expire(zone);
    timeout = kv_min(timeout, expire);

    if (kv_zone_unswept(zone)) {

        /* the committer that swept a cleared map could not go on, or died */

        timeout = kv_min(timeout, (uint64_t) KV_STORE_WATCH);
    }

    if (kv_store_over(store)) {
        evict = kv_timeout_evict(zone);
        timeout = kv_min(timeout, evict);
    }

    return atomic_load(&zone->committer) && !store->hosts
           ? kv_max(timeout, (uint64_t) KV_TIMEOUT_COMMITTER)
           : timeout;
}


uint64_t
kv_timeout_sync(kv_store_t *store)
{
    uint32_t    ms;
    uint64_t    ns;
    kv_zone_t  *zone;

    zone = store->zone;

    ms = atomic_load(&zone->sync_ms);

    if (ms == 0 || !atomic_load(&zone->unsynced) || !kv_state_writes(zone)) {
        return KV_TIMEOUT_NEVER;
    }

    ns = atomic_load(&zone->synced_ns) + (uint64_t) ms * 1000000;

    return kv_timeout_until(kv_max(ns, kv_state_retry_ns(zone)));
}


uint64_t
kv_timeout_mark(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (!atomic_load(&zone->unmarked) || !kv_state_writes(zone)) {
        return KV_TIMEOUT_NEVER;
    }

    return kv_timeout_until(atomic_load(&zone->written_ns)
                          + KV_STORE_QUIET * 1000000);
}


uint64_t
kv_timeout_expire(kv_zone_t *zone)
{
    uint64_t  now, next;

    next = kv_get_relaxed(zone->timers.next);

    if (next == KV_TIMERS_NEVER || !kv_state_whole(zone)
        || !kv_state_writes(zone) || kv_state_refuses(zone))
    {
        return KV_TIMEOUT_NEVER;
    }

    now = kv_clock_ms(zone);

    return next > now ? kv_max(next - now, KV_TIMEOUT_NOW + 1)
                      : KV_TIMEOUT_NOW;
}


uint64_t
kv_timeout_evict(kv_zone_t *zone)
{
    return kv_timeout_until(atomic_load(&zone->evicted_ns)
                            + KV_EVICT_INTERVAL);
}


/* Milliseconds until then. */

static uint64_t
kv_timeout_until(uint64_t ns)
{
    uint64_t  now;

    now = kv_now_ns();

    return ns > now ? (ns - now) / 1000000 + 1 : KV_TIMEOUT_NOW;
}


void
kv_store_leave_work(kv_store_t *store)
{
    if (atomic_load(&store->zone->requests)
        || kv_store_next_timeout(store) != KV_TIMEOUT_NEVER)
    {
        kv_store_wake_all(store);
    }
}
