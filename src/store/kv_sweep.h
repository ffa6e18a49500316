
/*
 * A clear takes the map away at once; what it held is freed in steps.  With
 * the commit lock held.
 */


#ifndef KV_SWEEP_H
#define KV_SWEEP_H


#include "store/kv_state.h"


/* entries of a cleared map freed at a time: one or two milliseconds */
#define KV_SWEEP_STEP     2048

/* entries freed with the clear, so that a small map is free at once */
#define KV_SWEEP_NOW      8192


/*
 * Frees at most `n` entries and buckets of what was cleared, and as many nodes
 * of the index; results as those of kv_map_sweep().
 */
kv_rc_t kv_sweep_step(kv_zone_t *zone, unsigned n);


/*
 * Reserves memory of the map for `puts`; returns for how many there is, as
 * kv_map_reserve().  If memory is short it frees some of what a cleared map
 * still holds, so that no put is refused for that.  With the phase set.
 */
int kv_sweep_reserve(kv_zone_t *zone, unsigned puts);

/*
 * Makes sure that there is an empty map to take the place of the one to be
 * cleared: KV_OK, or as kv_map_clearable().  There may be none: of those that
 * were cleared before, the call frees only a part, as other writes wait for it,
 * and if a reader stays in one, it waits only a moment for the reader.
 */
kv_rc_t kv_sweep_clearable(kv_zone_t *zone);

/*
 * Frees a part of what a cleared map held.  Readers leave it within
 * microseconds, unless their process is stopped.  False if the heap broke.
 */
bool kv_sweep_now(kv_zone_t *zone);

/*
 * Frees the next step between two rounds, unless an operation waits.  Whether
 * there is more that can be freed now.
 */
bool kv_sweep_between(struct kv_store_s *store);


#endif /* KV_SWEEP_H */
