
/*
 * Changes of the members, one at a time; see kv_raft.h.
 *
 * The engine takes a change before its leader has committed an entry of its own
 * term.  A change that another leader has committed meanwhile may then be
 * undone, as by the fault of 2015 in Raft's single-server changes: so it is
 * refused here until the barrier that begins each term is committed.
 */


#include "raft/kv_raft_private.h"


static kv_rc_t kv_raft_change(kv_raft_t *r, uint64_t now,
    const kv_raft_member_t *members, unsigned n);


/* Whether a change may be begun: KV_OK, KV_AGAIN, KV_UNAVAILABLE. */

kv_rc_t
kv_raft_change_allowed(const kv_raft_t *r)
{
    const struct raft  *engine;

    engine = &r->engine;

    if (r->failed || engine->state != RAFT_LEADER || raft_transferee(engine)) {
        return KV_UNAVAILABLE;
    }

    if (!kv_raft_own_committed(r) || engine->configuration_uncommitted_index
        || engine->leader_state.promotee_id)
    {
        return KV_AGAIN;
    }

    return KV_OK;
}


kv_rc_t
kv_raft_assign(kv_raft_t *r, uint64_t now, const kv_raft_member_t *member)
{
    kv_rc_t                           rc;
    unsigned                          i, n;
    kv_raft_member_t                  members[KV_RAFT_PEERS];
    const struct raft_configuration  *conf;

    rc = kv_raft_change_allowed(r);

    if (rc != KV_OK) {
        return rc;
    }

    conf = &r->engine.configuration;
    n = conf->n;

    for (i = 0; i < n; i++) {
        if (conf->servers[i].id != member->id
            && strcmp(conf->servers[i].address, member->address) == 0)
        {
            return KV_DECLINED;
        }

        members[i].id = conf->servers[i].id;
        members[i].role = conf->servers[i].role;
        members[i].address = conf->servers[i].address;
    }

    for (i = 0; i < n && conf->servers[i].id != member->id; i++) { /* void */ }

    if (i == n) {
        if (n == KV_RAFT_MEMBERS || member->id == 0) {
            return KV_DECLINED;
        }

        members[n++] = *member;

    } else if (conf->servers[i].role == (int) member->role) {
        return KV_DECLINED;

    } else {
        members[i].role = member->role;
    }

    return kv_raft_change(r, now, members, n);
}


kv_rc_t
kv_raft_remove(kv_raft_t *r, uint64_t now, uint64_t id)
{
    kv_rc_t                           rc;
    unsigned                          i, n;
    kv_raft_member_t                  members[KV_RAFT_PEERS];
    const struct raft_configuration  *conf;

    rc = kv_raft_change_allowed(r);

    if (rc != KV_OK) {
        return rc;
    }

    conf = &r->engine.configuration;
    assert(conf->n < KV_RAFT_PEERS);

    for (i = 0, n = 0; i < conf->n; i++) {
        if (conf->servers[i].id != id) {
            members[n].id = conf->servers[i].id;
            members[n].role = conf->servers[i].role;
            members[n].address = conf->servers[i].address;
            n++;
        }
    }

    if (n == conf->n) {
        return KV_DECLINED;
    }

    return kv_raft_change(r, now, members, n);
}


/*
 * Two voters do not become one: if only one of them has the change when the
 * leader dies, its log is the one that a leader needs, but it no longer votes;
 * and the other one has not its vote.  With three or more, the others go on.
 */

bool
kv_raft_change_strands(const kv_raft_t *r, unsigned voters)
{
    return voters == 1 && kv_raft_voters(&r->engine.configuration) == 2;
}


/* Without a voter there would be no leader ever again. */

static kv_rc_t
kv_raft_change(kv_raft_t *r, uint64_t now, const kv_raft_member_t *members,
    unsigned n)
{
    int               rc;
    unsigned          i, voters;
    kv_raft_entry_t  *e;

    for (i = 0, voters = 0; i < n; i++) {
        voters += members[i].role == RAFT_VOTER;
    }

    if (voters == 0 || kv_raft_change_strands(r, voters)) {
        return KV_DECLINED;
    }

    e = kv_raft_conf_members(raft_current_term(&r->engine), members, n);
    rc = kv_raft_submit_entry(r, now, e);
    kv_raft_entry_drop(e);

    if (rc == 0) {
        return KV_OK;
    }

    return r->failed ? KV_ERROR
           : rc == RAFT_CANTCHANGE ? KV_AGAIN : KV_UNAVAILABLE;
}


kv_rc_t
kv_raft_catch_up(kv_raft_t *r, uint64_t now, uint64_t id)
{
    int                               rc;
    unsigned                          i;
    struct raft_event                 event;
    const struct raft_configuration  *conf;

    rc = kv_raft_change_allowed(r);

    if (rc != KV_OK) {
        return rc;
    }

    conf = &r->engine.configuration;

    for (i = 0; i < conf->n && conf->servers[i].id != id; i++) { /* void */ }

    if (i == conf->n || conf->servers[i].role == RAFT_VOTER
        || id == r->conf.id)
    {
        return KV_DECLINED;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_CATCH_UP;
    event.catch_up.server_id = id;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}


kv_rc_t
kv_raft_caught_up(const kv_raft_t *r, uint64_t id)
{
    int  rc, status;

    rc = raft_catch_up(&r->engine, id, &status);

    if (rc != 0) {
        return rc == RAFT_NOTLEADER ? KV_UNAVAILABLE : KV_DECLINED;
    }

    switch (status) {

    case RAFT_CATCH_UP_FINISHED:
        return KV_OK;

    case RAFT_CATCH_UP_RUNNING:
        return KV_AGAIN;

    default:
        return KV_DECLINED;
    }
}


kv_rc_t
kv_raft_transfer(kv_raft_t *r, uint64_t now, uint64_t id)
{
    int                rc;
    struct raft_event  event;

    memset(&event, 0, sizeof(event));
    event.type = RAFT_TRANSFER;
    event.transfer.server_id = id;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : rc == KV_ERROR ? KV_ERROR : KV_UNAVAILABLE;
}
