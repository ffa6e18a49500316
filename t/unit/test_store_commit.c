
/*
 * How writes are committed: when they are synced, which worker is woken, what
 * errors of the disk lead to, and two workers as threads, for ThreadSanitizer
 * to see.
 */

/* tsan */
/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "store_rig.h"


static void
test_delay(void **state)
{
    kv_rc_t    rc;
    kv_op_t   *op[10];
    uint64_t   began, took;
    unsigned   i;

    (void) state;

    kit.conf.delay = 300;
    kit.conf.batch = 10;
    rig_start();

    /* alone it waits, */

    began = kit_now_ms();
    rig_put(1, 1, 20);
    took = kit_now_ms() - began;
    assert_true(took >= 299);
    rig_stop();

    /* in company it does not */

    kit.conf.delay = 60000;
    rig_start();
    began = kit_now_ms();

    for (i = 0; i < 10; i++) {
        assert_int_equal(kit_begin_put(&host, i, 2, 20, &op[i]), KV_OK);
        host_post_tasks(&host, kv_store_submit(kit.store, op[i]));
        shadow[i] = 2;
    }

    for (i = 0; i < 10; i++) {
        while (!kv_store_done(op[i], &rc)) {
            host_process_events(&host, KV_STORE_WATCH);
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(kit.store, op[i]);
    }

    assert_true(kit_now_ms() - began < 30000);

    /* and not when the process is to end */

    rig_verify();
    kit.conf.delay = 300;
    rig_restart();
    rig_stop();
}


static void
test_sync_modes(void **state)
{
    int         syncs;
    uint64_t    end, lsn;
    kv_zone_t  *zone;

    (void) state;

    kit.conf.sync = KV_SYNC_ALWAYS;
    rig_start();
    syncs = atomic_load(&kit.io->syncs);
    rig_put(1, 1, 100);
    rig_put(2, 1, 100);
    assert_true(atomic_load(&kit.io->syncs) >= syncs + 2);
    rig_stop();

    kit.conf.sync = KV_SYNC_OFF;
    rig_start();
    rig_put(3, 1, 100);
    syncs = atomic_load(&kit.io->syncs);
    rig_put(4, 1, 100);
    host_process_events(&host, 60);
    host_process_events(&host, 60);
    assert_int_equal(atomic_load(&kit.io->syncs), syncs);
    rig_stop();

    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 100;
    rig_start();
    zone = kit.store->zone;
    rig_put(5, 1, 100);
    rig_put(6, 1, 100);
    lsn = atomic_load(&zone->wal.next_lsn) - 1;
    end = kit_now_ms() + 30000;

    while (atomic_load(&zone->wal.durable_lsn) < lsn) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 20);
    }

    rig_restart();

    /* a snapshot asks for the sync that it needs */

    kit.conf.sync_interval = 3600 * 1000;
    rig_restart();
    rig_traffic(5);
    rig_snapshot();
    assert_int_equal(atomic_load(&kit.store->zone->snapshots), 1);
    rig_traffic(5);
    rig_restart();
    rig_stop();
}


/* A worker that polls is not woken; when it stops, it is, or sees it then. */

static void
test_polling(void **state)
{
    int             i, woken;
    char            key[32];
    size_t          n;
    kv_rc_t         rc;
    kv_op_t        *op;
    struct pollfd   pfd;

    (void) state;

    rig_start();

    n = kit_key(1, key);
    pfd.fd = kit_wakes[kit.store->number];
    pfd.events = POLLIN;
    woken = 0;

    for (i = 0; i < 300; i++) {

        /* the last one's waking up may still be to come */

        do {
            host_process_events(&host, 0);

        } while (atomic_load(&kit.store->zone->committer));

        kv_store_polling(kit.store, true);

        assert_int_equal(kv_store_delete(kit.store, key, (uint16_t) n, &op),
                         KV_OK);
        host_post_tasks(&host, kv_store_submit(kit.store, op));

        if (i % 3 == 0) {

            while (!kv_store_done(op, &rc)) {
                (void) sched_yield();
            }

            kv_store_polling(kit.store, false);
            woken += poll(&pfd, 1, 0);

        } else {
            if (i % 3 == 1) {
                (void) usleep((unsigned) i);
            }

            kv_store_polling(kit.store, false);

            if (!kv_store_done(op, &rc)) {
                assert_int_equal(poll(&pfd, 1, 10000), 1);

                while (!kv_store_done(op, &rc)) {
                    (void) sched_yield();
                }
            }
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(kit.store, op);
    }

    /* a few for other reasons */

    assert_true(woken < 20);

    rig_stop();
}


/*
 * A worker gets no task that cannot be done now: it would get it again as soon
 * as it had tried.
 */

static void
test_nothing_to_do(void **state)
{
    kv_zone_t  *zone;

    (void) state;

    kit.conf.stopping = rig_is_quitting;
    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 10;
    rig_start();
    zone = kit.store->zone;
    rig_put(1, 1, 100);
    rig_settled();

    /* a snapshot that was given up is for the workers that stay */

    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    atomic_store(&rig_quitting, true);
    assert_int_equal(kv_store_todo(kit.store) & KV_TODO_BACKGROUND, 0);
    atomic_store(&rig_quitting, false);

    while (atomic_load(&zone->committer)) {
        (void) sched_yield();
    }

    /* a zone that is to be rebuilt: only that */

    atomic_store(&zone->state, KV_ZONE_BROKEN);
    atomic_store(&zone->unsynced, 1);
    atomic_store(&zone->sync_ms, 10);
    atomic_store(&zone->unmarked, 1);
    assert_in_range(kv_store_next_timeout(kit.store), KV_STORE_WATCH, 60000);
    assert_int_equal(kv_store_todo(kit.store), KV_TODO_COMMIT);
    kv_store_unclaim(kit.store, KV_TODO_COMMIT);

    /* one that quits does not: it may be the last, so it gives all up */

    atomic_store(&rig_quitting, true);
    assert_int_equal(kv_store_next_timeout(kit.store), KV_TIMEOUT_NEVER);
    assert_int_equal(kv_store_todo(kit.store), KV_TODO_RESET);
    atomic_store(&rig_quitting, false);

    /* one that cannot be: nothing */

    atomic_store(&zone->state, KV_ZONE_FAILED);
    atomic_store(&zone->sync_requested, 1);
    atomic_store(&zone->reap, 1);
    assert_int_equal(kv_store_next_timeout(kit.store), KV_TIMEOUT_NEVER);
    assert_int_equal(kv_store_todo(kit.store), 0);

    /* after an error of the disk nothing is synced or marked */

    atomic_store(&zone->state, KV_ZONE_READY);
    atomic_store(&zone->requests, 0);
    atomic_store(&zone->reap, 0);
    atomic_store(&zone->writes, KV_WRITES_NEVER);
    assert_int_equal(kv_store_next_timeout(kit.store), KV_TIMEOUT_NEVER);
    assert_int_equal(kv_store_todo(kit.store), 0);
    atomic_store(&zone->writes, KV_WRITES_OK);

    rig_settled();
    rig_stop();
}


/*
 * The mark behind a log that has gone quiet is written with the block that the
 * last batch ends in: if that fails, so has the log.
 */

static void
test_mark_fails(void **state)
{
    int  i;

    (void) state;

    rig_start();
    rig_traffic(20);
    rig_verify();

    atomic_store(&kit.io->fail_write, EIO);

    for (i = 0; i < 500 && kv_store_healthy(kit.store); i++) {
        host_process_events(&host, 10);
    }

    assert_false(kv_store_healthy(kit.store));
    atomic_store(&kit.io->fail_write, 0);
    assert_int_equal(kit_put(&host, 1, 900001, 2000, NULL), KV_UNAVAILABLE);

    rig_restart();
    rig_traffic(5);
    rig_verify();
    rig_stop();
}


static void
test_disk_full(void **state)
{
    unsigned  i;

    (void) state;

    rig_start();
    rig_traffic(20);
    rig_verify();

    for (i = 0; i < 3; i++) {
        atomic_store(&kit.io->fail_write, i == 1 ? EDQUOT : ENOSPC);

        assert_int_equal(kit_put(&host, 1, 900000, 2000, NULL), KV_NO_SPACE);
        assert_int_equal(kit_delete(&host, 2), KV_NO_SPACE);
        assert_int_equal(kit_clear(&host), KV_NO_SPACE);
        assert_false(kv_store_healthy(kit.store));
        rig_verify();
        rig_settled();

        atomic_store(&kit.io->fail_write, 0);
        rig_traffic(5);
        assert_true(kv_store_healthy(kit.store));
        rig_verify();
    }

    rig_restart();
    rig_stop();
}


static void
failing(bool sync)
{
    uint32_t   version;
    uint64_t   end, syncs;
    unsigned   i;
    kv_op_t   *op;

    rig_start();
    rig_traffic(20);
    rig_verify();
    rig_settled();

    atomic_store(sync ? &kit.io->fail_sync : &kit.io->fail_write, EIO);

    assert_int_equal(kit_put(&host, 1, 900000, 2000, NULL), KV_UNAVAILABLE);

    atomic_store(&kit.io->fail_sync, 0);
    atomic_store(&kit.io->fail_write, 0);

    /* from now on nothing, though the disk works again; reads do */

    syncs = (uint64_t) atomic_load(&kit.io->syncs);

    for (i = 0; i < 3; i++) {
        assert_int_equal(kit_put(&host, 1, 900001, 2000, NULL),
                         KV_UNAVAILABLE);
        assert_int_equal(kit_delete(&host, 2), KV_UNAVAILABLE);
        assert_int_equal(kit_clear(&host), KV_UNAVAILABLE);
    }

    end = kit_now_ms() + 150;

    while (kit_now_ms() < end) {
        host_process_events(&host, 20);
    }

    assert_int_equal(atomic_load(&kit.io->syncs), syncs);
    assert_false(kv_store_healthy(kit.store));
    rig_verify();

    /* to reserve memory is no write */

    assert_int_equal(kv_store_reserve(kit.store, 0, 0, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    rig_stop();
    rig_start();

    /* the failed one may have happened, nothing else */

    if (kit_get(&host, 1, &version, NULL) == KV_OK && version == 900000) {
        shadow[1] = version;
    }

    rig_verify();
    assert_true(kv_store_healthy(kit.store));
    rig_traffic(5);
    rig_restart();
    rig_stop();
}


static void
test_write_error(void **state)
{
    (void) state;

    failing(false);
}


static void
test_sync_error(void **state)
{
    (void) state;

    failing(true);
}


/* Two workers, as threads: what ThreadSanitizer is to see. */

typedef struct {
    pthread_t   thread;
    unsigned    number;
    kv_store_t *store;
    uint64_t    wrong;
    uint32_t    version[50];
} crew_t;


static void *
crew_main(void *data)
{
    host_t      own;
    kv_rc_t     rc;
    uint32_t    i, id, version, got, len;
    uint64_t    s;
    crew_t     *crew = data;

    s = 977 + crew->number;

    if (host_start(&own, crew->store) != KV_OK) {
        crew->wrong = 1;
        return NULL;
    }

    for (i = 0; i < 400; i++) {
        s = s * UINT64_C(6364136223846793005) + 1;
        id = crew->number * 1000 + (uint32_t) (s >> 33) % 50;
        version = i + 1;
        len = s >> 60 ? 8 + (uint32_t) (s >> 40) % 500 : 40000;

        rc = kit_put(&own, id, version, len, NULL);
        crew->wrong += rc != KV_OK;
        crew->version[id % 1000] = version;

        rc = kit_get(&own, id, &got, NULL);
        crew->wrong += rc != KV_OK || got != version;

        /* the other's */

        id = (1 - crew->number) * 1000 + (uint32_t) (s >> 33) % 50;
        rc = kit_get(&own, id, &got, NULL);
        crew->wrong += rc != KV_OK && rc != KV_NOT_FOUND;
    }

    crew->wrong += !host_stop(&own);

    return NULL;
}


static void
test_crew(void **state)
{
    crew_t    crew[2];
    uint32_t  i, id, version;

    (void) state;

    kit.conf.snapshot = 256 << 10;
    rig_start();

    memset(crew, 0, sizeof(crew));

    for (i = 0; i < 2; i++) {
        crew[i].number = i;
        assert_int_equal(kv_store_attach(&crew[i].store, &kit.conf, kit.mem,
                                         &kit.io->io, kit.dirfd, &kit.err),
                         KV_OK);
    }

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&crew[i].thread, NULL, crew_main,
                                        &crew[i]), 0);
    }

    for (i = 0; i < 2; i++) {
        (void) pthread_join(crew[i].thread, NULL);
        kv_store_destroy(crew[i].store);
        assert_int_equal(crew[i].wrong, 0);
    }

    for (i = 0; i < 2; i++) {
        for (id = 0; id < 50; id++) {
            if (crew[i].version[id]) {
                assert_int_equal(kit_get(&host, i * 1000 + id, &version,
                                         NULL), KV_OK);
                assert_int_equal(version, crew[i].version[id]);
            }
        }
    }

    rig_settled();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_delay),
        TEST(test_sync_modes),
        TEST(test_polling),
        TEST(test_nothing_to_do),
        TEST(test_mark_fails),
        TEST(test_disk_full),
        TEST(test_write_error),
        TEST(test_sync_error),
        TEST(test_crew)
    };

    return cmocka_run_group_tests_name("store commit", tests, NULL, NULL);
}
