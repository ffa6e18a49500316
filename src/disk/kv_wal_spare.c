
/*
 * Spares to make segments of; and segments that are not needed any more.
 *
 * kv_wal_prepare() and kv_wal_purge() run beside commits of other processes.
 * That is safe because they touch no segment from the current one on, and a
 * spare belongs to the process that renamed it.
 */


#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/kv_failpoint.h"
#include "disk/kv_wal_private.h"


static kv_rc_t kv_wal_find_spare(kv_wal_t *wal, const kv_wal_name_t *names,
    size_t n, uint64_t *number);
static kv_rc_t kv_wal_make_spare(kv_wal_t *wal, uint64_t number,
    volatile sig_atomic_t *cancel);
static bool kv_wal_below(kv_wal_t *wal, const kv_wal_name_t *name,
    uint64_t lsn, uint64_t current_lsn);
static bool kv_wal_all_final(kv_wal_t *wal, uint64_t next);
static bool kv_wal_recycle(kv_wal_t *wal, uint64_t lsn, uint64_t n);
static kv_rc_t kv_wal_delete(kv_wal_t *wal, uint64_t lsn,
    const kv_io_pace_t *pace, kv_err_t *err);
static int kv_wal_usable(kv_wal_t *wal, const char *name);
static int kv_wal_fits(kv_wal_t *wal, int fd);
static uint64_t kv_wal_free_spare(const kv_wal_name_t *names, size_t n,
    unsigned *spares);


kv_rc_t
kv_wal_prepare(kv_wal_t *wal, volatile sig_atomic_t *cancel)
{
    size_t          n;
    kv_rc_t         rc;
    uint64_t        number;
    kv_wal_name_t  *names;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_wal_find_spare(wal, names, n, &number);

    free(names);

    return rc == KV_OK ? KV_DECLINED : kv_wal_make_spare(wal, number, cancel);
}


/*
 * KV_OK if there is a usable spare, else KV_NOT_FOUND and *number for a new
 * one.  Deletes what is not usable, or not finished.
 */

static kv_rc_t
kv_wal_find_spare(kv_wal_t *wal, const kv_wal_name_t *names, size_t n,
    uint64_t *number)
{
    char      name[KV_NAME_MAX];
    size_t    i;
    unsigned  spares;

    *number = kv_wal_free_spare(names, n, &spares);

    for (i = 0; i < n; i++) {

        (void) kv_wal_name(name, names[i].kind, names[i].number);

        if (names[i].kind == KV_WAL_SPARE_TMP

            /* left by a dead process: if it stays, take another number */

            && wal->io->unlink(wal->io, wal->dirfd, name) == -1
            && errno != ENOENT)
        {
            *number = kv_max(*number, names[i].number + 1);
        }

        if (names[i].kind != KV_WAL_SPARE) {
            continue;
        }

        switch (kv_wal_usable(wal, name)) {

        case 1:
            return KV_OK;

        case 0:
            (void) wal->io->unlink(wal->io, wal->dirfd, name);
            break;
        }
    }

    return KV_NOT_FOUND;
}


static kv_rc_t
kv_wal_make_spare(kv_wal_t *wal, uint64_t number,
    volatile sig_atomic_t *cancel)
{
    int      fd;
    char     tmp[KV_NAME_MAX], name[KV_NAME_MAX];
    kv_rc_t  rc;

    (void) kv_wal_name(tmp, KV_WAL_SPARE_TMP, number);
    (void) kv_wal_name(name, KV_WAL_SPARE, number);

    rc = kv_io_preallocate(wal->io, wal->dirfd, tmp,
                           (off_t) wal->segment_size, cancel, &fd);

    if (rc != KV_OK) {
        return rc;
    }

    (void) wal->io->close(wal->io, fd);

    kv_failpoint(KV_FAILPOINT_SPARE_MADE);

    if (wal->io->rename(wal->io, wal->dirfd, tmp, name) == -1) {
        rc = kv_wal_rc();
        (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
        return rc;
    }

    return KV_OK;
}


kv_rc_t
kv_wal_purge(kv_wal_t *wal, uint64_t lsn, uint64_t current_lsn,
    unsigned spares, const kv_io_pace_t *pace, kv_err_t *err)
{
    size_t          i, n, gone;
    kv_rc_t         rc;
    uint64_t        number;
    unsigned        have;
    kv_wal_name_t  *names;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        kv_err_set(err, "the data directory cannot be listed: %s; see to its "
                   "permissions and the disk", strerror(errno));
        return rc;
    }

    if (wal->state->replicated && kv_wal_set_stale(wal, names, n) != KV_OK) {
        rc = kv_wal_rc();
        kv_err_set(err, "the segments cannot be read: %s; see to the disk",
                   strerror(errno));
        free(names);

        return rc;
    }

    number = kv_wal_free_spare(names, n, &have);
    gone = 0;

    for (i = 0; i + 1 < n; i++) {

        if (!kv_wal_below(wal, &names[i], lsn, current_lsn)) {
            break;
        }

        if (gone) {
            kv_failpoint(KV_FAILPOINT_PURGING_LOG);
        }

        if (have < spares && kv_wal_recycle(wal, names[i].number, number)) {
            have++;
            number++;
            gone++;

        } else if (kv_wal_delete(wal, names[i].number, pace, err) == KV_OK) {
            gone++;

        } else {
            rc = KV_ERROR;
        }
    }

    free(names);

    if (gone == 0) {
        return rc;
    }

    atomic_fetch_sub_explicit(&wal->state->segments, gone,
                              memory_order_relaxed);

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK && rc == KV_OK) {
        kv_err_set(err, "the data directory cannot be synced: %s; see to the "
                   "disk", strerror(errno));
        rc = KV_ERROR;
    }

    return rc;
}


/*
 * Whether name[0] is a segment whose records all have LSNs <= `lsn`, and not
 * the current one: the first LSN of the next, name[1], says where it ends.
 */

static bool
kv_wal_below(kv_wal_t *wal, const kv_wal_name_t *name, uint64_t lsn,
    uint64_t current_lsn)
{
    return name[0].kind == KV_WAL_SEGMENT
           && name[1].kind == KV_WAL_SEGMENT
           && name[1].number <= current_lsn
           && name[1].number - 1 <= lsn
           && kv_wal_all_final(wal, name[1].number);
}


/*
 * Whether the entries of a replicated log before the segment `next` are all
 * committed: some have no LSN, and no snapshot tells of those.  What was
 * restored of another log has indexes that are not this one's.
 */

static bool
kv_wal_all_final(kv_wal_t *wal, uint64_t next)
{
    kv_rc_t               rc;
    kv_entry_state_t      s;
    kv_segment_header_t   h;

    if (!wal->state->replicated) {
        return true;
    }

    rc = kv_wal_read_start(wal, next, &h, &s, NULL);

    return rc == KV_NOT_FOUND
           || (rc == KV_OK
               && (h.kind != KV_SEGMENT_REPLICATED
                   || s.index <= atomic_load(&wal->state->durable_commit)));
}


/*
 * Renames first, then opens: another process may put another file under the
 * spare's name at any time.
 */

kv_rc_t
kv_wal_take_spare(kv_wal_t *wal, const char *tmp, int *fd)
{
    int             saved;
    char            name[KV_NAME_MAX];
    size_t          i, n;
    kv_rc_t         rc;
    kv_wal_name_t  *names;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        return rc;
    }

    rc = KV_NOT_FOUND;

    for (i = 0; i < n; i++) {

        (void) kv_wal_name(name, names[i].kind, names[i].number);

        if (names[i].kind == KV_WAL_SEGMENT_TMP) {
            /* left by a dead process */
            (void) wal->io->unlink(wal->io, wal->dirfd, name);
        }

        if (names[i].kind != KV_WAL_SPARE) {
            continue;
        }

        if (wal->io->rename(wal->io, wal->dirfd, name, tmp) == -1) {
            if (errno == ENOENT) {
                continue;
            }

            rc = kv_wal_rc();
            break;
        }

        *fd = wal->io->open(wal->io, wal->dirfd, tmp, O_RDWR);

        if (*fd == -1) {
            saved = errno;
            (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
            errno = saved;
            rc = kv_wal_rc();
            break;
        }

        if (kv_wal_fits(wal, *fd) == 1) {
            rc = KV_OK;
            break;
        }

        (void) wal->io->close(wal->io, *fd);
        (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
    }

    free(names);

    return rc;
}


/* Turns a segment into the spare `n`, if its size is right. */

static bool
kv_wal_recycle(kv_wal_t *wal, uint64_t lsn, uint64_t n)
{
    char  name[KV_NAME_MAX], spare[KV_NAME_MAX];

    (void) kv_wal_name(name, KV_WAL_SEGMENT, lsn);
    (void) kv_wal_name(spare, KV_WAL_SPARE, n);

    return kv_wal_usable(wal, name) == 1
           && wal->io->rename(wal->io, wal->dirfd, name, spare) == 0;
}


static kv_rc_t
kv_wal_delete(kv_wal_t *wal, uint64_t lsn, const kv_io_pace_t *pace,
    kv_err_t *err)
{
    char  name[KV_NAME_MAX];

    (void) kv_wal_name(name, KV_WAL_SEGMENT, lsn);

    if (kv_io_remove(wal->io, wal->dirfd, name, pace) == 0
        || errno == ENOENT)
    {
        return KV_OK;
    }

    kv_err_set(err, "%s: the segment, no longer needed, cannot be deleted: "
               "%s; see to the disk", name, strerror(errno));

    return KV_ERROR;
}


/* 1 if a segment can be made of the file, 0 if not, -1 on error. */

static int
kv_wal_usable(kv_wal_t *wal, const char *name)
{
    int  fd, rc;

    fd = wal->io->open(wal->io, wal->dirfd, name, O_RDONLY);

    if (fd == -1) {
        return -1;
    }

    rc = kv_wal_fits(wal, fd);

    (void) wal->io->close(wal->io, fd);

    return rc;
}


/* The size must be right, and the file have no other name, as of a copy. */

static int
kv_wal_fits(kv_wal_t *wal, int fd)
{
    off_t  size;

    size = wal->io->size(wal->io, fd);

    if (size == -1) {
        return -1;
    }

    return size == (off_t) wal->segment_size
           && (wal->io->links == NULL || wal->io->links(wal->io, fd) == 1);
}


/* Counts the spares; returns a number above all of theirs. */

static uint64_t
kv_wal_free_spare(const kv_wal_name_t *names, size_t n, unsigned *spares)
{
    size_t    i;
    uint64_t  number;

    *spares = 0;
    number = 0;

    for (i = 0; i < n; i++) {
        if (names[i].kind == KV_WAL_SPARE) {
            number = names[i].number + 1;
            (*spares)++;
        }
    }

    return number;
}
