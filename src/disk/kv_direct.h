
/*
 * Writing past the page cache: bytes at any offset reach the file in whole
 * blocks, from an aligned buffer of our own.
 *
 * Where every write is synced anyway, the page cache only adds to what a sync
 * has to do: find the dirty pages, lock them, write them, clean them.  A
 * direct write and a sync take 0.75 to 0.9 of the time, at any size.
 *
 * A write that begins in the middle of a block writes the bytes before it
 * once more, as they are: a sector torn by a power cut holds the old bytes or
 * the same bytes.  Blocks are of 4096 bytes, as pages are, even on disks with
 * smaller sectors, for within them may lie larger ones that the disk itself
 * would have to read, change and write.  What follows the bytes in their last
 * block becomes zeroes.
 */


#ifndef KV_DIRECT_H
#define KV_DIRECT_H


#include "disk/kv_io.h"


#define KV_DIRECT_BUF    (1u << 20)      /* the most that one call writes */


typedef struct {
    kv_io_t   *io;
    int        fd;               /* the caller's to close; -1: none */
    bool       on;               /* else writes go through the page cache */
    uint8_t   *buf;              /* NULL until it is needed */

    /* what the file has at `start`, the first `have` bytes of `buf` */
    uint64_t   start;
    size_t     have;             /* below KV_IO_BLOCK */
} kv_direct_t;


/* Without a file; `io` must outlive it. */
void kv_direct_init(kv_direct_t *d, kv_io_t *io);

/* Frees the buffer. */
void kv_direct_destroy(kv_direct_t *d);

/*
 * Writes go to `fd` from now on, -1 for nowhere, past the page cache if
 * `direct` is set.  Where the file system cannot do that, or there is no memory
 * for the buffer, they go through the page cache instead.
 */
void kv_direct_use(kv_direct_t *d, int fd, bool direct);

/*
 * Writes all of `iov` at `offset`; its elements are used up.  The file must
 * have the block of the last byte to its end.  Bytes below `offset` that the
 * last call wrote must not have changed since; those that another process wrote
 * after them are read.  Results as those of kv_io_writev(), or of that reading.
 */
kv_rc_t kv_direct_writev(kv_direct_t *d, struct iovec *iov, size_t n,
    uint64_t offset);

/* Bytes that a write of `n` bytes at `offset` takes, with what fills blocks. */

static inline size_t
kv_direct_bytes(const kv_direct_t *d, uint64_t offset, size_t n)
{
    return d->on ? kv_align(offset % KV_IO_BLOCK + n, KV_IO_BLOCK) : n;
}


#endif /* KV_DIRECT_H */
