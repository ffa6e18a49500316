
/*
 * Deleting what an archive need not keep any longer; see kv_archive.h.
 */


#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_archive.h"
#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot.h"


/* A file there; or a gap, which its name is all that there is of it. */

typedef struct {
    char               name[KV_NAME_MAX];
    kv_backup_kind_t   kind;             /* KV_BACKUP_END: a gap */
    uint64_t           lsn;              /* the first one */
    uint64_t           last;             /* of a gap */
    bool               goes;
} kv_archive_file_t;


typedef struct {
    kv_archive_t       *archive;
    kv_archive_file_t  *file;            /* all that is there */
    size_t              n;
    size_t              max;
    bool                failed;
} kv_archive_all_t;


static void kv_archive_found(void *ctx, const char *name);
static bool kv_archive_parse(kv_archive_file_t *file, const char *name);
static int kv_archive_order(const void *one, const void *two);
static size_t kv_archive_oldest(const kv_archive_all_t *all,
    uint64_t before_ms);
static void kv_archive_choose_old(kv_archive_all_t *all, uint64_t lsn);
static kv_rc_t kv_archive_good(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_archive_delete(kv_archive_all_t *all, unsigned *deleted,
    kv_err_t *err);


kv_rc_t
kv_archive_keep(kv_archive_t *a, uint64_t before_ms, unsigned *deleted,
    kv_err_t *err)
{
    size_t            i;
    kv_rc_t           rc;
    uint64_t          lsn, end, bytes;
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
        qsort(all.file, all.n, sizeof(kv_archive_file_t), kv_archive_order);
    }

    i = kv_archive_oldest(&all, before_ms);
    rc = KV_OK;

    if (i < all.n) {
        lsn = all.file[i].lsn;

        kv_archive_choose_old(&all, lsn);

        /* it is to stand for all that is older */

        if (all.n) {
            rc = kv_snapshot_read(a->io, a->to, lsn, kv_archive_good, a, &end,
                                  &bytes, err);
        }

        if (rc == KV_OK) {
            rc = kv_archive_delete(&all, deleted, err);
        }
    }

    free(all.file);

    return rc == KV_DECLINED ? KV_DAMAGED : rc;
}


static void
kv_archive_found(void *ctx, const char *name)
{
    kv_archive_all_t *all = ctx;

    size_t              max;
    kv_archive_file_t   found, *file;

    if (!kv_archive_parse(&found, name)) {
        return;
    }

    if (all->n == all->max) {
        max = all->max ? 2 * all->max : 64;
        file = realloc(all->file, max * sizeof(kv_archive_file_t));

        if (file == NULL) {
            all->failed = true;
            return;
        }

        all->file = file;
        all->max = max;
    }

    all->file[all->n++] = found;
}


/* False: it is none of the archive's. */

static bool
kv_archive_parse(kv_archive_file_t *file, const char *name)
{
    memset(file, 0, sizeof(*file));

    if (kv_archive_is_gap(name, &file->lsn, &file->last)) {
        file->kind = KV_BACKUP_END;

    } else if (!kv_backup_parse(name, &file->kind, &file->lsn)) {
        return false;
    }

    (void) strcpy(file->name, name);

    return true;
}


static int
kv_archive_order(const void *one, const void *two)
{
    const kv_archive_file_t  *a = one;
    const kv_archive_file_t  *b = two;

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


/* Leaves those that go if that is the oldest snapshot. */

static void
kv_archive_choose_old(kv_archive_all_t *all, uint64_t lsn)
{
    size_t              i, n;
    uint64_t            end;
    kv_archive_file_t  *file;

    file = all->file;
    end = UINT64_MAX;

    /* a segment ends where the next one begins, so one behind it is known */

    for (i = all->n; i-- > 0; /* void */ ) {

        switch (file[i].kind) {

        case KV_BACKUP_SNAPSHOT:
            file[i].goes = file[i].lsn < lsn;
            break;

        case KV_BACKUP_SEGMENT:
            file[i].goes = end <= lsn;
            end = file[i].lsn - 1;
            break;

        default:
            file[i].goes = file[i].last <= lsn;
        }
    }

    for (i = 0, n = 0; i < all->n; i++) {
        if (file[i].goes) {
            file[n++] = file[i];
        }
    }

    all->n = n;
}


static kv_rc_t
kv_archive_good(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_archive_t *a = ctx;

    (void) lsn;
    (void) rec;

    return a->stop(a->ctx) ? KV_CANCELLED : KV_OK;
}


static kv_rc_t
kv_archive_delete(kv_archive_all_t *all, unsigned *deleted, kv_err_t *err)
{
    size_t         i;
    kv_archive_t  *a;

    a = all->archive;

    for (i = 0; i < all->n && !a->stop(a->ctx); i++) {

        if (a->io->unlink(a->io, a->to, all->file[i].name) == -1
            && errno != ENOENT)
        {
            kv_err_set(err, "an old file cannot be deleted from the archive: "
                       "%s", strerror(errno));
            return kv_io_rc(errno);
        }

        (*deleted)++;
    }

    return KV_OK;
}
