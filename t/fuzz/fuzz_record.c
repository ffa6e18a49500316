
/*
 * kv_record_decode() on bytes as they are.  What it accepts lies inside the
 * bytes and is, encoded again, the same.
 */


#include "fuzz.h"


static void decoded(const uint8_t *src, size_t size, const kv_record_t *rec);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t        n;
    kv_record_t   rec;
    struct iovec  value;

    while (size) {
        n = kv_record_decode(data, size, KV_FORMAT_VERSION, &rec, &value);

        if (n == 0) {
            break;
        }

        fuzz_check(n <= size && n % 8 == 0 && n == kv_record_size(&rec));
        decoded(data, n, &rec);

        /* nor is it anything else where less is there */

        fuzz_check(kv_record_decode(data, n - 1, KV_FORMAT_VERSION, &rec,
                                    &value) == 0);

        data += n;
        size -= n;
    }

    return 0;
}


static void
decoded(const uint8_t *src, size_t size, const kv_record_t *rec)
{
    size_t     head;
    uint8_t   *again, meta[KV_META_MAX];
    kv_meta_t  what;

    if (rec->meta_len && kv_record_unknown(rec) == NULL) {
        fuzz_check(kv_meta_read(rec->meta, rec->meta_len, &what));
        fuzz_check(kv_meta_write(&what, meta) == rec->meta_len);
        fuzz_check(memcmp(meta, rec->meta, rec->meta_len) == 0);
    }

    again = malloc(size);
    fuzz_check(again);

    kv_record_encode(rec, again);
    fuzz_check(memcmp(src, again, size) == 0);

    memset(again, 0, size);
    head = kv_record_encode_head(rec, again);
    fuzz_check(head + rec->value_len <= size
               && memcmp(src, again, head) == 0
               && rec->value->iov_base == src + head);

    free(again);
}
