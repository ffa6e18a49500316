
/*
 * Timers: which entries of the map expire, in the order of time.
 *
 * A hierarchical wheel (Varghese and Lauck, "Hashed and hierarchical timing
 * wheels", SOSP 1987).  Time goes on in ticks.  An entry lies in the level of
 * the highest six bits in which its tick differs from the present one, in the
 * slot of these bits: so all entries of a level come before those of the next
 * one, and those of a slot before those of the slots behind it.  When time
 * reaches a slot of a higher level, its entries go down to lower ones.  So an
 * entry is moved at most once a level, and the cost is that of what is due, not
 * of what there is.
 *
 * A slot is a list through the entries themselves (kv_expiry_t): an entry is
 * added and removed in constant time, without memory.  What lies beyond all
 * levels (more than two centuries) is not linked, and never due.
 *
 * All of it is the writer's of the map, which adds what it puts there, and
 * removes what it takes out; but any process may read `next` and `count`.
 */


#ifndef KV_TIMERS_H
#define KV_TIMERS_H


#include "memory/kv_entry.h"


#define KV_TIMERS_TICK    128u       /* milliseconds */
#define KV_TIMERS_LATER   100u       /* milliseconds, less than a tick */
#define KV_TIMERS_BITS    6u
#define KV_TIMERS_SLOTS   (1u << KV_TIMERS_BITS)
#define KV_TIMERS_LEVELS  6u

#define KV_TIMERS_NEVER   UINT64_MAX


typedef struct {
    uint64_t          tick;          /* the present one */
    _Atomic uint64_t  next;          /* ms: see kv_timers_set_next() */
    _Atomic uint64_t  count;         /* entries that are linked */
    uint64_t          filled[KV_TIMERS_LEVELS];  /* slots with entries: bits */
    kv_entry_t       *slot[KV_TIMERS_LEVELS][KV_TIMERS_SLOTS];
} kv_timers_t;


/*
 * Forgets all entries, which need not exist any more.  Times are milliseconds
 * since the epoch, here and below; they never go back.
 */
void kv_timers_reset(kv_timers_t *timers, uint64_t now);

/* Adds an entry, unless it never expires; and removes it, if it was added. */
void kv_timers_add(kv_timers_t *timers, kv_entry_t *e);
void kv_timers_remove(kv_timers_t *timers, kv_entry_t *e);

/* Puts `to`, a copy of an entry, in its place: for one that moves. */
void kv_timers_move(kv_timers_t *timers, kv_entry_t *from, kv_entry_t *to);

/*
 * Goes on to the present time, but not past entries that are due, and moves at
 * most `steps` entries to lower levels.  False: all is where it belongs.  True:
 * the steps are used up, and there may be more to be moved.
 */
bool kv_timers_advance(kv_timers_t *timers, uint64_t now, unsigned steps);

/*
 * The entries that are due: fills `e` with up to `max` of them, and returns how
 * many.  They stay until they are removed.  One is due up to a tick after it
 * has expired.
 */
unsigned kv_timers_due(kv_timers_t *timers, uint64_t now, kv_entry_t **e,
    unsigned max);

/*
 * Sets `next`: when kv_timers_advance() or kv_timers_due() has something to do,
 * or KV_TIMERS_NEVER.  The caller does it after a number of changes.
 */
void kv_timers_set_next(kv_timers_t *timers);

/* Whether there is something to do.  Any process. */
static inline bool
kv_timers_ready(kv_timers_t *timers, uint64_t now)
{
    return kv_get_relaxed(timers->next) <= now;
}


/* Those that are due cannot be deleted now: they are looked at later. */

static inline void
kv_timers_put_off(kv_timers_t *timers, uint64_t now)
{
    kv_set_relaxed(timers->next, now + KV_TIMERS_LATER);
}


/*
 * Whether memory is about to come free: always if some have expired that are
 * there still, due or within a tick, or put off.
 */

static inline bool
kv_timers_soon(kv_timers_t *timers, uint64_t now)
{
    return kv_timers_ready(timers, now + KV_TIMERS_TICK);
}


#endif /* KV_TIMERS_H */
