
/*
 * Spare segments; see kv_spare.h.
 */


#include "store/kv_spare.h"
#include "store/kv_committer.h"
#include "store/kv_disk_space.h"


void
kv_spare_make(kv_store_t *store)
{
    kv_rc_t  rc;

    rc = kv_wal_prepare(store->background, &store->stop);

    if ((rc == KV_OK || rc == KV_DECLINED) && kv_state_refuses(store->zone)
        && ((kv_state(store->zone) == KV_STATE_DISK_FULL
             && store->zone->wal.rewrite_end == 0)
            || kv_committer_can_write(store)))
    {
        kv_state_works_again(store);
    }
}


void
kv_spare_if_asked(kv_store_t *store)
{
    if (atomic_fetch_and(&store->zone->requests, ~KV_REQUEST_SEGMENT)
        & KV_REQUEST_SEGMENT)
    {
        kv_spare_make(store);
    }
}


bool
kv_spare_asked_or_stopped(void *data)
{
    kv_spare_if_asked(data);
    kv_disk_space_if_asked(data);

    return kv_spare_stopped(data);
}


bool
kv_spare_stopped(void *data)
{
    kv_store_t  *store;

    store = data;

    return kv_store_stopping(store) || !kv_state_whole(store->zone);
}
