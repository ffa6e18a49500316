
/*
 * Times and LSNs, as people give them to kv-inspect.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tool/kv_tool.h"


static void
test_times(void **state)
{
    char      buf[KV_TOOL_TIME];
    size_t    i;
    uint64_t  ms;

    static const struct {
        const char  *text;
        const char  *is;
    } times[] = {
        { "2026-11-30T02:38:00.123Z", "2026-11-30T02:38:00.123Z" },
        { "2026-11-30T02:38:00Z", "2026-11-30T02:38:00.000Z" },
        { "2026-11-30T02:38Z", "2026-11-30T02:38:00.000Z" },
        { "2026-11-30 02:38:00", "2026-11-30T02:38:00.000Z" },
        { "2026-11-30 02:38", "2026-11-30T02:38:00.000Z" },
        { "2026-11-30 02:38:00.1", "2026-11-30T02:38:00.100Z" },
        { "2024-02-29 23:59:59.999999Z", "2024-02-29T23:59:59.999Z" },

        /* of date -Iseconds, -Ins and --rfc-3339=ns */
        { "2026-11-30T03:38:00+01:00", "2026-11-30T02:38:00.000Z" },
        { "2026-11-30T03:38:00,123456789+01:00", "2026-11-30T02:38:00.123Z" },
        { "2026-11-29 21:08:00.123456789-05:30", "2026-11-30T02:38:00.123Z" },
        { "2026-12-01T01:38:00+2300", "2026-11-30T02:38:00.000Z" },
        { "2026-11-30 03:38+01", "2026-11-30T02:38:00.000Z" },

        /* of date +%s, and /stats */
        { "@1796006280", "2026-11-30T02:38:00.000Z" },
        { "@1796006280.123", "2026-11-30T02:38:00.123Z" },
        { "@1", "1970-01-01T00:00:01.000Z" }
    };

    (void) state;

    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        if (!kv_tool_time_parse(times[i].text, &ms)) {
            fail_msg("\"%s\" is a time", times[i].text);
        }

        assert_string_equal(kv_tool_time(ms, buf), times[i].is);
    }
}


static void
test_no_times(void **state)
{
    size_t    i;
    uint64_t  ms;

    static const char *const  times[] = {
        "", " ", "noon", "now", "@", "@x", "@0", "@-1", "@1 ", "@1.",
        "@1e9", "@99999999999999999999",

        "2026-11-30", "2026-11-30T", "2026-11-30T02", "2026-11-30T02:3",
        "2026-11-30T2:38:00Z", "26-11-30T02:38:00Z", "2026-1-30T02:38:00Z",
        "2026-11-30T02:38:", "2026-11-30T02:38:0", "2026-11-30T02:38:00.",
        "2026-11-30T02:38:00.Z", "2026-11-30T02:38:00ZZ",
        "2026-11-30T02:38:00 Z", "2026-11-30  02:38:00",
        " 2026-11-30T02:38:00Z", "2026-11-30T02:38:00Z ",
        "2026-11-30t02:38:00z", "2026-11-30_02:38:00",

        /* days, and times, that there are not */
        "2026-11-31T02:38:00Z", "2026-02-29T02:38:00Z", "2026-00-10T02:38:00Z",
        "2026-13-10T02:38:00Z", "2026-11-00T02:38:00Z", "2026-11-30T24:00:00Z",
        "2026-11-30T02:60:00Z", "2026-11-30T02:38:60Z", "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z", "1970-01-01T00:30:00+01:00",
        "0000-01-01T00:00:00Z",

        "2026-11-30T02:38:00+", "2026-11-30T02:38:00+1",
        "2026-11-30T02:38:00+1:00", "2026-11-30T02:38:00+01:0",
        "2026-11-30T02:38:00+01:000", "2026-11-30T02:38:00+24:00",
        "2026-11-30T02:38:00+01:60", "2026-11-30T02:38:00+01:00Z",
        "2026-11-30T02:38:00 +01:00", "2026-11-30T02:38:00CET",

        /* those of nginx's logs, which have another zone, or say none */
        "2026/11/30 02:38:00", "30/Nov/2026:02:38:00 +0000"
    };

    (void) state;

    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        if (kv_tool_time_parse(times[i], &ms)) {
            fail_msg("\"%s\" is no time", times[i]);
        }
    }
}


static void
test_lsns(void **state)
{
    size_t    i;
    uint64_t  lsn;

    static const struct {
        const char  *text;
        uint64_t     is;
    } lsns[] = {
        { "1", 1 }, { "4711", 4711 }, { "281474976710655", 281474976710655 },
        { "0x1", 1 }, { "0x1f", 31 }, { "0x0000000000002710", 10000 },
        { "0xffffffffffff", 281474976710655 },
        { "2710-688ae04f806f81cd", 10000 }, { "10-a", 16 },
        { "\"2710-688ae04f806f81cd\"", 10000 }
    };

    static const char *const  none[] = {
        "", "0", "-1", "+1", "01", "1k", " 1", "1 ", "x", "281474976710656",
        "0000000000002710", "0x", "0x0", "0x1g", "0x1000000000000",
        "0x11111111111111111", "0x1-2", "1-", "-a", "1-2-3", "1-g", "\"1\"",
        "\"1-2", "1-2\"", "0-2", "W/\"1-2\""
    };

    (void) state;

    for (i = 0; i < sizeof(lsns) / sizeof(lsns[0]); i++) {
        if (!kv_tool_lsn_parse(lsns[i].text, &lsn)) {
            fail_msg("\"%s\" is an LSN", lsns[i].text);
        }

        assert_int_equal(lsn, lsns[i].is);
    }

    for (i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        if (kv_tool_lsn_parse(none[i], &lsn)) {
            fail_msg("\"%s\" is no LSN", none[i]);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_no_times),
        cmocka_unit_test(test_lsns)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
