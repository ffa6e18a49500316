
/*
 * Direct writing, against a model of the file and a table that checks what
 * O_DIRECT asks for: memory, offset and length in whole blocks.  Whether the
 * file system under the test can do it does not matter.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_direct.h"


#define FILE_SIZE  (8u << 20)


typedef struct {
    kv_io_t       io;                /* first */
    kv_io_t       system;
    int           fd;
    kv_direct_t   direct;
    uint8_t      *model;
    uint64_t      end;               /* of what was written */
    unsigned      seed;

    bool          on;                /* what direct() was told last */
    bool          cannot;
    unsigned      reads, writes, offs;
    size_t        written;           /* bytes, at one go */
    size_t        most;              /* bytes of one write; 0: all */
    unsigned      fail_write;        /* the so-manieth from now; 0: none */
    unsigned      fail_read;
    unsigned      short_read;
    int           error;
} test_t;


static void test_append(test_t *t, size_t len);
static kv_rc_t test_write(test_t *t, const uint8_t *bytes, size_t len);
static void test_compare(test_t *t);


static void
test_any_size(void **ctx)
{
    int     i;
    size_t  len;
    test_t  *t = *ctx;

    kv_direct_use(&t->direct, t->fd, true);
    assert_true(t->on);

    /* from the middle of a block that another process wrote */

    t->end = 5000;

    for (i = 0; t->end < FILE_SIZE - KV_DIRECT_BUF; i++) {
        len = 1 + (unsigned) rand_r(&t->seed) % (i % 50 ? 9000 : 400000);
        test_append(t, len);
    }

    /* more than the buffer, and to the last byte of the file */

    t->end = 4095;
    test_append(t, 2 * KV_DIRECT_BUF + 1);
    test_append(t, FILE_SIZE - t->end);
    test_compare(t);

    assert_int_equal(t->reads, 2);
    assert_int_equal(t->offs, 0);
}


/* What is written behind the end, and over again, is not kept. */

static void
test_over_again(void **ctx)
{
    int       i;
    uint64_t  end;
    test_t   *t = *ctx;

    kv_direct_use(&t->direct, t->fd, true);

    for (i = 0; i < 500; i++) {
        test_append(t, 1 + (unsigned) rand_r(&t->seed) % 3000);

        end = t->end;
        test_append(t, 48);
        t->end = end;
    }

    test_append(t, 1);
    test_compare(t);
}


/* Another process writes in between, and then it is ours again. */

static void
test_in_turn(void **ctx)
{
    int       i;
    size_t    len;
    test_t   *t = *ctx;
    uint8_t   bytes[3000];

    for (i = 0; i < 300; i++) {
        kv_direct_use(&t->direct, t->fd, true);
        test_append(t, 1 + (unsigned) rand_r(&t->seed) % 3000);
        test_append(t, 1 + (unsigned) rand_r(&t->seed) % 3000);

        len = 1 + (unsigned) rand_r(&t->seed) % sizeof(bytes);
        memset(bytes, i, len);
        memcpy(t->model + t->end, bytes, len);
        assert_int_equal(t->system.pwritev(&t->system, t->fd,
                             &(struct iovec) { bytes, len }, 1,
                             (off_t) t->end), len);
        t->end += len;

        if (i % 2) {
            /* noticed by the offset alone */
            test_append(t, 100);
        }
    }

    test_compare(t);
}


static void
test_not_wanted(void **ctx)
{
    test_t  *t = *ctx;

    kv_direct_use(&t->direct, t->fd, false);
    assert_false(t->on);

    test_append(t, 5000);
    test_append(t, 5000);
    test_compare(t);
    assert_int_equal(t->reads, 0);
}


static void
test_cannot(void **ctx)
{
    test_t  *t = *ctx;

    t->cannot = true;
    kv_direct_use(&t->direct, t->fd, true);
    test_append(t, 5000);

    t->io.direct = NULL;
    kv_direct_use(&t->direct, t->fd, true);
    test_append(t, 5000);

    test_compare(t);
}


/* Writes that are refused, or stop in the middle of a block. */

static void
test_gives_up(void **ctx)
{
    test_t  *t = *ctx;

    kv_direct_use(&t->direct, t->fd, true);
    test_append(t, 5000);

    t->fail_write = 1;
    t->error = EINVAL;
    test_append(t, 5000);
    assert_int_equal(t->offs, 1);
    assert_false(t->on);
    test_append(t, 100);

    kv_direct_use(&t->direct, t->fd, true);
    assert_true(t->on);
    t->most = 3000;
    test_append(t, 100000);
    assert_int_equal(t->offs, 2);
    test_append(t, 100);

    /* a part of a block is read */

    t->most = 0;
    t->short_read = 1;
    kv_direct_use(&t->direct, t->fd, true);
    test_append(t, 100);
    assert_int_equal(t->offs, 3);
    test_append(t, 100);

    /* parts of whole blocks are as good as any */

    kv_direct_use(&t->direct, t->fd, true);
    t->most = 8192;
    test_append(t, 100000);
    assert_int_equal(t->offs, 3);

    test_compare(t);
}


static void
test_fails(void **ctx)
{
    test_t    *t = *ctx;
    uint8_t   *bytes;

    bytes = calloc(1, 3 * KV_DIRECT_BUF);

    kv_direct_use(&t->direct, t->fd, true);
    test_append(t, 100);

    t->fail_write = 2;
    t->error = ENOSPC;
    assert_int_equal(test_write(t, bytes, 3 * KV_DIRECT_BUF), KV_NO_SPACE);

    /* what is in the buffer now is not what was before the end */

    test_append(t, 100);

    t->fail_write = 1;
    t->error = EIO;
    assert_int_equal(test_write(t, bytes, 100), KV_ERROR);
    assert_int_equal(errno, EIO);

    kv_direct_use(&t->direct, t->fd, true);
    t->fail_read = 1;
    t->error = EIO;
    assert_int_equal(test_write(t, bytes, 100), KV_ERROR);
    assert_int_equal(errno, EIO);

    test_append(t, 100);
    test_compare(t);

    /* a file that ends before the block that is to go on */

    kv_direct_use(&t->direct, t->fd, true);
    assert_int_equal(ftruncate(t->fd, 50), 0);
    assert_int_equal(test_write(t, bytes, 100), KV_ERROR);
    assert_int_equal(errno, EIO);

    free(bytes);
}


static void
test_append(test_t *t, size_t len)
{
    size_t    i, expected;
    unsigned  gave_up;

    for (i = 0; i < len; i++) {
        t->model[t->end + i] = (uint8_t) rand_r(&t->seed);
    }

    expected = kv_direct_bytes(&t->direct, t->end, len);
    gave_up = t->offs;
    t->written = 0;

    assert_int_equal(test_write(t, t->model + t->end, len), KV_OK);
    t->end += len;

    /* but where a call wrote less than it was given, or direct writing ended */

    if (t->most == 0 && t->offs == gave_up) {
        assert_int_equal(t->written, expected);
    }
}


/* At the end, in three pieces. */

static kv_rc_t
test_write(test_t *t, const uint8_t *bytes, size_t len)
{
    size_t        one, two;
    struct iovec  iov[3];

    one = len / 3;
    two = len / 2;

    iov[0] = (struct iovec) { (void *) bytes, one };
    iov[1] = (struct iovec) { (void *) (bytes + one), two - one };
    iov[2] = (struct iovec) { (void *) (bytes + two), len - two };

    return kv_direct_writev(&t->direct, iov, 3, t->end);
}


static void
test_compare(test_t *t)
{
    uint8_t  *bytes;

    bytes = malloc(t->end);

    assert_int_equal(pread(t->fd, bytes, t->end, 0), t->end);
    assert_memory_equal(bytes, t->model, t->end);

    free(bytes);
}


static int
test_direct(kv_io_t *io, int fd, bool on)
{
    test_t  *t = (test_t *) io;

    assert_int_equal(fd, t->fd);

    if (on && t->cannot) {
        errno = EINVAL;
        return -1;
    }

    t->offs += t->on && !on;
    t->on = on;

    return 0;
}


static ssize_t
test_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    test_t  *t = (test_t *) io;

    t->reads++;

    if (!t->on) {
        return t->system.pread(&t->system, fd, buf, n, offset);
    }

    assert_int_equal((uintptr_t) buf % KV_IO_BLOCK, 0);
    assert_int_equal(n, KV_IO_BLOCK);
    assert_int_equal(offset % KV_IO_BLOCK, 0);

    if (t->fail_read && --t->fail_read == 0) {
        errno = t->error;
        return -1;
    }

    if (t->short_read && --t->short_read == 0) {
        n = 10;
    }

    return t->system.pread(&t->system, fd, buf, n, offset);
}


static ssize_t
test_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    test_t        *t = (test_t *) io;
    ssize_t        rc;
    struct iovec   some;

    t->writes++;

    if (t->fail_write && --t->fail_write == 0) {
        errno = t->error;
        return -1;
    }

    if (!t->on) {
        rc = t->system.pwritev(&t->system, fd, iov, n, offset);
        t->written += (size_t) kv_max(rc, 0);
        return rc;
    }

    assert_int_equal(n, 1);

    some = iov[0];

    if ((uintptr_t) some.iov_base % KV_IO_BLOCK
        || some.iov_len % KV_IO_BLOCK || offset % KV_IO_BLOCK)
    {
        /* only after a part of a block */

        assert_int_not_equal(t->most % KV_IO_BLOCK, 0);
        errno = EINVAL;
        return -1;
    }

    assert_true((size_t) offset + some.iov_len <= FILE_SIZE);

    if (t->most) {
        some.iov_len = kv_min(some.iov_len, t->most);
    }

    rc = t->system.pwritev(&t->system, fd, &some, 1, offset);
    t->written += (size_t) kv_max(rc, 0);

    return rc;
}


static int
test_setup(void **ctx)
{
    char         name[256];
    test_t      *t;
    const char  *tmp;

    t = calloc(1, sizeof(test_t));
    t->model = calloc(1, FILE_SIZE);
    t->seed = 1;

    tmp = getenv("TMPDIR");
    (void) snprintf(name, sizeof(name), "%s/kv_test_direct.XXXXXX",
                    tmp ? tmp : "/tmp");

    t->fd = mkstemp(name);
    assert_true(t->fd != -1);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(ftruncate(t->fd, FILE_SIZE), 0);

    kv_io_system(&t->system);

    t->io = t->system;
    t->io.direct = test_direct;
    t->io.pread = test_pread;
    t->io.pwritev = test_pwritev;

    kv_direct_init(&t->direct, &t->io);

    *ctx = t;

    return 0;
}


static int
test_teardown(void **ctx)
{
    test_t  *t = *ctx;

    kv_direct_destroy(&t->direct);
    (void) close(t->fd);
    free(t->model);
    free(t);

    return 0;
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_any_size),
        TEST(test_over_again),
        TEST(test_in_turn),
        TEST(test_not_wanted),
        TEST(test_cannot),
        TEST(test_gives_up),
        TEST(test_fails)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
