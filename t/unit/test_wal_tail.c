
/*
 * The log read while it grows: what is given, when, and what is not.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_wal_tail.h"
#include "wal_rig.h"


static wal_t     *rig;
static uint64_t   seen;                  /* the last LSN that was given */
static unsigned   batches;
static kv_err_t   err;


/* Each LSN comes once, in order, with the record that the model has. */

static kv_rc_t
on_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) ctx;

    assert_int_equal(lsn, seen + 1);
    assert_int_equal(rec->lsn, lsn);
    assert_int_equal(rec->value_len, rig->model[lsn].len);
    seen = lsn;

    return KV_OK;
}


static void
on_batch(void *ctx, uint64_t segment_lsn, uint64_t offset,
    const kv_batch_header_t *h, const void *data)
{
    (void) ctx;
    (void) data;

    assert_true(segment_lsn <= h->first_lsn);
    assert_true(offset >= KV_SEGMENT_HEADER);
    batches++;
}


static kv_wal_tail_t *
tail_of(wal_t *t, uint64_t after, bool all)
{
    kv_wal_tail_t    *tail;
    kv_wal_replay_t   from;

    rig = t;
    seen = after;
    batches = 0;

    memset(&from, 0, sizeof(from));
    from.after = after;
    from.record = on_record;
    from.batch = on_batch;

    tail = kv_wal_tail_create(&t->io, t->dirfd, &from, all);
    assert_non_null(tail);

    return tail;
}


static void
gives(kv_wal_tail_t *tail, uint64_t last)
{
    kv_rc_t   rc;
    uint64_t  next;

    rc = kv_wal_tail_read(tail, &next, &err);

    if (rc != KV_OK) {
        fail_msg("%d: %s", rc, err.text);
    }

    assert_int_equal(seen, last);
}


/* Only what is known to be durable is given. */

static void
test_durable(void **ctx)
{
    wal_t          *t = *ctx;
    kv_wal_tail_t  *tail, *all;

    tail = tail_of(t, 0, false);
    gives(tail, 0);

    wal_write(t, 3, 100);
    gives(tail, 0);

    wal_sync(t);
    gives(tail, 0);

    /* the mark says it, or the next batch */

    assert_int_equal(kv_wal_mark(t->log, &err), KV_OK);
    gives(tail, 3);
    gives(tail, 3);

    wal_write(t, 2, 10);
    wal_sync(t);
    wal_write(t, 1, 10);
    gives(tail, 5);
    assert_int_equal(batches, 2);

    all = tail_of(t, 3, true);
    gives(all, 6);
    kv_wal_tail_destroy(all);

    kv_wal_tail_destroy(tail);
}


/* A committer dies: the next one writes other records over what it wrote. */

static void
test_overwritten(void **ctx)
{
    wal_t           *t = *ctx;
    kv_wal_state_t   before;
    kv_wal_tail_t   *tail;

    tail = tail_of(t, 0, false);

    wal_write(t, 3, 100);
    wal_sync(t);

    before = t->state;
    wal_write(t, 4, 50);
    gives(tail, 3);

    t->state = before;
    wal_write(t, 2, 300);
    gives(tail, 3);

    wal_sync(t);
    assert_int_equal(kv_wal_mark(t->log, &err), KV_OK);
    gives(tail, 5);

    kv_wal_tail_destroy(tail);
}


/* Through many segments, which are recycled once they were read. */

static void
test_segments(void **ctx)
{
    wal_t          *t = *ctx;
    unsigned        i;
    uint64_t        last;
    kv_wal_tail_t  *tail;

    tail = tail_of(t, 0, false);

    for (i = 0; i < 400; i++) {

        last = t->state.next_lsn - 1;
        wal_write(t, 1 + (unsigned) wal_random(t, 5),
                  (size_t) wal_random(t, 5000));
        wal_sync(t);
        gives(tail, last);

        if (i % 7 == 0) {
            assert_int_equal(kv_wal_purge(t->log, last, t->state.segment_lsn,
                                          2, NULL, &err), KV_OK);
        }

        if (i % 11 == 0) {
            assert_int_equal(kv_wal_mark(t->log, &err), KV_OK);
            gives(tail, t->state.next_lsn - 1);
        }
    }

    kv_wal_tail_destroy(tail);
}


/* It comes too late, for the first time and while it reads. */

static void
test_gap(void **ctx)
{
    unsigned        i, round;
    wal_t          *t = *ctx;
    uint64_t        next, first;
    kv_wal_tail_t  *tail;

    tail = tail_of(t, 0, false);
    wal_write(t, 3, 100);
    wal_sync(t);

    for (round = 0; round < 3; round++) {

        /* the rest of the one that it has open it could still read */

        for (i = 0; i < 2; i++) {
            first = t->state.segment_lsn;

            while (t->state.segment_lsn == first) {
                wal_write(t, 1, 5000);
                wal_sync(t);
            }
        }

        assert_int_equal(kv_wal_purge(t->log, t->state.segment_lsn - 1,
                                      t->state.segment_lsn, round, NULL,
                                      &err), KV_OK);
        assert_int_equal(kv_wal_mark(t->log, &err), KV_OK);

        assert_int_equal(kv_wal_tail_read(tail, &next, &err), KV_NOT_FOUND);
        assert_int_equal(next, t->state.segment_lsn);
        assert_true(seen < next - 1);

        seen = next - 1;
        gives(tail, t->state.next_lsn - 1);
    }

    kv_wal_tail_destroy(tail);
}


/* A segment without a batch loses its name, and another one gets that. */

static void
test_replaced(void **ctx)
{
    char            name[KV_NAME_MAX];
    wal_t          *t = *ctx;
    uint64_t        last;
    kv_wal_tail_t  *tail;

    tail = tail_of(t, 0, false);

    while (t->state.segment_size == 0
           || t->state.segment_size - t->state.offset > 20000)
    {
        wal_write(t, 1, 5000);
        wal_sync(t);
    }

    last = t->state.next_lsn - 1;

    /* the next one is a spare, and then the batch cannot be written */

    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);
    kv_wal_begin(t->log);
    assert_int_equal(wal_add(t, t->log, last + 1, 30000), KV_OK);
    t->fail_write = 20000;
    t->error = ENOSPC;
    assert_int_not_equal(kv_wal_write(t->log, &err), KV_OK);
    t->fail_write = 0;
    assert_int_equal(t->state.segment_lsn, last + 1);

    gives(tail, last);

    assert_int_equal(unlinkat(t->dirfd, wal_name(name, last + 1), 0), 0);

    wal_write(t, 2, 70);
    wal_sync(t);
    assert_int_equal(t->state.segment_lsn, last + 1);
    assert_int_equal(kv_wal_mark(t->log, &err), KV_OK);

    gives(tail, last + 2);

    kv_wal_tail_destroy(tail);
}


/* The tail of a log is damaged before its end: that is no gap. */

static void
test_damage(void **ctx)
{
    wal_t          *t = *ctx;
    uint64_t        next;
    kv_wal_tail_t  *tail;

    while (t->state.next_lsn < 40) {
        wal_write(t, 1, 5000);
        wal_sync(t);
    }

    wal_flip(t, FIRST, KV_SEGMENT_HEADER + 2000);

    tail = tail_of(t, 0, false);
    assert_int_equal(kv_wal_tail_read(tail, &next, &err), KV_DAMAGED);
    assert_non_null(strstr(err.text, FIRST ": offset 4096: no good batch"));
    assert_null(strstr(err.text, "restore the data directory"));
    kv_wal_tail_destroy(tail);

    wal_flip(t, FIRST, KV_SEGMENT_HEADER + 2000);

    tail = tail_of(t, 0, false);
    gives(tail, 38);
    kv_wal_tail_destroy(tail);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_durable, wal_setup,
                                        wal_teardown),
        cmocka_unit_test_setup_teardown(test_overwritten, wal_setup,
                                        wal_teardown),
        cmocka_unit_test_setup_teardown(test_segments, wal_setup,
                                        wal_teardown),
        cmocka_unit_test_setup_teardown(test_gap, wal_setup, wal_teardown),
        cmocka_unit_test_setup_teardown(test_replaced, wal_setup,
                                        wal_teardown),
        cmocka_unit_test_setup_teardown(test_damage, wal_setup, wal_teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
