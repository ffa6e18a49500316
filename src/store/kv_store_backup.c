
/*
 * Backups of a store in use; see kv_store.h.
 *
 * What is to be in it: all up to T, the LSN applied when it was begun, and so
 * all that was answered before.  The log is made durable up to there.  Then the
 * newest snapshot is taken, and after that L, up to which the log is durable by
 * then: no snapshot has a name before the log is durable up to its E, so L is
 * not below that, nor below T.
 */


#include <stdlib.h>

#include "disk/kv_backup.h"
#include "store/kv_background_snapshot.h"
#include "store/kv_clock.h"
#include "store/kv_hold.h"
#include "store/kv_spare.h"


struct kv_store_backup_s {
    kv_store_t           *store;
    kv_backup_t          *file;
    kv_backup_watch_t     watch;
    unsigned              hold;
    uint64_t              applied;         /* T */
    _Atomic bool          stop;
};


static bool kv_store_backup_step(void *ctx, uint64_t done, uint64_t all);
static kv_rc_t kv_store_backup_ready(kv_store_backup_t *backup, kv_err_t *err);
static kv_rc_t kv_store_backup_failed(kv_store_backup_t *backup, kv_rc_t rc,
    const char *what, const kv_err_t *err);


kv_rc_t
kv_store_backup_begin(kv_store_t *store, uint64_t hold,
    kv_store_backup_t **backup)
{
    kv_rc_t             rc;
    kv_store_backup_t  *b;

    if (!kv_store_ready(store) || kv_store_stopping(store)) {
        return KV_UNAVAILABLE;
    }

    b = calloc(1, sizeof(kv_store_backup_t));

    if (b == NULL) {
        return KV_NO_MEMORY;
    }

    b->store = store;
    b->watch.step = kv_store_backup_step;
    b->watch.ctx = b;
    b->applied = atomic_load(&store->zone->applied_lsn);
    b->file = kv_backup_create(store->io, store->dirfd, &b->watch);

    rc = b->file ? kv_hold_take(store, hold, &b->hold) : KV_NO_MEMORY;

    if (rc != KV_OK) {

        if (b->file) {
            kv_backup_destroy(b->file);
        }

        free(b);
        return rc;
    }

    *backup = b;

    return KV_OK;
}


/* Whether a thread may go on. */

static bool
kv_store_backup_step(void *ctx, uint64_t done, uint64_t all)
{
    kv_store_backup_t *b = ctx;

    (void) done;
    (void) all;

    return !atomic_load(&b->stop) && !kv_store_stopping(b->store);
}


kv_rc_t
kv_store_backup_prepare(kv_store_backup_t *backup,
    kv_store_backup_info_t *info)
{
    kv_rc_t                    rc;
    kv_err_t                   err;
    const kv_backup_header_t  *h;

    rc = kv_store_backup_ready(backup, &err);

    if (rc != KV_OK) {
        return kv_store_backup_failed(backup, rc, "there is no backup", &err);
    }

    h = kv_backup_header(backup->file);

    info->lsn = h->lsn;
    info->incarnation = kv_wal_id(&backup->store->zone->wal).incarnation;
    info->time_ms = h->time_ms;
    info->bytes = h->bytes;

    return KV_OK;
}


static kv_rc_t
kv_store_backup_ready(kv_store_backup_t *backup, kv_err_t *err)
{
    kv_rc_t      rc;
    uint64_t     snapshot, time;
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = backup->store;
    zone = store->zone;
    time = kv_clock_ms(zone);
    snapshot = 0;

    rc = kv_background_durable(store, backup->applied, err);

    if (rc == KV_OK) {
        rc = kv_backup_snapshot(backup->file, &snapshot, err);
    }

    if (rc != KV_OK) {
        return rc;
    }

    /* where it was taken away meanwhile, nothing is certain any more */

    if (!kv_hold_set(store, backup->hold, snapshot)) {
        return KV_BUSY;
    }

    rc = kv_backup_log(backup->file, atomic_load(&zone->wal.durable_lsn), time,
                       err);

    return kv_hold_set(store, backup->hold, snapshot) ? rc : KV_BUSY;
}


kv_rc_t
kv_store_backup_read(kv_store_backup_t *backup, void *buf, size_t size,
    size_t *n)
{
    kv_rc_t      rc;
    kv_err_t     err;
    kv_store_t  *store;

    store = backup->store;

    if (!kv_store_backup_step(backup, 0, 0)) {
        return KV_CANCELLED;
    }

    rc = kv_backup_next(backup->file, buf, size, n, &err);

    if (rc == KV_DECLINED) {
        *n = 0;
        rc = KV_OK;
    }

    /* now, or what was read may be of another use of the file */

    if (!kv_hold_set(store, backup->hold, kv_backup_needs(backup->file))) {
        rc = KV_BUSY;
    }

    return rc == KV_OK ? KV_OK
           : kv_store_backup_failed(backup, rc, "a backup was cut short",
                                    &err);
}


/* Logs why: KV_ERROR.  A backup that was stopped: KV_CANCELLED. */

static kv_rc_t
kv_store_backup_failed(kv_store_backup_t *backup, kv_rc_t rc, const char *what,
    const kv_err_t *err)
{
    kv_store_t  *store;

    store = backup->store;

    if (rc == KV_CANCELLED) {
        return KV_CANCELLED;
    }

    kv_store_log(store, rc == KV_DAMAGED ? KV_LOG_ALERT : KV_LOG_ERR,
                 "kv zone \"%s\": %s: %s", store->conf.name, what,
                 rc == KV_BUSY ? "its client was so slow that the log could "
                                 "not be kept any longer, or the disk was "
                                 "full; fetch it faster, or give kv_backup "
                                 "more (hold=)" : err->text);

    return KV_ERROR;
}


void
kv_store_backup_stop(kv_store_backup_t *backup)
{
    atomic_store(&backup->stop, true);
}


void
kv_store_backup_end(kv_store_backup_t *backup, bool sent)
{
    kv_zone_t                 *zone;
    const kv_backup_header_t  *h;

    zone = backup->store->zone;
    h = kv_backup_header(backup->file);

    if (sent) {
        atomic_store(&zone->backup_lsn, h->lsn);
        atomic_store(&zone->backup_time, h->time_ms);
    }

    (void) atomic_fetch_add(sent ? &zone->backups : &zone->backups_failed, 1);

    kv_hold_give(backup->store, backup->hold);

    kv_backup_destroy(backup->file);
    free(backup);
}
