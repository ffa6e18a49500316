
/*
 * How far a start is: what the log says, and how often, by a clock that goes on
 * by as much as the test says whenever it is looked at.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "solo.h"


#define VALUE  (1u << 20)             /* a step each */
#define VALUES 8u


static uint64_t  tick;                /* ns */
static uint64_t  mono = UINT64_C(5000000000000);

static struct {
    unsigned       n;                 /* lines about progress, of these */
    unsigned       snapshot;          /* about the snapshot, */
    unsigned       wal;               /* the log, */
    unsigned       list;              /* and the list of keys */
    unsigned       seconds;           /* the last line's */
    unsigned       close;             /* two of them came within 2 s */
    char           first[512];
    char           last[512];
} said;


int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    uint64_t  ns;

    mono += tick;
    ns = id == CLOCK_REALTIME ? UINT64_C(1700000000000000000) + mono : mono;

    ts->tv_sec = (time_t) (ns / 1000000000);
    ts->tv_nsec = (long) (ns % 1000000000);

    return 0;
}


static void
note(void *ctx, kv_log_level_t level, const char *text)
{
    unsigned     seconds;
    const char  *p;

    (void) ctx;

    p = strstr(text, "recovering for ");
    if (p == NULL) {
        return;
    }

    assert_int_equal(level, KV_LOG_NOTICE);
    assert_int_equal(sscanf(p, "recovering for %u s: ", &seconds), 1);

    if (said.n++ == 0) {
        (void) snprintf(said.first, sizeof(said.first), "%s", text);
    }

    /* each time is cut down to seconds */

    said.close += seconds < said.seconds + 2 && said.n > 1;
    said.seconds = seconds;
    said.snapshot += strstr(text, " s: snap-") != NULL;
    said.wal += strstr(text, " s: the log, file ") != NULL;
    said.list += strstr(text, " s: the list of keys: ") != NULL;

    (void) snprintf(said.last, sizeof(said.last), "%s", text);
}


/* A store with a snapshot of 8 MiB, and as much of the log behind it. */

static int
setup(void **state)
{
    uint32_t  i;

    (void) state;

    tick = 0;
    solo_init(&solo, 64 << 20);
    solo.conf.max_value = VALUE;
    solo.conf.segment = 4 << 20;
    solo.conf.list = 1;
    solo.conf.log = note;

    assert_int_equal(solo_start(&solo), KV_OK);

    for (i = 0; i < VALUES; i++) {
        assert_int_equal(solo_put(&solo, i, VALUE), KV_OK);
    }

    solo_background(&solo, KV_REQUEST_SNAPSHOT);

    for (i = VALUES; i < 2 * VALUES; i++) {
        assert_int_equal(solo_put(&solo, i, VALUE), KV_OK);
    }

    solo_stop(&solo, true);
    memset(&said, 0, sizeof(said));

    return 0;
}


/* Starts it with a clock that goes on by so many ms at each look. */

static void
start(uint64_t ms)
{
    kv_figures_t  f;

    tick = ms * 1000000;
    assert_int_equal(solo_start(&solo), KV_OK);
    tick = 0;

    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.keys, 2 * VALUES);
    assert_int_equal(f.recovered_snapshot, VALUES);
}


static void
test_quick(void **state)
{
    (void) state;

    start(0);
    assert_int_equal(said.n, 0);

    solo_stop(&solo, true);
    start(1);
    assert_int_equal(said.n, 0);
}


static void
test_each_step(void **state)
{
    unsigned            i, of;
    unsigned long long  done, total;

    (void) state;

    start(2000);

    /* each value; each of the log's files, too; and steps of the list */

    assert_int_equal(said.snapshot, VALUES);
    assert_in_range(said.wal, VALUES + 3, VALUES + 4);
    assert_in_range(said.list, 1, 2 * VALUES);
    assert_int_equal(said.n, said.snapshot + said.wal + said.list);
    assert_int_equal(said.close, 0);

    /* how much of how much */

    assert_int_equal(sscanf(said.first, "kv zone \"test\": recovering for %u "
                            "s: snap-%*[0-9a-f].kvs: %llu of %llu MiB", &i,
                            &done, &total), 3);
    assert_int_equal(done, 1);
    assert_int_equal(total, VALUES);

    assert_int_equal(sscanf(said.last, "kv zone \"test\": recovering for %u s: "
                            "the list of keys: %llu of %llu keys", &i, &done,
                            &total), 3);
    assert_in_range(done, 0, 2 * VALUES);
    assert_int_equal(total, 2 * VALUES);

    /* the log alone, without a list */

    solo_stop(&solo, true);
    solo.conf.list = 0;
    memset(&said, 0, sizeof(said));
    start(2000);

    assert_int_equal(sscanf(said.last, "kv zone \"test\": recovering for %u s: "
                            "the log, file %llu of %u: %llu MiB", &i, &total,
                            &of, &done), 4);
    assert_int_equal(total, of);
    assert_in_range(of, 3, 4);
    assert_int_equal(done, VALUES);
    assert_int_equal(said.list, 0);
}


static void
test_every_two_seconds(void **state)
{
    (void) state;

    start(700);

    assert_int_equal(said.close, 0);
    assert_in_range(said.n, 4, said.seconds / 2);
    assert_true(said.snapshot > 1 && said.wal > 1);
}


#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, setup, solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_quick),
        TEST(test_each_step),
        TEST(test_every_two_seconds)
    };

    return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
