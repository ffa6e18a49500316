
/*
 * Snapshots in their directory: which there are, which are purged, and what an
 * unfinished one leaves.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snap_rig.h"


static void
test_list(void **state)
{
    char                 name[64];
    unsigned             i;
    kv_err_t             err;
    kv_snapshot_list_t   list;

    static const char   *others[] = {
        "snap-00000000000000f.kvs", "snap-00000000000000000f.kvs",
        "snap-000000000000000F.kvs", "snap-000000000000000g.kvs",
        "snap-000000000000000f.kvs.bak", "snap-000000000000000f.kv",
        "snap-000000000000000f.tmp", "snap-000000000000000f",
        "snap--00000000000000f.kvs", "snap-0x0000000000000f.kvs",
        "Snap-000000000000000f.kvs", "xsnap-000000000000000f.kvs",
        "snap- 00000000000000f.kvs", "log-000000000000000f.kvl", "snap-",
        "kv.lock", "s"
    };

    (void) state;

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 0);

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        snap_make_file(others[i], "", 0);
    }

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 0);

    snap_make_file("snap-0000000000000010.kvs", "", 0);
    snap_make_file("snap-ffffffffffffffff.kvs", "", 0);
    snap_make_file("snap-0000000000000000.kvs", "", 0);
    snap_make_file("snap-0123456789abcdef.kvs", "", 0);

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 4);
    assert_true(list.lsn[0] == UINT64_MAX);
    assert_true(list.lsn[1] == 0x0123456789abcdefull);
    assert_true(list.lsn[2] == 0x10);
    assert_true(list.lsn[3] == 0);

    /* more than the list holds: the newest count */

    for (i = 1000; i < 1100; i++) {
        (void) snprintf(name, sizeof(name), "snap-%016x.kvs",
                        1000 + i * 37 % 100);
        snap_make_file(name, "", 0);
    }

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, KV_SNAPSHOTS_MAX);

    for (i = 2; i < KV_SNAPSHOTS_MAX; i++) {
        assert_true(list.lsn[i] == 1099 - (i - 2));
    }
}


static void
test_purge(void **state)
{
    char                name[64];
    unsigned            i;
    kv_err_t            err;
    kv_snapshot_list_t  list;

    (void) state;

    snap_make_file("kv.lock", "", 0);
    snap_make_file("log-0000000000000001.kvl", "", 0);
    snap_make_file("spare-1.tmp", "", 0);
    snap_make_file("snap-000000000000000F.kvs", "", 0);

    for (i = 1; i <= 150; i++) {
        (void) snprintf(name, sizeof(name), "snap-%016x.kvs", i);
        snap_make_file(name, "", 0);
    }

    for (i = 1; i <= 70; i++) {
        (void) snprintf(name, sizeof(name), "snap-%016x.tmp", i);
        snap_make_file(name, "", 0);
    }

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 10, true,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4 + 10 + 70);

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 10);
    assert_true(list.lsn[0] == 150);
    assert_true(list.lsn[9] == 141);

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 2, false,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4 + 2);
    assert_true(snap_exists("snap-0000000000000096.kvs"));
    assert_true(snap_exists("snap-0000000000000095.kvs"));
    assert_true(snap_exists("spare-1.tmp"));

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 5, false,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4 + 2);

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 0, false,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4);
}


static void
test_left_over(void **state)
{
    char                   junk[4096];
    uint64_t               end, bytes;
    kv_err_t               err;
    struct stat            before, after;
    kv_snapshot_about_t    about;
    kv_snapshot_writer_t  *w;

    (void) state;

    memset(junk, 'j', sizeof(junk));
    snap_make_file(TMP, junk, sizeof(junk));
    assert_int_equal(fchmodat(snap_dirfd, TMP, 0644, 0), 0);

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 3, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_files(), 1);
    assert_int_equal(fstatat(snap_dirfd, NAME, &after, 0), 0);
    assert_int_equal(after.st_mode & 07777, 0600);
    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 3, &end, &bytes,
                               &err),
                     KV_OK);

    /* a second one of the same LSN stands beside it until it is complete */

    snap_about(&about, LSN, 1);
    assert_int_equal(kv_snapshot_begin(&snap_io, snap_dirfd, &about, &w, &err),
                     KV_OK);
    assert_true(snap_exists(TMP));
    assert_int_equal(fstatat(snap_dirfd, NAME, &before, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    kv_snapshot_abort(w);
    assert_false(snap_exists(TMP));
    assert_true(snap_exists(NAME));

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 5, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_files(), 1);
    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 5, &end, &bytes,
                               &err),
                     KV_OK);
}


/* What cannot be deleted stops neither the next snapshot nor the purge. */

static void
test_stuck(void **state)
{
    uint64_t  end, bytes;
    kv_err_t  err;

    (void) state;

    assert_int_equal(mkdirat(snap_dirfd, TMP, 0700), 0);
    assert_int_equal(mkdirat(snap_dirfd, "snap-0000000000000001.kvs", 0700), 0);
    snap_make_file("snap-0000000000000002.kvs", "", 0);
    snap_make_file("snap-0000000000000003.tmp", "", 0);

    if (snap_write(&snap_io, LSN, snap_small, 5, &bytes, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 5, &end, &bytes,
                               &err),
                     KV_OK);

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 1, false, NULL,
                                       &err),
                     KV_ERROR);
    assert_non_null(strstr(err.text, TMP));
    assert_int_equal(snap_files(), 3);
    assert_true(snap_exists(NAME));

    assert_int_equal(unlinkat(snap_dirfd, TMP, AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(snap_dirfd, "snap-0000000000000001.kvs",
                              AT_REMOVEDIR), 0);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, snap_setup, snap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_list),
        TEST(test_purge),
        TEST(test_left_over),
        TEST(test_stuck)
    };

    return cmocka_run_group_tests_name("snapshot files", tests, NULL, NULL);
}
