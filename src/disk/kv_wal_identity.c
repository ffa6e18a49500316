
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


void
kv_wal_share(kv_wal_t *wal, uint64_t incarnation)
{
    kv_wal_state_t  *state;

    state = wal->state;

    kv_wal_past_forget(&state->past);
    state->shared = 1;
    atomic_store(&state->incarnation, incarnation);

    wal->renewed = NULL;
}


/*
 * One that is replaced has the incarnation 0 meanwhile, for those who read it
 * without a lock.
 */

void
kv_wal_past_add(kv_wal_past_t *past, uint64_t incarnation, uint64_t end)
{
    uint32_t  n, i;

    if (incarnation == 0) {
        return;
    }

    n = atomic_load(&past->n);
    i = n % KV_WAL_PAST;

    atomic_store(&past->last[i].incarnation, 0);
    atomic_store(&past->last[i].end, end);
    atomic_store(&past->last[i].incarnation, incarnation);

    atomic_store(&past->n, n + 1);
}


void
kv_wal_past_cut(kv_wal_past_t *past, uint64_t lsn)
{
    uint32_t  i;

    for (i = 0; i < KV_WAL_PAST; i++) {
        if (atomic_load(&past->last[i].end) > lsn) {
            atomic_store(&past->last[i].end, lsn);
        }
    }
}


void
kv_wal_past_forget(kv_wal_past_t *past)
{
    unsigned  i;

    for (i = 0; i < KV_WAL_PAST; i++) {
        atomic_store(&past->last[i].incarnation, 0);
    }

    atomic_store(&past->n, 0);
}


void
kv_wal_past_copy(kv_wal_past_t *to, const kv_wal_past_t *from)
{
    uint32_t  i, n;

    n = atomic_load(&from->n);

    kv_wal_past_forget(to);

    for (i = n - kv_min(n, KV_WAL_PAST); i < n; i++) {
        kv_wal_past_add(to, atomic_load(&from->last[i % KV_WAL_PAST]
                                        .incarnation),
                        atomic_load(&from->last[i % KV_WAL_PAST].end));
    }
}


uint64_t
kv_wal_writer(const kv_wal_state_t *state, uint64_t lsn)
{
    uint32_t              i, n, first;
    uint64_t              writer, incarnation;
    const kv_wal_past_t  *past;

    past = &state->past;
    writer = atomic_load(&state->incarnation);

    n = atomic_load(&past->n);
    first = n - kv_min(n, KV_WAL_PAST);

    /* from the last one back, as long as the LSN is before its end */

    for (i = n; i > first; i--) {
        incarnation = atomic_load(&past->last[(i - 1) % KV_WAL_PAST]
                                  .incarnation);

        if (incarnation == 0
            || lsn >= atomic_load(&past->last[(i - 1) % KV_WAL_PAST].end))
        {
            break;
        }

        writer = incarnation;
    }

    return writer;
}


bool
kv_wal_was(const kv_wal_state_t *state, uint64_t lsn, uint64_t incarnation)
{
    unsigned              i;
    uint64_t              end;
    const kv_wal_past_t  *past;

    past = &state->past;

    if (lsn >= atomic_load(&state->next_lsn)) {
        return false;
    }

    /* before the first write, all are the same */

    if (lsn == 0 || incarnation == atomic_load(&state->incarnation)) {
        return true;
    }

    for (i = 0; i < KV_WAL_PAST; i++) {

        if (atomic_load(&past->last[i].incarnation) == incarnation) {
            end = atomic_load(&past->last[i].end);

            return lsn < end
                   && atomic_load(&past->last[i].incarnation) == incarnation;
        }
    }

    return false;
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
