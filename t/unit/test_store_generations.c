
/*
 * Workers of two configurations share a zone: what a write was promised goes
 * with it, whichever worker commits it, and old workers take nothing from new
 * ones.
 */

/* tsan */
/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "store_rig.h"


/* A worker leaves in full flight: its operations end, its memory comes back. */

static void
test_leave(void **state)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    uint32_t     i, round, version;
    unsigned     number;

    static char  data[90000];

    (void) state;

    rig_start();

    for (round = 1; round < 30; round++) {
        number = kit.store->number;
        host.hold = round % 3 == 0;

        for (i = 0; i < 20; i++) {
            rc = kit_begin_put(&host, i, round, i % 5 ? 100 : 50000, &op);
            assert_int_equal(rc, KV_OK);

            if (i < 15) {
                host_post_tasks(&host, kv_store_submit(kit.store, op));
            }
        }

        assert_int_equal(kv_store_put(kit.store, "k", 1, KV_LENGTH_UNKNOWN, 0,
                                      &op), KV_OK);
        assert_int_equal(kv_store_write(kit.store, op, 0, data, 70000),
                         KV_OK);

        /* its claim may stay behind, too */

        assert_true(host_stop(&host));
        assert_int_equal(host_start(&host, kit.store), KV_OK);
        assert_true(kit.store->number != number || round > 1);

        assert_int_equal(kit_put(&host, 100, round, 10, NULL), KV_OK);
        rig_settled();

        for (i = 0; i < 15; i++) {
            assert_int_equal(kit_get(&host, i, &version, NULL), KV_OK);
            assert_int_equal(version, round);
        }

        assert_int_equal(kit_get(&host, 17, &version, NULL), KV_NOT_FOUND);
    }

    rig_stop();
}


/*
 * Workers of two configurations: the committer may be one that would not
 * take such large values itself.
 */

static void
test_two_configurations(void **state)
{
    kv_op_t          *op;
    host_t            other;
    uint32_t          version;
    kv_store_t       *store;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.max_value = 20000;
    kit.conf.segment = 128 << 10;
    rig_start();
    rig_put(1, 1, 20000);

    conf = kit.conf;
    conf.max_value = 2 << 20;
    conf.segment = 4 << 20;
    assert_int_equal(kv_store_attach(&store, &conf, kit.mem, &kit.io->io,
                                     kit.dirfd, &kit.err), KV_OK);
    assert_int_equal(host_start(&other, store), KV_OK);
    other.hold = true;

    for (version = 2; version < 6; version++) {
        assert_int_equal(kit_begin_put(&other, version, 1, 1 << 20, &op),
                         KV_OK);
        host_post_tasks(&other, kv_store_submit(store, op));
        kv_store_unclaim(store, other.held);
        other.held = 0;

        /* done by the old one's thread */

        rig_put(1, version, 20000);
        shadow[version] = 1;

        while (atomic_load(&op->state) != KV_OP_DONE) {
            host_process_events(&host, 5);
        }

        assert_int_equal(op->result, KV_OK);
        kv_store_release(store, op);
    }

    rig_verify();
    assert_true(host_stop(&other));
    kv_store_destroy(store);
    rig_settled();

    kit.conf = conf;
    rig_restart();
    rig_stop();
}


/*
 * What a write was promised goes with it: its committer may have another
 * configuration.
 */

typedef struct {
    kv_store_t  *store;
    host_t       host;
} other_t;


static void
other_start(other_t *other, const kv_store_conf_t *conf)
{
    assert_int_equal(kv_store_attach(&other->store, conf, kit.mem,
                                     &kit.io->io, kit.dirfd, &kit.err), KV_OK);
    assert_int_equal(host_start(&other->host, other->store), KV_OK);
    other->host.hold = true;
}


static void
other_stop(other_t *other)
{
    assert_true(host_stop(&other->host));
    kv_store_destroy(other->store);
}


/* Queues a put of its own that the kit's host is to commit. */

static kv_op_t *
other_submit(other_t *other, uint32_t id, uint32_t version, uint32_t len)
{
    kv_op_t  *op;

    assert_int_equal(kit_begin_put(&other->host, id, version, len, &op),
                     KV_OK);
    host_post_tasks(&other->host, kv_store_submit(other->store, op));
    kv_store_unclaim(other->store, other->host.held);
    other->host.held = 0;
    shadow[id] = version;

    return op;
}


/* Waits until the kit's host has committed it; the LSN that it got. */

static uint64_t
other_wait(other_t *other, kv_op_t *op)
{
    kv_rc_t   rc;
    uint64_t  lsn, end;

    end = kit_now_ms() + 30000;

    while (!kv_store_done(op, &rc)) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    assert_int_equal(rc, KV_OK);
    lsn = op->lsn;
    kv_store_release(other->store, op);

    return lsn;
}


static void
test_sync_of_others(void **state)
{
    int               syncs;
    other_t           other;
    uint64_t          end, lsn;
    unsigned          i;
    kv_zone_t        *zone;
    kv_store_conf_t   conf;

    (void) state;

    /* an old worker that never syncs commits for new ones that always do */

    kit.conf.sync = KV_SYNC_OFF;
    rig_start();
    zone = kit.store->zone;

    conf = kit.conf;
    conf.sync = KV_SYNC_ALWAYS;
    other_start(&other, &conf);

    for (i = 1; i < 10; i++) {
        lsn = other_wait(&other, other_submit(&other, i, i, 100));
        assert_true(atomic_load(&zone->wal.durable_lsn) >= lsn);
    }

    other_stop(&other);

    /* for such that sync once in a while */

    conf.sync = KV_SYNC_INTERVAL;
    conf.sync_interval = 50;
    other_start(&other, &conf);

    lsn = other_wait(&other, other_submit(&other, 10, 1, 100));
    end = kit_now_ms() + 30000;

    while (atomic_load(&zone->wal.durable_lsn) < lsn) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    other_stop(&other);
    rig_verify();
    rig_stop();

    /* and one that always does makes no others wait that do not */

    kit.conf.sync = KV_SYNC_ALWAYS;
    rig_start();

    conf.sync = KV_SYNC_OFF;
    other_start(&other, &conf);
    rig_put(11, 1, 100);
    syncs = atomic_load(&kit.io->syncs);

    for (i = 12; i < 20; i++) {
        (void) other_wait(&other, other_submit(&other, i, i, 100));
    }

    assert_int_equal(atomic_load(&kit.io->syncs), syncs);

    /* but its own write takes theirs along */

    rig_put(11, 2, 100);
    assert_true(atomic_load(&kit.io->syncs) > syncs);

    other_stop(&other);
    rig_verify();
    rig_stop();
}


/* A worker without a delay does not wait because of the delay of others. */

static void
test_delay_of_others(void **state)
{
    kv_rc_t           rc;
    kv_op_t          *own, *op;
    other_t           other;
    uint64_t          began;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.delay = 60000;
    rig_start();

    conf = kit.conf;
    conf.delay = 0;
    other_start(&other, &conf);

    began = kit_now_ms();
    assert_int_equal(kit_begin_put(&host, 1, 1, 100, &own), KV_OK);
    host_post_tasks(&host, kv_store_submit(kit.store, own));
    shadow[1] = 1;

    (void) usleep(20000);
    assert_int_equal(atomic_load(&own->state), KV_OP_QUEUED);

    op = other_submit(&other, 2, 1, 100);
    (void) other_wait(&other, op);

    /* it took the other along */

    while (!kv_store_done(own, &rc)) {
        host_process_events(&host, 5);
    }

    assert_int_equal(rc, KV_OK);
    kv_store_release(kit.store, own);
    assert_true(kit_now_ms() - began < 30000);
    other_stop(&other);

    /* nor does a worker with a smaller batch */

    conf.delay = 60000;
    conf.batch = 2;
    other_start(&other, &conf);
    began = kit_now_ms();
    assert_int_equal(kit_begin_put(&host, 1, 2, 100, &own), KV_OK);
    host_post_tasks(&host, kv_store_submit(kit.store, own));
    shadow[1] = 2;
    (void) other_wait(&other, other_submit(&other, 2, 2, 100));

    while (!kv_store_done(own, &rc)) {
        host_process_events(&host, 5);
    }

    kv_store_release(kit.store, own);
    assert_true(kit_now_ms() - began < 30000);

    /* nor does one that quits, which tells the committer */

    began = kit_now_ms();
    assert_int_equal(kit_begin_put(&host, 1, 3, 100, &own), KV_OK);
    host_post_tasks(&host, kv_store_submit(kit.store, own));
    shadow[1] = 3;
    (void) usleep(20000);
    kv_store_start_now(other.store);

    while (!kv_store_done(own, &rc)) {
        host_process_events(&host, 5);
    }

    kv_store_release(kit.store, own);
    assert_true(kit_now_ms() - began < 30000);
    other_stop(&other);

    rig_verify();
    rig_stop();
}


/*
 * An older process does not know the newest ones' eventfds: what has that
 * number there may be anything.
 */

static void
test_unknown_wakes(void **state)
{
    int              fds[6], few[2];
    other_t          other;
    unsigned         i;
    kv_op_t         *op;
    struct pollfd    pfd;

    (void) state;

    rig_start();

    for (i = 0; i < 6; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
        assert_true(fds[i] >= 0);
    }

    memcpy(few, fds, sizeof(few));
    kv_store_wakes(kit.store, few, 2, 0);

    other_start(&other, &kit.conf);
    pfd.events = POLLIN;

    for (i = 1; i < 7; i++) {
        kv_store_wakes(other.store, fds, 6, i);
        op = other_submit(&other, i, 1, 100);
        (void) other_wait(&other, op);

        /* after the answer, a moment later */

        while (atomic_load(&kit.store->zone->committer)) {
            (void) sched_yield();
        }

        pfd.fd = fds[kv_min(i, 5u)];
        assert_int_equal(poll(&pfd, 1, 0), i == 1);
    }

    /* nor does a process show a number that it does not know itself */

    kv_store_wakes(kit.store, fds, 6, 0);
    kv_store_wakes(other.store, few, 2, 4);
    (void) other_wait(&other, other_submit(&other, 8, 1, 100));

    while (atomic_load(&kit.store->zone->committer)) {
        (void) sched_yield();
    }

    pfd.fd = fds[4];
    assert_int_equal(poll(&pfd, 1, 0), 0);

    kv_store_wakes(kit.store, fds, 6, 0);
    kv_store_wakes(other.store, fds, 6, 5);
    (void) other_wait(&other, other_submit(&other, 9, 1, 100));
    pfd.fd = fds[5];
    assert_int_equal(poll(&pfd, 1, 10000), 1);

    other_stop(&other);
    rig_verify();
    rig_stop();

    for (i = 0; i < 6; i++) {
        (void) close(fds[i]);
    }
}


/*
 * A worker that rests takes no place, keeps no file open and leaves syncs to
 * others; it works again when it is needed.
 */

static void
test_rest(void **state)
{
    other_t           other;
    unsigned          i, number;
    struct pollfd     pfd;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 3600 * 1000;
    rig_start();

    conf = kit.conf;
    other_start(&other, &conf);

    for (i = 1; i < 30; i++) {
        rig_put(i, i, 100);
        rig_put(1000 + i, i, 30000);

        while (atomic_load(&kit.store->zone->committer)
               || atomic_load(&kit.store->zone->background))
        {
            host_process_events(&host, 1);
        }

        pfd.fd = kit_wakes[other.store->number];
        pfd.events = POLLIN;

        while (poll(&pfd, 1, 0) == 1) {
            host_process_events(&other.host, 0);
            kv_store_unclaim(other.store, other.host.held);
            other.host.held = 0;
        }

        number = kit.store->number;
        kv_store_suspend(kit.store);

        assert_null(kit.store->wal);
        assert_null(kit.store->background);
        assert_int_equal(poll(&pfd, 1, 0), 1);
        assert_int_equal(kv_store_todo(kit.store), 0);
        assert_true(kv_worker_lock_dead(&kit.store->zone->workers[number]));
        kv_worker_unlock(&kit.store->zone->workers[number]);

        assert_int_equal(kv_store_enter(kit.store), KV_OK);
        kv_store_wakes(kit.store, kit_wakes, 8, kit.store->number);
    }

    other_stop(&other);
    rig_verify();
    rig_settled();
    rig_restart();
    rig_stop();
}


/* A larger value may come while an old worker is in the middle of its work. */

static void
test_larger_meanwhile(void **state)
{
    kv_rc_t           rc;
    kv_op_t          *own, *op;
    other_t           other;
    uint32_t          larger;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.max_value = 20000;
    kit.conf.segment = 128 << 10;
    rig_start();
    rig_put(1, 1, 20000);

    conf = kit.conf;

    for (larger = 1 << 19; larger <= 1 << 21; larger *= 2) {
        atomic_store(&kit.io->slow_sync_us, 100000);
        assert_int_equal(kit_begin_put(&host, 1, larger, 20000, &own), KV_OK);
        host_post_tasks(&host, kv_store_submit(kit.store, own));
        shadow[1] = larger;

        while (atomic_load(&own->state) == KV_OP_QUEUED) {
            (void) sched_yield();
        }

        conf.max_value = larger;
        conf.segment = larger + (128 << 10);
        other_start(&other, &conf);
        op = other_submit(&other, 2, larger, larger);

        (void) other_wait(&other, op);
        atomic_store(&kit.io->slow_sync_us, 0);

        while (!kv_store_done(own, &rc)) {
            host_process_events(&host, 5);
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(kit.store, own);
        other_stop(&other);
        rig_verify();
    }

    rig_settled();
    kit.conf = conf;
    rig_restart();
    rig_stop();
}


/*
 * What belongs to the store and not to a request, the size of segments and
 * when a snapshot is taken, is what the newest configuration says, whichever
 * worker commits.
 */

static void
test_newest_rules(void **state)
{
    other_t           other;
    uint64_t          end;
    uint32_t          i;
    kv_zone_t        *zone;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.max_value = 20000;
    kit.conf.segment = 128 << 10;
    rig_start();
    rig_put(1, 1, 20000);
    zone = kit.store->zone;

    conf = kit.conf;
    conf.segment = 256 << 10;
    conf.snapshot = 512 << 10;
    other_start(&other, &conf);

    /* not while it may still be refused */

    for (i = 0; i < 40; i++) {
        rig_put(2, i + 1, 20000);
    }

    assert_int_equal(zone->wal.segment_size, 128 << 10);
    assert_int_equal(atomic_load(&zone->snapshots), 0);

    kv_store_in_force(other.store);

    for (i = 0; i < 40; i++) {
        rig_put(3, i + 1, 20000);
    }

    assert_int_equal(zone->wal.segment_size, 256 << 10);

    end = kit_now_ms() + 30000;

    while (atomic_load(&zone->snapshots) == 0
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    other_stop(&other);
    rig_settled();
    rig_restart();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_leave),
        TEST(test_two_configurations),
        TEST(test_sync_of_others),
        TEST(test_delay_of_others),
        TEST(test_unknown_wakes),
        TEST(test_rest),
        TEST(test_larger_meanwhile),
        TEST(test_newest_rules)
    };

    return cmocka_run_group_tests_name("store generations", tests, NULL, NULL);
}
