
/*
 * The snapshots' fixture: a directory on a real disk, and records that follow
 * from their number.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "snap_rig.h"


kv_io_t         snap_io;
int             snap_dirfd;

const uint32_t  snap_small[] = { 0, 1, 7, 8, 9, 130, 3, 64 };
const uint64_t  snap_seed[2] = { 0x0123456789abcdef, 0xfedcba9876543210 };
const kv_identity_t  snap_id = { { 1111, 2222 }, 3333 };

static char            path[256];
static unsigned char   pattern[10 * 1024 * 1024];


int
snap_setup(void **state)
{
    size_t       i;
    const char  *tmp;

    (void) state;

    kv_io_system(&snap_io);

    tmp = getenv("TMPDIR");

    (void) snprintf(path, sizeof(path), "%s/kv_snapshot.XXXXXX",
                    tmp ? tmp : "/tmp");

    if (mkdtemp(path) == NULL) {
        return -1;
    }

    for (i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (i * 2654435761u) >> 13;
    }

    snap_dirfd = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    return snap_dirfd == -1 ? -1 : 0;
}


static void
wipe_name(void *ctx, const char *name)
{
    (void) ctx;
    (void) unlinkat(snap_dirfd, name, 0);
}


int
snap_teardown(void **state)
{
    (void) state;

    (void) snap_io.list(&snap_io, snap_dirfd, wipe_name, NULL);
    (void) close(snap_dirfd);

    return rmdir(path);
}


bool
snap_exists(const char *name)
{
    return faccessat(snap_dirfd, name, F_OK, 0) == 0;
}


static void
count_name(void *ctx, const char *name)
{
    if (name[0] != '.') {
        ++*(unsigned *) ctx;
    }
}


unsigned
snap_files(void)
{
    unsigned  n;

    n = 0;
    assert_int_equal(snap_io.list(&snap_io, snap_dirfd, count_name, &n), 0);

    return n;
}


void
snap_make_file(const char *name, const void *data, size_t n)
{
    int  fd;

    fd = openat(snap_dirfd, name, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, data, n), n);
    assert_int_equal(close(fd), 0);
}


void
snap_make_record(unsigned i, uint32_t size, kv_record_t *rec, char *key,
    struct iovec iov[4])
{
    uint32_t  first, second;

    first = size / 3;
    second = size % 2 ? 0 : size / 5;

    memset(rec, 0, sizeof(*rec));

    rec->op = KV_OP_PUT;
    rec->flags = KV_RECORD_LSN;
    rec->lsn = 1 + i % 90;
    rec->key = key;
    rec->key_len = sprintf(key, "key-%0*u", (int) (i % 7) + 1, i);
    rec->value_len = size;
    rec->value = iov;
    rec->value_n = 3;

    iov[0].iov_base = pattern + i % 1000;
    iov[0].iov_len = first;
    iov[1].iov_base = (unsigned char *) iov[0].iov_base + first;
    iov[1].iov_len = second;
    iov[2].iov_base = (unsigned char *) iov[1].iov_base + second;
    iov[2].iov_len = size - first - second;
}


kv_rc_t
snap_same_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    char           key[64];
    content_t     *c = ctx;
    kv_record_t    want;
    struct iovec   iov[4];

    assert_int_equal(lsn, 0);
    assert_in_range(c->seen, 0, c->n - 1);

    snap_make_record(c->seen, c->sizes[c->seen], &want, key, iov);

    assert_int_equal(rec->op, KV_OP_PUT);
    assert_int_equal(rec->flags, want.flags);
    assert_int_equal(rec->expires, want.expires);
    assert_int_equal(rec->lsn, want.lsn);
    assert_int_equal(rec->key_len, want.key_len);
    assert_memory_equal(rec->key, key, want.key_len);
    assert_int_equal(rec->value_len, want.value_len);
    assert_int_equal(rec->value_n, 1);
    assert_int_equal(rec->value[0].iov_len, want.value_len);
    assert_true(memcmp(rec->value[0].iov_base, pattern + c->seen % 1000,
                       want.value_len) == 0);

    c->seen++;

    return c->seen == c->stop_at ? KV_CANCELLED : KV_OK;
}


void
snap_about(kv_snapshot_about_t *about, uint64_t lsn, uint64_t time_ms)
{
    memset(about, 0, sizeof(*about));

    about->lsn = lsn;
    about->time_ms = time_ms;
    memcpy(about->seed, snap_seed, sizeof(snap_seed));
    about->id = snap_id;
}


kv_rc_t
snap_write(kv_io_t *with, uint64_t lsn, const uint32_t *sizes, unsigned n,
    uint64_t *bytes, kv_err_t *err)
{
    char                   key[64];
    kv_rc_t                rc;
    unsigned               i;
    kv_record_t            rec;
    struct iovec           iov[4], copy[4];
    kv_snapshot_about_t    about;
    kv_snapshot_writer_t  *w;

    snap_about(&about, lsn, kv_wall_ms());
    rc = kv_snapshot_begin(with, snap_dirfd, &about, &w, err);

    if (rc != KV_OK) {
        return rc;
    }

    for (i = 0; i < n && rc == KV_OK; i++) {
        snap_make_record(i, sizes[i], &rec, key, iov);
        memcpy(copy, iov, sizeof(iov));

        rc = kv_snapshot_add(w, &rec, err);

        /* the pieces are the caller's, and stay as they were */

        assert_memory_equal(copy, iov, 3 * sizeof(iov[0]));
        memset(key, 'x', sizeof(key));
    }

    if (rc == KV_OK) {
        rc = kv_snapshot_finish(w, lsn + 99, bytes, err);
    }

    if (rc != KV_OK) {
        kv_snapshot_abort(w);
    }

    return rc;
}


kv_rc_t
snap_read(kv_io_t *with, uint64_t lsn, const uint32_t *sizes, unsigned n,
    uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err)
{
    kv_rc_t    rc;
    content_t  c;

    memset(&c, 0, sizeof(c));
    c.sizes = sizes;
    c.n = n;

    rc = kv_snapshot_read(with, snap_dirfd, lsn, snap_same_record, &c, end_lsn,
                          bytes, err);

    if (rc == KV_OK) {
        assert_int_equal(c.seen, n);
    }

    return rc;
}
