
/*
 * What the ordered index costs, in two stores that take turns, one with
 * list=on; and how long lists take.
 */


#include "core/core.h"
#include "store/kv_listed.h"


#define BENCH_LIST_KEYS  1000


typedef struct {
    bool       random;               /* keys of random letters */
    uint64_t   keys;                 /* that were there first */
    uint64_t   next;                 /* of the new ones */
    uint64_t   step;                 /* between them, in their order */
} lists_t;


/* Which come back in another order: an odd factor and shifts can be undone. */

static uint64_t
mixed(uint64_t id)
{
    id *= 0x9e3779b97f4a7c15;
    id ^= id >> 32;

    return id * 0xd6e8feb86659fd93;
}


/* Those that are there first have even numbers, new ones odd ones. */

static uint64_t
lists_id(const lists_t *lists, uint64_t number)
{
    return lists->random ? mixed(number) : number;
}


static void
lists_fill(bench_t *bench, const lists_t *lists, uint32_t value)
{
    char         key[BENCH_KEY];
    uint64_t     i, hash;
    kv_zone_t   *zone;
    kv_entry_t  *e;

    zone = bench->store->zone;

    for (i = 0; i < lists->keys; i++) {
        key_make(key, lists_id(lists, 2 * i));

        if (kv_map_reserve(&zone->map, 1) != 1
            || kv_entry_create(zone->heap, &e, key, sizeof(key), value, 0)
               != KV_OK)
        {
            fail("load", "the zone is full");
        }

        kv_entry_write(e, 0, filler, value);

        hash = kv_map_hash(&zone->map, key, sizeof(key));
        (void) kv_map_put(&zone->map, hash, e);

        if (i % 16 == 0) {
            kv_map_grow(&zone->map);
        }
    }
}


/* `n` puts in batches, of keys that are there or not; ns of processor each. */

static double
lists_put(kv_store_t *store, lists_t *lists, uint64_t n, bool fresh,
    uint32_t value, unsigned flight)
{
    kv_op_t   *op[BENCH_FLIGHT];
    uint64_t   state, from, done, id;
    unsigned   i;

    state = lists->next * 2 + 1;
    from = thread_cpu_ns();

    for (done = 0; done < n; done += flight) {

        for (i = 0; i < flight; i++) {
            id = fresh ? 2 * (lists->next++ * lists->step % lists->keys) + 1
                       : 2 * random_below(&state, lists->keys);

            op[i] = bench_put(store, lists_id(lists, id), value);

            if (op[i] == NULL) {
                fail("put", "the zone is full");
            }

            (void) kv_store_submit(store, op[i]);
        }

        bench_commit(store);

        for (i = 0; i < flight; i++) {
            if (bench_result(store, op[i]) != KV_OK) {
                fail("put", "it failed");
            }
        }
    }

    return (double) (thread_cpu_ns() - from) / (double) done;
}


typedef struct {
    unsigned   left;
    uint64_t   bytes;
} listed_t;


static bool
listed(void *ctx, const void *key, size_t n, const kv_entry_t *e,
    uint64_t expires)
{
    listed_t  *l = ctx;

    (void) key;
    (void) expires;

    if (e == NULL) {
        return true;
    }

    l->bytes += n + e->value_len;

    return --l->left > 0;
}


/* Microseconds for 1,000 keys from a random prefix on. */

static double
lists_walk(kv_store_t *store, const lists_t *lists, uint64_t *state)
{
    char      key[BENCH_KEY];
    size_t    n;
    uint64_t  from;
    listed_t  l;

    key_make(key, lists_id(lists, 2 * random_below(state, lists->keys)));

    n = BENCH_KEY - 3;

    if (lists->random) {
        for (from = lists->keys, n = 0; from >= 16 * BENCH_LIST_KEYS; n++) {
            from /= 16;
        }
    }

    l.left = BENCH_LIST_KEYS;
    l.bytes = 0;

    from = kv_now_ns();

    if (kv_store_list(store, key, n, false, listed, &l) != KV_OK) {
        fail("list", "it failed");
    }

    return (double) (kv_now_ns() - from) / 1e3;
}


/* Name, without the index and with it, and what they differ by. */

static void
lists_print(const char *name, const char *what, double off, double on)
{
    printf("%s_%s_off_ns %.1f\n", name, what, off);
    printf("%s_%s_on_ns %.1f\n", name, what, on);
    printf("%s_%s_ratio %.3f\n", name, what, on / off);
}


static void
lists_measure(lists_t *lists, const char *name, bench_t *bench)
{
    double          over[2][BENCH_ROUNDS], fresh[2][BENCH_ROUNDS];
    double          walk[BENCH_ROUNDS], us, sum;
    lists_t         both[2];
    uint32_t        value;
    uint64_t        n, state;
    unsigned        i, k, r, rounds, flight;
    kv_heap_stat_t  st[2];

    rounds = rounds_wanted();
    value = (uint32_t) option_number("value");
    flight = (unsigned) option_number("flight");
    n = kv_min(option_number("new"), lists->keys / 16);
    state = 88172645463325252ull;
    both[0] = both[1] = *lists;

    for (r = 0; r < rounds; r++) {

        for (k = 0; k < 2; k++) {
            i = (k + r) % 2;
            over[i][r] = lists_put(bench[i].store, &both[i], n, false, value,
                                   flight);
        }

        for (k = 0; k < 2; k++) {
            i = (k + r) % 2;
            fresh[i][r] = lists_put(bench[i].store, &both[i], n, true, value,
                                    flight);
        }

        for (k = 0, sum = 0; k < 100; k++) {
            us = lists_walk(bench[1].store, &both[1], &state);
            sum += us;
        }

        walk[r] = sum / 100;
    }

    for (i = 0; i < 2; i++) {
        bench_heap_stat(&bench[i], &st[i]);
    }

    lists_print(name, "overwrite", figure(over[0], rounds),
                figure(over[1], rounds));
    lists_print(name, "new_key", figure(fresh[0], rounds),
                figure(fresh[1], rounds));

    printf("%s_walk_us %.1f\n", name, figure(walk, rounds));
    printf("%s_bytes_per_key %.2f\n", name,
           ((double) st[1].used - (double) st[0].used)
           / (double) atomic_load(&bench[1].store->zone->map.keys));
    printf("%s_held_per_key %.2f\n", name,
           ((double) st[1].held - (double) st[0].held)
           / (double) atomic_load(&bench[1].store->zone->map.keys));
    (void) fflush(stdout);
}


static void
lists_run(uint64_t keys, bool random)
{
    char       name[64];
    bench_t    bench[2];
    lists_t    lists;
    uint32_t   value;
    uint64_t   from;
    unsigned   i;

    value = (uint32_t) option_number("value");
    lists.random = random;
    lists.keys = keys;
    lists.next = 1;
    lists.step = 7919 * 7907;        /* two primes: no other number of keys */

    memset(bench, 0, sizeof(bench));
    (void) snprintf(name, sizeof(name), "lists_%s_%llu",
                    random ? "random" : "numbered", (unsigned long long) keys);

    for (i = 0; i < 2; i++) {
        bench_dir(&bench[i], false);
        bench[i].conf.list = i == 1;
        (void) bench_start(&bench[i], bench_size(keys, BENCH_KEY, value),
                           &null_io);
        lists_fill(&bench[i], &lists, value);

        from = kv_now_ns();

        if (kv_listed_fill(bench[i].store, false, NULL) != KV_OK
            || kv_store_enter(bench[i].store) != KV_OK)
        {
            fail("start", "no memory, or no place");
        }

        if (i == 1) {
            printf("%s_fill_ns %.1f\n", name,
                   (double) (kv_now_ns() - from) / (double) keys);
        }
    }

    lists_measure(&lists, name, bench);

    for (i = 0; i < 2; i++) {
        kv_store_leave(bench[i].store);
        bench_stop(&bench[i]);
        bench_remove_dir(&bench[i]);
    }
}


void
run_lists(void)
{
    unsigned     i, n;
    uint64_t     keys[BENCH_LIST];
    const char  *letters;

    n = option_list("keys", keys);
    letters = option("letters");

    for (i = 0; i < n; i++) {

        if (strstr(letters, "numbered")) {
            lists_run(keys[i], false);
        }

        if (strstr(letters, "random")) {
            lists_run(keys[i], true);
        }
    }
}
