
/*
 * Operations on a store: pins, writes, and what goes with them; see
 * kv_store.h.
 */


#include <assert.h>

#include "store/kv_clock.h"
#include "store/kv_committer.h"
#include "store/kv_counter.h"
#include "store/kv_evict.h"
#include "store/kv_fair.h"
#include "store/kv_group.h"
#include "store/kv_handle.h"
#include "store/kv_queue.h"
#include "base/kv_failpoint.h"


/*
 * Records of a worker that are left to single deletes; and those that writes
 * which take memory leave to all others.  The first chunk has them all.
 */
#define KV_STORE_KEPT      8u
#define KV_STORE_KEPT_ALL  (KV_OP_CHUNK / 2)

_Static_assert(KV_STORE_KEPT_ALL > KV_STORE_KEPT, "reads have records");

/* the share of the zone that records of readers may take */
#define KV_STORE_PINS_SHARE  8

/* between two messages that the zone is full; ns */
#define KV_STORE_REFUSED  60000000000ull


static bool kv_store_may_take(kv_store_t *store, const kv_op_t *op,
    uint32_t end);
static kv_rc_t kv_store_key_op(kv_store_t *store, uint8_t code,
    const void *key, uint16_t key_len, uint32_t leave, uint8_t flags,
    kv_op_t **op);
static bool kv_store_may_expire(kv_store_t *store, const void *key,
    uint16_t key_len);
static void kv_store_prepare(kv_store_t *store, kv_op_t *op, uint64_t now);
static void kv_store_set_expires(kv_store_t *store, kv_op_t *op);
static void kv_store_set_durability(kv_store_t *store, kv_op_t *op);
static uint64_t kv_store_start(kv_store_t *store, kv_op_t *op);
static kv_rc_t kv_store_op(kv_store_t *store, uint8_t code, uint32_t leave,
    kv_op_t **op);
static uint32_t kv_store_ticket(kv_store_t *store);
static unsigned kv_store_chunks_max(kv_zone_t *zone);
static unsigned kv_store_kept(kv_store_t *store, uint32_t leave);
static kv_rc_t kv_store_add_ops(kv_store_t *store, uint32_t leave);
static void kv_store_op_free(kv_store_t *store, kv_op_t *op);


kv_rc_t
kv_store_pin(kv_store_t *store, kv_entry_t *e, kv_op_t **op)
{
    kv_rc_t  rc;

    assert(e->flags & KV_ENTRY_PIECES);

    if (store->nfree <= KV_STORE_KEPT && kv_store_ready(store)
        && store->nchunks >= kv_store_chunks_max(store->zone))
    {
        return KV_NO_MEMORY;
    }

    rc = kv_store_op(store, 0, KV_HEAP_GROUPS, op);

    if (rc != KV_OK) {
        return rc;
    }

    /* BUILDING would mean that the record owns the entry: see kv_worker.h */

    atomic_store_explicit(&(*op)->state, KV_OP_PINNED, memory_order_release);
    kv_epoch_pin(e);

    kv_failpoint(KV_FAILPOINT_PINNING);

    kv_op_set_entry(*op, e);

    kv_failpoint(KV_FAILPOINT_PINNED);

    return KV_OK;
}


kv_rc_t
kv_store_put(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t value_len, uint32_t ttl, kv_op_t **op)
{
    const kv_name_t  name = { key, NULL, key_len, 0 };

    return kv_store_upload(store, &name, value_len,
                           value_len == KV_LENGTH_UNKNOWN ? 0 : value_len, ttl,
                           op);
}


kv_rc_t
kv_store_upload(kv_store_t *store, const kv_name_t *name, uint32_t value_len,
    uint32_t n, uint32_t ttl, kv_op_t **op)
{
    kv_rc_t  rc;

    assert(ttl <= KV_STORE_TTL_MAX);

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = kv_store_op(store, KV_OP_PUT, kv_heap_reserve(store->zone->heap), op);

    if (rc != KV_OK) {
        return rc;
    }

    (*op)->value_len = value_len;

    kv_store_set_began(*op, kv_get_relaxed((*op)->queued_ns));
    kv_set_relaxed((*op)->mark, 0);
    kv_set_relaxed((*op)->pace, UINT32_MAX);
    kv_set_relaxed((*op)->last, 0);

    rc = kv_entry_begin(store->zone->heap, &(*op)->entry, name, value_len, n,
                        ttl ? KV_ENTRY_EXPIRES : 0);

    kv_failpoint(KV_FAILPOINT_BUILDING);

    if (rc != KV_OK) {
        kv_store_op_free(store, *op);
        *op = NULL;

    } else if (ttl) {
        kv_entry_set_expires((*op)->entry, ttl * 1000ull);
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_write(kv_store_t *store, kv_op_t *op, uint32_t offset,
    const void *data, size_t n)
{
    bool        arrives;
    kv_rc_t     rc;
    uint32_t    end;
    uint64_t    now;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    end = offset + (uint32_t) n;
    arrives = op->entry->flags & KV_ENTRY_PARTIAL;

    /* no time counts for a value that has all its memory */

    now = arrives ? kv_evict_beat(store) : 0;

    if (arrives && !kv_store_may_take(store, op, end)) {
        return KV_NO_MEMORY;
    }

    rc = kv_entry_append(store->zone->heap, &op->entry, op->value_len,
                         store->conf.max_value, offset, data, n);

    kv_failpoint(KV_FAILPOINT_RECEIVING);

    if (rc == KV_OK && arrives) {
        kv_op_received(op, end, now);
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


/* Whether an upload may take memory up to the byte `end` of its value. */

static bool
kv_store_may_take(kv_store_t *store, const kv_op_t *op, uint32_t end)
{
    size_t  space;

    if (end <= KV_ENTRY_INLINE) {
        return true;
    }

    space = kv_entry_partial_space(op->entry);

    return end <= space
           || kv_fair_may_take(store, kv_get_relaxed(op->began),
                               (uint32_t) (end - space));
}


void
kv_store_beat(kv_store_t *store)
{
    (void) kv_evict_beat(store);
}


uint32_t
kv_store_pace(const kv_op_t *op)
{
    uint64_t  ms, pace;

    ms = kv_op_lasted(op, kv_now_ns()) / 1000000;
    pace = kv_get_relaxed(op->received) * 1000ull / kv_max(ms, 1u);

    return (uint32_t) kv_max(kv_min(pace, KV_VALUE_MAX), KV_PAGE_SIZE);
}


void
kv_store_hungry(kv_store_t *store, const kv_hungry_t *hungry, unsigned n)
{
    kv_fair_show(store, hungry, n);
}


kv_rc_t
kv_store_finish(kv_store_t *store, kv_op_t *op, uint32_t value_len)
{
    kv_rc_t  rc;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    if (!(op->entry->flags & KV_ENTRY_PARTIAL)) {
        return KV_OK;
    }

    rc = kv_entry_finish(store->zone->heap, &op->entry, value_len);

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_fits(kv_store_t *store, size_t name_len, uint32_t value_len)
{
    kv_rc_t  rc;

    if (!kv_store_ready(store) || !kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = value_len ? kv_entry_fits(store->zone->heap, name_len, value_len)
                   : KV_OK;

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_delete(kv_store_t *store, const void *key, uint16_t key_len,
    kv_op_t **op)
{
    return kv_store_key_op(store, KV_OP_DELETE, key, key_len, 0, 0, op);
}


kv_rc_t
kv_store_group_delete(kv_store_t *store, const kv_group_t *group,
    const void *key, uint16_t key_len, kv_op_t **op)
{
    return kv_store_key_op(store, KV_OP_DELETE, key, key_len,
                           group && (group->op->flags & KV_OP_MIXED)
                           ? KV_HEAP_GROUPS : KV_HEAP_LAST, 0, op);
}


kv_rc_t
kv_store_touch(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t ttl, kv_op_t **op)
{
    kv_rc_t  rc;

    assert(ttl <= KV_STORE_TTL_MAX);

    rc = kv_store_key_op(store, KV_OP_TOUCH, key, key_len, KV_HEAP_GROUPS,
                         KV_ENTRY_EXPIRES, op);

    if (rc == KV_OK) {
        kv_entry_set_expires((*op)->entry, ttl * 1000ull);
    }

    return rc;
}


/* A record, with an entry that names the key. */

static kv_rc_t
kv_store_key_op(kv_store_t *store, uint8_t code, const void *key,
    uint16_t key_len, uint32_t leave, uint8_t flags, kv_op_t **op)
{
    kv_rc_t  rc;

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = kv_store_op(store, code, leave, op);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_entry_create_key(store->zone->heap, &(*op)->entry, key, key_len,
                             leave, flags);

    if (rc != KV_OK) {
        kv_store_op_free(store, *op);
        *op = NULL;
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


kv_rc_t
kv_store_increment(kv_store_t *store, const void *key, uint16_t key_len,
    int64_t by, uint32_t ttl, kv_op_t **op)
{
    kv_rc_t  rc;
    uint8_t  flags;

    assert(ttl <= KV_STORE_TTL_MAX);

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    rc = kv_store_op(store, KV_OP_INCR, kv_heap_reserve(store->zone->heap),
                     op);

    if (rc != KV_OK) {
        return rc;
    }

    flags = ttl || kv_store_may_expire(store, key, key_len) ? KV_ENTRY_EXPIRES
                                                            : 0;

    rc = kv_counter_create(store->zone->heap, &(*op)->entry, key, key_len, by,
                           flags);

    if (rc != KV_OK) {
        kv_store_op_free(store, *op);
        *op = NULL;

    } else if (ttl) {
        kv_entry_set_expires((*op)->entry, ttl * 1000ull);
    }

    return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
}


/* Whether the key's value expires, as far as one can tell now. */

static bool
kv_store_may_expire(kv_store_t *store, const void *key, uint16_t key_len)
{
    bool         expires;
    kv_entry_t  *e;

    expires = false;

    if (kv_store_read(store, key, key_len, &e) == KV_OK) {
        expires = kv_entry_expires(e) != 0;
        kv_store_read_done(store);
    }

    return expires;
}


kv_rc_t
kv_store_clear(kv_store_t *store, kv_op_t **op)
{
    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    return kv_store_op(store, KV_OP_CLEAR, 0, op);
}


kv_rc_t
kv_store_group(kv_store_t *store, kv_group_t *group)
{
    memset(group, 0, sizeof(kv_group_t));

    if (!kv_state_writes(store->zone)) {
        return KV_UNAVAILABLE;
    }

    return kv_store_op(store, KV_OP_GROUP, KV_HEAP_LAST, &group->op);
}


void
kv_store_return(kv_op_t *op)
{
    assert(op->code == KV_OP_DELETE);

    op->flags |= KV_OP_RETURN;
}


void
kv_store_if(kv_op_t *op, uint8_t flag, const kv_version_t *version)
{
    op->flags = (uint8_t) ((op->flags & ~KV_OP_IF) | flag);

    if (flag & KV_OP_IF_VERSION) {
        kv_entry_set_lsn(op->entry, version->lsn);
    }
}


kv_rc_t
kv_store_reserve(kv_store_t *store, uint32_t need, uint64_t own, kv_op_t **op)
{
    kv_rc_t  rc;

    rc = kv_store_op(store, KV_OP_RESERVE, 0, op);

    if (rc == KV_OK) {
        kv_set_relaxed((*op)->need, need);
        (*op)->result = (int32_t) kv_min(own / KV_PAGE_SIZE, INT32_MAX);
    }

    return rc;
}


/* Logs it once in a while, with what fills the zone. */

void
kv_store_refused(kv_store_t *store)
{
    uint64_t         now, said, n, size, data, uploads, readers, other;
    kv_zone_t       *zone;
    kv_heap_stat_t   st;

    zone = store->zone;

    (void) atomic_fetch_add(&zone->full_refused, 1);

    now = kv_now_ns();
    said = atomic_load(&zone->full_logged_ns);

    if ((said && now - said < KV_STORE_REFUSED)
        || !atomic_compare_exchange_strong(&zone->full_logged_ns, &said, now)
        || kv_store_heap_stat(store, &st) != KV_OK)
    {
        return;
    }

    n = atomic_load(&zone->full_refused);
    n -= atomic_exchange(&zone->full_logged, n);

    size = kv_max(zone->size / 100, 1u);
    uploads = kv_heap_held(zone->heap, KV_HELD_UPLOADS);
    readers = kv_heap_held(zone->heap, KV_HELD_READERS);
    data = atomic_load(&zone->map.bytes);

    /* tables, records, the rest of size classes, copies still being sent */

    other = zone->size - (st.size - st.used);
    other -= kv_min(other, data + uploads + readers);

    kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\" is full: %llu write%s "
                 "refused since this was last said; keys and values take "
                 "%llu %% of it, unfinished uploads %llu %%, values kept for "
                 "slow readers %llu %%, tables, records of requests and the "
                 "like %llu %%, and %llu %% is free but scattered or in "
                 "reserve", store->conf.name, (unsigned long long) n,
                 n == 1 ? " was" : "s were",
                 (unsigned long long) (data / size),
                 (unsigned long long) (uploads / size),
                 (unsigned long long) (readers / size),
                 (unsigned long long) (other / size),
                 (unsigned long long) ((st.size - st.used) / size));
}


bool
kv_store_evicted(kv_store_t *store)
{
    return store->worker && atomic_load(&store->worker->evict)
           && atomic_exchange(&store->worker->evict, 0);
}


uint64_t
kv_store_held(const kv_op_t *op)
{
    return op->entry && (op->entry->flags & KV_ENTRY_PARTIAL)
           ? kv_entry_partial_footprint(op->entry) : 0;
}


unsigned
kv_store_submit(kv_store_t *store, kv_op_t *op)
{
    kv_op_t   *member;
    uint64_t   now;

    now = kv_now_ns();

    if (op->code == KV_OP_GROUP) {

        for (member = op->members; member; member = member->next) {
            kv_store_prepare(store, member, now);
        }

        kv_group_set_state(op, KV_OP_QUEUED);

        kv_failpoint(KV_FAILPOINT_GROUP_QUEUED);
    }

    kv_store_prepare(store, op, now);
    kv_queue_push(store->zone, op);
    kv_queue_start_by(store->zone, kv_store_start(store, op));

    return kv_committer_claim(store) ? KV_TODO_COMMIT : 0;
}


static void
kv_store_prepare(kv_store_t *store, kv_op_t *op, uint64_t now)
{
    assert(op->code != KV_OP_PUT || !(op->entry->flags & KV_ENTRY_PARTIAL));

    kv_set_relaxed(op->queued_ns, now);

    if (op->code == KV_OP_RESERVE) {
        op->lsn = 0;
        return;
    }

    op->result = KV_OK;
    kv_store_set_durability(store, op);

    if (op->code != KV_OP_GROUP) {
        op->lsn = 0;
        kv_store_set_expires(store, op);
    }
}


/* The request is complete: its key's time begins. */

static void
kv_store_set_expires(kv_store_t *store, kv_op_t *op)
{
    uint64_t  ttl;

    ttl = op->entry ? kv_entry_expires(op->entry) : 0;

    if (ttl) {
        kv_entry_set_expires(op->entry, kv_clock_ms(store->zone) + ttl);
    }

    if (op->code == KV_OP_INCR) {
        kv_counter_note_expires(op->entry);
    }
}


/* How soon the configuration requires the operation to be durable. */

static void
kv_store_set_durability(kv_store_t *store, kv_op_t *op)
{
    kv_set_relaxed(op->sync_ms, 0);

    switch (store->conf.sync) {

    case KV_SYNC_ALWAYS:
        op->flags |= KV_OP_SYNC;
        break;

    case KV_SYNC_INTERVAL:
        kv_set_relaxed(op->sync_ms,
                       (uint32_t) kv_min(store->conf.sync_interval,
                                         KV_TICKET - 1));
        break;

    default:
        break;
    }
}


/* When its batch starts at the latest; at once in a process that ends. */

static uint64_t
kv_store_start(kv_store_t *store, kv_op_t *op)
{
    if (store->conf.delay == 0 || kv_store_stopping(store)
        || atomic_load(&store->zone->queued) >= store->conf.batch)
    {
        return 0;
    }

    return op->queued_ns + store->conf.delay * 1000000;
}


void
kv_store_start_now(kv_store_t *store)
{
    kv_queue_start_by(store->zone, 0);
}


void
kv_store_stop(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;
    store->stop = 1;

    if (store->worker == NULL) {
        return;
    }

    kv_store_start_now(store);

    if (atomic_load(&zone->sync_ms) && atomic_load(&zone->unsynced)) {
        atomic_store(&zone->sync_requested, 1);
    }
}


bool
kv_store_done(kv_op_t *op, kv_rc_t *rc)
{
    if (atomic_load_explicit(&op->state, memory_order_acquire) != KV_OP_DONE) {
        return false;
    }

    *rc = (kv_rc_t) op->result;

    kv_failpoint(KV_FAILPOINT_ANSWERING);

    return true;
}


/*
 * The incarnation is that of the log that the operation is in, or was decided
 * by: it changes before the first write that follows a start, and when the zone
 * is rebuilt, which waits for this process to release the operation.
 */

kv_version_t
kv_store_result(kv_store_t *store, const kv_op_t *op)
{
    kv_version_t  version;

    version.lsn = 0;

    switch (op->result) {

    case KV_OK:
        if (kv_op_puts(op)) {
            version.lsn = op->lsn;

        } else if (op->flags & KV_OP_RETURN) {
            version.lsn = kv_entry_lsn(op->entry);

        } else if (op->code == KV_OP_TOUCH) {
            version.lsn = op->found;
        }

        break;

    case KV_PRECONDITION:
    case KV_NOT_INTEGER:
    case KV_OVERFLOW:

        if (op->code != KV_OP_GROUP) {
            version.lsn = op->found;
        }

        break;

    default:
        break;
    }

    version.incarnation = atomic_load(&store->zone->wal.incarnation);

    return version;
}


int64_t
kv_store_sum(const kv_op_t *op)
{
    assert(op->code == KV_OP_INCR && op->result == KV_OK);

    return op->sum;
}


const kv_entry_t *
kv_store_returned(const kv_op_t *op)
{
    assert((op->flags & KV_OP_RETURN) && op->result == KV_OK);

    return op->entry;
}


void
kv_store_hold(kv_store_t *store, kv_op_t *op)
{
    assert(kv_op_pinned(op, kv_get_relaxed(op->state)));

    /* as a reader from now on, which may be told to go */

    kv_set_relaxed(op->ticket, kv_store_ticket(store));
    kv_set_relaxed(op->queued_ns, kv_now_ns());

    atomic_store_explicit(&op->state, KV_OP_PINNED, memory_order_release);
}


void
kv_store_release(kv_store_t *store, kv_op_t *op)
{
    kv_op_t   *member, *next;
    uint32_t   state;

    state = kv_get_relaxed(op->state);

    if (op->code == KV_OP_GROUP) {
        assert(state == KV_OP_BUILDING || state == KV_OP_DONE);

        for (member = op->members; member; member = next) {
            next = member->next;
            kv_store_release(store, member);
        }
    }

    /* what is in the queue is the committer's: it would read a freed entry */

    assert(state == KV_OP_BUILDING || state == KV_OP_DONE
           || state == KV_OP_PINNED);
    assert(op->worker == store->number);

    if (kv_op_pinned(op, state)) {
        atomic_store(&op->state, KV_OP_UNPINNING);

        kv_failpoint(KV_FAILPOINT_UNPINNING);

        kv_epoch_unpin(&store->zone->retired, op->entry);

        kv_failpoint(KV_FAILPOINT_UNPINNED);

    } else if (op->entry
               && kv_entry_destroy(store->zone->heap, &op->entry) != KV_OK)
    {
        /* a broken heap is made anew: nothing to free */

        return;
    }

    kv_store_op_free(store, op);
}


/*
 * A record, BUILDING, from the process's own list, or from a new chunk, if
 * `leave` pages stay free.
 */

static kv_rc_t
kv_store_op(kv_store_t *store, uint8_t code, uint32_t leave, kv_op_t **op)
{
    kv_rc_t   rc;
    uint64_t  now;

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    if (store->nfree <= kv_store_kept(store, leave)) {
        rc = kv_store_add_ops(store, leave);

        if (rc != KV_OK) {
            return rc;
        }
    }

    now = kv_evict_beat(store);

    *op = store->free;

    assert(kv_get_relaxed((*op)->state) == KV_OP_FREE
           && (*op)->worker == store->number);

    store->free = (*op)->next;
    store->nfree--;

    /* another process may look at a record that is being used again */

    __atomic_store_n(&(*op)->code, code, __ATOMIC_RELAXED);
    (*op)->flags = 0;
    (*op)->result = KV_OK;
    kv_op_set_entry(*op, NULL);
    (*op)->lsn = 0;
    (*op)->next = NULL;
    (*op)->data = NULL;

    kv_set_relaxed((*op)->ticket, kv_store_ticket(store));
    kv_set_relaxed((*op)->queued_ns, now);

    atomic_store_explicit(&(*op)->state, KV_OP_BUILDING, memory_order_release);

    return KV_OK;
}


/*
 * Uploads, readers and groups may be many, and last long.  Some records are
 * left to single deletes, clears and reserves, which free memory (`leave` is
 * 0), and more to these and to readers.
 */

static unsigned
kv_store_kept(kv_store_t *store, uint32_t leave)
{
    if (leave == 0) {
        return 0;
    }

    return leave < kv_heap_reserve(store->zone->heap) ? KV_STORE_KEPT
                                                      : KV_STORE_KEPT_ALL;
}


/* The number for a record's next use: see KV_TICKET. */

static uint32_t
kv_store_ticket(kv_store_t *store)
{
    store->ticket = ((store->ticket + 1) & ~KV_TICKET_GO) | KV_TICKET;

    return store->ticket;
}


/*
 * How many chunks a worker may have when a read needs one more.  A stored value
 * that is being sent costs only its record, so nothing else bounds the number
 * of readers; all workers together leave 7/8 of the zone.
 */

static unsigned
kv_store_chunks_max(kv_zone_t *zone)
{
    size_t    all;
    unsigned  workers;

    all = zone->size / KV_STORE_PINS_SHARE / sizeof(kv_op_chunk_t);
    workers = kv_max(zone->nworkers / 4, 1u);

    return (unsigned) kv_max(all / workers, 2u);
}


static kv_rc_t
kv_store_add_ops(kv_store_t *store, uint32_t leave)
{
    kv_rc_t         rc;
    unsigned        i;
    kv_op_chunk_t  *chunk;

    rc = kv_worker_add_chunk(store->zone->heap, store->worker, store->number,
                             leave, &chunk);

    if (rc != KV_OK) {
        return rc == KV_DEAD ? KV_UNAVAILABLE : rc;
    }

    for (i = KV_OP_CHUNK; i; i--) {
        chunk->op[i - 1].next = store->free;
        store->free = &chunk->op[i - 1];
    }

    store->nfree += KV_OP_CHUNK;
    store->nchunks++;

    return KV_OK;
}


static void
kv_store_op_free(kv_store_t *store, kv_op_t *op)
{
    atomic_store_explicit(&op->state, KV_OP_FREE, memory_order_release);

    op->next = store->free;
    store->free = op;
    store->nfree++;
}
