
/*
 * Reads that wait, in several processes: no change is missed, however a wait
 * begins beside a write, and whatever process dies; and what a dead process
 * waited for is forgotten.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "death_rig.h"
#include "store/kv_await.h"


#define WRITERS  2u
#define READERS  2u
#define ROUNDS   4000u
#define LOST     30000             /* ms after which a change was missed */


/* A process that waits for keys. */

typedef struct {
    host_t        host;
    kv_waiter_t   waiter[WRITERS];
    bool          waits[WRITERS];
    uint32_t      seen[WRITERS];
} reader_t;


typedef struct {
    _Atomic uint32_t  seen[READERS][WRITERS];
    _Atomic int       over;
} race_t;


static race_t  *race;


/* Something between nothing and some ten microseconds. */

static void
dawdle(void)
{
    uint32_t  i;

    for (i = death_rnd(20000); i; i--) {
        __asm__ volatile ("");
    }
}


/* The number of a key's last write; 0: it has none. */

static uint32_t
version_of(host_t *host, uint32_t id)
{
    kv_rc_t   rc;
    uint32_t  version;

    rc = kit_get(host, id, &version, NULL);
    assert_true(rc == KV_OK || rc == KV_NOT_FOUND);

    return rc == KV_OK ? version : 0;
}


/* A put, then until all have seen it; then the next. */

static void
write_and_wait(unsigned w)
{
    host_t    host;
    uint32_t  n;
    unsigned  r;
    uint64_t  end;

    death_seed += w + 1;

    if (host_start(&host, death_kit.store) != KV_OK) {
        _exit(1);
    }

    for (n = 1; n <= ROUNDS; n++) {
        dawdle();

        if (kit_put(&host, w, n, 20, NULL) != KV_OK) {
            _exit(2);
        }

        end = kit_now_ms() + LOST;

        for (r = 0; r < READERS; r++) {
            while (atomic_load(&race->seen[r][w]) < n) {
                if (kit_now_ms() > end) {
                    (void) fprintf(stderr, "reader %u missed write %u of key "
                                   "%u\n", r, n, w);
                    _exit(3);
                }

                host_process_events(&host, 0);
            }
        }
    }

    (void) kill(getpid(), SIGKILL);
}


static void
look(reader_t *reader, unsigned r, unsigned k)
{
    uint32_t  version;

    version = version_of(&reader->host, k);

    if (version == reader->seen[k]) {
        return;
    }

    kv_store_await_end(reader->host.store, &reader->waiter[k]);

    reader->waits[k] = false;
    reader->seen[k] = version;
    atomic_store(&race->seen[r][k], version);
}


/* Sleeps without an end while no change is told. */

static void
read_and_wait(unsigned r)
{
    char          key[32];
    size_t        n;
    reader_t      reader;
    unsigned      k;
    kv_store_t   *store;
    kv_waiter_t  *waiter;

    death_seed += 100 + r;
    memset(&reader, 0, sizeof(reader));
    store = death_kit.store;

    if (host_start(&reader.host, store) != KV_OK) {
        _exit(1);
    }

    for ( ;; ) {

        for (k = 0; k < WRITERS; k++) {

            while (!reader.waits[k]) {
                dawdle();

                n = kit_key(k, key);
                reader.waiter[k].data = &reader.waiter[k];
                reader.waits[k] = true;

                if (kv_store_await(store, &reader.waiter[k], key, n)
                    != KV_OK)
                {
                    _exit(2);
                }

                dawdle();
                look(&reader, r, k);
            }
        }

        host_process_events(&reader.host, 10 * LOST);
        kv_store_await_collect(store, false);

        while ((waiter = kv_store_await_next(store)) != NULL) {
            look(&reader, r, (unsigned) (waiter - reader.waiter));
        }
    }
}


static void
test_race(void **state)
{
    pid_t     pid[WRITERS + READERS];
    unsigned  i;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);

    race = mmap(NULL, sizeof(race_t), PROT_READ|PROT_WRITE,
                MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(race, MAP_FAILED);

    for (i = 0; i < WRITERS + READERS; i++) {
        pid[i] = death_child();

        if (pid[i] == 0) {
            if (i < WRITERS) {
                write_and_wait(i);

            } else {
                read_and_wait(i - WRITERS);
            }
        }
    }

    for (i = 0; i < WRITERS; i++) {
        assert_true(death_killed(death_wait_for(pid[i], 10 * PATIENCE)));
    }

    for ( /* void */ ; i < WRITERS + READERS; i++) {
        (void) kill(pid[i], SIGKILL);
        assert_true(death_killed(death_wait_for(pid[i], PATIENCE)));
    }

    (void) munmap(race, sizeof(race_t));
}


/*
 * The parent waits by a handle of its own: a child gets a copy of all that it
 * has, and enters the store by the kit's.
 */

static kv_store_t *
start(host_t *host)
{
    kv_store_t  *store;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(kv_store_attach(&store, &death_kit.conf, death_kit.mem,
                                     &death_kit.io->io, death_kit.dirfd,
                                     &death_kit.err), KV_OK);
    assert_int_equal(host_start(host, store), KV_OK);

    return store;
}


static void
stop(host_t *host, kv_store_t *store)
{
    assert_true(host_stop(host));
    kv_store_destroy(store);
    kit_stop(&death_kit);
}


/* Waits for the end of whoever commits; returns when patience ends. */

static uint64_t
no_committer(host_t *host)
{
    uint64_t  end;

    end = kit_now_ms() + PATIENCE;

    while (atomic_load(&host->store->zone->committer)) {
        assert_true(kit_now_ms() < end);
        host_process_events(host, 1);
    }

    return end;
}


static const char  *failpoint;
static uint32_t     next_version;


static void
put_and_die(host_t *host)
{
    kv_failpoint_arm(failpoint, 1);
    (void) kit_put(host, 1, next_version, 20, NULL);
    _exit(1);
}


/*
 * The committer dies between its change and the end of telling.  The worker
 * that waits for it has nothing else under way, and looks now and then.
 */

static void
test_committer_dies(void **state)
{
    char          key[32];
    size_t        n;
    host_t        host;
    unsigned      i;
    uint64_t      end;
    kv_store_t   *store;
    kv_waiter_t   waiter;

    static const char *const  failpoints[] = {
        "SYNCED", "LINKED", "APPLYING", "APPLIED", "REPORTING", "WAKE"
    };

    (void) state;

    store = start(&host);
    n = kit_key(1, key);

    for (i = 0; i < sizeof(failpoints) / sizeof(failpoints[0]); i++) {
        failpoint = failpoints[i];
        next_version = i + 1;

        assert_int_equal(kv_store_await(store, &waiter, key, n), KV_OK);
        assert_int_equal(version_of(&host, 1), i);

        /* or ours would be the committer */

        end = no_committer(&host);
        death_child_dies(put_and_die);

        do {
            if (kit_now_ms() > end) {
                fail_msg("%s: the change is not told", failpoint);
            }

            host_process_events(&host, KV_STORE_WATCH);
            kv_store_await_collect(store, false);

        } while (kv_store_await_next(store) != &waiter
                 || !kv_state_whole(store->zone)
                 || version_of(&host, 1) != next_version);

        kv_store_await_end(store, &waiter);
    }

    stop(&host, store);
}


static void
wait_and_die(host_t *host)
{
    char                  key[32];
    size_t                n;
    uint32_t              i;
    static kv_waiter_t    waiters[100];

    for (i = 0; i < host->store->worker->awaited_bits / 64; i++) {
        if (atomic_load(&host->store->worker->awaited[i])) {
            _exit(1);
        }
    }

    for (i = 0; i < 100; i++) {
        n = kit_key(i, key);
        (void) kv_store_await(host->store, &waiters[i], key, n);
    }
}


static void
test_waiter_dies(void **state)
{
    host_t       host;
    unsigned     i;
    uint64_t     end;
    kv_zone_t   *zone;
    kv_store_t  *store;

    (void) state;

    store = start(&host);
    zone = store->zone;

    for (i = 0; i < 3; i++) {
        /* or ours would find the dead one before we look */

        (void) no_committer(&host);
        death_child_dies(wait_and_die);
        assert_int_equal(kv_await_count(zone), 100);

        /* the dead one's ring fills up: nothing waits for that */

        for (end = 0; end < 2 * KV_CHANGES; end++) {
            assert_int_equal(kit_put(&host, 1, 1, 20, NULL), KV_OK);
        }

        end = kit_now_ms() + PATIENCE;

        while (kv_await_count(zone)) {
            assert_true(kit_now_ms() < end);
            atomic_store(&zone->reap, 1);
            host_process_events(&host, 10);
        }
    }

    stop(&host, store);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_race, death_setup,
                                        death_teardown),
        cmocka_unit_test_setup_teardown(test_committer_dies, death_setup,
                                        death_teardown),
        cmocka_unit_test_setup_teardown(test_waiter_dies, death_setup,
                                        death_teardown)
    };

    return cmocka_run_group_tests_name("death_await", tests, NULL, NULL);
}
