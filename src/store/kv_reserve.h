
/*
 * Requests for memory (KV_OP_RESERVE): what the committer does for a write that
 * finds none.
 */


#ifndef KV_RESERVE_H
#define KV_RESERVE_H


#include "store/kv_handle.h"


/*
 * Frees memory as `op` requests.  All requests that were taken together share a
 * bounded time for compaction, and what it gains: *spent_ns is how much of the
 * time is used up, and grows.  What it found last holds until memory is freed.
 * With the commit lock held.  KV_OK: there is memory; KV_AGAIN: there may be
 * soon; KV_NO_MEMORY; KV_UNAVAILABLE: the heap broke.
 */
kv_rc_t kv_reserve(kv_store_t *store, kv_op_t *op, uint64_t *spent_ns);


#endif /* KV_RESERVE_H */
