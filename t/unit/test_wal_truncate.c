
/*
 * Entries of a replicated log that are given up, and others in their places;
 * what is committed, and what is read back by its index.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_wal_entries.h"
#include "disk/kv_wal_tail.h"
#include "replica_rig.h"


/* What a reader of entries has got. */

typedef struct {
    uint64_t  next;                  /* the index that comes next */
    uint64_t  lsn;                   /* and its first LSN */
    uint64_t  n;
    uint64_t  stop;                  /* no more than that; 0: all */
    uint8_t  *data;                  /* of the last one with records, */
    size_t    len;
    size_t    max;
} got_t;


static void
cut(wal_t *t, uint64_t index)
{
    assert_int_equal(kv_wal_truncate(t->log, index, &t->err), KV_OK);
    assert_int_equal(t->state.replica.index, index - 1);
    assert_int_equal(t->state.durable_lsn, t->state.next_lsn - 1);
    assert_int_equal(t->state.cutting, 0);
    assert_int_equal(t->state.segments, wal_count(t, "log-"));
}


static kv_rc_t
get(void *ctx, const kv_wal_entry_t *e, uint64_t lsn, uint32_t count,
    const void *data, size_t len)
{
    got_t  *got = ctx;

    if (got->next == got->stop && got->stop) {
        return KV_CANCELLED;
    }

    assert_int_equal(e->index, got->next);

    if (got->lsn) {
        assert_int_equal(lsn, got->lsn);
    }

    assert_true((e->type == KV_ENTRY_RECORDS) == (count != 0));

    if (count) {
        assert_true(len <= got->max);
        memcpy(got->data, data, len);
        got->len = len;
    }

    got->next++;
    got->n++;
    got->lsn = lsn + count;

    return KV_OK;
}


/* All entries from `first` on are there. */

static void
entries(wal_t *t, uint64_t first)
{
    got_t              got;
    uint8_t            data[BATCH];
    kv_wal_final_t     before;
    kv_wal_entries_t  *reader;

    memset(&got, 0, sizeof(got));
    got.next = first;
    got.data = data;
    got.max = sizeof(data);

    reader = kv_wal_entries_create(&t->io, t->dirfd);

    if (kv_wal_entries_read(reader, first, t->state.replica.index + 1, &before,
                            get, &got, &t->err) != KV_OK)
    {
        fail_msg("%s", t->err.text);
    }

    assert_int_equal(got.next, t->state.replica.index + 1);
    assert_true(got.lsn == 0 || got.lsn == t->state.next_lsn);
    assert_int_equal(before.index, first - 1);
    kv_wal_entries_destroy(reader);
}


/* A term with a change and three batches, none of which is committed. */

static void
begin(wal_t *t, size_t len)
{
    unsigned  i;

    t->held = true;
    t->commit = 1;
    replica_open(t);
    replica_vote(t, 1, 77);
    t->commit = 0;
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    t->commit = 1;

    for (i = 0; i < 3; i++) {
        replica_write(t, 2, len);
    }
}


static void
test_same_segment(void **ctx)
{
    wal_t     *t = *ctx;
    uint64_t   index;

    for (index = 2; index <= 4; index++) {
        begin(t, 100);
        replica_vote(t, 2, 78);

        /* there are no such entries */

        assert_int_equal(kv_wal_truncate(t->log, 5, &t->err), KV_OK);
        assert_int_equal(t->state.replica.index, 4);

        cut(t, index);
        assert_int_equal(t->state.next_lsn, 1 + 2 * (index - 2));
        assert_int_equal(t->state.replica.term, 2);
        assert_int_equal(t->state.replica.voted_for, 78);
        replica_same(t, t->state.next_lsn - 1);

        replica_write(t, 3, 50);
        replica_entry(t, KV_ENTRY_BARRIER, NULL);
        replica_same(t, t->state.next_lsn - 1);
        entries(t, 2);

        /* once more, and nothing that was given up comes back */

        cut(t, index);
        replica_same(t, t->state.next_lsn - 1);
        replica_write(t, 1, 10);
        replica_same(t, t->state.next_lsn - 1);
        entries(t, 2);
    }
}


/* Back over several segments, whose files are gone then. */

static void
test_segments(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i, left;
    uint64_t   index;

    left = 0;

    for (index = 2; index <= 12; index++) {
        begin(t, 12000);

        for (i = 0; i < 8; i++) {
            replica_write(t, 1, 30000);
        }

        assert_true(t->state.segments >= 4);
        replica_vote(t, 2, 78);

        /* one of the files cannot be deleted: it is not read, nor purged */

        t->fail_unlink = "log-000000000000000a.kvl";
        assert_int_equal(kv_wal_truncate(t->log, index, &t->err), KV_OK);
        t->fail_unlink = NULL;

        assert_int_equal(t->state.replica.index, index - 1);
        left += t->state.segments < (uint64_t) wal_count(t, "log-");
        replica_write(t, 20, 100);
        replica_write(t, 1, 50000);
        replica_write(t, 1, 50000);
        wal_sync(t);

        assert_int_equal(kv_wal_purge(t->log, 10, t->state.segment_lsn, 1,
                                      NULL, &t->err), KV_OK);
        assert_int_equal(wal_replay(t, 10, 10), KV_OK);
        assert_int_equal(t->seen, t->state.next_lsn - 1);
        assert_int_equal(t->state.segments, wal_count(t, "log-"));
        entries(t, index);
    }

    assert_true(left > 3);
}


/*
 * A file that was given up is still there: an error on the way to know that is
 * told as what it is, and not as damage.
 */

static void
test_unreadable(void **ctx)
{
    int        n;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    unsigned   i, failed;

    begin(t, 12000);

    for (i = 0; i < 8; i++) {
        replica_write(t, 1, 30000);
    }

    replica_vote(t, 2, 78);
    t->fail_unlink = "log-000000000000000a.kvl";
    assert_int_equal(kv_wal_truncate(t->log, 5, &t->err), KV_OK);
    t->fail_unlink = NULL;
    replica_write(t, 1, 50000);
    replica_write(t, 1, 50000);
    wal_sync(t);
    assert_true(t->state.segments < (uint64_t) wal_count(t, "log-"));

    for (n = 1, failed = 0; ; n++) {
        t->fail_at = t->calls + n;
        t->fail_count = 1;
        t->error = EIO;
        rc = wal_replay(t, 0, 0);

        if (t->calls < t->fail_at) {
            break;
        }

        t->fail_at = 0;
        failed += rc != KV_OK;

        if (rc == KV_DAMAGED || rc == KV_NOT_FOUND) {
            fail_msg("call %d: rc %d: %s", n, rc, t->err.text);
        }
    }

    t->fail_at = 0;
    assert_true(failed > 10);
    assert_int_equal(rc, KV_OK);
}


/* A segment that another process purges when it is listed, and not yet open. */

static const char  *gone;
static int        (*open_there)(kv_io_t *io, int dirfd, const char *name,
                                int flags);


static int
open_gone(kv_io_t *io, int dirfd, const char *name, int flags)
{
    if (gone && strcmp(name, gone) == 0) {
        (void) unlinkat(dirfd, name, 0);
    }

    return open_there(io, dirfd, name, flags);
}


static kv_rc_t
count(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) rec;

    *(uint64_t *) ctx = lsn;

    return KV_OK;
}


static void
test_purged(void **ctx)
{
    int               n;
    char              name[KV_NAME_MAX];
    wal_t            *t = *ctx;
    uint64_t          next, seen;
    unsigned          i;
    kv_wal_tail_t    *tail;
    kv_wal_replay_t   from;

    begin(t, 12000);

    for (i = 0; i < 8; i++) {
        replica_write(t, 1, 30000);
    }

    wal_sync(t);
    assert_true(t->state.segments >= 4);
    open_there = t->io.open;
    t->io.open = open_gone;

    memset(&from, 0, sizeof(from));
    from.record = count;
    from.ctx = &seen;

    tail = kv_wal_tail_create(&t->io, t->dirfd, &from, true);
    assert_non_null(tail);
    assert_int_equal(kv_wal_tail_read(tail, &next, &t->err), KV_OK);
    assert_int_equal(seen, t->state.next_lsn - 1);

    /* who follows the log is behind it, and goes on */

    t->commit = t->state.replica.index;
    replica_write(t, 1, 100);
    wal_sync(t);
    gone = FIRST;

    if (kv_wal_tail_read(tail, &next, &t->err) != KV_OK) {
        fail_msg("%s", t->err.text);
    }

    assert_int_equal(seen, t->state.next_lsn - 1);
    kv_wal_tail_destroy(tail);

    /* nor is it needed for later entries, or to purge others */

    gone = wal_name(name, 5);
    assert_true(wal_exists(t, gone));
    entries(t, t->state.replica.index - 1);
    assert_false(wal_exists(t, gone));

    gone = wal_name(name, 8);
    assert_true(wal_exists(t, gone));
    n = wal_count(t, "log-");

    if (kv_wal_purge(t->log, 12, t->state.segment_lsn, 0, NULL, &t->err)
        != KV_OK)
    {
        fail_msg("%s", t->err.text);
    }

    assert_true(wal_count(t, "log-") < n - 1);
    gone = NULL;
    t->io.open = open_there;
}


/* A segment without a record: what stays of it is in the one that follows. */

static void
test_replaced(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i, n, records;

    for (records = 0; records < 2; records++) {

        for (n = 2; n < 12; n++) {
            t->held = true;
            t->commit = 0;
            replica_open(t);
            replica_vote(t, 1, 77);

            if (records) {
                replica_write(t, 3, 60);
                replica_write(t, 1, 60);
                cut(t, 2);
            } else {
                replica_entry(t, KV_ENTRY_CHANGE, "me");
            }

            for (i = 2; i < 12; i++) {
                replica_entry(t, i % 3 ? KV_ENTRY_BARRIER : KV_ENTRY_CHANGE,
                              i % 3 ? NULL : "us");
                replica_vote(t, i, 78);
            }

            t->commit = n > 4 ? 3 : 0;
            assert_int_equal(kv_wal_put_commit(t->log, t->commit, &t->err),
                             KV_OK);
            assert_int_equal(wal_count(t, "log-"), 1 + records);
            cut(t, n);
            assert_int_equal(wal_count(t, "log-"), 1 + records);
            assert_int_equal(t->state.replica.members_len,
                             records && n <= 3 ? 0 : 8);
            assert_true((n <= 3 && records)
                        || strcmp(kv_wal_members(&t->state),
                                  n > 3 ? "us" : "me") == 0);
            entries(t, n > 4 ? 4 : 1);
            replica_same(t, 3 * records);
            replica_write(t, 1, 100);
            replica_same(t, 3 * records + 1);
            entries(t, n > 4 ? 4 : 1);
        }
    }
}


/* A segment full of votes is replaced; entries that may be needed are not. */

static void
test_kept(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;

    t->held = true;
    t->commit = 0;
    replica_vote(t, 1, 77);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    replica_entry(t, KV_ENTRY_BARRIER, NULL);
    replica_entry(t, KV_ENTRY_BARRIER, "data");

    for (i = 2; i < 2000; i++) {
        replica_vote(t, i, i);
    }

    assert_int_equal(wal_count(t, "log-"), 1);
    entries(t, 1);
    replica_same(t, 0);
    entries(t, 1);
    cut(t, 3);
    entries(t, 1);
    replica_same(t, 0);
}


/*
 * Where a call fails with an error that may pass, but the sync, which comes
 * first, the next try goes on.
 */

static void
test_kept_later(void **ctx)
{
    int        n, again;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    unsigned   i, term;

    t->held = true;
    t->commit = 0;
    replica_vote(t, 1, 77);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    replica_entry(t, KV_ENTRY_BARRIER, "data");

    for (n = 2, again = 0, term = 1; n < 20; n++) {

        /* more than there are in a segment */

        for (i = 0; i < 500; i++) {
            t->fail_at = t->calls + n;
            t->fail_count = 1;
            t->error = EMFILE;
            rc = kv_wal_put_vote(t->log, ++term, 77, &t->err);
            t->fail_at = 0;

            if (rc != KV_OK && rc != KV_AGAIN) {
                fail_msg("call %d: rc %d: %s", n, rc, t->err.text);
            }

            again += rc == KV_AGAIN;
        }

        replica_vote(t, ++term, 77);
    }

    assert_true(again > 4);
    assert_int_equal(wal_count(t, "log-"), 1);
    entries(t, 1);
    replica_same(t, 0);
}


/*
 * Any call fails, and another process goes on: nothing is given up, or all that
 * was to be.
 */

static void
test_failures(void **ctx)
{
    int        n, calls, e, gone;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    unsigned   again;
    uint64_t   index;

    static const int  errors[] = { ENOSPC, EIO };

    gone = 0;

    for (e = 0; e < 4; e++) {

        for (n = 0, calls = 0; calls >= n; /* void */ ) {
            n++;
            begin(t, e % 2 ? 100 : 25000);
            wal_sync(t);
            replica_vote(t, 2, 78);

            calls = t->calls;
            t->fail_at = calls + n;
            t->fail_count = e < 2 ? 1 : MANY;
            t->error = errors[e % 2];
            rc = kv_wal_truncate(t->log, 3, &t->err);
            t->fail_at = 0;
            calls = t->calls - calls;

            assert_true(rc == KV_OK || (t->err.text[0] && calls >= n));
            assert_true(rc != KV_OK || t->state.replica.index == 2);

            kv_wal_destroy(t->log);
            t->log = wal_create(t, SEGMENT, t->max_batch);

            again = t->state.cutting;

            if (rc != KV_OK) {
                assert_true(kv_wal_check(t->log, &t->err) != KV_ERROR);
            }

            assert_int_equal(t->state.cutting, 0);
            index = t->state.replica.index;
            assert_true(index == 2 || (index == 4 && rc != KV_OK));
            gone += again && index == 2;

            replica_write(t, 1, 1000);
            wal_sync(t);
            replica_same(t, t->state.next_lsn - 1);
            assert_int_equal(t->state.replica.index, index + 1);
            entries(t, 1);
        }

        assert_true(n > 12);
    }

    assert_true(gone > 0);
}


/* A process is killed before the name is there, or after it. */

static void
test_dead(void **ctx)
{
    wal_t           *t = *ctx;
    unsigned         i;
    kv_err_t         err;
    kv_wal_entry_t   e;
    kv_wal_state_t   old, new;

    for (i = 0; i < 6; i++) {
        begin(t, 100);
        wal_sync(t);

        /* all but what its last steps did: a sync of the name fails */

        t->fail_dir = true;
        assert_int_equal(kv_wal_truncate(t->log, 3, &t->err), KV_ERROR);
        t->fail_dir = false;
        assert_int_equal(t->state.cutting, 1);
        assert_int_equal(t->state.replica.index, 4);
        old = t->state;

        if (i % 2) {
            assert_int_equal(unlinkat(t->dirfd, "log-0000000000000003.kvl", 0),
                             0);
        }

        kv_wal_destroy(t->log);
        t->log = wal_create(t, SEGMENT, t->max_batch);

        e.type = KV_ENTRY_BARRIER;
        e.term = 1;
        e.index = 5;
        e.commit = 1;

        switch (i / 2) {

        case 0:
            assert_int_equal(kv_wal_put_entry(t->log, &e, NULL, 0, &err),
                             KV_AGAIN);
            assert_non_null(strstr(err.text, i % 2 ? "still there" : "gone"));
            break;

        case 1:
            assert_int_equal(kv_wal_put_vote(t->log, 2, 0, &err), KV_AGAIN);
            break;

        default:
            assert_int_equal(kv_wal_sync(t->log, &err), KV_OK);
        }

        new = t->state;
        assert_int_equal(new.cutting, 0);
        assert_int_equal(new.replica.index, i % 2 ? 4 : 2);
        assert_int_equal(new.next_lsn, i % 2 ? old.next_lsn : 3);
        replica_write(t, 1, 10);
        wal_sync(t);
        replica_same(t, t->state.next_lsn - 1);
        entries(t, 1);
    }
}


/* Only what is committed is given; the rest is there, and can be given up. */

static void
test_committed(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;
    uint64_t   last;

    for (i = 0; i < 4; i++) {
        begin(t, i % 2 ? 100 : 20000);
        t->committed = true;

        assert_int_equal(wal_replay(t, 0, 0), KV_OK);
        assert_int_equal(t->seen, 0);
        assert_int_equal(t->final.index, 1);
        assert_int_equal(t->final.term, 1);
        assert_int_equal(t->final.members_index, 1);
        assert_string_equal((char *) t->final.members, "me");
        assert_int_equal(t->state.next_lsn, 7);
        assert_int_equal(t->state.replica.index, 4);
        entries(t, 2);

        /* a snapshot has more */

        assert_int_equal(wal_replay(t, 2, 3), KV_OK);
        assert_int_equal(t->seen, 4);
        assert_int_equal(t->final.index, 3);

        if (i < 2) {
            t->commit = 3;
            replica_write(t, 1, 20000);
        } else {
            assert_int_equal(kv_wal_put_commit(t->log, 3, &t->err), KV_OK);
        }

        assert_int_equal(wal_replay(t, 0, 0), KV_OK);
        assert_int_equal(t->seen, 4);
        assert_int_equal(t->final.index, 3);
        assert_int_equal(t->state.replica.commit, 3);

        t->commit = 3;
        cut(t, 4);
        replica_entry(t, KV_ENTRY_CHANGE, "all");
        replica_write(t, 1, 300);
        last = t->state.next_lsn - 1;
        assert_int_equal(last, 5);
        assert_int_equal(wal_replay(t, 0, 0), KV_OK);
        assert_int_equal(t->seen, 4);
        assert_string_equal((char *) t->final.members, "me");
        assert_string_equal(kv_wal_members(&t->state), "all");

        assert_int_equal(kv_wal_put_commit(t->log, 5, &t->err), KV_OK);
        assert_int_equal(wal_replay(t, 0, 0), KV_OK);
        assert_int_equal(t->seen, 5);
        assert_string_equal((char *) t->final.members, "all");
        assert_int_equal(t->final.members_index, 4);

        /* a voter that is alone takes all */

        t->committed = false;
        replica_same(t, 5);
    }
}


/* A batch as bytes is the same on another node; what is none is refused. */

static void
test_bytes(void **ctx)
{
    got_t              got;
    wal_t             *t = *ctx;
    size_t             i, n, len;
    uint8_t            data[BATCH], there[BATCH];
    uint64_t           lsn;
    kv_wal_entry_t     e;
    kv_wal_entries_t  *reader;

    replica_vote(t, 1, 77);
    memset(&got, 0, sizeof(got));
    got.next = 1;
    got.data = there;
    got.max = sizeof(there);
    reader = kv_wal_entries_create(&t->io, t->dirfd);

    for (i = 0; i < 20; i++) {
        t->value_used = 0;
        kv_wal_begin(t->log);

        for (n = 0; n <= i % 3; n++) {
            lsn = t->state.next_lsn + n;
            assert_int_equal(wal_add(t, t->log, lsn, i * 600), KV_OK);
        }

        len = kv_wal_copy_records(t->log, data);
        assert_int_equal(len, kv_wal_pending(t->log) - HEADER);

        e.type = KV_ENTRY_RECORDS;
        e.term = 1;
        e.index = t->state.replica.index + 1;
        e.commit = e.index - 1;

        t->state.time_ms = 1000 + i;
        t->batch = NULL;

        if (i % 2) {
            kv_wal_set_entry(t->log, &e);
            assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);

        } else {
            assert_int_equal(kv_wal_put_records(t->log, &e, data, len - 8,
                                                &t->err), KV_DAMAGED);
            assert_int_equal(kv_wal_put_records(t->log, &e, data, 0, &t->err),
                             KV_DAMAGED);
            assert_int_equal(kv_wal_put_records(t->log, &e, data, len, &t->err),
                             KV_OK);
        }

        assert_int_equal(t->state.next_lsn, lsn + 1);
        assert_int_equal(kv_wal_entries_read(reader, i + 1, i + 2, NULL, get,
                                             &got, &t->err), KV_OK);
        assert_int_equal(got.len, len);
        assert_memory_equal(data, there, len);
    }

    assert_int_equal(got.n, 20);
    assert_true(t->state.segments > 2);
    kv_wal_entries_destroy(reader);
    replica_same(t, t->state.next_lsn - 1);
}


/*
 * A recycled segment that has its old name again, after a power cut, and what
 * it has become: its number does not count.
 */

static void
test_recycled(void **ctx)
{
    wal_t     *t = *ctx;
    uint8_t    buf[SEGMENT];
    unsigned   i;

    replica_vote(t, 1, 77);

    for (i = 0; i < 6; i++) {
        replica_write(t, 1, 40000);
    }

    wal_sync(t);
    assert_int_equal(t->state.segments, 6);
    assert_int_equal(wal_read(t, "log-0000000000000006.kvl", buf, SEGMENT),
                     SEGMENT);
    wal_store(t, FIRST, 0, buf, SEGMENT);

    assert_int_equal(wal_replay(t, 3, 3), KV_OK);
    assert_int_equal(t->seen, 6);
    assert_int_equal(wal_count(t, "log-"), 6);
}


/* Entries by their index: from any one on, in pieces, and none that is gone. */

static void
test_entries(void **ctx)
{
    got_t              got;
    wal_t             *t = *ctx;
    uint8_t            data[BATCH];
    unsigned           i;
    uint64_t           end;
    kv_wal_final_t     before;
    kv_wal_entries_t  *reader;

    replica_vote(t, 1, 77);

    for (i = 0; i < 40; i++) {
        if (i % 5 == 0) {
            replica_vote(t, t->state.replica.term + 1, i);
            replica_entry(t, KV_ENTRY_CHANGE, "me");
        }

        replica_write(t, 1 + i % 3, 300 * i);
    }

    end = t->state.replica.index + 1;
    assert_true(t->state.segments > 5);

    for (i = 1; i <= end; i++) {
        entries(t, i);
    }

    memset(&got, 0, sizeof(got));
    got.next = 3;
    got.data = data;
    got.max = sizeof(data);
    reader = kv_wal_entries_create(&t->io, t->dirfd);

    while (got.next < end) {
        i = (unsigned) kv_min(end - got.next, 3u);
        assert_int_equal(kv_wal_entries_read(reader, got.next, got.next + i,
                                             &before, get, &got, &t->err),
                         KV_OK);
        assert_int_equal(before.index + 1 + i, got.next);
    }

    assert_int_equal(got.lsn, t->state.next_lsn);

    /* it goes on where it was, as the log grows; what ends it is told */

    replica_write(t, 1, 40000);
    replica_write(t, 1, 40000);
    assert_int_equal(kv_wal_entries_read(reader, end, end + 2, NULL, get, &got,
                                         &t->err), KV_OK);
    got.next = 7;
    got.lsn = 0;
    got.stop = 9;
    assert_int_equal(kv_wal_entries_read(reader, 7, 20, NULL, get, &got,
                                         &t->err), KV_CANCELLED);

    wal_sync(t);
    assert_int_equal(kv_wal_purge(t->log, 40, t->state.segment_lsn, 1, NULL,
                                  &t->err), KV_OK);
    assert_int_equal(kv_wal_entries_read(reader, 1, 2, NULL, get, &got,
                                         &t->err), KV_NOT_FOUND);
    assert_int_equal(got.next, 9);
    kv_wal_entries_destroy(reader);
}


#define TEST(f)                                                               \
    cmocka_unit_test_setup_teardown(f, replica_setup, wal_teardown)

int
main(void)
{
    int  failed;

    const struct CMUnitTest  tests[] = {
        TEST(test_same_segment),
        TEST(test_segments),
        TEST(test_unreadable),
        TEST(test_purged),
        TEST(test_replaced),
        TEST(test_kept),
        TEST(test_kept_later),
        TEST(test_failures),
        TEST(test_dead),
        TEST(test_committed),
        TEST(test_bytes),
        TEST(test_recycled),
        TEST(test_entries),
    };

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
