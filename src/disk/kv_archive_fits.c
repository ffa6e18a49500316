
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
static kv_rc_t kv_archive_other_log(uint64_t lsn, kv_err_t *err);
static uint64_t kv_archive_next(const kv_archive_list_t *data, uint64_t lsn);
static uint64_t kv_archive_limit(const kv_archive_list_t *data, uint64_t lsn);
static kv_rc_t kv_archive_fits_snapshot(kv_archive_t *a,
    const kv_identity_t *id, uint64_t last, kv_err_t *err);
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
    uint64_t       first, newest, next, end;
    kv_identity_t  its;

    /* what the store has yet is compared, and put there if it is missing */

    first = data->n ? data->name[0].number : last + 1;
    a->upto = first - 1;

    if (there->n == 0) {
        return KV_OK;
    }

    newest = there->name[there->n - 1].number;
    next = kv_archive_has(data, newest) ? 0 : kv_archive_next(data, newest);

    rc = kv_wal_end(a->io, a->to, newest, next, &its, &end, err);

    if (kv_wal_foreign(id, &its)) {
        return kv_archive_foreign(err);
    }

    if (rc == KV_OK) {
        rc = kv_archive_strange(a, data, there, err);
    }

    if (rc != KV_OK) {
        return rc == KV_DECLINED ? kv_archive_other_log(newest, err) : rc;
    }

    end = kv_min(end, kv_archive_limit(data, newest));

    if (end > last) {
        return kv_archive_ahead(end, last, err);
    }

    /* behind it there may be a gap */

    a->upto = kv_min(end, a->upto);

    return KV_OK;
}


static kv_rc_t
kv_archive_other_log(uint64_t lsn, kv_err_t *err)
{
    char  name[KV_NAME_MAX];

    return kv_archive_other(kv_wal_name(name, KV_WAL_SEGMENT, lsn), err);
}


/* Where the store's first segment behind that LSN begins; 0: there is none. */

static uint64_t
kv_archive_next(const kv_archive_list_t *data, uint64_t lsn)
{
    size_t  i;

    for (i = 0; i < data->n; i++) {
        if (data->name[i].number > lsn) {
            return data->name[i].number;
        }
    }

    return 0;
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


/*
 * Of a segment that the store does not have, the one before it must not hold
 * its writes.  There are such: what is left of a log that was given up may be
 * any of its segments after a power cut.
 */

kv_rc_t
kv_archive_strange(kv_archive_t *a, const kv_archive_list_t *data,
    const kv_archive_list_t *there, kv_err_t *err)
{
    size_t         i, before, checked;
    kv_rc_t        rc;
    uint64_t       lsn, end;
    kv_identity_t  id;

    for (i = 0, before = 0, checked = 0; i < there->n; i++) {

        lsn = there->name[i].number;

        while (before < data->n && data->name[before].number < lsn) {
            before++;
        }

        if (before == checked || (before < data->n
                                  && data->name[before].number == lsn))
        {
            continue;
        }

        checked = before;

        rc = kv_wal_end(a->io, a->dirfd, data->name[before - 1].number, lsn,
                        &id, &end, err);

        if (rc != KV_OK) {
            return rc == KV_DECLINED ? kv_archive_other_log(lsn, err) : rc;
        }
    }

    return KV_OK;
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


static kv_rc_t
kv_archive_foreign(kv_err_t *err)
{
    kv_err_set(err, "it is of another store, or of this one before a restore: "
               "give the zone a new archive");

    return KV_DAMAGED;
}


static kv_rc_t
kv_archive_ahead(uint64_t end, uint64_t last, kv_err_t *err)
{
    kv_err_set(err, "it goes on to LSN %" PRIu64 ", and the store ends with %"
               PRIu64 ", as where an old copy was put back: give the zone a "
               "new archive", end, last);

    return KV_DAMAGED;
}
