
/*
 * Deletes of all keys that begin alike, against a model: all of them or none,
 * whatever was written since they were looked up.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "solo.h"
#include "store/kv_clock.h"


#define IDS   400u                   /* of kit_key(): "key-0" and so on */
#define HELD  20000u                 /* operations that are not submitted */


static bool      there[IDS];
static uint32_t  written;
static unsigned  seed = 1;


static unsigned
some(unsigned n)
{
    seed = seed * 1103515245 + 12345;

    return (seed >> 8) % n;
}


static int
setup(void **state)
{
    (void) state;

    solo_init(&solo, 8 << 20);
    solo.conf.list = true;
    solo.conf.segment = 1 << 20;

    memset(there, 0, sizeof(there));

    return 0;
}


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }
}


static bool
begins(uint32_t id, const char *prefix)
{
    char  key[32];

    (void) kit_key(id, key);

    return strncmp(key, prefix, strlen(prefix)) == 0;
}


/* How many keys begin with it; *one is any of them. */

static unsigned
count(const char *prefix, uint32_t *one)
{
    uint32_t  id;
    unsigned  n;

    for (id = 0, n = 0; id < IDS; id++) {
        if (there[id] && begins(id, prefix)) {
            n++;

            if (some(n) == 0) {
                *one = id;
            }
        }
    }

    return n;
}


static void
gone(const char *prefix)
{
    uint32_t  id;

    for (id = 0; id < IDS; id++) {
        there[id] = there[id] && !begins(id, prefix);
    }
}


static kv_op_t *
begin_put(uint32_t id)
{
    kv_op_t  *op;

    assert_int_equal(kit_begin_put(&solo.host, id, ++written, 40, &op), KV_OK);

    return op;
}


static kv_op_t *
begin_delete(uint32_t id)
{
    char      key[32];
    kv_op_t  *op;
    uint16_t  n;

    n = (uint16_t) kit_key(id, key);
    assert_int_equal(kv_store_delete(solo.host.store, key, n, &op), KV_OK);

    return op;
}


static void
put(uint32_t id)
{
    kv_rc_t   rc;
    kv_op_t  *op;

    op = begin_put(id);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_OK);
    there[id] = true;
}


/* Some keys at a time.  Without a result of KV_OK there is no group. */

static kv_rc_t
look_up(const char *prefix, unsigned max, kv_group_t *group)
{
    kv_rc_t  rc;

    static kv_prefix_t  keys;

    kv_store_prefix_begin(&keys, prefix, strlen(prefix), max);

    do {
        rc = kv_store_prefix_step(solo.host.store, &keys, 1 + some(100));
    } while (rc == KV_BUSY);

    *group = keys.group;

    if (group->op && (rc != KV_OK || group->n == 0)) {
        kv_store_release(solo.host.store, group->op);
        group->op = NULL;
    }

    return rc;
}


static bool
listed(void *ctx, const void *key, size_t n, const kv_entry_t *e,
    uint64_t expires)
{
    char       name[32];
    uint32_t   id;
    unsigned  *left = ctx;

    (void) expires;

    assert_true(n > 4 && n < sizeof(name));
    assert_non_null(e);

    memcpy(name, key, n);
    name[n] = '\0';
    id = (uint32_t) strtoul(name + 4, NULL, 10);
    assert_true(id < IDS && there[id]);
    (*left)--;

    return true;
}


static void
check(void)
{
    uint32_t  one;
    unsigned  left;

    left = count("", &one);

    assert_int_equal(solo.host.store->zone->map.keys, left);
    assert_int_equal(kv_store_list(solo.host.store, "", 0, false, listed,
                                   &left), KV_OK);
    assert_int_equal(left, 0);
}


/* One look-up, what comes between it and the group, and what that does. */

static void
attempt(const char *prefix, unsigned max)
{
    bool        vanishes;
    kv_rc_t     rc[3];
    kv_op_t    *op[3];
    uint32_t    one, other;
    unsigned    n, matches;
    kv_group_t  group;

    one = 0;
    matches = count(prefix, &one);

    if (matches > max) {
        assert_int_equal(look_up(prefix, max, &group), KV_OVERFLOW);
        return;
    }

    assert_int_equal(look_up(prefix, max, &group), KV_OK);
    assert_int_equal(group.n, matches);

    if (matches == 0) {
        assert_null(group.op);
        return;
    }

    n = 0;
    vanishes = some(4) == 0;

    if (vanishes) {
        op[n++] = begin_delete(one);
        there[one] = false;

    } else if (some(2)) {
        op[n++] = begin_put(one);
    }

    /* one that was not there: it stays, even if it begins like the others */

    other = some(IDS);

    if (!there[other] && other != one) {
        op[n++] = begin_put(other);

    } else {
        other = IDS;
    }

    op[n++] = group.op;
    solo_commit(&solo, op, n, rc);

    assert_int_equal(rc[n - 1], vanishes ? KV_PRECONDITION : KV_OK);

    if (!vanishes) {
        gone(prefix);
    }

    if (other < IDS) {
        there[other] = true;
    }
}


static void
test_model(void **state)
{
    char      prefix[32];
    unsigned  round, i;

    (void) state;

    start();

    for (round = 0; round < 1500; round++) {

        for (i = some(30); i; i--) {
            put(some(IDS));
        }

        (void) kit_key(some(round % 3 ? 60 : 5), prefix);
        attempt(prefix, 1 + some(round % 5 ? 30 : 120));

        if (round % 50 == 0) {
            check();
        }

        if (round % 300 == 299) {
            solo_stop(&solo, round % 2);
            start();
            check();
        }
    }

    attempt("key-", KV_GROUP_MAX);
    check();
}


/* As many as a group may have, and not one more. */

static void
test_max(void **state)
{
    uint32_t    id;
    kv_rc_t     rc;
    kv_group_t  group;

    (void) state;

    start();

    for (id = 0; id < 100; id++) {
        put(id);
    }

    assert_int_equal(look_up("key-", 99, &group), KV_OVERFLOW);
    assert_int_equal(solo.host.store->zone->map.keys, 100);
    assert_int_equal(look_up("key-", 100, &group), KV_OK);
    assert_int_equal(group.n, 100);
    kv_store_release(solo.host.store, group.op);

    assert_int_equal(look_up("kez", 100, &group), KV_OK);
    assert_null(group.op);
    assert_int_equal(look_up("key-0x", 100, &group), KV_OK);
    assert_null(group.op);

    assert_int_equal(look_up("k", KV_GROUP_MAX, &group), KV_OK);
    solo_commit(&solo, &group.op, 1, &rc);
    assert_int_equal(rc, KV_OK);
    assert_int_equal(solo.host.store->zone->map.keys, 0);
}


/* Keys that take more than a batch of the log: none is deleted. */

static void
test_large(void **state)
{
    char        key[16000];
    kv_rc_t     rc;
    kv_op_t    *op;
    unsigned    i;
    kv_group_t  group;

    (void) state;

    solo.conf.segment = 64 << 10;
    start();

    memset(key, 'k', sizeof(key));

    for (i = 0; i < 8; i++) {
        key[sizeof(key) - 1] = (char) ('a' + i);

        assert_int_equal(kv_store_put(solo.host.store, key, sizeof(key), 1, 0,
                                      &op), KV_OK);
        assert_int_equal(kv_store_write(solo.host.store, op, 0, "x", 1),
                         KV_OK);
        assert_int_equal(kv_store_finish(solo.host.store, op, 1), KV_OK);
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    assert_int_equal(look_up("kk", 100, &group), KV_DECLINED);
    assert_int_equal(solo.host.store->zone->map.keys, 8);
}


/* There is no memory for so many records: nothing is left behind. */

static void
test_full(void **state)
{
    char         key[32];
    uint16_t     len;
    uint32_t     id;
    unsigned     n;
    kv_group_t   group;
    kv_store_t  *store;

    static kv_op_t  *op[HELD];

    (void) state;

    start();
    store = solo.host.store;

    for (id = 0; id < IDS; id++) {
        put(id);
    }

    for (n = 0; n < HELD; n++) {
        if (kit_begin_put(&solo.host, IDS, 1, 4000, &op[n]) != KV_OK) {
            break;
        }
    }

    len = (uint16_t) kit_key(0, key);

    while (n < HELD && kv_store_delete(store, key, len, &op[n]) == KV_OK) {
        n++;
    }

    assert_true(n < HELD);
    assert_int_equal(look_up("key-", IDS, &group), KV_NO_MEMORY);
    assert_null(group.op);
    check();

    while (n--) {
        kv_store_release(store, op[n]);
    }

    assert_int_equal(look_up("key-", IDS, &group), KV_OK);
    assert_int_equal(group.n, IDS);
    kv_store_release(store, group.op);
}


/*
 * A step has an end, also where nothing is left of the keys; and too many are
 * refused before any memory is taken for them.
 */

static void
test_steps(void **state)
{
    char         key[32];
    kv_rc_t      rc;
    kv_op_t     *op;
    uint32_t     id;
    unsigned     steps;
    kv_zone_t   *zone;

    static kv_prefix_t  keys;

    (void) state;

    start();
    zone = solo.host.store->zone;

    for (id = 0; id < IDS; id++) {
        assert_int_equal(kv_store_put(solo.host.store, key,
                                      (uint16_t) kit_key(id, key), 1, 1000,
                                      &op), KV_OK);
        assert_int_equal(kv_store_write(solo.host.store, op, 0, "x", 1),
                         KV_OK);
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    kv_store_prefix_begin(&keys, "key", 3, IDS / 2);

    for (steps = 0; /* void */ ; steps++) {
        rc = kv_store_prefix_step(solo.host.store, &keys, 10);
        assert_null(keys.group.op);

        if (rc != KV_BUSY) {
            break;
        }
    }

    assert_int_equal(rc, KV_OVERFLOW);
    assert_int_equal(steps, IDS / 2 / 10);

    /* they all expire, and nothing has deleted them yet */

    kv_clock_reach(zone, kv_clock_ms(zone) + 1001000);

    kv_store_prefix_begin(&keys, "key", 3, 1);

    for (steps = 0; /* void */ ; steps++) {
        rc = kv_store_prefix_step(solo.host.store, &keys, 10);

        if (rc != KV_BUSY) {
            break;
        }
    }

    assert_int_equal(rc, KV_OK);
    assert_null(keys.group.op);
    assert_int_equal(steps, IDS / 10 - 1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_model, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_max, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_large, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, solo_teardown),
        cmocka_unit_test_setup_teardown(test_steps, setup, solo_teardown),
    };

    return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
