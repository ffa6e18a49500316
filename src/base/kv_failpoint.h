
/*
 * Named points at which a test can stop a process.  In a test build
 * (-DKV_TEST_FAILPOINTS) a process kills itself with SIGKILL when it reaches
 * the point that it was armed with; else kv_failpoint() is nothing.
 *
 * A process arms itself with kv_failpoint_arm().  Those of an nginx are armed
 * by a file, "point" in the directory that KV_FAILPOINT_DIR names in the
 * environment of the master: the first process that reaches the point that
 * stands in it (read again when the file changes) takes the file away and dies;
 * a file "point.next" takes its place, for the process that repairs what the
 * first one left.
 */


#ifndef KV_FAILPOINT_H
#define KV_FAILPOINT_H


typedef enum {
    /* the heap, its lock held */
    KV_FAILPOINT_HEAP_ALLOC,    /* an object taken, not accounted for */
    KV_FAILPOINT_HEAP_FREE,     /* one given back, the same */
    KV_FAILPOINT_HEAP_FORMAT,   /* emptied, not usable yet */
    KV_FAILPOINT_HEAP_READ,     /* its lock held, to read only */

    /* a worker's event loop */
    KV_FAILPOINT_SLOT_TAKEN,    /* the slot's lock held, the slot not in use */
    KV_FAILPOINT_LEAVING,       /* about to give its slot back */
    KV_FAILPOINT_BUILDING,      /* an entry allocated, nothing in it yet */
    KV_FAILPOINT_RECEIVING,     /* a part of a value written */
    KV_FAILPOINT_PINNING,       /* a pin counted, the entry not named */
    KV_FAILPOINT_PINNED,        /* a value pinned, not sent */
    KV_FAILPOINT_UNPINNING,     /* a pin to be taken back, still counted */
    KV_FAILPOINT_UNPINNED,      /* not counted any more, the record not free */
    KV_FAILPOINT_READING,       /* in an epoch */
    KV_FAILPOINT_QUEUED,        /* state set, not pushed yet */
    KV_FAILPOINT_PUSHED,        /* pushed, nobody told */
    KV_FAILPOINT_WOKEN,         /* woken, nothing looked at yet */
    KV_FAILPOINT_ANSWERING,     /* a result seen, nobody told */
    KV_FAILPOINT_RESETTING,     /* records let go, not told yet */

    /* the committer, the commit lock held */
    KV_FAILPOINT_COMMIT_LOCKED, /* nothing done with it yet */
    KV_FAILPOINT_NAMED,         /* the queue's head named */
    KV_FAILPOINT_SWAPPED,       /* the queue swapped out, not marked */
    KV_FAILPOINT_TAKEN,         /* the hand marked */
    KV_FAILPOINT_WRITE,         /* before the batch is written */
    KV_FAILPOINT_WRITTEN,       /* written, not synced */
    KV_FAILPOINT_PROMISED,      /* written, not said to be unsynced */
    KV_FAILPOINT_SYNCED,        /* synced, not applied */
    KV_FAILPOINT_LINKED,        /* one in the map, the old not retired */
    KV_FAILPOINT_APPLYING,      /* one of the batch applied */
    KV_FAILPOINT_GROWING,       /* a bucket split, entries in both halves */
    KV_FAILPOINT_CLEARED,       /* the map exchanged, the old one is there */
    KV_FAILPOINT_SWEEPING,      /* the old one half freed, the heap's lock */
    KV_FAILPOINT_FREEING,       /* one retired freed, the heap's lock held */
    KV_FAILPOINT_APPLIED,       /* all applied, none reported */
    KV_FAILPOINT_REPORTING,     /* one reported */
    KV_FAILPOINT_WAKE,          /* all reported, nobody woken */
    KV_FAILPOINT_WAKING,        /* one woken */
    KV_FAILPOINT_REPORTED,      /* all reported and woken */
    KV_FAILPOINT_COMPACTING,    /* a page being emptied, the heap's lock held */
    KV_FAILPOINT_UNCLAIMED,     /* no longer the committer, the lock held */

    /* the committer, after a death */
    KV_FAILPOINT_TAKEOVER,      /* a dead one's hand found */
    KV_FAILPOINT_DEAD_LOCKED,   /* a dead one's slot locked */
    KV_FAILPOINT_REAPING,       /* a dead worker's records being freed */
    KV_FAILPOINT_QUIESCING,     /* some have let go of the zone */
    KV_FAILPOINT_REBUILDING,    /* all have, the zone is empty */
    KV_FAILPOINT_RECOVERING,    /* some of it read back */

    /* background work, its lock held */
    KV_FAILPOINT_BACKGROUND_LOCKED, /* nothing done with it yet */
    KV_FAILPOINT_BACKGROUND_TAKEN, /* what is wanted taken, none of it done */
    KV_FAILPOINT_SPARE_MADE,    /* a spare segment, without its name */
    KV_FAILPOINT_SNAPSHOT_BEGUN,
    KV_FAILPOINT_SNAPSHOT_COPY, /* a slice of the map copied, in its epoch */
    KV_FAILPOINT_SNAPSHOT_STEP, /* out of it, nothing written */
    KV_FAILPOINT_SNAPSHOT_PINNING, /* a pin counted, the entry not named */
    KV_FAILPOINT_SNAPSHOT_LARGE, /* a large value copied, pinned */
    KV_FAILPOINT_SNAPSHOT_UNPINNING, /* to be taken back, still counted */
    KV_FAILPOINT_SNAPSHOT_UNPINNED, /* not counted any more, still named */
    KV_FAILPOINT_SNAPSHOT_WALKED, /* all copied, and durable in the log */
    KV_FAILPOINT_SNAPSHOT_SYNCED, /* written and synced, without its name */
    KV_FAILPOINT_SNAPSHOT_RENAMED, /* named, the directory not synced */
    KV_FAILPOINT_SNAPSHOT_NAMED, /* that, too; old files still there */
    KV_FAILPOINT_PURGING,       /* old snapshots gone, segments still there */
    KV_FAILPOINT_PURGING_LOG,   /* one segment gone */
    KV_FAILPOINT_SNAPSHOT_PURGED,
    KV_FAILPOINTS
} kv_failpoint_t;


#ifdef KV_TEST_FAILPOINTS

void kv_failpoint(kv_failpoint_t point);

/*
 * Dies at the point of that name (KV_FAILPOINT_X without its prefix), the
 * `after`-th time that it is reached, counted from 1.
 */
void kv_failpoint_arm(const char *name, int after);

const char *kv_failpoint_name(int point);

#else

#define kv_failpoint(point)  ((void) (point))

#endif


#endif /* KV_FAILPOINT_H */
