
/*
 * Memory got before its use; see kv_prefault.h.
 */


#include <signal.h>
#include <sys/mman.h>

#include "base/kv_prefault.h"


/* the name is missing in the C library's headers of before Linux 5.14 */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE  23
#endif

/* bytes requested at once: some milliseconds at most */
#define KV_PREFAULT_STEP     (2u << 20)

/* how far the thread may be ahead of the use; bytes */
#define KV_PREFAULT_LEAD     (64u << 20)

#define KV_PREFAULT_PAGE     4096u


static void *kv_prefault_run(void *data);
static bool kv_prefault_wait(kv_prefault_t *pf, size_t i);


void
kv_prefault_begin(kv_prefault_t *pf, void *p, size_t n)
{
    sigset_t   all, old;
    uintptr_t  from, to;

    from = (uintptr_t) p & ~(uintptr_t) (KV_PREFAULT_PAGE - 1);
    to = kv_align((uintptr_t) p + n, KV_PREFAULT_PAGE);

    pf->p = (char *) from;
    pf->n = to - from;
    pf->used = 0;
    pf->stop = false;

    pf->running = false;

    if (n < KV_PREFAULT_STEP) {
        return;
    }

    (void) pthread_mutex_init(&pf->lock, NULL);
    (void) pthread_cond_init(&pf->more, NULL);

    /* signals are for the thread that waits for them */

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    pf->running = pthread_create(&pf->thread, NULL, kv_prefault_run, pf)
                   == 0;

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
}


void
kv_prefault_used(kv_prefault_t *pf, size_t used)
{
    if (!pf->running) {
        return;
    }

    (void) pthread_mutex_lock(&pf->lock);
    pf->used = used;
    (void) pthread_cond_signal(&pf->more);
    (void) pthread_mutex_unlock(&pf->lock);
}


void
kv_prefault_end(kv_prefault_t *pf)
{
    if (!pf->running) {
        return;
    }

    (void) pthread_mutex_lock(&pf->lock);
    pf->stop = true;
    (void) pthread_cond_signal(&pf->more);
    (void) pthread_mutex_unlock(&pf->lock);

    (void) pthread_join(pf->thread, NULL);

    pf->running = false;
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
    kv_prefault_t  *pf;

    pf = data;

    for (i = 0; i < pf->n && kv_prefault_wait(pf, i); i += n) {
        n = kv_min(pf->n - i, KV_PREFAULT_STEP);

        if (madvise(pf->p + i, n, MADV_POPULATE_WRITE) == -1) {
            break;
        }
    }

    return NULL;
}


/* Waits until byte `i` may be got; false if the thread must end. */

static bool
kv_prefault_wait(kv_prefault_t *pf, size_t i)
{
    bool  go;

    (void) pthread_mutex_lock(&pf->lock);

    while (!pf->stop && i >= pf->used + KV_PREFAULT_LEAD) {
        (void) pthread_cond_wait(&pf->more, &pf->lock);
    }

    go = !pf->stop;

    (void) pthread_mutex_unlock(&pf->lock);

    return go;
}
