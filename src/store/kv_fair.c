
/*
 * Memory for uploads in the order of their age; see kv_fair.h.
 */


#include "store/kv_fair.h"
#include "store/kv_store_private.h"


/* how often a worker shows the same again, nanoseconds */
#define KV_FAIR_INTERVAL  (KV_FAIR_SHOWN / 10)


static bool kv_fair_counts(const kv_worker_t *worker, uint64_t now);


void
kv_fair_show(kv_store_t *store, const kv_hungry_t *hungry, unsigned n)
{
    uint64_t      now, shown;
    unsigned      i;
    kv_worker_t  *worker;
    kv_zone_t    *zone;

    worker = store->worker;
    zone = store->zone;

    if (worker == NULL) {
        return;
    }

    if (n) {
        now = kv_now_ns();

        if (now - kv_get_relaxed(worker->hungry_ns) >= KV_FAIR_INTERVAL) {
            kv_set_relaxed(worker->hungry_ns, now);
        }
    }

    for (i = 0; i < KV_HUNGRY; i++) {
        shown = i < n ? (uint64_t) kv_began(hungry[i].began_ns) << 32
                        | hungry[i].bytes
                      : 0;

        if (kv_get_relaxed(worker->hungry[i]) != shown) {
            kv_set_relaxed(worker->hungry[i], shown);
        }
    }

    /* a worker that saw none may clear it now: then the next call sets it */

    if (n && !kv_get_relaxed(zone->hungry)) {
        kv_set_relaxed(zone->hungry, 1);
    }
}


bool
kv_fair_may_take(kv_store_t *store, uint32_t began, uint32_t bytes)
{
    bool          some;
    unsigned      i, k;
    uint64_t      now, shown, claimed;
    kv_worker_t  *worker;
    kv_zone_t    *zone;

    zone = store->zone;

    if (!kv_get_relaxed(zone->hungry)) {
        return true;
    }

    now = kv_now_ns();
    some = false;
    claimed = 0;

    for (i = 0; i < zone->nworkers; i++) {
        worker = &zone->workers[i];

        if (!kv_fair_counts(worker, now)) {
            continue;
        }

        some = true;

        for (k = 0; k < KV_HUNGRY; k++) {
            shown = kv_get_relaxed(worker->hungry[k]);

            if (shown && kv_older((uint32_t) (shown >> 32), began)) {
                claimed += (uint32_t) shown;
            }
        }
    }

    if (!some) {
        kv_set_relaxed(zone->hungry, 0);
    }

    return claimed == 0
           || kv_entry_fits(zone->heap, 0,
                            (uint32_t) kv_min(claimed + KV_PAGE_SIZE + bytes,
                                              KV_LENGTH_UNKNOWN - 1))
              == KV_OK;
}


unsigned
kv_fair_oldest(kv_zone_t *zone, uint32_t *began)
{
    unsigned   i, k, n;
    uint32_t   one;
    uint64_t   now, shown;

    if (!kv_get_relaxed(zone->hungry)) {
        return 0;
    }

    now = kv_now_ns();
    n = 0;

    for (i = 0; i < zone->nworkers; i++) {
        if (!kv_fair_counts(&zone->workers[i], now)) {
            continue;
        }

        for (k = 0; k < KV_HUNGRY; k++) {

            /* read once: its owner may clear it at any time */

            shown = kv_get_relaxed(zone->workers[i].hungry[k]);
            one = (uint32_t) (shown >> 32);

            if (shown == 0) {
                continue;
            }

            if (n == 0 || kv_older(one, *began)) {
                *began = one;
                n = 1;

            } else if (one == *began) {
                n++;
            }
        }
    }

    return n;
}


/* Whether a worker shows any, and recently. */

static bool
kv_fair_counts(const kv_worker_t *worker, uint64_t now)
{
    uint64_t  since;

    if (kv_get_relaxed(worker->hungry[0]) == 0) {
        return false;
    }

    since = kv_get_relaxed(worker->hungry_ns);

    return now < since || now - since < KV_FAIR_SHOWN;
}
