
/*
 * What the heap is made of, for its files: kv_heap.c (allocation),
 * kv_heap_evac.c (pages that are emptied), kv_heap_check.c (checks).
 *
 * In the region, one after the other: kv_heap_t, a descriptor for each page,
 * the pages (from a 4096-byte boundary on).
 *
 * A bit for each object tells whether it is allocated.  Where a page has at
 * most 64 objects, they are the word in its descriptor.  Where it has more,
 * they are words at the page's start, and the descriptor's word tells which of
 * those are full.  Bits that stand for nothing are always set, so the first
 * clear one is a free object, and finding it takes the same time in every page.
 *
 * A page with both live and free objects is in one of eight lists of its kind
 * and class, by how full it is.  Allocations take the fullest page, so that
 * sparse ones may empty by themselves; evacuation takes a sparse one.  Neither
 * has to search.
 */


#ifndef KV_HEAP_PRIVATE_H
#define KV_HEAP_PRIVATE_H


#include <stdalign.h>

#include "base/kv_mutex.h"
#include "memory/kv_heap.h"


#define KV_HEAP_CLASSES    70
#define KV_HEAP_BUCKETS    8
#define KV_HEAP_UNLISTED   KV_HEAP_BUCKETS

#define KV_HEAP_NONE       UINT32_MAX

#define KV_HEAP_MIN_PAGES  16

/* classes from this size on have their bits in the descriptor */
#define KV_HEAP_DIRECT     (KV_PAGE_SIZE / 64)


typedef struct {
    uint32_t  size;
    uint32_t  start;            /* where in the page objects begin */
    uint32_t  objects;          /* in a page */
    uint32_t  inverse;          /* 2^32 / size, rounded up */
    uint32_t  step;             /* 2^16 * KV_HEAP_BUCKETS / objects */
} kv_heap_class_t;


typedef enum {
    KV_PAGE_FREE = 0,
    KV_PAGE_USED,
    KV_PAGE_DRAINED             /* nothing is allocated from it */
} kv_heap_state_t;


typedef struct {
    uint64_t  bits;             /* see above */
    uint32_t  next;             /* in a bucket, or among the free pages */
    uint32_t  prev;             /* in a bucket; the first one's: the last */
    uint16_t  live;             /* allocated objects */
    uint8_t   state;
    uint8_t   kind;
    uint8_t   class;
    uint8_t   bucket;           /* or KV_HEAP_UNLISTED */
    uint16_t  passed;           /* heap->choices when skipped; 0: it was not */
} kv_heap_page_t;


/*
 * The pages of one kind and class that have both live and free objects.  The
 * lists are double, and the first page's `prev` is the last one.
 */

typedef struct {
    uint64_t  free;             /* objects in all of them */
    uint32_t  filled;           /* bit n: bucket n has pages */
    uint32_t  head[KV_HEAP_BUCKETS];
} kv_heap_partial_t;


/*
 * Written by the holder of the lock; some is also read without it, and the
 * geometry is constant.
 */

struct kv_heap_s {
    kv_mutex_t         mutex;

    alignas(KV_CACHE_LINE)
    atomic_bool        changing;    /* the holder's death breaks the heap */
    atomic_bool        broken;      /* any process */
    uint32_t           pages;
    uint32_t           reserve;
    size_t             base;        /* offset of the first page */

    alignas(KV_CACHE_LINE)
    uint32_t           fresh;       /* pages from this one on: never used */
    uint32_t           free;        /* the list of those given back */
    _Atomic uint32_t   free_pages;  /* both sorts; any process */
    uint32_t           evacuated;   /* between evac_begin() and evac_end() */
    uint16_t           choices;     /* of pages to evacuate; never 0 */
    uint64_t           used[KV_HEAP_KINDS];
    _Atomic uint64_t   held[KV_HELD];          /* any process */
    _Atomic uint64_t   taken;       /* the sum of used[]; any process */

    kv_heap_partial_t  partial[KV_HEAP_KINDS][KV_HEAP_CLASSES];

    alignas(KV_CACHE_LINE)
    kv_heap_page_t     page[];
};


extern const kv_heap_class_t  kv_heap_classes[KV_HEAP_CLASSES];


/* The address of page `n`. */

static inline unsigned char *
kv_heap_address(kv_heap_t *heap, uint32_t n)
{
    return (unsigned char *) heap + heap->base + (size_t) n * KV_PAGE_SIZE;
}


/*
 * Puts a page with live and free objects into a list of its kind and class, as
 * its first or its last; takes it out of the one that it is in, if it is.  With
 * the heap's lock held.
 */
void kv_heap_link(kv_heap_t *heap, uint32_t n, unsigned bucket, bool last);
void kv_heap_unlink(kv_heap_t *heap, uint32_t n);


#endif /* KV_HEAP_PRIVATE_H */
