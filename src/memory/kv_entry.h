
/*
 * An entry: one key and its value, as they stand in the zone.
 *
 * A small entry is one object: header, key, value; in front of the value a
 * kv_expiry_t, if the key expires or did at one time.  One with a value of more
 * than KV_ENTRY_INLINE bytes keeps it in pieces: whole pages, then smaller
 * ones for the rest, so that no value needs contiguous memory, and few bytes
 * are lost to the distance between size classes, which grows with the size.
 * Its head is a SYSTEM object: it is small beside the pieces, never moved,
 * and must not keep a page of small entries from being emptied.
 *
 *     small            header | key | value
 *     small, EXPIRES   header | key | pad to 8 | kv_expiry_t | value
 *     in pieces        header | key | pad to 8 | kv_pieces_t
 *
 * Behind the key may be metadata of the value (base/kv_meta.h): a byte that
 * says how many bytes they have, and these.  Key and metadata are its name.
 *
 * An entry is built by one worker, which fills it as the body arrives, and
 * never changes once it is published, but for three things: `pins`, which
 * readers count; the addresses of pieces, which the committer replaces when it
 * moves them (either address is good to read while in an epoch); and what is in
 * kv_expiry_t, which is the committer's.  Readers see the time of expiry before
 * or after a change.
 *
 * While the body arrives, the entry has no more memory than its bytes need,
 * however long the value is said to be: up to KV_ENTRY_INLINE bytes lie in one
 * object that is replaced by a larger one, then pieces are added one by one.
 * That memory counts as the uploads' (KV_HELD_UPLOADS of the heap) until the
 * entry is finished or freed.
 */


#ifndef KV_ENTRY_H
#define KV_ENTRY_H


#include <sys/uio.h>

#include "base/kv_meta.h"
#include "memory/kv_heap.h"


#define KV_ENTRY_PIECES   0x01u
#define KV_ENTRY_PARTIAL  0x02u      /* its value is arriving */
#define KV_ENTRY_EXPIRES  0x04u      /* small: it has a kv_expiry_t */

/* the largest value that lies in its entry */
#define KV_ENTRY_INLINE   8192u

/* the pieces that the rest of a value behind its whole pages is cut into */
#define KV_ENTRY_TAILS    3u

/* An entry to be built whose length is not known (a chunked body). */
#define KV_LENGTH_UNKNOWN ((1u << 29) - 1)

/* memory for the first bytes of a value that arrives, if they fit */
#define KV_ENTRY_FIRST    512u
#define KV_ENTRY_GROWTH   4u


/*
 * 12 bytes, as each of them counts in a zone of small values.  The LSN is the
 * committer's, which sets it before the entry is published.
 */

typedef struct {
    uint32_t         value_len:29; /* PARTIAL, not in pieces: its memory */
    uint32_t         flags:3;      /* KV_ENTRY_... */
    uint32_t         lsn_low;      /* see kv_entry_lsn() */
    uint16_t         lsn_high;
    uint16_t         key_len:15;
    uint16_t         has_meta:1;   /* metadata are behind the key */
    char             key[];
} kv_entry_t;


_Static_assert(sizeof(kv_entry_t) == 12, "header of an entry");
_Static_assert(KV_KEY_MAX < 1u << 15, "length of a key");
_Static_assert(KV_VALUE_MAX < KV_LENGTH_UNKNOWN, "length of a value");


/*
 * When the entry's key expires.  The committer links it into the timers while
 * the entry is in the map and expires.  Until the operation that built the
 * entry is submitted, the time counts from then (kv_store_submit()).
 */

typedef struct {
    _Atomic uint64_t expires;      /* ms since the epoch; 0: never */
    kv_entry_t      *next;         /* with the same time, about */
    kv_entry_t     **link;         /* what leads here; NULL: not linked */
} kv_expiry_t;


typedef struct kv_piece_s  kv_piece_t;


/* In `pins`: it is in the committer's list.  The other bits are the count. */
#define KV_PINS_LISTED    0x80000000u


typedef struct {
    kv_expiry_t      expiry;
    _Atomic uint32_t pins;         /* readers that pin it: see kv_worker.h */
    uint32_t         seen;         /* the committer's: see kv_epoch.c */
    kv_entry_t      *next;         /* in the committer's pinned list */
    kv_piece_t      *stale;        /* replaced while it was pinned */
    uint32_t         n;            /* pieces */
    uint32_t         max;          /* pieces that can be named here */
    _Atomic(char *)  piece[];      /* where each one's data starts */
} kv_pieces_t;


/*
 * In front of a piece that is smaller than a page: whose it is, for moving
 * it.  A whole page needs none: it is never moved.
 */

struct kv_piece_s {
    kv_entry_t      *owner;
    kv_piece_t      *next;         /* once it is stale */
};


/* What an entry is made with. */

typedef struct {
    const void      *key;
    const void      *meta;         /* as base/kv_meta.h has them, */
    uint16_t         key_len;
    uint8_t          meta_len;     /* or 0: none */
} kv_name_t;


/*
 * Allocates an entry for a key and a value of `value_len` bytes, all of it;
 * `flags` are 0, or KV_ENTRY_EXPIRES: the key may expire (kv_entry_expiry() is
 * not NULL, and says never).  Copies the key.  Stores it in *where while it
 * holds the heap's lock, so that it has an owner at every instant.  KV_OK,
 * KV_NO_MEMORY, KV_DEAD.
 */
kv_rc_t kv_entry_create(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, uint32_t value_len, uint8_t flags);

/*
 * An entry whose value arrives, `value_len` bytes in all, or KV_LENGTH_UNKNOWN,
 * with memory for the first `n` bytes.  If those are all, the result is as of
 * kv_entry_create(), else it is KV_ENTRY_PARTIAL.  Whatever becomes of it keeps
 * its time of expiry.  `flags` and results as above.
 */
kv_rc_t kv_entry_begin(kv_heap_t *heap, kv_entry_t **where,
    const kv_name_t *name, uint32_t value_len, uint32_t n, uint8_t flags);

/*
 * An entry without a value, which names the key of an operation.  It takes a
 * page only if at least `leave` pages stay free: 0 for a single delete, which
 * must work when the zone is full.  `flags` and results as above.
 */
kv_rc_t kv_entry_create_key(kv_heap_t *heap, kv_entry_t **where,
    const void *key, uint16_t key_len, uint32_t leave, uint8_t flags);

/*
 * Gives *where, which has a kv_expiry_t and is in no map, value and metadata of
 * a small entry of the same key.  It is another entry afterwards, with the same
 * LSN and time of expiry.  Results as above; KV_NO_MEMORY changes nothing.
 */
kv_rc_t kv_entry_take_value(kv_heap_t *heap, kv_entry_t **where,
    const kv_entry_t *from);

/*
 * Replaces *where, which has no metadata, by a small entry of the same key and
 * LSN, with this value; `flags` as above.  KV_OK, KV_NO_MEMORY (nothing has
 * changed), KV_DEAD.
 */
kv_rc_t kv_entry_remake(kv_heap_t *heap, kv_entry_t **where,
    const void *value, uint32_t value_len, uint8_t flags);

/*
 * Replaces *where, the key of a delete, by a copy of `e`, which has the same
 * key and is in no pieces, with this LSN.  It may use the heap's last pages as
 * well.  KV_OK, KV_NO_MEMORY (nothing has changed), KV_DEAD.
 */
kv_rc_t kv_entry_replace_key(kv_heap_t *heap, kv_entry_t **where,
    const kv_entry_t *e, uint64_t lsn);

/* Puts `n` bytes at `offset` of a value for which there is memory. */
void kv_entry_write(kv_entry_t *e, uint32_t offset, const void *data,
    size_t n);

/*
 * Appends `n` bytes at `offset`, which is what the value got so far; its length
 * is `value_len` or unknown, as it began, and `max_len` at most.  *where may be
 * another entry afterwards.  KV_OK, KV_NO_MEMORY (nothing is lost; the caller
 * may try again with the same bytes), KV_DEAD.
 */
kv_rc_t kv_entry_append(kv_heap_t *heap, kv_entry_t **where,
    uint32_t value_len, uint32_t max_len, uint32_t offset, const void *data,
    size_t n);

/*
 * Gives an entry that is KV_ENTRY_PARTIAL, and got `value_len` bytes, its final
 * form; *where may be another entry afterwards.  KV_OK, KV_NO_MEMORY (the
 * caller may try again), KV_DEAD.
 */
kv_rc_t kv_entry_finish(kv_heap_t *heap, kv_entry_t **where,
    uint32_t value_len);

/* Frees *where and sets it to NULL, both under the lock.  KV_OK, KV_DEAD. */
kv_rc_t kv_entry_destroy(kv_heap_t *heap, kv_entry_t **where);

/* Frees all its memory; with the heap's lock held. */
void kv_entry_free_locked(kv_heap_t *heap, kv_entry_t *e);

/*
 * The value in order.  Fills at most `max` elements of `iov`, starting with
 * piece `from`; returns how many.  A caller with fewer than
 * kv_entry_iov_count() elements calls again with `from` moved on.
 */
size_t kv_entry_iov(const kv_entry_t *e, struct iovec *iov, size_t max,
    size_t from);

size_t kv_entry_iov_count(const kv_entry_t *e);

/* Bytes of heap that an entry of this shape takes; `flags` as above. */
size_t kv_entry_footprint(size_t name_len, uint32_t value_len, uint8_t flags);

/* The same for one that is KV_ENTRY_PARTIAL, as it is. */
size_t kv_entry_partial_footprint(const kv_entry_t *e);

/* Bytes of its value for which one that is KV_ENTRY_PARTIAL has memory. */
size_t kv_entry_partial_space(const kv_entry_t *e);

/*
 * Whether the heap has memory for an entry of this shape now.  KV_OK,
 * KV_NO_MEMORY, KV_DEAD.
 */
kv_rc_t kv_entry_fits(kv_heap_t *heap, size_t name_len, uint32_t value_len);


/*
 * The most free pages that building a value of `value_len` bytes can take: each
 * of its tails, and its head, may need a page of its class.
 */
static inline size_t
kv_entry_pages_max(uint32_t value_len)
{
    return value_len / KV_PAGE_SIZE + KV_ENTRY_TAILS + 1;
}


/* Metadata, and how many bytes they have; 0: there are none. */

static inline const void *
kv_entry_meta(const kv_entry_t *e, uint8_t *n)
{
    *n = e->has_meta ? (uint8_t) e->key[e->key_len] : 0;

    return e->key + e->key_len + 1;
}


/* Bytes of the name. */

static inline size_t
kv_entry_name_len(const kv_entry_t *e)
{
    return kv_likely(!e->has_meta)
           ? e->key_len : e->key_len + 1u + (uint8_t) e->key[e->key_len];
}


static inline kv_pieces_t *
kv_entry_pieces(const kv_entry_t *e)
{
    return (kv_pieces_t *) kv_align((uintptr_t) (e->key
                                                 + kv_entry_name_len(e)), 8);
}


/* NULL: it has none, and never expires. */

static inline kv_expiry_t *
kv_entry_expiry(const kv_entry_t *e)
{
    if (kv_likely(!(e->flags & (KV_ENTRY_PIECES|KV_ENTRY_EXPIRES)))) {
        return NULL;
    }

    if (e->flags & KV_ENTRY_PIECES) {
        return &kv_entry_pieces(e)->expiry;
    }

    return (kv_expiry_t *) kv_align((uintptr_t) (e->key
                                                 + kv_entry_name_len(e)), 8);
}


/* When it expires; 0: never. */

static inline uint64_t
kv_entry_expires(const kv_entry_t *e)
{
    kv_expiry_t  *expiry;

    expiry = kv_entry_expiry(e);

    return expiry ? kv_get_relaxed(expiry->expires) : 0;
}


/* Of an entry with a kv_expiry_t, which is not in the timers. */

static inline void
kv_entry_set_expires(kv_entry_t *e, uint64_t ms)
{
    kv_set_relaxed(kv_entry_expiry(e)->expires, ms);
}


/* Of a small entry: what stands before its value, and all of it. */

static inline size_t
kv_entry_value_offset(size_t name_len, uint8_t flags)
{
    return flags & KV_ENTRY_EXPIRES
           ? kv_align(sizeof(kv_entry_t) + name_len, 8) + sizeof(kv_expiry_t)
           : sizeof(kv_entry_t) + name_len;
}


static inline size_t
kv_entry_size(const kv_entry_t *e)
{
    return kv_entry_value_offset(kv_entry_name_len(e), e->flags)
           + e->value_len;
}


static inline const char *
kv_entry_value(const kv_entry_t *e)
{
    return (const char *) e + kv_entry_value_offset(kv_entry_name_len(e),
                                                    e->flags);
}


/* Bytes of the client's that it keeps: key, metadata and value. */

static inline uint64_t
kv_entry_payload(const kv_entry_t *e)
{
    return kv_entry_name_len(e) + (uint64_t) e->value_len;
}


/* The LSN of the write that it is of: below 2^48 (kv_format.h). */

static inline uint64_t
kv_entry_lsn(const kv_entry_t *e)
{
    return (uint64_t) e->lsn_high << 32 | e->lsn_low;
}


static inline void
kv_entry_set_lsn(kv_entry_t *e, uint64_t lsn)
{
    e->lsn_low = (uint32_t) lsn;
    e->lsn_high = (uint16_t) (lsn >> 32);
}


#endif /* KV_ENTRY_H */
