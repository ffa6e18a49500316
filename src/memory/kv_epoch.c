
/*
 * The retire list; see kv_epoch.h.
 */


#include <assert.h>

#include "memory/kv_epoch.h"
#include "base/kv_failpoint.h"


/* objects freed under one hold of the heap's lock: event loops wait for it */
#define KV_RETIRED_STEP  64

/* between two searches for pins that dead workers left; nanoseconds */
#define KV_RETIRED_LOST  1000000000u


static void kv_epoch_free_piece(kv_retire_list_t *retired, kv_piece_t *piece);
static uint64_t kv_epoch_space(const kv_retire_list_t *retired);
static void kv_epoch_free_some(kv_retire_list_t *retired, uint64_t oldest);
static bool kv_epoch_refill(kv_retire_list_t *retired);
static bool kv_epoch_done(const kv_retire_list_t *retired,
    const kv_retired_chunk_t *chunk);
static kv_rc_t kv_epoch_drop_chunks(kv_retire_list_t *retired);
static kv_rc_t kv_epoch_sweep_pinned(kv_retire_list_t *retired);
static void kv_epoch_hold(kv_retire_list_t *retired, const kv_entry_t *e,
    int sign);
static bool kv_epoch_find_lost(kv_retire_list_t *retired);
static bool kv_epoch_see_records(kv_retire_list_t *retired);


void
kv_retire_list_create(kv_retire_list_t *retired, kv_heap_t *heap,
    kv_worker_t *workers, unsigned nworkers)
{
    retired->heap = heap;
    retired->workers = workers;
    retired->nworkers = nworkers;
    retired->pinned = NULL;
    retired->swept = 0;
    retired->searched_ns = 0;
    retired->lost = false;
    retired->paused = false;
    retired->examined = 0;
    atomic_store(&retired->released, 0);
    retired->stale = 0;
    retired->stale_from = 0;
    retired->chunks = NULL;
    retired->behind = 0;
    retired->reserved = 0;
    retired->head = 0;
    retired->tail = 0;

    if (atomic_load(&retired->epoch) == 0) {
        atomic_store(&retired->epoch, 1);
    }
}


int
kv_epoch_reserve(kv_retire_list_t *retired, unsigned n)
{
    uint64_t             space;
    kv_retired_chunk_t  *chunk, **link;

    retired->reserved = 0;

    if (kv_epoch_space(retired) < n && kv_epoch_reclaim(retired) != KV_OK) {
        return KV_DEAD;
    }

    for ( ;; ) {
        space = kv_epoch_space(retired);

        if (space >= n) {
            break;
        }

        if (kv_heap_lock(retired->heap) != KV_OK) {
            return KV_DEAD;
        }

        chunk = kv_heap_alloc(retired->heap, KV_HEAP_SYSTEM,
                              sizeof(kv_retired_chunk_t));
        kv_heap_unlock(retired->heap);

        if (chunk == NULL) {
            break;
        }

        chunk->next = NULL;
        chunk->head = 0;
        chunk->tail = 0;

        for (link = &retired->chunks; *link; link = &(*link)->next) {
            /* void */
        }

        *link = chunk;
    }

    retired->reserved = (unsigned) kv_min(space, (uint64_t) n);

    return (int) retired->reserved;
}


kv_rc_t
kv_epoch_retire(kv_retire_list_t *retired, void *object, kv_retired_kind_t kind)
{
    kv_retired_t        *r;
    kv_retired_chunk_t  *chunk;

    if (kv_epoch_count(retired) >= KV_RETIRED_MAX
        && kv_epoch_space(retired) <= retired->reserved
        && kv_epoch_reclaim(retired) != KV_OK)
    {
        return KV_DEAD;
    }

    if (kv_epoch_count(retired) < KV_RETIRED_MAX && retired->behind == 0) {
        r = &retired->ring[retired->tail % KV_RETIRED_MAX];
        retired->tail++;

    } else {

        for (chunk = retired->chunks;
             chunk && chunk->tail == KV_RETIRED_CHUNK;
             chunk = chunk->next)
        {
            /* void */
        }

        if (chunk == NULL) {
            return KV_NO_MEMORY;
        }

        r = &chunk->r[chunk->tail++];
        retired->behind++;
    }

    r->object = (uintptr_t) object | kind;
    r->epoch = atomic_load_explicit(&retired->epoch, memory_order_relaxed);

    if (kind == KV_RETIRED_ENTRY && retired->reserved) {
        retired->reserved--;
    }

    return KV_OK;
}


bool
kv_epoch_spare(kv_retire_list_t *retired, unsigned n)
{
    if (kv_epoch_space(retired) >= (uint64_t) retired->reserved + n) {
        return true;
    }

    return kv_epoch_reclaim(retired) == KV_OK
           && kv_epoch_space(retired) >= (uint64_t) retired->reserved + n;
}


/* How many objects it can take. */

static uint64_t
kv_epoch_space(const kv_retire_list_t *retired)
{
    uint64_t                   space;
    const kv_retired_chunk_t  *chunk;

    space = retired->behind ? 0
                            : KV_RETIRED_MAX - (retired->tail - retired->head);

    for (chunk = retired->chunks; chunk; chunk = chunk->next) {
        space += KV_RETIRED_CHUNK - chunk->tail;
    }

    return space;
}


kv_rc_t
kv_epoch_reclaim(kv_retire_list_t *retired)
{
    uint64_t  oldest;

    if (retired->paused) {
        return KV_OK;
    }

    if (kv_epoch_count(retired)) {
        (void) kv_epoch_advance(retired);
        oldest = kv_epoch_oldest(retired->workers, retired->nworkers);

        do {
            while (retired->head != retired->tail
                   && retired->ring[retired->head % KV_RETIRED_MAX].epoch
                      < oldest)
            {
                if (kv_heap_lock(retired->heap) != KV_OK) {
                    return KV_DEAD;
                }

                kv_epoch_free_some(retired, oldest);
                kv_heap_unlock(retired->heap);
            }

        } while (kv_epoch_refill(retired));
    }

    if (kv_epoch_done(retired, retired->chunks)
        && kv_epoch_drop_chunks(retired) != KV_OK)
    {
        return KV_DEAD;
    }

    if (retired->pinned) {
        return kv_epoch_sweep_pinned(retired);
    }

    return KV_OK;
}


/* With the heap's lock held: few, so that event loops need not wait long. */

static void
kv_epoch_free_some(kv_retire_list_t *retired, uint64_t oldest)
{
    void          *object;
    unsigned       n;
    kv_retired_t  *r;

    for (n = 0; n < KV_RETIRED_STEP && retired->head != retired->tail; n++) {
        r = &retired->ring[retired->head % KV_RETIRED_MAX];

        if (r->epoch >= oldest) {
            return;
        }

        object = (void *) (r->object & ~(uintptr_t) 7);

        switch (r->object & 7) {

        case KV_RETIRED_ENTRY:
            kv_epoch_free_entry(retired, object);
            break;

        case KV_RETIRED_PIECE:
            kv_epoch_free_piece(retired, object);
            break;

        default:
            kv_heap_free(retired->heap, object);
        }

        kv_failpoint(KV_FAILPOINT_FREEING);

        retired->head++;
    }
}


/* Moves objects from the chunks into the ring; whether there were any. */

static bool
kv_epoch_refill(kv_retire_list_t *retired)
{
    bool                 some;
    kv_retired_chunk_t  *chunk;

    some = false;
    chunk = retired->chunks;

    while (retired->behind && retired->tail - retired->head < KV_RETIRED_MAX) {

        if (chunk->head == chunk->tail) {
            chunk = chunk->next;
            continue;
        }

        retired->ring[retired->tail % KV_RETIRED_MAX] = chunk->r[chunk->head++];
        retired->tail++;
        retired->behind--;
        some = true;
    }

    if (retired->behind == 0) {

        for (chunk = retired->chunks; chunk; chunk = chunk->next) {
            chunk->head = 0;
            chunk->tail = 0;
        }
    }

    return some;
}


/* Whether the first chunk is not needed any more. */

static bool
kv_epoch_done(const kv_retire_list_t *retired, const kv_retired_chunk_t *chunk)
{
    return chunk
           && (chunk->head == KV_RETIRED_CHUNK
               || (retired->behind == 0 && retired->reserved == 0));
}


static kv_rc_t
kv_epoch_drop_chunks(kv_retire_list_t *retired)
{
    kv_retired_chunk_t  *chunk;

    if (kv_heap_lock(retired->heap) != KV_OK) {
        return KV_DEAD;
    }

    while (kv_epoch_done(retired, retired->chunks)) {
        chunk = retired->chunks;
        retired->chunks = chunk->next;
        kv_heap_free(retired->heap, chunk);
    }

    kv_heap_unlock(retired->heap);

    return KV_OK;
}


void
kv_epoch_pause(kv_retire_list_t *retired)
{
    assert(!retired->paused);

    retired->paused = true;
}


void
kv_epoch_resume(kv_retire_list_t *retired)
{
    assert(retired->paused);

    retired->paused = false;

    (void) kv_epoch_advance(retired);
}


uint64_t
kv_epoch_advance(kv_retire_list_t *retired)
{
    if (retired->paused) {
        return kv_get_relaxed(retired->epoch);
    }

    return atomic_fetch_add(&retired->epoch, 1);
}


kv_rc_t
kv_epoch_emptied(kv_retire_list_t *retired, uint64_t epoch)
{
    if (kv_epoch_reclaim(retired) != KV_OK) {
        return KV_DEAD;
    }

    /*
     * The epochs alone do not tell: a reader that took its epoch from the
     * global one long ago may have entered it since, harmlessly, but it keeps
     * what was retired from being freed.
     */

    if (kv_epoch_count(retired)
        && retired->ring[retired->head % KV_RETIRED_MAX].epoch <= epoch)
    {
        return KV_AGAIN;
    }

    return epoch < kv_epoch_oldest(retired->workers, retired->nworkers) ? KV_OK
                                                                : KV_AGAIN;
}


void
kv_epoch_free_entry(kv_retire_list_t *retired, kv_entry_t *e)
{
    kv_pieces_t  *pieces;

    if (e->flags & KV_ENTRY_PIECES) {
        pieces = kv_entry_pieces(e);

        /* a worker that takes the last pin sees this mark, or we see no pin */

        if (atomic_fetch_or(&pieces->pins, KV_PINS_LISTED) != 0) {
            pieces->next = retired->pinned;
            retired->pinned = e;

            kv_epoch_hold(retired, e, 1);

            return;
        }
    }

    kv_entry_free_locked(retired->heap, e);
}


/* Counts an entry (1) as held by slow readers, or no longer (-1). */

static void
kv_epoch_hold(kv_retire_list_t *retired, const kv_entry_t *e, int sign)
{
    kv_heap_hold(retired->heap, KV_HELD_READERS,
                 sign * (int64_t) kv_entry_footprint(kv_entry_name_len(e),
                                                     e->value_len, 0));
}


/*
 * A reader that pinned the entry may have taken the piece's old address before:
 * then the piece lives as long as the entry.  The entry still exists: objects
 * are freed in the order in which they were retired.
 */

static void
kv_epoch_free_piece(kv_retire_list_t *retired, kv_piece_t *piece)
{
    kv_entry_t   *e;
    kv_pieces_t  *pieces;

    e = piece->owner;

    if (kv_epoch_pinned(e)) {
        pieces = kv_entry_pieces(e);
        piece->next = pieces->stale;
        pieces->stale = piece;
        retired->stale++;

        return;
    }

    kv_heap_free(retired->heap, piece);
}


/* A reader that pins the entry from now on finds the pieces that it has now. */

unsigned
kv_epoch_free_stale(kv_retire_list_t *retired, kv_entry_t *e)
{
    unsigned      freed;
    kv_piece_t   *piece;
    kv_pieces_t  *pieces;

    freed = 0;
    pieces = kv_entry_pieces(e);

    if (kv_epoch_pinned(e)) {
        for (piece = pieces->stale; piece; piece = piece->next) {
            retired->stale++;
        }

        return 0;
    }

    while ((piece = pieces->stale) != NULL) {
        pieces->stale = piece->next;
        kv_heap_free(retired->heap, piece);
        freed++;
    }

    return freed;
}


void
kv_epoch_pin(kv_entry_t *e)
{
    (void) atomic_fetch_add(&kv_entry_pieces(e)->pins, 1);
}


void
kv_epoch_unpin(kv_retire_list_t *retired, kv_entry_t *e)
{
    uint32_t  pins;

    /* the entry may be gone right after this */

    pins = atomic_fetch_sub(&kv_entry_pieces(e)->pins, 1);

    assert((pins & ~KV_PINS_LISTED) != 0);

    if (pins == (KV_PINS_LISTED | 1)) {
        (void) atomic_fetch_add(&retired->released, 1);
    }
}


bool
kv_epoch_pinned(const kv_entry_t *e)
{
    return (atomic_load(&kv_entry_pieces(e)->pins) & ~KV_PINS_LISTED) != 0;
}


/*
 * A record that names an entry as pinned (kv_op_pinned()) counts in it.  One
 * whose worker died on the way to that, or back, may count as well: then the
 * entry, once it is in the list, stays there with a count that no record stands
 * for, until kv_epoch_find_lost().
 */

bool
kv_epoch_reap(kv_retire_list_t *retired, kv_op_t *op)
{
    kv_entry_t  *e;

    e = kv_op_pinned(op, atomic_load(&op->state));

    if (e) {
        kv_epoch_unpin(retired, e);
    }

    /* the dead worker may have taken the last pin away without counting it */

    retired->lost = true;
    retired->swept = UINT64_MAX;

    return e != NULL;
}


void
kv_epoch_pin_scanned(kv_worker_t *worker, kv_entry_t *e)
{
    kv_epoch_pin(e);

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_PINNING);

    atomic_store(&worker->scanned, (uintptr_t) e);
}


void
kv_epoch_unpin_scanned(kv_retire_list_t *retired, kv_worker_t *worker)
{
    uintptr_t  e;

    e = atomic_load(&worker->scanned);

    atomic_store(&worker->scanned, e | 1);

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_UNPINNING);

    kv_epoch_unpin(retired, (kv_entry_t *) e);

    kv_failpoint(KV_FAILPOINT_SNAPSHOT_UNPINNED);

    atomic_store(&worker->scanned, 0);
}


void
kv_epoch_reap_scanned(kv_retire_list_t *retired, kv_worker_t *worker)
{
    uintptr_t  e;

    e = atomic_load(&worker->scanned);

    if (e && !(e & 1)) {
        kv_epoch_unpin(retired, (kv_entry_t *) e);
    }

    atomic_store(&worker->scanned, 0);

    retired->lost = true;
    retired->swept = UINT64_MAX;
}


/*
 * Frees what is not pinned any more, if there can be any: while an entry is
 * pinned it costs nothing.
 */

static kv_rc_t
kv_epoch_sweep_pinned(kv_retire_list_t *retired)
{
    bool          search;
    uint64_t      released;
    kv_entry_t   *e, **link;
    kv_pieces_t  *pieces;

    released = atomic_load(&retired->released);

    search = retired->lost
             && kv_now_ns() - retired->searched_ns > KV_RETIRED_LOST;

    if (released == retired->swept && !search) {
        return KV_OK;
    }

    if (kv_heap_lock(retired->heap) != KV_OK) {
        return KV_DEAD;
    }

    search = search && kv_epoch_find_lost(retired);
    link = &retired->pinned;

    while ((e = *link) != NULL) {
        retired->examined++;
        pieces = kv_entry_pieces(e);

        if (kv_epoch_pinned(e) && !(search && !pieces->seen)) {
            link = &pieces->next;
            continue;
        }

        *link = pieces->next;
        kv_epoch_hold(retired, e, -1);
        kv_entry_free_locked(retired->heap, e);
    }

    retired->swept = released;

    kv_heap_unlock(retired->heap);

    return KV_OK;
}


/*
 * Sets `seen` in the entries of the list that a record names.  An entry in the
 * list gets no new pins, so one that no record names can be freed, whatever its
 * count says, unless a worker is just taking its own pin away: then the result
 * is false, and the committer searches again another time.
 */

static bool
kv_epoch_find_lost(kv_retire_list_t *retired)
{
    kv_entry_t  *e;

    retired->searched_ns = kv_now_ns();

    for (e = retired->pinned; e; e = kv_entry_pieces(e)->next) {
        kv_entry_pieces(e)->seen = 0;
    }

    return kv_epoch_see_records(retired);
}


/* Chunks come and go under the heap's lock, which the caller holds. */

static bool
kv_epoch_see_records(kv_retire_list_t *retired)
{
    kv_op_t        *op;
    unsigned        i, k;
    uint32_t        state;
    uintptr_t       scanned;
    kv_entry_t     *e;
    kv_op_chunk_t  *chunk;

    for (i = 0; i < retired->nworkers; i++) {

        scanned = atomic_load(&retired->workers[i].scanned);

        if (scanned & 1) {
            return false;
        }

        if (scanned) {
            kv_entry_pieces((kv_entry_t *) scanned)->seen = 1;
        }

        for (chunk = &retired->workers[i].first; chunk; chunk = chunk->next) {

            for (k = 0; k < KV_OP_CHUNK; k++) {
                op = &chunk->op[k];
                retired->examined++;

                state = atomic_load(&op->state);

                if (state == KV_OP_UNPINNING) {
                    return false;
                }

                /*
                 * a named entry exists: only the committer frees, and it is
                 * counted
                 */

                e = kv_op_pinned(op, state);

                if (e) {
                    kv_entry_pieces(e)->seen = 1;
                }
            }
        }
    }

    return true;
}
