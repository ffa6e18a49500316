
/*
 * The data directory and its files, given to the workers' user.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <sys/stat.h>

#include "disk/kv_dir_private.h"


typedef struct {
    int          fd;
    const char  *path;
    uid_t        uid;
    gid_t        gid;
    kv_err_t    *err;
} kv_dir_owner_t;


static kv_rc_t kv_dir_set_file_owner(void *ctx, const char *name);
static void kv_dir_refuse(kv_dir_owner_t *owner, const char *name, int error);
static kv_rc_t kv_dir_give_file(kv_dir_owner_t *owner, const char *name,
    int fd, const struct stat *st);
static kv_rc_t kv_dir_usable(int dirfd, const char *path,
    const struct stat *st, kv_err_t *err);


kv_rc_t
kv_dir_set_owner(int dirfd, const char *path, uid_t uid, gid_t gid,
    kv_err_t *err)
{
    kv_rc_t         rc;
    struct stat     st;
    kv_dir_owner_t  owner;

    if (fstat(dirfd, &st) == -1) {
        return kv_dir_failed(err, "stat", path);
    }

    if (uid == (uid_t) -1 && st.st_uid != geteuid()) {
        return kv_dir_usable(dirfd, path, &st, err);
    }

    owner.fd = dirfd;
    owner.path = path;
    owner.uid = uid;
    owner.gid = gid;
    owner.err = err;

    if (err) {
        err->text[0] = '\0';
    }

    /* the files first: until then the directory may be root's alone */

    rc = kv_dir_each(dirfd, kv_dir_set_file_owner, &owner);

    if (rc != KV_OK) {
        return err && err->text[0] ? rc : kv_dir_failed(err, "list", path);
    }

    if (uid != (uid_t) -1 && (st.st_uid != uid || st.st_gid != gid)
        && fchown(dirfd, uid, gid) == -1)
    {
        return kv_dir_failed(err, "change the owner of", path);
    }

    if ((st.st_mode & 07777) != 0700 && fchmod(dirfd, 0700) == -1) {
        return kv_dir_failed(err, "set mode 0700 on", path);
    }

    return KV_OK;
}


static kv_rc_t
kv_dir_set_file_owner(void *ctx, const char *name)
{
    kv_dir_owner_t *owner = ctx;

    int          fd;
    kv_rc_t      rc;
    kv_file_t    file;
    struct stat  st;

    file = kv_dir_file(name);

    if (file == KV_FILE_OTHER || file == KV_FILE_HARMLESS) {
        return KV_OK;
    }

    fd = kv_dir_open_file(owner->fd, name, O_RDONLY, &st);

    if (fd == -1) {

        if (errno == ENOENT) {
            return KV_OK;
        }

        kv_dir_refuse(owner, name, errno);
        return KV_ERROR;
    }

    rc = kv_dir_give_file(owner, name, fd, &st);

    (void) close(fd);

    return rc;
}


static void
kv_dir_refuse(kv_dir_owner_t *owner, const char *name, int error)
{
    struct stat  st;

    if (error == EINVAL) {
        kv_err_set(owner->err, "cannot use \"%s/%s\": it is no regular file: "
                   "move it away, and see who has put it there", owner->path,
                   name);

    } else if (error == EACCES
               && fstatat(owner->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    {
        if (st.st_uid == geteuid()) {
            kv_err_set(owner->err, "cannot use \"%s/%s\": its mode is %04o: "
                       "%s: give it 0600", owner->path, name,
                       (unsigned) st.st_mode & 07777, strerror(error));
            return;
        }

        kv_err_set(owner->err, "cannot use \"%s/%s\": it belongs to user %d, "
                   "and nginx is started by user %d: %s", owner->path, name,
                   (int) st.st_uid, (int) geteuid(), strerror(error));

    } else {
        kv_err_set(owner->err, "cannot use \"%s/%s\": %s", owner->path, name,
                   strerror(error));
    }
}


/*
 * Gives a file to the workers' user if it is one of ours.  A link, or a file
 * that the user could move here but not read, must not become the user's.
 */

static kv_rc_t
kv_dir_give_file(kv_dir_owner_t *owner, const char *name, int fd,
    const struct stat *st)
{
    kv_file_t  file;

    if (owner->uid != (uid_t) -1 && st->st_uid != owner->uid) {

        file = kv_dir_file(name);

        if (file == KV_FILE_SCRAP) {
            if (unlinkat(owner->fd, name, 0) == 0) {
                return KV_OK;
            }

        } else if (file == KV_FILE_PUT_ASIDE || file == KV_FILE_LOCK) {

            /* our kv.lock is: see kv_dir_open_lock() */

            return KV_OK;

        } else if (file == KV_FILE_CLOSED
                   && (st->st_nlink != 1 || !kv_dir_magic(fd, file)))
        {
            /* a start does not need it, and says what is wrong with it */

            return KV_OK;

        } else if (st->st_nlink != 1 || !kv_dir_magic(fd, file)) {
            kv_err_set(owner->err, "cannot use \"%s/%s\": it belongs to user "
                       "%d and not to the workers' user %d, and %s: copy it, "
                       "or chown it, if it is yours", owner->path, name,
                       (int) st->st_uid, (int) owner->uid,
                       st->st_nlink != 1 ? "has other names elsewhere"
                                         : "does not begin as such a file");
            return KV_ERROR;

        } else if (fchown(fd, owner->uid, owner->gid) == 0
                   && fchmod(fd, 0600) == 0)
        {
            return KV_OK;
        }

        kv_err_set(owner->err, "cannot change the owner of \"%s/%s\": %s",
                   owner->path, name, strerror(errno));
        return KV_ERROR;
    }

    if ((st->st_mode & 07777) != 0600
        && (owner->uid != (uid_t) -1 || st->st_uid == geteuid())
        && fchmod(fd, 0600) == -1)
    {
        kv_err_set(owner->err, "cannot set mode 0600 on \"%s/%s\": %s",
                   owner->path, name, strerror(errno));
        return KV_ERROR;
    }

    return KV_OK;
}


/* Accepts a volume of another owner that is open to this user's group. */

static kv_rc_t
kv_dir_usable(int dirfd, const char *path, const struct stat *st,
    kv_err_t *err)
{
    if (faccessat(dirfd, ".", R_OK|W_OK|X_OK, AT_EACCESS) == 0) {
        return KV_OK;
    }

    kv_err_set(err, "cannot use the directory \"%s\": it belongs to user %d, "
               "and the user who starts nginx, %d, may not write to it: %s",
               path, (int) st->st_uid, (int) geteuid(), strerror(errno));

    return KV_ERROR;
}
