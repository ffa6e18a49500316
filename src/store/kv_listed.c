
/*
 * The ordered index beside the map; see kv_listed.h.
 */


#include <stdlib.h>

#include "store/kv_listed.h"
#include "store/kv_compact.h"
#include "store/kv_handle.h"
#include "store/kv_sweep.h"


/* entries between two looks at the retire list, while the index is filled */
#define KV_LISTED_STEP  256


/* The entries of a walk through the map. */

typedef struct {
    kv_listed_t          listed;
    kv_rc_t              rc;
    const kv_entry_t   **sorted;       /* all of them, if they are to be */
    uint64_t             n;
    uint64_t             done;
    kv_progress_t       *progress;     /* or NULL */
} kv_fill_t;


static kv_rc_t kv_listed_fill_tight(kv_store_t *store, kv_fill_t *fill);
static kv_rc_t kv_listed_fill_as_they_come(kv_store_t *store, kv_fill_t *fill);
static kv_rc_t kv_listed_fill_in_order(kv_store_t *store, kv_fill_t *fill);
static void kv_listed_tell(const kv_fill_t *fill);
static void kv_listed_collect(void *data, const kv_entry_t *e);
static int kv_listed_compare(const void *one, const void *two);
static void kv_listed_fill_one(void *data, const kv_entry_t *e);


void
kv_listed_flush(kv_listed_t *listed)
{
    if (listed->n) {
        kv_index_put_group(&listed->zone->index, listed->key, listed->n);
        listed->n = 0;
    }
}


void
kv_listed_put(kv_listed_t *listed, const kv_entry_t *e, const kv_entry_t *old)
{
    unsigned  i;

    if (!listed->zone->list) {
        return;
    }

    if (old) {

        /* a key that the same batch has put: its entry may be freed now */

        for (i = 0; i < listed->n; i++) {
            if (listed->key[i].p == (const unsigned char *) old->key) {
                listed->key[i].p = (const unsigned char *) e->key;
            }
        }

        return;
    }

    listed->key[listed->n].p = (const unsigned char *) e->key;
    listed->key[listed->n].n = e->key_len;
    listed->n++;

    if (listed->n == KV_INDEX_GROUP) {
        kv_listed_flush(listed);
    }
}


void
kv_listed_delete(kv_listed_t *listed, const kv_entry_t *old)
{
    if (listed->zone->list) {
        kv_listed_flush(listed);
        kv_index_delete(&listed->zone->index, old->key, old->key_len);
    }
}


void
kv_listed_clear(kv_listed_t *listed)
{
    if (listed->zone->list) {
        listed->n = 0;
        kv_index_clear(&listed->zone->index);
    }
}


bool
kv_listed_reserve(kv_zone_t *zone, const kv_op_t *op)
{
    unsigned  tries;

    if (!zone->list || !kv_op_puts(op)) {
        return true;
    }

    for (tries = 0; tries < KV_SWEEP_NOW / KV_SWEEP_STEP; tries++) {

        if (kv_index_reserve(&zone->index, op->entry->key_len)) {
            return true;
        }

        if (kv_sweep_step(zone, KV_SWEEP_STEP) != KV_AGAIN) {
            break;
        }
    }

    return kv_index_reserve(&zone->index, op->entry->key_len);
}


kv_rc_t
kv_listed_fill(kv_store_t *store, bool tight, kv_progress_t *progress)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;
    kv_fill_t   fill;

    zone = store->zone;

    if (!zone->list) {
        return KV_OK;
    }

    memset(&fill, 0, sizeof(fill));
    fill.progress = progress;

    if (progress) {
        kv_progress_keys(progress, kv_get_relaxed(zone->map.keys),
                         "the list of keys");
    }

    rc = tight ? kv_listed_fill_tight(store, &fill)
               : kv_listed_fill_as_they_come(store, &fill);

    kv_index_unreserve(&zone->index);
    (void) kv_epoch_reclaim(&zone->retired);

    if (rc == KV_OK && kv_index_sweep(&zone->index, UINT32_MAX) == KV_DEAD) {
        rc = KV_DEAD;
    }

    return kv_heap_broken(zone->heap) ? KV_DEAD : rc;
}


/*
 * In order, so that every leaf is full when the next begins, with what is free
 * in whole pages.  The entries stay where they are meanwhile.
 */

static kv_rc_t
kv_listed_fill_tight(kv_store_t *store, kv_fill_t *fill)
{
    kv_rc_t      rc;
    uint64_t     from, keys;
    kv_zone_t   *zone;

    zone = store->zone;
    keys = kv_get_relaxed(zone->map.keys);

    kv_map_unreserve(&zone->map);

    while (kv_compact_page(zone, true) == KV_OK) {
        (void) kv_epoch_reclaim(&zone->retired);
    }

    fill->sorted = malloc((keys + 1) * sizeof(kv_entry_t *));

    if (fill->sorted == NULL) {
        return KV_NO_MEMORY;
    }

    from = 0;

    do {
        from = kv_map_walk(&zone->map, from, KV_LISTED_STEP,
                           kv_listed_collect, fill);
    } while (from);

    assert(fill->n == keys);

    kv_listed_tell(fill);

    qsort(fill->sorted, fill->n, sizeof(kv_entry_t *), kv_listed_compare);

    rc = kv_listed_fill_in_order(store, fill);

    free(fill->sorted);

    return rc;
}


static void
kv_listed_collect(void *data, const kv_entry_t *e)
{
    kv_fill_t  *fill = data;

    fill->sorted[fill->n++] = e;
}


static int
kv_listed_compare(const void *one, const void *two)
{
    int                c;
    const kv_entry_t  *a, *b;

    a = *(const kv_entry_t *const *) one;
    b = *(const kv_entry_t *const *) two;

    c = memcmp(a->key, b->key, kv_min(a->key_len, b->key_len));

    return c ? c : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}


static kv_rc_t
kv_listed_fill_in_order(kv_store_t *store, kv_fill_t *fill)
{
    unsigned            i, n;
    kv_zone_t          *zone;
    kv_slice_t          key[KV_INDEX_APPEND];
    const kv_entry_t  **e;

    zone = store->zone;

    while (fill->done < fill->n) {

        if (kv_store_stopping(store)) {
            return KV_CANCELLED;
        }

        kv_listed_tell(fill);

        if (kv_epoch_reclaim(&zone->retired) != KV_OK) {
            return KV_DEAD;
        }

        n = (unsigned) kv_min(fill->n - fill->done, KV_INDEX_APPEND);

        e = fill->sorted + fill->done;

        for (i = 0; i < n; i++) {
            key[i].p = (const unsigned char *) e[i]->key;
            key[i].n = e[i]->key_len;
        }

        n = kv_index_append(&zone->index, key, n);

        if (n == 0) {
            return KV_NO_MEMORY;
        }

        fill->done += n;
    }

    return KV_OK;
}


static kv_rc_t
kv_listed_fill_as_they_come(kv_store_t *store, kv_fill_t *fill)
{
    uint64_t     from;
    kv_zone_t   *zone;

    zone = store->zone;
    from = 0;

    kv_listed_begin(&fill->listed, zone);
    fill->rc = KV_OK;

    do {
        if (kv_store_stopping(store)) {
            return KV_CANCELLED;
        }

        kv_listed_tell(fill);
        kv_index_reserve_begin(&zone->index);
        from = kv_map_walk(&zone->map, from, KV_LISTED_STEP,
                           kv_listed_fill_one, fill);
        kv_listed_flush(&fill->listed);

        if (kv_epoch_reclaim(&zone->retired) != KV_OK) {
            return KV_DEAD;
        }

    } while (from && fill->rc == KV_OK);

    return fill->rc;
}


static void
kv_listed_fill_one(void *data, const kv_entry_t *e)
{
    kv_fill_t  *fill = data;

    if (fill->rc == KV_OK
        && !kv_index_reserve(&fill->listed.zone->index, e->key_len))
    {
        fill->rc = KV_NO_MEMORY;
    }

    if (fill->rc == KV_OK) {
        kv_listed_put(&fill->listed, e, NULL);
        fill->done++;
    }
}


static void
kv_listed_tell(const kv_fill_t *fill)
{
    if (fill->progress) {
        kv_progress_step(fill->progress, fill->done);
    }
}
