
/*
 * Records: operations as the log and snapshots hold them.
 */


#include <assert.h>

#include "disk/kv_record.h"


#define KV_RECORD_FLAGS                                                       \
    (KV_RECORD_EXPIRES | KV_RECORD_LSN | KV_RECORD_META)

/* those of format version 1 */
#define KV_RECORD_FLAGS_1 KV_RECORD_EXPIRES


static bool kv_record_allowed(const kv_record_header_t *h, uint32_t version);
static size_t kv_record_decode_options(const uint8_t *p, size_t n,
    kv_record_t *rec);


size_t
kv_record_size(const kv_record_t *rec)
{
    size_t  n;

    n = sizeof(kv_record_header_t) + rec->key_len + (size_t) rec->value_len;

    if (rec->flags & KV_RECORD_EXPIRES) {
        n += sizeof(uint64_t);
    }

    if (rec->flags & KV_RECORD_LSN) {
        n += sizeof(uint64_t);
    }

    if (rec->flags & KV_RECORD_META) {
        n += 1 + (size_t) rec->meta_len;
    }

    return kv_align(n, 8u);
}


size_t
kv_record_encode_head(const kv_record_t *rec, void *dst)
{
    uint8_t             *p;
    kv_record_header_t   h;

    assert((rec->flags & ~KV_RECORD_FLAGS) == 0);
    assert(!(rec->flags & KV_RECORD_META) || rec->meta_len);
    assert(rec->op == KV_OP_PUT || rec->value_len == 0);
    assert(rec->op != KV_OP_CLEAR || rec->key_len == 0);
    assert(rec->op != KV_OP_TOUCH || (rec->flags & KV_RECORD_EXPIRES));
    assert(rec->key_len <= KV_KEY_MAX && rec->value_len <= KV_VALUE_MAX);

    h.op = (uint8_t) rec->op;
    h.flags = rec->flags;
    h.key_len = rec->key_len;
    h.value_len = rec->value_len;

    p = dst;
    memcpy(p, &h, sizeof(h));
    p += sizeof(h);

    if (rec->flags & KV_RECORD_EXPIRES) {
        memcpy(p, &rec->expires, sizeof(uint64_t));
        p += sizeof(uint64_t);
    }

    if (rec->flags & KV_RECORD_LSN) {
        memcpy(p, &rec->lsn, sizeof(uint64_t));
        p += sizeof(uint64_t);
    }

    if (rec->flags & KV_RECORD_META) {
        *p++ = rec->meta_len;
        memcpy(p, rec->meta, rec->meta_len);
        p += rec->meta_len;
    }

    if (rec->key_len) {
        memcpy(p, rec->key, rec->key_len);
        p += rec->key_len;
    }

    return (size_t) (p - (uint8_t *) dst);
}


void
kv_record_encode(const kv_record_t *rec, void *dst)
{
    size_t    i, n, size;
    uint8_t  *p;

    size = kv_record_size(rec);
    n = kv_record_encode_head(rec, dst);
    p = dst;

    if (rec->value_len) {
        for (i = 0; i < rec->value_n; i++) {
            assert(rec->value[i].iov_len <= size - n);

            if (rec->value[i].iov_len) {
                memcpy(p + n, rec->value[i].iov_base, rec->value[i].iov_len);
                n += rec->value[i].iov_len;
            }
        }
    }

    assert(size - n < 8);

    memset(p + n, 0, size - n);
}


size_t
kv_record_decode(const void *src, size_t n, uint32_t version,
    kv_record_t *rec, struct iovec *value)
{
    size_t               head, size;
    const uint8_t       *p, *end;
    kv_record_header_t   h;

    if (n < sizeof(h)) {
        return 0;
    }

    p = src;
    memcpy(&h, p, sizeof(h));

    if (!kv_record_allowed(&h, version)) {
        return 0;
    }

    rec->op = h.op;
    rec->flags = h.flags;
    rec->key_len = h.key_len;
    rec->value_len = h.value_len;
    head = kv_record_decode_options(p, n, rec);

    size = head ? kv_record_size(rec) : SIZE_MAX;

    if (size > n) {
        return 0;
    }

    rec->key = p + head;
    head += h.key_len;

    value->iov_base = (void *) (p + head);
    value->iov_len = h.value_len;
    head += h.value_len;

    rec->value = value;
    rec->value_n = 1;

    end = p + size;

    for (p += head; p < end; p++) {
        if (*p != 0) {
            return 0;
        }
    }

    return size;
}


static bool
kv_record_allowed(const kv_record_header_t *h, uint32_t version)
{
    if (h->flags & ~(version == 1 ? KV_RECORD_FLAGS_1 : KV_RECORD_FLAGS)) {
        return false;
    }

    if (h->key_len > KV_KEY_MAX || h->value_len > KV_VALUE_MAX
        || (h->op != KV_OP_PUT && h->value_len))
    {
        return false;
    }

    switch (h->op) {

    case KV_OP_PUT:
        return true;

    case KV_OP_DELETE:
        return !(h->flags & KV_RECORD_META);

    case KV_OP_CLEAR:
        return h->key_len == 0
               && !(h->flags & (KV_RECORD_EXPIRES|KV_RECORD_META));

    case KV_OP_TOUCH:
        return version > 1 && (h->flags & KV_RECORD_EXPIRES)
               && !(h->flags & KV_RECORD_META);

    default:
        return false;
    }
}


const char *
kv_record_unknown(const kv_record_t *rec)
{
    kv_meta_t  meta;

    return (rec->flags & KV_RECORD_META)
           && !kv_meta_read(rec->meta, rec->meta_len, &meta)
           ? "unknown metadata" : NULL;
}


/*
 * What stands between a record's header and its key.  Returns the offset of the
 * key, or 0 if `n` bytes are too few for that.
 */

static size_t
kv_record_decode_options(const uint8_t *p, size_t n, kv_record_t *rec)
{
    size_t  head;

    rec->expires = 0;
    rec->lsn = 0;
    rec->meta = NULL;
    rec->meta_len = 0;

    if (kv_record_size(rec) > n) {
        return 0;
    }

    head = sizeof(kv_record_header_t);

    if (rec->flags & KV_RECORD_EXPIRES) {
        memcpy(&rec->expires, p + head, sizeof(uint64_t));
        head += sizeof(uint64_t);
    }

    if (rec->flags & KV_RECORD_LSN) {
        memcpy(&rec->lsn, p + head, sizeof(uint64_t));
        head += sizeof(uint64_t);
    }

    if (rec->flags & KV_RECORD_META) {
        rec->meta_len = p[head++];
        rec->meta = p + head;
        head += rec->meta_len;

        if (rec->meta_len == 0) {
            return 0;
        }
    }

    return head;
}
