
/*
 * Deleting keys that have expired; see kv_expire.h.
 */


#include <time.h>

#include "store/kv_expire.h"
#include "store/kv_clock.h"
#include "store/kv_listed.h"
#include "store/kv_timeout.h"
#include "store/kv_watch.h"
#include "base/kv_failpoint.h"


/* bytes of keys that are deleted at a time, or one key */
#define KV_EXPIRE_BYTES  65536u

/* entries that go to lower levels of the timers at a time */
#define KV_EXPIRE_STEPS  2048u

/* keys whose buckets are fetched ahead */
#define KV_EXPIRE_AHEAD  8u

/* pause between two steps if no client waits; ns */
#define KV_EXPIRE_PAUSE  20000


static void kv_expire_some(kv_store_t *store, kv_batch_t *batch,
    uint64_t now);
static unsigned kv_expire_find(kv_zone_t *zone, kv_batch_t *batch,
    uint64_t now, bool *more);
static unsigned kv_expire_add(kv_store_t *store, kv_batch_t *batch,
    unsigned n);


bool
kv_expire_between(kv_store_t *store, kv_batch_t *batch)
{
    bool              more;
    uint64_t          now;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = store->zone;

    if (kv_timeout_expire(zone) != KV_TIMEOUT_NOW) {
        return false;
    }

    now = kv_clock_begin(zone);
    kv_expire_some(store, batch, now);
    kv_clock_end(zone);

    more = kv_timeout_expire(zone) == KV_TIMEOUT_NOW;

    if (more && atomic_load(&zone->queue) == NULL) {

        /* a thread that never sleeps would be preempted with a lock held */

        pause.tv_sec = 0;
        pause.tv_nsec = KV_EXPIRE_PAUSE;
        (void) nanosleep(&pause, NULL);
    }

    return more;
}


/*
 * Takes a step.  If it can do nothing now, for lack of memory or an error, the
 * timers are to be looked at a little later.
 */

static void
kv_expire_some(kv_store_t *store, kv_batch_t *batch, uint64_t now)
{
    bool        more;
    unsigned    n;
    uint64_t    lsn;
    kv_zone_t  *zone;

    zone = store->zone;

    n = kv_expire_build(store, batch, now, &more);

    if (n) {
        zone->wal.time_ms = now;
        lsn = atomic_load(&zone->wal.next_lsn);

        if (kv_batch_log(store, NULL, 0, store->conf.sync == KV_SYNC_OFF
                                         ? 0 : KV_EXPIRE_SYNC)
            != KV_OK)
        {
            n = 0;
        }

        if (n && !kv_expire_apply(store, batch, n, lsn + n - 1)) {
            kv_state_break(store, "the heap broke while expired keys were "
                           "deleted");
            return;
        }
    }

    if (kv_heap_broken(zone->heap)) {
        kv_state_break(store, "a worker died while it changed the heap");
        return;
    }

    if (n) {
        kv_batch_wake(store, batch);
        (void) kv_batch_clean_up(store);

    } else if (!more && kv_timers_ready(&zone->timers, now)) {
        kv_timers_put_off(&zone->timers, now);
    }
}


unsigned
kv_expire_build(kv_store_t *store, kv_batch_t *batch, uint64_t now,
    bool *more)
{
    unsigned  n;

    *more = false;

    n = kv_store_grow_wal(store) == KV_OK
        ? kv_expire_find(store->zone, batch, now, more) : 0;

    if (n) {
        kv_wal_begin(store->wal);
        n = kv_expire_add(store, batch, n);
    }

    return n;
}


/*
 * Finds what is to be deleted, and reserves what its retiring takes; returns
 * how many there are, in batch->expired.  Sets *more if this took so many steps
 * that the next call goes on with it.
 */

static unsigned
kv_expire_find(kv_zone_t *zone, kv_batch_t *batch, uint64_t now, bool *more)
{
    int       reserved;
    unsigned  n;

    kv_phase_changing(zone);

    *more = kv_timers_advance(&zone->timers, now, KV_EXPIRE_STEPS);
    n = *more ? 0 : kv_timers_due(&zone->timers, now, batch->expired,
                                  KV_EXPIRE_MAX);

    kv_timers_set_next(&zone->timers);

    reserved = n ? kv_epoch_reserve(&zone->retired, n) : 0;

    kv_phase_idle(zone);

    return (unsigned) kv_min(kv_max(reserved, 0), (int) n);
}


/* Adds the deletes of the first of `n` keys to the log: of how many. */

static unsigned
kv_expire_add(kv_store_t *store, kv_batch_t *batch, unsigned n)
{
    size_t       bytes;
    unsigned     i;
    kv_entry_t  *e;
    kv_record_t  rec;

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_DELETE;
    rec.flags = KV_RECORD_EXPIRES;
    bytes = 0;

    for (i = 0; i < n; i++) {
        e = batch->expired[i];

        rec.key = e->key;
        rec.key_len = e->key_len;
        rec.expires = kv_entry_expires(e);
        bytes += kv_record_size(&rec);

        if ((i && bytes > KV_EXPIRE_BYTES)
            || kv_wal_add(store->wal, &rec) != KV_OK)
        {
            break;
        }

        batch->expired_hash[i] = kv_map_hash(&store->zone->map, e->key,
                                             e->key_len);
    }

    return i;
}


/*
 * The timers are as they were when the log was written: at the time of that
 * batch the same keys are due, in the same order.
 */

bool
kv_expire_take_over(kv_store_t *store, kv_batch_t *batch)
{
    bool        more;
    unsigned    i, n;
    uint64_t    lsn, applied;
    kv_zone_t  *zone;

    zone = store->zone;
    lsn = atomic_load(&zone->wal.next_lsn) - 1;
    applied = atomic_load(&zone->applied_lsn);

    if (lsn == applied || !kv_state_writes(zone)) {
        return true;
    }

    n = kv_expire_find(zone, batch, zone->wal.time_ms, &more);

    if (n < lsn - applied) {
        return false;
    }

    n = (unsigned) (lsn - applied);

    for (i = 0; i < n; i++) {
        batch->expired_hash[i] = kv_map_hash(&zone->map, batch->expired[i]->key,
                                             batch->expired[i]->key_len);
    }

    return kv_expire_apply(store, batch, n, lsn);
}


bool
kv_expire_apply(kv_store_t *store, kv_batch_t *batch, unsigned n, uint64_t lsn)
{
    unsigned      i;
    kv_zone_t    *zone;
    kv_entry_t   *e;
    kv_listed_t   listed;

    zone = store->zone;

    kv_changes_begin(&batch->changes);
    kv_phase_changing(zone);
    kv_listed_begin(&listed, zone);

    for (i = 0; i < kv_min(n, KV_EXPIRE_AHEAD); i++) {
        kv_map_prefetch(&zone->map, batch->expired_hash[i]);
    }

    for (i = 0; i < n; i++) {

        if (i + KV_EXPIRE_AHEAD < n) {
            kv_map_prefetch(&zone->map,
                            batch->expired_hash[i + KV_EXPIRE_AHEAD]);
        }

        e = kv_map_delete(&zone->map, batch->expired_hash[i],
                          batch->expired[i]->key, batch->expired[i]->key_len);

        assert(e == batch->expired[i]);

        kv_timers_remove(&zone->timers, e);
        kv_listed_delete(&listed, e);
        kv_changes_add(&batch->changes, batch->expired_hash[i]);
        kv_watch_feed(zone, KV_FEED_EXPIRE, lsn - n + 1 + i, e);

        kv_failpoint(KV_FAILPOINT_EXPIRING);

        if (kv_epoch_retire(&zone->retired, e, KV_RETIRED_ENTRY) != KV_OK) {
            return false;
        }
    }

    kv_set_relaxed(zone->stats.expired,
                   kv_get_relaxed(zone->stats.expired) + n);

    return kv_batch_applied(store, lsn);
}
