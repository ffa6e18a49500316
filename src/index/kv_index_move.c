
/*
 * Moving nodes, so that evacuation can empty a page of them.
 */


#include "index/kv_index_private.h"


static bool kv_index_place(kv_index_t *index, kv_index_node_t *node,
    kv_path_t *path);


kv_rc_t
kv_index_move(kv_index_t *index, void *object, size_t size)
{
    kv_path_t         path;
    kv_index_node_t  *node, *copy;

    node = object;

    if (kv_epoch_count(index->retired) >= KV_RETIRED_MAX
        || !kv_index_place(index, node, &path))
    {
        return KV_DECLINED;
    }

    assert(node->size <= size);

    copy = kv_heap_alloc(index->heap, KV_HEAP_NODE, size);

    if (copy == NULL) {
        return KV_NO_MEMORY;
    }

    /* with its links; readers of the old one may go on to them */

    memcpy((void *) copy, (void *) node, node->size);

    kv_change_publish(index, &path, path.depth, copy);

    return kv_epoch_retire(index->retired, node, KV_RETIRED_OBJECT);
}


/*
 * Finds what names a node that is in the tree.  Others are retired, or wait to
 * be taken apart.
 */

static bool
kv_index_place(kv_index_t *index, kv_index_node_t *node, kv_path_t *path)
{
    kv_leaf_t        *leaf;
    kv_slice_t        key;
    kv_inner_t       *inner;
    kv_index_node_t  *found;

    if (node->level) {
        inner = (kv_inner_t *) node;

        if (node->n < 2) {
            return false;
        }

        key = kv_inner_separator(inner, 0);

    } else {
        leaf = (kv_leaf_t *) node;
        key = kv_slice(leaf->data, node->n);
    }

    if (!kv_path_find(index, key, path)) {
        return false;
    }

    /* the node of this level on the way there */

    found = kv_get_relaxed(index->root);

    if (found->level < node->level) {
        return false;
    }

    path->depth = found->level - node->level;

    if (path->depth) {
        found = kv_inner_child(path->inner[path->depth - 1],
                               path->at[path->depth - 1]);
    }

    return found == node;
}
