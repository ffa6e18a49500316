
/*
 * Reads that wait for a change of their key; see kv_await.h.
 */


#include <stdlib.h>

#include "store/kv_await.h"


/* the share of the zone that the filters take, and the bytes of each */
#define KV_AWAIT_SHARE    256
#define KV_AWAIT_MIN      256u
#define KV_AWAIT_MAX      16384u

/* bits of the filter that a key sets */
#define KV_AWAIT_BITS     3

#define KV_AWAIT_BUCKETS  4096u


/* In the worker's own memory; made for its first waiter. */

struct kv_await_s {
    unsigned       n;
    kv_waiter_t   *due;                    /* collected, not taken yet: */
    kv_waiter_t  **due_end;                /* the first to come is the first */
    kv_waiter_t   *bucket[KV_AWAIT_BUCKETS];
    uint32_t       count[];                /* waiters by bit of the filter */
};


static size_t kv_await_filter_size(size_t size, unsigned workers);
static bool kv_await_tell_workers(kv_zone_t *zone,
    const kv_changes_t *changes, uint8_t *wake);
static bool kv_await_tell_worker(kv_worker_t *worker,
    const kv_changes_t *changes);
static void kv_await_push(kv_worker_t *worker, uint32_t hash);
static uint32_t kv_await_bit(const kv_worker_t *worker, uint64_t hash,
    unsigned i);
static uint32_t kv_await_short(uint64_t hash);
static kv_waiter_t **kv_await_bucket(kv_await_t *await, uint32_t hash);
static void kv_await_link(kv_waiter_t **list, kv_waiter_t *waiter);
static void kv_await_unlink(kv_await_t *await, kv_waiter_t *waiter);
static void kv_await_add_due(kv_await_t *await, kv_waiter_t *waiter);
static void kv_await_due(kv_await_t *await, uint32_t hash);
static void kv_await_due_all(kv_await_t *await);


/* Bytes of one worker's filter: a power of two. */

static size_t
kv_await_filter_size(size_t size, unsigned workers)
{
    size_t  n, most;

    most = kv_min(size / KV_AWAIT_SHARE / workers, KV_AWAIT_MAX);

    for (n = KV_AWAIT_MIN; 2 * n <= most; n *= 2) {
        /* void */
    }

    return n;
}


size_t
kv_await_filters_size(size_t size, unsigned workers)
{
    return workers * kv_await_filter_size(size, workers);
}


void
kv_await_filters_create(kv_zone_t *zone, void *mem)
{
    size_t        n;
    unsigned      i;
    kv_worker_t  *worker;

    n = kv_await_filter_size(zone->size, zone->nworkers);

    for (i = 0; i < zone->nworkers; i++) {
        worker = &zone->workers[i];

        worker->awaited = (_Atomic uint64_t *) ((char *) mem + i * n);
        worker->awaited_bits = (uint32_t) n * 8;
    }
}


void
kv_await_tell(kv_zone_t *zone, const kv_changes_t *changes, uint8_t *wake)
{
    /* between the change and the search for interest: see kv_await.h */

    kv_fence();

    if (!kv_get_relaxed(zone->awaits) || (changes->n == 0 && !changes->all)) {
        return;
    }

    if (kv_await_tell_workers(zone, changes, wake)) {
        return;
    }

    /* a worker shows its number of waiters before it reads the flag */

    atomic_store(&zone->awaits, 0);

    if (kv_await_count(zone)) {
        atomic_store(&zone->awaits, 1);
    }
}


/* Whether a worker has waiters. */

static bool
kv_await_tell_workers(kv_zone_t *zone, const kv_changes_t *changes,
    uint8_t *wake)
{
    bool          some;
    unsigned      i;
    kv_worker_t  *worker;

    some = false;

    for (i = 0; i < zone->nworkers; i++) {
        worker = &zone->workers[i];

        if (kv_get_relaxed(worker->waiters) == 0) {
            continue;
        }

        some = true;

        if (kv_await_tell_worker(worker, changes)) {
            wake[i] = 1;
        }
    }

    return some;
}


/* Whether it waits for one of them. */

static bool
kv_await_tell_worker(kv_worker_t *worker, const kv_changes_t *changes)
{
    bool      told;
    unsigned  i;

    if (changes->all) {
        atomic_store(&worker->changed_any, 1);
        return true;
    }

    told = false;

    for (i = 0; i < changes->n; i++) {
        if (kv_await_has(worker, changes->hash[i])) {
            kv_await_push(worker, kv_await_short(changes->hash[i]));
            told = true;
        }
    }

    return told;
}


static void
kv_await_push(kv_worker_t *worker, uint32_t hash)
{
    uint32_t  written;

    written = kv_get_relaxed(worker->changes_written);

    if (written - atomic_load_explicit(&worker->changes_read,
                                       memory_order_acquire)
        >= KV_CHANGES)
    {
        atomic_store(&worker->changed_any, 1);
        return;
    }

    kv_set_relaxed(worker->change[written % KV_CHANGES], hash);
    atomic_store_explicit(&worker->changes_written, written + 1,
                          memory_order_release);
}


void
kv_await_tell_all(kv_zone_t *zone)
{
    unsigned  i;

    kv_fence();

    /* kv_await_tell() may have died where it says that there are none */

    atomic_store(&zone->awaits, 1);

    for (i = 0; i < zone->nworkers; i++) {
        if (kv_get_relaxed(zone->workers[i].waiters)) {
            atomic_store(&zone->workers[i].changed_any, 1);
        }
    }
}


uint64_t
kv_await_count(kv_zone_t *zone)
{
    uint64_t  n;
    unsigned  i;

    for (i = 0, n = 0; i < zone->nworkers; i++) {
        n += atomic_load(&zone->workers[i].waiters);
    }

    return n;
}


bool
kv_await_has(const kv_worker_t *worker, uint64_t hash)
{
    uint32_t  bit;
    unsigned  i;

    for (i = 0; i < KV_AWAIT_BITS; i++) {
        bit = kv_await_bit(worker, hash, i);

        if (!(kv_get_relaxed(worker->awaited[bit / 64]) >> bit % 64 & 1)) {
            return false;
        }
    }

    return true;
}


/* The i-th bit of the filter that a key sets. */

static uint32_t
kv_await_bit(const kv_worker_t *worker, uint64_t hash, unsigned i)
{
    return (uint32_t) (hash >> i * (64 / KV_AWAIT_BITS))
           & (worker->awaited_bits - 1);
}


/* What the rings have of a hash. */

static uint32_t
kv_await_short(uint64_t hash)
{
    return (uint32_t) (hash ^ hash >> 32);
}


static kv_waiter_t **
kv_await_bucket(kv_await_t *await, uint32_t hash)
{
    return &await->bucket[hash % KV_AWAIT_BUCKETS];
}


static void
kv_await_link(kv_waiter_t **list, kv_waiter_t *waiter)
{
    waiter->next = *list;
    waiter->link = list;

    if (waiter->next) {
        waiter->next->link = &waiter->next;
    }

    *list = waiter;
}


static void
kv_await_unlink(kv_await_t *await, kv_waiter_t *waiter)
{
    *waiter->link = waiter->next;

    if (waiter->next) {
        waiter->next->link = waiter->link;

    } else if (await->due_end == &waiter->next) {
        await->due_end = waiter->link;
    }
}


kv_rc_t
kv_store_await(kv_store_t *store, kv_waiter_t *waiter, const void *key,
    size_t len)
{
    kv_rc_t      rc;
    kv_zone_t   *zone;
    kv_await_t  *await;

    zone = store->zone;

    waiter->hash = kv_map_hash(&zone->map, key, len);

    rc = kv_await_show(store, waiter->hash);

    if (rc != KV_OK) {
        return rc;
    }

    await = store->await;

    kv_await_link(kv_await_bucket(await, kv_await_short(waiter->hash)),
                  waiter);
    await->n++;

    (void) atomic_fetch_add(&store->worker->waiters, 1);

    if (!atomic_load(&zone->awaits)) {
        atomic_store(&zone->awaits, 1);
    }

    /* before the caller reads the key: see kv_await.h */

    kv_fence();

    return KV_OK;
}


void
kv_store_await_end(kv_store_t *store, kv_waiter_t *waiter)
{
    if (store->await == NULL) {
        return;
    }

    kv_await_unlink(store->await, waiter);
    store->await->n--;

    kv_await_hide(store, waiter->hash);
    (void) atomic_fetch_sub(&store->worker->waiters, 1);
}


/* Only the worker itself writes its filter. */

kv_rc_t
kv_await_show(kv_store_t *store, uint64_t hash)
{
    uint32_t           bit;
    unsigned           i;
    kv_worker_t       *worker;
    _Atomic uint64_t  *word;

    worker = store->worker;

    if (worker == NULL) {
        return KV_UNAVAILABLE;
    }

    if (store->await == NULL) {
        store->await = calloc(1, sizeof(kv_await_t) + worker->awaited_bits
                                                      * sizeof(uint32_t));
        if (store->await == NULL) {
            return KV_NO_MEMORY;
        }

        store->await->due_end = &store->await->due;
    }

    for (i = 0; i < KV_AWAIT_BITS; i++) {
        bit = kv_await_bit(worker, hash, i);

        if (store->await->count[bit]++ == 0) {
            word = &worker->awaited[bit / 64];
            kv_set_relaxed(*word, kv_get_relaxed(*word) | 1ull << bit % 64);
        }
    }

    return KV_OK;
}


void
kv_await_hide(kv_store_t *store, uint64_t hash)
{
    uint32_t           bit;
    unsigned           i;
    _Atomic uint64_t  *word;

    for (i = 0; i < KV_AWAIT_BITS; i++) {
        bit = kv_await_bit(store->worker, hash, i);

        assert(store->await->count[bit]);

        if (--store->await->count[bit] == 0) {
            word = &store->worker->awaited[bit / 64];
            kv_set_relaxed(*word, kv_get_relaxed(*word) & ~(1ull << bit % 64));
        }
    }
}


void
kv_store_await_collect(kv_store_t *store, bool all)
{
    uint32_t      read, written;
    kv_await_t   *await;
    kv_worker_t  *worker;

    await = store->await;
    worker = store->worker;

    if (await == NULL || await->n == 0) {
        return;
    }

    if (atomic_load(&worker->changed_any)) {
        all = atomic_exchange(&worker->changed_any, 0) || all;
    }

    read = kv_get_relaxed(worker->changes_read);
    written = atomic_load_explicit(&worker->changes_written,
                                   memory_order_acquire);

    if (read == written && !all) {
        return;
    }

    for ( /* void */ ; read != written && !all; read++) {
        kv_await_due(await, kv_get_relaxed(worker->change[read % KV_CHANGES]));
    }

    atomic_store_explicit(&worker->changes_read, written,
                          memory_order_release);

    if (all) {
        kv_await_due_all(await);
    }
}


/*
 * Behind those that are there: a key that changes all the time would keep
 * others' waiters from their turn.
 */

static void
kv_await_add_due(kv_await_t *await, kv_waiter_t *waiter)
{
    kv_await_unlink(await, waiter);
    kv_await_link(await->due_end, waiter);
    await->due_end = &waiter->next;
}


static void
kv_await_due(kv_await_t *await, uint32_t hash)
{
    kv_waiter_t  *waiter, *next;

    for (waiter = *kv_await_bucket(await, hash); waiter; waiter = next) {
        next = waiter->next;

        if (kv_await_short(waiter->hash) == hash) {
            kv_await_add_due(await, waiter);
        }
    }
}


static void
kv_await_due_all(kv_await_t *await)
{
    unsigned      i;
    kv_waiter_t  *waiter;

    for (i = 0; i < KV_AWAIT_BUCKETS; i++) {
        while ((waiter = await->bucket[i]) != NULL) {
            kv_await_add_due(await, waiter);
        }
    }
}


kv_waiter_t *
kv_store_await_next(kv_store_t *store)
{
    kv_waiter_t  *waiter;

    if (store->await == NULL || store->await->due == NULL) {
        return NULL;
    }

    waiter = store->await->due;

    kv_await_unlink(store->await, waiter);
    kv_await_link(kv_await_bucket(store->await, kv_await_short(waiter->hash)),
                  waiter);

    return waiter;
}


void
kv_await_leave(kv_store_t *store)
{
    free(store->await);
    store->await = NULL;

    memset(store->watched, 0, sizeof(store->watched));
}
