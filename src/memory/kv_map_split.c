
/*
 * Growing the map: linear hashing.
 *
 * The table grows by one bucket at a time, at its end.  The entries that belong
 * there come from one other bucket: the writer copies them first, then
 * publishes the new bucket, then empties the old cells.  So a reader finds an
 * entry at each moment in one of the two, or in both.
 */


#include <assert.h>

#include "memory/kv_map_private.h"
#include "base/kv_failpoint.h"


static bool kv_map_split(kv_map_t *map);
static inline uint64_t kv_map_half(uint64_t buckets);
static int kv_map_copy(kv_map_t *map, kv_bucket_t *old, kv_bucket_t *fresh,
    uint64_t number);
static kv_bucket_t *kv_map_add_overflow(kv_map_t *map, kv_bucket_t *tail);
static void kv_map_unsplit(kv_map_t *map, kv_bucket_t *fresh);
static int kv_map_drop_moved(kv_bucket_t *old, kv_bucket_t *fresh);
static void kv_map_unlink_all_empty(kv_map_t *map, kv_bucket_t *b);
static bool kv_map_in_bucket(kv_bucket_t *b, uint64_t s);
static bool kv_map_add_chunk(kv_map_t *map, kv_map_root_t *root, uint64_t i);


void
kv_map_grow(kv_map_t *map)
{
    kv_map_root_t  *root;

    root = kv_get_relaxed(map->root);

    while (kv_get_relaxed(map->keys)
           > kv_get_relaxed(root->buckets) * KV_MAP_LOAD)
    {
        if (!kv_map_split(map)) {
            return;
        }
    }
}


void
kv_map_expect(kv_map_t *map, uint64_t keys)
{
    uint64_t        i, chunks;
    kv_map_root_t  *root;

    root = kv_get_relaxed(map->root);

    assert(kv_get_relaxed(map->keys) == 0);

    chunks = kv_min(keys / KV_MAP_LOAD / KV_CHUNK_BUCKETS + 1,
                    (uint64_t) map->max_chunks);

    for (i = 0; i < chunks; i++) {
        if (!kv_map_add_chunk(map, root, i)) {
            break;
        }
    }

    atomic_store_explicit(&root->buckets,
                          kv_max(i * KV_CHUNK_BUCKETS,
                                 kv_get_relaxed(root->buckets)),
                          memory_order_release);
}


/*
 * Splits the next bucket in line: entries whose hash has the next bit set move
 * to a new bucket at the table's end.  False, with nothing changed, if there is
 * no memory.
 */

static bool
kv_map_split(kv_map_t *map)
{
    int              moves;
    uint64_t         buckets;
    kv_bucket_t     *old, *fresh;
    kv_map_root_t   *root;

    root = kv_get_relaxed(map->root);
    buckets = kv_get_relaxed(root->buckets);

    if (buckets / KV_CHUNK_BUCKETS >= map->max_chunks
        || !kv_map_add_chunk(map, root, buckets / KV_CHUNK_BUCKETS))
    {
        return false;
    }

    old = kv_map_bucket(root, buckets - kv_map_half(buckets));
    fresh = kv_map_bucket(root, buckets);

    assert(kv_bucket_empty(fresh) && kv_get_relaxed(fresh->next) == NULL);

    /* no reader can reach the new bucket yet */

    moves = kv_map_copy(map, old, fresh, buckets);

    if (moves == -1) {
        kv_map_unsplit(map, fresh);
        return false;
    }

    atomic_store_explicit(&root->buckets, buckets + 1, memory_order_release);

    kv_failpoint(KV_FAILPOINT_GROWING);

    if (moves) {
        moves -= kv_map_drop_moved(old, fresh);

        assert(moves == 0);

        kv_map_unlink_all_empty(map, old);
    }

    return true;
}


/* The largest power of two that is not above the number of buckets. */

static inline uint64_t
kv_map_half(uint64_t buckets)
{
    return UINT64_C(1) << (63 - __builtin_clzll(buckets));
}


/*
 * Copies those cells of `old` and its overflow that belong into bucket number
 * `number` of the larger table to `fresh`.  Returns how many there were, or -1:
 * out of memory, `fresh` has some of them.
 */

static int
kv_map_copy(kv_map_t *map, kv_bucket_t *old, kv_bucket_t *fresh,
    uint64_t number)
{
    int           moves;
    uint64_t      s, mask, hash, stays;
    unsigned      i, used;
    kv_entry_t   *e;
    kv_bucket_t  *b, *tail;

    mask = 2 * kv_map_half(number) - 1;
    stays = number - kv_map_half(number);
    tail = fresh;
    used = 0;
    moves = 0;

    for (b = old; b; b = kv_get_relaxed(b->next)) {

        kv_map_prefetch_entries(b);

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            s = kv_get_relaxed(b->cell[i]);

            if (s == 0) {
                continue;
            }

            e = kv_cell_entry(s);
            hash = kv_map_hash(map, e->key, e->key_len);

            /* put where its hash said, it goes to one of these two buckets */

            assert((hash ^ s) >> KV_TAG_SHIFT == 0);

            if ((hash & mask) != number) {
                assert((hash & mask) == stays);
                continue;
            }

            if (used == KV_BUCKET_CELLS) {
                tail = kv_map_add_overflow(map, tail);

                if (tail == NULL) {
                    return -1;
                }

                used = 0;
            }

            kv_set_relaxed(tail->cell[used++], s);
            moves++;
        }
    }

    return moves;
}


/*
 * Links an overflow bucket behind `tail`, and returns it; NULL: out of memory.
 * What is reserved for puts stays reserved.
 */

static kv_bucket_t *
kv_map_add_overflow(kv_map_t *map, kv_bucket_t *tail)
{
    unsigned      n;
    kv_bucket_t  *overflow;

    n = map->nreserved + 1;

    if (kv_map_reserve(map, n) != (int) n) {
        return NULL;
    }

    overflow = map->reserved;

    assert(overflow && kv_bucket_empty(overflow));

    map->reserved = kv_get_relaxed(overflow->next);
    map->nreserved--;

    kv_set_relaxed(overflow->next, NULL);
    kv_set_relaxed(tail->next, overflow);

    return overflow;
}


/* Empties a bucket that no reader has seen; its overflow is reserved again. */

static void
kv_map_unsplit(kv_map_t *map, kv_bucket_t *fresh)
{
    kv_bucket_t  *b;

    while ((b = kv_get_relaxed(fresh->next)) != NULL) {
        kv_set_relaxed(fresh->next, kv_get_relaxed(b->next));

        memset((void *) b, 0, sizeof(kv_bucket_t));

        kv_set_relaxed(b->next, map->reserved);
        map->reserved = b;
        map->nreserved++;
    }

    memset((void *) fresh, 0, sizeof(kv_bucket_t));
}


/* Empties those cells of `old` that `fresh` has; returns how many. */

static int
kv_map_drop_moved(kv_bucket_t *old, kv_bucket_t *fresh)
{
    int           dropped;
    uint64_t      s;
    unsigned      i;
    kv_bucket_t  *b;

    dropped = 0;

    for (b = old; b; b = kv_get_relaxed(b->next)) {

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            s = kv_get_relaxed(b->cell[i]);

            if (s && kv_map_in_bucket(fresh, s)) {
                atomic_store_explicit(&b->cell[i], 0, memory_order_release);
                dropped++;
            }
        }
    }

    return dropped;
}


/* Retires the empty overflow buckets behind `b`; readers in them go on. */

static void
kv_map_unlink_all_empty(kv_map_t *map, kv_bucket_t *b)
{
    kv_bucket_t  *overflow;

    while ((overflow = kv_get_relaxed(b->next)) != NULL) {

        if (!kv_bucket_empty(overflow) || !kv_epoch_spare(map->retired, 1)) {
            b = overflow;
            continue;
        }

        atomic_store_explicit(&b->next, kv_get_relaxed(overflow->next),
                              memory_order_release);
        (void) kv_epoch_retire(map->retired, overflow, KV_RETIRED_OBJECT);
    }
}


/* Whether a cell of the bucket, or of its overflow, is `s`. */

static bool
kv_map_in_bucket(kv_bucket_t *b, uint64_t s)
{
    unsigned  i;

    for ( /* void */ ; b; b = kv_get_relaxed(b->next)) {

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            if (kv_get_relaxed(b->cell[i]) == s) {
                return true;
            }
        }
    }

    return false;
}


/*
 * Allocates the root's i-th chunk, unless it exists from a split that then
 * found no memory.  False if there is no memory.
 */

static bool
kv_map_add_chunk(kv_map_t *map, kv_map_root_t *root, uint64_t i)
{
    kv_bucket_t  *chunk;

    if (kv_get_relaxed(root->chunk[i])) {
        return true;
    }

    if (kv_heap_lock(map->heap) != KV_OK) {
        return false;
    }

    /* not a SYSTEM page: growth must leave the reserve to deletes */

    chunk = kv_heap_alloc(map->heap, KV_HEAP_PIECE, KV_PAGE_SIZE);

    if (chunk) {
        memset(chunk, 0, KV_PAGE_SIZE);
        atomic_store_explicit(&root->chunk[i], chunk,
                              memory_order_release);
    }

    kv_heap_unlock(map->heap);

    return chunk != NULL;
}
