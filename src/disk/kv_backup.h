
/*
 * Backups: making one of a data directory, beside the store that writes to it
 * or not; checking one; restoring it.  The format is in kv_backup_format.h.
 */


#ifndef KV_BACKUP_H
#define KV_BACKUP_H


#include "disk/kv_backup_format.h"
#include "disk/kv_io.h"


/*
 * How a long call tells how far it is: step(ctx, done, all), bytes, often.  It
 * returns whether to go on.  May be NULL.
 */

typedef struct {
    bool  (*step)(void *ctx, uint64_t done, uint64_t all);
    void   *ctx;
} kv_backup_watch_t;


/* Writing one */

typedef struct kv_backup_s  kv_backup_t;

/*
 * Of the directory `dirfd`, which outlives it like `io` and `watch`.  NULL: out
 * of memory.
 */
kv_backup_t *kv_backup_create(kv_io_t *io, int dirfd,
    const kv_backup_watch_t *watch);

void kv_backup_destroy(kv_backup_t *b);

/*
 * First: reads the newest snapshot that is good, and takes it; none, if there
 * is none.  *lsn is its S, or 0.  From before this call on, until the backup is
 * destroyed, that snapshot and the log above it must stay.  KV_OK; KV_DAMAGED
 * or KV_ERROR, `err` filled; KV_CANCELLED.
 */
kv_rc_t kv_backup_snapshot(kv_backup_t *b, uint64_t *lsn, kv_err_t *err);

/*
 * Next: reads the log up to `lsn`, which is durable, was so after the call
 * above, and is the last of a batch.  `time_ms` is the store's time.  Results
 * as above.
 */
kv_rc_t kv_backup_log(kv_backup_t *b, uint64_t lsn, uint64_t time_ms,
    kv_err_t *err);

/* The header: what the file is of. */
const kv_backup_header_t *kv_backup_header(const kv_backup_t *b);

/*
 * Then, again and again: the next bytes of the file, up to `size` of them, to
 * `buf`; *n of them.  KV_OK; KV_DECLINED: there are no more; KV_DAMAGED: a file
 * became shorter; KV_ERROR; `err` filled.
 */
kv_rc_t kv_backup_next(kv_backup_t *b, void *buf, size_t size, size_t *n,
    kv_err_t *err);

/*
 * From which S on it still needs the snapshots, and above which LSN the log.
 */
uint64_t kv_backup_needs(const kv_backup_t *b);


/* Reading one.  What `err` says does not name the file: the caller has it. */

/*
 * Checks the file `path`: that it is whole and as it was sent, and that the
 * snapshot and the log in it are good.  KV_OK with *header filled; KV_DAMAGED,
 * KV_ERROR, `err` filled; KV_CANCELLED.
 */
kv_rc_t kv_backup_check(const char *path, const kv_backup_watch_t *watch,
    kv_backup_header_t *header, kv_err_t *err);

/*
 * Makes the data directory `dir` of it, which must not exist, or be empty.  The
 * file is checked first; the directory gets its name when all in it is written,
 * synced, and read back.  Until then it is called `dir`.restoring, and on an
 * error deleted.  Its first start begins a new incarnation.  Results as above;
 * KV_NO_SPACE.
 */
kv_rc_t kv_backup_restore(const char *path, const char *dir,
    const kv_backup_watch_t *watch, kv_backup_header_t *header, kv_err_t *err);

/*
 * Whether a directory of that name could be made by a restore: KV_OK; KV_ERROR,
 * `err` filled, and it names the directory.
 */
kv_rc_t kv_restore_check_dir(const char *dir, kv_err_t *err);


#endif /* KV_BACKUP_H */
