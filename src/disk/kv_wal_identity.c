
/*
 * Which store this is, and which incarnation of it: see "Identity" in
 * kv_format.h, with the argument why a version never comes back.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>

#include "disk/kv_wal_private.h"


/* the random ones, below those of the time */
#define KV_INCARNATION_BITS  22


kv_rc_t
kv_wal_identify(kv_identity_t *id, bool renew)
{
    uint64_t  random[3], incarnation;

    if (!renew && id->incarnation) {
        return KV_OK;
    }

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        return KV_ERROR;
    }

    if (id->store[0] == 0 && id->store[1] == 0) {
        id->store[0] = random[0];
        id->store[1] = random[1];
    }

    incarnation = kv_wall_ms() << KV_INCARNATION_BITS
                  | random[2] >> (64 - KV_INCARNATION_BITS);

    /* the clock may have been set back */

    id->incarnation = kv_max(incarnation, id->incarnation + 1);

    return KV_OK;
}


bool
kv_wal_foreign(const kv_identity_t *known, const kv_identity_t *id)
{
    static const uint64_t  none[2];

    return memcmp(known->store, none, sizeof(none)) != 0
           && memcmp(id->store, none, sizeof(none)) != 0
           && memcmp(known->store, id->store, sizeof(none)) != 0;
}


void
kv_wal_see_identity(kv_identity_t *known, const kv_identity_t *id)
{
    if (id->incarnation > known->incarnation) {
        *known = *id;
    }
}


bool
kv_wal_restored(kv_wal_t *wal)
{
    int  fd;

    fd = wal->io->open(wal->io, wal->dirfd, KV_RESTORED_NAME, O_RDONLY);

    if (fd == -1) {
        return errno != ENOENT;
    }

    (void) wal->io->close(wal->io, fd);

    return true;
}


uint64_t
kv_wal_inode(kv_wal_t *wal, int fd)
{
    return wal->io->inode ? wal->io->inode(wal->io, fd) : 0;
}
