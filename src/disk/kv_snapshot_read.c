
/*
 * Reading a snapshot back, block by block, and reading what its header and
 * footer say.  What the format does not allow is damage.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_snapshot_private.h"


#define KV_SNAPSHOT_LEAST (KV_SNAPSHOT_HEADER_1                               \
                           + sizeof(kv_block_header_t)                        \
                           + sizeof(kv_snapshot_footer_t))


/* The last bytes of a snapshot. */

typedef struct {
    kv_block_header_t     block;
    kv_snapshot_footer_t  footer;
} kv_snapshot_end_t;


/* A snapshot being read. */

typedef struct {
    kv_io_t           *io;
    int                fd;
    const char        *name;
    uint64_t           lsn;
    uint64_t           size;            /* of the file */
    uint64_t           salt;
    uint32_t           version;         /* of its format */
    uint64_t           newest;          /* the highest LSN of a record */
    uint64_t           offset;          /* of the block being read */
    uint64_t           number;          /* of that block */
    uint64_t           records;         /* given to the caller */
    unsigned char     *buf;
    size_t             max;             /* bytes that `buf` has */
    kv_err_t          *err;
} kv_snapshot_reader_t;


static kv_rc_t kv_snapshot_read_header(kv_snapshot_reader_t *r);
static kv_rc_t kv_snapshot_judge_header(kv_snapshot_reader_t *r,
    const kv_snapshot_header_t *h);
static kv_rc_t kv_snapshot_read_block(kv_snapshot_reader_t *r,
    kv_block_header_t *h);
static uint32_t kv_snapshot_block_crc(uint64_t salt,
    const kv_block_header_t *h, const void *records, size_t len);
static kv_rc_t kv_snapshot_reserve(kv_snapshot_reader_t *r, uint32_t len,
    uint64_t left);
static kv_rc_t kv_snapshot_give_records(kv_snapshot_reader_t *r,
    const kv_block_header_t *h, kv_record_pt cb, void *ctx);
static kv_rc_t kv_snapshot_read_footer(kv_snapshot_reader_t *r,
    const kv_block_header_t *h, uint64_t *end_lsn);
static kv_rc_t kv_snapshot_get(kv_snapshot_reader_t *r, void *buf, size_t n,
    uint64_t offset);
static kv_rc_t kv_snapshot_damaged(kv_snapshot_reader_t *r, uint64_t offset,
    const char *what);


kv_rc_t
kv_snapshot_read(kv_io_t *io, int dirfd, uint64_t lsn, kv_record_pt cb,
    void *ctx, uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err)
{
    int                   saved;
    char                  name[KV_NAME_MAX];
    off_t                 size;
    kv_rc_t               rc;
    kv_block_header_t     h;
    kv_snapshot_reader_t  r;

    kv_snapshot_name(name, lsn, ".kvs");

    memset(&r, 0, sizeof(r));

    r.io = io;
    r.name = name;
    r.lsn = lsn;
    r.err = err;

    r.fd = io->open(io, dirfd, name, O_RDONLY);
    if (r.fd == -1) {
        (void) kv_snapshot_failed("open", name, -1, err);
        return KV_ERROR;
    }

    size = io->size(io, r.fd);
    if (size == -1) {
        (void) kv_snapshot_failed("get the size of", name, -1, err);
        rc = KV_ERROR;
        goto done;
    }

    r.size = size;

    rc = kv_snapshot_read_header(&r);

    while (rc == KV_OK) {
        rc = kv_snapshot_read_block(&r, &h);

        if (rc != KV_OK) {
            break;
        }

        if (h.count == 0) {
            rc = kv_snapshot_read_footer(&r, &h, end_lsn);
            break;
        }

        rc = kv_snapshot_give_records(&r, &h, cb, ctx);

        r.offset += sizeof(h) + h.len;
        r.number++;
    }

    if (rc == KV_OK) {
        *bytes = r.offset;
    }

done:

    saved = errno;
    (void) io->close(io, r.fd);
    free(r.buf);
    errno = saved;

    return rc;
}


static kv_rc_t
kv_snapshot_read_header(kv_snapshot_reader_t *r)
{
    size_t                size;
    kv_rc_t               rc;
    kv_snapshot_header_t  h;

    if (r->size < KV_SNAPSHOT_LEAST) {
        return kv_snapshot_damaged(r, r->size, "the file ends too early");
    }

    memset(&h, 0, sizeof(h));
    size = KV_SNAPSHOT_HEADER_1;

    rc = kv_snapshot_get(r, &h, size, 0);
    if (rc != KV_OK) {
        return rc;
    }

    if (memcmp(h.magic, KV_SNAPSHOT_MAGIC, sizeof(h.magic)) != 0) {
        return kv_snapshot_damaged(r, 0, "this is no snapshot");
    }

    if (h.crc != kv_snapshot_crc(h)) {
        return kv_snapshot_damaged(r, 0, "the header's checksum is wrong");
    }

    if (h.version < KV_FORMAT_OLDEST || h.version > KV_FORMAT_VERSION) {
        kv_err_set(r->err, "\"%s\" at offset 8: format version %u, of which"
                   " this module knows nothing (its own is %u); use the"
                   " version of the module that wrote it, or another"
                   " directory", r->name, h.version, KV_FORMAT_VERSION);
        return KV_DECLINED;
    }

    if (h.version > 1) {
        rc = kv_snapshot_get(r, (uint8_t *) &h + size, sizeof(h) - size, size);
        if (rc != KV_OK) {
            return rc;
        }

        size = sizeof(h);
    }

    r->salt = h.salt;
    r->version = h.version;
    r->offset = size;

    return kv_snapshot_judge_header(r, &h);
}


/* Checks the fields of a header of which the first part is good. */

static kv_rc_t
kv_snapshot_judge_header(kv_snapshot_reader_t *r,
    const kv_snapshot_header_t *h)
{
    if (h->version > 1 && h->crc_all != kv_snapshot_crc_all(h)) {
        return kv_snapshot_damaged(r, KV_SNAPSHOT_HEADER_1,
                                   "the header's checksum is wrong");
    }

    if (h->lsn != r->lsn) {
        return kv_snapshot_damaged(r, 16, "the LSN is not the one in the"
                                   " file's name");
    }

    if (h->lsn > KV_LSN_MAX) {
        return kv_snapshot_damaged(r, 16, "no LSN is that high");
    }

    if (h->version == 1 && (h->id.store[0] || h->id.store[1])) {
        return kv_snapshot_damaged(r, 48, "reserved bytes are not zero");
    }

    if (h->zero || (h->term == 0) != (h->index == 0)) {
        kv_err_set(r->err, "\"%s\" at offset 80: the header says what this"
                   " version of the module knows nothing of; use the version"
                   " that wrote it, or another directory", r->name);
        return KV_DECLINED;
    }

    return KV_OK;
}


/* Reads one block, header and records, and checks its checksum. */

static kv_rc_t
kv_snapshot_read_block(kv_snapshot_reader_t *r, kv_block_header_t *h)
{
    kv_rc_t   rc;
    uint64_t  left;

    assert(r->offset % 8 == 0 && r->offset <= r->size);

    left = r->size - r->offset;

    if (left < sizeof(kv_block_header_t)) {
        return kv_snapshot_damaged(r, r->offset, "the file ends before the"
                                   " footer");
    }

    rc = kv_snapshot_get(r, h, sizeof(kv_block_header_t), r->offset);
    if (rc != KV_OK) {
        return rc;
    }

    left -= sizeof(kv_block_header_t);

    if (h->magic != KV_BLOCK_MAGIC) {
        return kv_snapshot_damaged(r, r->offset, "there is no block");
    }

    if (h->len == 0 || h->len % 8 != 0 || h->len > left) {
        return kv_snapshot_damaged(r, r->offset, "the block's length is"
                                   " wrong");
    }

    rc = kv_snapshot_reserve(r, h->len, left);

    if (rc == KV_OK) {
        rc = kv_snapshot_get(r, r->buf, h->len,
                             r->offset + sizeof(kv_block_header_t));
    }

    if (rc != KV_OK) {
        return rc;
    }

    if (h->crc != kv_snapshot_block_crc(r->salt, h, r->buf, h->len)) {
        return kv_snapshot_damaged(r, r->offset, "the block's checksum is"
                                   " wrong");
    }

    if (h->number != r->number) {
        return kv_snapshot_damaged(r, r->offset, "the block is not the one"
                                   " that belongs here");
    }

    return KV_OK;
}


static uint32_t
kv_snapshot_block_crc(uint64_t salt, const kv_block_header_t *h,
    const void *records, size_t len)
{
    uint32_t  crc;

    crc = kv_crc32c(0, &salt, sizeof(salt));
    crc = kv_crc32c(crc, (const unsigned char *) h + 8, sizeof(*h) - 8);

    return kv_crc32c(crc, records, len);
}


/*
 * Makes the buffer large enough for the `len` bytes of a block; `left` bytes of
 * the file are left.
 */

static kv_rc_t
kv_snapshot_reserve(kv_snapshot_reader_t *r, uint32_t len, uint64_t left)
{
    size_t  max;

    if (len <= r->max) {
        return KV_OK;
    }

    max = kv_min(kv_max((uint64_t) len, KV_BLOCK_SIZE), left);

    free(r->buf);
    r->max = 0;
    r->buf = malloc(max);

    if (r->buf == NULL) {
        kv_err_set(r->err, "\"%s\" at offset %llu: no memory for a block"
                   " of %u bytes", r->name, (unsigned long long) r->offset,
                   len);
        return KV_ERROR;
    }

    r->max = max;

    return KV_OK;
}


static kv_rc_t
kv_snapshot_give_records(kv_snapshot_reader_t *r, const kv_block_header_t *h,
    kv_record_pt cb, void *ctx)
{
    size_t        n;
    kv_rc_t       rc;
    uint32_t      i, used;
    kv_record_t   rec;
    struct iovec  value;

    used = 0;

    for (i = 0; i < h->count; i++) {
        assert(used <= h->len);

        n = kv_record_decode(r->buf + used, h->len - used, r->version, &rec,
                             &value);

        if (n && r->version == 1) {
            rec.lsn = r->lsn;
        }

        if (n == 0 || rec.op != KV_OP_PUT || rec.lsn == 0) {
            return kv_snapshot_damaged(r, r->offset + sizeof(*h) + used,
                                       "this is no record of a snapshot");
        }

        if (kv_record_unknown(&rec)) {
            kv_err_set(r->err, "\"%s\" at offset %" PRIu64 ": a record has %s, "
                       "which this version of the module cannot keep; use the "
                       "version that wrote it, or another directory", r->name,
                       r->offset + sizeof(*h) + used, kv_record_unknown(&rec));
            return KV_DECLINED;
        }

        r->newest = kv_max(r->newest, rec.lsn);
        rec.place = r->offset + sizeof(*h)
                    + (size_t) ((unsigned char *) value.iov_base - r->buf);

        rc = cb(ctx, 0, &rec);
        if (rc != KV_OK) {
            return rc;
        }

        used += n;
    }

    if (used != h->len) {
        return kv_snapshot_damaged(r, r->offset + sizeof(*h) + used,
                                   "the block holds more than its records");
    }

    r->records += h->count;

    return KV_OK;
}


static kv_rc_t
kv_snapshot_read_footer(kv_snapshot_reader_t *r, const kv_block_header_t *h,
    uint64_t *end_lsn)
{
    kv_snapshot_footer_t  f;

    if (h->len != sizeof(f)) {
        return kv_snapshot_damaged(r, r->offset, "the footer's length is"
                                   " wrong");
    }

    memcpy(&f, r->buf, sizeof(f));

    if (f.zero != 0) {
        return kv_snapshot_damaged(r, r->offset + 40, "reserved bytes are"
                                   " not zero");
    }

    if (f.records != r->records) {
        return kv_snapshot_damaged(r, r->offset + 32, "the number of records"
                                   " is wrong");
    }

    if (f.end_lsn < r->lsn) {
        return kv_snapshot_damaged(r, r->offset + 24, "the last LSN is below"
                                   " the first");
    }

    if (f.end_lsn > KV_LSN_MAX) {
        return kv_snapshot_damaged(r, r->offset + 24, "no LSN is that high");
    }

    if (f.end_lsn < r->newest) {
        return kv_snapshot_damaged(r, r->offset + 24, "the last LSN is below"
                                   " that of a record");
    }

    r->offset += sizeof(*h) + sizeof(f);
    *end_lsn = f.end_lsn;

    return KV_OK;
}


static kv_rc_t
kv_snapshot_get(kv_snapshot_reader_t *r, void *buf, size_t n, uint64_t offset)
{
    ssize_t  got;

    got = kv_io_read(r->io, r->fd, buf, n, offset);

    if (got == -1) {
        (void) kv_snapshot_failed("read", r->name, offset, r->err);
        return KV_ERROR;
    }

    if ((size_t) got != n) {
        return kv_snapshot_damaged(r, offset + got, "the file has become"
                                   " shorter");
    }

    return KV_OK;
}


static kv_rc_t
kv_snapshot_damaged(kv_snapshot_reader_t *r, uint64_t offset,
    const char *what)
{
    kv_err_set(r->err, "\"%s\" is damaged at offset %llu: %s", r->name,
               (unsigned long long) offset, what);

    return KV_DAMAGED;
}


void
kv_snapshot_guess(kv_io_t *io, int dirfd, uint64_t lsn,
    kv_snapshot_guess_t *guess)
{
    int                   fd;
    char                  name[KV_NAME_MAX];
    off_t                 size;
    kv_snapshot_end_t     end;
    kv_snapshot_header_t  h;

    memset(&h, 0, sizeof(h));
    memset(guess, 0, sizeof(kv_snapshot_guess_t));

    kv_snapshot_name(name, lsn, ".kvs");

    fd = io->open(io, dirfd, name, O_RDONLY);
    if (fd == -1) {
        return;
    }

    size = io->size(io, fd);

    if (size >= (off_t) KV_SNAPSHOT_LEAST
        && kv_io_read(io, fd, &h, sizeof(h), 0)
           >= (ssize_t) KV_SNAPSHOT_HEADER_1
        && kv_io_read(io, fd, &end, sizeof(end), size - (off_t) sizeof(end))
           == (ssize_t) sizeof(end))
    {
        guess->bytes = (uint64_t) size;
        guess->records = kv_min(end.footer.records,
                                guess->bytes / 16);      /* the least */

        if (h.crc == kv_snapshot_crc(h)) {
            memcpy(guess->seed, h.seed, sizeof(h.seed));
            guess->salt = h.salt;

            if (end.block.crc == kv_snapshot_block_crc(h.salt, &end.block,
                                                       &end.footer,
                                                       sizeof(end.footer)))
            {
                guess->end_lsn = end.footer.end_lsn;
            }
        }

        if (h.crc == kv_snapshot_crc(h) && h.version > 1
            && h.crc_all == kv_snapshot_crc_all(&h))
        {
            guess->id = h.id;
            guess->time_ms = h.time_ms;
            guess->term = h.term;
            guess->index = h.index;
        }
    }

    (void) io->close(io, fd);
}
