
/*
 * The map; how it works is told in kv_map.h.
 */


#include <assert.h>
#include <sys/random.h>

#include "memory/kv_map.h"
#include "base/kv_failpoint.h"


#define KV_TAG_SHIFT     48
#define KV_ADDRESS_MASK  ((UINT64_C(1) << KV_TAG_SHIFT) - 1)

/* entries freed under one hold of the heap's lock */
#define KV_MAP_STEP      64

#define kv_cell_entry(s)   ((kv_entry_t *) (uintptr_t) ((s) & KV_ADDRESS_MASK))
#define kv_cell_tag(s)     ((s) >> KV_TAG_SHIFT)


static inline kv_bucket_t *kv_map_bucket(kv_map_root_t *root, uint64_t i);
static inline uint64_t kv_map_index(uint64_t buckets, uint64_t hash);
static _Atomic uint64_t *kv_map_cell(kv_map_t *map, uint64_t hash,
    const void *key, size_t n, kv_bucket_t **in);
static bool kv_map_split(kv_map_t *map);
static bool kv_map_add_chunk(kv_map_t *map, kv_map_root_t *root, uint64_t i);
static bool kv_map_in_bucket(kv_bucket_t *b, uint64_t s);
static void kv_map_unlink_empty(kv_map_t *map, uint64_t hash,
    kv_bucket_t *empty);
static kv_map_root_t *kv_map_empty_root(kv_map_t *map);
static kv_rc_t kv_map_left_root(kv_map_t *map, kv_map_root_t **root);
static kv_rc_t kv_map_take_apart(kv_map_t *map, kv_map_root_t *root,
    unsigned *n);
static unsigned kv_map_empty_bucket(kv_map_t *map, kv_bucket_t *first);
static void kv_map_free_chunk(kv_map_t *map, kv_map_root_t *root,
    uint64_t i);


static inline uint64_t
kv_map_pack(uint64_t hash, kv_entry_t *e)
{
    uint64_t  address;

    address = (uint64_t) (uintptr_t) e;

    assert((address & ~KV_ADDRESS_MASK) == 0);

    return (hash >> KV_TAG_SHIFT) << KV_TAG_SHIFT | address;
}


static inline bool
kv_map_match(const kv_entry_t *e, const void *key, size_t n)
{
    return e->key_len == n && memcmp(e->key, key, n) == 0;
}


/* For who will read them all: to be fetched at once, not one by one. */

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


size_t
kv_map_directory_size(size_t size)
{
    return KV_MAP_ROOTS
           * kv_align(size / KV_PAGE_SIZE * sizeof(void *), KV_CACHE_LINE);
}


kv_rc_t
kv_map_create(kv_map_t *map, kv_heap_t *heap, kv_retire_list_t *retired,
    void *directory, size_t size)
{
    size_t        share;
    unsigned      i;
    kv_bucket_t  *chunk;

    share = kv_map_directory_size(size) / KV_MAP_ROOTS;

    map->heap = heap;
    map->retired = retired;
    map->reserved = NULL;
    map->nreserved = 0;
    map->max_chunks = (uint32_t) (share / sizeof(void *));

    atomic_store(&map->old, 0);

    atomic_store(&map->keys, 0);
    atomic_store(&map->bytes, 0);

    if (map->seed[0] == 0 && map->seed[1] == 0) {
        if (getrandom(map->seed, sizeof(map->seed), 0)
            != (ssize_t) sizeof(map->seed))
        {
            return KV_ERROR;
        }
    }

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    /* each root keeps its first chunk: a clear must not need memory */

    for (i = 0; i < KV_MAP_ROOTS; i++) {
        map->roots[i].chunk = (void *) ((char *) directory + i * share);
        map->roots[i].state = KV_ROOT_EMPTY;
        memset((void *) map->roots[i].chunk, 0, share);

        chunk = kv_heap_alloc(heap, KV_HEAP_SYSTEM, KV_PAGE_SIZE);

        if (chunk == NULL) {
            kv_heap_unlock(heap);
            return KV_NO_MEMORY;
        }

        memset(chunk, 0, KV_PAGE_SIZE);
        atomic_store(&map->roots[i].chunk[0], chunk);
        atomic_store(&map->roots[i].buckets, KV_CHUNK_BUCKETS);
    }

    kv_heap_unlock(heap);

    map->roots[0].state = KV_ROOT_CURRENT;
    atomic_store(&map->root, &map->roots[0]);

    return KV_OK;
}


kv_entry_t *
kv_map_find(kv_map_t *map, uint64_t hash, const void *key, size_t n)
{
    uint64_t        buckets, s, tag;
    unsigned        i;
    kv_entry_t     *e;
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    tag = hash >> KV_TAG_SHIFT;

    root = atomic_load_explicit(&map->root, memory_order_acquire);
    buckets = atomic_load_explicit(&root->buckets, memory_order_acquire);

    for ( ;; ) {
        b = kv_map_bucket(root, kv_map_index(buckets, hash));

        do {
            for (i = 0; i < KV_BUCKET_CELLS; i++) {
                s = atomic_load_explicit(&b->cell[i], memory_order_acquire);

                if (kv_cell_tag(s) != tag || s == 0) {
                    continue;
                }

                e = kv_cell_entry(s);

                if (e && kv_map_match(e, key, n)) {
                    return e;
                }
            }

            b = atomic_load_explicit(&b->next, memory_order_acquire);

        } while (b);

        s = buckets;
        buckets = atomic_load_explicit(&root->buckets, memory_order_acquire);

        if (kv_likely(s == buckets)) {
            return NULL;
        }
    }
}


uint64_t
kv_map_walk(kv_map_t *map, uint64_t from, unsigned n, kv_map_pt cb, void *ctx)
{
    uint64_t        s;
    unsigned        i, seen;
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    root = atomic_load_explicit(&map->root, memory_order_acquire);

    /*
     * Upwards: a split moves entries to a bucket of a higher number, so what
     * the walk has not seen yet is never behind it.
     */

    for (seen = 0; seen < n; from++) {

        if (from >= atomic_load_explicit(&root->buckets,
                                         memory_order_acquire))
        {
            return 0;
        }

        b = kv_map_bucket(root, from);

        do {
            kv_map_prefetch_entries(b);

            for (i = 0; i < KV_BUCKET_CELLS; i++) {
                s = atomic_load_explicit(&b->cell[i], memory_order_acquire);

                if (s) {
                    cb(ctx, kv_cell_entry(s));
                    seen++;
                }
            }

            b = atomic_load_explicit(&b->next, memory_order_acquire);

        } while (b);

        seen++;         /* empty buckets take time too */
    }

    return from;
}


int
kv_map_reserve(kv_map_t *map, unsigned n)
{
    kv_bucket_t  *b;

    if (map->nreserved >= n) {
        return (int) n;
    }

    if (kv_heap_lock(map->heap) != KV_OK) {
        return KV_DEAD;
    }

    while (map->nreserved < n) {
        b = kv_heap_alloc(map->heap, KV_HEAP_SYSTEM, sizeof(kv_bucket_t));

        if (b == NULL) {
            break;
        }

        memset(b, 0, sizeof(kv_bucket_t));
        atomic_store_explicit(&b->next, map->reserved, memory_order_relaxed);
        map->reserved = b;
        map->nreserved++;
    }

    kv_heap_unlock(map->heap);

    return (int) kv_min(n, map->nreserved);
}


void
kv_map_unreserve(kv_map_t *map)
{
    kv_bucket_t  *b;

    if (map->reserved == NULL || kv_heap_lock(map->heap) != KV_OK) {
        return;
    }

    while ((b = map->reserved) != NULL) {
        map->reserved = kv_get_relaxed(b->next);
        map->nreserved--;

        kv_heap_free(map->heap, b);
    }

    kv_heap_unlock(map->heap);
}


kv_entry_t *
kv_map_put(kv_map_t *map, uint64_t hash, kv_entry_t *e)
{
    uint64_t           s;
    unsigned           i;
    kv_entry_t        *old;
    kv_bucket_t       *b, *in, *last;
    kv_map_root_t     *root;
    _Atomic uint64_t  *cell, *empty;

    kv_set_relaxed(map->bytes, kv_get_relaxed(map->bytes)
                               + e->key_len + e->value_len);

    cell = kv_map_cell(map, hash, e->key, e->key_len, &in);

    if (cell) {
        old = kv_cell_entry(atomic_load_explicit(cell, memory_order_relaxed));

        atomic_store_explicit(cell, kv_map_pack(hash, e),
                              memory_order_release);

        kv_set_relaxed(map->bytes, kv_get_relaxed(map->bytes)
                                   - old->key_len - old->value_len);
        return old;
    }

    kv_set_relaxed(map->keys, kv_get_relaxed(map->keys) + 1);

    root = atomic_load_explicit(&map->root, memory_order_relaxed);
    b = kv_map_bucket(root,
                      kv_map_index(kv_get_relaxed(root->buckets), hash));

    empty = NULL;
    last = NULL;

    for ( /* void */ ; b && empty == NULL; b = kv_get_relaxed(b->next)) {
        last = b;

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            s = kv_get_relaxed(b->cell[i]);

            if (s == 0) {
                empty = &b->cell[i];
                break;
            }
        }
    }

    if (empty) {
        atomic_store_explicit(empty, kv_map_pack(hash, e),
                              memory_order_release);
        return NULL;
    }

    assert(map->reserved);

    b = map->reserved;
    map->reserved = kv_get_relaxed(b->next);
    map->nreserved--;

    kv_set_relaxed(b->next, NULL);
    kv_set_relaxed(b->cell[0], kv_map_pack(hash, e));

    atomic_store_explicit(&last->next, b, memory_order_release);

    return NULL;
}


kv_entry_t *
kv_map_delete(kv_map_t *map, uint64_t hash, const void *key, size_t n)
{
    kv_entry_t        *old;
    kv_bucket_t       *in;
    _Atomic uint64_t  *cell;

    cell = kv_map_cell(map, hash, key, n, &in);

    if (cell == NULL) {
        return NULL;
    }

    old = kv_cell_entry(kv_get_relaxed(*cell));

    atomic_store_explicit(cell, 0, memory_order_release);

    kv_set_relaxed(map->keys, kv_get_relaxed(map->keys) - 1);
    kv_set_relaxed(map->bytes, kv_get_relaxed(map->bytes)
                               - old->key_len - old->value_len);

    kv_map_unlink_empty(map, hash, in);

    return old;
}


bool
kv_map_relocate(kv_map_t *map, kv_entry_t *from, kv_entry_t *to)
{
    uint64_t           hash;
    kv_bucket_t       *in;
    _Atomic uint64_t  *cell;

    hash = kv_map_hash(map, from->key, from->key_len);
    cell = kv_map_cell(map, hash, from->key, from->key_len, &in);

    if (cell == NULL || kv_cell_entry(kv_get_relaxed(*cell)) != from) {
        return false;
    }

    atomic_store_explicit(cell, kv_map_pack(hash, to), memory_order_release);

    return true;
}


bool
kv_map_holds(kv_map_t *map, const kv_entry_t *e)
{
    uint64_t           hash;
    kv_bucket_t       *in;
    _Atomic uint64_t  *cell;

    hash = kv_map_hash(map, e->key, e->key_len);
    cell = kv_map_cell(map, hash, e->key, e->key_len, &in);

    return cell && kv_cell_entry(kv_get_relaxed(*cell)) == e;
}


kv_rc_t
kv_map_clearable(kv_map_t *map, unsigned n)
{
    kv_rc_t   rc;
    unsigned  i, empty;

    assert(n < KV_MAP_ROOTS);

    for ( ;; ) {
        for (i = 0, empty = 0; i < KV_MAP_ROOTS; i++) {
            empty += map->roots[i].state == KV_ROOT_EMPTY;
        }

        if (empty >= n) {
            return KV_OK;
        }

        rc = kv_map_sweep(map, KV_MAP_STEP);

        if (rc != KV_AGAIN && rc != KV_OK) {
            return rc;
        }
    }
}


void
kv_map_clear(kv_map_t *map)
{
    kv_map_root_t  *root, *empty;

    root = atomic_load_explicit(&map->root, memory_order_relaxed);

    if (kv_get_relaxed(map->keys) == 0
        && kv_get_relaxed(root->buckets) == KV_CHUNK_BUCKETS)
    {
        return;
    }

    empty = kv_map_empty_root(map);

    assert(empty);

    empty->state = KV_ROOT_CURRENT;
    root->state = KV_ROOT_LEFT;
    root->next = 0;

    atomic_store_explicit(&map->root, empty, memory_order_release);

    kv_failpoint(KV_FAILPOINT_CLEARED);

    kv_set_relaxed(map->keys, 0);
    kv_set_relaxed(map->bytes, 0);

    root->epoch = kv_epoch_advance(map->retired);

    (void) atomic_fetch_add(&map->old, 1);
}


kv_rc_t
kv_map_sweep(kv_map_t *map, unsigned n)
{
    kv_rc_t         rc;
    kv_map_root_t  *root;

    while (kv_map_unswept(map)) {
        rc = kv_map_left_root(map, &root);

        if (rc != KV_OK) {
            return rc;
        }

        rc = kv_map_take_apart(map, root, &n);

        if (rc != KV_OK) {
            return rc;
        }

        root->state = KV_ROOT_EMPTY;
        (void) atomic_fetch_sub(&map->old, 1);
    }

    return KV_OK;
}


static kv_map_root_t *
kv_map_empty_root(kv_map_t *map)
{
    unsigned  i;

    for (i = 0; i < KV_MAP_ROOTS; i++) {
        if (map->roots[i].state == KV_ROOT_EMPTY) {
            return &map->roots[i];
        }
    }

    return NULL;
}


/*
 * The one with the least left to do, of those without readers.  KV_OK, KV_BUSY,
 * KV_DEAD.
 */

static kv_rc_t
kv_map_left_root(kv_map_t *map, kv_map_root_t **least)
{
    kv_rc_t         rc;
    uint64_t        left, best;
    unsigned        i;
    kv_map_root_t  *root;

    *least = NULL;
    best = UINT64_MAX;

    for (i = 0; i < KV_MAP_ROOTS; i++) {
        root = &map->roots[i];

        if (root->state == KV_ROOT_LEFT) {
            rc = kv_epoch_emptied(map->retired, root->epoch);

            if (rc == KV_DEAD) {
                return KV_DEAD;
            }

            if (rc == KV_OK) {
                root->state = KV_ROOT_APART;
            }
        }

        left = kv_get_relaxed(root->buckets) - root->next;

        if (root->state == KV_ROOT_APART && left < best) {
            best = left;
            *least = root;
        }
    }

    return *least ? KV_OK : KV_BUSY;
}


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


void
kv_map_prefetch(kv_map_t *map, uint64_t hash)
{
    kv_map_root_t  *root;

    root = kv_get_relaxed(map->root);

    __builtin_prefetch(kv_map_bucket(root,
                                     kv_map_index(kv_get_relaxed(
                                                        root->buckets),
                                                  hash)));
}


static inline kv_bucket_t *
kv_map_bucket(kv_map_root_t *root, uint64_t i)
{
    kv_bucket_t  *chunk;

    chunk = atomic_load_explicit(&root->chunk[i / KV_CHUNK_BUCKETS],
                                 memory_order_acquire);

    return &chunk[i % KV_CHUNK_BUCKETS];
}


/* Linear hashing: one more bit of the hash for buckets already split. */

static inline uint64_t
kv_map_index(uint64_t buckets, uint64_t hash)
{
    uint64_t  half, i;

    half = UINT64_C(1) << (63 - __builtin_clzll(buckets));

    i = hash & (2 * half - 1);

    return i < buckets ? i : i - half;
}


/* Where a key's entry is, and in which bucket; the writer's way to look. */

static _Atomic uint64_t *
kv_map_cell(kv_map_t *map, uint64_t hash, const void *key, size_t n,
    kv_bucket_t **in)
{
    uint64_t        s;
    unsigned        i;
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    root = kv_get_relaxed(map->root);
    b = kv_map_bucket(root,
                      kv_map_index(kv_get_relaxed(root->buckets), hash));

    for ( /* void */ ; b; b = kv_get_relaxed(b->next)) {

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            s = kv_get_relaxed(b->cell[i]);

            if (s && kv_cell_tag(s) == hash >> KV_TAG_SHIFT
                && kv_map_match(kv_cell_entry(s), key, n))
            {
                *in = b;
                return &b->cell[i];
            }
        }
    }

    return NULL;
}


/*
 * Splits the next bucket in line.  Returns false, with nothing changed, if
 * there is no memory.
 */

static bool
kv_map_split(kv_map_t *map)
{
    bool            ok;
    uint64_t        buckets, half, s, hash;
    unsigned        i, k, moves, want;
    kv_entry_t     *e;
    kv_bucket_t    *b, *old, *fresh, *overflow;
    kv_map_root_t  *root;

    root = kv_get_relaxed(map->root);
    buckets = kv_get_relaxed(root->buckets);
    half = UINT64_C(1) << (63 - __builtin_clzll(buckets));

    if (buckets / KV_CHUNK_BUCKETS >= map->max_chunks) {
        return false;
    }

    if (!kv_map_add_chunk(map, root, buckets / KV_CHUNK_BUCKETS)) {
        return false;
    }

    old = kv_map_bucket(root, buckets - half);
    fresh = kv_map_bucket(root, buckets);

    /* fill the new bucket; nobody looks there yet */

    ok = true;
    moves = 0;
    k = 0;

    for (b = old; b; b = kv_get_relaxed(b->next)) {

        kv_map_prefetch_entries(b);

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            s = kv_get_relaxed(b->cell[i]);

            if (s == 0) {
                continue;
            }

            e = kv_cell_entry(s);
            hash = kv_map_hash(map, e->key, e->key_len);

            if ((hash & (2 * half - 1)) != buckets) {
                continue;
            }

            if (k == KV_BUCKET_CELLS) {

                /* what is set aside for puts stays so */

                want = map->nreserved + 1;

                if (kv_map_reserve(map, want) != (int) want) {
                    ok = false;
                    goto done;
                }

                overflow = map->reserved;
                map->reserved = kv_get_relaxed(overflow->next);
                map->nreserved--;

                kv_set_relaxed(overflow->next, NULL);
                kv_set_relaxed(fresh->next, overflow);
                fresh = overflow;
                k = 0;
            }

            kv_set_relaxed(fresh->cell[k++], s);
            moves++;
        }
    }

done:

    fresh = kv_map_bucket(root, buckets);

    if (!ok) {

        /* unseen, so it can simply be emptied */

        while ((b = kv_get_relaxed(fresh->next)) != NULL) {
            kv_set_relaxed(fresh->next, kv_get_relaxed(b->next));
            memset((void *) b, 0, sizeof(kv_bucket_t));
            kv_set_relaxed(b->next, map->reserved);
            map->reserved = b;
            map->nreserved++;
        }

        memset((void *) fresh, 0, sizeof(kv_bucket_t));

        return false;
    }

    atomic_store_explicit(&root->buckets, buckets + 1, memory_order_release);

    kv_failpoint(KV_FAILPOINT_GROWING);

    if (moves == 0) {
        return true;
    }

    for (b = old; b; b = kv_get_relaxed(b->next)) {

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            s = kv_get_relaxed(b->cell[i]);

            if (s && kv_map_in_bucket(fresh, s)) {
                atomic_store_explicit(&b->cell[i], 0, memory_order_release);
            }
        }
    }

    /* overflow buckets that got empty go */

    b = old;

    while ((overflow = kv_get_relaxed(b->next)) != NULL) {

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            if (kv_get_relaxed(overflow->cell[i])) {
                break;
            }
        }

        if (i < KV_BUCKET_CELLS || !kv_epoch_spare(map->retired)) {
            b = overflow;
            continue;
        }

        atomic_store_explicit(&b->next, kv_get_relaxed(overflow->next),
                              memory_order_release);
        (void) kv_epoch_retire(map->retired, overflow, KV_RETIRED_OBJECT);
    }

    return true;
}


/*
 * Sees to it that the root's i-th chunk is there.  It may be already, from a
 * split that then found no memory.
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

    /* not a SYSTEM one: to grow must leave the reserve to deletes */

    chunk = kv_heap_alloc(map->heap, KV_HEAP_PIECE, KV_PAGE_SIZE);

    if (chunk) {
        memset(chunk, 0, KV_PAGE_SIZE);
        atomic_store_explicit(&root->chunk[i], chunk,
                              memory_order_release);
    }

    kv_heap_unlock(map->heap);

    return chunk != NULL;
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


/* An overflow bucket without entries is unlinked; readers in it go on. */

static void
kv_map_unlink_empty(kv_map_t *map, uint64_t hash, kv_bucket_t *empty)
{
    unsigned        i;
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    for (i = 0; i < KV_BUCKET_CELLS; i++) {
        if (kv_get_relaxed(empty->cell[i])) {
            return;
        }
    }

    root = kv_get_relaxed(map->root);
    b = kv_map_bucket(root,
                      kv_map_index(kv_get_relaxed(root->buckets), hash));

    if (b == empty || !kv_epoch_spare(map->retired)) {
        return;
    }

    while (kv_get_relaxed(b->next) != empty) {
        b = kv_get_relaxed(b->next);
    }

    atomic_store_explicit(&b->next, kv_get_relaxed(empty->next),
                          memory_order_release);

    (void) kv_epoch_retire(map->retired, empty, KV_RETIRED_OBJECT);
}


/*
 * Nobody sees this root any more: everything goes back to the heap.  KV_OK (it
 * is empty), KV_AGAIN (`n` is used up), KV_DEAD.
 */

static kv_rc_t
kv_map_take_apart(kv_map_t *map, kv_map_root_t *root, unsigned *n)
{
    uint64_t  i, buckets;
    unsigned  work, done;

    buckets = kv_get_relaxed(root->buckets);
    done = 0;

    if (kv_heap_lock(map->heap) != KV_OK) {
        return KV_DEAD;
    }

    while (root->next < buckets) {

        if (*n == 0) {
            kv_heap_unlock(map->heap);
            return KV_AGAIN;
        }

        work = 1 + kv_map_empty_bucket(map, kv_map_bucket(root, root->next));

        done += work;
        *n -= kv_min(*n, work);

        root->next++;

        if (root->next % KV_CHUNK_BUCKETS == 0) {
            kv_map_free_chunk(map, root,
                              root->next / KV_CHUNK_BUCKETS - 1);
        }

        kv_failpoint(KV_FAILPOINT_SWEEPING);

        if (done >= KV_MAP_STEP) {
            done = 0;
            kv_heap_unlock(map->heap);

            if (kv_heap_lock(map->heap) != KV_OK) {
                return KV_DEAD;
            }
        }
    }

    /* the last one, and one more if a split found no memory after it */

    for (i = root->next / KV_CHUNK_BUCKETS;
         i < map->max_chunks && kv_get_relaxed(root->chunk[i]);
         i++)
    {
        kv_map_free_chunk(map, root, i);
    }

    kv_set_relaxed(root->buckets, KV_CHUNK_BUCKETS);

    kv_heap_unlock(map->heap);

    return KV_OK;
}


/* Returns how many objects it freed. */

static unsigned
kv_map_empty_bucket(kv_map_t *map, kv_bucket_t *first)
{
    uint64_t      s;
    unsigned      k, freed;
    kv_bucket_t  *b, *next;

    freed = 0;

    for (b = first; b; b = next) {
        next = kv_get_relaxed(b->next);

        kv_map_prefetch_entries(b);

        for (k = 0; k < KV_BUCKET_CELLS; k++) {
            s = kv_get_relaxed(b->cell[k]);

            if (s) {
                kv_epoch_free_entry(map->retired, kv_cell_entry(s));
                freed++;
            }
        }

        if (b != first) {
            kv_heap_free(map->heap, b);
            freed++;
        }
    }

    memset((void *) first, 0, sizeof(kv_bucket_t));

    return freed;
}


/* Each root keeps its first. */

static void
kv_map_free_chunk(kv_map_t *map, kv_map_root_t *root, uint64_t i)
{
    if (i != 0) {
        kv_heap_free(map->heap, kv_get_relaxed(root->chunk[i]));
        kv_set_relaxed(root->chunk[i], NULL);
    }
}
