
/*
 * Snapshots; see kv_background_snapshot.h.
 *
 *
 * A snapshot without a pause
 *
 * Notes S, the LSN applied last, and walks the map while writes go on.  All
 * up to S is in the map when the walk begins, so whatever the walk misses or
 * sees too new was changed by a record after S, and replaying from S puts it
 * right.  It may have seen all up to E, the LSN written last when the walk
 * ends (a batch that is being applied is in the log, but not yet counted as
 * applied): the log must be durable up to there before the snapshot gets its
 * name, or a power cut could leave later changes without earlier ones.
 *
 * What is gone when a step of the walk begins (kv_clock.h) is not written: no
 * operation finds it any more, so nothing behind S in the log is about it.
 *
 * The walk copies a few entries in an epoch, leaves it, and only then writes:
 * a reader must not wait for a disk in an epoch.  Large values are copied one
 * by one, each by a second lookup of its key, which bounds the memory.
 */


#include <errno.h>
#include <time.h>

#include "store/kv_background_snapshot.h"
#include "store/kv_background_archive.h"
#include "base/kv_failpoint.h"
#include "base/kv_mmap.h"
#include "disk/kv_snapshot.h"
#include "store/kv_clock.h"
#include "store/kv_committer.h"
#include "store/kv_disk_space.h"
#include "store/kv_hold.h"
#include "store/kv_replica.h"
#include "store/kv_spare.h"


/* The most entries that a snapshot copies in one epoch. */
#define KV_SCAN_ENTRIES   256u

/*
 * While writes go on, a snapshot gives way: after KV_SCAN_WORK nanoseconds of
 * work, or a little more, it pauses for KV_SCAN_PAUSE times that; but at most
 * for KV_SCAN_PAUSE_MAX, as the disk may have been slow for a moment.
 */
#define KV_SCAN_WORK       1000000u
#define KV_SCAN_PAUSE      2u
#define KV_SCAN_PAUSE_MAX  50000000u


typedef struct {
    kv_store_t            *store;
    kv_snapshot_writer_t  *writer;
    char                  *buf;          /* records of one step */
    size_t                 len;
    size_t                 size;
    bool                   no_memory;
    uint64_t               records;
    uint64_t               time_ms;      /* when it was begun */
    uint64_t               gone;         /* what expires then need not be
                                            written */
    uint64_t               paused;       /* ns: the end of the last pause */
    uint64_t               lsn;          /* the log's next LSN then */
    uint64_t               index;        /* see kv_replica_last() */
    uint64_t               term;
} kv_scan_t;


static kv_rc_t kv_background_write(kv_scan_t *scan, uint64_t lsn,
    uint64_t *bytes, kv_err_t *err);
static void kv_background_failed(kv_store_t *store, kv_rc_t rc, kv_err_t *err);
static kv_rc_t kv_background_scan(kv_scan_t *scan, kv_err_t *err);
static void kv_background_pause(kv_scan_t *scan);
static void kv_background_copy(void *data, const kv_entry_t *e);
static void kv_background_meta(const kv_entry_t *e, kv_record_t *rec,
    char *copy);
static bool kv_background_stays(const kv_scan_t *scan, const kv_entry_t *e,
    kv_record_t *rec);
static kv_rc_t kv_background_flush(kv_scan_t *scan, kv_err_t *err);
static kv_rc_t kv_background_large(kv_scan_t *scan, const kv_record_t *key,
    kv_err_t *err);
static kv_rc_t kv_background_fetch(kv_scan_t *scan, kv_record_t *rec,
    struct iovec *value, char *meta);
static void kv_background_value(const kv_entry_t *e, char *p);
static char *kv_background_buffer(kv_scan_t *scan, size_t n);
static unsigned kv_background_keep(const kv_snapshot_list_t *list,
    unsigned keep, uint64_t held);


kv_rc_t
kv_background_snapshot(kv_store_t *store)
{
    kv_rc_t     rc;
    kv_err_t    err;
    uint64_t    lsn, started, bytes;
    kv_scan_t   scan;
    kv_zone_t  *zone;

    zone = store->zone;
    started = kv_now_ns();

    memset(&scan, 0, sizeof(scan));
    scan.store = store;
    scan.paused = started;
    scan.time_ms = kv_clock_ms(zone);
    scan.lsn = atomic_load(&zone->wal.next_lsn);

    /* before the LSN, which is then not below that of the entry */

    kv_replica_last(zone, &scan.index, &scan.term);
    lsn = atomic_load(&zone->applied_lsn);

    /* now, or the log's growth meanwhile would request another at once */

    atomic_store(&zone->snapshot_log_bytes, atomic_load(&zone->wal.bytes));

    if (lsn == atomic_load(&zone->snapshot_lsn)) {
        return KV_DECLINED;
    }

    rc = kv_background_write(&scan, lsn, &bytes, &err);

    kv_mmap_free(scan.buf, scan.size);

    if (rc != KV_OK) {
        kv_background_failed(store, rc, &err);
        return rc;
    }

    atomic_store(&zone->snapshot_lsn, lsn);
    atomic_store(&zone->snapshot_bytes, bytes);
    atomic_store(&zone->snapshot_ms, (kv_now_ns() - started) / 1000000);
    atomic_store(&zone->snapshot_time_ms, scan.time_ms);
    (void) atomic_fetch_add(&zone->snapshots, 1);

    kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": snapshot of LSN %llu: "
                 "%llu records, %llu bytes, %llu ms", store->conf.name,
                 (unsigned long long) lsn, (unsigned long long) scan.records,
                 (unsigned long long) bytes,
                 (unsigned long long) atomic_load(&zone->snapshot_ms));

    kv_background_archive(store);

    rc = kv_background_purge(store, KV_SNAPSHOTS_KEPT, KV_SPARES_KEPT, true,
                             &err);

    if (rc != KV_OK) {
        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": old files stay: %s",
                     store->conf.name, err.text);
    }

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_PURGED);

    return KV_OK;
}


/* Writes the file, from the first byte to the name; *bytes is its size. */

static kv_rc_t
kv_background_write(kv_scan_t *scan, uint64_t lsn, uint64_t *bytes,
    kv_err_t *err)
{
    kv_rc_t              rc;
    uint64_t             end_lsn;
    kv_zone_t           *zone;
    kv_store_t          *store;
    kv_snapshot_about_t  about;

    store = scan->store;
    zone = store->zone;

    memset(&about, 0, sizeof(about));
    about.lsn = lsn;
    about.time_ms = scan->time_ms;
    memcpy(about.seed, zone->map.seed, sizeof(about.seed));
    about.id = kv_wal_id(&zone->wal);
    about.index = scan->index;
    about.term = scan->term;

    rc = kv_snapshot_begin(store->io, store->dirfd, &about, &scan->writer,
                           err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_BEGUN);

    rc = kv_background_scan(scan, err);
    end_lsn = atomic_load(&zone->wal.next_lsn) - 1;

    if (rc == KV_OK) {
        rc = kv_background_durable(store, end_lsn, err);
    }

    if (rc == KV_OK) {
        kv_failpoint(KV_FAILPOINT_SNAPSHOT_WALKED);

        rc = kv_snapshot_finish(scan->writer, end_lsn, bytes, err);
    }

    if (rc != KV_OK) {
        kv_snapshot_abort(scan->writer);
        return rc;
    }

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_NAMED);

    return KV_OK;
}


/*
 * Logs the failure.  The log keeps everything; the next try is when it has
 * grown by as much again.
 */

static void
kv_background_failed(kv_store_t *store, kv_rc_t rc, kv_err_t *err)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (rc == KV_CANCELLED) {
        return;
    }

    atomic_store(&zone->snapshot_failed_ms, kv_clock_ms(zone));
    (void) atomic_fetch_add(&zone->snapshots_failed, 1);

    if (rc == KV_NO_SPACE) {

        if (kv_state(zone) == KV_STATE_DISK_FULL) {
            return;                  /* logged, and tried again later */
        }

        kv_err_set(err, "the disk is full");

    } else if (rc == KV_NO_MEMORY) {
        kv_err_set(err, "out of memory");
    }

    kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": no snapshot in \"%s\": "
                 "%s; the log is kept instead", store->conf.name,
                 store->conf.path, err->text);
}


bool
kv_background_snapshot_gone(kv_store_t *store)
{
    uint64_t            lsn;
    kv_err_t            err;
    kv_snapshot_list_t  list;

    lsn = atomic_load(&store->zone->snapshot_lsn);

    if (lsn == 0
        || kv_snapshot_list(store->io, store->dirfd, &list, &err) != KV_OK
        || (list.n && list.lsn[0] >= lsn))
    {
        return false;
    }

    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\": \"" KV_SNAPSHOT_NAME
                 ".kvs\" is gone from \"%s\", and a start needs it: another "
                 "one is being made; do not stop nginx before the log tells of "
                 "it", store->conf.name, lsn, store->conf.path);

    atomic_store(&store->zone->snapshot_lsn, 0);

    return true;
}


static kv_rc_t
kv_background_scan(kv_scan_t *scan, kv_err_t *err)
{
    kv_rc_t      rc;
    uint64_t     next;
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = scan->store;
    zone = store->zone;
    next = 0;

    do {
        if (kv_spare_stopped(store)) {
            return KV_CANCELLED;
        }

        scan->len = 0;
        scan->gone = kv_clock_passed(zone);

        kv_epoch_enter(store->worker, KV_EPOCH_SCAN, &zone->retired.epoch);
        next = kv_map_walk(&zone->map, next, KV_SCAN_ENTRIES,
                           kv_background_copy, scan);

        kv_failpoint(KV_FAILPOINT_SNAPSHOT_COPY);

        kv_epoch_leave(store->worker, KV_EPOCH_SCAN);

        if (scan->no_memory) {
            return KV_NO_MEMORY;
        }

        kv_failpoint(KV_FAILPOINT_SNAPSHOT_STEP);

        rc = kv_background_flush(scan, err);

        if (rc != KV_OK) {
            return rc;
        }

        kv_background_pause(scan);

    } while (next);

    return KV_OK;
}


static void
kv_background_pause(kv_scan_t *scan)
{
    uint64_t          now, lsn, ns;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = scan->store->zone;

    kv_spare_if_asked(scan->store);
    kv_disk_space_if_asked(scan->store);

    now = kv_now_ns();

    if (now - scan->paused < KV_SCAN_WORK) {
        return;
    }

    lsn = atomic_load(&zone->wal.next_lsn);

    if (lsn != scan->lsn) {
        ns = kv_min((now - scan->paused) * KV_SCAN_PAUSE, KV_SCAN_PAUSE_MAX);

        pause.tv_sec = 0;
        pause.tv_nsec = (long) ns;

        (void) nanosleep(&pause, NULL);

        now = kv_now_ns();
    }

    scan->paused = now;
    scan->lsn = lsn;
}


/* In the epoch: copies a small entry, of a large one only the key. */

static void
kv_background_copy(void *data, const kv_entry_t *e)
{
    char          *p;
    kv_scan_t     *scan;
    kv_record_t    rec;
    struct iovec   value;

    scan = data;

    memset(&rec, 0, sizeof(rec));

    if (!kv_background_stays(scan, e, &rec)) {
        return;
    }

    rec.op = KV_OP_PUT;
    rec.lsn = kv_entry_lsn(e);
    rec.key = e->key;
    rec.key_len = e->key_len;

    if (e->flags & KV_ENTRY_PIECES) {
        rec.op = KV_OP_DELETE;           /* stands for a second lookup */

    } else {
        rec.value_len = e->value_len;
        rec.value = &value;
        rec.value_n = kv_entry_iov(e, &value, 1, 0);
        kv_background_meta(e, &rec, NULL);
    }

    p = kv_background_buffer(scan, kv_record_size(&rec));

    if (p) {
        kv_record_encode(&rec, p);
    }
}


/* The record's metadata, those of the entry; in `copy`, if it is not NULL. */

static void
kv_background_meta(const kv_entry_t *e, kv_record_t *rec, char *copy)
{
    rec->meta = kv_entry_meta(e, &rec->meta_len);

    if (rec->meta_len == 0) {
        return;
    }

    rec->flags |= KV_RECORD_META;

    if (copy) {
        rec->meta = memcpy(copy, rec->meta, rec->meta_len);
    }
}


/* False: it is gone.  Else sets the record's time of expiry, and its flags. */

static bool
kv_background_stays(const kv_scan_t *scan, const kv_entry_t *e,
    kv_record_t *rec)
{
    rec->expires = kv_entry_expires(e);
    rec->flags = KV_RECORD_LSN | (rec->expires ? KV_RECORD_EXPIRES : 0);

    return rec->expires == 0 || rec->expires > scan->gone;
}


static kv_rc_t
kv_background_flush(kv_scan_t *scan, kv_err_t *err)
{
    size_t         offset, len, n;
    kv_rc_t        rc;
    kv_record_t    rec;
    struct iovec   value;

    /* large values are appended to the buffer behind the step's records */

    len = scan->len;

    for (offset = 0; offset < len; offset += n) {

        n = kv_record_decode(scan->buf + offset, len - offset,
                             KV_FORMAT_VERSION, &rec, &value);

        if (rec.op == KV_OP_DELETE) {
            scan->len = len;
            rc = kv_background_large(scan, &rec, err);

            kv_background_pause(scan);

            if (rc == KV_OK && kv_spare_stopped(scan->store)) {
                rc = KV_CANCELLED;
            }

        } else {
            rc = kv_snapshot_add(scan->writer, &rec, err);
            scan->records++;
        }

        if (rc != KV_OK) {
            return rc;
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_background_large(kv_scan_t *scan, const kv_record_t *key, kv_err_t *err)
{
    kv_rc_t        rc;
    kv_record_t    rec;
    struct iovec   value;
    char           name[KV_KEY_MAX], meta[KV_META_MAX];

    /* the buffer that holds the key may move */

    memcpy(name, key->key, key->key_len);

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_PUT;
    rec.key = name;
    rec.key_len = key->key_len;
    rec.value = &value;
    rec.value_n = 1;

    rc = kv_background_fetch(scan, &rec, &value, meta);

    if (rc != KV_OK) {

        /* deleted since: a record after S says so; or expired */

        return rc == KV_NOT_FOUND ? KV_OK : rc;
    }

    scan->records++;

    return kv_snapshot_add(scan->writer, &rec, err);
}


/*
 * Copies the key's value behind what is in the buffer, and its metadata to
 * `meta`.  A large entry is pinned meanwhile: an epoch would keep all retired
 * memory from being freed.  KV_OK, KV_NOT_FOUND, KV_NO_MEMORY.
 */

static kv_rc_t
kv_background_fetch(kv_scan_t *scan, kv_record_t *rec, struct iovec *value,
    char *meta)
{
    bool          pinned;
    size_t        n, size;
    uint64_t      hash;
    kv_zone_t    *zone;
    kv_worker_t  *worker;
    kv_entry_t   *e;

    zone = scan->store->zone;
    worker = scan->store->worker;
    hash = kv_map_hash(&zone->map, rec->key, rec->key_len);
    size = 0;

    /* memory first, then the epoch: the size may change in between */

    for ( ;; ) {
        kv_epoch_enter(worker, KV_EPOCH_SCAN, &zone->retired.epoch);

        e = kv_map_find(&zone->map, hash, rec->key, rec->key_len);

        if (e == NULL || !kv_background_stays(scan, e, rec)) {
            kv_epoch_leave(worker, KV_EPOCH_SCAN);
            return KV_NOT_FOUND;
        }

        if (e->value_len <= size) {
            break;
        }

        size = e->value_len;
        kv_epoch_leave(worker, KV_EPOCH_SCAN);

        n = scan->len;

        if (kv_background_buffer(scan, size) == NULL) {
            return KV_NO_MEMORY;
        }

        scan->len = n;
    }

    pinned = e->flags & KV_ENTRY_PIECES;

    if (pinned) {
        kv_epoch_pin_scanned(worker, e);
        kv_epoch_leave(worker, KV_EPOCH_SCAN);
    }

    value->iov_base = scan->buf + scan->len;
    value->iov_len = e->value_len;
    rec->value_len = e->value_len;
    rec->lsn = kv_entry_lsn(e);

    kv_background_meta(e, rec, meta);
    kv_background_value(e, value->iov_base);

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_LARGE);

    if (pinned) {
        kv_epoch_unpin_scanned(&zone->retired, worker);

    } else {
        kv_epoch_leave(worker, KV_EPOCH_SCAN);
    }

    return KV_OK;
}


static void
kv_background_value(const kv_entry_t *e, char *p)
{
    size_t         i, k, n;
    struct iovec   iov[16];

    for (i = 0; (n = kv_entry_iov(e, iov, 16, i)) != 0; i += n) {

        for (k = 0; k < n; k++) {
            memcpy(p, iov[k].iov_base, iov[k].iov_len);
            p += iov[k].iov_len;
        }
    }
}


/* Takes `n` more bytes of the buffer; NULL: out of memory. */

static char *
kv_background_buffer(kv_scan_t *scan, size_t n)
{
    char    *p;
    size_t   size;

    if (scan->len + n > scan->size) {

        size = kv_max(scan->size * 2, (size_t) 1 << 18);
        size = kv_max(size, scan->len + n);

        p = kv_mmap_alloc(size);

        if (p == NULL) {
            scan->no_memory = true;
            return NULL;
        }

        if (scan->len) {
            memcpy(p, scan->buf, scan->len);
        }

        kv_mmap_free(scan->buf, scan->size);

        scan->buf = p;
        scan->size = size;
    }

    p = scan->buf + scan->len;
    scan->len += n;

    return p;
}


kv_rc_t
kv_background_durable(kv_store_t *store, uint64_t lsn, kv_err_t *err)
{
    kv_rc_t           rc;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = store->zone;

    pause.tv_sec = 0;
    pause.tv_nsec = 2000000;

    while (atomic_load(&zone->wal.durable_lsn) < lsn) {

        if (kv_spare_stopped(store)) {
            return KV_CANCELLED;
        }

        /*
         * This thread syncs, too: the committer may need this very thread, if
         * the pool has no other.
         */

        rc = kv_committer_sync_now(store);

        if (rc == KV_UNAVAILABLE && !kv_spare_stopped(store)) {
            kv_err_set(err, "the log cannot be synced");
            return KV_ERROR;
        }

        if (rc == KV_AGAIN) {
            (void) nanosleep(&pause, NULL);
        }
    }

    return KV_OK;
}


kv_rc_t
kv_background_purge(kv_store_t *store, unsigned keep, unsigned spares,
    bool gently, kv_err_t *err)
{
    kv_rc_t              rc;
    kv_err_t             other;
    uint64_t             current, held, archived;
    kv_io_pace_t         asked, stopped;
    kv_snapshot_list_t   list;

    /* before the list, so that it cannot be newer than what is in use */

    current = atomic_load(&store->zone->current_segment);
    held = kv_hold_least(store->zone, keep < KV_SNAPSHOTS_KEPT);
    archived = kv_background_archived(store, keep < KV_SNAPSHOTS_KEPT);

    if (kv_snapshot_list(store->io, store->dirfd, &list, err) != KV_OK) {
        return KV_ERROR;
    }

    keep = kv_background_keep(&list, keep, held);

    asked.check = kv_spare_asked_or_stopped;
    asked.ctx = store;

    rc = kv_snapshot_purge(store->io, store->dirfd, keep, false,
                           gently ? &asked : NULL, err);

    kv_failpoint(KV_FAILPOINT_PURGING);

    /* a snapshot that cannot be deleted is no reason to keep the log */

    if (kv_snapshot_list(store->io, store->dirfd, &list, &other) != KV_OK) {
        *err = other;
        return KV_ERROR;
    }

    if (list.n < keep) {

        /* without a second snapshot, the log from its start is the spare */

        return rc;
    }

    /* kv_wal_purge() makes spare segments itself, first of all */

    stopped.check = kv_spare_stopped;
    stopped.ctx = store;

    held = kv_min(held, archived);

    if (kv_wal_purge(store->background, kv_min(list.lsn[keep - 1], held),
                     current, spares, gently ? &stopped : NULL, &other)
        != KV_OK)
    {
        *err = other;
        rc = KV_ERROR;
    }

    if (archived == UINT64_MAX) {

        /* there may be a gap in it now, which is told at once */

        kv_background_archive(store);
    }

    return rc;
}


/* How many snapshots stay: those from the LSN `held` on, too. */

static unsigned
kv_background_keep(const kv_snapshot_list_t *list, unsigned keep,
    uint64_t held)
{
    unsigned  n;

    for (n = 0; n < list->n && list->lsn[n] >= held; n++) { /* void */ }

    return kv_max(keep, kv_min(n, KV_SNAPSHOTS_MAX - 1));
}
