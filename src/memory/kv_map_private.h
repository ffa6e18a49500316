
/*
 * What the files of the map share: kv_map.c (lookups and single changes),
 * kv_map_split.c (growth), kv_map_clear.c (clear and what it leaves).
 */


#ifndef KV_MAP_PRIVATE_H
#define KV_MAP_PRIVATE_H


#include <assert.h>

#include "memory/kv_map.h"


/*
 * A cell is an entry's address and, in the bits that no address has, the upper
 * bits of its key's hash; 0 is an empty one.
 */
#define KV_TAG_SHIFT     48
#define KV_ADDRESS_MASK  ((UINT64_C(1) << KV_TAG_SHIFT) - 1)

/* entries freed under one hold of the heap's lock */
#define KV_MAP_STEP      64

#define kv_cell_entry(c)   ((kv_entry_t *) (uintptr_t) ((c) & KV_ADDRESS_MASK))
#define kv_cell_tag(c)     ((c) >> KV_TAG_SHIFT)


/*
 * What is so of each entry that a cell names: asserted before it is published,
 * and when it is read.  It is so for readers without a lock, too: these fields
 * were written before the cell (release, acquire), nothing changes them
 * afterwards, and the memory is not used again while a reader is in an epoch
 * that saw the cell.  A writer that dies leaves a cell with or without the
 * entry, but never a part of one.
 */

static inline void
kv_map_assert_entry(const kv_entry_t *e)
{
    assert(e->value_len <= KV_VALUE_MAX && !(e->flags & KV_ENTRY_PARTIAL));
}


static inline bool
kv_bucket_empty(const kv_bucket_t *b)
{
    unsigned  i;

    for (i = 0; i < KV_BUCKET_CELLS; i++) {
        if (kv_get_relaxed(b->cell[i])) {
            return false;
        }
    }

    return true;
}


/* Fetches all entries of a bucket at once, for a caller that reads them all. */

static inline void
kv_map_prefetch_entries(kv_bucket_t *b)
{
    unsigned   i;
    uintptr_t  e;

    for (i = 0; i < KV_BUCKET_CELLS; i++) {
        e = (uintptr_t) kv_cell_entry(kv_get_relaxed(b->cell[i]));

        __builtin_prefetch((void *) e);
        __builtin_prefetch((void *) (e + KV_CACHE_LINE));
    }
}


/* The root's i-th bucket, whose chunk must be there. */

static inline kv_bucket_t *
kv_map_bucket(kv_map_root_t *root, uint64_t i)
{
    kv_bucket_t  *chunk;

    chunk = atomic_load_explicit(&root->chunk[i / KV_CHUNK_BUCKETS],
                                 memory_order_acquire);

    return &chunk[i % KV_CHUNK_BUCKETS];
}


/*
 * The number of the bucket for a hash in a table of `buckets`.  Linear hashing:
 * buckets that are split already take one more bit of the hash.
 */

static inline uint64_t
kv_map_index(uint64_t buckets, uint64_t hash)
{
    uint64_t  half, i;

    half = UINT64_C(1) << (63 - __builtin_clzll(buckets));

    i = hash & (2 * half - 1);

    return i < buckets ? i : i - half;
}


#endif /* KV_MAP_PRIVATE_H */
