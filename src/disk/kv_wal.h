
/*
 * The write-ahead log: segments of a fixed size, preallocated and recycled.
 * The format, and what makes a batch the end or a damage, is in kv_format.h.
 *
 * Two parts.  kv_wal_state_t is in the zone, belongs to the holder of the
 * commit lock, and says where the log ends.  It changes only after the bytes
 * are written, so a committer that dies leaves the end of the last good batch,
 * and the next one writes over what the dead one began: that is how the log is
 * cut back.  kv_wal_t is a process's own handle: a descriptor of the current
 * segment and a buffer.
 *
 * A batch is built (kv_wal_begin, kv_wal_add), written (kv_wal_write) and
 * synced (kv_wal_sync).  The caller decides when.
 *
 * The log may be a replicated one (kv_wal_replay_t says what the caller takes
 * it for): each of its batches is an entry with a term and an index, and term,
 * vote and members are in it, too.
 */


#ifndef KV_WAL_H
#define KV_WAL_H


#include <signal.h>

#include "disk/kv_io.h"
#include "disk/kv_record.h"


/*
 * What a replicated log knows of itself: it moves with the position.  A log
 * that is none has zeroes.
 */

typedef struct {
    uint64_t          term;           /* this node's, and its vote in it, */
    uint64_t          voted_for;      /* 0: none */
    uint64_t          index;          /* of the last entry, 0: none, */
    uint64_t          index_term;     /* and its term */
    uint64_t          commit;         /* the highest that was recorded */
    uint64_t          members_index;  /* of the last CHANGE, 0: none, */
    uint32_t          members_len;    /* and the bytes of its data, */
    uint32_t          members_at;     /* in members[] of the state */
    uint64_t          incarnation;    /* that the last STATE names */
    uint64_t          before;         /* where the segment before the current
                                         one ended, 0: there is none, */
    uint64_t          start;          /* where this one's first STATE does, */
    uint64_t          end;            /* and its last batch; */
    uint64_t          number;         /* the current segment's */
} kv_wal_replica_t;


typedef struct {
    uint64_t          segment_lsn;    /* first LSN of the current segment, */
    uint64_t          segment_salt;   /* its salt, */
    uint64_t          segment_size;   /* its size in bytes; 0: none yet */
    uint64_t          offset;         /* where the next batch goes; the size
                                         if no more may go there */
    uint64_t          next_lsn;       /* the LSN it will have */
    kv_wal_replica_t  replica;
} kv_wal_position_t;


/*
 * Whether log-<LSN>.closed exists, which must be emptied and deleted before
 * more is written.
 */

typedef enum {
    KV_WAL_NOTE_NONE = 0,
    KV_WAL_NOTE_OLD,               /* it may, and say anything */
    KV_WAL_NOTE_END,               /* it says where the log ends, */
    KV_WAL_NOTE_OWN                /* and the incarnation goes on from there */
} kv_wal_note_t;


/*
 * The incarnations that wrote the log before the present one: those that its
 * batches name, and what was the highest when a new one began.  The newest of
 * them, oldest first, as a ring.  See "Identity" in kv_format.h.
 */

#define KV_WAL_PAST  32u

typedef struct {
    _Atomic uint32_t      n;           /* how many there were, and the last */
    struct {
        _Atomic uint64_t  incarnation;    /* 0: none */
        _Atomic uint64_t  end;            /* the LSN from which on the log is
                                             not its own */
    } last[KV_WAL_PAST];
} kv_wal_past_t;


/*
 * Where the log stands.  In shared memory; written by the holder of the
 * commit lock alone, read by any process (for statistics).  All zeroes, but for
 * next_lsn = 1, is an empty log; else kv_wal_replay() fills it.
 *
 * The first six fields move together, and a process can be killed between
 * two of them: it writes the new position to `to` first, and sets `moving`, so
 * that the next process to begin, write, mark or sync finishes the move.
 *
 * The incarnation may change while the store is in use (kv_wal_write(), where a
 * note of a clean end cannot be emptied, or is gone).  Who makes a version of
 * an entry reads the entry's LSN first, and then the incarnation, so that no
 * LSN comes with an incarnation that was over when it was given out.
 */

typedef struct {
    uint64_t           segment_lsn;   /* as in kv_wal_position_t */
    uint64_t           segment_salt;
    uint64_t           segment_size;
    uint64_t           offset;
    _Atomic uint64_t   next_lsn;
    kv_wal_replica_t   replica;
    uint8_t            members[2][KV_MEMBERS_MAX];
                                      /* see kv_wal_members() */
    uint32_t           replicated;    /* it is a replicated log; the replay
                                         sets it */
    _Atomic uint32_t   unsynced;      /* and may have batches without an LSN
                                         that are not synced */
    uint64_t           store[2];      /* the identity: see kv_wal_id(); */
    _Atomic uint64_t   incarnation;   /* kv_wal_replay() sets it */
    kv_wal_past_t      past;          /* those before it */
    uint32_t           restored;      /* the replay found the file "restored" */
    uint32_t           shared;        /* the incarnation is a cluster's: see
                                         kv_wal_share() */
    uint64_t           time_ms;       /* what batches from now on say was the
                                         time; 0: the wall clock's.  The replay
                                         sets it to the highest that it found */
    _Atomic uint64_t   durable_lsn;   /* all up to this one are on disk, */
    _Atomic uint64_t   durable_commit; /* and that entries up to this index are
                                         committed */
    _Atomic uint64_t   bytes;         /* of batches, since the zone was made */
    _Atomic uint64_t   written;       /* of whole blocks, where they are */
    _Atomic uint64_t   segments;      /* files with a log-... name */
    _Atomic uint64_t   rewrite_end;   /* batches above durable_lsn must be
                                         written once more, up to this offset
                                         of the segment; 0: none */
    _Atomic uint32_t   syncing;       /* a sync of the segment has begun, and
                                         has not succeeded */
    uint64_t           durable_offset; /* where durable_lsn ends, in the */
    _Atomic uint64_t   durable_salt;  /* segment of this salt */
    _Atomic uint32_t   closed;        /* kv_wal_note_t */
    kv_wal_position_t  to;            /* while moving: the new position */
    _Atomic uint32_t   moving;
    _Atomic uint32_t   cutting;       /* `to` is in a segment that gives up
                                         entries; it may have its name */
} kv_wal_state_t;


typedef struct kv_wal_s  kv_wal_t;

/* the most bytes of a batch in a segment that begins with a STATE */
#define KV_WAL_BATCH_MAX(segment_size)                                        \
    ((segment_size) - KV_SEGMENT_HEADER - KV_ENTRY_STATE_MAX)


/*
 * A handle for this process.  `io` and the directory's descriptor stay the
 * caller's and must outlive it.  `segment_size` is for segments made from now
 * on: a multiple of 4096, at least 64 KiB.  `max_batch` is the most bytes
 * that one batch may have, its header included; at most segment_size - 4096, in
 * a replicated log at most KV_WAL_BATCH_MAX(segment_size).
 * Returns NULL when out of memory.  Not for two threads at once.
 */
kv_wal_t *kv_wal_create(kv_io_t *io, int dirfd, kv_wal_state_t *state,
    uint64_t segment_size, size_t max_batch);

/*
 * Whether batches are written past the page cache (see kv_direct.h): for logs
 * that are synced after each batch; off at first.  Before anything is written.
 */
void kv_wal_set_direct(kv_wal_t *wal, bool direct);

/*
 * Batches leave `reserve` bytes at a segment's end, unless they fill one by
 * themselves.  A batch of deletes and clears may use them if no new segment can
 * be made, unless it deletes what has expired.  0 at first.
 */
void kv_wal_set_reserve(kv_wal_t *wal, size_t reserve);

/* Closes what it has open and frees it.  The state stays. */
void kv_wal_destroy(kv_wal_t *wal);

/* The identity that the store has now (kv_format.h). */
static inline kv_identity_t
kv_wal_id(const kv_wal_state_t *state)
{
    kv_identity_t  id;

    id.store[0] = state->store[0];
    id.store[1] = state->store[1];
    id.incarnation = atomic_load(&state->incarnation);

    return id;
}

/*
 * The incarnation that wrote the LSN, as far as it is known; for an LSN that is
 * not given out yet, the present one.  Any process, without a lock.
 */
uint64_t kv_wal_writer(const kv_wal_state_t *state, uint64_t lsn);

/*
 * Whether what the store was at this LSN in that incarnation is in the log's
 * past: all that was changed since is behind the LSN in the log.  False also
 * where that is not known.  Any process, without a lock.
 */
bool kv_wal_was(const kv_wal_state_t *state, uint64_t lsn,
    uint64_t incarnation);

/*
 * After a replay: all nodes of a cluster of several have this incarnation.  Up
 * to the next replay none that is made here takes its place, and all LSNs of
 * the log are of it.  By the holder of the commit lock.
 */
void kv_wal_share(kv_wal_t *wal, uint64_t incarnation);

/*
 * Starts a batch whose first record will have the LSN state->next_lsn (read it
 * after this call, which may have to finish what a dead process began).
 */
void kv_wal_begin(kv_wal_t *wal);

/*
 * Adds a record.  Its key and value must stay unchanged until kv_wal_write()
 * returns (small ones are copied, but the caller cannot tell).  KV_OK, or
 * KV_AGAIN if the batch would grow beyond max_batch: write the batch, then
 * begin the next.  A record that does not even fit into an empty batch is the
 * caller's mistake (asserted).
 */
kv_rc_t kv_wal_add(kv_wal_t *wal, const kv_record_t *rec);

/*
 * Writes the batch at the log's end, beginning a new segment first if the
 * current one has no space (the old one is synced before that).  On KV_OK the
 * state's offset and next_lsn have moved on, and the batch is empty again; on
 * any other result next_lsn is where it was (a new segment may have been
 * begun), and the batch is unchanged.  KV_NO_SPACE: no space on the disk for a
 * new segment or the batch; may work later.  KV_AGAIN: an error that may pass
 * (kv_io_rc()): what was written of the batch lies behind the log's end, and
 * the next one overwrites it; may work later.  KV_ERROR: any other error, or a
 * failed sync of the segment before: never to be tried again.  `err` is set in
 * all these cases.  An empty batch writes nothing and is KV_OK.
 */
kv_rc_t kv_wal_write(kv_wal_t *wal, kv_err_t *err);

/*
 * An entry of a replicated log: what the header of its batch says.  The index
 * is the next one; the term is not below that of the entry before it, nor above
 * that of the last kv_wal_put_vote().  `commit` is recorded with it: it is at
 * most the index.
 */

typedef struct {
    kv_entry_type_t  type;
    uint64_t         term;
    uint64_t         index;
    uint64_t         commit;
} kv_wal_entry_t;

/*
 * Of a replicated log: the batch that is being built, with a record at least,
 * is this entry, KV_ENTRY_RECORDS.  Before each kv_wal_write(), after
 * kv_wal_begin(); all else of it is as it is without.
 */
void kv_wal_set_entry(kv_wal_t *wal, const kv_wal_entry_t *e);

/*
 * Of a replicated log: writes an entry without records, KV_ENTRY_BARRIER or
 * KV_ENTRY_CHANGE, with `len` bytes of data, at most KV_MEMBERS_MAX, which
 * zeroes fill up to a multiple of 8.  A CHANGE has some, and they are the
 * members from then on.  It takes no LSN, is not synced, and may use the
 * reserve.  The batch that is being built stays as it is.  Results as those of
 * kv_wal_write().
 */
kv_rc_t kv_wal_put_entry(kv_wal_t *wal, const kv_wal_entry_t *e,
    const void *data, size_t len, kv_err_t *err);

/*
 * The same for a term and the vote in it, 0 for none: the term does not go
 * down, and the vote in a term does not change once there is one.  After
 * kv_wal_sync() both are remembered for good.
 */
kv_rc_t kv_wal_put_vote(kv_wal_t *wal, uint64_t term, uint64_t voted_for,
    kv_err_t *err);

/*
 * The same for an entry with records, which come as bytes, as those of another
 * node's kv_wal_copy_records(): `len` of them, a multiple of 8, at most what
 * kv_wal_space() says of an empty batch.  It takes as many LSNs as there are
 * records.  KV_DAMAGED, `err` filled: these are no records, and nothing is
 * written.
 */
kv_rc_t kv_wal_put_records(kv_wal_t *wal, const kv_wal_entry_t *e,
    const void *data, size_t len, kv_err_t *err);

/*
 * Of a replicated log: gives up its entries from `index` on, above
 * state->replica.commit, so that others can take their places.  Their LSNs go
 * back with them: state->next_lsn is that of the first one.  It begins a new
 * segment, and is durable before KV_OK is returned.  The batch that is being
 * built is forgotten.  KV_OK, also where there are no such entries; else as
 * kv_wal_write(), with nothing given up, or KV_DAMAGED, if the log cannot be
 * read back up to there.
 */
kv_rc_t kv_wal_truncate(kv_wal_t *wal, uint64_t index, kv_err_t *err);

/*
 * Of a replicated log: records that the entries up to `commit`, at most the
 * last one, are final: for where no entry follows soon that tells it.  Not
 * synced.  Results as those of kv_wal_write().
 */
kv_rc_t kv_wal_put_commit(kv_wal_t *wal, uint64_t commit, kv_err_t *err);

/*
 * Copies the records of the batch that is being built to `buf`, of
 * kv_wal_pending() bytes or more; returns how many bytes these are.
 */
size_t kv_wal_copy_records(const kv_wal_t *wal, void *buf);

/*
 * The members, which are the data of the last CHANGE, of which there are
 * state->replica.members_len bytes, 0: there was none yet.  Under the commit
 * lock, until the next one.
 */
static inline const void *
kv_wal_members(const kv_wal_state_t *state)
{
    return state->members[state->replica.members_at];
}

/*
 * What the operator should know of a kv_wal_write() that went on without it: a
 * note of a clean end, or a file "restored", that cannot be deleted.  Moves it
 * to *err and returns true; false: there is nothing, or it was told before.
 */
bool kv_wal_warning(kv_wal_t *wal, kv_err_t *err);

/*
 * Makes all that was written durable and moves durable_lsn on.  KV_OK;
 * KV_ERROR, `err` filled: never to be tried again.  If this process has to open
 * the segment first, or to write batches once more (the start found the disk
 * full, or a process died in its sync, which may have failed), and that fails:
 * the result of kv_io_rc(), and unless that is KV_ERROR nothing was synced and
 * nothing is lost, so the caller may try again.
 */
kv_rc_t kv_wal_sync(kv_wal_t *wal, kv_err_t *err);

/*
 * Whether the current segment is open, or can be opened now.  KV_OK, or the
 * result of kv_io_rc(), `err` filled.  Under the commit lock.
 */
kv_rc_t kv_wal_check(kv_wal_t *wal, kv_err_t *err);

/* The bytes that the batch being built takes in the log, 0 without records. */
size_t kv_wal_pending(const kv_wal_t *wal);

/* The bytes that all records together may take that are still added to it. */
size_t kv_wal_space(const kv_wal_t *wal);

/*
 * Writes the mark (see kv_format.h) without syncing it.  KV_OK, also where
 * there is no space for it, for without it nothing is lost.  KV_ERROR, `err`
 * filled, if the writing failed: it begins with the block that the last batch
 * ends in, so that is as bad as the failed write of a batch.
 */
kv_rc_t kv_wal_mark(kv_wal_t *wal, kv_err_t *err);

/*
 * Marks and syncs the log, and leaves log-<LSN>.closed (see kv_format.h): the
 * end of a clean stop, when no process writes any more.  Does nothing if there
 * is no segment, or if nothing was written since a start that found the note.
 * KV_OK, or KV_NO_SPACE, KV_AGAIN or KV_ERROR with `err` filled.
 */
kv_rc_t kv_wal_leave_closed(kv_wal_t *wal, kv_err_t *err);

/*
 * Makes a spare segment, if there is none, so that no commit has to wait for
 * its preallocation when the current one is full.  Takes as long as writing a
 * segment: not for the commit path.  One caller at a time, with a handle of its
 * own; needs no commit lock.  KV_OK, KV_DECLINED (there is one already),
 * KV_CANCELLED, or the result of kv_io_rc().
 */
kv_rc_t kv_wal_prepare(kv_wal_t *wal, volatile sig_atomic_t *cancel);

/*
 * Gives up the segments whose records all have LSNs <= `lsn`, and, in a
 * replicated log, whose entries are all known to be committed; never the
 * current one, which is passed as `current_lsn`: state->segment_lsn read under
 * the commit lock.  They become spares until there are `spares` of those; the
 * rest is deleted, and so is a file that has another name elsewhere, to stay
 * whole there; `pace` as for kv_io_remove().  One caller at a time, and not
 * beside kv_wal_prepare(); needs no commit lock.  KV_OK; or KV_ERROR or
 * KV_AGAIN: at least one of them could not be deleted, and stays.
 */
kv_rc_t kv_wal_purge(kv_wal_t *wal, uint64_t lsn, uint64_t current_lsn,
    unsigned spares, const kv_io_pace_t *pace, kv_err_t *err);

/*
 * Gets a batch, header and data, before its records: it is at this offset of
 * the segment that begins with `segment_lsn`.
 */
typedef void (*kv_wal_batch_pt)(void *ctx, uint64_t segment_lsn,
    uint64_t offset, const kv_batch_header_t *h, const void *data);


/* What a replicated log was after one of its entries. */

typedef struct {
    uint64_t  index;                 /* of the entry, 0: none, */
    uint64_t  term;                  /* and its term */
    uint64_t  lsn;                   /* the last LSN up to it */
    uint64_t  members_index;         /* of the last CHANGE, 0: none, */
    uint32_t  members_len;           /* and its data */
    uint8_t   members[KV_MEMBERS_MAX];
} kv_wal_final_t;


/* What a replay begins with, and its callbacks. */

typedef struct {
    uint64_t       after;          /* the snapshot's S; 0: there is none */
    uint64_t       must_reach;     /* its E: the log has to reach this LSN */
    uint64_t       newer;          /* S of the newest snapshot, if that one is
                                      too damaged to be used, else 0: the log
                                      has to reach it, too */
    kv_identity_t  id;             /* the snapshot's, or zeroes, */
    uint64_t       id_lsn;         /* and the LSN of the snapshot's name */
    uint64_t       index;          /* and the last entry that is in it, of a
                                      replicated log; else 0 */
    bool           alone;          /* people have it stand alone */
    bool           replicated;     /* the log is to be a replicated one; one
                                      that is, and is not to be, is refused */
    bool           committed;      /* of that log, only what is known to be
                                      committed is given to `record` */
    kv_wal_final_t  *final;        /* which is up to here; may be NULL */
    bool           brief;          /* what is said of damage has no way out */
    kv_record_pt   record;         /* gets each record */
    kv_wal_batch_pt  batch;        /* may be NULL */
    void         (*warn)(void *ctx, const char *text);
                                   /* what is wrong and could be passed over;
                                      may be NULL */
    void         (*segment)(void *ctx, size_t i, size_t n);
                                   /* file i of n, from 0 on, is to be read; may
                                      be NULL */
    void          *ctx;            /* for all of them */
} kv_wal_replay_t;


/* What was found at the end of a log. */

typedef struct {
    uint64_t       next_lsn;       /* the LSN that comes next */
    uint64_t       segments;       /* how many files; 0: all else is 0, too */
    uint64_t       segment_lsn;    /* first LSN of the last segment, */
    uint64_t       offset;         /* and where in it the log ends */
    uint64_t       time_ms;        /* the highest that a batch names */
    bool           closed;         /* the note of a clean end says the same */
    kv_identity_t  id;             /* the highest that a file names */
} kv_wal_end_t;


/*
 * The way out of damage that the message about it tells, for a tool that goes
 * it: these files are to be moved away, in this order, and then to be done what
 * else is said.
 */

typedef struct {
    bool      found;               /* there is one; else all is 0 */
    uint64_t  lsn;                 /* the writes from here on are given up: all
                                      of them, or, if `alone`, those that the
                                      snapshot has not seen */
    uint64_t  logs_from;           /* segments that begin with this LSN or a
                                      later one; 0: every log-* */
    uint64_t  cut_lsn;             /* the segment that begins with this LSN ends
                                      at cut_offset: zeroes follow there, up to
                                      cut_size.  cut_size 0: none is cut */
    uint64_t  cut_offset;
    uint64_t  cut_size;
    uint64_t  closed;              /* log-<LSN>.closed; 0: none */
    bool      newer;               /* all snapshots newer than from->after */
    bool      alone;               /* snap-<from->after>.alone is to be made */
} kv_wal_way_t;


/*
 * Reads the log as kv_wal_replay() does, with the same results, and changes
 * nothing, in memory or on disk.  On KV_OK fills *end, and on KV_DAMAGED *way;
 * either may be NULL.
 */
kv_rc_t kv_wal_read(kv_io_t *io, int dirfd, const kv_wal_replay_t *from,
    kv_wal_end_t *end, kv_wal_way_t *way, kv_err_t *err);

/*
 * A new store's identity, in its first incarnation.  KV_OK, or KV_ERROR with
 * errno set.
 */
kv_rc_t kv_wal_new_id(kv_identity_t *id);


/*
 * Reads every record with an LSN > from->after in order, checks the whole log
 * from there on, and leaves the state and the directory such that writing
 * continues at its end: next_lsn, durable_lsn, offset, segment and id are set,
 * what was torn is cut off, *.tmp logs are deleted.  If there is no segment,
 * the state says so (segment_size 0) and next_lsn is after + 1.  kv_format.h
 * tells when there is a new incarnation; one that is there, of a zone that is
 * read anew, stays if no LSN is lost, the log ends in the same segment, and no
 * file "restored" is there.
 *
 * A log that is not a replicated one, but is to be, goes on as one in a new
 * segment, which the next batch begins: its first entry has the index 1.  All
 * entries that are found are given, committed or not, as the only voter has
 * committed all that is on its disk; unless from->committed is set.  Then those
 * behind the highest commit index that was recorded, and behind must_reach,
 * stay in the log, and kv_wal_entries_read() reads them.
 *
 * KV_OK; KV_DAMAGED, with `err` naming file, offset, the ways out and what they
 * give up; KV_ERROR, if a replicated log is not to be one, or KV_ERROR or
 * KV_AGAIN for I/O errors, `err` filled; or what from->record returned.
 * Nothing on disk is changed unless all of it is good.
 * Then it is made durable before KV_OK is returned, even after a sync that
 * failed.  If the disk is too full for that, the first sync that finds space
 * does it: until then durable_lsn is below next_lsn - 1, or `unsynced` is set,
 * and nothing is written.  Memory is bounded by the segment size, time by the
 * bytes in the directory.
 */
kv_rc_t kv_wal_replay(kv_wal_t *wal, const kv_wal_replay_t *from,
    kv_err_t *err);

/*
 * Why kv_wal_replay() or kv_wal_write() has begun a new incarnation, in words
 * (static memory); NULL: it has not, or it was told before.
 */
const char *kv_wal_renewed(kv_wal_t *wal);


#endif /* KV_WAL_H */
