
/*
 * What is restored of a replicated log is another store, with all records, and
 * no member of a cluster: from a backup, and a moment from an archive.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_archive.h"
#include "replica_rig.h"


static char  base[256], file[300], dir[300], archive[300];


static int
setup(void **ctx)
{
    wal_t  *t;

    if (replica_setup(ctx) != 0) {
        return -1;
    }

    t = *ctx;

    (void) snprintf(base, sizeof(base), "%s.copy", t->path);
    (void) snprintf(file, sizeof(file), "%s/backup.kvb", base);
    (void) snprintf(dir, sizeof(dir), "%s/restored", base);
    (void) snprintf(archive, sizeof(archive), "%s/archive", base);

    return mkdir(base, 0700) == -1 || mkdir(archive, 0700) == -1 ? -1 : 0;
}


static int
wipe(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void) st;
    (void) type;
    (void) at;

    return remove(path);
}


static int
teardown(void **ctx)
{
    (void) nftw(base, wipe, 16, FTW_DEPTH|FTW_PHYS);

    return wal_teardown(ctx);
}


/* Three segments, with entries of all types among the records; 9 LSNs. */

static void
make(wal_t *t)
{
    unsigned  i;

    replica_vote(t, 1, 77);
    replica_entry(t, KV_ENTRY_CHANGE, "me");

    for (i = 0; i < 3; i++) {
        replica_write(t, 2, 20000);
        replica_entry(t, KV_ENTRY_BARRIER, NULL);
        replica_vote(t, 2 + i, 78);
        replica_write(t, 1, 100);
    }

    wal_sync(t);
    assert_int_equal(t->state.segments, 3);
}


static void
backup(wal_t *t, uint64_t last)
{
    int           fd;
    char          buf[10000];
    size_t        n;
    kv_rc_t       rc;
    uint64_t      lsn;
    kv_backup_t  *b;

    b = kv_backup_create(&t->system, t->dirfd, NULL);
    assert_non_null(b);
    assert_int_equal(kv_backup_snapshot(b, &lsn, &t->err), KV_OK);
    assert_int_equal(kv_backup_log(b, last, 1, &t->err), KV_OK);

    fd = open(file, O_WRONLY|O_CREAT|O_TRUNC, 0600);
    assert_true(fd >= 0);

    while ((rc = kv_backup_next(b, buf, sizeof(buf), &n, &t->err)) == KV_OK) {
        assert_int_equal(write(fd, buf, n), n);
    }

    assert_int_equal(rc, KV_DECLINED);
    assert_int_equal(close(fd), 0);
    kv_backup_destroy(b);
}


/* The rig goes on with the directory that was restored. */

static void
take(wal_t *t)
{
    kv_wal_destroy(t->log);
    t->log = NULL;
    (void) close(t->dirfd);

    t->dirfd = open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    assert_true(t->dirfd >= 0);
    t->batch = NULL;

    /* a start knows no store yet */

    t->strange = true;
}


/* The rig goes on with a copy of its directory, from a backup. */

static void
restore(wal_t *t, uint64_t last)
{
    kv_backup_header_t  header;

    backup(t, last);
    (void) nftw(dir, wipe, 16, FTW_DEPTH|FTW_PHYS);
    assert_int_equal(kv_backup_restore(file, dir, NULL, &header, &t->err),
                     KV_OK);

    take(t);
    wal_replays(t, last);
}


/* It begins as a node: two entries, the second with a record. */

static void
join(wal_t *t)
{
    replica_vote(t, 1, 5);
    replica_entry(t, KV_ENTRY_CHANGE, "me, anew");
    wal_write(t, 1, 100);
}


/* It is read without cluster=, and goes on as a log of its own; or with it. */

static void
test_backup(void **ctx)
{
    wal_t               *t = *ctx;
    kv_backup_header_t   header;

    make(t);
    backup(t, 9);

    assert_int_equal(kv_backup_check(file, NULL, &header, &t->err), KV_OK);
    assert_int_equal(kv_backup_restore(file, dir, NULL, &header, &t->err),
                     KV_OK);
    assert_int_equal(header.lsn, 9);

    take(t);
    t->replicated = false;
    wal_replays(t, 9);
    assert_int_equal(t->state.replicated, 0);
    assert_int_equal(t->state.replica.index, 0);

    wal_write(t, 2, 100);
    wal_sync(t);
    wal_replays(t, 11);
    assert_int_equal(t->state.segments, 4);

    t->replicated = true;
    wal_replays(t, 11);
    assert_int_equal(t->state.replica.term, 0);
    assert_int_equal(t->state.replica.members_len, 0);
    join(t);
    replica_same(t, 12);
    assert_int_equal(t->state.replica.index, 2);
}


/* At once with it. */

static void
test_backup_again(void **ctx)
{
    wal_t  *t = *ctx;

    make(t);
    restore(t, 9);
    assert_int_equal(t->state.replica.term, 0);
    assert_int_equal(t->state.replica.voted_for, 0);
    join(t);
    replica_same(t, 10);
    assert_int_equal(t->state.replica.index, 2);
    assert_int_equal(t->state.replica.before, 0);
}


/* What is restored goes on in a cluster, and is restored itself. */

static void
test_backup_twice(void **ctx)
{
    wal_t  *t = *ctx;

    make(t);
    restore(t, 9);
    join(t);
    wal_sync(t);

    restore(t, 10);
    assert_int_equal(t->state.replica.term, 0);
}


/* Entries of the store that it was keep none of its segments. */

static void
test_backup_purged(void **ctx)
{
    wal_t  *t = *ctx;

    make(t);
    restore(t, 9);
    join(t);
    wal_sync(t);
    assert_true(t->state.segments > 3);

    assert_int_equal(kv_wal_purge(t->log, t->state.segment_lsn - 1,
                                  t->state.segment_lsn, 0, NULL, &t->err),
                     KV_OK);
    assert_int_equal(wal_count(t, ""), 1);
    assert_int_equal(wal_replay(t, t->state.segment_lsn - 1, 0), KV_OK);
}


static bool
stop(void *ctx)
{
    (void) ctx;

    return false;
}


/* Each moment, also in the middle of an entry. */

static void
test_archive(void **ctx)
{
    int                    at;
    wal_t                 *t = *ctx;
    uint64_t               lsn;
    kv_archive_t           a;
    kv_backup_header_t     header;
    kv_archive_moment_t    moment;

    make(t);

    at = open(archive, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    assert_true(at >= 0);

    memset(&a, 0, sizeof(a));
    a.io = &t->system;
    a.dirfd = t->dirfd;
    a.to = at;
    a.stop = stop;

    assert_int_equal(kv_archive_mark(&a), KV_OK);
    assert_int_equal(kv_archive_update(&a, t->state.segment_lsn, &t->err),
                     KV_OK);
    assert_int_equal(a.put, 2);
    (void) close(at);

    for (lsn = 1; lsn <= 9; lsn++) {
        (void) nftw(dir, wipe, 16, FTW_DEPTH|FTW_PHYS);

        memset(&moment, 0, sizeof(moment));
        moment.lsn = lsn;

        if (kv_archive_restore(archive, t->path, dir, &moment, NULL, &header,
                               &t->err) != KV_OK)
        {
            fail_msg("LSN %d: %s", (int) lsn, t->err.text);
        }

        assert_int_equal(header.lsn, lsn);
    }

    take(t);
    t->replicated = false;
    wal_replays(t, 9);
    wal_write(t, 1, 10);
    wal_sync(t);
    wal_replays(t, 10);
}


#define TEST(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_backup),
        TEST(test_backup_again),
        TEST(test_backup_twice),
        TEST(test_backup_purged),
        TEST(test_archive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
