
/*
 * Evacuation: which page is chosen, what comes out of it, and what others do to
 * the heap meanwhile.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "heap_rig.h"


#define EVAC_SIZE  120


/* The first `pages` pages full of objects of one size. */

static object_t *
fill_pages(kv_heap_kind_t kind, size_t size, unsigned pages, unsigned *n)
{
    unsigned   i, in_page;
    object_t  *objects;

    in_page = heap_objects_in_page(size);

    kv_heap_format(heap);

    *n = in_page * pages;
    objects = calloc(*n, sizeof(object_t));
    assert_non_null(objects);

    heap_lock();

    for (i = 0; i < *n; i++) {
        objects[i].p = kv_heap_alloc(heap, kind, size);
        assert_non_null(objects[i].p);

        objects[i].size = size;
        objects[i].fill = heap_rnd(256);
        memset(objects[i].p, objects[i].fill, size);
    }

    assert_int_equal(heap_stat_now().held, pages * KV_PAGE_SIZE);

    kv_heap_unlock(heap);

    return objects;
}


static void
drop(object_t *s)
{
    if (s->p != NULL) {
        assert_true(heap_filled(s->p, s->size, s->fill));
        kv_heap_free(heap, s->p);
        s->p = NULL;
    }
}


/* Moves all of a page's objects; returns how many there were. */

static unsigned
evacuate(kv_heap_evac_t *ev, object_t *objects, unsigned n)
{
    unsigned        i, moved;
    uintptr_t       first;
    unsigned char  *p, *q;

    first = 0;

    for (moved = 0; (p = kv_heap_evac_next(heap, ev)) != NULL; moved++) {

        for (i = 0; i < n && objects[i].p != p; i++) { /* void */ }

        assert_true(i < n);

        q = kv_heap_alloc(heap, ev->kind, ev->size);
        assert_non_null(q);

        first = first ? first : (uintptr_t) p;
        assert_false((uintptr_t) q - first < KV_PAGE_SIZE / 2);

        memcpy(q, p, objects[i].size);
        objects[i].p = q;
        kv_heap_free(heap, p);

        kv_heap_unlock(heap);
        heap_lock();
    }

    return moved;
}


static void
test_evacuate(void **state)
{
    size_t           size;
    uint64_t         least;
    unsigned         i, n, live, rounds;
    object_t        *objects;
    kv_heap_evac_t   ev;

    (void) state;

    for (size = 100; size < KV_HEAP_MAX_CLASS; size = size * 7 / 3) {
        objects = fill_pages(KV_HEAP_ENTRY, size, 24, &n);
        live = n;

        heap_lock();

        for (i = 0; i < n; i++) {
            if (heap_rnd(100) < 70) {
                drop(&objects[i]);
                live--;
            }
        }

        heap_check();

        for (rounds = 0;
             kv_heap_evac_begin(heap, &ev, false) == KV_OK;
             rounds++)
        {
            assert_int_equal(ev.kind, KV_HEAP_ENTRY);
            assert_int_equal(ev.size, kv_heap_class_size(size));

            heap_check();

            assert_true(evacuate(&ev, objects, n) > 0);
            assert_null(kv_heap_evac_next(heap, &ev));

            kv_heap_evac_end(heap, &ev, false);
            heap_check();

            assert_true(rounds < 24);
        }

        /* pages that are three quarters full, and one for the rest */

        least = (live * 4 / 3) / (n / 24) + 2;

        assert_true(heap_stat_now().held <= least * KV_PAGE_SIZE);
        assert_int_equal(heap_stat_now().used, live * kv_heap_class_size(size));

        for (i = 0; i < n; i++) {
            drop(&objects[i]);
        }

        heap_check();
        assert_int_equal(heap_stat_now().held, 0);

        kv_heap_unlock(heap);
        free(objects);
    }
}


/* Frees objects of one page until `left` are there. */

static void
thin(object_t *objects, unsigned in_page, unsigned page, unsigned left)
{
    unsigned  i;

    for (i = left; i < in_page; i++) {
        drop(&objects[page * in_page + i]);
    }
}


static void
test_evac_choice(void **state)
{
    unsigned         n, in_page;
    object_t        *objects;
    kv_heap_evac_t   ev;

    (void) state;

    objects = fill_pages(KV_HEAP_SYSTEM, EVAC_SIZE, 6, &n);
    in_page = n / 6;
    heap_lock();

    /* the system's objects do not move */

    thin(objects, in_page, 0, 1);
    thin(objects, in_page, 1, 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    kv_heap_unlock(heap);
    free(objects);

    objects = fill_pages(KV_HEAP_PIECE, EVAC_SIZE, 6, &n);
    heap_lock();

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    /* one object has nowhere to go */

    thin(objects, in_page, 3, 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    /* until one other is free */

    thin(objects, in_page, 5, in_page - 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_ptr_equal(kv_heap_evac_next(heap, &ev), objects[3 * in_page].p);
    assert_null(kv_heap_evac_next(heap, &ev));
    kv_heap_evac_end(heap, &ev, true);
    heap_check();

    /* the sparsest one goes first */

    thin(objects, in_page, 0, in_page / 3);
    thin(objects, in_page, 1, in_page / 4);
    thin(objects, in_page, 2, in_page / 5);
    thin(objects, in_page, 3, 0);
    thin(objects, in_page, 4, in_page / 6);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_int_equal(evacuate(&ev, objects, n), in_page / 6);
    kv_heap_evac_end(heap, &ev, false);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_int_equal(evacuate(&ev, objects, n), in_page / 5);
    kv_heap_evac_end(heap, &ev, false);

    heap_check();
    kv_heap_unlock(heap);
    free(objects);

    /* pages that are nearly full are left alone */

    objects = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 6, &n);
    heap_lock();

    for (n = 0; n < 6; n++) {
        thin(objects, in_page, n, in_page * 4 / 5);
    }

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    kv_heap_unlock(heap);
    free(objects);
}


/* Others free, and use, the page while it is evacuated. */

/*
 * Pages of which an eighth at most is free: left alone, but in need all that
 * is free comes together.
 */

static void
test_evac_dense(void **state)
{
    unsigned         i, n, in_page, live, held;
    object_t        *objects;
    kv_heap_evac_t   ev;

    (void) state;

    objects = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 32, &n);
    in_page = n / 32;
    live = n;
    heap_lock();

    for (i = 0; i < 32; i++) {
        thin(objects, in_page, i, in_page - in_page / 16 - i % 3);
        live -= in_page / 16 + i % 3;
    }

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    while (kv_heap_evac_begin(heap, &ev, true) == KV_OK) {
        assert_true(evacuate(&ev, objects, n) > in_page / 2);
        kv_heap_evac_end(heap, &ev, false);
        heap_check();
    }

    held = (live + in_page - 1) / in_page;

    assert_int_equal(heap_stat_now().held, held * KV_PAGE_SIZE);
    assert_true(held <= 30);

    for (i = 0; i < n; i++) {
        drop(&objects[i]);
    }

    heap_check();
    kv_heap_unlock(heap);
    free(objects);
}


static void
test_evac_concurrent(void **state)
{
    void            *p, *first;
    unsigned         n, in_page;
    object_t        *objects;
    uint64_t         free_pages;
    kv_heap_evac_t   ev;

    (void) state;

    objects = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 3, &n);
    in_page = n / 3;
    heap_lock();

    thin(objects, in_page, 1, in_page / 4);
    thin(objects, in_page, 2, in_page / 3);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_ptr_equal(kv_heap_evac_next(heap, &ev), objects[in_page].p);

    /* objects freed before the walk reaches them are not seen */

    first = objects[in_page].p;
    drop(&objects[in_page + 1]);
    assert_ptr_equal(kv_heap_evac_next(heap, &ev), objects[in_page + 2].p);

    /* it empties, and becomes a free page, within the evacuation */

    free_pages = heap_stat_now().free_pages;
    thin(objects, in_page, 1, 0);
    assert_int_equal(heap_stat_now().free_pages, free_pages + 1);
    heap_check();

    assert_null(kv_heap_evac_next(heap, &ev));

    /* and allocated anew: neither call touches it any more */

    p = kv_heap_alloc(heap, KV_HEAP_PIECE, 512);
    assert_in_range((uintptr_t) p, (uintptr_t) first - 1024,
                    (uintptr_t) first + 1024);

    assert_null(kv_heap_evac_next(heap, &ev));
    kv_heap_evac_end(heap, &ev, true);
    heap_check();

    kv_heap_free(heap, p);

    /* the end may come after the page was freed, too */

    thin(objects, in_page, 0, in_page / 2);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    thin(objects, in_page, 2, 0);
    kv_heap_evac_end(heap, &ev, false);
    kv_heap_evac_end(heap, &ev, true);
    heap_check();

    kv_heap_unlock(heap);
    free(objects);
}


/* Without `reuse` nothing is allocated from the page until it is empty. */

static void
test_evac_kept(void **state)
{
    unsigned         i, n, in_page;
    object_t        *objects;
    kv_heap_evac_t   ev;

    (void) state;

    objects = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 2, &n);
    in_page = n / 2;
    heap_lock();

    thin(objects, in_page, 0, in_page / 4);
    thin(objects, in_page, 1, in_page / 2);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    kv_heap_evac_end(heap, &ev, false);
    assert_null(kv_heap_evac_next(heap, &ev));

    for (i = in_page / 2; i < in_page; i++) {
        assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, EVAC_SIZE));
    }

    assert_int_equal(heap_stat_now().held, 2 * KV_PAGE_SIZE);
    assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, EVAC_SIZE));
    assert_int_equal(heap_stat_now().held, 3 * KV_PAGE_SIZE);

    thin(objects, in_page, 0, 0);
    assert_int_equal(heap_stat_now().held, 2 * KV_PAGE_SIZE);

    heap_check();
    kv_heap_unlock(heap);
    free(objects);
}


/* With it the page is used again, also when the evacuator just died. */

static void
test_evac_reused(void **state)
{
    unsigned         i, n, in_page;
    object_t        *objects;
    kv_heap_evac_t   ev, stale;

    (void) state;

    for (i = 0; i < 2; i++) {
        objects = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 2, &n);
        in_page = n / 2;
        heap_lock();

        thin(objects, in_page, 0, in_page / 4);
        thin(objects, in_page, 1, in_page - 3);

        assert_int_equal(kv_heap_evac_begin(heap, &stale, false), KV_DECLINED);

        thin(objects, in_page, 1, in_page / 2);

        assert_int_equal(kv_heap_evac_begin(heap, &stale, false), KV_OK);

        if (i == 0) {
            kv_heap_evac_end(heap, &stale, true);
        }

        /* but another goes before one in which something had to stay */

        assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
        assert_ptr_equal(kv_heap_evac_next(heap, &ev),
                         objects[i == 0 ? in_page : 0].p);
        heap_check();
        kv_heap_evac_end(heap, &ev, true);
        heap_check();

        for (n = in_page / 4 + in_page / 2; n < 2 * in_page; n++) {
            assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, EVAC_SIZE));
        }

        assert_int_equal(heap_stat_now().held, 2 * KV_PAGE_SIZE);

        heap_check();
        kv_heap_unlock(heap);
        free(objects);
    }
}


static void
test_evac_outlives_heap(void **state)
{
    unsigned         n, in_page;
    object_t        *objects;
    kv_heap_evac_t   ev;

    (void) state;

    objects = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 2, &n);
    in_page = n / 2;
    heap_lock();
    thin(objects, in_page, 0, 1);
    thin(objects, in_page, 1, 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    kv_heap_unlock(heap);

    kv_heap_format(heap);

    heap_lock();
    assert_null(kv_heap_evac_next(heap, &ev));
    kv_heap_evac_end(heap, &ev, true);
    heap_check();
    kv_heap_unlock(heap);

    free(objects);
}


/* A mixed load that never stops, with evacuation at work. */

static void
test_evac_random(void **state)
{
    void            *p, *q;
    unsigned         i, n, step, moved;
    object_t        *objects, *s;
    kv_heap_evac_t   ev;

    (void) state;

    objects = calloc(OBJECTS, sizeof(object_t));
    assert_non_null(objects);

    heap_lock();

    for (step = 0; step < 200; step++) {

        for (n = 0; n < 300; n++) {
            s = &objects[heap_rnd(step % 40 < 20 ? OBJECTS : OBJECTS / 6)];

            if (s->p != NULL) {
                drop(s);
                continue;
            }

            s->size = 1 + heap_rnd(heap_rnd(8) ? 200 : 9000);
            s->fill = heap_rnd(256);
            s->kind = heap_rnd(2);
            s->p = kv_heap_alloc(heap, s->kind, s->size);

            if (s->p != NULL) {
                memset(s->p, s->fill, s->size);
            }
        }

        if (step % 40 == 19) {
            for (i = OBJECTS / 6; i < OBJECTS; i++) {
                if (heap_rnd(3)) {
                    drop(&objects[i]);
                }
            }
        }

        if (kv_heap_evac_begin(heap, &ev, heap_rnd(2)) != KV_OK) {
            continue;
        }

        moved = 0;

        while ((p = kv_heap_evac_next(heap, &ev)) != NULL) {

            for (i = 0; objects[i].p != p; i++) {
                assert_true(i < OBJECTS - 1);
            }

            s = &objects[i];
            assert_int_equal(s->kind, ev.kind);

            if (heap_rnd(10) == 0) {
                drop(s);
                continue;
            }

            q = kv_heap_alloc(heap, ev.kind, ev.size);

            if (q == NULL) {
                break;
            }

            memcpy(q, p, s->size);
            s->p = q;
            kv_heap_free(heap, p);
            moved++;

            drop(&objects[heap_rnd(OBJECTS)]);
        }

        kv_heap_evac_end(heap, &ev, step % 2);
        heap_check();
    }

    for (i = 0; i < OBJECTS; i++) {
        drop(&objects[i]);
    }

    heap_check();
    assert_int_equal(heap_stat_now().held, 0);

    kv_heap_unlock(heap);
    free(objects);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, heap_setup, heap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_evacuate),
        TEST(test_evac_choice),
        TEST(test_evac_dense),
        TEST(test_evac_concurrent),
        TEST(test_evac_kept),
        TEST(test_evac_reused),
        TEST(test_evac_outlives_heap),
        TEST(test_evac_random)
    };

    return cmocka_run_group_tests_name("heap evac", tests, NULL, NULL);
}
