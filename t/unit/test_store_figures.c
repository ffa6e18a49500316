
/*
 * What a store tells people: figures, and that it is full; and what is told of
 * an upload.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "solo.h"
#include "base/kv_measure.h"
#include "memory/kv_heap_private.h"


static char      said[1024];         /* the last message */
static unsigned  messages;


static void
note(void *ctx, kv_log_level_t level, const char *text)
{
    (void) ctx;
    (void) level;

    messages++;
    (void) snprintf(said, sizeof(said), "%s", text);
}


static int
setup(void **state)
{
    (void) state;

    solo_init(&solo, 8 << 20);
    solo.conf.max_value = 1 << 20;
    solo.conf.segment = 4 << 20;

    return 0;
}


static void
test_measure(void **state)
{
    kv_measure_t  none, one, other;

    (void) state;

    memset(&none, 0, sizeof(kv_measure_t));
    memset(&one, 0, sizeof(kv_measure_t));
    memset(&other, 0, sizeof(kv_measure_t));

    assert_int_equal(kv_measure_min(&none), 0);
    assert_true(kv_measure_mean(&none) == 0.0);

    kv_measure_count(&one, 5);
    kv_measure_count(&one, 9);
    kv_measure_count(&one, 4);
    assert_int_equal(kv_measure_min(&one), 4);
    assert_int_equal(one.max, 9);
    assert_true(kv_measure_mean(&one) == 6.0);

    /* what has no values changes nothing, and is what it is given */

    kv_measure_add(&one, &none);
    assert_int_equal(kv_measure_min(&one), 4);
    assert_int_equal(one.count, 3);

    kv_measure_add(&other, &one);
    assert_int_equal(kv_measure_min(&other), 4);
    assert_int_equal(other.max, 9);
    assert_int_equal(other.count, 3);
    assert_int_equal(other.sum, 18);

    /* the least and the greatest of both */

    memset(&other, 0, sizeof(kv_measure_t));
    kv_measure_count(&other, 2);
    kv_measure_add(&one, &other);
    assert_int_equal(kv_measure_min(&one), 2);
    assert_int_equal(one.max, 9);

    memset(&other, 0, sizeof(kv_measure_t));
    kv_measure_count(&other, 10);
    kv_measure_add(&one, &other);
    assert_int_equal(kv_measure_min(&one), 2);
    assert_int_equal(one.max, 10);
    assert_int_equal(one.count, 5);
    assert_int_equal(one.sum, 30);
}


static void
test_histogram(void **state)
{
    uint64_t        upto[KV_HISTOGRAM_BOUNDS + 1], bound;
    unsigned        i;
    kv_histogram_t  h, sum;

    (void) state;

    memset(&h, 0, sizeof(kv_histogram_t));
    memset(&sum, 0, sizeof(kv_histogram_t));

    /* bounds belong to the bucket below them */

    assert_int_equal(kv_histogram_bucket(0, 50), 0);
    assert_int_equal(kv_histogram_bucket(1, 50), 0);

    for (i = 0; i < KV_HISTOGRAM_BOUNDS; i++) {
        bound = UINT64_C(50) << i;
        assert_int_equal(kv_histogram_bucket(bound, 50), i);
        assert_int_equal(kv_histogram_bucket(bound + 1, 50), i + 1);
    }

    assert_int_equal(kv_histogram_bucket(UINT64_MAX, 50), KV_HISTOGRAM_BOUNDS);
    assert_int_equal(kv_histogram_bucket(UINT64_MAX, 1), KV_HISTOGRAM_BOUNDS);
    assert_int_equal(kv_histogram_bucket(2, 1), 1);
    assert_int_equal(kv_histogram_bucket(3, 1), 2);

    kv_histogram_upto(&h, upto);
    assert_int_equal(upto[KV_HISTOGRAM_BOUNDS], 0);

    kv_histogram_count(&h, 0, 50);
    kv_histogram_count(&h, 50, 50);
    kv_histogram_count(&h, 51, 50);
    kv_histogram_count(&h, UINT64_C(50) << 15, 50);
    kv_histogram_count(&h, 10000000, 50);

    kv_histogram_add(&sum, &h);
    kv_histogram_add(&sum, &h);
    kv_histogram_upto(&sum, upto);

    assert_int_equal(upto[0], 4);
    assert_int_equal(upto[1], 6);
    assert_int_equal(upto[14], 6);
    assert_int_equal(upto[15], 8);
    assert_int_equal(upto[KV_HISTOGRAM_BOUNDS], 10);
    assert_int_equal(sum.measure.count, 10);
    assert_int_equal(sum.measure.max, 10000000);
}


static void
test_figures(void **state)
{
    kv_op_t        *op[3], *upload;
    kv_rc_t         rc[3];
    uint32_t        i, len;
    kv_zone_t      *zone;
    kv_figures_t    f;

    static char  data[200000];

    (void) state;

    solo.conf.sync = KV_SYNC_OFF;
    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;

    kv_store_figures(solo.host.store, &f);
    assert_string_equal(f.state, "ready");
    assert_int_equal(f.keys, 0);
    assert_int_equal(f.batch.count, 0);
    assert_int_equal(f.batch.min, 0);
    assert_true(f.batch.mean == 0.0);
    assert_int_equal(f.next_lsn, 1);
    assert_int_equal(f.unsynced_ms, 0);

    /* a batch of three, and one of one; key-N are 5 bytes */

    for (i = 0; i < 3; i++) {
        assert_int_equal(kit_begin_put(&solo.host, i, 1, 1000, &op[i]), KV_OK);
    }

    solo_commit(&solo, op, 3, rc);
    assert_int_equal(solo_put(&solo, 3, 30000), KV_OK);

    kv_store_figures(solo.host.store, &f);
    len = 4 * 5 + 3 * 1000 + 30000;
    assert_int_equal(f.keys, 4);
    assert_int_equal(f.bytes, len);
    assert_int_equal(f.payload, len);
    assert_int_equal(f.batch.count, 2);
    assert_int_equal(f.batch.sum, 4);
    assert_int_equal(f.batch.min, 1);
    assert_int_equal(f.batch.max, 3);
    assert_true(f.batch.mean == 2.0);
    assert_int_equal(f.wait.count, 4);
    assert_int_equal(f.next_lsn, 5);
    assert_true(f.used > len && f.used <= f.held);
    assert_true((f.index > 0) == solo.conf.list && f.index < f.used - len);
    assert_int_equal(f.log_segments, 1);
    assert_true(f.log_bytes > len);
    assert_int_equal(f.snapshot_log_bytes, f.log_bytes);

    /* what is not synced grows old */

    assert_true(f.durable_lsn < 4);
    assert_true(f.unsynced_ms >= 1);
    atomic_store(&zone->unsynced_ns, kv_now_ns() - 5000000000);
    assert_in_range(kv_store_unsynced(solo.host.store), 5000, 60000);
    atomic_store(&zone->unsynced_ns, kv_now_ns() + 5000000000);
    assert_int_equal(kv_store_unsynced(solo.host.store), 1);

    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.snapshots, 1);
    assert_int_equal(f.snapshots_failed, 0);
    assert_int_equal(f.snapshot_lsn, 4);
    assert_true(f.snapshot_bytes > len);
    assert_true(f.snapshot_log_bytes < f.log_bytes);

    /* who holds what */

    assert_int_equal(kit_upload(solo.host.store, "u", 1 << 20, 200000, &upload),
                     KV_OK);
    assert_int_equal(kv_store_write(solo.host.store, upload, 0, data, 200000),
                     KV_OK);
    kv_store_figures(solo.host.store, &f);
    assert_in_range(f.uploads.bytes, 200000, 300000);
    assert_in_range(kv_store_held(upload), 200000, 300000);
    assert_int_equal(f.uploads.limit, atomic_load(&zone->limit[0]));
    assert_int_equal(f.readers.bytes, 0);
    kv_store_release(solo.host.store, upload);

    /* a broken heap has none */

    atomic_store(&zone->heap->broken, true);
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.used, 0);
    assert_int_equal(f.free_pages, 0);
    assert_string_equal(f.state, "recovering");
    atomic_store(&zone->heap->broken, false);

    solo_stop(&solo, true);
    assert_int_equal(solo_start(&solo), KV_OK);
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.recovered_snapshot, 4);
    assert_int_equal(f.recovered_log, 0);
    assert_int_equal(f.keys, 4);
}


/* Histograms, times of day, and what the master counts. */

static void
test_more_figures(void **state)
{
    kv_op_t       *op[3];
    kv_rc_t        rc[3];
    uint32_t       i;
    uint64_t       began, time;
    kv_zone_t     *zone;
    kv_figures_t   f;

    (void) state;

    began = kv_wall_ns() / 1000000 - 1;
    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;

    for (i = 0; i < 3; i++) {
        assert_int_equal(kit_begin_put(&solo.host, i, 1, 1000, &op[i]), KV_OK);
    }

    solo_commit(&solo, op, 3, rc);
    assert_int_equal(solo_put(&solo, 3, 30000), KV_OK);

    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.batch.first, 1);
    assert_int_equal(f.batch.upto[0], 1);
    assert_int_equal(f.batch.upto[1], 1);
    assert_int_equal(f.batch.upto[2], 2);
    assert_int_equal(f.batch.upto[KV_HISTOGRAM_BOUNDS], 2);
    assert_int_equal(f.wait.first, 50);
    assert_int_equal(f.wait.upto[KV_HISTOGRAM_BOUNDS], 4);
    assert_int_equal(f.sync.upto[KV_HISTOGRAM_BOUNDS], f.sync.count);
    assert_true(f.fragmentation >= 0 && f.fragmentation < 1);
    assert_int_equal(f.snapshot_time_ms, 0);

    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    kv_store_figures(solo.host.store, &f);
    assert_in_range(f.snapshot_time_ms, began, kv_wall_ns() / 1000000 + 1);
    assert_int_equal(f.snapshot_failed_ms, 0);
    assert_in_range(f.recovered_ms, began, f.snapshot_time_ms);

    /* only of a zone whose layout is known */

    kv_store_reload_refused(NULL);
    kv_store_reload_refused(zone);
    kv_store_reload_refused(zone);
    zone->layout--;
    kv_store_reload_refused(zone);
    zone->layout++;
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.reloads_refused, 2);

    /* the time of a snapshot is in it */

    time = f.snapshot_time_ms;
    solo_stop(&solo, true);
    assert_int_equal(solo_start(&solo), KV_OK);
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.snapshot_time_ms, time);
    assert_int_equal(f.reloads_refused, 0);
    assert_int_equal(f.batch.upto[KV_HISTOGRAM_BOUNDS], 0);
}


/* A disk whose size and space are the test's. */

static struct {
    uint64_t  size;                  /* 0: it does not tell */
    uint64_t  available;
    unsigned  measured;
    unsigned  before;                /* of these, before the first snapshot */
    ssize_t (*pwritev)(kv_io_t *io, int fd, const struct iovec *iov, int n,
                       off_t offset);
} disk;


static int
disk_space(kv_io_t *io, int fd, uint64_t *size, uint64_t *available)
{
    kv_zone_t  *zone;

    (void) io;
    (void) fd;

    zone = solo.mem;
    disk.measured++;
    disk.before += atomic_load(&zone->snapshots) == 0;

    *size = disk.size;
    *available = disk.available;

    return disk.size ? 0 : -1;
}


/* Somebody asks while it is written to. */

static ssize_t
disk_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    kv_zone_t  *zone;

    zone = solo.mem;
    atomic_store(&zone->disk_ns, 0);
    assert_true(kv_store_ask_disk_space(solo.host.store));

    return disk.pwritev(io, fd, iov, n, offset);
}


static void
test_disk_space(void **state)
{
    uint32_t      i;
    kv_zone_t    *zone;
    kv_figures_t  f;

    (void) state;

    disk.size = 1000000;
    disk.available = 500000;
    solo.ram.io.space = disk_space;
    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;

    /* it is known from the start on */

    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.disk_size, 1000000);
    assert_int_equal(f.disk_available, 500000);
    assert_int_equal(f.archive_disk_size, 0);
    assert_int_equal(disk.measured, 1);

    /* once a second at most, and by the background task */

    disk.available = 400000;
    assert_false(kv_store_ask_disk_space(solo.host.store));
    solo_background(&solo, 0);
    assert_int_equal(disk.measured, 1);

    atomic_store(&zone->disk_ns, kv_now_ns() - 2000000000);
    assert_true(kv_store_ask_disk_space(solo.host.store));
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.disk_available, 500000);
    assert_true(kv_store_todo(solo.host.store) & KV_TODO_BACKGROUND);
    kv_store_unclaim(solo.host.store, KV_TODO_BACKGROUND);

    solo_background(&solo, 0);
    assert_int_equal(disk.measured, 2);
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.disk_available, 400000);
    assert_false(kv_store_ask_disk_space(solo.host.store));

    /* one that does not tell any more */

    disk.size = 0;
    solo_background(&solo, KV_REQUEST_DISK_SPACE);
    assert_int_equal(disk.measured, 3);
    assert_int_equal(disk.before, 3);
    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.disk_size, 1000000);
    assert_int_equal(f.disk_available, 400000);

    /* a long snapshot does not keep it from being known */

    for (i = 0; i < 5; i++) {
        assert_int_equal(solo_put(&solo, i, 900000), KV_OK);
    }

    disk.pwritev = solo.ram.io.pwritev;
    solo.ram.io.pwritev = disk_pwritev;
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    solo.ram.io.pwritev = disk.pwritev;
    assert_int_equal(atomic_load(&zone->snapshots), 1);
    assert_true(disk.before > 3);
    solo_background(&solo, 0);
}


/* That it is full is said once a minute, and how often since. */

static void
test_refused(void **state)
{
    kv_zone_t     *zone;
    kv_figures_t   f;

    (void) state;

    solo.conf.log = note;
    assert_int_equal(solo_start(&solo), KV_OK);
    zone = solo.host.store->zone;
    assert_int_equal(solo_put(&solo, 1, 700000), KV_OK);
    messages = 0;

    kv_store_refused(solo.host.store);
    assert_int_equal(messages, 1);
    assert_non_null(strstr(said, "\"test\" is full: 1 write was refused"));
    assert_non_null(strstr(said, "keys and values take 8 % of it, unfinished "
                                 "uploads 0 %, values kept for slow readers 0 "
                                 "%"));

    kv_store_refused(solo.host.store);
    kv_store_refused(solo.host.store);
    assert_int_equal(messages, 1);

    atomic_store(&zone->full_logged_ns, kv_now_ns() - 61 * 1000000000ull);
    kv_store_refused(solo.host.store);
    assert_int_equal(messages, 2);
    assert_non_null(strstr(said, "is full: 3 writes were refused"));

    /* where it cannot be told what fills it, it is not */

    atomic_store(&zone->full_logged_ns, kv_now_ns() - 61 * 1000000000ull);
    atomic_store(&zone->heap->broken, true);
    kv_store_refused(solo.host.store);
    assert_int_equal(messages, 2);
    atomic_store(&zone->heap->broken, false);

    kv_store_figures(solo.host.store, &f);
    assert_int_equal(f.refused, 5);
}


/* What an upload gets a second: since it began, without what it waited. */

static void
test_pace(void **state)
{
    kv_op_t     *op;
    kv_store_t  *store;

    static char  data[1 << 20];

    (void) state;

    assert_int_equal(solo_start(&solo), KV_OK);
    store = solo.host.store;

    assert_int_equal(kit_upload(store, "u", 1 << 20, 1, &op), KV_OK);
    assert_int_equal(kv_store_held(op) < 1000, true);
    assert_int_equal(kv_store_write(store, op, 0, data, 1), KV_OK);

    kv_set_relaxed(op->queued_ns, 10 * 1000000000ull | KV_OP_STOPPED);
    assert_int_equal(kv_store_pace(op), KV_PAGE_SIZE);

    /* 100 kB/s; the mark moves with the bytes that come after a while */

    assert_int_equal(kv_store_write(store, op, 1, data, 999999), KV_OK);
    assert_int_equal(kv_store_pace(op), 100000);
    assert_int_equal(kv_get_relaxed(op->pace), 100000);
    assert_int_equal((uint32_t) kv_get_relaxed(op->mark), 1000000);
    assert_int_equal(kv_get_relaxed(op->mark) >> 32, 10000);

    kv_store_start_clock(op);
    kv_store_set_lasted(op, 0);
    assert_in_range(kv_store_pace(op), 1 << 20, KV_VALUE_MAX);

    /* what began after now is as old as nothing */

    kv_set_relaxed(op->queued_ns, kv_now_ns() + 1000000000);
    assert_int_equal(kv_store_pace(op), KV_VALUE_MAX);

    kv_store_release(store, op);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, setup, solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_measure),
        cmocka_unit_test(test_histogram),
        TEST(test_figures),
        TEST(test_more_figures),
        TEST(test_disk_space),
        TEST(test_refused),
        TEST(test_pace)
    };

    return cmocka_run_group_tests_name("figures", tests, NULL, NULL);
}
