
/*
 * The map against a shadow model; how it grows, what it reserves for that, and
 * what it does without memory.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "map_rig.h"


/* Frees, and sometimes empties a page. */

static void
reclaim(void)
{
    kv_rc_t  rc;

    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_true(kv_map_sweep(&zone->map, map_rnd(3000)) != KV_DEAD);

    if (map_rnd(4) == 0) {
        rc = kv_compact_page(zone, map_rnd(2));
        assert_true(rc == KV_OK || rc == KV_DECLINED);
    }
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
            reclaim();
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
                || buckets == KV_CHUNK_BUCKETS);

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
                     ((buckets - 1) / KV_CHUNK_BUCKETS + KV_MAP_ROOTS)
                     * KV_PAGE_SIZE
                     + zone->map.nreserved * sizeof(kv_bucket_t));

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
                     KV_CHUNK_BUCKETS);

    kv_map_expect(&zone->map, 50000);

    buckets = atomic_load(&zone->map.roots[0].buckets);
    assert_true(buckets * KV_MAP_LOAD >= 50000);
    assert_true((buckets - KV_CHUNK_BUCKETS) * KV_MAP_LOAD <= 50000);

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
    assert_int_equal(zone->map.nreserved, 0);
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

        to = map_make_entry(id, 1, 50);
        assert_false(kv_map_holds(&zone->map, to));

        assert_true(kv_map_relocate(&zone->map, from, to));
        assert_false(kv_map_holds(&zone->map, from));
        assert_ptr_equal(map_find(id), to);

        /* no longer there; what replaced it stays */

        assert_false(kv_map_relocate(&zone->map, from, from));
        assert_ptr_equal(map_find(id), to);
        assert_true(map_entry_is(map_find(id), id, &version) && version == 1);

        assert_int_equal(kv_entry_destroy(zone->heap, &from), KV_OK);
    }

    /* an entry of the same key that is not in the map */

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
    assert_int_equal(zone->map.nreserved, 10);

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
    unsigned  hoarded, reserved;

    (void) state;

    buckets = KV_CHUNK_BUCKETS;
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

    for (reserved = zone->map.nreserved; reserved < 4; reserved++) {
        hoarded = hoard_all();

        kv_map_grow(&zone->map);

        assert_int_equal(atomic_load(&zone->map.roots[0].buckets),
                         buckets + 1);
        assert_int_equal(zone->map.nreserved, reserved);
        assert_int_equal(walk_count(), atomic_load(&zone->map.keys));

        hoard_free(0, hoarded);

        if (reserved < 3) {
            assert_int_equal(kv_map_reserve(&zone->map, reserved + 1),
                             reserved + 1);
        }
    }

    kv_map_grow(&zone->map);
    assert_int_equal(atomic_load(&zone->map.roots[0].buckets), buckets + 2);
    assert_int_equal(walk_count(), atomic_load(&zone->map.keys));

    map_clear();
    map_assert_empty();
}


/* A full zone: puts fail cleanly, deletes and the clear free memory. */

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


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, map_setup, map_teardown)

#define SMALL(name)                                                           \
    cmocka_unit_test_setup_teardown(name, map_setup_small, map_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_model),
        TEST(test_growth),
        TEST(test_expect),
        SMALL(test_expect_too_much),
        TEST(test_unreserve),
        TEST(test_relocate),
        SMALL(test_reserve),
        SMALL(test_split_without_memory),
        SMALL(test_full)
    };

    return cmocka_run_group_tests_name("map growth", tests, NULL, NULL);
}
