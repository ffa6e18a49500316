
/*
 * What the fuzz targets share; see fuzz.h.
 */


#include <ctype.h>

#include "fuzz.h"
#include "base/kv_crc32c.h"


#define FUZZ_ODD      0x80
#define FUZZ_LONG     0x40
#define FUZZ_EXPIRES  0x20
#define FUZZ_META     0x10


uint8_t
fuzz_u8(fuzz_feed_t *feed)
{
    return feed->p < feed->end ? *feed->p++ : 0;
}


uint16_t
fuzz_u16(fuzz_feed_t *feed)
{
    uint16_t  n;

    n = fuzz_u8(feed);

    return (uint16_t) (n << 8 | fuzz_u8(feed));
}


int
fuzz_drift(fuzz_feed_t *feed)
{
    return (int8_t) fuzz_u8(feed);
}


void
fuzz_bytes(fuzz_feed_t *feed, void *dst, size_t n)
{
    size_t  have;

    have = kv_min(n, (size_t) (feed->end - feed->p));

    if (have) {
        memcpy(dst, feed->p, have);
    }

    if (n > have) {
        memset((uint8_t *) dst + have, 0, n - have);
    }

    feed->p += have;
}


bool
fuzz_record(fuzz_feed_t *feed, uint64_t lsn, uint8_t *dst, size_t max,
    size_t *used, bool *odd)
{
    uint8_t              kind;
    size_t               n, head;
    kv_record_t          rec;
    kv_record_header_t   h;

    static const char  meta[] = "\003a/bgzip";

    kind = fuzz_u8(feed);

    memset(&h, 0, sizeof(h));

    if (kind & FUZZ_ODD) {
        fuzz_bytes(feed, &h, sizeof(h));
        *odd = true;

    } else {
        h.op = (uint8_t) (KV_OP_PUT + kind % 3);
        h.flags = lsn ? KV_RECORD_LSN : 0;

        if (kind & FUZZ_EXPIRES) {
            h.op = h.op == KV_OP_CLEAR ? KV_OP_TOUCH : h.op;
            h.flags |= KV_RECORD_EXPIRES;
        }

        if (h.op != KV_OP_CLEAR) {
            h.key_len = fuzz_u8(feed);
        }

        if (h.op == KV_OP_PUT) {
            h.value_len = kind & FUZZ_LONG ? fuzz_u16(feed) : fuzz_u8(feed);
            h.flags |= kind & FUZZ_META ? KV_RECORD_META : 0;
        }
    }

    /* what is odd about it may be its length: no more than the buffer has */

    memset(&rec, 0, sizeof(rec));
    rec.flags = h.flags;
    rec.key_len = h.key_len;
    rec.value_len = h.value_len;
    rec.meta_len = kind & (FUZZ_META|FUZZ_ODD) ? sizeof(meta) - 1 : 0;
    n = kv_min(kv_record_size(&rec), (size_t) 1 << 17);

    if (n > max - *used) {
        return false;
    }

    dst += *used;
    *used += n;

    memcpy(dst, &h, sizeof(h));
    memset(dst + sizeof(h), fuzz_u8(feed), n - sizeof(h));

    head = sizeof(h);

    if (h.flags & KV_RECORD_EXPIRES) {
        fuzz_bytes(feed, dst + head, 2);
        head += sizeof(uint64_t);
    }

    if ((h.flags & KV_RECORD_LSN) && n - head >= sizeof(lsn)) {
        memcpy(dst + head, &lsn, sizeof(lsn));
        head += sizeof(lsn);
    }

    if ((h.flags & KV_RECORD_META) && n - head > sizeof(meta)) {
        dst[head++] = sizeof(meta) - 1;
        memcpy(dst + head, meta, sizeof(meta) - 1);
        head += sizeof(meta) - 1;
    }

    head += h.key_len + (size_t) h.value_len;

    if (head < n) {
        memset(dst + head, 0, n - head);
    }

    if (kind & FUZZ_ODD) {
        dst[n - 1] = fuzz_u8(feed);
    }

    return true;
}


static uint64_t
fuzz_fold_bytes(uint64_t sum, const void *data, size_t n)
{
    return (sum ^ kv_crc32c((uint32_t) n, data, n)) * 0x9e3779b97f4a7c15u;
}


void
fuzz_fold(uint64_t *sum, uint64_t lsn, const kv_record_t *rec)
{
    size_t    i;
    uint64_t  n[6];

    n[0] = lsn;
    n[1] = rec->op;
    n[2] = rec->flags & ~KV_RECORD_LSN;        /* what version 1 has not */
    n[3] = rec->expires;
    n[4] = rec->key_len;
    n[5] = rec->value_len;

    *sum = fuzz_fold_bytes(*sum, n, sizeof(n));
    *sum = fuzz_fold_bytes(*sum, rec->key, rec->key_len);
    *sum = fuzz_fold_bytes(*sum, rec->meta, rec->meta_len);

    for (i = 0; i < rec->value_n; i++) {
        *sum = fuzz_fold_bytes(*sum, rec->value[i].iov_base,
                               rec->value[i].iov_len);
    }
}


bool
fuzz_says_where(const kv_err_t *err, const char *suffix)
{
    const char  *p;

    for (p = err->text; *p; p++) {
        if (!isprint((unsigned char) *p)) {
            return false;
        }
    }

    return strstr(err->text, suffix) && strstr(err->text, "offset ");
}
