
/*
 * What a node is, and knows; see kv_raft.h.
 */


#include "raft/kv_raft_private.h"


void
kv_raft_info(const kv_raft_t *r, kv_raft_info_t *info)
{
    info->state = r->engine.state;
    info->term = raft_current_term(&r->engine);
    info->last = kv_raft_log_last(&r->log);
    info->stored = r->engine.last_stored;
    info->commit = kv_max(raft_commit_index(&r->engine), r->done);
    info->applied = r->applied;
    info->bytes = r->log.bytes;
    info->installing = r->engine.snapshot.installing;

    /* The engine keeps the one of an earlier term. */
    info->leader = info->state == RAFT_LEADER ? r->conf.id
                   : info->state == RAFT_FOLLOWER && r->seen_term == info->term
                     ? r->engine.follower_state.current_leader.id
                   : 0;
}


const struct raft_configuration *
kv_raft_members(const kv_raft_t *r)
{
    return &r->engine.configuration;
}


uint64_t
kv_raft_term_of(const kv_raft_t *r, uint64_t index)
{
    kv_raft_entry_t  *e;

    e = kv_raft_log_get(&r->log, index);

    return e ? e->term : index == r->snapshot_index ? r->snapshot_term : 0;
}
