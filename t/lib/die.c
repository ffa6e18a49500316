
/*
 * For LD_PRELOAD: kills the process at the KV_DIE-th of the calls below, before
 * it is made, so that a test sees what a death at each point leaves.
 */


#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>


static void
count(void)
{
    const char  *n;

    static long  calls;

    n = getenv("KV_DIE");

    if (n && ++calls == atol(n)) {
        (void) raise(SIGKILL);
    }
}


#define WRAP(type, name, parameters, arguments)                               \
                                                                              \
type                                                                          \
name parameters                                                               \
{                                                                             \
    static type (*next) parameters;                                           \
                                                                              \
    if (next == NULL) {                                                       \
        *(void **) &next = dlsym(RTLD_NEXT, #name);                           \
    }                                                                         \
                                                                              \
    count();                                                                  \
    return next arguments;                                                    \
}


WRAP(int, renameat, (int d, const char *from, int e, const char *to),
     (d, from, e, to))
WRAP(int, linkat, (int d, const char *from, int e, const char *to, int flags),
     (d, from, e, to, flags))
WRAP(int, unlinkat, (int d, const char *name, int flags), (d, name, flags))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(int, mkdir, (const char *name, mode_t mode), (name, mode))
WRAP(int, mkdirat, (int d, const char *name, mode_t mode), (d, name, mode))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size))
WRAP(int, ftruncate, (int fd, off_t size), (fd, size))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *iov, int n, off_t offset),
     (fd, iov, n, offset))
WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t offset),
     (fd, buf, n, offset))
