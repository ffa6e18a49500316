
/*
 * Timers against a model: a plain list of entries and when each expires.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "memory/kv_timers.h"


#define ENTRIES  3000u
#define MOVES    64u                  /* entries looked at in one step */
#define TICK     ((uint64_t) KV_TIMERS_TICK)
#define HORIZON  (TICK << KV_TIMERS_BITS * KV_TIMERS_LEVELS)


static kv_timers_t   timers;
static kv_entry_t   *entry[ENTRIES];
static uint64_t      expires[ENTRIES];          /* 0: not in the timers */
static uint64_t      now;
static uint64_t      seed;


static uint64_t
rnd(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (seed >> 8) % n;
}


static kv_entry_t *
make(uint32_t id)
{
    kv_entry_t  *e;

    e = calloc(1, 64);
    assert_non_null(e);

    e->flags = KV_ENTRY_EXPIRES;
    e->key_len = sizeof(id);
    memcpy(e->key, &id, sizeof(id));

    return e;
}


static uint32_t
id_of(const kv_entry_t *e)
{
    uint32_t  id;

    memcpy(&id, e->key, sizeof(id));
    assert_ptr_equal(entry[id], e);

    return id;
}


static void
begin(uint64_t start)
{
    uint32_t  id;

    seed = 88172645463325252ull;
    now = start;
    kv_timers_reset(&timers, now);

    for (id = 0; id < ENTRIES; id++) {
        free(entry[id]);
        entry[id] = make(id);
        expires[id] = 0;
    }
}


static int
teardown(void **state)
{
    uint32_t  id;

    (void) state;

    for (id = 0; id < ENTRIES; id++) {
        free(entry[id]);
        entry[id] = NULL;
    }

    return 0;
}


static void
add(uint32_t id, uint64_t ms)
{
    kv_timers_remove(&timers, entry[id]);
    kv_entry_set_expires(entry[id], ms);
    kv_timers_add(&timers, entry[id]);
    expires[id] = ms;
}


/* The writer's turn: what is due leaves, whatever a step has time for. */

static void
expire(unsigned steps, unsigned max)
{
    bool         more;
    uint32_t     id, left;
    unsigned     n, i;
    kv_entry_t  *due[ENTRIES];

    do {
        more = kv_timers_advance(&timers, now, steps);
        n = kv_timers_due(&timers, now, due, max);

        for (i = 0; i < n; i++) {
            id = id_of(due[i]);
            assert_true(expires[id] && expires[id] <= now);
            kv_timers_remove(&timers, due[i]);
            expires[id] = 0;
        }

        kv_timers_set_next(&timers);

    } while (more || n);

    assert_false(kv_timers_ready(&timers, now));

    for (id = 0, left = 0; id < ENTRIES; id++) {
        if (expires[id]) {
            assert_true(expires[id] / TICK >= now / TICK);
            left++;
        }
    }

    assert_int_equal(kv_get_relaxed(timers.count), left);
    assert_int_equal(kv_get_relaxed(timers.next) == KV_TIMERS_NEVER,
                     left == 0);
}


static uint64_t
some_ttl(void)
{
    switch (rnd(6)) {

    case 0:
        return rnd(3 * TICK);

    case 1:
        return rnd(20000);

    case 2:
        return rnd(3600000);

    case 3:
        return rnd(HORIZON / 4096);

    case 4:
        return TICK << (KV_TIMERS_BITS * rnd(4));

    default:
        return 1000 + rnd(2);
    }
}


/* Entries come, go, move and change their time, and time goes on by jumps. */

static void
random_life(uint64_t start)
{
    uint32_t     id;
    unsigned     i, k;
    kv_entry_t  *copy;

    begin(start);

    for (i = 0; i < 4000; i++) {

        for (k = 0; k < rnd(MOVES); k++) {
            id = (uint32_t) rnd(ENTRIES);

            switch (rnd(4)) {

            case 0:
                kv_timers_remove(&timers, entry[id]);
                expires[id] = 0;
                break;

            case 1:
                copy = make(id);
                memcpy((void *) copy, (void *) entry[id],
                       kv_entry_size(entry[id]));
                kv_timers_move(&timers, entry[id], copy);
                free(entry[id]);
                entry[id] = copy;
                break;

            default:
                add(id, now + some_ttl());
            }
        }

        now += rnd(5) ? rnd(2000) : some_ttl();

        if (rnd(3)) {
            expire(1 + (unsigned) rnd(50), 1 + (unsigned) rnd(20));

        } else {
            (void) kv_timers_advance(&timers, now, (unsigned) rnd(5));
        }
    }

    /* each of those that are left, in its turn */

    while (kv_get_relaxed(timers.next) != KV_TIMERS_NEVER) {
        now = kv_max(now, kv_get_relaxed(timers.next));
        expire(10, 10);
    }

    for (id = 0; id < ENTRIES; id++) {
        assert_int_equal(expires[id], 0);
    }
}


static void
test_random(void **state)
{
    (void) state;

    random_life(0);
    random_life(1700000000000);
    random_life((TICK << 30) - 5000);
    random_life((TICK << 24) * 7 - 100);
}


/* To the millisecond: none before its time, none later than a tick after it. */

static void
test_exact(void **state)
{
    uint64_t     ttl;
    kv_entry_t  *e;

    (void) state;

    for (ttl = 1; ttl < HORIZON / 8; ttl = ttl * 3 + 1) {
        begin(1700000000000 + ttl);
        add(0, now + ttl);
        kv_timers_set_next(&timers);

        while (kv_timers_due(&timers, now, &e, 1) == 0) {
            assert_true(kv_get_relaxed(timers.next) > now);
            now = kv_get_relaxed(timers.next);
            assert_true(now <= expires[0] + TICK);

            assert_false(kv_timers_advance(&timers, now, 2));
            kv_timers_set_next(&timers);
        }

        assert_true(now >= expires[0]);
        kv_timers_remove(&timers, e);
    }
}


/*
 * All of one moment, years ahead: each level that they pass costs a step each,
 * and no call takes more steps than it is given.
 */

static void
test_bounded(void **state)
{
    uint32_t     id;
    uint64_t     at;
    unsigned     n, calls;
    kv_entry_t  *due[ENTRIES];

    (void) state;

    begin(1700000000000);
    at = now + UINT64_C(100) * 24 * 3600 * 1000;

    for (id = 0; id < ENTRIES; id++) {
        add(id, at);
    }

    now = at + TICK;

    for (calls = 1; kv_timers_advance(&timers, now, 100); calls++) {
        assert_int_equal(kv_timers_due(&timers, now, due, ENTRIES) % 100, 0);
        assert_int_equal(kv_get_relaxed(timers.count), ENTRIES);
    }

    assert_in_range(calls, ENTRIES / 100, KV_TIMERS_LEVELS * ENTRIES / 100);

    n = kv_timers_due(&timers, now, due, 7);
    assert_int_equal(n, 7);
    assert_int_equal(kv_timers_due(&timers, now, due, ENTRIES), ENTRIES);
}


/* What never expires, and what no level reaches, is not there. */

static void
test_never(void **state)
{
    (void) state;

    begin(1700000000000);

    add(0, 0);
    add(1, UINT64_MAX);
    add(2, now + HORIZON);
    assert_int_equal(kv_get_relaxed(timers.count), 0);

    add(3, now + HORIZON / 8);
    assert_int_equal(kv_get_relaxed(timers.count), 1);

    kv_timers_set_next(&timers);
    assert_true(kv_get_relaxed(timers.next) > now);
    assert_true(kv_get_relaxed(timers.next) <= expires[3]);

    kv_timers_reset(&timers, now);
    assert_int_equal(kv_get_relaxed(timers.count), 0);
    assert_int_equal(kv_get_relaxed(timers.next), KV_TIMERS_NEVER);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_teardown(test_random, teardown),
        cmocka_unit_test_teardown(test_exact, teardown),
        cmocka_unit_test_teardown(test_bounded, teardown),
        cmocka_unit_test_teardown(test_never, teardown)
    };

    return cmocka_run_group_tests_name("timers", tests, NULL, NULL);
}
