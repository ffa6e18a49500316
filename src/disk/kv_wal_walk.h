
/*
 * Reading the log without a change to it, also while a store writes it: for
 * backups, and for what looks into them.
 */


#ifndef KV_WAL_WALK_H
#define KV_WAL_WALK_H


#include "disk/kv_wal.h"


/* A segment, as far as it is needed. */

typedef struct {
    uint64_t        lsn;             /* its first, as in the file's name */
    uint64_t        bytes;           /* to the end of the last batch */
} kv_wal_part_t;


/*
 * The batch that `upto` is in the middle of, behind what the last part says:
 * its first records, up to there.
 */

typedef struct {
    uint32_t        head;            /* bytes of its header; 0: there is none */
    uint32_t        count;           /* records, */
    uint32_t        len;             /* and their bytes */
} kv_wal_cut_t;


typedef struct {
    kv_io_t        *io;
    int             dirfd;
    uint64_t        after;           /* the snapshot's S, or 0 */
    uint64_t        upto;            /* the last LSN; a batch ends with it, */
    bool            cuts;            /* unless it is in `cut` */
    bool            open_end;        /* or the log may end before that */
    uint64_t        until_ms;        /* no batch of a later time; 0: any */
    kv_identity_t   id;              /* the snapshot's, or zeroes */

    /*
     * Gets each record from after + 1 to upto.  Any result but KV_OK ends the
     * reading.
     */
    kv_record_pt    record;
    void           *ctx;

    /* what was found */
    kv_wal_part_t  *part;            /* in order; the caller frees it */
    size_t          n;
    kv_wal_cut_t    cut;
    uint64_t        last;            /* the last LSN, or `after`, */
    uint64_t        time_ms;         /* and the time of its batch, or 0 */
} kv_wal_walk_t;


/*
 * Reads and checks the segments that hold the LSNs from after + 1 to `upto`
 * (or, of these, to the last one that the log has, or that is of its time),
 * which are durable, and not given up as long as it lasts.  What is behind
 * `upto` does not count, and may be written meanwhile.  If upto == after
 * nothing is read.  KV_OK; KV_DAMAGED, also where LSNs are missing, or `upto`
 * is in the middle of a batch; KV_ERROR or KV_AGAIN for I/O errors; in all
 * these cases `err` is filled; or what walk->record returned.  walk->id is then
 * the highest identity that was named up to there.
 */
kv_rc_t kv_wal_walk(kv_wal_walk_t *walk, kv_err_t *err);

/*
 * Where the segment `lsn` ends, which is read alone: *end is its last LSN, or
 * lsn - 1, and *id what it says of the store.  If `next` is not 0, a segment
 * begins there, and what this one has from there on was never acknowledged;
 * KV_DECLINED: it was, so the two are of different logs.  KV_OK; else as above.
 */
kv_rc_t kv_wal_end(kv_io_t *io, int dirfd, uint64_t lsn, uint64_t next,
    kv_identity_t *id, uint64_t *end, kv_err_t *err);


#endif /* KV_WAL_WALK_H */
