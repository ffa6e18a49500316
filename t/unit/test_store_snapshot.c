
/*
 * Snapshots beside writes: what they hold, what an older one and the log before
 * it give back, and what is left of one that fails.
 */

/* tsan */
/* cluster */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/kv_record.h"
#include "store_rig.h"


/* of a snapshot's epoch: the small entries that it may copy, and their bytes */
#define EPOCH_ENTRIES  300u
#define EPOCH_BYTES    (EPOCH_ENTRIES * (KV_ENTRY_INLINE + 64))


/* What a snapshot does in its epochs, by what the linker leads here. */

static struct {
    _Atomic bool  on;            /* the rest belongs to its thread */
    bool          waited;        /* in an epoch, for the disk or the time */
    unsigned      paused;        /* to give way to writes */
    unsigned      epochs;
    uint64_t      entries;       /* of this epoch, */
    uint64_t      bytes;
    uint64_t      most_entries;  /* and the most of any */
    uint64_t      most_bytes;
    uint64_t      pinned;        /* bytes copied out of epochs */
} scan;


uint64_t __real_kv_map_walk(kv_map_t *map, uint64_t from, unsigned n,
    kv_map_pt cb, void *ctx);
uint64_t __wrap_kv_map_walk(kv_map_t *map, uint64_t from, unsigned n,
    kv_map_pt cb, void *ctx);
void __real_kv_record_encode(const kv_record_t *rec, void *dst);
void __wrap_kv_record_encode(const kv_record_t *rec, void *dst);
size_t __real_kv_entry_iov(const kv_entry_t *e, struct iovec *iov, size_t max,
    size_t from);
size_t __wrap_kv_entry_iov(const kv_entry_t *e, struct iovec *iov, size_t max,
    size_t from);
int __real_nanosleep(const struct timespec *pause, struct timespec *left);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *left);


static bool
scanning(void)
{
    return scan.on && pthread_equal(pthread_self(), host.thread[1]);
}


static bool
in_epoch(void)
{
    return kit.store->worker->epoch[KV_EPOCH_SCAN].value != 0;
}


/* The calling thread waits for something. */

static void
waits(void)
{
    if (scanning() && in_epoch()) {
        scan.waited = true;
    }
}


static void
copied(uint64_t entries, uint64_t bytes)
{
    scan.entries += entries;
    scan.bytes += bytes;
    scan.most_entries = kv_max(scan.most_entries, scan.entries);
    scan.most_bytes = kv_max(scan.most_bytes, scan.bytes);
}


uint64_t
__wrap_kv_map_walk(kv_map_t *map, uint64_t from, unsigned n, kv_map_pt cb,
    void *ctx)
{
    if (scanning()) {
        scan.epochs++;
        scan.entries = 0;
        scan.bytes = 0;
    }

    return __real_kv_map_walk(map, from, n, cb, ctx);
}


void
__wrap_kv_record_encode(const kv_record_t *rec, void *dst)
{
    if (scanning() && in_epoch()) {
        copied(1, kv_record_size(rec));
    }

    __real_kv_record_encode(rec, dst);
}


size_t
__wrap_kv_entry_iov(const kv_entry_t *e, struct iovec *iov, size_t max,
    size_t from)
{
    size_t  i, n;

    n = __real_kv_entry_iov(e, iov, max, from);

    if (!scanning() || !(e->flags & KV_ENTRY_PIECES)) {
        return n;
    }

    for (i = 0; i < n; i++) {
        if (in_epoch()) {
            copied(0, iov[i].iov_len);

        } else {
            scan.pinned += iov[i].iov_len;
        }
    }

    return n;
}


int
__wrap_nanosleep(const struct timespec *pause, struct timespec *left)
{
    waits();

    if (scanning()) {
        scan.paused++;
    }

    return __real_nanosleep(pause, left);
}


static ssize_t
watched_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    (void) io;
    waits();

    return kit.io->base.pwritev(&kit.io->base, fd, iov, n, offset);
}


static int
watched_fsync(kv_io_t *io, int fd)
{
    (void) io;
    (void) fd;
    waits();

    return 0;
}


/*
 * As long as a snapshot is in an epoch, no memory is freed.  So it copies a few
 * entries in each, only the keys of large ones, and waits for nothing in it.
 */

static void
test_epochs(void **state)
{
    uint32_t    id, n;
    kv_zone_t  *zone;

    static const struct {
        uint32_t  n, len;
    } some[] = {
        { 1, 4 << 20 }, { 20, 300000 }, { 1000, 8000 }, { 3000, 20 }
    };

    (void) state;

    kit.size = 64 << 20;
    kit.conf.segment = 8 << 20;
    kit.conf.max_value = 4 << 20;
    kit.conf.sync = KV_SYNC_OFF;
    kit.io->io.pwritev = watched_pwritev;
    kit.io->io.fsync = watched_fsync;
    kit.io->io.fdatasync = watched_fsync;
    rig_start();
    zone = kit.store->zone;

    for (n = 0, id = 0; n < sizeof(some) / sizeof(some[0]); n++) {
        for (uint32_t i = 0; i < some[n].n; i++, id++) {
            assert_int_equal(kit_put(&host, id, 1, some[n].len, NULL), KV_OK);
        }
    }

    memset(&scan, 0, sizeof(scan));
    scan.on = true;
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);

    /* it gives way to these */

    for (n = 1;
         atomic_load(&zone->snapshots) == 0 || atomic_load(&zone->background);
         n++)
    {
        assert_int_equal(kit_put(&host, id, n, 20, NULL), KV_OK);
        assert_int_equal(atomic_load(&zone->snapshots_failed), 0);
    }

    scan.on = false;

    assert_int_equal(scan.pinned, (4 << 20) + 20 * 300000);
    assert_true(scan.epochs >= id / EPOCH_ENTRIES);
    assert_in_range(scan.most_entries, 1, EPOCH_ENTRIES);
    assert_in_range(scan.most_bytes, 1, EPOCH_BYTES);
    assert_true(scan.paused > 0);
    assert_false(scan.waited);

    rig_stop();
}


static void
test_snapshot_while_writing(void **state)
{
    uint64_t  end;

    (void) state;

    kit.conf.snapshot = 1 << 20;
    rig_start();
    end = kit_now_ms() + 30000;

    while (atomic_load(&kit.store->zone->snapshots) < 3) {
        assert_true(kit_now_ms() < end);
        rig_traffic(20);
        host_process_events(&host, 0);
    }

    while (atomic_load(&kit.store->zone->background)) {
        host_process_events(&host, 5);
    }

    assert_int_equal(atomic_load(&kit.store->zone->snapshots_failed), 0);
    rig_verify();
    rig_restart();
    rig_stop();
}


/* Files made smaller; whether the first is to quit; what the second found. */

static _Atomic int    shrinks;
static _Atomic bool   shrink_quits;
static _Atomic bool   shrink_requested;


/* How many files there are whose names begin so; deletes them if told to. */

static unsigned
files_named(const char *begin, bool delete)
{
    DIR            *dir;
    unsigned        n;
    struct dirent  *de;

    n = 0;
    dir = opendir(kit.path);
    assert_non_null(dir);

    while ((de = readdir(dir)) != NULL) {

        if (strncmp(de->d_name, begin, strlen(begin)) != 0) {
            continue;
        }

        n++;

        if (delete) {
            assert_int_equal(unlinkat(dirfd(dir), de->d_name, 0), 0);
        }
    }

    (void) closedir(dir);

    return n;
}


static int
count_shrinks(kv_io_t *io, int fd, off_t len)
{
    kv_zone_t  *zone;

    (void) io;
    zone = kit.store->zone;

    switch (++shrinks) {

    case 1:
        rig_quitting = shrink_quits;
        (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SEGMENT);
        break;

    case 2:
        shrink_requested = atomic_load(&zone->requests) & KV_REQUEST_SEGMENT;
        break;
    }

    return kit.io->base.ftruncate(&kit.io->base, fd, len);
}


/*
 * Two snapshots stay, and what an older one took is given back in steps, as
 * writes go on meanwhile: a segment that they ask for is made in between.  All
 * the rest is given back at once if the process is to quit.
 */

static void
test_old_files(void **state)
{
    uint32_t  round, id;

    (void) state;

    kit.size = 64 << 20;
    kit.io->io.ftruncate = count_shrinks;
    kit.conf.stopping = rig_is_quitting;
    rig_quitting = false;
    rig_start();
    shrinks = 0;
    shrink_quits = false;
    shrink_requested = true;

    for (round = 1; round <= 4; round++) {

        if (round < 4) {
            assert_int_equal(shrinks, 0);

        } else {
            assert_true(shrinks >= 2);
            assert_false(shrink_requested);
            shrink_quits = true;
            shrinks = 0;
        }

        for (id = 0; id < 200; id++) {
            assert_int_equal(kit_put(&host, 5000 + id, round, 100000, NULL),
                             KV_OK);
        }

        rig_snapshot();
    }

    assert_int_equal(shrinks, 1);
    assert_int_equal(files_named("snap-", false), 2);

    rig_stop();
}


/*
 * A snapshot takes long.  If the log needs a segment meanwhile, it is made at
 * once: the committer would have to make it otherwise.
 */

static void
test_spare_in_snapshot(void **state)
{
    uint64_t     end;
    kv_zone_t   *zone;

    (void) state;

    rig_start();
    rig_traffic(60);

    while (atomic_load(&kit.store->zone->background)) {
        host_process_events(&host, 5);
    }

    zone = kit.store->zone;
    end = kit_now_ms() + 30000;

    (void) files_named("spare-", true);

    atomic_store(&kit.io->slow_sync_us, 100000);
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    host_post_tasks(&host, KV_TODO_BACKGROUND);

    while (files_named("snap-", false) == 0) {
        assert_true(kit_now_ms() < end);
    }

    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SEGMENT);

    while (files_named("spare-", false) == 0) {
        assert_true(kit_now_ms() < end);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 0);

    atomic_store(&kit.io->slow_sync_us, 0);

    while (atomic_load(&zone->snapshots) == 0) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    rig_stop();
}


/* The entries of a directory whose name ends so; "" is any. */

static unsigned
count_names(const char *path, const char *end)
{
    DIR            *dir;
    size_t          n;
    unsigned        found;
    struct dirent  *d;

    dir = opendir(path);
    assert_non_null(dir);

    for (found = 0; (d = readdir(dir)) != NULL; /* void */ ) {
        n = strlen(d->d_name);
        found += n >= strlen(end)
                 && strcmp(d->d_name + n - strlen(end), end) == 0;
    }

    (void) closedir(dir);

    return found;
}


/* A snapshot that fails at its end leaves nothing: no file, no descriptor. */

static void
test_snapshot_fails(void **state)
{
    unsigned    fds;
    uint64_t    end;
    kv_zone_t  *zone;

    (void) state;

    rig_start();
    zone = kit.store->zone;

    rig_put(1, 1, 100);
    rig_put(2, 1, 100000);

    fds = count_names("/proc/self/fd", "");
    atomic_store(&kit.io->fail_sync, ENOSPC);
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    end = kit_now_ms() + 30000;

    while (atomic_load(&zone->snapshots_failed) == 0
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    assert_int_equal(count_names(kit.path, ".tmp"), 0);
    assert_true(count_names("/proc/self/fd", "") <= fds);

    atomic_store(&kit.io->fail_sync, 0);
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);

    while (atomic_load(&zone->snapshots) == 0
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    rig_stop();
}


/*
 * Writes that were answered without a sync, and then it fails: a snapshot
 * cannot be made, and is not tried over and over.
 */

static void
test_snapshot_after_error(void **state)
{
    uint64_t    end;
    kv_zone_t  *zone;

    (void) state;

    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 3600 * 1000;
    rig_start();
    zone = kit.store->zone;

    rig_put(1, 1, 100);              /* the first of all is synced */
    rig_put(2, 1, 100);
    rig_put(3, 1, 100);

    atomic_store(&kit.io->fail_sync, EIO);
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);
    end = kit_now_ms() + 30000;

    while (!!kv_state_writes(zone) || atomic_load(&zone->background)) {
        if (kit_now_ms() > end) {
            fail_msg("the background task does not end: %llu snapshots "
                     "failed", (unsigned long long)
                     atomic_load(&zone->snapshots_failed));
        }

        host_process_events(&host, 5);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 0);
    assert_int_equal(atomic_load(&zone->snapshots_failed), 1);
    assert_int_equal(atomic_load(&zone->requests) & KV_REQUEST_SNAPSHOT, 0);

    atomic_store(&kit.io->fail_sync, 0);
    rig_stop();
}


/*
 * Snapshots that were deleted under the store: the next spare segment comes
 * with a new one, from what is in memory, and a restart needs no other.
 */

static void
test_snapshots_deleted(void **state)
{
    uint64_t    end;
    kv_zone_t  *zone;

    (void) state;

    rig_start();
    zone = kit.store->zone;

    rig_put(1, 1, 100);
    rig_snapshot();
    rig_put(2, 1, 100000);
    rig_snapshot();
    rig_put(3, 1, 100);

    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SEGMENT);
    end = kit_now_ms() + 30000;

    while (atomic_load(&zone->requests) || atomic_load(&zone->background)) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 2);

    assert_int_equal(files_named("snap-", true), 2);
    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SEGMENT);

    while (atomic_load(&zone->snapshots) < 3
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }

    assert_int_equal(files_named("snap-", false), 1);

    rig_restart();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_epochs),
        TEST(test_snapshot_while_writing),
        TEST(test_old_files),
        TEST(test_snapshots_deleted),
        TEST(test_spare_in_snapshot),
        TEST(test_snapshot_fails),
        TEST(test_snapshot_after_error)
    };

    return cmocka_run_group_tests_name("store snapshot", tests, NULL, NULL);
}
