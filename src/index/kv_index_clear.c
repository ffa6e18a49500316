
/*
 * What leaves the tree as a whole: all of it, when it is cleared, and leaves
 * with links.  It is taken apart when its readers are gone, in steps that hold
 * the heap's lock for a short time each.
 */


#include "index/kv_index_private.h"


/* objects freed under one hold of the heap's lock */
#define KV_INDEX_STEP  64


static void kv_index_free_one(kv_index_t *index);


void
kv_index_clear(kv_index_t *index)
{
    kv_index_node_t  *root;

    root = kv_get_relaxed(index->root);

    if (root == NULL) {
        return;
    }

    index->changes++;

    atomic_store_explicit(&index->root, NULL, memory_order_release);
    kv_set_relaxed(index->keys, 0);

    kv_index_leave(index, root);
}


void
kv_index_leave(kv_index_t *index, kv_index_node_t *node)
{
    node->next = index->left;
    index->left = node;
    index->left_epoch = kv_epoch_advance(index->retired);

    kv_set_relaxed(index->unswept, 1);
}


kv_rc_t
kv_index_sweep(kv_index_t *index, unsigned n)
{
    kv_rc_t   rc;
    unsigned  i;

    while (index->apart || index->left) {

        if (index->apart == NULL) {
            rc = kv_epoch_emptied(index->retired, index->left_epoch);

            if (rc != KV_OK) {
                return rc == KV_AGAIN ? KV_BUSY : rc;
            }

            index->apart = index->left;
            index->left = NULL;
        }

        if (n == 0) {
            return KV_AGAIN;
        }

        if (kv_heap_lock(index->heap) != KV_OK) {
            return KV_DEAD;
        }

        for (i = 0; i < KV_INDEX_STEP && n && index->apart; i++, n--) {
            kv_index_free_one(index);
        }

        kv_heap_unlock(index->heap);
    }

    kv_set_relaxed(index->unswept, 0);

    return KV_OK;
}


/* Frees an object; the children of an inner node are next. */

static void
kv_index_free_one(kv_index_t *index)
{
    unsigned          i;
    kv_leaf_t        *leaf;
    kv_inner_t       *inner;
    kv_index_link_t  *link;
    kv_index_node_t  *node, *child;

    node = index->apart;

    if (node->level == 0) {
        leaf = (kv_leaf_t *) node;
        link = kv_get_relaxed(leaf->links);

        if (link) {
            kv_set_relaxed(leaf->links, link->next);
            kv_heap_free(index->heap, link);
            return;
        }
    }

    index->apart = node->next;

    if (node->level) {
        inner = (kv_inner_t *) node;

        for (i = inner->node.n; i--; /* void */ ) {
            child = kv_inner_child(inner, i);
            child->next = index->apart;
            index->apart = child;
        }
    }

    kv_heap_free(index->heap, node);
}
