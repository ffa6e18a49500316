
/*
 * Entries: every shape around the borders, building with unknown length, and
 * a zone that is full at each single allocation.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "memory/kv_entry.h"
#include "memory/kv_poison.h"


#define REGION     ((size_t) 24 << 20)
#define SMALL      ((size_t) 1 << 20)
#define MAX_VALUE  (10u << 20)
#define HALF       (KV_PAGE_SIZE / 2)
#define PIECE      (HALF - (uint32_t) sizeof(kv_piece_t))
#define EXPIRES    UINT64_C(1700000000123)


static kv_heap_t  *heap;
static void       *region;
static char       *value;
static char        key[KV_KEY_MAX];
static char        meta[KV_META_MAX];
static uint64_t    seed;


static const uint16_t  key_lens[] = { 1, 7, 8, 250, 4096, KV_KEY_MAX };

/* borders; each is tried with one less and one more, too */

static const uint32_t  sizes[] = {
    1, 64, 4096,
    KV_ENTRY_INLINE, KV_ENTRY_INLINE + 512, 9000, 12000, 17000, 30000,
    PIECE, HALF - 8, HALF,
    2 * PIECE, 2 * HALF,
    KV_PAGE_SIZE + 1, KV_PAGE_SIZE + PIECE, KV_PAGE_SIZE + 2 * PIECE,
    2 * KV_PAGE_SIZE, 3 * KV_PAGE_SIZE + PIECE,
    16 * KV_PAGE_SIZE, 16 * KV_PAGE_SIZE + HALF,
    MAX_VALUE - 1
};

static const uint8_t  meta_lens[] = { 4, 11, 12, KV_META_MAX };

#define KEYS   (sizeof(key_lens) / sizeof(key_lens[0]))
#define SIZES  (sizeof(sizes) / sizeof(sizes[0]))
#define METAS  (sizeof(meta_lens) / sizeof(meta_lens[0]))


static uint32_t
rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (uint32_t) (seed >> 16) % n;
}


static int
setup_size(size_t size)
{
    uint32_t  i;

    seed = 88172645463325252ull;

    region = mmap(NULL, REGION, PROT_READ|PROT_WRITE,
                  MAP_PRIVATE|MAP_ANONYMOUS, -1, 0);
    value = malloc(MAX_VALUE + 2);

    if (region == MAP_FAILED || value == NULL) {
        return -1;
    }

    for (i = 0; i < MAX_VALUE + 2; i++) {
        value[i] = (char) (i * 2654435761u >> 23);
    }

    for (i = 0; i < sizeof(key); i++) {
        key[i] = (char) ('a' + i % 23);
    }

    memset(meta, 0xee, sizeof(meta));

    heap = kv_heap_create(region, size);

    return heap ? 0 : -1;
}


static int
setup(void **state)
{
    (void) state;

    return setup_size(REGION);
}


static int
setup_small(void **state)
{
    (void) state;

    return setup_size(SMALL + 3 * KV_PAGE_SIZE);
}


static int
teardown(void **state)
{
    (void) state;

    free(value);

    kv_poison_forget(region, REGION);
    return munmap(region, REGION);
}


/* Checks the heap, and returns the bytes in use. */

static uint64_t
used(void)
{
    kv_err_t        err;
    kv_heap_stat_t  st;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    if (kv_heap_check(heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    kv_heap_stat(heap, &st);
    kv_heap_unlock(heap);

    return st.used;
}


/* The value comes out the same however few elements are asked for. */

static void
assert_value(const kv_entry_t *e, uint32_t len)
{
    size_t        i, n, k, count, max;
    uint32_t      at;
    struct iovec  iov[200];

    static const size_t  widths[] = { 200, 1, 3 };

    assert_int_equal(e->value_len, len);

    count = kv_entry_iov_count(e);
    assert_true(count <= 200);

    for (k = 0; k < 3; k++) {
        max = widths[k];
        at = 0;

        for (i = 0; (n = kv_entry_iov(e, iov, max, i)) != 0; i += n) {
            assert_true(n <= max);

            for (size_t j = 0; j < n; j++) {
                assert_true(iov[j].iov_len > 0);
                assert_true(at + iov[j].iov_len <= len);
                assert_memory_equal(iov[j].iov_base, value + at,
                                    iov[j].iov_len);
                at += (uint32_t) iov[j].iov_len;
            }
        }

        assert_int_equal(at, len);
        assert_int_equal(i, count);
    }
}


static void
write_chunks(kv_entry_t *e, uint32_t len, uint32_t chunk)
{
    uint32_t  at, n;

    for (at = 0; at < len; at += n) {
        n = kv_min(chunk, len - at);
        kv_entry_write(e, at, value + at, n);
    }
}


/* As it arrives; KV_LENGTH_UNKNOWN, or the length. */

static void
append_chunks(kv_entry_t **e, uint32_t value_len, uint32_t len, uint32_t chunk)
{
    uint32_t  at, n;

    for (at = 0; at < len; at += n) {
        n = kv_min(chunk, len - at);
        assert_int_equal(kv_entry_append(heap, e, value_len, MAX_VALUE, at,
                                         value + at, n), KV_OK);
        assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS),
                         (*e)->flags & KV_ENTRY_PARTIAL
                         ? kv_entry_partial_footprint(*e) : 0);
    }
}


/* A new entry never expires; its time of expiry, if it can have one, stays. */

static void
set_expires(kv_entry_t *e, uint8_t flags)
{
    kv_expiry_t  *expiry;

    expiry = kv_entry_expiry(e);

    assert_int_equal(kv_entry_expires(e), 0);
    assert_int_equal(expiry != NULL,
                     e->flags & KV_ENTRY_PIECES || flags & KV_ENTRY_EXPIRES);

    if (expiry) {
        assert_int_equal((uintptr_t) expiry % 8, 0);
        assert_null(expiry->link);
        kv_entry_set_expires(e, EXPIRES);
    }
}


static void
assert_expires(const kv_entry_t *e, uint8_t flags)
{
    assert_int_equal(kv_entry_expires(e),
                     e->flags & KV_ENTRY_PIECES || flags ? EXPIRES : 0);
}


static void
one_shape(uint16_t key_len, uint32_t len, uint8_t flags)
{
    uint64_t     before;
    kv_entry_t  *e;

    before = used();
    e = NULL;

    assert_int_equal(kv_entry_create(heap, &e, key, key_len, len, flags),
                     KV_OK);
    assert_non_null(e);
    set_expires(e, flags);

    assert_int_equal(len > KV_ENTRY_INLINE, e->flags & KV_ENTRY_PIECES);
    assert_int_equal(used() - before, kv_entry_footprint(key_len, len, flags));

    write_chunks(e, len, len > KV_PAGE_SIZE ? 100003 : 1 + rnd(9000));

    assert_int_equal(e->key_len, key_len);
    assert_memory_equal(e->key, key, key_len);
    assert_value(e, len);

    /* out of order, and across the pieces' borders */

    if (len > 2) {
        kv_entry_write(e, len / 2, value + len / 2, len - len / 2);
        kv_entry_write(e, 1, value + 1, len - 2);
        assert_value(e, len);
    }

    assert_expires(e, flags);

    assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
    assert_null(e);
    assert_int_equal(used(), before);
}


static void
test_shapes(void **state)
{
    size_t  k, s;

    (void) state;

    for (k = 0; k < KEYS; k++) {
        one_shape(key_lens[k], 0, 0);
        one_shape(key_lens[k], 0, KV_ENTRY_EXPIRES);

        for (s = 0; s < SIZES; s++) {
            one_shape(key_lens[k], sizes[s] - 1, 0);
            one_shape(key_lens[k], sizes[s], 0);
            one_shape(key_lens[k], sizes[s], KV_ENTRY_EXPIRES);
            one_shape(key_lens[k], sizes[s] + 1, KV_ENTRY_EXPIRES);
        }
    }
}


/*
 * Values in pieces lose little, at any length, and pieces are of few sizes:
 * each size keeps a page of the heap that is not full.
 */

static void
test_loss(void **state)
{
    size_t        i, n, last, count, seen[16];
    uint32_t      len;
    kv_entry_t   *e;
    struct iovec  iov[8];

    (void) state;

    count = 0;

    for (len = KV_ENTRY_INLINE + 1; len < KV_PAGE_SIZE; len += 1 + rnd(50)) {

        last = kv_entry_footprint(16, len, 0);
        assert_true(last - len <= len / 14 + 128);

        assert_int_equal(kv_entry_create(heap, &e, key, 16, len, 0), KV_OK);

        n = kv_entry_iov(e, iov, 8, 0);
        assert_in_range(n, 1, 3);

        /* all but the last are full, so their lengths tell their sizes */

        last -= kv_heap_class_size(kv_align(sizeof(kv_entry_t) + 16, 8)
                                   + sizeof(kv_pieces_t)
                                   + n * sizeof(char *));

        for (i = 0; i < n - 1; i++) {
            last -= iov[i].iov_len + sizeof(kv_piece_t);
        }

        assert_int_equal(kv_heap_class_size(last), last);

        for (i = 0; i < count && seen[i] != last; i++) { /* void */ }

        if (i == count) {
            assert_true(count < 12);
            seen[count++] = last;
        }

        assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
    }

    assert_true(count > 4);
}


static void
test_key_only(void **state)
{
    size_t       k;
    uint64_t     before;
    kv_entry_t  *e;

    (void) state;

    for (k = 0; k < KEYS; k++) {
        before = used();
        assert_int_equal(kv_entry_create_key(heap, &e, key, key_lens[k], 0, 0),
                         KV_OK);
        assert_int_equal(used() - before,
                         kv_entry_footprint(key_lens[k], 0, 0));
        assert_int_equal(kv_entry_iov_count(e), 0);
        assert_memory_equal(e->key, key, key_lens[k]);
        assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
        assert_int_equal(used(), before);
    }
}


/* An entry of the key without a value yet, with metadata or none. */

static kv_rc_t
begin(kv_entry_t **e, uint16_t key_len, uint8_t meta_len, uint32_t value_len,
    uint32_t n, uint8_t flags)
{
    const kv_name_t  name = { key, meta, key_len, meta_len };

    return kv_entry_begin(heap, e, &name, value_len, n, flags);
}


static void
assert_meta(const kv_entry_t *e, uint16_t key_len, uint8_t meta_len)
{
    uint8_t      n;
    const void  *bytes;

    assert_int_equal(e->key_len, key_len);
    assert_memory_equal(e->key, key, key_len);

    bytes = kv_entry_meta(e, &n);

    assert_int_equal(n, meta_len);
    assert_int_equal(kv_entry_name_len(e), key_len + (n ? n + 1 : 0));

    if (n) {
        assert_memory_equal(bytes, meta, n);
    }
}


static void
one_arriving(uint16_t key_len, uint32_t len, uint32_t value_len,
    uint32_t chunk, uint8_t flags, uint8_t meta_len)
{
    size_t       name_len;
    uint64_t     before;
    kv_entry_t  *e;

    before = used();
    e = NULL;
    name_len = key_len + (meta_len ? meta_len + 1u : 0u);

    assert_int_equal(begin(&e, key_len, meta_len, value_len, 0, flags), KV_OK);

    if (flags) {
        set_expires(e, flags);
    }

    append_chunks(&e, value_len, len, chunk);

    if (e->flags & KV_ENTRY_PARTIAL) {
        assert_int_equal(kv_entry_finish(heap, &e, len), KV_OK);
    }

    assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS), 0);
    assert_int_equal(used() - before, kv_entry_footprint(name_len, len, flags));
    assert_meta(e, key_len, meta_len);
    assert_value(e, len);
    assert_int_equal(kv_entry_expires(e), flags ? EXPIRES : 0);

    assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
    assert_int_equal(used(), before);
}


static void
one_unknown(uint16_t key_len, uint32_t len, uint32_t chunk)
{
    one_arriving(key_len, len, KV_LENGTH_UNKNOWN, chunk, 0, 0);
    one_arriving(key_len, len, KV_LENGTH_UNKNOWN, chunk, KV_ENTRY_EXPIRES, 0);
    one_arriving(key_len, len, len, chunk, 0, 0);
    one_arriving(key_len, len, len, chunk, KV_ENTRY_EXPIRES, 0);
}


/* Metadata stay, whatever becomes of the entry. */

static void
test_meta(void **state)
{
    size_t    k, m, s;
    uint8_t   n;
    uint32_t  len, chunk;

    (void) state;

    for (k = 0; k < KEYS; k++) {
        for (m = 0; m < METAS; m++) {
            for (s = 0; s < SIZES && sizes[s] <= 3 * KV_PAGE_SIZE; s++) {
                len = sizes[s];
                n = meta_lens[m];
                chunk = 1 + len / 3;

                one_arriving(key_lens[k], len, KV_LENGTH_UNKNOWN, chunk, 0, n);
                one_arriving(key_lens[k], len, KV_LENGTH_UNKNOWN, chunk,
                             KV_ENTRY_EXPIRES, n);
                one_arriving(key_lens[k], len, len, chunk, 0, n);
                one_arriving(key_lens[k], len, len, chunk, KV_ENTRY_EXPIRES,
                             n);
            }
        }
    }
}


/* Those of a value that moves to another entry go with it. */

static void
test_meta_taken(void **state)
{
    size_t       k, m;
    uint64_t     before;
    kv_entry_t  *e, *from;

    (void) state;

    for (k = 0; k < KEYS; k++) {
        for (m = 0; m < METAS; m++) {
            before = used();
            e = NULL;
            from = NULL;

            assert_int_equal(begin(&from, key_lens[k], meta_lens[m], 100, 100,
                                   0), KV_OK);
            kv_entry_write(from, 0, value, 100);

            assert_int_equal(kv_entry_create_key(heap, &e, key, key_lens[k],
                                                 0, KV_ENTRY_EXPIRES), KV_OK);
            assert_int_equal(kv_entry_take_value(heap, &e, from), KV_OK);
            assert_meta(e, key_lens[k], meta_lens[m]);
            assert_value(e, 100);
            assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);

            assert_int_equal(kv_entry_create_key(heap, &e, key, key_lens[k],
                                                 0, 0), KV_OK);
            assert_int_equal(kv_entry_replace_key(heap, &e, from, 9), KV_OK);
            assert_meta(e, key_lens[k], meta_lens[m]);
            assert_value(e, 100);

            assert_int_equal(kv_entry_destroy(heap, &from), KV_OK);
            assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
            assert_int_equal(used(), before);
        }
    }
}


static void
test_unknown(void **state)
{
    size_t    s;
    uint32_t  d;

    (void) state;

    one_unknown(5, 0, 1);

    for (s = 0; s < SIZES; s++) {
        for (d = 0; d < 3; d++) {
            one_unknown(9, sizes[s] - 1 + d, 32771);
            one_unknown(KV_KEY_MAX, sizes[s] - 1 + d, KV_PAGE_SIZE);

            if (sizes[s] <= 2 * KV_PAGE_SIZE) {
                one_unknown(1, sizes[s] - 1 + d, 1 + rnd(977));
            }
        }
    }

    one_unknown(3, MAX_VALUE, 1000003);
}


/* A value for a key alone, whose LSN and time of expiry stay. */

static void
test_take_value(void **state)
{
    size_t       k, s;
    uint64_t     before;
    kv_entry_t  *e, *from;

    (void) state;

    for (k = 0; k < KEYS; k++) {
        for (s = 0; s < SIZES && sizes[s] <= KV_ENTRY_INLINE; s++) {
            before = used();
            e = NULL;
            from = NULL;

            assert_int_equal(kv_entry_create_key(heap, &e, key, key_lens[k],
                                                 0, KV_ENTRY_EXPIRES), KV_OK);
            assert_int_equal(kv_entry_create(heap, &from, key, key_lens[k],
                                             sizes[s], 0), KV_OK);
            kv_entry_write(from, 0, value, sizes[s]);
            kv_entry_set_lsn(from, 5);
            kv_entry_set_lsn(e, 7);
            set_expires(e, KV_ENTRY_EXPIRES);

            assert_int_equal(kv_entry_take_value(heap, &e, from), KV_OK);

            assert_value(e, sizes[s]);
            assert_int_equal(kv_entry_lsn(e), 7);
            assert_int_equal(kv_entry_expires(e), EXPIRES);

            assert_int_equal(kv_entry_destroy(heap, &from), KV_OK);
            assert_int_equal(used() - before,
                             kv_entry_footprint(key_lens[k], sizes[s],
                                                KV_ENTRY_EXPIRES));
            assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
            assert_int_equal(used(), before);
        }
    }
}


/* Given up in the middle, at any length. */

static void
test_unknown_destroyed(void **state)
{
    uint32_t     len;
    uint64_t     before;
    kv_entry_t  *e;

    (void) state;

    before = used();

    for (len = 0; len < 5 * KV_PAGE_SIZE; len += 17001) {
        assert_int_equal(begin(&e, 10, 0, KV_LENGTH_UNKNOWN, 0, 0), KV_OK);
        append_chunks(&e, KV_LENGTH_UNKNOWN, len, 5003);
        assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
        assert_int_equal(used(), before);
        assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS), 0);
    }
}


/* What came is what is paid for, whatever was said. */

static void
test_paid(void **state)
{
    uint32_t     len, n;
    uint64_t     before;
    kv_entry_t  *e;

    (void) state;

    before = used();

    for (len = 1000; len < MAX_VALUE; len *= 3) {

        for (n = 0; n < len; n = n ? n * 5 : 1) {
            assert_int_equal(begin(&e, 10, 0, len, n, 0), KV_OK);
            assert_int_equal(kv_entry_append(heap, &e, len, MAX_VALUE, 0,
                                             value, n), KV_OK);
            assert_int_equal(used() - before,
                             kv_heap_held(heap, KV_HELD_UPLOADS));
            assert_true(used() - before
                        <= (n <= KV_ENTRY_INLINE ? n * 5 + 1024
                                                 : n + 2 * KV_PAGE_SIZE));
            assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
            assert_int_equal(used(), before);
        }
    }
}


/* Makes a heap with only `left` free pages, of any kind. */

static void
fill(unsigned left)
{
    kv_heap_stat_t  st;

    kv_heap_format(heap);
    assert_int_equal(kv_heap_lock(heap), KV_OK);

    for ( ;; ) {
        kv_heap_stat(heap, &st);

        if (st.free_pages <= left) {
            break;
        }

        assert_non_null(kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE,
                                            0));
    }

    kv_heap_unlock(heap);
}


static void
test_full_create(void **state)
{
    size_t       s;
    kv_rc_t      rc;
    unsigned     left, failed;
    uint64_t     before;
    kv_entry_t  *e;

    (void) state;

    static const uint32_t  shape[] = {
        100, 9000, HALF - 20, HALF, 2 * PIECE, 2 * HALF, KV_PAGE_SIZE + 5,
        2 * KV_PAGE_SIZE + 2 * PIECE, 5 * KV_PAGE_SIZE + 100
    };

    for (s = 0; s < sizeof(shape) / sizeof(shape[0]); s++) {
        failed = 0;

        for (left = 0; left < 14; left++) {
            fill(left);
            before = used();
            e = NULL;

            rc = kv_entry_create(heap, &e, key, 12, shape[s], 0);

            if (rc == KV_OK) {
                assert_int_equal(used() - before,
                                 kv_entry_footprint(12, shape[s], 0));
                assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);

            } else {
                assert_int_equal(rc, KV_NO_MEMORY);
                assert_null(e);
                failed++;
            }

            assert_int_equal(used(), before);
        }

        /* one page for each allocation, and the reserve */

        assert_true(failed >= 2);
        assert_true(failed < 14);
    }

    /* the name of a delete may use the reserve */

    fill(1);
    assert_int_equal(kv_entry_create(heap, &e, key, 12, 1, 0), KV_NO_MEMORY);
    assert_int_equal(kv_entry_create_key(heap, &e, key, 12, 0, 0), KV_OK);
    assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
}


/* Appends the first `len` bytes of the value; stops at what fails. */

static kv_rc_t
append_until_full(kv_entry_t **e, uint32_t len)
{
    kv_rc_t   rc;
    uint32_t  at, n;

    rc = KV_OK;

    for (at = 0; rc == KV_OK && at < len; at += n) {
        n = kv_min(7919u, len - at);
        rc = kv_entry_append(heap, e, KV_LENGTH_UNKNOWN, MAX_VALUE, at,
                             value + at, n);
    }

    return rc;
}


/* Nothing is left for the final form: if it fails, the old one stays whole. */

static kv_rc_t
finish_without_pages(kv_entry_t **e, uint32_t len)
{
    void        *page[64];
    kv_rc_t      rc;
    uint64_t     building;
    unsigned     pages, i;
    kv_entry_t  *was;

    building = used();
    assert_int_equal(kv_heap_lock(heap), KV_OK);

    for (pages = 0; pages < 64; pages++) {
        page[pages] = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM,
                                          KV_PAGE_SIZE, 0);
        if (page[pages] == NULL) {
            break;
        }
    }

    kv_heap_unlock(heap);

    was = *e;
    rc = kv_entry_finish(heap, e, len);

    if (rc != KV_OK) {
        assert_int_equal(rc, KV_NO_MEMORY);
        assert_ptr_equal(*e, was);
        assert_int_equal(used(), building + (uint64_t) pages * KV_PAGE_SIZE);
    }

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    for (i = 0; i < pages; i++) {
        kv_heap_free(heap, page[i]);
    }

    kv_heap_unlock(heap);

    return rc;
}


/* Builds one in a heap with `left` left; counts what failed. */

static void
build_full(uint32_t len, unsigned left, unsigned *no_write, unsigned *no_finish)
{
    kv_rc_t      rc;
    uint64_t     before;
    kv_entry_t  *e;

    fill(left);
    before = used();
    e = NULL;

    rc = begin(&e, 3, 0, KV_LENGTH_UNKNOWN, 0, 0);

    if (rc != KV_OK) {
        assert_int_equal(rc, KV_NO_MEMORY);
        assert_int_equal(used(), before);
        return;
    }

    rc = append_until_full(&e, len);

    if (rc != KV_OK) {
        assert_int_equal(rc, KV_NO_MEMORY);
        (*no_write)++;
        assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
        assert_int_equal(used(), before);
        return;
    }

    rc = finish_without_pages(&e, len);

    if (rc != KV_OK) {
        (*no_finish)++;
        rc = kv_entry_finish(heap, &e, len);
    }

    if (rc == KV_OK) {
        assert_int_equal(used() - before, kv_entry_footprint(3, len, 0));
        assert_value(e, len);
    }

    assert_int_equal(kv_entry_destroy(heap, &e), KV_OK);
    assert_int_equal(used(), before);
}


static void
test_full_unknown(void **state)
{
    size_t    s;
    unsigned  left, no_write, no_finish;

    (void) state;

    static const uint32_t  shape[] = {
        0, 100, 12000, PIECE + 7, 2 * PIECE, KV_PAGE_SIZE,
        KV_PAGE_SIZE + PIECE + 1, 3 * KV_PAGE_SIZE + 9
    };

    no_write = 0;
    no_finish = 0;

    for (s = 0; s < sizeof(shape) / sizeof(shape[0]); s++) {
        for (left = 0; left < 13; left++) {
            build_full(shape[s], left, &no_write, &no_finish);
        }
    }

    assert_true(no_write > 5);
    assert_true(no_finish > 5);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meta, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meta_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_destroyed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_paid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_create, setup_small,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_full_unknown, setup_small,
                                        teardown)
    };

    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
