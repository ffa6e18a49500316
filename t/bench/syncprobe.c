/*
 * What the disk can do: writes 200 bytes and syncs, again and again, into a
 * file whose space is there already, as a log does.
 *
 *     syncprobe DIRECTORY COUNT
 *
 * prints the median and the 99th percentile of one write and its sync, in
 * microseconds, and how many there were a second.  The file, 64 MiB by the name
 * of syncprobe.dat, is left there for the next time.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


#define PROBE_SIZE   (64 * 1024 * 1024)
#define PROBE_CHUNK  (1024 * 1024)
#define PROBE_WRITE  200


static void
fail(const char *what)
{
    fprintf(stderr, "syncprobe: %s: %s\n", what, strerror(errno));
    exit(1);
}


static uint64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


static int
compare(const void *a, const void *b)
{
    uint64_t  x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}


/* Zeros that are written and synced, not merely allocated: blocks that were
 * never written cost a sync more, to say that now they are. */

static int
prepare(const char *dir)
{
    int          fd;
    char         name[4096];
    off_t        at;
    static char  zeros[PROBE_CHUNK];

    snprintf(name, sizeof(name), "%s/syncprobe.dat", dir);

    fd = open(name, O_RDWR | O_CREAT, 0600);
    if (fd == -1) {
        fail(name);
    }

    for (at = lseek(fd, 0, SEEK_END); at < PROBE_SIZE; at += PROBE_CHUNK) {
        if (pwrite(fd, zeros, PROBE_CHUNK, at) != PROBE_CHUNK) {
            fail("write");
        }
    }

    if (fsync(fd) == -1) {
        fail("fsync");
    }

    return fd;
}


int
main(int argc, char **argv)
{
    int        fd;
    char       record[PROBE_WRITE];
    long       i, n;
    off_t      at;
    uint64_t  *took, start, last, t;

    n = argc == 3 ? atol(argv[2]) : 0;

    if (n <= 0) {
        fprintf(stderr, "usage: syncprobe DIRECTORY COUNT\n");
        return 1;
    }

    took = malloc(n * sizeof(uint64_t));
    if (took == NULL) {
        fail("malloc");
    }

    fd = prepare(argv[1]);
    memset(record, 'x', sizeof(record));

    at = 0;
    start = last = now();

    for (i = 0; i < n; i++) {

        if (pwrite(fd, record, PROBE_WRITE, at) != PROBE_WRITE) {
            fail("write");
        }

        if (fdatasync(fd) == -1) {
            fail("fdatasync");
        }

        t = now();
        took[i] = t - last;
        last = t;

        at += PROBE_WRITE;
        if (at + PROBE_WRITE > PROBE_SIZE) {
            at = 0;
        }
    }

    close(fd);

    qsort(took, n, sizeof(uint64_t), compare);

    printf("%.1f %.1f %.1f\n", took[n / 2] / 1e3, took[n - n / 100 - 1] / 1e3,
           n / ((last - start) / 1e9));

    return 0;
}
