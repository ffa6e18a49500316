
/*
 * Versions: an entry keeps the LSN of its write over every start, and the store
 * its incarnation, unless an LSN that clients saw may be given out again.
 * Then there is a new one, and no two starts have the same (kv_format.h,
 * "Identity").  And a directory of format version 1, kept in t/unit/format1 as
 * its module left it, is read, and written on as version 2.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "store/kv_state.h"
#include "ram.h"


#define FIRST  "log-0000000000000001.kvl"


static solo_t    solo;
static uint32_t  version;


static void
start(void)
{
    if (solo_start(&solo) != KV_OK) {
        fail_msg("%s", solo.err.text);
    }
}


static kv_rc_t
put(uint32_t id, uint32_t len)
{
    kv_rc_t   rc;
    kv_op_t  *op;

    assert_int_equal(kit_begin_put(&solo.host, id, ++version, len, &op),
                     KV_OK);
    solo_commit(&solo, &op, 1, &rc);

    return rc;
}


static kv_rc_t
delete(uint32_t id)
{
    char      key[32];
    kv_rc_t   rc;
    kv_op_t  *op;
    uint16_t  n;

    n = (uint16_t) kit_key(id, key);

    assert_int_equal(kv_store_delete(solo.host.store, key, n, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);

    return rc;
}


/* The LSN of a key's entry, 0 if there is none. */

static uint64_t
lsn_of(uint32_t id)
{
    char         key[32];
    size_t       n;
    uint64_t     lsn;
    kv_entry_t  *e;

    n = kit_key(id, key);

    if (kv_store_read(solo.host.store, key, n, &e) != KV_OK) {
        return 0;
    }

    lsn = kv_entry_lsn(e);
    kv_store_read_done(solo.host.store);

    return lsn;
}


static kv_identity_t
identity(void)
{
    return solo.host.store->zone->wal.id;
}


static uint64_t
incarnation(void)
{
    return identity().incarnation;
}


static void
restart(bool clean)
{
    solo_stop(&solo, clean);
    start();
}


/* The header of the segment that is written to. */

static kv_segment_header_t
header(void)
{
    char                  name[KV_NAME_MAX];
    ram_file_t           *f;
    kv_segment_header_t   h;

    (void) snprintf(name, sizeof(name), "log-%016" PRIx64 ".kvl",
                    solo.host.store->zone->wal.segment_lsn);
    f = ram_find(&solo.ram, name);
    assert_non_null(f);
    memcpy(&h, f->data, sizeof(h));

    return h;
}


static int
setup(void **state)
{
    (void) state;

    version = 0;
    solo_init(&solo, 4 << 20);

    return 0;
}


static int
teardown(void **state)
{
    (void) state;

    solo_done(&solo);

    return 0;
}


/* With sync=always nothing that a client saw is ever missing. */

static void
test_kept(void **state)
{
    unsigned       i;
    kv_identity_t  id, other;

    (void) state;

    start();
    id = identity();
    assert_true(id.store[0] || id.store[1]);
    assert_true(id.incarnation != 0);

    for (i = 0; i < 4; i++) {
        assert_int_equal(put(i, 100), KV_OK);
        restart(i % 2);
        other = identity();
        assert_memory_equal(&id, &other, sizeof(id));
        assert_int_equal(lsn_of(i), i + 1);
    }

    assert_int_equal(header().id.incarnation, id.incarnation);
    assert_int_equal(header().flags, 0);
    assert_int_equal(solo.host.store->zone->wal.segments, 1);

    /* another directory is another store */

    solo_stop(&solo, true);
    ram_clear(&solo.ram);
    start();
    other = identity();
    assert_memory_not_equal(id.store, other.store, sizeof(id.store));
    assert_true(other.incarnation != id.incarnation);
}


/* Where clients see what is not on disk yet, a clean end alone keeps it. */

static void
test_loose(void **state)
{
    unsigned  i;
    uint64_t  before, again;

    (void) state;

    for (i = 0; i < 2; i++) {
        solo.conf.sync = i ? KV_SYNC_OFF : KV_SYNC_INTERVAL;
        solo.conf.sync_interval = 60000;

        start();
        assert_int_equal(put(1, 100), KV_OK);
        assert_int_equal(header().flags, KV_SEGMENT_LOOSE);
        before = incarnation();

        restart(true);
        assert_int_equal(incarnation(), before);

        restart(true);
        assert_int_equal(incarnation(), before);
        assert_int_equal(put(2, 100), KV_OK);

        restart(false);
        again = incarnation();
        assert_true(again > before);

        /* nothing was written: the same files, but never the same again */

        restart(false);
        assert_true(incarnation() > before && incarnation() != again);
        again = incarnation();

        /* a write has it, and where that is no other has it as well */

        assert_int_equal(put(3, 100), KV_OK);
        assert_int_equal(header().id.incarnation, again);

        restart(true);
        assert_int_equal(incarnation(), again);

        solo_stop(&solo, true);
        ram_clear(&solo.ram);
    }
}


/*
 * The note of a clean end names the incarnation, too: it may be that no segment
 * does, as nothing was written.
 */

static void
test_note_names_it(void **state)
{
    uint64_t  before, after;

    (void) state;

    solo.conf.sync = KV_SYNC_OFF;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();

    restart(false);
    after = incarnation();
    assert_true(after > before);

    restart(true);
    assert_true(incarnation() >= after);
    assert_int_equal(put(2, 100), KV_OK);
    assert_true(header().id.incarnation >= after);
}


/* A copy has other inodes, whether it was made of a stopped server or not. */

static void
test_copied(void **state)
{
    unsigned  i;
    uint64_t  before, copy;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);

    for (i = 0; i < 4; i++) {
        before = incarnation();
        solo_stop(&solo, i % 2);
        ram_copied(&solo.ram);
        start();
        copy = incarnation();
        assert_true(copy > before);
        assert_int_equal(lsn_of(1), 1);

        /* as long as nothing is written it is a copy still */

        restart(i / 2);
        assert_true(incarnation() > before && incarnation() != copy);

        assert_int_equal(put(2, 100), KV_OK);
        copy = incarnation();
        restart(false);
        assert_int_equal(incarnation(), copy);
    }
}


/* What inodes do not tell, people do. */

static void
test_restored(void **state)
{
    uint64_t             before;
    static const uint8_t nothing;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    solo_stop(&solo, true);

    ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
    start();
    assert_true(incarnation() > before);

    /* it goes when the log names the new incarnation */

    before = incarnation();
    assert_non_null(ram_find(&solo.ram, KV_RESTORED_NAME));
    assert_int_equal(put(2, 100), KV_OK);
    assert_null(ram_find(&solo.ram, KV_RESTORED_NAME));
    assert_int_equal(header().id.incarnation, before);

    restart(false);
    assert_int_equal(incarnation(), before);
}


/* A zone that is read anew, as a worker died, has met no restart. */

static void
test_rebuilt(void **state)
{
    uint64_t     before;
    kv_store_t  *store;

    (void) state;

    solo.conf.sync = KV_SYNC_OFF;
    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();

    store = solo.host.store;
    kv_state_break(store, "a test");
    kv_store_reset(store);
    atomic_store(&store->worker->generation, UINT64_MAX);

    assert_true(kv_store_todo(store) & KV_TODO_COMMIT);
    kv_store_commit(store);
    kv_store_reset(store);
    assert_int_equal(atomic_load(&store->zone->rebuilds), 1);

    assert_int_equal(incarnation(), before);
    assert_int_equal(lsn_of(1), 1);
    assert_int_equal(put(2, 100), KV_OK);
    assert_int_equal(solo.host.store->zone->wal.segments, 1);
}


/* Entries keep their LSNs through snapshots, and where only these are left. */

static void
test_snapshots(void **state)
{
    unsigned  i;

    (void) state;

    solo.conf.snapshot = 1 << 20;
    solo.conf.max_value = 100000;
    solo.conf.segment = 1 << 20;
    start();

    for (i = 1; i <= 20; i++) {
        assert_int_equal(put(i, i == 7 ? 90000 : 20 * i), KV_OK);
    }

    assert_int_equal(put(3, 50), KV_OK);
    assert_int_equal(delete(4), KV_OK);

    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    assert_int_equal(solo.host.store->zone->snapshot_lsn, 22);
    assert_int_equal(put(5, 50), KV_OK);
    restart(false);

    for (i = 1; i <= 20; i++) {
        assert_int_equal(lsn_of(i), i == 3 ? 21 : i == 4 ? 0 : i == 5 ? 23 : i);
    }
}


/*
 * Writes that are seen before they are on disk begin a segment that says so;
 * others go on there, and after it comes one for them.
 */

static void
test_segments(void **state)
{
    unsigned    i, syncs;
    kv_zone_t  *zone;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    zone = solo.host.store->zone;
    assert_int_equal(header().flags, 0);

    solo.host.store->conf.sync = KV_SYNC_OFF;
    assert_int_equal(put(1, 100), KV_OK);
    assert_int_equal(header().flags, KV_SEGMENT_LOOSE);
    assert_int_equal(zone->wal.segments, 2);
    syncs = solo.ram.calls[RAM_FDATASYNC] + solo.ram.calls[RAM_FSYNC];
    assert_int_equal(put(1, 100), KV_OK);
    assert_int_equal(solo.ram.calls[RAM_FDATASYNC]
                     + solo.ram.calls[RAM_FSYNC], syncs);

    solo.host.store->conf.sync = KV_SYNC_ALWAYS;
    assert_int_equal(put(1, 100), KV_OK);
    assert_int_equal(zone->wal.segments, 2);

    /* one more that takes both, as both came; then one for these */

    for (i = 0; i < 200 && zone->wal.segments < 4; i++) {
        assert_int_equal(put(1, 4000), KV_OK);

        if (zone->wal.segments == 3) {
            assert_int_equal(header().flags, KV_SEGMENT_LOOSE);
        }
    }

    assert_int_equal(header().flags, 0);
}


/* Deletes that find no room for a new segment are synced instead. */

static void
test_full_disk(void **state)
{
    unsigned       syncs;
    kv_segment_header_t  before, after;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = header();

    solo.host.store->conf.sync = KV_SYNC_OFF;
    solo.ram.fault[0].call = RAM_OPEN;
    solo.ram.fault[0].error = ENOSPC;
    solo.ram.fault[0].nth = solo.ram.calls[RAM_OPEN] + 1;
    solo.ram.fault[0].times = 1000;

    assert_int_equal(put(2, 100), KV_NO_SPACE);

    syncs = solo.ram.calls[RAM_FDATASYNC];
    assert_int_equal(delete(1), KV_OK);
    after = header();
    assert_memory_equal(&before, &after, sizeof(before));
    assert_true(solo.ram.calls[RAM_FDATASYNC] > syncs);
    solo.ram.fault[0].nth = 0;
}


/* A segment of another store is not taken for one of ours. */

static void
test_foreign(void **state)
{
    ram_file_t           *f;
    kv_segment_header_t   h;

    (void) state;

    solo.conf.snapshot = 1 << 20;
    start();
    assert_int_equal(put(1, 100), KV_OK);
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    solo_stop(&solo, true);

    f = ram_find(&solo.ram, FIRST);
    memcpy(&h, f->data, sizeof(h));
    h.id.store[0]++;
    h.crc = 0;
    memcpy(f->data, &h, sizeof(h));
    h.crc = kv_crc32c(0, f->data, KV_SEGMENT_HEADER);
    memcpy(f->data, &h, sizeof(h));

    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    assert_non_null(strstr(solo.err.text, FIRST ": offset 40: the segment is "
                           "of another store"));
}


/* Puts a file of t/unit/format1 into the directory, `size` bytes long. */

static void
load(const char *name, size_t size)
{
    int             fd;
    char            path[100];
    FILE           *file;
    struct iovec    iov;
    unsigned char  *data;

    data = calloc(1, size);
    assert_non_null(data);

    (void) snprintf(path, sizeof(path), "t/unit/format1/%s", name);
    file = fopen(path, "r");

    if (file == NULL) {
        fail_msg("%s: %s; run this at the top of the project", path,
                 strerror(errno));
    }

    assert_true(fread(data, 1, size, file) > 0);
    (void) fclose(file);

    fd = solo.ram.io.open(&solo.ram.io, 3, name, O_CREAT|O_EXCL|O_RDWR);
    iov.iov_base = data;
    iov.iov_len = size;
    assert_int_equal(solo.ram.io.pwritev(&solo.ram.io, fd, &iov, 1, 0), size);
    assert_int_equal(solo.ram.io.fsync(&solo.ram.io, fd), 0);
    assert_int_equal(solo.ram.io.close(&solo.ram.io, fd), 0);
    free(data);
}


/*
 * What was done to it: keys 0 to 7 were put with 20 + 30 * id bytes, 3 was
 * deleted, a snapshot made (LSN 9), key 2 was put with 3000 bytes and 8 with 8,
 * 4 was deleted, and the server stopped.  The version in a value is the number
 * of the put.
 */

static void
test_format_1(void **state)
{
    kv_rc_t   rc;
    uint32_t  id, got, len;
    unsigned  kind;

    (void) state;

    /* all of it; without the note; the log alone */

    for (kind = 0; kind < 3; kind++) {

        load(FIRST, 64 << 10);

        if (kind < 2) {
            load("snap-0000000000000009.kvs", 1144);
        }

        if (kind < 1) {
            load("log-000000000000000c.closed", 64);
        }

        start();
        assert_int_equal(solo.warnings, 0);
        assert_true(incarnation() != 0);

        for (id = 0; id < 10; id++) {
            rc = kit_get(&solo.host, id, &got, &len);

            if (id == 3 || id == 4 || id == 9) {
                assert_int_equal(rc, KV_NOT_FOUND);
                continue;
            }

            assert_int_equal(rc, KV_OK);
            assert_int_equal(got, id == 2 ? 9 : id == 8 ? 10 : id + 1);
            assert_int_equal(len, id == 2 ? 3000 : id == 8 ? 8 : 20 + id * 30);
            assert_int_equal(lsn_of(id), id == 2 ? 10 : id == 8 ? 11
                                         : kind == 2 ? id + 1 : 9);
        }

        /* from now on it is version 2 */

        assert_int_equal(put(9, 100), KV_OK);
        assert_int_equal(header().version, 2);
        assert_int_equal(header().first_lsn, 13);
        assert_int_equal(solo.host.store->zone->wal.segments, 2);

        restart(false);
        assert_int_equal(solo.warnings, 0);
        assert_int_equal(header().id.incarnation, incarnation());
        assert_int_equal(lsn_of(9), 13);
        assert_int_equal(lsn_of(8), 11);

        solo_stop(&solo, true);
        ram_clear(&solo.ram);
    }
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_kept),
        TEST(test_loose),
        TEST(test_note_names_it),
        TEST(test_copied),
        TEST(test_restored),
        TEST(test_rebuilt),
        TEST(test_snapshots),
        TEST(test_segments),
        TEST(test_full_disk),
        TEST(test_foreign),
        TEST(test_format_1)
    };

    cmocka_set_test_filter(getenv("KIT_TEST"));

    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
