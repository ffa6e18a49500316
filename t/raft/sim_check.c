
/*
 * What must hold, looked at after each step, by one who sees all nodes:
 *
 *  - a term has one leader, and a node gives one vote in it, whatever becomes
 *    of the node between; no node goes back to a lower term;
 *  - an entry of an index and a term is one entry, and so is all before it;
 *  - what is committed never changes, was on the disks of a majority of voters
 *    when it was, and is in the log of every later leader;
 *  - what is applied is what is committed, in order, and the state of two nodes
 *    at the same index is the same.
 *
 * Each check costs little and does not grow with the log, so that a million
 * steps are a matter of seconds.
 */


#include "sim.h"


static sim_committed_t *sim_committed(sim_t *sim, uint64_t index);
static sim_term_t *sim_term(sim_t *sim, uint64_t term);
static void sim_check_entries(sim_node_t *node, const kv_raft_message_t *m);
static void sim_check_vote(sim_node_t *node, uint64_t term,
    uint64_t candidate);
static void sim_check_leader(sim_node_t *node, const kv_raft_info_t *info);
static void sim_check_commit(sim_node_t *node, const kv_raft_info_t *info);
static void sim_check_majority(sim_node_t *node, uint64_t index,
    uint64_t term);
static sim_made_t *sim_made(sim_t *sim, uint64_t index, uint64_t term);
static void sim_made_grow(sim_t *sim);
static bool sim_equal_to(const sim_node_t *node, const sim_node_t *leader);


void
sim_check_init(sim_t *sim)
{
    sim->size_made = 1024;
    sim->made = calloc(sim->size_made, sizeof(*sim->made));
    assert(sim->made != NULL);
}


void
sim_check_free(sim_t *sim)
{
    free(sim->made);
    free(sim->committed);
    free(sim->terms);
    kv_raft_entry_drop(sim->members);
}


uint64_t
sim_mix(uint64_t n)
{
    n = (n ^ (n >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ (n >> 27)) * UINT64_C(0x94d049bb133111eb);

    return n ^ (n >> 31);
}


/* What an entry says, in one number. */

uint64_t
sim_value_of(const kv_raft_entry_t *e)
{
    size_t    i;
    uint64_t  value;

    value = 0;

    if (e->type == RAFT_COMMAND) {
        memcpy(&value, e->data, sizeof(value));
        return value;
    }

    for (i = 0; i < e->len; i++) {
        value = value * 31 + e->data[i];
    }

    return value + e->type;
}


/* ---- tables that grow */

static sim_committed_t *
sim_committed(sim_t *sim, uint64_t index)
{
    uint64_t  size;

    if (index >= sim->size_committed) {
        size = kv_max(index + 1, sim->size_committed * 2 + 1024);
        sim->committed = realloc(sim->committed,
                                 size * sizeof(*sim->committed));
        assert(sim->committed != NULL);
        memset(&sim->committed[sim->size_committed], 0,
               (size - sim->size_committed) * sizeof(*sim->committed));
        sim->size_committed = size;
    }

    return &sim->committed[index];
}


static sim_term_t *
sim_term(sim_t *sim, uint64_t term)
{
    uint64_t  size;

    if (term >= sim->size_terms) {
        size = kv_max(term + 1, sim->size_terms * 2 + 64);
        sim->terms = realloc(sim->terms, size * sizeof(*sim->terms));
        assert(sim->terms != NULL);
        memset(&sim->terms[sim->size_terms], 0,
               (size - sim->size_terms) * sizeof(*sim->terms));
        sim->size_terms = size;
    }

    return &sim->terms[term];
}


/* ---- votes and terms */

void
sim_check_message(sim_node_t *node, const kv_raft_message_t *m)
{
    uint64_t  term;

    switch (m->m.type) {

    case RAFT_REQUEST_VOTE:
        if (m->m.request_vote.pre_vote) {
            return;
        }

        term = m->m.request_vote.term;
        sim_check_vote(node, term, node->id);
        break;

    case RAFT_REQUEST_VOTE_RESULT:
        if (m->m.request_vote_result.pre_vote) {
            return;
        }

        term = m->m.request_vote_result.term;

        if (m->m.request_vote_result.vote_granted) {
            sim_check_vote(node, term, m->to);
        }

        break;

    default:
        term = kv_raft_message_term(m);
    }

    if (m->m.type == RAFT_APPEND_ENTRIES) {
        sim_check_entries(node, m);
    }

    if (term < node->said_term) {
        sim_fail(node->sim, "node %llu speaks in term %llu after term %llu",
                 (unsigned long long) node->id, (unsigned long long) term,
                 (unsigned long long) node->said_term);
    }

    node->said_term = term;
}


static void
sim_check_entries(sim_node_t *node, const kv_raft_message_t *m)
{
    uint64_t                           before;
    unsigned                           i;
    const struct raft_append_entries  *append;

    append = &m->m.append_entries;
    before = append->prev_log_term;

    for (i = 0; i < append->n_entries; i++) {
        sim_check_entry(node, append->prev_log_index + 1 + i, m->entries[i],
                        before);
        before = m->entries[i]->term;
    }
}


static void
sim_check_vote(sim_node_t *node, uint64_t term, uint64_t candidate)
{
    uint64_t  *vote;

    vote = &sim_term(node->sim, term)->vote[node->slot];

    /* A place may have another node by now. */

    if (*vote && *vote >> 32 == node->id && (uint32_t) *vote != candidate) {
        sim_fail(node->sim, "node %llu votes for %llu in term %llu, and did"
                 " for %u", (unsigned long long) node->id,
                 (unsigned long long) candidate, (unsigned long long) term,
                 (uint32_t) *vote);
    }

    *vote = node->id << 32 | candidate;
}


/* ---- the log */

/* By index and term: a hash table. */

static sim_made_t *
sim_made(sim_t *sim, uint64_t index, uint64_t term)
{
    uint64_t     i;
    sim_made_t  *made;

    i = sim_mix(index * 1000003 + term);

    for ( ;; ) {
        made = &sim->made[i++ & (sim->size_made - 1)];

        if (made->term == 0 || (made->index == index && made->term == term)) {
            return made;
        }
    }
}


static void
sim_made_grow(sim_t *sim)
{
    uint64_t     i, size;
    sim_made_t  *old;

    old = sim->made;
    size = sim->size_made;

    sim->size_made *= 2;
    sim->made = calloc(sim->size_made, sizeof(*sim->made));
    assert(sim->made != NULL);

    for (i = 0; i < size; i++) {
        if (old[i].term) {
            *sim_made(sim, old[i].index, old[i].term) = old[i];
        }
    }

    free(old);
}


/*
 * An entry is sent, or synced, or found on disk: what the process had alone may
 * be forgotten.  `before` is 0 if it is not known.
 */

void
sim_check_entry(sim_node_t *node, uint64_t index, const kv_raft_entry_t *e,
    uint64_t before)
{
    sim_t       *sim;
    uint64_t     value;
    sim_made_t  *made;

    sim = node->sim;
    value = sim_value_of(e);
    made = sim_made(sim, index, e->term);

    if (made->term == 0) {
        made->index = index;
        made->term = e->term;
        made->value = value;
        made->before = before;

        if (++sim->n_made > sim->size_made / 2) {
            sim_made_grow(sim);
        }

        return;
    }

    if (made->value != value) {
        sim_fail(sim, "entry %llu of term %llu of node %llu is another one"
                 " elsewhere", (unsigned long long) index,
                 (unsigned long long) e->term,
                 (unsigned long long) node->id);
    }

    if (before && made->before && made->before != before) {
        sim_fail(sim, "before entry %llu of term %llu node %llu has one of"
                 " term %llu, others of %llu", (unsigned long long) index,
                 (unsigned long long) e->term,
                 (unsigned long long) node->id,
                 (unsigned long long) before,
                 (unsigned long long) made->before);
    }

    made->before = made->before ? made->before : before;
}


/* ---- leaders and commits */

void
sim_check(sim_node_t *node)
{
    kv_raft_info_t  info;

    kv_raft_info(node->raft, &info);

    if (info.state == RAFT_LEADER && info.term != node->role_term) {
        sim_check_leader(node, &info);
        node->role_term = info.term;
    }

    if (info.commit > node->checked) {
        sim_check_commit(node, &info);
    }
}


static void
sim_check_leader(sim_node_t *node, const kv_raft_info_t *info)
{
    sim_t            *sim;
    uint64_t          i, term;
    sim_term_t       *one;
    sim_committed_t  *c;

    sim = node->sim;
    one = sim_term(sim, info->term);
    sim->sum.leaders++;
    sim_say(sim, "%llu leads in term %llu", (unsigned long long) node->id,
            (unsigned long long) info->term);

    /* Who is alone may lead for nobody before its term is on disk. */

    if (one->leader
        && (one->leader != node->id || node->said_term >= info->term))
    {
        sim_fail(sim, "node %llu leads in term %llu, as node %llu did",
                 (unsigned long long) node->id,
                 (unsigned long long) info->term,
                 (unsigned long long) one->leader);
    }

    one->leader = node->id;

    /* The last entry that a leader of a lower term has committed. */

    for (i = sim->last_committed; i; i--) {
        c = sim_committed(sim, i);

        if (c->by < info->term) {
            break;
        }
    }

    if (i == 0) {
        return;
    }

    term = kv_raft_term_of(node->raft, i);

    if (term != c->term
        && (term || info->last < i || node->applied < i))
    {
        sim_fail(sim, "node %llu leads in term %llu without entry %llu of"
                 " term %llu, which is committed",
                 (unsigned long long) node->id,
                 (unsigned long long) info->term,
                 (unsigned long long) i, (unsigned long long) c->term);
    }
}


static void
sim_check_commit(sim_node_t *node, const kv_raft_info_t *info)
{
    sim_t            *sim;
    uint64_t          i, term;
    sim_committed_t  *c;

    sim = node->sim;

    for (i = node->checked + 1; i <= info->commit; i++) {
        term = kv_raft_term_of(node->raft, i);

        if (term == 0) {
            continue;
        }

        c = sim_committed(sim, i);

        if (c->term == 0) {
            c->term = term;
            c->by = info->term;
            c->value = 0;
            sim->last_committed = kv_max(sim->last_committed, i);

        } else if (c->term != term) {
            sim_fail(sim, "node %llu has %llu of term %llu committed, and term"
                     " %llu was", (unsigned long long) node->id,
                     (unsigned long long) i, (unsigned long long) term,
                     (unsigned long long) c->term);
            return;
        }
    }

    node->checked = info->commit;

    if (info->state == RAFT_LEADER) {
        sim_check_majority(node, info->commit,
                           kv_raft_term_of(node->raft, info->commit));
    }
}


/* A leader that commits has it on most disks: also those of the dead count. */

static void
sim_check_majority(sim_node_t *node, uint64_t index, uint64_t term)
{
    sim_t                            *sim;
    unsigned                          i, have, need;
    sim_node_t                       *other;
    const struct raft_configuration  *conf;

    sim = node->sim;
    conf = kv_raft_members(node->raft);
    need = kv_raft_voters(conf) / 2 + 1;

    for (i = 0, have = 0; i < conf->n; i++) {
        other = sim_node(sim, conf->servers[i].id);

        if (conf->servers[i].role == RAFT_VOTER && other
            && sim_disk_has(other, index, term))
        {
            have++;
        }
    }

    if (have < need) {
        sim_fail(sim, "node %llu has %llu committed, which is on %u disks, not"
                 " on %u", (unsigned long long) node->id,
                 (unsigned long long) index, have, need);
    }
}


/* ---- the state */

void
sim_check_applied(sim_node_t *node, uint64_t index, const kv_raft_entry_t *e)
{
    sim_t            *sim;
    uint64_t          value;
    kv_raft_info_t    info;
    sim_committed_t  *c;

    sim = node->sim;
    c = sim_committed(sim, index);
    value = sim_value_of(e);

    /* It is applied before the commit index is looked at. */

    if (c->term == 0) {
        kv_raft_info(node->raft, &info);
        c->term = e->term;
        c->by = info.term;
        sim->last_committed = kv_max(sim->last_committed, index);
    }

    if (c->value == 0) {
        c->value = value;

        if (e->type == RAFT_CHANGE) {
            kv_raft_entry_drop(sim->members);
            sim->members = kv_raft_entry_hold((kv_raft_entry_t *)
                                              (uintptr_t) e);
        }
    }

    if (c->term != e->term || c->value != value) {
        sim_fail(sim, "node %llu applies %llu of term %llu, and term %llu was"
                 " committed", (unsigned long long) node->id,
                 (unsigned long long) index, (unsigned long long) e->term,
                 (unsigned long long) c->term);
        return;
    }

    if (index < node->whole) {
        return;
    }

    if (c->hash == 0) {
        c->hash = node->state.hash + 1;

    } else if (c->hash != node->state.hash + 1) {
        sim_fail(sim, "the state of node %llu at %llu is not that of others",
                 (unsigned long long) node->id, (unsigned long long) index);
    }
}


/* ---- the end */

bool
sim_check_equal(sim_t *sim)
{
    unsigned                          i;
    sim_node_t                       *leader, *node;
    const struct raft_configuration  *conf;

    leader = sim_leader(sim);

    if (leader == NULL || leader->applied != sim->last_committed
        || sim->committed[leader->applied].by != leader->role_term
        || sim->acknowledged < leader->applied)
    {
        return false;
    }

    conf = kv_raft_members(leader->raft);

    for (i = 0; i < conf->n; i++) {
        node = sim_node(sim, conf->servers[i].id);

        /* One that was emptied while it was being added never comes. */

        if (conf->servers[i].role != RAFT_SPARE
            && (node || conf->servers[i].role == RAFT_VOTER)
            && (node == NULL || !sim_equal_to(node, leader)))
        {
            return false;
        }
    }

    return true;
}


static bool
sim_equal_to(const sim_node_t *node, const sim_node_t *leader)
{
    return node->raft && node->applied == leader->applied
           && node->applied >= node->whole
           && node->state.hash == leader->state.hash;
}
