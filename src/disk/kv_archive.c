
/*
 * Putting files into an archive; see kv_archive.h.
 */


#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_archive.h"
#include "disk/kv_snapshot_private.h"
#include "disk/kv_wal_private.h"
#include "disk/kv_wal_walk.h"


#define KV_ARCHIVE_BLOCK  (1u << 20)     /* bytes that are copied at a time */


/* The names of the segments in a directory, in order. */

typedef struct {
    kv_wal_name_t  *name;
    size_t          n;
} kv_archive_list_t;


static kv_rc_t kv_archive_list(kv_archive_t *a, int dirfd,
    kv_archive_list_t *list, kv_err_t *err);
static bool kv_archive_has(const kv_archive_list_t *list, uint64_t lsn);
static kv_rc_t kv_archive_find_gap(kv_archive_t *a,
    const kv_archive_list_t *data, const kv_archive_list_t *there,
    kv_err_t *err);
static kv_rc_t kv_archive_end(kv_archive_t *a, uint64_t first,
    kv_identity_t *id, uint64_t *end, kv_err_t *err);
static bool kv_archive_never(void *ctx);
static kv_rc_t kv_archive_any(void *ctx, uint64_t lsn, const kv_record_t *rec);
static kv_rc_t kv_archive_segments(kv_archive_t *a,
    const kv_archive_list_t *data, const kv_archive_list_t *there,
    uint64_t current, uint64_t *upto, kv_err_t *err);
static kv_rc_t kv_archive_snapshots(kv_archive_t *a, kv_err_t *err);
static kv_rc_t kv_archive_put(kv_archive_t *a, const char *name,
    const char *tmp, kv_err_t *err);
static bool kv_archive_no_link(int error);
static kv_rc_t kv_archive_same(kv_archive_t *a, const char *name,
    kv_err_t *err);
static kv_rc_t kv_archive_compare(kv_archive_t *a, int one, int two,
    kv_err_t *err);
static kv_rc_t kv_archive_copy(kv_archive_t *a, const char *name,
    const char *tmp, kv_err_t *err);
static kv_rc_t kv_archive_bytes(kv_archive_t *a, int from, int to,
    kv_err_t *err);
static kv_rc_t kv_archive_failed(const char *what, const char *name,
    kv_err_t *err);


kv_rc_t
kv_archive_update(kv_archive_t *a, uint64_t current, kv_err_t *err)
{
    kv_rc_t            rc;
    uint64_t           upto;
    kv_archive_list_t  data, there;

    a->put = 0;
    a->gap_from = 0;
    a->gap_to = 0;
    upto = a->upto;

    rc = kv_archive_list(a, a->dirfd, &data, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_archive_list(a, a->to, &there, err);

    if (rc != KV_OK) {
        free(data.name);
        return rc;
    }

    if (upto == 0) {
        rc = kv_archive_find_gap(a, &data, &there, err);
        upto = a->gap_to;

    } else if (data.n && data.name[0].number > upto + 1) {

        /* what was deleted, by the store or by people, was not put there */

        a->gap_from = upto + 1;
        a->gap_to = data.name[0].number - 1;
        upto = a->gap_to;
    }

    if (rc == KV_OK) {
        rc = kv_archive_segments(a, &data, &there, current, &upto, err);
    }

    free(data.name);
    free(there.name);

    if (rc == KV_OK) {
        rc = kv_archive_snapshots(a, err);
    }

    if (a->put && kv_io_sync_dir(a->io, a->to) != KV_OK) {
        return kv_archive_failed("sync", ".", err);
    }

    a->upto = upto;

    return rc;
}


static kv_rc_t
kv_archive_list(kv_archive_t *a, int dirfd, kv_archive_list_t *list,
    kv_err_t *err)
{
    kv_rc_t   rc;
    kv_wal_t  wal;

    memset(&wal, 0, sizeof(wal));
    wal.io = a->io;
    wal.dirfd = dirfd;

    rc = kv_wal_list(&wal, &list->name, &list->n);

    if (rc != KV_OK) {
        (void) kv_archive_failed("list", ".", err);
        return rc;
    }

    while (list->n && list->name[list->n - 1].kind != KV_WAL_SEGMENT) {
        list->n--;
    }

    return KV_OK;
}


static bool
kv_archive_has(const kv_archive_list_t *list, uint64_t lsn)
{
    size_t  low, high, i;

    low = 0;
    high = list->n;

    while (low < high) {
        i = low + (high - low) / 2;

        if (list->name[i].number == lsn) {
            return true;
        }

        if (list->name[i].number < lsn) {
            low = i + 1;

        } else {
            high = i;
        }
    }

    return false;
}


/*
 * At a start: whether the log that is left begins behind that in the archive.
 * Where that ends its last segment tells.
 */

static kv_rc_t
kv_archive_find_gap(kv_archive_t *a, const kv_archive_list_t *data,
    const kv_archive_list_t *there, kv_err_t *err)
{
    kv_rc_t   rc;
    uint64_t  last, first;

    if (data->n == 0 || there->n == 0) {
        return KV_OK;
    }

    first = data->name[0].number;
    last = there->name[there->n - 1].number;

    if (first <= last) {
        return KV_OK;
    }

    rc = kv_archive_end(a, last, NULL, &last, err);

    if (rc == KV_OK && last + 1 < first) {
        a->gap_from = last + 1;
        a->gap_to = first - 1;
    }

    return rc;
}


/*
 * Where the archive's last segment ends, which begins with `first`; and what it
 * says of the store, if `id` is not NULL.
 */

static kv_rc_t
kv_archive_end(kv_archive_t *a, uint64_t first, kv_identity_t *id,
    uint64_t *end, kv_err_t *err)
{
    kv_rc_t        rc;
    kv_wal_walk_t  walk;

    memset(&walk, 0, sizeof(walk));
    walk.io = a->io;
    walk.dirfd = a->to;
    walk.after = first - 1;
    walk.upto = KV_LSN_MAX;
    walk.open_end = true;
    walk.record = kv_archive_any;
    walk.ctx = a;

    rc = kv_wal_walk(&walk, err);

    free(walk.part);

    if (rc == KV_OK) {
        *end = walk.last;

        if (id) {
            *id = walk.id;
        }
    }

    return rc;
}


kv_rc_t
kv_archive_fits(kv_io_t *io, int dirfd, const kv_identity_t *id,
    uint64_t last, kv_err_t *err)
{
    kv_rc_t            rc;
    uint64_t           end;
    kv_archive_t       a;
    kv_identity_t      its;
    kv_archive_list_t  there;

    memset(&a, 0, sizeof(a));
    a.io = io;
    a.to = dirfd;
    a.stop = kv_archive_never;

    rc = kv_archive_list(&a, dirfd, &there, err);

    if (rc != KV_OK || there.n == 0) {
        free(rc == KV_OK ? there.name : NULL);
        return rc;
    }

    rc = kv_archive_end(&a, there.name[there.n - 1].number, &its, &end, err);

    free(there.name);

    if (rc != KV_OK) {
        return rc;
    }

    if (kv_wal_foreign(id, &its)) {
        kv_err_set(err, "it is of another store: give the zone an archive of "
                   "its own");
        return KV_DAMAGED;
    }

    if (end > last) {
        kv_err_set(err, "it goes on to LSN %" PRIu64 ", and the store ends "
                   "with %" PRIu64 ", as after a restore: give the zone a new "
                   "archive, or restore more", end, last);
        return KV_DAMAGED;
    }

    return KV_OK;
}


static bool
kv_archive_never(void *ctx)
{
    (void) ctx;

    return false;
}


static kv_rc_t
kv_archive_any(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_archive_t *a = ctx;

    (void) lsn;
    (void) rec;

    return a->stop(a->ctx) ? KV_CANCELLED : KV_OK;
}


/* Segments that others follow, but for those that are known to be there. */

static kv_rc_t
kv_archive_segments(kv_archive_t *a, const kv_archive_list_t *data,
    const kv_archive_list_t *there, uint64_t current, uint64_t *upto,
    kv_err_t *err)
{
    char      name[KV_NAME_MAX], tmp[KV_NAME_MAX];
    size_t    i;
    kv_rc_t   rc;
    uint64_t  end;

    a->waiting = 0;
    rc = KV_OK;

    for (i = 0; i + 1 < data->n && data->name[i + 1].number <= current; i++) {

        end = data->name[i + 1].number - 1;

        if (end <= *upto) {
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_SEGMENT, data->name[i].number);
        (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, data->name[i].number);

        if (rc == KV_OK) {
            rc = kv_archive_has(there, data->name[i].number)
                 ? kv_archive_same(a, name, err)
                 : kv_archive_put(a, name, tmp, err);
        }

        if (rc == KV_OK) {
            *upto = end;

        } else {
            a->waiting++;
        }
    }

    return rc;
}


static kv_rc_t
kv_archive_snapshots(kv_archive_t *a, kv_err_t *err)
{
    int                 fd;
    char                name[KV_NAME_MAX], tmp[KV_NAME_MAX];
    kv_rc_t             rc;
    unsigned            i;
    kv_snapshot_list_t  data;

    rc = kv_snapshot_list(a->io, a->dirfd, &data, err);

    for (i = 0; rc == KV_OK && i < data.n; i++) {

        kv_snapshot_name(name, data.lsn[i], ".kvs");
        kv_snapshot_name(tmp, data.lsn[i], ".tmp");

        fd = a->io->open(a->io, a->to, name, O_RDONLY);

        if (fd != -1) {
            (void) a->io->close(a->io, fd);
            continue;
        }

        rc = errno == ENOENT ? kv_archive_put(a, name, tmp, err)
                             : kv_archive_failed("open", name, err);
    }

    return rc;
}


static kv_rc_t
kv_archive_put(kv_archive_t *a, const char *name, const char *tmp,
    kv_err_t *err)
{
    kv_rc_t  rc;

    if (a->stop(a->ctx)) {
        return KV_CANCELLED;
    }

    if (a->io->link
        && a->io->link(a->io, a->dirfd, name, a->to, name) == 0)
    {
        a->put++;
        return KV_OK;
    }

    if (a->io->link && !kv_archive_no_link(errno)) {
        return errno == EEXIST ? kv_archive_same(a, name, err)
                               : kv_archive_failed("link", name, err);
    }

    rc = kv_archive_copy(a, name, tmp, err);

    if (rc == KV_OK && a->io->rename(a->io, a->to, tmp, name) == -1) {
        rc = kv_archive_failed("rename", tmp, err);
    }

    if (rc == KV_OK) {
        a->put++;

    } else {
        (void) a->io->unlink(a->io, a->to, tmp);
    }

    return rc;
}


/* Errors that say that there can be no link, but may be a copy. */

static bool
kv_archive_no_link(int error)
{
    switch (error) {

    case EXDEV:
    case EPERM:
    case EACCES:
    case EMLINK:
    case ENOSYS:
    case EOPNOTSUPP:
        return true;

    default:
        return false;
    }
}


/* Whether the file that is there is, byte for byte, the store's own. */

static kv_rc_t
kv_archive_same(kv_archive_t *a, const char *name, kv_err_t *err)
{
    int      ours, its;
    kv_rc_t  rc;

    ours = a->io->open(a->io, a->dirfd, name, O_RDONLY);

    if (ours == -1) {
        return kv_archive_failed("open", name, err);
    }

    its = a->io->open(a->io, a->to, name, O_RDONLY);

    if (its == -1) {
        rc = kv_archive_failed("open", name, err);

    } else {
        rc = kv_archive_compare(a, ours, its, err);
        (void) a->io->close(a->io, its);
    }

    (void) a->io->close(a->io, ours);

    if (rc == KV_DECLINED) {
        kv_err_set(err, "%s: another file of that name is in the archive, of "
                   "a time before this store was restored: give the zone a new "
                   "archive", name);
        return KV_DAMAGED;
    }

    return rc;
}


/* KV_DECLINED: they differ. */

static kv_rc_t
kv_archive_compare(kv_archive_t *a, int one, int two, kv_err_t *err)
{
    off_t     offset;
    ssize_t   n, m;
    kv_rc_t   rc;
    uint8_t  *buf;

    if (a->io->file_id && a->io->file_id(a->io, one)
        && a->io->file_id(a->io, one) == a->io->file_id(a->io, two))
    {
        return KV_OK;
    }

    buf = malloc(2 * KV_ARCHIVE_BLOCK);

    if (buf == NULL) {
        kv_err_set(err, "out of memory");
        return KV_AGAIN;
    }

    rc = KV_OK;
    n = 1;

    for (offset = 0; rc == KV_OK && n > 0; offset += n) {

        if (a->stop(a->ctx)) {
            rc = KV_CANCELLED;
            break;
        }

        n = kv_io_read(a->io, one, buf, KV_ARCHIVE_BLOCK, offset);
        m = kv_io_read(a->io, two, buf + KV_ARCHIVE_BLOCK, KV_ARCHIVE_BLOCK,
                       offset);

        if (n == -1 || m == -1) {
            rc = kv_archive_failed("read", "both files", err);

        } else if (n != m
                   || memcmp(buf, buf + KV_ARCHIVE_BLOCK, (size_t) n) != 0)
        {
            rc = KV_DECLINED;
        }
    }

    free(buf);

    return rc;
}


static kv_rc_t
kv_archive_copy(kv_archive_t *a, const char *name, const char *tmp,
    kv_err_t *err)
{
    int      from, to;
    kv_rc_t  rc;

    from = a->io->open(a->io, a->dirfd, name, O_RDONLY);

    if (from == -1) {
        return kv_archive_failed("open", name, err);
    }

    /* one that was left by a process that died */

    (void) a->io->unlink(a->io, a->to, tmp);

    to = a->io->open(a->io, a->to, tmp, O_RDWR|O_CREAT|O_EXCL);

    if (to == -1) {
        rc = kv_archive_failed("make", tmp, err);

    } else {
        rc = kv_archive_bytes(a, from, to, err);

        /* nothing of it is anywhere else: a full disk may pass */

        if (rc == KV_OK && a->io->fdatasync(a->io, to) == -1) {
            rc = kv_archive_failed("sync", tmp, err);
        }

        (void) a->io->close(a->io, to);
    }

    (void) a->io->close(a->io, from);

    return rc;
}


static kv_rc_t
kv_archive_bytes(kv_archive_t *a, int from, int to, kv_err_t *err)
{
    off_t     offset;
    ssize_t   n;
    kv_rc_t   rc;
    uint8_t  *buf;

    buf = malloc(KV_ARCHIVE_BLOCK);

    if (buf == NULL) {
        kv_err_set(err, "out of memory");
        return KV_AGAIN;
    }

    rc = KV_OK;

    for (offset = 0; rc == KV_OK; offset += n) {

        if (a->stop(a->ctx)) {
            rc = KV_CANCELLED;
            break;
        }

        n = kv_io_read(a->io, from, buf, KV_ARCHIVE_BLOCK, offset);

        if (n == -1) {
            rc = kv_archive_failed("read", "a file of the store", err);
        }

        if (n <= 0) {
            break;
        }

        if (kv_io_write(a->io, to, buf, (size_t) n, offset) != KV_OK) {
            rc = kv_archive_failed("write", "a copy", err);
        }
    }

    free(buf);

    return rc;
}


kv_rc_t
kv_archive_note_gap(kv_io_t *io, int dirfd, uint64_t from, uint64_t to)
{
    int   fd;
    char  name[KV_NAME_MAX];

    (void) snprintf(name, sizeof(name), "gap-%016" PRIx64 "-%016" PRIx64,
                    from, to);

    fd = io->open(io, dirfd, name, O_RDWR|O_CREAT|O_EXCL);

    if (fd == -1) {
        return errno == EEXIST ? KV_OK : kv_io_rc(errno);
    }

    (void) io->close(io, fd);

    return io->fsync(io, dirfd) == 0 ? KV_OK : kv_io_rc(errno);
}


/* The result of kv_io_rc(), with `err` filled. */

static kv_rc_t
kv_archive_failed(const char *what, const char *name, kv_err_t *err)
{
    int      saved;
    kv_rc_t  rc;

    saved = errno;
    rc = kv_io_rc(saved);

    kv_err_set(err, "cannot %s \"%s\": %s; see to the archive's disk, and to "
               "the rights there", what, name, strerror(saved));

    errno = saved;

    return rc;
}
