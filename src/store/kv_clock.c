
/*
 * The store's time; see kv_clock.h.
 */


#include "store/kv_clock.h"


/*
 * The latest time of a wall clock that is believed, ns: in 2116.  Time itself
 * goes on after that, and the files name it; the latest that they may, ms.
 */
#define KV_CLOCK_WALL  (UINT64_MAX / 4)
#define KV_CLOCK_MAX   (UINT64_MAX / 2 / 1000000)

/* by how much the wall clock must be ahead to be noted; ns */
#define KV_CLOCK_STEP  1000000

/* in zone->passed, which is the time times two: a batch is being written */
#define KV_CLOCK_BATCH  1u


static void kv_clock_raise(kv_zone_t *zone, uint64_t ahead);
static bool kv_clock_gone(kv_zone_t *zone, uint64_t expires);


uint64_t
kv_clock_ms(kv_zone_t *zone)
{
    uint64_t  wall, now, ahead;

    /* in this order: time that passes in between makes it ahead by less */

    wall = kv_wall_ns();
    now = kv_now_ns();
    wall = kv_min(wall, KV_CLOCK_WALL);
    ahead = kv_get_relaxed(zone->ahead_ns);

    if (kv_unlikely(wall > now + ahead + KV_CLOCK_STEP)) {
        kv_clock_raise(zone, wall - now);
        ahead = atomic_load(&zone->ahead_ns);
    }

    return (now + ahead) / 1000000;
}


static void
kv_clock_raise(kv_zone_t *zone, uint64_t ahead)
{
    uint64_t  was;

    was = atomic_load(&zone->ahead_ns);

    while (was < ahead
           && !atomic_compare_exchange_weak(&zone->ahead_ns, &was, ahead))
    {
        /* void */
    }
}


void
kv_clock_reach(kv_zone_t *zone, uint64_t ms)
{
    uint64_t  now;

    now = kv_now_ns();

    ms = kv_min(ms, KV_CLOCK_MAX);

    if (ms * 1000000 > now) {
        kv_clock_raise(zone, ms * 1000000 - now);
    }
}


kv_entry_t *
kv_clock_find_again(kv_zone_t *zone, uint64_t hash, const void *key,
    size_t len, kv_entry_t *e, uint64_t *expires)
{
    uint64_t  passed;

    passed = 0;

    while (*expires > passed) {

        if (!kv_clock_gone(zone, *expires)) {
            return e;
        }

        passed = kv_clock_passed(zone);

        e = kv_map_find(&zone->map, hash, key, len);
        *expires = e ? kv_entry_expires(e) : 0;
    }

    return *expires ? NULL : e;
}


/* Whether a key that expires then is gone: that time has passed now. */

static bool
kv_clock_gone(kv_zone_t *zone, uint64_t expires)
{
    uint64_t  now, passed;

    /* alive by the clock, which is never behind what has passed */

    now = kv_clock_ms(zone);

    if (now < expires) {
        return false;
    }

    passed = atomic_load(&zone->passed);

    for ( ;; ) {

        if (passed / 2 >= expires) {
            return true;
        }

        if (passed & KV_CLOCK_BATCH) {
            return false;
        }

        if (atomic_compare_exchange_weak(&zone->passed, &passed, now * 2)) {
            return true;
        }
    }
}


uint64_t
kv_clock_passed(kv_zone_t *zone)
{
    return atomic_load(&zone->passed) / 2;
}


uint64_t
kv_clock_begin(kv_zone_t *zone)
{
    uint64_t  now, passed;

    now = kv_clock_ms(zone);
    passed = atomic_load(&zone->passed);

    do {
        now = kv_max(now, passed / 2);

    } while (!atomic_compare_exchange_weak(&zone->passed, &passed,
                                           now * 2 + KV_CLOCK_BATCH));

    return now;
}


void
kv_clock_end(kv_zone_t *zone)
{
    (void) atomic_fetch_and(&zone->passed, ~(uint64_t) KV_CLOCK_BATCH);
}
