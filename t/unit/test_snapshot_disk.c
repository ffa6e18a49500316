
/*
 * Snapshots on a disk that fails: every call of a writing or a reading fails
 * once, transfers are short, and syncs come in the right order.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "snap_rig.h"


#define DIRTY_MAX  (1 * MIB)


/* Calls that change something, or read, in the order in which they come. */

typedef enum {
    CALL_OPEN = 'o',
    CALL_CLOSE = 'c',
    CALL_READ = 'r',
    CALL_WRITE = 'w',
    CALL_SYNC = 's',
    CALL_SYNC_DIR = 'd',
    CALL_RENAME = 'n',
    CALL_UNLINK = 'u',
    CALL_SIZE = 'z',
    CALL_LIST = 'l'
} call_t;


typedef struct {
    kv_io_t   io;           /* the first field */
    kv_io_t   sys;
    unsigned  calls;
    unsigned  fail_at;          /* this call fails, counted from 1 */
    int       error;            /* with this errno */
    call_t    failed;           /* what it was */
    bool      tear;             /* transfers are short */
    off_t     lie;              /* added to the size */
    int       open_files;
    size_t    dirty;
    size_t    most_dirty;
    char      trace[1024];
    unsigned  trace_n;
} faulty_t;


/* Notes the call; true if it is the one that fails. */

static bool
call(kv_io_t *with, call_t what)
{
    faulty_t  *f = (faulty_t *) with;

    if (f->trace_n < sizeof(f->trace) - 1) {
        f->trace[f->trace_n++] = what;
        f->trace[f->trace_n] = '\0';
    }

    if (++f->calls == f->fail_at) {
        f->failed = what;
        errno = f->error;
        return true;
    }

    return false;
}


static int
faulty_open(kv_io_t *with, int dirfd, const char *name, int flags)
{
    int        fd;
    faulty_t  *f = (faulty_t *) with;

    if (call(with, CALL_OPEN)) {
        return -1;
    }

    fd = f->sys.open(&f->sys, dirfd, name, flags);
    f->open_files += (fd != -1);

    return fd;
}


static int
faulty_close(kv_io_t *with, int fd)
{
    int        rc;
    faulty_t  *f = (faulty_t *) with;

    f->open_files--;

    rc = f->sys.close(&f->sys, fd);

    return call(with, CALL_CLOSE) ? -1 : rc;
}


static ssize_t
faulty_pread(kv_io_t *with, int fd, void *buf, size_t n, off_t offset)
{
    faulty_t  *f = (faulty_t *) with;

    if (call(with, CALL_READ)) {
        return -1;
    }

    n = (f->tear && n > 1) ? n / 2 + 1 : n;

    return f->sys.pread(&f->sys, fd, buf, n, offset);
}


static ssize_t
faulty_pwritev(kv_io_t *with, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    ssize_t        rc;
    faulty_t      *f = (faulty_t *) with;
    struct iovec   one;

    if (call(with, CALL_WRITE)) {
        return -1;
    }

    if (f->tear) {
        one = iov[0];
        one.iov_len = one.iov_len / 2 + 1;
        one.iov_len = kv_min(one.iov_len, iov[0].iov_len);
        iov = &one;
        n = 1;
    }

    rc = f->sys.pwritev(&f->sys, fd, iov, n, offset);

    f->dirty += rc;
    f->most_dirty = kv_max(f->most_dirty, f->dirty);

    return rc;
}


static int
faulty_fdatasync(kv_io_t *with, int fd)
{
    faulty_t  *f = (faulty_t *) with;

    f->dirty = 0;

    return call(with, CALL_SYNC) ? -1 : f->sys.fdatasync(&f->sys, fd);
}


static int
faulty_fsync(kv_io_t *with, int fd)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, fd == snap_dirfd ? CALL_SYNC_DIR : CALL_SYNC)
           ? -1 : f->sys.fsync(&f->sys, fd);
}


static int
faulty_rename(kv_io_t *with, int dirfd, const char *from, const char *to)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_RENAME) ? -1
           : f->sys.rename(&f->sys, dirfd, from, to);
}


static int
faulty_unlink(kv_io_t *with, int dirfd, const char *name)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_UNLINK) ? -1
           : f->sys.unlink(&f->sys, dirfd, name);
}


static off_t
faulty_size(kv_io_t *with, int fd)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_SIZE) ? -1 : f->sys.size(&f->sys, fd) + f->lie;
}


static int
faulty_list(kv_io_t *with, int dirfd, kv_io_list_pt cb, void *ctx)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_LIST) ? -1 : f->sys.list(&f->sys, dirfd, cb, ctx);
}


static void
faulty(faulty_t *f, unsigned fail_at, int error)
{
    memset(f, 0, sizeof(*f));

    kv_io_system(&f->sys);

    f->io = f->sys;
    f->io.open = faulty_open;
    f->io.close = faulty_close;
    f->io.pread = faulty_pread;
    f->io.pwritev = faulty_pwritev;
    f->io.fdatasync = faulty_fdatasync;
    f->io.fsync = faulty_fsync;
    f->io.rename = faulty_rename;
    f->io.unlink = faulty_unlink;
    f->io.size = faulty_size;
    f->io.list = faulty_list;
    f->fail_at = fail_at;
    f->error = error;
}


/* Each call of a writing fails once, with each error. */

static void
test_write_fails(void **state)
{
    kv_rc_t                rc, want;
    faulty_t               f;
    uint64_t               bytes;
    unsigned               e, at;
    kv_err_t               err;

    static const int       errors[] = { ENOSPC, EDQUOT, EFBIG, EIO, EACCES };
    static const uint32_t  sizes[] = { 10, 2 << 20, 9 << 20, 600 << 10,
                                       600 << 10, 20 };

    (void) state;

    for (e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {

        for (at = 1; ; at++) {
            faulty(&f, at, errors[e]);
            err.text[0] = '\0';

            rc = snap_write(&f.io, LSN, sizes, 6, &bytes, &err);

            assert_int_equal(f.open_files, 0);

            if (f.failed == 0) {
                assert_int_equal(rc, KV_OK);
                break;
            }

            if (f.failed == CALL_CLOSE || f.failed == CALL_UNLINK) {
                /* synced before: nothing is lost; nothing is in the way */
                assert_int_equal(rc, KV_OK);
                assert_int_equal(unlinkat(snap_dirfd, NAME, 0), 0);
                continue;
            }

            want = (errors[e] == ENOSPC || errors[e] == EDQUOT)
                   ? KV_NO_SPACE : KV_ERROR;

            if (f.failed == CALL_SYNC || f.failed == CALL_SYNC_DIR) {
                want = KV_ERROR;
            }

            if (rc != want) {
                fail_msg("%d instead of %d for a failed '%c'", rc, want,
                         f.failed);
            }

            if (strstr(err.text, strerror(errors[e])) == NULL
                || strstr(err.text, "snap-000000001234abcd.") == NULL
                || (f.failed == CALL_WRITE
                    && strstr(err.text, "at offset ") == NULL))
            {
                fail_msg("bad error: %s", err.text);
            }

            /* a limit is no matter of the disk, and the other way round */

            assert_int_equal(strstr(err.text, "ulimit -f") != NULL,
                             errors[e] == EFBIG && rc == KV_ERROR);
            assert_true(errors[e] != EFBIG
                        || strstr(err.text, "check the disk") == NULL);

            /* nor a name that may not be on the disk */

            assert_false(snap_exists(TMP));
            assert_false(snap_exists(NAME));
        }

        assert_true(at > 12);
        assert_int_equal(unlinkat(snap_dirfd, NAME, 0), 0);
    }
}


/* The order that makes a snapshot durable, and how much is ever dirty. */

static void
test_sync_order(void **state)
{
    char      *last;
    uint32_t   sizes[40];
    unsigned   i;
    faulty_t   f;
    uint64_t   bytes;
    kv_err_t   err;

    (void) state;

    for (i = 0; i < 40; i++) {
        sizes[i] = 500 << 10;
    }

    faulty(&f, 0, 0);

    assert_int_equal(snap_write(&f.io, LSN, sizes, 40, &bytes, &err),
                     KV_OK);

    assert_true(bytes > 2 * DIRTY_MAX);
    assert_true(f.most_dirty <= DIRTY_MAX + BLOCK_MAX);
    assert_int_equal(f.dirty, 0);

    last = strrchr(f.trace, 'w');
    assert_non_null(last);
    assert_string_equal(last, "wscnd");
    assert_true(strncmp(f.trace, "uuow", 4) == 0);

    /* a large value is no exception */

    faulty(&f, 0, 0);

    for (i = 0; i < 4; i++) {
        sizes[i] = (i < 2) ? 3 * MIB : 19 * MIB / 2;
    }

    assert_int_equal(snap_write(&f.io, LSN, sizes, 4, &bytes, &err),
                     KV_OK);
    assert_true(f.most_dirty <= DIRTY_MAX + 5 * MIB);
}


static void
test_torn_calls(void **state)
{
    faulty_t               f;
    uint64_t               bytes, end;
    kv_err_t               err;

    static const uint32_t  sizes[] = { 10, 2 << 20, 700 << 10, 700 << 10 };

    (void) state;

    faulty(&f, 0, 0);
    f.tear = true;

    assert_int_equal(snap_write(&f.io, LSN, sizes, 4, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_read(&f.io, LSN, sizes, 4, &end, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_read(&snap_io, LSN, sizes, 4, &end, &bytes, &err),
                     KV_OK);
}


static int
truncateat(const char *name, off_t n)
{
    int  fd, rc;

    fd = openat(snap_dirfd, name, O_WRONLY|O_CLOEXEC);
    rc = ftruncate(fd, n);
    (void) close(fd);

    return rc;
}


static void
test_read_fails(void **state)
{
    kv_rc_t    rc;
    faulty_t   f;
    uint64_t   bytes, end;
    unsigned   at;
    kv_err_t   err;

    (void) state;

    err.text[0] = '\0';
    rc = snap_read(&snap_io, LSN, snap_small, 8, &end, &bytes, &err);
    assert_int_equal(rc, KV_ERROR);
    assert_non_null(strstr(err.text, NAME));

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                     KV_OK);

    for (at = 1; ; at++) {
        faulty(&f, at, EIO);
        err.text[0] = '\0';

        rc = snap_read(&f.io, LSN, snap_small, 8, &end, &bytes, &err);

        assert_int_equal(f.open_files, 0);

        if (f.failed == 0) {
            assert_int_equal(rc, KV_OK);
            break;
        }

        if (f.failed == CALL_CLOSE) {
            assert_int_equal(rc, KV_OK);
            continue;
        }

        assert_int_equal(rc, KV_ERROR);
        assert_non_null(strstr(err.text, NAME));
        assert_non_null(strstr(err.text, strerror(EIO)));
    }

    assert_true(at > 6);

    /* a file that shrinks while it is read */

    for (at = 1; at < 120; at++) {
        assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                         KV_OK);
        assert_int_equal(truncateat(NAME, bytes - at), 0);

        faulty(&f, 0, 0);
        f.lie = at;

        rc = snap_read(&f.io, LSN, snap_small, 8, &end, &bytes, &err);
        assert_int_equal(rc, KV_DAMAGED);
        assert_non_null(strstr(err.text, "has become shorter"));
    }

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                     KV_OK);

    /* a signal is no failure */

    for (at = 1; at < 9; at++) {
        faulty(&f, at, EINTR);
        rc = snap_read(&f.io, LSN, snap_small, 8, &end, &bytes, &err);

        if (f.failed == CALL_READ) {
            assert_int_equal(rc, KV_OK);
        }
    }

    /* neither do listing and purging hide one */

    faulty(&f, 1, EIO);
    assert_int_equal(kv_snapshot_list(&f.io, snap_dirfd,
                                      &(kv_snapshot_list_t) { 0 }, &err),
                     KV_ERROR);

    for (at = 1; at <= 3; at++) {
        snap_make_file(TMP, "", 0);
        faulty(&f, at, EIO);
        err.text[0] = '\0';

        rc = kv_snapshot_purge(&f.io, snap_dirfd, at == 2 ? 0 : 1, false,
                               NULL, &err);
        assert_int_equal(rc, KV_ERROR);
        assert_non_null(strstr(err.text, strerror(EIO)));
    }
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, snap_setup, snap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_write_fails),
        TEST(test_sync_order),
        TEST(test_torn_calls),
        TEST(test_read_fails)
    };

    return cmocka_run_group_tests_name("snapshot disk", tests, NULL, NULL);
}
