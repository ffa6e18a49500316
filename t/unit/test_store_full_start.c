
/*
 * A full zone starts again from what is on disk, however its map and its heap
 * came to be full: from a snapshot, from the log alone, and from a snapshot
 * that has more keys than ever lived at one time.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store_rig.h"
#include "disk/kv_snapshot.h"
#include "store/kv_listed.h"


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

        host_post_tasks(&host, kv_store_submit(kit.store, op[n]));
    }

    for (i = 0, good = 0; i < n; i++) {

        while (!kv_store_done(op[i], &rc)) {
            host_process_events(&host, 5);
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
 * where it expects enough free memory.
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


/* The list that is made with as little memory as possible has each key once. */

static void
test_tight_list(void **state)
{
    kv_err_t     err;
    uint32_t     n;
    uint64_t     keys;
    kv_zone_t   *zone;

    static bool  there[8192];

    (void) state;

    kit.size = 5 << 20;
    rig_start();
    assert_int_equal(kit_clear(&host), KV_OK);

    for (n = 0; n < 8192; n += 64) {
        assert_int_equal(fill(n, 64, 10, there), 64);
    }

    rig_settled();

    zone = kit.store->zone;
    keys = atomic_load(&zone->map.keys);
    assert_int_equal(keys, 8192);

    kv_index_clear(&zone->index);
    assert_int_equal(kv_listed_fill(kit.store, true, NULL), KV_OK);
    assert_int_equal(atomic_load(&zone->index.keys), keys);

    if (kv_index_check(&zone->index, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    rig_stop();
}


/*
 * A full zone from the log alone, where keys come in another order than that of
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
        rec.flags = KV_RECORD_LSN;
        rec.key = key;
        rec.key_len = (uint16_t) kit_key(id, key);

        assert_int_equal(kv_store_read(kit.store, key, rec.key_len, &e),
                         KV_OK);

        rec.lsn = kv_entry_lsn(e);
        value.iov_base = (void *) kv_entry_value(e);
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
            host_post_tasks(&host, kv_store_submit(kit.store, op[i]));
        }

        for (i = 0; i < some; i++) {

            while (!kv_store_done(op[i], &rc)) {
                host_process_events(&host, 5);
            }

            assert_int_equal(rc, KV_OK);
            kv_store_release(kit.store, op[i]);
        }
    }
}


/*
 * A snapshot holds twice as many keys as ever lived at one time, since half
 * of them went, and others came, while it was walked; they are gone in the
 * log, and large values have all the memory.  The map of the next start must
 * not be so large that these do not fit.
 */

static void
test_walked_restarts(void **state)
{
    uint32_t               id, n, version, len;
    uint64_t               bytes, buckets;
    unsigned               i;
    kv_err_t               err;
    kv_zone_t             *zone;
    kv_snapshot_about_t    about;
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

    memset(&about, 0, sizeof(about));
    about.lsn = atomic_load(&zone->applied_lsn);
    about.time_ms = kv_wall_ms();
    memcpy(about.seed, zone->map.seed, sizeof(about.seed));
    about.id = kv_wal_id(&zone->wal);

    assert_int_equal(kv_snapshot_begin(kit.store->io, kit.dirfd, &about, &w,
                                       &err),
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


/* Values of one size take as much memory each, so they have no metadata. */

static int
setup(void **state)
{
    int  rc;

    rc = rig_setup(state);
    kit_typed = 0;

    return rc;
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, setup, rig_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_full_restarts),
        TEST(test_tight_list),
        TEST(test_full_log_restarts),
        TEST(test_walked_restarts)
    };

    return cmocka_run_group_tests_name("start of a full store", tests, NULL,
                                       NULL);
}
