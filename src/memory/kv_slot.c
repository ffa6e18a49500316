
/*
 * Worker slots and epochs; the argument is in kv_slot.h.
 */


#include <assert.h>
#include <unistd.h>

#include "base/kv_points.h"
#include "memory/kv_slot.h"


kv_rc_t
kv_slots_create(kv_slot_t *slots, unsigned n)
{
    unsigned  i;

    memset(slots, 0, n * sizeof(kv_slot_t));

    for (i = 0; i < n; i++) {
        kv_stats_init(&slots[i].stats);

        if (kv_mutex_create(&slots[i].alive) != KV_OK) {
            return KV_ERROR;
        }
    }

    return KV_OK;
}


kv_rc_t
kv_slot_acquire(kv_slot_t *slots, unsigned n, unsigned *i)
{
    unsigned    k, dead;
    kv_rc_t     rc;
    kv_slot_t  *slot;

    /* dead ones' only if there are no others: see kv_slot.h */

    for (dead = 0; dead < 2; dead++) {

        for (k = 0; k < n; k++) {
            slot = &slots[k];

            rc = kv_mutex_trylock(&slot->alive);

            if (rc != KV_OK && rc != KV_DEAD) {
                continue;
            }

            if (atomic_load(&slot->in_use) != dead) {
                kv_mutex_unlock(&slot->alive);
                continue;
            }

            kv_point(KV_POINT_SLOT_TAKEN);

            atomic_store(&slot->epoch[KV_EPOCH_MAIN].value, 0);
            atomic_store(&slot->epoch[KV_EPOCH_SCAN].value, 0);
            atomic_store(&slot->looking, 0);
            atomic_store(&slot->wake, 0);
            atomic_store(&slot->evict, 0);
            atomic_store(&slot->scanned, 0);
            atomic_store(&slot->pid, (int32_t) getpid());
            atomic_store(&slot->in_use, 1);

            *i = k;

            return KV_OK;
        }
    }

    return KV_BUSY;
}


void
kv_slot_abandon(kv_slot_t *slot)
{
    atomic_store(&slot->epoch[KV_EPOCH_MAIN].value, 0);
    atomic_store(&slot->epoch[KV_EPOCH_SCAN].value, 0);

    kv_mutex_unlock(&slot->alive);
}


bool
kv_slot_lock_dead(kv_slot_t *slot)
{
    kv_rc_t  rc;

    if (!atomic_load(&slot->in_use)) {
        return false;
    }

    rc = kv_mutex_trylock(&slot->alive);

    if (rc != KV_OK && rc != KV_DEAD) {
        return false;
    }

    if (atomic_load(&slot->in_use)) {

        kv_point(KV_POINT_DEAD_LOCKED);

        /*
         * It reads no more.  Not left to kv_epoch_oldest(): while the caller
         * holds the slot, that would take it for a living one's.
         */

        atomic_store(&slot->epoch[KV_EPOCH_MAIN].value, 0);
        atomic_store(&slot->epoch[KV_EPOCH_SCAN].value, 0);

        return true;
    }

    kv_mutex_unlock(&slot->alive);

    return false;
}


void
kv_slot_unlock(kv_slot_t *slot)
{
    kv_mutex_unlock(&slot->alive);
}


void
kv_slot_reaped(kv_slot_t *slot)
{
    slot->chunks = NULL;
    atomic_store(&slot->epoch[KV_EPOCH_MAIN].value, 0);
    atomic_store(&slot->epoch[KV_EPOCH_SCAN].value, 0);
    atomic_store(&slot->wake, 0);
    atomic_store(&slot->pid, 0);
    atomic_store(&slot->in_use, 0);

    kv_mutex_unlock(&slot->alive);
}


uint64_t
kv_epoch_oldest(kv_slot_t *slots, unsigned n)
{
    bool      dead;
    uint64_t  oldest, value;
    unsigned  i, which;

    kv_fence();

    oldest = UINT64_MAX;

    for (i = 0; i < n; i++) {

        for (which = 0; which < KV_EPOCHS; which++) {
            value = atomic_load_explicit(&slots[i].epoch[which].value,
                                         memory_order_acquire);

            if (value == 0 || value >= oldest) {
                continue;
            }

            dead = kv_slot_lock_dead(&slots[i]);

            if (dead) {
                kv_slot_unlock(&slots[i]);
                break;
            }

            oldest = value;
        }
    }

    return oldest;
}


kv_rc_t
kv_slot_add_chunk(kv_heap_t *heap, kv_slot_t *slot, unsigned number,
    uint32_t leave, kv_op_chunk_t **chunk)
{
    unsigned  i;

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_DEAD;
    }

    *chunk = kv_heap_alloc_leave(heap, KV_HEAP_SYSTEM, sizeof(kv_op_chunk_t),
                                 leave);

    if (*chunk == NULL) {
        kv_heap_unlock(heap);
        return KV_NO_MEMORY;
    }

    memset(*chunk, 0, sizeof(kv_op_chunk_t));

    for (i = 0; i < KV_OP_CHUNK; i++) {
        (*chunk)->op[i].slot = (uint16_t) number;
    }

    (*chunk)->next = slot->chunks;
    slot->chunks = *chunk;

    kv_heap_unlock(heap);

    return KV_OK;
}
