
/*
 * Space that is left on disks; see kv_disk_space.h.
 */


#include "store/kv_disk_space.h"


/* between two measurements; ns */
#define KV_DISK_SPACE_INTERVAL  UINT64_C(1000000000)


static void kv_disk_space_of(kv_store_t *store, int fd,
    kv_disk_space_t *space);


void
kv_disk_space_measure(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    kv_disk_space_of(store, store->dirfd, &zone->disk);

    if (store->conf.archive) {
        kv_disk_space_of(store, store->conf.archive_fd, &zone->archive_disk);
    }

    atomic_store(&zone->disk_ns, kv_now_ns());
}


static void
kv_disk_space_of(kv_store_t *store, int fd, kv_disk_space_t *space)
{
    uint64_t  size, available;

    if (store->io->space
        && store->io->space(store->io, fd, &size, &available) == 0)
    {
        atomic_store(&space->size, size);
        atomic_store(&space->available, available);
    }
}


void
kv_disk_space_if_asked(kv_store_t *store)
{
    if (atomic_load(&store->zone->requests) & KV_REQUEST_DISK_SPACE) {
        (void) atomic_fetch_and(&store->zone->requests,
                                ~KV_REQUEST_DISK_SPACE);
        kv_disk_space_measure(store);
    }
}


bool
kv_store_ask_disk_space(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_now_ns() - atomic_load(&zone->disk_ns) < KV_DISK_SPACE_INTERVAL) {
        return false;
    }

    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_DISK_SPACE);

    return true;
}
