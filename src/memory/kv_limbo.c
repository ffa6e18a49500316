
/*
 * Limbo; see kv_limbo.h.
 */


#include <assert.h>

#include "memory/kv_limbo.h"
#include "base/kv_points.h"


/* objects freed under one hold of the heap's lock, which event loops want */
#define KV_LIMBO_STEP  64

/* how often pins are looked for that the dead took with them; nanoseconds */
#define KV_LIMBO_LOST  1000000000u


static void kv_limbo_free_piece(kv_limbo_t *limbo, kv_piece_t *piece);
static uint64_t kv_limbo_room(const kv_limbo_t *limbo);
static void kv_limbo_free_some(kv_limbo_t *limbo, uint64_t oldest);
static bool kv_limbo_refill(kv_limbo_t *limbo);
static bool kv_limbo_done(const kv_limbo_t *limbo,
    const kv_limbo_chunk_t *chunk);
static kv_rc_t kv_limbo_drop_chunks(kv_limbo_t *limbo);
static kv_rc_t kv_limbo_sweep_pinned(kv_limbo_t *limbo);
static void kv_limbo_hold(kv_limbo_t *limbo, const kv_entry_t *e, int sign);
static bool kv_limbo_find_lost(kv_limbo_t *limbo);
static bool kv_limbo_see_records(kv_limbo_t *limbo);


void
kv_limbo_create(kv_limbo_t *limbo, kv_heap_t *heap, kv_slot_t *slots,
    unsigned nslots)
{
    limbo->heap = heap;
    limbo->slots = slots;
    limbo->nslots = nslots;
    limbo->pinned = NULL;
    limbo->swept = 0;
    limbo->searched_ns = 0;
    limbo->lost = false;
    limbo->looked = 0;
    atomic_store(&limbo->released, 0);
    limbo->stale = 0;
    limbo->stale_from = 0;
    limbo->chunks = NULL;
    limbo->behind = 0;
    limbo->promised = 0;
    limbo->head = 0;
    limbo->tail = 0;

    if (atomic_load(&limbo->epoch) == 0) {
        atomic_store(&limbo->epoch, 1);
    }
}


int
kv_limbo_reserve(kv_limbo_t *limbo, unsigned n)
{
    uint64_t            room;
    kv_limbo_chunk_t   *chunk, **link;

    limbo->promised = 0;

    if (kv_limbo_room(limbo) < n && kv_limbo_reclaim(limbo) != KV_OK) {
        return KV_DEAD;
    }

    for ( ;; ) {
        room = kv_limbo_room(limbo);

        if (room >= n) {
            break;
        }

        if (kv_heap_lock(limbo->heap) != KV_OK) {
            return KV_DEAD;
        }

        chunk = kv_heap_alloc(limbo->heap, KV_HEAP_SYSTEM,
                              sizeof(kv_limbo_chunk_t));
        kv_heap_unlock(limbo->heap);

        if (chunk == NULL) {
            break;
        }

        chunk->next = NULL;
        chunk->head = 0;
        chunk->tail = 0;

        for (link = &limbo->chunks; *link; link = &(*link)->next) {
            /* void */
        }

        *link = chunk;
    }

    limbo->promised = (unsigned) kv_min(room, (uint64_t) n);

    return (int) limbo->promised;
}


kv_rc_t
kv_limbo_retire(kv_limbo_t *limbo, void *object, kv_retired_kind_t kind)
{
    kv_retired_t      *r;
    kv_limbo_chunk_t  *chunk;

    if (kv_limbo_count(limbo) >= KV_LIMBO_MAX
        && kv_limbo_room(limbo) <= limbo->promised
        && kv_limbo_reclaim(limbo) != KV_OK)
    {
        return KV_DEAD;
    }

    if (kv_limbo_count(limbo) < KV_LIMBO_MAX && limbo->behind == 0) {
        r = &limbo->ring[limbo->tail % KV_LIMBO_MAX];
        limbo->tail++;

    } else {

        for (chunk = limbo->chunks;
             chunk && chunk->tail == KV_LIMBO_CHUNK;
             chunk = chunk->next)
        {
            /* void */
        }

        if (chunk == NULL) {
            return KV_NO_MEMORY;
        }

        r = &chunk->r[chunk->tail++];
        limbo->behind++;
    }

    r->object = (uintptr_t) object | kind;
    r->epoch = atomic_load_explicit(&limbo->epoch, memory_order_relaxed);

    if (kind == KV_RETIRED_ENTRY && limbo->promised) {
        limbo->promised--;
    }

    return KV_OK;
}


bool
kv_limbo_spare(kv_limbo_t *limbo)
{
    if (kv_limbo_room(limbo) > limbo->promised) {
        return true;
    }

    return kv_limbo_reclaim(limbo) == KV_OK
           && kv_limbo_room(limbo) > limbo->promised;
}


/* How many objects it can take. */

static uint64_t
kv_limbo_room(const kv_limbo_t *limbo)
{
    uint64_t                 room;
    const kv_limbo_chunk_t  *chunk;

    room = limbo->behind ? 0 : KV_LIMBO_MAX - (limbo->tail - limbo->head);

    for (chunk = limbo->chunks; chunk; chunk = chunk->next) {
        room += KV_LIMBO_CHUNK - chunk->tail;
    }

    return room;
}


kv_rc_t
kv_limbo_reclaim(kv_limbo_t *limbo)
{
    uint64_t  oldest;

    if (kv_limbo_count(limbo)) {
        (void) kv_limbo_advance(limbo);
        oldest = kv_epoch_oldest(limbo->slots, limbo->nslots);

        do {
            while (limbo->head != limbo->tail
                   && limbo->ring[limbo->head % KV_LIMBO_MAX].epoch < oldest)
            {
                if (kv_heap_lock(limbo->heap) != KV_OK) {
                    return KV_DEAD;
                }

                kv_limbo_free_some(limbo, oldest);
                kv_heap_unlock(limbo->heap);
            }

        } while (kv_limbo_refill(limbo));
    }

    if (kv_limbo_done(limbo, limbo->chunks)
        && kv_limbo_drop_chunks(limbo) != KV_OK)
    {
        return KV_DEAD;
    }

    if (limbo->pinned) {
        return kv_limbo_sweep_pinned(limbo);
    }

    return KV_OK;
}


/* With the heap's lock held: so many that event loops need not wait long. */

static void
kv_limbo_free_some(kv_limbo_t *limbo, uint64_t oldest)
{
    void          *object;
    unsigned       n;
    kv_retired_t  *r;

    for (n = 0; n < KV_LIMBO_STEP && limbo->head != limbo->tail; n++) {
        r = &limbo->ring[limbo->head % KV_LIMBO_MAX];

        if (r->epoch >= oldest) {
            return;
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
}


/* The ring takes what waits behind it.  Whether anything did. */

static bool
kv_limbo_refill(kv_limbo_t *limbo)
{
    bool               some;
    kv_limbo_chunk_t  *chunk;

    some = false;
    chunk = limbo->chunks;

    while (limbo->behind && limbo->tail - limbo->head < KV_LIMBO_MAX) {

        if (chunk->head == chunk->tail) {
            chunk = chunk->next;
            continue;
        }

        limbo->ring[limbo->tail % KV_LIMBO_MAX] = chunk->r[chunk->head++];
        limbo->tail++;
        limbo->behind--;
        some = true;
    }

    if (limbo->behind == 0) {

        for (chunk = limbo->chunks; chunk; chunk = chunk->next) {
            chunk->head = 0;
            chunk->tail = 0;
        }
    }

    return some;
}


/* Whether a chunk, the first, is not needed any more. */

static bool
kv_limbo_done(const kv_limbo_t *limbo, const kv_limbo_chunk_t *chunk)
{
    return chunk
           && (chunk->head == KV_LIMBO_CHUNK
               || (limbo->behind == 0 && limbo->promised == 0));
}


static kv_rc_t
kv_limbo_drop_chunks(kv_limbo_t *limbo)
{
    kv_limbo_chunk_t  *chunk;

    if (kv_heap_lock(limbo->heap) != KV_OK) {
        return KV_DEAD;
    }

    while (kv_limbo_done(limbo, limbo->chunks)) {
        chunk = limbo->chunks;
        limbo->chunks = chunk->next;
        kv_heap_free(limbo->heap, chunk);
    }

    kv_heap_unlock(limbo->heap);

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

    if (e->flags & KV_ENTRY_PIECES) {
        pieces = kv_entry_pieces(e);

        /* who takes the last pin away sees this mark, or we see no pin */

        if (atomic_fetch_or(&pieces->pins, KV_PINS_LISTED) != 0) {
            pieces->next = limbo->pinned;
            limbo->pinned = e;

            kv_limbo_hold(limbo, e, 1);

            return;
        }
    }

    kv_entry_free_locked(limbo->heap, e);
}


/* Takes it into the account of slow readers, or out of it. */

static void
kv_limbo_hold(kv_limbo_t *limbo, const kv_entry_t *e, int sign)
{
    kv_heap_hold(limbo->heap, KV_HELD_READERS,
                 sign * (int64_t) kv_entry_footprint(e->key_len,
                                                     e->value_len));
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

    if (kv_limbo_pinned(e)) {
        pieces = kv_entry_pieces(e);
        piece->next = pieces->stale;
        pieces->stale = piece;
        limbo->stale++;

        return;
    }

    kv_heap_free(limbo->heap, piece);
}


/* Who pins it from now on finds the pieces that it has now. */

unsigned
kv_limbo_free_stale(kv_limbo_t *limbo, kv_entry_t *e)
{
    unsigned      freed;
    kv_piece_t   *piece;
    kv_pieces_t  *pieces;

    freed = 0;
    pieces = kv_entry_pieces(e);

    if (kv_limbo_pinned(e)) {
        for (piece = pieces->stale; piece; piece = piece->next) {
            limbo->stale++;
        }

        return 0;
    }

    while ((piece = pieces->stale) != NULL) {
        pieces->stale = piece->next;
        kv_heap_free(limbo->heap, piece);
        freed++;
    }

    return freed;
}


void
kv_limbo_pin(kv_entry_t *e)
{
    (void) atomic_fetch_add(&kv_entry_pieces(e)->pins, 1);
}


void
kv_limbo_unpin(kv_limbo_t *limbo, kv_entry_t *e)
{
    uint32_t  pins;

    /* the entry may be gone right after this */

    pins = atomic_fetch_sub(&kv_entry_pieces(e)->pins, 1);

    assert((pins & ~KV_PINS_LISTED) != 0);

    if (pins == (KV_PINS_LISTED | 1)) {
        (void) atomic_fetch_add(&limbo->released, 1);
    }
}


bool
kv_limbo_pinned(const kv_entry_t *e)
{
    return (atomic_load(&kv_entry_pieces(e)->pins) & ~KV_PINS_LISTED) != 0;
}


/*
 * A record that is PINNED and names an entry is counted there.  One that died
 * on its way to that, or back, may have been: then the entry, once it is in the
 * list, stays there with a count that no record stands for.
 */

void
kv_limbo_reap(kv_limbo_t *limbo, kv_op_t *op)
{
    kv_entry_t  *e;

    e = kv_op_entry(op);

    if (atomic_load(&op->state) == KV_OP_PINNED && e) {
        kv_limbo_unpin(limbo, e);
    }

    /* also for one that had no time to say that it was the last */

    limbo->lost = true;
    limbo->swept = UINT64_MAX;
}


void
kv_limbo_pin_scanned(kv_slot_t *slot, kv_entry_t *e)
{
    kv_limbo_pin(e);

    kv_point(KV_POINT_SNAPSHOT_PINNING);

    atomic_store(&slot->scanned, (uintptr_t) e);
}


void
kv_limbo_unpin_scanned(kv_limbo_t *limbo, kv_slot_t *slot)
{
    uintptr_t  e;

    e = atomic_load(&slot->scanned);

    atomic_store(&slot->scanned, e | 1);

    kv_point(KV_POINT_SNAPSHOT_UNPINNING);

    kv_limbo_unpin(limbo, (kv_entry_t *) e);

    kv_point(KV_POINT_SNAPSHOT_UNPINNED);

    atomic_store(&slot->scanned, 0);
}


void
kv_limbo_reap_scanned(kv_limbo_t *limbo, kv_slot_t *slot)
{
    uintptr_t  e;

    e = atomic_load(&slot->scanned);

    if (e && !(e & 1)) {
        kv_limbo_unpin(limbo, (kv_entry_t *) e);
    }

    atomic_store(&slot->scanned, 0);

    limbo->lost = true;
    limbo->swept = UINT64_MAX;
}


/*
 * Frees what is not pinned any more, if there can be any: a pinned entry costs
 * nothing while it is.
 */

static kv_rc_t
kv_limbo_sweep_pinned(kv_limbo_t *limbo)
{
    bool          search;
    uint64_t      released;
    kv_entry_t   *e, **link;
    kv_pieces_t  *pieces;

    released = atomic_load(&limbo->released);

    search = limbo->lost && kv_now_ns() - limbo->searched_ns > KV_LIMBO_LOST;

    if (released == limbo->swept && !search) {
        return KV_OK;
    }

    if (kv_heap_lock(limbo->heap) != KV_OK) {
        return KV_DEAD;
    }

    search = search && kv_limbo_find_lost(limbo);
    link = &limbo->pinned;

    while ((e = *link) != NULL) {
        limbo->looked++;
        pieces = kv_entry_pieces(e);

        if (kv_limbo_pinned(e) && !(search && !e->seen)) {
            link = &pieces->next;
            continue;
        }

        *link = pieces->next;
        kv_limbo_hold(limbo, e, -1);
        kv_entry_free_locked(limbo->heap, e);
    }

    limbo->swept = released;

    kv_heap_unlock(limbo->heap);

    return KV_OK;
}


/*
 * Sets `seen` in those of the list that a record names.  An entry in the list
 * gets no new pins, so one that no record names is free, whatever its count
 * says, unless a worker is just about to take its own away.  Then it returns
 * false: another time.
 */

static bool
kv_limbo_find_lost(kv_limbo_t *limbo)
{
    kv_entry_t  *e;

    limbo->searched_ns = kv_now_ns();

    for (e = limbo->pinned; e; e = kv_entry_pieces(e)->next) {
        e->seen = 0;
    }

    return kv_limbo_see_records(limbo);
}


/* Chunks come and go under the heap's lock, which the caller holds. */

static bool
kv_limbo_see_records(kv_limbo_t *limbo)
{
    kv_op_t        *op;
    unsigned        i, k;
    uint32_t        state;
    uintptr_t       scanned;
    kv_entry_t     *e;
    kv_op_chunk_t  *chunk;

    for (i = 0; i < limbo->nslots; i++) {

        scanned = atomic_load(&limbo->slots[i].scanned);

        if (scanned & 1) {
            return false;
        }

        if (scanned) {
            ((kv_entry_t *) scanned)->seen = 1;
        }

        for (chunk = limbo->slots[i].chunks; chunk; chunk = chunk->next) {

            for (k = 0; k < KV_OP_CHUNK; k++) {
                op = &chunk->op[k];
                limbo->looked++;

                state = atomic_load(&op->state);

                if (state == KV_OP_UNPINNING) {
                    return false;
                }

                e = kv_op_entry(op);

                /* what is named is there: only we free, and it is counted */

                if (state == KV_OP_PINNED && e) {
                    e->seen = 1;
                }
            }
        }
    }

    return true;
}
