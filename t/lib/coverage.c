
/*
 * Linked into the unit tests by scripts/coverage.sh.  Counters of coverage are
 * written when a process ends by itself; these write them also where a child
 * leaves by _exit(), or kills itself at a failpoint.
 */


#include <signal.h>
#include <unistd.h>


/* gcc's and the linker's (--wrap) */

extern void __gcov_dump(void);
extern void __real__exit(int status) __attribute__((noreturn));
extern int __real_kill(pid_t pid, int signo);

void __wrap__exit(int status) __attribute__((noreturn));
int __wrap_kill(pid_t pid, int signo);


void
__wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}


int
__wrap_kill(pid_t pid, int signo)
{
    if (pid == getpid() && signo == SIGKILL) {
        __gcov_dump();
    }

    return __real_kill(pid, signo);
}
