
/*
 * Reading one segment back: its header, its batches, and what lies behind the
 * last good one.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_reader.h"


static kv_rc_t kv_wal_read_overlap(kv_wal_reader_t *r);
static kv_rc_t kv_wal_judge_kind(kv_wal_reader_t *r,
    const kv_segment_header_t *h);
static kv_rc_t kv_wal_judge_header(kv_wal_reader_t *r,
    const kv_segment_header_t *h, uint64_t size);
static bool kv_wal_more(const kv_wal_reader_t *r, uint64_t limit);
static kv_rc_t kv_wal_read_last(kv_wal_reader_t *r, uint64_t limit);
static kv_rc_t kv_wal_take_header(kv_wal_reader_t *r,
    const kv_batch_header_t *h, const uint8_t *data);
static size_t kv_wal_find_batch(const kv_wal_reader_t *r, const uint8_t *p,
    size_t n);
static kv_rc_t kv_wal_batch(kv_wal_reader_t *r, uint64_t offset,
    kv_batch_header_t *h, const uint8_t **records);


void
kv_wal_see_identity(kv_wal_reader_t *r, const kv_identity_t *id,
    const char *name, uint64_t offset)
{
    if (id->incarnation > r->id.incarnation) {
        r->id = *id;
        r->id_offset = offset;
        (void) strcpy(r->id_name, name);
    }
}


kv_rc_t
kv_wal_read_header(kv_wal_reader_t *r, uint64_t lsn)
{
    kv_rc_t              rc;
    uint8_t              buf[KV_SEGMENT_HEADER];
    uint64_t             size;
    kv_segment_header_t  h;

    if (r->fd != -1) {
        (void) r->wal->io->close(r->wal->io, r->fd);
    }

    (void) kv_wal_name(r->name, KV_WAL_SEGMENT, lsn);

    r->lsn = lsn;
    r->offset = 0;
    r->len = 0;
    r->fd = kv_wal_open(r->wal, lsn, buf, &size);

    if (r->fd == -1) {
        return kv_wal_unreadable(r, 0);
    }

    memcpy(&h, buf, sizeof(h));

    if (memcmp(h.magic, KV_SEGMENT_MAGIC, sizeof(h.magic)) != 0
        || h.crc != kv_wal_header_crc(buf))
    {
        return kv_wal_damaged(r, 0, lsn,
                              "the segment's header does not check out");
    }

    rc = kv_wal_judge_header(r, &h, size);

    if (rc != KV_OK) {
        return rc;
    }

    r->segment_size = h.size;
    r->size = kv_min(size, h.size);
    r->salt = h.salt;
    r->version = h.version;
    r->known &= h.kind == r->kind;
    r->kind = h.kind;
    r->upto = 0;
    r->durable_end = 0;
    kv_wal_see_identity(r, &h.id, r->name,
                        offsetof(kv_segment_header_t, id.incarnation));
    r->offset = KV_SEGMENT_HEADER;
    r->doubtful = KV_SEGMENT_HEADER;
    r->marked = false;

    return KV_OK;
}


/* Checks the fields of a good header; the file has `size` bytes. */

static kv_rc_t
kv_wal_judge_header(kv_wal_reader_t *r, const kv_segment_header_t *h,
    uint64_t size)
{
    kv_rc_t  rc;

    if (h->version < KV_FORMAT_OLDEST || h->version > KV_FORMAT_VERSION) {
        kv_err_set(r->err, "%s: offset %zu: format version %" PRIu32 ", of "
                   "which this module knows nothing (its own is %u); use the "
                   "version of the module that wrote it, or another "
                   "directory", r->name,
                   offsetof(kv_segment_header_t, version), h->version,
                   KV_FORMAT_VERSION);
        return KV_DAMAGED;
    }

    rc = kv_wal_judge_kind(r, h);

    if (rc != KV_OK) {
        return rc;
    }

    if (h->first_lsn != r->lsn) {
        return kv_wal_damaged(r, offsetof(kv_segment_header_t, first_lsn),
                              r->lsn, "the segment is misnamed, its first LSN "
                              "is %" PRIu64, h->first_lsn);
    }

    if (h->first_lsn > KV_LSN_MAX) {
        return kv_wal_damaged(r, offsetof(kv_segment_header_t, first_lsn),
                              r->lsn, "no LSN is that high");
    }

    if (kv_wal_foreign(&r->id, &h->id)) {
        kv_err_set(r->err, "%s: offset %zu: the segment and %s are of two "
                   "stores, and one of them was put here by mistake; restore "
                   "the data directory from a copy, or move the files of the "
                   "other store away", r->name,
                   offsetof(kv_segment_header_t, id), r->id_name);
        return KV_DAMAGED;
    }

    /* a huge file that was put there must not delay the start for days */

    if (h->size < KV_SEGMENT_HEADER || h->size > KV_SEGMENT_MAX) {
        return kv_wal_damaged(r, offsetof(kv_segment_header_t, size), r->lsn,
                              "no segment has %" PRIu64 " bytes", h->size);
    }

    if (size < KV_SEGMENT_HEADER) {
        return kv_wal_damaged(r, size, r->lsn, "the file ends here, but its "
                              "header says %" PRIu64, h->size);
    }

    if (size > h->size) {
        kv_wal_warn(r, "%s: offset %" PRIu64 ": the segment ends here, but "
                    "the file goes on for %" PRIu64 " bytes, which the log "
                    "did not write: they are ignored",
                    r->name, h->size, size - h->size);
    }

    return KV_OK;
}


static kv_rc_t
kv_wal_judge_kind(kv_wal_reader_t *r, const kv_segment_header_t *h)
{
    if (h->kind > KV_SEGMENT_RESTORED) {
        kv_err_set(r->err, "%s: offset %zu: kind %" PRIu32 ", of which this "
                   "version of the module knows nothing; use the version that "
                   "wrote it, or another directory", r->name,
                   offsetof(kv_segment_header_t, kind), h->kind);
        return KV_DAMAGED;
    }

    if (h->kind == KV_SEGMENT_REPLICATED && r->plain) {
        kv_err_set(r->err, "%s: offset %zu: the store is a member of a "
                   "cluster: give its kv_zone \"cluster=\" again, or restore a "
                   "backup of it, which makes a store that stands alone",
                   r->name, offsetof(kv_segment_header_t, kind));
        errno = EINVAL;
        return KV_ERROR;
    }

    if (r->kind == KV_SEGMENT_REPLICATED && h->kind != r->kind) {
        return kv_wal_damaged(r, offsetof(kv_segment_header_t, kind), r->lsn,
                              "the segment is of no replicated log, but the "
                              "one before is");
    }

    return KV_OK;
}


kv_rc_t
kv_wal_read_segment(kv_wal_reader_t *r, uint64_t limit)
{
    kv_rc_t  rc;

    if (r->kind != KV_SEGMENT_PLAIN && limit != UINT64_MAX) {
        r->upto = kv_wal_read_before(r, limit);
    }

    rc = kv_wal_read_batches(r, limit);

    return rc != KV_OK || limit == UINT64_MAX ? rc
                                              : kv_wal_read_last(r, limit);
}


kv_rc_t
kv_wal_read_batches(kv_wal_reader_t *r, uint64_t limit)
{
    kv_rc_t             rc;
    const uint8_t      *data;
    kv_batch_header_t   h;

    for ( ;; ) {
        rc = kv_wal_read_batch(r, limit, &h, &data);

        if (rc != KV_OK) {
            return rc == KV_DECLINED ? KV_OK : rc;
        }

        rc = r->from->committed && r->kind == KV_SEGMENT_REPLICATED
             ? kv_wal_hold(r, &h, data) : kv_wal_give(r, &h, data);

        if (rc != KV_OK) {
            return rc;
        }

        kv_wal_pass(r, &h);
    }
}


kv_rc_t
kv_wal_read_batch(kv_wal_reader_t *r, uint64_t limit, kv_batch_header_t *h,
    const uint8_t **data)
{
    kv_rc_t  rc;

    if (!kv_wal_more(r, limit)) {
        return KV_DECLINED;
    }

    rc = kv_wal_batch(r, r->offset, h, data);

    if (rc == KV_OK && h->first_lsn != r->expected) {
        rc = KV_NOT_FOUND;
    }

    if (rc == KV_NOT_FOUND) {
        rc = kv_wal_read_first(r);
        return rc == KV_OK ? KV_DECLINED : rc;
    }

    if (rc == KV_OK && r->stop && kv_wal_is_entry(h) && h->index >= r->stop) {
        return KV_DECLINED;
    }

    if (rc == KV_OK) {
        rc = kv_wal_take_header(r, h, *data);
    }

    if (rc != KV_OK) {
        return rc;
    }

    if (h->count == 0 && h->type == KV_ENTRY_NONE) {
        r->marked = true;
        return KV_DECLINED;
    }

    if (h->count > limit - r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "the batch goes "
                              "on to LSN %" PRIu64 ", but the next "
                              "segment starts with %" PRIu64,
                              r->expected + h->count - 1, limit);
    }

    return KV_OK;
}


void
kv_wal_pass(kv_wal_reader_t *r, const kv_batch_header_t *h)
{
    r->expected += h->count;
    r->offset += kv_wal_batch_header(r->version) + h->len;
}


/* Whether more is to be read of the segment, if it is there. */

static bool
kv_wal_more(const kv_wal_reader_t *r, uint64_t limit)
{
    /* behind the last record may be entries without an LSN */

    return r->upto ? r->offset < r->upto : r->expected < limit;
}


/* Takes what the header of the batch at r->offset says. */

static kv_rc_t
kv_wal_take_header(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data)
{
    size_t    place;
    uint64_t  writer;

    if (h->durable_lsn >= h->first_lsn) {
        return kv_wal_damaged(r, r->offset, r->expected, "the batch says "
                              "that LSN %" PRIu64 " was durable before "
                              "it, and begins with %" PRIu64,
                              h->durable_lsn, h->first_lsn);
    }

    writer = kv_wal_batch_incarnation(h, data, &place);

    if (writer > r->writer) {
        kv_wal_past_add(&r->past, r->writer, r->expected);
        r->writer = writer;
    }

    r->durable = kv_max(r->durable, h->durable_lsn);
    r->time_ms = kv_max(r->time_ms, h->time_ms);

    if (r->kind != KV_SEGMENT_PLAIN) {
        return kv_wal_read_entry(r, h, data);
    }

    if (h->durable_lsn + 1 == r->expected) {
        r->doubtful = r->offset;
    }

    return KV_OK;
}


/* After the last batch of a segment that others follow. */

static kv_rc_t
kv_wal_read_last(kv_wal_reader_t *r, uint64_t limit)
{
    if ((r->expected != limit || r->offset < r->upto)
        && r->size < r->segment_size)
    {
        return kv_wal_cut_short(r);
    }

    if (r->expected != limit) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch with "
                              "LSN %" PRIu64 " is here, and the next segment "
                              "starts with %" PRIu64, r->expected, limit);
    }

    if (r->upto && r->offset != r->upto) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch is "
                              "here, and the next segment says that this one "
                              "goes on to offset %" PRIu64, r->upto);
    }

    if (r->size < r->segment_size) {
        kv_wal_warn(r, "%s: offset %" PRIu64 ": the file ends here, but its "
                    "header says %" PRIu64 ": no batch is missing",
                    r->name, r->size, r->segment_size);
    }

    /* where the next one says where this one ends, that was checked */

    return r->upto ? KV_OK : kv_wal_read_overlap(r);
}


/*
 * The next segment starts with the LSN that comes next.  This one may also have
 * a batch with it, one that was never acknowledged; but if a later batch says
 * that it was durable, then one of the two segments is of another log.
 */

static kv_rc_t
kv_wal_read_overlap(kv_wal_reader_t *r)
{
    kv_rc_t   rc;
    uint64_t  lsn, durable;

    rc = kv_wal_peek(r, UINT64_MAX, &lsn, &durable);

    if (rc != KV_OK) {
        return rc;
    }

    if (durable < r->expected) {
        return KV_OK;
    }

    return kv_wal_damaged(r, r->offset, r->expected, "the segment goes on "
                          "here, to LSN %" PRIu64 " at least, but so does the "
                          "one that starts with %" PRIu64 ": one of them is "
                          "of another log", durable, r->expected);
}


kv_rc_t
kv_wal_peek(kv_wal_reader_t *r, uint64_t limit, uint64_t *lsn,
    uint64_t *durable)
{
    kv_rc_t             rc;
    uint64_t            offset;
    const uint8_t      *records;
    kv_batch_header_t   h;

    offset = r->offset;
    *lsn = r->expected;
    *durable = 0;

    for ( ;; ) {
        rc = kv_wal_batch(r, offset, &h, &records);

        if (rc != KV_OK) {
            return rc == KV_NOT_FOUND ? KV_OK : rc;
        }

        if (h.first_lsn != *lsn || h.count > limit - *lsn) {
            return KV_OK;
        }

        *durable = kv_max(*durable, h.durable_lsn);

        if (h.count == 0 && h.type == KV_ENTRY_NONE) {
            return KV_OK;
        }

        offset += kv_wal_batch_header(r->version) + h.len;
        *lsn += h.count;
    }
}


kv_rc_t
kv_wal_scan(kv_wal_reader_t *r)
{
    size_t              i, n, head;
    kv_rc_t             rc;
    uint64_t            offset;
    const uint8_t      *p;
    kv_batch_header_t   h;

    offset = r->offset;
    head = kv_wal_batch_header(r->version);

    while (r->size - offset >= head) {

        p = kv_wal_window(r, offset, head);

        if (p == NULL && r->marked) {

            /* so no batch that counts can be there */

            kv_wal_warn(r, "%s: offset %" PRIu64 ": reading the segment "
                        "failed: %s: the log ended before that, and goes on "
                        "in a new segment", r->name, offset, strerror(errno));
            r->behind = true;
            return KV_OK;
        }

        if (p == NULL) {
            return kv_wal_unreadable(r, offset);
        }

        n = r->len - (size_t) (offset - r->start) - head;
        i = kv_wal_find_batch(r, p, n);

        offset += i;

        if (i > n) {
            continue;
        }

        rc = kv_wal_batch(r, offset, &h, &p);

        if (rc == KV_NOT_FOUND) {
            offset += 8;
            continue;
        }

        if (rc != KV_OK) {
            return rc;
        }

        r->durable = kv_max(r->durable, h.durable_lsn);
        r->durable_end = kv_max(r->durable_end, h.durable_end);

        /* the mark at the very end is not behind it */

        if (offset != r->offset || h.count || h.first_lsn != r->expected) {
            r->behind = true;
        }

        offset += head + h.len;
    }

    return KV_OK;
}


/*
 * Returns the first offset from `p`, 0 to `n`, where magic and salt allow the
 * header of a batch; above `n`, if there is none.
 */

static size_t
kv_wal_find_batch(const kv_wal_reader_t *r, const uint8_t *p, size_t n)
{
    size_t    i;
    uint32_t  magic;
    uint64_t  salt;

    for (i = 0; i <= n; i += 8) {

        memcpy(&magic, p + i, sizeof(magic));

        if (kv_likely(magic != KV_BATCH_MAGIC)) {
            continue;
        }

        memcpy(&salt, p + i + offsetof(kv_batch_header_t, salt), sizeof(salt));

        if (salt == r->salt) {
            break;
        }
    }

    return i;
}


/*
 * Reads the batch at `offset`.  KV_OK with its header and a pointer to its
 * data; KV_NOT_FOUND if no good one is there; KV_DAMAGED, if it is good, but
 * may not be there, or KV_ERROR, r->err filled.
 */

static kv_rc_t
kv_wal_batch(kv_wal_reader_t *r, uint64_t offset, kv_batch_header_t *h,
    const uint8_t **records)
{
    size_t          head, place;
    kv_rc_t         rc;
    uint64_t        left;
    kv_identity_t   id;
    const uint8_t  *p;

    assert(offset % 8 == 0 && offset >= KV_SEGMENT_HEADER);
    assert(offset <= r->size);

    left = r->size - offset;
    head = kv_wal_batch_header(r->version);

    if (left < head) {
        return KV_NOT_FOUND;
    }

    p = kv_wal_window(r, offset, head);

    if (p == NULL) {
        return kv_wal_unreadable(r, offset);
    }

    memset(h, 0, sizeof(*h));
    memcpy(h, p, head);

    if (h->magic != KV_BATCH_MAGIC || h->salt != r->salt
        || h->len % 8 || h->len > left - head
        || h->count > h->len / sizeof(kv_record_header_t)
        || (h->count == 0 && h->len && h->type == KV_ENTRY_NONE)
        || h->first_lsn > KV_LSN_MAX
        || h->count > KV_LSN_MAX - h->first_lsn + 1)
    {
        return KV_NOT_FOUND;
    }

    p = kv_wal_window(r, offset, head + h->len);

    if (p == NULL) {
        return kv_wal_unreadable(r, offset);
    }

    if (h->crc != kv_crc32c(0, p + 8, head - 8 + h->len)) {
        return KV_NOT_FOUND;
    }

    rc = kv_wal_judge_entry(r, offset, h);

    if (rc != KV_OK) {
        return rc;
    }

    id = r->id;
    id.incarnation = kv_wal_batch_incarnation(h, p + head, &place);
    kv_wal_see_identity(r, &id, r->name, offset + place);

    *records = p + head;

    return KV_OK;
}


const uint8_t *
kv_wal_window(kv_wal_reader_t *r, uint64_t offset, size_t n)
{
    size_t    max, kept;
    ssize_t   rc;
    uint8_t  *buf;

    if (offset >= r->start && offset + n <= r->start + r->len) {
        return r->buf + (offset - r->start);
    }

    assert(offset + n <= r->size);

    kept = 0;

    if (offset >= r->start && offset < r->start + r->len) {
        kept = (size_t) (r->start + r->len - offset);
        memmove(r->buf, r->buf + (offset - r->start), kept);
    }

    r->start = offset;
    r->len = kept;

    max = (size_t) kv_min(r->size, (uint64_t) KV_WAL_WINDOW);
    max = kv_max(max, n);

    if (r->max < max) {
        buf = realloc(r->buf, max);

        if (buf == NULL) {
            errno = ENOMEM;
            return NULL;
        }

        r->buf = buf;
        r->max = max;
    }

    max = (size_t) kv_min((uint64_t) r->max, r->size - offset);

    rc = kv_io_read(r->wal->io, r->fd, r->buf + kept, max - kept,
                    (off_t) (offset + kept));

    if (rc == -1 && n < max) {

        /* the bytes that cannot be read may lie beyond the `n` needed */

        rc = kv_io_read(r->wal->io, r->fd, r->buf + kept, n - kept,
                        (off_t) (offset + kept));
    }

    if (rc == -1) {
        return NULL;
    }

    r->len += (size_t) rc;

    if (r->len < n) {
        errno = EIO;
        return NULL;
    }

    return r->buf;
}
