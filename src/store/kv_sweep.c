
/*
 * Freeing what cleared maps held; see kv_sweep.h.
 */


#include <time.h>

#include "store/kv_sweep.h"
#include "store/kv_handle.h"


/* and before it, to have an empty map for it */
#define KV_SWEEP_BEFORE   4096

/* how long a clear waits for readers to leave what it cleared; tries, ns */
#define KV_SWEEP_TRIES    20
#define KV_SWEEP_PAUSE    20000


kv_rc_t
kv_sweep_step(kv_zone_t *zone, unsigned n)
{
    kv_rc_t  map, index;

    map = kv_map_sweep(&zone->map, n);

    if (map == KV_DEAD) {
        return KV_DEAD;
    }

    index = kv_index_sweep(&zone->index, n);

    if (index == KV_DEAD) {
        return KV_DEAD;
    }

    if (map == KV_AGAIN || index == KV_AGAIN) {
        return KV_AGAIN;
    }

    return map == KV_OK ? index : map;
}


int
kv_sweep_reserve(kv_zone_t *zone, unsigned puts)
{
    int       reserved;
    unsigned  i;

    reserved = 0;

    for (i = 0; i < KV_SWEEP_NOW / KV_SWEEP_STEP; i++) {
        reserved = kv_map_reserve(&zone->map, puts);

        if (reserved < 0 || reserved == (int) puts
            || kv_sweep_step(zone, KV_SWEEP_STEP) != KV_AGAIN)
        {
            break;
        }
    }

    return reserved;
}


kv_rc_t
kv_sweep_clearable(kv_zone_t *zone)
{
    kv_rc_t           rc;
    unsigned          tries;
    struct timespec   pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_SWEEP_PAUSE;

    rc = kv_map_clearable(&zone->map, 1, KV_SWEEP_BEFORE);

    for (tries = 0; rc == KV_BUSY && tries < KV_SWEEP_TRIES; tries++) {
        (void) nanosleep(&pause, NULL);
        rc = kv_map_clearable(&zone->map, 1, KV_SWEEP_BEFORE);
    }

    return rc;
}


bool
kv_sweep_now(kv_zone_t *zone)
{
    kv_rc_t           rc;
    unsigned          tries;
    struct timespec   pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_SWEEP_PAUSE;

    rc = kv_sweep_step(zone, KV_SWEEP_NOW);

    for (tries = 0; rc == KV_BUSY && tries < KV_SWEEP_TRIES; tries++) {
        (void) nanosleep(&pause, NULL);
        rc = kv_sweep_step(zone, KV_SWEEP_NOW);
    }

    return rc != KV_DEAD && !kv_heap_broken(zone->heap);
}


bool
kv_sweep_between(kv_store_t *store)
{
    kv_rc_t           rc;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = store->zone;

    if (!kv_zone_unswept(zone) || !kv_state_whole(zone)) {
        return false;
    }

    if (atomic_load(&zone->queue)) {
        return true;
    }

    kv_phase_changing(zone);
    rc = kv_sweep_step(zone, KV_SWEEP_STEP);

    if (rc == KV_DEAD) {
        kv_state_break(store, "a worker died while it changed the heap");
        return false;
    }

    kv_phase_idle(zone);

    if (rc != KV_AGAIN) {
        return false;
    }

    /* a thread that never sleeps would be preempted with the lock held */

    pause.tv_sec = 0;
    pause.tv_nsec = KV_SWEEP_PAUSE;
    (void) nanosleep(&pause, NULL);

    return true;
}
