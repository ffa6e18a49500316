
/*
 * A worker dies at a failpoint.  The others go on within a second, what was
 * acknowledged is there, in memory and on disk, and what the dead one had is
 * freed to the byte.  Every failpoint in kv_failpoint.h is reached: when one is
 * added, test_all_reached fails until a test here dies there.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "death_rig.h"


/* Failpoints off the usual way have tests of their own. */

static bool
usual(const char *name)
{
    unsigned  i;

    static const char *const  others[] = {
        /* test_takeovers */
        "HEAP_FORMAT", "RESETTING", "TAKEOVER", "DEAD_LOCKED", "REAPING",
        "QUIESCING", "REBUILDING", "RECOVERING",
        /* test_steps */
        "GROWING", "CLEARED", "SWEEPING", "COMPACTING",
        /* test_note */
        "NOTE_DELETED", "NOTE_GONE",
        /* test_segment */
        "SEGMENT_NAMED",
        /* test_leading */
        "FOUNDING", "VOTED", "LEADING"
    };

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(name, others[i]) == 0) {
            return false;
        }
    }

    return true;
}


/* Not by every operation. */

static bool
seldom(const order_t *order)
{
    return death_in_background(order)
           || strncmp(order->failpoint, "GROUP_", 6) == 0
           || strcmp(order->failpoint, "COMMIT_LOCKED") == 0
           || strcmp(order->failpoint, "UNCLAIMED") == 0
           || strcmp(order->failpoint, "RETURNED") == 0;
}


static void
test_failpoints(void **state)
{
    int       i, k;
    char      when[64];
    order_t   order;

    static const int  afters[] = { 1, 37 };

    (void) state;

    for (i = 0; i < KV_FAILPOINTS; i++) {

        if (!usual(kv_failpoint_name(i))) {
            continue;
        }

        for (k = 0; k < 2; k++) {
            order.how = DIE_FAILPOINT;
            order.failpoint = kv_failpoint_name(i);
            order.after = seldom(&order) ? k + 1 : afters[k];

            if (k && (strcmp(order.failpoint, "WORKER_TAKEN") == 0
                      || death_leaves(&order)))
            {
                continue;            /* once in a life */
            }

            (void) snprintf(when, sizeof(when), "%s, %d", order.failpoint,
                            order.after);

            if (getenv("KIT_LOG")) {
                (void) fprintf(stderr, "---- %s\n", when);
            }

            death_one_death(&order, when);
            death_clean_directory();
        }
    }
}


#define FEW   300u                 /* keys that are there before */
#define MANY  9000u                /* and that make the map grow */


/* Posts the tasks that `host` held back, all at once. */

static void
let_go(host_t *host, kv_op_t **op, unsigned n)
{
    host->hold = false;
    host_post_tasks(host, host->held);
    host->held = 0;

    death_finish_within(host, op, n, "all at once");
}


static void
grows(host_t *host)
{
    unsigned   i, n;

    static kv_op_t  *op[500];

    kv_failpoint_arm("GROWING", 3);

    for (i = 0; i < MANY; i += n) {
        host->hold = true;

        for (n = 0; n < 500; n++) {
            (void) kit_begin_put(host, 1000000 + i + n, 1, 8, &op[n]);
            host_post_tasks(host, kv_store_submit(host->store, op[n]));
        }

        let_go(host, op, n);
    }
}


static void
clears(host_t *host)
{
    kv_failpoint_arm("CLEARED", 1);
    (void) kit_clear(host);
}


static void
sweeps(host_t *host)
{
    kv_failpoint_arm("SWEEPING", 40);
    (void) kit_clear(host);
}


static void
compacts(host_t *host)
{
    kv_op_t  *op;

    kv_failpoint_arm("COMPACTING", 5);
    (void) kv_store_reserve(host->store, 4 << 20, 0, &op);
    (void) host_run(host, op);
}


/* How many of the first keys are there, whole. */

static unsigned
count_few(host_t *host)
{
    kv_rc_t   rc;
    uint32_t  id, version;
    unsigned  n;

    for (id = 0, n = 0; id < FEW; id++) {
        rc = kit_get(host, id, &version, NULL);

        if (rc == KV_OK) {
            assert_int_equal(version, 1);
            n++;

        } else {
            assert_int_equal(rc, KV_NOT_FOUND);
        }
    }

    return n;
}


static void
one_step(const char *failpoint, void (*f)(host_t *host))
{
    host_t       host;
    uint32_t     id, n;
    uint64_t     died;
    unsigned     few;
    const char  *wrong;

    death_kit.size = 8 << 20;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    for (id = 0; id < FEW; id++) {
        assert_int_equal(kit_put(&host, id, 1, 500, NULL), KV_OK);
    }

    /* a zone of sparse pages: most of what filled it is gone */

    if (f == compacts) {

        for (n = 0; kit_put(&host, 1000 + n, 1, 3000, NULL) == KV_OK; n++) {
            /* void */
        }

        for (id = 0; id < n; id++) {
            if (id % 10) {
                assert_int_equal(kit_delete(&host, 1000 + id), KV_OK);
            }
        }
    }

    assert_true(host_stop(&host));

    death_child_dies(f);
    died = death_ran_ms();
    death_mark(failpoint);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    while (kit_put(&host, FEW, 1, 500, NULL) != KV_OK
           && death_ran_ms() - died <= SOON)
    {
        host_process_events(&host, 1);
    }

    died = death_ran_ms() - died;
    death_slowest = kv_max(death_slowest, died);

    if (died > SOON) {
        fail_msg("%s: the next write took %d ms", failpoint, (int) died);
    }

    /* what was being applied was durable */

    few = count_few(&host);
    assert_int_equal(few, f == clears || f == sweeps ? 0 : FEW);

    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");
    assert_int_equal(atomic_load(&death_kit.store->zone->rebuilds), 1);
    assert_true(host_stop(&host));

    kit_stop(&death_kit);
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(count_few(&host), few);
    assert_true(host_stop(&host));

    death_clean_directory();
}


static void
test_steps(void **state)
{
    (void) state;

    one_step("GROWING", grows);
    one_step("CLEARED", clears);
    one_step("SWEEPING", sweeps);
    one_step("COMPACTING", compacts);
}


static const char  *first_failpoint;


static void
first_put(host_t *host)
{
    kv_failpoint_arm(first_failpoint, 1);
    (void) kit_put(host, 0, 2, 500, NULL);
}


/* Another worker puts: within a second, and nothing had to be rebuilt. */

static void
next_put(host_t *host)
{
    uint64_t  died;

    death_mark(first_failpoint);
    died = death_ran_ms();

    assert_int_equal(host_start(host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(host, 0, 3, 500, NULL), KV_OK);
    died = death_ran_ms() - died;
    death_slowest = kv_max(death_slowest, died);

    if (died > SOON) {
        fail_msg("%s: the next write took %d ms", first_failpoint, (int) died);
    }

    assert_int_equal(atomic_load(&death_kit.store->zone->rebuilds), 0);
}


/* All processes end, and the next finds that put. */

static void
put_is_there(host_t *host)
{
    uint32_t     version;
    const char  *wrong;

    wrong = kit_settle(host);
    assert_string_equal(wrong ? wrong : "", "");
    assert_true(host_stop(host));
    kit_stop(&death_kit);

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(host, death_kit.store), KV_OK);
    assert_int_equal(kit_get(host, 0, &version, NULL), KV_OK);
    assert_int_equal(version, 3);
    assert_true(host_stop(host));
}


static bool
note_is_there(void)
{
    return faccessat(death_kit.dirfd, "log-0000000000000001.closed", F_OK, 0)
           == 0;
}


/* The first write after a clean stop and a start. */

static void
test_note(void **state)
{
    host_t    host;
    unsigned  i;

    static const char *const  failpoints[] = { "NOTE_DELETED", "NOTE_GONE" };

    (void) state;

    for (i = 0; i < 2; i++) {
        assert_int_equal(kit_start(&death_kit), KV_OK);
        assert_int_equal(host_start(&host, death_kit.store), KV_OK);
        assert_int_equal(kit_put(&host, 0, 1, 500, NULL), KV_OK);
        assert_true(host_stop(&host));
        kv_store_close(death_kit.store);
        kit_stop(&death_kit);

        assert_int_equal(kit_start(&death_kit), KV_OK);
        assert_true(note_is_there());

        first_failpoint = failpoints[i];
        death_child_dies(first_put);
        next_put(&host);

        assert_false(note_is_there());
        assert_int_equal(atomic_load(&death_kit.store->zone->wal.closed),
                         KV_WAL_NOTE_NONE);

        put_is_there(&host);
        death_clean_directory();
    }
}


/*
 * The log goes on in a new segment, as after one of an older format; and where
 * all died at that, the segment that the next start finds has no batch, and one
 * that takes none is replaced.
 */

static void
test_segment(void **state)
{
    host_t    host;
    unsigned  i;

    (void) state;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 0, 1, 500, NULL), KV_OK);
    assert_true(host_stop(&host));
    kit_stop(&death_kit);

    first_failpoint = "SEGMENT_NAMED";

    for (i = 0; i < 3; i++) {
        assert_int_equal(kit_start(&death_kit), KV_OK);
        assert_int_equal(atomic_load(&death_kit.store->zone->wal.segments),
                         i ? 2 : 1);
        death_kit.store->zone->wal.offset =
                                    death_kit.store->zone->wal.segment_size;
        death_child_dies(first_put);

        if (i < 2) {
            kit_stop(&death_kit);
        }
    }

    next_put(&host);
    assert_int_equal(atomic_load(&death_kit.store->zone->wal.segments), 2);
    assert_int_equal(death_kit.store->zone->wal.segment_lsn, 2);
    put_is_there(&host);
    death_clean_directory();
}


static void
leader_put(host_t *host)
{
    (void) kit_put(host, 0, 1, 500, NULL);
}


/*
 * Of a cluster: the first write of all, and the first one of a process where
 * another one leads.  Whoever comes next leads in a term of its own.
 */

static void
test_leading(void **state)
{
    host_t    host;
    uint64_t  term;
    unsigned  i;

    static const char *const  failpoints[] = {
        "FOUNDING", "VOTED", "LEADING", "VOTED", "LEADING"
    };

    (void) state;

    for (i = 0; i < 5; i++) {
        first_failpoint = failpoints[i];

        if (!KIT_CLUSTERS) {
            death_mark(first_failpoint);
            continue;
        }

        death_kit.conf.cluster = KIT_ADDRESS;
        assert_int_equal(kit_start(&death_kit), KV_OK);

        if (i >= 3) {
            death_child_dies(leader_put);
        }

        term = death_kit.store->zone->wal.replica.term;
        death_child_dies(first_put);
        assert_true(death_kit.store->zone->wal.replica.term > term);
        term = death_kit.store->zone->wal.replica.term;

        next_put(&host);
        assert_true(death_kit.store->zone->wal.replica.term > term);
        put_is_there(&host);
        death_clean_directory();
    }
}


/*
 * Processes that were forked behind a write have the engine of the one that
 * they come from.  It is of use to the first of them, and to no other.
 */

static void
test_inherited(void **state)
{
    host_t    host;
    uint64_t  term;

    (void) state;

    if (!KIT_CLUSTERS) {
        skip();
    }

    death_kit.conf.cluster = KIT_ADDRESS;
    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    assert_int_equal(kit_put(&host, 0, 1, 500, NULL), KV_OK);
    assert_true(host_stop(&host));
    term = death_kit.store->zone->wal.replica.term;

    death_child_dies(leader_put);
    assert_int_equal(death_kit.store->zone->wal.replica.term, term);
    death_child_dies(leader_put);
    assert_int_equal(death_kit.store->zone->wal.replica.term, term + 1);

    first_failpoint = "LEADING";
    next_put(&host);
    assert_int_equal(death_kit.store->zone->wal.replica.term, term + 2);
    put_is_there(&host);
}


/* One dies with the heap, and then the one that rebuilds or clears up. */

static void
test_takeovers(void **state)
{
    order_t   order[WORKERS];
    unsigned  i, k, deaths, tries;

    static const char *const  failpoints[][2] = {
        { "HEAP_ALLOC", "REBUILDING" },
        { "APPLYING", "REBUILDING" },
        { "WRITTEN", "REAPING" },
        { "BUILDING", "REAPING" },
        { "TAKEN", "TAKEN" },
        { "SWAPPED", "WRITTEN" },
        { "SYNCED", "APPLIED" },
        { "GROUP_DONE", "GROUP_DONE" },
        { "SYNCED", "GROUP_HIDDEN" },
        { "WRITTEN", "APPLYING" },
        { "REPORTING", "NAMED" },
        { "LINKED", "HEAP_FORMAT" },
        { "HEAP_FREE", "RECOVERING" },
        { "APPLYING", "QUIESCING" },
        { "FREEING", "RESETTING" },
        { "TAKEN", "TAKEOVER" },
        { "WRITE", "DEAD_LOCKED" },
        { "SNAPSHOT_COPY", "REAPING" }
    };

    (void) state;

    for (i = 0; i < sizeof(failpoints) / sizeof(failpoints[0]); i++) {
        deaths = 0;

        /* on a busy machine the one that takes over may find all done */

        for (tries = 0; deaths < 2 && tries < 10; tries++) {
            memset(order, 0, sizeof(order));

            for (k = 0; k < WORKERS; k++) {
                order[k].how = DIE_FAILPOINT;
                order[k].failpoint = failpoints[i][k != 0];
                order[k].after = k == 0 ? 20 : 1;
            }

            deaths = death_chaos(order, 50, 0, 2, failpoints[i][0]);
            death_clean_directory();
        }

        if (deaths < 2) {
            fail_msg("%s: no worker died at %s", failpoints[i][0],
                     failpoints[i][1]);
        }

        death_mark(failpoints[i][0]);
        death_mark(failpoints[i][1]);
    }
}


/* By all the tests before. */

static void
test_all_reached(void **state)
{
    int  i, n;

    (void) state;

    if (getenv("KIT_TEST")) {
        skip();
    }

    for (i = 0, n = 0; i < KV_FAILPOINTS; i++) {
        if (!death_reached[i]) {
            (void) fprintf(stderr, "no worker died at %s\n",
                           kv_failpoint_name(i));
            n++;
        }
    }

    if (getenv("KIT_SUM")) {
        (void) fprintf(stderr, "%d of %d failpoints reached, %d writes at "
                       "most; the others went on after %d ms at most; %d "
                       "conditions were true, %d false\n",
                       KV_FAILPOINTS - n, KV_FAILPOINTS, (int) death_most_acks,
                       (int) death_slowest, (int) death_met,
                       (int) death_unmet);
    }

    assert_int_equal(n, 0);

    /* each is counted twice: the zone is verified, and the disk */

    assert_true(death_met > 2000 && death_unmet > 2000);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, death_setup, death_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_failpoints),
        TEST(test_steps),
        TEST(test_note),
        TEST(test_segment),
        TEST(test_leading),
        TEST(test_inherited),
        TEST(test_takeovers),
        cmocka_unit_test(test_all_reached)
    };

    return cmocka_run_group_tests_name("death failpoints", tests, NULL, NULL);
}
