
/*
 * The log on a disk that fails or loses its power: every call of the I/O table
 * fails in turn, syncs lose what they should have written, and power cuts take
 * any part of what was not synced.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "disk/kv_wal.h"
#include "wal_rig.h"


/* Every call fails once; what was acknowledged is there all the same. */

static void
test_failures(void **ctx)
{
    int        n, i, e;
    bool       stop;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    uint64_t   before, after, purged;

    static const int  errors[] = { ENOSPC, EIO };

    for (e = 0; e < 2; e++) {

        for (n = 1; /* void */ ; n++) {
            wal_empty(t);
            wal_open(t);
            t->calls = 0;
            t->fail_at = n;
            t->fail_count = 1;
            t->error = errors[e];
            purged = 0;
            stop = false;

            for (i = 0; i < 12 && !stop; i++) {
                before = t->state.next_lsn;

                rc = wal_try(t, t->log, 2, 9000 + 8 * (size_t) i);

                if (rc == KV_NO_SPACE) {
                    assert_int_equal(errors[e], ENOSPC);
                    assert_int_equal(errno, ENOSPC);
                    assert_int_equal(t->state.next_lsn, before);
                    assert_non_null(strstr(t->err.text, "space on the disk"));
                    assert_int_equal(wal_count(t, ""),
                                     (int) t->state.segments
                                     + wal_count(t, "spare-"));

                    /* the same batch again, or another one */

                    rc = i % 2 ? kv_wal_write(t->log, &t->err)
                               : wal_try(t, t->log, 2, 20);
                    assert_int_equal(rc, KV_OK);
                }

                if (rc == KV_OK) {
                    assert_int_equal(t->state.next_lsn, before + 2);
                    rc = kv_wal_sync(t->log, &t->err);
                }

                if (rc != KV_OK) {
                    assert_int_equal(rc, KV_ERROR);
                    assert_int_equal(errno, errors[e]);
                    assert_true(t->state.next_lsn <= before + 2);
                    assert_true(t->state.durable_lsn == before - 1);
                    stop = true;
                    break;
                }

                t->acked = t->state.durable_lsn;

                if (i == 3) {
                    rc = kv_wal_prepare(t->log, NULL);
                    assert_true(rc == KV_OK || errno == errors[e]);
                }

                if (i == 7 || i == 9) {
                    purged = before - 1;
                    (void) kv_wal_purge(t->log, purged, t->state.segment_lsn,
                                        1, NULL, &t->err);
                }

                (void) kv_wal_mark(t->log, &t->err);
            }

            if (t->calls < n) {
                break;
            }

            t->fail_at = 0;
            before = t->acked;
            after = wal_exists(t, FIRST) ? 0 : purged;

            assert_int_equal(wal_replay(t, after, 0), KV_OK);
            assert_true(t->seen >= before);

            /* and with the reading disturbed: nothing, or all */

            wal_write(t, 2, 20);
            wal_sync(t);
        }

        assert_true(n > 60);
    }
}


static void
test_reading_fails(void **ctx)
{
    int        n;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    unsigned   i;

    for (i = 0; i < 20; i++) {
        wal_write(t, 4, 3000);
    }

    for (n = 1, rc = KV_ERROR; rc != KV_OK; n++) {
        wal_store(t, "spare-0.tmp", 0, "", 1);
        t->calls = 0;
        t->fail_at = n;
        t->fail_count = 2;            /* what is read ahead is tried again */
        t->error = EIO;

        rc = wal_replay(t, 0, 0);

        if (rc != KV_OK) {
            assert_int_equal(rc, KV_ERROR);
            assert_non_null(strstr(t->err.text, "Input/output error"));
        }
    }

    t->fail_at = 0;
    assert_true(n > 10);
    assert_int_equal(t->seen, 80);
    wal_replays(t, 80);

    /* what the callback returns is what replay returns */

    t->model[70].seed ^= 1;
    assert_int_equal(wal_replay(t, 0, 0), KV_NOT_FOUND);
    assert_int_equal(wal_replay(t, 70, 0), KV_OK);
}


/*
 * A sync failed, and the next process reads what is in memory only: it has to
 * get it to the disk before it shows it to a client.
 */

static void
test_sync_lost(void **ctx)
{
    wal_t  *t = *ctx;

    t->keep = true;
    wal_write(t, 1, 100);
    wal_sync(t);
    wal_write(t, 1, 5000);
    wal_write(t, 1, 5000);

    t->fail_at = t->calls + 1;
    t->fail_count = 1;
    t->error = EIO;
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_ERROR);
    assert_int_equal(t->state.durable_lsn, 1);

    wal_replays(t, 3);
    wal_write(t, 1, 100);
    wal_sync(t);
    wal_cut(t);
    wal_replays(t, 4);
}


/* A log with batches that a sync lost, whose process died before it told. */

static void
sync_and_die(wal_t *t)
{
    t->keep = false;
    wal_empty(t);
    wal_open(t);
    t->keep = true;

    wal_write(t, 1, 100);
    wal_sync(t);
    wal_write(t, 1, 5000);
    wal_write(t, 2, 5000);

    t->fail_at = t->calls + 1;
    t->fail_count = 1;
    t->error = EIO;
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_ERROR);
    t->fail_at = 0;

    kv_wal_destroy(t->log);
    t->log = wal_create(t, SEGMENT, BATCH);
}


/*
 * The next process's sync has nothing to do, and succeeds: what it acknowledges
 * must be on the disk all the same, whatever fails on the way, once or twice.
 */

static void
test_sync_dead(void **ctx)
{
    int        n, e, before, more;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    uint64_t   acked;

    static const int  errors[] = { ENOSPC, EIO };

    for (more = 0; more < 2; more++) {
        sync_and_die(t);

        if (more) {
            wal_write(t, 1, 700);
        }

        wal_sync(t);
        acked = t->acked;
        wal_cut(t);
        wal_replays(t, acked);
    }

    for (e = 0; e < 2; e++) {

        for (n = 1, rc = KV_ERROR; rc != KV_OK; n++) {
            sync_and_die(t);

            before = t->calls;
            t->fail_at = before + n;
            t->error = errors[e];
            rc = kv_wal_sync(t->log, &t->err);
            t->fail_at = 0;

            if (rc == KV_OK) {
                assert_true(t->calls - before < n);
            }

            kv_wal_destroy(t->log);
            t->log = wal_create(t, SEGMENT, BATCH);
            wal_write(t, 1, 20);
            wal_sync(t);
            wal_cut(t);
            wal_replays(t, 5);
        }

        assert_true(n > 15);
    }
}


/*
 * A start on a full disk closes the segment to batches.  The process that then
 * writes its end once more dies in any call of that, or right behind it: the
 * next one can do it all the same.
 */

static void
test_sync_dead_full(void **ctx)
{
    int       n, before;
    char      name[KV_NAME_MAX];
    wal_t    *t = *ctx;
    kv_rc_t   rc;

    for (n = 1, rc = KV_ERROR; rc != KV_OK; n++) {
        wal_empty(t);
        wal_open(t);
        wal_write(t, 1, 300);
        wal_sync(t);
        wal_write(t, 2, 300);

        t->fail_write = 1;
        t->error = ENOSPC;
        assert_int_equal(wal_replay(t, 0, 0), KV_OK);
        t->fail_write = 0;
        assert_int_equal(t->state.offset, SEGMENT);
        assert_int_not_equal(t->state.rewrite_end, 0);

        before = t->calls;
        t->fail_at = before + n;
        t->fail_count = 1;
        t->error = EIO;
        rc = kv_wal_sync(t->log, &t->err);
        t->fail_at = 0;

        if (rc == KV_OK) {
            assert_true(t->calls - before < n);

            /* it is killed before it has noted that */

            t->state.syncing = 1;
            t->state.rewrite_end = SEGMENT;
        }

        kv_wal_destroy(t->log);
        t->log = wal_create(t, SEGMENT, BATCH);
        wal_sync(t);
        assert_int_equal(t->state.rewrite_end, 0);
        wal_write(t, 1, 300);
        wal_sync(t);
        wal_replays(t, 4);
        assert_true(wal_exists(t, wal_name(name, 4)));
    }

    assert_true(n > 4);
}


/* What is read back is not what was written: the system dropped it. */

static void
test_sync_dropped(void **ctx)
{
    wal_t     *t = *ctx;
    unsigned   i;
    uint64_t   at[3];

    sync_and_die(t);

    at[0] = t->state.durable_offset;              /* a header, */
    at[1] = t->state.durable_offset + 5000;       /* a value */
    at[2] = t->state.offset - 8;                  /* of the last batch */

    for (i = 0; i < 3; i++) {
        wal_flip(t, FIRST, at[i]);
        assert_int_equal(kv_wal_sync(t->log, &t->err), KV_ERROR);
        assert_int_equal(errno, EIO);
        assert_non_null(strstr(t->err.text, FIRST ": writing the log's end "
                               "once more failed"));
        assert_int_equal(t->state.durable_lsn, 1);
        wal_flip(t, FIRST, at[i]);
    }

    wal_sync(t);
    wal_cut(t);
    wal_replays(t, 4);
}


/* A sync of a new segment's name fails. */

static void
test_name_lost(void **ctx)
{
    wal_t  *t = *ctx;

    t->keep = true;
    wal_write(t, 1, 60000);
    wal_sync(t);

    t->fail_dir = true;
    t->error = EIO;
    assert_int_equal(wal_try(t, t->log, 1, 60000), KV_ERROR);
    assert_int_equal(t->state.next_lsn, 2);
    assert_int_equal(wal_replay(t, 0, 0), KV_ERROR);
    t->fail_dir = false;

    wal_replays(t, 1);
    assert_int_equal(t->state.segments, 2);
    wal_write(t, 1, 100);
    wal_sync(t);
    wal_undo(t, 0);
    wal_replays(t, 2);
}


/*
 * Power cuts: any part of what no sync has followed is gone, any rename that
 * the directory's sync has not followed, and with that many lives and deaths.
 */

static void
test_power_cuts(void **ctx)
{
    bool       died, stop;
    wal_t     *t = *ctx;
    kv_rc_t    rc;
    uint64_t   base, round, step, n;

    base = 0;

    for (round = 0; round < 400; round++) {

        if (round % 10 == 0) {
            t->keep = false;
            wal_empty(t);
            wal_open(t);
            t->acked = 0;
            base = 0;
            t->keep = true;
        }

        n = 1 + wal_random(t, wal_random(t, 2) ? 3 : 40);
        died = false;
        stop = false;

        t->calls = 0;
        t->fail_at = 0;

        if (wal_random(t, 2)) {
            t->fail_at = 1 + (int) wal_random(t, 6 * n);
            t->fail_count = wal_random(t, 2) ? MANY : 1;
            t->error = EIO;
        }

        for (step = 0; step < n && !stop; step++) {

            rc = wal_try(t, t->log, 1 + (unsigned) wal_random(t, 5),
                         wal_random(t, 3) ? wal_random(t, 700)
                                          : wal_random(t, 11000));

            if (rc == KV_OK && wal_random(t, 3) == 0) {
                rc = kv_wal_sync(t->log, &t->err);
            }

            if (rc == KV_OK && wal_random(t, 3) == 0) {
                (void) kv_wal_mark(t->log, &t->err);
            }

            if (rc == KV_OK && wal_random(t, 12) == 0) {
                rc = kv_wal_prepare(t->log, NULL);
                rc = rc == KV_DECLINED ? KV_OK : rc;
            }

            if (rc == KV_OK && wal_random(t, 12) == 0) {
                base = kv_max(base, t->state.durable_lsn);
                rc = kv_wal_purge(t->log, base, t->state.segment_lsn,
                                  (unsigned) wal_random(t, 3), NULL, &t->err);
            }

            t->acked = t->state.durable_lsn;

            if (rc != KV_OK && !died) {
                /*
                 * An error, after which nothing is written until a restart;
                 * or the process is dead, and others may go on.
                 */
                died = true;
                stop = t->fail_count == 1 || wal_random(t, 2);
                t->fail_at = 0;
                kv_wal_destroy(t->log);
                t->log = wal_create(t, SEGMENT, BATCH);
            }

            assert_true(rc == KV_OK || died);
        }

        t->fail_at = 0;

        if (wal_random(t, 4)) {
            wal_cut(t);
        }

        n = t->acked;
        rc = wal_replay(t, base, base);

        if (rc != KV_OK) {
            fail_msg("round %d: %s", (int) round, t->err.text);
        }

        assert_true(t->seen >= n);
        t->acked = t->state.durable_lsn;
    }

    t->keep = false;
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, wal_setup, wal_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_failures),
        TEST(test_reading_fails),
        TEST(test_sync_lost),
        TEST(test_sync_dead),
        TEST(test_sync_dead_full),
        TEST(test_sync_dropped),
        TEST(test_name_lost),
        TEST(test_power_cuts)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
