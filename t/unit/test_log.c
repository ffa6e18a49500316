
/*
 * The log against a model of what it was given: round trips, then everything
 * that can happen to files, disks and processes.
 *
 * Records are made from (LSN, seed), so that a replay can tell whether each
 * is the one that was written last under its LSN.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/kv_crc32c.h"
#include "disk/kv_log.h"


#define SEGMENT    65536u
#define BATCH      (SEGMENT - KV_SEGMENT_HEADER)
#define RECORDS    20000
#define HEADER     sizeof(kv_batch_header_t)
#define MANY       1000000

/* of a file that holds the first batch of a log */
#define FIRST      "log-0000000000000001.kvl"


typedef struct {
    uint64_t  seed;
    uint32_t  len;
} model_t;


/* A write that no sync has followed yet, and what it overwrote. */

typedef struct {
    int        fd;
    ino_t      inode;
    bool       lost;          /* a sync of it failed: no other helps */
    off_t      offset;
    size_t     len;
    uint8_t   *old;
} unsynced_t;


typedef struct {
    kv_io_t          io;              /* first: the table's `io` is this */
    kv_io_t          system;
    int              dirfd;
    char             path[200];

    int              calls;
    int              fail_at;         /* the call that fails; 0: none */
    int              fail_count;      /* how many fail from there on */
    size_t           fail_write;      /* writes of so many bytes fail, if set */
    bool             fail_dir;        /* so do syncs of the directory */
    const char      *fail_unlink;     /* and deletions of names with this */
    uint64_t         fail_from;       /* and reads beyond this, if set */
    bool             halved;          /* a write was, and now it fails */
    int              error;
    int              allocations;
    int              syncs;

    bool             keep;            /* note unsynced writes, for cuts */
    unsynced_t       unsynced[4096];
    size_t           unsynced_n;
    char             renames[64][2][KV_NAME_MAX];
    size_t           renames_n;

    uint64_t         segment_size;
    size_t           max_batch;
    kv_log_state_t   state;
    kv_log_t        *log;
    kv_err_t         err;
    uint64_t         newer;           /* for replays */
    unsigned         warnings;        /* of the last one, */
    char             warned[768];     /* and the last of them */

    model_t          model[RECORDS];
    uint64_t         acked;           /* synced up to here */
    uint8_t         *value;           /* memory for values of a batch */
    size_t           value_max;
    size_t           value_used;

    uint64_t         seen;            /* by the replay */
    uint64_t         random;
} wal_t;


/* Both ways of writing: through the page cache, then past it. */
static bool  wal_direct;


static int wal_setup(void **ctx);
static void wal_table(wal_t *t);
static int wal_teardown(void **ctx);
static void wal_empty(wal_t *t);
static void wal_unlink(void *ctx, const char *name);
static void wal_open(wal_t *t);
static kv_log_t *wal_create(wal_t *t, uint64_t segment_size,
    size_t max_batch);
static uint64_t wal_random(wal_t *t, uint64_t n);

static kv_rc_t wal_add(wal_t *t, kv_log_t *log, uint64_t lsn, size_t len);
static kv_rc_t wal_try(wal_t *t, kv_log_t *log, unsigned n, size_t len);
static void wal_write(wal_t *t, unsigned n, size_t len);
static void wal_sync(wal_t *t);
static void wal_make(const model_t *m, uint64_t lsn, kv_record_t *rec,
    char *key);
static uint8_t wal_byte(const model_t *m, size_t i);

static kv_rc_t wal_replay(wal_t *t, uint64_t after, uint64_t must_reach);
static void wal_warn(void *ctx, const char *text);
static void wal_replays(wal_t *t, uint64_t last);
static void wal_damaged(wal_t *t, const char *file, const char *what);
static void wal_way_out(wal_t *t);
static kv_rc_t wal_check(void *ctx, uint64_t lsn, const kv_record_t *rec);

static size_t wal_read(wal_t *t, const char *name, uint8_t *buf,
    size_t max);
static void wal_store(wal_t *t, const char *name, uint64_t offset,
    const void *data, size_t n);
static void wal_flip(wal_t *t, const char *name, uint64_t offset);
static void wal_reseal(wal_t *t, const char *name, kv_segment_header_t *h);
static bool wal_exists(wal_t *t, const char *name);
static int wal_count(wal_t *t, const char *prefix);
static char *wal_name(char *buf, uint64_t lsn);
static void wal_cut(wal_t *t);
static void wal_undo(wal_t *t, size_t keep);
static void wal_forget(wal_t *t, size_t i);
static void wal_rewritten(unsynced_t *lost, const unsynced_t *by);


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
    assert_int_equal(kv_log_write(t->log, &t->err), KV_OK);
    assert_int_equal(kv_log_sync(t->log, &t->err), KV_OK);
    (void) kv_log_mark(t->log, &t->err);
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
    kv_log_state_t    state;

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
    (void) kv_log_mark(t->log, &t->err);

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

    kv_log_begin(t->log);
    assert_int_equal(wal_add(t, t->log, 2, BATCH - HEADER - 8 - 32), KV_OK);
    assert_int_equal(wal_add(t, t->log, 3, 1), KV_AGAIN);
    assert_int_equal(kv_log_write(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.offset, SEGMENT);
    assert_int_equal(t->state.segments, 2);
    t->value_used = 0;

    /* a full segment has no room for a mark */

    (void) kv_log_mark(t->log, &t->err);

    kv_log_begin(t->log);

    for (n = 0, rc = KV_OK; rc == KV_OK; n++) {
        rc = wal_add(t, t->log, 3 + n, 1);
    }

    assert_int_equal(rc, KV_AGAIN);
    assert_int_equal(kv_log_write(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.next_lsn, 3 + n - 1);

    /* what is written is not written twice */

    assert_int_equal(kv_log_write(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.next_lsn, 3 + n - 1);

    wal_sync(t);
    wal_replays(t, 3 + n - 2);
}


/* Behind every batch there is room for the mark that vouches for it. */

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

        (void) kv_log_mark(t->log, &t->err);
        (void) wal_name(name, t->state.segment_lsn);
        wal_sync(t);
        (void) kv_log_mark(t->log, &t->err);
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

    assert_int_equal(kv_log_purge(t->log, second - 2, first, 0, NULL, &t->err),
                     KV_OK);
    assert_int_equal(kv_log_purge(t->log, lsn, second - 1, 0, NULL, &t->err),
                     KV_OK);
    assert_int_equal(wal_count(t, "log-"), t->state.segments);
    wal_replays(t, lsn);

    assert_int_equal(kv_log_purge(t->log, second - 1, first, 0, NULL, &t->err),
                     KV_OK);
    assert_false(wal_exists(t, FIRST));
    assert_int_equal(wal_replay(t, second - 1, lsn), KV_OK);

    assert_int_equal(kv_log_purge(t->log, 0, first, 9, NULL, &t->err), KV_OK);
    assert_int_equal(wal_count(t, "spare-"), 0);

    for (i = 1; i < 5; i++) {
        assert_int_equal(kv_log_purge(t->log, lsn * i / 6, first, 2,
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

    assert_int_equal(kv_log_purge(t->log, UINT64_MAX - 1, first, 2,
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
            (void) kv_log_mark(t->log, &t->err);
        }

        assert_int_equal(wal_replay(t, last, last), KV_OK);
        assert_int_equal(t->seen, last);

        if (i % 5 == 0) {
            t->allocations = 0;
            assert_int_equal(kv_log_purge(t->log, last,
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
    assert_int_equal(kv_log_prepare(t->log, &cancel), KV_CANCELLED);
    assert_int_equal(wal_count(t, ""), 0);

    cancel = 0;
    wal_store(t, "spare-0.tmp", 0, "left", 4);
    wal_store(t, "spare-7.tmp", 0, "left", 4);
    assert_int_equal(kv_log_prepare(t->log, &cancel), KV_OK);
    assert_true(wal_exists(t, "spare-0.kvl"));
    assert_int_equal(wal_count(t, ""), 1);
    assert_int_equal(kv_log_prepare(t->log, NULL), KV_DECLINED);

    /* it is used, and nothing allocated */

    t->allocations = 0;
    wal_write(t, 1, 1);
    assert_int_equal(t->allocations, 0);
    assert_true(wal_exists(t, FIRST));
    assert_int_equal(wal_count(t, ""), 1);

    /* one of another size is not */

    wal_store(t, "spare-3.kvl", 0, "short", 5);
    assert_int_equal(kv_log_prepare(t->log, NULL), KV_OK);
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
    assert_int_equal(kv_log_purge(t->log, 3, t->state.segment_lsn, 9,
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
 * What has another name, somebody's copy of the directory, is not written over:
 * neither a segment that nobody needs any more, nor a spare.
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
    assert_int_equal(kv_log_purge(t->log, 1, t->state.segment_lsn, 9, NULL,
                                  &t->err), KV_OK);
    assert_false(wal_exists(t, FIRST));
    assert_int_equal(wal_count(t, "spare-"), 0);

    /* one with no other name is recycled; a spare with one is not taken */

    wal_write(t, 1, 50000);
    wal_sync(t);
    assert_int_equal(kv_log_purge(t->log, 2, t->state.segment_lsn, 9, NULL,
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
    assert_int_equal(kv_log_prepare(t->log, NULL), KV_OK);
    assert_int_equal(wal_count(t, "spare-"), 1);

    (void) wal_read(t, "copy", after, sizeof(after));
    assert_memory_equal(before, after, sizeof(before));
    assert_int_equal(unlinkat(t->dirfd, "copy", 0), 0);
}


/* Two processes take turns, and the commit lock gives them the state. */

static void
test_two_handles(void **ctx)
{
    wal_t     *t = *ctx;
    kv_log_t  *other;
    unsigned   i;

    other = wal_create(t, SEGMENT, BATCH);
    assert_non_null(other);

    for (i = 0; i < 200; i++) {
        assert_int_equal(wal_try(t, wal_random(t, 2) ? t->log : other,
                                 1 + i % 5, wal_random(t, 6000)), KV_OK);

        if (wal_random(t, 3) == 0) {
            assert_int_equal(kv_log_sync(wal_random(t, 2) ? t->log : other,
                                         &t->err), KV_OK);
            assert_int_equal(t->state.durable_lsn, t->state.next_lsn - 1);
        }

        if (wal_random(t, 3) == 0) {
            (void) kv_log_mark(wal_random(t, 2) ? t->log : other, &t->err);
        }

        if (wal_random(t, 20) == 0) {
            kv_log_destroy(other);
            other = wal_create(t, SEGMENT, BATCH);
            assert_non_null(other);
        }
    }

    assert_true(t->state.segments > 5);
    kv_log_destroy(other);
    wal_sync(t);
    wal_replays(t, t->state.next_lsn - 1);
}


/* Somebody replaced the file under the current segment's name. */

static void
test_changed_behind(void **ctx)
{
    wal_t                *t = *ctx;
    kv_segment_header_t   h;

    wal_write(t, 1, 1);
    wal_sync(t);

    kv_log_destroy(t->log);
    t->log = wal_create(t, SEGMENT, BATCH);

    (void) wal_read(t, FIRST, (uint8_t *) &h, sizeof(h));
    h.salt++;
    wal_reseal(t, FIRST, &h);

    assert_int_equal(wal_try(t, t->log, 1, 1), KV_ERROR);
    assert_int_equal(errno, ESTALE);
    assert_non_null(strstr(t->err.text, FIRST));

    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    assert_int_equal(kv_log_write(t->log, &t->err), KV_ERROR);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(t->state.next_lsn, 2);
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
                || kv_log_sync(t->log, &t->err) != KV_OK
                || (i == 6 && kv_log_purge(t->log, before - 1,
                                           t->state.segment_lsn, 1,
                                           NULL, &t->err)
                              != KV_OK)
                || (i == 3 && kv_log_prepare(t->log, NULL) != KV_OK))
            {
                assert_false(died);
                died = true;

                /* all is lost but the state */

                kv_log_destroy(t->log);
                t->log = wal_create(t, SEGMENT, BATCH);
                t->fail_at = 0;

                assert_true(t->state.next_lsn == before
                            || t->state.next_lsn == before + 3);

                /* what comes next may fit where the last did not */
                wal_write(t, 1, 10);
            }

            (void) kv_log_mark(t->log, &t->err);
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
    assert_int_equal(kv_log_prepare(t->log, NULL), KV_OK);
    assert_int_equal(kv_log_prepare(t->log, NULL), KV_DECLINED);
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
    assert_int_equal(kv_log_purge(t->log, 9, t->state.segment_lsn, 0, NULL,
                                  &t->err), KV_ERROR);
    assert_non_null(strstr(t->err.text, FIRST));
    assert_true(wal_exists(t, FIRST));
    assert_int_equal(wal_count(t, "log-"), 2);
    assert_int_equal(t->state.segments, 2);

    t->fail_unlink = NULL;
    assert_int_equal(kv_log_purge(t->log, 9, t->state.segment_lsn, 0, NULL,
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
    kv_log_state_t   old, new;

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
            kv_log_begin(t->log);
            break;
        case 1:
            assert_int_equal(kv_log_sync(t->log, &t->err), KV_OK);
            break;
        default:
            (void) kv_log_mark(t->log, &t->err);
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
    kv_log_destroy(wal_create(t, SEGMENT, BATCH));
    assert_int_equal(t->state.moving, 1);
    assert_int_equal(t->state.offset, new.offset);
    t->state.moving = 0;

    wal_write(t, 1, 1);
    wal_sync(t);
    wal_replays(t, 4);
}


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


/* Nobody but the mark tells that the last batch was acknowledged. */

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

    (void) kv_log_mark(t->log, &t->err);
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

    (void) kv_log_mark(t->log, &t->err);
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

    /* without the mark, nobody knows */

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
    assert_int_equal(kv_log_purge(t->log, t->state.segment_lsn - 1,
                                  t->state.segment_lsn, 2, NULL, &t->err),
                     KV_OK);
    assert_int_equal(wal_count(t, ""), 1);
    assert_int_equal(wal_replay(t, t->state.segment_lsn - 1, 0), KV_OK);
    assert_int_equal(t->warnings, 0);
}


/* The disk does not give what nobody needs: behind the mark at the end. */

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
    (void) kv_log_mark(t->log, &t->err);

    t->fail_from = t->state.offset + HEADER;
    wal_replays(t, last);
    assert_int_equal(t->warnings, 1);
    wal_write(t, 2, 100);
    wal_sync(t);
    assert_int_equal(t->state.segments, 2);
    t->fail_from = 0;
    wal_replays(t, last + 2);
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

    (void) kv_log_mark(t->log, &t->err);
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


/*
 * Batches in flight: the first is lost, those behind it are good, but nobody
 * was told of them.  They must not be seen again, neither at once nor when
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

        (void) kv_log_mark(t->log, &t->err);

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
    (void) kv_log_mark(t->log, &t->err);
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
    (void) kv_log_mark(t->log, &t->err);
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

    n = 1000 * HEADER;
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

    kv_log_begin(t->log);
    assert_int_equal(kv_log_add(t->log, &rec), KV_OK);
    assert_int_equal(kv_log_write(t->log, &t->err), KV_OK);

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
                    assert_non_null(strstr(t->err.text, "room on the disk"));
                    assert_int_equal(wal_count(t, ""),
                                     (int) t->state.segments
                                     + wal_count(t, "spare-"));

                    /* the same batch again, or another one */

                    rc = i % 2 ? kv_log_write(t->log, &t->err)
                               : wal_try(t, t->log, 2, 20);
                    assert_int_equal(rc, KV_OK);
                }

                if (rc == KV_OK) {
                    assert_int_equal(t->state.next_lsn, before + 2);
                    rc = kv_log_sync(t->log, &t->err);
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
                    rc = kv_log_prepare(t->log, NULL);
                    assert_true(rc == KV_OK || errno == errors[e]);
                }

                if (i == 7 || i == 9) {
                    purged = before - 1;
                    (void) kv_log_purge(t->log, purged, t->state.segment_lsn,
                                        1, NULL, &t->err);
                }

                (void) kv_log_mark(t->log, &t->err);
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


static void
test_segments_wrong(void **ctx)
{
    char                  names[3][KV_NAME_MAX];
    wal_t                *t = *ctx;
    uint8_t               buf[KV_SEGMENT_HEADER];
    unsigned              i;
    uint64_t              lsn;
    kv_segment_header_t   h, good;

    for (i = 0; i < 3; i++) {
        wal_write(t, 3, 7000);
        wal_sync(t);
    }

    lsn = t->state.next_lsn - 1;
    wal_replays(t, lsn);
    assert_int_equal(t->state.segments, 2);
    (void) wal_name(names[1], t->state.segment_lsn);

    /* a snapshot that needs more than there is */

    assert_int_equal(wal_replay(t, 1, lsn), KV_OK);
    assert_int_equal(wal_replay(t, 1, lsn + 1), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "touch snap-0000000000000001.alone"));
    assert_non_null(strstr(t->err.text, names[1]));
    assert_int_equal(wal_replay(t, lsn, 0), KV_OK);
    assert_int_equal(wal_replay(t, lsn + 1, 0), KV_DAMAGED);

    /* a newer version */

    (void) wal_read(t, FIRST, (uint8_t *) &good, sizeof(good));

    h = good;
    h.version = 2;
    wal_reseal(t, FIRST, &h);
    wal_damaged(t, FIRST, "format version 2");
    assert_int_equal(wal_replay(t, lsn, 0), KV_OK);

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

    h = good;
    wal_reseal(t, FIRST, &h);
    wal_replays(t, lsn);

    /* a segment that begins later than the one before it ends, or earlier */

    (void) wal_read(t, names[1], (uint8_t *) &h, sizeof(h));
    (void) wal_read(t, names[1], buf, sizeof(buf));

    h.first_lsn++;
    assert_int_equal(renameat(t->dirfd, names[1], t->dirfd,
                              wal_name(names[2], h.first_lsn)), 0);
    wal_reseal(t, names[2], &h);
    wal_damaged(t, FIRST, "the next segment starts with");

    h.first_lsn = 2;
    assert_int_equal(renameat(t->dirfd, names[2], t->dirfd,
                              wal_name(names[0], 2)), 0);
    wal_reseal(t, names[0], &h);
    wal_damaged(t, FIRST, "the batch goes on to LSN 3, but the next segment "
                          "starts with 2");

    assert_int_equal(renameat(t->dirfd, names[0], t->dirfd, names[1]), 0);
    wal_store(t, names[1], 0, buf, sizeof(buf));
    wal_replays(t, lsn);

    /* the first is gone */

    assert_int_equal(unlinkat(t->dirfd, FIRST, 0), 0);
    assert_int_equal(wal_replay(t, 0, 0), KV_DAMAGED);
    assert_non_null(strstr(t->err.text, "but 1 is needed"));
    assert_non_null(strstr(t->err.text, "from LSN 1 on, at least 6 of them, "
                           "move every log-* away"));
    assert_int_equal(wal_replay(t, t->state.next_lsn ? lsn : 0, 0), KV_OK);
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

    wal_damaged(t, FIRST, "no record of format version 1");
    assert_non_null(strstr(t->err.text, "from LSN 3 on"));

    /* or there is more in the batch than it says */

    buf[HEADER] = KV_OP_PUT;
    memcpy(buf + HEADER + h.len, buf + HEADER, h.len);
    h.len *= 2;
    memcpy(buf, &h, sizeof(h));
    h.crc = kv_crc32c(0, buf + 8, HEADER - 8 + h.len);
    memcpy(buf, &h, sizeof(h));
    wal_store(t, FIRST, offset, buf, HEADER + h.len);

    wal_damaged(t, FIRST, "no record of format version 1");
}


/* Good batches, each but for one thing, where the next is expected. */

static void
test_not_the_next(void **ctx)
{
    wal_t              *t = *ctx;
    uint8_t             buf[128], *file;
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


/*
 * A segment is replaced by one of the same name, because nothing was in it
 * yet, behind the back of a handle that had it open.
 */

static void
test_replaced(void **ctx)
{
    wal_t     *t = *ctx;
    uint64_t   salt;
    kv_log_t  *large;

    wal_write(t, 1, 60000);
    wal_sync(t);
    assert_int_equal(kv_log_prepare(t->log, NULL), KV_OK);

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
    kv_log_destroy(large);
    wal_replays(t, 3);
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


/*
 * A sync failed, and the next process reads what is in memory only: it has to
 * get it to the disk before it shows it to anybody.
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
    assert_int_equal(kv_log_sync(t->log, &t->err), KV_ERROR);
    assert_int_equal(t->state.durable_lsn, 1);

    wal_replays(t, 3);
    wal_write(t, 1, 100);
    wal_sync(t);
    wal_cut(t);
    wal_replays(t, 4);
}


/* The same of a new segment's name. */

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
                rc = kv_log_sync(t->log, &t->err);
            }

            if (rc == KV_OK && wal_random(t, 3) == 0) {
                (void) kv_log_mark(t->log, &t->err);
            }

            if (rc == KV_OK && wal_random(t, 12) == 0) {
                rc = kv_log_prepare(t->log, NULL);
                rc = rc == KV_DECLINED ? KV_OK : rc;
            }

            if (rc == KV_OK && wal_random(t, 12) == 0) {
                base = kv_max(base, t->state.durable_lsn);
                rc = kv_log_purge(t->log, base, t->state.segment_lsn,
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
                kv_log_destroy(t->log);
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


static int
wal_setup(void **ctx)
{
    wal_t       *t;
    const char  *tmp;

    t = calloc(1, sizeof(wal_t));

    if (t == NULL) {
        return -1;
    }

    tmp = getenv("TMPDIR");

    (void) snprintf(t->path, sizeof(t->path), "%s/kv_test_wal.XXXXXX",
                    tmp ? tmp : "/tmp");

    if (mkdtemp(t->path) == NULL) {
        free(t);
        return -1;
    }

    t->dirfd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    t->random = 0x9e3779b97f4a7c15;
    t->value_max = 8 << 20;
    t->value = malloc(t->value_max);
    t->segment_size = SEGMENT;
    t->max_batch = BATCH;

    kv_io_system(&t->system);
    *ctx = t;

    wal_table(t);
    wal_open(t);

    return 0;
}


static int
wal_teardown(void **ctx)
{
    wal_t  *t = *ctx;

    wal_empty(t);
    (void) close(t->dirfd);
    (void) rmdir(t->path);
    free(t->value);
    free(t);

    return 0;
}


static void
wal_empty(wal_t *t)
{
    while (t->unsynced_n) {
        wal_forget(t, t->unsynced_n - 1);
    }

    t->renames_n = 0;

    if (t->log) {
        kv_log_destroy(t->log);
        t->log = NULL;
    }

    (void) t->system.list(&t->system, t->dirfd, wal_unlink, t);
}


static void
wal_unlink(void *ctx, const char *name)
{
    wal_t  *t = ctx;

    (void) unlinkat(t->dirfd, name, 0);
}


/* A handle on a log without anything. */

static void
wal_open(wal_t *t)
{
    if (t->log) {
        kv_log_destroy(t->log);
    }

    memset(&t->state, 0, sizeof(t->state));
    t->state.next_lsn = 1;
    t->acked = 0;
    t->fail_at = 0;

    t->log = wal_create(t, t->segment_size, t->max_batch);
    assert_non_null(t->log);
}


static kv_log_t *
wal_create(wal_t *t, uint64_t segment_size, size_t max_batch)
{
    kv_log_t  *log;

    log = kv_log_create(&t->io, t->dirfd, &t->state, segment_size, max_batch);

    if (log) {
        kv_log_set_direct(log, wal_direct);
    }

    return log;
}


static uint64_t
wal_random(wal_t *t, uint64_t n)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;

    return (t->random >> 16) % n;
}


static uint8_t
wal_byte(const model_t *m, size_t i)
{
    return (uint8_t) (m->seed + i + (i >> 8) * 3);
}


/* All of a record but its value. */

static void
wal_make(const model_t *m, uint64_t lsn, kv_record_t *rec, char *key)
{
    memset(rec, 0, sizeof(*rec));

    rec->op = KV_OP_PUT;

    if (m->len == 0 && m->seed % 3 == 0) {
        rec->op = m->seed % 2 ? KV_OP_DELETE : KV_OP_CLEAR;
    }

    if (rec->op != KV_OP_CLEAR) {
        rec->key = key;
        rec->key_len = (uint16_t) snprintf(key, 64, "key %016llx %.*s",
                                           (unsigned long long) lsn,
                                           (int) (m->seed % 12),
                                           "abcdefghijkl");
    }

    if (rec->op == KV_OP_PUT && m->seed % 5 == 0) {
        rec->flags = KV_RECORD_EXPIRES;
        rec->expires = m->seed;
    }

    rec->value_len = m->len;
}


static kv_rc_t
wal_add(wal_t *t, kv_log_t *log, uint64_t lsn, size_t len)
{
    char            key[64];
    size_t          i, left;
    model_t        *m;
    kv_rc_t         rc;
    uint8_t        *value;
    kv_record_t     rec;
    struct iovec    pieces[8];

    assert_true(lsn < RECORDS);
    assert_true(t->value_used + len <= t->value_max);

    m = &t->model[lsn];
    m->seed = wal_random(t, 1 << 30);
    m->len = (uint32_t) len;

    wal_make(m, lsn, &rec, key);

    /* the exact size of a record that fills a batch is for one to choose */

    if (len > BATCH - 200 && len < BATCH) {
        m->seed = 9;
        wal_make(m, lsn, &rec, key);
        rec.key_len = 32;
    }

    value = t->value + t->value_used;

    for (i = 0; i < len; i++) {
        value[i] = wal_byte(m, i);
    }

    rec.value = pieces;
    left = len;

    for (i = 0; i < 8 && left; i++) {
        pieces[i].iov_base = value + (len - left);
        pieces[i].iov_len = i == 7 ? left : wal_random(t, left + 1);
        left -= pieces[i].iov_len;
        rec.value_n++;
    }

    t->value_used += len;

    rc = kv_log_add(log, &rec);

    memset(key, 0, sizeof(key));

    return rc;
}


static kv_rc_t
wal_try(wal_t *t, kv_log_t *log, unsigned n, size_t len)
{
    unsigned  i;

    t->value_used = 0;
    t->err.text[0] = '\0';

    kv_log_begin(log);

    for (i = 0; i < n; i++) {
        assert_int_equal(wal_add(t, log, t->state.next_lsn + i, len), KV_OK);
    }

    return kv_log_write(log, &t->err);
}


static void
wal_write(wal_t *t, unsigned n, size_t len)
{
    uint64_t  before;

    before = t->state.next_lsn;

    assert_int_equal(wal_try(t, t->log, n, len), KV_OK);
    assert_int_equal(t->state.next_lsn, before + n);
}


static void
wal_sync(wal_t *t)
{
    assert_int_equal(kv_log_sync(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.durable_lsn, t->state.next_lsn - 1);
    t->acked = t->state.durable_lsn;
}


/* As a new process after all others have gone; t->seen is the last LSN. */

static kv_rc_t
wal_replay(wal_t *t, uint64_t after, uint64_t must_reach)
{
    kv_rc_t         rc;
    kv_log_state_t   before;
    kv_log_replay_t  from;

    if (t->log) {
        kv_log_destroy(t->log);
    }

    memset(&t->state, 0xdd, sizeof(t->state));
    before = t->state;
    t->seen = after;
    t->err.text[0] = '\0';

    t->log = wal_create(t, t->segment_size, t->max_batch);
    assert_non_null(t->log);

    memset(&from, 0, sizeof(from));
    from.after = after;
    from.must_reach = must_reach;
    from.newer = t->newer;
    from.record = wal_check;
    from.warn = wal_warn;
    from.ctx = t;

    t->warnings = 0;
    t->warned[0] = '\0';

    rc = kv_log_replay(t->log, &from, &t->err);

    if (rc == KV_OK) {
        assert_int_equal(t->state.next_lsn, t->seen + 1);
        assert_int_equal(t->state.durable_lsn, t->seen);
        assert_int_equal(t->err.text[0], 0);

    } else {
        assert_memory_equal(&before, &t->state, sizeof(before));
        assert_true(t->err.text[0] || rc == KV_NOT_FOUND);
        assert_null(strchr(t->err.text, '\n'));
        assert_true(strlen(t->err.text) < sizeof(t->err.text) - 1);
    }

    return rc;
}


static void
wal_warn(void *ctx, const char *text)
{
    wal_t  *t = ctx;

    t->warnings++;
    (void) snprintf(t->warned, sizeof(t->warned), "%s", text);
}


static void
wal_replays(wal_t *t, uint64_t last)
{
    if (wal_replay(t, 0, 0) != KV_OK) {
        fail_msg("%s", t->err.text);
    }

    assert_int_equal(t->seen, last);
}


static void
wal_damaged(wal_t *t, const char *file, const char *what)
{
    assert_int_equal(wal_replay(t, 0, 0), KV_DAMAGED);
    assert_memory_equal(t->err.text, file, strlen(file));
    assert_non_null(strstr(t->err.text, "offset "));
    assert_non_null(strstr(t->err.text, what));
    assert_true(strstr(t->err.text, "restore the data directory")
                || strstr(t->err.text, "use the version"));
}


/* Does the commands of the last refusal. */

static void
wal_way_out(wal_t *t)
{
    char  command[1200], *from, *to;

    from = strchr(t->err.text, '"');
    assert_non_null(from);
    to = strchr(++from, '"');
    assert_non_null(to);
    (void) snprintf(command, sizeof(command), "cd %s && %.*s", t->path,
                    (int) (to - from), from);
    assert_int_equal(system(command), 0);
}


static kv_rc_t
wal_check(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    char            key[64];
    size_t          i;
    wal_t          *t = ctx;
    model_t        *m;
    kv_record_t     expected;
    const uint8_t  *value;

    assert_int_equal(lsn, t->seen + 1);
    assert_true(lsn < RECORDS);

    m = &t->model[lsn];

    if (m->seed == 0) {
        /* anything */
        t->seen = lsn;
        return KV_OK;
    }

    wal_make(m, lsn, &expected, key);

    if (rec->key_len == 32 && m->seed == 9) {
        expected.key_len = 32;
    }

    if (rec->op != expected.op || rec->flags != expected.flags
        || rec->expires != expected.expires
        || rec->key_len != expected.key_len
        || rec->value_len != expected.value_len
        || memcmp(rec->key, key, m->seed == 9 ? 20 : rec->key_len) != 0)
    {
        return KV_NOT_FOUND;
    }

    value = rec->value->iov_base;

    for (i = 0; i < rec->value_len; i++) {
        if (value[i] != wal_byte(m, i)) {
            return KV_NOT_FOUND;
        }
    }

    t->seen = lsn;

    return KV_OK;
}


static size_t
wal_read(wal_t *t, const char *name, uint8_t *buf, size_t max)
{
    int      fd;
    ssize_t  n;

    fd = openat(t->dirfd, name, O_RDONLY);
    assert_true(fd != -1);
    n = pread(fd, buf, max, 0);
    assert_true(n >= 0);
    (void) close(fd);

    return (size_t) n;
}


static void
wal_store(wal_t *t, const char *name, uint64_t offset, const void *data,
    size_t n)
{
    int  fd;

    fd = openat(t->dirfd, name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd != -1);
    assert_int_equal(pwrite(fd, data, n, (off_t) offset), n);
    (void) close(fd);
}


static void
wal_flip(wal_t *t, const char *name, uint64_t offset)
{
    int      fd;
    uint8_t  byte;

    fd = openat(t->dirfd, name, O_RDWR);
    assert_true(fd != -1);
    assert_int_equal(pread(fd, &byte, 1, (off_t) offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t) offset), 1);
    (void) close(fd);
}


/* Gives the segment this header, with the right checksum. */

static void
wal_reseal(wal_t *t, const char *name, kv_segment_header_t *h)
{
    uint8_t  buf[KV_SEGMENT_HEADER];

    memset(buf, 0, sizeof(buf));
    h->crc = 0;
    memcpy(buf, h, sizeof(*h));
    h->crc = kv_crc32c(0, buf, sizeof(buf));
    memcpy(buf, h, sizeof(*h));
    wal_store(t, name, 0, buf, sizeof(buf));
}


static bool
wal_exists(wal_t *t, const char *name)
{
    return faccessat(t->dirfd, name, F_OK, 0) == 0;
}


typedef struct {
    const char  *prefix;
    int          n;
} counter_t;


static void
wal_counted(void *ctx, const char *name)
{
    counter_t  *c = ctx;

    c->n += strncmp(name, c->prefix, strlen(c->prefix)) == 0;
}


static int
wal_count(wal_t *t, const char *prefix)
{
    counter_t  c = { prefix, 0 };

    assert_int_equal(t->system.list(&t->system, t->dirfd, wal_counted, &c),
                     0);

    return c.n;
}


static char *
wal_name(char *buf, uint64_t lsn)
{
    (void) snprintf(buf, KV_NAME_MAX, "log-%016llx.kvl",
                    (unsigned long long) lsn);

    return buf;
}


/*
 * The power goes: of every write without a sync, each sector is there or not,
 * and the last so many renames without one are not.
 */

static void
wal_cut(wal_t *t)
{
    size_t       i, n;
    unsynced_t  *u;

    while (t->unsynced_n) {
        u = &t->unsynced[t->unsynced_n - 1];

        for (i = 0; i < u->len; i += n) {
            n = 512 - ((size_t) u->offset + i) % 512;
            n = kv_min(n, u->len - i);

            if (wal_random(t, 2)) {
                assert_int_equal(pwrite(u->fd, u->old + i, n,
                                        u->offset + (off_t) i), n);
            }
        }

        wal_forget(t, t->unsynced_n - 1);
    }

    wal_undo(t, wal_random(t, t->renames_n + 1));
}


/* Takes back the renames but for the first so many. */

static void
wal_undo(wal_t *t, size_t keep)
{
    while (t->renames_n > keep) {
        t->renames_n--;
        (void) renameat(t->dirfd, t->renames[t->renames_n][1], t->dirfd,
                        t->renames[t->renames_n][0]);
    }

    t->renames_n = 0;
}


static void
wal_forget(wal_t *t, size_t i)
{
    (void) close(t->unsynced[i].fd);
    free(t->unsynced[i].old);

    t->unsynced_n--;
    memmove(&t->unsynced[i], &t->unsynced[i + 1],
            (t->unsynced_n - i) * sizeof(unsynced_t));
}


/* The table: the system's, with failures, and without real syncs. */

static bool
wal_fails(kv_io_t *io)
{
    wal_t  *t = (wal_t *) io;

    t->calls++;

    if (t->fail_at && t->calls >= t->fail_at
        && t->calls - t->fail_at < t->fail_count)
    {
        errno = t->error;
        return true;
    }

    return false;
}


static int
wal_io_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    wal_t  *t = (wal_t *) io;

    return wal_fails(io) ? -1
                         : t->system.open(&t->system, dirfd, name, flags);
}


static ssize_t
wal_io_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    wal_t  *t = (wal_t *) io;

    if (t->fail_from && (uint64_t) offset + n > t->fail_from) {
        errno = EIO;
        return -1;
    }

    return wal_fails(io) ? -1
                         : t->system.pread(&t->system, fd, buf, n, offset);
}


static ssize_t
wal_io_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    int           i;
    bool          fails;
    wal_t        *t = (wal_t *) io;
    size_t        len;
    unsynced_t   *u;
    struct iovec  half;
    struct stat   st;

    fails = wal_fails(io);

    for (i = 0, len = 0; i < n; i++) {
        len += iov[i].iov_len;
    }

    if (t->fail_write && len >= t->fail_write) {
        fails = true;
    }

    if (t->keep) {
        assert_true(t->unsynced_n < 4096);
        assert_int_equal(fstat(fd, &st), 0);

        u = &t->unsynced[t->unsynced_n++];
        u->fd = dup(fd);
        u->inode = st.st_ino;
        u->lost = false;
        u->offset = offset;
        u->len = len;
        u->old = calloc(1, len);
        assert_true(pread(fd, u->old, len, offset) >= 0);
    }

    if (!fails) {
        return t->system.pwritev(&t->system, fd, iov, n, offset);
    }

    /* the worst of failures: a part is written, and the next call fails */

    t->halved = !t->halved;

    if (t->halved && iov[0].iov_len > 1) {
        half = iov[0];
        half.iov_len = iov[0].iov_len / 2;
        t->fail_at++;
        return t->system.pwritev(&t->system, fd, &half, 1, offset);
    }

    t->halved = false;
    errno = t->error;

    return -1;
}


/*
 * A sync that fails loses, for good and without telling anybody again, what
 * was to be written; only who writes it anew gets it to the disk.
 */

static int
wal_io_fdatasync(kv_io_t *io, int fd)
{
    bool          fails;
    size_t        i, j;
    wal_t        *t = (wal_t *) io;
    unsynced_t    u;
    struct stat   st;

    fails = wal_fails(io);

    if (fails && t->fail_count > 1) {
        return -1;
    }

    t->syncs++;
    assert_int_equal(fstat(fd, &st), 0);

    if (t->fail_dir && S_ISDIR(st.st_mode)) {
        fails = true;
    }

    for (i = 0; i < t->unsynced_n; /* void */ ) {
        u = t->unsynced[i];

        if (u.inode != st.st_ino || u.lost) {
            i++;

        } else if (fails) {
            t->unsynced[i++].lost = true;

        } else {
            for (j = 0; j < i; j++) {
                wal_rewritten(&t->unsynced[j], &u);
            }

            wal_forget(t, i);
        }
    }

    if (fails) {
        errno = t->error;
        return -1;
    }

    if (S_ISDIR(st.st_mode)) {
        t->renames_n = 0;
    }

    return 0;
}


/* Of a lost write, what a later one covers is not lost any more. */

static void
wal_rewritten(unsynced_t *lost, const unsynced_t *by)
{
    off_t  end, by_end;

    if (lost->inode != by->inode || !lost->lost) {
        return;
    }

    end = lost->offset + (off_t) lost->len;
    by_end = by->offset + (off_t) by->len;

    if (by->offset <= lost->offset && by_end > lost->offset) {
        by_end = kv_min(by_end, end);
        lost->len = (size_t) (end - by_end);
        memmove(lost->old, lost->old + (by_end - lost->offset), lost->len);
        lost->offset = by_end;

    } else if (by->offset > lost->offset && by->offset < end) {
        lost->len = (size_t) (by->offset - lost->offset);
    }
}


static int
wal_io_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    wal_t  *t = (wal_t *) io;

    t->allocations++;

    return wal_fails(io)
           ? -1 : t->system.fallocate(&t->system, fd, offset, len);
}


static int
wal_io_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    bool    over;
    wal_t  *t = (wal_t *) io;

    if (wal_fails(io)) {
        return -1;
    }

    over = wal_exists(t, to);

    if (t->system.rename(&t->system, dirfd, from, to) == -1) {
        return -1;
    }

    if (t->keep && over) {
        t->renames_n = 0;

    } else if (t->keep && t->renames_n < 64) {
        strcpy(t->renames[t->renames_n][0], from);
        strcpy(t->renames[t->renames_n][1], to);
        t->renames_n++;
    }

    return 0;
}


static int
wal_io_unlink(kv_io_t *io, int dirfd, const char *name)
{
    wal_t  *t = (wal_t *) io;

    if (wal_fails(io)) {
        return -1;
    }

    if (t->fail_unlink && strstr(name, t->fail_unlink)) {
        errno = EIO;
        return -1;
    }

    /* the directory's changes are on disk in their order */
    t->renames_n = 0;

    return t->system.unlink(&t->system, dirfd, name);
}


static off_t
wal_io_size(kv_io_t *io, int fd)
{
    wal_t  *t = (wal_t *) io;

    return wal_fails(io) ? -1 : t->system.size(&t->system, fd);
}


static int
wal_io_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    wal_t  *t = (wal_t *) io;

    return wal_fails(io) ? -1 : t->system.list(&t->system, dirfd, cb, ctx);
}


/* In name only: the tests look at the file through the same descriptor. */

static int
wal_io_direct(kv_io_t *io, int fd, bool on)
{
    (void) io;
    (void) fd;
    (void) on;

    return 0;
}


static void
wal_table(wal_t *t)
{
    t->io = t->system;
    t->io.open = wal_io_open;
    t->io.pread = wal_io_pread;
    t->io.pwritev = wal_io_pwritev;
    t->io.fdatasync = wal_io_fdatasync;
    t->io.fsync = wal_io_fdatasync;
    t->io.fallocate = wal_io_fallocate;
    t->io.rename = wal_io_rename;
    t->io.unlink = wal_io_unlink;
    t->io.size = wal_io_size;
    t->io.list = wal_io_list;
    t->io.direct = wal_io_direct;
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
        TEST(test_two_handles),
        TEST(test_changed_behind),
        TEST(test_dead_committer),
        TEST(test_dead_leftovers),
        TEST(test_stuck_leftovers),
        TEST(test_dead_moving),
        TEST(test_torn_tail),
        TEST(test_damaged_middle),
        TEST(test_damaged_last),
        TEST(test_truncated),
        TEST(test_longer),
        TEST(test_unreadable_tail),
        TEST(test_overlap),
        TEST(test_every_byte),
        TEST(test_gap),
        TEST(test_gap_after_mark),
        TEST(test_forged),
        TEST(test_failures),
        TEST(test_reading_fails),
        TEST(test_segments_wrong),
        TEST(test_unknown_record),
        TEST(test_not_the_next),
        TEST(test_replaced),
        TEST(test_other_files),
        TEST(test_sync_lost),
        TEST(test_name_lost),
        TEST(test_power_cuts)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("cached", tests, NULL, NULL);
    wal_direct = true;

    return failed + cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
