
/*
 * The data directory: how it is found, which process has it, which user owns
 * it.  What only root can show is tested where root runs the tests;
 * t/directory.t has more.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk/kv_dir.h"
#include "disk/kv_format.h"


#define NOBODY  12345

#define SEGMENT   "log-0000000000000001.kvl"
#define SNAPSHOT  "snap-0000000000000001.kvs"


typedef struct {
    char     top[200];                   /* a directory to play in */
    char     path[256];                  /* top/kv */
    int      topfd;
} test_t;


static int test_lock(const char *path, uid_t uid, int *dirfd, int *lockfd,
    kv_holder_t *holder);
static void test_unlock(int dirfd, int lockfd);
static void test_write(test_t *t, const char *name, const char *text,
    size_t len);
static void test_says(test_t *t, const char *text, kv_holder_state_t state,
    int pid);
static kv_rc_t test_own(test_t *t, uid_t uid, kv_err_t *err);
static kv_rc_t test_run_as(test_t *t, uid_t uid, gid_t gid, kv_rc_t (*run)(
    test_t *t));
static kv_rc_t test_start(test_t *t);
static kv_rc_t test_no_mode(test_t *t);
static struct stat test_stat(test_t *t, const char *name);


/* The lock is the directory's, and lasts as long as a copy of it. */

static void
test_locks(void **ctx)
{
    int           dirfd, lockfd, dir2, lock2, copy;
    test_t       *t = *ctx;
    kv_holder_t   holder;

    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder), KV_OK);
    assert_int_equal(test_stat(t, "kv").st_mode & 07777, 0700);

    assert_int_equal(test_lock(t->path, -1, &dir2, &lock2, &holder), KV_BUSY);
    assert_int_equal(holder.state, KV_HOLDER_UNKNOWN);
    assert_int_equal(holder.pid, 0);

    kv_dir_set_holder(lockfd, (int) getpid());
    assert_int_equal(test_lock(t->path, -1, &dir2, &lock2, &holder), KV_BUSY);
    assert_int_equal(holder.state, KV_HOLDER_SELF);
    assert_int_equal(holder.pid, getpid());

    kv_dir_set_holder(lockfd, (int) getppid());
    assert_int_equal(test_lock(t->path, -1, &dir2, &lock2, &holder), KV_BUSY);
    assert_int_equal(holder.state, KV_HOLDER_ALIVE);
    assert_int_equal(holder.pid, getppid());

    /* without kv.lock, by another path */

    assert_int_equal(unlinkat(t->topfd, "kv/kv.lock", 0), 0);
    assert_int_equal(symlinkat(t->path, t->topfd, "link"), 0);
    assert_int_equal(test_lock(t->path, -1, &dir2, &lock2, &holder), KV_BUSY);
    assert_int_equal(holder.pid, 0);
    assert_int_equal(faccessat(t->topfd, "kv/kv.lock", F_OK, 0), -1);

    copy = dup(dirfd);
    test_unlock(dirfd, lockfd);
    assert_int_equal(test_lock(t->path, -1, &dir2, &lock2, &holder), KV_BUSY);
    (void) close(copy);
    assert_int_equal(test_lock(t->path, -1, &dir2, &lock2, &holder), KV_OK);
    test_unlock(dir2, lock2);
}


/* Readers share it, keep masters away, and change nothing. */

static void
test_shares(void **ctx)
{
    int           dirfd, lockfd, readers[2];
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_holder_t   holder;

    assert_int_equal(kv_dir_open(t->path, &readers[0], &err), KV_OK);
    assert_int_equal(kv_dir_open(t->path, &readers[1], &err), KV_OK);

    assert_int_equal(kv_dir_lock_shared(readers[0], t->path, &holder, &err),
                     KV_OK);
    assert_int_equal(kv_dir_lock_shared(readers[1], t->path, &holder, &err),
                     KV_OK);
    assert_int_equal(faccessat(t->topfd, "kv/kv.lock", F_OK, 0), -1);

    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder),
                     KV_BUSY);
    (void) close(readers[0]);
    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder),
                     KV_BUSY);
    (void) close(readers[1]);
    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder), KV_OK);

    kv_dir_set_holder(lockfd, (int) getppid());
    assert_int_equal(kv_dir_open(t->path, &readers[0], &err), KV_OK);
    assert_int_equal(kv_dir_lock_shared(readers[0], t->path, &holder, &err),
                     KV_BUSY);
    assert_int_equal(holder.state, KV_HOLDER_ALIVE);
    assert_int_equal(holder.pid, getppid());

    /* a master on another machine has kv.lock alone */

    assert_int_equal(flock(dirfd, LOCK_UN), 0);
    assert_int_equal(kv_dir_lock_shared(readers[0], t->path, &holder, &err),
                     KV_BUSY);
    assert_int_equal(flock(dirfd, LOCK_EX|LOCK_NB), 0);

    test_unlock(dirfd, lockfd);
    assert_int_equal(kv_dir_lock_shared(readers[0], t->path, &holder, &err),
                     KV_OK);
    (void) close(readers[0]);
}


/* Older versions lock kv.lock alone, and so does another machine, for us. */

static void
test_old_lock(void **ctx)
{
    int           fd, dirfd, lockfd;
    test_t       *t = *ctx;
    kv_holder_t   holder;

    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);
    fd = openat(t->topfd, "kv/kv.lock", O_RDWR | O_CREAT, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(dprintf(fd, "%d\n", (int) getppid()) > 0, 1);

    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder),
                     KV_BUSY);
    assert_int_equal(holder.state, KV_HOLDER_UNKNOWN);
    assert_int_equal(holder.pid, getppid());

    /* also if it has another name */

    assert_int_equal(linkat(t->topfd, "kv/kv.lock", t->topfd, "other", 0), 0);
    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder),
                     KV_BUSY);

    (void) close(fd);
    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder), KV_OK);
    assert_int_equal(test_stat(t, "other").st_nlink, 1);
    test_unlock(dirfd, lockfd);
}


static void
test_holders(void **ctx)
{
    int           dirfd, lockfd, n;
    char          buf[256], line[256], *boot, *space, *start;
    pid_t         pid;
    test_t       *t = *ctx;
    siginfo_t     info;
    kv_holder_t   holder;

    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder), KV_OK);

    /* the line as it is now, in parts */

    kv_dir_set_holder(lockfd, (int) getpid());
    n = (int) pread(lockfd, buf, sizeof(buf) - 1, 0);
    assert_true(n > 0);
    buf[n] = '\0';
    boot = strchr(buf, '\n') + 1;
    space = strchr(boot, ' ') + 1;
    start = strchr(space, ' ') + 1;
    space[-1] = start[-1] = '\0';
    *strchr(start, '\n') = '\0';

    pid = fork();

    if (pid == 0) {
        _exit(0);
    }

    /* it has ended, and then nobody knows it any more */

    (void) snprintf(line, sizeof(line), "%d\n%s %s 1\n", (int) pid, boot,
                    space);
    assert_int_equal(waitid(P_PID, (id_t) pid, &info, WEXITED|WNOWAIT), 0);
    test_says(t, line, KV_HOLDER_DEAD, pid);
    kv_dir_set_holder(lockfd, (int) pid);
    n = (int) pread(lockfd, line, sizeof(line) - 1, 0);
    line[kv_max(n, 0)] = '\0';
    assert_non_null(strstr(line, " ended\n"));

    assert_int_equal(waitpid(pid, NULL, 0), pid);

    (void) snprintf(line, sizeof(line), "%d\n%s %s %s\n", (int) pid,
                    boot, space, start);
    test_says(t, line, KV_HOLDER_DEAD, pid);

    /* the number was given out again */

    (void) snprintf(line, sizeof(line), "%d\n%s %s 1\n",
                    (int) getpid(), boot, space);
    test_says(t, line, KV_HOLDER_DEAD, getpid());

    (void) snprintf(line, sizeof(line), "%d\n%s pid:[1] %s\n",
                    (int) getpid(), boot, start);
    test_says(t, line, KV_HOLDER_ELSEWHERE, getpid());

    (void) snprintf(line, sizeof(line), "%d\nother %s %s\n",
                    (int) getpid(), space, start);
    test_says(t, line, KV_HOLDER_ELSEWHERE, getpid());

    (void) snprintf(line, sizeof(line), "%d\n", (int) pid);
    test_says(t, line, KV_HOLDER_DEAD, pid);

    test_says(t, "", KV_HOLDER_UNKNOWN, 0);
    test_says(t, "-17\n", KV_HOLDER_UNKNOWN, 0);
    test_says(t, "words words words words", KV_HOLDER_UNKNOWN, 0);
    test_says(t, "99999999999999999999 a b c", KV_HOLDER_ELSEWHERE,
              999999999);

    test_unlock(dirfd, lockfd);
}


/* What is not empty must hold something that is surely ours. */

static void
test_foreign(void **ctx)
{
    int           dirfd, lockfd;
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_dir_id_t   id;
    kv_holder_t   holder;

    assert_int_equal(mkdirat(t->topfd, "kv", 0750), 0);
    assert_int_equal(mkdirat(t->topfd, "kv/lost+found", 0700), 0);
    assert_int_equal(kv_dir_check(t->path, &id, &err), KV_OK);

    test_write(t, "kv/notes", "x", 1);
    assert_int_equal(kv_dir_check(t->path, &id, &err), KV_ERROR);
    assert_non_null(strstr(err.text, "\"notes\""));
    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder),
                     KV_ERROR);

    /* names alone are easily made */

    test_write(t, "kv/" SEGMENT, "nothing of ours", 15);
    test_write(t, "kv/" SNAPSHOT, KV_SNAPSHOT_MAGIC, 7);
    test_write(t, "kv/kv.lock", "1\n", 2);
    test_write(t, "kv/spare-0.kvl", KV_SEGMENT_MAGIC, 8);
    assert_int_equal(kv_dir_check(t->path, &id, &err), KV_ERROR);

    test_write(t, "kv/" SNAPSHOT, KV_SNAPSHOT_MAGIC, 8);
    assert_int_equal(kv_dir_check(t->path, &id, &err), KV_OK);
    test_write(t, "kv/" SNAPSHOT, "", 0);
    test_write(t, "kv/" SEGMENT, KV_SEGMENT_MAGIC, 8);
    assert_int_equal(kv_dir_check(t->path, &id, &err), KV_OK);

    assert_int_equal(test_stat(t, "kv").st_mode & 07777, 0750);
    assert_int_equal(test_lock(t->path, -1, &dirfd, &lockfd, &holder), KV_OK);
    test_unlock(dirfd, lockfd);
}


static void
test_paths(void **ctx)
{
    int           fd;
    char          path[1200];
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_dir_id_t   one, two;

    assert_int_equal(symlinkat(t->top, t->topfd, "link"), 0);

    /* one that is not there is known by where it would be */

    (void) snprintf(path, sizeof(path), "%s/link/./link//kv/", t->top);
    assert_int_equal(kv_dir_check(t->path, &one, &err), KV_OK);
    assert_int_equal(kv_dir_check(path, &two, &err), KV_OK);
    assert_true(kv_dir_same(&one, &two));
    assert_int_equal(faccessat(t->topfd, "kv", F_OK, 0), -1);

    (void) snprintf(path, sizeof(path), "%s/kv2", t->top);
    assert_int_equal(kv_dir_check(path, &two, &err), KV_OK);
    assert_false(kv_dir_same(&one, &two));

    assert_int_equal(kv_dir_open(path, &fd, &err), KV_OK);
    assert_int_equal(kv_dir_id(fd, &one), KV_OK);
    (void) close(fd);
    assert_int_equal(kv_dir_check(path, &two, &err), KV_OK);
    assert_true(kv_dir_same(&one, &two));

    (void) snprintf(path, sizeof(path), "%s/a/kv", t->top);
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_ERROR);
    assert_non_null(strstr(err.text, "\"a\", does not exist"));

    /* symlinks in a circle */

    assert_int_equal(symlinkat("round", t->topfd, "round"), 0);
    (void) snprintf(path, sizeof(path), "%s/round", t->top);
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_ERROR);
    assert_non_null(strstr(err.text, strerror(ELOOP)));

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_ERROR);
    path[300] = '\0';
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_ERROR);
    assert_non_null(strstr(err.text, strerror(ENAMETOOLONG)));

    /* relative ones, up and down */

    assert_int_equal(fchdir(t->topfd), 0);
    assert_int_equal(kv_dir_open("kv2/../kv3", &fd, &err), KV_OK);
    (void) close(fd);
    assert_int_equal(faccessat(t->topfd, "kv3", F_OK, 0), 0);
    assert_int_equal(chdir("/"), 0);
}


/* Long ones, and what is in the way. */

static void
test_ways(void **ctx)
{
    int           fd;
    size_t        n;
    char          path[1200], target[4096];
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_dir_id_t   id;

    /* a file in the place of a directory, above it and at its end */

    test_write(t, "file", "x", 1);
    (void) snprintf(path, sizeof(path), "%s/file/kv", t->top);
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_ERROR);
    assert_non_null(strstr(err.text, strerror(ENOTDIR)));
    (void) snprintf(path, sizeof(path), "%s/file", t->top);
    assert_int_equal(kv_dir_check(path, &id, &err), KV_ERROR);
    assert_non_null(strstr(err.text, strerror(ENOTDIR)));

    /* symlinks that together are longer than a path may be */

    for (n = 0; n < 4000; n++) {
        target[n] = n % 2 ? '/' : '.';
    }

    target[n] = '\0';
    assert_int_equal(symlinkat(target, t->topfd, "long"), 0);
    (void) snprintf(path, sizeof(path), "%s/long", t->top);
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_OK);
    (void) close(fd);

    n = strlen(path);

    while (n < 400) {
        path[n++] = '/';
        path[n++] = '.';
    }

    path[n] = '\0';
    assert_int_equal(kv_dir_open(path, &fd, &err), KV_ERROR);
    assert_non_null(strstr(err.text, strerror(ENAMETOOLONG)));
}


/* Root follows a symlink where nobody but root could have made it. */

static void
test_links(void **ctx)
{
    size_t        i;
    char          path[300];
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_rc_t       rc;
    kv_dir_id_t   id;

    static const struct {
        uid_t   dir, link;
        gid_t   group;
        mode_t  mode;
        bool    trusted;
    } ways[] = {
        { 0, 0, 0, 0755, true },
        { 0, 0, 0, 0775, true },
        { 0, 0, NOBODY, 0755, true },
        { 0, 0, NOBODY, 0775, false },
        { 0, 0, NOBODY, 01775, true },
        { 0, NOBODY, NOBODY, 01775, false },
        { 0, 0, 0, 0777, false },
        { 0, 0, 0, 01777, true },
        { 0, NOBODY, 0, 01777, false },
        { NOBODY, 0, 0, 0755, false }
    };

    if (geteuid() != 0) {
        skip();
    }

    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);
    assert_int_equal(mkdirat(t->topfd, "way", 0755), 0);
    assert_int_equal(symlinkat(t->path, t->topfd, "way/link"), 0);
    (void) snprintf(path, sizeof(path), "%s/way/link", t->top);

    for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        assert_int_equal(fchownat(t->topfd, "way/link", ways[i].link, 0,
                                  AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(fchownat(t->topfd, "way", ways[i].dir,
                                  ways[i].group, 0), 0);
        assert_int_equal(fchmodat(t->topfd, "way", ways[i].mode, 0), 0);

        err.text[0] = '\0';
        rc = kv_dir_check(path, &id, &err);

        if (rc != (ways[i].trusted ? KV_OK : KV_ERROR)) {
            fail_msg("way %zu: rc %d: %s", i, rc, err.text);
        }

        if (rc != KV_OK) {
            assert_non_null(strstr(err.text, "\"link\" in it is a symlink"));
        }
    }
}


/* What has a name of ours, and is not what that promises. */

static void
test_impostors(void **ctx)
{
    int           dirfd;
    test_t       *t = *ctx;
    kv_err_t      err;

    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);

    /* for a user himself */

    dirfd = openat(t->topfd, "kv", O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkfifoat(dirfd, SEGMENT, 0600), 0);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, -1, -1, &err),
                     KV_ERROR);
    assert_non_null(strstr(err.text, "/kv/" SEGMENT "\": it is no regular"));
    assert_int_equal(unlinkat(dirfd, SEGMENT, 0), 0);

    assert_int_equal(symlinkat("/dev/null", dirfd, SNAPSHOT), 0);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, -1, -1, &err),
                     KV_ERROR);
    assert_non_null(strstr(err.text, "/kv/" SNAPSHOT "\": it is no regular"));
    assert_int_equal(unlinkat(dirfd, SNAPSHOT, 0), 0);

    assert_int_equal(mkdirat(dirfd, "snap-0000000000000009.tmp", 0700), 0);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, -1, -1, &err),
                     KV_ERROR);
    assert_non_null(strstr(err.text, "0009.tmp\": it is no regular"));
    assert_int_equal(unlinkat(dirfd, "snap-0000000000000009.tmp",
                              AT_REMOVEDIR), 0);

    /* modes become what they should be, of what is ours alone */

    test_write(t, "kv/" SEGMENT, "", 0);
    test_write(t, "kv/notes", "", 0);
    assert_int_equal(fchmodat(dirfd, SEGMENT, 0644, 0), 0);
    assert_int_equal(fchmodat(dirfd, "notes", 0644, 0), 0);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, -1, -1, &err), KV_OK);
    assert_int_equal(test_stat(t, "kv/" SEGMENT).st_mode & 07777, 0600);
    assert_int_equal(test_stat(t, "kv/notes").st_mode & 07777, 0644);
    assert_int_equal(unlinkat(dirfd, SEGMENT, 0), 0);

    if (geteuid() != 0) {
        (void) close(dirfd);
        skip();
    }

    /* another's: a note that is none is left; a segment that is none is not */

    test_write(t, "kv/log-0000000000000003.closed", "nothing", 7);
    test_write(t, "kv/log-0000000000000004.closed", KV_CLOSED_MAGIC, 8);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, NOBODY, NOBODY, &err),
                     KV_OK);
    assert_int_equal(test_stat(t, "kv/log-0000000000000003.closed").st_uid, 0);
    assert_int_equal(test_stat(t, "kv/log-0000000000000004.closed").st_uid,
                     NOBODY);

    test_write(t, "kv/" SEGMENT, "nothing of ours", 15);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, NOBODY, NOBODY, &err),
                     KV_ERROR);
    assert_non_null(strstr(err.text, "belongs to user 0 and not to the "
                                     "workers' user 12345, and does not begin "
                                     "as such a file"));
    assert_int_equal(test_stat(t, "kv/" SEGMENT).st_uid, 0);

    (void) close(dirfd);
}


/* A parent of the workers' user that nginx's may not look into. */

static kv_rc_t
test_look(test_t *t)
{
    kv_err_t     err;
    kv_rc_t      rc;
    kv_dir_id_t  id;

    rc = kv_dir_check(t->path, &id, &err);

    return rc == KV_DECLINED && strstr(err.text, strerror(EACCES)) == NULL
           ? KV_ERROR : rc;
}


static void
test_no_look(void **ctx)
{
    test_t  *t = *ctx;

    if (geteuid() != 0) {
        skip();
    }

    assert_int_equal(fchmod(t->topfd, 0755), 0);
    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_look), KV_DECLINED);
    assert_int_equal(fchmodat(t->topfd, "kv", 0755, 0), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_look), KV_OK);
    assert_int_equal(fchmod(t->topfd, 0700), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_look), KV_DECLINED);
}


/* Root gives the user what is ours, and nothing else. */

static void
test_owns(void **ctx)
{
    size_t     i;
    test_t    *t = *ctx;
    kv_err_t   err;

    static const char  *ours[] = {
        "kv", "kv/kv.lock", "kv/" SEGMENT, "kv/" SNAPSHOT
    };

    if (geteuid() != 0) {
        skip();
    }

    assert_int_equal(mkdirat(t->topfd, "kv", 0755), 0);
    test_write(t, "kv/" SEGMENT, KV_SEGMENT_MAGIC, 8);
    test_write(t, "kv/" SNAPSHOT, KV_SNAPSHOT_MAGIC, 8);
    test_write(t, "kv/spare-4.kvl", "", 0);
    test_write(t, "kv/snap-0000000000000002.kvs.bad", "", 0);
    test_write(t, "kv/notes", "x", 1);
    assert_int_equal(fchmodat(t->topfd, "kv/" SEGMENT, 04444, 0), 0);

    assert_int_equal(test_own(t, NOBODY, &err), KV_OK);

    for (i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        assert_int_equal(test_stat(t, ours[i]).st_uid, NOBODY);
        assert_int_equal(test_stat(t, ours[i]).st_mode & 07777,
                         i ? 0600 : 0700);
    }

    assert_int_equal(faccessat(t->topfd, "kv/spare-4.kvl", F_OK, 0), -1);
    assert_int_equal(test_stat(t, "kv/notes").st_uid, 0);
    assert_int_equal(test_stat(t, "kv/snap-0000000000000002.kvs.bad").st_uid,
                     0);

    /* the user's own may have more names */

    assert_int_equal(linkat(t->topfd, "kv/" SEGMENT, t->topfd, "copy", 0), 0);
    assert_int_equal(test_own(t, NOBODY, &err), KV_OK);

    /* another's may not */

    assert_int_equal(test_own(t, NOBODY + 1, &err), KV_ERROR);
    assert_non_null(strstr(err.text, SEGMENT));
    assert_int_equal(test_stat(t, "copy").st_uid, NOBODY);
    assert_int_equal(unlinkat(t->topfd, "copy", 0), 0);
    assert_int_equal(test_own(t, NOBODY + 1, &err), KV_OK);
    assert_int_equal(test_stat(t, "kv/" SEGMENT).st_uid, NOBODY + 1);
}


/*
 * kv.lock is ours when the directory is locked: what takes its place after
 * that is not, and may be a file that its mover cannot read.
 */

static void
test_moved_lock(void **ctx)
{
    int           dirfd, lockfd;
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_holder_t   holder;

    if (geteuid() != 0) {
        skip();
    }

    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);
    assert_int_equal(test_own(t, NOBODY, &err), KV_OK);
    test_write(t, "secret", "x", 1);
    assert_int_equal(fchmodat(t->topfd, "secret", 0600, 0), 0);

    assert_int_equal(test_lock(t->path, NOBODY, &dirfd, &lockfd, &holder),
                     KV_OK);
    assert_int_equal(renameat(t->topfd, "secret", dirfd, "kv.lock"), 0);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, NOBODY, NOBODY, &err),
                     KV_OK);
    test_unlock(dirfd, lockfd);

    assert_int_equal(test_stat(t, "kv/kv.lock").st_uid, 0);

    /* the next start has one of its own again */

    assert_int_equal(test_own(t, NOBODY, &err), KV_OK);
    assert_int_equal(test_stat(t, "kv/kv.lock").st_uid, NOBODY);
}


/* A user who is not root takes a volume that is open to the group. */

static void
test_group(void **ctx)
{
    test_t  *t = *ctx;

    if (geteuid() != 0) {
        skip();
    }

    assert_int_equal(fchmod(t->topfd, 0755), 0);
    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);
    assert_int_equal(fchownat(t->topfd, "kv", 0, NOBODY, 0), 0);
    assert_int_equal(fchmodat(t->topfd, "kv", 02770, 0), 0);

    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_start), KV_OK);
    assert_int_equal(test_stat(t, "kv").st_mode & 07777, 02770);
    assert_int_equal(test_stat(t, "kv").st_uid, 0);
    assert_int_equal(test_stat(t, "kv/kv.lock").st_uid, NOBODY);
    assert_int_equal(test_stat(t, "kv/kv.lock").st_mode & 07777, 0600);

    assert_int_equal(unlinkat(t->topfd, "kv/kv.lock", 0), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY + 1, test_start),
                     KV_ERROR);

    /* a parent that this user may pass through only */

    assert_int_equal(unlinkat(t->topfd, "kv", AT_REMOVEDIR), 0);
    assert_int_equal(fchown(t->topfd, NOBODY, NOBODY), 0);
    assert_int_equal(fchmod(t->topfd, 0300), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_start), KV_OK);
    assert_int_equal(test_stat(t, "kv").st_uid, NOBODY);

    /* a file that this user may not read */

    test_write(t, "kv/" SEGMENT, KV_SEGMENT_MAGIC, 8);
    assert_int_equal(fchmodat(t->topfd, "kv/" SEGMENT, 0600, 0), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_start), KV_ERROR);
    assert_int_equal(fchownat(t->topfd, "kv/" SEGMENT, NOBODY, -1, 0), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_start), KV_OK);
    assert_int_equal(fchmodat(t->topfd, "kv/" SEGMENT, 0, 0), 0);
    assert_int_equal(test_run_as(t, NOBODY, NOBODY, test_no_mode), KV_OK);
}


/* What a start does to a directory, and a refusal takes back. */

static void
test_refuse(test_t *t)
{
    int             dirfd, lockfd;
    kv_err_t        err;
    kv_dir_id_t     id;
    kv_holder_t     holder;
    kv_dir_found_t  found;

    assert_int_equal(kv_dir_check(t->path, &id, &err), KV_OK);
    assert_int_equal(kv_dir_open(t->path, &dirfd, &err), KV_OK);
    assert_int_equal(kv_dir_lock(dirfd, t->path, (uid_t) -1, (gid_t) -1,
                                 &lockfd, &found, &holder, &err), KV_OK);
    assert_int_equal(kv_dir_set_owner(dirfd, t->path, (uid_t) -1, (gid_t) -1,
                                      &err), KV_OK);

    test_write(t, "kv/spare-1.kvl", "", 0);
    test_write(t, "kv/log-0000000000000002.kvl", "", 0);
    test_write(t, "kv/" KV_ARCHIVE_NAME, "", 0);

    kv_dir_undo(dirfd, &found);

    if (id.missing[0]) {
        kv_dir_remove(dirfd, id.missing);
    }

    test_unlock(dirfd, lockfd);
}


static bool
test_there(test_t *t, const char *name)
{
    return faccessat(t->topfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}


static void
test_refused(void **ctx)
{
    test_t  *t = *ctx;

    /* it was missing, empty, or a new volume */

    test_refuse(t);
    assert_false(test_there(t, "kv"));

    assert_int_equal(mkdirat(t->topfd, "kv", 0755), 0);
    assert_int_equal(fchmodat(t->topfd, "kv", 0755, 0), 0);
    test_refuse(t);
    assert_int_equal(test_stat(t, "kv").st_mode & 07777, 0755);
    assert_int_equal(unlinkat(t->topfd, "kv", AT_REMOVEDIR), 0);

    assert_int_equal(mkdirat(t->topfd, "kv", 0700), 0);
    test_write(t, "kv/.gitkeep", "", 0);
    test_write(t, "kv/" KV_ARCHIVE_NAME, "", 0);
    test_refuse(t);
    assert_true(test_there(t, "kv/.gitkeep"));
    assert_true(test_there(t, "kv/" KV_ARCHIVE_NAME));
    assert_false(test_there(t, "kv/kv.lock"));
    assert_false(test_there(t, "kv/spare-1.kvl"));
    assert_false(test_there(t, "kv/log-0000000000000002.kvl"));

    /* a store is its data, whatever its start made of them */

    test_write(t, "kv/" SNAPSHOT, KV_SNAPSHOT_MAGIC, 8);
    test_refuse(t);
    assert_true(test_there(t, "kv/" SNAPSHOT));
    assert_true(test_there(t, "kv/log-0000000000000002.kvl"));
    assert_false(test_there(t, "kv/kv.lock"));
    assert_false(test_there(t, "kv/spare-1.kvl"));

    test_write(t, "kv/kv.lock", "", 0);
    test_write(t, "kv/spare-2.kvl", "", 0);
    test_refuse(t);
    assert_true(test_there(t, "kv/kv.lock"));
    assert_true(test_there(t, "kv/spare-2.kvl"));
}


/* One that another has locked, or that is not empty, is not removed. */

static void
test_removes(void **ctx)
{
    int           dirfd, dir2, lockfd;
    test_t       *t = *ctx;
    kv_err_t      err;
    kv_holder_t   holder;

    assert_int_equal(kv_dir_open(t->path, &dirfd, &err), KV_OK);
    assert_int_equal(test_lock(t->path, -1, &dir2, &lockfd, &holder), KV_OK);
    assert_int_equal(unlinkat(t->topfd, "kv/kv.lock", 0), 0);
    kv_dir_remove(dirfd, "kv");
    assert_true(test_there(t, "kv"));
    test_unlock(dir2, lockfd);

    test_write(t, "kv/file", "", 0);
    kv_dir_remove(dirfd, "kv");
    assert_true(test_there(t, "kv"));

    assert_int_equal(unlinkat(t->topfd, "kv/file", 0), 0);
    kv_dir_remove(dirfd, "kv");
    assert_false(test_there(t, "kv"));

    (void) close(dirfd);
}


static int
test_setup(void **ctx)
{
    test_t      *t;
    const char  *tmp;

    t = calloc(1, sizeof(test_t));
    tmp = getenv("TMPDIR");

    (void) snprintf(t->top, sizeof(t->top), "%.180s/kv_dir.XXXXXX",
                    tmp ? tmp : "/tmp");

    if (mkdtemp(t->top) == NULL) {
        free(t);
        return -1;
    }

    (void) snprintf(t->path, sizeof(t->path), "%s/kv", t->top);

    t->topfd = open(t->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *ctx = t;

    return t->topfd == -1 ? -1 : 0;
}


static int
test_teardown(void **ctx)
{
    char     command[256];
    test_t  *t = *ctx;

    (void) snprintf(command, sizeof(command), "rm -rf '%s'", t->top);
    (void) !system(command);
    (void) close(t->topfd);
    free(t);

    return 0;
}


static int
test_lock(const char *path, uid_t uid, int *dirfd, int *lockfd,
    kv_holder_t *holder)
{
    kv_rc_t   rc;
    kv_err_t  err;

    memset(holder, 0, sizeof(kv_holder_t));

    assert_int_equal(kv_dir_open(path, dirfd, &err), KV_OK);

    rc = kv_dir_lock(*dirfd, path, uid, uid, lockfd, NULL, holder, &err);

    if (rc != KV_OK) {
        (void) close(*dirfd);
    }

    return rc;
}


static void
test_unlock(int dirfd, int lockfd)
{
    (void) close(dirfd);
    (void) close(lockfd);
}


static void
test_write(test_t *t, const char *name, const char *text, size_t len)
{
    int  fd;

    fd = openat(t->topfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    (void) close(fd);
}


/* What kv.lock with this text says of a holder. */

static void
test_says(test_t *t, const char *text, kv_holder_state_t state, int pid)
{
    int           dirfd, lockfd;
    char          path[256];
    kv_holder_t   holder;

    (void) snprintf(path, sizeof(path), "%s/kv", t->top);
    test_write(t, "kv/kv.lock", text, strlen(text));

    assert_int_equal(test_lock(path, -1, &dirfd, &lockfd, &holder), KV_BUSY);
    assert_int_equal(holder.state, state);
    assert_int_equal(holder.pid, pid);
}


static kv_rc_t
test_own(test_t *t, uid_t uid, kv_err_t *err)
{
    int           dirfd, lockfd;
    kv_rc_t       rc;
    kv_holder_t   holder;

    assert_int_equal(test_lock(t->path, uid, &dirfd, &lockfd, &holder), KV_OK);

    rc = kv_dir_set_owner(dirfd, t->path, uid, uid, err);

    test_unlock(dirfd, lockfd);

    return rc;
}


static kv_rc_t
test_run_as(test_t *t, uid_t uid, gid_t gid, kv_rc_t (*run)(test_t *t))
{
    int    status;
    pid_t  pid;

    pid = fork();

    if (pid == 0) {
        if (setgroups(0, NULL) == -1 || setgid(gid) == -1
            || setuid(uid) == -1)
        {
            _exit(100);
        }

        _exit(-run(t));
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));

    return -WEXITSTATUS(status);
}


static kv_rc_t
test_start(test_t *t)
{
    int           dirfd, lockfd;
    kv_rc_t       rc;
    kv_err_t      err;
    kv_holder_t   holder;

    rc = kv_dir_open(t->path, &dirfd, &err);

    if (rc == KV_OK) {
        rc = kv_dir_lock(dirfd, t->path, (uid_t) -1, (gid_t) -1, &lockfd,
                         NULL, &holder, &err);
    }

    if (rc == KV_OK) {
        rc = kv_dir_set_owner(dirfd, t->path, (uid_t) -1, (gid_t) -1, &err);
    }

    return rc;
}


/* The start is refused for the mode of a file, not for its owner. */

static kv_rc_t
test_no_mode(test_t *t)
{
    int       dirfd;
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_dir_open(t->path, &dirfd, &err);

    if (rc == KV_OK) {
        rc = kv_dir_set_owner(dirfd, t->path, (uid_t) -1, (gid_t) -1, &err);
    }

    return rc == KV_ERROR && strstr(err.text, "its mode is 0000: Permission "
                                    "denied: give it 0600")
           ? KV_OK : KV_DECLINED;
}


static struct stat
test_stat(test_t *t, const char *name)
{
    struct stat  st;

    assert_int_equal(fstatat(t->topfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);

    return st;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_locks, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_shares, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_old_lock, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_holders, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_foreign, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_paths, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_ways, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_links, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_impostors, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_no_look, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_owns, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_moved_lock, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_group, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_refused, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_removes, test_setup,
                                        test_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
