
/*
 * Taking over from a committer that died.
 *
 * The worker that gets the commit lock next learns that its owner died, and
 * examines three things.
 *
 *   - The phase.  If the map or the retire list was being changed, or the
 *     heap's lock was held, the zone is rebuilt from disk.  Else they are
 *     whole.
 *   - zone->taken.  A committer takes the queue by naming its head there and
 *     then swapping it out.  If a head is named, it was swapped out exactly if
 *     it cannot be reached from the queue any more.
 *   - The records themselves: what is TAKEN is the dead committer's taken
 *     list.  One whose LSN is below the log's next LSN is in the log: it is
 *     synced and, if its LSN is above that of what was applied last, applied.
 *     The others go through the usual way again; the log state did not move,
 *     so they write over what the dead committer had begun.  The members of a
 *     group are what it is.  If the log has more than was applied even then,
 *     the dead committer was deleting keys that have expired (kv_expire.h).
 *
 * What is written over may be a whole batch.  After a power cut it must not be
 * there in place of the one that clients have seen, with the same LSN: so the
 * next batch is synced before it is seen, whatever its writers asked for.
 *
 * Nothing that is TAKEN was reported, and what was reported is not TAKEN: an
 * operation becomes DONE by one store.
 */


#include <stdlib.h>

#include "store/kv_takeover.h"
#include "store/kv_expire.h"
#include "store/kv_group.h"
#include "store/kv_listed.h"
#include "store/kv_queue.h"
#include "store/kv_watch.h"
#include "base/kv_failpoint.h"


static void kv_takeover_batch_end(kv_zone_t *zone);
static void kv_takeover_queue(kv_zone_t *zone);
static unsigned kv_takeover_logged(kv_zone_t *zone, kv_op_t **taken,
    unsigned n);
static void kv_takeover_remaining(kv_store_t *store, kv_batch_t *batch,
    kv_op_t **taken, unsigned n);
static bool kv_takeover_finish(kv_store_t *store, kv_batch_t *batch,
    kv_op_t **taken, unsigned n);
static kv_op_t **kv_takeover_members(kv_op_t *const *taken, unsigned n,
    unsigned *members);
static kv_rc_t kv_takeover_sync(kv_store_t *store, kv_op_t **op, unsigned n);
static bool kv_takeover_apply(kv_store_t *store, kv_op_t **op, unsigned n);
static bool kv_takeover_reserve_list(kv_zone_t *zone, kv_op_t *const *op,
    unsigned n);
static kv_op_t **kv_takeover_find(kv_zone_t *zone, unsigned *n);
static uint64_t kv_takeover_lsn(kv_op_t *op);
static int kv_takeover_by_lsn(const void *one, const void *two);


bool
kv_takeover(kv_store_t *store, kv_batch_t *batch)
{
    bool        ok;
    kv_op_t   **taken;
    unsigned    n, logged;
    kv_zone_t  *zone;

    zone = store->zone;

    kv_takeover_batch_end(zone);

    if (atomic_load(&zone->phase) != KV_PHASE_IDLE || !kv_state_whole(zone)) {
        return false;
    }

    /* makes the log finish a move that the dead committer began */

    kv_wal_begin(store->wal);

    kv_takeover_queue(zone);

    taken = kv_takeover_find(zone, &n);

    if (taken == NULL) {
        return false;
    }

    kv_failpoint(KV_FAILPOINT_TAKEOVER);

    qsort(taken, n, sizeof(kv_op_t *), kv_takeover_by_lsn);

    kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": the committer died; "
                 "%u operations go on", store->conf.name, n);

    logged = kv_takeover_logged(zone, taken, n);

    ok = kv_takeover_finish(store, batch, taken, logged)
         && kv_expire_take_over(store, batch);

    if (ok && n > logged) {
        kv_takeover_remaining(store, batch, taken + logged, n - logged);
    }

    kv_batch_wake(store, batch);

    /* the dead committer may have reported operations and woken no worker */

    kv_store_wake_all(store);

    free(taken);

    return ok;
}


bool
kv_takeover_refuse(kv_store_t *store, kv_batch_t *batch)
{
    kv_op_t    **taken;
    unsigned     n;
    kv_zone_t   *zone;

    zone = store->zone;

    kv_takeover_batch_end(zone);

    if (atomic_load(&zone->phase) != KV_PHASE_IDLE || !kv_state_whole(zone)) {
        return false;
    }

    kv_takeover_queue(zone);

    taken = kv_takeover_find(zone, &n);

    if (taken == NULL) {
        return false;
    }

    kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": the host died; %u "
                 "operations may be done or not", store->conf.name, n);

    kv_batch_report(store, batch, taken, n, KV_UNAVAILABLE);
    kv_batch_wake(store, batch);
    kv_store_wake_all(store);

    free(taken);

    return true;
}


/* Notes in the zone what the dead committer may have done without noting it. */

static void
kv_takeover_batch_end(kv_zone_t *zone)
{
    atomic_store(&zone->sync_next, 1);
    atomic_store(&zone->reap, 1);
    atomic_store(&zone->waits, 0);
    kv_await_tell_all(zone);
    kv_watch_tell_all(zone);

    if (atomic_load(&zone->unsynced) == 0) {
        atomic_store(&zone->unsynced_ns, kv_now_ns());
    }

    atomic_store(&zone->unsynced, 1);
}


/* Marks the list that the dead committer named, if it had swapped it out. */

static void
kv_takeover_queue(kv_zone_t *zone)
{
    kv_op_t  *op, *head, *oldest;

    head = atomic_load(&zone->taken);

    if (head == NULL) {
        return;
    }

    for (op = atomic_load(&zone->queue); op && op != head; op = op->next) {
        /* void */
    }

    if (op == NULL) {
        kv_queue_mark_taken(zone, head, &oldest);
    }

    atomic_store(&zone->taken, NULL);
}


/* How many of these operations and groups, sorted by LSN, are in the log. */

static unsigned
kv_takeover_logged(kv_zone_t *zone, kv_op_t **taken, unsigned n)
{
    uint64_t  lsn;
    unsigned  logged;

    for (logged = 0; logged < n; logged++) {
        lsn = kv_takeover_lsn(taken[logged]);

        if (lsn == 0 || lsn >= atomic_load(&zone->wal.next_lsn)) {
            break;
        }
    }

    return logged;
}


/*
 * Commits what is not in the log.  The last is marked first: if this committer
 * dies, too, the next one finds them in order.
 */

static void
kv_takeover_remaining(kv_store_t *store, kv_batch_t *batch, kv_op_t **taken,
    unsigned n)
{
    unsigned  i;

    for (i = n; i; i--) {

        if (taken[i - 1]->code == KV_OP_GROUP) {
            kv_group_again(taken[i - 1]);

        } else {
            __atomic_store_n(&taken[i - 1]->lsn, 0, __ATOMIC_RELEASE);
        }

        taken[i - 1]->follow = i < n ? taken[i] : NULL;
    }

    kv_batch_run_all(store, batch, taken[0]);
}


/*
 * Finishes operations in the log, in order of their LSNs: those that the dead
 * committer has applied are only reported.
 */

static bool
kv_takeover_finish(kv_store_t *store, kv_batch_t *batch, kv_op_t **taken,
    unsigned n)
{
    bool         ok;
    kv_rc_t      rc;
    kv_op_t    **op;
    unsigned     i, k, members;
    uint64_t     applied;

    applied = atomic_load(&store->zone->applied_lsn);

    for (k = 0; k < n && kv_takeover_lsn(taken[k]) <= applied; k++) {
        /* void */
    }

    kv_batch_report(store, batch, taken, k, KV_OK);

    if (k == n) {
        return true;
    }

    op = kv_takeover_members(taken + k, n - k, &members);

    if (op == NULL) {
        return false;
    }

    rc = kv_takeover_sync(store, op, members);
    ok = rc == KV_OK || !kv_state_writes(store->zone);

    for (i = 0; ok && rc == KV_OK && i < members; i += KV_BATCH_MAX) {
        ok = kv_takeover_apply(store, op + i,
                               kv_min(members - i, KV_BATCH_MAX));
    }

    if (ok) {
        kv_batch_report(store, batch, taken + k, n - k, rc);
    }

    free(op);

    return ok;
}


/* All operations, those of groups in the groups' place; NULL: no memory. */

static kv_op_t **
kv_takeover_members(kv_op_t *const *taken, unsigned n, unsigned *members)
{
    kv_op_t   *one, **op;
    unsigned   i;

    for (i = 0, *members = 0; i < n; i++) {
        *members += kv_group_count(taken[i]);
    }

    op = malloc(*members * sizeof(kv_op_t *));

    if (op == NULL) {
        return NULL;
    }

    for (i = 0, *members = 0; i < n; i++) {
        for (one = kv_group_first(taken[i]); one; one = kv_group_next(one)) {
            op[(*members)++] = one;
        }
    }

    return op;
}


/*
 * They are in the log, so they must not be left out of the map because of an
 * error that may pass: if this fails, and writes are still tried, they are
 * neither done nor refused.
 */

static kv_rc_t
kv_takeover_sync(kv_store_t *store, kv_op_t **op, unsigned n)
{
    if (!kv_batch_must_sync(store->zone, op, n)) {
        return KV_OK;
    }

    return kv_state_writes(store->zone) ? kv_batch_sync(store)
                                        : KV_UNAVAILABLE;
}


static bool
kv_takeover_apply(kv_store_t *store, kv_op_t **op, unsigned n)
{
    kv_zone_t  *zone;

    zone = store->zone;

    kv_phase_changing(zone);

    return kv_map_reserve(&zone->map, n) == (int) n
           && kv_epoch_reserve(&zone->retired, n) == (int) n
           && kv_takeover_reserve_list(zone, op, n)
           && kv_batch_apply(store, op, n);
}


static bool
kv_takeover_reserve_list(kv_zone_t *zone, kv_op_t *const *op, unsigned n)
{
    unsigned  i;

    kv_listed_reserve_begin(zone);

    for (i = 0; i < n; i++) {
        if (!kv_listed_reserve(zone, op[i])) {
            return false;
        }
    }

    return true;
}


static kv_op_t **
kv_takeover_find(kv_zone_t *zone, unsigned *n)
{
    kv_op_t        *op, **taken, **more;
    unsigned        i, k, max;
    kv_op_chunk_t  *chunk;

    *n = 0;
    max = KV_BATCH_MAX;
    taken = malloc(max * sizeof(kv_op_t *));

    if (taken == NULL || kv_heap_lock_read(zone->heap) != KV_OK) {
        free(taken);
        return NULL;
    }

    for (i = 0; i < zone->nworkers; i++) {

        for (chunk = &zone->workers[i].first; chunk; chunk = chunk->next) {

            for (k = 0; k < KV_OP_CHUNK; k++) {
                op = &chunk->op[k];

                if (atomic_load_explicit(&op->state, memory_order_acquire)
                    != KV_OP_TAKEN
                    || (op->flags & KV_OP_MEMBER))
                {
                    continue;
                }

                if (*n == max) {
                    max *= 2;
                    more = realloc(taken, max * sizeof(kv_op_t *));

                    if (more == NULL) {
                        kv_heap_unlock(zone->heap);
                        free(taken);
                        return NULL;
                    }

                    taken = more;
                }

                if (op->code == KV_OP_GROUP) {

                    /* the dead committer may have done some, not the group */

                    kv_group_set_state(op, KV_OP_TAKEN);
                }

                taken[(*n)++] = op;
            }
        }
    }

    kv_heap_unlock(zone->heap);

    return taken;
}


/* Of a group, that of its first member. */

static uint64_t
kv_takeover_lsn(kv_op_t *op)
{
    return kv_group_first(op)->lsn;
}


/* Operations with an LSN first, by LSN; then the others, by time. */

static int
kv_takeover_by_lsn(const void *one, const void *two)
{
    kv_op_t   *x, *y;
    uint64_t   a, b;

    x = *(kv_op_t *const *) one;
    y = *(kv_op_t *const *) two;

    a = kv_takeover_lsn(x);
    b = kv_takeover_lsn(y);

    a = a ? a : UINT64_MAX;
    b = b ? b : UINT64_MAX;

    if (a == b) {
        a = x->queued_ns;
        b = y->queued_ns;
    }

    return a < b ? -1 : a > b;
}
