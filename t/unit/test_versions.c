
/*
 * Random lives of a data directory, in which no version comes back: whatever
 * clients were told by an LSN and an incarnation, in any of the lives that grow
 * from one beginning, is one write.  It is written to, stopped, killed, loses
 * what was not synced, is damaged, and repaired as the refused start advises;
 * copies of it are made, running or stopped, put back in all the ways that the
 * README allows, and written on (src/disk/kv_format.h, "Identity").
 */


/* long */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/kv_hash.h"
#include "solo.h"


#define LIVES     300
#define STEPS     100
#define KEYS      6u
#define COPIES    3u
#define VERSIONS  (1u << 14)         /* of one life, a power of 2 */


typedef struct {
    uint64_t  incarnation;
    uint64_t  lsn;
    uint32_t  write;                 /* which one; 0: none */
} version_t;


typedef struct {
    ram_file_t  file[RAM_FILES];     /* `data` is the copy's, `size` bytes */
    unsigned    n;
} copy_t;


/* How a copy is put back. */

typedef enum {
    MOVED = 0,                       /* as another directory */
    COPIED,                          /* into the emptied one */
    SYNCED,                          /* what differs is replaced, or deleted */
    IN_PLACE,                        /* the same, but what is there is kept */
    SET_BACK,                        /* under the file system, and told */
    WAYS
} way_t;


static version_t  known[VERSIONS];
static copy_t     copies[COPIES];
static copy_t     taken;             /* a note, while the server runs */
static bool       set_back;          /* and no start has succeeded since */
static uint32_t   writes;            /* done so far in this life */
static uint64_t   used;              /* the seed of this life */
static uint64_t   seed;

/* so that nothing of this is left out */
static struct {
    unsigned  way[WAYS];
    unsigned  lost;                  /* power cuts with writes that are gone */
    unsigned  repaired;
    unsigned  kept;                  /* incarnations, at a start */
    unsigned  again;                 /* LSNs given out again */
    unsigned  given_back;            /* notes */
} sum;


static uint32_t
rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (uint32_t) (seed >> 16) % n;
}


static uint64_t
incarnation(void)
{
    return atomic_load(&solo.host.store->zone->wal.incarnation);
}


/* A client was told that this write has the LSN, in the incarnation of now. */

static void
told(uint64_t lsn, uint32_t write)
{
    uint64_t    at, id[2];
    version_t  *v;

    static const uint64_t  nothing[2];

    id[0] = incarnation();
    id[1] = lsn;

    for (at = kv_hash(nothing, id, sizeof(id)); /* void */ ; at++) {
        v = &known[at % VERSIONS];

        if (v->write == 0) {
            v->incarnation = id[0];
            v->lsn = id[1];
            v->write = write;
            return;
        }

        if (v->incarnation == id[0] && v->lsn == id[1]) {
            break;
        }
    }

    if (v->write != write) {
        fail_msg("KIT_SEED=%" PRIu64 ": %" PRIu64 "-%016" PRIx64 " was write "
                 "%" PRIu32 ", and now is write %" PRIu32, used, lsn, id[0],
                 v->write, write);
    }
}


/* Clients read all that is there. */

static void
look(void)
{
    char         key[32];
    size_t       n;
    uint32_t     id, write, len;
    uint64_t     lsn;
    kv_entry_t  *e;

    for (id = 0; id < KEYS; id++) {

        if (kit_get(&solo.host, id, &write, &len) != KV_OK) {
            continue;
        }

        n = kit_key(id, key);
        assert_int_equal(kv_store_read(solo.host.store, key, n, &e), KV_OK);
        lsn = kv_entry_lsn(e);
        kv_store_read_done(solo.host.store);

        told(lsn, write);
    }
}


static void
write_one(void)
{
    char       key[32];
    kv_rc_t    rc;
    kv_op_t   *op;
    uint16_t   n;
    uint32_t   id;
    uint64_t   lsn;

    id = rnd(KEYS);
    lsn = atomic_load(&solo.host.store->zone->wal.next_lsn);
    writes++;

    if (rnd(5)) {
        rc = kit_begin_put(&solo.host, id, writes, 8 + rnd(3000), &op);

    } else {
        n = (uint16_t) kit_key(id, key);
        rc = kv_store_delete(solo.host.store, key, n, &op);
    }

    assert_int_equal(rc, KV_OK);
    solo_commit(&solo, &op, 1, &rc);

    if (rc == KV_OK) {
        told(lsn, writes);
    }
}


static ram_file_t *
random_file(const char *prefix)
{
    unsigned     i, n;
    ram_file_t  *f, *found;

    for (i = 0, n = 0, found = NULL; i < RAM_FILES; i++) {
        f = &solo.ram.file[i];

        if (f->data && strncmp(f->name, prefix, strlen(prefix)) == 0
            && rnd(++n) == 0)
        {
            found = f;
        }
    }

    return found;
}


static void
delete_file(const char *name)
{
    assert_int_equal(solo.ram.io.unlink(&solo.ram.io, 3, name), 0);
}


static void
forget(copy_t *copy)
{
    while (copy->n) {
        free(copy->file[--copy->n].data);
    }
}


static void
take_copy(copy_t *copy)
{
    unsigned     i;
    ram_file_t  *f, *to;

    forget(copy);

    for (i = 0; i < RAM_FILES; i++) {
        f = &solo.ram.file[i];

        if (f->data && f->name[0]) {
            to = &copy->file[copy->n++];
            *to = *f;
            to->data = malloc(f->size + 1);
            assert_non_null(to->data);
            memcpy(to->data, f->data, f->size);
        }
    }
}


static const ram_file_t *
copy_find(const copy_t *copy, const char *name)
{
    unsigned  i;

    for (i = 0; i < copy->n; i++) {
        if (strcmp(copy->file[i].name, name) == 0) {
            return &copy->file[i];
        }
    }

    return NULL;
}


/* Puts one file of a copy back; the inode is that of a file that is there. */

static void
put_back(const ram_file_t *from, way_t way)
{
    int            fd;
    kv_io_t       *io;
    ram_file_t    *f;
    struct iovec   iov;

    io = &solo.ram.io;
    f = ram_find(&solo.ram, from->name);

    if (f && way == SYNCED && f->size == from->size
        && memcmp(f->data, from->data, f->size) == 0)
    {
        return;
    }

    if (f && way != IN_PLACE) {
        delete_file(from->name);
    }

    fd = io->open(io, 3, from->name, O_CREAT|O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(io->ftruncate(io, fd, 0), 0);

    iov.iov_base = from->data;
    iov.iov_len = from->size;

    if (from->size) {
        assert_int_equal(io->pwritev(io, fd, &iov, 1, 0), from->size);
    }

    assert_int_equal(io->fsync(io, fd), 0);
    assert_int_equal(io->close(io, fd), 0);

    if (way == SET_BACK) {
        ram_find(&solo.ram, from->name)->id = from->id;
    }
}


static void
restore(const copy_t *copy, way_t way)
{
    unsigned              i;
    ram_file_t           *f;
    static const uint8_t  nothing;

    for (i = 0; i < RAM_FILES; i++) {
        f = &solo.ram.file[i];

        if (f->data && f->name[0]
            && ((way != SYNCED && way != IN_PLACE)
                || copy_find(copy, f->name) == NULL))
        {
            delete_file(f->name);
        }
    }

    for (i = 0; i < copy->n; i++) {
        put_back(&copy->file[i], way);
    }

    if (way == MOVED) {
        solo.ram.directory++;
    }

    /* people say so until a start succeeds, whatever they copy meanwhile */

    set_back = set_back || way == SET_BACK;

    if (set_back && ram_find(&solo.ram, KV_RESTORED_NAME) == NULL) {
        ram_borrow(&solo.ram, KV_RESTORED_NAME, &nothing, 0);
    }

    sum.way[way]++;
}


/* The disk loses something: a file, its end, or some of its bytes. */

static void
damage(void)
{
    size_t       at, n;
    ram_file_t  *f;

    f = random_file(rnd(3) ? "log-" : "");

    if (f == NULL || f->size == 0) {
        return;
    }

    if (rnd(4) == 0) {
        delete_file(f->name);
        return;
    }

    at = rnd(2) ? rnd((uint32_t) f->size)
                : rnd((uint32_t) kv_min(f->size, (size_t) 12000));
    n = f->size;
    ram_resize(f, at);

    if (rnd(4)) {
        ram_resize(f, n);
    }
}


/*
 * People take the note of a clean end out of the directory, while the server
 * runs, and put that file back one day.
 */

static void
take_away(void)
{
    ram_file_t  *f;

    f = random_file("log-");

    if (f == NULL || strstr(f->name, ".closed") == NULL || taken.n) {
        return;
    }

    taken.n = 1;
    taken.file[0] = *f;
    taken.file[0].data = malloc(f->size + 1);
    assert_non_null(taken.file[0].data);
    memcpy(taken.file[0].data, f->data, f->size);
    delete_file(f->name);
}


static void
give_back(void)
{
    if (taken.n && ram_find(&solo.ram, taken.file[0].name) == NULL) {
        put_back(&taken.file[0], SET_BACK);
        forget(&taken);
        sum.given_back++;
    }
}


/*
 * Starts it with what is there.  What is refused is repaired as the text says,
 * or given up for a copy.
 */

static void
start(void)
{
    unsigned  i;
    kv_rc_t   rc;

    static const kv_sync_t  how[] = {
        KV_SYNC_ALWAYS, KV_SYNC_INTERVAL, KV_SYNC_OFF
    };

    solo.conf.sync = how[rnd(3)];

    for (i = 0; (rc = solo_start(&solo)) != KV_OK; i++) {
        assert_int_equal(rc, KV_DAMAGED);

        if (i < 20 && rnd(8) && solo_way_out(&solo)) {
            sum.repaired++;
            continue;
        }

        restore(&copies[rnd(COPIES)], (way_t) rnd(WAYS));
    }

    set_back = false;

    /* a hasty hand */

    if (rnd(3) == 0 && ram_find(&solo.ram, KV_RESTORED_NAME)) {
        delete_file(KV_RESTORED_NAME);
    }

    if (rnd(3) == 0) {
        take_away();
    }

    look();
}


static void
end(void)
{
    uint32_t  what;
    uint64_t  before, lsn;

    before = incarnation();
    lsn = atomic_load(&solo.host.store->zone->wal.next_lsn);
    what = rnd(10);

    solo_stop(&solo, what < 6);

    if (what > 7) {
        ram_reboot(&solo.ram);
    }

    if (rnd(4) == 0) {
        take_copy(&copies[rnd(COPIES)]);
    }

    if (rnd(4) == 0) {
        restore(&copies[rnd(COPIES)], (way_t) rnd(WAYS));
        what = 10;
    }

    if (rnd(8) == 0) {
        damage();
        what = 10;
    }

    if (rnd(3) == 0) {
        give_back();
    }

    start();

    sum.kept += incarnation() == before;
    sum.lost += (what == 8 || what == 9)
                && atomic_load(&solo.host.store->zone->wal.next_lsn) < lsn;
    sum.again += atomic_load(&solo.host.store->zone->wal.next_lsn) < lsn;
}


static void
live(void)
{
    unsigned  i;

    memset(known, 0, sizeof(known));
    writes = 0;
    set_back = false;

    /* the copies that there are: an empty directory */

    ram_clear(&solo.ram);
    start();

    for (i = 0; i < STEPS; i++) {

        switch (rnd(8)) {

        case 0:
            end();
            break;

        case 1:
            solo_background(&solo, KV_REQUEST_SNAPSHOT);
            break;

        case 2:

            /* as what a power cut would leave now; it is never the first */

            take_copy(&copies[rnd(COPIES)]);
            break;

        default:
            write_one();
            break;
        }

        look();
    }

    solo_stop(&solo, false);

    forget(&taken);

    for (i = 0; i < COPIES; i++) {
        forget(&copies[i]);
    }
}


static void
test_never_again(void **state)
{
    unsigned  i;

    (void) state;

    solo.conf.sync_interval = 60000;
    solo.conf.snapshot = 1 << 20;

    seed = getenv("KIT_SEED") ? strtoull(getenv("KIT_SEED"), NULL, 10)
                              : kv_now_ns() | 1;

    for (i = 0; i < LIVES; i++) {
        used = seed;
        live();
    }

    for (i = 0; i < WAYS; i++) {
        assert_true(sum.way[i]);
    }

    assert_true(sum.lost && sum.repaired && sum.kept && sum.again
                && sum.given_back);

    if (getenv("KIT_SUM")) {
        (void) printf("put back %u %u %u %u %u, lost %u, repaired %u, "
                      "kept %u, LSNs again %u, notes given back %u\n",
                      sum.way[0], sum.way[1], sum.way[2], sum.way[3],
                      sum.way[4], sum.lost, sum.repaired, sum.kept, sum.again,
                      sum.given_back);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_never_again, solo_setup,
                                        solo_teardown)
    };

    kit_typed = KV_META_TYPE;
    return cmocka_run_group_tests_name("versions", tests, NULL, NULL);
}
