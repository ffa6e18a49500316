
/*
 * The queue of operations; see kv_queue.h.
 */


#include <assert.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/kv_group.h"
#include "store/kv_queue.h"
#include "base/kv_failpoint.h"


static void kv_queue_check(const kv_zone_t *zone, const kv_op_t *op);


void
kv_queue_push(kv_zone_t *zone, kv_op_t *op)
{
    kv_op_t  *head;

    assert(kv_get_relaxed(op->state) == KV_OP_BUILDING);
    kv_queue_check(zone, op);

    atomic_store_explicit(&op->state, KV_OP_QUEUED, memory_order_release);

    kv_failpoint(KV_FAILPOINT_QUEUED);

    head = kv_get_relaxed(zone->queue);

    do {
        op->next = head;

    } while (!atomic_compare_exchange_weak(&zone->queue, &head, op));

    kv_failpoint(KV_FAILPOINT_PUSHED);

    (void) atomic_fetch_add(&zone->queued, 1);
}


/*
 * The committer sets `waits` and then reads the time; here it is the other way
 * round: so one of the two sees the other.
 */

void
kv_queue_start_by(kv_zone_t *zone, uint64_t ns)
{
    uint64_t  start;

    start = atomic_load(&zone->start_ns);

    do {
        if (ns >= start) {
            return;
        }

    } while (!atomic_compare_exchange_weak(&zone->start_ns, &start, ns));

    if (atomic_load(&zone->waits)) {
        (void) atomic_fetch_add(&zone->start_futex, 1);
        (void) syscall(SYS_futex, &zone->start_futex, FUTEX_WAKE, 1, NULL, NULL,
                       0);
    }
}


kv_op_t *
kv_queue_take(kv_zone_t *zone)
{
    kv_op_t  *head, *oldest;

    /* before the swap, so that later pushes are counted */

    atomic_store(&zone->queued, 0);
    atomic_store(&zone->start_ns, UINT64_MAX);

    head = atomic_load(&zone->queue);

    do {
        atomic_store(&zone->taken, head);

        kv_failpoint(KV_FAILPOINT_NAMED);

    } while (!atomic_compare_exchange_weak(&zone->queue, &head, NULL));

    kv_failpoint(KV_FAILPOINT_SWAPPED);

    kv_queue_mark_taken(zone, head, &oldest);

    return oldest;
}


void
kv_queue_mark_taken(kv_zone_t *zone, kv_op_t *head, kv_op_t **oldest)
{
    kv_op_t   *op, *follow;
    uint32_t   state;

    follow = NULL;

    for (op = head; op; op = op->next) {

        /* a committer that died may have marked some */

        state = kv_get_relaxed(op->state);
        assert(state == KV_OP_QUEUED || state == KV_OP_TAKEN);
        kv_queue_check(zone, op);

        if (op->code == KV_OP_GROUP) {
            kv_group_set_state(op, KV_OP_TAKEN);
        }

        op->follow = follow;
        follow = op;
        atomic_store_explicit(&op->state, KV_OP_TAKEN, memory_order_release);
    }

    *oldest = follow;

    atomic_store(&zone->taken, NULL);
}


/* What holds for each operation, pushed or taken. */

static void
kv_queue_check(const kv_zone_t *zone, const kv_op_t *op)
{
    assert(op->worker < zone->nworkers);

    switch (op->code) {

    case KV_OP_PUT:
    case KV_OP_INCR:
    case KV_OP_DELETE:
    case KV_OP_TOUCH:
        assert(op->entry != NULL);
        break;

    case KV_OP_GROUP:
        assert(op->members != NULL && op->entry == NULL);
        break;

    default:
        assert(op->code == KV_OP_CLEAR || op->code == KV_OP_RESERVE);
        assert(op->entry == NULL);
    }

    assert(!(op->flags & KV_OP_MEMBER));
}
