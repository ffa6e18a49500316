
/*
 * The ordered index of a zone (list=on) beside its map.  What the committer
 * does to the map it does to the index through these calls, which do nothing
 * for a zone without one.
 *
 * Overwrites are none of the index's business: it has keys, not entries.  New
 * keys are collected while a batch is applied, and added some at a time, so
 * that the processor fetches their places together.  They are not visible
 * before the batch is: see kv_entry_t.lsn.
 */


#ifndef KV_LISTED_H
#define KV_LISTED_H


#include "store/kv_progress.h"
#include "store/kv_state.h"


/* New keys of a batch that are in the map, and not in the index yet. */

typedef struct {
    kv_zone_t   *zone;
    unsigned     n;
    kv_slice_t   key[KV_INDEX_GROUP];
} kv_listed_t;


static inline void
kv_listed_begin(kv_listed_t *listed, kv_zone_t *zone)
{
    listed->zone = zone;
    listed->n = 0;
}

/* Adds what was collected. */
void kv_listed_flush(kv_listed_t *listed);

/*
 * Of an entry that was put into the map, and what it replaced, or NULL, which
 * is not retired yet.
 */
void kv_listed_put(kv_listed_t *listed, const kv_entry_t *e,
    const kv_entry_t *old);

/* Of an entry that was taken out of the map, and is not retired yet. */
void kv_listed_delete(kv_listed_t *listed, const kv_entry_t *old);

/* Of all: before the map is cleared. */
void kv_listed_clear(kv_listed_t *listed);


/* Reserves are for one batch: those of the one before are void. */
static inline void
kv_listed_reserve_begin(kv_zone_t *zone)
{
    if (zone->list) {
        kv_index_reserve_begin(&zone->index);
    }
}

/*
 * Reserves memory of the index for an operation.  If there is none, it frees
 * some of what a clear has left.  False: the operation must be refused.
 */
bool kv_listed_reserve(kv_zone_t *zone, const kv_op_t *op);

/*
 * Makes the index of all that is in the map, for recovery: there are no
 * readers.  `tight`: with as little memory as possible, which takes longer;
 * `progress` (or NULL) is told how far it is.
 * KV_OK, KV_CANCELLED, KV_DEAD; KV_NO_MEMORY: the zone is too small.
 */
kv_rc_t kv_listed_fill(struct kv_store_s *store, bool tight,
    kv_progress_t *progress);


#endif /* KV_LISTED_H */
