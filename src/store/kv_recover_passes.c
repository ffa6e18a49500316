
/*
 * Recovery: how often snapshot and log are read, and for which keys.
 *
 *
 * A zone that was nearly full
 *
 * A snapshot and the log can hold more than the zone ever had at one time: the
 * walk saw keys that were deleted while it went on, and others that took their
 * memory.  So a put that finds no memory is no failure yet.  Its key's older
 * value is deleted (it is outdated anyway), the key is remembered as missing,
 * and the reading goes on; a later record may replace or delete it.  If keys
 * are missing at the end, when all deletes are done, everything is read again
 * for these keys alone.
 *
 * The map never shrinks, so keys that are gone may still hold the memory that
 * is missing then, or that the ordered index needs, which is made last.  In
 * this case recovery starts again, with a map that is not made larger than
 * necessary, and, if that is still too large, with smaller ones.
 */


#include <errno.h>
#include <stdlib.h>

#include "store/kv_listed.h"
#include "store/kv_recover_private.h"
#include "disk/kv_snapshot.h"
#include "store/kv_clock.h"


static kv_recover_pass_t kv_recover_next_pass(const kv_recover_ctx_t *ctx,
    size_t before);
static kv_rc_t kv_recover_list(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_missing(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_tight(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_all(kv_recover_ctx_t *ctx);


kv_rc_t
kv_recover_again(kv_recover_ctx_t *ctx)
{
    size_t     before;
    kv_rc_t    rc;
    uint64_t   keys;

    for (before = 0, rc = KV_OK; rc == KV_OK; /* void */ ) {

        ctx->pass = kv_recover_next_pass(ctx, before);
        before = ctx->missing.missing;

        switch (ctx->pass) {

        case KV_RECOVER_DONE:
            rc = kv_recover_list(ctx);

            if (rc != KV_NO_MEMORY || ctx->tight == KV_RECOVER_TIGHTER) {
                return rc;
            }

            rc = kv_recover_tight(ctx);
            break;

        case KV_RECOVER_MISSING:
            rc = kv_recover_missing(ctx);
            break;

        case KV_RECOVER_TIGHT:
            rc = kv_recover_tight(ctx);
            break;

        default:
            keys = atomic_load(&ctx->store->zone->map.keys);

            kv_err_set(ctx->err, "the zone of %zu bytes is too small for what "
                       "the directory holds: there is memory for %llu keys, "
                       "and none for %zu more; give it a larger size",
                       ctx->store->zone->size, (unsigned long long) keys,
                       ctx->missing.missing);
            return KV_NO_MEMORY;
        }
    }

    return rc;
}


/* `before`: how many keys were missing before the last pass. */

static kv_recover_pass_t
kv_recover_next_pass(const kv_recover_ctx_t *ctx, size_t before)
{
    if (ctx->missing.missing == 0) {
        return KV_RECOVER_DONE;
    }

    if (ctx->pass != KV_RECOVER_MISSING || ctx->missing.missing < before) {
        return KV_RECOVER_MISSING;
    }

    /* the last pass had memory for none: then with a smaller map */

    return ctx->tight < KV_RECOVER_TIGHTER ? KV_RECOVER_TIGHT
                                           : KV_RECOVER_TOO_SMALL;
}


/* Makes the index of what was read, if the zone has one. */

static kv_rc_t
kv_recover_list(kv_recover_ctx_t *ctx)
{
    kv_rc_t  rc;

    rc = kv_listed_fill(ctx->store, ctx->tight > 0, &ctx->progress);

    if (rc == KV_NO_MEMORY) {
        kv_err_set(ctx->err, "the zone of %zu bytes has memory for the keys "
                   "that the directory holds, but not for their list: give "
                   "it a larger size, or set list=off",
                   ctx->store->zone->size);
    }

    return rc;
}


static kv_rc_t
kv_recover_missing(kv_recover_ctx_t *ctx)
{
    kv_rc_t  rc;

    ctx->missing_before = ctx->missing;
    memset(&ctx->missing, 0, sizeof(kv_missing_t));

    rc = kv_recover_all(ctx);

    free(ctx->missing_before.cell);

    return rc;
}


/*
 * Starts again, with a map for the keys of the end, or for an eighth of the
 * most that there were, because long chains of buckets make it slow.  That of
 * the old zone may have been smaller still, as it had no memory to grow when
 * the last keys came.
 */

static kv_rc_t
kv_recover_tight(kv_recover_ctx_t *ctx)
{
    kv_rc_t  rc;

    ctx->keys_max = kv_max(atomic_load(&ctx->store->zone->map.keys)
                           + ctx->missing.missing, ctx->keys_most / 8);
    ctx->keys_max -= ctx->keys_max * ctx->tight / 4;
    ctx->tight++;

    free(ctx->missing.cell);
    memset(&ctx->missing, 0, sizeof(kv_missing_t));

    rc = kv_recover_reset(ctx);

    return rc == KV_OK ? kv_recover_all(ctx) : rc;
}


/* Reads the snapshot again, unless a clear in the log makes it useless. */

static kv_rc_t
kv_recover_all(kv_recover_ctx_t *ctx)
{
    kv_rc_t   rc;
    uint64_t  bytes, end;

    if (ctx->start.snapshot && ctx->cleared_lsn == 0) {
        rc = kv_recover_read(ctx, ctx->start.snapshot, 0, &end, &bytes,
                             ctx->err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    return kv_recover_replay(ctx);
}


kv_rc_t
kv_recover_replay(kv_recover_ctx_t *ctx)
{
    kv_rc_t  rc;

    ctx->bytes = 0;
    ctx->step_bytes = 0;

    ctx->replays = true;
    rc = kv_wal_replay(ctx->store->wal, &ctx->start.from, ctx->err);
    ctx->replays = false;

    rc = kv_start_end(&ctx->start, rc, ctx->err);

    return rc == KV_OK ? kv_recover_link(ctx) : rc;
}


kv_rc_t
kv_recover_read(kv_recover_ctx_t *ctx, uint64_t lsn, uint64_t memory,
    uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err)
{
    int       saved;
    void     *pages;
    size_t    size;
    kv_rc_t   rc;

    pages = kv_heap_pages(ctx->store->zone->heap, &size);

    ctx->bytes = 0;
    ctx->step_bytes = 0;

    kv_progress_bytes(&ctx->progress, ctx->snapshot_size,
                      KV_SNAPSHOT_NAME ".kvs", lsn);

    kv_prefault_begin(&ctx->prefault, pages, kv_min(memory, size));

    rc = kv_snapshot_read(ctx->store->io, ctx->store->dirfd, lsn,
                          kv_recover_record, ctx, end_lsn, bytes, err);

    saved = errno;
    kv_prefault_end(&ctx->prefault);
    errno = saved;

    return rc == KV_OK ? kv_recover_link(ctx) : rc;
}


kv_rc_t
kv_recover_reset(kv_recover_ctx_t *ctx)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = ctx->store->zone;

    ctx->ahead_n = 0;

    kv_heap_format(zone->heap);
    kv_retire_list_create(&zone->retired, zone->heap, zone->workers,
                          zone->nworkers);

    kv_index_create(&zone->index, zone->heap, &zone->retired);
    kv_timers_reset(&zone->timers, kv_clock_ms(zone));

    rc = kv_map_create(&zone->map, zone->heap, &zone->retired, zone->directory,
                       zone->size);

    if (rc != KV_OK) {
        kv_err_set(ctx->err, "zone \"%s\" is too small for an empty map",
                   ctx->store->conf.name);
    }

    return rc;
}


void
kv_recover_expect(kv_zone_t *zone, const kv_snapshot_guess_t *guess)
{
    size_t    size;
    uint64_t  need;

    (void) kv_heap_pages(zone->heap, &size);

    /* an entry may take about an eighth more than its record: see kv_heap.c */

    need = guess->bytes + guess->bytes / 8
           + guess->records * sizeof(kv_bucket_t) / KV_MAP_LOAD
           + (zone->list ? guess->records * KV_RECOVER_LISTED : 0);

    if (need < size - size / 8) {
        kv_map_expect(&zone->map, guess->records);
    }
}
