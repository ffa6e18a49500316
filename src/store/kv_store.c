
/*
 * The store's facade; see kv_store.h.
 */


#include <assert.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "store/kv_background.h"
#include "store/kv_commit.h"
#include "store/kv_evict.h"
#include "store/kv_fair.h"
#include "base/kv_failpoint.h"
#include "base/kv_prefault.h"
#include "store/kv_recover.h"


/* records that are left to deletes */
#define KV_STORE_KEPT     8u

/* of the zone, what the records of readers may take */
#define KV_STORE_PINS_SHARE  8

/* how long it is believed that there is no room; how often it is logged; ns */
#define KV_STORE_FULL     1000000000ull
#define KV_STORE_REFUSED  60000000000ull

/* what is held for as long as clients like: one in so many, of the zone */
#define KV_STORE_SHARE    8

/* when to look again whether another's committer has come to it; ms */
#define KV_STORE_AGAIN  10u


/* bytes of each segment for deletes on a full disk, at most */
#define KV_STORE_DELETES  65536u


static kv_store_t *kv_store_handle(const kv_store_conf_t *conf,
    kv_zone_t *zone, kv_io_t *io, int dirfd, kv_err_t *err);
static kv_rc_t kv_store_grow(kv_store_t *store, kv_wal_t **log,
    kv_store_grow_t *made);
static void kv_store_first_segment(kv_store_t *store);
static bool kv_store_allowed(const kv_store_conf_t *conf, kv_err_t *err);
static bool kv_store_background_can(kv_store_t *store);
static void kv_store_show_wake(kv_store_t *store);
static uint64_t kv_store_until(uint64_t due);
static bool kv_store_ready(kv_store_t *store);
static bool kv_store_work(kv_store_t *store);
static kv_rc_t kv_store_op(kv_store_t *store, uint8_t code, kv_op_t **op);
static unsigned kv_store_chunks_max(kv_zone_t *zone);
static kv_rc_t kv_store_add_ops(kv_store_t *store, uint32_t leave);
static bool kv_store_may_take(kv_store_t *store, const kv_op_t *op,
    uint32_t end);
static void kv_store_promise(kv_store_t *store, kv_op_t *op);
static uint64_t kv_store_start(kv_store_t *store, kv_op_t *op);
static void kv_store_op_free(kv_store_t *store, kv_op_t *op);


size_t
kv_store_overhead(size_t size, unsigned workers)
{
    return kv_align(sizeof(kv_zone_t), KV_CACHE_LINE)
           + workers * sizeof(kv_worker_t) + kv_map_directory_size(size);
}


kv_rc_t
kv_store_create(kv_store_t **store, const kv_store_conf_t *conf, void *mem,
    size_t size, unsigned workers, kv_io_t *io, int dirfd, kv_err_t *err)
{
    char        *p;
    size_t       overhead;
    kv_rc_t      rc;
    kv_zone_t   *zone;
    kv_store_t  *st;

    overhead = kv_store_overhead(size, workers);

    if (size < overhead + 16 * KV_PAGE_SIZE) {
        kv_err_set(err, "zone \"%s\" of %zu bytes is too small: its own "
                   "tables take %zu", conf->name, size, overhead);
        return KV_NO_MEMORY;
    }

    kv_prefault_huge(mem, size);

    zone = mem;
    memset((void *) zone, 0, sizeof(kv_zone_t));

    p = (char *) mem + kv_align(sizeof(kv_zone_t), KV_CACHE_LINE);

    zone->workers = (kv_worker_t *) p;
    p += workers * sizeof(kv_worker_t);

    zone->directory = p;
    p += kv_map_directory_size(size);

    zone->layout = KV_ZONE_LAYOUT;
    zone->nworkers = workers;
    zone->size = size;
    zone->start_ns = UINT64_MAX;

    kv_measure_init(&zone->stats.batch);
    kv_measure_init(&zone->stats.sync);
    kv_measure_init(&zone->stats.wait);

    zone->heap = kv_heap_create(p, (size_t) ((char *) mem + size - p));

    if (zone->heap == NULL
        || kv_workers_create(zone->workers, workers) != KV_OK
        || kv_mutex_create(&zone->commit_lock) != KV_OK
        || kv_mutex_create(&zone->background_lock) != KV_OK)
    {
        kv_err_set(err, "zone \"%s\" of %zu bytes could not be set up",
                   conf->name, size);
        return KV_NO_MEMORY;
    }

    st = kv_store_handle(conf, zone, io, dirfd, err);

    if (st == NULL) {
        return KV_ERROR;
    }

    rc = kv_recover(st, err);

    if (rc != KV_OK) {
        kv_store_destroy(st);
        return rc == KV_AGAIN ? KV_ERROR : rc;
    }

    if (zone->wal.segment_size == 0) {
        kv_store_first_segment(st);
    }

    memcpy(zone->magic, KV_ZONE_MAGIC, sizeof(zone->magic));
    kv_state_loaded(zone);

    *store = st;

    return KV_OK;
}


/*
 * It is made now rather than by the first write.  Without room for it there
 * may still be something to read.
 */

static void
kv_store_first_segment(kv_store_t *store)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_wal_prepare(store->wal, NULL);

    if (rc == KV_NO_SPACE || rc == KV_AGAIN) {
        kv_err_set(&err, "the first segment cannot be made: %s",
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

    if (memcmp(zone->magic, KV_ZONE_MAGIC, sizeof(zone->magic)) != 0
        || zone->layout != KV_ZONE_LAYOUT)
    {
        kv_err_set(err, "zone \"%s\" was made by another version of this "
                   "module: a reload cannot take it over, restart nginx",
                   conf->name);
        return KV_DECLINED;
    }

    *store = kv_store_handle(conf, zone, io, dirfd, err);

    return *store ? KV_OK : KV_ERROR;
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


kv_rc_t
kv_store_grow_wal(kv_store_t *store)
{
    return kv_store_grow(store, &store->wal, &store->log_fit);
}


kv_rc_t
kv_store_grow_background(kv_store_t *store)
{
    return kv_store_grow(store, &store->background, &store->background_fit);
}


static kv_rc_t
kv_store_grow(kv_store_t *store, kv_wal_t **log, kv_store_grow_t *made)
{
    size_t           record, batch;
    uint64_t         segment;
    kv_wal_t        *fit;
    kv_store_grow_t  want;

    want.max_value = atomic_load(&store->zone->max_value);
    want.segment = atomic_load(&store->zone->segment);

    if (*log && made->max_value == want.max_value
        && made->segment == want.segment)
    {
        return KV_OK;
    }

    record = sizeof(kv_batch_header_t) + 64 + KV_KEY_MAX + want.max_value;

    segment = kv_align(record + 2 * KV_SEGMENT_HEADER, 4096);
    segment = kv_max(segment, want.segment);

    batch = kv_max(record, KV_BATCH_BYTES);
    batch = kv_min(batch, segment - KV_SEGMENT_HEADER);

    fit = kv_wal_create(store->io, store->dirfd, &store->zone->wal, segment,
                        batch);

    if (fit == NULL) {
        return KV_NO_MEMORY;
    }

    kv_wal_set_direct(fit, store->conf.sync == KV_SYNC_ALWAYS);
    kv_wal_set_reserve(fit, kv_min(segment / 16, KV_STORE_DELETES));

    if (*log) {
        kv_wal_destroy(*log);
    }

    *log = fit;
    *made = want;

    return KV_OK;
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
    store->free = NULL;
    store->nfree = 0;
    store->nchunks = 0;

    kv_store_show_wake(store);

    /* what whoever had the slot before has claimed */

    claim = store->number + 1;
    (void) atomic_compare_exchange_strong(&zone->committer, &claim, 0);

    claim = store->number + 1;
    (void) atomic_compare_exchange_strong(&zone->background, &claim, 0);

    store->generation = atomic_load(&zone->generation);
    atomic_store(&store->worker->generation, store->generation);

    /* whoever starts may take the place of somebody who died */

    atomic_store(&zone->reap, 1);

    return KV_OK;
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
     * Records that are still queued cannot be freed here, and there is one
     * way to clear up: the committer's.
     */

    atomic_store(&store->zone->reap, 1);

    store->worker = NULL;
    store->free = NULL;
    store->nfree = 0;
    store->nchunks = 0;

    kv_failpoint(KV_FAILPOINT_LEAVING);

    kv_worker_abandon(worker);

    kv_store_pass_on(store);
}


void
kv_store_pass_on(kv_store_t *store)
{
    if (atomic_load(&store->zone->requests) || kv_store_next_timeout(store)) {
        kv_store_wake_all(store);
    }
}


void
kv_store_rest(kv_store_t *store)
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

    free(store->batch);
    store->batch = NULL;
}


void
kv_store_close(kv_store_t *store)
{
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

    /* who died with it leaves a log whose end is not known so well */

    switch (kv_mutex_trylock(&zone->commit_lock)) {

    case KV_OK:

        if (kv_store_grow_wal(store) == KV_OK
            && kv_wal_leave_closed(store->wal, &err) != KV_OK)
        {
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


bool
kv_store_healthy(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_state_hard(zone)) {
        (void) atomic_fetch_or(&zone->requests, KV_REQUEST_FREE_DISK);
    }

    return store->worker && kv_state(zone) == KV_STATE_READY;
}


kv_rc_t
kv_store_read(kv_store_t *store, const void *key, size_t len, kv_entry_t **e)
{
    kv_map_t  *map;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    map = &store->zone->map;

    kv_epoch_enter(store->worker, KV_EPOCH_MAIN, &store->zone->retired.epoch);

    *e = kv_map_find(map, kv_map_hash(map, key, len), key, len);

    kv_failpoint(KV_FAILPOINT_READING);

    if (*e) {
        return KV_OK;
    }

    kv_store_read_done(store);

    return KV_NOT_FOUND;
}


kv_rc_t
kv_store_pin(kv_store_t *store, kv_entry_t *e, kv_op_t **op)
{
    kv_rc_t  rc;

    assert(e->flags & KV_ENTRY_PIECES);

    rc = kv_store_op(store, 0, op);

    if (rc != KV_OK) {
        return rc;
    }

    /* never BUILDING with an entry that is not its own: see kv_worker.h */

    atomic_store_explicit(&(*op)->state, KV_OP_PINNED, memory_order_release);
    kv_epoch_pin(e);

    kv_failpoint(KV_FAILPOINT_PINNING);

    kv_op_set_entry(*op, e);

    kv_failpoint(KV_FAILPOINT_PINNED);

    return KV_OK;
}


kv_rc_t
kv_store_put(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t value_len, kv_op_t **op)
{
    return kv_store_upload(store, key, key_len, value_len,
                           value_len == KV_LENGTH_UNKNOWN ? 0 : value_len, op);
}


kv_rc_t
kv_store_upload(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t value_len, uint32_t n, kv_op_t **op)
{
    kv_rc_t  rc;

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = kv_store_op(store, KV_OP_PUT, op);

    if (rc != KV_OK) {
        return rc;
    }

    (*op)->value_len = value_len;

    kv_store_began(*op, kv_now_ns());
    kv_set_relaxed((*op)->mark, 0);
    kv_set_relaxed((*op)->pace, UINT32_MAX);
    kv_set_relaxed((*op)->last, 0);

    rc = kv_entry_begin(store->zone->heap, &(*op)->entry, key, key_len,
                        value_len, n);

    kv_failpoint(KV_FAILPOINT_BUILDING);

    if (rc != KV_OK) {
        kv_store_op_free(store, *op);
        *op = NULL;
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_write(kv_store_t *store, kv_op_t *op, uint32_t offset,
    const void *data, size_t n)
{
    bool        arrives;
    kv_rc_t     rc;
    uint32_t    end;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    kv_evict_beat(store);

    end = offset + (uint32_t) n;
    arrives = op->entry->flags & KV_ENTRY_PARTIAL;

    if (arrives && !kv_store_may_take(store, op, end)) {
        return KV_NO_MEMORY;
    }

    rc = kv_entry_append(store->zone->heap, &op->entry, op->value_len,
                         store->conf.max_value, offset, data, n);

    kv_failpoint(KV_FAILPOINT_RECEIVING);

    if (rc == KV_OK && arrives) {
        kv_op_received(op, end, kv_now_ns());
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


/* Whether an upload may have memory for so much of its value now. */

static bool
kv_store_may_take(kv_store_t *store, const kv_op_t *op, uint32_t end)
{
    size_t  room;

    if (end <= KV_ENTRY_INLINE) {
        return true;
    }

    room = kv_entry_partial_room(op->entry);

    return end <= room
           || kv_fair_may_take(store, kv_get_relaxed(op->began),
                               (uint32_t) (end - room));
}


void
kv_store_beat(kv_store_t *store)
{
    kv_evict_beat(store);
}


uint32_t
kv_store_pace(const kv_op_t *op)
{
    uint64_t  ms, pace;

    ms = kv_op_lasted(op, kv_now_ns()) / 1000000;
    pace = kv_get_relaxed(op->received) * 1000ull / kv_max(ms, 1u);

    return (uint32_t) kv_max(kv_min(pace, KV_VALUE_MAX), KV_PAGE_SIZE);
}


void
kv_store_hungry(kv_store_t *store, const kv_hungry_t *hungry, unsigned n)
{
    kv_fair_show(store, hungry, n);
}


kv_rc_t
kv_store_finish(kv_store_t *store, kv_op_t *op, uint32_t value_len)
{
    kv_rc_t  rc;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    if (!(op->entry->flags & KV_ENTRY_PARTIAL)) {
        return KV_OK;
    }

    rc = kv_entry_finish(store->zone->heap, &op->entry, value_len);

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_fits(kv_store_t *store, uint16_t key_len, uint32_t value_len)
{
    kv_rc_t  rc;

    if (!kv_store_ready(store) || !kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = value_len ? kv_entry_fits(store->zone->heap, key_len, value_len)
                   : KV_OK;

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_delete(kv_store_t *store, const void *key, uint16_t key_len,
    kv_op_t **op)
{
    kv_rc_t  rc;

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = kv_store_op(store, KV_OP_DELETE, op);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_entry_create_key(store->zone->heap, &(*op)->entry, key, key_len);

    if (rc != KV_OK) {
        kv_store_op_free(store, *op);
        *op = NULL;
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_clear(kv_store_t *store, kv_op_t **op)
{
    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    return kv_store_op(store, KV_OP_CLEAR, op);
}


kv_rc_t
kv_store_reserve(kv_store_t *store, uint32_t need, uint64_t own, kv_op_t **op)
{
    kv_rc_t  rc;

    rc = kv_store_op(store, KV_OP_RESERVE, op);

    if (rc == KV_OK) {
        kv_set_relaxed((*op)->need, need);
        (*op)->result = (int32_t) kv_min(own / KV_PAGE_SIZE, INT32_MAX);
    }

    return rc;
}


bool
kv_store_full(kv_store_t *store, uint32_t need)
{
    uint64_t    full;
    kv_zone_t  *zone;

    zone = store->zone;
    full = atomic_load(&zone->full_need);

    /* what a clear left comes free without being asked for */

    return full && need >= full && !kv_map_unswept(&zone->map)
           && kv_heap_used(zone->heap) + KV_PAGE_SIZE
              > atomic_load(&zone->full_used)
           && kv_now_ns() - atomic_load(&zone->full_ns) < KV_STORE_FULL;
}


/* Once in a while, with what it is that fills it. */

void
kv_store_refused(kv_store_t *store)
{
    uint64_t         now, said, n, size, data, uploads, readers, other;
    kv_zone_t       *zone;
    kv_heap_stat_t   st;

    zone = store->zone;

    (void) atomic_fetch_add(&zone->full_refused, 1);

    now = kv_now_ns();
    said = atomic_load(&zone->full_said_ns);

    if ((said && now - said < KV_STORE_REFUSED)
        || !atomic_compare_exchange_strong(&zone->full_said_ns, &said, now)
        || kv_store_heap_stat(store, &st) != KV_OK)
    {
        return;
    }

    n = atomic_load(&zone->full_refused);
    n -= atomic_exchange(&zone->full_said, n);

    size = kv_max(st.size / 100, 1u);
    uploads = kv_heap_held(zone->heap, KV_HELD_UPLOADS);
    readers = kv_heap_held(zone->heap, KV_HELD_READERS);
    data = atomic_load(&zone->map.bytes);

    /* tables, records, what is larger than asked for, copies still sent */

    other = st.used - kv_min(st.used, data + uploads + readers);

    kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\" is full: %llu write%s "
                 "refused since this was last said; keys and values take "
                 "%llu %% of it, unfinished uploads %llu %%, values kept for "
                 "slow readers %llu %%, tables, records of requests and the "
                 "like %llu %%, and %llu %% is free but scattered or in "
                 "reserve", store->conf.name, (unsigned long long) n,
                 n == 1 ? " was" : "s were",
                 (unsigned long long) (data / size),
                 (unsigned long long) (uploads / size),
                 (unsigned long long) (readers / size),
                 (unsigned long long) (other / size),
                 (unsigned long long) ((st.size - st.used) / size));
}


bool
kv_store_evicted(kv_store_t *store)
{
    return store->worker && atomic_load(&store->worker->evict)
           && atomic_exchange(&store->worker->evict, 0);
}


uint64_t
kv_store_held(const kv_op_t *op)
{
    return op->entry && (op->entry->flags & KV_ENTRY_PARTIAL)
           ? kv_entry_partial_footprint(op->entry) : 0;
}


bool
kv_store_over(kv_store_t *store)
{
    unsigned    who;
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_store_scarce(store) == 0) {
        return false;
    }

    for (who = 0; who < KV_HELD; who++) {
        if (kv_heap_held(zone->heap, (kv_held_t) who)
            > atomic_load(&zone->limit[who]))
        {
            return true;
        }
    }

    return false;
}


uint64_t
kv_store_scarce(kv_store_t *store)
{
    uint64_t    used, spare;
    kv_zone_t  *zone;

    zone = store->zone;

    used = kv_heap_used(zone->heap);
    spare = zone->size - zone->size / 4;

    return used > spare ? used - spare : 0;
}


unsigned
kv_store_submit(kv_store_t *store, kv_op_t *op)
{
    assert(op->code != KV_OP_PUT || !(op->entry->flags & KV_ENTRY_PARTIAL));

    op->lsn = 0;
    kv_set_relaxed(op->queued_ns, kv_now_ns());

    if (op->code != KV_OP_RESERVE) {
        op->result = KV_OK;
        kv_store_promise(store, op);
    }

    kv_commit_push(store->zone, op);
    kv_commit_start_by(store->zone, kv_store_start(store, op));

    return kv_commit_claim(store) ? KV_TODO_COMMIT : 0;
}


/* What the configuration says goes with the operation. */

static void
kv_store_promise(kv_store_t *store, kv_op_t *op)
{
    kv_set_relaxed(op->sync_ms, 0);

    switch (store->conf.sync) {

    case KV_SYNC_ALWAYS:
        op->flags |= KV_OP_SYNC;
        break;

    case KV_SYNC_INTERVAL:
        kv_set_relaxed(op->sync_ms,
                       (uint32_t) kv_min(store->conf.sync_interval,
                                         KV_TICKET - 1));
        break;

    default:
        break;
    }
}


/* How long it may wait for company; who is to end has no time. */

static uint64_t
kv_store_start(kv_store_t *store, kv_op_t *op)
{
    if (store->conf.delay == 0 || kv_store_stopping(store)
        || atomic_load(&store->zone->queued) >= store->conf.batch)
    {
        return 0;
    }

    return op->queued_ns + store->conf.delay * 1000000;
}


void
kv_store_start_now(kv_store_t *store)
{
    kv_commit_start_by(store->zone, 0);
}


bool
kv_store_done(kv_op_t *op, kv_rc_t *rc)
{
    if (atomic_load_explicit(&op->state, memory_order_acquire) != KV_OP_DONE) {
        return false;
    }

    *rc = (kv_rc_t) op->result;

    kv_failpoint(KV_FAILPOINT_ANSWERING);

    return true;
}


void
kv_store_release(kv_store_t *store, kv_op_t *op)
{
    if (atomic_load_explicit(&op->state, memory_order_relaxed)
        == KV_OP_PINNED)
    {
        atomic_store(&op->state, KV_OP_UNPINNING);

        kv_failpoint(KV_FAILPOINT_UNPINNING);

        kv_epoch_unpin(&store->zone->retired, op->entry);

        kv_failpoint(KV_FAILPOINT_UNPINNED);

    } else if (op->entry
               && kv_entry_destroy(store->zone->heap, &op->entry) != KV_OK)
    {
        /* a broken heap is made anew: then there is nothing to free */

        return;
    }

    kv_store_op_free(store, op);
}


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

    /* who is to end does not rebuild, and may be the last: so nothing waits */

    if (store->generation != atomic_load(&zone->generation)
        || (atomic_load(&zone->state) == KV_ZONE_BROKEN
            && kv_store_stopping(store)))
    {
        todo |= KV_TODO_RESET;
    }

    if (kv_store_work(store) && kv_commit_claim(store)) {
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


/* Whether there is something for a committer to do. */

static bool
kv_store_work(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    switch (atomic_load(&zone->state)) {

    case KV_ZONE_READY:
        return atomic_load(&zone->queue)
               || atomic_load(&zone->committer)
               || atomic_load(&zone->reap)
               || kv_map_unswept(&zone->map)
               || (atomic_load(&zone->want_sync) && kv_state_writes(zone)
                   && kv_state_retry_due(zone))
               || kv_heap_broken(zone->heap)
               || kv_store_next_timeout(store) == 1;

    case KV_ZONE_BROKEN:
        return kv_state_retry_due(zone) && !kv_store_stopping(store);

    default:
        return false;
    }
}


/* Whether its background task would do anything, or return at once. */

static bool
kv_store_background_can(kv_store_t *store)
{
    return kv_state_whole(store->zone) && !kv_store_stopping(store);
}


void
kv_store_unclaim(kv_store_t *store, unsigned todo)
{
    if (todo & KV_TODO_COMMIT) {
        kv_commit_unclaim(store);
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

    /* the chunks go with the heap */

    store->free = NULL;
    store->nfree = 0;
    store->nchunks = 0;
    store->worker->chunks = NULL;
    store->generation = generation;

    kv_failpoint(KV_FAILPOINT_RESETTING);

    atomic_store(&store->worker->generation, generation);
}


uint64_t
kv_store_next_timeout(kv_store_t *store)
{
    uint64_t    sync, mark, due, evict;
    kv_zone_t  *zone;

    zone = store->zone;

    if (!kv_state_reads(zone)) {

        /* if whoever rebuilds it gives up, or dies, another goes on */

        return atomic_load(&zone->state) == KV_ZONE_BROKEN
               && !kv_store_stopping(store)
               ? kv_max(kv_store_until(kv_state_retry_ns(zone)),
                        (uint64_t) KV_STORE_WATCH)
               : 0;
    }

    sync = kv_store_sync_due(store);
    mark = kv_store_mark_due(store);

    due = sync == 0 || mark == 0 ? sync + mark : kv_min(sync, mark);

    if (kv_map_unswept(&zone->map)) {

        /* whoever took the cleared map apart could not go on, or died */

        due = due ? kv_min(due, (uint64_t) KV_STORE_WATCH) : KV_STORE_WATCH;
    }

    if (kv_store_over(store)) {
        evict = kv_store_until(atomic_load(&zone->evicted_ns)
                               + KV_EVICT_INTERVAL);
        due = due ? kv_min(due, evict) : evict;
    }

    /* a committer at work looks after it when it comes to that */

    return due && atomic_load(&zone->committer) ? kv_max(due, KV_STORE_AGAIN)
                                                : due;
}


uint64_t
kv_store_sync_due(kv_store_t *store)
{
    uint32_t    ms;
    uint64_t    due;
    kv_zone_t  *zone;

    zone = store->zone;

    ms = atomic_load(&zone->sync_ms);

    if (ms == 0 || !atomic_load(&zone->unsynced) || !kv_state_writes(zone)) {
        return 0;
    }

    due = atomic_load(&zone->synced_ns) + (uint64_t) ms * 1000000;

    return kv_store_until(kv_max(due, kv_state_retry_ns(zone)));
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


uint64_t
kv_store_mark_due(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (!atomic_load(&zone->unmarked) || !kv_state_writes(zone)) {
        return 0;
    }

    return kv_store_until(atomic_load(&zone->written_ns)
                          + KV_STORE_QUIET * 1000000);
}


/* Milliseconds until then, at least 1: now. */

static uint64_t
kv_store_until(uint64_t due)
{
    uint64_t  now;

    now = kv_now_ns();

    return due > now ? (due - now) / 1000000 + 1 : 1;
}


void
kv_store_commit(kv_store_t *store)
{
    kv_commit_run(store);
}


void
kv_store_background(kv_store_t *store)
{
    kv_background_run(store);
}


void
kv_store_request_stats(kv_store_t *store, kv_stats_t *sum)
{
    unsigned  i;

    kv_stats_init(sum);

    for (i = 0; i < store->zone->nworkers; i++) {
        kv_stats_add(sum, &store->zone->workers[i].stats);
    }
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


void
kv_store_polling(kv_store_t *store, bool looking)
{
    if (store->worker) {
        atomic_store(&store->worker->looking, looking);
        kv_fence();
    }
}


void
kv_store_wake(kv_store_t *store, unsigned worker)
{
    uint32_t  wake;
    uint64_t  one;

    wake = atomic_load(&store->zone->workers[worker].wake);

    /* above what is known here it may be anybody's descriptor */

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


static bool
kv_store_ready(kv_store_t *store)
{
    return store->worker
           && kv_state_reads(store->zone)
           && store->generation
              == atomic_load_explicit(&store->zone->generation,
                                      memory_order_acquire);
}


/*
 * A record, BUILDING; from the process's own list, or a new chunk.  Uploads and
 * readers may be many, and last long: some records, and the pages to make more
 * of, are left to those who make room.
 */

static kv_rc_t
kv_store_op(kv_store_t *store, uint8_t code, kv_op_t **op)
{
    kv_rc_t   rc;
    uint32_t  kept, leave;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    switch (code) {

    case KV_OP_PUT:
        kept = KV_STORE_KEPT;
        leave = kv_heap_reserve(store->zone->heap);
        break;

    case 0:
        kept = KV_STORE_KEPT;
        leave = KV_HEAP_LAST;

        if (store->nfree <= kept
            && store->nchunks >= kv_store_chunks_max(store->zone))
        {
            return KV_NO_MEMORY;
        }

        break;

    default:
        kept = 0;
        leave = 0;
    }

    if (store->nfree <= kept) {
        rc = kv_store_add_ops(store, leave);

        if (rc != KV_OK) {
            return rc;
        }
    }

    kv_evict_beat(store);

    *op = store->free;
    store->free = (*op)->next;
    store->nfree--;

    store->ticket = ((store->ticket + 1) & ~KV_TICKET_GO) | KV_TICKET;

    (*op)->code = code;
    (*op)->flags = 0;
    (*op)->result = KV_OK;
    kv_op_set_entry(*op, NULL);
    (*op)->lsn = 0;
    (*op)->next = NULL;
    (*op)->data = NULL;

    kv_set_relaxed((*op)->ticket, store->ticket);
    kv_set_relaxed((*op)->queued_ns, kv_now_ns());

    atomic_store_explicit(&(*op)->state, KV_OP_BUILDING, memory_order_release);

    return KV_OK;
}


/*
 * How many chunks a worker may have when a read asks for one more.  A stored
 * value that is being sent costs its record alone, so nothing else bounds how
 * many readers there are; all workers together leave 7/8 of the zone.
 */

static unsigned
kv_store_chunks_max(kv_zone_t *zone)
{
    size_t    all;
    unsigned  workers;

    all = zone->size / KV_STORE_PINS_SHARE / sizeof(kv_op_chunk_t);
    workers = kv_max(zone->nworkers / 4, 1u);

    return (unsigned) kv_max(all / workers, 2u);
}


static kv_rc_t
kv_store_add_ops(kv_store_t *store, uint32_t leave)
{
    kv_rc_t         rc;
    unsigned        i;
    kv_op_chunk_t  *chunk;

    rc = kv_worker_add_chunk(store->zone->heap, store->worker, store->number,
                             leave, &chunk);

    if (rc != KV_OK) {
        return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
    }

    for (i = KV_OP_CHUNK; i; i--) {
        chunk->op[i - 1].next = store->free;
        store->free = &chunk->op[i - 1];
    }

    store->nfree += KV_OP_CHUNK;
    store->nchunks++;

    return KV_OK;
}


static void
kv_store_op_free(kv_store_t *store, kv_op_t *op)
{
    atomic_store_explicit(&op->state, KV_OP_FREE, memory_order_release);

    op->next = store->free;
    store->free = op;
    store->nfree++;
}
