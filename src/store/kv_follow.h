
/*
 * Applies records of a replicated log to the map, as they come from other nodes
 * or from this one's log: what they say is decided.  By the thread that holds
 * the commit lock, in a store that may be read meanwhile.
 */


#ifndef KV_FOLLOW_H
#define KV_FOLLOW_H


#include "store/kv_handle.h"


typedef struct kv_follow_s  kv_follow_t;


/* NULL: out of memory. */
kv_follow_t *kv_follow_create(kv_store_t *store);
void kv_follow_destroy(kv_follow_t *f);

/*
 * Applies records whose first LSN is `lsn`, but those up to the LSN that was
 * applied last.  KV_OK; KV_AGAIN: not all of them, as readers are still in what
 * was cleared before, or more of that is to be freed than other nodes can wait
 * for; or with `err` filled, KV_NO_MEMORY: the zone has none
 * for what others could store; KV_DAMAGED: these are no records; KV_DEAD: the
 * heap broke.  Then some may be applied.
 */
kv_rc_t kv_follow_apply(kv_follow_t *f, uint64_t lsn, const void *data,
    size_t len, kv_err_t *err);


#endif /* KV_FOLLOW_H */
