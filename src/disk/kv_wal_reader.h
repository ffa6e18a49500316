
/*
 * The log being read back.  kv_wal_replay.c reads the segments in order and
 * decides what the end means, kv_wal_read.c reads a segment,
 * kv_wal_read_entry.c what a replicated log has besides, kv_wal_give.c gives
 * to the caller what is final, kv_wal_damage.c writes the messages about damage
 * and the way out.
 */


#ifndef KV_WAL_READER_H
#define KV_WAL_READER_H


#include "disk/kv_wal_private.h"


#define KV_WAL_WINDOW  (1u << 20)
#define KV_WAL_WAY     480            /* bytes of the text of a way out */


typedef struct {
    kv_wal_t               *wal;
    const kv_wal_replay_t  *from;
    kv_err_t               *err;

    kv_wal_name_t  *names;           /* what is in the directory */
    size_t          n;

    uint64_t        last;            /* first LSN of the last segment */
    uint64_t        expected;        /* the LSN that comes next */
    uint64_t        time_ms;         /* the highest that a batch names */
    uint64_t        durable;         /* the highest known to be durable, by
                                        batches and, at the end, the note */
    bool            marked;          /* there is a mark at the end, or the
                                        log was closed there */
    kv_closed_t     closed;          /* lsn 0: it was not */
    bool            own;             /* that is no copy of the note */
    bool            noted;           /* only there, by no mark */
    bool            behind;          /* nothing may be written after the end */
    kv_identity_t   id;              /* the store's, its highest incarnation, */
    char            id_name[KV_NAME_MAX];  /* the file that names it, */
    uint64_t        id_offset;       /* and where */
    uint64_t        highest;         /* the incarnation before this start, */
    uint64_t        writer;          /* the incarnation that the last batch
                                        names, */
    kv_wal_past_t   past;            /* and those that others named before */
    bool            restored;        /* people say that the disk was set back */
    bool            renewed;         /* the incarnation is a new one */

    /* the segment being read */
    int             fd;              /* -1: none */
    char            name[KV_NAME_MAX];
    uint64_t        lsn;
    uint64_t        segment_size;    /* what its header says, */
    uint64_t        size;            /* and how much of that there is */
    uint64_t        salt;
    uint32_t        version;         /* of its format */
    kv_segment_kind_t  kind;         /* of log; of the one before, while the
                                        header is read */
    uint64_t        upto;            /* where it ends, as the next one says; 0:
                                        that is not known */
    uint64_t        offset;          /* of the batch that comes next */
    uint64_t        doubtful;        /* batches from here on may not be on
                                        disk, though they can be read */

    /* of a replicated log: see kv_wal_read_entry.c */
    bool            plain;           /* there is to be none */
    bool            known;           /* what it is up to the present batch: */
    kv_wal_replica_t  replica;
    uint8_t         members[KV_MEMBERS_MAX];
    uint64_t        durable_end;     /* where it is known to be durable, in the
                                        present segment */
    uint64_t        stop;            /* the reading ends before the entry with
                                        this index; 0: it does not */
    uint64_t        final;           /* entries up to this index are */
    struct kv_wal_held_s  *held;     /* batches that may not be committed, */
    struct kv_wal_held_s  *held_last;    /* in order */

    kv_wal_way_t    way;             /* out of damage that was met */

    /* the part of it that is in memory */
    uint8_t        *buf;
    size_t          max;
    uint64_t        start;           /* its offset in the file */
    size_t          len;
} kv_wal_reader_t;


/* ---- kv_wal_read.c */

/* Takes the incarnation that the file names at `offset`, if it is higher. */
void kv_wal_see_identity(kv_wal_reader_t *r, const kv_identity_t *id,
    const char *name, uint64_t offset);

/*
 * Opens the segment that begins with this LSN, in place of the one that is
 * open, and checks its header.  KV_OK; KV_DAMAGED or KV_ERROR, r->err filled.
 */
kv_rc_t kv_wal_read_header(kv_wal_reader_t *r, uint64_t lsn);

/*
 * Reads up to the LSN `limit`, which the next segment starts with (UINT64_MAX:
 * there is none, and the first bad batch ends the reading), and gives each
 * record to from->record.  KV_OK; KV_DAMAGED or KV_ERROR, r->err filled; or
 * what from->record returned.
 */
kv_rc_t kv_wal_read_segment(kv_wal_reader_t *r, uint64_t limit);

/*
 * The same, of its batches alone: what follows the last one is not looked at.
 * May be called again, with r->len set to 0, if more may have been written.
 */
kv_rc_t kv_wal_read_batches(kv_wal_reader_t *r, uint64_t limit);

/*
 * Reads the next batch, which is at r->offset, and takes what it says of the
 * log; kv_wal_pass() goes behind it.  `limit` as above.  KV_OK: there is one
 * with its header and a pointer to its data, which is no mark; KV_DECLINED:
 * there is none; KV_DAMAGED or KV_ERROR, r->err filled.
 */
kv_rc_t kv_wal_read_batch(kv_wal_reader_t *r, uint64_t limit,
    kv_batch_header_t *h, const uint8_t **data);
void kv_wal_pass(kv_wal_reader_t *r, const kv_batch_header_t *h);

/*
 * Goes through the good batches from r->offset on, and gives no record: *lsn is
 * the LSN after the last one that ends before `limit`, and *durable the highest
 * LSN that they say was durable, or 0.  KV_OK; KV_DAMAGED or KV_ERROR, r->err
 * filled.
 */
kv_rc_t kv_wal_peek(kv_wal_reader_t *r, uint64_t limit, uint64_t *lsn,
    uint64_t *durable);

/*
 * Searches for good batches behind the end, and sets r->durable and r->behind.
 * The salt, which no value can hold, refuses everything else at the cost of a
 * comparison.  KV_OK or KV_ERROR, r->err filled.
 */
kv_rc_t kv_wal_scan(kv_wal_reader_t *r);

/*
 * A pointer to `n` bytes of the segment from `offset` on, all of them inside
 * it, valid until the next call; or NULL with errno set.  Reads ahead by the
 * window, and takes a larger buffer only for a batch that does not fit into it.
 */
const uint8_t *kv_wal_window(kv_wal_reader_t *r, uint64_t offset, size_t n);


/* ---- kv_wal_read_entry.c */

/*
 * Takes the segments that were given up as a whole out of the list, r->names.
 * KV_OK, or KV_ERROR, r->err filled.
 */
kv_rc_t kv_wal_list_stale(kv_wal_reader_t *r);

/*
 * Whether the good batch may be in a segment of this kind.  KV_OK; KV_DAMAGED,
 * r->err filled.
 */
kv_rc_t kv_wal_judge_entry(kv_wal_reader_t *r, uint64_t offset,
    const kv_batch_header_t *h);

/* The incarnation that the batch names, and where; 0: it names none. */
uint64_t kv_wal_batch_incarnation(const kv_batch_header_t *h,
    const uint8_t *data, size_t *place);

/*
 * No good batch is at r->offset, or no STATE.  If a segment of a replicated log
 * begins there this is damage, for what it begins with was synced before it had
 * its name: KV_DAMAGED, r->err filled; else KV_OK.
 */
kv_rc_t kv_wal_read_first(kv_wal_reader_t *r);

/*
 * The batch at r->offset is the next one of a replicated log: takes what it
 * says, in r->replica.  KV_OK; KV_DAMAGED, r->err filled.
 */
kv_rc_t kv_wal_read_entry(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data);

/*
 * Where the segment that is being read ends, as the one says that begins with
 * this LSN; 0: it does not, or cannot be read.
 */
uint64_t kv_wal_read_before(kv_wal_reader_t *r, uint64_t lsn);


/* Whether the batch of a replicated log is an entry. */
static inline bool
kv_wal_is_entry(const kv_batch_header_t *h)
{
    return h->type != KV_ENTRY_NONE && h->type != KV_ENTRY_STATE;
}


/* ---- kv_wal_give.c */

/*
 * Gives the batch at r->offset, and its records, to r->from.  KV_OK;
 * KV_DAMAGED, r->err filled; or what from->record returned.
 */
kv_rc_t kv_wal_give(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data);

/*
 * The batch at r->offset of a replicated log is read, and what it says taken:
 * gives what is known by now to be committed, and holds the rest.  Results as
 * those of kv_wal_give(), and KV_ERROR, r->err filled, when out of memory.
 */
kv_rc_t kv_wal_hold(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data);

/* Forgets what is held. */
void kv_wal_release(kv_wal_reader_t *r);


/* ---- kv_wal_entries.c */

/*
 * A reader of files alone, with r->names, that calls nothing: `wal` and `from`,
 * which it fills, outlive it.  KV_OK: the caller ends it; else the result of
 * kv_io_rc(), `err` filled.
 */
kv_rc_t kv_wal_seeker_open(kv_wal_reader_t *r, kv_wal_t *wal,
    kv_wal_replay_t *from, kv_err_t *err);
void kv_wal_seeker_close(kv_wal_reader_t *r);

/*
 * Opens the segment that has the entry `index`, or ends before it, and is to be
 * read from its beginning.  KV_NOT_FOUND: there is none; KV_DAMAGED or
 * KV_ERROR, r->err filled.
 */
kv_rc_t kv_wal_seek(kv_wal_reader_t *r, uint64_t index);


/* ---- kv_wal_damage.c */

/* Passes from->warn what is wrong but can be passed over. */
void kv_wal_warn(kv_wal_reader_t *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Fills r->err: what is wrong at `offset` of the segment, and the way out.
 * `lsn` is the first LSN that is gone.  Returns KV_DAMAGED.
 */
kv_rc_t kv_wal_damaged(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The same for a file that ends too early. */
kv_rc_t kv_wal_cut_short(kv_wal_reader_t *r);

/* The same for what the disk, or the system, cannot read: KV_ERROR. */
kv_rc_t kv_wal_unreadable(kv_wal_reader_t *r, uint64_t offset);

/* The same for reading, writing or syncing what was read already: KV_ERROR. */
kv_rc_t kv_wal_failed(kv_wal_reader_t *r, const char *what);

/*
 * Fills r->way, and writes it to `text`, of `size` bytes: how the operator can
 * go on if nothing at or behind `offset` of the segment can be used, and `lsn`
 * is the first LSN that is gone: with all before it, or, where the snapshot
 * needs more of the log than that, with the snapshot alone; and what that gives
 * up.  Nothing is to be deleted: a better tool may come.
 */
void kv_wal_way_out(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn,
    char *text, size_t size);


#endif /* KV_WAL_READER_H */
