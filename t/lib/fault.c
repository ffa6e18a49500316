
/*
 * A faulty disk, for the tests: preloaded into nginx, it looks into the
 * directory that KV_FAULT_DIR named when nginx was started.  While a file of
 * one of these names is there,
 *
 *     fdatasync   every sync fails with EIO; where the file also names parts
 *                 of paths, only those of such files; with a $ behind it, the
 *                 path ends there
 *     write       every positioned write fails with the error of that number,
 *                 or EIO if it says 1
 *     open        every file that is opened or linked below a directory, the
 *                 same; below such directories only, where it names parts of
 *                 their paths; with EROFS, what only reads is not concerned
 *     slow        every sync takes as many milliseconds as the file says; of
 *                 such files only, where it names some
 *     hold        every sync waits until this file is gone; the same.  The
 *                 first that does makes a file `held`, with its process
 *     die         the process that syncs next is killed as many microseconds
 *                 after that sync as the file says; once: the file goes
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>


static int      (*real_fdatasync)(int);
static int      (*real_fsync)(int);
static ssize_t  (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t  (*real_pwritev)(int, const struct iovec *, int, off_t);

static int      (*real_openat)(int, const char *, int, ...);
static int      (*real_linkat)(int, const char *, int, const char *, int);

static char  sync_name[512], write_name[512], slow_name[512], die_name[512];
static char  open_name[512], hold_name[512], held_name[512];


static void __attribute__((constructor))
fault_init(void)
{
    const char  *dir;

    real_fdatasync = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
    real_pwrite = (ssize_t (*)(int, const void *, size_t, off_t))
                  dlsym(RTLD_NEXT, "pwrite64");
    real_pwritev = (ssize_t (*)(int, const struct iovec *, int, off_t))
                   dlsym(RTLD_NEXT, "pwritev64");

    real_openat = (int (*)(int, const char *, int, ...))
                  dlsym(RTLD_NEXT, "openat64");
    real_linkat = (int (*)(int, const char *, int, const char *, int))
                  dlsym(RTLD_NEXT, "linkat");

    /* nginx empties the environment of its workers: now or never */

    dir = getenv("KV_FAULT_DIR");
    if (dir == NULL) {
        dir = "/nonexistent";
    }

    snprintf(sync_name, sizeof(sync_name), "%s/fdatasync", dir);
    snprintf(write_name, sizeof(write_name), "%s/write", dir);
    snprintf(open_name, sizeof(open_name), "%s/open", dir);
    snprintf(slow_name, sizeof(slow_name), "%s/slow", dir);
    snprintf(hold_name, sizeof(hold_name), "%s/hold", dir);
    snprintf(held_name, sizeof(held_name), "%s/held", dir);
    snprintf(die_name, sizeof(die_name), "%s/die", dir);
}


static int
fault_is(const char *name)
{
    int  saved, there;

    saved = errno;
    there = access(name, F_OK) == 0;
    errno = saved;

    return there;
}


/* The number in a file, -1 if there is none. */

static long
fault_number(const char *name)
{
    long   n;
    FILE  *f;

    if (!fault_is(name)) {
        return -1;
    }

    f = fopen(name, "re");
    if (f == NULL) {
        return -1;
    }

    if (fscanf(f, "%ld", &n) != 1) {
        n = -1;
    }

    fclose(f);

    return n;
}


/* Whether a call is to fail; then errno is set. */

static int
fault_error(const char *name)
{
    long  n;

    if (!fault_is(name)) {
        return 0;
    }

    n = fault_number(name);
    errno = n > 1 ? (int) n : EIO;

    return 1;
}


/*
 * Whether the path of an open file has one of the parts that are behind the
 * number in `name`, or there are none; false if that file is gone.
 */

static int
fault_hits(const char *name, int fd)
{
    int      n, hits;
    char     link[64], path[512], part[512];
    FILE    *f;
    ssize_t  len, end;

    f = fopen(name, "re");
    if (f == NULL) {
        return 0;
    }

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);

    len = readlink(link, path, sizeof(path) - 1);
    len = len > 0 ? len : 0;
    path[len] = '\0';

    (void) !fscanf(f, "%*d");

    for (n = 0, hits = 0; !hits && fscanf(f, "%511s", part) == 1; n++) {
        end = strlen(part) - 1;

        if (part[end] == '$') {
            hits = len >= end
                   && memcmp(path + len - end, part, (size_t) end) == 0;
        } else {
            hits = strstr(path, part) != NULL;
        }
    }

    fclose(f);

    return n == 0 || hits;
}


static void
fault_die(long us)
{
    timer_t            timer;
    struct sigevent    event = { 0 };
    struct itimerspec  when = { 0 };

    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGKILL;

    when.it_value.tv_sec = us / 1000000;
    when.it_value.tv_nsec = us % 1000000 * 1000 + 1;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
        timer_settime(timer, 0, &when, NULL);
    }
}


/* Notes whose sync is held, if it is the first. */

static void
fault_held(void)
{
    int  fd;

    fd = open(held_name, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600);

    if (fd != -1) {
        (void) dprintf(fd, "%d\n", (int) getpid());
        close(fd);
    }
}


static int
fault_sync(int (*real)(int), int fd)
{
    int              rc, n;
    long             ms, us;
    struct timespec  ts;

    ms = fault_number(slow_name);

    if (ms > 0 && fault_hits(slow_name, fd)) {
        ts.tv_sec = ms / 1000;
        ts.tv_nsec = ms % 1000 * 1000000;
        nanosleep(&ts, NULL);
    }

    for (n = 0; fault_is(hold_name) && fault_hits(hold_name, fd); n++) {
        if (n == 0) {
            fault_held();
        }

        ts.tv_sec = 0;
        ts.tv_nsec = 1000000;
        nanosleep(&ts, NULL);
    }

    if (fault_is(sync_name) && fault_hits(sync_name, fd)) {
        errno = EIO;
        return -1;
    }

    rc = real(fd);
    us = fault_number(die_name);

    if (us >= 0 && unlink(die_name) == 0) {
        fault_die(us);
    }

    return rc;
}


int
fdatasync(int fd)
{
    return fault_sync(real_fdatasync, fd);
}


int
fsync(int fd)
{
    return fault_sync(real_fsync, fd);
}


ssize_t
pwrite64(int fd, const void *buf, size_t n, off_t offset)
{
    if (fault_error(write_name)) {
        return -1;
    }

    return real_pwrite(fd, buf, n, offset);
}


ssize_t
pwritev64(int fd, const struct iovec *iov, int n, off_t offset)
{
    if (fault_error(write_name)) {
        return -1;
    }

    return real_pwritev(fd, iov, n, offset);
}


/* Whether a file in that directory is not to be opened; then errno is set. */

static int
fault_open(int dirfd, int reads)
{
    if (dirfd == AT_FDCWD || !fault_is(open_name)
        || !fault_hits(open_name, dirfd))
    {
        return 0;
    }

    return fault_error(open_name) && !(reads && errno == EROFS);
}


int
openat64(int dirfd, const char *name, int flags, ...)
{
    mode_t   mode;
    va_list  args;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);

    if (fault_open(dirfd, (flags & O_ACCMODE) == O_RDONLY)) {
        return -1;
    }

    return real_openat(dirfd, name, flags, mode);
}


int  openat(int dirfd, const char *name, int flags, ...)
    __attribute__((alias("openat64")));


int
linkat(int from, const char *name, int to, const char *new, int flags)
{
    if (fault_open(to, 0)) {
        return -1;
    }

    return real_linkat(from, name, to, new, flags);
}


/* off_t has 64 bits on every machine that we know */

ssize_t  pwrite(int fd, const void *buf, size_t n, off_t offset)
    __attribute__((alias("pwrite64")));

ssize_t  pwritev(int fd, const struct iovec *iov, int n, off_t offset)
    __attribute__((alias("pwritev64")));
