
/*
 * Commits by threads that write as much as they can, and what goes to the log.
 */


#include <pthread.h>

#include "core/core.h"


#define BENCH_PRODUCERS 16
#define BENCH_SLACK     (BENCH_FLIGHT * BENCH_PRODUCERS)


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


static void
stream_run_ms(stream_t *s, uint64_t ms)
{
    uint64_t  end;

    for (end = kv_now_ns() + ms * 1000000; kv_now_ns() < end; /* void */ ) {
        stream_process_events(s, true);
    }
}


static void
stream_bench(bench_t *bench, kv_sync_t sync, uint64_t keys, uint32_t value)
{
    memset(bench, 0, sizeof(bench_t));

    bench_dir(bench, false);
    bench->conf.sync = sync;
    bench->conf.cluster = bench_cluster();
    (void) bench_start(bench, bench_size(keys + BENCH_SLACK, BENCH_KEY, value),
                       &io);
}


/* Each has a place and threads of its own, as a worker does. */

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


/* Puts per second of `n` producers; *batch gets how many a batch has. */

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
    batches = atomic_load(&stats->batch.measure.count);

    (void) pthread_barrier_wait(&crowd->gate);
    batches = atomic_load(&stats->batch.measure.count) - batches;

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


void
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


void
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
        stream_process_events(&stream, true);
    }

    while (stream.done < stream.begun) {
        stream_process_events(&stream, false);
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
           / (double) atomic_load(&zone->stats.batch.measure.count));

    stream_stop(&stream);
    bench_stop(&bench);
    bench_remove_dir(&bench);
}
