
/*
 * The heap: choosing pages to empty, so that they can be given to another kind
 * or class; the caller moves the objects (kv_compact.h).
 */


#include <assert.h>

#include "memory/kv_heap_private.h"


/* a page at most 6/8 full may be evacuated; with `dense`, any */
#define KV_HEAP_SPARSE     ((1u << 6) - 1)
#define KV_HEAP_ANY        ((1u << KV_HEAP_BUCKETS) - 1)

/* pages of a list that evacuation compares */
#define KV_HEAP_CANDIDATES  8

/*
 * A page with objects that could not be moved is skipped for KV_HEAP_PASS
 * choices; a choice that found none counts KV_HEAP_PASS_NONE.
 */
#define KV_HEAP_PASS       1024
#define KV_HEAP_PASS_NONE  256


static uint32_t kv_heap_choose(kv_heap_t *heap, uint32_t buckets);
static uint32_t kv_heap_sparsest(kv_heap_t *heap, kv_heap_partial_t *partial,
    uint32_t buckets);
static bool kv_heap_passed(kv_heap_t *heap, const kv_heap_page_t *page);
static void kv_heap_pass(kv_heap_t *heap, unsigned n);
static inline void kv_heap_evac_assert(kv_heap_t *heap,
    const kv_heap_evac_t *ev);


kv_rc_t
kv_heap_evac_begin(kv_heap_t *heap, kv_heap_evac_t *ev, bool dense)
{
    uint32_t                best;
    kv_heap_page_t         *page;
    kv_heap_partial_t      *partial;
    const kv_heap_class_t  *cl;

    if (heap->evacuated != KV_HEAP_NONE) {
        /* the process that began it died before it ended it */

        ev->page = heap->evacuated;
        page = &heap->page[ev->page];
        ev->kind = page->kind;
        ev->size = kv_heap_classes[page->class].size;
        kv_heap_evac_end(heap, ev, true);
        page->passed = 0;
    }

    best = kv_heap_choose(heap, dense ? KV_HEAP_ANY : KV_HEAP_SPARSE);

    kv_heap_pass(heap, best == KV_HEAP_NONE ? KV_HEAP_PASS_NONE : 1);

    if (best == KV_HEAP_NONE) {
        return KV_DECLINED;
    }

    page = &heap->page[best];
    cl = &kv_heap_classes[page->class];
    partial = &heap->partial[page->kind][page->class];

    /* what kv_heap_evac_next() and kv_heap_evac_end() find again */

    assert(best < heap->fresh && page->state == KV_PAGE_USED);
    assert(page->kind < KV_HEAP_SYSTEM);
    assert(page->live > 0 && page->live < cl->objects);
    assert(partial->free >= cl->objects);

    kv_heap_unlink(heap, best);

    partial->free -= cl->objects - page->live;
    page->state = KV_PAGE_DRAINED;
    heap->evacuated = best;

    ev->page = best;
    ev->next = 0;
    ev->kind = page->kind;
    ev->size = cl->size;

    return KV_OK;
}


/*
 * The page with the fewest bytes of those whose objects fit into other pages,
 * in lists of these buckets; KV_HEAP_NONE if there is none.
 */

static uint32_t
kv_heap_choose(kv_heap_t *heap, uint32_t buckets)
{
    uint32_t                n, best, bytes, least;
    unsigned                kind, class;
    kv_heap_partial_t      *partial;
    const kv_heap_class_t  *cl;

    best = KV_HEAP_NONE;
    least = UINT32_MAX;

    for (kind = KV_HEAP_ENTRY; kind < KV_HEAP_SYSTEM; kind++) {

        for (class = 0; class < KV_HEAP_CLASSES; class++) {
            partial = &heap->partial[kind][class];
            cl = &kv_heap_classes[class];

            /*
             * The live objects of a page fit into the free objects of the other
             * pages if and only if all free objects, its own included, are a
             * page's worth.
             */

            if (partial->free < cl->objects) {
                continue;
            }

            n = kv_heap_sparsest(heap, partial, buckets);

            if (n == KV_HEAP_NONE) {
                continue;
            }

            bytes = heap->page[n].live * cl->size;

            if (bytes < least) {
                least = bytes;
                best = n;
            }
        }
    }

    return best;
}


/*
 * Of the sparsest list that has pages that are not skipped, the page with the
 * fewest bytes.
 */

static uint32_t
kv_heap_sparsest(kv_heap_t *heap, kv_heap_partial_t *partial, uint32_t buckets)
{
    uint32_t         n, best;
    unsigned         examined;
    kv_heap_page_t  *page;

    best = KV_HEAP_NONE;

    for (buckets &= partial->filled;
         buckets && best == KV_HEAP_NONE;
         buckets &= buckets - 1)
    {
        n = partial->head[__builtin_ctz(buckets)];

        for (examined = 0;
             examined < KV_HEAP_CANDIDATES && n != KV_HEAP_NONE;
             examined++)
        {
            page = &heap->page[n];

            if (!kv_heap_passed(heap, page)
                && (best == KV_HEAP_NONE
                    || page->live < heap->page[best].live))
            {
                best = n;
            }

            n = page->next;
        }
    }

    return best;
}


static bool
kv_heap_passed(kv_heap_t *heap, const kv_heap_page_t *page)
{
    return page->passed
           && (uint16_t) (heap->choices - page->passed) < KV_HEAP_PASS;
}


/* Counts choices, for kv_heap_passed(); never 0. */

static void
kv_heap_pass(kv_heap_t *heap, unsigned n)
{
    heap->choices += n;

    if (heap->choices == 0) {
        heap->choices = 1;
    }
}


/*
 * What kv_heap_evac_begin() made of a page is still so, as long as it has not
 * become empty.
 */

static inline void
kv_heap_evac_assert(kv_heap_t *heap, const kv_heap_evac_t *ev)
{
    const kv_heap_page_t  *page;

    assert(ev->page < heap->fresh);

    page = &heap->page[ev->page];

    assert(page->state == KV_PAGE_DRAINED && page->live > 0);
    assert(page->bucket == KV_HEAP_UNLISTED && page->kind == ev->kind);
    assert(kv_heap_classes[page->class].size == ev->size);
}


void *
kv_heap_evac_next(kv_heap_t *heap, kv_heap_evac_t *ev)
{
    uint32_t                object, words;
    uint64_t                word, *bits;
    kv_heap_page_t         *page;
    const kv_heap_class_t  *cl;

    /* an emptied page is free, and may be in use again */

    if (heap->evacuated != ev->page || ev->page == KV_HEAP_NONE) {
        return NULL;
    }

    page = &heap->page[ev->page];
    cl = &kv_heap_classes[page->class];

    kv_heap_evac_assert(heap, ev);

    bits = (cl->start == 0) ? &page->bits
                            : (uint64_t *) kv_heap_address(heap, ev->page);
    words = (cl->objects + 63) / 64;

    while (ev->next / 64 < words) {
        word = bits[ev->next / 64] >> (ev->next % 64);

        if (word == 0) {
            ev->next = (ev->next / 64 + 1) * 64;
            continue;
        }

        object = ev->next + __builtin_ctzll(word);

        if (object >= cl->objects) {
            break;
        }

        ev->next = object + 1;

        return kv_heap_address(heap, ev->page) + cl->start
               + (size_t) object * cl->size;
    }

    return NULL;
}


void
kv_heap_evac_end(kv_heap_t *heap, kv_heap_evac_t *ev, bool reuse)
{
    kv_heap_page_t         *page;
    const kv_heap_class_t  *cl;

    if (heap->evacuated != ev->page || ev->page == KV_HEAP_NONE) {
        return;
    }

    kv_heap_evac_assert(heap, ev);

    heap->evacuated = KV_HEAP_NONE;

    if (!reuse) {
        return;
    }

    page = &heap->page[ev->page];
    cl = &kv_heap_classes[page->class];

    page->state = KV_PAGE_USED;
    page->passed = heap->choices;
    heap->partial[page->kind][page->class].free += cl->objects - page->live;

    if (page->live < cl->objects) {

        /* behind pages that were not tried yet */

        kv_heap_link(heap, ev->page, (page->live * cl->step) >> 16, true);
    }
}


void
kv_heap_evac_retry(kv_heap_t *heap)
{
    kv_heap_pass(heap, KV_HEAP_PASS);
}
