
/*
 * File I/O: the system's calls through the table, and the helpers against a
 * table that transfers little, is interrupted, fails, and fills up.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                        /* statx() */
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_io.h"


typedef struct {
    kv_io_t                 io;
    kv_io_t                 system;
    int                     dirfd;
    char                    path[256];

    size_t                  most;          /* bytes of one transfer; 0: all */
    int                     interrupt;     /* one call of that many; 0: none */
    int                     calls;
    int                     fail_at;       /* this call from now on; 0: none */
    int                     error;
    int                     no_fallocate;
    int                     no_unlink;
    int                     largest_iov;
    volatile sig_atomic_t   cancel;
    int                     cancel_at;
} test_t;


static int test_setup(void **ctx);
static int test_teardown(void **ctx);
static void test_count(void *ctx, const char *name);
static bool test_fails(test_t *t);
static ssize_t test_pread(kv_io_t *io, int fd, void *buf, size_t n,
    off_t offset);
static ssize_t test_pwritev(kv_io_t *io, int fd, const struct iovec *iov,
    int n, off_t offset);
static int test_fdatasync(kv_io_t *io, int fd);
static int test_fsync(kv_io_t *io, int fd);
static int test_fallocate(kv_io_t *io, int fd, off_t offset, off_t len);
static int test_ftruncate(kv_io_t *io, int fd, off_t len);
static int test_unlink(kv_io_t *io, int dirfd, const char *name);


static void
test_system(void **ctx)
{
    int           fd, names;
    char          buf[8];
    test_t       *t = *ctx;
    kv_io_t      *io = &t->system;
    struct stat   st;

    fd = io->open(io, t->dirfd, "a", O_RDWR | O_CREAT | O_EXCL);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    assert_int_equal(kv_io_write(io, fd, "abcdefgh", 8, 4), KV_OK);
    assert_int_equal(io->size(io, fd), 12);
    assert_int_equal(kv_io_read(io, fd, buf, 8, 6), 6);
    assert_memory_equal(buf, "cdefgh", 6);
    assert_int_equal(kv_io_read(io, fd, buf, 8, 100), 0);
    assert_int_equal(kv_io_sync(io, fd), KV_OK);
    assert_int_equal(kv_io_sync_dir(io, t->dirfd), KV_OK);
    assert_int_equal(io->ftruncate(io, fd, 3), 0);
    assert_int_equal(io->size(io, fd), 3);

    assert_int_equal(io->open(io, t->dirfd, "a", O_RDWR | O_CREAT | O_EXCL),
                     -1);
    assert_int_equal(errno, EEXIST);

    assert_int_equal(io->rename(io, t->dirfd, "a", "b"), 0);

    /* listing starts anew each time */

    names = 0;
    assert_int_equal(io->list(io, t->dirfd, test_count, &names), 0);
    assert_int_equal(names, 1);
    assert_int_equal(io->list(io, t->dirfd, test_count, &names), 0);
    assert_int_equal(names, 2);

    assert_int_equal(io->unlink(io, t->dirfd, "b"), 0);
    assert_int_equal(io->unlink(io, t->dirfd, "b"), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(io->close(io, fd), 0);
    assert_int_equal(io->close(io, fd), -1);
    assert_int_equal(io->size(io, fd), -1);
    assert_int_equal(io->list(io, fd, test_count, &names), -1);
    assert_int_equal(kv_io_sync(io, fd), KV_ERROR);
    assert_int_equal(kv_io_read(io, fd, buf, 8, 0), -1);
    assert_int_equal(kv_io_write(io, fd, "x", 1, 0), KV_ERROR);
    assert_int_equal(errno, EBADF);
}


static void
test_owner(void **ctx)
{
    int           fd;
    test_t       *t = *ctx;
    kv_io_t      *io = &t->system;
    struct stat   st;

    if (geteuid() != 0) {
        io->uid = 0;
        assert_int_equal(io->open(io, t->dirfd, "a",
                                  O_RDWR | O_CREAT | O_EXCL), -1);
        assert_int_equal(faccessat(t->dirfd, "a", F_OK, 0), -1);
        return;
    }

    io->uid = 12345;
    io->gid = 54321;

    fd = io->open(io, t->dirfd, "a", O_RDWR | O_CREAT | O_EXCL);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_uid, 12345);
    assert_int_equal(st.st_gid, 54321);
    assert_int_equal(io->close(io, fd), 0);

    fd = io->open(io, t->dirfd, "a", O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(io->close(io, fd), 0);

    /* root writes no file that is not the user's whose directory it is */

    assert_int_equal(fchownat(t->dirfd, "a", 0, 0, 0), 0);
    assert_int_equal(io->open(io, t->dirfd, "a", O_RDWR), -1);
    assert_int_equal(errno, EPERM);
    fd = io->open(io, t->dirfd, "a", O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(io->close(io, fd), 0);
}


/* What is no regular file is not opened, and the caller does not block. */

static void
test_planted(void **ctx)
{
    size_t    i;
    test_t   *t = *ctx;
    kv_io_t  *io = &t->system;

    static const int  flags[] = {
        O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_CREAT
    };

    for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {

        assert_int_equal(symlinkat("/dev/null", t->dirfd, "a"), 0);
        assert_int_equal(io->open(io, t->dirfd, "a", flags[i]), -1);
        assert_int_equal(errno, ELOOP);
        assert_int_equal(unlinkat(t->dirfd, "a", 0), 0);

        assert_int_equal(symlinkat("nowhere", t->dirfd, "a"), 0);
        assert_int_equal(io->open(io, t->dirfd, "a", flags[i]), -1);
        assert_int_equal(faccessat(t->dirfd, "nowhere", F_OK, 0), -1);
        assert_int_equal(unlinkat(t->dirfd, "a", 0), 0);

        assert_int_equal(mkfifoat(t->dirfd, "a", 0600), 0);
        assert_int_equal(io->open(io, t->dirfd, "a", flags[i]), -1);
        assert_int_equal(unlinkat(t->dirfd, "a", 0), 0);

        assert_int_equal(mkdirat(t->dirfd, "a", 0700), 0);
        assert_int_equal(io->open(io, t->dirfd, "a", flags[i]), -1);
        assert_int_equal(unlinkat(t->dirfd, "a", AT_REMOVEDIR), 0);
    }
}


/*
 * A file is told from one that had its inode before, and a directory, too: ext4
 * gives an inode out again at once.
 */

static void
test_space(void **ctx)
{
    test_t    *t = *ctx;
    kv_io_t   *io = &t->system;
    uint64_t   size, available;

    assert_int_equal(io->space(io, t->dirfd, &size, &available), 0);
    assert_true(size > 0 && available <= size);
    assert_int_equal(io->space(io, -1, &size, &available), -1);
    assert_int_equal(errno, EBADF);
}


static void
test_file_id(void **ctx)
{
    int           fd;
    test_t       *t = *ctx;
    kv_io_t      *io = &t->system;
    unsigned      i;
    uint64_t      id, last;
    struct stat   st;
    struct statx  stx;

    assert_true(io->file_id(io, t->dirfd) != 0);
    assert_int_equal(io->file_id(io, -1), 0);
    last = io->file_id(io, t->dirfd);

    for (i = 0; i < 10; i++) {
        fd = io->open(io, t->dirfd, "a", O_RDWR | O_CREAT | O_EXCL);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &stx), 0);

        id = io->file_id(io, fd);
        assert_true(id != 0);

        if (stx.stx_mask & STATX_BTIME) {
            assert_true(id != last);
        }

        last = id;
        assert_int_equal(ftruncate(fd, 100), 0);
        assert_int_equal(renameat(t->dirfd, "a", t->dirfd, "b"), 0);
        assert_int_equal(io->file_id(io, fd), id);
        assert_int_equal(io->close(io, fd), 0);

        /* a coarse clock may not go on between two of them */

        assert_int_equal(unlinkat(t->dirfd, "b", 0), 0);
        (void) usleep(20000);
    }
}


/* Many pieces, short transfers, interruptions: the bytes arrive in order. */

static void
test_writev(void **ctx)
{
    int            fd;
    size_t         i, total;
    test_t        *t = *ctx;
    uint8_t       *data, *got;
    struct iovec  *iov;

    enum { PIECES = 2500 };

    data = malloc(PIECES * 20);
    got = malloc(PIECES * 20);
    iov = malloc(PIECES * sizeof(struct iovec));

    fd = t->io.open(&t->io, t->dirfd, "a", O_RDWR | O_CREAT);
    assert_true(fd >= 0);

    for (t->most = 0; t->most < 4000; t->most = 3 * t->most + 37) {
        t->interrupt = t->most ? 3 : 0;

        for (i = 0, total = 0; i < PIECES; i++) {
            iov[i].iov_base = data + total;
            iov[i].iov_len = i % 20;
            total += i % 20;
        }

        for (i = 0; i < total; i++) {
            data[i] = (uint8_t) (i * 31 + i / 251 + t->most);
        }

        assert_int_equal(kv_io_writev(&t->io, fd, iov, PIECES, 5), KV_OK);
        assert_true(t->largest_iov <= 1024);
        assert_int_equal(kv_io_read(&t->io, fd, got, total, 5), total);
        assert_memory_equal(got, data, total);
    }

    assert_int_equal(kv_io_writev(&t->io, fd, NULL, 0, 0), KV_OK);

    t->most = 10;
    t->interrupt = 0;
    t->calls = 0;
    t->fail_at = 3;
    t->error = ENOSPC;
    assert_int_equal(kv_io_write(&t->io, fd, data, 100, 0), KV_NO_SPACE);
    t->calls = 0;
    t->error = EDQUOT;
    assert_int_equal(kv_io_write(&t->io, fd, data, 100, 0), KV_NO_SPACE);
    t->calls = 0;
    t->error = EIO;
    assert_int_equal(kv_io_write(&t->io, fd, data, 100, 0), KV_ERROR);
    assert_int_equal(errno, EIO);
    t->calls = 0;
    assert_int_equal(kv_io_read(&t->io, fd, data, 100, 0), -1);
    assert_int_equal(errno, EIO);

    (void) close(fd);
    free(iov);
    free(got);
    free(data);
}


/* The system reports a failed sync once: no retry can be believed. */

static void
test_sync_fails(void **ctx)
{
    test_t  *t = *ctx;

    t->fail_at = 1;
    t->error = EINTR;
    assert_int_equal(kv_io_sync(&t->io, t->dirfd), KV_ERROR);
    assert_int_equal(t->calls, 1);
    t->error = ENOSPC;
    assert_int_equal(kv_io_sync_dir(&t->io, t->dirfd), KV_ERROR);
    assert_int_equal(t->calls, 2);
    assert_int_equal(errno, ENOSPC);
}


static void
test_preallocate(void **ctx)
{
    int          fd;
    char        *got;
    size_t       i, n;
    test_t      *t = *ctx;

    for (n = 4096; n < 3000000; n = n * 5 + 1) {
        t->no_fallocate = n % 2;
        assert_int_equal(kv_io_preallocate(&t->io, t->dirfd, "a", (off_t) n,
                                           NULL, &fd), KV_OK);
        assert_int_equal(t->io.size(&t->io, fd), n);

        got = malloc(n);
        assert_int_equal(kv_io_read(&t->io, fd, got, n, 0), n);

        for (i = 0; i < n; i++) {
            assert_int_equal(got[i], 0);
        }

        free(got);
        (void) close(fd);

        assert_int_equal(kv_io_preallocate(&t->io, t->dirfd, "a", (off_t) n,
                                           NULL, &fd), KV_ERROR);
        assert_int_equal(errno, EEXIST);
        assert_int_equal(t->io.unlink(&t->io, t->dirfd, "a"), 0);
    }
}


static void
test_preallocate_fails(void **ctx)
{
    int       fd, names, errors, i;
    test_t   *t = *ctx;
    kv_rc_t   rc, expected;

    static const int  list[] = { ENOSPC, EDQUOT, EIO };

    for (errors = 0; errors < 3; errors++) {
        t->error = list[errors];
        expected = t->error == EIO ? KV_ERROR : KV_NO_SPACE;

        for (i = 1; /* void */ ; i++) {
            t->calls = 0;
            t->fail_at = i;

            rc = kv_io_preallocate(&t->io, t->dirfd, "a", 20 << 20, NULL,
                                   &fd);
            if (rc == KV_OK) {
                break;
            }

            assert_int_equal(rc, expected);
            assert_int_equal(errno, t->error);
            assert_int_equal(fd, -1);

            names = 0;
            assert_int_equal(t->io.list(&t->io, t->dirfd, test_count,
                                        &names), 0);
            assert_int_equal(names, 0);

            /* one end of the file and the middle are enough */

            if (i == 4) {
                i = 18;
            }
        }

        assert_true(i > 20);
        (void) close(fd);
        assert_int_equal(t->io.unlink(&t->io, t->dirfd, "a"), 0);
    }

    t->fail_at = 0;
    t->calls = 0;
    t->cancel_at = 3;
    assert_int_equal(kv_io_preallocate(&t->io, t->dirfd, "a", 20 << 20,
                                       &t->cancel, &fd), KV_CANCELLED);
    assert_int_equal(t->calls, 3);
    assert_int_equal(faccessat(t->dirfd, "a", F_OK, 0), -1);
}


static bool
test_cancelled(void *ctx)
{
    return ((test_t *) ctx)->cancel;
}


/* Removes a new file; returns how many calls with test_fails() that took. */

static int
removed(test_t *t, off_t size, const kv_io_pace_t *pace)
{
    int  fd;

    fd = open("/proc/self/fd", O_RDONLY);   /* the least one that is free */
    assert_true(fd >= 0);
    (void) close(fd);

    assert_int_equal(t->system.open(&t->system, t->dirfd, "a",
                                    O_RDWR | O_CREAT | O_EXCL), fd);
    assert_int_equal(ftruncate(fd, size), 0);
    (void) close(fd);

    t->calls = 0;
    t->cancel = 0;
    assert_int_equal(kv_io_remove(&t->io, t->dirfd, "a", pace), 0);
    assert_int_equal(faccessat(t->dirfd, "a", F_OK, 0), -1);

    /* and nothing stays open */

    assert_int_equal(fcntl(fd, F_GETFD), -1);

    return t->calls;
}


/* Large ones in steps of 8 MiB at most, once the name is gone for good. */

static void
test_remove(void **ctx)
{
    int           fd;
    test_t       *t = *ctx;
    struct stat   st;

    const kv_io_pace_t  pace = { test_cancelled, t };

    assert_int_equal(removed(t, 40 << 20, NULL), 0);
    assert_int_equal(removed(t, 8 << 20, &pace), 0);
    assert_int_equal(removed(t, (8 << 20) + 1, &pace), 2);
    assert_int_equal(removed(t, 40 << 20, &pace), 5);

    t->cancel_at = 3;
    assert_int_equal(removed(t, 40 << 20, &pace), 3);
    t->cancel_at = 0;

    t->error = EIO;
    t->fail_at = 1;
    assert_int_equal(removed(t, 40 << 20, &pace), 1);
    t->fail_at = 3;
    assert_int_equal(removed(t, 40 << 20, &pace), 3);
    t->fail_at = 0;

    assert_int_equal(kv_io_remove(&t->io, t->dirfd, "a", &pace), -1);
    assert_int_equal(errno, ENOENT);

    /* what has another name, an operator's copy, stays whole there */

    fd = t->system.open(&t->system, t->dirfd, "a", O_RDWR | O_CREAT);
    assert_int_equal(ftruncate(fd, 40 << 20), 0);
    assert_int_equal(linkat(t->dirfd, "a", t->dirfd, "b", 0), 0);
    assert_int_equal(kv_io_remove(&t->io, t->dirfd, "a", &pace), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 40 << 20);
    assert_int_equal(st.st_nlink, 1);
    (void) close(fd);

    /* if the name stays, so does all that is in it */

    fd = t->system.open(&t->system, t->dirfd, "a", O_RDWR | O_CREAT);
    assert_int_equal(ftruncate(fd, 40 << 20), 0);
    t->no_unlink = 1;
    t->calls = 0;

    assert_int_equal(kv_io_remove(&t->io, t->dirfd, "a", &pace), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(t->calls, 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 40 << 20);
    (void) close(fd);
}


static int
test_setup(void **ctx)
{
    test_t      *t;
    const char  *tmp;

    t = calloc(1, sizeof(test_t));
    tmp = getenv("TMPDIR");

    (void) snprintf(t->path, sizeof(t->path), "%s/kv_test_io.XXXXXX",
                    tmp ? tmp : "/tmp");

    if (mkdtemp(t->path) == NULL) {
        free(t);
        return -1;
    }

    t->dirfd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    kv_io_system(&t->system);

    t->io = t->system;
    t->io.pread = test_pread;
    t->io.pwritev = test_pwritev;
    t->io.fdatasync = test_fdatasync;
    t->io.fsync = test_fsync;
    t->io.fallocate = test_fallocate;
    t->io.ftruncate = test_ftruncate;
    t->io.unlink = test_unlink;

    *ctx = t;

    return 0;
}


static int
test_teardown(void **ctx)
{
    test_t  *t = *ctx;

    (void) unlinkat(t->dirfd, "a", 0);
    (void) unlinkat(t->dirfd, "b", 0);
    (void) close(t->dirfd);
    (void) rmdir(t->path);
    free(t);

    return 0;
}


static void
test_count(void *ctx, const char *name)
{
    assert_true(name[0] != '.');
    (*(int *) ctx)++;
}


static bool
test_fails(test_t *t)
{
    t->calls++;

    if (t->cancel_at && t->calls >= t->cancel_at) {
        t->cancel = 1;
    }

    if (t->fail_at && t->calls >= t->fail_at) {
        errno = t->error;
        return true;
    }

    if (t->interrupt && t->calls % t->interrupt == 0) {
        errno = EINTR;
        return true;
    }

    return false;
}


static ssize_t
test_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    test_t  *t = (test_t *) io;

    if (test_fails(t)) {
        return -1;
    }

    n = t->most ? kv_min(n, t->most) : n;

    return t->system.pread(&t->system, fd, buf, n, offset);
}


static ssize_t
test_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    int            i;
    size_t         total;
    test_t        *t = (test_t *) io;
    ssize_t        rc;
    struct iovec  *some;

    t->largest_iov = kv_max(t->largest_iov, n);

    if (test_fails(t)) {
        return -1;
    }

    if (t->most == 0) {
        return t->system.pwritev(&t->system, fd, iov, n, offset);
    }

    some = malloc((size_t) n * sizeof(struct iovec));

    for (i = 0, total = 0; i < n && total < t->most; i++) {
        some[i] = iov[i];
        some[i].iov_len = kv_min(iov[i].iov_len, t->most - total);
        total += some[i].iov_len;
    }

    rc = t->system.pwritev(&t->system, fd, some, i, offset);
    free(some);

    return rc;
}


static int
test_fdatasync(kv_io_t *io, int fd)
{
    test_t  *t = (test_t *) io;

    return test_fails(t) ? -1 : t->system.fdatasync(&t->system, fd);
}


static int
test_fsync(kv_io_t *io, int fd)
{
    test_t  *t = (test_t *) io;

    return test_fails(t) ? -1 : t->system.fsync(&t->system, fd);
}


static int
test_ftruncate(kv_io_t *io, int fd, off_t len)
{
    test_t       *t = (test_t *) io;
    struct stat   st;

    if (test_fails(t)) {
        return -1;
    }

    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_true(st.st_size - len <= 8 << 20);

    return t->system.ftruncate(&t->system, fd, len);
}


static int
test_unlink(kv_io_t *io, int dirfd, const char *name)
{
    test_t  *t = (test_t *) io;

    if (t->no_unlink) {
        errno = EPERM;
        return -1;
    }

    return t->system.unlink(&t->system, dirfd, name);
}


static int
test_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    test_t  *t = (test_t *) io;

    if (t->no_fallocate) {
        errno = EOPNOTSUPP;
        return -1;
    }

    return test_fails(t) ? -1
                         : t->system.fallocate(&t->system, fd, offset, len);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_system, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_owner, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_planted, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_space, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_file_id, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_writev, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_sync_fails, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_preallocate, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_remove, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_preallocate_fails, test_setup,
                                        test_teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
