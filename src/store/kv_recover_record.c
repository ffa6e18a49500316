
/*
 * Recovery: what a record of a snapshot or of the log does to the map.  Those
 * of the log repair whatever changed while the snapshot was walked, because
 * records carry results.
 */


#include "store/kv_recover_private.h"
#include "base/kv_failpoint.h"
#include "store/kv_clock.h"
#include "store/kv_compact.h"
#include "store/kv_watch.h"


/* bytes of records between two steps of kv_prefault_used() and the like */
#define KV_RECOVER_STEP  (1u << 20)


static kv_rc_t kv_recover_clear(kv_recover_ctx_t *ctx, uint64_t lsn);
static kv_rc_t kv_recover_touch(kv_recover_ctx_t *ctx, const kv_record_t *rec,
    uint64_t hash);
static kv_rc_t kv_recover_put(kv_recover_ctx_t *ctx, const kv_record_t *rec,
    uint64_t hash);
static kv_rc_t kv_recover_entry(kv_recover_ctx_t *ctx, const kv_record_t *rec,
    kv_entry_t **e);
static bool kv_recover_compact(kv_store_t *store);
static kv_rc_t kv_recover_delete(kv_zone_t *zone, const kv_record_t *rec,
    uint64_t hash);


kv_rc_t
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

    if (ctx->bytes >= ctx->step_bytes) {
        kv_prefault_used(&ctx->prefault, ctx->bytes);
        kv_progress_step(&ctx->progress, ctx->bytes);
        ctx->step_bytes = ctx->bytes + KV_RECOVER_STEP;
    }

    if (ctx->replays) {
        kv_watch_feed_again(zone, lsn, rec);
    }

    if (rec->op == KV_OP_CLEAR) {
        return kv_recover_clear(ctx, lsn);
    }

    hash = kv_map_hash(&zone->map, rec->key, rec->key_len);

    if (ctx->pass == KV_RECOVER_MISSING
        && (lsn < ctx->cleared_lsn
            || !kv_missing_has(&ctx->missing_before, hash)))
    {
        return KV_OK;
    }

    if (rec->op == KV_OP_PUT) {
        return kv_recover_put(ctx, rec, hash);
    }

    if (rec->op == KV_OP_TOUCH) {
        return kv_recover_touch(ctx, rec, hash);
    }

    if (ctx->missing.missing) {
        (void) kv_missing_set(&ctx->missing, hash, false);
    }

    rc = kv_recover_link(ctx);

    return rc == KV_OK ? kv_recover_delete(zone, rec, hash) : rc;
}


void
kv_recover_segment(void *data, size_t i, size_t n)
{
    kv_recover_ctx_t  *ctx = data;

    kv_progress_bytes(&ctx->progress, 0, "the log, file %zu of %zu", i + 1, n);
    kv_progress_step(&ctx->progress, ctx->bytes);
}


static kv_rc_t
kv_recover_clear(kv_recover_ctx_t *ctx, uint64_t lsn)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    if (ctx->pass == KV_RECOVER_MISSING) {
        return KV_OK;                /* done in the first pass */
    }

    zone = ctx->store->zone;
    ctx->cleared_lsn = lsn;

    if (ctx->missing.size) {
        memset(ctx->missing.cell, 0, ctx->missing.size * sizeof(uint64_t));
        ctx->missing.used = 0;
        ctx->missing.missing = 0;
    }

    rc = kv_recover_link(ctx);

    kv_map_unreserve(&zone->map);

    if (rc == KV_OK) {
        rc = kv_map_clearable(&zone->map, 1, UINT32_MAX);
    }

    if (rc != KV_OK) {
        return rc;
    }

    kv_map_clear(&zone->map);
    kv_timers_reset(&zone->timers, kv_clock_ms(zone));

    return kv_map_sweep(&zone->map, UINT32_MAX);
}


/*
 * A key gets another time of expiry, if it has a value: else there was no
 * memory for that, or what was deleted since is not in the snapshot.  A small
 * entry without a place for the time is put anew.
 */

static kv_rc_t
kv_recover_touch(kv_recover_ctx_t *ctx, const kv_record_t *rec, uint64_t hash)
{
    char           copy[KV_ENTRY_INLINE], meta[KV_META_MAX];
    kv_rc_t        rc;
    const void    *from;
    kv_zone_t     *zone;
    kv_entry_t    *e;
    kv_record_t    put;
    struct iovec   value;

    zone = ctx->store->zone;

    rc = kv_recover_link(ctx);
    if (rc != KV_OK) {
        return rc;
    }

    e = kv_map_find(&zone->map, hash, rec->key, rec->key_len);

    if (e == NULL || (rec->expires == 0 && kv_entry_expiry(e) == NULL)) {
        return KV_OK;
    }

    if (kv_entry_expiry(e)) {
        kv_timers_remove(&zone->timers, e);
        kv_entry_set_expires(e, rec->expires);
        kv_timers_add(&zone->timers, e);

        return KV_OK;
    }

    memcpy(copy, kv_entry_value(e), e->value_len);
    value.iov_base = copy;
    value.iov_len = e->value_len;

    put = *rec;
    put.op = KV_OP_PUT;
    put.lsn = kv_entry_lsn(e);
    put.value_len = e->value_len;
    put.value = &value;
    put.value_n = 1;

    from = kv_entry_meta(e, &put.meta_len);
    put.meta = memcpy(meta, from, put.meta_len);

    return kv_recover_put(ctx, &put, hash);
}


static kv_rc_t
kv_recover_put(kv_recover_ctx_t *ctx, const kv_record_t *rec, uint64_t hash)
{
    kv_rc_t      rc;
    kv_ahead_t  *put;
    kv_entry_t  *e;

    rc = kv_recover_entry(ctx, rec, &e);

    if (rc == KV_NO_MEMORY) {

        /* the older value is outdated, and may hold the memory */

        rc = kv_recover_link(ctx);

        kv_map_unreserve(&ctx->store->zone->map);

        if (rc == KV_OK) {
            rc = kv_recover_delete(ctx->store->zone, rec, hash);
        }

        if (rc == KV_OK) {
            rc = kv_recover_entry(ctx, rec, &e);
        }

        while (rc == KV_NO_MEMORY && kv_recover_compact(ctx->store)) {
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


kv_rc_t
kv_recover_link(kv_recover_ctx_t *ctx)
{
    kv_rc_t      rc;
    unsigned     i;
    uint64_t     keys;
    kv_zone_t   *zone;
    kv_entry_t  *old;

    zone = ctx->store->zone;

    for (i = 0; i < ctx->ahead_n; i++) {

        kv_timers_add(&zone->timers, ctx->ahead[i].e);
        old = kv_map_put(&zone->map, ctx->ahead[i].hash, ctx->ahead[i].e);

        /* there are no readers yet, so nothing needs the retire list */

        if (old) {
            kv_timers_remove(&zone->timers, old);
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

    /* use what a split emptied again, rather than more pages */

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
    kv_name_t   name;
    kv_zone_t  *zone;

    zone = ctx->store->zone;
    puts = (int) ctx->ahead_n + 1;

    if (kv_map_reserve(&zone->map, (unsigned) puts) != puts) {
        return KV_NO_MEMORY;
    }

    name.key = rec->key;
    name.key_len = rec->key_len;
    name.meta = rec->meta;
    name.meta_len = rec->meta_len;

    rc = kv_entry_begin(zone->heap, e, &name, rec->value_len, rec->value_len,
                        rec->expires ? KV_ENTRY_EXPIRES : 0);

    if (rc != KV_OK) {
        return rc;
    }

    kv_entry_set_lsn(*e, rec->lsn);

    if (rec->expires) {
        kv_entry_set_expires(*e, rec->expires);
    }

    for (i = 0, offset = 0; i < rec->value_n; i++) {
        kv_entry_write(*e, offset, rec->value[i].iov_base,
                       rec->value[i].iov_len);
        offset += (uint32_t) rec->value[i].iov_len;
    }

    return KV_OK;
}


/* Whether the caller should try again. */

static bool
kv_recover_compact(kv_store_t *store)
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

    if (old == NULL) {
        return KV_OK;
    }

    kv_timers_remove(&zone->timers, old);

    return kv_entry_destroy(zone->heap, &old);
}
