
/*
 * log-<LSN>.closed, the note of a clean end: written, read, and emptied and
 * deleted before more is written to the log.
 */


#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "base/kv_failpoint.h"
#include "disk/kv_wal_private.h"


/* A note of a clean end that is in the way. */

typedef struct {
    bool  full;                      /* one could not be emptied */
    bool  stays_full;                /* nor deleted */
    int   error;                     /* why one could not be deleted, or 0, */
    char  name[KV_NAME_MAX];         /* and which */
} kv_wal_stuck_t;


static kv_rc_t kv_wal_delete_closed(kv_wal_t *wal, kv_wal_stuck_t *stuck,
    kv_err_t *err);
static bool kv_wal_is_own(kv_wal_t *wal, uint64_t lsn);
static kv_rc_t kv_wal_renew_now(kv_wal_t *wal, const char *why, kv_err_t *err);
static bool kv_wal_empty(kv_wal_t *wal, const char *name);
static void kv_wal_delete_restored(kv_wal_t *wal);


static const char  kv_wal_not_deleted[] =
    "the note of the log's last end, log-*.closed, cannot be deleted: %s";


kv_rc_t
kv_wal_open_again(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_wal_stuck_t   stuck;
    kv_wal_state_t  *state;

    state = wal->state;

    rc = kv_wal_delete_closed(wal, &stuck, err);

    kv_failpoint(KV_FAILPOINT_NOTE_DELETED);

    if (rc == KV_OK && kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        rc = kv_wal_rc();
        kv_err_set(err, kv_wal_not_deleted, strerror(errno));
    }

    if (rc != KV_OK) {
        return rc;
    }

    kv_failpoint(KV_FAILPOINT_NOTE_GONE);

    if (stuck.stays_full) {
        kv_wal_seal(state);
    }

    if (stuck.error) {
        errno = stuck.error;
        kv_err_set(&wal->warning, "%s, the note of the log's last end, cannot "
                   "be deleted: %s: %s each start warns of the file until it "
                   "is deleted, which may be done at any time", stuck.name,
                   strerror(stuck.error), stuck.stays_full
                   ? "the log goes on in a new segment, versions begin anew, "
                     "and" : "it is empty now, but");
    }

    if (state->restored && !stuck.full) {
        kv_wal_delete_restored(wal);
    }

    atomic_store(&state->closed, KV_WAL_NOTE_NONE);

    return KV_OK;
}


/*
 * Empties the notes and deletes them.  The one that the incarnation goes on
 * from must be among them: elsewhere, it would say the same another day.
 */

static kv_rc_t
kv_wal_delete_closed(kv_wal_t *wal, kv_wal_stuck_t *stuck, kv_err_t *err)
{
    bool            own, empty;
    char            name[KV_NAME_MAX];
    size_t          i, n;
    kv_rc_t         rc;
    kv_wal_name_t  *names;

    memset(stuck, 0, sizeof(*stuck));

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        kv_err_set(err, kv_wal_not_deleted, strerror(errno));
        return rc;
    }

    for (i = 0; rc == KV_OK && i < n; i++) {

        if (names[i].kind != KV_WAL_CLOSED) {
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_CLOSED, names[i].number);

        own = kv_wal_is_own(wal, names[i].number);
        empty = kv_wal_empty(wal, name);

        if (own && empty) {
            atomic_store(&wal->state->closed, KV_WAL_NOTE_OLD);
        }

        /* it, or another name of it, may fit the log's end again one day */

        if (!empty && !stuck->full) {
            rc = kv_wal_renew_now(wal, "the note of the last clean end cannot "
                                  "be emptied", err);
            stuck->full = true;
        }

        if (rc == KV_OK
            && wal->io->unlink(wal->io, wal->dirfd, name) == -1
            && errno != ENOENT)
        {
            stuck->stays_full |= !empty;
            stuck->error = errno;
            memcpy(stuck->name, name, sizeof(name));
        }
    }

    free(names);

    if (rc == KV_OK && atomic_load(&wal->state->closed) == KV_WAL_NOTE_OWN) {
        rc = kv_wal_renew_now(wal, "the note of the last clean end is not "
                              "where it was", err);
    }

    /* if no batch follows, as the disk is full, a stop writes another one */

    if (rc == KV_OK) {
        atomic_store(&wal->state->closed, KV_WAL_NOTE_OLD);
    }

    return rc;
}


/* Whether it is the note that the incarnation goes on from. */

static bool
kv_wal_is_own(kv_wal_t *wal, uint64_t lsn)
{
    bool         own;
    kv_closed_t  closed;

    return kv_wal_read_closed(wal, lsn, &closed, &own) == KV_OK && own
           && lsn == atomic_load(&wal->state->next_lsn) - 1
           && closed.id.incarnation == atomic_load(&wal->state->incarnation);
}


/*
 * Begins a new incarnation before the next batch, but where it is shared; no
 * note is trusted then.
 */

static kv_rc_t
kv_wal_renew_now(kv_wal_t *wal, const char *why, kv_err_t *err)
{
    kv_rc_t        rc;
    kv_identity_t  id;

    if (wal->state->shared) {
        atomic_store(&wal->state->closed, KV_WAL_NOTE_OLD);
        return KV_OK;
    }

    id = kv_wal_id(wal->state);

    if (kv_wal_identify(&id, true) != KV_OK) {
        rc = kv_wal_rc();
        kv_err_set(err, "%s, and the store can have no new incarnation: %s",
                   why, strerror(errno));
        return rc;
    }

    /* the old one has written all up to here */

    kv_wal_past_add(&wal->state->past,
                    atomic_load(&wal->state->incarnation),
                    atomic_load(&wal->state->next_lsn));
    atomic_store(&wal->state->incarnation, id.incarnation);
    atomic_store(&wal->state->closed, KV_WAL_NOTE_OLD);
    wal->renewed = why;

    return KV_OK;
}


bool
kv_wal_void_closed(kv_wal_t *wal, uint64_t lsn)
{
    char  name[KV_NAME_MAX];

    (void) kv_wal_name(name, KV_WAL_CLOSED, lsn);

    if (!kv_wal_empty(wal, name)) {
        return false;
    }

    /*
     * A copy that is written into this very file would be taken for it.  If it
     * stays, the first batch tries again, and says so.
     */

    if (wal->io->unlink(wal->io, wal->dirfd, name) == 0) {
        (void) kv_io_sync_dir(wal->io, wal->dirfd);
    }

    return true;
}


/*
 * Empties the file, for good, so that no other name of it (a hard link) says
 * anything.  True also if there is none.
 */

static bool
kv_wal_empty(kv_wal_t *wal, const char *name)
{
    int   fd;
    bool  done;

    fd = wal->io->open(wal->io, wal->dirfd, name, O_WRONLY);

    if (fd == -1) {
        return errno == ENOENT;
    }

    done = wal->io->ftruncate(wal->io, fd, 0) == 0
           && wal->io->fsync(wal->io, fd) == 0;

    (void) wal->io->close(wal->io, fd);

    return done;
}


/*
 * After the notes, which are gone for good: the start after this one begins a
 * new incarnation in any case.
 */

static void
kv_wal_delete_restored(kv_wal_t *wal)
{
    if (wal->io->unlink(wal->io, wal->dirfd, KV_RESTORED_NAME) == -1
        && errno != ENOENT)
    {
        kv_err_set(&wal->warning, "the file \"" KV_RESTORED_NAME "\" cannot be "
                   "deleted: %s: versions begin anew with each start until it "
                   "is deleted, which may be done at any time",
                   strerror(errno));
    }

    wal->state->restored = 0;
}


bool
kv_wal_warning(kv_wal_t *wal, kv_err_t *err)
{
    if (wal->warning.text[0] == '\0') {
        return false;
    }

    *err = wal->warning;
    wal->warning.text[0] = '\0';

    return true;
}


kv_rc_t
kv_wal_write_closed(kv_wal_t *wal, kv_closed_t *closed, kv_err_t *err)
{
    int      fd, saved;
    char     tmp[KV_NAME_MAX], name[KV_NAME_MAX];
    kv_rc_t  rc;

    (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, closed->lsn);
    (void) kv_wal_name(name, KV_WAL_CLOSED, closed->lsn);

    (void) wal->io->unlink(wal->io, wal->dirfd, tmp);

    fd = wal->io->open(wal->io, wal->dirfd, tmp, O_WRONLY|O_CREAT|O_EXCL);

    if (fd == -1) {
        rc = kv_wal_rc();
        goto failed;
    }

    closed->origin = kv_wal_origin(wal, fd);
    closed->crc = 0;
    closed->crc = kv_crc32c(0, closed, sizeof(*closed));

    rc = kv_io_write(wal->io, fd, closed, sizeof(*closed), 0);

    if (rc == KV_OK && wal->io->fsync(wal->io, fd) == -1) {
        rc = kv_wal_rc();
    }

    saved = errno;
    (void) wal->io->close(wal->io, fd);
    errno = saved;

    if (rc == KV_OK
        && (wal->io->rename(wal->io, wal->dirfd, tmp, name) == -1
            || kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK))
    {
        rc = kv_wal_rc();
    }

    if (rc == KV_OK) {
        return KV_OK;
    }

    saved = errno;
    (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
    errno = saved;

failed:

    kv_err_set(err, "%s: it cannot be written: %s", name, strerror(errno));

    return rc;
}


kv_rc_t
kv_wal_read_closed(kv_wal_t *wal, uint64_t lsn, kv_closed_t *closed, bool *own)
{
    int       fd, saved;
    char      name[KV_NAME_MAX];
    size_t    size;
    ssize_t   n;
    uint32_t  crc;
    uint64_t  origin;

    fd = wal->io->open(wal->io, wal->dirfd,
                       kv_wal_name(name, KV_WAL_CLOSED, lsn), O_RDONLY);

    if (fd == -1) {
        return KV_ERROR;
    }

    memset(closed, 0, sizeof(*closed));

    n = kv_io_read(wal->io, fd, closed, sizeof(*closed), 0);

    saved = errno;
    origin = kv_wal_origin(wal, fd);
    (void) wal->io->close(wal->io, fd);
    errno = saved;

    if (n <= 0) {
        return n == 0 ? KV_NOT_FOUND : KV_ERROR;
    }

    size = closed->version == 1 ? KV_CLOSED_1 : sizeof(*closed);

    if (n != (ssize_t) size) {
        return KV_DAMAGED;
    }

    *own = origin && origin == closed->origin;

    crc = closed->crc;
    closed->crc = 0;

    return memcmp(closed->magic, KV_CLOSED_MAGIC, sizeof(closed->magic)) == 0
           && closed->version >= KV_FORMAT_OLDEST
           && closed->version <= KV_FORMAT_VERSION
           && kv_crc32c(0, closed, size) == crc
           && closed->lsn == lsn
           ? KV_OK : KV_DAMAGED;
}
