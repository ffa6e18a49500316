
/*
 * The store's time, and which keys have expired: milliseconds since the epoch,
 * the same for all processes, and never going back.
 *
 *
 * Time
 *
 * It goes on with the monotonic clock, and is ahead of that by as much as the
 * wall clock ever was.  So when people set the wall clock back, time just goes
 * on, and nothing comes to life again; when they set it forward, time jumps
 * with it.  At a start it is not below what the files name: each batch of the
 * log names the time that it was built at.
 *
 *
 * Gone
 *
 * An operation is decided when its batch is built, and seen when the batch is
 * durable.  If readers went by the clock alone, a key that expires in between
 * would be gone for them, and then there again where the batch gave it more
 * time.  So a key is gone when it expires at or before the time that has
 * *passed*: a word in the zone that the committer moves to the present time
 * when it begins a batch, and keeps there until the batch is applied.  Between
 * batches the first reader that finds a key which has expired by the clock
 * moves it.  So all agree, at each moment, on what is gone, and what is gone
 * stays so; a key may live on for as long as the batch that is being written.
 *
 * A reader looks up the key first.  Before it asks for the time a batch may
 * have given the key more of it, or another value.  So what seems to be gone is
 * looked up once more: it is if it is found unchanged when its time has passed.
 */


#ifndef KV_CLOCK_H
#define KV_CLOCK_H


#include "store/kv_zone.h"


/* The present time.  Any process. */
uint64_t kv_clock_ms(kv_zone_t *zone);

/* Time is at least that: a file names it.  Before there are workers. */
void kv_clock_reach(kv_zone_t *zone, uint64_t ms);

/* In how many milliseconds that is, at least 1; 0, never: 0.  Any process. */
static inline uint64_t
kv_clock_left(kv_zone_t *zone, uint64_t expires)
{
    uint64_t  now;

    if (kv_likely(expires == 0)) {
        return 0;
    }

    now = kv_clock_ms(zone);

    /* it may live on while a batch is written: see above */

    return expires > now ? expires - now : 1;
}


/*
 * The time that has passed: what expires at or before it is gone, and no
 * operation that is decided later, or being written, finds it.
 */
uint64_t kv_clock_passed(kv_zone_t *zone);

/*
 * The committer begins to decide a batch, at the time that is returned and has
 * passed now; and has applied it, or given it up.  Both may be called again
 * before the other: a committer may have died between the two.
 */
uint64_t kv_clock_begin(kv_zone_t *zone);
void kv_clock_end(kv_zone_t *zone);

/*
 * What is behind kv_clock_find(), which has found `e`: of a key that expires
 * then.
 */
kv_entry_t *kv_clock_find_again(kv_zone_t *zone, uint64_t hash,
    const void *key, size_t len, kv_entry_t *e, uint64_t *expires);

/*
 * The entry of a key that is not gone, and when it expires (0: never), or NULL.
 * For most entries, which never expire, that is kv_map_find() and a test of a
 * flag.  Any process, inside an epoch.
 */
static inline kv_entry_t *
kv_clock_find(kv_zone_t *zone, uint64_t hash, const void *key, size_t len,
    uint64_t *expires)
{
    kv_entry_t  *e;

    e = kv_map_find(&zone->map, hash, key, len);
    *expires = e ? kv_entry_expires(e) : 0;

    return kv_likely(*expires == 0)
           ? e : kv_clock_find_again(zone, hash, key, len, e, expires);
}


#endif /* KV_CLOCK_H */
