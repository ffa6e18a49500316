
/*
 * An archive that fails, at each of its calls, and one of another history: what
 * counts as kept is there and synced, what is lost is told, and nothing is
 * mixed.  And what is deleted there, once it is too old.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/kv_archive.h"
#include "disk/kv_snapshot.h"
#include "disk/kv_wal_private.h"
#include "store_rig.h"


#define HOLD  (UINT64_C(6) << 20)


static char      path[256];              /* the archive */
static int       archive;                /* its directory, */
static kv_io_t   real;                   /* the calls behind those below, */
static int       list_fails;             /* the errno of those for it */
static int       link_fails;
static int       sync_fails;
static int       note_fails;
static unsigned  changed;                /* names there, since a sync */
static _Atomic unsigned  reads;          /* of any file */
static kv_err_t  err;


static int
on_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    if (dirfd == archive && list_fails) {
        errno = list_fails;
        return -1;
    }

    return real.list(io, dirfd, cb, ctx);
}


static int
on_link(kv_io_t *io, int dirfd, const char *name, int todir, const char *to)
{
    if (link_fails) {
        errno = link_fails;
        return -1;
    }

    changed++;

    return real.link(io, dirfd, name, todir, to);
}


static int
on_fsync(kv_io_t *io, int fd)
{
    if (fd == archive && sync_fails) {
        errno = sync_fails;
        return -1;
    }

    if (fd == archive) {
        changed = 0;
    }

    return real.fsync(io, fd);
}


static int
on_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    if (dirfd == archive && flags & O_CREAT && note_fails) {
        errno = note_fails;
        return -1;
    }

    return real.open(io, dirfd, name, flags);
}


static ssize_t
on_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    (void) atomic_fetch_add(&reads, 1);

    return real.pread(io, fd, buf, n, offset);
}


static int
setup(void **state)
{
    (void) snprintf(path, sizeof(path), "%s/kv_archive.XXXXXX",
                    getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");

    if (mkdtemp(path) == NULL || rig_setup(state) != 0) {
        return -1;
    }

    archive = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    list_fails = 0;
    link_fails = 0;
    sync_fails = 0;
    note_fails = 0;
    changed = 0;

    real = kit.io->io;
    kit.io->io.list = on_list;
    kit.io->io.link = on_link;
    kit.io->io.fsync = on_fsync;
    kit.io->io.open = on_open;
    kit.io->io.pread = on_pread;

    kit.conf.archive = path;
    kit.conf.archive_fd = archive;
    kit.conf.archive_hold = HOLD;

    return archive == -1 ? -1 : 0;
}


static void
wipe(void *ctx, const char *name)
{
    (void) ctx;
    (void) unlinkat(archive, name, 0);
}


static int
teardown(void **state)
{
    kv_io_t  io;

    kv_io_system(&io);
    (void) io.list(&io, archive, wipe, NULL);
    (void) close(archive);
    (void) rmdir(path);

    return rig_teardown(state);
}


static void
start(void)
{
    rig_start();

    if (kv_store_archive_fits(kit.store, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }
}


/* Two megabytes of log, and a snapshot. */

static void
more_log(void)
{
    uint32_t  i;

    for (i = 0; i < 24; i++) {
        rig_put(i, 5000 + i, 100000);
    }

    rig_snapshot();
}


static uint64_t
upto(void)
{
    return atomic_load(&kit.store->zone->archive_lsn);
}


static unsigned
gaps(void)
{
    return (unsigned) atomic_load(&kit.store->zone->archive_gaps);
}


/* How many files of such names are in a directory. */

typedef struct {
    const char  *begin;
    const char  *end;
    unsigned     n;
    char         last[KV_NAME_MAX];
} names_t;


static void
count(void *ctx, const char *name)
{
    names_t *names = ctx;

    size_t  n;

    n = strlen(names->end);

    if (strncmp(name, names->begin, strlen(names->begin)) == 0
        && strlen(name) > n && strcmp(name + strlen(name) - n, names->end) == 0)
    {
        names->n++;

        if (strcmp(name, names->last) > 0) {
            (void) snprintf(names->last, sizeof(names->last), "%s", name);
        }
    }
}


static names_t
files(int dirfd, const char *begin, const char *end)
{
    names_t  names;

    memset(&names, 0, sizeof(names));
    names.begin = begin;
    names.end = end;

    assert_int_equal(real.list(&kit.io->io, dirfd, count, &names), 0);

    return names;
}


/*
 * Names that were not synced count for nothing, also where the next try finds
 * them, as it does what a worker left that died.
 */

static void
test_sync(void **state)
{
    (void) state;

    start();
    sync_fails = EIO;
    more_log();

    assert_true(files(archive, "log-", ".kvl").n > 0);
    assert_true(files(archive, "snap-", ".kvs").n > 0);
    assert_true(changed > 0);
    assert_int_equal(upto(), 0);
    assert_true(atomic_load(&kit.store->zone->archive_failed) > 0);

    /* a try that puts nothing there, and finds what is there */

    sync_fails = 0;
    link_fails = EIO;
    more_log();
    assert_true(upto() == 0 || changed == 0);

    link_fails = 0;
    rig_put(1, 1, 10);
    rig_snapshot();
    assert_true(upto() > 0);
    assert_int_equal(changed, 0);
    assert_int_equal(gaps(), 0);

    rig_stop();
}


/* Whatever call fails, the log is kept up to the limit, and a gap is told. */

static void
fails(int *how)
{
    uint64_t  before;
    unsigned  i;

    before = upto();
    *how = EIO;

    for (i = 0; i < 12 && gaps() == 0; i++) {
        more_log();
        assert_true(files(kit.dirfd, "log-", ".kvl").n < 16);
        assert_true(gaps() > 0 || upto() == before);
    }

    assert_int_equal(gaps(), 1);
    assert_true(upto() > before);
}


static void
test_new_one_fails(void **state)
{
    (void) state;

    start();
    fails(&link_fails);
    rig_stop();
}


static void
test_old_one_fails(void **state)
{
    (void) state;

    start();
    more_log();
    more_log();
    assert_true(upto() > 0);
    fails(&list_fails);
    rig_stop();
}


/* The gap is noted there, also where that cannot be done at once. */

static void
test_note(void **state)
{
    (void) state;

    start();
    more_log();
    more_log();
    note_fails = ENOSPC;
    fails(&link_fails);
    assert_int_equal(files(archive, "gap-", "").n, 0);

    link_fails = 0;
    note_fails = 0;
    more_log();
    assert_int_equal(files(archive, "gap-", "").n, 1);
    assert_int_equal(gaps(), 1);

    /* a start finds what was given up while nobody looked */

    kit.conf.archive = NULL;
    rig_stop();
    rig_start();
    more_log();
    more_log();
    rig_stop();

    kit.conf.archive = path;
    start();
    more_log();
    assert_int_equal(gaps(), 1);
    assert_int_equal(files(archive, "gap-", "").n, 2);
    rig_stop();
}


static char  said[2048];             /* by the store */

static void
listen(void *ctx, kv_log_level_t level, const char *text)
{
    (void) ctx;

    if (level <= KV_LOG_ERR) {
        (void) snprintf(said, sizeof(said), "%s", text);
    }
}


/* People delete it: what they make in its place is another one. */

static void
test_deleted(void **state)
{
    (void) state;

    kit.conf.log = listen;
    said[0] = '\0';
    start();
    assert_int_equal(real.list(&kit.io->io, archive, wipe, NULL), 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    more_log();
    assert_non_null(strstr(said, "its directory was deleted: make it again, "
                                 "and restart nginx"));
    rig_stop();
}


/* What an archive says to a store that ends with `last`. */

static kv_rc_t
fits(uint64_t last)
{
    kv_archive_t   a;
    kv_identity_t  id;

    memset(&a, 0, sizeof(a));
    a.io = &kit.io->io;
    a.dirfd = kit.dirfd;
    a.to = archive;
    id = kv_wal_id(&kit.store->zone->wal);

    return kv_archive_fits(&a, &id, last, &err);
}


/* An archive of another store, from which such files are taken first. */

static void
other_store(const char *begin, const char *end)
{
    names_t        names;
    kv_archive_t   a;
    kv_identity_t  id;

    start();
    more_log();
    more_log();

    while ((names = files(archive, begin, end)).n) {
        assert_int_equal(unlinkat(archive, names.last, 0), 0);
    }

    memset(&a, 0, sizeof(a));
    a.io = &kit.io->io;
    a.dirfd = kit.dirfd;
    a.to = archive;
    id = kv_wal_id(&kit.store->zone->wal);
    id.store[1] ^= 1;

    assert_int_equal(kv_archive_fits(&a, &id,
                                     atomic_load(&kit.store->zone->applied_lsn),
                                     &err), KV_DAMAGED);
    assert_non_null(strstr(err.text, "of another store, or of this one before "
                                     "a restore"));
    rig_stop();
}


static void
test_other_log(void **state)
{
    (void) state;

    other_store("snap-", ".kvs");
}


static void
test_other_snapshots(void **state)
{
    (void) state;

    other_store("log-", ".kvl");
}


/* A snapshot is there before the segment that it needs. */

static void
test_snapshot_ahead(void **state)
{
    uint64_t  last;

    (void) state;

    start();
    rig_put(1, 1, 100);
    rig_put(2, 1, 100);
    rig_snapshot();

    last = atomic_load(&kit.store->zone->applied_lsn);
    assert_int_equal(files(archive, "log-", ".kvl").n, 0);
    assert_int_equal(files(archive, "snap-", ".kvs").n, 1);

    assert_int_equal(fits(last), KV_OK);
    assert_int_equal(fits(last - 1), KV_DAMAGED);
    assert_non_null(strstr(err.text, "give the zone a new archive"));

    rig_stop();
}


/* A dead committer may leave a batch behind the end of a segment. */

static void
test_batch_behind(void **state)
{
    char      name[KV_NAME_MAX], sooner[KV_NAME_MAX];
    uint64_t  next;
    names_t   snapshots;

    (void) state;

    start();
    more_log();
    more_log();

    /* which are of later writes */

    while ((snapshots = files(archive, "snap-", ".kvs")).n) {
        assert_int_equal(unlinkat(archive, snapshots.last, 0), 0);
    }

    next = atomic_load(&kit.store->zone->current_segment);
    assert_int_equal(upto(), next - 1);
    assert_int_equal(fits(next - 2), KV_DAMAGED);

    /* as if the last two in the segment before had no acknowledgement */

    (void) kv_wal_name(name, KV_WAL_SEGMENT, next);
    (void) kv_wal_name(sooner, KV_WAL_SEGMENT, next - 2);
    assert_int_equal(renameat(kit.dirfd, name, kit.dirfd, sooner), 0);
    assert_int_equal(fits(next - 2), KV_OK);
    assert_int_equal(fits(next - 4), KV_DAMAGED);
    assert_int_equal(renameat(kit.dirfd, sooner, kit.dirfd, name), 0);

    rig_stop();
}


/* Files of another history are not mixed with the store's, nor taken for it. */

static void
test_other_history(void **state)
{
    char      name[KV_NAME_MAX];
    uint64_t  before;

    (void) state;

    start();
    more_log();
    more_log();
    before = upto();

    /* that the other one began a segment where this one did not */

    (void) kv_wal_name(name, KV_WAL_SEGMENT,
                       atomic_load(&kit.store->zone->current_segment) - 3);
    assert_int_equal(linkat(archive, files(archive, "log-", ".kvl").last,
                            archive, name, 0), 0);
    more_log();
    assert_int_equal(upto(), before);
    assert_true(atomic_load(&kit.store->zone->archive_failed) > 0);
    assert_int_equal(unlinkat(archive, name, 0), 0);
    more_log();
    assert_true(upto() > before);

    rig_stop();
}


/* Changes a byte of a file in the archive. */

static void
flip(const char *name)
{
    int      fd;
    uint8_t  byte;

    fd = openat(archive, name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    (void) close(fd);
}


/* Files of one name are compared when the server starts, if they are copies. */

static void
test_other_file(void **state)
{
    uint64_t  before;
    names_t   logs;

    (void) state;

    kit.conf.log = listen;
    said[0] = '\0';
    link_fails = EXDEV;

    start();
    more_log();
    rig_stop();

    logs = files(archive, "log-", ".kvl");
    flip(logs.last);

    start();
    before = upto();
    more_log();
    assert_non_null(strstr(said, logs.last));
    assert_non_null(strstr(said,
                           "that file of the archive is not the store's"));
    assert_true(upto() < atomic_load(&kit.store->zone->current_segment) - 1);
    assert_true(files(archive, "log-", ".kvl").n == logs.n);

    flip(logs.last);
    more_log();
    assert_true(upto() > before);
    assert_int_equal(gaps(), 0);
    rig_stop();
}


static bool
never(void *ctx)
{
    (void) ctx;

    return false;
}


static kv_rc_t
try_keep(uint64_t before_ms, unsigned *deleted)
{
    kv_archive_t  a;

    memset(&a, 0, sizeof(a));
    a.io = &kit.io->io;
    a.dirfd = kit.dirfd;
    a.to = archive;
    a.stop = never;

    return kv_archive_keep(&a, before_ms, deleted, &err);
}


/* Deletes what is needed for no moment since then; how many files. */

static unsigned
keep(uint64_t before_ms)
{
    unsigned  deleted;

    if (try_keep(before_ms, &deleted) != KV_OK) {
        fail_msg("%s", err.text);
    }

    return deleted;
}


/* What is too old goes, and nothing is read for nothing. */

static void
test_keep(void **state)
{
    char                 name[KV_NAME_MAX];
    unsigned             i, deleted;
    uint64_t             oldest;
    kv_snapshot_list_t   list;

    (void) state;

    start();

    for (i = 0; i < 5; i++) {
        more_log();
    }

    assert_int_equal(files(archive, "snap-", ".kvs").n, 5);
    assert_int_equal(keep(1), 0);

    /* gaps before what stays, and one that goes on beyond that */

    assert_int_equal(kv_snapshot_list(&kit.io->io, archive, &list, &err),
                     KV_OK);
    oldest = list.lsn[1];

    /* the one that would stand for all before it is damaged */

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs", oldest);
    flip(name);
    assert_int_equal(try_keep(UINT64_MAX, &deleted), KV_DAMAGED);
    assert_int_equal(deleted, 0);
    assert_int_equal(files(archive, "snap-", ".kvs").n, 5);
    flip(name);

    assert_int_equal(kv_archive_note_gap(&kit.io->io, archive, 2, 3), KV_OK);
    assert_int_equal(kv_archive_note_gap(&kit.io->io, archive, 5, oldest),
                     KV_OK);
    assert_int_equal(kv_archive_note_gap(&kit.io->io, archive, 6, oldest + 1),
                     KV_OK);

    assert_true(keep(UINT64_MAX) >= 3 + 5 + 2);
    assert_int_equal(files(archive, "snap-", ".kvs").n, 2);
    assert_int_equal(files(archive, "gap-", "").n, 1);

    /* the segment that stays begins before the snapshot */

    atomic_store(&reads, 0);
    assert_int_equal(keep(UINT64_MAX), 0);
    assert_true(atomic_load(&reads) < 6);

    rig_stop();
}


/* A full archive loses what is too old, and goes on then. */

static void
test_full(void **state)
{
    unsigned    i;
    kv_zone_t  *zone;

    (void) state;

    /* copies, as on another disk */

    link_fails = EXDEV;
    kit.conf.archive_hold = UINT64_C(1) << 40;
    kit.conf.archive_keep = UINT64_C(1) << 50;

    start();
    zone = kit.store->zone;

    for (i = 0; i < 5; i++) {
        more_log();
    }

    assert_int_equal(files(archive, "snap-", ".kvs").n, 5);
    note_fails = ENOSPC;
    more_log();
    assert_true(atomic_load(&zone->archive_failed) > 0);
    assert_int_equal(atomic_load(&zone->archive_deleted), 0);

    kit.store->conf.archive_keep = 1;
    more_log();
    assert_true(atomic_load(&zone->archive_deleted) > 0);
    assert_int_equal(files(archive, "snap-", ".kvs").n, 2);

    note_fails = 0;
    more_log();
    assert_int_equal(atomic_load(&zone->archive_waiting), 0);
    assert_int_equal(gaps(), 0);

    rig_stop();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_sync, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_one_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_one_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_note, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_snapshots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_ahead, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batch_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_history, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown)
    };

    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
