
/*
 * A clear takes the map away at once; what it held is freed in steps.  With
 * the commit lock held.
 */


#ifndef KV_SWEEP_H
#define KV_SWEEP_H


#include "store/kv_state.h"


/* entries of a cleared map that are freed at a time: a millisecond's work */
#define KV_SWEEP_STEP     4096


/*
 * What a cleared map still holds is free, all but done: a put is not refused
 * for it.  Reserves memory of the map for `puts`; returns for how many there
 * is, as kv_map_reserve().  With the phase set.
 */
int kv_sweep_reserve(kv_zone_t *zone, unsigned puts);

/*
 * Whether there is an empty map to take the place of the one to be cleared:
 * KV_OK, or as kv_map_clearable().  If a reader stands still in one that was
 * cleared before, there may be none, and the caller does not wait for that.
 */
kv_rc_t kv_sweep_clearable(kv_zone_t *zone);

/*
 * Frees a part of what a cleared map held.  Readers leave it within
 * microseconds, unless one is stopped.  False if the heap broke.
 */
bool kv_sweep_now(kv_zone_t *zone);

/*
 * Between rounds, if no operation waits for one: frees the next step.  Whether
 * there is more that can be freed now.
 */
bool kv_sweep_between(struct kv_store_s *store);


#endif /* KV_SWEEP_H */
