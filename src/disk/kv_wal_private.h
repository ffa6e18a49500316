
/*
 * What the files of the log share.  None calls one that stands above it:
 *
 *     kv_wal_write.c          batches
 *     kv_wal_replica.c        what a replicated log gets besides
 *     kv_wal_place.c          where a batch goes
 *     kv_wal_truncate.c       entries that are given up
 *     kv_wal_replay.c         reading back (see kv_wal_reader.h)
 *     kv_wal_closed.c         the note of a clean end
 *     kv_wal_segment.c        the current segment, the log's end
 *     kv_wal_rest.c           what stays of a log that is cut back
 *     kv_wal_entry.c          what a replicated log has besides
 *     kv_wal_spare.c          spares, segments no longer needed
 *     kv_wal_identity.c       the store and its incarnation
 *     kv_wal_files.c          names and headers
 */


#ifndef KV_WAL_PRIVATE_H
#define KV_WAL_PRIVATE_H


#include <assert.h>

#include "disk/kv_direct.h"
#include "disk/kv_wal.h"


typedef enum {
    KV_WAL_SEGMENT = 0,              /* log-<LSN>.kvl */
    KV_WAL_SEGMENT_TMP,              /* log-<LSN>.tmp, a segment being begun */
    KV_WAL_SPARE,                    /* spare-<n>.kvl */
    KV_WAL_SPARE_TMP,                /* spare-<n>.tmp */
    KV_WAL_CLOSED,                   /* log-<LSN>.closed */
    KV_WAL_STALE                     /* log-<LSN>.kvl; see kv_wal_set_stale() */
} kv_wal_file_t;


typedef struct {
    kv_wal_file_t  kind;
    uint64_t       number;           /* the LSN or n of the name */
} kv_wal_name_t;


struct kv_wal_s {
    kv_io_t         *io;
    int              dirfd;
    kv_wal_state_t  *state;
    uint64_t         segment_size;
    size_t           max_batch;

    /* the segment that is open here, which may no longer be the current one */
    int              fd;             /* -1: none */
    uint64_t         fd_lsn;
    uint64_t         fd_salt;
    char             fd_name[KV_NAME_MAX];
    kv_direct_t      out;            /* what is written to it */
    bool             direct;         /* past the page cache, if it can */

    /*
     * The batch being built.  Its header and all that is small lie in
     * `staging`; the iovecs tell the order of that and the values' pieces.
     * The writing uses iovecs up, so it gets a copy.
     */
    uint8_t         *staging;        /* max_batch bytes */
    size_t           staged;
    struct iovec    *iov;
    struct iovec    *iov_copy;
    size_t           iov_n;
    size_t           iov_max;
    size_t           len;            /* of the batch with its header */
    uint32_t         count;
    kv_wal_entry_t   entry;          /* of a replicated log */
    uint32_t         puts;           /* of these, and what else leaves the
                                        reserve to others */
    size_t           reserve;        /* see kv_wal_set_reserve() */

    kv_err_t         warning;        /* see kv_wal_warning(); no text: none */
    const char      *renewed;        /* see kv_wal_renewed() */
};


/* The batch that is being built is empty again: a header. */
static inline void
kv_wal_reset(kv_wal_t *wal)
{
    wal->staged = sizeof(kv_batch_header_t);
    wal->iov[0].iov_base = wal->staging;
    wal->iov[0].iov_len = sizeof(kv_batch_header_t);
    wal->iov_n = 1;
    wal->len = sizeof(kv_batch_header_t);
    wal->count = 0;
    wal->puts = 0;
    wal->entry.type = KV_ENTRY_NONE;
}


/* ---- kv_wal_files.c */

/* Writes the name of the file to `buf`, of KV_NAME_MAX bytes; returns it. */
char *kv_wal_name(char *buf, kv_wal_file_t kind, uint64_t number);

/*
 * The log's files in the directory by kind and number: an array that the caller
 * frees, in *names, and its length in *n.  KV_OK, or the result of kv_io_rc(),
 * with errno set.
 */
kv_rc_t kv_wal_list(kv_wal_t *wal, kv_wal_name_t **names, size_t *n);

/*
 * Finds segments that were given up as a whole (kv_format.h), and moves them to
 * the end of the list, as KV_WAL_STALE.  One that is gone by now stays where it
 * is: who opens it meets ENOENT.  KV_OK, or KV_ERROR with errno set: then the
 * list is not to be used.
 */
kv_rc_t kv_wal_set_stale(kv_wal_t *wal, kv_wal_name_t *names, size_t n);

/* Deletes them, as far as that can be done. */
void kv_wal_delete_stale(kv_wal_t *wal, const kv_wal_name_t *names, size_t n);

/*
 * What a segment of a replicated log begins with: its header and first STATE,
 * which are checked, without the members; *commit is the index that it says is
 * committed, and may be NULL.  KV_OK; KV_NOT_FOUND: these are not there;
 * KV_ERROR with errno set.
 */
kv_rc_t kv_wal_read_start(kv_wal_t *wal, uint64_t lsn, kv_segment_header_t *h,
    kv_entry_state_t *s, uint64_t *commit);

/*
 * Opens a segment and reads its header without checking it (as many bytes as
 * there are; zeroes follow): the 4096 bytes go to `buf`, the file's own size to
 * *size.  Returns the descriptor or -1 with errno set.
 */
int kv_wal_open(kv_wal_t *wal, uint64_t lsn, uint8_t *buf, uint64_t *size);

/* Bytes of a batch's header in a segment of this format version. */
size_t kv_wal_batch_header(uint32_t version);

/* The checksum of a segment's header, all 4096 bytes of it. */
uint32_t kv_wal_header_crc(const uint8_t *buf);

/* The result that errno stands for (kv_io_rc()). */
kv_rc_t kv_wal_rc(void);


/* ---- kv_wal_identity.c */

/*
 * The identity that the store has from now on, after a reading that found `id`
 * (zeroes: none) in its files: a new incarnation if `renew`.  KV_OK, or
 * KV_ERROR with errno set (EOVERFLOW: no incarnation is above that one).
 */
kv_rc_t kv_wal_identify(kv_identity_t *id, bool renew);

/* Whether a file with `id` is of another store than the one that is `known`. */
bool kv_wal_foreign(const kv_identity_t *known, const kv_identity_t *id);

/*
 * Whether people say that the disk was set back; yes, where it cannot be told:
 * a new incarnation does no harm.
 */
bool kv_wal_restored(kv_wal_t *wal);

/* Makes it the store's.  Under the commit lock, or before there is another. */
void kv_wal_set_id(kv_wal_state_t *state, const kv_identity_t *id);

/*
 * The next one that is past; 0 is none.  The LSNs do not go back.  Under the
 * commit lock; others may be reading.
 */
void kv_wal_past_add(kv_wal_past_t *past, uint64_t incarnation, uint64_t end);

/* The LSNs from this one on are not theirs any more. */
void kv_wal_past_cut(kv_wal_past_t *past, uint64_t lsn);

/* None is known any more; or those that another list has. */
void kv_wal_past_forget(kv_wal_past_t *past);
void kv_wal_past_copy(kv_wal_past_t *to, const kv_wal_past_t *from);

/* Which file in which directory this is (kv_format.h); 0: not to be told. */
uint64_t kv_wal_origin(kv_wal_t *wal, int fd);


/* ---- kv_wal_spare.c */

/*
 * Turns a spare into the file `tmp`, opened as *fd, under the commit lock.
 * Deletes spares of another size than the configured one, and segments that a
 * dead process was about to begin.  KV_OK, KV_NOT_FOUND (no spare), or the
 * result of kv_io_rc(), with errno set.
 */
kv_rc_t kv_wal_take_spare(kv_wal_t *wal, const char *tmp, int *fd);


/* ---- kv_wal_entry.c */

/* A batch of a replicated log without records: its header and data. */

typedef struct {
    kv_batch_header_t  h;
    uint8_t            data[KV_ENTRY_STATE_MAX - sizeof(kv_batch_header_t)];
} kv_wal_small_t;

/* Where the part of the current segment ends that is known to be synced. */
static inline uint32_t
kv_wal_durable_end(const kv_wal_state_t *state)
{
    return atomic_load(&state->durable_salt) == state->segment_salt
           ? (uint32_t) state->durable_offset : KV_SEGMENT_HEADER;
}

/* Makes the header of a batch at the log's end, without its checksum. */
static inline void
kv_wal_header(kv_wal_t *wal, kv_batch_header_t *h, size_t len, uint32_t count)
{
    const kv_wal_state_t  *state;

    state = wal->state;

    memset(h, 0, sizeof(*h));

    h->magic = KV_BATCH_MAGIC;
    h->len = (uint32_t) len;
    h->count = count;
    h->first_lsn = state->next_lsn;
    h->durable_lsn = state->durable_lsn;
    h->salt = state->segment_salt;
    h->time_ms = state->time_ms ? state->time_ms : kv_wall_ms();
    h->term = atomic_load(&state->incarnation);
    h->durable_end = state->replicated ? kv_wal_durable_end(state) : 0;
}

/* Makes the header, and *to, those of an entry of a replicated log. */
void kv_wal_enter(const kv_wal_state_t *state, const kv_wal_entry_t *e,
    kv_batch_header_t *h, kv_wal_position_t *to);

/* The bytes of a STATE as it would be now. */
size_t kv_wal_state_size(const kv_wal_state_t *state);

/* Whether the next entry must follow on a STATE, with another incarnation. */
static inline bool
kv_wal_state_due(const kv_wal_state_t *state)
{
    return state->replicated
           && state->replica.incarnation != atomic_load(&state->incarnation);
}

/* Makes a STATE of what the log will know of itself, and of its members. */
void kv_wal_make_state(kv_wal_t *wal, kv_wal_small_t *batch,
    const kv_wal_replica_t *replica, const void *members);

/* Sets its checksum, and returns its length. */
size_t kv_wal_seal_small(kv_wal_small_t *batch);

/*
 * The first batch of a segment: a STATE of to->replica and these members, at
 * offset 4096 of the file, which is not synced; moves to->offset behind it.
 * KV_OK, or the result of kv_io_rc(), with errno set.
 */
kv_rc_t kv_wal_first_state(kv_wal_t *wal, int fd, kv_wal_position_t *to,
    const void *members);


/* ---- kv_wal_place.c */

/* What is to be written. */

typedef struct {
    size_t    len;                   /* bytes */
    uint32_t  count;                 /* records */
    bool      entry;                 /* it may have to follow on a STATE */
    bool      urgent;                /* may use the reserve, if there can be no
                                        new segment */
} kv_wal_need_t;

/*
 * Opens a segment that this fits into, deletes the note of a clean end, and
 * writes the STATE, if one is due.  Results as those of kv_wal_write().
 */
kv_rc_t kv_wal_ready(kv_wal_t *wal, const kv_wal_need_t *need, kv_err_t *err);

/*
 * Writes `n` pieces, `len` bytes, at the log's end, and moves it behind them:
 * to *to, where all but the offset is set.  The pieces are used up.  KV_OK;
 * else the result of kv_io_rc(), with `err` filled.
 */
kv_rc_t kv_wal_append(kv_wal_t *wal, struct iovec *iov, size_t n, size_t len,
    kv_wal_position_t *to, kv_err_t *err);

/* The same of such a batch, whose checksum is set; and of a STATE of *to. */
kv_rc_t kv_wal_append_small(kv_wal_t *wal, kv_wal_small_t *batch,
    kv_wal_position_t *to, kv_err_t *err);
kv_rc_t kv_wal_write_state(kv_wal_t *wal, kv_wal_position_t *to,
    kv_err_t *err);

/*
 * What kv_wal_read.c requires of a batch holds for this one before it is
 * written, and it goes where a reader expects it.
 */
void kv_wal_assert(const kv_wal_t *wal, const kv_batch_header_t *h);

/* Fills `err`: the file, where in it, and what to do. */
void kv_wal_write_failed(kv_wal_t *wal, kv_rc_t rc, size_t len, kv_err_t *err);


/* ---- kv_wal_rest.c */

/*
 * What stays of a log when entries are given up: where it goes on, as if that
 * were in the segment before the next one; what the STATE says that the next
 * one begins with; and what is copied behind it.
 */

typedef struct {
    kv_wal_position_t  to;
    uint8_t            members[KV_MEMBERS_MAX];
    kv_wal_replica_t   first;
    uint8_t            first_members[KV_MEMBERS_MAX];
    uint8_t           *entries;      /* batches, from malloc(), */
    size_t             len;          /* and their bytes */
} kv_wal_rest_t;

/*
 * Finds what stays if the entries from `index` on are given up; the caller
 * frees rest->entries.  KV_OK; KV_NOT_FOUND: there is no such entry; else as
 * kv_wal_truncate().
 */
kv_rc_t kv_wal_find_rest(kv_wal_t *wal, uint64_t index, kv_wal_rest_t *rest,
    kv_err_t *err);

/*
 * The same, if no record is in the current segment, and nothing is given up:
 * the entries in it that may not be committed stay.
 */
kv_rc_t kv_wal_keep_rest(kv_wal_t *wal, kv_wal_rest_t *rest, kv_err_t *err);


/* ---- kv_wal_segment.c */

/*
 * Where the log is: fills *to, which then is changed and moved to; its replica
 * in a replicated log alone.
 */
static inline void
kv_wal_here(const kv_wal_state_t *state, kv_wal_position_t *to)
{
    to->segment_lsn = state->segment_lsn;
    to->segment_salt = state->segment_salt;
    to->segment_size = state->segment_size;
    to->offset = state->offset;
    to->next_lsn = atomic_load(&state->next_lsn);

    if (state->replicated) {
        to->replica = state->replica;
    }
}

/* Where the first batch that is written to the current segment goes. */
static inline uint64_t
kv_wal_first_offset(const kv_wal_state_t *state)
{
    return state->replicated ? state->replica.start : KV_SEGMENT_HEADER;
}

/* Where the last batch of the current segment ends. */
uint64_t kv_wal_last_end(const kv_wal_state_t *state);

/* Copies the position that the state is to move to, and clears `moving`. */
static inline void
kv_wal_end_move(kv_wal_state_t *state)
{
    state->segment_lsn = state->to.segment_lsn;
    state->segment_salt = state->to.segment_salt;
    state->segment_size = state->to.segment_size;
    state->offset = state->to.offset;
    atomic_store(&state->next_lsn, state->to.next_lsn);

    if (state->replicated) {
        state->replica = state->to.replica;
    }

    atomic_store(&state->moving, 0);
}

/* Finishes a move that a dead process began. */
static inline void
kv_wal_settle(kv_wal_state_t *state)
{
    if (kv_unlikely(atomic_load(&state->moving))) {
        kv_wal_end_move(state);
    }
}

/* Moves the state to *to as one step, at whatever instruction a kill comes. */
static inline void
kv_wal_move(kv_wal_state_t *state, const kv_wal_position_t *to)
{
    assert(to->offset <= to->segment_size && to->next_lsn >= to->segment_lsn);

    state->to.segment_lsn = to->segment_lsn;
    state->to.segment_salt = to->segment_salt;
    state->to.segment_size = to->segment_size;
    state->to.offset = to->offset;
    state->to.next_lsn = to->next_lsn;

    if (state->replicated) {
        state->to.replica = to->replica;
    }

    atomic_store(&state->moving, 1);

    kv_wal_end_move(state);
}

/* Closes the current segment to batches: the next one goes to a new one. */
void kv_wal_seal(kv_wal_state_t *state);

/*
 * Whether no batch is in the current segment, and none may go there: the next
 * segment takes its name, and may have it already.
 */
bool kv_wal_replaceable(const kv_wal_state_t *state);

/*
 * Makes wal->fd the current segment, of which there is one.  The file is
 * checked: if it were another one, or one that is not closed to batches became
 * shorter, batches would go where no replay reads them.  KV_OK, or the result
 * of kv_io_rc(), with `err` filled.
 */
kv_rc_t kv_wal_current(kv_wal_t *wal, kv_err_t *err);

/*
 * Whether the current segment still has its name, if this process has it open.
 * Further writes to a segment that was deleted, renamed or replaced would be
 * lost, and maybe only descriptors still give what is in it.  One without a
 * batch is closed to them: the next one takes its place.  KV_OK, or KV_ERROR
 * with `err` filled.
 */
kv_rc_t kv_wal_check_name(kv_wal_t *wal, kv_err_t *err);

/*
 * Syncs the current segment, closes it to batches, begins the next one, and
 * opens that.  Results as those of kv_wal_write().
 */
kv_rc_t kv_wal_next_segment(kv_wal_t *wal, kv_err_t *err);

/*
 * Begins a segment with that, as the current one, and opens it.  Results as
 * those of kv_wal_write(); after KV_ERROR it may have been begun.
 */
kv_rc_t kv_wal_cut_segment(kv_wal_t *wal, kv_wal_rest_t *rest, kv_err_t *err);

/*
 * Finishes what a process has begun, that died in it, as far as it came.
 * KV_OK: there is nothing; KV_AGAIN: it may have cut the log back, and `err`
 * says so; KV_ERROR, `err` filled.
 */
kv_rc_t kv_wal_end_cut(kv_wal_t *wal, kv_err_t *err);

/* Closes the descriptor of the current segment. */
void kv_wal_close(kv_wal_t *wal);

/* What the operator can do about such a failure of writing or syncing. */
const char *kv_wal_advice(kv_rc_t rc);


/* ---- kv_wal_closed.c */

/*
 * Writes log-<LSN>.closed, of the LSN in `closed`, durably; origin and checksum
 * are filled in here.  KV_OK, or the result of kv_io_rc(), with `err` filled.
 */
kv_rc_t kv_wal_write_closed(kv_wal_t *wal, kv_closed_t *closed, kv_err_t *err);

/*
 * Reads log-<LSN>.closed, and whether it is for sure the file that was written,
 * not a copy, to *own.  KV_OK; KV_NOT_FOUND: it was emptied; KV_DAMAGED; or
 * KV_ERROR with errno set.
 */
kv_rc_t kv_wal_read_closed(kv_wal_t *wal, uint64_t lsn, kv_closed_t *closed,
    bool *own);

/*
 * Empties log-<LSN>.closed, durably, so that no name of it says anything, and
 * deletes it if it can.  False: it cannot be emptied.
 */
bool kv_wal_void_closed(kv_wal_t *wal, uint64_t lsn);

/*
 * Before the first batch after a start: empties log-<LSN>.closed and deletes
 * it, durably, and then the file "restored", if the start found it.  If a note
 * cannot be emptied, or the one that the incarnation goes on from is not there,
 * a new incarnation begins.  One that stays, which
 * kv_wal_warning() tells, says nothing if it is empty; else the log continues
 * in a new segment, of whose end it says nothing.  KV_OK, or the result of
 * kv_io_rc(), with `err` filled.
 */
kv_rc_t kv_wal_open_again(kv_wal_t *wal, kv_err_t *err);


#endif /* KV_WAL_PRIVATE_H */
