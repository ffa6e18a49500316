
/*
 * Snapshot files.  The writer fills one block at a time and writes it when
 * the next record does not fit; a record larger than a block gets one of its
 * own, written from where its value lies.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/kv_mmap.h"
#include "base/kv_crc32c.h"
#include "base/kv_failpoint.h"
#include "disk/kv_snapshot.h"


#define KV_BLOCK_SIZE     (1u << 20)    /* bytes, its header included */

/*
 * A sync of many MiB at once holds up the commits of the log on the same
 * disk, so the writer syncs whenever this much is dirty.
 */
#define KV_SNAPSHOT_DIRTY (1u << 20)

/* names that a snapshot may have until it is complete */
#define KV_SNAPSHOT_TRIES 100u

#define KV_SNAPSHOT_ALONE ".alone"
#define KV_SNAPSHOT_ASIDE ".kvs.damaged"

#define KV_SNAPSHOT_LEAST (sizeof(kv_snapshot_header_t)                       \
                           + sizeof(kv_block_header_t)                        \
                           + sizeof(kv_snapshot_footer_t))


struct kv_snapshot_writer_s {
    kv_io_t           *io;
    int                dirfd;
    int                fd;              /* -1 once closed */
    bool               created;         /* the file `tmp` is there */
    char               tmp[KV_NAME_MAX];
    uint64_t           lsn;
    uint64_t           salt;
    uint64_t           offset;          /* where the next block goes */
    size_t             dirty;           /* bytes written since the last sync */
    uint64_t           number;          /* of the next block */
    uint64_t           records;         /* in all blocks */

    struct iovec      *iov;             /* for a block of one record */
    size_t             iov_n;           /* room for so many */

    uint32_t           count;           /* records in the block */
    size_t             used;            /* bytes of the block */
    unsigned char     *block;
};


/* A snapshot being read. */

typedef struct {
    kv_io_t           *io;
    int                fd;
    const char        *name;
    uint64_t           lsn;
    uint64_t           size;            /* of the file */
    uint64_t           salt;
    uint64_t           offset;          /* of the block being read */
    uint64_t           number;          /* of that block */
    uint64_t           records;         /* delivered */
    unsigned char     *buf;
    size_t             room;            /* bytes of `buf` */
    kv_err_t          *err;
} kv_snapshot_reader_t;


typedef struct {
    const char          *suffix;
    kv_snapshot_list_t  *list;
} kv_snapshot_names_t;


static kv_rc_t kv_snapshot_not_alone(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_rc_t kv_snapshot_create(kv_snapshot_writer_t *w, kv_err_t *err);
static void kv_snapshot_name(char *name, uint64_t lsn, const char *suffix);
static kv_rc_t kv_snapshot_failed(const char *what, const char *name,
    int64_t offset, kv_err_t *err);
static kv_rc_t kv_snapshot_write(kv_snapshot_writer_t *w, struct iovec *iov,
    size_t n, kv_err_t *err);
static kv_rc_t kv_snapshot_sync(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_rc_t kv_snapshot_flush(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_rc_t kv_snapshot_add_large(kv_snapshot_writer_t *w,
    const kv_record_t *rec, size_t size, kv_err_t *err);
static kv_rc_t kv_snapshot_read_header(kv_snapshot_reader_t *r);
static kv_rc_t kv_snapshot_read_block(kv_snapshot_reader_t *r,
    kv_block_header_t *h);
static kv_rc_t kv_snapshot_deliver(kv_snapshot_reader_t *r,
    const kv_block_header_t *h, kv_record_pt cb, void *ctx);
static kv_rc_t kv_snapshot_read_footer(kv_snapshot_reader_t *r,
    const kv_block_header_t *h, uint64_t *end_lsn);
static kv_rc_t kv_snapshot_get(kv_snapshot_reader_t *r, void *buf, size_t n,
    uint64_t offset);
static kv_rc_t kv_snapshot_damaged(kv_snapshot_reader_t *r, uint64_t offset,
    const char *what);
static kv_rc_t kv_snapshot_find(kv_io_t *io, int dirfd, const char *suffix,
    kv_snapshot_list_t *list, kv_err_t *err);
static void kv_snapshot_found(void *ctx, const char *name);
static bool kv_snapshot_parse(const char *name, const char *suffix,
    uint64_t *lsn);
static kv_rc_t kv_snapshot_delete(kv_io_t *io, int dirfd, unsigned keep,
    const char *suffix, const kv_io_hurry_t *hurry, kv_err_t *err);


kv_rc_t
kv_snapshot_begin(kv_io_t *io, int dirfd, uint64_t lsn,
    const uint64_t seed[2], kv_snapshot_writer_t **wp, kv_err_t *err)
{
    kv_rc_t                rc;
    struct iovec           iov;
    kv_snapshot_header_t   h;
    kv_snapshot_writer_t  *w;

    w = calloc(1, sizeof(kv_snapshot_writer_t));
    if (w == NULL) {
        kv_err_set(err, "no memory to write a snapshot");
        return KV_ERROR;
    }

    w->io = io;
    w->dirfd = dirfd;
    w->fd = -1;
    w->lsn = lsn;
    w->used = sizeof(kv_block_header_t);

    kv_snapshot_name(w->tmp, lsn, ".tmp");

    w->block = kv_mmap_alloc(KV_BLOCK_SIZE);
    if (w->block == NULL) {
        kv_err_set(err, "no memory to write the snapshot \"%s\"", w->tmp);
        rc = KV_ERROR;
        goto failed;
    }

    if (getrandom(&w->salt, sizeof(w->salt), 0) != sizeof(w->salt)) {
        rc = kv_snapshot_failed("get a random salt for", w->tmp, -1, err);
        goto failed;
    }

    rc = kv_snapshot_not_alone(w, err);
    if (rc != KV_OK) {
        goto failed;
    }

    rc = kv_snapshot_create(w, err);
    if (rc != KV_OK) {
        goto failed;
    }

    memset(&h, 0, sizeof(h));

    memcpy(h.magic, KV_SNAPSHOT_MAGIC, sizeof(h.magic));
    h.version = KV_FORMAT_VERSION;
    h.lsn = lsn;
    h.salt = w->salt;
    memcpy(h.seed, seed, sizeof(h.seed));
    h.crc = kv_crc32c(0, &h, sizeof(h));

    iov.iov_base = &h;
    iov.iov_len = sizeof(h);

    rc = kv_snapshot_write(w, &iov, 1, err);
    if (rc != KV_OK) {
        goto failed;
    }

    *wp = w;

    return KV_OK;

failed:

    kv_snapshot_abort(w);

    return rc;
}


/*
 * What somebody decided of another snapshot, which had this LSN before the
 * directory was given an older state, would have the log passed over.
 */

static kv_rc_t
kv_snapshot_not_alone(kv_snapshot_writer_t *w, kv_err_t *err)
{
    char  name[KV_NAME_MAX];

    kv_snapshot_name(name, w->lsn, KV_SNAPSHOT_ALONE);

    if (w->io->unlink(w->io, w->dirfd, name) == -1) {

        if (errno == ENOENT) {
            return KV_OK;
        }

        (void) kv_snapshot_failed("delete", name, -1, err);

        return kv_snapshot_alone(w->io, w->dirfd, w->lsn, NULL)
               == KV_NOT_FOUND ? KV_OK : KV_ERROR;
    }

    return kv_io_sync_dir(w->io, w->dirfd) == KV_OK
           ? KV_OK : kv_snapshot_failed("sync the directory of", name, -1,
                                        err);
}


/*
 * Not with O_TRUNC: what is there may be somebody else's.  If it cannot be
 * deleted, ours gets another LSN's name until it is complete.
 */

static kv_rc_t
kv_snapshot_create(kv_snapshot_writer_t *w, kv_err_t *err)
{
    unsigned  i;

    for (i = 0; i < KV_SNAPSHOT_TRIES; i++) {

        kv_snapshot_name(w->tmp, w->lsn + i, ".tmp");

        (void) w->io->unlink(w->io, w->dirfd, w->tmp);

        w->fd = w->io->open(w->io, w->dirfd, w->tmp, O_WRONLY|O_CREAT|O_EXCL);

        if (w->fd != -1) {
            w->created = true;
            return KV_OK;
        }

        if (errno != EEXIST) {
            break;
        }
    }

    return kv_snapshot_failed("create", w->tmp, -1, err);
}


kv_rc_t
kv_snapshot_add(kv_snapshot_writer_t *w, const kv_record_t *rec,
    kv_err_t *err)
{
    size_t   size;
    kv_rc_t  rc;

    assert(rec->op == KV_OP_PUT);

    size = kv_record_size(rec);

    if (size > KV_BLOCK_SIZE - w->used) {
        rc = kv_snapshot_flush(w, err);
        if (rc != KV_OK) {
            return rc;
        }

        if (size > KV_BLOCK_SIZE - w->used) {
            return kv_snapshot_add_large(w, rec, size, err);
        }
    }

    kv_record_encode(rec, w->block + w->used);

    w->used += size;
    w->count++;
    w->records++;

    return KV_OK;
}


kv_rc_t
kv_snapshot_finish(kv_snapshot_writer_t *w, uint64_t end_lsn,
    uint64_t *bytes, kv_err_t *err)
{
    char                  name[KV_NAME_MAX];
    kv_rc_t               rc;
    kv_snapshot_footer_t  f;

    assert(end_lsn >= w->lsn);

    rc = kv_snapshot_flush(w, err);
    if (rc != KV_OK) {
        return rc;
    }

    f.end_lsn = end_lsn;
    f.records = w->records;
    f.zero = 0;

    memcpy(w->block + w->used, &f, sizeof(f));
    w->used += sizeof(f);

    rc = kv_snapshot_flush(w, err);
    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_snapshot_sync(w, err);
    if (rc != KV_OK) {
        return rc;
    }

    (void) w->io->close(w->io, w->fd);
    w->fd = -1;

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_SYNCED);

    kv_snapshot_name(name, w->lsn, ".kvs");

    if (w->io->rename(w->io, w->dirfd, w->tmp, name) == -1) {
        return kv_snapshot_failed("give its name to", w->tmp, -1, err);
    }

    w->created = false;

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_RENAMED);

    if (kv_io_sync_dir(w->io, w->dirfd) != KV_OK) {
        (void) kv_snapshot_failed("sync the directory of", name, -1, err);

        /* who finds it there would take its name for durable */

        (void) w->io->unlink(w->io, w->dirfd, name);

        return KV_ERROR;
    }

    *bytes = w->offset;

    free(w->iov);
    kv_mmap_free(w->block, KV_BLOCK_SIZE);
    free(w);

    return KV_OK;
}


void
kv_snapshot_abort(kv_snapshot_writer_t *w)
{
    if (w->fd != -1) {
        (void) w->io->close(w->io, w->fd);
    }

    if (w->created) {
        (void) w->io->unlink(w->io, w->dirfd, w->tmp);
    }

    free(w->iov);
    kv_mmap_free(w->block, KV_BLOCK_SIZE);
    free(w);
}


static void
kv_snapshot_name(char *name, uint64_t lsn, const char *suffix)
{
    (void) snprintf(name, KV_NAME_MAX, KV_SNAPSHOT_NAME "%s", lsn, suffix);
}


/*
 * Tells of the call that has just failed, at this offset unless it is -1.
 * What it returns follows errno.
 */

static kv_rc_t
kv_snapshot_failed(const char *what, const char *name, int64_t offset,
    kv_err_t *err)
{
    int   e;
    char  at[48];

    e = errno;

    at[0] = '\0';

    if (offset != -1) {
        (void) snprintf(at, sizeof(at), " at offset %lld",
                        (long long) offset);
    }

    if (e == ENOSPC || e == EDQUOT) {
        kv_err_set(err, "cannot %s \"%s\"%s: %s; make room on the disk of"
                   " the data directory", what, name, at, strerror(e));
        return KV_NO_SPACE;
    }

    kv_err_set(err, "cannot %s \"%s\"%s: %s; check the disk, and the rights"
               " in the data directory", what, name, at, strerror(e));

    errno = e;

    return KV_ERROR;
}


static kv_rc_t
kv_snapshot_write(kv_snapshot_writer_t *w, struct iovec *iov, size_t n,
    kv_err_t *err)
{
    size_t   i, bytes;
    kv_rc_t  rc;

    while (n > 0) {
        bytes = 0;

        for (i = 0; i < n && w->dirty + bytes < KV_SNAPSHOT_DIRTY; i++) {
            bytes += iov[i].iov_len;
        }

        rc = kv_io_writev(w->io, w->fd, iov, i, w->offset);

        if (rc != KV_OK) {
            return kv_snapshot_failed("write", w->tmp, w->offset, err);
        }

        iov += i;
        n -= i;

        w->offset += bytes;
        w->dirty += bytes;

        if (w->dirty >= KV_SNAPSHOT_DIRTY) {
            rc = kv_snapshot_sync(w, err);
            if (rc != KV_OK) {
                return rc;
            }
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_snapshot_sync(kv_snapshot_writer_t *w, kv_err_t *err)
{
    if (kv_io_sync(w->io, w->fd) != KV_OK) {
        (void) kv_snapshot_failed("sync", w->tmp, -1, err);
        return KV_ERROR;
    }

    w->dirty = 0;

    return KV_OK;
}


/* Writes the block, if there is anything in it, and begins the next. */

static kv_rc_t
kv_snapshot_flush(kv_snapshot_writer_t *w, kv_err_t *err)
{
    size_t              bytes;
    kv_rc_t             rc;
    struct iovec        iov;
    kv_block_header_t  *h;

    if (w->used == sizeof(kv_block_header_t)) {
        return KV_OK;
    }

    bytes = w->used;
    h = (kv_block_header_t *) w->block;

    h->magic = KV_BLOCK_MAGIC;
    h->len = bytes - sizeof(kv_block_header_t);
    h->count = w->count;
    h->number = w->number;
    h->crc = kv_crc32c(0, &w->salt, sizeof(w->salt));
    h->crc = kv_crc32c(h->crc, w->block + 8, bytes - 8);

    iov.iov_base = w->block;
    iov.iov_len = bytes;

    rc = kv_snapshot_write(w, &iov, 1, err);
    if (rc != KV_OK) {
        return rc;
    }

    w->number++;
    w->count = 0;
    w->used = sizeof(kv_block_header_t);

    return KV_OK;
}


/* Writes a block of one record, past the buffer, which is empty. */

static kv_rc_t
kv_snapshot_add_large(kv_snapshot_writer_t *w, const kv_record_t *rec,
    size_t size, kv_err_t *err)
{
    size_t              i, n, head, len;
    kv_rc_t             rc;
    struct iovec       *iov;
    kv_block_header_t  *h;
    static const char   zeroes[8];

    assert(w->used == sizeof(kv_block_header_t));

    n = rec->value_n + 2;

    if (w->iov_n < n) {
        iov = realloc(w->iov, n * sizeof(struct iovec));
        if (iov == NULL) {
            kv_err_set(err, "no memory to write the snapshot \"%s\"",
                       w->tmp);
            return KV_ERROR;
        }

        w->iov = iov;
        w->iov_n = n;
    }

    head = kv_record_encode_head(rec, w->block + w->used);
    len = w->used + head;
    iov = w->iov;

    iov[0].iov_base = w->block;
    iov[0].iov_len = len;

    memcpy(&iov[1], rec->value, rec->value_n * sizeof(struct iovec));

    iov[n - 1].iov_base = (void *) zeroes;
    iov[n - 1].iov_len = size - head - rec->value_len;

    h = (kv_block_header_t *) w->block;

    h->magic = KV_BLOCK_MAGIC;
    h->len = size;
    h->count = 1;
    h->number = w->number;
    h->crc = kv_crc32c(0, &w->salt, sizeof(w->salt));
    h->crc = kv_crc32c(h->crc, w->block + 8, len - 8);

    for (i = 1; i < n; i++) {
        h->crc = kv_crc32c(h->crc, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }

    assert(len == sizeof(kv_block_header_t) + size);

    rc = kv_snapshot_write(w, iov, n, err);
    if (rc != KV_OK) {
        return rc;
    }

    w->number++;
    w->records++;

    return KV_OK;
}


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

        rc = kv_snapshot_deliver(&r, &h, cb, ctx);

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
    uint32_t              crc;
    kv_rc_t               rc;
    kv_snapshot_header_t  h;

    if (r->size < KV_SNAPSHOT_LEAST) {
        return kv_snapshot_damaged(r, r->size, "the file ends too early");
    }

    rc = kv_snapshot_get(r, &h, sizeof(h), 0);
    if (rc != KV_OK) {
        return rc;
    }

    if (memcmp(h.magic, KV_SNAPSHOT_MAGIC, sizeof(h.magic)) != 0) {
        return kv_snapshot_damaged(r, 0, "this is no snapshot");
    }

    crc = h.crc;
    h.crc = 0;

    if (kv_crc32c(0, &h, sizeof(h)) != crc) {
        return kv_snapshot_damaged(r, 0, "the header's checksum is wrong");
    }

    if (h.version != KV_FORMAT_VERSION) {
        kv_err_set(r->err, "\"%s\" at offset 8: format version %u, of which"
                   " this module knows nothing (its own is %u); use the"
                   " version of the module that wrote it, or another"
                   " directory", r->name, h.version, KV_FORMAT_VERSION);
        return KV_DECLINED;
    }

    if (h.lsn != r->lsn) {
        return kv_snapshot_damaged(r, 16, "the LSN is not the one in the"
                                   " file's name");
    }

    if (memcmp(h.zero, (uint8_t [16]) { 0 }, sizeof(h.zero)) != 0) {
        return kv_snapshot_damaged(r, 48, "reserved bytes are not zero");
    }

    r->salt = h.salt;
    r->offset = sizeof(h);

    return KV_OK;
}


/* Reads one block, header and records, as far as its checksum vouches. */

static kv_rc_t
kv_snapshot_read_block(kv_snapshot_reader_t *r, kv_block_header_t *h)
{
    void      *p;
    size_t     room;
    kv_rc_t    rc;
    uint32_t   crc;
    uint64_t   left;

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

    if (h->len > r->room) {
        room = kv_min(kv_max((uint64_t) h->len, KV_BLOCK_SIZE), left);

        free(r->buf);
        r->room = 0;
        r->buf = malloc(room);

        if (r->buf == NULL) {
            kv_err_set(r->err, "\"%s\" at offset %llu: no memory for a block"
                       " of %u bytes", r->name,
                       (unsigned long long) r->offset, h->len);
            return KV_ERROR;
        }

        r->room = room;
    }

    p = r->buf;

    rc = kv_snapshot_get(r, p, h->len, r->offset + sizeof(kv_block_header_t));
    if (rc != KV_OK) {
        return rc;
    }

    crc = kv_crc32c(0, &r->salt, sizeof(r->salt));
    crc = kv_crc32c(crc, (unsigned char *) h + 8,
                    sizeof(kv_block_header_t) - 8);
    crc = kv_crc32c(crc, p, h->len);

    if (crc != h->crc) {
        return kv_snapshot_damaged(r, r->offset, "the block's checksum is"
                                   " wrong");
    }

    if (h->number != r->number) {
        return kv_snapshot_damaged(r, r->offset, "the block is not the one"
                                   " that belongs here");
    }

    return KV_OK;
}


static kv_rc_t
kv_snapshot_deliver(kv_snapshot_reader_t *r, const kv_block_header_t *h,
    kv_record_pt cb, void *ctx)
{
    size_t        n;
    kv_rc_t       rc;
    uint32_t      i, used;
    kv_record_t   rec;
    struct iovec  value;

    used = 0;

    for (i = 0; i < h->count; i++) {
        n = kv_record_decode(r->buf + used, h->len - used, &rec, &value);

        if (n == 0 || rec.op != KV_OP_PUT) {
            return kv_snapshot_damaged(r, r->offset + sizeof(*h) + used,
                                       "this is no record of a snapshot");
        }

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
    uint32_t              crc;
    kv_snapshot_header_t  h;
    kv_snapshot_footer_t  f;

    memset(guess, 0, sizeof(kv_snapshot_guess_t));

    kv_snapshot_name(name, lsn, ".kvs");

    fd = io->open(io, dirfd, name, O_RDONLY);
    if (fd == -1) {
        return;
    }

    size = io->size(io, fd);

    if (size >= (off_t) KV_SNAPSHOT_LEAST
        && kv_io_read(io, fd, &h, sizeof(h), 0) == (ssize_t) sizeof(h)
        && kv_io_read(io, fd, &f, sizeof(f), size - (off_t) sizeof(f))
           == (ssize_t) sizeof(f))
    {
        guess->bytes = (uint64_t) size;
        guess->records = kv_min(f.records, guess->bytes / 16);  /* the least */

        crc = h.crc;
        h.crc = 0;

        if (kv_crc32c(0, &h, sizeof(h)) == crc) {
            memcpy(guess->seed, h.seed, sizeof(h.seed));
        }
    }

    (void) io->close(io, fd);
}


kv_rc_t
kv_snapshot_list(kv_io_t *io, int dirfd, kv_snapshot_list_t *list,
    kv_err_t *err)
{
    return kv_snapshot_find(io, dirfd, ".kvs", list, err);
}


kv_rc_t
kv_snapshot_purge(kv_io_t *io, int dirfd, unsigned keep, bool keep_tmp,
    const kv_io_hurry_t *hurry, kv_err_t *err)
{
    kv_rc_t  rc;

    rc = kv_snapshot_delete(io, dirfd, keep, ".kvs", hurry, err);

    if (!keep_tmp
        && kv_snapshot_delete(io, dirfd, 0, ".tmp", hurry, err) != KV_OK)
    {
        rc = KV_ERROR;
    }

    return rc;
}


bool
kv_snapshot_lost(int error)
{
    switch (error) {

    case EIO:
    case EBADMSG:
    case EUCLEAN:
    case ENOENT:

    /* of something that is no file: see kv_io_check() */

    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENXIO:
        return true;

    default:
        return false;
    }
}


kv_rc_t
kv_snapshot_alone(kv_io_t *io, int dirfd, uint64_t lsn, kv_err_t *err)
{
    int   fd;
    char  name[KV_NAME_MAX];

    kv_snapshot_name(name, lsn, KV_SNAPSHOT_ALONE);

    fd = io->open(io, dirfd, name, O_RDONLY);

    if (fd != -1) {
        (void) io->close(io, fd);
        return KV_OK;
    }

    /* nobody reads it, so root need not think of the workers' rights */

    if (errno == EACCES) {
        return KV_OK;
    }

    if (errno != EIO && kv_snapshot_lost(errno)) {
        return KV_NOT_FOUND;
    }

    (void) kv_snapshot_failed("open", name, -1, err);

    return KV_AGAIN;
}


kv_rc_t
kv_snapshot_put_aside(kv_io_t *io, int dirfd, uint64_t lsn, kv_err_t *err)
{
    char  name[KV_NAME_MAX], aside[KV_NAME_MAX];

    kv_snapshot_name(name, lsn, ".kvs");
    kv_snapshot_name(aside, lsn, KV_SNAPSHOT_ASIDE);

    if (io->rename(io, dirfd, name, aside) == -1) {
        return kv_snapshot_failed("rename the damaged", name, -1, err);
    }

    if (kv_io_sync_dir(io, dirfd) != KV_OK) {
        return kv_snapshot_failed("sync the directory of", aside, -1, err);
    }

    return kv_snapshot_delete(io, dirfd, KV_SNAPSHOTS_ASIDE,
                              KV_SNAPSHOT_ASIDE, NULL, err);
}


kv_rc_t
kv_snapshot_drop_aside(kv_io_t *io, int dirfd, unsigned *n, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_snapshot_list_t  list;

    *n = 0;

    rc = kv_snapshot_find(io, dirfd, KV_SNAPSHOT_ASIDE, &list, err);

    if (rc != KV_OK || list.n == 0) {
        return rc;
    }

    *n = list.n;

    return kv_snapshot_delete(io, dirfd, 0, KV_SNAPSHOT_ASIDE, NULL, err);
}


static kv_rc_t
kv_snapshot_find(kv_io_t *io, int dirfd, const char *suffix,
    kv_snapshot_list_t *list, kv_err_t *err)
{
    kv_snapshot_names_t  names;

    names.suffix = suffix;
    names.list = list;

    list->n = 0;

    if (io->list(io, dirfd, kv_snapshot_found, &names) == -1) {
        kv_err_set(err, "cannot list the snapshots in the data directory:"
                   " %s; check the disk, and the rights in the data"
                   " directory", strerror(errno));
        return KV_ERROR;
    }

    return KV_OK;
}


/* Keeps the list sorted; when it is full, the oldest drops out. */

static void
kv_snapshot_found(void *ctx, const char *name)
{
    kv_snapshot_names_t  *names = ctx;

    unsigned              i, n;
    uint64_t              lsn;
    kv_snapshot_list_t   *list;

    if (!kv_snapshot_parse(name, names->suffix, &lsn)) {
        return;
    }

    list = names->list;

    for (i = 0; i < list->n && list->lsn[i] > lsn; i++) { /* void */ }

    if (i == KV_SNAPSHOTS_MAX) {
        return;
    }

    n = kv_min(list->n, KV_SNAPSHOTS_MAX - 1);

    memmove(&list->lsn[i + 1], &list->lsn[i], (n - i) * sizeof(uint64_t));

    list->lsn[i] = lsn;
    list->n = n + 1;
}


static bool
kv_snapshot_parse(const char *name, const char *suffix, uint64_t *lsn)
{
    char       c;
    uint64_t   n;
    unsigned   i;

    if (strncmp(name, "snap-", 5) != 0) {
        return false;
    }

    name += 5;
    n = 0;

    for (i = 0; i < 16; i++) {
        c = name[i];

        if (c >= '0' && c <= '9') {
            n = n << 4 | (c - '0');

        } else if (c >= 'a' && c <= 'f') {
            n = n << 4 | (c - 'a' + 10);

        } else {
            return false;
        }
    }

    *lsn = n;

    return strcmp(name + 16, suffix) == 0;
}


static kv_rc_t
kv_snapshot_delete(kv_io_t *io, int dirfd, unsigned keep, const char *suffix,
    const kv_io_hurry_t *hurry, kv_err_t *err)
{
    char                name[KV_NAME_MAX];
    kv_rc_t             rc, found;
    unsigned            n;
    kv_snapshot_list_t  list;

    assert(keep < KV_SNAPSHOTS_MAX);

    rc = KV_OK;

    /* a list that is full may not be all */

    do {
        found = kv_snapshot_find(io, dirfd, suffix, &list, err);
        if (found != KV_OK) {
            return found;
        }

        n = list.n;

        while (list.n > keep) {
            list.n--;

            kv_snapshot_name(name, list.lsn[list.n], suffix);

            if (kv_io_remove(io, dirfd, name, hurry) == -1
                && errno != ENOENT)
            {
                (void) kv_snapshot_failed("delete", name, -1, err);
                rc = KV_ERROR;
                continue;
            }

            kv_snapshot_name(name, list.lsn[list.n], KV_SNAPSHOT_ALONE);
            (void) io->unlink(io, dirfd, name);
        }
    } while (n == KV_SNAPSHOTS_MAX && rc == KV_OK);

    return rc;
}
