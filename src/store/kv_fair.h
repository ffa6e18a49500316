
/*
 * Which upload gets memory when it is short: the oldest.
 *
 * An upload that sent bytes for which there was no memory is hungry, from then
 * until it is over, or sends nothing for a while.  Each worker shows in its
 * kv_worker_t its oldest hungry uploads, with the bytes that each still needs,
 * but no more than what comes in a second.  A younger upload takes a further
 * page only if that many bytes stay free for them; else it waits, as if there
 * was no memory, and is hungry, too.  So what comes free goes to the oldest,
 * and a client that starts anew is at the end of the queue.  An upload's age is
 * that of its request, however long that had to wait.
 *
 * An upload whose length is announced, but of which no byte has come, is not
 * hungry.  Values of KV_ENTRY_INLINE bytes or less do not wait for hungry
 * uploads, nor does an upload whose whole value has come: they take the memory
 * that there is.
 *
 * What a worker shows counts for KV_FAIR_SHOWN: one that is stopped, or dead,
 * keeps no upload waiting for longer.
 */


#ifndef KV_FAIR_H
#define KV_FAIR_H


#include "store/kv_store.h"
#include "store/kv_zone.h"


#define KV_FAIR_SHOWN  500000000u      /* nanoseconds */


/*
 * Shows the worker's oldest hungry uploads, the oldest first, `n` of KV_HUNGRY
 * at most.  While there are any, the worker repeats this much more often than
 * KV_FAIR_SHOWN.
 */
void kv_fair_show(kv_store_t *store, const kv_hungry_t *hungry, unsigned n);

/*
 * Whether an upload that began then, by kv_began(), may take memory for
 * `bytes`: no older one is hungry, or enough stays free for those.
 */
bool kv_fair_may_take(kv_store_t *store, uint32_t began, uint32_t bytes);

/*
 * How many hungry uploads began at the same time as the oldest, in *began by
 * kv_began(): 0 if there is none at all.
 */
unsigned kv_fair_oldest(kv_zone_t *zone, uint32_t *began);


#endif /* KV_FAIR_H */
