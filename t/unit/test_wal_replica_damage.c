
/*
 * A replicated log that is not as it was written: what was synced is never
 * missed in silence, also not what has no LSN, and what was not may be torn.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_tail.h"
#include "replica_rig.h"


#define BATCHES  7u


/* What the log is, where a batch ends. */

typedef struct {
    uint64_t          lsn;
    kv_wal_replica_t  replica;
} point_t;


static point_t  points[BATCHES];


static void
point(wal_t *t, unsigned i)
{
    points[i].lsn = t->state.next_lsn - 1;
    points[i].replica = t->state.replica;
}


/* Three records, the last batch a vote. */

static void
make(wal_t *t)
{
    replica_open(t);
    replica_vote(t, 1, 77);
    point(t, 0);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    point(t, 1);
    wal_sync(t);
    replica_write(t, 2, 100);
    point(t, 2);
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    point(t, 3);
    wal_sync(t);
    replica_write(t, 1, 30);
    point(t, 4);
    replica_entry(t, KV_ENTRY_CHANGE, "me, and you");
    point(t, 5);
    replica_vote(t, 2, 78);
    point(t, 6);
}


/* Any bit that was synced, and a mark or a note says so. */

static void
test_each_byte(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   noted;
    uint64_t   i, end;

    static const uint8_t  none[HEADER];

    for (noted = 0; noted < 2; noted++) {
        make(t);
        end = t->state.replica.end;

        if (noted) {
            assert_int_equal(kv_wal_leave_closed(t->log, &t->err), KV_OK);
            wal_store(t, FIRST, end, none, sizeof(none));

        } else {
            wal_sync(t);
            assert_int_equal(kv_wal_mark(t->log, &t->err), KV_OK);
        }

        for (i = KV_SEGMENT_HEADER; i < end; i++) {
            wal_flip(t, FIRST, i);
            wal_damaged(t, FIRST, "");
            wal_flip(t, FIRST, i);
        }

        wal_replays(t, 3);
        assert_int_equal(t->state.replica.term, 2);
        assert_int_equal(t->state.replica.voted_for, 78);
    }
}


/* Without one, the end may be torn off, but for the first STATE. */

static void
test_torn(void **ctx)
{
    wal_t           *t = *ctx;
    uint64_t         i;
    unsigned         n;
    const point_t   *p;

    static const uint8_t  junk[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

    make(t);

    i = t->state.replica.end;
    n = BATCHES - 1;

    for ( ;; ) {
        i -= 8;
        wal_store(t, FIRST, i, junk, sizeof(junk));

        if (i < points[n].replica.end && n-- == 0) {
            break;
        }

        p = &points[n];
        wal_replays(t, p->lsn);

        assert_int_equal(t->state.replica.index, p->replica.index);
        assert_int_equal(t->state.replica.term, p->replica.term);
        assert_int_equal(t->state.replica.voted_for, p->replica.voted_for);
        assert_int_equal(t->state.replica.members_len,
                         p->replica.members_len);
        assert_int_equal(t->state.replica.end, p->replica.end);
    }

    /* the vote is gone, and before it is what the segment begins with */

    wal_replays(t, 0);
    assert_int_equal(t->state.replica.term, 0);

    wal_store(t, FIRST, KV_SEGMENT_HEADER, junk, sizeof(junk));
    wal_damaged(t, FIRST, "the state of the replicated log, with which each "
                "segment begins, is not there");
}


/* Whatever is behind a gap says that all before it was synced, or nothing. */

static void
test_gap(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i, damaged;
    uint64_t   at;

    damaged = 0;

    for (i = 1; i < BATCHES; i++) {
        make(t);
        at = points[i - 1].replica.end;
        wal_flip(t, FIRST, at + 9);

        /* the batch of record 3 says that all was synced up to it */

        if (i < 4) {
            wal_damaged(t, FIRST, i < 3 ? "says that 2 was durable"
                                        : "the log was durable up to offset");
            damaged++;
            continue;
        }

        wal_replays(t, points[i - 1].lsn);
        assert_int_equal(t->state.replica.index, points[i - 1].replica.index);

        /* what lies behind it never comes to life */

        replica_vote(t, 3, 79);
        replica_entry(t, KV_ENTRY_BARRIER, NULL);
        replica_write(t, 1, 40);
        replica_same(t, points[i - 1].lsn + 1);
    }

    assert_int_equal(damaged, 3);
}


/* A log of two segments; the first one ends with a CHANGE and a vote. */

static uint64_t
make_two(wal_t *t, char *second)
{
    replica_open(t);
    replica_vote(t, 1, 77);
    replica_write(t, 1, 50000);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    replica_vote(t, 2, 78);
    replica_write(t, 1, 20000);
    wal_sync(t);
    assert_int_equal(t->state.segments, 2);
    (void) wal_name(second, 2);

    return t->state.replica.before;
}


static int
truncateat(wal_t *t, uint64_t size)
{
    int  fd, rc;

    fd = openat(t->dirfd, FIRST, O_RDWR);
    assert_true(fd >= 0);
    rc = ftruncate(fd, (off_t) size);
    (void) close(fd);

    return rc;
}


/* What has no LSN, at the end of a segment that another one follows. */

static void
test_older_segment(void **ctx)
{
    char       second[KV_NAME_MAX];
    wal_t     *t = *ctx;
    uint64_t   i, end;

    end = make_two(t, second);
    replica_same(t, 2);

    for (i = end - 300; i < end; i++) {
        wal_flip(t, FIRST, i);
        wal_damaged(t, FIRST, "no good batch ");
        wal_flip(t, FIRST, i);
    }

    wal_replays(t, 2);
    assert_int_equal(t->state.replica.voted_for, 78);

    /* the file ends before them */

    assert_int_equal(truncateat(t, end - 300), 0);
    wal_damaged(t, FIRST, "the file ends here, but its header says");
}


static kv_rc_t
count(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) rec;
    assert_int_equal(lsn, ++*(uint64_t *) ctx);

    return KV_OK;
}


/* Who reads it while it grows gets records to that LSN; `all`: of all. */

static void
tail(wal_t *t, bool all, uint64_t last)
{
    uint64_t          next, n;
    kv_wal_tail_t    *reader;
    kv_wal_replay_t   from;

    n = 0;
    memset(&from, 0, sizeof(from));
    from.record = count;
    from.ctx = &n;

    reader = kv_wal_tail_create(&t->system, t->dirfd, &from, all);
    assert_non_null(reader);
    assert_int_equal(kv_wal_tail_read(reader, &next, &t->err), KV_OK);
    kv_wal_tail_destroy(reader);
    assert_int_equal(n, last);
}


/* Of a directory in use, those that are durable. */

static void
test_tail(void **ctx)
{
    wal_t  *t = *ctx;

    make(t);
    tail(t, true, 3);
    tail(t, false, 2);
    wal_sync(t);
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    tail(t, false, 3);
}


/* What was synced before a start is known to be, before the next sync. */

static void
test_after_start(void **ctx)
{
    wal_t     *t = *ctx;
    uint64_t   end;

    make(t);
    wal_sync(t);
    replica_same(t, 3);
    end = t->state.replica.end;
    replica_entry(t, KV_ENTRY_BARRIER, NULL);

    wal_flip(t, FIRST, end - 60);
    wal_damaged(t, FIRST, "the log was durable up to offset");
    wal_flip(t, FIRST, end - 60);
    wal_replays(t, 3);
}


/*
 * A process died when it had written an entry that the next one, which needed
 * more space, did not write over.
 */

static void
test_stale(void **ctx)
{
    wal_t            *t = *ctx;
    unsigned          i;
    kv_wal_state_t    was;

    for (i = 0; i < 3; i++) {
        replica_open(t);
        replica_vote(t, 1, 77);
        replica_write(t, 1, 50000);
        was = t->state;

        if (i == 0) {
            replica_entry(t, KV_ENTRY_BARRIER, NULL);

        } else if (i == 1) {
            replica_vote(t, 9, 99);

        } else {
            replica_write(t, 1, 100);
        }

        t->state = was;
        replica_write(t, 1, 20000);
        wal_sync(t);
        assert_int_equal(t->state.segments, 2);
        replica_same(t, 2);
        assert_int_equal(t->state.replica.term, 1);
        tail(t, true, 2);
    }
}


/* A file from elsewhere, or none. */

static void
test_swapped(void **ctx)
{
    char                  second[KV_NAME_MAX];
    wal_t                *t = *ctx;
    uint8_t               saved[SEGMENT], buf[SEGMENT];
    kv_segment_header_t   h;

    (void) make_two(t, second);
    (void) wal_read(t, second, saved, sizeof(saved));

    /* the second segment of a log whose first one went further */

    replica_open(t);
    replica_vote(t, 1, 77);
    replica_write(t, 1, 50000);
    replica_write(t, 1, 20000);
    replica_same(t, 2);
    memset(t->model, 0, sizeof(t->model));
    wal_store(t, second, 0, saved, sizeof(saved));
    wal_damaged(t, FIRST, "no good batch is here, and the next segment says "
                "that this one goes on to offset");

    /* and the other way round */

    (void) wal_read(t, FIRST, buf, sizeof(buf));
    (void) make_two(t, second);
    memset(t->model, 0, sizeof(t->model));
    wal_store(t, FIRST, 0, buf, sizeof(buf));
    wal_damaged(t, FIRST, "no good batch is here, and the next segment");

    /* one of no replicated log */

    (void) make_two(t, second);
    (void) wal_read(t, second, saved, sizeof(saved));
    memcpy(&h, saved, sizeof(h));
    h.kind = KV_SEGMENT_PLAIN;
    wal_reseal(t, second, &h);
    wal_damaged(t, second, "the segment is of no replicated log");

    h.kind = KV_SEGMENT_RESTORED + 1;
    wal_reseal(t, second, &h);
    wal_damaged(t, second, "kind 3, of which this version");
}


/* The first STATE of a segment, without which the votes are not known. */

static void
test_no_state(void **ctx)
{
    char       second[KV_NAME_MAX];
    wal_t     *t = *ctx;
    uint64_t   i;

    static const uint8_t  none[SEGMENT];

    (void) make_two(t, second);

    for (i = 0; i < 144; i++) {
        wal_flip(t, second, KV_SEGMENT_HEADER + i);
        wal_damaged(t, second, "the state of the replicated log");
        wal_flip(t, second, KV_SEGMENT_HEADER + i);
    }

    wal_store(t, second, KV_SEGMENT_HEADER, none, SEGMENT - KV_SEGMENT_HEADER);
    wal_damaged(t, second, "the state of the replicated log");

    /* the way out is not to cut it, which would lead nowhere */

    assert_non_null(strstr(t->err.text, "move this file away"));
    assert_null(strstr(t->err.text, "truncate"));
    assert_int_equal(unlinkat(t->dirfd, second, 0), 0);
    wal_replays(t, 1);
    assert_int_equal(t->state.replica.voted_for, 78);
}


/* There is a batch where it should be, but another one. */

static void
test_other_first(void **ctx)
{
    char                  second[KV_NAME_MAX];
    wal_t                *t = *ctx;
    uint8_t               buf[SEGMENT];
    kv_batch_header_t     h;
    kv_segment_header_t   s;

    (void) make_two(t, second);
    (void) wal_read(t, second, buf, sizeof(buf));
    memcpy(&s, buf, sizeof(s));

    memset(&h, 0, sizeof(h));
    h.magic = KV_BATCH_MAGIC;
    h.first_lsn = 2;
    h.durable_lsn = 1;
    h.salt = s.salt;
    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, HEADER - 8);
    wal_store(t, second, KV_SEGMENT_HEADER, &h, sizeof(h));
    wal_damaged(t, second, "the state of the replicated log");
}


/* The ways out where a snapshot needs the log that is lost. */

static void
test_ways(void **ctx)
{
    char              second[KV_NAME_MAX];
    wal_t            *t = *ctx;
    kv_wal_way_t      way;
    kv_wal_replay_t   from;

    make(t);
    wal_sync(t);
    wal_flip(t, FIRST, KV_SEGMENT_HEADER);

    memset(&from, 0, sizeof(from));
    from.after = 2;
    from.must_reach = 2;
    from.index = 3;
    from.record = count;
    assert_int_equal(kv_wal_read(&t->system, t->dirfd, &from, NULL, &way,
                                 &t->err), KV_DAMAGED);
    assert_true(way.alone && way.cut_size == 0);
    if (strstr(t->err.text, "move every log-* away and run \"touch "
               "snap-0000000000000002.alone\"") == NULL)
    {
        fail_msg("%s", t->err.text);
    }

    wal_empty(t);

    /* an older segment still has them */

    (void) make_two(t, second);
    wal_flip(t, second, KV_SEGMENT_HEADER);
    from.after = 1;
    from.must_reach = 1;
    from.index = 1;
    assert_int_equal(kv_wal_read(&t->system, t->dirfd, &from, NULL, &way,
                                 &t->err), KV_DAMAGED);
    assert_true(!way.alone && way.logs_from == 2);

    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    assert_int_equal(kv_wal_read(&t->system, t->dirfd, &from, NULL, &way,
                                 &t->err), KV_DAMAGED);
    assert_true(way.alone && way.logs_from == 2);

    if (strstr(t->err.text, "move this file away and run \"touch "
               "snap-0000000000000001.alone\"") == NULL)
    {
        fail_msg("%s", t->err.text);
    }

    wal_empty(t);
    assert_int_equal(kv_wal_read(&t->system, t->dirfd, &from, NULL, &way,
                                 &t->err), KV_DAMAGED);
    assert_true(way.alone);
    assert_non_null(strstr(t->err.text, "\"touch snap-0000000000000001.alone"));

    from.alone = true;
    assert_int_equal(kv_wal_read(&t->system, t->dirfd, &from, NULL, &way,
                                 &t->err), KV_OK);
    wal_open(t);
}


/* A snapshot of a replicated log needs the log, for term, vote and members. */

static void
test_snapshot(void **ctx)
{
    wal_t  *t = *ctx;

    make(t);
    wal_sync(t);

    t->index = 5;
    assert_int_equal(wal_replay(t, 3, 3), KV_OK);
    t->index = 6;
    assert_int_equal(wal_replay(t, 3, 3), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "the log ends with index 5, but "
                           "snap-0000000000000003.kvs has entries up to 6"));

    wal_empty(t);
    assert_int_equal(wal_replay(t, 3, 3), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "no log-*.kvl is there, but "
                           "snap-0000000000000003.kvs is of a replicated log"));
    t->index = 0;
    assert_int_equal(wal_replay(t, 3, 3), KV_OK);
}


/* The last segment, which has votes and no record, is gone: the note tells. */

static void
test_last_gone(void **ctx)
{
    char   name[KV_NAME_MAX];
    wal_t  *t = *ctx;

    replica_vote(t, 1, 77);
    replica_write(t, 1, 30000);

    while (t->state.segments == 1) {
        replica_vote(t, t->state.replica.term + 1, 78);
    }

    (void) wal_name(name, t->state.segment_lsn);
    assert_int_equal(t->state.next_lsn, 2);
    assert_int_equal(kv_wal_leave_closed(t->log, &t->err), KV_OK);
    replica_same(t, 1);
    assert_int_equal(kv_wal_leave_closed(t->log, &t->err), KV_OK);

    assert_int_equal(unlinkat(t->dirfd, name, 0), 0);
    assert_int_equal(wal_replay(t, 0, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "log-0000000000000001.closed: it says "
                           "that the replicated log ended in log-000000000000"
                           "0002.kvl, which is not there"));

    /* as the message says */

    assert_int_equal(unlinkat(t->dirfd, "log-0000000000000001.closed", 0), 0);
    wal_replays(t, 1);
}


/* Writes a batch there, as it is but for the checksum. */

static void
forge(wal_t *t, uint64_t offset, kv_batch_header_t *h, const void *data)
{
    uint8_t  buf[8192];

    memcpy(buf, h, sizeof(*h));
    memcpy(buf + sizeof(*h), data, h->len);
    h->crc = kv_crc32c(0, buf + 8, HEADER - 8 + h->len);
    memcpy(buf, h, sizeof(*h));
    wal_store(t, FIRST, offset, buf, sizeof(*h) + h->len);
}


/* Entries that no log can have, with a good checksum. */

static void
test_forged(void **ctx)
{
    wal_t              *t = *ctx;
    unsigned            i;
    uint64_t            end;
    kv_batch_header_t   good, h;

    static uint8_t  data[5000] = { 1 };

    static const struct {
        size_t       offset;
        uint64_t     value;
        size_t       size;
        const char  *what;
    } forged[] = {
        { offsetof(kv_batch_header_t, index), 5, 8, "the entry has index 5" },
        { offsetof(kv_batch_header_t, index), 7, 8, "the entry has index 7" },
        { offsetof(kv_batch_header_t, term), 0, 8, "term 0" },
        { offsetof(kv_batch_header_t, term), 3, 8, "term 3" },
        { offsetof(kv_batch_header_t, commit_index), 7, 8, "commit index 7" },
        { offsetof(kv_batch_header_t, durable_end), 65000, 4,
          "the segment was durable before it up to offset 65000" },
        { offsetof(kv_batch_header_t, durable_lsn), 4, 8, "LSN 4 was durable" },
        { offsetof(kv_batch_header_t, type), 5, 4, "of an entry of type 5" },
        { offsetof(kv_batch_header_t, type), KV_ENTRY_RECORDS, 4,
          "no entry of type 1 has 0 records" },
        { offsetof(kv_batch_header_t, count), 1, 4,
          "no entry of type 3 has 1 records" },
        { offsetof(kv_batch_header_t, type), KV_ENTRY_STATE, 4,
          "this is no state of a replicated log" },
        { offsetof(kv_batch_header_t, len), 0, 4, "the members have 0 bytes" },
        { offsetof(kv_batch_header_t, len), 4104, 4,
          "the members have 4104 bytes" },
    };

    make(t);
    end = t->state.replica.end;

    memset(&good, 0, sizeof(good));
    good.magic = KV_BATCH_MAGIC;
    good.len = 16;
    good.first_lsn = 4;
    good.durable_lsn = 2;
    good.salt = t->state.segment_salt;
    good.term = 2;
    good.index = t->state.replica.index + 1;
    good.commit_index = 4;
    good.type = KV_ENTRY_CHANGE;
    good.durable_end = KV_SEGMENT_HEADER;

    for (i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        h = good;
        memcpy((uint8_t *) &h + forged[i].offset, &forged[i].value,
               forged[i].size);
        forge(t, end, &h, data);
        wal_damaged(t, FIRST, forged[i].what);
    }
}


#define STATE(field)     offsetof(kv_entry_state_t, field)
#define BATCH_OF(field)  offsetof(kv_batch_header_t, field)

/* States with a good checksum that do not follow on what is before them. */

static void
test_forged_state(void **ctx)
{
    char                  second[KV_NAME_MAX];
    wal_t                *t = *ctx;
    uint8_t               buf[SEGMENT];
    unsigned              i, first;
    uint64_t              end;
    kv_entry_state_t      s;
    kv_batch_header_t     good, h;

    /* of the header, if `state` is false */

    static const struct {
        bool         state;
        bool         first;            /* where it is the first one, */
        bool         mid;              /* and where it is not */
        size_t       offset;
        uint64_t     value;
        size_t       size;
        const char  *what;
    } forged[] = {
        { false, true, true, BATCH_OF(term), 1, 8, "follow on" },
        { true, true, false, STATE(voted_for), 5, 8, "follow on" },
        { true, true, true, STATE(index), 2, 8, "follow on" },
        { true, true, true, STATE(index_term), 0, 8, "follow on" },
        { true, true, true, STATE(members_index), 1, 8, "follow on" },
        { true, true, true, STATE(members_index), 9, 8, "no state" },
        { true, true, true, STATE(members_index), 0, 8, "no state" },
        { true, true, true, STATE(index_term), 9, 8, "no state" },
        { true, false, true, STATE(number), 1, 4, "no state" },
        { true, true, true, STATE(len), 16, 4, "no state" },
        { true, true, true, STATE(len), 4104, 4, "no state" },
        { true, false, true, STATE(before), 4096, 8, "no state" },
    };

    for (first = 0; first < 2; first++) {

        for (i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {

            /* the first STATE of the second segment, or the last vote */

            end = make_two(t, second);
            (void) wal_read(t, first ? second : FIRST, buf, sizeof(buf));
            end = first ? KV_SEGMENT_HEADER
                        : end - (HEADER + sizeof(s) + 8);
            memcpy(&good, buf + end, sizeof(good));
            assert_int_equal(good.type, KV_ENTRY_STATE);
            assert_int_equal(good.term, 2);

            h = good;
            memcpy(&s, buf + end + HEADER, sizeof(s));
            memcpy((forged[i].state ? (uint8_t *) &s : (uint8_t *) &h)
                   + forged[i].offset, &forged[i].value, forged[i].size);

            memcpy(buf + end + HEADER, &s, sizeof(s));
            memcpy(buf + end, &h, sizeof(h));
            h.crc = kv_crc32c(0, buf + end + 8, HEADER - 8 + h.len);
            memcpy(buf + end, &h, sizeof(h));
            wal_store(t, first ? second : FIRST, 0, buf, sizeof(buf));

            if (first ? forged[i].first : forged[i].mid) {
                wal_damaged(t, first ? second : FIRST, forged[i].what);
            }
        }
    }
}


#define TEST(f)                                                               \
    cmocka_unit_test_setup_teardown(f, replica_setup, wal_teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_each_byte),
        TEST(test_torn),
        TEST(test_gap),
        TEST(test_older_segment),
        TEST(test_stale),
        TEST(test_swapped),
        TEST(test_no_state),
        TEST(test_other_first),
        TEST(test_ways),
        TEST(test_tail),
        TEST(test_after_start),
        TEST(test_snapshot),
        TEST(test_forged_state),
        TEST(test_last_gone),
        TEST(test_forged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
