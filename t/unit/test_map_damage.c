
/*
 * What the map notices by itself: entries and cells that are not what was put,
 * seen as they are published, and when they are read again.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "map_rig.h"
#include "memory/kv_map_private.h"


enum {
    PUT_KEY = 0,
    PUT_VALUE,
    PUT_PARTIAL,
    PUT_AGAIN,
    PUT_RESERVE,
    READ_VALUE,
    READ_PARTIAL,
    WALK_KEY,
    WALK_VALUE,
    DELETE_KEYS,
    DELETE_BYTES,
    REPLACE_BYTES,
    RELOCATE_KEY,
    RELOCATE_VALUE,
    SPLIT_TAG,
    SPLIT_BUCKET,
    CLEAR_STATE,
    CLEAR_BUCKETS,
    SWEEP_CURRENT,
    DAMAGES
};


static void
seen(void *ctx, const kv_entry_t *e)
{
    (void) ctx;
    (void) e;
}


/* An entry that is wrong before it is put. */

static void
damage_put(int what, kv_entry_t *e, uint64_t hash)
{
    unsigned  i;

    switch (what) {

    case PUT_KEY:
        e->key_len = KV_KEY_MAX + 1;
        break;

    case PUT_VALUE:
        e->value_len = KV_VALUE_MAX + 1;
        break;

    case PUT_PARTIAL:
        e->flags |= KV_ENTRY_PARTIAL;
        break;

    case PUT_AGAIN:
        (void) kv_map_put(&zone->map, hash, e);
        break;

    case PUT_RESERVE:
        kv_set_relaxed(zone->map.reserved->cell[3], 8);

        for (i = 0; i < KV_BUCKET_CELLS; i++) {
            (void) kv_map_put(&zone->map, hash, map_make_entry(2 + i, 1, 8));
        }

        break;
    }

    (void) kv_map_put(&zone->map, hash, e);
}


/* One that is in the map, and no longer what it was when it was put. */

static void
damage_entry(int what, kv_entry_t *e, uint64_t hash)
{
    char         key[32];
    size_t       n;
    kv_entry_t  *copy;

    n = map_key_of(1, key);

    switch (what) {

    case READ_VALUE:
    case WALK_VALUE:
        e->value_len = KV_LENGTH_UNKNOWN;
        break;

    case READ_PARTIAL:
        e->flags |= KV_ENTRY_PARTIAL;
        break;

    case WALK_KEY:
        e->key_len = INT16_MAX;
        break;

    case DELETE_KEYS:
        kv_set_relaxed(zone->map.keys, 0);
        break;

    case DELETE_BYTES:
    case REPLACE_BYTES:
        kv_set_relaxed(zone->map.bytes, 3);
        break;
    }

    switch (what) {

    case READ_VALUE:
    case READ_PARTIAL:
        (void) kv_map_find(&zone->map, hash, key, n);
        break;

    case WALK_VALUE:
    case WALK_KEY:
        (void) kv_map_walk(&zone->map, 0, UINT32_MAX, seen, NULL);
        break;

    case DELETE_KEYS:
    case DELETE_BYTES:
        (void) kv_map_delete(&zone->map, hash, key, n);
        break;

    case REPLACE_BYTES:
        e->value_len = KV_VALUE_MAX;
        (void) kv_map_put(&zone->map, hash, map_make_entry(1, 2, 100));
        break;

    case RELOCATE_KEY:
    case RELOCATE_VALUE:
        copy = map_make_entry(what == RELOCATE_KEY ? 7 : 1, 1,
                              what == RELOCATE_KEY ? 100 : 101);
        (void) kv_map_relocate(&zone->map, e, copy);
        break;
    }
}


/* A cell or a root that says what is not so. */

static void
damage_map(int what)
{
    char            key[32];
    size_t          n;
    uint64_t        hash;
    uint32_t        id;
    kv_map_t       *map;
    kv_map_root_t  *root;

    map = &zone->map;
    root = kv_get_relaxed(map->root);

    /* into bucket 0, where it belongs or not */

    for (id = 0; ; id++) {
        hash = map_hash_of(id, key, &n);

        if ((hash % KV_CHUNK_BUCKETS == 0) == (what != SPLIT_BUCKET)) {
            break;
        }
    }

    hash &= ~(uint64_t) (KV_CHUNK_BUCKETS - 1);
    hash ^= what == SPLIT_TAG ? UINT64_C(1) << 63 : 0;
    (void) kv_map_put(map, hash, map_make_entry(id, 1, 100));

    switch (what) {

    case SPLIT_TAG:
    case SPLIT_BUCKET:
        kv_set_relaxed(map->keys, KV_CHUNK_BUCKETS * KV_MAP_LOAD + 1);
        kv_map_grow(map);
        break;

    case CLEAR_STATE:
        root->state = KV_ROOT_APART;
        kv_map_clear(map);
        break;

    case CLEAR_BUCKETS:
        kv_set_relaxed(map->roots[1].buckets, 1);
        kv_set_relaxed(map->roots[2].buckets, 1);
        kv_map_clear(map);
        break;

    case SWEEP_CURRENT:
        kv_map_clear(map);
        root->state = KV_ROOT_CURRENT;
        kv_get_relaxed(map->root)->state = KV_ROOT_APART;
        (void) kv_map_sweep(map, 10);
        break;
    }
}


static void
damage(int what)
{
    char         key[32];
    size_t       n;
    uint64_t     hash;
    kv_entry_t  *e;

    (void) dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    (void) setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
    (void) signal(SIGABRT, SIG_DFL);

    e = map_make_entry(1, 1, 100);
    hash = map_hash_of(1, key, &n);

    if (e == NULL || kv_map_reserve(&zone->map, 20) != 20) {
        _exit(1);
    }

    if (what < READ_VALUE) {
        damage_put(what, e, hash);

    } else if (what < SPLIT_TAG) {
        (void) kv_map_put(&zone->map, hash, e);
        damage_entry(what, e, hash);

    } else {
        damage_map(what);
    }

    _exit(0);
}


static void
test_damage(void **state)
{
    int    what, status;
    pid_t  pid;

    for (what = 0; what < DAMAGES; what++) {
        pid = fork();

        if (pid == 0) {
            damage(what);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
            fail_msg("damage %d went unnoticed", what);
        }

        assert_int_equal(map_teardown(state), 0);
        assert_int_equal(map_setup(state), 0);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_damage, map_setup, map_teardown)
    };

    return cmocka_run_group_tests_name("map damage", tests, NULL, NULL);
}
