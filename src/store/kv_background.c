
/*
 * Background work; see kv_background.h.
 */


#include "store/kv_background.h"
#include "base/kv_failpoint.h"
#include "store/kv_background_archive.h"
#include "store/kv_background_snapshot.h"
#include "store/kv_disk_full.h"
#include "store/kv_disk_space.h"
#include "store/kv_handle.h"
#include "store/kv_spare.h"
#include "store/kv_timeout.h"


static void kv_background_work(kv_store_t *store);


void
kv_background_run(kv_store_t *store)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    rc = kv_mutex_trylock(&zone->background_lock);

    if (rc == KV_OK || rc == KV_DEAD) {

        kv_failpoint(KV_FAILPOINT_BACKGROUND_LOCKED);

        kv_background_work(store);

        kv_mutex_unlock(&zone->background_lock);
    }

    atomic_store(&zone->background, 0);

    if (kv_store_stopping(store)) {
        kv_store_leave_work(store);
    }
}


static void
kv_background_work(kv_store_t *store)
{
    uint32_t    requests;
    kv_zone_t  *zone;

    zone = store->zone;

    while (!kv_spare_stopped(store)) {

        /* it takes no memory, and has nothing to do with the rest */

        kv_disk_space_if_asked(store);

        requests = atomic_fetch_and(&zone->requests, KV_REQUEST_DISK_SPACE)
                   & ~KV_REQUEST_DISK_SPACE;

        if (requests == 0 || kv_store_grow_background(store) != KV_OK) {
            break;
        }

        kv_failpoint(KV_FAILPOINT_BACKGROUND_TAKEN);

        if (requests & KV_REQUEST_SEGMENT) {
            kv_spare_make(store);
        }

        kv_background_archive(store);

        if (requests & KV_REQUEST_FREE_DISK) {
            kv_disk_full_retry(store);
        }

        if (requests & KV_REQUEST_SEGMENT
            && kv_background_snapshot_gone(store))
        {
            requests |= KV_REQUEST_SNAPSHOT;
        }

        if (requests & KV_REQUEST_SNAPSHOT
            && kv_background_snapshot(store) == KV_CANCELLED)
        {
            /* for another process to take up */

            (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
        }
    }
}
