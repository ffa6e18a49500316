
/*
 * Keeping an archive; see kv_background_archive.h.
 */


#include "store/kv_background_archive.h"
#include "disk/kv_archive.h"
#include "store/kv_clock.h"
#include "store/kv_spare.h"


/* between two messages that it fails; ns */
#define KV_ARCHIVE_QUIET  UINT64_C(60000000000)


static void kv_background_archive_of(kv_store_t *store, kv_archive_t *a);
static void kv_background_archive_gap(kv_store_t *store,
    const kv_archive_t *a);
static void kv_background_archive_note(kv_store_t *store);
static kv_rc_t kv_background_archive_keep(kv_store_t *store, kv_archive_t *a,
    kv_err_t *err);
static void kv_background_archive_failed(kv_store_t *store, kv_rc_t rc,
    const kv_err_t *err);


void
kv_background_archive(kv_store_t *store)
{
    kv_rc_t       rc, kept;
    kv_err_t      err, why;
    kv_zone_t    *zone;
    kv_archive_t  a;

    zone = store->zone;

    if (store->conf.archive == NULL) {
        return;
    }

    kv_background_archive_of(store, &a);

    rc = kv_archive_update(&a, atomic_load(&zone->current_segment), &err);

    /* one that is full may be so of what need not be kept */

    if ((rc == KV_OK && a.put) || rc == KV_NO_SPACE) {
        kept = kv_background_archive_keep(store, &a, &why);

        if (rc == KV_OK && kept != KV_OK) {
            rc = kept;
            err = why;
        }
    }

    if (a.gap_to) {
        kv_background_archive_gap(store, &a);
    }

    kv_background_archive_note(store);

    atomic_store(&zone->archive_lsn, a.upto);
    atomic_store(&zone->archive_waiting, a.waiting);
    (void) atomic_fetch_add(&zone->archive_files, a.put);

    if (rc == KV_OK) {

        if (zone->archive_logged_ns) {
            zone->archive_logged_ns = 0;
            kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": the archive "
                         "\"%s\" works again", store->conf.name,
                         store->conf.archive);
        }

    } else if (rc != KV_CANCELLED) {
        kv_background_archive_failed(store, rc, &err);
    }
}


static void
kv_background_archive_of(kv_store_t *store, kv_archive_t *a)
{
    memset(a, 0, sizeof(*a));

    a->io = store->io;
    a->dirfd = store->dirfd;
    a->to = store->conf.archive_fd;
    a->stop = kv_spare_asked_or_stopped;
    a->ctx = store;
    a->upto = atomic_load(&store->zone->archive_lsn);
    a->waiting = (unsigned) atomic_load(&store->zone->archive_waiting);
}


/* A kill before it is counted has it found, and told, once more. */

static void
kv_background_archive_gap(kv_store_t *store, const kv_archive_t *a)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (zone->archive_gap_to == 0) {
        zone->archive_gap_from = a->gap_from;
    }

    zone->archive_gap_to = a->gap_to;

    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\": the archive \"%s\" "
                 "lacks the log from LSN %llu to %llu, for good: no moment "
                 "from there to the next snapshot can be restored",
                 store->conf.name, store->conf.archive,
                 (unsigned long long) a->gap_from,
                 (unsigned long long) a->gap_to);

    (void) atomic_fetch_add(&zone->archive_gaps, 1);
}


/* As soon as that is possible: the archive is likely to be full, or gone. */

static void
kv_background_archive_note(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (zone->archive_gap_to
        && kv_archive_note_gap(store->io, store->conf.archive_fd,
                               zone->archive_gap_from, zone->archive_gap_to)
           == KV_OK)
    {
        zone->archive_gap_to = 0;
    }
}


static kv_rc_t
kv_background_archive_keep(kv_store_t *store, kv_archive_t *a, kv_err_t *err)
{
    kv_rc_t   rc;
    uint64_t  now;
    unsigned  deleted;

    now = kv_clock_ms(store->zone);

    if (store->conf.archive_keep == 0 || now <= store->conf.archive_keep) {
        return KV_OK;
    }

    rc = kv_archive_keep(a, now - store->conf.archive_keep, &deleted, err);

    (void) atomic_fetch_add(&store->zone->archive_deleted, deleted);

    return rc;
}


static void
kv_background_archive_failed(kv_store_t *store, kv_rc_t rc,
    const kv_err_t *err)
{
    uint64_t    now;
    kv_zone_t  *zone;

    zone = store->zone;
    now = kv_now_ns();

    (void) atomic_fetch_add(&zone->archive_failed, 1);

    if (zone->archive_logged_ns
        && now - zone->archive_logged_ns < KV_ARCHIVE_QUIET)
    {
        return;
    }

    zone->archive_logged_ns = now;

    kv_store_log(store, rc == KV_DAMAGED ? KV_LOG_ALERT : KV_LOG_ERR,
                 "kv zone \"%s\": the archive \"%s\": %s; %llu full segments "
                 "of the log wait for it", store->conf.name,
                 store->conf.archive, err->text, (unsigned long long)
                 atomic_load(&zone->archive_waiting));
}


uint64_t
kv_background_archived(kv_store_t *store, bool full)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (store->conf.archive == NULL || full
        || atomic_load(&zone->archive_waiting) * atomic_load(&zone->segment)
           >= store->conf.archive_hold)
    {
        return UINT64_MAX;
    }

    return atomic_load(&zone->archive_lsn);
}


kv_rc_t
kv_store_archive_fits(kv_store_t *store, kv_err_t *err)
{
    kv_err_t       why;
    kv_rc_t        rc;
    kv_archive_t   a;
    kv_identity_t  id;

    if (store->conf.archive == NULL) {
        return KV_OK;
    }

    kv_background_archive_of(store, &a);
    id = kv_wal_id(&store->zone->wal);

    rc = kv_archive_fits(&a, &id, atomic_load(&store->zone->applied_lsn),
                         &why);

    if (rc == KV_OK) {
        atomic_store(&store->zone->archive_lsn, a.upto);

        /* for tools; an archive that is full today does without it */

        (void) kv_archive_mark(&a);

    } else {
        kv_err_set(err, "the archive \"%s\" cannot be used: %s",
                   store->conf.archive, why.text);
    }

    return rc;
}
