
/*
 * Conditions of writes; see kv_decide.h.
 */


#include "store/kv_decide.h"


static void kv_decide_add(kv_zone_t *zone, kv_decide_t *d,
    kv_op_t *const *batch, unsigned n);
static uint16_t *kv_decide_cell(kv_decide_t *d, kv_op_t *const *batch,
    uint64_t hash, const kv_entry_t *key);


bool
kv_decide(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch, unsigned n,
    kv_op_t *op)
{
    bool         met;
    uint64_t     hash, lsn;
    uint16_t     i;
    kv_entry_t  *e;

    kv_decide_add(zone, d, batch, n);

    hash = kv_map_hash(&zone->map, op->entry->key, op->entry->key_len);
    i = *kv_decide_cell(d, batch, hash, op->entry);
    lsn = 0;

    if (i) {
        if (batch[i - 1]->code == KV_OP_PUT) {
            lsn = atomic_load(&zone->wal.next_lsn) + i - 1;
        }

    } else if (!d->cleared) {
        e = kv_map_find(&zone->map, hash, op->entry->key, op->entry->key_len);
        lsn = e ? kv_entry_lsn(e) : 0;
    }

    switch (op->flags & KV_OP_IF) {

    case KV_OP_IF_PRESENT:
        met = lsn != 0;
        break;

    case KV_OP_IF_ABSENT:
        met = lsn == 0;
        break;

    default:
        assert((op->flags & KV_OP_IF) == KV_OP_IF_VERSION);

        met = lsn == kv_entry_lsn(op->entry);
    }

    if (!met) {
        op->found = lsn;
    }

    return met;
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
