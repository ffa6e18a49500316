
/*
 * A process's part in a store: made, attached to a zone that is there, with a
 * place and without one; what each call says when it cannot be done.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include <sys/resource.h>

#include "solo.h"
#include "memory/kv_heap_private.h"


static int
setup(void **state)
{
    (void) solo_setup(state);

    solo.conf.max_value = 100000;

    return 0;
}


static kv_store_t *
attach(void)
{
    kv_store_t  *store;

    assert_int_equal(kv_store_attach(&store, &solo.conf, solo.mem,
                                     &solo.ram.io, 3, &solo.err), KV_OK);

    return store;
}


/* A zone needs its own tables, and sixteen pages for the heap. */

static void
test_too_small(void **state)
{
    size_t       least;
    kv_store_t  *store;

    (void) state;

    least = kv_store_overhead(KV_ZONE_MIN, 32) + 16 * KV_PAGE_SIZE;
    assert_true(least <= KV_ZONE_MIN);

    assert_int_equal(kv_store_create(&store, &solo.conf, solo.mem,
                                     1 << 20, 32, &solo.ram.io, 3, &solo.err),
                     KV_NO_MEMORY);
    assert_non_null(strstr(solo.err.text, "\"test\" of 1048576 bytes is too "
                                          "small"));
}


/* Only a zone of the same layout is taken over. */

static void
test_attach(void **state)
{
    kv_store_t  *store;
    kv_zone_t   *zone;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;

    zone->layout++;
    assert_int_equal(kv_store_attach(&store, &solo.conf, solo.mem,
                                     &solo.ram.io, 3, &solo.err),
                     KV_DECLINED);
    assert_non_null(strstr(solo.err.text, "another version"));
    zone->layout--;

    zone->magic[0] ^= 1;
    assert_int_equal(kv_store_attach(&store, &solo.conf, solo.mem,
                                     &solo.ram.io, 3, &solo.err),
                     KV_DECLINED);
    zone->magic[0] ^= 1;

    /* the largest value of all configurations counts */

    solo.conf.max_value = 50000;
    kv_store_destroy(attach());
    assert_int_equal(atomic_load(&zone->max_value), 100000);
    solo.conf.max_value = 200000;
    kv_store_destroy(attach());
    assert_int_equal(atomic_load(&zone->max_value), 200000);

    /* what holders may have, as configured */

    solo.conf.uploads = 1234567;
    solo.conf.readers = 765432;
    store = attach();
    kv_store_in_force(store);
    assert_int_equal(atomic_load(&zone->limit[KV_HELD_UPLOADS]), 1234567);
    assert_int_equal(atomic_load(&zone->limit[KV_HELD_READERS]), 765432);
    kv_store_destroy(store);
}


/* A file may become as large as a segment, or the log could not be written. */

static void
test_file_limit(void **state)
{
    kv_rc_t        less, equal;
    struct rlimit  limit, was;

    (void) state;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    limit = was;
    solo.conf.segment = 64 << 20;

    limit.rlim_cur = solo.conf.segment - 1;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    less = solo_start(&solo);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);

    assert_int_equal(less, KV_ERROR);
    assert_non_null(strstr(solo.err.text, "segments have 67108864 bytes, but a "
                                          "limit allows files 67108863"));

    limit.rlim_cur = solo.conf.segment;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    equal = solo_start(&solo);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);

    assert_int_equal(equal, KV_OK);
}


/* Places are taken once, by one, and given back. */

static void
test_slots(void **state)
{
    unsigned       number;
    kv_store_t    *store, *two, *three;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;
    two = attach();
    three = attach();

    assert_int_equal(kv_store_workers(store), 2);
    assert_true(kv_store_entered(store));
    assert_false(kv_store_entered(two));
    assert_true(kv_store_healthy(store));
    assert_false(kv_store_healthy(two));

    number = store->number;
    assert_int_equal(kv_store_enter(store), KV_OK);
    assert_int_equal(store->number, number);

    assert_int_equal(kv_store_enter(two), KV_OK);
    assert_int_not_equal(two->number, number);
    assert_int_equal(kv_store_enter(three), KV_BUSY);
    assert_false(kv_store_entered(three));

    /* its own counters, which others see */

    assert_null(kv_store_counters(three));
    kv_store_counters(two)[7] += 3;
    assert_int_equal(kv_store_counters_of(store, two->number)[7], 3);
    assert_int_equal(kv_store_counters_of(two, number)[7], 0);

    /* to leave twice is to leave once; the next one finds the counters */

    kv_store_leave(two);
    kv_store_leave(two);
    assert_int_equal(kv_store_enter(three), KV_OK);
    assert_int_equal(kv_store_counters(three)[7], 3);

    kv_store_leave(three);
    kv_store_destroy(three);
    kv_store_destroy(two);
}


/* Whose commit it is. */

static void
test_claims(void **state)
{
    kv_op_t     *op;
    kv_rc_t      rc;
    kv_store_t  *store, *two;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;
    two = attach();
    assert_false(kv_store_commits(two));
    assert_int_equal(kv_store_enter(two), KV_OK);

    assert_int_equal(kv_store_delete(two, "key", 3, &op), KV_OK);
    assert_int_equal(kv_store_submit(two, op), KV_TODO_COMMIT);
    assert_true(kv_store_commits(two));
    assert_false(kv_store_commits(store));

    /* no thread took it, and another process may */

    kv_store_unclaim(two, KV_TODO_COMMIT);
    assert_false(kv_store_commits(two));
    assert_true(kv_store_todo(store) & KV_TODO_COMMIT);
    assert_true(kv_store_commits(store));
    store->zone->spin = 0;
    store->zone->idle_ns = 0;
    kv_store_commit(store);
    assert_false(kv_store_commits(store));
    assert_true(kv_store_done(op, &rc));
    assert_int_equal(rc, KV_OK);

    kv_store_release(two, op);
    kv_store_leave(two);
    kv_store_destroy(two);
}


/* The claim of a worker that is dead and reaped is nobody's. */

static void
test_claim_of_reaped(void **state)
{
    kv_store_t  *store;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;

    atomic_store(&store->zone->committer, store->number + 2);
    assert_false(atomic_load(&store->worker[1].in_use));

    assert_true(kv_store_todo(store) & KV_TODO_COMMIT);
    assert_true(kv_store_commits(store));
    kv_store_unclaim(store, KV_TODO_COMMIT);
}


/* Every call, which has to say the same. */

static void
all_say(kv_store_t *store, kv_op_t *op, kv_rc_t reads, kv_rc_t writes)
{
    kv_op_t     *made;
    kv_entry_t  *e;

    assert_int_equal(kv_store_read(store, "key", 3, &e), reads);
    assert_int_equal(kv_store_put(store, "key", 3, 10, 0, &made), writes);
    assert_int_equal(kv_store_put(store, "key", 3, KV_LENGTH_UNKNOWN, 0, &made),
                     writes);
    assert_int_equal(kv_store_delete(store, "key", 3, &made), writes);
    assert_int_equal(kv_store_fits(store, 3, 10), writes);

    if (op && reads != KV_NOT_FOUND) {
        assert_int_equal(kv_store_write(store, op, 0, "x", 1), writes);
        assert_int_equal(kv_store_finish(store, op, 0), writes);
    }
}


static void
test_unavailable(void **state)
{
    kv_op_t     *op, *made;
    kv_err_t     err;
    kv_store_t  *store;
    kv_zone_t   *zone;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;
    zone = store->zone;

    assert_int_equal(kv_store_put(store, "key", 3, KV_LENGTH_UNKNOWN, 0, &op),
                     KV_OK);

    /* the zone is another generation's: the worker has to reset first */

    atomic_fetch_add(&zone->generation, 1);
    all_say(store, op, KV_UNAVAILABLE, KV_UNAVAILABLE);
    assert_int_equal(kv_store_clear(store, &made), KV_UNAVAILABLE);
    assert_int_equal(kv_store_reserve(store, 1, 0, &made), KV_UNAVAILABLE);
    atomic_fetch_sub(&zone->generation, 1);

    /* a worker died while it changed the heap, and it was not noticed yet */

    atomic_store(&zone->heap->broken, true);
    all_say(store, NULL, KV_NOT_FOUND, KV_UNAVAILABLE);
    assert_int_equal(kv_store_write(store, op, 0, solo.mem, 90000),
                     KV_UNAVAILABLE);
    assert_int_equal(kv_store_finish(store, op, 0), KV_UNAVAILABLE);
    atomic_store(&zone->heap->broken, false);

    kv_store_release(store, op);

    /* a zone that takes no writes is read, and can be asked for memory */

    (void) snprintf(err.text, sizeof(err.text), "a test");
    kv_state_no_writes(store, &err);
    all_say(store, NULL, KV_NOT_FOUND, KV_UNAVAILABLE);
    assert_int_equal(kv_store_clear(store, &made), KV_UNAVAILABLE);
    assert_int_equal(kv_store_reserve(store, 1, 0, &made), KV_OK);
    kv_store_release(store, made);
    assert_false(kv_store_healthy(store));

    /* without a place there is nothing */

    kv_store_leave(store);
    all_say(store, NULL, KV_UNAVAILABLE, KV_UNAVAILABLE);
    assert_int_equal(kv_store_enter(store), KV_OK);
}


/* What is said of memory is what a put finds. */

static void
fits_as_put(uint32_t len, kv_rc_t expected)
{
    kv_op_t  *op;

    assert_int_equal(kv_store_fits(solo.host.store, 3, len), expected);
    assert_int_equal(kv_store_put(solo.host.store, "key", 3, len, 0, &op),
                     expected);

    if (expected == KV_OK) {
        kv_store_release(solo.host.store, op);
    }
}


static void
test_fits(void **state)
{
    kv_op_t     *op;
    kv_rc_t      rc;
    uint32_t     n;
    kv_store_t  *store;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;

    assert_int_equal(kv_store_fits(store, 3, 0), KV_OK);
    fits_as_put(100, KV_OK);
    fits_as_put(100000, KV_OK);
    fits_as_put(8 << 20, KV_NO_MEMORY);

    for (n = 0; kit_begin_put(&solo.host, n, 1, 100000, &op) == KV_OK; n++) {
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    fits_as_put(100000, KV_NO_MEMORY);

    for (n = 200; kit_begin_put(&solo.host, n, 1, 500, &op) == KV_OK; n++) {
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    fits_as_put(500, KV_NO_MEMORY);
    assert_int_equal(kv_store_fits(store, 3, 0), KV_OK);
}


/* An end: what is queued or written waits no longer. */

static void
test_stop(void **state)
{
    kv_op_t     *op;
    kv_rc_t      rc;
    unsigned     n;
    kv_store_t  *store, *two;
    kv_zone_t   *zone;

    (void) state;

    solo.conf.sync = KV_SYNC_INTERVAL;
    solo.conf.sync_interval = 60000;
    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;
    zone = store->zone;

    /* who has no place asks for nothing */

    two = attach();
    kv_store_stop(two);
    kv_store_destroy(two);

    /* the first batch of a segment is synced with it */

    for (n = 0; n < 2; n++) {
        assert_int_equal(kv_store_delete(store, "key", 3, &op), KV_OK);
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    assert_true(atomic_load(&zone->wal.durable_lsn) + 1
                < atomic_load(&zone->wal.next_lsn));
    assert_false(atomic_load(&zone->sync_requested));

    kv_store_stop(store);
    assert_true(kv_store_todo(store) & KV_TODO_COMMIT);
    kv_store_commit(store);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn) + 1,
                     atomic_load(&zone->wal.next_lsn));

    /* nothing is left to sync: nothing is asked for */

    kv_store_stop(store);
    assert_false(atomic_load(&zone->sync_requested));
}


/* What an operation holds, and who is told to let go of it. */

static void
test_holders(void **state)
{
    size_t         i, n, sum;
    kv_op_t       *op;
    kv_rc_t        rc;
    kv_entry_t    *e;
    kv_store_t    *store, *two;
    struct iovec   iov[16], part[1];

    (void) state;

    solo.conf.log = NULL;            /* nobody is told, and nothing breaks */
    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;
    two = attach();

    assert_int_equal(kv_store_clear(store, &op), KV_OK);
    assert_int_equal(kv_store_held(op), 0);
    kv_store_release(store, op);
    assert_int_equal(kv_store_delete(store, "key", 3, &op), KV_OK);
    assert_int_equal(kv_store_held(op), 0);
    kv_store_release(store, op);

    /* once for each time that it is told */

    assert_false(kv_store_evicted(two));
    assert_false(kv_store_evicted(store));
    atomic_store(&store->worker->evict, 1);
    assert_true(kv_store_evicted(store));
    assert_false(kv_store_evicted(store));

    /* a value in one piece, and one in several */

    assert_int_equal(kv_store_put(store, "key", 3, 5, 0, &op), KV_OK);
    assert_int_equal(kv_store_write(store, op, 0, "value", 5), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_OK);
    assert_int_equal(kv_store_read(store, "key", 3, &e), KV_OK);
    assert_memory_equal(kv_store_value(e), "value", 5);
    kv_store_read_done(store);

    assert_int_equal(kit_begin_put(&solo.host, 1, 1, 100000, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(kv_store_read(store, "key-1", 5, &e), KV_OK);
    n = kv_store_value_iov(e, iov, 16, 0);
    assert_in_range(n, 2, 15);

    for (i = 0, sum = 0; i < n; i++) {
        sum += iov[i].iov_len;
    }

    assert_int_equal(sum, 100000);
    assert_int_equal(kv_store_value_iov(e, part, 1, 1), 1);
    assert_ptr_equal(part[0].iov_base, iov[1].iov_base);
    kv_store_read_done(store);

    /* who wakes it, said after it took its place */

    kv_store_wakes(store, kit_wakes, 3, 2);
    assert_int_equal(atomic_load(&store->worker->wake), 3);
    kv_store_wakes(store, kit_wakes, 3, 3);
    assert_int_equal(atomic_load(&store->worker->wake), 0);

    kv_store_destroy(two);
}


static void *
die_committing(void *ctx)
{
    assert_int_equal(kv_mutex_trylock(ctx), KV_OK);

    return NULL;
}


static bool
closed(void)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < RAM_FILES; i++) {
        n += strstr(solo.ram.file[i].name, ".closed") != NULL;
    }

    return n != 0;
}


/* The log is closed by the last one, if all is as it should be. */

static void
test_close(void **state)
{
    kv_op_t     *op;
    kv_rc_t      rc;
    unsigned     warnings;
    pthread_t    thread;
    kv_store_t  *store, *two;
    kv_zone_t   *zone;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;
    zone = store->zone;
    two = attach();

    assert_int_equal(kv_store_delete(store, "key", 3, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_OK);

    /* not while a worker is there */

    kv_store_close(two);
    assert_false(closed());
    kv_store_leave(store);

    /* not while a commit goes on */

    assert_int_equal(kv_mutex_trylock(&zone->commit_lock), KV_OK);
    kv_store_close(two);
    kv_mutex_unlock(&zone->commit_lock);
    assert_false(closed());

    /* nor after one that died, or if the note cannot be written */

    assert_int_equal(pthread_create(&thread, NULL, die_committing,
                                    &zone->commit_lock), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    kv_store_close(two);
    assert_false(closed());
    assert_int_equal(kv_mutex_trylock(&zone->commit_lock), KV_OK);
    kv_mutex_unlock(&zone->commit_lock);

    solo.ram.fault[0].call = RAM_OPEN;
    solo.ram.fault[0].error = EIO;
    solo.ram.fault[0].nth = 1;
    solo.ram.fault[0].times = 1000000;
    warnings = solo.warnings;
    kv_store_close(two);
    assert_int_equal(solo.warnings, warnings + 1);
    solo.ram.fault[0].nth = 0;
    assert_false(closed());

    /* nor if the zone is not whole */

    atomic_store(&zone->writes, KV_WRITES_NEVER);
    kv_store_close(two);
    atomic_store(&zone->writes, KV_WRITES_OK);
    assert_false(closed());

    kv_store_close(two);
    assert_true(closed());

    kv_store_destroy(two);
    assert_int_equal(kv_store_enter(store), KV_OK);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, setup, solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_too_small),
        TEST(test_attach),
        TEST(test_file_limit),
        TEST(test_slots),
        TEST(test_claims),
        TEST(test_claim_of_reaped),
        TEST(test_unavailable),
        TEST(test_fits),
        TEST(test_stop),
        TEST(test_holders),
        TEST(test_close)
    };

    return cmocka_run_group_tests_name("store handle", tests, NULL, NULL);
}
