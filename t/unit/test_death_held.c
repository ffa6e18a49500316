
/*
 * What a worker held that died or was stopped: an epoch, a pin, the
 * background's claim, others' operations, a place.  Each is given back, and no
 * other worker waits for it.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "death_rig.h"
#include "disk/kv_snapshot.h"


static off_t  first_write;           /* the least offset that was written to */


static void
in_epoch(host_t *host)
{
    char         key[32];
    size_t       n;
    kv_entry_t  *e;

    n = kit_key(1, key);
    (void) kv_store_read(host->store, key, n, &e);
}


/*
 * A reader died in an epoch and its place is being reaped, while much is freed
 * in the same round: two clears, or more entries than the retire list holds.
 */

static void
test_dead_reader(void **state)
{
    host_t        host;
    kv_op_t      *op[2 * KV_RETIRED_MAX];
    unsigned      i, n;
    const char   *wrong;

    (void) state;

    death_kit.size = 32 << 20;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    assert_int_equal(kit_put(&host, 1, 1, 50000, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_epoch);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    host.hold = true;

    for (i = 0; i < 3; i++) {
        assert_int_equal(kv_store_clear(death_kit.store, &op[i]), KV_OK);
        host_post_tasks(&host, kv_store_submit(death_kit.store, op[i]));
    }

    host.hold = false;
    host_post_tasks(&host, host.held);
    host.held = 0;

    death_finish_within(&host, op, 3, "clear after clear");

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");

    assert_int_equal(kit_put(&host, 1, 1, 50000, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_epoch);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    host.hold = true;
    n = KV_RETIRED_MAX + 1000;

    for (i = 0; i < n; i++) {
        assert_int_equal(kit_begin_put(&host, 7, i + 1, 20, &op[i]), KV_OK);
        host_post_tasks(&host, kv_store_submit(death_kit.store, op[i]));
    }

    host.hold = false;
    host_post_tasks(&host, host.held);
    host.held = 0;

    death_finish_within(&host, op, n, "a full retire list");

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");

    assert_true(host_stop(&host));
}


static bool  holds;                  /* as if it was being sent */


static void
has_returned(host_t *host)
{
    char      key[32];
    size_t    n;
    kv_op_t  *op;
    kv_rc_t   rc;
    uint32_t  id;

    for (id = 1; id <= 2; id++) {
        (void) kit_put(host, id, 1, id == 1 ? 50000 : 100, NULL);

        n = kit_key(id, key);
        (void) kv_store_delete(host->store, key, (uint16_t) n, &op);
        kv_store_return(op);
        host_post_tasks(host, kv_store_submit(host->store, op));

        while (!kv_store_done(op, &rc)) {
            host_process_events(host, 10);
        }

        if (rc != KV_OK) {
            _exit(1);
        }

        if (holds && id == 1) {
            kv_store_hold(host->store, op);
        }
    }
}


/* What deletes have returned to a worker that died is freed. */

static void
test_returned(void **state)
{
    host_t       host;
    unsigned     i;
    const char  *wrong;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);

    for (i = 0; i < 2; i++) {
        holds = i != 0;
        death_child_dies(has_returned);

        assert_int_equal(host_start(&host, death_kit.store), KV_OK);
        wrong = kit_settle(&host);
        assert_string_equal(wrong ? wrong : "", "");
        assert_int_equal(atomic_load(&death_kit.store->zone->rebuilds), 0);
        assert_true(host_stop(&host));
    }
}


static void
in_snapshot(host_t *host)
{
    kv_failpoint_arm("SNAPSHOT_STEP", 1);
    (void) atomic_fetch_or(&host->store->zone->requests, KV_REQUEST_SNAPSHOT);

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


static void
in_large(host_t *host)
{
    kv_failpoint_arm("SNAPSHOT_LARGE", 1);
    (void) atomic_fetch_or(&host->store->zone->requests, KV_REQUEST_SNAPSHOT);

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


/*
 * A snapshot copies a large value outside of all epochs, but pinned: what it
 * pinned when it died is freed.
 */

static void
test_snapshot_pin(void **state)
{
    host_t        host;
    unsigned      i, scanned;
    kv_worker_t  *worker;
    const char   *wrong;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 50000, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_large);

    for (i = 0, scanned = 0; i < death_kit.store->zone->nworkers; i++) {
        worker = &death_kit.store->zone->workers[i];

        assert_int_equal(atomic_load(&worker->epoch[KV_EPOCH_SCAN].value), 0);
        scanned += atomic_load(&worker->scanned) != 0;
    }

    assert_int_equal(scanned, 1);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 2, 100, NULL), KV_OK);

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");
    assert_true(host_stop(&host));
}


/*
 * A worker died while it made a snapshot.  Its place is reaped, and the next
 * process gets that before another snapshot is requested.
 */

static void
test_background_claim(void **state)
{
    pid_t     pid;
    host_t    host, other;
    uint64_t  end;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 500, NULL), KV_OK);
    assert_true(host_stop(&host));

    death_child_dies(in_snapshot);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_null(kit_settle(&host));

    /* takes all free places, the dead one's among them */

    pid = death_child();

    if (pid == 0) {
        death_kit.store->worker = NULL;
        (void) host_start(&other, death_kit.store);
        atomic_store(&death_shared->background,
                     (int) death_kit.store->number + 1);

        for ( ;; ) {
            (void) pause();
        }
    }

    end = kit_now_ms() + PATIENCE;

    while (atomic_load(&death_shared->background) == 0 && kit_now_ms() < end) {
        (void) usleep(500);
    }

    (void) atomic_fetch_or(&death_kit.store->zone->requests,
                           KV_REQUEST_SNAPSHOT);

    while (atomic_load(&death_kit.store->zone->snapshots) == 0
           && kit_now_ms() < end)
    {
        host_process_events(&host, 10);
    }

    (void) kill(pid, SIGKILL);
    assert_true(death_killed(death_wait_for(pid, PATIENCE)));
    assert_true(host_stop(&host));
    assert_int_equal(atomic_load(&death_kit.store->zone->snapshots), 1);
}


static void
half_applied(host_t *host)
{
    kv_op_t   *op;
    unsigned   i;

    kv_failpoint_arm("APPLYING", 5);
    host->hold = true;

    for (i = 0; i < 10; i++) {
        (void) kit_begin_put(host, 100 + i, 1, 20, &op);
        host_post_tasks(host, kv_store_submit(host->store, op));
    }

    host->hold = false;
    host_post_tasks(host, host->held);

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


/*
 * A snapshot may see what is being applied, and gets no name before the log
 * of that is durable.
 */

static void
test_snapshot_end(void **state)
{
    host_t      host;
    uint64_t    end;
    kv_zone_t  *zone;

    (void) state;

    death_kit.conf.sync = KV_SYNC_OFF;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    zone = death_kit.store->zone;

    assert_int_equal(kit_put(&host, 1, 1, 500, NULL), KV_OK);

    end = kit_now_ms() + PATIENCE;
    atomic_store(&zone->sync_requested, 1);

    while (atomic_load(&zone->sync_requested) && kit_now_ms() < end) {
        host_process_events(&host, 10);
    }

    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 1);
    assert_true(host_stop(&host));

    death_child_dies(half_applied);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    /* no worker commits for a while */

    host.hold = true;
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    host_post_tasks(&host, kv_store_todo(death_kit.store));

    host.hold = false;
    host_post_tasks(&host, host.held & KV_TODO_BACKGROUND);
    end = kit_now_ms() + 200;

    while (kit_now_ms() < end && atomic_load(&zone->snapshots) == 0) {
        (void) usleep(1000);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 0);

    /* then the zone is rebuilt, and the snapshot given up */

    host_post_tasks(&host, host.held & KV_TODO_COMMIT);
    end = kit_now_ms() + PATIENCE;

    while (atomic_load(&zone->rebuilds) == 0 && kit_now_ms() < end) {
        host_process_events(&host, 10);
    }

    assert_int_equal(atomic_load(&zone->rebuilds), 1);
    assert_null(kit_settle(&host));
    assert_int_equal(atomic_load(&zone->map.keys), 11);

    assert_true(host_stop(&host));
}


static void
commits_others(host_t *host)
{
    kv_failpoint_arm("WRITTEN", 1);

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


/* What a write was promised holds for the worker that takes over, too. */

static void
test_takeover_of_others(void **state)
{
    kv_rc_t           rc;
    kv_op_t          *op;
    host_t            host, other;
    uint64_t          end;
    kv_zone_t        *zone;
    kv_store_t       *store;
    kv_store_conf_t   conf;

    (void) state;

    death_kit.conf.sync = KV_SYNC_OFF;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    zone = death_kit.store->zone;

    conf = death_kit.conf;
    conf.sync = KV_SYNC_ALWAYS;
    assert_int_equal(kv_store_attach(&store, &conf, death_kit.mem,
                                     &death_kit.io->io,
                                     death_kit.dirfd, &death_kit.err), KV_OK);
    assert_int_equal(kv_store_enter(store), KV_OK);

    memset(&other, 0, sizeof(other));
    other.store = store;
    assert_int_equal(kit_begin_put(&other, 1, 1, 500, &op), KV_OK);
    kv_store_unclaim(store, kv_store_submit(store, op));

    death_child_dies(commits_others);
    assert_int_equal(atomic_load(&op->state), KV_OP_TAKEN);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 0);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    end = kit_now_ms() + PATIENCE;

    while (!kv_store_done(op, &rc) && kit_now_ms() < end) {
        host_process_events(&host, 10);
    }

    assert_int_equal(rc, KV_OK);
    assert_true(op->lsn > 0);
    assert_true(atomic_load(&zone->wal.durable_lsn) >= op->lsn);

    kv_store_release(store, op);
    kv_store_leave(store);
    kv_store_destroy(store);
    assert_null(kit_settle(&host));
    assert_true(host_stop(&host));
}


static void
sync_fails(host_t *host)
{
    kv_op_t  *op;

    kv_failpoint_arm("SYNCED", 1);
    atomic_store(&death_kit.io->fail_sync, EIO);

    (void) kit_begin_put(host, 1, 2, 20000, &op);
    host_post_tasks(host, kv_store_submit(host->store, op));

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


static ssize_t
note_write(kv_io_t *io, int fd, const struct iovec *iov, int n, off_t offset)
{
    (void) io;

    first_write = kv_min(first_write, offset);

    return pwritev(fd, iov, n, offset);
}


/*
 * A committer is killed in a sync that fails, as one that a disk kept hanging:
 * no later sync tells, so the next committer writes the batch once more.
 */

static void
test_sync_failed(void **state)
{
    host_t      host;
    uint64_t    offset;
    uint32_t    version;
    kv_zone_t  *zone;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    zone = death_kit.store->zone;

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 20000, NULL), KV_OK);
    assert_true(host_stop(&host));
    offset = zone->wal.offset;

    death_child_dies(sync_fails);
    assert_true(zone->wal.offset > offset + 20000);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 1);

    atomic_store(&death_kit.io->fail_sync, 0);
    first_write = INT64_MAX;
    death_kit.io->base.pwritev = note_write;

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 2, 1, 10, NULL), KV_OK);
    assert_int_equal(kit_get(&host, 1, &version, NULL), KV_OK);
    assert_int_equal(version, 2);
    assert_true((uint64_t) first_write <= offset);
    assert_int_equal(atomic_load(&zone->rebuilds), 0);

    assert_true(host_stop(&host));
}


static void
enters_only(host_t *host)
{
    (void) host;
}


/* Places of the dead are freed as long as one worker lives. */

static void
test_places(void **state)
{
    host_t    host;
    uint64_t  end;
    unsigned  i;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);

    for (i = 0; i < 4 * PLACES; i++) {
        death_child_dies(enters_only);

        if (i % 3 == 2) {
            assert_int_equal(host_start(&host, death_kit.store), KV_OK);
            assert_null(kit_settle(&host));
            assert_true(host_stop(&host));
        }
    }

    /* all of them dead, before any had the time to clear away */

    for (i = 0; i < PLACES; i++) {
        atomic_store(&death_kit.store->zone->reap, 0);

        if (kv_store_enter(death_kit.store) == KV_OK) {
            kv_store_leave(death_kit.store);
        }
    }

    end = kit_now_ms() + PATIENCE;

    while (host_start(&host, death_kit.store) != KV_OK) {
        assert_true(kit_now_ms() < end);
        (void) usleep(1000);
    }

    assert_null(kit_settle(&host));
    assert_true(host_stop(&host));
}


/* An upload that does not go on, and an answer that no client reads. */

static void
stuck_requests(host_t *host)
{
    kv_op_t     *op;
    kv_entry_t  *e;

    static char  data[60000];

    (void) kv_store_put(host->store, "upload", 6, KV_LENGTH_UNKNOWN, 0, &op);
    (void) kv_store_write(host->store, op, 0, data, sizeof(data));

    if (kv_store_read(host->store, "key-1", 5, &e) == KV_OK) {
        (void) kv_store_pin(host->store, e, &op);
        kv_store_read_done(host->store);
    }
}


/* Stopped at the worst time. */

static void
stuck_reader(host_t *host)
{
    kv_entry_t  *e;

    (void) kv_store_read(host->store, "key-1", 5, &e);
}


static pid_t
stuck_child(void (*f)(host_t *host))
{
    pid_t     pid;
    host_t    host;
    uint64_t  end;

    atomic_store(&death_shared->stop, 0);

    pid = death_child();

    if (pid == 0) {
        if (host_start(&host, death_kit.store) != KV_OK) {
            _exit(1);
        }

        f(&host);
        atomic_store(&death_shared->stop, 1);

        for ( ;; ) {
            if (f == stuck_requests) {
                host_process_events(&host, 10);

            } else {
                (void) pause();
            }
        }
    }

    end = kit_now_ms() + PATIENCE;

    while (!atomic_load(&death_shared->stop)) {
        assert_true(kit_now_ms() < end);
        (void) usleep(500);
    }

    return pid;
}


static uint64_t
heap_used(void)
{
    kv_heap_stat_t  st;

    assert_int_equal(kv_store_heap_stat(death_kit.store, &st), KV_OK);

    return st.used;
}


/*
 * While requests are stuck, nothing but what they have themselves is kept:
 * the zone is written over many times.  A reader that stops within its epoch
 * does keep what is replaced, but no longer than it lives.
 */

static void
test_stuck(void **state)
{
    pid_t        pid;
    host_t       host;
    uint32_t     i;
    uint64_t     died, used;
    unsigned     round, reserves;
    const char  *wrong;

    (void) state;

    death_kit.size = 8 << 20;
    death_kit.conf.snapshot = 0;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 1, 1, 80000, NULL), KV_OK);
    assert_true(host_stop(&host));

    for (round = 0; round < 2; round++) {
        pid = stuck_child(round == 0 ? stuck_requests : stuck_reader);

        assert_int_equal(host_start(&host, death_kit.store), KV_OK);
        used = heap_used();

        if (round == 0) {
            reserves = 0;

            for (i = 0; i < 400; i++) {
                assert_int_equal(kit_put(&host, 1, 2 + i, 80000, &reserves),
                                 KV_OK);
            }

            /* the pinned value is one more */

            assert_true(heap_used() <= used + 2 * 100000);

        } else {
            for (i = 0; i < 40; i++) {
                assert_int_equal(kit_put(&host, 1, 1000 + i, 80000, NULL),
                                 KV_OK);
            }

            assert_true(heap_used() >= used + 39 * 80000);
        }

        (void) kill(pid, SIGKILL);
        assert_true(death_killed(death_wait_for(pid, PATIENCE)));
        died = death_ran_ms();

        wrong = kit_settle(&host);
        assert_string_equal(wrong ? wrong : "", "");
        assert_true(death_ran_ms() - died <= SOON);

        assert_true(host_stop(&host));
    }

    assert_int_equal(atomic_load(&death_kit.store->zone->rebuilds), 0);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, death_setup, death_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_dead_reader),
        TEST(test_returned),
        TEST(test_snapshot_pin),
        TEST(test_background_claim),
        TEST(test_snapshot_end),
        TEST(test_takeover_of_others),
        TEST(test_sync_failed),
        TEST(test_places),
        TEST(test_stuck)
    };

    return cmocka_run_group_tests_name("death held", tests, NULL, NULL);
}
