
/*
 * Where a watch goes on after a start that was not clean: behind each version
 * whose write is still there, and behind no other.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "store/kv_state.h"
#include "store/kv_takeover.h"
#include "store/kv_watch.h"
#include "solo.h"


static kv_feed_record_t  rec;


static int
setup(void **state)
{
    (void) solo_setup(state);

    solo.conf.feed = KV_FEED_MIN;
    solo.conf.sync_interval = 60000;

    return 0;
}


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }
}


/* All of nginx is killed; with `power`, what was not synced is lost. */

static void
die(bool power)
{
    solo_stop(&solo, false);

    if (power) {
        ram_reboot(&solo.ram);
    }

    start();
}


/* Puts a key; the id of that change. */

static kv_version_t
put(uint32_t key)
{
    kv_version_t  version;

    assert_int_equal(solo_put(&solo, key, 100), KV_OK);
    version = kv_store_state_version(solo.host.store);

    return kv_store_feed_id(solo.host.store, version.lsn);
}


static uint64_t
incarnation(void)
{
    return kv_store_state_version(solo.host.store).incarnation;
}


static kv_rc_t
find(const kv_version_t *id)
{
    uint64_t  pos;

    return kv_store_feed_find(solo.host.store, id, &pos, &rec);
}


/* Behind it are the changes with the LSNs from the next one to `last`. */

static void
goes_on(const kv_version_t *id, uint64_t last)
{
    kv_rc_t       rc;
    uint64_t      pos, lsn;
    kv_version_t  again;

    assert_int_equal(kv_store_feed_find(solo.host.store, id, &pos, &rec),
                     KV_OK);

    for (lsn = id->lsn + 1;
         (rc = kv_store_feed_read(solo.host.store, pos, &rec)) == KV_OK;
         lsn++)
    {
        assert_int_equal(rec.lsn, lsn);
        pos = rec.next;
    }

    assert_int_equal(rc, KV_NOT_FOUND);
    assert_int_equal(lsn, last + 1);

    /* a change has the same id in each run */

    again = kv_store_feed_id(solo.host.store, id->lsn);
    assert_int_equal(again.incarnation, id->incarnation);
}


/* Also if nothing is written between two ends. */

static void
test_killed(void **state)
{
    unsigned      i, n, ends;
    kv_version_t  id[10], none;

    (void) state;

    start();
    none = kv_store_state_version(solo.host.store);
    assert_int_equal(none.lsn, 0);

    for (n = 0; n < 9; n += 3) {

        for (i = n; i < n + 3; i++) {
            id[i] = put(i);
            assert_int_equal(id[i].lsn, i + 1);
            assert_int_equal(id[i].incarnation, incarnation());
        }

        for (ends = 0; ends < 3; ends++) {
            die(false);
            assert_true(id[n].incarnation != incarnation());
            assert_int_equal(find(&none), KV_OK);

            for (i = 0; i < n + 3; i++) {
                goes_on(&id[i], n + 3);
            }
        }
    }

    /* a clean end changes nothing; what it goes on with is in the note alone */

    solo_stop(&solo, true);
    start();
    goes_on(&id[0], 9);
    id[9] = put(9);

    die(false);
    goes_on(&id[0], 10);
    goes_on(&id[9], 10);
    assert_int_equal(incarnation() != id[9].incarnation, 1);

    /* other numbers with a good incarnation */

    id[2].lsn = 4;
    assert_int_equal(find(&id[2]), KV_PRECONDITION);
    id[2].lsn = 11;
    assert_int_equal(find(&id[2]), KV_PRECONDITION);
    id[2].lsn = 1;
    id[2].incarnation++;
    assert_int_equal(find(&id[2]), KV_PRECONDITION);
}


/* Power is cut: the newest writes are lost, and others get their LSNs. */

static void
test_lost(void **state)
{
    unsigned      i;
    kv_version_t  id[6], other[6];

    (void) state;

    solo.conf.sync = KV_SYNC_INTERVAL;
    start();

    for (i = 0; i < 3; i++) {
        id[i] = put(i);
    }

    assert_int_equal(kv_wal_sync(solo.host.store->wal, &solo.err), KV_OK);

    for ( /* void */ ; i < 6; i++) {
        id[i] = put(i);
    }

    die(true);
    assert_int_equal(kv_store_state_version(solo.host.store).lsn, 3);

    for (i = 0; i < 3; i++) {
        goes_on(&id[i], 3);
    }

    for ( /* void */ ; i < 6; i++) {
        assert_int_equal(find(&id[i]), KV_PRECONDITION);
    }

    for (i = 3; i < 6; i++) {
        other[i] = put(i);
        assert_int_equal(other[i].lsn, id[i].lsn);
        assert_int_equal(find(&id[i]), KV_PRECONDITION);
        goes_on(&other[i], i + 1);
    }

    /* however often it starts */

    for (i = 0; i < 3; i++) {
        die(false);
        goes_on(&id[2], 6);
        assert_int_equal(find(&id[3]), KV_PRECONDITION);
        assert_int_equal(find(&id[5]), KV_PRECONDITION);
        goes_on(&other[3], 6);
        goes_on(&other[5], 6);
    }
}


/* A number of incarnations is known. */

static void
test_many(void **state)
{
    unsigned      i;
    kv_version_t  id[KV_WAL_PAST + 9];

    (void) state;

    start();

    for (i = 0; i < KV_WAL_PAST + 9; i++) {
        id[i] = put(i % 3);
        die(false);
    }

    for (i = 0; i < KV_WAL_PAST + 9; i++) {

        if (i < 9) {
            assert_int_equal(find(&id[i]), KV_PRECONDITION);

        } else {
            goes_on(&id[i], KV_WAL_PAST + 9);
        }
    }
}


static void
rebuild(void)
{
    kv_store_t  *store;

    store = solo.host.store;
    kv_state_break(store, "a test");
    kv_store_reset(store);
    atomic_store(&store->worker->generation, UINT64_MAX);

    assert_true(kv_store_todo(store) & KV_TODO_COMMIT);
    kv_store_commit(store);
    kv_store_reset(store);
}


/*
 * A zone is read anew.  If the log has lost something meanwhile, what the feed
 * has is of no log.
 */

static void
test_rebuilt(void **state)
{
    uint64_t      pos;
    kv_feed_t    *feed;
    kv_version_t  id, next;

    (void) state;

    start();
    (void) put(1);
    die(false);
    id = put(2);
    (void) put(3);

    rebuild();
    goes_on(&id, 3);

    /* a batch was published, and is gone */

    feed = &solo.host.store->zone->feed;
    kv_feed_put(feed, KV_FEED_PUT, 4, "gone", 4);
    (void) kv_feed_publish(feed);
    (void) atomic_fetch_add(&solo.host.store->zone->wal.next_lsn, 1);

    assert_int_equal(kv_store_feed_find(solo.host.store, &id, &pos, &rec),
                     KV_OK);
    rebuild();
    assert_int_equal(kv_store_feed_read(solo.host.store, pos, &rec),
                     KV_DECLINED);
    assert_int_equal(find(&id), KV_PRECONDITION);

    next = put(4);
    assert_int_equal(next.lsn, 4);
    goes_on(&next, 4);
    (void) put(5);
    goes_on(&next, 5);

    die(false);
    goes_on(&next, 5);
}


/* A new incarnation of the log that is in use loses nothing of it. */

static void
test_renewed(void **state)
{
    uint64_t      before;
    kv_version_t  id;
    ram_fault_t  *f;

    (void) state;

    start();
    id = put(1);
    before = incarnation();
    solo_stop(&solo, true);
    start();

    /* the note of the clean end */

    f = &solo.ram.fault[0];
    f->call = RAM_TRUNCATE;
    f->error = EPERM;
    f->nth = 1;
    f->times = 100000;

    (void) put(2);
    assert_true(incarnation() > before);
    f->nth = 0;
    (void) put(3);
    goes_on(&id, 3);

    rebuild();
    goes_on(&id, 3);
}


/*
 * The batch that a dead committer had begun may be in the place of the next one
 * after a power cut, which clients must not have seen then.
 */

static void
test_takeover(void **state)
{
    kv_zone_t   *zone;
    kv_store_t  *store;

    (void) state;

    solo.conf.sync = KV_SYNC_OFF;
    start();
    store = solo.host.store;
    zone = store->zone;

    (void) put(1);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 0);

    assert_true(kv_takeover(store, store->batch));
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 0);

    (void) put(2);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 2);

    (void) put(3);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), 2);
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, \
                                                          solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_killed),
        TEST(test_lost),
        TEST(test_many),
        TEST(test_rebuilt),
        TEST(test_renewed),
        TEST(test_takeover)
    };

    return cmocka_run_group_tests_name("watch_again", tests, NULL, NULL);
}
