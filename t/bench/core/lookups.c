
/*
 * Lookups of random keys, by one and by two threads, alone and beside a writer.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "core/core.h"


#define BENCH_READERS   2
#define BENCH_TICK      2            /* milliseconds: see race_write() */


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
        fail("thread", "no place");
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


void
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
