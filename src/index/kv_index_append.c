
/*
 * An index that is made of keys in order, as recovery does where memory is
 * short.  The tree grows at its right end alone, and what fills a leaf is known
 * before it is made: its keys, and the one behind them.
 *
 * The last leaf has no fence above it and hence no prefix, so its keys take
 * more memory than they will: it is made anew when the next one comes.
 */


#include "index/kv_index_private.h"


static kv_slice_t kv_append_low(const kv_path_t *path, kv_slice_t key,
    unsigned char *separator);
static unsigned kv_append_count(kv_slice_t low, const kv_slice_t *keys,
    unsigned n, size_t *bytes);
static bool kv_append_behind(kv_index_t *index, kv_path_t *path,
    kv_leaf_t *right, kv_slice_t separator);


unsigned
kv_index_append(kv_index_t *index, const kv_slice_t *keys, unsigned n)
{
    bool            found;
    size_t          bytes;
    kv_path_t       path;
    kv_leaf_t      *leaf;
    kv_slice_t      low;
    unsigned char   separator[KV_KEY_MAX];

    found = kv_path_find(index, keys[0], &path);

    low = found ? kv_append_low(&path, keys[0], separator) : kv_slice("", 0);
    n = kv_append_count(low, keys, kv_min(n, KV_INDEX_APPEND), &bytes);

    leaf = kv_leaf_make_full(index, low, kv_slice(NULL, 0), bytes);

    if (leaf == NULL) {
        return 0;
    }

    kv_leaf_fill_keys(leaf, keys, n);

    if (!found) {
        kv_change_publish(index, NULL, 0, &leaf->node);

    } else if (!kv_append_behind(index, &path, leaf, low)) {
        return 0;
    }

    kv_set_relaxed(index->keys, kv_get_relaxed(index->keys) + n);

    return n;
}


/* The fence between the last leaf, to which the path leads, and a new key. */

static kv_slice_t
kv_append_low(const kv_path_t *path, kv_slice_t key, unsigned char *separator)
{
    kv_slice_t            last;
    kv_leaf_walk_t        walk;
    const unsigned char  *next;

    kv_change_walk(&walk, path->leaf, kv_slice("", 0));

    for (last = kv_slice("", 0); (next = kv_leaf_next(&walk)) != NULL; ) {
        last = kv_key_slice(next);
    }

    return kv_change_separator(path->leaf, last,
                               kv_slice_skip(key, path->leaf->node.prefix_len),
                               separator);
}


/*
 * How many of the keys fill a leaf between `low` and the key behind them, one
 * at least, and how many bytes they take without a prefix: four times what it
 * has at most, if it is more than one.
 */

static unsigned
kv_append_count(kv_slice_t low, const kv_slice_t *keys, unsigned n,
    size_t *bytes)
{
    size_t      all, prefix_len;
    unsigned    i;
    kv_slice_t  high;

    *bytes = kv_key_size(keys[0].n);

    for (i = 1; i < n; i++) {
        all = *bytes + kv_key_size(keys[i].n);
        high = i + 1 < n ? keys[i + 1] : keys[i];
        prefix_len = kv_fences_common(low, high);

        if (sizeof(kv_leaf_t) + low.n + all - (i + 1) * prefix_len > KV_LEAF_MAX
            || all > 4 * KV_LEAF_MAX)
        {
            break;
        }

        *bytes = all;
    }

    return i;
}


/*
 * Puts a leaf behind the last one, which gets a fence and the prefix that it
 * has then.
 */

static bool
kv_append_behind(kv_index_t *index, kv_path_t *path, kv_leaf_t *right,
    kv_slice_t separator)
{
    size_t           bytes;
    kv_leaf_t       *left;
    kv_slice_t       low;
    kv_change_t      change;
    kv_replace_t     r;
    kv_leaf_walk_t   walk;

    kv_change_begin(&change, &r, 1, 2);
    kv_change_made(&change, &right->node);

    if (!kv_epoch_spare(index->retired, path->depth + 3)) {
        return kv_change_end(index, &change, false);
    }

    low = kv_path_low(path, path->depth,
                      path->depth ? path->at[path->depth - 1] : 0);

    (void) kv_leaf_measure(path->leaf, low, kv_fences_common(low, separator),
                           &bytes);

    left = kv_leaf_make_full(index, low, separator, bytes);

    if (left == NULL) {
        return kv_change_end(index, &change, false);
    }

    kv_change_walk(&walk, path->leaf, low);
    kv_leaf_fill(left, &walk, UINT32_MAX);

    kv_change_made(&change, &left->node);
    kv_change_gone(&change, path->leaf);

    r.kid[0] = &left->node;
    r.kid[1] = &right->node;
    r.separator = separator;

    return kv_change_replace(index, path, &r, &change);
}
