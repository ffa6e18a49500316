
/*
 * Watchers; see kv_watch.h.
 */


#include "store/kv_await.h"
#include "store/kv_watch.h"
#include "base/kv_hash.h"


/* a worker that is this share of the ring behind is woken */
#define KV_WATCH_LAG    4

/* in worker->watched, beside a bit for each length below */
#define KV_WATCH_ALL    (1u << 30)     /* an empty prefix */
#define KV_WATCH_KEYS   (1u << 31)     /* single keys */

#define KV_WATCH_LENGTHS  16u


/* What is shown of a prefix, or of a key. */

typedef struct {
    uint32_t   bit;
    uint64_t   hash;
} kv_watch_shown_t;


/* What to look for, of one record. */

typedef struct {
    bool       all;                    /* it is every watcher's */
    unsigned   n;
    uint64_t   hash[KV_WATCH_LENGTHS + 1];
} kv_watch_hashes_t;


static uint64_t kv_watch_hash(const void *name, size_t len);
static void kv_watch_shown(const void *name, size_t len, bool prefix,
    kv_watch_shown_t *shown);
static uint32_t kv_watch_wanted(kv_zone_t *zone);
static bool kv_watch_find(const kv_feed_record_t *rec, uint32_t wanted,
    kv_watch_hashes_t *hashes);
static void kv_watch_tell_workers(kv_zone_t *zone,
    const kv_watch_hashes_t *hashes, uint8_t *wake);
static bool kv_watch_is_interested(const kv_worker_t *worker,
    const kv_watch_hashes_t *hashes);
static void kv_watch_tell_late(kv_zone_t *zone, bool all, uint8_t *wake);


/* a prefix counts as one of the longest of these that is not longer */

static const uint8_t  kv_watch_lengths[KV_WATCH_LENGTHS] = {
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64
};


/* Not secret: who finds prefixes that collide has a worker woken in vain. */

static uint64_t
kv_watch_hash(const void *name, size_t len)
{
    static const uint64_t  seed[2] = { 1, 2 };

    return kv_hash(seed, name, len);
}


static void
kv_watch_shown(const void *name, size_t len, bool prefix,
    kv_watch_shown_t *shown)
{
    unsigned  i;

    if (!prefix) {
        shown->bit = KV_WATCH_KEYS;
        shown->hash = kv_watch_hash(name, len);
        return;
    }

    for (i = 0; i < KV_WATCH_LENGTHS && kv_watch_lengths[i] <= len; i++) {
        /* void */
    }

    shown->bit = i ? 1u << (i - 1) : KV_WATCH_ALL;
    shown->hash = kv_watch_hash(name, i ? kv_watch_lengths[i - 1] : 0);
}


void
kv_watch_feed_again(kv_zone_t *zone, uint64_t lsn, const kv_record_t *rec)
{
    kv_feed_kind_t  kind;

    if (zone->feed.size == 0 || lsn <= zone->feed.last) {
        return;
    }

    switch (rec->op) {

    case KV_OP_PUT:
        kind = KV_FEED_PUT;
        break;

    case KV_OP_DELETE:
        kind = rec->flags & KV_RECORD_EXPIRES ? KV_FEED_EXPIRE
                                              : KV_FEED_DELETE;
        break;

    case KV_OP_CLEAR:
        kind = KV_FEED_CLEAR;
        break;

    default:
        return;
    }

    kv_feed_put(&zone->feed, kind, lsn, rec->key, rec->key_len);
}


void
kv_watch_tell(kv_zone_t *zone, uint64_t from, uint8_t *wake)
{
    kv_rc_t            rc;
    uint32_t           wanted;
    kv_feed_record_t   rec;
    kv_watch_hashes_t  hashes;

    if (from == kv_feed_tail(&zone->feed)) {
        return;
    }

    /* between what is published and the search for interest */

    kv_fence();

    if (!kv_get_relaxed(zone->watches)) {
        return;
    }

    wanted = kv_watch_wanted(zone);

    if (wanted == 0) {

        /* a worker shows its number of watchers before it reads the flag */

        atomic_store(&zone->watches, 0);

        if (kv_watch_count(zone)) {
            atomic_store(&zone->watches, 1);
            kv_watch_tell_late(zone, true, wake);
        }

        return;
    }

    while ((rc = kv_feed_read(&zone->feed, from, &rec)) == KV_OK) {

        if (kv_watch_find(&rec, wanted, &hashes)) {
            kv_watch_tell_workers(zone, &hashes, wake);
        }

        if (hashes.all) {
            break;
        }

        from = rec.next;
    }

    kv_watch_tell_late(zone, rc == KV_DECLINED, wake);
}


/* What the workers have in worker->watched. */

static uint32_t
kv_watch_wanted(kv_zone_t *zone)
{
    uint32_t  wanted;
    unsigned  i;

    for (i = 0, wanted = 0; i < zone->nworkers; i++) {
        wanted |= kv_get_relaxed(zone->workers[i].watched);
    }

    return wanted;
}


/* Whether a worker may be interested. */

static bool
kv_watch_find(const kv_feed_record_t *rec, uint32_t wanted,
    kv_watch_hashes_t *hashes)
{
    unsigned  i;

    hashes->n = 0;
    hashes->all = rec->kind == KV_FEED_CLEAR;

    if (hashes->all) {
        return true;
    }

    if (wanted & KV_WATCH_KEYS) {
        hashes->hash[hashes->n++] = kv_watch_hash(rec->key, rec->key_len);
    }

    for (i = 0;
         i < KV_WATCH_LENGTHS && kv_watch_lengths[i] <= rec->key_len;
         i++)
    {
        if (wanted & 1u << i) {
            hashes->hash[hashes->n++] = kv_watch_hash(rec->key,
                                                      kv_watch_lengths[i]);
        }
    }

    return hashes->n || (wanted & KV_WATCH_ALL);
}


static void
kv_watch_tell_workers(kv_zone_t *zone, const kv_watch_hashes_t *hashes,
    uint8_t *wake)
{
    unsigned      i;
    kv_worker_t  *worker;

    for (i = 0; i < zone->nworkers; i++) {
        worker = &zone->workers[i];

        if (kv_get_relaxed(worker->watched) && !wake[i]
            && kv_watch_is_interested(worker, hashes))
        {
            wake[i] = 1;
        }
    }
}


static bool
kv_watch_is_interested(const kv_worker_t *worker,
    const kv_watch_hashes_t *hashes)
{
    unsigned  i;

    if (hashes->all || (kv_get_relaxed(worker->watched) & KV_WATCH_ALL)) {
        return true;
    }

    for (i = 0; i < hashes->n; i++) {
        if (kv_await_has(worker, hashes->hash[i])) {
            return true;
        }
    }

    return false;
}


/* Those that are far behind; or all that have watchers. */

static void
kv_watch_tell_late(kv_zone_t *zone, bool all, uint8_t *wake)
{
    unsigned      i;
    uint64_t      tail;
    kv_worker_t  *worker;

    tail = kv_feed_tail(&zone->feed);

    for (i = 0; i < zone->nworkers; i++) {
        worker = &zone->workers[i];

        if (kv_get_relaxed(worker->watchers)
            && (all || tail - kv_get_relaxed(worker->feed_read)
                       >= zone->feed.size / KV_WATCH_LAG))
        {
            wake[i] = 1;
        }
    }
}


void
kv_watch_tell_all(kv_zone_t *zone)
{
    /* kv_watch_tell() may have died where it says that there are none */

    atomic_store(&zone->watches, 1);
}


uint64_t
kv_watch_count(kv_zone_t *zone)
{
    uint64_t  n;
    unsigned  i;

    for (i = 0, n = 0; i < zone->nworkers; i++) {
        n += atomic_load(&zone->workers[i].watchers);
    }

    return n;
}


bool
kv_store_feeds(const kv_store_t *store)
{
    return store->zone->feed.size != 0;
}


kv_rc_t
kv_store_watch(kv_store_t *store, const void *name, size_t len, bool prefix)
{
    kv_rc_t            rc;
    unsigned           i;
    kv_worker_t       *worker;
    kv_watch_shown_t   shown;

    kv_watch_shown(name, len, prefix, &shown);

    rc = kv_await_show(store, shown.hash);

    if (rc != KV_OK) {
        return rc;
    }

    worker = store->worker;
    i = (unsigned) __builtin_ctz(shown.bit);

    if (store->watched[i]++ == 0) {
        atomic_store(&worker->watched,
                     kv_get_relaxed(worker->watched) | shown.bit);
    }

    (void) atomic_fetch_add(&worker->watchers, 1);

    if (!atomic_load(&store->zone->watches)) {
        atomic_store(&store->zone->watches, 1);
    }

    /* before the caller notes the end of the feed: see kv_watch.h */

    kv_fence();

    return KV_OK;
}


void
kv_store_watch_end(kv_store_t *store, const void *name, size_t len,
    bool prefix)
{
    unsigned           i;
    kv_worker_t       *worker;
    kv_watch_shown_t   shown;

    worker = store->worker;

    if (worker == NULL) {
        return;
    }

    kv_watch_shown(name, len, prefix, &shown);
    kv_await_hide(store, shown.hash);

    i = (unsigned) __builtin_ctz(shown.bit);

    assert(store->watched[i]);

    if (--store->watched[i] == 0) {
        atomic_store(&worker->watched,
                     kv_get_relaxed(worker->watched) & ~shown.bit);
    }

    (void) atomic_fetch_sub(&worker->watchers, 1);
}


kv_rc_t
kv_store_feed_find(kv_store_t *store, const kv_version_t *after,
    uint64_t *pos, kv_feed_record_t *rec)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_state(zone) == KV_STATE_FAILED) {
        return KV_ERROR;
    }

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    if (!kv_wal_was(&zone->wal, after->lsn, after->incarnation)) {
        return KV_PRECONDITION;
    }

    return kv_feed_find(&zone->feed, after->lsn, pos, rec);
}


kv_rc_t
kv_store_feed_read(kv_store_t *store, uint64_t pos, kv_feed_record_t *rec)
{
    if (kv_state(store->zone) == KV_STATE_FAILED) {
        return KV_ERROR;
    }

    return kv_store_ready(store) ? kv_feed_read(&store->zone->feed, pos, rec)
                                 : KV_UNAVAILABLE;
}


kv_version_t
kv_store_feed_id(kv_store_t *store, uint64_t lsn)
{
    kv_version_t  version;

    version.lsn = lsn;
    version.incarnation = kv_wal_writer(&store->zone->wal, lsn);

    return version;
}


uint64_t
kv_store_feed_end(kv_store_t *store)
{
    return kv_feed_tail(&store->zone->feed);
}


void
kv_store_feed_seen(kv_store_t *store, uint64_t pos)
{
    if (store->worker) {
        kv_set_relaxed(store->worker->feed_read, pos);
    }
}
