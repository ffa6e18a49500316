
/*
 * The states of a store (kv_state.h): which errors lead to which state, what
 * each kind of request gets there, and what ends it.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/kv_committer.h"
#include "disk/kv_wal_private.h"
#include "solo.h"


static void
break_call(ram_call_t call, int error, unsigned times)
{
    ram_fault_t  *f;

    f = &solo.ram.fault[0];
    memset(f, 0, sizeof(ram_fault_t));

    f->call = call;
    f->error = error;
    f->nth = solo.ram.calls[call] + 1;
    f->times = times;
}


static void
repair(void)
{
    solo.ram.fault[0].nth = 0;
}


static void
assert_state(kv_state_t state)
{
    assert_string_equal(kv_state_name(kv_state(solo.host.store->zone)),
                        kv_state_name(state));
    assert_int_equal(kv_store_healthy(solo.host.store),
                     state == KV_STATE_READY);
}


/* What a worker does when its timer says that something is due. */

static void
due(void)
{
    struct timespec  pause;

    pause.tv_sec = 0;
    pause.tv_nsec = (long) kv_store_next_timeout(solo.host.store) * 1000000;
    (void) nanosleep(&pause, NULL);

    if (kv_store_todo(solo.host.store) & KV_TODO_COMMIT) {
        kv_store_commit(solo.host.store);
    }
}


/*
 * A sync in a process that has the segment to open first: until it can,
 * nothing is lost and nothing is final.
 */

static void
test_sync_opens(void **state)
{
    unsigned    i, calls;
    kv_zone_t  *zone;

    static const int  errors[] = { EMFILE, ENFILE, ENOMEM, EACCES, EINTR };

    (void) state;

    solo.conf.sync = KV_SYNC_INTERVAL;
    solo.conf.sync_interval = 1;
    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        atomic_store(&zone->synced_ns, kv_now_ns() + 1000000000);
        assert_int_equal(solo_put(&solo, i, 100), KV_OK);
        atomic_store(&zone->synced_ns, 0);
        kv_wal_close(solo.host.store->wal);
        atomic_store(&zone->unmarked, 0);

        break_call(RAM_OPEN, errors[i], 1000);
        solo.warnings = 0;
        due();
        assert_state(KV_STATE_REFUSING);

        /* not at once again, and not a message each time */

        calls = solo.ram.calls[RAM_OPEN];
        assert_int_equal(kv_store_todo(solo.host.store) & KV_TODO_COMMIT, 0);
        due();
        due();
        assert_int_equal(solo.ram.calls[RAM_OPEN] - calls, 2);
        assert_true(solo.warnings <= 1);
        assert_int_equal(solo_put(&solo, 9, 100), KV_REFUSED);
        assert_state(KV_STATE_REFUSING);

        repair();
        assert_int_equal(solo_put(&solo, i, 100), KV_OK);
        atomic_store(&zone->unmarked, 0);
        due();
        assert_state(KV_STATE_READY);
        assert_int_equal(atomic_load(&zone->wal.durable_lsn),
                         atomic_load(&zone->wal.next_lsn) - 1);
    }
}


/* A sync that failed is believed in no case, whatever it says. */

static void
test_sync_fails(void **state)
{
    unsigned  i;

    static const int  errors[] = { EIO, ENOSPC, EDQUOT, ENOMEM, EAGAIN, EINTR };

    (void) state;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        assert_int_equal(solo_start(&solo), KV_OK);
        assert_int_equal(solo_put(&solo, 1, 100), KV_OK);

        break_call(RAM_FDATASYNC, errors[i], 1);
        assert_int_equal(solo_put(&solo, 1, 100), KV_UNAVAILABLE);
        assert_state(KV_STATE_READ_ONLY);
        repair();
        assert_int_equal(solo_put(&solo, 1, 100), KV_UNAVAILABLE);
        assert_state(KV_STATE_READ_ONLY);

        solo_stop(&solo, true);
    }
}


/* A write that lacked something is behind the log's end, and forgotten. */

static void
test_write_lacks(void **state)
{
    unsigned  i, direct;
    uint32_t  version;

    static const int  errors[] = { ENOMEM, EAGAIN, ENOSPC, EDQUOT, EFBIG };

    (void) state;

    for (direct = 0; direct < 2; direct++) {
        solo.ram.can_direct = direct;

        for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
            assert_int_equal(solo_start(&solo), KV_OK);
            assert_int_equal(solo_put(&solo, 1, 100), KV_OK);

            break_call(RAM_WRITE, errors[i], 1);
            assert_int_equal(solo_put(&solo, 2, 3000), i < 2 ? KV_REFUSED
                                                             : KV_NO_SPACE);
            repair();
            assert_state(i < 2 ? KV_STATE_REFUSING : KV_STATE_DISK_FULL);
            assert_int_equal(solo_put(&solo, 3, 3000), KV_OK);
            assert_state(KV_STATE_READY);

            solo_stop(&solo, false);
            assert_int_equal(solo_start(&solo), KV_OK);
            assert_int_equal(kit_get(&solo.host, 1, &version, NULL), KV_OK);
            assert_int_equal(kit_get(&solo.host, 3, &version, NULL), KV_OK);
            assert_int_equal(kit_get(&solo.host, 2, &version, NULL),
                             KV_NOT_FOUND);
            solo_stop(&solo, false);
            ram_clear(&solo.ram);
        }
    }
}


/*
 * At the edge of a full disk small writes fit and large ones do not: one
 * state, one message, until a segment fits.
 */

static void
test_edge(void **state)
{
    unsigned    i, kind;
    kv_zone_t  *zone;

    static const int         errors[] = { ENOSPC, EACCES };
    static const kv_state_t  states[] = { KV_STATE_DISK_FULL,
                                          KV_STATE_REFUSING };
    (void) state;

    for (kind = 0; kind < 2; kind++) {
        assert_int_equal(solo_start(&solo), KV_OK);
        zone = solo.host.store->zone;

        do {
            assert_int_equal(solo_put(&solo, 1, 1000), KV_OK);
        } while (zone->wal.segment_size - zone->wal.offset > 8000);

        /* no new segment */

        break_call(RAM_OPEN, errors[kind], 1000);
        solo.warnings = 0;

        for (i = 0; i < 10; i++) {
            assert_int_equal(solo_put(&solo, 1, 4000),
                             kind ? KV_REFUSED : KV_NO_SPACE);
            assert_state(states[kind]);
            assert_int_equal(solo_put(&solo, 2, 10), KV_OK);
            assert_state(states[kind]);
            solo_background(&solo, KV_REQUEST_FREE_DISK|KV_REQUEST_SEGMENT);
            assert_state(states[kind]);
        }

        assert_int_equal(solo.warnings, 1);

        /* small writes go on, and make it look */

        repair();
        zone->retried_ns = 0;
        assert_int_equal(solo_put(&solo, 2, 10), KV_OK);
        solo_background(&solo, 0);
        assert_state(KV_STATE_READY);
        assert_int_equal(solo_put(&solo, 1, 4000), KV_OK);

        solo_stop(&solo, true);
        ram_clear(&solo.ram);
    }
}


/*
 * Deletes, and what makes everything smaller, go on for a while when there can
 * be no new segment.
 */

static void
test_deletes(void **state)
{
    char         key[32];
    kv_rc_t      rc[3];
    kv_op_t     *op[3];
    unsigned     i, kind;
    uint32_t     version;

    static const int         errors[] = { ENOSPC, EACCES };
    static const kv_state_t  states[] = { KV_STATE_DISK_FULL,
                                          KV_STATE_REFUSING };

    (void) state;

    for (kind = 0; kind < 2; kind++) {
        assert_int_equal(solo_start(&solo), KV_OK);

        for (i = 0; i < 10; i++) {
            assert_int_equal(solo_put(&solo, i, 100), KV_OK);
        }

        /* to the last that fits */

        break_call(RAM_OPEN, errors[kind], 1000000);

        for (i = 4000; i; i -= i > 50 ? 50 : 1) {
            while (solo_put(&solo, 99, i) == KV_OK) {
                /* void */
            }
        }

        assert_state(states[kind]);

        for (i = 0; i < 9; i++) {
            assert_int_equal(kv_store_delete(solo.host.store, key,
                                             (uint16_t) kit_key(i, key),
                                             &op[0]), KV_OK);
            solo_commit(&solo, op, 1, rc);
            assert_int_equal(rc[0], KV_OK);
            assert_state(states[kind]);
            assert_int_equal(solo_put(&solo, 99, 1000), kind ? KV_REFUSED
                                                               : KV_NO_SPACE);
            assert_state(states[kind]);
            assert_int_equal(kit_get(&solo.host, i, &version, NULL),
                             KV_NOT_FOUND);
        }

        /* nor are they refused with puts that come at the same time */

        assert_int_equal(kit_begin_put(&solo.host, 98, 1, 1000, &op[0]),
                         KV_OK);
        assert_int_equal(kv_store_delete(solo.host.store, key,
                                         (uint16_t) kit_key(9, key), &op[1]),
                         KV_OK);
        assert_int_equal(kit_begin_put(&solo.host, 9, 2, 1000, &op[2]),
                         KV_OK);
        solo_commit(&solo, op, 3, rc);
        assert_int_equal(rc[0], kind ? KV_REFUSED : KV_NO_SPACE);
        assert_int_equal(rc[1], KV_OK);
        assert_int_equal(rc[2], rc[0]);
        assert_state(states[kind]);
        assert_int_equal(kit_get(&solo.host, 98, &version, NULL),
                         KV_NOT_FOUND);
        assert_int_equal(kit_get(&solo.host, 9, &version, NULL),
                         KV_NOT_FOUND);

        assert_int_equal(kv_store_clear(solo.host.store, &op[0]), KV_OK);
        solo_commit(&solo, op, 1, rc);
        assert_int_equal(rc[0], KV_OK);

        repair();
        solo_stop(&solo, false);
        ram_reboot(&solo.ram);
        assert_int_equal(solo_start(&solo), KV_OK);
        assert_int_equal(atomic_load(&solo.host.store->zone->map.keys), 0);
        assert_int_equal(solo_put(&solo, 1, 4000), KV_OK);
        solo_stop(&solo, false);
        ram_clear(&solo.ram);
    }
}


/* What comes back is said again, though not at once. */

static void
test_said(void **state)
{
    unsigned    i;
    kv_zone_t  *zone;

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;
    assert_int_equal(solo_put(&solo, 1, 100), KV_OK);

    for (i = 0; i < 3; i++) {
        break_call(RAM_WRITE, ENOSPC, 1000);
        assert_int_equal(solo_put(&solo, 1, 100), KV_NO_SPACE);
        assert_int_equal(solo_put(&solo, 1, 100), KV_NO_SPACE);
        assert_int_equal(solo.warnings, i < 2 ? 1 : 2);

        if (i == 1) {

            /* it lasts */

            atomic_store(&zone->refused_ns, 1);
            assert_int_equal(solo_put(&solo, 1, 100), KV_NO_SPACE);
            assert_int_equal(solo_put(&solo, 1, 100), KV_NO_SPACE);
            assert_int_equal(solo.warnings, 2);
        }

        repair();
        assert_int_equal(solo_put(&solo, 1, 100), KV_OK);
        assert_state(KV_STATE_READY);
    }
}


/* A start whose first segment does not fit on the disk says so at once. */

static void
test_start(void **state)
{
    unsigned  i;

    static const int  errors[] = { ENOSPC, EACCES };

    (void) state;

    for (i = 0; i < 2; i++) {
        break_call(RAM_OPEN, errors[i], 1000);
        assert_int_equal(solo_start(&solo), KV_OK);
        assert_state(i ? KV_STATE_REFUSING : KV_STATE_DISK_FULL);
        assert_int_equal(solo.warnings, 1);

        repair();
        assert_false(kv_store_healthy(solo.host.store));
        solo_background(&solo, 0);
        assert_state(KV_STATE_READY);
        assert_int_equal(solo_put(&solo, 1, 100), KV_OK);

        solo_stop(&solo, false);
        ram_clear(&solo.ram);
    }
}


/*
 * The next try of a rebuild, when a worker's timer says that it is due.  The
 * one thread is the committer and the worker that lets go: it does so before
 * it is asked.
 */

static void
rebuild(void)
{
    kv_store_reset(solo.host.store);
    atomic_store(&solo.host.store->worker->generation, UINT64_MAX);

    due();

    kv_store_reset(solo.host.store);
}


/*
 * What may pass in a rebuild only makes it be tried again, with pauses, until
 * it goes well; what may not, ends it.
 */

static void
test_rebuild(void **state)
{
    unsigned    i, k, calls;
    uint64_t    before;
    uint32_t    version;

    static const struct {
        ram_call_t  call;
        int         error;
        bool        passes;
    } faults[] = {
        { RAM_OPEN, EMFILE, true }, { RAM_LIST, ENFILE, true },
        { RAM_READ, ENOMEM, true }, { RAM_WRITE, ENOMEM, true },
        { RAM_FSYNC, EINTR, true }, { RAM_OPEN, EACCES, true },
        { RAM_OPEN, EIO, false }, { RAM_READ, EIO, false }
    };

    (void) state;

    for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        assert_int_equal(solo_start(&solo), KV_OK);
        assert_int_equal(solo_put(&solo, 1, 100), KV_OK);

        /* so that there is an end to be written once more */

        solo_stop(&solo, false);
        assert_int_equal(solo_start(&solo), KV_OK);
        assert_int_equal(solo_put(&solo, 2, 100), KV_OK);

        kv_state_break(solo.host.store, "a test");
        assert_state(KV_STATE_RECOVERING);
        break_call(faults[i].call, faults[i].error, 1000);
        solo.warnings = 0;

        for (k = 0; k < 2; k++) {
            rebuild();

            if (solo.ram.fault[0].hits == 0) {
                fail_msg("fault %u: no such call", i);
            }

            assert_state(faults[i].passes ? KV_STATE_RECOVERING
                                          : KV_STATE_FAILED);
            assert_int_equal(kit_get(&solo.host, 1, &version, NULL),
                             KV_UNAVAILABLE);

            /* not before its time */

            calls = solo.ram.calls[faults[i].call];
            assert_int_equal(kv_store_todo(solo.host.store) & KV_TODO_COMMIT,
                             0);
            kv_store_commit(solo.host.store);
            assert_int_equal(solo.ram.calls[faults[i].call], calls);
        }

        assert_int_equal(solo.warnings, 1);
        before = kv_store_next_timeout(solo.host.store);
        repair();

        if (faults[i].passes) {
            assert_in_range(before, 100, 500);
            rebuild();
            assert_state(KV_STATE_READY);
            assert_int_equal(kit_get(&solo.host, 1, &version, NULL), KV_OK);
            assert_int_equal(kit_get(&solo.host, 2, &version, NULL), KV_OK);
            assert_int_equal(solo_put(&solo, 3, 100), KV_OK);

        } else {
            assert_int_equal(before, KV_TIMEOUT_NEVER);
            rebuild();
            assert_state(KV_STATE_FAILED);
            assert_int_equal(solo_put(&solo, 3, 100), KV_UNAVAILABLE);
        }

        solo_stop(&solo, false);
        ram_clear(&solo.ram);
    }
}


/* How old the oldest write is that a power cut would take. */

static void
assert_unsynced(uint64_t since, uint64_t least)
{
    uint64_t  age;

    age = kv_store_unsynced(solo.host.store);

    assert_in_range(age, least, kit_now_ms() - since + 2);
}


static void
test_unsynced(void **state)
{
    uint64_t         first, segment;
    kv_zone_t       *zone;
    struct timespec  pause;

    (void) state;

    pause.tv_sec = 0;
    pause.tv_nsec = 20000000;

    solo.conf.sync = KV_SYNC_INTERVAL;
    solo.conf.sync_interval = 1000000;
    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;
    atomic_store(&zone->synced_ns, kv_now_ns());
    assert_int_equal(kv_store_unsynced(solo.host.store), 0);

    first = kit_now_ms();
    assert_int_equal(solo_put(&solo, 1, 100), KV_OK);
    assert_unsynced(first, 1);
    (void) nanosleep(&pause, NULL);
    assert_int_equal(solo_put(&solo, 2, 100), KV_OK);
    assert_unsynced(first, 20);

    /* a new segment: all before it is synced */

    segment = zone->wal.segment_lsn;

    while (zone->wal.segment_lsn == segment) {
        first = kit_now_ms();
        assert_int_equal(solo_put(&solo, 3, 4000), KV_OK);
    }

    assert_unsynced(first, 1);

    /* a sync, and what comes after it */

    (void) nanosleep(&pause, NULL);
    assert_int_equal(kv_committer_sync_now(solo.host.store), KV_OK);
    assert_int_equal(kv_store_unsynced(solo.host.store), 0);
    first = kit_now_ms();
    assert_int_equal(solo_put(&solo, 4, 100), KV_OK);
    assert_unsynced(first, 1);

    /* with sync=always there is nothing to be lost */

    solo_stop(&solo, true);
    solo.conf.sync = KV_SYNC_ALWAYS;
    assert_int_equal(solo_start(&solo), KV_OK);
    assert_int_equal(solo_put(&solo, 5, 100), KV_OK);
    assert_int_equal(kv_store_unsynced(solo.host.store), 0);
}


/* Another process, stopped in the middle of something, until it is told. */

static struct {
    kv_mutex_t   *lock;              /* that it holds, or */
    kv_worker_t  *worker;            /* a worker's */
    atomic_int    there;
    atomic_int    go;
} stopped;


static void *
stopped_thread(void *data)
{
    unsigned  number;

    if (stopped.lock) {
        (void) kv_mutex_lock(stopped.lock);

    } else {
        (void) kv_worker_acquire(solo.host.store->zone->workers, 2, &number);
        stopped.worker = &solo.host.store->zone->workers[number];
    }

    atomic_store(&stopped.there, 1);

    while (!atomic_load(&stopped.go)) {
        (void) usleep(1000);
    }

    if (stopped.lock) {
        kv_mutex_unlock(stopped.lock);

    } else {
        atomic_store(&stopped.worker->generation, UINT64_MAX);
    }

    while (atomic_load(&stopped.go) == 1) {
        (void) usleep(1000);
    }

    if (stopped.worker) {
        kv_worker_abandon(stopped.worker);
    }

    return data;
}


static void
stop_another(pthread_t *thread, kv_mutex_t *lock)
{
    memset(&stopped, 0, sizeof(stopped));
    stopped.lock = lock;

    assert_int_equal(pthread_create(thread, NULL, stopped_thread, NULL), 0);

    while (!atomic_load(&stopped.there)) {
        (void) usleep(1000);
    }
}


static void
go_on(pthread_t thread)
{
    atomic_store(&stopped.go, 2);
    assert_int_equal(pthread_join(thread, NULL), 0);
}


/* Asks the process to stop when it waits, or lets the other go on. */

static void *
later(void *data)
{
    while (solo.warnings < 2) {
        (void) usleep(1000);
    }

    if (data) {
        atomic_store(&stopped.go, 1);

    } else {
        solo.host.store->stop = 1;
    }

    return NULL;
}


/*
 * A process that was stopped holds up what must wait for it, but not another's
 * end; and the log names it.
 */

static void
test_stopped(void **state)
{
    unsigned    i;
    kv_op_t    *op;
    pthread_t   other, helper;
    kv_zone_t  *zone;

    (void) state;

    /* with the commit lock, as if in a sync of its own */

    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;
    assert_int_equal(solo_put(&solo, 1, 100), KV_OK);

    stop_another(&other, &zone->commit_lock);
    assert_int_equal(kit_begin_put(&solo.host, 2, 1, 100, &op), KV_OK);
    assert_true(kv_store_submit(solo.host.store, op) & KV_TODO_COMMIT);
    solo.host.store->stop = 1;
    kv_store_commit(solo.host.store);
    assert_int_equal(atomic_load(&zone->committer), 0);
    go_on(other);

    kv_store_commit(solo.host.store);
    assert_int_equal(op->result, KV_OK);
    kv_store_release(solo.host.store, op);
    solo_stop(&solo, false);

    /* with the background lock, when a rebuild wants it */

    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;
    stop_another(&other, &zone->background_lock);
    kv_state_break(solo.host.store, "a test");
    solo.warnings = 2;
    assert_int_equal(pthread_create(&helper, NULL, later, NULL), 0);
    rebuild();
    assert_int_equal(pthread_join(helper, NULL), 0);
    assert_state(KV_STATE_RECOVERING);
    go_on(other);
    solo.host.store->stop = 0;
    rebuild();
    assert_state(KV_STATE_READY);
    solo_stop(&solo, false);

    /* one that does not let go of the zone */

    for (i = 0; i < 2; i++) {
        assert_int_equal(solo_start(&solo), KV_OK);
        stop_another(&other, NULL);
        kv_state_break(solo.host.store, "a test");
        assert_int_equal(solo.warnings, 1);
        assert_int_equal(pthread_create(&helper, NULL, later, i ? &i : NULL),
                         0);
        rebuild();
        assert_int_equal(pthread_join(helper, NULL), 0);
        assert_int_equal(solo.warnings, 2);
        assert_state(i ? KV_STATE_READY : KV_STATE_RECOVERING);
        go_on(other);
        solo_stop(&solo, false);
    }
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, solo_setup, solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_sync_opens),
        TEST(test_sync_fails),
        TEST(test_write_lacks),
        TEST(test_edge),
        TEST(test_deletes),
        TEST(test_said),
        TEST(test_start),
        TEST(test_rebuild),
        TEST(test_unsynced),
        TEST(test_stopped)
    };

    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
