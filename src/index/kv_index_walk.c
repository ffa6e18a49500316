
/*
 * Readers: the keys in order.  They go from leaf to leaf by the fences, not by
 * links between leaves: with the high fence of one they find the next.  So they
 * never depend on a leaf that was replaced.
 */


#include "index/kv_index_private.h"


static void kv_index_prefetch_leaf(const kv_leaf_t *leaf);


void
kv_index_walk(kv_index_t *index, const void *from, size_t n, bool after,
    kv_index_pt cb, void *ctx)
{
    kv_path_t             path;
    kv_slice_t            at, s;
    const kv_leaf_t      *leaf;
    kv_leaf_walk_t        walk;
    const unsigned char  *key;
    unsigned char         whole[KV_KEY_MAX];

    at = kv_slice(from, kv_min(n, (size_t) KV_KEY_MAX));

    while (kv_path_find(index, at, &path)) {
        leaf = path.leaf;

        kv_index_prefetch_leaf(leaf);

        /* so it is for all strings between its fences */

        assert(at.n >= leaf->node.prefix_len);
        assert(memcmp(at.p, leaf->data, leaf->node.prefix_len) == 0);

        memcpy(whole, leaf->data, leaf->node.prefix_len);

        kv_leaf_walk(&walk, leaf, kv_slice_skip(at, leaf->node.prefix_len),
                     after);

        while ((key = kv_leaf_next(&walk)) != NULL) {
            s = kv_key_slice(key);

            assert(leaf->node.prefix_len + s.n <= KV_KEY_MAX);

            memcpy(whole + leaf->node.prefix_len, s.p, s.n);

            if (!cb(ctx, whole, leaf->node.prefix_len + s.n)) {
                return;
            }
        }

        at = kv_path_high(&path, path.depth,
                          path.depth ? path.at[path.depth - 1] : 0);
        after = false;

        if (at.p == NULL) {
            return;
        }
    }
}


/* Has the processor fetch all of a leaf, whose keys are read in order. */

static void
kv_index_prefetch_leaf(const kv_leaf_t *leaf)
{
    size_t  i;

    for (i = KV_CACHE_LINE;
         i < leaf->node.size && i < KV_LEAF_MAX + KV_LEAF_SPACE;
         i += KV_CACHE_LINE)
    {
        __builtin_prefetch((const char *) leaf + i);
    }
}
