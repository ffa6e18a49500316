
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
    /* the heap, its lock held */
    KV_POINT_HEAP_ALLOC,        /* an object taken, not accounted for */
    KV_POINT_HEAP_FREE,         /* one given back, the same */
    KV_POINT_HEAP_FORMAT,       /* emptied, not usable yet */
    KV_POINT_HEAP_READ,         /* its lock held, to read only */

    /* a worker's event loop */
    KV_POINT_SLOT_TAKEN,        /* the slot's lock held, the slot not in use */
    KV_POINT_LEAVING,           /* about to give its slot back */
    KV_POINT_BUILDING,          /* an entry allocated, nothing in it yet */
    KV_POINT_RECEIVING,         /* a part of a value written */
    KV_POINT_PINNING,           /* a pin counted, the entry not named */
    KV_POINT_PINNED,            /* a value pinned, not sent */
    KV_POINT_UNPINNING,         /* a pin to be taken back, still counted */
    KV_POINT_UNPINNED,          /* not counted any more, the record not free */
    KV_POINT_READING,           /* in an epoch */
    KV_POINT_QUEUED,            /* state set, not pushed yet */
    KV_POINT_PUSHED,            /* pushed, nobody told */
    KV_POINT_WOKEN,             /* woken, nothing looked at yet */
    KV_POINT_ANSWERING,         /* a result seen, nobody told */
    KV_POINT_RESETTING,         /* records let go, not told yet */

    /* the committer, the commit lock held */
    KV_POINT_COMMIT_LOCKED,     /* nothing done with it yet */
    KV_POINT_NAMED,             /* the queue's head named */
    KV_POINT_SWAPPED,           /* the queue swapped out, not marked */
    KV_POINT_TAKEN,             /* the hand marked */
    KV_POINT_WRITE,             /* before the batch is written */
    KV_POINT_WRITTEN,           /* written, not synced */
    KV_POINT_PROMISED,          /* written, not said to be unsynced */
    KV_POINT_SYNCED,            /* synced, not applied */
    KV_POINT_LINKED,            /* one in the map, the old not in limbo yet */
    KV_POINT_APPLYING,          /* one of the batch applied */
    KV_POINT_GROWING,           /* a bucket split, entries in both halves */
    KV_POINT_CLEARED,           /* the map exchanged, the old one is there */
    KV_POINT_SWEEPING,          /* the old one half freed, the heap's lock */
    KV_POINT_FREEING,           /* one of limbo freed, the heap's lock held */
    KV_POINT_APPLIED,           /* all applied, none reported */
    KV_POINT_REPORTING,         /* one reported */
    KV_POINT_WAKE,              /* all reported, nobody woken */
    KV_POINT_WAKING,            /* one woken */
    KV_POINT_REPORTED,          /* all reported and woken */
    KV_POINT_COMPACTING,        /* a page being emptied, the heap's lock held */
    KV_POINT_UNCLAIMED,         /* no longer the committer, the lock held */

    /* the committer, after a death */
    KV_POINT_INHERITING,        /* a dead one's hand found */
    KV_POINT_DEAD_LOCKED,       /* a dead one's slot locked */
    KV_POINT_REAPING,           /* a dead worker's records being freed */
    KV_POINT_QUIESCING,         /* some have let go of the zone */
    KV_POINT_REBUILDING,        /* all have, the zone is empty */
    KV_POINT_RECOVERING,        /* some of it read back */

    /* background work, its lock held */
    KV_POINT_BACKGROUND_LOCKED, /* nothing done with it yet */
    KV_POINT_BACKGROUND_TAKEN,  /* what is wanted taken, none of it done */
    KV_POINT_SPARE_MADE,        /* a spare segment, without its name */
    KV_POINT_SNAPSHOT_BEGUN,
    KV_POINT_SNAPSHOT_COPY,     /* a slice of the map copied, in its epoch */
    KV_POINT_SNAPSHOT_STEP,     /* out of it, nothing written */
    KV_POINT_SNAPSHOT_PINNING,  /* a pin counted, the entry not named */
    KV_POINT_SNAPSHOT_LARGE,    /* a large value copied, pinned */
    KV_POINT_SNAPSHOT_UNPINNING,    /* to be taken back, still counted */
    KV_POINT_SNAPSHOT_UNPINNED,     /* not counted any more, still named */
    KV_POINT_SNAPSHOT_WALKED,   /* all copied, and durable in the log */
    KV_POINT_SNAPSHOT_SYNCED,   /* written and synced, without its name */
    KV_POINT_SNAPSHOT_RENAMED,  /* named, the directory not synced */
    KV_POINT_SNAPSHOT_NAMED,    /* that, too; old files still there */
    KV_POINT_PURGING,           /* old snapshots gone, segments still there */
    KV_POINT_PURGING_LOG,       /* one segment gone */
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
