
/*
 * The heap: checks of all its invariants, for tests.
 */


#include "memory/kv_heap_private.h"


/* Sums over the pages, to compare with what the heap has counted. */

typedef struct {
    uint32_t  free;                 /* pages */
    uint32_t  listed;               /* pages that should be in a list */
    uint64_t  used[KV_HEAP_KINDS];
    uint64_t  objects[KV_HEAP_KINDS][KV_HEAP_CLASSES];   /* free ones */
} kv_heap_count_t;


static kv_rc_t kv_heap_check_pages(kv_heap_t *heap, kv_heap_count_t *count,
    kv_err_t *err);
static kv_rc_t kv_heap_check_page(kv_heap_t *heap, uint32_t n,
    kv_err_t *err);
static const char *kv_heap_check_bits(kv_heap_t *heap, uint32_t n,
    uint32_t *live);
static kv_rc_t kv_heap_check_free(kv_heap_t *heap, uint32_t free,
    kv_err_t *err);
static kv_rc_t kv_heap_check_kind(kv_heap_t *heap, kv_heap_kind_t kind,
    const kv_heap_count_t *count, uint32_t *listed, kv_err_t *err);
static kv_rc_t kv_heap_check_lists(kv_heap_t *heap, kv_heap_kind_t kind,
    unsigned class, uint32_t *listed, kv_err_t *err);


kv_rc_t
kv_heap_check(kv_heap_t *heap, kv_err_t *err)
{
    uint32_t         listed;
    unsigned         kind;
    kv_heap_count_t  count;

    if (heap->fresh > heap->pages) {
        kv_err_set(err, "heap: %u pages used of %u", heap->fresh,
                   heap->pages);
        return KV_DAMAGED;
    }

    if (kv_heap_check_pages(heap, &count, err) != KV_OK
        || kv_heap_check_free(heap, count.free, err) != KV_OK)
    {
        return KV_DAMAGED;
    }

    listed = 0;

    for (kind = 0; kind < KV_HEAP_KINDS; kind++) {
        if (kv_heap_check_kind(heap, kind, &count, &listed, err) != KV_OK) {
            return KV_DAMAGED;
        }
    }

    if (listed != count.listed) {
        kv_err_set(err, "heap: %u pages in lists, expected %u", listed,
                   count.listed);
        return KV_DAMAGED;
    }

    if (heap->evacuated != KV_HEAP_NONE
        && (heap->evacuated >= heap->fresh
            || heap->page[heap->evacuated].state != KV_PAGE_DRAINED))
    {
        kv_err_set(err, "heap: page %u is not being evacuated",
                   heap->evacuated);
        return KV_DAMAGED;
    }

    return KV_OK;
}


/* Checks each page that was ever used by itself; counts them. */

static kv_rc_t
kv_heap_check_pages(kv_heap_t *heap, kv_heap_count_t *count, kv_err_t *err)
{
    uint32_t                n;
    const kv_heap_page_t   *page;
    const kv_heap_class_t  *cl;

    memset(count, 0, sizeof(kv_heap_count_t));

    for (n = 0; n < heap->fresh; n++) {
        page = &heap->page[n];

        if (page->state == KV_PAGE_FREE) {
            count->free++;
            continue;
        }

        if (kv_heap_check_page(heap, n, err) != KV_OK) {
            return KV_DAMAGED;
        }

        cl = &kv_heap_classes[page->class];

        count->used[page->kind] += (uint64_t) page->live * cl->size;

        if (page->state == KV_PAGE_USED) {
            count->objects[page->kind][page->class] += cl->objects
                                                       - page->live;
        }

        if (page->bucket != KV_HEAP_UNLISTED) {
            count->listed++;
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_heap_check_page(kv_heap_t *heap, uint32_t n, kv_err_t *err)
{
    uint32_t                live;
    unsigned                bucket;
    const char             *what;
    const kv_heap_page_t   *page;
    const kv_heap_class_t  *cl;

    page = &heap->page[n];

    if (page->state > KV_PAGE_DRAINED || page->kind >= KV_HEAP_KINDS
        || page->class >= KV_HEAP_CLASSES)
    {
        what = "state, kind or class";
        goto damaged;
    }

    cl = &kv_heap_classes[page->class];

    if (page->live == 0 || page->live > cl->objects) {
        what = "count of live objects";
        goto damaged;
    }

    what = kv_heap_check_bits(heap, n, &live);

    if (what) {
        goto damaged;
    }

    if (live != page->live) {
        what = "number of set bits";
        goto damaged;
    }

    bucket = (page->state == KV_PAGE_DRAINED || live == cl->objects)
             ? KV_HEAP_UNLISTED : (live * cl->step) >> 16;

    if (bucket != page->bucket) {
        what = "bucket";
        goto damaged;
    }

    return KV_OK;

damaged:

    kv_err_set(err, "heap: page %u has a wrong %s (class %u, %u live)", n,
               what, page->class, page->live);

    return KV_DAMAGED;
}


/* What is wrong, or NULL, with the number of allocated objects. */

static const char *
kv_heap_check_bits(kv_heap_t *heap, uint32_t n, uint32_t *live)
{
    uint32_t                i, words;
    uint64_t                full, *bits;
    const kv_heap_page_t   *page;
    const kv_heap_class_t  *cl;

    page = &heap->page[n];
    cl = &kv_heap_classes[page->class];

    if (cl->start == 0) {
        *live = __builtin_popcountll(page->bits) - (64 - cl->objects);

        return cl->objects < 64 && page->bits >> cl->objects
                                   != ~0ull >> cl->objects
               ? "bits past the last object" : NULL;
    }

    bits = (uint64_t *) kv_heap_address(heap, n);
    words = (cl->objects + 63) / 64;
    full = (words == 64) ? 0 : ~0ull << words;
    *live = 0;

    for (i = 0; i < words; i++) {
        *live += __builtin_popcountll(bits[i]);

        if (bits[i] == UINT64_MAX) {
            full |= 1ull << i;
        }
    }

    *live -= words * 64 - cl->objects;

    if (cl->objects % 64 != 0
        && bits[words - 1] >> (cl->objects % 64)
           != ~0ull >> (cl->objects % 64))
    {
        return "bits past the last object";
    }

    return full != page->bits ? "word of full words" : NULL;
}


/* Checks the list of free pages; `free` were counted among used ones. */

static kv_rc_t
kv_heap_check_free(kv_heap_t *heap, uint32_t free, kv_err_t *err)
{
    uint32_t  n, all;

    all = free + heap->pages - heap->fresh;

    if (all != kv_get_relaxed(heap->free_pages)) {
        kv_err_set(err, "heap: %u free pages, counted %u",
                   kv_get_relaxed(heap->free_pages), all);
        return KV_DAMAGED;
    }

    for (n = heap->free; n != KV_HEAP_NONE; n = heap->page[n].next) {

        if (n >= heap->fresh || heap->page[n].state != KV_PAGE_FREE
            || free == 0)
        {
            kv_err_set(err, "heap: page %u does not belong in the list of"
                       " free pages", n);
            return KV_DAMAGED;
        }

        free--;
    }

    if (free != 0) {
        kv_err_set(err, "heap: %u free pages are on no list", free);
        return KV_DAMAGED;
    }

    return KV_OK;
}


/* Checks one kind's figures and lists; adds their pages to *listed. */

static kv_rc_t
kv_heap_check_kind(kv_heap_t *heap, kv_heap_kind_t kind,
    const kv_heap_count_t *count, uint32_t *listed, kv_err_t *err)
{
    uint64_t  objects;
    unsigned  class;

    if (count->used[kind] != heap->used[kind]) {
        kv_err_set(err, "heap: kind %u has %llu bytes, counted %llu", kind,
                   (unsigned long long) heap->used[kind],
                   (unsigned long long) count->used[kind]);
        return KV_DAMAGED;
    }

    for (class = 0; class < KV_HEAP_CLASSES; class++) {
        objects = count->objects[kind][class];

        if (objects != heap->partial[kind][class].free) {
            kv_err_set(err, "heap: kind %u class %u has %llu free objects,"
                       " counted %llu", kind, class,
                       (unsigned long long) heap->partial[kind][class].free,
                       (unsigned long long) objects);
            return KV_DAMAGED;
        }

        if (kv_heap_check_lists(heap, kind, class, listed, err) != KV_OK) {
            return KV_DAMAGED;
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_heap_check_lists(kv_heap_t *heap, kv_heap_kind_t kind, unsigned class,
    uint32_t *listed, kv_err_t *err)
{
    uint32_t                  n, prev;
    unsigned                  bucket;
    const kv_heap_page_t     *page;
    const kv_heap_partial_t  *partial;

    partial = &heap->partial[kind][class];

    for (bucket = 0; bucket < KV_HEAP_BUCKETS; bucket++) {

        if ((partial->head[bucket] != KV_HEAP_NONE)
            != ((partial->filled >> bucket) & 1))
        {
            kv_err_set(err, "heap: kind %u class %u bucket %u is not what"
                       " its bit says", kind, class, bucket);
            return KV_DAMAGED;
        }

        prev = KV_HEAP_NONE;

        for (n = partial->head[bucket]; n != KV_HEAP_NONE; n = page->next) {
            page = &heap->page[n];

            if (n >= heap->fresh || page->state != KV_PAGE_USED
                || page->kind != kind || page->class != class
                || page->bucket != bucket
                || (prev != KV_HEAP_NONE && page->prev != prev)
                || ++*listed > heap->pages)
            {
                kv_err_set(err, "heap: page %u does not belong in the list"
                           " of kind %u class %u bucket %u", n, kind, class,
                           bucket);
                return KV_DAMAGED;
            }

            prev = n;
        }

        if (prev != KV_HEAP_NONE
            && heap->page[partial->head[bucket]].prev != prev)
        {
            kv_err_set(err, "heap: kind %u class %u bucket %u does not know"
                       " its last page", kind, class, bucket);
            return KV_DAMAGED;
        }
    }

    return KV_OK;
}
