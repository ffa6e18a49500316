
/*
 * Which batches a replay takes: the end of the log may be torn, have gaps, or
 * look like a batch.  What was acknowledged is replayed; what was not may be,
 * but is never seen after something else has taken its LSNs.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal.h"
#include "wal_rig.h"


/* The last batch is cut off at every byte, with zeroes and rubbish behind. */

static void
test_torn_tail(void **ctx)
{
    size_t           i, len;
    wal_t           *t = *ctx;
    uint8_t         *file, junk[4096];
    uint64_t         start;

    wal_write(t, 3, 50);
    wal_sync(t);
    start = t->state.offset;
    wal_write(t, 4, 60);
    len = t->state.offset - start;

    file = malloc(SEGMENT);
    assert_int_equal(wal_read(t, FIRST, file, SEGMENT), SEGMENT);

    for (i = 0; i < 2 * len; i++) {
        memset(junk, i < len ? 0 : 0xc3, len);

        wal_store(t, FIRST, start, file + start, i % len);
        wal_store(t, FIRST, start + i % len, junk, len - i % len);

        if (memcmp(junk, file + start + i % len, len - i % len) == 0) {
            /* the record ends with zeroes: nothing is torn */
            wal_replays(t, 7);
            continue;
        }

        wal_replays(t, 3);
        assert_int_equal(t->state.offset, start);
        assert_int_equal(t->state.durable_lsn, 3);
        assert_int_equal(t->state.segments, 1);

        /* writing goes on over it */

        if (i % 16 == 0) {
            wal_write(t, 1, 20);
            assert_int_equal(t->state.segments, 1);
            wal_replays(t, 4);
            wal_store(t, FIRST, start, file + start, len);
            t->model[4].seed = 0;
            assert_int_equal(wal_replay(t, 4, 4), KV_OK);
            assert_int_equal(t->seen, 7);
            wal_store(t, FIRST, 0, file, SEGMENT);
        }
    }

    free(file);
}


/* The disk fails to read what is not needed: behind the mark at the end. */

static void
test_unreadable_tail(void **ctx)
{
    wal_t    *t = *ctx;
    uint64_t  last;

    wal_write(t, 3, 100);
    wal_sync(t);
    last = t->state.next_lsn - 1;

    t->fail_from = t->state.offset + HEADER;
    assert_int_equal(wal_replay(t, 0, 0), KV_ERROR);
    assert_non_null(strstr(t->err.text, "Input/output error"));
    assert_non_null(strstr(t->err.text, "from LSN 4 on"));

    t->fail_from = 0;
    wal_replays(t, last);
    (void) kv_wal_mark(t->log, &t->err);

    t->fail_from = t->state.offset + HEADER;
    wal_replays(t, last);
    assert_int_equal(t->warnings, 1);
    wal_write(t, 2, 100);
    wal_sync(t);
    assert_int_equal(t->state.segments, 2);
    t->fail_from = 0;
    wal_replays(t, last + 2);
}


/*
 * Batches in flight: the first is lost, those behind it are good, but were
 * never acknowledged.  They must not be seen again, neither at once nor when
 * others have taken their LSNs.
 */

static void
test_gap(void **ctx)
{
    char       name[KV_NAME_MAX];
    wal_t     *t = *ctx;
    uint8_t    junk[HEADER], batch[HEADER], *file;
    uint64_t   offset;
    unsigned   first, i;

    file = malloc(SEGMENT);
    memset(junk, 0, sizeof(junk));
    memset(batch, 0, sizeof(batch));

    for (first = 0; first < 2; first++) {
        wal_empty(t);
        wal_open(t);

        if (first == 0) {
            wal_write(t, 2, 300);
            wal_sync(t);
        }

        (void) kv_wal_mark(t->log, &t->err);

        offset = first ? KV_SEGMENT_HEADER : t->state.offset;
        i = first ? 1 : 3;

        wal_write(t, 1, 300);
        (void) wal_name(name, t->state.segment_lsn);
        wal_write(t, 1, 300);
        wal_write(t, 1, 300);

        /* the first is torn, or not even begun */

        if (first) {
            wal_flip(t, name, offset + 70);
        } else {
            (void) wal_read(t, name, file, SEGMENT);
            memcpy(batch, file + offset, HEADER);
            wal_store(t, name, offset, junk, HEADER);
        }

        wal_replays(t, i - 1);
        wal_replays(t, i - 1);

        wal_write(t, 1, 300);
        wal_replays(t, i);
        assert_int_equal(t->state.segment_lsn, i);
        assert_int_equal(t->state.segments, 2 - first);

        wal_write(t, 1, 300);
        wal_sync(t);
        wal_replays(t, i + 1);

        /* not even when the first can be read again */

        if (first == 0) {
            wal_store(t, name, offset, batch, HEADER);
            wal_replays(t, i + 1);
        }
    }

    free(file);
}


/*
 * The mark's sector is on disk, the batch that was to overwrite it is not,
 * but the batch after that is.
 */

static void
test_gap_after_mark(void **ctx)
{
    wal_t     *t = *ctx;
    uint8_t    mark[HEADER];
    uint64_t   offset;
    uint8_t   *file;

    file = malloc(SEGMENT);
    wal_write(t, 2, 300);
    wal_sync(t);
    (void) kv_wal_mark(t->log, &t->err);
    offset = t->state.offset;
    (void) wal_read(t, FIRST, file, SEGMENT);
    memcpy(mark, file + offset, HEADER);

    wal_write(t, 1, 300);
    wal_write(t, 1, 300);
    wal_store(t, FIRST, offset, mark, HEADER);

    wal_replays(t, 2);
    wal_write(t, 1, 300);
    assert_int_equal(t->state.segments, 2);
    wal_replays(t, 3);

    /* the same, but the batch after it tells that the first was durable */

    wal_empty(t);
    wal_open(t);
    wal_write(t, 2, 300);
    wal_sync(t);
    (void) kv_wal_mark(t->log, &t->err);
    offset = t->state.offset;
    (void) wal_read(t, FIRST, file, SEGMENT);
    memcpy(mark, file + offset, HEADER);
    wal_write(t, 1, 300);
    wal_sync(t);
    wal_write(t, 1, 300);
    wal_store(t, FIRST, offset, mark, HEADER);
    wal_damaged(t, FIRST, "durable");

    free(file);
}


/* A value that looks like batches, good but for the salt, and very durable. */

static void
test_forged(void **ctx)
{
    size_t              i, n;
    uint8_t            *value;
    wal_t              *t = *ctx;
    uint64_t            offset;
    kv_record_t         rec;
    struct iovec        piece;
    kv_batch_header_t   h;

    wal_write(t, 2, 300);
    wal_sync(t);
    offset = t->state.offset;

    n = 500 * HEADER;
    value = malloc(n);

    memset(&h, 0, sizeof(h));
    h.magic = KV_BATCH_MAGIC;
    h.first_lsn = 5;
    h.durable_lsn = 4;
    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, sizeof(h) - 8);

    for (i = 0; i < n; i += HEADER) {
        memcpy(value + i, &h, HEADER);
    }

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_PUT;
    rec.key = "12345678";
    rec.key_len = 8;
    rec.value = &piece;
    rec.value_n = 1;
    rec.value_len = (uint32_t) n;
    piece.iov_base = value;
    piece.iov_len = n;

    kv_wal_begin(t->log);
    assert_int_equal(kv_wal_add(t->log, &rec), KV_OK);
    assert_int_equal(kv_wal_write(t->log, &t->err), KV_OK);

    wal_flip(t, FIRST, offset);
    wal_replays(t, 2);
    assert_int_equal(t->state.offset, offset);

    /* the same would pass with the salt: this test can fail */

    h.salt = t->state.segment_salt;
    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, sizeof(h) - 8);
    wal_store(t, FIRST, offset + 800, &h, sizeof(h));
    wal_damaged(t, FIRST, "durable");

    free(value);
}


/* Good batches, each but for one thing, where the next is expected. */

static void
test_not_the_next(void **ctx)
{
    wal_t              *t = *ctx;
    uint8_t             buf[192], *file;
    uint64_t            offset, salt;
    unsigned            i;
    kv_batch_header_t   h;

    wal_write(t, 2, 20);
    wal_sync(t);
    offset = t->state.offset;
    salt = t->state.segment_salt;
    wal_write(t, 1, 20);

    file = malloc(SEGMENT);
    (void) wal_read(t, FIRST, file, SEGMENT);
    memcpy(buf, file + offset, sizeof(buf));
    free(file);
    memcpy(&h, buf, sizeof(h));
    assert_true(HEADER + h.len <= sizeof(buf));

    for (i = 0; i < 6; i++) {
        h.salt = salt;
        h.first_lsn = 3;
        h.magic = KV_BATCH_MAGIC;

        switch (i) {
        case 1:
            h.salt++;
            break;
        case 2:
            h.first_lsn = 2;
            break;
        case 3:
            h.first_lsn = 4;
            break;
        case 4:
            h.first_lsn = UINT64_MAX;
            break;
        case 5:
            h.magic++;
            break;
        }

        memcpy(buf, &h, sizeof(h));
        h.crc = kv_crc32c(0, buf + 8, HEADER - 8 + h.len);
        memcpy(buf, &h, sizeof(h));
        wal_store(t, FIRST, offset, buf, HEADER + h.len);

        wal_replays(t, i ? 2 : 3);
        assert_int_equal(t->state.offset, i == 2 || i == 3 ? SEGMENT
                         : i ? offset : offset + HEADER + h.len);
    }
}


/* Replay clears away what is unfinished, when all is well, and no more. */

static void
test_other_files(void **ctx)
{
    size_t  i;
    wal_t  *t = *ctx;

    static const char  *keep[] = {
        "kv.lock", "snap-0000000000000001.kvs", "snap-0000000000000002.tmp",
        "log-1.kvl", "log-000000000000000A.kvl", "log-0000000000000000.kvl",
        "spare-x.kvl", "spare-01.kvl", "log-", "spare-", "l", "x.tmp",
        "log-0000000000000001.kvl.bak", "spare-5.kvl"
    };

    wal_write(t, 1, 1);
    wal_sync(t);

    for (i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
        wal_store(t, keep[i], 0, "x", 1);
    }

    wal_store(t, "log-0000000000000009.tmp", 0, "x", 1);
    wal_store(t, "spare-9.tmp", 0, "x", 1);

    wal_flip(t, FIRST, 0);
    wal_damaged(t, FIRST, "");
    assert_int_equal(wal_count(t, ""), i + 3);

    wal_flip(t, FIRST, 0);
    wal_replays(t, 1);
    assert_int_equal(wal_count(t, ""), i + 1);

    for (i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
        assert_true(wal_exists(t, keep[i]));
    }
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, wal_setup, wal_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_torn_tail),
        TEST(test_unreadable_tail),
        TEST(test_gap),
        TEST(test_gap_after_mark),
        TEST(test_forged),
        TEST(test_not_the_next),
        TEST(test_other_files)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
