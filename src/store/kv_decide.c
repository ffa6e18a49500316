
/*
 * Deciding operations; see kv_decide.h.
 */


#include "store/kv_counter.h"
#include "store/kv_decide.h"
#include "base/kv_failpoint.h"


static void kv_decide_find(kv_zone_t *zone, kv_decide_t *d,
    kv_op_t *const *batch, const kv_entry_t *key, kv_decided_t *found);
static kv_rc_t kv_decide_touch(kv_zone_t *zone, kv_op_t *op,
    const kv_decided_t *key);
static bool kv_decide_condition(const kv_op_t *op, uint64_t lsn);
static kv_rc_t kv_decide_return(kv_zone_t *zone, kv_op_t *op,
    const kv_entry_t *e, uint64_t lsn);
static void kv_decide_add(kv_zone_t *zone, kv_decide_t *d,
    kv_op_t *const *batch, unsigned n);
static uint16_t *kv_decide_cell(kv_decide_t *d, kv_op_t *const *batch,
    uint64_t hash, const kv_entry_t *key);


kv_rc_t
kv_decide(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch, unsigned n,
    kv_op_t *op)
{
    kv_rc_t       rc;
    kv_decided_t  key;

    if (!kv_decide_depends(op)) {
        return KV_OK;
    }

    kv_decide_add(zone, d, batch, n);
    kv_decide_find(zone, d, batch, op->entry, &key);

    if (!kv_decide_condition(op, key.lsn)) {
        op->found = key.lsn;
        return KV_PRECONDITION;
    }

    if (op->flags & KV_OP_RETURN) {
        return kv_decide_return(zone, op, key.e, key.lsn);
    }

    if (op->code == KV_OP_TOUCH) {
        return kv_decide_touch(zone, op, &key);
    }

    if (op->code != KV_OP_INCR) {
        return KV_OK;
    }

    rc = kv_counter_add(zone->heap, &op->entry, key.e, key.expires);

    kv_failpoint(KV_FAILPOINT_ADDED);

    if (rc != KV_OK) {
        op->found = key.lsn;
    }

    return rc;
}


/* What a key has behind the batch; if it has expired, nothing. */

static void
kv_decide_find(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch,
    const kv_entry_t *key, kv_decided_t *found)
{
    uint64_t   hash;
    uint16_t   i, value;
    kv_op_t   *op;

    memset(found, 0, sizeof(kv_decided_t));

    hash = kv_map_hash(&zone->map, key->key, key->key_len);
    i = *kv_decide_cell(d, batch, hash, key);
    op = i ? batch[i - 1] : NULL;

    if ((op && op->code == KV_OP_DELETE) || (op == NULL && d->cleared)) {
        return;
    }

    value = i ? d->value[i - 1] : 0;
    found->e = value ? batch[value - 1]->entry
                     : kv_map_find(&zone->map, hash, key->key, key->key_len);

    if (found->e == NULL) {
        return;
    }

    if (op == NULL) {
        found->lsn = kv_entry_lsn(found->e);

    } else {
        found->lsn = op->code == KV_OP_TOUCH
                     ? op->found : atomic_load(&zone->wal.next_lsn) + i - 1;
    }

    found->expires = kv_entry_expires(op ? op->entry : found->e);

    if (found->expires && found->expires <= d->now) {
        found->e = NULL;
        found->lsn = 0;
    }
}


/*
 * A touch of a key that has a value.  Where its entry has no place for a time
 * of expiry, a copy that has one is made now, while the operation can be
 * refused.
 */

static kv_rc_t
kv_decide_touch(kv_zone_t *zone, kv_op_t *op, const kv_decided_t *key)
{
    kv_rc_t  rc;

    if (key->lsn == 0) {
        return KV_NOT_FOUND;
    }

    op->flags &= (uint8_t) ~KV_OP_COPIED;

    if (kv_entry_expires(op->entry) && kv_entry_expiry(key->e) == NULL) {
        rc = kv_entry_take_value(zone->heap, &op->entry, key->e);

        if (rc != KV_OK) {
            return rc;
        }

        op->flags |= KV_OP_COPIED;
    }

    op->found = key->lsn;

    return KV_OK;
}


/* Whether it is true for a key whose value has that LSN, or 0: has none. */

static bool
kv_decide_condition(const kv_op_t *op, uint64_t lsn)
{
    switch (op->flags & KV_OP_IF) {

    case 0:
        return true;

    case KV_OP_IF_PRESENT:
        return lsn != 0;

    case KV_OP_IF_ABSENT:
        return lsn == 0;

    case KV_OP_IF_OTHER:
        return lsn != kv_entry_lsn(op->entry);

    default:
        assert((op->flags & KV_OP_IF) == KV_OP_IF_VERSION);

        return lsn == kv_entry_lsn(op->entry);
    }
}


/*
 * Gives a delete what it returns: the operation gets a copy of a small value
 * now, while it can still be refused.  A value in pieces is pinned when it
 * leaves the map (kv_batch.c).
 */

static kv_rc_t
kv_decide_return(kv_zone_t *zone, kv_op_t *op, const kv_entry_t *e,
    uint64_t lsn)
{
    if (e == NULL) {
        return KV_NOT_FOUND;
    }

    if (e->flags & KV_ENTRY_PIECES) {
        return KV_OK;
    }

    return kv_entry_replace_key(zone->heap, &op->entry, e, lsn);
}


/* Takes in what was added to the batch since the last call. */

static void
kv_decide_add(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch,
    unsigned n)
{
    kv_op_t     *op;
    uint16_t    *cell;

    if (!d->ready) {
        memset(d->cell, 0, sizeof(d->cell));
        d->ready = 1;
    }

    for ( /* void */ ; d->n < n; d->n++) {
        op = batch[d->n];

        if (op->code == KV_OP_CLEAR) {
            memset(d->cell, 0, sizeof(d->cell));
            d->cleared = 1;
            continue;
        }

        d->hash[d->n] = kv_map_hash(&zone->map, op->entry->key,
                                    op->entry->key_len);
        cell = kv_decide_cell(d, batch, d->hash[d->n], op->entry);

        if (op->code == KV_OP_TOUCH && !(op->flags & KV_OP_COPIED)) {
            d->value[d->n] = *cell ? d->value[*cell - 1] : 0;

        } else {
            d->value[d->n] = (uint16_t) (d->n + 1);
        }

        *cell = (uint16_t) (d->n + 1);
    }
}


/* The cell of a key, or the free one where it would be. */

static uint16_t *
kv_decide_cell(kv_decide_t *d, kv_op_t *const *batch, uint64_t hash,
    const kv_entry_t *key)
{
    size_t       i;
    uint16_t     k;
    kv_entry_t  *e;

    for (i = hash; /* void */ ; i++) {
        k = d->cell[i % (2 * KV_DECIDE_MAX)];

        if (k == 0) {
            break;
        }

        e = batch[k - 1]->entry;

        if (d->hash[k - 1] == hash && e->key_len == key->key_len
            && memcmp(e->key, key->key, key->key_len) == 0)
        {
            break;
        }
    }

    return &d->cell[i % (2 * KV_DECIDE_MAX)];
}
