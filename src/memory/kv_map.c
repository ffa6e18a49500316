
/*
 * Lookups in the map, and changes of one key.  kv_map.h tells how the map
 * works; it grows in kv_map_split.c and is cleared in kv_map_clear.c.
 */


#include <assert.h>
#include <sys/random.h>

#include "memory/kv_map_private.h"


static _Atomic uint64_t *kv_map_cell(kv_map_t *map, uint64_t hash,
    const void *key, size_t n, kv_bucket_t **in);
static void kv_map_unlink_empty(kv_map_t *map, uint64_t hash,
    kv_bucket_t *empty);


static inline uint64_t
kv_map_pack(uint64_t hash, kv_entry_t *e)
{
    uint64_t  address;

    address = (uint64_t) (uintptr_t) e;

    assert(address && (address & ~KV_ADDRESS_MASK) == 0 && address % 8 == 0);
    assert(e->key_len <= KV_KEY_MAX);
    kv_map_assert_entry(e);

    return (hash >> KV_TAG_SHIFT) << KV_TAG_SHIFT | address;
}


static inline bool
kv_map_match(const kv_entry_t *e, const void *key, size_t n)
{
    return e->key_len == n && memcmp(e->key, key, n) == 0;
}


/* Takes an entry that leaves the map out of the count of bytes. */

static inline void
kv_map_uncount(kv_map_t *map, const kv_entry_t *old)
{
    uint64_t  bytes;

    kv_map_assert_entry(old);

    bytes = kv_get_relaxed(map->bytes) - kv_entry_payload(old);

    assert((int64_t) bytes >= 0);

    kv_set_relaxed(map->bytes, bytes);
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

                if (kv_cell_tag(s) != tag) {
                    continue;
                }

                e = kv_cell_entry(s);

                if (e && kv_map_match(e, key, n)) {
                    kv_map_assert_entry(e);
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
    kv_entry_t     *e;
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
                    e = kv_cell_entry(s);
                    assert(e->key_len <= KV_KEY_MAX);
                    kv_map_assert_entry(e);
                    cb(ctx, e);
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
    _Atomic uint64_t  *cell, *empty;

    kv_set_relaxed(map->bytes,
                   kv_get_relaxed(map->bytes) + kv_entry_payload(e));

    cell = kv_map_cell(map, hash, e->key, e->key_len, &in);

    if (cell) {
        old = kv_cell_entry(atomic_load_explicit(cell, memory_order_relaxed));

        assert(old != e);

        atomic_store_explicit(cell, kv_map_pack(hash, e),
                              memory_order_release);

        kv_map_uncount(map, old);

        return old;
    }

    kv_set_relaxed(map->keys, kv_get_relaxed(map->keys) + 1);

    empty = NULL;
    last = NULL;

    for (b = in; b && empty == NULL; b = kv_get_relaxed(b->next)) {
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

    assert(map->reserved && kv_bucket_empty(map->reserved));

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

    assert(kv_get_relaxed(map->keys) > 0);

    atomic_store_explicit(cell, 0, memory_order_release);

    kv_set_relaxed(map->keys, kv_get_relaxed(map->keys) - 1);
    kv_map_uncount(map, old);

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

    assert(kv_map_match(to, from->key, from->key_len));
    assert(to->value_len == from->value_len);
    assert((to->flags | KV_ENTRY_EXPIRES) == (from->flags | KV_ENTRY_EXPIRES));

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


void
kv_map_prefetch(kv_map_t *map, uint64_t hash)
{
    kv_map_root_t  *root;

    root = atomic_load_explicit(&map->root, memory_order_acquire);

    __builtin_prefetch(kv_map_bucket(root,
                                     kv_map_index(atomic_load_explicit(
                                                        &root->buckets,
                                                      memory_order_acquire),
                                                  hash)));
}


void
kv_map_prefetch_entry(kv_map_t *map, uint64_t hash)
{
    uint64_t        s;
    unsigned        i;
    uintptr_t       e;
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    root = atomic_load_explicit(&map->root, memory_order_acquire);
    b = kv_map_bucket(root, kv_map_index(atomic_load_explicit(&root->buckets,
                                                      memory_order_acquire),
                                         hash));

    for (i = 0; i < KV_BUCKET_CELLS; i++) {
        s = kv_get_relaxed(b->cell[i]);

        if (kv_cell_tag(s) == hash >> KV_TAG_SHIFT) {
            e = (uintptr_t) kv_cell_entry(s);

            __builtin_prefetch((void *) e);
            return;
        }
    }
}


/* Finds a key's cell, and its bucket, for the writer. */

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
    *in = b;

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


/* Unlinks an overflow bucket without entries; readers in it go on. */

static void
kv_map_unlink_empty(kv_map_t *map, uint64_t hash, kv_bucket_t *empty)
{
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    if (!kv_bucket_empty(empty)) {
        return;
    }

    root = kv_get_relaxed(map->root);
    b = kv_map_bucket(root,
                      kv_map_index(kv_get_relaxed(root->buckets), hash));

    if (b == empty || !kv_epoch_spare(map->retired, 1)) {
        return;
    }

    while (kv_get_relaxed(b->next) != empty) {
        b = kv_get_relaxed(b->next);

        assert(b);
    }

    atomic_store_explicit(&b->next, kv_get_relaxed(empty->next),
                          memory_order_release);

    (void) kv_epoch_retire(map->retired, empty, KV_RETIRED_OBJECT);
}