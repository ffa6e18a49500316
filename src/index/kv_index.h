
/*
 * The ordered index: the keys of a zone in byte order, for lists.  Readers take
 * no lock, in any process; the one writer is the holder of the commit lock.
 *
 * It is a B+-tree of keys alone.  It names no entry, so an overwrite, which
 * gives a key a new entry, costs it nothing, and what a list needs beside the
 * key it looks up in the map.  Four ideas keep it small and cheap:
 *
 *   - A leaf keeps what its keys have in common once, and inner nodes keep the
 *     shortest strings that tell their children apart (Bayer and Unterauer,
 *     "Prefix B-trees", TODS 1977).
 *   - A leaf has a sorted part, which never changes, and behind it space to
 *     which new keys are appended as they come; readers sort those few.  When
 *     the space is used up the writer makes a new leaf of both (the leaf of the
 *     BzTree: Arulraj et al., VLDB 2018).  So most new keys write one line of
 *     memory.
 *   - Nodes have the size that their content needs, not a fixed one of which a
 *     third would be empty.
 *   - A key that is deleted is marked in place, which needs no memory.
 *
 * A node is published by one store, into its parent or as the root; what it
 * replaces is retired (memory/kv_epoch.h).  Readers find one or the other, and
 * both are whole.
 *
 * Why not something else: leaves that name entries would have to be written at
 * each overwrite; leaves of hashes alone need 10 bytes a key instead of 16 or
 * so, whatever the length of the keys, but each comparison is a lookup with two
 * cache misses, and a new key would need at least one; an adaptive radix tree
 * (Leis et al., ICDE 2013) needs a pointer of 8 bytes a key and some 8 to 50
 * more for its nodes.
 *
 * A put cannot fail half way.  If a leaf is full and there is no memory for
 * another, the key goes into an object of its own that hangs on the leaf, and
 * for which memory was reserved while the operation could still be refused.
 */


#ifndef KV_INDEX_H
#define KV_INDEX_H


#include "memory/kv_epoch.h"


/* Sizes of the objects that are reserved for single keys. */
#define KV_INDEX_LINKS  9

/* The most keys that kv_index_put_group() takes. */
#define KV_INDEX_GROUP  16

/* The most keys that kv_index_append() takes. */
#define KV_INDEX_APPEND  512


typedef struct kv_index_node_s  kv_index_node_t;
typedef struct kv_index_link_s  kv_index_link_t;


/* A key, or a part of one. */

typedef struct {
    const unsigned char      *p;
    size_t                    n;
} kv_slice_t;


typedef struct {
    _Alignas(KV_CACHE_LINE)
    _Atomic(kv_index_node_t *)  root;      /* NULL: there is no key */

    /* the writer's */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint64_t          keys;
    uint64_t                  changes;     /* of the root or inner nodes */
    kv_heap_t                *heap;
    kv_retire_list_t         *retired;
    kv_index_link_t          *reserve[KV_INDEX_LINKS];
    uint32_t                  reserved[KV_INDEX_LINKS];  /* objects there */
    uint32_t                  promised[KV_INDEX_LINKS];  /* of these */

    /* what left the tree otherwise than by the retire list */
    kv_index_node_t          *left;        /* may have readers */
    kv_index_node_t          *apart;       /* has none: is taken apart */
    uint64_t                  left_epoch;  /* when the last one leaves */
    _Atomic uint32_t          unswept;
} kv_index_t;


/*
 * What a walk calls with each key, which is good to read until it returns.  It
 * returns whether to go on.
 */
typedef bool (*kv_index_pt)(void *ctx, const unsigned char *key, size_t n);


/* Makes an empty index, which takes no memory of the heap. */
void kv_index_create(kv_index_t *index, kv_heap_t *heap,
    kv_retire_list_t *retired);

/*
 * Calls `cb` with the keys from `from` on (with `after`, behind it), in byte
 * order, until it says no or there are no more.  A key that is there all the
 * time is seen exactly once; one that comes or goes meanwhile, at most once.
 * Any process, inside an epoch; takes some 16 KiB of stack.
 */
void kv_index_walk(kv_index_t *index, const void *from, size_t n, bool after,
    kv_index_pt cb, void *ctx);


/* The writer's calls, with the commit lock held. */

/*
 * Gives up the promises of the last batch: what was reserved for them and not
 * used serves the next ones.
 */
void kv_index_reserve_begin(kv_index_t *index);

/*
 * Reserves what the put of a key of `n` bytes may need.  False: there is no
 * memory.
 */
bool kv_index_reserve(kv_index_t *index, size_t n);

/* Frees the reserve. */
void kv_index_unreserve(kv_index_t *index);

/* Adds a key that is not there; there must be a reserve for it. */
void kv_index_put(kv_index_t *index, const void *key, size_t n);

/*
 * The same for at most KV_INDEX_GROUP keys at once, whose leaves the processor
 * fetches at the same time.
 */
void kv_index_put_group(kv_index_t *index, const kv_slice_t *keys, unsigned n);

/*
 * Makes one full leaf of the first of `n` keys, 1 or more, which are in order
 * and come behind all that are there; no key was ever deleted.  Nothing has to
 * be reserved for them.  How many keys it took, KV_INDEX_APPEND at most; 0:
 * there is no memory, and nothing has changed.  What the leaf replaces is
 * retired.
 */
unsigned kv_index_append(kv_index_t *index, const kv_slice_t *keys,
    unsigned n);

/* Removes a key, which must be there.  Needs no memory. */
void kv_index_delete(kv_index_t *index, const void *key, size_t n);

/* Removes all keys at once.  kv_index_sweep() frees the memory. */
void kv_index_clear(kv_index_t *index);

/*
 * Frees what clears removed, once its readers are gone: at most `n` objects.
 * KV_OK (nothing is left), KV_AGAIN (call again), KV_BUSY (readers are still in
 * it), KV_DEAD.
 */
kv_rc_t kv_index_sweep(kv_index_t *index, unsigned n);

/* Whether kv_index_sweep() has something left to free.  Any process. */
static inline bool
kv_index_unswept(kv_index_t *index)
{
    return atomic_load_explicit(&index->unswept, memory_order_relaxed) != 0;
}

/*
 * Moves a KV_HEAP_NODE object of `size` bytes (its class) into another page,
 * for evacuation.  KV_OK: it is retired.  KV_DECLINED: it is left where it is.
 * KV_NO_MEMORY.  With the heap's lock held.
 */
kv_rc_t kv_index_move(kv_index_t *index, void *object, size_t size);

/*
 * Walks everything and checks every invariant; for tests.  KV_OK, or fills
 * `err` and returns KV_DAMAGED.
 */
kv_rc_t kv_index_check(kv_index_t *index, kv_err_t *err);

/*
 * The bytes of heap that it holds, by a walk, the reserve and what is still to
 * be freed included, except what the retire list has; for tests.
 */
uint64_t kv_index_bytes(kv_index_t *index);


#endif /* KV_INDEX_H */
