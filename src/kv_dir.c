
/*
 * The data directory; see kv_dir.h.
 */


#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "kv_dir.h"


kv_rc_t
kv_dir_open(const char *path, uid_t uid, gid_t gid, int *dirfd, kv_err_t *err)
{
    int          fd;
    const char  *what;
    struct stat  st;

    fd = -1;
    what = "make";

    if (mkdir(path, 0700) == -1 && errno != EEXIST) {
        goto failed;
    }

    what = "open";

    fd = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    if (fd == -1) {
        goto failed;
    }

    what = "stat";

    if (fstat(fd, &st) == -1) {
        goto failed;
    }

    what = "change the owner of";

    if (uid != (uid_t) -1 && (st.st_uid != uid || st.st_gid != gid)
        && fchown(fd, uid, gid) == -1)
    {
        goto failed;
    }

    what = "set mode 0700 on";

    if ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) == -1) {
        goto failed;
    }

    *dirfd = fd;

    return KV_OK;

failed:

    kv_err_set(err, "cannot %s the directory \"%s\": %s", what, path,
               strerror(errno));

    if (fd != -1) {
        (void) close(fd);
    }

    return KV_ERROR;
}


kv_rc_t
kv_dir_lock(int dirfd, const char *path, uid_t uid, gid_t gid, int *lockfd,
    int *holder, kv_err_t *err)
{
    int      fd;
    char     buf[32];
    ssize_t  n;

    *holder = 0;

    fd = openat(dirfd, KV_DIR_LOCK, O_RDWR|O_CREAT|O_CLOEXEC, 0600);

    if (fd == -1) {
        kv_err_set(err, "cannot open \"%s/" KV_DIR_LOCK "\": %s", path,
                   strerror(errno));
        return KV_ERROR;
    }

    if (flock(fd, LOCK_EX|LOCK_NB) == 0) {

        if (uid != (uid_t) -1) {
            (void) !fchown(fd, uid, gid);
        }

        *lockfd = fd;
        return KV_OK;
    }

    if (errno != EWOULDBLOCK) {
        kv_err_set(err, "cannot lock \"%s/" KV_DIR_LOCK "\": %s", path,
                   strerror(errno));
        (void) close(fd);
        return KV_ERROR;
    }

    n = pread(fd, buf, sizeof(buf) - 1, 0);

    if (n > 0) {
        buf[n] = '\0';
        *holder = atoi(buf);
    }

    (void) close(fd);

    return KV_BUSY;
}


void
kv_dir_set_holder(int lockfd, int pid)
{
    int   n;
    char  buf[32];

    n = snprintf(buf, sizeof(buf), "%d\n", pid);

    if (pwrite(lockfd, buf, (size_t) n, 0) == n) {
        (void) !ftruncate(lockfd, n);
    }
}
