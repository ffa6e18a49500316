
/*
 * The system's calls behind the file I/O table, and what everybody needs on
 * top of it: whole transfers, results, preallocation.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                        /* fallocate(), O_DIRECT, statx() */
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "disk/kv_io.h"


#ifndef IOV_MAX
#define IOV_MAX  1024
#endif

#define KV_IO_ZEROES  65536
#define KV_IO_STEP    16                   /* zeroes in one write: 1 MiB */

/*
 * A sync of many MiB at once holds up the commits of others on the same disk,
 * so preallocation syncs whenever this much is dirty.
 */
#define KV_IO_DIRTY   (1u << 20)

/*
 * Bytes of a file that are freed at once, and how many times as long as that
 * took comes a rest; ns at most.
 */
#define KV_IO_FREE      (8u << 20)
#define KV_IO_REST      2
#define KV_IO_REST_MAX  50000000u


static int kv_io_sys_open(kv_io_t *io, int dirfd, const char *name, int flags);
static int kv_io_sys_close(kv_io_t *io, int fd);
static ssize_t kv_io_sys_pread(kv_io_t *io, int fd, void *buf, size_t n,
    off_t offset);
static ssize_t kv_io_sys_pwritev(kv_io_t *io, int fd, const struct iovec *iov,
    int n, off_t offset);
static int kv_io_sys_fdatasync(kv_io_t *io, int fd);
static int kv_io_sys_fsync(kv_io_t *io, int fd);
static int kv_io_sys_fallocate(kv_io_t *io, int fd, off_t offset, off_t len);
static int kv_io_sys_ftruncate(kv_io_t *io, int fd, off_t len);
static int kv_io_sys_rename(kv_io_t *io, int dirfd, const char *from,
    const char *to);
static int kv_io_sys_unlink(kv_io_t *io, int dirfd, const char *name);
static off_t kv_io_sys_size(kv_io_t *io, int fd);
static int kv_io_sys_list(kv_io_t *io, int dirfd, kv_io_list_pt cb,
    void *ctx);
static int kv_io_sys_direct(kv_io_t *io, int fd, bool on);
static int kv_io_sys_links(kv_io_t *io, int fd);
static int kv_io_check(kv_io_t *io, int fd, int flags);
static bool kv_io_can_direct(int fd);

static kv_rc_t kv_io_zero(kv_io_t *io, int fd, off_t size,
    volatile sig_atomic_t *cancel);
static void kv_io_shrink(kv_io_t *io, int fd, const kv_io_hurry_t *hurry);


static const uint8_t  kv_io_zeroes[KV_IO_ZEROES];


void
kv_io_system(kv_io_t *io)
{
    io->open = kv_io_sys_open;
    io->close = kv_io_sys_close;
    io->pread = kv_io_sys_pread;
    io->pwritev = kv_io_sys_pwritev;
    io->fdatasync = kv_io_sys_fdatasync;
    io->fsync = kv_io_sys_fsync;
    io->fallocate = kv_io_sys_fallocate;
    io->ftruncate = kv_io_sys_ftruncate;
    io->rename = kv_io_sys_rename;
    io->unlink = kv_io_sys_unlink;
    io->size = kv_io_sys_size;
    io->list = kv_io_sys_list;
    io->direct = kv_io_sys_direct;
    io->links = kv_io_sys_links;
    io->uid = (uid_t) -1;
    io->gid = (gid_t) -1;
}


kv_rc_t
kv_io_rc(int error)
{
    switch (error) {

    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return KV_NO_SPACE;

    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
    case EINTR:
    case EACCES:
    case EPERM:
    case EROFS:
        return KV_AGAIN;

    default:
        return KV_ERROR;
    }
}


void
kv_io_block_signal(sigset_t *saved)
{
    sigset_t  set;

    (void) sigemptyset(&set);
    (void) sigaddset(&set, SIGXFSZ);
    (void) pthread_sigmask(SIG_BLOCK, &set, saved);
}


void
kv_io_unblock_signal(const sigset_t *saved)
{
    sigset_t         set;
    struct timespec  now;

    if (sigismember(saved, SIGXFSZ) == 1) {
        return;
    }

    /* what was sent meanwhile would kill now */

    (void) sigemptyset(&set);
    (void) sigaddset(&set, SIGXFSZ);

    memset(&now, 0, sizeof(now));

    while (sigtimedwait(&set, NULL, &now) == -1 && errno == EINTR) {
        /* void */
    }

    (void) pthread_sigmask(SIG_SETMASK, saved, NULL);
}


ssize_t
kv_io_read(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    size_t   done;
    ssize_t  rc;

    for (done = 0; done < n; done += (size_t) rc) {

        rc = io->pread(io, fd, (uint8_t *) buf + done, n - done,
                       offset + (off_t) done);

        if (rc == -1) {
            if (errno != EINTR) {
                return -1;
            }

            rc = 0;
            continue;
        }

        if (rc == 0) {
            break;
        }
    }

    return (ssize_t) done;
}


kv_rc_t
kv_io_writev(kv_io_t *io, int fd, struct iovec *iov, size_t n, off_t offset)
{
    size_t   done;
    ssize_t  rc;

    for ( ;; ) {

        while (n > 0 && iov->iov_len == 0) {
            iov++;
            n--;
        }

        if (n == 0) {
            return KV_OK;
        }

        rc = io->pwritev(io, fd, iov, (int) kv_min(n, (size_t) IOV_MAX),
                         offset);

        if (rc == -1) {
            if (errno == EINTR) {
                continue;
            }

            return kv_io_rc(errno);
        }

        if (rc == 0) {
            errno = EIO;
            return KV_ERROR;
        }

        offset += rc;
        done = (size_t) rc;

        while (done >= iov->iov_len) {
            done -= iov->iov_len;
            iov->iov_len = 0;

            if (done == 0) {
                break;
            }

            iov++;
            n--;
        }

        if (done) {
            iov->iov_base = (uint8_t *) iov->iov_base + done;
            iov->iov_len -= done;
        }
    }
}


kv_rc_t
kv_io_write(kv_io_t *io, int fd, const void *buf, size_t n, off_t offset)
{
    struct iovec  iov;

    iov.iov_base = (void *) buf;
    iov.iov_len = n;

    return kv_io_writev(io, fd, &iov, 1, offset);
}


kv_rc_t
kv_io_sync(kv_io_t *io, int fd)
{
    return io->fdatasync(io, fd) == 0 ? KV_OK : KV_ERROR;
}


kv_rc_t
kv_io_sync_dir(kv_io_t *io, int dirfd)
{
    return io->fsync(io, dirfd) == 0 ? KV_OK : KV_ERROR;
}


kv_rc_t
kv_io_preallocate(kv_io_t *io, int dirfd, const char *name, off_t size,
    volatile sig_atomic_t *cancel, int *fd)
{
    int      saved;
    kv_rc_t  rc;

    *fd = io->open(io, dirfd, name, O_RDWR | O_CREAT | O_EXCL);

    if (*fd == -1) {
        return kv_io_rc(errno);
    }

    rc = kv_io_zero(io, *fd, size, cancel);

    if (rc == KV_OK) {
        return KV_OK;
    }

    saved = errno;

    (void) io->close(io, *fd);
    (void) io->unlink(io, dirfd, name);

    *fd = -1;
    errno = saved;

    return rc;
}


/*
 * Allocates, so that a full disk is noticed before anything is written, then
 * writes, because a sync into allocated but unwritten space still has
 * metadata to write.
 */

static kv_rc_t
kv_io_zero(kv_io_t *io, int fd, off_t size, volatile sig_atomic_t *cancel)
{
    int           i, n;
    off_t         offset, left;
    size_t        dirty, len;
    kv_rc_t       rc;
    struct iovec  iov[KV_IO_STEP];

    while (io->fallocate(io, fd, 0, size) == -1) {

        if (errno == EINTR) {
            if (cancel != NULL && *cancel) {
                return KV_CANCELLED;
            }

            continue;
        }

        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            break;
        }

        return kv_io_rc(errno);
    }

    dirty = 0;

    for (offset = 0; offset < size; offset += (off_t) len) {

        if (cancel != NULL && *cancel) {
            return KV_CANCELLED;
        }

        len = 0;

        for (n = 0, i = 0; i < KV_IO_STEP; i++) {
            left = size - offset - (off_t) len;

            if (left == 0) {
                break;
            }

            iov[i].iov_base = (void *) kv_io_zeroes;
            iov[i].iov_len = (size_t) kv_min(left, (off_t) KV_IO_ZEROES);
            len += iov[i].iov_len;
            n++;
        }

        rc = kv_io_writev(io, fd, iov, (size_t) n, offset);

        if (rc != KV_OK) {
            return rc;
        }

        dirty += len;

        if (dirty >= KV_IO_DIRTY) {
            if (io->fdatasync(io, fd) == -1) {
                return kv_io_rc(errno);
            }

            dirty = 0;
        }
    }

    /* nothing is in the file yet, so even a failed sync has lost nothing */

    return io->fsync(io, fd) == 0 ? KV_OK : kv_io_rc(errno);
}


int
kv_io_remove(kv_io_t *io, int dirfd, const char *name,
    const kv_io_hurry_t *hurry)
{
    int  rc, fd, saved;

    fd = hurry ? io->open(io, dirfd, name, O_RDWR) : -1;

    rc = io->unlink(io, dirfd, name);

    if (fd == -1) {
        return rc;
    }

    saved = errno;

    /* or the name could be back after a power cut, and half of the file */

    if (rc == 0
        && (io->links == NULL || io->links(io, fd) == 0)
        && io->size(io, fd) > (off_t) KV_IO_FREE
        && kv_io_sync_dir(io, dirfd) == KV_OK)
    {
        kv_io_shrink(io, fd, hurry);
    }

    (void) io->close(io, fd);

    errno = saved;

    return rc;
}


static void
kv_io_shrink(kv_io_t *io, int fd, const kv_io_hurry_t *hurry)
{
    off_t             size;
    uint64_t          started;
    struct timespec   rest;

    size = io->size(io, fd);

    while (size > (off_t) KV_IO_FREE && !hurry->check(hurry->ctx)) {

        started = kv_now_ns();
        size -= (off_t) KV_IO_FREE;

        if (io->ftruncate(io, fd, size) == -1) {
            return;
        }

        rest.tv_sec = 0;
        rest.tv_nsec = (long) kv_min((kv_now_ns() - started) * KV_IO_REST,
                                     KV_IO_REST_MAX);

        (void) nanosleep(&rest, NULL);
    }
}


static int
kv_io_sys_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    int  fd, saved;

    /* nothing that could hold up or harm who opens it */

    flags |= O_NOFOLLOW|O_NONBLOCK|O_NOCTTY|O_CLOEXEC;

    fd = openat(dirfd, name, flags, 0600);

    if (fd == -1 && errno == EWOULDBLOCK) {

        /* a file server has lent it to somebody, and asks for it back now */

        fd = openat(dirfd, name, flags & ~O_NONBLOCK, 0600);
    }

    if (fd == -1 || kv_io_check(io, fd, flags) == 0) {
        return fd;
    }

    saved = errno;

    (void) close(fd);

    if (flags & O_EXCL) {
        (void) unlinkat(dirfd, name, 0);
    }

    errno = saved;

    return -1;
}


/*
 * A new file gets its owner.  An old one that is to be written must have it:
 * who is in the directory of another user could write to what is none of his.
 */

static int
kv_io_check(kv_io_t *io, int fd, int flags)
{
    struct stat  st;

    if (fstat(fd, &st) == -1) {
        return -1;
    }

    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }

    if (io->uid == (uid_t) -1) {
        return 0;
    }

    if (flags & O_EXCL) {
        return fchown(fd, io->uid, io->gid);
    }

    if ((flags & O_ACCMODE) != O_RDONLY && st.st_uid != io->uid
        && io->uid != geteuid())
    {
        errno = EPERM;
        return -1;
    }

    return 0;
}


static int
kv_io_sys_close(kv_io_t *io, int fd)
{
    (void) io;

    return close(fd);
}


static ssize_t
kv_io_sys_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    (void) io;

    return pread(fd, buf, n, offset);
}


static ssize_t
kv_io_sys_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    (void) io;

    return pwritev(fd, iov, n, offset);
}


static int
kv_io_sys_fdatasync(kv_io_t *io, int fd)
{
    (void) io;

    return fdatasync(fd);
}


static int
kv_io_sys_fsync(kv_io_t *io, int fd)
{
    (void) io;

    return fsync(fd);
}


static int
kv_io_sys_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    (void) io;

    return fallocate(fd, 0, offset, len);
}


static int
kv_io_sys_ftruncate(kv_io_t *io, int fd, off_t len)
{
    (void) io;

    return ftruncate(fd, len);
}


static int
kv_io_sys_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    (void) io;

    return renameat(dirfd, from, dirfd, to);
}


static int
kv_io_sys_unlink(kv_io_t *io, int dirfd, const char *name)
{
    (void) io;

    return unlinkat(dirfd, name, 0);
}


static off_t
kv_io_sys_size(kv_io_t *io, int fd)
{
    struct stat  st;

    (void) io;

    return fstat(fd, &st) == 0 ? st.st_size : -1;
}


static int
kv_io_sys_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    int             fd, saved;
    DIR            *dir;
    struct dirent  *entry;

    (void) io;

    /* a descriptor of its own: the position is not shared with anybody */

    fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd == -1) {
        return -1;
    }

    dir = fdopendir(fd);

    if (dir == NULL) {
        saved = errno;
        (void) close(fd);
        errno = saved;
        return -1;
    }

    for ( ;; ) {
        errno = 0;
        entry = readdir(dir);

        if (entry == NULL) {
            break;
        }

        if (strcmp(entry->d_name, ".") != 0
            && strcmp(entry->d_name, "..") != 0)
        {
            cb(ctx, entry->d_name);
        }
    }

    saved = errno;
    (void) closedir(dir);
    errno = saved;

    return saved == 0 ? 0 : -1;
}


static int
kv_io_sys_direct(kv_io_t *io, int fd, bool on)
{
    int  flags;

    (void) io;

    flags = fcntl(fd, F_GETFL);

    if (flags == -1) {
        return -1;
    }

    if (!on) {
        return fcntl(fd, F_SETFL, flags & ~O_DIRECT);
    }

    if (!kv_io_can_direct(fd)) {
        errno = EINVAL;
        return -1;
    }

    return fcntl(fd, F_SETFL, flags | O_DIRECT);
}


/*
 * Asked before each batch, so not by fstat(), which also asks for the times:
 * since Linux 6.13 a write that follows must then give the file new ones, and a
 * lone write took 200 us instead of 140.
 */

static int
kv_io_sys_links(kv_io_t *io, int fd)
{
    struct statx  st;

    (void) io;

    return statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) == 0
           ? (int) st.stx_nlink : -1;
}


/* Kernels before 6.1 do not tell; what nearly all of them want is a block. */

static bool
kv_io_can_direct(int fd)
{
#ifdef STATX_DIOALIGN

    struct statx  st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0
        && st.stx_mask & STATX_DIOALIGN)
    {
        return st.stx_dio_mem_align && st.stx_dio_offset_align
               && KV_IO_BLOCK % st.stx_dio_mem_align == 0
               && KV_IO_BLOCK % st.stx_dio_offset_align == 0;
    }

#else

    (void) fd;

#endif

    return true;
}
