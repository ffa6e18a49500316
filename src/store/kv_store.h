
/*
 * The store: what the HTTP face calls.  One kv_store_t a process and store;
 * it is a process's own and leads to the zone that all of them share.
 *
 * Life: the master makes the zone and recovers it (kv_store_create), or finds
 * it again on a reload (kv_store_attach), and forks.  A worker takes a slot
 * (kv_store_enter), works, and gives it back (kv_store_leave).
 *
 * Threads: every call belongs to the process's main thread and returns at
 * once, but for the two that do the work and may take long,
 * kv_store_commit() and kv_store_background(), which belong into a pool's
 * thread each.  When one of them has to run is what kv_store_submit() and
 * kv_store_todo() return.
 *
 * Waking: a worker sleeps until its eventfd (kv_store_wakes()) becomes
 * readable, then calls kv_store_todo() and looks at its operations.  While it
 * waits for any it must also call kv_store_todo() every KV_STORE_WATCH ms or
 * so: that is how it is noticed that the committer died.  One that cannot be
 * woken calls it always.
 */


#ifndef KV_STORE_H
#define KV_STORE_H


#include "store/kv_store_dir.h"
#include "memory/kv_worker.h"


#define KV_ZONE_MIN           (4u << 20)  /* bytes */
#define KV_STORE_SEGMENT_MAX  (1u << 30)  /* bytes of a log segment */

/* slots for workers, of a zone */
#define KV_WORKERS_MIN   32u
#define KV_WORKERS_MAX   1024u

#define KV_STORE_WATCH  100          /* milliseconds */

/* of kv_store_next_timeout(); milliseconds */
#define KV_TIMEOUT_NOW    1u
#define KV_TIMEOUT_NEVER  UINT64_MAX

/* see kv_store_beat(); milliseconds */
#define KV_STORE_BEAT  100
#define KV_STORE_LATE  250

/*
 * The log is marked (kv_format.h) once nothing was written for so many
 * milliseconds, so that a client that writes one by one does not wait for it.
 */
#define KV_STORE_QUIET  50


typedef enum {
    KV_SYNC_ALWAYS = 0,              /* before a write is answered */
    KV_SYNC_INTERVAL,                /* that often */
    KV_SYNC_OFF                      /* never: the system decides */
} kv_sync_t;


typedef struct {
    const char     *name;            /* the zone's, for messages */
    const char     *path;            /* the directory's, for messages */
    kv_sync_t       sync;
    uint64_t        sync_interval;   /* milliseconds */
    uint64_t        delay;           /* milliseconds a batch may wait */
    unsigned        batch;           /* operations that end the wait */
    uint64_t        segment;         /* bytes of a log segment */
    uint64_t        snapshot;        /* bytes of log that start one; 0: none */
    uint32_t        max_value;       /* bytes */
    uint64_t        uploads;         /* bytes that unfinished uploads may hold;
                                        0: a share of the zone */
    uint64_t        readers;         /* the same for values that were replaced
                                        and are kept for slow readers */
    kv_log_pt       log;             /* called from any thread */
    void           *log_ctx;
    bool          (*stopping)(void); /* whether the process is to quit; any
                                        thread; may be NULL */
} kv_store_conf_t;


typedef struct kv_store_s  kv_store_t;


/* What to do next; each bit is given to one caller, who must do it. */

#define KV_TODO_COMMIT      1u       /* run kv_store_commit() in a thread */
#define KV_TODO_BACKGROUND  2u       /* run kv_store_background() in one */
#define KV_TODO_RESET       4u       /* forget all operations: see below */


/*
 * The bytes of zone that are not for keys and values, with that many slots.
 */
size_t kv_store_overhead(size_t size, unsigned workers);

/*
 * Makes a store in the zone of `size` bytes at `mem` (aligned to 64 bytes,
 * zeroed) and loads what the directory holds.  `io` and `conf`'s strings must
 * outlive it.
 * KV_OK, or, with `err` filled, KV_NO_MEMORY (the zone is too small),
 * KV_DAMAGED, KV_ERROR; then nothing needs to be undone.
 */
kv_rc_t kv_store_create(kv_store_t **store, const kv_store_conf_t *conf,
    void *mem, size_t size, unsigned workers, kv_io_t *io, int dirfd,
    kv_err_t *err);

/*
 * The same for a zone that lives already, with another configuration.
 * KV_DECLINED with `err` filled if it is of another layout.
 */
kv_rc_t kv_store_attach(kv_store_t **store, const kv_store_conf_t *conf,
    void *mem, kv_io_t *io, int dirfd, kv_err_t *err);

/*
 * This store's configuration is the newest that took effect: what belongs to
 * the store rather than to a request, `segment` and `snapshot`, is as it says
 * in all processes from now on.  kv_store_create() does it, too.
 */
void kv_store_in_force(kv_store_t *store);

/* Frees the process's own part. */
void kv_store_destroy(kv_store_t *store);

/*
 * How processes wake each other: process number i by the eventfd fds[i].  A
 * number below `n` means the same descriptor in all processes that know it;
 * processes that were forked earlier may know fewer.  `mine` is the caller's
 * own number; from `n` on nobody wakes it.  The array is the caller's and must
 * outlive the store.  To be said before kv_store_enter(), or once more after.
 */
void kv_store_wakes(kv_store_t *store, const int *fds, unsigned n,
    unsigned mine);

/*
 * Takes a slot.  KV_OK or KV_BUSY (all are taken).  To be called in the
 * worker's main thread; harmless if it has one.
 */
kv_rc_t kv_store_enter(kv_store_t *store);

/* Whether the process has one. */
bool kv_store_entered(const kv_store_t *store);

/* How many there are, of all processes. */
unsigned kv_store_workers(const kv_store_t *store);

/*
 * Gives it back.  What the caller still had is taken care of as if it had
 * died, but without delay.
 */
void kv_store_leave(kv_store_t *store);

/*
 * The same for a process that goes on, with nothing under way here, neither
 * operations nor threads: it closes its files, and the others look after what
 * is still to be synced.  It may enter again.
 */
void kv_store_rest(kv_store_t *store);

/*
 * The last call of the master, when all workers are gone: notes that the log is
 * whole and where it ends (kv_wal_leave_closed()).  It does nothing if anybody
 * is still there, or if the log is not what it should be.
 */
void kv_store_close(kv_store_t *store);

/*
 * This process is to quit: the others are woken for work that it leaves, so
 * that they do it or have timers for it.
 */
void kv_store_pass_on(kv_store_t *store);

/*
 * Whether it is recovered and takes writes (KV_STATE_READY): what /health
 * asks.  Where writes are refused for the time being, asking makes the
 * background task look whether they need be: see kv_store_todo().
 */
bool kv_store_healthy(kv_store_t *store);


/*
 * Finds a key.  KV_OK with the entry in *e, which is good to read until
 * kv_store_read_done(), to be called before the event handler returns.
 * KV_NOT_FOUND and KV_UNAVAILABLE need none.
 */
kv_rc_t kv_store_read(kv_store_t *store, const void *key, size_t len,
    kv_entry_t **e);

void kv_store_read_done(kv_store_t *store);

/*
 * The bytes of a value that is not in pieces; of any other, up to `n` parts of
 * it from part `first` on.  As kv_entry_value() and kv_entry_iov().
 */
const void *kv_store_value(const kv_entry_t *e);
size_t kv_store_value_iov(const kv_entry_t *e, struct iovec *iov, size_t n,
    size_t first);

/*
 * Keeps the entry that was just read until kv_store_release(*op).  Only for
 * an entry in pieces; others are small enough to copy.  KV_OK, KV_NO_MEMORY,
 * KV_UNAVAILABLE.
 */
kv_rc_t kv_store_pin(kv_store_t *store, kv_entry_t *e, kv_op_t **op);


/*
 * Begins a put of `value_len` bytes, all of which are there, or
 * KV_LENGTH_UNKNOWN.  KV_OK with *op to write to; KV_UNAVAILABLE;
 * KV_NO_MEMORY: no room now.
 */
kv_rc_t kv_store_put(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t value_len, kv_op_t **op);

/*
 * The same for a value that arrives, of which the first `n` bytes are there:
 * it has memory for what came, and no more.  As above.
 */
kv_rc_t kv_store_upload(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t value_len, uint32_t n, kv_op_t **op);

/*
 * Writes the next bytes of the value.  As above; after KV_NO_MEMORY, which also
 * says that it is an older upload's turn, the same bytes may be written again.
 */
kv_rc_t kv_store_write(kv_store_t *store, kv_op_t *op, uint32_t offset,
    const void *data, size_t n);

/*
 * Says that all `value_len` bytes are there, of a value that arrived or whose
 * length was not known.  As above; after KV_NO_MEMORY it may be tried again.
 */
kv_rc_t kv_store_finish(kv_store_t *store, kv_op_t *op, uint32_t value_len);

/*
 * Whether a value of that length finds room now, as far as one can tell: 0 if
 * it is not known.  As above.
 */
kv_rc_t kv_store_fits(kv_store_t *store, uint16_t key_len,
    uint32_t value_len);

kv_rc_t kv_store_delete(kv_store_t *store, const void *key, uint16_t key_len,
    kv_op_t **op);
kv_rc_t kv_store_clear(kv_store_t *store, kv_op_t **op);

/*
 * Asks the committer to make room for `need` bytes (0: to free what nobody
 * sees any more, and no more than that): what is free but not
 * whole is put together, and who holds memory for too long is told to go.  To
 * be submitted.  The caller's own uploads hold `own` bytes, which nobody could
 * free for him.  Its results: KV_OK (there is room now), KV_AGAIN (there may
 * be, soon: try, and ask again a little later), KV_NO_MEMORY (try once more;
 * what is asked for is not there).
 */
kv_rc_t kv_store_reserve(kv_store_t *store, uint32_t need, uint64_t own,
    kv_op_t **op);

/*
 * Says, before it is submitted, that a request has waited for long in all
 * (KV_OP_URGENT), or an upload for its next bytes alone (KV_OP_STUCK).
 */
static inline void
kv_store_urge(kv_op_t *op, uint8_t flags)
{
    op->flags |= flags;
}

/*
 * Whether to ask would be in vain: nothing was freed since the committer found
 * no room for so much.
 */
bool kv_store_full(kv_store_t *store, uint32_t need);

/* Counts a write that is refused because the zone is full, and logs it. */
void kv_store_refused(kv_store_t *store);

/*
 * Whether holders of memory are to go, of this process: the caller then looks
 * at all its operations.
 */
bool kv_store_evicted(kv_store_t *store);

/*
 * Whether this operation, which is not submitted or is a pin, is to be given
 * up: see kv_evict.h.
 */
static inline bool
kv_store_must_go(const kv_op_t *op)
{
    return kv_get_relaxed(op->ticket) & KV_TICKET_GO;
}

/* An upload or a reader has lasted so long already, in nanoseconds. */
static inline void
kv_store_lasted(kv_op_t *op, uint64_t ns)
{
    kv_set_relaxed(op->queued_ns, kv_now_ns() - ns);
}

/*
 * The time from now on in which an upload waits for us does not count; and it
 * does again.
 */
static inline void
kv_store_stop_clock(kv_op_t *op)
{
    kv_set_relaxed(op->queued_ns,
                   kv_op_lasted(op, kv_now_ns()) | KV_OP_STOPPED);
}

static inline void
kv_store_go_on(kv_op_t *op)
{
    kv_store_lasted(op, kv_op_lasted(op, kv_now_ns()));
}

/*
 * Says that the worker runs; to be called every KV_STORE_BEAT ms while it has
 * uploads or pins, and before it takes what a client sent.  Where it has not
 * been for longer than KV_STORE_LATE, the worker was stopped: its clients are
 * not to blame for the rest of that time.
 */
void kv_store_beat(kv_store_t *store);

/*
 * An upload's request began then, monotonic, nanoseconds, and not just now:
 * its age counts where memory is short (kv_fair.h).
 */
static inline void
kv_store_began(kv_op_t *op, uint64_t ns)
{
    kv_set_relaxed(op->began, kv_began(ns));
}

/* What an upload has received a second, bytes: at least a page. */
uint32_t kv_store_pace(const kv_op_t *op);

/* An upload that lacks memory for what it was sent. */

typedef struct {
    uint64_t        began_ns;        /* its request, monotonic */
    uint32_t        bytes;           /* what is to stay free for it, > 0 */
} kv_hungry_t;

/* The oldest of these that the process has: see kv_fair_show(). */
void kv_store_hungry(kv_store_t *store, const kv_hungry_t *hungry, unsigned n);

/* Bytes that it holds, of an upload that is not submitted. */
uint64_t kv_store_held(const kv_op_t *op);

/*
 * Hands an operation to the committer.  It is done when kv_store_done() says
 * so, in the order of submission.  Returns KV_TODO_... .
 */
unsigned kv_store_submit(kv_store_t *store, kv_op_t *op);

/*
 * What is queued waits for no delay any more: the process is to end, and its
 * clients wait.
 */
void kv_store_start_now(kv_store_t *store);

/*
 * The process is to end: its threads come to an end soon, what is queued waits
 * for no delay any more, and what was written is to be synced.
 */
void kv_store_stop(kv_store_t *store);

/*
 * Whether it is done, and then its result: KV_OK, KV_NO_MEMORY, KV_NO_SPACE,
 * KV_UNAVAILABLE (an I/O error, or the store is being rebuilt: it may or may
 * not have happened).
 */
bool kv_store_done(kv_op_t *op, kv_rc_t *rc);

/*
 * Gives a record back that is not submitted, or done: frees the entry it may
 * still hold.
 */
void kv_store_release(kv_store_t *store, kv_op_t *op);


/*
 * To be called when the eventfd woke the worker, and while it waits: returns
 * what this process has to do, KV_TODO_... bits.  Nothing without a slot.
 */
unsigned kv_store_todo(kv_store_t *store);

/*
 * Whether the worker looks for its results itself, often: then nobody wakes
 * it for them.  After it has said that it does not any more, it must look once
 * again.
 */
void kv_store_polling(kv_store_t *store, bool polling);

/* The bits could not be done (no thread took the task): others may try. */
void kv_store_unclaim(kv_store_t *store, unsigned todo);

/* Whether the process has the committer's claim: its commit is not over. */
bool kv_store_commits(kv_store_t *store);

/*
 * The answer to KV_TODO_RESET: the caller holds no record or entry any more
 * (those waiting are answered with KV_UNAVAILABLE), so that the zone can be
 * rebuilt.  Who is to end is told so, each time, as soon as that is to be done:
 * there may be nobody left to do it.
 */
void kv_store_reset(kv_store_t *store);

/*
 * Milliseconds until kv_store_todo() will have work that no client waits for: a
 * sync, the mark at the end of a log that has gone quiet; or KV_TIMEOUT_NOW or
 * KV_TIMEOUT_NEVER.
 */
uint64_t kv_store_next_timeout(kv_store_t *store);


/*
 * The committer's work, until there is none left.  In a thread.
 */
void kv_store_commit(kv_store_t *store);

/* A spare segment, a snapshot.  In a thread of its own. */
void kv_store_background(kv_store_t *store);


/*
 * The KV_COUNTERS counters of this process, NULL without a slot; of worker
 * `number`, which is below kv_store_workers().  They are the caller's: zero in
 * a new zone, kept when a slot changes hands, and of no meaning here.
 */
kv_counter_t *kv_store_counters(kv_store_t *store);
const kv_counter_t *kv_store_counters_of(kv_store_t *store, unsigned number);


/* Plain figures of a store, for people. */

typedef struct {
    uint64_t        count;
    uint64_t        sum;
    uint64_t        min;
    uint64_t        max;
    double          mean;
} kv_figure_t;


typedef struct {
    uint64_t        bytes;           /* held now */
    uint64_t        limit;
    uint64_t        evicted;         /* holders that were told to go */
} kv_figures_held_t;


typedef struct {
    const char     *state;           /* as in kv_state.h */
    uint64_t        keys;
    uint64_t        bytes;           /* of keys and values */

    /* the zone; bytes of it */
    uint64_t        used;
    uint64_t        held;
    uint64_t        free_pages;
    uint64_t        refused;         /* writes, since the zone was full */
    kv_figures_held_t  uploads;
    kv_figures_held_t  readers;

    /* commits */
    kv_figure_t     batch;           /* operations */
    kv_figure_t     wait;            /* microseconds from submit to done */
    kv_figure_t     sync;            /* microseconds */
    uint64_t        payload;         /* bytes of keys and values logged */
    uint64_t        moved;           /* objects, by compaction */

    /* the log */
    uint64_t        log_bytes;
    uint64_t        log_written;
    uint64_t        log_segments;
    uint64_t        next_lsn;
    uint64_t        durable_lsn;
    uint64_t        unsynced_ms;     /* kv_store_unsynced() */

    /* snapshots */
    uint64_t        snapshots;
    uint64_t        snapshots_failed;
    uint64_t        snapshot_lsn;    /* of the last one */
    uint64_t        snapshot_bytes;
    uint64_t        snapshot_ms;
    uint64_t        snapshot_log_bytes;  /* of the log since */

    /* recovery */
    uint64_t        recovery_ms;
    uint64_t        recovered_snapshot;  /* records */
    uint64_t        recovered_log;
    uint64_t        rebuilds;
} kv_figures_t;


/*
 * Fills `f`.  Each figure is whole, but they are not of one moment.  Those of
 * the heap are 0 if it is broken.
 */
void kv_store_figures(kv_store_t *store, kv_figures_t *f);

/*
 * How old the oldest write is that is in the log and not synced, from when it
 * was written: milliseconds, at least 1; 0: there is none.
 */
uint64_t kv_store_unsynced(kv_store_t *store);


#endif /* KV_STORE_H */
