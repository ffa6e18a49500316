
/*
 * The process's handle of a store; see kv_handle.h.
 */


#include <unistd.h>

#include "store/kv_handle.h"
#include "base/kv_failpoint.h"


/* bytes of a segment that are left to deletes, at most */
#define KV_STORE_DELETES  65536u


static kv_rc_t kv_store_grow(kv_store_t *store, kv_wal_state_t *state,
    kv_wal_t **log, kv_store_sizes_t *sizes);
static size_t kv_store_batch_bytes(const kv_zone_t *zone,
    const kv_store_sizes_t *sizes, uint64_t *segment);


kv_rc_t
kv_store_grow_wal(kv_store_t *store)
{
    return kv_store_grow(store, store->drafts ? store->drafts
                                              : &store->zone->wal,
                         &store->wal, &store->wal_sizes);
}


kv_rc_t
kv_store_grow_log(kv_store_t *store, kv_wal_t **log, kv_store_sizes_t *sizes)
{
    return kv_store_grow(store, &store->zone->wal, log, sizes);
}


kv_rc_t
kv_store_grow_background(kv_store_t *store)
{
    return kv_store_grow_log(store, &store->background,
                             &store->background_sizes);
}


static kv_rc_t
kv_store_grow(kv_store_t *store, kv_wal_state_t *state, kv_wal_t **log,
    kv_store_sizes_t *sizes)
{
    size_t            batch;
    uint64_t          segment;
    kv_wal_t         *grown;
    kv_store_sizes_t  needed;

    needed.max_value = atomic_load(&store->zone->max_value);
    needed.segment = atomic_load(&store->zone->segment);

    if (*log && sizes->max_value == needed.max_value
        && sizes->segment == needed.segment)
    {
        return KV_OK;
    }

    batch = kv_store_batch_bytes(store->zone, &needed, &segment);
    grown = kv_wal_create(store->io, store->dirfd, state, segment, batch);

    if (grown == NULL) {
        return KV_NO_MEMORY;
    }

    kv_wal_set_direct(grown, store->conf.sync == KV_SYNC_ALWAYS);
    kv_wal_set_reserve(grown, kv_min(segment / 16, KV_STORE_DELETES));

    if (*log) {
        kv_wal_destroy(*log);
    }

    *log = grown;
    *sizes = needed;

    return KV_OK;
}


/* The bytes of a batch, and of a segment. */

static size_t
kv_store_batch_bytes(const kv_zone_t *zone, const kv_store_sizes_t *sizes,
    uint64_t *segment)
{
    size_t  record, first;

    record = sizeof(kv_batch_header_t) + 64 + KV_KEY_MAX + KV_META_MAX
             + sizes->max_value;

    /* what a segment begins with: see KV_WAL_BATCH_MAX */

    first = KV_SEGMENT_HEADER + (zone->cluster[0] ? KV_ENTRY_STATE_MAX : 0);

    *segment = kv_align(record + first + KV_SEGMENT_HEADER, 4096);
    *segment = kv_max(*segment, sizes->segment);

    return kv_min(kv_max(record, KV_BATCH_BYTES), *segment - first);
}


size_t
kv_store_batch_space(kv_zone_t *zone)
{
    uint64_t          segment;
    kv_store_sizes_t  sizes;

    sizes.max_value = atomic_load(&zone->max_value);
    sizes.segment = atomic_load(&zone->segment);

    return kv_store_batch_bytes(zone, &sizes, &segment)
           - sizeof(kv_batch_header_t);
}


void
kv_store_log(kv_store_t *store, kv_log_level_t level, const char *fmt, ...)
{
    char     text[1024];
    va_list  args;

    if (store->conf.log == NULL) {
        return;
    }

    va_start(args, fmt);
    (void) vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    store->conf.log(store->conf.log_ctx, level, text);
}


kv_rc_t
kv_store_lock(kv_store_t *store, kv_mutex_t *lock)
{
    kv_rc_t  rc;

    do {
        rc = kv_mutex_lock_for(lock, KV_STORE_WATCH);

    } while (rc == KV_BUSY && !kv_store_stopping(store));

    return rc;
}


void
kv_store_log_wal(kv_store_t *store)
{
    kv_store_log_of(store, store->wal);
}


void
kv_store_log_of(kv_store_t *store, kv_wal_t *wal)
{
    kv_err_t     err;
    const char  *why;

    if (kv_wal_warning(wal, &err)) {
        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": %s",
                     store->conf.name, err.text);
    }

    why = kv_wal_renewed(wal);

    if (why) {
        kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": versions begin "
                     "anew, with incarnation %016llx: %s", store->conf.name,
                     (unsigned long long)
                         atomic_load(&store->zone->wal.incarnation), why);
    }
}


void
kv_store_wake(kv_store_t *store, unsigned worker)
{
    uint32_t  wake;
    uint64_t  one;

    wake = atomic_load(&store->zone->workers[worker].wake);

    /* a larger number may be any descriptor in this process */

    if (wake && wake <= store->nwakes) {
        one = 1;
        (void) !write(store->wakes[wake - 1], &one, sizeof(one));
    }
}


void
kv_store_wake_all(kv_store_t *store)
{
    unsigned  i;

    for (i = 0; i < store->zone->nworkers; i++) {
        if (atomic_load(&store->zone->workers[i].in_use)) {
            kv_store_wake(store, i);
        }
    }
}


void
kv_store_first_ops(kv_store_t *store)
{
    store->free = kv_worker_first_ops(store->worker, &store->nfree);
    store->nchunks = 1;
}


kv_rc_t
kv_store_heap_stat(kv_store_t *store, kv_heap_stat_t *st)
{
    memset(st, 0, sizeof(kv_heap_stat_t));

    if (kv_heap_lock_read(store->zone->heap) != KV_OK) {
        return KV_UNAVAILABLE;
    }

    kv_heap_stat(store->zone->heap, st);

    kv_failpoint(KV_FAILPOINT_HEAP_READ);

    kv_heap_unlock(store->zone->heap);

    return KV_OK;
}
