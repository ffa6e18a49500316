
/*
 * The map: a hash table in the zone, with readers that take no lock and one
 * writer (the holder of the commit lock).
 *
 * A bucket is one cache line: seven cells and the address of an overflow
 * bucket.  A cell is one word, a 16-bit tag of the hash over the address of the
 * entry, so a lookup costs two cache misses: the bucket, and the entry whose
 * tag matches.  Entries are immutable; a cell is replaced by one store.
 * Nothing moves between cells of a bucket, so a reader that walks a bucket
 * misses nothing that stays.
 *
 * The table grows one bucket at a time (linear hashing: Litwin, "Linear
 * hashing: a new tool for file and table addressing", VLDB 1980), so no request
 * ever waits for a resize.  To split, the writer fills the new bucket while no
 * reader can reach it, publishes the new number of buckets, and then clears the
 * cells in the old one.  A reader that computed its bucket from the old number
 * and did not find its key tries again if the number has changed: it was
 * published before any cell was cleared.
 *
 * Buckets live in chunks of one page, which a root's directory names.  There
 * are three roots.  To clear, the writer makes an empty one current by one
 * store, which no reader can see half of, and takes the other one apart when
 * its last reader has left, in slices between its other work.  The third root
 * serves a second clear meanwhile; then the writer takes the smaller one apart
 * first, to have an empty root again soon.
 *
 * A put cannot fail half way: the overflow bucket that it may need is set aside
 * before (kv_map_reserve), when the operation can still be refused.
 *
 * An ordered index can stand beside this one: kv_map_put() and kv_map_delete()
 * return the entry that was replaced, which is all that a second index needs.
 */


#ifndef KV_MAP_H
#define KV_MAP_H


#include "base/kv_hash.h"
#include "memory/kv_epoch.h"


#define KV_BUCKET_CELLS   7
#define KV_CHUNK_BUCKETS  (KV_PAGE_SIZE / KV_CACHE_LINE)

/* entries per bucket, on average, from which on the table grows */
#define KV_MAP_LOAD         5


typedef struct kv_bucket_s  kv_bucket_t;

struct kv_bucket_s {
    _Alignas(KV_CACHE_LINE)
    _Atomic uint64_t          cell[KV_BUCKET_CELLS];
    _Atomic(kv_bucket_t *)    next;
};


#define KV_MAP_ROOTS        3


typedef enum {
    KV_ROOT_EMPTY = 0,
    KV_ROOT_CURRENT,
    KV_ROOT_LEFT,                          /* cleared; may have readers */
    KV_ROOT_APART                          /* has none: is taken apart */
} kv_root_state_t;


typedef struct {
    _Atomic uint64_t          buckets;     /* never shrinks but to clear */
    _Atomic(kv_bucket_t *)   *chunk;       /* the directory */

    /* the writer's */
    kv_root_state_t           state;
    uint64_t                  epoch;       /* when its last reader is gone */
    uint64_t                  next;        /* bucket to be emptied next */
} kv_map_root_t;


typedef struct {
    _Alignas(KV_CACHE_LINE)
    _Atomic(kv_map_root_t *)  root;
    uint64_t                  seed[2];
    uint32_t                  max_chunks;

    /* the writer's */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint64_t          keys;
    _Atomic uint64_t          bytes;       /* kv_entry_payload() */
    kv_heap_t                *heap;
    kv_retire_list_t         *retired;
    kv_bucket_t              *reserved;    /* overflow buckets set aside */
    uint32_t                  nreserved;
    _Atomic uint32_t          old;         /* roots to be taken apart */
    kv_map_root_t             roots[KV_MAP_ROOTS];
} kv_map_t;


/* What a walk calls; the entry is good to read until the walk returns. */
typedef void (*kv_map_pt)(void *ctx, const kv_entry_t *e);


/* Bytes of directory that a map in a zone of `size` bytes needs. */
size_t kv_map_directory_size(size_t size);

/*
 * Makes an empty map.  `directory` has kv_map_directory_size(size) bytes and
 * belongs to the map from now on.  The seed is new and random the first time
 * (`seed` zero), then kept.  KV_OK, or KV_NO_MEMORY if the heap cannot hold
 * even the first chunks.
 */
kv_rc_t kv_map_create(kv_map_t *map, kv_heap_t *heap, kv_retire_list_t *retired,
    void *directory, size_t size);

static inline uint64_t
kv_map_hash(const kv_map_t *map, const void *key, size_t n)
{
    return kv_hash(map->seed, key, n);
}

/* The entry of a key, or NULL.  Any process, inside an epoch. */
kv_entry_t *kv_map_find(kv_map_t *map, uint64_t hash, const void *key,
    size_t n);

/*
 * Visits the entries of buckets from `from` on, about `n` of them, and returns
 * the bucket to go on with, or 0 after the last.  Entries that stay in the map
 * all the time are seen at least once, whatever the writer does meanwhile,
 * unless it clears.  Any process, inside an epoch.
 */
uint64_t kv_map_walk(kv_map_t *map, uint64_t from, unsigned n, kv_map_pt cb,
    void *ctx);


/* The writer's calls, with the commit lock held. */

/*
 * Reserves the overflow buckets that `n` puts may need.  Returns for how many
 * puts the reserve is enough, or KV_DEAD.
 */
int kv_map_reserve(kv_map_t *map, unsigned n);

/*
 * Frees the reserve: it may keep many pages in use that would be empty
 * otherwise.
 */
void kv_map_unreserve(kv_map_t *map);

/*
 * Makes `e` the entry of its key; there must be a reserve.  Returns the entry
 * that it replaced, which is the caller's to retire, or NULL.
 */
kv_entry_t *kv_map_put(kv_map_t *map, uint64_t hash, kv_entry_t *e);

/* Unlinks a key's entry and returns it, to be retired, or NULL. */
kv_entry_t *kv_map_delete(kv_map_t *map, uint64_t hash, const void *key,
    size_t n);

/*
 * Puts `to`, a copy, in the place of `from`.  False if `from` is not (or no
 * longer) in the map.
 */
bool kv_map_relocate(kv_map_t *map, kv_entry_t *from, kv_entry_t *to);

/* Whether this very entry is in the map. */
bool kv_map_holds(kv_map_t *map, const kv_entry_t *e);

/*
 * Makes sure that the next `n` clears, fewer than KV_MAP_ROOTS, find empty
 * roots: takes apart what earlier ones left, if necessary, by freeing at most
 * `steps` entries and buckets, and those of one bucket more in each call of
 * kv_map_sweep().  KV_OK, KV_AGAIN (that was not enough), KV_BUSY (readers are
 * still in what they left), KV_DEAD.
 */
kv_rc_t kv_map_clearable(kv_map_t *map, unsigned n, unsigned steps);

/* Whether there is nothing to clear, for which it takes no empty root. */
bool kv_map_blank(kv_map_t *map);

/*
 * Removes every key at once; there must be an empty root.  kv_map_sweep() frees
 * the memory.
 */
void kv_map_clear(kv_map_t *map);

/*
 * Frees what clears removed, once its readers are gone: at most `n` entries and
 * buckets, and those of one bucket more.  KV_OK (nothing is left), KV_AGAIN
 * (call again), KV_BUSY (readers are still in it), KV_DEAD.
 */
kv_rc_t kv_map_sweep(kv_map_t *map, unsigned n);

/* Whether kv_map_sweep() has something left to free.  Any process. */
static inline bool
kv_map_unswept(kv_map_t *map)
{
    return atomic_load_explicit(&map->old, memory_order_relaxed) != 0;
}

/*
 * Splits buckets until the load is right, or memory runs out: then chains get
 * longer.  The writer calls it every few puts.
 */
void kv_map_grow(kv_map_t *map);

/*
 * Grows an empty map, which has no reader, for that many keys at once, as far
 * as there is memory, so that none of them has to be moved later.
 */
void kv_map_expect(kv_map_t *map, uint64_t keys);

/* Has the processor fetch the bucket of a key that is read or put next. */
void kv_map_prefetch(kv_map_t *map, uint64_t hash);

/*
 * And then the entry that kv_map_find() will read, if the bucket itself names
 * it.  Inside an epoch, as the bucket may be of a map that is left.
 */
void kv_map_prefetch_entry(kv_map_t *map, uint64_t hash);


#endif /* KV_MAP_H */
