
/*
 * A replicated log: its entries, votes and members are there again after a
 * restart, whatever became of the segments before.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "replica_rig.h"


static void
test_replay(void **ctx)
{
    wal_t  *t = *ctx;

    replica_vote(t, 1, 77);
    replica_same(t, 0);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    replica_same(t, 0);
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    replica_write(t, 3, 100);
    replica_same(t, 3);
    replica_write(t, 2, 100);
    replica_vote(t, 2, 0);
    replica_vote(t, 2, 78);
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    replica_entry(t, KV_ENTRY_CHANGE, "me and you, and you");
    replica_write(t, 2, 10000);
    replica_same(t, 7);

    assert_int_equal(t->state.replica.index, 7);
    assert_int_equal(t->state.replica.members_index, 6);
    assert_string_equal(kv_wal_members(&t->state), "me and you, and you");

    replica_entry(t, KV_ENTRY_BARRIER, "with data");
    replica_same(t, 7);
    assert_int_equal(wal_count(t, "log-"), 1);
}


/* The batch that is being built is not touched by what is put before it. */

static void
test_between(void **ctx)
{
    wal_t           *t = *ctx;
    kv_wal_entry_t   e;

    kv_wal_begin(t->log);
    assert_int_equal(wal_add(t, t->log, 1, 100), KV_OK);
    assert_int_equal(wal_add(t, t->log, 2, 20000), KV_OK);

    replica_vote(t, 3, 9);
    replica_entry(t, KV_ENTRY_CHANGE, "me");

    e.type = KV_ENTRY_RECORDS;
    e.term = 3;
    e.index = 2;
    e.commit = 1;
    kv_wal_set_entry(t->log, &e);
    assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);

    t->batch = NULL;
    replica_same(t, 2);
    assert_int_equal(t->state.replica.index, 2);
    assert_int_equal(t->state.replica.commit, 1);
}


/*
 * Segments follow on one another: entries without an LSN at the end of one, and
 * a batch that fills one by itself.
 */

static void
test_segments(void **ctx)
{
    char                name[KV_NAME_MAX];
    wal_t              *t = *ctx;
    uint8_t             buf[SEGMENT];
    unsigned            i, j;
    uint64_t            last, segments;
    kv_batch_header_t   h;

    last = 0;
    replica_vote(t, 1, 77);
    replica_entry(t, KV_ENTRY_CHANGE, "me");

    for (i = 0; i < 60; i++) {
        segments = t->state.segments;
        replica_write(t, 1, i % 7 ? 1000 * (i % 20) : BATCH - 6000);
        last++;

        if (t->state.segments > segments) {

            /* one STATE, known to be synced, and then the batch */

            (void) wal_read(t, wal_name(name, last), buf, sizeof(buf));
            memcpy(&h, buf + t->state.replica.start, sizeof(h));
            assert_int_equal(h.type, KV_ENTRY_RECORDS);
            assert_int_equal(h.durable_end, t->state.replica.start);
            assert_int_equal(t->state.replica.end, t->state.replica.start
                             + sizeof(h) + h.len);
        }

        for (j = 0; j < i % 9; j++) {
            replica_vote(t, t->state.replica.term + 1, i);
            replica_entry(t, KV_ENTRY_BARRIER, NULL);
        }

        if (i % 5 == 0) {
            replica_same(t, last);
        }
    }

    assert_true(t->state.segments > 15);

    /* older ones are not needed */

    wal_sync(t);
    assert_int_equal(kv_wal_purge(t->log, last, t->state.segment_lsn, 1, NULL,
                                  &t->err), KV_OK);
    assert_int_equal(wal_count(t, "log-"), 1);
    assert_int_equal(wal_replay(t, last, 0), KV_OK);
    assert_int_equal(t->state.replica.index, 1 + 60 + 231);
    assert_string_equal(kv_wal_members(&t->state), "me");
}


/* What has no LSN is in the STATE of the segment that takes the place. */

static void
test_votes_alone(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;

    replica_vote(t, 1, 77);
    replica_entry(t, KV_ENTRY_CHANGE, "me");

    for (i = 2; i < 2000; i++) {

        if (i == 1000) {
            assert_int_equal(wal_count(t, "log-"), 1);
            replica_write(t, 1, 10);
        }

        replica_vote(t, i, i);
        replica_entry(t, KV_ENTRY_BARRIER, NULL);

        if (i % 100 == 0) {
            replica_same(t, i >= 1000);
        }
    }

    assert_int_equal(wal_count(t, "log-"), 2);
    replica_write(t, 1, 10);
    replica_same(t, 2);
}


/* A vote is on disk after a sync, though no LSN is. */

static void
test_vote_synced(void **ctx)
{
    int     syncs;
    wal_t  *t = *ctx;

    t->keep = true;
    replica_vote(t, 1, 77);
    replica_vote(t, 2, 78);
    syncs = t->syncs;
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    assert_int_equal(t->syncs, syncs + 1);
    assert_int_equal(t->unsynced_n, 0);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    assert_int_equal(t->syncs, syncs + 1);

    wal_cut(t);
    wal_replays(t, 0);
    assert_int_equal(t->state.replica.term, 2);
    assert_int_equal(t->state.replica.voted_for, 78);
    t->keep = false;
}


/* Another incarnation: the next entry follows on a STATE that names it. */

static void
test_incarnation(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;
    uint64_t   id;

    replica_vote(t, 1, 77);
    replica_write(t, 1, 100);

    for (i = 2; i < 40; i++) {
        id = t->state.incarnation + 1;
        t->state.incarnation = id;
        t->state.restored = i % 3 == 0;
        replica_write(t, 1, 3000);
        assert_int_equal(t->state.replica.incarnation, id);
        wal_sync(t);

        memset(&t->state.past, 0, sizeof(t->state.past));
        wal_replays(t, i);
        assert_true(t->state.incarnation >= id);
        assert_int_equal(t->state.replica.incarnation, id);
    }
}


/* The same near a segment's end: there must be space for the STATE, too. */

static void
test_incarnation_end(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   n, here, next;

    here = 0;
    next = 0;

    for (n = 0; n < 500; n += 8) {
        replica_open(t);
        replica_vote(t, 1, 77);
        replica_write(t, 1, 30000);
        replica_write(t, 1, 30000 + n);
        t->state.incarnation++;
        replica_write(t, 1, 200);
        wal_sync(t);
        assert_int_equal(t->state.replica.incarnation, t->state.incarnation);
        here += t->state.segments == 1;
        next += t->state.segments == 2;

        memset(&t->state.past, 0, sizeof(t->state.past));
        wal_replays(t, 3);
    }

    assert_true(here > 5 && next > 5);
}


/* The largest batch goes behind the largest STATE, and is tried there again. */

static void
test_largest(void **ctx)
{
    int       made;
    char      members[KV_MEMBERS_MAX + 1];
    wal_t    *t = *ctx;

    memset(members, 'm', KV_MEMBERS_MAX);
    members[KV_MEMBERS_MAX] = '\0';

    replica_vote(t, 1, 77);
    replica_entry(t, KV_ENTRY_CHANGE, members);
    replica_write(t, 1, 30000);
    wal_sync(t);

    t->fail_write = 50000;
    t->error = ENOSPC;
    assert_int_equal(replica_try_write(t, 1, t->max_batch - HEADER - 40 - 8),
                     KV_NO_SPACE);
    t->fail_write = 0;
    assert_int_equal(t->state.segments, 2);
    assert_int_equal(t->state.offset, t->state.replica.start);
    assert_int_equal(t->state.replica.start, KV_SEGMENT_HEADER
                     + KV_ENTRY_STATE_MAX);

    made = t->allocations;
    replica_write(t, 1, t->max_batch - HEADER - 40 - 8);
    assert_int_equal(t->allocations, made);
    wal_sync(t);
    replica_same(t, 2);
    assert_int_equal(t->state.replica.members_len, KV_MEMBERS_MAX);

    /* the rest of the last eight bytes of a short one are zeroes */

    replica_entry(t, KV_ENTRY_CHANGE, members);
    replica_entry(t, KV_ENTRY_CHANGE, "m");
    assert_int_equal(t->state.replica.members_len, 8);
    assert_memory_equal(kv_wal_members(&t->state), "m\0\0\0\0\0\0", 8);
    replica_same(t, 2);
}


/* Votes and changes use what is left to deletes, where there is no space. */

static void
test_reserve(void **ctx)
{
    wal_t  *t = *ctx;

    kv_wal_set_reserve(t->log, 4096);
    replica_vote(t, 1, 77);
    replica_write(t, 1, 57000);
    wal_sync(t);

    t->fail_space = true;
    assert_int_equal(replica_try_write(t, 1, 100), KV_NO_SPACE);
    replica_vote(t, 2, 78);
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    t->fail_space = false;

    wal_sync(t);
    assert_int_equal(t->state.segments, 1);
    replica_same(t, 1);
}


/* A log that was none goes on as a replicated one, and never back. */

static void
test_from_plain(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;

    for (i = 0; i < 3; i++) {
        wal_empty(t);
        t->replicated = false;
        t->batch = NULL;
        wal_open(t);

        /* nothing at all; a segment without a batch; one with two */

        if (i) {
            wal_write(t, 1, 100);
            wal_write(t, 1, 100);
        }

        if (i == 2) {
            assert_int_equal(kv_wal_leave_closed(t->log, &t->err), KV_OK);
        }

        t->replicated = true;
        wal_replays(t, i ? 2 : 0);
        assert_int_equal(t->state.replica.index, 0);
        assert_int_equal(t->state.replica.members_len, 0);

        /* until something is written, it can go back */

        t->replicated = false;
        wal_replays(t, i ? 2 : 0);
        assert_int_equal(t->state.replicated, 0);
        t->replicated = true;
        wal_replays(t, i ? 2 : 0);

        replica_vote(t, 1, 77);
        replica_entry(t, KV_ENTRY_CHANGE, "me");
        replica_write(t, 1, 50);
        replica_same(t, i ? 3 : 1);
        assert_int_equal(wal_count(t, "log-"), i ? 2 : 1);
        assert_int_equal(t->state.replica.index, 2);

        t->replicated = false;
        t->fail_at = MANY;
        assert_int_equal(wal_replay(t, 0, 0), KV_ERROR);
        t->fail_at = 0;
        assert_non_null(strstr(t->err.text, ".kvl: offset 64: the store is a "
                               "member of a cluster: give its kv_zone "
                               "\"cluster=\" again, or restore a backup"));
    }
}


/* A log that is none has no byte of all that. */

static void
test_plain(void **ctx)
{
    wal_t                *t = *ctx;
    size_t                i;
    uint8_t               buf[SEGMENT];
    uint64_t              offset;
    kv_batch_header_t     h;
    kv_segment_header_t   s;

    wal_empty(t);
    t->replicated = false;
    t->batch = NULL;
    wal_open(t);
    wal_write(t, 1, 100);
    wal_sync(t);
    wal_write(t, 3, 1000);
    wal_sync(t);
    assert_int_equal(kv_wal_mark(t->log, &t->err), KV_OK);
    (void) wal_read(t, FIRST, buf, sizeof(buf));

    for (i = offsetof(kv_segment_header_t, kind); i < KV_SEGMENT_HEADER; i++) {
        assert_int_equal(buf[i], 0);
    }

    memcpy(&s, buf, sizeof(s));
    offset = KV_SEGMENT_HEADER;

    for (i = 0; i < 3; i++) {
        memcpy(&h, buf + offset, sizeof(h));
        assert_int_equal(h.magic, KV_BATCH_MAGIC);
        assert_int_equal(h.count, i == 2 ? 0 : 1 + 2 * i);
        assert_int_equal(h.term, s.id.incarnation);
        assert_true(h.index == 0 && h.commit_index == 0 && h.type == 0
                    && h.durable_end == 0);
        offset += sizeof(h) + h.len;
    }

    wal_replays(t, 4);
}


#define TEST(f)                                                               \
    cmocka_unit_test_setup_teardown(f, replica_setup, wal_teardown)

int
main(void)
{
    int  failed;

    const struct CMUnitTest  tests[] = {
        TEST(test_replay),
        TEST(test_between),
        TEST(test_segments),
        TEST(test_votes_alone),
        TEST(test_vote_synced),
        TEST(test_incarnation),
        TEST(test_incarnation_end),
        TEST(test_largest),
        TEST(test_reserve),
        TEST(test_from_plain),
        TEST(test_plain),
    };

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
