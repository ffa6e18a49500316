
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
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "store/kv_state.h"
#include "solo.h"


#define FIRST  "log-0000000000000001.kvl"


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
    return kv_wal_id(&solo.host.store->zone->wal);
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


/* The incarnation that the last batch names, in the segment written to. */

static uint64_t
named(void)
{
    char                name[KV_NAME_MAX];
    uint64_t            offset;
    ram_file_t         *f;
    uint64_t            last;
    kv_wal_state_t     *wal;
    kv_entry_state_t    s;
    kv_batch_header_t   h;

    wal = &solo.host.store->zone->wal;
    last = 0;

    (void) snprintf(name, sizeof(name), "log-%016" PRIx64 ".kvl",
                    wal->segment_lsn);
    f = ram_find(&solo.ram, name);
    assert_non_null(f);
    memset(&h, 0, sizeof(h));

    for (offset = KV_SEGMENT_HEADER; offset < wal->offset;
         offset += sizeof(h) + h.len)
    {
        memcpy(&h, f->data + offset, sizeof(h));
        assert_int_equal(h.magic, KV_BATCH_MAGIC);

        /* in a replicated log, those that have a term do not name it */

        if (h.type == KV_ENTRY_STATE) {
            memcpy(&s, f->data + offset + sizeof(h), sizeof(s));
            last = s.incarnation;

        } else if (h.type == KV_ENTRY_NONE) {
            last = h.term;
        }
    }

    return last;
}


static int
setup(void **state)
{
    version = 0;

    return solo_setup(state);
}


/* A clean end keeps it, as nothing can be missing. */

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
        restart(true);

        if (i % 2) {
            restart(true);
        }

        other = identity();
        assert_memory_equal(&id, &other, sizeof(id));
        assert_int_equal(lsn_of(i), i + 1);
    }

    assert_int_equal(named(), id.incarnation);
    assert_int_equal(solo.host.store->zone->wal.segments, 1);

    /* the log's own segment may be a copy: what the note says is there */

    solo_stop(&solo, true);
    ram_find(&solo.ram, FIRST)->id = ++solo.ram.ids;
    start();
    assert_int_equal(incarnation(), id.incarnation);

    /* another directory is another store */

    solo_stop(&solo, true);
    ram_clear(&solo.ram);
    start();
    other = identity();
    assert_memory_not_equal(id.store, other.store, sizeof(id.store));
    assert_true(other.incarnation != id.incarnation);
}


/* Another end does not, in whatever way writes were synced. */

static void
test_unclean(void **state)
{
    uint64_t   before, again;
    unsigned   i;

    static const kv_sync_t  how[] = {
        KV_SYNC_ALWAYS, KV_SYNC_INTERVAL, KV_SYNC_OFF
    };

    (void) state;

    for (i = 0; i < 3; i++) {
        solo.conf.sync = how[i];
        solo.conf.sync_interval = 60000;

        start();
        assert_int_equal(put(1, 100), KV_OK);
        before = incarnation();

        restart(true);
        assert_int_equal(incarnation(), before);
        assert_int_equal(put(2, 100), KV_OK);

        restart(false);
        again = incarnation();
        assert_true(again > before);
        assert_int_equal(lsn_of(2), 2);

        /* nothing was written: the same files, but never the same again */

        restart(false);
        assert_true(incarnation() > before && incarnation() != again);
        again = incarnation();

        /* a write has it, and where that is no other has it as well */

        assert_int_equal(put(3, 100), KV_OK);
        assert_int_equal(named(), again);
        assert_int_equal(header().id.incarnation, before);

        restart(true);
        assert_int_equal(incarnation(), again);

        /* it is the highest that there is, also where no note says so */

        assert_int_equal(put(3, 100), KV_OK);
        restart(false);
        assert_true(incarnation() > again);

        solo_stop(&solo, true);
        ram_clear(&solo.ram);
    }
}


/*
 * People cut the log, as a refused start advises: what was in it was seen, and
 * its LSNs are given out again.
 */

static void
test_cut(void **state)
{
    size_t       size;
    uint64_t     before, offset;
    ram_file_t  *f;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    offset = solo.host.store->zone->wal.offset;
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    solo_stop(&solo, true);

    f = ram_find(&solo.ram, FIRST);
    size = f->size;
    ram_resize(f, offset);
    ram_resize(f, size);
    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3,
                                        "log-0000000000000002.closed"), 0);

    start();
    assert_true(incarnation() > before);
    assert_int_equal(put(1, 100), KV_OK);
    assert_int_equal(lsn_of(1), 2);
    assert_int_equal(named(), incarnation());
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

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();

    restart(false);
    after = incarnation();
    assert_true(after > before);

    restart(true);
    assert_int_equal(incarnation(), after);
    assert_int_equal(put(2, 100), KV_OK);
    assert_int_equal(named(), after);
}


/* Copies of a stopped server's files, and hard links to them. */

static void
test_copied(void **state)
{
    unsigned  i;
    uint64_t  before, copy;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);

    for (i = 0; i < 2; i++) {
        before = incarnation();
        solo_stop(&solo, true);

        if (i) {
            solo.ram.directory++;
        } else {
            ram_copied(&solo.ram);
        }

        start();
        copy = incarnation();
        assert_true(copy > before);
        assert_int_equal(lsn_of(1), i ? 2 : 1);

        /* until its end is clean, or something is written, it is one still */

        restart(false);
        assert_true(incarnation() > before && incarnation() != copy);

        copy = incarnation();
        restart(true);
        assert_int_equal(incarnation(), copy);
        assert_int_equal(put(1, 100), KV_OK);
        restart(true);
        assert_int_equal(incarnation(), copy);
    }
}


/* Creates a file with these bytes. */

static void
create(const char *name, void *data, size_t size)
{
    int           fd;
    struct iovec  iov;

    fd = solo.ram.io.open(&solo.ram.io, 3, name, O_CREAT|O_EXCL|O_RDWR);
    iov.iov_base = data;
    iov.iov_len = size;
    assert_int_equal(solo.ram.io.pwritev(&solo.ram.io, fd, &iov, 1, 0), size);
    assert_int_equal(solo.ram.io.fsync(&solo.ram.io, fd), 0);
    assert_int_equal(solo.ram.io.close(&solo.ram.io, fd), 0);
}


/*
 * rsync restores what differs from the copy: the note, which is gone, but not a
 * segment that had no room for more.
 */

static void
test_note_copied(void **state)
{
    char          note[KV_NAME_MAX], next[KV_NAME_MAX];
    uint64_t      before, lsn;
    kv_closed_t   closed;

    (void) state;

    /* how many fill a segment */

    for (lsn = 0, start(); solo.host.store->zone->wal.segments < 2; lsn++) {
        assert_int_equal(put(1, 4000), KV_OK);
    }

    solo_stop(&solo, false);
    ram_clear(&solo.ram);

    for (start(); --lsn; /* void */ ) {
        assert_int_equal(put(1, 4000), KV_OK);
    }

    before = incarnation();
    lsn = lsn_of(1);
    solo_stop(&solo, true);

    (void) snprintf(note, sizeof(note), "log-%016" PRIx64 ".closed", lsn);
    (void) snprintf(next, sizeof(next), "log-%016" PRIx64 ".kvl", lsn + 1);
    memcpy(&closed, ram_find(&solo.ram, note)->data, sizeof(closed));

    start();
    assert_int_equal(incarnation(), before);
    assert_int_equal(put(1, 4000), KV_OK);
    assert_int_equal(lsn_of(1), lsn + 1);
    solo_stop(&solo, false);

    assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, next), 0);
    create(note, &closed, sizeof(closed));

    start();

    /* entries without an LSN went to the end of the segment that it is of */

    assert_int_equal(solo.host.store->zone->wal.closed,
                     solo.host.store->zone->wal.replicated ? KV_WAL_NOTE_OLD
                                                           : KV_WAL_NOTE_END);
    assert_int_equal(lsn_of(1), lsn);
    assert_true(incarnation() > before);
}


/* A note that fits no longer, as of a file system that forgot its deletion. */

static void
test_note_unfit(void **state)
{
    uint64_t      before, id;
    ram_file_t   *f;
    kv_closed_t   closed;

    static const char  note[] = "log-0000000000000001.closed";

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    solo_stop(&solo, true);

    f = ram_find(&solo.ram, note);
    memcpy(&closed, f->data, sizeof(closed));
    id = f->id;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    solo_stop(&solo, false);

    create(note, &closed, sizeof(closed));
    ram_find(&solo.ram, note)->id = id;

    start();
    assert_int_equal(solo.warnings, 1);
    assert_int_equal(lsn_of(1), 2);
    assert_true(incarnation() > before);
}


/* A note that cannot be deleted is empty: it never says anything again. */

static void
test_note_emptied(void **state)
{
    uint64_t      before;
    unsigned      i;
    ram_fault_t  *f;

    static const char  note[] = "log-0000000000000001.closed";

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    solo_stop(&solo, true);

    f = &solo.ram.fault[0];
    f->call = RAM_UNLINK;
    f->error = EPERM;
    f->nth = 1;
    f->times = 100000;

    for (i = 0; i < 2; i++) {
        start();
        assert_true(i ? incarnation() > before : incarnation() == before);
        assert_int_equal(solo.warnings, 0);
        assert_int_equal(put(2, 100), KV_OK);
        assert_int_equal(solo.stuck_notes, 1);
        assert_int_equal(ram_find(&solo.ram, note)->size, 0);
        assert_int_equal(solo.host.store->zone->wal.segments, 1);
        solo_stop(&solo, false);
    }
}


/*
 * One that can neither be emptied nor deleted stays where it was, and fits
 * again where people move away what was written after it.  That had another
 * incarnation, so versions may go on from there.
 */

static void
test_note_stays(void **state)
{
    uint64_t      before, last;
    unsigned      i;
    ram_fault_t  *f;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = last = incarnation();
    solo_stop(&solo, true);

    f = solo.ram.fault;
    f[0].call = RAM_UNLINK;
    f[0].error = EPERM;
    f[0].nth = 1;
    f[0].times = 100000;
    f[1] = f[0];
    f[1].call = RAM_TRUNCATE;

    for (i = 0; i < 2; i++) {
        start();
        assert_int_equal(incarnation(), before);
        assert_int_equal(put(2, 100), KV_OK);
        assert_int_equal(solo.stuck_notes, 1);
        assert_true(incarnation() > before && incarnation() != last);
        last = incarnation();
        assert_int_equal(named(), last);
        assert_int_equal(header().first_lsn, 2);
        solo_stop(&solo, false);

        f[0].nth = 0;
        assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3,
                                            "log-0000000000000002.kvl"), 0);
        f[0].nth = 1;
    }

    f[0].nth = 0;
    f[1].nth = 0;
    start();
    assert_int_equal(solo.host.store->zone->wal.closed, KV_WAL_NOTE_OWN);
    assert_int_equal(incarnation(), before);
    assert_int_equal(put(2, 100), KV_OK);
    assert_int_equal(named(), before);
    assert_null(ram_find(&solo.ram, "log-0000000000000001.closed"));
}


/*
 * Deleted, but not emptied: another name of it, a hard link, may be moved to
 * its place.
 */

static void
test_note_linked(void **state)
{
    uint64_t      before;
    ram_fault_t  *f;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    restart(true);

    f = &solo.ram.fault[0];
    f->call = RAM_TRUNCATE;
    f->error = EPERM;
    f->nth = 1;
    f->times = 100000;

    assert_int_equal(put(2, 100), KV_OK);
    assert_null(ram_find(&solo.ram, "log-0000000000000001.closed"));
    assert_true(incarnation() > before);
    assert_int_equal(named(), incarnation());
    assert_int_equal(solo.host.store->zone->wal.segments, 1);
}


/*
 * The process that cannot empty it deletes it, and gets no further: it dies, or
 * the directory cannot be synced now.
 */

static void
test_note_half_gone(void **state)
{
    unsigned      i;
    uint64_t      before;
    ram_fault_t  *f;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    f = solo.ram.fault;

    for (i = 0; i < 2; i++) {
        restart(true);
        before = incarnation();

        f[0].call = i ? RAM_FSYNC : RAM_UNLINK;
        f[0].error = EMFILE;
        f[0].nth = solo.ram.calls[f[0].call] + 1;
        f[0].times = 1;
        f[1].call = RAM_TRUNCATE;
        f[1].error = EPERM;
        f[1].nth = 1;
        f[1].times = 100000;

        assert_int_equal(put(2, 100), i ? KV_REFUSED : KV_OK);
        f[1].nth = 0;
        assert_int_equal(put(2, 100), KV_OK);
        assert_true(incarnation() > before);
        assert_int_equal(named(), incarnation());
    }
}


/* It is gone, the write failed, and the stop leaves another one. */

static void
test_note_again(void **state)
{
    uint64_t      before;
    ram_fault_t  *f;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    restart(true);

    /* the note is synced, the directory is not */

    f = &solo.ram.fault[0];
    f->call = RAM_FSYNC;
    f->error = ENOSPC;
    f->nth = solo.ram.calls[RAM_FSYNC] + 2;
    f->times = 1;
    assert_int_equal(put(2, 100), KV_NO_SPACE);
    assert_null(ram_find(&solo.ram, "log-0000000000000001.closed"));

    restart(true);
    assert_int_equal(incarnation(), before);
    assert_int_equal(solo.host.store->zone->wal.closed, KV_WAL_NOTE_OWN);
}


/*
 * What the start went on from is taken away before the first write, so it is
 * not emptied, and put back later; or a copy is put in its place.
 */

static void
test_note_taken_away(void **state)
{
    unsigned      i;
    uint64_t      before;
    ram_file_t   *f;
    kv_closed_t   closed;

    static const char *const  note[] = {
        "log-0000000000000001.closed", "log-0000000000000002.closed"
    };

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);

    for (i = 0; i < 2; i++) {
        restart(true);
        before = incarnation();

        f = ram_find(&solo.ram, note[i]);
        memcpy(&closed, f->data, sizeof(closed));
        assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, note[i]), 0);

        if (i) {
            create(note[i], &closed, sizeof(closed));
        }

        assert_int_equal(put(1, 100), KV_OK);
        assert_true(incarnation() > before);
        assert_int_equal(named(), incarnation());
    }
}


/* What files do not tell, people do. */

static void
test_restored(void **state)
{
    unsigned              i;
    uint64_t              before, last;
    static const uint8_t  nothing;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    solo_stop(&solo, true);

    ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
    start();
    assert_true(incarnation() > before);

    /* people take it away again, though nothing was written */

    for (i = 0; i < 2; i++) {
        assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, KV_RESTORED_NAME),
                         0);
        last = incarnation();
        restart(i);
        assert_true(incarnation() > before);
        assert_int_equal(incarnation() == last, i);
        solo_stop(&solo, true);
        ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
        start();
        assert_true(incarnation() > before && incarnation() != last);
    }

    /* it goes with the first write */

    before = incarnation();
    assert_non_null(ram_find(&solo.ram, KV_RESTORED_NAME));
    assert_int_equal(put(2, 100), KV_OK);
    assert_null(ram_find(&solo.ram, KV_RESTORED_NAME));
    assert_int_equal(named(), before);

    restart(true);
    assert_int_equal(incarnation(), before);
    solo_stop(&solo, true);

    /* one that cannot be deleted speaks again */

    ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
    solo.ram.fault[0].call = RAM_UNLINK;
    solo.ram.fault[0].error = EPERM;
    solo.ram.fault[0].nth = 1;
    solo.ram.fault[0].times = 100000;
    start();
    assert_int_equal(put(2, 100), KV_OK);
    assert_true(solo.warnings > 0);
    before = incarnation();
    assert_int_equal(put(2, 100), KV_OK);
    restart(true);
    assert_true(incarnation() > before);
}


static void
rebuild(void)
{
    kv_store_t  *store;

    store = solo.host.store;
    kv_state_break(store, "a test");
    kv_store_reset(store);
    atomic_store(&store->worker->generation, UINT64_MAX);

    assert_true(kv_store_todo(store) & KV_TODO_COMMIT);
    kv_store_commit(store);
    kv_store_reset(store);
    assert_int_equal(atomic_load(&store->zone->rebuilds), 1);
    atomic_store(&store->zone->rebuilds, 0);
}


/* Writes a file, in place, if it is there. */

static void
write_file(const char *name, const void *data, size_t n)
{
    int            fd;
    kv_io_t       *io;
    struct iovec   iov;

    io = &solo.ram.io;
    fd = io->open(io, 3, name, O_CREAT|O_WRONLY);
    assert_true(fd >= 0);

    iov.iov_base = (void *) data;
    iov.iov_len = n;
    assert_int_equal(io->pwritev(io, fd, &iov, 1, 0), n);
    assert_int_equal(io->fsync(io, fd), 0);
    assert_int_equal(io->close(io, fd), 0);
}


/*
 * A copy of a note that is written into the file where a note was, as `cp` does
 * to one that is there: no start goes on from what that says.  Nor from one
 * that is left as it is, and did not fit when people said that the files were
 * set back, as the log was missing.
 */

static void
test_restored_in_place(void **state)
{
    char                  copy[sizeof(kv_closed_t)];
    uint64_t              before;
    unsigned              missing;
    ram_file_t           *f;
    static const uint8_t  nothing;
    static char           log[1 << 20];
    size_t                size;

    static const char  note[] = "log-0000000000000001.closed";

    (void) state;

    for (missing = 0; missing < 2; missing++) {
        ram_clear(&solo.ram);
        start();
        assert_int_equal(put(1, 100), KV_OK);
        before = incarnation();
        solo_background(&solo, KV_REQUEST_SNAPSHOT);
        solo_stop(&solo, true);

        f = ram_find(&solo.ram, note);
        assert_non_null(f);
        assert_int_equal(f->size, sizeof(copy));
        memcpy(copy, f->data, sizeof(copy));

        f = ram_find(&solo.ram, FIRST);
        assert_non_null(f);
        size = f->size;
        assert_true(size <= sizeof(log));
        memcpy(log, f->data, size);

        if (missing) {
            assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, FIRST), 0);
        }

        ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
        start();
        assert_true(incarnation() > before);
        solo_stop(&solo, false);

        write_file(FIRST, log, size);
        write_file(note, copy, sizeof(copy));
        assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, KV_RESTORED_NAME),
                         0);

        start();
        assert_true(incarnation() > before);
        solo_stop(&solo, false);
    }
}


/* A zone that is read anew, as a worker died, has met no restart. */

static void
test_rebuilt(void **state)
{
    uint64_t              before;
    static const uint8_t  nothing;

    (void) state;

    solo.conf.sync = KV_SYNC_OFF;
    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();

    rebuild();
    assert_int_equal(incarnation(), before);
    assert_int_equal(lsn_of(1), 1);
    assert_int_equal(put(2, 100), KV_OK);
    assert_int_equal(solo.host.store->zone->wal.segments, 1);

    /* what people say counts all the same */

    ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
    rebuild();
    assert_true(incarnation() > before);
    before = incarnation();
    assert_int_equal(put(2, 100), KV_OK);
    assert_null(ram_find(&solo.ram, KV_RESTORED_NAME));
    assert_int_equal(named(), before);

    /* a batch was written, that nobody saw, and is gone */

    (void) atomic_fetch_add(&solo.host.store->zone->wal.next_lsn, 1);
    rebuild();
    assert_int_equal(lsn_of(2), 3);
    assert_true(incarnation() > before);

    /* one that no batch names yet is not forgotten */

    before = incarnation();
    rebuild();
    assert_int_equal(incarnation(), before);

    /* what ends with the same LSN, but is another segment */

    before = incarnation();
    solo.host.store->zone->wal.segment_salt++;
    rebuild();
    assert_int_equal(lsn_of(2), 3);
    assert_true(incarnation() > before);
}


/* Gives a file, or its first `size` bytes, the checksum at offset 12. */

static void
seal(uint8_t *data, size_t size)
{
    uint32_t  crc;

    memset(data + 12, 0, sizeof(crc));
    crc = kv_crc32c(0, data, size);
    memcpy(data + 12, &crc, sizeof(crc));
}


/* Has the first segment name another identity. */

static void
set_identity(const kv_identity_t *id)
{
    ram_file_t  *f;

    f = ram_find(&solo.ram, FIRST);
    memcpy(f->data + offsetof(kv_segment_header_t, id), id, sizeof(*id));
    seal(f->data, KV_SEGMENT_HEADER);
}


/* The clock is behind what the files name: what is random stays random. */

static void
test_clock(void **state)
{
    uint64_t       first, bits;
    unsigned       i;
    kv_identity_t  id;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    id = identity();
    solo_stop(&solo, false);

    id.incarnation += (uint64_t) 1 << 60;
    set_identity(&id);

    for (i = 0, bits = 0; i < 4; i++) {
        start();
        assert_int_equal(incarnation() >> 22, (id.incarnation >> 22) + 1);
        first = i ? first : incarnation();
        bits |= first ^ incarnation();
        solo_stop(&solo, false);
    }

    assert_true(bits != 0 && bits >> 22 == 0);

    /* none can be above this one */

    id.incarnation = UINT64_MAX;
    set_identity(&id);
    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    assert_non_null(strstr(solo.err.text, FIRST ": offset 56: no incarnation "
                           "is above"));
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


/* After a kill, too, a full disk takes what fits into the segment there is. */

static void
test_full_disk(void **state)
{
    uint64_t  before;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    restart(false);
    before = incarnation();

    solo.ram.fault[0].call = RAM_FALLOCATE;
    solo.ram.fault[0].error = ENOSPC;
    solo.ram.fault[0].nth = solo.ram.calls[RAM_FALLOCATE] + 1;
    solo.ram.fault[0].times = 1000;

    assert_int_equal(put(2, 100), KV_OK);
    assert_int_equal(named(), before);
    assert_int_equal(delete(1), KV_OK);
    assert_int_equal(named(), before);
    assert_int_equal(solo.ram.fault[0].hits, 0);

    restart(true);
    assert_int_equal(incarnation(), before);
    assert_int_equal(lsn_of(1), 0);
    assert_int_equal(lsn_of(2), 2);
}


/* Crash after crash, the log stays as long as what was written. */

static void
test_many_ends(void **state)
{
    unsigned  i;
    uint64_t  last;

    (void) state;

    for (i = 0, last = 0; i < 40; i++) {
        start();
        assert_true(incarnation() > last);
        last = incarnation();
        assert_int_equal(put(i, 100), KV_OK);
        assert_int_equal(named(), last);
        assert_int_equal(solo.host.store->zone->wal.segments, 1);
        solo_stop(&solo, false);
    }
}


/* A segment of another store is not taken for one of ours. */

static void
test_foreign(void **state)
{
    kv_identity_t  id;

    (void) state;

    solo.conf.snapshot = 1 << 20;
    start();
    assert_int_equal(put(1, 100), KV_OK);
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    id = identity();
    solo_stop(&solo, true);

    id.store[0]++;
    set_identity(&id);

    assert_int_equal(solo_start(&solo), KV_DAMAGED);
    assert_non_null(strstr(solo.err.text, FIRST ": offset 40: the segment and "
                           "snap-0000000000000001.kvs are of two stores"));
}


/* Neither is a note, nor what it says of the log's end and the incarnation. */

static void
test_foreign_note(void **state)
{
    unsigned      i;
    uint64_t      before;
    kv_closed_t   closed;

    (void) state;

    start();
    assert_int_equal(put(1, 100), KV_OK);
    before = incarnation();
    solo_stop(&solo, true);

    memcpy(&closed, ram_find(&solo.ram, "log-0000000000000001.closed")->data,
           sizeof(closed));
    closed.id.store[1]++;
    closed.id.incarnation = (uint64_t) 1 << 63;
    closed.lsn = 9;
    seal((uint8_t *) &closed, sizeof(closed));
    create("log-0000000000000009.closed", &closed, sizeof(closed));

    /* beside our own, and without */

    for (i = 0; i < 2; i++) {
        start();
        assert_int_equal(solo.warnings, 1);
        assert_int_equal(lsn_of(1), 1);
        assert_true(i ? incarnation() > before && incarnation() >> 63 == 0
                      : incarnation() == before);
        solo_stop(&solo, false);
        assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3,
                                            "log-0000000000000001.closed"),
                         i ? -1 : 0);
    }
}


/* A snapshot of a copy names an incarnation in which the copy gave out LSNs. */

static void
test_snapshot_of_copy(void **state)
{
    uint64_t              copy;
    ram_file_t           *f;
    kv_snapshot_header_t  h;

    (void) state;

    solo.conf.snapshot = 1 << 20;
    start();
    assert_int_equal(put(1, 100), KV_OK);
    solo_background(&solo, KV_REQUEST_SNAPSHOT);
    solo_stop(&solo, true);

    f = ram_find(&solo.ram, "snap-0000000000000001.kvs");
    memcpy(&h, f->data, sizeof(h));
    copy = h.id.incarnation += 12345;
    h.crc_all = kv_crc32c(0, &h, offsetof(kv_snapshot_header_t, crc_all));
    memcpy(f->data, &h, sizeof(h));

    start();
    assert_int_equal(solo.warnings, 0);
    assert_true(incarnation() > copy);
}


/* Puts a file of t/unit/format1 into the directory, `size` bytes long. */

static void
load(const char *name, size_t size)
{
    char            path[100];
    FILE           *file;
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

    create(name, data, size);
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

        restart(true);
        assert_int_equal(solo.warnings, 0);
        assert_int_equal(named(), incarnation());
        assert_int_equal(lsn_of(9), 13);
        assert_int_equal(lsn_of(8), 11);

        solo_stop(&solo, true);
        ram_clear(&solo.ram);
    }
}


/* The disk is too full to write its end once more: the first write does. */

static void
test_format_1_full(void **state)
{
    ram_file_t  *f;

    (void) state;

    load(FIRST, 64 << 10);

    /* without the mark, which says that all is durable */

    f = ram_find(&solo.ram, FIRST);
    memset(f->data + 8824 - KV_BATCH_HEADER_1, 0, KV_BATCH_HEADER_1);

    solo.ram.fault[0].call = RAM_WRITE;
    solo.ram.fault[0].error = ENOSPC;
    solo.ram.fault[0].nth = solo.ram.calls[RAM_WRITE] + 1;
    solo.ram.fault[0].times = 1000;

    start();
    assert_true(solo.host.store->zone->wal.rewrite_end != 0);
    assert_int_equal(put(9, 100), KV_NO_SPACE);
    solo.ram.fault[0].nth = 0;
    assert_int_equal(put(9, 100), KV_OK);
    assert_int_equal(header().first_lsn, 13);
    restart(true);
    assert_int_equal(lsn_of(9), 13);
    assert_int_equal(lsn_of(8), 11);
}


/* Its last segment takes no more, and the disk has no space for another. */

static void
test_format_1_no_space(void **state)
{
    kv_zone_t  *zone;

    (void) state;

    load(FIRST, 64 << 10);

    solo.ram.fault[0].call = RAM_FALLOCATE;
    solo.ram.fault[0].error = ENOSPC;
    solo.ram.fault[0].nth = 1;
    solo.ram.fault[0].times = 1000;

    start();
    zone = solo.host.store->zone;
    assert_true(kv_state_refuses(zone));
    assert_int_equal(lsn_of(8), 11);
    assert_int_equal(delete(8), KV_NO_SPACE);

    solo.ram.fault[0].nth = 0;
    assert_int_equal(delete(8), KV_OK);
    assert_false(kv_state_refuses(zone));
}


#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, \
                                                          solo_teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        TEST(test_kept),
        TEST(test_unclean),
        TEST(test_cut),
        TEST(test_note_names_it),
        TEST(test_copied),
        TEST(test_note_copied),
        TEST(test_note_unfit),
        TEST(test_note_emptied),
        TEST(test_note_stays),
        TEST(test_note_linked),
        TEST(test_note_half_gone),
        TEST(test_note_again),
        TEST(test_note_taken_away),
        TEST(test_restored),
        TEST(test_restored_in_place),
        TEST(test_rebuilt),
        TEST(test_clock),
        TEST(test_snapshots),
        TEST(test_full_disk),
        TEST(test_many_ends),
        TEST(test_foreign),
        TEST(test_foreign_note),
        TEST(test_snapshot_of_copy),
        TEST(test_format_1),
        TEST(test_format_1_full),
        TEST(test_format_1_no_space)
    };

    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
