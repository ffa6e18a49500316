
/*
 * A committer dies with conditional writes of a worker that lives.  What is in
 * the log is done.  The others, those whose condition was false among them, are
 * decided again by the next committer, behind what is in the log; and what the
 * worker is told is what happened.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "death_rig.h"


#define OPS    16u
#define SOME   4u                  /* keys that are there before: 1 to SOME, */
#define SEVEN  5u                  /* a number, 7, */
#define LARGE  6u                  /* and a value in pieces */


static kv_store_t  *asker;         /* the worker that lives */
static kv_op_t     *op[OPS];
static kv_rc_t      rc[OPS];
static uint64_t     lsn[OPS];      /* kv_store_result() */
static int64_t      sum[OPS];      /* of an increment */
static char         text[OPS][8];  /* what a delete returns, the first bytes; */
static bool         whole[OPS];    /* whether it is kit_begin_put()'s */
static unsigned     n;

/* what the committer does until it dies */
static const char  *failpoint;
static int          after;
static bool         disk_full;     /* for its first write */


static uint64_t
lsn_of(kv_store_t *store, uint32_t id)
{
    char         key[32];
    size_t       len;
    uint64_t     found;
    kv_entry_t  *e;

    len = kit_key(id, key);

    if (kv_store_read(store, key, len, &e) != KV_OK) {
        return 0;
    }

    found = kv_store_version(store, e).lsn;
    kv_store_read_done(store);

    return found;
}


static void
start_counter(host_t *host)
{
    char      key[32];
    uint16_t  len;
    kv_op_t  *o;

    len = (uint16_t) kit_key(SEVEN, key);

    assert_int_equal(kv_store_increment(host->store, key, len, 7, 0, &o),
                     KV_OK);
    assert_int_equal(host_run(host, o), KV_OK);
    assert_int_equal(kit_put(host, LARGE, 1, 20000, NULL), KV_OK);
}


static void
start(void)
{
    host_t    host;
    uint32_t  id;

    n = 0;
    disk_full = false;

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    for (id = 1; id <= SOME; id++) {
        assert_int_equal(kit_put(&host, id, 1, 100, NULL), KV_OK);
    }

    start_counter(&host);
    assert_true(host_stop(&host));

    assert_int_equal(kv_store_attach(&asker, &death_kit.conf, death_kit.mem,
                                     &death_kit.io->io, death_kit.dirfd,
                                     &death_kit.err), KV_OK);
    assert_int_equal(kv_store_enter(asker), KV_OK);
}


/* Asks for an operation, and leaves the commit to another process. */

static void
ask(uint8_t flag, uint64_t version)
{
    kv_version_t  v;

    v.lsn = version;
    v.incarnation = 0;

    if (flag) {
        kv_store_if(op[n], flag, &v);
    }

    kv_store_unclaim(asker, kv_store_submit(asker, op[n++]));
}


static void
ask_put(uint32_t id, uint8_t flag, uint64_t version)
{
    host_t  host;

    memset(&host, 0, sizeof(host));
    host.store = asker;

    assert_int_equal(kit_begin_put(&host, id, 10 + n, 100, &op[n]), KV_OK);
    ask(flag, version);
}


static void
ask_delete(uint32_t id, uint8_t flag, uint64_t version)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_delete(asker, key, len, &op[n]), KV_OK);
    ask(flag, version);
}


static void
ask_increment(uint32_t id, int64_t by)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_increment(asker, key, len, by, 0, &op[n]), KV_OK);
    ask(0, 0);
}


static void
ask_return(uint32_t id)
{
    char      key[32];
    uint16_t  len;

    len = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_delete(asker, key, len, &op[n]), KV_OK);
    kv_store_return(op[n]);
    ask(0, 0);
}


static ssize_t
first_fails(kv_io_t *io, int fd, const struct iovec *iov, int count,
    off_t offset)
{
    static bool  failed;

    (void) io;

    if (!failed) {
        failed = true;
        errno = ENOSPC;
        return -1;
    }

    return pwritev(fd, iov, count, offset);
}


static void
commits_and_dies(host_t *host)
{
    kv_failpoint_arm(failpoint, after);

    if (disk_full) {
        death_kit.io->base.pwritev = first_fails;

        /* which may find space again before the rest is decided */

        host->no_background = true;
    }

    for ( ;; ) {
        host_process_events(host, 10);
    }
}


/* What an operation that is done gives besides its result. */

static void
learn(unsigned i)
{
    uint32_t           id, version;
    const kv_entry_t  *e;

    sum[i] = 0;
    whole[i] = false;
    memset(text[i], 0, sizeof(text[i]));

    if (rc[i] != KV_OK) {
        return;
    }

    if (op[i]->code == KV_OP_INCR) {
        sum[i] = kv_store_sum(op[i]);
    }

    if (op[i]->flags & KV_OP_RETURN) {
        e = kv_store_returned(op[i]);

        if (e->value_len < sizeof(text[i])) {
            memcpy(text[i], kv_store_value(e), e->value_len);
        }

        for (id = 1; id <= LARGE && e->value_len >= 8; id++) {
            whole[i] = whole[i] || kit_check(e, id, &version);
        }
    }
}


/* The committer dies, another takes over, and all is answered. */

static void
answers(void)
{
    host_t    host;
    kv_io_t   system;
    unsigned  i;
    uint64_t  end;

    death_child_dies(commits_and_dies);

    kv_io_system(&system);
    death_kit.io->base.pwritev = system.pwritev;

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    host.no_background = disk_full;
    end = kit_now_ms() + PATIENCE;

    for (i = 0; i < n; i++) {

        while (!kv_store_done(op[i], &rc[i])) {
            assert_true(kit_now_ms() < end);
            host_process_events(&host, 10);
        }

        lsn[i] = kv_store_result(asker, op[i]).lsn;
        assert_true(lsn[i] <= atomic_load(&asker->zone->wal.durable_lsn));
        learn(i);
        kv_store_release(asker, op[i]);
    }

    assert_int_equal(atomic_load(&asker->zone->rebuilds), 0);
    assert_true(host_stop(&host));
}


/* Reads the keys, below `ids`, once more from disk: as in memory. */

static void
finish(uint32_t ids)
{
    host_t       host;
    uint32_t     id;
    uint64_t     before[32];
    const char  *wrong;

    for (id = 0; id < ids; id++) {
        before[id] = lsn_of(asker, id);
    }

    kv_store_leave(asker);
    kv_store_destroy(asker);

    assert_int_equal(host_start(&host, death_kit.store), KV_OK);
    wrong = kit_settle(&host);
    assert_string_equal(wrong ? wrong : "", "");
    assert_true(host_stop(&host));
    kit_stop(&death_kit);

    assert_int_equal(kit_start(&death_kit), KV_OK);
    assert_int_equal(host_start(&host, death_kit.store), KV_OK);

    for (id = 0; id < ids; id++) {
        assert_int_equal(lsn_of(host.store, id), before[id]);
    }

    assert_true(host_stop(&host));
    death_clean_directory();
}


static void
expect(unsigned i, kv_rc_t result, uint64_t version)
{
    if (rc[i] != result || lsn[i] != version) {
        fail_msg("%s, %d: operation %u: %d, LSN %llu; not %d, LSN %llu",
                 failpoint, after, i, rc[i], (unsigned long long) lsn[i],
                 result, (unsigned long long) version);
    }
}


/*
 * The committer had decided all, and told some.  The next one takes what had
 * its place in the batch first: two conditions that were false in the order of
 * the queue are true behind it.
 */

static void
one_death(bool behind)
{
    uint64_t  first, one, two;

    start();
    first = atomic_load(&asker->zone->wal.next_lsn);
    one = lsn_of(asker, 1);
    two = lsn_of(asker, 2);

    ask_put(10, KV_OP_IF_ABSENT, 0);
    ask_put(10, KV_OP_IF_ABSENT, 0);
    ask_delete(1, KV_OP_IF_VERSION, one);
    ask_put(1, KV_OP_IF_VERSION, one);
    ask_put(2, KV_OP_IF_VERSION, two);
    ask_delete(2, KV_OP_IF_VERSION, two);
    ask_put(3, KV_OP_IF_ABSENT, 0);
    ask_delete(3, 0, 0);
    ask_put(3, KV_OP_IF_PRESENT, 0);

    answers();

    expect(0, KV_OK, first);
    expect(1, KV_PRECONDITION, first);
    expect(2, KV_OK, 0);
    expect(3, KV_PRECONDITION, 0);
    expect(4, KV_OK, first + 2);
    expect(5, KV_PRECONDITION, first + 2);
    expect(7, KV_OK, 0);

    if (behind) {
        expect(6, KV_OK, first + 4);
        expect(8, KV_OK, first + 5);

    } else {
        expect(6, KV_PRECONDITION, SOME - 1);
        expect(8, KV_PRECONDITION, 0);
    }

    assert_int_equal(lsn_of(asker, 10), first);
    assert_int_equal(lsn_of(asker, 1), 0);
    assert_int_equal(lsn_of(asker, 2), first + 2);
    assert_int_equal(lsn_of(asker, 3), behind ? first + 5 : 0);

    finish(11);
}


static void
test_decided_again(void **state)
{
    unsigned  i;

    static const struct {
        const char  *failpoint;
        int          after;
        bool         behind;
    } deaths[] = {
        { "NAMED", 1, false },
        { "SWAPPED", 1, false },
        { "TAKEN", 1, false },
        { "WRITE", 1, true },
        { "WRITTEN", 1, true },
        { "PROMISED", 1, true },
        { "SYNCED", 1, true },
        { "APPLIED", 1, true },
        { "REPORTING", 1, true },
        { "REPORTING", 4, true },
        { "REPORTING", 6, true },      /* of the false ones two */
        { "REPORTING", 9, false },
        { "WAKE", 1, false },
        { "REPORTED", 1, false }
    };

    (void) state;

    for (i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
        failpoint = deaths[i].failpoint;
        after = deaths[i].after;
        one_death(deaths[i].behind);
    }
}


/*
 * The same with increments and deletes that return values.  The second of those
 * of key 1 finds, behind what is in the log, what an increment has made of it.
 */

static void
one_count(bool behind)
{
    uint64_t  first, one, six;

    start();
    first = atomic_load(&asker->zone->wal.next_lsn);
    one = lsn_of(asker, 1);
    six = lsn_of(asker, LARGE);

    ask_increment(SEVEN, 1);
    ask_increment(SEVEN, 1);
    ask_increment(1, 1);
    ask_return(1);
    ask_return(1);
    ask_return(LARGE);
    ask_increment(LARGE, 3);
    ask_return(LARGE);
    ask_increment(SEVEN, INT64_MAX);

    answers();

    expect(0, KV_OK, first);
    expect(1, KV_OK, first + 1);
    expect(3, KV_OK, one);
    expect(5, KV_OK, six);
    expect(6, KV_OK, first + 4);
    expect(7, KV_OK, first + 4);
    expect(8, KV_OVERFLOW, first + 1);

    assert_int_equal(sum[0], 8);
    assert_int_equal(sum[1], 9);
    assert_true(whole[3]);
    assert_true(whole[5]);
    assert_int_equal(sum[6], 3);
    assert_string_equal(text[7], "3");

    if (behind) {
        expect(2, KV_OK, first + 6);
        expect(4, KV_OK, first + 6);
        assert_int_equal(sum[2], 1);
        assert_string_equal(text[4], "1");

    } else {
        expect(2, KV_NOT_INTEGER, one);
        expect(4, KV_NOT_FOUND, 0);
    }

    assert_int_equal(lsn_of(asker, SEVEN), first + 1);
    assert_int_equal(lsn_of(asker, 1) + lsn_of(asker, LARGE), 0);

    finish(11);
}


static void
test_counted_again(void **state)
{
    unsigned  i;

    static const struct {
        const char  *failpoint;
        int          after;
        bool         behind;
    } deaths[] = {
        { "TAKEN", 1, false },
        { "ADDED", 1, false },
        { "ADDED", 4, false },
        { "WRITE", 1, true },
        { "WRITTEN", 1, true },
        { "SYNCED", 1, true },
        { "APPLIED", 1, true },
        { "REPORTING", 1, true },
        { "REPORTING", 6, true },
        { "REPORTING", 7, false },
        { "REPORTING", 9, false },
        { "REPORTED", 1, false }
    };

    (void) state;

    for (i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
        failpoint = deaths[i].failpoint;
        after = deaths[i].after;
        one_count(deaths[i].behind);
    }
}


/*
 * The disk is full, so the puts are refused and the rest of the batch is
 * decided once more; then the committer dies.  An operation whose condition was
 * true at first, and is not without the puts, is in no log.
 */

static void
test_disk_full(void **state)
{
    unsigned  i;
    uint64_t  first;

    static const char *const  failpoints[] = {
        "PROMISED", "SYNCED", "APPLIED", "REPORTING"
    };

    (void) state;

    for (i = 0; i < sizeof(failpoints) / sizeof(failpoints[0]); i++) {
        failpoint = failpoints[i];

        /* the put is reported before the others are written */

        after = strcmp(failpoint, "REPORTING") == 0 ? 2 : 1;

        start();
        disk_full = true;
        first = atomic_load(&asker->zone->wal.next_lsn);

        ask_put(10, 0, 0);
        ask_delete(10, KV_OP_IF_PRESENT, 0);
        ask_delete(1, KV_OP_IF_PRESENT, 0);
        ask_delete(2, 0, 0);

        answers();

        expect(0, KV_NO_SPACE, 0);
        expect(1, KV_PRECONDITION, 0);
        expect(2, KV_OK, 0);
        expect(3, KV_OK, 0);

        assert_int_equal(atomic_load(&asker->zone->wal.next_lsn), first + 2);
        assert_int_equal(lsn_of(asker, 1) + lsn_of(asker, 2), 0);
        assert_int_equal(lsn_of(asker, 3), 3);

        finish(11);
    }
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, death_setup, death_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_decided_again),
        TEST(test_counted_again),
        TEST(test_disk_full)
    };

    return cmocka_run_group_tests_name("death condition", tests, NULL, NULL);
}
