
/*
 * Putting files into an archive; see kv_archive.h.
 */


#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_archive_private.h"
#include "disk/kv_snapshot_private.h"


#define KV_ARCHIVE_BLOCK  (1u << 20)     /* bytes that are copied at a time */


static kv_rc_t kv_archive_all(kv_archive_t *a, const kv_archive_list_t *data,
    uint64_t current, uint64_t *upto, kv_err_t *err);
static kv_rc_t kv_archive_segments(kv_archive_t *a,
    const kv_archive_list_t *data, const kv_archive_list_t *there,
    uint64_t current, uint64_t *upto, kv_err_t *err);
static bool kv_archive_full(const kv_archive_list_t *data, size_t i,
    uint64_t current);
static kv_rc_t kv_archive_snapshots(kv_archive_t *a, kv_err_t *err);
static kv_rc_t kv_archive_snapshot(kv_archive_t *a, uint64_t lsn,
    kv_err_t *err);
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
static kv_rc_t kv_archive_empty(kv_io_t *io, int dirfd, const char *name);
static void kv_archive_gap_name(char *name, uint64_t from, uint64_t to);


kv_rc_t
kv_archive_update(kv_archive_t *a, uint64_t current, kv_err_t *err)
{
    size_t             i;
    kv_rc_t            rc;
    uint64_t           upto;
    kv_archive_list_t  data;

    a->put = 0;
    a->gap_from = 0;
    a->gap_to = 0;

    rc = kv_archive_list(a, a->dirfd, &data, err);

    if (rc != KV_OK) {
        return rc;
    }

    if (data.n && data.name[0].number > a->upto + 1) {

        /* what was deleted, by the store or by people, was not put there */

        a->gap_from = a->upto + 1;
        a->gap_to = data.name[0].number - 1;
        a->upto = a->gap_to;
    }

    upto = a->upto;
    rc = kv_archive_all(a, &data, current, &upto, err);

    /*
     * What is found there may have got its name from a process that died, or
     * that could not sync it.
     */

    if (a->put || upto > a->upto) {
        if (kv_io_sync_dir(a->io, a->to) == KV_OK) {
            a->upto = upto;

        } else {
            rc = kv_archive_failed("sync", ".", err);
        }
    }

    if (rc == KV_ERROR && a->io->links && a->io->links(a->io, a->to) == 0) {
        kv_err_set(err, "its directory was deleted: make it again, and restart "
                   "nginx; a reload does not look for it");
    }

    a->waiting = 0;

    for (i = 0; kv_archive_full(&data, i, current); i++) {
        a->waiting += data.name[i + 1].number - 1 > a->upto;
    }

    free(data.name);

    return rc;
}


/* Segments and snapshots; *upto is how far the log is there. */

static kv_rc_t
kv_archive_all(kv_archive_t *a, const kv_archive_list_t *data,
    uint64_t current, uint64_t *upto, kv_err_t *err)
{
    kv_rc_t            rc;
    kv_archive_list_t  there;

    rc = kv_archive_list(a, a->to, &there, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_archive_strange(a, data, &there, err);

    if (rc == KV_OK) {
        rc = kv_archive_segments(a, data, &there, current, upto, err);
    }

    free(there.name);

    return rc == KV_OK ? kv_archive_snapshots(a, err) : rc;
}


/* Full segments, but for those that are known to be there. */

static kv_rc_t
kv_archive_segments(kv_archive_t *a, const kv_archive_list_t *data,
    const kv_archive_list_t *there, uint64_t current, uint64_t *upto,
    kv_err_t *err)
{
    char      name[KV_NAME_MAX], tmp[KV_NAME_MAX];
    size_t    i;
    kv_rc_t   rc;
    uint64_t  end;

    rc = KV_OK;

    for (i = 0; rc == KV_OK && kv_archive_full(data, i, current); i++) {

        end = data->name[i + 1].number - 1;

        if (end <= *upto) {
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_SEGMENT, data->name[i].number);
        (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, data->name[i].number);

        rc = kv_archive_has(there, data->name[i].number)
             ? kv_archive_same(a, name, err)
             : kv_archive_put(a, name, tmp, err);

        if (rc == KV_OK) {
            *upto = end;
        }
    }

    return rc;
}


/* Whether there is a segment `i`, which others follow. */

static bool
kv_archive_full(const kv_archive_list_t *data, size_t i, uint64_t current)
{
    return i + 1 < data->n && data->name[i + 1].number <= current;
}


static kv_rc_t
kv_archive_snapshots(kv_archive_t *a, kv_err_t *err)
{
    kv_rc_t             rc;
    unsigned            i;
    kv_snapshot_list_t  data;

    rc = kv_snapshot_list(a->io, a->dirfd, &data, err);

    for (i = 0; rc == KV_OK && i < data.n; i++) {
        rc = kv_archive_snapshot(a, data.lsn[i], err);
    }

    return rc;
}


static kv_rc_t
kv_archive_snapshot(kv_archive_t *a, uint64_t lsn, kv_err_t *err)
{
    int                  fd;
    char                 name[KV_NAME_MAX], tmp[KV_NAME_MAX];
    kv_snapshot_guess_t  ours, its;

    kv_snapshot_name(name, lsn, ".kvs");
    kv_snapshot_name(tmp, lsn, ".tmp");

    fd = a->io->open(a->io, a->to, name, O_RDONLY);

    if (fd == -1) {
        return errno == ENOENT ? kv_archive_put(a, name, tmp, err)
                               : kv_archive_failed("open", name, err);
    }

    (void) a->io->close(a->io, fd);

    /* what cannot be read, or is damaged, is told by who needs it */

    kv_snapshot_guess(a->io, a->dirfd, lsn, &ours);
    kv_snapshot_guess(a->io, a->to, lsn, &its);

    return ours.salt && its.salt && ours.salt != its.salt
           ? kv_archive_other(name, err) : KV_OK;
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

    return rc == KV_DECLINED ? kv_archive_other(name, err) : rc;
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
kv_archive_mark(kv_archive_t *a)
{
    return kv_archive_empty(a->io, a->to, KV_ARCHIVE_NAME);
}


kv_rc_t
kv_archive_note_gap(kv_io_t *io, int dirfd, uint64_t from, uint64_t to)
{
    char  name[KV_NAME_MAX];

    kv_archive_gap_name(name, from, to);

    return kv_archive_empty(io, dirfd, name);
}


/* Makes an empty file.  KV_OK, also if it is there, or kv_io_rc(). */

static kv_rc_t
kv_archive_empty(kv_io_t *io, int dirfd, const char *name)
{
    int  fd;

    fd = io->open(io, dirfd, name, O_RDWR|O_CREAT|O_EXCL);

    if (fd == -1 && errno != EEXIST) {
        return kv_io_rc(errno);
    }

    if (fd != -1) {
        (void) io->close(io, fd);
    }

    return io->fsync(io, dirfd) == 0 ? KV_OK : kv_io_rc(errno);
}


static void
kv_archive_gap_name(char *name, uint64_t from, uint64_t to)
{
    (void) snprintf(name, KV_NAME_MAX, "gap-%016" PRIx64 "-%016" PRIx64, from,
                    to);
}


bool
kv_archive_is_gap(const char *name, uint64_t *from, uint64_t *to)
{
    char  again[KV_NAME_MAX];

    if (sscanf(name, "gap-%16" SCNx64 "-%16" SCNx64, from, to) != 2) {
        return false;
    }

    kv_archive_gap_name(again, *from, *to);

    return strcmp(again, name) == 0;
}
