
/*
 * Building, filling and freeing entries; see kv_entry.h.
 */


#include <assert.h>

#include "kv_entry.h"


/* what may be lost at the end of a piece: one in so many bytes */
#define KV_PIECE_LOSS   16


/* How a value is cut: `pages` whole ones, then `tails` pieces of `size[]`. */

typedef struct {
    uint32_t  pages;
    uint32_t  tails;
    uint32_t  size[KV_ENTRY_TAILS];    /* bytes of data, without kv_piece_t */
} kv_cut_t;


/*
 * What pieces take: some of the heap's classes.  Not all: each one in use
 * keeps a page that is not full, which weighs in a small zone.
 */

static const uint32_t  kv_piece_sizes[] = {
    512, 1024, 2048, 3072, 4096, 6528, 8192, 13056, 16384, 21824,
    KV_HEAP_MAX_CLASS
};


_Static_assert(sizeof(kv_entry_t) + KV_KEY_MAX + KV_ENTRY_INLINE
               <= KV_HEAP_MAX_CLASS, "KV_ENTRY_INLINE");


static void kv_entry_cut(uint32_t value_len, kv_cut_t *cut);
static const uint32_t *kv_piece_size(uint32_t len);
static size_t kv_entry_head_size(uint16_t key_len, uint32_t pieces);
static kv_rc_t kv_entry_create_small(kv_heap_t *heap, kv_heap_kind_t kind,
    kv_entry_t **where, const void *key, uint16_t key_len,
    uint32_t value_len);
static kv_rc_t kv_entry_create_pieces(kv_heap_t *heap, kv_entry_t **where,
    const void *key, uint16_t key_len, uint32_t value_len, uint32_t max);
static void kv_entry_init(kv_entry_t *e, const void *key, uint16_t key_len,
    uint32_t value_len, uint8_t flags);
static bool kv_entry_add_piece(kv_heap_t *heap, kv_entry_t *e, uint32_t size);
static uint32_t kv_entry_piece_len(const kv_entry_t *e, uint32_t i,
    const kv_cut_t *cut);


kv_rc_t
kv_entry_create(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, uint32_t value_len, uint32_t max_len)
{
    uint32_t  max;

    if (value_len == KV_LENGTH_UNKNOWN) {

        /* one more than it takes, so that finding out is left to others */

        max = max_len / KV_PAGE_SIZE + 1;

        return kv_entry_create_pieces(heap, where, key, key_len, value_len,
                                      max);
    }

    if (value_len <= KV_ENTRY_INLINE) {
        return kv_entry_create_small(heap, KV_HEAP_ENTRY, where, key, key_len,
                                     value_len);
    }

    return kv_entry_create_pieces(heap, where, key, key_len, value_len, 0);
}


kv_rc_t
kv_entry_create_key(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len)
{
    return kv_entry_create_small(heap, KV_HEAP_SYSTEM, where, key, key_len, 0);
}


kv_rc_t
kv_entry_write(kv_heap_t *heap, kv_entry_t *e, uint32_t offset,
    const void *data, size_t n)
{
    size_t        room;
    char         *p;
    uint32_t      i, at;
    kv_cut_t      cut;
    kv_pieces_t  *pieces;
    const char   *src;

    if (!(e->flags & KV_ENTRY_PIECES)) {
        assert(offset + n <= e->value_len);

        memcpy(e->key + e->key_len + offset, data, n);
        return KV_OK;
    }

    src = data;
    pieces = kv_entry_pieces(e);
    memset(&cut, 0, sizeof(cut));

    if (e->value_len != KV_LENGTH_UNKNOWN) {
        assert(offset + n <= e->value_len);
        kv_entry_cut(e->value_len, &cut);
    }

    while (n) {
        i = offset / KV_PAGE_SIZE;
        at = offset % KV_PAGE_SIZE;

        if (e->value_len == KV_LENGTH_UNKNOWN) {
            room = KV_PAGE_SIZE - at;

            if (i == pieces->n) {
                if (kv_heap_lock(heap) != KV_OK) {
                    return KV_DEAD;
                }

                if (!kv_entry_add_piece(heap, e, KV_PAGE_SIZE)) {
                    kv_heap_unlock(heap);
                    return KV_NO_MEMORY;
                }

                kv_heap_unlock(heap);
            }

        } else {

            while (i >= cut.pages && at >= cut.size[i - cut.pages]) {
                at -= cut.size[i - cut.pages];
                i++;
            }

            room = kv_entry_piece_len(e, i, &cut) - at;
        }

        room = kv_min(room, n);

        p = atomic_load_explicit(&pieces->piece[i], memory_order_relaxed);
        memcpy(p + at, src, room);

        src += room;
        offset += (uint32_t) room;
        n -= room;
    }

    return KV_OK;
}


kv_rc_t
kv_entry_finish(kv_heap_t *heap, kv_entry_t **where, uint32_t value_len)
{
    char         *data, *page;
    kv_rc_t       rc;
    uint32_t      i, tail, done;
    kv_cut_t      cut;
    kv_entry_t   *old, *e;
    kv_pieces_t  *from, *to;

    old = *where;

    assert(old->flags & KV_ENTRY_PIECES);
    assert(old->value_len == KV_LENGTH_UNKNOWN);

    from = kv_entry_pieces(old);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    rc = KV_NO_MEMORY;

    if (value_len <= KV_ENTRY_INLINE) {
        e = kv_heap_alloc(heap, KV_HEAP_ENTRY,
                          sizeof(kv_entry_t) + old->key_len + value_len);
        if (e == NULL) {
            goto done;
        }

        kv_entry_init(e, old->key, old->key_len, value_len, 0);

        if (value_len) {
            page = atomic_load_explicit(&from->piece[0],
                                        memory_order_relaxed);
            memcpy(e->key + e->key_len, page, value_len);
        }

        goto replace;
    }

    /*
     * Whole pages change hands.  The last one is not full: what it holds is
     * copied to pieces of the right size, and it is freed.
     */

    kv_entry_cut(value_len, &cut);

    e = kv_heap_alloc(heap, KV_HEAP_SYSTEM,
                      kv_entry_head_size(old->key_len,
                                         cut.pages + cut.tails));
    if (e == NULL) {
        goto done;
    }

    kv_entry_init(e, old->key, old->key_len, value_len, KV_ENTRY_PIECES);

    to = kv_entry_pieces(e);
    to->next = NULL;
    to->stale = NULL;
    to->n = 0;
    to->max = cut.pages + cut.tails;

    for (i = 0; i < cut.pages; i++) {
        page = atomic_load_explicit(&from->piece[i], memory_order_relaxed);
        atomic_store_explicit(&to->piece[i], page, memory_order_relaxed);
    }

    to->n = cut.pages;

    for (tail = 0, done = 0; tail < cut.tails; tail++) {
        if (!kv_entry_add_piece(heap, e, cut.size[tail])) {

            /* the pages are still the old one's */

            for (i = cut.pages; i < to->n; i++) {
                data = atomic_load_explicit(&to->piece[i],
                                            memory_order_relaxed);
                kv_heap_free(heap, data - sizeof(kv_piece_t));
            }

            kv_heap_free(heap, e);
            goto done;
        }

        data = atomic_load_explicit(&to->piece[to->n - 1],
                                    memory_order_relaxed);
        page = atomic_load_explicit(&from->piece[cut.pages],
                                    memory_order_relaxed);
        memcpy(data, page + done, cut.size[tail]);
        done += cut.size[tail];
    }

    /* the old one keeps only the pages that it did not pass on */

    for (i = cut.pages; i < from->n; i++) {
        page = atomic_load_explicit(&from->piece[i], memory_order_relaxed);
        atomic_store_explicit(&from->piece[i - cut.pages], page,
                              memory_order_relaxed);
    }

    from->n -= cut.pages;

replace:

    kv_entry_free_locked(heap, old);
    *where = e;
    rc = KV_OK;

done:

    kv_heap_unlock(heap);

    return rc;
}


kv_rc_t
kv_entry_destroy(kv_heap_t *heap, kv_entry_t **where)
{
    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    kv_entry_free_locked(heap, *where);
    *where = NULL;

    kv_heap_unlock(heap);

    return KV_OK;
}


void
kv_entry_free_locked(kv_heap_t *heap, kv_entry_t *e)
{
    char         *data;
    uint32_t      i;
    kv_cut_t      cut;
    kv_piece_t   *piece;
    kv_pieces_t  *pieces;

    if (e->flags & KV_ENTRY_PIECES) {
        pieces = kv_entry_pieces(e);

        while ((piece = pieces->stale) != NULL) {
            pieces->stale = piece->next;
            kv_heap_free(heap, piece);
        }

        if (e->value_len == KV_LENGTH_UNKNOWN) {
            cut.pages = UINT32_MAX;

        } else {
            kv_entry_cut(e->value_len, &cut);
        }

        for (i = 0; i < pieces->n; i++) {
            data = atomic_load_explicit(&pieces->piece[i],
                                        memory_order_relaxed);
            kv_heap_free(heap, i < cut.pages ? data
                                             : data - sizeof(kv_piece_t));
        }
    }

    kv_heap_free(heap, e);
}


size_t
kv_entry_iov(const kv_entry_t *e, struct iovec *iov, size_t max, size_t from)
{
    size_t        n;
    uint32_t      i;
    kv_cut_t      cut;
    kv_pieces_t  *pieces;

    if (!(e->flags & KV_ENTRY_PIECES)) {
        if (max == 0 || from != 0 || e->value_len == 0) {
            return 0;
        }

        iov[0].iov_base = (void *) kv_entry_value(e);
        iov[0].iov_len = e->value_len;

        return 1;
    }

    pieces = kv_entry_pieces(e);
    kv_entry_cut(e->value_len, &cut);

    for (n = 0, i = (uint32_t) from; n < max && i < pieces->n; n++, i++) {
        iov[n].iov_base = atomic_load_explicit(&pieces->piece[i],
                                               memory_order_acquire);
        iov[n].iov_len = kv_entry_piece_len(e, i, &cut);
    }

    return n;
}


size_t
kv_entry_iov_count(const kv_entry_t *e)
{
    if (e->flags & KV_ENTRY_PIECES) {
        return kv_entry_pieces(e)->n;
    }

    return e->value_len ? 1 : 0;
}


size_t
kv_entry_footprint(uint16_t key_len, uint32_t value_len)
{
    size_t    size;
    uint32_t  i;
    kv_cut_t  cut;

    if (value_len <= KV_ENTRY_INLINE) {
        return kv_heap_class_size(sizeof(kv_entry_t) + key_len + value_len);
    }

    kv_entry_cut(value_len, &cut);

    size = kv_heap_class_size(kv_entry_head_size(key_len,
                                                 cut.pages + cut.tails));
    size += (size_t) cut.pages * KV_PAGE_SIZE;

    for (i = 0; i < cut.tails; i++) {
        size += *kv_piece_size(cut.size[i]);
    }

    return size;
}


/*
 * A rest that would leave too much of a piece empty fills the next smaller
 * one, and what is left of it is cut in turn.
 */

static void
kv_entry_cut(uint32_t value_len, kv_cut_t *cut)
{
    uint32_t         rest, need, taken;
    const uint32_t  *size;

    memset(cut, 0, sizeof(kv_cut_t));

    cut->pages = value_len / KV_PAGE_SIZE;
    rest = value_len % KV_PAGE_SIZE;
    taken = 0;

    while (rest) {
        need = sizeof(kv_piece_t) + rest;
        size = kv_piece_size(rest);

        if (size > kv_piece_sizes && *size > need + need / KV_PIECE_LOSS
            && cut->tails < KV_ENTRY_TAILS - 1)
        {
            size--;
        }

        taken += *size;

        if (taken >= KV_PAGE_SIZE) {

            /* a whole page holds more, and needs no kv_piece_t */

            cut->pages++;
            cut->tails = 0;
            return;
        }

        assert(cut->tails < KV_ENTRY_TAILS);

        need = kv_min(rest, *size - (uint32_t) sizeof(kv_piece_t));
        cut->size[cut->tails++] = need;
        rest -= need;
    }
}


/* The least that holds so many bytes, or the largest there is. */

static const uint32_t *
kv_piece_size(uint32_t len)
{
    const uint32_t  *size;

    size = kv_piece_sizes;

    while (*size < KV_HEAP_MAX_CLASS && *size - sizeof(kv_piece_t) < len) {
        size++;
    }

    return size;
}


static size_t
kv_entry_head_size(uint16_t key_len, uint32_t pieces)
{
    return kv_align(sizeof(kv_entry_t) + key_len, 8) + sizeof(kv_pieces_t)
           + pieces * sizeof(char *);
}


static kv_rc_t
kv_entry_create_small(kv_heap_t *heap, kv_heap_kind_t kind, kv_entry_t **where,
    const void *key, uint16_t key_len, uint32_t value_len)
{
    size_t       size;
    kv_entry_t  *e;

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    size = sizeof(kv_entry_t) + key_len + value_len;
    e = kv_heap_alloc(heap, kind, size);

    /*
     * There is not a page in reserve for each size that a delete's key may
     * have, but free objects of larger ones, as in the pages of records.
     */

    while (e == NULL && kind == KV_HEAP_SYSTEM && size < KV_HEAP_MAX_CLASS) {
        size = kv_heap_class_size(size) + 1;
        e = kv_heap_alloc(heap, kind, size);
    }

    if (e) {
        kv_entry_init(e, key, key_len, value_len, 0);
        *where = e;
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


/*
 * With a known length, all pieces at once; else none yet, and room to name
 * `max` of them.
 */

static kv_rc_t
kv_entry_create_pieces(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, uint32_t value_len, uint32_t max)
{
    uint32_t      i;
    kv_cut_t      cut;
    kv_entry_t   *e;
    kv_pieces_t  *pieces;

    memset(&cut, 0, sizeof(cut));

    if (value_len != KV_LENGTH_UNKNOWN) {
        kv_entry_cut(value_len, &cut);
        max = cut.pages + cut.tails;
    }

    if (kv_entry_head_size(key_len, max) > KV_PAGE_SIZE) {
        return KV_NO_MEMORY;
    }

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    e = kv_heap_alloc(heap, KV_HEAP_SYSTEM, kv_entry_head_size(key_len, max));
    if (e == NULL) {
        kv_heap_unlock(heap);
        return KV_NO_MEMORY;
    }

    kv_entry_init(e, key, key_len, value_len, KV_ENTRY_PIECES);

    pieces = kv_entry_pieces(e);
    pieces->next = NULL;
    pieces->stale = NULL;
    pieces->n = 0;
    pieces->max = max;

    for (i = 0; i < cut.pages; i++) {
        if (!kv_entry_add_piece(heap, e, KV_PAGE_SIZE)) {
            goto failed;
        }
    }

    for (i = 0; i < cut.tails; i++) {
        if (!kv_entry_add_piece(heap, e, cut.size[i])) {
            goto failed;
        }
    }

    *where = e;

    kv_heap_unlock(heap);

    return KV_OK;

failed:

    kv_entry_free_locked(heap, e);
    kv_heap_unlock(heap);

    return KV_NO_MEMORY;
}


static void
kv_entry_init(kv_entry_t *e, const void *key, uint16_t key_len,
    uint32_t value_len, uint8_t flags)
{
    e->value_len = value_len;
    e->key_len = key_len;
    e->flags = flags;
    atomic_init(&e->pinned, 0);

    memcpy(e->key, key, key_len);
}


static bool
kv_entry_add_piece(kv_heap_t *heap, kv_entry_t *e, uint32_t size)
{
    char         *data;
    kv_piece_t   *piece;
    kv_pieces_t  *pieces;

    pieces = kv_entry_pieces(e);

    assert(pieces->n < pieces->max);

    if (size == KV_PAGE_SIZE) {
        data = kv_heap_alloc(heap, KV_HEAP_PIECE, KV_PAGE_SIZE);
        if (data == NULL) {
            return false;
        }

    } else {
        piece = kv_heap_alloc(heap, KV_HEAP_PIECE, *kv_piece_size(size));
        if (piece == NULL) {
            return false;
        }

        piece->owner = e;
        data = (char *) (piece + 1);
    }

    atomic_init(&pieces->piece[pieces->n], data);
    pieces->n++;

    return true;
}


static uint32_t
kv_entry_piece_len(const kv_entry_t *e, uint32_t i, const kv_cut_t *cut)
{
    if (i >= cut->pages) {
        return cut->size[i - cut->pages];
    }

    /* the last page may not be full: see kv_entry_cut() */

    return kv_min(KV_PAGE_SIZE, e->value_len - i * KV_PAGE_SIZE);
}
