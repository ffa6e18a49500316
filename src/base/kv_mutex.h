
/*
 * A robust, process-shared mutex: when its owner dies, the next to lock it gets
 * KV_DEAD, and holds it.  Thin over pthreads, so that EOWNERDEAD is handled in
 * one place.
 */


#ifndef KV_MUTEX_H
#define KV_MUTEX_H


#include <errno.h>
#include <pthread.h>

#include "base/kv_base.h"


typedef struct {
    pthread_mutex_t  m;
} kv_mutex_t;


/* Makes a mutex in shared memory.  KV_OK or KV_ERROR. */
static inline kv_rc_t
kv_mutex_create(kv_mutex_t *mtx)
{
    int                  rc;
    pthread_mutexattr_t  attr;

    if (pthread_mutexattr_init(&attr) != 0) {
        return KV_ERROR;
    }

    rc = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);

    if (rc == 0) {
        rc = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    }

    if (rc == 0) {
        rc = pthread_mutex_init(&mtx->m, &attr);
    }

    (void) pthread_mutexattr_destroy(&attr);

    return rc == 0 ? KV_OK : KV_ERROR;
}


static inline kv_rc_t
kv_mutex_result(kv_mutex_t *mtx, int rc)
{
    switch (rc) {

    case 0:
        return KV_OK;

    case EBUSY:
    case ETIMEDOUT:
        return KV_BUSY;

    case EOWNERDEAD:
        (void) pthread_mutex_consistent(&mtx->m);
        return KV_DEAD;

    default:
        return KV_ERROR;
    }
}


/*
 * As kv_mutex_lock(), or KV_BUSY if a living thread has held it for `ms`
 * milliseconds: it may be one of a process that was stopped (SIGSTOP).
 */
static inline kv_rc_t
kv_mutex_lock_for(kv_mutex_t *mtx, unsigned ms)
{
    struct timespec  end;

    (void) clock_gettime(CLOCK_REALTIME, &end);

    end.tv_sec += (time_t) (ms / 1000);
    end.tv_nsec += (long) (ms % 1000) * 1000000;

    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }

    return kv_mutex_result(mtx, pthread_mutex_timedlock(&mtx->m, &end));
}


/* As kv_mutex_lock(), or KV_BUSY at once if a living thread holds it. */
static inline kv_rc_t
kv_mutex_trylock(kv_mutex_t *mtx)
{
    return kv_mutex_result(mtx, pthread_mutex_trylock(&mtx->m));
}


/*
 * KV_OK: held.  KV_DEAD: held too, and usable again, but the last owner died
 * with it.  KV_ERROR: not held; cannot happen to a mutex made above.
 *
 * Looks again each second: a wake-up is lost if the waiter that gets it is
 * killed after another thread has taken the mutex, whose unlocking then knows
 * of no other waiter.
 */
static inline kv_rc_t
kv_mutex_lock(kv_mutex_t *mtx)
{
    kv_rc_t  rc;

    rc = kv_mutex_trylock(mtx);

    while (rc == KV_BUSY) {
        rc = kv_mutex_lock_for(mtx, 1000);
    }

    return rc;
}


static inline void
kv_mutex_unlock(kv_mutex_t *mtx)
{
    (void) pthread_mutex_unlock(&mtx->m);
}


#endif /* KV_MUTEX_H */
