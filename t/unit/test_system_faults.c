
/*
 * System calls that fail, one after the other, where the core makes them
 * itself: on the way to the data directory, in it, and behind the I/O table.
 * In a life of the directory (looked at, made, locked, given away, found
 * busy) the Nth call fails, for every N and several errors.
 *
 * What fails says so, with the path and the error; what does not has done all
 * that it should.  No descriptor stays open, no file is lost, and the next
 * life goes well.
 *
 * The linker leads the core's calls here (scripts/unit.mk).
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "disk/kv_dir.h"
#include "disk/kv_format.h"


#define NOBODY  12345

#define SEGMENT   "log-0000000000000001.kvl"
#define SNAPSHOT  "snap-0000000000000001.kvs"
#define CLOSED    "log-0000000000000007.closed"
#define SPARE     "spare-3.kvl"


/* An int of its arguments, or -1: each call that may be made to fail. */

#define WRAPPED(type, name, parameters, arguments)                            \
    type __real_##name parameters;                                            \
    type __wrap_##name parameters;                                            \
                                                                              \
    type                                                                      \
    __wrap_##name parameters                                                  \
    {                                                                         \
        return fails(#name) ? (type) -1 : __real_##name arguments;            \
    }


static struct {
    bool         armed;
    int          error;
    unsigned     nth;
    unsigned     count;
    const char  *hit;                /* the call that failed, or NULL */
    bool         sync;               /* each fsync() fails */
} failing;

/* The directory that was synced last, since `synced` was set to 0. */
static ino_t  synced;

static char   top[200];              /* a directory to play in */
static char   path[256];             /* top/link/kv, that is top/kv */
static int    topfd;


static bool
fails(const char *name)
{
    if (!failing.armed || ++failing.count != failing.nth) {
        return false;
    }

    failing.hit = name;
    errno = failing.error;

    return true;
}


WRAPPED(int, fstat, (int fd, struct stat *st), (fd, st))
WRAPPED(int, fstatat, (int fd, const char *name, struct stat *st, int flags),
        (fd, name, st, flags))
WRAPPED(int, mkdirat, (int fd, const char *name, mode_t mode),
        (fd, name, mode))
WRAPPED(int, syncfs, (int fd), (fd))
WRAPPED(int, flock, (int fd, int how), (fd, how))
WRAPPED(int, ftruncate, (int fd, off_t len), (fd, len))
WRAPPED(int, unlinkat, (int fd, const char *name, int flags),
        (fd, name, flags))
WRAPPED(int, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAPPED(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAPPED(ssize_t, readlinkat, (int fd, const char *name, char *buf, size_t n),
        (fd, name, buf, n))
WRAPPED(ssize_t, readlink, (const char *name, char *buf, size_t n),
        (name, buf, n))
WRAPPED(ssize_t, pread, (int fd, void *buf, size_t n, off_t offset),
        (fd, buf, n, offset))
WRAPPED(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t offset),
        (fd, buf, n, offset))
WRAPPED(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n))


/* What statx() says of every file, if `fake` is set; or its error. */

static bool          fake;
static struct statx  faked;
static int           fake_error;

int __real_statx(int fd, const char *name, int flags, unsigned mask,
    struct statx *st);
int __wrap_statx(int fd, const char *name, int flags, unsigned mask,
    struct statx *st);


int
__wrap_statx(int fd, const char *name, int flags, unsigned mask,
    struct statx *st)
{
    if (!fake) {
        return __real_statx(fd, name, flags, mask, st);
    }

    *st = faked;
    errno = fake_error;

    return fake_error ? -1 : 0;
}


int __real_fsync(int fd);
int __wrap_fsync(int fd);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir);
int __real_open(const char *name, int flags, ...);
int __wrap_open(const char *name, int flags, ...);
int __real_openat(int fd, const char *name, int flags, ...);
int __wrap_openat(int fd, const char *name, int flags, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);


int
__wrap_fsync(int fd)
{
    struct stat  st;

    if (fails("fsync")) {
        return -1;
    }

    if (failing.sync) {
        errno = failing.error;
        return -1;
    }

    if (__real_fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        synced = st.st_ino;
    }

    return __real_fsync(fd);
}


DIR *
__wrap_fdopendir(int fd)
{
    return fails("fdopendir") ? NULL : __real_fdopendir(fd);
}


struct dirent *
__wrap_readdir(DIR *dir)
{
    return fails("readdir") ? NULL : __real_readdir(dir);
}


int
__wrap_open(const char *name, int flags, ...)
{
    return fails("open") ? -1 : __real_open(name, flags, 0600);
}


int
__wrap_openat(int fd, const char *name, int flags, ...)
{
    return fails("openat") ? -1 : __real_openat(fd, name, flags, 0600);
}


int
__wrap_fcntl(int fd, int command, ...)
{
    int      flags;
    va_list  args;

    va_start(args, command);
    flags = va_arg(args, int);
    va_end(args);

    return fails("fcntl") ? -1 : __real_fcntl(fd, command, flags);
}


static unsigned
descriptors(void)
{
    DIR       *dir;
    unsigned   n;

    dir = opendir("/proc/self/fd");
    assert_non_null(dir);

    for (n = 0; readdir(dir) != NULL; n++) {
        /* void */
    }

    (void) closedir(dir);

    return n;
}


static void
make(const char *name, const char *text)
{
    int  fd;

    fd = openat(topfd, name, O_WRONLY | O_CREAT | O_TRUNC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void) close(fd);
}


static bool
is_there(const char *name)
{
    return faccessat(topfd, name, F_OK, 0) == 0;
}


/* What is said of a failure: which directory, and which error. */

static bool
failed(const char *step, kv_rc_t rc, const kv_err_t *err)
{
    bool  failed, named;

    failing.armed = false;
    failed = rc != KV_OK;

    /* what is not known is not trusted */

    named = failed
            && (strstr(err->text, strerror(failing.error))
                || strstr(err->text, "is a symlink that others than root")
                || strstr(err->text, "does not begin as such a file"));

    if (failed
        && (failing.hit == NULL
            || (rc != KV_ERROR
                && !(rc == KV_DECLINED && failing.error == EACCES))
            || strstr(err->text, top) == NULL || !named))
    {
        fail_msg("call %u, %s, error %d: %s: rc %d: \"%s\"", failing.nth,
                 failing.hit, failing.error, step, rc, err->text);
    }

    failing.armed = !failed;

    return failed;
}


/* The calls without which nothing can have been done. */

static bool
needed(void)
{
    size_t  i;

    static const char  *calls[] = {
        "mkdirat", "flock", "fchown", "fchmod", "fdopendir", "readdir",
        "readlinkat", "open"
    };

    for (i = 0; failing.hit && i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (strcmp(failing.hit, calls[i]) == 0) {
            return true;
        }
    }

    return false;
}


static void
finished(const char *step, bool must)
{
    if (must && needed()) {
        fail_msg("call %u, %s, error %d: %s went well", failing.nth,
                 failing.hit, failing.error, step);
    }
}


/* Who finds it locked, and by whom it is told. */

static void
found_busy(void)
{
    int           dirfd, lockfd;
    kv_rc_t       rc;
    kv_err_t      err;
    kv_holder_t   holder;

    memset(&holder, 0, sizeof(kv_holder_t));
    rc = kv_dir_open(path, &dirfd, &err);

    if (failed("open the busy one", rc, &err)) {
        return;
    }

    rc = kv_dir_lock(dirfd, path, (uid_t) -1, (gid_t) -1, &lockfd, NULL,
                     &holder, &err);
    failing.armed = false;

    if (rc == KV_BUSY) {
        if (holder.pid != 0 && holder.pid != getpid()) {
            fail_msg("call %u, %s: holder %d", failing.nth, failing.hit,
                     holder.pid);
        }

        if (failing.hit == NULL) {
            assert_int_equal(holder.pid, getpid());
            assert_int_equal(holder.state, KV_HOLDER_SELF);
        }

    } else {
        assert_true(failed("lock the busy one", rc, &err));
    }

    (void) close(dirfd);
}


/* True if it came to its end. */

static bool
live(uid_t uid)
{
    int           dirfd, lockfd;
    bool          ended;
    kv_rc_t       rc;
    kv_err_t      err;
    kv_dir_id_t   id;
    kv_holder_t   holder;

    err.text[0] = '\0';

    if (failed("check", kv_dir_check(path, &id, &err), &err)) {
        return false;
    }

    if (failed("open", kv_dir_open(path, &dirfd, &err), &err)) {
        return false;
    }

    finished("open", true);
    rc = kv_dir_lock(dirfd, path, uid, uid, &lockfd, NULL, &holder, &err);

    if (failed("lock", rc, &err)) {
        (void) close(dirfd);
        return false;
    }

    finished("lock", failing.hit && strcmp(failing.hit, "open") != 0);
    rc = kv_dir_set_owner(dirfd, path, uid, uid, &err);
    ended = !failed("set the owner", rc, &err);

    if (ended) {
        finished("set the owner", true);
        kv_dir_set_holder(lockfd, (int) getpid());
        found_busy();
    }

    failing.armed = false;
    (void) close(lockfd);
    (void) close(dirfd);

    return ended;
}


/* The directory as it is before a life, with all that may be in it. */

static void
furnish(bool there)
{
    (void) unlinkat(topfd, "kv/" SEGMENT, 0);
    (void) unlinkat(topfd, "kv/" SNAPSHOT, 0);
    (void) unlinkat(topfd, "kv/" CLOSED, 0);
    (void) unlinkat(topfd, "kv/" SPARE, 0);
    (void) unlinkat(topfd, "kv/kv.lock", 0);
    (void) unlinkat(topfd, "kv", AT_REMOVEDIR);
    assert_false(is_there("kv"));

    if (there) {
        assert_int_equal(mkdirat(topfd, "kv", 0755), 0);
        make("kv/" SEGMENT, KV_SEGMENT_MAGIC);
        make("kv/" SNAPSHOT, KV_SNAPSHOT_MAGIC);
        make("kv/" CLOSED, KV_CLOSED_MAGIC);
        make("kv/" SPARE, "");
        make("kv/kv.lock", "1\n");
    }
}


/* What an owner needs; and nothing that was there may be gone. */

static void
owned(bool there, uid_t uid)
{
    size_t       i, n;
    struct stat  st;

    static const char  *names[] = {
        "kv", "kv/kv.lock", "kv/" SEGMENT, "kv/" SNAPSHOT, "kv/" CLOSED
    };

    /* a start can do without the note of a clean end, if it is not read */

    n = !there ? 2 : failing.hit && strcmp(failing.hit, "pread") == 0 ? 4 : 5;

    for (i = 0; i < n; i++) {
        assert_int_equal(fstatat(topfd, names[i], &st, AT_SYMLINK_NOFOLLOW),
                         0);

        if ((st.st_mode & 07777) != (i ? 0600 : 0700)
            || (uid != (uid_t) -1 && st.st_uid != uid))
        {
            fail_msg("call %u, %s: %s has mode %o and owner %u", failing.nth,
                     failing.hit, names[i], st.st_mode & 07777, st.st_uid);
        }
    }
}


static void
sweep(bool there, int error, uid_t uid)
{
    unsigned  fds, n;

    fds = descriptors();

    for (n = 1; /* void */ ; n++) {
        furnish(there);

        failing.nth = n;
        failing.count = 0;
        failing.error = error;
        failing.hit = NULL;
        failing.armed = true;

        if (live(uid)) {
            owned(there, uid);
        }

        failing.armed = false;

        if (descriptors() != fds) {
            fail_msg("call %u, %s: a descriptor is open", n, failing.hit);
        }

        if (there && (!is_there("kv/" SEGMENT) || !is_there("kv/" SNAPSHOT))) {
            fail_msg("call %u, %s: a file is gone", n, failing.hit);
        }

        if (failing.hit == NULL) {
            break;
        }

        /* and with good calls all is well */

        failing.hit = NULL;
        assert_true(live(uid));
        owned(there, uid);
    }

    /* a test that has not been everywhere says nothing */

    assert_true(n > (there ? 60 : 40));
}


static void
test_directory(void **state)
{
    size_t  i;

    static const int  errors[] = { EIO, EACCES };

    (void) state;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        sweep(false, errors[i], (uid_t) -1);
        sweep(true, errors[i], (uid_t) -1);

        if (geteuid() == 0) {
            sweep(false, errors[i], NOBODY);
            sweep(true, errors[i], NOBODY);
        }
    }
}


/*
 * Whether kv_dir_open() syncs the directory that `top/kv` is in, without which
 * a power cut takes away the one that it made.
 */

static bool
syncs_parent(kv_rc_t expected, kv_err_t *err)
{
    int          dirfd;
    kv_rc_t      rc;
    struct stat  st;

    assert_int_equal(fstat(topfd, &st), 0);

    synced = 0;
    rc = kv_dir_open(path, &dirfd, err);

    assert_int_equal(rc, expected);

    if (rc == KV_OK) {
        (void) close(dirfd);
    }

    return synced == st.st_ino;
}


static void
test_parent_synced(void **state)
{
    kv_err_t  err;

    (void) state;

    assert_true(syncs_parent(KV_OK, &err));
    assert_true(is_there("kv"));

    /* the process that made it may have died before its sync */

    assert_true(syncs_parent(KV_OK, &err));

    /* a sync that fails is no sync: the next start tries it again */

    failing.error = EIO;
    failing.sync = true;

    assert_false(syncs_parent(KV_ERROR, &err));
    assert_non_null(strstr(err.text, "sync the parent of"));
    assert_non_null(strstr(err.text, strerror(EIO)));

    failing.sync = false;

    assert_true(syncs_parent(KV_OK, &err));
}


static void
count(void *ctx, const char *name)
{
    assert_true(name[0] != '.');
    (*(unsigned *) ctx)++;
}


/* One call of the I/O table: it fails, and says why, or has done its work. */

static int
table_call(kv_io_t *io, unsigned call, int fd)
{
    int       rc, made, error;
    unsigned  names;

    switch (call) {

    case 0:
        names = 0;
        rc = io->list(io, topfd, count, &names);

        if (rc == 0) {
            assert_int_equal(names, 2);
        }

        break;

    case 1:
        made = io->open(io, topfd, "new", O_RDWR|O_CREAT|O_EXCL);
        rc = made == -1 ? -1 : 0;
        error = errno;
        failing.armed = false;
        assert_int_equal(is_there("new"), rc == 0);
        errno = error;

        if (rc == 0) {
            (void) close(made);
            assert_int_equal(unlinkat(topfd, "new", 0), 0);
        }

        break;

    case 2:
        rc = io->direct(io, fd, false);
        failing.armed = false;
        break;

    default:
        rc = io->direct(io, fd, true);

        if (rc == -1 && failing.hit == NULL) {
            failing.armed = false;
            assert_int_equal(errno, EINVAL);
            return 0;
        }
    }

    return rc;
}


static void
test_table(void **state)
{
    int       fd, rc;
    kv_io_t   io;
    unsigned  fds, call;

    (void) state;

    kv_io_system(&io);

    if (geteuid() == 0) {
        io.uid = NOBODY;
        io.gid = NOBODY;
    }

    make("file", "");
    fd = openat(topfd, "file", O_RDWR);
    assert_true(fd >= 0);
    fds = descriptors();
    failing.error = EMFILE;

    for (call = 0; call < 4; call++) {

        for (failing.nth = 1; /* void */ ; failing.nth++) {
            failing.count = 0;
            failing.hit = NULL;
            failing.armed = true;
            errno = 0;

            rc = table_call(&io, call, fd);
            failing.armed = false;

            if (failing.hit == NULL) {
                assert_int_equal(rc, 0);
                break;
            }

            assert_int_equal(rc, -1);
            assert_int_equal(errno, EMFILE);
            assert_int_equal(descriptors(), fds);
        }

        assert_true(failing.nth > 1);
    }

    (void) close(fd);
}


/* A file that gets the inode of one that is gone was born later. */

static void
test_births(void **state)
{
    kv_io_t   io;
    uint64_t  id;

    (void) state;

    kv_io_system(&io);

    fake = true;
    memset(&faked, 0, sizeof(faked));
    faked.stx_mask = STATX_INO|STATX_BTIME;
    faked.stx_ino = 7;
    faked.stx_btime.tv_sec = 1000;
    faked.stx_btime.tv_nsec = 1;

    id = io.file_id(&io, topfd);
    assert_true(id != 0);
    assert_int_equal(io.file_id(&io, topfd), id);

    faked.stx_btime.tv_nsec = 2;
    assert_true(io.file_id(&io, topfd) != id);
    faked.stx_btime.tv_nsec = 1;
    faked.stx_btime.tv_sec = 1001;
    assert_true(io.file_id(&io, topfd) != id);
    faked.stx_btime.tv_sec = 1000;
    faked.stx_ino = 8;
    assert_true(io.file_id(&io, topfd) != id);

    /* a file system that knows no births */

    faked.stx_mask = STATX_INO;
    assert_int_equal(io.file_id(&io, topfd), 0);
    faked.stx_mask = STATX_INO|STATX_BTIME;

    fake_error = ENOMEM;
    assert_int_equal(io.file_id(&io, topfd), 0);
    fake_error = 0;
    fake = false;
}


static int
setup(void **state)
{
    const char  *tmp;

    (void) state;

    tmp = getenv("TMPDIR");
    (void) snprintf(top, sizeof(top), "%.170s/kv_faults.XXXXXX",
                    tmp ? tmp : "/tmp");

    if (mkdtemp(top) == NULL) {
        return -1;
    }

    (void) snprintf(path, sizeof(path), "%s/link/kv", top);
    topfd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return topfd == -1 ? -1 : symlinkat(top, topfd, "link");
}


static int
teardown(void **state)
{
    char  command[256];

    (void) state;

    failing.armed = false;
    (void) snprintf(command, sizeof(command), "rm -rf '%s'", top);
    (void) !system(command);
    (void) close(topfd);

    return 0;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parent_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_births, setup, teardown)
    };

    return cmocka_run_group_tests_name("system faults", tests, NULL, NULL);
}
