
/*
 * Who holds memory of the zone, and what it may cost others: uploads that
 * come slowly, values kept for slow readers, and the way to room beside them.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "kit.h"


static kit_t   kit;
static host_t  host;


static int
setup(void **state)
{
    (void) state;

    kit_open(&kit, 16 << 20, 8);
    kit.io->fast = true;
    kit.conf.segment = 8 << 20;
    kit.conf.max_value = 6 << 20;

    if (kit_start(&kit) != KV_OK) {
        fail_msg("%s", kit.err.text);
    }

    return host_start(&host, kit.store) == KV_OK ? 0 : -1;
}


static int
teardown(void **state)
{
    (void) state;

    (void) host_stop(&host);
    kit_close(&kit);

    return 0;
}


static void
check_heap(void)
{
    kv_err_t    err;
    kv_heap_t  *heap;

    heap = kit.store->zone->heap;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    if (kv_heap_check(heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    kv_heap_unlock(heap);
}


static void
settled(void)
{
    const char  *wrong;

    check_heap();

    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s", wrong);
    }
}


static void
put(uint32_t id, uint32_t len)
{
    assert_int_equal(kit_put(&host, id, 1, len, NULL), KV_OK);
}


static kv_op_t *
pin(uint32_t id)
{
    char         key[32];
    size_t       n;
    kv_op_t     *op;
    kv_entry_t  *e;

    n = kit_key(id, key);

    assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
    assert_int_equal(kv_store_pin(kit.store, e, &op), KV_OK);
    kv_store_read_done(kit.store);

    return op;
}


/*
 * The sparsest pages hold a value that is being sent, and cannot be emptied:
 * the others are, one after the other.
 */

static void
test_compact_beside_readers(void **state)
{
    kv_op_t   *reader[40];
    uint32_t   i;
    unsigned   rooms, readers;

    (void) state;

    /* pages of pieces of 8 KiB with one that is read in each */

    for (i = 0; i < 400; i++) {
        put(i, 8300);
    }

    for (i = 0, readers = 0; i < 400; i++) {

        if (i % 10 == 0) {
            reader[readers++] = pin(i);

        } else {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }

    /* and pages of small entries that are fuller than those */

    for (i = 1000; kit_put(&host, i, 1, 3000, NULL) == KV_OK; i++) {
        /* void */
    }

    while (i-- > 1000) {
        if (i % 3) {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }

    /* half of the zone is free then, and so it has to be taken */

    rooms = 0;
    assert_int_equal(kit_put(&host, 5000, 1, 5 << 20, &rooms), KV_OK);
    assert_true(rooms > 0);

    for (i = 0; i < readers; i++) {
        kv_store_release(kit.store, reader[i]);
    }

    settled();
}


/*
 * A page in which something stays, because it is being sent, is used again:
 * what was moved out of it leaves room there.
 */

static void
test_partly_moved(void **state)
{
    kv_op_t         *reader[40];
    uint32_t         i, k;
    unsigned         readers;
    kv_heap_stat_t   before, after;

    (void) state;

    for (i = 0; i < 400; i++) {
        put(i, 8300);
    }

    assert_int_equal(kv_store_heap_stat(kit.store, &before), KV_OK);

    for (i = 0, readers = 0; i < 400; i++) {

        if (i % 10 == 0) {
            reader[readers++] = pin(i);

        } else if (i % 10 > 2) {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }

    /* as much as there is to do */

    for (k = 0; k < 20; k++) {
        kv_op_t  *op;

        assert_int_equal(kv_store_room(kit.store, 15 << 20, 0, &op), KV_OK);
        (void) host_run(&host, op);
        check_heap();
    }

    /* what was deleted finds its place where it was */

    for (i = 0; i < 400; i++) {
        if (i % 10 > 2) {
            put(i, 8300);
        }
    }

    assert_int_equal(kv_store_heap_stat(kit.store, &after), KV_OK);
    assert_true(after.held <= before.held + 3 * KV_PAGE_SIZE);

    for (i = 0; i < readers; i++) {
        kv_store_release(kit.store, reader[i]);
    }

    settled();
}


/* What uploads hold: what came, and nothing once they are over. */

static void
test_uploads_counted(void **state)
{
    kv_op_t    *op[3];
    uint64_t    held;
    kv_heap_t  *heap;

    static char  data[1 << 20];

    (void) state;

    heap = kit.store->zone->heap;

    /* announced, and one byte of it */

    assert_int_equal(kv_store_upload(kit.store, "a", 1, 6 << 20, 1, &op[0]),
                     KV_OK);
    assert_int_equal(kv_store_write(kit.store, op[0], 0, data, 1), KV_OK);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < 1000);

    assert_int_equal(kv_store_put(kit.store, "b", 1, KV_LENGTH_UNKNOWN,
                                  &op[1]), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op[1], 0, data, 1), KV_OK);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < 2000);

    /* all of a small one is no upload */

    held = kv_heap_held(heap, KV_HELD_UPLOADS);
    assert_int_equal(kv_store_upload(kit.store, "c", 1, 5000, 5000, &op[2]),
                     KV_OK);
    assert_int_equal(kv_store_write(kit.store, op[2], 0, data, 5000), KV_OK);
    assert_int_equal(kv_store_finish(kit.store, op[2], 5000), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS), held);
    assert_int_equal(host_run(&host, op[2]), KV_OK);

    /* they go on */

    assert_int_equal(kv_store_write(kit.store, op[0], 1, data, 1 << 20),
                     KV_OK);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) > 1 << 20);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < (1 << 20) + 200000);

    /* one is given up, one stored */

    kv_store_release(kit.store, op[0]);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < 1000);
    assert_int_equal(kv_store_finish(kit.store, op[1], 1), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS), 0);
    assert_int_equal(host_run(&host, op[1]), KV_OK);

    settled();
}


/* Whatever others hold, there is memory to delete and to clear. */

static void
test_deletes_work(void **state)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    uint32_t     i, k, n;
    kv_entry_t  *e;

    static char     key[KV_KEY_MAX];
    static kv_op_t *held[20000];

    (void) state;

    memset(key, 'k', sizeof(key));

    for (i = 0; kit_put(&host, i, 1, 60000, NULL) == KV_OK; i++) {
        /* void */
    }

    /* what an upload without a byte has, and an answer that is not read */

    for (n = 0; n < 20000; n++) {
        rc = kv_store_put(kit.store, key, 8, KV_LENGTH_UNKNOWN, &held[n]);

        if (rc != KV_OK) {
            break;
        }
    }

    assert_int_equal(rc, KV_NO_MEMORY);

    for ( /* void */ ; n < 20000; n++) {
        assert_int_equal(kv_store_read(kit.store, "key-0", 5, &e), KV_OK);
        rc = kv_store_pin(kit.store, e, &held[n]);
        kv_store_read_done(kit.store);

        if (rc != KV_OK) {
            break;
        }
    }

    assert_int_equal(rc, KV_NO_MEMORY);
    assert_int_equal(kv_store_put(kit.store, "a", 1, 1, &op), KV_NO_MEMORY);

    for (k = 0; k < 3; k++) {
        assert_int_equal(kv_store_delete(kit.store, key,
                                         k == 0 ? 1 : k == 1 ? 300
                                         : KV_KEY_MAX, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
    }

    while (i-- > 1) {
        assert_int_equal(kit_delete(&host, i), KV_OK);
    }

    assert_int_equal(kit_clear(&host), KV_OK);

    while (n-- > 0) {
        kv_store_release(kit.store, held[n]);
    }

    settled();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_compact_beside_readers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_partly_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uploads_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deletes_work, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
