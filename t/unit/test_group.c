
/*
 * Groups: done all or not at all, decided in the order of the log, in one batch
 * of it.  That readers see all or nothing is test_death_group.c's.
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
#include "store/kv_clock.h"
#include "store/kv_group.h"


#define KEYS     16u               /* ids below have values, or none, */
#define NUMBERS  4u                /* those behind them are counters */
#define UNITS    64u               /* operations and groups of a commit */


/* An operation, or the members of a group, and what became of it. */

typedef struct {
    kv_op_t     *op;
    bool         grouped;
    kv_group_t   group;
    kv_rc_t      rc;
    kv_op_t     *failed;           /* the member, */
    unsigned     member;           /* its number, from 0, */
    uint64_t     found;            /* and what was there */
    uint64_t     lsn;              /* of the first that was done */
} unit_t;


/* What a key has, as the model knows it. */

typedef struct {
    uint64_t     lsn;              /* 0: no value */
    int64_t      number;
} cell_t;


/* An operation of the model. */

typedef struct {
    uint8_t      code;
    uint8_t      flag;
    uint32_t     id;
    uint64_t     lsn;              /* the condition's */
} deed_t;


static unit_t    unit[UNITS];
static unsigned  n;
static uint32_t  written;


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }

    n = 0;
}


static uint64_t
next_lsn(void)
{
    return atomic_load(&solo.host.store->zone->wal.next_lsn);
}


static uint64_t
lsn_of(uint32_t id)
{
    char         key[32];
    size_t       len;
    uint64_t     lsn;
    kv_entry_t  *e;

    len = kit_key(id, key);

    if (kv_store_read(solo.host.store, key, len, &e) != KV_OK) {
        return 0;
    }

    lsn = kv_store_version(solo.host.store, e).lsn;
    kv_store_read_done(solo.host.store);

    return lsn;
}


static uint64_t
expires_of(uint32_t id)
{
    char         key[32];
    size_t       len;
    uint64_t     ms;
    kv_entry_t  *e;

    len = kit_key(id, key);

    assert_int_equal(kv_store_read(solo.host.store, key, len, &e), KV_OK);
    ms = kv_store_expires(solo.host.store, e);
    kv_store_read_done(solo.host.store);

    return ms;
}


/* Begins an operation. */

static kv_op_t *
begin(const deed_t *deed)
{
    char          key[32];
    kv_rc_t       rc;
    kv_op_t      *op;
    uint16_t      len;
    kv_store_t   *store;
    kv_version_t  version;

    store = solo.host.store;
    len = (uint16_t) kit_key(deed->id, key);

    switch (deed->code) {

    case KV_OP_PUT:
        rc = kit_begin_put(&solo.host, deed->id, ++written, 40, &op);
        break;

    case KV_OP_DELETE:
        rc = kv_store_delete(store, key, len, &op);
        break;

    case KV_OP_TOUCH:
        rc = kv_store_touch(store, key, len, 1000, &op);
        break;

    default:
        rc = kv_store_increment(store, key, len, 1, 0, &op);
    }

    assert_int_equal(rc, KV_OK);

    if (deed->flag) {
        version.lsn = deed->lsn;
        version.incarnation = 0;
        kv_store_if(op, deed->flag, &version);
    }

    return op;
}


static void
add_group(void)
{
    unit[n].grouped = true;

    assert_int_equal(kv_store_group(solo.host.store, &unit[n].group), KV_OK);
    unit[n].op = unit[n].group.op;
    n++;
}


/* To the last group. */

static void
add(uint8_t code, uint32_t id, uint8_t flag, uint64_t lsn)
{
    deed_t  deed = { code, flag, id, lsn };

    assert_int_equal(kv_store_group_add(solo.host.store, &unit[n - 1].group,
                                        begin(&deed)), KV_OK);
}


static void
add_alone(uint8_t code, uint32_t id, uint8_t flag, uint64_t lsn)
{
    deed_t  deed = { code, flag, id, lsn };

    unit[n].grouped = false;
    unit[n++].op = begin(&deed);
}


/* What became of a group. */

static void
learn(unit_t *u)
{
    kv_op_t   *op;
    unsigned   i;
    uint64_t   lsn;

    u->failed = u->rc == KV_OK ? NULL : kv_store_group_failed(u->op);
    u->member = 0;

    lsn = kv_store_group_first(&u->group)->lsn;
    u->lsn = lsn;

    for (op = kv_store_group_first(&u->group), i = 0;
         op;
         op = kv_store_group_next(op), i++)
    {
        if (op == u->failed) {
            u->member = i;
            u->found = kv_store_result(solo.host.store, op).lsn;
        }

        if (u->rc == KV_OK) {
            assert_int_equal(op->result, KV_OK);
            assert_int_equal(op->lsn, lsn + i);
        }
    }

    assert_int_equal(i, u->group.n);

    if (u->rc == KV_OK) {
        assert_int_equal(kv_store_group_version(solo.host.store,
                                                &u->group).lsn, lsn + i - 1);
    }
}


/* As one batch, if that can hold them. */

static void
commit(void)
{
    unsigned     i;
    kv_store_t  *store;

    store = solo.host.store;

    for (i = 0; i < n; i++) {
        (void) kv_store_submit(store, unit[i].op);
    }

    store->zone->spin = 0;
    store->zone->idle_ns = 0;
    kv_store_commit(store);

    for (i = 0; i < n; i++) {
        assert_true(kv_store_done(unit[i].op, &unit[i].rc));

        if (unit[i].grouped) {
            learn(&unit[i]);

        } else {
            unit[i].lsn = unit[i].op->lsn;
            unit[i].found = kv_store_result(store, unit[i].op).lsn;
        }

        kv_store_release(store, unit[i].op);
    }

    n = 0;
}


/* The last commit's one group has failed: at this member, which found that. */

static void
expect_failed(kv_rc_t rc, unsigned member, uint64_t found)
{
    assert_int_equal(unit[0].rc, rc);
    assert_non_null(unit[0].failed);
    assert_int_equal(unit[0].member, member);
    assert_int_equal(unit[0].found, found);
}


static void
test_all(void **state)
{
    unsigned  i;
    uint64_t  lsn;

    (void) state;

    for (i = 0; i < 2; i++) {
        solo.conf.list = i;
        start();
        lsn = next_lsn();

        add_alone(KV_OP_PUT, 1, 0, 0);
        add_alone(KV_OP_PUT, 3, 0, 0);
        add_group();
        add(KV_OP_PUT, 2, KV_OP_IF_ABSENT, 0);
        add(KV_OP_DELETE, 1, KV_OP_IF_VERSION, lsn);
        add(KV_OP_PUT, 1, KV_OP_IF_ABSENT, 0);
        add(KV_OP_INCR, 16, 0, 0);
        add(KV_OP_INCR, 16, KV_OP_IF_PRESENT, 0);
        add(KV_OP_TOUCH, 3, 0, 0);
        add(KV_OP_TOUCH, 2, KV_OP_IF_VERSION, lsn + 2);
        add(KV_OP_DELETE, 4, 0, 0);
        add_alone(KV_OP_INCR, 16, 0, 0);
        add_alone(KV_OP_PUT, 2, KV_OP_IF_ABSENT, 0);
        commit();

        assert_int_equal(unit[2].rc, KV_OK);
        assert_int_equal(unit[2].lsn, lsn + 2);
        assert_int_equal(unit[4].rc, KV_PRECONDITION);
        assert_int_equal(unit[4].found, lsn + 2);
        assert_int_equal(solo.host.store->zone->stats.batch.measure.count, 1);

        assert_int_equal(lsn_of(1), lsn + 4);
        assert_int_equal(lsn_of(2), lsn + 2);
        assert_int_equal(lsn_of(3), lsn + 1);
        assert_int_equal(lsn_of(16), lsn + 10);
        assert_true(expires_of(2) > 0);
        assert_true(expires_of(3) > 0);

        solo_stop(&solo, i);
        start();
        assert_int_equal(lsn_of(1), lsn + 4);
        assert_int_equal(lsn_of(16), lsn + 10);
        assert_true(expires_of(3) > 0);

        solo_stop(&solo, true);
        ram_clear(&solo.ram);
        ram_init(&solo.ram);
    }
}


/* The first member that is not to be done is named, and none is done. */

static void
test_refused(void **state)
{
    unsigned  i, k;
    uint64_t  lsn, one;

    (void) state;

    start();
    add_alone(KV_OP_PUT, 1, 0, 0);
    add_alone(KV_OP_INCR, 16, 0, 0);
    commit();
    lsn = next_lsn();
    one = lsn_of(1);

    for (i = 0; i < 6; i++) {
        add_group();

        for (k = 0; k < 6; k++) {

            if (k == i) {
                add(KV_OP_DELETE, 1, KV_OP_IF_ABSENT, 0);

            } else {
                add(KV_OP_PUT, 2 + k, 0, 0);
            }
        }

        commit();
        expect_failed(KV_PRECONDITION, i, one);
        assert_int_equal(next_lsn(), lsn);
    }

    /* by what the group itself has made, whose LSN is another write's then */

    add_group();
    add(KV_OP_INCR, 17, 0, 0);
    add(KV_OP_PUT, 5, 0, 0);
    add(KV_OP_PUT, 5, KV_OP_IF_ABSENT, 0);
    commit();
    expect_failed(KV_PRECONDITION, 2, 0);

    add_group();
    add(KV_OP_PUT, 16, 0, 0);
    add(KV_OP_INCR, 16, 0, 0);
    commit();
    expect_failed(KV_NOT_INTEGER, 1, 0);

    add_group();
    add(KV_OP_DELETE, 1, 0, 0);
    add(KV_OP_TOUCH, 1, 0, 0);
    commit();
    expect_failed(KV_NOT_FOUND, 1, 0);

    assert_int_equal(next_lsn(), lsn);
    assert_int_equal(lsn_of(1), one);

    /* it is as if it had not been there for what follows in the batch */

    add_group();
    add(KV_OP_PUT, 3, 0, 0);
    add(KV_OP_DELETE, 1, 0, 0);
    add(KV_OP_INCR, 16, 0, 0);
    add(KV_OP_PUT, 3, KV_OP_IF_ABSENT, 0);
    add_alone(KV_OP_PUT, 3, KV_OP_IF_ABSENT, 0);
    add_alone(KV_OP_PUT, 1, KV_OP_IF_VERSION, one);
    add_group();
    add(KV_OP_PUT, 3, KV_OP_IF_VERSION, lsn);
    add(KV_OP_DELETE, 1, KV_OP_IF_VERSION, lsn + 1);
    commit();

    expect_failed(KV_PRECONDITION, 3, 0);
    assert_int_equal(unit[1].lsn, lsn);
    assert_int_equal(unit[2].lsn, lsn + 1);
    assert_int_equal(unit[3].rc, KV_OK);
    assert_int_equal(lsn_of(3), lsn + 2);
    assert_int_equal(lsn_of(1), 0);
}


/* Takes all memory that the index could get, in pages and objects of a size. */

static void *
take_all(size_t size)
{
    size_t       i;
    void        *p, *taken;
    size_t       sizes[2] = { KV_PAGE_SIZE, size };
    kv_heap_t   *heap;

    heap = solo.host.store->zone->heap;
    taken = NULL;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    for (i = 0; i < 2; i++) {

        while ((p = kv_heap_alloc(heap, KV_HEAP_SYSTEM, sizes[i])) != NULL) {
            *(void **) p = taken;
            taken = p;
        }
    }

    kv_heap_unlock(heap);

    return taken;
}


static void
give_all(void *taken)
{
    void       *p;
    kv_heap_t  *heap;

    heap = solo.host.store->zone->heap;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    while (taken) {
        p = taken;
        taken = *(void **) p;
        kv_heap_free(heap, p);
    }

    kv_heap_unlock(heap);
}


/* A put of a key of `len` bytes, of which this is the first. */

static kv_op_t *
begin_long(char first, uint16_t len)
{
    char      key[8192];
    kv_op_t  *op;

    memset(key, first, len);

    assert_int_equal(kv_store_put(solo.host.store, key, len, 1, 0, &op), KV_OK);
    assert_int_equal(kv_store_write(solo.host.store, op, 0, "x", 1), KV_OK);

    return op;
}


/*
 * What the index has reserved for a put of a group that is refused is not
 * another put's: it may be too small for its key.
 */

static void
test_list_reserve(void **state)
{
    void      *taken;
    unsigned   i;

    (void) state;

    solo.conf.list = true;
    start();

    /* reserves for short keys, which the next batch finds */

    for (i = 0; i < 3; i++) {
        add_alone(KV_OP_PUT, i, 0, 0);
    }

    commit();

    add_group();
    add(KV_OP_PUT, 8, 0, 0);
    assert_int_equal(kv_store_group_add(solo.host.store, &unit[0].group,
                                        begin_long('a', 5000)), KV_OK);
    unit[n].grouped = false;
    unit[n++].op = begin_long('b', 5000);

    taken = take_all(5000);
    commit();
    give_all(taken);

    assert_int_equal(unit[0].rc, KV_NO_MEMORY);
    assert_int_equal(unit[1].rc, KV_NO_MEMORY);
    assert_int_equal(lsn_of(8), 0);

    add_alone(KV_OP_PUT, 8, 0, 0);
    commit();
    assert_int_equal(unit[0].rc, KV_OK);
}


/* ---- a model */


static kv_rc_t
model_one(cell_t *now, const deed_t *deed, uint64_t lsn, uint64_t *found)
{
    bool     met;
    cell_t  *cell;

    cell = &now[deed->id];
    *found = cell->lsn;

    met = deed->flag == 0
          || (deed->flag == KV_OP_IF_PRESENT && cell->lsn)
          || (deed->flag == KV_OP_IF_ABSENT && cell->lsn == 0)
          || (deed->flag == KV_OP_IF_VERSION && cell->lsn == deed->lsn);

    if (!met) {
        return KV_PRECONDITION;
    }

    switch (deed->code) {

    case KV_OP_DELETE:
        memset(cell, 0, sizeof(cell_t));
        break;

    case KV_OP_TOUCH:
        return cell->lsn ? KV_OK : KV_NOT_FOUND;

    case KV_OP_INCR:
        cell->number++;
        cell->lsn = lsn;
        break;

    default:
        cell->lsn = lsn;
    }

    return KV_OK;
}


static void
model_deed(const cell_t *now, deed_t *deed)
{
    static const uint8_t  flags[] = {
        0, 0, 0, KV_OP_IF_PRESENT, KV_OP_IF_ABSENT, KV_OP_IF_VERSION
    };

    deed->id = (uint32_t) rand() % (KEYS + NUMBERS);

    deed->code = rand() % 4 == 0 ? KV_OP_DELETE
                 : rand() % 6 == 0 ? KV_OP_TOUCH
                 : deed->id < KEYS ? KV_OP_PUT : KV_OP_INCR;

    deed->flag = flags[rand() % 6];

    /* mostly what it has, or what the batch may give it */

    deed->lsn = rand() % 4 ? now[deed->id].lsn
                           : next_lsn() + (unsigned) rand() % 8;
    deed->lsn = deed->lsn ? deed->lsn : 1;
}


/* A batch of single operations and groups of up to 8. */

static void
model(cell_t *now, unsigned units)
{
    static deed_t  deed[UNITS][8];

    cell_t    before[KEYS + NUMBERS];
    kv_rc_t   rc;
    unsigned  i, k, count[UNITS];
    uint64_t  lsn, found;

    lsn = next_lsn();

    for (i = 0; i < units; i++) {
        count[i] = rand() % 3 ? 1 + (unsigned) rand() % 8 : 0;

        if (count[i]) {
            add_group();
        }

        for (k = 0; k < kv_max(count[i], 1u); k++) {
            model_deed(now, &deed[i][k]);

            if (count[i]) {
                add(deed[i][k].code, deed[i][k].id, deed[i][k].flag,
                    deed[i][k].lsn);

            } else {
                add_alone(deed[i][k].code, deed[i][k].id, deed[i][k].flag,
                          deed[i][k].lsn);
            }
        }
    }

    commit();

    for (i = 0; i < units; i++) {
        memcpy(before, now, sizeof(before));
        rc = KV_OK;
        found = 0;

        for (k = 0; k < kv_max(count[i], 1u) && rc == KV_OK; k++) {
            rc = model_one(now, &deed[i][k], lsn + k, &found);
        }

        assert_int_equal(unit[i].rc, rc);

        if (rc == KV_OK) {
            assert_int_equal(unit[i].lsn, lsn);
            lsn += k;
            continue;
        }

        memcpy(now, before, sizeof(before));

        if (rc == KV_PRECONDITION) {
            assert_int_equal(unit[i].found,
                             count[i] && found >= lsn ? 0 : found);
        }

        if (count[i]) {
            assert_int_equal(unit[i].member, k - 1);
        }
    }

    assert_int_equal(next_lsn(), lsn);
}


static void
test_model(void **state)
{
    char          key[32];
    size_t        len;
    unsigned      i, k;
    kv_entry_t   *e;

    static cell_t  now[KEYS + NUMBERS];

    (void) state;

    srand(1);
    memset(now, 0, sizeof(now));
    solo.conf.segment = 1 << 20;
    solo.conf.list = true;
    start();

    for (i = 0; i < 300; i++) {
        model(now, 1 + (unsigned) rand() % 24);

        for (k = 0; k < KEYS + NUMBERS; k++) {
            assert_int_equal(lsn_of(k), now[k].lsn);
        }

        for (k = KEYS; k < KEYS + NUMBERS; k++) {
            len = kit_key(k, key);

            if (kv_store_read(solo.host.store, key, len, &e) == KV_OK) {
                key[0] = '\0';
                memcpy(key, kv_store_value(e), kv_min(e->value_len, 20u));
                key[e->value_len] = '\0';
                kv_store_read_done(solo.host.store);

                assert_int_equal(atoi(key), now[k].number);
            }
        }

        if (i % 20 == 19) {
            solo_stop(&solo, i % 40 == 19);
            start();
        }
    }
}


/* ---- limits */


static void
test_too_many(void **state)
{
    unsigned    i;
    uint64_t    lsn, batches;
    kv_op_t    *op;

    deed_t  deed = { KV_OP_DELETE, 0, 1, 0 };

    (void) state;

    solo.conf.segment = 1 << 20;
    start();
    add_alone(KV_OP_PUT, 1, 0, 0);
    add_group();

    for (i = 0; i < KV_GROUP_MAX; i++) {
        add(i == 7 ? KV_OP_INCR : KV_OP_DELETE, i == 7 ? 16 : 2, 0, 0);
    }

    op = begin(&deed);
    assert_int_equal(kv_store_group_add(solo.host.store, &unit[1].group, op),
                     KV_DECLINED);
    kv_store_release(solo.host.store, op);

    /* a batch of its own; the group behind it fits into the next one */

    add_group();
    add(KV_OP_PUT, 2, 0, 0);
    add(KV_OP_PUT, 3, 0, 0);
    add_alone(KV_OP_PUT, 4, 0, 0);

    lsn = next_lsn();
    batches = solo.host.store->zone->stats.batch.measure.count;
    commit();

    assert_int_equal(solo.host.store->zone->stats.batch.measure.count,
                     batches + 3);
    assert_int_equal(unit[1].rc, KV_OK);
    assert_int_equal(unit[1].lsn, lsn + 1);
    assert_int_equal(unit[2].rc, KV_OK);
    assert_int_equal(lsn_of(4), lsn + 1 + KV_GROUP_MAX + 2);
}


/*
 * Bytes: of a batch of the log, which is less than a segment here.  What groups
 * of puts count is what the log takes.
 */

static void
test_too_large(void **state)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    unsigned  i, k, fit;
    uint64_t  bytes;

    (void) state;

    start();

    /* the first write of a cluster writes more than itself */

    assert_int_equal(solo_put(&solo, 0, 400), KV_OK);

    for (i = 0, fit = 0; i < 2; i++) {
        add_group();

        for (k = 0; /* void */ ; k++) {
            assert_int_equal(kit_begin_ttl(&solo.host, k, 1, 400, k % 5, &op),
                             KV_OK);

            rc = kv_store_group_add(solo.host.store, &unit[i].group, op);

            if (rc != KV_OK) {
                assert_int_equal(rc, KV_DECLINED);
                kv_store_release(solo.host.store, op);
                break;
            }
        }

        fit = k;
    }

    assert_true(fit > 80 && fit < 160);
    assert_int_equal(unit[0].group.n, fit);

    /* the two do not fit into one */

    bytes = atomic_load(&solo.host.store->zone->wal.bytes);
    commit();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.bytes) - bytes,
                     2 * sizeof(kv_batch_header_t) + unit[0].group.bytes
                     + unit[1].group.bytes);
    assert_int_equal(unit[0].rc, KV_OK);
    assert_int_equal(unit[1].rc, KV_OK);
    assert_int_equal(unit[1].lsn, unit[0].lsn + fit);
    assert_int_equal(solo.host.store->zone->stats.batch.measure.count, 3);

    solo_stop(&solo, false);
    start();
    assert_int_equal(lsn_of(fit - 1), 1 + 2 * fit);
}


/* ---- a list, and a group that becomes visible meanwhile */


#define LISTED  100u


#define TOUCHED 7200000u             /* ms: until they expire, by the group */


typedef struct {
    unsigned   n;                  /* keys visited */
    unsigned   begins;             /* with the how manyth key, from 1; or 0 */
    bool       touches;            /* and has changed all entries */
    char       last[32];
    size_t     len;
} visits_t;


/* What the committer does for a group of touches that is half applied. */

static void
touch_all(void)
{
    char         key[32];
    uint16_t     len;
    uint32_t     id;
    uint64_t     hash;
    kv_zone_t   *zone;
    kv_entry_t  *e;

    zone = solo.host.store->zone;

    for (id = 0; id < LISTED; id++) {
        len = (uint16_t) kit_key(id, key);
        hash = kv_map_hash(&zone->map, key, len);
        e = kv_map_find(&zone->map, hash, key, len);

        assert_non_null(e);
        kv_timers_remove(&zone->timers, e);
        kv_entry_set_expires(e, kv_clock_ms(zone) + TOUCHED);
        kv_timers_add(&zone->timers, e);
    }
}


static bool
visit(void *ctx, const void *key, size_t len, const kv_entry_t *e,
    uint64_t expires)
{
    visits_t  *visits = ctx;

    /* in order, each once */

    assert_non_null(e);
    assert_true(visits->n == 0
                || memcmp(key, visits->last, kv_min(visits->len, len)) >= 0);
    assert_false(len == visits->len
                 && memcmp(key, visits->last, visits->len) == 0);

    memcpy(visits->last, key, len);
    visits->len = len;

    /* nobody has been told of the group */

    assert_true(expires <= TOUCHED / 2);

    if (++visits->n == visits->begins) {
        kv_group_hide(solo.host.store->zone, next_lsn(), visits->touches);

        if (visits->touches) {
            touch_all();
        }
    }

    return true;
}


static kv_rc_t
list(visits_t *visits)
{
    return kv_store_list(solo.host.store, visits->last, visits->len, true,
                         visit, visits);
}


static void
test_list(void **state)
{
    kv_zone_t  *zone;
    unsigned    begins;
    uint32_t    id;
    visits_t    visits;

    (void) state;

    solo.conf.list = true;
    start();
    zone = solo.host.store->zone;

    for (id = 0; id < LISTED; id++) {
        assert_int_equal(solo_put(&solo, id, 40), KV_OK);
    }

    for (begins = 1; begins <= LISTED - 16; begins++) {
        memset(&visits, 0, sizeof(visits));
        visits.begins = begins;

        /* what was looked up before that is told, and no more */

        assert_int_equal(list(&visits), KV_AGAIN);
        assert_true(visits.n >= begins && visits.n < begins + 16);
        id = visits.n;

        assert_int_equal(list(&visits), KV_AGAIN);
        assert_int_equal(visits.n, id);

        /* also if it is over before the list goes on */

        kv_group_show(zone);
        visits.begins = 0;
        assert_int_equal(list(&visits), KV_OK);
        assert_int_equal(visits.n, LISTED);
    }
}


/* A list tells of no touch of a group that is being applied. */

static void
test_list_touches(void **state)
{
    kv_rc_t    rc;
    kv_op_t   *op;
    unsigned   begins;
    uint32_t   id;
    char       key[32];
    visits_t   visits;

    (void) state;

    solo.conf.list = true;
    start();

    for (begins = 1; begins <= LISTED - 16; begins += 7) {

        for (id = 0; id < LISTED; id++) {
            assert_int_equal(kv_store_put(solo.host.store, key,
                                          (uint16_t) kit_key(id, key), 1,
                                          TOUCHED / 2000, &op), KV_OK);
            assert_int_equal(kv_store_write(solo.host.store, op, 0, "x", 1),
                             KV_OK);
            solo_commit(&solo, &op, 1, &rc);
            assert_int_equal(rc, KV_OK);
        }

        memset(&visits, 0, sizeof(visits));
        visits.begins = begins;
        visits.touches = true;

        assert_int_equal(list(&visits), KV_AGAIN);
        assert_true(visits.n >= begins && visits.n < begins + 16);

        kv_group_show(solo.host.store->zone);
    }
}


/* ---- a read that cannot come back, while a group becomes visible */


/* The LSN that it finds, 0: nothing. */

static uint64_t
read_now(uint32_t id)
{
    char         key[32];
    size_t       len;
    kv_rc_t      rc;
    uint64_t     lsn;
    kv_entry_t  *e;

    len = kit_key(id, key);
    rc = kv_store_read_now(solo.host.store, key, len, &e);

    if (rc == KV_NOT_FOUND) {
        return 0;
    }

    assert_int_equal(rc, KV_OK);
    lsn = kv_store_version(solo.host.store, e).lsn;
    kv_store_read_done(solo.host.store);

    return lsn;
}


static void
test_read_now(void **state)
{
    kv_zone_t   *zone;
    kv_entry_t  *e;

    (void) state;

    start();
    zone = solo.host.store->zone;

    assert_int_equal(solo_put(&solo, 0, 40), KV_OK);
    assert_int_equal(solo_put(&solo, 1, 40), KV_OK);

    /* a group that has put key 1 where nothing was, and deleted nothing */

    kv_group_hide(zone, 2, false);
    assert_int_equal(read_now(0), 1);
    assert_int_equal(read_now(1), 0);
    assert_int_equal(read_now(2), 0);
    assert_int_equal(kv_store_read(solo.host.store, "x", 1, &e), KV_AGAIN);
    kv_group_show(zone);
    assert_int_equal(read_now(1), 2);

    /* with touches, which leave a value what it is */

    kv_group_hide(zone, 2, true);
    assert_int_equal(read_now(0), 1);
    assert_int_equal(read_now(1), 0);
    kv_group_show(zone);
}


/* What a key had before a group, as kv_group_before() says: an LSN, or 0. */

static uint64_t
before(uint32_t id, uint64_t groups)
{
    char         key[32];
    size_t       len;
    uint64_t     hash;
    kv_zone_t   *zone;
    kv_entry_t  *e;

    zone = solo.host.store->zone;
    len = kit_key(id, key);
    hash = kv_map_hash(&zone->map, key, len);

    if (!kv_group_before(zone, groups, hash, key, len, &e)) {
        return UINT64_MAX;
    }

    return e ? kv_entry_lsn(e) : 0;
}


/* Groups of all sizes, of which every second key is there. */

static void
test_before(void **state)
{
    kv_op_t    *op, *member[KV_GROUP_MAX];
    unsigned    i, size;
    uint64_t    groups;
    kv_zone_t  *zone;

    (void) state;

    solo.conf.segment = 1 << 20;
    start();
    zone = solo.host.store->zone;

    for (i = 0; i < KV_GROUP_MAX; i += 2) {
        assert_int_equal(solo_put(&solo, i, 40), KV_OK);
    }

    for (size = 1; size <= KV_GROUP_MAX; size *= 2) {
        add_group();

        for (i = 0; i < size; i++) {
            add(i % 3 ? KV_OP_PUT : KV_OP_DELETE, i, 0, 0);
        }

        op = kv_store_group_first(&unit[0].group);

        for (i = 0; i < size; i++, op = kv_store_group_next(op)) {
            member[i] = op;
        }

        member[0]->lsn = next_lsn();
        kv_group_begin(zone, member, size);
        groups = atomic_load(&zone->groups);
        assert_true(zone->retired.paused);

        for (i = 0; i < KV_GROUP_MAX; i++) {
            assert_int_equal(before(i, groups),
                             i < size && i % 2 == 0 ? i / 2 + 1 : 0);
        }

        /* it is another's, or that one's no more */

        assert_true(before(0, groups + 4) == UINT64_MAX);
        kv_group_end(zone);
        assert_false(zone->retired.paused);
        assert_true(before(0, groups) == UINT64_MAX);
        assert_true(before(1, groups) == UINT64_MAX);

        member[0]->lsn = 0;
        kv_store_release(solo.host.store, unit[--n].op);
    }
}


/* A zone without memory for one more key: what a group would add is refused. */

static void
test_full_zone(void **state)
{
    kv_rc_t     rc;
    kv_op_t    *op;
    uint32_t    id;
    unsigned    i;
    uint64_t    lsn;

    (void) state;

    solo.conf.segment = 1 << 20;
    start();

    for (id = 1000; ; id++) {
        rc = kit_begin_put(&solo.host, id, 1, 3000, &op);

        if (rc != KV_OK) {
            break;
        }

        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_OK);
    }

    assert_int_equal(rc, KV_NO_MEMORY);
    lsn = next_lsn();

    /* a group that was begun and is given up leaves nothing */

    for (i = 0; i < 100; i++) {
        add_group();
        add(KV_OP_DELETE, 1000, 0, 0);
        add(KV_OP_DELETE, 1001, 0, 0);
        kv_store_release(solo.host.store, unit[--n].op);
    }

    assert_int_equal(next_lsn(), lsn);

    /* deletes are always done */

    add_group();

    for (i = 0; i < 50; i++) {
        add(KV_OP_DELETE, 1000 + i, KV_OP_IF_PRESENT, 0);
    }

    commit();
    assert_int_equal(unit[0].rc, KV_OK);
    assert_int_equal(lsn_of(1049), 0);
    assert_int_not_equal(lsn_of(1050), 0);
    assert_int_equal(solo_put(&solo, 1, 3000), KV_OK);
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


/*
 * A full disk refuses what is not all deletes; those that are left are decided
 * again.
 */

static void
test_disk_full(void **state)
{
    uint64_t  lsn;

    (void) state;

    start();
    add_alone(KV_OP_PUT, 1, 0, 0);
    add_alone(KV_OP_PUT, 2, 0, 0);
    add_alone(KV_OP_PUT, 3, 0, 0);
    commit();
    lsn = next_lsn();

    add_group();                                   /* goes */
    add(KV_OP_DELETE, 1, 0, 0);
    add(KV_OP_PUT, 4, 0, 0);
    add_group();                                   /* false by what goes */
    add(KV_OP_DELETE, 2, 0, 0);
    add(KV_OP_DELETE, 1, KV_OP_IF_PRESENT, 0);
    add_group();                                   /* true by what goes */
    add(KV_OP_DELETE, 3, 0, 0);
    add(KV_OP_DELETE, 4, KV_OP_IF_PRESENT, 0);
    add_alone(KV_OP_DELETE, 9, 0, 0);

    fail_writes(ENOSPC, 1);
    commit();
    assert_int_equal(solo.ram.fault[0].hits, 1);

    assert_int_equal(unit[0].rc, KV_NO_SPACE);
    assert_null(unit[0].failed);
    assert_int_equal(unit[1].rc, KV_OK);
    assert_int_equal(unit[2].rc, KV_PRECONDITION);
    assert_int_equal(unit[2].member, 1);
    assert_int_equal(unit[3].rc, KV_OK);
    assert_int_equal(next_lsn(), lsn + 3);

    assert_int_equal(lsn_of(1) + lsn_of(2) + lsn_of(4), 0);
    assert_int_equal(lsn_of(3), lsn - 1);

    solo_stop(&solo, false);
    start();
    assert_int_equal(lsn_of(1) + lsn_of(2) + lsn_of(4), 0);
    assert_int_equal(lsn_of(3), lsn - 1);
}


/*
 * Where all that is left frees memory, too much of it is refused in parts: the
 * large ones first, and of equal ones the later.
 */

static void
test_disk_nearly_full(void **state)
{
    uint32_t  id;
    uint64_t  lsn;

    (void) state;

    start();
    add_alone(KV_OP_PUT, 1, 0, 0);
    add_alone(KV_OP_PUT, 2, 0, 0);
    commit();
    lsn = next_lsn();

    add_group();

    for (id = 0; id < 40; id++) {
        add(KV_OP_DELETE, id % 16, 0, 0);
    }

    add_alone(KV_OP_DELETE, 1, 0, 0);
    add_group();
    add(KV_OP_DELETE, 2, 0, 0);
    add(KV_OP_DELETE, 3, 0, 0);

    fail_writes(ENOSPC, 1);
    commit();

    assert_int_equal(solo.ram.fault[0].hits, 1);
    assert_int_equal(unit[0].rc, KV_NO_SPACE);
    assert_int_equal(unit[1].rc, KV_OK);
    assert_int_equal(unit[2].rc, KV_OK);
    assert_int_equal(next_lsn(), lsn + 3);
    assert_int_equal(lsn_of(1) + lsn_of(2), 0);

    /* with puts: these first, then two times the half of what is left */

    for (id = 0; id < 16; id++) {
        add_alone(KV_OP_DELETE, id, 0, 0);
        add_alone(KV_OP_PUT, id, 0, 0);
    }

    fail_writes(ENOSPC, 3);
    commit();

    assert_int_equal(solo.ram.fault[0].hits, 3);

    for (id = 0; id < 16; id++) {
        assert_int_equal(unit[2 * id].rc, id < 4 ? KV_OK : KV_NO_SPACE);
        assert_int_equal(unit[2 * id + 1].rc, KV_NO_SPACE);
    }

    /* down to one, and not even that */

    lsn = next_lsn();

    for (id = 0; id < 16; id++) {
        add_alone(KV_OP_DELETE, id, 0, 0);
    }

    fail_writes(ENOSPC, 1000);
    commit();

    assert_int_equal(solo.ram.fault[0].hits, 5);

    for (id = 0; id < 16; id++) {
        assert_int_equal(unit[id].rc, KV_NO_SPACE);
    }

    assert_int_equal(next_lsn(), lsn);
}


static void
test_write_fails(void **state)
{
    uint64_t  one;

    (void) state;

    start();
    add_alone(KV_OP_PUT, 1, 0, 0);
    commit();
    one = lsn_of(1);

    add_group();
    add(KV_OP_DELETE, 1, 0, 0);
    add(KV_OP_PUT, 2, 0, 0);
    add_group();
    add(KV_OP_PUT, 3, 0, 0);
    add(KV_OP_PUT, 1, KV_OP_IF_PRESENT, 0);
    fail_writes(EIO, 1000);
    commit();
    assert_int_equal(unit[0].rc, KV_UNAVAILABLE);
    assert_int_equal(unit[1].rc, KV_UNAVAILABLE);
    assert_null(unit[1].failed);
    assert_int_equal(lsn_of(1), one);
    assert_int_equal(lsn_of(2) + lsn_of(3), 0);
    solo.ram.fault[0].nth = 0;

    solo_stop(&solo, false);
    start();
    assert_int_equal(lsn_of(1), one);
    assert_int_equal(lsn_of(2) + lsn_of(3), 0);
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, solo_setup, \
                                                          solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_all),
        TEST(test_refused),
        TEST(test_model),
        TEST(test_too_many),
        TEST(test_too_large),
        TEST(test_list),
        TEST(test_list_touches),
        TEST(test_read_now),
        TEST(test_before),
        TEST(test_list_reserve),
        TEST(test_full_zone),
        TEST(test_disk_full),
        TEST(test_disk_nearly_full),
        TEST(test_write_fails)
    };

    kit_typed = KV_META_TYPE;
    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
