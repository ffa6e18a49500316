
/*
 * Named points at which a test can stop a process.  In a test build
 * (-DKV_TEST_POINTS) a process kills itself with SIGKILL when it reaches the
 * point that it was armed with; else kv_point() is nothing.
 *
 * A process arms itself with kv_point_arm().  Those of an nginx are armed by
 * a file, "point" in the directory that KV_POINT_DIR names in the environment
 * of the master: whoever reaches the point that stands in it (read again when
 * the file changes) takes it away and dies, so that one process does; a file
 * "point.next" takes its place, for whoever mends what the first one left.
 */


#ifndef KV_POINTS_H
#define KV_POINTS_H


typedef enum {
    KV_POINT_HEAP_ALLOC,    /* the heap's lock held, an object taken */
    KV_POINT_HEAP_FREE,     /* the same, one given back */
    KV_POINT_BUILDING,      /* an entry allocated, nothing in it yet */
    KV_POINT_PINNED,        /* a value pinned, not sent */
    KV_POINT_READING,       /* in an epoch */
    KV_POINT_QUEUED,        /* state set, not pushed yet */
    KV_POINT_PUSHED,        /* pushed, nobody told */
    KV_POINT_NAMED,         /* committer: queue's head named */
    KV_POINT_SWAPPED,       /* queue swapped out, not marked */
    KV_POINT_TAKEN,         /* hand marked */
    KV_POINT_WRITE,         /* before the batch is written */
    KV_POINT_WRITTEN,       /* written, not synced */
    KV_POINT_SYNCED,        /* synced, not applied */
    KV_POINT_APPLYING,      /* one of the batch applied */
    KV_POINT_APPLIED,       /* all applied, none reported */
    KV_POINT_REPORTING,     /* one reported */
    KV_POINT_REPORTED,      /* all reported and woken */
    KV_POINT_COMPACTING,    /* a page being emptied, the heap's lock held */
    KV_POINT_REAPING,       /* a dead worker's records being freed */
    KV_POINT_REBUILDING,    /* everybody let go, the zone is empty */
    KV_POINT_SNAPSHOT_BEGUN,
    KV_POINT_SNAPSHOT_STEP,     /* a slice of the map copied */
    KV_POINT_SNAPSHOT_NAMED,    /* renamed, old files still there */
    KV_POINT_SNAPSHOT_PURGED,
    KV_POINTS
} kv_point_t;


#ifdef KV_TEST_POINTS

void kv_point(kv_point_t point);

/*
 * Dies at the point of that name (KV_POINT_X without its prefix), the
 * `after`-th time that it is reached, counted from 1.
 */
void kv_point_arm(const char *name, int after);

const char *kv_point_name(int point);

#else

#define kv_point(point)  ((void) (point))

#endif


#endif /* KV_POINTS_H */
