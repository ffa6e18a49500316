
/*
 * Memory that is not to be had: the life of a store (puts small and large,
 * overwrites, increments, deletes that return the value and others, a clear, a
 * snapshot, a rebuild, restarts), in which the Nth allocation fails, for every
 * N: of the zone's heap, then of the process's.  And the same while the
 * committer empties pages.
 *
 * After each step all that was acknowledged is there and nothing else, and
 * the heap is whole.  A step that met no failure goes well; one that met one
 * says so by its result, or needed it for nothing that is promised.
 *
 * The same with a death: the Nth call for the heap's lock finds that another
 * worker has died while it changed the heap.  The step is refused or done; then
 * the zone is rebuilt, and holds what was acknowledged.
 *
 * The linker leads the core's allocations here (scripts/unit.mk).
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "base/kv_number.h"
#include "solo.h"
#include "store/kv_state.h"
#include "store/kv_zone.h"
#include "memory/kv_heap_private.h"


#define IDS   12u
#define FILL  1500u                  /* keys that fill half the zone */
#define LIVES 30u                    /* in which pages are emptied */


typedef enum {
    ZONE = 0,
    PROCESS,
    LOCK                             /* the zone's, but broken */
} memory_t;


void *__real_kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);
void *__real_kv_heap_alloc_leave(kv_heap_t *heap, kv_heap_kind_t kind,
    size_t size, uint32_t leave);
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);

void *__wrap_kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size);
void *__wrap_kv_heap_alloc_leave(kv_heap_t *heap, kv_heap_kind_t kind,
    size_t size, uint32_t leave);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

kv_rc_t __real_kv_heap_lock(kv_heap_t *heap);
kv_rc_t __real_kv_heap_lock_read(kv_heap_t *heap);
kv_rc_t __wrap_kv_heap_lock(kv_heap_t *heap);
kv_rc_t __wrap_kv_heap_lock_read(kv_heap_t *heap);

int __real_clock_gettime(clockid_t id, struct timespec *ts);

int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *left);


static struct {
    bool      armed;
    memory_t  memory;
    unsigned  nth;
    unsigned  count;
    bool      hit;                   /* in this step */
} failing;

static uint32_t  version;
static uint32_t  model[IDS];         /* 0: not there */
static int64_t   counter;            /* the same */
static uint64_t  used;               /* bytes, at the end of the last life */
static uint64_t  skipped;            /* ns */


static bool
fails(memory_t memory)
{
    if (!failing.armed || failing.memory != memory
        || ++failing.count != failing.nth)
    {
        return false;
    }

    failing.hit = true;

    return true;
}


void *
__wrap_kv_heap_alloc(kv_heap_t *heap, kv_heap_kind_t kind, size_t size)
{
    return fails(ZONE) ? NULL : __real_kv_heap_alloc(heap, kind, size);
}


void *
__wrap_kv_heap_alloc_leave(kv_heap_t *heap, kv_heap_kind_t kind, size_t size,
    uint32_t leave)
{
    return fails(ZONE) ? NULL
                       : __real_kv_heap_alloc_leave(heap, kind, size, leave);
}


void *
__wrap_malloc(size_t size)
{
    return fails(PROCESS) ? NULL : __real_malloc(size);
}


/* The files of a directory in memory come in threes (ram.c), and are none. */

void *
__wrap_calloc(size_t n, size_t size)
{
    return n != 3 && fails(PROCESS) ? NULL : __real_calloc(n, size);
}


void *
__wrap_realloc(void *p, size_t size)
{
    return fails(PROCESS) ? NULL : __real_realloc(p, size);
}


kv_rc_t
__wrap_kv_heap_lock(kv_heap_t *heap)
{
    if (fails(LOCK)) {
        atomic_store(&heap->broken, true);
    }

    return __real_kv_heap_lock(heap);
}


kv_rc_t
__wrap_kv_heap_lock_read(kv_heap_t *heap)
{
    if (fails(LOCK)) {
        atomic_store(&heap->broken, true);
    }

    return __real_kv_heap_lock_read(heap);
}


/* There is no other thread: what sleeps is awake at once, so much later. */

int
__wrap_nanosleep(const struct timespec *pause, struct timespec *left)
{
    (void) left;

    skipped += (uint64_t) pause->tv_sec * 1000000000
               + (uint64_t) pause->tv_nsec;

    return 0;
}


int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    int       rc;
    uint64_t  ns;

    rc = __real_clock_gettime(id, ts);
    ns = (uint64_t) ts->tv_nsec + skipped;
    ts->tv_sec += (time_t) (ns / 1000000000);
    ts->tv_nsec = (long) (ns % 1000000000);

    return rc;
}


/*
 * Nothing is held here: the zone may be rebuilt at any time, by the thread that
 * would have to say so.
 */

static void
forget(kv_store_t *store)
{
    kv_store_reset(store);
    atomic_store(&store->worker->generation, UINT64_MAX);
}


/* What the death broke is made anew: by whoever comes next. */

static void
mend(const char *step)
{
    bool              armed;
    unsigned          tries;
    kv_store_t       *store;
    struct timespec   pause;

    if (failing.memory != LOCK || !failing.hit) {
        return;
    }

    store = solo.host.store;
    armed = failing.armed;
    failing.armed = false;

    for (tries = 0; kv_state(store->zone) != KV_STATE_READY; tries++) {

        if (tries == 100) {
            fail_msg("allocation %u: %s: no rebuild", failing.nth, step);
        }

        forget(store);

        if (kv_store_todo(store) & KV_TODO_COMMIT) {
            kv_store_commit(store);

        } else {
            pause.tv_sec = 0;
            pause.tv_nsec = 10000000;
            (void) nanosleep(&pause, NULL);
        }
    }

    if (store->generation != atomic_load(&store->zone->generation)) {
        forget(store);
    }

    failing.armed = armed;
}


/* What the counter is; 0: not there. */

static int64_t
counted(void)
{
    int64_t      number;
    kv_entry_t  *e;

    number = 0;

    if (kv_store_read(solo.host.store, "n", 1, &e) == KV_OK) {
        assert_true(kv_number_parse(kv_store_value(e), e->value_len, &number));
        kv_store_read_done(solo.host.store);
    }

    return number;
}


static void
check(const char *step)
{
    bool      armed;
    kv_rc_t   rc;
    uint32_t  id, is;
    kv_err_t  err;

    mend(step);

    armed = failing.armed;
    failing.armed = false;

    for (id = 0; id < IDS; id++) {
        is = 0;
        rc = kit_get(&solo.host, id, &is, NULL);

        if (rc != (model[id] ? KV_OK : KV_NOT_FOUND) || is != model[id]) {
            fail_msg("allocation %u: %s: key %u: rc %d, version %u of %u",
                     failing.nth, step, id, rc, is, model[id]);
        }
    }

    if (counted() != counter) {
        fail_msg("allocation %u: %s: the counter is %d, not %d", failing.nth,
                 step, (int) counted(), (int) counter);
    }

    assert_int_equal(kv_heap_lock(solo.host.store->zone->heap), KV_OK);
    rc = kv_heap_check(solo.host.store->zone->heap, &err);
    kv_heap_unlock(solo.host.store->zone->heap);

    if (rc != KV_OK) {
        fail_msg("allocation %u: %s: %s", failing.nth, step, err.text);
    }

    failing.armed = armed;
    failing.hit = false;
}


/* Whether it was done; what may have been done or not is looked at. */

static bool
done(const char *step, kv_rc_t rc, uint32_t id, uint32_t next)
{
    bool      armed;
    uint32_t  is;

    if (rc != KV_OK && !failing.hit) {
        fail_msg("allocation %u: %s: rc %d for no reason", failing.nth, step,
                 rc);
    }

    if (rc != KV_OK && rc != KV_NO_MEMORY && rc != KV_UNAVAILABLE
        && rc != KV_AGAIN && rc != KV_REFUSED)
    {
        fail_msg("allocation %u: %s: rc %d", failing.nth, step, rc);
    }

    if (rc == KV_UNAVAILABLE) {
        mend(step);

        is = 0;
        armed = failing.armed;
        failing.armed = false;
        (void) kit_get(&solo.host, id, &is, NULL);
        failing.armed = armed;
        return is == next;
    }

    return rc == KV_OK;
}


/* What a committer leaves that has no memory, the next one does. */

static kv_rc_t
commit(kv_op_t *op)
{
    kv_rc_t      rc;
    uint64_t     generation;
    unsigned     tries;
    kv_store_t  *store;

    store = solo.host.store;
    generation = atomic_load(&store->zone->generation);
    (void) kv_store_submit(store, op);
    store->zone->spin = 0;
    store->zone->idle_ns = 0;

    for (tries = 0; !kv_store_done(op, &rc); tries++) {
        assert_true(tries == 0 || (tries == 1 && failing.hit));
        kv_store_commit(store);

        /* its record goes with the heap */

        if (kv_heap_broken(store->zone->heap)
            || generation != atomic_load(&store->zone->generation))
        {
            return KV_UNAVAILABLE;
        }
    }

    kv_store_release(store, op);

    return rc;
}


static void
put(uint32_t id, uint32_t len)
{
    kv_rc_t   rc;
    kv_op_t  *op;

    version++;
    rc = kit_begin_put(&solo.host, id, version, len, &op);

    if (rc == KV_OK) {
        rc = commit(op);
    }

    if (done("put", rc, id, version)) {
        model[id] = version;
    }

    check("put");
}


static void
count(void)
{
    bool      armed;
    kv_rc_t   rc;
    int64_t   sum;
    kv_op_t  *op;

    sum = counter + 1;
    rc = kv_store_increment(solo.host.store, "n", 1, 1, 0, &op);

    if (rc == KV_OK) {
        rc = commit(op);
    }

    /* what may have been counted or not is looked at */

    if (!done("count", rc, 0, UINT32_MAX)) {
        armed = failing.armed;
        failing.armed = false;
        sum = rc == KV_UNAVAILABLE ? counted() : counter;
        failing.armed = armed;
        assert_true(sum == counter || sum == counter + 1);
    }

    counter = sum;
    check("count");
}


static void
delete(uint32_t id, bool returns)
{
    char      key[32];
    kv_rc_t   rc;
    kv_op_t  *op;

    rc = kv_store_delete(solo.host.store, key, (uint16_t) kit_key(id, key),
                         &op);

    if (rc == KV_OK) {
        if (returns) {
            kv_store_return(op);
        }

        rc = commit(op);
    }

    if (rc == KV_NOT_FOUND && model[id] == 0) {
        rc = KV_OK;
    }

    if (done("delete", rc, id, 0)) {
        model[id] = 0;
    }

    check("delete");
}


static void
clear(void)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    uint32_t  id;

    rc = kv_store_clear(solo.host.store, &op);

    if (rc == KV_OK) {
        rc = commit(op);
    }

    for (id = 0; id < IDS - 1 && model[id] == 0; id++) { /* void */ }

    if (done("clear", rc, id, 0)) {
        memset(model, 0, sizeof(model));
        counter = 0;
    }

    check("clear");
}


static void
start(void)
{
    kv_rc_t  rc;

    rc = solo_start(&solo);

    if (rc != KV_OK) {

        if (!failing.hit || rc == KV_DAMAGED
            || (solo.err.text[0] == '\0' && failing.memory != LOCK))
        {
            fail_msg("allocation %u: start: rc %d: %s", failing.nth, rc,
                     solo.err.text);
        }

        failing.hit = false;
        assert_int_equal(solo_start(&solo), KV_OK);
    }

    forget(solo.host.store);
    check("start");
}


/* One that fails for good is over with the next start. */

static void
rebuild(void)
{
    kv_store_t       *store;
    struct timespec  pause;

    store = solo.host.store;
    kv_state_break(store, "a test");

    forget(store);

    pause.tv_sec = 0;
    pause.tv_nsec = (long) kv_store_next_timeout(store) * 1000000;
    (void) nanosleep(&pause, NULL);

    if (kv_store_todo(store) & KV_TODO_COMMIT) {
        kv_store_commit(store);
    }

    mend("rebuild");
    forget(store);

    if (kv_state(store->zone) != KV_STATE_READY) {

        if (!failing.hit) {
            fail_msg("allocation %u: no rebuild", failing.nth);
        }

        solo_stop(&solo, false);
        start();
    }

    check("rebuild");
}


/* What an empty store holds when all that was replaced is free. */

static uint64_t
settled(void)
{
    bool        armed;
    kv_rc_t     rc;
    kv_op_t    *op;
    uint64_t    left;
    unsigned    i;
    kv_zone_t  *zone;

    armed = failing.armed;
    failing.armed = false;

    clear();
    zone = solo.host.store->zone;

    for (i = 0; kv_epoch_count(&zone->retired) || kv_map_unswept(&zone->map);
         i++)
    {
        assert_true(i < 100);
        assert_int_equal(kv_store_reserve(solo.host.store, 0, 0, &op), KV_OK);
        rc = commit(op);
        assert_int_equal(rc, KV_OK);
    }

    assert_int_equal(kv_heap_held(zone->heap, KV_HELD_UPLOADS), 0);
    assert_int_equal(kv_heap_held(zone->heap, KV_HELD_READERS), 0);

    /* the map keeps some buckets, now more and now less */

    left = kv_heap_used(zone->heap)
           - zone->map.nreserved * sizeof(kv_bucket_t);
    failing.armed = armed;

    return left;
}


static void
live(void)
{
    uint32_t  i;

    memset(model, 0, sizeof(model));
    counter = 0;
    start();

    for (i = 0; i < IDS; i++) {
        put(i, i % 3 == 2 ? 9000 + 5000 * i : 10 + 400 * i);
    }

    for (i = 0; i < IDS; i += 2) {
        put(i, i % 3 == 0 ? 30000 : 50);
    }

    delete(1, false);
    delete(3, false);
    count();
    count();
    delete(4, true);
    delete(5, true);
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    check("snapshot");
    put(1, 100);
    rebuild();
    count();
    put(3, 20000);
    clear();
    put(5, 100);
    put(6, 40000);
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    check("snapshot");
    solo_stop(&solo, false);
    start();
    put(7, 100);
    solo_stop(&solo, true);
    start();
    put(8, 30000);
    used = settled();
    solo_stop(&solo, true);
}


/* Until there is no Nth allocation; the first life has none that fails. */

static void
sweep(memory_t memory)
{
    uint64_t  least;

    failing.memory = memory;
    least = 0;

    for (failing.nth = 0;
         failing.nth == 0 || failing.count >= failing.nth;
         failing.nth++)
    {
        failing.count = 0;
        failing.hit = false;

        solo_init(&solo, 4 << 20);
        solo.conf.max_value = 100000;
        solo.conf.segment = 256 << 10;

        failing.armed = true;
        live();
        failing.armed = false;

        if (failing.nth == 0) {
            least = used;
            failing.count = 1;

        } else if (used > least) {
            fail_msg("allocation %u: %llu bytes are lost", failing.nth,
                     (unsigned long long) (used - least));
        }

        solo_done(&solo);
    }

    if (getenv("KIT_SUM")) {
        print_message("allocations: %u\n", failing.nth - 2);
    }

    /* a test that has not been everywhere says nothing */

    assert_true(failing.nth > (memory == ZONE ? 50 : 10));
}


static void
test_zone(void **state)
{
    (void) state;

    sweep(ZONE);
}


static void
test_lock(void **state)
{
    (void) state;

    sweep(LOCK);
}


static void
test_process(void **state)
{
    (void) state;

    sweep(PROCESS);
}


/* Three of four objects of each page go; what stays is put together. */

static void
compact(memory_t memory)
{
    char      key[32];
    kv_rc_t   rc;
    kv_op_t  *op;
    uint32_t  i;
    uint64_t  moved;
    unsigned  hits;

    failing.memory = memory;
    moved = 0;
    hits = 0;

    /* how many are moved depends on the time that it takes */

    for (failing.nth = 1; failing.nth <= LIVES; failing.nth++) {
        failing.count = 0;
        failing.hit = false;

        solo_init(&solo, 4 << 20);
        memset(model, 0, sizeof(model));
        start();

        for (i = 0; i < 2 * FILL; i++) {

            if (i < FILL) {
                rc = kit_begin_put(&solo.host, 100 + i, 1, 1600, &op);

            } else {
                rc = (i % 4 == 0) ? KV_DECLINED
                     : kv_store_delete(solo.host.store, key,
                                  (uint16_t) kit_key(100 + i - FILL, key), &op);
            }

            if (rc == KV_OK) {
                rc = commit(op);
                assert_int_equal(rc, KV_OK);
            }
        }

        for (i = 0; i < IDS; i++) {
            put(i, 4000);
        }

        failing.armed = true;
        rc = kv_store_reserve(solo.host.store, 3 << 20, 0, &op);

        if (rc == KV_OK) {
            rc = commit(op);
        }

        (void) rc;                   /* it may be more than there is */
        hits += failing.hit;
        check("reserve");
        failing.armed = false;

        moved += solo.host.store->zone->stats.moved;
        put(0, 4000);
        solo_stop(&solo, true);
        solo_done(&solo);
    }

    if (getenv("KIT_SUM")) {
        print_message("allocations: %u, moved %llu\n", hits,
                      (unsigned long long) moved);
    }

    assert_true(hits > 0);
}


static void
test_compaction(void **state)
{
    (void) state;

    compact(ZONE);
}


static void
test_compaction_lock(void **state)
{
    (void) state;

    compact(LOCK);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_zone),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_compaction),
        cmocka_unit_test(test_compaction_lock)
    };

    /* the engine of a cluster ends its process where memory lacks */

    (void) unsetenv("KV_TEST_CLUSTER");

    return cmocka_run_group_tests(tests, NULL, NULL);
}
