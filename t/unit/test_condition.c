
/*
 * Conditions of writes: decided in the order of the log, against the map and
 * what the same batch has decided before, and told once that is durable.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "solo.h"
#include "store/kv_batch.h"


/* Operations that are committed together, and what became of them. */

#define OPS   KV_BATCH_MAX
#define KEYS  24u


static kv_op_t       *op[OPS];
static kv_rc_t        rc[OPS];
static uint64_t       found[OPS];
static unsigned       n;
static uint32_t       written;


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }

    n = 0;
}


/* The LSN of a key's value, 0 if there is none. */

static uint64_t
lsn_of(uint32_t id)
{
    char          key[32];
    size_t        len;
    kv_entry_t   *e;
    kv_version_t  version;

    len = kit_key(id, key);

    if (kv_store_read(solo.host.store, key, len, &e) != KV_OK) {
        return 0;
    }

    version = kv_store_version(solo.host.store, e);
    kv_store_read_done(solo.host.store);

    assert_int_equal(version.incarnation,
                     solo.host.store->zone->wal.incarnation);

    return version.lsn;
}


static void
condition(kv_op_t *o, uint8_t flag, uint64_t lsn)
{
    kv_version_t  version;

    version.lsn = lsn;
    version.incarnation = solo.host.store->zone->wal.incarnation;

    if (flag) {
        kv_store_if(o, flag, &version);
    }
}


static void
add_put(uint32_t id, uint8_t flag, uint64_t lsn)
{
    assert_int_equal(kit_begin_put(&solo.host, id, ++written, 40, &op[n]),
                     KV_OK);
    condition(op[n++], flag, lsn);
}


static void
add_delete(uint32_t id, uint8_t flag, uint64_t lsn)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_delete(solo.host.store, key, len, &op[n]), KV_OK);
    condition(op[n++], flag, lsn);
}


static void
add_clear(void)
{
    assert_int_equal(kv_store_clear(solo.host.store, &op[n++]), KV_OK);
}


/* As solo_commit(), and notes the versions. */

static void
commit(void)
{
    unsigned     i;
    kv_store_t  *store;

    store = solo.host.store;

    for (i = 0; i < n; i++) {
        (void) kv_store_submit(store, op[i]);
    }

    store->zone->spin = 0;
    store->zone->idle_ns = 0;
    kv_store_commit(store);

    for (i = 0; i < n; i++) {
        assert_true(kv_store_done(op[i], &rc[i]));
        found[i] = kv_store_result(store, op[i]).lsn;
        kv_store_release(store, op[i]);
    }

    n = 0;
}


/* One operation alone. */

static void
expect(kv_rc_t result, uint64_t version)
{
    commit();
    assert_int_equal(rc[0], result);
    assert_int_equal(found[0], version);
}


static void
test_alone(void **state)
{
    uint64_t  lsn;

    (void) state;

    start();
    lsn = solo.host.store->zone->wal.next_lsn;

    add_put(1, KV_OP_IF_PRESENT, 0);
    expect(KV_PRECONDITION, 0);
    add_put(1, KV_OP_IF_VERSION, lsn);
    expect(KV_PRECONDITION, 0);
    add_delete(1, KV_OP_IF_PRESENT, 0);
    expect(KV_PRECONDITION, 0);
    assert_int_equal(solo.host.store->zone->wal.next_lsn, lsn);

    add_put(1, KV_OP_IF_ABSENT, 0);
    expect(KV_OK, lsn);
    assert_int_equal(lsn_of(1), lsn);
    add_put(1, KV_OP_IF_ABSENT, 0);
    expect(KV_PRECONDITION, lsn);
    add_delete(1, KV_OP_IF_ABSENT, 0);
    expect(KV_PRECONDITION, lsn);

    add_put(1, KV_OP_IF_VERSION, lsn);
    expect(KV_OK, lsn + 1);
    add_put(1, KV_OP_IF_VERSION, lsn);
    expect(KV_PRECONDITION, lsn + 1);
    add_delete(1, KV_OP_IF_VERSION, lsn);
    expect(KV_PRECONDITION, lsn + 1);
    add_put(1, KV_OP_IF_PRESENT, 0);
    expect(KV_OK, lsn + 2);

    add_put(1, KV_OP_IF_VERSION, KV_STORE_NO_LSN);
    expect(KV_PRECONDITION, lsn + 2);
    add_delete(1, KV_OP_IF_OTHER, lsn + 2);
    expect(KV_PRECONDITION, lsn + 2);

    add_delete(1, KV_OP_IF_VERSION, lsn + 2);
    expect(KV_OK, 0);
    assert_int_equal(lsn_of(1), 0);

    add_put(1, KV_OP_IF_VERSION, KV_STORE_NO_LSN);
    expect(KV_PRECONDITION, 0);

    add_delete(1, KV_OP_IF_ABSENT, 0);
    expect(KV_OK, 0);

    /* the versions outlive a restart, and what follows from them */

    add_put(2, KV_OP_IF_ABSENT, 0);
    expect(KV_OK, lsn + 5);
    solo_stop(&solo, true);
    start();
    assert_int_equal(lsn_of(2), lsn + 5);
    assert_int_equal(lsn_of(1), 0);
    add_put(2, KV_OP_IF_VERSION, lsn + 5);
    expect(KV_OK, lsn + 6);
}


/* What comes earlier in the batch counts, as if it had been a batch before. */

static void
test_together(void **state)
{
    unsigned  i, k;
    uint64_t  lsn, batches;

    static const kv_rc_t  expected[] = {
        KV_PRECONDITION, KV_OK, KV_PRECONDITION, KV_OK, KV_PRECONDITION,
        KV_OK, KV_OK, KV_PRECONDITION, KV_OK, KV_PRECONDITION, KV_OK
    };

    (void) state;

    start();
    add_put(1, 0, 0);
    add_put(2, 0, 0);
    commit();

    /* of writers with the same condition, the first in the queue wins */

    for (i = 0; i < 3; i++) {
        lsn = lsn_of(1);
        batches = solo.host.store->zone->stats.batch.measure.count;

        for (k = 0; k < 40; k++) {
            add_put(1, KV_OP_IF_VERSION, lsn);
        }

        commit();

        assert_int_equal(solo.host.store->zone->stats.batch.measure.count,
                         batches + 1);

        for (k = 0; k < 40; k++) {
            assert_int_equal(rc[k], k ? KV_PRECONDITION : KV_OK);
            assert_int_equal(found[k], lsn_of(1));
        }
    }

    lsn = lsn_of(2);

    add_put(1, KV_OP_IF_ABSENT, 0);
    add_delete(1, KV_OP_IF_PRESENT, 0);
    add_delete(1, KV_OP_IF_PRESENT, 0);
    add_put(1, KV_OP_IF_ABSENT, 0);
    add_put(1, KV_OP_IF_ABSENT, 0);
    add_put(2, KV_OP_IF_VERSION, lsn);
    add_clear();
    add_put(2, KV_OP_IF_PRESENT, 0);
    add_put(1, KV_OP_IF_ABSENT, 0);
    add_put(2, KV_OP_IF_VERSION, lsn);
    add_delete(1, KV_OP_IF_PRESENT, 0);

    commit();

    for (i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(rc[i], expected[i]);
    }

    assert_int_equal(lsn_of(1), 0);
    assert_int_equal(lsn_of(2), 0);

    /* in one of two tests of this kind the map alone decides: both agree */

    solo_stop(&solo, false);
    start();
    assert_int_equal(lsn_of(1), 0);
    assert_int_equal(lsn_of(2), 0);
}


/* Random operations in batches of all sizes, against a model. */

static void
model(uint64_t *now, unsigned count)
{
    bool      puts[OPS];
    uint8_t   flag[OPS];
    uint32_t  id[OPS];
    uint64_t  lsn[OPS], next;
    unsigned  i;
    bool      met;

    static const uint8_t  flags[] = {
        0, KV_OP_IF_PRESENT, KV_OP_IF_ABSENT, KV_OP_IF_VERSION, KV_OP_IF_OTHER
    };

    next = solo.host.store->zone->wal.next_lsn;

    for (i = 0; i < count; i++) {
        id[i] = (uint32_t) rand() % KEYS;
        puts[i] = rand() % 3 != 0;
        flag[i] = flags[rand() % 5];

        /* mostly what it has, or what the batch may give it */

        lsn[i] = rand() % 4 ? now[id[i]] : next + (unsigned) rand() % count;
        lsn[i] = lsn[i] ? lsn[i] : 1;

        if (puts[i]) {
            add_put(id[i], flag[i], lsn[i]);

        } else {
            add_delete(id[i], flag[i], lsn[i]);
        }
    }

    commit();

    for (i = 0; i < count; i++) {
        met = flag[i] == 0
              || (flag[i] == KV_OP_IF_PRESENT && now[id[i]])
              || (flag[i] == KV_OP_IF_ABSENT && now[id[i]] == 0)
              || (flag[i] == KV_OP_IF_VERSION && now[id[i]] == lsn[i])
              || (flag[i] == KV_OP_IF_OTHER && now[id[i]] != lsn[i]);

        assert_int_equal(rc[i], met ? KV_OK : KV_PRECONDITION);

        if (met) {
            now[id[i]] = puts[i] ? next : 0;
            assert_int_equal(found[i], now[id[i]]);
            next++;

        } else {
            assert_int_equal(found[i], now[id[i]]);
        }
    }
}


static void
test_model(void **state)
{
    unsigned  i, k;
    uint64_t  now[KEYS] = { 0 };

    (void) state;

    srand(1);
    solo.conf.segment = 1 << 20;
    start();

    for (i = 0; i < 60; i++) {
        model(now, i % 10 == 9 ? OPS : 1 + (unsigned) rand() % 60);

        for (k = 0; k < KEYS; k++) {
            assert_int_equal(lsn_of(k), now[k]);
        }

        if (i % 20 == 19) {
            solo_stop(&solo, i % 40 == 19);
            start();
        }
    }
}


static void
fail_writes(int error, unsigned times)
{
    solo.ram.fault[0].call = RAM_WRITE;
    solo.ram.fault[0].error = error;
    solo.ram.fault[0].nth = solo.ram.calls[RAM_WRITE] + 1;
    solo.ram.fault[0].times = times;
    solo.ram.fault[0].hits = 0;
}


/* A full disk refuses the puts: what was decided by them is decided again. */

static void
test_disk_full(void **state)
{
    uint64_t  lsn;
    unsigned  i;

    static const kv_rc_t  expected[] = {
        KV_NO_SPACE, KV_PRECONDITION, KV_NO_SPACE, KV_OK, KV_NO_SPACE, KV_OK,
        KV_NO_SPACE
    };

    (void) state;

    start();
    add_put(1, 0, 0);
    add_put(2, 0, 0);
    add_put(3, 0, 0);
    commit();
    lsn = lsn_of(2);

    add_put(9, 0, 0);
    add_delete(9, KV_OP_IF_PRESENT, 0);      /* true, by a put that goes */
    add_put(2, 0, 0);
    add_delete(2, KV_OP_IF_VERSION, lsn);    /* false, by one that goes */
    add_put(1, KV_OP_IF_ABSENT, 0);          /* false */
    add_delete(3, KV_OP_IF_PRESENT, 0);      /* true */
    add_put(3, KV_OP_IF_ABSENT, 0);          /* true, by a delete */

    fail_writes(ENOSPC, 1);
    commit();
    assert_int_equal(solo.ram.fault[0].hits, 1);

    for (i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(rc[i], expected[i]);
    }

    assert_true(lsn_of(1) != 0);
    assert_int_equal(lsn_of(2), 0);
    assert_int_equal(lsn_of(3), 0);
    assert_int_equal(lsn_of(9), 0);

    /* the batch had puts alone, but for what was false */

    solo_stop(&solo, false);
    start();
    assert_true(lsn_of(1) != 0);
    assert_int_equal(lsn_of(2) + lsn_of(3) + lsn_of(9), 0);

    add_put(4, 0, 0);
    add_delete(4, KV_OP_IF_ABSENT, 0);
    add_delete(1, KV_OP_IF_VERSION, 1u << 30);
    fail_writes(ENOSPC, 1);
    commit();
    assert_int_equal(rc[0], KV_NO_SPACE);
    assert_int_equal(rc[1], KV_OK);
    assert_int_equal(rc[2], KV_PRECONDITION);
    assert_int_equal(found[2], lsn_of(1));
}


/*
 * That a condition is false may tell of a write of the same batch: not if that
 * is never durable.
 */

static void
test_write_fails(void **state)
{
    uint64_t  lsn;

    (void) state;

    start();
    add_put(1, 0, 0);
    commit();
    lsn = lsn_of(1);

    add_put(2, KV_OP_IF_ABSENT, 0);
    add_put(2, KV_OP_IF_ABSENT, 0);
    add_delete(1, KV_OP_IF_ABSENT, 0);
    fail_writes(EIO, 1000);
    commit();
    assert_int_equal(rc[0], KV_UNAVAILABLE);
    assert_int_equal(rc[1], KV_UNAVAILABLE);
    assert_int_equal(rc[2], KV_UNAVAILABLE);
    assert_int_equal(lsn_of(2), 0);
    assert_int_equal(lsn_of(1), lsn);
    solo.ram.fault[0].nth = 0;

    solo_stop(&solo, false);
    start();
    assert_int_equal(lsn_of(1), lsn);
    add_put(2, KV_OP_IF_ABSENT, 0);
    add_put(2, KV_OP_IF_ABSENT, 0);
    commit();
    assert_int_equal(rc[0], KV_OK);
    assert_int_equal(rc[1], KV_PRECONDITION);
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, solo_setup, \
                                                          solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_alone),
        TEST(test_together),
        TEST(test_model),
        TEST(test_disk_full),
        TEST(test_write_fails)
    };

    return cmocka_run_group_tests_name("condition", tests, NULL, NULL);
}
