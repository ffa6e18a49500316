
/*
 * Requests for room (KV_OP_RESERVE): what the committer does for a write that
 * finds none.
 */


#ifndef KV_RESERVE_H
#define KV_RESERVE_H


#include "store/kv_handle.h"


/*
 * Makes room as `op` asks for.  Compaction has a bounded time for all the
 * requests that were taken together, which all have what it gains: *spent_ns
 * says how much of it is used up, and grows.  What it found last holds until
 * something was freed.  With the commit lock held.  KV_OK: there is room;
 * KV_AGAIN: there may be, soon; KV_NO_MEMORY; KV_UNAVAILABLE: the heap broke.
 */
kv_rc_t kv_reserve(kv_store_t *store, kv_op_t *op, uint64_t *spent_ns);


#endif /* KV_RESERVE_H */
