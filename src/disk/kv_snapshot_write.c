
/*
 * Writing a snapshot.  The writer fills one block at a time and writes it when
 * the next record does not fit; a record larger than a block gets one of its
 * own, written from where its value lies.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/kv_crc32c.h"
#include "base/kv_failpoint.h"
#include "base/kv_mmap.h"
#include "disk/kv_snapshot_private.h"


/*
 * A sync of many MiB at once delays commits of the log on the same disk, so the
 * writer syncs whenever this much is dirty.
 */
#define KV_SNAPSHOT_DIRTY (1u << 20)

/* names that a snapshot may have until it is complete */
#define KV_SNAPSHOT_TRIES 100u


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
    size_t             iov_max;         /* how many there can be */

    uint32_t           count;           /* records in the block */
    size_t             used;            /* bytes of the block */
    unsigned char     *block;
};


static kv_rc_t kv_snapshot_write_header(kv_snapshot_writer_t *w,
    const kv_snapshot_about_t *about, kv_err_t *err);
static kv_rc_t kv_snapshot_not_alone(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_rc_t kv_snapshot_create(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_rc_t kv_snapshot_write(kv_snapshot_writer_t *w, struct iovec *iov,
    size_t n, kv_err_t *err);
static kv_rc_t kv_snapshot_sync(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_rc_t kv_snapshot_flush(kv_snapshot_writer_t *w, kv_err_t *err);
static kv_block_header_t *kv_snapshot_block(kv_snapshot_writer_t *w,
    size_t len, uint32_t count);
static kv_rc_t kv_snapshot_add_large(kv_snapshot_writer_t *w,
    const kv_record_t *rec, size_t size, kv_err_t *err);


kv_rc_t
kv_snapshot_begin(kv_io_t *io, int dirfd, const kv_snapshot_about_t *about,
    kv_snapshot_writer_t **wp, kv_err_t *err)
{
    kv_rc_t                rc;
    kv_snapshot_writer_t  *w;

    w = calloc(1, sizeof(kv_snapshot_writer_t));
    if (w == NULL) {
        kv_err_set(err, "no memory to write a snapshot");
        return KV_ERROR;
    }

    w->io = io;
    w->dirfd = dirfd;
    w->fd = -1;
    w->lsn = about->lsn;
    w->used = sizeof(kv_block_header_t);

    kv_snapshot_name(w->tmp, w->lsn, ".tmp");

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

    if (rc == KV_OK) {
        rc = kv_snapshot_create(w, err);
    }

    if (rc == KV_OK) {
        rc = kv_snapshot_write_header(w, about, err);
    }

    if (rc == KV_OK) {
        *wp = w;
        return KV_OK;
    }

failed:

    kv_snapshot_abort(w);

    return rc;
}


static kv_rc_t
kv_snapshot_write_header(kv_snapshot_writer_t *w,
    const kv_snapshot_about_t *about, kv_err_t *err)
{
    struct iovec          iov;
    kv_snapshot_header_t  h;

    memset(&h, 0, sizeof(h));

    memcpy(h.magic, KV_SNAPSHOT_MAGIC, sizeof(h.magic));
    h.version = KV_FORMAT_VERSION;
    h.lsn = w->lsn;
    h.salt = w->salt;
    memcpy(h.seed, about->seed, sizeof(h.seed));
    h.id = about->id;
    h.time_ms = about->time_ms;
    h.term = about->term;
    h.index = about->index;
    h.crc = kv_snapshot_crc(h);
    h.crc_all = kv_snapshot_crc_all(&h);

    iov.iov_base = &h;
    iov.iov_len = sizeof(h);

    return kv_snapshot_write(w, &iov, 1, err);
}


/*
 * Deletes snap-<lsn>.alone: people left it for another snapshot, which had this
 * LSN before the directory was given an older state.  Here it would make
 * recovery pass the log over.
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
 * Not with O_TRUNC: an existing file may be another user's.  If it cannot be
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

    assert(rec->op == KV_OP_PUT && (rec->flags & KV_RECORD_LSN));

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

    /* the file gets its name with all records in it, and all of it on disk */

    assert(w->count == 0 && w->used == sizeof(kv_block_header_t));
    assert(w->dirty == 0);

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

        /* a reader of the directory would take its name for durable */

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


/* Writes the block, if it has records, and begins the next. */

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

    assert(bytes <= KV_BLOCK_SIZE);

    h = kv_snapshot_block(w, bytes - sizeof(kv_block_header_t), w->count);
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


/*
 * Makes the header of the next block, with `len` bytes of records; its checksum
 * is that of the salt alone.  What kv_snapshot_read.c requires of a block
 * holds.
 */

static kv_block_header_t *
kv_snapshot_block(kv_snapshot_writer_t *w, size_t len, uint32_t count)
{
    kv_block_header_t  *h;

    assert(len > 0 && len % 8 == 0 && len <= UINT32_MAX);
    assert(count <= len / sizeof(kv_record_header_t));
    assert(count > 0 || len == sizeof(kv_snapshot_footer_t));
    assert(w->offset >= sizeof(kv_snapshot_header_t) && w->offset % 8 == 0);

    h = (kv_block_header_t *) w->block;

    h->magic = KV_BLOCK_MAGIC;
    h->len = (uint32_t) len;
    h->count = count;
    h->number = w->number;
    h->crc = kv_crc32c(0, &w->salt, sizeof(w->salt));

    return h;
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

    if (w->iov_max < n) {
        iov = realloc(w->iov, n * sizeof(struct iovec));
        if (iov == NULL) {
            kv_err_set(err, "no memory to write the snapshot \"%s\"",
                       w->tmp);
            return KV_ERROR;
        }

        w->iov = iov;
        w->iov_max = n;
    }

    head = kv_record_encode_head(rec, w->block + w->used);
    len = w->used + head;
    iov = w->iov;

    iov[0].iov_base = w->block;
    iov[0].iov_len = len;

    memcpy(&iov[1], rec->value, rec->value_n * sizeof(struct iovec));

    iov[n - 1].iov_base = (void *) zeroes;
    iov[n - 1].iov_len = size - head - rec->value_len;

    h = kv_snapshot_block(w, size, 1);
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
