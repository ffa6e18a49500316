
/*
 * Records: operations as the log and snapshots hold them.
 */


#include <assert.h>

#include "disk/kv_record.h"


size_t
kv_record_size(const kv_record_t *rec)
{
    size_t  n;

    n = sizeof(kv_record_header_t) + rec->key_len + (size_t) rec->value_len;

    if (rec->flags & KV_RECORD_EXPIRES) {
        n += sizeof(uint64_t);
    }

    return kv_align(n, 8u);
}


size_t
kv_record_encode_head(const kv_record_t *rec, void *dst)
{
    uint8_t             *p;
    kv_record_header_t   h;

    assert((rec->flags & ~KV_RECORD_EXPIRES) == 0);
    assert(rec->op == KV_OP_PUT || rec->value_len == 0);
    assert(rec->op != KV_OP_CLEAR || rec->key_len == 0);
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
kv_record_decode(const void *src, size_t n, kv_record_t *rec,
    struct iovec *value)
{
    size_t               head, size;
    const uint8_t       *p, *end;
    kv_record_header_t   h;

    if (n < sizeof(h)) {
        return 0;
    }

    p = src;
    memcpy(&h, p, sizeof(h));

    if (h.op < KV_OP_PUT || h.op > KV_OP_CLEAR
        || (h.flags & ~KV_RECORD_EXPIRES)
        || (h.op != KV_OP_PUT && h.value_len)
        || (h.op == KV_OP_CLEAR && h.key_len)
        || h.key_len > KV_KEY_MAX || h.value_len > KV_VALUE_MAX)
    {
        return 0;
    }

    rec->op = h.op;
    rec->flags = h.flags;
    rec->key_len = h.key_len;
    rec->value_len = h.value_len;
    rec->expires = 0;

    size = kv_record_size(rec);

    if (size > n) {
        return 0;
    }

    head = sizeof(h);

    if (h.flags & KV_RECORD_EXPIRES) {
        memcpy(&rec->expires, p + head, sizeof(uint64_t));
        head += sizeof(uint64_t);
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
