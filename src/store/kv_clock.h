
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
 */


#ifndef KV_CLOCK_H
#define KV_CLOCK_H


#include "store/kv_zone.h"


/* The present time.  Any process. */
uint64_t kv_clock_ms(kv_zone_t *zone);

/* Time is at least that: a file names it.  Before there are workers. */
void kv_clock_reach(kv_zone_t *zone, uint64_t ms);

/*
 * Whether a key that expires then is gone.  Any process.
 */
bool kv_clock_gone(kv_zone_t *zone, uint64_t expires);

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

/* Whether an entry is gone.  For most, which never expire, a test of a flag. */
static inline bool
kv_clock_entry_gone(kv_zone_t *zone, const kv_entry_t *e)
{
    uint64_t  expires;

    expires = kv_entry_expires(e);

    return kv_unlikely(expires) && kv_clock_gone(zone, expires);
}


#endif /* KV_CLOCK_H */
