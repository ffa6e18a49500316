
/*
 * The walk to a directory; see kv_path.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                             /* O_PATH */
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <sys/stat.h>

#include "disk/kv_path.h"


#define KV_PATH_LINKS  40                /* symlinks on a path, as in Linux */


/* A walk along a path, with the symlinks on it replaced one by one. */

typedef struct {
    const char  *path;
    int          fd;                     /* where it is: O_PATH */
    unsigned     links;
    char        *missing;                /* is not there: "" if all is */
    char         rest[PATH_MAX];         /* still to go */
} kv_walk_t;


static bool kv_walk_next(kv_walk_t *w, char *name);
static kv_rc_t kv_walk_step(kv_walk_t *w, const char *name, kv_err_t *err);
static kv_rc_t kv_walk_link(kv_walk_t *w, const char *name, int fd,
    const struct stat *link, kv_err_t *err);
static bool kv_walk_trusts(int dirfd, const struct stat *link);
static kv_rc_t kv_walk_failed(kv_walk_t *w, kv_err_t *err);


kv_rc_t
kv_path_walk(const char *path, int *fd, char *missing, kv_err_t *err)
{
    char       name[KV_PATH_NAME];
    kv_rc_t    rc;
    kv_walk_t  w;

    w.path = path;
    w.links = 0;
    w.missing = missing;
    missing[0] = '\0';

    if (strlen(path) >= KV_PATH_MAX) {
        kv_err_set(err, "the path is longer than %d bytes", KV_PATH_MAX - 1);
        return KV_ERROR;
    }

    (void) snprintf(w.rest, sizeof(w.rest), "%s", path);

    w.fd = open(path[0] == '/' ? "/" : ".", O_PATH|O_DIRECTORY|O_CLOEXEC);

    if (w.fd == -1) {
        return kv_walk_failed(&w, err);
    }

    while (kv_walk_next(&w, name)) {

        rc = kv_walk_step(&w, name, err);

        if (rc != KV_OK) {
            (void) close(w.fd);
            return rc;
        }
    }

    *fd = w.fd;

    return KV_OK;
}


/* Cuts the next component off the rest; false at the end. */

static bool
kv_walk_next(kv_walk_t *w, char *name)
{
    size_t  len, skip;

    skip = strspn(w->rest, "/");
    len = strcspn(w->rest + skip, "/");

    if (len == 0) {
        return false;
    }

    name[0] = '\0';                  /* is too long */

    if (len < KV_PATH_NAME) {
        (void) memcpy(name, w->rest + skip, len);
        name[len] = '\0';
    }

    memmove(w->rest, w->rest + skip + len, strlen(w->rest + skip + len) + 1);

    return true;
}


static kv_rc_t
kv_walk_step(kv_walk_t *w, const char *name, kv_err_t *err)
{
    int          fd, error;
    struct stat  st;

    if (w->missing[0]) {
        kv_err_set(err, "cannot make the directory \"%s\": the directory "
                   "above it, \"%.100s\", does not exist: make that first",
                   w->path, w->missing);
        return KV_ERROR;
    }

    if (name[0] == '\0') {
        errno = ENAMETOOLONG;
        return kv_walk_failed(w, err);
    }

    /* O_DIRECTORY, or an automount would not be mounted */

    fd = openat(w->fd, name, O_PATH|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

    if (fd != -1) {
        (void) close(w->fd);
        w->fd = fd;
        return KV_OK;
    }

    if (errno == ENOENT) {
        (void) snprintf(w->missing, KV_PATH_NAME, "%s", name);
        return KV_OK;
    }

    if (errno == ENOTDIR) {
        fd = openat(w->fd, name, O_PATH|O_NOFOLLOW|O_CLOEXEC);

        if (fd == -1) {
            return kv_walk_failed(w, err);
        }

        if (fstat(fd, &st) == 0) {

            if (S_ISLNK(st.st_mode)) {
                return kv_walk_link(w, name, fd, &st, err);
            }

            errno = ENOTDIR;
        }

        error = errno;
        (void) close(fd);
        errno = error;
    }

    return kv_walk_failed(w, err);
}


/* Puts a symlink's target before the rest of the path; closes the symlink. */

static kv_rc_t
kv_walk_link(kv_walk_t *w, const char *name, int fd, const struct stat *link,
    kv_err_t *err)
{
    int      error;
    char     target[PATH_MAX];
    size_t   len;
    ssize_t  n;

    if (!kv_walk_trusts(w->fd, link)) {
        kv_err_set(err, "cannot use \"%s\": \"%.60s\" in it is a symlink that "
                   "others than root can change: give the path that it leads "
                   "to, or make its directory writable for root alone",
                   w->path, name);
        (void) close(fd);
        return KV_ERROR;
    }

    n = readlinkat(fd, "", target, sizeof(target));
    error = n == -1 ? errno : ELOOP;

    (void) close(fd);

    if (n <= 0 || n == sizeof(target) || ++w->links > KV_PATH_LINKS) {
        errno = error;
        return kv_walk_failed(w, err);
    }

    len = strlen(w->rest);

    if ((size_t) n + 1 + len >= sizeof(w->rest)) {
        errno = ENAMETOOLONG;
        return kv_walk_failed(w, err);
    }

    (void) memmove(w->rest + n + 1, w->rest, len + 1);
    (void) memcpy(w->rest, target, (size_t) n);
    w->rest[n] = '/';

    if (target[0] == '/') {
        fd = open("/", O_PATH|O_DIRECTORY|O_CLOEXEC);

        if (fd == -1) {
            return kv_walk_failed(w, err);
        }

        (void) close(w->fd);
        w->fd = fd;
    }

    return KV_OK;
}


/*
 * Whether root may follow the symlink in that directory: only root can have
 * made it, and only root can replace it.  Another user can only give its own
 * files away, and follows all.
 */

static bool
kv_walk_trusts(int dirfd, const struct stat *link)
{
    struct stat  st;

    if (geteuid() != 0) {
        return true;
    }

    if (fstat(dirfd, &st) == -1 || st.st_uid != 0) {
        return false;
    }

    if ((st.st_mode & S_IWOTH) || ((st.st_mode & S_IWGRP) && st.st_gid != 0)) {
        return (st.st_mode & S_ISVTX) && link->st_uid == 0;
    }

    return true;
}


static kv_rc_t
kv_walk_failed(kv_walk_t *w, kv_err_t *err)
{
    int  error;

    error = errno;

    kv_err_set(err, "cannot use the directory \"%s\": %s", w->path,
               strerror(error));

    return error == EACCES ? KV_DECLINED : KV_ERROR;
}
