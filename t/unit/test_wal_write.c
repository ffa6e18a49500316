
/*
 * The log as it is written when nothing goes wrong: round trips, the largest
 * batch, marks, and how segments follow each other, are purged and recycled.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_wal.h"
#include "wal_rig.h"


static void
test_nothing(void **ctx)
{
    wal_t  *t = *ctx;

    /* an empty directory is an empty log, wherever the snapshot ends */

    assert_int_equal(wal_replay(t, 0, 0), KV_OK);
    assert_int_equal(t->state.next_lsn, 1);
    assert_int_equal(t->state.durable_lsn, 0);
    assert_int_equal(t->state.segment_size, 0);

    t->seen = 41;
    assert_int_equal(wal_replay(t, 41, 41), KV_OK);
    assert_int_equal(t->state.next_lsn, 42);
    assert_int_equal(t->state.durable_lsn, 41);
    assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    (void) kv_wal_mark(t->log, &t->err);
    assert_int_equal(wal_count(t, ""), 0);

    wal_write(t, 3, 100);
    wal_sync(t);
    assert_true(wal_exists(t, "log-000000000000002a.kvl"));
    assert_int_equal(wal_replay(t, 41, 44), KV_OK);
    assert_int_equal(t->seen, 44);

    wal_empty(t);
    assert_int_equal(wal_replay(t, 41, 42), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "snap-0000000000000029.kvs"));
}


static void
test_round_trips(void **ctx)
{
    size_t            len;
    wal_t            *t = *ctx;
    uint64_t          after, last;
    kv_wal_state_t    state;

    t->segment_size = 8 << 20;
    t->max_batch = 7 << 20;
    wal_open(t);

    for (len = 0; len < 100; len++) {
        wal_write(t, 1 + (unsigned) len % 3, len);
    }

    for (len = 100; len < 5 << 20; len = len * 3 + 1) {
        wal_write(t, len < 100000 ? 7 : 1, len);
        wal_write(t, 2, 10);
    }

    for (len = 8185; len < 8200; len++) {
        wal_write(t, 1, len);
    }

    wal_write(t, 2, 3 << 20);
    wal_write(t, 5000, 100);
    wal_write(t, 3000, 0);
    wal_sync(t);
    (void) kv_wal_mark(t->log, &t->err);

    last = t->state.next_lsn - 1;
    state = t->state;
    assert_true(state.segments > 1);

    for (after = 0; after < last; after += after < 50 ? 1 : 997) {
        assert_int_equal(wal_replay(t, after, last), KV_OK);
        assert_int_equal(t->seen, last);
    }

    assert_int_equal(wal_replay(t, last, last), KV_OK);
    assert_int_equal(t->seen, last);
    assert_int_equal(t->state.durable_lsn, last);
    assert_int_equal(t->state.segment_lsn, state.segment_lsn);
    assert_int_equal(t->state.segment_salt, state.segment_salt);
    assert_int_equal(t->state.segment_size, state.segment_size);
    assert_int_equal(t->state.offset, state.offset);
    assert_int_equal(t->state.segments, state.segments);

    /* it goes on in place */

    wal_write(t, 10, 300);
    assert_int_equal(t->state.segment_lsn, state.segment_lsn);
    wal_sync(t);
    wal_replays(t, last + 10);
}


static void
test_limits(void **ctx)
{
    unsigned  n;
    wal_t    *t = *ctx;
    kv_rc_t   rc;

    /* max_batch is exact, and a batch may fill a segment */

    wal_write(t, 1, 1);

    kv_wal_begin(t->log);
    assert_int_equal(wal_add(t, t->log, 2, BATCH - HEADER - 8 - 32), KV_OK);
    assert_int_equal(wal_add(t, t->log, 3, 1), KV_AGAIN);
    assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.offset, SEGMENT);
    assert_int_equal(t->state.segments, 2);
    t->value_used = 0;

    /* no mark fits into a full segment */

    (void) kv_wal_mark(t->log, &t->err);

    kv_wal_begin(t->log);

    for (n = 0, rc = KV_OK; rc == KV_OK; n++) {
        rc = wal_add(t, t->log, 3 + n, 1);
    }

    assert_int_equal(rc, KV_AGAIN);
    assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.next_lsn, 3 + n - 1);

    /* what is written is not written twice */

    assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.next_lsn, 3 + n - 1);

    wal_sync(t);
    wal_replays(t, 3 + n - 2);
}


/* Behind every batch fits the mark that vouches for it. */

static void
test_mark_fits(void **ctx)
{
    char             name[KV_NAME_MAX];
    wal_t           *t = *ctx;
    uint64_t         last, offset;
    unsigned         len;

    for (len = 0; len < 64; len += 8) {
        wal_empty(t);
        wal_open(t);
        wal_write(t, 1, 1);

        do {
            last = t->state.segment_lsn;
            offset = t->state.offset;
            wal_write(t, 1, 5000 + len);
        } while (t->state.segment_lsn == last);

        assert_true(SEGMENT - offset >= HEADER);

        (void) kv_wal_mark(t->log, &t->err);
        (void) wal_name(name, t->state.segment_lsn);
        wal_sync(t);
        (void) kv_wal_mark(t->log, &t->err);
        wal_flip(t, name, KV_SEGMENT_HEADER + 60);
        wal_damaged(t, name, "durable");
    }
}


static void
test_segments(void **ctx)
{
    char       name[KV_NAME_MAX];
    wal_t     *t = *ctx;
    unsigned   i;
    uint64_t   first, second, lsn;

    for (i = 0; i < 60; i++) {
        wal_write(t, 1 + i % 40, 300);
    }

    wal_write(t, 3, 15000);
    wal_sync(t);

    assert_true(t->state.segments > 5);
    assert_int_equal(wal_count(t, "log-"), t->state.segments);

    lsn = t->state.next_lsn - 1;
    wal_replays(t, lsn);

    /* purging keeps all after the LSN, and never takes the current one */

    first = t->state.segment_lsn;

    for (second = 2; !wal_exists(t, wal_name(name, second)); second++) {
        /* void */
    }

    assert_int_equal(kv_wal_purge(t->log, second - 2, first, 0, NULL, &t->err),
                     KV_OK);
    assert_int_equal(kv_wal_purge(t->log, lsn, second - 1, 0, NULL, &t->err),
                     KV_OK);
    assert_int_equal(wal_count(t, "log-"), t->state.segments);
    wal_replays(t, lsn);

    assert_int_equal(kv_wal_purge(t->log, second - 1, first, 0, NULL, &t->err),
                     KV_OK);
    assert_false(wal_exists(t, FIRST));
    assert_int_equal(wal_replay(t, second - 1, lsn), KV_OK);

    assert_int_equal(kv_wal_purge(t->log, 0, first, 9, NULL, &t->err), KV_OK);
    assert_int_equal(wal_count(t, "spare-"), 0);

    for (i = 1; i < 5; i++) {
        assert_int_equal(kv_wal_purge(t->log, lsn * i / 6, first, 2,
                                      NULL, &t->err),
                         KV_OK);
        assert_int_equal(wal_count(t, "log-"), t->state.segments);
        assert_true(wal_count(t, "spare-") <= 2);
        assert_int_equal(wal_replay(t, lsn * i / 6, lsn), KV_OK);
        assert_int_equal(t->seen, lsn);
    }

    assert_int_equal(wal_replay(t, 0, lsn), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "starts with LSN"));
    assert_int_equal(wal_replay(t, lsn, lsn), KV_OK);

    assert_int_equal(kv_wal_purge(t->log, UINT64_MAX - 1, first, 2,
                                  NULL, &t->err),
                     KV_OK);
    assert_int_equal(wal_count(t, "log-"), 1);
    assert_int_equal(wal_count(t, "spare-"), 2);
    assert_true(wal_exists(t, wal_name(name, first)));
    assert_int_equal(t->state.segments, 1);
}


/*
 * Recycled segments hold old batches, good in all but the salt, at just the
 * places where new ones end.
 */

static void
test_recycled(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;
    uint64_t   last;

    for (i = 0; i < 200; i++) {
        wal_write(t, 10, 400);
        last = t->state.next_lsn - 1;

        if (i % 3 == 0) {
            wal_sync(t);
        }

        if (i % 7 == 0) {
            (void) kv_wal_mark(t->log, &t->err);
        }

        assert_int_equal(wal_replay(t, last, last), KV_OK);
        assert_int_equal(t->seen, last);

        if (i % 5 == 0) {
            t->allocations = 0;
            assert_int_equal(kv_wal_purge(t->log, last,
                                          t->state.segment_lsn, 3,
                                          NULL, &t->err),
                             KV_OK);
        }
    }

    assert_true(t->state.segment_lsn > 1000);
    assert_int_equal(t->allocations, 0);
}


static void
test_spares(void **ctx)
{
    wal_t                  *t = *ctx;
    volatile sig_atomic_t   cancel;

    cancel = 1;
    assert_int_equal(kv_wal_prepare(t->log, &cancel), KV_CANCELLED);
    assert_int_equal(wal_count(t, ""), 0);

    cancel = 0;
    wal_store(t, "spare-0.tmp", 0, "left", 4);
    wal_store(t, "spare-7.tmp", 0, "left", 4);
    assert_int_equal(kv_wal_prepare(t->log, &cancel), KV_OK);
    assert_true(wal_exists(t, "spare-0.kvl"));
    assert_int_equal(wal_count(t, ""), 1);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_DECLINED);

    /* it is used, and nothing allocated */

    t->allocations = 0;
    wal_write(t, 1, 1);
    assert_int_equal(t->allocations, 0);
    assert_true(wal_exists(t, FIRST));
    assert_int_equal(wal_count(t, ""), 1);

    /* one of another size is not */

    wal_store(t, "spare-3.kvl", 0, "short", 5);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);
    assert_false(wal_exists(t, "spare-3.kvl"));
    assert_int_equal(wal_count(t, "spare-"), 1);
    wal_store(t, "spare-1.kvl", 0, "short", 5);
    wal_write(t, 1, 50000);
    wal_write(t, 1, 50000);
    assert_int_equal(wal_count(t, "spare-"), 0);
    assert_int_equal(wal_count(t, ""), t->state.segments);
    wal_sync(t);
    wal_replays(t, 3);

    /* nor is a segment of another size recycled */

    t->segment_size = 2 * SEGMENT;
    assert_int_equal(wal_replay(t, 3, 3), KV_OK);
    wal_write(t, 1, 30000);
    assert_int_equal(kv_wal_purge(t->log, 3, t->state.segment_lsn, 9,
                                  NULL, &t->err), KV_OK);
    assert_int_equal(wal_count(t, "spare-"), 0);
    assert_int_equal(wal_count(t, "log-"), 1);
    assert_int_equal(t->state.segments, 1);
    assert_int_equal(t->state.segment_size, 2 * SEGMENT);

    /* a batch that an old, smaller segment cannot hold makes a new one */

    t->segment_size = SEGMENT;
    wal_empty(t);
    wal_open(t);
    wal_write(t, 1, 1);
    t->segment_size = 4 * SEGMENT;
    t->max_batch = 3 * SEGMENT;
    wal_sync(t);
    wal_replays(t, 1);
    wal_write(t, 1, 2 * SEGMENT);
    wal_sync(t);
    wal_replays(t, 2);
}


/*
 * What has another name, an operator's copy of the directory, is not written
 * over: neither a segment that the log does not need any more, nor a spare.
 */

static void
test_linked(void **ctx)
{
    int       i;
    wal_t    *t = *ctx;
    uint8_t   before[KV_SEGMENT_HEADER], after[KV_SEGMENT_HEADER];

    wal_write(t, 1, 50000);
    assert_int_equal(linkat(t->dirfd, FIRST, t->dirfd, "copy", 0), 0);
    (void) wal_read(t, "copy", before, sizeof(before));

    wal_write(t, 1, 50000);
    wal_sync(t);
    assert_int_equal(kv_wal_purge(t->log, 1, t->state.segment_lsn, 9, NULL,
                                  &t->err), KV_OK);
    assert_false(wal_exists(t, FIRST));
    assert_int_equal(wal_count(t, "spare-"), 0);

    /* one with no other name is recycled; a spare with one is not taken */

    wal_write(t, 1, 50000);
    wal_sync(t);
    assert_int_equal(kv_wal_purge(t->log, 2, t->state.segment_lsn, 9, NULL,
                                  &t->err), KV_OK);
    assert_int_equal(wal_count(t, "spare-"), 1);
    assert_int_equal(unlinkat(t->dirfd, "spare-0.kvl", 0), 0);
    assert_int_equal(linkat(t->dirfd, "copy", t->dirfd, "spare-0.kvl", 0), 0);

    for (i = 0; i < 3; i++) {
        wal_write(t, 1, 50000);
    }

    wal_sync(t);
    assert_false(wal_exists(t, "spare-0.kvl"));

    /* and does not count as one */

    assert_int_equal(linkat(t->dirfd, "copy", t->dirfd, "spare-0.kvl", 0), 0);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);
    assert_int_equal(wal_count(t, "spare-"), 1);

    (void) wal_read(t, "copy", after, sizeof(after));
    assert_memory_equal(before, after, sizeof(before));
    assert_int_equal(unlinkat(t->dirfd, "copy", 0), 0);
}


/* An entry has 48 bits for the LSN of its write: there are no more. */

static void
test_last_lsn(void **ctx)
{
    wal_t        *t = *ctx;
    kv_record_t   rec;
    unsigned      i;

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_DELETE;
    rec.key = "key";
    rec.key_len = 3;

    t->state.next_lsn = KV_LSN_MAX;
    t->state.durable_lsn = KV_LSN_MAX - 1;

    for (i = 0; i < 2; i++) {
        kv_wal_begin(t->log);
        assert_int_equal(kv_wal_add(t->log, &rec), KV_OK);
        assert_int_equal(kv_wal_write(t->log, &t->err),
                         i ? KV_ERROR : KV_OK);
        assert_int_equal(t->state.next_lsn, KV_LSN_MAX + 1);
    }

    assert_int_equal(t->err.error, EOVERFLOW);
    assert_non_null(strstr(t->err.text, "its last LSN"));
    wal_sync(t);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, wal_setup, wal_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_nothing),
        TEST(test_round_trips),
        TEST(test_limits),
        TEST(test_mark_fits),
        TEST(test_segments),
        TEST(test_recycled),
        TEST(test_spares),
        TEST(test_linked),
        TEST(test_last_lsn)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
