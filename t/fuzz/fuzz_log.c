
/*
 * kv_wal_replay() on directories of segments.
 *
 * An input is a segment file as the store writes it, without the zeroes at
 * its end, or else describes a directory: segments, batches and marks, each
 * right or wrong in some way, raw bytes and changed ones between them.
 *
 * What must hold: a log that is accepted has its records in order, reads the
 * same again, and takes one more record that is then there too.  One that is
 * refused is left alone, for a reason that says where.  A described log with
 * nothing wrong in it is accepted, with all that was described; and no log
 * whose last segment has a good batch that says that more was durable.
 */


#include <inttypes.h>

#include "fuzz.h"
#include "base/kv_crc32c.h"
#include "disk/kv_wal.h"
#include "ram.h"


#define LOG_FILES    8
#define LOG_FILE     (192u << 10)      /* bytes */
#define LOG_BATCHES  256
#define LOG_SEGMENT  65536u            /* of those that are written */
#define LOG_BATCH    16384u            /* the same */
#define LOG_MAGIC    (sizeof(KV_SEGMENT_MAGIC) - 1)


typedef struct {
    char      name[KV_NAME_MAX];
    uint64_t  lsn;
    uint64_t  salt;
    size_t    end;                     /* of what was described */
    size_t    top;                     /* the same with a mark behind it */
    size_t    size;
    uint8_t   data[LOG_FILE];
} log_file_t;


typedef struct {
    log_file_t  *file;
    size_t       offset;
} log_batch_t;


/* A directory, and what is known of it. */

typedef struct {
    log_file_t   file[LOG_FILES];      /* segments */
    unsigned     n;
    log_file_t  *current;
    char         other[LOG_FILES][KV_NAME_MAX];   /* empty files */
    unsigned     others;
    log_batch_t  batch[LOG_BATCHES];
    unsigned     batches;

    bool         wrong;                /* something may be */
    uint64_t     first;                /* LSN */
    uint64_t     lsn;                  /* the next one */
    uint64_t     after;
    uint64_t     must_reach;
    uint64_t     sum;                  /* of the records after `after` */
} log_dir_t;


/* What a reading gave. */

typedef struct {
    kv_rc_t         rc;
    kv_err_t        err;
    kv_wal_state_t  state;
    uint64_t        next;              /* the LSN that has to come next */
    uint64_t        sum;
} log_reading_t;


static void log_raw(log_dir_t *dir, const uint8_t *data, size_t size);
static void log_describe(log_dir_t *dir, fuzz_feed_t *feed);
static void log_begin(log_dir_t *dir, fuzz_feed_t *feed);
static void log_end(log_dir_t *dir, fuzz_feed_t *feed);
static void log_batch(log_dir_t *dir, fuzz_feed_t *feed, bool mark);
static void log_spoil(kv_batch_header_t *h, fuzz_feed_t *feed, uint8_t flags);
static void log_bytes(log_dir_t *dir, fuzz_feed_t *feed);
static void log_stale(log_dir_t *dir, fuzz_feed_t *feed);
static void log_other(log_dir_t *dir, fuzz_feed_t *feed);
static uint32_t log_header_crc(const uint8_t *data);

static void log_check(log_dir_t *dir, ram_t *ram);
static void log_check_refused(log_dir_t *dir, ram_t *ram,
    const log_reading_t *r);
static void log_check_format(log_dir_t *dir, const log_reading_t *r);
static void log_fold(const uint8_t *p, const kv_batch_header_t *h,
    uint32_t version, uint64_t after, uint64_t *sum);
static void log_check_claims(const log_dir_t *dir, const log_reading_t *r);
static uint32_t log_gap(const log_dir_t *dir, const log_reading_t *r);
static void log_check_more(log_dir_t *dir, ram_t *ram,
    const log_reading_t *r);
static void log_read(log_dir_t *dir, ram_t *ram, log_reading_t *r);
static kv_rc_t log_record(void *ctx, uint64_t lsn, const kv_record_t *rec);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned      i;
    log_dir_t    *dir;
    fuzz_feed_t   feed;

    static ram_t      ram;
    static log_dir_t  log_dir;

    dir = &log_dir;
    dir->n = 0;
    dir->others = 0;
    dir->batches = 0;
    dir->wrong = false;
    dir->sum = 0;

    if (size >= sizeof(kv_segment_header_t)
        && memcmp(data, KV_SEGMENT_MAGIC, LOG_MAGIC) == 0)
    {
        log_raw(dir, data, size);

    } else {
        feed.p = data;
        feed.end = data + size;
        log_describe(dir, &feed);
    }

    ram_init(&ram);

    for (i = 0; i < dir->n; i++) {
        ram_borrow(&ram, dir->file[i].name, dir->file[i].data,
                   dir->file[i].size);
    }

    for (i = 0; i < dir->others; i++) {
        ram_borrow(&ram, dir->other[i], NULL, 0);
    }

    log_check(dir, &ram);
    ram_clear(&ram);

    return 0;
}


/* ---- making a directory */


static log_file_t *
log_add(log_dir_t *dir, uint64_t lsn)
{
    log_file_t  *f;

    f = &dir->file[dir->n++];

    (void) snprintf(f->name, sizeof(f->name), "log-%016" PRIx64 ".kvl", lsn);
    f->lsn = lsn;

    /* what the last input left would make this one another each time */

    memset(f->data, 0, LOG_FILE);

    return f;
}


static void
log_raw(log_dir_t *dir, const uint8_t *data, size_t size)
{
    log_file_t           *f;
    kv_segment_header_t   h;

    memcpy(&h, data, sizeof(h));

    f = log_add(dir, h.first_lsn);
    f->size = (size_t) kv_min(h.size, (uint64_t) LOG_FILE);

    size = kv_min(size, f->size);
    memcpy(f->data, data, size);

    dir->wrong = true;
    dir->after = h.first_lsn ? h.first_lsn - 1 : 0;
    dir->must_reach = 0;
}


static void
log_describe(log_dir_t *dir, fuzz_feed_t *feed)
{
    int  reach;

    dir->first = 1 + fuzz_u8(feed);
    dir->lsn = dir->first;

    dir->after = dir->first - 1 + fuzz_u8(feed) % 8;
    reach = (int) dir->after + fuzz_drift(feed);
    dir->must_reach = (uint64_t) kv_max(reach, 0);

    log_begin(dir, feed);

    while (feed->p < feed->end) {

        switch (fuzz_u8(feed) % 8) {

        case 0:
            if (dir->n < LOG_FILES) {
                log_end(dir, feed);
                log_begin(dir, feed);
            }
            break;

        case 1:
            log_batch(dir, feed, true);
            break;

        case 2:
            log_bytes(dir, feed);
            break;

        case 3:
            log_stale(dir, feed);
            break;

        case 4:
            log_other(dir, feed);
            break;

        default:
            log_batch(dir, feed, false);
            break;
        }
    }

    log_end(dir, feed);

    if (kv_max(dir->after, dir->must_reach) >= dir->lsn) {
        dir->wrong = true;
    }
}


static void
log_begin(log_dir_t *dir, fuzz_feed_t *feed)
{
    uint8_t      flags;
    unsigned     i;
    uint64_t     lsn;
    log_file_t  *f;

    flags = fuzz_u8(feed);
    lsn = dir->lsn;

    if (flags & 0x01) {
        lsn += (uint64_t) fuzz_drift(feed);
        dir->wrong = true;
    }

    if (flags & 0x02) {
        dir->lsn = lsn;
    }

    for (i = 0; i < dir->n; i++) {
        if (dir->file[i].lsn == lsn) {
            dir->wrong = true;
            return;
        }
    }

    f = log_add(dir, lsn);
    f->salt = 0x5bd1e995ca3f7a11u * dir->n;
    f->end = KV_SEGMENT_HEADER;
    f->top = KV_SEGMENT_HEADER;

    /* salts are random: no two segments have the same */

    if (flags & 0x04 && dir->n > 1) {
        f->salt = dir->current->salt;
        dir->wrong = true;
    }

    dir->current = f;
}


/* The segment gets its size, its header, and what is wrong with either. */

static void
log_end(log_dir_t *dir, fuzz_feed_t *feed)
{
    size_t                n;
    uint8_t               flags;
    log_file_t           *f;
    kv_segment_header_t   h;

    flags = fuzz_u8(feed);
    f = dir->current;

    f->size = kv_min(f->top + (size_t) 8 * (flags >> 4), LOG_FILE);
    memset(f->data + f->top, 0, f->size - f->top);

    memset(f->data, 0, KV_SEGMENT_HEADER);
    memset(&h, 0, sizeof(h));
    memcpy(h.magic, KV_SEGMENT_MAGIC, LOG_MAGIC);
    h.version = KV_FORMAT_VERSION;
    h.size = f->size;
    h.first_lsn = f->lsn;
    h.salt = f->salt;
    h.id.store[0] = 1;
    h.id.incarnation = 1;
    memcpy(f->data, &h, sizeof(h));

    h.crc = log_header_crc(f->data);
    memcpy(f->data, &h, sizeof(h));

    if (flags & 0x01) {
        n = fuzz_u16(feed) % KV_SEGMENT_HEADER;
        f->data[n] ^= fuzz_u8(feed);
        dir->wrong = true;
    }

    if (flags & 0x02) {
        h.crc = log_header_crc(f->data);
        memcpy(f->data + offsetof(kv_segment_header_t, crc), &h.crc, 4);
    }

    if (flags & 0x04) {
        n = fuzz_u16(feed);
        f->size -= kv_min(f->size, n);
        dir->wrong = true;
    }
}


static void
log_batch(log_dir_t *dir, fuzz_feed_t *feed, bool mark)
{
    size_t               end, torn;
    uint8_t              flags, late, *p;
    unsigned             i, n;
    log_file_t          *f;
    kv_batch_header_t    h;

    f = dir->current;
    flags = fuzz_u8(feed);
    late = fuzz_u8(feed) % 4;
    n = mark ? 0 : 1 + fuzz_u8(feed) % 8;

    if (LOG_FILE - f->end < sizeof(h) || dir->batches == LOG_BATCHES) {
        return;
    }

    p = f->data + f->end;
    end = f->end + sizeof(h);

    for (i = 0; i < n; i++) {
        if (!fuzz_record(feed, 0, f->data, LOG_FILE, &end, &dir->wrong)) {
            break;
        }
    }

    if (i == 0 && !mark) {
        return;
    }

    memset(&h, 0, sizeof(h));
    h.magic = KV_BATCH_MAGIC;
    h.len = (uint32_t) (end - f->end - sizeof(h));
    h.count = i;
    h.first_lsn = dir->lsn;
    h.durable_lsn = dir->lsn - 1;
    h.salt = f->salt;
    h.term = 1 + late;

    /* what came before need not be durable yet */

    h.durable_lsn -= kv_min((uint64_t) late, dir->lsn - dir->first);

    log_spoil(&h, feed, flags);
    memcpy(p, &h, sizeof(h));

    if (h.len <= LOG_FILE - f->end - sizeof(h)) {
        h.crc = kv_crc32c(0, p + 8, sizeof(h) - 8 + h.len);
    }

    if (flags & 0x20) {
        h.crc ^= fuzz_u8(feed);
    }

    memcpy(p, &h, sizeof(h));

    if (flags & 0x40) {
        torn = fuzz_u16(feed);
        torn = kv_min(torn, end - f->end);
        memset(f->data + end - torn, 0, torn);
    }

    dir->wrong |= (flags & 0x7f) != 0;

    dir->batch[dir->batches].file = f;
    dir->batch[dir->batches].offset = f->end;
    dir->batches++;

    f->top = kv_max(f->top, end);

    if (mark && !(flags & 0x80)) {
        /* what comes next is written over it */
        return;
    }

    dir->wrong |= mark;

    if (!dir->wrong) {
        log_fold(p + sizeof(h), &h, KV_FORMAT_VERSION, dir->after,
                 &dir->sum);
    }

    dir->lsn += i;
    f->end = end;
}


/* Makes wrong what the flags name, before the checksum is taken. */

static void
log_spoil(kv_batch_header_t *h, fuzz_feed_t *feed, uint8_t flags)
{
    if (flags & 0x01) {
        h->first_lsn += (uint64_t) fuzz_drift(feed);
    }

    if (flags & 0x02) {
        h->durable_lsn += (uint64_t) fuzz_drift(feed);
    }

    if (flags & 0x04) {
        h->count += (uint32_t) fuzz_drift(feed);
    }

    if (flags & 0x08) {
        h->len += (uint32_t) fuzz_drift(feed) * 8;
    }

    if (flags & 0x10) {
        h->salt ^= fuzz_u8(feed);
    }
}


static void
log_bytes(log_dir_t *dir, fuzz_feed_t *feed)
{
    size_t       n;
    uint8_t      flags;
    log_file_t  *f;

    f = dir->current;
    flags = fuzz_u8(feed);
    n = fuzz_u8(feed);
    dir->wrong = true;

    if (flags & 0x01) {
        f->data[fuzz_u16(feed) * 8u % f->end + flags / 32] ^= (uint8_t) n;
        return;
    }

    n = kv_min(n * 8, LOG_FILE - f->end);

    if (flags & 0x02) {
        memset(f->data + f->end, 0, n);

    } else {
        fuzz_bytes(feed, f->data + f->end, n);
    }

    f->end += n;
    f->top = kv_max(f->top, f->end);
}


/* What a recycled file held before: the same place of the one before. */

static void
log_stale(log_dir_t *dir, fuzz_feed_t *feed)
{
    size_t       n;
    log_file_t  *f, *old;

    f = dir->current;
    n = fuzz_u8(feed) * (size_t) 64;

    if (f == dir->file || f[-1].top <= f->end) {
        return;
    }

    old = f - 1;
    dir->wrong = true;

    n = kv_min(n, old->top - f->end);
    memcpy(f->data + f->end, old->data + f->end, n);
    f->end += n;
    f->top = kv_max(f->top, f->end);
}


/* Files that are no segments, though their names may look like it. */

static void
log_other(log_dir_t *dir, fuzz_feed_t *feed)
{
    char     *name;
    uint8_t   kind;
    unsigned  i;

    static const char  *formats[] = {
        "log-%016x.tmp", "spare-%u.kvl", "spare-%u.tmp", "log-%x.kvl",
        "log-%016X.kvl", "log-%016x.kvl~", "spare-%016x.kvl", "snap-%016x.tmp"
    };

    kind = fuzz_u8(feed);

    if (dir->others == LOG_FILES) {
        return;
    }

    name = dir->other[dir->others];

    (void) snprintf(name, KV_NAME_MAX, formats[kind % 8], fuzz_u16(feed));

    if (kind % 8 == 3 || kind % 8 == 4) {
        /* it may well be a segment's */
        dir->wrong = true;
    }

    if (kind & 0x80) {
        i = fuzz_u8(feed) % (unsigned) strlen(name);
        name[i] = (char) (1 + fuzz_u8(feed) % 255);
        dir->wrong = true;
    }

    for (i = 0; i < dir->n; i++) {
        if (strcmp(dir->file[i].name, name) == 0) {
            return;
        }
    }

    for (i = 0; i < dir->others; i++) {
        if (strcmp(dir->other[i], name) == 0) {
            return;
        }
    }

    dir->others++;
}


static uint32_t
log_header_crc(const uint8_t *data)
{
    uint8_t  header[KV_SEGMENT_HEADER];

    memcpy(header, data, sizeof(header));
    memset(header + offsetof(kv_segment_header_t, crc), 0, 4);

    return kv_crc32c(0, header, sizeof(header));
}


/* ---- what must hold */


static void
log_check(log_dir_t *dir, ram_t *ram)
{
    log_reading_t  first, second;

    log_read(dir, ram, &first);

    if (first.rc != KV_OK) {
        log_check_refused(dir, ram, &first);
        return;
    }

    fuzz_check(first.state.next_lsn == first.next);
    fuzz_check(first.state.durable_lsn == first.next - 1);
    fuzz_check(first.next > kv_max(dir->after, dir->must_reach));
    fuzz_check(first.state.offset <= first.state.segment_size);

    if (!dir->wrong) {
        fuzz_check(first.next == dir->lsn && first.sum == dir->sum);
    }

    log_check_format(dir, &first);
    log_check_claims(dir, &first);

    log_read(dir, ram, &second);
    fuzz_check(second.rc == KV_OK, "%s", second.err.text);
    fuzz_check(second.next == first.next && second.sum == first.sum);
    fuzz_check(second.state.segment_lsn == first.state.segment_lsn
               && second.state.offset == first.state.offset);

    log_check_more(dir, ram, &first);
}


static void
log_check_refused(log_dir_t *dir, ram_t *ram, const log_reading_t *r)
{
    log_reading_t  again;

    fuzz_check(r->rc == KV_DAMAGED, "%d: %s", r->rc, r->err.text);
    fuzz_check(dir->wrong, "%s", r->err.text);
    fuzz_check(ram->changes == 0);
    fuzz_check(fuzz_says_where(&r->err, ".kvl")
               || strncmp(r->err.text, "no log-*.kvl is there", 21) == 0,
               "%s", r->err.text);

    log_read(dir, ram, &again);
    fuzz_check(again.rc == r->rc && strcmp(again.err.text, r->err.text) == 0,
               "%s\n%s", r->err.text, again.err.text);
}


static uint32_t
log_version(const log_file_t *f)
{
    uint32_t  version;

    memcpy(&version, f->data + offsetof(kv_segment_header_t, version), 4);

    return version;
}


/* Bytes of a batch's header. */

static size_t
log_head(const log_file_t *f)
{
    return log_version(f) == 1 ? KV_BATCH_HEADER_1 : sizeof(kv_batch_header_t);
}


/* Whether a good batch is there, as kv_format.h has it. */

static bool
log_good(const log_file_t *f, size_t offset, kv_batch_header_t *h)
{
    size_t          head;
    uint64_t        salt;
    const uint8_t  *p;

    head = log_head(f);

    if (f->size < offset || f->size - offset < head) {
        return false;
    }

    p = f->data + offset;

    memset(h, 0, sizeof(*h));
    memcpy(h, p, head);
    memcpy(&salt, f->data + offsetof(kv_segment_header_t, salt), 8);

    return h->magic == KV_BATCH_MAGIC && h->salt == salt && h->len % 8 == 0
           && h->len <= f->size - offset - head
           && (h->count ? h->count <= h->len / 8 : h->len == 0)
           && h->first_lsn <= KV_LSN_MAX
           && h->count <= KV_LSN_MAX - h->first_lsn + 1
           && h->crc == kv_crc32c(0, p + 8, head - 8 + h->len);
}


/* LSNs begin with 1, and never come to their end. */

static bool
log_segment(const log_file_t *f)
{
    return f->lsn > 0 && f->lsn < UINT64_MAX;
}


/* The segment with the least LSN that is not below `lsn`, or NULL. */

static log_file_t *
log_next(log_dir_t *dir, uint64_t lsn)
{
    unsigned     i;
    log_file_t  *f, *next;

    next = NULL;

    for (i = 0; i < dir->n; i++) {
        f = &dir->file[i];

        if (log_segment(f) && f->lsn >= lsn && (!next || f->lsn < next->lsn)) {
            next = f;
        }
    }

    return next;
}


/* What was accepted is what good batches hold, one after the other. */

static void
log_check_format(log_dir_t *dir, const log_reading_t *r)
{
    size_t              at;
    uint64_t            expected, sum;
    log_file_t         *f, *next, *start;
    kv_batch_header_t   h;

    start = NULL;

    for (f = log_next(dir, 1); f && f->lsn - 1 <= dir->after;
         f = log_next(dir, f->lsn + 1))
    {
        start = f;
    }

    if (start == NULL) {
        fuzz_check(log_next(dir, 1) == NULL && r->next == dir->after + 1);
        return;
    }

    sum = 0;
    expected = start->lsn;

    for (f = start; f; f = next) {

        fuzz_check(f->lsn == expected);
        next = log_next(dir, f->lsn + 1);

        for (at = KV_SEGMENT_HEADER;
             (next == NULL || expected < next->lsn) && log_good(f, at, &h)
             && h.first_lsn == expected && h.count;
             at += log_head(f) + h.len)
        {
            log_fold(f->data + at + log_head(f), &h, log_version(f),
                     dir->after, &sum);
            expected += h.count;
        }
    }

    fuzz_check(r->next == expected && r->sum == sum);
}


static void
log_fold(const uint8_t *p, const kv_batch_header_t *h, uint32_t version,
    uint64_t after, uint64_t *sum)
{
    size_t        n;
    uint64_t      lsn;
    kv_record_t   rec;
    struct iovec  value;

    for (lsn = h->first_lsn; lsn < h->first_lsn + h->count; lsn++) {

        n = kv_record_decode(p, LOG_FILE, version, &rec, &value);
        fuzz_check(n);

        if (lsn > after) {
            fuzz_fold(sum, lsn, &rec);
        }

        p += n;
    }
}


/* The good batches of the last segment must have been believed. */

static void
log_check_claims(const log_dir_t *dir, const log_reading_t *r)
{
    unsigned            i;
    const log_batch_t  *b;
    kv_batch_header_t   h;

    for (i = 0; i < dir->batches; i++) {

        b = &dir->batch[i];

        if (log_segment(b->file) && b->file->lsn == r->state.segment_lsn
            && log_good(b->file, b->offset, &h))
        {
            fuzz_check(h.durable_lsn < r->next, "offset %zu of %s", b->offset,
                       b->file->name);
        }
    }
}


/*
 * The length of a value that fills the gap between the end of the log and what
 * lies behind it, if there is such a thing.
 */

static uint32_t
log_gap(const log_dir_t *dir, const log_reading_t *r)
{
    size_t              gap, least;
    unsigned            i;
    const log_batch_t  *b;

    /* a batch with a record that has a key of 4 bytes */

    least = sizeof(kv_batch_header_t) + sizeof(kv_record_header_t) + 4;

    for (i = 0; i < dir->batches; i++) {
        b = &dir->batch[i];
        gap = b->offset - r->state.offset;

        if (b->file->lsn == r->state.segment_lsn
            && b->offset > r->state.offset && gap > least && gap <= LOG_BATCH)
        {
            return (uint32_t) (gap - least);
        }
    }

    return 5;
}


/* The log goes on, and nothing that was behind its end comes back. */

static void
log_check_more(log_dir_t *dir, ram_t *ram, const log_reading_t *r)
{
    kv_err_t        err;
    kv_wal_t       *log;
    uint64_t        sum;
    unsigned        i;
    kv_record_t     rec;
    struct iovec    value;
    kv_wal_state_t  state;
    log_reading_t   more;

    static uint8_t  zeroes[LOG_BATCH];

    if (r->next > KV_LSN_MAX) {
        return;
    }

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_PUT;
    rec.key = "more";
    rec.key_len = 4;
    rec.value = &value;
    rec.value_n = 1;
    rec.value_len = log_gap(dir, r);
    value.iov_base = zeroes;
    value.iov_len = rec.value_len;

    state = r->state;
    log = kv_wal_create(&ram->io, 3, &state, LOG_SEGMENT, LOG_BATCH);
    fuzz_check(log);

    kv_wal_begin(log);
    fuzz_check(state.next_lsn == r->next);
    fuzz_check(kv_wal_add(log, &rec) == KV_OK);
    fuzz_check(kv_wal_write(log, &err) == KV_OK, "%s", err.text);
    fuzz_check(kv_wal_sync(log, &err) == KV_OK, "%s", err.text);

    sum = r->sum;
    fuzz_fold(&sum, r->next, &rec);

    /* a process that dies leaves no mark */

    for (i = 0; i < 2; i++) {
        log_read(dir, ram, &more);
        fuzz_check(more.rc == KV_OK, "%s", more.err.text);
        fuzz_check(more.next == r->next + 1 && more.sum == sum);

        (void) kv_wal_mark(log, &err);
    }

    kv_wal_destroy(log);
}


static void
log_warn(void *ctx, const char *text)
{
    (void) ctx;

    fuzz_check(text[0] && strchr(text, '\n') == NULL);
}


static void
log_read(log_dir_t *dir, ram_t *ram, log_reading_t *r)
{
    uint64_t          bytes;
    unsigned          i, fds;
    kv_wal_t         *log;
    kv_wal_replay_t   from;

    memset(r, 0, sizeof(*r));
    r->state.next_lsn = 1;
    r->next = dir->after + 1;

    ram->read = 0;
    fds = ram_open_fds(ram);

    log = kv_wal_create(&ram->io, 3, &r->state, LOG_SEGMENT, LOG_BATCH);
    fuzz_check(log);

    memset(&from, 0, sizeof(from));
    from.after = dir->after;
    from.must_reach = dir->must_reach;
    from.record = log_record;
    from.warn = log_warn;
    from.ctx = r;

    r->rc = kv_wal_replay(log, &from, &r->err);

    kv_wal_destroy(log);

    fuzz_check(ram_open_fds(ram) == fds);

    /* each byte is read, and what has to be written again once more */

    for (i = 0, bytes = 0; i < RAM_FILES; i++) {
        bytes += ram->file[i].size + KV_SEGMENT_HEADER;
    }

    fuzz_check(ram->read <= 2 * bytes);
}


static kv_rc_t
log_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    log_reading_t  *r = ctx;

    fuzz_check(lsn == r->next);
    fuzz_check(rec->op >= KV_OP_PUT && rec->op <= KV_OP_TOUCH);
    fuzz_check(rec->key_len <= KV_KEY_MAX && rec->value_len <= KV_VALUE_MAX);
    fuzz_check(rec->value_n == 1 && rec->value->iov_len == rec->value_len);

    r->next++;
    fuzz_fold(&r->sum, lsn, rec);

    return KV_OK;
}


/* ---- checksums of a raw segment, put right most of the time */


size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
    unsigned seed);


size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    uint32_t           crc;
    size_t             at;
    uint64_t           salt;
    kv_batch_header_t  h;

    size = LLVMFuzzerMutate(data, size, max);

    if (size < KV_SEGMENT_HEADER || seed % 8 == 0
        || memcmp(data, KV_SEGMENT_MAGIC, LOG_MAGIC) != 0)
    {
        return size;
    }

    crc = log_header_crc(data);
    memcpy(data + offsetof(kv_segment_header_t, crc), &crc, sizeof(crc));
    memcpy(&salt, data + offsetof(kv_segment_header_t, salt), sizeof(salt));

    for (at = KV_SEGMENT_HEADER; size - at >= sizeof(h); /* void */ ) {

        memcpy(&h, data + at, sizeof(h));

        if (h.magic != KV_BATCH_MAGIC || h.len > size - at - sizeof(h)) {
            at += 8;

            if (at > size) {
                break;
            }

            continue;
        }

        h.salt = salt;
        memcpy(data + at, &h, sizeof(h));
        h.crc = kv_crc32c(0, data + at + 8, sizeof(h) - 8 + h.len);
        memcpy(data + at, &h, sizeof(h));

        at += sizeof(h) + kv_align(h.len, 8u);

        if (at > size) {
            break;
        }
    }

    return size;
}
