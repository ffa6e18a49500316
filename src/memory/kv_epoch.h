
/*
 * The retire list: what is unlinked, but may still be seen by a reader.  The
 * argument about epochs and pins is in kv_worker.h.
 *
 * Everything here belongs to the holder of the commit lock, except the global
 * epoch, which readers load.
 */


#ifndef KV_EPOCH_H
#define KV_EPOCH_H


#include "memory/kv_worker.h"


#define KV_RETIRED_MAX  4096       /* objects; more lie in chunks */


typedef enum {
    KV_RETIRED_ENTRY = 0,          /* a kv_entry_t with all its pieces */
    KV_RETIRED_OBJECT = 1,         /* any other object of the heap */
    KV_RETIRED_PIECE = 2           /* a piece whose entry has a copy now */
} kv_retired_kind_t;


typedef struct {
    uintptr_t         object;      /* its address | kv_retired_kind_t */
    uint64_t          epoch;
} kv_retired_t;


/*
 * What is retired while the ring is full because a reader stays in its epoch
 * (its process may be stopped), in order.  The committer reserves chunks before
 * (kv_epoch_reserve()), while an operation can still be refused: if it waited
 * for the reader, every client would wait.
 */

typedef struct kv_retired_chunk_s  kv_retired_chunk_t;

#define KV_RETIRED_CHUNK  1022     /* with the header, 16 KiB */

struct kv_retired_chunk_s {
    kv_retired_chunk_t *next;
    uint32_t          head;
    uint32_t          tail;
    uint64_t          unused[2];
    kv_retired_t      r[KV_RETIRED_CHUNK];
};


typedef struct {
    _Alignas(KV_CACHE_LINE)
    _Atomic uint64_t  epoch;       /* the global one; starts at 1 */

    _Alignas(KV_CACHE_LINE)
    kv_heap_t        *heap;
    kv_worker_t      *workers;
    unsigned          nworkers;

    kv_entry_t       *pinned;      /* unlinked, out of epochs, but pinned */
    uint64_t          swept;       /* `released` when it was last swept */
    uint64_t          searched_ns; /* the last search for lost pins */
    bool              lost;        /* pins may be: workers died */
    bool              paused;      /* by kv_epoch_pause() */
    uint64_t          examined;    /* entries and records, ever */
    uint64_t          stale;       /* pieces kept by entries, at most */
    uint64_t          stale_from;  /* the bucket to search for them next */
    kv_retired_chunk_t *chunks;    /* the oldest first; empty ones last */
    uint64_t          behind;      /* objects in them */
    unsigned          reserved;    /* by kv_epoch_reserve(), not used yet */
    uint64_t          head;        /* the oldest retired object */
    uint64_t          tail;        /* where the next one goes */
    kv_retired_t      ring[KV_RETIRED_MAX];

    /* workers: how often an entry in the list lost its last pin */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint64_t  released;
} kv_retire_list_t;


void kv_retire_list_create(kv_retire_list_t *retired, kv_heap_t *heap,
    kv_worker_t *workers, unsigned nworkers);

/*
 * Makes sure that `n` entries can be retired, whatever readers do.  Replaces
 * the previous reserve.  Returns for how many there is space, or KV_DEAD.
 */
int kv_epoch_reserve(kv_retire_list_t *retired, unsigned n);

/*
 * Retires an object that no new reader can find any more; the list owns it from
 * now on.  KV_OK; KV_DEAD (the heap broke); KV_NO_MEMORY (no space, and none
 * was reserved).
 */
kv_rc_t kv_epoch_retire(kv_retire_list_t *retired, void *object,
    kv_retired_kind_t kind);

/*
 * Whether there is space for `n` objects more than are reserved.  Ask before
 * unlinking objects that could as well stay where they are.
 */
bool kv_epoch_spare(kv_retire_list_t *retired, unsigned n);

/*
 * Frees what no reader can see any more, without waiting; nothing while it is
 * paused.  KV_OK, or KV_DEAD.
 */
kv_rc_t kv_epoch_reclaim(kv_retire_list_t *retired);

/*
 * Until kv_epoch_resume() nothing is freed, and the epoch stays; it moves on
 * then.  So readers that come meanwhile may read what is retired meanwhile,
 * too, if they learn of it before the end of that.
 */
void kv_epoch_pause(kv_retire_list_t *retired);
void kv_epoch_resume(kv_retire_list_t *retired);

/*
 * For memory that is freed without being in the list.  All that was unlinked
 * before the call of kv_epoch_advance() can be freed once kv_epoch_emptied()
 * returns KV_OK for the epoch that it returned: no reader holds it any more,
 * and the list has freed what was retired until then, which may point to it.
 * Frees what it can.  KV_OK, KV_AGAIN (there are readers), KV_DEAD.
 */
uint64_t kv_epoch_advance(kv_retire_list_t *retired);
kv_rc_t kv_epoch_emptied(kv_retire_list_t *retired, uint64_t epoch);

/*
 * Frees an entry that is out of all epochs, or, if it is pinned, keeps it in a
 * list until it is not.  With the heap's lock held.
 */
void kv_epoch_free_entry(kv_retire_list_t *retired, kv_entry_t *e);

/*
 * Pins an entry in pieces, in the epoch in which it was found; and unpins it.
 * Any worker; a record of the worker names the entry meanwhile (kv_worker.h).
 */
void kv_epoch_pin(kv_entry_t *e);
void kv_epoch_unpin(kv_retire_list_t *retired, kv_entry_t *e);

/*
 * Pieces that compaction replaced while the entry was pinned are kept with it,
 * and freed with it, or by this call for an entry of the map.  Returns how many
 * pieces it freed; if the entry is pinned, none, and counts them as `stale`
 * again.  With the heap's lock held.
 */
unsigned kv_epoch_free_stale(kv_retire_list_t *retired, kv_entry_t *e);

/*
 * Whether an entry in pieces that is still in the map is pinned.  If not, only
 * readers that see what is in the map now can pin it from now on.
 */
bool kv_epoch_pinned(const kv_entry_t *e);

/*
 * The same for a worker's snapshot, which pins one entry at a time:
 * worker->scanned names it.
 */
void kv_epoch_pin_scanned(kv_worker_t *worker, kv_entry_t *e);
void kv_epoch_unpin_scanned(kv_retire_list_t *retired, kv_worker_t *worker);

/*
 * Unpins what a dead worker's record pinned: for each of its records, in any
 * state, with the heap's lock held.  And what its snapshot pinned.  Whether
 * there was a pin: then the record's entry is not its own.
 */
bool kv_epoch_reap(kv_retire_list_t *retired, kv_op_t *op);
void kv_epoch_reap_scanned(kv_retire_list_t *retired, kv_worker_t *worker);

/* Objects that wait to be freed, pinned ones not counted. */
static inline unsigned
kv_epoch_count(const kv_retire_list_t *retired)
{
    return (unsigned) (retired->tail - retired->head + retired->behind);
}


#endif /* KV_EPOCH_H */
