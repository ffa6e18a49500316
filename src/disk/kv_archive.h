
/*
 * An archive: a directory beside that of a store, which keeps the segments of
 * its log, once they are full, and its snapshots, also when the store does not
 * need them any more.  Files have the names that they have there, and are the
 * same byte for byte: a second name of the same file where both directories are
 * in one file system, else a copy.
 *
 * A file gets its name in the archive when all of it is there and synced.
 */


#ifndef KV_ARCHIVE_H
#define KV_ARCHIVE_H


#include "disk/kv_backup.h"
#include "disk/kv_dir.h"


typedef struct {
    kv_io_t        *io;
    int             dirfd;           /* the store's directory, */
    int             to;              /* and the archive */
    bool          (*stop)(void *ctx);  /* whether to come to an end soon */
    void           *ctx;

    /*
     * All up to this LSN is in the archive, or was lost for it, or was written
     * before there was one.
     */
    uint64_t        upto;

    /* set by kv_archive_update() */
    uint64_t        gap_from;        /* the log from here to there is in */
    uint64_t        gap_to;          /* neither of both; 0: no such gap */
    unsigned        put;             /* files that it has put there */
    unsigned        waiting;         /* full segments that are not there */
} kv_archive_t;


/*
 * Makes the empty file which says that this is an archive (KV_ARCHIVE_NAME).
 * KV_OK, or the result of kv_io_rc().
 */
kv_rc_t kv_archive_mark(kv_archive_t *a);

/*
 * Whether the archive can go on with a store of this identity, whose log ends
 * with `last`: KV_OK, and a->upto is set; KV_DAMAGED: it is of another store,
 * also of this one before a restore, or has writes that this one does not have,
 * as where an old copy of the directory was put back; or KV_ERROR
 * and the like; `err` filled.  Before the store is in use.
 */
kv_rc_t kv_archive_fits(kv_archive_t *a, const kv_identity_t *id,
    uint64_t last, kv_err_t *err);

/*
 * Puts into the archive what is not there yet: segments before that which
 * begins with `current`, and snapshots.  KV_OK; KV_CANCELLED; KV_DAMAGED: a
 * file is there that is not the store's; KV_NO_SPACE, KV_AGAIN or KV_ERROR;
 * `err` filled.  a->upto, a->waiting and the gap are right after any of these,
 * but where the store's own directory cannot be listed: then they stay.
 * One caller at a time, and not beside a deletion of the store's files.
 */
kv_rc_t kv_archive_update(kv_archive_t *a, uint64_t current, kv_err_t *err);

/*
 * Notes in the archive that the log from LSN `from` to `to` is not there: an
 * empty file, gap-<from>-<to>.  KV_OK, or the result of kv_io_rc().
 */
kv_rc_t kv_archive_note_gap(kv_io_t *io, int dirfd, uint64_t from,
    uint64_t to);

/* Whether that is the name of such a file; then which LSNs it is about. */
bool kv_archive_is_gap(const char *name, uint64_t *from, uint64_t *to);


/*
 * Deletes what is needed for no moment from `before_ms` on: snapshots before
 * the one that such a moment can need first, and segments and notes of gaps
 * that end before that.  If there is any, that snapshot is read first, as it is
 * to stand for all of these; one that is not good is KV_DAMAGED, and nothing is
 * deleted.  *deleted is how many files were.
 * KV_OK; KV_CANCELLED, KV_AGAIN, KV_ERROR, `err` filled.
 */
kv_rc_t kv_archive_keep(kv_archive_t *a, uint64_t before_ms, unsigned *deleted,
    kv_err_t *err);


/* Which moment is to be restored: one of the two. */

typedef struct {
    uint64_t        lsn;             /* the last one that is to be there; 0:
                                        see time_ms */
    uint64_t        time_ms;         /* all that was written until then */
} kv_archive_moment_t;

/*
 * Makes the data directory `dir` of the archive `path`, and of the store's own
 * directory `data`, which may be in use, or NULL: what is not in the archive
 * yet is taken from there.  Else as kv_backup_restore(): header->lsn and
 * header->time_ms tell the last write that was restored, and when that was
 * made.  KV_NOT_FOUND, too: the archive does not have that moment; `err`
 * filled.
 */
kv_rc_t kv_archive_restore(const char *path, const char *data,
    const char *dir, const kv_archive_moment_t *moment,
    const kv_backup_watch_t *watch, kv_backup_header_t *header, kv_err_t *err);


#endif /* KV_ARCHIVE_H */
