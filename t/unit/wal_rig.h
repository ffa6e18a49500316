
/*
 * What the log's tests share: a log in a directory of its own, on a disk that
 * fails to order (wal_rig_disk.c), and a model of what it was given.
 *
 * Records are made from (LSN, seed), so that a replay can tell whether each
 * is the one that was written last under its LSN.
 */


#ifndef WAL_RIG_H
#define WAL_RIG_H


#include <sys/types.h>

#include "disk/kv_wal.h"


#define SEGMENT    65536u
#define BATCH      (SEGMENT - KV_SEGMENT_HEADER)
#define RECORDS    20000
#define HEADER     sizeof(kv_batch_header_t)
#define MANY       1000000

/* of a file that holds the first batch of a log */
#define FIRST      "log-0000000000000001.kvl"


/* The record of an LSN.  Seed 0: not known, a replay takes any record. */

typedef struct {
    uint64_t  seed;
    uint32_t  len;
} model_t;


/* A write that no sync has followed yet, and what it overwrote. */

typedef struct {
    int        fd;
    ino_t      inode;
    bool       lost;          /* a sync of it failed: no other helps */
    off_t      offset;
    size_t     len;
    uint8_t   *old;
} unsynced_t;


typedef struct {
    kv_io_t          io;              /* first: the table's `io` is this */
    kv_io_t          system;
    int              dirfd;
    char             path[200];

    int              calls;
    int              fail_at;         /* the call that fails; 0: none */
    int              fail_count;      /* how many fail from there on */
    size_t           fail_write;      /* writes of this size fail, if set */
    bool             fail_dir;        /* so do syncs of the directory, */
    bool             fail_space;      /* and new files: the disk is full */
    const char      *fail_unlink;     /* and deletions of names with this */
    uint64_t         fail_from;       /* and reads beyond this, if set */
    bool             halved;          /* a write was, and now it fails */
    int              error;
    int              allocations;
    int              syncs;

    bool             keep;            /* note unsynced writes, for cuts */
    unsynced_t       unsynced[4096];
    size_t           unsynced_n;
    char             renames[64][2][KV_NAME_MAX];
    size_t           renames_n;

    uint64_t         segment_size;
    size_t           max_batch;
    kv_wal_state_t   state;
    kv_wal_t        *log;
    kv_err_t         err;
    uint64_t         newer;           /* for replays, */
    uint64_t         index;           /* and of their snapshot */
    bool             replicated;      /* so is the log; its entries say that */
    bool             held;            /* those up to `commit` are committed, */
    uint64_t         commit;          /* or else all before them */
    bool             committed;       /* replays take only these */
    kv_wal_final_t   final;           /* and say what they are */
    bool             strange;         /* replays do not know the store */
    kv_wal_batch_pt  batch;           /* for replays, with the wal_t; or NULL */
    unsigned         warnings;        /* of the last one, */
    char             warned[768];     /* and the last of them */

    model_t          model[RECORDS];
    uint64_t         acked;           /* synced up to here */
    uint8_t         *value;           /* memory for values of a batch */
    size_t           value_max;
    size_t           value_used;

    uint64_t         seen;            /* by the replay */
    uint64_t         random;
} wal_t;


/* Both ways of writing: through the page cache, then past it. */
extern bool  wal_direct;


/* cmocka's: *ctx is a wal_t, in an empty directory, with a log open. */
int wal_setup(void **ctx);
int wal_teardown(void **ctx);

/* Closes the log and removes all files; wal_open() or wal_replay() follows. */
void wal_empty(wal_t *t);

/*
 * A handle on a log without anything, whose next LSN is 1.  A replicated one
 * has no term yet.
 */
void wal_open(wal_t *t);

/* Another handle, on t->state.  It is the caller's; NULL: no memory. */
kv_wal_t *wal_create(wal_t *t, uint64_t segment_size, size_t max_batch);

/* Less than n; the same numbers in every run. */
uint64_t wal_random(wal_t *t, uint64_t n);


/*
 * Adds the record of this LSN, with a value of `len` bytes, to the batch that
 * was begun, and notes it in the model.  Returns what kv_wal_add() does.
 */
kv_rc_t wal_add(wal_t *t, kv_wal_t *log, uint64_t lsn, size_t len);

/*
 * One batch of n records whose values have `len` bytes.  Returns what
 * kv_wal_write() does.
 */
kv_rc_t wal_try(wal_t *t, kv_wal_t *log, unsigned n, size_t len);

/* The same through t->log, and it must succeed; a sync, likewise. */
void wal_write(wal_t *t, unsigned n, size_t len);
void wal_sync(wal_t *t);


/*
 * Opens the log as a process does that reads a zone anew: records after the
 * LSN `after` are replayed, and the log must reach `must_reach`.  t->seen is
 * the last LSN.  Returns what kv_wal_replay() does, and KV_NOT_FOUND if a
 * record is not the model's.
 */
kv_rc_t wal_replay(wal_t *t, uint64_t after, uint64_t must_reach);

/* All of it is replayed, and `last` is the last LSN. */
void wal_replays(wal_t *t, uint64_t last);

/* It is refused, and the refusal begins with the file and says `what`. */
void wal_damaged(wal_t *t, const char *file, const char *what);

/* Does the commands of the last refusal. */
void wal_way_out(wal_t *t);


/* At most `max` bytes of a file, from its beginning; returns how many. */
size_t wal_read(wal_t *t, const char *name, uint8_t *buf, size_t max);

/* Writes n bytes at an offset, into a new file if there is none. */
void wal_store(wal_t *t, const char *name, uint64_t offset, const void *data,
    size_t n);

/* Changes one bit of this byte; done twice, all is as before. */
void wal_flip(wal_t *t, const char *name, uint64_t offset);

/* Gives the segment this header, with the right checksum. */
void wal_reseal(wal_t *t, const char *name, kv_segment_header_t *h);

bool wal_exists(wal_t *t, const char *name);

/* How many names begin so. */
int wal_count(wal_t *t, const char *prefix);

/* The segment's that begins with this LSN; buf has KV_NAME_MAX bytes. */
char *wal_name(char *buf, uint64_t lsn);


/* ---- wal_rig_disk.c */


/* Makes t->io of t->system: with failures, and without real syncs. */
void wal_table(wal_t *t);

/*
 * The power goes: of every write without a sync, each sector is there or not,
 * and renames without one, from some rename on, are not.
 */
void wal_cut(wal_t *t);

/* Takes back the renames but for the first `keep`. */
void wal_undo(wal_t *t, size_t keep);

/* The i-th unsynced write is on the disk, or does not matter any more. */
void wal_forget(wal_t *t, size_t i);


#endif /* WAL_RIG_H */
