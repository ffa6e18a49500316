
/*
 * Stores with conf->hosted: one process commits for all (kv_host.h).  Here the
 * hosts are processes, and the test is a worker.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/kv_failpoint.h"
#include "store/kv_host.h"
#include "kit.h"


#define HOSTS  100                   /* of a test, one after the other */


typedef struct {
    _Atomic bool    end;             /* it is to end when it is not needed */
    _Atomic bool    needed;          /* it was, since then */
} hosted_t;


static kit_t        kit;
static host_t       host;            /* the worker */
static hosted_t    *hosted;          /* shared, one for each host */
static pid_t        pids[HOSTS];
static unsigned     nhosts;


static int
setup(void **state)
{
    (void) state;

    kit_open(&kit, 8 << 20, 8);
    kit.conf.hosted = true;

    hosted = mmap(NULL, HOSTS * sizeof(hosted_t), PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(hosted, MAP_FAILED);
    nhosts = 0;

    return 0;
}


static int
teardown(void **state)
{
    unsigned  i;

    (void) state;

    for (i = 0; i < nhosts; i++) {
        if (pids[i]) {
            (void) kill(pids[i], SIGKILL);
            (void) waitpid(pids[i], NULL, 0);
        }
    }

    kit_close(&kit);
    (void) munmap(hosted, HOSTS * sizeof(hosted_t));

    return 0;
}


static kv_store_t *
attached(void)
{
    kv_store_t  *store;

    if (kv_store_attach(&store, &kit.conf, kit.mem, &kit.io->io, kit.dirfd,
                        &kit.err)
        != KV_OK)
    {
        abort();
    }

    kv_store_wakes(store, kit_wakes, kit.workers, kit.workers);

    return store;
}


static void *
hosts(void *data)
{
    kv_store_host(data);

    return NULL;
}


/* A process that hosts; returns its number. */

static unsigned
begin(void)
{
    pthread_t    thread;
    unsigned     i;
    kv_store_t  *store;

    i = nhosts++;
    assert_true(i < HOSTS);

    pids[i] = fork();
    assert_true(pids[i] >= 0);

    if (pids[i]) {
        return i;
    }

    store = attached();

    if (pthread_create(&thread, NULL, hosts, store) != 0) {
        abort();
    }

    while (!atomic_load(&hosted[i].end) || kv_store_host_needed(store, false)) {

        if (atomic_load(&hosted[i].end)) {
            atomic_store(&hosted[i].needed, true);
        }

        (void) usleep(1000);
    }

    kv_store_host_end(store);
    (void) pthread_join(thread, NULL);
    _exit(store->worker ? 1 : 0);
}


/* Waits for the end of a host, for 20 seconds; its status. */

static int
ended(unsigned i)
{
    int       status;
    uint64_t  end;

    end = kit_now_ms() + 20000;

    while (waitpid(pids[i], &status, WNOHANG) == 0) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 1);
    }

    pids[i] = 0;

    return status;
}


static void
died(unsigned i)
{
    assert_int_equal(kill(pids[i], SIGKILL), 0);
    assert_int_equal(ended(i), SIGKILL);
}


static void
until(bool (*so)(void))
{
    uint64_t  end;

    end = kit_now_ms() + 20000;

    while (!so()) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 1);
    }
}


static bool
is_hosted(void)
{
    return kv_store_unhosted(kit.store) == 0;
}


static bool
is_next(void)
{
    return atomic_load(&kit.store->zone->next_host) != 0;
}


static bool
is_synced(void)
{
    return kv_store_unsynced(kit.store) == 0;
}


static bool
is_marked(void)
{
    return atomic_load(&kit.store->zone->unmarked) == 0;
}


static bool
is_ill(void)
{
    return !kv_store_healthy(kit.store);
}


static bool
is_rebuilt(void)
{
    return host.resets && kv_store_healthy(kit.store);
}


static bool
is_needed(void)
{
    return atomic_load(&hosted[nhosts - 1].needed);
}


static void
start(void)
{
    assert_int_equal(kit_start(&kit), KV_OK);
    assert_int_equal(host_start(&host, kit.store), KV_OK);
}


static void
stop(void)
{
    assert_true(host_stop(&host));
    kit_stop(&kit);
}


static void
put(uint32_t id, uint32_t version)
{
    assert_int_equal(kit_put(&host, id, version, 100, NULL), KV_OK);
}


/*
 * Waits until a put that was submitted is done.  False: the zone was made anew,
 * which forgets it.
 */

static bool
finish(kv_op_t *op)
{
    kv_rc_t   rc;
    uint64_t  end;
    unsigned  resets;

    end = kit_now_ms() + 20000;
    resets = host.resets;

    while (!kv_store_done(op, &rc)) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, KV_STORE_WATCH);

        if (host.resets != resets) {
            until(is_rebuilt);
            return false;
        }
    }

    assert_int_equal(rc, KV_OK);
    kv_store_release(kit.store, op);

    return true;
}


static void
check(uint32_t id, uint32_t version)
{
    uint32_t  is;

    assert_int_equal(kit_get(&host, id, &is, NULL), KV_OK);
    assert_int_equal(is, version);
}


/* Without a host writes wait, and the time is known; then they are done. */

static void
test_none(void **state)
{
    kv_rc_t    rc;
    kv_op_t   *op;
    uint64_t   begun;

    (void) state;

    start();
    assert_true(kv_store_healthy(kit.store));

    assert_int_equal(kit_begin_put(&host, 1, 1, 100, &op), KV_OK);
    assert_int_equal(kv_store_submit(kit.store, op), 0);

    begun = kit_now_ms();

    while (kit_now_ms() < begun + 200) {
        host_process_events(&host, 10);
        assert_false(kv_store_done(op, &rc));
        assert_int_equal(host.todo & KV_TODO_COMMIT, 0);
    }

    assert_true(kv_store_unhosted(kit.store) >= 190);

    until(is_ill);

    (void) begin();
    until(is_hosted);
    assert_true(finish(op));
    assert_true(kv_store_healthy(kit.store));
    check(1, 1);

    stop();
}


/* It dies at any time: the next one goes on with what it had. */

static void
test_death(void **state)
{
    kv_op_t   *op[10];
    uint32_t   i, round;
    unsigned   now;

    (void) state;

    start();
    now = begin();
    put(0, 0);

    for (round = 1; round <= 40; round++) {
        atomic_store(&kit.io->slow_sync_us, round % 2 ? 2000 : 0);

        for (i = 0; i < 10; i++) {
            assert_int_equal(kit_begin_put(&host, i, round, 100, &op[i]),
                             KV_OK);
            assert_int_equal(kv_store_submit(kit.store, op[i]), 0);
        }

        (void) usleep((unsigned) rand() % 3000);
        died(now);
        now = begin();

        for (i = 0; i < 10 && finish(op[i]); i++) {
            check(i, round);
        }

        /* it died while it changed the map */

        for (/* void */ ; i < 10; i++) {
            put(i, round);
            check(i, round);
        }
    }

    assert_null(kit_settle(&host));

    stop();
}


/* One waits for the claim: it goes on if the first dies, or is to end. */

static void
test_next(void **state)
{
    unsigned  first, second, third;

    (void) state;

    start();

    first = begin();
    until(is_hosted);
    put(1, 1);

    second = begin();
    until(is_next);
    put(1, 2);

    died(first);
    put(1, 3);
    until(is_hosted);
    assert_false(is_next());

    third = begin();
    until(is_next);
    put(1, 4);

    atomic_store(&hosted[second].end, true);
    assert_int_equal(ended(second), 0);
    put(1, 5);
    until(is_hosted);
    check(1, 5);

    /* there is no other: it stays as long as there is a worker */

    atomic_store(&hosted[third].end, true);

    until(is_needed);
    put(1, 6);
    assert_true(host_stop(&host));

    assert_int_equal(waitpid(pids[third], NULL, 0), pids[third]);
    pids[third] = 0;

    /* and leaves the log to be closed */

    kv_store_close(kit.store);
    assert_int_equal(faccessat(kit.dirfd, "log-0000000000000006.closed", F_OK,
                               0), 0);

    kit_stop(&kit);
    start();
    check(1, 6);
    stop();
}


static bool
next_lives(void)
{
    uint32_t  next;

    next = atomic_load(&kit.store->zone->next_host);

    return next && kv_host_lives(kit.store->zone, next);
}


/* The worker and three hosts. */

static bool
are_four(void)
{
    unsigned    i, n;
    kv_zone_t  *zone;

    zone = kit.store->zone;

    for (i = 1, n = 0; i <= zone->nworkers; i++) {
        n += i == kit.store->number + 1 || kv_host_lives(zone, i);
    }

    return n == 4;
}


/*
 * Two wait, and are told to end at the same time, as after two reloads and a
 * quit: one of them stays, and goes on when the first one dies.
 */

static void
test_two_wait(void **state)
{
    unsigned    first, second, third;
    uint32_t    next;
    uint64_t    end;

    (void) state;

    start();

    first = begin();
    until(is_hosted);

    /* one that died is not waited for */

    second = begin();
    until(is_next);
    died(second);

    second = begin();
    until(next_lives);
    next = atomic_load(&kit.store->zone->next_host);

    third = begin();
    until(are_four);

    /* it looks several times */

    end = kit_now_ms() + 300;

    while (kit_now_ms() < end) {
        host_process_events(&host, 5);
        assert_int_equal(atomic_load(&kit.store->zone->next_host), next);
    }

    atomic_store(&hosted[second].end, true);
    atomic_store(&hosted[third].end, true);
    assert_int_equal(ended(third), 0);

    put(1, 1);
    died(first);
    put(1, 2);
    until(is_hosted);
    check(1, 2);
    assert_true(atomic_load(&hosted[second].needed));

    stop();
}


/* A worker leaves the heap half changed: the host makes the zone anew. */

static void
test_rebuild(void **state)
{
    pid_t        pid;
    kv_op_t     *op;
    kv_store_t  *store;

    (void) state;

    start();
    (void) begin();
    put(1, 1);

    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        store = attached();
        kv_failpoint_arm("HEAP_ALLOC", 1);

        if (kv_store_enter(store) == KV_OK) {
            (void) kv_store_put(store, "k", 1, 10, 0, &op);
        }

        _exit(1);
    }

    assert_int_equal(waitpid(pid, NULL, 0), pid);

    /*
     * The host may have looked for the dead just before.  A worker that takes
     * the place of a dead one says so.
     */

    atomic_store(&kit.store->zone->reap, 1);

    until(is_rebuilt);
    check(1, 1);
    put(1, 2);
    check(1, 2);
    assert_null(kit_settle(&host));

    stop();
}


/* A node that is alone leads before its first write. */

static bool
is_leading(void)
{
    const kv_wal_replica_t  *replica;

    replica = &kit.store->zone->wal.replica;

    return kv_get_relaxed(replica->commit) && kv_get_relaxed(replica->index);
}


static void
test_leads(void **state)
{
    (void) state;

    if (!KIT_CLUSTERS) {
        skip();
    }

    kit.conf.cluster = KIT_ADDRESS;

    start();
    (void) begin();
    until(is_leading);

    stop();
}


/* It knows by itself when to sync, and to mark the log's end. */

static void
test_timeouts(void **state)
{
    (void) state;

    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 50;

    start();
    (void) begin();
    put(1, 1);
    assert_int_equal(kv_store_next_timeout(kit.store), KV_TIMEOUT_NEVER);

    until(is_synced);
    until(is_marked);

    stop();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_death, setup, teardown),
        cmocka_unit_test_setup_teardown(test_next, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rebuild, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timeouts, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
