
/*
 * A store in a directory in memory; see solo.h.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory/kv_poison.h"
#include "solo.h"


#define SOLO_PLACES  2


static bool solo_moved_away(const char *text, const char *name);


solo_t  solo;

/* the memory of the last one that is done, which the next may have */

static void    *kept;
static size_t   kept_size;


static void
solo_log(void *ctx, kv_log_level_t level, const char *text)
{
    solo_t  *solo = ctx;

    solo->warnings += level <= KV_LOG_WARN;
    solo->old_notes += strstr(text, "says that the log was closed") != NULL;
    solo->stuck_notes += strstr(text, "closed, the note of the log's last end, "
                                      "cannot be deleted: ") != NULL;

    if (getenv("KIT_LOG")) {
        (void) fprintf(stderr, "[%d] %s\n", level, text);
    }
}


void
solo_init(solo_t *solo, size_t zone)
{
    memset(solo, 0, sizeof(solo_t));
    ram_init(&solo->ram);
    kv_poison_alone = true;

    solo->size = zone;

    if (kept && kept_size == zone) {
        solo->mem = kept;
        kept = NULL;

    } else {
        solo->mem = mmap(NULL, zone, PROT_READ|PROT_WRITE,
                         MAP_PRIVATE|MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(solo->mem, MAP_FAILED);
    }

    solo->conf.name = "test";
    solo->conf.path = "ram";
    solo->conf.sync = KV_SYNC_ALWAYS;
    solo->conf.list = getenv("KV_LIST") != NULL;
    solo->conf.cluster = kit_cluster();
    solo->conf.batch = 100;
    solo->conf.segment = 64 << 10;
    solo->conf.max_value = 4096;
    solo->conf.log = solo_log;
    solo->conf.log_ctx = solo;
}


void
solo_done(solo_t *solo)
{
    if (solo->host.store) {
        solo_stop(solo, false);
    }

    ram_clear(&solo->ram);
    kv_poison_forget(solo->mem, solo->size);

    if (kept) {
        (void) munmap(kept, kept_size);
    }

    kept = solo->mem;
    kept_size = solo->size;
}


kv_rc_t
solo_start(solo_t *solo)
{
    size_t       n;
    kv_rc_t      rc;
    kv_store_t  *store;

    /* what is new but for the heap's pages, which a rebuild reuses as well */

    n = kv_store_overhead(solo->size, SOLO_PLACES) + KV_PAGE_SIZE;
    kv_poison_forget(solo->mem, n);
    memset(solo->mem, 0, n);

    memset(&solo->host, 0, sizeof(host_t));
    solo->host.hold = true;
    solo->warnings = 0;
    solo->old_notes = 0;
    solo->stuck_notes = 0;
    solo->err.text[0] = '\0';

    rc = kv_store_create(&store, &solo->conf, solo->mem, solo->size,
                         SOLO_PLACES, &solo->ram.io, 3, &solo->err);

    if (rc != KV_OK) {
        assert_int_equal(ram_open_fds(&solo->ram), 0);
        return rc;
    }

    solo->host.store = store;
    assert_int_equal(kv_store_enter(store), KV_OK);

    return KV_OK;
}


void
solo_stop(solo_t *solo, bool clean)
{
    kv_store_t  *store;

    store = solo->host.store;

    if (clean) {
        store->stop = 1;
        kv_store_commit(store);
    }

    kv_store_leave(store);

    if (clean) {
        kv_store_close(store);
    }

    kv_store_destroy(store);
    solo->host.store = NULL;

    assert_int_equal(ram_open_fds(&solo->ram), 0);
}


bool
solo_way_out(solo_t *solo)
{
    char                  name[KV_NAME_MAX];
    bool                  done;
    unsigned              i;
    uint64_t              size;
    ram_file_t           *f;
    const char           *p, *text;
    static const uint8_t  nothing;

    text = solo->err.text;
    done = false;

    for (i = 0; i < RAM_FILES; i++) {
        f = &solo->ram.file[i];

        if (f->name[0] && solo_moved_away(text, f->name)) {
            (void) solo->ram.io.unlink(&solo->ram.io, 3, f->name);
            done = true;
        }
    }

    for (p = text; (p = strstr(p, "truncate -s ")) != NULL; p++) {
        if (sscanf(p + 12, "%" SCNu64 " %63[^ \"]", &size, name) == 2) {
            f = ram_find(&solo->ram, name);

            if (f == NULL) {
                return false;
            }

            ram_resize(f, size);
            done = true;
        }
    }

    p = strstr(text, "\"touch ");

    if (p && sscanf(p + 7, "%63[^\"]", name) == 1) {
        if (ram_find(&solo->ram, name) == NULL) {
            ram_borrow(&solo->ram, name, &nothing, 0);
        }

        done = true;
    }

    return done;
}


/* Whether the text of a refusal says so of this file. */

static bool
solo_moved_away(const char *text, const char *name)
{
    char         refused[KV_NAME_MAX];
    bool         all;
    uint64_t     lsn, than;
    const char  *p;

    refused[0] = '\0';
    (void) sscanf(text, "%63[^:]", refused);

    all = strstr(text, "move every log-*") != NULL;

    if (strncmp(name, "log-", 4) == 0 && all) {
        return true;
    }

    /* the note of the log's end, where it is named */

    if (strstr(name, ".closed")) {
        p = strstr(text, ", move ");
        return p && strstr(p, name);
    }

    if (strncmp(name, "log-", 4) == 0) {
        return (strstr(text, "all segments after it")
                && strcmp(name, refused) > 0)
               || (strstr(text, "move this file")
                   && strcmp(name, refused) == 0);
    }

    if (sscanf(name, "snap-%16" SCNx64 ".kvs", &lsn) == 1) {
        p = strstr(text, "every snap-*.kvs newer than snap-");
        than = p ? strtoull(p + 33, NULL, 16) : 0;
        return strstr(text, "every snap-*.kvs") && (p == NULL || lsn > than);
    }

    return false;
}


void
solo_commit(solo_t *solo, kv_op_t **op, unsigned n, kv_rc_t *rc)
{
    unsigned     i;
    kv_store_t  *store;

    store = solo->host.store;

    for (i = 0; i < n; i++) {
        (void) kv_store_submit(store, op[i]);
    }

    /* there is no other writer: the committer need not wait for the next */

    store->zone->spin = 0;
    store->zone->idle_ns = 0;

    kv_store_commit(store);

    for (i = 0; i < n; i++) {
        assert_true(kv_store_done(op[i], &rc[i]));
        kv_store_release(store, op[i]);
    }
}


kv_rc_t
solo_put(solo_t *solo, uint32_t id, uint32_t len)
{
    kv_rc_t   rc;
    kv_op_t  *op;

    rc = kit_begin_put(&solo->host, id, 1, len, &op);

    if (rc == KV_OK) {
        solo_commit(solo, &op, 1, &rc);
    }

    return rc;
}


void
solo_background(solo_t *solo, unsigned requests)
{
    kv_zone_t  *zone;

    zone = solo->host.store->zone;

    (void) atomic_fetch_or(&zone->requests, requests);

    if (kv_store_todo(solo->host.store) & KV_TODO_BACKGROUND) {
        kv_store_background(solo->host.store);
    }
}


int
solo_setup(void **state)
{
    (void) state;

    solo_init(&solo, 4 << 20);

    return 0;
}


int
solo_teardown(void **state)
{
    (void) state;

    solo_done(&solo);

    return 0;
}
