
/*
 * Records: to bytes and back, and no byte string but a record is one.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "disk/kv_record.h"


static void test_round_trip(const kv_record_t *rec);
static void test_put(kv_record_t *rec, struct iovec *value, const char *key,
    const char *text);


static void
test_layout(void **unused)
{
    uint8_t        buf[48];
    kv_record_t    rec;
    struct iovec   value[3];

    static const uint8_t  expected[24] = {
        1, 1, 3, 0, 5, 0, 0, 0,
        8, 7, 6, 5, 4, 3, 2, 1,
        'k', 'e', 'y', 'h', 'e', 'l', 'l', 'o',
    };

    static const uint8_t  full[40] = {
        1, 7, 3, 0, 5, 0, 0, 0,
        8, 7, 6, 5, 4, 3, 2, 1,
        6, 5, 4, 3, 2, 1, 0, 0,
        2, 'm', 'n', 'k', 'e', 'y', 'h', 'e',
        'l', 'l', 'o', 0, 0, 0, 0, 0
    };

    (void) unused;

    test_put(&rec, value, "key", "hello");
    value[0].iov_len = 2;
    value[1].iov_base = NULL;
    value[1].iov_len = 0;
    value[2].iov_base = "llo";
    value[2].iov_len = 3;
    rec.value_n = 3;
    rec.flags = KV_RECORD_EXPIRES;
    rec.expires = 0x0102030405060708;

    memset(buf, 0xee, sizeof(buf));
    assert_int_equal(kv_record_size(&rec), 24);
    kv_record_encode(&rec, buf);
    assert_memory_equal(buf, expected, 24);
    assert_int_equal(buf[24], 0xee);

    assert_int_equal(kv_record_encode_head(&rec, buf), 19);

    rec.flags |= KV_RECORD_LSN | KV_RECORD_META;
    rec.lsn = 0x010203040506;
    rec.meta = "mn";
    rec.meta_len = 2;

    memset(buf, 0xee, sizeof(buf));
    assert_int_equal(kv_record_size(&rec), 40);
    kv_record_encode(&rec, buf);
    assert_memory_equal(buf, full, 40);
    assert_int_equal(buf[40], 0xee);
}


static void
test_round_trips(void **unused)
{
    int            flags;
    char          *key, *text;
    size_t         key_len, len;
    kv_record_t    rec;
    struct iovec   value;

    (void) unused;

    key = malloc(KV_KEY_MAX);
    text = malloc(100000);
    memset(key, 'k', KV_KEY_MAX);
    memset(text, 'v', 100000);

    memset(&rec, 0, sizeof(rec));
    rec.key = key;
    rec.value = &value;
    rec.value_n = 1;
    value.iov_base = text;

    for (key_len = 1; key_len <= KV_KEY_MAX;
         key_len = key_len < 20 ? key_len + 1
                   : key_len < KV_KEY_MAX && key_len * 7 > KV_KEY_MAX
                   ? KV_KEY_MAX : key_len * 7)
    {
        for (len = 0; len < 100000; len = len < 20 ? len + 1 : len * 5) {
            for (flags = 0; flags < 8; flags++) {
                rec.flags = (uint8_t) flags;
                rec.expires = flags & KV_RECORD_EXPIRES ? 1700000000000 : 0;
                rec.lsn = flags & KV_RECORD_LSN ? KV_LSN_MAX - 1 : 0;
                rec.meta = flags & KV_RECORD_META ? "some bytes" : NULL;
                rec.meta_len = flags & KV_RECORD_META ? 1 + len % 10 : 0;
                rec.key_len = (uint16_t) key_len;

                rec.op = KV_OP_PUT;
                rec.value_len = (uint32_t) len;
                value.iov_len = len;
                test_round_trip(&rec);
            }
        }

        rec.op = KV_OP_DELETE;
        rec.flags = 0;
        rec.expires = 0;
        rec.lsn = 0;
        rec.meta_len = 0;
        rec.value_len = 0;
        value.iov_len = 0;
        test_round_trip(&rec);

        rec.flags = KV_RECORD_EXPIRES;
        rec.expires = 1700000000000;
        test_round_trip(&rec);

        rec.op = KV_OP_TOUCH;
        test_round_trip(&rec);
    }

    rec.flags = 0;
    rec.expires = 0;

    rec.op = KV_OP_CLEAR;
    rec.key_len = 0;
    test_round_trip(&rec);

    free(key);
    free(text);
}


/* The record that ends a byte too late is none; exact buffers, for ASan. */

static void
test_truncated(void **unused)
{
    size_t        n;
    uint8_t       buf[32], *exact;
    kv_record_t   rec, got;
    struct iovec  value, piece;

    (void) unused;

    test_put(&rec, &value, "a key", "a value..");
    rec.flags = KV_RECORD_EXPIRES;
    rec.expires = 1;
    assert_int_equal(kv_record_size(&rec), 32);
    kv_record_encode(&rec, buf);

    for (n = 0; n <= 32; n++) {
        exact = malloc(n + 1);
        memcpy(exact + 1, buf, n);
        assert_int_equal(kv_record_decode(exact + 1, n, KV_FORMAT_VERSION,
                                          &got, &piece),
                         n == 32 ? 32 : 0);
        free(exact);
    }
}


static void
test_refused(void **unused)
{
    int            op;
    uint8_t        buf[32], bad[32];
    kv_record_t    rec, got;
    struct iovec   value, piece;

    (void) unused;

    test_put(&rec, &value, "key", "value");
    assert_int_equal(kv_record_size(&rec), 16);
    memset(buf, 0, sizeof(buf));
    kv_record_encode(&rec, buf);
    assert_int_equal(kv_record_decode(buf, 32, KV_FORMAT_VERSION,
                                      &got, &piece), 16);

    for (op = 0; op < 256; op++) {
        memcpy(bad, buf, 32);
        bad[0] = (uint8_t) op;
        assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION,
                                          &got, &piece),
                         op == KV_OP_PUT ? 16 : 0);
    }

    for (op = 8; op < 256; op++) {
        memcpy(bad, buf, 32);
        bad[1] = (uint8_t) op;
        assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                          &piece), 0);
    }

    /* metadata without a length, and what version 1 did not know */

    memcpy(bad, buf, 32);
    bad[1] = KV_RECORD_META;
    bad[8] = 0;
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 0);

    bad[1] = KV_RECORD_LSN;
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 24);
    assert_int_equal(kv_record_decode(bad, 32, 1, &got, &piece), 0);

    /* a touch has an expiry, and no value */

    memcpy(bad, buf, 32);
    bad[0] = KV_OP_TOUCH;
    bad[1] = KV_RECORD_EXPIRES;
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 0);
    memset(bad + 4, 0, 4);
    memset(bad + 19, 0, 13);
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 24);
    assert_null(kv_record_unknown(&got));
    assert_int_equal(kv_record_decode(bad, 32, 1, &got, &piece), 0);
    bad[1] = 0;
    memset(bad + 11, 0, 8);
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 0);
    bad[0] = KV_OP_DELETE;
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 16);
    assert_null(kv_record_unknown(&got));

    /* what fills it up is zero */

    memcpy(bad, buf, 32);
    bad[4]--;
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION,
                                      &got, &piece), 0);
    bad[15] = 0;
    assert_int_equal(kv_record_decode(bad, 32, KV_FORMAT_VERSION,
                                      &got, &piece), 16);
    assert_int_equal(got.value_len, 4);

    /* lengths beyond the limits, and beyond any sum */

    memcpy(bad, buf, 32);
    memset(bad + 4, 0xff, 4);
    assert_int_equal(kv_record_decode(bad, SIZE_MAX, KV_FORMAT_VERSION,
                                      &got, &piece), 0);

    memcpy(bad, buf, 32);
    bad[2] = 1;
    bad[3] = 0x40;
    assert_int_equal(kv_record_decode(bad, SIZE_MAX, KV_FORMAT_VERSION,
                                      &got, &piece), 0);
}


/* Metadata of another form are for a version that knows them. */

static void
test_metadata(void **unused)
{
    uint8_t        buf[32];
    kv_record_t    rec, got;
    struct iovec   value, piece;

    (void) unused;

    test_put(&rec, &value, "key", "value");
    rec.flags = KV_RECORD_META;
    rec.meta = "\003a/bgzip";
    rec.meta_len = 8;
    kv_record_encode(&rec, buf);

    assert_int_equal(kv_record_decode(buf, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 32);
    assert_null(kv_record_unknown(&got));

    buf[9] = 0;
    assert_int_equal(kv_record_decode(buf, 32, KV_FORMAT_VERSION, &got,
                                      &piece), 32);
    assert_string_equal(kv_record_unknown(&got), "unknown metadata");
}


static void
test_put(kv_record_t *rec, struct iovec *value, const char *key,
    const char *text)
{
    memset(rec, 0, sizeof(*rec));
    rec->op = KV_OP_PUT;
    rec->key = key;
    rec->key_len = (uint16_t) strlen(key);
    rec->value_len = (uint32_t) strlen(text);
    rec->value = value;
    rec->value_n = 1;
    value->iov_base = (void *) text;
    value->iov_len = strlen(text);
}


static void
test_round_trip(const kv_record_t *rec)
{
    size_t        size;
    uint8_t      *buf;
    kv_record_t   got;
    struct iovec  value;

    size = kv_record_size(rec);
    assert_int_equal(size % 8, 0);

    buf = malloc(size);
    assert_non_null(buf);
    kv_record_encode(rec, buf);

    assert_int_equal(kv_record_decode(buf, size, KV_FORMAT_VERSION,
                                      &got, &value), size);
    assert_int_equal(got.op, rec->op);
    assert_int_equal(got.flags, rec->flags);
    assert_int_equal(got.expires, rec->expires);
    assert_int_equal(got.lsn, rec->lsn);
    assert_int_equal(got.meta_len, rec->meta_len);
    assert_true(rec->meta_len == 0
                || memcmp(got.meta, rec->meta, rec->meta_len) == 0);
    assert_int_equal(got.key_len, rec->key_len);
    assert_int_equal(got.value_len, rec->value_len);
    assert_ptr_equal(got.value, &value);
    assert_int_equal(got.value_n, 1);
    assert_int_equal(value.iov_len, rec->value_len);
    assert_memory_equal(got.key, rec->key, rec->key_len);

    if (rec->value_len) {
        assert_memory_equal(value.iov_base, rec->value->iov_base,
                            rec->value_len);
    }

    free(buf);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_metadata)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
