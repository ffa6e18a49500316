
/*
 * Restoring a backup: its files are written to a directory that has another
 * name until all is there.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                          /* O_PATH */
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/stat.h>

#include "disk/kv_backup_private.h"
#include "disk/kv_dir_private.h"


#define KV_RESTORE_SUFFIX  ".restoring"


typedef struct {
    kv_backup_reader_t  *from;
    kv_io_t              io;
    kv_restore_ids_t     ids;
    char                 dir[PATH_MAX];   /* the name that it will have, */
    char                 tmp[PATH_MAX + sizeof(KV_RESTORE_SUFFIX)];
                                          /* and has until then */
    int                  fd;              /* of it */
    uint8_t             *buf;
    kv_err_t            *err;
} kv_restore_t;


static kv_rc_t kv_restore_names(kv_restore_t *r, const char *dir);
static bool kv_restore_dots(const char *dir);
static kv_rc_t kv_restore_empty(kv_restore_t *r);
static kv_rc_t kv_restore_above(kv_restore_t *r);
static kv_rc_t kv_restore_any(void *ctx, const char *name);
static kv_rc_t kv_restore_make(kv_restore_t *r);
static kv_rc_t kv_restore_fill(kv_restore_t *r);
static kv_rc_t kv_restore_file(kv_restore_t *r, const kv_backup_file_t *f);
static kv_rc_t kv_restore_begin(kv_restore_t *r, const kv_backup_file_t *f,
    int source, int *fd);
static kv_rc_t kv_restore_copy(kv_restore_t *r, const kv_backup_file_t *f,
    int source, int fd);
static kv_rc_t kv_restore_cut(kv_restore_t *r, const kv_backup_file_t *f,
    int fd);
static kv_rc_t kv_restore_mark(kv_restore_t *r);
static kv_rc_t kv_restore_publish(kv_restore_t *r);
static void kv_restore_remove(kv_restore_t *r);
static kv_rc_t kv_restore_delete(void *ctx, const char *name);
static kv_rc_t kv_restore_failed(kv_restore_t *r, const char *what,
    const char *name);


kv_rc_t
kv_backup_restore(const char *path, const char *dir,
    const kv_backup_watch_t *watch, kv_backup_header_t *header, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_backup_reader_t  from;

    rc = kv_restore_check_dir(dir, err);

    if (rc == KV_OK) {
        rc = kv_backup_open(&from, path, watch, 3, err);
    }

    if (rc != KV_OK) {
        return rc;
    }

    *header = from.header;

    rc = kv_backup_digest(&from, err);

    if (rc == KV_OK) {
        rc = kv_restore_from(&from, dir, err);
    }

    kv_backup_close(&from);

    return rc;
}


kv_rc_t
kv_restore_check_dir(const char *dir, kv_err_t *err)
{
    kv_restore_t  r;

    r.err = err;

    return kv_restore_names(&r, dir);
}


kv_rc_t
kv_restore_from(kv_backup_reader_t *from, const char *dir, kv_err_t *err)
{
    kv_rc_t       rc;
    kv_restore_t  r;

    memset(&r, 0, sizeof(r));

    r.from = from;
    r.fd = -1;
    r.err = err;
    kv_io_system(&r.io);

    rc = kv_restore_names(&r, dir);

    if (rc == KV_OK) {
        rc = kv_restore_make(&r);
    }

    if (r.fd != -1) {
        (void) close(r.fd);
    }

    free(r.buf);

    return rc;
}


/* The two names, and whether the directory can be made. */

static kv_rc_t
kv_restore_names(kv_restore_t *r, const char *dir)
{
    size_t  n;

    n = strlen(dir);

    while (n > 1 && dir[n - 1] == '/') {
        n--;
    }

    if (n == 0 || n >= sizeof(r->dir)) {
        kv_err_set(r->err, "\"%.200s\" cannot be the name of a directory: give "
                   "one that does not exist", dir);
        return KV_ERROR;
    }

    memcpy(r->dir, dir, n);
    r->dir[n] = '\0';

    if (kv_restore_dots(r->dir)) {
        kv_err_set(r->err, "\"%s\" can get no other directory's place: give "
                   "the directory by a name of its own", r->dir);
        return KV_ERROR;
    }

    (void) snprintf(r->tmp, sizeof(r->tmp), "%s" KV_RESTORE_SUFFIX, r->dir);

    return kv_restore_empty(r);
}


/* Whether its last part is "." or "..", or it is the root. */

static bool
kv_restore_dots(const char *dir)
{
    const char  *last;

    last = strrchr(dir, '/');
    last = last ? last + 1 : dir;

    return last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
}


static kv_rc_t
kv_restore_empty(kv_restore_t *r)
{
    int          fd;
    kv_rc_t      rc;
    struct stat  st;

    if (lstat(r->dir, &st) == 0 && S_ISLNK(st.st_mode)) {
        kv_err_set(r->err, "\"%s\" is a symbolic link, which would be "
                   "replaced: give the directory itself", r->dir);
        return KV_ERROR;
    }

    fd = open(r->dir, O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

    if (fd == -1) {
        return errno == ENOENT ? kv_restore_above(r)
               : kv_restore_failed(r, "look into", r->dir);
    }

    rc = kv_dir_each(fd, kv_restore_any, NULL);

    (void) close(fd);

    if (rc == KV_BUSY) {
        kv_err_set(r->err, "\"%s\" is not empty: give a directory that is, or "
                   "that does not exist", r->dir);
        return KV_ERROR;
    }

    return rc == KV_OK ? kv_restore_above(r)
                       : kv_restore_failed(r, "list", r->dir);
}


/* Whether something can be made beside it. */

static kv_rc_t
kv_restore_above(kv_restore_t *r)
{
    char         copy[PATH_MAX];
    const char  *parent;

    (void) strcpy(copy, r->dir);
    parent = dirname(copy);

    if (access(parent, W_OK|X_OK) == 0) {
        return KV_OK;
    }

    if (errno == ENOENT) {
        kv_err_set(r->err, "the directory above \"%s\", \"%s\", does not "
                   "exist: make that first", r->dir, parent);
        return KV_ERROR;
    }

    return kv_restore_failed(r, "write to", parent);
}


static kv_rc_t
kv_restore_any(void *ctx, const char *name)
{
    (void) ctx;
    (void) name;

    return KV_BUSY;
}


static kv_rc_t
kv_restore_make(kv_restore_t *r)
{
    kv_rc_t  rc;

    r->buf = malloc(KV_BACKUP_BLOCK);

    if (r->buf == NULL) {
        kv_err_set(r->err, "out of memory");
        return KV_AGAIN;
    }

    if (mkdir(r->tmp, 0700) == -1) {

        if (errno == EEXIST) {
            kv_err_set(r->err, "\"%s\" is there already, left by a restore "
                       "that did not come to its end, or is still at work: "
                       "see to that, delete it, and try again", r->tmp);
            return KV_ERROR;
        }

        return kv_restore_failed(r, "make", r->tmp);
    }

    r->fd = open(r->tmp, O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

    rc = r->fd == -1 ? kv_restore_failed(r, "open", r->tmp)
                     : kv_restore_fill(r);

    if (rc == KV_OK) {
        rc = kv_backup_verify(r->from, &r->io, r->fd, r->err);
    }

    if (rc == KV_OK) {
        rc = kv_restore_mark(r);
    }

    if (rc == KV_OK) {
        rc = kv_restore_publish(r);
    }

    if (rc != KV_OK) {
        kv_restore_remove(r);
    }

    return rc;
}


static kv_rc_t
kv_restore_fill(kv_restore_t *r)
{
    kv_rc_t   rc;
    uint32_t  i;

    rc = kv_restore_new_store(&r->from->header.id, &r->ids);

    if (rc != KV_OK) {
        return kv_restore_failed(r, "get random numbers for", r->tmp);
    }

    for (i = 0; i < r->from->files && rc == KV_OK; i++) {
        rc = kv_restore_file(r, &r->from->file[i]);
    }

    return rc;
}


static kv_rc_t
kv_restore_file(kv_restore_t *r, const kv_backup_file_t *f)
{
    int       fd, source;
    kv_io_t  *io;
    kv_rc_t   rc;

    io = &r->from->io;
    source = io->open(io, -1, f->name, O_RDONLY);

    if (source == -1) {
        return kv_restore_failed(r, "open", f->name);
    }

    rc = kv_restore_begin(r, f, source, &fd);

    if (rc != KV_OK) {
        (void) io->close(io, source);
        return rc;
    }

    rc = kv_restore_copy(r, f, source, fd);

    if (rc == KV_OK && f->cut.head) {
        rc = kv_restore_cut(r, f, fd);
    }

    if (rc == KV_OK
        && kv_restore_set_store(&r->io, fd, f->kind, &r->ids) != KV_OK)
    {
        rc = kv_restore_failed(r, "write", f->name);
    }

    if (rc == KV_OK && kv_io_sync(&r->io, fd) != KV_OK) {
        rc = kv_restore_failed(r, "sync", f->name);
    }

    (void) r->io.close(&r->io, fd);
    (void) io->close(io, source);

    return rc;
}


/*
 * Makes a file: a segment with all its size, zeroes, as the log goes on in it
 * and uses it again.
 */

static kv_rc_t
kv_restore_begin(kv_restore_t *r, const kv_backup_file_t *f, int source,
    int *fd)
{
    kv_rc_t              rc;
    ssize_t              n;
    kv_segment_header_t  h;

    if (f->kind == KV_BACKUP_SNAPSHOT) {
        *fd = r->io.open(&r->io, r->fd, f->name, O_RDWR|O_CREAT|O_EXCL);

        return *fd == -1 ? kv_restore_failed(r, "make", f->name) : KV_OK;
    }

    n = kv_io_read(&r->from->io, source, &h, sizeof(h), 0);

    if (n != (ssize_t) sizeof(h) || f->len < KV_SEGMENT_HEADER
        || h.size < f->len || h.size > KV_SEGMENT_MAX)
    {
        kv_err_set(r->err, "%s: offset 16: no segment has that size", f->name);
        return KV_DAMAGED;
    }

    rc = kv_io_preallocate(&r->io, r->fd, f->name, (off_t) h.size, NULL, fd);

    return rc == KV_OK ? KV_OK : kv_restore_failed(r, "make", f->name);
}


static kv_rc_t
kv_restore_copy(kv_restore_t *r, const kv_backup_file_t *f, int source,
    int fd)
{
    size_t    n;
    kv_rc_t   rc;
    ssize_t   got;
    uint64_t  offset;

    for (offset = 0; offset < f->len; offset += n) {

        n = (size_t) kv_min(f->len - offset, (uint64_t) KV_BACKUP_BLOCK);
        got = kv_io_read(&r->from->io, source, r->buf, n, (off_t) offset);

        if (got != (ssize_t) n) {
            errno = got == -1 ? errno : EIO;
            return kv_restore_failed(r, "read", f->name);
        }

        if (kv_io_write(&r->io, fd, r->buf, n, (off_t) offset) != KV_OK) {
            return kv_restore_failed(r, "write", f->name);
        }

        rc = kv_backup_step(r->from, n);

        if (rc != KV_OK) {
            return rc;
        }
    }

    return KV_OK;
}


/* Makes the last batch of the file one of its first records alone. */

static kv_rc_t
kv_restore_cut(kv_restore_t *r, const kv_backup_file_t *f, int fd)
{
    size_t              n;
    kv_rc_t             rc;
    uint8_t            *batch;
    kv_batch_header_t   h;

    n = f->cut.head + f->cut.len;
    batch = malloc(n);

    if (batch == NULL) {
        kv_err_set(r->err, "out of memory");
        return KV_AGAIN;
    }

    rc = KV_OK;

    if (kv_io_read(&r->io, fd, batch, n, (off_t) (f->len - n))
        != (ssize_t) n)
    {
        rc = kv_restore_failed(r, "read", f->name);

    } else {
        memset(&h, 0, sizeof(h));
        memcpy(&h, batch, f->cut.head);
        h.len = f->cut.len;
        h.count = f->cut.count;
        memcpy(batch, &h, f->cut.head);

        h.crc = kv_crc32c(0, batch + offsetof(kv_batch_header_t, len),
                          n - offsetof(kv_batch_header_t, len));
        memcpy(batch, &h, f->cut.head);

        if (kv_io_write(&r->io, fd, batch, n, (off_t) (f->len - n)) != KV_OK) {
            rc = kv_restore_failed(r, "write", f->name);
        }
    }

    free(batch);

    return rc;
}


/* The first start begins a new incarnation: see kv_format.h, "Identity". */

static kv_rc_t
kv_restore_mark(kv_restore_t *r)
{
    int  fd;

    fd = r->io.open(&r->io, r->fd, KV_RESTORED_NAME, O_RDWR|O_CREAT|O_EXCL);

    if (fd == -1) {
        return kv_restore_failed(r, "make", KV_RESTORED_NAME);
    }

    (void) r->io.close(&r->io, fd);

    return kv_io_sync_dir(&r->io, r->fd) == KV_OK
           ? KV_OK : kv_restore_failed(r, "sync", r->tmp);
}


static kv_rc_t
kv_restore_publish(kv_restore_t *r)
{
    int   fd, rc;
    char  parent[PATH_MAX];

    /* one that is empty is replaced, unless a file system is mounted there */

    if (rename(r->tmp, r->dir) == -1) {

        if (errno == EBUSY || errno == EXDEV) {
            kv_err_set(r->err, "\"%s\" is where a file system is mounted, and "
                       "cannot be replaced: give a directory below it",
                       r->dir);
            return KV_ERROR;
        }

        return kv_restore_failed(r, "rename", r->tmp);
    }

    (void) strcpy(parent, r->dir);

    fd = open(dirname(parent), O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    rc = fd == -1 ? -1 : fsync(fd);

    if (fd != -1) {
        (void) close(fd);
    }

    /* a file system that cannot do this does not need it */

    if (rc == 0 || errno == EINVAL) {
        return KV_OK;
    }

    (void) kv_restore_failed(r, "sync the parent of", r->dir);
    (void) strcpy(r->tmp, r->dir);

    return KV_ERROR;
}


/* What was made by this call. */

static void
kv_restore_remove(kv_restore_t *r)
{
    int  saved;

    saved = errno;

    if (r->fd != -1) {
        (void) kv_dir_each(r->fd, kv_restore_delete, r);
    }

    (void) rmdir(r->tmp);

    errno = saved;
}


static kv_rc_t
kv_restore_delete(void *ctx, const char *name)
{
    kv_restore_t *r = ctx;

    (void) r->io.unlink(&r->io, r->fd, name);

    return KV_OK;
}


/* "cannot <what> "<name>"", and errno's text: KV_NO_SPACE or KV_ERROR. */

static kv_rc_t
kv_restore_failed(kv_restore_t *r, const char *what, const char *name)
{
    int      saved;
    kv_rc_t  rc;

    saved = errno;
    rc = kv_io_rc(saved);

    kv_err_set(r->err, "restoring to \"%s\": cannot %s \"%s\": %s%s", r->dir,
               what, name, strerror(saved), rc == KV_NO_SPACE
               ? "; free space there, and try again" : "");

    errno = saved;

    return rc == KV_NO_SPACE ? KV_NO_SPACE : KV_ERROR;
}
