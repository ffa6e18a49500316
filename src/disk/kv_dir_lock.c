
/*
 * The data directory's lock, and who holds it.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "disk/kv_dir_private.h"


/* Who holds a lock, as kv.lock says it. */

typedef struct {
    int          pid;
    char         boot[40];               /* of the machine */
    char         space[32];              /* of pids: pid:[4026531836] */
    char         start[24];              /* of the process, in ticks */
} kv_identity_t;


static int kv_dir_open_lock(int dirfd, uid_t uid, gid_t gid, bool *busy);
static void kv_dir_holder(int dirfd, kv_holder_t *holder);
static void kv_identity_of(kv_identity_t *who, int pid);
static void kv_identity_read(int dirfd, kv_identity_t *who);
static void kv_identity_line(const char *path, char *buf, size_t size);


kv_rc_t
kv_dir_lock(int dirfd, const char *path, uid_t uid, gid_t gid, int *lockfd,
    kv_dir_found_t *found, kv_holder_t *holder, kv_err_t *err)
{
    int             fd;
    bool            busy;
    kv_rc_t         rc;
    kv_dir_found_t  unused;

    if (flock(dirfd, LOCK_EX|LOCK_NB) == -1) {

        if (errno == EWOULDBLOCK) {
            kv_dir_holder(dirfd, holder);
            return KV_BUSY;
        }

        return kv_dir_failed(err, "lock", path);
    }

    rc = kv_dir_inspect(dirfd, path, found ? found : &unused, err);

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


kv_rc_t
kv_dir_lock_shared(int dirfd, const char *path, kv_holder_t *holder,
    kv_err_t *err)
{
    int          fd;
    bool         busy;
    struct stat  st;

    busy = flock(dirfd, LOCK_SH|LOCK_NB) == -1;

    if (busy && errno != EWOULDBLOCK) {
        return kv_dir_failed(err, "lock", path);
    }

    /* an older version, or a master elsewhere, may have locked that alone */

    fd = busy ? -1 : kv_dir_open_file(dirfd, KV_DIR_LOCK, O_RDONLY, &st);

    if (fd != -1) {
        busy = flock(fd, LOCK_SH|LOCK_NB) == -1 && errno == EWOULDBLOCK;
        (void) close(fd);
    }

    if (busy) {
        kv_dir_holder(dirfd, holder);
        (void) flock(dirfd, LOCK_UN);
        return KV_BUSY;
    }

    return KV_OK;
}


/*
 * Opens kv.lock and locks it: its descriptor, else -1 with *busy, or errno set.
 * A file there that is not regular, is another user's or has another name
 * somewhere is unlinked without a change to it, and a new one is made.
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

            /* empty until the new holder's workers write who it is */

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


/* What the pid means depends on whose it is. */

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

    /* written by an older version, or /proc could not be read */

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


/* What is not known is "-". */

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

    /* the second field is a name and may hold anything; this is the 22nd */

    p = strrchr(buf, ')');

    if (p == NULL || sscanf(p, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                            "%*s %*s %*s %*s %*s %*s %*s %*s %23s", &state,
                            who->start)
                     != 2)
    {
        (void) strcpy(who->start, "-");
        return;
    }

    /* a zombie: in many a container PID 1 never waits */

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
