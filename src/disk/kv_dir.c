
/*
 * The data directory: found, checked, made; see kv_dir.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                          /* syncfs() */
#endif

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <sys/stat.h>

#include "disk/kv_dir_private.h"
#include "disk/kv_path.h"


static kv_rc_t kv_dir_sync_parent(int dirfd);


kv_rc_t
kv_dir_check(const char *path, kv_dir_id_t *id, kv_err_t *err)
{
    int             fd, at, error;
    char            missing[KV_PATH_NAME];
    kv_rc_t         rc;
    kv_dir_found_t  found;

    rc = kv_path_walk(path, &at, missing, err);

    if (rc != KV_OK) {
        return rc;
    }

    if (kv_dir_id(at, id) != KV_OK) {
        rc = kv_dir_failed(err, "stat", path);
        (void) close(at);
        return rc;
    }

    (void) memcpy(id->missing, missing, sizeof(missing));

    fd = missing[0] ? -1 : openat(at, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    error = errno;

    (void) close(at);

    if (missing[0]) {
        return KV_OK;
    }

    if (fd == -1) {
        errno = error;
        (void) kv_dir_failed(err, "look into", path);

        return error == EACCES ? KV_DECLINED : KV_ERROR;
    }

    rc = kv_dir_inspect(fd, path, &found, err);

    (void) close(fd);

    return rc;
}


kv_rc_t
kv_dir_id(int dirfd, kv_dir_id_t *id)
{
    struct stat  st;

    if (fstat(dirfd, &st) == -1) {
        return KV_ERROR;
    }

    id->dev = st.st_dev;
    id->ino = st.st_ino;
    id->missing[0] = '\0';

    return KV_OK;
}


bool
kv_dir_same(const kv_dir_id_t *one, const kv_dir_id_t *two)
{
    return one->dev == two->dev && one->ino == two->ino
           && strcmp(one->missing, two->missing) == 0;
}


kv_rc_t
kv_dir_open(const char *path, int *dirfd, kv_err_t *err)
{
    int          fd, at, saved;
    bool         made;
    char         missing[KV_PATH_NAME];
    const char  *what;

    if (kv_path_walk(path, &at, missing, err) != KV_OK) {
        return KV_ERROR;
    }

    fd = -1;
    what = "make";
    made = missing[0] && mkdirat(at, missing, 0700) == 0;

    if (missing[0] && !made && errno != EEXIST) {
        goto failed;
    }

    what = "open";

    fd = openat(at, missing[0] ? missing : ".",
                O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

    if (fd == -1) {
        goto failed;
    }

    /* also if it existed: the process that made it may have died before */

    what = "sync the parent of";

    if (kv_dir_sync_parent(fd) != KV_OK) {
        goto failed;
    }

    (void) close(at);

    *dirfd = fd;

    return KV_OK;

failed:

    saved = errno;

    if (fd != -1) {

        if (made) {
            kv_dir_remove(fd, missing);
        }

        (void) close(fd);
    }

    (void) close(at);
    errno = saved;

    return kv_dir_failed(err, what, path);
}


static kv_rc_t
kv_dir_sync_parent(int dirfd)
{
    int  fd, rc, saved;

    fd = openat(dirfd, "..", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {

        /* it may be only to pass through */

        return syncfs(dirfd) == 0 ? KV_OK : KV_ERROR;
    }

    rc = fsync(fd);
    saved = errno;

    (void) close(fd);

    /* a file system that cannot do this does not need it */

    if (rc == 0 || saved == EINVAL || saved == EROFS) {
        return KV_OK;
    }

    errno = saved;

    return KV_ERROR;
}
