
/*
 * Figures and counters; see kv_store.h.
 */


#include <assert.h>

#include "store/kv_await.h"
#include "store/kv_handle.h"
#include "store/kv_hold.h"
#include "store/kv_watch.h"


static void kv_store_figure(kv_figure_t *f, const kv_histogram_t *h,
    uint64_t first);
static void kv_store_figures_held(kv_zone_t *zone, kv_held_t who,
    kv_figures_held_t *held);
static void kv_store_figures_log(kv_store_t *store, kv_figures_t *f);


void
kv_store_figures(kv_store_t *store, kv_figures_t *f)
{
    kv_zone_t       *zone;
    kv_heap_stat_t   heap;

    zone = store->zone;

    (void) kv_store_heap_stat(store, &heap);

    f->state = kv_state_name(kv_state(zone));
    f->keys = atomic_load(&zone->map.keys);
    f->bytes = atomic_load(&zone->map.bytes);
    f->expiring = kv_get_relaxed(zone->timers.count);

    f->used = heap.used;
    f->index = heap.kind[KV_HEAP_NODE];
    f->held = heap.held;
    f->free_pages = heap.free_pages;
    f->fragmentation = heap.held
                       ? 1 - (double) heap.used / (double) heap.held : 0;
    f->refused = atomic_load(&zone->full_refused);
    f->waiting = kv_await_count(zone);
    f->watching = kv_watch_count(zone);
    f->feed_size = zone->feed.size;
    f->feed_after = zone->feed.size ? kv_feed_floor(&zone->feed) : 0;

    kv_store_figures_held(zone, KV_HELD_UPLOADS, &f->uploads);
    kv_store_figures_held(zone, KV_HELD_READERS, &f->readers);

    kv_store_figure(&f->batch, &zone->stats.batch, KV_FIGURE_FIRST_OPS);
    kv_store_figure(&f->wait, &zone->stats.wait, KV_FIGURE_FIRST_US);
    kv_store_figure(&f->sync, &zone->stats.sync, KV_FIGURE_FIRST_US);
    f->payload = kv_get_relaxed(zone->stats.payload);
    f->moved = kv_get_relaxed(zone->stats.moved);
    f->expired = kv_get_relaxed(zone->stats.expired);
    f->reserves = kv_get_relaxed(zone->stats.reserves);

    kv_store_figures_log(store, f);

    f->archives = store->conf.archive != NULL;
    f->archive_lsn = atomic_load(&zone->archive_lsn);
    f->archive_waiting = atomic_load(&zone->archive_waiting);
    f->archive_files = atomic_load(&zone->archive_files);
    f->archive_failed = atomic_load(&zone->archive_failed);
    f->archive_gaps = atomic_load(&zone->archive_gaps);
    f->archive_deleted = atomic_load(&zone->archive_deleted);
    f->archive_disk_size = atomic_load(&zone->archive_disk.size);
    f->archive_disk_available = atomic_load(&zone->archive_disk.available);

    f->disk_size = atomic_load(&zone->disk.size);
    f->disk_available = atomic_load(&zone->disk.available);

    f->backups_running = kv_hold_count(zone);
    f->backups = atomic_load(&zone->backups);
    f->backups_failed = atomic_load(&zone->backups_failed);
    f->backup_lsn = atomic_load(&zone->backup_lsn);
    f->backup_time = atomic_load(&zone->backup_time);

    f->recovery_ms = atomic_load(&zone->recovery_ms);
    f->recovered_snapshot = atomic_load(&zone->recovered_snapshot);
    f->recovered_log = atomic_load(&zone->recovered_log);
    f->recovered_ms = atomic_load(&zone->recovered_ms);
    f->rebuilds = atomic_load(&zone->rebuilds);

    f->reloads_refused = atomic_load(&zone->reloads_refused);
}


const char *
kv_store_state_name(unsigned i)
{
    return i <= KV_STATE_FAILED ? kv_state_name((kv_state_t) i) : NULL;
}


static void
kv_store_figure(kv_figure_t *f, const kv_histogram_t *h, uint64_t first)
{
    const kv_measure_t  *m;

    m = &h->measure;

    f->count = kv_get_relaxed(m->count);
    f->sum = kv_get_relaxed(m->sum);
    f->min = kv_measure_min(m);
    f->max = kv_get_relaxed(m->max);
    f->mean = kv_measure_mean(m);

    f->first = first;
    kv_histogram_upto(h, f->upto);
}


static void
kv_store_figures_held(kv_zone_t *zone, kv_held_t who, kv_figures_held_t *held)
{
    held->bytes = kv_heap_held(zone->heap, who);
    held->limit = atomic_load(&zone->limit[who]);
    held->evicted = kv_get_relaxed(zone->evicted[who]);
}


/* The log, and the snapshots. */

static void
kv_store_figures_log(kv_store_t *store, kv_figures_t *f)
{
    uint64_t    since;
    kv_zone_t  *zone;

    zone = store->zone;

    /* in this order: the second may grow meanwhile */

    since = atomic_load(&zone->snapshot_log_bytes);
    f->snapshot_log_bytes = atomic_load(&zone->wal.bytes) - since;

    f->log_bytes = atomic_load(&zone->wal.bytes);
    f->log_written = atomic_load(&zone->wal.written);
    f->log_segments = atomic_load(&zone->wal.segments);
    f->next_lsn = atomic_load(&zone->wal.next_lsn);
    f->durable_lsn = atomic_load(&zone->wal.durable_lsn);
    f->incarnation = atomic_load(&zone->wal.incarnation);
    f->unsynced_ms = kv_store_unsynced(store);

    f->snapshots = atomic_load(&zone->snapshots);
    f->snapshots_failed = atomic_load(&zone->snapshots_failed);
    f->snapshot_lsn = atomic_load(&zone->snapshot_lsn);
    f->snapshot_bytes = atomic_load(&zone->snapshot_bytes);
    f->snapshot_ms = atomic_load(&zone->snapshot_ms);
    f->snapshot_time_ms = atomic_load(&zone->snapshot_time_ms);
    f->snapshot_failed_ms = atomic_load(&zone->snapshot_failed_ms);
}


uint64_t
kv_store_unsynced(kv_store_t *store)
{
    uint64_t    since, now;
    kv_zone_t  *zone;

    zone = store->zone;

    if (atomic_load(&zone->wal.durable_lsn) + 1
        >= atomic_load(&zone->wal.next_lsn))
    {
        return 0;
    }

    since = atomic_load(&zone->unsynced_ns);
    now = kv_now_ns();

    return now > since ? (now - since) / 1000000 + 1 : 1;
}


kv_counter_t *
kv_store_counters(kv_store_t *store)
{
    return store->worker ? store->worker->counter : NULL;
}


const kv_counter_t *
kv_store_counters_of(kv_store_t *store, unsigned number)
{
    assert(number < store->zone->nworkers);

    return store->zone->workers[number].counter;
}
