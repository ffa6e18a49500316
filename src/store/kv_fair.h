
/*
 * Whose turn it is when memory for uploads is short: the oldest's.
 *
 * An upload that sent bytes for which there was no memory is hungry, from then
 * until it is over, or sends nothing for a while.  Each worker shows in its
 * slot the oldest hungry uploads that it has, with the bytes that they are
 * still to get, but no more than what comes in a second.  An upload that is
 * younger takes a further page only if so much stays free for them; else it
 * waits, as if there was none, and is hungry, too.  So what comes free goes to
 * the oldest, and who starts anew is at the end of the queue.  An upload's age
 * is that of its request, however long that had to wait.
 *
 * What is announced alone claims nothing: a request of which no byte has come
 * is not hungry.  Nor are values of KV_ENTRY_INLINE bytes or less in anybody's
 * way: they take what they find, and so does who has all of a value.
 *
 * What a worker shows counts for KV_FAIR_SHOWN: one that is stopped, or dead,
 * keeps nobody waiting for longer.
 */


#ifndef KV_FAIR_H
#define KV_FAIR_H


#include "store/kv_store.h"
#include "store/kv_zone.h"


#define KV_FAIR_SHOWN  500000000u      /* nanoseconds */


/*
 * The worker's oldest hungry uploads, the oldest first, `n` of KV_HUNGRY at
 * most. To be said again, much more often than KV_FAIR_SHOWN, while there are
 * any.
 */
void kv_fair_show(kv_store_t *store, const kv_hungry_t *hungry, unsigned n);

/*
 * Whether an upload that began then, by kv_began(), may take memory for so many
 * bytes: no older one is hungry, or enough stays free for those.
 */
bool kv_fair_may_take(kv_store_t *store, uint32_t began, uint32_t bytes);

/*
 * How many hungry uploads began at the same time as the oldest, in *began by
 * kv_began(): 0 if there is none at all.
 */
unsigned kv_fair_oldest(kv_zone_t *zone, uint32_t *began);


#endif /* KV_FAIR_H */
