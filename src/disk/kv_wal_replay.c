
/*
 * The log's reading half.  What ends a segment, what ends the log and what is
 * damage is said in kv_format.h, "Reading the log back".
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


#define KV_WAL_WINDOW  (1u << 20)
#define KV_WAL_WAY     480            /* bytes of a way out, in words */


typedef struct {
    kv_wal_t               *wal;
    const kv_wal_replay_t  *from;
    kv_err_t               *err;

    uint64_t        last;            /* first LSN of the last segment */
    uint64_t        expected;        /* the LSN that comes next */
    uint64_t        durable;         /* the highest said to be durable */
    bool            marked;          /* there is a mark at the end, or the
                                        log was closed there */
    kv_closed_t     closed;          /* lsn 0: it was not */
    bool            behind;          /* nothing may be written after the end */

    /* the segment being read */
    int             fd;              /* -1: none */
    char            name[KV_NAME_MAX];
    uint64_t        lsn;
    uint64_t        segment_size;    /* what its header says, */
    uint64_t        size;            /* and how much of that there is */
    uint64_t        salt;
    uint64_t        offset;          /* of the batch that comes next */
    uint64_t        doubtful;        /* batches from here on may not be on
                                        disk, whatever reading them says */

    /* the part of it that is in memory */
    uint8_t        *buf;
    size_t          max;
    uint64_t        start;           /* its offset in the file */
    size_t          len;
} kv_wal_reader_t;


static kv_rc_t kv_wal_read_all(kv_wal_reader_t *r,
    const kv_wal_name_t *names, size_t n);
static void kv_wal_find_closed(kv_wal_reader_t *r, const kv_wal_name_t *names,
    size_t n);
static kv_rc_t kv_wal_read_none(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_header(kv_wal_reader_t *r, uint64_t lsn);
static kv_rc_t kv_wal_read_segment(kv_wal_reader_t *r, uint64_t limit);
static kv_rc_t kv_wal_read_overlap(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_end(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_short(kv_wal_reader_t *r);
static kv_rc_t kv_wal_cut_short(kv_wal_reader_t *r);
static kv_rc_t kv_wal_scan(kv_wal_reader_t *r);
static kv_rc_t kv_wal_batch(kv_wal_reader_t *r, uint64_t offset,
    kv_batch_header_t *h, const uint8_t **records);
static kv_rc_t kv_wal_deliver(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *records);
static const uint8_t *kv_wal_window(kv_wal_reader_t *r, uint64_t offset,
    size_t n);

static kv_rc_t kv_wal_read_done(kv_wal_reader_t *r,
    const kv_wal_name_t *names, size_t n);
static kv_rc_t kv_wal_rewrite(kv_wal_reader_t *r);

static void kv_wal_warn(kv_wal_reader_t *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static kv_rc_t kv_wal_damaged(kv_wal_reader_t *r, uint64_t offset,
    uint64_t lsn, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static kv_rc_t kv_wal_unreadable(kv_wal_reader_t *r, uint64_t offset);
static kv_rc_t kv_wal_failed(kv_wal_reader_t *r, const char *what);
static void kv_wal_way_out(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn,
    char *way, size_t size);
static void kv_wal_given_up(kv_wal_reader_t *r, uint64_t lsn, char *buf,
    size_t size);


kv_rc_t
kv_wal_replay(kv_wal_t *wal, const kv_wal_replay_t *from, kv_err_t *err)
{
    size_t           n;
    kv_rc_t          rc;
    kv_wal_name_t   *names;
    kv_wal_reader_t  r;

    assert(from->after < UINT64_MAX);

    kv_wal_close(wal);

    memset(&r, 0, sizeof(r));

    r.wal = wal;
    r.from = from;
    r.err = err;
    r.fd = -1;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        kv_err_set(err, "the data directory cannot be listed: %s; see to its "
                   "permissions and the disk", strerror(errno));
        return rc;
    }

    rc = kv_wal_read_all(&r, names, n);

    if (rc == KV_OK) {
        rc = kv_wal_read_done(&r, names, n);
    }

    if (r.fd != -1) {
        (void) wal->io->close(wal->io, r.fd);
    }

    free(r.buf);
    free(names);

    return rc;
}


static kv_rc_t
kv_wal_read_all(kv_wal_reader_t *r, const kv_wal_name_t *names, size_t n)
{
    size_t    i, segments;
    kv_rc_t   rc;
    uint64_t  limit, after;

    after = r->from->after;

    kv_wal_find_closed(r, names, n);

    for (segments = 0; segments < n; segments++) {
        if (names[segments].kind != KV_WAL_SEGMENT) {
            break;
        }
    }

    if (segments == 0) {
        return kv_wal_read_none(r);
    }

    r->last = names[segments - 1].number;

    if (names[0].number - 1 > after) {
        (void) kv_wal_name(r->name, KV_WAL_SEGMENT, names[0].number);

        return kv_wal_damaged(r, 0, after + 1, "the log starts with LSN %"
                              PRIu64 ", but %" PRIu64 " is needed",
                              names[0].number, after + 1);
    }

    for (i = segments - 1; names[i].number - 1 > after; i--) {
        /* void */
    }

    r->expected = names[i].number;

    for ( /* void */ ; i < segments; i++) {

        rc = kv_wal_read_header(r, names[i].number);

        if (rc != KV_OK) {
            return rc;
        }

        limit = i + 1 < segments ? names[i + 1].number : UINT64_MAX;

        rc = kv_wal_read_segment(r, limit);

        if (rc != KV_OK) {
            return rc;
        }
    }

    return kv_wal_read_end(r);
}


/* How far the log went, if it was closed; an old note tells less, not wrong. */

static void
kv_wal_find_closed(kv_wal_reader_t *r, const kv_wal_name_t *names, size_t n)
{
    char          name[KV_NAME_MAX];
    size_t        i;
    kv_rc_t       rc;
    kv_closed_t   closed;

    for (i = 0; i < n; i++) {

        if (names[i].kind != KV_WAL_CLOSED) {
            continue;
        }

        rc = kv_wal_read_closed(r->wal, names[i].number, &closed);

        if (rc == KV_OK) {
            r->closed = closed;
            r->durable = closed.lsn;
            continue;
        }

        kv_wal_warn(r, "%s: %s: what it says of the log's end is not known",
                    kv_wal_name(name, KV_WAL_CLOSED, names[i].number),
                    rc == KV_ERROR ? strerror(errno) : "it is damaged");
    }
}


static kv_rc_t
kv_wal_read_none(kv_wal_reader_t *r)
{
    char      way[KV_WAL_WAY], name[KV_NAME_MAX];
    uint64_t  needed;

    needed = kv_max(r->from->must_reach, r->from->newer);

    r->expected = r->from->after + 1;

    if (kv_max(needed, r->closed.lsn) < r->expected) {
        return KV_OK;
    }

    kv_wal_way_out(r, 0, r->expected, way, sizeof(way));

    if (r->closed.lsn > needed) {
        kv_err_set(r->err, "no log-*.kvl is there, but %s says that there was "
                   "one up to LSN %" PRIu64 "%s",
                   kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                   r->closed.lsn, way);
        return KV_DAMAGED;
    }

    kv_err_set(r->err, "no log-*.kvl is there, but " KV_SNAPSHOT_NAME ".kvs "
               "needs the log up to LSN %" PRIu64 "%s",
               r->from->newer ? r->from->newer : r->from->after, needed, way);

    return KV_DAMAGED;
}


static kv_rc_t
kv_wal_read_header(kv_wal_reader_t *r, uint64_t lsn)
{
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

    if (h.version != KV_FORMAT_VERSION) {
        kv_err_set(r->err, "%s: offset %zu: format version %" PRIu32 ", of "
                   "which this module knows nothing (its own is %u); use the "
                   "version of the module that wrote it, or another "
                   "directory", r->name,
                   offsetof(kv_segment_header_t, version), h.version,
                   KV_FORMAT_VERSION);
        return KV_DAMAGED;
    }

    if (h.first_lsn != lsn) {
        return kv_wal_damaged(r, offsetof(kv_segment_header_t, first_lsn),
                              lsn, "the segment is misnamed, its first LSN is "
                              "%" PRIu64, h.first_lsn);
    }

    /* whoever puts files there must not keep the start reading for days */

    if (h.size > KV_SEGMENT_MAX) {
        return kv_wal_damaged(r, offsetof(kv_segment_header_t, size), lsn,
                              "no segment has %" PRIu64 " bytes", h.size);
    }

    if (size < KV_SEGMENT_HEADER) {
        return kv_wal_damaged(r, size, lsn, "the file ends here, but its "
                              "header says %" PRIu64, h.size);
    }

    if (size > h.size) {
        kv_wal_warn(r, "%s: offset %" PRIu64 ": the segment ends here, but "
                    "the file goes on for %" PRIu64 " bytes, which the log "
                    "did not write: they are ignored",
                    r->name, h.size, size - h.size);
    }

    r->segment_size = h.size;
    r->size = kv_min(size, h.size);
    r->salt = h.salt;
    r->offset = KV_SEGMENT_HEADER;
    r->doubtful = KV_SEGMENT_HEADER;
    r->marked = false;

    return KV_OK;
}


/* Reads on to the LSN `limit`, which the next segment starts with. */

static kv_rc_t
kv_wal_read_segment(kv_wal_reader_t *r, uint64_t limit)
{
    kv_rc_t             rc;
    const uint8_t      *records;
    kv_batch_header_t   h;

    while (r->expected < limit) {

        rc = kv_wal_batch(r, r->offset, &h, &records);

        if (rc == KV_NOT_FOUND) {
            break;
        }

        if (rc != KV_OK) {
            return rc;
        }

        if (h.first_lsn != r->expected) {
            break;
        }

        r->durable = kv_max(r->durable, h.durable_lsn);

        if (h.durable_lsn + 1 == r->expected) {
            r->doubtful = r->offset;
        }

        if (h.count == 0) {
            r->marked = true;
            break;
        }

        if (h.count > limit - r->expected) {
            return kv_wal_damaged(r, r->offset, r->expected, "the batch goes "
                                  "on to LSN %" PRIu64 ", but the next "
                                  "segment starts with %" PRIu64,
                                  r->expected + h.count - 1, limit);
        }

        rc = kv_wal_deliver(r, &h, records);

        if (rc != KV_OK) {
            return rc;
        }

        r->offset += sizeof(h) + h.len;
    }

    if (limit == UINT64_MAX) {
        return KV_OK;
    }

    if (r->expected != limit && r->size < r->segment_size) {
        return kv_wal_cut_short(r);
    }

    if (r->expected != limit) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch with "
                              "LSN %" PRIu64 " is here, and the next segment "
                              "starts with %" PRIu64, r->expected, limit);
    }

    if (r->size < r->segment_size) {
        kv_wal_warn(r, "%s: offset %" PRIu64 ": the file ends here, but its "
                    "header says %" PRIu64 ": no batch is missing",
                    r->name, r->size, r->segment_size);
    }

    return kv_wal_read_overlap(r);
}


/*
 * The next segment starts with the LSN that comes next.  A batch with it may
 * be here as well, one that was never acknowledged; but if a later one says
 * that it was durable, then one of the two segments is not of this log.
 */

static kv_rc_t
kv_wal_read_overlap(kv_wal_reader_t *r)
{
    kv_rc_t             rc;
    uint64_t            offset, lsn, durable;
    const uint8_t      *records;
    kv_batch_header_t   h;

    offset = r->offset;
    lsn = r->expected;
    durable = 0;

    for ( ;; ) {
        rc = kv_wal_batch(r, offset, &h, &records);

        if (rc == KV_ERROR) {
            return rc;
        }

        if (rc == KV_NOT_FOUND || h.first_lsn != lsn) {
            break;
        }

        durable = kv_max(durable, h.durable_lsn);

        if (h.count == 0) {
            break;
        }

        offset += sizeof(h) + h.len;
        lsn += h.count;
    }

    if (durable < r->expected) {
        return KV_OK;
    }

    return kv_wal_damaged(r, r->offset, r->expected, "the segment goes on "
                          "here, to LSN %" PRIu64 " at least, but so does the "
                          "one that starts with %" PRIu64 ": one of them is "
                          "of another log", durable, r->expected);
}


/* The last segment was read: is this the end, or was there more? */

static kv_rc_t
kv_wal_read_end(kv_wal_reader_t *r)
{
    char      name[KV_NAME_MAX];
    kv_rc_t   rc;
    uint64_t  needed;

    if (r->closed.lsn == r->expected - 1 && r->closed.segment_lsn == r->lsn
        && r->closed.segment_salt == r->salt && r->closed.offset == r->offset)
    {
        r->marked = true;
    }

    if (r->closed.lsn && r->closed.lsn < r->expected - 1) {
        kv_wal_warn(r, "%s: it says that the log was closed there, but it goes "
                    "on to LSN %" PRIu64 ", which is used: if a copy was "
                    "restored, it was not into an empty directory",
                    kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                    r->expected - 1);
    }

    rc = kv_wal_scan(r);

    if (rc != KV_OK) {
        return rc;
    }

    needed = kv_max(r->from->must_reach, r->from->after);

    if (r->size < r->segment_size) {
        return r->marked && kv_max(needed, kv_max(r->durable, r->from->newer))
                            < r->expected
               ? kv_wal_read_short(r) : kv_wal_cut_short(r);
    }

    if (r->closed.lsn >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch with "
                              "LSN %" PRIu64 " is here, and %s says that the "
                              "log was closed with %" PRIu64, r->expected,
                              kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                              r->closed.lsn);
    }

    if (r->durable >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch with "
                              "LSN %" PRIu64 " is here, and a later one says "
                              "that %" PRIu64 " was durable",
                              r->expected, r->durable);
    }

    if (needed >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "the log ends before "
                              "LSN %" PRIu64 ", but " KV_SNAPSHOT_NAME ".kvs "
                              "needs it up to %" PRIu64,
                              r->expected, r->from->after, needed);
    }

    if (r->from->newer >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "the log ends before "
                              "LSN %" PRIu64 ", but " KV_SNAPSHOT_NAME ".kvs, "
                              "which is damaged, was made at %" PRIu64,
                              r->expected, r->from->newer, r->from->newer);
    }

    return KV_OK;
}


/*
 * Bytes of the last segment are gone, but the mark at the end says that none
 * of them was in use.
 */

static kv_rc_t
kv_wal_read_short(kv_wal_reader_t *r)
{
    kv_wal_warn(r, "%s: offset %" PRIu64 ": the file ends here, but its header "
                "says %" PRIu64 ": the log ended before that, and goes on in "
                "a new segment", r->name, r->size, r->segment_size);

    r->behind = true;

    return KV_OK;
}


static kv_rc_t
kv_wal_cut_short(kv_wal_reader_t *r)
{
    return kv_wal_damaged(r, r->size, r->expected, "the file ends here, but "
                          "its header says %" PRIu64 ", and LSN %" PRIu64 " "
                          "may have been in what is gone",
                          r->segment_size, r->expected);
}


/*
 * Looks for good batches behind the end.  The salt, which no value can hold,
 * refuses everything else at the cost of a comparison.
 */

static kv_rc_t
kv_wal_scan(kv_wal_reader_t *r)
{
    size_t              i, n;
    kv_rc_t             rc;
    uint64_t            offset, salt;
    uint32_t            magic;
    const uint8_t      *p;
    kv_batch_header_t   h;

    offset = r->offset;

    while (r->size - offset >= sizeof(h)) {

        p = kv_wal_window(r, offset, sizeof(h));

        if (p == NULL && r->marked) {

            /* so nothing that counts can be there */

            kv_wal_warn(r, "%s: offset %" PRIu64 ": reading the segment "
                        "failed: %s: the log ended before that, and goes on "
                        "in a new segment", r->name, offset, strerror(errno));
            r->behind = true;
            return KV_OK;
        }

        if (p == NULL) {
            return kv_wal_unreadable(r, offset);
        }

        n = r->len - (size_t) (offset - r->start) - sizeof(h);

        for (i = 0; i <= n; i += 8) {

            memcpy(&magic, p + i, sizeof(magic));

            if (kv_likely(magic != KV_BATCH_MAGIC)) {
                continue;
            }

            memcpy(&salt, p + i + offsetof(kv_batch_header_t, salt),
                   sizeof(salt));

            if (salt == r->salt) {
                break;
            }
        }

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

        /* the mark at the very end is not behind it */

        if (offset != r->offset || h.count || h.first_lsn != r->expected) {
            r->behind = true;
        }

        offset += sizeof(h) + h.len;
    }

    return KV_OK;
}


/*
 * Reads the batch at `offset`.  KV_OK with its header and a pointer to its
 * records, KV_NOT_FOUND if no good one is there, or KV_ERROR, reported.
 */

static kv_rc_t
kv_wal_batch(kv_wal_reader_t *r, uint64_t offset, kv_batch_header_t *h,
    const uint8_t **records)
{
    uint64_t        room;
    const uint8_t  *p;

    room = r->size - offset;

    if (room < sizeof(*h)) {
        return KV_NOT_FOUND;
    }

    p = kv_wal_window(r, offset, sizeof(*h));

    if (p == NULL) {
        return kv_wal_unreadable(r, offset);
    }

    memcpy(h, p, sizeof(*h));

    if (h->magic != KV_BATCH_MAGIC || h->salt != r->salt
        || h->len % 8 || h->len > room - sizeof(*h)
        || h->count > h->len / sizeof(kv_record_header_t)
        || (h->count == 0 && h->len)
        || h->first_lsn + h->count < h->first_lsn)
    {
        return KV_NOT_FOUND;
    }

    p = kv_wal_window(r, offset, sizeof(*h) + h->len);

    if (p == NULL) {
        return kv_wal_unreadable(r, offset);
    }

    if (h->crc != kv_crc32c(0, p + 8, sizeof(*h) - 8 + h->len)) {
        return KV_NOT_FOUND;
    }

    *records = p + sizeof(*h);

    return KV_OK;
}


static kv_rc_t
kv_wal_deliver(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *records)
{
    size_t        n, size;
    kv_rc_t       rc;
    uint64_t      lsn, end;
    kv_record_t   rec;
    struct iovec  value;

    n = h->len;
    end = h->first_lsn + h->count;

    for (lsn = h->first_lsn; lsn < end; lsn++) {

        size = kv_record_decode(records, n, &rec, &value);

        if (size == 0) {
            break;
        }

        if (lsn > r->from->after) {
            rc = r->from->record(r->from->ctx, lsn, &rec);

            if (rc != KV_OK) {
                return rc;
            }
        }

        records += size;
        n -= size;
    }

    if (lsn < end || n > 0) {
        return kv_wal_damaged(r, r->offset + sizeof(*h) + h->len - n,
                              h->first_lsn, "the batch is as it was written, "
                              "but this is no record of format version %u",
                              KV_FORMAT_VERSION);
    }

    r->expected = end;

    return KV_OK;
}


/*
 * A pointer to `n` bytes of the segment from `offset` on, all of them inside
 * it, valid until the next call; or NULL with errno set.  Reads ahead by the
 * window, and takes a larger buffer only for a batch that does not fit it.
 */

static const uint8_t *
kv_wal_window(kv_wal_reader_t *r, uint64_t offset, size_t n)
{
    size_t    max, kept;
    ssize_t   rc;
    uint8_t  *buf;

    if (offset >= r->start && offset + n <= r->start + r->len) {
        return r->buf + (offset - r->start);
    }

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

        /* what cannot be read may lie beyond what is asked for */

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


/*
 * All is read, and good.  Before anything is made visible it has to be
 * durable, which the last process may not have got to: the end of the last
 * segment, and that segment's name.
 */

static kv_rc_t
kv_wal_read_done(kv_wal_reader_t *r, const kv_wal_name_t *names, size_t n)
{
    char               name[KV_NAME_MAX];
    size_t             i;
    kv_rc_t            rc;
    bool               full;
    uint32_t           closed;
    uint64_t           segments, known;
    kv_wal_t          *wal;
    kv_wal_position_t  to;

    wal = r->wal;

    memset(&to, 0, sizeof(to));

    full = false;

    if (r->fd != -1) {
        rc = kv_wal_rewrite(r);

        if (rc == KV_NO_SPACE) {
            full = true;
            r->behind = true;

        } else if (rc != KV_OK) {
            return rc;
        }

        to.segment_lsn = r->lsn;
        to.segment_salt = r->salt;
        to.segment_size = r->segment_size;
        to.offset = r->behind ? r->segment_size : r->offset;
    }

    segments = 0;
    closed = 0;

    for (i = 0; i < n; i++) {
        switch (names[i].kind) {

        case KV_WAL_SEGMENT:
            segments++;
            break;

        case KV_WAL_CLOSED:
            closed = 1;
            break;

        case KV_WAL_SEGMENT_TMP:
        case KV_WAL_SPARE_TMP:
            (void) wal->io->unlink(wal->io, wal->dirfd,
                                   kv_wal_name(name, names[i].kind,
                                               names[i].number));
            break;

        default:
            break;
        }
    }

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        kv_err_set(r->err, "the data directory cannot be synced: %s; see to "
                   "the disk", strerror(errno));
        return KV_ERROR;
    }

    to.next_lsn = r->expected;

    kv_wal_move(wal->state, &to);

    wal->state->durable_lsn = r->expected - 1;
    wal->state->segments = segments;
    wal->state->closed = closed;
    wal->state->rewrite_end = 0;

    known = kv_max(r->durable, r->from->after);

    if (full && known < r->expected - 1) {
        wal->state->durable_lsn = known;
        wal->state->rewrite = r->doubtful;
        wal->state->rewrite_end = r->offset;
    }

    return KV_OK;
}


/*
 * After a failed sync the system may hold in memory, and give to whoever
 * reads, what never reached the disk, and the next sync says nothing of it.
 * So what nobody says was durable is written once more, then synced.  For want
 * of room (KV_NO_SPACE) it is only synced, which does unless a sync has failed
 * before, and the first sync of the log writes it.
 */

static kv_rc_t
kv_wal_rewrite(kv_wal_reader_t *r)
{
    size_t          n;
    kv_rc_t         rc;
    uint64_t        offset;
    const uint8_t  *p;

    rc = KV_OK;

    for (offset = r->doubtful; offset < r->offset; offset += n) {

        n = (size_t) kv_min(r->offset - offset, (uint64_t) KV_WAL_WINDOW);
        p = kv_wal_window(r, offset, n);

        if (p == NULL) {
            return kv_wal_failed(r, "reading");
        }

        rc = kv_io_write(r->wal->io, r->fd, p, n, (off_t) offset);

        if (rc == KV_NO_SPACE) {
            break;
        }

        if (rc != KV_OK) {
            return kv_wal_failed(r, "writing");
        }
    }

    if (kv_io_sync(r->wal->io, r->fd) != KV_OK) {
        return kv_wal_failed(r, "syncing");
    }

    return rc;
}


static void
kv_wal_warn(kv_wal_reader_t *r, const char *fmt, ...)
{
    va_list   args;
    kv_err_t  text;

    if (r->from->warn == NULL) {
        return;
    }

    va_start(args, fmt);
    (void) vsnprintf(text.text, sizeof(text.text), fmt, args);
    va_end(args);

    r->from->warn(r->from->ctx, text.text);
}


/*
 * Says what is wrong at `offset` of the segment, and which way out is open.
 * `lsn` is the first that is gone.
 */

static kv_rc_t
kv_wal_damaged(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn,
    const char *fmt, ...)
{
    char     what[256], way[KV_WAL_WAY];
    va_list  args;

    va_start(args, fmt);
    (void) vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);

    kv_wal_way_out(r, offset, lsn, way, sizeof(way));

    kv_err_set(r->err, "%s: offset %" PRIu64 ": %s%s", r->name, offset, what,
               way);

    return KV_DAMAGED;
}


/* The same of what the disk, or the system, does not give. */

static kv_rc_t
kv_wal_unreadable(kv_wal_reader_t *r, uint64_t offset)
{
    int   saved;
    char  way[KV_WAL_WAY];

    saved = errno;

    kv_wal_way_out(r, offset, kv_max(r->expected, r->lsn), way, sizeof(way));

    kv_err_set(r->err, "%s: offset %" PRIu64 ": reading the segment failed: "
               "%s; see to its permissions and the disk%s%s", r->name, offset,
               strerror(saved), saved == EIO ? ", and if that does not help"
                                             : "",
               saved == EIO ? way : "");

    errno = saved;

    return KV_ERROR;
}


static kv_rc_t
kv_wal_failed(kv_wal_reader_t *r, const char *what)
{
    int  saved;

    saved = errno;

    kv_err_set(r->err, "%s: offset %" PRIu64 ": %s the segment failed: %s; "
               "see to its permissions and the disk", r->name, r->offset,
               what, strerror(saved));

    errno = saved;

    return KV_ERROR;
}


/*
 * Nothing at or behind `offset` of the segment can be used, and LSN `lsn` is
 * the first that is gone.  What still gives all before it, or, where the
 * snapshot needs more of the log than that, the snapshot alone; and what is
 * given up by that.  Nothing is to be deleted: a better tool may come.
 */

static void
kv_wal_way_out(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn, char *way,
    size_t size)
{
    char                    lost[160], newer[80], logs[120], run[200];
    char                    closed[KV_NAME_MAX];
    size_t                  n;
    uint64_t                after, end;
    const kv_wal_replay_t  *from;

    from = r->from;
    after = from->after;
    end = kv_max(after, from->must_reach);

    newer[0] = '\0';
    run[0] = '\0';

    (void) strcpy(logs, "every log-*");

    if (r->lsn && lsn > end) {

        kv_wal_given_up(r, lsn, lost, sizeof(lost));

        if (offset < KV_SEGMENT_HEADER) {
            (void) strcpy(logs, r->lsn == r->last
                                ? "this file" : "this file and all segments "
                                                "after it");

        } else {
            (void) strcpy(logs, r->lsn == r->last
                                ? "" : "all segments after it");
            (void) snprintf(run, sizeof(run), "\"truncate -s %" PRIu64 " %s "
                            "&& truncate -s %" PRIu64 " %s\"", r->offset,
                            r->name, r->segment_size, r->name);
        }

    } else if (end > after) {
        (void) snprintf(lost, sizeof(lost), "what " KV_SNAPSHOT_NAME ".kvs has "
                        "not seen of the writes after LSN %" PRIu64 " (it has "
                        "seen some of those up to %" PRIu64 ")", after, after,
                        end);
        (void) snprintf(run, sizeof(run), "\"touch " KV_SNAPSHOT_NAME
                        ".alone\"", after);

    } else {
        kv_wal_given_up(r, after + 1, lost, sizeof(lost));
    }

    if (logs[0] != 'e' && r->closed.lsn >= lsn) {
        (void) kv_wal_name(closed, KV_WAL_CLOSED, r->closed.lsn);
        n = strlen(logs);
        (void) snprintf(logs + n, sizeof(logs) - n, "%s%s", n ? " and " : "",
                        closed);
    }

    if (from->newer >= lsn) {
        (void) snprintf(newer, sizeof(newer), after ? "every snap-*.kvs newer "
                        "than " KV_SNAPSHOT_NAME ".kvs" : "every snap-*.kvs",
                        after);
    }

    (void) snprintf(way, size, "; restore the data directory from a copy, or, "
                    "with a copy of it made and giving up %s, %s%s%s%s%s%s%s%s",
                    lost, logs[0] || newer[0] ? "move " : "", logs,
                    logs[0] && newer[0] ? " and " : "", newer,
                    logs[0] || newer[0] ? " away" : "",
                    (logs[0] || newer[0]) && run[0] ? " and " : "",
                    run[0] ? "run " : "", run);
}


/* In words: the writes from `lsn` on, and how many there are, if known. */

static void
kv_wal_given_up(kv_wal_reader_t *r, uint64_t lsn, char *buf, size_t size)
{
    uint64_t  known;

    known = kv_max(r->durable, kv_max(r->from->must_reach, r->from->newer));

    if (r->last) {
        known = kv_max(known, r->last - 1);
    }

    if (known >= lsn) {
        (void) snprintf(buf, size, "every write from LSN %" PRIu64 " on, at "
                        "least %" PRIu64 " of them", lsn, known - lsn + 1);

    } else {
        (void) snprintf(buf, size, "every write from LSN %" PRIu64 " on", lsn);
    }
}
