
/*
 * Metadata: which types and encodings can be stored, and their bytes.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/kv_meta.h"


/* exact buffers, for ASan */

static bool
is(bool (*what)(const char *text, size_t n), const char *text, size_t n)
{
    bool   yes;
    char  *copy;

    copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy + 1, text, n);

    yes = what(copy + 1, n);

    free(copy);

    return yes;
}


static void
test_types(void **state)
{
    size_t  i;

    (void) state;

    static const char  *const  good[] = {
        "text/html", "TEXT/Html", "a/b", "application/vnd.api+json",
        "image/svg+xml", "text/html; charset=utf-8", "text/html;charset=utf-8",
        "text/html ;  charset=\"utf-8\" ; a=b", "text/html;", "text/html; ;a=b",
        "a/b; c=\"; d=/<>{}\"", "a/b;c=\"\"", "x-!#$%&'*+.^_`|~/0-9"
    };

    static const char  *const  bad[] = {
        "", "text", "/", "text/", "/html", "text//html", "text/html/x",
        " text/html", "text/html ", "text/html; ", "text /html", "text/ html",
        "text/html charset=utf-8", "text/html, text/plain",
        "text/html; a=b, text/plain", "text/html; a=\"b, c\"",
        "text/html; a=\"b\\\"c\"", "text/html; a=\"b", "text/html; a=\"b\"c",
        "text/html; a=", "text/html; =b", "text/html; a", "text/html; a = b",
        "text/html; a=b c", "text/html\tx", "text/html;\ta=b",
        "text/html\r\nSet-Cookie: a", "text/html; a=\"\r\n\"",
        "text/html; a=\"\x7f\"", "text/html; a=\"\xc3\xa4\"", "t\xe4xt/html",
        "\"text\"/html", "text/(html)", "text/html,", "*/*; q=\"",
        "text/html;a;"
    };

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!is(kv_meta_type, good[i], strlen(good[i]))) {
            fail_msg("a type: %s", good[i]);
        }
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (is(kv_meta_type, bad[i], strlen(bad[i]))) {
            fail_msg("no type: %s", bad[i]);
        }
    }

    assert_int_equal(kv_meta_type_name("text/html; a=b", 14), 9);
    assert_int_equal(kv_meta_type_name("text/html", 9), 9);
    assert_int_equal(kv_meta_type_name("text", 4), 0);
    assert_int_equal(kv_meta_type_name("text/", 5), 0);
}


/* Each byte, in each place where one can be. */

static void
test_bytes(void **state)
{
    bool   token, quoted;
    char   text[16];
    int    c;

    (void) state;

    static const char  tokens[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (c = 0; c < 256; c++) {
        token = c && strchr(tokens, c) != NULL;
        quoted = c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != ',';

        memcpy(text, "a?/b", 4);
        text[1] = (char) c;
        assert_int_equal(is(kv_meta_type, text, 4), token);

        memcpy(text, "a/b?", 4);
        text[3] = (char) c;
        assert_int_equal(is(kv_meta_type, text, 4), token || c == ';');

        memcpy(text, "a/b;c=?", 7);
        text[6] = (char) c;
        assert_int_equal(is(kv_meta_type, text, 7), token);

        memcpy(text, "a/b;c=\"?\"", 9);
        text[7] = (char) c;
        assert_int_equal(is(kv_meta_type, text, 9), quoted);

        memcpy(text, "gz?p", 4);
        text[2] = (char) c;
        assert_int_equal(is(kv_meta_encoding, text, 4), token || c == ',');
    }
}


static void
test_encodings(void **state)
{
    size_t  i;

    (void) state;

    static const char  *const  good[] = {
        "gzip", "br", "gzip, br", "gzip,br", "gzip ,  br", "x-a,b,c"
    };

    static const char  *const  bad[] = {
        "", ",", "gzip,", ",gzip", "gzip, ", " gzip", "gzip ", "gzip br",
        "gzip;q=1", "gzip,,br", "gzip\r\n", "gz\tip", "\xe4"
    };

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!is(kv_meta_encoding, good[i], strlen(good[i]))) {
            fail_msg("an encoding: %s", good[i]);
        }
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (is(kv_meta_encoding, bad[i], strlen(bad[i]))) {
            fail_msg("no encoding: %s", bad[i]);
        }
    }
}


/* Of all lengths: the longest that may be, and one more. */

static void
test_lengths(void **state)
{
    char       text[KV_META_TYPE + 1], bytes[KV_META_MAX + 1];
    size_t     n, k, size;
    kv_meta_t  meta, got;

    (void) state;

    memset(text, 'x', sizeof(text));
    text[1] = '/';

    assert_false(is(kv_meta_type, text, KV_META_TYPE + 1));
    assert_false(is(kv_meta_encoding, text + 2, KV_META_ENCODING + 1));

    for (n = 3; n <= KV_META_TYPE; n++) {
        for (k = 0; k <= KV_META_ENCODING; k += k < 3 ? 1 : 47) {

            assert_true(is(kv_meta_type, text, n));

            meta.type = text;
            meta.type_len = (uint8_t) n;
            meta.encoding = text + 2;
            meta.encoding_len = (uint8_t) k;

            size = kv_meta_write(&meta, bytes);
            assert_int_equal(size, 1 + n + k);
            assert_true(kv_meta_read(bytes, size, &got));
            assert_int_equal(got.type_len, n);
            assert_ptr_equal(got.type, bytes + 1);
            assert_memory_equal(got.type, text, n);
            assert_int_equal(got.encoding_len, k);
            assert_ptr_equal(got.encoding, bytes + 1 + n);
        }
    }
}


/* The form: any length for the type but the right one is wrong. */

static void
test_forms(void **state)
{
    char       bytes[KV_META_MAX + 1];
    unsigned   n;
    kv_meta_t  meta;

    (void) state;

    for (n = 0; n < 256; n++) {
        memcpy(bytes, "?text/htmlgzip", 14);
        bytes[0] = (char) n;

        /* where the type ends may be anywhere in its last word */

        assert_int_equal(kv_meta_read(bytes, 14, &meta), n >= 6 && n <= 13);
    }

    assert_false(kv_meta_read(bytes, 0, &meta));
    assert_false(kv_meta_read("\004a/b", 4, &meta));
    assert_false(kv_meta_read("\003a/b\r\n", 6, &meta));
    assert_false(kv_meta_read("\003a\nb", 4, &meta));
    assert_true(kv_meta_read("\003a/b", 4, &meta));

    memset(bytes, 'x', sizeof(bytes));
    bytes[0] = (char) KV_META_TYPE;
    bytes[2] = '/';
    assert_true(kv_meta_read(bytes, KV_META_MAX, &meta));
    assert_false(kv_meta_read(bytes, KV_META_MAX + 1, &meta));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_forms)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
