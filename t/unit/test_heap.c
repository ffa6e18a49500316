
/*
 * The heap: classes, allocation against a shadow model, reserve, evacuation,
 * and what happens when a process dies.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "memory/kv_heap.h"
#include "memory/kv_poison.h"

#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif


#define PAGES       256
#define REGION      ((size_t) 17 << 20)
#define SLOTS       6000
#define EVAC_SIZE   120


typedef struct {
    unsigned char   *p;
    size_t           size;
    kv_heap_kind_t   kind;
    unsigned char    fill;
} slot_t;


static kv_heap_t  *heap;
static void       *heap_region;
static uint64_t    heap_seed;


static uint32_t
heap_rnd(uint32_t n)
{
    heap_seed ^= heap_seed << 13;
    heap_seed ^= heap_seed >> 7;
    heap_seed ^= heap_seed << 17;

    return (heap_seed >> 16) % n;
}


static int
heap_setup(void **state)
{
    (void) state;

    heap_seed = 88172645463325252ull;

    heap_region = mmap(NULL, REGION, PROT_READ|PROT_WRITE,
                       MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (heap_region == MAP_FAILED) {
        return -1;
    }

    heap = kv_heap_create(heap_region, REGION);

    return heap == NULL ? -1 : 0;
}


static int
heap_teardown(void **state)
{
    (void) state;

    kv_poison_forget(heap_region, REGION);
    return munmap(heap_region, REGION);
}


static void
heap_lock(void)
{
    assert_int_equal(kv_heap_lock(heap), KV_OK);
}


static void
heap_check(void)
{
    kv_err_t  err;

    if (kv_heap_check(heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }
}


static kv_heap_stat_t
heap_stat_now(void)
{
    kv_heap_stat_t  st;

    kv_heap_stat(heap, &st);

    return st;
}


static bool
heap_filled(const unsigned char *p, size_t n, unsigned char c)
{
    return n == 0 || (p[0] == c && memcmp(p, p + 1, n - 1) == 0);
}


/* Objects of a class that come out of the first page. */

static uint32_t
heap_objects_in_page(size_t size)
{
    uint32_t  n;

    kv_heap_format(heap);
    heap_lock();

    for (n = 0; heap_stat_now().held <= KV_PAGE_SIZE; n++) {
        assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, size));
    }

    kv_heap_unlock(heap);

    return n - 1;
}


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
    assert_int_equal(st.reserve_pages, KV_HEAP_LAST + 1);
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

        if (heap_stat_now().free_pages < 8) {
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


static size_t
heap_random_size(void)
{
    switch (heap_rnd(16)) {

    case 0:
        return 1 + heap_rnd(KV_PAGE_SIZE);

    case 1:
    case 2:
        return 1 + heap_rnd(8192);

    case 3:
        return (1 + heap_rnd(64)) * 64;

    default:
        return 1 + heap_rnd(400);
    }
}


static void
test_random(void **state)
{
    unsigned  i, n, round;
    slot_t   *slots, *s;
    uint64_t  used[KV_HEAP_KINDS];

    (void) state;

    slots = calloc(SLOTS, sizeof(slot_t));
    assert_non_null(slots);

    memset(used, 0, sizeof(used));

    for (round = 0; round < 40; round++) {
        heap_lock();

        /* it swells and shrinks */

        for (n = 0; n < 4000; n++) {
            s = &slots[heap_rnd(round % 8 < 5 ? SLOTS : SLOTS / 8)];

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
            for (i = SLOTS / 4; i < SLOTS; i++) {
                if (slots[i].p != NULL) {
                    used[slots[i].kind] -= kv_heap_class_size(slots[i].size);
                    kv_heap_free(heap, slots[i].p);
                    slots[i].p = NULL;
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

    for (i = 0; i < SLOTS; i++) {
        if (slots[i].p != NULL) {
            assert_true(heap_filled(slots[i].p, slots[i].size, slots[i].fill));
            kv_heap_free(heap, slots[i].p);
        }
    }

    heap_check();

    assert_int_equal(heap_stat_now().used, 0);
    assert_int_equal(heap_stat_now().free_pages * KV_PAGE_SIZE,
                     heap_stat_now().size);

    kv_heap_unlock(heap);

    free(slots);
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
    assert_int_equal(st.reserve_pages, KV_HEAP_LAST + pages / 64);
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

    assert_int_equal(n, st.reserve_pages - KV_HEAP_LAST);
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

    assert_int_equal(n, KV_HEAP_LAST);
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


/* The first `pages` pages full of objects of one size. */

static slot_t *
fill_pages(kv_heap_kind_t kind, size_t size, unsigned pages, unsigned *n)
{
    unsigned  i, in_page;
    slot_t   *slots;

    in_page = heap_objects_in_page(size);

    kv_heap_format(heap);

    *n = in_page * pages;
    slots = calloc(*n, sizeof(slot_t));
    assert_non_null(slots);

    heap_lock();

    for (i = 0; i < *n; i++) {
        slots[i].p = kv_heap_alloc(heap, kind, size);
        assert_non_null(slots[i].p);

        slots[i].size = size;
        slots[i].fill = heap_rnd(256);
        memset(slots[i].p, slots[i].fill, size);
    }

    assert_int_equal(heap_stat_now().held, pages * KV_PAGE_SIZE);

    kv_heap_unlock(heap);

    return slots;
}


static void
drop(slot_t *s)
{
    if (s->p != NULL) {
        assert_true(heap_filled(s->p, s->size, s->fill));
        kv_heap_free(heap, s->p);
        s->p = NULL;
    }
}


/* Moves all of a page's objects; returns how many there were. */

static unsigned
evacuate(kv_heap_evac_t *ev, slot_t *slots, unsigned n)
{
    unsigned        i, moved;
    uintptr_t       first;
    unsigned char  *p, *q;

    first = 0;

    for (moved = 0; (p = kv_heap_evac_next(heap, ev)) != NULL; moved++) {

        for (i = 0; i < n && slots[i].p != p; i++) { /* void */ }

        assert_true(i < n);

        q = kv_heap_alloc(heap, ev->kind, ev->size);
        assert_non_null(q);

        first = first ? first : (uintptr_t) p;
        assert_false((uintptr_t) q - first < KV_PAGE_SIZE / 2);

        memcpy(q, p, slots[i].size);
        slots[i].p = q;
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
    slot_t          *slots;
    kv_heap_evac_t   ev;

    (void) state;

    for (size = 100; size < KV_HEAP_MAX_CLASS; size = size * 7 / 3) {
        slots = fill_pages(KV_HEAP_ENTRY, size, 24, &n);
        live = n;

        heap_lock();

        for (i = 0; i < n; i++) {
            if (heap_rnd(100) < 70) {
                drop(&slots[i]);
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

            assert_true(evacuate(&ev, slots, n) > 0);
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
            drop(&slots[i]);
        }

        heap_check();
        assert_int_equal(heap_stat_now().held, 0);

        kv_heap_unlock(heap);
        free(slots);
    }
}


/* Frees objects of one page until `left` are there. */

static void
thin(slot_t *slots, unsigned in_page, unsigned page, unsigned left)
{
    unsigned  i;

    for (i = left; i < in_page; i++) {
        drop(&slots[page * in_page + i]);
    }
}


static void
test_evac_choice(void **state)
{
    unsigned         n, in_page;
    slot_t          *slots;
    kv_heap_evac_t   ev;

    (void) state;

    slots = fill_pages(KV_HEAP_SYSTEM, EVAC_SIZE, 6, &n);
    in_page = n / 6;
    heap_lock();

    /* the system's objects do not move */

    thin(slots, in_page, 0, 1);
    thin(slots, in_page, 1, 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    kv_heap_unlock(heap);
    free(slots);

    slots = fill_pages(KV_HEAP_PIECE, EVAC_SIZE, 6, &n);
    heap_lock();

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    /* one object has nowhere to go */

    thin(slots, in_page, 3, 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    /* until one other is free */

    thin(slots, in_page, 5, in_page - 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_ptr_equal(kv_heap_evac_next(heap, &ev), slots[3 * in_page].p);
    assert_null(kv_heap_evac_next(heap, &ev));
    kv_heap_evac_end(heap, &ev, true);
    heap_check();

    /* the sparsest one goes first */

    thin(slots, in_page, 0, in_page / 3);
    thin(slots, in_page, 1, in_page / 4);
    thin(slots, in_page, 2, in_page / 5);
    thin(slots, in_page, 3, 0);
    thin(slots, in_page, 4, in_page / 6);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_int_equal(evacuate(&ev, slots, n), in_page / 6);
    kv_heap_evac_end(heap, &ev, false);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_int_equal(evacuate(&ev, slots, n), in_page / 5);
    kv_heap_evac_end(heap, &ev, false);

    heap_check();
    kv_heap_unlock(heap);
    free(slots);

    /* pages that are nearly full are left alone */

    slots = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 6, &n);
    heap_lock();

    for (n = 0; n < 6; n++) {
        thin(slots, in_page, n, in_page * 4 / 5);
    }

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    kv_heap_unlock(heap);
    free(slots);
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
    slot_t          *slots;
    kv_heap_evac_t   ev;

    (void) state;

    slots = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 32, &n);
    in_page = n / 32;
    live = n;
    heap_lock();

    for (i = 0; i < 32; i++) {
        thin(slots, in_page, i, in_page - in_page / 16 - i % 3);
        live -= in_page / 16 + i % 3;
    }

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_DECLINED);

    while (kv_heap_evac_begin(heap, &ev, true) == KV_OK) {
        assert_true(evacuate(&ev, slots, n) > in_page / 2);
        kv_heap_evac_end(heap, &ev, false);
        heap_check();
    }

    held = (live + in_page - 1) / in_page;

    assert_int_equal(heap_stat_now().held, held * KV_PAGE_SIZE);
    assert_true(held <= 30);

    for (i = 0; i < n; i++) {
        drop(&slots[i]);
    }

    heap_check();
    kv_heap_unlock(heap);
    free(slots);
}


static void
test_evac_concurrent(void **state)
{
    void            *p, *first;
    unsigned         i, n, in_page;
    slot_t          *slots;
    uint64_t         free_pages;
    kv_heap_evac_t   ev, stale;

    (void) state;

    slots = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 3, &n);
    in_page = n / 3;
    heap_lock();

    thin(slots, in_page, 1, in_page / 4);
    thin(slots, in_page, 2, in_page / 3);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    assert_ptr_equal(kv_heap_evac_next(heap, &ev), slots[in_page].p);

    /* objects freed before the walk reaches them are not seen */

    first = slots[in_page].p;
    drop(&slots[in_page + 1]);
    assert_ptr_equal(kv_heap_evac_next(heap, &ev), slots[in_page + 2].p);

    /* it empties, and becomes a free page, within the evacuation */

    free_pages = heap_stat_now().free_pages;
    thin(slots, in_page, 1, 0);
    assert_int_equal(heap_stat_now().free_pages, free_pages + 1);
    heap_check();

    assert_null(kv_heap_evac_next(heap, &ev));

    /* and somebody else's: neither call touches it any more */

    p = kv_heap_alloc(heap, KV_HEAP_PIECE, 512);
    assert_in_range((uintptr_t) p, (uintptr_t) first - 1024,
                    (uintptr_t) first + 1024);

    assert_null(kv_heap_evac_next(heap, &ev));
    kv_heap_evac_end(heap, &ev, true);
    heap_check();

    kv_heap_free(heap, p);

    /* the end may come after the page was freed, too */

    thin(slots, in_page, 0, in_page / 2);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    thin(slots, in_page, 2, 0);
    kv_heap_evac_end(heap, &ev, false);
    kv_heap_evac_end(heap, &ev, true);
    heap_check();

    kv_heap_unlock(heap);
    free(slots);

    /* without `reuse` nothing is allocated from it until it is empty */

    slots = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 2, &n);
    heap_lock();

    thin(slots, in_page, 0, in_page / 4);
    thin(slots, in_page, 1, in_page / 2);

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    kv_heap_evac_end(heap, &ev, false);
    assert_null(kv_heap_evac_next(heap, &ev));

    for (i = in_page / 2; i < in_page; i++) {
        assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, EVAC_SIZE));
    }

    assert_int_equal(heap_stat_now().held, 2 * KV_PAGE_SIZE);
    assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, EVAC_SIZE));
    assert_int_equal(heap_stat_now().held, 3 * KV_PAGE_SIZE);

    thin(slots, in_page, 0, 0);
    assert_int_equal(heap_stat_now().held, 2 * KV_PAGE_SIZE);

    heap_check();
    kv_heap_unlock(heap);
    free(slots);

    /* with it the page is used again, also when the evacuator just died */

    for (i = 0; i < 2; i++) {
        slots = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 2, &n);
        heap_lock();

        thin(slots, in_page, 0, in_page / 4);
        thin(slots, in_page, 1, in_page - 3);

        assert_int_equal(kv_heap_evac_begin(heap, &stale, false), KV_DECLINED);

        thin(slots, in_page, 1, in_page / 2);

        assert_int_equal(kv_heap_evac_begin(heap, &stale, false), KV_OK);

        if (i == 0) {
            kv_heap_evac_end(heap, &stale, true);
        }

        /* but another goes before one in which something had to stay */

        assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
        assert_ptr_equal(kv_heap_evac_next(heap, &ev),
                         slots[i == 0 ? in_page : 0].p);
        heap_check();
        kv_heap_evac_end(heap, &ev, true);
        heap_check();

        for (n = in_page / 4 + in_page / 2; n < 2 * in_page; n++) {
            assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, EVAC_SIZE));
        }

        assert_int_equal(heap_stat_now().held, 2 * KV_PAGE_SIZE);

        heap_check();
        kv_heap_unlock(heap);
        free(slots);
    }

    /* an evacuation that outlives its heap */

    slots = fill_pages(KV_HEAP_ENTRY, EVAC_SIZE, 2, &n);
    heap_lock();
    thin(slots, in_page, 0, 1);
    thin(slots, in_page, 1, 1);
    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);
    kv_heap_unlock(heap);

    kv_heap_format(heap);

    heap_lock();
    assert_null(kv_heap_evac_next(heap, &ev));
    kv_heap_evac_end(heap, &ev, true);
    heap_check();
    kv_heap_unlock(heap);

    free(slots);
}


/* A mixed load that never stops, with evacuation at work. */

static void
test_evac_random(void **state)
{
    void            *p, *q;
    unsigned         i, n, step, moved;
    slot_t          *slots, *s;
    kv_heap_evac_t   ev;

    (void) state;

    slots = calloc(SLOTS, sizeof(slot_t));
    assert_non_null(slots);

    heap_lock();

    for (step = 0; step < 200; step++) {

        for (n = 0; n < 300; n++) {
            s = &slots[heap_rnd(step % 40 < 20 ? SLOTS : SLOTS / 6)];

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
            for (i = SLOTS / 6; i < SLOTS; i++) {
                if (heap_rnd(3)) {
                    drop(&slots[i]);
                }
            }
        }

        if (kv_heap_evac_begin(heap, &ev, heap_rnd(2)) != KV_OK) {
            continue;
        }

        moved = 0;

        while ((p = kv_heap_evac_next(heap, &ev)) != NULL) {

            for (i = 0; slots[i].p != p; i++) {
                assert_true(i < SLOTS - 1);
            }

            s = &slots[i];
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

            drop(&slots[heap_rnd(SLOTS)]);
        }

        kv_heap_evac_end(heap, &ev, step % 2);
        heap_check();
    }

    for (i = 0; i < SLOTS; i++) {
        drop(&slots[i]);
    }

    heap_check();
    assert_int_equal(heap_stat_now().held, 0);

    kv_heap_unlock(heap);
    free(slots);
}


/* Waits for a child; true if it left with 0. */

static bool
left_well(pid_t pid)
{
    int  status;

    assert_int_equal(waitpid(pid, &status, 0), pid);

    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}


/* Who only reads leaves all whole, in whatever order it and others come. */

static void
test_death_of_reader(void **state)
{
    pid_t     reader;
    unsigned  i;

    (void) state;

    for (i = 0; i < 3; i++) {

        if (i == 1) {
            heap_lock();
            assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 100));
            kv_heap_unlock(heap);
        }

        reader = fork();

        if (reader == 0) {
            _exit(kv_heap_lock_read(heap) == KV_OK ? 0 : 1);
        }

        assert_true(left_well(reader));

        if (i == 2) {
            assert_int_equal(kv_heap_lock_read(heap), KV_OK);

        } else {
            heap_lock();
        }

        heap_check();
        kv_heap_unlock(heap);
        assert_false(kv_heap_broken(heap));
    }

    /* a reader is no excuse for who changes after it */

    reader = fork();

    if (reader == 0) {
        (void) kv_heap_lock_read(heap);
        kv_heap_unlock(heap);
        _exit(kv_heap_lock(heap) == KV_OK ? 0 : 1);
    }

    assert_true(left_well(reader));
    assert_int_equal(kv_heap_lock_read(heap), KV_DEAD);
    assert_true(kv_heap_broken(heap));
    kv_heap_format(heap);
}


static void
test_death(void **state)
{
    int      fds[2], i;
    char     c;
    pid_t    owner, waiter[2];

    (void) state;

    heap_lock();
    assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 100));
    kv_heap_unlock(heap);

    /* who leaves with the lock, as a whole */

    owner = fork();

    if (owner == 0) {
        _exit(kv_heap_lock(heap) == KV_OK ? 0 : 1);
    }

    assert_true(left_well(owner));

    assert_false(kv_heap_broken(heap));
    assert_int_equal(kv_heap_lock(heap), KV_DEAD);
    assert_true(kv_heap_broken(heap));
    assert_int_equal(kv_heap_lock(heap), KV_DEAD);

    owner = fork();

    if (owner == 0) {
        _exit(kv_heap_broken(heap) && kv_heap_lock(heap) == KV_DEAD ? 0 : 1);
    }

    assert_true(left_well(owner));

    kv_heap_format(heap);

    assert_false(kv_heap_broken(heap));
    heap_lock();
    heap_check();
    assert_int_equal(heap_stat_now().used, 0);
    kv_heap_unlock(heap);

    /* who is killed, with others waiting for the lock */

    assert_int_equal(pipe(fds), 0);

    owner = fork();

    if (owner == 0) {
        if (kv_heap_lock(heap) == KV_OK && write(fds[1], "x", 1) == 1) {
            pause();
        }

        _exit(1);
    }

    assert_int_equal(read(fds[0], &c, 1), 1);

    for (i = 0; i < 2; i++) {
        waiter[i] = fork();

        if (waiter[i] == 0) {
            if (write(fds[1], "x", 1) != 1) {
                _exit(1);
            }

            _exit(kv_heap_lock(heap) == KV_DEAD ? 0 : 1);
        }

        assert_int_equal(read(fds[0], &c, 1), 1);
    }

    (void) usleep(20000);

    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_false(left_well(owner));
    assert_true(left_well(waiter[0]));
    assert_true(left_well(waiter[1]));

    assert_true(kv_heap_broken(heap));

    kv_heap_format(heap);

    /* nobody has noticed yet when it is formatted */

    owner = fork();

    if (owner == 0) {
        _exit(kv_heap_lock(heap) == KV_OK ? 0 : 1);
    }

    assert_true(left_well(owner));

    kv_heap_format(heap);
    heap_lock();
    kv_heap_unlock(heap);

    (void) close(fds[0]);
    (void) close(fds[1]);
}


/* Allocates and frees until it is killed, or `n` times. */

static void
churn(unsigned id, unsigned n)
{
    slot_t    slots[64], *s;
    unsigned  i;

    heap_seed = 88172645463325252ull + id * 7919;
    memset(slots, 0, sizeof(slots));

    for (i = 0; i < n; i++) {
        s = &slots[heap_rnd(64)];

        if (kv_heap_lock(heap) != KV_OK) {
            _exit(2);
        }

        if (s->p != NULL) {
            if (!heap_filled(s->p, s->size, s->fill)) {
                _exit(3);
            }

            kv_heap_free(heap, s->p);
            s->p = NULL;

        } else {
            s->size = heap_random_size();
            s->fill = heap_rnd(256);
            s->p = kv_heap_alloc(heap, heap_rnd(KV_HEAP_KINDS), s->size);
        }

        kv_heap_unlock(heap);

        if (s->p != NULL) {
            memset(s->p, s->fill, s->size);
        }
    }

    for (i = 0; i < 64; i++) {
        if (slots[i].p != NULL) {
            if (!heap_filled(slots[i].p, slots[i].size, slots[i].fill)
                || kv_heap_lock(heap) != KV_OK)
            {
                _exit(4);
            }

            kv_heap_free(heap, slots[i].p);
            kv_heap_unlock(heap);
        }
    }

    _exit(0);
}


static void
test_processes(void **state)
{
    pid_t     pid[4];
    unsigned  i;

    (void) state;

    for (i = 0; i < 4; i++) {
        pid[i] = fork();

        if (pid[i] == 0) {
            churn(i, 30000);
        }
    }

    for (i = 0; i < 4; i++) {
        assert_true(left_well(pid[i]));
    }

    heap_lock();
    heap_check();
    assert_int_equal(heap_stat_now().used, 0);
    assert_int_equal(heap_stat_now().held, 0);
    kv_heap_unlock(heap);
}


/* Killed at any instruction: the heap is sound, or says that it is not. */

static void
test_kill_anywhere(void **state)
{
    pid_t     pid;
    kv_rc_t   rc;
    unsigned  i;

    (void) state;

    for (i = 0; i < 60; i++) {
        pid = fork();

        if (pid == 0) {
            churn(i, UINT32_MAX);
        }

        (void) usleep(300 + heap_rnd(3000));

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_false(left_well(pid));

        rc = kv_heap_lock(heap);

        if (rc == KV_DEAD) {
            assert_true(kv_heap_broken(heap));
            kv_heap_format(heap);
            rc = kv_heap_lock(heap);
            assert_int_equal(heap_stat_now().used, 0);
        }

        assert_int_equal(rc, KV_OK);
        heap_check();
        kv_heap_unlock(heap);
    }
}


typedef enum {
    FREE_TWICE = 0,
    FREE_TWICE_LARGE,
    FREE_INSIDE,
    FREE_BITMAP,
    FREE_PAGE_GIVEN_BACK,
    FREE_NEVER_USED,
    FREE_ELSEWHERE,
    ALLOC_ZERO,
    ALLOC_TOO_MUCH,
    MISUSES
} misuse_t;


static void
misuse(misuse_t what)
{
    int             fd;
    unsigned char  *p, *q;

    fd = open("/dev/null", O_WRONLY);
    (void) dup2(fd, STDERR_FILENO);
    (void) setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
    (void) signal(SIGABRT, SIG_DFL);

    heap_lock();

    p = kv_heap_alloc(heap, KV_HEAP_ENTRY, 104);
    q = kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000);
    (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 104);
    (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000);

    switch (what) {

    case FREE_TWICE:
        kv_heap_free(heap, p);
        kv_heap_free(heap, p);
        break;

    case FREE_TWICE_LARGE:
        kv_heap_free(heap, q);
        kv_heap_free(heap, q);
        break;

    case FREE_INSIDE:
        kv_heap_free(heap, p + 8);
        break;

    case FREE_BITMAP:
        kv_heap_free(heap, (void *) ((uintptr_t) p & ~(uintptr_t) 4095));
        break;

    case FREE_PAGE_GIVEN_BACK:
        p = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);
        kv_heap_free(heap, p);
        kv_heap_free(heap, p);
        break;

    case FREE_NEVER_USED:
        p = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);
        kv_heap_free(heap, p + KV_PAGE_SIZE);
        break;

    case FREE_ELSEWHERE:
        kv_heap_free(heap, &what);
        break;

    case ALLOC_ZERO:
        (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 0);
        break;

    default:
        (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE + 1);
        break;
    }

    _exit(0);
}


static void
test_misuse(void **state)
{
    int       status;
    pid_t     pid;
    misuse_t  what;

    (void) state;

    for (what = 0; what < MISUSES; what++) {
        pid = fork();

        if (pid == 0) {
            misuse(what);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
            fail_msg("misuse %d went unnoticed", what);
        }

        /* it died with the lock */

        assert_int_equal(kv_heap_lock(heap), KV_DEAD);
        kv_heap_format(heap);
    }
}


/* The tests rely on kv_heap_check(): it has to see damage. */

static void
test_check_sees(void **state)
{
    void      *p;
    uint64_t  *bits;
    kv_err_t   err;

    (void) state;

    heap_lock();

    p = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    bits = (uint64_t *) ((uintptr_t) p & ~(uintptr_t) 4095);
    heap_check();

    *bits ^= 4;
    assert_int_equal(kv_heap_check(heap, &err), KV_DAMAGED);
    *bits ^= 4;
    heap_check();

    kv_heap_unlock(heap);
}


/* Who still uses freed memory is seen: at once, or when it is needed again. */

static void
test_poison(void **state)
{
    int             status;
    pid_t           pid;
    unsigned char  *p, *q;

    (void) state;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    p = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    q = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    assert_non_null(p);
    assert_non_null(q);

    memset(p, 1, 100);
    kv_heap_free(heap, p);

#if defined __SANITIZE_ADDRESS__
    assert_true(__asan_address_is_poisoned(p));
    assert_true(__asan_address_is_poisoned(p + 99));
    assert_false(__asan_address_is_poisoned(q));
    assert_true(__asan_address_is_poisoned(q + KV_PAGE_SIZE));
#endif

    fflush(NULL);
    pid = fork();
    assert_true(pid != -1);

    if (pid == 0) {
        (void) dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        p[42] = 0;
        (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
        _exit(0);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);

    kv_heap_unlock(heap);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, heap_setup, heap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_poison),
        TEST(test_create),
        TEST(test_untouched),
        TEST(test_class_sizes),
        TEST(test_classes),
        TEST(test_alignment),
        TEST(test_random),
        TEST(test_reserve),
        TEST(test_evacuate),
        TEST(test_evac_choice),
        TEST(test_evac_dense),
        TEST(test_evac_concurrent),
        TEST(test_evac_random),
        TEST(test_death),
        TEST(test_death_of_reader),
        TEST(test_processes),
        TEST(test_kill_anywhere),
        TEST(test_misuse),
        TEST(test_check_sees)
    };

    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
