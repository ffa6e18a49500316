
/*
 * Recovery: from the directory to a zone that serves.
 */


#ifndef KV_RECOVER_H
#define KV_RECOVER_H


#include "store/kv_store.h"


/*
 * Empties the heap and loads the newest good snapshot and every record after
 * it; falls back to an older snapshot, with a warning, if the newest is
 * damaged.  No other process may use the zone meanwhile, and the caller holds
 * the commit and background locks or is alone.  The caller sets the zone's
 * state.  KV_OK; KV_NO_MEMORY, KV_DAMAGED, KV_ERROR, KV_AGAIN (kv_io_rc()) with
 * `err` filled; KV_DEAD, without, if a worker died in the heap meanwhile;
 * KV_CANCELLED if the process must stop.
 */
kv_rc_t kv_recover(kv_store_t *store, kv_err_t *err);


#endif /* KV_RECOVER_H */
