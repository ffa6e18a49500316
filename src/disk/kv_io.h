
/*
 * All file I/O of the core goes through this table, so that tests can record,
 * fail, tear and count every call.  Files are named relative to the data
 * directory's descriptor, which the master opens: workers need no right to walk
 * the path.
 *
 * Calls have POSIX's meaning and errors: -1 with errno set.  The implementation
 * restarts nothing: the helpers below handle EINTR and short transfers once for
 * all callers. open() follows no symlink and opens only regular files (else
 * EINVAL), without waiting.
 */


#ifndef KV_IO_H
#define KV_IO_H


#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/kv_base.h"


#define KV_NAME_MAX  64           /* bytes of a file name with its 0 */
#define KV_IO_BLOCK  4096u        /* direct I/O: the largest alignment */


typedef struct kv_io_s  kv_io_t;

typedef void (*kv_io_list_pt)(void *ctx, const char *name);

struct kv_io_s {
    int     (*open)(kv_io_t *io, int dirfd, const char *name, int flags);
    int     (*close)(kv_io_t *io, int fd);
    ssize_t (*pread)(kv_io_t *io, int fd, void *buf, size_t n, off_t offset);
    ssize_t (*pwritev)(kv_io_t *io, int fd, const struct iovec *iov, int n,
                       off_t offset);
    int     (*fdatasync)(kv_io_t *io, int fd);
    int     (*fsync)(kv_io_t *io, int fd);          /* files and directories */
    int     (*fallocate)(kv_io_t *io, int fd, off_t offset, off_t len);
    int     (*ftruncate)(kv_io_t *io, int fd, off_t len);
    int     (*rename)(kv_io_t *io, int dirfd, const char *from,
                      const char *to);
    int     (*unlink)(kv_io_t *io, int dirfd, const char *name);
    off_t   (*size)(kv_io_t *io, int fd);
    int     (*list)(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx);

    /*
     * Turns O_DIRECT on or off; -1 also where reads and writes would then need
     * more than multiples of KV_IO_BLOCK.  May be NULL.
     */
    int     (*direct)(kv_io_t *io, int fd, bool on);

    /*
     * Gives a file a second name, in another directory of its file system.  May
     * be NULL.
     */
    int     (*link)(kv_io_t *io, int dirfd, const char *name, int todir,
                    const char *to);

    /* How many names an open file has, -1 on errors.  May be NULL. */
    int     (*links)(kv_io_t *io, int fd);

    /*
     * Whether `name` is this open file: 1; or 0, it is another one, or there is
     * none; -1 on errors.  May be NULL.
     */
    int     (*named)(kv_io_t *io, int dirfd, const char *name, int fd);

    /*
     * Tells an open file, or a directory, from all that there ever were in its
     * file system: made of its inode and the time of its birth, as inodes are
     * given out again, and of the file system's identity.  0: it cannot be
     * told, as of a file system that does not keep that time.  May be NULL.
     */
    uint64_t  (*file_id)(kv_io_t *io, int fd);

    /*
     * How large the file system of an open file, or a directory, is, and how
     * much of it is left for users other than root; bytes.  May be NULL.
     */
    int     (*space)(kv_io_t *io, int fd, uint64_t *size,
                     uint64_t *available);

    /*
     * The owner of the files that open() makes with O_CREAT|O_EXCL (mode 0600),
     * and that those it opens to be written must have (else EPERM: in a
     * directory of another user, root could be led to another user's file); -1
     * leaves both to the system.  The master, as root, sets the workers' user.
     */
    uid_t     uid;
    gid_t     gid;
};


/* Fills the table with the system's own calls; uid and gid are -1. */
void kv_io_system(kv_io_t *io);

/*
 * The result that a call's errno stands for.
 *
 * KV_NO_SPACE: ENOSPC and EDQUOT, and EFBIG, which a limit (ulimit -f) causes.
 * KV_AGAIN: an error that may pass.  The call lacked descriptors, memory,
 * rights or a writable file system, or was interrupted; the disk need not be
 * bad, and the same call may succeed later.  KV_ERROR: all others.
 *
 * Not for the sync of a file whose content matters: whatever the error, the
 * system may have forgotten what it was to write.
 */
kv_rc_t kv_io_rc(int error);

/*
 * A write beyond the limit of a file's size (ulimit -f) sends SIGXFSZ to its
 * thread, which kills the process.  Between these two calls of one thread the
 * write only fails with EFBIG.  Threads of nginx's pools have all signals
 * blocked anyway; this is for its main thread.  It leaves the disposition as it
 * is, which belongs to the whole process and to what that executes.
 */
void kv_io_block_signal(sigset_t *saved);
void kv_io_unblock_signal(const sigset_t *saved);

/*
 * Reads until `n` bytes or the end of the file.  Returns the bytes read (0
 * to n) or -1 with errno set.
 */
ssize_t kv_io_read(kv_io_t *io, int fd, void *buf, size_t n, off_t offset);

/*
 * Writes all of `iov` (its elements are used up), in as many calls as
 * necessary, never more than IOV_MAX elements in one.  KV_OK, or the result of
 * kv_io_rc(), with errno set; then some of it may have been written.
 */
kv_rc_t kv_io_writev(kv_io_t *io, int fd, struct iovec *iov, size_t n,
    off_t offset);

/* The same of one buffer. */
kv_rc_t kv_io_write(kv_io_t *io, int fd, const void *buf, size_t n,
    off_t offset);

/*
 * KV_OK or KV_ERROR (for any error, ENOSPC, ENOMEM and EINTR included: after a
 * failed sync nothing is certain, see kv_state.h), with errno set.
 */
kv_rc_t kv_io_sync(kv_io_t *io, int fd);
kv_rc_t kv_io_sync_dir(kv_io_t *io, int dirfd);

/*
 * Makes a file of `size` bytes under `name`, which must not exist: space
 * allocated, zeroes written, file synced (the directory is not).  On failure
 * the file is gone again.  KV_OK with the descriptor in *fd, KV_CANCELLED once
 * *cancel is set (`cancel` may be NULL), or what kv_io_rc() says, with errno
 * set.
 */
kv_rc_t kv_io_preallocate(kv_io_t *io, int dirfd, const char *name,
    off_t size, volatile sig_atomic_t *cancel, int *fd);

/*
 * How a file is deleted in steps: check(ctx), called between two steps, returns
 * true once what waits for the deletion must not wait longer.
 */

typedef struct {
    bool  (*check)(void *ctx);
    void   *ctx;
} kv_io_pace_t;

/*
 * Deletes a file.  A file system that frees very much at once delays the syncs
 * of all other files, so with `pace` a large file is freed in steps, with
 * pauses in between, once its name is gone for good; when the check returns
 * true, the rest at once.  NULL frees all at once.  A file that has another
 * name elsewhere, as a copy may, stays whole there.  Not for an event loop. 0,
 * or -1 with errno set, and then the file is still there.
 */
int kv_io_remove(kv_io_t *io, int dirfd, const char *name,
    const kv_io_pace_t *pace);


#endif /* KV_IO_H */
