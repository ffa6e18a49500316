
/*
 * Recovery; see kv_recover.h.  Replaying from S repairs whatever changed
 * while the snapshot was walked, because records carry results.
 */


#include "kv_recover.h"
#include "kv_snapshot.h"


/* puts between two looks at the map's load */
#define KV_RECOVER_GROW  16


typedef struct {
    kv_store_t  *store;
    kv_err_t    *err;
    uint64_t     records;
    uint64_t     bytes;              /* of the log's records */
} kv_recover_ctx_t;


static kv_rc_t kv_recover_snapshots(kv_recover_ctx_t *ctx, uint64_t *lsn,
    uint64_t *end_lsn);
static kv_rc_t kv_recover_reset(kv_store_t *store, kv_err_t *err);
static kv_rc_t kv_recover_record(void *data, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_recover_put(kv_recover_ctx_t *ctx, const kv_record_t *rec);
static kv_rc_t kv_recover_drop(kv_zone_t *zone, kv_entry_t *e);


kv_rc_t
kv_recover(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t            rc;
    uint64_t           started, lsn, end_lsn;
    kv_zone_t         *zone;
    kv_recover_ctx_t   ctx;

    zone = store->zone;
    started = kv_now_ns();

    ctx.store = store;
    ctx.err = err;
    ctx.records = 0;
    ctx.bytes = 0;

    rc = kv_recover_snapshots(&ctx, &lsn, &end_lsn);

    if (rc != KV_OK) {
        return rc;
    }

    atomic_store(&zone->recovered_snapshot, ctx.records);
    ctx.records = 0;
    ctx.bytes = 0;

    rc = kv_log_replay(store->log, lsn, end_lsn, kv_recover_record, &ctx, err);

    if (rc != KV_OK) {
        return rc;
    }

    /*
     * What was read may be in the page cache only, if it was a process that
     * died and not the machine.
     */

    if (zone->log.segment_size) {
        rc = kv_log_sync(store->log, err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    (void) kv_limbo_reclaim(&zone->limbo);

    /* the log since the snapshot counts towards the next one */

    atomic_store(&zone->snapshot_log_bytes,
                 atomic_load(&zone->log.bytes) - ctx.bytes);
    atomic_store(&zone->unsynced, 0);

    atomic_store(&zone->recovered_log, ctx.records);
    atomic_store(&zone->applied_lsn, atomic_load(&zone->log.next_lsn) - 1);
    atomic_store(&zone->current_segment, zone->log.segment_lsn);
    atomic_store(&zone->snapshot_lsn, lsn);
    atomic_store(&zone->recovery_ms, (kv_now_ns() - started) / 1000000);

    kv_store_say(store, KV_LOG_NOTICE, "kv zone \"%s\": recovered %llu keys "
                 "from \"%s\" in %llu ms: %llu records of a snapshot, %llu "
                 "of the log, next LSN %llu",
                 store->conf.name,
                 (unsigned long long) atomic_load(&zone->map.keys),
                 store->conf.path,
                 (unsigned long long) atomic_load(&zone->recovery_ms),
                 (unsigned long long) atomic_load(&zone->recovered_snapshot),
                 (unsigned long long) ctx.records,
                 (unsigned long long) atomic_load(&zone->log.next_lsn));

    return KV_OK;
}


/*
 * The newest snapshot that checks out; with none, an empty map and LSN 0.
 * If all there are were damaged, the first one's error is what to tell.
 */

static kv_rc_t
kv_recover_snapshots(kv_recover_ctx_t *ctx, uint64_t *lsn, uint64_t *end_lsn)
{
    kv_rc_t              rc;
    unsigned             i;
    uint64_t             bytes;
    kv_err_t             damage;
    kv_store_t          *store;
    kv_snapshot_list_t   list;

    store = ctx->store;

    rc = kv_snapshot_list(store->io, store->dirfd, &list, ctx->err);

    if (rc != KV_OK) {
        return rc;
    }

    for (i = 0; i < list.n; i++) {

        rc = kv_recover_reset(store, ctx->err);

        if (rc != KV_OK) {
            return rc;
        }

        ctx->records = 0;

        rc = kv_snapshot_read(store->io, store->dirfd, list.lsn[i],
                              kv_recover_record, ctx, end_lsn, &bytes,
                              &damage);

        if (rc == KV_OK) {
            *lsn = list.lsn[i];
            atomic_store(&store->zone->snapshot_bytes, bytes);

            return KV_OK;
        }

        if (rc != KV_DAMAGED) {

            /* the callback has filled ctx->err itself */

            if (rc == KV_ERROR) {
                *ctx->err = damage;
            }

            return rc;
        }

        if (i + 1 == list.n) {
            *ctx->err = damage;
            return KV_DAMAGED;
        }

        kv_store_say(store, KV_LOG_WARN, "kv zone \"%s\": %s; trying the "
                     "older snapshot, of LSN %llu, and its log",
                     store->conf.name, damage.text,
                     (unsigned long long) list.lsn[i + 1]);
    }

    *lsn = 0;
    *end_lsn = 0;
    atomic_store(&store->zone->snapshot_bytes, 0);

    return kv_recover_reset(store, ctx->err);
}


static kv_rc_t
kv_recover_reset(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_heap_format(zone->heap);
    kv_limbo_create(&zone->limbo, zone->heap, zone->slots, zone->nslots);

    rc = kv_map_create(&zone->map, zone->heap, &zone->limbo, zone->directory,
                       zone->size);

    if (rc != KV_OK) {
        kv_err_set(err, "zone \"%s\" is too small for an empty map",
                   store->conf.name);
    }

    return rc;
}


static kv_rc_t
kv_recover_record(void *data, uint64_t lsn, const kv_record_t *rec)
{
    kv_rc_t            rc;
    uint64_t           hash;
    kv_zone_t         *zone;
    kv_entry_t        *old;
    kv_recover_ctx_t  *ctx;

    (void) lsn;

    ctx = data;
    zone = ctx->store->zone;

    if (kv_store_stopping(ctx->store)) {
        return KV_CANCELLED;
    }

    ctx->records++;
    ctx->bytes += kv_record_size(rec);

    switch (rec->op) {

    case KV_OP_PUT:
        return kv_recover_put(ctx, rec);

    case KV_OP_DELETE:
        hash = kv_map_hash(&zone->map, rec->key, rec->key_len);
        old = kv_map_delete(&zone->map, hash, rec->key, rec->key_len);

        return kv_recover_drop(zone, old);

    case KV_OP_CLEAR:
        rc = kv_map_clear(&zone->map);

        return rc == KV_OK ? kv_map_sweep(&zone->map) : rc;
    }

    return KV_DAMAGED;
}


static kv_rc_t
kv_recover_put(kv_recover_ctx_t *ctx, const kv_record_t *rec)
{
    size_t        i;
    kv_rc_t       rc;
    uint32_t      offset;
    uint64_t      hash;
    kv_zone_t    *zone;
    kv_entry_t   *e, *old;

    zone = ctx->store->zone;
    e = NULL;

    rc = kv_entry_create(zone->heap, &e, rec->key, rec->key_len,
                         rec->value_len, 0);

    if (rc == KV_NO_MEMORY || (rc == KV_OK
                               && kv_map_reserve(&zone->map, 1) != 1))
    {
        kv_err_set(ctx->err, "zone \"%s\" of %zu bytes is too small for what "
                   "\"%s\" holds: full after %llu keys; give it a larger "
                   "size=", ctx->store->conf.name, zone->size,
                   ctx->store->conf.path,
                   (unsigned long long) atomic_load(&zone->map.keys));
        return KV_NO_MEMORY;
    }

    if (rc != KV_OK) {
        return rc;
    }

    for (i = 0, offset = 0; i < rec->value_n; i++) {
        (void) kv_entry_write(zone->heap, e, offset, rec->value[i].iov_base,
                              rec->value[i].iov_len);
        offset += (uint32_t) rec->value[i].iov_len;
    }

    hash = kv_map_hash(&zone->map, rec->key, rec->key_len);
    old = kv_map_put(&zone->map, hash, e);

    if (ctx->records % KV_RECOVER_GROW == 0) {
        kv_map_grow(&zone->map);
    }

    return kv_recover_drop(zone, old);
}


/* Nobody reads yet, so there is no need for limbo. */

static kv_rc_t
kv_recover_drop(kv_zone_t *zone, kv_entry_t *e)
{
    return e ? kv_entry_destroy(zone->heap, &e) : KV_OK;
}
