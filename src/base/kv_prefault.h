
/*
 * Getting the zone's memory from the kernel before it is used, by a thread of
 * its own.  The first touch of a page of shared memory costs a fault and its
 * clearing, more than it takes to fill it: a process that is about to fill very
 * many saves that time.
 *
 * The thread changes only page tables.  If it cannot be made, or the kernel
 * lacks the call (Linux has it from 5.14 on, madvise(2), MADV_POPULATE_WRITE),
 * the memory comes when it is used.
 */


#ifndef KV_PREFAULT_H
#define KV_PREFAULT_H


#include <pthread.h>

#include "base/kv_base.h"


typedef struct {
    char             *p;
    size_t            n;
    bool              running;
    pthread_t         thread;

    pthread_mutex_t   lock;
    pthread_cond_t    more;
    size_t            used;       /* of the last kv_prefault_used() */
    bool              stop;
} kv_prefault_t;


/*
 * Begins with the `n` bytes at `p`, in order; both are rounded to pages.  Other
 * threads may use them meanwhile.  Does nothing for less than 2 MiB, which are
 * not worth a thread.  `pf` is the caller's, and must not move until
 * kv_prefault_end().
 */
void kv_prefault_begin(kv_prefault_t *pf, void *p, size_t n);

/*
 * `used` of these bytes are in use by now.  The thread is never more than 64
 * MiB ahead of that, because the expected use may never come.
 */
void kv_prefault_used(kv_prefault_t *pf, size_t used);

/* Ends the thread, whatever is left; waits for 2 MiB at most. */
void kv_prefault_end(kv_prefault_t *pf);

/*
 * Requests huge pages, where the administrator lets shared memory have them on
 * request: /sys/kernel/mm/transparent_hugepage/shmem_enabled is `advise`.
 * Lookups among very many keys then spend less on page tables.
 */
void kv_prefault_huge(void *p, size_t n);


#endif /* KV_PREFAULT_H */
