
/*
 * What a node knows of its peers besides the engine, and the read index, which
 * stands on it.
 *
 * A leader puts a stamp on each AppendEntries, and a follower the last stamp
 * that it has seen of the present term's leader on each result.  A read takes a
 * new stamp.  When a majority, this node included, has sent it back in the
 * present term, no other leader can have been elected before the read began:
 * those peers were still in this term later than that.  So all that was
 * acknowledged by then is at or below the commit index of that moment, if this
 * leader had committed an entry of its own term.  No clock is asked.
 */


#include "raft/kv_raft_private.h"


kv_raft_peer_t *
kv_raft_peer(kv_raft_t *r, uint64_t id)
{
    unsigned         i;
    kv_raft_peer_t  *peer;

    peer = NULL;

    for (i = 0; i < KV_RAFT_PEERS; i++) {
        if (r->peers[i].id == id) {
            return &r->peers[i];
        }

        if (r->peers[i].id == 0 || !kv_raft_is_member(r, r->peers[i].id)) {
            peer = peer ? peer : &r->peers[i];
        }
    }

    assert(peer != NULL);

    memset(peer, 0, sizeof(*peer));
    peer->id = id;

    return peer;
}


bool
kv_raft_is_member(const kv_raft_t *r, uint64_t id)
{
    unsigned                          i;
    const struct raft_configuration  *conf;

    conf = &r->engine.configuration;

    for (i = 0; i < conf->n; i++) {
        if (conf->servers[i].id == id) {
            return true;
        }
    }

    return false;
}


bool
kv_raft_own_committed(const kv_raft_t *r)
{
    return r->engine.state == RAFT_LEADER
           && r->own_term == raft_current_term(&r->engine)
           && r->own_index <= raft_commit_index(&r->engine);
}


kv_rc_t
kv_raft_read_begin(kv_raft_t *r, kv_raft_read_t *read)
{
    if (r->failed || r->engine.state != RAFT_LEADER) {
        return KV_UNAVAILABLE;
    }

    if (!kv_raft_own_committed(r)) {
        return KV_AGAIN;
    }

    read->term = raft_current_term(&r->engine);
    read->stamp = ++r->stamp;
    read->index = raft_commit_index(&r->engine);

    return KV_OK;
}


kv_rc_t
kv_raft_read_ready(const kv_raft_t *r, const kv_raft_read_t *read)
{
    unsigned                          i, j, n;
    const kv_raft_peer_t             *peer;
    const struct raft_configuration  *conf;

    if (r->failed || r->engine.state != RAFT_LEADER
        || read->term != raft_current_term(&r->engine))
    {
        return KV_UNAVAILABLE;
    }

    if (r->applied < read->index) {
        return KV_AGAIN;
    }

    conf = &r->engine.configuration;
    n = 0;

    for (i = 0; i < conf->n; i++) {
        if (conf->servers[i].role != RAFT_VOTER) {
            continue;
        }

        if (conf->servers[i].id == r->conf.id) {
            n++;
            continue;
        }

        for (j = 0; j < KV_RAFT_PEERS; j++) {
            peer = &r->peers[j];

            if (peer->id == conf->servers[i].id
                && peer->echo_term == read->term && peer->echo >= read->stamp)
            {
                n++;
                break;
            }
        }
    }

    return n > kv_raft_voters(conf) / 2 ? KV_OK : KV_AGAIN;
}
