
/*
 * Increments, and deletes that return what they delete: decided in the order of
 * the log, against the map and what the same batch has decided before.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "solo.h"
#include "store/kv_batch.h"
#include "store/kv_counter.h"


#define OPS    KV_BATCH_MAX
#define KEYS   24u
#define LONG   20000u              /* bytes of a value in pieces */
#define TEXT   (LONG + 1)


/* Operations that are committed together, and what became of them. */

static kv_op_t   *op[OPS];
static kv_rc_t    rc[OPS];
static int64_t    sum[OPS];
static uint64_t   lsn[OPS];        /* kv_store_result() */
static uint32_t   len[OPS];        /* of what a delete returns, */
static char      *text[OPS];       /* and that */
static unsigned   n;

static char       large[TEXT];     /* a value in pieces */


static void
start(void)
{
    solo.conf.max_value = LONG;
    solo.conf.segment = 1 << 20;

    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }

    memset(large, 'x', LONG);
    n = 0;
}


static void
add_put(uint32_t id, const char *value)
{
    char      key[32];
    uint16_t  key_len;
    uint32_t  value_len;

    key_len = (uint16_t) kit_key(id, key);
    value_len = (uint32_t) strlen(value);

    assert_int_equal(kv_store_put(solo.host.store, key, key_len, value_len,
                                  0, &op[n]), KV_OK);
    assert_int_equal(kv_store_write(solo.host.store, op[n], 0, value,
                                    value_len), KV_OK);
    assert_int_equal(kv_store_finish(solo.host.store, op[n], value_len),
                     KV_OK);
    n++;
}


static void
add_delete(uint32_t id, bool returns)
{
    char      key[32];
    uint16_t  key_len;

    key_len = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_delete(solo.host.store, key, key_len, &op[n]),
                     KV_OK);

    if (returns) {
        kv_store_return(op[n]);
    }

    n++;
}


static void
add_incr(uint32_t id, int64_t by)
{
    char      key[32];
    uint16_t  key_len;

    key_len = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_increment(solo.host.store, key, key_len, by, 0,
                                        &op[n]), KV_OK);
    n++;
}


/* The condition of the operation that was added last. */

static void
condition(uint8_t flag, uint64_t version)
{
    kv_version_t  v;

    v.lsn = version;
    v.incarnation = solo.host.store->zone->wal.incarnation;

    kv_store_if(op[n - 1], flag, &v);
}


/* The bytes of a value. */

static char *
copy_of(const kv_entry_t *e)
{
    char          *copy;
    size_t         i, k, count, done;
    struct iovec   iov[4];

    copy = calloc(1, e->value_len + 1);
    assert_non_null(copy);
    done = 0;

    for (i = 0; (count = kv_store_value_iov(e, iov, 4, i)) != 0; i += count) {
        for (k = 0; k < count; k++) {
            memcpy(copy + done, iov[k].iov_base, iov[k].iov_len);
            done += iov[k].iov_len;
        }
    }

    assert_int_equal(done, e->value_len);

    return copy;
}


/* Notes what became of an operation, and releases it. */

static void
note(unsigned i)
{
    const kv_entry_t  *e;

    free(text[i]);
    text[i] = NULL;
    len[i] = 0;
    sum[i] = 0;

    lsn[i] = kv_store_result(solo.host.store, op[i]).lsn;

    if (rc[i] == KV_OK && op[i]->code == KV_OP_INCR) {
        sum[i] = kv_store_sum(op[i]);

    } else if (rc[i] == KV_OK && (op[i]->flags & KV_OP_RETURN)) {
        e = kv_store_returned(op[i]);
        len[i] = e->value_len;
        text[i] = copy_of(e);

        if (e->flags & KV_ENTRY_PIECES && i % 2) {
            kv_store_hold(solo.host.store, op[i]);
        }
    }

    kv_store_release(solo.host.store, op[i]);
}


static void
run(void)
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
    }
}


static void
commit(void)
{
    unsigned  i;

    run();

    for (i = 0; i < n; i++) {
        note(i);
    }

    n = 0;
}


/* What is there; NULL: nothing.  And its LSN. */

static char *
value_of(uint32_t id, uint64_t *version)
{
    char         key[32], *value;
    size_t       key_len;
    kv_entry_t  *e;

    key_len = kit_key(id, key);
    *version = 0;

    if (kv_store_read(solo.host.store, key, key_len, &e) != KV_OK) {
        return NULL;
    }

    value = copy_of(e);
    *version = kv_entry_lsn(e);
    kv_store_read_done(solo.host.store);

    return value;
}


static void
is_there(uint32_t id, const char *value)
{
    char      *now;
    uint64_t   version;

    now = value_of(id, &version);

    if (value == NULL) {
        assert_null(now);

    } else {
        assert_non_null(now);
        assert_string_equal(now, value);
    }

    free(now);
}


static void
forget_texts(void)
{
    unsigned  i;

    for (i = 0; i < OPS; i++) {
        free(text[i]);
        text[i] = NULL;
    }
}


/* ---- what is a number */


static void
test_numbers(void **state)
{
    char      p[64], q[KV_NUMBER_MAX + 1];
    int64_t   value, back;
    unsigned  i;

    static const struct {
        const char  *text;
        bool         is;
        int64_t      value;
    } one[] = {
        { "0", true, 0 },
        { "7", true, 7 },
        { "-1", true, -1 },
        { "10", true, 10 },
        { "9223372036854775807", true, INT64_MAX },
        { "-9223372036854775807", true, -INT64_MAX },
        { "-9223372036854775808", true, INT64_MIN },
        { "9223372036854775808", false, 0 },
        { "-9223372036854775809", false, 0 },
        { "9223372036854775810", false, 0 },
        { "18446744073709551616", false, 0 },
        { "18446744073709551617", false, 0 },
        { "99999999999999999999999", false, 0 },
        { "", false, 0 },
        { "-", false, 0 },
        { "--1", false, 0 },
        { "+1", false, 0 },
        { "00", false, 0 },
        { "01", false, 0 },
        { "-0", false, 0 },
        { "-01", false, 0 },
        { "1-", false, 0 },
        { " 1", false, 0 },
        { "1 ", false, 0 },
        { "1\n", false, 0 },
        { "1.0", false, 0 },
        { "1e3", false, 0 },
        { "0x1", false, 0 },
        { "a", false, 0 },
        { "1\xb2", false, 0 },
        { "/", false, 0 },
        { ":", false, 0 }
    };

    (void) state;

    for (i = 0; i < sizeof(one) / sizeof(one[0]); i++) {
        value = 0;

        if (kv_number_parse(one[i].text, strlen(one[i].text), &value)
            != one[i].is || value != one[i].value)
        {
            fail_msg("\"%s\": %" PRId64, one[i].text, value);
        }
    }

    assert_false(kv_number_parse("1\0", 2, &value));

    srand(1);

    for (i = 0; i < 200000; i++) {
        value = (int64_t) (((uint64_t) rand() << 33) ^ ((uint64_t) rand() << 11)
                           ^ (uint64_t) rand());
        value = i % 3 == 0 ? value >> rand() % 64
              : i % 3 == 1 ? INT64_MAX - rand() % 100
                           : INT64_MIN + rand() % 100;

        (void) snprintf(p, sizeof(p), "%" PRId64, value);
        memset(q, 0, sizeof(q));

        assert_int_equal(kv_number_print(value, q), strlen(p));
        assert_string_equal(p, q);
        assert_true(kv_number_parse(q, strlen(q), &back));
        assert_int_equal(back, value);
    }
}


/* ---- one after the other */


static void
test_increment(void **state)
{
    uint64_t  first;

    (void) state;

    start();
    first = solo.host.store->zone->wal.next_lsn;

    add_incr(1, 5);
    commit();
    assert_int_equal(rc[0], KV_OK);
    assert_int_equal(sum[0], 5);
    assert_int_equal(lsn[0], first);
    is_there(1, "5");

    add_incr(1, -7);
    commit();
    assert_int_equal(sum[0], -2);
    assert_int_equal(lsn[0], first + 1);
    is_there(1, "-2");

    /* by nothing: it is a write all the same */

    add_incr(1, 0);
    commit();
    assert_int_equal(sum[0], -2);
    assert_int_equal(lsn[0], first + 2);

    add_put(1, "41");
    add_incr(1, 1);
    commit();
    assert_int_equal(sum[1], 42);
    is_there(1, "42");

    add_incr(1, INT64_MAX);
    commit();
    assert_int_equal(rc[0], KV_OVERFLOW);
    assert_int_equal(lsn[0], first + 4);
    add_incr(1, INT64_MAX - 42);
    add_incr(1, 1);
    commit();
    assert_int_equal(rc[0], KV_OK);
    assert_int_equal(sum[0], INT64_MAX);
    assert_int_equal(rc[1], KV_OVERFLOW);
    assert_int_equal(lsn[1], first + 5);
    is_there(1, "9223372036854775807");

    add_incr(2, INT64_MIN);
    add_incr(2, -1);
    add_incr(2, INT64_MAX);
    commit();
    assert_int_equal(sum[0], INT64_MIN);
    assert_int_equal(rc[1], KV_OVERFLOW);
    assert_int_equal(sum[2], -1);

    /* a failed one is in no log, and the sums are on disk */

    assert_int_equal(solo.host.store->zone->wal.next_lsn, first + 8);

    solo_stop(&solo, false);
    start();
    is_there(1, "9223372036854775807");
    is_there(2, "-1");
}


static void
test_no_number(void **state)
{
    char      *now;
    unsigned   i;
    uint64_t   version;

    static const char *const  values[] = {
        "x", "1.5", " 1", "1\n", "01", "-0", "9223372036854775808", "+1"
    };

    (void) state;

    start();

    for (i = 0; i <= sizeof(values) / sizeof(values[0]); i++) {
        add_put(1, i < sizeof(values) / sizeof(values[0]) ? values[i] : large);
        commit();
        now = value_of(1, &version);

        add_incr(1, 1);
        commit();
        assert_int_equal(rc[0], KV_NOT_INTEGER);
        assert_int_equal(lsn[0], version);
        is_there(1, now);
        free(now);

        /* the same where it is in the batch */

        add_put(2, i < sizeof(values) / sizeof(values[0]) ? values[i] : large);
        add_incr(2, 1);
        commit();
        assert_int_equal(rc[1], KV_NOT_INTEGER);
        assert_int_equal(lsn[1], lsn[0]);
    }
}


static void
test_return(void **state)
{
    uint64_t   version;
    unsigned   i;

    static const char *const  values[] = { "small", "1", large };

    (void) state;

    start();

    add_delete(1, true);
    commit();
    assert_int_equal(rc[0], KV_NOT_FOUND);
    assert_int_equal(lsn[0], 0);

    for (i = 0; i < 3; i++) {
        add_put(1, values[i]);
        commit();
        version = lsn[0];

        add_delete(1, true);
        add_delete(1, true);
        commit();
        assert_int_equal(rc[0], KV_OK);
        assert_string_equal(text[0], values[i]);
        assert_int_equal(lsn[0], version);
        assert_int_equal(rc[1], KV_NOT_FOUND);
        is_there(1, NULL);

        /* out of the same batch */

        add_delete(1, true);
        add_put(1, values[i]);
        add_delete(1, true);
        add_delete(1, false);
        add_put(1, values[i]);
        add_incr(2, 7);
        add_delete(2, true);
        commit();
        assert_int_equal(rc[0], KV_NOT_FOUND);
        assert_int_equal(rc[2], KV_OK);
        assert_string_equal(text[2], values[i]);
        assert_int_equal(lsn[2], lsn[1]);
        assert_string_equal(text[6], "7");
        assert_int_equal(lsn[6], lsn[5]);
        is_there(1, values[i]);
        is_there(2, NULL);

        solo_stop(&solo, false);
        start();
        is_there(1, values[i]);
        is_there(2, NULL);
    }

    forget_texts();
}


static void
test_conditions(void **state)
{
    uint64_t  version;

    (void) state;

    start();

    add_incr(1, 1);
    condition(KV_OP_IF_PRESENT, 0);
    add_incr(1, 1);
    condition(KV_OP_IF_ABSENT, 0);
    add_incr(1, 1);
    condition(KV_OP_IF_ABSENT, 0);
    commit();
    assert_int_equal(rc[0], KV_PRECONDITION);
    assert_int_equal(rc[1], KV_OK);
    assert_int_equal(rc[2], KV_PRECONDITION);
    assert_int_equal(lsn[2], lsn[1]);
    version = lsn[1];

    add_delete(1, true);
    condition(KV_OP_IF_VERSION, version + 7);
    add_incr(1, 1);
    condition(KV_OP_IF_VERSION, version);
    add_incr(1, 1);
    condition(KV_OP_IF_VERSION, version);
    add_delete(1, true);
    condition(KV_OP_IF_PRESENT, 0);
    add_delete(1, true);
    condition(KV_OP_IF_PRESENT, 0);
    add_delete(1, true);
    condition(KV_OP_IF_ABSENT, 0);
    commit();
    assert_int_equal(rc[0], KV_PRECONDITION);
    assert_int_equal(lsn[0], version);
    assert_int_equal(sum[1], 2);
    assert_int_equal(rc[2], KV_PRECONDITION);
    assert_int_equal(rc[3], KV_OK);
    assert_string_equal(text[3], "2");
    assert_int_equal(rc[4], KV_PRECONDITION);
    assert_int_equal(lsn[4], 0);
    assert_int_equal(rc[5], KV_NOT_FOUND);

    forget_texts();
}


/* ---- against a model */


/* A key as the model has it; `value` NULL: nothing is there. */

typedef struct {
    char        *value;
    uint64_t     lsn;
} model_t;


static void
model_set(model_t *key, const char *value, uint64_t version)
{
    free(key->value);
    key->value = value ? strdup(value) : NULL;
    key->lsn = value ? version : 0;
}


typedef enum {
    DO_PUT = 0,
    DO_DELETE,
    DO_RETURN,
    DO_INCR,
    DO_CLEAR
} deed_t;


static deed_t    deed[OPS];
static uint32_t  id_of[OPS];
static uint8_t   flag_of[OPS];
static uint64_t  if_lsn[OPS];
static int64_t   by[OPS];
static char      put[OPS][32];
static bool      put_large[OPS];


static void
random_deed(unsigned i, const model_t *model)
{
    uint32_t  dice;

    static const uint8_t  flags[] = {
        0, 0, 0, KV_OP_IF_PRESENT, KV_OP_IF_ABSENT, KV_OP_IF_VERSION
    };
    static const int64_t  steps[] = { 1, 1, 1, -1, 0, 1000, INT64_MAX,
                                      INT64_MIN };

    dice = (uint32_t) rand() % 100;
    deed[i] = dice < 25 ? DO_PUT : dice < 32 ? DO_DELETE
            : dice < 50 ? DO_RETURN : DO_INCR;

    if (i == 7 && rand() % 4 == 0) {
        deed[i] = DO_CLEAR;
        assert_int_equal(kv_store_clear(solo.host.store, &op[n++]), KV_OK);
        return;
    }

    id_of[i] = (uint32_t) rand() % KEYS;
    flag_of[i] = flags[rand() % 6];
    if_lsn[i] = rand() % 3 ? model[id_of[i]].lsn
                           : solo.host.store->zone->wal.next_lsn
                             + (unsigned) rand() % 8;
    if_lsn[i] = kv_max(if_lsn[i], 1u);
    by[i] = steps[rand() % 8];
    put_large[i] = false;

    switch (deed[i]) {

    case DO_PUT:
        put_large[i] = rand() % 8 == 0;
        (void) snprintf(put[i], sizeof(put[i]), rand() % 4 ? "%d" : "v%d",
                        rand() % 2000 - 1000);
        add_put(id_of[i], put_large[i] ? large : put[i]);
        break;

    case DO_INCR:
        add_incr(id_of[i], by[i]);
        break;

    default:
        add_delete(id_of[i], deed[i] == DO_RETURN);
    }

    if (flag_of[i]) {
        condition(flag_of[i], if_lsn[i]);
    }
}


/* The same for the model; its result, and the sum of an increment. */

static kv_rc_t
model_result(unsigned i, const model_t *key, int64_t *total)
{
    int64_t  now;

    if ((flag_of[i] == KV_OP_IF_PRESENT && key->value == NULL)
        || (flag_of[i] == KV_OP_IF_ABSENT && key->value)
        || (flag_of[i] == KV_OP_IF_VERSION && key->lsn != if_lsn[i]))
    {
        return KV_PRECONDITION;
    }

    if (deed[i] == DO_RETURN) {
        return key->value ? KV_OK : KV_NOT_FOUND;
    }

    if (deed[i] == DO_INCR) {
        now = 0;

        if (key->value && !kv_number_parse(key->value, strlen(key->value),
                                           &now))
        {
            return KV_NOT_INTEGER;
        }

        return __builtin_add_overflow(now, by[i], total) ? KV_OVERFLOW : KV_OK;
    }

    return KV_OK;
}


static void
model_check(model_t *model, unsigned i, uint64_t *next)
{
    char      digits[32];
    kv_rc_t   result;
    int64_t   total;
    uint32_t  k;
    model_t  *key;

    if (deed[i] == DO_CLEAR) {
        assert_int_equal(rc[i], KV_OK);
        (*next)++;

        for (k = 0; k < KEYS; k++) {
            model_set(&model[k], NULL, 0);
        }

        return;
    }

    key = &model[id_of[i]];
    total = 0;
    result = model_result(i, key, &total);

    if (rc[i] != result) {
        fail_msg("operation %u of key %u: %d, not %d", i, id_of[i], rc[i],
                 result);
    }

    if (result != KV_OK) {
        assert_int_equal(lsn[i], result == KV_NOT_FOUND ? 0 : key->lsn);
        return;
    }

    switch (deed[i]) {

    case DO_PUT:
        model_set(key, put_large[i] ? large : put[i], *next);
        assert_int_equal(lsn[i], *next);
        break;

    case DO_INCR:
        assert_int_equal(sum[i], total);
        assert_int_equal(lsn[i], *next);
        (void) snprintf(digits, sizeof(digits), "%" PRId64, total);
        model_set(key, digits, *next);
        break;

    case DO_RETURN:
        assert_int_equal(len[i], strlen(key->value));
        assert_string_equal(text[i], key->value);
        assert_int_equal(lsn[i], key->lsn);
        model_set(key, NULL, 0);
        break;

    default:
        model_set(key, NULL, 0);
    }

    (*next)++;
}


static void
test_model(void **state)
{
    char      *now;
    unsigned   i, k, count;
    uint64_t   next, version;

    static model_t  model[KEYS];

    (void) state;

    srand(1);
    start();

    for (i = 0; i < 150; i++) {
        count = i % 15 == 14 ? 400 : 1 + (unsigned) rand() % 60;
        next = solo.host.store->zone->wal.next_lsn;

        for (k = 0; k < count; k++) {
            random_deed(k, model);
        }

        commit();

        for (k = 0; k < count; k++) {
            model_check(model, k, &next);
        }

        assert_int_equal(next, solo.host.store->zone->wal.next_lsn);

        if (i % 30 == 29) {
            solo_stop(&solo, i % 60 == 29);
            start();
        }

        for (k = 0; k < KEYS; k++) {
            now = value_of(k, &version);
            assert_int_equal(now != NULL, model[k].value != NULL);

            if (now) {
                assert_string_equal(now, model[k].value);
                assert_int_equal(version, model[k].lsn);
            }

            free(now);
        }
    }

    for (k = 0; k < KEYS; k++) {
        model_set(&model[k], NULL, 0);
    }

    forget_texts();
}


/* ---- memory */


static uint64_t
used(void)
{
    kv_op_t  *o;
    kv_rc_t   result;

    /* what readers have left is freed by the next operation */

    assert_int_equal(kv_store_reserve(solo.host.store, 0, 0, &o), KV_OK);
    solo_commit(&solo, &o, 1, &result);

    return kv_heap_used(solo.host.store->zone->heap);
}


/* Workers may have died: the committer looks for pins that nothing names. */

static void
search_lost(void)
{
    solo.host.store->zone->retired.lost = true;
    solo.host.store->zone->retired.searched_ns = 0;
}


/* Others take most of the memory, and give it back in part. */

static void
others(void)
{
    unsigned  i;

    for (i = 100; i < 200; i++) {
        add_put(i, large);
    }

    commit();

    for (i = 100; i < 200; i++) {
        add_put(i, "a small value");
    }

    commit();
}


static void
whole(kv_op_t *o, const char *value)
{
    char  *now;

    now = copy_of(kv_store_returned(o));
    assert_string_equal(now, value);
    free(now);
}


/*
 * What a delete returns stays whole, whatever is written after it, until it is
 * released; then all is free.
 */

static void
test_kept(void **state)
{
    kv_op_t   *kept[2];
    uint64_t   before, held;
    unsigned   i, k;

    (void) state;

    start();
    before = 0;

    for (k = 0; k < 3; k++) {
        add_put(1, large);
        add_put(2, "small");
        commit();
        add_delete(1, true);
        add_delete(2, true);
        search_lost();
        run();
        kept[0] = op[0];
        kept[1] = op[1];
        n = 0;
        assert_int_equal(rc[0], KV_OK);
        assert_int_equal(rc[1], KV_OK);

        if (k) {
            kv_store_hold(solo.host.store, kept[0]);
        }

        search_lost();
        others();

        held = kv_heap_held(solo.host.store->zone->heap, KV_HELD_READERS);
        assert_true(held > LONG && held < 2 * LONG);

        whole(kept[0], large);
        whole(kept[1], "small");
        kv_store_release(solo.host.store, kept[0]);
        kv_store_release(solo.host.store, kept[1]);

        for (i = 100; i < 200; i++) {
            add_delete(i, i % 2);
        }

        commit();

        /* the first round makes tables and records, which stay */

        before = k ? before : used();
        assert_int_equal(used(), before);
        assert_int_equal(kv_heap_held(solo.host.store->zone->heap,
                                      KV_HELD_READERS), 0);
    }

    forget_texts();
}


/* A zone that is full is emptied by deletes that return what they delete. */

static void
test_full(void **state)
{
    char       value[8000];
    kv_rc_t    result;
    unsigned   i, k, count, most;
    kv_op_t   *o;

    (void) state;

    start();
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';

    for (most = 1; most <= 256; most *= 16) {

        for (count = 0; /* void */ ; count++) {
            result = kit_begin_put(&solo.host, count, 1, 8000, &o);

            if (result != KV_OK) {
                break;
            }

            solo_commit(&solo, &o, 1, &result);

            if (result != KV_OK) {
                break;
            }
        }

        assert_int_equal(result, KV_NO_MEMORY);
        assert_true(count > 200);

        for (i = 0; i < count; i += k) {

            for (k = 0; k < most && i + k < count; k++) {
                add_delete(i + k, true);
            }

            commit();

            while (k) {
                k--;
                assert_int_equal(rc[k], KV_OK);
                assert_int_equal(len[k], 8000);
            }

            k = kv_min(most, count - i);
        }
    }

    forget_texts();
}


/* ---- a full disk */


static void
fail_writes(int error, unsigned times)
{
    solo.ram.fault[0].call = RAM_WRITE;
    solo.ram.fault[0].error = error;
    solo.ram.fault[0].nth = solo.ram.calls[RAM_WRITE] + 1;
    solo.ram.fault[0].times = times;
    solo.ram.fault[0].hits = 0;
}


/* Increments are refused like puts; a delete returns what is there then. */

static void
test_disk_full(void **state)
{
    unsigned  i;

    (void) state;

    start();
    add_put(1, "10");
    add_put(2, "20");
    add_put(3, large);
    commit();

    add_incr(1, 1);
    add_delete(1, true);
    add_put(2, "x");
    add_delete(2, true);
    add_incr(4, 1);
    add_delete(4, true);
    add_incr(3, 1);
    add_delete(3, true);
    add_delete(3, true);
    fail_writes(ENOSPC, 1);
    commit();

    for (i = 0; i < 7; i += 2) {
        assert_int_equal(rc[i], KV_NO_SPACE);
    }

    assert_string_equal(text[1], "10");
    assert_string_equal(text[3], "20");
    assert_int_equal(rc[5], KV_NOT_FOUND);
    assert_string_equal(text[7], large);
    assert_int_equal(rc[8], KV_NOT_FOUND);

    /* nothing is returned that may still be there */

    add_put(1, "10");
    add_put(3, large);
    commit();
    add_delete(1, true);
    add_delete(3, true);
    add_incr(5, 1);
    add_delete(6, true);
    fail_writes(EIO, 1000);
    commit();

    for (i = 0; i < 4; i++) {
        assert_int_equal(rc[i], KV_UNAVAILABLE);
    }

    solo.ram.fault[0].nth = 0;
    solo_stop(&solo, false);
    start();
    is_there(1, "10");
    is_there(3, large);
    is_there(5, NULL);

    forget_texts();
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, solo_setup, \
                                                          solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_numbers),
        TEST(test_increment),
        TEST(test_no_number),
        TEST(test_return),
        TEST(test_conditions),
        TEST(test_model),
        TEST(test_kept),
        TEST(test_full),
        TEST(test_disk_full)
    };

    return cmocka_run_group_tests_name("counter", tests, NULL, NULL);
}
