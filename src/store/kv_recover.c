
/*
 * Recovery; see kv_recover.h.  Replaying from S repairs whatever changed
 * while the snapshot was walked, because records carry results.
 *
 *
 * A zone that was nearly full
 *
 * What a snapshot and the log hold can be more, on the way, than the zone
 * ever had at one time: the walk saw keys that were deleted while it went on,
 * and others that took their room.  So a put that finds no room is no failure
 * yet.  Its key's older value goes (it is outdated anyway), the key is
 * remembered as missing, and the reading goes on; a later record may replace
 * or delete it.  If keys are missing at the end, when all that was to go is
 * gone, everything is read again for these keys alone.
 *
 * The map never shrinks, so keys that are gone may still hold the room that is
 * missing then.  In this case all starts over, with a map that is not made
 * larger than it has to be; that of the old zone was hardly smaller.
 */


#include <errno.h>
#include <stdlib.h>

#include "store/kv_compact.h"
#include "store/kv_handle.h"
#include "base/kv_failpoint.h"
#include "base/kv_prefault.h"
#include "store/kv_recover.h"
#include "disk/kv_snapshot.h"


/*
 * Puts whose entries are made, but not in the map yet: while they gather, the
 * processor fetches their buckets, and finds them at once in the end.
 */
#define KV_RECOVER_AHEAD  16

/* bytes of records after which the thread that gets memory is told */
#define KV_RECOVER_TELL   (1u << 20)


typedef struct {
    uint64_t      hash;
    kv_entry_t   *e;
} kv_ahead_t;


/*
 * Hashes of keys, in open addressing.  The lowest bit says whether the key is
 * missing now; a slot of 0 is empty.  Two keys of one hash do no harm: both
 * are read again.
 */

typedef struct {
    uint64_t     *cell;
    size_t        size;              /* a power of two, or 0 */
    size_t        used;
    size_t        missing;
} kv_missing_t;


typedef struct {
    kv_store_t   *store;
    kv_err_t     *err;
    uint64_t      snapshot;          /* the one that is used; 0: none */
    kv_wal_replay_t  from;           /* what the log has to give */
    kv_snapshot_list_t  bad;         /* snapshots that will not do */
    kv_err_t      unread;            /* the first that could not be read */
    uint64_t      records;
    uint64_t      bytes;             /* of the log's records */
    uint64_t      cleared_lsn;       /* of the last clear */
    uint64_t      keys_max;          /* that the map may be made for */
    uint64_t      keys_most;         /* that it had at one time */
    bool          again;             /* this is not the first reading */
    kv_missing_t  missing;
    kv_missing_t  wanted;            /* again: those missing before */
    kv_ahead_t    ahead[KV_RECOVER_AHEAD];
    unsigned      ahead_n;
    kv_prefault_t pop;
    uint64_t      pop_bytes;         /* when it is to be told the next time */
} kv_recover_ctx_t;


static kv_rc_t kv_recover_snapshots(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_snapshot(kv_recover_ctx_t *ctx, uint64_t lsn,
    kv_err_t *err);
static void kv_recover_next(kv_recover_ctx_t *ctx,
    const kv_snapshot_list_t *list, unsigned i, const kv_err_t *err);
static void kv_recover_put_aside(kv_recover_ctx_t *ctx);
static void kv_recover_warn(void *data, const char *text);
static kv_rc_t kv_recover_reset(kv_recover_ctx_t *ctx);
static void kv_recover_expect(kv_zone_t *zone,
    const kv_snapshot_guess_t *guess);
static kv_rc_t kv_recover_read(kv_recover_ctx_t *ctx, uint64_t lsn,
    uint64_t room, uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err);
static kv_rc_t kv_recover_replay(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_record(void *data, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_recover_put(kv_recover_ctx_t *ctx, const kv_record_t *rec,
    uint64_t hash);
static kv_rc_t kv_recover_link(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_entry(kv_recover_ctx_t *ctx, const kv_record_t *rec,
    kv_entry_t **e);
static bool kv_recover_make_room(kv_store_t *store);
static kv_rc_t kv_recover_delete(kv_zone_t *zone, const kv_record_t *rec,
    uint64_t hash);
static kv_rc_t kv_recover_again(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_tight(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_all(kv_recover_ctx_t *ctx);
static uint64_t *kv_missing_find(kv_missing_t *set, uint64_t hash);
static bool kv_missing_set(kv_missing_t *set, uint64_t hash, bool missing);
static bool kv_missing_has(kv_missing_t *set, uint64_t hash);


kv_rc_t
kv_recover(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t            rc;
    uint64_t           started, records, bytes;
    kv_zone_t         *zone;
    kv_recover_ctx_t   ctx;

    zone = store->zone;
    started = kv_now_ns();

    memset(&ctx, 0, sizeof(ctx));
    ctx.store = store;
    ctx.err = err;
    ctx.keys_max = UINT64_MAX;
    ctx.from.record = kv_recover_record;
    ctx.from.warn = kv_recover_warn;
    ctx.from.ctx = &ctx;

    rc = kv_recover_snapshots(&ctx);

    if (rc != KV_OK) {
        return rc;
    }

    atomic_store(&zone->recovered_snapshot, ctx.records);
    ctx.records = 0;
    ctx.bytes = 0;

    rc = kv_recover_replay(&ctx);

    records = ctx.records;
    bytes = ctx.bytes;

    if (rc == KV_OK && ctx.missing.missing) {
        rc = kv_recover_again(&ctx);
    }

    free(ctx.missing.cell);

    if (rc != KV_OK) {
        return rc;
    }

    kv_recover_put_aside(&ctx);

    /* a snapshot that was cut short; none is being made now */

    if (kv_snapshot_purge(store->io, store->dirfd, KV_SNAPSHOTS_MAX - 1,
                          false, NULL, err)
        != KV_OK)
    {
        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": an unfinished file "
                     "stays: %s", store->conf.name, err->text);
    }

    /*
     * What was read may be in the page cache only, if it was a process that
     * died and not the machine.
     */

    if (zone->wal.segment_size) {
        rc = kv_wal_sync(store->wal, err);

        if (rc == KV_NO_SPACE) {

            /* it is read from all the same; writes wait for room */

            kv_state_refused(store, rc, 0, err);

        } else if (rc != KV_OK) {
            return rc;
        }
    }

    (void) kv_epoch_reclaim(&zone->retired);

    /* the log since the snapshot counts towards the next one */

    atomic_store(&zone->snapshot_log_bytes,
                 atomic_load(&zone->wal.bytes) - bytes);
    atomic_store(&zone->unsynced, 0);

    atomic_store(&zone->recovered_log, records);
    atomic_store(&zone->applied_lsn, atomic_load(&zone->wal.next_lsn) - 1);
    atomic_store(&zone->current_segment, zone->wal.segment_lsn);
    atomic_store(&zone->snapshot_lsn, ctx.from.after);
    zone->checked_lsn = ctx.snapshot;
    atomic_store(&zone->recovery_ms, (kv_now_ns() - started) / 1000000);

    kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": recovered %llu keys "
                 "from \"%s\" in %llu ms: %llu records of a snapshot, %llu "
                 "of the log, next LSN %llu",
                 store->conf.name,
                 (unsigned long long) atomic_load(&zone->map.keys),
                 store->conf.path,
                 (unsigned long long) atomic_load(&zone->recovery_ms),
                 (unsigned long long) atomic_load(&zone->recovered_snapshot),
                 (unsigned long long) records,
                 (unsigned long long) atomic_load(&zone->wal.next_lsn));

    return KV_OK;
}


/*
 * The newest snapshot that checks out; with none, an empty map and LSN 0: the
 * log from its start is kept until there are two snapshots.
 */

static kv_rc_t
kv_recover_snapshots(kv_recover_ctx_t *ctx)
{
    kv_rc_t              rc;
    unsigned             i;
    kv_err_t             err;
    kv_store_t          *store;
    kv_snapshot_list_t   list;

    store = ctx->store;

    rc = kv_snapshot_list(store->io, store->dirfd, &list, ctx->err);

    if (rc != KV_OK) {
        return rc;
    }

    for (i = 0; i < list.n; i++) {

        rc = kv_recover_snapshot(ctx, list.lsn[i], &err);

        if (rc == KV_OK) {
            return KV_OK;
        }

        if (rc == KV_ERROR && kv_snapshot_lost(errno)) {

            /* for the refusal, if there is nothing else to begin with */

            if (ctx->unread.text[0] == '\0') {
                ctx->unread = err;
            }

            rc = KV_DAMAGED;
        }

        if (rc != KV_DAMAGED) {

            /* the callback has filled ctx->err itself */

            if (rc == KV_ERROR || rc == KV_DECLINED) {
                *ctx->err = err;
            }

            return rc == KV_DECLINED ? KV_DAMAGED : rc;
        }

        kv_recover_next(ctx, &list, i, &err);
    }

    atomic_store(&store->zone->snapshot_bytes, 0);

    return kv_recover_reset(ctx);
}


/* All of one snapshot; results as those of kv_snapshot_read(). */

static kv_rc_t
kv_recover_snapshot(kv_recover_ctx_t *ctx, uint64_t lsn, kv_err_t *err)
{
    kv_rc_t              rc;
    uint64_t             bytes, end;
    kv_store_t          *store;
    kv_snapshot_guess_t  guess;

    store = ctx->store;

    kv_snapshot_guess(store->io, store->dirfd, lsn, &guess);

    /*
     * The map takes the seed of the one that the snapshot was made from: so
     * its keys come in the order of its own buckets, and no access is far from
     * the one before.  Nobody keeps a hash.
     */

    memcpy(store->zone->map.seed, guess.seed, sizeof(guess.seed));

    rc = kv_recover_reset(ctx);

    if (rc != KV_OK) {
        return rc;
    }

    kv_recover_expect(store->zone, &guess);

    ctx->records = 0;

    rc = kv_recover_read(ctx, lsn, guess.bytes, &end, &bytes, err);

    if (rc != KV_OK) {
        return rc;
    }

    ctx->snapshot = lsn;
    ctx->from.after = lsn;
    ctx->from.must_reach = end;
    atomic_store(&store->zone->snapshot_bytes, bytes);

    if (bytes < guess.bytes) {
        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": \"" KV_SNAPSHOT_NAME
                     ".kvs\" ends at offset %llu, but the file goes on for "
                     "%llu bytes: they are ignored", store->conf.name, lsn,
                     (unsigned long long) bytes,
                     (unsigned long long) (guess.bytes - bytes));
    }

    rc = end > lsn ? kv_snapshot_alone(store->io, store->dirfd, lsn, ctx->err)
                   : KV_NOT_FOUND;

    if (rc == KV_OK) {
        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": \"" KV_SNAPSHOT_NAME
                     ".alone\" is there: the snapshot is taken for the state "
                     "at LSN %llu", store->conf.name, lsn,
                     (unsigned long long) end);
        ctx->from.after = end;
    }

    return rc == KV_NOT_FOUND ? KV_OK : rc;
}


/* list->lsn[i] will not do. */

static void
kv_recover_next(kv_recover_ctx_t *ctx, const kv_snapshot_list_t *list,
    unsigned i, const kv_err_t *err)
{
    char         next[80];
    kv_store_t  *store;

    store = ctx->store;

    ctx->bad.lsn[ctx->bad.n++] = list->lsn[i];
    ctx->from.newer = list->lsn[0];

    if (i + 1 < list->n) {
        (void) snprintf(next, sizeof(next), "older snapshot, of LSN %llu, and "
                        "its log", (unsigned long long) list->lsn[i + 1]);

    } else {
        (void) snprintf(next, sizeof(next), "log alone");
    }

    kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": %s; trying the %s",
                 store->conf.name, err->text, next);
}


/*
 * All that was acknowledged was found without them: they must not count as the
 * snapshots that are kept.
 */

static void
kv_recover_put_aside(kv_recover_ctx_t *ctx)
{
    unsigned     i;
    kv_err_t     err;
    kv_store_t  *store;

    store = ctx->store;

    for (i = ctx->bad.n; i--; /* void */ ) {

        if (kv_snapshot_put_aside(store->io, store->dirfd, ctx->bad.lsn[i],
                                  &err)
            == KV_OK)
        {
            kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": nothing is "
                         "lost; the snapshot is now called \"" KV_SNAPSHOT_NAME
                         ".kvs.damaged\": the newest %u of these are kept, "
                         "until the disk is full or you delete them",
                         store->conf.name, ctx->bad.lsn[i],
                         KV_SNAPSHOTS_ASIDE);
            continue;
        }

        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": %s; move the file "
                     "out of the directory", store->conf.name, err.text);
    }
}


static void
kv_recover_warn(void *data, const char *text)
{
    kv_recover_ctx_t  *ctx = data;

    if (!ctx->again) {
        kv_store_log(ctx->store, KV_LOG_WARN, "kv zone \"%s\": %s",
                     ctx->store->conf.name, text);
    }
}


static kv_rc_t
kv_recover_reset(kv_recover_ctx_t *ctx)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = ctx->store->zone;

    ctx->ahead_n = 0;

    kv_heap_format(zone->heap);
    kv_retire_list_create(&zone->retired, zone->heap, zone->workers,
                          zone->nworkers);

    rc = kv_map_create(&zone->map, zone->heap, &zone->retired, zone->directory,
                       zone->size);

    if (rc != KV_OK) {
        kv_err_set(ctx->err, "zone \"%s\" is too small for an empty map",
                   ctx->store->conf.name);
    }

    return rc;
}


/*
 * Makes the map as large as the snapshot will need it, unless the zone may get
 * so full that entries need the room more.
 */

static void
kv_recover_expect(kv_zone_t *zone, const kv_snapshot_guess_t *guess)
{
    size_t    size;
    uint64_t  need;

    (void) kv_heap_pages(zone->heap, &size);

    /* an entry may take about an eighth more than its record: see kv_heap.c */

    need = guess->bytes + guess->bytes / 8
           + guess->records * sizeof(kv_bucket_t) / KV_MAP_LOAD;

    if (need < size - size / 8) {
        kv_map_expect(&zone->map, guess->records);
    }
}


/*
 * All of a snapshot; results as those of kv_snapshot_read().  `room` is about
 * what its entries will take, or 0 if that is there already.
 */

static kv_rc_t
kv_recover_read(kv_recover_ctx_t *ctx, uint64_t lsn, uint64_t room,
    uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err)
{
    int       saved;
    void     *pages;
    size_t    size;
    kv_rc_t   rc;

    pages = kv_heap_pages(ctx->store->zone->heap, &size);

    ctx->bytes = 0;
    ctx->pop_bytes = 0;

    kv_prefault_begin(&ctx->pop, pages, kv_min(room, size));

    rc = kv_snapshot_read(ctx->store->io, ctx->store->dirfd, lsn,
                          kv_recover_record, ctx, end_lsn, bytes, err);

    saved = errno;
    kv_prefault_end(&ctx->pop);
    errno = saved;

    return rc == KV_OK ? kv_recover_link(ctx) : rc;
}


/* The same of the log. */

static kv_rc_t
kv_recover_replay(kv_recover_ctx_t *ctx)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_wal_replay(ctx->store->wal, &ctx->from, ctx->err);

    if (rc == KV_DAMAGED && ctx->unread.text[0]) {

        /* the disk may give it another time, and all is well */

        err = *ctx->err;
        kv_err_set(ctx->err, "%.240s; and without it: %.500s",
                   ctx->unread.text, err.text);
        errno = EIO;
        return KV_ERROR;
    }

    return rc == KV_OK ? kv_recover_link(ctx) : rc;
}


static kv_rc_t
kv_recover_record(void *data, uint64_t lsn, const kv_record_t *rec)
{
    kv_rc_t            rc;
    uint64_t           hash;
    kv_zone_t         *zone;
    kv_recover_ctx_t  *ctx;

    ctx = data;
    zone = ctx->store->zone;

    if (kv_store_stopping(ctx->store)) {
        return KV_CANCELLED;
    }

    kv_failpoint(KV_FAILPOINT_RECOVERING);

    ctx->records++;
    ctx->bytes += kv_record_size(rec);

    if (ctx->bytes >= ctx->pop_bytes) {
        kv_prefault_used(&ctx->pop, ctx->bytes);
        ctx->pop_bytes = ctx->bytes + KV_RECOVER_TELL;
    }

    if (rec->op == KV_OP_CLEAR) {

        if (ctx->again) {
            return KV_OK;            /* done the first time */
        }

        ctx->cleared_lsn = lsn;

        if (ctx->missing.size) {
            memset(ctx->missing.cell, 0,
                   ctx->missing.size * sizeof(uint64_t));
            ctx->missing.used = 0;
            ctx->missing.missing = 0;
        }

        rc = kv_recover_link(ctx);

        kv_map_unreserve(&zone->map);

        if (rc == KV_OK) {
            rc = kv_map_clearable(&zone->map, 1);
        }

        if (rc != KV_OK) {
            return rc;
        }

        kv_map_clear(&zone->map);

        return kv_map_sweep(&zone->map, UINT32_MAX);
    }

    hash = kv_map_hash(&zone->map, rec->key, rec->key_len);

    if (ctx->again
        && (lsn < ctx->cleared_lsn || !kv_missing_has(&ctx->wanted, hash)))
    {
        return KV_OK;
    }

    if (rec->op == KV_OP_PUT) {
        return kv_recover_put(ctx, rec, hash);
    }

    if (ctx->missing.missing) {
        (void) kv_missing_set(&ctx->missing, hash, false);
    }

    rc = kv_recover_link(ctx);

    return rc == KV_OK ? kv_recover_delete(zone, rec, hash) : rc;
}


static kv_rc_t
kv_recover_put(kv_recover_ctx_t *ctx, const kv_record_t *rec, uint64_t hash)
{
    kv_rc_t      rc;
    kv_ahead_t  *put;
    kv_entry_t  *e;

    rc = kv_recover_entry(ctx, rec, &e);

    if (rc == KV_NO_MEMORY) {

        /* the older value is of no use now, and may be all the room */

        rc = kv_recover_link(ctx);

        kv_map_unreserve(&ctx->store->zone->map);

        if (rc == KV_OK) {
            rc = kv_recover_delete(ctx->store->zone, rec, hash);
        }

        if (rc == KV_OK) {
            rc = kv_recover_entry(ctx, rec, &e);
        }

        while (rc == KV_NO_MEMORY && kv_recover_make_room(ctx->store)) {
            rc = kv_recover_entry(ctx, rec, &e);
        }
    }

    if (rc == KV_NO_MEMORY) {

        if (kv_missing_set(&ctx->missing, hash, true)) {
            return KV_OK;
        }

        kv_err_set(ctx->err, "out of memory for the keys of zone \"%s\"",
                   ctx->store->conf.name);
        return KV_AGAIN;
    }

    if (rc != KV_OK) {
        return rc;
    }

    if (ctx->missing.missing) {
        (void) kv_missing_set(&ctx->missing, hash, false);
    }

    put = &ctx->ahead[ctx->ahead_n++];
    put->hash = hash;
    put->e = e;

    kv_map_prefetch(&ctx->store->zone->map, hash);

    return ctx->ahead_n == KV_RECOVER_AHEAD ? kv_recover_link(ctx) : KV_OK;
}


/* Puts into the map what has gathered.  KV_OK or KV_DEAD. */

static kv_rc_t
kv_recover_link(kv_recover_ctx_t *ctx)
{
    kv_rc_t      rc;
    unsigned     i;
    uint64_t     keys;
    kv_zone_t   *zone;
    kv_entry_t  *old;

    zone = ctx->store->zone;

    for (i = 0; i < ctx->ahead_n; i++) {

        old = kv_map_put(&zone->map, ctx->ahead[i].hash, ctx->ahead[i].e);

        /* nobody reads yet, so there is no need for the retire list */

        if (old) {
            rc = kv_entry_destroy(zone->heap, &old);

            if (rc != KV_OK) {
                return rc;
            }
        }
    }

    ctx->ahead_n = 0;

    keys = kv_get_relaxed(zone->map.keys);
    ctx->keys_most = kv_max(ctx->keys_most, keys);

    if (keys <= ctx->keys_max) {
        kv_map_grow(&zone->map);
    }

    /* what a split emptied is used again, and takes no more pages */

    (void) kv_epoch_reclaim(&zone->retired);

    return KV_OK;
}


/* KV_OK with an entry and the map's reserve for it, KV_NO_MEMORY, KV_DEAD. */

static kv_rc_t
kv_recover_entry(kv_recover_ctx_t *ctx, const kv_record_t *rec, kv_entry_t **e)
{
    int         puts;
    size_t      i;
    kv_rc_t     rc;
    uint32_t    offset;
    kv_zone_t  *zone;

    zone = ctx->store->zone;
    puts = (int) ctx->ahead_n + 1;

    if (kv_map_reserve(&zone->map, (unsigned) puts) != puts) {
        return KV_NO_MEMORY;
    }

    rc = kv_entry_create(zone->heap, e, rec->key, rec->key_len,
                         rec->value_len);

    if (rc != KV_OK) {
        return rc;
    }

    for (i = 0, offset = 0; i < rec->value_n; i++) {
        kv_entry_write(*e, offset, rec->value[i].iov_base,
                       rec->value[i].iov_len);
        offset += (uint32_t) rec->value[i].iov_len;
    }

    return KV_OK;
}


/* Whether it is worth another try. */

static bool
kv_recover_make_room(kv_store_t *store)
{
    kv_rc_t     rc;
    unsigned    waiting;
    kv_zone_t  *zone;

    zone = store->zone;

    waiting = kv_epoch_count(&zone->retired);

    rc = kv_compact_page(zone, true);

    (void) kv_epoch_reclaim(&zone->retired);

    return rc == KV_OK || waiting;
}


static kv_rc_t
kv_recover_delete(kv_zone_t *zone, const kv_record_t *rec, uint64_t hash)
{
    kv_entry_t  *old;

    old = kv_map_delete(&zone->map, hash, rec->key, rec->key_len);

    return old ? kv_entry_destroy(zone->heap, &old) : KV_OK;
}


/* Reads everything again for the keys that are missing. */

static kv_rc_t
kv_recover_again(kv_recover_ctx_t *ctx)
{
    kv_rc_t   rc;
    uint64_t  keys;

    rc = KV_OK;

    while (rc == KV_OK && ctx->missing.missing) {

        ctx->again = true;
        ctx->wanted = ctx->missing;
        memset(&ctx->missing, 0, sizeof(kv_missing_t));

        rc = kv_recover_all(ctx);

        free(ctx->wanted.cell);

        if (rc != KV_OK || ctx->missing.missing < ctx->wanted.missing) {
            continue;
        }

        if (ctx->keys_max == UINT64_MAX) {
            rc = kv_recover_tight(ctx);
            continue;
        }

        keys = atomic_load(&ctx->store->zone->map.keys);

        kv_err_set(ctx->err, "the zone of %zu bytes is too small for what the "
                   "directory holds: there is room for %llu keys, and none "
                   "for %zu more; give it a larger size",
                   ctx->store->zone->size, (unsigned long long) keys,
                   ctx->missing.missing);
        rc = KV_NO_MEMORY;
    }

    return rc;
}


/*
 * Starts over, with a map for the keys of the end, or for an eighth of the most
 * that there were, as long chains of buckets make it slow.
 */

static kv_rc_t
kv_recover_tight(kv_recover_ctx_t *ctx)
{
    kv_rc_t  rc;

    ctx->keys_max = kv_max(atomic_load(&ctx->store->zone->map.keys)
                           + ctx->missing.missing, ctx->keys_most / 8);
    ctx->again = false;

    free(ctx->missing.cell);
    memset(&ctx->missing, 0, sizeof(kv_missing_t));

    rc = kv_recover_reset(ctx);

    return rc == KV_OK ? kv_recover_all(ctx) : rc;
}


/* Not for the first time: a clear in the log makes the snapshot useless. */

static kv_rc_t
kv_recover_all(kv_recover_ctx_t *ctx)
{
    kv_rc_t   rc;
    uint64_t  bytes, end;

    if (ctx->snapshot && ctx->cleared_lsn == 0) {
        rc = kv_recover_read(ctx, ctx->snapshot, 0, &end, &bytes, ctx->err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    return kv_recover_replay(ctx);
}


/* The hash's slot, or the empty one where it would be. */

static uint64_t *
kv_missing_find(kv_missing_t *set, uint64_t hash)
{
    size_t  i;

    for (i = hash >> 1; /* void */ ; i++) {
        i &= set->size - 1;

        if (set->cell[i] == 0 || (set->cell[i] | 1) == (hash | 1)) {
            return &set->cell[i];
        }
    }
}


/* False if it is out of memory. */

static bool
kv_missing_set(kv_missing_t *set, uint64_t hash, bool missing)
{
    size_t         i;
    uint64_t      *cell;
    kv_missing_t   more;

    hash |= 2;                       /* never an empty slot's value */

    if (missing && set->used * 2 >= set->size) {
        more = *set;
        more.size = set->size ? set->size * 2 : 1024;
        more.cell = calloc(more.size, sizeof(uint64_t));

        if (more.cell == NULL) {
            return false;
        }

        for (i = 0; i < set->size; i++) {
            if (set->cell[i]) {
                *kv_missing_find(&more, set->cell[i]) = set->cell[i];
            }
        }

        free(set->cell);
        *set = more;
    }

    cell = kv_missing_find(set, hash);

    if (*cell == 0) {

        if (!missing) {
            return true;
        }

        set->used++;
        *cell = hash & ~UINT64_C(1);
    }

    if ((*cell & 1) != missing) {
        *cell ^= 1;
        set->missing += missing ? 1 : (size_t) -1;
    }

    return true;
}


static bool
kv_missing_has(kv_missing_t *set, uint64_t hash)
{
    return *kv_missing_find(set, hash | 2) & 1;
}
