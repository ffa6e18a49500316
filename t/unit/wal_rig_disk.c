
/*
 * The log's disk: the system's table of calls, which fails to order, does not
 * really sync, and remembers what was not synced, for a power cut to take back.
 */


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

#include "wal_rig.h"


static void wal_rewritten(unsynced_t *lost, const unsynced_t *by);


void
wal_cut(wal_t *t)
{
    size_t       i, n;
    unsynced_t  *u;

    while (t->unsynced_n) {
        u = &t->unsynced[t->unsynced_n - 1];

        for (i = 0; i < u->len; i += n) {
            n = 512 - ((size_t) u->offset + i) % 512;
            n = kv_min(n, u->len - i);

            if (wal_random(t, 2)) {
                assert_int_equal(pwrite(u->fd, u->old + i, n,
                                        u->offset + (off_t) i), n);
            }
        }

        wal_forget(t, t->unsynced_n - 1);
    }

    wal_undo(t, wal_random(t, t->renames_n + 1));
}


void
wal_undo(wal_t *t, size_t keep)
{
    while (t->renames_n > keep) {
        t->renames_n--;
        (void) renameat(t->dirfd, t->renames[t->renames_n][1], t->dirfd,
                        t->renames[t->renames_n][0]);
    }

    t->renames_n = 0;
}


void
wal_forget(wal_t *t, size_t i)
{
    (void) close(t->unsynced[i].fd);
    free(t->unsynced[i].old);

    t->unsynced_n--;
    memmove(&t->unsynced[i], &t->unsynced[i + 1],
            (t->unsynced_n - i) * sizeof(unsynced_t));
}


/* The table: the system's, with failures, and without real syncs. */

static bool
wal_fails(kv_io_t *io)
{
    wal_t  *t = (wal_t *) io;

    t->calls++;

    if (t->fail_at && t->calls >= t->fail_at
        && t->calls - t->fail_at < t->fail_count)
    {
        errno = t->error;
        return true;
    }

    return false;
}


static int
wal_io_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    wal_t  *t = (wal_t *) io;

    return wal_fails(io) ? -1
                         : t->system.open(&t->system, dirfd, name, flags);
}


static ssize_t
wal_io_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    wal_t  *t = (wal_t *) io;

    if (t->fail_from && (uint64_t) offset + n > t->fail_from) {
        errno = EIO;
        return -1;
    }

    return wal_fails(io) ? -1
                         : t->system.pread(&t->system, fd, buf, n, offset);
}


static ssize_t
wal_io_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    int           i;
    bool          fails;
    wal_t        *t = (wal_t *) io;
    size_t        len;
    unsynced_t   *u;
    struct iovec  half;
    struct stat   st;

    fails = wal_fails(io);

    for (i = 0, len = 0; i < n; i++) {
        len += iov[i].iov_len;
    }

    if (t->fail_write && len >= t->fail_write) {
        fails = true;
    }

    if (t->keep) {
        assert_true(t->unsynced_n < 4096);
        assert_int_equal(fstat(fd, &st), 0);

        u = &t->unsynced[t->unsynced_n++];
        u->fd = dup(fd);
        u->inode = st.st_ino;
        u->lost = false;
        u->offset = offset;
        u->len = len;
        u->old = calloc(1, len);
        assert_true(pread(fd, u->old, len, offset) >= 0);
    }

    if (!fails) {
        return t->system.pwritev(&t->system, fd, iov, n, offset);
    }

    /* the worst of failures: a part is written, and the next call fails */

    t->halved = !t->halved;

    if (t->halved && iov[0].iov_len > 1) {
        half = iov[0];
        half.iov_len = iov[0].iov_len / 2;
        t->fail_at++;
        return t->system.pwritev(&t->system, fd, &half, 1, offset);
    }

    t->halved = false;
    errno = t->error;

    return -1;
}


/*
 * A sync that fails loses for good what was to be written, and no later call
 * tells of it; only writing it anew gets it to the disk.
 */

static int
wal_io_fdatasync(kv_io_t *io, int fd)
{
    bool          fails;
    size_t        i, j;
    wal_t        *t = (wal_t *) io;
    unsynced_t    u;
    struct stat   st;

    fails = wal_fails(io);

    if (fails && t->fail_count > 1) {
        return -1;
    }

    t->syncs++;
    assert_int_equal(fstat(fd, &st), 0);

    if (t->fail_dir && S_ISDIR(st.st_mode)) {
        fails = true;
    }

    for (i = 0; i < t->unsynced_n; /* void */ ) {
        u = t->unsynced[i];

        if (u.inode != st.st_ino || u.lost) {
            i++;

        } else if (fails) {
            t->unsynced[i++].lost = true;

        } else {
            for (j = 0; j < i; j++) {
                wal_rewritten(&t->unsynced[j], &u);
            }

            wal_forget(t, i);
        }
    }

    if (fails) {
        errno = t->error;
        return -1;
    }

    if (S_ISDIR(st.st_mode)) {
        t->renames_n = 0;
    }

    return 0;
}


/* Of a lost write, what a later one covers is not lost any more. */

static void
wal_rewritten(unsynced_t *lost, const unsynced_t *by)
{
    off_t  end, by_end;

    if (lost->inode != by->inode || !lost->lost) {
        return;
    }

    end = lost->offset + (off_t) lost->len;
    by_end = by->offset + (off_t) by->len;

    if (by->offset <= lost->offset && by_end > lost->offset) {
        by_end = kv_min(by_end, end);
        lost->len = (size_t) (end - by_end);
        memmove(lost->old, lost->old + (by_end - lost->offset), lost->len);
        lost->offset = by_end;

    } else if (by->offset > lost->offset && by->offset < end) {
        lost->len = (size_t) (by->offset - lost->offset);
    }
}


static int
wal_io_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    wal_t  *t = (wal_t *) io;

    t->allocations++;

    if (t->fail_space) {
        errno = ENOSPC;
        return -1;
    }

    return wal_fails(io)
           ? -1 : t->system.fallocate(&t->system, fd, offset, len);
}


static int
wal_io_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    bool    over;
    wal_t  *t = (wal_t *) io;

    if (wal_fails(io)) {
        return -1;
    }

    over = wal_exists(t, to);

    if (t->system.rename(&t->system, dirfd, from, to) == -1) {
        return -1;
    }

    if (t->keep && over) {
        t->renames_n = 0;

    } else if (t->keep && t->renames_n < 64) {
        strcpy(t->renames[t->renames_n][0], from);
        strcpy(t->renames[t->renames_n][1], to);
        t->renames_n++;
    }

    return 0;
}


static int
wal_io_unlink(kv_io_t *io, int dirfd, const char *name)
{
    wal_t  *t = (wal_t *) io;

    if (wal_fails(io)) {
        return -1;
    }

    if (t->fail_unlink && strstr(name, t->fail_unlink)) {
        errno = EIO;
        return -1;
    }

    /* the directory's changes are on disk in their order */
    t->renames_n = 0;

    return t->system.unlink(&t->system, dirfd, name);
}


static off_t
wal_io_size(kv_io_t *io, int fd)
{
    wal_t  *t = (wal_t *) io;

    return wal_fails(io) ? -1 : t->system.size(&t->system, fd);
}


static int
wal_io_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    wal_t  *t = (wal_t *) io;

    return wal_fails(io) ? -1 : t->system.list(&t->system, dirfd, cb, ctx);
}


/* In name only: the tests look at the file through the same descriptor. */

static int
wal_io_direct(kv_io_t *io, int fd, bool on)
{
    (void) io;
    (void) fd;
    (void) on;

    return 0;
}


void
wal_table(wal_t *t)
{
    t->io = t->system;
    t->io.open = wal_io_open;
    t->io.pread = wal_io_pread;
    t->io.pwritev = wal_io_pwritev;
    t->io.fdatasync = wal_io_fdatasync;
    t->io.fsync = wal_io_fdatasync;
    t->io.fallocate = wal_io_fallocate;
    t->io.rename = wal_io_rename;
    t->io.unlink = wal_io_unlink;
    t->io.size = wal_io_size;
    t->io.list = wal_io_list;
    t->io.direct = wal_io_direct;
}
