
/*
 * Reads that wait: which changes are told to whom, and which are not.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/kv_await.h"
#include "store_rig.h"


#define WAITERS  300u


static kv_waiter_t   waiters[WAITERS];
static unsigned      told[WAITERS];

/* another worker of the same zone */
static kv_store_t   *other;


static void
wait_for_key(kv_store_t *store, unsigned i, uint32_t id)
{
    char    key[32];
    size_t  n;

    n = kit_key(id, key);
    waiters[i].data = &told[i];
    told[i] = 0;

    assert_int_equal(kv_store_await(store, &waiters[i], key, n), KV_OK);
}


/* How many are told now; counts in `told`. */

static unsigned
collect(kv_store_t *store, bool all)
{
    unsigned      n;
    kv_waiter_t  *waiter;

    kv_store_await_collect(store, all);

    for (n = 0; (waiter = kv_store_await_next(store)) != NULL; n++) {
        (*(unsigned *) waiter->data)++;
    }

    return n;
}


/*
 * Whether a worker was woken since the last call.  The committer wakes the
 * others once it has reported, so it must have come to its end.
 */

static bool
woken(kv_store_t *store)
{
    uint64_t       n, end;
    struct pollfd  pfd;

    end = kit_now_ms() + 30000;

    while (atomic_load(&kit.store->zone->committer)) {
        assert_true(kit_now_ms() < end);
        (void) usleep(100);
    }

    pfd.fd = kit_wakes[store->number];
    pfd.events = POLLIN;

    return poll(&pfd, 1, 0) == 1 && read(pfd.fd, &n, sizeof(n)) == sizeof(n);
}


static bool
filter_is_empty(const kv_worker_t *worker)
{
    uint32_t  i;

    for (i = 0; i < worker->awaited_bits / 64; i++) {
        if (kv_get_relaxed(worker->awaited[i])) {
            return false;
        }
    }

    return true;
}


static void
start_both(void)
{
    rig_start();

    assert_int_equal(kv_store_attach(&other, &kit.conf, kit.mem, &kit.io->io,
                                     kit.dirfd, &kit.err), KV_OK);
    assert_int_equal(kv_store_enter(other), KV_OK);
    kv_store_wakes(other, kit_wakes, kit.workers, other->number);
}


static void
stop_both(void)
{
    kv_store_leave(other);
    kv_store_destroy(other);
    rig_stop();
}


static void
test_told(void **state)
{
    kv_op_t       *op;
    unsigned       i;
    kv_version_t   version;

    (void) state;

    start_both();

    assert_int_equal(collect(other, false), 0);
    assert_true(filter_is_empty(other->worker));

    for (i = 0; i < 3; i++) {
        wait_for_key(other, i, i < 2 ? 1 : 2);
    }

    assert_int_equal(kv_await_count(kit.store->zone), 3);

    /* a put, which both waiters of the key learn, and no other worker */

    (void) woken(other);
    rig_put(1, 1, 100);
    assert_true(woken(other));
    assert_int_equal(collect(other, false), 2);
    assert_int_equal(told[0] + told[1], 2);
    assert_int_equal(collect(kit.store, false), 0);

    /* once; and again */

    assert_int_equal(collect(other, false), 0);
    rig_put(1, 2, 100000);
    assert_int_equal(collect(other, false), 2);

    /* others' keys wake no worker that waits */

    (void) woken(other);

    for (i = 100; i < 200; i++) {
        rig_put(i, 1, 10);
    }

    assert_false(woken(other));
    assert_int_equal(collect(other, false), 0);

    /* a delete, but of what is there */

    assert_int_equal(kit_delete(&host, 1), KV_OK);
    assert_true(woken(other));
    assert_int_equal(collect(other, false), 2);

    assert_int_equal(kit_delete(&host, 1), KV_OK);
    assert_false(woken(other));
    assert_int_equal(collect(other, false), 0);

    /* a put whose condition is false */

    version.lsn = 1;
    assert_int_equal(kit_begin_put(&host, 1, 3, 10, &op), KV_OK);
    kv_store_if(op, KV_OP_IF_VERSION, &version);
    assert_int_equal(host_run(&host, op), KV_PRECONDITION);
    assert_false(woken(other));
    assert_int_equal(collect(other, false), 0);

    /* one leaves, the other learns on */

    kv_store_await_end(other, &waiters[0]);
    rig_put(1, 4, 100);
    assert_int_equal(collect(other, false), 1);
    assert_int_equal(told[1], 4);

    kv_store_await_end(other, &waiters[1]);
    kv_store_await_end(other, &waiters[2]);
    assert_true(filter_is_empty(other->worker));
    assert_int_equal(kv_await_count(kit.store->zone), 0);

    (void) woken(other);
    rig_put(1, 5, 100);
    rig_put(2, 5, 100);
    assert_false(woken(other));
    assert_int_equal(atomic_load(&kit.store->zone->awaits), 0);

    /* and is there for the next one */

    wait_for_key(other, 0, 2);
    rig_put(2, 6, 100);
    assert_true(woken(other));
    assert_int_equal(collect(other, false), 1);
    kv_store_await_end(other, &waiters[0]);

    stop_both();
}


/* One that was collected may leave before it is taken, and others come. */

static void
test_collected(void **state)
{
    unsigned      i;
    kv_waiter_t  *waiter;

    (void) state;

    start_both();

    for (i = 0; i < 4; i++) {
        wait_for_key(other, i, 1);
    }

    rig_put(1, 1, 10);
    kv_store_await_collect(other, false);

    waiter = kv_store_await_next(other);
    assert_non_null(waiter);
    kv_store_await_end(other, waiter);

    /* those that come now have read the key after the change */

    i = (unsigned) (waiter - waiters);
    wait_for_key(other, i, 1);
    kv_store_await_end(other, &waiters[(i + 1) % 4]);

    assert_int_equal(collect(other, false), 2);
    assert_int_equal(told[i], 0);

    /* all, for one reason or another */

    assert_int_equal(collect(other, true), 3);
    assert_int_equal(kit_clear(&host), KV_OK);
    memset(shadow, 0, sizeof(shadow));
    assert_int_equal(collect(other, false), 3);

    /* a worker that leaves takes all along */

    stop_both();
}


/*
 * More changes than are told one by one: none is left out.  The waiters are
 * told more than that.
 */

static void
test_many(void **state)
{
    uint32_t  id, round;
    unsigned  i;

    (void) state;

    _Static_assert(WAITERS > 2 * KV_CHANGES, "more than the ring has");

    start_both();

    for (round = 1; round <= 3; round++) {

        for (i = 0; i < WAITERS; i++) {
            wait_for_key(other, i, i);
        }

        /* none, some, and all of them */

        rig_put(WAITERS + 1, round, 10);
        assert_int_equal(collect(other, false), 0);

        for (id = 0; id < KV_CHANGES; id++) {
            rig_put(id, 2 * round, 10);
        }

        assert_int_equal(collect(other, false), KV_CHANGES);
        assert_int_equal(told[KV_CHANGES], 0);

        for (id = 0; id < WAITERS; id++) {
            rig_put(id, 2 * round + 1, 10);
        }

        assert_int_equal(collect(other, false), WAITERS);
        assert_int_equal(collect(other, false), 0);

        for (i = 0; i < WAITERS; i++) {
            assert_int_equal(told[i], 1 + (i < KV_CHANGES));
            kv_store_await_end(other, &waiters[i]);
        }

        assert_true(filter_is_empty(other->worker));
    }

    stop_both();
}


/* A rebuild: what waits goes on, and is told that all may have changed. */

/*
 * A caller takes some at a time.  The waiter of a key that has changed once has
 * its turn, also while another key changes all the time.
 */

static void
test_turns(void **state)
{
    unsigned      i, n, round;
    kv_waiter_t  *waiter;

    (void) state;

    start_both();

    wait_for_key(other, 0, 2);

    for (i = 1; i < WAITERS; i++) {
        wait_for_key(other, i, 1);
    }

    rig_put(2, 1, 10);
    kv_store_await_collect(other, false);

    for (round = 0; told[0] == 0; round++) {
        assert_true(round <= WAITERS / 10);

        rig_put(1, round, 10);
        kv_store_await_collect(other, false);

        for (n = 0; n < 10; n++) {
            waiter = kv_store_await_next(other);
            assert_non_null(waiter);
            (*(unsigned *) waiter->data)++;
        }
    }

    /* and so has each of those */

    for (round = 0; round <= WAITERS / 10; round++) {
        rig_put(1, round, 10);
        kv_store_await_collect(other, false);

        for (n = 0; n < 10; n++) {
            waiter = kv_store_await_next(other);
            assert_non_null(waiter);
            (*(unsigned *) waiter->data)++;
        }
    }

    for (i = 0; i < WAITERS; i++) {
        assert_int_not_equal(told[i], 0);
    }

    /* those that end while they are due, at the end and elsewhere */

    rig_put(1, 1, 10);
    kv_store_await_collect(other, false);

    for (i = WAITERS; i; i--) {
        kv_store_await_end(other, &waiters[i % 2 ? i - 1
                                                 : WAITERS - i + 1]);
    }

    assert_null(kv_store_await_next(other));

    wait_for_key(other, 0, 1);
    rig_put(1, 2, 10);
    assert_int_equal(collect(other, false), 1);
    kv_store_await_end(other, &waiters[0]);

    stop_both();
}


static void
test_rebuild(void **state)
{
    uint64_t  end;
    unsigned  todo;

    (void) state;

    start_both();
    rig_put(1, 1, 10);

    wait_for_key(other, 0, 1);
    wait_for_key(kit.store, 1, 2);

    kv_state_break(kit.store, "for the test");
    end = kit_now_ms() + 30000;

    while (kv_state(kit.store->zone) != KV_STATE_READY
           || atomic_load(&kit.store->zone->rebuilds) == 0)
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 10);

        todo = kv_store_todo(other);

        if (todo & KV_TODO_RESET) {
            kv_store_reset(other);
        }

        kv_store_unclaim(other, todo & ~KV_TODO_RESET);
    }

    while (told[0] == 0 || told[1] == 0) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 10);

        (void) collect(other, false);
        (void) collect(kit.store, false);
    }

    rig_put(1, 2, 10);
    rig_put(2, 2, 10);
    assert_int_equal(collect(other, false), 1);

    kv_store_await_end(other, &waiters[0]);
    kv_store_await_end(kit.store, &waiters[1]);

    stop_both();
}


/*
 * A committer that found no waiter, and dies before it looks again, leaves the
 * zone saying that there are none: its successor says otherwise.
 */

static void
test_died(void **state)
{
    (void) state;

    start_both();
    wait_for_key(other, 0, 1);

    atomic_store(&kit.store->zone->awaits, 0);
    kv_await_tell_all(kit.store->zone);
    assert_int_equal(collect(other, false), 1);

    rig_put(1, 1, 10);
    assert_int_equal(collect(other, false), 1);

    kv_store_await_end(other, &waiters[0]);
    stop_both();
}


/* The filters have their part of the zone, whatever its size. */

static void
test_filters(void **state)
{
    size_t    size, n;
    unsigned  workers;

    (void) state;

    for (size = KV_ZONE_MIN; size <= (size_t) 1 << 40; size *= 2) {

        for (workers = KV_WORKERS_MIN; workers <= KV_WORKERS_MAX;
             workers *= 2)
        {
            n = kv_await_filters_size(size, workers);

            assert_int_equal(n % (workers * KV_CACHE_LINE), 0);
            assert_int_equal(n / workers & (n / workers - 1), 0);
            assert_true(n <= kv_max(size / 256, workers * 256u));
            assert_true(n / workers >= kv_min(size / 512 / workers, 16384));
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_told, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_collected, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(test_many, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_turns, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_rebuild, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_died, rig_setup, rig_teardown),
        cmocka_unit_test(test_filters)
    };

    return cmocka_run_group_tests_name("await", tests, NULL, NULL);
}
