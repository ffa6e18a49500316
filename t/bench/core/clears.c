
/*
 * What a put waits for while many keys are cleared.
 */


#include "core/core.h"


#define BENCH_CLEAR_PUTS  1000       /* keys that are put meanwhile */
#define BENCH_CLEAR_MAX   60000000000  /* ns until memory is free */


static size_t
clear_used(kv_store_t *store)
{
    kv_heap_stat_t  st;

    if (kv_store_heap_stat(store, &st) != KV_OK) {
        fail("heap", "broken");
    }

    return st.used;
}


/*
 * Puts one after the other for `ms`, and until the heap has at most `used`
 * bytes in use; returns the microseconds that the longest took.  *freed_ns
 * gets how long the heap had more in use.
 */

static double
clear_longest(stream_t *s, uint64_t ms, size_t used, uint64_t *freed_ns)
{
    bool      freed;
    uint64_t  now, from, last, longest, done, checked;

    freed = false;
    longest = 0;
    from = kv_now_ns();
    last = from;
    checked = from;

    for ( ;; ) {
        done = s->done;
        stream_process_events(s, true);
        now = kv_now_ns();

        /* one is in flight, and the next is submitted when it is done */

        if (s->done > done) {
            longest = kv_max(longest, now - last);
            last = now;
        }

        /* the heap's lock is not taken more often than once a millisecond */

        if (!freed && now - checked >= 1000000) {
            checked = now;
            freed = clear_used(s->store) <= used;
            *freed_ns = now - from;
        }

        if (freed && now - from >= ms * 1000000) {
            return (double) kv_max(longest, now - last) / 1000;
        }

        if (!freed && now - from >= BENCH_CLEAR_MAX) {
            fail("clear", "the memory is not free after a minute");
        }
    }
}


/*
 * The bytes in use when all but a fiftieth of what the keys took is free.  An
 * empty store and the keys that are put meanwhile use some as well: where few
 * keys are cleared, more than that fiftieth.
 */

static size_t
clear_limit(size_t empty, size_t full)
{
    return empty + (full - empty) / 50
           + BENCH_CLEAR_PUTS * 2 * kv_entry_footprint(BENCH_KEY, 16, 0);
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
    size_t          empty, full;
    uint64_t        keys[BENCH_LIST], ms, ns;
    unsigned        i, k, n, rounds;

    n = option_list("keys", keys);
    ms = option_number("ms");
    rounds = rounds_wanted();

    for (i = 0; i < rounds; i++) {
        for (k = 0; k < n; k++) {
            memset(&bench, 0, sizeof(bench));
            bench_dir(&bench, false);
            (void) bench_start(&bench, bench_size(keys[k], BENCH_KEY, 16),
                               &io);
            empty = clear_used(bench.store);
            bench_load(&bench, keys[k], BENCH_KEY, 16);
            full = clear_used(bench.store);

            stream_start(&s, bench.store, BENCH_CLEAR_PUTS, 16, 1);
            alone[k][i] = clear_longest(&s, ms, SIZE_MAX, &ns);

            if (kv_store_clear(bench.store, &op) != KV_OK) {
                fail("clear", "it was refused");
            }

            pool_post_tasks(&s.pool, kv_store_submit(bench.store, op));

            beside[k][i] = clear_longest(&s, ms, clear_limit(empty, full),
                                         &ns);
            freed[k][i] = (double) ns / 1e6;

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
