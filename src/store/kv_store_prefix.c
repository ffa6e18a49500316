
/*
 * Deletes of all keys that begin alike, as one group; see kv_store.h.
 *
 * The keys are visited twice.  The first time they are counted alone, so that
 * too many of them are refused before any memory is taken for them, which
 * others need; the second time the group is made.
 */


#include "store/kv_handle.h"


/* what a key of the group costs, beside one that is visited alone */
#define KV_PREFIX_ADD  4


static bool kv_prefix_visit(void *ctx, const void *key, size_t n,
    const kv_entry_t *e, uint64_t expires);
static kv_rc_t kv_prefix_count(kv_prefix_t *p, size_t n);
static kv_rc_t kv_prefix_add(kv_prefix_t *p, const void *key, size_t n);


void
kv_store_prefix_begin(kv_prefix_t *p, const void *prefix, size_t n,
    unsigned max)
{
    assert(n > 0 && max <= KV_GROUP_MAX);

    p->prefix = prefix;
    p->n = n;
    p->max = max;
    p->found = 0;
    p->bytes = 0;
    p->counted = false;

    kv_store_prefix_again(p);
}


void
kv_store_prefix_again(kv_prefix_t *p)
{
    memset(&p->group, 0, sizeof(kv_group_t));

    p->at_len = 0;
}


kv_rc_t
kv_store_prefix_step(kv_store_t *store, kv_prefix_t *p, unsigned keys)
{
    kv_rc_t  rc;

    p->store = store;
    p->left = keys;
    p->rc = KV_OK;

    if (p->counted && p->group.op == NULL) {
        rc = kv_store_group(store, &p->group);

        if (rc != KV_OK) {
            return rc;
        }
    }

    rc = p->at_len
         ? kv_store_list(store, p->at, p->at_len, true, kv_prefix_visit, p)
         : kv_store_list(store, p->prefix, p->n, false, kv_prefix_visit, p);

    if (p->rc != KV_OK || rc != KV_OK) {
        return p->rc != KV_OK ? p->rc : rc;
    }

    if (!p->counted && p->found) {
        p->counted = true;
        p->at_len = 0;
        return KV_BUSY;
    }

    return KV_OK;
}


static bool
kv_prefix_visit(void *ctx, const void *key, size_t n, const kv_entry_t *e,
    uint64_t expires)
{
    kv_prefix_t *p = ctx;

    (void) expires;

    if (n < p->n || memcmp(key, p->prefix, p->n) != 0) {
        return false;
    }

    if (p->left == 0) {
        p->rc = KV_BUSY;
        return false;
    }

    p->left--;

    if (e) {
        p->rc = p->counted ? kv_prefix_add(p, key, n) : kv_prefix_count(p, n);
    }

    if (p->rc != KV_OK) {
        return false;
    }

    /* the next step begins behind it */

    memcpy(p->at, key, n);
    p->at_len = n;

    return true;
}


static kv_rc_t
kv_prefix_count(kv_prefix_t *p, size_t n)
{
    kv_record_t  rec;

    if (p->found == p->max) {
        return KV_OVERFLOW;
    }

    memset(&rec, 0, sizeof(kv_record_t));
    rec.key_len = (uint16_t) n;

    p->found++;
    p->bytes += kv_record_size(&rec);

    return p->bytes > kv_store_batch_space(p->store->zone) ? KV_DECLINED
                                                           : KV_OK;
}


/*
 * Each delete has the condition that the key is there: so a group that is done
 * has deleted as many as it has.
 */

static kv_rc_t
kv_prefix_add(kv_prefix_t *p, const void *key, size_t n)
{
    kv_rc_t   rc;
    kv_op_t  *op;

    if (p->group.n == p->max) {
        return KV_OVERFLOW;
    }

    rc = kv_store_group_delete(p->store, &p->group, key, (uint16_t) n, &op);

    if (rc != KV_OK) {
        return rc;
    }

    kv_store_if(op, KV_OP_IF_PRESENT, NULL);

    rc = kv_store_group_add(p->store, &p->group, op);

    if (rc != KV_OK) {
        kv_store_release(p->store, op);
        return rc;
    }

    p->left -= kv_min(p->left, KV_PREFIX_ADD);

    return KV_OK;
}
