
/*
 * The zone: all that the workers of a store share, laid out in one region of
 * memory that is mapped at the same address in every process.
 *
 *     kv_zone_t | kv_worker_t[] | filters | the map's directories | heap | feed
 *
 * The filters are the workers', of the keys that they wait for (kv_await.h).
 * The feed's ring (feed/kv_feed.h) is beside the zone's size, not part of it.
 *
 * A reload may load this code anew beside old workers, so nothing here points
 * to code, and `layout` says which version of these structures it is.
 */


#ifndef KV_ZONE_H
#define KV_ZONE_H


#include "base/kv_measure.h"
#include "disk/kv_wal.h"
#include "feed/kv_feed.h"
#include "index/kv_index.h"
#include "memory/kv_map.h"
#include "memory/kv_timers.h"
#include "store/kv_node.h"


#define KV_ZONE_MAGIC   "KVZONE\r\n"
#define KV_ZONE_LAYOUT  30u


/* What may be done with the zone, and with the log: see kv_state.h. */

typedef enum {
    KV_ZONE_NEW = 0,         /* nothing loaded yet */
    KV_ZONE_READY,
    KV_ZONE_BROKEN,          /* a death left it half changed: to be rebuilt */
    KV_ZONE_FAILED           /* could not be rebuilt: restart needed */
} kv_zone_state_t;

typedef enum {
    KV_WRITES_OK = 0,
    KV_WRITES_FULL,          /* the disk is full */
    KV_WRITES_REFUSED,       /* another error that may pass */
    KV_WRITES_NEVER          /* the log failed: restart needed */
} kv_writes_t;


/*
 * What the holder of the commit lock is doing; tells the committer that takes
 * over after its death what to do.
 */

typedef enum {
    KV_PHASE_IDLE = 0,       /* map and the retire list are whole */
    KV_PHASE_CHANGING        /* they may not be */
} kv_phase_t;


/* Work for the background task (kv_background.c). */

#define KV_REQUEST_SEGMENT    1u
#define KV_REQUEST_SNAPSHOT   2u
/* writes are refused (kv_state_refuses()): free disk space, try again */
#define KV_REQUEST_FREE_DISK  4u
/* how much space is left: kv_disk_space.c */
#define KV_REQUEST_DISK_SPACE 8u


typedef struct {
    kv_histogram_t    batch;          /* operations per batch */
    kv_histogram_t    sync;           /* microseconds per sync */
    kv_histogram_t    wait;           /* submit to done, microseconds */
    _Atomic uint64_t  payload;        /* bytes logged: kv_entry_payload() */
    _Atomic uint64_t  moved;          /* objects moved by compaction */
    _Atomic uint64_t  expired;        /* keys deleted because they were */
    _Atomic uint64_t  reserves;       /* KV_OP_RESERVE operations taken */
} kv_commit_stats_t;


/* Of a file system; bytes.  Zeroes: not known. */

typedef struct {
    _Atomic uint64_t  size;
    _Atomic uint64_t  available;
} kv_disk_space_t;


/* What a backup holds: see kv_hold.h.  Zeroes: nothing. */

#define KV_HOLDS  4

typedef struct {
    _Atomic uint32_t  holder;         /* the worker's number + 1; 0: none */
    _Atomic uint64_t  lsn;            /* what it holds: from here on */
    _Atomic uint64_t  until;          /* wal.bytes that end it; 0: not set */
} kv_hold_t;


/* What a key of a group had before it: see kv_group.h. */

#define KV_BEFORE_CELLS  2048

typedef struct {
    _Atomic uint64_t        hash;
    _Atomic(kv_entry_t *)   e;        /* NULL: the cell is free */
} kv_before_t;


typedef struct {
    char              magic[8];
    uint32_t          layout;
    uint32_t          nworkers;
    size_t            size;
    uint32_t          list;           /* there is an index: see kv_listed.h */
    char              cluster[KV_ADDRESS_MAX + 1];
                                      /* conf->cluster, empty: NULL */

    kv_worker_t      *workers;
    void             *directory;
    kv_heap_t        *heap;

    /* the master: the largest value that any configuration allowed */
    _Atomic uint32_t  max_value;

    /* the master: as in the newest configuration's kv_store_conf_t */
    _Atomic uint64_t  segment;
    _Atomic uint64_t  snapshot;
    _Atomic uint64_t  limit[KV_HELD]; /* bytes that may be held */

    /* the master: configurations that it refused since the zone was made */
    _Atomic uint64_t  reloads_refused;

    /* any process */
    _Atomic uint64_t  full_refused;   /* writes: the zone was full */
    _Atomic uint64_t  full_logged;    /* of these, logged */
    _Atomic uint64_t  full_logged_ns; /* monotonic */
    _Atomic uint32_t  state;          /* kv_zone_state_t; kv_state.c alone */
    _Atomic uint32_t  writes;         /* kv_writes_t; kv_state.c alone */
    _Atomic uint64_t  generation;     /* one more for each rebuild */
    _Atomic uint64_t  groups;         /* the committer; see kv_group.h */
    _Atomic uint32_t  hungry;         /* a worker may show one: kv_fair.c */
    _Atomic uint32_t  awaits;         /* one may have waiters: kv_await.c */
    _Atomic uint32_t  watches;        /* or watchers: kv_watch.c */

    /* any process, kv_hold.c alone */
    kv_hold_t         hold[KV_HOLDS];

    /* the worker that makes it */
    _Atomic uint64_t  backups;        /* all was given to the client */
    _Atomic uint64_t  backups_failed;
    _Atomic uint64_t  backup_lsn;     /* of the last one, its L, */
    _Atomic uint64_t  backup_time;    /* and when it was begun, ms since the
                                         epoch */

    /* any process, kv_clock.c alone */
    _Atomic uint64_t  ahead_ns;       /* of the monotonic clock: the time */
    _Atomic uint64_t  passed;         /* see kv_clock_passed(); times 2, and 1
                                         while a batch is being written */

    /* kv_state.c; times are monotonic */
    _Atomic uint64_t  refused_len;    /* bytes of the largest refused batch */
    _Atomic uint64_t  refused_ns;     /* when that was logged */
    _Atomic int32_t   refused_error;  /* with this errno */
    _Atomic uint32_t  refused_logged; /* so its end will be logged, too */
    _Atomic uint64_t  rebuild_ns;     /* when a failed one was logged */
    _Atomic uint64_t  retry_ns;       /* the next try of what failed; 0: now */
    _Atomic uint64_t  retry_pause;    /* ns before it */

    /* workers push, the committer takes all */
    _Alignas(KV_CACHE_LINE)
    _Atomic(kv_op_t *)  queue;
    _Atomic uint32_t    queued;       /* pushed since the last take */
    _Atomic uint32_t    start_futex;  /* a futex: start_ns was made sooner */
    _Atomic uint32_t    waits;        /* the committer does, for more of them */
    _Atomic uint64_t    start_ns;     /* when the batch is to start, monotonic;
                                         UINT64_MAX: not set */

    /* the worker with a task for it, its number + 1; 0: none */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint32_t  committer;
    _Atomic uint32_t  background;
    _Atomic uint32_t  requests;       /* KV_REQUEST_... */
    _Atomic uint32_t  reap;           /* a worker may have died */
    _Atomic uint32_t  sync_requested; /* a snapshot waits for one */
    _Atomic uint32_t  sync_next;      /* a committer died: see kv_takeover.c */

    /* any process, kv_host.c alone */
    _Atomic uint32_t  host_sleeps;
    _Atomic uint32_t  host_futex;     /* a futex: there is work for it */
    _Atomic uint32_t  next_host;      /* waits for the claim: as `committer` */
    _Atomic uint32_t  hosts;          /* that there were */
    _Atomic uint64_t  unhosted;       /* kv_store_unhosted() */
    kv_node_t         node;           /* kv_node.c alone */

    kv_mutex_t        commit_lock;
    kv_mutex_t        background_lock;

    /* the holder of the commit lock */
    _Atomic uint32_t  phase;          /* kv_phase_t */
    _Atomic(kv_op_t *)  taken;        /* being taken: kv_queue.c */
    kv_wal_state_t    wal;
    _Atomic uint64_t  synced_ns;      /* when, monotonic */
    uint64_t          reaped_ns;      /* the last search for the dead */
    uint64_t          idle_ns;        /* when the queue was last empty */
    uint32_t          spin;           /* whether to wait for more */
    uint64_t          spare_requested; /* by this segment, of the next */
    _Atomic uint64_t  applied_lsn;
    _Atomic uint64_t  applied_index;  /* and of a replicated log the entry: */
    _Atomic uint64_t  applied_term;   /* see kv_replica_last() */
    _Atomic uint64_t  current_segment;  /* wal.segment_lsn, for any process */
    _Atomic uint64_t  written_ns;     /* the last batch, monotonic */
    _Atomic uint32_t  unsynced;       /* written, not synced yet */
    _Atomic uint64_t  unsynced_ns;    /* when the first of these was */
    _Atomic uint32_t  sync_ms;        /* of these, the shortest kv_op_t.sync_ms
                                         that is not 0; set before unsynced */
    _Atomic uint32_t  unmarked;       /* written, no mark behind it yet */
    _Atomic uint64_t  evicted[KV_HELD];  /* were told to go */
    _Atomic uint64_t  evicted_ns;     /* the last check of limits, monotonic */

    /* the last request for memory that found none; see kv_store_full() */
    _Atomic uint64_t  full_need;      /* bytes; 0: none */
    _Atomic uint64_t  full_used;      /* of the heap then */
    _Atomic uint64_t  full_ns;        /* monotonic */
    kv_commit_stats_t stats;

    /* the holder of the background lock */
    _Atomic uint64_t  snapshot_log_bytes;  /* wal.bytes when it was taken */
    _Atomic uint64_t  snapshot_lsn;
    _Atomic uint64_t  snapshot_bytes;
    _Atomic uint64_t  snapshot_ms;
    _Atomic uint64_t  snapshots;
    _Atomic uint64_t  snapshots_failed;
    _Atomic uint64_t  snapshot_time_ms;    /* when the last one was begun, */
    _Atomic uint64_t  snapshot_failed_ms;  /* or one failed: kv_clock_ms() */
    _Atomic uint64_t  archive_lsn;    /* see kv_archive_t.upto */
    _Atomic uint64_t  archive_waiting;
    _Atomic uint64_t  archive_files;
    _Atomic uint64_t  archive_failed;
    _Atomic uint64_t  archive_gaps;
    _Atomic uint64_t  archive_deleted;
    kv_disk_space_t   disk;           /* kv_disk_space.c alone */
    kv_disk_space_t   archive_disk;
    _Atomic uint64_t  disk_ns;        /* when, monotonic */
    uint64_t          archive_logged_ns;  /* a failure, monotonic */
    uint64_t          archive_gap_from;   /* what is not noted there yet: */
    uint64_t          archive_gap_to;     /* set last; 0: nothing */
    uint64_t          free_disk_ns;   /* when it last freed disk space */
    uint64_t          retried_ns;     /* the last kv_disk_full_retry() */
    uint64_t          checked_lsn;    /* the snapshot that was read back */

    /* the process that recovers */
    _Atomic uint64_t  recovery_ms;
    _Atomic uint64_t  recovered_ms;        /* its end: kv_clock_ms() */
    _Atomic uint64_t  recovered_snapshot;  /* records */
    _Atomic uint64_t  recovered_log;
    _Atomic uint64_t  rebuilds;

    kv_retire_list_t  retired;
    kv_map_t          map;
    kv_index_t        index;          /* empty without `list` */
    kv_timers_t       timers;         /* of what is in the map */
    kv_feed_t         feed;           /* empty without feed= */

    /* the committer; see kv_group.h */
    _Atomic uint32_t  before_cells;   /* that are in use: a power of two */
    kv_before_t       before[KV_BEFORE_CELLS];
} kv_zone_t;


/* Whether a clear has left something that is still to be freed. */

static inline bool
kv_zone_unswept(kv_zone_t *zone)
{
    return kv_map_unswept(&zone->map) || kv_index_unswept(&zone->index);
}


/*
 * The holder of the commit lock sets the phase before it changes the map or the
 * retire list, and resets it after.  What matters is at which instruction a
 * kill finds the process: the kernel gives its locks away after all that it
 * stored, so the machine keeps the order.  Only the compiler could move a
 * change out of the two calls.
 */

static inline void
kv_phase_changing(kv_zone_t *zone)
{
    kv_set_relaxed(zone->phase, KV_PHASE_CHANGING);
    atomic_signal_fence(memory_order_seq_cst);
}


static inline void
kv_phase_idle(kv_zone_t *zone)
{
    atomic_signal_fence(memory_order_seq_cst);
    kv_set_relaxed(zone->phase, KV_PHASE_IDLE);
}


#endif /* KV_ZONE_H */
