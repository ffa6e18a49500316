
/*
 * The log's fixture: a directory on a real disk, records that follow from their
 * LSN and a seed, and a replay that compares them.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/kv_crc32c.h"
#include "wal_rig.h"


typedef struct {
    const char  *prefix;
    int          n;
} counter_t;


bool  wal_direct;


/* What a reader that changes nothing finds. */

typedef struct {
    kv_rc_t       rc;
    kv_err_t      err;
    kv_wal_end_t  end;
    kv_wal_way_t  way;
} wal_look_t;


static void wal_identify(wal_t *t);
static void wal_unlink(void *ctx, const char *name);
static uint8_t wal_byte(const model_t *m, size_t i);
static void wal_make(const model_t *m, uint64_t lsn, kv_record_t *rec,
    char *key);
static void wal_warn(void *ctx, const char *text);
static kv_rc_t wal_check(void *ctx, uint64_t lsn, const kv_record_t *rec);
static void wal_counted(void *ctx, const char *name);
static bool wal_faulty(const wal_t *t);
static kv_rc_t wal_take(void *ctx, uint64_t lsn, const kv_record_t *rec);
static void wal_look(wal_t *t, const kv_wal_replay_t *from, wal_look_t *look);


int
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


int
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


void
wal_empty(wal_t *t)
{
    while (t->unsynced_n) {
        wal_forget(t, t->unsynced_n - 1);
    }

    t->renames_n = 0;

    if (t->log) {
        kv_wal_destroy(t->log);
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


static void
wal_identify(wal_t *t)
{
    t->state.store[0] = 1111;
    t->state.store[1] = 2222;
    t->state.incarnation = 3333;
}


void
wal_open(wal_t *t)
{
    if (t->log) {
        kv_wal_destroy(t->log);
    }

    memset(&t->state, 0, sizeof(t->state));
    t->state.next_lsn = 1;
    t->state.replicated = t->replicated;
    wal_identify(t);
    t->acked = 0;
    t->fail_at = 0;

    t->log = wal_create(t, t->segment_size, t->max_batch);
    assert_non_null(t->log);
}


kv_wal_t *
wal_create(wal_t *t, uint64_t segment_size, size_t max_batch)
{
    kv_wal_t  *log;

    log = kv_wal_create(&t->io, t->dirfd, &t->state, segment_size, max_batch);

    if (log) {
        kv_wal_set_direct(log, wal_direct);
    }

    return log;
}


uint64_t
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

    rec->value_len = m->len;
}


kv_rc_t
wal_add(wal_t *t, kv_wal_t *log, uint64_t lsn, size_t len)
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

    rc = kv_wal_add(log, &rec);

    memset(key, 0, sizeof(key));

    return rc;
}


kv_rc_t
wal_try(wal_t *t, kv_wal_t *log, unsigned n, size_t len)
{
    unsigned        i;
    kv_wal_entry_t  e;

    t->value_used = 0;
    t->err.text[0] = '\0';

    kv_wal_begin(log);

    for (i = 0; i < n; i++) {
        assert_int_equal(wal_add(t, log, t->state.next_lsn + i, len), KV_OK);
    }

    if (t->state.replicated) {
        e.type = KV_ENTRY_RECORDS;
        e.term = t->state.replica.term;
        e.index = t->state.replica.index + 1;
        e.commit = t->held ? t->commit : t->state.replica.index;
        kv_wal_set_entry(log, &e);
    }

    return kv_wal_write(log, &t->err);
}


void
wal_write(wal_t *t, unsigned n, size_t len)
{
    uint64_t  before;

    before = t->state.next_lsn;

    assert_int_equal(wal_try(t, t->log, n, len), KV_OK);
    assert_int_equal(t->state.next_lsn, before + n);
}


void
wal_sync(wal_t *t)
{
    assert_int_equal(kv_wal_sync(t->log, &t->err), KV_OK);
    assert_int_equal(t->state.durable_lsn, t->state.next_lsn - 1);
    t->acked = t->state.durable_lsn;
}


/* Nothing is ordered to fail, as far as a reader can meet it. */

static bool
wal_faulty(const wal_t *t)
{
    return t->fail_at || t->fail_write || t->fail_dir || t->fail_space
           || t->fail_unlink
           || t->fail_from;
}


static kv_rc_t
wal_take(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) ctx, (void) lsn, (void) rec;

    return KV_OK;
}


/* Reads the log before it is replayed, past the failures. */

static void
wal_look(wal_t *t, const kv_wal_replay_t *from, wal_look_t *look)
{
    kv_wal_replay_t  only;

    memset(look, 0, sizeof(*look));

    only = *from;
    only.record = wal_take;
    only.warn = NULL;

    look->rc = kv_wal_read(&t->system, t->dirfd, &only, &look->end, &look->way,
                           &look->err);
}


kv_rc_t
wal_replay(wal_t *t, uint64_t after, uint64_t must_reach)
{
    kv_rc_t          rc;
    wal_look_t       look;
    kv_wal_state_t   before;
    kv_wal_replay_t  from;

    if (t->log) {
        kv_wal_destroy(t->log);
    }

    memset(&t->state, 0xdd, sizeof(t->state));
    wal_identify(t);

    if (t->strange) {
        t->state.incarnation = 0;
    }

    t->state.next_lsn = 1;
    before = t->state;
    t->seen = after;
    t->err.text[0] = '\0';

    t->log = wal_create(t, t->segment_size, t->max_batch);
    assert_non_null(t->log);

    memset(&from, 0, sizeof(from));
    from.after = after;
    from.must_reach = must_reach;
    from.newer = t->newer;
    from.index = t->index;
    from.replicated = t->replicated;
    from.committed = t->committed;
    from.final = &t->final;
    from.batch = t->batch;
    from.record = wal_check;
    from.warn = wal_warn;
    from.ctx = t;

    wal_look(t, &from, &look);

    t->warnings = 0;
    t->warned[0] = '\0';
    t->seen = after;

    rc = kv_wal_replay(t->log, &from, &t->err);

    if (!wal_faulty(t) && rc != KV_NOT_FOUND) {
        assert_int_equal(look.rc, rc);
        assert_string_equal(rc == KV_OK ? "" : look.err.text, t->err.text);
        assert_int_equal(look.end.next_lsn, rc == KV_OK ? t->state.next_lsn
                                                        : 0);
        assert_int_equal(look.way.found, rc == KV_DAMAGED
                         && strstr(t->err.text, "giving up") != NULL);
    }

    if (rc == KV_OK) {
        if (t->committed) {
            assert_int_equal(t->final.lsn, t->seen);
        } else {
            assert_int_equal(t->state.next_lsn, t->seen + 1);
        }

        if (!t->fail_write) {
            assert_int_equal(t->state.durable_lsn, t->state.next_lsn - 1);
        }

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


void
wal_replays(wal_t *t, uint64_t last)
{
    if (wal_replay(t, 0, 0) != KV_OK) {
        fail_msg("%s", t->err.text);
    }

    assert_int_equal(t->seen, last);
}


void
wal_damaged(wal_t *t, const char *file, const char *what)
{
    assert_int_equal(wal_replay(t, 0, 0), KV_DAMAGED);
    assert_memory_equal(t->err.text, file, strlen(file));
    assert_non_null(strstr(t->err.text, "offset "));
    assert_non_null(strstr(t->err.text, what));
    assert_true(strstr(t->err.text, "restore the data directory")
                || strstr(t->err.text, "use the version"));
}


/* As a shell does it; the same advice again costs no shell. */

void
wal_way_out(wal_t *t)
{
    int                 fd;
    char                command[1200], name[64], *from, *to;
    static char         last[1200];
    unsigned long long  cut, size;

    from = strchr(t->err.text, '"');
    assert_non_null(from);
    to = strchr(++from, '"');
    assert_non_null(to);
    (void) snprintf(command, sizeof(command), "cd %s && %.*s", t->path,
                    (int) (to - from), from);

    if (strcmp(command, last) == 0
        && sscanf(from, "truncate -s %llu %63s && truncate -s %llu ",
                  &cut, name, &size) == 3)
    {
        fd = openat(t->dirfd, name, O_RDWR);
        assert_int_equal(ftruncate(fd, (off_t) cut), 0);
        assert_int_equal(ftruncate(fd, (off_t) size), 0);
        (void) close(fd);
        return;
    }

    assert_int_equal(system(command), 0);
    (void) strcpy(last, command);
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


size_t
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


void
wal_store(wal_t *t, const char *name, uint64_t offset, const void *data,
    size_t n)
{
    int  fd;

    fd = openat(t->dirfd, name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd != -1);
    assert_int_equal(pwrite(fd, data, n, (off_t) offset), n);
    (void) close(fd);
}


void
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


void
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


bool
wal_exists(wal_t *t, const char *name)
{
    return faccessat(t->dirfd, name, F_OK, 0) == 0;
}


static void
wal_counted(void *ctx, const char *name)
{
    counter_t  *c = ctx;

    c->n += strncmp(name, c->prefix, strlen(c->prefix)) == 0;
}


int
wal_count(wal_t *t, const char *prefix)
{
    counter_t  c = { prefix, 0 };

    assert_int_equal(t->system.list(&t->system, t->dirfd, wal_counted, &c),
                     0);

    return c.n;
}


char *
wal_name(char *buf, uint64_t lsn)
{
    (void) snprintf(buf, KV_NAME_MAX, "log-%016llx.kvl",
                    (unsigned long long) lsn);

    return buf;
}
