
/*
 * Watchers: which workers are woken for what is new in the change feed
 * (feed/kv_feed.h).
 *
 * A worker reads the feed once for all of its watchers, and finds theirs by
 * itself.  In the zone it shows which keys these are about: the prefixes, and
 * single keys, are in the worker's filter, beside the keys that its reads wait
 * for (kv_await.h), and worker->watched says which lengths the prefixes have.
 * A prefix is cut to one of few lengths for that (kv_watch.c), so that the
 * committer has as many to look for in a key at most.  When a batch is
 * published, the committer looks for the keys of its records in the filters,
 * and wakes the workers that have one of them: so workers sleep while others'
 * keys are written.
 *
 * A worker that sleeps while a quarter of the ring is written is woken, too: it
 * must not be overtaken, because then it would not know whether anything of its
 * watchers' was lost.
 *
 * No record is missed.  The worker first shows a prefix, then notes the end of
 * the feed; the committer first publishes, then looks at the filters; and each
 * makes a full fence in between.  So the record is behind the end that the
 * worker noted and the committer sees the prefix, or it is before.  If the
 * committer dies in between, its successor wakes all workers (kv_takeover.c).
 */


#ifndef KV_WATCH_H
#define KV_WATCH_H


#include "disk/kv_record.h"
#include "store/kv_handle.h"


/* The committer adds what it applies; `e` has the key, or is NULL. */

static inline void
kv_watch_feed(kv_zone_t *zone, kv_feed_kind_t kind, uint64_t lsn,
    const kv_entry_t *e)
{
    if (zone->feed.size) {
        kv_feed_put(&zone->feed, kind, lsn, e ? e->key : NULL,
                    e ? e->key_len : 0);
    }
}

/* What was added becomes visible.  Returns the position of the first of it. */

static inline uint64_t
kv_watch_publish(kv_zone_t *zone)
{
    if (zone->feed.size == 0) {
        return 0;
    }

    /* the same log, though the batch may have begun a new incarnation of it */

    zone->feed.log = kv_get_relaxed(zone->wal.incarnation);

    return kv_feed_publish(&zone->feed);
}

/* Recovery adds what the log has, and the feed has not. */
void kv_watch_feed_again(kv_zone_t *zone, uint64_t lsn,
    const kv_record_t *rec);

/*
 * Finds the workers that watch what was published from position `from` on;
 * wake[i] = 1: the caller must wake worker i.  With the commit lock held, and
 * if there is a feed.
 */
void kv_watch_tell(kv_zone_t *zone, uint64_t from, uint8_t *wake);

/* The committer has died: any worker may have watchers.  All must be woken. */
void kv_watch_tell_all(kv_zone_t *zone);

/* How many watchers the workers have. */
uint64_t kv_watch_count(kv_zone_t *zone);


#endif /* KV_WATCH_H */
