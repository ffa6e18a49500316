
/*
 * Several processes write one log in turns: each goes on where the last one
 * stopped, also where that one died.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_wal.h"
#include "wal_rig.h"


/* A writer that meets what became of the segment says so, and writes not. */

static void
refused(wal_t *t, kv_wal_t *log, size_t len, int error, const char *what)
{
    uint64_t  next;

    next = t->state.next_lsn;
    assert_int_equal(wal_try(t, log, 1, len), KV_ERROR);
    assert_int_equal(errno, error);
    assert_int_equal(t->state.next_lsn, next);

    if (strncmp(t->err.text, FIRST, strlen(FIRST)) != 0
        || strstr(t->err.text, what) == NULL)
    {
        fail_msg("expected \"%s\", but: %s", what, t->err.text);
    }
}


static void
test_segment_gone(void **ctx)
{
    int         fd;
    wal_t      *t = *ctx;
    uint8_t     all[SEGMENT], *saved;
    kv_wal_t   *other;

    saved = all;
    wal_write(t, 3, 1000);
    assert_int_equal(wal_read(t, FIRST, saved, SEGMENT), SEGMENT);

    /* shorter, and another one in its place */

    fd = openat(t->dirfd, FIRST, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, SEGMENT - 4096), 0);
    other = wal_create(t, SEGMENT, BATCH);
    refused(t, other, 100, ESTALE, "the current segment became shorter; "
                                   "restart");
    assert_int_equal(ftruncate(fd, SEGMENT), 0);
    (void) close(fd);

    /* deleted: who has it open knows where its bytes are */

    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    refused(t, t->log, 100, ENOENT, "was deleted or renamed, and a restart "
                                    "would lose the writes in it: first copy "
                                    "\"/proc/");
    refused(t, other, 100, ENOENT, "the current segment cannot be opened");

    wal_store(t, FIRST, 0, saved, SEGMENT);
    kv_wal_destroy(other);
    kv_wal_destroy(t->log);
    t->log = wal_create(t, SEGMENT, BATCH);
    assert_int_equal(wal_try(t, t->log, 1, 100), KV_OK);
    wal_sync(t);
    wal_replays(t, 4);
}


/*
 * The same of a segment that is full: no batch goes to it any more, but the
 * next one would begin a log that no start can read.
 */

static void
test_full_segment_gone(void **ctx)
{
    wal_t     *t = *ctx;
    kv_wal_t  *other;

    wal_write(t, 1, 60000);
    wal_sync(t);
    other = wal_create(t, SEGMENT, BATCH);

    assert_int_equal(renameat(t->dirfd, FIRST, t->dirfd, "elsewhere"), 0);
    refused(t, other, 10000, ENOENT, "the current segment cannot be opened");
    refused(t, t->log, 10000, ENOENT, "was deleted or renamed");
    assert_int_equal(wal_count(t, "log-"), 0);

    assert_int_equal(renameat(t->dirfd, "elsewhere", t->dirfd, FIRST), 0);
    assert_int_equal(wal_try(t, other, 1, 10000), KV_OK);
    kv_wal_destroy(other);
    wal_sync(t);
    wal_replays(t, 2);
    assert_int_equal(wal_count(t, "log-"), 2);
}


/* Open, it can still be written to, but nothing that is read by its name. */

static void
test_segment_moved(void **ctx)
{
    wal_t    *t = *ctx;
    uint8_t   all[SEGMENT];

    wal_write(t, 1, 1000);
    wal_sync(t);
    assert_int_equal(wal_read(t, FIRST, all, SEGMENT), SEGMENT);

    assert_int_equal(renameat(t->dirfd, FIRST, t->dirfd, "elsewhere"), 0);
    refused(t, t->log, 100, ENOENT, "was deleted or renamed");

    /* a copy of it is in its place, and does not get what it gets */

    wal_store(t, FIRST, 0, all, SEGMENT);
    refused(t, t->log, 100, ENOENT, "was deleted or renamed");

    assert_int_equal(renameat(t->dirfd, "elsewhere", t->dirfd, FIRST), 0);
    wal_write(t, 1, 1000);

    /* deleted, and another name keeps it */

    assert_int_equal(linkat(t->dirfd, FIRST, t->dirfd, "elsewhere", 0), 0);
    wal_write(t, 1, 1000);
    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    refused(t, t->log, 100, ENOENT, "was deleted or renamed");

    assert_int_equal(renameat(t->dirfd, "elsewhere", t->dirfd, FIRST), 0);
    wal_write(t, 1, 1000);
    wal_sync(t);
    wal_replays(t, 4);
}


/*
 * Without a batch in it there is nothing to lose: it is made again.  It may
 * have been replaced by a process that then could not sync the directory.
 */

static void
test_empty_segment_gone(void **ctx)
{
    wal_t     *t = *ctx;
    kv_wal_t  *large;

    wal_write(t, 1, 60000);
    wal_sync(t);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);

    t->fail_write = SEGMENT / 4;
    t->error = ENOSPC;
    assert_int_equal(wal_try(t, t->log, 1, SEGMENT / 2), KV_NO_SPACE);
    t->fail_write = 0;
    assert_int_equal(t->state.segment_lsn, 2);
    assert_int_equal(t->state.next_lsn, 2);

    large = wal_create(t, 4 * SEGMENT, 3 * SEGMENT);
    t->fail_dir = true;
    assert_int_equal(wal_try(t, large, 1, 2 * SEGMENT), KV_NO_SPACE);
    t->fail_dir = false;
    kv_wal_destroy(large);

    wal_write(t, 1, 100);
    wal_sync(t);
    assert_int_equal(t->state.segments, 2);
    wal_replays(t, 2);
}


/* Two processes take turns, and the commit lock gives them the state. */

static void
test_two_handles(void **ctx)
{
    wal_t     *t = *ctx;
    kv_wal_t  *other;
    unsigned   i;

    other = wal_create(t, SEGMENT, BATCH);
    assert_non_null(other);

    for (i = 0; i < 200; i++) {
        assert_int_equal(wal_try(t, wal_random(t, 2) ? t->log : other,
                                 1 + i % 5, wal_random(t, 6000)), KV_OK);

        if (wal_random(t, 3) == 0) {
            assert_int_equal(kv_wal_sync(wal_random(t, 2) ? t->log : other,
                                         &t->err), KV_OK);
            assert_int_equal(t->state.durable_lsn, t->state.next_lsn - 1);
        }

        if (wal_random(t, 3) == 0) {
            (void) kv_wal_mark(wal_random(t, 2) ? t->log : other, &t->err);
        }

        if (wal_random(t, 20) == 0) {
            kv_wal_destroy(other);
            other = wal_create(t, SEGMENT, BATCH);
            assert_non_null(other);
        }
    }

    assert_true(t->state.segments > 5);
    kv_wal_destroy(other);
    wal_sync(t);
    wal_replays(t, t->state.next_lsn - 1);
}


/* Another file is there under the current segment's name. */

static void
test_changed_behind(void **ctx)
{
    wal_t                *t = *ctx;
    kv_segment_header_t   h;

    wal_write(t, 1, 1);
    wal_sync(t);

    kv_wal_destroy(t->log);
    t->log = wal_create(t, SEGMENT, BATCH);

    (void) wal_read(t, FIRST, (uint8_t *) &h, sizeof(h));
    h.salt++;
    wal_reseal(t, FIRST, &h);

    assert_int_equal(wal_try(t, t->log, 1, 1), KV_ERROR);
    assert_int_equal(errno, ESTALE);
    assert_non_null(strstr(t->err.text, FIRST));

    /* a restart would not find what was written: it is not advised first */

    assert_non_null(strstr(t->err.text, "first put it back"));

    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    assert_int_equal(kv_wal_write(t->log, &t->err), KV_ERROR);
    assert_int_equal(errno, ENOENT);
    assert_non_null(strstr(t->err.text, "first put it back"));
    assert_int_equal(t->state.next_lsn, 2);
}


/*
 * A segment is replaced by one of the same name, because nothing was in it
 * yet, behind the back of a handle that had it open.
 */

static void
test_replaced(void **ctx)
{
    wal_t     *t = *ctx;
    uint64_t   salt;
    kv_wal_t  *large;

    wal_write(t, 1, 60000);
    wal_sync(t);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);

    t->calls = 0;
    t->fail_at = MANY;
    t->fail_write = SEGMENT / 4;
    t->error = ENOSPC;
    assert_int_equal(wal_try(t, t->log, 1, SEGMENT / 2), KV_NO_SPACE);
    t->fail_write = 0;
    t->fail_at = 0;

    assert_int_equal(t->state.segment_lsn, 2);
    assert_int_equal(t->state.next_lsn, 2);
    assert_int_equal(t->state.segments, 2);
    salt = t->state.segment_salt;

    large = wal_create(t, 4 * SEGMENT, 3 * SEGMENT);
    assert_non_null(large);
    assert_int_equal(wal_try(t, large, 1, 2 * SEGMENT), KV_OK);
    assert_int_equal(t->state.segment_lsn, 2);
    assert_int_equal(t->state.segments, 2);
    assert_true(t->state.segment_salt != salt);

    wal_write(t, 1, 100);
    assert_int_equal(t->state.segments, 2);
    wal_sync(t);
    kv_wal_destroy(large);
    wal_replays(t, 3);
}


/*
 * A segment without a batch that takes no more, as one of an older format, is
 * replaced under its own name, and that process dies at any call of it; or the
 * disk is too full to sync the directory.
 */

static void
test_dead_replacing(void **ctx)
{
    int        n;
    bool       died;
    wal_t     *t = *ctx;
    kv_wal_t  *other;

    for (n = 0, died = true; died; n++) {
        wal_empty(t);
        wal_open(t);
        wal_write(t, 1, 60000);
        assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);

        t->calls = 0;
        t->fail_at = MANY;
        t->fail_write = SEGMENT / 4;
        t->error = ENOSPC;
        assert_int_equal(wal_try(t, t->log, 1, SEGMENT / 2), KV_NO_SPACE);
        t->fail_write = 0;
        t->fail_at = 0;
        assert_int_equal(t->state.segment_lsn, t->state.next_lsn);

        /* another process has it open */

        other = wal_create(t, SEGMENT, BATCH);
        assert_int_equal(kv_wal_check(other, &t->err), KV_OK);
        t->state.offset = t->state.segment_size;

        t->calls = 0;
        t->fail_at = n ? n : MANY;
        t->fail_count = MANY;
        t->error = n ? EIO : ENOSPC;
        t->fail_dir = n == 0;
        died = wal_try(t, t->log, 1, 100) != KV_OK;
        t->fail_at = 0;
        t->fail_dir = false;

        if (died) {
            assert_int_equal(t->state.next_lsn, 2);
            kv_wal_destroy(t->log);
            t->log = wal_create(t, SEGMENT, BATCH);
            assert_int_equal(kv_wal_check(t->log, &t->err), KV_OK);
        }

        if (died && wal_try(t, other, 1, 100) != KV_OK) {
            fail_msg("after call %d: %s", n, t->err.text);
        }

        assert_int_equal(t->state.next_lsn, 3);
        assert_int_equal(t->state.segments, 2);
        assert_int_equal(kv_wal_sync(other, &t->err), KV_OK);
        t->acked = 2;
        kv_wal_destroy(other);
        wal_replays(t, 2);
    }

    assert_true(n > 10);
}


/* A process dies at any call of its commits; the next goes on. */

static void
test_dead_committer(void **ctx)
{
    int        n, i;
    bool       died;
    wal_t     *t = *ctx;
    uint64_t   before;

    for (n = 1, died = true; died; n++) {
        wal_empty(t);
        wal_open(t);
        t->calls = 0;
        t->fail_at = n;
        t->fail_count = MANY;
        t->error = EIO;
        died = false;

        for (i = 0; i < 9; i++) {
            before = t->state.next_lsn;

            if (wal_try(t, t->log, 3, 6000 + 8 * (size_t) i) != KV_OK
                || kv_wal_sync(t->log, &t->err) != KV_OK
                || (i == 6 && kv_wal_purge(t->log, before - 1,
                                           t->state.segment_lsn, 1,
                                           NULL, &t->err)
                              != KV_OK)
                || (i == 3 && kv_wal_prepare(t->log, NULL) != KV_OK))
            {
                assert_false(died);
                died = true;

                /* all is lost but the state */

                kv_wal_destroy(t->log);
                t->log = wal_create(t, SEGMENT, BATCH);
                t->fail_at = 0;

                assert_true(t->state.next_lsn == before
                            || t->state.next_lsn == before + 3);

                /* what comes next may fit where the last did not */
                wal_write(t, 1, 10);
            }

            (void) kv_wal_mark(t->log, &t->err);
        }

        if (t->fail_at) {
            t->fail_at = 0;
            assert_false(died);
        }

        wal_write(t, 1, 10);
        wal_sync(t);

        before = t->state.next_lsn - 1;
        i = wal_exists(t, FIRST);
        assert_int_equal(wal_replay(t, i ? 0 : before, before), KV_OK);
        assert_int_equal(t->seen, before);
        assert_int_equal(wal_count(t, ""),
                         wal_count(t, "log-") + wal_count(t, "spare-"));
    }

    assert_true(n > 50);
}


/* What a dead process had begun, by hand, where no call tells of it. */

static void
test_dead_leftovers(void **ctx)
{
    char      name[KV_NAME_MAX];
    uint8_t   junk[3000];
    wal_t    *t = *ctx;

    wal_write(t, 3, 10000);
    wal_sync(t);

    memset(junk, 0xa5, sizeof(junk));
    wal_store(t, FIRST, t->state.offset, junk, sizeof(junk));
    wal_write(t, 1, 100);
    wal_write(t, 2, 10000);
    assert_int_equal(t->state.segments, 1);

    /* the next segment is there already: a file, and its predecessor */

    wal_store(t, wal_name(name, t->state.next_lsn), 0, junk, sizeof(junk));
    memcpy(name + 20, ".tmp", 4);
    wal_store(t, name, 0, junk, sizeof(junk));
    wal_store(t, "log-0000000000000002.tmp", 0, junk, sizeof(junk));

    wal_write(t, 2, 10000);
    assert_int_equal(t->state.segments, 2);
    assert_int_equal(wal_count(t, ""), 2);
    wal_sync(t);
    wal_replays(t, t->state.next_lsn - 1);
}


/* They cannot be deleted: others are made, under other names. */

static void
test_stuck_leftovers(void **ctx)
{
    char    name[KV_NAME_MAX];
    wal_t  *t = *ctx;

    wal_write(t, 3, 19000);
    wal_sync(t);

    t->fail_unlink = ".tmp";

    wal_store(t, "spare-0.tmp", 0, "junk", 4);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_OK);
    assert_int_equal(kv_wal_prepare(t->log, NULL), KV_DECLINED);
    assert_int_equal(wal_count(t, "spare-"), 2);

    /* from a spare, then without one */

    memcpy(wal_name(name, t->state.next_lsn) + 20, ".tmp", 5);
    wal_store(t, name, 0, "junk", 4);
    wal_write(t, 3, 19000);
    assert_int_equal(t->state.segments, 2);
    assert_false(wal_exists(t, name));

    memcpy(wal_name(name, t->state.next_lsn) + 20, ".tmp", 5);
    wal_store(t, name, 0, "junk", 4);
    memcpy(wal_name(name, t->state.next_lsn + 1) + 20, ".tmp", 5);
    wal_store(t, name, 0, "junk", 4);
    wal_write(t, 3, 19000);
    assert_int_equal(t->state.segments, 3);
    assert_true(wal_exists(t, name));
    wal_sync(t);

    t->fail_unlink = NULL;
    wal_replays(t, 9);
    assert_int_equal(wal_count(t, ""), 3);

    /* a segment that cannot go is no reason to keep the others */

    t->fail_unlink = FIRST;
    assert_int_equal(kv_wal_purge(t->log, 9, t->state.segment_lsn, 0, NULL,
                                  &t->err), KV_ERROR);
    assert_non_null(strstr(t->err.text, FIRST));
    assert_true(wal_exists(t, FIRST));
    assert_int_equal(wal_count(t, "log-"), 2);
    assert_int_equal(t->state.segments, 2);

    t->fail_unlink = NULL;
    assert_int_equal(kv_wal_purge(t->log, 9, t->state.segment_lsn, 0, NULL,
                                  &t->err), KV_OK);
    assert_int_equal(wal_count(t, "log-"), 1);
    assert_int_equal(wal_replay(t, 6, 9), KV_OK);
}


/* A process is killed while it moves the state. */

static void
test_dead_moving(void **ctx)
{
    int              fields;
    wal_t           *t = *ctx;
    kv_wal_state_t   old, new;

    wal_write(t, 1, 60000);
    old = t->state;
    wal_write(t, 2, 20000);
    new = t->state;

    assert_int_equal(new.moving, 0);
    assert_int_not_equal(old.segment_lsn, new.segment_lsn);

    for (fields = 0; fields < 32; fields++) {
        t->state = old;
        t->state.to = new.to;
        t->state.moving = 1;

        if (fields & 1) {
            t->state.segment_lsn = new.segment_lsn;
        }

        if (fields & 2) {
            t->state.segment_salt = new.segment_salt;
        }

        if (fields & 4) {
            t->state.segment_size = new.segment_size;
        }

        if (fields & 8) {
            t->state.offset = new.offset;
        }

        if (fields & 16) {
            t->state.next_lsn = new.next_lsn;
        }

        switch (fields % 3) {
        case 0:
            kv_wal_begin(t->log);
            break;
        case 1:
            assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
            break;
        default:
            (void) kv_wal_mark(t->log, &t->err);
        }

        assert_int_equal(t->state.moving, 0);
        assert_int_equal(t->state.segment_lsn, new.segment_lsn);
        assert_int_equal(t->state.segment_salt, new.segment_salt);
        assert_int_equal(t->state.segment_size, new.segment_size);
        assert_int_equal(t->state.offset, new.offset);
        assert_int_equal(t->state.next_lsn, new.next_lsn);
    }

    /* a handle that is made beside another's move leaves it alone */

    t->state.moving = 1;
    t->state.to.offset = 0;
    kv_wal_destroy(wal_create(t, SEGMENT, BATCH));
    assert_int_equal(t->state.moving, 1);
    assert_int_equal(t->state.offset, new.offset);
    t->state.moving = 0;

    wal_write(t, 1, 1);
    wal_sync(t);
    wal_replays(t, 4);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, wal_setup, wal_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_segment_gone),
        TEST(test_full_segment_gone),
        TEST(test_segment_moved),
        TEST(test_empty_segment_gone),
        TEST(test_two_handles),
        TEST(test_changed_behind),
        TEST(test_replaced),
        TEST(test_dead_replacing),
        TEST(test_dead_committer),
        TEST(test_dead_leftovers),
        TEST(test_stuck_leftovers),
        TEST(test_dead_moving)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
