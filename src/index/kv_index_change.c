
/*
 * Nodes that replace others.  All of a change is made first, beside what it
 * replaces; one store publishes it; then what it replaces is retired.  If
 * memory is short nothing has changed.
 */


#include "index/kv_index_private.h"


static bool kv_change_alone(kv_index_t *index, const kv_path_t *path,
    kv_slice_t from, kv_slice_t low, kv_slice_t high, size_t bytes,
    size_t space);
static bool kv_change_split(kv_index_t *index, kv_path_t *path, kv_slice_t low,
    kv_slice_t high, size_t bytes, size_t space);
static kv_leaf_t *kv_change_left(kv_index_t *index, const kv_leaf_t *last,
    kv_slice_t low, kv_slice_t high, size_t bytes, unsigned keys);
static unsigned kv_change_cut(kv_leaf_walk_t *walk, unsigned keys,
    size_t *bytes, kv_slice_t *last, kv_slice_t *first);
static bool kv_change_merge(kv_index_t *index, const kv_path_t *path);
static void kv_change_drop(kv_index_t *index, kv_path_t *path);
static bool kv_change_extend(kv_index_t *index, const kv_path_t *path,
    unsigned depth);
static bool kv_change_inner(kv_index_t *index, kv_replace_t *r,
    kv_change_t *change);
static kv_index_node_t *kv_change_only(const kv_replace_t *r,
    kv_change_t *change);
static void kv_change_retire(kv_index_t *index, kv_index_node_t *node);


bool
kv_change_grow(kv_index_t *index, kv_path_t *path, size_t size)
{
    size_t      bytes, common;
    unsigned    keys;
    kv_leaf_t  *leaf;
    kv_slice_t  low, high;

    if (!kv_epoch_spare(index->retired, path->depth + 3)) {
        return false;
    }

    leaf = path->leaf;

    /* with many links it takes long to find out that there is no memory */

    if (kv_get_relaxed(leaf->links) && !kv_node_fits(index, KV_LEAF_MAX)) {
        return false;
    }

    low = kv_path_low(path, path->depth, path->depth
                                         ? path->at[path->depth - 1] : 0);
    high = kv_path_high(path, path->depth, path->depth
                                           ? path->at[path->depth - 1] : 0);

    common = kv_fences_common(low, high);

    if (kv_likely(common == leaf->node.prefix_len && !leaf->stale
                  && kv_get_relaxed(leaf->links) == NULL))
    {
        /* its keys stay as they are */

        bytes = kv_leaf_bytes(leaf) - leaf->dead;

        if (sizeof(kv_leaf_t) + low.n + bytes + size <= KV_LEAF_MAX) {
            return kv_change_alone(index, path, low, low, high, bytes, size);
        }
    }

    keys = kv_leaf_measure(leaf, low, common, &bytes);

    if (keys < 2 || sizeof(kv_leaf_t) + low.n + bytes + size <= KV_LEAF_MAX) {
        return kv_change_alone(index, path, low, low, high, bytes, size);
    }

    (void) kv_leaf_measure(leaf, low, leaf->node.prefix_len, &bytes);

    return kv_change_split(index, path, low, high, bytes, size);
}


void
kv_change_shrink(kv_index_t *index, kv_path_t *path)
{
    size_t      bytes;
    unsigned    keys;
    kv_slice_t  low, high;

    /* a neighbour may have to be made anew, too */

    if (!kv_epoch_spare(index->retired, 2 * path->depth + 4)) {
        return;
    }

    low = kv_path_low(path, path->depth, path->depth
                                         ? path->at[path->depth - 1] : 0);
    high = kv_path_high(path, path->depth, path->depth
                                           ? path->at[path->depth - 1] : 0);

    keys = kv_leaf_measure(path->leaf, low, kv_fences_common(low, high),
                           &bytes);

    if (keys == 0) {
        kv_change_drop(index, path);
        return;
    }

    if (bytes > KV_LEAF_COPY
        || (bytes <= KV_LEAF_MAX / 4 && kv_change_merge(index, path)))
    {
        return;
    }

    (void) kv_change_alone(index, path, low, low, high, bytes, 0);
}


/*
 * Replaces a leaf by one with the same keys, which begin at its fence `from`,
 * and with these fences.
 */

static bool
kv_change_alone(kv_index_t *index, const kv_path_t *path, kv_slice_t from,
    kv_slice_t low, kv_slice_t high, size_t bytes, size_t space)
{
    kv_leaf_t       *leaf;
    kv_leaf_walk_t   walk;

    leaf = kv_leaf_make(index, low, high, bytes, space);

    if (leaf == NULL) {
        return false;
    }

    kv_change_walk(&walk, path->leaf, from);
    kv_leaf_fill(leaf, &walk, UINT32_MAX);
    kv_change_publish(index, path, path->depth, &leaf->node);
    kv_change_retire(index, &path->leaf->node);

    return true;
}


/*
 * Replaces a leaf by two, of which the second is the old one if it has too many
 * keys to copy.
 */

static bool
kv_change_split(kv_index_t *index, kv_path_t *path, kv_slice_t low,
    kv_slice_t high, size_t bytes, size_t space)
{
    bool             last, stays;
    size_t           cut, all;
    unsigned         keys;
    kv_leaf_t       *left, *right;
    kv_slice_t       a, b;
    kv_change_t      change;
    kv_replace_t     r;
    kv_leaf_walk_t   walk;
    unsigned char    separator[KV_KEY_MAX];

    /* keys often come in order: then all others come to the right one */

    last = high.p == NULL;
    cut = bytes > 4 * KV_LEAF_MAX ? KV_LEAF_MAX * 3 / 4
                                  : last ? bytes - bytes / 8 : bytes / 2;

    keys = kv_leaf_measure(path->leaf, low, path->leaf->node.prefix_len,
                           &all);

    kv_change_walk(&walk, path->leaf, low);
    keys = kv_change_cut(&walk, keys, &cut, &a, &b);

    kv_change_begin(&change, &r, 1, 2);
    r.separator = kv_change_separator(path->leaf, a, b, separator);

    left = last ? kv_change_left(index, path->leaf, low, r.separator, cut, keys)
                : kv_leaf_make(index, low, r.separator, cut, space);

    if (left == NULL) {
        return false;
    }

    kv_change_made(&change, &left->node);
    r.kid[0] = &left->node;
    r.kid[1] = &path->leaf->node;

    kv_change_walk(&walk, path->leaf, low);
    kv_leaf_fill(left, &walk, keys);

    stays = bytes - cut > KV_LEAF_COPY;

    if (!stays) {
        space = last ? kv_max(space, (size_t) KV_LEAF_MAX / 2) : space;
        right = kv_leaf_make(index, r.separator, high, bytes - cut, space);

        if (right == NULL) {
            return kv_change_end(index, &change, false);
        }

        kv_change_made(&change, &right->node);
        kv_change_gone(&change, path->leaf);
        r.kid[1] = &right->node;

        kv_leaf_fill(right, &walk, UINT32_MAX);
    }

    if (!kv_change_replace(index, path, &r, &change)) {
        return false;
    }

    path->leaf->stale = stays;

    return true;
}


kv_slice_t
kv_change_separator(const kv_leaf_t *leaf, kv_slice_t a, kv_slice_t b,
    unsigned char *separator)
{
    size_t  common;

    common = kv_slice_common(a, b) + 1;

    memcpy(separator, leaf->data, leaf->node.prefix_len);
    memcpy(separator + leaf->node.prefix_len, b.p, common);

    return kv_slice(separator, leaf->node.prefix_len + common);
}


/*
 * Makes the one for the first `keys` of the last leaf, where they take `bytes`,
 * as that has no prefix: they take less here.  No others come.
 */

static kv_leaf_t *
kv_change_left(kv_index_t *index, const kv_leaf_t *last, kv_slice_t low,
    kv_slice_t high, size_t bytes, unsigned keys)
{
    size_t  prefix_len;

    prefix_len = kv_fences_common(low, high) - last->node.prefix_len;

    return kv_leaf_make(index, low, high, bytes - keys * prefix_len, 0);
}


/*
 * Finds how many of the walk's `keys` take about *bytes, all but one at most,
 * and sets *bytes to what they take; the last of these, and the one behind it.
 */

static unsigned
kv_change_cut(kv_leaf_walk_t *walk, unsigned keys, size_t *bytes,
    kv_slice_t *last, kv_slice_t *first)
{
    size_t    sum;
    unsigned  n;

    sum = 0;
    n = 0;

    do {
        *last = kv_key_slice(kv_leaf_next(walk));
        sum += kv_key_size(last->n);
        n++;
    } while (sum < *bytes && n + 1 < keys);

    *first = kv_key_slice(kv_leaf_next(walk));
    *bytes = sum;

    return n;
}


/*
 * Makes one leaf of one that has few keys and a neighbour in the same node.
 * False: it has no such neighbour, or there is no memory.
 */

static bool
kv_change_merge(kv_index_t *index, const kv_path_t *path)
{
    size_t           prefix_len, bytes, both;
    unsigned         i, d;
    kv_leaf_t       *leaf, *two[2];
    kv_path_t        way;
    kv_inner_t      *inner;
    kv_slice_t       low, middle, high;
    kv_change_t      change;
    kv_replace_t     r;
    kv_leaf_walk_t   walk;

    d = path->depth;

    if (d == 0 || path->inner[d - 1]->node.n < 2) {
        return false;
    }

    inner = path->inner[d - 1];
    i = path->at[d - 1];
    i -= i + 1u == inner->node.n;

    two[0] = (kv_leaf_t *) kv_inner_child(inner, i);
    two[1] = (kv_leaf_t *) kv_inner_child(inner, i + 1);

    if (kv_leaf_bytes(two[0] == path->leaf ? two[1] : two[0])
        > KV_LEAF_MAX / 2)
    {
        return false;
    }

    low = kv_path_low(path, d, i);
    middle = kv_path_low(path, d, i + 1);
    high = kv_path_high(path, d, i + 1);
    prefix_len = kv_fences_common(low, high);

    (void) kv_leaf_measure(two[0], low, prefix_len, &bytes);
    (void) kv_leaf_measure(two[1], middle, prefix_len, &both);
    both += bytes;

    if (both > KV_LEAF_MAX / 2) {
        return false;
    }

    leaf = kv_leaf_make(index, low, high, both, 0);

    if (leaf == NULL) {
        return false;
    }

    kv_change_walk(&walk, two[0], low);
    kv_leaf_fill(leaf, &walk, UINT32_MAX);
    kv_change_walk(&walk, two[1], middle);
    kv_leaf_fill(leaf, &walk, UINT32_MAX);

    kv_change_begin(&change, &r, 2, 1);
    r.kid[0] = &leaf->node;

    kv_change_made(&change, &leaf->node);
    kv_change_gone(&change, two[0]);
    kv_change_gone(&change, two[1]);

    way = *path;
    way.at[d - 1] = (uint16_t) i;

    return kv_change_replace(index, &way, &r, &change);
}


/*
 * Removes a leaf without keys, and the nodes that would have no child then.  A
 * neighbour becomes responsible for what may come.
 */

static void
kv_change_drop(kv_index_t *index, kv_path_t *path)
{
    unsigned      depth;
    kv_change_t   change;
    kv_replace_t  r;

    for (depth = path->depth; depth; depth--) {

        if (path->inner[depth - 1]->node.n > 1) {
            break;
        }
    }

    if (depth && !kv_change_extend(index, path, depth)) {
        return;
    }

    kv_change_begin(&change, &r, 1, 0);
    kv_change_gone(&change, path->leaf);

    (void) kv_change_replace(index, path, &r, &change);
}


/*
 * Makes the leaf that will be responsible for the keys of the path's child at
 * `depth` fit for them.  That is the last one in front of it, or the first one
 * behind it: see kv_replace_separator().
 */

static bool
kv_change_extend(kv_index_t *index, const kv_path_t *path, unsigned depth)
{
    bool              before;
    size_t            bytes;
    unsigned          i;
    kv_path_t         next;
    kv_slice_t        low, high, own;
    kv_index_node_t  *node;

    i = path->at[depth - 1];
    before = i > 0;

    low = kv_path_low(path, depth, i);
    high = kv_path_high(path, depth, i);

    next = *path;
    next.depth = depth;
    next.at[depth - 1] = (uint16_t) (before ? i - 1 : i + 1);

    for (node = kv_inner_child(next.inner[depth - 1], next.at[depth - 1]);
         node->level;
         node = kv_inner_child(next.inner[next.depth - 1],
                               next.at[next.depth - 1]))
    {
        next.inner[next.depth] = (kv_inner_t *) node;
        next.at[next.depth] = before ? node->n - 1 : 0;
        next.depth++;
    }

    next.leaf = (kv_leaf_t *) node;
    own = kv_path_low(&next, next.depth, next.at[next.depth - 1]);

    if (before) {
        low = own;

    } else {
        high = kv_path_high(&next, next.depth, next.at[next.depth - 1]);
    }

    if (node->prefix_len <= kv_fences_common(low, high) && !next.leaf->stale) {
        return true;
    }

    (void) kv_leaf_measure(next.leaf, own, kv_fences_common(low, high),
                           &bytes);

    return bytes <= KV_LEAF_COPY
           && kv_change_alone(index, &next, own, low, high, bytes, 0);
}


void
kv_change_walk(kv_leaf_walk_t *walk, const kv_leaf_t *leaf, kv_slice_t low)
{
    if (leaf->stale && low.n > leaf->node.prefix_len) {
        low = kv_slice_skip(low, leaf->node.prefix_len);

    } else {
        low.n = 0;
    }

    kv_leaf_walk(walk, leaf, low, false);
}


bool
kv_change_replace(kv_index_t *index, kv_path_t *path, kv_replace_t *r,
    kv_change_t *change)
{
    unsigned          d;
    kv_index_node_t  *only;

    for (d = path->depth; d; d--) {
        r->old = path->inner[d - 1];
        r->at = path->at[d - 1];

        if (r->c == 1 && r->k == 1) {
            break;
        }

        kv_change_gone(change, path->inner[d - 1]);

        if (d == 1 && kv_replace_count(r) == 1) {
            only = kv_change_only(r, change);
            r->kid[0] = only;
            r->k = 1;
            continue;
        }

        if (kv_replace_count(r) == 0) {
            continue;                /* and neither has this one a place */
        }

        if (!kv_change_inner(index, r, change)) {
            return kv_change_end(index, change, false);
        }

        r->c = 1;
    }

    if (d == 0 && r->k == 2) {

        /* a new root */

        r->old = NULL;
        r->at = 0;

        if (path->depth == KV_INDEX_DEPTH
            || !kv_change_inner(index, r, change))
        {
            return kv_change_end(index, change, false);
        }
    }

    kv_change_publish(index, path, d, r->k ? r->kid[0] : NULL);

    return kv_change_end(index, change, true);
}


/* Makes one or two inner nodes, which are what is to be replaced above then. */

static bool
kv_change_inner(kv_index_t *index, kv_replace_t *r, kv_change_t *change)
{
    size_t         size;
    unsigned       n, half;
    kv_inner_t    *a, *b;
    kv_replace_t   up;

    n = kv_replace_count(r);
    size = kv_inner_size(r, 0, n);
    half = n;

    if (size > KV_INNER_MAX && n >= 4) {
        half = 2;

        while (half + 2 < n && kv_inner_size(r, 0, half) < size / 2) {
            half++;
        }
    }

    a = kv_inner_make(index, r, 0, half);

    if (a == NULL) {
        return false;
    }

    kv_change_made(change, &a->node);

    up = *r;
    up.k = 1;
    up.kid[0] = &a->node;

    if (half < n) {
        b = kv_inner_make(index, r, half, n);

        if (b == NULL) {
            return false;
        }

        kv_change_made(change, &b->node);

        up.k = 2;
        up.kid[1] = &b->node;
        up.separator = kv_replace_separator(r, half - 1);
    }

    *r = up;

    return true;
}


/* The only child of the root, which takes its place, or its only child's. */

static kv_index_node_t *
kv_change_only(const kv_replace_t *r, kv_change_t *change)
{
    unsigned          i;
    kv_index_node_t  *only;

    only = kv_replace_child(r, 0);

    while (only->level && only->n == 1) {

        for (i = 0; i < change->nmade; i++) {
            if (change->made[i] == only) {
                return only;
            }
        }

        kv_change_gone(change, only);
        only = kv_inner_child((kv_inner_t *) only, 0);
    }

    return only;
}


void
kv_change_publish(kv_index_t *index, const kv_path_t *path, unsigned depth,
    kv_index_node_t *node)
{
    if (depth == 0) {
        index->changes++;
        atomic_store_explicit(&index->root, node, memory_order_release);
        return;
    }

    assert(node);

    index->changes += node->level > 0;

    atomic_store_explicit(&path->inner[depth - 1]->child[path->at[depth - 1]],
                          node, memory_order_release);
}


void
kv_change_begin(kv_change_t *change, kv_replace_t *r, unsigned c, unsigned k)
{
    change->nmade = 0;
    change->ngone = 0;

    memset(r, 0, sizeof(kv_replace_t));
    r->c = c;
    r->k = k;
}


void
kv_change_made(kv_change_t *change, kv_index_node_t *node)
{
    assert(change->nmade < sizeof(change->made) / sizeof(change->made[0]));

    change->made[change->nmade++] = node;
}


void
kv_change_gone(kv_change_t *change, void *node)
{
    assert(change->ngone < sizeof(change->gone) / sizeof(change->gone[0]));

    change->gone[change->ngone++] = node;
}


bool
kv_change_end(kv_index_t *index, kv_change_t *change, bool done)
{
    unsigned  i;

    if (done) {

        for (i = 0; i < change->ngone; i++) {
            kv_change_retire(index, change->gone[i]);
        }

    } else {

        for (i = 0; i < change->nmade; i++) {
            kv_node_free(index, change->made[i]);
        }
    }

    return done;
}


static void
kv_change_retire(kv_index_t *index, kv_index_node_t *node)
{
    kv_rc_t  rc;

    if (node->level == 0 && kv_get_relaxed(((kv_leaf_t *) node)->links)) {
        kv_index_leave(index, node);
        return;
    }

    rc = kv_epoch_retire(index->retired, node, KV_RETIRED_OBJECT);

    /* there was space: see kv_epoch_spare() */

    assert(rc != KV_NO_MEMORY);
    (void) rc;
}
