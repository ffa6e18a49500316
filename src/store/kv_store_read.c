
/*
 * Reads of a store; see kv_store.h.
 */


#include "store/kv_clock.h"
#include "store/kv_group.h"
#include "base/kv_failpoint.h"


static kv_rc_t kv_store_found(kv_store_t *store, const kv_entry_t *e);


kv_rc_t
kv_store_read(kv_store_t *store, const void *key, size_t len, kv_entry_t **e)
{
    uint64_t    hash, expires;
    kv_zone_t  *zone;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    zone = store->zone;

    kv_epoch_enter(store->worker, KV_EPOCH_MAIN, &zone->retired.epoch);

    hash = kv_map_hash(&zone->map, key, len);
    *e = kv_clock_find(zone, hash, key, len, &expires);

    kv_failpoint(KV_FAILPOINT_READING);

    if (kv_group_hides(zone, *e)) {
        kv_store_read_done(store);
        return KV_AGAIN;
    }

    return kv_store_found(store, *e);
}


kv_rc_t
kv_store_read_now(kv_store_t *store, const void *key, size_t len,
    kv_entry_t **e)
{
    uint64_t    hash, expires, groups;
    kv_zone_t  *zone;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    zone = store->zone;

    kv_epoch_enter(store->worker, KV_EPOCH_MAIN, &zone->retired.epoch);

    hash = kv_map_hash(&zone->map, key, len);

    /* once more only if a group has become visible meanwhile */

    do {
        *e = kv_clock_find(zone, hash, key, len, &expires);

        kv_failpoint(KV_FAILPOINT_READING);

    } while (kv_group_made(zone, *e, &groups)
             && !kv_group_before(zone, groups, hash, key, len, e));

    return kv_store_found(store, *e);
}


/* The end of a read that has found `e`, or NULL: nothing. */

static kv_rc_t
kv_store_found(kv_store_t *store, const kv_entry_t *e)
{
    if (e) {
        return KV_OK;
    }

    kv_store_read_done(store);

    return KV_NOT_FOUND;
}


void
kv_store_read_done(kv_store_t *store)
{
    kv_epoch_leave(store->worker, KV_EPOCH_MAIN);
}


/*
 * The LSN comes first: see kv_wal_state_t.  Nor can the zone be rebuilt between
 * the two: that waits for this process to give up what it reads.
 */

kv_version_t
kv_store_version(kv_store_t *store, const kv_entry_t *e)
{
    kv_version_t  version;

    version.lsn = kv_entry_lsn(e);
    version.incarnation = atomic_load(&store->zone->wal.incarnation);

    return version;
}


uint64_t
kv_store_expires(kv_store_t *store, const kv_entry_t *e)
{
    return kv_clock_left(store->zone, kv_entry_expires(e));
}


const void *
kv_store_value(const kv_entry_t *e)
{
    return kv_entry_value(e);
}


/* What is in an entry was checked before: by its worker, or by recovery. */

bool
kv_store_meta(const kv_entry_t *e, kv_meta_t *meta)
{
    uint8_t      n;
    const void  *bytes;

    bytes = kv_entry_meta(e, &n);

    return n && kv_meta_read(bytes, n, meta);
}


size_t
kv_store_value_iov(const kv_entry_t *e, struct iovec *iov, size_t n,
    size_t first)
{
    return kv_entry_iov(e, iov, n, first);
}
