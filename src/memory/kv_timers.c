
/*
 * Timers; see kv_timers.h.
 */


#include "memory/kv_timers.h"


static void kv_timers_link(kv_timers_t *timers, kv_entry_t *e);
static void kv_timers_unlink(kv_timers_t *timers, kv_entry_t *e);
static unsigned kv_timers_reached(const kv_timers_t *timers);
static bool kv_timers_first(const kv_timers_t *timers, unsigned *level,
    uint64_t *tick);
static unsigned kv_timers_lower(kv_timers_t *timers, unsigned level,
    unsigned steps);


void
kv_timers_reset(kv_timers_t *timers, uint64_t now)
{
    memset(timers->filled, 0, sizeof(timers->filled));
    memset(timers->slot, 0, sizeof(timers->slot));

    timers->tick = now / KV_TIMERS_TICK;
    kv_set_relaxed(timers->next, KV_TIMERS_NEVER);
    kv_set_relaxed(timers->count, 0);
}


void
kv_timers_add(kv_timers_t *timers, kv_entry_t *e)
{
    if (kv_entry_expires(e)) {
        kv_timers_link(timers, e);
    }
}


/* Links the entry into the slot of its time, as seen from the present one. */

static void
kv_timers_link(kv_timers_t *timers, kv_entry_t *e)
{
    uint64_t      tick, differs;
    unsigned      level, slot;
    kv_entry_t  **link;
    kv_expiry_t  *expiry;

    expiry = kv_entry_expiry(e);
    tick = kv_get_relaxed(expiry->expires) / KV_TIMERS_TICK;

    assert(expiry->link == NULL);

    tick = kv_max(tick, timers->tick);
    differs = tick ^ timers->tick;
    level = differs ? (63u - (unsigned) __builtin_clzll(differs))
                      / KV_TIMERS_BITS
                    : 0;

    if (level >= KV_TIMERS_LEVELS) {
        return;
    }

    slot = (tick >> (level * KV_TIMERS_BITS)) % KV_TIMERS_SLOTS;
    link = &timers->slot[level][slot];

    expiry->next = *link;
    expiry->link = link;

    if (*link) {
        kv_entry_expiry(*link)->link = &expiry->next;
    }

    *link = e;
    timers->filled[level] |= UINT64_C(1) << slot;

    kv_set_relaxed(timers->count, kv_get_relaxed(timers->count) + 1);
}


void
kv_timers_remove(kv_timers_t *timers, kv_entry_t *e)
{
    kv_expiry_t  *expiry;

    expiry = kv_entry_expiry(e);

    if (expiry && expiry->link) {
        kv_timers_unlink(timers, e);
    }
}


static void
kv_timers_unlink(kv_timers_t *timers, kv_entry_t *e)
{
    size_t        i;
    kv_entry_t  **link;
    kv_expiry_t  *expiry;

    expiry = kv_entry_expiry(e);
    link = expiry->link;

    assert(*link == e && kv_get_relaxed(timers->count) > 0);

    *link = expiry->next;
    i = ((uintptr_t) link - (uintptr_t) timers->slot) / sizeof(kv_entry_t *);

    if (expiry->next) {
        kv_entry_expiry(expiry->next)->link = link;

    } else if (i < KV_TIMERS_LEVELS * KV_TIMERS_SLOTS) {

        /* it was the only one of its slot */

        timers->filled[i / KV_TIMERS_SLOTS] &= ~(UINT64_C(1)
                                                 << i % KV_TIMERS_SLOTS);
    }

    expiry->link = NULL;

    kv_set_relaxed(timers->count, kv_get_relaxed(timers->count) - 1);
}


void
kv_timers_move(kv_timers_t *timers, kv_entry_t *from, kv_entry_t *to)
{
    kv_expiry_t  *old, *moved;

    old = kv_entry_expiry(from);

    if (old == NULL || old->link == NULL) {
        return;
    }

    moved = kv_entry_expiry(to);

    assert(*old->link == from);
    assert(kv_get_relaxed(timers->count) > 0);

    moved->next = old->next;
    moved->link = old->link;
    old->link = NULL;

    *moved->link = to;

    if (moved->next) {
        kv_entry_expiry(moved->next)->link = &moved->next;
    }
}


/*
 * The lowest level above 0 whose slot of the present time has entries, which
 * belong to lower levels; 0: there is none.
 */

static unsigned
kv_timers_reached(const kv_timers_t *timers)
{
    unsigned  level, slot;

    for (level = 1; level < KV_TIMERS_LEVELS; level++) {
        slot = (timers->tick >> (level * KV_TIMERS_BITS)) % KV_TIMERS_SLOTS;

        if (timers->filled[level] & UINT64_C(1) << slot) {
            return level;
        }
    }

    return 0;
}


/*
 * The level of the first slot that has entries, and the tick at which the slot
 * begins, where time has reached none above level 0.  False: there is none.
 */

static bool
kv_timers_first(const kv_timers_t *timers, unsigned *level, uint64_t *tick)
{
    unsigned  i, shift;

    for (i = 0; i < KV_TIMERS_LEVELS; i++) {

        if (timers->filled[i] == 0) {
            continue;
        }

        shift = i * KV_TIMERS_BITS;

        *level = i;
        *tick = timers->tick >> shift >> KV_TIMERS_BITS << KV_TIMERS_BITS;
        *tick |= (unsigned) __builtin_ctzll(timers->filled[i]);
        *tick <<= shift;

        /* the slots that time has passed by are empty */

        assert(*tick >= timers->tick);

        return true;
    }

    return false;
}


bool
kv_timers_advance(kv_timers_t *timers, uint64_t now, unsigned steps)
{
    uint64_t  tick, at;
    unsigned  level;

    tick = now / KV_TIMERS_TICK;

    for ( ;; ) {
        level = kv_timers_reached(timers);

        if (level) {
            steps = kv_timers_lower(timers, level, steps);

            if (steps == 0) {
                return true;
            }

            continue;
        }

        if (!kv_timers_first(timers, &level, &at) || at > tick) {
            timers->tick = kv_max(timers->tick, tick);
            return false;
        }

        timers->tick = at;

        if (level == 0) {
            return false;
        }
    }
}


/*
 * Moves up to `steps` entries of the slot that time has reached in that level
 * to lower ones; returns how many steps are left.
 */

static unsigned
kv_timers_lower(kv_timers_t *timers, unsigned level, unsigned steps)
{
    unsigned      slot;
    kv_entry_t   *e, **list;

    slot = (timers->tick >> (level * KV_TIMERS_BITS)) % KV_TIMERS_SLOTS;
    list = &timers->slot[level][slot];

    while (steps && (e = *list) != NULL) {
        kv_timers_unlink(timers, e);
        kv_timers_link(timers, e);
        steps--;
    }

    return steps;
}


unsigned
kv_timers_due(kv_timers_t *timers, uint64_t now, kv_entry_t **e, unsigned max)
{
    uint64_t     tick, filled, at;
    unsigned     n;
    kv_entry_t  *entry;

    tick = now / KV_TIMERS_TICK;
    n = 0;

    for (filled = timers->filled[0]; filled; filled &= filled - 1) {
        at = timers->tick / KV_TIMERS_SLOTS * KV_TIMERS_SLOTS
             + (unsigned) __builtin_ctzll(filled);

        if (at >= tick) {
            break;
        }

        for (entry = timers->slot[0][at % KV_TIMERS_SLOTS];
             entry;
             entry = kv_entry_expiry(entry)->next)
        {
            if (n == max) {
                return n;
            }

            assert(kv_entry_expires(entry) <= now);

            e[n++] = entry;
        }
    }

    return n;
}


void
kv_timers_set_next(kv_timers_t *timers)
{
    uint64_t  at, next;
    unsigned  level;

    if (kv_timers_reached(timers)) {
        next = 0;

    } else if (!kv_timers_first(timers, &level, &at)) {
        next = KV_TIMERS_NEVER;

    } else {
        next = (at + (level == 0)) * KV_TIMERS_TICK;
    }

    kv_set_relaxed(timers->next, next);
}
