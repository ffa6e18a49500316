
/*
 * The store's operations, and what is there after restarts: from the log, from
 * a snapshot, from both, and from the older snapshot where the newest is
 * damaged.
 */

/* tsan */
/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store_rig.h"
#include "disk/kv_snapshot.h"


static void
test_operations(void **state)
{
    kv_rc_t       rc;
    kv_op_t      *op;
    uint32_t      len, version;
    kv_entry_t   *e;

    static char  data[100000];

    (void) state;

    rig_start();

    assert_int_equal(kit_get(&host, 1, &version, NULL), KV_NOT_FOUND);
    rig_put(1, 1, 8);
    rig_put(2, 2, 300000);
    assert_int_equal(kit_get(&host, 2, &version, &len), KV_OK);
    assert_int_equal(len, 300000);
    rig_put(1, 3, 90000);
    rig_put(2, 4, 9);
    rig_verify();

    /* a delete of what is not there is no error; nothing stays of it */

    assert_int_equal(kit_delete(&host, 77), KV_OK);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    shadow[1] = 0;
    rig_verify();

    /* of unknown length, and empty */

    memset(data, 'x', sizeof(data));
    assert_int_equal(kv_store_put(kit.store, "chunked", 7, KV_LENGTH_UNKNOWN, 0,
                                  &op), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, data, 70000), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 70000, data, 11), KV_OK);
    assert_int_equal(kv_store_finish(kit.store, op, 70011), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    assert_int_equal(kv_store_put(kit.store, "empty", 5, 0, 0, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    for (unsigned i = 0; i < 2; i++) {
        rc = kv_store_read(kit.store, "chunked", 7, &e);
        assert_int_equal(rc, KV_OK);
        assert_int_equal(e->value_len, 70011);
        kv_store_read_done(kit.store);

        rc = kv_store_read(kit.store, "empty", 5, &e);
        assert_int_equal(rc, KV_OK);
        assert_int_equal(e->value_len, 0);
        kv_store_read_done(kit.store);

        rig_settled();
        rig_stop();
        rig_start();
    }

    /* given up: building, built, and never written */

    assert_int_equal(kit_begin_put(&host, 5, 1, 90000, &op), KV_OK);
    kv_store_release(kit.store, op);
    assert_int_equal(kv_store_put(kit.store, "k", 1, KV_LENGTH_UNKNOWN, 0, &op),
                     KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, data, 90000), KV_OK);
    kv_store_release(kit.store, op);
    rig_settled();

    assert_int_equal(kit_clear(&host), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    memset(shadow, 0, sizeof(shadow));
    rig_verify();
    rig_settled();
    rig_restart();

    assert_int_equal(atomic_load(&kit.store->zone->map.keys), 0);
    rig_stop();
}


static void
test_restarts(void **state)
{
    unsigned  i;

    (void) state;

    rig_start();
    rig_traffic(60);
    rig_verify();
    rig_settled();
    rig_restart();

    /* a snapshot and a log; several; with a clear between */

    for (i = 0; i < 5; i++) {
        rig_snapshot();
        rig_traffic(30);

        if (i == 2) {
            assert_int_equal(kit_clear(&host), KV_OK);
            memset(shadow, 0, sizeof(shadow));
            rig_traffic(20);
        }

        rig_restart();
        assert_true(atomic_load(&kit.store->zone->recovered_snapshot) > 0
                    || i == 2);
    }

    rig_stop();
}


/*
 * A new zone takes over the hash of the map that the snapshot was made from;
 * without a snapshot it has one of its own.
 */

static void
test_seed(void **state)
{
    int                  fd;
    char                 name[64];
    uint64_t             before[2], none[2];
    kv_snapshot_list_t   list;

    (void) state;

    memset(none, 0, sizeof(none));

    rig_start();
    memcpy(before, kit.store->zone->map.seed, sizeof(before));
    assert_memory_not_equal(before, none, sizeof(before));
    rig_traffic(20);

    rig_restart();
    assert_memory_not_equal(kit.store->zone->map.seed, before, sizeof(before));
    assert_memory_not_equal(kit.store->zone->map.seed, none, sizeof(none));

    memcpy(before, kit.store->zone->map.seed, sizeof(before));
    rig_snapshot();
    rig_traffic(20);

    rig_restart();
    assert_memory_equal(kit.store->zone->map.seed, before, sizeof(before));

    /* the next snapshot hands it on; where that is damaged, the older one */

    rig_traffic(20);
    rig_snapshot();
    rig_restart();
    assert_memory_equal(kit.store->zone->map.seed, before, sizeof(before));
    rig_stop();

    assert_int_equal(kv_snapshot_list(&kit.io->io, kit.dirfd, &list, &kit.err),
                     KV_OK);
    assert_int_equal(list.n, 2);

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs", list.lsn[0]);
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damaged!", 8, 32), 8);
    (void) close(fd);

    rig_start();
    rig_verify();
    assert_memory_equal(kit.store->zone->map.seed, before, sizeof(before));
    rig_stop();
}


static void
test_damaged_snapshot(void **state)
{
    int                  fd;
    char                 name[64];
    off_t                size;
    kv_snapshot_list_t   list;

    (void) state;

    rig_start();
    rig_traffic(30);
    rig_snapshot();
    rig_traffic(30);
    rig_snapshot();
    rig_traffic(30);
    rig_verify();
    rig_stop();

    assert_int_equal(kv_snapshot_list(&kit.io->io, kit.dirfd, &list, &kit.err),
                     KV_OK);
    assert_int_equal(list.n, 2);

    /* the newest one's middle */

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs",
                    list.lsn[0]);
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_true(fd >= 0);
    size = lseek(fd, 0, SEEK_END);
    assert_int_equal(pwrite(fd, "damaged!", 8, size / 2), 8);
    (void) close(fd);

    rig_start();
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
        TEST(test_operations),
        TEST(test_restarts),
        TEST(test_seed),
        TEST(test_damaged_snapshot)
    };

    return cmocka_run_group_tests_name("store restart", tests, NULL, NULL);
}
