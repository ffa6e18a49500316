
/*
 * A zone that is full: deletes and /clear work, and memory that is free in
 * whatever pieces can be used.  test_store_full_start.c starts it again.
 */

/* tsan */
/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store_rig.h"


/* a race shows in the first ones or never; the zone gets full with time */

#ifdef __SANITIZE_THREAD__
#define REWRITES  2
#define CLEARS    1
#else
#define REWRITES  10
#define CLEARS    3
#endif


/* It is about memory: what is written need not be on the disk. */

static int
setup(void **state)
{
    (void) rig_setup(state);

    kit.io->io.direct = NULL;

    return 0;
}


/* Deletes and the clear work when nothing else does, and free at once. */

static void
test_full(void **state)
{
    kv_rc_t   rc;
    uint32_t  id, n, len;
    unsigned  reserves, round;

    (void) state;

    kit.size = 6 << 20;
    rig_start();

    for (round = 0; round < 3; round++) {
        len = round == 0 ? 900 : round == 1 ? 20000 : 200000;
        reserves = 0;

        for (n = 0; ; n++) {
            rc = kit_put(&host, 10000 + n, 1, len, &reserves);

            if (rc != KV_OK) {
                break;
            }
        }

        assert_int_equal(rc, KV_NO_MEMORY);
        assert_true((uint64_t) n * len > kit.size / 2);

        for (id = 0; id < n; id++) {
            assert_int_equal(kit_delete(&host, 10000 + id), KV_OK);

            if (id == n / 2) {
                assert_int_equal(kit_put(&host, 20000, 1, len, &reserves),
                                 KV_OK);
                assert_int_equal(kit_delete(&host, 20000), KV_OK);
            }
        }

        rig_settled();
        assert_int_equal(atomic_load(&kit.store->zone->map.keys), 0);

        /* full again, then cleared; memory is free when it is answered */

        for (n = 0; kit_put(&host, 10000 + n, 1, len, NULL) == KV_OK; n++) {
            /* void */
        }

        assert_int_equal(kit_clear(&host), KV_OK);

        for (id = 0; id < n; id++) {
            assert_int_equal(kit_put(&host, 10000 + id, 1, len, NULL), KV_OK);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
        rig_settled();
    }

    rig_stop();
}


/* Deletes at the same time, with keys that no page of the heap is made for. */

static void
test_full_deletes(void **state)
{
    char      key[2048];
    kv_rc_t   rc;
    kv_op_t  *op[12];
    uint32_t  i, n;

    (void) state;

    kit.size = KV_ZONE_MIN;
    rig_start();

    for (n = 0; kit_put(&host, n, 1, 900, NULL) == KV_OK; n++) {
        /* void */
    }

    memset(key, 'x', sizeof(key));

    for (i = 0; i < 12; i++) {
        assert_int_equal(kv_store_delete(host.store, key,
                                         (uint16_t) (10 + 160 * i), &op[i]),
                         KV_OK);
    }

    for (i = 0; i < 12; i++) {
        rc = host_run(&host, op[i]);
        assert_int_equal(rc, KV_OK);
    }

    assert_int_equal(kit_delete(&host, 0), KV_OK);

    rig_settled();
    assert_int_equal(atomic_load(&kit.store->zone->map.keys), n - 1);

    rig_stop();
}


/* Touches of that key, linked by `data`, until no more can be begun. */

static kv_op_t *
begin_touches(uint32_t id)
{
    char      key[32];
    kv_rc_t   rc;
    kv_op_t  *touch, *touches;
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);
    touches = NULL;

    while ((rc = kv_store_touch(host.store, key, len, 60, &touch)) == KV_OK) {
        touch->data = touches;
        touches = touch;
    }

    assert_int_equal(rc, KV_NO_MEMORY);

    return touches;
}


/* What is begun and changes times only leaves deletes what is kept for them. */

static void
test_full_touches(void **state)
{
    char      key[32];
    kv_op_t  *op, *touch, *touches;
    uint16_t  len;
    uint32_t  n;

    (void) state;

    kit.size = KV_ZONE_MIN;
    rig_start();

    for (n = 0; kit_put(&host, n, 1, 900, NULL) == KV_OK; n++) {
        /* void */
    }

    len = (uint16_t) kit_key(0, key);
    touches = begin_touches(0);
    assert_non_null(touches);

    assert_int_equal(kv_store_delete(host.store, key, len, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    while (touches) {
        touch = touches;
        touches = touch->data;
        kv_store_release(host.store, touch);
    }

    rig_settled();
    assert_int_equal(atomic_load(&kit.store->zone->map.keys), n - 1);

    rig_stop();
}


/* Begins a group of `n` deletes, of keys of 50 bytes; how many there are. */

static unsigned
begin_deletes(kv_group_t *group, unsigned n)
{
    char      key[64];
    kv_rc_t   rc;
    kv_op_t  *op;

    rc = kv_store_group(host.store, group);

    while (rc == KV_OK && group->n < n) {
        (void) snprintf(key, sizeof(key), "%050u", group->n);

        rc = kv_store_group_delete(host.store, group, key, 50, &op);

        if (rc == KV_OK) {
            assert_int_equal(kv_store_group_add(host.store, group, op), KV_OK);
        }
    }

    assert_int_equal(rc, group->op && group->n == n ? KV_OK : KV_NO_MEMORY);

    return group->n;
}


/*
 * When others hold all they can, there is memory for a group of deletes.  When
 * groups do, too, and are not submitted, there is some for single deletes, of
 * keys of all lengths.
 */

static void
test_full_groups(void **state)
{
    char         key[2048];
    kv_op_t     *op, *touch, *touches;
    uint32_t     i, n;
    unsigned     many;
    kv_group_t   group[100];

    (void) state;

    kit.size = KV_ZONE_MIN;
    rig_start();

    for (n = 0; kit_put(&host, n, 1, 900, NULL) == KV_OK; n++) {
        /* void */
    }

    touches = begin_touches(0);

    assert_int_equal(begin_deletes(&group[0], 1000), 1000);
    assert_int_equal(host_run(&host, group[0].op), KV_OK);

    many = 0;

    while (begin_deletes(&group[many++], KV_GROUP_MAX) == KV_GROUP_MAX) {
        assert_in_range(many, 1, 99);
    }

    memset(key, 'x', sizeof(key));

    for (i = 0; i < 12; i++) {
        assert_int_equal(kv_store_delete(host.store, key,
                                         (uint16_t) (10 + 160 * i), &op),
                         KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
    }

    while (many--) {
        if (group[many].op) {
            kv_store_release(host.store, group[many].op);
        }
    }

    while (touches) {
        touch = touches;
        touches = touch->data;
        kv_store_release(host.store, touch);
    }

    rig_settled();
    assert_int_equal(atomic_load(&kit.store->zone->map.keys), n);

    rig_stop();
}


/* What the committer says to a request for memory, once it has tried. */

static kv_rc_t
reserve(uint32_t need)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    unsigned  tries;

    for (tries = 0; tries < 20; tries++) {
        assert_int_equal(kv_store_reserve(host.store, need, 0, &op), KV_OK);
        rc = host_run(&host, op);

        if (rc != KV_AGAIN) {
            break;
        }
    }

    return rc;
}


/*
 * What puts hold that are under way may come free: nobody is told that there is
 * no memory because of them.
 */

static void
test_full_under_way(void **state)
{
    kv_rc_t   rc;
    kv_op_t  *op, *puts;
    uint32_t  id, n;

    (void) state;

    kit.size = 8 << 20;
    rig_start();

    for (n = 0; kit_put(&host, n, 1, 60000, NULL) == KV_OK; n++) {
        /* void */
    }

    assert_int_equal(reserve(60000), KV_NO_MEMORY);

    for (id = 0; id < 40; id++) {
        assert_int_equal(kit_delete(&host, id), KV_OK);
    }

    puts = NULL;

    while ((rc = kit_begin_put(&host, 0, 2, 60000, &op)) == KV_OK) {
        op->data = puts;
        puts = op;
    }

    assert_int_equal(rc, KV_NO_MEMORY);
    assert_int_equal(reserve(60000), KV_AGAIN);
    assert_int_equal(reserve(5 << 20), KV_NO_MEMORY);

    while (puts) {
        op = puts;
        puts = op->data;
        kv_store_release(host.store, op);
    }

    assert_int_equal(reserve(60000), KV_OK);

    rig_settled();
    rig_stop();
}


static uint64_t
heap_used(void)
{
    kv_heap_stat_t  st;

    assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);

    return st.used;
}


/* 75 % full, all rewritten ten times with other sizes. */

static void
test_rewrites(void **state)
{
    kv_rc_t          rc;
    uint32_t         id, n, len, most, round, last;
    unsigned         reserves, kind, more;
    uint64_t         want;
    kv_heap_stat_t   st;

    static uint32_t  length[40000];

    (void) state;

    for (kind = 0; kind < 3; kind++) {
        most = kind == 0 ? 2000 : kind == 1 ? 30000 : 200000;

        /*
         * A page per class may be partly free and of no use to others, so a
         * small zone of many sizes is full earlier: 75 % wants some pages.
         */

        kit.size = kind == 0 ? 13 << 20 : kind == 1 ? 40 << 20 : 24 << 20;
        rig_start();

        assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);
        reserves = 0;
        want = st.size / 4 * 3;

        for (n = 0; heap_used() < want && n < 40000; n++) {
            length[n] = 8 + rig_rnd(most);
            assert_int_equal(kit_put(&host, n, 1, length[n], &reserves), KV_OK);
        }

        last = kind == 0 ? 1 + (REWRITES + 4) / 5 : 1 + REWRITES;

        for (round = 2; round <= last; round++) {

            for (id = 0; id < n; id++) {

                /* the sum stays about the same */

                len = heap_used() > want ? 8 + rig_rnd(length[id])
                                         : length[id] + rig_rnd(most / 2);
                len = kv_min(len, 2 * most);

                rc = kit_put(&host, id, round, len, &reserves);

                if (rc != KV_OK) {
                    (void) kv_store_heap_stat(kit.store, &st);

                    for (more = 0; more < 5; more++) {
                        if (kit_put(&host, id, round, len, &reserves)
                            == KV_OK)
                        {
                            break;
                        }
                    }

                    fail_msg("sizes to %u, rewrite %u, key %u of %u: %d for "
                             "%u bytes, %llu of %llu in use, %llu pages free "
                             "of which %llu in reserve; cured by %u more "
                             "(5: not at all)", most, round, id, n,
                             rc, len, (unsigned long long) st.used,
                             (unsigned long long) st.size,
                             (unsigned long long) st.free_pages,
                             (unsigned long long) st.reserve_pages, more);
                }

                length[id] = len;
            }
        }

        rig_settled();

        for (id = 0; id < n; id++) {
            assert_int_equal(kit_get(&host, id, &round, &len), KV_OK);
            assert_int_equal(round, last);
            assert_int_equal(len, length[id]);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
        rig_stop();
    }
}


/* Puts until the zone is full, many at a time; how many. */

static uint32_t
fill_all(uint32_t len)
{
    kv_rc_t   rc, done;
    kv_op_t  *op[500];
    uint32_t  n, i, k;

    for (n = 0, rc = KV_OK; rc == KV_OK; n += k) {
        host.hold = true;

        for (k = 0; k < 500 && rc == KV_OK; k++) {
            rc = kit_begin_put(&host, n + k, 1, len, &op[k]);

            if (rc != KV_OK) {
                assert_int_equal(rc, KV_NO_MEMORY);
                break;
            }

            host_post_tasks(&host, kv_store_submit(kit.store, op[k]));
        }

        host.hold = false;
        host_post_tasks(&host, host.held);
        host.held = 0;

        for (i = 0; i < k; i++) {

            while (!kv_store_done(op[i], &done)) {
                host_process_events(&host, 1);
            }

            kv_store_release(kit.store, op[i]);
        }
    }

    return n;
}


/*
 * Memory that a cleared map still holds is no reason to refuse a put, of
 * whatever size, and no other write waits while it is freed.
 */

static void
test_clear_full(void **state)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    uint32_t  id, round;

    (void) state;

    kit.size = 8 << 20;
    rig_start();

    for (round = 0; round < CLEARS; round++) {

        assert_true(fill_all(20) > 40000);

        assert_int_equal(kv_store_clear(kit.store, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
        assert_int_equal(kit_get(&host, 1, &id, NULL), KV_NOT_FOUND);

        /* there is much to be freed, and no answer says that it is full */

        do {
            assert_int_equal(kv_store_reserve(kit.store, 3 << 20, 0, &op),
                             KV_OK);
            rc = host_run(&host, op);
        } while (rc == KV_AGAIN);

        assert_int_equal(rc, KV_OK);

        for (id = 0; id < 20; id++) {
            assert_int_equal(kit_put(&host, id, 2, 150000, NULL), KV_OK);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
        assert_int_equal(kit_clear(&host), KV_OK);
        rig_settled();
    }

    rig_stop();
}


/*
 * A value in several pieces, into a zone where only compaction helps: each
 * piece may need a page of its own.
 */

static void
test_reserve_for_pieces(void **state)
{
    kv_rc_t   rc;
    uint32_t  id, n;
    unsigned  i, reserves;

    static const uint32_t  lens[] = {
        9000, 12000, 15500, 20000, 31000, 40000, 45500, 50000, 55000, 60000,
        100000, 110600, 190000
    };

    (void) state;

    kit.size = 8 << 20;
    kit.conf.sync = KV_SYNC_OFF;
    kit.conf.snapshot = 0;
    rig_start();

    for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {

        for (n = 0; kit_put(&host, n, 1, 3900, NULL) == KV_OK; n++) {
            /* void */
        }

        for (id = 0; id < n; id += 6) {
            assert_int_equal(kit_delete(&host, id), KV_OK);
        }

        rc = kit_put(&host, 100000, 1, lens[i], &reserves);

        if (rc != KV_OK) {
            fail_msg("no memory for a value of %u bytes", lens[i]);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
    }

    rig_settled();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_full),
        TEST(test_full_deletes),
        TEST(test_full_touches),
        TEST(test_full_groups),
        TEST(test_full_under_way),
        TEST(test_rewrites),
        TEST(test_clear_full),
        TEST(test_reserve_for_pieces)
    };

    return cmocka_run_group_tests_name("store full", tests, NULL, NULL);
}
