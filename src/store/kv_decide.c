
/*
 * Deciding operations; see kv_decide.h.
 */


#include "store/kv_counter.h"
#include "store/kv_decide.h"
#include "base/kv_failpoint.h"


static const kv_entry_t *kv_decide_find(kv_zone_t *zone, kv_decide_t *d,
    kv_op_t *const *batch, const kv_entry_t *key, uint64_t *lsn);
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
    kv_rc_t            rc;
    uint64_t           lsn;
    const kv_entry_t  *e;

    if (op->code != KV_OP_INCR && !(op->flags & (KV_OP_IF|KV_OP_RETURN))) {
        return KV_OK;
    }

    kv_decide_add(zone, d, batch, n);

    e = kv_decide_find(zone, d, batch, op->entry, &lsn);

    if (!kv_decide_condition(op, lsn)) {
        op->found = lsn;
        return KV_PRECONDITION;
    }

    if (op->flags & KV_OP_RETURN) {
        return kv_decide_return(zone, op, e, lsn);
    }

    if (op->code != KV_OP_INCR) {
        return KV_OK;
    }

    rc = kv_counter_add(op->entry, e);

    kv_failpoint(KV_FAILPOINT_ADDED);

    if (rc != KV_OK) {
        op->found = lsn;
    }

    return rc;
}


/* The key's value behind the batch, and its LSN; NULL and 0: it has none. */

static const kv_entry_t *
kv_decide_find(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch,
    const kv_entry_t *key, uint64_t *lsn)
{
    uint64_t     hash;
    uint16_t     i;
    kv_entry_t  *e;

    hash = kv_map_hash(&zone->map, key->key, key->key_len);
    i = *kv_decide_cell(d, batch, hash, key);
    e = NULL;
    *lsn = 0;

    if (i) {
        if (kv_op_puts(batch[i - 1])) {
            e = batch[i - 1]->entry;
            *lsn = atomic_load(&zone->wal.next_lsn) + i - 1;
        }

    } else if (!d->cleared) {
        e = kv_map_find(&zone->map, hash, key->key, key->key_len);
        *lsn = e ? kv_entry_lsn(e) : 0;
    }

    return e;
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
    kv_entry_t  *e;

    if (!d->ready) {
        memset(d->cell, 0, sizeof(d->cell));
        d->ready = 1;
    }

    for ( /* void */ ; d->n < n; d->n++) {

        if (batch[d->n]->code == KV_OP_CLEAR) {
            memset(d->cell, 0, sizeof(d->cell));
            d->cleared = 1;
            continue;
        }

        e = batch[d->n]->entry;
        d->hash[d->n] = kv_map_hash(&zone->map, e->key, e->key_len);

        *kv_decide_cell(d, batch, d->hash[d->n], e) = (uint16_t) (d->n + 1);
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
