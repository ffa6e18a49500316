
/*
 * Deleting what an archive need not keep any longer; see kv_archive.h.
 */


#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_archive.h"
#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot.h"


typedef struct {
    kv_archive_t      *archive;
    kv_backup_file_t  *file;             /* all that is there */
    size_t             n;
    size_t             max;
    bool               failed;
} kv_archive_all_t;


static void kv_archive_found(void *ctx, const char *name);
static int kv_archive_order(const void *one, const void *two);
static size_t kv_archive_oldest(const kv_archive_all_t *all,
    uint64_t before_ms);
static kv_rc_t kv_archive_good(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_archive_delete(kv_archive_all_t *all, uint64_t lsn,
    unsigned *deleted, kv_err_t *err);


kv_rc_t
kv_archive_keep(kv_archive_t *a, uint64_t before_ms, unsigned *deleted,
    kv_err_t *err)
{
    size_t            i;
    kv_rc_t           rc;
    uint64_t          end, bytes;
    kv_archive_all_t  all;

    *deleted = 0;
    memset(&all, 0, sizeof(all));
    all.archive = a;

    if (a->io->list(a->io, a->to, kv_archive_found, &all) == -1
        || all.failed)
    {
        kv_err_set(err, "the archive cannot be listed: %s", all.failed
                   ? "out of memory" : strerror(errno));
        free(all.file);
        return KV_AGAIN;
    }

    if (all.n) {
        qsort(all.file, all.n, sizeof(kv_backup_file_t), kv_archive_order);
    }

    i = kv_archive_oldest(&all, before_ms);
    rc = KV_OK;

    if (i < all.n && all.file[0].lsn < all.file[i].lsn) {

        /* it is to stand for all that is older */

        rc = kv_snapshot_read(a->io, a->to, all.file[i].lsn, kv_archive_good,
                              a, &end, &bytes, err);

        if (rc == KV_OK) {
            rc = kv_archive_delete(&all, all.file[i].lsn, deleted, err);
        }
    }

    free(all.file);

    return rc == KV_DECLINED ? KV_DAMAGED : rc;
}


static void
kv_archive_found(void *ctx, const char *name)
{
    kv_archive_all_t *all = ctx;

    size_t             max;
    uint64_t           lsn;
    kv_backup_kind_t   kind;
    kv_backup_file_t  *file;

    if (!kv_backup_parse(name, &kind, &lsn)) {
        return;
    }

    if (all->n == all->max) {
        max = all->max ? 2 * all->max : 64;
        file = realloc(all->file, max * sizeof(kv_backup_file_t));

        if (file == NULL) {
            all->failed = true;
            return;
        }

        all->file = file;
        all->max = max;
    }

    file = &all->file[all->n++];
    memset(file, 0, sizeof(*file));
    file->kind = kind;
    file->lsn = lsn;
    kv_backup_name(file->name, kind, lsn);
}


static int
kv_archive_order(const void *one, const void *two)
{
    const kv_backup_file_t  *a = one;
    const kv_backup_file_t  *b = two;

    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}


/*
 * The snapshot before the newest that was begun at that time, or earlier: it
 * had ended by then, so from it all moments since can be restored.
 */

static size_t
kv_archive_oldest(const kv_archive_all_t *all, uint64_t before_ms)
{
    bool                 begun;
    size_t               i;
    kv_snapshot_guess_t  guess;

    begun = false;

    for (i = all->n; i-- > 0; /* void */ ) {

        if (all->file[i].kind != KV_BACKUP_SNAPSHOT) {
            continue;
        }

        if (begun) {
            return i;
        }

        kv_snapshot_guess(all->archive->io, all->archive->to,
                          all->file[i].lsn, &guess);

        begun = guess.time_ms && guess.time_ms <= before_ms;
    }

    return all->n;
}


static kv_rc_t
kv_archive_good(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_archive_t *a = ctx;

    (void) lsn;
    (void) rec;

    return a->stop(a->ctx) ? KV_CANCELLED : KV_OK;
}


/* Deletes the snapshots before that LSN, and segments that end before it. */

static kv_rc_t
kv_archive_delete(kv_archive_all_t *all, uint64_t lsn, unsigned *deleted,
    kv_err_t *err)
{
    size_t         i, segment;
    kv_archive_t  *a;

    a = all->archive;
    segment = all->n;

    /* a segment ends where the next one begins: one behind it is known */

    for (i = 0; i < all->n && !a->stop(a->ctx); i++) {

        if (all->file[i].kind == KV_BACKUP_SEGMENT) {

            if (segment < all->n && all->file[i].lsn - 1 <= lsn) {
                if (a->io->unlink(a->io, a->to, all->file[segment].name)
                    == -1)
                {
                    break;
                }

                (*deleted)++;
            }

            segment = i;

        } else if (all->file[i].lsn < lsn) {

            if (a->io->unlink(a->io, a->to, all->file[i].name) == -1) {
                break;
            }

            (*deleted)++;
        }
    }

    if (i < all->n && !a->stop(a->ctx)) {
        kv_err_set(err, "an old file cannot be deleted from the archive: %s",
                   strerror(errno));
        return kv_io_rc(errno);
    }

    return KV_OK;
}
