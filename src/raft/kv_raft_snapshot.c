
/*
 * Snapshots that this node takes; see kv_raft.h.
 */


#include "raft/kv_raft_private.h"


kv_rc_t
kv_raft_snapshot_begin(kv_raft_t *r, kv_raft_snapshot_t *s)
{
    const struct raft  *engine;

    engine = &r->engine;

    /*
     * After a start the engine may know a later change as committed than that
     * which its commit index covers.
     */

    if (r->failed || engine->snapshot.installing
        || r->done != r->applied || r->done <= r->snapshot_index
        || engine->configuration_committed_index > r->done)
    {
        return KV_DECLINED;
    }

    memset(s, 0, sizeof(*s));
    s->index = r->done;
    s->term = kv_raft_term_of(r, s->index);
    s->conf_index = engine->configuration_committed_index;
    assert(s->conf_index > 0);
    s->conf = kv_raft_conf_make(s->term, &engine->configuration_committed);

    return KV_OK;
}


kv_rc_t
kv_raft_snapshot_taken(kv_raft_t *r, uint64_t now, const kv_raft_snapshot_t *s,
    unsigned trailing)
{
    int                rc;
    struct raft_event  event;

    if (r->failed) {
        return KV_ERROR;
    }

    if (r->engine.snapshot.installing || s->index <= r->snapshot_index
        || kv_raft_term_of(r, s->index) != s->term)
    {
        return KV_DECLINED;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_SNAPSHOT;
    event.snapshot.trailing = trailing;
    event.snapshot.metadata.index = s->index;
    event.snapshot.metadata.term = s->term;
    event.snapshot.metadata.configuration_index = s->conf_index;

    rc = kv_raft_conf_read(s->conf, &event.snapshot.metadata.configuration);
    assert(rc == KV_OK);

    r->snapshot_index = s->index;
    r->snapshot_term = s->term;

    /* As the engine does. */

    if (s->index > trailing
        && kv_raft_log_get(&r->log, s->index - trailing) != NULL)
    {
        kv_raft_log_trim(&r->log, s->index - trailing);
    }

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}


unsigned
kv_raft_trailing(const kv_raft_t *r, uint64_t index, uint64_t bytes)
{
    unsigned                n;
    const kv_raft_entry_t  *e;

    for (n = 0; n < UINT32_MAX; n++) {
        e = kv_raft_log_get(&r->log, index - n);

        if (e == NULL || e->len > bytes) {
            break;
        }

        bytes -= e->len;
    }

    return n;
}


kv_rc_t
kv_raft_send_older(kv_raft_t *r, uint64_t peer, uint64_t before,
    uint64_t before_term, kv_raft_entry_t **entries, unsigned n)
{
    unsigned                     i;
    kv_raft_message_t            m;
    struct raft_append_entries  *append;

    if (r->failed || !kv_raft_own_committed(r)) {
        return KV_UNAVAILABLE;
    }

    memset(&m, 0, sizeof(m));
    m.from = r->conf.id;
    m.to = peer;
    m.stamp = r->stamp;
    m.m.type = RAFT_APPEND_ENTRIES;
    m.m.server_id = r->conf.id;

    append = &m.m.append_entries;
    append->term = raft_current_term(&r->engine);
    append->prev_log_index = before;
    append->prev_log_term = before_term;
    append->leader_commit = kv_min(raft_commit_index(&r->engine), before + n);
    append->n_entries = n;

    if (n) {
        m.entries = kv_raft_alloc(n * sizeof(*m.entries));
    }

    for (i = 0; i < n; i++) {
        m.entries[i] = kv_raft_entry_hold(entries[i]);
    }

    kv_raft_send_now(r, &m);

    return KV_OK;
}


void
kv_raft_snapshot_sent(kv_raft_t *r, uint64_t peer)
{
    if (kv_raft_is_member(r, peer)) {
        kv_raft_peer(r, peer)->snapshot = 0;
    }
}
