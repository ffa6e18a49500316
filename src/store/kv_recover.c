
/*
 * Recovery; see kv_recover.h.  Chooses the snapshot to begin with, and finishes
 * once all is read.
 */


#include <errno.h>
#include <stdlib.h>

#include "store/kv_recover.h"
#include "disk/kv_snapshot.h"
#include "store/kv_clock.h"
#include "store/kv_disk_space.h"
#include "store/kv_found.h"
#include "store/kv_recover_private.h"
#include "store/kv_replica.h"


static void kv_recover_log(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_settle(kv_recover_ctx_t *ctx);
static void kv_recover_applied(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_snapshots(kv_recover_ctx_t *ctx);
static kv_rc_t kv_recover_snapshot(void *data, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err);
static void kv_recover_put_aside(kv_recover_ctx_t *ctx);
static void kv_recover_warn(void *data, const char *text);


kv_rc_t
kv_recover(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t            rc;
    uint64_t           records, bytes;
    kv_zone_t         *zone;
    kv_recover_ctx_t   ctx;

    zone = store->zone;

    memset(&ctx, 0, sizeof(ctx));
    ctx.store = store;
    ctx.err = err;
    ctx.keys_max = UINT64_MAX;
    ctx.start.from.record = kv_recover_record;
    ctx.start.from.segment = kv_recover_segment;
    ctx.start.from.warn = kv_recover_warn;
    ctx.start.from.ctx = &ctx;
    ctx.start.from.replicated = kv_replicates(store);
    ctx.start.from.committed = store->conf.npeers != 0;
    ctx.start.from.final = &ctx.final;

    kv_progress_begin(&ctx.progress, store);

    rc = kv_recover_snapshots(&ctx);

    if (rc != KV_OK) {
        return rc;
    }

    atomic_store(&zone->recovered_snapshot, ctx.records);
    ctx.records = 0;

    kv_feed_resume(&zone->feed, ctx.start.from.after);

    rc = kv_recover_replay(&ctx);

    records = ctx.records;
    bytes = ctx.bytes;

    if (rc == KV_OK) {
        rc = kv_recover_again(&ctx);
    }

    free(ctx.missing.cell);

    if (rc == KV_OK && kv_replicates(store)) {
        rc = store->conf.npeers ? kv_found_check(store, err)
                                : kv_replica_check(store, err);
    }

    if (rc == KV_OK) {
        rc = kv_recover_settle(&ctx);
    }

    if (rc != KV_OK) {
        return rc;
    }

    /* the log since the snapshot counts towards the next one */

    atomic_store(&zone->snapshot_log_bytes,
                 atomic_load(&zone->wal.bytes) - bytes);
    atomic_store(&zone->recovered_log, records);

    kv_disk_space_measure(store);
    kv_recover_log(&ctx);

    return KV_OK;
}


static void
kv_recover_log(kv_recover_ctx_t *ctx)
{
    uint64_t     ms;
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = ctx->store;
    zone = store->zone;
    ms = (kv_now_ns() - ctx->progress.started) / 1000000;

    atomic_store(&zone->recovery_ms, ms);
    atomic_store(&zone->recovered_ms, kv_clock_ms(zone));

    kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": recovered %llu keys "
                 "from \"%s\" in %llu ms: %llu records of a snapshot, %llu "
                 "of the log, next LSN %llu",
                 store->conf.name,
                 (unsigned long long) atomic_load(&zone->map.keys),
                 store->conf.path, (unsigned long long) ms,
                 (unsigned long long) atomic_load(&zone->recovered_snapshot),
                 (unsigned long long) atomic_load(&zone->recovered_log),
                 (unsigned long long) atomic_load(&zone->wal.next_lsn));

    kv_store_log_wal(store);
}


/* Once all is read: puts bad snapshots aside, and syncs the log. */

static kv_rc_t
kv_recover_settle(kv_recover_ctx_t *ctx)
{
    kv_rc_t      rc;
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = ctx->store;
    zone = store->zone;

    kv_recover_put_aside(ctx);

    /* unfinished snapshots: none is being made now */

    if (kv_snapshot_purge(store->io, store->dirfd, KV_SNAPSHOTS_MAX - 1,
                          false, NULL, ctx->err)
        != KV_OK)
    {
        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": an unfinished file "
                     "stays: %s", store->conf.name, ctx->err->text);
    }

    /*
     * What was read may only be in the page cache, if a process died and not
     * the machine.
     */

    if (zone->wal.segment_size) {
        rc = kv_wal_sync(store->wal, ctx->err);

        if (rc == KV_NO_SPACE) {

            /* reads go on; writes wait for space */

            kv_state_refused(store, rc, 0, ctx->err);

        } else if (rc != KV_OK) {
            return rc;
        }
    }

    (void) kv_epoch_reclaim(&zone->retired);

    kv_clock_reach(zone, zone->wal.time_ms);
    kv_clock_end(zone);
    kv_timers_set_next(&zone->timers);

    /* a zone that is rebuilt goes on with the same log, if nothing was lost */

    kv_recover_applied(ctx);

    kv_feed_keep(&zone->feed, atomic_load(&zone->wal.incarnation),
                 atomic_load(&zone->applied_lsn));
    (void) kv_feed_publish(&zone->feed);

    atomic_store(&zone->unsynced, 0);
    atomic_store(&zone->current_segment, zone->wal.segment_lsn);
    atomic_store(&zone->snapshot_lsn, ctx->start.from.after);
    zone->checked_lsn = ctx->start.snapshot;

    return KV_OK;
}


/*
 * What the map is the state after.  Of a cluster of several, the log may go on
 * with what is not known to be committed.
 */

static void
kv_recover_applied(kv_recover_ctx_t *ctx)
{
    kv_zone_t  *zone;

    zone = ctx->store->zone;

    if (ctx->store->conf.npeers) {
        atomic_store(&zone->applied_lsn, ctx->final.lsn);
        atomic_store(&zone->applied_term, ctx->final.term);
        atomic_store(&zone->applied_index, ctx->final.index);
        return;
    }

    atomic_store(&zone->applied_lsn, atomic_load(&zone->wal.next_lsn) - 1);

    if (kv_replicates(ctx->store)) {
        kv_replica_applied(ctx->store);
    }
}


/*
 * Loads the newest snapshot that is good; without one, an empty map and LSN 0:
 * the log from its start is kept until there are two snapshots.
 */

static kv_rc_t
kv_recover_snapshots(kv_recover_ctx_t *ctx)
{
    kv_rc_t      rc;
    kv_start_t  *start;
    kv_store_t  *store;

    store = ctx->store;
    start = &ctx->start;

    rc = kv_start_snapshot(store->io, store->dirfd, start, kv_recover_snapshot,
                           ctx, ctx->err);

    if (rc != KV_OK) {
        return rc;
    }

    atomic_store(&store->zone->snapshot_bytes, start->bytes);
    atomic_store(&store->zone->snapshot_time_ms,
                 start->snapshot ? start->time_ms : 0);

    if (start->snapshot == 0) {
        return kv_recover_reset(ctx);
    }

    kv_clock_reach(store->zone, start->time_ms);

    return KV_OK;
}


/* Loads one snapshot; results as those of kv_snapshot_read(). */

static kv_rc_t
kv_recover_snapshot(void *data, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err)
{
    kv_rc_t            rc;
    kv_zone_t         *zone;
    kv_recover_ctx_t  *ctx = data;

    zone = ctx->store->zone;

    /*
     * The map takes the seed of the map that the snapshot was made from: so
     * keys come in the order of its buckets, and no access is far from the one
     * before.  Nothing keeps a hash.
     */

    memcpy(zone->map.seed, guess->seed, sizeof(guess->seed));

    rc = kv_recover_reset(ctx);

    if (rc != KV_OK) {
        return rc;
    }

    kv_recover_expect(zone, guess);

    ctx->records = 0;
    ctx->snapshot_size = guess->bytes;

    return kv_recover_read(ctx, lsn, guess->bytes, end, bytes, err);
}


/*
 * Puts bad snapshots aside, so that they do not count among the snapshots that
 * are kept: all that was acknowledged was found without them.
 */

static void
kv_recover_put_aside(kv_recover_ctx_t *ctx)
{
    unsigned                   i;
    kv_err_t                   err;
    kv_store_t                *store;
    const kv_snapshot_list_t  *bad;

    store = ctx->store;
    bad = &ctx->start.bad;

    for (i = bad->n; i--; /* void */ ) {

        if (kv_snapshot_put_aside(store->io, store->dirfd, bad->lsn[i],
                                  &err)
            == KV_OK)
        {
            kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": nothing is "
                         "lost; the snapshot is now called \"" KV_SNAPSHOT_NAME
                         ".kvs.damaged\": the newest %u of these are kept, "
                         "until the disk is full or you delete them",
                         store->conf.name, bad->lsn[i],
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

    if (ctx->pass != KV_RECOVER_MISSING) {
        kv_store_log(ctx->store, KV_LOG_WARN, "kv zone \"%s\": %s",
                     ctx->store->conf.name, text);
    }
}
