
/*
 * Damaged logs: each damage is seen, unless it has no bearing, and the refusal
 * names file, offset and a way out that gives what it says.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal.h"
#include "wal_rig.h"


static void
test_damaged_middle(void **ctx)
{
    char        command[1200];
    wal_t      *t = *ctx;
    uint64_t    offset, size;
    unsigned    i;

    offset = 0;

    for (i = 0; i < 10; i++) {
        wal_write(t, 5, 500);
        wal_sync(t);

        if (i == 4) {
            offset = t->state.offset;
        }
    }

    size = t->state.offset - offset;
    wal_flip(t, FIRST, offset + size / 10);

    (void) snprintf(command, sizeof(command), "offset %llu: no good batch "
                    "with LSN 26 ", (unsigned long long) offset);
    wal_damaged(t, FIRST, command);

    /* in the records that a snapshot holds, too: there is no way past it */

    assert_int_equal(wal_replay(t, 40, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "giving up every write from LSN 41 "
                           "on, at least 5 of them, move every log-* "
                           "away"));

    /* a walk that has seen up to 40, of which the log has no more than 25 */

    assert_int_equal(wal_replay(t, 20, 40), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "giving up what "
                           "snap-0000000000000014.kvs has not seen of the "
                           "writes after LSN 20 (it has seen some of those up "
                           "to 40), move every log-* away and run \"touch "
                           "snap-0000000000000014.alone\""));

    /* a damaged snapshot of LSN 40 beside one that the log is enough for */

    t->newer = 40;
    assert_int_equal(wal_replay(t, 20, 25), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "giving up every write from LSN 26 "
                           "on, at least 20 of them, move every snap-*.kvs "
                           "newer than snap-0000000000000014.kvs away and run "
                           "\"truncate"));
    assert_int_equal(wal_replay(t, 20, 30), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "move every log-* and every "
                           "snap-*.kvs newer than snap-0000000000000014.kvs "
                           "away and run \"touch"));
    assert_int_equal(wal_replay(t, 0, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "move every snap-*.kvs away and run "
                           "\"truncate"));
    t->newer = 0;

    /* the way out is one */

    assert_int_equal(wal_replay(t, 20, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "from LSN 26 on"));

    wal_way_out(t);
    wal_replays(t, 25);
    wal_write(t, 5, 500);
    wal_sync(t);
    wal_replays(t, 30);
}


/* Only the mark tells that the last batch was acknowledged. */

static void
test_damaged_last(void **ctx)
{
    wal_t     *t = *ctx;
    uint64_t   offset;

    wal_write(t, 5, 500);
    offset = t->state.offset;
    wal_write(t, 5, 500);
    wal_sync(t);

    wal_flip(t, FIRST, offset + 50);
    wal_replays(t, 5);

    wal_flip(t, FIRST, offset + 50);
    wal_replays(t, 10);

    (void) kv_wal_mark(t->log, &t->err);
    wal_replays(t, 10);
    wal_flip(t, FIRST, offset + 50);
    wal_damaged(t, FIRST, "a later one says that 10 was durable");
}


/*
 * A file that is too short: it passes if a mark says that nothing but unused
 * space is gone.  The way out of the others gives just what it says.
 */

static void
test_truncated(void **ctx)
{
    int         fd;
    char        name[KV_NAME_MAX];
    size_t      len, used;
    wal_t      *t = *ctx;
    uint8_t    *file;
    uint64_t    last, lsn;
    unsigned    i;

    for (i = 0; i < 6; i++) {
        wal_write(t, 3, 100);
        wal_sync(t);
    }

    (void) kv_wal_mark(t->log, &t->err);
    last = t->state.next_lsn - 1;
    used = t->state.offset + HEADER;

    file = malloc(SEGMENT);
    assert_int_equal(wal_read(t, FIRST, file, SEGMENT), SEGMENT);

    for (len = 0; len < SEGMENT; len += len < used ? 1 : 509) {

        fd = openat(t->dirfd, FIRST, O_RDWR);
        assert_int_equal(ftruncate(fd, (off_t) len), 0);

        if (len >= used) {
            wal_replays(t, last);
            assert_int_equal(t->warnings, 1);
            assert_non_null(strstr(t->warned, "the file ends here"));

            /* the log goes on in another segment, and both are good */

            wal_write(t, 1, 100);
            wal_sync(t);
            assert_int_equal(t->state.segments, 2);
            wal_replays(t, last + 1);
            assert_int_equal(t->warnings, 1);
            assert_int_equal(unlinkat(t->dirfd, wal_name(name, last + 1), 0),
                             0);

        } else {
            wal_damaged(t, FIRST, "");

            if (len >= KV_SEGMENT_HEADER) {
                assert_int_equal(sscanf(strstr(t->err.text, "from LSN "),
                                        "from LSN %" SCNu64, &lsn), 1);
                assert_non_null(strstr(t->err.text, "truncate -s 65536 log-"));
                wal_way_out(t);
                wal_replays(t, lsn - 1);
            }
        }

        assert_int_equal(ftruncate(fd, SEGMENT), 0);
        wal_store(t, FIRST, 0, file, len < used ? used : SEGMENT);
        (void) close(fd);
    }

    wal_replays(t, last);
    assert_int_equal(t->warnings, 0);

    /* without the mark, a start cannot know */

    memset(file + used - HEADER, 0, HEADER);
    wal_store(t, FIRST, 0, file, SEGMENT);
    fd = openat(t->dirfd, FIRST, O_RDWR);
    assert_int_equal(ftruncate(fd, SEGMENT - 1), 0);
    wal_damaged(t, FIRST, "LSN 19 may have been in what is gone");
    wal_way_out(t);
    wal_replays(t, last);
    (void) close(fd);
    free(file);
}


/*
 * Only the note says that nothing but unused space is gone, and it is emptied,
 * for versions have to begin anew: the start after that passes, too.
 */

static void
test_truncated_note(void **ctx)
{
    int        fd;
    wal_t     *t = *ctx;
    unsigned   i;

    t->strange = true;
    wal_write(t, 3, 100);
    assert_int_equal(kv_wal_leave_closed(t->log, &t->err), KV_OK);

    fd = openat(t->dirfd, FIRST, O_RDWR);
    assert_int_equal(ftruncate(fd, (off_t) t->state.offset), 0);
    (void) close(fd);

    wal_store(t, KV_RESTORED_NAME, 0, "", 0);

    for (i = 0; i < 2; i++) {
        wal_replays(t, 3);
        assert_int_equal(t->warnings, 1);
        assert_int_equal(t->state.offset, SEGMENT);
    }

    wal_write(t, 1, 100);
    wal_sync(t);
    wal_replays(t, 4);
}


/* One that became longer: nothing is wrong with what is in it. */

static void
test_longer(void **ctx)
{
    int              fd;
    char             junk[4096];
    wal_t           *t = *ctx;
    uint64_t         last;
    unsigned         i;
    static const int more[] = { 1, 4096, 4 << 20 };

    memset(junk, 0xa5, sizeof(junk));

    for (i = 0; i < 3; i++) {
        wal_write(t, 3, 100);
        wal_sync(t);

        fd = openat(t->dirfd, FIRST, O_RDWR);
        assert_int_equal(ftruncate(fd, SEGMENT + more[i]), 0);
        wal_store(t, FIRST, SEGMENT, junk, (size_t) kv_min(more[i], 4096));
        (void) close(fd);

        last = t->state.next_lsn - 1;
        wal_replays(t, last);
        assert_int_equal(t->warnings, 1);
        assert_non_null(strstr(t->warned, FIRST ": offset 65536: the segment "
                               "ends here, but the file goes on for "));

        wal_write(t, 1, 100);
        wal_sync(t);
        assert_int_equal(t->state.segments, 1);
        wal_replays(t, last + 1);
    }

    /* nor when it is full, and purged */

    wal_write(t, 3, 19000);
    wal_write(t, 3, 19000);
    wal_sync(t);
    last = t->state.next_lsn - 1;
    wal_replays(t, last);
    assert_int_equal(t->warnings, 1);
    assert_int_equal(kv_wal_purge(t->log, t->state.segment_lsn - 1,
                                  t->state.segment_lsn, 2, NULL, &t->err),
                     KV_OK);
    assert_int_equal(wal_count(t, ""), 1);
    assert_int_equal(wal_replay(t, t->state.segment_lsn - 1, 0), KV_OK);
    assert_int_equal(t->warnings, 0);
}


/* A segment of another log that is as good as ours, in the midst of ours. */

static void
test_overlap(void **ctx)
{
    char       name[KV_NAME_MAX], spare[KV_NAME_MAX];
    wal_t     *t = *ctx;
    uint8_t   *file;
    unsigned   i;

    file = malloc(SEGMENT);

    /* LSNs 1 to 4 and 5 to 8 */

    wal_write(t, 4, 10000);
    wal_write(t, 4, 10000);
    wal_sync(t);
    (void) wal_name(name, 5);
    assert_int_equal(wal_read(t, name, file, SEGMENT), SEGMENT);

    wal_empty(t);
    wal_open(t);

    for (i = 0; i < 8; i++) {
        wal_write(t, 1, 3000);
        wal_sync(t);
    }

    wal_replays(t, 8);
    wal_store(t, name, 0, file, SEGMENT);
    wal_damaged(t, FIRST, "one of them is of another log");

    /* what was never durable may be there twice: its writer died */

    wal_empty(t);
    wal_open(t);
    wal_write(t, 4, 3000);
    wal_sync(t);
    wal_write(t, 4, 3000);
    wal_store(t, name, 0, file, SEGMENT);
    (void) wal_name(spare, 9);
    assert_int_equal(wal_replay(t, 0, 0), KV_NOT_FOUND);

    free(file);
}


/* Any bit of an acknowledged log: seen, or without any bearing. */

static void
test_every_byte(void **ctx)
{
    size_t     i, used;
    wal_t     *t = *ctx;
    uint8_t   *file, bad;
    kv_rc_t    rc;
    uint64_t   last;

    for (i = 0; i < 8; i++) {
        wal_write(t, 1 + (unsigned) i % 3, 30 * i);
        wal_sync(t);
    }

    (void) kv_wal_mark(t->log, &t->err);
    last = t->state.next_lsn - 1;
    used = t->state.offset;

    file = malloc(SEGMENT);
    assert_int_equal(wal_read(t, FIRST, file, SEGMENT), SEGMENT);

    for (i = 0; i < used + HEADER + 64; i++) {
        bad = file[i] ^ (uint8_t) (i % 9 == 8 ? 0xff : 1 << i % 9);
        wal_store(t, FIRST, i, &bad, 1);

        rc = wal_replay(t, 0, 0);

        if (i < used) {
            assert_int_equal(rc, KV_DAMAGED);
            assert_non_null(strstr(t->err.text, FIRST));

        } else {
            assert_int_equal(rc, KV_OK);
            assert_int_equal(t->seen, last);
        }

        wal_store(t, FIRST, i, &file[i], 1);
    }

    wal_replays(t, last);
    free(file);
}


/* Writes two segments; returns the last LSN, and the second one's name. */

static uint64_t
two_segments(wal_t *t, char *second)
{
    uint64_t  lsn;
    unsigned  i;

    for (i = 0; i < 3; i++) {
        wal_write(t, 3, 7000);
        wal_sync(t);
    }

    lsn = t->state.next_lsn - 1;
    wal_replays(t, lsn);
    assert_int_equal(t->state.segments, 2);
    (void) wal_name(second, t->state.segment_lsn);

    return lsn;
}


/* A snapshot that needs more than there is. */

static void
test_segments_short(void **ctx)
{
    char       second[KV_NAME_MAX];
    wal_t     *t = *ctx;
    uint64_t   lsn;

    lsn = two_segments(t, second);

    assert_int_equal(wal_replay(t, 1, lsn), KV_OK);
    assert_int_equal(wal_replay(t, 1, lsn + 1), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "touch snap-0000000000000001.alone"));
    assert_non_null(strstr(t->err.text, second));
    assert_int_equal(wal_replay(t, lsn, 0), KV_OK);
    assert_int_equal(wal_replay(t, lsn + 1, 0), KV_DAMAGED);
}


static void
test_segment_header(void **ctx)
{
    char                  second[KV_NAME_MAX], far[KV_NAME_MAX];
    wal_t                *t = *ctx;
    uint64_t              lsn;
    kv_segment_header_t   h, good;

    lsn = two_segments(t, second);

    /* a newer version */

    (void) wal_read(t, FIRST, (uint8_t *) &good, sizeof(good));

    h = good;
    h.version = 3;
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, FIRST, "format version 3");
    assert_int_equal(wal_replay(t, lsn, 0), KV_OK);

    /* of another store */

    h = good;
    h.id.store[1]++;
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, second, "offset 40: the segment and log-0000000000000001.kvl"
                           " are of two stores");

    /* the wrong name, another size, a header that is not ours */

    h = good;
    h.first_lsn = 2;
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, FIRST, "misnamed, its first LSN is 2");

    h = good;
    h.size = (1u << 30) + 4096;
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, FIRST, "no segment has 1073745920 bytes");

    h = good;
    h.size = SEGMENT - 8;
    wal_reseal(t, FIRST, &h);
    wal_replays(t, lsn);
    assert_non_null(strstr(t->warned, "the segment ends here"));

    h = good;
    h.size = SEGMENT + 8;
    wal_reseal(t, FIRST, &h);
    wal_replays(t, lsn);
    assert_non_null(strstr(t->warned, "the file ends here"));

    h = good;
    h.magic[0] = 'X';
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, FIRST, "header");

    /* LSNs without end: the next write would be number 0 */

    h = good;
    h.first_lsn = KV_LSN_MAX + 1;
    assert_int_equal(renameat(t->dirfd, FIRST, t->dirfd,
                              wal_name(far, h.first_lsn)), 0);
    wal_reseal(t, far, &h);
    assert_int_equal(wal_replay(t, KV_LSN_MAX, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "no LSN is that high"));
    assert_int_equal(renameat(t->dirfd, far, t->dirfd, FIRST), 0);

    h = good;
    wal_reseal(t, FIRST, &h);
    wal_replays(t, lsn);
}


/* A segment that begins later than the one before it ends, or earlier. */

static void
test_segments_apart(void **ctx)
{
    char                  second[KV_NAME_MAX], later[KV_NAME_MAX];
    char                  earlier[KV_NAME_MAX];
    wal_t                *t = *ctx;
    uint8_t               buf[KV_SEGMENT_HEADER];
    uint64_t              lsn;
    kv_segment_header_t   h;

    lsn = two_segments(t, second);

    (void) wal_read(t, second, (uint8_t *) &h, sizeof(h));
    (void) wal_read(t, second, buf, sizeof(buf));

    h.first_lsn++;
    assert_int_equal(renameat(t->dirfd, second, t->dirfd,
                              wal_name(later, h.first_lsn)), 0);
    wal_reseal(t, later, &h);
    wal_damaged(t, FIRST, "the next segment starts with");

    h.first_lsn = 2;
    assert_int_equal(renameat(t->dirfd, later, t->dirfd,
                              wal_name(earlier, 2)), 0);
    wal_reseal(t, earlier, &h);
    wal_damaged(t, FIRST, "the batch goes on to LSN 3, but the next segment "
                          "starts with 2");

    assert_int_equal(renameat(t->dirfd, earlier, t->dirfd, second), 0);
    wal_store(t, second, 0, buf, sizeof(buf));
    wal_replays(t, lsn);
}


static void
test_first_segment_gone(void **ctx)
{
    char       second[KV_NAME_MAX];
    wal_t     *t = *ctx;
    uint64_t   lsn;

    lsn = two_segments(t, second);

    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    assert_int_equal(wal_replay(t, 0, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "but 1 is needed"));
    assert_non_null(strstr(t->err.text, "from LSN 1 on, at least 6 of them, "
                           "move every log-* away"));
    assert_int_equal(wal_replay(t, t->state.next_lsn ? lsn : 0, 0), KV_OK);
}


/*
 * A record that is good, of a later version of the module: it is not lost, and
 * there is no way out but that version.
 */

static void
test_later_record(void **ctx)
{
    wal_t              *t = *ctx;
    uint8_t             buf[HEADER + 24];
    uint64_t            offset, salt;
    kv_record_t         rec;
    kv_batch_header_t   h;

    wal_write(t, 2, 10);
    offset = t->state.offset;
    salt = t->state.segment_salt;

    memset(&rec, 0, sizeof(rec));
    rec.op = KV_OP_PUT;
    rec.flags = KV_RECORD_META;
    rec.meta = "m";
    rec.meta_len = 1;
    rec.key = "key";
    rec.key_len = 3;

    memset(&h, 0, sizeof(h));
    h.magic = KV_BATCH_MAGIC;
    h.len = (uint32_t) kv_record_size(&rec);
    h.count = 1;
    h.first_lsn = 3;
    h.salt = salt;
    kv_record_encode(&rec, buf + HEADER);
    memcpy(buf, &h, sizeof(h));
    h.crc = kv_crc32c(0, buf + 8, HEADER - 8 + h.len);
    memcpy(buf, &h, sizeof(h));
    wal_store(t, FIRST, offset, buf, HEADER + h.len);

    wal_damaged(t, FIRST, "a record with unknown metadata");
    assert_null(strstr(t->err.text, "giving up"));
}


/*
 * So is a batch of a replicated log in a segment of none: in the log,
 * behind its end, or where the next segment has its LSN.
 */

static void
test_replicated(void **ctx)
{
    wal_t              *t = *ctx;
    uint8_t             buf[HEADER];
    uint64_t            offset, salt;
    unsigned            i, kind;
    kv_batch_header_t   h;

    static const size_t  field[] = {
        offsetof(kv_batch_header_t, index),
        offsetof(kv_batch_header_t, commit_index),
        offsetof(kv_batch_header_t, type),
        offsetof(kv_batch_header_t, durable_end)
    };

    for (kind = 0; kind < 3; kind++) {
        wal_empty(t);
        wal_open(t);
        wal_write(t, 2, 10);
        offset = t->state.offset;
        salt = t->state.segment_salt;

        if (kind == 2) {
            t->state.offset = t->state.segment_size;
            wal_write(t, 1, 10);
            assert_int_equal(t->state.segments, 2);
        }

        for (i = 0; i < 4; i++) {
            memset(&h, 0, sizeof(h));
            h.magic = KV_BATCH_MAGIC;
            h.first_lsn = 3;
            h.salt = salt;
            h.term = 7;
            memcpy(buf, &h, sizeof(h));
            buf[field[i]] = 1;
            h.crc = kv_crc32c(0, buf + 8, HEADER - 8);
            memcpy(buf + 4, &h.crc, sizeof(h.crc));
            wal_store(t, FIRST, offset + (kind == 1 ? 800 : 0), buf, HEADER);

            wal_damaged(t, FIRST, "LSN 3 is of a batch of a replicated log");
            assert_null(strstr(t->err.text, "giving up"));
        }
    }
}


/* The checksum is right, the record is of another time. */

static void
test_unknown_record(void **ctx)
{
    wal_t              *t = *ctx;
    uint8_t             buf[4096], *file;
    uint64_t            offset;
    kv_batch_header_t   h;

    wal_write(t, 2, 10);
    offset = t->state.offset;
    wal_write(t, 1, 10);

    assert_int_equal(t->state.offset - offset < sizeof(buf), 1);

    file = malloc(SEGMENT);
    (void) wal_read(t, FIRST, file, SEGMENT);
    memcpy(buf, file + offset, sizeof(buf));
    free(file);

    memcpy(&h, buf, sizeof(h));
    buf[HEADER] = 9;
    h.crc = kv_crc32c(0, buf + 8, HEADER - 8 + h.len);
    memcpy(buf, &h, sizeof(h));
    wal_store(t, FIRST, offset, buf, HEADER + h.len);

    wal_damaged(t, FIRST, "no record of format version 2");
    assert_non_null(strstr(t->err.text, "from LSN 3 on"));

    /* or there is more in the batch than it says */

    buf[HEADER] = KV_OP_PUT;
    memcpy(buf + HEADER + h.len, buf + HEADER, h.len);
    h.len *= 2;
    memcpy(buf, &h, sizeof(h));
    h.crc = kv_crc32c(0, buf + 8, HEADER - 8 + h.len);
    memcpy(buf, &h, sizeof(h));
    wal_store(t, FIRST, offset, buf, HEADER + h.len);

    wal_damaged(t, FIRST, "no record of format version 2");
}


/* Checksums are right, and what they cover was never written so. */

static void
test_never_written(void **ctx)
{
    wal_t                *t = *ctx;
    uint64_t              offset;
    kv_batch_header_t     mark;
    kv_segment_header_t   h, good;

    wal_write(t, 2, 10);
    wal_sync(t);
    offset = t->state.offset;

    (void) wal_read(t, FIRST, (uint8_t *) &good, sizeof(good));

    h = good;
    h.size = KV_SEGMENT_HEADER - 8;
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, FIRST, "no segment has 4088 bytes");

    h = good;
    wal_reseal(t, FIRST, &h);
    wal_replays(t, 2);

    /* a mark that says of itself that it is durable */

    memset(&mark, 0, sizeof(mark));
    mark.magic = KV_BATCH_MAGIC;
    mark.first_lsn = 3;
    mark.durable_lsn = 3;
    mark.salt = good.salt;
    mark.crc = kv_crc32c(0, (uint8_t *) &mark + 8, sizeof(mark) - 8);
    wal_store(t, FIRST, offset, (uint8_t *) &mark, sizeof(mark));

    wal_damaged(t, FIRST, "the batch says that LSN 3 was durable before it, "
                          "and begins with 3");
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, wal_setup, wal_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_damaged_middle),
        TEST(test_damaged_last),
        TEST(test_truncated),
        TEST(test_truncated_note),
        TEST(test_longer),
        TEST(test_overlap),
        TEST(test_every_byte),
        TEST(test_segments_short),
        TEST(test_segment_header),
        TEST(test_segments_apart),
        TEST(test_first_segment_gone),
        TEST(test_later_record),
        TEST(test_replicated),
        TEST(test_unknown_record),
        TEST(test_never_written)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
