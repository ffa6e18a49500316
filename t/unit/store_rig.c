
/*
 * The fixture of the store's tests: one store, its host, and what each key must
 * be.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_rig.h"


kit_t         kit;
host_t        host;
uint32_t      shadow[IDS];
_Atomic bool  rig_quitting;

static bool      running;          /* the host */
static uint64_t  seed;


uint32_t
rig_rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (uint32_t) (seed >> 16) % n;
}


int
rig_setup(void **state)
{
    (void) state;

    seed = 88172645463325252ull;
    memset(shadow, 0, sizeof(shadow));

    kit_open(&kit, 16 << 20, 8);
    kit.conf.list = true;
    kit.io->fast = true;
    kit_typed = KV_META_TYPE;

    return 0;
}


int
rig_teardown(void **state)
{
    (void) state;

    if (running) {
        running = false;
        (void) host_stop(&host);
    }

    kit_close(&kit);

    return 0;
}


void
rig_start(void)
{
    if (kit_start(&kit) != KV_OK) {
        fail_msg("%s", kit.err.text);
    }

    assert_int_equal(host_start(&host, kit.store), KV_OK);
    running = true;
}


void
rig_settled(void)
{
    const char  *wrong;

    wrong = kit_settle(&host);

    if (wrong) {
        fail_msg("%s", wrong);
    }
}


void
rig_stop(void)
{
    running = false;
    assert_true(host_stop(&host));
    kit_stop(&kit);
}


void
rig_verify(void)
{
    kv_rc_t   rc;
    uint32_t  id, version, keys;

    keys = 0;

    for (id = 0; id < IDS; id++) {
        rc = kit_get(&host, id, &version, NULL);

        if (rc != (shadow[id] ? KV_OK : KV_NOT_FOUND)
            || (rc == KV_OK && version != shadow[id]))
        {
            fail_msg("key %u: rc %d, version %u, not %u", id, rc,
                     rc == KV_OK ? version : 0, shadow[id]);
        }

        keys += shadow[id] != 0;
    }

    assert_int_equal(atomic_load(&kit.store->zone->map.keys), keys);
}


void
rig_restart(void)
{
    rig_stop();
    rig_start();
    rig_verify();
    rig_settled();
}


void
rig_put(uint32_t id, uint32_t version, uint32_t len)
{
    assert_int_equal(kit_put(&host, id, version, len, NULL), KV_OK);
    shadow[id] = version;
}


void
rig_traffic(unsigned rounds)
{
    char       key[32];
    size_t     n;
    kv_rc_t    rc;
    kv_op_t   *op[64];
    uint32_t   id;
    unsigned   i, k, count;

    static uint32_t  version;

    for (i = 0; i < rounds; i++) {
        count = 1 + rig_rnd(64);

        for (k = 0; k < count; k++) {
            id = rig_rnd(IDS);
            version++;

            if (rig_rnd(4)) {
                rc = kit_begin_put(&host, id, version,
                                   rig_rnd(40) ? 8 + rig_rnd(900)
                                               : 30000 + rig_rnd(100000),
                                   &op[k]);
                shadow[id] = version;

            } else {
                n = kit_key(id, key);
                rc = kv_store_delete(kit.store, key, (uint16_t) n, &op[k]);
                shadow[id] = 0;
            }

            assert_int_equal(rc, KV_OK);
            host_post_tasks(&host, kv_store_submit(kit.store, op[k]));
        }

        for (k = 0; k < count; k++) {
            while (!kv_store_done(op[k], &rc)) {
                host_process_events(&host, KV_STORE_WATCH);
            }

            assert_int_equal(rc, KV_OK);
            kv_store_release(kit.store, op[k]);
        }
    }
}


void
rig_snapshot(void)
{
    uint64_t    end, made;
    kv_zone_t  *zone;

    zone = kit.store->zone;
    end = kit_now_ms() + 30000;
    made = atomic_load(&zone->snapshots) + atomic_load(&zone->snapshots_failed);

    (void) atomic_fetch_or(&zone->requests, KV_REQUEST_SNAPSHOT);

    while (atomic_load(&zone->snapshots)
           + atomic_load(&zone->snapshots_failed) == made
           || atomic_load(&zone->background))
    {
        assert_true(kit_now_ms() < end);
        host_process_events(&host, 5);
    }
}


bool
rig_is_quitting(void)
{
    return rig_quitting;
}
