
/*
 * Freeing disk space; see kv_disk_full.h.
 */


#include <errno.h>

#include "store/kv_disk_full.h"
#include "disk/kv_snapshot.h"
#include "store/kv_background_snapshot.h"
#include "store/kv_spare.h"


/* between two tries to free disk; ns */
#define KV_FREE_DISK_INTERVAL  UINT64_C(2000000000)

/* between two checks whether writes need be refused; ns */
#define KV_DISK_FULL_INTERVAL  UINT64_C(100000000)


static void kv_disk_full_free(kv_store_t *store);
static void kv_disk_full_delete(kv_store_t *store);
static bool kv_disk_full_check(kv_store_t *store);
static kv_rc_t kv_disk_full_check_record(void *data, uint64_t lsn,
    const kv_record_t *rec);
static void kv_disk_full_drop_aside(kv_store_t *store);


void
kv_disk_full_retry(kv_store_t *store)
{
    uint64_t    now;
    kv_zone_t  *zone;

    zone = store->zone;
    now = kv_now_ns();

    if (!kv_state_refuses(zone)
        || (zone->retried_ns && now - zone->retried_ns < KV_DISK_FULL_INTERVAL))
    {
        return;
    }

    zone->retried_ns = now;

    if (kv_state(zone) == KV_STATE_DISK_FULL) {
        kv_disk_full_free(store);
    }

    kv_spare_make(store);
}


/*
 * Frees disk space: first the older snapshot with the log that only it needs,
 * then, by a new snapshot, the rest.  Not with each write that is refused.
 */

static void
kv_disk_full_free(kv_store_t *store)
{
    uint64_t    now;
    kv_zone_t  *zone;

    zone = store->zone;
    now = kv_now_ns();

    if (atomic_load(&zone->snapshot) == 0
        || (zone->free_disk_ns
            && now - zone->free_disk_ns < KV_FREE_DISK_INTERVAL))
    {
        return;
    }

    kv_disk_full_delete(store);

    if (kv_background_snapshot(store) == KV_OK) {
        kv_disk_full_delete(store);
    }

    zone->free_disk_ns = kv_now_ns();
}


/*
 * Deletes all that the newest snapshot makes superfluous.  A second snapshot is
 * for a rotten disk, and of no use to a full one.
 */

static void
kv_disk_full_delete(kv_store_t *store)
{
    kv_err_t  err;

    /* the process that named it may have died before it synced the name */

    if (kv_disk_full_check(store)
        && kv_io_sync_dir(store->io, store->dirfd) == KV_OK)
    {
        (void) kv_background_purge(store, 1, 0, false, &err);
    }
}


/*
 * Whether the newest snapshot is good: it is read back, once, before all that
 * could take its place is deleted.  One that is not good is put aside.
 */

static bool
kv_disk_full_check(kv_store_t *store)
{
    kv_rc_t              rc;
    kv_err_t             err, aside;
    uint64_t             end, bytes;
    kv_zone_t           *zone;
    kv_snapshot_list_t   list;

    zone = store->zone;

    for ( ;; ) {

        if (kv_snapshot_list(store->io, store->dirfd, &list, &err) != KV_OK
            || list.n == 0)
        {
            return false;
        }

        if (list.lsn[0] == zone->checked_lsn) {
            break;
        }

        rc = kv_snapshot_read(store->io, store->dirfd, list.lsn[0],
                              kv_disk_full_check_record, store, &end, &bytes,
                              &err);

        if (rc == KV_OK) {
            zone->checked_lsn = list.lsn[0];
            break;
        }

        if (rc != KV_DAMAGED && !(rc == KV_ERROR && kv_snapshot_lost(errno))) {
            return false;
        }

        if (kv_snapshot_put_aside(store->io, store->dirfd, list.lsn[0], &aside)
            != KV_OK)
        {
            kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": %s; and %s",
                         store->conf.name, err.text, aside.text);
            return false;
        }

        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": %s: it is now called "
                     "\"" KV_SNAPSHOT_NAME ".kvs.damaged\", and what could "
                     "take its place is kept", store->conf.name, err.text,
                     list.lsn[0]);

        /* request the next one at once */

        atomic_store(&zone->snapshot_lsn, 0);
        (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    }

    kv_disk_full_drop_aside(store);

    return true;
}


static kv_rc_t
kv_disk_full_check_record(void *data, uint64_t lsn, const kv_record_t *rec)
{
    (void) lsn;
    (void) rec;

    return kv_spare_asked_or_stopped(data) ? KV_CANCELLED : KV_OK;
}


static void
kv_disk_full_drop_aside(kv_store_t *store)
{
    kv_err_t  err;
    unsigned  n;

    if (kv_snapshot_drop_aside(store->io, store->dirfd, &n, &err) != KV_OK) {
        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": %s",
                     store->conf.name, err.text);

    } else if (n) {
        kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": %u damaged "
                     "snapshots that were kept are deleted, as the disk is "
                     "full", store->conf.name, n);
    }
}
