
/*
 * The zone's heap: pages of 64 KiB, shared by all workers.
 *
 * A page is free, or cut into objects of one size class, or allocated whole.
 * Nothing larger than a page exists: a large value is a list of pages and
 * smaller pieces (kv_entry.h), so a free page serves any need and there is no
 * external fragmentation.  Pages whose objects are mostly free are emptied by
 * evacuation: the committer moves the live objects of a sparse page into other
 * pages of its class, which it can do because an entry is reached through one
 * pointer (kv_compact.h).
 *
 * A page is of one kind and one class until its last object is freed.
 * KV_HEAP_ENTRY, KV_HEAP_PIECE and KV_HEAP_NODE objects can be moved;
 * KV_HEAP_SYSTEM ones (chunks of the map, overflow buckets, operation records)
 * stay where they are.  These and KV_HEAP_NODE (of the ordered index) may use
 * the pages that the other kinds leave as a reserve.  The last KV_HEAP_GROUPS
 * pages of the reserve are left to deletes, because deletes are what frees
 * memory when the zone is full; and the last KV_HEAP_LAST of these to single
 * ones, however many groups of deletes there are.
 *
 * Everything lives in the region; nothing in it is an address of code.
 * Never-used pages are not touched, so the region costs memory only as it
 * fills.
 *
 * One robust process-shared mutex guards all of it.  A process that locks it
 * after a death marks the heap broken, unless the dead owner had said that it
 * only reads: what it was changing is unknown.  From then on kv_heap_lock()
 * fails with KV_DEAD in every process until kv_heap_format(), and the zone is
 * rebuilt from disk.
 */


#ifndef KV_HEAP_H
#define KV_HEAP_H


#include "base/kv_base.h"


#define KV_PAGE_SIZE      65536u

/* the largest object of a class; more than that takes a whole page */
#define KV_HEAP_MAX_CLASS (KV_PAGE_SIZE / 2)


typedef enum {
    KV_HEAP_ENTRY = 0,
    KV_HEAP_PIECE,
    KV_HEAP_NODE,
    KV_HEAP_SYSTEM,
    KV_HEAP_KINDS
} kv_heap_kind_t;


/*
 * The pages that only single deletes may use: one for keys of some size, one
 * for those of all others, and for records; and those with the ones that groups
 * of deletes may use, too, which are as many: for the records of one, and keys
 * of some 50 bytes.
 */
#define KV_HEAP_LAST      2u
#define KV_HEAP_GROUPS    (2 * KV_HEAP_LAST)


/* Holders whose memory is counted separately: see kv_heap_hold(). */

typedef enum {
    KV_HELD_UPLOADS = 0,          /* values that are arriving (kv_entry.h) */
    KV_HELD_READERS,              /* what is kept for slow readers only */
    KV_HELD
} kv_held_t;


typedef struct kv_heap_s  kv_heap_t;


/* A sparse page being emptied; the caller's, kept for one evacuation. */

typedef struct {
    uint32_t        page;
    uint32_t        next;         /* the next object */
    kv_heap_kind_t  kind;
    size_t          size;         /* bytes of each object */
} kv_heap_evac_t;


/* The heap at one moment; sizes are bytes. */

typedef struct {
    uint64_t  size;               /* pages * KV_PAGE_SIZE */
    uint64_t  used;               /* bytes of allocated objects, by class */
    uint64_t  kind[KV_HEAP_KINDS];  /* the same by kind */
    uint64_t  held;               /* bytes of pages that are not free */
    uint64_t  free_pages;
    uint64_t  reserve_pages;
    uint64_t  movable_pages;      /* evacuation may empty at most */
} kv_heap_stat_t;


/*
 * Makes a heap out of `size` bytes at `mem` (aligned to 64 bytes; its content
 * is lost), its mutex included.  Call it once for a region, before other
 * processes see it.  Returns the heap, which is at `mem`, or NULL if the region
 * cannot hold at least 16 pages.
 */
kv_heap_t *kv_heap_create(void *mem, size_t size);

/*
 * Frees everything at once and makes a broken heap usable again.  The caller
 * guarantees that no process uses anything allocated from it, now or later.
 * Takes the lock itself.
 */
void kv_heap_format(kv_heap_t *heap);

/*
 * KV_OK with the lock held, or KV_DEAD without it (see above).  Hold it for
 * microseconds only: event loops wait for it.
 */
kv_rc_t kv_heap_lock(kv_heap_t *heap);
void kv_heap_unlock(kv_heap_t *heap);

/*
 * The same for a caller that changes nothing, neither the heap nor what else
 * the lock protects: if it dies, the heap is not broken.
 */
kv_rc_t kv_heap_lock_read(kv_heap_t *heap);

/* Whether kv_heap_lock() would fail; needs no lock. */
bool kv_heap_broken(kv_heap_t *heap);

/*
 * Allocates an object of at least `size` bytes (1 to KV_PAGE_SIZE), aligned to
 * 8 bytes (to 64 if `size` is a multiple of 64), not zeroed.  NULL if there is
 * no memory for this kind.  With the lock held.
 */
void *kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);

/*
 * The same, but only if at least `leave` pages stay free or no new page is
 * needed: for callers that may use less of the reserve than their kind, or,
 * with 0, all of it.
 */
void *kv_heap_alloc_leave(kv_heap_t *heap, kv_heap_kind_t kind, size_t size,
    uint32_t leave);

/* Whether kv_heap_alloc() would succeed.  With the lock held. */
bool kv_heap_has(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);

/* Whether `n` pages are free beside the reserve.  With the lock held. */
bool kv_heap_has_pages(kv_heap_t *heap, size_t n);

/* Whether at most one of `share` pages is free.  Needs no lock. */
bool kv_heap_few_pages(kv_heap_t *heap, unsigned share);

/* The pages of the reserve.  Needs no lock. */
uint32_t kv_heap_reserve(kv_heap_t *heap);

/*
 * Adds to the bytes of allocated objects that holders of this sort hold.  The
 * heap keeps these sums because they change under its lock, together with what
 * they count, and start at 0 again with kv_heap_format().  With the lock held.
 */
void kv_heap_hold(kv_heap_t *heap, kv_held_t who, int64_t bytes);

/* Bytes of allocated objects.  Needs no lock. */
uint64_t kv_heap_used(kv_heap_t *heap);

/* Needs no lock. */
uint64_t kv_heap_held(kv_heap_t *heap, kv_held_t who);

/* Frees an object.  With the lock held. */
void kv_heap_free(kv_heap_t *heap, void *p);

/*
 * Bytes that an allocation of `size` takes: its class's size.  Needs no
 * lock.
 */
size_t kv_heap_class_size(size_t size);

/* Needs no lock: a page's kind cannot change while an object in it lives. */
kv_heap_kind_t kv_heap_kind(kv_heap_t *heap, const void *p);

/* Whether `p` points into the heap's pages.  Needs no lock. */
bool kv_heap_contains(kv_heap_t *heap, const void *p);

/*
 * The address of the first page, and in *size the bytes of all of them; a heap
 * that was just made or formatted allocates them from the first on.  Needs no
 * lock.
 */
void *kv_heap_pages(kv_heap_t *heap, size_t *size);

/*
 * Chooses the page of a movable kind whose evacuation frees a page for about
 * the least copying (it compares a bounded number of the sparsest), if the free
 * objects in other pages of its class can take its live ones, and stops
 * allocations from it.  KV_OK, or KV_DECLINED if no page is worth it: one that
 * is more than three quarters full never is, unless `dense` says that a free
 * page is worth any copying.  With the lock held, which may be released between
 * the three calls.  One evacuation at a time: if another was begun and not
 * ended, its process died, and its page goes back into use.
 */
kv_rc_t kv_heap_evac_begin(kv_heap_t *heap, kv_heap_evac_t *ev,
    bool dense);

/*
 * The next live object of the page, or NULL after the last.  The caller moves
 * it (or leaves it) and frees the old one, then or later.  With the lock held.
 */
void *kv_heap_evac_next(kv_heap_t *heap, kv_heap_evac_t *ev);

/*
 * Ends the evacuation.  A page that still has live objects goes back into use
 * if `reuse` is set, or when its last object is freed: a page whose moved
 * objects only wait for readers empties by itself.  `reuse` is for a page with
 * objects that could not be moved; other pages are chosen before it from now
 * on.  With the lock held.
 */
void kv_heap_evac_end(kv_heap_t *heap, kv_heap_evac_t *ev, bool reuse);

/*
 * Lets evacuation choose pages with objects that could not be moved like others
 * again: what held them may have gone.  With the lock held.
 */
void kv_heap_evac_retry(kv_heap_t *heap);

/* With the lock held. */
void kv_heap_stat(kv_heap_t *heap, kv_heap_stat_t *st);

/*
 * Walks everything and checks every invariant; for tests.  Returns KV_OK or
 * fills `err` and returns KV_DAMAGED.  With the lock held.
 */
kv_rc_t kv_heap_check(kv_heap_t *heap, kv_err_t *err);


#endif /* KV_HEAP_H */
