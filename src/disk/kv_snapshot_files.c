
/*
 * The snapshots' files: their names, lists, putting aside and deleting.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "disk/kv_snapshot_private.h"


#define KV_SNAPSHOT_ASIDE ".kvs.damaged"


typedef struct {
    const char          *suffix;
    kv_snapshot_list_t  *list;
} kv_snapshot_names_t;


static kv_rc_t kv_snapshot_find(kv_io_t *io, int dirfd, const char *suffix,
    kv_snapshot_list_t *list, kv_err_t *err);
static void kv_snapshot_found(void *ctx, const char *name);
static bool kv_snapshot_parse(const char *name, const char *suffix,
    uint64_t *lsn);
static kv_rc_t kv_snapshot_delete(kv_io_t *io, int dirfd, unsigned keep,
    const char *suffix, const kv_io_pace_t *pace, kv_err_t *err);


kv_rc_t
kv_snapshot_list(kv_io_t *io, int dirfd, kv_snapshot_list_t *list,
    kv_err_t *err)
{
    return kv_snapshot_find(io, dirfd, ".kvs", list, err);
}


kv_rc_t
kv_snapshot_purge(kv_io_t *io, int dirfd, unsigned keep, bool keep_tmp,
    const kv_io_pace_t *pace, kv_err_t *err)
{
    kv_rc_t  rc;

    rc = kv_snapshot_delete(io, dirfd, keep, ".kvs", pace, err);

    if (!keep_tmp
        && kv_snapshot_delete(io, dirfd, 0, ".tmp", pace, err) != KV_OK)
    {
        rc = KV_ERROR;
    }

    return rc;
}


bool
kv_snapshot_lost(int error)
{
    switch (error) {

    case EIO:
    case EBADMSG:
    case EUCLEAN:
    case ENOENT:

    /* errno of what is not a regular file: see kv_io_check() */

    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENXIO:
        return true;

    default:
        return false;
    }
}


kv_rc_t
kv_snapshot_alone(kv_io_t *io, int dirfd, uint64_t lsn, kv_err_t *err)
{
    int   fd;
    char  name[KV_NAME_MAX];

    kv_snapshot_name(name, lsn, KV_SNAPSHOT_ALONE);

    fd = io->open(io, dirfd, name, O_RDONLY);

    if (fd != -1) {
        (void) io->close(io, fd);
        return KV_OK;
    }

    /* it is never read, so its rights do not matter */

    if (errno == EACCES) {
        return KV_OK;
    }

    if (errno != EIO && kv_snapshot_lost(errno)) {
        return KV_NOT_FOUND;
    }

    (void) kv_snapshot_failed("open", name, -1, err);

    return KV_AGAIN;
}


kv_rc_t
kv_snapshot_put_aside(kv_io_t *io, int dirfd, uint64_t lsn, kv_err_t *err)
{
    char  name[KV_NAME_MAX], aside[KV_NAME_MAX];

    kv_snapshot_name(name, lsn, ".kvs");
    kv_snapshot_name(aside, lsn, KV_SNAPSHOT_ASIDE);

    if (io->rename(io, dirfd, name, aside) == -1) {
        return kv_snapshot_failed("rename the damaged", name, -1, err);
    }

    if (kv_io_sync_dir(io, dirfd) != KV_OK) {
        return kv_snapshot_failed("sync the directory of", aside, -1, err);
    }

    return kv_snapshot_delete(io, dirfd, KV_SNAPSHOTS_ASIDE,
                              KV_SNAPSHOT_ASIDE, NULL, err);
}


kv_rc_t
kv_snapshot_drop_aside(kv_io_t *io, int dirfd, unsigned *n, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_snapshot_list_t  list;

    *n = 0;

    rc = kv_snapshot_find(io, dirfd, KV_SNAPSHOT_ASIDE, &list, err);

    if (rc != KV_OK || list.n == 0) {
        return rc;
    }

    *n = list.n;

    return kv_snapshot_delete(io, dirfd, 0, KV_SNAPSHOT_ASIDE, NULL, err);
}


void
kv_snapshot_name(char *name, uint64_t lsn, const char *suffix)
{
    (void) snprintf(name, KV_NAME_MAX, KV_SNAPSHOT_NAME "%s", lsn, suffix);
}


kv_rc_t
kv_snapshot_failed(const char *what, const char *name, int64_t offset,
    kv_err_t *err)
{
    int   e;
    char  at[48];

    e = errno;

    at[0] = '\0';

    if (offset != -1) {
        (void) snprintf(at, sizeof(at), " at offset %lld",
                        (long long) offset);
    }

    if (e == ENOSPC || e == EDQUOT) {
        kv_err_set(err, "cannot %s \"%s\"%s: %s; free space on the disk of"
                   " the data directory", what, name, at, strerror(e));
        return KV_NO_SPACE;
    }

    if (e == EFBIG) {
        kv_err_set(err, "cannot %s \"%s\"%s: %s: a limit does not allow files"
                   " of that size: raise it (ulimit -f, LimitFSIZE=), and"
                   " restart", what, name, at, strerror(e));

    } else {
        kv_err_set(err, "cannot %s \"%s\"%s: %s; check the disk, and the"
                   " rights in the data directory", what, name, at,
                   strerror(e));
    }

    errno = e;

    return KV_ERROR;
}


static kv_rc_t
kv_snapshot_find(kv_io_t *io, int dirfd, const char *suffix,
    kv_snapshot_list_t *list, kv_err_t *err)
{
    kv_snapshot_names_t  names;

    names.suffix = suffix;
    names.list = list;

    list->n = 0;

    if (io->list(io, dirfd, kv_snapshot_found, &names) == -1) {
        kv_err_set(err, "cannot list the snapshots in the data directory:"
                   " %s; check the disk, and the rights in the data"
                   " directory", strerror(errno));
        return KV_ERROR;
    }

    return KV_OK;
}


/* Adds to the sorted list; when it is full, the oldest drops out. */

static void
kv_snapshot_found(void *ctx, const char *name)
{
    kv_snapshot_names_t  *names = ctx;

    unsigned              i, n;
    uint64_t              lsn;
    kv_snapshot_list_t   *list;

    if (!kv_snapshot_parse(name, names->suffix, &lsn)) {
        return;
    }

    list = names->list;

    for (i = 0; i < list->n && list->lsn[i] > lsn; i++) { /* void */ }

    if (i == KV_SNAPSHOTS_MAX) {
        return;
    }

    n = kv_min(list->n, KV_SNAPSHOTS_MAX - 1);

    memmove(&list->lsn[i + 1], &list->lsn[i], (n - i) * sizeof(uint64_t));

    list->lsn[i] = lsn;
    list->n = n + 1;
}


static bool
kv_snapshot_parse(const char *name, const char *suffix, uint64_t *lsn)
{
    char       c;
    uint64_t   n;
    unsigned   i;

    if (strncmp(name, "snap-", 5) != 0) {
        return false;
    }

    name += 5;
    n = 0;

    for (i = 0; i < 16; i++) {
        c = name[i];

        if (c >= '0' && c <= '9') {
            n = n << 4 | (c - '0');

        } else if (c >= 'a' && c <= 'f') {
            n = n << 4 | (c - 'a' + 10);

        } else {
            return false;
        }
    }

    *lsn = n;

    return strcmp(name + 16, suffix) == 0;
}


static kv_rc_t
kv_snapshot_delete(kv_io_t *io, int dirfd, unsigned keep, const char *suffix,
    const kv_io_pace_t *pace, kv_err_t *err)
{
    char                name[KV_NAME_MAX];
    kv_rc_t             rc, found;
    unsigned            n;
    kv_snapshot_list_t  list;

    assert(keep < KV_SNAPSHOTS_MAX);

    rc = KV_OK;

    /* a full list may not be all of them */

    do {
        found = kv_snapshot_find(io, dirfd, suffix, &list, err);
        if (found != KV_OK) {
            return found;
        }

        n = list.n;

        while (list.n > keep) {
            list.n--;

            kv_snapshot_name(name, list.lsn[list.n], suffix);

            if (kv_io_remove(io, dirfd, name, pace) == -1
                && errno != ENOENT)
            {
                (void) kv_snapshot_failed("delete", name, -1, err);
                rc = KV_ERROR;
                continue;
            }

            kv_snapshot_name(name, list.lsn[list.n], KV_SNAPSHOT_ALONE);
            (void) io->unlink(io, dirfd, name);
        }
    } while (n == KV_SNAPSHOTS_MAX && rc == KV_OK);

    return rc;
}
