
/*
 * How long a start takes, from the log and from a snapshot.
 */


#include "core/core.h"


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

            if (kv_store_put(store, key, (uint16_t) key_len, value, 0, &op[k])
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


/* Starts, checks that all is there, and takes a place; seconds to start. */

static double
recovery_start(bench_t *bench, size_t size, uint64_t keys)
{
    double  seconds;

    seconds = bench_start(bench, size, &io);

    if (atomic_load(&bench->store->zone->map.keys) != keys) {
        fail("start", "keys are missing, or the directory was not empty");
    }

    if (kv_store_enter(bench->store) != KV_OK) {
        fail("start", "no place");
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


void
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
