
/*
 * Groups of operations; see kv_group.h.
 */


#include "store/kv_clock.h"
#include "store/kv_group.h"
#include "base/kv_failpoint.h"


#define KV_GROUP_CELLS_MIN  16u


_Static_assert(KV_GROUP_MAX == KV_BATCH_MAX, "a group fits into a batch");
_Static_assert(KV_BEFORE_CELLS == 2 * KV_BATCH_MAX, "half of them stay free");


static size_t kv_group_record_size(const kv_op_t *op);
static void kv_group_found(kv_zone_t *zone, kv_op_t *op, unsigned n);
static void kv_group_note_before(kv_zone_t *zone, kv_op_t **op, unsigned n);
static void kv_group_note_one(kv_zone_t *zone, uint64_t hash, kv_entry_t *e);


kv_rc_t
kv_store_group_add(kv_store_t *store, kv_group_t *group, kv_op_t *op)
{
    size_t    size;
    kv_op_t  *member;

    assert(group->op->code == KV_OP_GROUP);
    assert(kv_op_puts(op) || op->code == KV_OP_DELETE
           || op->code == KV_OP_TOUCH);
    assert(!(op->flags & (KV_OP_MEMBER|KV_OP_RETURN)));
    assert(!(op->entry->flags & KV_ENTRY_PARTIAL));

    size = kv_group_record_size(op);

    if (group->n == KV_GROUP_MAX
        || group->bytes + size > kv_store_batch_space(store->zone))
    {
        return KV_DECLINED;
    }

    op->next = NULL;
    op->flags |= KV_OP_MEMBER;

    if (group->n == 0) {
        group->op->members = op;

    } else {
        group->last->next = op;
    }

    group->last = op;
    group->bytes += size;
    group->n++;

    if (op->code != KV_OP_DELETE && !(group->op->flags & KV_OP_MIXED)) {
        group->op->flags |= KV_OP_MIXED;

        for (member = group->op->members; member; member = member->next) {
            member->flags |= KV_OP_MIXED;
        }
    }

    op->flags |= group->op->flags & KV_OP_MIXED;

    return KV_OK;
}


size_t
kv_store_group_space(kv_store_t *store)
{
    return kv_store_batch_space(store->zone);
}


kv_op_t *
kv_store_group_failed(kv_op_t *group)
{
    kv_op_t  *op;

    for (op = group->members; op; op = op->next) {

        if (op->result != KV_OK) {
            return op->result == group->result ? op : NULL;
        }
    }

    return NULL;
}


kv_version_t
kv_store_group_version(kv_store_t *store, const kv_group_t *group)
{
    kv_version_t  version;

    version.lsn = group->last->lsn;
    version.incarnation = atomic_load(&store->zone->wal.incarnation);

    return version;
}


/* The most that its record takes in the log. */

static size_t
kv_group_record_size(const kv_op_t *op)
{
    kv_record_t  rec;

    memset(&rec, 0, sizeof(kv_record_t));

    rec.key_len = op->entry->key_len;
    rec.value_len = kv_op_puts(op) ? op->entry->value_len : 0;

    if (op->code == KV_OP_TOUCH || op->code == KV_OP_INCR
        || kv_entry_expires(op->entry))
    {
        rec.flags = KV_RECORD_EXPIRES;
    }

    if (kv_op_puts(op) && op->entry->has_meta) {
        rec.flags |= KV_RECORD_META;
        (void) kv_entry_meta(op->entry, &rec.meta_len);
    }

    return kv_record_size(&rec);
}


kv_rc_t
kv_group_decide(kv_store_t *store, kv_batch_t *batch, kv_op_t *group)
{
    size_t     bytes;
    kv_op_t   *op;
    unsigned   n;

    for (op = group->members; op; op = op->next) {
        op->result = KV_OK;
    }

    n = batch->n;
    bytes = 0;

    for (op = group->members; op; op = op->next) {

        assert(batch->n < KV_BATCH_MAX);

        op->result = kv_decide(store->zone, &batch->decide, batch->op,
                               batch->n, op);

        if (op->result != KV_OK) {
            kv_group_back_out(batch, n);
            kv_group_found(store->zone, op, n);
            return (kv_rc_t) op->result;
        }

        batch->op[batch->n++] = op;
        bytes += kv_group_record_size(op);
    }

    if (bytes > kv_wal_space(store->wal)) {
        kv_group_back_out(batch, n);
        return KV_AGAIN;
    }

    return KV_OK;
}


/*
 * What was there for the member that refuses its group, where that was the
 * group's own doing: nothing that anyone else can have seen, and its LSN will
 * be another write's.
 */

static void
kv_group_found(kv_zone_t *zone, kv_op_t *op, unsigned n)
{
    switch (op->result) {

    case KV_PRECONDITION:
    case KV_NOT_INTEGER:
    case KV_OVERFLOW:

        if (op->found >= atomic_load(&zone->wal.next_lsn) + n) {
            op->found = 0;
        }

        break;

    default:
        break;
    }
}


/* What was decided behind them is forgotten, and taken in again on demand. */

void
kv_group_back_out(kv_batch_t *batch, unsigned n)
{
    batch->n = n;

    if (batch->decide.n > n) {
        kv_decide_begin(&batch->decide, batch->decide.now);
    }
}


void
kv_group_begin(kv_zone_t *zone, kv_op_t **op, unsigned n)
{
    bool      all;
    unsigned  i;

    all = false;

    for (i = 0; i < n && (op[i]->flags & KV_OP_MEMBER); i++) {
        all = all || op[i]->code == KV_OP_TOUCH;
    }

    kv_epoch_pause(&zone->retired);

    kv_group_note_before(zone, op, i);
    kv_group_hide(zone, op[0]->lsn, all);

    kv_failpoint(KV_FAILPOINT_GROUP_HIDDEN);
}


void
kv_group_end(kv_zone_t *zone)
{
    kv_group_show(zone);

    kv_epoch_resume(&zone->retired);

    kv_failpoint(KV_FAILPOINT_GROUP_SHOWN);
}


/* Fills zone->before, in which there are cells for all and as many free. */

static void
kv_group_note_before(kv_zone_t *zone, kv_op_t **op, unsigned n)
{
    uint32_t     cells;
    uint64_t     hash, expires;
    unsigned     i;
    kv_entry_t  *e, *key;

    for (cells = KV_GROUP_CELLS_MIN; cells < 2 * n; cells *= 2) {
        /* void */
    }

    /* readers of these cells must see that the group before is visible */

    kv_fence();

    kv_set_relaxed(zone->before_cells, cells);

    for (i = 0; i < cells; i++) {
        kv_set_relaxed(zone->before[i].e, NULL);
    }

    for (i = 0; i < n; i++) {
        key = kv_op_entry(op[i]);
        hash = kv_map_hash(&zone->map, key->key, key->key_len);
        e = kv_clock_find(zone, hash, key->key, key->key_len, &expires);

        if (e) {
            kv_group_note_one(zone, hash, e);
        }
    }
}


static void
kv_group_note_one(kv_zone_t *zone, uint64_t hash, kv_entry_t *e)
{
    uint64_t      i, mask;
    kv_before_t  *cell;

    mask = kv_get_relaxed(zone->before_cells) - 1;

    for (i = hash; /* void */ ; i++) {
        cell = &zone->before[i & mask];

        if (kv_get_relaxed(cell->e) == NULL) {
            kv_set_relaxed(cell->hash, hash);
            kv_set_relaxed(cell->e, e);
            return;
        }
    }
}


bool
kv_group_before(kv_zone_t *zone, uint64_t groups, uint64_t hash,
    const void *key, size_t n, kv_entry_t **e)
{
    uint32_t      i, cells;
    kv_before_t  *cell;

    cells = kv_get_relaxed(zone->before_cells);

    for (i = 0; i < cells; i++) {
        cell = &zone->before[(hash + i) & (cells - 1)];
        *e = kv_get_relaxed(cell->e);

        if (*e == NULL) {
            break;
        }

        if (kv_get_relaxed(cell->hash) != hash) {
            continue;
        }

        if (!kv_group_still(zone, groups)) {
            return false;
        }

        if ((*e)->key_len == n && memcmp((*e)->key, key, n) == 0) {
            return true;
        }
    }

    *e = NULL;

    return kv_group_still(zone, groups);
}


void
kv_group_done(kv_op_t *group)
{
    kv_group_set_state(group, KV_OP_DONE);

    kv_failpoint(KV_FAILPOINT_GROUP_DONE);
}


void
kv_group_again(kv_op_t *group)
{
    kv_op_t  *op;

    for (op = group->members; op; op = op->next) {
        __atomic_store_n(&op->lsn, 0, __ATOMIC_RELEASE);
    }
}
