
/*
 * Memory that a thread needs for one task: mapped from the system, and all of
 * it given back.  Much of what goes through malloc() and free() stays with the
 * thread that used it, and a pool has many threads, each of which does the task
 * once in a while.
 */


#ifndef KV_MMAP_H
#define KV_MMAP_H


#include <sys/mman.h>

#include "base/kv_base.h"


/* `size` bytes, zeroed, or NULL. */

static inline void *
kv_mmap_alloc(size_t size)
{
    void  *p;

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1,
             0);

    return p == MAP_FAILED ? NULL : p;
}


/* `size` as for kv_mmap_alloc(); `p` may be NULL. */

static inline void
kv_mmap_free(void *p, size_t size)
{
    if (p) {
        (void) munmap(p, size);
    }
}


#endif /* KV_MMAP_H */
