
/*
 * The change feed of a store: which operations have an event, what of it there
 * is after restarts and rebuilds, and which workers are woken for it.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/kv_watch.h"
#include "store_rig.h"


/* another worker of the same zone */
static kv_store_t        *other;

static kv_feed_record_t   rec;
static uint64_t           pos;


static void
start_both(void)
{
    rig_start();

    assert_int_equal(kv_store_attach(&other, &kit.conf, kit.mem, &kit.io->io,
                                     kit.dirfd, &kit.err), KV_OK);
    assert_int_equal(kv_store_enter(other), KV_OK);
    kv_store_wakes(other, kit_wakes, kit.workers, other->number);
}


static void
stop_both(void)
{
    kv_store_leave(other);
    kv_store_destroy(other);
    rig_stop();
}


/* As in test_await.c: whether a worker was woken since the last call. */

static bool
woken(kv_store_t *store)
{
    uint64_t       n, end;
    struct pollfd  pfd;

    end = kit_now_ms() + 30000;

    while (atomic_load(&kit.store->zone->committer)) {
        assert_true(kit_now_ms() < end);
        (void) usleep(100);
    }

    pfd.fd = kit_wakes[store->number];
    pfd.events = POLLIN;

    return poll(&pfd, 1, 0) == 1 && read(pfd.fd, &n, sizeof(n)) == sizeof(n);
}


/* The next event is of this kind, and of this key, or of all (NONE). */

#define NONE  UINT32_MAX

static void
event(kv_feed_kind_t kind, uint32_t id)
{
    char      key[32];
    size_t    n;
    uint64_t  lsn;

    lsn = rec.lsn;

    assert_int_equal(kv_store_feed_read(kit.store, pos, &rec), KV_OK);
    pos = rec.next;

    n = id == NONE ? 0 : kit_key(id, key);

    assert_int_equal(rec.kind, kind);
    assert_int_equal(rec.key_len, n);
    assert_int_equal(memcmp(rec.key, key, n), 0);
    assert_true(rec.lsn > lsn);
}


static void
no_event(void)
{
    assert_int_equal(kv_store_feed_read(kit.store, pos, &rec), KV_NOT_FOUND);
}


static void
expire(uint32_t id)
{
    kv_op_t   *op;
    uint64_t   end;

    assert_int_equal(kit_begin_ttl(&host, id, 1, 10, 1, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    end = kit_now_ms() + 30000;

    while (kv_get_relaxed(kit.store->zone->stats.expired) == 0) {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 10);
    }
}


static void
returning_delete(uint32_t id)
{
    char      key[32];
    size_t    n;
    kv_op_t  *op;

    assert_int_equal(kit_begin_ttl(&host, id, 1, 10, 1000, &op), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    n = kit_key(id, key);
    assert_int_equal(kv_store_delete(kit.store, key, (uint16_t) n, &op),
                     KV_OK);
    kv_store_return(op);
    assert_int_equal(host_run(&host, op), KV_OK);
}


/* What each operation has: in the feed, and in a log without a snapshot. */

static void
each_event(void)
{
    rec.lsn = 0;

    event(KV_FEED_PUT, 1);
    event(KV_FEED_PUT, 1);
    event(KV_FEED_DELETE, 1);
    event(KV_FEED_DELETE, 1);
    event(KV_FEED_PUT, 2);
    event(KV_FEED_EXPIRE, 2);
    event(KV_FEED_PUT, 3);
    event(KV_FEED_DELETE, 3);
    event(KV_FEED_PUT, 4);
    event(KV_FEED_CLEAR, NONE);
    event(KV_FEED_PUT, 5);
    no_event();
}


static void
test_events(void **state)
{
    char           key[32];
    size_t         n;
    kv_op_t       *op;
    kv_version_t   version;

    (void) state;

    start_both();
    assert_true(kv_store_feeds(kit.store));

    version = kv_store_state_version(kit.store);
    assert_int_equal(version.lsn, 0);
    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_OK);
    no_event();

    rig_put(1, 1, 10);
    rig_put(1, 2, 100000);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    assert_int_equal(kit_delete(&host, 1), KV_OK);
    expire(2);
    returning_delete(3);

    /* a touch has none, nor what is not done */

    rig_put(4, 1, 10);
    n = kit_key(4, key);
    assert_int_equal(kv_store_touch(kit.store, key, (uint16_t) n, 1000, &op),
                     KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);

    version.lsn = 1;
    assert_int_equal(kit_begin_put(&host, 4, 2, 10, &op), KV_OK);
    kv_store_if(op, KV_OP_IF_VERSION, &version);
    assert_int_equal(host_run(&host, op), KV_PRECONDITION);

    assert_int_equal(kit_clear(&host), KV_OK);
    memset(shadow, 0, sizeof(shadow));
    rig_put(5, 1, 10);

    each_event();
    assert_int_equal(rec.lsn, kv_store_state_version(kit.store).lsn);

    /* the next start has the same from the log */

    stop_both();
    start_both();

    version = kv_store_state_version(kit.store);
    version.lsn = 0;
    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_OK);
    each_event();

    stop_both();
}


static void
rebuild(void)
{
    uint64_t  end, before;
    unsigned  todo;

    before = atomic_load(&kit.store->zone->rebuilds);

    kv_state_break(kit.store, "for the test");
    end = kit_now_ms() + 30000;

    while (kv_state(kit.store->zone) != KV_STATE_READY
           || atomic_load(&kit.store->zone->rebuilds) == before)
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 10);

        todo = kv_store_todo(other);

        if (todo & KV_TODO_RESET) {
            kv_store_reset(other);
        }

        kv_store_unclaim(other, todo & ~KV_TODO_RESET);
    }
}


/* Where a client goes on after restarts and rebuilds, and where it cannot. */

static void
test_again(void **state)
{
    uint32_t       i;
    uint64_t       at;
    kv_version_t   version;

    (void) state;

    start_both();

    for (i = 1; i <= 10; i++) {
        rig_put(i, 1, 10);
    }

    version = kv_store_state_version(kit.store);
    pos = kv_store_feed_end(kit.store);
    rec.lsn = version.lsn;

    /* the next one is not given yet */

    version.lsn++;
    assert_int_equal(kv_store_feed_find(kit.store, &version, &at, &rec),
                     KV_PRECONDITION);
    version.lsn--;

    rig_put(11, 1, 10);

    /* what was published stays where it is, and nothing comes twice */

    rebuild();
    event(KV_FEED_PUT, 11);
    no_event();

    rig_put(12, 1, 10);
    event(KV_FEED_PUT, 12);
    no_event();

    /* what the committer added and did not publish comes from the log */

    kv_feed_put(&kit.store->zone->feed, KV_FEED_PUT, rec.lsn + 1, "half", 4);
    rebuild();
    no_event();
    rig_put(13, 1, 10);
    event(KV_FEED_PUT, 13);
    no_event();

    /* a snapshot: a start does not read what was before it */

    rig_snapshot();
    rig_put(14, 1, 10);
    stop_both();
    start_both();

    /* it was no clean end, and nothing was lost */

    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_DECLINED);

    version.lsn += 3;
    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_OK);
    rec.lsn = version.lsn;
    event(KV_FEED_PUT, 14);
    no_event();

    /* versions that no write has, or had */

    version.lsn += 1;
    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_OK);
    version.lsn += 1;
    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_PRECONDITION);
    version.lsn = 14;
    version.incarnation++;
    assert_int_equal(kv_store_feed_find(kit.store, &version, &pos, &rec),
                     KV_PRECONDITION);

    stop_both();
}


static void
watch(const char *name, bool prefix)
{
    assert_int_equal(kv_store_watch(other, name, strlen(name), prefix), KV_OK);
    kv_store_feed_seen(other, kv_store_feed_end(other));
    (void) woken(other);
}


static void
watch_end(const char *name, bool prefix)
{
    kv_store_watch_end(other, name, strlen(name), prefix);
}


static void
put(const char *key)
{
    kv_op_t  *op;

    assert_int_equal(kv_store_put(kit.store, key, (uint16_t) strlen(key), 1, 0,
                                  &op), KV_OK);
    assert_int_equal(kv_store_write(kit.store, op, 0, "x", 1), KV_OK);
    assert_int_equal(host_run(&host, op), KV_OK);
}


static bool
wakes(const char *key)
{
    put(key);

    return woken(other);
}


static void
test_woken(void **state)
{
    static const char  deep[] = "0123456789012345678901234567890123456789"
                                "0123456789012345678901234567890123456789";

    (void) state;

    start_both();
    (void) woken(other);

    assert_false(wakes("user:1"));

    watch("user:", true);
    assert_true(wakes("user:1"));
    assert_true(wakes("user:"));
    assert_false(wakes("user"));
    assert_false(wakes("other:1"));

    /* twice, and then once, beside a prefix of another length */

    watch("z", true);
    watch("user:", true);
    watch_end("user:", true);
    assert_true(wakes("user:1"));
    assert_false(wakes("other:1"));
    watch_end("z", true);
    watch_end("user:", true);
    assert_false(wakes("user:1"));
    assert_int_equal(atomic_load(&kit.store->zone->watches), 0);

    watch("user:1", false);
    assert_true(wakes("user:1"));
    assert_false(wakes("user:11"));
    assert_false(wakes("user:"));

    /* a clear is everyone's; so is each write, with an empty prefix */

    (void) woken(other);
    assert_int_equal(kit_clear(&host), KV_OK);
    assert_true(woken(other));

    watch("", true);
    assert_true(wakes("anything"));
    watch_end("", true);
    assert_false(wakes("anything"));
    watch_end("user:1", false);

    /* of what is longer than any length that is shown, the beginning counts */

    watch(deep, true);
    assert_true(wakes("0123456789012345678901234567890123456789"
                      "0123456789012345678901234567890123456789x"));
    assert_false(wakes("0123456789x"));
    watch_end(deep, true);

    assert_int_equal(kv_watch_count(kit.store->zone), 0);
    assert_int_equal(atomic_load(&other->worker->watched), 0);

    /* a committer died when it had found no watcher, and looked no more */

    watch("user:", true);
    atomic_store(&kit.store->zone->watches, 0);
    kv_watch_tell_all(kit.store->zone);
    assert_true(wakes("user:1"));

    /* nor is one overlooked whose prefix the committer did not see yet */

    atomic_store(&other->worker->watched, 0);
    assert_true(wakes("user:1"));
    assert_int_equal(atomic_load(&kit.store->zone->watches), 1);

    stop_both();
}


/* A worker that nothing wakes is woken before it is overtaken. */

static void
test_late(void **state)
{
    char      key[32];
    unsigned  i, n;

    (void) state;

    start_both();
    watch("user:", true);
    pos = kv_store_feed_end(other);
    n = 0;

    for (i = 0; i < 6000; i++) {
        (void) snprintf(key, sizeof(key), "other:%u", i % 1000);
        put(key);

        if (i % 100 == 99 && woken(other)) {
            n++;

            while (kv_store_feed_read(other, pos, &rec) == KV_OK) {
                pos = rec.next;
            }

            kv_store_feed_seen(other, pos);
        }

        assert_int_not_equal(kv_store_feed_read(other, pos, &rec),
                             KV_DECLINED);
    }

    assert_true(n >= 4);
    assert_true(n <= 20);

    stop_both();
}


/* A zone of any number of bytes: the ring behind it is made of words. */

static void
test_odd_size(void **state)
{
    (void) state;

    kit.size -= 13;

    start_both();
    rig_put(1, 1, 10);
    assert_int_equal((uintptr_t) kit.store->zone->feed.ring % 8, 0);
    stop_both();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_events, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_again, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_woken, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_late, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_odd_size, rig_setup, rig_teardown)
    };

    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
