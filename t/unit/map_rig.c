
/*
 * The map's fixture: a zone without a log, and entries that say what they are.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "map_rig.h"
#include "memory/kv_poison.h"


/*
 * A value says whose it is, which one, and is of one byte that follows from
 * both: torn and foreign ones are told.
 */

typedef struct {
    uint32_t  id;
    uint32_t  version;
} stamp_t;


kv_zone_t    *zone;
kv_worker_t  *workers;
uint64_t      map_seed;

static char    *region;
static size_t   region_size;


uint32_t
map_rnd_of(uint64_t *s, uint32_t n)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;

    return (uint32_t) (*s >> 16) % n;
}


uint32_t
map_rnd(uint32_t n)
{
    return map_rnd_of(&map_seed, n);
}


static int
setup_size(size_t size)
{
    char    *p;
    size_t   dir;

    map_seed = 88172645463325252ull;
    region_size = size;

    region = mmap(NULL, size, PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);

    if (region == MAP_FAILED) {
        return -1;
    }

    zone = (kv_zone_t *) region;
    p = region + kv_align(sizeof(kv_zone_t), KV_CACHE_LINE);

    workers = (kv_worker_t *) p;
    p += PLACES * sizeof(kv_worker_t);

    dir = kv_map_directory_size(size);

    zone->heap = kv_heap_create(p + dir, (size_t) (region + size - p) - dir);

    if (zone->heap == NULL || kv_workers_create(workers, PLACES) != KV_OK) {
        return -1;
    }

    zone->workers = workers;
    zone->nworkers = PLACES;

    kv_retire_list_create(&zone->retired, zone->heap, workers, PLACES);

    return kv_map_create(&zone->map, zone->heap, &zone->retired, p, size)
           == KV_OK ? 0 : -1;
}


int
map_setup(void **state)
{
    (void) state;

    return setup_size((size_t) 64 << 20);
}


int
map_setup_small(void **state)
{
    (void) state;

    return setup_size((size_t) 3 << 20);
}


int
map_teardown(void **state)
{
    (void) state;

    kv_poison_forget(region, region_size);
    return munmap(region, region_size);
}


kv_heap_stat_t
map_heap_stat(void)
{
    kv_err_t        err;
    kv_heap_stat_t  st;

    assert_int_equal(kv_heap_lock(zone->heap), KV_OK);

    if (kv_heap_check(zone->heap, &err) != KV_OK) {
        fail_msg("%s", err.text);
    }

    kv_heap_stat(zone->heap, &st);
    kv_heap_unlock(zone->heap);

    return st;
}


void
map_assert_empty(void)
{
    assert_int_equal(kv_epoch_reclaim(&zone->retired), KV_OK);
    assert_int_equal(kv_map_sweep(&zone->map, UINT32_MAX), KV_OK);
    assert_int_equal(kv_epoch_count(&zone->retired), 0);
    assert_int_equal(atomic_load(&zone->map.keys), 0);
    assert_int_equal(atomic_load(&zone->map.bytes), 0);

    assert_int_equal(map_heap_stat().used,
                     KV_MAP_ROOTS * KV_PAGE_SIZE
                     + zone->map.nreserved * sizeof(kv_bucket_t));
}


size_t
map_key_of(uint32_t id, char *key)
{
    return (size_t) sprintf(key, "key-%u", id);
}


static unsigned char
fill_of(uint32_t id, uint32_t version)
{
    return (unsigned char) ((id * 31 + version * 2654435761u) >> 5);
}


bool
map_entry_is(const kv_entry_t *e, uint32_t id, uint32_t *version)
{
    char           key[32];
    size_t         n, len, i, k;
    stamp_t        stamp;
    struct iovec   iov[64];
    unsigned char  fill, *p;

    n = map_key_of(id, key);

    if (e->key_len != n || memcmp(e->key, key, n) != 0) {
        return false;
    }

    n = kv_entry_iov(e, iov, 64, 0);
    len = 0;
    fill = 0;

    for (i = 0; i < n; i++) {
        p = iov[i].iov_base;
        k = 0;

        if (i == 0) {
            if (iov[0].iov_len < sizeof(stamp)) {
                return false;
            }

            memcpy(&stamp, p, sizeof(stamp));
            fill = fill_of(stamp.id, stamp.version);
            k = sizeof(stamp);
        }

        if (k < iov[i].iov_len
            && (p[k] != fill
                || memcmp(p + k, p + k + 1, iov[i].iov_len - k - 1) != 0))
        {
            return false;
        }

        len += iov[i].iov_len;
    }

    if (len != e->value_len || stamp.id != id) {
        return false;
    }

    *version = stamp.version;

    return true;
}


kv_entry_t *
map_make_entry(uint32_t id, uint32_t version, uint32_t len)
{
    char         key[32];
    size_t       n;
    stamp_t      stamp;
    kv_rc_t      rc;
    kv_entry_t  *e;

    static _Thread_local unsigned char  buf[1 << 20];

    assert(len >= sizeof(stamp) && len <= sizeof(buf));

    stamp.id = id;
    stamp.version = version;

    memcpy(buf, &stamp, sizeof(stamp));
    memset(buf + sizeof(stamp), fill_of(id, version), len - sizeof(stamp));

    n = map_key_of(id, key);
    e = NULL;

    rc = kv_entry_create(zone->heap, &e, key, (uint16_t) n, len, 0);

    if (rc != KV_OK) {
        return NULL;
    }

    kv_entry_write(e, 0, buf, len);

    return e;
}


uint64_t
map_hash_of(uint32_t id, char *key, size_t *n)
{
    *n = map_key_of(id, key);

    return kv_map_hash(&zone->map, key, *n);
}


bool
map_put(uint32_t id, uint32_t version, uint32_t len)
{
    char         key[32];
    size_t       n;
    uint64_t     hash;
    kv_entry_t  *e, *old;

    if (kv_map_reserve(&zone->map, 1) != 1) {
        return false;
    }

    e = map_make_entry(id, version, len);

    if (e == NULL) {
        return false;
    }

    hash = map_hash_of(id, key, &n);
    old = kv_map_put(&zone->map, hash, e);

    if (old) {
        assert_int_equal(kv_epoch_reserve(&zone->retired, 1), 1);
        assert_int_equal(kv_epoch_retire(&zone->retired, old,
                                         KV_RETIRED_ENTRY), KV_OK);
    }

    return true;
}


bool
map_drop(uint32_t id)
{
    char         key[32];
    size_t       n;
    uint64_t     hash;
    kv_entry_t  *old;

    hash = map_hash_of(id, key, &n);
    old = kv_map_delete(&zone->map, hash, key, n);

    if (old) {
        assert_int_equal(kv_epoch_reserve(&zone->retired, 1), 1);
        assert_int_equal(kv_epoch_retire(&zone->retired, old,
                                         KV_RETIRED_ENTRY), KV_OK);
    }

    return old != NULL;
}


void
map_clear(void)
{
    kv_rc_t  rc;

    while ((rc = kv_map_clearable(&zone->map, 1, UINT32_MAX)) == KV_BUSY) {
        sched_yield();
    }

    assert_int_equal(rc, KV_OK);

    kv_map_clear(&zone->map);
}


kv_entry_t *
map_find(uint32_t id)
{
    char      key[32];
    size_t    n;
    uint64_t  hash;

    hash = map_hash_of(id, key, &n);

    return kv_map_find(&zone->map, hash, key, n);
}


uint32_t
map_some_length(uint64_t *s)
{
    uint32_t  r;

    r = map_rnd_of(s, 1000);

    if (r < 900) {
        return 8 + map_rnd_of(s, 200);
    }

    return r < 996 ? 8 + map_rnd_of(s, 5000) : 8 + map_rnd_of(s, 150000);
}
