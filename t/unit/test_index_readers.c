
/*
 * Readers of the ordered index without locks, as threads, beside a writer that
 * adds, removes, moves and clears.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "index_rig.h"


#define READERS  3
#define ROUNDS   200u                /* of the writer, at least */
#define WALKS    20u                 /* of each reader, at least */
#define MOST     20000u              /* rounds without them */


/*
 * A key whose number is a multiple of STABLE stays; of the others a walk may
 * see any.  Threads count what is wrong: an assertion belongs into the main
 * thread.
 */

#define STABLE   5

typedef struct {
    pthread_t          thread;
    uint64_t           seed;
    _Atomic unsigned   walks;
    unsigned           missed;
    unsigned           disorder;
    unsigned           unknown;
    unsigned           at;           /* the key that is to come next */
} reader_t;


static _Atomic int  stop;
static bool         clears;


static bool
saw(void *ctx, const unsigned char *key, size_t n)
{
    int        c;
    reader_t  *r = ctx;

    for ( /* void */ ; r->at < index_keys; r->at++) {
        c = memcmp(key, index_key[r->at].p, kv_min(n, index_key[r->at].n));

        if (c == 0 && n == index_key[r->at].n) {
            r->at++;
            return true;
        }

        if (c < 0 || (c == 0 && n < index_key[r->at].n)) {
            break;
        }

        r->missed += r->at % STABLE == 0;
    }

    r->unknown++;

    return true;
}


static void *
reader(void *data)
{
    unsigned   me;
    reader_t  *r = data;

    while (kv_worker_acquire(workers, PLACES, &me) != KV_OK) {
        sched_yield();
    }

    while (!atomic_load(&stop)) {
        r->at = map_rnd_of(&r->seed, index_keys);

        kv_epoch_enter(&workers[me], KV_EPOCH_MAIN, &zone->retired.epoch);
        kv_index_walk(&the_index, index_key[r->at].p, index_key[r->at].n,
                      false, saw, r);
        kv_epoch_leave(&workers[me], KV_EPOCH_MAIN);

        for ( /* void */ ; r->at < index_keys; r->at++) {
            r->missed += r->at % STABLE == 0;
        }

        atomic_fetch_add(&r->walks, 1);
    }

    kv_worker_reaped(&workers[me]);

    return NULL;
}


static void
churn(unsigned round)
{
    unsigned  i, n;

    for (n = 0; n < 300; n++) {
        i = index_some();

        if (i % STABLE == 0 && !clears) {
            continue;
        }

        if (index_key[i].there) {
            index_delete(i);

        } else if (map_rnd(100) < (round % 40 < 20 ? 80 : 20)) {
            index_put(i);
        }
    }

    index_refused = round % 8 == 7 ? 90 : 0;

    (void) kv_epoch_reserve(&zone->retired, 0);
    (void) kv_epoch_reclaim(&zone->retired);
    (void) kv_index_sweep(&the_index, 100);

    if (round % 4 == 0) {
        (void) index_move_some(10);
    }

    if (clears && round % 16 == 0) {
        index_clear();
    }
}


static bool
walked_enough(reader_t *r)
{
    unsigned  i;

    for (i = 0; i < READERS; i++) {
        if (atomic_load(&r[i].walks) < WALKS) {
            return false;
        }
    }

    return true;
}


static void
run_threads(void)
{
    unsigned  i, round;
    reader_t  r[READERS];

    memset(r, 0, sizeof(r));
    atomic_store(&stop, 0);

    for (i = 0; i < index_keys; i += STABLE) {
        index_put(i);
    }

    for (i = 0; i < READERS; i++) {
        r[i].seed = 1234567 + i * 7919;
        assert_int_equal(pthread_create(&r[i].thread, NULL, reader, &r[i]), 0);
    }

    for (round = 0;
         round < ROUNDS || (round < MOST && !walked_enough(r));
         round++)
    {
        churn(round);
    }

    atomic_store(&stop, 1);

    for (i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(r[i].thread, NULL), 0);
    }

    for (i = 0; i < READERS; i++) {
        assert_true(atomic_load(&r[i].walks) >= WALKS);
        assert_int_equal(r[i].unknown, 0);
        assert_true(clears || r[i].missed == 0);
    }

    index_refused = 0;
    index_check();
    index_clear();
    assert_int_equal(index_bytes(), 0);
}


static void
test_readers(void **state)
{
    (void) state;

    clears = false;
    run_threads();
}


static void
test_readers_and_clears(void **state)
{
    (void) state;

    clears = true;
    run_threads();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_readers, index_setup,
                                        index_teardown),
        cmocka_unit_test_setup_teardown(test_readers_and_clears, index_setup,
                                        index_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
