
/*
 * Which store this is, and which incarnation of it: see "Identity" in
 * kv_format.h, with the argument why a version never comes back.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>

#include "base/kv_hash.h"
#include "disk/kv_wal_private.h"


/* random ones, below those of the time; and the latest time */
#define KV_INCARNATION_BITS  22
#define KV_INCARNATION_MS    (UINT64_MAX >> KV_INCARNATION_BITS)


kv_rc_t
kv_wal_identify(kv_identity_t *id, bool renew)
{
    uint64_t  random[3], ms;

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

    /* a clock that is set back, or to a year that has no number here */

    ms = kv_wall_ms();

    if (ms > KV_INCARNATION_MS) {
        ms = 0;
    }

    ms = kv_max(ms, (id->incarnation >> KV_INCARNATION_BITS) + 1);

    if (ms > KV_INCARNATION_MS) {
        errno = EOVERFLOW;
        return KV_ERROR;
    }

    id->incarnation = ms << KV_INCARNATION_BITS
                      | random[2] >> (64 - KV_INCARNATION_BITS);

    return KV_OK;
}


kv_rc_t
kv_wal_new_id(kv_identity_t *id)
{
    memset(id, 0, sizeof(*id));

    return kv_wal_identify(id, true);
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
kv_wal_set_id(kv_wal_state_t *state, const kv_identity_t *id)
{
    state->store[0] = id->store[0];
    state->store[1] = id->store[1];
    atomic_store(&state->incarnation, id->incarnation);
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
kv_wal_origin(kv_wal_t *wal, int fd)
{
    uint64_t  id[2];

    static const uint64_t  seed[2];

    id[0] = wal->io->file_id ? wal->io->file_id(wal->io, fd) : 0;

    if (id[0] == 0) {
        return 0;
    }

    id[1] = wal->io->file_id(wal->io, wal->dirfd);

    if (id[1] == 0) {
        return 0;
    }

    return kv_hash(seed, id, sizeof(id));
}
