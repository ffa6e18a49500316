
/*
 * What a clear costs other writes.  The time for which it holds the commit lock
 * cannot be tested, but what is done in it can: entries and buckets that are
 * freed before the committer looks at its queue again.  It frees some ten of
 * them a microsecond.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdlib.h>

#include "base/kv_failpoint.h"
#include "store/kv_queue.h"
#include "store/kv_sweep.h"
#include "store_rig.h"


/* freed for a clear, by it, and after its batch: see kv_sweep.c */
#define BEFORE_STEPS 4096u
#define CLEAR_STEPS  (BEFORE_STEPS + 8192u + KV_SWEEP_STEP)

/* and under one hold of the heap's lock, for which uploads wait */
#define HEAP_STEPS   64u

/* the most that a bucket with its overflow adds to either */
#define BUCKET       100u


/* What the committer frees; but for the atomics, its thread's. */

static struct {
    _Atomic bool      on;
    _Atomic bool      paused;       /* nothing is freed between rounds */
    bool              waits;        /* it is a write's turn */
    bool              passed_over;  /* one, for something to be freed */
    unsigned          holds;
    uint64_t          freed;        /* since it looked at its queue */
    uint64_t          locked;       /* since it locked the heap */
    uint64_t          most_freed;
    uint64_t          most_locked;
} hold;


void __real_kv_failpoint(kv_failpoint_t point);
void __wrap_kv_failpoint(kv_failpoint_t point);
void __real_kv_epoch_free_entry(kv_retire_list_t *retired, kv_entry_t *e);
void __wrap_kv_epoch_free_entry(kv_retire_list_t *retired, kv_entry_t *e);
kv_rc_t __real_kv_heap_lock(kv_heap_t *heap);
kv_rc_t __wrap_kv_heap_lock(kv_heap_t *heap);
kv_op_t *__real_kv_queue_take(kv_zone_t *zone);
kv_op_t *__wrap_kv_queue_take(kv_zone_t *zone);
bool __real_kv_sweep_between(kv_store_t *store);
bool __wrap_kv_sweep_between(kv_store_t *store);


static bool
watched(void)
{
    return hold.on && pthread_equal(pthread_self(), host.thread[0]);
}


static void
freed(void)
{
    if (watched()) {
        hold.freed++;
        hold.locked++;
        hold.most_freed = kv_max(hold.most_freed, hold.freed);
        hold.most_locked = kv_max(hold.most_locked, hold.locked);
    }
}


void
__wrap_kv_failpoint(kv_failpoint_t point)
{
    if (point == KV_FAILPOINT_SWEEPING) {
        freed();                     /* a bucket */
    }

    __real_kv_failpoint(point);
}


void
__wrap_kv_epoch_free_entry(kv_retire_list_t *retired, kv_entry_t *e)
{
    freed();

    __real_kv_epoch_free_entry(retired, e);
}


kv_rc_t
__wrap_kv_heap_lock(kv_heap_t *heap)
{
    if (watched()) {
        hold.locked = 0;
    }

    return __real_kv_heap_lock(heap);
}


/* The committer looks at its queue here, and takes what waits there. */

kv_op_t *
__wrap_kv_queue_take(kv_zone_t *zone)
{
    if (watched()) {
        hold.holds++;
        hold.freed = 0;
    }

    return __real_kv_queue_take(zone);
}


/* And here, where every other time there is a write. */

bool
__wrap_kv_sweep_between(kv_store_t *store)
{
    bool  more, waits;

    if (!watched()) {
        return __real_kv_sweep_between(store);
    }

    if (hold.paused) {
        return false;
    }

    hold.waits = !hold.waits;

    while (hold.waits && kv_map_unswept(&store->zone->map)
           && atomic_load(&store->zone->queue) == NULL)
    {
        (void) sched_yield();
    }

    hold.holds++;
    hold.freed = 0;
    waits = atomic_load(&store->zone->queue) != NULL;

    more = __real_kv_sweep_between(store);

    hold.passed_over = hold.passed_over || (waits && hold.freed);

    return more;
}


/* Keys from `id` on, which no log has: past the committer, as that is slow. */

static void
fill(uint32_t id, uint32_t n)
{
    char         key[32];
    size_t       len;
    uint64_t     hash;
    kv_zone_t   *zone;
    kv_entry_t  *e;

    zone = kit.store->zone;
    assert_int_equal(kv_mutex_lock(&zone->commit_lock), KV_OK);

    for ( /* void */ ; n; n--, id++) {
        assert_int_equal(kv_map_reserve(&zone->map, 1), 1);

        len = kit_key(id, key);
        hash = kv_map_hash(&zone->map, key, len);

        assert_int_equal(kv_entry_create(zone->heap, &e, key, (uint16_t) len,
                                         1, 0), KV_OK);
        kv_entry_write(e, 0, "x", 1);
        assert_null(kv_map_put(&zone->map, hash, e));

        if (id % 32 == 31) {
            kv_map_grow(&zone->map);
        }
    }

    kv_mutex_unlock(&zone->commit_lock);
}


static void
start(void)
{
    kit.size = 64 << 20;
    kit.conf.sync = KV_SYNC_OFF;
    kit.conf.snapshot = 0;
    memset(&hold, 0, sizeof(hold));
    rig_start();
}


/* Writes come while a large map is freed: each waits for a part of it. */

static void
test_writes_between(void **state)
{
    uint32_t  keys, puts;

    (void) state;

    keys = 150000;
    start();
    fill(0, keys);

    hold.on = true;
    assert_int_equal(kit_clear(&host), KV_OK);

    for (puts = 0; kv_map_unswept(&kit.store->zone->map); puts++) {
        rig_put(puts % 100, 1 + puts, 20);
    }

    hold.on = false;

    assert_in_range(hold.most_freed, KV_SWEEP_STEP, CLEAR_STEPS + BUCKET);
    assert_in_range(hold.most_locked, 1, HEAP_STEPS + BUCKET);
    assert_false(hold.passed_over);
    assert_true(hold.holds > keys / CLEAR_STEPS);
    assert_true(puts > keys / CLEAR_STEPS / 4);

    rig_settled();
    rig_verify();
    rig_stop();
}


/*
 * What two clears left is still being freed, and there is no third map.  Yet
 * another clear has none to take the place of, if it finds no key.
 */

static void
test_nothing_to_clear(void **state)
{
    (void) state;

    start();
    fill(0, 150000);

    hold.paused = true;
    hold.on = true;

    assert_int_equal(kit_clear(&host), KV_OK);
    fill(0, 60000);
    assert_int_equal(kit_clear(&host), KV_OK);
    assert_int_equal(atomic_load(&kit.store->zone->map.old), 2);
    assert_int_equal(kit_clear(&host), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    assert_int_equal(atomic_load(&kit.store->zone->map.old), 2);

    assert_in_range(hold.most_freed, KV_SWEEP_STEP, CLEAR_STEPS + BUCKET);

    /* one that finds a key needs it, and is refused: that would take long */

    rig_put(1, 1, 20);
    assert_int_equal(kit_clear(&host), KV_UNAVAILABLE);
    assert_int_equal(kit_get(&host, 1, &shadow[1], NULL), KV_OK);

    assert_in_range(hold.most_freed, BEFORE_STEPS, CLEAR_STEPS + BUCKET);

    hold.paused = false;
    rig_put(1, 2, 20);
    rig_settled();

    assert_int_equal(kit_clear(&host), KV_OK);
    assert_int_equal(kit_get(&host, 1, &shadow[1], NULL), KV_NOT_FOUND);
    shadow[1] = 0;

    hold.on = false;
    rig_settled();
    rig_verify();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_writes_between),
        TEST(test_nothing_to_clear)
    };

    return cmocka_run_group_tests_name("store clear", tests, NULL, NULL);
}
