
/*
 * Memory: what a key takes, and what rewriting everything with other sizes
 * does.
 */


#include <stdlib.h>

#include "core/core.h"


#define BENCH_CELL      16           /* bytes of map a key takes, about */


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
    uint64_t            reserves;     /* KV_OP_RESERVE */
    uint64_t            refused;      /* puts, after one, too */
} herd_t;


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


void
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


/* What a key counts for. */

static uint64_t
herd_bytes(const herd_t *herd, uint32_t size)
{
    return herd->payload ? BENCH_KEY + (uint64_t) size
                         : BENCH_CELL + kv_entry_footprint(BENCH_KEY, size, 0);
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
 * As nginx does it: without memory it submits KV_OP_RESERVE, and tries again.
 * False if that was in vain.
 */

static bool
herd_put(herd_t *herd, uint64_t id, uint32_t size)
{
    kv_rc_t      rc;
    kv_op_t     *op, *reserve;
    unsigned     tries, last;
    kv_store_t  *store;

    store = herd->bench->store;
    herd->puts++;

    for (tries = 0, last = 1000; tries <= last; tries++) {
        op = bench_put(store, id, size);

        if (op && herd_commit(herd, op) == KV_OK) {
            return true;
        }

        herd->reserves++;

        if (kv_store_reserve(store, size, 0, &reserve) != KV_OK) {
            break;
        }

        rc = herd_commit(herd, reserve);

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
        fail("start", "no place");
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
    printf("%s_reserves %llu\n", name, (unsigned long long) herd.reserves);
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


void
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
