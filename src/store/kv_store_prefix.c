
/*
 * Deletes of all keys that begin alike, as one group; see kv_store.h.
 */


#include "store/kv_handle.h"


typedef struct {
    kv_store_t     *store;
    kv_group_t     *group;
    kv_slice_t      prefix;
    unsigned        max;
    kv_rc_t         rc;
} kv_prefix_t;


static bool kv_prefix_add(void *ctx, const void *key, size_t n,
    const kv_entry_t *e, uint64_t expires);


kv_rc_t
kv_store_delete_prefix(kv_store_t *store, const void *prefix, size_t n,
    unsigned max, kv_group_t *group)
{
    kv_rc_t      rc;
    kv_prefix_t  p;

    assert(n > 0 && max <= KV_GROUP_MAX);

    rc = kv_store_group(store, group);

    if (rc != KV_OK) {
        return rc;
    }

    p.store = store;
    p.group = group;
    p.prefix.p = prefix;
    p.prefix.n = n;
    p.max = max;
    p.rc = KV_OK;

    rc = kv_store_list(store, prefix, n, false, kv_prefix_add, &p);

    if (p.rc != KV_OK) {
        rc = p.rc;
    }

    if (rc != KV_OK || group->n == 0) {
        kv_store_release(store, group->op);
        group->op = NULL;
    }

    return rc;
}


/*
 * Each delete has the condition that the key is there: so a group that is done
 * has deleted as many as it has.
 */

static bool
kv_prefix_add(void *ctx, const void *key, size_t n, const kv_entry_t *e,
    uint64_t expires)
{
    kv_prefix_t *p = ctx;

    kv_op_t  *op;

    (void) expires;

    if (n < p->prefix.n || memcmp(key, p->prefix.p, p->prefix.n) != 0) {
        return false;
    }

    if (e == NULL) {
        return true;
    }

    if (p->group->n == p->max) {
        p->rc = KV_OVERFLOW;
        return false;
    }

    p->rc = kv_store_delete(p->store, key, (uint16_t) n, &op);

    if (p->rc != KV_OK) {
        return false;
    }

    kv_store_if(op, KV_OP_IF_PRESENT, NULL);

    p->rc = kv_store_group_add(p->store, p->group, op);

    if (p->rc != KV_OK) {
        kv_store_release(p->store, op);
        return false;
    }

    return true;
}
