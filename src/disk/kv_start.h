
/*
 * What a start reads of a directory: the newest snapshot that is good, and the
 * log after it.  For the store, and for tools that must come to the same state.
 */


#ifndef KV_START_H
#define KV_START_H


#include "disk/kv_snapshot.h"
#include "disk/kv_wal.h"


/*
 * Reads all of one snapshot, of which `guess` is known.  Results as those of
 * kv_snapshot_read(), errno kept; a result of its own ends the start, and then
 * it has filled what tells why.
 */
typedef kv_rc_t (*kv_start_read_pt)(void *ctx, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end_lsn, uint64_t *bytes,
    kv_err_t *err);


/*
 * Zeroes, and in `from` the callbacks, which the caller sets; the rest is
 * filled in here.
 */

typedef struct {
    kv_wal_replay_t      from;       /* what to read of the log */
    kv_snapshot_list_t   bad;        /* snapshots that cannot be used */
    kv_err_t             unread;     /* the first that could not be read */
    uint64_t             snapshot;   /* the one that is used; 0: none */
    uint64_t             bytes;      /* of it, */
    uint64_t             records;    /* and how many its footer says it has */
    uint64_t             time_ms;    /* when it was begun */
} kv_start_t;


/*
 * Has `read` read the newest snapshot, and as long as one is damaged the next
 * older one, and says by start->from.warn what it passes over.  KV_OK, also
 * where no snapshot is any good: the log alone may be.  KV_DAMAGED: one is of
 * a format that is not known.  KV_ERROR, KV_AGAIN, or a result of `read`'s own.
 * `err` is filled but for the last.
 */
kv_rc_t kv_start_snapshot(kv_io_t *io, int dirfd, kv_start_t *start,
    kv_start_read_pt read, void *ctx, kv_err_t *err);

/*
 * Takes the result of reading the log, and returns what the start comes to.
 * Damage counts as KV_ERROR, with `err` telling of both, if a snapshot could
 * not be read: a later read of the disk may succeed.
 */
kv_rc_t kv_start_end(const kv_start_t *start, kv_rc_t rc, kv_err_t *err);


#endif /* KV_START_H */
