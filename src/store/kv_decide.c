
/*
 * Deciding operations; see kv_decide.h.
 */


#include "store/kv_decide.h"


static uint64_t kv_decide_lsn(kv_zone_t *zone, kv_decide_t *d,
    kv_op_t *const *batch, const kv_entry_t *key);
static bool kv_decide_condition(const kv_op_t *op, uint64_t lsn);
static void kv_decide_add(kv_zone_t *zone, kv_decide_t *d,
    kv_op_t *const *batch, unsigned n);
static uint16_t *kv_decide_cell(kv_decide_t *d, kv_op_t *const *batch,
    uint64_t hash, const kv_entry_t *key);


kv_rc_t
kv_decide(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch, unsigned n,
    kv_op_t *op)
{
    uint64_t  lsn;

    if (!(op->flags & KV_OP_IF)) {
        return KV_OK;
    }

    kv_decide_add(zone, d, batch, n);

    lsn = kv_decide_lsn(zone, d, batch, op->entry);

    if (!kv_decide_condition(op, lsn)) {
        op->found = lsn;
        return KV_PRECONDITION;
    }

    return KV_OK;
}


/* The LSN of the value that a key has behind the batch, or 0. */

static uint64_t
kv_decide_lsn(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch,
    const kv_entry_t *key)
{
    uint64_t     hash;
    uint16_t     i;
    kv_entry_t  *e;

    hash = kv_map_hash(&zone->map, key->key, key->key_len);
    i = *kv_decide_cell(d, batch, hash, key);

    if (i) {
        return batch[i - 1]->code == KV_OP_PUT
               ? atomic_load(&zone->wal.next_lsn) + i - 1 : 0;
    }

    if (d->cleared) {
        return 0;
    }

    e = kv_map_find(&zone->map, hash, key->key, key->key_len);

    return e ? kv_entry_lsn(e) : 0;
}


/* Whether it is true for a key whose value has that LSN, or 0: has none. */

static bool
kv_decide_condition(const kv_op_t *op, uint64_t lsn)
{
    switch (op->flags & KV_OP_IF) {

    case KV_OP_IF_PRESENT:
        return lsn != 0;

    case KV_OP_IF_ABSENT:
        return lsn == 0;

    default:
        assert((op->flags & KV_OP_IF) == KV_OP_IF_VERSION);

        return lsn == kv_entry_lsn(op->entry);
    }
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
