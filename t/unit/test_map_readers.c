
/*
 * Readers and walkers without locks, as threads, beside a writer; slow ones,
 * and what a clear frees under them.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "map_rig.h"


#define STOP_MS  1200
#define LATE_MS  60000             /* more, until there was enough */


static unsigned
take_place(void)
{
    unsigned  i;

    while (kv_worker_acquire(workers, PLACES, &i) != KV_OK) {
        sched_yield();
    }

    return i;
}


/*
 * Threads.  One writes; the others read, each with a place of its own.  They
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


static void *
reader(void *data)
{
    uint32_t    id, version, *newest;
    unsigned    me;
    reader_t   *r = data;
    kv_entry_t  *e;

    me = take_place();
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

    me = take_place();
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


static uint32_t
zone_buckets(void)
{
    return (uint32_t) atomic_load(&zone->map.root)->buckets;
}


/* Stores, deletes and grows; false if a store failed. */

static bool
churn(uint32_t version)
{
    bool      ok;
    unsigned  i;

    ok = true;

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

    return ok;
}


static void
run_threads(bool clears, bool walks)
{
    bool      ok;
    uint32_t  id, version, splits;
    uint64_t  end, late, rounds, moved;
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
    late = end + LATE_MS;
    ok = true;

    /* no assertion while threads run: they must be joined */

    while (ok && (now_ms() < end
                  || ((rounds <= 3 || moved == 0
                       || (!clears && zone_buckets() <= KV_CHUNK_BUCKETS))
                      && now_ms() < late)))
    {
        version++;
        rounds++;

        ok = churn(version)
             && kv_epoch_reclaim(&zone->retired) == KV_OK
             && kv_map_sweep(&zone->map, map_rnd(3000)) != KV_DEAD;

        for (i = 0; ok && i < 3; i++) {
            moved += kv_compact_page(zone, map_rnd(2)) == KV_OK;
        }

        if (clears && rounds % 40 == 0) {
            map_clear();

            for (id = 0; ok && id < STABLE; id++) {
                ok = map_put(id, version, 8 + map_rnd(100));
            }
        }
    }

    atomic_store(&stop, 1);
    splits = zone_buckets();

    for (i = 0; i < 3; i++) {
        (void) pthread_join(r[i].thread, NULL);
    }

    assert_true(ok);
    assert_true(rounds > 3);
    assert_true(moved > 0);
    assert_true(clears || splits > KV_CHUNK_BUCKETS);

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

    me = take_place();

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


/* A reader that leaves its epoch when the writer looks the Nth time. */

static struct {
    kv_worker_t  *worker;
    unsigned      nth;
} leaver;


uint64_t __real_kv_epoch_oldest(kv_worker_t *all, unsigned n);
uint64_t __wrap_kv_epoch_oldest(kv_worker_t *all, unsigned n);


uint64_t
__wrap_kv_epoch_oldest(kv_worker_t *all, unsigned n)
{
    if (leaver.worker && --leaver.nth == 0) {
        kv_epoch_leave(leaver.worker, KV_EPOCH_MAIN);
        leaver.worker = NULL;
    }

    return __real_kv_epoch_oldest(all, n);
}


/*
 * Pieces that were moved away from name the entry whose they are, which a clear
 * frees past the list that they are in.  A reader keeps them there, and leaves
 * when the writer looks for the Nth time.
 */

static void
clear_after_compaction(unsigned nth)
{
    uint32_t  id;
    unsigned  me, i, moved;

    me = take_place();

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
        moved += kv_compact_page(zone, true) == KV_OK;
    }

    assert_true(moved > 0);
    assert_true(kv_epoch_count(&zone->retired) > 0);

    map_clear();
    leaver.worker = &workers[me];
    leaver.nth = nth;

    while (kv_map_sweep(&zone->map, 10) != KV_OK) { /* void */ }

    assert_null(leaver.worker);
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);

    kv_worker_reaped(&workers[me]);
    map_assert_empty();
}


/* While it is paused, a reader may come behind what is retired. */

static void
test_paused(void **state)
{
    unsigned  me;
    uint64_t  epoch;

    (void) state;

    me = take_place();
    assert_true(map_put(1, 1, 100));
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);

    epoch = atomic_load(&zone->retired.epoch);
    kv_epoch_pause(&zone->retired);
    assert_true(map_put(1, 2, 100));
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_epoch_count(&zone->retired), 1);

    assert_int_equal(kv_epoch_advance(&zone->retired), epoch);
    kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    kv_epoch_resume(&zone->retired);
    assert_int_equal(atomic_load(&zone->retired.epoch), epoch + 1);
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_epoch_count(&zone->retired), 1);

    kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_epoch_count(&zone->retired), 0);

    kv_worker_reaped(&workers[me]);
    map_clear();
}


static void
test_clear_after_compaction(void **state)
{
    unsigned  nth;

    (void) state;

    for (nth = 1; nth < 4; nth++) {
        clear_after_compaction(nth);
    }
}


/*
 * What a clear removed is freed in slices of the size that the caller asks for.
 * Another clear meanwhile finds an empty map, and the smaller one goes first.
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

    /* it does not even wait for a reader that stands still */

    me = take_place();
    kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);

    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_OK);
    assert_true(map_put(1, 3, 40));
    map_clear();
    assert_true(map_put(2, 3, 40));
    map_clear();
    assert_true(map_put(3, 3, 40));

    assert_int_equal(kv_map_clearable(&zone->map, 1, UINT32_MAX), KV_BUSY);
    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_BUSY);
    assert_non_null(map_find(3));

    kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);
    kv_worker_reaped(&workers[me]);

    assert_int_equal(kv_map_clearable(&zone->map, 2, UINT32_MAX), KV_OK);
    map_clear();
    map_assert_empty();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, map_setup, map_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_readers),
        TEST(test_readers_clear),
        TEST(test_walker),
        TEST(test_slow_reader),
        TEST(test_paused),
        TEST(test_clear_after_compaction),
        TEST(test_slices)
    };

    return cmocka_run_group_tests_name("map readers", tests, NULL, NULL);
}
