
/*
 * Processes that share a heap, and die anywhere in it: it is sound, or says
 * that it is not.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap_rig.h"


/* Waits for a child; true if it left with 0. */

static bool
left_well(pid_t pid)
{
    int  status;

    assert_int_equal(waitpid(pid, &status, 0), pid);

    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}


/* A reader that dies leaves all whole, in whatever order processes come. */

static void
test_death_of_reader(void **state)
{
    pid_t     reader;
    unsigned  i;

    (void) state;

    for (i = 0; i < 3; i++) {

        if (i == 1) {
            heap_lock();
            assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 100));
            kv_heap_unlock(heap);
        }

        reader = fork();

        if (reader == 0) {
            _exit(kv_heap_lock_read(heap) == KV_OK ? 0 : 1);
        }

        assert_true(left_well(reader));

        if (i == 2) {
            assert_int_equal(kv_heap_lock_read(heap), KV_OK);

        } else {
            heap_lock();
        }

        heap_check();
        kv_heap_unlock(heap);
        assert_false(kv_heap_broken(heap));
    }

    /* a reader is no excuse for a process that changes after it */

    reader = fork();

    if (reader == 0) {
        (void) kv_heap_lock_read(heap);
        kv_heap_unlock(heap);
        _exit(kv_heap_lock(heap) == KV_OK ? 0 : 1);
    }

    assert_true(left_well(reader));
    assert_int_equal(kv_heap_lock_read(heap), KV_DEAD);
    assert_true(kv_heap_broken(heap));
    kv_heap_format(heap);
}


/* A process that exits with the lock held. */

static void
test_death_of_owner(void **state)
{
    pid_t  owner;

    (void) state;

    heap_lock();
    assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, 100));
    kv_heap_unlock(heap);

    owner = fork();

    if (owner == 0) {
        _exit(kv_heap_lock(heap) == KV_OK ? 0 : 1);
    }

    assert_true(left_well(owner));

    assert_false(kv_heap_broken(heap));
    assert_int_equal(kv_heap_lock(heap), KV_DEAD);
    assert_true(kv_heap_broken(heap));
    assert_int_equal(kv_heap_lock(heap), KV_DEAD);

    owner = fork();

    if (owner == 0) {
        _exit(kv_heap_broken(heap) && kv_heap_lock(heap) == KV_DEAD ? 0 : 1);
    }

    assert_true(left_well(owner));

    kv_heap_format(heap);

    assert_false(kv_heap_broken(heap));
    heap_lock();
    heap_check();
    assert_int_equal(heap_stat_now().used, 0);
    kv_heap_unlock(heap);
}


/* A process that is killed while others wait for its lock. */

static void
test_death_awaited(void **state)
{
    int    fds[2], i;
    char   c;
    pid_t  owner, waiter[2];

    (void) state;

    assert_int_equal(pipe(fds), 0);

    owner = fork();

    if (owner == 0) {
        if (kv_heap_lock(heap) == KV_OK && write(fds[1], "x", 1) == 1) {
            pause();
        }

        _exit(1);
    }

    assert_int_equal(read(fds[0], &c, 1), 1);

    for (i = 0; i < 2; i++) {
        waiter[i] = fork();

        if (waiter[i] == 0) {
            if (write(fds[1], "x", 1) != 1) {
                _exit(1);
            }

            _exit(kv_heap_lock(heap) == KV_DEAD ? 0 : 1);
        }

        assert_int_equal(read(fds[0], &c, 1), 1);
    }

    (void) usleep(20000);

    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_false(left_well(owner));
    assert_true(left_well(waiter[0]));
    assert_true(left_well(waiter[1]));

    assert_true(kv_heap_broken(heap));

    kv_heap_format(heap);

    (void) close(fds[0]);
    (void) close(fds[1]);
}


/* The heap is formatted before a process has noticed the death. */

static void
test_death_unnoticed(void **state)
{
    pid_t  owner;

    (void) state;

    owner = fork();

    if (owner == 0) {
        _exit(kv_heap_lock(heap) == KV_OK ? 0 : 1);
    }

    assert_true(left_well(owner));

    kv_heap_format(heap);
    heap_lock();
    kv_heap_unlock(heap);
}


/* Allocates and frees until it is killed, or `n` times. */

static void
churn(unsigned id, unsigned n)
{
    object_t  objects[64], *s;
    unsigned  i;

    heap_seed = 88172645463325252ull + id * 7919;
    memset(objects, 0, sizeof(objects));

    for (i = 0; i < n; i++) {
        s = &objects[heap_rnd(64)];

        if (kv_heap_lock(heap) != KV_OK) {
            _exit(2);
        }

        if (s->p != NULL) {
            if (!heap_filled(s->p, s->size, s->fill)) {
                _exit(3);
            }

            kv_heap_free(heap, s->p);
            s->p = NULL;

        } else {
            s->size = heap_random_size();
            s->fill = heap_rnd(256);
            s->p = kv_heap_alloc(heap, heap_rnd(KV_HEAP_KINDS), s->size);
        }

        kv_heap_unlock(heap);

        if (s->p != NULL) {
            memset(s->p, s->fill, s->size);
        }
    }

    for (i = 0; i < 64; i++) {
        if (objects[i].p != NULL) {
            if (!heap_filled(objects[i].p, objects[i].size, objects[i].fill)
                || kv_heap_lock(heap) != KV_OK)
            {
                _exit(4);
            }

            kv_heap_free(heap, objects[i].p);
            kv_heap_unlock(heap);
        }
    }

    _exit(0);
}


static void
test_processes(void **state)
{
    pid_t     pid[4];
    unsigned  i;

    (void) state;

    for (i = 0; i < 4; i++) {
        pid[i] = fork();

        if (pid[i] == 0) {
            churn(i, 30000);
        }
    }

    for (i = 0; i < 4; i++) {
        assert_true(left_well(pid[i]));
    }

    heap_lock();
    heap_check();
    assert_int_equal(heap_stat_now().used, 0);
    assert_int_equal(heap_stat_now().held, 0);
    kv_heap_unlock(heap);
}


/* Killed at any instruction: the heap is sound, or says that it is not. */

static void
test_kill_anywhere(void **state)
{
    pid_t     pid;
    kv_rc_t   rc;
    unsigned  i;

    (void) state;

    for (i = 0; i < 60; i++) {
        pid = fork();

        if (pid == 0) {
            churn(i, UINT32_MAX);
        }

        (void) usleep(300 + heap_rnd(3000));

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_false(left_well(pid));

        rc = kv_heap_lock(heap);

        if (rc == KV_DEAD) {
            assert_true(kv_heap_broken(heap));
            kv_heap_format(heap);
            rc = kv_heap_lock(heap);
            assert_int_equal(heap_stat_now().used, 0);
        }

        assert_int_equal(rc, KV_OK);
        heap_check();
        kv_heap_unlock(heap);
    }
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, heap_setup, heap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_death_of_reader),
        TEST(test_death_of_owner),
        TEST(test_death_awaited),
        TEST(test_death_unnoticed),
        TEST(test_processes),
        TEST(test_kill_anywhere)
    };

    return cmocka_run_group_tests_name("heap death", tests, NULL, NULL);
}
