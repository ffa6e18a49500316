
/*
 * What is built on the table of calls: whole transfers, results, preallocation,
 * files deleted in steps.
 */


#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <time.h>

#include "disk/kv_io.h"


#ifndef IOV_MAX
#define IOV_MAX  1024
#endif

#define KV_IO_ZEROES  65536
#define KV_IO_STEP    16                   /* zeroes in one write: 1 MiB */

/*
 * A sync of many MiB at once delays other commits on the same disk, so
 * preallocation syncs whenever this much is dirty.
 */
#define KV_IO_DIRTY   (1u << 20)

/*
 * Bytes of a file that are freed at once, and the pause after it, as a multiple
 * of the time that took; ns at most.
 */
#define KV_IO_FREE      (8u << 20)
#define KV_IO_PAUSE      2
#define KV_IO_PAUSE_MAX  50000000u


static kv_rc_t kv_io_zero(kv_io_t *io, int fd, off_t size,
    volatile sig_atomic_t *cancel);
static void kv_io_shrink(kv_io_t *io, int fd, const kv_io_pace_t *pace);


static const uint8_t  kv_io_zeroes[KV_IO_ZEROES];


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

    /* a SIGXFSZ sent meanwhile would kill now */

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
    const kv_io_pace_t *pace)
{
    int  rc, fd, saved;

    fd = pace ? io->open(io, dirfd, name, O_RDWR) : -1;

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
        kv_io_shrink(io, fd, pace);
    }

    (void) io->close(io, fd);

    errno = saved;

    return rc;
}


static void
kv_io_shrink(kv_io_t *io, int fd, const kv_io_pace_t *pace)
{
    off_t             size;
    uint64_t          started;
    struct timespec   pause;

    size = io->size(io, fd);

    while (size > (off_t) KV_IO_FREE && !pace->check(pace->ctx)) {

        started = kv_now_ns();
        size -= (off_t) KV_IO_FREE;

        if (io->ftruncate(io, fd, size) == -1) {
            return;
        }

        pause.tv_sec = 0;
        pause.tv_nsec = (long) kv_min((kv_now_ns() - started) * KV_IO_PAUSE,
                                      KV_IO_PAUSE_MAX);

        (void) nanosleep(&pause, NULL);
    }
}
