
/*
 * What every file of the store core shares: result codes, the error text for
 * people, and limits.  The core is C11 + POSIX and includes no nginx header.
 */


#ifndef KV_BASE_H
#define KV_BASE_H


/*
 * Assertions stay on in every build: they are what keeps a broken invariant
 * from the disk.
 */
#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>


/*
 * Results.  A function names those that it returns; KV_OK is always zero,
 * the others are negative.
 */

typedef enum {
    KV_OK = 0,
    KV_ERROR = -1,          /* I/O error: the store must stop taking writes */
    KV_AGAIN = -2,          /* not now: wait, or come back with less; an error
                               that may pass (kv_io_rc()) */
    KV_NOT_FOUND = -3,
    KV_NO_MEMORY = -4,      /* the zone is full */
    KV_NO_SPACE = -5,       /* the disk is full */
    KV_DAMAGED = -6,        /* a file is not as it was written; see kv_err_t */
    KV_DEAD = -7,           /* a lock's owner died in a change: rebuild */
    KV_DECLINED = -8,       /* nothing to do */
    KV_BUSY = -9,           /* another process holds it */
    KV_UNAVAILABLE = -10,   /* recovering, or no longer taking writes */
    KV_CANCELLED = -11,     /* given up: the process must quit */
    KV_PRECONDITION = -12,  /* a write's condition is false */
    KV_NOT_INTEGER = -13,   /* what is to be incremented is no number */
    KV_OVERFLOW = -14,      /* the sum has no 64 bits */
    KV_REFUSED = -15        /* a write met an error that may pass, and was
                               not done */
} kv_rc_t;


#define KV_KEY_MAX        16384u             /* bytes of a key */
#define KV_VALUE_MAX      (256u << 20)       /* bytes a limit may allow */
#define KV_ADDRESS_MAX    263u               /* bytes of a node's address */

#define KV_CACHE_LINE     64

#define kv_align(n, a)    (((n) + ((a) - 1)) & ~((__typeof__(n)) (a) - 1))
#define kv_min(a, b)      ((a) < (b) ? (a) : (b))
#define kv_max(a, b)      ((a) > (b) ? (a) : (b))

#define kv_get_relaxed(v)     atomic_load_explicit(&(v), memory_order_relaxed)
#define kv_set_relaxed(v, n)  atomic_store_explicit(&(v), n,                  \
                                                    memory_order_relaxed)

#define kv_likely(x)      __builtin_expect(!!(x), 1)
#define kv_unlikely(x)    __builtin_expect(!!(x), 0)


/*
 * A full fence between a store and a later load.  ThreadSanitizer does not
 * know fences; a locked instruction on a line of one's own is one as well.
 */

#ifdef __SANITIZE_THREAD__
static inline void
kv_fence(void)
{
    _Atomic int  dummy = 0;

    (void) atomic_fetch_add(&dummy, 1);
}
#else
#define kv_fence()        atomic_thread_fence(memory_order_seq_cst)
#endif


/* Nanoseconds, monotonic. */

static inline uint64_t
kv_now_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


/* Nanoseconds, and milliseconds, since the epoch: the machine's clock. */

static inline uint64_t
kv_wall_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


static inline uint64_t
kv_wall_ms(void)
{
    return kv_wall_ns() / 1000000;
}


/*
 * An error for people: one line that says what happened, where, and what to
 * do instead.  The caller owns it; a function that fails fills it, one that
 * succeeds leaves it alone.  `error` is errno as it was when the text was
 * made: it means something where a call to the system failed.
 */

typedef struct {
    int   error;
    char  text[768];
} kv_err_t;


static inline void __attribute__((format(printf, 2, 3)))
kv_err_set(kv_err_t *err, const char *fmt, ...)
{
    va_list  args;

    if (err == NULL) {
        return;
    }

    err->error = errno;

    va_start(args, fmt);
    (void) vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
}


/*
 * Where the core's own messages go.  Levels are syslog's (3 error, 4 warning,
 * 5 notice), as nginx numbers them too, plus one: nginx counts from 1 (emerg).
 */

typedef enum {
    KV_LOG_ALERT = 2,
    KV_LOG_ERR = 4,
    KV_LOG_WARN = 5,
    KV_LOG_NOTICE = 6,
    KV_LOG_INFO = 7
} kv_log_level_t;

typedef void (*kv_log_pt)(void *ctx, kv_log_level_t level, const char *text);


#endif /* KV_BASE_H */
