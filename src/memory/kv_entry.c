
/*
 * Building, filling and freeing entries; see kv_entry.h.
 */


#include <assert.h>

#include "memory/kv_entry.h"


/* what may be lost at the end of a piece: this share of it */
#define KV_PIECE_LOSS   16

/* of the last page's objects; bytes, those of a chunk of operation records */
#define KV_ENTRY_LAST   4096u


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


_Static_assert(sizeof(kv_entry_t) + KV_KEY_MAX + 1 + KV_META_MAX + 8
               + sizeof(kv_expiry_t) + KV_ENTRY_INLINE <= KV_HEAP_MAX_CLASS,
               "KV_ENTRY_INLINE");
_Static_assert(_Alignof(kv_expiry_t) == 8 && _Alignof(kv_pieces_t) == 8,
               "what stands behind a key is aligned to 8");


static void kv_entry_cut(uint32_t value_len, kv_cut_t *cut);
static const uint32_t *kv_piece_size(uint32_t len);
static size_t kv_entry_head_size(size_t name_len, uint32_t pieces);
static void kv_entry_name(const kv_entry_t *e, kv_name_t *name);
static size_t kv_entry_name_size(const kv_name_t *name);
static kv_rc_t kv_entry_create_any(kv_heap_t *heap, kv_entry_t **where,
    const kv_name_t *name, uint32_t value_len, uint8_t flags);
static kv_rc_t kv_entry_create_small(kv_heap_t *heap, kv_entry_t **where,
    const kv_name_t *name, uint32_t value_len, uint8_t flags);
static kv_rc_t kv_entry_create_pieces(kv_heap_t *heap, kv_entry_t **where,
    const kv_name_t *name, uint32_t value_len);
static kv_entry_t *kv_entry_alloc_small(kv_heap_t *heap, const kv_name_t *name,
    uint32_t value_len, uint8_t flags);
static kv_entry_t *kv_entry_alloc_last(kv_heap_t *heap, const kv_name_t *name,
    uint32_t value_len, uint32_t leave, uint8_t flags);
static kv_entry_t *kv_entry_alloc_head(kv_heap_t *heap, const kv_name_t *name,
    uint32_t value_len, uint32_t max, uint8_t flags);
static void kv_entry_init(kv_entry_t *e, const kv_name_t *name,
    uint32_t value_len, uint8_t flags);
static bool kv_entry_add_piece(kv_heap_t *heap, kv_entry_t *e, uint32_t size);
static uint32_t kv_entry_piece_len(const kv_entry_t *e, uint32_t i,
    const kv_cut_t *cut);
static void kv_entry_locate(const kv_entry_t *e, const kv_cut_t *cut,
    uint32_t offset, uint32_t *piece, uint32_t *at, uint32_t *space);
static uint32_t kv_entry_stage(uint32_t value_len, uint32_t n);
static kv_rc_t kv_entry_grow(kv_heap_t *heap, kv_entry_t **where,
    uint32_t value_len, uint32_t max_len, uint32_t filled, uint32_t n);
static kv_rc_t kv_entry_extend(kv_heap_t *heap, kv_entry_t *e, uint32_t n);
static bool kv_entry_extend_locked(kv_heap_t *heap, kv_entry_t *e,
    uint32_t n);
static void kv_entry_hold(kv_heap_t *heap, const kv_entry_t *e, int sign);
static void kv_entry_take_expires(kv_entry_t *e, const kv_entry_t *old);
static kv_entry_t *kv_entry_finish_small(kv_heap_t *heap, kv_entry_t *old,
    uint32_t value_len);
static kv_entry_t *kv_entry_finish_pieces(kv_heap_t *heap, kv_entry_t *old,
    uint32_t value_len);


/* One store, in order: see kv_op_entry(). */

static inline void
kv_entry_set(kv_entry_t **where, kv_entry_t *e)
{
    __atomic_store_n(where, e, __ATOMIC_RELEASE);
}


kv_rc_t
kv_entry_create(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, uint32_t value_len, uint8_t flags)
{
    const kv_name_t  name = { key, NULL, key_len, 0 };

    return kv_entry_create_any(heap, where, &name, value_len, flags);
}


kv_rc_t
kv_entry_begin(kv_heap_t *heap, kv_entry_t **where, const kv_name_t *name,
    uint32_t value_len, uint32_t n, uint8_t flags)
{
    if (n == value_len) {
        return kv_entry_create_any(heap, where, name, value_len, flags);
    }

    /* kv_entry_append() makes space for the rest */

    return kv_entry_create_small(heap, where, name,
                                 kv_entry_stage(value_len, n),
                                 flags | KV_ENTRY_PARTIAL);
}


static kv_rc_t
kv_entry_create_any(kv_heap_t *heap, kv_entry_t **where, const kv_name_t *name,
    uint32_t value_len, uint8_t flags)
{
    if (value_len <= KV_ENTRY_INLINE) {
        return kv_entry_create_small(heap, where, name, value_len, flags);
    }

    /* a head of pieces has a time of expiry in any case */

    return kv_entry_create_pieces(heap, where, name, value_len);
}


/* What another entry of the same key is made with; it points into `e`. */

static void
kv_entry_name(const kv_entry_t *e, kv_name_t *name)
{
    name->key = e->key;
    name->key_len = e->key_len;
    name->meta = kv_entry_meta(e, &name->meta_len);
}


static size_t
kv_entry_name_size(const kv_name_t *name)
{
    return name->key_len + (name->meta_len ? 1u + name->meta_len : 0u);
}


/* Bytes for the value in an object that holds its first `n` bytes. */

static uint32_t
kv_entry_stage(uint32_t value_len, uint32_t n)
{
    uint32_t  space;

    n = kv_min(n, KV_ENTRY_INLINE);

    for (space = KV_ENTRY_FIRST; space < n; space *= KV_ENTRY_GROWTH) {
        /* void */
    }

    return kv_min(kv_min(space, KV_ENTRY_INLINE), value_len);
}


kv_rc_t
kv_entry_create_key(kv_heap_t *heap, kv_entry_t **where, const void *key,
    uint16_t key_len, uint32_t leave, uint8_t flags)
{
    kv_entry_t  *e;

    const kv_name_t  name = { key, NULL, key_len, 0 };

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    e = kv_entry_alloc_last(heap, &name, 0, leave, flags);

    if (e) {
        kv_entry_set(where, e);
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


kv_rc_t
kv_entry_replace_key(kv_heap_t *heap, kv_entry_t **where, const kv_entry_t *e,
    uint64_t lsn)
{
    kv_name_t    name;
    kv_entry_t  *copy;

    assert(!(e->flags & KV_ENTRY_PIECES));

    kv_entry_name(e, &name);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    copy = kv_entry_alloc_last(heap, &name, e->value_len, 0, 0);

    if (copy) {
        kv_entry_write(copy, 0, kv_entry_value(e), e->value_len);
        kv_entry_set_lsn(copy, lsn);

        kv_entry_free_locked(heap, *where);
        kv_entry_set(where, copy);
    }

    kv_heap_unlock(heap);

    return copy ? KV_OK : KV_NO_MEMORY;
}


kv_rc_t
kv_entry_remake(kv_heap_t *heap, kv_entry_t **where, const void *value,
    uint32_t value_len, uint8_t flags)
{
    kv_name_t    name;
    kv_entry_t  *e, *old;

    old = *where;

    assert(!old->has_meta);

    kv_entry_name(old, &name);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    e = kv_entry_alloc_small(heap, &name, value_len, flags);

    if (e) {
        kv_entry_set_lsn(e, kv_entry_lsn(old));
        kv_entry_write(e, 0, value, value_len);
        kv_entry_free_locked(heap, old);
        kv_entry_set(where, e);
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


kv_rc_t
kv_entry_take_value(kv_heap_t *heap, kv_entry_t **where,
    const kv_entry_t *from)
{
    kv_name_t    name;
    kv_entry_t  *e, *old;

    old = *where;

    assert(old->flags & KV_ENTRY_EXPIRES && old->key_len == from->key_len);
    assert(!(from->flags & (KV_ENTRY_PIECES|KV_ENTRY_PARTIAL)));

    kv_entry_name(from, &name);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    e = kv_entry_alloc_small(heap, &name, from->value_len, KV_ENTRY_EXPIRES);

    if (e) {
        kv_entry_set_lsn(e, kv_entry_lsn(old));
        kv_entry_take_expires(e, old);
        kv_entry_write(e, 0, kv_entry_value(from), from->value_len);
        kv_entry_free_locked(heap, old);
        kv_entry_set(where, e);
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


/* What an operation needs that may use the reserve, but for `leave` pages. */

static kv_entry_t *
kv_entry_alloc_last(kv_heap_t *heap, const kv_name_t *name,
    uint32_t value_len, uint32_t leave, uint8_t flags)
{
    bool         last;
    size_t       size, larger;
    kv_entry_t  *e;

    size = kv_entry_value_offset(kv_entry_name_size(name), flags) + value_len;

    /*
     * The reserve does not have a page for each size that a delete's key may
     * have, but free objects of larger sizes.  So its last page is one of
     * KV_ENTRY_LAST, as those of records, if there is none yet.
     */

    last = leave == 0 && !kv_heap_has(heap, KV_HEAP_SYSTEM, KV_ENTRY_LAST);
    leave = last ? 1 : leave;

    e = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, size, leave);

    for (larger = size; e == NULL && larger < KV_HEAP_MAX_CLASS; /* void */ ) {
        larger = kv_heap_class_size(larger) + 1;
        e = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, larger, leave);
    }

    if (e == NULL && last) {
        e = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM,
                                kv_max(size, KV_ENTRY_LAST), 0);
    }

    if (e) {
        kv_entry_init(e, name, value_len, flags);
    }

    return e;
}


void
kv_entry_write(kv_entry_t *e, uint32_t offset, const void *data, size_t n)
{
    char         *p;
    uint32_t      i, at, space;
    kv_cut_t      cut;
    const char   *src;

    if (!(e->flags & KV_ENTRY_PIECES)) {
        assert(offset + n <= e->value_len);

        memcpy((char *) kv_entry_value(e) + offset, data, n);
        return;
    }

    src = data;
    memset(&cut, 0, sizeof(cut));

    if (e->value_len != KV_LENGTH_UNKNOWN) {
        assert(offset + n <= e->value_len);
        kv_entry_cut(e->value_len, &cut);
    }

    while (n) {
        kv_entry_locate(e, &cut, offset, &i, &at, &space);

        assert(i < kv_entry_pieces(e)->n);

        space = (uint32_t) kv_min(space, n);

        p = atomic_load_explicit(&kv_entry_pieces(e)->piece[i],
                                 memory_order_relaxed);
        memcpy(p + at, src, space);

        src += space;
        offset += space;
        n -= space;
    }
}


/* Finds the piece of a byte, where in it, and how many bytes follow there. */

static void
kv_entry_locate(const kv_entry_t *e, const kv_cut_t *cut, uint32_t offset,
    uint32_t *piece, uint32_t *at, uint32_t *space)
{
    *piece = offset / KV_PAGE_SIZE;
    *at = offset % KV_PAGE_SIZE;

    if (e->value_len == KV_LENGTH_UNKNOWN) {
        *space = KV_PAGE_SIZE - *at;
        return;
    }

    while (*piece >= cut->pages && *at >= cut->size[*piece - cut->pages]) {
        *at -= cut->size[*piece - cut->pages];
        (*piece)++;
    }

    *space = kv_entry_piece_len(e, *piece, cut) - *at;
}


kv_rc_t
kv_entry_append(kv_heap_t *heap, kv_entry_t **where, uint32_t value_len,
    uint32_t max_len, uint32_t offset, const void *data, size_t n)
{
    kv_rc_t      rc;
    uint32_t     end;
    kv_entry_t  *e;

    e = *where;
    end = offset + (uint32_t) n;

    if (e->flags & KV_ENTRY_PARTIAL) {

        if (!(e->flags & KV_ENTRY_PIECES) && end > e->value_len) {
            rc = kv_entry_grow(heap, where, value_len, max_len, offset, end);

            if (rc != KV_OK) {
                return rc;
            }

            e = *where;
        }

        if (e->flags & KV_ENTRY_PIECES) {
            rc = kv_entry_extend(heap, e, end);

            if (rc != KV_OK) {
                return rc;
            }
        }
    }

    kv_entry_write(e, offset, data, n);

    return KV_OK;
}


/*
 * Replaces an object that has become too small, with `filled` bytes of the
 * value in it, by a larger one, or by a head with pieces for those bytes.
 */

static kv_rc_t
kv_entry_grow(kv_heap_t *heap, kv_entry_t **where, uint32_t value_len,
    uint32_t max_len, uint32_t filled, uint32_t n)
{
    uint32_t     max;
    kv_cut_t     cut;
    kv_name_t    name;
    kv_entry_t  *e, *old;

    old = *where;
    kv_entry_name(old, &name);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    if (n <= KV_ENTRY_INLINE) {
        e = kv_entry_alloc_small(heap, &name, kv_entry_stage(value_len, n),
                                 old->flags);

    } else {

        /* if unknown, one too many: the caller finds a value too long */

        max = max_len / KV_PAGE_SIZE + 1;

        if (value_len != KV_LENGTH_UNKNOWN) {
            kv_entry_cut(value_len, &cut);
            max = cut.pages + cut.tails;
        }

        e = kv_entry_alloc_head(heap, &name, value_len, max,
                                KV_ENTRY_PIECES|KV_ENTRY_PARTIAL);

        if (e && !kv_entry_extend_locked(heap, e, filled)) {
            kv_entry_free_locked(heap, e);
            e = NULL;
        }
    }

    if (e) {
        kv_entry_write(e, 0, kv_entry_value(old), filled);
        kv_entry_take_expires(e, old);
        kv_entry_free_locked(heap, old);
        kv_entry_set(where, e);
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


/* Adds pieces until there is memory for the first `n` bytes of the value. */

static kv_rc_t
kv_entry_extend(kv_heap_t *heap, kv_entry_t *e, uint32_t n)
{
    bool      enough;
    uint32_t  i, at, space;
    kv_cut_t  cut;

    memset(&cut, 0, sizeof(cut));

    if (e->value_len != KV_LENGTH_UNKNOWN) {
        kv_entry_cut(e->value_len, &cut);
    }

    kv_entry_locate(e, &cut, n - 1, &i, &at, &space);

    if (i < kv_entry_pieces(e)->n) {
        return KV_OK;
    }

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    enough = kv_entry_extend_locked(heap, e, n);

    kv_heap_unlock(heap);

    return enough ? KV_OK : KV_NO_MEMORY;
}


static bool
kv_entry_extend_locked(kv_heap_t *heap, kv_entry_t *e, uint32_t n)
{
    bool          enough;
    uint32_t      i, at, space, size;
    kv_cut_t      cut;
    kv_pieces_t  *pieces;

    if (n == 0) {
        return true;
    }

    memset(&cut, 0, sizeof(cut));
    cut.pages = UINT32_MAX;

    if (e->value_len != KV_LENGTH_UNKNOWN) {
        kv_entry_cut(e->value_len, &cut);
    }

    kv_entry_locate(e, &cut, n - 1, &i, &at, &space);

    pieces = kv_entry_pieces(e);
    enough = true;

    kv_entry_hold(heap, e, -1);

    while (enough && pieces->n <= i) {
        size = pieces->n < cut.pages ? KV_PAGE_SIZE
                                     : cut.size[pieces->n - cut.pages];
        enough = kv_entry_add_piece(heap, e, size);
    }

    kv_entry_hold(heap, e, 1);

    return enough;
}


/* Counts the memory of an entry (1) as held by uploads, or no longer (-1). */

static void
kv_entry_hold(kv_heap_t *heap, const kv_entry_t *e, int sign)
{
    kv_heap_hold(heap, KV_HELD_UPLOADS,
                 sign * (int64_t) kv_entry_partial_footprint(e));
}


size_t
kv_entry_partial_footprint(const kv_entry_t *e)
{
    size_t        size;
    uint32_t      i;
    kv_cut_t      cut;
    kv_pieces_t  *pieces;

    if (!(e->flags & KV_ENTRY_PIECES)) {
        return kv_heap_class_size(kv_entry_size(e));
    }

    pieces = kv_entry_pieces(e);
    cut.pages = UINT32_MAX;

    if (e->value_len != KV_LENGTH_UNKNOWN) {
        kv_entry_cut(e->value_len, &cut);
    }

    size = kv_heap_class_size(kv_entry_head_size(kv_entry_name_len(e),
                                                 pieces->max));

    for (i = 0; i < pieces->n; i++) {
        size += i < cut.pages ? KV_PAGE_SIZE
                              : *kv_piece_size(cut.size[i - cut.pages]);
    }

    return size;
}


size_t
kv_entry_partial_space(const kv_entry_t *e)
{
    size_t       space;
    uint32_t     i, n;
    kv_cut_t     cut;

    if (!(e->flags & KV_ENTRY_PIECES)) {
        return e->value_len;
    }

    n = kv_entry_pieces(e)->n;

    if (e->value_len == KV_LENGTH_UNKNOWN) {
        return (size_t) n * KV_PAGE_SIZE;
    }

    kv_entry_cut(e->value_len, &cut);

    space = (size_t) kv_min(n, cut.pages) * KV_PAGE_SIZE;

    for (i = cut.pages; i < n; i++) {
        space += cut.size[i - cut.pages];
    }

    return kv_min(space, e->value_len);
}


kv_rc_t
kv_entry_finish(kv_heap_t *heap, kv_entry_t **where, uint32_t value_len)
{
    kv_entry_t  *e, *old;

    old = *where;

    assert(old->flags & KV_ENTRY_PARTIAL);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    if (old->value_len == value_len) {

        /* the length that it began with */

        kv_entry_hold(heap, old, -1);
        old->flags &= (uint8_t) ~KV_ENTRY_PARTIAL;

        kv_heap_unlock(heap);

        return KV_OK;
    }

    e = value_len <= KV_ENTRY_INLINE
        ? kv_entry_finish_small(heap, old, value_len)
        : kv_entry_finish_pieces(heap, old, value_len);

    if (e) {
        kv_entry_take_expires(e, old);
        kv_entry_free_locked(heap, old);
        kv_entry_set(where, e);
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


/* The entry takes the place of another one, whose key expires then. */

static void
kv_entry_take_expires(kv_entry_t *e, const kv_entry_t *old)
{
    uint64_t  expires;

    expires = kv_entry_expires(old);

    if (expires) {
        kv_entry_set_expires(e, expires);
    }
}


static kv_entry_t *
kv_entry_finish_small(kv_heap_t *heap, kv_entry_t *old, uint32_t value_len)
{
    kv_name_t    name;
    const char  *from;
    kv_entry_t  *e;

    kv_entry_name(old, &name);

    e = kv_entry_alloc_small(heap, &name, value_len,
                             kv_entry_expires(old) ? KV_ENTRY_EXPIRES : 0);

    if (e && value_len) {
        from = old->flags & KV_ENTRY_PIECES
               ? atomic_load_explicit(&kv_entry_pieces(old)->piece[0],
                                      memory_order_relaxed)
               : kv_entry_value(old);

        kv_entry_write(e, 0, from, value_len);
    }

    return e;
}


/*
 * The new entry takes the whole pages over.  The last page is not full: its
 * bytes are copied to pieces of the right size, and it is freed with the old
 * entry.
 */

static kv_entry_t *
kv_entry_finish_pieces(kv_heap_t *heap, kv_entry_t *old, uint32_t value_len)
{
    char         *data, *page;
    uint32_t      i, tail, done;
    kv_cut_t      cut;
    kv_name_t     name;
    kv_entry_t   *e;
    kv_pieces_t  *from, *to;

    assert(old->flags & KV_ENTRY_PIECES);
    assert(old->value_len == KV_LENGTH_UNKNOWN);

    from = kv_entry_pieces(old);
    kv_entry_cut(value_len, &cut);
    kv_entry_name(old, &name);

    e = kv_entry_alloc_head(heap, &name, value_len, cut.pages + cut.tails,
                            KV_ENTRY_PIECES);
    if (e == NULL) {
        return NULL;
    }

    to = kv_entry_pieces(e);

    for (i = 0; i < cut.pages; i++) {
        page = atomic_load_explicit(&from->piece[i], memory_order_relaxed);
        atomic_store_explicit(&to->piece[i], page, memory_order_relaxed);
    }

    to->n = cut.pages;

    for (tail = 0, done = 0; tail < cut.tails; tail++) {
        if (!kv_entry_add_piece(heap, e, cut.size[tail])) {

            /* the old entry still has the pages */

            for (i = cut.pages; i < to->n; i++) {
                data = atomic_load_explicit(&to->piece[i],
                                            memory_order_relaxed);
                kv_heap_free(heap, data - sizeof(kv_piece_t));
            }

            kv_heap_free(heap, e);

            return NULL;
        }

        data = kv_get_relaxed(to->piece[to->n - 1]);
        page = atomic_load_explicit(&from->piece[cut.pages],
                                    memory_order_relaxed);
        memcpy(data, page + done, cut.size[tail]);
        done += cut.size[tail];
    }

    /* the old entry keeps only the pages that were not taken over */

    kv_entry_hold(heap, old, -1);

    for (i = cut.pages; i < from->n; i++) {
        page = atomic_load_explicit(&from->piece[i], memory_order_relaxed);
        atomic_store_explicit(&from->piece[i - cut.pages], page,
                              memory_order_relaxed);
    }

    from->n -= cut.pages;

    kv_entry_hold(heap, old, 1);

    return e;
}


kv_rc_t
kv_entry_fits(kv_heap_t *heap, size_t name_len, uint32_t value_len)
{
    bool  fits;

    if (kv_heap_lock_read(heap) != KV_OK) {
        return KV_DEAD;
    }

    fits = value_len <= KV_ENTRY_INLINE
           ? kv_heap_has(heap, KV_HEAP_ENTRY,
                         sizeof(kv_entry_t) + name_len + value_len)
           : kv_heap_has_pages(heap, kv_entry_pages_max(value_len));

    kv_heap_unlock(heap);

    return fits ? KV_OK : KV_NO_MEMORY;
}


kv_rc_t
kv_entry_destroy(kv_heap_t *heap, kv_entry_t **where)
{
    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    kv_entry_free_locked(heap, *where);
    kv_entry_set(where, NULL);

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

    if (e->flags & KV_ENTRY_PARTIAL) {
        kv_entry_hold(heap, e, -1);
    }

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
kv_entry_footprint(size_t name_len, uint32_t value_len, uint8_t flags)
{
    size_t    size;
    uint32_t  i;
    kv_cut_t  cut;

    if (value_len <= KV_ENTRY_INLINE) {
        return kv_heap_class_size(kv_entry_value_offset(name_len, flags)
                                  + value_len);
    }

    kv_entry_cut(value_len, &cut);

    size = kv_heap_class_size(kv_entry_head_size(name_len,
                                                 cut.pages + cut.tails));
    size += (size_t) cut.pages * KV_PAGE_SIZE;

    for (i = 0; i < cut.tails; i++) {
        size += *kv_piece_size(cut.size[i]);
    }

    return size;
}


/*
 * A remainder that would leave too much of a piece empty fills the next smaller
 * piece, and what is left of it is cut again.
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
kv_entry_head_size(size_t name_len, uint32_t pieces)
{
    return kv_align(sizeof(kv_entry_t) + name_len, 8) + sizeof(kv_pieces_t)
           + pieces * sizeof(char *);
}


static kv_rc_t
kv_entry_create_small(kv_heap_t *heap, kv_entry_t **where,
    const kv_name_t *name, uint32_t value_len, uint8_t flags)
{
    kv_entry_t  *e;

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    e = kv_entry_alloc_small(heap, name, value_len, flags);

    if (e) {
        kv_entry_set(where, e);
    }

    kv_heap_unlock(heap);

    return e ? KV_OK : KV_NO_MEMORY;
}


static kv_entry_t *
kv_entry_alloc_small(kv_heap_t *heap, const kv_name_t *name,
    uint32_t value_len, uint8_t flags)
{
    kv_entry_t  *e;

    e = kv_heap_alloc(heap, KV_HEAP_ENTRY,
                      kv_entry_value_offset(kv_entry_name_size(name), flags)
                      + value_len);

    if (e) {
        kv_entry_init(e, name, value_len, flags);

        if (flags & KV_ENTRY_PARTIAL) {
            kv_entry_hold(heap, e, 1);
        }
    }

    return e;
}


/* Makes a head without pieces yet, which can name `max` of them. */

static kv_entry_t *
kv_entry_alloc_head(kv_heap_t *heap, const kv_name_t *name,
    uint32_t value_len, uint32_t max, uint8_t flags)
{
    size_t        size;
    kv_entry_t   *e;
    kv_pieces_t  *pieces;

    size = kv_entry_head_size(kv_entry_name_size(name), max);

    if (size > KV_PAGE_SIZE) {
        return NULL;
    }

    /* the reserve is not for values */

    e = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, size,
                            kv_heap_reserve(heap));
    if (e == NULL) {
        return NULL;
    }

    kv_entry_init(e, name, value_len, flags);

    pieces = kv_entry_pieces(e);
    atomic_init(&pieces->pins, 0);
    pieces->next = NULL;
    pieces->stale = NULL;
    pieces->n = 0;
    pieces->max = max;

    if (flags & KV_ENTRY_PARTIAL) {
        kv_entry_hold(heap, e, 1);
    }

    return e;
}


static kv_rc_t
kv_entry_create_pieces(kv_heap_t *heap, kv_entry_t **where,
    const kv_name_t *name, uint32_t value_len)
{
    uint32_t     i;
    kv_cut_t     cut;
    kv_entry_t  *e;

    kv_entry_cut(value_len, &cut);

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    e = kv_entry_alloc_head(heap, name, value_len, cut.pages + cut.tails,
                            KV_ENTRY_PIECES);
    if (e == NULL) {
        kv_heap_unlock(heap);
        return KV_NO_MEMORY;
    }

    for (i = 0; i < cut.pages + cut.tails; i++) {

        if (!kv_entry_add_piece(heap, e, i < cut.pages
                                         ? KV_PAGE_SIZE
                                         : cut.size[i - cut.pages]))
        {
            kv_entry_free_locked(heap, e);
            kv_heap_unlock(heap);

            return KV_NO_MEMORY;
        }
    }

    kv_entry_set(where, e);

    kv_heap_unlock(heap);

    return KV_OK;
}


static void
kv_entry_init(kv_entry_t *e, const kv_name_t *name, uint32_t value_len,
    uint8_t flags)
{
    kv_expiry_t  *expiry;

    assert(name->key_len <= KV_KEY_MAX && name->meta_len <= KV_META_MAX);

    e->value_len = value_len;
    e->key_len = name->key_len;
    e->has_meta = name->meta_len != 0;
    e->flags = flags;
    e->lsn_low = 0;
    e->lsn_high = 0;

    memcpy(e->key, name->key, name->key_len);

    if (name->meta_len) {
        e->key[name->key_len] = (char) name->meta_len;
        memcpy(e->key + name->key_len + 1, name->meta, name->meta_len);
    }

    expiry = kv_entry_expiry(e);

    if (expiry) {
        atomic_init(&expiry->expires, 0);
        expiry->next = NULL;
        expiry->link = NULL;
    }
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
