
/*
 * What a put waits for while many keys expire within one second.
 */


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


/*
 * Puts one after the other until the store's time is `until`, and then, if
 * `all` is set, until no key has a time of expiry any more; returns the
 * microseconds that the longest took.
 */

static double
expire_longest(stream_t *s, uint64_t until, bool all)
{
    uint64_t    now, last, longest, done, ms;
    kv_zone_t  *zone;

    zone = s->store->zone;
    longest = 0;
    last = kv_now_ns();

    for ( ;; ) {
        done = s->done;
        stream_process_events(s, true);
        now = kv_now_ns();

        if (s->done > done) {
            longest = kv_max(longest, now - last);
            last = now;
        }

        ms = kv_clock_ms(zone);

        if (ms >= until && (!all || kv_get_relaxed(zone->timers.count) == 0)) {
            return (double) kv_max(longest, now - last) / 1000;
        }

        if (ms >= until + BENCH_EXPIRE_MAX) {
            fail("expiry", "the keys are not deleted after a minute");
        }
    }
}


/* The longest put without any key that expires, and with; and how late, ms. */

static void
expire_round(uint64_t keys, double *alone, double *beside, double *deleted)
{
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

    if (kv_clock_ms(zone) + ms >= at) {
        fail("in", "too soon: the keys expire before all is ready");
    }

    stream_start(&s, bench.store, BENCH_EXPIRE_PUTS, 16, 1);

    *alone = expire_longest(&s, kv_clock_ms(zone) + ms, false);
    (void) expire_longest(&s, at, false);
    *beside = expire_longest(&s, at + BENCH_EXPIRE_WITHIN, true);
    *deleted = (double) kv_clock_ms(zone) - (double) at - BENCH_EXPIRE_WITHIN;

    stream_stop(&s);
    bench_stop(&bench);
    bench_remove_dir(&bench);
}


void
run_expiry(void)
{
    double     alone[BENCH_LIST][BENCH_ROUNDS];
    double     beside[BENCH_LIST][BENCH_ROUNDS];
    double     deleted[BENCH_LIST][BENCH_ROUNDS];
    uint64_t   keys[BENCH_LIST];
    unsigned   i, k, n, rounds;

    n = option_list("keys", keys);
    rounds = rounds_wanted();

    for (i = 0; i < rounds; i++) {
        for (k = 0; k < n; k++) {
            expire_round(keys[k], &alone[k][i], &beside[k][i],
                         &deleted[k][i]);
        }
    }

    for (k = 0; k < n; k++) {
        printf("longest_us_alone_%llu %.0f\n", (unsigned long long) keys[k],
               figure(alone[k], rounds));
        printf("longest_us_expiry_%llu %.0f\n", (unsigned long long) keys[k],
               figure(beside[k], rounds));
        printf("deleted_ms_%llu %.0f\n", (unsigned long long) keys[k],
               figure(deleted[k], rounds));
    }
}
