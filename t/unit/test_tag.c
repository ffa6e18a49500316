
/*
 * Versions as entity tags: how they are written, and what lists name them.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store/kv_version.h"


static const kv_version_t  version = { 0x1f, 0xa5 };
static const kv_version_t  none = { 0, 0xa5 };


static void
tag_is(uint64_t lsn, uint64_t incarnation, const char *expected)
{
    char          tag[KV_VERSION_TAG];
    size_t        n;
    unsigned      i;
    kv_version_t  v;

    static kv_version_end_t  end;

    v.lsn = lsn;
    v.incarnation = incarnation;

    /* made, as the last one was of another incarnation, and kept */

    for (i = 0; i < 2; i++) {
        n = kv_version_tag_next(&v, &end, tag);

        assert_true(n <= sizeof(tag));
        assert_int_equal(n, strlen(expected));
        assert_memory_equal(tag, expected, n);
    }

    assert_int_equal(kv_version_tag(&v, tag), n);
    assert_memory_equal(tag, expected, n);
}


static void
test_tag(void **state)
{
    (void) state;

    tag_is(1, 0, "\"1-0\"");
    tag_is(0xf, 0x10, "\"f-10\"");
    tag_is(0x10, 0xf, "\"10-f\"");
    tag_is(0x123456789abc, 0xdef0123456789abc,
           "\"123456789abc-def0123456789abc\"");
    tag_is(UINT64_MAX, UINT64_MAX, "\"ffffffffffffffff-ffffffffffffffff\"");
    tag_is(0x8000000000000000, 0x0fffffffffffffff,
           "\"8000000000000000-fffffffffffffff\"");
}


static kv_tags_t
find(const kv_version_t *v, const char *list)
{
    char       *copy;
    size_t      len;
    kv_tags_t   found;

    /* for the sanitizer to see a read behind the end */

    len = strlen(list);
    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, list, len);

    found = kv_version_find(v, copy, len);

    free(copy);

    return found;
}


static void
test_find(void **state)
{
    unsigned  i;

    static const struct {
        const char  *list;
        kv_tags_t    found;
    } lists[] = {
        { "*", KV_TAGS_ANY },
        { "\"1f-a5\"", KV_TAGS_NAMED },
        { "W/\"1f-a5\"", KV_TAGS_NAMED },
        { "\"1f-a5\" , \"x\"", KV_TAGS_NAMED },
        { "\"x\",W/\"y\",\t\"1f-a5\"", KV_TAGS_NAMED },
        { ", ,\"x\",,\"1f-a5\", ", KV_TAGS_NAMED },
        { "\"a,b\", \"1f-a5\"", KV_TAGS_NAMED },
        { "\"\"", KV_TAGS_OTHERS },
        { "\"\x80\xff!~\"", KV_TAGS_OTHERS },
        { "\"1f-a4\"", KV_TAGS_OTHERS },
        { "\"1e-a5\"", KV_TAGS_OTHERS },
        { "\"01f-a5\"", KV_TAGS_OTHERS },
        { "\"1F-a5\"", KV_TAGS_OTHERS },
        { "\"1f-a5-\"", KV_TAGS_OTHERS },
        { "\"1f-a\"", KV_TAGS_OTHERS },
        { "\"x,\"", KV_TAGS_OTHERS },
        { "\"*\"", KV_TAGS_OTHERS },

        { "", KV_TAGS_INVALID },
        { " ", KV_TAGS_INVALID },
        { ",", KV_TAGS_INVALID },
        { "1f-a5", KV_TAGS_INVALID },
        { "\"1f-a5", KV_TAGS_INVALID },
        { "1f-a5\"", KV_TAGS_INVALID },
        { "\"", KV_TAGS_INVALID },
        { "W", KV_TAGS_INVALID },
        { "W/", KV_TAGS_INVALID },
        { "W/x", KV_TAGS_INVALID },
        { "w/\"1f-a5\"", KV_TAGS_INVALID },
        { "W/W/\"1f-a5\"", KV_TAGS_INVALID },
        { "\"1f-a5\" \"x\"", KV_TAGS_INVALID },
        { "\"1f-a5\"x", KV_TAGS_INVALID },
        { "\"1f-a5\", x", KV_TAGS_INVALID },
        { "\"1f-a5\", *", KV_TAGS_INVALID },
        { "*, \"1f-a5\"", KV_TAGS_INVALID },
        { "* ", KV_TAGS_INVALID },
        { "**", KV_TAGS_INVALID },
        { "\"a b\"", KV_TAGS_INVALID },
        { "\"a\tb\", \"1f-a5\"", KV_TAGS_INVALID },
        { "\"a\x7f\"", KV_TAGS_INVALID }
    };

    (void) state;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {

        if (find(&version, lists[i].list) != lists[i].found) {
            fail_msg("<%s>: %d", lists[i].list,
                     find(&version, lists[i].list));
        }

        /* where there is no value, no tag names it */

        assert_int_equal(find(&none, lists[i].list),
                         lists[i].found == KV_TAGS_NAMED ? KV_TAGS_OTHERS
                                                         : lists[i].found);
    }

    assert_int_equal(find(&none, "\"0-a5\""), KV_TAGS_OTHERS);
}


/* What was written is read, and nothing else. */

static void
test_parse(void **state)
{
    char          tag[KV_VERSION_TAG], *copy;
    size_t        n;
    unsigned      i;
    kv_version_t  v, read;

    static const char *const  others[] = {
        "", "-", "1", "1-", "-1", "0-a5", "01-a5", "1f-0a5", "1F-a5", "1f-A5",
        "1f-a5-", "1f-a5 ", " 1f-a5", "1f--a5", "1g-a5", "\"1f-a5", "1f-a5\"",
        "\"\"", "\"", "W/", "w/\"1f-a5\"", "1f-a5-1", "-1f-a5", "*",
        "11f0000000000000f-a5", "1f-1000000000000000a5", "1:-a5", "1f\xe6-a5"
    };

    (void) state;

    for (i = 0; i < 4 * 64; i++) {
        v.lsn = (UINT64_C(0x9e3779b97f4a7c15) >> i % 64) + 1;
        v.incarnation = i % 3 ? UINT64_C(0xd1b54a32d192ed03) >> i / 4 : i;

        n = kv_version_tag(&v, tag);

        assert_true(kv_version_parse(&read, tag, n));
        assert_true(read.lsn == v.lsn && read.incarnation == v.incarnation);
        assert_true(kv_version_parse(&read, tag + 1, n - 2));
        assert_true(read.lsn == v.lsn && read.incarnation == v.incarnation);
    }

    assert_true(kv_version_parse(&read, "W/\"1f-a5\"", 9));
    assert_true(read.lsn == 0x1f && read.incarnation == 0xa5);

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        n = strlen(others[i]);
        copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, others[i], n);

        if (kv_version_parse(&read, copy, n)) {
            fail_msg("<%s>: %llx-%llx", others[i],
                     (unsigned long long) read.lsn,
                     (unsigned long long) read.incarnation);
        }

        free(copy);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_tag),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_parse)
    };

    return cmocka_run_group_tests_name("tag", tests, NULL, NULL);
}
