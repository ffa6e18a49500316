
/*
 * What a snapshot's file holds: round trips, the format byte by byte, made
 * without the code under test, and every kind of damage.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/kv_crc32c.h"
#include "snap_rig.h"


#define IMAGE_MAX  65536


/* A snapshot as it should be, made without the code under test. */

typedef struct {
    uint64_t       salt;
    uint64_t       number;
    size_t         n;
    unsigned char  bytes[IMAGE_MAX];
} image_t;


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
image_seal_header(image_t *im)
{
    uint32_t  crc;

    memset(im->bytes + 12, 0, 4);
    crc = kv_crc32c(0, im->bytes, 64);
    memcpy(im->bytes + 12, &crc, 4);
    crc = kv_crc32c(0, im->bytes, 100);
    memcpy(im->bytes + 100, &crc, 4);
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
    h.version = 2;
    h.id = snap_id;
    h.time_ms = 1700000000000;
    h.lsn = LSN;
    h.salt = im->salt;
    memcpy(h.seed, snap_seed, sizeof(snap_seed));

    memcpy(im->bytes, &h, sizeof(h));
    image_seal_header(im);
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


/* The error has to name file and offset, and must not advise to delete it. */

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
    assert_memory_equal(&guess.id, &snap_id, sizeof(snap_id));

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
    memcpy(im.bytes + 72, file + 72, 8);          /* the time */
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


/* Checksums that are right do not make a file right; first, its header. */

static void
test_sealed_header(void **state)
{
    size_t               at[4];
    image_t              im;
    kv_err_t             err;
    unsigned             i;
    uint64_t             end, bytes;
    kv_snapshot_guess_t  guess;

    (void) state;

    image_make(&im, at);
    patch(&im, 8, 3, 4);
    image_seal_header(&im);
    assert_int_equal(image_read(&im, &err), KV_DECLINED);
    assert_non_null(strstr(err.text, "\"" NAME "\" at offset 8: format "
                           "version 3"));

    /* that one may have other bytes behind the first 64 */

    memset(im.bytes + 64, 0xff, im.n - 64);
    assert_int_equal(image_read(&im, &err), KV_DECLINED);

    image_make(&im, at);
    patch(&im, 16, LSN + 1, 8);
    image_seal_header(&im);
    must_be_damaged(&im, "offset 16: the LSN");

    image_make(&im, at);
    patch(&im, 16, KV_LSN_MAX + 1, 8);
    image_seal_header(&im);
    snap_make_file("snap-0001000000000000.kvs", im.bytes, im.n);
    assert_int_equal(snap_read(&snap_io, KV_LSN_MAX + 1, snap_small, 8, &end,
                               &bytes, &err), KV_DAMAGED);
    assert_non_null(strstr(err.text, "offset 16: no LSN is that high"));

    /* good, but of a later version of the module: it is not passed over */

    for (i = 80; i < 100; i++) {
        image_make(&im, at);
        im.bytes[i] = 1;
        image_seal_header(&im);
        assert_int_equal(image_read(&im, &err), KV_DECLINED);
        assert_non_null(strstr(err.text, "\"" NAME "\" at offset 80: the "
                               "header says what this version"));
    }

    /* of a replicated log: term and index come together */

    image_make(&im, at);
    patch(&im, 80, 3, 8);
    patch(&im, 88, 1234, 8);
    image_seal_header(&im);
    assert_int_equal(image_read(&im, &err), KV_OK);
    kv_snapshot_guess(&snap_io, snap_dirfd, LSN, &guess);
    assert_int_equal(guess.term, 3);
    assert_int_equal(guess.index, 1234);
}


/* What follows the footer has no bearing. */

static void
test_sealed_end(void **state)
{
    size_t    at[4], n;
    image_t   im;

    (void) state;

    image_make(&im, at);
    n = im.n;
    im.bytes[im.n++] = 0;
    must_be_whole(&im, n);

    image_make(&im, at);
    (void) image_end(&im, 8);
    must_be_whole(&im, n);
}


/* Blocks that are not where they belong, or of another file. */

static void
test_sealed_place(void **state)
{
    size_t          at[4], n;
    image_t         im;
    unsigned char   swap[1024];

    (void) state;

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
}


static void
test_sealed_counts(void **state)
{
    size_t    at[4];
    image_t   im;

    (void) state;

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
}


/* Lengths, however large. */

static void
test_sealed_lengths(void **state)
{
    size_t     at[4];
    image_t    im;
    unsigned   i;

    (void) state;

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
}


static void
test_sealed_footer(void **state)
{
    size_t    at[4];
    image_t   im;

    (void) state;

    image_make(&im, at);
    patch(&im, at[3] + 40, 1, 8);
    image_seal(&im, at[3]);
    must_be_damaged(&im, "reserved");

    image_make(&im, at);
    patch(&im, at[3] + 24, LSN - 1, 8);
    image_seal(&im, at[3]);
    must_be_damaged(&im, "the last LSN");

    image_make(&im, at);
    patch(&im, at[3] + 24, KV_LSN_MAX + 1, 8);
    image_seal(&im, at[3]);
    must_be_damaged(&im, "no LSN is that high");

    image_make(&im, at);
    im.n = at[3];
    must_be_damaged(&im, "before the footer");
}


/* A delete, a clear, unknown ones, flags, padding. */

static void
test_sealed_records(void **state)
{
    size_t     at[4];
    image_t    im;
    kv_err_t   err;
    unsigned   i;

    (void) state;

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

    /* good, but of a later version of the module: it is not passed over */

    image_make(&im, at);
    patch(&im, at[0] + 25, KV_RECORD_LSN|KV_RECORD_META, 1);
    patch(&im, at[0] + 26, im.bytes[at[0] + 26] - 2u, 1);
    patch(&im, at[0] + 24 + 16, 1, 1);
    image_seal(&im, at[0]);
    assert_int_equal(image_read(&im, &err), KV_DECLINED);
    assert_non_null(strstr(err.text, "a record has unknown metadata"));

    /* a record without its LSN */

    image_make(&im, at);
    patch(&im, at[1] + 24 + 8, 0, 8);
    image_seal(&im, at[1]);
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
        TEST(test_sealed_header),
        TEST(test_sealed_end),
        TEST(test_sealed_place),
        TEST(test_sealed_counts),
        TEST(test_sealed_lengths),
        TEST(test_sealed_footer),
        TEST(test_sealed_records),
        TEST(test_callback_stops)
    };

    return cmocka_run_group_tests_name("snapshot format", tests, NULL, NULL);
}
