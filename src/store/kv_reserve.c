
/*
 * Requests for memory; see kv_reserve.h.
 */


#include <time.h>

#include "store/kv_reserve.h"
#include "store/kv_clock.h"
#include "store/kv_compact.h"
#include "store/kv_evict.h"
#include "store/kv_fair.h"
#include "store/kv_sweep.h"


/* how long the answer that there is no memory holds; ns */
#define KV_STORE_FULL     1000000000ull

/* time to empty pages for all requests that were taken together; ns */
#define KV_RESERVE_NS     3000000

/* pause in which readers leave what was moved; ns */
#define KV_RESERVE_PAUSE  20000

/* entries examined for stale pieces at a time */
#define KV_STALE_STEP     20000


typedef struct {
    kv_retire_list_t  *retired;
    unsigned           freed;
} kv_stale_t;


static bool kv_reserve_stuck(kv_zone_t *zone, const kv_op_t *op);
static uint64_t kv_reserve_can_free(kv_zone_t *zone);
static bool kv_reserve_soon(kv_store_t *store, uint64_t missing);
static uint64_t kv_reserve_can_move(kv_store_t *store);
static kv_rc_t kv_reserve_free_stale(kv_store_t *store);
static void kv_reserve_stale(void *data, const kv_entry_t *e);
static kv_rc_t kv_reserve_compact(kv_store_t *store, uint32_t need,
    uint64_t *spent_ns, bool *more, uint64_t *missing);
static uint64_t kv_reserve_missing(const kv_heap_stat_t *st, uint32_t need);
static kv_rc_t kv_reserve_page(kv_store_t *store, uint64_t missing,
    const kv_heap_stat_t *st, bool *again, bool *vain);
static kv_rc_t kv_reserve_recheck(kv_store_t *store);


kv_rc_t
kv_reserve(kv_store_t *store, kv_op_t *op, uint64_t *spent_ns)
{
    bool         more, vain, young;
    kv_rc_t      rc;
    unsigned     who;
    uint64_t     missing, own, age;
    kv_zone_t   *zone;

    zone = store->zone;
    who = KV_EVICT_UPLOADS|KV_EVICT_READERS
          |(kv_reserve_stuck(zone, op) ? KV_EVICT_LARGE : 0);
    age = op->flags & KV_OP_URGENT ? KV_EVICT_URGENT : KV_EVICT_AGE;
    own = (uint64_t) op->result * KV_PAGE_SIZE;

    kv_phase_changing(zone);

    more = *spent_ns < KV_RESERVE_NS && !kv_store_full(store, op->need);

    rc = kv_reserve_compact(store, op->need, spent_ns, &more, &missing);
    vain = rc == KV_DECLINED;

    if (rc != KV_UNAVAILABLE && missing && zone->retired.stale) {
        rc = kv_reserve_free_stale(store);
    }

    if (rc == KV_UNAVAILABLE) {
        return rc;
    }

    kv_phase_idle(zone);

    if (missing == 0) {
        return KV_OK;
    }

    more = more || *spent_ns >= KV_RESERVE_NS || kv_zone_unswept(zone);

    if (rc == KV_AGAIN || (more && !vain)) {
        return KV_AGAIN;
    }

    /* do not evict in vain: only if it gives enough */

    if (kv_reserve_can_free(zone) >= missing + own
        && (kv_evict(store, who, missing, age, NULL)
            || kv_reserve_can_free(zone) > own))
    {
        return KV_AGAIN;
    }

    if (kv_store_scarce(store) == 0 && kv_reserve_can_move(store) >= missing
        && (kv_evict(store, who|KV_EVICT_LIVE, missing, age, &young)
            || young))
    {
        return KV_AGAIN;
    }

    if (more || kv_reserve_soon(store, missing)) {
        return KV_AGAIN;
    }

    atomic_store(&zone->full_used, kv_heap_used(zone->heap));
    atomic_store(&zone->full_ns, kv_now_ns());
    atomic_store(&zone->full_need, kv_max(op->need, 1u));

    return KV_NO_MEMORY;
}


bool
kv_store_full(kv_store_t *store, uint32_t need)
{
    uint64_t    full;
    kv_zone_t  *zone;

    zone = store->zone;
    full = atomic_load(&zone->full_need);

    /* what a clear left, and what has expired, is freed without a request */

    return full && need >= full && !kv_zone_unswept(zone)
           && kv_heap_used(zone->heap) + KV_PAGE_SIZE
              > atomic_load(&zone->full_used)
           && kv_now_ns() - atomic_load(&zone->full_ns) < KV_STORE_FULL
           && !kv_timers_soon(&zone->timers, kv_clock_ms(zone));
}


/* Whether the upload that waits for memory is the oldest hungry one. */

static bool
kv_reserve_stuck(kv_zone_t *zone, const kv_op_t *op)
{
    uint32_t  oldest;

    return (op->flags & KV_OP_STUCK)
           && kv_fair_oldest(zone, &oldest)
           && kv_get_relaxed(zone->workers[op->worker].hungry[0]) >> 32
              == oldest;
}


/* Bytes that come free if all holders let go of their memory. */

static uint64_t
kv_reserve_can_free(kv_zone_t *zone)
{
    return kv_heap_held(zone->heap, KV_HELD_UPLOADS)
           + kv_heap_held(zone->heap, KV_HELD_READERS);
}


/*
 * Whether memory comes free without anybody's doing: of what has expired, and
 * will be deleted, or of what puts under way replace.
 */

static bool
kv_reserve_soon(kv_store_t *store, uint64_t missing)
{
    return kv_timers_soon(&store->zone->timers, kv_clock_ms(store->zone))
           || kv_evict_under_way(store) >= missing;
}


/* Bytes that compaction could free if no object was in its way. */

static uint64_t
kv_reserve_can_move(kv_store_t *store)
{
    kv_heap_stat_t  st;

    return kv_store_heap_stat(store, &st) == KV_OK
           ? st.movable_pages * KV_PAGE_SIZE : 0;
}


/*
 * Frees stale pieces, which compaction replaced while their values were being
 * sent, of values that are not being sent any more, in some part of the map.
 * KV_AGAIN if there may be more memory now, or in the next part; KV_OK or
 * KV_UNAVAILABLE.
 */

static kv_rc_t
kv_reserve_free_stale(kv_store_t *store)
{
    kv_zone_t         *zone;
    kv_retire_list_t  *retired;
    kv_stale_t         stale;

    zone = store->zone;
    retired = &zone->retired;

    if (retired->stale_from == 0) {
        retired->stale = 0;
    }

    stale.retired = retired;
    stale.freed = 0;

    if (kv_heap_lock(zone->heap) != KV_OK) {
        return KV_UNAVAILABLE;
    }

    retired->stale_from = kv_map_walk(&zone->map, retired->stale_from,
                                      KV_STALE_STEP, kv_reserve_stale, &stale);
    kv_heap_unlock(zone->heap);

    /* not all of the map was counted: the next call continues */

    retired->stale += retired->stale_from != 0;

    return stale.freed || retired->stale_from ? KV_AGAIN : KV_OK;
}


static void
kv_reserve_stale(void *data, const kv_entry_t *e)
{
    kv_stale_t *stale = data;

    if (e->flags & KV_ENTRY_PIECES) {
        stale->freed += kv_epoch_free_stale(stale->retired, (kv_entry_t *) e);
    }
}


/*
 * Frees what readers have left, and empties pages while there is time and
 * `*more` is set, until there is memory for `need` bytes.  Sets *missing to the
 * bytes that are missing then, and clears *more if it cannot go on.  KV_OK;
 * KV_DECLINED: none of the pages that it had time for could be emptied;
 * KV_UNAVAILABLE.
 */

static kv_rc_t
kv_reserve_compact(kv_store_t *store, uint32_t need, uint64_t *spent_ns,
    bool *more, uint64_t *missing)
{
    bool             again, tried, vain;
    kv_rc_t          rc, swept;
    uint64_t         start;
    kv_heap_stat_t   st;

    start = kv_now_ns();
    again = kv_store_scarce(store) == 0;
    tried = false;
    vain = true;
    *missing = 0;

    for ( ;; ) {

        swept = kv_sweep_step(store->zone, KV_SWEEP_STEP);

        if (swept == KV_DEAD
            || kv_epoch_reclaim(&store->zone->retired) != KV_OK
            || kv_store_heap_stat(store, &st) != KV_OK)
        {
            return KV_UNAVAILABLE;
        }

        *missing = kv_reserve_missing(&st, need);

        if (*missing == 0 || !*more
            || *spent_ns + (kv_now_ns() - start) >= KV_RESERVE_NS)
        {
            break;
        }

        if (swept == KV_AGAIN) {
            continue;
        }

        tried = true;
        rc = kv_reserve_page(store, *missing, &st, &again, &vain);

        if (rc == KV_UNAVAILABLE) {
            return rc;
        }

        if (rc == KV_DECLINED) {
            *more = false;
            break;
        }
    }

    *spent_ns += kv_now_ns() - start;

    /* more pages may have objects in the way than there was time for */

    return tried && vain && kv_epoch_count(&store->zone->retired) == 0
           ? KV_DECLINED : KV_OK;
}


/* Bytes of free pages that a value of `need` bytes lacks. */

static uint64_t
kv_reserve_missing(const kv_heap_stat_t *st, uint32_t need)
{
    uint64_t  pages;

    if (need == 0) {
        return 0;
    }

    pages = need <= KV_ENTRY_INLINE ? 1 : kv_entry_pages_max(need);
    pages += st->reserve_pages;

    return st->free_pages < pages ? (pages - st->free_pages) * KV_PAGE_SIZE : 0;
}


/*
 * Empties a page.  If there is none, it lets pages that were passed over be
 * chosen again (`*again`), once, or waits a moment for readers to leave what
 * was moved.  KV_OK, KV_UNAVAILABLE; KV_DECLINED: nothing more can be done.
 */

static kv_rc_t
kv_reserve_page(kv_store_t *store, uint64_t missing, const kv_heap_stat_t *st,
    bool *again, bool *vain)
{
    kv_rc_t           rc;
    kv_zone_t        *zone;
    struct timespec   pause;

    zone = store->zone;

    rc = kv_compact_page(zone, true);

    if (rc == KV_DEAD) {
        return KV_UNAVAILABLE;
    }

    if (rc != KV_DECLINED) {
        *vain = *vain && rc == KV_AGAIN;
        return KV_OK;
    }

    if (*again && st->movable_pages * KV_PAGE_SIZE >= missing) {
        *again = false;
        return kv_reserve_recheck(store);
    }

    if (kv_epoch_count(&zone->retired) == 0) {
        return KV_DECLINED;
    }

    pause.tv_sec = 0;
    pause.tv_nsec = KV_RESERVE_PAUSE;

    (void) nanosleep(&pause, NULL);

    return KV_OK;
}


/* Much is free, but no page could be emptied: tries those passed over. */

static kv_rc_t
kv_reserve_recheck(kv_store_t *store)
{
    kv_heap_t  *heap;

    heap = store->zone->heap;

    if (kv_heap_lock(heap) != KV_OK) {
        return KV_UNAVAILABLE;
    }

    kv_heap_evac_retry(heap);
    kv_heap_unlock(heap);

    return KV_OK;
}
