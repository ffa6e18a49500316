
/*
 * Inner nodes, and the way through them to a leaf.
 */


#include "index/kv_index_private.h"


static unsigned kv_inner_below(const uint32_t *heads, unsigned n,
    uint32_t head);
static void kv_inner_prefetch(const kv_inner_t *inner);
static void kv_path_step(kv_path_t *path, kv_index_node_t *node,
    kv_slice_t key);
static inline kv_index_node_t *kv_path_child(const kv_path_t *path);


unsigned
kv_inner_search(const kv_inner_t *inner, kv_slice_t key)
{
    int              c;
    size_t           common;
    uint32_t         head;
    unsigned         low, high, middle, n;
    kv_slice_t       first;
    const uint32_t  *heads;

    n = inner->node.n - 1u;

    if (n == 0) {
        return 0;
    }

    common = inner->node.prefix_len;

    if (common) {
        first = kv_inner_separator(inner, 0);
        c = memcmp(key.p, first.p, kv_min(key.n, common));

        if (c != 0 || key.n < common) {
            return c > 0 ? n : 0;
        }

        key = kv_slice_skip(key, common);
    }

    head = kv_slice_head(key);
    heads = kv_inner_heads(inner);
    low = kv_inner_below(heads, n, head);

    if (kv_likely(low == n || heads[low] != head)) {
        return low;
    }

    /* of those with this head, by all of their bytes */

    for (high = low + 1; high < n && heads[high] == head; high++) {
        /* void */
    }

    while (low < high) {
        middle = (low + high) / 2;
        first = kv_slice_skip(kv_inner_separator(inner, middle), common);

        if (kv_slice_compare(first, key) <= 0) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return low;
}


/*
 * How many of `n` numbers in order, one at least, are below `head`.  There is
 * no branch but the loop: half of them would be guessed wrong.
 */

static unsigned
kv_inner_below(const uint32_t *heads, unsigned n, uint32_t head)
{
    unsigned         half;
    const uint32_t  *at;

    for (at = heads; n > 1; n -= half) {
        half = n / 2;
        at += half & -(unsigned) (at[half - 1] < head);
    }

    return (unsigned) (at - heads) + (*at < head);
}


/* Has the processor fetch what a search looks at; the header is there. */

static void
kv_inner_prefetch(const kv_inner_t *inner)
{
    const char  *p, *end;

    p = (const char *) kv_inner_heads(inner);
    end = (const char *) (kv_inner_ends(inner) + inner->node.n);

    for ( /* void */ ; p < end; p += KV_CACHE_LINE) {
        __builtin_prefetch(p);
    }

    __builtin_prefetch(end);
}


bool
kv_path_find(kv_index_t *index, kv_slice_t key, kv_path_t *path)
{
    unsigned          level;
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
        assert(node->level == level);

        kv_path_step(path, node, key);
        node = kv_path_child(path);
    }

    path->leaf = (kv_leaf_t *) node;

    return true;
}


/*
 * Goes on to the child of an inner node that is responsible for a key.  Has the
 * processor fetch where its address is: kv_path_child() waits for that.
 */

static void
kv_path_step(kv_path_t *path, kv_index_node_t *node, kv_slice_t key)
{
    unsigned     i;
    kv_inner_t  *inner;

    assert(path->depth < KV_INDEX_DEPTH);

    inner = (kv_inner_t *) node;
    i = kv_inner_search(inner, key);

    __builtin_prefetch(&inner->child[i]);

    path->inner[path->depth] = inner;
    path->at[path->depth] = (uint16_t) i;
    path->depth++;
}


/* The node that the path leads to so far. */

static inline kv_index_node_t *
kv_path_child(const kv_path_t *path)
{
    return kv_inner_child(path->inner[path->depth - 1],
                          path->at[path->depth - 1]);
}


void
kv_path_find_group(kv_index_t *index, const kv_slice_t *keys, unsigned n,
    kv_path_t *path)
{
    unsigned          i, level;
    kv_index_node_t  *root, *node[KV_INDEX_GROUP];

    root = kv_get_relaxed(index->root);

    assert(root && n <= KV_INDEX_GROUP);

    for (i = 0; i < n; i++) {
        path[i].depth = 0;
        node[i] = root;
    }

    for (level = root->level; level; level--) {

        /* those above are few, and in the cache */

        for (i = 0; i < n && level == 1; i++) {
            kv_inner_prefetch((kv_inner_t *) node[i]);
        }

        for (i = 0; i < n; i++) {
            kv_path_step(&path[i], node[i], keys[i]);
        }

        for (i = 0; i < n; i++) {
            node[i] = kv_path_child(&path[i]);
            __builtin_prefetch(node[i]);
        }
    }

    for (i = 0; i < n; i++) {
        path[i].leaf = (kv_leaf_t *) node[i];
    }
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
        kv_inner_heads(inner)[i] = kv_slice_head(s);
    }

    return inner;
}
