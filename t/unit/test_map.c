
/*
 * The map: against a shadow model, its growth, and readers without locks
 * beside a writer.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "store/kv_compact.h"
#include "memory/kv_poison.h"


#define SLOTS    8
#define STOP_MS  1200


#if defined __SANITIZE_THREAD__
#define SCALE(n)  ((n) / 4)
#else
#define SCALE(n)  (n)
#endif


/* A zone without a log: heap, the retire list, slots, map. */

static char        *region;
static size_t       region_size;
static kv_zone_t   *zone;
static kv_store_t  *store;
static kv_worker_t   *workers;
static uint64_t     map_seed;


static uint32_t
map_rnd_of(uint64_t *s, uint32_t n)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;

    return (uint32_t) (*s >> 16) % n;
}


static uint32_t
map_rnd(uint32_t n)
{
    return map_rnd_of(&map_seed, n);
}


static int
setup_size(size_t size)
{
    char    *p;
    size_t   dir;

    map_seed = 88172645463325252ull;
    region_size = size;

    region = mmap(NULL, size, PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    store = calloc(1, sizeof(kv_store_t));

    if (region == MAP_FAILED || store == NULL) {
        return -1;
    }

    zone = (kv_zone_t *) region;
    p = region + kv_align(sizeof(kv_zone_t), KV_CACHE_LINE);

    workers = (kv_worker_t *) p;
    p += SLOTS * sizeof(kv_worker_t);

    dir = kv_map_directory_size(size);

    zone->heap = kv_heap_create(p + dir, (size_t) (region + size - p) - dir);
    store->zone = zone;

    if (zone->heap == NULL || kv_workers_create(workers, SLOTS) != KV_OK) {
        return -1;
    }

    zone->workers = workers;
    zone->nworkers = SLOTS;

    kv_retire_list_create(&zone->retired, zone->heap, workers, SLOTS);

    return kv_map_create(&zone->map, zone->heap, &zone->retired, p, size)
           == KV_OK ? 0 : -1;
}


static int
map_setup(void **state)
{
    (void) state;

    return setup_size((size_t) 64 << 20);
}


static int
map_setup_small(void **state)
{
    (void) state;

    return setup_size((size_t) 3 << 20);
}


static int
map_teardown(void **state)
{
    (void) state;

    free(store);

    kv_poison_forget(region, region_size);
    return munmap(region, region_size);
}


static kv_heap_stat_t
map_heap_stat(void)
{
    kv_err_t        err;
    kv_heap_stat_t  st;

    assert_int_equal(kv_heap_lock(zone->heap), KV_OK);

    if (kv_heap_check(zone->heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    kv_heap_stat(zone->heap, &st);
    kv_heap_unlock(zone->heap);

    return st;
}


/*
 * Without entries there is a segment for each root, and the reserve of
 * buckets.
 */

static void
map_assert_empty(void)
{
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_OK);
    assert_int_equal(kv_epoch_count(&zone->retired), 0);
    assert_int_equal(atomic_load(&zone->map.keys), 0);
    assert_int_equal(atomic_load(&zone->map.bytes), 0);

    assert_int_equal(map_heap_stat().used,
                     KV_MAP_ROOTS * KV_PAGE_SIZE
                     + zone->map.stocked * sizeof(kv_bucket_t));
}


/*
 * A value says whose it is, which one, and is of one byte that follows from
 * both: torn and foreign ones are told.
 */

typedef struct {
    uint32_t  id;
    uint32_t  version;
} stamp_t;


static size_t
map_key_of(uint32_t id, char *key)
{
    return (size_t) sprintf(key, "key-%u", id);
}


static unsigned char
fill_of(uint32_t id, uint32_t version)
{
    return (unsigned char) ((id * 31 + version * 2654435761u) >> 5);
}


/* Sets *version and says whether the entry is in order. */

static bool
map_entry_is(const kv_entry_t *e, uint32_t id, uint32_t *version)
{
    char           key[32];
    size_t         n, len, i, k;
    stamp_t        stamp;
    struct iovec   iov[64];
    unsigned char  fill, *p;

    n = map_key_of(id, key);

    if (e->key_len != n || memcmp(e->key, key, n) != 0) {
        return false;
    }

    n = kv_entry_iov(e, iov, 64, 0);
    len = 0;
    fill = 0;

    for (i = 0; i < n; i++) {
        p = iov[i].iov_base;
        k = 0;

        if (i == 0) {
            if (iov[0].iov_len < sizeof(stamp)) {
                return false;
            }

            memcpy(&stamp, p, sizeof(stamp));
            fill = fill_of(stamp.id, stamp.version);
            k = sizeof(stamp);
        }

        if (k < iov[i].iov_len
            && (p[k] != fill
                || memcmp(p + k, p + k + 1, iov[i].iov_len - k - 1) != 0))
        {
            return false;
        }

        len += iov[i].iov_len;
    }

    if (len != e->value_len || stamp.id != id) {
        return false;
    }

    *version = stamp.version;

    return true;
}


static kv_entry_t *
map_make_entry(uint32_t id, uint32_t version, uint32_t len)
{
    char         key[32];
    size_t       n;
    stamp_t      stamp;
    kv_rc_t      rc;
    kv_entry_t  *e;

    static _Thread_local unsigned char  buf[1 << 20];

    assert(len >= sizeof(stamp) && len <= sizeof(buf));

    stamp.id = id;
    stamp.version = version;

    memcpy(buf, &stamp, sizeof(stamp));
    memset(buf + sizeof(stamp), fill_of(id, version), len - sizeof(stamp));

    n = map_key_of(id, key);
    e = NULL;

    rc = kv_entry_create(zone->heap, &e, key, (uint16_t) n, len);

    if (rc != KV_OK) {
        return NULL;
    }

    kv_entry_write(e, 0, buf, len);

    return e;
}


static uint64_t
map_hash_of(uint32_t id, char *key, size_t *n)
{
    *n = map_key_of(id, key);

    return kv_map_hash(&zone->map, key, *n);
}


static bool
map_put(uint32_t id, uint32_t version, uint32_t len)
{
    char         key[32];
    size_t       n;
    uint64_t     hash;
    kv_entry_t  *e, *old;

    if (kv_map_reserve(&zone->map, 1) != 1) {
        return false;
    }

    e = map_make_entry(id, version, len);

    if (e == NULL) {
        return false;
    }

    hash = map_hash_of(id, key, &n);
    old = kv_map_put(&zone->map, hash, e);

    if (old) {
        assert_int_equal(kv_epoch_reserve(&zone->retired, 1), 1);
        assert_int_equal(kv_epoch_retire(&zone->retired, old,
                                         KV_RETIRED_ENTRY), KV_OK);
    }

    return true;
}


static bool
map_drop(uint32_t id)
{
    char         key[32];
    size_t       n;
    uint64_t     hash;
    kv_entry_t  *old;

    hash = map_hash_of(id, key, &n);
    old = kv_map_delete(&zone->map, hash, key, n);

    if (old) {
        assert_int_equal(kv_epoch_reserve(&zone->retired, 1), 1);
        assert_int_equal(kv_epoch_retire(&zone->retired, old,
                                         KV_RETIRED_ENTRY), KV_OK);
    }

    return old != NULL;
}


/* Waits for readers, if it must. */

static void
map_clear(void)
{
    kv_rc_t  rc;

    while ((rc = kv_map_clearable(&zone->map, 1)) == KV_BUSY) {
        sched_yield();
    }

    assert_int_equal(rc, KV_OK);

    kv_map_clear(&zone->map);
}


static kv_entry_t *
map_find(uint32_t id)
{
    char      key[32];
    size_t    n;
    uint64_t  hash;

    hash = map_hash_of(id, key, &n);

    return kv_map_find(&zone->map, hash, key, n);
}


/* Frees, and sometimes empties a page. */

static void
tidy(void)
{
    kv_rc_t  rc;

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_true(kv_map_sweep(&zone->map, map_rnd(3000)) != KV_DEAD);

    if (map_rnd(4) == 0) {
        rc = kv_compact_page(store, map_rnd(2));
        assert_true(rc == KV_OK || rc == KV_DECLINED);
    }
}


static uint32_t
map_some_length(uint64_t *s)
{
    uint32_t  r;

    r = map_rnd_of(s, 1000);

    if (r < 900) {
        return 8 + map_rnd_of(s, 200);
    }

    return r < 996 ? 8 + map_rnd_of(s, 5000) : 8 + map_rnd_of(s, 150000);
}


static void
count_one(void *ctx, const kv_entry_t *e)
{
    (void) e;

    (*(uint32_t *) ctx)++;
}


static uint32_t
walk_count(void)
{
    uint32_t  n;
    uint64_t  from;

    n = 0;
    from = 0;

    do {
        from = kv_map_walk(&zone->map, from, 100, count_one, &n);
    } while (from);

    return n;
}


#define IDS  6000

static void
test_model(void **state)
{
    uint32_t     i, id, keys, len, version, *shadow, *length;
    uint64_t     bytes;
    char         key[32];
    kv_entry_t  *e;

    (void) state;

    shadow = calloc(IDS, sizeof(uint32_t));
    length = calloc(IDS, sizeof(uint32_t));
    assert_true(shadow && length);
    keys = 0;
    bytes = 0;

    for (i = 1; i <= SCALE(120000); i++) {
        id = map_rnd(IDS);

        if (map_rnd(3)) {
            len = map_some_length(&map_seed);
            assert_true(map_put(id, i, len));

            if (shadow[id]) {
                bytes -= length[id];

            } else {
                keys++;
                bytes += map_key_of(id, key);
            }

            shadow[id] = i;
            length[id] = len;
            bytes += len;

        } else {
            assert_int_equal(map_drop(id), shadow[id] != 0);

            if (shadow[id]) {
                keys--;
                bytes -= map_key_of(id, key) + length[id];
                shadow[id] = 0;
            }
        }

        if (i % 64 == 0) {
            kv_map_grow(&zone->map);
            tidy();
        }

        id = map_rnd(IDS);
        e = map_find(id);
        assert_int_equal(e != NULL, shadow[id] != 0);

        if (e) {
            assert_true(map_entry_is(e, id, &version));
            assert_int_equal(version, shadow[id]);
            assert_int_equal(e->value_len, length[id]);
        }

        assert_int_equal(atomic_load(&zone->map.keys), keys);
        assert_int_equal(atomic_load(&zone->map.bytes), bytes);

        if (i % 10000 == 0) {
            assert_int_equal(walk_count(), keys);
        }

        if (map_rnd(40000) == 0) {
            map_clear();
            memset(shadow, 0, IDS * sizeof(uint32_t));
            keys = 0;
            bytes = 0;
            assert_int_equal(walk_count(), 0);
        }
    }

    for (id = 0; id < IDS; id++) {
        assert_int_equal(map_find(id) != NULL, shadow[id] != 0);
    }

    map_clear();
    map_assert_empty();

    free(shadow);
    free(length);
}


static void
test_growth(void **state)
{
    uint32_t  id, n;
    uint64_t  buckets;

    (void) state;

    n = SCALE(600000);

    for (id = 0; id < n; id++) {
        assert_true(map_put(id, 1, 8));

        if (id % 32 == 0) {
            kv_map_grow(&zone->map);
        }
    }

    kv_map_grow(&zone->map);

    buckets = atomic_load(&zone->map.roots[0].buckets);
    assert_true(buckets * KV_MAP_LOAD >= n);
    assert_true(buckets * KV_MAP_LOAD < n + KV_MAP_LOAD
                || buckets == KV_SEGMENT_BUCKETS);

    for (id = 0; id < n; id++) {
        assert_non_null(map_find(id));
    }

    assert_null(map_find(n));
    assert_int_equal(walk_count(), n);

    /* deleted one by one: the table stays, its overflow buckets go */

    for (id = 0; id < n; id++) {
        assert_true(map_drop(id));

        if (id % 1000 == 0) {
            assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
        }
    }

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(map_heap_stat().used,
                     ((buckets - 1) / KV_SEGMENT_BUCKETS + KV_MAP_ROOTS)
                     * KV_PAGE_SIZE
                     + zone->map.stocked * sizeof(kv_bucket_t));

    /* and a second time into a table that is there */

    for (id = 0; id < 5000; id++) {
        assert_true(map_put(id, 2, 8));
    }

    assert_int_equal(walk_count(), 5000);

    map_clear();
    map_assert_empty();
}


/* Told how many will come: it has its size at once, and keeps it. */

static void
test_expect(void **state)
{
    uint32_t  id;
    uint64_t  buckets;

    (void) state;

    kv_map_expect(&zone->map, 0);
    assert_int_equal(atomic_load(&zone->map.roots[0].buckets),
                     KV_SEGMENT_BUCKETS);

    kv_map_expect(&zone->map, 50000);

    buckets = atomic_load(&zone->map.roots[0].buckets);
    assert_true(buckets * KV_MAP_LOAD >= 50000);
    assert_true((buckets - KV_SEGMENT_BUCKETS) * KV_MAP_LOAD <= 50000);

    for (id = 0; id < 50000; id++) {
        assert_true(map_put(id, 1, 8));
        kv_map_grow(&zone->map);
    }

    assert_int_equal(atomic_load(&zone->map.roots[0].buckets), buckets);
    assert_int_equal(walk_count(), 50000);

    /* and grows on */

    for (/* void */; id < 100000; id++) {
        assert_true(map_put(id, 1, 8));
        kv_map_grow(&zone->map);
    }

    for (id = 0; id < 100000; id++) {
        assert_non_null(map_find(id));
    }

    assert_int_equal(walk_count(), 100000);
}


/* More than there is memory for: the map takes what there is, and works. */

static void
test_expect_too_much(void **state)
{
    uint32_t  id;

    (void) state;

    kv_map_expect(&zone->map, UINT64_MAX);

    for (id = 0; map_put(id, 1, 8); id++) {
        assert_non_null(map_find(id));
    }

    assert_int_equal(walk_count(), id);
}


/* What was set aside and is of no use comes back, all of it. */

static void
test_unreserve(void **state)
{
    uint32_t  id;
    uint64_t  used;

    (void) state;

    used = map_heap_stat().used;

    kv_map_unreserve(&zone->map);
    assert_int_equal(map_heap_stat().used, used);

    assert_int_equal(kv_map_reserve(&zone->map, 5000), 5000);
    assert_int_equal(map_heap_stat().used, used + 5000 * sizeof(kv_bucket_t));

    kv_map_unreserve(&zone->map);
    assert_int_equal(zone->map.stocked, 0);
    assert_int_equal(map_heap_stat().used, used);

    /* and the map works on */

    for (id = 0; id < 5000; id++) {
        assert_true(map_put(id, 1, 8));
    }

    kv_map_unreserve(&zone->map);
    assert_int_equal(walk_count(), 5000);
}


static void
test_relocate(void **state)
{
    uint32_t     id, version;
    kv_entry_t  *from, *to;

    (void) state;

    for (id = 0; id < 2000; id++) {
        assert_true(map_put(id, 1, 50));
    }

    for (id = 0; id < 2000; id++) {
        from = map_find(id);
        assert_true(kv_map_holds(&zone->map, from));

        to = map_make_entry(id, 2, 70);
        assert_false(kv_map_holds(&zone->map, to));

        assert_true(kv_map_relocate(&zone->map, from, to));
        assert_false(kv_map_holds(&zone->map, from));
        assert_ptr_equal(map_find(id), to);

        /* no longer there; what replaced it stays */

        assert_false(kv_map_relocate(&zone->map, from, from));
        assert_ptr_equal(map_find(id), to);
        assert_true(map_entry_is(map_find(id), id, &version) && version == 2);

        assert_int_equal(kv_entry_destroy(zone->heap, &from), KV_OK);
    }

    /* an entry of the same key that is in nobody's map */

    from = map_make_entry(5000, 1, 20);
    to = map_make_entry(5000, 1, 20);
    assert_false(kv_map_relocate(&zone->map, from, to));
    assert_null(map_find(5000));
    assert_int_equal(kv_entry_destroy(zone->heap, &from), KV_OK);
    assert_int_equal(kv_entry_destroy(zone->heap, &to), KV_OK);
}


/* Takes all memory, in objects of a bucket's size; frees it. */

static void *hoard[1 << 16];

static unsigned
hoard_all(void)
{
    unsigned  n;

    assert_int_equal(kv_heap_lock(zone->heap), KV_OK);

    for (n = 0; n < 1 << 16; n++) {
        hoard[n] = kv_heap_alloc(zone->heap, KV_HEAP_SYSTEM,
                                 sizeof(kv_bucket_t));
        if (hoard[n] == NULL) {
            break;
        }
    }

    kv_heap_unlock(zone->heap);

    assert_true(n < 1 << 16);

    return n;
}


static void
hoard_free(unsigned from, unsigned to)
{
    assert_int_equal(kv_heap_lock(zone->heap), KV_OK);

    for ( /* void */ ; from < to; from++) {
        kv_heap_free(zone->heap, hoard[from]);
    }

    kv_heap_unlock(zone->heap);
}


static void
test_reserve(void **state)
{
    unsigned  n, i;

    (void) state;

    assert_int_equal(kv_map_reserve(&zone->map, 10), 10);
    assert_int_equal(zone->map.stocked, 10);

    n = hoard_all();

    assert_int_equal(kv_map_reserve(&zone->map, 10), 10);
    assert_int_equal(kv_map_reserve(&zone->map, 11), 10);
    assert_int_equal(kv_map_reserve(&zone->map, 1024), 10);
    assert_int_equal(kv_map_reserve(&zone->map, 3), 3);

    hoard_free(0, 5);

    i = (unsigned) kv_map_reserve(&zone->map, 1024);
    assert_int_equal(i, 15);

    hoard_free(5, n);
    map_assert_empty();
}


/*
 * A split that needs an overflow bucket when there is no memory: it is put
 * off, and what was set aside for puts is not touched.
 */

static void
test_split_without_memory(void **state)
{
    char      key[32];
    size_t    n;
    uint32_t  id, crowd;
    uint64_t  hash, buckets;
    unsigned  hoarded, stocked;

    (void) state;

    buckets = KV_SEGMENT_BUCKETS;
    crowd = 0;

    /* more than a bucket of keys that the second split will move */

    for (id = 0; crowd < 2 * KV_BUCKET_CELLS + 1; id++) {
        hash = map_hash_of(id, key, &n);

        if ((hash & (2 * buckets - 1)) == buckets + 1) {
            assert_true(map_put(id, 1, 8));
            crowd++;
        }
    }

    for ( /* void */ ; atomic_load(&zone->map.keys) <= buckets * KV_MAP_LOAD;
         id++)
    {
        assert_true(map_put(id, 1, 8));
    }

    kv_map_grow(&zone->map);
    assert_int_equal(atomic_load(&zone->map.roots[0].buckets), buckets + 1);

    for ( /* void */ ;
         atomic_load(&zone->map.keys) <= (buckets + 1) * KV_MAP_LOAD; id++)
    {
        assert_true(map_put(id, 1, 8));
    }

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);

    for (stocked = zone->map.stocked; stocked < 4; stocked++) {
        hoarded = hoard_all();

        kv_map_grow(&zone->map);

        assert_int_equal(atomic_load(&zone->map.roots[0].buckets),
                         buckets + 1);
        assert_int_equal(zone->map.stocked, stocked);
        assert_int_equal(walk_count(), atomic_load(&zone->map.keys));

        hoard_free(0, hoarded);

        if (stocked < 3) {
            assert_int_equal(kv_map_reserve(&zone->map, stocked + 1),
                             stocked + 1);
        }
    }

    kv_map_grow(&zone->map);
    assert_int_equal(atomic_load(&zone->map.roots[0].buckets), buckets + 2);
    assert_int_equal(walk_count(), atomic_load(&zone->map.keys));

    map_clear();
    map_assert_empty();
}


/* A full zone: puts fail cleanly, deletes and the clear give room. */

static void
test_full(void **state)
{
    uint32_t  id, n;

    (void) state;

    for (id = 0; map_put(id, 1, 100); id++) {
        if (id % 32 == 0) {
            kv_map_grow(&zone->map);
        }
    }

    n = id;
    assert_true(n > 5000);
    kv_map_grow(&zone->map);

    for (id = 0; id < n; id++) {
        assert_non_null(map_find(id));
    }

    for (id = 0; id < n; id += 2) {
        assert_true(map_drop(id));

        if (id % 512 == 0) {
            assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
        }
    }

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);

    for (id = 0; id < n; id += 2) {
        assert_true(map_put(id, 2, 100));
    }

    map_clear();
    map_assert_empty();
}


/*
 * Threads.  One writes; the others read, each with a slot of its own.  They
 * count what is wrong, because an assertion belongs into the main thread.
 */

#define STABLE   2000u
#define CHURN    20000u

typedef struct {
    pthread_t   thread;
    uint64_t    seed;
    uint64_t    reads;
    uint64_t    missed;
    uint64_t    torn;
    uint64_t    back;                /* older than one seen before */
    uint64_t    walks;
    uint8_t    *seen;
} reader_t;


static _Atomic int  stop;
static _Atomic int  cleared;         /* the stable keys may be missed */


static unsigned
take_slot(void)
{
    unsigned  i;

    while (kv_worker_acquire(workers, SLOTS, &i) != KV_OK) {
        sched_yield();
    }

    return i;
}


static void *
reader(void *data)
{
    uint32_t    id, version, *newest;
    unsigned    me;
    reader_t   *r = data;
    kv_entry_t  *e;

    me = take_slot();
    newest = calloc(STABLE + CHURN, sizeof(uint32_t));

    while (!atomic_load(&stop)) {
        id = map_rnd_of(&r->seed, 3) ? map_rnd_of(&r->seed, STABLE)
                                     : STABLE + map_rnd_of(&r->seed, CHURN);

        kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);

        e = map_find(id);

        if (e == NULL) {
            r->missed += id < STABLE && !atomic_load(&cleared);

        } else if (!map_entry_is(e, id, &version)) {
            r->torn++;

        } else {
            r->back += version < newest[id];
            newest[id] = version;
        }

        kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);
        r->reads++;
    }

    free(newest);
    kv_worker_reaped(&workers[me]);

    return NULL;
}


static void
saw(void *ctx, const kv_entry_t *e)
{
    char       key[32];
    uint32_t   id, version;
    reader_t  *r = ctx;

    (void) snprintf(key, sizeof(key), "%.*s", e->key_len, e->key);
    id = (uint32_t) strtoul(key + 4, NULL, 10);

    if (!map_entry_is(e, id, &version)) {
        r->torn++;
    }

    if (id < STABLE) {
        r->seen[id] = 1;
    }
}


static void *
walker(void *data)
{
    uint32_t   id;
    uint64_t   from;
    unsigned   me;
    reader_t  *r = data;

    me = take_slot();
    r->seen = calloc(STABLE, 1);

    while (!atomic_load(&stop)) {
        memset(r->seen, 0, STABLE);
        from = 0;

        do {
            kv_epoch_enter(&workers[me], KV_EPOCH_SCAN, &zone->retired.epoch);
            from = kv_map_walk(&zone->map, from, 1 + map_rnd_of(&r->seed, 200),
                               saw, r);
            kv_epoch_leave(&workers[me], KV_EPOCH_SCAN);
        } while (from);

        for (id = 0; id < STABLE; id++) {
            r->missed += !r->seen[id];
        }

        r->walks++;
    }

    free(r->seen);
    kv_worker_reaped(&workers[me]);

    return NULL;
}


static uint64_t
now_ms(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


static void
run_threads(bool clears, bool walks)
{
    bool      ok;
    uint32_t  id, version, splits;
    uint64_t  end, rounds, moved;
    unsigned  i;
    reader_t  r[3];

    memset(r, 0, sizeof(r));
    version = 1;
    rounds = 0;
    moved = 0;

    for (id = 0; id < STABLE; id++) {
        assert_true(map_put(id, version, map_some_length(&map_seed)));
    }

    atomic_store(&stop, 0);
    atomic_store(&cleared, clears);

    for (i = 0; i < 3; i++) {
        r[i].seed = 1234567 + i * 7919;
        assert_int_equal(pthread_create(&r[i].thread, NULL,
                                        walks && i == 2 ? walker : reader,
                                        &r[i]), 0);
    }

    end = now_ms() + STOP_MS;
    ok = true;

    /* no assertion while threads run: they must be joined */

    while (ok && now_ms() < end) {
        version++;
        rounds++;

        for (i = 0; ok && i < 200; i++) {

            switch (map_rnd(4)) {

            case 0:
                ok = map_put(map_rnd(STABLE), version,
                             map_some_length(&map_seed));
                break;

            case 1:
                (void) map_drop(STABLE + map_rnd(CHURN));
                break;

            default:
                ok = map_put(STABLE + map_rnd(CHURN), version,
                             map_some_length(&map_seed));
            }

            if (i % 16 == 0) {
                kv_map_grow(&zone->map);
            }
        }

        ok = ok && kv_epoch_reclaim(&zone->retired) == KV_OK
             && kv_map_sweep(&zone->map, map_rnd(3000)) != KV_DEAD;

        for (i = 0; ok && i < 3; i++) {
            moved += kv_compact_page(store, map_rnd(2)) == KV_OK;
        }

        if (clears && rounds % 40 == 0) {
            map_clear();

            for (id = 0; ok && id < STABLE; id++) {
                ok = map_put(id, version, 8 + map_rnd(100));
            }
        }
    }

    atomic_store(&stop, 1);
    splits = (uint32_t) (atomic_load(&zone->map.root)->buckets);

    for (i = 0; i < 3; i++) {
        (void) pthread_join(r[i].thread, NULL);
    }

    assert_true(ok);
    assert_true(rounds > 3);
    assert_true(moved > 0);
    assert_true(clears || splits > KV_SEGMENT_BUCKETS);

    for (i = 0; i < 3; i++) {
        assert_int_equal(r[i].torn, 0);
        assert_int_equal(r[i].missed, 0);
        assert_int_equal(r[i].back, 0);
        assert_true(r[i].reads + r[i].walks > 0);
    }

    map_clear();
    map_assert_empty();
}


static void
test_readers(void **state)
{
    (void) state;

    run_threads(false, false);
}


static void
test_readers_clear(void **state)
{
    (void) state;

    run_threads(true, false);
}


static void
test_walker(void **state)
{
    (void) state;

    run_threads(false, true);
}


/* A reader that stays holds up the freeing, and a clear waits for the other. */

static void
test_slow_reader(void **state)
{
    uint32_t     id, version;
    unsigned     me;
    kv_entry_t  *e[100];

    (void) state;

    me = take_slot();

    for (id = 0; id < 100; id++) {
        assert_true(map_put(id, 1, 40000 * (id % 2) + 100));
    }

    kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);

    for (id = 0; id < 100; id++) {
        e[id] = map_find(id);
    }

    for (id = 0; id < 50; id++) {
        assert_true(map_put(id, 2, 50));
    }

    map_clear();
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_BUSY);
    assert_int_equal(kv_epoch_count(&zone->retired), 50);

    for (id = 0; id < 100; id++) {
        assert_true(map_entry_is(e[id], id, &version) && version == 1);
        assert_null(map_find(id));
    }

    kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);
    kv_worker_reaped(&workers[me]);

    map_assert_empty();
}


/*
 * Pieces that were moved away from name the entry whose they are, which a clear
 * frees past the list that they are in.
 */

static void
test_clear_after_compaction(void **state)
{
    uint32_t  id;
    unsigned  me, i, moved;

    (void) state;

    me = take_slot();

    for (id = 0; id < 200; id++) {
        assert_true(map_put(id, 1, 9000));
    }

    for (id = 0; id < 200; id++) {
        if (id % 8 != 0) {
            assert_true(map_drop(id));
        }
    }

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_epoch_count(&zone->retired), 0);

    kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);

    for (i = 0, moved = 0; i < 20; i++) {
        moved += kv_compact_page(store, true) == KV_OK;
    }

    assert_true(moved > 0);
    assert_true(kv_epoch_count(&zone->retired) > 0);

    map_clear();
    kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);

    while (kv_map_sweep(&zone->map, 10) != KV_OK) { /* void */ }

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);

    kv_worker_reaped(&workers[me]);
    map_assert_empty();
}


/*
 * What a clear removed is freed in slices of the size that was asked for; who
 * clears again meanwhile finds an empty map, and the smaller one goes first.
 */

static void
test_slices(void **state)
{
    uint32_t        id;
    unsigned        slices, me;
    uint64_t        used, freed;
    kv_heap_stat_t  st;

    (void) state;

    for (id = 0; id < 60000; id++) {
        assert_true(map_put(id, 1, 40));

        if (id % 16 == 0) {
            kv_map_grow(&zone->map);
        }
    }

    kv_map_unreserve(&zone->map);
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    map_clear();
    assert_true(kv_map_unswept(&zone->map));

    used = map_heap_stat().used;

    for (slices = 0; slices < 20; slices++) {
        assert_int_equal(kv_map_sweep(&zone->map, 100), KV_AGAIN);

        st = map_heap_stat();
        freed = used - st.used;
        used = st.used;

        assert_true(freed > 0 && freed < 200 * 128);
    }

    /* a second clear, and a third: what they removed is gone at once */

    for (slices = 0; slices < 5; slices++) {
        used = map_heap_stat().used;

        for (id = 0; id < 500; id++) {
            assert_true(map_put(id, 2, 40));
        }

        kv_map_unreserve(&zone->map);
        map_clear();
        assert_null(map_find(1));
        assert_int_equal(kv_map_sweep(&zone->map, 3000), KV_AGAIN);
        assert_true(map_heap_stat().used < used);
    }

    /* not even a reader who stands still is waited for */

    me = take_slot();
    kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);

    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_OK);
    assert_true(map_put(1, 3, 40));
    map_clear();
    assert_true(map_put(2, 3, 40));
    map_clear();
    assert_true(map_put(3, 3, 40));

    assert_int_equal(kv_map_clearable(&zone->map, 1), KV_BUSY);
    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_BUSY);
    assert_non_null(map_find(3));

    kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);
    kv_worker_reaped(&workers[me]);

    assert_int_equal(kv_map_clearable(&zone->map, 2), KV_OK);
    map_clear();
    map_assert_empty();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, map_setup, map_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_clear_after_compaction),
        TEST(test_slices),
        TEST(test_model),
        TEST(test_growth),
        TEST(test_expect),
        cmocka_unit_test_setup_teardown(test_expect_too_much, map_setup_small,
                                        map_teardown),
        TEST(test_unreserve),
        TEST(test_relocate),
        cmocka_unit_test_setup_teardown(test_reserve, map_setup_small,
                                        map_teardown),
        cmocka_unit_test_setup_teardown(test_split_without_memory,
                                        map_setup_small, map_teardown),
        cmocka_unit_test_setup_teardown(test_full, map_setup_small,
                                        map_teardown),
        TEST(test_slow_reader),
        TEST(test_readers),
        TEST(test_readers_clear),
        TEST(test_walker)
    };

    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
