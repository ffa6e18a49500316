
/*
 * How long a store takes to start, and how much zone its keys take, by the
 * core alone.
 *
 *     recovery DIRECTORY KEYS KEY_BYTES VALUE_BYTES
 *
 * fills an empty directory with so many keys, and prints the seconds to load
 * them from the log alone, to write a snapshot, and to load them from that,
 * and the bytes of zone per key.  The directory then holds a snapshot and an
 * empty log behind it, for an nginx to be started on; with the environment
 * variable LOG_ONLY set, the log without a snapshot.
 */


#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kv_background.h"
#include "kv_commit.h"


static kv_store_conf_t  conf = {
    .name = "bench",
    .sync = KV_SYNC_OFF,
    .batch = 100,
    .segment = 64u << 20,
    .max_value = 10u << 20
};

static kv_io_t  io;
static size_t   size;


static void
fail(const char *what, const char *why)
{
    fprintf(stderr, "recovery: %s: %s\n", what, why);
    exit(1);
}


static kv_store_t *
start(int dirfd, double *seconds)
{
    void        *mem;
    uint64_t     from;
    kv_err_t     err;
    kv_store_t  *store;

    mem = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_ANONYMOUS|MAP_SHARED, -1,
               0);

    if (mem == MAP_FAILED) {
        fail("mmap", "out of memory");
    }

    from = kv_now_ns();

    if (kv_store_create(&store, &conf, mem, size, KV_SLOTS_MIN, &io, dirfd,
                        &err)
        != KV_OK)
    {
        fail("start", err.text);
    }

    *seconds = (double) (kv_now_ns() - from) / 1e9;

    if (kv_store_enter(store) != KV_OK) {
        fail("start", "no slot");
    }

    return store;
}


static void
stop(kv_store_t *store)
{
    void  *mem;

    mem = store->zone;
    store->stop = 1;
    kv_store_commit(store);
    kv_store_leave(store);
    kv_store_destroy(store);
    (void) munmap(mem, size);
}


static void
fill(kv_store_t *store, unsigned keys, unsigned key_len, unsigned value_len)
{
    char       key[KV_KEY_MAX + 1], *value;
    kv_rc_t    rc;
    kv_op_t   *op[KV_BATCH_MAX];
    unsigned   i, k, n;

    value = malloc(value_len);
    memset(value, 'v', value_len);

    for (i = 0; i < keys; i += n) {
        n = kv_min(keys - i, KV_BATCH_MAX);

        for (k = 0; k < n; k++) {
            (void) snprintf(key, sizeof(key), "%0*u", (int) key_len, i + k);

            if (kv_store_put(store, key, (uint16_t) key_len, value_len, &op[k])
                != KV_OK
                || kv_store_write(store, op[k], 0, value, value_len) != KV_OK)
            {
                fail("fill", "the zone is full");
            }

            (void) kv_store_submit(store, op[k]);
        }

        kv_store_commit(store);

        for (k = 0; k < n; k++) {
            if (!kv_store_done(op[k], &rc) || rc != KV_OK) {
                fail("fill", "an operation failed");
            }

            kv_store_release(store, op[k]);
        }
    }

    free(value);
}


int
main(int argc, char *argv[])
{
    int              dirfd;
    double           seconds;
    uint64_t         from;
    unsigned         keys, key_len, value_len;
    kv_store_t      *store;
    kv_heap_stat_t   before, after;

    if (argc != 5) {
        fprintf(stderr, "usage: recovery DIRECTORY KEYS KEY_BYTES "
                "VALUE_BYTES\n");
        return 2;
    }

    dirfd = open(argv[1], O_RDONLY|O_DIRECTORY);

    if (dirfd == -1) {
        fail(argv[1], "cannot be opened");
    }

    keys = (unsigned) atoi(argv[2]);
    key_len = (unsigned) atoi(argv[3]);
    value_len = (unsigned) atoi(argv[4]);

    conf.path = argv[1];
    size = (size_t) keys * (key_len + value_len + 64) * 3 / 2 + (64u << 20);
    kv_io_system(&io);

    store = start(dirfd, &seconds);
    (void) kv_store_heap_stat(store, &before);

    from = kv_now_ns();
    fill(store, keys, key_len, value_len);
    printf("fill            %8.3f s\n", (double) (kv_now_ns() - from) / 1e9);

    (void) kv_store_heap_stat(store, &after);
    printf("zone            %8.1f bytes per key (%.1f with free room in "
           "pages)\n", (double) (after.used - before.used) / keys,
           (double) (after.held - before.held) / keys);

    stop(store);

    store = start(dirfd, &seconds);
    printf("start, log      %8.3f s\n", seconds);

    if (getenv("LOG_ONLY") == NULL) {
        from = kv_now_ns();
        atomic_store(&store->zone->wants, KV_WANT_SNAPSHOT);
        kv_store_background(store);
        printf("snapshot        %8.3f s\n",
               (double) (kv_now_ns() - from) / 1e9);
        stop(store);

        store = start(dirfd, &seconds);
        printf("start, snapshot %8.3f s\n", seconds);
    }

    if (atomic_load(&store->zone->map.keys) != keys) {
        fail("start", "keys are missing");
    }

    stop(store);

    return 0;
}
