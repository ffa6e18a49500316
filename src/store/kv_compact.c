
/*
 * Compaction; see kv_compact.h.
 */


#include <assert.h>

#include "store/kv_compact.h"
#include "base/kv_failpoint.h"


static kv_rc_t kv_compact_object(kv_zone_t *zone, const kv_heap_evac_t *ev,
    void *object);
static kv_rc_t kv_compact_entry(kv_zone_t *zone, kv_entry_t *e, size_t max);
static kv_rc_t kv_compact_piece(kv_zone_t *zone, kv_piece_t *piece,
    size_t size);


kv_rc_t
kv_compact_page(kv_zone_t *zone, bool dense)
{
    void            *object;
    kv_rc_t          rc;
    unsigned         moved, left;
    kv_heap_evac_t   ev;

    if (kv_heap_lock(zone->heap) != KV_OK) {
        return KV_DEAD;
    }

    rc = kv_heap_evac_begin(zone->heap, &ev, dense);

    if (rc != KV_OK) {
        kv_heap_unlock(zone->heap);
        return rc;
    }

    /*
     * The lock is held throughout, for one page of objects: otherwise a worker
     * that builds an entry in this page could free it while it is read here.
     */

    moved = 0;
    left = 0;

    while ((object = kv_heap_evac_next(zone->heap, &ev)) != NULL) {

        rc = kv_compact_object(zone, &ev, object);

        if (rc == KV_OK) {
            moved++;
            kv_failpoint(KV_FAILPOINT_COMPACTING);

        } else {
            left++;

            if (rc != KV_DECLINED) {
                break;
            }
        }
    }

    /* if something is left in it, the page may not be free for long */

    kv_heap_evac_end(zone->heap, &ev, left != 0);
    kv_heap_unlock(zone->heap);

    if (rc == KV_DEAD) {
        return KV_DEAD;
    }

    return moved ? KV_OK : KV_AGAIN;
}


/*
 * Moves an entry or a piece that the map holds, or a node of the index: the
 * rest belongs to workers, or is retired.  KV_OK, KV_DECLINED (left where it
 * is), KV_NO_MEMORY.
 */

static kv_rc_t
kv_compact_object(kv_zone_t *zone, const kv_heap_evac_t *ev, void *object)
{
    kv_rc_t  rc;

    switch (ev->kind) {

    case KV_HEAP_ENTRY:
        rc = kv_compact_entry(zone, object, ev->size);
        break;

    case KV_HEAP_PIECE:
        rc = kv_compact_piece(zone, object, ev->size);
        break;

    default:
        rc = kv_index_move(&zone->index, object, ev->size);
    }

    if (rc == KV_OK) {
        kv_set_relaxed(zone->stats.moved,
                       kv_get_relaxed(zone->stats.moved) + 1);
    }

    return rc;
}


static kv_rc_t
kv_compact_entry(kv_zone_t *zone, kv_entry_t *e, size_t max)
{
    size_t       size;
    kv_entry_t  *copy;

    if (!kv_map_holds(&zone->map, e)
        || kv_epoch_count(&zone->retired) >= KV_RETIRED_MAX)
    {
        return KV_DECLINED;
    }

    size = kv_entry_size(e);

    assert(size <= max);

    copy = kv_heap_alloc(zone->heap, KV_HEAP_ENTRY, size);
    if (copy == NULL) {
        return KV_NO_MEMORY;
    }

    memcpy((void *) copy, (void *) e, size);

    kv_timers_move(&zone->timers, e, copy);
    (void) kv_map_relocate(&zone->map, e, copy);

    return kv_epoch_retire(&zone->retired, e, KV_RETIRED_ENTRY);
}


static kv_rc_t
kv_compact_piece(kv_zone_t *zone, kv_piece_t *piece, size_t size)
{
    uint32_t      i;
    kv_piece_t   *copy;
    kv_entry_t   *e;
    kv_pieces_t  *pieces;

    e = piece->owner;

    if (e->value_len == KV_LENGTH_UNKNOWN || !kv_map_holds(&zone->map, e)
        || kv_epoch_pinned(e)
        || kv_epoch_count(&zone->retired) >= KV_RETIRED_MAX)
    {
        return KV_DECLINED;
    }

    assert(e->flags & KV_ENTRY_PIECES);

    pieces = kv_entry_pieces(e);

    for (i = 0; i < pieces->n; i++) {
        if (kv_get_relaxed(pieces->piece[i]) == (char *) (piece + 1)) {
            break;
        }
    }

    if (i == pieces->n) {
        return KV_DECLINED;         /* moved before, and stale */
    }

    copy = kv_heap_alloc(zone->heap, KV_HEAP_PIECE, size);
    if (copy == NULL) {
        return KV_NO_MEMORY;
    }

    memcpy(copy, piece, size);

    atomic_store_explicit(&pieces->piece[i], (char *) (copy + 1),
                          memory_order_release);

    return kv_epoch_retire(&zone->retired, piece, KV_RETIRED_PIECE);
}
