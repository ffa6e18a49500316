
/*
 * A directory in memory; see ram.h.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "ram.h"


#define RAM_PAGE    4096u
#define RAM_SECTOR  512u
#define RAM_FD      1000             /* the first one */
#define RAM_SPARES  32


static struct {
    uint8_t  *data;
    size_t    max;
} spare[RAM_SPARES];


/* Counts the call; what is wrong with it, or 0. */

static int
ram_count(ram_t *ram, ram_call_t call)
{
    unsigned      i, n;
    ram_fault_t  *f;

    n = ++ram->calls[call];

    for (i = 0; i < RAM_FAULTS; i++) {
        f = &ram->fault[i];

        if (f->nth && f->call == call && n >= f->nth
            && n - f->nth < f->times)
        {
            f->hits++;
            return f->error;
        }
    }

    return 0;
}


/* The same for calls that fail or do not. */

static bool
ram_fails(ram_t *ram, ram_call_t call)
{
    int  error;

    error = ram_count(ram, call);

    if (error == 0) {
        return false;
    }

    errno = error > 0 ? error : EIO;

    return true;
}


static ram_fd_t *
ram_fd(ram_t *ram, int fd)
{
    assert_in_range(fd, RAM_FD, RAM_FD + RAM_FDS - 1);
    assert_non_null(ram->fd[fd - RAM_FD].file);

    return &ram->fd[fd - RAM_FD];
}


/*
 * Buffers of `max` bytes, three in one, zeroed.  Those of files that are gone
 * are used again: AddressSanitizer gets each as large from the kernel anew.
 */

static uint8_t *
ram_alloc(size_t max)
{
    unsigned   i;
    uint8_t   *data;

    for (i = 0; i < RAM_SPARES; i++) {
        if (spare[i].data && spare[i].max == max) {
            data = spare[i].data;
            spare[i].data = NULL;
            memset(data, 0, 2 * max + max / RAM_PAGE);
            return data;
        }
    }

    data = calloc(3, max);
    assert_non_null(data);

    return data;
}


static void
ram_free(ram_file_t *f)
{
    unsigned  i;

    if (f->max == 0) {
        return;
    }

    for (i = 0; i < RAM_SPARES; i++) {
        if (spare[i].data == NULL) {
            spare[i].data = f->data;
            spare[i].max = f->max;
            return;
        }
    }

    free(f->data);
}


/* Gives the file a buffer of its own, of `size` bytes. */

static void
ram_own(ram_file_t *f, size_t size)
{
    size_t    max;
    uint8_t  *data, *disk, *dirty;

    if (f->max && size <= f->max) {
        return;
    }

    max = kv_align(kv_max(size, f->size), RAM_PAGE);
    max = kv_max(max, RAM_PAGE);

    data = ram_alloc(max);
    disk = data + max;
    dirty = disk + max;

    if (f->size) {
        memcpy(data, f->data, f->size);
        memcpy(disk, f->max ? f->disk : f->data, f->size);
    }

    if (f->max) {
        memcpy(dirty, f->dirty, f->max / RAM_PAGE);
        ram_free(f);
    }

    f->data = data;
    f->disk = disk;
    f->dirty = dirty;
    f->max = max;
}


static int
ram_io_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    ram_t       *ram = (ram_t *) io;
    unsigned     i, k;
    ram_file_t  *f;

    (void) dirfd;

    if (ram_fails(ram, RAM_OPEN)) {
        return -1;
    }

    f = ram_find(ram, name);

    if (f && (flags & (O_CREAT|O_EXCL)) == (O_CREAT|O_EXCL)) {
        errno = EEXIST;
        return -1;
    }

    if (f == NULL) {

        if (!(flags & O_CREAT)) {
            errno = ENOENT;
            return -1;
        }

        for (i = 0; i < RAM_FILES && ram->file[i].data; i++) {
            /* void */
        }

        assert_true(i < RAM_FILES && strlen(name) < KV_NAME_MAX);

        f = &ram->file[i];
        (void) strcpy(f->name, name);
        f->id = ++ram->ids;
        ram_own(f, 0);
        ram->changes++;
    }

    for (k = 0; k < RAM_FDS && ram->fd[k].file; k++) {
        /* void */
    }

    assert_true(k < RAM_FDS);

    ram->fd[k].file = f;
    ram->fd[k].direct = false;

    return RAM_FD + (int) k;
}


/* Closed it is whatever the result, and a nameless file goes. */

static int
ram_io_close(kv_io_t *io, int fd)
{
    ram_t       *ram = (ram_t *) io;
    unsigned     i;
    ram_file_t  *f;

    f = ram_fd(ram, fd)->file;
    ram->fd[fd - RAM_FD].file = NULL;

    for (i = 0; i < RAM_FDS && ram->fd[i].file != f; i++) {
        /* void */
    }

    if (f->name[0] == '\0' && i == RAM_FDS) {
        ram_free(f);
        memset(f, 0, sizeof(ram_file_t));
    }

    return ram_fails(ram, RAM_CLOSE) ? -1 : 0;
}


static bool
ram_misaligned(ram_fd_t *fd, const void *buf, size_t n, off_t offset)
{
    if (fd->direct
        && ((uintptr_t) buf | n | (size_t) offset) % RAM_SECTOR)
    {
        errno = EINVAL;
        return true;
    }

    return false;
}


/* Half of a transfer in such units, but not nothing. */

static size_t
ram_half(size_t n, size_t unit)
{
    return kv_max(n / 2 / unit * unit, kv_min(n, unit));
}


static ssize_t
ram_io_pread(kv_io_t *io, int n, void *buf, size_t len, off_t offset)
{
    int          error;
    ram_t       *ram = (ram_t *) io;
    ram_fd_t    *fd;
    ram_file_t  *f;

    fd = ram_fd(ram, n);
    f = fd->file;
    error = ram_count(ram, RAM_READ);

    if (error > 0 || error == RAM_HALF) {
        errno = error > 0 ? error : EIO;
        return -1;
    }

    if (ram_misaligned(fd, buf, len, offset)) {
        return -1;
    }

    if ((size_t) offset >= f->size || len == 0) {
        return 0;
    }

    if (error == RAM_SHORT) {
        len = ram_half(len, fd->direct ? RAM_PAGE : 1);
    }

    len = kv_min(len, f->size - (size_t) offset);
    memcpy(buf, f->data + offset, len);
    ram->read += len;

    return (ssize_t) len;
}


static void
ram_write(ram_file_t *f, const void *buf, size_t len, size_t offset)
{
    size_t  page;

    ram_own(f, offset + len);

    memcpy(f->data + offset, buf, len);
    f->size = kv_max(f->size, offset + len);

    for (page = offset / RAM_PAGE; page * RAM_PAGE < offset + len; page++) {
        f->dirty[page] = 1;
    }
}


static ssize_t
ram_io_pwritev(kv_io_t *io, int n, const struct iovec *iov, int count,
    off_t offset)
{
    int        i, error;
    ram_t     *ram = (ram_t *) io;
    size_t     len, all, left;
    ram_fd_t  *fd;

    fd = ram_fd(ram, n);
    error = ram_count(ram, RAM_WRITE);

    if (error > 0) {
        errno = error;
        return -1;
    }

    for (i = 0, all = 0; i < count; i++) {

        if (ram_misaligned(fd, iov[i].iov_base, iov[i].iov_len, offset)) {
            return -1;
        }

        all += iov[i].iov_len;
    }

    ram->changes++;

    if (error && all) {
        all = ram_half(all, fd->direct ? RAM_SECTOR : 1);
    }

    for (i = 0, left = all; i < count && left; i++) {
        len = kv_min(iov[i].iov_len, left);
        ram_write(fd->file, iov[i].iov_base, len, (size_t) offset);
        offset += (off_t) len;
        left -= len;
    }

    if (error == RAM_HALF) {
        errno = EIO;
        return -1;
    }

    return (ssize_t) all;
}


static int
ram_sync(ram_t *ram, int n, ram_call_t call)
{
    bool         failed;
    size_t       page;
    ram_file_t  *f;

    failed = ram_fails(ram, call);

    if (n < RAM_FD) {
        return failed ? -1 : 0;      /* the directory */
    }

    f = ram_fd(ram, n)->file;

    for (page = 0; page < f->max / RAM_PAGE; page++) {

        if (f->dirty[page] && !failed) {
            memcpy(f->disk + page * RAM_PAGE, f->data + page * RAM_PAGE,
                   RAM_PAGE);
        }

        f->dirty[page] = 0;
    }

    return failed ? -1 : 0;
}


static int
ram_io_fdatasync(kv_io_t *io, int fd)
{
    return ram_sync((ram_t *) io, fd, RAM_FDATASYNC);
}


static int
ram_io_fsync(kv_io_t *io, int fd)
{
    return ram_sync((ram_t *) io, fd, RAM_FSYNC);
}


static int
ram_io_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    ram_t       *ram = (ram_t *) io;
    ram_file_t  *f;

    if (ram_fails(ram, RAM_FALLOCATE)) {
        return -1;
    }

    f = ram_fd(ram, fd)->file;
    ram_resize(f, kv_max(f->size, (size_t) (offset + len)));
    ram->changes++;

    return 0;
}


static int
ram_io_ftruncate(kv_io_t *io, int fd, off_t len)
{
    ram_t  *ram = (ram_t *) io;

    if (ram_fails(ram, RAM_TRUNCATE)) {
        return -1;
    }

    ram_resize(ram_fd(ram, fd)->file, (size_t) len);
    ram->changes++;

    return 0;
}


/* Forgets its name; open descriptors keep the file. */

static void
ram_forget(ram_t *ram, ram_file_t *f)
{
    unsigned  i;

    f->name[0] = '\0';

    for (i = 0; i < RAM_FDS; i++) {
        if (ram->fd[i].file == f) {
            return;
        }
    }

    ram_free(f);
    memset(f, 0, sizeof(ram_file_t));
}


static int
ram_io_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    ram_t       *ram = (ram_t *) io;
    ram_file_t  *f, *old;

    (void) dirfd;

    if (ram_fails(ram, RAM_RENAME)) {
        return -1;
    }

    f = ram_find(ram, from);
    old = ram_find(ram, to);

    if (f == NULL) {
        errno = ENOENT;
        return -1;
    }

    if (old) {
        ram_forget(ram, old);
    }

    assert_true(strlen(to) < KV_NAME_MAX);
    (void) strcpy(f->name, to);
    ram->changes++;

    return 0;
}


static int
ram_io_unlink(kv_io_t *io, int dirfd, const char *name)
{
    ram_t       *ram = (ram_t *) io;
    ram_file_t  *f;

    (void) dirfd;

    if (ram_fails(ram, RAM_UNLINK)) {
        return -1;
    }

    f = ram_find(ram, name);

    if (f == NULL) {
        errno = ENOENT;
        return -1;
    }

    ram_forget(ram, f);
    ram->changes++;

    return 0;
}


static off_t
ram_io_size(kv_io_t *io, int fd)
{
    ram_t  *ram = (ram_t *) io;

    return ram_fails(ram, RAM_SIZE) ? -1
                                    : (off_t) ram_fd(ram, fd)->file->size;
}


static int
ram_io_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    ram_t     *ram = (ram_t *) io;
    unsigned   i;

    (void) dirfd;

    if (ram_fails(ram, RAM_LIST)) {
        return -1;
    }

    for (i = 0; i < RAM_FILES; i++) {
        if (ram->file[i].name[0]) {
            cb(ctx, ram->file[i].name);
        }
    }

    return 0;
}


static uint64_t
ram_io_file_id(kv_io_t *io, int fd)
{
    ram_t  *ram = (ram_t *) io;

    return fd < RAM_FD ? ram->directory : ram_fd(ram, fd)->file->id;
}


static int
ram_io_direct(kv_io_t *io, int fd, bool on)
{
    ram_t  *ram = (ram_t *) io;

    if (ram_fails(ram, RAM_DIRECT)) {
        return -1;
    }

    if (on && !ram->can_direct) {
        errno = EINVAL;
        return -1;
    }

    ram_fd(ram, fd)->direct = on;

    return 0;
}


void
ram_init(ram_t *ram)
{
    memset(ram, 0, sizeof(ram_t));

    ram->directory = 1;

    ram->io.open = ram_io_open;
    ram->io.close = ram_io_close;
    ram->io.pread = ram_io_pread;
    ram->io.pwritev = ram_io_pwritev;
    ram->io.fdatasync = ram_io_fdatasync;
    ram->io.fsync = ram_io_fsync;
    ram->io.fallocate = ram_io_fallocate;
    ram->io.ftruncate = ram_io_ftruncate;
    ram->io.rename = ram_io_rename;
    ram->io.unlink = ram_io_unlink;
    ram->io.size = ram_io_size;
    ram->io.list = ram_io_list;
    ram->io.direct = ram_io_direct;
    ram->io.file_id = ram_io_file_id;
    ram->io.uid = (uid_t) -1;
    ram->io.gid = (gid_t) -1;
}


void
ram_clear(ram_t *ram)
{
    unsigned  i;

    for (i = 0; i < RAM_FILES; i++) {
        ram_free(&ram->file[i]);
    }

    memset(ram->file, 0, sizeof(ram->file));
    memset(ram->fd, 0, sizeof(ram->fd));
}


ram_file_t *
ram_find(ram_t *ram, const char *name)
{
    unsigned  i;

    for (i = 0; i < RAM_FILES; i++) {
        if (strcmp(ram->file[i].name, name) == 0) {
            return &ram->file[i];
        }
    }

    return NULL;
}


void
ram_borrow(ram_t *ram, const char *name, const uint8_t *data, size_t size)
{
    unsigned             i;
    ram_file_t          *f;
    static const uint8_t nothing;

    for (i = 0; i < RAM_FILES && ram->file[i].data; i++) {
        /* void */
    }

    assert_true(i < RAM_FILES && strlen(name) < KV_NAME_MAX);

    f = &ram->file[i];
    (void) strcpy(f->name, name);
    f->data = (uint8_t *) (size ? data : &nothing);
    f->size = size;
}


void
ram_resize(ram_file_t *f, size_t size)
{
    ram_own(f, size);

    if (size < f->size) {
        memset(f->data + size, 0, f->size - size);
        memset(f->disk + size, 0, f->size - size);
    }

    f->size = size;
}


void
ram_copied(ram_t *ram)
{
    unsigned  i;

    for (i = 0; i < RAM_FILES; i++) {
        if (ram->file[i].data) {
            ram->file[i].id = ++ram->ids;
        }
    }
}


void
ram_reboot(ram_t *ram)
{
    unsigned     i;
    ram_file_t  *f;

    for (i = 0; i < RAM_FILES; i++) {
        f = &ram->file[i];

        if (f->max) {
            memcpy(f->data, f->disk, f->max);
            memset(f->dirty, 0, f->max / RAM_PAGE);
        }
    }
}


unsigned
ram_open_fds(ram_t *ram)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < RAM_FDS; i++) {
        n += ram->fd[i].file != NULL;
    }

    return n;
}
