
/*
 * Whether an archive can go on with a store: it must hold nothing that the
 * store does not have, or a moment would be restored from two histories.
 */


#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_archive_private.h"
#include "disk/kv_snapshot.h"
#include "disk/kv_wal_walk.h"


static kv_rc_t kv_archive_fits_log(kv_archive_t *a, const kv_identity_t *id,
    uint64_t last, const kv_archive_list_t *data,
    const kv_archive_list_t *there, kv_err_t *err);
static uint64_t kv_archive_limit(const kv_archive_list_t *data, uint64_t lsn);
static kv_rc_t kv_archive_fits_snapshot(kv_archive_t *a,
    const kv_identity_t *id, uint64_t last, kv_err_t *err);
static kv_rc_t kv_archive_end(kv_archive_t *a, uint64_t first,
    kv_identity_t *id, uint64_t *end, kv_err_t *err);
static kv_rc_t kv_archive_any(void *ctx, uint64_t lsn, const kv_record_t *rec);
static kv_rc_t kv_archive_foreign(kv_err_t *err);
static kv_rc_t kv_archive_ahead(uint64_t end, uint64_t last, kv_err_t *err);


kv_rc_t
kv_archive_fits(kv_archive_t *a, const kv_identity_t *id, uint64_t last,
    kv_err_t *err)
{
    kv_rc_t            rc;
    kv_archive_list_t  data, there;

    rc = kv_archive_list(a, a->dirfd, &data, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_archive_list(a, a->to, &there, err);

    if (rc == KV_OK) {
        rc = kv_archive_fits_log(a, id, last, &data, &there, err);
        free(there.name);
    }

    free(data.name);

    return rc == KV_OK ? kv_archive_fits_snapshot(a, id, last, err) : rc;
}


static kv_rc_t
kv_archive_fits_log(kv_archive_t *a, const kv_identity_t *id, uint64_t last,
    const kv_archive_list_t *data, const kv_archive_list_t *there,
    kv_err_t *err)
{
    kv_rc_t        rc;
    uint64_t       first, newest, end;
    kv_identity_t  its;

    /* what the store has yet is compared, and put there if it is missing */

    first = data->n ? data->name[0].number : last + 1;
    a->upto = first - 1;

    if (there->n == 0) {
        return KV_OK;
    }

    newest = there->name[there->n - 1].number;

    rc = kv_archive_end(a, newest, &its, &end, err);

    if (rc != KV_OK) {
        return rc;
    }

    if (kv_wal_foreign(id, &its)) {
        return kv_archive_foreign(err);
    }

    end = kv_min(end, kv_archive_limit(data, newest));

    if (end > last) {
        return kv_archive_ahead(end, last, err);
    }

    if (end >= first && !kv_archive_has(data, newest)) {
        kv_err_set(err, "its log-%016" PRIx64 ".kvl has writes that are in "
                   "another file of the store, as after a restore: give the "
                   "zone a new archive", newest);
        return KV_DAMAGED;
    }

    /* behind it there may be a gap */

    a->upto = kv_min(end, a->upto);

    return KV_OK;
}


/*
 * Where that segment ends, if the store has it, and one behind it: a batch that
 * was never acknowledged may stand there, of a committer that died.
 */

static uint64_t
kv_archive_limit(const kv_archive_list_t *data, uint64_t lsn)
{
    size_t  i;

    for (i = 0; i + 1 < data->n; i++) {
        if (data->name[i].number == lsn) {
            return data->name[i + 1].number - 1;
        }
    }

    return UINT64_MAX;
}


/* A snapshot may hold writes that are in no full segment yet. */

static kv_rc_t
kv_archive_fits_snapshot(kv_archive_t *a, const kv_identity_t *id,
    uint64_t last, kv_err_t *err)
{
    kv_rc_t              rc;
    uint64_t             end;
    kv_snapshot_list_t   list;
    kv_snapshot_guess_t  guess;

    rc = kv_snapshot_list(a->io, a->to, &list, err);

    if (rc != KV_OK || list.n == 0) {
        return rc;
    }

    kv_snapshot_guess(a->io, a->to, list.lsn[0], &guess);

    if (kv_wal_foreign(id, &guess.id)) {
        return kv_archive_foreign(err);
    }

    end = kv_max(guess.end_lsn, list.lsn[0]);

    return end > last ? kv_archive_ahead(end, last, err) : KV_OK;
}


/*
 * Where the archive's last segment ends, which begins with `first`; and what it
 * says of the store.
 */

static kv_rc_t
kv_archive_end(kv_archive_t *a, uint64_t first, kv_identity_t *id,
    uint64_t *end, kv_err_t *err)
{
    kv_rc_t        rc;
    kv_wal_walk_t  walk;

    memset(&walk, 0, sizeof(walk));
    walk.io = a->io;
    walk.dirfd = a->to;
    walk.after = first - 1;
    walk.upto = KV_LSN_MAX;
    walk.open_end = true;
    walk.record = kv_archive_any;

    rc = kv_wal_walk(&walk, err);

    free(walk.part);

    if (rc == KV_OK) {
        *end = walk.last;
        *id = walk.id;
    }

    return rc;
}


static kv_rc_t
kv_archive_any(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) ctx;
    (void) lsn;
    (void) rec;

    return KV_OK;
}


static kv_rc_t
kv_archive_foreign(kv_err_t *err)
{
    kv_err_set(err, "it is of another store: give the zone an archive of its "
               "own");

    return KV_DAMAGED;
}


static kv_rc_t
kv_archive_ahead(uint64_t end, uint64_t last, kv_err_t *err)
{
    kv_err_set(err, "it goes on to LSN %" PRIu64 ", and the store ends with %"
               PRIu64 ", as after a restore: give the zone a new archive, or "
               "restore more", end, last);

    return KV_DAMAGED;
}
