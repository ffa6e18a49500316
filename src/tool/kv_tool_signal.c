
/*
 * Signals that end a command which writes; see kv_tool.h.
 */


#include <signal.h>

#include "tool/kv_tool.h"


static void kv_tool_stop(int signo);


static volatile sig_atomic_t  stopped;


void
kv_tool_catch(void)
{
    size_t            i;
    struct sigaction  action;

    static const int  signals[] = { SIGINT, SIGTERM, SIGHUP };

    memset(&action, 0, sizeof(action));

    action.sa_handler = kv_tool_stop;
    (void) sigemptyset(&action.sa_mask);

    for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        (void) sigaction(signals[i], &action, NULL);
    }

    /* a file that is too large for a limit is an error like others */

    (void) signal(SIGXFSZ, SIG_IGN);
}


static void
kv_tool_stop(int signo)
{
    stopped = signo;
}


bool
kv_tool_stopped(void)
{
    return stopped != 0;
}


void
kv_tool_end_stopped(void)
{
    if (stopped) {
        (void) signal(stopped, SIG_DFL);
        (void) raise(stopped);
    }
}
