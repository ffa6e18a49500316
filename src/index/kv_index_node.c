
/*
 * The memory of nodes; kv_index_private.h tells what they are.
 */


#include "index/kv_index_private.h"


/*
 * Objects for single keys: any key fits into one, as a link or as the first
 * leaf.
 */

const uint32_t  kv_index_links[KV_INDEX_LINKS] = {
    64, 128, 256, 512, 1024, 2048, 4096, 8192, 21824
};


/*
 * Few sizes, as each of them takes whole pages of the heap: a small zone has
 * not many.
 */

static size_t
kv_node_round(size_t size)
{
    size_t  small;

    if (size > KV_NODE_STEP) {
        return size <= KV_LEAF_MAX + KV_LEAF_SPACE
               ? kv_align(size, (size_t) KV_NODE_STEP) : size;
    }

    for (small = 64; small < size; small *= 2) {
        /* void */
    }

    return small;
}


kv_index_node_t *
kv_node_alloc(kv_index_t *index, size_t size)
{
    kv_index_node_t  *node;

    size = kv_node_round(size);

    if (size > KV_NODE_MAX || kv_heap_lock(index->heap) != KV_OK) {
        return NULL;
    }

    node = kv_heap_alloc(index->heap, KV_HEAP_NODE, size);

    kv_heap_unlock(index->heap);

    if (node) {
        node->next = NULL;
        node->size = (uint16_t) kv_min(kv_heap_class_size(size), KV_NODE_MAX);
    }

    return node;
}


bool
kv_node_fits(kv_index_t *index, size_t size)
{
    bool  fits;

    if (kv_heap_lock(index->heap) != KV_OK) {
        return false;
    }

    fits = kv_heap_has(index->heap, KV_HEAP_NODE, size);

    kv_heap_unlock(index->heap);

    return fits;
}


void
kv_node_free(kv_index_t *index, kv_index_node_t *node)
{
    if (kv_heap_lock(index->heap) == KV_OK) {
        kv_heap_free(index->heap, node);
        kv_heap_unlock(index->heap);
    }
}


unsigned
kv_link_class(size_t n)
{
    unsigned  class;

    assert(n <= KV_KEY_MAX);

    n += kv_max(sizeof(kv_leaf_t), sizeof(kv_index_link_t)) + 3;

    for (class = 0; kv_index_links[class] < n; class++) {
        /* void */
    }

    return class;
}
