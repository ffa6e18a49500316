
/*
 * What a put waits for while many keys expire within one second.
 *
 * Two threads work for a put, the client's and the committer's, and the third
 * makes segments of the log.  On a machine with two processors a put also waits
 * until another thread, another program, or the host of a virtual machine gives
 * a processor back.  So three things are told: how long the longest put took;
 * without the time in which one of its threads was ready and had no processor,
 * as the kernel counts it; and how much processor time the two used while one
 * put was under way, which is what the store makes it wait for.  And while
 * nothing expires, a thread that only uses a processor shows what any work
 * costs on this machine.
 */


#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"
#include "store/kv_clock.h"


#define BENCH_EXPIRE_PUTS  1000      /* keys that are put meanwhile */
#define BENCH_EXPIRE_WITHIN  1000    /* ms in which the others expire */
#define BENCH_EXPIRE_MAX   60000     /* ms until they are deleted */


/* Gives each key that was loaded its time: within a second from `at` on. */

static void
expire_set(bench_t *bench, uint64_t keys, uint64_t at)
{
    char         key[BENCH_KEY];
    uint64_t     i, hash;
    kv_zone_t   *zone;
    kv_entry_t  *e, *old;

    zone = bench->store->zone;

    for (i = 0; i < keys; i++) {
        key_make(key, i);

        if (kv_map_reserve(&zone->map, 1) != 1
            || kv_entry_create(zone->heap, &e, key, sizeof(key), 16,
                               KV_ENTRY_EXPIRES)
               != KV_OK)
        {
            fail("load", "the zone is full");
        }

        kv_entry_write(e, 0, filler, 16);
        kv_entry_set_expires(e, at + i * BENCH_EXPIRE_WITHIN / keys);
        kv_timers_add(&zone->timers, e);

        hash = kv_map_hash(&zone->map, key, sizeof(key));
        old = kv_map_put(&zone->map, hash, e);

        if (old) {
            fail("load", "a key is there already");
        }

        if (i % 16 == 0) {
            kv_map_grow(&zone->map);
        }
    }

    kv_timers_set_next(&zone->timers);
}


/* Of one put, or the most of each of many; us. */

typedef struct {
    double      all;
    double      ready;                /* without waits for a processor */
    double      work;                 /* processor time of its threads */
} expire_longest_t;


/* Where the kernel says it of the client and the committer. */

typedef struct {
    int         fd[2];
    clockid_t   clock[2];
} expire_threads_t;

/* Nanoseconds so far. */

typedef struct {
    uint64_t    now;
    uint64_t    waited;
    uint64_t    worked;
} expire_time_t;


static void
expire_threads_open(expire_threads_t *threads, stream_t *s)
{
    int       tid[2];
    char      path[64];
    unsigned  i;

    tid[0] = (int) syscall(SYS_gettid);
    tid[1] = pool_thread_id(&s->pool, KV_TODO_COMMIT);
    threads->clock[0] = CLOCK_THREAD_CPUTIME_ID;

    if (pthread_getcpuclockid(s->pool.thread[0], &threads->clock[1]) != 0) {
        fail("thread", "has no clock");
    }

    for (i = 0; i < 2; i++) {
        (void) snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat",
                        tid[i]);
        threads->fd[i] = open(path, O_RDONLY|O_CLOEXEC);
    }
}


static void
expire_threads_close(expire_threads_t *threads)
{
    (void) close(threads->fd[0]);
    (void) close(threads->fd[1]);
}


/* A kernel that does not say what was waited for is taken for one without. */

static void
expire_time(const expire_threads_t *threads, expire_time_t *t)
{
    char             text[96], *waited;
    ssize_t          n;
    unsigned         i;
    struct timespec  ts;

    t->now = kv_now_ns();
    t->waited = 0;
    t->worked = 0;

    for (i = 0; i < 2; i++) {
        (void) clock_gettime(threads->clock[i], &ts);
        t->worked += (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;

        n = pread(threads->fd[i], text, sizeof(text) - 1, 0);
        text[kv_max(n, 0)] = '\0';
        waited = strchr(text, ' ');
        t->waited += waited ? strtoull(waited, NULL, 10) : 0;
    }
}


/* Counts a put between two times. */

static void
expire_count(expire_longest_t *longest, const expire_time_t *from,
    const expire_time_t *to)
{
    uint64_t  took, waited, worked;

    took = to->now - from->now;
    waited = kv_min(to->waited - from->waited, took);
    worked = to->worked - from->worked;

    longest->all = kv_max(longest->all, (double) took / 1000);
    longest->ready = kv_max(longest->ready, (double) (took - waited) / 1000);
    longest->work = kv_max(longest->work, (double) worked / 1000);
}


/*
 * Puts one after the other until the store's time is `until`, and then, if
 * `all` is set, until no key has a time of expiry any more.
 */

static expire_longest_t
expire_longest(stream_t *s, uint64_t until, bool all)
{
    uint64_t           ms, done;
    kv_zone_t         *zone;
    expire_time_t      last, now;
    expire_threads_t   threads;
    expire_longest_t   longest;

    zone = s->store->zone;
    memset(&longest, 0, sizeof(longest));

    expire_threads_open(&threads, s);
    expire_time(&threads, &last);

    for ( ;; ) {
        done = s->done;
        stream_process_events(s, true);
        ms = kv_clock_ms(zone);

        if (s->done > done) {
            expire_time(&threads, &now);
            expire_count(&longest, &last, &now);
            last = now;

            if (ms >= until
                && (!all || kv_get_relaxed(zone->timers.count) == 0))
            {
                break;
            }
        }

        if (ms >= until + BENCH_EXPIRE_MAX) {
            fail("expiry", "the keys are not deleted after a minute");
        }
    }

    expire_threads_close(&threads);

    return longest;
}


static void *
expire_spin(void *data)
{
    _Atomic bool  *end = data;

    while (!kv_get_relaxed(*end)) {
        /* void */
    }

    return NULL;
}


/* The same for a second, while another thread uses a processor. */

static expire_longest_t
expire_beside_busy(stream_t *s)
{
    pthread_t          thread;
    _Atomic bool       end;
    expire_longest_t   longest;

    atomic_init(&end, false);

    if (pthread_create(&thread, NULL, expire_spin, &end) != 0) {
        fail("thread", "cannot be made");
    }

    longest = expire_longest(s, kv_clock_ms(s->store->zone)
                                + BENCH_EXPIRE_WITHIN, false);

    atomic_store(&end, true);
    (void) pthread_join(thread, NULL);

    return longest;
}


/* What is measured, and the names of it. */

enum { ALONE, BUSY, BEFORE, BESIDE, EXPIRE_TIMES };

static const char *const  expire_times[EXPIRE_TIMES] = {
    "alone", "busy", "before", "expiry"
};


/* The longest puts in each; and how late the last key is deleted, ms. */

static double
expire_round(uint64_t keys, expire_longest_t *longest)
{
    double       deleted;
    bench_t      bench;
    stream_t     s;
    uint64_t     ms, at;
    kv_zone_t   *zone;

    memset(&bench, 0, sizeof(bench));
    bench_dir(&bench, false);

    if (strcmp(option("sync"), "always") == 0) {
        bench.conf.sync = KV_SYNC_ALWAYS;
    }

    (void) bench_start(&bench, bench_size(keys, BENCH_KEY, 64), &io);
    zone = bench.store->zone;
    ms = option_number("ms");
    at = kv_clock_ms(zone) + option_number("in");
    expire_set(&bench, keys, at);

    if (kv_clock_ms(zone) + ms + BENCH_EXPIRE_WITHIN >= at) {
        fail("in", "too soon: the keys expire before all is ready");
    }

    stream_start(&s, bench.store, BENCH_EXPIRE_PUTS, 16, 1);

    longest[ALONE] = expire_longest(&s, kv_clock_ms(zone) + ms, false);
    longest[BUSY] = expire_beside_busy(&s);
    longest[BEFORE] = expire_longest(&s, at, false);
    longest[BESIDE] = expire_longest(&s, at + BENCH_EXPIRE_WITHIN, true);
    deleted = (double) kv_clock_ms(zone) - (double) at - BENCH_EXPIRE_WITHIN;

    stream_stop(&s);
    bench_stop(&bench);
    bench_remove_dir(&bench);

    return deleted;
}


static void
expire_print(const char *what, unsigned when, uint64_t keys, double *list,
    unsigned rounds)
{
    printf("%s_us_%s_%llu %.0f\n", what, expire_times[when],
           (unsigned long long) keys, figure(list, rounds));
}


void
run_expiry(void)
{
    double            all[EXPIRE_TIMES][BENCH_ROUNDS];
    double            ready[EXPIRE_TIMES][BENCH_ROUNDS];
    double            work[EXPIRE_TIMES][BENCH_ROUNDS];
    double            deleted[BENCH_ROUNDS];
    uint64_t          keys[BENCH_LIST];
    unsigned          i, k, n, t, rounds;
    expire_longest_t  longest[EXPIRE_TIMES];

    n = option_list("keys", keys);
    rounds = rounds_wanted();

    for (k = 0; k < n; k++) {

        for (i = 0; i < rounds; i++) {
            deleted[i] = expire_round(keys[k], longest);

            for (t = 0; t < EXPIRE_TIMES; t++) {
                all[t][i] = longest[t].all;
                ready[t][i] = longest[t].ready;
                work[t][i] = longest[t].work;
            }
        }

        for (t = 0; t < EXPIRE_TIMES; t++) {
            expire_print("longest", t, keys[k], all[t], rounds);
            expire_print("ready", t, keys[k], ready[t], rounds);
            expire_print("work", t, keys[k], work[t], rounds);
        }

        printf("deleted_ms_%llu %.0f\n", (unsigned long long) keys[k],
               figure(deleted, rounds));
    }
}
