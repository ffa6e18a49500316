
/*
 * What the store core can do by itself, without nginx.
 *
 *     core help                      says what there is, with all defaults
 *     core lookups keys=10000 rounds=3 take=best
 *
 * Every command prints lines of a name and a value, and nothing else.  A
 * figure that is measured in several rounds is their median, or with
 * take=best the highest; what is compared takes turns.
 *
 * What is not about the disk does without one: there, writes to files count
 * but go nowhere, and keys that only have to be there are put into the map as
 * recovery puts them.
 */


#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "store/kv_background.h"
#include "store/kv_commit.h"


#define BENCH_LIST      8            /* numbers in an option */
#define BENCH_OPTIONS   8            /* of a command */
#define BENCH_ROUNDS    64
#define BENCH_READERS   2
#define BENCH_KEY       16           /* bytes of a key, where it is fixed */
#define BENCH_FLIGHT    1024         /* operations in flight */
#define BENCH_PRODUCERS 16
#define BENCH_SLACK     (BENCH_FLIGHT * BENCH_PRODUCERS)
#define BENCH_TICK      2            /* milliseconds: see race_write() */

#define BENCH_SLOT      16           /* bytes of map a key takes, about */

#define BENCH_ZONE_MIN  (64u << 20)


typedef struct {
    char                name[16];
    char                text[256];
} option_t;


typedef struct {
    const char         *name;
    const char         *options;      /* those it takes, with defaults */
    void              (*run)(void);
    const char         *help;
} command_t;


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
    pthread_mutex_t     lock;
    pthread_cond_t      cond;
    unsigned            todo;
    bool                quit;
} pool_t;


typedef struct {
    pool_t             *pool;
    unsigned            bit;          /* KV_TODO_... */
} pool_thread_t;


/* Threads that look keys up or write, in phases that the main one begins. */

typedef struct race_s  race_t;

typedef struct {
    race_t             *race;
    pthread_t           thread;
    unsigned            number;       /* BENCH_READERS: the writer */
    uint64_t            n;            /* lookups, or puts */
    uint64_t            wall_ns;
    uint64_t            cpu_ns;
} runner_t;

struct race_s {
    bench_t            *bench;
    uint64_t            keys;
    size_t              value;
    uint64_t            rate;         /* puts a second */
    unsigned            readers;      /* of the phase; 0: the end */
    bool                writer;
    pthread_barrier_t   gate;
    _Atomic bool        stop;
    runner_t            runner[BENCH_READERS + 1];
};


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


/* Threads that write, each as much as it can. */

typedef struct crowd_s  crowd_t;

typedef struct {
    crowd_t            *crowd;
    pthread_t           thread;
    uint64_t            done;
    double              per_s;
} producer_t;

struct crowd_s {
    bench_t            *bench;
    uint64_t            keys;
    uint32_t            value;
    uint64_t            ms;
    unsigned            flight;       /* of each */
    pthread_barrier_t   gate;
    producer_t          producer[BENCH_PRODUCERS];
};


/* Keys, numbered without gaps, whose sizes change. */

typedef struct {
    bench_t            *bench;
    uint32_t           *size;         /* of each key's value */
    uint64_t            keys;         /* that are there */
    uint64_t            max;          /* that there may ever be */
    uint64_t            live;         /* bytes that they take */
    uint64_t            full;         /* ... that they are to take */
    bool                payload;      /* keys and values alone count */
    uint64_t            puts;
    uint64_t            rooms;        /* KV_OP_RESERVE */
    uint64_t            refused;      /* puts, after one, too */
} herd_t;


static option_t  options[BENCH_OPTIONS];
static unsigned  noptions;

static kv_io_t                 io, null_io;
static _Thread_local uint64_t  written;      /* by this thread, to files */
static _Atomic uint64_t        committer_written;

static char  filler[1u << 20];


static void
fail(const char *what, const char *why)
{
    fprintf(stderr, "core: %s: %s\n", what, why);
    exit(1);
}


/* ---- options */


static void
option_set(const char *text, size_t len, bool known)
{
    size_t        n;
    unsigned      i;
    const char   *sign;

    sign = memchr(text, '=', len);
    n = sign ? (size_t) (sign - text) : len;

    for (i = 0; i < noptions; i++) {
        if (strlen(options[i].name) == n
            && memcmp(options[i].name, text, n) == 0)
        {
            break;
        }
    }

    if (sign == NULL || n >= sizeof(options[i].name)
        || len - n > sizeof(options[i].text) || (known && i == noptions))
    {
        fail(text, "not an option of this command: see \"core help\"");
    }

    (void) snprintf(options[i].name, sizeof(options[i].name), "%.*s", (int) n,
                    text);
    (void) snprintf(options[i].text, sizeof(options[i].text), "%.*s",
                    (int) (len - n - 1), sign + 1);

    noptions = kv_max(noptions, i + 1);
}


static const char *
option(const char *name)
{
    unsigned  i;

    for (i = 0; i < noptions; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return options[i].text;
        }
    }

    return "";
}


/* All numbers of an option, as in 1,64k,2m; returns how many. */

static unsigned
option_list(const char *name, uint64_t *list)
{
    char        *end;
    unsigned     n;
    const char  *p;

    for (p = option(name), n = 0; n < BENCH_LIST; p = end + 1) {
        list[n] = strtoull(p, &end, 10);

        if (end == p) {
            break;
        }

        switch (*end) {

        case 'k':
            list[n] <<= 10;
            end++;
            break;

        case 'm':
            list[n] <<= 20;
            end++;
            break;

        case 'g':
            list[n] <<= 30;
            end++;
            break;
        }

        n++;

        if (*end == '\0') {
            return n;
        }

        if (*end != ',') {
            break;
        }
    }

    fail(name, "not a number, or a list of at most 8");

    return 0;
}


static uint64_t
option_number(const char *name)
{
    uint64_t  list[BENCH_LIST];

    (void) option_list(name, list);

    return list[0];
}


/* ---- small things */


static uint64_t
thread_cpu_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


static void
sleep_ms(uint64_t ms)
{
    struct timespec  ts;

    ts.tv_sec = (time_t) (ms / 1000);
    ts.tv_nsec = (long) (ms % 1000) * 1000000;

    while (nanosleep(&ts, &ts) == -1 && errno == EINTR) { /* void */ }
}


/* A reader that moves about loses its caches, and two can share a processor. */

static void
stay_on_processor(const cpu_set_t *all, unsigned n)
{
    int        i;
    cpu_set_t  one;

    n %= (unsigned) CPU_COUNT(all);

    for (i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, all) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
            (void) sched_setaffinity(0, sizeof(one), &one);
            return;
        }
    }
}


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


static bool
coprime(uint64_t a, uint64_t b)
{
    uint64_t  rest;

    while (b) {
        rest = a % b;
        a = b;
        b = rest;
    }

    return a == 1;
}


static int
compare_doubles(const void *a, const void *b)
{
    double  x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}


/*
 * Of several rates the median, or with take=best the highest: what else the
 * machine does can only lower it.
 */

static double
figure(double *list, unsigned n)
{
    qsort(list, n, sizeof(double), compare_doubles);

    return strcmp(option("take"), "best") == 0
           ? list[n - 1]
           : (list[n / 2] + list[(n - 1) / 2]) / 2;
}


static unsigned
rounds_wanted(void)
{
    uint64_t  n;

    n = option_number("rounds");

    if (n == 0 || n > BENCH_ROUNDS) {
        fail("rounds", "not from 1 to 64");
    }

    return (unsigned) n;
}


/* ---- the store */


static ssize_t
count_pwritev(kv_io_t *table, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    ssize_t  rc;

    rc = pwritev(fd, iov, n, offset);
    written += rc > 0 ? (uint64_t) rc : 0;
    (void) table;

    return rc;
}


static ssize_t
null_pwritev(kv_io_t *table, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    int      i;
    ssize_t  sum;

    for (i = 0, sum = 0; i < n; i++) {
        sum += (ssize_t) iov[i].iov_len;
    }

    (void) table;
    (void) fd;
    (void) offset;

    return sum;
}


static int
null_fallocate(kv_io_t *table, int fd, off_t offset, off_t len)
{
    (void) table;
    (void) fd;
    (void) offset;
    (void) len;

    return 0;
}


static void
bench_dir(bench_t *bench, bool keep)
{
    bench->keep = keep;

    (void) snprintf(bench->path, sizeof(bench->path), "%s%s", option("dir"),
                    keep ? "" : "/kv_bench.XXXXXX");

    if (!keep && mkdtemp(bench->path) == NULL) {
        fail(bench->path, strerror(errno));
    }

    bench->dirfd = open(bench->path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (bench->dirfd == -1) {
        fail(bench->path, strerror(errno));
    }

    bench->conf.name = "bench";
    bench->conf.path = bench->path;
    bench->conf.sync = KV_SYNC_OFF;
    bench->conf.batch = 100;
    bench->conf.segment = 64u << 20;
    bench->conf.max_value = 10u << 20;
}


static void
bench_remove_dir(bench_t *bench)
{
    DIR            *dir;
    struct dirent  *de;

    if (!bench->keep) {
        dir = opendir(bench->path);

        while (dir && (de = readdir(dir)) != NULL) {
            (void) unlinkat(bench->dirfd, de->d_name, 0);
        }

        if (dir) {
            (void) closedir(dir);
        }

        (void) rmdir(bench->path);
    }

    (void) close(bench->dirfd);
}


/* Starts on what the directory holds; returns the seconds that it took. */

static double
bench_start(bench_t *bench, size_t size, kv_io_t *table)
{
    uint64_t  from;
    kv_err_t  err;

    bench->size = size;
    bench->mem = mmap(NULL, size, PROT_READ|PROT_WRITE,
                      MAP_ANONYMOUS|MAP_SHARED, -1, 0);

    if (bench->mem == MAP_FAILED) {
        fail("zone", strerror(errno));
    }

    from = kv_now_ns();

    if (kv_store_create(&bench->store, &bench->conf, bench->mem, size,
                        KV_WORKERS_MIN, table, bench->dirfd, &err)
        != KV_OK)
    {
        fail("start", err.text);
    }

    return (double) (kv_now_ns() - from) / 1e9;
}


static void
bench_stop(bench_t *bench)
{
    kv_store_destroy(bench->store);
    (void) munmap(bench->mem, bench->size);
}


/* Room for so many keys, and half as much again. */

static size_t
bench_size(uint64_t keys, uint64_t key_len, uint64_t value_len)
{
    return kv_align((size_t) (keys * (key_len + value_len + 64) * 3 / 2)
                    + BENCH_ZONE_MIN, 4096);
}


/* Fills a store that nobody uses yet, as recovery does. */

static void
bench_load(bench_t *bench, uint64_t keys, size_t key_len, uint32_t value)
{
    char         key[KV_KEY_MAX], end[BENCH_KEY];
    size_t       some;
    uint64_t     i, hash;
    kv_zone_t   *zone;
    kv_entry_t  *e;

    zone = bench->store->zone;
    some = kv_min(key_len, sizeof(end));

    memset(key, 'x', sizeof(key));

    for (i = 0; i < keys; i++) {
        key_make(end, i);
        memcpy(key + key_len - some, end + sizeof(end) - some, some);

        if (kv_map_reserve(&zone->map, 1) != 1
            || kv_entry_create(zone->heap, &e, key, (uint16_t) key_len, value)
               != KV_OK)
        {
            fail("load", "the zone is full");
        }

        kv_entry_write(e, 0, filler, value);

        hash = kv_map_hash(&zone->map, key, key_len);
        (void) kv_map_put(&zone->map, hash, e);

        if (i % 16 == 0) {
            kv_map_grow(&zone->map);
        }
    }
}


static void
bench_heap_stat(bench_t *bench, kv_heap_stat_t *st)
{
    if (kv_store_heap_stat(bench->store, st) != KV_OK) {
        fail("heap", "broken");
    }
}


static kv_op_t *
bench_put(kv_store_t *store, uint64_t id, uint32_t value)
{
    char      key[BENCH_KEY];
    kv_op_t  *op;
    size_t    n;
    uint32_t  at;

    key_make(key, id);

    if (kv_store_put(store, key, sizeof(key), value, &op) != KV_OK) {
        return NULL;
    }

    for (at = 0; at < value; at += (uint32_t) n) {
        n = kv_min(value - at, sizeof(filler));

        if (kv_store_write(store, op, at, filler, n) != KV_OK) {
            fail("put", "a value could not be written");
        }
    }

    return op;
}


/*
 * Commits what was submitted, in this thread.  It is the only one that writes:
 * to wait for others, as a committer does, would be in vain.
 */

static void
bench_commit(kv_store_t *store)
{
    store->zone->spin = 0;
    kv_store_commit(store);
}


/* The result of an operation that was committed. */

static kv_rc_t
bench_result(kv_store_t *store, kv_op_t *op)
{
    kv_rc_t  rc;

    if (!kv_store_done(op, &rc)) {
        fail("commit", "an operation is not done");
    }

    kv_store_release(store, op);

    return rc;
}


/* ---- a pool of two threads, as kv_store.h asks for */


static void *
pool_run(void *data)
{
    unsigned        bit;
    pool_t         *pool;
    pool_thread_t  *me;

    me = data;
    pool = me->pool;
    bit = me->bit;
    free(me);

    (void) pthread_mutex_lock(&pool->lock);

    while (!pool->quit || (pool->todo & bit)) {

        if (!(pool->todo & bit)) {
            (void) pthread_cond_wait(&pool->cond, &pool->lock);
            continue;
        }

        pool->todo &= ~bit;
        (void) pthread_mutex_unlock(&pool->lock);

        if (bit == KV_TODO_COMMIT) {
            written = 0;
            kv_store_commit(pool->store);
            (void) atomic_fetch_add(&committer_written, written);

        } else {
            kv_store_background(pool->store);
        }

        (void) pthread_mutex_lock(&pool->lock);
    }

    (void) pthread_mutex_unlock(&pool->lock);

    return NULL;
}


static void
pool_start(pool_t *pool, kv_store_t *store)
{
    unsigned        i;
    pool_thread_t  *thread;

    static const unsigned  bits[] = { KV_TODO_COMMIT, KV_TODO_BACKGROUND };

    memset(pool, 0, sizeof(pool_t));
    pool->store = store;
    (void) pthread_mutex_init(&pool->lock, NULL);
    (void) pthread_cond_init(&pool->cond, NULL);

    for (i = 0; i < 2; i++) {
        thread = malloc(sizeof(pool_thread_t));

        if (thread == NULL) {
            fail("thread", "out of memory");
        }

        thread->pool = pool;
        thread->bit = bits[i];

        if (pthread_create(&pool->thread[i], NULL, pool_run, thread) != 0) {
            fail("thread", "cannot be made");
        }
    }
}


static void
pool_do(pool_t *pool, unsigned todo)
{
    if (todo & KV_TODO_RESET) {
        fail("zone", "it had to be rebuilt");
    }

    if (todo) {
        (void) pthread_mutex_lock(&pool->lock);
        pool->todo |= todo;
        (void) pthread_cond_broadcast(&pool->cond);
        (void) pthread_mutex_unlock(&pool->lock);
    }
}


static void
pool_stop(pool_t *pool)
{
    unsigned  i;

    (void) pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    (void) pthread_cond_broadcast(&pool->cond);
    (void) pthread_mutex_unlock(&pool->lock);

    for (i = 0; i < 2; i++) {
        (void) pthread_join(pool->thread[i], NULL);
    }
}


/* ---- lookups */


static kv_store_t *
race_enter(race_t *race)
{
    kv_err_t     err;
    kv_store_t  *store;

    if (kv_store_attach(&store, &race->bench->conf, race->bench->mem,
                        &null_io, race->bench->dirfd, &err)
        != KV_OK
        || kv_store_enter(store) != KV_OK)
    {
        fail("thread", "no slot");
    }

    return store;
}


static void
race_read(race_t *race, runner_t *me, kv_store_t *store)
{
    char         key[BENCH_KEY];
    uint64_t     n, keys, state;
    unsigned     i;
    kv_entry_t  *e;

    keys = race->keys;
    state = kv_now_ns() * 2 + 1;
    n = 0;

    while (!atomic_load_explicit(&race->stop, memory_order_relaxed)) {

        for (i = 0; i < 256; i++) {
            key_make(key, random_below(&state, keys));

            if (kv_store_read(store, key, sizeof(key), &e) != KV_OK) {
                fail("lookup", "a key is missing");
            }

            kv_store_read_done(store);
        }

        n += 256;
    }

    me->n = n;
}


/*
 * Puts at a fixed rate, a few at a time and committed by the same thread: a
 * little of a processor, so that on a machine with two of them readers are
 * held up by what writing does to them, and not by a writer that runs in
 * their place.  The pauses are longer than a committer stays awake for.
 */

static void
race_write(race_t *race, runner_t *me, kv_store_t *store)
{
    kv_op_t   *op[BENCH_FLIGHT];
    uint64_t   state;
    unsigned   i, n;

    state = kv_now_ns() * 2 + 1;
    n = (unsigned) kv_min(race->rate * BENCH_TICK / 1000, BENCH_FLIGHT);

    while (!atomic_load_explicit(&race->stop, memory_order_relaxed)) {

        for (i = 0; i < n; i++) {
            op[i] = bench_put(store, random_below(&state, race->keys),
                              (uint32_t) race->value);

            if (op[i] == NULL) {
                fail("writer", "the zone is full");
            }

            (void) kv_store_submit(store, op[i]);
        }

        kv_store_commit(store);

        for (i = 0; i < n; i++) {
            if (bench_result(store, op[i]) != KV_OK) {
                fail("writer", "a put failed");
            }
        }

        me->n += n;
        sleep_ms(BENCH_TICK);
    }
}


static void *
race_run(void *data)
{
    bool         mine;
    race_t      *race;
    uint64_t     wall, cpu;
    runner_t    *me;
    cpu_set_t    all;
    kv_store_t  *store;

    me = data;
    race = me->race;
    store = race_enter(race);
    (void) sched_getaffinity(0, sizeof(all), &all);

    for ( ;; ) {
        (void) pthread_barrier_wait(&race->gate);

        if (race->readers == 0) {
            break;
        }

        mine = me->number == BENCH_READERS ? race->writer
                                           : me->number < race->readers;
        me->n = 0;
        wall = kv_now_ns();
        cpu = thread_cpu_ns();

        if (mine && me->number == BENCH_READERS) {
            race_write(race, me, store);

        } else if (mine) {
            stay_on_processor(&all, me->number);
            race_read(race, me, store);
        }

        me->cpu_ns = thread_cpu_ns() - cpu;
        me->wall_ns = kv_now_ns() - wall;

        (void) pthread_barrier_wait(&race->gate);
    }

    kv_store_leave(store);
    kv_store_destroy(store);

    return NULL;
}


/* A phase; *per_s and *per_cpu get lookups per second, of both clocks. */

static void
race_phase(race_t *race, unsigned readers, bool writer, uint64_t ms,
    double *per_s, double *per_cpu, double *share)
{
    unsigned   i;
    runner_t  *r;

    race->readers = readers;
    race->writer = writer;
    atomic_store(&race->stop, false);

    (void) pthread_barrier_wait(&race->gate);
    sleep_ms(ms);
    atomic_store(&race->stop, true);
    (void) pthread_barrier_wait(&race->gate);

    *per_s = 0;
    *per_cpu = 0;

    for (i = 0; i < readers; i++) {
        r = &race->runner[i];
        *per_s += (double) r->n * 1e9 / (double) r->wall_ns;
        *per_cpu += (double) r->n * 1e9 / (double) r->cpu_ns;
    }

    r = &race->runner[BENCH_READERS];
    *share = writer ? (double) r->cpu_ns / (double) r->wall_ns : 0;
}


/*
 * What memory itself takes: reads, two by two, of random words in as many
 * pages as the zone uses, each of which has to wait for the one before.  A
 * lookup has two such: the bucket, which names the entry, and the entry.
 * Returns pairs of reads per second.
 */

static double
race_memory(race_t *race, uint64_t ms)
{
    size_t          size;
    uint64_t        i, n, words, state, from, now, *p;
    kv_heap_stat_t  st;

    bench_heap_stat(race->bench, &st);

    p = kv_heap_pages(race->bench->store->zone->heap, &size);
    words = st.held / sizeof(uint64_t);
    state = kv_now_ns() * 2 + 1;
    from = thread_cpu_ns();
    n = 0;

    do {
        for (i = 0; i < 2 * 1024; i++) {
            state ^= __atomic_load_n(&p[random_below(&state, words)],
                                     __ATOMIC_RELAXED);
        }

        n += 1024;
        now = thread_cpu_ns();

    } while (now - from < ms * 1000000);

    return (double) n * 1e9 / (double) (now - from);
}


static void
race_measure(race_t *race)
{
    char       name[64];
    double     per_s[4][BENCH_ROUNDS], per_cpu[4][BENCH_ROUNDS];
    double     share[4][BENCH_ROUNDS], wall[4], cpu[4];
    double     memory[BENCH_ROUNDS];
    unsigned   i, k, rounds;
    uint64_t   ms;

    static const char *const  kind[] = { "alone", "writer" };

    rounds = rounds_wanted();
    ms = option_number("ms");

    for (i = 0; i < rounds; i++) {
        for (k = 0; k < 4; k++) {
            race_phase(race, 1 + k % 2, k / 2, ms, &per_s[k][i],
                       &per_cpu[k][i], &share[k][i]);
        }

        memory[i] = race_memory(race, ms);
    }

    (void) snprintf(name, sizeof(name), "lookups_%llu",
                    (unsigned long long) race->keys);

    for (k = 0; k < 4; k++) {
        wall[k] = figure(per_s[k], rounds);
        cpu[k] = figure(per_cpu[k], rounds);

        printf("%s_%s_%u_per_s %.0f\n", name, kind[k / 2], 1 + k % 2,
               wall[k]);
        printf("%s_%s_%u_per_cpu_s %.0f\n", name, kind[k / 2], 1 + k % 2,
               cpu[k]);
    }

    for (k = 0; k < 2; k++) {
        printf("%s_%s_ratio %.2f\n", name, kind[k],
               wall[2 * k + 1] / wall[2 * k]);
        printf("%s_%s_cpu_ratio %.2f\n", name, kind[k],
               cpu[2 * k + 1] / cpu[2 * k]);
    }

    printf("%s_writer_share %.3f\n", name, figure(share[3], rounds));
    printf("%s_ns %.1f\n", name, 1e9 / cpu[0]);
    printf("%s_memory_ns %.1f\n", name, 1e9 / figure(memory, rounds));

    (void) fflush(stdout);
}


static void
run_lookups(void)
{
    race_t      race;
    bench_t     bench;
    unsigned    i, k, n;
    uint64_t    keys[BENCH_LIST];

    n = option_list("keys", keys);

    for (i = 0; i < n; i++) {
        memset(&bench, 0, sizeof(bench));
        memset((void *) &race, 0, sizeof(race));

        race.bench = &bench;
        race.keys = keys[i];
        race.value = option_number("value");
        race.rate = option_number("rate");

        bench_dir(&bench, false);
        (void) bench_start(&bench, bench_size(keys[i], BENCH_KEY, race.value),
                           &null_io);
        bench_load(&bench, keys[i], BENCH_KEY, (uint32_t) race.value);

        (void) pthread_barrier_init(&race.gate, NULL, BENCH_READERS + 2);

        for (k = 0; k <= BENCH_READERS; k++) {
            race.runner[k].race = &race;
            race.runner[k].number = k;

            if (pthread_create(&race.runner[k].thread, NULL, race_run,
                               &race.runner[k])
                != 0)
            {
                fail("thread", "cannot be made");
            }
        }

        race_measure(&race);

        race.readers = 0;
        (void) pthread_barrier_wait(&race.gate);

        for (k = 0; k <= BENCH_READERS; k++) {
            (void) pthread_join(race.runner[k].thread, NULL);
        }

        bench_stop(&bench);
        bench_remove_dir(&bench);
    }
}


/* ---- commits, and what they write */


static void
stream_submit(stream_t *s)
{
    kv_op_t     *op;
    kv_store_t  *store;

    store = s->store;
    op = bench_put(store, s->begun % s->keys, s->value);

    if (op == NULL) {
        fail("put", "the zone is full");
    }

    s->op[s->begun % s->max] = op;
    s->begun++;

    pool_do(&s->pool, kv_store_submit(store, op));
}


/* The eventfds of all streams, by their slots. */

static int  stream_wakes[KV_WORKERS_MAX];


/* Answers those that are done; `more` says whether others take their place. */

static void
stream_turn(stream_t *s, bool more)
{
    kv_rc_t         rc;
    uint64_t        n;
    kv_store_t     *store;
    struct pollfd   pfd;

    store = s->store;

    pfd.fd = stream_wakes[store->number];
    pfd.events = POLLIN;

    if (poll(&pfd, 1, KV_STORE_WATCH) == 1) {
        (void) !read(pfd.fd, &n, sizeof(n));
    }

    pool_do(&s->pool, kv_store_todo(store));

    while (s->done < s->begun && kv_store_done(s->op[s->done % s->max], &rc)) {

        if (rc != KV_OK) {
            fail("put", "it was refused");
        }

        kv_store_release(store, s->op[s->done % s->max]);
        s->done++;

        if (more) {
            stream_submit(s);
        }
    }
}


/* `store` is one that was attached, or the first. */

static void
stream_start(stream_t *s, kv_store_t *store, uint64_t keys, uint32_t value,
    unsigned max)
{
    memset(s, 0, sizeof(stream_t));

    if (max == 0 || max > BENCH_FLIGHT) {
        fail("flight", "not from 1 to 1024");
    }

    if (kv_store_enter(store) != KV_OK) {
        fail("start", "no slot");
    }

    stream_wakes[store->number] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    kv_store_wakes(store, stream_wakes, KV_WORKERS_MAX, store->number);

    s->store = store;
    s->keys = keys;
    s->value = value;
    s->max = max;

    pool_start(&s->pool, store);

    while (s->begun < max) {
        stream_submit(s);
    }
}


static void
stream_stop(stream_t *s)
{
    while (s->done < s->begun) {
        stream_turn(s, false);
    }

    pool_stop(&s->pool);

    (void) close(stream_wakes[s->store->number]);

    kv_store_leave(s->store);
}


static void
stream_run_ms(stream_t *s, uint64_t ms)
{
    uint64_t  end;

    for (end = kv_now_ns() + ms * 1000000; kv_now_ns() < end; /* void */ ) {
        stream_turn(s, true);
    }
}


static void
stream_bench(bench_t *bench, kv_sync_t sync, uint64_t keys, uint32_t value)
{
    memset(bench, 0, sizeof(bench_t));

    bench_dir(bench, false);
    bench->conf.sync = sync;
    (void) bench_start(bench, bench_size(keys + BENCH_SLACK, BENCH_KEY, value),
                       &io);
}


/* Each with a slot and threads of its own, as a worker has them. */

static void *
producer_run(void *data)
{
    kv_err_t     err;
    uint64_t     from;
    crowd_t     *crowd;
    stream_t     stream;
    producer_t  *me;
    kv_store_t  *store;

    me = data;
    crowd = me->crowd;

    if (kv_store_attach(&store, &crowd->bench->conf, crowd->bench->mem, &io,
                        crowd->bench->dirfd, &err)
        != KV_OK)
    {
        fail("producer", err.text);
    }

    stream_start(&stream, store, crowd->keys, crowd->value, crowd->flight);
    stream_run_ms(&stream, 100);        /* the first are slow */

    (void) pthread_barrier_wait(&crowd->gate);

    from = kv_now_ns();
    me->done = stream.done;

    stream_run_ms(&stream, crowd->ms);

    me->done = stream.done - me->done;
    me->per_s = (double) me->done * 1e9 / (double) (kv_now_ns() - from);

    (void) pthread_barrier_wait(&crowd->gate);

    stream_stop(&stream);
    kv_store_destroy(store);

    return NULL;
}


/* Puts per second of so many producers; *batch gets how many a batch has. */

static double
crowd_run(crowd_t *crowd, unsigned n, double *batch)
{
    double               per_s;
    uint64_t             done, batches;
    unsigned             i;
    kv_commit_stats_t   *stats;

    stats = &crowd->bench->store->zone->stats;

    (void) pthread_barrier_init(&crowd->gate, NULL, n + 1);

    for (i = 0; i < n; i++) {
        crowd->producer[i].crowd = crowd;

        if (pthread_create(&crowd->producer[i].thread, NULL, producer_run,
                           &crowd->producer[i])
            != 0)
        {
            fail("producer", "cannot be made");
        }
    }

    (void) pthread_barrier_wait(&crowd->gate);
    batches = atomic_load(&stats->batch.count);

    (void) pthread_barrier_wait(&crowd->gate);
    batches = atomic_load(&stats->batch.count) - batches;

    per_s = 0;
    done = 0;

    for (i = 0; i < n; i++) {
        (void) pthread_join(crowd->producer[i].thread, NULL);
        per_s += crowd->producer[i].per_s;
        done += crowd->producer[i].done;
    }

    (void) pthread_barrier_destroy(&crowd->gate);

    *batch = (double) done / (double) kv_max(batches, 1u);

    return per_s;
}


static void
run_commits(void)
{
    char       name[64];
    double     per_s[BENCH_LIST][BENCH_LIST][BENCH_ROUNDS];
    double     batch[BENCH_LIST][BENCH_LIST][BENCH_ROUNDS];
    bench_t    bench;
    crowd_t    crowd;
    uint64_t   producers[BENCH_LIST], flight[BENCH_LIST];
    unsigned   i, k, p, n, np, rounds;
    kv_sync_t  sync;

    np = option_list("producers", producers);
    n = option_list("flight", flight);
    rounds = rounds_wanted();
    sync = strcmp(option("sync"), "off") ? KV_SYNC_ALWAYS : KV_SYNC_OFF;

    memset((void *) &crowd, 0, sizeof(crowd));
    crowd.bench = &bench;
    crowd.keys = option_number("keys");
    crowd.value = (uint32_t) option_number("value");
    crowd.ms = option_number("ms");

    for (i = 0; i < rounds; i++) {
        for (p = 0; p < np; p++) {
            for (k = 0; k < n; k++) {

                if (producers[p] == 0 || producers[p] > BENCH_PRODUCERS) {
                    fail("producers", "not from 1 to 16");
                }

                crowd.flight = (unsigned) flight[k];

                stream_bench(&bench, sync, crowd.keys, crowd.value);
                per_s[p][k][i] = crowd_run(&crowd, (unsigned) producers[p],
                                           &batch[p][k][i]);
                bench_stop(&bench);
                bench_remove_dir(&bench);
            }
        }
    }

    for (p = 0; p < np; p++) {
        for (k = 0; k < n; k++) {
            (void) snprintf(name, sizeof(name), "commits_%llux%llu",
                            (unsigned long long) producers[p],
                            (unsigned long long) flight[k]);

            printf("%s_per_s %.0f\n", name, figure(per_s[p][k], rounds));
            printf("%s_per_batch %.1f\n", name, figure(batch[p][k], rounds));
        }
    }
}


/*
 * Counted where the bytes leave, so that what is written twice (the last
 * block of a batch) counts twice; what the background task writes (segments
 * to come) does not.
 */

static void
run_log(void)
{
    bench_t    bench;
    uint64_t   bytes, payload, logged, end;
    stream_t   stream;
    kv_zone_t  *zone;

    stream_bench(&bench, KV_SYNC_ALWAYS, option_number("keys"),
                 (uint32_t) option_number("value"));
    stream_start(&stream, bench.store, option_number("keys"),
                 (uint32_t) option_number("value"),
                 (unsigned) option_number("flight"));

    zone = bench.store->zone;
    bytes = atomic_load(&committer_written);
    end = option_number("puts");

    while (stream.begun < end) {
        stream_turn(&stream, true);
    }

    while (stream.done < stream.begun) {
        stream_turn(&stream, false);
    }

    pool_stop(&stream.pool);
    bytes = atomic_load(&committer_written) - bytes;
    pool_start(&stream.pool, bench.store);

    payload = atomic_load(&zone->stats.payload);
    logged = atomic_load(&zone->wal.bytes);

    printf("log_payload_bytes %llu\n", (unsigned long long) payload);
    printf("log_written_per_payload %.3f\n",
           (double) bytes / (double) payload);
    printf("log_batches_per_payload %.3f\n",
           (double) logged / (double) payload);
    printf("log_puts_per_batch %.1f\n", (double) stream.done
           / (double) atomic_load(&zone->stats.batch.count));

    stream_stop(&stream);
    bench_stop(&bench);
    bench_remove_dir(&bench);
}


/* ---- recovery */


/* Through the log, in large batches committed by this thread. */

static void
recovery_fill(bench_t *bench, uint64_t keys, unsigned key_len, uint32_t value)
{
    char         key[KV_KEY_MAX + 1];
    kv_op_t     *op[KV_BATCH_MAX];
    uint64_t     i;
    unsigned     k, n;
    kv_store_t  *store;

    store = bench->store;

    for (i = 0; i < keys; i += n) {
        n = (unsigned) kv_min(keys - i, KV_BATCH_MAX);

        for (k = 0; k < n; k++) {
            (void) snprintf(key, sizeof(key), "%0*llu", (int) key_len,
                            (unsigned long long) (i + k));

            if (kv_store_put(store, key, (uint16_t) key_len, value, &op[k])
                != KV_OK
                || kv_store_write(store, op[k], 0, filler, value) != KV_OK)
            {
                fail("fill", "the zone is full");
            }

            (void) kv_store_submit(store, op[k]);
        }

        bench_commit(store);

        for (k = 0; k < n; k++) {
            if (bench_result(store, op[k]) != KV_OK) {
                fail("fill", "a put failed");
            }
        }
    }
}


/* Starts, checks that all is there, and takes a slot; seconds to start. */

static double
recovery_start(bench_t *bench, size_t size, uint64_t keys)
{
    double  seconds;

    seconds = bench_start(bench, size, &io);

    if (atomic_load(&bench->store->zone->map.keys) != keys) {
        fail("start", "keys are missing, or the directory was not empty");
    }

    if (kv_store_enter(bench->store) != KV_OK) {
        fail("start", "no slot");
    }

    return seconds;
}


static void
recovery_stop(bench_t *bench)
{
    bench->store->stop = 1;
    kv_store_commit(bench->store);
    kv_store_leave(bench->store);
    bench_stop(bench);
}


static void
run_recovery(void)
{
    bool             log_only;
    size_t           size;
    bench_t          bench;
    unsigned         key_len;
    uint64_t         keys, value, from;
    const char      *keep;
    kv_heap_stat_t   before, after;

    memset(&bench, 0, sizeof(bench));

    keys = option_number("keys");
    key_len = (unsigned) option_number("key");
    value = option_number("value");
    keep = option("keep");
    log_only = strcmp(keep, "log") == 0;

    if (key_len == 0 || key_len > KV_KEY_MAX || value > sizeof(filler)) {
        fail("key or value", "too long, or none");
    }

    bench_dir(&bench, strcmp(keep, "none") != 0);
    size = bench_size(keys, key_len, value);

    (void) recovery_start(&bench, size, 0);
    bench_heap_stat(&bench, &before);

    from = kv_now_ns();
    recovery_fill(&bench, keys, key_len, (uint32_t) value);
    printf("recovery_fill_s %.3f\n", (double) (kv_now_ns() - from) / 1e9);

    bench_heap_stat(&bench, &after);
    printf("recovery_bytes_per_key %.1f\n",
           (double) (after.used - before.used) / (double) keys);

    recovery_stop(&bench);

    printf("recovery_from_log_s %.3f\n", recovery_start(&bench, size, keys));

    if (!log_only) {
        from = kv_now_ns();
        atomic_store(&bench.store->zone->requests, KV_REQUEST_SNAPSHOT);
        kv_store_background(bench.store);
        printf("recovery_snapshot_s %.3f\n",
               (double) (kv_now_ns() - from) / 1e9);

        if (atomic_load(&bench.store->zone->snapshots) != 1) {
            fail("snapshot", "it failed");
        }

        recovery_stop(&bench);

        printf("recovery_from_snapshot_s %.3f\n",
               recovery_start(&bench, size, keys));
    }

    recovery_stop(&bench);
    bench_remove_dir(&bench);
}


/* ---- memory */


static void
bytes_of(uint64_t key_len, uint64_t value)
{
    char            name[64];
    bench_t         bench;
    uint64_t        keys;
    kv_heap_stat_t  before, after;

    if (key_len < 8 || key_len > KV_KEY_MAX || value > sizeof(filler)) {
        fail("bytes", "a key has 8 bytes or more; or one of both is too long");
    }

    memset(&bench, 0, sizeof(bench));

    keys = kv_min(option_number("keys"),
                  option_number("memory") / (value + key_len));

    bench_dir(&bench, false);
    (void) bench_start(&bench, bench_size(keys, key_len, value), &null_io);

    bench_heap_stat(&bench, &before);
    bench_load(&bench, keys, key_len, (uint32_t) value);
    bench_heap_stat(&bench, &after);

    (void) snprintf(name, sizeof(name), "bytes_%llu_%llu",
                    (unsigned long long) key_len, (unsigned long long) value);

    printf("%s_keys %llu\n", name, (unsigned long long) keys);
    printf("%s_per_key %.1f\n", name,
           (double) (after.held - before.held) / (double) keys);
    printf("%s_used_per_key %.1f\n", name,
           (double) (after.used - before.used) / (double) keys);
    (void) fflush(stdout);

    bench_stop(&bench);
    bench_remove_dir(&bench);
}


static void
run_bytes(void)
{
    unsigned  i, k, nkeys, nvalues;
    uint64_t  key[BENCH_LIST], value[BENCH_LIST];

    nkeys = option_list("key", key);
    nvalues = option_list("value", value);

    for (i = 0; i < nkeys; i++) {
        for (k = 0; k < nvalues; k++) {
            bytes_of(key[i], value[k]);
        }
    }
}


/* ---- rewrites */


/* What a key counts for. */

static uint64_t
herd_bytes(const herd_t *herd, uint32_t size)
{
    return herd->payload ? BENCH_KEY + (uint64_t) size
                         : BENCH_SLOT + kv_entry_footprint(BENCH_KEY, size);
}


static kv_rc_t
herd_commit(herd_t *herd, kv_op_t *op)
{
    (void) kv_store_submit(herd->bench->store, op);
    bench_commit(herd->bench->store);

    return bench_result(herd->bench->store, op);
}


/* Deletes the last key: as good as any, after they were put in any order. */

static void
herd_delete(herd_t *herd)
{
    char      key[BENCH_KEY];
    kv_op_t  *op;

    herd->keys--;
    key_make(key, herd->keys);

    if (kv_store_delete(herd->bench->store, key, sizeof(key), &op) != KV_OK
        || herd_commit(herd, op) != KV_OK)
    {
        fail("delete", "it was refused");
    }

    herd->live -= herd_bytes(herd, herd->size[herd->keys]);
}


/*
 * As nginx does it: without room it asks for some, and tries again.
 * False if that was in vain.
 */

static bool
herd_put(herd_t *herd, uint64_t id, uint32_t size)
{
    kv_rc_t      rc;
    kv_op_t     *op, *room;
    unsigned     tries, last;
    kv_store_t  *store;

    store = herd->bench->store;
    herd->puts++;

    for (tries = 0, last = 1000; tries <= last; tries++) {
        op = bench_put(store, id, size);

        if (op && herd_commit(herd, op) == KV_OK) {
            return true;
        }

        herd->rooms++;

        if (kv_store_reserve(store, size, 0, &room) != KV_OK) {
            break;
        }

        rc = herd_commit(herd, room);

        if (rc == KV_UNAVAILABLE) {
            break;
        }

        if (rc != KV_AGAIN) {
            last = kv_min(last, tries + 1);
        }
    }

    herd->refused++;

    return false;
}


/*
 * A size for this round: of any order of magnitude up to the largest, evenly
 * up to it, or, the worst for a heap of size classes, all of nearly one size
 * (`band`) that is another one in each round.
 */

static uint32_t
herd_size(uint64_t *state, const char *mix, uint64_t max, uint64_t band)
{
    uint64_t  order;

    if (strcmp(mix, "even") == 0) {
        return 1 + (uint32_t) random_below(state, max);
    }

    if (strcmp(mix, "band") == 0) {
        return (uint32_t) (band + random_below(state, band / 16));
    }

    order = (uint64_t) (63 - __builtin_clzll(max));
    order = UINT64_C(1) << (6 + random_below(state, order - 5));

    return (uint32_t) kv_min(max, order + random_below(state, order));
}


/* Rewrites every key; others go or come as it takes to stay full. */

static void
herd_round(herd_t *herd, uint64_t *state, const char *mix, uint64_t max)
{
    uint32_t  size;
    uint64_t  i, id, n, step, band, bytes;

    n = herd->keys;
    band = 64 + random_below(state, max * 15 / 16 - 64);

    /* in an order of no relation to that of the last round */

    step = n < 2 ? 1 : 1 + random_below(state, n - 1);

    while (n && !coprime(step, n)) {
        step++;
    }

    for (i = 0, id = 0; i < n; i++, id = (id + step) % n) {
        size = herd_size(state, mix, max, band);
        bytes = herd_bytes(herd, size);

        while (id < herd->keys
               && herd->live - herd_bytes(herd, herd->size[id]) + bytes
                  > herd->full)
        {
            herd_delete(herd);
        }

        if (id < herd->keys && herd_put(herd, id, size)) {
            herd->live -= herd_bytes(herd, herd->size[id]);
            herd->live += bytes;
            herd->size[id] = size;
        }
    }

    while (herd->keys < herd->max) {
        size = herd_size(state, mix, max, band);

        bytes = herd_bytes(herd, size);

        if (herd->live + bytes > herd->full
            || !herd_put(herd, herd->keys, size))
        {
            break;
        }

        herd->live += bytes;
        herd->size[herd->keys++] = size;
    }
}


static void
herd_run(uint64_t zone, uint64_t max, const char *mix)
{
    char            name[64];
    herd_t          herd;
    bench_t         bench;
    uint64_t        i, state;
    kv_heap_stat_t  st;

    memset(&bench, 0, sizeof(bench));
    memset(&herd, 0, sizeof(herd));

    bench_dir(&bench, false);
    (void) bench_start(&bench, zone, &null_io);

    if (kv_store_enter(bench.store) != KV_OK) {
        fail("start", "no slot");
    }

    herd.bench = &bench;
    herd.payload = strcmp(option("count"), "payload") == 0;
    herd.full = zone * option_number("full") / 100;
    herd.max = herd.full / (BENCH_KEY + 1) + 1;
    herd.size = calloc(herd.max, sizeof(uint32_t));

    if (herd.size == NULL || max < 256) {
        fail("rewrites", "out of memory, or max below 256");
    }

    state = option_number("seed") * 2 + 1;

    for (i = 0; i <= option_number("rounds"); i++) {
        herd_round(&herd, &state, mix, max);
    }

    bench_heap_stat(&bench, &st);

    (void) snprintf(name, sizeof(name), "rewrites_%s_%llum_%lluk", mix,
                    (unsigned long long) zone >> 20,
                    (unsigned long long) max >> 10);

    printf("%s_puts %llu\n", name, (unsigned long long) herd.puts);
    printf("%s_rooms %llu\n", name, (unsigned long long) herd.rooms);
    printf("%s_refused %llu\n", name, (unsigned long long) herd.refused);
    printf("%s_used %.3f\n", name, (double) st.used / (double) zone);
    printf("%s_payload %.3f\n", name,
           (double) atomic_load(&bench.store->zone->map.bytes)
           / (double) zone);
    (void) fflush(stdout);

    free(herd.size);
    kv_store_leave(bench.store);
    bench_stop(&bench);
    bench_remove_dir(&bench);
}


static void
run_rewrites(void)
{
    char        *mixes, *mix, *next;
    unsigned     i, k, nzones, nmaxes;
    uint64_t     zones[BENCH_LIST], maxes[BENCH_LIST];

    nzones = option_list("zone", zones);
    nmaxes = option_list("max", maxes);

    mixes = strdup(option("mix"));

    if (mixes == NULL) {
        fail("rewrites", "out of memory");
    }

    for (mix = strtok_r(mixes, ",", &next);
         mix;
         mix = strtok_r(NULL, ",", &next))
    {
        for (i = 0; i < nzones; i++) {
            for (k = 0; k < nmaxes; k++) {
                herd_run(zones[i], maxes[k], mix);
            }
        }
    }

    free(mixes);
}


/* ---- clears */


/* The longest that one put of a row took, in microseconds, of `ms`. */

static double
clear_longest(stream_t *s, uint64_t ms, size_t used)
{
    uint64_t        now, last, longest, end, done;
    kv_heap_stat_t  st;

    longest = 0;
    last = kv_now_ns();
    end = last + ms * 1000000;

    for ( ;; ) {
        done = s->done;
        stream_turn(s, true);
        now = kv_now_ns();

        /* one is in flight, and the next is submitted when it is done */

        if (s->done > done) {
            longest = kv_max(longest, now - last);
            last = now;
        }

        if (now < end) {
            continue;
        }

        if (kv_store_heap_stat(s->store, &st) != KV_OK) {
            fail("heap", "broken");
        }

        if (st.used <= used) {
            return (double) kv_max(longest, now - last) / 1000;
        }
    }
}


/* Puts one after the other, without a clear and beside one of many keys. */

static void
run_clears(void)
{
    double          alone[BENCH_LIST][BENCH_ROUNDS];
    double          beside[BENCH_LIST][BENCH_ROUNDS];
    double          freed[BENCH_LIST][BENCH_ROUNDS];
    bench_t         bench;
    kv_op_t        *op;
    stream_t        s;
    uint64_t        keys[BENCH_LIST], ms, from;
    unsigned        i, k, n, rounds;
    kv_heap_stat_t  st;

    n = option_list("keys", keys);
    ms = option_number("ms");
    rounds = rounds_wanted();

    for (i = 0; i < rounds; i++) {
        for (k = 0; k < n; k++) {
            memset(&bench, 0, sizeof(bench));
            bench_dir(&bench, false);
            (void) bench_start(&bench, bench_size(keys[k], BENCH_KEY, 16),
                               &io);
            bench_load(&bench, keys[k], BENCH_KEY, 16);
            bench_heap_stat(&bench, &st);

            stream_start(&s, bench.store, 1000, 16, 1);
            alone[k][i] = clear_longest(&s, ms, SIZE_MAX);

            from = kv_now_ns();

            if (kv_store_clear(bench.store, &op) != KV_OK) {
                fail("clear", "it was refused");
            }

            pool_do(&s.pool, kv_store_submit(bench.store, op));

            beside[k][i] = clear_longest(&s, ms, st.used / 50);
            freed[k][i] = (double) (kv_now_ns() - from) / 1e6;

            if (bench_result(bench.store, op) != KV_OK) {
                fail("clear", "it failed");
            }

            stream_stop(&s);
            bench_stop(&bench);
            bench_remove_dir(&bench);
        }
    }

    for (k = 0; k < n; k++) {
        printf("longest_us_alone_%llu %.0f\n", (unsigned long long) keys[k],
               figure(alone[k], rounds));
        printf("longest_us_clear_%llu %.0f\n", (unsigned long long) keys[k],
               figure(beside[k], rounds));
        printf("freed_ms_%llu %.0f\n", (unsigned long long) keys[k],
               figure(freed[k], rounds));
    }
}


/* ---- main */


static const command_t  commands[] = {

    { "lookups",
      "keys=10000,100000,1000000,10000000 value=16 rounds=5 ms=200 rate=10000"
      " take=median dir=/dev/shm",
      run_lookups,
      "lookups of random keys of 16 bytes by one and by two threads, alone\n"
      "    and beside a writer that overwrites keys at a rate, for each number"
      " of keys;\n"
      "    per second of the clock and of processor time; and what two random\n"
      "    reads of the zone's memory take, of which one waits for the other" },

    { "commits",
      "producers=1,2,4,8 flight=1,64,256 keys=100000 value=100 rounds=3 ms=500"
      " sync=always take=median dir=/dev/shm",
      run_commits,
      "puts a second by so many threads, each with so many in flight, and how\n"
      "    many a batch has" },

    { "recovery",
      "keys=1000000 key=16 value=100 keep=none dir=/dev/shm",
      run_recovery,
      "seconds to start from the log, to write a snapshot, to start from it;\n"
      "    keep=snapshot or keep=log leaves that in the directory itself,"
      " which must be empty" },

    { "bytes",
      "key=8,16,64,250 value=10,100,1000,10000 keys=1000000 memory=1g"
      " dir=/dev/shm",
      run_bytes,
      "bytes of zone a key, in pages taken and in objects, for each size of\n"
      "    key and value; fewer keys where they would take more than the"
      " memory" },

    { "rewrites",
      "zone=32m,64m,256m max=1k,30k,1m mix=log,even,band full=75 count=used"
      " rounds=10 seed=1 dir=/dev/shm",
      run_rewrites,
      "everything rewritten with other sizes, in zones so many per cent full,"
      " counted\n"
      "    in memory used or (count=payload) in bytes of keys and values:"
      " puts, requests\n"
      "    for room, puts that were refused, and both counts at the end" },

    { "log",
      "value=1024 flight=64 puts=100000 keys=10000 dir=/dev/shm",
      run_log,
      "bytes written to the log for each byte of keys and values" },

    { "clears",
      "keys=1000000,9000000 rounds=3 ms=1000 take=median dir=/dev/shm",
      run_clears,
      "the longest that a put took, one after the other: alone, and while so"
      " many keys\n"
      "    are cleared; and milliseconds until their memory is free" },
};

#define BENCH_COMMANDS  (sizeof(commands) / sizeof(commands[0]))


static void
run_help(void)
{
    unsigned  i;

    printf("usage: core COMMAND [OPTION=VALUE]...\n");

    for (i = 0; i < BENCH_COMMANDS; i++) {
        printf("\ncore %s %s\n    %s\n", commands[i].name,
               commands[i].options, commands[i].help);
    }
}


int
main(int argc, char *argv[])
{
    int          k;
    size_t       len;
    unsigned     i;
    const char  *p;

    if (argc < 2 || strcmp(argv[1], "help") == 0) {
        run_help();
        return argc < 2 ? 2 : 0;
    }

    for (i = 0; i < BENCH_COMMANDS; i++) {
        if (strcmp(commands[i].name, argv[1]) == 0) {
            break;
        }
    }

    if (i == BENCH_COMMANDS) {
        fail(argv[1], "no such command: see \"core help\"");
    }

    for (p = commands[i].options; *p; p += len + (p[len] == ' ')) {
        len = strcspn(p, " ");
        option_set(p, len, false);
    }

    for (k = 2; k < argc; k++) {
        option_set(argv[k], strlen(argv[k]), true);
    }

    kv_io_system(&io);
    null_io = io;
    io.pwritev = count_pwritev;
    null_io.pwritev = null_pwritev;
    null_io.fallocate = null_fallocate;

    commands[i].run();

    return 0;
}
