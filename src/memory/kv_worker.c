
/*
 * Workers and their epochs; the argument is in kv_worker.h.
 */


#include <assert.h>
#include <unistd.h>

#include "base/kv_failpoint.h"
#include "memory/kv_worker.h"


static void kv_op_chunk_init(kv_op_chunk_t *chunk, unsigned worker);
static void kv_worker_forget_waiters(kv_worker_t *worker);


kv_rc_t
kv_workers_create(kv_worker_t *workers, unsigned n)
{
    unsigned  i;

    memset(workers, 0, n * sizeof(kv_worker_t));

    for (i = 0; i < n; i++) {
        if (kv_mutex_create(&workers[i].alive) != KV_OK) {
            return KV_ERROR;
        }

        kv_op_chunk_init(&workers[i].first, i);
    }

    return KV_OK;
}


static void
kv_op_chunk_init(kv_op_chunk_t *chunk, unsigned worker)
{
    unsigned  i;

    memset((void *) chunk, 0, sizeof(kv_op_chunk_t));

    for (i = 0; i < KV_OP_CHUNK; i++) {
        chunk->op[i].worker = (uint16_t) worker;
    }
}


/*
 * Nobody waits for a key, or watches some, and nothing is left of what waiters
 * were told.
 */

static void
kv_worker_forget_waiters(kv_worker_t *worker)
{
    atomic_store(&worker->waiters, 0);
    atomic_store(&worker->watchers, 0);
    atomic_store(&worker->watched, 0);

    if (worker->awaited) {
        memset((void *) worker->awaited, 0, worker->awaited_bits / 8);
    }

    atomic_store(&worker->changed_any, 0);
    atomic_store(&worker->changes_read,
                 atomic_load(&worker->changes_written));
}


kv_rc_t
kv_worker_acquire(kv_worker_t *workers, unsigned n, unsigned *i)
{
    unsigned      k, dead;
    kv_rc_t       rc;
    kv_worker_t  *worker;

    /* a dead process's only if there is no other: see kv_worker.h */

    for (dead = 0; dead < 2; dead++) {

        for (k = 0; k < n; k++) {
            worker = &workers[k];

            rc = kv_mutex_trylock(&worker->alive);

            if (rc != KV_OK && rc != KV_DEAD) {
                continue;
            }

            if (atomic_load(&worker->in_use) != dead) {
                kv_mutex_unlock(&worker->alive);
                continue;
            }

            kv_failpoint(KV_FAILPOINT_WORKER_TAKEN);

            atomic_store(&worker->epoch[KV_EPOCH_MAIN].value, 0);
            atomic_store(&worker->epoch[KV_EPOCH_SCAN].value, 0);
            atomic_store(&worker->polling, 0);
            atomic_store(&worker->wake, 0);
            atomic_store(&worker->evict, 0);
            atomic_store(&worker->hungry[0], 0);
            atomic_store(&worker->scanned, 0);
            kv_worker_forget_waiters(worker);
            atomic_store(&worker->pid, (int32_t) getpid());
            atomic_store(&worker->in_use, 1);

            *i = k;

            return KV_OK;
        }
    }

    return KV_BUSY;
}


void
kv_worker_abandon(kv_worker_t *worker)
{
    atomic_store(&worker->epoch[KV_EPOCH_MAIN].value, 0);
    atomic_store(&worker->epoch[KV_EPOCH_SCAN].value, 0);
    atomic_store(&worker->hungry[0], 0);
    atomic_store(&worker->waiters, 0);

    kv_mutex_unlock(&worker->alive);
}


bool
kv_worker_lock_dead(kv_worker_t *worker)
{
    kv_rc_t  rc;

    if (!atomic_load(&worker->in_use)) {
        return false;
    }

    rc = kv_mutex_trylock(&worker->alive);

    if (rc != KV_OK && rc != KV_DEAD) {
        return false;
    }

    if (atomic_load(&worker->in_use)) {

        kv_failpoint(KV_FAILPOINT_DEAD_LOCKED);

        /*
         * It reads no more.  Clear its epochs here: while the caller holds the
         * mutex, kv_epoch_oldest() would take them for a living reader's.
         */

        atomic_store(&worker->epoch[KV_EPOCH_MAIN].value, 0);
        atomic_store(&worker->epoch[KV_EPOCH_SCAN].value, 0);

        return true;
    }

    kv_mutex_unlock(&worker->alive);

    return false;
}


void
kv_worker_unlock(kv_worker_t *worker)
{
    kv_mutex_unlock(&worker->alive);
}


void
kv_worker_reaped(kv_worker_t *worker)
{
    assert(worker->first.next == NULL);

    atomic_store(&worker->epoch[KV_EPOCH_MAIN].value, 0);
    atomic_store(&worker->epoch[KV_EPOCH_SCAN].value, 0);
    atomic_store(&worker->wake, 0);
    atomic_store(&worker->hungry[0], 0);
    atomic_store(&worker->waiters, 0);
    atomic_store(&worker->pid, 0);
    atomic_store(&worker->in_use, 0);

    kv_mutex_unlock(&worker->alive);
}


uint64_t
kv_epoch_oldest(kv_worker_t *workers, unsigned n)
{
    bool      dead;
    uint64_t  oldest, value;
    unsigned  i, which;

    kv_fence();

    oldest = UINT64_MAX;

    for (i = 0; i < n; i++) {

        for (which = 0; which < KV_EPOCHS; which++) {
            value = atomic_load_explicit(&workers[i].epoch[which].value,
                                         memory_order_acquire);

            if (value == 0 || value >= oldest) {
                continue;
            }

            dead = kv_worker_lock_dead(&workers[i]);

            if (dead) {
                kv_worker_unlock(&workers[i]);
                break;
            }

            oldest = value;
        }
    }

    return oldest;
}


void
kv_worker_forget_ops(kv_worker_t *worker)
{
    unsigned  i;

    worker->first.next = NULL;

    for (i = 0; i < KV_OP_CHUNK; i++) {
        atomic_store(&worker->first.op[i].state, KV_OP_FREE);
    }
}


kv_op_t *
kv_worker_first_ops(kv_worker_t *worker, unsigned *n)
{
    kv_op_t   *op, *free;
    unsigned   i;

    free = NULL;
    *n = 0;

    for (i = KV_OP_CHUNK; i; i--) {
        op = &worker->first.op[i - 1];

        if (atomic_load(&op->state) == KV_OP_FREE) {
            op->next = free;
            free = op;
            (*n)++;
        }
    }

    return free;
}


kv_rc_t
kv_worker_add_chunk(kv_heap_t *heap, kv_worker_t *worker, unsigned number,
    uint32_t leave, kv_op_chunk_t **chunk)
{
    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    *chunk = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, sizeof(kv_op_chunk_t),
                                 leave);

    if (*chunk == NULL) {
        kv_heap_unlock(heap);
        return KV_NO_MEMORY;
    }

    kv_op_chunk_init(*chunk, number);

    (*chunk)->next = worker->first.next;
    worker->first.next = *chunk;

    kv_heap_unlock(heap);

    return KV_OK;
}
