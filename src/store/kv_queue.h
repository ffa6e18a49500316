
/*
 * The queue of operations: workers push, the committer takes all.
 */


#ifndef KV_QUEUE_H
#define KV_QUEUE_H


#include "store/kv_zone.h"


/* Queues an operation.  Any worker's main thread; takes no lock. */
void kv_queue_push(kv_zone_t *zone, kv_op_t *op);

/*
 * Sets the latest time at which the committer takes what is queued, monotonic
 * ns; 0: at once.  The caller has pushed before.  Any thread.
 */
void kv_queue_start_by(kv_zone_t *zone, uint64_t ns);

/*
 * Takes all that is queued, with the commit lock held.  Returns the oldest,
 * from which `follow` leads on.
 */
kv_op_t *kv_queue_take(kv_zone_t *zone);

/*
 * Takes operations that a committer swapped out of the queue: links them from
 * the oldest on and marks them.
 */
void kv_queue_mark_taken(kv_zone_t *zone, kv_op_t *head, kv_op_t **oldest);


#endif /* KV_QUEUE_H */
