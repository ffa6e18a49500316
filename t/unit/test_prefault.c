
/*
 * Memory got beforehand: all of it, in place and unchanged, and never the
 * worse where it cannot be had.
 */

/* tsan */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kit.h"
#include "base/kv_prefault.h"


#define PAGE  4096u
#define LARGE (8ul << 20)
#define LEAD  (64ul << 20)
#define MUCH  (2048ul << 20)


static atomic_int  signals;
static pthread_t   handled;


static char *
map_shared(size_t n)
{
    char  *p;

    p = mmap(NULL, n, PROT_READ|PROT_WRITE,
             MAP_SHARED|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);

    return p;
}


/* How many of the pages are there, from `p` on. */

static size_t
present(char *p, size_t n)
{
    size_t          i, pages, there;
    unsigned char  *vec;

    pages = n / PAGE;
    there = 0;
    vec = malloc(pages);

    assert_non_null(vec);
    assert_int_equal(mincore(p, n, vec), 0);

    for (i = 0; i < pages; i++) {
        there += vec[i] & 1;
    }

    free(vec);

    return there;
}


static bool
kernel_can(void)
{
    int    rc;
    char  *p;

    p = map_shared(PAGE);
    rc = madvise(p, PAGE, 23);
    (void) munmap(p, PAGE);

    return rc == 0;
}


/* From within one page to within another, both of them included. */

static void
test_all(void **state)
{
    char           *p;
    size_t          n;
    uint64_t        end;
    kv_prefault_t   pop;

    (void) state;

    if (!kernel_can()) {
        skip();
    }

    n = LARGE;
    p = map_shared(n);
    memset(p + 5 * PAGE, 'a', PAGE);

    kv_prefault_begin(&pop, p + PAGE + 100, n - 3 * PAGE);

    /* the memory may be used meanwhile */

    memset(p + n / 2, 'b', PAGE);

    end = kit_now_ms() + 30000;

    while (present(p, n) < n / PAGE - 2 && kit_now_ms() < end) {
        (void) sched_yield();
    }

    kv_prefault_end(&pop);

    assert_int_equal(present(p, n), n / PAGE - 2);
    assert_int_equal(present(p, PAGE), 0);
    assert_int_equal(present(p + n - PAGE, PAGE), 0);

    assert_int_equal(p[5 * PAGE], 'a');
    assert_int_equal(p[n / 2 + PAGE - 1], 'b');
    assert_int_equal(p[n / 2 + PAGE], 0);

    (void) munmap(p, n);
}


static void
wait_present(char *p, size_t n)
{
    uint64_t  end;

    end = kit_now_ms() + 30000;

    while (present(p, MUCH) < n / PAGE) {
        assert_true(kit_now_ms() < end);
        (void) sched_yield();
    }
}


/* It stays near what is in use. */

static void
test_lead(void **state)
{
    char           *p;
    kv_prefault_t   pop;

    (void) state;

    if (!kernel_can()) {
        skip();
    }

    p = map_shared(MUCH);

    kv_prefault_begin(&pop, p, MUCH);
    wait_present(p, LEAD);
    kv_prefault_used(&pop, 32 << 20);
    wait_present(p, LEAD + (32 << 20));
    kv_prefault_end(&pop);

    assert_int_equal(present(p, MUCH), (LEAD + (32 << 20)) / PAGE);

    kv_prefault_used(&pop, MUCH);
    assert_int_equal(present(p, MUCH), (LEAD + (32 << 20)) / PAGE);

    (void) munmap(p, MUCH);
}


/* A caller that has enough does not wait for the rest. */

static void
test_end(void **state)
{
    char           *p;
    kv_prefault_t   pop;

    (void) state;

    p = map_shared(MUCH);

    kv_prefault_begin(&pop, p, MUCH);
    kv_prefault_end(&pop);

    assert_true(present(p, MUCH) < MUCH / PAGE);

    /* a second time is no harm */

    kv_prefault_end(&pop);

    (void) munmap(p, MUCH);
}


/* Nothing to get, too little, and nothing where it should be. */

static void
test_nothing(void **state)
{
    char           *p;
    kv_prefault_t   pop;

    (void) state;

    p = map_shared(LARGE);

    kv_prefault_begin(&pop, p, 0);
    assert_false(pop.running);
    kv_prefault_end(&pop);

    kv_prefault_begin(&pop, p, 4 * PAGE);
    assert_false(pop.running);
    kv_prefault_end(&pop);

    assert_int_equal(present(p, LARGE), 0);

    assert_int_equal(munmap(p + PAGE, PAGE), 0);

    kv_prefault_begin(&pop, p, LARGE);
    assert_true(pop.running);
    kv_prefault_end(&pop);

    (void) munmap(p, LARGE);
}


/* It may be had or not: what is there stays, and what is not may be used. */

static void
test_huge(void **state)
{
    char    *p;
    size_t   n;

    (void) state;

    n = 8 << 20;
    p = map_shared(n);
    memset(p + n / 2, 'a', PAGE);

    kv_prefault_huge(p + 100, n - 200);
    kv_prefault_huge(p, 0);
    kv_prefault_huge(p + 100, 200);

    assert_int_equal(p[n / 2 + 1], 'a');
    memset(p, 'b', n);
    assert_int_equal(p[n - 1], 'b');

    (void) munmap(p, n);
}


static void
on_signal(int signo)
{
    (void) signo;

    handled = pthread_self();
    (void) atomic_fetch_add(&signals, 1);
}


/* A signal waits for a thread that takes it: this one is not for that. */

static void
test_signals(void **state)
{
    char           *p;
    sigset_t        usr1, before;
    kv_prefault_t   pop;

    (void) state;

    p = map_shared(MUCH);

    (void) sigemptyset(&usr1);
    (void) sigaddset(&usr1, SIGUSR1);
    (void) signal(SIGUSR1, on_signal);

    kv_prefault_begin(&pop, p, MUCH);

    assert_int_equal(pthread_sigmask(SIG_BLOCK, &usr1, &before), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);

    kv_prefault_end(&pop);

    assert_int_equal(signals, 0);
    assert_int_equal(sigismember(&before, SIGUSR1), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    assert_int_equal(signals, 1);
    assert_true(pthread_equal(handled, pthread_self()));

    (void) munmap(p, MUCH);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_lead),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_signals)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
