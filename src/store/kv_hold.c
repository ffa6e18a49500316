
/*
 * Holds; see kv_hold.h.
 *
 * A hold that is free has zeroes.  So one of which only the owner is stored,
 * and a kill comes, or another process looks, holds everything, and `until` is
 * not set yet.
 */


#include "store/kv_hold.h"


/* the LSN of one that was taken away: above all of them */
#define KV_HOLD_OVER  UINT64_MAX


static void kv_hold_clear(kv_hold_t *h);


_Static_assert(KV_HOLDS == KV_STORE_BACKUPS, "each backup has a hold");


kv_rc_t
kv_hold_take(kv_store_t *store, uint64_t bytes, unsigned *hold)
{
    unsigned    i;
    uint32_t    none;
    kv_hold_t  *h;
    kv_zone_t  *zone;

    zone = store->zone;

    for (i = 0; i < KV_HOLDS; i++) {
        h = &zone->hold[i];
        none = 0;

        if (atomic_compare_exchange_strong(&h->holder, &none,
                                           store->number + 1))
        {
            /* it may have been taken away while its owner gave it back */

            atomic_store(&h->lsn, 0);
            atomic_store(&h->until, atomic_load(&zone->wal.bytes) + bytes);
            *hold = i;

            return KV_OK;
        }
    }

    return KV_BUSY;
}


void
kv_hold_give(kv_store_t *store, unsigned hold)
{
    kv_hold_clear(&store->zone->hold[hold]);
}


static void
kv_hold_clear(kv_hold_t *h)
{
    atomic_store(&h->until, 0);
    atomic_store(&h->lsn, 0);
    atomic_store(&h->holder, 0);
}


bool
kv_hold_set(kv_store_t *store, unsigned hold, uint64_t lsn)
{
    uint64_t    now;
    kv_hold_t  *h;

    h = &store->zone->hold[hold];
    now = atomic_load(&h->lsn);

    /* only its owner raises it: if it changes, it was taken away */

    return now != KV_HOLD_OVER
           && (lsn <= now
               || atomic_compare_exchange_strong(&h->lsn, &now, lsn));
}


void
kv_hold_leave(kv_zone_t *zone, unsigned worker)
{
    unsigned  i;

    for (i = 0; i < KV_HOLDS; i++) {
        if (atomic_load(&zone->hold[i].holder) == worker + 1) {
            kv_hold_clear(&zone->hold[i]);
        }
    }
}


uint64_t
kv_hold_least(kv_zone_t *zone, bool all)
{
    unsigned    i;
    uint64_t    lsn, until, least;
    kv_hold_t  *h;

    least = UINT64_MAX;

    for (i = 0; i < KV_HOLDS; i++) {
        h = &zone->hold[i];

        if (atomic_load(&h->holder) == 0) {
            continue;
        }

        until = atomic_load(&h->until);
        lsn = atomic_load(&h->lsn);

        while (lsn != KV_HOLD_OVER
               && (all || (until && atomic_load(&zone->wal.bytes) >= until))
               && !atomic_compare_exchange_strong(&h->lsn, &lsn, KV_HOLD_OVER))
        {
            /* its owner has just raised it */
        }

        if (lsn == KV_HOLD_OVER || atomic_load(&h->lsn) == KV_HOLD_OVER) {
            continue;
        }

        least = kv_min(least, lsn);
    }

    return least;
}


unsigned
kv_hold_count(kv_zone_t *zone)
{
    unsigned  i, n;

    n = 0;

    for (i = 0; i < KV_HOLDS; i++) {
        n += atomic_load(&zone->hold[i].holder) != 0;
    }

    return n;
}
