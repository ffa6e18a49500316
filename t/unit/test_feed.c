
/*
 * The change feed: what readers get, whatever the writer does, and where it
 * dies.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "feed/kv_feed.h"
#include "base/kv_failpoint.h"


#define RING   KV_FEED_MIN


/* In shared memory, for the deaths. */

typedef struct {
    kv_feed_t         feed;
    _Atomic uint64_t  ring[RING / 8];
    char              key[KV_KEY_MAX];
} shared_t;


static shared_t          *shared;
static kv_feed_t         *feed;
static kv_feed_record_t   rec;


static int
setup(void **state)
{
    (void) state;

    shared = mmap(NULL, sizeof(shared_t), PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);

    feed = &shared->feed;
    kv_feed_create(feed, shared->ring, RING);
    kv_feed_resume(feed, 0);

    return 0;
}


static int
teardown(void **state)
{
    (void) state;

    return munmap(shared, sizeof(shared_t));
}


/* The key of an LSN, of any length up to 300 bytes. */

static uint16_t
key_of(uint64_t lsn, char *key)
{
    uint16_t  n;

    n = (uint16_t) (lsn * 2654435761u % 301);
    memset(key, 'a' + (int) (lsn % 26), n);

    return n;
}


static void
put(uint64_t lsn)
{
    char      key[300];
    uint16_t  n;

    n = key_of(lsn, key);
    kv_feed_put(feed, KV_FEED_PUT + lsn % 3, lsn, key, n);
}


static void
put_300(uint64_t lsn)
{
    kv_feed_put(feed, KV_FEED_PUT, lsn, shared->key, 300);
}


/* Whether the record is the one of that LSN. */

static bool
is(const kv_feed_record_t *r, uint64_t lsn)
{
    char      key[300];
    uint16_t  n;

    n = key_of(lsn, key);

    return r->lsn == lsn && r->kind == KV_FEED_PUT + lsn % 3
           && r->key_len == n && memcmp(r->key, key, n) == 0;
}


/* Reads all from a position on; returns how many, the first of which is it. */

static unsigned
read_from(uint64_t pos, uint64_t lsn)
{
    unsigned  n;
    kv_rc_t   rc;

    for (n = 0; (rc = kv_feed_read(feed, pos, &rec)) == KV_OK; n++) {
        assert_true(is(&rec, lsn + n));
        pos = rec.next;
    }

    assert_int_equal(rc, KV_NOT_FOUND);

    return n;
}


/* Every LSN that can be found leads to what is behind it; others do not. */

static void
check_all(uint64_t last)
{
    uint64_t  lsn, pos, floor;

    floor = kv_feed_floor(feed);

    for (lsn = floor > 300 ? floor - 300 : 0; lsn < floor; lsn++) {
        assert_int_equal(kv_feed_find(feed, lsn, &pos, &rec), KV_DECLINED);
    }

    for (lsn = floor; lsn <= last + 1; lsn++) {
        assert_int_equal(kv_feed_find(feed, lsn, &pos, &rec), KV_OK);

        if (lsn < last) {
            assert_int_equal(kv_feed_read(feed, pos, &rec), KV_OK);
            assert_true(is(&rec, lsn + 1));

        } else {
            assert_int_equal(kv_feed_read(feed, pos, &rec), KV_NOT_FOUND);
        }
    }

    assert_int_equal(kv_feed_find(feed, floor, &pos, &rec), KV_OK);
    assert_int_equal(read_from(pos, floor + 1), last - floor);
}


static void
test_order(void **state)
{
    uint64_t  lsn, pos, from;

    (void) state;

    check_all(0);
    pos = kv_feed_tail(feed);

    put(1);
    put(2);
    assert_int_equal(read_from(pos, 1), 0);

    from = kv_feed_publish(feed);
    assert_int_equal(from, pos);
    assert_int_equal(read_from(pos, 1), 2);
    assert_int_equal(kv_feed_publish(feed), kv_feed_tail(feed));

    /* LSNs of touches are left out */

    put(7);
    (void) kv_feed_publish(feed);

    for (lsn = 2; lsn < 7; lsn++) {
        assert_int_equal(kv_feed_find(feed, lsn, &pos, &rec), KV_OK);
        assert_int_equal(read_from(pos, 7), 1);
    }
}


static void
test_wraps(void **state)
{
    uint64_t  lsn;

    (void) state;

    for (lsn = 1; lsn <= 5000; lsn++) {
        put(lsn);

        if (lsn % 7 == 0) {
            (void) kv_feed_publish(feed);
        }

        if (lsn % 501 == 0) {
            (void) kv_feed_publish(feed);
            check_all(lsn);
        }
    }

    assert_true(kv_feed_tail(feed) > 10 * RING);
    assert_true(kv_feed_floor(feed) > 4000);
    assert_true(kv_feed_floor(feed) < 4800);
}


/* A reader that comes back late is told so, wherever it was. */

static void
test_overtaken(void **state)
{
    uint64_t  lsn, pos, old;

    (void) state;

    put(1);
    (void) kv_feed_publish(feed);
    old = 0;

    for (lsn = 2; kv_feed_floor(feed) == 0; lsn++) {
        put(lsn);
        (void) kv_feed_publish(feed);
    }

    assert_int_equal(kv_feed_read(feed, old, &rec), KV_DECLINED);
    assert_int_equal(kv_feed_find(feed, 0, &pos, &rec), KV_DECLINED);
    check_all(lsn - 1);
}


/* The smallest records: that of the head alone is there no more. */

static void
test_clears(void **state)
{
    uint64_t  lsn;

    (void) state;

    for (lsn = 1; kv_feed_floor(feed) == 0; lsn++) {
        kv_feed_put(feed, KV_FEED_CLEAR, lsn, NULL, 0);
        (void) kv_feed_publish(feed);
    }

    assert_int_equal(kv_feed_floor(feed), 1);
    assert_int_equal(kv_feed_read(feed, 0, &rec), KV_DECLINED);
    assert_int_equal(kv_feed_read(feed, 16, &rec), KV_OK);
    assert_int_equal(rec.lsn, 2);
}


/* A batch that takes more than the ring, of which readers see the end. */

static void
test_large_batch(void **state)
{
    uint64_t  lsn, pos;

    (void) state;

    put(1);
    (void) kv_feed_publish(feed);
    pos = kv_feed_tail(feed);

    for (lsn = 2; lsn <= 2000; lsn++) {
        put(lsn);
    }

    assert_int_equal(kv_feed_read(feed, pos, &rec), KV_NOT_FOUND);
    assert_int_equal(kv_feed_find(feed, 1, &pos, &rec), KV_DECLINED);

    (void) kv_feed_publish(feed);
    assert_int_equal(kv_feed_read(feed, 0, &rec), KV_DECLINED);
    check_all(2000);
}


/*
 * A writer dies at its n-th store, for all n, in a batch that wraps around, or
 * that is larger than the ring.  The next one goes on.
 */

static void
die_in(unsigned n, uint64_t first, unsigned count, void (*add)(uint64_t lsn))
{
    int       status;
    pid_t     pid;
    unsigned  i;

    pid = fork();
    assert_true(pid != -1);

    if (pid == 0) {
        kv_failpoint_arm("FEEDING", (int) n);

        for (i = 0; i < count; i++) {
            add(first + i);
        }

        _exit(0);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL
                                    : WEXITSTATUS(status) == 0);
}


static void
test_deaths(void **state)
{
    unsigned  n;
    uint64_t  lsn, floor, tail;

    (void) state;

    for (lsn = 1; lsn < 400; lsn++) {
        put(lsn);
    }

    (void) kv_feed_publish(feed);

    for (n = 1; n < 400; n++) {

        tail = kv_feed_tail(feed);
        die_in(n, lsn, 20, put);

        assert_int_equal(kv_feed_tail(feed), tail);
        check_all(lsn - 1);

        kv_feed_resume(feed, 0);
        assert_int_equal(feed->last, lsn - 1);
        check_all(lsn - 1);

        put(lsn++);
        (void) kv_feed_publish(feed);
        check_all(lsn - 1);
    }

    /* all that was published is gone, and some that was not */

    die_in(30000, lsn, 1500, put);
    floor = kv_feed_floor(feed);
    assert_true(floor >= lsn);

    kv_feed_resume(feed, 0);
    assert_int_equal(feed->last, floor);
    check_all(floor);

    put(floor + 1);
    (void) kv_feed_publish(feed);
    check_all(floor + 1);
}


/*
 * Nothing is left of the records that were given up: in the slice where one of
 * them began none begins then.
 */

static void
test_given_up(void **state)
{
    uint64_t  lsn, pos, slice;

    (void) state;

    put(1);
    (void) kv_feed_publish(feed);

    for (lsn = 2; lsn <= 4; lsn++) {
        kv_feed_put(feed, KV_FEED_PUT, lsn, shared->key, KV_KEY_MAX);
    }

    kv_feed_resume(feed, 0);
    slice = feed->bytes / feed->slices;

    for (lsn = 2; feed->written < slice - 24; lsn++) {
        kv_feed_put(feed, KV_FEED_PUT, lsn, shared->key, 8);
    }

    kv_feed_put(feed, KV_FEED_PUT, lsn, shared->key, KV_KEY_MAX);
    assert_true(feed->written >= 2 * slice);
    kv_feed_put(feed, KV_FEED_PUT, lsn + 1, shared->key, 8);
    (void) kv_feed_publish(feed);

    assert_int_equal(kv_feed_find(feed, lsn, &pos, &rec), KV_OK);
    assert_int_equal(kv_feed_read(feed, pos, &rec), KV_OK);
    assert_int_equal(rec.lsn, lsn + 1);
}


/*
 * A batch is larger than the ring, and the writer dies when it has just passed
 * all that was published: a reader that had read that, too, has missed what it
 * has passed of the batch.
 */

static void
test_death_beyond(void **state)
{
    kv_rc_t   rc;
    uint64_t  lsn, pos, last;
    unsigned  n, overtakes;

    (void) state;

    for (n = 1, overtakes = 0; n < 700; n += n < 400 ? 100 : 1) {
        kv_feed_create(feed, shared->ring, KV_FEED_ALIGN);
        kv_feed_resume(feed, 0);

        for (lsn = 1; lsn <= 12; lsn++) {
            put_300(lsn);
        }

        (void) kv_feed_publish(feed);
        pos = kv_feed_tail(feed);

        die_in(n, lsn, 24, put_300);

        /* as a recovery does */

        kv_feed_resume(feed, 0);
        last = feed->last;
        assert_true(last >= 12 && last < 36);

        for (lsn = last + 1; lsn <= last + 4; lsn++) {
            put_300(lsn);
        }

        (void) kv_feed_publish(feed);

        rc = kv_feed_read(feed, pos, &rec);
        overtakes += rc == KV_DECLINED;
        assert_true(rc == KV_DECLINED || (rc == KV_OK && rec.lsn == 13));

        assert_int_equal(kv_feed_find(feed, last, &pos, &rec), KV_OK);
        assert_int_equal(kv_feed_read(feed, pos, &rec), KV_OK);
        assert_int_equal(rec.lsn, last + 1);
    }

    assert_true(overtakes > 0);
}


#define READERS  3
#define RECORDS  60000u


static _Atomic bool      finished;
static _Atomic unsigned  overtaken;


/*
 * Reads all that is published, and now and then waits for long enough to be
 * overtaken; then finds its place again.
 */

static void *
reader(void *arg)
{
    kv_rc_t            rc;
    uint64_t           pos, lsn, found;
    unsigned           n;
    bool               last;
    kv_feed_record_t  *r;

    r = malloc(sizeof(kv_feed_record_t));
    assert_non_null(r);

    pos = 0;
    lsn = 0;
    n = (unsigned) (uintptr_t) arg;

    for ( ;; ) {
        last = atomic_load(&finished);
        rc = kv_feed_read(feed, pos, r);

        if (rc == KV_OK) {
            assert_true(r->lsn == lsn + 1 && is(r, lsn + 1));
            lsn = r->lsn;
            pos = r->next;

            /* what was read, or is to be read, is found again */

            if (++n % 97 == 0
                && kv_feed_find(feed, lsn, &found, r) == KV_OK)
            {
                assert_int_equal(found, pos);
            }

            if (n % 4001 == 0) {
                (void) usleep(2000);
            }

        } else if (rc == KV_DECLINED) {
            atomic_fetch_add(&overtaken, 1);
            lsn = kv_feed_floor(feed);

            if (kv_feed_find(feed, lsn, &pos, r) != KV_OK) {
                pos = 0;
            }

        } else if (last) {
            break;

        } else {
            (void) sched_yield();
        }
    }

    assert_int_equal(lsn, RECORDS);
    free(r);

    return NULL;
}


static void
test_readers(void **state)
{
    uint64_t   lsn;
    unsigned   i;
    pthread_t  thread[READERS];

    (void) state;

    atomic_store(&finished, false);

    for (i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, reader,
                                        (void *) (uintptr_t) (i * 1000)), 0);
    }

    for (lsn = 1; lsn <= RECORDS; lsn++) {
        put(lsn);

        if (lsn % 13 == 0 || lsn == RECORDS) {
            (void) kv_feed_publish(feed);
        }

        if (lsn % 1000 == 0) {
            (void) usleep(200);
        }
    }

    atomic_store(&finished, true);

    for (i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }

    assert_true(atomic_load(&overtaken) > 0);
}


/*
 * Keys as long as any, of which the ring has few, so that they are written over
 * while they are read: what is read is whole, or told to be gone.
 */

static void *
long_reader(void *arg)
{
    size_t             i;
    kv_rc_t            rc;
    uint64_t           pos;
    kv_feed_record_t  *r;

    (void) arg;

    r = malloc(sizeof(kv_feed_record_t));
    assert_non_null(r);

    for (pos = 0; !atomic_load(&finished); /* void */ ) {
        rc = kv_feed_read(feed, pos, r);

        if (rc == KV_DECLINED) {

            /* the one that is written over next */

            pos = atomic_load(&feed->head);
            continue;
        }

        if (rc == KV_OK) {
            for (i = 0; i < KV_KEY_MAX / 8; i++) {
                assert_int_equal(r->key[i], r->lsn);
            }

            pos = r->next;
        }
    }

    free(r);

    return NULL;
}


static void
test_long_keys(void **state)
{
    size_t           i;
    uint64_t         lsn;
    pthread_t        thread;
    static uint64_t  key[KV_KEY_MAX / 8];

    (void) state;

    kv_feed_create(feed, shared->ring, 10 * KV_FEED_ALIGN);
    kv_feed_resume(feed, 0);

    atomic_store(&finished, false);
    assert_int_equal(pthread_create(&thread, NULL, long_reader, NULL), 0);

    for (lsn = 1; lsn <= 20000; lsn++) {
        for (i = 0; i < KV_KEY_MAX / 8; i++) {
            key[i] = lsn;
        }

        kv_feed_put(feed, KV_FEED_PUT, lsn, key, KV_KEY_MAX);
        (void) kv_feed_publish(feed);
    }

    atomic_store(&finished, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}


/* Another log: all of it is gone for readers, and LSNs may go back. */

static void
test_other_log(void **state)
{
    uint64_t  lsn, pos, tail;

    (void) state;

    kv_feed_keep(feed, 7, 0);

    for (lsn = 1; lsn < 600; lsn++) {
        put(lsn);
    }

    (void) kv_feed_publish(feed);
    kv_feed_keep(feed, 7, 599);
    check_all(599);

    tail = kv_feed_tail(feed);
    assert_int_equal(kv_feed_find(feed, 590, &pos, &rec), KV_OK);

    put(600);
    kv_feed_keep(feed, 8, 400);

    assert_int_equal(kv_feed_read(feed, pos, &rec), KV_DECLINED);
    assert_int_equal(kv_feed_read(feed, tail, &rec), KV_DECLINED);
    assert_int_equal(kv_feed_find(feed, 399, &pos, &rec), KV_DECLINED);
    check_all(400);

    /* also for one who has read all of it */

    tail = kv_feed_tail(feed);
    kv_feed_keep(feed, 9, 400);
    assert_int_equal(kv_feed_read(feed, tail, &rec), KV_DECLINED);
    check_all(400);

    for (lsn = 401; lsn < 3000; lsn++) {
        put(lsn);
        (void) kv_feed_publish(feed);
    }

    check_all(2999);

    kv_feed_resume(feed, 0);
    assert_int_equal(feed->last, 2999);
}


/* However large it is, an LSN is found by reading little of it. */

static void
test_large(void **state)
{
    void      *mem;
    size_t     size;
    uint64_t   lsn, pos;

    (void) state;

    size = 64 << 20;
    mem = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1,
               0);
    assert_true(mem != MAP_FAILED);

    kv_feed_create(feed, mem, size);
    kv_feed_resume(feed, 0);
    assert_true(feed->bytes / feed->slices <= KV_FEED_SLICE);
    assert_true(feed->bytes + feed->slices * 8 <= size);
    assert_true(feed->bytes > size - size / 1000);

    for (lsn = 1; lsn < 1000000; lsn++) {
        put(lsn);
    }

    (void) kv_feed_publish(feed);

    for (lsn = kv_feed_floor(feed); lsn < 999999; lsn += 997) {
        assert_int_equal(kv_feed_find(feed, lsn, &pos, &rec), KV_OK);
        assert_int_equal(kv_feed_read(feed, pos, &rec), KV_OK);
        assert_true(is(&rec, lsn + 1));
    }

    assert_int_equal(munmap(mem, size), 0);
}


/*
 * A key as long as any, over the end of the slice before the one where a search
 * begins.  What is far from the LSN is not read: an assertion would fail.
 */

static void
test_long_key(void **state)
{
    void      *mem;
    size_t     i, size;
    uint64_t   lsn, pos, middle, trap;

    (void) state;

    size = 2 << 20;
    mem = calloc(1, size);
    assert_non_null(mem);

    kv_feed_create(feed, mem, size);
    kv_feed_resume(feed, 0);
    middle = feed->slices / 2 * (feed->bytes / feed->slices);
    trap = 0;

    for (lsn = 1; feed->written + 8192 < feed->bytes; lsn++) {

        if (middle && feed->written + 8 == middle) {
            kv_feed_put(feed, KV_FEED_PUT, lsn, shared->key, KV_KEY_MAX);
            middle = 0;
            continue;
        }

        if (middle == 0 && trap == 0 && feed->written > feed->bytes / 4 * 3) {
            trap = feed->written;
        }

        /* of 24 bytes, and of 32 where that leads to the place above */

        kv_feed_put(feed, KV_FEED_PUT, lsn, shared->key,
                    middle && (middle - 8 - feed->written) % 24 ? 16 : 8);
    }

    (void) kv_feed_publish(feed);
    assert_true(middle == 0 && trap != 0);
    i = trap / 8;
    atomic_store(&feed->ring[i + 1], UINT64_MAX);

    assert_int_equal(kv_feed_find(feed, lsn - 2, &pos, &rec), KV_OK);
    assert_int_equal(kv_feed_read(feed, pos, &rec), KV_OK);
    assert_int_equal(rec.lsn, lsn - 1);

    free(mem);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wraps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overtaken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clears, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deaths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_death_beyond, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_key, setup, teardown)
    };

    return cmocka_run_group_tests_name("feed", tests, NULL, NULL);
}
