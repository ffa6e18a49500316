
/*
 * One node of a replicated log; see kv_raft.h.
 */


#include "raft/kv_raft_private.h"


static kv_rc_t kv_raft_vote_for_itself(kv_raft_t *r, uint64_t now);


kv_raft_t *
kv_raft_open(const kv_raft_conf_t *conf, const kv_raft_host_t *ops, void *host)
{
    int         rc;
    kv_raft_t  *r;

    assert(conf->id != 0 && conf->inflight > 0);

    r = kv_raft_alloc(sizeof(*r));
    memset(r, 0, sizeof(*r));

    r->conf = *conf;
    r->ops = ops;
    r->host = host;
    r->pending_end = &r->pending;
    r->held_end = &r->held;
    kv_raft_log_init(&r->log, 0);

    rc = raft_init(&r->engine, NULL, NULL, conf->id, KV_RAFT_ADDRESS);
    assert(rc == 0);

    /* The default one formats each message. */
    r->engine.tracer = NULL;

    raft_seed(&r->engine, conf->seed);
    raft_set_election_timeout(&r->engine, conf->election_timeout);
    raft_set_heartbeat_timeout(&r->engine, conf->heartbeat);
    raft_set_install_snapshot_timeout(&r->engine, conf->snapshot_timeout);
    raft_set_max_inflight_entries(&r->engine, conf->inflight);
    raft_set_pre_vote(&r->engine, true);

    return r;
}


void
kv_raft_close(kv_raft_t *r)
{
    kv_raft_held_t     *held;
    kv_raft_pending_t  *p;

    raft_close(&r->engine, NULL);

    while (r->pending) {
        p = r->pending;
        r->pending = p->next;
        kv_raft_pending_free(p);
    }

    while (r->held) {
        held = r->held;
        r->held = held->next;
        kv_raft_message_drop(&held->m);
        free(held);
    }

    kv_raft_log_free(&r->log);
    free(r);
}


uint64_t
kv_raft_next_timeout(const kv_raft_t *r)
{
    uint64_t  due;

    due = raft_timeout(&r->engine);

    /*
     * A leader's looks at all members, also at spare ones, which are sent
     * nothing: their heartbeats would be due for ever.
     */

    if (r->engine.state == RAFT_LEADER) {
        due = kv_max(due, r->timed_out + r->conf.heartbeat / 8 + 1);
    }

    return due;
}


kv_rc_t
kv_raft_timeout(kv_raft_t *r, uint64_t now)
{
    int                rc;
    struct raft_event  event;

    now = kv_max(now, r->now);
    r->timed_out = now;

    /*
     * As in kv_raft_start(): it would lead in the term of the leader that was
     * removed.
     */

    if (r->engine.state == RAFT_FOLLOWER && !r->engine.snapshot.installing
        && now >= kv_raft_next_timeout(r)
        && raft_voted_for(&r->engine) != r->conf.id
        && kv_raft_is_alone(&r->engine.configuration, r->conf.id))
    {
        return kv_raft_vote_for_itself(r, now);
    }

    /* The engine asks for a pre-vote only the first time. */

    if (r->engine.state == RAFT_CANDIDATE && now >= kv_raft_next_timeout(r)) {
        r->engine.candidate_state.in_pre_vote = true;
        r->engine.candidate_state.disrupt_leader = false;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_TIMEOUT;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}


/* The engine has no event for a new term but a message of it. */

static kv_rc_t
kv_raft_vote_for_itself(kv_raft_t *r, uint64_t now)
{
    kv_raft_message_t          m;
    struct raft_request_vote  *vote;

    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_REQUEST_VOTE;
    m.from = r->conf.id;

    vote = &m.m.request_vote;
    vote->version = 2;
    vote->term = raft_current_term(&r->engine) + 1;
    vote->candidate_id = r->conf.id;
    vote->last_log_index = kv_raft_log_last(&r->log);
    vote->last_log_term = kv_raft_term_of(r, vote->last_log_index);
    vote->disrupt_leader = true;

    return kv_raft_receive_other(r, now, &m);
}


kv_rc_t
kv_raft_submit(kv_raft_t *r, uint64_t now, const void *data, size_t len,
    uint64_t *index, uint64_t *term)
{
    int               rc;
    kv_raft_entry_t  *e;

    if (r->failed || r->engine.state != RAFT_LEADER) {
        return r->failed ? KV_ERROR : KV_UNAVAILABLE;
    }

    *index = kv_raft_log_last(&r->log) + 1;
    *term = raft_current_term(&r->engine);

    e = kv_raft_entry_make(*term, RAFT_COMMAND, data, len);
    rc = kv_raft_submit_entry(r, now, e);
    kv_raft_entry_drop(e);

    return rc == 0 ? KV_OK : r->failed ? KV_ERROR : KV_UNAVAILABLE;
}
