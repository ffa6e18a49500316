
/*
 * The checks of kv_index_check().
 */


#include "index/kv_index_private.h"


typedef struct {
    kv_err_t   *err;
    uint64_t    keys;
} kv_index_count_t;


static bool kv_check_node(kv_index_count_t *count, kv_index_node_t *node,
    kv_slice_t low, kv_slice_t high);
static bool kv_check_leaf(kv_index_count_t *count, const kv_leaf_t *leaf,
    kv_slice_t low, kv_slice_t high);
static bool kv_check_order(kv_index_count_t *count, const kv_leaf_t *leaf,
    kv_slice_t low, kv_slice_t high, unsigned keys);
static bool kv_check_inner(kv_index_count_t *count, const kv_inner_t *inner,
    kv_slice_t low, kv_slice_t high);
static uint64_t kv_check_bytes(kv_index_node_t *node);
static bool kv_check_says(kv_index_count_t *count, bool good,
    const char *what);


kv_rc_t
kv_index_check(kv_index_t *index, kv_err_t *err)
{
    kv_index_node_t   *root;
    kv_index_count_t   count;

    count.err = err;
    count.keys = 0;

    root = kv_get_relaxed(index->root);

    if (root && !kv_check_node(&count, root, kv_slice("", 0),
                               kv_slice(NULL, 0)))
    {
        return KV_DAMAGED;
    }

    return kv_check_says(&count, count.keys == kv_get_relaxed(index->keys),
                         "keys, counted") ? KV_OK : KV_DAMAGED;
}


static bool
kv_check_node(kv_index_count_t *count, kv_index_node_t *node, kv_slice_t low,
    kv_slice_t high)
{
    unsigned           i;
    kv_slice_t         from, to;
    const kv_inner_t  *inner;

    if (node->level == 0) {
        return kv_check_leaf(count, (kv_leaf_t *) node, low, high);
    }

    inner = (kv_inner_t *) node;

    if (!kv_check_inner(count, inner, low, high)) {
        return false;
    }

    for (i = 0; i < node->n; i++) {
        from = i ? kv_inner_separator(inner, i - 1) : low;
        to = i + 1u < node->n ? kv_inner_separator(inner, i) : high;

        if (!kv_check_node(count, kv_inner_child(inner, i), from, to)) {
            return false;
        }
    }

    return true;
}


static bool
kv_check_leaf(kv_index_count_t *count, const kv_leaf_t *leaf, kv_slice_t low,
    kv_slice_t high)
{
    size_t    at, used, size, bytes;
    unsigned  keys;

    used = kv_get_relaxed(leaf->used);

    if (!kv_check_says(count, sizeof(kv_leaf_t) + used <= leaf->node.size
                              && leaf->node.n <= leaf->sorted
                              && leaf->sorted <= used, "sizes of a leaf")
        || !kv_check_says(count, leaf->node.prefix_len <= leaf->node.n
                                 && leaf->node.prefix_len
                                    <= kv_fences_common(low, high)
                                 && memcmp(leaf->data, low.p,
                                           leaf->node.prefix_len) == 0,
                          "prefix of a leaf"))
    {
        return false;
    }

    for (at = leaf->node.n; at < used; at += size) {
        size = kv_key_size(kv_key_slice(leaf->data + at).n);

        if (!kv_check_says(count, at + size <= used
                                  && (at >= leaf->sorted
                                      || at + size <= leaf->sorted),
                           "a key's length"))
        {
            return false;
        }
    }

    keys = kv_leaf_measure(leaf, low, leaf->node.prefix_len, &bytes);
    count->keys += keys;

    return kv_check_order(count, leaf, low, high, keys);
}


static bool
kv_check_order(kv_index_count_t *count, const kv_leaf_t *leaf, kv_slice_t low,
    kv_slice_t high, unsigned keys)
{
    unsigned              n;
    kv_slice_t            last, from, to, s;
    kv_leaf_walk_t        walk;
    const unsigned char  *key;

    from = kv_slice("", 0);
    to = kv_slice(NULL, 0);

    if (low.n > leaf->node.prefix_len) {
        from = kv_slice_skip(low, leaf->node.prefix_len);
    }

    if (high.p) {
        to = kv_slice_skip(high, leaf->node.prefix_len);
    }

    last = kv_slice(NULL, 0);
    n = 0;

    kv_leaf_walk(&walk, leaf, from, false);

    while ((key = kv_leaf_next(&walk)) != NULL) {
        s = kv_key_slice(key);

        if (!kv_check_says(count, (last.p == NULL
                                   || kv_slice_compare(last, s) < 0)
                                  && kv_slice_compare(s, from) >= 0,
                           "order of keys")
            || !kv_check_says(count, to.p == NULL
                                     || kv_slice_compare(s, to) < 0,
                              "a key above its fence"))
        {
            return false;
        }

        last = s;
        n++;
    }

    return kv_check_says(count, n == keys, "keys of a leaf");
}


static bool
kv_check_inner(kv_index_count_t *count, const kv_inner_t *inner,
    kv_slice_t low, kv_slice_t high)
{
    unsigned    i;
    kv_slice_t  s, first, last;

    last = low;

    if (!kv_check_says(count, inner->node.n > 0
                              && inner->node.level <= KV_INDEX_DEPTH,
                       "an inner node"))
    {
        return false;
    }

    for (i = 0; i + 1u < inner->node.n; i++) {
        s = kv_inner_separator(inner, i);
        first = kv_inner_separator(inner, 0);

        if (!kv_check_says(count, kv_slice_compare(last, s) < 0
                                  && (high.p == NULL
                                      || kv_slice_compare(s, high) < 0),
                           "order of separators")
            || !kv_check_says(count, kv_slice_common(first, s)
                                     >= inner->node.prefix_len,
                              "prefix of separators")
            || !kv_check_says(count, kv_inner_search(inner, s) == i + 1
                                     && kv_inner_search(inner, last) <= i,
                              "heads of separators"))
        {
            return false;
        }

        last = s;
    }

    for (i = 0; i < inner->node.n; i++) {

        if (!kv_check_says(count, kv_inner_child(inner, i)->level + 1u
                                  == inner->node.level, "levels"))
        {
            return false;
        }
    }

    return true;
}


uint64_t
kv_index_bytes(kv_index_t *index)
{
    uint64_t          bytes;
    unsigned          i;
    kv_index_link_t  *link;
    kv_index_node_t  *node;

    bytes = 0;

    for (i = 0; i < KV_INDEX_LINKS; i++) {
        for (link = index->reserve[i]; link; link = link->next) {
            bytes += kv_heap_class_size(kv_index_links[i]);
        }
    }

    node = kv_get_relaxed(index->root);

    if (node) {
        bytes += kv_check_bytes(node);
    }

    for (node = index->left; node; node = node->next) {
        bytes += kv_check_bytes(node);
    }

    for (node = index->apart; node; node = node->next) {
        bytes += kv_check_bytes(node);
    }

    return bytes;
}


static uint64_t
kv_check_bytes(kv_index_node_t *node)
{
    size_t            n;
    uint64_t          bytes;
    unsigned          i;
    kv_index_link_t  *link;

    bytes = kv_heap_class_size(node->size);

    if (node->level == 0) {
        link = kv_get_relaxed(((kv_leaf_t *) node)->links);

        for ( /* void */ ; link; link = link->next) {
            n = ((kv_leaf_t *) node)->node.prefix_len
                + kv_key_slice(link->key).n;
            bytes += kv_heap_class_size(kv_index_links[kv_link_class(n)]);
        }

        return bytes;
    }

    for (i = 0; i < node->n; i++) {
        bytes += kv_check_bytes(kv_inner_child((kv_inner_t *) node, i));
    }

    return bytes;
}


static bool
kv_check_says(kv_index_count_t *count, bool good, const char *what)
{
    if (!good) {
        kv_err_set(count->err, "the index is wrong: %s", what);
    }

    return good;
}
