
/*
 * A worker dies before or after a call to the disk, with a lock, while it
 * builds or reads, or at any moment.
 */

/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "death_rig.h"


/* A file half made, a name half changed: by commits and in the background. */

static void
test_calls(void **state)
{
    char      when[64];
    order_t   order;
    unsigned  i;

    (void) state;

    memset(&order, 0, sizeof(order));
    order.how = DIE_CALL;

    for (i = 0; i < 6 * CALLS; i++) {
        order.call = (int) (i / 6);
        order.late = i & 1;
        order.after = 1 + (int) (i % 6 / 2 * 2);

        (void) snprintf(when, sizeof(when), "%s call %d, the %d.",
                        order.late ? "after" : "before", order.call,
                        order.after);

        death_one_death(&order, when);
        death_clean_directory();
    }
}


static void
test_ways(void **state)
{
    order_t   order;
    unsigned  i;

    static const struct {
        death_t      how;
        const char  *name;
    } ways[] = {
        { DIE_HEAP, "with the heap's lock" },
        { DIE_BUILDING, "building" },
        { DIE_PINNED, "pinning" },
        { DIE_EPOCH, "in an epoch" },
        { DIE_LEAVE, "leaving" }
    };

    (void) state;

    memset(&order, 0, sizeof(order));

    for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        order.how = ways[i].how;
        death_one_death(&order, ways[i].name);
        death_clean_directory();
    }
}


static void
test_random_kills(void **state)
{
    char      when[64];
    unsigned  deaths;
    uint64_t  used;

    (void) state;

    used = getenv("KIT_SEED") ? strtoull(getenv("KIT_SEED"), NULL, 10)
                              : kv_now_ns() | 1;
    death_seed = used;

    (void) snprintf(when, sizeof(when), "random kills, KIT_SEED=%llu",
                    (unsigned long long) used);

    deaths = death_chaos(NULL, 3000, 30, 4 * PLACES, when);

    assert_true(deaths >= 4 * PLACES);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, death_setup, death_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_calls),
        TEST(test_ways),
        TEST(test_random_kills)
    };

    return cmocka_run_group_tests_name("death anywhere", tests, NULL, NULL);
}
