
/*
 * Freeing what cleared maps held; see kv_sweep.h.
 */


#include <time.h>

#include "store/kv_sweep.h"
#include "store/kv_handle.h"


/* entries freed with the clear, so that a small map is free at once */
#define KV_SWEEP_NOW      8192

/* and before it, to have an empty map for it */
#define KV_SWEEP_BEFORE   4096

/* how long a clear waits for readers to leave what it cleared; tries, ns */
#define KV_SWEEP_TRIES    20
#define KV_SWEEP_PAUSE    20000


int
kv_sweep_reserve(kv_zone_t *zone, unsigned puts)
{
    int       reserved;
    unsigned  i;

    reserved = 0;

    for (i = 0; i < KV_SWEEP_NOW / KV_SWEEP_STEP; i++) {
        reserved = kv_map_reserve(&zone->map, puts);

        if (reserved < 0 || reserved == (int) puts
            || kv_map_sweep(&zone->map, KV_SWEEP_STEP) != KV_AGAIN)
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

    rc = kv_map_sweep(&zone->map, KV_SWEEP_NOW);

    for (tries = 0; rc == KV_BUSY && tries < KV_SWEEP_TRIES; tries++) {
        (void) nanosleep(&pause, NULL);
        rc = kv_map_sweep(&zone->map, KV_SWEEP_NOW);
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

    if (!kv_map_unswept(&zone->map) || !kv_state_whole(zone)) {
        return false;
    }

    if (atomic_load(&zone->queue)) {
        return true;
    }

    kv_phase_changing(zone);
    rc = kv_map_sweep(&zone->map, KV_SWEEP_STEP);

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
