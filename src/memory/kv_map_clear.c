
/*
 * Clearing the map.
 *
 * A clear exchanges the root for an empty one, whatever the number of keys.
 * The root that was left is taken apart when its readers are gone: bucket by
 * bucket, in steps that hold the heap's lock for a short time each.
 */


#include <assert.h>

#include "memory/kv_map_private.h"
#include "base/kv_failpoint.h"


static kv_map_root_t *kv_map_empty_root(kv_map_t *map);
static kv_rc_t kv_map_left_root(kv_map_t *map, kv_map_root_t **least);
static kv_rc_t kv_map_take_apart(kv_map_t *map, kv_map_root_t *root,
    unsigned *n);
static unsigned kv_map_empty_bucket(kv_map_t *map, kv_bucket_t *first);
static void kv_map_free_chunk(kv_map_t *map, kv_map_root_t *root,
    uint64_t i);


kv_rc_t
kv_map_clearable(kv_map_t *map, unsigned n, unsigned steps)
{
    kv_rc_t   rc;
    unsigned  i, empty, step;

    assert(n < KV_MAP_ROOTS);

    for ( ;; ) {
        for (i = 0, empty = 0; i < KV_MAP_ROOTS; i++) {
            empty += map->roots[i].state == KV_ROOT_EMPTY;
        }

        if (empty >= n) {
            return KV_OK;
        }

        if (steps == 0) {
            return KV_AGAIN;
        }

        step = kv_min(steps, (unsigned) KV_MAP_STEP);
        steps -= step;

        rc = kv_map_sweep(map, step);

        if (rc != KV_AGAIN && rc != KV_OK) {
            return rc;
        }
    }
}


bool
kv_map_blank(kv_map_t *map)
{
    kv_map_root_t  *root;

    root = kv_get_relaxed(map->root);

    return kv_get_relaxed(map->keys) == 0
           && kv_get_relaxed(root->buckets) == KV_CHUNK_BUCKETS;
}


void
kv_map_clear(kv_map_t *map)
{
    kv_map_root_t  *root, *empty;

    if (kv_map_blank(map)) {
        return;
    }

    root = kv_get_relaxed(map->root);
    empty = kv_map_empty_root(map);

    assert(empty && empty != root && root->state == KV_ROOT_CURRENT);
    assert(kv_get_relaxed(empty->buckets) == KV_CHUNK_BUCKETS);

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

        /* readers find the current one only, and have left this one */

        assert(root->state == KV_ROOT_APART);
        assert(root != kv_get_relaxed(map->root));

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
 * Chooses the cleared root, without readers, that has the least left to free.
 * KV_OK, KV_BUSY, KV_DEAD.
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


/*
 * Frees everything of a root without readers.  KV_OK (it is empty), KV_AGAIN
 * (`n` is used up), KV_DEAD.
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


/* Empties a bucket; returns how many objects it freed. */

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


/* Frees a chunk; each root keeps its first. */

static void
kv_map_free_chunk(kv_map_t *map, kv_map_root_t *root, uint64_t i)
{
    if (i != 0) {
        kv_heap_free(map->heap, kv_get_relaxed(root->chunk[i]));
        kv_set_relaxed(root->chunk[i], NULL);
    }
}
