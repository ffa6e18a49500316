
/*
 * A wake-up that is lost.  An owner unlocks and wakes one of two waiters;
 * before that one runs, another thread takes the mutex; and then the woken one
 * is killed.  The new owner's unlocking wakes no thread, because the word of
 * the mutex does not say that one waits: the killed one did not get to saying
 * so.
 *
 * That moment cannot be met on purpose, so the test makes what it leaves: a
 * thread sleeps, and the mark of waiters is not in the word.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/kv_mutex.h"


#define PATIENCE  20000            /* ms until something is called a hang */


static kv_mutex_t        mutex;
static _Atomic pid_t     waiter;
static _Atomic int       result;
static _Atomic unsigned  locked;


static void *
wait_for_it(void *data)
{
    (void) data;

    atomic_store(&waiter, gettid());
    atomic_store(&result, kv_mutex_lock(&mutex));
    atomic_store(&locked, 1);

    return NULL;
}


/* Where glibc has the owner's number, and marks. */

static unsigned *
word(void)
{
    return (unsigned *) &mutex.m.__data.__lock;
}


/* The thread has made its mark, and sleeps since. */

static bool
sleeps(void)
{
    char    path[64], state;
    FILE   *f;
    pid_t   tid;

    tid = atomic_load(&waiter);

    if (tid == 0 || !(__atomic_load_n(word(), __ATOMIC_SEQ_CST)
                      & FUTEX_WAITERS))
    {
        return false;
    }

    (void) snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int) tid);

    f = fopen(path, "r");
    assert_non_null(f);

    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) {
        state = 0;
    }

    (void) fclose(f);

    return state == 'S';
}


static bool
comes_true(bool (*f)(void))
{
    uint64_t  end;

    end = kv_now_ns() + PATIENCE * 1000000ull;

    while (!f()) {
        if (kv_now_ns() > end) {
            return false;
        }

        (void) usleep(1000);
    }

    return true;
}


static bool
has_it(void)
{
    return atomic_load(&locked);
}


static void
test_lost_wakeup(void **state)
{
    pthread_t  thread;

    (void) state;

    assert_int_equal(kv_mutex_create(&mutex), KV_OK);
    assert_int_equal(kv_mutex_lock(&mutex), KV_OK);

    assert_int_equal(pthread_create(&thread, NULL, wait_for_it, NULL), 0);

    if (!comes_true(sleeps)) {
        fail_msg("the other thread does not wait");
    }

    (void) __atomic_and_fetch(word(), ~FUTEX_WAITERS, __ATOMIC_SEQ_CST);
    kv_mutex_unlock(&mutex);

    if (!comes_true(has_it)) {
        fail_msg("the mutex is free, and a thread waits for it for ever");
    }

    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&result), KV_OK);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_lost_wakeup)
    };

    return cmocka_run_group_tests_name("mutex", tests, NULL, NULL);
}
