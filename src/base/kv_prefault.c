
/*
 * Memory got beforehand; see kv_prefault.h.
 */


#include <signal.h>
#include <sys/mman.h>

#include "base/kv_prefault.h"


/* the name is missing in the C library's headers of before Linux 5.14 */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE  23
#endif

/* bytes asked for at once: some milliseconds at most */
#define KV_PREFAULT_STEP     (2u << 20)

/* how far it may be ahead of its use */
#define KV_PREFAULT_LEAD     (64u << 20)

#define KV_PREFAULT_PAGE     4096u


static void *kv_prefault_run(void *data);
static bool kv_prefault_wait(kv_prefault_t *pop, size_t i);


void
kv_prefault_begin(kv_prefault_t *pop, void *p, size_t n)
{
    sigset_t   all, old;
    uintptr_t  from, to;

    from = (uintptr_t) p & ~(uintptr_t) (KV_PREFAULT_PAGE - 1);
    to = kv_align((uintptr_t) p + n, KV_PREFAULT_PAGE);

    pop->p = (char *) from;
    pop->n = to - from;
    pop->used = 0;
    pop->stop = false;

    pop->running = false;

    if (n < KV_PREFAULT_STEP) {
        return;
    }

    (void) pthread_mutex_init(&pop->lock, NULL);
    (void) pthread_cond_init(&pop->more, NULL);

    /* signals are for the thread that waits for them */

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    pop->running = pthread_create(&pop->thread, NULL, kv_prefault_run, pop)
                   == 0;

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
}


void
kv_prefault_used(kv_prefault_t *pop, size_t used)
{
    if (!pop->running) {
        return;
    }

    (void) pthread_mutex_lock(&pop->lock);
    pop->used = used;
    (void) pthread_cond_signal(&pop->more);
    (void) pthread_mutex_unlock(&pop->lock);
}


void
kv_prefault_end(kv_prefault_t *pop)
{
    if (!pop->running) {
        return;
    }

    (void) pthread_mutex_lock(&pop->lock);
    pop->stop = true;
    (void) pthread_cond_signal(&pop->more);
    (void) pthread_mutex_unlock(&pop->lock);

    (void) pthread_join(pop->thread, NULL);

    pop->running = false;
}


void
kv_prefault_huge(void *p, size_t n)
{
    uintptr_t  from, to;

    from = kv_align((uintptr_t) p, KV_PREFAULT_PAGE);
    to = ((uintptr_t) p + n) & ~(uintptr_t) (KV_PREFAULT_PAGE - 1);

    if (from < to) {
        (void) madvise((void *) from, to - from, MADV_HUGEPAGE);
    }
}


static void *
kv_prefault_run(void *data)
{
    size_t          i, n;
    kv_prefault_t  *pop;

    pop = data;

    for (i = 0; i < pop->n && kv_prefault_wait(pop, i); i += n) {
        n = kv_min(pop->n - i, KV_PREFAULT_STEP);

        if (madvise(pop->p + i, n, MADV_POPULATE_WRITE) == -1) {
            break;
        }
    }

    return NULL;
}


/* Until byte `i` may be got; false if no more is wanted. */

static bool
kv_prefault_wait(kv_prefault_t *pop, size_t i)
{
    bool  go;

    (void) pthread_mutex_lock(&pop->lock);

    while (!pop->stop && i >= pop->used + KV_PREFAULT_LEAD) {
        (void) pthread_cond_wait(&pop->more, &pop->lock);
    }

    go = !pop->stop;

    (void) pthread_mutex_unlock(&pop->lock);

    return go;
}
