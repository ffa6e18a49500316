
/*
 * An archive, and power cuts: all that was ever answered can be restored, any
 * moment of it.
 *
 * A store with sync=always works on a disk that remembers (disk.h), and so does
 * its archive, with links or copies, and with calls that fail now and then.
 * The store is stopped, killed, started again.  Then the power is cut at many
 * moments.  From the archive and the directory that this leaves, restored by
 * kv_archive_restore() to a directory of the system, each moment up to what was
 * answered must come out, to the single write; from the archive alone, each up
 * to what the store said was there; where only a millisecond is kept, the last
 * one.  The same holds when the store was started from it, and went on.
 *
 *     KIT_SEED=n     that one alone
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "kit.h"
#include "disk/kv_archive.h"
#include "disk/kv_snapshot.h"
#include "disk/kv_wal_walk.h"
#include "memory/kv_poison.h"


#define SEEDS    12u
#define STEPS    120u                 /* of a life, */
#define CUTS     10u                  /* and cuts of it */
#define AFTER    15u                  /* steps behind a cut */
#define BATCH    5u                   /* operations of a step, at most */
#define EVENTS   2000u
#define INSIDE   4u                   /* steps inside one background task */
#define KEYS     16u
#define PLACES   2u
#define REGION   ((size_t) 8 << 20)


/* What a write has left, by its LSN - 1. */

typedef struct {
    uint32_t  id;
    uint32_t  len;                    /* of its value; 0: it was deleted */
} event_t;

typedef struct {
    disk_t    disk;                   /* its note: what was answered; its seen:
                                         up to where the archive has it */
    host_t    host;
    event_t   event[EVENTS];
    uint64_t  events;
} life_t;

typedef struct {
    uint32_t  len[KEYS];
} state_t;


static char             base[256];    /* a directory for what is restored */
static uint64_t         seed, chance;
static uint32_t         version;
static kv_store_conf_t  conf;
static void            *region;
static disk_t           plain;        /* the disk's own calls */
static bool             copies, failing;
static unsigned         inside;       /* steps that may yet be, in the task */
static ino_t            synced[256];
static unsigned         syncs;
static unsigned         failed, restored, alone, deleted, lost;


/* Nobody cuts the machine's own power: what a restore syncs is noted alone. */

int
fsync(int fd)
{
    struct stat  st;

    assert_int_equal(fstat(fd, &st), 0);
    assert_true(syncs < sizeof(synced) / sizeof(synced[0]));
    synced[syncs++] = st.st_ino;

    return 0;
}


int
fdatasync(int fd)
{
    return fsync(fd);
}


static int
is_synced(const char *path, const struct stat *st, int type, struct FTW *at)
{
    unsigned  i;

    (void) path;
    (void) at;

    for (i = 0; type == FTW_F && st->st_size; i++) {

        if (i == syncs) {
            return -1;
        }

        if (synced[i] == st->st_ino) {
            break;
        }
    }

    return 0;
}


/* Of a directory that gets its name all files are synced, and it at the end. */

int
rename(const char *from, const char *to)
{
    struct stat  st;

    assert_int_equal(nftw(from, is_synced, 16, FTW_PHYS), 0);
    assert_int_equal(stat(from, &st), 0);
    assert_true(syncs && synced[syncs - 1] == st.st_ino);

    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}


static void operate(life_t *life);


static uint32_t
rnd(uint64_t n)
{
    return (uint32_t) disk_random(&chance, n);
}


/* ---- an archive that fails */


static bool
fails(int dirfd)
{
    static const int  errors[] = { EIO, ENOSPC, EMFILE };

    if (!failing || dirfd != DISK_ARCHIVE || rnd(6)) {
        return false;
    }

    errno = errors[rnd(sizeof(errors) / sizeof(errors[0]))];
    failed++;

    return true;
}


static int
on_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    return fails(dirfd) ? -1 : plain.io.open(io, dirfd, name, flags);
}


static int
on_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    return fails(dirfd) ? -1 : plain.io.list(io, dirfd, cb, ctx);
}


static int
on_fsync(kv_io_t *io, int fd)
{
    return fails(fd) ? -1 : plain.io.fsync(io, fd);
}


static int
on_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    return fails(dirfd) ? -1 : plain.io.rename(io, dirfd, from, to);
}


static int
on_link(kv_io_t *io, int dirfd, const char *name, int todir, const char *to)
{
    if (copies) {
        errno = EXDEV;
        return -1;
    }

    return fails(todir) ? -1 : plain.io.link(io, dirfd, name, todir, to);
}


/*
 * Before each change of the disk: what is promised by then; and in the
 * background task others go on writing, so that snapshots see more than their
 * LSN says.
 */

static void
before(void *ctx)
{
    life_t *life = ctx;

    unsigned     left;
    kv_mutex_t  *lock;

    lock = life->host.store ? &life->host.store->zone->commit_lock : NULL;

    if (inside && rnd(3) == 0 && kv_mutex_trylock(lock) == KV_OK) {
        kv_mutex_unlock(lock);

        left = inside - 1;
        inside = 0;
        operate(life);
        inside = left;
    }

    life->disk.note = life->events;

    if (life->host.store) {
        life->disk.seen = atomic_load(&life->host.store->zone->archive_lsn);
    }
}


static void
prepare(life_t *life)
{
    disk_init(&plain);

    life->disk.io.open = on_open;
    life->disk.io.list = on_list;
    life->disk.io.fsync = on_fsync;
    life->disk.io.rename = on_rename;
    life->disk.io.link = on_link;
    life->disk.before = before;
    life->disk.ctx = life;
}


/* ---- the store */


static void
start(life_t *life)
{
    bool         fail;
    kv_rc_t      rc;
    kv_err_t     err;
    kv_store_t  *store;

    fail = failing;
    failing = false;

    kv_poison_forget(region, REGION);
    memset(region, 0, kv_store_overhead(REGION, PLACES) + KV_PAGE_SIZE);

    rc = kv_store_create(&store, &conf, region, REGION, PLACES,
                         &life->disk.io, DISK_DIR, &err);

    if (rc == KV_OK) {
        rc = kv_store_archive_fits(store, &err);
    }

    if (rc != KV_OK) {
        fail_msg("KIT_SEED=%llu: %s", (unsigned long long) seed, err.text);
    }

    memset(&life->host, 0, sizeof(host_t));
    life->host.store = store;
    life->events = atomic_load(&store->zone->wal.next_lsn) - 1;
    assert_int_equal(kv_store_enter(store), KV_OK);
    failing = fail;
}


static void
stop(life_t *life, bool clean)
{
    kv_store_leave(life->host.store);

    if (clean) {
        kv_store_close(life->host.store);
    }

    assert_int_equal(atomic_load(&life->host.store->zone->archive_gaps), 0);
    deleted += (unsigned)
               atomic_load(&life->host.store->zone->archive_deleted);

    kv_store_destroy(life->host.store);
    life->host.store = NULL;
    assert_int_equal(disk_open_fds(&life->disk), 0);
}


/* Some operations, most of them in one batch of the log. */

static void
operate(life_t *life)
{
    char         key[32];
    kv_rc_t      rc;
    kv_op_t     *op[BATCH];
    event_t     *e, event[BATCH];
    unsigned     i, n;
    kv_store_t  *store;

    store = life->host.store;
    n = 1 + rnd(BATCH);

    for (i = 0; i < n; i++) {
        e = &event[i];
        e->id = rnd(KEYS);
        e->len = rnd(8) ? 100 + rnd(rnd(3) ? 3000 : 9000) : 0;

        rc = e->len ? kit_begin_put(&life->host, e->id, ++version, e->len,
                                    &op[i])
             : kv_store_delete(store, key, (uint16_t) kit_key(e->id, key),
                               &op[i]);
        assert_int_equal(rc, KV_OK);
        (void) kv_store_submit(store, op[i]);
    }

    store->zone->spin = 0;
    store->zone->idle_ns = 0;
    kv_store_commit(store);

    for (i = 0; i < n; i++) {
        assert_true(kv_store_done(op[i], &rc));
        assert_int_equal(rc, KV_OK);
        assert_true(op[i]->lsn <= EVENTS);
        life->event[op[i]->lsn - 1] = event[i];
        life->events = kv_max(life->events, op[i]->lsn);
        kv_store_release(store, op[i]);
    }
}


static void
work(life_t *life, unsigned steps)
{
    kv_store_t  *store;

    for ( /* void */ ; steps; steps--) {
        store = life->host.store;
        operate(life);

        if (rnd(8) == 0) {
            (void) atomic_fetch_or(&store->zone->requests,
                                   KV_REQUEST_SNAPSHOT);
        }

        if (rnd(2) && (kv_store_todo(store) & KV_TODO_BACKGROUND)) {
            inside = INSIDE;
            kv_store_background(store);
            inside = 0;
        }

        if (rnd(30) == 0) {
            stop(life, rnd(2));
            start(life);
        }
    }
}


/* ---- what is restored */


static int
wipe(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void) st;
    (void) type;

    return at->level ? remove(path) : 0;
}


typedef struct {
    disk_t      *disk;
    int          dirfd;               /* on the disk */
    const char  *dir;                 /* in `base` */
} export_t;


static void
export_file(void *ctx, const char *name)
{
    int          from, to;
    char         path[512];
    off_t        at;
    ssize_t      n;
    kv_io_t     *io;
    export_t    *export = ctx;

    static char  buf[65536];

    io = &plain.io;
    (void) snprintf(path, sizeof(path), "%s/%s/%s", base, export->dir, name);

    from = io->open(&export->disk->io, export->dirfd, name, O_RDONLY);
    to = open(path, O_WRONLY|O_CREAT|O_EXCL, 0600);
    assert_true(from >= 0 && to >= 0);

    for (at = 0; /* void */ ; at += n) {
        n = io->pread(&export->disk->io, from, buf, sizeof(buf), at);

        if (n <= 0) {
            break;
        }

        assert_int_equal(write(to, buf, (size_t) n), n);
    }

    (void) io->close(&export->disk->io, from);
    (void) close(to);
}


/* Both directories, as they are on the disk now. */

static void
export_all(disk_t *disk)
{
    size_t    i;
    char      path[512];
    export_t  export[] = { { disk, DISK_DIR, "data" },
                           { disk, DISK_ARCHIVE, "archive" } };

    (void) nftw(base, wipe, 16, FTW_DEPTH|FTW_PHYS);

    for (i = 0; i < 2; i++) {
        (void) snprintf(path, sizeof(path), "%s/%s", base, export[i].dir);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(plain.io.list(&disk->io, export[i].dirfd, export_file,
                                       &export[i]), 0);
    }
}


static kv_rc_t
seen(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    char      key[32];
    state_t  *state = ctx;
    uint32_t  id;

    (void) lsn;

    for (id = 0; id < KEYS; id++) {
        if (kit_key(id, key) == rec->key_len
            && memcmp(key, rec->key, rec->key_len) == 0)
        {
            state->len[id] = rec->op == KV_OP_PUT ? rec->value_len : 0;
            return KV_OK;
        }
    }

    return KV_DAMAGED;
}


/* What the directory holds that was restored, up to `lsn`. */

static void
read_back(const char *dir, uint64_t lsn, state_t *state)
{
    int                  fd;
    kv_io_t              io;
    kv_err_t             err;
    uint64_t             end, bytes;
    kv_wal_walk_t        walk;
    kv_snapshot_list_t   list;

    kv_io_system(&io);
    memset(state, 0, sizeof(*state));
    memset(&walk, 0, sizeof(walk));
    fd = open(dir, O_RDONLY|O_DIRECTORY);
    assert_int_equal(kv_snapshot_list(&io, fd, &list, &err), KV_OK);

    if (list.n) {
        walk.after = list.lsn[0];
        assert_int_equal(kv_snapshot_read(&io, fd, walk.after, seen, state,
                                          &end, &bytes, &err), KV_OK);
    }

    walk.io = &io;
    walk.dirfd = fd;
    walk.upto = KV_LSN_MAX;
    walk.open_end = true;
    walk.record = seen;
    walk.ctx = state;

    assert_int_equal(kv_wal_walk(&walk, &err), KV_OK);
    assert_int_equal(walk.last, lsn);
    free(walk.part);
    (void) close(fd);
}


/* The moment of an LSN, from the archive, and the store's own directory. */

static void
restore(life_t *life, uint64_t lsn, bool data)
{
    char                  path[3][512];
    kv_rc_t               rc;
    state_t               is, was;
    kv_err_t              err;
    uint64_t              i;
    kv_backup_header_t    header;
    struct stat           st;
    kv_archive_moment_t   moment = { lsn, 0 };

    static const char *const  names[] = { "archive", "data", "made" };

    for (i = 0; i < 3; i++) {
        (void) snprintf(path[i], sizeof(path[i]), "%s/%s", base, names[i]);
    }

    syncs = 0;
    rc = kv_archive_restore(path[0], data ? path[1] : NULL, path[2], &moment,
                            NULL, &header, &err);

    if (rc != KV_OK) {
        fail_msg("KIT_SEED=%llu: LSN %llu%s: %s", (unsigned long long) seed,
                 (unsigned long long) lsn, data ? "" : ", archive alone",
                 err.text);
    }

    assert_int_equal(stat(base, &st), 0);
    assert_true(synced[syncs - 1] == st.st_ino);
    memset(&was, 0, sizeof(was));

    for (i = 0; i < lsn; i++) {
        was.len[life->event[i].id] = life->event[i].len;
    }

    read_back(path[2], lsn, &is);

    if (memcmp(&is, &was, sizeof(is)) != 0) {
        fail_msg("KIT_SEED=%llu: LSN %llu is another state",
                 (unsigned long long) seed, (unsigned long long) lsn);
    }

    (void) nftw(path[2], wipe, 16, FTW_DEPTH|FTW_PHYS);
    assert_int_equal(rmdir(path[2]), 0);
    restored++;
    alone += !data;
}


/* Some moments up to `all`, and of the archive alone up to `there`. */

static void
restore_some(life_t *life, uint64_t all, uint64_t there)
{
    unsigned  i;

    export_all(&life->disk);

    if (all) {
        restore(life, all, true);

        if (conf.archive_keep == 0) {
            restore(life, 1 + rnd(all), true);
        }
    }

    for (i = 0; there && !conf.archive_keep && i < 2; i++) {
        restore(life, i ? there : 1 + rnd(there), false);
    }
}


/* The power goes before the record `at`. */

static void
cut(life_t *life, size_t at)
{
    uint64_t  all, there;

    static life_t  image;

    memset(&image, 0, sizeof(image));
    lost += disk_cut(&life->disk, at, &chance, &image.disk) > 0;

    all = at < life->disk.records ? life->disk.record[at].note : life->events;
    there = at < life->disk.records ? life->disk.record[at].seen : 0;

    memcpy(image.event, life->event, sizeof(image.event));
    prepare(&image);
    restore_some(&image, all, there);

    start(&image);
    assert_true(image.events >= all);
    work(&image, AFTER);
    there = atomic_load(&image.host.store->zone->archive_lsn);
    stop(&image, rnd(2));
    restore_some(&image, image.events, there);

    disk_clear(&image.disk);
}


static void
one_seed(void)
{
    size_t    at, end;
    unsigned  left;

    static life_t  life;

    chance = seed;
    version = 0;
    copies = seed % 2;
    failing = seed % 3 != 0;
    conf.archive_keep = seed % 4 == 0;

    memset(&life, 0, sizeof(life));
    disk_init(&life.disk);
    prepare(&life);
    start(&life);
    work(&life, STEPS);
    stop(&life, rnd(2));

    for (at = 0, left = CUTS; left; left--) {
        end = at + 2 * (life.disk.records - at) / left;
        at += rnd(kv_min(end, life.disk.records) - at + 1);
        cut(&life, at);
    }

    disk_clear(&life.disk);
}


static void
test_power_cuts(void **state)
{
    unsigned     i;
    const char  *given;

    (void) state;

    given = getenv("KIT_SEED");
    seed = given ? strtoull(given, NULL, 10) : kv_now_ns();

    for (i = 0; i < (given ? 1 : SEEDS); i++, seed++) {
        one_seed();
    }

    if (given == NULL) {
        assert_true(restored > 200 && alone > 50 && deleted && failed
                    && lost);
    }
}


static int
setup(void **state)
{
    (void) state;

    (void) snprintf(base, sizeof(base), "%s/kv_archive.XXXXXX",
                    getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");

    conf.name = "test";
    conf.path = "disk";
    conf.sync = KV_SYNC_ALWAYS;
    conf.batch = 100;
    conf.cluster = kit_cluster();
    conf.segment = 64 << 10;
    conf.snapshot = 100 << 10;
    conf.max_value = 16 << 10;
    conf.archive = "archive";
    conf.archive_fd = DISK_ARCHIVE;
    conf.archive_hold = UINT64_C(1) << 30;

    region = calloc(1, REGION);

    return mkdtemp(base) && region ? 0 : -1;
}


static int
teardown(void **state)
{
    (void) state;

    (void) nftw(base, wipe, 16, FTW_DEPTH|FTW_PHYS);
    free(region);

    return rmdir(base);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_power_cuts)
    };

    return cmocka_run_group_tests_name("archive power", tests, setup,
                                       teardown);
}
