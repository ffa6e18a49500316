
/*
 * Snapshot files: round trips, every kind of damage, listing and purging,
 * and failing disks.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/kv_crc32c.h"
#include "disk/kv_snapshot.h"


#define MIB          ((size_t) 1 << 20)
#define BLOCK_MAX    MIB
#define DIRTY_MAX    (1 * MIB)
#define LSN          0x1234abcdull
#define NAME         "snap-000000001234abcd.kvs"
#define TMP          "snap-000000001234abcd.tmp"
#define IMAGE_MAX    65536


/* What is in a snapshot: records of these value sizes, one after the other. */

typedef struct {
    const uint32_t  *sizes;
    unsigned         n;
    unsigned         seen;
    unsigned         stop_at;
} content_t;


/* Calls that change something, or read, in the order in which they come. */

typedef enum {
    CALL_OPEN = 'o',
    CALL_CLOSE = 'c',
    CALL_READ = 'r',
    CALL_WRITE = 'w',
    CALL_SYNC = 's',
    CALL_SYNC_DIR = 'd',
    CALL_RENAME = 'n',
    CALL_UNLINK = 'u',
    CALL_SIZE = 'z',
    CALL_LIST = 'l'
} call_t;


typedef struct {
    kv_io_t   io;           /* the first field */
    kv_io_t   sys;
    unsigned  calls;
    unsigned  fail_at;          /* this call fails, counted from 1 */
    int       error;            /* with this errno */
    call_t    failed;           /* what it was */
    bool      tear;             /* transfers are short */
    off_t     lie;              /* added to the size */
    int       open_files;
    size_t    dirty;
    size_t    most_dirty;
    char      trace[1024];
    unsigned  trace_n;
} faulty_t;


/* A snapshot as it should be, made without the code under test. */

typedef struct {
    uint64_t       salt;
    uint64_t       number;
    size_t         n;
    unsigned char  bytes[IMAGE_MAX];
} image_t;


static kv_io_t         snap_io;
static int             snap_dirfd;
static char            path[256];
static unsigned char   pattern[10 * 1024 * 1024];

static const uint32_t  snap_small[] = { 0, 1, 7, 8, 9, 130, 3, 64 };
static const uint64_t  snap_seed[2] = { 0x0123456789abcdef,
                                        0xfedcba9876543210 };


static int
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


static int
snap_teardown(void **state)
{
    (void) state;

    (void) snap_io.list(&snap_io, snap_dirfd, wipe_name, NULL);
    (void) close(snap_dirfd);

    return rmdir(path);
}


static bool
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


static unsigned
snap_files(void)
{
    unsigned  n;

    n = 0;
    assert_int_equal(snap_io.list(&snap_io, snap_dirfd, count_name, &n), 0);

    return n;
}


static void
snap_make_file(const char *name, const void *data, size_t n)
{
    int  fd;

    fd = openat(snap_dirfd, name, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, data, n), n);
    assert_int_equal(close(fd), 0);
}


static int
truncateat(const char *name, off_t n)
{
    int  fd, rc;

    fd = openat(snap_dirfd, name, O_WRONLY|O_CLOEXEC);
    rc = ftruncate(fd, n);
    (void) close(fd);

    return rc;
}


static size_t
load_file(const char *name, void *data, size_t n)
{
    int      fd;
    ssize_t  got;

    fd = openat(snap_dirfd, name, O_RDONLY|O_CLOEXEC);
    assert_int_not_equal(fd, -1);
    got = read(fd, data, n);
    assert_true(got >= 0);
    assert_int_equal(close(fd), 0);

    return got;
}


/* The i-th record; every third expires, and values come in pieces. */

static void
snap_make_record(unsigned i, uint32_t size, kv_record_t *rec, char *key,
    struct iovec iov[4])
{
    uint32_t  first, second;

    first = size / 3;
    second = size % 2 ? 0 : size / 5;

    memset(rec, 0, sizeof(*rec));

    rec->op = KV_OP_PUT;
    rec->key = key;
    rec->key_len = sprintf(key, "key-%0*u", (int) (i % 7) + 1, i);
    rec->value_len = size;
    rec->value = iov;
    rec->value_n = 3;

    if (i % 3 == 0) {
        rec->flags = KV_RECORD_EXPIRES;
        rec->expires = 1700000000000ull + i;
    }

    iov[0].iov_base = pattern + i % 1000;
    iov[0].iov_len = first;
    iov[1].iov_base = (unsigned char *) iov[0].iov_base + first;
    iov[1].iov_len = second;
    iov[2].iov_base = (unsigned char *) iov[1].iov_base + second;
    iov[2].iov_len = size - first - second;
}


static kv_rc_t
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


static kv_rc_t
snap_write(kv_io_t *with, uint64_t lsn, const uint32_t *sizes, unsigned n,
    uint64_t *bytes, kv_err_t *err)
{
    char                   key[64];
    kv_rc_t                rc;
    unsigned               i;
    kv_record_t            rec;
    struct iovec           iov[4], copy[4];
    kv_snapshot_writer_t  *w;

    rc = kv_snapshot_begin(with, snap_dirfd, lsn, snap_seed, &w, err);

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


static kv_rc_t
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


static void
round_trip(const uint32_t *sizes, unsigned n)
{
    uint64_t     written, read, end;
    kv_err_t     err;
    struct stat  st;

    strcpy(err.text, "none");

    if (snap_write(&snap_io, LSN, sizes, n, &written, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    assert_int_equal(snap_files(), 1);
    assert_int_equal(fstatat(snap_dirfd, NAME, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, written);

    if (snap_read(&snap_io, LSN, sizes, n, &end, &read, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    assert_string_equal(err.text, "none");
    assert_int_equal(read, written);
    assert_int_equal(end, LSN + 99);

    assert_int_equal(unlinkat(snap_dirfd, NAME, 0), 0);
}


static void
test_round_trip(void **state)
{
    int        d;
    uint32_t   sizes[64], *many;
    unsigned   i;

    (void) state;

    round_trip(NULL, 0);
    round_trip(snap_small, 8);

    for (i = 0; i < 40; i++) {
        sizes[i] = i;
    }

    round_trip(sizes, 40);

    /* one record that just fits a block, or just does not */

    for (d = -96; d <= 16; d++) {
        sizes[0] = BLOCK_MAX + d;
        round_trip(sizes, 1);
    }

    for (i = 0; i < 12; i++) {
        sizes[i] = (i % 2) ? 1 : 1u << (i * 2);
    }

    sizes[12] = 3 * MIB;
    sizes[13] = 3 * MIB - 5;
    sizes[14] = 0;
    sizes[15] = BLOCK_MAX / 2;
    sizes[16] = BLOCK_MAX / 2 - 8;
    sizes[17] = BLOCK_MAX;
    sizes[18] = 7;

    round_trip(sizes, 19);

    many = malloc(20000 * sizeof(uint32_t));
    assert_non_null(many);

    for (i = 0; i < 20000; i++) {
        many[i] = 100 + i % 61;
    }

    round_trip(many, 20000);

    free(many);
}


static void
image_begin(image_t *im)
{
    kv_snapshot_header_t  h;

    im->salt = 0x1122334455667788ull;
    im->number = 0;
    im->n = sizeof(h);

    memset(&h, 0, sizeof(h));
    memcpy(h.magic, "KVSNAP\r\n", 8);
    h.version = 1;
    h.lsn = LSN;
    h.salt = im->salt;
    memcpy(h.seed, snap_seed, sizeof(snap_seed));
    h.crc = kv_crc32c(0, &h, 64);

    memcpy(im->bytes, &h, sizeof(h));
}


/* Makes the checksum of the block at `at` right. */

static void
image_seal(image_t *im, size_t at)
{
    uint32_t           crc;
    kv_block_header_t  h;

    memcpy(&h, im->bytes + at, sizeof(h));

    crc = kv_crc32c(0, &im->salt, 8);
    crc = kv_crc32c(crc, im->bytes + at + 8, 16 + (size_t) h.len);

    memcpy(im->bytes + at + 4, &crc, 4);
}


static void
image_seal_header(image_t *im)
{
    uint32_t  crc;

    memset(im->bytes + 12, 0, 4);
    crc = kv_crc32c(0, im->bytes, 64);
    memcpy(im->bytes + 12, &crc, 4);
}


/* Adds a block with the records from `from` on; returns where it is. */

static size_t
image_block(image_t *im, unsigned from, unsigned count)
{
    char                key[64];
    size_t              at;
    unsigned            i;
    kv_record_t         rec;
    struct iovec        iov[4];
    kv_block_header_t   h;

    at = im->n;
    im->n += sizeof(h);

    for (i = from; i < from + count; i++) {
        snap_make_record(i, snap_small[i], &rec, key, iov);
        kv_record_encode(&rec, im->bytes + im->n);
        im->n += kv_record_size(&rec);
    }

    h.magic = 0x4253564b;
    h.crc = 0;
    h.len = im->n - at - sizeof(h);
    h.count = count;
    h.number = im->number++;

    memcpy(im->bytes + at, &h, sizeof(h));
    image_seal(im, at);

    return at;
}


static size_t
image_end(image_t *im, uint64_t records)
{
    size_t                at;
    kv_block_header_t     h;
    kv_snapshot_footer_t  f;

    at = im->n;

    h.magic = 0x4253564b;
    h.crc = 0;
    h.len = 24;
    h.count = 0;
    h.number = im->number++;

    f.end_lsn = LSN + 99;
    f.records = records;
    f.zero = 0;

    memcpy(im->bytes + at, &h, sizeof(h));
    memcpy(im->bytes + at + sizeof(h), &f, sizeof(f));
    im->n += sizeof(h) + sizeof(f);
    image_seal(im, at);

    return at;
}


/* Three blocks and a footer; tells where each begins. */

static void
image_make(image_t *im, size_t at[4])
{
    image_begin(im);
    at[0] = image_block(im, 0, 3);
    at[1] = image_block(im, 3, 1);
    at[2] = image_block(im, 4, 4);
    at[3] = image_end(im, 8);
}


static kv_rc_t
image_read(image_t *im, kv_err_t *err)
{
    uint64_t  end, bytes;

    snap_make_file(NAME, im->bytes, im->n);

    err->text[0] = '\0';

    return snap_read(&snap_io, LSN, snap_small, 8, &end, &bytes, err);
}


/* The error has to name file and offset; nobody is told to delete it. */

static void
must_be_damaged(image_t *im, const char *text)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = image_read(im, &err);

    if (rc != KV_DAMAGED) {
        fail_msg("%d instead of KV_DAMAGED (%s)", rc, text);
    }

    if (strstr(err.text, text) == NULL
        || strstr(err.text, "\"" NAME "\"") == NULL
        || strstr(err.text, "offset ") == NULL
        || strstr(err.text, "delete"))
    {
        fail_msg("error without \"%s\": %s", text, err.text);
    }
}


/* All of it is in the first `n` bytes. */

static void
must_be_whole(image_t *im, size_t n)
{
    uint64_t  end, bytes;
    kv_err_t  err;

    snap_make_file(NAME, im->bytes, im->n);

    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 8, &end, &bytes,
                               &err),
                     KV_OK);
    assert_int_equal(bytes, n);
}


/* A guess is right for a good file, and never more than it can hold. */

static void
test_guess(void **state)
{
    uint64_t              size;
    kv_err_t              err;
    unsigned char         junk[1000];
    kv_snapshot_guess_t   guess;

    (void) state;

    kv_snapshot_guess(&snap_io, snap_dirfd, LSN, &guess);
    assert_int_equal(guess.records, 0);
    assert_int_equal(guess.bytes, 0);
    assert_int_equal(guess.seed[0] | guess.seed[1], 0);

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &size, &err),
                     KV_OK);
    kv_snapshot_guess(&snap_io, snap_dirfd, LSN, &guess);
    assert_int_equal(guess.records, 8);
    assert_int_equal(guess.bytes, size);
    assert_memory_equal(guess.seed, snap_seed, sizeof(snap_seed));

    memset(junk, 0xff, sizeof(junk));
    snap_make_file(NAME, junk, sizeof(junk));
    kv_snapshot_guess(&snap_io, snap_dirfd, LSN, &guess);
    assert_int_equal(guess.bytes, sizeof(junk));
    assert_true(guess.records <= sizeof(junk) / 16);
    assert_int_equal(guess.seed[0] | guess.seed[1], 0);

    snap_make_file(NAME, junk, 10);
    kv_snapshot_guess(&snap_io, snap_dirfd, LSN, &guess);
    assert_int_equal(guess.records, 0);
    assert_int_equal(guess.seed[0] | guess.seed[1], 0);
}


/* The writer's file is byte for byte what the format says. */

static void
test_format(void **state)
{
    size_t           n;
    uint64_t         bytes;
    image_t          im;
    kv_err_t         err;
    unsigned char   *file;

    (void) state;

    file = malloc(IMAGE_MAX);
    assert_non_null(file);

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                     KV_OK);

    n = load_file(NAME, file, IMAGE_MAX);
    assert_int_equal(n, bytes);

    image_begin(&im);
    memcpy(&im.salt, file + 24, 8);
    memcpy(im.bytes + 24, &im.salt, 8);
    image_seal_header(&im);
    (void) image_block(&im, 0, 8);
    (void) image_end(&im, 8);

    assert_int_equal(im.n, n);
    assert_memory_equal(im.bytes, file, n);

    /* the salt differs from one to the next */

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                     KV_OK);
    assert_int_equal(load_file(NAME, file, IMAGE_MAX), n);
    assert_memory_not_equal(im.bytes + 24, file + 24, 8);

    free(file);
}


static void
test_truncated(void **state)
{
    size_t    at[4], n;
    image_t   im;
    kv_err_t  err;

    (void) state;

    image_make(&im, at);
    assert_int_equal(image_read(&im, &err), KV_OK);

    n = im.n;

    for (im.n = 0; im.n < n; im.n++) {
        must_be_damaged(&im, "");
    }
}


static void
test_flipped(void **state)
{
    int       bit;
    size_t    at[4], i;
    image_t   im;
    kv_err_t  err;

    (void) state;

    image_make(&im, at);

    for (i = 0; i < im.n; i++) {

        for (bit = 0; bit < 8; bit++) {
            im.bytes[i] ^= 1 << bit;
            must_be_damaged(&im, "");
            im.bytes[i] ^= 1 << bit;
        }

        im.bytes[i] ^= 0xff;
        must_be_damaged(&im, "");
        im.bytes[i] ^= 0xff;
    }

    assert_int_equal(image_read(&im, &err), KV_OK);
}


static void
patch(image_t *im, size_t at, uint64_t value, size_t n)
{
    memcpy(im->bytes + at, &value, n);
}


/* Checksums that are right do not make a file right. */

static void
test_well_sealed(void **state)
{
    size_t          at[4], n;
    image_t         im;
    kv_err_t        err;
    unsigned        i;
    unsigned char   swap[1024];

    (void) state;

    /* the header */

    image_make(&im, at);
    patch(&im, 8, 2, 4);
    image_seal_header(&im);
    assert_int_equal(image_read(&im, &err), KV_DECLINED);
    assert_non_null(strstr(err.text, "\"" NAME "\" at offset 8: format "
                           "version 2"));

    image_make(&im, at);
    patch(&im, 16, LSN + 1, 8);
    image_seal_header(&im);
    must_be_damaged(&im, "offset 16: the LSN");

    for (i = 48; i < 64; i++) {
        image_make(&im, at);
        im.bytes[i] = 1;
        image_seal_header(&im);
        must_be_damaged(&im, "offset 48: reserved");
    }

    /* what follows the footer */

    image_make(&im, at);
    n = im.n;
    im.bytes[im.n++] = 0;
    must_be_whole(&im, n);

    image_make(&im, at);
    (void) image_end(&im, 8);
    must_be_whole(&im, n);

    /* blocks that are not where they belong */

    image_make(&im, at);
    patch(&im, at[1] + 16, 2, 8);
    image_seal(&im, at[1]);
    must_be_damaged(&im, "not the one that belongs");

    image_make(&im, at);
    patch(&im, at[3] + 16, 0, 8);
    image_seal(&im, at[3]);
    must_be_damaged(&im, "not the one that belongs");

    image_make(&im, at);
    n = at[2] - at[1];
    memcpy(swap, im.bytes + at[1], n);
    memmove(im.bytes + at[1], im.bytes + at[2], im.n - at[2]);
    im.n -= n;
    must_be_damaged(&im, "not the one that belongs");

    /* a block of another file */

    image_make(&im, at);
    im.salt++;
    image_seal(&im, at[1]);
    must_be_damaged(&im, "checksum");

    /* numbers of records */

    image_make(&im, at);
    patch(&im, at[0] + 12, 2, 4);
    image_seal(&im, at[0]);
    must_be_damaged(&im, "more than its records");

    image_make(&im, at);
    patch(&im, at[0] + 12, 4, 4);
    image_seal(&im, at[0]);
    must_be_damaged(&im, "no record");

    image_make(&im, at);
    patch(&im, at[0] + 12, UINT32_MAX, 4);
    image_seal(&im, at[0]);
    must_be_damaged(&im, "no record");

    image_make(&im, at);
    patch(&im, at[1] + 12, 0, 4);
    image_seal(&im, at[1]);
    must_be_damaged(&im, "footer");

    image_begin(&im);
    (void) image_block(&im, 0, 8);
    (void) image_end(&im, 7);
    must_be_damaged(&im, "number of records");

    image_begin(&im);
    (void) image_end(&im, 1);
    must_be_damaged(&im, "number of records");

    /* lengths, however large */

    for (i = 0; i < 32; i++) {
        image_make(&im, at);
        patch(&im, at[2] + 8, 1ull << i, 4);
        must_be_damaged(&im, "");

        patch(&im, at[2] + 8, UINT32_MAX >> i, 4);
        must_be_damaged(&im, "");
    }

    image_make(&im, at);
    patch(&im, at[2] + 8, UINT32_MAX & ~7u, 4);
    must_be_damaged(&im, "the block's length");

    image_make(&im, at);
    patch(&im, at[3] + 8, 16, 4);
    image_seal(&im, at[3]);
    im.n -= 8;
    must_be_damaged(&im, "the footer's length");

    /* the footer */

    image_make(&im, at);
    patch(&im, at[3] + 40, 1, 8);
    image_seal(&im, at[3]);
    must_be_damaged(&im, "reserved");

    image_make(&im, at);
    patch(&im, at[3] + 24, LSN - 1, 8);
    image_seal(&im, at[3]);
    must_be_damaged(&im, "the last LSN");

    image_make(&im, at);
    im.n = at[3];
    must_be_damaged(&im, "before the footer");

    /* records: a delete, a clear, unknown ones, flags, padding */

    for (i = 0; i < 256; i++) {
        image_make(&im, at);
        patch(&im, at[0] + 24, i, 1);
        image_seal(&im, at[0]);

        if (i != KV_OP_PUT) {
            must_be_damaged(&im, "no record");
        }
    }

    image_begin(&im);
    at[0] = image_block(&im, 0, 1);
    (void) image_end(&im, 1);
    patch(&im, at[0] + 24, KV_OP_DELETE, 1);
    image_seal(&im, at[0]);
    must_be_damaged(&im, "no record");

    image_make(&im, at);
    patch(&im, at[0] + 25, 0x81, 1);
    image_seal(&im, at[0]);
    must_be_damaged(&im, "no record");

    image_make(&im, at);
    im.bytes[at[1] - 1] = 1;
    image_seal(&im, at[0]);
    must_be_damaged(&im, "no record");

    image_make(&im, at);
    assert_int_equal(image_read(&im, &err), KV_OK);
}


static void
test_callback_stops(void **state)
{
    size_t     at[4];
    uint64_t   end, bytes;
    image_t    im;
    kv_err_t   err;
    content_t  c;

    (void) state;

    image_make(&im, at);
    snap_make_file(NAME, im.bytes, im.n);

    memset(&c, 0, sizeof(c));
    c.sizes = snap_small;
    c.n = 8;
    c.stop_at = 5;

    assert_int_equal(kv_snapshot_read(&snap_io, snap_dirfd, LSN,
                                      snap_same_record, &c, &end, &bytes, &err),
                     KV_CANCELLED);
    assert_int_equal(c.seen, 5);
}


static void
test_list(void **state)
{
    char                 name[64];
    unsigned             i;
    kv_err_t             err;
    kv_snapshot_list_t   list;

    static const char   *others[] = {
        "snap-00000000000000f.kvs", "snap-00000000000000000f.kvs",
        "snap-000000000000000F.kvs", "snap-000000000000000g.kvs",
        "snap-000000000000000f.kvs.bak", "snap-000000000000000f.kv",
        "snap-000000000000000f.tmp", "snap-000000000000000f",
        "snap--00000000000000f.kvs", "snap-0x0000000000000f.kvs",
        "Snap-000000000000000f.kvs", "xsnap-000000000000000f.kvs",
        "snap- 00000000000000f.kvs", "log-000000000000000f.kvl", "snap-",
        "kv.lock", "s"
    };

    (void) state;

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 0);

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        snap_make_file(others[i], "", 0);
    }

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 0);

    snap_make_file("snap-0000000000000010.kvs", "", 0);
    snap_make_file("snap-ffffffffffffffff.kvs", "", 0);
    snap_make_file("snap-0000000000000000.kvs", "", 0);
    snap_make_file("snap-0123456789abcdef.kvs", "", 0);

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 4);
    assert_true(list.lsn[0] == UINT64_MAX);
    assert_true(list.lsn[1] == 0x0123456789abcdefull);
    assert_true(list.lsn[2] == 0x10);
    assert_true(list.lsn[3] == 0);

    /* more than there is room for: the newest count */

    for (i = 1000; i < 1100; i++) {
        (void) snprintf(name, sizeof(name), "snap-%016x.kvs",
                        1000 + i * 37 % 100);
        snap_make_file(name, "", 0);
    }

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, KV_SNAPSHOTS_MAX);

    for (i = 2; i < KV_SNAPSHOTS_MAX; i++) {
        assert_true(list.lsn[i] == 1099 - (i - 2));
    }
}


static void
test_purge(void **state)
{
    char                name[64];
    unsigned            i;
    kv_err_t            err;
    kv_snapshot_list_t  list;

    (void) state;

    snap_make_file("kv.lock", "", 0);
    snap_make_file("log-0000000000000001.kvl", "", 0);
    snap_make_file("spare-1.tmp", "", 0);
    snap_make_file("snap-000000000000000F.kvs", "", 0);

    for (i = 1; i <= 150; i++) {
        (void) snprintf(name, sizeof(name), "snap-%016x.kvs", i);
        snap_make_file(name, "", 0);
    }

    for (i = 1; i <= 70; i++) {
        (void) snprintf(name, sizeof(name), "snap-%016x.tmp", i);
        snap_make_file(name, "", 0);
    }

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 10, true,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4 + 10 + 70);

    assert_int_equal(kv_snapshot_list(&snap_io, snap_dirfd, &list, &err),
                     KV_OK);
    assert_int_equal(list.n, 10);
    assert_true(list.lsn[0] == 150);
    assert_true(list.lsn[9] == 141);

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 2, false,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4 + 2);
    assert_true(snap_exists("snap-0000000000000096.kvs"));
    assert_true(snap_exists("snap-0000000000000095.kvs"));
    assert_true(snap_exists("spare-1.tmp"));

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 5, false,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4 + 2);

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 0, false,
                                       NULL, &err), KV_OK);
    assert_int_equal(snap_files(), 4);
}


static void
test_left_over(void **state)
{
    char                   junk[4096];
    uint64_t               end, bytes;
    kv_err_t               err;
    struct stat            before, after;
    kv_snapshot_writer_t  *w;

    (void) state;

    memset(junk, 'j', sizeof(junk));
    snap_make_file(TMP, junk, sizeof(junk));
    assert_int_equal(fchmodat(snap_dirfd, TMP, 0644, 0), 0);

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 3, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_files(), 1);
    assert_int_equal(fstatat(snap_dirfd, NAME, &after, 0), 0);
    assert_int_equal(after.st_mode & 07777, 0600);
    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 3, &end, &bytes,
                               &err),
                     KV_OK);

    /* a second one of the same LSN stands beside it until it is complete */

    assert_int_equal(kv_snapshot_begin(&snap_io, snap_dirfd, LSN, snap_seed, &w,
                                       &err),
                     KV_OK);
    assert_true(snap_exists(TMP));
    assert_int_equal(fstatat(snap_dirfd, NAME, &before, 0), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    kv_snapshot_abort(w);
    assert_false(snap_exists(TMP));
    assert_true(snap_exists(NAME));

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 5, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_files(), 1);
    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 5, &end, &bytes,
                               &err),
                     KV_OK);
}


/* What cannot be deleted stops neither the next snapshot nor the purge. */

static void
test_stuck(void **state)
{
    uint64_t  end, bytes;
    kv_err_t  err;

    (void) state;

    assert_int_equal(mkdirat(snap_dirfd, TMP, 0700), 0);
    assert_int_equal(mkdirat(snap_dirfd, "snap-0000000000000001.kvs", 0700), 0);
    snap_make_file("snap-0000000000000002.kvs", "", 0);
    snap_make_file("snap-0000000000000003.tmp", "", 0);

    if (snap_write(&snap_io, LSN, snap_small, 5, &bytes, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    assert_int_equal(snap_read(&snap_io, LSN, snap_small, 5, &end, &bytes,
                               &err),
                     KV_OK);

    assert_int_equal(kv_snapshot_purge(&snap_io, snap_dirfd, 1, false, NULL,
                                       &err),
                     KV_ERROR);
    assert_non_null(strstr(err.text, TMP));
    assert_int_equal(snap_files(), 3);
    assert_true(snap_exists(NAME));

    assert_int_equal(unlinkat(snap_dirfd, TMP, AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(snap_dirfd, "snap-0000000000000001.kvs",
                              AT_REMOVEDIR), 0);
}


/* Notes the call; true if it is the one that fails. */

static bool
call(kv_io_t *with, call_t what)
{
    faulty_t  *f = (faulty_t *) with;

    if (f->trace_n < sizeof(f->trace) - 1) {
        f->trace[f->trace_n++] = what;
        f->trace[f->trace_n] = '\0';
    }

    if (++f->calls == f->fail_at) {
        f->failed = what;
        errno = f->error;
        return true;
    }

    return false;
}


static int
faulty_open(kv_io_t *with, int dirfd, const char *name, int flags)
{
    int        fd;
    faulty_t  *f = (faulty_t *) with;

    if (call(with, CALL_OPEN)) {
        return -1;
    }

    fd = f->sys.open(&f->sys, dirfd, name, flags);
    f->open_files += (fd != -1);

    return fd;
}


static int
faulty_close(kv_io_t *with, int fd)
{
    int        rc;
    faulty_t  *f = (faulty_t *) with;

    f->open_files--;

    rc = f->sys.close(&f->sys, fd);

    return call(with, CALL_CLOSE) ? -1 : rc;
}


static ssize_t
faulty_pread(kv_io_t *with, int fd, void *buf, size_t n, off_t offset)
{
    faulty_t  *f = (faulty_t *) with;

    if (call(with, CALL_READ)) {
        return -1;
    }

    n = (f->tear && n > 1) ? n / 2 + 1 : n;

    return f->sys.pread(&f->sys, fd, buf, n, offset);
}


static ssize_t
faulty_pwritev(kv_io_t *with, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    ssize_t        rc;
    faulty_t      *f = (faulty_t *) with;
    struct iovec   one;

    if (call(with, CALL_WRITE)) {
        return -1;
    }

    if (f->tear) {
        one = iov[0];
        one.iov_len = one.iov_len / 2 + 1;
        one.iov_len = kv_min(one.iov_len, iov[0].iov_len);
        iov = &one;
        n = 1;
    }

    rc = f->sys.pwritev(&f->sys, fd, iov, n, offset);

    f->dirty += rc;
    f->most_dirty = kv_max(f->most_dirty, f->dirty);

    return rc;
}


static int
faulty_fdatasync(kv_io_t *with, int fd)
{
    faulty_t  *f = (faulty_t *) with;

    f->dirty = 0;

    return call(with, CALL_SYNC) ? -1 : f->sys.fdatasync(&f->sys, fd);
}


static int
faulty_fsync(kv_io_t *with, int fd)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, fd == snap_dirfd ? CALL_SYNC_DIR : CALL_SYNC)
           ? -1 : f->sys.fsync(&f->sys, fd);
}


static int
faulty_rename(kv_io_t *with, int dirfd, const char *from, const char *to)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_RENAME) ? -1
           : f->sys.rename(&f->sys, dirfd, from, to);
}


static int
faulty_unlink(kv_io_t *with, int dirfd, const char *name)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_UNLINK) ? -1
           : f->sys.unlink(&f->sys, dirfd, name);
}


static off_t
faulty_size(kv_io_t *with, int fd)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_SIZE) ? -1 : f->sys.size(&f->sys, fd) + f->lie;
}


static int
faulty_list(kv_io_t *with, int dirfd, kv_io_list_pt cb, void *ctx)
{
    faulty_t  *f = (faulty_t *) with;

    return call(with, CALL_LIST) ? -1 : f->sys.list(&f->sys, dirfd, cb, ctx);
}


static void
faulty(faulty_t *f, unsigned fail_at, int error)
{
    memset(f, 0, sizeof(*f));

    kv_io_system(&f->sys);

    f->io = f->sys;
    f->io.open = faulty_open;
    f->io.close = faulty_close;
    f->io.pread = faulty_pread;
    f->io.pwritev = faulty_pwritev;
    f->io.fdatasync = faulty_fdatasync;
    f->io.fsync = faulty_fsync;
    f->io.rename = faulty_rename;
    f->io.unlink = faulty_unlink;
    f->io.size = faulty_size;
    f->io.list = faulty_list;
    f->fail_at = fail_at;
    f->error = error;
}


/* Each call of a writing fails once, with each error. */

static void
test_write_fails(void **state)
{
    kv_rc_t                rc, want;
    faulty_t               f;
    uint64_t               bytes;
    unsigned               e, at;
    kv_err_t               err;

    static const int       errors[] = { ENOSPC, EDQUOT, EIO, EACCES };
    static const uint32_t  sizes[] = { 10, 2 << 20, 9 << 20, 600 << 10,
                                       600 << 10, 20 };

    (void) state;

    for (e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {

        for (at = 1; ; at++) {
            faulty(&f, at, errors[e]);
            err.text[0] = '\0';

            rc = snap_write(&f.io, LSN, sizes, 6, &bytes, &err);

            assert_int_equal(f.open_files, 0);

            if (f.failed == 0) {
                assert_int_equal(rc, KV_OK);
                break;
            }

            if (f.failed == CALL_CLOSE || f.failed == CALL_UNLINK) {
                /* synced before: nothing is lost; nothing is in the way */
                assert_int_equal(rc, KV_OK);
                assert_int_equal(unlinkat(snap_dirfd, NAME, 0), 0);
                continue;
            }

            want = (errors[e] == ENOSPC || errors[e] == EDQUOT)
                   ? KV_NO_SPACE : KV_ERROR;

            if (f.failed == CALL_SYNC || f.failed == CALL_SYNC_DIR) {
                want = KV_ERROR;
            }

            if (rc != want) {
                fail_msg("%d instead of %d for a failed '%c'", rc, want,
                         f.failed);
            }

            if (strstr(err.text, strerror(errors[e])) == NULL
                || strstr(err.text, "snap-000000001234abcd.") == NULL
                || (f.failed == CALL_WRITE
                    && strstr(err.text, "at offset ") == NULL))
            {
                fail_msg("bad error: %s", err.text);
            }

            /* nor a name that may not be on the disk */

            assert_false(snap_exists(TMP));
            assert_false(snap_exists(NAME));
        }

        assert_true(at > 12);
        assert_int_equal(unlinkat(snap_dirfd, NAME, 0), 0);
    }
}


/* The order that makes a snapshot durable, and how much is ever dirty. */

static void
test_sync_order(void **state)
{
    char      *last;
    uint32_t   sizes[40];
    unsigned   i;
    faulty_t   f;
    uint64_t   bytes;
    kv_err_t   err;

    (void) state;

    for (i = 0; i < 40; i++) {
        sizes[i] = 500 << 10;
    }

    faulty(&f, 0, 0);

    assert_int_equal(snap_write(&f.io, LSN, sizes, 40, &bytes, &err),
                     KV_OK);

    assert_true(bytes > 2 * DIRTY_MAX);
    assert_true(f.most_dirty <= DIRTY_MAX + BLOCK_MAX);
    assert_int_equal(f.dirty, 0);

    last = strrchr(f.trace, 'w');
    assert_non_null(last);
    assert_string_equal(last, "wscnd");
    assert_true(strncmp(f.trace, "uuow", 4) == 0);

    /* a large value is no exception */

    faulty(&f, 0, 0);

    for (i = 0; i < 4; i++) {
        sizes[i] = (i < 2) ? 3 * MIB : 19 * MIB / 2;
    }

    assert_int_equal(snap_write(&f.io, LSN, sizes, 4, &bytes, &err),
                     KV_OK);
    assert_true(f.most_dirty <= DIRTY_MAX + 5 * MIB);
}


static void
test_torn_calls(void **state)
{
    faulty_t               f;
    uint64_t               bytes, end;
    kv_err_t               err;

    static const uint32_t  sizes[] = { 10, 2 << 20, 700 << 10, 700 << 10 };

    (void) state;

    faulty(&f, 0, 0);
    f.tear = true;

    assert_int_equal(snap_write(&f.io, LSN, sizes, 4, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_read(&f.io, LSN, sizes, 4, &end, &bytes, &err),
                     KV_OK);
    assert_int_equal(snap_read(&snap_io, LSN, sizes, 4, &end, &bytes, &err),
                     KV_OK);
}


static void
test_read_fails(void **state)
{
    kv_rc_t    rc;
    faulty_t   f;
    uint64_t   bytes, end;
    unsigned   at;
    kv_err_t   err;

    (void) state;

    err.text[0] = '\0';
    rc = snap_read(&snap_io, LSN, snap_small, 8, &end, &bytes, &err);
    assert_int_equal(rc, KV_ERROR);
    assert_non_null(strstr(err.text, NAME));

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                     KV_OK);

    for (at = 1; ; at++) {
        faulty(&f, at, EIO);
        err.text[0] = '\0';

        rc = snap_read(&f.io, LSN, snap_small, 8, &end, &bytes, &err);

        assert_int_equal(f.open_files, 0);

        if (f.failed == 0) {
            assert_int_equal(rc, KV_OK);
            break;
        }

        if (f.failed == CALL_CLOSE) {
            assert_int_equal(rc, KV_OK);
            continue;
        }

        assert_int_equal(rc, KV_ERROR);
        assert_non_null(strstr(err.text, NAME));
        assert_non_null(strstr(err.text, strerror(EIO)));
    }

    assert_true(at > 6);

    /* a file that shrinks while it is read */

    for (at = 1; at < 120; at++) {
        assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                         KV_OK);
        assert_int_equal(truncateat(NAME, bytes - at), 0);

        faulty(&f, 0, 0);
        f.lie = at;

        rc = snap_read(&f.io, LSN, snap_small, 8, &end, &bytes, &err);
        assert_int_equal(rc, KV_DAMAGED);
        assert_non_null(strstr(err.text, "has become shorter"));
    }

    assert_int_equal(snap_write(&snap_io, LSN, snap_small, 8, &bytes, &err),
                     KV_OK);

    /* a signal is no failure */

    for (at = 1; at < 9; at++) {
        faulty(&f, at, EINTR);
        rc = snap_read(&f.io, LSN, snap_small, 8, &end, &bytes, &err);

        if (f.failed == CALL_READ) {
            assert_int_equal(rc, KV_OK);
        }
    }

    /* neither do listing and purging hide one */

    faulty(&f, 1, EIO);
    assert_int_equal(kv_snapshot_list(&f.io, snap_dirfd,
                                      &(kv_snapshot_list_t) { 0 }, &err),
                     KV_ERROR);

    for (at = 1; at <= 3; at++) {
        snap_make_file(TMP, "", 0);
        faulty(&f, at, EIO);
        err.text[0] = '\0';

        rc = kv_snapshot_purge(&f.io, snap_dirfd, at == 2 ? 0 : 1, false,
                               NULL, &err);
        assert_int_equal(rc, KV_ERROR);
        assert_non_null(strstr(err.text, strerror(EIO)));
    }
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, snap_setup, snap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_round_trip),
        TEST(test_guess),
        TEST(test_format),
        TEST(test_truncated),
        TEST(test_flipped),
        TEST(test_well_sealed),
        TEST(test_callback_stops),
        TEST(test_list),
        TEST(test_purge),
        TEST(test_left_over),
        TEST(test_stuck),
        TEST(test_write_fails),
        TEST(test_sync_order),
        TEST(test_torn_calls),
        TEST(test_read_fails)
    };

    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
