
/*
 * log-<LSN>.closed, the note of a clean end: written, read, and deleted before
 * more is written to the log.
 */


#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "base/kv_failpoint.h"
#include "disk/kv_wal_private.h"


kv_rc_t
kv_wal_open_again(kv_wal_t *wal, kv_err_t *err)
{
    int              stays;
    char             name[KV_NAME_MAX], kept[KV_NAME_MAX];
    size_t           i, n;
    kv_rc_t          rc;
    kv_wal_name_t   *names;
    kv_wal_state_t  *state;

    state = wal->state;
    stays = 0;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        goto failed;
    }

    for (i = 0; i < n; i++) {

        if (names[i].kind != KV_WAL_CLOSED) {
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_CLOSED, names[i].number);

        if (wal->io->unlink(wal->io, wal->dirfd, name) == -1
            && errno != ENOENT)
        {
            stays = errno;
            memcpy(kept, name, sizeof(kept));
        }
    }

    free(names);

    kv_failpoint(KV_FAILPOINT_NOTE_DELETED);

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        rc = kv_wal_rc();
        goto failed;
    }

    kv_failpoint(KV_FAILPOINT_NOTE_GONE);

    if (stays) {
        kv_wal_seal(state);

        errno = stays;
        kv_err_set(&wal->warning, "%s, the note of the log's last end, cannot "
                   "be deleted: %s: the log goes on in a new segment, and each "
                   "start warns of the file until it is deleted, which may be "
                   "done at any time", kept, strerror(stays));
    }

    atomic_store(&state->closed, KV_WAL_NOTE_NONE);

    return KV_OK;

failed:

    kv_err_set(err, "the note of the log's last end, log-*.closed, cannot be "
               "deleted: %s", strerror(errno));

    return rc;
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
kv_wal_write_closed(kv_wal_t *wal, const kv_closed_t *closed, kv_err_t *err)
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
kv_wal_read_closed(kv_wal_t *wal, uint64_t lsn, kv_closed_t *closed)
{
    int       fd, saved;
    char      name[KV_NAME_MAX];
    ssize_t   n;
    uint32_t  crc;

    fd = wal->io->open(wal->io, wal->dirfd,
                       kv_wal_name(name, KV_WAL_CLOSED, lsn), O_RDONLY);

    if (fd == -1) {
        return KV_ERROR;
    }

    n = kv_io_read(wal->io, fd, closed, sizeof(*closed), 0);

    saved = errno;
    (void) wal->io->close(wal->io, fd);
    errno = saved;

    if (n == -1) {
        return KV_ERROR;
    }

    if (n != (ssize_t) sizeof(*closed)) {
        return KV_DAMAGED;
    }

    crc = closed->crc;
    closed->crc = 0;

    return memcmp(closed->magic, KV_CLOSED_MAGIC, sizeof(closed->magic)) == 0
           && closed->version == KV_FORMAT_VERSION
           && kv_crc32c(0, closed, sizeof(*closed)) == crc
           && closed->lsn == lsn
           ? KV_OK : KV_DAMAGED;
}
