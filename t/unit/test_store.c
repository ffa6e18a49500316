
/*
 * The store in one process: a main thread that submits, threads that commit
 * and do the background work, and restarts from disk.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kit.h"
#include "disk/kv_snapshot.h"


#define IDS  2000u


#ifdef __SANITIZE_THREAD__
#define REWRITES  5
#else
#define REWRITES  10
#endif


/* What there is to be: versions by key, 0 for none. */

static kit_t      kit;
static host_t     host;
static bool       running;          /* the host */
static uint32_t   shadow[IDS];
static uint64_t   seed;

/* Files made smaller; whether the first is to quit; what the second found. */

static _Atomic int    shrinks;
static _Atomic bool   shrink_quits;
static _Atomic bool   shrink_asked;
static _Atomic bool   rig_quitting;


static uint32_t
rig_rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (uint32_t) (seed >> 16) % n;
}


static int
rig_setup(void **state)
{
    (void) state;

    seed = 88172645463325252ull;
    memset(shadow, 0, sizeof(shadow));

    kit_open(&kit, 16 << 20, 8);
    kit.io->fast = true;

    return 0;
}


static int
rig_teardown(void **state)
{
    (void) state;

    if (running) {
        running = false;
        (void) host_stop(&host);
    }

    kit_close(&kit);

    return 0;
}


static void
rig_start(void)
{
    if (kit_start(&kit) != KV_OK) {
        fail_msg("%s", kit.err.text);
    }

    assert_int_equal(host_start(&host, kit.store), KV_OK);
    running = true;
}


static void
rig_settled(void)
{
    const char  *wrong;

    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s", wrong);
    }
}


static void
rig_stop(void)
{
    running = false;
    assert_true(host_stop(&host));
    kit_stop(&kit);
}


static void
rig_verify(void)
{
    kv_rc_t   rc;
    uint32_t  id, version, keys;

    keys = 0;

    for (id = 0; id < IDS; id++) {
        rc = kit_get(&host, id, &version, NULL);

        if (rc != (shadow[id] ? KV_OK : KV_NOT_FOUND)
            || (rc == KV_OK && version != shadow[id]))
        {
            fail_msg("key %u: rc %d, version %u, not %u", id, rc,
                     rc == KV_OK ? version : 0, shadow[id]);
        }

        keys += shadow[id] != 0;
    }

    assert_int_equal(atomic_load(&kit.store->zone->map.keys), keys);
}


static void
rig_restart(void)
{
    rig_stop();
    rig_start();
    rig_verify();
    rig_settled();
}


static void
rig_put(uint32_t id, uint32_t version, uint32_t len)
{
    assert_int_equal(kit_put(&host, id, version, len, NULL), KV_OK);
    shadow[id] = version;
}


/* Some of everything, one by one and many at a time. */

static void
rig_traffic(unsigned rounds)
{
    char       key[32];
    size_t     n;
    kv_rc_t    rc;
    kv_op_t   *op[64];
    uint32_t   id;
    unsigned   i, k, count;

    static uint32_t  version;

    for (i = 0; i < rounds; i++) {
        count = 1 + rig_rnd(64);

        for (k = 0; k < count; k++) {
            id = rig_rnd(IDS);
            version++;

            if (rig_rnd(4)) {
                rc = kit_begin_put(&host, id, version,
                                   rig_rnd(40) ? 8 + rig_rnd(900)
                                               : 30000 + rig_rnd(100000),
                                   &op[k]);
                shadow[id] = version;

            } else {
                n = kit_key(id, key);
                rc = kv_store_delete(kit.store, key, (uint16_t) n, &op[k]);
                shadow[id] = 0;
            }

            assert_int_equal(rc, KV_OK);
            host_do(&host, kv_store_submit(kit.store, op[k]));
        }

        for (k = 0; k < count; k++) {
            while (!kv_store_done(op[k], &rc)) {
                host_turn(&host, KV_STORE_WATCH);
            }

            assert_int_equal(rc, KV_OK);
            kv_store_release(kit.store, op[k]);
        }
    }
}


/* Makes one, and waits for it. */

static void
rig_snapshot(void)
{
    uint64_t    end, made;
    kv_zone_t  *zone;

    zone = kit.store->zone;
    end = kit_now_ms() + 10000;
    made = atomic_load(&zone->snapshots) + atomic_load(&zone->snapshots_failed);

    (void) atomic_fetch_or(&zone->wants, KV_WANT_SNAPSHOT);

    while (atomic_load(&zone->snapshots)
           + atomic_load(&zone->snapshots_failed) == made
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
    }
}


static void
test_operations(void **state)
{
    kv_rc_t       rc;
    kv_op_t      *op;
    uint32_t      len, version;
    kv_entry_t   *e;

    static char  data[100000];

    (void) state;

    rig_start();

    assert_int_equal(kit_get(&host, 1, &version, NULL), KV_NOT_FOUND);
    rig_put(1, 1, 8);
    rig_put(2, 2, 300000);
    assert_int_equal(kit_get(&host, 2, &version, &len), KV_OK);
    assert_int_equal(len, 300000);
    rig_put(1, 3, 90000);
    rig_put(2, 4, 9);
    rig_verify();

    /* a delete of what is not there is no error; nothing stays of it */

    assert_int_equal(kit_delete(&host, 77), KV_OK);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    shadow[1] = 0;
    rig_verify();

    /* of unknown length, and empty */

    memset(data, 'x', sizeof(data));
    assert_int_equal(kv_store_put(kit.store, "chunked", 7, KV_LENGTH_UNKNOWN,
                                  &op), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, data, 70000), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 70000, data, 11), KV_OK);
    assert_int_equal(kv_store_finish(kit.store, op, 70011), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    assert_int_equal(kv_store_put(kit.store, "empty", 5, 0, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    for (unsigned i = 0; i < 2; i++) {
        rc = kv_store_read(kit.store, "chunked", 7, &e);
        assert_int_equal(rc, KV_OK);
        assert_int_equal(e->value_len, 70011);
        kv_store_read_done(kit.store);

        rc = kv_store_read(kit.store, "empty", 5, &e);
        assert_int_equal(rc, KV_OK);
        assert_int_equal(e->value_len, 0);
        kv_store_read_done(kit.store);

        rig_settled();
        rig_stop();
        rig_start();
    }

    /* given up: building, built, and never written */

    assert_int_equal(kit_begin_put(&host, 5, 1, 90000, &op), KV_OK);
    kv_store_release(kit.store, op);
    assert_int_equal(kv_store_put(kit.store, "k", 1, KV_LENGTH_UNKNOWN, &op),
                     KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, data, 90000), KV_OK);
    kv_store_release(kit.store, op);
    rig_settled();

    assert_int_equal(kit_clear(&host), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    memset(shadow, 0, sizeof(shadow));
    rig_verify();
    rig_settled();
    rig_restart();

    assert_int_equal(atomic_load(&kit.store->zone->map.keys), 0);
    rig_stop();
}


static void
test_restarts(void **state)
{
    unsigned  i;

    (void) state;

    rig_start();
    rig_traffic(60);
    rig_verify();
    rig_settled();
    rig_restart();

    /* a snapshot and a log; several; with a clear between */

    for (i = 0; i < 5; i++) {
        rig_snapshot();
        rig_traffic(30);

        if (i == 2) {
            assert_int_equal(kit_clear(&host), KV_OK);
            memset(shadow, 0, sizeof(shadow));
            rig_traffic(20);
        }

        rig_restart();
        assert_true(atomic_load(&kit.store->zone->recovered_snapshot) > 0
                    || i == 2);
    }

    rig_stop();
}


/*
 * A new zone takes over the hash of the map that the snapshot was made from;
 * without a snapshot it has one of its own.
 */

static void
test_seed(void **state)
{
    int                  fd;
    char                 name[64];
    uint64_t             before[2], none[2];
    kv_snapshot_list_t   list;

    (void) state;

    memset(none, 0, sizeof(none));

    rig_start();
    memcpy(before, kit.store->zone->map.seed, sizeof(before));
    assert_memory_not_equal(before, none, sizeof(before));
    rig_traffic(20);

    rig_restart();
    assert_memory_not_equal(kit.store->zone->map.seed, before, sizeof(before));
    assert_memory_not_equal(kit.store->zone->map.seed, none, sizeof(none));

    memcpy(before, kit.store->zone->map.seed, sizeof(before));
    rig_snapshot();
    rig_traffic(20);

    rig_restart();
    assert_memory_equal(kit.store->zone->map.seed, before, sizeof(before));

    /* the next snapshot hands it on; where that is damaged, the older one */

    rig_traffic(20);
    rig_snapshot();
    rig_restart();
    assert_memory_equal(kit.store->zone->map.seed, before, sizeof(before));
    rig_stop();

    assert_int_equal(kv_snapshot_list(&kit.io->io, kit.dirfd, &list, &kit.err),
                     KV_OK);
    assert_int_equal(list.n, 2);

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs", list.lsn[0]);
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damaged!", 8, 32), 8);
    (void) close(fd);

    rig_start();
    rig_verify();
    assert_memory_equal(kit.store->zone->map.seed, before, sizeof(before));
    rig_stop();
}


static void
test_damaged_snapshot(void **state)
{
    int                  fd;
    char                 name[64];
    off_t                size;
    kv_snapshot_list_t   list;

    (void) state;

    rig_start();
    rig_traffic(30);
    rig_snapshot();
    rig_traffic(30);
    rig_snapshot();
    rig_traffic(30);
    rig_verify();
    rig_stop();

    assert_int_equal(kv_snapshot_list(&kit.io->io, kit.dirfd, &list, &kit.err),
                     KV_OK);
    assert_int_equal(list.n, 2);

    /* the newest one's middle */

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs",
                    list.lsn[0]);
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_true(fd >= 0);
    size = lseek(fd, 0, SEEK_END);
    assert_int_equal(pwrite(fd, "damaged!", 8, size / 2), 8);
    (void) close(fd);

    rig_start();
    rig_verify();
    rig_settled();
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
        host_turn(&host, 0);
    }

    while (atomic_load(&kit.store->zone->background)) {
        host_turn(&host, 5);
    }

    assert_int_equal(atomic_load(&kit.store->zone->snapshots_failed), 0);
    rig_verify();
    rig_restart();
    rig_stop();
}


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


static bool
rig_is_quitting(void)
{
    return rig_quitting;
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
        (void) atomic_fetch_or(&zone->wants, KV_WANT_SEGMENT);
        break;

    case 2:
        shrink_asked = atomic_load(&zone->wants) & KV_WANT_SEGMENT;
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
    shrink_asked = true;

    for (round = 1; round <= 4; round++) {

        if (round < 4) {
            assert_int_equal(shrinks, 0);

        } else {
            assert_true(shrinks >= 2);
            assert_false(shrink_asked);
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
 * A snapshot takes long.  If the log wants a segment meanwhile, it is made at
 * once: whoever commits would have to make it otherwise.
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
        host_turn(&host, 5);
    }

    zone = kit.store->zone;
    end = kit_now_ms() + 10000;

    (void) files_named("spare-", true);

    atomic_store(&kit.io->slow_sync_us, 100000);
    (void) atomic_fetch_or(&zone->wants, KV_WANT_SNAPSHOT);
    host_do(&host, KV_TODO_BACKGROUND);

    while (files_named("snap-", false) == 0) {
        assert_true(kit_now_ms() < end);
    }

    (void) atomic_fetch_or(&zone->wants, KV_WANT_SEGMENT);

    while (files_named("spare-", false) == 0) {
        assert_true(kit_now_ms() < end);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 0);

    atomic_store(&kit.io->slow_sync_us, 0);

    while (atomic_load(&zone->snapshots) == 0) {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
    }

    rig_stop();
}


static void
test_delay(void **state)
{
    kv_rc_t    rc;
    kv_op_t   *op[10];
    uint64_t   began, took;
    unsigned   i;

    (void) state;

    kit.conf.delay = 300;
    kit.conf.batch = 10;
    rig_start();

    /* alone it waits, */

    began = kit_now_ms();
    rig_put(1, 1, 20);
    took = kit_now_ms() - began;
    assert_true(took >= 299 && took < 2000);

    /* in company it does not */

    began = kit_now_ms();

    for (i = 0; i < 10; i++) {
        assert_int_equal(kit_begin_put(&host, i, 2, 20, &op[i]), KV_OK);
        host_do(&host, kv_store_submit(kit.store, op[i]));
        shadow[i] = 2;
    }

    for (i = 0; i < 10; i++) {
        while (!kv_store_done(op[i], &rc)) {
            host_turn(&host, KV_STORE_WATCH);
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(kit.store, op[i]);
    }

    assert_true(kit_now_ms() - began < 290);

    /* and not when the process is to end */

    rig_verify();
    rig_restart();
    rig_stop();
}


static void
test_sync_modes(void **state)
{
    int         syncs;
    uint64_t    end, lsn;
    kv_zone_t  *zone;

    (void) state;

    kit.conf.sync = KV_SYNC_ALWAYS;
    rig_start();
    syncs = atomic_load(&kit.io->syncs);
    rig_put(1, 1, 100);
    rig_put(2, 1, 100);
    assert_true(atomic_load(&kit.io->syncs) >= syncs + 2);
    rig_stop();

    kit.conf.sync = KV_SYNC_OFF;
    rig_start();
    rig_put(3, 1, 100);
    syncs = atomic_load(&kit.io->syncs);
    rig_put(4, 1, 100);
    host_turn(&host, 60);
    host_turn(&host, 60);
    assert_int_equal(atomic_load(&kit.io->syncs), syncs);
    rig_stop();

    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 100;
    rig_start();
    zone = kit.store->zone;
    rig_put(5, 1, 100);
    rig_put(6, 1, 100);
    lsn = atomic_load(&zone->log.next_lsn) - 1;
    end = kit_now_ms() + 3000;

    while (atomic_load(&zone->log.durable_lsn) < lsn) {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 20);
    }

    rig_restart();

    /* a snapshot asks for the sync that it needs */

    kit.conf.sync_interval = 3600 * 1000;
    rig_restart();
    rig_traffic(5);
    rig_snapshot();
    assert_int_equal(atomic_load(&kit.store->zone->snapshots), 1);
    rig_traffic(5);
    rig_restart();
    rig_stop();
}


/* Deletes and the clear work when nothing else does, and give room at once. */

static void
test_full(void **state)
{
    kv_rc_t   rc;
    uint32_t  id, n, len;
    unsigned  rooms, round;

    (void) state;

    kit.size = 6 << 20;
    rig_start();

    for (round = 0; round < 3; round++) {
        len = round == 0 ? 900 : round == 1 ? 20000 : 200000;
        rooms = 0;

        for (n = 0; ; n++) {
            rc = kit_put(&host, 10000 + n, 1, len, &rooms);

            if (rc != KV_OK) {
                break;
            }
        }

        assert_int_equal(rc, KV_NO_MEMORY);
        assert_true((uint64_t) n * len > kit.size / 2);

        for (id = 0; id < n; id++) {
            assert_int_equal(kit_delete(&host, 10000 + id), KV_OK);

            if (id == n / 2) {
                assert_int_equal(kit_put(&host, 20000, 1, len, &rooms),
                                 KV_OK);
                assert_int_equal(kit_delete(&host, 20000), KV_OK);
            }
        }

        rig_settled();
        assert_int_equal(atomic_load(&kit.store->zone->map.keys), 0);

        /* full again, then cleared; room is there when it is answered */

        for (n = 0; kit_put(&host, 10000 + n, 1, len, NULL) == KV_OK; n++) {
            /* void */
        }

        assert_int_equal(kit_clear(&host), KV_OK);

        for (id = 0; id < n; id++) {
            assert_int_equal(kit_put(&host, 10000 + id, 1, len, NULL), KV_OK);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
        rig_settled();
    }

    rig_stop();
}


/* Puts of new keys, many at a time: those that went well; see `there`. */

static unsigned
fill(uint32_t id, unsigned count, uint32_t len, bool *there)
{
    kv_rc_t    rc;
    kv_op_t   *op[64];
    unsigned   i, n, good;

    for (n = 0; n < count; n++) {
        rc = kit_begin_put(&host, id + n, 1, len, &op[n]);

        if (rc != KV_OK) {
            assert_int_equal(rc, KV_NO_MEMORY);
            break;
        }

        host_do(&host, kv_store_submit(kit.store, op[n]));
    }

    for (i = 0, good = 0; i < n; i++) {

        while (!kv_store_done(op[i], &rc)) {
            host_turn(&host, 5);
        }

        kv_store_release(kit.store, op[i]);
        there[id + i] = rc == KV_OK;
        good += there[id + i];
    }

    return good;
}


/*
 * A zone that is full to any degree, with values of any size, is there again
 * after a start from its snapshot, although that makes the map large at once
 * where it thinks that there is room.
 */

static void
test_full_restarts(void **state)
{
    bool            full;
    uint32_t        id, n, keys, version, len;
    unsigned        i, percent, count;
    kv_heap_stat_t  st;

    static bool            there[(5 << 20) / 16];
    static const uint32_t  sizes[] = { 10, 100, 1030, 8500, 70000 };

    (void) state;

    kit.size = 5 << 20;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {

        rig_start();
        assert_int_equal(kit_clear(&host), KV_OK);
        memset(there, 0, sizeof(there));

        count = sizes[i] < 2000 ? 64 : 1;
        full = false;
        keys = 0;
        n = 0;

        for (percent = 70; percent <= 100 && !full; percent += 10) {

            do {
                full = fill(n, count, sizes[i], there) < count;
                n += count;
                assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);

            } while (!full && st.used * 100 < kit.size * percent);

            if (atomic_load(&kit.store->zone->map.keys) > keys) {
                keys = (uint32_t) atomic_load(&kit.store->zone->map.keys);
                rig_snapshot();
            }

            rig_stop();
            rig_start();

            assert_true(atomic_load(&kit.store->zone->recovered_snapshot) > 0);
            assert_int_equal(atomic_load(&kit.store->zone->map.keys), keys);

            for (id = 0; id < n; id++) {
                assert_int_equal(kit_get(&host, id, &version, &len),
                                 there[id] ? KV_OK : KV_NOT_FOUND);
            }
        }

        rig_stop();
    }
}


/*
 * The same from the log alone, where keys come in another order than that of
 * the map, which splits many buckets that have overflowed.
 */

static void
test_full_log_restarts(void **state)
{
    unsigned  i;
    uint32_t  n, keys;

    static bool            there[(16 << 20) / 16];
    static const uint32_t  sizes[] = { 100, 24 };

    (void) state;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {

        rig_start();
        assert_int_equal(kit_clear(&host), KV_OK);

        for (n = 0; fill(n, 64, sizes[i], there) == 64; n += 64) { /* void */ }

        keys = (uint32_t) atomic_load(&kit.store->zone->map.keys);

        rig_stop();
        rig_start();
        assert_int_equal(atomic_load(&kit.store->zone->recovered_snapshot), 0);
        assert_int_equal(atomic_load(&kit.store->zone->map.keys), keys);
        rig_stop();
    }
}


/* What the walk of a snapshot does when it comes by these keys. */

static void
walk(kv_snapshot_writer_t *w, uint32_t id, unsigned n)
{
    char          key[32];
    kv_err_t      err;
    kv_entry_t   *e;
    kv_record_t   rec;
    struct iovec  value;

    for ( /* void */ ; n; n--, id++) {
        memset(&rec, 0, sizeof(rec));
        rec.op = KV_OP_PUT;
        rec.key = key;
        rec.key_len = (uint16_t) kit_key(id, key);

        assert_int_equal(kv_store_read(kit.store, key, rec.key_len, &e),
                         KV_OK);

        value.iov_base = e->key + e->key_len;
        value.iov_len = e->value_len;
        rec.value_len = e->value_len;
        rec.value = &value;
        rec.value_n = 1;

        assert_int_equal(kv_snapshot_add(w, &rec, &err), KV_OK);

        kv_store_read_done(kit.store);
    }
}


static void
remove_keys(uint32_t id, unsigned n)
{
    char       key[32];
    kv_rc_t    rc;
    kv_op_t   *op[64];
    unsigned   i, some;

    for ( /* void */ ; n; n -= some, id += some) {
        some = kv_min(n, 64);

        for (i = 0; i < some; i++) {
            assert_int_equal(kv_store_delete(kit.store, key,
                                             (uint16_t) kit_key(id + i, key),
                                             &op[i]),
                             KV_OK);
            host_do(&host, kv_store_submit(kit.store, op[i]));
        }

        for (i = 0; i < some; i++) {

            while (!kv_store_done(op[i], &rc)) {
                host_turn(&host, 5);
            }

            assert_int_equal(rc, KV_OK);
            kv_store_release(kit.store, op[i]);
        }
    }
}


/*
 * A snapshot holds twice as many keys as ever lived at one time, since half
 * of them went, and others came, while it was walked; they are gone in the
 * log, and large values have all the room.  The map of the next start must
 * not be larger than what leaves these their room.
 */

static void
test_walked_restarts(void **state)
{
    uint32_t               id, n, version, len;
    uint64_t               bytes, buckets;
    unsigned               i;
    kv_err_t               err;
    kv_zone_t             *zone;
    kv_snapshot_writer_t  *w;

    enum { keys = 30000, next = 100000, large = 200000 };

    static bool  there[large + 1000];

    (void) state;

    kit.size = 4 << 20;
    rig_start();
    zone = kit.store->zone;

    for (n = 0; n < keys; n += 50) {
        assert_int_equal(fill(n, 50, 8, there), 50);
    }

    assert_int_equal(kv_snapshot_begin(kit.store->io, kit.dirfd,
                                       atomic_load(&zone->applied_lsn),
                                       zone->map.seed, &w, &err),
                     KV_OK);

    walk(w, 0, keys);
    remove_keys(0, keys);

    for (n = 0; n < keys; n += 50) {
        assert_int_equal(fill(next + n, 50, 8, there), 50);
    }

    walk(w, next, keys);

    assert_int_equal(kv_snapshot_finish(w, atomic_load(&zone->applied_lsn),
                                        &bytes, &err),
                     KV_OK);

    remove_keys(next, keys - 100);

    for (n = large; fill(n, 1, 60000, there) == 1; n++) { /* void */ }

    buckets = atomic_load(&zone->map.roots[0].buckets);

    /* more than once, as a start may write */

    for (i = 0; i < 2; i++) {
        rig_stop();
        rig_start();
        zone = kit.store->zone;

        assert_int_equal(atomic_load(&zone->recovered_snapshot), 2 * keys);
        assert_int_equal(atomic_load(&zone->map.keys), n - large + 100);
        assert_true(atomic_load(&zone->map.roots[0].buckets) <= buckets);

        for (id = next + keys - 100; id < next + keys; id++) {
            assert_int_equal(kit_get(&host, id, &version, &len), KV_OK);
        }

        for (id = large; id < n; id++) {
            assert_int_equal(kit_get(&host, id, &version, &len), KV_OK);
        }
    }

    rig_stop();
}


/* Deletes at the same time, with keys that no page of the heap is made for. */

static void
test_full_deletes(void **state)
{
    char      key[2048];
    kv_rc_t   rc;
    kv_op_t  *op[12];
    uint32_t  i, n;

    (void) state;

    kit.size = KV_ZONE_MIN;
    rig_start();

    for (n = 0; kit_put(&host, n, 1, 900, NULL) == KV_OK; n++) {
        /* void */
    }

    memset(key, 'x', sizeof(key));

    for (i = 0; i < 12; i++) {
        assert_int_equal(kv_store_delete(host.store, key,
                                         (uint16_t) (10 + 160 * i), &op[i]),
                         KV_OK);
    }

    for (i = 0; i < 12; i++) {
        rc = host_run(&host, op[i]);
        assert_int_equal(rc, KV_OK);
    }

    assert_int_equal(kit_delete(&host, 0), KV_OK);

    rig_settled();
    assert_int_equal(atomic_load(&kit.store->zone->map.keys), n - 1);

    rig_stop();
}


/* Who looks is not woken; who stops looking is, or sees it then. */

static void
test_looking(void **state)
{
    int             i, woken;
    char            key[32];
    size_t          n;
    kv_rc_t         rc;
    kv_op_t        *op;
    struct pollfd   pfd;

    (void) state;

    rig_start();

    n = kit_key(1, key);
    pfd.fd = kit_wakes[kit.store->number];
    pfd.events = POLLIN;
    woken = 0;

    for (i = 0; i < 300; i++) {

        /* the last one's waking up may still be to come */

        do {
            host_turn(&host, 0);

        } while (atomic_load(&kit.store->zone->committer));

        kv_store_looking(kit.store, true);

        assert_int_equal(kv_store_delete(kit.store, key, (uint16_t) n, &op),
                         KV_OK);
        host_do(&host, kv_store_submit(kit.store, op));

        if (i % 3 == 0) {

            while (!kv_store_done(op, &rc)) {
                (void) sched_yield();
            }

            kv_store_looking(kit.store, false);
            woken += poll(&pfd, 1, 0);

        } else {
            if (i % 3 == 1) {
                (void) usleep((unsigned) i);
            }

            kv_store_looking(kit.store, false);

            if (!kv_store_done(op, &rc)) {
                assert_int_equal(poll(&pfd, 1, 10000), 1);

                while (!kv_store_done(op, &rc)) {
                    (void) sched_yield();
                }
            }
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(kit.store, op);
    }

    /* a few for other reasons */

    assert_true(woken < 20);

    rig_stop();
}


static uint64_t
heap_used(void)
{
    kv_heap_stat_t  st;

    assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);

    return st.used;
}


/* 75 % full, all rewritten ten times with other sizes. */

static void
test_rewrites(void **state)
{
    kv_rc_t          rc;
    uint32_t         id, n, len, most, round, last;
    unsigned         rooms, kind, more;
    uint64_t         want;
    kv_heap_stat_t   st;

    static uint32_t  length[40000];

    (void) state;

    for (kind = 0; kind < 3; kind++) {
        most = kind == 0 ? 2000 : kind == 1 ? 30000 : 200000;

        /*
         * A page per class may be partly free and of no use to others, so a
         * small zone of many sizes is full earlier: 75 % wants some pages.
         */

        kit.size = kind == 0 ? 12 << 20 : kind == 1 ? 40 << 20 : 24 << 20;
        rig_start();

        assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);
        rooms = 0;
        want = st.size / 4 * 3;

        for (n = 0; heap_used() < want && n < 40000; n++) {
            length[n] = 8 + rig_rnd(most);
            assert_int_equal(kit_put(&host, n, 1, length[n], &rooms), KV_OK);
        }

        last = kind == 0 ? 1 + REWRITES / 5 : 1 + REWRITES;

        for (round = 2; round <= last; round++) {

            for (id = 0; id < n; id++) {

                /* the sum stays about the same */

                len = heap_used() > want ? 8 + rig_rnd(length[id])
                                         : length[id] + rig_rnd(most / 2);
                len = kv_min(len, 2 * most);

                rc = kit_put(&host, id, round, len, &rooms);

                if (rc != KV_OK) {
                    (void) kv_store_heap_stat(kit.store, &st);

                    for (more = 0; more < 5; more++) {
                        if (kit_put(&host, id, round, len, &rooms) == KV_OK) {
                            break;
                        }
                    }

                    fail_msg("sizes to %u, rewrite %u, key %u of %u: %d for "
                             "%u bytes, %llu of %llu in use, %llu pages free "
                             "of which %llu in reserve; cured by %u more "
                             "(5: not at all)", most, round, id, n,
                             rc, len, (unsigned long long) st.used,
                             (unsigned long long) st.size,
                             (unsigned long long) st.free_pages,
                             (unsigned long long) st.reserve_pages, more);
                }

                length[id] = len;
            }
        }

        rig_settled();

        for (id = 0; id < n; id++) {
            assert_int_equal(kit_get(&host, id, &round, &len), KV_OK);
            assert_int_equal(round, last);
            assert_int_equal(len, length[id]);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
        rig_stop();
    }
}


static void
check_pinned(const kv_entry_t *e, uint32_t id, uint32_t version)
{
    uint32_t  got;

    assert_true(kit_check(e, id, &got));
    assert_int_equal(got, version);
}


static void
test_pins(void **state)
{
    char              key[32];
    size_t            n;
    kv_op_t          *pin[3], *op;
    uint32_t          i;
    uint64_t          before;
    kv_entry_t       *e[3];
    kv_heap_stat_t    st;

    (void) state;

    rig_start();
    rig_traffic(20);
    rig_settled();

    for (i = 0; i < 3; i++) {
        rig_put(i, 1, 90000 + i * 33000);
        n = kit_key(i, key);
        assert_int_equal(kv_store_read(kit.store, key, n, &e[i]), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e[i], &pin[i]), KV_OK);
        kv_store_read_done(kit.store);
    }

    /* overwritten, deleted, cleared */

    rig_put(0, 2, 100000);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    memset(shadow, 0, sizeof(shadow));
    rig_traffic(30);

    for (i = 0; i < 100; i++) {
        assert_int_equal(kv_store_room(kit.store, 8 << 20, 0, &op),
                         KV_OK);
        assert_int_not_equal(host_run(&host, op), KV_UNAVAILABLE);
    }

    check_pinned(e[0], 0, 1);
    check_pinned(e[1], 1, 1);
    check_pinned(e[2], 2, 1);

    /* and freed one by one */

    for (i = 0; i < 3; i++) {
        assert_int_equal(kv_store_room(kit.store, 0, 0, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
        assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);
        before = st.used;

        kv_store_release(kit.store, pin[i]);

        assert_int_equal(kv_store_room(kit.store, 0, 0, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
        assert_int_equal(kv_store_heap_stat(kit.store, &st), KV_OK);
        assert_true(st.used + 90000 <= before);
    }

    rig_settled();
    rig_restart();
    rig_stop();
}


/* Puts until the zone is full, many at a time; how many. */

static uint32_t
fill_all(uint32_t len)
{
    kv_rc_t   rc, done;
    kv_op_t  *op[500];
    uint32_t  n, i, k;

    for (n = 0, rc = KV_OK; rc == KV_OK; n += k) {
        host.hold = true;

        for (k = 0; k < 500 && rc == KV_OK; k++) {
            rc = kit_begin_put(&host, n + k, 1, len, &op[k]);

            if (rc != KV_OK) {
                assert_int_equal(rc, KV_NO_MEMORY);
                break;
            }

            host_do(&host, kv_store_submit(kit.store, op[k]));
        }

        host.hold = false;
        host_do(&host, host.held);
        host.held = 0;

        for (i = 0; i < k; i++) {

            while (!kv_store_done(op[i], &done)) {
                host_turn(&host, 1);
            }

            kv_store_release(kit.store, op[i]);
        }
    }

    return n;
}


/*
 * Room that a cleared map still holds is no reason to refuse a put, of
 * whatever size, and nobody else waits while that is freed.
 */

static void
test_clear_full(void **state)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    uint32_t  id, round;

    (void) state;

    kit.size = 8 << 20;
    rig_start();

    for (round = 0; round < 3; round++) {

        assert_true(fill_all(20) > 40000);

        assert_int_equal(kv_store_clear(kit.store, &op), KV_OK);
        assert_int_equal(host_run(&host, op), KV_OK);
        assert_int_equal(kit_get(&host, 1, &id, NULL), KV_NOT_FOUND);

        /* there is much to be freed, and nobody is told that it is full */

        do {
            assert_int_equal(kv_store_room(kit.store, 3 << 20, 0, &op),
                             KV_OK);
            rc = host_run(&host, op);
        } while (rc == KV_AGAIN);

        assert_int_equal(rc, KV_OK);

        for (id = 0; id < 20; id++) {
            assert_int_equal(kit_put(&host, id, 2, 150000, NULL), KV_OK);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
        assert_int_equal(kit_clear(&host), KV_OK);
        rig_settled();
    }

    rig_stop();
}


/*
 * A reader whose process was stopped stays in its epoch, so that nothing can be
 * freed.  Nobody waits for it: writes go on as long as there is memory, are
 * refused then, and all is well when it goes on.
 */

static void
test_stopped_reader(void **state)
{
    kv_rc_t      rc;
    kv_zone_t   *zone;
    uint32_t     id, version;
    unsigned     other, i;

    (void) state;

    kit.size = 6 << 20;
    rig_start();
    zone = kit.store->zone;

    for (id = 0; id < 100; id++) {
        rig_put(id, 1, 100);
    }

    assert_int_equal(kv_slot_acquire(zone->slots, zone->nslots, &other),
                     KV_OK);
    kv_epoch_enter(&zone->slots[other], KV_EPOCH_MAIN, &zone->limbo.epoch);

    for (i = 0; i < KV_LIMBO_MAX + 3000; i++) {
        id = i % 100;
        assert_int_equal(kit_put(&host, id, 2 + i, 20, NULL), KV_OK);
    }

    assert_int_equal(kit_delete(&host, 99), KV_OK);
    assert_int_equal(kit_clear(&host), KV_OK);
    rig_put(0, 1, 100);
    assert_int_equal(kit_clear(&host), KV_OK);
    rig_put(0, 2, 100);

    /* there is no third map to take its place */

    assert_int_equal(kit_clear(&host), KV_UNAVAILABLE);
    assert_int_equal(kit_get(&host, 0, &version, NULL), KV_OK);

    /* until it is full */

    for (i = 0, rc = KV_OK; rc == KV_OK; i++) {
        rc = kit_put(&host, i % 10, i, 30000, NULL);
        assert_true(i < 1000);
    }

    assert_int_equal(rc, KV_NO_MEMORY);

    kv_epoch_leave(&zone->slots[other], KV_EPOCH_MAIN);
    kv_slot_abandon(&zone->slots[other]);
    atomic_store(&zone->reap, 1);

    assert_int_equal(kit_clear(&host), KV_OK);
    rig_put(1, 1, 30000);
    rig_settled();
    rig_stop();
}


/* What is overwritten while it is pinned costs the committer nothing. */

static void
test_pin_costs(void **state)
{
    char          key[32];
    size_t        n;
    kv_op_t      *pin[2];
    uint32_t      i;
    uint64_t      looked;
    kv_entry_t   *e;
    kv_limbo_t   *limbo;

    (void) state;

    rig_start();
    limbo = &kit.store->zone->limbo;

    for (i = 0; i < 2; i++) {
        rig_put(i, 1, 90000);
        n = kit_key(i, key);
        assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e, &pin[i]), KV_OK);
        kv_store_read_done(kit.store);
        rig_put(i, 2, 100);
    }

    assert_non_null(limbo->pinned);
    looked = limbo->looked;

    for (i = 0; i < 300; i++) {
        rig_put(2 + i % 10, i + 1, i % 3 ? 50 : 20000);
    }

    assert_non_null(limbo->pinned);
    assert_int_equal(limbo->looked, looked);

    /* one that goes is looked for in the list, and not in the records */

    kv_store_release(kit.store, pin[0]);
    rig_put(2, 1000, 50);
    rig_put(2, 1001, 50);
    assert_int_equal(limbo->looked, looked + 2);

    kv_store_release(kit.store, pin[1]);
    rig_settled();
    rig_stop();
}


/*
 * A worker that died while it pinned, or let go, leaves a count that no record
 * stands for.
 */

static void
test_lost_pin(void **state)
{
    char          key[32];
    size_t        n;
    kv_op_t      *pin;
    kv_entry_t   *e, *lost;
    kv_limbo_t   *limbo;

    (void) state;

    rig_start();
    limbo = &kit.store->zone->limbo;

    rig_put(0, 1, 90000);
    rig_put(1, 1, 90000);

    /* as if nobody had started */

    limbo->lost = false;

    n = kit_key(0, key);
    assert_int_equal(kv_store_read(kit.store, key, n, &lost), KV_OK);
    kv_limbo_pin(lost);
    kv_store_read_done(kit.store);

    n = kit_key(1, key);
    assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
    assert_int_equal(kv_store_pin(kit.store, e, &pin), KV_OK);
    kv_store_read_done(kit.store);

    rig_put(0, 2, 100);
    rig_put(1, 2, 100);
    assert_ptr_equal(limbo->pinned, e);
    assert_ptr_equal(kv_entry_pieces(e)->next, lost);

    /* not while somebody is letting go of one */

    atomic_store(&pin->state, KV_OP_UNPINNING);
    limbo->searched_ns = 0;
    limbo->lost = true;
    rig_put(2, 1, 100);
    assert_ptr_equal(kv_entry_pieces(e)->next, lost);

    atomic_store(&pin->state, KV_OP_PINNED);
    limbo->searched_ns = 0;
    rig_put(2, 2, 100);
    rig_put(2, 3, 100);
    assert_ptr_equal(limbo->pinned, e);
    assert_null(kv_entry_pieces(e)->next);
    check_pinned(e, 1, 1);

    kv_store_release(kit.store, pin);
    rig_settled();
    rig_stop();
}


/* Values that were pinned once are no obstacle to putting things together. */

static void
test_pinned_once(void **state)
{
    char         key[32];
    size_t       n;
    kv_op_t     *op;
    uint32_t     id, count;
    unsigned     rooms;
    kv_entry_t  *e;

    (void) state;

    kit.size = 8 << 20;
    rig_start();

    /* two of these share a page */

    for (count = 0; kit_put(&host, count, 1, 32600 + 200, NULL) == KV_OK;
         count++)
    {
        n = kit_key(count, key);
        assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
        assert_int_equal(kv_store_pin(kit.store, e, &op), KV_OK);
        kv_store_read_done(kit.store);
        kv_store_release(kit.store, op);
    }

    for (id = 0; id < count; id += 2) {
        assert_int_equal(kit_delete(&host, id), KV_OK);
    }

    /* half of it is free: a third must do for values of whole pages */

    rooms = 0;

    for (id = 0; id < count / 6; id++) {
        if (kit_put(&host, 10000 + id, 1, KV_PAGE_SIZE, &rooms) != KV_OK) {
            fail_msg("no room for page %u of %u", id, count / 6);
        }
    }

    for (id = 1; id < count; id += 2) {
        assert_int_equal(kit_get(&host, id, &rooms, NULL), KV_OK);
    }

    rig_settled();
    rig_stop();
}


/*
 * A value in several pieces, into a zone where only making room helps: each
 * piece may need a page of its own.
 */

static void
test_room_for_pieces(void **state)
{
    kv_rc_t   rc;
    uint32_t  id, n;
    unsigned  i, rooms;

    static const uint32_t  lens[] = {
        9000, 12000, 15500, 20000, 31000, 40000, 45500, 50000, 55000, 60000,
        100000, 110600, 190000
    };

    (void) state;

    kit.size = 8 << 20;
    kit.conf.sync = KV_SYNC_OFF;
    kit.conf.snapshot = 0;
    rig_start();

    for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {

        for (n = 0; kit_put(&host, n, 1, 3900, NULL) == KV_OK; n++) {
            /* void */
        }

        for (id = 0; id < n; id += 6) {
            assert_int_equal(kit_delete(&host, id), KV_OK);
        }

        rc = kit_put(&host, 100000, 1, lens[i], &rooms);

        if (rc != KV_OK) {
            fail_msg("no room for a value of %u bytes", lens[i]);
        }

        assert_int_equal(kit_clear(&host), KV_OK);
    }

    rig_settled();
    rig_stop();
}


/*
 * The mark behind a log that has gone quiet is written with the block that the
 * last batch ends in: if that fails, so has the log.
 */

static void
test_mark_fails(void **state)
{
    int  i;

    (void) state;

    rig_start();
    rig_traffic(20);
    rig_verify();

    atomic_store(&kit.io->fail_write, EIO);

    for (i = 0; i < 500 && kv_store_healthy(kit.store); i++) {
        host_turn(&host, 10);
    }

    assert_false(kv_store_healthy(kit.store));
    atomic_store(&kit.io->fail_write, 0);
    assert_int_equal(kit_put(&host, 1, 900001, 2000, NULL), KV_UNAVAILABLE);

    rig_restart();
    rig_traffic(5);
    rig_verify();
    rig_stop();
}


static void
test_disk_full(void **state)
{
    unsigned  i;

    (void) state;

    rig_start();
    rig_traffic(20);
    rig_verify();

    for (i = 0; i < 3; i++) {
        atomic_store(&kit.io->fail_write, i == 1 ? EDQUOT : ENOSPC);

        assert_int_equal(kit_put(&host, 1, 900000, 2000, NULL), KV_NO_SPACE);
        assert_int_equal(kit_delete(&host, 2), KV_NO_SPACE);
        assert_int_equal(kit_clear(&host), KV_NO_SPACE);
        assert_false(kv_store_healthy(kit.store));
        rig_verify();
        rig_settled();

        atomic_store(&kit.io->fail_write, 0);
        rig_traffic(5);
        assert_true(kv_store_healthy(kit.store));
        rig_verify();
    }

    rig_restart();
    rig_stop();
}


static void
failing(bool sync)
{
    uint32_t   version;
    uint64_t   end, syncs;
    unsigned   i;
    kv_op_t   *op;

    rig_start();
    rig_traffic(20);
    rig_verify();
    rig_settled();

    atomic_store(sync ? &kit.io->fail_sync : &kit.io->fail_write, EIO);

    assert_int_equal(kit_put(&host, 1, 900000, 2000, NULL), KV_UNAVAILABLE);

    atomic_store(&kit.io->fail_sync, 0);
    atomic_store(&kit.io->fail_write, 0);

    /* from now on nothing, though the disk works again; reads do */

    syncs = (uint64_t) atomic_load(&kit.io->syncs);

    for (i = 0; i < 3; i++) {
        assert_int_equal(kit_put(&host, 1, 900001, 2000, NULL),
                         KV_UNAVAILABLE);
        assert_int_equal(kit_delete(&host, 2), KV_UNAVAILABLE);
        assert_int_equal(kit_clear(&host), KV_UNAVAILABLE);
    }

    end = kit_now_ms() + 150;

    while (kit_now_ms() < end) {
        host_turn(&host, 20);
    }

    assert_int_equal(atomic_load(&kit.io->syncs), syncs);
    assert_false(kv_store_healthy(kit.store));
    rig_verify();

    /* room is no write */

    assert_int_equal(kv_store_room(kit.store, 0, 0, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    rig_stop();
    rig_start();

    /* the failed one may have happened, nothing else */

    if (kit_get(&host, 1, &version, NULL) == KV_OK && version == 900000) {
        shadow[1] = version;
    }

    rig_verify();
    assert_true(kv_store_healthy(kit.store));
    rig_traffic(5);
    rig_restart();
    rig_stop();
}


static void
test_write_error(void **state)
{
    (void) state;

    failing(false);
}


static void
test_sync_error(void **state)
{
    (void) state;

    failing(true);
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
    (void) atomic_fetch_or(&zone->wants, KV_WANT_SNAPSHOT);
    end = kit_now_ms() + 3000;

    while (atomic_load(&zone->snapshots_failed) == 0
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
    }

    assert_int_equal(count_names(kit.path, ".tmp"), 0);
    assert_true(count_names("/proc/self/fd", "") <= fds);

    atomic_store(&kit.io->fail_sync, 0);
    (void) atomic_fetch_or(&zone->wants, KV_WANT_SNAPSHOT);

    while (atomic_load(&zone->snapshots) == 0
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
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
    (void) atomic_fetch_or(&zone->wants, KV_WANT_SNAPSHOT);
    end = kit_now_ms() + 3000;

    while (!!kv_state_writes(zone) || atomic_load(&zone->background)) {
        if (kit_now_ms() > end) {
            fail_msg("the background task does not end: %llu snapshots "
                     "failed", (unsigned long long)
                     atomic_load(&zone->snapshots_failed));
        }

        host_turn(&host, 5);
    }

    assert_int_equal(atomic_load(&zone->snapshots), 0);
    assert_int_equal(atomic_load(&zone->snapshots_failed), 1);
    assert_int_equal(atomic_load(&zone->wants) & KV_WANT_SNAPSHOT, 0);

    atomic_store(&kit.io->fail_sync, 0);
    rig_stop();
}


/* A worker leaves in full flight: its operations end, its memory comes back. */

static void
test_leave(void **state)
{
    kv_rc_t      rc;
    kv_op_t     *op;
    uint32_t     i, round, version;
    unsigned     number;

    static char  data[90000];

    (void) state;

    rig_start();

    for (round = 1; round < 30; round++) {
        number = kit.store->number;
        host.hold = round % 3 == 0;

        for (i = 0; i < 20; i++) {
            rc = kit_begin_put(&host, i, round, i % 5 ? 100 : 50000, &op);
            assert_int_equal(rc, KV_OK);

            if (i < 15) {
                host_do(&host, kv_store_submit(kit.store, op));
            }
        }

        assert_int_equal(kv_store_put(kit.store, "k", 1, KV_LENGTH_UNKNOWN,
                                      &op), KV_OK);
        assert_int_equal(kv_store_write(kit.store, op, 0, data, 70000),
                         KV_OK);

        /* its claim may stay behind, too */

        assert_true(host_stop(&host));
        assert_int_equal(host_start(&host, kit.store), KV_OK);
        assert_true(kit.store->number != number || round > 1);

        assert_int_equal(kit_put(&host, 100, round, 10, NULL), KV_OK);
        rig_settled();

        for (i = 0; i < 15; i++) {
            assert_int_equal(kit_get(&host, i, &version, NULL), KV_OK);
            assert_int_equal(version, round);
        }

        assert_int_equal(kit_get(&host, 17, &version, NULL), KV_NOT_FOUND);
    }

    rig_stop();
}


/*
 * Workers of two configurations: the committer may be one that would not
 * take such large values itself.
 */

static void
test_two_configurations(void **state)
{
    kv_op_t          *op;
    host_t            other;
    uint32_t          version;
    kv_store_t       *store;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.max_value = 20000;
    kit.conf.segment = 128 << 10;
    rig_start();
    rig_put(1, 1, 20000);

    conf = kit.conf;
    conf.max_value = 2 << 20;
    conf.segment = 4 << 20;
    assert_int_equal(kv_store_attach(&store, &conf, kit.mem, &kit.io->io,
                                     kit.dirfd, &kit.err), KV_OK);
    assert_int_equal(host_start(&other, store), KV_OK);
    other.hold = true;

    for (version = 2; version < 6; version++) {
        assert_int_equal(kit_begin_put(&other, version, 1, 1 << 20, &op),
                         KV_OK);
        host_do(&other, kv_store_submit(store, op));
        kv_store_undo(store, other.held);
        other.held = 0;

        /* done by the old one's thread */

        rig_put(1, version, 20000);
        shadow[version] = 1;

        while (atomic_load(&op->state) != KV_OP_DONE) {
            host_turn(&host, 5);
        }

        assert_int_equal(op->result, KV_OK);
        kv_store_release(store, op);
    }

    rig_verify();
    assert_true(host_stop(&other));
    kv_store_destroy(store);
    rig_settled();

    kit.conf = conf;
    rig_restart();
    rig_stop();
}


/*
 * What a write was promised goes with it: who commits it may be of another
 * configuration.
 */

typedef struct {
    kv_store_t  *store;
    host_t       host;
} other_t;


static void
other_start(other_t *other, const kv_store_conf_t *conf)
{
    assert_int_equal(kv_store_attach(&other->store, conf, kit.mem,
                                     &kit.io->io, kit.dirfd, &kit.err), KV_OK);
    assert_int_equal(host_start(&other->host, other->store), KV_OK);
    other->host.hold = true;
}


static void
other_stop(other_t *other)
{
    assert_true(host_stop(&other->host));
    kv_store_destroy(other->store);
}


/* Queues a put of its own that the kit's host is to commit. */

static kv_op_t *
other_submit(other_t *other, uint32_t id, uint32_t version, uint32_t len)
{
    kv_op_t  *op;

    assert_int_equal(kit_begin_put(&other->host, id, version, len, &op),
                     KV_OK);
    host_do(&other->host, kv_store_submit(other->store, op));
    kv_store_undo(other->store, other->host.held);
    other->host.held = 0;
    shadow[id] = version;

    return op;
}


/* Waits until the kit's host has committed it; the LSN that it got. */

static uint64_t
other_wait(other_t *other, kv_op_t *op)
{
    kv_rc_t   rc;
    uint64_t  lsn, end;

    end = kit_now_ms() + 10000;

    while (!kv_store_done(op, &rc)) {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
    }

    assert_int_equal(rc, KV_OK);
    lsn = op->lsn;
    kv_store_release(other->store, op);

    return lsn;
}


static void
test_sync_of_others(void **state)
{
    int               syncs;
    other_t           other;
    uint64_t          end, lsn;
    unsigned          i;
    kv_zone_t        *zone;
    kv_store_conf_t   conf;

    (void) state;

    /* an old worker that never syncs commits for new ones that always do */

    kit.conf.sync = KV_SYNC_OFF;
    rig_start();
    zone = kit.store->zone;

    conf = kit.conf;
    conf.sync = KV_SYNC_ALWAYS;
    other_start(&other, &conf);

    for (i = 1; i < 10; i++) {
        lsn = other_wait(&other, other_submit(&other, i, i, 100));
        assert_true(atomic_load(&zone->log.durable_lsn) >= lsn);
    }

    other_stop(&other);

    /* for such that sync once in a while */

    conf.sync = KV_SYNC_INTERVAL;
    conf.sync_interval = 50;
    other_start(&other, &conf);

    lsn = other_wait(&other, other_submit(&other, 10, 1, 100));
    end = kit_now_ms() + 5000;

    while (atomic_load(&zone->log.durable_lsn) < lsn) {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
    }

    other_stop(&other);
    rig_verify();
    rig_stop();

    /* and one that always does makes no others wait that do not */

    kit.conf.sync = KV_SYNC_ALWAYS;
    rig_start();

    conf.sync = KV_SYNC_OFF;
    other_start(&other, &conf);
    rig_put(11, 1, 100);
    syncs = atomic_load(&kit.io->syncs);

    for (i = 12; i < 20; i++) {
        (void) other_wait(&other, other_submit(&other, i, i, 100));
    }

    assert_int_equal(atomic_load(&kit.io->syncs), syncs);

    /* but its own write takes theirs along */

    rig_put(11, 2, 100);
    assert_true(atomic_load(&kit.io->syncs) > syncs);

    other_stop(&other);
    rig_verify();
    rig_stop();
}


/* A delay is its asker's: who has none does not wait for others' company. */

static void
test_delay_of_others(void **state)
{
    kv_rc_t           rc;
    kv_op_t          *own, *op;
    other_t           other;
    uint64_t          began;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.delay = 9000;
    rig_start();

    conf = kit.conf;
    conf.delay = 0;
    other_start(&other, &conf);

    began = kit_now_ms();
    assert_int_equal(kit_begin_put(&host, 1, 1, 100, &own), KV_OK);
    host_do(&host, kv_store_submit(kit.store, own));
    shadow[1] = 1;

    (void) usleep(20000);
    assert_int_equal(atomic_load(&own->state), KV_OP_QUEUED);

    op = other_submit(&other, 2, 1, 100);
    (void) other_wait(&other, op);

    /* it took the other along */

    while (!kv_store_done(own, &rc)) {
        host_turn(&host, 5);
    }

    assert_int_equal(rc, KV_OK);
    kv_store_release(kit.store, own);
    assert_true(kit_now_ms() - began < 5000);
    other_stop(&other);

    /* nor does who has a smaller batch */

    conf.delay = 9000;
    conf.batch = 2;
    other_start(&other, &conf);
    began = kit_now_ms();
    assert_int_equal(kit_begin_put(&host, 1, 2, 100, &own), KV_OK);
    host_do(&host, kv_store_submit(kit.store, own));
    shadow[1] = 2;
    (void) other_wait(&other, other_submit(&other, 2, 2, 100));

    while (!kv_store_done(own, &rc)) {
        host_turn(&host, 5);
    }

    kv_store_release(kit.store, own);
    assert_true(kit_now_ms() - began < 5000);

    /* nor somebody who is to end, and tells those who commit */

    began = kit_now_ms();
    assert_int_equal(kit_begin_put(&host, 1, 3, 100, &own), KV_OK);
    host_do(&host, kv_store_submit(kit.store, own));
    shadow[1] = 3;
    (void) usleep(20000);
    kv_store_hurry(other.store);

    while (!kv_store_done(own, &rc)) {
        host_turn(&host, 5);
    }

    kv_store_release(kit.store, own);
    assert_true(kit_now_ms() - began < 5000);
    other_stop(&other);

    rig_verify();
    rig_stop();
}


/*
 * Nobody is told to do what cannot be done now: he would be told again as soon
 * as he had tried.
 */

static void
test_nothing_to_do(void **state)
{
    kv_zone_t  *zone;

    (void) state;

    kit.conf.stopping = rig_is_quitting;
    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 10;
    rig_start();
    zone = kit.store->zone;
    rig_put(1, 1, 100);
    rig_settled();

    /* a snapshot that was given up is for those who stay */

    (void) atomic_fetch_or(&zone->wants, KV_WANT_SNAPSHOT);
    atomic_store(&rig_quitting, true);
    assert_int_equal(kv_store_poll(kit.store) & KV_TODO_BACKGROUND, 0);
    atomic_store(&rig_quitting, false);

    while (atomic_load(&zone->committer)) {
        (void) sched_yield();
    }

    /* a zone that is to be rebuilt: only that */

    atomic_store(&zone->state, KV_ZONE_BROKEN);
    atomic_store(&zone->unsynced, 1);
    atomic_store(&zone->sync_ms, 10);
    atomic_store(&zone->unmarked, 1);
    assert_true(kv_store_due(kit.store) >= KV_STORE_WATCH);
    assert_int_equal(kv_store_poll(kit.store), KV_TODO_COMMIT);
    kv_store_undo(kit.store, KV_TODO_COMMIT);

    /* not by who is to quit: there may be nobody else, so he lets go of all */

    atomic_store(&rig_quitting, true);
    assert_int_equal(kv_store_due(kit.store), 0);
    assert_int_equal(kv_store_poll(kit.store), KV_TODO_RESET);
    atomic_store(&rig_quitting, false);

    /* one that cannot be: nothing */

    atomic_store(&zone->state, KV_ZONE_FAILED);
    atomic_store(&zone->want_sync, 1);
    atomic_store(&zone->reap, 1);
    assert_int_equal(kv_store_due(kit.store), 0);
    assert_int_equal(kv_store_poll(kit.store), 0);

    /* after an error of the disk nothing is synced or marked */

    atomic_store(&zone->state, KV_ZONE_READY);
    atomic_store(&zone->wants, 0);
    atomic_store(&zone->reap, 0);
    atomic_store(&zone->writes, KV_WRITES_NEVER);
    assert_int_equal(kv_store_due(kit.store), 0);
    assert_int_equal(kv_store_poll(kit.store), 0);
    atomic_store(&zone->writes, KV_WRITES_OK);

    rig_settled();
    rig_stop();
}


/*
 * One dies while its snapshot has a value pinned, and nobody is left to reap
 * it: who gets its slot has not pinned that.
 */

static void
test_slot_of_dead(void **state)
{
    char         key[32];
    size_t       n;
    kv_entry_t  *e;

    (void) state;

    kit.slots = 1;
    rig_start();
    rig_put(1, 1, 20000);
    n = kit_key(1, key);

    assert_int_equal(kv_store_read(kit.store, key, n, &e), KV_OK);
    kv_limbo_pin_scanned(kit.store->slot, e);
    kv_store_read_done(kit.store);

    assert_true(host_stop(&host));
    assert_int_equal(host_start(&host, kit.store), KV_OK);

    rig_put(1, 2, 20000);
    rig_verify();
    rig_settled();
    rig_stop();
}


/*
 * An older process does not know the newest ones' eventfds: what has that
 * number there may be anything.
 */

static void
test_unknown_wakes(void **state)
{
    int              fds[6], few[2];
    other_t          other;
    unsigned         i;
    kv_op_t         *op;
    struct pollfd    pfd;

    (void) state;

    rig_start();

    for (i = 0; i < 6; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
        assert_true(fds[i] >= 0);
    }

    memcpy(few, fds, sizeof(few));
    kv_store_wakes(kit.store, few, 2, 0);

    other_start(&other, &kit.conf);
    pfd.events = POLLIN;

    for (i = 1; i < 7; i++) {
        kv_store_wakes(other.store, fds, 6, i);
        op = other_submit(&other, i, 1, 100);
        (void) other_wait(&other, op);

        /* after the answer, a moment later */

        while (atomic_load(&kit.store->zone->committer)) {
            (void) sched_yield();
        }

        pfd.fd = fds[kv_min(i, 5u)];
        assert_int_equal(poll(&pfd, 1, 0), i == 1);
    }

    kv_store_wakes(kit.store, fds, 6, 0);
    kv_store_wakes(other.store, fds, 6, 5);
    (void) other_wait(&other, other_submit(&other, 9, 1, 100));
    pfd.fd = fds[5];
    assert_int_equal(poll(&pfd, 1, 10000), 1);

    other_stop(&other);
    rig_verify();
    rig_stop();

    for (i = 0; i < 6; i++) {
        (void) close(fds[i]);
    }
}


/*
 * Who rests takes no slot and keeps no file open, and leaves what is to be
 * synced to others; it works again when it is needed.
 */

static void
test_rest(void **state)
{
    other_t           other;
    unsigned          i, number;
    struct pollfd     pfd;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.sync = KV_SYNC_INTERVAL;
    kit.conf.sync_interval = 3600 * 1000;
    rig_start();

    conf = kit.conf;
    other_start(&other, &conf);

    for (i = 1; i < 30; i++) {
        rig_put(i, i, 100);
        rig_put(1000 + i, i, 30000);

        while (atomic_load(&kit.store->zone->committer)
               || atomic_load(&kit.store->zone->background))
        {
            host_turn(&host, 1);
        }

        pfd.fd = kit_wakes[other.store->number];
        pfd.events = POLLIN;

        while (poll(&pfd, 1, 0) == 1) {
            host_turn(&other.host, 0);
            kv_store_undo(other.store, other.host.held);
            other.host.held = 0;
        }

        number = kit.store->number;
        kv_store_rest(kit.store);

        assert_null(kit.store->log);
        assert_null(kit.store->background);
        assert_int_equal(poll(&pfd, 1, 0), 1);
        assert_int_equal(kv_store_poll(kit.store), 0);
        assert_true(kv_slot_lock_dead(&kit.store->zone->slots[number]));
        kv_slot_unlock(&kit.store->zone->slots[number]);

        assert_int_equal(kv_store_enter(kit.store), KV_OK);
        kv_store_wakes(kit.store, kit_wakes, 8, kit.store->number);
    }

    other_stop(&other);
    rig_verify();
    rig_settled();
    rig_restart();
    rig_stop();
}


/* A larger value may come while an old worker is in the middle of its work. */

static void
test_larger_meanwhile(void **state)
{
    kv_rc_t           rc;
    kv_op_t          *own, *op;
    other_t           other;
    uint32_t          larger;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.max_value = 20000;
    kit.conf.segment = 128 << 10;
    rig_start();
    rig_put(1, 1, 20000);

    conf = kit.conf;

    for (larger = 1 << 19; larger <= 1 << 21; larger *= 2) {
        atomic_store(&kit.io->slow_sync_us, 100000);
        assert_int_equal(kit_begin_put(&host, 1, larger, 20000, &own), KV_OK);
        host_do(&host, kv_store_submit(kit.store, own));
        shadow[1] = larger;

        while (atomic_load(&own->state) == KV_OP_QUEUED) {
            (void) sched_yield();
        }

        conf.max_value = larger;
        conf.segment = larger + (128 << 10);
        other_start(&other, &conf);
        op = other_submit(&other, 2, larger, larger);

        (void) other_wait(&other, op);
        atomic_store(&kit.io->slow_sync_us, 0);

        while (!kv_store_done(own, &rc)) {
            host_turn(&host, 5);
        }

        assert_int_equal(rc, KV_OK);
        kv_store_release(kit.store, own);
        other_stop(&other);
        rig_verify();
    }

    rig_settled();
    kit.conf = conf;
    rig_restart();
    rig_stop();
}


/*
 * What belongs to the store and not to a request, the size of segments and
 * when a snapshot is taken, is what the newest configuration says, whoever
 * commits.
 */

static void
test_newest_rules(void **state)
{
    other_t           other;
    uint64_t          end;
    uint32_t          i;
    kv_zone_t        *zone;
    kv_store_conf_t   conf;

    (void) state;

    kit.conf.max_value = 20000;
    kit.conf.segment = 128 << 10;
    rig_start();
    rig_put(1, 1, 20000);
    zone = kit.store->zone;

    conf = kit.conf;
    conf.segment = 256 << 10;
    conf.snapshot = 512 << 10;
    other_start(&other, &conf);

    /* not while it may still be refused */

    for (i = 0; i < 40; i++) {
        rig_put(2, i + 1, 20000);
    }

    assert_int_equal(zone->log.segment_size, 128 << 10);
    assert_int_equal(atomic_load(&zone->snapshots), 0);

    kv_store_in_force(other.store);

    for (i = 0; i < 40; i++) {
        rig_put(3, i + 1, 20000);
    }

    assert_int_equal(zone->log.segment_size, 256 << 10);

    end = kit_now_ms() + 10000;

    while (atomic_load(&zone->snapshots) == 0
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_turn(&host, 5);
    }

    other_stop(&other);
    rig_settled();
    rig_restart();
    rig_stop();
}


/* Two workers, as threads: what ThreadSanitizer is to see. */

typedef struct {
    pthread_t   thread;
    unsigned    number;
    kv_store_t *store;
    uint64_t    wrong;
    uint32_t    version[50];
} crew_t;


static void *
crew_main(void *data)
{
    host_t      own;
    kv_rc_t     rc;
    uint32_t    i, id, version, got, len;
    uint64_t    s;
    crew_t     *crew = data;

    s = 977 + crew->number;

    if (host_start(&own, crew->store) != KV_OK) {
        crew->wrong = 1;
        return NULL;
    }

    for (i = 0; i < 400; i++) {
        s = s * UINT64_C(6364136223846793005) + 1;
        id = crew->number * 1000 + (uint32_t) (s >> 33) % 50;
        version = i + 1;
        len = s >> 60 ? 8 + (uint32_t) (s >> 40) % 500 : 40000;

        rc = kit_put(&own, id, version, len, NULL);
        crew->wrong += rc != KV_OK;
        crew->version[id % 1000] = version;

        rc = kit_get(&own, id, &got, NULL);
        crew->wrong += rc != KV_OK || got != version;

        /* the other's */

        id = (1 - crew->number) * 1000 + (uint32_t) (s >> 33) % 50;
        rc = kit_get(&own, id, &got, NULL);
        crew->wrong += rc != KV_OK && rc != KV_NOT_FOUND;
    }

    crew->wrong += !host_stop(&own);

    return NULL;
}


static void
test_crew(void **state)
{
    crew_t    crew[2];
    uint32_t  i, id, version;

    (void) state;

    kit.conf.snapshot = 256 << 10;
    rig_start();

    memset(crew, 0, sizeof(crew));

    for (i = 0; i < 2; i++) {
        crew[i].number = i;
        assert_int_equal(kv_store_attach(&crew[i].store, &kit.conf, kit.mem,
                                         &kit.io->io, kit.dirfd, &kit.err),
                         KV_OK);
    }

    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&crew[i].thread, NULL, crew_main,
                                        &crew[i]), 0);
    }

    for (i = 0; i < 2; i++) {
        (void) pthread_join(crew[i].thread, NULL);
        kv_store_destroy(crew[i].store);
        assert_int_equal(crew[i].wrong, 0);
    }

    for (i = 0; i < 2; i++) {
        for (id = 0; id < 50; id++) {
            if (crew[i].version[id]) {
                assert_int_equal(kit_get(&host, i * 1000 + id, &version,
                                         NULL), KV_OK);
                assert_int_equal(version, crew[i].version[id]);
            }
        }
    }

    rig_settled();
    rig_stop();
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_operations),
        TEST(test_restarts),
        TEST(test_seed),
        TEST(test_damaged_snapshot),
        TEST(test_snapshot_while_writing),
        TEST(test_spare_in_snapshot),
        TEST(test_old_files),
        TEST(test_delay),
        TEST(test_sync_modes),
        TEST(test_full),
        TEST(test_full_restarts),
        TEST(test_full_log_restarts),
        TEST(test_walked_restarts),
        TEST(test_full_deletes),
        TEST(test_looking),
        TEST(test_rewrites),
        TEST(test_pins),
        TEST(test_clear_full),
        TEST(test_stopped_reader),
        TEST(test_pin_costs),
        TEST(test_lost_pin),
        TEST(test_pinned_once),
        TEST(test_room_for_pieces),
        TEST(test_mark_fails),
        TEST(test_disk_full),
        TEST(test_write_error),
        TEST(test_sync_error),
        TEST(test_snapshot_fails),
        TEST(test_snapshot_after_error),
        TEST(test_leave),
        TEST(test_two_configurations),
        TEST(test_sync_of_others),
        TEST(test_delay_of_others),
        TEST(test_nothing_to_do),
        TEST(test_slot_of_dead),
        TEST(test_unknown_wakes),
        TEST(test_rest),
        TEST(test_larger_meanwhile),
        TEST(test_newest_rules),
        TEST(test_crew)
    };

    cmocka_set_test_filter(getenv("KIT_TEST"));

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
