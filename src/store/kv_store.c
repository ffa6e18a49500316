
/*
 * The life of a store, and of a process's part in it; see kv_store.h.
 */


#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "store/kv_await.h"
#include "store/kv_clock.h"
#include "store/kv_handle.h"
#include "store/kv_hold.h"
#include "store/kv_recover.h"
#include "store/kv_replica.h"
#include "store/kv_timeout.h"
#include "base/kv_failpoint.h"
#include "base/kv_prefault.h"


/* the share of the zone that uploads, and readers, may hold by default */
#define KV_STORE_SHARE    8


_Static_assert(KV_STORE_SEGMENT_MAX == KV_SEGMENT_MAX, "see kv_format.h");


static void kv_store_set_cluster(kv_zone_t *zone, const kv_store_conf_t *conf);
static bool kv_store_knows(const kv_zone_t *zone);
static kv_store_t *kv_store_handle(const kv_store_conf_t *conf,
    kv_zone_t *zone, kv_io_t *io, int dirfd, kv_err_t *err);
static kv_rc_t kv_store_no_archive(kv_store_t *store, kv_err_t *err);
static kv_zone_t *kv_store_lay_out(void *mem, size_t size, unsigned workers);
static void kv_store_first_segment(kv_store_t *store);
static bool kv_store_allowed(const kv_store_conf_t *conf, kv_err_t *err);
static void kv_store_show_wake(kv_store_t *store);
static kv_rc_t kv_store_leave_log(kv_store_t *store, kv_err_t *err);


size_t
kv_store_overhead(size_t size, unsigned workers)
{
    return kv_align(sizeof(kv_zone_t), KV_CACHE_LINE)
           + workers * sizeof(kv_worker_t)
           + kv_await_filters_size(size, workers)
           + kv_map_directory_size(size);
}


kv_rc_t
kv_store_create(kv_store_t **store, const kv_store_conf_t *conf, void *mem,
    size_t size, unsigned workers, kv_io_t *io, int dirfd, kv_err_t *err)
{
    char        *ring;
    size_t       overhead;
    kv_rc_t      rc;
    sigset_t     saved;
    kv_zone_t   *zone;
    kv_store_t  *st;

    size -= kv_min(size, conf->feed);
    size -= size % KV_CACHE_LINE;
    ring = (char *) mem + size;

    overhead = kv_store_overhead(size, workers);

    if (size < overhead + 16 * KV_PAGE_SIZE) {
        kv_err_set(err, "zone \"%s\" of %zu bytes is too small: its own "
                   "tables take %zu", conf->name, size, overhead);
        return KV_NO_MEMORY;
    }

    zone = kv_store_lay_out(mem, size, workers);

    if (zone == NULL) {
        kv_err_set(err, "zone \"%s\" of %zu bytes could not be set up",
                   conf->name, size);
        return KV_NO_MEMORY;
    }

    zone->list = conf->list;
    kv_store_set_cluster(zone, conf);
    kv_feed_create(&zone->feed, ring, conf->feed);

    st = kv_store_handle(conf, zone, io, dirfd, err);

    if (st == NULL) {
        return KV_ERROR;
    }

    kv_io_block_signal(&saved);

    rc = kv_store_no_archive(st, err);

    if (rc == KV_OK) {
        rc = kv_recover(st, err);
    }

    if (rc == KV_OK && zone->wal.offset == zone->wal.segment_size) {
        kv_store_first_segment(st);
    }

    kv_io_unblock_signal(&saved);

    if (rc != KV_OK) {
        kv_store_destroy(st);
        return rc == KV_AGAIN ? KV_ERROR : rc;
    }

    memcpy(zone->magic, KV_ZONE_MAGIC, sizeof(zone->magic));
    kv_state_loaded(zone);

    *store = st;

    return KV_OK;
}


/* An archive has the files of a store, but must not be changed by one. */

static kv_rc_t
kv_store_no_archive(kv_store_t *store, kv_err_t *err)
{
    int  fd;

    fd = store->io->open(store->io, store->dirfd, KV_ARCHIVE_NAME, O_RDONLY);

    if (fd == -1) {
        return KV_OK;
    }

    (void) store->io->close(store->io, fd);

    kv_err_set(err, "it is the archive of a store: make a directory of it with "
               "\"kv-inspect restore\"");

    return KV_ERROR;
}


/* Gives each part of the zone its place; NULL if it cannot be set up. */

static kv_zone_t *
kv_store_lay_out(void *mem, size_t size, unsigned workers)
{
    char       *p, *filters;
    kv_zone_t  *zone;

    kv_prefault_huge(mem, size);

    zone = mem;
    memset((void *) zone, 0, sizeof(kv_zone_t));

    p = (char *) mem + kv_align(sizeof(kv_zone_t), KV_CACHE_LINE);

    zone->workers = (kv_worker_t *) p;
    p += workers * sizeof(kv_worker_t);

    filters = p;
    p += kv_await_filters_size(size, workers);

    zone->directory = p;
    p += kv_map_directory_size(size);

    zone->layout = KV_ZONE_LAYOUT;
    zone->nworkers = workers;
    zone->size = size;
    zone->start_ns = UINT64_MAX;

    zone->heap = kv_heap_create(p, (size_t) ((char *) mem + size - p));

    if (zone->heap == NULL
        || kv_workers_create(zone->workers, workers) != KV_OK
        || kv_mutex_create(&zone->commit_lock) != KV_OK
        || kv_mutex_create(&zone->background_lock) != KV_OK)
    {
        return NULL;
    }

    kv_await_filters_create(zone, filters);

    return zone;
}


/*
 * Makes the segment that the first write begins now rather than then: there is
 * none, or the last one takes no more, as it is of an older format.  Without
 * space for it the store may still have values to read.
 */

static void
kv_store_first_segment(kv_store_t *store)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_wal_prepare(store->wal, NULL);

    if (rc == KV_NO_SPACE || rc == KV_AGAIN) {
        kv_err_set(&err, "the segment of the next write cannot be made: %s",
                   strerror(errno));
        kv_state_refused(store, rc, 0, &err);
    }
}


kv_rc_t
kv_store_attach(kv_store_t **store, const kv_store_conf_t *conf, void *mem,
    kv_io_t *io, int dirfd, kv_err_t *err)
{
    kv_zone_t  *zone;

    zone = mem;

    if (!kv_store_knows(zone)) {
        kv_err_set(err, "zone \"%s\" was made by another version of this "
                   "module: a reload cannot take it over, restart nginx",
                   conf->name);
        return KV_DECLINED;
    }

    if (zone->list != conf->list) {
        kv_err_set(err, "zone \"%s\" was made with list=%s: a reload cannot "
                   "change that to list=%s, restart nginx to do so",
                   conf->name, zone->list ? "on" : "off",
                   conf->list ? "on" : "off");
        return KV_DECLINED;
    }

    if (zone->feed.size != conf->feed) {
        kv_err_set(err, "zone \"%s\" was made with a feed of %llu bytes: a "
                   "reload cannot change that to %llu, restart nginx to do so",
                   conf->name, (unsigned long long) zone->feed.size,
                   (unsigned long long) conf->feed);
        return KV_DECLINED;
    }

    if (strcmp(zone->cluster, conf->cluster ? conf->cluster : "") != 0) {
        kv_err_set(err, "zone \"%s\" was made %s%s: a reload cannot change "
                   "that, restart nginx to do so", conf->name,
                   zone->cluster[0] ? "with cluster=" : "without cluster=",
                   zone->cluster);
        return KV_DECLINED;
    }

    *store = kv_store_handle(conf, zone, io, dirfd, err);

    return *store ? KV_OK : KV_ERROR;
}


static void
kv_store_set_cluster(kv_zone_t *zone, const kv_store_conf_t *conf)
{
    size_t  n;

    if (conf->cluster) {
        n = strlen(conf->cluster);
        assert(n > 0 && n <= KV_ADDRESS_MAX);
        memcpy(zone->cluster, conf->cluster, n);
    }
}


/* Whether it is a zone, of this layout. */

static bool
kv_store_knows(const kv_zone_t *zone)
{
    return memcmp(zone->magic, KV_ZONE_MAGIC, sizeof(zone->magic)) == 0
           && zone->layout == KV_ZONE_LAYOUT;
}


void
kv_store_reload_refused(void *mem)
{
    kv_zone_t  *zone;

    zone = mem;

    if (zone && kv_store_knows(zone)) {
        (void) atomic_fetch_add(&zone->reloads_refused, 1);
    }
}


static kv_store_t *
kv_store_handle(const kv_store_conf_t *conf, kv_zone_t *zone, kv_io_t *io,
    int dirfd, kv_err_t *err)
{
    kv_store_t  *store;

    if (!kv_store_allowed(conf, err)) {
        return NULL;
    }

    store = calloc(1, sizeof(kv_store_t));
    if (store == NULL) {
        goto failed;
    }

    store->conf = *conf;
    store->zone = zone;
    store->io = io;
    store->dirfd = dirfd;

    if (atomic_load(&zone->segment) == 0) {
        kv_store_in_force(store);
    }

    if (conf->max_value > atomic_load(&zone->max_value)) {
        atomic_store(&zone->max_value, conf->max_value);
    }

    if (kv_store_grow_wal(store) == KV_OK
        && kv_store_grow_background(store) == KV_OK)
    {
        return store;
    }

    kv_store_destroy(store);

failed:

    kv_err_set(err, "out of memory for zone \"%s\"", conf->name);

    return NULL;
}


void
kv_store_in_force(kv_store_t *store)
{
    uint64_t    size, least;
    kv_zone_t  *zone;

    zone = store->zone;

    atomic_store(&zone->segment, store->conf.segment);
    atomic_store(&zone->snapshot, store->conf.snapshot);

    size = zone->size;
    least = store->conf.max_value + (uint64_t) store->conf.max_value / 8;
    least = kv_max(size / KV_STORE_SHARE, kv_min(least, size / 4));

    atomic_store(&zone->limit[KV_HELD_UPLOADS],
                 store->conf.uploads ? store->conf.uploads : least);
    atomic_store(&zone->limit[KV_HELD_READERS],
                 store->conf.readers ? store->conf.readers
                                     : size / KV_STORE_SHARE);
}


/* Whether a file may become as large as a segment. */

static bool
kv_store_allowed(const kv_store_conf_t *conf, kv_err_t *err)
{
    struct rlimit  limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) == -1
        || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= conf->segment)
    {
        return true;
    }

    kv_err_set(err, "zone \"%s\": segments have %llu bytes, but a limit "
               "allows files %llu at most: raise it (ulimit -f, LimitFSIZE=), "
               "or make segments smaller (segment=)", conf->name,
               (unsigned long long) conf->segment,
               (unsigned long long) limit.rlim_cur);

    return false;
}


void
kv_store_destroy(kv_store_t *store)
{
    if (store->wal) {
        kv_wal_destroy(store->wal);
    }

    if (store->background) {
        kv_wal_destroy(store->background);
    }

    kv_replica_close(store);
    free(store->batch);
    free(store);
}


void
kv_store_wakes(kv_store_t *store, const int *fds, unsigned n, unsigned mine)
{
    store->wakes = fds;
    store->nwakes = n;
    store->wake = mine;

    if (store->worker) {
        kv_store_show_wake(store);
    }
}


static void
kv_store_show_wake(kv_store_t *store)
{
    atomic_store(&store->worker->wake,
                 store->wake < store->nwakes ? store->wake + 1 : 0);
}


kv_rc_t
kv_store_enter(kv_store_t *store)
{
    kv_rc_t     rc;
    uint32_t    claim;
    kv_zone_t  *zone;

    if (store->worker) {
        return KV_OK;
    }

    zone = store->zone;

    rc = kv_worker_acquire(zone->workers, zone->nworkers, &store->number);

    if (rc != KV_OK) {
        return rc;
    }

    store->worker = &zone->workers[store->number];
    kv_store_first_ops(store);

    kv_store_show_wake(store);

    /* claims of the previous owner of this number */

    claim = store->number + 1;
    (void) atomic_compare_exchange_strong(&zone->committer, &claim, 0);

    claim = store->number + 1;
    (void) atomic_compare_exchange_strong(&zone->background, &claim, 0);

    claim = store->number + 1;
    (void) atomic_compare_exchange_strong(&zone->next_host, &claim, 0);

    kv_hold_leave(zone, store->number);

    store->generation = atomic_load(&zone->generation);
    atomic_store(&store->worker->generation, store->generation);

    /* this worker may take the place of one that died */

    atomic_store(&zone->reap, 1);

    return KV_OK;
}


bool
kv_store_entered(const kv_store_t *store)
{
    return store->worker != NULL;
}


unsigned
kv_store_workers(const kv_store_t *store)
{
    return store->zone->nworkers;
}


void
kv_store_leave(kv_store_t *store)
{
    kv_worker_t  *worker;

    worker = store->worker;

    if (worker == NULL) {
        return;
    }

    /*
     * Records that are still queued cannot be freed here, and only the
     * committer reaps.
     */

    atomic_store(&store->zone->reap, 1);

    kv_hold_leave(store->zone, store->number);

    store->worker = NULL;
    store->free = NULL;
    store->nfree = 0;
    store->nchunks = 0;
    kv_await_leave(store);

    kv_failpoint(KV_FAILPOINT_LEAVING);

    kv_worker_abandon(worker);

    kv_store_leave_work(store);
}


void
kv_store_suspend(kv_store_t *store)
{
    kv_store_leave(store);

    if (store->wal) {
        kv_wal_destroy(store->wal);
        store->wal = NULL;
    }

    if (store->background) {
        kv_wal_destroy(store->background);
        store->background = NULL;
    }

    kv_replica_close(store);
    free(store->batch);
    store->batch = NULL;
}


void
kv_store_close(kv_store_t *store)
{
    kv_rc_t       rc;
    sigset_t      saved;
    unsigned      i;
    kv_err_t      err;
    kv_worker_t  *worker;
    kv_zone_t    *zone;

    zone = store->zone;

    if (!kv_state_reads(zone) || !kv_state_writes(zone)) {
        return;
    }

    for (i = 0; i < zone->nworkers; i++) {
        worker = &zone->workers[i];

        if (!atomic_load(&worker->in_use)) {
            continue;
        }

        if (!kv_worker_lock_dead(worker)) {
            return;
        }

        kv_worker_unlock(worker);
    }

    /* if the committer died with it, where the log ends is not certain */

    switch (kv_mutex_trylock(&zone->commit_lock)) {

    case KV_OK:

        kv_io_block_signal(&saved);

        zone->wal.time_ms = kv_clock_ms(zone);

        rc = kv_store_grow_wal(store) == KV_OK
             ? kv_store_leave_log(store, &err) : KV_OK;

        kv_io_unblock_signal(&saved);

        if (rc != KV_OK) {
            kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": the log is not "
                         "closed: %s", store->conf.name, err.text);
        }

        /* fall through */

    case KV_DEAD:
        kv_mutex_unlock(&zone->commit_lock);
        break;

    default:
        break;
    }
}


/*
 * With peers, the log says of its last entries that they are committed only
 * where others follow.
 */

static kv_rc_t
kv_store_leave_log(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t     rc;
    uint64_t    index;
    kv_zone_t  *zone;

    zone = store->zone;
    index = atomic_load(&zone->applied_index);

    if (store->conf.npeers && index > zone->wal.replica.commit) {
        rc = kv_wal_put_commit(store->wal, index, err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    return kv_wal_leave_closed(store->wal, err);
}


bool
kv_store_healthy(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_state_refuses(zone)) {
        (void) atomic_fetch_or(&zone->requests, KV_REQUEST_FREE_DISK);
    }

    return store->worker && kv_state(zone) == KV_STATE_READY
           && kv_store_unhosted(store) <= KV_STORE_UNHOSTED;
}
