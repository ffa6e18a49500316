
/*
 * The change feed: a ring in the zone that holds what was changed last, in the
 * order of the log.
 *
 *
 * What is in it
 *
 * One record for each put, delete, expiry and clear that is committed; a delete
 * has one whether or not the key was there, because the log does not say that.
 * A touch, which leaves value and version as they are, has none.  A value is
 * not in the feed: it is in the map, under the key, as long as it is the one of
 * that LSN.
 *
 *     word     bytes
 *     0        LSN
 *     1        size of the record << 32 | length of the key << 8 | kind
 *     2 ...    the key, filled up with zeroes to a multiple of 8
 *
 *
 * The ring
 *
 * A position counts bytes from the beginning of time and never wraps; a record
 * at position p begins at byte p % size of the ring, and may go on at its
 * beginning.  All that is read or written is a word of 8 bytes.
 *
 *        head                    tail         written
 *     ----|-----------------------|------------|------------------>  positions
 *         the records             not published yet
 *
 * The writer, which is the holder of the commit lock, adds records behind
 * `written` while it applies a batch, and publishes them all by one store of
 * `tail`, once the batch is visible and before it says so (applied_lsn).  To
 * make space it moves `head`, past records that are published or not: a batch
 * may have more than the ring.  `floor` is the LSN of the last record that
 * `head` has passed: all that is above it is there.
 *
 * To find an LSN without reading the ring from its beginning, `slice` has the
 * position of the first record in each part of it, of KV_FEED_SLICE bytes or a
 * little less: so no more than that is read, however large the ring is.  The
 * memory of the feed has these positions, and then the ring.
 *
 *
 * Why readers need no lock
 *
 * A reader at position p loads `tail` (acquire), which the writer stored after
 * the records before it (release): so what is below `tail` was written
 * completely, before.  It may be written over meanwhile.  The writer stores
 * `head` first, and then each word of the ring with release; the reader loads
 * each word with acquire, and `head` after that.  If it has got a word that the
 * writer stored later, the two synchronize, and it sees a `head` that the
 * writer stored before that word, which is beyond p: what it has read counts
 * for nothing, and it has been overtaken.  Else all words are those of the
 * record.  A length is not used before `head` has been looked at.
 *
 * `floor` is stored before `head` (release).  Who looks for an LSN looks at
 * `floor` after it has found the position, and at `head` after that: if the LSN
 * is not below `floor` nothing behind the LSN was passed before.
 *
 *
 * When the writer dies
 *
 * What is below `tail` is whole at each instruction, whatever else is half
 * written: so readers see nothing of it.  The zone is rebuilt then, because the
 * map was being changed; the log is read again, and kv_feed_resume() gives up
 * what was not published, and finds the LSN of the last record that was: what
 * the log has behind it is added once more.  The same call, and the same log,
 * fill the feed at the start of nginx: it has what the log has from the
 * snapshot on.
 */


#ifndef KV_FEED_H
#define KV_FEED_H


#include "base/kv_base.h"


#define KV_FEED_MIN      (64u << 10)     /* bytes of a ring, */
#define KV_FEED_MAX      (1ull << 32)    /* a multiple of KV_FEED_ALIGN */
#define KV_FEED_ALIGN    4096u
#define KV_FEED_SLICE    (32u << 10)


typedef enum {
    KV_FEED_PUT = 1,
    KV_FEED_DELETE,
    KV_FEED_EXPIRE,
    KV_FEED_CLEAR
} kv_feed_kind_t;


/* In the zone. */

typedef struct {
    uint64_t            size;            /* bytes of its memory; 0: none */
    uint64_t            bytes;           /* of the ring */
    uint64_t            slices;
    _Atomic uint64_t   *slice;
    _Atomic uint64_t   *ring;

    /* the holder of the commit lock writes all of it */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint64_t    head;
    _Atomic uint64_t    floor;
    _Atomic uint64_t    tail;

    uint64_t            written;         /* the writer's own */
    uint64_t            last;            /* LSN of the last record, or floor */
    uint64_t            last_slice;      /* where that begins */
    uint64_t            log;             /* which one it is of, by the number
                                            that it has now; 0: none yet */
    bool                used;            /* kv_feed_resume() was called */
} kv_feed_t;


/* A record, as a reader gets it. */

typedef struct {
    kv_feed_kind_t      kind;
    uint64_t            lsn;
    uint64_t            next;            /* the position behind it */
    uint16_t            key_len;
    uint64_t            key[KV_KEY_MAX / 8];
} kv_feed_record_t;


/*
 * Makes an empty feed in `size` bytes at `mem`, a multiple of KV_FEED_ALIGN,
 * for kv_feed_resume(); 0: none.
 */
void kv_feed_create(kv_feed_t *feed, void *mem, uint64_t size);


/*
 * The writer's calls, with the commit lock held.
 *
 * kv_feed_resume(): before the log is read: the next record is behind what is
 * published.  In a new feed, `after` is the LSN from which on the log is read.
 *
 * kv_feed_keep(): after the log was read: it is the log of that number, which
 * is the caller's.  If the feed is of another one nothing of it counts: it has
 * what comes behind the LSN `after`, and all readers are overtaken.
 *
 * kv_feed_put(): adds a record, with an LSN above that of the last one.
 *
 * kv_feed_publish(): what was added becomes visible.  Returns the position of
 * the first of it.
 */
void kv_feed_resume(kv_feed_t *feed, uint64_t after);
void kv_feed_keep(kv_feed_t *feed, uint64_t log, uint64_t after);
void kv_feed_put(kv_feed_t *feed, kv_feed_kind_t kind, uint64_t lsn,
    const void *key, uint16_t key_len);
uint64_t kv_feed_publish(kv_feed_t *feed);


/* Readers' calls, in any process and without a lock. */

/* The end of the feed: the position of the next record. */
static inline uint64_t
kv_feed_tail(const kv_feed_t *feed)
{
    return atomic_load_explicit(&feed->tail, memory_order_acquire);
}


/* The LSN up to which records may be missing. */
static inline uint64_t
kv_feed_floor(const kv_feed_t *feed)
{
    return atomic_load_explicit(&feed->floor, memory_order_acquire);
}


/*
 * Reads the record at a position, which is one that a record gave as the next,
 * or that one of these calls gave.  KV_OK; KV_NOT_FOUND: it is the end;
 * KV_DECLINED: it was written over, the reader has been overtaken.
 */
kv_rc_t kv_feed_read(const kv_feed_t *feed, uint64_t pos,
    kv_feed_record_t *rec);

/*
 * The position of the first record behind an LSN.  KV_OK, or KV_DECLINED: some
 * of what is behind it is not there any more.  `rec` is the caller's memory.
 */
kv_rc_t kv_feed_find(const kv_feed_t *feed, uint64_t lsn, uint64_t *pos,
    kv_feed_record_t *rec);


#endif /* KV_FEED_H */
