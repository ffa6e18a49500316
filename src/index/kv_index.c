
/*
 * Changes of one key; kv_index.h tells how the index works.
 */


#include "index/kv_index_private.h"


/* those up to this one are kept from batch to batch */
#define KV_INDEX_KEPT  2


static void kv_index_release(kv_index_t *index, unsigned class);
static kv_index_link_t *kv_index_take(kv_index_t *index, size_t n);
static void kv_index_prefetch(const kv_leaf_t *leaf, kv_slice_t key);
static void kv_index_put_at(kv_index_t *index, kv_slice_t key,
    kv_path_t *path);
static void kv_index_put_first(kv_index_t *index, kv_slice_t key);


void
kv_index_create(kv_index_t *index, kv_heap_t *heap, kv_retire_list_t *retired)
{
    unsigned  i;

    kv_set_relaxed(index->root, NULL);
    kv_set_relaxed(index->keys, 0);
    kv_set_relaxed(index->unswept, 0);

    index->changes = 0;
    index->heap = heap;
    index->retired = retired;
    index->left = NULL;
    index->apart = NULL;
    index->left_epoch = 0;

    for (i = 0; i < KV_INDEX_LINKS; i++) {
        index->reserve[i] = NULL;
        index->reserved[i] = 0;
        index->promised[i] = 0;
    }
}


void
kv_index_reserve_begin(kv_index_t *index)
{
    unsigned  i;

    for (i = 0; i < KV_INDEX_LINKS; i++) {
        index->promised[i] = 0;

        if (i > KV_INDEX_KEPT && index->reserved[i]) {
            kv_index_release(index, i);
        }
    }
}


bool
kv_index_reserve(kv_index_t *index, size_t n)
{
    unsigned          class;
    kv_index_link_t  *link;

    class = kv_link_class(n);

    if (kv_unlikely(index->promised[class] == index->reserved[class])) {

        if (kv_heap_lock(index->heap) != KV_OK) {
            return false;
        }

        link = kv_heap_alloc(index->heap, KV_HEAP_SYSTEM,
                             kv_index_links[class]);
        kv_heap_unlock(index->heap);

        if (link == NULL) {
            return false;
        }

        link->next = index->reserve[class];
        index->reserve[class] = link;
        index->reserved[class]++;
    }

    index->promised[class]++;

    return true;
}


void
kv_index_unreserve(kv_index_t *index)
{
    unsigned  i;

    for (i = 0; i < KV_INDEX_LINKS; i++) {
        index->promised[i] = 0;
        kv_index_release(index, i);
    }
}


static void
kv_index_release(kv_index_t *index, unsigned class)
{
    kv_index_link_t  *link;

    if (index->reserve[class] == NULL || kv_heap_lock(index->heap) != KV_OK) {
        return;
    }

    while ((link = index->reserve[class]) != NULL) {
        index->reserve[class] = link->next;
        index->reserved[class]--;

        kv_heap_free(index->heap, link);
    }

    kv_heap_unlock(index->heap);
}


/* Takes an object out of the reserve for a key of `n` bytes. */

static kv_index_link_t *
kv_index_take(kv_index_t *index, size_t n)
{
    unsigned          class;
    kv_index_link_t  *link;

    class = kv_link_class(n);
    link = index->reserve[class];

    assert(link && index->reserved[class] > 0 && index->promised[class] > 0);

    index->reserve[class] = link->next;
    index->reserved[class]--;
    index->promised[class]--;

    return link;
}


void
kv_index_put(kv_index_t *index, const void *key, size_t n)
{
    kv_path_t   path;
    kv_slice_t  s;

    s = kv_slice(key, n);

    if (kv_path_find(index, s, &path)) {
        kv_index_put_at(index, s, &path);

    } else {
        kv_index_put_first(index, s);
    }

    kv_set_relaxed(index->keys, kv_get_relaxed(index->keys) + 1);
}


void
kv_index_put_group(kv_index_t *index, const kv_slice_t *keys, unsigned n)
{
    unsigned    i;
    uint64_t    changes;
    kv_path_t   path[KV_INDEX_GROUP];

    assert(n <= KV_INDEX_GROUP);

    if (n > 1 && kv_get_relaxed(index->root)) {
        kv_path_find_group(index, keys, n, path);

        for (i = 0; i < n; i++) {
            kv_index_prefetch(path[i].leaf, keys[i]);
        }

        changes = index->changes;

        for (i = 0; i < n && index->changes == changes; i++) {
            kv_path_reload(&path[i]);
            kv_index_put_at(index, keys[i], &path[i]);
        }

        kv_set_relaxed(index->keys, kv_get_relaxed(index->keys) + i);

        keys += i;
        n -= i;
    }

    for (i = 0; i < n; i++) {
        kv_index_put(index, keys[i].p, keys[i].n);
    }
}


/* Has the processor fetch where a key goes, or all that is copied for it. */

static void
kv_index_prefetch(const kv_leaf_t *leaf, kv_slice_t key)
{
    size_t       used, i;
    const char  *end;

    used = sizeof(kv_leaf_t) + kv_get_relaxed(leaf->used);
    end = (const char *) leaf + used;

    __builtin_prefetch(end, 1);

    if (used + kv_key_size(key.n - leaf->node.prefix_len) > leaf->node.size) {

        for (i = KV_CACHE_LINE; i < used && i < KV_LEAF_MAX; i += KV_CACHE_LINE)
        {
            __builtin_prefetch((const char *) leaf + i);
        }
    }
}


static void
kv_index_put_at(kv_index_t *index, kv_slice_t key, kv_path_t *path)
{
    uint64_t     changes;
    kv_leaf_t   *leaf;
    kv_slice_t   rest;

    for ( ;; ) {
        leaf = path->leaf;

        assert(memcmp(key.p, leaf->data, leaf->node.prefix_len) == 0);

        rest = kv_slice_skip(key, leaf->node.prefix_len);

        if (kv_likely(kv_leaf_append(leaf, rest))) {
            return;
        }

        changes = index->changes;

        if (!kv_change_grow(index, path, kv_key_size(rest.n))) {
            kv_leaf_link(leaf, kv_index_take(index, key.n), rest);
            return;
        }

        if (index->changes == changes) {
            kv_path_reload(path);

        } else {
            (void) kv_path_find(index, key, path);
        }
    }
}


/* The first key: if there is no memory, what was reserved becomes a leaf. */

static void
kv_index_put_first(kv_index_t *index, kv_slice_t key)
{
    kv_leaf_t        *leaf;
    kv_index_node_t  *node;

    leaf = kv_leaf_make(index, kv_slice("", 0), kv_slice(NULL, 0), 0,
                        kv_key_size(key.n));

    if (leaf == NULL) {
        node = (kv_index_node_t *) kv_index_take(index, key.n);
        node->size = (uint16_t) kv_index_links[kv_link_class(key.n)];
        leaf = kv_leaf_format(node, kv_slice("", 0), kv_slice(NULL, 0));
    }

    (void) kv_leaf_append(leaf, key);

    kv_change_publish(index, NULL, 0, &leaf->node);
}


void
kv_index_delete(kv_index_t *index, const void *key, size_t n)
{
    bool        found;
    kv_path_t   path;
    kv_leaf_t  *leaf;
    kv_slice_t  s;

    s = kv_slice(key, n);

    found = kv_path_find(index, s, &path);

    assert(found && kv_get_relaxed(index->keys) > 0);

    leaf = path.leaf;

    found = kv_leaf_mark(leaf, kv_slice_skip(s, leaf->node.prefix_len));

    assert(found);

    kv_set_relaxed(index->keys, kv_get_relaxed(index->keys) - 1);

    if (kv_get_relaxed(index->keys) == 0) {

        /* with leaves for whose removal there was no memory, if there are */

        kv_index_clear(index);
        return;
    }

    if (2 * leaf->dead > kv_leaf_bytes(leaf)) {
        kv_change_shrink(index, &path);
    }
}
