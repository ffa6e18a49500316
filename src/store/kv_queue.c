
/*
 * The queue of operations; see kv_queue.h.
 */


#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/kv_queue.h"
#include "base/kv_failpoint.h"


void
kv_queue_push(kv_zone_t *zone, kv_op_t *op)
{
    kv_op_t  *head;

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
 * The committer says that it waits and then looks at the time; here it is the
 * other way round: so one of the two sees the other.
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
        (void) atomic_fetch_add(&zone->hurried, 1);
        (void) syscall(SYS_futex, &zone->hurried, FUTEX_WAKE, 1, NULL, NULL,
                       0);
    }
}


kv_op_t *
kv_queue_take(kv_zone_t *zone)
{
    kv_op_t  *head, *oldest;

    /* before the swap, so that what is pushed later is not forgotten */

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
    kv_op_t  *op, *follow;

    follow = NULL;

    for (op = head; op; op = op->next) {
        op->follow = follow;
        follow = op;
        atomic_store_explicit(&op->state, KV_OP_TAKEN, memory_order_release);
    }

    *oldest = follow;

    atomic_store(&zone->taken, NULL);
}
