
/*
 * A full disk: what is deleted to free space, what is not, and what is said.
 * All that could take the place of the newest snapshot goes only once that was
 * read back, and was good.
 */

/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "solo.h"
#include "store/kv_state.h"


#define IDS  6u


static char           messages[8192];
static volatile bool  stop;


static void
note(void *ctx, kv_log_level_t level, const char *text)
{
    size_t  n;

    (void) ctx;
    (void) level;

    n = strlen(messages);
    (void) snprintf(messages + n, sizeof(messages) - n, "%s\n", text);
}


static bool
stopping(void)
{
    return stop;
}


static unsigned
files(const char *suffix)
{
    size_t       len;
    unsigned     i, n;
    const char  *name;

    for (i = 0, n = 0; i < RAM_FILES; i++) {
        name = solo.ram.file[i].name;
        len = strlen(name);

        n += len > strlen(suffix)
             && strcmp(name + len - strlen(suffix), suffix) == 0;
    }

    return n;
}


/* Two snapshots, of LSN 3 and 6. */

static int
setup(void **state)
{
    uint32_t  i;

    (void) solo_setup(state);

    stop = false;
    solo.conf.snapshot = 1 << 30;
    solo.conf.log = note;
    solo.conf.stopping = stopping;

    if (solo_start(&solo) != KV_OK) {
        return -1;
    }

    for (i = 0; i < IDS; i++) {
        assert_int_equal(solo_put(&solo, i, 3000), KV_OK);

        if (i % 3 == 2) {
            solo_background(&solo, KV_REQUEST_SNAPSHOT);
        }
    }

    messages[0] = '\0';

    return files(".kvs") == 2 ? 0 : -1;
}


static int
teardown(void **state)
{
    stop = false;

    return solo_teardown(state);
}


/* A write was refused, and the background task looks what it can do. */

static void
make_room(void)
{
    kv_err_t    err;
    kv_zone_t  *zone;

    zone = solo.host.store->zone;

    if (kv_state(zone) == KV_STATE_READY) {
        errno = ENOSPC;
        kv_err_set(&err, "a test");
        kv_state_refused(solo.host.store, KV_NO_SPACE, 100, &err);
    }

    zone->retried_ns = 0;
    solo_background(&solo, KV_REQUEST_FREE_DISK);
}


static void
arm(unsigned i, ram_call_t call, int error, unsigned times)
{
    solo.ram.fault[i].call = call;
    solo.ram.fault[i].error = error;
    solo.ram.fault[i].nth = solo.ram.calls[call] + 1;
    solo.ram.fault[i].times = times;
    solo.ram.fault[i].hits = 0;
}


static void
damage(const char *name)
{
    ram_file_t  *f;

    f = ram_find(&solo.ram, name);
    assert_non_null(f);
    f->data[f->size / 2] ^= 1;
}


static void
logged(const char *text, bool is)
{
    if ((strstr(messages, text) != NULL) != is) {
        fail_msg("\"%s\" is %s in: %s", text, is ? "not" : "there", messages);
    }
}


/* All that was written is there, after a start as well. */

static void
is_all_there(void)
{
    uint32_t  id, version;
    unsigned  starts;

    for (starts = 0; starts < 2; starts++) {
        memset(solo.ram.fault, 0, sizeof(solo.ram.fault));

        for (id = 0; id < IDS; id++) {
            assert_int_equal(kit_get(&solo.host, id, &version, NULL), KV_OK);
            assert_int_equal(version, 1);
        }

        if (starts == 0) {
            solo_stop(&solo, false);
            assert_int_equal(solo_start(&solo), KV_OK);
        }
    }
}


static void
test_makes_room(void **state)
{
    kv_zone_t  *zone;

    (void) state;

    zone = solo.host.store->zone;
    make_room();
    assert_int_equal(kv_state(zone), KV_STATE_READY);
    assert_int_equal(files(".kvs"), 1);

    /* not again at once: the newer snapshot is not in the way of writes */

    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    assert_int_equal(solo_put(&solo, 0, 3000), KV_OK);
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    assert_int_equal(files(".kvs"), 2);
    make_room();
    assert_int_equal(files(".kvs"), 2);

    zone->free_disk_ns -= 3000000000;
    make_room();
    assert_int_equal(files(".kvs"), 1);

    is_all_there();
}


/* Who wants no snapshots gets none, and keeps what is there. */

static void
test_no_snapshots(void **state)
{
    (void) state;

    atomic_store(&solo.host.store->zone->snapshot, 0);
    make_room();
    assert_int_equal(files(".kvs"), 2);
    is_all_there();
}


static void
test_damaged(void **state)
{
    (void) state;

    damage("snap-0000000000000006.kvs");
    make_room();

    logged("it is now called \"snap-0000000000000006.kvs.damaged\", and what "
           "could take its place is kept", true);
    logged("1 damaged snapshots that were kept are deleted", true);
    assert_int_equal(files(".damaged"), 0);
    assert_int_equal(files(".kvs"), 1);
    is_all_there();
}


/* Both are, and the new one replaces them. */

static void
test_both_damaged(void **state)
{
    (void) state;

    damage("snap-0000000000000006.kvs");
    damage("snap-0000000000000003.kvs");
    make_room();

    logged("snap-0000000000000006.kvs.damaged", true);
    logged("snap-0000000000000003.kvs.damaged", true);
    assert_int_equal(files(".kvs"), 1);
    is_all_there();
}


/* What cannot be put aside stays, and so does all that is older. */

static void
test_not_aside(void **state)
{
    (void) state;

    damage("snap-0000000000000006.kvs");
    arm(0, RAM_RENAME, EIO, 1000);
    make_room();
    logged("cannot rename the damaged", true);
    logged("it is now called", false);
    assert_int_equal(files(".kvs"), 2);
    is_all_there();
}


static void
test_not_synced(void **state)
{
    (void) state;

    damage("snap-0000000000000006.kvs");
    arm(0, RAM_FSYNC, EIO, 1);
    make_room();
    logged("cannot sync the directory of", true);
    is_all_there();
}


/*
 * The process that named the newest snapshot may have died before it synced the
 * name: until that is done, what could take its place stays.
 */

static void
test_name_not_synced(void **state)
{
    (void) state;

    arm(0, RAM_FSYNC, EIO, 1000);
    make_room();
    assert_int_equal(files(".kvs"), 2);
    memset(solo.ram.fault, 0, sizeof(solo.ram.fault));

    solo.host.store->zone->free_disk_ns = 0;
    make_room();
    assert_int_equal(files(".kvs"), 1);
    is_all_there();
}


/* What was put aside, and cannot be deleted, is no reason to stop. */

static void
test_not_dropped(void **state)
{
    (void) state;

    damage("snap-0000000000000006.kvs");
    arm(0, RAM_UNLINK, EIO, 1);
    make_room();
    logged("it is now called", true);
    logged("cannot delete", true);
    is_all_there();
}


/* A disk that cannot read it has lost it; one that lacks memory has not. */

static void
test_unreadable(void **state)
{
    (void) state;

    arm(0, RAM_READ, ENOMEM, 1000);
    arm(1, RAM_RENAME, EIO, 1000);
    make_room();
    assert_int_equal(solo.ram.fault[0].hits > 0, true);
    logged(".damaged", false);
    logged("the damaged", false);
    assert_int_equal(files(".kvs"), 2);
    memset(solo.ram.fault, 0, sizeof(solo.ram.fault));

    solo.host.store->zone->free_disk_ns = 0;
    arm(0, RAM_READ, EIO, 1);
    make_room();
    logged("snap-0000000000000006.kvs.damaged", true);
    is_all_there();
}


static void
test_not_listed(void **state)
{
    (void) state;

    arm(0, RAM_LIST, EMFILE, 1000);
    make_room();
    assert_true(solo.ram.fault[0].hits > 0);
    memset(solo.ram.fault, 0, sizeof(solo.ram.fault));
    assert_in_range(files(".kvs"), 2, 3);
    is_all_there();
}


/* A process that ends leaves it to others, with all as it is. */

static void
test_stopped(void **state)
{
    (void) state;

    stop = true;
    make_room();
    stop = false;
    assert_int_equal(files(".kvs"), 2);
    is_all_there();
}


/* A start needs memory for all that the directory holds. */

static void
test_zone_too_small(void **state)
{
    kv_op_t   *op;
    kv_rc_t    rc;
    uint32_t   id;

    (void) state;

    solo_stop(&solo, true);
    solo_done(&solo);
    solo_init(&solo, 16 << 20);
    solo.conf.max_value = 100000;
    solo.conf.segment = 1 << 20;
    assert_int_equal(solo_start(&solo), KV_OK);

    for (id = 0; id < 100; id++) {
        assert_int_equal(kit_begin_put(&solo.host, id, id + 1, 90000, &op),
                         KV_OK);
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    solo_stop(&solo, true);

    solo.size = 4 << 20;
    assert_int_equal(solo_start(&solo), KV_NO_MEMORY);
    assert_non_null(strstr(solo.err.text, "the zone of 4194304 bytes is too "
                                          "small for what the directory "
                                          "holds: there is memory for "));
    solo.size = 16 << 20;
    assert_int_equal(solo_start(&solo), KV_OK);
    assert_int_equal(atomic_load(&solo.host.store->zone->map.keys), 100);
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_makes_room),
        TEST(test_no_snapshots),
        TEST(test_damaged),
        TEST(test_both_damaged),
        TEST(test_not_aside),
        TEST(test_not_synced),
        TEST(test_name_not_synced),
        TEST(test_not_dropped),
        TEST(test_unreadable),
        TEST(test_not_listed),
        TEST(test_stopped),
        TEST(test_zone_too_small)
    };

    return cmocka_run_group_tests_name("disk full", tests, NULL, NULL);
}
