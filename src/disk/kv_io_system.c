
/*
 * The system's own calls behind the table of kv_io.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                        /* fallocate(), O_DIRECT, statx() */
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/kv_hash.h"
#include "disk/kv_io.h"


static int kv_io_sys_open(kv_io_t *io, int dirfd, const char *name, int flags);
static int kv_io_check(kv_io_t *io, int fd, int flags);
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
static int kv_io_sys_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx);
static int kv_io_sys_direct(kv_io_t *io, int fd, bool on);
static int kv_io_sys_link(kv_io_t *io, int dirfd, const char *name, int todir,
    const char *to);
static int kv_io_sys_links(kv_io_t *io, int fd);
static int kv_io_sys_named(kv_io_t *io, int dirfd, const char *name, int fd);
static uint64_t kv_io_sys_file_id(kv_io_t *io, int fd);
static int kv_io_sys_space(kv_io_t *io, int fd, uint64_t *size,
    uint64_t *available);
static bool kv_io_can_direct(int fd);


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
    io->link = kv_io_sys_link;
    io->links = kv_io_sys_links;
    io->named = kv_io_sys_named;
    io->file_id = kv_io_sys_file_id;
    io->space = kv_io_sys_space;
    io->uid = (uid_t) -1;
    io->gid = (gid_t) -1;
}


static int
kv_io_sys_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    int  fd, saved;

    /* no file that could block or harm the process that opens it */

    flags |= O_NOFOLLOW|O_NONBLOCK|O_NOCTTY|O_CLOEXEC;

    fd = openat(dirfd, name, flags, 0600);

    if (fd == -1 && errno == EWOULDBLOCK) {

        /* a file server has lent it to a client, and asks for it back now */

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
 * Gives a new file its owner.  An old one that is to be written must have it:
 * in the directory of another user, root could write to a file of a third.
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

    /* a descriptor of its own: others may share the position of `dirfd` */

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


static int
kv_io_sys_link(kv_io_t *io, int dirfd, const char *name, int todir,
    const char *to)
{
    (void) io;

    return linkat(dirfd, name, todir, to, 0);
}


static int
kv_io_sys_links(kv_io_t *io, int fd)
{
    struct statx  st;

    (void) io;

    return statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) == 0
           ? (int) st.stx_nlink : -1;
}


/*
 * Called before each batch, so not by fstat(), which also reads the times:
 * since Linux 6.13 a write that follows must then give the file new ones, and a
 * lone write took 200 us instead of 140.
 */

static int
kv_io_sys_named(kv_io_t *io, int dirfd, const char *name, int fd)
{
    struct statx  open, there;

    (void) io;

    if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW, STATX_INO, &there) == -1) {
        return errno == ENOENT ? 0 : -1;
    }

    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO, &open) == -1) {
        return -1;
    }

    return there.stx_ino == open.stx_ino
           && there.stx_dev_major == open.stx_dev_major
           && there.stx_dev_minor == open.stx_dev_minor;
}


static uint64_t
kv_io_sys_file_id(kv_io_t *io, int fd)
{
    uint64_t       id[4];
    struct statx   st;
    struct statfs  fs;

    static const uint64_t  seed[2];

    (void) io;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO|STATX_BTIME, &st) == -1
        || !(st.stx_mask & STATX_BTIME) || fstatfs(fd, &fs) == -1)
    {
        return 0;
    }

    id[0] = st.stx_ino;
    id[1] = (uint64_t) st.stx_btime.tv_sec;
    id[2] = st.stx_btime.tv_nsec;

    /* of a subvolume, where its snapshot has the rest in common with it */

    memcpy(&id[3], &fs.f_fsid, sizeof(id[3]));

    return kv_hash(seed, id, sizeof(id));
}


static int
kv_io_sys_space(kv_io_t *io, int fd, uint64_t *size, uint64_t *available)
{
    struct statvfs  fs;

    (void) io;

    if (fstatvfs(fd, &fs) == -1) {
        return -1;
    }

    *size = (uint64_t) fs.f_blocks * fs.f_frsize;
    *available = (uint64_t) fs.f_bavail * fs.f_frsize;

    return 0;
}


/* Kernels before 6.1 do not tell; nearly all need just a block. */

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
