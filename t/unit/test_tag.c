
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


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_tag),
        cmocka_unit_test(test_find)
    };

    cmocka_set_test_filter(getenv("KIT_TEST"));

    return cmocka_run_group_tests_name("tag", tests, NULL, NULL);
}
