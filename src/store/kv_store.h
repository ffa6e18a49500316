
/*
 * The store: what the HTTP side calls.  Each process has one kv_store_t for
 * each store; it is the process's own and leads to the zone that all of them
 * share.
 *
 * Life: the master makes the zone and recovers it (kv_store_create()), or finds
 * it again on a reload (kv_store_attach()), and forks.  A worker takes a
 * kv_worker_t in the zone (kv_store_enter()), works, and gives it back
 * (kv_store_leave()).
 *
 * Threads: every call belongs to the process's main thread and returns at once,
 * except those that do the work and may take long, which belong into a pool's
 * thread each: kv_store_commit(), kv_store_background(), and two of a backup.
 * kv_store_submit() and kv_store_todo() return when one of them has to run.
 *
 * Waking: a worker sleeps until its eventfd (kv_store_wakes()) becomes
 * readable, then calls kv_store_todo() and polls its operations.  While it
 * waits for any it must also call kv_store_todo() every KV_STORE_WATCH ms or
 * so: that is how a worker notices that the committer died.  One that cannot be
 * woken calls it always.
 */


#ifndef KV_STORE_H
#define KV_STORE_H


#include "base/kv_measure.h"
#include "feed/kv_feed.h"
#include "store/kv_store_dir.h"
#include "store/kv_version.h"
#include "memory/kv_worker.h"


#define KV_ZONE_MIN           (4u << 20)  /* bytes */
#define KV_STORE_SEGMENT_MAX  (1u << 30)  /* bytes of a log segment */

/* kv_worker_t in a zone */
#define KV_WORKERS_MIN   32u
#define KV_WORKERS_MAX   1024u

/* at a time, of all workers */
#define KV_STORE_BACKUPS  4

#define KV_STORE_WATCH  100          /* milliseconds */

#define KV_STORE_TTL_MAX  315360000u /* seconds: ten years */

/* of kv_store_next_timeout(); milliseconds */
#define KV_TIMEOUT_NOW    1u
#define KV_TIMEOUT_NEVER  UINT64_MAX

/* see kv_store_beat(); milliseconds */
#define KV_STORE_BEAT  100
#define KV_STORE_LATE  250

/*
 * The committer marks the log (kv_format.h) when nothing was written for this
 * many milliseconds, so that a client that writes one by one does not wait for
 * the mark.
 */
#define KV_STORE_QUIET  50


typedef enum {
    KV_SYNC_ALWAYS = 0,              /* before a write is answered */
    KV_SYNC_INTERVAL,                /* that often */
    KV_SYNC_OFF                      /* never: the system decides */
} kv_sync_t;


/* Another node of the cluster; each address is IP:PORT, [IPv6]:PORT. */

#define KV_PEERS_MAX  8

typedef struct {
    const char     *address;         /* by which clients reach it, */
    const char     *peer_address;    /* and by which the other nodes do */
} kv_peer_t;


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
    const char     *archive;         /* the archive's path, for messages, */
    int             archive_fd;      /* and that directory; -1: there is none */
    uint64_t        archive_hold;    /* bytes of log that are kept for it */
    uint64_t        archive_keep;    /* milliseconds that it goes back; 0: to
                                        its beginning */
    bool            list;            /* whether keys can be listed: a zone keeps
                                        what it was made with */
    uint64_t        feed;            /* bytes of the change feed, a multiple of
                                        KV_FEED_ALIGN from KV_FEED_MIN on; 0:
                                        there is none.  As `list` */
    const char     *cluster;         /* this node's address, at most
                                        KV_ADDRESS_MAX bytes, of a replicated
                                        log (kv_replica.h); NULL: it is none.
                                        As `list` */
    kv_peer_t       peers[KV_PEERS_MAX];  /* the other nodes, in the order of
                                        the bytes of `address`.  As `list` */
    unsigned        npeers;          /* 0: the node is alone, else it is hosted,
                                        too */
    const char     *peer_listen;     /* where it listens for them; NULL: it is
                                        alone */
    uint64_t        uploads;         /* bytes that unfinished uploads may hold;
                                        0: a share of the zone */
    uint64_t        readers;         /* the same for values that were replaced
                                        and are kept for slow readers */
    bool            hosted;          /* one process commits for all: see
                                        kv_store_host() */
    kv_log_pt       log;             /* called from any thread */
    void           *log_ctx;
    bool          (*stopping)(void); /* whether the process is to quit; any
                                        thread; may be NULL */
} kv_store_conf_t;


typedef struct kv_store_s  kv_store_t;


/*
 * Operations that are done all or not at all: see below.  The caller's; it only
 * reads `op`, which is submitted for all of them, and `n`.
 */

typedef struct {
    kv_op_t        *op;
    kv_op_t        *last;
    unsigned        n;               /* operations */
    size_t          bytes;           /* of the log */
} kv_group_t;


/* Work to do next; each bit is given to one caller, which must do it. */

#define KV_TODO_COMMIT      1u       /* run kv_store_commit() in a thread */
#define KV_TODO_BACKGROUND  2u       /* run kv_store_background() in one */
#define KV_TODO_RESET       4u       /* kv_store_reset() */


/*
 * The bytes of a zone of `size` bytes that are not for keys and values, with
 * that many workers.
 */
size_t kv_store_overhead(size_t size, unsigned workers);

/*
 * Makes a store in the zone of `size` bytes at `mem` (aligned to 64 bytes,
 * zeroed), conf->feed of which are the feed's, and loads what the directory
 * holds.  `io` and `conf`'s strings must
 * outlive it.  KV_OK, or, with `err` filled, KV_NO_MEMORY (the zone is too
 * small), KV_DAMAGED, KV_ERROR; then the caller has nothing to free.
 */
kv_rc_t kv_store_create(kv_store_t **store, const kv_store_conf_t *conf,
    void *mem, size_t size, unsigned workers, kv_io_t *io, int dirfd,
    kv_err_t *err);

/*
 * The same for a zone that exists already, with another configuration.
 * KV_DECLINED with `err` filled if it is of another layout, or `list` or `feed`
 * differs.
 */
kv_rc_t kv_store_attach(kv_store_t **store, const kv_store_conf_t *conf,
    void *mem, kv_io_t *io, int dirfd, kv_err_t *err);

/*
 * Counts a configuration that nginx did not take, in the zone that the running
 * one has at `mem`.  Nothing if that is of another layout, or no zone yet.  In
 * the master.
 */
void kv_store_reload_refused(void *mem);

/*
 * Says that this store's configuration is the newest that took effect:
 * `segment`, `snapshot`, `uploads` and `readers`, which belong to the store
 * rather than to a request, apply to all processes from now on.
 * kv_store_create() does it, too.
 */
void kv_store_in_force(kv_store_t *store);

/*
 * Whether the store's archive can go on with it: see kv_archive_fits() in
 * disk/kv_archive.h.  After kv_store_create(), in the master.
 */
kv_rc_t kv_store_archive_fits(kv_store_t *store, kv_err_t *err);

/* Frees the process's own part; the zone stays. */
void kv_store_destroy(kv_store_t *store);

/*
 * How processes wake each other: process number i by the eventfd fds[i].  A
 * number below `n` means the same descriptor in all processes that know it;
 * processes that were forked earlier may know fewer.  `mine` is the caller's
 * own number; from `n` on it cannot be woken.  The array is the caller's and
 * must outlive the store.  Call it before kv_store_enter(), or once more after.
 */
void kv_store_wakes(kv_store_t *store, const int *fds, unsigned n,
    unsigned mine);

/*
 * Takes a kv_worker_t of the zone.  KV_OK or KV_BUSY (all are taken).  In the
 * worker's main thread; does nothing if the process has one.
 */
kv_rc_t kv_store_enter(kv_store_t *store);

/* Whether the process has one. */
bool kv_store_entered(const kv_store_t *store);

/* How many the zone has, taken or free. */
unsigned kv_store_workers(const kv_store_t *store);

/*
 * Gives it back.  Whatever the caller still holds is freed as if it had died,
 * but without delay.
 */
void kv_store_leave(kv_store_t *store);

/*
 * The same for a process that lives on.  It must have no operations and no
 * threads under way: it closes its files, and the other processes sync what is
 * still to be synced.  It may enter again.
 */
void kv_store_suspend(kv_store_t *store);

/*
 * The last call of the master, when all workers are gone: notes that the log is
 * whole and where it ends (kv_wal_leave_closed()).  Does nothing if a process
 * is still there, or if the log is not what it should be.
 */
void kv_store_close(kv_store_t *store);

/*
 * This process is to quit: wakes the others for the work that it leaves, so
 * that they do it or set timers for it.
 */
void kv_store_leave_work(kv_store_t *store);

/*
 * Whether it is recovered and takes writes (KV_STATE_READY), for /health.
 * Where writes are refused for the time being, the call requests that the
 * background task check whether they still need be: see kv_store_todo().
 */
bool kv_store_healthy(kv_store_t *store);


/*
 * Finds a key that has not expired.  KV_OK with the entry in *e, which is good
 * to read until kv_store_read_done(), which the caller calls before its event
 * handler returns.  After other results it is not needed: KV_NOT_FOUND,
 * KV_UNAVAILABLE; KV_AGAIN: a group is just becoming visible (kv_group.h), the
 * caller tries again a moment later.
 */
kv_rc_t kv_store_read(kv_store_t *store, const void *key, size_t len,
    kv_entry_t **e);

void kv_store_read_done(kv_store_t *store);

/*
 * The same for a caller that cannot try again later: never KV_AGAIN.  While a
 * group is becoming visible it finds what the key had before.  When that entry
 * expires may be the group's doing already: nothing is to be told of it.
 */
kv_rc_t kv_store_read_now(kv_store_t *store, const void *key, size_t len,
    kv_entry_t **e);

/*
 * The bytes of a value that is not in pieces; of any other, up to `n` parts of
 * it from part `first` on.  As kv_entry_value() and kv_entry_iov().
 */
const void *kv_store_value(const kv_entry_t *e);
size_t kv_store_value_iov(const kv_entry_t *e, struct iovec *iov, size_t n,
    size_t first);

/*
 * What is stored beside the value.  True: `meta` points into the entry; false:
 * nothing.
 */
bool kv_store_meta(const kv_entry_t *e, kv_meta_t *meta);

/* The version of the entry that was just read. */
kv_version_t kv_store_version(kv_store_t *store, const kv_entry_t *e);

/* In how many milliseconds it expires, at least 1; 0: never. */
uint64_t kv_store_expires(kv_store_t *store, const kv_entry_t *e);

/*
 * What a list calls with each key of `n` bytes, and its entry, or NULL: it has
 * expired, or has just been deleted.  Both are good to read until it returns,
 * but when it expires is told by `expires` alone, as by kv_store_expires(): a
 * group may be changing the entry by now.  It returns whether to go on.
 */
typedef bool (*kv_store_list_pt)(void *ctx, const void *key, size_t n,
    const kv_entry_t *e, uint64_t expires);

/*
 * Visits the keys in the order of their bytes, from the key `from` on (with
 * `after`, behind it), until the callback says no.  As long as it lasts no
 * memory is freed, so a caller who wants many goes on in another event.
 * KV_OK; KV_DECLINED: the zone has no index (list=off); KV_UNAVAILABLE.
 * KV_AGAIN: a group is becoming visible; what was visited is good, and a moment
 * later the caller goes on behind that.  A group's changes are seen all or not
 * at all, as far as the keys visited before it became visible allow.
 */
kv_rc_t kv_store_list(kv_store_t *store, const void *from, size_t n, bool after,
    kv_store_list_pt cb, void *ctx);

/*
 * The version of the newest write that is applied: a list that begins after
 * this call shows it, and all before it.
 */
kv_version_t kv_store_state_version(kv_store_t *store);

/*
 * A read that waits for a change of its key.  The memory is the caller's, from
 * kv_store_await() until kv_store_await_end(), or until the process gives its
 * kv_worker_t back.
 */

typedef struct kv_waiter_s  kv_waiter_t;

struct kv_waiter_s {
    kv_waiter_t    *next;            /* the store's */
    kv_waiter_t   **link;
    uint64_t        hash;
    void           *data;            /* the caller's */
};

/*
 * Begins to wait: for each change of the key that this process has not seen
 * before, it is woken, and finds the waiter as said below.  A change before the
 * call is not told, so the caller reads the key after it.  KV_OK,
 * KV_NO_MEMORY (of the process), KV_UNAVAILABLE.
 */
kv_rc_t kv_store_await(kv_store_t *store, kv_waiter_t *waiter, const void *key,
    size_t len);

void kv_store_await_end(kv_store_t *store, kv_waiter_t *waiter);

/*
 * When the process was woken: collects the waiters whose keys have changed, or
 * all of them.  They may be more than those whose keys really did: rarely, if
 * few changes came; but all after a clear, a rebuild, the committer's death, or
 * more changes at a time than KV_CHANGES.
 */
void kv_store_await_collect(kv_store_t *store, bool all);

/*
 * Takes one of those that were collected, the first of them first, or NULL:
 * there is none.  It waits on until the caller ends that.
 */
kv_waiter_t *kv_store_await_next(kv_store_t *store);

/*
 * The change feed (feed/kv_feed.h), of a store with conf->feed: each put,
 * delete, expiry and clear, in the order in which all processes see them.
 *
 * A process reads it from a position on, and is woken when there is more of
 * what it watches: keys with a prefix, or one key.  Others' changes, which it
 * reads, too, wake it now and then.
 */

/* Whether there is one. */
bool kv_store_feeds(const kv_store_t *store);

/*
 * Begins, or ends, to watch keys with the prefix `name`, or the key of this
 * name; as often as is liked for each.  What comes behind the position that
 * kv_store_feed_end() returns after that is not missed.  KV_OK, KV_NO_MEMORY
 * (of the process), KV_UNAVAILABLE.
 */
kv_rc_t kv_store_watch(kv_store_t *store, const void *name, size_t len,
    bool prefix);
void kv_store_watch_end(kv_store_t *store, const void *name, size_t len,
    bool prefix);

/*
 * The position behind the change of a version.  KV_OK; KV_DECLINED: some of
 * what is behind it is not there any more; KV_PRECONDITION: it was lost, was
 * never given, or it is not known which write it is of, as it is of another
 * store, or of too long ago; KV_UNAVAILABLE: not now; KV_ERROR: the store has
 * failed.  `rec` is the caller's.
 */
kv_rc_t kv_store_feed_find(kv_store_t *store, const kv_version_t *after,
    uint64_t *pos, kv_feed_record_t *rec);

/*
 * The version of the change with this LSN as kv_store_feed_find() takes it
 * after any restart that loses nothing up to there: with the incarnation that
 * wrote it, which is in the log with it.  The present one, which others have
 * in their versions, need not be on disk yet.
 */
kv_version_t kv_store_feed_id(kv_store_t *store, uint64_t lsn);

/* As kv_feed_read(), or KV_UNAVAILABLE; KV_ERROR: for good, it has failed. */
kv_rc_t kv_store_feed_read(kv_store_t *store, uint64_t pos,
    kv_feed_record_t *rec);

/* The end of the feed; has all that is up to kv_store_state_version() then. */
uint64_t kv_store_feed_end(kv_store_t *store);

/* Says how far the process has read, so that it is not overtaken asleep. */
void kv_store_feed_seen(kv_store_t *store, uint64_t pos);

/*
 * Keeps the entry that was just read until kv_store_release(*op).  Only for
 * an entry in pieces; others are small enough to copy.  KV_OK, KV_NO_MEMORY,
 * KV_UNAVAILABLE.
 */
kv_rc_t kv_store_pin(kv_store_t *store, kv_entry_t *e, kv_op_t **op);


/*
 * Begins a put of `value_len` bytes, with memory for all of them, or
 * KV_LENGTH_UNKNOWN.  The key expires `ttl` seconds after kv_store_submit(), at
 * most KV_STORE_TTL_MAX; 0: never.  KV_OK with *op to write to; KV_UNAVAILABLE;
 * KV_NO_MEMORY: no memory now.
 */
kv_rc_t kv_store_put(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t value_len, uint32_t ttl, kv_op_t **op);

/*
 * The same for a value that may have metadata, or arrives: the first `n` bytes
 * have come, and it gets memory for those, and no more.  Results as above.
 */
kv_rc_t kv_store_upload(kv_store_t *store, const kv_name_t *name,
    uint32_t value_len, uint32_t n, uint32_t ttl, kv_op_t **op);

/*
 * Writes the next bytes of the value.  Results as above; after KV_NO_MEMORY,
 * which also means that an older upload comes first, the caller may write the
 * same bytes again.
 */
kv_rc_t kv_store_write(kv_store_t *store, kv_op_t *op, uint32_t offset,
    const void *data, size_t n);

/*
 * Ends a value that arrived, or whose length was not known: all `value_len`
 * bytes are there.  Results as above; after KV_NO_MEMORY the caller may try
 * again.
 */
kv_rc_t kv_store_finish(kv_store_t *store, kv_op_t *op, uint32_t value_len);

/*
 * Whether there is memory for a value of that length now, as far as one can
 * tell; 0 if the length is not known.  `name_len` is what its key takes, and
 * its metadata.  Results as above.
 */
kv_rc_t kv_store_fits(kv_store_t *store, size_t name_len,
    uint32_t value_len);

/*
 * Begins an operation without a value: results as above.  A touch gives a key
 * that has a value another time of expiry, `ttl` as above; its version stays.
 */
kv_rc_t kv_store_delete(kv_store_t *store, const void *key, uint16_t key_len,
    kv_op_t **op);
kv_rc_t kv_store_touch(kv_store_t *store, const void *key, uint16_t key_len,
    uint32_t ttl, kv_op_t **op);
kv_rc_t kv_store_clear(kv_store_t *store, kv_op_t **op);

/*
 * Begins to add `by` to the number that the key's value is (base/kv_number.h),
 * whose time of expiry stays; a key without a value counts as zero, and gets
 * `ttl`.  The version that this makes has the sum for its value.  `ttl` and
 * results as of kv_store_put().
 */
kv_rc_t kv_store_increment(kv_store_t *store, const void *key,
    uint16_t key_len, int64_t by, uint32_t ttl, kv_op_t **op);

/*
 * A group: all of its operations are done, or none, and readers in any process
 * see all of them, or none.  The caller begins it, then one operation after the
 * other, as above (puts, deletes, touches and increments, with or without a
 * condition, but none that returns what it deletes), and adds each once it is
 * complete: a put's value is written.  Each is decided against what those
 * before it have made.  Then the caller submits group->op, waits for it, looks
 * at the members, and releases it, and so them; instead of submitting it, too.
 *
 * kv_store_group() gives results as above.  kv_store_group_add(): KV_OK, the
 * operation belongs to the group; KV_DECLINED: there are more than
 * KV_GROUP_MAX, or they are larger than a batch of the log may be (4 MiB and
 * 256 bytes for each of them always fit, where kv_zone's segments are not
 * smaller): the operation stays the caller's.
 */
#define KV_GROUP_MAX  1024u

kv_rc_t kv_store_group(kv_store_t *store, kv_group_t *group);

/*
 * Begins a delete that is to be added to the group, or, with NULL, is one of
 * many that a client has at a time: as kv_store_delete(), but it leaves single
 * deletes the memory that is kept for these in a full zone.  A group of nothing
 * but deletes finds KV_STORE_GROUP_KEPT bytes there, if no other has them, for
 * records and keys: enough for 1,000 keys of 50 bytes.
 */
#define KV_STORE_GROUP_KEPT  ((KV_HEAP_GROUPS - KV_HEAP_LAST) * KV_PAGE_SIZE)
kv_rc_t kv_store_group_delete(kv_store_t *store, const kv_group_t *group,
    const void *key, uint16_t key_len, kv_op_t **op);

kv_rc_t kv_store_group_add(kv_store_t *store, kv_group_t *group, kv_op_t *op);

/* The bytes that the records of a group may take in the log. */
size_t kv_store_group_space(kv_store_t *store);

/*
 * The members, in the order in which they were added; NULL: no more.  Once the
 * group is done with KV_OK, kv_store_result() and kv_store_sum() tell what each
 * has made.
 */
static inline kv_op_t *
kv_store_group_first(const kv_group_t *group)
{
    return group->op->members;
}

static inline kv_op_t *
kv_store_group_next(const kv_op_t *op)
{
    return op->next;
}

/*
 * Of a group that is done otherwise: the member whose result this is, and for
 * which kv_store_result() tells what was there; NULL: it is about all of them.
 * Nothing was done.
 */
kv_op_t *kv_store_group_failed(kv_op_t *group);

/*
 * A group of deletes of all keys that begin with `prefix`, of `n` bytes, which
 * must stay: of those that are there all the time, and at most `max`, up to
 * KV_GROUP_MAX; of those that come or go meanwhile it may have some.  It is
 * made in steps, each of which visits at most `keys` keys, those that are gone
 * included.  Results of a step:
 *
 *     KV_OK           the group is complete: the caller submits it, or, if it
 *                     has no operations, is done; if one of the keys is deleted
 *                     before it is decided that is KV_PRECONDITION, and nothing
 *                     was done
 *     KV_BUSY         there is more to do
 *     KV_AGAIN        the same, a moment later: see kv_store_list()
 *     KV_OVERFLOW     there are more than `max`
 *     KV_DECLINED     they take more than a batch of the log may have, or the
 *                     zone has no index
 *     KV_NO_MEMORY, KV_UNAVAILABLE
 *
 * From the moment when group.op is not NULL the caller owns it, and releases it
 * if it does not submit it.  After that, kv_store_prefix_again() has the next
 * steps make another one.
 */
typedef struct {
    kv_group_t      group;

    /* private */
    kv_store_t     *store;
    const void     *prefix;
    size_t          n;
    size_t          bytes;           /* of the log, for all that were counted */
    unsigned        max;
    unsigned        found;
    unsigned        left;            /* of `keys` */
    kv_rc_t         rc;
    bool            counted;         /* all were: they are added now */
    size_t          at_len;          /* 0: none was visited */
    char            at[KV_KEY_MAX];  /* the last one */
} kv_prefix_t;

void kv_store_prefix_begin(kv_prefix_t *p, const void *prefix, size_t n,
    unsigned max);
kv_rc_t kv_store_prefix_step(kv_store_t *store, kv_prefix_t *p, unsigned keys);
void kv_store_prefix_again(kv_prefix_t *p);

/* The version of a group that was done: that of the last change. */
kv_version_t kv_store_group_version(kv_store_t *store, const kv_group_t *group);

/*
 * Has a delete return the value, before it is submitted.  Then it is
 * KV_NOT_FOUND if there is none, and kv_store_returned() gives the value once
 * it is done.
 */
void kv_store_return(kv_op_t *op);

/*
 * Sets the condition of a put, a delete, a touch or an increment, before it is
 * submitted: one of the flags of KV_OP_IF, or KV_OP_IF_OTHER.  With these two,
 * KV_OP_IF_VERSION and KV_OP_IF_OTHER, `version` is one that the key has or
 * had, read by this process since it entered; or KV_STORE_NO_LSN, which no key
 * ever has.
 */
#define KV_STORE_NO_LSN  ((UINT64_C(1) << 48) - 1)
void kv_store_if(kv_op_t *op, uint8_t flag, const kv_version_t *version);

/*
 * An operation that requests `need` bytes of memory from the committer (0: only
 * to free what no reader sees any more): it compacts what is free but
 * scattered, and tells those who hold memory for too long to go.  The caller
 * submits it.  `own` is what the caller's own uploads hold, which no other
 * process can free.  Results of the operation: KV_OK (there is memory now),
 * KV_AGAIN (there may be soon: try, and request again a little later),
 * KV_NO_MEMORY (try once more; there is none to be had).
 */
kv_rc_t kv_store_reserve(kv_store_t *store, uint32_t need, uint64_t own,
    kv_op_t **op);

/*
 * Marks the operation, before it is submitted, as one of a request that has
 * waited for long in all (KV_OP_URGENT), or of an upload that has for its next
 * bytes (KV_OP_STUCK).
 */
static inline void
kv_store_urge(kv_op_t *op, uint8_t flags)
{
    op->flags |= flags;
}

/*
 * Whether a kv_store_reserve() would be in vain: nothing was freed since the
 * committer found no memory for as much.
 */
bool kv_store_full(kv_store_t *store, uint32_t need);

/* Counts a write that is refused because the zone is full, and logs it. */
void kv_store_refused(kv_store_t *store);

/*
 * Whether holders of memory in this process must go: the caller then checks all
 * its operations with kv_store_must_go().
 */
bool kv_store_evicted(kv_store_t *store);

/*
 * Whether the caller must give up this operation, which is an upload or a pin:
 * see kv_evict.h.
 */
static inline bool
kv_store_must_go(const kv_op_t *op)
{
    return kv_get_relaxed(op->ticket) & KV_TICKET_GO;
}

/* Sets how long an upload or a reader has lasted, in nanoseconds. */
static inline void
kv_store_set_lasted(kv_op_t *op, uint64_t ns)
{
    kv_set_relaxed(op->queued_ns, kv_now_ns() - ns);
}

/*
 * Stops the clock of an upload while it waits for memory, and starts it again:
 * that time is not the client's.
 */
static inline void
kv_store_stop_clock(kv_op_t *op)
{
    kv_set_relaxed(op->queued_ns,
                   kv_op_lasted(op, kv_now_ns()) | KV_OP_STOPPED);
}

static inline void
kv_store_start_clock(kv_op_t *op)
{
    kv_store_set_lasted(op, kv_op_lasted(op, kv_now_ns()));
}

/*
 * Notes that the worker runs.  It calls this every KV_STORE_BEAT ms while it
 * has uploads or pins, and before it reads what a client sent.  If the last
 * call is longer ago than KV_STORE_LATE, the worker was stopped, and that time
 * is not counted against its clients.
 */
void kv_store_beat(kv_store_t *store);

/*
 * Sets when an upload's request began, monotonic, nanoseconds, if not just now:
 * its age counts where memory is short (kv_fair.h).
 */
static inline void
kv_store_set_began(kv_op_t *op, uint64_t ns)
{
    kv_set_relaxed(op->began, kv_began(ns));
}

/* What an upload receives, bytes a second: at least a page. */
uint32_t kv_store_pace(const kv_op_t *op);

/* An upload that lacks memory for what it was sent. */

typedef struct {
    uint64_t        began_ns;        /* its request, monotonic */
    uint32_t        bytes;           /* that must stay free for it, > 0 */
} kv_hungry_t;

/* The oldest hungry uploads of the process: see kv_fair_show(). */
void kv_store_hungry(kv_store_t *store, const kv_hungry_t *hungry, unsigned n);

/* Bytes that an upload holds, which is not submitted. */
uint64_t kv_store_held(const kv_op_t *op);

/*
 * Submits an operation to the committer; kv_store_done() tells when it is done.
 * Operations of one process are done in the order in which it submitted them,
 * but for groups, and those that are refused, or decided not to be done: others
 * may be done before or after them.  Returns KV_TODO_... .
 */
unsigned kv_store_submit(kv_store_t *store, kv_op_t *op);

/*
 * Ends the delay of what is queued: the process is to end, and its clients
 * wait.
 */
void kv_store_start_now(kv_store_t *store);

/*
 * The process is to end: ends its threads soon, and the delay of what is
 * queued, and requests a sync of what was written.
 */
void kv_store_stop(kv_store_t *store);

/*
 * Whether it is done, and then its result: KV_OK, KV_NO_MEMORY, KV_NO_SPACE,
 * KV_PRECONDITION (its condition was false), KV_NOT_INTEGER, KV_OVERFLOW (of an
 * increment: the value is no number, the sum has more than 64 bits),
 * KV_NOT_FOUND (there was nothing to return, or to touch), KV_REFUSED (an error
 * that may pass: it has not happened), KV_UNAVAILABLE (any other error of the
 * log, or the store is being rebuilt: it may or may not have happened).
 */
bool kv_store_done(kv_op_t *op, kv_rc_t *rc);

/*
 * Of an operation that is done: the version that it has made or returns, that a
 * touch has found or, after KV_PRECONDITION, KV_NOT_INTEGER and KV_OVERFLOW,
 * that the key had then.  Its LSN is 0 if there is none.
 */
kv_version_t kv_store_result(kv_store_t *store, const kv_op_t *op);

/* The sum that an increment has made, which is done with KV_OK. */
int64_t kv_store_sum(const kv_op_t *op);

/*
 * The value that a delete returns, which is done with KV_OK: good to read until
 * the operation is released.
 */
const kv_entry_t *kv_store_returned(const kv_op_t *op);

/*
 * Has the operation keep what it returns for a client that may be slow, as
 * kv_store_pin() does.  Only for an entry in pieces.
 */
void kv_store_hold(kv_store_t *store, kv_op_t *op);

/*
 * Frees a record that is not submitted, or is done, and the entry that it may
 * still hold or pin; or those of a group.
 */
void kv_store_release(kv_store_t *store, kv_op_t *op);


/*
 * The worker calls it when its eventfd woke it, and while it waits.  Returns
 * what this process has to do, KV_TODO_... bits; nothing without a kv_worker_t.
 */
unsigned kv_store_todo(kv_store_t *store);

/*
 * Whether the worker polls for its results, often: then the committer does not
 * wake it for them.  After a call with false it must poll once more.
 */
void kv_store_polling(kv_store_t *store, bool polling);

/*
 * Gives the bits back (no thread took the task): other processes may do them.
 */
void kv_store_unclaim(kv_store_t *store, unsigned todo);

/* Whether the process is the committer: its commit is not over. */
bool kv_store_commits(kv_store_t *store);

/*
 * The answer to KV_TODO_RESET: the caller holds no record or entry any more (it
 * answered the requests that wait with KV_UNAVAILABLE), so that the zone can be
 * rebuilt.  A process that is to end gets KV_TODO_RESET each time, as soon as
 * the zone is broken: it may be the last one.
 */
void kv_store_reset(kv_store_t *store);

/*
 * Milliseconds until kv_store_todo() will have work that no client waits for: a
 * sync, the mark at the end of a log that has gone quiet, keys that expire; or
 * KV_TIMEOUT_NOW or KV_TIMEOUT_NEVER.
 */
uint64_t kv_store_next_timeout(kv_store_t *store);


/* Does the work of the committer, until none is left.  In a thread. */
void kv_store_commit(kv_store_t *store);

/*
 * The host of a store with conf->hosted, where all other processes leave
 * commits to it: none of them is ever given KV_TODO_COMMIT.  It may be any
 * process that knows how to wake the others (kv_store_wakes()), and needs not
 * be woken itself.  There may be several: the others wait, and go on where the
 * first ends or dies.  Without one writes wait.
 *
 * kv_store_host() is its part in the store, in a thread of its own: takes a
 * kv_worker_t, commits until kv_store_host_end(), and gives it back.  The
 * process calls nothing else of the store meanwhile, but what is below, in its
 * main thread.
 */
void kv_store_host(kv_store_t *store);

/*
 * A host that is to end does so when this is false: none waits to go on in its
 * place, and processes are left whose writes it would leave undone.  `waited`:
 * it was so for long; a host that itself waits for another ends then.
 */
bool kv_store_host_needed(kv_store_t *store, bool waited);

/* Has kv_store_host() return, soon. */
void kv_store_host_end(kv_store_t *store);

/*
 * For how many milliseconds, as far as was seen, there is no host; 0: there is
 * one, or the store is not hosted.  Up to KV_STORE_UNHOSTED that is what a new
 * one takes to start.  Any process's main thread.
 */
#define KV_STORE_UNHOSTED  1000
uint64_t kv_store_unhosted(kv_store_t *store);

/* A spare segment, a snapshot.  In a thread of its own. */
void kv_store_background(kv_store_t *store);


/*
 * A backup of the store, as disk/kv_backup_format.h has it.  It is the caller's
 * from kv_store_backup_begin() to kv_store_backup_end(), which belong to the
 * main thread; between these, one thread at a time is in the two others, which
 * read files.  It ends before the process gives its kv_worker_t back.
 */
typedef struct kv_store_backup_s  kv_store_backup_t;

typedef struct {
    uint64_t        lsn;             /* the last one that is in it, */
    uint64_t        incarnation;     /* and its incarnation */
    uint64_t        time_ms;         /* when it was begun, since the epoch */
    uint64_t        bytes;           /* of the file */
} kv_store_backup_info_t;

/*
 * Begins one.  The log is kept for it until it has grown by `hold` bytes.
 * KV_OK; KV_BUSY: there are as many as may be at a time; KV_UNAVAILABLE;
 * KV_NO_MEMORY (of the process).
 */
kv_rc_t kv_store_backup_begin(kv_store_t *store, uint64_t hold,
    kv_store_backup_t **backup);

/*
 * Makes it ready: what was answered before the call above will be in it.  KV_OK
 * with *info filled; KV_CANCELLED: it was stopped; KV_ERROR: it was logged why
 * there is none.
 */
kv_rc_t kv_store_backup_prepare(kv_store_backup_t *backup,
    kv_store_backup_info_t *info);

/*
 * The next bytes of the file, up to `size` of them.  KV_OK with *n, which is 0
 * behind the last one; KV_CANCELLED; KV_ERROR: it cannot go on, which was
 * logged, as where the log was kept for long enough.
 */
kv_rc_t kv_store_backup_read(kv_store_backup_t *backup, void *buf, size_t size,
    size_t *n);

/* Has a thread that is in one of these two return soon.  Main thread. */
void kv_store_backup_stop(kv_store_backup_t *backup);

/* Ends it; `sent`: the client got all.  No thread is in it any more. */
void kv_store_backup_end(kv_store_backup_t *backup, bool sent);


/*
 * The KV_COUNTERS counters of this process, NULL without a kv_worker_t; and
 * those of worker `number`, below kv_store_workers().  They are the caller's:
 * zero in a new zone, and kept when another process takes the kv_worker_t.
 */
kv_counter_t *kv_store_counters(kv_store_t *store);
const kv_counter_t *kv_store_counters_of(kv_store_t *store, unsigned number);


/* What a node of a cluster is. */

typedef enum {
    KV_ROLE_FOLLOWER = 0,
    KV_ROLE_CANDIDATE,
    KV_ROLE_LEADER
} kv_role_t;

typedef struct {
    kv_role_t       role;
    uint64_t        term;            /* 0: there was none yet */
    char            leader[KV_ADDRESS_MAX + 1];  /* where clients reach it;
                                        empty: none is known */
} kv_cluster_info_t;

/*
 * What the store's node is now, as its host has said it.  KV_OK; KV_DECLINED:
 * it is none, conf->cluster is NULL.  Any process.
 */
kv_rc_t kv_store_cluster_info(kv_store_t *store, kv_cluster_info_t *info);

/*
 * Whether this node answers what reads or writes the store: it leads, or has no
 * other beside it.  Any process.
 */
bool kv_store_leads(kv_store_t *store);


/* Plain figures of a store, for people. */

typedef struct {
    uint64_t        count;
    uint64_t        sum;
    uint64_t        min;
    uint64_t        max;
    double          mean;
    uint64_t        first;           /* the histogram's first bound, and how */
    uint64_t        upto[KV_HISTOGRAM_BOUNDS + 1];
                                     /* many were at most first << i; all */
} kv_figure_t;

#define KV_FIGURE_FIRST_US   50      /* of durations, microseconds */
#define KV_FIGURE_FIRST_OPS  1       /* of a batch's operations */


typedef struct {
    uint64_t        bytes;           /* held now */
    uint64_t        limit;
    uint64_t        evicted;         /* holders that were told to go */
} kv_figures_held_t;


typedef struct {
    const char     *state;           /* as in kv_state.h */
    uint64_t        keys;
    uint64_t        bytes;           /* of keys, metadata and values */
    uint64_t        expiring;        /* keys that have a time of expiry */
    uint64_t        expired;         /* keys that were deleted for it */
    uint64_t        waiting;         /* kv_store_await(), all workers */
    uint64_t        watching;        /* kv_store_watch(), all workers */
    uint64_t        feed_size;       /* bytes; 0: there is none */
    uint64_t        feed_after;      /* it has all behind this LSN */

    /* the zone; bytes of it */
    uint64_t        used;
    uint64_t        index;           /* of these, nodes of the ordered one */
    uint64_t        held;
    uint64_t        free_pages;
    double          fragmentation;   /* which part of `held` is not used */
    uint64_t        refused;         /* writes, because the zone was full */
    kv_figures_held_t  uploads;
    kv_figures_held_t  readers;

    /* commits */
    kv_figure_t     batch;           /* operations */
    kv_figure_t     wait;            /* microseconds from submit to done */
    kv_figure_t     sync;            /* microseconds */
    uint64_t        payload;         /* the same of what was logged */
    uint64_t        moved;           /* objects, by compaction */
    uint64_t        reserves;        /* requests for memory */

    /* the log */
    uint64_t        log_bytes;
    uint64_t        log_written;
    uint64_t        log_segments;
    uint64_t        next_lsn;
    uint64_t        durable_lsn;
    uint64_t        incarnation;     /* of versions (disk/kv_format.h) */
    uint64_t        unsynced_ms;     /* kv_store_unsynced() */

    /* the disk, as it was when kv_store_ask_disk_space() last had it measured;
       bytes, 0: not known */
    uint64_t        disk_size;
    uint64_t        disk_available;  /* for users other than root */

    /* snapshots */
    uint64_t        snapshots;
    uint64_t        snapshots_failed;
    uint64_t        snapshot_lsn;    /* of the last one */
    uint64_t        snapshot_bytes;
    uint64_t        snapshot_ms;
    uint64_t        snapshot_log_bytes;  /* of the log since */
    uint64_t        snapshot_time_ms;    /* when the last one was begun, since
                                            the epoch; 0: none, or unknown */
    uint64_t        snapshot_failed_ms;  /* when one failed; 0: none did */

    /* the archive; zeroes without one */
    bool            archives;
    uint64_t        archive_lsn;     /* all up to it is there, or lost for it */
    uint64_t        archive_waiting; /* full segments that are not there */
    uint64_t        archive_files;   /* put there since the start */
    uint64_t        archive_failed;  /* tries that failed, */
    uint64_t        archive_gaps;    /* and gaps in its log */
    uint64_t        archive_deleted; /* files that were too old */
    uint64_t        archive_disk_size;       /* its disk */
    uint64_t        archive_disk_available;

    /* backups */
    uint64_t        backups_running;
    uint64_t        backups;         /* that clients got as a whole */
    uint64_t        backups_failed;
    uint64_t        backup_lsn;      /* the last LSN in the newest, */
    uint64_t        backup_time;     /* and when that was begun: milliseconds
                                        since the epoch; 0: there is none */

    /* recovery */
    uint64_t        recovery_ms;
    uint64_t        recovered_snapshot;  /* records */
    uint64_t        recovered_log;
    uint64_t        recovered_ms;    /* its end, since the epoch */
    uint64_t        rebuilds;

    uint64_t        reloads_refused; /* kv_store_reload_refused() */
} kv_figures_t;


/*
 * Fills `f`.  Each figure is whole, but they are not of one moment.  Those of
 * the heap are 0 if it is broken.
 */
void kv_store_figures(kv_store_t *store, kv_figures_t *f);

/*
 * Has the background task measure how much space the disks have left, for the
 * figures that are taken later, unless that was done within a second.  Whether
 * it is asked: see kv_store_todo() then.
 */
bool kv_store_ask_disk_space(kv_store_t *store);

/* The names that f->state may have, from 0 on; NULL: there are no more. */
const char *kv_store_state_name(unsigned i);

/*
 * The age of the oldest write that is in the log and not synced, from when it
 * was written: milliseconds, at least 1; 0: there is none.
 */
uint64_t kv_store_unsynced(kv_store_t *store);


#endif /* KV_STORE_H */
