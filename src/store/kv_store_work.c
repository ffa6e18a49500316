
/*
 * The work that a worker has to do for the store, and which worker takes it;
 * see kv_store.h.
 */


#include "store/kv_background.h"
#include "store/kv_committer.h"
#include "store/kv_evict.h"
#include "store/kv_timeout.h"
#include "base/kv_failpoint.h"


static bool kv_store_work(kv_store_t *store);
static bool kv_store_background_can(kv_store_t *store);


unsigned
kv_store_todo(kv_store_t *store)
{
    unsigned    todo;
    uint32_t    holder, mine;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_failpoint(KV_FAILPOINT_WOKEN);

    if (store->worker == NULL) {
        return 0;
    }

    todo = 0;

    /* a process that ends does not rebuild, and may be the last one */

    if (store->generation != atomic_load(&zone->generation)
        || (atomic_load(&zone->state) == KV_ZONE_BROKEN
            && kv_store_stopping(store)))
    {
        todo |= KV_TODO_RESET;
    }

    if (kv_store_work(store) && kv_committer_claim(store)) {
        todo |= KV_TODO_COMMIT;
    }

    if (atomic_load(&zone->requests) && kv_store_background_can(store)) {
        mine = store->number + 1;
        holder = atomic_load(&zone->background);

        if (holder == 0
            || (holder != mine
                && kv_worker_lock_dead(&zone->workers[holder - 1])))
        {
            if (holder) {
                kv_worker_unlock(&zone->workers[holder - 1]);
            }

            if (atomic_compare_exchange_strong(&zone->background, &holder,
                                               mine))
            {
                todo |= KV_TODO_BACKGROUND;
            }
        }
    }

    return todo;
}


/* Whether there is work for a committer. */

static bool
kv_store_work(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    switch (atomic_load(&zone->state)) {

    case KV_ZONE_READY:
        return atomic_load(&zone->queue)
               || (atomic_load(&zone->committer) && !store->conf.hosted)
               || atomic_load(&zone->reap)
               || kv_zone_unswept(zone)
               || (atomic_load(&zone->sync_requested) && kv_state_writes(zone)
                   && kv_state_may_retry(zone))
               || kv_heap_broken(zone->heap)
               || kv_store_next_timeout(store) == KV_TIMEOUT_NOW
               || (store->conf.hosted && kv_store_over(store)
                   && kv_timeout_evict(zone) == KV_TIMEOUT_NOW);

    case KV_ZONE_BROKEN:
        return kv_state_may_retry(zone) && !kv_store_stopping(store);

    default:
        return false;
    }
}


/* Whether a background task of this process would do its work now. */

static bool
kv_store_background_can(kv_store_t *store)
{
    return kv_state_whole(store->zone) && !kv_store_stopping(store);
}


void
kv_store_unclaim(kv_store_t *store, unsigned todo)
{
    if (todo & KV_TODO_COMMIT) {
        kv_committer_unclaim(store);
    }

    if (todo & KV_TODO_BACKGROUND) {
        atomic_store(&store->zone->background, 0);
    }
}


bool
kv_store_commits(kv_store_t *store)
{
    return store->worker
           && atomic_load(&store->zone->committer) == store->number + 1;
}


void
kv_store_reset(kv_store_t *store)
{
    uint64_t  generation;

    generation = atomic_load(&store->zone->generation);

    /* all but the first chunk go with the heap */

    kv_worker_forget_ops(store->worker);
    kv_store_first_ops(store);
    store->generation = generation;

    kv_failpoint(KV_FAILPOINT_RESETTING);

    atomic_store(&store->worker->generation, generation);
}


void
kv_store_polling(kv_store_t *store, bool polling)
{
    if (store->worker) {
        atomic_store(&store->worker->polling, polling);
        kv_fence();
    }
}


void
kv_store_commit(kv_store_t *store)
{
    kv_committer_run(store);
}


void
kv_store_background(kv_store_t *store)
{
    kv_background_run(store);
}
