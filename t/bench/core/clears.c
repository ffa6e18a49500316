
/*
 * What a put waits for while many keys are cleared.
 */


#include "core/core.h"


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


void
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
