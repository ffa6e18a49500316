
/*
 * Reaping dead workers: frees what their records say that they were building,
 * had submitted, or had pinned.
 */


#include "store/kv_reap.h"
#include "base/kv_failpoint.h"
#include "store/kv_hold.h"


/* between two searches for dead workers without a hint; nanoseconds */
#define KV_REAP_INTERVAL  1000000000


static bool kv_reap_worker(kv_store_t *store, kv_worker_t *worker);
static unsigned kv_reap_chunk(kv_zone_t *zone, kv_op_chunk_t *chunk);


bool
kv_reap_lock_dead(kv_zone_t *zone, bool *dead)
{
    bool      some, asked;
    uint64_t  now;
    unsigned  i;

    /* a new worker gives the hint, but without a master there is none */

    now = kv_now_ns();
    asked = atomic_exchange(&zone->reap, 0);

    if (!asked && now - zone->reaped_ns < KV_REAP_INTERVAL) {
        return false;
    }

    if (asked) {

        /* a worker that took a dead one's kv_worker_t does not know its pins */

        zone->retired.lost = true;
    }

    zone->reaped_ns = now;

    some = false;

    for (i = 0; i < zone->nworkers; i++) {
        dead[i] = kv_worker_lock_dead(&zone->workers[i]);
        some = some || dead[i];
    }

    return some;
}


void
kv_reap(kv_store_t *store, const bool *dead)
{
    unsigned    i;
    uint32_t    holder;
    kv_zone_t  *zone;

    zone = store->zone;

    for (i = 0; i < zone->nworkers; i++) {

        if (!dead[i]) {
            continue;
        }

        if (kv_state_reads(zone)
            && kv_reap_worker(store, &zone->workers[i]))
        {
            /* or the number's next owner would pass for the one at work */

            holder = i + 1;
            (void) atomic_compare_exchange_strong(&zone->background, &holder,
                                                  0);
            kv_hold_leave(zone, i);

            kv_worker_reaped(&zone->workers[i]);
            continue;
        }

        /* not now */

        atomic_store(&zone->reap, 1);
        kv_worker_unlock(&zone->workers[i]);
    }
}


static bool
kv_reap_worker(kv_store_t *store, kv_worker_t *worker)
{
    unsigned        freed;
    kv_zone_t      *zone;
    kv_op_chunk_t  *chunk;

    zone = store->zone;

    if (kv_heap_lock(zone->heap) != KV_OK) {
        return false;
    }

    kv_epoch_reap_scanned(&zone->retired, worker);

    freed = kv_reap_chunk(zone, &worker->first);

    while ((chunk = worker->first.next) != NULL) {
        freed += kv_reap_chunk(zone, chunk);

        worker->first.next = chunk->next;
        kv_heap_free(zone->heap, chunk);
    }

    kv_heap_unlock(zone->heap);

    if (freed) {
        kv_store_log(store, KV_LOG_INFO, "kv zone \"%s\": freed %u unfinished "
                     "operations of process %d", store->conf.name, freed,
                     (int) atomic_load(&worker->pid));
    }

    return true;
}


/* Frees what its records own; how many did.  With the heap's lock held. */

static unsigned
kv_reap_chunk(kv_zone_t *zone, kv_op_chunk_t *chunk)
{
    kv_op_t   *op;
    unsigned   k, freed;

    freed = 0;

    for (k = 0; k < KV_OP_CHUNK; k++) {
        op = &chunk->op[k];

        if (!kv_epoch_reap(&zone->retired, op)) {

            switch (atomic_load(&op->state)) {

            case KV_OP_BUILDING:
            case KV_OP_QUEUED:
            case KV_OP_DONE:
                if (kv_op_entry(op)) {
                    kv_entry_free_locked(zone->heap, kv_op_entry(op));
                    kv_op_set_entry(op, NULL);
                    freed++;
                }

                break;

            default:
                break;
            }
        }

        atomic_store(&op->state, KV_OP_FREE);
    }

    kv_failpoint(KV_FAILPOINT_REAPING);

    return freed;
}
