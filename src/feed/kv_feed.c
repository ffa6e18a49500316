
/*
 * The change feed; see kv_feed.h.
 */


#include "feed/kv_feed.h"
#include "base/kv_failpoint.h"


#define KV_FEED_HEADER      16u
#define KV_FEED_SLICES_MIN  4u


/* so that a record begins in each slice, but in those of the smallest rings */
_Static_assert(KV_FEED_SLICE >= KV_KEY_MAX + KV_FEED_HEADER + KV_FEED_ALIGN,
               "a slice of the feed");


static uint64_t kv_feed_size(uint16_t key_len);
static void kv_feed_make_space(kv_feed_t *feed, uint64_t size);
static size_t kv_feed_index(const kv_feed_t *feed, uint64_t pos);
static size_t kv_feed_store(kv_feed_t *feed, size_t i, uint64_t word);
static size_t kv_feed_load(const kv_feed_t *feed, size_t i, uint64_t *word);
static uint64_t kv_feed_slice(const kv_feed_t *feed, uint64_t pos);
static void kv_feed_note_slice(kv_feed_t *feed);
static bool kv_feed_overtaken(const kv_feed_t *feed, uint64_t pos);
static kv_rc_t kv_feed_header(const kv_feed_t *feed, uint64_t pos,
    kv_feed_record_t *rec);
static uint64_t kv_feed_near(const kv_feed_t *feed, uint64_t lsn,
    kv_feed_record_t *rec);


void
kv_feed_create(kv_feed_t *feed, void *mem, uint64_t size)
{
    uint64_t  words;

    memset((void *) feed, 0, sizeof(kv_feed_t));

    feed->size = size;

    if (size == 0) {
        return;
    }

    /* each slice has as many words, and one for its position */

    feed->slices = kv_max(size / KV_FEED_SLICE, KV_FEED_SLICES_MIN);
    words = size / 8 / feed->slices - 1;

    feed->bytes = words * 8 * feed->slices;
    feed->slice = mem;
    feed->ring = feed->slice + feed->slices;
}


static uint64_t
kv_feed_size(uint16_t key_len)
{
    return KV_FEED_HEADER + kv_align((uint64_t) key_len, 8);
}


void
kv_feed_resume(kv_feed_t *feed, uint64_t after)
{
    uint64_t          i, head, tail, pos;
    kv_feed_record_t  rec;

    if (feed->size == 0) {
        return;
    }

    if (!feed->used) {
        atomic_store_explicit(&feed->floor, after, memory_order_release);
        feed->used = true;
    }

    head = kv_get_relaxed(feed->head);
    tail = kv_get_relaxed(feed->tail);

    if (head > tail || (head == tail
                        && feed->last > kv_get_relaxed(feed->floor)))
    {

        /*
         * A batch that was not published has taken all of the ring.  The floor
         * may be of it: who has read all before it is not to go on here.
         */

        head += KV_FEED_HEADER;

        atomic_store_explicit(&feed->head, head, memory_order_release);
        atomic_store_explicit(&feed->tail, head, memory_order_release);
    }

    feed->written = kv_get_relaxed(feed->tail);
    feed->last = kv_get_relaxed(feed->floor);
    feed->last_slice = UINT64_MAX;

    for (pos = head; pos < feed->written; pos = rec.next) {
        (void) kv_feed_header(feed, pos, &rec);

        feed->last = rec.lsn;
        feed->last_slice = kv_feed_slice(feed, pos);
    }

    assert(pos == feed->written);

    /* no record may begin there the next time */

    for (i = 0; i < feed->slices; i++) {
        if (kv_get_relaxed(feed->slice[i]) >= feed->written) {
            atomic_store_explicit(&feed->slice[i], 0, memory_order_release);
        }
    }
}


void
kv_feed_keep(kv_feed_t *feed, uint64_t log, uint64_t after)
{
    if (feed->size && feed->log && feed->log != log) {

        /* the position of the next record is no reader's */

        feed->written += KV_FEED_HEADER;
        feed->last = after;
        feed->last_slice = UINT64_MAX;

        atomic_store_explicit(&feed->floor, after, memory_order_release);
        atomic_store_explicit(&feed->head, feed->written,
                              memory_order_release);
        atomic_store_explicit(&feed->tail, feed->written,
                              memory_order_release);
    }

    feed->log = log;
}


void
kv_feed_put(kv_feed_t *feed, kv_feed_kind_t kind, uint64_t lsn,
    const void *key, uint16_t key_len)
{
    size_t                n, i;
    uint64_t              size, word;
    const unsigned char  *p;

    assert(lsn > feed->last);

    size = kv_feed_size(key_len);
    feed->last = lsn;

    kv_feed_make_space(feed, size);

    i = kv_feed_index(feed, feed->written);

    i = kv_feed_store(feed, i, lsn);
    i = kv_feed_store(feed, i,
                      size << 32 | (uint64_t) key_len << 8 | (uint64_t) kind);

    p = key;

    for (n = key_len; n >= 8; n -= 8) {
        memcpy(&word, p, 8);
        i = kv_feed_store(feed, i, word);
        p += 8;
    }

    if (n) {
        word = 0;
        memcpy(&word, p, n);
        (void) kv_feed_store(feed, i, word);
    }

    kv_feed_note_slice(feed);

    feed->written += size;
}


/* Moves the head until there is space for the next record. */

static void
kv_feed_make_space(kv_feed_t *feed, uint64_t size)
{
    uint64_t          head, least;
    kv_feed_record_t  rec;

    assert(size <= feed->bytes);

    head = kv_get_relaxed(feed->head);

    if (feed->written + size - head <= feed->bytes) {
        return;
    }

    for (least = feed->written + size - feed->bytes;
         head < least;
         head = rec.next)
    {
        (void) kv_feed_header(feed, head, &rec);
    }

    /* before any word of these is written over */

    atomic_store_explicit(&feed->floor, rec.lsn, memory_order_release);

    kv_failpoint(KV_FAILPOINT_FEEDING);

    atomic_store_explicit(&feed->head, head, memory_order_release);
}


/* Which word of the ring a position is; what is stored, or loaded, next. */

static size_t
kv_feed_index(const kv_feed_t *feed, uint64_t pos)
{
    return pos % feed->bytes / 8;
}


static size_t
kv_feed_store(kv_feed_t *feed, size_t i, uint64_t word)
{
    atomic_store_explicit(&feed->ring[i], word, memory_order_release);

    kv_failpoint(KV_FAILPOINT_FEEDING);

    return i + 1 < feed->bytes / 8 ? i + 1 : 0;
}


static size_t
kv_feed_load(const kv_feed_t *feed, size_t i, uint64_t *word)
{
    *word = atomic_load_explicit(&feed->ring[i], memory_order_acquire);

    return i + 1 < feed->bytes / 8 ? i + 1 : 0;
}


/* The number of the slice that a position is in; it does not wrap. */

static uint64_t
kv_feed_slice(const kv_feed_t *feed, uint64_t pos)
{
    return pos / (feed->bytes / feed->slices);
}


/* The record at `written` may be the first in its slice. */

static void
kv_feed_note_slice(kv_feed_t *feed)
{
    uint64_t  slice;

    slice = kv_feed_slice(feed, feed->written);

    if (slice != feed->last_slice) {
        feed->last_slice = slice;
        atomic_store_explicit(&feed->slice[slice % feed->slices],
                              feed->written, memory_order_release);
    }
}


uint64_t
kv_feed_publish(kv_feed_t *feed)
{
    uint64_t  tail;

    tail = kv_get_relaxed(feed->tail);

    if (tail != feed->written) {
        atomic_store_explicit(&feed->tail, feed->written,
                              memory_order_release);
    }

    return tail;
}


/* After words at this position were loaded: whether they count for nothing. */

static bool
kv_feed_overtaken(const kv_feed_t *feed, uint64_t pos)
{
    return kv_get_relaxed(feed->head) > pos;
}


/* Reads all but the key.  KV_OK or KV_DECLINED. */

static kv_rc_t
kv_feed_header(const kv_feed_t *feed, uint64_t pos, kv_feed_record_t *rec)
{
    uint64_t  word;

    (void) kv_feed_load(feed, kv_feed_load(feed, kv_feed_index(feed, pos),
                                           &rec->lsn), &word);

    if (kv_feed_overtaken(feed, pos)) {
        return KV_DECLINED;
    }

    rec->kind = (kv_feed_kind_t) (word & 0xff);
    rec->key_len = (uint16_t) (word >> 8);
    rec->next = pos + (word >> 32);

    assert(rec->kind >= KV_FEED_PUT && rec->kind <= KV_FEED_CLEAR);
    assert(rec->next - pos == kv_feed_size(rec->key_len));

    return KV_OK;
}


kv_rc_t
kv_feed_read(const kv_feed_t *feed, uint64_t pos, kv_feed_record_t *rec)
{
    size_t  i, n;

    if (pos >= kv_feed_tail(feed)) {
        return KV_NOT_FOUND;
    }

    if (kv_feed_header(feed, pos, rec) != KV_OK) {
        return KV_DECLINED;
    }

    i = kv_feed_index(feed, pos + KV_FEED_HEADER);

    for (n = 0; n * 8 < rec->key_len; n++) {
        i = kv_feed_load(feed, i, &rec->key[n]);
    }

    return kv_feed_overtaken(feed, pos) ? KV_DECLINED : KV_OK;
}


kv_rc_t
kv_feed_find(const kv_feed_t *feed, uint64_t lsn, uint64_t *pos,
    kv_feed_record_t *rec)
{
    kv_rc_t   rc;
    uint64_t  at, tail;

    tail = kv_feed_tail(feed);
    at = kv_feed_near(feed, lsn, rec);

    while (at < tail) {
        rc = kv_feed_header(feed, at, rec);

        if (rc != KV_OK) {
            return rc;
        }

        if (rec->lsn > lsn) {
            break;
        }

        at = rec->next;
    }

    *pos = at;

    return kv_feed_floor(feed) > lsn || kv_feed_overtaken(feed, at)
           ? KV_DECLINED : KV_OK;
}


/*
 * The position of a record that is not behind the first one above `lsn`, and
 * not far from it; the head, if there is no other.
 */

static uint64_t
kv_feed_near(const kv_feed_t *feed, uint64_t lsn, kv_feed_record_t *rec)
{
    uint64_t  first, n, half, pos, head, tail, at;

    head = atomic_load_explicit(&feed->head, memory_order_acquire);
    tail = kv_feed_tail(feed);

    at = head;
    first = kv_feed_slice(feed, head);
    n = head < tail ? kv_feed_slice(feed, tail) - first + 1 : 0;

    while (n) {
        half = n / 2;

        pos = atomic_load_explicit(
                  &feed->slice[(first + half) % feed->slices],
                  memory_order_acquire);

        if (pos < at || pos >= tail
            || kv_feed_slice(feed, pos) != first + half
            || kv_feed_header(feed, pos, rec) != KV_OK
            || rec->lsn > lsn)
        {
            n = half;
            continue;
        }

        at = pos;
        first += half + 1;
        n -= half + 1;
    }

    return at;
}
