
/*
 * Puts of random keys that are there, and what a key takes.
 */


#include "core/core.h"


/* Batches of `n` puts, committed by this thread; puts per processor second. */

static double
puts_run(bench_t *bench, uint64_t keys, uint32_t value, unsigned n,
    uint64_t ms)
{
    kv_op_t     *op[BENCH_FLIGHT];
    unsigned     i;
    uint64_t     state, from, now, done;
    kv_store_t  *store;

    store = bench->store;
    state = kv_now_ns() * 2 + 1;
    from = thread_cpu_ns();
    done = 0;

    do {
        for (i = 0; i < n; i++) {
            op[i] = bench_put(store, random_below(&state, keys), value);

            if (op[i] == NULL) {
                fail("put", "the zone is full");
            }

            (void) kv_store_submit(store, op[i]);
        }

        bench_commit(store);

        for (i = 0; i < n; i++) {
            if (bench_result(store, op[i]) != KV_OK) {
                fail("put", "it failed");
            }
        }

        done += n;
        now = thread_cpu_ns();

    } while (now - from < ms * 1000000);

    return (double) done * 1e9 / (double) (now - from);
}


static void
puts_measure(uint64_t keys)
{
    double          per_s[BENCH_ROUNDS];
    bench_t         bench;
    unsigned        i, n, rounds;
    uint32_t        value;
    kv_heap_stat_t  before, after;

    rounds = rounds_wanted();
    value = (uint32_t) option_number("value");
    n = (unsigned) option_number("flight");

    if (n == 0 || n > BENCH_FLIGHT || value > sizeof(filler)) {
        fail("flight or value", "too many, too long, or none");
    }

    memset(&bench, 0, sizeof(bench));
    bench_dir(&bench, false);
    bench.conf.feed = option_number("feed");
    bench.conf.cluster = bench_cluster();
    (void) bench_start(&bench, bench_size(keys, BENCH_KEY, value)
                               + bench.conf.feed, &null_io);

    bench_heap_stat(&bench, &before);
    bench_load(&bench, keys, BENCH_KEY, value);
    bench_heap_stat(&bench, &after);

    if (kv_store_enter(bench.store) != KV_OK) {
        fail("start", "no place");
    }

    for (i = 0; i < rounds; i++) {
        per_s[i] = puts_run(&bench, keys, value, n, option_number("ms"));
    }

    printf("puts_%llu_ns %.1f\n", (unsigned long long) keys,
           1e9 / figure(per_s, rounds));
    printf("puts_%llu_bytes_per_key %.1f\n", (unsigned long long) keys,
           (double) (after.held - before.held) / (double) keys);
    (void) fflush(stdout);

    kv_store_leave(bench.store);
    bench_stop(&bench);
    bench_remove_dir(&bench);
}


void
run_puts(void)
{
    unsigned  i, n;
    uint64_t  keys[BENCH_LIST];

    n = option_list("keys", keys);

    for (i = 0; i < n; i++) {
        puts_measure(keys[i]);
    }
}
