
/*
 * kv_snapshot_read() on one file.
 *
 * An input is a snapshot as the store writes it, or else describes one:
 * blocks and a footer, each right or wrong in some way, raw bytes and changed
 * ones between them.
 *
 * What must hold: a snapshot that is accepted reads the same again, and so
 * does a copy of it that is written with what was read.  One that is refused
 * is so for a reason that says where.  A described one with nothing wrong in
 * it is accepted, with all that was described.
 */


#include <inttypes.h>

#include "fuzz.h"
#include "base/kv_crc32c.h"
#include "disk/kv_snapshot.h"
#include "ram.h"


#define SNAP_FILE   (256u << 10)       /* bytes */
#define SNAP_LSN    0x1234             /* of described ones */
#define SNAP_MAGIC  (sizeof(KV_SNAPSHOT_MAGIC) - 1)
#define SNAP_BLOCK  sizeof(kv_block_header_t)


/* A file, and what is known of it. */

typedef struct {
    char      name[KV_NAME_MAX];
    uint64_t  lsn;                     /* that it is named by */
    uint8_t   data[SNAP_FILE];
    size_t    size;
    uint64_t  salt;
    uint64_t  blocks;
    uint64_t  records;
    uint64_t  end_lsn;
    uint64_t  sum;
    bool      wrong;                   /* something may be */
} snap_t;


/* What a reading gave, and where the records go. */

typedef struct {
    kv_rc_t                rc;
    kv_err_t               err;
    uint64_t               records;
    uint64_t               sum;
    uint64_t               end_lsn;
    uint64_t               bytes;
    kv_snapshot_writer_t  *copy;
} snap_reading_t;


static void snap_raw(snap_t *s, const uint8_t *data, size_t size);
static void snap_describe(snap_t *s, fuzz_feed_t *feed);
static void snap_seal(kv_snapshot_header_t *h);
static void snap_header(snap_t *s, fuzz_feed_t *feed);
static void snap_block(snap_t *s, fuzz_feed_t *feed);
static void snap_footer(snap_t *s, fuzz_feed_t *feed);
static void snap_put_block(snap_t *s, fuzz_feed_t *feed, uint8_t flags,
    kv_block_header_t *h, size_t end);
static void snap_bytes(snap_t *s, fuzz_feed_t *feed);
static uint32_t snap_crc(uint64_t salt, const uint8_t *block, uint32_t len);

static void snap_check(snap_t *s, ram_t *ram);
static void snap_check_format(const snap_t *s, const snap_reading_t *r);
static void snap_check_copy(ram_t *ram, uint64_t lsn,
    const snap_reading_t *r);
static void snap_read(ram_t *ram, uint64_t lsn, snap_reading_t *r);
static kv_rc_t snap_record(void *ctx, uint64_t lsn, const kv_record_t *rec);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    snap_t       *s;
    fuzz_feed_t   feed;

    static ram_t   ram;
    static snap_t  snap;

    s = &snap;
    memset(s->data, 0, SNAP_FILE);
    s->size = 0;
    s->blocks = 0;
    s->records = 0;
    s->sum = 0;
    s->wrong = false;

    if (size >= sizeof(kv_snapshot_header_t)
        && memcmp(data, KV_SNAPSHOT_MAGIC, SNAP_MAGIC) == 0)
    {
        snap_raw(s, data, size);

    } else {
        feed.p = data;
        feed.end = data + size;
        snap_describe(s, &feed);
    }

    (void) snprintf(s->name, sizeof(s->name), "snap-%016" PRIx64 ".kvs",
                    s->lsn);

    ram_init(&ram);
    ram_borrow(&ram, s->name, s->data, s->size);

    snap_check(s, &ram);
    ram_clear(&ram);

    return 0;
}


/* ---- making a file */


static void
snap_raw(snap_t *s, const uint8_t *data, size_t size)
{
    kv_snapshot_header_t  h;

    memcpy(&h, data, sizeof(h));

    s->lsn = h.lsn;
    s->size = kv_min(size, SNAP_FILE);
    memcpy(s->data, data, s->size);
    s->wrong = true;
}


static void
snap_describe(snap_t *s, fuzz_feed_t *feed)
{
    size_t   n;
    uint8_t  flags;

    flags = fuzz_u8(feed);
    s->lsn = SNAP_LSN;

    snap_header(s, feed);

    while (feed->p < feed->end) {

        switch (fuzz_u8(feed) % 8) {

        case 0:
            snap_footer(s, feed);
            s->wrong = true;
            break;

        case 1:
            snap_bytes(s, feed);
            break;

        default:
            snap_block(s, feed);
            break;
        }
    }

    if (flags & 0x01) {
        s->wrong = true;

    } else {
        snap_footer(s, feed);
    }

    if (flags & 0x02) {
        n = fuzz_u16(feed);
        s->size -= kv_min(s->size, n);
        s->wrong = true;
    }
}


/* Makes the checksums of a header right. */

static void
snap_seal(kv_snapshot_header_t *h)
{
    h->crc = 0;
    h->crc = kv_crc32c(0, h, KV_SNAPSHOT_HEADER_1);
    h->crc_all = kv_crc32c(0, h, offsetof(kv_snapshot_header_t, crc_all));
}


static void
snap_header(snap_t *s, fuzz_feed_t *feed)
{
    uint8_t                flags;
    kv_snapshot_header_t   h;

    flags = fuzz_u8(feed);

    memset(&h, 0, sizeof(h));
    memcpy(h.magic, KV_SNAPSHOT_MAGIC, SNAP_MAGIC);
    h.version = KV_FORMAT_VERSION;
    h.lsn = SNAP_LSN;
    h.salt = 0x5bd1e995ca3f7a11u;
    h.id.store[0] = 1;
    h.id.incarnation = 1;

    if (flags & 0x01) {
        ((uint8_t *) &h)[fuzz_u8(feed) % sizeof(h)] ^= fuzz_u8(feed);
        s->wrong = true;
    }

    if (!(flags & 0x02)) {
        snap_seal(&h);

    } else {
        s->wrong = true;
    }

    memcpy(s->data, &h, sizeof(h));

    s->size = sizeof(h);
    s->salt = h.salt;
}


static void
snap_block(snap_t *s, fuzz_feed_t *feed)
{
    bool                odd;
    size_t              at, end;
    uint8_t             flags;
    unsigned            i, n;
    kv_record_t         rec;
    struct iovec        value;
    kv_block_header_t   h;

    flags = fuzz_u8(feed);
    n = 1 + fuzz_u8(feed) % 8;

    if (SNAP_FILE - s->size < SNAP_BLOCK) {
        return;
    }

    odd = s->wrong;
    end = s->size + SNAP_BLOCK;

    for (i = 0; i < n; i++) {
        at = end;

        if (!fuzz_record(feed, 1 + i, s->data, SNAP_FILE, &end, &odd)) {
            break;
        }

        if (s->data[at] != KV_OP_PUT) {
            odd = true;
        }

        if (!odd) {
            (void) kv_record_decode(s->data + at, end - at,
                                    KV_FORMAT_VERSION, &rec, &value);
            fuzz_fold(&s->sum, 0, &rec);
        }
    }

    if (i == 0) {
        return;
    }

    s->wrong = odd;
    s->records += i;

    memset(&h, 0, sizeof(h));
    h.count = i;

    snap_put_block(s, feed, flags, &h, end);
}


static void
snap_footer(snap_t *s, fuzz_feed_t *feed)
{
    uint8_t                flags;
    kv_block_header_t      h;
    kv_snapshot_footer_t   f;

    flags = fuzz_u8(feed);
    s->end_lsn = SNAP_LSN + fuzz_u16(feed);

    if (SNAP_FILE - s->size < SNAP_BLOCK + sizeof(f)) {
        s->wrong = true;
        return;
    }

    memset(&h, 0, sizeof(h));
    memset(&f, 0, sizeof(f));

    f.end_lsn = s->end_lsn;
    f.records = s->records;

    if (flags & 0x40) {
        ((uint8_t *) &f)[fuzz_u8(feed) % sizeof(f)] ^= fuzz_u8(feed);
        s->wrong = true;
    }

    memcpy(s->data + s->size + SNAP_BLOCK, &f, sizeof(f));

    snap_put_block(s, feed, flags & ~0x40, &h,
                   s->size + SNAP_BLOCK + sizeof(f));
}


/* Records or a footer are in place up to `end`: now the header before them. */

static void
snap_put_block(snap_t *s, fuzz_feed_t *feed, uint8_t flags,
    kv_block_header_t *h, size_t end)
{
    size_t    torn;
    uint8_t  *p;

    p = s->data + s->size;

    h->magic = KV_BLOCK_MAGIC;
    h->len = (uint32_t) (end - s->size - SNAP_BLOCK);
    h->number = s->blocks++;

    if (flags & 0x01) {
        h->number += (uint64_t) fuzz_drift(feed);
    }

    if (flags & 0x02) {
        h->count += (uint32_t) fuzz_drift(feed);
    }

    if (flags & 0x04) {
        h->len += (uint32_t) fuzz_drift(feed) * 8;
    }

    if (flags & 0x08) {
        ((uint8_t *) h)[fuzz_u8(feed) % SNAP_BLOCK] ^= fuzz_u8(feed);
    }

    memcpy(p, h, SNAP_BLOCK);

    if (h->len <= SNAP_FILE - s->size - SNAP_BLOCK) {
        h->crc = snap_crc(s->salt, p, h->len);
    }

    if (flags & 0x10) {
        h->crc ^= fuzz_u8(feed);
    }

    memcpy(p, h, SNAP_BLOCK);

    if (flags & 0x20) {
        torn = fuzz_u16(feed);
        torn = kv_min(torn, end - s->size);
        memset(s->data + end - torn, 0, torn);
    }

    s->wrong |= (flags & 0x3f) != 0;
    s->size = end;
}


static void
snap_bytes(snap_t *s, fuzz_feed_t *feed)
{
    size_t   n;
    uint8_t  flags;

    flags = fuzz_u8(feed);
    n = fuzz_u8(feed);
    s->wrong = true;

    if (flags & 0x01) {
        s->data[fuzz_u16(feed) % s->size] ^= (uint8_t) n;
        return;
    }

    n = kv_min(n, SNAP_FILE - s->size);
    fuzz_bytes(feed, s->data + s->size, n);
    s->size += n;
}


static uint32_t
snap_crc(uint64_t salt, const uint8_t *block, uint32_t len)
{
    uint32_t  crc;

    crc = kv_crc32c(0, &salt, sizeof(salt));

    return kv_crc32c(crc, block + 8, SNAP_BLOCK - 8 + len);
}


/* ---- what must hold */


static void
snap_check(snap_t *s, ram_t *ram)
{
    snap_reading_t  first, second;

    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));

    snap_read(ram, s->lsn, &first);

    fuzz_check(ram->read <= s->size);

    snap_read(ram, s->lsn, &second);

    fuzz_check(first.rc == second.rc && first.records == second.records
               && first.sum == second.sum && ram->changes == 0);

    if (first.rc != KV_OK) {
        fuzz_check((first.rc == KV_DAMAGED || first.rc == KV_DECLINED)
                   && s->wrong, "%d: %s", first.rc, first.err.text);
        fuzz_check(fuzz_says_where(&first.err, s->name)
                   && strcmp(first.err.text, second.err.text) == 0, "%s",
                   first.err.text);
        return;
    }

    fuzz_check((first.bytes == s->size
                || (first.bytes < s->size && s->wrong))
               && first.end_lsn >= s->lsn && first.end_lsn == second.end_lsn);

    snap_check_format(s, &first);

    if (!s->wrong) {
        fuzz_check(first.records == s->records && first.sum == s->sum
                   && first.end_lsn == s->end_lsn);
    }

    fuzz_check(first.end_lsn <= KV_LSN_MAX);

    if (first.end_lsn < KV_LSN_MAX) {
        snap_check_copy(ram, s->lsn, &first);
    }
}


/* It is, block by block, what kv_format.h says. */

static void
snap_check_format(const snap_t *s, const snap_reading_t *r)
{
    size_t                at;
    uint32_t              version;
    uint64_t              salt, number, records;
    kv_block_header_t     h;
    kv_snapshot_footer_t  f;

    memcpy(&salt, s->data + offsetof(kv_snapshot_header_t, salt), 8);

    memcpy(&version, s->data + offsetof(kv_snapshot_header_t, version), 4);

    at = version == 1 ? KV_SNAPSHOT_HEADER_1 : sizeof(kv_snapshot_header_t);
    records = 0;

    for (number = 0; /* void */ ; number++) {

        memcpy(&h, s->data + at, SNAP_BLOCK);

        fuzz_check(h.magic == KV_BLOCK_MAGIC && h.number == number);
        fuzz_check(h.len <= s->size - at - SNAP_BLOCK);
        fuzz_check(h.crc == snap_crc(salt, s->data + at, h.len));

        if (h.count == 0) {
            break;
        }

        records += h.count;
        at += SNAP_BLOCK + h.len;
    }

    memcpy(&f, s->data + at + SNAP_BLOCK, sizeof(f));

    fuzz_check(h.len == sizeof(f) && at + SNAP_BLOCK + h.len == r->bytes);
    fuzz_check(f.records == records && records == r->records);
    fuzz_check(f.end_lsn == r->end_lsn && f.zero == 0);
}


static void
snap_check_copy(ram_t *ram, uint64_t lsn, const snap_reading_t *r)
{
    uint64_t             bytes;
    snap_reading_t       source, copy;
    kv_snapshot_list_t   list;
    kv_snapshot_about_t  about;

    memset(&source, 0, sizeof(source));
    memset(&copy, 0, sizeof(copy));
    memset(&about, 0, sizeof(about));
    about.lsn = lsn + 1;
    about.time_ms = 1;

    fuzz_check(kv_snapshot_begin(&ram->io, 3, &about, &source.copy,
                                 &source.err)
               == KV_OK, "%s", source.err.text);

    snap_read(ram, lsn, &source);
    fuzz_check(source.rc == KV_OK, "%s", source.err.text);

    fuzz_check(kv_snapshot_finish(source.copy, r->end_lsn + 1, &bytes,
                                  &source.err)
               == KV_OK, "%s", source.err.text);

    fuzz_check(kv_snapshot_list(&ram->io, 3, &list, &source.err) == KV_OK
               && list.n == 2 && list.lsn[0] == lsn + 1);

    snap_read(ram, lsn + 1, &copy);
    fuzz_check(copy.rc == KV_OK, "%s", copy.err.text);
    fuzz_check(copy.records == r->records && copy.sum == r->sum
               && copy.end_lsn == r->end_lsn + 1 && copy.bytes == bytes);
}


static void
snap_read(ram_t *ram, uint64_t lsn, snap_reading_t *r)
{
    ram->read = 0;

    r->rc = kv_snapshot_read(&ram->io, 3, lsn, snap_record, r, &r->end_lsn,
                             &r->bytes, &r->err);

    fuzz_check(ram_open_fds(ram) == (r->copy != NULL));
}


static kv_rc_t
snap_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_record_t      copy;
    snap_reading_t  *r = ctx;

    fuzz_check(lsn == 0 && rec->op == KV_OP_PUT);
    fuzz_check(rec->key_len <= KV_KEY_MAX && rec->value_len <= KV_VALUE_MAX);
    fuzz_check(rec->value_n == 1 && rec->value->iov_len == rec->value_len);

    r->records++;
    fuzz_fold(&r->sum, 0, rec);

    if (r->copy == NULL) {
        return KV_OK;
    }

    copy = *rec;
    copy.flags |= KV_RECORD_LSN;

    return kv_snapshot_add(r->copy, &copy, &r->err);
}


/* ---- checksums of a raw snapshot, put right most of the time */


size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
    unsigned seed);


size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size_t                at;
    uint64_t              number;
    kv_block_header_t     b;
    kv_snapshot_header_t  h;

    size = LLVMFuzzerMutate(data, size, max);

    if (size < sizeof(h) || seed % 8 == 0
        || memcmp(data, KV_SNAPSHOT_MAGIC, SNAP_MAGIC) != 0)
    {
        return size;
    }

    memcpy(&h, data, sizeof(h));
    at = h.version == 1 ? KV_SNAPSHOT_HEADER_1 : sizeof(h);

    snap_seal(&h);
    memcpy(data, &h, at);

    for (number = 0; size - at >= SNAP_BLOCK; number++) {

        memcpy(&b, data + at, sizeof(b));

        if (b.magic != KV_BLOCK_MAGIC || b.len > size - at - SNAP_BLOCK) {
            break;
        }

        b.number = number;
        memcpy(data + at, &b, sizeof(b));
        b.crc = snap_crc(h.salt, data + at, b.len);
        memcpy(data + at, &b, sizeof(b));

        at += SNAP_BLOCK + b.len;
    }

    return size;
}
