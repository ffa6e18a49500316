
/*
 * A faulty disk, for the tests: preloaded into nginx, it looks into the
 * directory that KV_FAULT_DIR named when nginx was started.  While a file of
 * one of these names is there,
 *
 *     fdatasync   every sync fails with EIO
 *     write       every positioned write fails with EIO
 *     slow        every sync takes as many milliseconds as the file says
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>


static int      (*real_fdatasync)(int);
static int      (*real_fsync)(int);
static ssize_t  (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t  (*real_pwritev)(int, const struct iovec *, int, off_t);

static char  sync_name[512], write_name[512], slow_name[512];


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

    /* nginx empties the environment of its workers: now or never */

    dir = getenv("KV_FAULT_DIR");
    if (dir == NULL) {
        dir = "/nonexistent";
    }

    snprintf(sync_name, sizeof(sync_name), "%s/fdatasync", dir);
    snprintf(write_name, sizeof(write_name), "%s/write", dir);
    snprintf(slow_name, sizeof(slow_name), "%s/slow", dir);
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


static int
fault_sync(int (*real)(int), int fd)
{
    FILE             *f;
    long              ms;
    struct timespec   ts;

    f = fault_is(slow_name) ? fopen(slow_name, "re") : NULL;

    if (f != NULL) {
        if (fscanf(f, "%ld", &ms) == 1) {
            ts.tv_sec = ms / 1000;
            ts.tv_nsec = (ms % 1000) * 1000000;
            nanosleep(&ts, NULL);
        }

        fclose(f);
    }

    if (fault_is(sync_name)) {
        errno = EIO;
        return -1;
    }

    return real(fd);
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
    if (fault_is(write_name)) {
        errno = EIO;
        return -1;
    }

    return real_pwrite(fd, buf, n, offset);
}


ssize_t
pwritev64(int fd, const struct iovec *iov, int n, off_t offset)
{
    if (fault_is(write_name)) {
        errno = EIO;
        return -1;
    }

    return real_pwritev(fd, iov, n, offset);
}


/* off_t has 64 bits on every machine that we know */

ssize_t  pwrite(int fd, const void *buf, size_t n, off_t offset)
    __attribute__((alias("pwrite64")));

ssize_t  pwritev(int fd, const struct iovec *iov, int n, off_t offset)
    __attribute__((alias("pwritev64")));
