
/*
 * Stopping a process at a named point; see kv_points.h.
 */


#include "kv_points.h"


#ifdef KV_TEST_POINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


static const char *const  kv_point_names[KV_POINTS] = {
    "QUEUED", "PUSHED", "NAMED", "SWAPPED", "TAKEN", "WRITE", "WRITTEN",
    "SYNCED", "APPLYING", "APPLIED", "REPORTING", "REPORTED",
    "SNAPSHOT_BEGUN", "SNAPSHOT_STEP", "SNAPSHOT_NAMED", "SNAPSHOT_PURGED"
};

static atomic_int  kv_point_armed = -1;
static atomic_int  kv_point_after;


void
kv_point_arm(const char *name, int after)
{
    int  i;

    for (i = 0; i < KV_POINTS; i++) {
        if (strcmp(kv_point_names[i], name) == 0) {
            atomic_store(&kv_point_after, after);
            atomic_store(&kv_point_armed, i);
            return;
        }
    }

    abort();
}


const char *
kv_point_name(int point)
{
    return kv_point_names[point];
}


void
kv_point(kv_point_t point)
{
    if (atomic_load_explicit(&kv_point_armed, memory_order_relaxed)
        == (int) point
        && atomic_fetch_sub(&kv_point_after, 1) == 1)
    {
        (void) kill(getpid(), SIGKILL);

        for ( ;; ) {
            (void) pause();
        }
    }
}

#else

/* ISO C wants a declaration in every file. */

typedef int  kv_points_unused_t;

#endif
