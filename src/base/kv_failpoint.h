
/*
 * Failpoints: named points at which a test can kill a process.  In a test build
 * (-DKV_TEST_FAILPOINTS) a process kills itself with SIGKILL when it reaches
 * the failpoint that it was armed with; in other builds kv_failpoint() is
 * nothing.
 *
 * A test arms its own process with kv_failpoint_arm().  The processes of an
 * nginx are armed by a file, "point" in the directory that KV_FAILPOINT_DIR
 * names in the environment of the master: the first process that reaches the
 * failpoint named in it (read again when the file changes) takes the file away
 * and dies; a file "point.next" takes its place, for the process that repairs
 * what the first one left.
 */


#ifndef KV_FAILPOINT_H
#define KV_FAILPOINT_H


/*
 * All of them: X(NAME, what a process that dies there has done, or holds).
 * NAME gives KV_FAILPOINT_NAME, and is what kv_failpoint_arm() takes.
 */

#define KV_FAILPOINT_LIST(X)                                                  \
    /* the heap, its lock held */                                             \
    X(HEAP_ALLOC, "an object taken, not accounted for")                       \
    X(HEAP_FREE, "one given back, not accounted for")                         \
    X(HEAP_FORMAT, "the heap emptied, not usable yet")                        \
    X(HEAP_READ, "its lock held, to read only")                               \
                                                                              \
    /* a worker's event loop */                                               \
    X(WORKER_TAKEN, "the lock of a kv_worker_t held, which is not in use")    \
    X(LEAVING, "about to give its kv_worker_t back")                          \
    X(BUILDING, "an entry allocated, nothing in it yet")                      \
    X(RECEIVING, "a part of a value written")                                 \
    X(PINNING, "a pin counted, the entry not named")                          \
    X(PINNED, "a value pinned, not sent")                                     \
    X(UNPINNING, "a pin to be taken back, still counted")                     \
    X(UNPINNED, "not counted any more, the record not free")                  \
    X(READING, "in an epoch")                                                 \
    X(GROUP_QUEUED, "members ready, the group not pushed yet")                \
    X(QUEUED, "state set, not pushed yet")                                    \
    X(PUSHED, "pushed, no committer told")                                    \
    X(WOKEN, "woken, nothing looked at yet")                                  \
    X(ANSWERING, "a result seen, no client told")                             \
    X(RESETTING, "records let go, not told yet")                              \
                                                                              \
    /* the committer, the commit lock held */                                 \
    X(COMMIT_LOCKED, "nothing done with it yet")                              \
    X(NAMED, "the queue's head named")                                        \
    X(SWAPPED, "the queue swapped out, not marked")                           \
    X(TAKEN, "the taken list marked")                                         \
    X(ADDED, "a sum made, its batch not written")                             \
    X(WRITE, "before the batch is written")                                   \
    X(SEGMENT_NAMED, "a new segment named, the log's state has the old one")  \
    X(NOTE_DELETED, "the note of a clean end deleted, not for good")          \
    X(NOTE_GONE, "for good, the log's state still has it")                    \
    X(WRITTEN, "written, not synced")                                         \
    X(FOUNDING, "a vote for the first member written, it is none yet")        \
    X(VOTED, "a vote and a barrier written, not synced")                      \
    X(LEADING, "both synced, no entry of that term yet")                      \
    X(PROMISED, "written, not said to be unsynced")                           \
    X(SYNCED, "synced, not applied")                                          \
    X(LINKED, "one in the map, the old not retired")                          \
    X(RETURNED, "a value pinned for its delete, not named")                   \
    X(APPLYING, "one of the batch applied")                                   \
    X(FEEDING, "a word of the feed written, not published")                   \
    X(EXPIRING, "an expired key deleted, its entry not retired")              \
    X(GROWING, "a bucket split, entries in both halves")                      \
    X(CLEARED, "the map exchanged, the old one is there")                     \
    X(SWEEPING, "the old one half freed, the heap's lock held")               \
    X(FREEING, "one retired freed, the heap's lock held")                     \
    X(GROUP_HIDDEN, "a group to be applied, none of it yet")                  \
    X(GROUP_SHOWN, "all of it applied, and visible")                          \
    X(FED, "the feed has all that is applied, the zone does not say so")      \
    X(APPLIED, "all applied, none reported")                                  \
    X(GROUP_DONE, "its members done, not the group")                          \
    X(REPORTING, "one reported")                                              \
    X(WAKE, "all reported, no worker woken")                                  \
    X(WAKING, "one woken")                                                    \
    X(REPORTED, "all reported and woken")                                     \
    X(COMPACTING, "a chunk being emptied, the heap's lock held")              \
    X(UNCLAIMED, "no longer the committer, the lock held")                    \
                                                                              \
    /* the committer, after a death */                                        \
    X(TAKEOVER, "a dead committer's taken list found")                        \
    X(DEAD_LOCKED, "a dead worker's record locked")                           \
    X(REAPING, "a dead worker's records being freed")                         \
    X(QUIESCING, "some have let go of the zone")                              \
    X(REBUILDING, "all have, the zone is empty")                              \
    X(RECOVERING, "some of it read back")                                     \
                                                                              \
    /* background work, its lock held */                                      \
    X(BACKGROUND_LOCKED, "nothing done with it yet")                          \
    X(BACKGROUND_TAKEN, "the requests taken, none of them done")              \
    X(SPARE_MADE, "a spare segment, without its name")                        \
    X(SNAPSHOT_BEGUN, "nothing copied yet")                                   \
    X(SNAPSHOT_COPY, "a slice of the map copied, in its epoch")               \
    X(SNAPSHOT_STEP, "out of it, nothing written")                            \
    X(SNAPSHOT_PINNING, "a pin counted, the entry not named")                 \
    X(SNAPSHOT_LARGE, "a large value copied, pinned")                         \
    X(SNAPSHOT_UNPINNING, "to be taken back, still counted")                  \
    X(SNAPSHOT_UNPINNED, "not counted any more, still named")                 \
    X(SNAPSHOT_WALKED, "all copied, and durable in the log")                  \
    X(SNAPSHOT_SYNCED, "written and synced, without its name")                \
    X(SNAPSHOT_RENAMED, "named, the directory not synced")                    \
    X(SNAPSHOT_NAMED, "that, too; old files still there")                     \
    X(PURGING, "old snapshots gone, segments still there")                    \
    X(PURGING_LOG, "one segment gone")                                        \
    X(SNAPSHOT_PURGED, "all old files gone")


#define kv_failpoint_constant(name, what)  KV_FAILPOINT_##name,

typedef enum {
    KV_FAILPOINT_LIST(kv_failpoint_constant)
    KV_FAILPOINTS
} kv_failpoint_t;


#ifdef KV_TEST_FAILPOINTS

void kv_failpoint(kv_failpoint_t point);

/*
 * The process dies at the failpoint of that name, the `after`-th time that it
 * reaches it, counted from 1.  A name that is not in the list aborts.
 */
void kv_failpoint_arm(const char *name, int after);

/* The name of a kv_failpoint_t. */
const char *kv_failpoint_name(int point);

#else

#define kv_failpoint(point)  ((void) (point))

#endif


#endif /* KV_FAILPOINT_H */
