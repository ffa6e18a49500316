
/*
 * Snapshot files: writing one block by block, reading one back, finding and
 * deleting them.  The format is in kv_format.h; the caller decides what goes
 * into one, and when.
 */


#ifndef KV_SNAPSHOT_H
#define KV_SNAPSHOT_H


#include "disk/kv_io.h"
#include "disk/kv_record.h"


typedef struct kv_snapshot_writer_s  kv_snapshot_writer_t;


/* Snapshots in a directory, newest first. */

#define KV_SNAPSHOTS_MAX  64

/* damaged ones that are kept */
#define KV_SNAPSHOTS_ASIDE  2u

typedef struct {
    unsigned  n;
    uint64_t  lsn[KV_SNAPSHOTS_MAX];      /* the S of each */
} kv_snapshot_list_t;


/*
 * What a snapshot's header and footer say; zeroes where they say nothing.  All
 * but the first two are checked, as they may stay in use.
 */

typedef struct {
    uint64_t  records;
    uint64_t  bytes;                      /* of the file */
    uint64_t  seed[2];                    /* see kv_snapshot_begin() */
    uint64_t  salt;                       /* no other snapshot has it */
    uint64_t  end_lsn;                    /* its E */
    kv_identity_t  id;                    /* of the store */
    uint64_t  time_ms;                    /* when it was begun */
    uint64_t  term;                       /* as in kv_snapshot_about_t */
    uint64_t  index;
} kv_snapshot_guess_t;


/* What a snapshot's header says. */

typedef struct {
    uint64_t  lsn;                        /* its S */
    uint64_t  time_ms;                    /* when it was begun */
    uint64_t  seed[2];                    /* of the map whose walk gives the
                                             records (kv_map.h), or zeroes */
    kv_identity_t  id;                    /* the store's */
    uint64_t  term;                       /* and index of the last entry of a */
    uint64_t  index;                      /* replicated log that is in it for
                                             sure; else both are 0 */
} kv_snapshot_about_t;


/*
 * Begins snap-<lsn>.tmp, replacing one that was left over (if that cannot be
 * deleted, under another LSN's name).  KV_OK with the writer in *w,
 * KV_NO_SPACE, or KV_ERROR (`err` filled).
 */
kv_rc_t kv_snapshot_begin(kv_io_t *io, int dirfd,
    const kv_snapshot_about_t *about, kv_snapshot_writer_t **w, kv_err_t *err);

/*
 * Adds a record, a put that has its LSN; its memory is the caller's again on
 * return.  Blocks of about 1 MiB are written as they fill, so most calls only
 * copy.  KV_OK,
 * KV_NO_SPACE, KV_ERROR (`err` filled): then call kv_snapshot_abort().
 */
kv_rc_t kv_snapshot_add(kv_snapshot_writer_t *w, const kv_record_t *rec,
    kv_err_t *err);

/*
 * Writes what is left and the footer with E = `end_lsn`, syncs, renames, syncs
 * the directory.  The caller has made the log durable up to `end_lsn`.  On
 * KV_OK the writer is freed and *bytes is the file's size; else as above.
 */
kv_rc_t kv_snapshot_finish(kv_snapshot_writer_t *w, uint64_t end_lsn,
    uint64_t *bytes, kv_err_t *err);

/*
 * Deletes the unfinished file and frees the writer.
 */
void kv_snapshot_abort(kv_snapshot_writer_t *w);

/* Lists what is there.  KV_OK or KV_ERROR (`err` filled). */
kv_rc_t kv_snapshot_list(kv_io_t *io, int dirfd, kv_snapshot_list_t *list,
    kv_err_t *err);

/*
 * Reads snap-<lsn>.kvs: calls `cb` (LSN argument 0) for every record of each
 * good block, and at the end sets *end_lsn to E and *bytes to the snapshot's
 * size; the file may be larger, but what follows the footer does not count.
 * KV_OK; KV_DAMAGED with `err` naming file and offset (the caller has got the
 * records of earlier blocks, and must discard them); KV_DECLINED: good, but of
 * a format version, or with fields or records, that this version of the module
 * does not know; KV_ERROR with errno set; or what `cb` returned.
 * Memory is bounded by the largest block, whose length is checked against the
 * file's size before it is read.
 */
kv_rc_t kv_snapshot_read(kv_io_t *io, int dirfd, uint64_t lsn,
    kv_record_pt cb, void *ctx, uint64_t *end_lsn, uint64_t *bytes,
    kv_err_t *err);

/*
 * Whether such an error of reading means that the file is bad, rather than that
 * the process lacks something.
 */
bool kv_snapshot_lost(int error);

/*
 * Whether people decided that snap-<lsn>.kvs stands for the state at its E,
 * because the log between S and E is lost: snap-<lsn>.alone exists.  KV_OK,
 * KV_NOT_FOUND, or KV_AGAIN (`err` filled): it cannot be told now.
 */
kv_rc_t kv_snapshot_alone(kv_io_t *io, int dirfd, uint64_t lsn,
    kv_err_t *err);

/*
 * Renames a damaged snapshot to snap-<lsn>.kvs.damaged, which is never read; of
 * these the KV_SNAPSHOTS_ASIDE with the highest LSNs are kept.  KV_OK or
 * KV_ERROR (`err` filled).
 */
kv_rc_t kv_snapshot_put_aside(kv_io_t *io, int dirfd, uint64_t lsn,
    kv_err_t *err);

/* Deletes all snapshots put aside; *n is how many.  KV_OK or KV_ERROR. */
kv_rc_t kv_snapshot_drop_aside(kv_io_t *io, int dirfd, unsigned *n,
    kv_err_t *err);

/*
 * Reads header and footer of snap-<lsn>.kvs, for a caller that prepares to read
 * it.  `records` is never more than the file can hold.
 */
void kv_snapshot_guess(kv_io_t *io, int dirfd, uint64_t lsn,
    kv_snapshot_guess_t *guess);

/*
 * Deletes all but the `keep` (below KV_SNAPSHOTS_MAX) newest snapshots, and
 * left-over snap-*.tmp files unless `keep_tmp`; `pace` as for kv_io_remove().
 * KV_OK, or KV_ERROR (`err` filled): at least one of them stays.
 */
kv_rc_t kv_snapshot_purge(kv_io_t *io, int dirfd, unsigned keep,
    bool keep_tmp, const kv_io_pace_t *pace, kv_err_t *err);


#endif /* KV_SNAPSHOT_H */
