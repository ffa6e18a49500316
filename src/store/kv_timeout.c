
/*
 * When there is work that nobody waits for; see kv_timeout.h.
 */


#include "store/kv_timeout.h"
#include "store/kv_evict.h"


/* when to look again whether another's committer has come to it; ms */
#define KV_TIMEOUT_COMMITTER  10u


static uint64_t kv_timeout_until(uint64_t due);


uint64_t
kv_store_next_timeout(kv_store_t *store)
{
    uint64_t    sync, mark, due, evict;
    kv_zone_t  *zone;

    zone = store->zone;

    if (!kv_state_reads(zone)) {

        /* if whoever rebuilds it gives up, or dies, another goes on */

        return atomic_load(&zone->state) == KV_ZONE_BROKEN
               && !kv_store_stopping(store)
               ? kv_max(kv_timeout_until(kv_state_retry_ns(zone)),
                        (uint64_t) KV_STORE_WATCH)
               : 0;
    }

    sync = kv_timeout_sync(store);
    mark = kv_timeout_mark(store);

    due = sync == 0 || mark == 0 ? sync + mark : kv_min(sync, mark);

    if (kv_map_unswept(&zone->map)) {

        /* whoever took the cleared map apart could not go on, or died */

        due = due ? kv_min(due, (uint64_t) KV_STORE_WATCH) : KV_STORE_WATCH;
    }

    if (kv_store_over(store)) {
        evict = kv_timeout_until(atomic_load(&zone->evicted_ns)
                               + KV_EVICT_INTERVAL);
        due = due ? kv_min(due, evict) : evict;
    }

    /* a committer at work looks after it when it comes to that */

    return due && atomic_load(&zone->committer)
           ? kv_max(due, KV_TIMEOUT_COMMITTER)
           : due;
}


uint64_t
kv_timeout_sync(kv_store_t *store)
{
    uint32_t    ms;
    uint64_t    due;
    kv_zone_t  *zone;

    zone = store->zone;

    ms = atomic_load(&zone->sync_ms);

    if (ms == 0 || !atomic_load(&zone->unsynced) || !kv_state_writes(zone)) {
        return 0;
    }

    due = atomic_load(&zone->synced_ns) + (uint64_t) ms * 1000000;

    return kv_timeout_until(kv_max(due, kv_state_retry_ns(zone)));
}


uint64_t
kv_timeout_mark(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (!atomic_load(&zone->unmarked) || !kv_state_writes(zone)) {
        return 0;
    }

    return kv_timeout_until(atomic_load(&zone->written_ns)
                          + KV_STORE_QUIET * 1000000);
}


/* Milliseconds until then, at least 1: now. */

static uint64_t
kv_timeout_until(uint64_t due)
{
    uint64_t  now;

    now = kv_now_ns();

    return due > now ? (due - now) / 1000000 + 1 : 1;
}


void
kv_store_pass_on(kv_store_t *store)
{
    if (atomic_load(&store->zone->requests) || kv_store_next_timeout(store)) {
        kv_store_wake_all(store);
    }
}
