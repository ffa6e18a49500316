
/*
 * Records of other nodes; see kv_follow.h.  They become operations as those of
 * clients, with entries in the zone, which are applied some at a time.
 */


#include <errno.h>
#include <stdlib.h>

#include "store/kv_follow.h"
#include "store/kv_batch.h"
#include "store/kv_compact.h"
#include "store/kv_expire.h"
#include "store/kv_listed.h"
#include "store/kv_sweep.h"


/* operations that are applied together */
#define KV_FOLLOW_OPS    256u


struct kv_follow_s {
    kv_store_t   *store;
    uint64_t      lsn;               /* of the record at hand */
    kv_op_t       op[KV_FOLLOW_OPS];
    kv_op_t      *list[KV_FOLLOW_OPS];
    unsigned      n;                 /* operations that wait, */
    unsigned      expired;           /* or keys that expire, in the batch */
};


static kv_rc_t kv_follow_one(kv_follow_t *f, const kv_record_t *rec);
static kv_rc_t kv_follow_expire(kv_follow_t *f, const kv_record_t *rec);
static kv_rc_t kv_follow_entry(kv_follow_t *f, kv_op_t *op,
    const kv_record_t *rec);
static kv_rc_t kv_follow_fill(kv_zone_t *zone, kv_op_t *op,
    const kv_record_t *rec);
static kv_rc_t kv_follow_touch(kv_zone_t *zone, kv_op_t *op);
static kv_rc_t kv_follow_clearable(kv_zone_t *zone);
static kv_rc_t kv_follow_flush(kv_follow_t *f);
static bool kv_follow_reserve(kv_follow_t *f);
static void kv_follow_failed(kv_follow_t *f, kv_rc_t rc, kv_err_t *err);


kv_follow_t *
kv_follow_create(kv_store_t *store)
{
    unsigned      i;
    kv_follow_t  *f;

    f = calloc(1, sizeof(kv_follow_t));

    if (f) {
        f->store = store;

        for (i = 0; i < KV_FOLLOW_OPS; i++) {
            f->list[i] = &f->op[i];
        }
    }

    return f;
}


void
kv_follow_destroy(kv_follow_t *f)
{
    free(f);
}


kv_rc_t
kv_follow_apply(kv_follow_t *f, uint64_t lsn, const void *data, size_t len,
    kv_err_t *err)
{
    size_t          size;
    kv_rc_t         rc;
    uint64_t        applied;
    kv_record_t     rec;
    const uint8_t  *p;
    struct iovec    value;

    applied = atomic_load(&f->store->zone->applied_lsn);
    rc = KV_OK;

    for (p = data; rc == KV_OK && len; p += size, len -= size, lsn++) {
        size = kv_record_decode(p, len, KV_FORMAT_VERSION, &rec, &value);

        if (size == 0) {
            rc = KV_DAMAGED;
            break;
        }

        if (lsn > applied) {
            f->lsn = lsn;
            rc = kv_follow_one(f, &rec);
        }
    }

    if (rc == KV_OK) {
        f->lsn = lsn;
        rc = kv_follow_flush(f);
    }

    if (rc == KV_AGAIN) {
        f->n = 0;

    } else if (rc != KV_OK) {
        kv_follow_failed(f, rc, err);
        return rc;
    }

    kv_batch_wake(f->store, f->store->batch);
    (void) kv_batch_clean_up(f->store);

    return rc;
}


/*
 * Adds a record to those that wait.  A touch depends on what those before it
 * do; and keys that expire are deleted in another way.
 */

static kv_rc_t
kv_follow_one(kv_follow_t *f, const kv_record_t *rec)
{
    bool      expires;
    kv_rc_t   rc;
    kv_op_t  *op;

    expires = rec->op == KV_OP_DELETE && (rec->flags & KV_RECORD_EXPIRES);

    if (rec->op == KV_OP_TOUCH || rec->op == KV_OP_CLEAR
        || f->n == KV_FOLLOW_OPS || f->expired == KV_EXPIRE_MAX
        || (expires ? f->n : f->expired) != 0)
    {
        rc = kv_follow_flush(f);

        if (rc != KV_OK) {
            return rc;
        }
    }

    if (expires) {
        return kv_follow_expire(f, rec);
    }

    op = &f->op[f->n++];
    memset(op, 0, sizeof(kv_op_t));

    op->code = (uint8_t) rec->op;
    op->lsn = f->lsn;
    atomic_store(&op->state, KV_OP_TAKEN);

    if (rec->op == KV_OP_CLEAR) {
        return kv_follow_clearable(f->store->zone);
    }

    return kv_follow_entry(f, op, rec);
}


static kv_rc_t
kv_follow_expire(kv_follow_t *f, const kv_record_t *rec)
{
    uint64_t     hash;
    kv_entry_t  *e;
    kv_zone_t   *zone;
    kv_batch_t  *batch;

    zone = f->store->zone;
    batch = f->store->batch;

    hash = kv_map_hash(&zone->map, rec->key, rec->key_len);
    e = kv_map_find(&zone->map, hash, rec->key, rec->key_len);

    if (e == NULL) {
        return KV_DAMAGED;
    }

    batch->expired[f->expired] = e;
    batch->expired_hash[f->expired++] = hash;

    return KV_OK;
}


/* Makes its entry; where the zone is short of memory, other keys move. */

static kv_rc_t
kv_follow_entry(kv_follow_t *f, kv_op_t *op, const kv_record_t *rec)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = f->store->zone;

    kv_phase_changing(zone);

    do {
        rc = kv_follow_fill(zone, op, rec);

    } while (rc == KV_NO_MEMORY
             && kv_epoch_reclaim(&zone->retired) == KV_OK
             && kv_compact_page(zone, true) == KV_OK);

    return rc;
}


static kv_rc_t
kv_follow_fill(kv_zone_t *zone, kv_op_t *op, const kv_record_t *rec)
{
    size_t     i;
    kv_rc_t    rc;
    uint32_t   offset;
    kv_name_t  name;

    name.key = rec->key;
    name.key_len = rec->key_len;
    name.meta = rec->meta;
    name.meta_len = rec->meta_len;

    rc = kv_entry_begin(zone->heap, &op->entry, &name, rec->value_len,
                        rec->value_len, rec->expires ? KV_ENTRY_EXPIRES : 0);

    if (rc != KV_OK) {
        return rc;
    }

    if (rec->expires) {
        kv_entry_set_expires(op->entry, rec->expires);
    }

    if (rec->op == KV_OP_TOUCH) {
        return kv_follow_touch(zone, op);
    }

    for (i = 0, offset = 0; i < rec->value_n; i++) {
        kv_entry_write(op->entry, offset, rec->value[i].iov_base,
                       rec->value[i].iov_len);
        offset += (uint32_t) rec->value[i].iov_len;
    }

    return KV_OK;
}


/* As kv_decide() does it for a client's. */

static kv_rc_t
kv_follow_touch(kv_zone_t *zone, kv_op_t *op)
{
    kv_rc_t      rc;
    uint64_t     hash;
    kv_entry_t  *old;

    hash = kv_map_hash(&zone->map, op->entry->key, op->entry->key_len);
    old = kv_map_find(&zone->map, hash, op->entry->key, op->entry->key_len);

    if (old == NULL) {
        return KV_DAMAGED;
    }

    if (kv_entry_expires(op->entry) == 0 || kv_entry_expiry(old)) {
        return KV_OK;
    }

    rc = kv_entry_take_value(zone->heap, &op->entry, old);

    if (rc == KV_OK) {
        op->flags |= KV_OP_COPIED;

    } else if (rc == KV_NO_MEMORY
               && kv_entry_destroy(zone->heap, &op->entry) != KV_OK)
    {
        rc = KV_DEAD;
    }

    return rc;
}


/* KV_OK, KV_AGAIN, KV_DEAD; after a moment. */

static kv_rc_t
kv_follow_clearable(kv_zone_t *zone)
{
    kv_rc_t  rc;

    kv_phase_changing(zone);

    rc = kv_sweep_clearable(zone);

    if (rc != KV_OK && rc != KV_DEAD) {
        rc = kv_sweep_now(zone) ? kv_sweep_clearable(zone) : KV_DEAD;
    }

    if (rc == KV_OK || rc == KV_DEAD) {
        return rc;
    }

    kv_phase_idle(zone);

    return KV_AGAIN;
}


/* Applies what waits. */

static kv_rc_t
kv_follow_flush(kv_follow_t *f)
{
    bool        ok;
    int         reserved;
    kv_zone_t  *zone;

    zone = f->store->zone;
    ok = true;

    if (f->expired) {
        kv_phase_changing(zone);
        reserved = kv_epoch_reserve(&zone->retired, f->expired);

        if (reserved != (int) f->expired) {
            return reserved < 0 ? KV_DEAD : KV_NO_MEMORY;
        }

        ok = kv_expire_apply(f->store, f->store->batch, f->expired, f->lsn - 1);
        f->expired = 0;

    } else if (f->n) {

        if (!kv_follow_reserve(f)) {
            return KV_NO_MEMORY;
        }

        ok = kv_batch_apply(f->store, f->list, f->n);
        f->n = 0;
    }

    return ok ? KV_OK : KV_DEAD;
}


static bool
kv_follow_reserve(kv_follow_t *f)
{
    unsigned    i, puts;
    kv_zone_t  *zone;

    zone = f->store->zone;

    for (i = 0, puts = 0; i < f->n; i++) {
        puts += kv_op_puts(&f->op[i]);
    }

    kv_phase_changing(zone);

    if (kv_sweep_reserve(zone, puts) != (int) puts
        || kv_epoch_reserve(&zone->retired, f->n) != (int) f->n)
    {
        return false;
    }

    kv_listed_reserve_begin(zone);

    for (i = 0; i < f->n; i++) {
        if (kv_op_puts(&f->op[i]) && !kv_listed_reserve(zone, &f->op[i])) {
            return false;
        }
    }

    return true;
}


/* The phase stays set: what was made for it is in no map. */

static void
kv_follow_failed(kv_follow_t *f, kv_rc_t rc, kv_err_t *err)
{
    f->n = 0;
    f->expired = 0;

    switch (rc) {

    case KV_NO_MEMORY:
        errno = ENOMEM;
        kv_err_set(err, "the zone is full, and lacks memory for what the "
                   "leader's has stored: give all nodes zones of the same "
                   "size");
        break;

    case KV_DAMAGED:
        errno = EPROTO;
        kv_err_set(err, "what the leader has sent does not fit to what is "
                   "stored");
        break;

    default:
        errno = EPROTO;
        kv_err_set(err, "the heap broke while records were applied");
        break;
    }
}
