
/*
 * Making a backup: what goes into it is read and checked once, so that damage
 * shows before the first byte is sent; then its bytes are given out one after
 * the other, as fast as the caller takes them.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot.h"
#include "disk/kv_wal_walk.h"


/* What is given out next. */

typedef enum {
    KV_BACKUP_AT_HEADER = 0,
    KV_BACKUP_AT_PART,                    /* its header, */
    KV_BACKUP_AT_BYTES,                   /* and what follows it */
    KV_BACKUP_AT_DIGEST,
    KV_BACKUP_AT_END
} kv_backup_at_t;


struct kv_backup_s {
    kv_io_t                  *io;
    int                       dirfd;
    const kv_backup_watch_t  *watch;
    kv_backup_header_t        header;
    uint64_t                  snapshot_bytes;
    uint64_t                  snapshot_end; /* its E */
    kv_backup_part_t         *part;       /* the end included */
    EVP_MD_CTX               *digest;

    kv_backup_at_t            at;
    uint32_t                  number;     /* of the part */
    int                       fd;         /* of its file, or -1 */
    uint64_t                  offset;     /* in it, or in what is below */
    uint8_t                   sum[KV_BACKUP_DIGEST];
};


static kv_rc_t kv_backup_try(kv_backup_t *b, uint64_t lsn, kv_err_t *err);
static kv_rc_t kv_backup_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_backup_plan(kv_backup_t *b, const kv_wal_walk_t *walk,
    kv_err_t *err);
static void kv_backup_add(kv_backup_t *b, kv_backup_kind_t kind, uint64_t lsn,
    uint64_t len);
static void kv_backup_copy(kv_backup_t *b, const void *from, size_t len,
    uint8_t **to, size_t *left);
static kv_rc_t kv_backup_bytes(kv_backup_t *b, uint8_t **to, size_t *left,
    kv_err_t *err);
static kv_rc_t kv_backup_open_part(kv_backup_t *b, kv_err_t *err);
static void kv_backup_advance(kv_backup_t *b);


kv_backup_t *
kv_backup_create(kv_io_t *io, int dirfd, const kv_backup_watch_t *watch)
{
    kv_backup_t  *b;

    b = calloc(1, sizeof(kv_backup_t));

    if (b == NULL) {
        return NULL;
    }

    b->io = io;
    b->dirfd = dirfd;
    b->watch = watch;
    b->fd = -1;
    b->digest = EVP_MD_CTX_new();

    if (b->digest == NULL
        || EVP_DigestInit_ex(b->digest, EVP_sha256(), NULL) != 1)
    {
        kv_backup_destroy(b);
        return NULL;
    }

    return b;
}


void
kv_backup_destroy(kv_backup_t *b)
{
    if (b->fd != -1) {
        (void) b->io->close(b->io, b->fd);
    }

    EVP_MD_CTX_free(b->digest);
    free(b->part);
    free(b);
}


kv_rc_t
kv_backup_snapshot(kv_backup_t *b, uint64_t *lsn, kv_err_t *err)
{
    kv_rc_t             rc;
    unsigned            i;
    kv_snapshot_list_t  list;

    *lsn = 0;

    rc = kv_snapshot_list(b->io, b->dirfd, &list, err);

    if (rc != KV_OK || list.n == 0) {
        return rc;
    }

    rc = KV_DAMAGED;

    for (i = 0; i < list.n && rc == KV_DAMAGED; i++) {
        *lsn = list.lsn[i];
        rc = kv_backup_try(b, list.lsn[i], err);
    }

    return rc;
}


static kv_rc_t
kv_backup_try(kv_backup_t *b, uint64_t lsn, kv_err_t *err)
{
    kv_rc_t              rc;
    kv_snapshot_guess_t  guess;

    rc = kv_snapshot_read(b->io, b->dirfd, lsn, kv_backup_record, b,
                          &b->snapshot_end, &b->snapshot_bytes, err);

    if (rc == KV_ERROR && kv_snapshot_lost(errno)) {
        return KV_DAMAGED;
    }

    if (rc != KV_OK) {
        return rc == KV_DECLINED ? KV_ERROR : rc;
    }

    kv_snapshot_guess(b->io, b->dirfd, lsn, &guess);

    b->header.id = guess.id;
    b->header.snapshot_lsn = lsn;

    return KV_OK;
}


/* Records are read for their checksums alone. */

static kv_rc_t
kv_backup_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_backup_t *b = ctx;

    (void) lsn;
    (void) rec;

    return b->watch == NULL || b->watch->step(b->watch->ctx, 0, 0)
           ? KV_OK : KV_CANCELLED;
}


kv_rc_t
kv_backup_log(kv_backup_t *b, uint64_t lsn, uint64_t time_ms, kv_err_t *err)
{
    kv_rc_t        rc;
    kv_wal_walk_t  walk;

    memset(&walk, 0, sizeof(walk));

    walk.io = b->io;
    walk.dirfd = b->dirfd;
    walk.after = b->header.snapshot_lsn;
    walk.upto = kv_max(lsn, walk.after);
    walk.id = b->header.id;
    walk.record = kv_backup_record;
    walk.ctx = b;

    if (walk.upto < b->snapshot_end) {
        kv_err_set(err, KV_SNAPSHOT_NAME ".kvs needs the log up to LSN %" PRIu64
                   ", which ends with %" PRIu64, walk.after, b->snapshot_end,
                   walk.upto);
        return KV_DAMAGED;
    }

    rc = kv_wal_walk(&walk, err);

    if (rc != KV_OK) {
        return rc;
    }

    memcpy(b->header.magic, KV_BACKUP_MAGIC, sizeof(b->header.magic));
    b->header.version = KV_BACKUP_VERSION;
    b->header.id = walk.id;
    b->header.lsn = walk.upto;
    b->header.time_ms = time_ms;

    rc = kv_backup_plan(b, &walk, err);

    free(walk.part);

    return rc;
}


/* Makes the list of parts, and the header. */

static kv_rc_t
kv_backup_plan(kv_backup_t *b, const kv_wal_walk_t *walk, kv_err_t *err)
{
    size_t               i;
    kv_backup_header_t  *h;

    h = &b->header;

    if (walk->n + 2 > KV_BACKUP_PARTS_MAX) {
        kv_err_set(err, "the log has %zu segments: take a snapshot first, or "
                   "make them larger (segment=)", walk->n);
        return KV_ERROR;
    }

    b->part = calloc(walk->n + 2, sizeof(kv_backup_part_t));

    if (b->part == NULL) {
        kv_err_set(err, "out of memory");
        return KV_AGAIN;
    }

    h->bytes = sizeof(*h);

    if (h->snapshot_lsn) {
        kv_backup_add(b, KV_BACKUP_SNAPSHOT, h->snapshot_lsn,
                      b->snapshot_bytes);
    }

    for (i = 0; i < walk->n; i++) {
        kv_backup_add(b, KV_BACKUP_SEGMENT, walk->part[i].lsn,
                      walk->part[i].bytes);
    }

    kv_backup_add(b, KV_BACKUP_END, h->lsn, KV_BACKUP_DIGEST);

    h->crc = kv_backup_header_crc(*h);

    return KV_OK;
}


static void
kv_backup_add(kv_backup_t *b, kv_backup_kind_t kind, uint64_t lsn,
    uint64_t len)
{
    kv_backup_part_t  *p;

    assert(len % 8 == 0);

    p = &b->part[b->header.parts++];

    p->magic = KV_BACKUP_PART_MAGIC;
    p->kind = kind;
    p->lsn = lsn;
    p->len = len;
    p->crc = kv_backup_part_crc(p);

    b->header.bytes += sizeof(*p) + len;
}


const kv_backup_header_t *
kv_backup_header(const kv_backup_t *b)
{
    return &b->header;
}


kv_rc_t
kv_backup_next(kv_backup_t *b, void *buf, size_t size, size_t *n,
    kv_err_t *err)
{
    size_t    left;
    kv_rc_t   rc;
    uint8_t  *to;

    assert(b->part && size > 0);

    to = buf;
    left = size;
    rc = KV_OK;

    while (left && rc == KV_OK && b->at != KV_BACKUP_AT_END) {

        switch (b->at) {

        case KV_BACKUP_AT_HEADER:
            kv_backup_copy(b, &b->header, sizeof(b->header), &to, &left);
            break;

        case KV_BACKUP_AT_PART:
            kv_backup_copy(b, &b->part[b->number], sizeof(kv_backup_part_t),
                           &to, &left);
            break;

        case KV_BACKUP_AT_BYTES:
            rc = kv_backup_bytes(b, &to, &left, err);
            break;

        default:
            kv_backup_copy(b, b->sum, sizeof(b->sum), &to, &left);
        }
    }

    *n = size - left;

    return rc == KV_OK && *n == 0 ? KV_DECLINED : rc;
}


/* Copies what is still to come of `from`; at its end, goes on. */

static void
kv_backup_copy(kv_backup_t *b, const void *from, size_t len, uint8_t **to,
    size_t *left)
{
    size_t  n;

    n = (size_t) kv_min((uint64_t) *left, len - b->offset);

    memcpy(*to, (const uint8_t *) from + b->offset, n);

    if (b->at != KV_BACKUP_AT_DIGEST) {
        (void) EVP_DigestUpdate(b->digest, *to, n);
    }

    *to += n;
    *left -= n;
    b->offset += n;

    if (b->offset == len) {
        kv_backup_advance(b);
    }
}


static kv_rc_t
kv_backup_bytes(kv_backup_t *b, uint8_t **to, size_t *left, kv_err_t *err)
{
    char                     name[KV_NAME_MAX];
    size_t                   n;
    ssize_t                  got;
    const kv_backup_part_t  *p;

    p = &b->part[b->number];

    if (b->fd == -1 && kv_backup_open_part(b, err) != KV_OK) {
        return KV_ERROR;
    }

    n = (size_t) kv_min((uint64_t) *left, p->len - b->offset);
    got = kv_io_read(b->io, b->fd, *to, n, (off_t) b->offset);

    if (got != (ssize_t) n) {
        kv_backup_name(name, p->kind, p->lsn);
        kv_err_set(err, "%s: offset %" PRIu64 ": %s", name, b->offset,
                   got == -1 ? strerror(errno)
                             : "the file became shorter while it was read");
        return got == -1 ? KV_ERROR : KV_DAMAGED;
    }

    (void) EVP_DigestUpdate(b->digest, *to, n);

    *to += n;
    *left -= n;
    b->offset += n;

    if (b->offset == p->len) {
        (void) b->io->close(b->io, b->fd);
        b->fd = -1;
        kv_backup_advance(b);
    }

    return KV_OK;
}


static kv_rc_t
kv_backup_open_part(kv_backup_t *b, kv_err_t *err)
{
    char  name[KV_NAME_MAX];

    kv_backup_name(name, b->part[b->number].kind, b->part[b->number].lsn);

    b->fd = b->io->open(b->io, b->dirfd, name, O_RDONLY);

    if (b->fd == -1) {
        kv_err_set(err, "%s: it cannot be opened: %s", name, strerror(errno));
        return KV_ERROR;
    }

    return KV_OK;
}


/* What was begun is given out. */

static void
kv_backup_advance(kv_backup_t *b)
{
    b->offset = 0;

    switch (b->at) {

    case KV_BACKUP_AT_HEADER:
        b->at = KV_BACKUP_AT_PART;
        break;

    case KV_BACKUP_AT_PART:
        b->at = KV_BACKUP_AT_BYTES;

        if (b->part[b->number].kind == KV_BACKUP_END) {
            (void) EVP_DigestFinal_ex(b->digest, b->sum, NULL);
            b->at = KV_BACKUP_AT_DIGEST;
        }

        break;

    case KV_BACKUP_AT_BYTES:
        b->number++;
        b->at = KV_BACKUP_AT_PART;
        break;

    default:
        b->at = KV_BACKUP_AT_END;
    }
}


uint64_t
kv_backup_needs(const kv_backup_t *b)
{
    const kv_backup_part_t  *p;

    if (b->part == NULL) {
        return 0;
    }

    p = &b->part[b->number];

    /* a segment may begin before S; at the end nothing is needed any more */

    return p->kind == KV_BACKUP_SEGMENT
           ? kv_max(p->lsn - 1, b->header.snapshot_lsn) : p->lsn;
}
