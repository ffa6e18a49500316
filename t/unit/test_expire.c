
/*
 * Keys that expire: when they are gone, for readers and for what is decided,
 * and what comes of them in the log, in snapshots and at a start.
 *
 * The clocks are the test's: time stands still but when the test moves it.
 */

/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "solo.h"
#include "store/kv_batch.h"
#include "store/kv_clock.h"
#include "store/kv_compact.h"
#include "store/kv_expire.h"


#define SEC      1000u                /* ms */
#define TICK     KV_TIMERS_TICK
#define OPS      KV_BATCH_MAX
#define KEYS     150u
#define ZONE     ((size_t) 4 << 20)

/* calls of a clock that stands still until it moves, for code that waits */
#define PATIENCE 20000u


/* The two clocks, ns. */

static uint64_t          mono = UINT64_C(5000000000000);
static uint64_t          wall = UINT64_C(1700000000000000000);
static _Atomic unsigned  calls;

/* what happens before a clock is read the next time */
static void            (*meanwhile)(void);


int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    void      (*what)(void);
    uint64_t  ns;

    what = meanwhile;
    meanwhile = NULL;

    if (what) {
        what();
    }

    if (atomic_fetch_add(&calls, 1) >= PATIENCE) {
        mono += 1000;
        wall += 1000;
    }

    ns = id == CLOCK_REALTIME ? wall : mono;
    ts->tv_sec = (time_t) (ns / 1000000000);
    ts->tv_nsec = (long) (ns % 1000000000);

    return 0;
}


static void
pass(uint64_t ms)
{
    mono += ms * 1000000;
    wall += ms * 1000000;
    atomic_store(&calls, 0);
}


static kv_zone_t *
zone(void)
{
    return solo.host.store->zone;
}


static uint64_t
now_ms(void)
{
    return kv_clock_ms(zone());
}


/* Operations that are committed together, and what became of them. */

static kv_op_t   *op[OPS];
static kv_rc_t    rc[OPS];
static uint64_t   found[OPS];
static uint64_t   expires[OPS];       /* when the key does, once submitted */
static unsigned   n;
static uint32_t   written;


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }

    n = 0;
}


static void
restart(bool clean)
{
    solo_stop(&solo, clean);
    start();
}


static int
setup(void **state)
{
    (void) state;

    solo_init(&solo, ZONE);
    solo.conf.max_value = 100000;
    solo.conf.segment = 1 << 20;
    srand(7);

    return 0;
}


static void
add_put(uint32_t id, uint32_t len, uint32_t ttl)
{
    assert_int_equal(kit_begin_ttl(&solo.host, id, ++written, len, ttl,
                                   &op[n++]), KV_OK);
}


static void
add_touch(uint32_t id, uint32_t ttl)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);
    assert_int_equal(kv_store_touch(solo.host.store, key, len, ttl, &op[n++]),
                     KV_OK);
}


static void
add_delete(uint32_t id)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);
    assert_int_equal(kv_store_delete(solo.host.store, key, len, &op[n++]),
                     KV_OK);
}


static void
add_clear(void)
{
    assert_int_equal(kv_store_clear(solo.host.store, &op[n++]), KV_OK);
}


static void
add_if(uint8_t flag, uint64_t lsn)
{
    kv_version_t  version;

    version.lsn = lsn;
    version.incarnation = zone()->wal.incarnation;

    kv_store_if(op[n - 1], flag, &version);
}


/* The committer's turn: all that it has to do now. */

static void
run(void)
{
    zone()->spin = 0;
    zone()->idle_ns = 0;
    kv_store_commit(solo.host.store);
}


static void
commit(void)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        (void) kv_store_submit(solo.host.store, op[i]);
        expires[i] = op[i]->entry ? kv_entry_expires(op[i]->entry) : 0;
    }

    run();

    for (i = 0; i < n; i++) {
        assert_true(kv_store_done(op[i], &rc[i]));
        found[i] = kv_store_result(solo.host.store, op[i]).lsn;
        kv_store_release(solo.host.store, op[i]);
    }

    n = 0;
}


static void
expect(kv_rc_t result)
{
    commit();
    assert_int_equal(rc[0], result);
}


static void
put(uint32_t id, uint32_t len, uint32_t ttl)
{
    add_put(id, len, ttl);
    expect(KV_OK);
}


/* The LSN of a key's value, and what is left of its time: 0 for none. */

static uint64_t
lsn_of(uint32_t id, uint64_t *left)
{
    char         key[32];
    size_t       len;
    uint32_t     version;
    uint64_t     lsn;
    kv_entry_t  *e;

    len = kit_key(id, key);

    if (kv_store_read(solo.host.store, key, len, &e) != KV_OK) {
        return 0;
    }

    assert_true(kit_check(e, id, &version));
    lsn = kv_store_version(solo.host.store, e).lsn;

    if (left) {
        *left = kv_store_expires(solo.host.store, e);
    }

    kv_store_read_done(solo.host.store);

    return lsn;
}


static void
is_there(uint32_t id, uint64_t left)
{
    uint64_t  real;

    assert_true(lsn_of(id, &real) > 0);
    assert_int_equal(real, left);
}


static void
is_gone(uint32_t id)
{
    assert_int_equal(lsn_of(id, NULL), 0);
}


/* Writes of key 1 while a reader of it stands still, until it has expired. */

static void
then_late(void)
{
    expect(KV_OK);
    pass(10 * SEC);
}


static void
put_meanwhile(void)
{
    add_put(1, 40, 0);
    then_late();
}


static void
put_for_longer_meanwhile(void)
{
    add_put(1, 20000, 100);
    then_late();
}


static void
touch_meanwhile(void)
{
    add_touch(1, 0);
    then_late();
}


static void
touch_for_longer_meanwhile(void)
{
    add_touch(1, 100);
    then_late();
}


/* A group, whose touch hides what is older, too. */

static void
group_meanwhile(void)
{
    kv_group_t  group;

    assert_int_equal(kv_store_group(solo.host.store, &group), KV_OK);
    add_touch(1, 100);
    assert_int_equal(kv_store_group_add(solo.host.store, &group, op[--n]),
                     KV_OK);
    op[n++] = group.op;
    then_late();
}


static void
delete_meanwhile(void)
{
    add_delete(1);
    then_late();
}


static void
nothing_meanwhile(void)
{
    pass(10 * SEC);
}


static bool
listed(void *ctx, const void *key, size_t len, const kv_entry_t *e,
    uint64_t left)
{
    (void) key;
    (void) len;
    (void) left;

    *(unsigned *) ctx += e != NULL;

    return true;
}


/*
 * A reader has found a key, and before it looks at the time a whole batch gives
 * the key more of it: the key was there all along, whenever that is.
 */

static void
test_renewed(void **state)
{
    bool      there;
    kv_rc_t   got;
    unsigned  i, k, count;

    (void) state;

    static const uint32_t  lens[] = { 40, 20000 };

    static void          (*const what[])(void) = {
        put_meanwhile, put_for_longer_meanwhile, touch_meanwhile,
        touch_for_longer_meanwhile, group_meanwhile, delete_meanwhile,
        nothing_meanwhile
    };

    solo.conf.list = true;
    start();

    for (i = 0; i < 2; i++) {
        for (k = 0; k < 7; k++) {
            there = k < 5;

            put(1, lens[i], 5);
            pass(4 * SEC);
            meanwhile = what[k];
            assert_int_equal(lsn_of(1, NULL) != 0, there);
            assert_null(meanwhile);

            put(1, lens[i], 5);
            pass(4 * SEC);
            meanwhile = what[k];
            count = 0;

            /* a list that meets a group is to be made again */

            while ((got = kv_store_list(solo.host.store, "", 0, false, listed,
                                        &count))
                   == KV_AGAIN)
            {
                assert_ptr_equal(what[k], group_meanwhile);
                assert_null(meanwhile);
            }

            assert_int_equal(got, KV_OK);
            assert_null(meanwhile);
            assert_int_equal(count, there);
        }
    }
}


/* To the millisecond, counted from when it was submitted; small and large. */

static void
test_gone(void **state)
{
    unsigned  i;
    uint64_t  lsn;

    (void) state;

    static const uint32_t  lens[] = { 40, 8000, 20000, 90000 };

    start();

    for (i = 0; i < 4; i++) {
        add_put(1, lens[i], 5);
        pass(3 * SEC);
        add_put(2, lens[i], 0);
        commit();

        is_there(1, 5 * SEC);
        is_there(2, 0);
        lsn = lsn_of(1, NULL);

        pass(5 * SEC - 1);
        is_there(1, 1);
        assert_int_equal(lsn_of(1, NULL), lsn);

        pass(1);
        is_gone(1);
        is_there(2, 0);

        /* a put without a time has none */

        put(1, lens[i], 1);
        put(1, lens[i], 0);
        pass(3600 * SEC);
        is_there(1, 0);
    }
}


/* A touch changes the time, and neither value nor version. */

static void
test_touch(void **state)
{
    unsigned  i;
    uint64_t  lsn;

    (void) state;

    static const uint32_t  lens[] = { 40, KV_ENTRY_INLINE, 20000 };

    start();

    add_touch(1, 5);
    expect(KV_NOT_FOUND);
    assert_int_equal(found[0], 0);

    for (i = 0; i < 3; i++) {
        put(1, lens[i], 0);
        lsn = lsn_of(1, NULL);

        add_touch(1, 5);
        expect(KV_OK);
        assert_int_equal(found[0], lsn);
        is_there(1, 5 * SEC);
        assert_int_equal(lsn_of(1, NULL), lsn);

        pass(4 * SEC);
        add_touch(1, 7);
        expect(KV_OK);
        is_there(1, 7 * SEC);

        add_touch(1, 0);
        expect(KV_OK);
        is_there(1, 0);
        assert_int_equal(lsn_of(1, NULL), lsn);
        pass(100 * SEC);
        is_there(1, 0);

        /* nothing brings it back */

        add_touch(1, 1);
        expect(KV_OK);
        pass(SEC);
        add_touch(1, 10);
        expect(KV_NOT_FOUND);
        add_touch(1, 0);
        add_if(KV_OP_IF_PRESENT, 0);
        expect(KV_PRECONDITION);
        assert_int_equal(found[0], 0);
        is_gone(1);

        put(1, lens[i], 0);
        assert_true(lsn_of(1, NULL) > lsn);

        lsn = lsn_of(1, NULL);
        add_touch(1, 9);
        add_if(KV_OP_IF_VERSION, lsn + 1);
        expect(KV_PRECONDITION);
        assert_int_equal(found[0], lsn);
        add_touch(1, 9);
        add_if(KV_OP_IF_VERSION, lsn);
        expect(KV_OK);
        add_touch(1, 9);
        add_if(KV_OP_IF_ABSENT, 0);
        expect(KV_PRECONDITION);
        is_there(1, 9 * SEC);
    }
}


static void
add_incr(uint32_t id, int64_t by, uint32_t ttl)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);
    assert_int_equal(kv_store_increment(solo.host.store, key, len, by, ttl,
                                        &op[n++]), KV_OK);
}


/* What is left of a counter's time, and the number that it is. */

static void
counts(uint32_t id, const char *number, uint64_t left)
{
    char         key[32];
    size_t       len;
    kv_entry_t  *e;

    len = kit_key(id, key);

    assert_int_equal(kv_store_read(solo.host.store, key, len, &e), KV_OK);
    assert_int_equal(e->value_len, strlen(number));
    assert_memory_equal(kv_store_value(e), number, e->value_len);
    assert_int_equal(kv_store_expires(solo.host.store, e), left);
    kv_store_read_done(solo.host.store);
}


/* An increment keeps a counter's time; one that expired begins anew. */

static void
test_counters(void **state)
{
    (void) state;

    start();

    add_incr(1, 5, 10);
    add_incr(1, 2, 20);
    commit();
    counts(1, "7", 10 * SEC);

    pass(4 * SEC);
    add_incr(1, 1, 0);
    expect(KV_OK);
    counts(1, "8", 6 * SEC);

    add_touch(1, 30);
    add_incr(1, 1, 5);
    add_touch(1, 40);
    add_incr(1, 1, 5);
    commit();
    counts(1, "10", 40 * SEC);
    restart(false);
    counts(1, "10", 40 * SEC);

    pass(40 * SEC);
    is_gone(1);
    add_incr(1, 3, 7);
    expect(KV_OK);
    counts(1, "3", 7 * SEC);

    add_touch(1, 0);
    add_incr(1, 1, 7);
    add_incr(2, 1, 0);
    commit();
    counts(1, "4", 0);
    counts(2, "1", 0);

    /* times that their keys did not have when they were begun */

    add_touch(2, 25);
    add_incr(2, 1, 0);
    add_incr(2, -9, 0);
    add_incr(4, 1, 9);
    add_incr(4, 1, 0);
    commit();
    counts(2, "-7", 25 * SEC);
    counts(4, "2", 9 * SEC);
    restart(false);
    counts(2, "-7", 25 * SEC);
    counts(4, "2", 9 * SEC);

    /* nor is there anything to return */

    put(3, 40, 1);
    pass(SEC);
    add_delete(3);
    kv_store_return(op[0]);
    expect(KV_NOT_FOUND);
}


/* In one batch, each decided behind those before it. */

static void
test_together(void **state)
{
    unsigned  i;
    uint64_t  lsn;

    static const kv_rc_t  expected[] = {
        KV_OK, KV_OK, KV_OK, KV_OK, KV_OK, KV_NOT_FOUND, KV_NOT_FOUND, KV_OK,
        KV_OK, KV_OK, KV_OK, KV_PRECONDITION, KV_OK, KV_OK, KV_OK,
        KV_NOT_FOUND
    };

    (void) state;

    start();
    put(3, 50, 1);
    put(4, 50, 0);
    lsn = zone()->wal.next_lsn;
    pass(SEC);

    add_put(1, 40, 0);                       /* lsn */
    add_touch(1, 5);
    add_touch(1, 6);
    add_put(2, 20000, 0);                    /* lsn + 3 */
    add_touch(2, 7);
    add_touch(3, 5);
    add_touch(5, 5);
    add_delete(4);                           /* lsn + 5 */
    add_put(4, 30, 9);
    add_touch(4, 0);
    add_touch(4, 8);
    add_if(KV_OP_IF_VERSION, lsn + 6);
    add_touch(4, 8);
    add_if(KV_OP_IF_VERSION, lsn + 7);
    add_put(3, 30, 0);                       /* lsn + 9 */
    add_if(KV_OP_IF_ABSENT, 0);
    add_touch(1, 8);
    add_if(KV_OP_IF_PRESENT, 0);
    add_delete(2);
    add_touch(2, 7);
    commit();

    for (i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(rc[i], expected[i]);
    }

    assert_int_equal(found[1], lsn);
    assert_int_equal(found[13], lsn);
    assert_int_equal(found[4], lsn + 3);
    assert_int_equal(found[9], lsn + 6);

    is_there(1, 8 * SEC);
    is_there(3, 0);
    is_there(4, 8 * SEC);
    is_gone(2);
    is_gone(5);

    /* replay, where each record was a batch of its own, comes to the same */

    restart(false);
    is_there(1, 8 * SEC);
    is_there(3, 0);
    is_there(4, 8 * SEC);
    assert_int_equal(lsn_of(1, NULL), lsn);
    assert_int_equal(lsn_of(4, NULL), lsn + 6);
    is_gone(2);
    is_gone(5);

    /* a clear takes the times along */

    add_clear();
    add_touch(1, 5);
    add_put(1, 40, 0);
    add_touch(1, 5);
    commit();
    assert_int_equal(rc[1], KV_NOT_FOUND);
    assert_int_equal(rc[3], KV_OK);
    assert_int_equal(zone()->timers.count, 1);
    pass(20 * SEC);
    run();
    assert_int_equal(zone()->map.keys, 0);
}


/* Bytes that are in use beside what is reserved for the next puts. */

static uint64_t
used_by_data(void)
{
    kv_map_unreserve(&zone()->map);
    kv_index_unreserve(&zone()->index);

    return kv_heap_used(zone()->heap);
}


/*
 * The committer deletes what has expired, through the log, when it is told that
 * it has something to do.
 */

static void
test_deleted(void **state)
{
    uint32_t  id;
    uint64_t  lsn, used;

    (void) state;

    start();
    put(1, 100, 0);
    add_clear();
    expect(KV_OK);
    run();
    used = used_by_data();

    for (id = 0; id < 1000; id++) {
        put(id, 100 + id % 7 * 40, id % 10 ? 1 + id % 3 : 0);
    }

    assert_int_equal(zone()->timers.count, 900);
    lsn = zone()->wal.next_lsn;

    pass(3 * SEC + TICK);
    assert_int_equal(kv_store_next_timeout(solo.host.store), KV_TIMEOUT_NOW);
    assert_int_equal(kv_store_todo(solo.host.store), KV_TODO_COMMIT);
    run();

    assert_int_equal(zone()->map.keys, 100);
    assert_int_equal(zone()->timers.count, 0);
    assert_int_equal(zone()->stats.expired, 900);
    assert_int_equal(zone()->wal.next_lsn, lsn + 900);
    assert_int_equal(zone()->applied_lsn, lsn + 899);

    /* and nothing is left to do, once the log is synced */

    pass(SEC);
    run();
    assert_int_equal(zone()->wal.durable_lsn, lsn + 899);
    assert_int_equal(kv_store_next_timeout(solo.host.store), KV_TIMEOUT_NEVER);

    restart(false);
    assert_int_equal(zone()->map.keys, 100);
    assert_int_equal(zone()->wal.next_lsn, lsn + 900);

    add_clear();
    expect(KV_OK);
    run();
    assert_int_equal(used_by_data(), used);
}


/* A worker is woken in time, and not for nothing: hours ahead, and then. */

static void
test_timeouts(void **state)
{
    uint64_t  ms, at, woken;

    (void) state;

    start();
    put(1, 100, 7200);
    pass(SEC);
    run();

    at = now_ms() + 7199 * SEC;

    for (woken = 0; zone()->map.keys; woken++) {
        ms = kv_store_next_timeout(solo.host.store);
        assert_true(ms != KV_TIMEOUT_NEVER);
        pass(ms);
        run();
    }

    assert_true(now_ms() >= at && now_ms() <= at + TICK);
    assert_true(woken <= KV_TIMERS_LEVELS + 2);
}


/* A jump back of the wall clock brings nothing to life, and stops nothing. */

static void
test_clock_jumps(void **state)
{
    uint64_t  before;

    (void) state;

    start();
    put(1, 100, 10);
    put(2, 100, 100);
    put(3, 100, 1000);

    pass(10 * SEC);
    is_gone(1);

    wall -= 3600 * SEC * UINT64_C(1000000);
    is_gone(1);
    is_there(2, 90 * SEC);

    before = now_ms();
    pass(90 * SEC);
    assert_int_equal(now_ms(), before + 90 * SEC);
    is_gone(2);
    is_there(3, 900 * SEC);

    /* nor does a start after it, clean or not */

    run();
    restart(true);
    assert_true(now_ms() >= before + 90 * SEC);
    is_gone(1);
    is_gone(2);
    is_there(3, 900 * SEC);

    put(4, 100, 5);
    pass(5 * SEC);
    is_gone(4);
    run();
    pass(TICK);
    run();
    restart(false);
    is_gone(4);
    is_there(3, 895 * SEC - TICK);

    /* forward: what expires until then has expired */

    wall = (now_ms() + 894 * SEC) * 1000000;
    is_there(3, SEC - TICK);
    wall += SEC * 1000000;
    is_gone(3);

    before = now_ms();
    wall -= 10 * SEC * 1000000;
    assert_int_equal(now_ms(), before);

    /* by more than a century, until the next start */

    put(5, 100, 1000);
    put(6, 100, 315360000);
    wall = UINT64_MAX / 3;
    is_gone(5);

    put(6, 100, 1000);
    pass(10 * SEC);
    run();
    before = now_ms();
    wall = UINT64_C(1700000000000000000);
    restart(true);
    assert_true(now_ms() >= before);
    is_gone(5);
    is_there(6, 990 * SEC);
}


/* Time goes on while the server is down, and the machine may have restarted. */

static void
test_restart(void **state)
{
    unsigned  i;
    uint64_t  lsn;

    (void) state;

    start();

    for (i = 0; i < 4; i++) {
        put(1, 100, 10);
        put(2, 20000, 30);
        put(3, 100, 30);
        add_touch(3, 0);
        expect(KV_OK);
        put(4, 100, 0);
        add_touch(4, 30);
        expect(KV_OK);
        lsn = lsn_of(4, NULL);

        if (i & 2) {
            solo_background(&solo, KV_REQUEST_SNAPSHOT);
            assert_true(zone()->snapshots > 0);
        }

        solo_stop(&solo, i & 1);
        pass(11 * SEC);
        mono = 1000000000;
        start();

        is_gone(1);
        is_there(2, 19 * SEC);
        is_there(3, 0);
        is_there(4, 19 * SEC);
        assert_int_equal(lsn_of(4, NULL), lsn);

        pass(SEC);
        run();
        assert_int_equal(zone()->map.keys, 3);

        pass(18 * SEC);
        is_gone(2);
        is_gone(4);
        is_there(3, 0);
    }
}


/*
 * While a batch is being written, what it was decided by holds: a key that
 * expires meanwhile is there until the batch is over, and what was gone before
 * stays gone.
 */

static void
test_in_flight(void **state)
{
    uint64_t  at;

    (void) state;

    start();
    put(1, 40, 1);
    put(2, 40, 2);
    put(3, 20000, 3);

    pass(SEC);
    is_gone(1);

    at = kv_clock_begin(zone());
    assert_int_equal(at, now_ms());
    assert_int_equal(kv_clock_passed(zone()), at);
    is_gone(1);
    pass(2 * SEC);
    is_gone(1);
    is_there(2, 1);
    is_there(3, 1);
    assert_int_equal(kv_clock_passed(zone()), at);

    /* the committer died: the one that takes over decides anew */

    at = kv_clock_begin(zone());
    is_gone(2);
    is_gone(3);
    kv_clock_end(zone());
    assert_int_equal(kv_clock_passed(zone()), at);

    /* in between, the first reader says what has passed */

    put(4, 40, 1);
    put(5, 40, 2);
    pass(SEC);
    assert_true(kv_clock_passed(zone()) < now_ms());
    is_there(5, SEC);
    assert_true(kv_clock_passed(zone()) < now_ms());
    is_gone(4);
    assert_int_equal(kv_clock_passed(zone()), now_ms());
}


/* While writes are refused nothing is deleted, and no worker is woken. */

static void
test_refused(void **state)
{
    uint64_t  lsn;

    (void) state;

    start();
    put(1, 40, 1);
    pass(SEC / 2);
    run();
    pass(2 * SEC);
    lsn = zone()->wal.next_lsn;

    atomic_store(&zone()->writes, KV_WRITES_FULL);
    assert_int_equal(kv_store_next_timeout(solo.host.store), KV_TIMEOUT_NEVER);
    run();
    is_gone(1);
    assert_int_equal(zone()->map.keys, 1);
    assert_int_equal(zone()->wal.next_lsn, lsn);

    atomic_store(&zone()->writes, KV_WRITES_OK);
    assert_int_equal(kv_store_next_timeout(solo.host.store), KV_TIMEOUT_NOW);
    run();
    assert_int_equal(zone()->map.keys, 0);
    assert_int_equal(zone()->wal.next_lsn, lsn + 1);
}


/*
 * Where the log has space for no new segment, what it has in reserve is for the
 * deletes of clients.
 */

static void
test_disk_full(void **state)
{
    uint32_t  id, keys;
    kv_rc_t   result;
    uint64_t  expired;

    (void) state;

    solo.conf.segment = 64 << 10;
    solo.conf.max_value = 4096;
    start();

    solo.ram.fault[0].call = RAM_FALLOCATE;
    solo.ram.fault[0].error = ENOSPC;
    solo.ram.fault[0].nth = 1;
    solo.ram.fault[0].times = UINT32_MAX;

    for (id = 0; id < 1000; id++) {
        add_put(id, 200, id < 20 ? 60 : 0);
        commit();
        result = rc[0];

        if (result != KV_OK) {
            break;
        }
    }

    assert_true(id > 50);
    assert_int_equal(result, KV_NO_SPACE);
    assert_int_equal(kv_state(zone()), KV_STATE_DISK_FULL);

    /* as if it had not been noticed yet */

    atomic_store(&zone()->writes, KV_WRITES_OK);
    expired = zone()->stats.expired;
    pass(61 * SEC);
    run();
    is_gone(0);
    assert_int_equal(zone()->stats.expired, expired);
    assert_int_equal(zone()->map.keys, id);
    assert_int_equal(kv_state(zone()), KV_STATE_DISK_FULL);

    add_touch(0, 5);
    expect(KV_NOT_FOUND);

    keys = id;

    for (id = 0; id < 30; id++) {
        add_delete(id);
        expect(KV_OK);
    }

    solo.ram.fault[0].nth = 0;
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    put(5000, 200, 0);
    assert_int_equal(kv_state(zone()), KV_STATE_READY);
    run();
    assert_int_equal(zone()->map.keys, keys - 30 + 1);
}


/* Entries that compaction moves keep their time, and their place among them. */

static void
test_moved(void **state)
{
    uint32_t  id;
    unsigned  i;

    (void) state;

    start();

    for (id = 0; id < 4000; id++) {
        put(id, 200, 10 + id % 50);
    }

    for (id = 0; id < 4000; id++) {
        if (id % 4) {
            add_delete(id);
            expect(KV_OK);
        }
    }

    for (i = 0; i < 20; i++) {
        kv_phase_changing(zone());
        (void) kv_compact_page(zone(), true);
        kv_phase_idle(zone());
        run();
    }

    assert_true(zone()->stats.moved > 100);
    assert_int_equal(zone()->timers.count, 1000);

    for (i = 0; i < 60; i++) {
        pass(SEC);
        run();

        for (id = 0; id < 4000; id += 4) {
            assert_int_equal(lsn_of(id, NULL) != 0, id % 50 + 10 > i + 1);
        }
    }

    pass(TICK);
    run();
    assert_int_equal(zone()->map.keys, 0);
}


/* A zone full of what has expired takes new keys. */

static void
test_full(void **state)
{
    kv_rc_t    result;
    kv_op_t   *o;
    uint32_t   id, k, keys[2];
    unsigned   tries;

    (void) state;

    start();

    for (k = 0; k < 2; k++) {
        for (id = 0; /* void */ ; id++) {
            result = kit_begin_ttl(&solo.host, id + k * 100000, ++written,
                                   1000, 60, &o);

            if (result == KV_OK) {
                solo_commit(&solo, &o, 1, &result);
            }

            for (tries = 0; result == KV_NO_MEMORY && tries < 20; tries++) {
                result = kv_store_full(solo.host.store, 1000)
                         ? KV_NO_MEMORY : KV_OK;

                if (result == KV_OK) {
                    assert_int_equal(kv_store_reserve(solo.host.store, 1000, 0,
                                                      &o), KV_OK);
                    solo_commit(&solo, &o, 1, &result);
                }

                if (result == KV_OK || result == KV_AGAIN) {
                    result = kit_begin_ttl(&solo.host, id + k * 100000,
                                           ++written, 1000, 60, &o);

                    if (result == KV_OK) {
                        solo_commit(&solo, &o, 1, &result);
                    }
                }
            }

            if (result != KV_OK) {
                assert_int_equal(result, KV_NO_MEMORY);
                break;
            }
        }

        keys[k] = id;

        /* they expire, and the committer has not been told yet */

        pass(60 * SEC + TICK);
    }

    assert_true(keys[0] > 1000);
    assert_true(keys[1] >= keys[0] - keys[0] / 10);
}


static kv_rc_t
reserve(void)
{
    kv_rc_t   result;
    kv_op_t  *o;

    assert_int_equal(kv_store_reserve(solo.host.store, 1000, 0, &o), KV_OK);
    solo_commit(&solo, &o, 1, &result);

    return result;
}


/* Nor is it full while they have expired, and are deleted a moment later. */

static void
test_full_soon(void **state)
{
    kv_rc_t    result;
    kv_op_t   *o;
    uint32_t   id;
    unsigned   tries;

    (void) state;

    start();
    id = 0;

    do {
        pass(0);
        result = kit_begin_ttl(&solo.host, ++id, ++written, 1000, 60, &o);

        if (result == KV_OK) {
            solo_commit(&solo, &o, 1, &result);

        } else {
            result = reserve();
        }

    } while (result != KV_NO_MEMORY);

    assert_true(kv_store_full(solo.host.store, 1000));
    is_there(1, 60 * SEC);

    pass(60 * SEC);
    run();
    is_gone(1);
    assert_true(zone()->map.keys > 1000);

    assert_int_equal(reserve(), KV_AGAIN);
    assert_false(kv_store_full(solo.host.store, 1000));

    pass(TICK);
    tries = 0;

    do {
        assert_true(++tries < 20);
        result = reserve();
    } while (result == KV_AGAIN);

    assert_int_equal(result, KV_OK);
}


/* Keys that expire, as `model` has them; what else there is must be gone. */

typedef struct {
    uint64_t  lsn;                    /* 0: none */
    uint64_t  expires;                /* 0: never */
} model_t;

static model_t  model[KEYS];


static bool
alive(uint32_t id, uint64_t at)
{
    return model[id].lsn && (model[id].expires == 0 || model[id].expires > at);
}


static void
check(void)
{
    uint32_t  id, keys;
    uint64_t  lsn, left, now;

    now = now_ms();

    for (id = 0, keys = 0; id < KEYS; id++) {
        lsn = lsn_of(id, &left);

        if (lsn != (alive(id, now) ? model[id].lsn : 0)
            || (lsn && left != (model[id].expires ? model[id].expires - now
                                                  : 0)))
        {
            fail_msg("key %u: LSN %u, left %u, not %u, %u", id, (unsigned) lsn,
                     (unsigned) left, (unsigned) model[id].lsn,
                     (unsigned) (model[id].expires - now));
        }

        keys += alive(id, now);
    }

    assert_true(zone()->map.keys >= keys);
}


/* A batch of everything, and what it must come to. */

static void
random_batch(unsigned count)
{
    uint32_t  id[OPS];
    uint64_t  now, next, lsn[OPS];
    unsigned  i, kind[OPS];
    uint8_t   flag[OPS];
    kv_rc_t   expected;

    static const uint8_t   flags[] = {
        0, 0, 0, KV_OP_IF_PRESENT, KV_OP_IF_ABSENT, KV_OP_IF_VERSION
    };
    static const uint32_t  ttls[] = { 1, 2, 5, 60, 5000, 1000000 };

    next = zone()->wal.next_lsn;

    for (i = 0; i < count; i++) {
        id[i] = (uint32_t) rand() % KEYS;
        kind[i] = (unsigned) rand() % 100;
        flag[i] = flags[rand() % 6];
        lsn[i] = rand() % 4 ? model[id[i]].lsn
                            : next + (unsigned) rand() % count;
        lsn[i] = lsn[i] ? lsn[i] : 1;

        if (kind[i] == 99 && rand() % 10 == 0) {
            add_clear();
            flag[i] = 0;
            kind[i] = 3;

        } else if (kind[i] < 45) {
            add_put(id[i], rand() % 20 ? 8 + (unsigned) rand() % 500
                                       : 9000 + (unsigned) rand() % 9000,
                    rand() % 3 ? ttls[rand() % 6] : 0);
            kind[i] = 0;

        } else if (kind[i] < 80) {
            add_touch(id[i], rand() % 4 ? ttls[rand() % 6] : 0);
            kind[i] = 1;

        } else {
            add_delete(id[i]);
            kind[i] = 2;
        }

        if (flag[i]) {
            add_if(flag[i], lsn[i]);
        }
    }

    now = now_ms();
    commit();

    for (i = 0; i < count; i++) {
        expected = KV_OK;

        if (kind[i] == 3) {
            memset(model, 0, sizeof(model));
            next++;
            continue;
        }

        if (!alive(id[i], now)) {
            model[id[i]].lsn = 0;
        }

        if ((flag[i] == KV_OP_IF_PRESENT && model[id[i]].lsn == 0)
            || (flag[i] == KV_OP_IF_ABSENT && model[id[i]].lsn)
            || (flag[i] == KV_OP_IF_VERSION && model[id[i]].lsn != lsn[i]))
        {
            expected = KV_PRECONDITION;

        } else if (kind[i] == 1 && model[id[i]].lsn == 0) {
            expected = KV_NOT_FOUND;
        }

        assert_int_equal(rc[i], expected);

        if (expected == KV_OK) {
            model[id[i]].expires = expires[i];
            model[id[i]].lsn = kind[i] == 0 ? next
                               : kind[i] == 1 ? model[id[i]].lsn : 0;
            next++;
        }

        assert_int_equal(found[i], expected == KV_NOT_FOUND
                                   ? 0 : model[id[i]].lsn);
    }
}


static void
random_event(void)
{
    switch (rand() % 16) {

    case 0:
        solo_background(&solo, KV_REQUEST_SNAPSHOT);
        break;

    case 1:
        restart(true);
        break;

    case 2:
        restart(false);
        break;

    case 3:
        solo_stop(&solo, rand() % 2);
        pass((unsigned) rand() % (20 * SEC));
        mono = UINT64_C(1000000) * ((unsigned) rand() % 100000);
        start();
        break;

    case 4:
        kv_phase_changing(zone());
        (void) kv_compact_page(zone(), true);
        kv_phase_idle(zone());
        break;

    case 5:
        wall -= UINT64_C(1000000) * ((unsigned) rand() % 100000);
        break;

    case 6:
        wall += UINT64_C(1000000) * ((unsigned) rand() % 3000);
        break;

    case 7:
        pass((unsigned) rand() % (100 * SEC));
        break;

    default:
        pass((unsigned) rand() % (2 * SEC));
        run();
    }
}


/*
 * Random operations, with conditions, in batches of all sizes; time that goes
 * on by jumps, clocks that are set, snapshots, stops, kills, compaction.
 */

static void
test_model(void **state)
{
    uint32_t     id;
    unsigned     i;
    const char  *seed;

    (void) state;

    seed = getenv("KIT_SEED");
    srand(seed ? (unsigned) strtoul(seed, NULL, 10) : 1);

    memset(model, 0, sizeof(model));
    start();

    for (i = 0; i < 1500; i++) {
        random_batch(1 + (unsigned) rand() % (rand() % 3 ? 8 : 100));
        check();
        random_event();
        check();
    }

    /* in the end all that has a time is gone from the zone, too */

    pass(1000001ull * SEC);
    run();
    check();
    assert_int_equal(zone()->timers.count, 0);

    for (id = 0, i = 0; id < KEYS; id++) {
        i += alive(id, now_ms());
    }

    assert_int_equal(zone()->map.keys, i);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_gone, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_renewed, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_touch, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_counters, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_together, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_deleted, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_timeouts, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_clock_jumps, setup,
                                        solo_teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_in_flight, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_moved, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_full_soon, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_model, setup, solo_teardown)
    };

    return cmocka_run_group_tests_name("expire", tests, NULL, NULL);
}
