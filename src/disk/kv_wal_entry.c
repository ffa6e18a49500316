
/*
 * What is written of a replicated log in a batch's header, and the STATE, with
 * which each segment begins, so that no older one is needed to know term, vote
 * and members.
 */


#include <assert.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


void
kv_wal_enter(const kv_wal_state_t *state, const kv_wal_entry_t *e,
    kv_batch_header_t *h, kv_wal_position_t *to)
{
    assert(e->index == state->replica.index + 1 && e->commit <= e->index);
    assert(e->term >= state->replica.index_term
           && e->term <= state->replica.term);

    h->type = e->type;
    h->term = e->term;
    h->index = e->index;
    h->commit_index = e->commit;

    to->replica.index = e->index;
    to->replica.index_term = e->term;
    to->replica.commit = kv_max(to->replica.commit, e->commit);
}


size_t
kv_wal_state_size(const kv_wal_state_t *state)
{
    return sizeof(kv_batch_header_t) + sizeof(kv_entry_state_t)
           + state->replica.members_len;
}


void
kv_wal_make_state(kv_wal_t *wal, kv_wal_small_t *batch,
    const kv_wal_replica_t *replica, const void *members)
{
    kv_entry_state_t  s;

    memset(&s, 0, sizeof(s));

    s.incarnation = atomic_load(&wal->state->incarnation);
    s.voted_for = replica->voted_for;
    s.index = replica->index;
    s.index_term = replica->index_term;
    s.members_index = replica->members_index;
    s.len = replica->members_len;

    memcpy(batch->data, &s, sizeof(s));
    memcpy(batch->data + sizeof(s), members, s.len);

    kv_wal_header(wal, &batch->h, sizeof(s) + s.len, 0);
    batch->h.type = KV_ENTRY_STATE;
    batch->h.term = replica->term;
    batch->h.commit_index = replica->commit;
}


size_t
kv_wal_seal_small(kv_wal_small_t *batch)
{
    size_t  len;

    len = sizeof(batch->h) + batch->h.len;
    batch->h.crc = kv_crc32c(0, (uint8_t *) batch + 8, len - 8);

    return len;
}


kv_rc_t
kv_wal_first_state(kv_wal_t *wal, int fd, kv_wal_position_t *to,
    const void *members)
{
    size_t             len;
    kv_rc_t            rc;
    kv_wal_small_t     batch;
    kv_entry_state_t   s;

    kv_wal_make_state(wal, &batch, &to->replica, members);

    memcpy(&s, batch.data, sizeof(s));
    s.before = to->replica.before;
    s.number = (uint32_t) to->replica.number;
    memcpy(batch.data, &s, sizeof(s));

    batch.h.first_lsn = to->next_lsn;
    batch.h.durable_lsn = kv_min(batch.h.durable_lsn, to->next_lsn - 1);
    batch.h.salt = to->segment_salt;
    batch.h.durable_end = KV_SEGMENT_HEADER;

    len = kv_wal_seal_small(&batch);
    rc = kv_io_write(wal->io, fd, &batch, len, KV_SEGMENT_HEADER);

    to->offset = KV_SEGMENT_HEADER + len;
    to->replica.incarnation = atomic_load(&wal->state->incarnation);
    to->replica.start = to->offset;
    to->replica.end = to->offset;

    return rc;
}
