
/*
 * The keys of a directory, as kv-inspect finds them, against a model: what each
 * of some thousand keys has after so many records that they are sorted, and
 * thrown away, many times.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tool/kv_tool_keys.h"


#define KEYS     3000u
#define RECORDS  600000u
#define FILES    7u
#define LONGEST  40u


/* What a key has: place 0 is none. */

typedef struct {
    char      name[LONGEST + 1];
    uint64_t  place;
    uint32_t  file;
    uint32_t  value_len;
    uint8_t   meta_len;
    uint64_t  expires;
} model_t;


static const char  metadata[] = "\003a/bgzip";

static model_t   model[KEYS];
static uint64_t  seed;


static uint64_t
rnd(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (seed >> 8) % n;
}


static int
by_name(const void *one, const void *two)
{
    return strcmp(((const model_t *) one)->name,
                  ((const model_t *) two)->name);
}


/* Keys that begin alike, and some that are the beginning of others. */

static void
make_names(void)
{
    unsigned  i, n;

    for (i = 0; i < KEYS; i++) {

        switch (i % 3) {

        case 0:
            (void) snprintf(model[i].name, sizeof(model[i].name), "%u", i);
            break;

        case 1:
            (void) snprintf(model[i].name, sizeof(model[i].name),
                            "the-same-beginning:%u", i);
            break;

        default:
            n = i % LONGEST + 1;
            (void) snprintf(model[i].name, sizeof(model[i].name), "%.*s%u",
                            (int) n / 2, "xxxxxxxxxxxxxxxxxxxxxxxx", i);
            break;
        }
    }

    qsort(model, KEYS, sizeof(model_t), by_name);
}


static void
put_record(kv_tool_keys_t *keys, model_t *m, uint32_t file, uint64_t place)
{
    kv_record_t  rec;

    memset(&rec, 0, sizeof(rec));

    rec.key = m->name;
    rec.key_len = (uint16_t) strlen(m->name);
    rec.place = place;

    switch (rnd(5)) {

    case 0:
        rec.op = KV_OP_DELETE;
        m->place = 0;
        break;

    case 1:
        rec.op = KV_OP_TOUCH;
        rec.expires = rnd(3);
        m->expires = rec.expires;
        break;

    default:
        rec.op = KV_OP_PUT;
        rec.value_len = (uint32_t) rnd(1000);
        rec.expires = rnd(2);
        rec.meta = metadata;
        rec.meta_len = rnd(2) ? (uint8_t) (4 + rnd(5)) : 0;
        m->place = place;
        m->meta_len = rec.meta_len;
        m->file = file;
        m->value_len = rec.value_len;
        m->expires = rec.expires;
        break;
    }

    assert_int_equal(kv_tool_keys_add(keys, &rec), KV_OK);
}


static void
check_keys(kv_tool_keys_t *keys)
{
    size_t         i, k, n;
    kv_tool_key_t  key;

    assert_int_equal(kv_tool_keys_finish(keys, &n), KV_OK);

    for (i = 0, k = 0; i < KEYS; i++) {

        if (model[i].place == 0) {
            continue;
        }

        assert_true(k < n);
        kv_tool_keys_get(keys, k++, &key);

        assert_int_equal(key.key_len, strlen(model[i].name));
        assert_memory_equal(key.key, model[i].name, key.key_len);
        assert_int_equal(key.offset, model[i].place);
        assert_int_equal(key.file, model[i].file);
        assert_int_equal(key.value_len, model[i].value_len);
        assert_int_equal(key.expires, model[i].expires);
        assert_int_equal(key.meta_len, model[i].meta_len);
        assert_memory_equal(key.meta, metadata, key.meta_len);
    }

    assert_int_equal(k, n);
}


static void
test_model(void **state)
{
    size_t           i;
    uint32_t         file;
    uint64_t         place;
    kv_record_t      clear;
    kv_tool_keys_t  *keys;

    (void) state;

    memset(&clear, 0, sizeof(clear));
    clear.op = KV_OP_CLEAR;

    make_names();

    keys = kv_tool_keys_create();
    assert_non_null(keys);

    file = kv_tool_keys_next_file(keys);
    place = 0;

    for (i = 0; i < RECORDS; i++) {

        place += 8 + 8 * rnd(100);

        if (rnd(RECORDS / FILES) == 0) {
            assert_int_equal(kv_tool_keys_next_file(keys), ++file);
            place = 8;
        }

        put_record(keys, &model[rnd(KEYS)], file, place);

        if (rnd(RECORDS / 2) == 0) {
            assert_int_equal(kv_tool_keys_add(keys, &clear), KV_OK);

            for (size_t k = 0; k < KEYS; k++) {
                model[k].place = 0;
            }
        }

        /* not so often that it would do what the records have it do */

        if (rnd(RECORDS / 5) == 0) {
            check_keys(keys);
        }
    }

    check_keys(keys);

    kv_tool_keys_destroy(keys);
}


/* The largest place and the longest key; and those that are too large. */

static void
test_limits(void **state)
{
    char             *name;
    size_t            n;
    kv_record_t       rec;
    kv_tool_key_t     key;
    kv_tool_keys_t   *keys;

    (void) state;

    name = malloc(KV_KEY_MAX);
    assert_non_null(name);
    memset(name, 'k', KV_KEY_MAX);

    keys = kv_tool_keys_create();
    assert_non_null(keys);
    (void) kv_tool_keys_next_file(keys);

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_PUT;
    rec.key = name;
    rec.value_len = KV_VALUE_MAX;
    rec.place = (UINT64_C(1) << 40) - 1;

    for (rec.key_len = KV_KEY_MAX; rec.key_len > KV_KEY_MAX - 200;
         rec.key_len--)
    {
        assert_int_equal(kv_tool_keys_add(keys, &rec), KV_OK);
    }

    assert_int_equal(kv_tool_keys_finish(keys, &n), KV_OK);
    assert_int_equal(n, 200);

    kv_tool_keys_get(keys, n - 1, &key);
    assert_int_equal(key.key_len, KV_KEY_MAX);
    assert_int_equal(key.offset, rec.place);
    assert_int_equal(key.value_len, KV_VALUE_MAX);

    rec.place++;
    assert_int_equal(kv_tool_keys_add(keys, &rec), KV_OVERFLOW);

    kv_tool_keys_reset(keys);
    assert_int_equal(kv_tool_keys_finish(keys, &n), KV_OK);
    assert_int_equal(n, 0);

    kv_tool_keys_destroy(keys);
    free(name);
}


int
main(void)
{
    const char  *s;

    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_limits)
    };

    s = getenv("KIT_SEED");
    seed = s ? strtoull(s, NULL, 10) : (uint64_t) time(NULL) | 1;
    print_message("seed %llu\n", (unsigned long long) seed);

    return cmocka_run_group_tests(tests, NULL, NULL);
}
