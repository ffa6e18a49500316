
/*
 * Messages for the engine; see kv_raft.h.
 */


#include "raft/kv_raft_private.h"


static kv_rc_t kv_raft_receive_append(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);
static kv_rc_t kv_raft_receive_old(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);
static kv_rc_t kv_raft_receive_piece(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m, unsigned first, unsigned n);
static kv_rc_t kv_raft_receive_result(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);
static kv_rc_t kv_raft_receive_vote(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);
static void kv_raft_heard(kv_raft_t *r, uint64_t now, uint64_t term,
    uint64_t stamp);
static kv_rc_t kv_raft_receive_stale(kv_raft_t *r, uint64_t from);
static kv_rc_t kv_raft_receive_install(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);


kv_rc_t
kv_raft_receive(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    if (r->failed) {
        return KV_ERROR;
    }

    if (kv_raft_message_check(m) != KV_OK || m->to != r->conf.id) {
        return KV_DAMAGED;
    }

    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        return kv_raft_receive_append(r, now, m);

    case RAFT_INSTALL_SNAPSHOT:
        return kv_raft_receive_install(r, now, m);

    case RAFT_APPEND_ENTRIES_RESULT:
        return kv_raft_receive_result(r, now, m);

    case RAFT_REQUEST_VOTE:
        return kv_raft_receive_vote(r, now, m);

    case RAFT_REQUEST_VOTE_RESULT:

        /* Its term is nobody's, and the engine believes it, if it is late. */

        if (m->m.request_vote_result.pre_vote
            && r->engine.state != RAFT_CANDIDATE)
        {
            return KV_DECLINED;
        }

        return kv_raft_receive_other(r, now, m);

    case RAFT_TIMEOUT_NOW:
        if (kv_raft_is_alone(&r->engine.configuration, r->conf.id)) {
            return KV_DECLINED;
        }

        return kv_raft_receive_other(r, now, m);

    default:
        return kv_raft_receive_other(r, now, m);
    }
}


static kv_rc_t
kv_raft_receive_append(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    kv_rc_t                            rc;
    uint64_t                           term;
    unsigned                           first, n;
    const struct raft_append_entries  *append;

    append = &m->m.append_entries;
    term = raft_current_term(&r->engine);

    if (append->term == term && r->engine.state == RAFT_LEADER) {
        return KV_DAMAGED;
    }

    if (kv_raft_message_is_stale(m, term)) {
        return kv_raft_receive_stale(r, m->from);
    }

    kv_raft_heard(r, now, append->term, m->stamp);

    first = 0;

    if (append->prev_log_index < r->log.before
        && !r->engine.snapshot.installing)
    {
        if (append->n_entries <= r->snapshot_index - append->prev_log_index) {
            return kv_raft_receive_old(r, now, m);
        }

        first = (unsigned) (r->snapshot_index - append->prev_log_index);
    }

    if (append->n_entries == 0) {
        return kv_raft_receive_piece(r, now, m, 0, 0);
    }

    for ( /* void */ ; first < append->n_entries; first += n) {
        n = kv_raft_message_piece(m, first);
        rc = kv_raft_receive_piece(r, now, m, first, n);

        if (rc != KV_OK) {
            return rc;
        }

        /* It was refused: so would be what follows. */

        if (kv_raft_log_last(&r->log) < append->prev_log_index + first + n) {
            break;
        }
    }

    return KV_OK;
}


/*
 * All that it brings is in our snapshot: it comes late, or we had it from
 * another leader.  The engine would take what is no longer in the log for new,
 * and append it.  What it is told instead is that the leader has what is in our
 * snapshot, which each leader has.
 */

static kv_rc_t
kv_raft_receive_old(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    kv_raft_message_t            old;
    struct raft_append_entries  *append;

    old = *m;
    append = &old.m.append_entries;
    append->prev_log_index = r->snapshot_index;
    append->prev_log_term = r->snapshot_term;
    append->n_entries = 0;

    return kv_raft_receive_piece(r, now, &old, 0, 0);
}


static kv_rc_t
kv_raft_receive_piece(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m,
    unsigned first, unsigned n)
{
    int                          rc;
    void                        *batch;
    struct raft_entry           *entries;
    struct raft_event            event;
    struct raft_message          message;
    struct raft_append_entries  *append;

    message = m->m;
    message.server_id = m->from;
    message.server_address = KV_RAFT_ADDRESS;

    append = &message.append_entries;
    append->n_entries = n;
    append->entries = NULL;
    entries = NULL;
    batch = NULL;

    if (first) {
        append->prev_log_index += first;
        append->prev_log_term = m->entries[first - 1]->term;
    }

    if (n && m->entries[first]->type == RAFT_CHANGE
        && append->prev_log_index
        && kv_raft_term_of(r, append->prev_log_index)
           == append->prev_log_term)
    {
        kv_raft_change_follows(r, append->prev_log_index);
    }

    if (n) {
        entries = kv_raft_alloc(n * sizeof(*entries));
        batch = raft_malloc(1);
        assert(batch != NULL);
        kv_raft_entries(entries, &m->entries[first], n, batch);
        append->entries = entries;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_RECEIVE;
    event.receive.message = &message;

    r->took_entries = false;
    rc = kv_raft_run(r, now, &event, entries,
                     n ? m->entries + first : NULL);

    if (r->took_entries) {
        raft_free(batch);
    }

    free(entries);

    return rc == 0 ? KV_OK : KV_ERROR;
}


/* While one is being installed the engine would leak another one. */

static kv_rc_t
kv_raft_receive_install(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    int                           rc;
    struct raft_event             event;
    struct raft_message           message;
    struct raft_install_snapshot *install;

    if (kv_raft_message_is_stale(m, raft_current_term(&r->engine))) {
        return kv_raft_receive_stale(r, m->from);
    }

    if (m->m.install_snapshot.term == raft_current_term(&r->engine)
        && r->engine.state == RAFT_LEADER)
    {
        return KV_DAMAGED;
    }

    if (r->engine.snapshot.installing) {
        return KV_DECLINED;
    }

    kv_raft_heard(r, now, m->m.install_snapshot.term, 0);

    message = m->m;
    message.server_id = m->from;
    message.server_address = KV_RAFT_ADDRESS;
    install = &message.install_snapshot;

    if (kv_raft_conf_read(m->conf, &install->conf) != KV_OK) {
        return KV_DAMAGED;
    }

    install->data.len = sizeof(m->handle);
    install->data.base = raft_malloc(sizeof(m->handle));
    assert(install->data.base != NULL);
    memcpy(install->data.base, &m->handle, sizeof(m->handle));

    memset(&event, 0, sizeof(event));
    event.type = RAFT_RECEIVE;
    event.receive.message = &message;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}


/*
 * A refusal that comes late, after its peer has confirmed the index, is none
 * any more.  The engine would believe it if it probes this peer just then, and
 * never send it an entry again.  That the peer is there is true.
 */

static kv_rc_t
kv_raft_receive_result(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    raft_index                          match;
    kv_raft_peer_t                     *peer;
    kv_raft_message_t                   copy;
    struct raft_append_entries_result  *result;

    copy = *m;
    result = &copy.m.append_entries_result;

    if (result->term != raft_current_term(&r->engine)
        || raft_match_index(&r->engine, m->from, &match) != 0)
    {
        return kv_raft_receive_other(r, now, m);
    }

    peer = kv_raft_peer(r, m->from);

    if (peer->echo_term != result->term) {
        peer->echo_term = result->term;
        peer->echo = 0;
    }

    peer->echo = kv_max(peer->echo, m->stamp);

    if (kv_raft_message_is_late(m, match)) {
        result->rejected = 0;
        result->last_log_index = 0;

    } else if (result->rejected) {
        result->last_log_index = kv_max(result->last_log_index, match);
    }

    return kv_raft_receive_other(r, now, &copy);
}


/*
 * Who votes is for the candidate to know: it may be ahead of us by the change
 * that made us a voter, or have never seen the one that we have and that made
 * us none, and need our vote to commit anything.  The engine refuses it, and as
 * one that is no voter also for ever after it has known a leader.  So for this
 * message we are a voter, and have a leader only if we have heard of it within
 * the time of an election.  A node that has no log has no vote.
 */

static kv_rc_t
kv_raft_receive_vote(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    kv_rc_t                    rc;
    uint64_t                   leader;
    unsigned                   i;
    struct raft               *engine;
    struct raft_server         servers[KV_RAFT_PEERS];
    struct raft_configuration  conf;

    engine = &r->engine;
    conf = engine->configuration;

    for (i = 0; i < conf.n && conf.servers[i].id != r->conf.id; i++) {
        /* void */
    }

    if (conf.n == 0 || conf.n >= KV_RAFT_PEERS
        || engine->state != RAFT_FOLLOWER
        || (i < conf.n && conf.servers[i].role == RAFT_VOTER))
    {
        return kv_raft_receive_other(r, now, m);
    }

    memcpy(servers, conf.servers, conf.n * sizeof(*servers));
    servers[i].id = r->conf.id;
    servers[i].address = NULL;
    servers[i].role = RAFT_VOTER;

    /* No vote changes the members. */

    engine->configuration.servers = servers;
    engine->configuration.n = kv_max(conf.n, i + 1);
    leader = engine->follower_state.current_leader.id;

    if (now >= r->heard + r->conf.election_timeout) {
        engine->follower_state.current_leader.id = 0;
    }

    rc = kv_raft_receive_other(r, now, m);

    assert(engine->configuration.servers == servers);
    engine->configuration = conf;
    engine->follower_state.current_leader.id = leader;

    return rc;
}


/* A leader spoke to us, of the present term or a higher one. */

static void
kv_raft_heard(kv_raft_t *r, uint64_t now, uint64_t term, uint64_t stamp)
{
    r->heard = kv_max(now, r->now);

    if (term > r->seen_term) {
        r->seen_term = term;
        r->seen_stamp = 0;
    }

    r->seen_stamp = kv_max(r->seen_stamp, stamp);
}


/*
 * What a leader of a term long over has sent.  It learns of the present term.
 * The engine would answer with an index that it never sets: if the old leader
 * leads again when the answer comes, in the term of the answer, it takes that
 * for what we have on disk, and commits what no majority has.
 */

static kv_rc_t
kv_raft_receive_stale(kv_raft_t *r, uint64_t from)
{
    struct raft_message                 message;
    struct raft_append_entries_result  *result;

    memset(&message, 0, sizeof(message));
    message.type = RAFT_APPEND_ENTRIES_RESULT;
    message.server_id = from;

    result = &message.append_entries_result;
    result->version = 2;
    result->features = 1;
    result->term = raft_current_term(&r->engine);

    kv_raft_send(r, &message);

    return KV_OK;
}


kv_rc_t
kv_raft_receive_other(kv_raft_t *r, uint64_t now, const kv_raft_message_t *m)
{
    int                  rc;
    struct raft_event    event;
    struct raft_message  message;

    message = m->m;
    message.server_id = m->from;
    message.server_address = KV_RAFT_ADDRESS;

    memset(&event, 0, sizeof(event));
    event.type = RAFT_RECEIVE;
    event.receive.message = &message;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}
