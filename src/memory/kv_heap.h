
/*
 * The zone's heap: pages of 64 KiB, shared by all workers.
 *
 * A page is free, or cut into objects of one size class, or handed out
 * whole.  Nothing larger than a page exists: a large value is a list of
 * pages and smaller pieces (kv_entry.h), so a free page serves any need and
 * there is no external fragmentation.  What is left, pages whose objects
 * are mostly free, is undone by evacuation: the committer moves the live
 * objects of a sparse page into other pages of its class, which it can do
 * because an entry is reached through one pointer (kv_compact.h).
 *
 * A page is of one kind and one class until its last object is freed.
 * KV_HEAP_ENTRY and KV_HEAP_PIECE objects can be moved; KV_HEAP_SYSTEM ones
 * (map segments, overflow buckets, operation records) stay where they are,
 * and may use the pages which the others leave as a reserve.  The last
 * KV_HEAP_LAST of those are left to deletes, by all who do not do one: they
 * are what makes room again.
 *
 * Everything lives in the region; nothing in it is an address of code.
 * Never-used pages are not touched, so the region costs memory only as it
 * fills.
 *
 * One robust process-shared mutex guards all of it.  Whoever finds that its
 * owner died, and had not said that it only reads, marks the heap broken: from
 * then on kv_heap_lock() fails with KV_DEAD in every process until
 * kv_heap_format(), because what the dead one was changing is unknown and the
 * zone is rebuilt from disk instead.
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
    KV_HEAP_SYSTEM,
    KV_HEAP_KINDS
} kv_heap_kind_t;


/* the pages that only deletes may use: one for records, one for keys */
#define KV_HEAP_LAST      2u


/* Whose memory is counted beside: see kv_heap_hold(). */

typedef enum {
    KV_HELD_UPLOADS = 0,          /* values that are arriving (kv_entry.h) */
    KV_HELD_READERS,              /* what is kept for slow readers only */
    KV_HELD
} kv_held_t;


typedef struct kv_heap_s  kv_heap_t;


/* A sparse page being emptied; the caller's, kept for one evacuation. */

typedef struct {
    uint32_t        page;
    uint32_t        next;         /* object to look at next */
    kv_heap_kind_t  kind;
    size_t          size;         /* bytes of each object */
} kv_heap_evac_t;


/* A picture of the heap at one moment; sizes are bytes. */

typedef struct {
    uint64_t  size;               /* pages * KV_PAGE_SIZE */
    uint64_t  used;               /* bytes in objects handed out, by class */
    uint64_t  kind[KV_HEAP_KINDS];  /* the same by kind */
    uint64_t  held;               /* bytes of pages that are not free */
    uint64_t  free_pages;
    uint64_t  reserve_pages;
    uint64_t  movable_pages;      /* evacuation could empty, if all moves */
} kv_heap_stat_t;


/*
 * Makes a heap out of `size` bytes at `mem` (aligned to 64 bytes, zeroed or
 * not; its old content is lost), its mutex included.  To be called once for
 * a region, before other processes see it.  Returns the heap, which is at
 * `mem`, or NULL if the region cannot hold at least 16 pages.
 */
kv_heap_t *kv_heap_create(void *mem, size_t size);

/*
 * Frees everything at once and heals a broken heap.  The caller vouches that
 * no process uses anything that the heap handed out, now or later.  Takes
 * the lock itself.
 */
void kv_heap_format(kv_heap_t *heap);

/*
 * KV_OK with the lock held, or KV_DEAD without it (see above).  Held for
 * microseconds: an event loop takes it.
 */
kv_rc_t kv_heap_lock(kv_heap_t *heap);
void kv_heap_unlock(kv_heap_t *heap);

/*
 * The same for who changes nothing, in the heap or in what else the lock
 * protects: its death leaves all whole.
 */
kv_rc_t kv_heap_lock_read(kv_heap_t *heap);

/* Whether kv_heap_lock() would fail; needs no lock. */
bool kv_heap_broken(kv_heap_t *heap);

/*
 * An object of at least `size` bytes (1 to KV_PAGE_SIZE), aligned to 8
 * bytes (to 64 if `size` is a multiple of 64), not zeroed; or NULL if there
 * is no room for one of this kind.  With the lock held.
 */
void *kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);

/*
 * The same, if at least `leave` pages stay free, or none is needed: for those
 * who may use less of the reserve than their kind, or, with 0, all of it.
 */
void *kv_heap_alloc_leave(kv_heap_t *heap, kv_heap_kind_t kind, size_t size,
    uint32_t leave);

/* Whether kv_heap_alloc() would find one.  With the lock held. */
bool kv_heap_has(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);

/* Whether so many pages are free beside the reserve.  With the lock held. */
bool kv_heap_has_pages(kv_heap_t *heap, size_t n);

/* How many pages are the reserve.  Needs no lock. */
uint32_t kv_heap_reserve(kv_heap_t *heap);

/*
 * Adds to what somebody holds, in bytes of objects handed out: the heap keeps
 * the sums, because they change under its lock, with what they count, and are
 * 0 again when everything is (kv_heap_format()).  With the lock held.
 */
void kv_heap_hold(kv_heap_t *heap, kv_held_t who, int64_t bytes);

/* Bytes in objects handed out.  Needs no lock. */
uint64_t kv_heap_used(kv_heap_t *heap);

/* Needs no lock. */
uint64_t kv_heap_held(kv_heap_t *heap, kv_held_t who);

/* Gives an object back.  With the lock held. */
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
 * Where the pages are, and in *size how many bytes they have; a heap that was
 * just made or formatted hands them out from the first on.  Needs no lock.
 */
void *kv_heap_pages(kv_heap_t *heap, size_t *size);

/*
 * Chooses the page of a movable kind whose evacuation frees a page for
 * about the least copying (it looks at a bounded number of the sparsest), if
 * the free objects in other pages of its class can take what lives in it,
 * and takes it out of use for allocations.  KV_OK, or KV_DECLINED if no page
 * is worth it: one that is more than three quarters full never is, unless
 * `dense` says that a free page is worth any copying.  With the lock held,
 * which may be released between the three calls.  One evacuation at a time: if
 * another was begun and not ended, its process died, and its page goes back
 * into use.
 */
kv_rc_t kv_heap_evac_begin(kv_heap_t *heap, kv_heap_evac_t *ev,
    bool dense);

/*
 * The next live object of the page, or NULL after the last.  The caller
 * moves it (or leaves it) and frees the old one, then or later.  With the
 * lock held.
 */
void *kv_heap_evac_next(kv_heap_t *heap, kv_heap_evac_t *ev);

/*
 * Ends it.  A page that is not empty yet goes back into use only when
 * `reuse` is set or when its last object is freed: a page whose movers wait
 * for readers empties by itself.  `reuse` is for one with objects that could
 * not be moved: other pages are chosen before it from now on.  With the lock
 * held.
 */
void kv_heap_evac_end(kv_heap_t *heap, kv_heap_evac_t *ev, bool reuse);

/*
 * Pages with objects that could not be moved are chosen like others again:
 * what held them may have gone.  With the lock held.
 */
void kv_heap_evac_again(kv_heap_t *heap);

/* With the lock held. */
void kv_heap_stat(kv_heap_t *heap, kv_heap_stat_t *st);

/*
 * Walks everything and checks every invariant; for tests.  Returns KV_OK or
 * fills `err` and returns KV_DAMAGED.  With the lock held.
 */
kv_rc_t kv_heap_check(kv_heap_t *heap, kv_err_t *err);


#endif /* KV_HEAP_H */
