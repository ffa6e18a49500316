
/*
 * How the kernel gives the zone its memory.
 *
 * It can be got before it is used, by a thread of its own.  A page of shared
 * memory costs a fault and its clearing when it is touched for the first time,
 * more than it takes to fill it: a process that is about to fill very many does
 * better to have that done meanwhile.
 *
 * The thread changes nothing but page tables, and it is of no consequence if
 * it cannot be had or the kernel cannot do it (Linux does from 5.14 on,
 * madvise(2), MADV_POPULATE_WRITE): the memory then comes when it is used.
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
    size_t            used;       /* as kv_prefault_used() said last */
    bool              stop;
} kv_prefault_t;


/*
 * Begins with the `n` bytes at `p`, in order; both are rounded to pages.  Other
 * threads may use them meanwhile.  Less than 2 MiB are not worth a thread: then
 * nothing is done.  `pop` is the caller's, and must stay where it is until
 * kv_prefault_end().
 */
void kv_prefault_begin(kv_prefault_t *pf, void *p, size_t n);

/*
 * `used` of these bytes are in use by now.  The thread is never more than
 * 64 MiB ahead of that, for what is expected may never come.
 */
void kv_prefault_used(kv_prefault_t *pf, size_t used);

/* Gives up what is not done yet; waits for 2 MiB at most. */
void kv_prefault_end(kv_prefault_t *pf);

/*
 * Asks for huge pages, where the administrator lets shared memory have them on
 * request: /sys/kernel/mm/transparent_hugepage/shmem_enabled
 * says `advise`.  Lookups among very many keys then spend less on page tables.
 */
void kv_prefault_huge(void *p, size_t n);


#endif /* KV_PREFAULT_H */
