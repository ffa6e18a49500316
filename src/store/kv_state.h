
/*
 * The states of a store: when each begins and ends, and what it serves.
 *
 *     state        set when                        cleared when
 *     -----------  ------------------------------  --------------------------
 *     ready        nothing below is so             -
 *     disk full    the log cannot grow: the disk   there is space again [1]
 *                  is full (KV_NO_SPACE)
 *     refusing     a write or a sync met an error  the same [1]
 *                  that may pass: KV_AGAIN
 *     read-only    a write or a sync failed        nginx is restarted
 *                  otherwise: KV_ERROR
 *     recovering   a death left the zone half      it is rebuilt from disk
 *                  changed
 *     failed       it cannot be rebuilt: damage,   nginx is restarted
 *                  KV_ERROR, a zone too small
 *
 *     state        reads  writes                       /health
 *     -----------  -----  ---------------------------  -------
 *     ready        yes    yes                          200
 *     disk full    yes    tried; 507 if without space  503
 *     refusing     yes    tried; 503 if in vain        503
 *     read-only    yes    503                          503
 *     recovering   503    503                          503
 *     failed       503    503                          503
 *
 * Of several that are true, the last in the first table is the state.
 *
 * [1] On a full disk, writes that fit into the current segment succeed and
 * larger ones do not: the state must not change with each.  So the committer
 * clears it only when a batch as large as those refused was written, or a new
 * segment begun; the background task, when there is a spare segment and the
 * current one can be opened.  Each refused write, /health, and writes that
 * succeed meanwhile request that check.
 *
 *
 * Which errors lead where
 *
 * kv_io_rc() sorts the errors of all calls.  What may pass (a lack of
 * descriptors, memory, rights or space, an interruption) never leads to a state
 * that only a restart ends: a write that failed so left its bytes, if any,
 * behind the log's end, which did not move.
 *
 * But a failed sync of the log is final, whatever the error.  Linux reports an
 * error of writing back once, and then takes the pages for clean; after others
 * (ENOMEM, EAGAIN, EINTR) it is not known what was written back.  So the next
 * sync may succeed without having written it.  ENOSPC and EDQUOT, too, mean
 * that delayed allocation, or a server, found no space for what was written.
 *
 * Not final are: a sync that did not begin, because its process could not open
 * the segment ("refusing"); and the syncs of a new segment and of its name,
 * whose bytes count for nothing before: it is made once more.
 *
 *
 * This file alone changes zone->state (kv_zone_state_t), which is about memory,
 * and zone->writes (kv_writes_t), which is about the log and outlives a
 * rebuild.
 */


#ifndef KV_STATE_H
#define KV_STATE_H


#include "store/kv_zone.h"


typedef enum {
    KV_STATE_READY = 0,
    KV_STATE_DISK_FULL,
    KV_STATE_REFUSING,
    KV_STATE_READ_ONLY,
    KV_STATE_RECOVERING,
    KV_STATE_FAILED
} kv_state_t;


struct kv_store_s;


/* The state, and the word for it, as in the table. */
kv_state_t kv_state(kv_zone_t *zone);
const char *kv_state_name(kv_state_t state);

/* Whether the map may be read: neither recovering nor failed. */
static inline bool
kv_state_reads(kv_zone_t *zone)
{
    return atomic_load_explicit(&zone->state, memory_order_acquire)
           == KV_ZONE_READY;
}

/* The same, and no worker has died in the heap: the committer may go on. */
bool kv_state_whole(kv_zone_t *zone);

/* Whether writes are tried: not read-only. */
static inline bool
kv_state_writes(kv_zone_t *zone)
{
    return atomic_load_explicit(&zone->writes, memory_order_relaxed)
           != KV_WRITES_NEVER;
}

/* Whether writes are tried, but some were refused: full or refusing. */
static inline bool
kv_state_refuses(kv_zone_t *zone)
{
    uint32_t  writes;

    writes = atomic_load_explicit(&zone->writes, memory_order_relaxed);

    return writes == KV_WRITES_FULL || writes == KV_WRITES_REFUSED;
}

/*
 * When a rebuild or a sync that failed is tried again: nanoseconds, monotonic;
 * 0: at once.  And whether that time has come.
 */
static inline uint64_t
kv_state_retry_ns(kv_zone_t *zone)
{
    return atomic_load(&zone->retry_ns);
}

bool kv_state_may_retry(kv_zone_t *zone);


/*
 * What happened to the log.  Under the commit lock, except
 * kv_state_works_again().
 *
 * kv_state_refused(): a batch of `len` bytes (0: a sync that did not begin) met
 * `rc`, KV_NO_SPACE or KV_AGAIN.  Logs it, but not each time.
 *
 * kv_state_wrote(): a batch was written; `extended`: in a new segment.
 *
 * kv_state_works_again(): there is space, whatever was refused.
 *
 * kv_state_no_writes(): any other error.
 */
void kv_state_refused(struct kv_store_s *store, kv_rc_t rc, size_t len,
    const kv_err_t *err);
void kv_state_wrote(struct kv_store_s *store, size_t len, bool extended);
void kv_state_works_again(struct kv_store_s *store);
void kv_state_no_writes(struct kv_store_s *store, const kv_err_t *err);

/* Puts the next try off; the pauses grow until kv_state_succeeded(). */
void kv_state_retry(kv_zone_t *zone);
void kv_state_succeeded(kv_zone_t *zone);


/*
 * What happened to the zone.  Under the commit lock.
 *
 * kv_state_loaded(): it is new, and recovered.
 *
 * kv_state_break(): it may be half changed: no process uses it from now on.
 *
 * kv_state_rebuilt(): a rebuild has ended with `rc`.  KV_OK: ready.  KV_DEAD (a
 * worker died meanwhile), KV_AGAIN, KV_NO_SPACE, or KV_ERROR of a call whose
 * error may pass: still recovering, to be tried again.  KV_CANCELLED: the same
 * at once, by another process.  Else: failed.
 */
void kv_state_loaded(kv_zone_t *zone);
void kv_state_break(struct kv_store_s *store, const char *why);
void kv_state_rebuilt(struct kv_store_s *store, kv_rc_t rc,
    const kv_err_t *err);


#endif /* KV_STATE_H */
