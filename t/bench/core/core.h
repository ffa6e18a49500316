
/*
 * What the parts of t/bench/core.c share.  They are one program: a part a
 * subject, and what all of them measure with.
 */


#ifndef BENCH_CORE_H
#define BENCH_CORE_H


#include <pthread.h>

#include "store/kv_background.h"
#include "store/kv_batch.h"


#define BENCH_LIST      8            /* numbers in an option */
#define BENCH_ROUNDS    64
#define BENCH_KEY       16           /* bytes of a key, where it is fixed */
#define BENCH_FLIGHT    1024         /* operations in flight */


/* A store in a directory of its own, which goes with it. */

typedef struct {
    kv_store_conf_t     conf;
    kv_store_t         *store;
    void               *mem;
    size_t              size;
    int                 dirfd;
    bool                keep;         /* the directory */
    char                path[512];
} bench_t;


/* The threads that nginx has in its pool, one for each kind of work. */

typedef struct {
    kv_store_t         *store;
    pthread_t           thread[2];
    _Atomic int         id[2];        /* the kernel's; 0: not yet */
    pthread_mutex_t     lock;
    pthread_cond_t      cond;
    unsigned            todo;
    bool                quit;
} pool_t;


/* Operations in flight, the oldest first. */

typedef struct {
    kv_store_t         *store;
    pool_t              pool;
    kv_op_t            *op[BENCH_FLIGHT];
    unsigned            max;          /* in flight */
    uint64_t            begun;
    uint64_t            done;
    uint64_t            keys;
    uint32_t            value;
} stream_t;


/* The commands. */
void run_lookups(void);
void run_puts(void);
void run_commits(void);
void run_log(void);
void run_recovery(void);
void run_bytes(void);
void run_rewrites(void);
void run_clears(void);
void run_lists(void);
void run_expiry(void);


/* ---- options.c */


/* Says what is wrong with what, and ends the program. */
void fail(const char *what, const char *why);

/* "name=value" of `len` bytes; `known`: the command must have that option. */
void option_set(const char *text, size_t len, bool known);

/* Its text; "" if there is none. */
const char *option(const char *name);

/* All numbers of an option, as in 1,64k,2m; returns how many. */
unsigned option_list(const char *name, uint64_t *list);

/* The first of them. */
uint64_t option_number(const char *name);

/* How many were asked for, BENCH_ROUNDS at most. */
unsigned rounds_wanted(void);

/*
 * Of several rates the median, or with take=best the highest: what else the
 * machine does can only lower it.
 */
double figure(double *list, unsigned n);


/* ---- store.c */


extern kv_io_t                 io;           /* counts what is written */
extern kv_io_t                 null_io;      /* and writes nothing */
extern _Thread_local uint64_t  written;      /* by this thread, to files */
extern _Atomic uint64_t        committer_written;
extern char                    filler[1u << 20];

/* Nanoseconds of processor time that this thread has had. */
uint64_t thread_cpu_ns(void);

/* Counts in `written`, and writes. */
ssize_t count_pwritev(kv_io_t *table, int fd, const struct iovec *iov, int n,
    off_t offset);

/* Counts in `written`, and writes nothing. */
ssize_t null_pwritev(kv_io_t *table, int fd, const struct iovec *iov, int n,
    off_t offset);

/* Does nothing. */
int null_fallocate(kv_io_t *table, int fd, off_t offset, off_t len);

/* A directory below the option dir, or that itself if it is to be kept. */
void bench_dir(bench_t *bench, bool keep);

/* What the option cluster=1 sets conf.cluster to; NULL without it. */
const char *bench_cluster(void);

/* Removes it, unless it is to be kept. */
void bench_remove_dir(bench_t *bench);

/* Starts on what the directory holds; returns the seconds that it took. */
double bench_start(bench_t *bench, size_t size, kv_io_t *table);

/* Frees the store and its zone. */
void bench_stop(bench_t *bench);

/* Bytes of a zone for these keys, and half as much again. */
size_t bench_size(uint64_t keys, uint64_t key_len, uint64_t value_len);

/* Fills a store that is not in use yet, as recovery does. */
void bench_load(bench_t *bench, uint64_t keys, size_t key_len, uint32_t value);

void bench_heap_stat(bench_t *bench, kv_heap_stat_t *st);

/* A put of the key of this number, not submitted.  NULL: it was refused. */
kv_op_t *bench_put(kv_store_t *store, uint64_t id, uint32_t value);

/*
 * Commits what was submitted, in this thread.  It is the only one that writes:
 * to wait for others, as a committer does, would be in vain.
 */
void bench_commit(kv_store_t *store);

/* The result of an operation that was committed. */
kv_rc_t bench_result(kv_store_t *store, kv_op_t *op);


/* ---- stream.c */


/* Two threads for this store, with nothing to do yet. */
void pool_start(pool_t *pool, kv_store_t *store);

/* Ends them when they have done what they were given. */
void pool_stop(pool_t *pool);

/* The kernel's number of the thread for that work. */
int pool_thread_id(pool_t *pool, unsigned todo);

/* Gives the threads work: KV_TODO_...; returns at once. */
void pool_post_tasks(pool_t *pool, unsigned todo);

/* `store` is one that was attached, or the first. */
void stream_start(stream_t *s, kv_store_t *store, uint64_t keys,
    uint32_t value, unsigned max);

/* Waits for what is in flight, ends the threads, closes the eventfd. */
void stream_stop(stream_t *s);

/* Answers those that are done; `more` says whether others take their place. */
void stream_process_events(stream_t *s, bool more);


/* ---- keys and numbers */


/* Cheap beside a lookup (xorshift64*: Marsaglia 2003, Vigna 2014). */

static inline uint64_t
random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;

    return *state * 0x2545f4914f6cdd1d;
}


static inline uint64_t
random_below(uint64_t *state, uint64_t n)
{
    return (uint64_t) (((unsigned __int128) random_next(state) * n) >> 64);
}


/* 32 bits as eight letters, A to P. */

static inline uint64_t
key_letters(uint64_t n)
{
    n = (n | n << 16) & 0x0000ffff0000ffff;
    n = (n | n << 8) & 0x00ff00ff00ff00ff;
    n = (n | n << 4) & 0x0f0f0f0f0f0f0f0f;

    return n + 0x4141414141414141;
}


static inline void
key_make(char *key, uint64_t id)
{
    uint64_t  half[2];

    half[0] = key_letters(id >> 32);
    half[1] = key_letters(id & 0xffffffff);

    memcpy(key, half, sizeof(half));
}


#endif /* BENCH_CORE_H */
