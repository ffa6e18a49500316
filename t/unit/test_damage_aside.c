
/*
 * What becomes of a snapshot that is damaged or cannot be read: it is put
 * aside, no longer counts, and costs nothing but itself; and what a refusal
 * advises is there to be done.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/kv_crc32c.h"
#include "damage_rig.h"


const char *__asan_default_options(void);


/* Freed memory is held back, so every page of it is a new one: not for long. */

const char *
__asan_default_options(void)
{
    return "quarantine_size_mb=8";
}


static const char *
aside(unsigned file)
{
    static char  name[KV_NAME_MAX + 16];

    (void) snprintf(name, sizeof(name), "%s.damaged", before.file[file].name);

    return name;
}


static unsigned
snapshots(void)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < RAM_FILES; i++) {
        n += strncmp(solo.ram.file[i].name, "snap-", 5) == 0
             && strcmp(solo.ram.file[i].name + 21, ".kvs") == 0;
    }

    return n;
}


static void
flip(const char *name, size_t pos)
{
    ram_file_t  *f;

    f = ram_find(&solo.ram, name);
    assert_non_null(f);
    ram_resize(f, f->size + 1);          /* of its own */
    ram_resize(f, f->size - 1);
    f->data[pos] ^= 1;
    f->disk[pos] ^= 1;
}


/* A snapshot found damaged does not count as one of the two. */

static void
test_put_aside(void **state)
{
    char      newest[KV_NAME_MAX];
    uint64_t  lsn;

    (void) state;

    damage_make(STOPPED);
    (void) snprintf(what, sizeof(what), "put aside");

    flip(before.file[NEW_SNAPSHOT].name, 100);
    damage_start();
    damage_check_state(&model[steps], steps);
    assert_true(solo.warnings > 0);
    assert_false(damage_there(before.file[NEW_SNAPSHOT].name));
    assert_true(damage_there(aside(NEW_SNAPSHOT)));

    /* the next start has nothing to complain of */

    solo_stop(&solo, true);
    damage_start();
    assert_int_equal(solo.warnings, 0);

    /* the next snapshot leaves the good one, and its log */

    damage_write_one(1, 5000);
    damage_snapshot();
    assert_true(damage_there(before.file[OLD_SNAPSHOT].name));
    assert_int_equal(snapshots(), 2);

    lsn = atomic_load(&solo.host.store->zone->snapshot_lsn);
    (void) snprintf(newest, sizeof(newest), "snap-%016" PRIx64 ".kvs", lsn);
    solo_stop(&solo, true);
    flip(newest, 100);

    damage_start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn) - 1,
                     lsn);
    assert_int_equal(snapshots(), 1);

    /* more of them than are kept */

    for (unsigned i = 0; i < 3; i++) {
        damage_write_one(2, 5001 + i);
        damage_snapshot();
        lsn = atomic_load(&solo.host.store->zone->snapshot_lsn);
        (void) snprintf(newest, sizeof(newest), "snap-%016" PRIx64 ".kvs",
                        lsn);
        solo_stop(&solo, true);
        flip(newest, 100);
        damage_start();
    }

    assert_false(damage_there(aside(NEW_SNAPSHOT)));
    assert_int_equal(snapshots(), 1);

    solo_done(&solo);
}


/* The disk is full: what could take the newest's place goes if that is good. */

static void
test_full_disk(void **state)
{
    ram_fault_t  *f;

    (void) state;

    damage_make(STOPPED);
    (void) snprintf(what, sizeof(what), "full disk");
    solo.conf.snapshot = 1 << 30;
    damage_start();
    damage_write_one(1, 5000);
    damage_snapshot();
    damage_write_one(1, 5001);
    damage_snapshot();
    assert_int_equal(snapshots(), 2);

    /* rotten since it was written; no other can be made */

    (void) snprintf(before.file[NEW_SNAPSHOT].name, KV_NAME_MAX,
                    "snap-%016" PRIx64 ".kvs",
                    atomic_load(&solo.host.store->zone->snapshot_lsn));
    flip(before.file[NEW_SNAPSHOT].name, 100);

    f = &solo.ram.fault[0];
    f->call = RAM_WRITE;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_WRITE] + 1;
    f->times = 1000;

    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    assert_true(f->hits > 0);
    assert_int_equal(snapshots(), 1);

    f->nth = 0;
    solo_stop(&solo, false);
    damage_start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn) - 1,
                     steps + 2);

    /* to free disk, a new one is made and read back; useless files go */

    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    damage_write_one(1, 5002);
    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    solo.host.store->zone->free_disk_ns = 0;
    solo.host.store->zone->retried_ns = 0;
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    assert_int_equal(snapshots(), 1);
    assert_false(damage_there(aside(NEW_SNAPSHOT)));

    solo_stop(&solo, false);
    damage_start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn) - 1,
                     steps + 3);
    solo_done(&solo);
}


/*
 * The disk is too full to write the log's end once more: the start serves what
 * it has read, and writes once it can; by then all is on the disk, even if
 * the sync before had failed, and what the page cache held was never there.
 */

static void
start_full(bool failed)
{
    kv_rc_t        rc;
    kv_op_t       *op;
    uint64_t       n;
    kv_zone_t     *zone;
    ram_fault_t   *f;
    const step_t   put = { KV_OP_PUT, 1, 24 }, gone = { KV_OP_DELETE, 2, 0 };

    damage_make(KILLED);
    (void) snprintf(what, sizeof(what), "start on a full disk, %u", failed);
    solo.conf.snapshot = 1 << 30;
    f = &solo.ram.fault[0];
    n = steps;

    if (failed) {
        damage_start();
        zone = solo.host.store->zone;

        /* into the segment that is there, behind something that is durable */

        do {
            damage_write_one(1, (uint32_t) ++n);
        } while (zone->wal.segment_size - zone->wal.offset < 16384);

        f->call = RAM_FDATASYNC;
        f->error = EIO;
        f->nth = solo.ram.calls[RAM_FDATASYNC] + 1;
        f->times = 1000;

        assert_int_equal(damage_begin(&put, 8000, &op), KV_OK);
        solo_commit(&solo, &op, 1, &rc);
        assert_int_equal(rc, KV_UNAVAILABLE);
        solo_stop(&solo, false);
        n++;
    }

    f->call = RAM_WRITE;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_WRITE] + 1;
    f->times = 100000;

    damage_start();
    zone = solo.host.store->zone;
    assert_true(f->hits > 0);
    assert_int_equal(kv_state(zone), KV_STATE_DISK_FULL);
    assert_int_equal(atomic_load(&zone->wal.next_lsn), n + 1);
    assert_true(atomic_load(&zone->wal.durable_lsn) < n);

    if (!failed) {
        damage_check_state(&model[steps], steps);
    }

    assert_int_equal(damage_begin(&put, 8001, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_NO_SPACE);
    assert_int_equal(damage_begin(&gone, 0, &op), KV_OK);
    solo_commit(&solo, &op, 1, &rc);
    assert_int_equal(rc, KV_NO_SPACE);
    solo_background(&solo, KV_REQUEST_FREE_DISK | KV_REQUEST_SEGMENT);
    assert_int_equal(kv_state(zone), KV_STATE_DISK_FULL);

    /* the disk has space again */

    f->nth = 0;
    zone->free_disk_ns = 0;
    zone->retried_ns = 0;
    solo_background(&solo, KV_REQUEST_FREE_DISK | KV_REQUEST_SEGMENT);
    assert_int_equal(kv_state(zone), KV_STATE_READY);
    assert_int_equal(atomic_load(&zone->wal.durable_lsn), n);
    damage_write_one(1, 8002);
    solo_stop(&solo, false);
    ram_reboot(&solo.ram);

    damage_start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn), n + 2);
    solo_done(&solo);
}


static void
test_start_full(void **state)
{
    (void) state;

    start_full(false);
    start_full(true);
}


/*
 * Each reading call of a start fails once, in every way that says that a file
 * is bad: the snapshot's costs nothing, the log's is refused, and neither is
 * called damage, for the next start may go well.
 */

static void
test_unreadable(void **state)
{
    kv_rc_t       rc;
    unsigned      i, k, nth, passed;
    ram_fault_t  *f;

    static const ram_call_t  calls[] = { RAM_OPEN, RAM_SIZE, RAM_READ };
    static const int         errors[] = { EIO, EISDIR, ELOOP, EMFILE };

    (void) state;

    damage_make(STOPPED);
    damage_unshare();
    f = &solo.ram.fault[0];

    for (i = 0; i < 3; i++) {
        for (k = 0; k < 4; k++) {

            passed = 0;

            for (nth = 1; /* void */ ; nth++) {
                damage_load();
                memset(solo.ram.calls, 0, sizeof(solo.ram.calls));
                (void) snprintf(what, sizeof(what), "call %u, error %d, %u",
                                calls[i], errors[k], nth);

                f->call = calls[i];
                f->error = errors[k];
                f->nth = nth;
                f->times = 1;
                f->hits = 0;

                rc = solo_start(&solo);
                f->nth = 0;

                if (rc == KV_OK) {
                    damage_check_state(&model[steps], steps);
                    passed += damage_there(aside(NEW_SNAPSHOT));
                    solo_stop(&solo, false);

                } else if (rc == KV_DAMAGED) {
                    fail_msg("%s: %s", what, solo.err.text);
                }

                if (f->hits == 0) {
                    break;
                }

                /* what is no fault of the file must not cost it its name */

                if (rc != KV_OK && errors[k] != EMFILE
                    && strstr(solo.err.text, before.file[NEW_SNAPSHOT].name))
                {
                    fail_msg("%s: %s", what, solo.err.text);
                }

                damage_load();
                rc = solo_start(&solo);
                assert_int_equal(rc, KV_OK);
                solo_stop(&solo, false);
            }

            assert_int_equal(passed > 0, errors[k] != EMFILE);
        }
    }

    damage_drop();
}


/* Each open of a start fails once: the start does not take it for damage. */

static void
alone_fails(int error, uint64_t next)
{
    kv_rc_t       rc;
    unsigned      nth;
    ram_fault_t  *f;

    f = &solo.ram.fault[0];
    f->call = RAM_OPEN;
    f->error = error;
    f->times = 1;

    for (nth = 1; nth == 1 || f->hits; nth++) {
        f->nth = solo.ram.calls[RAM_OPEN] + nth;
        f->hits = 0;

        rc = solo_start(&solo);
        f->nth = 0;

        if (rc == KV_DAMAGED) {
            fail_msg("%s: error %d, open %u: %s", what, error, nth,
                     solo.err.text);
        }

        if (rc == KV_OK) {
            assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn),
                             next);
            solo_stop(&solo, false);
        }
    }
}


/*
 * The snapshot's walk has seen what the log then lost: what is in it can still
 * be had, alone, and the log goes on behind what was seen.
 */

static void
alone(bool missing)
{
    char                   name[KV_NAME_MAX];
    kv_rc_t                rc;
    uint32_t               crc;
    uint64_t               salt, s, e, lost;
    ram_file_t            *f;
    kv_block_header_t      h;
    kv_snapshot_footer_t   footer;

    static const int       errors[] = { EMFILE, EACCES, EIO };

    damage_make(STOPPED);
    (void) snprintf(what, sizeof(what), "alone, missing %u", missing);

    s = before.file[NEW_SNAPSHOT].lsn;
    e = steps;

    f = ram_find(&solo.ram, before.file[NEW_SNAPSHOT].name);
    ram_resize(f, f->size + 1);
    ram_resize(f, f->size - 1);
    memcpy(&salt, f->data + 24, sizeof(salt));
    memcpy(&lost, f->data + offsetof(kv_snapshot_header_t, id.incarnation),
           sizeof(lost));
    memcpy(&footer, f->data + f->size - sizeof(footer), sizeof(footer));
    memcpy(&h, f->data + f->size - sizeof(footer) - sizeof(h), sizeof(h));
    footer.end_lsn = e;
    crc = kv_crc32c(0, &salt, sizeof(salt));
    crc = kv_crc32c(crc, (uint8_t *) &h + 8, sizeof(h) - 8);
    h.crc = kv_crc32c(crc, &footer, sizeof(footer));
    memcpy(f->data + f->size - sizeof(footer), &footer, sizeof(footer));
    memcpy(f->data + f->size - sizeof(footer) - sizeof(h), &h, sizeof(h));

    if (missing) {
        (void) solo.ram.io.unlink(&solo.ram.io, 3, before.file[LAST_LOG].name);

    } else {
        flip(before.file[LAST_LOG].name, 8);
    }

    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    (void) snprintf(name, sizeof(name), "snap-%016" PRIx64 ".alone", s);
    assert_null(strstr(solo.err.text, "delete"));
    assert_non_null(strstr(solo.err.text, "move every log-* away"));
    assert_non_null(strstr(solo.err.text, name));

    for (unsigned i = 0; i < before.nfiles; i++) {
        if (before.file[i].log) {
            (void) solo.ram.io.unlink(&solo.ram.io, 3, before.file[i].name);
        }
    }

    /* one half of it is not enough */

    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    assert_non_null(strstr(solo.err.text, "no log-*.kvl is there"));
    assert_non_null(strstr(solo.err.text, name));
    ram_borrow(&solo.ram, name, (const uint8_t *) "", 0);

    for (unsigned i = 0; i < 3; i++) {
        rc = solo_start(&solo);

        if (rc != KV_OK) {
            fail_msg("%s: %s", what, solo.err.text);
        }

        assert_true(solo.warnings > 0);
        assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn),
                         e + 1 + i);

        if (i == 0) {
            damage_check_state(&model[s], s);
            assert_true(atomic_load(&solo.host.store->zone->wal.incarnation)
                        > lost);
        }

        damage_write_one(1, 6000 + i);
        solo_stop(&solo, i == 1);
    }

    for (unsigned k = 0; k < 3; k++) {
        alone_fails(errors[k], e + 4);
    }

    /* it goes with its snapshot */

    damage_start();
    damage_snapshot();
    damage_write_one(1, 6010);
    damage_snapshot();
    assert_false(damage_there(name));
    solo_stop(&solo, true);
    damage_start();
    assert_int_equal(solo.warnings, 0);

    solo_done(&solo);
}


static void
test_alone(void **state)
{
    (void) state;

    alone(false);
    alone(true);
}


/* What was said of a snapshot is not said of another that gets its LSN. */

static void
test_not_alone(void **state)
{
    char  name[KV_NAME_MAX];

    (void) state;

    damage_make(STOPPED);
    (void) snprintf(what, sizeof(what), "not alone");
    damage_start();
    damage_write_one(1, 5000);

    (void) snprintf(name, sizeof(name), "snap-%016" PRIx64 ".alone",
                    atomic_load(&solo.host.store->zone->applied_lsn));
    ram_borrow(&solo.ram, name, (const uint8_t *) "", 0);
    damage_snapshot();

    assert_true(atomic_load(&solo.host.store->zone->snapshots) > 0);
    assert_false(damage_there(name));
    solo_done(&solo);
}


/*
 * A snapshot whose name may not be on the disk takes the place of no other,
 * not even when the disk is full.
 */

static void
test_not_named(void **state)
{
    char          name[KV_NAME_MAX];
    uint64_t      lsn;
    ram_fault_t  *f;

    (void) state;

    damage_make(STOPPED);
    (void) snprintf(what, sizeof(what), "not named");
    solo.conf.snapshot = 1 << 30;
    damage_start();
    damage_write_one(1, 5000);
    lsn = atomic_load(&solo.host.store->zone->applied_lsn);

    f = &solo.ram.fault[0];
    f->call = RAM_FSYNC;
    f->error = EIO;
    f->nth = solo.ram.calls[RAM_FSYNC] + 1;
    f->times = 1;
    damage_snapshot();
    assert_int_equal(f->hits, 1);
    f->nth = 0;

    (void) snprintf(name, sizeof(name), "snap-%016" PRIx64 ".kvs", lsn);
    assert_false(damage_there(name));

    /* now another is due, and no other can be written */

    f->call = RAM_WRITE;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_WRITE] + 1;
    f->times = 1000;
    atomic_store(&solo.host.store->zone->writes, KV_WRITES_FULL);
    solo_background(&solo, KV_REQUEST_FREE_DISK);
    f->nth = 0;

    assert_int_equal(snapshots(), 1);
    assert_true(damage_there(before.file[NEW_SNAPSHOT].name));
    solo_stop(&solo, false);
    damage_start();
    assert_int_equal(atomic_load(&solo.host.store->zone->wal.next_lsn),
                     lsn + 1);
    solo_done(&solo);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_put_aside),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_start_full),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_not_alone),
        cmocka_unit_test(test_not_named)
    };

    return cmocka_run_group_tests_name("damage aside", tests, damage_setup,
                                       NULL);
}
