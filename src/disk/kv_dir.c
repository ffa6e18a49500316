
/*
 * The data directory; see kv_dir.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                          /* syncfs() */
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "disk/kv_dir.h"
#include "disk/kv_format.h"
#include "disk/kv_path.h"


/* What a name in the directory says that the file is. */

typedef enum {
    KV_FILE_OTHER = 0,                   /* nothing of ours */
    KV_FILE_HARMLESS,                    /* what is in an empty volume */
    KV_FILE_LOCK,
    KV_FILE_SEGMENT,
    KV_FILE_SNAPSHOT,
    KV_FILE_SCRAP,                       /* can be deleted: spare, temporary */
    KV_FILE_PUT_ASIDE                    /* of ours, not in use any more */
} kv_file_t;


/* Who holds a lock, as kv.lock says it. */

typedef struct {
    int          pid;
    char         boot[40];               /* of the machine */
    char         space[32];              /* of pids: pid:[4026531836] */
    char         start[24];              /* of the process, in ticks */
} kv_identity_t;


typedef kv_rc_t (*kv_dir_each_pt)(void *ctx, const char *name);

typedef struct {
    int          fd;
    char         stranger[NAME_MAX + 1]; /* a file that is not ours; or "" */
    bool         ours;                   /* one that surely is */
} kv_dir_look_t;

typedef struct {
    int          fd;
    const char  *path;
    uid_t        uid;
    gid_t        gid;
    kv_err_t    *err;
} kv_dir_own_t;


static kv_rc_t kv_dir_sync_parent(int dirfd);
static kv_rc_t kv_dir_look(int dirfd, const char *path, kv_err_t *err);
static kv_rc_t kv_dir_look_at(void *ctx, const char *name);
static kv_rc_t kv_dir_each(int dirfd, kv_dir_each_pt each, void *ctx);
static kv_file_t kv_dir_file(const char *name);
static bool kv_dir_magic(int fd, kv_file_t file);
static int kv_dir_open_file(int dirfd, const char *name, int flags,
    struct stat *st);

static int kv_dir_open_lock(int dirfd, uid_t uid, gid_t gid, bool *busy);
static kv_rc_t kv_dir_own_file(void *ctx, const char *name);
static void kv_dir_refuse(kv_dir_own_t *own, const char *name, int error);
static kv_rc_t kv_dir_adopt(kv_dir_own_t *own, const char *name, int fd,
    const struct stat *st);
static kv_rc_t kv_dir_usable(int dirfd, const char *path,
    const struct stat *st, kv_err_t *err);

static void kv_dir_holder(int dirfd, kv_holder_t *holder);
static void kv_identity_of(kv_identity_t *who, int pid);
static void kv_identity_read(int dirfd, kv_identity_t *who);
static void kv_identity_line(const char *path, char *buf, size_t size);

static kv_rc_t kv_dir_failed(kv_err_t *err, const char *what,
    const char *path);


kv_rc_t
kv_dir_check(const char *path, kv_dir_id_t *id, kv_err_t *err)
{
    int      fd, at, error;
    char     missing[KV_PATH_NAME];
    kv_rc_t  rc;

    rc = kv_path_walk(path, &at, missing, err);

    if (rc == KV_OK) {
        rc = kv_dir_id(at, id);
        (void) memcpy(id->missing, missing, sizeof(missing));
    }

    if (rc != KV_OK) {
        return rc;
    }

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

    rc = kv_dir_look(fd, path, err);

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
    char         missing[KV_PATH_NAME];
    const char  *what;

    if (kv_path_walk(path, &at, missing, err) != KV_OK) {
        return KV_ERROR;
    }

    fd = -1;
    what = "make";

    if (missing[0] && mkdirat(at, missing, 0700) == -1 && errno != EEXIST) {
        goto failed;
    }

    what = "open";

    fd = openat(at, missing[0] ? missing : ".",
                O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);

    if (fd == -1) {
        goto failed;
    }

    /* also where it was there: who made it may have died before the sync */

    what = "sync the parent of";

    if (kv_dir_sync_parent(fd) != KV_OK) {
        goto failed;
    }

    (void) close(at);

    *dirfd = fd;

    return KV_OK;

failed:

    saved = errno;
    (void) close(at);

    if (fd != -1) {
        (void) close(fd);
    }

    errno = saved;

    return kv_dir_failed(err, what, path);
}


static kv_rc_t
kv_dir_sync_parent(int dirfd)
{
    int  fd, rc, saved;

    fd = openat(dirfd, "..", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {

        /* it may be there to pass through only */

        return syncfs(dirfd) == 0 ? KV_OK : KV_ERROR;
    }

    rc = fsync(fd);
    saved = errno;

    (void) close(fd);

    /* another file system may not know how to, and then does not need to */

    if (rc == 0 || saved == EINVAL || saved == EROFS) {
        return KV_OK;
    }

    errno = saved;

    return KV_ERROR;
}


/* Refuses a directory that has files, and none of them is ours for sure. */

static kv_rc_t
kv_dir_look(int dirfd, const char *path, kv_err_t *err)
{
    kv_dir_look_t  look;

    memset(&look, 0, sizeof(look));
    look.fd = dirfd;

    if (kv_dir_each(dirfd, kv_dir_look_at, &look) != KV_OK) {
        return kv_dir_failed(err, "list", path);
    }

    if (look.stranger[0] && !look.ours) {
        kv_err_set(err, "cannot use the directory \"%s\": it is not empty, "
                   "and holds \"%.100s\" but no data of a kv_zone: give the "
                   "zone a directory of its own", path, look.stranger);
        return KV_ERROR;
    }

    return KV_OK;
}


static kv_rc_t
kv_dir_look_at(void *ctx, const char *name)
{
    kv_dir_look_t *look = ctx;

    int          fd;
    kv_file_t    file;
    struct stat  st;

    file = kv_dir_file(name);

    if (file == KV_FILE_OTHER && look->stranger[0] == '\0') {
        (void) snprintf(look->stranger, sizeof(look->stranger), "%s", name);
    }

    if (look->ours
        || (file != KV_FILE_SEGMENT && file != KV_FILE_SNAPSHOT))
    {
        return KV_OK;
    }

    fd = kv_dir_open_file(look->fd, name, O_RDONLY, &st);

    if (fd != -1) {
        look->ours = kv_dir_magic(fd, file);
        (void) close(fd);
    }

    return KV_OK;
}


/*
 * Calls for every name until a result is not KV_OK, and returns that; KV_ERROR
 * with errno set, too, if the directory cannot be listed.
 */

static kv_rc_t
kv_dir_each(int dirfd, kv_dir_each_pt each, void *ctx)
{
    int             fd, saved;
    DIR            *dir;
    kv_rc_t         rc;
    struct dirent  *entry;

    fd = openat(dirfd, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return KV_ERROR;
    }

    dir = fdopendir(fd);

    if (dir == NULL) {
        saved = errno;
        (void) close(fd);
        errno = saved;
        return KV_ERROR;
    }

    rc = KV_OK;

    while (rc == KV_OK) {
        errno = 0;
        entry = readdir(dir);

        if (entry == NULL) {
            rc = errno ? KV_ERROR : KV_OK;
            break;
        }

        if (strcmp(entry->d_name, ".") != 0
            && strcmp(entry->d_name, "..") != 0)
        {
            rc = each(ctx, entry->d_name);
        }
    }

    saved = errno;
    (void) closedir(dir);
    errno = saved;

    return rc;
}


static kv_file_t
kv_dir_file(const char *name)
{
    size_t       i, n;
    const char  *end;

    static const char  *harmless[] = {
        "lost+found", ".snapshot", ".zfs", ".gitkeep", ".gitignore", ".keep"
    };

    if (strcmp(name, KV_DIR_LOCK) == 0) {
        return KV_FILE_LOCK;
    }

    for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        if (strcmp(name, harmless[i]) == 0) {
            return KV_FILE_HARMLESS;
        }
    }

    if (strncmp(name, "spare-", 6) == 0) {
        end = name + 6 + strspn(name + 6, "0123456789");

        return end > name + 6 && end[0] == '.' ? KV_FILE_SCRAP : KV_FILE_OTHER;
    }

    n = strncmp(name, "log-", 4) == 0 ? 4
        : strncmp(name, "snap-", 5) == 0 ? 5 : 0;

    if (n == 0 || strspn(name + n, "0123456789abcdef") != 16
        || name[n + 16] != '.')
    {
        return KV_FILE_OTHER;
    }

    end = name + n + 16;

    if (strcmp(end, ".tmp") == 0) {
        return KV_FILE_SCRAP;
    }

    if (n == 4 && strcmp(end, ".kvl") == 0) {
        return KV_FILE_SEGMENT;
    }

    if (n == 5 && strcmp(end, ".kvs") == 0) {
        return KV_FILE_SNAPSHOT;
    }

    return KV_FILE_PUT_ASIDE;
}


static bool
kv_dir_magic(int fd, kv_file_t file)
{
    char  buf[8];

    return pread(fd, buf, sizeof(buf), 0) == (ssize_t) sizeof(buf)
           && memcmp(buf, file == KV_FILE_SEGMENT ? KV_SEGMENT_MAGIC
                                                  : KV_SNAPSHOT_MAGIC,
                     sizeof(buf))
              == 0;
}


/* A regular file; else -1, with errno EINVAL if it is something else. */

static int
kv_dir_open_file(int dirfd, const char *name, int flags, struct stat *st)
{
    int  fd;

    fd = openat(dirfd, name,
                flags|O_NOFOLLOW|O_NONBLOCK|O_NOCTTY|O_CLOEXEC, 0600);

    if (fd == -1) {
        if (errno == ELOOP || errno == ENXIO || errno == EISDIR) {
            errno = EINVAL;
        }

        return -1;
    }

    if (fstat(fd, st) == -1 || !S_ISREG(st->st_mode)) {
        (void) close(fd);
        errno = EINVAL;
        return -1;
    }

    return fd;
}


kv_rc_t
kv_dir_lock(int dirfd, const char *path, uid_t uid, gid_t gid, int *lockfd,
    kv_holder_t *holder, kv_err_t *err)
{
    int      fd;
    bool     busy;
    kv_rc_t  rc;

    if (flock(dirfd, LOCK_EX|LOCK_NB) == -1) {

        if (errno == EWOULDBLOCK) {
            kv_dir_holder(dirfd, holder);
            return KV_BUSY;
        }

        return kv_dir_failed(err, "lock", path);
    }

    rc = kv_dir_look(dirfd, path, err);

    if (rc == KV_OK) {
        fd = kv_dir_open_lock(dirfd, uid, gid, &busy);

        if (fd != -1) {
            *lockfd = fd;
            return KV_OK;
        }

        if (busy) {
            kv_dir_holder(dirfd, holder);
            rc = KV_BUSY;

        } else {
            rc = kv_dir_failed(err, "make or lock " KV_DIR_LOCK " in", path);
        }
    }

    (void) flock(dirfd, LOCK_UN);

    return rc;
}


/*
 * The file's descriptor, locked; else -1 with *busy, or errno set.  What is
 * in its place, or is somebody else's, or has another name somewhere, is left
 * alone, and a new file put into the place.
 */

static int
kv_dir_open_lock(int dirfd, uid_t uid, gid_t gid, bool *busy)
{
    int          fd, saved;
    bool         give;
    struct stat  st;

    *busy = false;
    give = uid != (uid_t) -1;

    fd = kv_dir_open_file(dirfd, KV_DIR_LOCK, O_RDWR, &st);

    if (fd != -1) {

        if (flock(fd, LOCK_EX|LOCK_NB) == -1) {
            *busy = errno == EWOULDBLOCK;
            goto failed;
        }

        if (st.st_nlink == 1 && (!give || st.st_uid == uid)) {

            /* until the new holder's workers say who that is */

            (void) !ftruncate(fd, 0);

            return fd;
        }

        (void) close(fd);

    } else if (errno != EINVAL && errno != ENOENT) {
        return -1;
    }

    if (unlinkat(dirfd, KV_DIR_LOCK, 0) == -1 && errno != ENOENT) {
        return -1;
    }

    fd = kv_dir_open_file(dirfd, KV_DIR_LOCK, O_RDWR|O_CREAT|O_EXCL, &st);

    if (fd == -1) {
        return -1;
    }

    if ((!give || fchown(fd, uid, gid) == 0)
        && flock(fd, LOCK_EX|LOCK_NB) == 0)
    {
        return fd;
    }

failed:

    saved = errno;
    (void) close(fd);
    errno = saved;

    return -1;
}


kv_rc_t
kv_dir_own(int dirfd, const char *path, uid_t uid, gid_t gid, kv_err_t *err)
{
    kv_rc_t       rc;
    struct stat   st;
    kv_dir_own_t  own;

    if (fstat(dirfd, &st) == -1) {
        return kv_dir_failed(err, "stat", path);
    }

    if (uid == (uid_t) -1 && st.st_uid != geteuid()) {
        return kv_dir_usable(dirfd, path, &st, err);
    }

    own.fd = dirfd;
    own.path = path;
    own.uid = uid;
    own.gid = gid;
    own.err = err;

    if (err) {
        err->text[0] = '\0';
    }

    /* the files first: it may be root's alone until then */

    rc = kv_dir_each(dirfd, kv_dir_own_file, &own);

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
kv_dir_own_file(void *ctx, const char *name)
{
    kv_dir_own_t *own = ctx;

    int          fd;
    kv_rc_t      rc;
    kv_file_t    file;
    struct stat  st;

    file = kv_dir_file(name);

    if (file == KV_FILE_OTHER || file == KV_FILE_HARMLESS) {
        return KV_OK;
    }

    fd = kv_dir_open_file(own->fd, name, O_RDONLY, &st);

    if (fd == -1) {

        if (errno == ENOENT) {
            return KV_OK;
        }

        kv_dir_refuse(own, name, errno);
        return KV_ERROR;
    }

    rc = kv_dir_adopt(own, name, fd, &st);

    (void) close(fd);

    return rc;
}


static void
kv_dir_refuse(kv_dir_own_t *own, const char *name, int error)
{
    struct stat  st;

    if (error == EINVAL) {
        kv_err_set(own->err, "cannot use \"%s/%s\": it is no regular file: "
                   "move it away, and see who has put it there", own->path,
                   name);

    } else if (error == EACCES
               && fstatat(own->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    {
        kv_err_set(own->err, "cannot use \"%s/%s\": it belongs to user %d, "
                   "and nginx is started by user %d: %s", own->path, name,
                   (int) st.st_uid, (int) geteuid(), strerror(error));

    } else {
        kv_err_set(own->err, "cannot use \"%s/%s\": %s", own->path, name,
                   strerror(error));
    }
}


/*
 * Gives a file to the workers' user if it is one of ours.  A link, or a file
 * that he could move to here but not read, must not become his.
 */

static kv_rc_t
kv_dir_adopt(kv_dir_own_t *own, const char *name, int fd,
    const struct stat *st)
{
    kv_file_t  file;

    if (own->uid != (uid_t) -1 && st->st_uid != own->uid) {

        file = kv_dir_file(name);

        if (file == KV_FILE_SCRAP) {
            if (unlinkat(own->fd, name, 0) == 0) {
                return KV_OK;
            }

        } else if (file == KV_FILE_PUT_ASIDE || file == KV_FILE_LOCK) {

            /* ours is his already: see kv_dir_open_lock() */

            return KV_OK;

        } else if (st->st_nlink != 1 || !kv_dir_magic(fd, file)) {
            kv_err_set(own->err, "cannot use \"%s/%s\": it belongs to user %d "
                       "and not to the workers' user %d, and %s: copy it, or "
                       "chown it, if it is yours", own->path, name,
                       (int) st->st_uid, (int) own->uid,
                       st->st_nlink != 1 ? "has other names elsewhere"
                                         : "does not begin as such a file");
            return KV_ERROR;

        } else if (fchown(fd, own->uid, own->gid) == 0
                   && fchmod(fd, 0600) == 0)
        {
            return KV_OK;
        }

        kv_err_set(own->err, "cannot change the owner of \"%s/%s\": %s",
                   own->path, name, strerror(errno));
        return KV_ERROR;
    }

    if ((st->st_mode & 07777) != 0600
        && (own->uid != (uid_t) -1 || st->st_uid == geteuid())
        && fchmod(fd, 0600) == -1)
    {
        kv_err_set(own->err, "cannot set mode 0600 on \"%s/%s\": %s",
                   own->path, name, strerror(errno));
        return KV_ERROR;
    }

    return KV_OK;
}


/* A volume of others that is open to this user's group will do. */

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


void
kv_dir_set_holder(int lockfd, int pid)
{
    int            n;
    char           buf[128];
    kv_identity_t  who;

    kv_identity_of(&who, pid);

    n = snprintf(buf, sizeof(buf), "%d\n%s %s %s\n", who.pid, who.boot,
                 who.space, who.start);

    if (pwrite(lockfd, buf, (size_t) n, 0) == n) {
        (void) !ftruncate(lockfd, n);
    }
}


/* Whose pid it is decides what can be said of it. */

static void
kv_dir_holder(int dirfd, kv_holder_t *holder)
{
    kv_identity_t  who, me, now;

    kv_identity_read(dirfd, &who);
    kv_identity_of(&me, (int) getpid());

    holder->pid = who.pid;

    if (who.pid == 0) {
        holder->state = KV_HOLDER_UNKNOWN;
        return;
    }

    /* what an older version wrote down, or /proc was not to be read */

    if (strcmp(who.boot, "-") == 0 || strcmp(me.boot, "-") == 0) {
        holder->state = kill(who.pid, 0) == -1 && errno == ESRCH
                        ? KV_HOLDER_DEAD : KV_HOLDER_UNKNOWN;
        return;
    }

    if (strcmp(who.boot, me.boot) != 0 || strcmp(who.space, me.space) != 0) {
        holder->state = KV_HOLDER_ELSEWHERE;
        return;
    }

    kv_identity_of(&now, who.pid);

    holder->state = strcmp(who.start, now.start) != 0 ? KV_HOLDER_DEAD
                    : who.pid == me.pid ? KV_HOLDER_SELF : KV_HOLDER_ALIVE;
}


/* What cannot be found out is "-". */

static void
kv_identity_of(kv_identity_t *who, int pid)
{
    char     path[64], buf[512], state, *p;
    ssize_t  n;

    who->pid = pid;

    kv_identity_line("/proc/sys/kernel/random/boot_id", who->boot,
                     sizeof(who->boot));

    n = readlink("/proc/self/ns/pid", who->space, sizeof(who->space) - 1);

    if (n <= 0) {
        n = 0;
        who->space[n++] = '-';
    }

    who->space[n] = '\0';

    (void) snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    kv_identity_line(path, buf, sizeof(buf));

    /* the second field is a name and may hold anything; the 22nd is it */

    p = strrchr(buf, ')');

    if (p == NULL || sscanf(p, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                            "%*s %*s %*s %*s %*s %*s %*s %*s %23s", &state,
                            who->start)
                     != 2)
    {
        (void) strcpy(who->start, "-");
        return;
    }

    /* nobody has waited for it yet, as PID 1 of many a container does not */

    if (state == 'Z' || state == 'X') {
        (void) strcpy(who->start, "ended");
    }
}


static void
kv_identity_read(int dirfd, kv_identity_t *who)
{
    int          fd;
    char         buf[128];
    ssize_t      n;
    struct stat  st;

    who->pid = 0;
    (void) strcpy(who->boot, "-");
    (void) strcpy(who->space, "-");
    (void) strcpy(who->start, "-");

    fd = kv_dir_open_file(dirfd, KV_DIR_LOCK, O_RDONLY, &st);

    if (fd == -1) {
        return;
    }

    n = pread(fd, buf, sizeof(buf) - 1, 0);

    (void) close(fd);

    buf[n > 0 ? n : 0] = '\0';

    if (sscanf(buf, "%9d %39s %31s %23s", &who->pid, who->boot, who->space,
               who->start) < 1
        || who->pid < 0)
    {
        who->pid = 0;
    }
}


static void
kv_identity_line(const char *path, char *buf, size_t size)
{
    int      fd;
    ssize_t  n;

    n = -1;
    fd = open(path, O_RDONLY|O_CLOEXEC);

    if (fd != -1) {
        n = read(fd, buf, size - 1);
        (void) close(fd);
    }

    if (n <= 0) {
        n = 0;
        buf[n++] = '-';
    }

    buf[n] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
}


static kv_rc_t
kv_dir_failed(kv_err_t *err, const char *what, const char *path)
{
    kv_err_set(err, "cannot %s the directory \"%s\": %s", what, path,
               strerror(errno));

    return KV_ERROR;
}
