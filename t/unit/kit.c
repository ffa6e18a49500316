
/*
 * The tests' store; see kit.h.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/kv_number.h"
#include "memory/kv_heap_private.h"
#include "memory/kv_poison.h"
#include "kit.h"


unsigned           kit_typed;
int                kit_wakes[KV_WORKERS_MAX];
static unsigned    kit_nwakes;
static kv_heap_t  *kit_heap;         /* of kit_balanced() */


static int
kit_fdatasync(kv_io_t *io, int fd)
{
    int              err, us;
    kit_io_t        *k = (kit_io_t *) io;
    struct timespec  pause;

    (void) atomic_fetch_add(&k->syncs, 1);

    err = atomic_load(&k->fail_sync);
    us = atomic_load(&k->slow_sync_us);

    if (us) {
        pause.tv_sec = 0;
        pause.tv_nsec = us * 1000;
        (void) nanosleep(&pause, NULL);
    }

    if (err) {
        errno = err;
        return -1;
    }

    return k->fast ? 0 : k->base.fdatasync(&k->base, fd);
}


static int
kit_fsync(kv_io_t *io, int fd)
{
    kit_io_t  *k = (kit_io_t *) io;

    return k->fast ? 0 : k->base.fsync(&k->base, fd);
}


static ssize_t
kit_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n, off_t offset)
{
    int        err;
    kit_io_t  *k = (kit_io_t *) io;

    err = atomic_load(&k->fail_write);

    if (err) {
        errno = err;
        return -1;
    }

    return k->base.pwritev(&k->base, fd, iov, n, offset);
}


static void
kit_quiet(void *ctx, kv_log_level_t level, const char *text)
{
    (void) ctx;

    if (getenv("KIT_LOG")) {
        (void) fprintf(stderr, "%d [%d] %s\n", (int) getpid(), level, text);
    }
}


static void *
kit_map(size_t size)
{
    void  *p;

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1,
             0);
    assert_ptr_not_equal(p, MAP_FAILED);

    return p;
}


const char *
kit_cluster(void)
{
    return KIT_CLUSTERS && getenv("KV_TEST_CLUSTER") ? KIT_ADDRESS : NULL;
}


void
kit_open(kit_t *kit, size_t size, unsigned workers)
{
    const char  *tmp;

    memset(kit, 0, sizeof(*kit));

    tmp = getenv("TMPDIR");
    (void) snprintf(kit->path, sizeof(kit->path), "%s/kv_test.XXXXXX",
                    tmp ? tmp : "/tmp");

    assert_non_null(mkdtemp(kit->path));

    kit->dirfd = open(kit->path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    assert_true(kit->dirfd >= 0);

    kit->size = size;
    kit->workers = workers;

    kit->io = kit_map(sizeof(kit_io_t));
    kv_io_system(&kit->io->base);
    kit->io->io = kit->io->base;
    kit->io->io.fdatasync = kit_fdatasync;
    kit->io->io.fsync = kit_fsync;
    kit->io->io.pwritev = kit_pwritev;

    kit->conf.name = "test";
    kit->conf.path = kit->path;
    kit->conf.sync = KV_SYNC_ALWAYS;
    kit->conf.list = getenv("KV_LIST") != NULL;
    kit->conf.batch = 100;
    kit->conf.segment = 1 << 20;
    kit->conf.max_value = 512 << 10;
    kit->conf.feed = KV_FEED_MIN;
    kit->conf.cluster = kit_cluster();
    kit->conf.log = kit_quiet;
}


/* The zone, and the feed behind it. */

static size_t
kit_bytes(const kit_t *kit)
{
    return kit->size + kit->conf.feed;
}


kv_rc_t
kit_start(kit_t *kit)
{
    kv_rc_t   rc;
    unsigned  i;

    kit->mem = kit_map(kit_bytes(kit));

    rc = kv_store_create(&kit->store, &kit->conf, kit->mem, kit_bytes(kit),
                         kit->workers, &kit->io->io, kit->dirfd, &kit->err);

    if (rc != KV_OK) {
        kit->store = NULL;
        kv_poison_forget(kit->mem, kit_bytes(kit));
        (void) munmap(kit->mem, kit_bytes(kit));
        kit->mem = NULL;

        return rc;
    }

    for (i = 0; i < kit->workers; i++) {
        kit_wakes[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    }

    kit_nwakes = kit->workers;

    return KV_OK;
}


void
kit_stop(kit_t *kit)
{
    unsigned  i;

    if (kit->store == NULL) {
        return;
    }

    for (i = 0; i < kit->workers; i++) {
        (void) close(kit_wakes[i]);
    }

    kv_store_destroy(kit->store);
    kit->store = NULL;

    kv_poison_forget(kit->mem, kit_bytes(kit));
    (void) munmap(kit->mem, kit_bytes(kit));
    kit->mem = NULL;
}


void
kit_close(kit_t *kit)
{
    DIR            *dir;
    struct dirent  *de;

    kit_stop(kit);

    dir = opendir(kit->path);

    while (dir && (de = readdir(dir)) != NULL) {
        (void) unlinkat(kit->dirfd, de->d_name, 0);
    }

    if (dir) {
        (void) closedir(dir);
    }

    (void) rmdir(kit->path);
    (void) close(kit->dirfd);
    (void) munmap(kit->io, sizeof(kit_io_t));
}


static void *
host_thread(void *data)
{
    unsigned   bit;
    host_t    *host = data;

    (void) pthread_mutex_lock(&host->lock);

    bit = host->busy;
    host->busy = 0;
    (void) pthread_cond_broadcast(&host->cond);

    for ( ;; ) {

        if (host->todo & bit) {
            host->todo &= ~bit;
            host->busy |= bit;
            (void) pthread_mutex_unlock(&host->lock);

            if (bit == KV_TODO_COMMIT) {
                kv_store_commit(host->store);

            } else {
                kv_store_background(host->store);
            }

            (void) pthread_mutex_lock(&host->lock);
            host->busy &= ~bit;
            (void) pthread_cond_broadcast(&host->cond);
            continue;
        }

        if (host->quit) {
            break;
        }

        (void) pthread_cond_wait(&host->cond, &host->lock);
    }

    (void) pthread_mutex_unlock(&host->lock);

    return NULL;
}


kv_rc_t
host_start(host_t *host, kv_store_t *store)
{
    kv_rc_t  rc;

    static const unsigned  bits[] = { KV_TODO_COMMIT, KV_TODO_BACKGROUND };

    memset(host, 0, sizeof(*host));
    host->store = store;

    rc = kv_store_enter(store);

    if (rc != KV_OK) {
        return rc;
    }

    kv_store_wakes(store, kit_wakes, kit_nwakes, store->number);

    (void) pthread_mutex_init(&host->lock, NULL);
    (void) pthread_cond_init(&host->cond, NULL);

    /* each thread takes its bit from `busy`, one after the other */

    for (unsigned i = 0; i < 2; i++) {
        (void) pthread_mutex_lock(&host->lock);
        host->busy = bits[i];

        if (pthread_create(&host->thread[i], NULL, host_thread, host) != 0) {
            abort();
        }

        while (host->busy) {
            (void) pthread_cond_wait(&host->cond, &host->lock);
        }

        (void) pthread_mutex_unlock(&host->lock);
    }

    return KV_OK;
}


bool
host_stop(host_t *host)
{
    bool             ok;
    struct timespec  end;

    ok = true;

    /* no atomic, but a flag for the threads; nginx sets it when they ended */

#ifndef __SANITIZE_THREAD__
    host->store->stop = 1;
#endif

    (void) pthread_mutex_lock(&host->lock);
    host->quit = true;
    (void) pthread_cond_broadcast(&host->cond);
    (void) pthread_mutex_unlock(&host->lock);

    (void) clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 10;

    for (unsigned i = 0; i < 2; i++) {
        if (pthread_timedjoin_np(host->thread[i], NULL, &end) != 0) {
            ok = false;
        }
    }

    kv_store_leave(host->store);
    host->store->stop = 0;

    return ok;
}


void
host_post_tasks(host_t *host, unsigned todo)
{
    if (todo & KV_TODO_RESET) {

        if (host->on_reset) {
            host->on_reset(host->ctx);
        }

        host->resets++;
        kv_store_reset(host->store);
        todo &= ~KV_TODO_RESET;
    }

    if (host->no_background && (todo & KV_TODO_BACKGROUND)) {
        kv_store_unclaim(host->store, KV_TODO_BACKGROUND);
        todo &= ~KV_TODO_BACKGROUND;
    }

    if (host->hold) {
        host->held |= todo;
        return;
    }

    if (todo) {
        (void) pthread_mutex_lock(&host->lock);
        host->todo |= todo;
        (void) pthread_cond_broadcast(&host->cond);
        (void) pthread_mutex_unlock(&host->lock);
    }
}


void
host_process_events(host_t *host, int ms)
{
    uint64_t       n;
    struct pollfd  pfd;

    pfd.fd = kit_wakes[host->store->number];
    pfd.events = POLLIN;

    if (poll(&pfd, 1, ms) == 1) {
        (void) !read(pfd.fd, &n, sizeof(n));
    }

    kv_store_beat(host->store);
    host_post_tasks(host, kv_store_todo(host->store));
}


kv_rc_t
host_run(host_t *host, kv_op_t *op)
{
    kv_rc_t   rc;
    uint64_t  end;
    unsigned  resets;

    resets = host->resets;
    end = kit_now_ms() + 30000;

    host_post_tasks(host, kv_store_submit(host->store, op));

    while (!kv_store_done(op, &rc)) {

        if (kit_now_ms() > end) {
            return KV_BUSY;
        }

        host_process_events(host, KV_STORE_WATCH);

        if (host->resets != resets) {
            return KV_UNAVAILABLE;
        }
    }

    kv_store_release(host->store, op);

    return rc;
}


size_t
kit_key(uint32_t id, char *key)
{
    return (size_t) sprintf(key, "key-%u", id);
}


static unsigned char
kit_fill(uint32_t id, uint32_t version)
{
    return (unsigned char) ((id * 31 + version * 2654435761u) >> 7);
}


/* The metadata of a value, in `bytes`; 0: it has none. */

static uint8_t
kit_meta(uint32_t id, uint32_t version, char *bytes)
{
    char       type[KV_META_TYPE];
    uint32_t   n;
    kv_meta_t  meta;

    n = id + version * 5;

    if (kit_typed == 0 || n % 3 == 0) {
        return 0;
    }

    memset(type, 'x', sizeof(type));
    type[1] = '/';

    meta.type = type;
    meta.type_len = (uint8_t) (3 + n * 37 % (kit_typed - 2));
    meta.encoding = "gzip, br";
    meta.encoding_len = n % 3 == 1 ? 0 : n % 2 ? 4 : 8;

    return kv_meta_write(&meta, bytes);
}


static bool
kit_has_meta(const kv_entry_t *e, uint32_t id, uint32_t version)
{
    char         want[KV_META_MAX];
    uint8_t      n;
    const void  *meta;

    meta = kv_entry_meta(e, &n);

    return n == kit_meta(id, version, want) && memcmp(meta, want, n) == 0;
}


kv_rc_t
kit_begin_put(host_t *host, uint32_t id, uint32_t version, uint32_t len,
    kv_op_t **op)
{
    return kit_begin_ttl(host, id, version, len, 0, op);
}


kv_rc_t
kit_begin_ttl(host_t *host, uint32_t id, uint32_t version, uint32_t len,
    uint32_t ttl, kv_op_t **op)
{
    char       key[32], meta[KV_META_MAX];
    kv_rc_t    rc;
    uint32_t   at, n, stamp[2];
    kv_name_t  name;

    char  chunk[16384];

    name.key = key;
    name.key_len = (uint16_t) kit_key(id, key);
    name.meta = meta;
    name.meta_len = kit_meta(id, version, meta);

    rc = kv_store_upload(host->store, &name, len, len, ttl, op);

    if (rc != KV_OK) {
        return rc;
    }

    stamp[0] = id;
    stamp[1] = version;

    memset(chunk, kit_fill(id, version), kv_min(len, sizeof(chunk)));

    at = len < sizeof(stamp) ? 0 : sizeof(stamp);
    rc = kv_store_write(host->store, *op, 0, stamp, at);

    for ( /* void */ ; rc == KV_OK && at < len; at += n) {
        n = kv_min((uint32_t) sizeof(chunk), len - at);
        rc = kv_store_write(host->store, *op, at, chunk, n);
    }

    if (rc == KV_OK) {
        rc = kv_store_finish(host->store, *op, len);
    }

    if (rc != KV_OK) {
        kv_store_release(host->store, *op);
    }

    return rc;
}


kv_rc_t
kit_upload(kv_store_t *store, const char *key, uint32_t len, uint32_t n,
    kv_op_t **op)
{
    const kv_name_t  name = { key, NULL, (uint16_t) strlen(key), 0 };

    return kv_store_upload(store, &name, len, n, 0, op);
}


kv_rc_t
kit_put(host_t *host, uint32_t id, uint32_t version, uint32_t len,
    unsigned *reserves)
{
    kv_rc_t   rc;
    kv_op_t  *op;
    unsigned  tries, last;

    last = UINT_MAX;

    for (tries = 0; /* void */; tries++) {

        rc = kit_begin_put(host, id, version, len, &op);

        if (rc == KV_OK) {
            rc = host_run(host, op);
        }

        if (rc != KV_NO_MEMORY || reserves == NULL || tries == last) {
            break;
        }

        (*reserves)++;
        rc = kv_store_reserve(host->store, len, 0, &op);

        if (rc == KV_OK) {
            rc = host_run(host, op);
        }

        if (rc != KV_OK && rc != KV_AGAIN && rc != KV_NO_MEMORY) {
            break;
        }

        /* as long as there is something to do, but not for ever */

        last = rc == KV_AGAIN && tries < 1000 ? UINT_MAX : tries + 1;
    }

    return rc;
}


kv_rc_t
kit_delete(host_t *host, uint32_t id)
{
    char      key[32];
    size_t    n;
    kv_rc_t   rc;
    kv_op_t  *op;

    n = kit_key(id, key);
    rc = kv_store_delete(host->store, key, (uint16_t) n, &op);

    return rc == KV_OK ? host_run(host, op) : rc;
}


kv_rc_t
kit_clear(host_t *host)
{
    kv_rc_t   rc;
    kv_op_t  *op;

    rc = kv_store_clear(host->store, &op);

    return rc == KV_OK ? host_run(host, op) : rc;
}


bool
kit_check(const kv_entry_t *e, uint32_t id, uint32_t *version)
{
    char                  key[32];
    size_t                n, i, at, len;
    uint32_t              stamp[2];
    struct iovec          iov[256];
    const unsigned char  *p;

    n = kit_key(id, key);

    if (e->key_len != n || memcmp(e->key, key, n) != 0
        || e->value_len < sizeof(stamp))
    {
        return false;
    }

    n = kv_entry_iov(e, iov, 256, 0);
    len = 0;

    for (i = 0; i < n; i++) {
        p = iov[i].iov_base;
        at = 0;

        if (i == 0) {
            memcpy(stamp, p, sizeof(stamp));
            at = sizeof(stamp);
        }

        len += iov[i].iov_len;

        if (at < iov[i].iov_len
            && (p[at] != kit_fill(stamp[0], stamp[1])
                || memcmp(p + at, p + at + 1, iov[i].iov_len - at - 1) != 0))
        {
            return false;
        }
    }

    *version = stamp[1];

    return len == e->value_len && stamp[0] == id
           && kit_has_meta(e, id, stamp[1]);
}


bool
kit_holds(const kv_entry_t *e, uint32_t id, uint32_t version, uint32_t len)
{
    char           key[32];
    size_t         n;
    uint32_t       found;
    struct iovec   iov;
    unsigned char  fill[8];

    if (e->value_len != len) {
        return false;
    }

    if (len >= sizeof(fill)) {
        return kit_check(e, id, &found) && found == version;
    }

    n = kit_key(id, key);
    memset(fill, kit_fill(id, version), sizeof(fill));

    return e->key_len == n && memcmp(e->key, key, n) == 0
           && kit_has_meta(e, id, version)
           && kv_entry_iov(e, &iov, 1, 0) == 1
           && memcmp(iov.iov_base, fill, len) == 0;
}


kv_rc_t
kit_get(host_t *host, uint32_t id, uint32_t *version, uint32_t *len)
{
    char         key[32];
    size_t       n;
    kv_rc_t      rc;
    kv_entry_t  *e;

    n = kit_key(id, key);
    rc = kv_store_read(host->store, key, n, &e);

    if (rc != KV_OK) {
        return rc;
    }

    if (len) {
        *len = e->value_len;
    }

    rc = kit_check(e, id, version) ? KV_OK : KV_DAMAGED;
    kv_store_read_done(host->store);

    return rc;
}


/* Of a number: an increment made it with memory for the longest. */

static uint64_t
kit_number_bytes(const kv_entry_t *e)
{
    int64_t    number;
    ptrdiff_t  page;

    if ((e->flags & KV_ENTRY_PIECES)
        || !kv_number_parse(kv_entry_value(e), e->value_len, &number))
    {
        return 0;
    }

    page = ((const unsigned char *) e - kv_heap_address(kit_heap, 0))
           / (ptrdiff_t) KV_PAGE_SIZE;

    return kv_heap_classes[kit_heap->page[page].class].size;
}


static void
kit_add(void *ctx, const kv_entry_t *e)
{
    uint64_t  *sum = ctx;

    sum[0] += kv_max(kv_entry_footprint(kv_entry_name_len(e), e->value_len,
                                        e->flags),
                     kit_number_bytes(e));
    sum[1] += kv_entry_payload(e);
    sum[2]++;
}


/*
 * Waits until the committer has nothing left to do and to free; true with the
 * committer's lock.
 */

static bool
kit_idle(host_t *host, char *text, size_t size)
{
    kv_rc_t     rc;
    kv_op_t    *op;
    uint64_t    end;
    kv_zone_t  *zone;

    zone = host->store->zone;
    end = kit_now_ms() + 30000;

    for ( ;; ) {
        rc = kv_store_reserve(host->store, 0, 0, &op);

        if (rc == KV_OK) {
            rc = host_run(host, op);
        }

        /* the committer is idle now and then: it gives the lock back */

        if (rc == KV_OK && kv_mutex_trylock(&zone->commit_lock) == KV_OK) {

            if (kv_epoch_count(&zone->retired) == 0
                && !kv_zone_unswept(zone)
                && zone->retired.pinned == NULL && !atomic_load(&zone->reap)
                && atomic_load(&zone->queue) == NULL)
            {
                return true;
            }

            kv_mutex_unlock(&zone->commit_lock);
        }

        if (kit_now_ms() > end) {
            (void) snprintf(text, size, "it does not settle: rc %d, "
                            "retired %u, old %u, pinned %p, reap %u, queue %p",
                            rc, kv_epoch_count(&zone->retired),
                            atomic_load(&zone->map.old),
                            (void *) zone->retired.pinned,
                            atomic_load(&zone->reap),
                            (void *) atomic_load(&zone->queue));
            return false;
        }

        host_process_events(host, 5);
    }
}


/* The bytes of the heap that the map takes without its entries. */

static uint64_t
kit_map_bytes(kv_zone_t *zone)
{
    uint64_t        i, bytes;
    kv_bucket_t    *b;
    kv_map_root_t  *root;

    bytes = 0;
    root = atomic_load(&zone->map.root);

    for (i = 0; i < atomic_load(&root->buckets); i++) {
        b = &atomic_load(&root->chunk[i / KV_CHUNK_BUCKETS])
                                           [i % KV_CHUNK_BUCKETS];

        while ((b = atomic_load(&b->next)) != NULL) {
            bytes += sizeof(kv_bucket_t);
        }
    }

    bytes += zone->map.nreserved * sizeof(kv_bucket_t);
    bytes += ((i - 1) / KV_CHUNK_BUCKETS + KV_MAP_ROOTS) * KV_PAGE_SIZE;

    return bytes;
}


/* The same of the workers' records; the caller has locked the heap. */

static uint64_t
kit_op_bytes(kv_zone_t *zone)
{
    uint64_t        bytes;
    unsigned        worker;
    kv_op_chunk_t  *chunk;

    bytes = 0;

    for (worker = 0; worker < zone->nworkers; worker++) {
        for (chunk = zone->workers[worker].first.next; chunk;
             chunk = chunk->next)
        {
            bytes += sizeof(kv_op_chunk_t);
        }
    }

    return bytes;
}


/* How many keys of the index are in the map. */

typedef struct {
    kv_zone_t  *zone;
    uint64_t    found;
} kit_list_t;


static bool
kit_list(void *ctx, const unsigned char *key, size_t n)
{
    uint64_t     hash;
    kit_list_t  *list = ctx;

    hash = kv_map_hash(&list->zone->map, key, n);
    list->found += kv_map_find(&list->zone->map, hash, key, n) != NULL;

    return true;
}


/* Compares the index with the map, if there is one. */

static bool
kit_listed(kv_zone_t *zone, char *text, size_t size)
{
    kv_err_t    err;
    uint64_t    keys;
    kit_list_t  list;

    if (kv_index_check(&zone->index, &err) != KV_OK) {
        (void) snprintf(text, size, "%s", err.text);
        return false;
    }

    list.zone = zone;
    list.found = 0;
    kv_index_walk(&zone->index, "", 0, false, kit_list, &list);

    keys = zone->list ? atomic_load(&zone->map.keys) : 0;

    if (atomic_load(&zone->index.keys) != keys || list.found != keys) {
        (void) snprintf(text, size, "the index has %llu keys, %llu of the "
                        "map's %llu",
                        (unsigned long long) atomic_load(&zone->index.keys),
                        (unsigned long long) list.found,
                        (unsigned long long) keys);
        return false;
    }

    return true;
}


/* Compares the heap with what is accounted for; the committer must not run. */

static bool
kit_balanced(kv_zone_t *zone, char *text, size_t size)
{
    kv_rc_t         rc;
    uint64_t        sum[3], want, from, uploads, readers;
    kv_err_t        err;
    kv_heap_stat_t  st;

    memset(sum, 0, sizeof(sum));
    from = 0;
    kit_heap = zone->heap;

    do {
        from = kv_map_walk(&zone->map, from, 1000, kit_add, sum);
    } while (from);

    want = sum[0] + kit_map_bytes(zone);

    if (kv_heap_lock(zone->heap) != KV_OK) {
        (void) snprintf(text, size, "the heap is broken");
        return false;
    }

    want += kit_op_bytes(zone);
    want += kv_index_bytes(&zone->index);
    rc = kv_heap_check(zone->heap, &err);
    kv_heap_stat(zone->heap, &st);
    kv_heap_unlock(zone->heap);

    if (rc != KV_OK) {
        (void) snprintf(text, size, "%s", err.text);
        return false;
    }

    uploads = kv_heap_held(zone->heap, KV_HELD_UPLOADS);
    readers = kv_heap_held(zone->heap, KV_HELD_READERS);

    if (uploads || readers) {
        (void) snprintf(text, size, "uploads hold %llu bytes, readers %llu",
                        (unsigned long long) uploads,
                        (unsigned long long) readers);
        return false;
    }

    if (st.used != want) {
        (void) snprintf(text, size, "the heap holds %llu bytes, %llu "
                        "are accounted for (%llu of %llu keys)",
                        (unsigned long long) st.used,
                        (unsigned long long) want,
                        (unsigned long long) sum[0],
                        (unsigned long long) sum[2]);
        return false;
    }

    if (sum[2] != atomic_load(&zone->map.keys)
        || sum[1] != atomic_load(&zone->map.bytes))
    {
        (void) snprintf(text, size, "%llu keys of %llu bytes, the map "
                        "says %llu of %llu", (unsigned long long) sum[2],
                        (unsigned long long) sum[1],
                        (unsigned long long) atomic_load(&zone->map.keys),
                        (unsigned long long) atomic_load(&zone->map.bytes));
        return false;
    }

    return kit_listed(zone, text, size);
}


const char *
kit_settle(host_t *host)
{
    bool        balanced;
    kv_zone_t  *zone;

    static char  text[1024];

    if (!kit_idle(host, text, sizeof(text))) {
        return text;
    }

    zone = host->store->zone;
    balanced = kit_balanced(zone, text, sizeof(text));
    kv_mutex_unlock(&zone->commit_lock);

    return balanced ? NULL : text;
}


uint64_t
kit_now_ms(void)
{
    return kv_now_ns() / 1000000;
}
