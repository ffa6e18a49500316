
/*
 * Who watches a key: sets of watches by what their keys begin with, in the
 * order of its bytes.
 *
 * All names that a key begins with are found by looking for the last name that
 * is not behind the key: it is the longest of them, or it has so many bytes in
 * common with the key that all of them are among these.  Then the search goes
 * on with less of the key.
 */


#include "http/ngx_http_kv_watch_private.h"


static void ngx_http_kv_watch_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_http_kv_watch_set_t *ngx_http_kv_watch_before(
    ngx_http_kv_watches_t *watches, const ngx_str_t *key);
static size_t ngx_http_kv_watch_common(const ngx_str_t *one,
    const ngx_str_t *two);


void
ngx_http_kv_watch_index_init(ngx_http_kv_watches_t *watches)
{
    ngx_rbtree_init(&watches->sets, &watches->sentinel,
                    ngx_http_kv_watch_insert);
}


static void
ngx_http_kv_watch_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t        **p;
    ngx_http_kv_watch_set_t   *set, *other;

    set = (ngx_http_kv_watch_set_t *) node;

    for ( ;; ) {
        other = (ngx_http_kv_watch_set_t *) temp;

        p = ngx_memn2cmp(set->name.data, other->name.data, set->name.len,
                         other->name.len) < 0 ? &temp->left : &temp->right;

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


/* The last set whose name is `key` or before it; NULL: there is none. */

static ngx_http_kv_watch_set_t *
ngx_http_kv_watch_before(ngx_http_kv_watches_t *watches, const ngx_str_t *key)
{
    ngx_rbtree_node_t        *node;
    ngx_http_kv_watch_set_t  *set, *last;

    last = NULL;

    for (node = watches->sets.root; node != &watches->sentinel; /* void */ ) {
        set = (ngx_http_kv_watch_set_t *) node;

        if (ngx_memn2cmp(set->name.data, key->data, set->name.len, key->len)
            > 0)
        {
            node = node->left;
            continue;
        }

        last = set;
        node = node->right;
    }

    return last;
}


/* How many bytes they begin with together. */

static size_t
ngx_http_kv_watch_common(const ngx_str_t *one, const ngx_str_t *two)
{
    size_t  i, n;

    n = ngx_min(one->len, two->len);

    for (i = 0; i < n && one->data[i] == two->data[i]; i++) {
        /* void */
    }

    return i;
}


ngx_http_kv_watch_set_t *
ngx_http_kv_watch_index_find(ngx_http_kv_watches_t *watches,
    const ngx_str_t *key)
{
    size_t                    n;
    ngx_str_t                 part;
    ngx_http_kv_watch_set_t  *set;

    part = *key;

    for ( ;; ) {
        set = ngx_http_kv_watch_before(watches, &part);

        if (set == NULL) {
            return NULL;
        }

        n = ngx_http_kv_watch_common(&set->name, &part);

        if (n == set->name.len) {
            return set;
        }

        part.len = n;
    }
}


ngx_int_t
ngx_http_kv_watch_index_add(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch)
{
    ngx_http_kv_watch_set_t  *set;

    set = ngx_http_kv_watch_before(watches, &watch->name);

    if (set == NULL || set->name.len != watch->name.len
        || ngx_memcmp(set->name.data, watch->name.data, set->name.len) != 0)
    {
        set = ngx_alloc(sizeof(ngx_http_kv_watch_set_t) + watch->name.len,
                        watches->zone->log);
        if (set == NULL) {
            return NGX_ERROR;
        }

        set->name.len = watch->name.len;
        set->name.data = (u_char *) (set + 1);
        ngx_memcpy(set->name.data, watch->name.data, watch->name.len);

        ngx_queue_init(&set->watchers);
        ngx_rbtree_insert(&watches->sets, &set->node);
    }

    watch->set = set;
    ngx_queue_insert_tail(&set->watchers, &watch->in_set);

    return NGX_OK;
}


void
ngx_http_kv_watch_index_remove(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch)
{
    ngx_http_kv_watch_set_t  *set;

    set = watch->set;
    watch->set = NULL;

    ngx_queue_remove(&watch->in_set);

    if (ngx_queue_empty(&set->watchers)) {
        ngx_rbtree_delete(&watches->sets, &set->node);
        ngx_free(set);
    }
}


ngx_uint_t
ngx_http_kv_watch_wants(ngx_http_kv_watch_t *watch,
    const kv_feed_record_t *rec)
{
    if (rec->lsn <= watch->after.lsn) {
        return 0;
    }

    if (rec->kind == KV_FEED_CLEAR) {
        return 1;
    }

    /* what is nothing but the prefix of all keys has no name */

    return rec->key_len >= watch->name.len
           && (watch->key.data == NULL || rec->key_len == watch->name.len)
           && (watch->ctx->prefix.len == 0
               || rec->key_len > watch->ctx->prefix.len)
           && ngx_memcmp(rec->key, watch->name.data, watch->name.len) == 0;
}
