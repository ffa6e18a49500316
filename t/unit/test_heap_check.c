
/*
 * What the heap notices by itself: calls that make no sense, damage to its own
 * data, and the use of freed memory.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap_rig.h"


#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif


typedef enum {
    FREE_TWICE = 0,
    FREE_TWICE_LARGE,
    FREE_INSIDE,
    FREE_BITMAP,
    FREE_PAGE_GIVEN_BACK,
    FREE_NEVER_USED,
    FREE_ELSEWHERE,
    ALLOC_ZERO,
    ALLOC_TOO_MUCH,
    MISUSES
} misuse_t;


static void
misuse(misuse_t what)
{
    int             fd;
    unsigned char  *p, *q;

    fd = open("/dev/null", O_WRONLY);
    (void) dup2(fd, STDERR_FILENO);
    (void) setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
    (void) signal(SIGABRT, SIG_DFL);

    heap_lock();

    p = kv_heap_alloc(heap, KV_HEAP_ENTRY, 104);
    q = kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000);
    (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 104);
    (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000);

    switch (what) {

    case FREE_TWICE:
        kv_heap_free(heap, p);
        kv_heap_free(heap, p);
        break;

    case FREE_TWICE_LARGE:
        kv_heap_free(heap, q);
        kv_heap_free(heap, q);
        break;

    case FREE_INSIDE:
        kv_heap_free(heap, p + 8);
        break;

    case FREE_BITMAP:
        kv_heap_free(heap, (void *) ((uintptr_t) p & ~(uintptr_t) 4095));
        break;

    case FREE_PAGE_GIVEN_BACK:
        p = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);
        kv_heap_free(heap, p);
        kv_heap_free(heap, p);
        break;

    case FREE_NEVER_USED:
        p = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);
        kv_heap_free(heap, p + KV_PAGE_SIZE);
        break;

    case FREE_ELSEWHERE:
        kv_heap_free(heap, &what);
        break;

    case ALLOC_ZERO:
        (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 0);
        break;

    default:
        (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE + 1);
        break;
    }

    _exit(0);
}


static void
test_misuse(void **state)
{
    int       status;
    pid_t     pid;
    misuse_t  what;

    (void) state;

    for (what = 0; what < MISUSES; what++) {
        pid = fork();

        if (pid == 0) {
            misuse(what);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
            fail_msg("misuse %d went unnoticed", what);
        }

        /* it died with the lock */

        assert_int_equal(kv_heap_lock(heap), KV_DEAD);
        kv_heap_format(heap);
    }
}


/* The tests rely on kv_heap_check(): it has to see damage. */

static void
test_check_sees(void **state)
{
    void      *p;
    uint64_t  *bits;
    kv_err_t   err;

    (void) state;

    heap_lock();

    p = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    bits = (uint64_t *) ((uintptr_t) p & ~(uintptr_t) 4095);
    heap_check();

    *bits ^= 4;
    assert_int_equal(kv_heap_check(heap, &err), KV_DAMAGED);
    *bits ^= 4;
    heap_check();

    kv_heap_unlock(heap);
}


/* Use after free shows: at once, or when the memory is allocated again. */

static void
test_poison(void **state)
{
    int             status;
    pid_t           pid;
    unsigned char  *p, *q;

    (void) state;

    assert_int_equal(kv_heap_lock(heap), KV_OK);

    p = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    q = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    assert_non_null(p);
    assert_non_null(q);

    memset(p, 1, 100);
    kv_heap_free(heap, p);

#if defined __SANITIZE_ADDRESS__
    assert_true(__asan_address_is_poisoned(p));
    assert_true(__asan_address_is_poisoned(p + 99));
    assert_false(__asan_address_is_poisoned(q));
    assert_true(__asan_address_is_poisoned(q + KV_PAGE_SIZE));
#endif

    fflush(NULL);
    pid = fork();
    assert_true(pid != -1);

    if (pid == 0) {
        (void) dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        p[42] = 0;
        (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
        _exit(0);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);

    kv_heap_unlock(heap);
}


#define TEST(name)                                                            \
    cmocka_unit_test_setup_teardown(name, heap_setup, heap_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_misuse),
        TEST(test_check_sees),
        TEST(test_poison)
    };

    return cmocka_run_group_tests_name("heap check", tests, NULL, NULL);
}
