
/*
 * What a replicated log has besides its records: entries without records, and
 * votes.
 */


#include <assert.h>

#include "disk/kv_wal_private.h"


kv_rc_t
kv_wal_put_entry(kv_wal_t *wal, const kv_wal_entry_t *e, const void *data,
    size_t len, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_wal_need_t       need;
    kv_wal_small_t      batch;
    kv_wal_state_t     *state;
    kv_wal_position_t   to;

    state = wal->state;

    assert(e->type == KV_ENTRY_BARRIER || e->type == KV_ENTRY_CHANGE);
    assert(len <= KV_MEMBERS_MAX && (e->type == KV_ENTRY_BARRIER || len));

    kv_wal_settle(state);

    need.len = sizeof(batch.h) + kv_align(len, 8);
    need.count = 0;
    need.entry = true;
    need.urgent = true;

    rc = kv_wal_ready(wal, &need, err);

    if (rc != KV_OK) {
        return rc;
    }

    memset(batch.data, 0, kv_align(len, 8));

    if (len) {
        memcpy(batch.data, data, len);
    }

    kv_wal_header(wal, &batch.h, kv_align(len, 8), 0);
    kv_wal_here(state, &to);
    kv_wal_enter(state, e, &batch.h, &to);

    if (e->type == KV_ENTRY_CHANGE) {

        /* the other place, until the log has moved */

        to.replica.members_at = 1 - to.replica.members_at;
        to.replica.members_len = batch.h.len;
        to.replica.members_index = e->index;

        memcpy(state->members[to.replica.members_at], batch.data, batch.h.len);
    }

    return kv_wal_append_small(wal, &batch, &to, err);
}


kv_rc_t
kv_wal_put_vote(kv_wal_t *wal, uint64_t term, uint64_t voted_for,
    kv_err_t *err)
{
    kv_rc_t                  rc;
    kv_wal_need_t            need;
    kv_wal_position_t        to;
    const kv_wal_replica_t  *replica;

    assert(wal->state->replicated);

    kv_wal_settle(wal->state);

    replica = &wal->state->replica;

    assert(term > replica->term
           || (term == replica->term && (replica->voted_for == 0
                                         || voted_for == replica->voted_for)));

    need.len = kv_wal_state_size(wal->state);
    need.count = 0;
    need.entry = false;
    need.urgent = true;

    rc = kv_wal_ready(wal, &need, err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_wal_here(wal->state, &to);
    to.replica.term = term;
    to.replica.voted_for = voted_for;

    return kv_wal_write_state(wal, &to, err);
}
