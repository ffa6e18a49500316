
/*
 * Holders of memory in the zone, and what they may cost others: uploads that
 * come slowly, values kept for slow readers, and memory for writes beside them.
 */

/* tsan */
/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kit.h"
#include "store/kv_evict.h"


/*
 * How often the committer is asked for memory at most: each time it works for
 * some milliseconds, and how much it does then is the machine's affair.
 */
#define ROUNDS  20000


static kit_t   kit;
static host_t  host;


static int
setup(void **state)
{
    (void) state;

    kit_open(&kit, 16 << 20, 8);
    kit.io->fast = true;
    kit.conf.segment = 8 << 20;
    kit.conf.max_value = 6 << 20;

    if (kit_start(&kit) != KV_OK) {
        fail_msg("%s", kit.err.text);
    }

    return host_start(&host, kit.store) == KV_OK ? 0 : -1;
}


static int
teardown(void **state)
{
    (void) state;

    (void) host_stop(&host);
    kit_close(&kit);

    return 0;
}


static void
check_heap(void)
{
    kv_err_t    err;
    kv_heap_t  *heap;

    heap = kit.store->zone->heap;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    if (kv_heap_check(heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    kv_heap_unlock(heap);
}


static void
settled(void)
{
    const char  *wrong;

    check_heap();

    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s", wrong);
    }
}


static void
put(uint32_t id, uint32_t len)
{
    assert_int_equal(kit_put(&host, id, 1, len, NULL), KV_OK);
}


static kv_op_t *
pin(uint32_t id)
{
    char         key[32];
    size_t       n;
    kv_op_t     *op;
    kv_entry_t  *e;

    n = kit_key(id, key);

    assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
    assert_int_equal(kv_store_pin(kit.store, e, &op), KV_OK);
    kv_store_read_done(kit.store);

    return op;
}


/*
 * The sparsest pages hold a value that is being sent, and cannot be emptied:
 * the others are, one after the other.
 */

static void
test_compact_beside_readers(void **state)
{
    kv_op_t   *reader[40];
    uint32_t   i;
    unsigned   reserves, readers;

    (void) state;

    /* pages of pieces of 8 KiB with one that is read in each */

    for (i = 0; i < 400; i++) {
        put(i, 8300);
    }

    for (i = 0, readers = 0; i < 400; i++) {

        if (i % 10 == 0) {
            reader[readers++] = pin(i);

        } else {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }

    /* and pages of small entries that are fuller than those */

    for (i = 1000; kit_put(&host, i, 1, 3000, NULL) == KV_OK; i++) {
        /* void */
    }

    while (i-- > 1000) {
        if (i % 3) {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }

    /* half of the zone is free then, and so it has to be taken */

    reserves = 0;
    assert_int_equal(kit_put(&host, 5000, 1, 5 << 20, &reserves), KV_OK);
    assert_true(reserves > 0);

    for (i = 0; i < readers; i++) {
        kv_store_release(kit.store, reader[i]);
    }

    settled();
}


/*
 * A page in which something stays, because it is being sent, is used again:
 * what was moved out of it leaves free memory there.
 */

static void
test_partly_moved(void **state)
{
    kv_op_t         *reader[40];
    uint32_t         i, k;
    unsigned         readers;
    kv_heap_stat_t   before, after;

    (void) state;

    for (i = 0; i < 400; i++) {
        put(i, 8300);
    }

    assert_int_equal(kv_store_heap_stat(kit.store, &before), KV_OK);

    for (i = 0, readers = 0; i < 400; i++) {

        if (i % 10 == 0) {
            reader[readers++] = pin(i);

        } else if (i % 10 > 2) {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }

    /* as much as there is to do */

    for (k = 0; k < 20; k++) {
        kv_op_t  *op;

        assert_int_equal(kv_store_reserve(kit.store, 15 << 20, 0, &op), KV_OK);
        (void) host_run(&host, op);
        check_heap();
    }

    /* what was deleted finds its place where it was */

    for (i = 0; i < 400; i++) {
        if (i % 10 > 2) {
            put(i, 8300);
        }
    }

    assert_int_equal(kv_store_heap_stat(kit.store, &after), KV_OK);
    assert_true(after.held <= before.held + 3 * KV_PAGE_SIZE);

    for (i = 0; i < readers; i++) {
        kv_store_release(kit.store, reader[i]);
    }

    settled();
}


/* What uploads hold: what came, and nothing once they are over. */

static void
test_uploads_counted(void **state)
{
    kv_op_t    *op[3];
    uint64_t    held;
    kv_heap_t  *heap;

    static char  data[1 << 20];

    (void) state;

    heap = kit.store->zone->heap;

    /* announced, and one byte of it */

    assert_int_equal(kit_upload(kit.store, "a", 6 << 20, 1, &op[0]), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op[0], 0, data, 1), KV_OK);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < 1000);

    assert_int_equal(kv_store_put(kit.store, "b", 1, KV_LENGTH_UNKNOWN, 0,
                                  &op[1]), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op[1], 0, data, 1), KV_OK);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < 2000);

    /* all of a small one is no upload */

    held = kv_heap_held(heap, KV_HELD_UPLOADS);
    assert_int_equal(kit_upload(kit.store, "c", 5000, 5000, &op[2]), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op[2], 0, data, 5000), KV_OK);
    assert_int_equal(kv_store_finish(kit.store, op[2], 5000), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS), held);
    assert_int_equal(host_run(&host, op[2]), KV_OK);

    /* they go on */

    assert_int_equal(kv_store_write(kit.store, op[0], 1, data, 1 << 20),
                     KV_OK);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) > 1 << 20);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < (1 << 20) + 200000);

    /* one is given up, one stored */

    kv_store_release(kit.store, op[0]);
    assert_true(kv_heap_held(heap, KV_HELD_UPLOADS) < 1000);
    assert_int_equal(kv_store_finish(kit.store, op[1], 1), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_UPLOADS), 0);
    assert_int_equal(host_run(&host, op[1]), KV_OK);

    settled();
}


/* Whatever others hold, there is memory to delete and to clear. */

static void
test_deletes_work(void **state)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    uint32_t     i, k, n;
    kv_entry_t  *e;

    static char     key[KV_KEY_MAX];
    static kv_op_t *held[20000];

    (void) state;

    memset(key, 'k', sizeof(key));

    for (i = 0; kit_put(&host, i, 1, 60000, NULL) == KV_OK; i++) {
        /* void */
    }

    /* what an upload without a byte has, and an answer that is not read */

    for (n = 0; n < 20000; n++) {
        rc = kv_store_put(kit.store, key, 8, KV_LENGTH_UNKNOWN, 0, &held[n]);

        if (rc != KV_OK) {
            break;
        }
    }

    assert_int_equal(rc, KV_NO_MEMORY);

    for ( /* void */ ; n < 20000; n++) {
        assert_int_equal(kv_store_read(kit.store, "key-0", 5, &e), KV_OK);
        rc = kv_store_pin(kit.store, e, &held[n]);
        kv_store_read_done(kit.store);

        if (rc != KV_OK) {
            break;
        }
    }

    assert_int_equal(rc, KV_NO_MEMORY);
    assert_int_equal(kv_store_put(kit.store, "a", 1, 1, 0, &op), KV_NO_MEMORY);

    for (k = 0; k < 3; k++) {
        assert_int_equal(kv_store_delete(kit.store, key,
                                         k == 0 ? 1 : k == 1 ? 300
                                         : KV_KEY_MAX, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
    }

    while (i-- > 1) {
        assert_int_equal(kit_delete(&host, i), KV_OK);
    }

    assert_int_equal(kit_clear(&host), KV_OK);

    while (n-- > 0) {
        kv_store_release(kit.store, held[n]);
    }

    settled();
}


/*
 * How long a holder has lasted.  Its clock stands: that of a machine that is
 * busy would make it a slower one while the test runs.
 */

static void
lasts(kv_op_t *op, uint64_t ms)
{
    kv_set_relaxed(op->queued_ns, ms * 1000000 | KV_OP_STOPPED);
}


/* What an upload did: it got `mark` bytes in `at` ms, all in `last`. */

static void
history(kv_op_t *op, uint32_t pace, uint64_t at, uint32_t mark, uint32_t last)
{
    kv_set_relaxed(op->pace, pace);
    kv_set_relaxed(op->mark, at << 32 | mark);
    kv_set_relaxed(op->last, last);
}


/* An upload of 6 MiB that got `received` bytes at once, `seconds` ago. */

static kv_op_t *
upload(const char *key, uint32_t received, uint64_t seconds)
{
    kv_op_t  *op;

    static char  data[6 << 20];

    assert_int_equal(kit_upload(kit.store, key, 6 << 20, received, &op), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, data, received), KV_OK);

    lasts(op, seconds * 1000);
    history(op, UINT32_MAX, 0, 0, 0);

    return op;
}


static kv_rc_t
reserve_urged(uint32_t need, uint64_t own, uint8_t flags)
{
    kv_op_t  *op;

    assert_int_equal(kv_store_reserve(kit.store, need, own, &op), KV_OK);
    kv_store_urge(op, flags);

    return host_run(&host, op);
}


static kv_rc_t
reserve(uint32_t need, uint64_t own)
{
    return reserve_urged(need, own, 0);
}


static uint64_t
evictions(void)
{
    kv_zone_t  *zone;

    zone = kit.store->zone;

    return kv_get_relaxed(zone->evicted[KV_HELD_UPLOADS])
           + kv_get_relaxed(zone->evicted[KV_HELD_READERS]);
}


/*
 * Asks for memory until a holder is told to go, or the answer is final.  On a
 * busy machine the committer may have spent its time before it looks for one,
 * or take the worker for stopped: then it says KV_AGAIN, too.
 */

static kv_rc_t
ask(uint32_t need, uint64_t own, uint8_t flags)
{
    kv_rc_t   rc;
    uint64_t  before;
    unsigned  rounds;

    before = evictions();
    rounds = 0;

    do {
        assert_true(rounds++ < ROUNDS);
        rc = reserve_urged(need, own, flags);
    } while (rc == KV_AGAIN && evictions() == before);

    return rc;
}


static void
read_again(uint32_t id, uint32_t version)
{
    uint32_t  found;

    assert_int_equal(kit_get(&host, id, &found, NULL), KV_OK);
    assert_int_equal(found, version);
}


/* The worst holder goes, if it is not too young, and none goes in vain. */

static void
test_evict_uploads(void **state)
{
    kv_op_t  *quick, *slow, *young, *next;

    (void) state;

    atomic_store(&kit.store->zone->limit[KV_HELD_UPLOADS], 16 << 20);

    slow = upload("slow", 4 << 20, 100);
    quick = upload("quick", 4 << 20, 2);
    young = upload("young", 3 << 20, 0);

    /* more than all of them hold */

    assert_int_equal(ask(16 << 20, 0, 0), KV_NO_MEMORY);
    assert_false(kv_store_must_go(slow));

    /* or what the asker holds himself */

    assert_int_equal(ask(6 << 20, 11 << 20, 0), KV_NO_MEMORY);
    assert_false(kv_store_must_go(slow));
    assert_false(kv_store_evicted(kit.store));

    /* one is enough */

    put(1, 1 << 20);
    assert_int_equal(ask(5 << 20, 0, 0), KV_AGAIN);
    assert_true(kv_store_must_go(slow));
    assert_false(kv_store_must_go(quick));
    assert_false(kv_store_must_go(young));
    assert_true(kv_store_evicted(kit.store));
    assert_false(kv_store_evicted(kit.store));

    /* it is about to go: no other has to */

    assert_int_equal(reserve(5 << 20, 0), KV_AGAIN);
    assert_false(kv_store_must_go(quick));
    assert_int_equal(kv_get_relaxed(kit.store->zone
                                    ->evicted[KV_HELD_UPLOADS]), 1);

    /* the next owner of its record is not meant */

    kv_store_release(kit.store, slow);
    next = upload("next", 100, 0);
    assert_ptr_equal(next, slow);
    assert_false(kv_store_must_go(next));

    assert_int_equal(ask(5 << 20, 0, 0), KV_OK);
    put(2, 4 << 20);

    /* then the other, and the young one is spared */

    assert_int_equal(ask(5 << 20, 0, 0), KV_AGAIN);
    assert_true(kv_store_must_go(quick));
    kv_store_release(kit.store, quick);
    put(3, 4 << 20);

    kv_set_relaxed(young->received, 100000);
    lasts(young, 300);
    assert_int_equal(reserve(3 << 20, 0), KV_AGAIN);
    assert_false(kv_store_must_go(young));

    /* unless a request has waited for long */

    assert_int_equal(ask(3 << 20, 0, KV_OP_URGENT), KV_AGAIN);
    assert_true(kv_store_must_go(young));

    kv_store_release(kit.store, young);
    kv_store_release(kit.store, next);
    settled();
}


/*
 * An upload that came in a burst and then stopped, or drips since, goes before
 * one that comes steadily, though on the average it was quicker.  An upload
 * that waits for us is not slow.
 */

static void
test_evict_burst(void **state)
{
    kv_op_t  *burst, *drip, *steady, *waits;

    (void) state;

    atomic_store(&kit.store->zone->limit[KV_HELD_UPLOADS], 16 << 20);

    steady = upload("steady", 3 << 20, 0);
    lasts(steady, 1500);
    history(steady, 2 << 20, 1000, 2 << 20, 1500);

    waits = upload("waits", 1 << 20, 0);
    kv_store_set_lasted(waits, 400000000);
    kv_store_stop_clock(waits);
    history(waits, UINT32_MAX, 0, 0,
            (uint32_t) (kv_op_lasted(waits, kv_now_ns()) / 1000000));

    burst = upload("burst", 5 << 20, 0);
    lasts(burst, 600);
    history(burst, UINT32_MAX, 0, 0, 100);

    drip = upload("drip", 4 << 20, 0);
    lasts(drip, 1500);
    history(drip, 100000, 1400, 4 << 20, 1490);

    /* the one that stands still, though it is less than a second old */

    assert_int_equal(ask(4 << 20, 0, 0), KV_AGAIN);
    assert_true(kv_store_must_go(burst));
    assert_false(kv_store_must_go(drip));
    kv_store_release(kit.store, burst);
    put(1, 5 << 20);

    assert_int_equal(ask(4 << 20, 0, 0), KV_AGAIN);
    assert_true(kv_store_must_go(drip));
    kv_store_release(kit.store, drip);
    put(2, 4 << 20);

    /* a quick upload stays, and so does one that waits for us */

    assert_int_equal(reserve(3 << 20, 0), KV_AGAIN);
    assert_false(kv_store_must_go(steady));
    assert_false(kv_store_must_go(waits));

    kv_store_release(kit.store, steady);
    kv_store_release(kit.store, waits);
    settled();
}


/* What the worker shows does not get too old while the test runs. */

static void
show_hungry(const kv_hungry_t *hungry, unsigned n)
{
    kv_store_hungry(kit.store, hungry, n);
    kv_set_relaxed(kit.store->worker->hungry_ns,
                   kv_now_ns() + 600 * 1000000000ull);
}


static void
show(uint64_t began, uint32_t bytes)
{
    kv_hungry_t  hungry;

    hungry.began_ns = began;
    hungry.bytes = bytes;

    show_hungry(&hungry, bytes ? 1 : 0);
}


/*
 * Where memory is short the oldest upload is served first: a younger one leaves
 * what that is to get, small values do not, and a word that was said too long
 * ago keeps none waiting.
 */

static void
test_order_of_age(void **state)
{
    uint64_t   now;
    kv_op_t   *old, *young, *small;
    kv_zone_t *zone;

    static char  data[1 << 20];

    (void) state;

    zone = kit.store->zone;
    now = kv_now_ns();

    put(1, 6 << 20);

    old = upload("old", 1 << 20, 0);
    young = upload("young", 1 << 20, 0);
    kv_store_set_began(old, now - 2000000000);
    kv_store_set_began(young, now - 1000000000);

    /* as long as none is hungry, and while there is enough for both */

    assert_int_equal(kv_store_write(kit.store, young, 1 << 20, data, 100000),
                     KV_OK);
    show(now - 2000000000, 1 << 20);
    assert_int_equal(kv_store_write(kit.store, young, (1 << 20) + 100000, data,
                                    100000), KV_OK);

    /* all that is free is for the older one, and for what is small */

    show(now - 2000000000, 12 << 20);
    assert_int_equal(kv_store_write(kit.store, young, (1 << 20) + 200000, data,
                                    100000), KV_NO_MEMORY);
    assert_int_equal(kv_store_write(kit.store, old, 1 << 20, data, 100000),
                     KV_OK);
    assert_int_equal(kit_upload(kit.store, "s", 8000, 10, &small), KV_OK);
    assert_int_equal(kv_store_write(kit.store, small, 0, data, 8000), KV_OK);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    put(1, 3 << 20);

    /* a worker that is stopped, and then one that has none any more */

    show(now - 2000000000, 14 << 20);
    assert_int_equal(kv_store_write(kit.store, young, (1 << 20) + 200000, data,
                                    100000), KV_NO_MEMORY);
    kv_set_relaxed(kit.store->worker->hungry_ns, kv_now_ns() - 600000000);
    assert_int_equal(kv_store_write(kit.store, young, (1 << 20) + 200000, data,
                                    100000), KV_OK);
    assert_int_equal(atomic_load(&zone->hungry), 0);

    show(now - 2000000000, 14 << 20);
    assert_int_equal(kv_store_write(kit.store, young, (1 << 20) + 300000, data,
                                    100000), KV_NO_MEMORY);
    show(0, 0);
    assert_int_equal(kv_store_write(kit.store, young, (1 << 20) + 300000, data,
                                    100000), KV_OK);

    kv_store_release(kit.store, old);
    kv_store_release(kit.store, young);
    kv_store_release(kit.store, small);
    settled();
}


/* A quick upload goes for the oldest that is stuck, and for no other. */

static void
test_evict_stuck(void **state)
{
    uint64_t   now;
    kv_op_t   *old, *large, *little;

    (void) state;

    atomic_store(&kit.store->zone->limit[KV_HELD_UPLOADS], 16 << 20);
    now = kv_now_ns();

    old = upload("old", 5 << 20, 0);
    large = upload("large", 5 << 20, 0);
    little = upload("little", 3 << 20, 0);
    kv_store_set_began(old, now - 2000000000);

    show(now - 2000000000, 1 << 20);
    assert_int_equal(reserve(3 << 20, 5 << 20), KV_AGAIN);
    assert_false(kv_store_must_go(large));

    assert_int_equal(ask(3 << 20, 5 << 20, KV_OP_STUCK), KV_AGAIN);
    assert_true(kv_store_must_go(large));
    assert_false(kv_store_must_go(little));
    assert_false(kv_store_must_go(old));

    show(0, 0);
    kv_store_release(kit.store, old);
    kv_store_release(kit.store, large);
    kv_store_release(kit.store, little);
    settled();
}


/* Of two that began at the same time, and wait for each other, one goes. */

static void
test_evict_twins(void **state)
{
    uint64_t      now;
    kv_op_t      *twin[2];
    kv_hungry_t   hungry[2];

    (void) state;

    atomic_store(&kit.store->zone->limit[KV_HELD_UPLOADS], 16 << 20);
    now = kv_now_ns();

    put(1, 2 << 20);
    twin[0] = upload("one", 5 << 20, 0);
    twin[1] = upload("two", 11 << 19, 0);
    kv_store_set_began(twin[0], now - 2000000000);
    kv_store_set_began(twin[1], now - 2000000000);

    hungry[0].began_ns = hungry[1].began_ns = now - 2000000000;
    hungry[0].bytes = hungry[1].bytes = 1 << 20;
    show_hungry(hungry, 2);

    assert_int_equal(ask(3 << 20, 5 << 20, KV_OP_STUCK), KV_AGAIN);
    assert_true(kv_store_must_go(twin[1]));
    assert_false(kv_store_must_go(twin[0]));

    show(0, 0);
    kv_store_release(kit.store, twin[0]);
    kv_store_release(kit.store, twin[1]);
    settled();
}


/* The same as ask(): the worker runs, and yet may be found stopped. */

static uint64_t
evict_upload(void)
{
    uint64_t  coming;
    unsigned  rounds;

    coming = 0;

    for (rounds = 0; coming == 0 && rounds < ROUNDS; rounds++) {
        kv_store_beat(kit.store);
        coming = kv_evict(kit.store, KV_EVICT_UPLOADS, 1, KV_EVICT_AGE, NULL);
    }

    return coming;
}


/*
 * A worker that does not run sees nothing of what its clients send: they are
 * not to blame for it, and no request waits for what its evicted ones hold.
 */

static void
test_worker_stopped(void **state)
{
    kv_op_t           *op;
    uint64_t           time[4];
    const uint64_t     ns = 1000000;
    _Atomic uint64_t  *beat;

    (void) state;

    beat = &kit.store->worker->beat_ns;
    op = upload("stopped", 5 << 20, 0);
    history(op, 5 << 20, 300, 4 << 20, 400);

    time[0] = kv_now_ns();
    kv_store_beat(kit.store);
    kv_store_set_lasted(op, 1000 * ns);
    time[1] = kv_now_ns();
    atomic_store(beat, atomic_load(beat) - 600 * ns);

    assert_int_equal(kv_evict(kit.store, KV_EVICT_UPLOADS, 1, KV_EVICT_AGE,
                              NULL), 0);
    assert_false(kv_store_must_go(op));

    /* it runs again: of 600 ms those that it took to be missed are left */

    time[2] = kv_now_ns();
    kv_store_beat(kit.store);
    kv_store_stop_clock(op);
    time[3] = kv_now_ns();
    assert_in_range(kv_op_lasted(op, 0), 650 * ns - (time[1] - time[0]),
                    650 * ns + (time[3] - time[2]));

    lasts(op, 650);
    kv_store_beat(kit.store);
    assert_int_equal(kv_evict(kit.store, KV_EVICT_UPLOADS, 1, KV_EVICT_AGE,
                              NULL), 0);

    /* it runs, and still nothing comes */

    lasts(op, 1000);
    assert_true(evict_upload() > 0);
    assert_true(kv_store_must_go(op));
    assert_true(evict_upload() > 0);

    atomic_store(beat, atomic_load(beat) - 600 * ns);
    assert_int_equal(kv_evict(kit.store, KV_EVICT_UPLOADS, 1, KV_EVICT_AGE,
                              NULL), 0);

    kv_store_beat(kit.store);
    kv_store_release(kit.store, op);
    settled();
}


static void
wait_evicted(kv_op_t *op)
{
    uint64_t  end;

    end = kit_now_ms() + 30000;

    while (!kv_store_must_go(op) && kit_now_ms() < end) {
        host_process_events(&host,
                            (int) kv_min(kv_store_next_timeout(kit.store),
                                         100u));
    }

    assert_true(kv_store_must_go(op));
}


/* What is kept for readers is counted, and they are evicted for it. */

static void
test_evict_readers(void **state)
{
    kv_op_t    *old[3], *live, *upl;
    uint64_t    each;
    unsigned    i;
    kv_heap_t  *heap;

    (void) state;

    heap = kit.store->zone->heap;
    each = kv_entry_footprint(5, 3 << 20, 0);

    atomic_store(&kit.store->zone->limit[KV_HELD_UPLOADS], 16 << 20);
    atomic_store(&kit.store->zone->limit[KV_HELD_READERS], 16 << 20);

    /* the same version by two, another, and one that is not replaced */

    put(1, 3 << 20);
    old[0] = pin(1);
    old[1] = pin(1);
    put(1, 3 << 20);
    old[2] = pin(1);
    assert_int_equal(kv_heap_held(heap, KV_HELD_READERS), each);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_READERS), 2 * each);

    put(2, 1 << 20);
    live = pin(2);

    for (i = 0; i < 3; i++) {
        lasts(old[i], (10 - i) * 1000);
    }

    lasts(live, 1000000);
    upl = upload("u", 3 << 20, 1);
    history(upl, UINT32_MAX, 0, 0, 1000);

    /* the worst are two, and only both together are enough */

    assert_int_equal(ask(7 << 20, 0, 0), KV_AGAIN);
    assert_true(kv_store_must_go(old[0]));
    assert_true(kv_store_must_go(old[1]));
    assert_false(kv_store_must_go(old[2]));
    assert_false(kv_store_must_go(live));
    assert_false(kv_store_must_go(upl));

    kv_store_release(kit.store, old[0]);
    kv_store_release(kit.store, old[1]);
    assert_int_equal(reserve(0, 0), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_READERS), each);

    /* over the limit: at the next write */

    atomic_store(&kit.store->zone->limit[KV_HELD_READERS], each / 2);
    atomic_store(&kit.store->zone->evicted_ns, 0);
    put(3, 10);
    assert_false(kv_store_over(kit.store));
    put(4, 6 << 20);
    wait_evicted(old[2]);
    assert_false(kv_store_must_go(live));

    kv_store_release(kit.store, old[2]);
    kv_store_release(kit.store, live);
    kv_store_release(kit.store, upl);
    assert_int_equal(reserve(0, 0), KV_OK);
    assert_int_equal(kv_heap_held(heap, KV_HELD_READERS), 0);
    settled();
}


/* Over the limit for uploads, and the zone cannot spare it. */

static void
test_uploads_limit(void **state)
{
    kv_op_t   *slow, *quick;

    (void) state;

    atomic_store(&kit.store->zone->limit[KV_HELD_UPLOADS], 5 << 19);

    slow = upload("slow", 1 << 20, 10);
    quick = upload("quick", 2 << 20, 10);

    put(1, 6 << 20);
    assert_false(kv_store_over(kit.store));
    assert_false(kv_store_must_go(slow));

    put(2, 3 << 20);
    assert_true(kv_store_over(kit.store));
    wait_evicted(slow);
    assert_false(kv_store_must_go(quick));

    kv_store_release(kit.store, slow);
    kv_store_release(kit.store, quick);
    settled();
}


/* The zone is filled, and then most is deleted. */

static void
hold_pages(bool by_uploads, kv_op_t **holder, unsigned *holders)
{
    char       key[32];
    uint32_t   i, n, len;

    *holders = 0;
    len = by_uploads ? 2048 : 20000;

    for (n = 0; kit_put(&host, n, 1, len, NULL) == KV_OK; n++) {

        if (by_uploads && n % 25 == 0 && n < 5000) {
            (void) snprintf(key, sizeof(key), "upload%u", n);
            holder[(*holders)++] = upload(key, 2048, 2);
        }
    }

    for (i = 0; i < n; i++) {

        if (!by_uploads && i % 3 == 0) {
            holder[*holders] = pin(i);
            lasts(holder[(*holders)++], 2000);

        } else {
            assert_int_equal(kit_delete(&host, i), KV_OK);
        }
    }
}


/*
 * Most of the zone is free, but in each page is something that cannot be moved:
 * a value that is stored, and is being sent, or what an upload has received.
 */

static void
check_in_the_way(bool by_uploads)
{
    kv_rc_t   rc;
    kv_op_t  *holder[1000], *young;
    unsigned  i, holders, rounds;

    hold_pages(by_uploads, holder, &holders);
    put(10000, 20000);
    young = pin(10000);
    lasts(young, 0);

    for (rounds = 0; (rc = reserve(5 << 20, 0)) != KV_OK; rounds++) {

        assert_int_equal(rc, KV_AGAIN);
        assert_true(rounds < ROUNDS);

        for (i = 0; i < holders; i++) {
            if (holder[i] && kv_store_must_go(holder[i])) {
                kv_store_release(kit.store, holder[i]);
                holder[i] = NULL;
            }
        }
    }

    assert_true(rounds > 0);
    assert_false(kv_store_must_go(young));
    put(1, 5 << 20);

    for (i = 0; i < holders; i++) {
        if (holder[i]) {
            kv_store_release(kit.store, holder[i]);
        }
    }

    kv_store_release(kit.store, young);
    assert_int_equal(kit_clear(&host), KV_OK);
    settled();
}


static void
test_readers_in_the_way(void **state)
{
    (void) state;

    check_in_the_way(false);
}


static void
test_uploads_in_the_way(void **state)
{
    (void) state;

    check_in_the_way(true);
}


/*
 * A stored value that is sent costs no memory but the reader's record.  The
 * store gives out only a part of the zone for these, so writes go on.
 */

static void
test_very_many_readers(void **state)
{
    char         key[32];
    size_t       n, before;
    kv_rc_t      rc;
    kv_op_t     *op, *all;
    uint32_t     readers;
    kv_entry_t  *e;

    (void) state;

    put(1, 20000);

    n = kit_key(1, key);
    all = NULL;
    readers = 0;
    before = kit.size / 64;        /* that would fill it, with 64 bytes each */

    for ( ;; ) {
        assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
        rc = kv_store_pin(kit.store, e, &op);
        kv_store_read_done(kit.store);

        if (rc != KV_OK) {
            break;
        }

        op->data = all;
        all = op;
        readers++;

        assert_true(readers < before);
    }

    assert_int_equal(rc, KV_NO_MEMORY);
    assert_true(readers > before / 32);
    assert_true(readers < before / 4);

    put(2, 4 << 20);
    put(1, 30000);
    assert_int_equal(kit_delete(&host, 2), KV_OK);

    while (all) {
        op = all;
        all = op->data;
        kv_store_release(kit.store, op);
    }

    settled();
}


/* Whether a piece of the value has just been moved, and what it was is kept. */

static bool
is_moving(const kv_retire_list_t *retired, uint32_t id)
{
    char                 key[32];
    size_t               n;
    uint64_t             i;
    kv_entry_t          *owner;
    const kv_retired_t  *r;

    n = kit_key(id, key);

    for (i = retired->head; i != retired->tail; i++) {
        r = &retired->ring[i % KV_RETIRED_MAX];

        if ((r->object & 3) != KV_RETIRED_PIECE) {
            continue;
        }

        owner = ((kv_piece_t *) (r->object & ~(uintptr_t) 3))->owner;

        if (owner->key_len == n && memcmp(owner->key, key, n) == 0) {
            return true;
        }
    }

    return false;
}


/* Which of the values 0, 3, 6, ... below `n` are to be pinned now. */

static void
choose(bool *chosen, uint32_t i, uint32_t n)
{
    uint32_t    k;
    kv_zone_t  *zone;

    zone = kit.store->zone;

    /* the committer moves something after it has told what is done */

    while (kv_mutex_lock(&zone->commit_lock) != KV_OK) {
        /* void */
    }

    for (k = i - i % 3; k < n; k += 3) {
        chosen[k] = k <= i || is_moving(&zone->retired, k);
    }

    kv_mutex_unlock(&zone->commit_lock);
}


/*
 * Fills the zone, pins a third of the values and deletes the others, until some
 * of what is pinned was being moved then, between the batch that moves it and
 * the next one.  Returns the number of pins.
 */

static unsigned
pin_what_moves(kv_op_t **reader)
{
    bool      chosen[1000], pinned[1000];
    uint32_t  i, k, n;
    unsigned  readers, tries;

    for (tries = 0; tries < 50; tries++) {

        for (n = 0; kit_put(&host, n, 1, 20000, NULL) == KV_OK; n++) {
            assert_true(n < 1000);
            pinned[n] = false;
        }

        for (i = 0, readers = 0; i < n; i++) {

            if (i % 3 != 0) {
                assert_int_equal(kit_delete(&host, i), KV_OK);
            }

            choose(chosen, i, n);

            for (k = i - i % 3; k < n; k += 3) {
                if (!pinned[k] && chosen[k]) {
                    pinned[k] = true;
                    reader[readers++] = pin(k);
                }
            }
        }

        assert_int_equal(reserve(0, 0), KV_OK);

        if (kit.store->zone->retired.stale > 0) {
            return readers;
        }

        while (readers) {
            kv_store_release(kit.store, reader[--readers]);
        }

        assert_int_not_equal(reserve(9 << 20, 0), KV_NO_MEMORY);
    }

    fail_msg("nothing that is pinned was ever moved");

    return 0;
}


/*
 * What moved away from a value that was being sent comes free when it is not
 * any more, though the value stays.
 */

static void
test_moved_while_sent(void **state)
{
    kv_op_t   *reader[1000];
    kv_rc_t    rc;
    unsigned   i, readers, rounds;

    (void) state;

    readers = pin_what_moves(reader);

    for (i = 0; i < readers; i++) {
        kv_store_release(kit.store, reader[i]);
    }

    for (rounds = 0; (rc = reserve(9 << 20, 0)) == KV_AGAIN; rounds++) {
        assert_true(rounds < ROUNDS);
    }

    assert_int_equal(rc, KV_OK);

    /* and before the answer is that there is no memory at all */

    for (rounds = 0; reserve(14 << 20, 0) == KV_AGAIN; rounds++) {
        assert_true(rounds < ROUNDS);
    }

    assert_int_equal(kit.store->zone->retired.stale, 0);
    settled();
}


/* Readers of stored values are left alone where it would help no write. */

static void
test_readers_in_no_way(void **state)
{
    kv_op_t   *reader[10];
    uint32_t   i, n;

    (void) state;

    for (n = 0; kit_put(&host, n, 1, 20000, NULL) == KV_OK; n++) {
        /* void */
    }

    for (i = 0; i < 10; i++) {
        reader[i] = pin(i);
        lasts(reader[i], 100000);
    }

    assert_int_equal(ask(1 << 20, 0, 0), KV_NO_MEMORY);

    for (i = 0; i < 10; i++) {
        assert_false(kv_store_must_go(reader[i]));
        kv_store_release(kit.store, reader[i]);
    }

    settled();
}


/* What is full is refused without work, until something is freed. */

static void
test_full_once(void **state)
{
    uint32_t   i, n;
    uint64_t   moved;

    (void) state;

    for (n = 0; kit_put(&host, n, 1, 3000, NULL) == KV_OK; n++) {
        /* void */
    }

    assert_false(kv_store_full(kit.store, 100000));
    assert_int_equal(ask(100000, 0, 0), KV_NO_MEMORY);
    assert_true(kv_store_full(kit.store, 100000));
    assert_true(kv_store_full(kit.store, 200000));
    assert_false(kv_store_full(kit.store, 50000));

    moved = kv_get_relaxed(kit.store->zone->stats.moved);
    assert_int_equal(reserve(100000, 0), KV_NO_MEMORY);
    assert_int_equal(kv_get_relaxed(kit.store->zone->stats.moved), moved);

    for (i = 0; i < n; i += 2) {
        assert_int_equal(kit_delete(&host, i), KV_OK);
    }

    assert_false(kv_store_full(kit.store, 100000));

    while (reserve(1 << 20, 0) == KV_AGAIN) {
        /* void */
    }

    put(n, 1 << 20);
    read_again(1, 1);
    settled();
}


/*
 * An upload may be submitted at the moment when the committer evicts it: the
 * flag must not get into sync_ms, which then has the ticket's place, however
 * long that time is.
 */

static void
test_evicted_too_late(void **state)
{
    kv_rc_t    rc;
    kv_op_t   *op;
    uint32_t   ticket;

    (void) state;

    assert_int_equal(kit_upload(kit.store, "late", 10000, 1, &op), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, (char [10000]) { 0 },
                                    10000),
                     KV_OK);

    ticket = atomic_load(&op->ticket);

    kit.store->conf.sync = KV_SYNC_INTERVAL;
    kit.store->conf.sync_interval = ticket;

    assert_int_equal(kv_store_finish(kit.store, op, 10000), KV_OK);

    host.hold = true;
    host_post_tasks(&host, kv_store_submit(kit.store, op));

    assert_int_not_equal(op->sync_ms, 0);
    assert_int_equal(op->sync_ms & KV_TICKET_GO, 0);
    assert_false(atomic_compare_exchange_strong(&op->ticket, &ticket,
                                                ticket | KV_TICKET_GO));

    host.hold = false;
    host_post_tasks(&host, host.held);
    host.held = 0;

    while (!kv_store_done(op, &rc)) {
        host_process_events(&host, 5);
    }

    assert_int_equal(rc, KV_OK);
    kv_store_release(kit.store, op);
    settled();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_compact_beside_readers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_partly_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uploads_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deletes_work, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evict_uploads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evict_burst, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_of_age, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evict_stuck, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evict_twins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_worker_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evict_readers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uploads_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers_in_the_way, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_uploads_in_the_way, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_moved_while_sent, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_readers_in_no_way, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_very_many_readers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_full_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evicted_too_late, setup, teardown),
    };

    return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
