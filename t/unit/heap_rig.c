
/*
 * The heap's fixture: a heap in memory that processes share.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/mman.h>

#include "heap_rig.h"
#include "memory/kv_poison.h"


kv_heap_t  *heap;
void       *heap_region;
uint64_t    heap_seed;


uint32_t
heap_rnd(uint32_t n)
{
    heap_seed ^= heap_seed << 13;
    heap_seed ^= heap_seed >> 7;
    heap_seed ^= heap_seed << 17;

    return (heap_seed >> 16) % n;
}


int
heap_setup(void **state)
{
    (void) state;

    heap_seed = 88172645463325252ull;

    heap_region = mmap(NULL, REGION, PROT_READ|PROT_WRITE,
                       MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (heap_region == MAP_FAILED) {
        return -1;
    }

    heap = kv_heap_create(heap_region, REGION);

    return heap == NULL ? -1 : 0;
}


int
heap_teardown(void **state)
{
    (void) state;

    kv_poison_forget(heap_region, REGION);
    return munmap(heap_region, REGION);
}


void
heap_lock(void)
{
    assert_int_equal(kv_heap_lock(heap), KV_OK);
}


void
heap_check(void)
{
    kv_err_t  err;

    if (kv_heap_check(heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }
}


kv_heap_stat_t
heap_stat_now(void)
{
    kv_heap_stat_t  st;

    kv_heap_stat(heap, &st);

    return st;
}


bool
heap_filled(const unsigned char *p, size_t n, unsigned char c)
{
    return n == 0 || (p[0] == c && memcmp(p, p + 1, n - 1) == 0);
}


uint32_t
heap_objects_in_page(size_t size)
{
    uint32_t  n;

    kv_heap_format(heap);
    heap_lock();

    for (n = 0; heap_stat_now().held <= KV_PAGE_SIZE; n++) {
        assert_non_null(kv_heap_alloc(heap, KV_HEAP_ENTRY, size));
    }

    kv_heap_unlock(heap);

    return n - 1;
}


size_t
heap_random_size(void)
{
    switch (heap_rnd(16)) {

    case 0:
        return 1 + heap_rnd(KV_PAGE_SIZE);

    case 1:
    case 2:
        return 1 + heap_rnd(8192);

    case 3:
        return (1 + heap_rnd(64)) * 64;

    default:
        return 1 + heap_rnd(400);
    }
}
