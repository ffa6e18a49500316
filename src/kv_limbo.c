
/*
 * Limbo; see kv_limbo.h.
 */


#include <assert.h>
#include <time.h>

#include "kv_limbo.h"
#include "kv_points.h"


/* objects freed under one hold of the heap's lock, which event loops want */
#define KV_LIMBO_STEP  64


static void kv_limbo_free_piece(kv_limbo_t *limbo, kv_piece_t *piece);
static kv_rc_t kv_limbo_sweep_pinned(kv_limbo_t *limbo);
static void kv_limbo_mark_pins(kv_limbo_t *limbo, const kv_entry_t *only);


void
kv_limbo_create(kv_limbo_t *limbo, kv_heap_t *heap, kv_slot_t *slots,
    unsigned nslots)
{
    limbo->heap = heap;
    limbo->slots = slots;
    limbo->nslots = nslots;
    limbo->pinned = NULL;
    limbo->head = 0;
    limbo->tail = 0;

    if (atomic_load(&limbo->epoch) == 0) {
        atomic_store(&limbo->epoch, 1);
    }
}


kv_rc_t
kv_limbo_retire(kv_limbo_t *limbo, void *object, kv_retired_kind_t kind)
{
    kv_retired_t     *r;
    struct timespec   pause;

    while (kv_limbo_count(limbo) == KV_LIMBO_MAX) {

        if (kv_limbo_reclaim(limbo) != KV_OK) {
            return KV_DEAD;
        }

        if (kv_limbo_count(limbo) == KV_LIMBO_MAX) {
            pause.tv_sec = 0;
            pause.tv_nsec = 20000;
            (void) nanosleep(&pause, NULL);
        }
    }

    r = &limbo->ring[limbo->tail % KV_LIMBO_MAX];
    r->object = (uintptr_t) object | kind;
    r->epoch = atomic_load_explicit(&limbo->epoch, memory_order_relaxed);
    limbo->tail++;

    return KV_OK;
}


kv_rc_t
kv_limbo_reclaim(kv_limbo_t *limbo)
{
    void          *object;
    uint64_t       oldest;
    unsigned       n;
    kv_retired_t  *r;

    if (kv_limbo_count(limbo)) {
        (void) kv_limbo_advance(limbo);
        oldest = kv_epoch_oldest(limbo->slots, limbo->nslots);

        while (kv_limbo_count(limbo)
               && limbo->ring[limbo->head % KV_LIMBO_MAX].epoch < oldest)
        {
            if (kv_heap_lock(limbo->heap) != KV_OK) {
                return KV_DEAD;
            }

            for (n = 0; n < KV_LIMBO_STEP && kv_limbo_count(limbo); n++) {
                r = &limbo->ring[limbo->head % KV_LIMBO_MAX];

                if (r->epoch >= oldest) {
                    break;
                }

                object = (void *) (r->object & ~(uintptr_t) 7);

                switch (r->object & 7) {

                case KV_RETIRED_ENTRY:
                    kv_limbo_free_entry(limbo, object);
                    break;

                case KV_RETIRED_PIECE:
                    kv_limbo_free_piece(limbo, object);
                    break;

                default:
                    kv_heap_free(limbo->heap, object);
                }

                kv_point(KV_POINT_FREEING);

                limbo->head++;
            }

            kv_heap_unlock(limbo->heap);
        }
    }

    if (limbo->pinned) {
        return kv_limbo_sweep_pinned(limbo);
    }

    return KV_OK;
}


uint64_t
kv_limbo_advance(kv_limbo_t *limbo)
{
    return atomic_fetch_add(&limbo->epoch, 1);
}


kv_rc_t
kv_limbo_emptied(kv_limbo_t *limbo, uint64_t epoch)
{
    if (kv_limbo_reclaim(limbo) != KV_OK) {
        return KV_DEAD;
    }

    /*
     * Not told by the epochs alone: a reader that took its epoch from the
     * global one long ago may have entered it since, harmlessly, but it keeps
     * what was retired from being freed.
     */

    if (kv_limbo_count(limbo)
        && limbo->ring[limbo->head % KV_LIMBO_MAX].epoch <= epoch)
    {
        return KV_AGAIN;
    }

    return epoch < kv_epoch_oldest(limbo->slots, limbo->nslots) ? KV_OK
                                                                : KV_AGAIN;
}


void
kv_limbo_free_entry(kv_limbo_t *limbo, kv_entry_t *e)
{
    kv_pieces_t  *pieces;

    if (atomic_load_explicit(&e->pinned, memory_order_acquire)) {
        assert(e->flags & KV_ENTRY_PIECES);

        pieces = kv_entry_pieces(e);
        pieces->next = limbo->pinned;
        limbo->pinned = e;

        return;
    }

    kv_entry_free_locked(limbo->heap, e);
}


/*
 * A reader that pinned the entry may have taken the piece's old address
 * before: then the piece lives as long as the entry.  The entry is there
 * still: objects are freed in the order in which they were retired.
 */

static void
kv_limbo_free_piece(kv_limbo_t *limbo, kv_piece_t *piece)
{
    kv_entry_t   *e;
    kv_pieces_t  *pieces;

    e = piece->owner;

    if (atomic_load_explicit(&e->pinned, memory_order_acquire)) {
        pieces = kv_entry_pieces(e);
        piece->next = pieces->stale;
        pieces->stale = piece;

        return;
    }

    kv_heap_free(limbo->heap, piece);
}


/*
 * An entry in the list is out of the map and of all epochs, so it gets no new
 * pins; one that no record names is free.  Marks and sweeps, because to look
 * for every entry in every record would not scale with slow readers.
 */

static kv_rc_t
kv_limbo_sweep_pinned(kv_limbo_t *limbo)
{
    kv_entry_t   *e, **link;
    kv_pieces_t  *pieces;

    if (kv_heap_lock(limbo->heap) != KV_OK) {
        return KV_DEAD;
    }

    for (e = limbo->pinned; e; e = kv_entry_pieces(e)->next) {
        atomic_store_explicit(&e->pinned, 0, memory_order_relaxed);
    }

    kv_limbo_mark_pins(limbo, NULL);

    link = &limbo->pinned;

    while ((e = *link) != NULL) {
        pieces = kv_entry_pieces(e);

        if (atomic_load_explicit(&e->pinned, memory_order_relaxed)) {
            link = &pieces->next;
            continue;
        }

        *link = pieces->next;
        kv_entry_free_locked(limbo->heap, e);
    }

    kv_heap_unlock(limbo->heap);

    return KV_OK;
}


/*
 * The mark stays when a pin is released, and is looked into when it is in the
 * way.  A reader names the entry in its record first and marks it then, so
 * that either its mark comes after ours was taken away, or we see its record.
 */

bool
kv_limbo_pinned(kv_limbo_t *limbo, kv_entry_t *e)
{
    if (!atomic_load_explicit(&e->pinned, memory_order_acquire)) {
        return false;
    }

    atomic_store_explicit(&e->pinned, 0, memory_order_relaxed);
    kv_fence();

    kv_limbo_mark_pins(limbo, e);

    return atomic_load_explicit(&e->pinned, memory_order_relaxed);
}


/*
 * Marks what records pin, or `only` this entry of all.  Chunks come and go
 * under the heap's lock, which the caller holds.
 */

static void
kv_limbo_mark_pins(kv_limbo_t *limbo, const kv_entry_t *only)
{
    kv_op_t        *op;
    unsigned        i, k;
    kv_entry_t     *e;
    kv_op_chunk_t  *chunk;

    for (i = 0; i < limbo->nslots; i++) {

        for (chunk = limbo->slots[i].chunks; chunk; chunk = chunk->next) {

            for (k = 0; k < KV_OP_CHUNK; k++) {
                op = &chunk->op[k];

                if (atomic_load_explicit(&op->state, memory_order_acquire)
                    != KV_OP_PINNED)
                {
                    continue;
                }

                e = __atomic_load_n(&op->entry, __ATOMIC_ACQUIRE);

                if (e && (only == NULL || e == only)) {
                    atomic_store_explicit(&e->pinned, 1,
                                          memory_order_relaxed);
                }
            }
        }
    }
}
