
/*
 * Workers: what the zone knows about each process that uses it.
 *
 * A process owns a kv_worker_t as long as its main thread holds the robust
 * mutex in it.  A committer that can lock the mutex of one that is in use knows
 * that its owner is dead, without pids that may be reused and without timeouts;
 * it then frees what the owner left behind (kv_reap.c).
 *
 *
 * Epochs: who frees what, when
 *
 * Readers of the map take no lock.  Before its lookup a reader stores the
 * global epoch in its own kv_worker_t, and zero when it is done.  The committer
 * unlinks an object first, then retires it with the current epoch, and then
 * moves the global epoch on.  An object retired in epoch r is freed once every
 * worker's epoch is zero or greater than r: a reader that could still hold it
 * had stored r or less, and one that stores its epoch later cannot find it any
 * more (both sides have a full fence between their store and their load); what
 * it can find elsewhere is retired in an epoch that stays meanwhile, so that it
 * has stored that one, or less (kv_epoch_pause()).  A dead reader's epoch does
 * not count.
 *
 * A reader that keeps an entry beyond its epoch (a large value on its way to a
 * slow client) pins it while still in the epoch: it takes an operation record
 * of its own, counts itself in the entry, and names the entry in the record.
 * Pinned entries are not freed.  The count is never less than the number of
 * records that name the entry; the records say which counts a dead worker
 * leaves behind (kv_epoch.c).
 *
 *
 * Operation records
 *
 * A record belongs to a worker, lies in a chunk of its kv_worker_t, and is the
 * only shared trace of a request: what it is building, has submitted, or has
 * pinned.  So a worker's death leaves nothing behind that cannot be found.  The
 * first chunk is a part of kv_worker_t: reads and deletes go on when the heap
 * has no page for another one.
 *
 *     FREE --> BUILDING --> QUEUED --> TAKEN --> DONE --> FREE
 *        \                                        |       /
 *         \------------------------------------> PINNED  /
 *                                                 |     /
 *                                              UNPINNING
 *
 * The owner moves a record to BUILDING, QUEUED, PINNED, UNPINNING (its count is
 * being taken back) and FREE; the committer to TAKEN and DONE.  While it is
 * QUEUED or TAKEN the committer owns all of it, else the worker does.  DONE
 * completes an operation: the eventfd that follows only hints that a poll will
 * find it.  Records of one worker become DONE in the order in which it
 * submitted them, but for those of operations that are refused.
 *
 * A delete that returns what it deletes (KV_OP_RETURN) names the value once it
 * is done: a copy of its own, or one in pieces, which the committer pinned for
 * the record when it took it out of the map.  So a record that is TAKEN or DONE
 * may pin, too (kv_op_pinned()).
 *
 * A group of operations that are done all or not at all is a record of its own
 * (KV_OP_GROUP), which leads to theirs.  It alone is in the queue, and tells
 * what has become of them: the others are QUEUED, TAKEN and DONE before it, and
 * nothing looks at their states but who frees what a dead worker leaves.
 *
 * A record's `entry` changes only while the heap's lock is held, together with
 * the allocation or the free, or by the committer while it changes the map.
 * After a death in either the zone is rebuilt, so that a record found later
 * always tells the truth about who owns the entry.
 */


#ifndef KV_WORKER_H
#define KV_WORKER_H


#include "memory/kv_entry.h"
#include "base/kv_mutex.h"
#include "base/kv_opcode.h"


typedef enum {
    KV_OP_FREE = 0,
    KV_OP_BUILDING,
    KV_OP_QUEUED,
    KV_OP_TAKEN,
    KV_OP_DONE,
    KV_OP_PINNED,
    KV_OP_UNPINNING
} kv_op_state_t;


/* An operation that is in no log record: reserve memory for `need` bytes. */
#define KV_OP_RESERVE  16

/* Adds to the number that the value is; the log gets a put of the sum. */
#define KV_OP_INCR     17

/* A group: see kv_group.h. */
#define KV_OP_GROUP    18

/*
 * What the worker's configuration asks for this operation; the committer may be
 * a worker with another configuration.
 */
#define KV_OP_SYNC    1u           /* durable before it is done */
#define KV_OP_URGENT  2u           /* KV_OP_RESERVE: a request waited long */
#define KV_OP_STUCK   4u           /* so has an upload, for its next bytes */

/*
 * A touch: the committer has made its entry a copy of the key's, to take the
 * place of that one, which has no kv_expiry_t.
 */
#define KV_OP_COPIED  4u

/*
 * A put, a delete or a touch is done only if its key has a value, has none, or
 * has the one whose LSN is in the operation's entry.  At most one of them.
 */
#define KV_OP_IF_PRESENT  8u
#define KV_OP_IF_ABSENT   16u
#define KV_OP_IF_VERSION  32u
#define KV_OP_IF          (KV_OP_IF_PRESENT|KV_OP_IF_ABSENT|KV_OP_IF_VERSION)

/* Or it has none, or another than that. */
#define KV_OP_IF_OTHER    (KV_OP_IF_ABSENT|KV_OP_IF_VERSION)

/* A delete is done only if its key has a value, which it then names. */
#define KV_OP_RETURN      64u

/*
 * An operation of a group; and of a group, and each of its operations: not all
 * of them are deletes.
 */
#define KV_OP_MEMBER      128u
#define KV_OP_MIXED       2u


/*
 * The committer sets KV_TICKET_GO in the ticket of an upload or a reader that
 * must give up its memory (kv_evict.h).  The other bits are a number that is
 * new each time a record is taken, so that the request never reaches the next
 * user of the record.  KV_TICKET is set in every ticket, and never in `need` or
 * `sync_ms`, which take the ticket's place once the operation is submitted.
 */
#define KV_TICKET_GO  0x80000000u
#define KV_TICKET     0x40000000u

_Static_assert(KV_VALUE_MAX < KV_TICKET, "kv_op_t.need is no ticket");


typedef struct kv_op_s  kv_op_t;

struct kv_op_s {
    _Atomic uint32_t   state;      /* kv_op_state_t */
    uint16_t           worker;     /* whose */
    uint8_t            code;       /* kv_op_code_t, KV_OP_RESERVE or such */
    uint8_t            flags;      /* KV_OP_SYNC and the like */

    union {
        int32_t           result;     /* kv_rc_t, once decided or DONE */
        _Atomic uint32_t  began;      /* upload: kv_began() of its request */
    };

    union {
        _Atomic uint32_t  need;       /* KV_OP_RESERVE: bytes asked for */
        _Atomic uint32_t  sync_ms;    /* others: durable within; 0: any time */

        /* BUILDING, PINNED: a number for this use, and KV_TICKET_GO */
        _Atomic uint32_t  ticket;
    };

    union {
        kv_op_t          *next;       /* queue: the one pushed before; of a
                                         group: the next one, or NULL */

        /*
         * Upload: the bytes received (low half) by the time it had lasted this
         * many milliseconds (high half); see kv_op_received().
         */
        _Atomic uint64_t  mark;
    };

    union {
        kv_op_t          *follow;     /* committer: the one pushed after */
        uint64_t          found;      /* decided: see kv_decide() */
        int64_t           sum;        /* KV_OP_INCR: once it is applied */

        struct {
            _Atomic uint32_t  pace;   /* upload: bytes a second up to `mark` */
            _Atomic uint32_t  last;   /* the last bytes came, as in `mark` */
        };
    };

    /*
     * What it puts, deletes or touches (key), has deleted (KV_OP_RETURN), or
     * pins.  Stored by kv_op_set_entry() and the calls of kv_entry.h, and read
     * by kv_op_entry() where the record may be a dead worker's; plainly only by
     * its owner, or the committer.
     */
    kv_entry_t        *entry;

    union {
        uint64_t       lsn;        /* once it is in a batch, else 0 */
        kv_op_t       *members;    /* KV_OP_GROUP: the first, linked by next */

        /* BUILDING: the value's length or KV_LENGTH_UNKNOWN */
        struct {
            uint32_t          value_len;
            _Atomic uint32_t  received;
        };
    };

    /*
     * When it was submitted.  BUILDING, PINNED: when it began, monotonic; or
     * KV_OP_STOPPED and how long it had lasted when it began to wait for
     * memory.
     */
    _Atomic uint64_t   queued_ns;
    void              *data;       /* the owner's, of no meaning here */
};


/*
 * A record's entry.  Other processes read it after its owner's death, so each
 * store must be a single one, ordered with the stores around it.
 */

static inline kv_entry_t *
kv_op_entry(const kv_op_t *op)
{
    return __atomic_load_n(&op->entry, __ATOMIC_ACQUIRE);
}


static inline void
kv_op_set_entry(kv_op_t *op, kv_entry_t *e)
{
    __atomic_store_n(&op->entry, e, __ATOMIC_RELEASE);
}


/* Whether it makes a value. */

static inline bool
kv_op_puts(const kv_op_t *op)
{
    return op->code == KV_OP_PUT || op->code == KV_OP_INCR;
}


/*
 * The entry that a record pins in this state, which the caller has read, or
 * NULL.  With the heap's lock held, or by the record's owner.
 */
static inline kv_entry_t *
kv_op_pinned(const kv_op_t *op, uint32_t state)
{
    kv_entry_t  *e;

    switch (state) {

    case KV_OP_PINNED:
        return kv_op_entry(op);

    case KV_OP_TAKEN:
    case KV_OP_DONE:

        /* a delete's key, or its copy of a value, is in no pieces */

        if (__atomic_load_n(&op->code, __ATOMIC_RELAXED) != KV_OP_DELETE) {
            return NULL;
        }

        e = kv_op_entry(op);

        return e && (e->flags & KV_ENTRY_PIECES) ? e : NULL;

    default:
        return NULL;
    }
}


/* The pace of an upload is taken over at least this time; milliseconds. */
#define KV_OP_PACE     500u

#define KV_OP_STOPPED  0x8000000000000000u


/*
 * When a request began, in units of 2^16 ns.  Compare with kv_older(): the
 * count wraps every three days.
 */
static inline uint32_t
kv_began(uint64_t ns)
{
    return (uint32_t) (ns >> 16);
}


static inline bool
kv_older(uint32_t a, uint32_t b)
{
    return (int32_t) (a - b) < 0;
}


/* How long an upload or a pin has lasted, nanoseconds. */

static inline uint64_t
kv_op_lasted(const kv_op_t *op, uint64_t now)
{
    uint64_t  since;

    since = kv_get_relaxed(op->queued_ns);

    if (since & KV_OP_STOPPED) {
        return since & ~KV_OP_STOPPED;
    }

    return now > since ? now - since : 0;
}


/*
 * The owner notes how many bytes an upload has received.  Once KV_OP_PACE has
 * passed since the mark, what came since then gives the pace, and the mark
 * moves.
 */
static inline void
kv_op_received(kv_op_t *op, uint32_t received, uint64_t now)
{
    uint64_t  mark, ms, took;

    mark = kv_get_relaxed(op->mark);
    ms = kv_op_lasted(op, now) / 1000000;
    took = ms - kv_min(ms, mark >> 32);

    if (took >= KV_OP_PACE) {
        kv_set_relaxed(op->pace,
                       (uint32_t) kv_min((received - (uint32_t) mark) * 1000ull
                                         / took, UINT32_MAX));
        kv_set_relaxed(op->mark, ms << 32 | received);
    }

    kv_set_relaxed(op->last, (uint32_t) ms);
    kv_set_relaxed(op->received, received);
}


typedef struct kv_op_chunk_s  kv_op_chunk_t;

#define KV_OP_CHUNK  63            /* with the header, 4 KiB */

struct kv_op_chunk_s {
    kv_op_chunk_t     *next;
    uint64_t           unused[7];
    kv_op_t            op[KV_OP_CHUNK];
};

_Static_assert(sizeof(kv_op_t) == 64, "an operation is a cache line");
_Static_assert(sizeof(kv_op_chunk_t) == 4096, "a chunk of operations");


#define KV_HUNGRY  4               /* hungry uploads that a worker shows */
#define KV_CHANGES  128            /* changes of keys that it is told of */

/*
 * Counters of the store's caller; their meaning is not known here.  Zero in a
 * new zone.
 */
#define KV_COUNTERS  1136

typedef _Atomic uint64_t  kv_counter_t;


#define KV_EPOCHS  2               /* readers a process may have at a time: */
#define KV_EPOCH_MAIN  0           /* its event loop, */
#define KV_EPOCH_SCAN  1           /* and its snapshot */


typedef struct {
    /* the owner's main thread, or the committer that reaps it */
    kv_mutex_t                alive;

    /* under `alive` */
    _Atomic uint32_t          in_use;
    _Atomic int32_t           pid;
    _Atomic uint32_t          wake;     /* kv_store_wakes()'s number + 1; 0:
                                           it cannot be woken */

    /* the committer sets, the owner clears it: some holders must go */
    _Atomic uint32_t          evict;

    /*
     * The owner (kv_fair.h): its oldest hungry uploads, each by kv_began()
     * (high half) and the bytes that it still needs, then 0; and when it wrote
     * this, monotonic.
     */
    _Atomic uint64_t          hungry[KV_HUNGRY];
    _Atomic uint64_t          hungry_ns;

    /* the owner: when it last ran, monotonic; see kv_store_beat() */
    _Atomic uint64_t          beat_ns;

    /* the owner: it polls, and needs no waking (kv_store_polling()) */
    _Atomic uint32_t          polling;

    /* the owner: it holds nothing of generations before this one */
    _Atomic uint64_t          generation;

    /*
     * The owner's snapshot: the entry that it pins while it copies it, or 0;
     * bit 0 is set while the count is being taken back.
     */
    _Atomic uintptr_t         scanned;

    /* reads that wait for a change (kv_await.c); the owner: how many, */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint32_t          waiters;
    _Atomic uint32_t          changes_read;
    uint32_t                  awaited_bits;
    _Atomic uint64_t         *awaited;  /* and a filter of their keys */

    /*
     * The feed's watchers (kv_watch.c); the owner: how many, lengths of their
     * prefixes, which are in the filter, too, and how far it has read.
     */
    _Atomic uint32_t          watchers;
    _Atomic uint32_t          watched;
    _Atomic uint64_t          feed_read;

    /* the committer: hashes of keys that changed, a ring */
    _Alignas(KV_CACHE_LINE)
    _Atomic uint32_t          changes_written;
    _Atomic uint32_t          changed_any;  /* any key; the owner clears it */
    _Atomic uint32_t          change[KV_CHANGES];

    /* the owner's threads, each its own */
    struct {
        _Alignas(KV_CACHE_LINE)
        _Atomic uint64_t      value;
    } epoch[KV_EPOCHS];

    /* the owner's records, and more in the heap; `next` under its lock */
    _Alignas(KV_CACHE_LINE)
    kv_op_chunk_t             first;

    /* the owner's caller; kept for the next owner */
    _Alignas(KV_CACHE_LINE)
    kv_counter_t              counter[KV_COUNTERS];
} kv_worker_t;


/*
 * Enters an epoch: until kv_epoch_leave() nothing that the caller finds in the
 * map is freed.  Not nested.  Leave soon: while a reader stays, no memory that
 * is retired after its epoch can be freed.
 */
static inline void
kv_epoch_enter(kv_worker_t *worker, unsigned which, _Atomic uint64_t *global)
{
    uint64_t  now;

    now = atomic_load_explicit(global, memory_order_relaxed);

    atomic_store_explicit(&worker->epoch[which].value, now,
                          memory_order_relaxed);
    kv_fence();
}


static inline void
kv_epoch_leave(kv_worker_t *worker, unsigned which)
{
    atomic_store_explicit(&worker->epoch[which].value, 0, memory_order_release);
}


/* Makes `n` workers that are not in use.  KV_OK or KV_ERROR. */
kv_rc_t kv_workers_create(kv_worker_t *workers, unsigned n);

/*
 * Takes a free kv_worker_t for the calling thread, which must live as long as
 * the process uses it: the main one, or that of a host (store/kv_host.h).
 * KV_OK with its number in *i, or KV_BUSY if there is none.  Those of dead
 * processes count as taken until they are reaped.  But if there is no other,
 * the caller gets a dead one's, with the records in it, which are reaped with
 * its own: no other process may be left to reap them.
 */
kv_rc_t kv_worker_acquire(kv_worker_t *workers, unsigned n, unsigned *i);

/*
 * Gives it back without freeing anything, from the same thread: to the others
 * it is a dead process's from now on, and they reap it.
 */
void kv_worker_abandon(kv_worker_t *worker);

/*
 * Whether it is in use by a process that is dead.  If so it is taken out of all
 * epochs, and the caller holds its mutex until kv_worker_unlock().
 */
bool kv_worker_lock_dead(kv_worker_t *worker);
void kv_worker_unlock(kv_worker_t *worker);

/*
 * Makes a dead process's kv_worker_t, which the caller locked, free for others,
 * and unlocks it.  Its chunks in the heap must be gone, and the records in the
 * first one FREE.
 */
void kv_worker_reaped(kv_worker_t *worker);

/*
 * Forgets all of the worker's records, with what they name: the heap is made
 * anew.  By the owner, or while no process uses the zone.
 */
void kv_worker_forget_ops(kv_worker_t *worker);

/*
 * The FREE records of the first chunk, linked by `next`, and in *n how many
 * there are: all of them, unless the caller got a dead process's kv_worker_t.
 * By the owner, before it has taken a record.
 */
kv_op_t *kv_worker_first_ops(kv_worker_t *worker, unsigned *n);

/*
 * The least epoch that a living reader is in, or UINT64_MAX.  The caller has
 * made a fence since the unlinking.
 */
uint64_t kv_epoch_oldest(kv_worker_t *workers, unsigned n);

/*
 * Adds a chunk of FREE records from the heap, if at least `leave` pages stay
 * free.  KV_OK with the chunk in *chunk, KV_NO_MEMORY, KV_DEAD.
 */
kv_rc_t kv_worker_add_chunk(kv_heap_t *heap, kv_worker_t *worker,
    unsigned number, uint32_t leave, kv_op_chunk_t **chunk);


#endif /* KV_WORKER_H */
