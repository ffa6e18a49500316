
/*
 * Inner nodes, and the way through them to a leaf.
 */


#include "index/kv_index_private.h"


/* The first four bytes of a string as a number that compares as they do. */

static inline uint32_t
kv_inner_head(kv_slice_t s)
{
    uint32_t       head;
    unsigned char  four[4];

    if (kv_likely(s.n >= 4)) {
        memcpy(&head, s.p, 4);

    } else {
        memset(four, 0, 4);
        memcpy(four, s.p, s.n);
        memcpy(&head, four, 4);
    }

    return __builtin_bswap32(head);
}


unsigned
kv_inner_search(const kv_inner_t *inner, kv_slice_t key)
{
    int              c;
    bool             below;
    size_t           common;
    uint32_t         head;
    unsigned         low, high, middle;
    kv_slice_t       first;
    const uint32_t  *heads;

    low = 0;
    high = inner->node.n - 1u;

    if (high == 0) {
        return 0;
    }

    common = inner->node.prefix_len;

    if (common) {
        first = kv_inner_separator(inner, 0);
        c = memcmp(key.p, first.p, kv_min(key.n, common));

        if (c != 0 || key.n < common) {
            return c > 0 ? high : 0;
        }

        key = kv_slice_skip(key, common);
    }

    head = kv_inner_head(key);
    heads = kv_inner_heads(inner);

    while (low < high) {
        middle = (low + high) / 2;

        if (kv_likely(heads[middle] != head)) {
            below = heads[middle] < head;

        } else {
            below = kv_slice_compare(kv_slice_skip(
                                         kv_inner_separator(inner, middle),
                                         common), key) <= 0;
        }

        if (below) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return low;
}


bool
kv_path_find(kv_index_t *index, kv_slice_t key, kv_path_t *path)
{
    unsigned          level;
    kv_inner_t       *inner;
    kv_index_node_t  *node;

    node = atomic_load_explicit(&index->root, memory_order_acquire);
    path->depth = 0;

    if (node == NULL) {
        return false;
    }

    /*
     * Levels count down to the leaf, which is not looked at: the caller may
     * want to find others while the processor fetches it.
     */

    for (level = node->level; level; level--) {
        assert(path->depth < KV_INDEX_DEPTH && node->level == level);

        inner = (kv_inner_t *) node;
        path->inner[path->depth] = inner;
        path->at[path->depth] = (uint16_t) kv_inner_search(inner, key);
        node = kv_inner_child(inner, path->at[path->depth]);
        path->depth++;
    }

    path->leaf = (kv_leaf_t *) node;

    return true;
}


kv_slice_t
kv_path_low(const kv_path_t *path, unsigned depth, unsigned i)
{
    for ( /* void */ ; depth; i = --depth ? path->at[depth - 1] : 0) {

        if (i > 0) {
            return kv_inner_separator(path->inner[depth - 1], i - 1);
        }
    }

    return kv_slice("", 0);
}


kv_slice_t
kv_path_high(const kv_path_t *path, unsigned depth, unsigned i)
{
    for ( /* void */ ; depth; i = --depth ? path->at[depth - 1] : 0) {

        if (i + 1u < path->inner[depth - 1]->node.n) {
            return kv_inner_separator(path->inner[depth - 1], i);
        }
    }

    return kv_slice(NULL, 0);
}


unsigned
kv_replace_count(const kv_replace_t *r)
{
    return (r->old ? r->old->node.n : 1) - r->c + r->k;
}


kv_index_node_t *
kv_replace_child(const kv_replace_t *r, unsigned i)
{
    if (i >= r->at && i < r->at + r->k) {
        return r->kid[i - r->at];
    }

    return kv_inner_child(r->old, i < r->at ? i : i - r->k + r->c);
}


/*
 * A child that goes without another in its place leaves its keys to the one in
 * front of it, or, if it is the first, to the one behind it.
 */

kv_slice_t
kv_replace_separator(const kv_replace_t *r, unsigned i)
{
    if (r->k == 0) {
        return kv_inner_separator(r->old, i + 1 < r->at ? i : i + 1);
    }

    if (r->k == 2 && i == r->at) {
        return r->separator;
    }

    return kv_inner_separator(r->old, i < r->at ? i : i - r->k + r->c);
}


size_t
kv_inner_size(const kv_replace_t *r, unsigned from, unsigned to)
{
    size_t    size;
    unsigned  i;

    size = sizeof(kv_inner_t) + sizeof(void *);

    for (i = from; i + 1 < to; i++) {
        size += sizeof(void *) + sizeof(uint32_t) + sizeof(uint16_t)
                + kv_replace_separator(r, i).n;
    }

    return size;
}


kv_inner_t *
kv_inner_make(kv_index_t *index, const kv_replace_t *r, unsigned from,
    unsigned to)
{
    unsigned        i, n;
    uint16_t       *ends, end;
    kv_inner_t     *inner;
    kv_slice_t      s, first;
    unsigned char  *p;

    assert(to > from);

    inner = (kv_inner_t *) kv_node_alloc(index, kv_inner_size(r, from, to));

    if (inner == NULL) {
        return NULL;
    }

    n = to - from;

    inner->node.level = kv_replace_child(r, from)->level + 1;
    inner->node.n = (uint16_t) n;
    inner->node.prefix_len = 0;

    ends = kv_inner_ends(inner);
    p = (unsigned char *) (ends + n - 1);
    end = 0;

    for (i = 0; i < n; i++) {
        kv_set_relaxed(inner->child[i], kv_replace_child(r, from + i));

        if (i + 1 < n) {
            s = kv_replace_separator(r, from + i);
            memcpy(p + end, s.p, s.n);
            end += (uint16_t) s.n;
            ends[i] = end;
        }
    }

    if (n > 1) {
        first = kv_inner_separator(inner, 0);
        inner->node.prefix_len = (uint16_t)
                kv_slice_common(first, kv_inner_separator(inner, n - 2));
    }

    for (i = 0; i + 1 < n; i++) {
        s = kv_slice_skip(kv_inner_separator(inner, i), inner->node.prefix_len);
        kv_inner_heads(inner)[i] = kv_inner_head(s);
    }

    return inner;
}
