
/* Writing past the page cache: see kv_direct.h. */


#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "disk/kv_direct.h"


static kv_rc_t kv_direct_begin(kv_direct_t *d, uint64_t start, size_t have);
static ssize_t kv_direct_read(kv_direct_t *d, uint64_t start);
static bool kv_direct_off(kv_direct_t *d);
static kv_rc_t kv_direct_flush(kv_direct_t *d, size_t len, uint64_t offset);


void
kv_direct_init(kv_direct_t *d, kv_io_t *io)
{
    memset(d, 0, sizeof(kv_direct_t));

    d->io = io;
    d->fd = -1;
}


void
kv_direct_destroy(kv_direct_t *d)
{
    free(d->buf);
}


void
kv_direct_use(kv_direct_t *d, int fd, bool direct)
{
    d->fd = fd;
    d->on = false;
    d->start = 0;
    d->have = 0;

    if (fd == -1 || !direct) {
        return;
    }

    if (d->buf == NULL) {
        d->buf = aligned_alloc(KV_IO_BLOCK, KV_DIRECT_BUF);

        if (d->buf == NULL) {
            return;
        }
    }

    d->on = d->io->direct && d->io->direct(d->io, fd, true) == 0;
}


kv_rc_t
kv_direct_writev(kv_direct_t *d, struct iovec *iov, size_t n, uint64_t offset)
{
    size_t    i, len, used, whole;
    kv_rc_t   rc;
    uint64_t  start;

    if (!d->on) {
        return kv_io_writev(d->io, d->fd, iov, n, (off_t) offset);
    }

    used = offset % KV_IO_BLOCK;
    start = offset - used;

    rc = kv_direct_begin(d, start, used);

    for (i = 0; rc == KV_OK && i < n; i++) {

        while (iov[i].iov_len) {

            if (used == KV_DIRECT_BUF) {
                rc = kv_direct_flush(d, used, start);

                if (rc != KV_OK) {
                    return rc;
                }

                start += used;
                used = 0;
            }

            len = kv_min(iov[i].iov_len, KV_DIRECT_BUF - used);

            memcpy(d->buf + used, iov[i].iov_base, len);

            used += len;
            iov[i].iov_base = (uint8_t *) iov[i].iov_base + len;
            iov[i].iov_len -= len;
        }
    }

    if (rc != KV_OK) {
        return rc;
    }

    whole = kv_align(used, KV_IO_BLOCK);
    memset(d->buf + used, 0, whole - used);

    rc = kv_direct_flush(d, whole, start);

    if (rc != KV_OK) {
        return rc;
    }

    /* the last block, if it is not full, begins the next write */

    d->have = used % KV_IO_BLOCK;
    d->start = start + used - d->have;
    memmove(d->buf, d->buf + used - d->have, d->have);

    return KV_OK;
}


/*
 * Gets the first `have` bytes of the block at `start`, which are written once
 * more.  They are not known if another process wrote them.
 */

static kv_rc_t
kv_direct_begin(kv_direct_t *d, uint64_t start, size_t have)
{
    bool     known;
    ssize_t  n;

    known = have == 0 || (d->start == start && have <= d->have);

    /* not known until the write has ended */

    d->have = 0;

    if (known) {
        return KV_OK;
    }

    n = kv_direct_read(d, start);

    if (n >= (ssize_t) have) {
        return KV_OK;
    }

    if (n != -1) {
        errno = EIO;
    }

    return kv_io_rc(errno);
}


/*
 * Reads one block into the buffer, as much of it as there is.  A direct read is
 * one call, for another could only begin in the middle of the block.
 */

static ssize_t
kv_direct_read(kv_direct_t *d, uint64_t start)
{
    ssize_t  n;

    do {
        n = d->io->pread(d->io, d->fd, d->buf, KV_IO_BLOCK,
                         (off_t) start);

    } while (n == -1 && errno == EINTR);

    if (n == KV_IO_BLOCK || (n == -1 && errno != EINVAL)
        || !kv_direct_off(d))
    {
        return n;
    }

    return kv_io_read(d->io, d->fd, d->buf, KV_IO_BLOCK, (off_t) start);
}


/*
 * Falls back to the page cache: the file system said that it could write
 * directly, but cannot; or it wrote a part of a block, where a direct write
 * cannot go on.
 */

static bool
kv_direct_off(kv_direct_t *d)
{
    if (!d->on || d->io->direct(d->io, d->fd, false) == -1) {
        return false;
    }

    d->on = false;

    return true;
}


static kv_rc_t
kv_direct_flush(kv_direct_t *d, size_t len, uint64_t offset)
{
    kv_rc_t  rc;

    assert(len % KV_IO_BLOCK == 0 && offset % KV_IO_BLOCK == 0);
    assert(len > 0 && len <= KV_DIRECT_BUF);

    rc = kv_io_write(d->io, d->fd, d->buf, len, (off_t) offset);

    if (rc == KV_ERROR && errno == EINVAL && kv_direct_off(d)) {
        rc = kv_io_write(d->io, d->fd, d->buf, len, (off_t) offset);
    }

    return rc;
}
