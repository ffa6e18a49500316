
/*
 * A replicated log when its writers die, or the power goes: no vote that was
 * synced is forgotten, and no entry.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "replica_rig.h"


/* What was synced: the next start must have it. */

typedef struct {
    uint64_t          lsn;
    kv_wal_replica_t  replica;
} synced_t;


static unsigned  given_up;


/* A process is killed while it moves the state, with members that are new. */

static void
test_dead_moving(void **ctx)
{
    size_t           n;
    wal_t           *t = *ctx;
    unsigned         kind;
    kv_wal_state_t   old, new;

    for (kind = 0; kind < 3; kind++) {
        replica_open(t);
        replica_vote(t, 1, 77);
        replica_entry(t, KV_ENTRY_CHANGE, "me");
        replica_write(t, 1, 50000);
        assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
        old = t->state;

        switch (kind) {
        case 0:
            replica_entry(t, KV_ENTRY_CHANGE, "all of us");
            break;
        case 1:
            replica_vote(t, 2, 78);
            break;
        default:
            replica_write(t, 1, 20000);
        }

        new = t->state;

        /* as much of what moves has moved; the bytes of the members have */

        for (n = 0; n <= sizeof(new.replica); n += 4) {
            t->state = old;
            memcpy(t->state.members, new.members, sizeof(new.members));
            t->state.to = new.to;
            t->state.moving = 1;
            t->state.unsynced = new.unsynced;
            memcpy(&t->state.replica, &new.replica, n);

            kv_wal_begin(t->log);

            assert_int_equal(t->state.moving, 0);
            assert_memory_equal(&t->state.replica, &new.replica,
                                sizeof(new.replica));
        }

        t->state.durable_salt = new.durable_salt;
        t->state.durable_offset = new.durable_offset;
        assert_string_equal(kv_wal_members(&t->state),
                            kind ? "me" : "all of us");
        replica_entry(t, KV_ENTRY_BARRIER, NULL);
        replica_same(t, kind == 2 ? 2 : 1);

        /* not yet moved: what is there next is written over it */

        if (kind < 2) {
            replica_open(t);
            replica_vote(t, 1, 77);
            replica_entry(t, KV_ENTRY_CHANGE, "me");
            old = t->state;
            replica_entry(t, KV_ENTRY_CHANGE, "all of us");
            new = t->state;
            t->state = old;
            memcpy(t->state.members, new.members, sizeof(new.members));
            assert_string_equal(kv_wal_members(&t->state), "me");
            replica_write(t, 1, 10);
            replica_same(t, 1);
            assert_string_equal(kv_wal_members(&t->state), "me");
        }
    }
}


/* A process died in its sync, which may have failed, of a vote alone. */

static void
test_dead_sync(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;

    t->keep = true;

    for (i = 0; i < 3; i++) {
        wal_empty(t);
        wal_open(t);
        replica_vote(t, 1, 77);

        if (i) {
            replica_write(t, 2, 3000);
            replica_entry(t, KV_ENTRY_CHANGE, "me");
            assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
        }

        if (i == 2) {
            replica_write(t, 1, 5000);
        }

        replica_vote(t, 2, 78);
        replica_entry(t, KV_ENTRY_BARRIER, NULL);

        t->fail_at = t->calls + 1;
        t->fail_count = 1;
        t->error = EIO;
        assert_int_equal(kv_wal_sync(t->log, &t->err), KV_ERROR);
        t->fail_at = 0;
        kv_wal_destroy(t->log);
        t->log = wal_create(t, SEGMENT, t->max_batch);

        assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
        wal_cut(t);
        replica_same(t, i ? i + 1 : 0);
        assert_int_equal(t->state.replica.voted_for, 78);
    }

    t->keep = false;
}


/* A sync failed, and the next start reads what is in memory only. */

static void
test_sync_lost(void **ctx)
{
    wal_t  *t = *ctx;

    t->keep = true;
    replica_vote(t, 1, 77);
    replica_write(t, 1, 100);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    replica_vote(t, 2, 78);
    replica_entry(t, KV_ENTRY_CHANGE, "me");
    replica_entry(t, KV_ENTRY_BARRIER, NULL);

    t->fail_at = t->calls + 1;
    t->fail_count = 1;
    t->error = EIO;
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_ERROR);
    assert_int_equal(t->state.unsynced, 1);

    replica_same(t, 1);
    wal_cut(t);
    replica_same(t, 1);
    assert_int_equal(t->state.replica.voted_for, 78);
    t->keep = false;
}


/* The same where no batch may go to the segment any more. */

static void
test_sealed(void **ctx)
{
    wal_t  *t = *ctx;

    t->keep = true;
    replica_vote(t, 1, 77);
    replica_write(t, 1, 100);
    replica_vote(t, 2, 78);
    t->state.offset = t->state.segment_size;

    t->fail_at = t->calls + 1;
    t->fail_count = 1;
    t->error = EIO;
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_ERROR);

    kv_wal_destroy(t->log);
    t->log = wal_create(t, SEGMENT, t->max_batch);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    replica_write(t, 1, 100);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.segments, 2);
    wal_cut(t);
    replica_same(t, 2);
    t->keep = false;
}


/*
 * The segment is deleted, and all that is in it is in memory, too: it is made
 * anew, when there is space for that.  Until then nothing is taken for synced.
 */

static void
test_deleted(void **ctx)
{
    wal_t  *t = *ctx;

    replica_vote(t, 1, 77);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    replica_vote(t, 2, 78);
    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);

    t->fail_space = true;
    assert_int_equal(kv_wal_put_vote(t->log, 3, 79, &t->err), KV_NO_SPACE);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_NO_SPACE);
    kv_wal_destroy(t->log);
    t->log = wal_create(t, SEGMENT, t->max_batch);
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_NO_SPACE);
    t->fail_space = false;

    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    assert_true(wal_exists(t, FIRST));
    replica_same(t, 0);
    assert_int_equal(t->state.replica.voted_for, 78);
}


/*
 * A start finds the disk too full to write the end of the log once more.  What
 * has no LSN is written first where there is space again, or in the segment
 * that takes the place of this one.
 */

static void
test_full_start(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;

    for (i = 0; i < 2; i++) {
        replica_open(t);
        replica_vote(t, 1, 77);
        replica_entry(t, KV_ENTRY_CHANGE, "me");

        if (i) {
            replica_write(t, 1, 100);
            assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
            replica_vote(t, 2, 78);
        }

        t->fail_write = 1;
        t->error = ENOSPC;
        assert_int_equal(wal_replay(t, 0, 0), KV_OK);
        assert_int_equal(t->state.unsynced, 1);
        assert_int_not_equal(t->state.rewrite_end, 0);
        assert_int_equal(t->state.replica.voted_for, 77 + i);

        assert_int_equal(kv_wal_put_vote(t->log, 3, 79, &t->err), KV_NO_SPACE);
        assert_int_equal(t->state.replica.voted_for, 77 + i);
        t->fail_write = 0;

        replica_vote(t, 3, 79);
        assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
        replica_entry(t, KV_ENTRY_BARRIER, NULL);
        assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
        replica_same(t, i);
        assert_int_equal(wal_count(t, "log-"), 1 + i);
    }
}


/*
 * Some of the last entries, which are not committed, and are not in a snapshot,
 * are given up; or they stay, if that fails.
 */

static kv_rc_t
give_up(wal_t *t, uint64_t base, synced_t *synced)
{
    uint64_t                 index;
    const kv_wal_replica_t  *r;

    r = &t->state.replica;

    if (r->index == r->commit) {
        return KV_OK;
    }

    index = r->commit + 1 + wal_random(t, r->index - r->commit);

    if (replica_lsn(index) <= base) {
        return KV_OK;
    }

    given_up++;
    synced->lsn = kv_min(synced->lsn, replica_lsn(index) - 1);
    synced->replica.index = kv_min(synced->replica.index, index - 1);
    synced->replica.index_term = 0;
    synced->replica.members_index = 0;

    return kv_wal_truncate(t->log, index, &t->err);
}


/* One step of a life. */

static kv_rc_t
live(wal_t *t, uint64_t *base, synced_t *synced)
{
    char      members[64];
    kv_rc_t   rc;
    uint64_t  term;

    term = t->state.replica.term;

    /* the next entry says that some are committed */

    t->commit = t->state.replica.index;
    t->commit -= wal_random(t, t->commit - t->state.replica.commit + 1);

    switch (wal_random(t, 13)) {

    case 0:
        return kv_wal_put_vote(t->log, term + 1, wal_random(t, 3), &t->err);

    case 1:
        return t->state.replica.voted_for
               ? KV_OK : kv_wal_put_vote(t->log, term, 5, &t->err);

    case 2:
        (void) snprintf(members, sizeof(members), "members of %llu, %.*s",
                        (unsigned long long) t->state.replica.index + 1,
                        (int) wal_random(t, 20), "abcdefghijklmnopqrstu");
        return replica_try(t, KV_ENTRY_CHANGE, members);

    case 3:
        return replica_try(t, KV_ENTRY_BARRIER, NULL);

    case 4:
        return kv_wal_mark(t->log, &t->err);

    case 5:
        rc = kv_wal_prepare(t->log, NULL);
        return rc == KV_DECLINED ? KV_OK : rc;

    case 6:
        *base = kv_max(*base, t->state.durable_lsn);
        return kv_wal_purge(t->log, *base, t->state.segment_lsn,
                            (unsigned) wal_random(t, 3), NULL, &t->err);

    case 7:
    case 8:
        return kv_wal_sync(t->log, &t->err);

    case 9:
        return give_up(t, *base, synced);

    default:
        return replica_try_write(t, 1 + (unsigned) wal_random(t, 5),
                                 wal_random(t, 3) ? wal_random(t, 700)
                                                  : wal_random(t, 10000));
    }
}


static void
note(wal_t *t, synced_t *synced)
{
    if (t->state.unsynced == 0 && t->state.cutting == 0
        && t->state.durable_lsn == t->state.next_lsn - 1)
    {
        synced->lsn = t->state.durable_lsn;
        synced->replica = t->state.replica;
    }
}


static void
check(wal_t *t, const synced_t *synced, const char *what)
{
    char                     members[64];
    const kv_wal_replica_t  *r, *s;

    r = &t->state.replica;
    s = &synced->replica;

    if (t->state.next_lsn - 1 < synced->lsn || r->index < s->index
        || r->term < s->term || r->commit < s->commit
        || r->index_term < s->index_term
        || (r->term == s->term && s->voted_for
            && r->voted_for != s->voted_for)
        || r->members_index < s->members_index)
    {
        fail_msg("%s: %llu %llu %llu %llu, was %llu %llu %llu %llu", what,
                 (unsigned long long) t->state.next_lsn - 1,
                 (unsigned long long) r->index,
                 (unsigned long long) r->term,
                 (unsigned long long) r->voted_for,
                 (unsigned long long) synced->lsn,
                 (unsigned long long) s->index, (unsigned long long) s->term,
                 (unsigned long long) s->voted_for);
    }

    if (r->members_index) {
        (void) snprintf(members, sizeof(members), "members of %llu, ",
                        (unsigned long long) r->members_index);
        assert_memory_equal(kv_wal_members(&t->state), members,
                            strlen(members));
    }
}


/*
 * Power cuts, as in test_wal_disk.c: any part of what no sync has followed is
 * gone.
 */

static void
test_power_cuts(void **ctx)
{
    bool       died, stop;
    char       what[64];
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    synced_t   synced;
    uint64_t   base, round, step, n;

    base = 0;
    given_up = 0;
    t->held = true;
    memset(&synced, 0, sizeof(synced));

    for (round = 0; round < 400; round++) {

        if (round % 10 == 0) {
            t->keep = false;
            replica_open(t);
            memset(&synced, 0, sizeof(synced));
            base = 0;
            t->keep = true;
        }

        n = 1 + wal_random(t, wal_random(t, 2) ? 5 : 80);
        died = false;
        stop = false;

        t->calls = 0;
        t->fail_at = 0;

        if (wal_random(t, 2)) {
            t->fail_at = 1 + (int) wal_random(t, 4 * n);
            t->fail_count = wal_random(t, 2) ? MANY : 1;
            t->error = EIO;
        }

        for (step = 0; step < n && !stop; step++) {

            rc = live(t, &base, &synced);
            note(t, &synced);

            if (rc != KV_OK && !died) {
                died = true;
                stop = t->fail_count == 1 || wal_random(t, 2);
                t->fail_at = 0;
                kv_wal_destroy(t->log);
                t->log = wal_create(t, SEGMENT, t->max_batch);
            }

            assert_true(rc == KV_OK || died);
        }

        t->fail_at = 0;

        if (wal_random(t, 4)) {
            wal_cut(t);
        }

        (void) snprintf(what, sizeof(what), "round %d", (int) round);

        t->committed = wal_random(t, 2);

        if (wal_replay(t, base, base) != KV_OK) {
            fail_msg("%s: %s", what, t->err.text);
        }

        if (t->committed) {
            assert_true(t->final.index >= synced.replica.commit);
        }

        check(t, &synced, what);
        note(t, &synced);
    }

    assert_true(given_up > 100);
    t->keep = false;
}


#define TEST(f)                                                               \
    cmocka_unit_test_setup_teardown(f, replica_setup, wal_teardown)

int
main(void)
{
    int  failed;

    const struct CMUnitTest  tests[] = {
        TEST(test_dead_moving),
        TEST(test_dead_sync),
        TEST(test_sync_lost),
        TEST(test_sealed),
        TEST(test_deleted),
        TEST(test_full_start),
        TEST(test_power_cuts),
    };

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
