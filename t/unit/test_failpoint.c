
/*
 * A file that arms the processes of an nginx is read by one of its threads, and
 * the thread that is to die may be another one: none must undo it.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/kv_failpoint.h"


#define ROUNDS    20
#define PATIENCE  20000            /* ms until a process is called deaf */


static char  dir[] = "/tmp/kv-failpoint-XXXXXX";


static void *
passes_by(void *data)
{
    for ( ;; ) {
        kv_failpoint(KV_FAILPOINT_PUSHED);
    }

    return data;
}


static pid_t
start_process(void)
{
    int        i;
    pid_t      pid;
    pthread_t  thread;

    pid = fork();

    if (pid == 0) {
        for (i = 0; i < 3; i++) {
            (void) pthread_create(&thread, NULL, passes_by, NULL);
        }

        for ( ;; ) {
            kv_failpoint(KV_FAILPOINT_SYNCED);
        }
    }

    assert_true(pid > 0);

    return pid;
}


static void
arm(void)
{
    FILE  *f;
    char   point[64], new[64];

    (void) snprintf(point, sizeof(point), "%s/point", dir);
    (void) snprintf(new, sizeof(new), "%s/point.new", dir);

    f = fopen(new, "w");
    assert_non_null(f);
    assert_true(fputs("SYNCED 1\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(new, point), 0);
}


static void
test_threads(void **state)
{
    int              i, ms, status;
    pid_t            pid;
    struct timespec  pause = { 0, 1000000 };

    (void) state;

    for (i = 0; i < ROUNDS; i++) {
        pid = start_process();
        (void) nanosleep(&pause, NULL);
        arm();

        for (ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms++) {
            if (ms == PATIENCE) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, &status, 0);
                fail_msg("round %d: the failpoint is not reached", i);
            }

            (void) nanosleep(&pause, NULL);
        }

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
}


/* The folder is read from the environment before main(). */

static int
start_again(char **argv)
{
    if (mkdtemp(dir) == NULL || setenv("KV_FAILPOINT_DIR", dir, 1) == -1) {
        return 1;
    }

    (void) execv("/proc/self/exe", argv);

    return 1;
}


int
main(int argc, char **argv)
{
    int   rc;
    char  done[64];

    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
    };

    (void) argc;

    if (getenv("KV_FAILPOINT_DIR") == NULL) {
        return start_again(argv);
    }

    (void) snprintf(dir, sizeof(dir), "%s", getenv("KV_FAILPOINT_DIR"));

    rc = cmocka_run_group_tests(tests, NULL, NULL);

    (void) snprintf(done, sizeof(done), "%s/point.done", dir);
    (void) unlink(done);
    (void) rmdir(dir);

    return rc;
}
