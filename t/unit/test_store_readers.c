
/*
 * Readers that hold what they read: values pinned while they are sent, readers
 * that were stopped, and what is left by those that died.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store_rig.h"


static void
check_pinned(const kv_entry_t *e, uint32_t id, uint32_t version)
{
    uint32_t  got;

    assert_true(kit_check(e, id, &got));
    assert_int_equal(got, version);
}


static void
test_pins(void **state)
{
    char              key[32];
    size_t            n;
    kv_op_t          *pin[3], *op;
    uint32_t          i;
    uint64_t          before;
    kv_entry_t       *e[3];
    kv_heap_stat_t    st;

    (void) state;

    rig_start();
    rig_traffic(20);
    rig_settled();

    for (i = 0; i < 3; i++) {
        rig_put(i, 1, 90000 + i * 33000);
        n = kit_key(i, key);
        assert_int_equal(kv_store_read(kit.store, key, n, &e[i]), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e[i], &pin[i]), KV_OK);
        kv_store_read_done(kit.store);
    }

    /* overwritten, deleted, cleared */

    rig_put(0, 2, 100000);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    memset(shadow, 0, sizeof(shadow));
    rig_traffic(30);

    for (i = 0; i < 100; i++) {
        assert_int_equal(kv_store_reserve(kit.store, 8 << 20, 0, &op),
                         KV_OK);
        assert_int_not_equal(host_run(&host, op), KV_UNAVAILABLE);
    }

    check_pinned(e[0], 0, 1);
    check_pinned(e[1], 1, 1);
    check_pinned(e[2], 2, 1);

    /* and freed one by one */

    for (i = 0; i < 3; i++) {
        assert_int_equal(kv_store_reserve(kit.store, 0, 0, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
        assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);
        before = st.used;

        kv_store_release(kit.store, pin[i]);

        assert_int_equal(kv_store_reserve(kit.store, 0, 0, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
        assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);
        assert_true(st.used + 90000 <= before);
    }

    rig_settled();
    rig_restart();
    rig_stop();
}


/*
 * A reader whose process was stopped stays in its epoch, so that nothing can be
 * freed.  No write waits for it: they go on as long as there is memory, are
 * refused then, and all is well when it goes on.
 */

static void
test_stopped_reader(void **state)
{
    kv_rc_t      rc;
    kv_zone_t   *zone;
    uint32_t     id, version;
    unsigned     other, i;

    (void) state;

    kit.size = 6 << 20;
    rig_start();
    zone = kit.store->zone;

    for (id = 0; id < 100; id++) {
        rig_put(id, 1, 100);
    }

    assert_int_equal(kv_worker_acquire(zone->workers, zone->nworkers, &other),
                     KV_OK);
    kv_epoch_enter(&zone->workers[other], KV_EPOCH_MAIN, &zone->retired.epoch);

    for (i = 0; i < KV_RETIRED_MAX + 3000; i++) {
        id = i % 100;
        assert_int_equal(kit_put(&host, id, 2 + i, 20, NULL), KV_OK);
    }

    assert_int_equal(kit_delete(&host, 99), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    rig_put(0, 1, 100);
    assert_int_equal(kit_clear(&host), KV_OK);
    rig_put(0, 2, 100);

    /* there is no third map to take its place */

    assert_int_equal(kit_clear(&host), KV_UNAVAILABLE);
    assert_int_equal(kit_get(&host, 0, &version, NULL), KV_OK);

    /* until it is full */

    for (i = 0, rc = KV_OK; rc == KV_OK; i++) {
        rc = kit_put(&host, i % 10, i, 30000, NULL);
        assert_true(i < 1000);
    }

    assert_int_equal(rc, KV_NO_MEMORY);

    kv_epoch_leave(&zone->workers[other], KV_EPOCH_MAIN);
    kv_worker_abandon(&zone->workers[other]);
    atomic_store(&zone->reap, 1);

    assert_int_equal(kit_clear(&host), KV_OK);
    rig_put(1, 1, 30000);
    rig_settled();
    rig_stop();
}


/* Waits until the committer, which goes on after its last answer, is done. */

static void
rest(void)
{
    while (atomic_load(&kit.store->zone->committer)) {
        host_process_events(&host, 1);
    }
}


/* What is overwritten while it is pinned costs the committer nothing. */

static void
test_pin_costs(void **state)
{
    char               key[32];
    size_t             n;
    kv_op_t           *pin[2];
    uint32_t           i;
    uint64_t           examined, searched;
    kv_entry_t        *e;
    kv_retire_list_t  *retired;

    (void) state;

    rig_start();
    retired = &kit.store->zone->retired;

    for (i = 0; i < 2; i++) {
        rig_put(i, 1, 90000);
        n = kit_key(i, key);
        assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e, &pin[i]), KV_OK);
        kv_store_read_done(kit.store);
        rig_put(i, 2, 100);
    }

    /* what dead workers may have left is searched for, but once a second */

    rest();
    assert_non_null(retired->pinned);
    examined = retired->examined;
    searched = retired->searched_ns;

    for (i = 0; i < 300; i++) {
        rig_put(2 + i % 10, i + 1, i % 3 ? 50 : 20000);
    }

    rest();
    assert_non_null(retired->pinned);

    if (retired->searched_ns == searched) {
        assert_int_equal(retired->examined, examined);
    }

    examined = retired->examined;
    searched = retired->searched_ns;

    /* one that goes is looked for in the list, and not in the records */

    kv_store_release(kit.store, pin[0]);
    rig_put(2, 1000, 50);
    rig_put(2, 1001, 50);
    rest();

    if (retired->searched_ns == searched) {
        assert_int_equal(retired->examined, examined + 2);
    }

    kv_store_release(kit.store, pin[1]);
    rig_settled();
    rig_stop();
}


/*
 * A worker that died while it pinned, or let go, leaves a count that no record
 * stands for.
 */

static void
test_lost_pin(void **state)
{
    char               key[32];
    size_t             n;
    kv_op_t           *pin;
    kv_entry_t        *e, *lost;
    kv_retire_list_t  *retired;

    (void) state;

    rig_start();
    retired = &kit.store->zone->retired;

    rig_put(0, 1, 90000);
    rig_put(1, 1, 90000);

    /* as if no search had started */

    rest();
    retired->lost = false;

    n = kit_key(0, key);
    assert_int_equal(kv_store_read(kit.store, key, n, &lost), KV_OK);
    kv_epoch_pin(lost);
    kv_store_read_done(kit.store);

    n = kit_key(1, key);
    assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
    assert_int_equal(kv_store_pin(kit.store, e, &pin), KV_OK);
    kv_store_read_done(kit.store);

    rig_put(0, 2, 100);
    rig_put(1, 2, 100);
    rest();
    assert_ptr_equal(retired->pinned, e);
    assert_ptr_equal(kv_entry_pieces(e)->next, lost);

    /* not while a worker is unpinning one */

    atomic_store(&pin->state, KV_OP_UNPINNING);
    retired->searched_ns = 0;
    retired->lost = true;
    rig_put(2, 1, 100);
    rest();
    assert_ptr_equal(kv_entry_pieces(e)->next, lost);

    atomic_store(&pin->state, KV_OP_PINNED);
    retired->searched_ns = 0;
    rig_put(2, 2, 100);
    rig_put(2, 3, 100);
    rest();
    assert_ptr_equal(retired->pinned, e);
    assert_null(kv_entry_pieces(e)->next);
    check_pinned(e, 1, 1);

    kv_store_release(kit.store, pin);
    rig_settled();
    rig_stop();
}


/* Values that were pinned once are no obstacle to putting things together. */

static void
test_pinned_once(void **state)
{
    char         key[32];
    size_t       n;
    kv_op_t     *op;
    uint32_t     id, count;
    unsigned     reserves;
    kv_entry_t  *e;

    (void) state;

    kit.size = 8 << 20;
    rig_start();

    /* two of these share a page */

    for (count = 0; kit_put(&host, count, 1, 32600 + 200, NULL) == KV_OK;
         count++)
    {
        n = kit_key(count, key);
        assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e, &op), KV_OK);
        kv_store_read_done(kit.store);
        kv_store_release(kit.store, op);
    }

    for (id = 0; id < count; id += 2) {
        assert_int_equal(kit_delete(&host, id), KV_OK);
    }

    /* half of it is free: a third must do for values of whole pages */

    reserves = 0;

    for (id = 0; id < count / 6; id++) {
        if (kit_put(&host, 10000 + id, 1, KV_PAGE_SIZE, &reserves) != KV_OK) {
            fail_msg("no memory for page %u of %u", id, count / 6);
        }
    }

    for (id = 1; id < count; id += 2) {
        assert_int_equal(kit_get(&host, id, &reserves, NULL), KV_OK);
    }

    rig_settled();
    rig_stop();
}


/*
 * A worker dies while its snapshot has a value pinned, and none is left to reap
 * it: the next one in its place has not pinned that.
 */

static void
test_place_of_dead(void **state)
{
    char         key[32];
    size_t       n;
    kv_entry_t  *e;

    (void) state;

    kit.workers = 1;
    rig_start();
    rig_put(1, 1, 20000);
    n = kit_key(1, key);

    assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
    kv_epoch_pin_scanned(kit.store->worker, e);
    kv_store_read_done(kit.store);

    assert_true(host_stop(&host));
    assert_int_equal(host_start(&host, kit.store), KV_OK);

    rig_put(1, 2, 20000);
    rig_verify();
    rig_settled();
    rig_stop();
}


/* The tables take what of the reserve is theirs; how many pages. */

static unsigned
take_tables(void **page, unsigned max)
{
    unsigned    n;
    kv_heap_t  *heap;

    heap = kit.store->zone->heap;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    for (n = 0; n < max; n++) {
        page[n] = kv_heap_alloc(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE);

        if (page[n] == NULL) {
            break;
        }
    }

    kv_heap_unlock(heap);

    assert_true(n < max);

    return n;
}


static void
free_tables(void **page, unsigned n)
{
    kv_heap_t  *heap;

    heap = kit.store->zone->heap;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    while (n--) {
        kv_heap_free(heap, page[n]);
    }

    kv_heap_unlock(heap);
}


static uint32_t
fill(void)
{
    uint32_t  n;

    for (n = 0; kit_put(&host, n, 1, 20000, NULL) == KV_OK; n++) {
        shadow[n] = 1;
    }

    return n;
}


/* Twenty readers of values at a time, and deletes, in a zone that is full. */

static void
read_and_delete(uint32_t n)
{
    char         key[32];
    size_t       len;
    void        *page[64];
    unsigned     pages;
    kv_op_t     *pin[20];
    uint32_t     i;
    kv_entry_t  *e;

    pages = take_tables(page, 64);

    for (i = 0; i < 20; i++) {
        len = kit_key(i, key);
        assert_int_equal(kv_store_read(kit.store, key, len, &e), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e, &pin[i]), KV_OK);
        kv_store_read_done(kit.store);
    }

    for (i = 0; i < n; i++) {
        assert_int_equal(kit_delete(&host, i), KV_OK);
        shadow[i] = 0;
    }

    for (i = 0; i < 20; i++) {
        kv_store_release(kit.store, pin[i]);
    }

    free_tables(page, pages);
}


/* By a worker that has just started, and has no page for its records. */

static void
test_full_from_start(void **state)
{
    uint32_t  n;

    (void) state;

    kit.size = 4 << 20;
    rig_start();
    n = fill();

    rig_stop();
    rig_start();
    read_and_delete(n);

    rig_verify();
    rig_settled();
    rig_stop();
}


static bool
upload(kv_op_t **op)
{
    return kv_store_put(kit.store, "u", 1, KV_LENGTH_UNKNOWN, 0, op) == KV_OK;
}


/*
 * Beside uploads that take all the records that they get.  They find memory for
 * their keys beside the first one's.
 */

static void
test_full_beside_uploads(void **state)
{
    void      *page[64];
    kv_op_t   *op[KV_OP_CHUNK];
    unsigned   n, pages;
    uint32_t   keys;

    (void) state;

    kit.size = 4 << 20;
    rig_start();

    assert_true(upload(&op[0]));
    keys = fill();
    pages = take_tables(page, 64);

    for (n = 1; n < KV_OP_CHUNK && upload(&op[n]); n++) {
        /* void */
    }

    assert_in_range(n, 20, KV_OP_CHUNK - 1);

    free_tables(page, pages);
    read_and_delete(keys);

    while (n--) {
        kv_store_release(kit.store, op[n]);
    }

    rig_verify();
    rig_settled();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_pins),
        TEST(test_stopped_reader),
        TEST(test_pin_costs),
        TEST(test_lost_pin),
        TEST(test_pinned_once),
        TEST(test_place_of_dead),
        TEST(test_full_from_start),
        TEST(test_full_beside_uploads)
    };

    return cmocka_run_group_tests_name("store readers", tests, NULL, NULL);
}
