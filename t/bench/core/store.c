
/*
 * The store that is measured, in a directory of its own, and disks that count.
 */


#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"


#define BENCH_ZONE_MIN  (64u << 20)


kv_io_t                 io, null_io;
_Thread_local uint64_t  written;
_Atomic uint64_t        committer_written;

char  filler[1u << 20];


uint64_t
thread_cpu_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


ssize_t
count_pwritev(kv_io_t *table, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    ssize_t  rc;

    rc = pwritev(fd, iov, n, offset);
    written += rc > 0 ? (uint64_t) rc : 0;
    (void) table;

    return rc;
}


ssize_t
null_pwritev(kv_io_t *table, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    int      i;
    ssize_t  sum;

    for (i = 0, sum = 0; i < n; i++) {
        sum += (ssize_t) iov[i].iov_len;
    }

    (void) table;
    (void) fd;
    (void) offset;

    return sum;
}


int
null_fallocate(kv_io_t *table, int fd, off_t offset, off_t len)
{
    (void) table;
    (void) fd;
    (void) offset;
    (void) len;

    return 0;
}


void
bench_dir(bench_t *bench, bool keep)
{
    bench->keep = keep;

    (void) snprintf(bench->path, sizeof(bench->path), "%s%s", option("dir"),
                    keep ? "" : "/kv_bench.XXXXXX");

    if (!keep && mkdtemp(bench->path) == NULL) {
        fail(bench->path, strerror(errno));
    }

    bench->dirfd = open(bench->path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (bench->dirfd == -1) {
        fail(bench->path, strerror(errno));
    }

    bench->conf.name = "bench";
    bench->conf.path = bench->path;
    bench->conf.sync = KV_SYNC_OFF;
    bench->conf.batch = 100;
    bench->conf.segment = 64u << 20;
    bench->conf.max_value = 10u << 20;
}


const char *
bench_cluster(void)
{
    if (option_number("cluster") == 0) {
        return NULL;
    }

#if !KV_HAVE_RAFT
    fail("cluster", "built without libraft");
#endif

    return "127.0.0.1:8080";
}


void
bench_remove_dir(bench_t *bench)
{
    DIR            *dir;
    struct dirent  *de;

    if (!bench->keep) {
        dir = opendir(bench->path);

        while (dir && (de = readdir(dir)) != NULL) {
            (void) unlinkat(bench->dirfd, de->d_name, 0);
        }

        if (dir) {
            (void) closedir(dir);
        }

        (void) rmdir(bench->path);
    }

    (void) close(bench->dirfd);
}


double
bench_start(bench_t *bench, size_t size, kv_io_t *table)
{
    uint64_t  from;
    kv_err_t  err;

    bench->size = size;
    bench->mem = mmap(NULL, size, PROT_READ|PROT_WRITE,
                      MAP_ANONYMOUS|MAP_SHARED, -1, 0);

    if (bench->mem == MAP_FAILED) {
        fail("zone", strerror(errno));
    }

    from = kv_now_ns();

    if (kv_store_create(&bench->store, &bench->conf, bench->mem, size,
                        KV_WORKERS_MIN, table, bench->dirfd, &err)
        != KV_OK)
    {
        fail("start", err.text);
    }

    return (double) (kv_now_ns() - from) / 1e9;
}


void
bench_stop(bench_t *bench)
{
    kv_store_destroy(bench->store);
    (void) munmap(bench->mem, bench->size);
}


size_t
bench_size(uint64_t keys, uint64_t key_len, uint64_t value_len)
{
    return kv_align((size_t) (keys * (key_len + value_len + 64) * 3 / 2)
                    + BENCH_ZONE_MIN, 4096);
}


void
bench_load(bench_t *bench, uint64_t keys, size_t key_len, uint32_t value)
{
    char         key[KV_KEY_MAX], end[BENCH_KEY];
    size_t       some;
    uint64_t     i, hash;
    kv_zone_t   *zone;
    kv_entry_t  *e;

    zone = bench->store->zone;
    some = kv_min(key_len, sizeof(end));

    memset(key, 'x', sizeof(key));

    for (i = 0; i < keys; i++) {
        key_make(end, i);
        memcpy(key + key_len - some, end + sizeof(end) - some, some);

        if (kv_map_reserve(&zone->map, 1) != 1
            || kv_entry_create(zone->heap, &e, key, (uint16_t) key_len, value,
                               0)
               != KV_OK)
        {
            fail("load", "the zone is full");
        }

        kv_entry_write(e, 0, filler, value);

        hash = kv_map_hash(&zone->map, key, key_len);
        (void) kv_map_put(&zone->map, hash, e);

        if (i % 16 == 0) {
            kv_map_grow(&zone->map);
        }
    }
}


void
bench_heap_stat(bench_t *bench, kv_heap_stat_t *st)
{
    if (kv_store_heap_stat(bench->store, st) != KV_OK) {
        fail("heap", "broken");
    }
}


kv_op_t *
bench_put(kv_store_t *store, uint64_t id, uint32_t value)
{
    char      key[BENCH_KEY];
    kv_op_t  *op;
    size_t    n;
    uint32_t  at;

    key_make(key, id);

    if (kv_store_put(store, key, sizeof(key), value, 0, &op) != KV_OK) {
        return NULL;
    }

    for (at = 0; at < value; at += (uint32_t) n) {
        n = kv_min(value - at, sizeof(filler));

        if (kv_store_write(store, op, at, filler, n) != KV_OK) {
            fail("put", "a value could not be written");
        }
    }

    return op;
}


void
bench_commit(kv_store_t *store)
{
    store->zone->spin = 0;
    kv_store_commit(store);
}


kv_rc_t
bench_result(kv_store_t *store, kv_op_t *op)
{
    kv_rc_t  rc;

    if (!kv_store_done(op, &rc)) {
        fail("commit", "an operation is not done");
    }

    kv_store_release(store, op);

    return rc;
}
