
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
#include "memory/kv_heap_private.h"


#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif


enum {
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
};


/* What a descriptor, or the heap, says that is not so. */

enum {
    GIVEN_DRAINED = 0,
    GIVEN_KIND,
    GIVEN_CLASS,
    GIVEN_NEVER_USED,
    FREE_IN_USE,                /* of a free page */
    FREE_BEYOND,
    FREE_PAST_END,
    GIVEN
};

enum {
    RETURNED_STATE = 0,
    RETURNED_KIND,
    RETURNED_CLASS,
    RETURNED_NOT_LIVE,
    RETURNED_NOT_COUNTED,
    RETURNED_ALL_FREE,
    RETURNED
};

enum {
    SOURCE_EMPTY = 0,
    SOURCE_KIND,
    SOURCE_STATE,
    SOURCE_USED,                /* these once it is chosen */
    SOURCE_LISTED,
    SOURCE_OTHER_KIND,
    SOURCE_OTHER_SIZE,
    SOURCE_EMPTIED,
    SOURCE_ENDED,
    SOURCES
};


static void
expect_abort(void)
{
    int  fd;

    fd = open("/dev/null", O_WRONLY);
    (void) dup2(fd, STDERR_FILENO);
    (void) setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
    (void) signal(SIGABRT, SIG_DFL);
}


/* In a child, each of these ends in an assertion, and the heap is broken. */

static void
each_aborts(void (*run)(int), int n)
{
    int    what, status;
    pid_t  pid;

    for (what = 0; what < n; what++) {
        pid = fork();

        if (pid == 0) {
            expect_abort();
            heap_lock();
            run(what);
            _exit(0);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
            fail_msg("number %d went unnoticed", what);
        }

        /* it died with the lock */

        assert_int_equal(kv_heap_lock(heap), KV_DEAD);
        kv_heap_format(heap);
    }
}


static void
misuse(int what)
{
    unsigned char  *p, *q;

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
}


/* Two sparse pages of one class, numbers 0 and 1, and a free one. */

static unsigned char *
sparse_pages(void)
{
    void           *whole;
    unsigned        i, n;
    unsigned char  *p[2 * KV_PAGE_SIZE / 104];

    for (n = 0; heap->fresh < 2 || heap->page[1].live < heap->page[0].live; n++)
    {
        p[n] = kv_heap_alloc(heap, KV_HEAP_ENTRY, 104);
    }

    whole = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);
    kv_heap_free(heap, whole);

    for (i = 0; i < n; i++) {
        if (i % (n / 2) >= 100) {
            kv_heap_free(heap, p[i]);
        }
    }

    heap_check();

    return p[0];
}


/* Each line is seen by one assertion where an object is given out. */

static void
damage_given(int what)
{
    unsigned            i;
    kv_heap_page_t     *page;
    kv_heap_partial_t  *partial;

    (void) sparse_pages();

    page = &heap->page[0];
    partial = &heap->partial[KV_HEAP_ENTRY][page->class];

    for (i = 0; i < 2; i++) {
        switch (what) {

        case GIVEN_DRAINED:     page[i].state = KV_PAGE_DRAINED;    break;
        case GIVEN_KIND:        page[i].kind = KV_HEAP_PIECE;       break;
        case GIVEN_CLASS:       page[i].class--;                    break;
        case GIVEN_NEVER_USED:  partial->head[1] = heap->fresh;     break;
        case FREE_IN_USE:       page[2].state = KV_PAGE_USED;       break;
        case FREE_BEYOND:       heap->free = heap->fresh;           break;
        case FREE_PAST_END:     heap->free = KV_HEAP_NONE;
                                heap->fresh = heap->pages;          break;
        }
    }

    (void) kv_heap_alloc(heap, KV_HEAP_ENTRY, what < FREE_IN_USE ? 104 : 5000);
}


/* The same where one comes back, and where a page does. */

static void
damage_returned(int what)
{
    void            *p, *whole;
    kv_heap_page_t  *page;

    p = sparse_pages();
    whole = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);

    page = &heap->page[0];

    switch (what) {

    case RETURNED_STATE:        page->state = 77;                   break;
    case RETURNED_KIND:         page->kind = KV_HEAP_KINDS;         break;
    case RETURNED_CLASS:        page->class = KV_HEAP_CLASSES;      break;
    case RETURNED_NOT_LIVE:     page->live = 0;                     break;
    case RETURNED_NOT_COUNTED:  heap->used[KV_HEAP_ENTRY] = 103;    break;
    case RETURNED_ALL_FREE:     heap->free_pages = heap->pages;
                                p = whole;                          break;
    }

    kv_heap_free(heap, p);
}


/* The same in a page that is emptied. */

static void
damage_source(int what)
{
    kv_heap_page_t  *page;
    kv_heap_evac_t   ev;

    (void) sparse_pages();

    page = &heap->page[0];

    if (what < SOURCE_USED) {
        switch (what) {

        case SOURCE_EMPTY:      page[0].live = page[1].live = 0;    break;
        case SOURCE_KIND:       page[0].kind = page[1].kind
                                             = KV_HEAP_SYSTEM;      break;
        case SOURCE_STATE:      page[0].state = page[1].state
                                              = KV_PAGE_DRAINED;    break;
        }

        (void) kv_heap_evac_begin(heap, &ev, false);
        return;
    }

    assert_int_equal(kv_heap_evac_begin(heap, &ev, false), KV_OK);

    page = &heap->page[ev.page];

    switch (what) {

    case SOURCE_USED:           page->state = KV_PAGE_USED;         break;
    case SOURCE_LISTED:         page->bucket = 1;                   break;
    case SOURCE_OTHER_KIND:     ev.kind = KV_HEAP_PIECE;            break;
    case SOURCE_OTHER_SIZE:     ev.size = 112;                      break;
    case SOURCE_EMPTIED:        page->live = 0;                     break;
    case SOURCE_ENDED:          page->state = KV_PAGE_USED;
                                kv_heap_evac_end(heap, &ev, true);  return;
    }

    (void) kv_heap_evac_next(heap, &ev);
}


static void
test_misuse(void **state)
{
    (void) state;

    each_aborts(misuse, MISUSES);
}


/* What the heap gives out, and takes back, it looks at on both sides. */

static void
test_damage(void **state)
{
    (void) state;

    each_aborts(damage_given, GIVEN);
    each_aborts(damage_returned, RETURNED);
    each_aborts(damage_source, SOURCES);
}


/*
 * The tests rely on kv_heap_check(): it has to see damage.  A wrong value of
 * something is found, and said to be what it is.
 */

#define sees(what, value, text)                                               \
    do {                                                                      \
        __typeof__(what)  was = (what);                                       \
                                                                              \
        (what) = (__typeof__(what)) (value);                                  \
        damaged(text);                                                        \
        (what) = was;                                                         \
        heap_check();                                                         \
    } while (0)


static void
damaged(const char *text)
{
    kv_err_t  err;

    assert_int_equal(kv_heap_check(heap, &err), KV_DAMAGED);

    if (strstr(err.text, text) == NULL) {
        fail_msg("expected \"%s\", but: %s", text, err.text);
    }
}


static uint32_t
page_of(const void *p)
{
    return (uint32_t) (((uintptr_t) p - (uintptr_t) heap - heap->base)
                       / KV_PAGE_SIZE);
}


/* A page alone: its descriptor, and the bits that say what is handed out. */

static void
test_check_sees_pages(void **state)
{
    uint64_t               *bits;
    kv_heap_page_t         *small, *large;
    const kv_heap_class_t  *cl;

    (void) state;

    heap_lock();

    bits = kv_heap_alloc(heap, KV_HEAP_ENTRY, 100);
    small = &heap->page[page_of(bits)];
    bits = (uint64_t *) kv_heap_address(heap, page_of(bits));
    large = &heap->page[page_of(kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000))];
    heap_check();

    sees(*bits, *bits ^ 4, "number of set bits");
    sees(small->live, small->live + 1, "number of set bits");
    sees(large->bits, large->bits ^ 4, "number of set bits");

    sees(small->state, KV_PAGE_DRAINED + 1, "state, kind or class");
    sees(small->kind, KV_HEAP_KINDS, "state, kind or class");
    sees(small->class, KV_HEAP_CLASSES, "state, kind or class");

    sees(small->live, 0, "count of live objects");
    cl = &kv_heap_classes[large->class];
    sees(large->live, cl->objects + 1, "count of live objects");
    sees(large->bucket, large->bucket + 1, "bucket");

    assert_true(cl->start == 0 && cl->objects < 64);
    sees(large->bits, large->bits & ~(1ull << 63), "bits past the last object");

    cl = &kv_heap_classes[small->class];
    assert_true(cl->start != 0 && cl->objects % 64 != 0);
    sees(small->bits, small->bits ^ 1, "word of full words");
    bits += (cl->objects + 63) / 64 - 1;
    sees(*bits, *bits & ~(1ull << 63), "bits past the last object");

    kv_heap_unlock(heap);
}


/* Pages among each other: the free ones, and those with free objects. */

static void
test_check_sees_lists(void **state)
{
    void               *p[64];
    uint32_t            n, one, two, other, full, free;
    unsigned            objects, bucket;
    kv_heap_page_t     *page;
    kv_heap_partial_t  *partial;

    (void) state;

    heap_lock();

    page = heap->page;
    p[0] = kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000);
    one = page_of(p[0]);
    objects = kv_heap_classes[page[one].class].objects;
    assert_true(2 * objects < 64);

    /* two pages that lack an object each, a full one of others, a free one */

    for (n = 1; n < 2 * objects; n++) {
        p[n] = kv_heap_alloc(heap, KV_HEAP_ENTRY, 5000);
    }

    two = page_of(p[objects]);
    kv_heap_free(heap, p[0]);
    kv_heap_free(heap, p[objects]);
    other = page_of(kv_heap_alloc(heap, KV_HEAP_PIECE, 5000));
    full = page_of(kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE));
    p[0] = kv_heap_alloc(heap, KV_HEAP_ENTRY, KV_PAGE_SIZE);
    free = page_of(p[0]);
    kv_heap_free(heap, p[0]);
    heap_check();

    partial = &heap->partial[KV_HEAP_ENTRY][page[one].class];
    bucket = page[one].bucket;
    assert_int_equal(page[two].bucket, bucket);
    one = partial->head[bucket];
    two = page[one].next;

    sees(heap->fresh, heap->pages + 1, "pages used of");
    sees(heap->free_pages, heap->free_pages + 1, "free pages, counted");
    sees(heap->used[KV_HEAP_PIECE], 1, "bytes, counted");
    sees(partial->free, partial->free + 1, "free objects, counted");

    sees(heap->free, full, "in the list of free pages");
    sees(heap->free, heap->fresh, "in the list of free pages");
    sees(page[free].next, free, "in the list of free pages");
    sees(heap->free, KV_HEAP_NONE, "are on no list");

    sees(partial->filled, 0, "is not what its bit says");
    sees(partial->head[bucket], heap->fresh, "belong in the list of kind");
    sees(partial->head[bucket], free, "belong in the list of kind");
    sees(partial->head[bucket], other, "belong in the list of kind");
    sees(page[two].prev, two, "belong in the list of kind");
    sees(page[two].next, one, "belong in the list of kind");
    sees(page[one].prev, one, "does not know its last page");

    partial->head[bucket] = KV_HEAP_NONE;
    partial->filled ^= 1u << bucket;
    damaged("pages in lists, expected");
    partial->head[bucket] = one;
    partial->filled ^= 1u << bucket;
    heap_check();

    sees(heap->evacuated, heap->fresh, "is not being evacuated");
    sees(heap->evacuated, one, "is not being evacuated");

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
        TEST(test_damage),
        TEST(test_check_sees_pages),
        TEST(test_check_sees_lists),
        TEST(test_poison)
    };

    return cmocka_run_group_tests_name("heap check", tests, NULL, NULL);
}
