
/*
 * Choosing holders of memory and telling them to go; see kv_evict.h.
 */


#include "store/kv_evict.h"
#include "store/kv_fair.h"


/* how many holders are told at a time */
#define KV_EVICT_MAX  32

/* milliseconds without a byte */
#define KV_EVICT_STILL  500u

/* divisor of the rank of an upload that stood still for that long */
#define KV_EVICT_STOOD  4096u

#define KV_EVICT_LATE  (KV_STORE_LATE * 1000000ull)


typedef struct {
    kv_op_t      *op;
    kv_entry_t   *entry;
    uint32_t      ticket;
    kv_held_t     who;
    uint64_t      rank;               /* the least goes first */
} kv_candidate_t;


/* The slowest holders so far, the slowest first. */

typedef struct {
    uint64_t         now;
    uint64_t         age;
    unsigned         who;
    unsigned         oldest;          /* hungry uploads that began at: */
    uint32_t         began;
    uint64_t         coming;          /* bytes of holders told before */
    bool             young;           /* there are readers, but too young */
    unsigned         n;
    kv_candidate_t   worst[KV_EVICT_MAX];
} kv_candidates_t;


static void kv_evict_adjust_clock(kv_op_t *op, uint64_t now, uint64_t ns);
static uint64_t kv_evict_complete(kv_op_t *op);
static void kv_evict_scan(kv_zone_t *zone, kv_candidates_t *holders);
static void kv_evict_scan_record(kv_candidates_t *holders, kv_op_t *op);
static bool kv_evict_upload(const kv_candidates_t *holders, kv_candidate_t *h,
    uint64_t lasted);
static void kv_evict_wake(kv_store_t *store, const bool *wake);
static void kv_evict_rank(kv_candidates_t *holders,
    const kv_candidate_t *holder);
static uint64_t kv_evict_gain(const kv_candidate_t *holder);
static unsigned kv_evict_sort(const kv_candidate_t *holder);


uint64_t
kv_evict(kv_store_t *store, unsigned who, uint64_t bytes, uint64_t age,
    bool *young)
{
    bool              wake[KV_WORKERS_MAX];
    uint64_t          coming;
    unsigned          i;
    kv_zone_t        *zone;
    kv_candidate_t   *h;
    kv_candidates_t   holders;

    zone = store->zone;

    memset(wake, 0, zone->nworkers * sizeof(bool));

    holders.now = kv_now_ns();
    holders.age = age;
    holders.who = who;
    holders.oldest = kv_fair_oldest(zone, &holders.began);
    holders.coming = 0;
    holders.young = false;
    holders.n = 0;

    if (young) {
        *young = false;
    }

    if (kv_heap_lock(zone->heap) != KV_OK) {
        return 0;
    }

    kv_evict_scan(zone, &holders);

    coming = holders.coming;

    for (i = 0; i < holders.n && coming < bytes; i++) {
        h = &holders.worst[i];

        /* a fast upload is not to blame: one is enough for now */

        if (h->rank >= KV_EVICT_FAST && coming) {
            break;
        }

        /* a different ticket: the record has another user by now */

        if (!atomic_compare_exchange_strong(&h->op->ticket, &h->ticket,
                                            h->ticket | KV_TICKET_GO))
        {
            continue;
        }

        coming += kv_evict_gain(h);
        wake[h->op->worker] = true;

        kv_set_relaxed(zone->evicted[h->who],
                       kv_get_relaxed(zone->evicted[h->who]) + 1);
    }

    kv_heap_unlock(zone->heap);

    if (young) {
        *young = holders.young;
    }

    kv_evict_wake(store, wake);

    return coming;
}


static void
kv_evict_wake(kv_store_t *store, const bool *wake)
{
    unsigned    i;
    kv_zone_t  *zone;

    zone = store->zone;

    for (i = 0; i < zone->nworkers; i++) {
        if (wake[i]) {
            atomic_store(&zone->workers[i].evict, 1);
            kv_store_wake(store, i);
        }
    }
}


uint64_t
kv_evict_under_way(kv_store_t *store)
{
    uint64_t        bytes;
    unsigned        i, k;
    kv_zone_t      *zone;
    kv_op_chunk_t  *chunk;

    zone = store->zone;
    bytes = 0;

    if (kv_heap_lock_read(zone->heap) != KV_OK) {
        return 0;
    }

    for (i = 0; i < zone->nworkers; i++) {
        for (chunk = &zone->workers[i].first; chunk; chunk = chunk->next) {
            for (k = 0; k < KV_OP_CHUNK; k++) {
                bytes += kv_evict_complete(&chunk->op[k]);
            }
        }
    }

    kv_heap_unlock(zone->heap);

    return bytes;
}


/*
 * What the value takes that a put is to store, all of which is here.  Until its
 * worker submits it, its entry changes under the heap's lock; then it is the
 * committer's, who asks.
 */

static uint64_t
kv_evict_complete(kv_op_t *op)
{
    uint8_t      code;
    uint32_t     state;
    kv_entry_t  *e;

    state = atomic_load_explicit(&op->state, memory_order_acquire);

    if (state != KV_OP_BUILDING && state != KV_OP_QUEUED
        && state != KV_OP_TAKEN)
    {
        return 0;
    }

    code = __atomic_load_n(&op->code, __ATOMIC_RELAXED);

    if (code != KV_OP_PUT && code != KV_OP_INCR) {
        return 0;
    }

    e = kv_op_entry(op);

    return e && !(e->flags & KV_ENTRY_PARTIAL)
           ? kv_entry_footprint(kv_entry_name_len(e), e->value_len, e->flags)
           : 0;
}


void
kv_evict_over(kv_store_t *store)
{
    uint64_t    now, held, limit, scarce;
    unsigned    who;
    kv_zone_t  *zone;

    zone = store->zone;

    if (!kv_store_over(store)) {
        return;
    }

    now = kv_now_ns();

    if (now - atomic_load(&zone->evicted_ns) < KV_EVICT_INTERVAL) {
        return;
    }

    atomic_store(&zone->evicted_ns, now);

    for (who = 0; who < KV_HELD; who++) {
        held = kv_heap_held(zone->heap, (kv_held_t) who);
        limit = atomic_load(&zone->limit[who]);
        scarce = kv_store_scarce(store);

        if (held > limit && scarce) {
            (void) kv_evict(store, 1u << who, kv_min(held - limit, scarce),
                            KV_EVICT_AGE, NULL);
        }
    }
}


uint64_t
kv_evict_beat(kv_store_t *store)
{
    uint64_t        now, before;
    unsigned        k;
    kv_worker_t    *worker;
    kv_op_chunk_t  *chunk;

    worker = store->worker;
    now = kv_now_ns();

    if (worker == NULL) {
        return now;
    }

    before = kv_get_relaxed(worker->beat_ns);

    if (now > before + KV_EVICT_LATE) {
        for (chunk = &worker->first; chunk; chunk = chunk->next) {
            for (k = 0; k < KV_OP_CHUNK; k++) {
                kv_evict_adjust_clock(&chunk->op[k], now,
                                      now - before - KV_EVICT_LATE);
            }
        }
    }

    /* the clocks are right before the committer reads them */

    atomic_store_explicit(&worker->beat_ns, now, memory_order_release);

    return now;
}


static void
kv_evict_adjust_clock(kv_op_t *op, uint64_t now, uint64_t ns)
{
    uint32_t  state;
    uint64_t  since;

    state = kv_get_relaxed(op->state);
    since = kv_get_relaxed(op->queued_ns);

    if ((state == KV_OP_BUILDING || state == KV_OP_PINNED)
        && !(since & KV_OP_STOPPED))
    {
        kv_set_relaxed(op->queued_ns,
                       kv_min(kv_max(now, since), since + ns));
    }
}


bool
kv_store_over(kv_store_t *store)
{
    unsigned    who;
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_store_scarce(store) == 0) {
        return false;
    }

    for (who = 0; who < KV_HELD; who++) {
        if (kv_heap_held(zone->heap, (kv_held_t) who)
            > atomic_load(&zone->limit[who]))
        {
            return true;
        }
    }

    return false;
}


uint64_t
kv_store_scarce(kv_store_t *store)
{
    uint64_t    used, spare;
    kv_zone_t  *zone;

    zone = store->zone;

    used = kv_heap_used(zone->heap);
    spare = zone->size - zone->size / 4;

    return used > spare ? used - spare : 0;
}


/*
 * Examines all records.  What they name exists as long as the heap's lock is
 * held: only its holder can free it.
 */

static void
kv_evict_scan(kv_zone_t *zone, kv_candidates_t *holders)
{
    uint64_t        beat;
    unsigned        i, k;
    kv_op_chunk_t  *chunk;

    for (i = 0; i < zone->nworkers; i++) {
        beat = atomic_load_explicit(&zone->workers[i].beat_ns,
                                    memory_order_acquire);

        if (holders->now > beat + KV_EVICT_LATE) {
            continue;
        }

        for (chunk = &zone->workers[i].first; chunk; chunk = chunk->next) {
            for (k = 0; k < KV_OP_CHUNK; k++) {
                kv_evict_scan_record(holders, &chunk->op[k]);
            }
        }
    }
}


static void
kv_evict_scan_record(kv_candidates_t *holders, kv_op_t *op)
{
    uint64_t        lasted;
    uint32_t        state;
    kv_candidate_t  h;

    state = atomic_load_explicit(&op->state, memory_order_acquire);

    if (state != KV_OP_BUILDING && state != KV_OP_PINNED) {
        return;
    }

    h.op = op;
    h.entry = kv_op_entry(op);
    h.ticket = atomic_load(&op->ticket);
    lasted = kv_op_lasted(op, holders->now);

    if (h.entry == NULL) {
        return;
    }

    if (state == KV_OP_BUILDING) {
        if (!(h.entry->flags & KV_ENTRY_PARTIAL)) {
            return;
        }

        h.who = KV_HELD_UPLOADS;

    } else {
        h.who = KV_HELD_READERS;
    }

    if (!(holders->who & kv_evict_sort(&h))) {
        return;
    }

    if (h.ticket & KV_TICKET_GO) {
        holders->coming += kv_evict_gain(&h);
        return;
    }

    if (h.who == KV_HELD_UPLOADS) {
        if (kv_evict_upload(holders, &h, lasted)) {
            kv_evict_rank(holders, &h);
        }

        return;
    }

    if (lasted < holders->age) {
        holders->young = true;
        return;
    }

    h.rank = kv_min(h.entry->value_len * 1000ull / (lasted / 1000000),
                    KV_EVICT_FAST - 1);

    kv_evict_rank(holders, &h);
}


/*
 * Whether an upload may be told to go, and its rank: the lesser of what it
 * received a second all the time, and of twice that lately, because a network
 * has its moments.  Of the fast ones, the one that holds most is first.
 */

static bool
kv_evict_upload(const kv_candidates_t *holders, kv_candidate_t *h,
    uint64_t lasted)
{
    uint32_t  got, pace, began;
    uint64_t  ms, mark, since;

    ms = lasted / 1000000;
    got = kv_get_relaxed(h->op->received);
    mark = kv_get_relaxed(h->op->mark);

    if (ms >= kv_get_relaxed(h->op->last) + KV_EVICT_STILL) {

        /* of uploads that stand still, the one that was slower before */

        h->rank = got * 1000ull / ms / KV_EVICT_STOOD;
        return true;
    }

    if (lasted >= holders->age) {
        pace = kv_get_relaxed(h->op->pace);
        since = ms - kv_min(ms, mark >> 32);

        if (since >= KV_OP_PACE) {
            pace = (uint32_t) ((got - kv_min(got, (uint32_t) mark)) * 1000ull
                               / since);
        }

        h->rank = kv_min(got * 1000ull / ms, 2ull * pace);

        if (lasted >= KV_EVICT_LONG) {
            h->rank = kv_min(h->rank, KV_EVICT_FAST - 1);
        }

        if (h->rank < KV_EVICT_FAST) {
            return true;
        }
    }

    /* or one that waited for memory from its start: its pace is not known */

    h->rank = KV_EVICT_FAST + UINT32_MAX - kv_evict_gain(h);

    began = kv_get_relaxed(h->op->began);

    return (holders->who & KV_EVICT_LARGE) && holders->oldest
           && (h->entry->flags & KV_ENTRY_PIECES)
           && (kv_older(holders->began, began)
               || (holders->oldest > 1 && began == holders->began));
}


static void
kv_evict_rank(kv_candidates_t *holders, const kv_candidate_t *holder)
{
    unsigned  i;

    i = holders->n;

    if (i == KV_EVICT_MAX) {
        if (holders->worst[i - 1].rank <= holder->rank) {
            return;
        }

        i--;

    } else {
        holders->n++;
    }

    for ( /* void */ ; i && holders->worst[i - 1].rank > holder->rank; i--) {
        holders->worst[i] = holders->worst[i - 1];
    }

    holders->worst[i] = *holder;
}


/*
 * What comes free if the holder goes: its part, if others keep the same value.
 */

static uint64_t
kv_evict_gain(const kv_candidate_t *holder)
{
    uint32_t           pins;
    const kv_entry_t  *e;

    e = holder->entry;

    if (holder->who == KV_HELD_UPLOADS) {
        return kv_entry_partial_footprint(e);
    }

    pins = atomic_load(&kv_entry_pieces(e)->pins) & ~KV_PINS_LISTED;

    return kv_entry_footprint(kv_entry_name_len(e), e->value_len, 0)
           / kv_max(pins, 1u);
}


static unsigned
kv_evict_sort(const kv_candidate_t *holder)
{
    if (holder->who == KV_HELD_UPLOADS) {
        return KV_EVICT_UPLOADS;
    }

    return atomic_load(&kv_entry_pieces(holder->entry)->pins) & KV_PINS_LISTED
           ? KV_EVICT_READERS : KV_EVICT_LIVE;
}
