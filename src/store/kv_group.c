
/*
 * Groups of operations; see kv_group.h.
 */


#include "store/kv_group.h"
#include "base/kv_failpoint.h"


_Static_assert(KV_GROUP_MAX == KV_BATCH_MAX, "a group fits into a batch");


static size_t kv_group_record_size(const kv_op_t *op);
static void kv_group_found(kv_zone_t *zone, kv_op_t *op, unsigned n);


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
