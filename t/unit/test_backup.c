
/*
 * Backups of a store in use: what was answered before is in them, whatever is
 * written and deleted meanwhile; a file that is not as it was made is refused;
 * what is restored is a store like any other, whose versions begin anew; and
 * what a backup keeps from being deleted, it keeps for a while.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "disk/kv_backup.h"
#include "store/kv_background_snapshot.h"
#include "store/kv_hold.h"
#include "store_rig.h"


#define HOLD  (UINT64_C(1) << 40)


static char                    base[128];       /* a directory, and in it */
static char                    file[256];       /* a backup, */
static char                    restored[256];   /* and what comes of it */
static kv_store_backup_t      *backup;
static kv_store_backup_info_t  info;
static kv_backup_header_t      header;
static kv_err_t                err;
static uint32_t                kept[IDS];       /* `shadow` of the backup */
static char                    said[2048];      /* by the store */


static void
listen(void *ctx, kv_log_level_t level, const char *text)
{
    (void) ctx;

    if (level <= KV_LOG_ERR) {
        (void) snprintf(said, sizeof(said), "%s", text);
    }
}


static int
setup(void **state)
{
    (void) snprintf(base, sizeof(base), "%s/kv_backup.XXXXXX",
                    getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");

    if (mkdtemp(base) == NULL) {
        return -1;
    }

    (void) snprintf(file, sizeof(file), "%s/backup.kvb", base);
    (void) snprintf(restored, sizeof(restored), "%s/restored", base);
    backup = NULL;
    said[0] = '\0';

    if (rig_setup(state) != 0) {
        return -1;
    }

    kit.conf.log = listen;

    return 0;
}


static int
wipe(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void) st;
    (void) type;
    (void) at;

    return remove(path);
}


static int
teardown(void **state)
{
    (void) nftw(base, wipe, 16, FTW_DEPTH|FTW_PHYS);

    return rig_teardown(state);
}


/* All that was written until now is to be in it. */

static void
begin(uint64_t hold)
{
    assert_int_equal(kv_store_backup_begin(kit.store, hold, &backup), KV_OK);
    assert_int_equal(kv_store_backup_prepare(backup, &info), KV_OK);
    memcpy(kept, shadow, sizeof(kept));
}


/* Reads all of it to the file, in odd pieces; between them the store works. */

static void
finish(void (*meanwhile)(void))
{
    int       fd;
    char      buf[50021];
    size_t    n;
    uint64_t  sent;

    fd = open(file, O_WRONLY|O_CREAT|O_TRUNC, 0600);
    assert_true(fd >= 0);

    for (sent = 0; /* void */ ; sent += n) {

        assert_int_equal(kv_store_backup_read(backup, buf, sizeof(buf), &n),
                         KV_OK);

        if (n == 0) {
            break;
        }

        assert_int_equal(write(fd, buf, n), n);

        if (meanwhile) {
            meanwhile();
        }
    }

    assert_int_equal(sent, info.bytes);
    assert_int_equal(close(fd), 0);

    kv_store_backup_end(backup, true);
    backup = NULL;
}


static void
check(kv_rc_t expected)
{
    kv_rc_t  rc;

    err.text[0] = '\0';
    rc = kv_backup_check(file, NULL, &header, &err);

    if (rc != expected) {
        fail_msg("check: %d, not %d: %s", rc, expected, err.text);
    }
}


static void
restore(kv_rc_t expected)
{
    kv_rc_t  rc;

    err.text[0] = '\0';
    rc = kv_backup_restore(file, restored, NULL, &header, &err);

    if (rc != expected) {
        fail_msg("restore: %d, not %d: %s", rc, expected, err.text);
    }
}


/* The store goes on with what was restored, and that is what was backed up. */

static void
change_over(void)
{
    int       dirfd;
    uint64_t  incarnation;

    incarnation = atomic_load(&kit.store->zone->wal.incarnation);

    rig_stop();

    dirfd = open(restored, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    assert_true(dirfd >= 0);
    assert_true(dup2(dirfd, kit.dirfd) >= 0);
    (void) close(dirfd);

    memcpy(shadow, kept, sizeof(kept));

    rig_start();
    rig_verify();

    assert_true(atomic_load(&kit.store->zone->wal.incarnation) > incarnation);
    assert_int_equal(atomic_load(&kit.store->zone->applied_lsn), info.lsn);
}


static unsigned  rounds;

static void
some_traffic(void)
{
    if (rounds++ % 4 == 0) {
        rig_traffic(1);
    }

    if (rounds % 30 == 0) {
        rig_snapshot();
    }
}


static void
test_in_use(void **state)
{
    unsigned  i;

    (void) state;

    rig_start();
    rig_traffic(60);
    rig_snapshot();
    rig_traffic(60);
    rig_snapshot();
    rig_traffic(30);

    for (i = 0; i < 3; i++) {
        begin(HOLD);
        finish(some_traffic);
        check(KV_OK);
        assert_int_equal(header.lsn, info.lsn);
        assert_int_equal(header.bytes, info.bytes);
        assert_true(header.snapshot_lsn > 0);
    }

    restore(KV_OK);
    change_over();

    /* and it is a store like any other */

    rig_traffic(20);
    rig_snapshot();
    rig_restart();
    rig_stop();
}


static void
test_log_alone(void **state)
{
    (void) state;

    rig_start();
    rig_traffic(40);

    begin(HOLD);
    finish(NULL);
    check(KV_OK);
    assert_int_equal(header.snapshot_lsn, 0);
    assert_true(header.parts > 2);

    /* an empty directory is as good as none */

    assert_int_equal(mkdir(restored, 0755), 0);
    restore(KV_OK);
    change_over();
    rig_traffic(10);
    rig_restart();
    rig_stop();
}


static void
test_nothing(void **state)
{
    (void) state;

    rig_start();

    begin(HOLD);
    finish(NULL);
    check(KV_OK);
    assert_int_equal(header.lsn, 0);
    assert_int_equal(header.parts, 1);
    assert_int_equal(info.bytes, sizeof(kv_backup_header_t)
                                 + sizeof(kv_backup_part_t)
                                 + KV_BACKUP_DIGEST);

    restore(KV_OK);
    rig_stop();
}


/* The store that each file there names, which is one: in `id`. */

typedef struct {
    int       dirfd;
    unsigned  snapshots, segments;
    uint64_t  id[2];
} stores_t;


static void
see_store(void *ctx, const char *name)
{
    stores_t *stores = ctx;

    int                   fd;
    kv_segment_header_t   segment;
    kv_snapshot_header_t  snapshot;
    uint64_t             *id;

    if (strstr(name, ".kvs")) {
        stores->snapshots++;
        id = snapshot.id.store;

    } else if (strstr(name, ".kvl")) {
        stores->segments++;
        id = segment.id.store;

    } else {
        return;
    }

    fd = openat(stores->dirfd, name, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &segment, sizeof(segment), 0), sizeof(segment));
    assert_int_equal(pread(fd, &snapshot, sizeof(snapshot), 0),
                     sizeof(snapshot));
    (void) close(fd);

    assert_true(id[0] || id[1]);

    if (stores->snapshots + stores->segments > 1) {
        assert_memory_equal(id, stores->id, sizeof(stores->id));
    }

    memcpy(stores->id, id, sizeof(stores->id));
}


static stores_t
see_stores(const char *path)
{
    kv_io_t   io;
    stores_t  stores;

    kv_io_system(&io);
    memset(&stores, 0, sizeof(stores));
    stores.dirfd = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    assert_true(stores.dirfd >= 0);
    assert_int_equal(io.list(&io, stores.dirfd, see_store, &stores), 0);
    (void) close(stores.dirfd);

    return stores;
}


/*
 * What is restored is another store, each time: what two of them write has the
 * same numbers.  The backup stays of the store that it was made of.
 */

static void
test_another_store(void **state)
{
    char           first[300];
    stores_t       one, two;
    kv_identity_t  id;

    (void) state;

    rig_start();
    rig_traffic(40);
    rig_snapshot();
    rig_traffic(40);
    begin(HOLD);
    finish(NULL);
    id = kv_wal_id(&kit.store->zone->wal);

    restore(KV_OK);
    one = see_stores(restored);
    assert_int_equal(one.snapshots, 1);
    assert_true(one.segments > 1);
    assert_memory_not_equal(one.id, id.store, sizeof(one.id));

    check(KV_OK);
    assert_memory_equal(header.id.store, id.store, sizeof(id.store));

    (void) snprintf(first, sizeof(first), "%s.first", restored);
    assert_int_equal(rename(restored, first), 0);
    restore(KV_OK);
    two = see_stores(restored);
    assert_memory_not_equal(two.id, id.store, sizeof(two.id));
    assert_memory_not_equal(two.id, one.id, sizeof(two.id));

    /* files of both are not taken for those of one */

    change_over();
    id = kv_wal_id(&kit.store->zone->wal);
    assert_memory_equal(id.store, two.id, sizeof(two.id));
    rig_traffic(10);
    rig_restart();
    rig_stop();
}


/* With sync=off what was answered is made durable first. */

static void
test_not_synced(void **state)
{
    (void) state;

    kit.conf.sync = KV_SYNC_OFF;

    rig_start();
    rig_traffic(10);

    assert_true(kv_store_unsynced(kit.store) > 0);

    begin(HOLD);
    assert_int_equal(kv_store_unsynced(kit.store), 0);
    finish(NULL);

    restore(KV_OK);
    change_over();
    rig_stop();
}


static uint8_t *
load(size_t *n)
{
    int          fd;
    uint8_t     *buf;
    struct stat  st;

    fd = open(file, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);

    buf = malloc((size_t) st.st_size + 1);
    assert_non_null(buf);
    assert_int_equal(read(fd, buf, (size_t) st.st_size), st.st_size);
    (void) close(fd);

    *n = (size_t) st.st_size;

    return buf;
}


static void
store(const uint8_t *buf, size_t n)
{
    int  fd;

    fd = open(file, O_WRONLY|O_CREAT|O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, buf, n), n);
    (void) close(fd);
}


static void
seal(uint8_t *buf, size_t n)
{
    EVP_MD_CTX  *ctx;

    ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestInit_ex(ctx, EVP_sha256(), NULL), 1);
    assert_int_equal(EVP_DigestUpdate(ctx, buf, n - KV_BACKUP_DIGEST), 1);
    assert_int_equal(EVP_DigestFinal_ex(ctx, buf + n - KV_BACKUP_DIGEST, NULL),
                     1);
    EVP_MD_CTX_free(ctx);
}


/* Whether nothing is left of a restore. */

static void
assert_nothing_restored(void)
{
    char  tmp[300];

    (void) snprintf(tmp, sizeof(tmp), "%s.restoring", restored);

    assert_int_equal(access(restored, F_OK), -1);
    assert_int_equal(access(tmp, F_OK), -1);
}


/* A small one, with a snapshot and log behind it. */

static uint8_t *
small(size_t *n)
{
    unsigned  i;

    rig_start();

    for (i = 0; i < 12; i++) {
        rig_put(i, 1000 + i, 20);

        if (i == 5) {
            rig_snapshot();
        }
    }

    begin(HOLD);
    finish(NULL);
    check(KV_OK);

    return load(n);
}


/*
 * A file that is cut off anywhere, or in which one byte is another: refused,
 * also where the digest was made to fit.
 */

static void
test_every_byte(void **state)
{
    size_t    i, n;
    uint8_t  *buf, byte;

    (void) state;

    buf = small(&n);

    for (i = 0; i < n; i += i % 512 < 400 ? 1 : 37) {
        store(buf, i);
        check(KV_DAMAGED);
        assert_ptr_equal(strstr(err.text, "offset "), err.text);
    }

    buf[n] = 0;
    store(buf, n + 1);
    check(KV_DAMAGED);

    for (i = 0; i < n; i++) {
        byte = buf[i];
        buf[i] ^= (uint8_t) (1u << (i % 8));

        store(buf, n);
        check(KV_DAMAGED);

        if (i + 1 == n) {
            restore(KV_DAMAGED);
            assert_nothing_restored();
        }

        if (i < n - KV_BACKUP_DIGEST) {
            seal(buf, n);
            store(buf, n);
            check(KV_DAMAGED);

            if (i % 61 == 0) {
                restore(KV_DAMAGED);
                assert_nothing_restored();
            }
        }

        buf[i] = byte;
        seal(buf, n);
    }

    store(buf, n);
    check(KV_OK);

    free(buf);
    rig_stop();
}


static bool
count_step(void *ctx, uint64_t done, uint64_t all)
{
    unsigned  *left = ctx;

    assert_true(done <= all);

    return --*left > 0;
}


/* What can be wrong with the two names, and a restore that is given up. */

static void
test_refusals(void **state)
{
    char               name[300];
    size_t             i, n;
    kv_rc_t            rc;
    unsigned           left, steps;
    uint8_t           *buf;
    kv_backup_watch_t  watch;

    static const char *const  dots[] = { "/.", "/..", "/./", "/../" };

    (void) state;

    buf = small(&n);

    (void) snprintf(name, sizeof(name), "%s/other", restored);

    assert_int_equal(mkdir(restored, 0700), 0);
    assert_int_equal(mkdir(name, 0700), 0);
    restore(KV_ERROR);
    assert_non_null(strstr(err.text, "is not empty"));
    assert_int_equal(rmdir(name), 0);
    assert_int_equal(rmdir(restored), 0);

    (void) snprintf(name, sizeof(name), "%s.restoring", restored);
    assert_int_equal(mkdir(name, 0700), 0);
    restore(KV_ERROR);
    assert_non_null(strstr(err.text, "delete it"));
    assert_int_equal(rmdir(name), 0);

    /* the second name of these would be in the directory, or beside another */

    for (i = 0; i < sizeof(dots) / sizeof(dots[0]); i++) {
        (void) snprintf(name, sizeof(name), "%s%s", base, dots[i]);
        assert_int_equal(kv_backup_restore(file, name, NULL, &header, &err),
                         KV_ERROR);
        assert_non_null(strstr(err.text, "by a name of its own"));
    }

    assert_int_equal(symlink("elsewhere", restored), 0);
    restore(KV_ERROR);
    assert_non_null(strstr(err.text, "is a symbolic link"));
    assert_int_equal(unlink(restored), 0);

    watch.step = count_step;
    watch.ctx = &left;

    for (left = 1; left < 30; left += 3) {
        steps = left;
        rc = kv_backup_restore(file, restored, &watch, &header, &err);

        if (rc == KV_OK) {
            break;
        }

        assert_int_equal(rc, KV_CANCELLED);
        assert_nothing_restored();
        left = steps;
    }

    assert_true(left < 30);
    assert_int_equal(access(restored, F_OK), 0);

    assert_int_equal(unlink(file), 0);
    check(KV_ERROR);
    assert_non_null(strstr(err.text, "No such file"));

    assert_int_equal(mkdir(file, 0700), 0);
    check(KV_ERROR);
    assert_non_null(strstr(err.text, "no regular file"));

    free(buf);
    rig_stop();
}


/* Damage of the store's own files is told before anything is sent. */

static void
test_damaged_store(void **state)
{
    int        fd;
    char       name[64];
    uint64_t   lsn;
    uint8_t    byte;

    (void) state;

    rig_start();
    rig_traffic(5);
    rig_snapshot();
    lsn = atomic_load(&kit.store->zone->snapshot_lsn);

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs", lsn);
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 300), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 300), 1);

    assert_int_equal(kv_store_backup_begin(kit.store, HOLD, &backup), KV_OK);
    assert_int_equal(kv_store_backup_prepare(backup, &info), KV_ERROR);
    assert_non_null(strstr(said, "there is no backup"));
    assert_non_null(strstr(said, name));
    kv_store_backup_end(backup, false);

    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 300), 1);
    (void) close(fd);

    /* another one is newer, and damaged: the older one is taken */

    rig_traffic(5);
    rig_snapshot();
    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs",
                    atomic_load(&kit.store->zone->snapshot_lsn));
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_int_equal(ftruncate(fd, 500), 0);
    (void) close(fd);

    begin(HOLD);
    finish(NULL);
    check(KV_OK);
    assert_int_equal(header.snapshot_lsn, lsn);
    restore(KV_OK);
    change_over();
    rig_stop();
}


/* A file that gets shorter while it is sent: what was sent has no end. */

static void
test_shorter(void **state)
{
    int     fd;
    char    name[64], buf[4096];
    size_t  n;

    (void) state;

    rig_start();
    rig_traffic(5);
    rig_snapshot();
    begin(HOLD);

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs",
                    atomic_load(&kit.store->zone->snapshot_lsn));
    fd = openat(kit.dirfd, name, O_RDWR);
    assert_int_equal(ftruncate(fd, 500), 0);
    (void) close(fd);

    assert_int_equal(kv_store_backup_read(backup, buf, sizeof(buf), &n),
                     KV_ERROR);
    assert_non_null(strstr(said, "became shorter"));
    kv_store_backup_end(backup, false);

    rig_stop();
}


static int (*real_open)(kv_io_t *io, int dirfd, const char *name, int flags);
static bool  takes_away;

static int
on_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    if (takes_away && strstr(name, ".kvl")) {
        (void) kv_hold_least(kit.store->zone, true);
    }

    return real_open(io, dirfd, name, flags);
}


/* The hold is taken away while the log is read, whose files may go then. */

static void
test_hold_lost(void **state)
{
    (void) state;

    real_open = kit.io->io.open;
    kit.io->io.open = on_open;

    rig_start();
    rig_traffic(20);
    rig_snapshot();
    rig_traffic(20);

    assert_int_equal(kv_store_backup_begin(kit.store, HOLD, &backup), KV_OK);
    takes_away = true;
    assert_int_equal(kv_store_backup_prepare(backup, &info), KV_ERROR);
    takes_away = false;
    assert_non_null(strstr(said, "could not be kept any longer"));
    kv_store_backup_end(backup, false);

    rig_stop();
}


typedef struct {
    uint64_t  at;                    /* bytes that are read by then */
    off_t     size;                  /* of the file then; 0: it was done */
} cutter_t;


static bool
cut_step(void *ctx, uint64_t done, uint64_t all)
{
    cutter_t *cutter = ctx;

    (void) all;

    if (cutter->size && done >= cutter->at) {
        assert_int_equal(truncate(file, cutter->size), 0);
        cutter->size = 0;
    }

    return true;
}


/* A backup that gets shorter once it has been found good. */

static void
test_restore_shorter(void **state)
{
    size_t             n;
    uint8_t           *buf;
    cutter_t           cutter;
    kv_backup_watch_t  watch;

    (void) state;

    buf = small(&n);

    cutter.at = n - KV_BACKUP_DIGEST + 1;      /* the snapshot is copied */
    cutter.size = 4096;
    watch.step = cut_step;
    watch.ctx = &cutter;

    assert_int_equal(kv_backup_restore(file, restored, &watch, &header, &err),
                     KV_ERROR);
    assert_int_equal(cutter.size, 0);
    assert_non_null(strstr(err.text, "cannot read"));
    assert_nothing_restored();

    free(buf);
    rig_stop();
}


/* Some log, and a snapshot that lets older log go. */

static void
more_log(void)
{
    uint32_t  i;

    for (i = 0; i < 24; i++) {
        rig_put(i, 5000 + i, 100000);
    }

    rig_snapshot();
}


static bool
is_there(const char *format, uint64_t lsn)
{
    char  name[64];

    (void) snprintf(name, sizeof(name), format, lsn);

    return faccessat(kit.dirfd, name, F_OK, 0) == 0;
}


static void
test_hold(void **state)
{
    char                buf[5000];
    size_t              n;
    unsigned            i;
    uint64_t            lsn, first;
    kv_store_backup_t  *more[KV_HOLDS];

    (void) state;

    rig_start();
    more_log();
    more_log();

    /* as many as may be at a time */

    for (i = 0; i < KV_HOLDS; i++) {
        assert_int_equal(kv_store_backup_begin(kit.store, HOLD, &more[i]),
                         KV_OK);
    }

    assert_int_equal(kv_store_backup_begin(kit.store, HOLD, &backup), KV_BUSY);
    assert_int_equal(kv_hold_count(kit.store->zone), KV_HOLDS);

    for (i = 0; i < KV_HOLDS; i++) {
        kv_store_backup_end(more[i], false);
    }

    assert_int_equal(kv_hold_count(kit.store->zone), 0);
    assert_int_equal(atomic_load(&kit.store->zone->backups_failed), KV_HOLDS);

    /* one that was taken away while its owner gave it back serves the next */

    atomic_store(&kit.store->zone->hold[0].lsn, UINT64_MAX);
    begin(HOLD);
    kv_store_backup_end(backup, false);

    /* within its limit, all that it needs stays, and no more than that */

    begin(8 << 20);
    lsn = atomic_load(&kit.store->zone->snapshot_lsn);
    first = atomic_load(&kit.store->zone->wal.segments);

    more_log();
    more_log();
    assert_true(is_there(KV_SNAPSHOT_NAME ".kvs", lsn));
    assert_true(atomic_load(&kit.store->zone->wal.segments) > first);
    assert_int_equal(kv_store_backup_read(backup, buf, sizeof(buf), &n),
                     KV_OK);
    assert_int_equal(n, sizeof(buf));

    /* beyond it, the log goes on as without it, and the backup ends */

    more_log();
    more_log();
    more_log();
    assert_false(is_there(KV_SNAPSHOT_NAME ".kvs", lsn));
    assert_true(atomic_load(&kit.store->zone->wal.segments) <= first + 4);
    assert_int_equal(kv_store_backup_read(backup, buf, sizeof(buf), &n),
                     KV_ERROR);
    assert_non_null(strstr(said, "could not be kept any longer"));
    kv_store_backup_end(backup, false);

    /* so it does on a full disk */

    begin(HOLD);
    assert_int_equal(kv_background_purge(kit.store, 1, 0, false, &err), KV_OK);
    assert_int_equal(kv_store_backup_read(backup, buf, sizeof(buf), &n),
                     KV_ERROR);
    kv_store_backup_end(backup, false);

    /* and a worker that leaves takes its own along */

    begin(HOLD);
    kv_hold_leave(kit.store->zone, kit.store->number);
    assert_int_equal(kv_hold_count(kit.store->zone), 0);
    kv_store_backup_end(backup, false);

    /* one that is stopped ends soon */

    assert_int_equal(kv_store_backup_begin(kit.store, HOLD, &backup), KV_OK);
    kv_store_backup_stop(backup);
    assert_int_equal(kv_store_backup_prepare(backup, &info), KV_CANCELLED);
    assert_int_equal(kv_store_backup_read(backup, buf, sizeof(buf), &n),
                     KV_CANCELLED);
    kv_store_backup_end(backup, false);

    rig_stop();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shorter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hold_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restore_shorter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hold, setup, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
