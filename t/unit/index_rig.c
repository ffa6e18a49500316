
/*
 * The index's fixture; see index_rig.h.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "index_rig.h"
#include "index/kv_index_private.h"


kv_index_t    the_index;
index_key_t   index_key[INDEX_KEYS];
unsigned      index_keys;
unsigned      index_there;
unsigned      index_refused;
unsigned      index_near;

static unsigned  place;
static uint64_t  bytes_before;


/* The linker puts it in the place of kv_heap_alloc(), where a test asks it. */

void *__real_kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);
void *__wrap_kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);


void *
__wrap_kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size)
{
    if (kind == KV_HEAP_NODE && map_rnd(100) < index_refused) {
        return NULL;
    }

    return __real_kv_heap_alloc(heap, kind, size);
}


static size_t
fill(unsigned char *key, size_t n, const char *letters, size_t of)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        key[i] = (unsigned char) letters[map_rnd((uint32_t) of)];
    }

    return n;
}


static const char  letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstu"
                               "vwxyz0123456789:_.-";


static size_t
some_key(unsigned char *key, unsigned shape)
{
    size_t  n;

    switch (shape) {

    case 0:
        return fill(key, 16, letters, sizeof(letters) - 1);

    case 1:
        return (size_t) sprintf((char *) key, "user:profile:%08u",
                                map_rnd(2000));

    case 2:
        return fill(key, 1 + map_rnd(12), "\0\1\377a", 4);

    case 3:
        memset(key, 'l', 300);
        return 300 + fill(key + 300, 4, letters, 20);

    case 4:
        n = map_rnd(4) ? 5000 : KV_KEY_MAX - 2;
        memset(key, 'x', n);
        return n + fill(key + n, 2, letters, 20);

    case 5:
        n = 1 + map_rnd(300);
        memset(key, 'a', n);
        return n;

    case 6:
        return fill(key, 1 + map_rnd(2), letters, sizeof(letters) - 1);

    default:
        return fill(key, 1 + map_rnd(900), letters, sizeof(letters) - 1);
    }
}


static int
by_key(const void *one, const void *two)
{
    int                 c;
    const index_key_t  *a = one, *b = two;

    c = memcmp(a->p, b->p, kv_min(a->n, b->n));

    return c ? c : (a->n > b->n) - (a->n < b->n);
}


static void
make_keys(bool plain)
{
    size_t       n;
    unsigned     i, k;

    static unsigned char  key[KV_KEY_MAX];

    for (i = 0; i < INDEX_KEYS; i++) {
        n = some_key(key, plain ? 0 : i % 64 == 4 ? 4 : i % 8 == 4 ? 0 : i % 8);

        index_key[i].p = malloc(n);
        index_key[i].n = n;
        index_key[i].there = false;
        memcpy(index_key[i].p, key, n);
    }

    qsort(index_key, INDEX_KEYS, sizeof(index_key_t), by_key);

    for (i = 1, k = 0; i < INDEX_KEYS; i++) {

        if (by_key(&index_key[k], &index_key[i]) == 0) {
            free(index_key[i].p);
            continue;
        }

        index_key[++k] = index_key[i];
    }

    index_keys = k + 1;
}


static int
setup(void **state, bool plain)
{
    if (map_setup(state) != 0) {
        return -1;
    }

    index_there = 0;
    index_refused = 0;
    index_near = 0;
    place = 0;

    make_keys(plain);
    bytes_before = map_heap_stat().used;
    kv_index_create(&the_index, zone->heap, &zone->retired);

    return 0;
}


int
index_setup(void **state)
{
    return setup(state, false);
}


int
index_setup_plain(void **state)
{
    return setup(state, true);
}


int
index_teardown(void **state)
{
    unsigned  i;

    for (i = 0; i < index_keys; i++) {
        free(index_key[i].p);
    }

    return map_teardown(state);
}


unsigned
index_some(void)
{
    place = index_near ? (place + map_rnd(index_near)) % index_keys
                       : map_rnd(index_keys);

    return place;
}


void
index_put(unsigned i)
{
    assert_false(index_key[i].there);

    kv_index_reserve_begin(&the_index);
    assert_true(kv_index_reserve(&the_index, index_key[i].n));
    assert_int_equal(kv_epoch_reserve(&zone->retired, 1), 1);

    kv_index_put(&the_index, index_key[i].p, index_key[i].n);
    index_key[i].there = true;
    index_there++;
}


void
index_delete(unsigned i)
{
    assert_true(index_key[i].there);

    kv_index_delete(&the_index, index_key[i].p, index_key[i].n);
    index_key[i].there = false;
    index_there--;
}


void
index_clear(void)
{
    unsigned  i;

    kv_index_clear(&the_index);

    for (i = 0; i < index_keys; i++) {
        index_key[i].there = false;
    }

    index_there = 0;
}


/* Where a walk is, and how many keys it may still see. */

typedef struct {
    unsigned   at;
    unsigned   left;
} seen_t;


static bool
saw(void *ctx, const unsigned char *key, size_t n)
{
    seen_t  *seen = ctx;

    while (seen->at < index_keys && !index_key[seen->at].there) {
        seen->at++;
    }

    if (seen->at == index_keys) {
        fail_msg("a key behind the last: \"%.*s\"", (int) n, key);
    }

    assert_int_equal(n, index_key[seen->at].n);
    assert_memory_equal(key, index_key[seen->at].p, n);

    seen->at++;

    return --seen->left > 0;
}


/* From key `i` on, or behind it. */

static void
walk_from(unsigned i, bool after, unsigned most)
{
    seen_t  seen;

    seen.at = i + after;
    seen.left = most;

    kv_index_walk(&the_index, index_key[i].p, index_key[i].n, after, saw,
                  &seen);

    for ( /* void */ ; seen.left && seen.at < index_keys; seen.at++) {
        if (index_key[seen.at].there) {
            fail_msg("key %u was not seen", seen.at);
        }
    }
}


void
index_walk_some(unsigned times)
{
    while (times--) {
        walk_from(map_rnd(index_keys), map_rnd(2), 1 + map_rnd(100));
    }
}


void
index_check(void)
{
    kv_err_t  err;

    if (kv_index_check(&the_index, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    assert_int_equal(atomic_load(&the_index.keys), index_there);

    walk_from(0, false, UINT32_MAX);
}


void
index_reclaim(void)
{
    assert_int_equal(kv_epoch_reserve(&zone->retired, 0), 0);
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_index_sweep(&the_index, UINT32_MAX), KV_OK);
    assert_false(kv_index_unswept(&the_index));
    assert_int_equal(kv_epoch_count(&zone->retired), 0);
}


uint64_t
index_bytes(void)
{
    kv_index_unreserve(&the_index);
    index_reclaim();

    return map_heap_stat().used - bytes_before;
}


unsigned
index_move_some(unsigned times)
{
    kv_rc_t           rc;
    unsigned          i, level, moved;
    kv_path_t         path;
    kv_slice_t        key;
    kv_index_node_t  *node;

    for (moved = 0; times--; moved += rc == KV_OK) {
        rc = KV_DECLINED;
        i = map_rnd(index_keys);
        key = kv_slice(index_key[i].p, index_key[i].n);

        if (!kv_path_find(&the_index, key, &path)) {
            break;
        }

        level = map_rnd(path.depth + 1);
        node = level == path.depth ? &path.leaf->node
                                   : &path.inner[level]->node;

        assert_int_equal(kv_heap_lock(zone->heap), KV_OK);

        if (kv_heap_kind(zone->heap, node) == KV_HEAP_NODE) {
            rc = kv_index_move(&the_index, node,
                               kv_heap_class_size(node->size));
        }

        if (rc == KV_OK) {

            /* a second time it is not in the tree any more */

            assert_int_equal(kv_index_move(&the_index, node, node->size),
                             KV_DECLINED);
        }

        kv_heap_unlock(zone->heap);
    }

    return moved;
}
