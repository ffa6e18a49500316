
/*
 * The ordered index against a model: whatever is added, removed, cleared and
 * moved, with memory and without.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "index_rig.h"


/* Adds or removes a random key, in a share of a hundred adding. */

static void
step(unsigned share)
{
    unsigned  i;

    i = index_some();

    if (index_key[i].there) {

        if (map_rnd(100) >= share) {
            index_delete(i);
        }

    } else if (map_rnd(100) < share) {
        index_put(i);
    }
}


/* The tree grows, shrinks to nothing, and grows again. */

static void
run_model(unsigned rounds, unsigned steps)
{
    unsigned  round, i, share;

    for (round = 0; round < rounds; round++) {
        share = (const unsigned[]) { 90, 50, 10, 70, 3 }[round % 5];

        for (i = 0; i < steps; i++) {
            step(share);

            if (i % 64 == 0) {
                index_walk_some(2);
                assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
            }

            if (i % 500 == 0) {
                index_check();
            }
        }

        index_check();

        if (round % 7 == 6) {
            index_clear();
            index_check();
        }
    }

    for (i = 0; i < index_keys; i++) {
        if (index_key[i].there) {
            index_delete(i);
        }
    }

    index_check();
}


static void
test_model(void **state)
{
    (void) state;

    run_model(30, 4000);

    assert_int_equal(index_bytes(), 0);
}


/* Keys that come and go in order, as counters and times of day do. */

static void
test_in_order(void **state)
{
    (void) state;

    index_near = 6;
    run_model(30, 4000);

    assert_int_equal(index_bytes(), 0);
}


/* A queue: what is added at one end is removed from the other. */

static void
test_queue(void **state)
{
    unsigned  i, k, round;
    uint64_t  most;

    (void) state;

    most = 0;

    for (round = 0; round < 6; round++) {

        for (i = 0; i < index_keys; i++) {
            k = round % 2 ? index_keys - 1 - i : i;
            index_put(k);

            if (i >= 200) {
                index_delete(round % 2 ? k + 200 : k - 200);
            }

            if (i % 100 == 0) {
                index_check();
                index_reclaim();
            }
        }

        most = kv_max(most, index_bytes());

        for (i = 0; i < index_keys; i++) {
            if (index_key[i].there) {
                index_delete(i);
            }
        }

        assert_int_equal(index_bytes(), 0);
    }

    /* 200 keys of 16 bytes, and no trace of the others */

    assert_true(most < 200 * 40);
}


/*
 * Half of all nodes find no memory, or more, which makes long lists: nothing is
 * lost but space.
 */

static void
test_no_memory_for_nodes(void **state)
{
    unsigned  i;

    (void) state;

    for (i = 0; i < 4; i++) {
        index_refused = (const unsigned[]) { 50, 100, 97, 80 }[i];
        run_model(4, index_refused == 50 ? 4000 : 2000);
    }

    /* what is left is freed once there is memory again */

    index_refused = 0;
    run_model(3, 4000);

    assert_int_equal(index_bytes(), 0);
}


/*
 * There is no memory at all: what was reserved is enough, in any order, even
 * for the first keys, and the next list is as long as any.
 */

static void
test_reserve_is_enough(void **state)
{
    unsigned  i, n, round;

    (void) state;

    for (round = 0; round < 2; round++) {
        kv_index_reserve_begin(&the_index);

        for (i = 0; i < index_keys; i += 4) {
            assert_true(kv_index_reserve(&the_index, index_key[i].n));
            assert_true(kv_index_reserve(&the_index,
                                         index_key[index_keys - 1 - i].n));
        }

        index_refused = 100;

        for (i = 0; i < index_keys; i += 4) {
            n = round ? index_keys - 1 - i : i;
            kv_index_put(&the_index, index_key[n].p, index_key[n].n);
            index_key[n].there = true;
            index_there++;
        }

        index_check();
        index_walk_some(100);

        /* with memory the next keys make a tree of it */

        index_refused = 0;

        for (i = 0; i < index_keys; i++) {

            if (index_key[i].there) {
                index_delete(i);
            }

            index_put(i);

            if (i % 256 == 0) {
                index_check();
            }
        }

        index_clear();
        assert_int_equal(index_bytes(), 0);
    }
}


/* A put is refused when there is no memory for its reserve. */

static void
test_no_reserve(void **state)
{
    unsigned  n;

    (void) state;

    kv_index_reserve_begin(&the_index);

    for (n = 0; kv_index_reserve(&the_index, KV_KEY_MAX); n++) {
        assert_true(n < 10000);
    }

    assert_true(n > 0);
    kv_index_unreserve(&the_index);
    assert_int_equal(index_bytes(), 0);

    /* what a batch did not use serves the next one, and large ones are freed */

    kv_index_reserve_begin(&the_index);
    assert_true(kv_index_reserve(&the_index, 16));
    assert_true(kv_index_reserve(&the_index, KV_KEY_MAX));
    assert_int_equal(the_index.reserved[0], 1);
    assert_int_equal(the_index.reserved[KV_INDEX_LINKS - 1], 1);

    kv_index_reserve_begin(&the_index);
    assert_int_equal(the_index.reserved[KV_INDEX_LINKS - 1], 0);
    assert_true(kv_index_reserve(&the_index, 16));
    assert_int_equal(the_index.reserved[0], 1);
    assert_true(kv_index_reserve(&the_index, 16));
    assert_int_equal(the_index.reserved[0], 2);

    /* a key that takes its object leaves those of the others */

    index_refused = 100;
    kv_index_put(&the_index, "one", 3);
    assert_int_equal(the_index.reserved[0], 1);
    assert_true(kv_index_reserve(&the_index, 16));
    assert_int_equal(the_index.reserved[0], 2);
    kv_index_put(&the_index, "two", 3);
    kv_index_put(&the_index, "three", 5);
    assert_int_equal(atomic_load(&the_index.keys), 3);
}


/* A reader that stays: nothing is freed, and nothing stops. */

static void
test_reader_stays(void **state)
{
    unsigned  i, me, put;
    uint64_t  used;

    (void) state;

    assert_int_equal(kv_worker_acquire(workers, PLACES, &me), KV_OK);
    kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);

    for (put = 0; put < 300000 && !kv_index_unswept(&the_index); put++) {
        i = index_some();

        if (index_key[i].there) {
            index_delete(i);

        } else {
            index_put(i);
        }
    }

    index_check();
    index_clear();
    assert_int_equal(kv_index_sweep(&the_index, 10), KV_BUSY);

    used = map_heap_stat().used;
    kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);

    assert_int_equal(kv_epoch_reserve(&zone->retired, 0), 0);
    assert_int_equal(kv_index_sweep(&the_index, 3), KV_AGAIN);
    assert_true(kv_index_unswept(&the_index));
    assert_true(map_heap_stat().used < used);
    assert_int_equal(index_bytes(), 0);

    kv_worker_reaped(&workers[me]);
}


/* Compaction moves nodes, with a model beside them. */

static void
test_moves(void **state)
{
    unsigned  round, i, moved;

    (void) state;

    for (round = 0, moved = 0; round < 60; round++) {

        for (i = 0; i < 500; i++) {
            step(round % 20 < 10 ? 70 : 30);
        }

        index_refused = round % 4 == 3 ? 80 : 0;
        moved += index_move_some(40);
        index_check();
        index_reclaim();
    }

    assert_true(moved > 500);

    index_clear();
    assert_int_equal(index_bytes(), 0);
}


/* Many at once are as many one by one. */

static void
test_groups(void **state)
{
    unsigned    i, n;
    kv_slice_t  group[KV_INDEX_GROUP];

    (void) state;

    while (index_there < index_keys) {
        kv_index_reserve_begin(&the_index);

        for (n = 0, i = index_some();
             i < index_keys && n < 1 + index_there % KV_INDEX_GROUP;
             i++)
        {
            if (!index_key[i].there) {
                assert_true(kv_index_reserve(&the_index, index_key[i].n));
                group[n].p = index_key[i].p;
                group[n++].n = index_key[i].n;
                index_key[i].there = true;
                index_there++;
            }
        }

        kv_index_put_group(&the_index, group, n);
    }

    index_check();
    index_clear();
    assert_int_equal(index_bytes(), 0);
}


/* Random keys of 16 bytes: what the index is made for. */

static void
test_bytes_a_key(void **state)
{
    unsigned  i;

    (void) state;

    while (index_there < index_keys) {
        i = index_some();

        if (!index_key[i].there) {
            index_put(i);
        }

        (void) kv_epoch_reclaim(&zone->retired);
    }

    assert_true(index_bytes() < 22 * index_keys);
}


/*
 * Keys that come in order, as time goes on: leaves that no key comes to any
 * more take no more than what they hold.
 */

static void
test_bytes_in_order(void **state)
{
    char      key[32];
    int       n;
    unsigned  i;

    (void) state;

    for (i = 0; i < 20000; i++) {
        n = sprintf(key, "user:profile:%08u", i);

        kv_index_reserve_begin(&the_index);
        assert_true(kv_index_reserve(&the_index, (size_t) n));
        kv_index_put(&the_index, key, (size_t) n);
        assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    }

    assert_true(index_bytes() < 9 * 20000);

    kv_index_clear(&the_index);
    assert_int_equal(index_bytes(), 0);
}


/* Appends the next keys from `at` on. */

static unsigned
append(unsigned at)
{
    unsigned    i, n;
    kv_slice_t  keys[KV_INDEX_APPEND + 1];

    n = 1 + map_rnd(KV_INDEX_APPEND + 1);
    n = kv_min(index_keys - at, n);

    for (i = 0; i < n; i++) {
        keys[i].p = index_key[at + i].p;
        keys[i].n = index_key[at + i].n;
    }

    n = kv_index_append(&the_index, keys, n);

    for (i = 0; i < n; i++) {
        index_key[at + i].there = true;
    }

    index_there += n;
    index_reclaim();

    return n;
}


/*
 * An index that is made of keys in order is one like others, whether it finds
 * memory at once or not, and keys come and go there.
 */

static void
test_append(void **state)
{
    unsigned  i, at, n, round, refused;

    (void) state;

    for (round = 0; round < 4; round++) {
        index_refused = round % 2 ? 40 : 0;

        for (at = 0, refused = 0; at < index_keys; at += n) {
            n = append(at);
            refused += n == 0;

            if (n == 0 || map_rnd(8) == 0) {
                index_check();
            }
        }

        assert_int_equal(refused > 0, round % 2);
        index_refused = 0;
        index_check();
        index_walk_some(20);

        for (i = 0; i < 4000; i++) {
            at = index_some();

            if (index_key[at].there) {
                index_delete(at);

            } else {
                index_put(at);
            }

            (void) kv_epoch_reclaim(&zone->retired);
        }

        index_check();
        index_clear();
        assert_int_equal(index_bytes(), 0);
    }
}


/* It takes hardly more than the keys, less what neighbours have in common. */

static void
test_bytes_appended(void **state)
{
    unsigned  at;

    (void) state;

    for (at = 0; at < index_keys; at += append(at)) { /* void */ }

    assert_true(index_bytes() < 19 * index_keys);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_model, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_in_order, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_queue, index_setup_plain,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_no_memory_for_nodes,
                                        index_setup, index_teardown),
        cmocka_unit_test_setup_teardown(test_reserve_is_enough, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_no_reserve, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_reader_stays, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_moves, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_groups, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_bytes_a_key, index_setup_plain,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_bytes_in_order, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_append, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_bytes_appended,
                                        index_setup_plain, index_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
