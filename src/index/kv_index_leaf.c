
/*
 * Leaves: the keys in one, in order, and what is done to them.
 */


#include "index/kv_index_private.h"


static const unsigned char *kv_leaf_sorted(kv_leaf_walk_t *walk);
static void kv_leaf_gather(kv_leaf_walk_t *walk, kv_slice_t from, bool after);
static bool kv_leaf_insert(kv_leaf_walk_t *walk, const unsigned char *key,
    kv_slice_t from, bool after);
static inline bool kv_leaf_below(const kv_leaf_walk_t *walk, unsigned i,
    uint32_t head, kv_slice_t s);
static void kv_leaf_merge(kv_leaf_t *leaf, kv_leaf_walk_t *walk, unsigned n);
static unsigned kv_leaf_run(kv_leaf_walk_t *walk, unsigned n);
static unsigned char *kv_leaf_write(unsigned char *p, kv_slice_t a,
    kv_slice_t b);
static unsigned char *kv_leaf_find(kv_leaf_t *leaf, kv_slice_t key);


void
kv_leaf_walk(kv_leaf_walk_t *walk, const kv_leaf_t *leaf, kv_slice_t from,
    bool after)
{
    int                   c;
    kv_slice_t            s;
    const unsigned char  *key;

    walk->leaf = leaf;
    walk->at = leaf->node.n;

    /* both before any mark is looked at: see kv_index_private.h */

    walk->links = atomic_load_explicit(&leaf->links, memory_order_acquire);
    walk->used = atomic_load_explicit(&leaf->used, memory_order_acquire);

    while (from.n + after && walk->at < leaf->sorted) {
        key = leaf->data + walk->at;
        s = kv_key_slice(key);
        c = kv_slice_compare(s, from);

        if (c > 0 || (c == 0 && !after)) {
            break;
        }

        walk->at += kv_key_size(s.n);
    }

    kv_leaf_gather(walk, from, after);
}


const unsigned char *
kv_leaf_next(kv_leaf_walk_t *walk)
{
    kv_slice_t            s;
    const unsigned char  *key, *appended;

    key = kv_leaf_sorted(walk);

    for (appended = NULL; appended == NULL; walk->i++) {

        if (walk->i == walk->n) {

            if (!walk->more) {
                break;
            }

            kv_leaf_gather(walk, kv_key_slice(walk->list[walk->n - 1]), true);

            if (walk->n == 0) {
                break;
            }
        }

        if (!kv_key_dead(walk->list[walk->i])) {
            appended = walk->list[walk->i];
        }
    }

    if (appended) {

        if (key == NULL) {
            return appended;
        }

        walk->i--;
        s = kv_key_slice(key);

        if (kv_leaf_below(walk, walk->i, kv_slice_head(s), s)) {
            walk->i++;
            return appended;
        }
    }

    if (key) {
        walk->at += kv_key_size(kv_key_slice(key).n);
    }

    return key;
}


/* The next live key of the sorted ones. */

static const unsigned char *
kv_leaf_sorted(kv_leaf_walk_t *walk)
{
    const unsigned char  *key;

    while (walk->at < walk->leaf->sorted) {
        key = walk->leaf->data + walk->at;

        if (!kv_key_dead(key)) {
            return key;
        }

        walk->at += kv_key_size(kv_key_slice(key).n);
    }

    return NULL;
}


/* Sorts the first of the keys that are not, from there on. */

static void
kv_leaf_gather(kv_leaf_walk_t *walk, kv_slice_t from, bool after)
{
    unsigned                at;
    const unsigned char    *key;
    const kv_index_link_t  *link;

    walk->i = 0;
    walk->n = 0;
    walk->more = false;

    for (at = walk->leaf->sorted; at < walk->used; /* void */ ) {
        key = walk->leaf->data + at;
        at += kv_key_size(kv_key_slice(key).n);

        walk->more |= kv_leaf_insert(walk, key, from, after);
    }

    for (link = walk->links; link; link = link->next) {
        walk->more |= kv_leaf_insert(walk, link->key, from, after);
    }
}


/* Whether a key had no place in the list. */

static bool
kv_leaf_insert(kv_leaf_walk_t *walk, const unsigned char *key, kv_slice_t from,
    bool after)
{
    int         c;
    bool        full;
    size_t      later;
    unsigned    i;
    uint32_t    head;
    kv_slice_t  s;

    if (kv_key_dead(key)) {
        return false;
    }

    s = kv_key_slice(key);

    if (from.n + after) {
        c = kv_slice_compare(s, from);

        if (c < 0 || (c == 0 && after)) {
            return false;
        }
    }

    head = kv_slice_head(s);

    for (i = walk->n; i && !kv_leaf_below(walk, i - 1, head, s); i--) {
        /* void */
    }

    if (i == KV_LEAF_GATHER) {
        return true;
    }

    full = walk->n == KV_LEAF_GATHER;
    walk->n += !full;
    later = walk->n - 1 - i;

    memmove(&walk->head[i + 1], &walk->head[i], later * sizeof(walk->head[0]));
    memmove(&walk->list[i + 1], &walk->list[i], later * sizeof(walk->list[0]));

    walk->head[i] = head;
    walk->list[i] = key;

    return full;
}


/* Whether key `i` of the list is below another, of which the head is known. */

static inline bool
kv_leaf_below(const kv_leaf_walk_t *walk, unsigned i, uint32_t head,
    kv_slice_t s)
{
    if (kv_likely(walk->head[i] != head)) {
        return walk->head[i] < head;
    }

    return kv_slice_compare(kv_key_slice(walk->list[i]), s) < 0;
}


unsigned
kv_leaf_measure(const kv_leaf_t *leaf, kv_slice_t low, size_t prefix_len,
    size_t *bytes)
{
    size_t                  at, n, old;
    unsigned                keys;
    kv_slice_t              s;
    const unsigned char    *key;
    const kv_index_link_t  *link;

    keys = 0;
    *bytes = 0;
    old = leaf->node.prefix_len;
    link = kv_get_relaxed(leaf->links);

    for (at = leaf->node.n; /* void */ ; /* void */ ) {

        if (at < kv_get_relaxed(leaf->used)) {
            key = leaf->data + at;
            at += kv_key_size(kv_key_slice(key).n);

        } else if (link) {
            key = link->key;
            link = link->next;

        } else {
            return keys;
        }

        s = kv_key_slice(key);

        if (kv_key_dead(key)
            || (leaf->stale && low.n > old
                && kv_slice_compare(s, kv_slice_skip(low, old)) < 0))
        {
            continue;
        }

        n = s.n + old - prefix_len;
        *bytes += kv_key_size(n);
        keys++;
    }
}


kv_leaf_t *
kv_leaf_make(kv_index_t *index, kv_slice_t low, kv_slice_t high, size_t bytes,
    size_t space)
{
    space = space ? kv_max(space, (size_t) KV_LEAF_SPACE)
                  : (size_t) KV_LEAF_LEAST;

    return kv_leaf_make_full(index, low, high, bytes + space);
}


kv_leaf_t *
kv_leaf_make_full(kv_index_t *index, kv_slice_t low, kv_slice_t high,
    size_t bytes)
{
    kv_index_node_t  *node;

    node = kv_node_alloc(index, sizeof(kv_leaf_t) + low.n + bytes);

    return node ? kv_leaf_format(node, low, high) : NULL;
}


kv_leaf_t *
kv_leaf_format(kv_index_node_t *node, kv_slice_t low, kv_slice_t high)
{
    kv_leaf_t  *leaf;

    leaf = (kv_leaf_t *) node;

    leaf->node.next = NULL;
    leaf->node.level = 0;
    leaf->node.prefix_len = (uint16_t) kv_fences_common(low, high);
    leaf->node.n = (uint16_t) low.n;
    leaf->sorted = (uint16_t) low.n;
    leaf->dead = 0;
    leaf->stale = 0;

    kv_set_relaxed(leaf->used, (uint16_t) low.n);
    kv_set_relaxed(leaf->links, NULL);

    memcpy(leaf->data, low.p, low.n);

    return leaf;
}


void
kv_leaf_fill(kv_leaf_t *leaf, kv_leaf_walk_t *walk, unsigned n)
{
    size_t                more, less;
    kv_slice_t            s, a;
    unsigned char        *p;
    const unsigned char  *key;

    if (leaf->node.prefix_len == walk->leaf->node.prefix_len && !walk->more) {
        kv_leaf_merge(leaf, walk, n);
        return;
    }

    /* what the new prefix takes from each key, or leaves to it */

    more = kv_max(walk->leaf->node.prefix_len, leaf->node.prefix_len)
           - walk->leaf->node.prefix_len;
    less = kv_max(walk->leaf->node.prefix_len, leaf->node.prefix_len)
           - leaf->node.prefix_len;

    a = kv_slice(walk->leaf->data + leaf->node.prefix_len, less);
    p = leaf->data + leaf->sorted;

    while (n-- && (key = kv_leaf_next(walk)) != NULL) {
        s = kv_slice_skip(kv_key_slice(key), more);

        assert(p + kv_key_size(a.n + s.n)
               <= (unsigned char *) leaf + leaf->node.size);

        p = kv_leaf_write(p, a, s);
    }

    leaf->sorted = (uint16_t) (p - leaf->data);
    kv_set_relaxed(leaf->used, leaf->sorted);
}


void
kv_leaf_fill_keys(kv_leaf_t *leaf, const kv_slice_t *keys, unsigned n)
{
    unsigned        i;
    kv_slice_t      s;
    unsigned char  *p;

    p = leaf->data + leaf->sorted;

    for (i = 0; i < n; i++) {
        s = kv_slice_skip(keys[i], leaf->node.prefix_len);

        assert(p + kv_key_size(s.n)
               <= (unsigned char *) leaf + leaf->node.size);

        p = kv_leaf_write(p, kv_slice("", 0), s);
    }

    leaf->sorted = (uint16_t) (p - leaf->data);
    kv_set_relaxed(leaf->used, leaf->sorted);
}


/*
 * kv_leaf_fill() for keys that stay as they are, of which the walk has sorted
 * all that were not: those between two of these are copied at once.
 */

static void
kv_leaf_merge(kv_leaf_t *leaf, kv_leaf_walk_t *walk, unsigned n)
{
    unsigned              at;
    unsigned char        *p;
    const unsigned char  *key;

    p = leaf->data + leaf->sorted;

    for ( ;; ) {

        while (walk->i < walk->n && kv_key_dead(walk->list[walk->i])) {
            walk->i++;
        }

        at = walk->at;
        n -= kv_leaf_run(walk, n);

        assert(p + (walk->at - at)
               <= (unsigned char *) leaf + leaf->node.size);

        p = (unsigned char *) memcpy(p, walk->leaf->data + at, walk->at - at)
            + (walk->at - at);

        key = walk->leaf->data + walk->at;

        if (n && walk->at < walk->leaf->sorted && kv_key_dead(key)) {
            walk->at += kv_key_size(kv_key_slice(key).n);
            continue;
        }

        if (n == 0 || walk->i == walk->n) {
            break;
        }

        key = walk->list[walk->i++];

        assert(p + kv_key_size(kv_key_slice(key).n)
               <= (unsigned char *) leaf + leaf->node.size);

        p = kv_leaf_write(p, kv_slice("", 0), kv_key_slice(key));
        n--;
    }

    leaf->sorted = (uint16_t) (p - leaf->data);
    kv_set_relaxed(leaf->used, leaf->sorted);
}


/*
 * Passes the live sorted keys before the next one of the list, `n` at most;
 * returns how many.
 */

static unsigned
kv_leaf_run(kv_leaf_walk_t *walk, unsigned n)
{
    unsigned              k;
    kv_slice_t            s;
    const unsigned char  *key;

    for (k = 0; k < n && walk->at < walk->leaf->sorted; k++) {
        key = walk->leaf->data + walk->at;
        s = kv_key_slice(key);

        if (kv_key_dead(key)
            || (walk->i < walk->n
                && kv_leaf_below(walk, walk->i, kv_slice_head(s), s)))
        {
            break;
        }

        walk->at += kv_key_size(s.n);
    }

    return k;
}


/* Writes a key of two parts; returns where it ends. */

static unsigned char *
kv_leaf_write(unsigned char *p, kv_slice_t a, kv_slice_t b)
{
    size_t  n;

    n = a.n + b.n;

    if (n < KV_KEY_LONG) {
        *p++ = (unsigned char) n;

    } else {
        *p++ = KV_KEY_LONG;
        *p++ = (unsigned char) n;
        *p++ = (unsigned char) (n >> 8);
    }

    memcpy(p, a.p, a.n);
    memcpy(p + a.n, b.p, b.n);

    return p + n;
}


bool
kv_leaf_append(kv_leaf_t *leaf, kv_slice_t key)
{
    size_t          used;
    unsigned char  *p;

    used = kv_get_relaxed(leaf->used);

    if (sizeof(kv_leaf_t) + used + kv_key_size(key.n) > leaf->node.size) {
        return false;
    }

    p = kv_leaf_write(leaf->data + used, kv_slice("", 0), key);

    atomic_store_explicit(&leaf->used, (uint16_t) (p - leaf->data),
                          memory_order_release);

    return true;
}


void
kv_leaf_link(kv_leaf_t *leaf, kv_index_link_t *link, kv_slice_t key)
{
    link->next = kv_get_relaxed(leaf->links);
    (void) kv_leaf_write(link->key, kv_slice("", 0), key);

    atomic_store_explicit(&leaf->links, link, memory_order_release);
}


bool
kv_leaf_mark(kv_leaf_t *leaf, kv_slice_t key)
{
    unsigned char  *p;

    p = kv_leaf_find(leaf, key);

    if (p == NULL) {
        return false;
    }

    __atomic_store_n(p, *p | KV_KEY_DEAD, __ATOMIC_RELEASE);
    leaf->dead += kv_key_size(key.n);

    return true;
}


/* Where a live key is in the leaf, or in its links. */

static unsigned char *
kv_leaf_find(kv_leaf_t *leaf, kv_slice_t key)
{
    unsigned          at;
    kv_slice_t        s;
    unsigned char    *p;
    kv_index_link_t  *link;

    for (at = leaf->node.n; at < kv_get_relaxed(leaf->used); /* void */ ) {
        p = leaf->data + at;
        s = kv_key_slice(p);

        if (s.n == key.n && memcmp(s.p, key.p, key.n) == 0 && !kv_key_dead(p)) {
            return p;
        }

        at += kv_key_size(s.n);
    }

    for (link = kv_get_relaxed(leaf->links); link; link = link->next) {
        s = kv_key_slice(link->key);

        if (kv_slice_compare(s, key) == 0 && !kv_key_dead(link->key)) {
            return link->key;
        }
    }

    return NULL;
}
