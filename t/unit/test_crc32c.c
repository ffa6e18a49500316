
/*
 * CRC32C against the vectors of RFC 3720, B.4, and against the definition.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/kv_crc32c.h"


typedef uint32_t (*test_crc_pt)(uint32_t crc, const void *data, size_t n);


static uint32_t test_bitwise(uint32_t crc, const void *data, size_t n);
static uint8_t *test_random(size_t n);


static const test_crc_pt  test_forms[] = { kv_crc32c, kv_crc32c_table };


static void
test_vectors(void **unused)
{
    size_t   f;
    uint8_t  data[32];
    int      i;

    (void) unused;

    for (f = 0; f < 2; f++) {
        memset(data, 0, 32);
        assert_int_equal(test_forms[f](0, data, 32), 0x8a9136aa);

        memset(data, 0xff, 32);
        assert_int_equal(test_forms[f](0, data, 32), 0x62a8ab43);

        for (i = 0; i < 32; i++) {
            data[i] = (uint8_t) i;
        }

        assert_int_equal(test_forms[f](0, data, 32), 0x46dd794e);

        for (i = 0; i < 32; i++) {
            data[i] = (uint8_t) (31 - i);
        }

        assert_int_equal(test_forms[f](0, data, 32), 0x113fdb5c);

        assert_int_equal(test_forms[f](0, "123456789", 9), 0xe3069283);
        assert_int_equal(test_forms[f](0, "", 0), 0);
        assert_int_equal(test_forms[f](0x12345678, "", 0), 0x12345678);
    }
}


/* Every length around the lanes' sizes, at every alignment. */

static void
test_lengths(void **unused)
{
    size_t    f, n, shift;
    uint8_t  *data;

    (void) unused;

    data = test_random(20000);

    for (n = 0; n < 9000; n += n < 1300 || (n > 3000 && n < 3200) ? 1 : 97) {
        shift = n % 8;

        for (f = 0; f < 2; f++) {
            assert_int_equal(test_forms[f]((uint32_t) n, data + shift, n),
                             test_bitwise((uint32_t) n, data + shift, n));
        }
    }

    free(data);
}


static void
test_in_pieces(void **unused)
{
    size_t    f, n, cut;
    uint8_t  *data;
    uint32_t  whole;

    (void) unused;

    n = 7001;
    data = test_random(n);
    whole = test_bitwise(0, data, n);

    for (cut = 0; cut <= n; cut += 13) {
        for (f = 0; f < 2; f++) {
            assert_int_equal(test_forms[f](test_forms[f](0, data, cut),
                                           data + cut, n - cut), whole);
        }
    }

    free(data);
}


static void
test_every_bit(void **unused)
{
    size_t    i;
    uint8_t  *data;
    uint32_t  whole;

    (void) unused;

    data = test_random(4000);
    whole = kv_crc32c(0, data, 4000);

    for (i = 0; i < 8 * 4000; i++) {
        data[i / 8] ^= (uint8_t) (1 << i % 8);
        assert_int_not_equal(kv_crc32c(0, data, 4000), whole);
        data[i / 8] ^= (uint8_t) (1 << i % 8);
    }

    free(data);
}


static uint32_t
test_bitwise(uint32_t crc, const void *data, size_t n)
{
    int             bit;
    const uint8_t  *p;

    crc = ~crc;

    for (p = data; n > 0; n--, p++) {
        crc ^= *p;

        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
    }

    return ~crc;
}


static uint8_t *
test_random(size_t n)
{
    size_t    i;
    uint8_t  *data;
    uint64_t  x;

    data = malloc(n);
    assert_non_null(data);

    x = 88172645463325252u;

    for (i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        data[i] = (uint8_t) (x >> 32);
    }

    return data;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_in_pieces),
        cmocka_unit_test(test_every_bit)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
