
/*
 * The heap's allocation: classes and their borders, a shadow model, and the
 * reserve.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "heap_rig.h"


#define PAGES  256


static void
test_create(void **state)
{
    size_t          size, limit;
    uintptr_t       start, end;
    kv_heap_t      *h;
    kv_heap_stat_t  st;
    unsigned char  *mem;

    (void) state;

    limit = 18 * KV_PAGE_SIZE;
    mem = aligned_alloc(64, limit + 64);
    assert_non_null(mem);

    h = NULL;

    for (size = 0; size < limit; size += 1000) {
        memset(mem, 0xa5, limit + 64);

        h = kv_heap_create(mem, size);

        assert_true(heap_filled(mem + size, limit + 64 - size, 0xa5));

        if (h != NULL) {
            break;
        }
    }

    assert_non_null(h);
    assert_ptr_equal(h, mem);
    assert_true(size > 16 * KV_PAGE_SIZE);

    assert_int_equal(kv_heap_lock(h), KV_OK);
    kv_heap_stat(h, &st);

    assert_int_equal(st.size, 16 * KV_PAGE_SIZE);
    assert_int_equal(st.free_pages, 16);
    assert_int_equal(st.reserve_pages, KV_HEAP_GROUPS + 1);
    assert_int_equal(st.used, 0);
    assert_int_equal(st.held, 0);

    /* the last byte of the last page is inside the region */

    start = UINTPTR_MAX;
    end = 0;

    while ((mem = kv_heap_alloc_leave(h, KV_HEAP_SYSTEM, KV_PAGE_SIZE, 0))
           != NULL)
    {
        start = kv_min(start, (uintptr_t) mem);
        end = kv_max(end, (uintptr_t) mem + KV_PAGE_SIZE);
    }

    assert_int_equal(end - start, 16 * KV_PAGE_SIZE);
    assert_true(end <= (uintptr_t) h + size);

    assert_true(kv_heap_contains(h, (void *) start));
    assert_true(kv_heap_contains(h, (void *) (end - 1)));
    assert_false(kv_heap_contains(h, (void *) (start - 1)));
    assert_false(kv_heap_contains(h, (void *) end));
    assert_false(kv_heap_contains(h, NULL));

    kv_heap_unlock(h);
    free(h);
}


static void
test_untouched(void **state)
{
    size_t         i, n;
    unsigned char  vec[REGION / 4096];

    (void) state;

    heap_lock();

    for (i = 0; i < 100; i++) {
        assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 100));
    }

    heap_check();
    kv_heap_unlock(heap);

    assert_int_equal(mincore(heap_region, REGION, vec), 0);

    for (n = 0, i = 0; i < REGION / 4096; i++) {
        n += vec[i] & 1;
    }

    assert_in_range(n, 1, 24);
}


static void
test_class_sizes(void **state)
{
    size_t  size, class, last;

    (void) state;

    last = 0;

    for (size = 1; size <= KV_PAGE_SIZE; size++) {
        class = kv_heap_class_size(size);

        assert_true(class >= size);
        assert_true(class >= last);
        assert_int_equal(class % 8, 0);
        assert_int_equal(kv_heap_class_size(class), class);

        if (size % 64 == 0) {
            assert_int_equal(class % 64, 0);
        }

        if (size >= 49 && size <= KV_PAGE_SIZE / 7 / 64 * 64) {
            assert_true((class - size) * 8 <= class);
        }

        if (size <= KV_HEAP_MAX_CLASS) {
            assert_true(class <= KV_HEAP_MAX_CLASS);

        } else {
            assert_int_equal(class, KV_PAGE_SIZE);
        }

        last = class;
    }
}


/* Each class at both of its borders: alignment, overlap, density, content. */

static void
test_classes(void **state)
{
    size_t           size, class, least;
    uint32_t         i, n, in_page;
    uint64_t         used;
    unsigned char   *p, **all;
    kv_heap_kind_t   kind;

    (void) state;

    all = calloc(4 * 4096, sizeof(*all));
    assert_non_null(all);

    least = 1;

    for (class = 0; class < KV_PAGE_SIZE; least = class + 1) {
        class = kv_heap_class_size(least);
        in_page = heap_objects_in_page(class);

        /* the rest of a page, and its bits, are at most 4 % of it */

        assert_true((KV_PAGE_SIZE - in_page * class) * 25 <= KV_PAGE_SIZE);

        kv_heap_format(heap);
        heap_lock();

        n = in_page * 3 + 1;
        used = 0;

        for (i = 0; i < n; i++) {
            size = (i % 2) ? class : least;
            kind = (i % 3) ? KV_HEAP_PIECE : KV_HEAP_SYSTEM;

            p = kv_heap_alloc(heap, kind, size);
            assert_non_null(p);

            assert_true(kv_heap_contains(heap, p));
            assert_int_equal(kv_heap_kind(heap, p), kind);
            assert_int_equal((uintptr_t) p % 8, 0);

            if (class % 64 == 0) {
                assert_int_equal((uintptr_t) p % 64, 0);
            }

            memset(p, i % 251, class);
            all[i] = p;
            used += class;
        }

        heap_check();

        assert_int_equal(heap_stat_now().used, used);
        assert_int_equal(heap_stat_now().kind[KV_HEAP_ENTRY], 0);

        for (i = 0; i < n; i++) {
            assert_true(heap_filled(all[i], class, i % 251));
            kv_heap_free(heap, all[i]);
        }

        heap_check();

        assert_int_equal(heap_stat_now().used, 0);
        assert_int_equal(heap_stat_now().held, 0);

        kv_heap_unlock(heap);
    }

    free(all);

    assert_true(heap_objects_in_page(128) >= 508);
}


/* Every multiple of 64 is aligned, whatever was allocated before. */

static void
test_alignment(void **state)
{
    size_t  size;
    void   *p;

    (void) state;

    for (size = 64; size <= KV_PAGE_SIZE; size += 64) {

        if (heap_stat_now().free_pages < heap_stat_now().reserve_pages + 4) {
            kv_heap_format(heap);
        }

        heap_lock();

        p = kv_heap_alloc(heap, KV_HEAP_ENTRY, size - 8);
        assert_non_null(p);

        p = kv_heap_alloc(heap, KV_HEAP_ENTRY, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t) p % 64, 0);

        kv_heap_unlock(heap);
    }
}


static void
test_random(void **state)
{
    unsigned   i, n, round;
    object_t  *objects, *s;
    uint64_t   used[KV_HEAP_KINDS];

    (void) state;

    objects = calloc(OBJECTS, sizeof(object_t));
    assert_non_null(objects);

    memset(used, 0, sizeof(used));

    for (round = 0; round < 40; round++) {
        heap_lock();

        /* it swells and shrinks */

        for (n = 0; n < 4000; n++) {
            s = &objects[heap_rnd(round % 8 < 5 ? OBJECTS : OBJECTS / 8)];

            if (s->p != NULL) {
                assert_true(heap_filled(s->p, s->size, s->fill));
                assert_int_equal(kv_heap_kind(heap, s->p), s->kind);

                used[s->kind] -= kv_heap_class_size(s->size);
                kv_heap_free(heap, s->p);
                s->p = NULL;
                continue;
            }

            s->size = heap_random_size();
            s->kind = heap_rnd(KV_HEAP_KINDS);
            s->fill = heap_rnd(256);
            s->p = kv_heap_alloc(heap, s->kind, s->size);

            if (s->p == NULL) {
                assert_true(heap_stat_now().free_pages
                            <= heap_stat_now().reserve_pages);
                continue;
            }

            used[s->kind] += kv_heap_class_size(s->size);
            memset(s->p, s->fill, s->size);
        }

        if (round % 8 == 5) {
            for (i = OBJECTS / 4; i < OBJECTS; i++) {
                if (objects[i].p != NULL) {
                    used[objects[i].kind] -=
                        kv_heap_class_size(objects[i].size);
                    kv_heap_free(heap, objects[i].p);
                    objects[i].p = NULL;
                }
            }
        }

        heap_check();

        for (i = 0; i < KV_HEAP_KINDS; i++) {
            assert_int_equal(heap_stat_now().kind[i], used[i]);
        }

        kv_heap_unlock(heap);
    }

    heap_lock();

    for (i = 0; i < OBJECTS; i++) {
        if (objects[i].p != NULL) {
            assert_true(heap_filled(objects[i].p, objects[i].size,
                                    objects[i].fill));
            kv_heap_free(heap, objects[i].p);
        }
    }

    heap_check();

    assert_int_equal(heap_stat_now().used, 0);
    assert_int_equal(heap_stat_now().free_pages * KV_PAGE_SIZE,
                     heap_stat_now().size);

    kv_heap_unlock(heap);

    free(objects);
}


static void
test_reserve(void **state)
{
    void            *p, *last;
    uint64_t         n, pages;
    kv_heap_stat_t   st;

    (void) state;

    heap_lock();

    st = heap_stat_now();
    pages = st.free_pages;

    assert_true(pages > PAGES);
    assert_int_equal(st.reserve_pages, KV_HEAP_GROUPS + pages / 64);
    assert_true(pages / 64 > 2);

    /* one object each in two classes, then all other pages */

    last = kv_heap_alloc(heap, KV_HEAP_PIECE, 1000);
    assert_non_null(last);

    for (n = 1; ; n++) {
        p = kv_heap_alloc(heap, n % 2 ? KV_HEAP_ENTRY : KV_HEAP_PIECE,
                          KV_HEAP_MAX_CLASS + 1);
        if (p == NULL) {
            break;
        }

        last = p;
    }

    assert_int_equal(n, pages - st.reserve_pages);
    assert_int_equal(heap_stat_now().free_pages, st.reserve_pages);

    assert_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 1));
    assert_null(kv_heap_alloc(heap, KV_HEAP_PIECE, 2000));

    /* a partial page is for everybody of its kind */

    assert_non_null(kv_heap_alloc(heap, KV_HEAP_PIECE, 1000));

    for (n = 0; ; n++) {
        if (kv_heap_alloc(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE) == NULL) {
            break;
        }
    }

    assert_int_equal(n, st.reserve_pages - KV_HEAP_GROUPS);
    assert_null(kv_heap_alloc(heap, KV_HEAP_SYSTEM, 8));

    /* the last pages are for deletes, in any size */

    assert_true(kv_heap_has(heap, KV_HEAP_PIECE, 1000));
    assert_false(kv_heap_has(heap, KV_HEAP_PIECE, 2000));
    assert_false(kv_heap_has_pages(heap, 1));

    for (n = 0; ; n++) {
        if (kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE, 0)
            == NULL)
        {
            break;
        }
    }

    assert_int_equal(n, KV_HEAP_GROUPS);
    assert_int_equal(heap_stat_now().free_pages, 0);
    assert_non_null(kv_heap_alloc(heap, KV_HEAP_PIECE, 1000));

    /* the first page given back fills the reserve up again */

    kv_heap_free(heap, last);

    assert_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 100));
    assert_null(kv_heap_alloc(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE));
    assert_ptr_equal(kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE,
                                         0), last);

    heap_check();
    kv_heap_unlock(heap);

    kv_heap_format(heap);

    heap_lock();
    heap_check();
    assert_int_equal(heap_stat_now().free_pages, pages);
    kv_heap_unlock(heap);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, heap_setup, heap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_create),
        TEST(test_untouched),
        TEST(test_class_sizes),
        TEST(test_classes),
        TEST(test_alignment),
        TEST(test_random),
        TEST(test_reserve)
    };

    return cmocka_run_group_tests_name("heap alloc", tests, NULL, NULL);
}
