
/*
 * Dictionaries in headers: which texts are one, and their members.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/kv_dictionary.h"


/*
 * Reads a text, behind which there is no memory, and writes what is in it:
 * " key" or " key:base64" of each member; " -": it is no dictionary.
 */

static void
dictionary_read(const char *text, char *out)
{
    char                    *copy;
    size_t                   len;
    kv_rc_t                  rc;
    const char              *p;
    kv_dictionary_member_t   m;

    len = strlen(text);
    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);

    p = copy;
    *out = '\0';

    while ((rc = kv_dictionary_next(&p, copy + len, &m)) == KV_OK) {
        out += sprintf(out, " %.*s%s%.*s", (int) m.key_len, m.key,
                       m.base64 ? ":" : "", (int) m.base64_len,
                       m.base64 ? m.base64 : "");
    }

    if (rc == KV_DECLINED) {
        (void) sprintf(out, " -");
    }

    free(copy);
}


static void
dictionary_is(const char *text, const char *expected)
{
    char  out[1000];

    dictionary_read(text, out);
    assert_string_equal(out, expected);
}


static void
test_members(void **state)
{
    (void) state;

    dictionary_is("", "");
    dictionary_is("   ", "");
    dictionary_is("a=1", " a");
    dictionary_is("sha-256=:AAEC:", " sha-256:AAEC");
    dictionary_is("  sha-256=:AA==:  ", " sha-256:AA==");
    dictionary_is("a=::", " a:");
    dictionary_is("a=:a:, b=:b:,c=:c:\t,\t d", " a:a b:b c:c d");
    dictionary_is("a=:a:, a=:b:", " a:a a:b");
    dictionary_is("*a_-.*9=?0;x;y=1; z=\"\\\"\\\\,\"", " *a_-.*9");
    dictionary_is("a=:a:;q=:b:, b", " a:a b");
    dictionary_is("a=-1, b=1.5, c=tok/en:*!, d=\"s,\"", " a b c d");
    dictionary_is("a=123456789012345, b=123456789012.123", " a b");
    dictionary_is("a=(), b=(1 :x: \"y\";p);q, c=( *t )", " a b c");
    dictionary_is("unixsum=30637, sha-256=:+/==:", " unixsum sha-256:+/==");
}


static void
test_malformed(void **state)
{
    unsigned  i;

    static const char *const  texts[] = {
        ",", "=", "=1", "A=1", "1=1", "a=", "a= 1", "a =1", "a=1,", "a=1, ",
        "a=1 b=1", "a=1;", "a=1;;x", "a=1;X", "a=1;x=", "a=:", "a=:a",
        "a=:a b:", "a=:-_:", "a=\"", "a=\"x", "a=\"\\", "a=\"\\x\"",
        "a=\"\x7f\"", "a=\"\xc3\xa4\"", "a=?", "a=?2", "a=?true", "a=-",
        "a=1.", "a=.1", "a=1.1234", "a=1.2.3", "a=--1", "a=+1",
        "a=1234567890123456", "a=1234567890123.1", "a=(", "a=(1", "a=(1",
        "a=(1,2)", "a=(1\t2)", "a=(1 2", "a=((1))", "a=(1)x", "a=)", "\ta=1",
        "a=1,,b=2", "a=[", "sha-256=:AA==", "sha-256:AA==:", "sha-256 :AA==:"
    };

    (void) state;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char  out[1000];

        dictionary_read(texts[i], out);

        if (strlen(out) < 2 || strcmp(out + strlen(out) - 2, " -") != 0) {
            fail_msg("\"%s\" is taken for \"%s\"", texts[i], out);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
