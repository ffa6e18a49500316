
/*
 * Killing a process at a failpoint; see kv_failpoint.h.
 */


#include "base/kv_failpoint.h"


#ifdef KV_TEST_FAILPOINTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


static int kv_failpoint_claim(void);
static void kv_failpoint_read(void);
static void kv_failpoint_read_locked(void);


#define kv_failpoint_string(name, what)  #name,

static const char *const  kv_failpoint_names[KV_FAILPOINTS] = {
    KV_FAILPOINT_LIST(kv_failpoint_string)
};

static atomic_int   kv_failpoint_armed = -1;
static atomic_int   kv_failpoint_after;

static char             kv_failpoint_file[512];
static struct stat      kv_failpoint_seen;
static pthread_mutex_t  kv_failpoint_lock = PTHREAD_MUTEX_INITIALIZER;


/* nginx clears the environment of its workers, so the master keeps this. */

static void __attribute__((constructor))
kv_failpoint_init(void)
{
    const char  *dir;

    dir = getenv("KV_FAILPOINT_DIR");

    if (dir) {
        (void) snprintf(kv_failpoint_file, sizeof(kv_failpoint_file),
                        "%s/point", dir);
    }
}


void
kv_failpoint_arm(const char *name, int after)
{
    int  i;

    for (i = 0; i < KV_FAILPOINTS; i++) {
        if (strcmp(kv_failpoint_names[i], name) == 0) {
            atomic_store(&kv_failpoint_after, after);
            atomic_store(&kv_failpoint_armed, i);
            return;
        }
    }

    abort();
}


const char *
kv_failpoint_name(int point)
{
    return kv_failpoint_names[point];
}


void
kv_failpoint(kv_failpoint_t point)
{
    if (kv_failpoint_file[0]) {
        kv_failpoint_read();
    }

    if (atomic_load_explicit(&kv_failpoint_armed, memory_order_relaxed)
        != (int) point
        || atomic_fetch_sub(&kv_failpoint_after, 1) != 1)
    {
        return;
    }

    if (kv_failpoint_file[0] && !kv_failpoint_claim()) {
        return;
    }

    (void) kill(getpid(), SIGKILL);

    for ( ;; ) {
        (void) pause();
    }
}


/*
 * Takes the file away for this process, and puts the next order in its place,
 * if there is one. 0 if another process was first.
 */

static int
kv_failpoint_claim(void)
{
    char  done[sizeof(kv_failpoint_file) + 8];
    char  next[sizeof(kv_failpoint_file) + 8];

    (void) snprintf(done, sizeof(done), "%s.done", kv_failpoint_file);
    (void) snprintf(next, sizeof(next), "%s.next", kv_failpoint_file);

    if (rename(kv_failpoint_file, done) == -1) {
        return 0;
    }

    (void) rename(next, kv_failpoint_file);

    return 1;
}


/*
 * One thread at a time: one that has found no file would disarm later what
 * another has armed from a file that came meanwhile, and nobody reads that
 * again.
 */

static void
kv_failpoint_read(void)
{
    (void) pthread_mutex_lock(&kv_failpoint_lock);
    kv_failpoint_read_locked();
    (void) pthread_mutex_unlock(&kv_failpoint_lock);
}


static void
kv_failpoint_read_locked(void)
{
    int          fd, after;
    char         buf[64], name[64];
    ssize_t      n;
    struct stat  st;

    if (stat(kv_failpoint_file, &st) == -1) {
        atomic_store(&kv_failpoint_armed, -1);
        return;
    }

    if (st.st_ino == kv_failpoint_seen.st_ino
        && st.st_mtim.tv_sec == kv_failpoint_seen.st_mtim.tv_sec
        && st.st_mtim.tv_nsec == kv_failpoint_seen.st_mtim.tv_nsec)
    {
        return;
    }

    fd = open(kv_failpoint_file, O_RDONLY|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    n = read(fd, buf, sizeof(buf) - 1);
    (void) close(fd);

    if (n > 0) {
        buf[n] = '\0';

        if (sscanf(buf, "%63s %d", name, &after) == 2) {
            kv_failpoint_seen = st;
            kv_failpoint_arm(name, after);
        }
    }
}

#else

/* ISO C requires a declaration in every file. */

typedef int  kv_failpoint_unused_t;

#endif
