
/*
 * A directory that a command works on; see kv_tool_dir.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "disk/kv_path.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_dir.h"


static void kv_tool_dir_init(kv_tool_dir_t *dir, const char *path);
static kv_rc_t kv_tool_dir_open(kv_tool_dir_t *dir, const char *path);
static kv_rc_t kv_tool_dir_ours(kv_tool_dir_t *dir);
static kv_rc_t kv_tool_dir_empty(kv_tool_dir_t *dir);
static kv_rc_t kv_tool_dir_busy(kv_tool_dir_t *dir, const char *instead);
static void kv_tool_files_add(void *ctx, const char *name);
static kv_tool_kind_t kv_tool_kind(const char *name, uint64_t *lsn);
static int kv_tool_files_compare(const void *one, const void *two);

static int kv_tool_io_open(kv_io_t *io, int dirfd, const char *name,
    int flags);
static ssize_t kv_tool_io_pread(kv_io_t *io, int fd, void *buf, size_t n,
    off_t offset);
static ssize_t kv_tool_io_pwritev(kv_io_t *io, int fd,
    const struct iovec *iov, int n, off_t offset);
static int kv_tool_io_fsync(kv_io_t *io, int fd);
static int kv_tool_io_fallocate(kv_io_t *io, int fd, off_t offset, off_t len);
static int kv_tool_io_ftruncate(kv_io_t *io, int fd, off_t len);
static int kv_tool_io_rename(kv_io_t *io, int dirfd, const char *from,
    const char *to);
static int kv_tool_io_unlink(kv_io_t *io, int dirfd, const char *name);
static int kv_tool_io_list(kv_io_t *io, int dirfd, kv_io_list_pt cb,
    void *ctx);


/* ---- directories */


kv_rc_t
kv_tool_dir_read(kv_tool_dir_t *dir, const char *path, const char *instead)
{
    kv_rc_t   rc;
    kv_err_t  err;

    if (kv_tool_dir_open(dir, path) != KV_OK) {
        return KV_ERROR;
    }

    rc = kv_dir_lock_shared(dir->fd, path, &dir->holder, &err);

    if (rc == KV_BUSY) {
        rc = kv_tool_dir_busy(dir, instead);

    } else if (rc != KV_OK) {
        kv_tool_say("%s", err.text);

    } else {
        rc = kv_tool_dir_ours(dir);
    }

    if (rc != KV_OK) {
        kv_tool_dir_close(dir, false);
        return KV_ERROR;
    }

    return KV_OK;
}


kv_rc_t
kv_tool_dir_look(kv_tool_dir_t *dir, const char *path)
{
    kv_rc_t   rc;
    kv_err_t  err;

    if (kv_tool_dir_open(dir, path) != KV_OK) {
        return KV_ERROR;
    }

    rc = kv_dir_lock_shared(dir->fd, path, &dir->holder, &err);

    if (rc == KV_OK) {

        /* a master that starts just now must not meet it */

        (void) flock(dir->fd, LOCK_UN);

    } else if (rc == KV_BUSY) {
        dir->in_use = true;
        rc = KV_OK;

    } else {
        kv_tool_say("%s", err.text);
    }

    if (rc == KV_OK) {
        rc = kv_tool_dir_ours(dir);
    }

    if (rc != KV_OK) {
        kv_tool_dir_close(dir, false);
        return KV_ERROR;
    }

    return KV_OK;
}


kv_rc_t
kv_tool_dir_write(kv_tool_dir_t *dir, const char *path)
{
    kv_rc_t   rc;
    kv_err_t  err;

    if (kv_tool_dir_open(dir, path) != KV_OK) {
        return KV_ERROR;
    }

    rc = kv_tool_dir_ours(dir);

    if (rc == KV_OK) {
        rc = kv_dir_lock(dir->fd, path, (uid_t) -1, (gid_t) -1, &dir->lockfd,
                         NULL, &dir->holder, &err);

        if (rc == KV_BUSY) {
            rc = kv_tool_dir_busy(dir, KV_TOOL_STOP_FIRST);

        } else if (rc != KV_OK) {
            kv_tool_say("%s", err.text);
        }
    }

    if (rc != KV_OK) {
        kv_tool_dir_close(dir, false);
        return KV_ERROR;
    }

    kv_dir_set_holder(dir->lockfd, (int) getpid());
    dir->io = dir->system;

    return KV_OK;
}


kv_rc_t
kv_tool_dir_make(kv_tool_dir_t *dir, const char *path)
{
    kv_rc_t      rc;
    kv_err_t     err;
    kv_dir_id_t  id;

    kv_tool_dir_init(dir, path);

    rc = kv_dir_check(path, &id, &err);

    if (rc == KV_OK) {
        dir->made = id.missing[0] != '\0';
        rc = kv_dir_open(path, &dir->fd, &err);
    }

    if (rc != KV_OK) {
        dir->fd = -1;
        kv_tool_say("%s", err.text);
        return KV_ERROR;
    }

    rc = kv_dir_lock(dir->fd, path, (uid_t) -1, (gid_t) -1, &dir->lockfd,
                     NULL, &dir->holder, &err);

    if (rc == KV_BUSY) {
        dir->made = false;
        rc = kv_tool_dir_busy(dir, "choose another directory");

    } else if (rc != KV_OK) {
        kv_tool_say("%s", err.text);

    } else {
        kv_dir_set_holder(dir->lockfd, (int) getpid());
        rc = kv_tool_dir_empty(dir);
    }

    if (rc != KV_OK) {
        kv_tool_dir_close(dir, true);
        return KV_ERROR;
    }

    dir->io = dir->system;

    return KV_OK;
}


void
kv_tool_dir_close(kv_tool_dir_t *dir, bool undo)
{
    if (dir->made && undo) {
        (void) unlinkat(dir->fd, KV_DIR_LOCK, 0);
        (void) rmdir(dir->path);
    }

    if (dir->lockfd != -1) {
        (void) close(dir->lockfd);
    }

    if (dir->fd != -1) {
        (void) close(dir->fd);
    }

    if (dir->file != -1) {
        (void) close(dir->file);
    }

    dir->lockfd = -1;
    dir->fd = -1;
    dir->file = -1;
}


static void
kv_tool_dir_init(kv_tool_dir_t *dir, const char *path)
{
    memset(dir, 0, sizeof(*dir));

    kv_io_system(&dir->system);

    dir->io = dir->system;
    dir->io.open = kv_tool_io_open;
    dir->io.pread = kv_tool_io_pread;
    dir->io.pwritev = kv_tool_io_pwritev;
    dir->io.fdatasync = kv_tool_io_fsync;
    dir->io.fsync = kv_tool_io_fsync;
    dir->io.fallocate = kv_tool_io_fallocate;
    dir->io.ftruncate = kv_tool_io_ftruncate;
    dir->io.rename = kv_tool_io_rename;
    dir->io.unlink = kv_tool_io_unlink;
    dir->io.list = kv_tool_io_list;
    dir->io.direct = NULL;

    dir->path = path;
    dir->fd = -1;
    dir->lockfd = -1;
    dir->file = -1;
}


static kv_rc_t
kv_tool_dir_open(kv_tool_dir_t *dir, const char *path)
{
    int          at;
    char         missing[KV_PATH_NAME];
    kv_err_t     err;
    struct stat  st;

    kv_tool_dir_init(dir, path);

    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        kv_tool_say("\"%s\" is a file, not the directory of a store; of a "
                    "backup, \"kv-inspect restore\" makes one", path);
        return KV_ERROR;
    }

    if (kv_path_walk(path, &at, missing, &err) != KV_OK) {
        kv_tool_say("%s", err.text);
        return KV_ERROR;
    }

    if (missing[0]) {
        errno = ENOENT;

    } else {
        dir->fd = openat(at, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    }

    if (dir->fd == -1) {
        kv_tool_say("cannot open the directory \"%s\": %s%s", path,
                    strerror(errno), errno == EACCES
                    ? "; run it as root, or as the workers' user" : "");
        (void) close(at);
        return KV_ERROR;
    }

    (void) close(at);

    return KV_OK;
}


/* Refuses a directory that has no file of a store. */

static kv_rc_t
kv_tool_dir_ours(kv_tool_dir_t *dir)
{
    size_t           i;
    bool             ours;
    kv_tool_files_t  files;

    if (kv_tool_files(dir, &files) != KV_OK) {
        return KV_ERROR;
    }

    ours = false;

    for (i = 0; i < files.n; i++) {
        ours |= files.file[i].kind != KV_TOOL_OTHER;
    }

    free(files.file);

    if (!ours) {
        kv_tool_say("\"%s\" has no file of a kv_zone: name the directory that "
                    "its \"path=\" says", dir->path);
        return KV_ERROR;
    }

    return KV_OK;
}


/* Refuses one that holds anything but what any volume does. */

static kv_rc_t
kv_tool_dir_empty(kv_tool_dir_t *dir)
{
    size_t           i;
    kv_rc_t          rc;
    const char      *name;
    kv_tool_files_t  files;

    if (kv_tool_files(dir, &files) != KV_OK) {
        return KV_ERROR;
    }

    rc = KV_OK;

    for (i = 0; i < files.n; i++) {
        name = files.file[i].name;

        /* what a writer that was killed left, the next one replaces */

        if (files.file[i].kind == KV_TOOL_LOCK
            || files.file[i].kind == KV_TOOL_UNFINISHED || name[0] == '.'
            || strcmp(name, "lost+found") == 0)
        {
            continue;
        }

        kv_tool_say("\"%s\" is not empty: it holds \"%s\": a new store gets a "
                    "directory of its own; name one that is empty, or not "
                    "there yet", dir->path, name);
        rc = KV_ERROR;
        break;
    }

    free(files.file);

    return rc;
}


static kv_rc_t
kv_tool_dir_busy(kv_tool_dir_t *dir, const char *instead)
{
    char  who[128];

    kv_tool_say("\"%s\" is in use by %s: %s", dir->path,
                kv_tool_holder(dir, who, sizeof(who)), instead);

    return KV_ERROR;
}


const char *
kv_tool_holder(const kv_tool_dir_t *dir, char *buf, size_t size)
{
    switch (dir->holder.state) {

    case KV_HOLDER_ALIVE:
    case KV_HOLDER_SELF:
        (void) snprintf(buf, size, "process %d", dir->holder.pid);
        break;

    case KV_HOLDER_DEAD:
        (void) snprintf(buf, size, "workers of an nginx whose master was "
                        "process %d", dir->holder.pid);
        break;

    case KV_HOLDER_ELSEWHERE:
        (void) snprintf(buf, size, "process %d in another container, or on "
                        "another machine", dir->holder.pid);
        break;

    default:
        (void) snprintf(buf, size, "another process");
        break;
    }

    return buf;
}


/* ---- files */


kv_rc_t
kv_tool_file_open(kv_tool_dir_t *dir, const char *path)
{
    struct stat  st;

    kv_tool_dir_init(dir, path);

    /* a FIFO must not make it wait */

    dir->file = open(path, O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC);

    if (dir->file == -1) {
        kv_tool_say("cannot open \"%s\": %s", path, strerror(errno));
        return KV_ERROR;
    }

    if (fstat(dir->file, &st) == -1 || !S_ISREG(st.st_mode)) {
        kv_tool_say("\"%s\" is neither a directory nor a regular file", path);
        kv_tool_dir_close(dir, false);
        return KV_ERROR;
    }

    return KV_OK;
}


void
kv_tool_file_use(kv_tool_dir_t *dir, const char *path, int fd,
    const char *name)
{
    kv_tool_dir_init(dir, path);

    dir->file = fd;
    kv_tool_file_name(dir, name);
}


void
kv_tool_file_name(kv_tool_dir_t *dir, const char *name)
{
    (void) snprintf(dir->name, sizeof(dir->name), "%s", name);
}


kv_rc_t
kv_tool_files(kv_tool_dir_t *dir, kv_tool_files_t *files)
{
    size_t       i;
    struct stat  st;

    memset(files, 0, sizeof(*files));

    if (dir->system.list(&dir->system, dir->fd, kv_tool_files_add, files) == -1
        || files->failed)
    {
        kv_tool_say("cannot list the directory \"%s\": %s", dir->path,
                    files->failed ? "out of memory" : strerror(errno));
        free(files->file);
        return KV_ERROR;
    }

    for (i = 0; i < files->n; i++) {

        if (fstatat(dir->fd, files->file[i].name, &st, AT_SYMLINK_NOFOLLOW)
            == 0)
        {
            files->file[i].bytes = (uint64_t) st.st_size;
        }
    }

    if (files->n) {
        qsort(files->file, files->n, sizeof(kv_tool_file_t),
              kv_tool_files_compare);
    }

    return KV_OK;
}


static void
kv_tool_files_add(void *ctx, const char *name)
{
    size_t            max;
    kv_tool_file_t   *file;
    kv_tool_files_t  *files = ctx;

    if (files->n == files->max) {
        max = files->max ? 2 * files->max : 32;
        file = realloc(files->file, max * sizeof(kv_tool_file_t));

        if (file == NULL) {
            files->failed = true;
            return;
        }

        files->file = file;
        files->max = max;
    }

    file = &files->file[files->n++];

    memset(file, 0, sizeof(*file));
    (void) snprintf(file->name, sizeof(file->name), "%s", name);
    file->kind = kv_tool_kind(name, &file->lsn);
}


static kv_tool_kind_t
kv_tool_kind(const char *name, uint64_t *lsn)
{
    size_t       i, n, digits;
    const char  *end;

    static const struct {
        const char      *prefix;
        const char      *suffix;
        kv_tool_kind_t   kind;
    } kinds[] = {
        { "log-", ".kvl", KV_TOOL_SEGMENT },
        { "log-", ".closed", KV_TOOL_CLOSED },
        { "log-", ".tmp", KV_TOOL_UNFINISHED },
        { "snap-", ".kvs", KV_TOOL_SNAPSHOT },
        { "snap-", ".kvs.damaged", KV_TOOL_ASIDE },
        { "snap-", ".tmp", KV_TOOL_UNFINISHED },
        { "spare-", ".kvl", KV_TOOL_SPARE },
        { "spare-", ".tmp", KV_TOOL_UNFINISHED }
    };

    *lsn = 0;

    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {

        n = strlen(kinds[i].prefix);

        if (strncmp(name, kinds[i].prefix, n) != 0) {
            continue;
        }

        digits = strspn(name + n, "0123456789abcdef");
        end = name + n + digits;

        if (strcmp(end, kinds[i].suffix) == 0 && digits
            && (digits == 16 || kinds[i].prefix[1] == 'p'))
        {
            *lsn = strtoull(name + n, NULL, 16);
            return kinds[i].kind;
        }
    }

    return strcmp(name, KV_DIR_LOCK) == 0 ? KV_TOOL_LOCK : KV_TOOL_OTHER;
}


static int
kv_tool_files_compare(const void *one, const void *two)
{
    const kv_tool_file_t  *a = one;
    const kv_tool_file_t  *b = two;

    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }

    if (a->lsn != b->lsn) {
        return a->lsn < b->lsn ? -1 : 1;
    }

    return strcmp(a->name, b->name);
}


/* ---- the calls of a directory that is only read */


static int
kv_tool_io_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    kv_tool_dir_t *dir = (kv_tool_dir_t *) io;

    if (flags & (O_CREAT|O_TRUNC)) {
        errno = EROFS;
        return -1;
    }

    if (dir->file != -1) {

        if (strcmp(name, dir->name) != 0) {
            errno = ENOENT;
            return -1;
        }

        return fcntl(dir->file, F_DUPFD_CLOEXEC, 0);
    }

    flags = (flags & ~O_ACCMODE) | O_RDONLY;

    return dir->system.open(&dir->system, dirfd, name, flags);
}


static ssize_t
kv_tool_io_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    ssize_t         got;
    kv_tool_dir_t  *dir = (kv_tool_dir_t *) io;

    got = dir->system.pread(&dir->system, fd, buf, n, offset);

    if (got > 0) {
        kv_tool_progress_add((uint64_t) got);
    }

    return got;
}


static int
kv_tool_io_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    kv_tool_dir_t *dir = (kv_tool_dir_t *) io;

    if (dir->file != -1) {
        cb(ctx, dir->name);
        return 0;
    }

    return dir->system.list(&dir->system, dirfd, cb, ctx);
}


static ssize_t
kv_tool_io_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    (void) io, (void) fd, (void) iov, (void) n, (void) offset;

    errno = EROFS;
    return -1;
}


static int
kv_tool_io_fsync(kv_io_t *io, int fd)
{
    (void) io, (void) fd;

    errno = EROFS;
    return -1;
}


static int
kv_tool_io_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    (void) io, (void) fd, (void) offset, (void) len;

    errno = EROFS;
    return -1;
}


static int
kv_tool_io_ftruncate(kv_io_t *io, int fd, off_t len)
{
    (void) io, (void) fd, (void) len;

    errno = EROFS;
    return -1;
}


static int
kv_tool_io_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    (void) io, (void) dirfd, (void) from, (void) to;

    errno = EROFS;
    return -1;
}


static int
kv_tool_io_unlink(kv_io_t *io, int dirfd, const char *name)
{
    (void) io, (void) dirfd, (void) name;

    errno = EROFS;
    return -1;
}
