
/*
 * The heap: allocation and freeing.  kv_heap_private.h tells how it is made.
 */


#include <assert.h>

#include "memory/kv_heap_private.h"
#include "base/kv_failpoint.h"
#include "memory/kv_poison.h"


static void kv_heap_reset(kv_heap_t *heap);
static unsigned kv_heap_class(size_t size);
static inline uint32_t kv_heap_page(kv_heap_t *heap, const void *p);
static uint32_t kv_heap_page_get(kv_heap_t *heap, kv_heap_kind_t kind,
    unsigned class, uint32_t leave);
static void kv_heap_page_put(kv_heap_t *heap, uint32_t n);
static inline void kv_heap_place(kv_heap_t *heap, uint32_t n);
static inline uint32_t kv_heap_take(kv_heap_t *heap, uint32_t n);
static inline void kv_heap_give(kv_heap_t *heap, uint32_t n, uint32_t object);


#define kv_heap_start(size)                                                   \
    ((size) >= KV_HEAP_DIRECT ? 0                                             \
     : kv_align((KV_PAGE_SIZE / (size) + 63) / 64 * 8, (size) % 64 ? 8 : 64))

#define kv_heap_objects(size)                                                 \
    ((KV_PAGE_SIZE - kv_heap_start(size)) / (size))

#define kv_heap_of(size)                                                      \
    { (size), kv_heap_start(size), kv_heap_objects(size),                     \
      (uint32_t) (((1ull << 32) + (size) - 1) / (size)),                      \
      (KV_HEAP_BUCKETS << 16) / kv_heap_objects(size) }


/*
 * Every multiple of 64 up to 1024 is here, and beyond there is nothing else:
 * that is what aligns objects whose size is a multiple of 64.  Above 2048
 * sizes are those of which a whole number fills the page but for 1.7 %.
 * kv_heap_class() knows the shape of this table.
 */

const kv_heap_class_t  kv_heap_classes[KV_HEAP_CLASSES] = {
    kv_heap_of(16u), kv_heap_of(24u), kv_heap_of(32u), kv_heap_of(40u),
    kv_heap_of(48u), kv_heap_of(56u), kv_heap_of(64u), kv_heap_of(72u),
    kv_heap_of(80u), kv_heap_of(88u), kv_heap_of(96u), kv_heap_of(104u),
    kv_heap_of(112u), kv_heap_of(120u), kv_heap_of(128u),

    kv_heap_of(144u), kv_heap_of(160u), kv_heap_of(176u), kv_heap_of(192u),
    kv_heap_of(208u), kv_heap_of(224u), kv_heap_of(240u), kv_heap_of(256u),

    kv_heap_of(288u), kv_heap_of(320u), kv_heap_of(352u), kv_heap_of(384u),
    kv_heap_of(416u), kv_heap_of(448u), kv_heap_of(480u), kv_heap_of(512u),

    kv_heap_of(576u), kv_heap_of(640u), kv_heap_of(704u), kv_heap_of(768u),
    kv_heap_of(832u), kv_heap_of(896u), kv_heap_of(960u), kv_heap_of(1024u),

    kv_heap_of(1152u), kv_heap_of(1280u), kv_heap_of(1408u),
    kv_heap_of(1536u), kv_heap_of(1664u), kv_heap_of(1792u),
    kv_heap_of(1920u), kv_heap_of(2048u),

    kv_heap_of(2240u), kv_heap_of(2496u), kv_heap_of(2816u),
    kv_heap_of(3072u), kv_heap_of(3392u), kv_heap_of(3584u),
    kv_heap_of(3840u), kv_heap_of(4096u),

    kv_heap_of(4352u), kv_heap_of(4672u), kv_heap_of(4992u),
    kv_heap_of(5440u), kv_heap_of(5952u), kv_heap_of(6528u),
    kv_heap_of(7232u), kv_heap_of(8192u),

    kv_heap_of(9344u), kv_heap_of(10880u), kv_heap_of(13056u),
    kv_heap_of(16384u), kv_heap_of(21824u), kv_heap_of(KV_HEAP_MAX_CLASS),

    kv_heap_of(KV_PAGE_SIZE)
};

kv_heap_t *
kv_heap_create(void *mem, size_t size)
{
    size_t      n, base;
    uintptr_t   start;
    kv_heap_t  *heap;

    assert((uintptr_t) mem % KV_CACHE_LINE == 0);

    if (size < sizeof(kv_heap_t) + KV_HEAP_MIN_PAGES * KV_PAGE_SIZE) {
        return NULL;
    }

    heap = mem;
    start = (uintptr_t) mem;

    n = (size - sizeof(kv_heap_t)) / (KV_PAGE_SIZE + sizeof(kv_heap_page_t));
    n = kv_min(n, KV_HEAP_NONE - 1);

    for ( ;; ) {
        base = start + sizeof(kv_heap_t) + n * sizeof(kv_heap_page_t);
        base = kv_align(base, 4096) - start;

        if (base + n * KV_PAGE_SIZE <= size) {
            break;
        }

        n--;
    }

    if (n < KV_HEAP_MIN_PAGES) {
        return NULL;
    }

    if (kv_mutex_create(&heap->mutex) != KV_OK) {
        return NULL;
    }

    atomic_init(&heap->changing, false);
    atomic_init(&heap->broken, false);

    heap->pages = n;
    heap->reserve = KV_HEAP_GROUPS + kv_max(1, n / 64);
    heap->base = base;

    kv_poison_region(kv_heap_address(heap, 0),
                     (size_t) heap->pages * KV_PAGE_SIZE);

    kv_heap_reset(heap);

    return heap;
}


void
kv_heap_format(kv_heap_t *heap)
{
    kv_rc_t  rc;

    rc = kv_mutex_lock(&heap->mutex);

    assert(rc == KV_OK || rc == KV_DEAD);
    (void) rc;

    /* a death halfway leaves a broken heap, not a seemingly sound one */
    atomic_store(&heap->broken, true);

    kv_heap_reset(heap);

    kv_failpoint(KV_FAILPOINT_HEAP_FORMAT);

    atomic_store(&heap->changing, false);
    atomic_store(&heap->broken, false);

    kv_mutex_unlock(&heap->mutex);
}


static void
kv_heap_reset(kv_heap_t *heap)
{
    unsigned            kind, class, bucket;
    kv_heap_partial_t  *partial;

    kv_poison_unused(kv_heap_address(heap, 0),
                     (size_t) heap->pages * KV_PAGE_SIZE);

    heap->fresh = 0;
    heap->free = KV_HEAP_NONE;
    kv_set_relaxed(heap->free_pages, heap->pages);
    heap->evacuated = KV_HEAP_NONE;
    heap->choices = 1;

    kv_set_relaxed(heap->taken, 0);

    for (kind = 0; kind < KV_HELD; kind++) {
        kv_set_relaxed(heap->held[kind], 0);
    }

    for (kind = 0; kind < KV_HEAP_KINDS; kind++) {
        heap->used[kind] = 0;

        for (class = 0; class < KV_HEAP_CLASSES; class++) {
            partial = &heap->partial[kind][class];

            partial->free = 0;
            partial->filled = 0;

            for (bucket = 0; bucket < KV_HEAP_BUCKETS; bucket++) {
                partial->head[bucket] = KV_HEAP_NONE;
            }
        }
    }
}


kv_rc_t
kv_heap_lock_read(kv_heap_t *heap)
{
    kv_rc_t  rc;

    if (kv_unlikely(kv_heap_broken(heap))) {
        return KV_DEAD;
    }

    rc = kv_mutex_lock(&heap->mutex);

    if (kv_unlikely(rc == KV_ERROR)) {
        atomic_store(&heap->broken, true);
        return KV_DEAD;
    }

    if (kv_unlikely(rc == KV_DEAD)
        && atomic_load_explicit(&heap->changing, memory_order_relaxed))
    {
        atomic_store(&heap->broken, true);
    }

    /* it may have been marked broken while we waited */

    if (kv_unlikely(kv_heap_broken(heap))) {
        kv_mutex_unlock(&heap->mutex);
        return KV_DEAD;
    }

    return KV_OK;
}


kv_rc_t
kv_heap_lock(kv_heap_t *heap)
{
    kv_rc_t  rc;

    rc = kv_heap_lock_read(heap);

    if (kv_likely(rc == KV_OK)) {

        /* before any change, also for the compiler */

        atomic_store_explicit(&heap->changing, true, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
    }

    return rc;
}


void
kv_heap_unlock(kv_heap_t *heap)
{
    atomic_store_explicit(&heap->changing, false, memory_order_release);

    kv_mutex_unlock(&heap->mutex);
}


bool
kv_heap_broken(kv_heap_t *heap)
{
    return atomic_load_explicit(&heap->broken, memory_order_acquire);
}


void *
kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size)
{
    return kv_heap_alloc_leave(heap, kind, size, kind >= KV_HEAP_NODE
                                                 ? KV_HEAP_GROUPS
                                                 : heap->reserve);
}


void *
kv_heap_alloc_leave(kv_heap_t *heap, kv_heap_kind_t kind, size_t size,
    uint32_t leave)
{
    void                   *p;
    uint32_t                n, object;
    unsigned                class, fullest;
    kv_heap_page_t         *page;
    kv_heap_partial_t      *partial;
    const kv_heap_class_t  *cl;

    assert(kind < KV_HEAP_KINDS);

    class = kv_heap_class(size);
    cl = &kv_heap_classes[class];
    partial = &heap->partial[kind][class];

    if (partial->filled != 0) {
        fullest = 31 - __builtin_clz(partial->filled);
        n = partial->head[fullest];

    } else {
        n = kv_heap_page_get(heap, kind, class, leave);

        if (n == KV_HEAP_NONE) {
            return NULL;
        }
    }

    page = &heap->page[n];

    /* what kv_heap_free() requires of the page when the object comes back */

    assert(n < heap->fresh && page->state == KV_PAGE_USED);
    assert(page->kind == kind && page->class == class);

    object = kv_heap_take(heap, n);

    assert(object < cl->objects);

    partial->free--;
    heap->used[kind] += cl->size;
    kv_set_relaxed(heap->taken, kv_get_relaxed(heap->taken) + cl->size);

    kv_failpoint(KV_FAILPOINT_HEAP_ALLOC);

    kv_heap_place(heap, n);

    p = kv_heap_address(heap, n) + cl->start + (size_t) object * cl->size;

    kv_poison_alloc(p, cl->size);

    return p;
}


void
kv_heap_free(kv_heap_t *heap, void *p)
{
    uint32_t                n, object, offset;
    kv_heap_page_t         *page;
    kv_heap_partial_t      *partial;
    const kv_heap_class_t  *cl;

    n = kv_heap_page(heap, p);

    assert(n < heap->fresh);

    page = &heap->page[n];

    assert(page->state == KV_PAGE_USED || page->state == KV_PAGE_DRAINED);
    assert(page->kind < KV_HEAP_KINDS && page->class < KV_HEAP_CLASSES);

    cl = &kv_heap_classes[page->class];

    assert(page->live > 0 && heap->used[page->kind] >= cl->size);

    offset = (unsigned char *) p - kv_heap_address(heap, n);

    assert(offset >= cl->start);

    /* exact, because offset and size are at most 2^16 */

    offset -= cl->start;
    object = ((uint64_t) offset * cl->inverse) >> 32;

    assert(object < cl->objects && object * cl->size == offset);

    kv_heap_give(heap, n, object);

    kv_poison_free(p, cl->size);

    heap->used[page->kind] -= cl->size;
    kv_set_relaxed(heap->taken, kv_get_relaxed(heap->taken) - cl->size);

    kv_failpoint(KV_FAILPOINT_HEAP_FREE);

    if (page->state == KV_PAGE_DRAINED) {

        if (page->live == 0) {
            kv_heap_page_put(heap, n);
        }

        return;
    }

    partial = &heap->partial[page->kind][page->class];
    partial->free++;

    if (page->live == 0) {
        kv_heap_unlink(heap, n);
        partial->free -= cl->objects;
        kv_heap_page_put(heap, n);
        return;
    }

    kv_heap_place(heap, n);
}


bool
kv_heap_has(kv_heap_t *heap, kv_heap_kind_t kind, size_t size)
{
    return heap->partial[kind][kv_heap_class(size)].filled != 0
           || kv_heap_has_pages(heap, 1);
}


bool
kv_heap_has_pages(kv_heap_t *heap, size_t n)
{
    return kv_get_relaxed(heap->free_pages) >= heap->reserve + n;
}


bool
kv_heap_few_pages(kv_heap_t *heap, unsigned share)
{
    return (uint64_t) kv_get_relaxed(heap->free_pages) * share <= heap->pages;
}


uint32_t
kv_heap_reserve(kv_heap_t *heap)
{
    return heap->reserve;
}


void
kv_heap_hold(kv_heap_t *heap, kv_held_t who, int64_t bytes)
{
    uint64_t  held;

    held = kv_get_relaxed(heap->held[who]) + (uint64_t) bytes;

    assert((int64_t) held >= 0);

    kv_set_relaxed(heap->held[who], held);
}


uint64_t
kv_heap_used(kv_heap_t *heap)
{
    return kv_get_relaxed(heap->taken);
}


uint64_t
kv_heap_held(kv_heap_t *heap, kv_held_t who)
{
    return kv_get_relaxed(heap->held[who]);
}


size_t
kv_heap_class_size(size_t size)
{
    return kv_heap_classes[kv_heap_class(size)].size;
}


kv_heap_kind_t
kv_heap_kind(kv_heap_t *heap, const void *p)
{
    return heap->page[kv_heap_page(heap, p)].kind;
}


bool
kv_heap_contains(kv_heap_t *heap, const void *p)
{
    uintptr_t  start;

    start = (uintptr_t) heap + heap->base;

    return (uintptr_t) p >= start
           && (uintptr_t) p - start < (size_t) heap->pages * KV_PAGE_SIZE;
}


void *
kv_heap_pages(kv_heap_t *heap, size_t *size)
{
    *size = (size_t) heap->pages * KV_PAGE_SIZE;

    return kv_heap_address(heap, 0);
}


void
kv_heap_stat(kv_heap_t *heap, kv_heap_stat_t *st)
{
    uint32_t  free_pages;
    unsigned  kind, class;

    free_pages = kv_get_relaxed(heap->free_pages);

    st->size = (uint64_t) heap->pages * KV_PAGE_SIZE;
    st->used = 0;

    for (kind = 0; kind < KV_HEAP_KINDS; kind++) {
        st->kind[kind] = heap->used[kind];
        st->used += heap->used[kind];
    }

    st->held = (uint64_t) (heap->pages - free_pages) * KV_PAGE_SIZE;
    st->free_pages = free_pages;
    st->reserve_pages = heap->reserve;
    st->movable_pages = 0;

    for (kind = KV_HEAP_ENTRY; kind < KV_HEAP_SYSTEM; kind++) {
        for (class = 0; class < KV_HEAP_CLASSES; class++) {
            st->movable_pages += heap->partial[kind][class].free
                                 / kv_heap_classes[class].objects;
        }
    }
}


static unsigned
kv_heap_class(size_t size)
{
    unsigned  log, class;

    assert(size > 0 && size <= KV_PAGE_SIZE);

    if (size <= 128) {
        return size <= 16 ? 0 : (size - 9) / 8;
    }

    /* eight classes to each doubling, at equal distances up to 2048 */

    log = 31 - __builtin_clz((uint32_t) size - 1);

    if (size <= 2048) {
        return 15 + (log - 7) * 8 + (((size - 1) >> (log - 3)) & 7);
    }

    class = 15 + (kv_min(log, 13) - 7) * 8;

    while (kv_heap_classes[class].size < size) {
        class++;
    }

    return class;
}


static inline uint32_t
kv_heap_page(kv_heap_t *heap, const void *p)
{
    assert(kv_heap_contains(heap, p));

    return ((uintptr_t) p - (uintptr_t) heap - heap->base) / KV_PAGE_SIZE;
}


/* Makes a free page one of this kind and class; KV_HEAP_NONE: none is free. */

static uint32_t
kv_heap_page_get(kv_heap_t *heap, kv_heap_kind_t kind, unsigned class,
    uint32_t leave)
{
    uint32_t                n, words, free_pages;
    uint64_t               *bits;
    kv_heap_page_t         *page;
    const kv_heap_class_t  *cl;

    free_pages = kv_get_relaxed(heap->free_pages);

    if (free_pages <= leave) {
        return KV_HEAP_NONE;
    }

    if (heap->free != KV_HEAP_NONE) {
        n = heap->free;

        assert(n < heap->fresh && heap->page[n].state == KV_PAGE_FREE);

        heap->free = heap->page[n].next;

    } else {
        assert(heap->fresh < heap->pages);

        n = heap->fresh++;
        kv_poison_fresh(kv_heap_address(heap, n), KV_PAGE_SIZE);
    }

    kv_set_relaxed(heap->free_pages, free_pages - 1);

    page = &heap->page[n];
    cl = &kv_heap_classes[class];

    kv_poison_alloc(kv_heap_address(heap, n), cl->start);

    page->next = KV_HEAP_NONE;
    page->prev = KV_HEAP_NONE;
    page->live = 0;
    page->state = KV_PAGE_USED;
    page->kind = kind;
    page->class = class;
    page->bucket = KV_HEAP_UNLISTED;
    page->passed = 0;

    if (cl->start == 0) {
        page->bits = (cl->objects == 64) ? 0 : ~0ull << cl->objects;

    } else {
        bits = (uint64_t *) kv_heap_address(heap, n);
        words = (cl->objects + 63) / 64;

        memset(bits, 0, words * sizeof(uint64_t));

        if (cl->objects % 64 != 0) {
            bits[words - 1] = ~0ull << (cl->objects % 64);
        }

        page->bits = (words == 64) ? 0 : ~0ull << words;
    }

    heap->partial[kind][class].free += cl->objects;

    return n;
}


static void
kv_heap_page_put(kv_heap_t *heap, uint32_t n)
{
    uint32_t         free_pages;
    kv_heap_page_t  *page;

    page = &heap->page[n];
    free_pages = kv_get_relaxed(heap->free_pages);

    assert(page->live == 0 && page->bucket == KV_HEAP_UNLISTED);
    assert(page->state != KV_PAGE_FREE && free_pages < heap->pages);

    if (heap->evacuated == n) {
        heap->evacuated = KV_HEAP_NONE;
    }

    kv_poison_free(kv_heap_address(heap, n),
                   kv_heap_classes[page->class].start);

    page->state = KV_PAGE_FREE;
    page->next = heap->free;

    heap->free = n;
    kv_set_relaxed(heap->free_pages, free_pages + 1);
}


/* Moves a page to the list that it belongs to. */

static inline void
kv_heap_place(kv_heap_t *heap, uint32_t n)
{
    unsigned                bucket;
    kv_heap_page_t         *page;
    const kv_heap_class_t  *cl;

    page = &heap->page[n];
    cl = &kv_heap_classes[page->class];

    bucket = (page->live == cl->objects) ? KV_HEAP_UNLISTED
                                         : (page->live * cl->step) >> 16;

    if (kv_likely(bucket == page->bucket)) {
        return;
    }

    kv_heap_unlink(heap, n);

    if (bucket != KV_HEAP_UNLISTED) {
        kv_heap_link(heap, n, bucket, false);
    }
}


void
kv_heap_link(kv_heap_t *heap, uint32_t n, unsigned bucket, bool last)
{
    uint32_t            head;
    kv_heap_page_t     *page;
    kv_heap_partial_t  *partial;

    page = &heap->page[n];
    partial = &heap->partial[page->kind][page->class];
    head = partial->head[bucket];

    assert(page->bucket == KV_HEAP_UNLISTED);

    page->bucket = bucket;

    if (head == KV_HEAP_NONE) {
        page->next = KV_HEAP_NONE;
        page->prev = n;
        partial->head[bucket] = n;
        partial->filled |= 1u << bucket;
        return;
    }

    page->prev = heap->page[head].prev;
    heap->page[head].prev = n;

    if (last) {
        page->next = KV_HEAP_NONE;
        heap->page[page->prev].next = n;

    } else {
        page->next = head;
        partial->head[bucket] = n;
    }
}


void
kv_heap_unlink(kv_heap_t *heap, uint32_t n)
{
    uint32_t            head;
    kv_heap_page_t     *page;
    kv_heap_partial_t  *partial;

    page = &heap->page[n];

    if (page->bucket == KV_HEAP_UNLISTED) {
        return;
    }

    partial = &heap->partial[page->kind][page->class];
    head = partial->head[page->bucket];

    assert(head != KV_HEAP_NONE);

    if (n != head) {
        heap->page[page->prev].next = page->next;

    } else {
        head = page->next;
        partial->head[page->bucket] = head;

        if (head == KV_HEAP_NONE) {
            partial->filled &= ~(1u << page->bucket);
        }
    }

    if (page->next != KV_HEAP_NONE) {
        heap->page[page->next].prev = page->prev;

    } else if (head != KV_HEAP_NONE) {
        heap->page[head].prev = page->prev;
    }

    page->bucket = KV_HEAP_UNLISTED;
}


/* Allocates the first free object of the page, which has one. */

static inline uint32_t
kv_heap_take(kv_heap_t *heap, uint32_t n)
{
    uint32_t         word, bit;
    uint64_t        *bits;
    kv_heap_page_t  *page;

    page = &heap->page[n];

    assert(page->bits != UINT64_MAX);

    page->live++;

    word = __builtin_ctzll(~page->bits);

    if (kv_heap_classes[page->class].start == 0) {
        page->bits |= 1ull << word;
        return word;
    }

    bits = (uint64_t *) kv_heap_address(heap, n);
    bit = __builtin_ctzll(~bits[word]);
    bits[word] |= 1ull << bit;

    if (bits[word] == UINT64_MAX) {
        page->bits |= 1ull << word;
    }

    return word * 64 + bit;
}


static inline void
kv_heap_give(kv_heap_t *heap, uint32_t n, uint32_t object)
{
    uint64_t        *bits, bit;
    kv_heap_page_t  *page;

    page = &heap->page[n];
    bit = 1ull << (object % 64);

    if (kv_heap_classes[page->class].start == 0) {
        assert(page->bits & bit);

        page->bits &= ~bit;

    } else {
        bits = (uint64_t *) kv_heap_address(heap, n) + object / 64;

        assert(*bits & bit);

        *bits &= ~bit;
        page->bits &= ~(1ull << (object / 64));
    }

    page->live--;
}