
/*
 * The network: messages are lost, come twice, late, out of order, or not at all
 * for a while, each way on its own.
 *
 * A snapshot takes long.  Its sender learns when it has arrived, or cannot.
 */


#include "sim.h"
#include "raft/kv_raft_frame.h"


static void sim_net_one(sim_node_t *from, sim_node_t *to,
    const kv_raft_message_t *m);
static unsigned sim_net_frame(sim_node_t *to, const kv_raft_message_t *m,
    unsigned first, unsigned delay);
static void sim_net_tell(const sim_t *sim, const kv_raft_message_t *m);
static unsigned sim_net_delay(sim_t *sim, const kv_raft_message_t *m);


void
sim_net_send(sim_node_t *node, const kv_raft_message_t *m)
{
    sim_t       *sim;
    sim_node_t  *to;

    sim = node->sim;
    to = sim_node(sim, m->to);
    sim->sum.messages++;
    sim_net_tell(sim, m);

    if (to == NULL) {
        return;
    }

    sim_net_one(node, to, m);

    if (sim_chance(sim, sim->twice)) {
        sim_net_one(node, to, m);
    }
}


static void
sim_net_tell(const sim_t *sim, const kv_raft_message_t *m)
{
    unsigned long long                        from, to, term;
    const struct raft_append_entries         *append;
    const struct raft_append_entries_result  *result;

    if (!sim->conf.log) {
        return;
    }

    from = m->from;
    to = m->to;
    term = kv_raft_message_term(m);

    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        append = &m->m.append_entries;
        sim_say(sim, "  %llu > %llu: append, term %llu: %llu (%llu) + %u,"
                " commit %llu", from, to, term, append->prev_log_index,
                append->prev_log_term, append->n_entries,
                append->leader_commit);
        return;

    case RAFT_APPEND_ENTRIES_RESULT:
        result = &m->m.append_entries_result;
        sim_say(sim, "  %llu > %llu: appended, term %llu: rejected %llu,"
                " last %llu", from, to, term, result->rejected,
                result->last_log_index);
        return;

    case RAFT_REQUEST_VOTE:
        sim_say(sim, "  %llu > %llu: %svote?, term %llu: %llu (%llu)",
                from, to, m->m.request_vote.pre_vote ? "pre-" : "", term,
                m->m.request_vote.last_log_index,
                m->m.request_vote.last_log_term);
        return;

    case RAFT_REQUEST_VOTE_RESULT:
        sim_say(sim, "  %llu > %llu: %svote: %s, term %llu", from, to,
                m->m.request_vote_result.pre_vote ? "pre-" : "",
                m->m.request_vote_result.vote_granted ? "yes" : "no", term);
        return;

    case RAFT_INSTALL_SNAPSHOT:
        sim_say(sim, "  %llu > %llu: snapshot, term %llu: %llu (%llu),"
                " members %llu", from, to, term,
                m->m.install_snapshot.last_index,
                m->m.install_snapshot.last_term,
                m->m.install_snapshot.conf_index);
        return;

    case RAFT_TIMEOUT_NOW:
        sim_say(sim, "  %llu > %llu: lead now, term %llu", from, to, term);
        return;
    }
}


static void
sim_net_one(sim_node_t *from, sim_node_t *to, const kv_raft_message_t *m)
{
    bool          lost;
    sim_t        *sim;
    unsigned      delay, first;
    sim_event_t  *event;

    sim = from->sim;
    delay = sim_net_delay(sim, m);
    lost = sim->cut[from->slot][to->slot] || sim_chance(sim, sim->loss);

    if (m->m.type == RAFT_INSTALL_SNAPSHOT) {
        event = sim_event(sim, SIM_EVENT_SENT, delay);
        event->slot = from->slot;
        event->life = from->life;
        event->n = m->to;
    }

    if (lost) {
        sim->sum.lost++;
        return;
    }

    first = sim_net_frame(to, m, 0, delay);

    while (m->m.type == RAFT_APPEND_ENTRIES
           && first < m->m.append_entries.n_entries)
    {
        first += sim_net_frame(to, m, first, sim_net_delay(sim, m));
    }
}


/*
 * It goes as bytes, and what does not fit into a frame in several.  Returns how
 * many entries one had.
 */

static unsigned
sim_net_frame(sim_node_t *to, const kv_raft_message_t *m, unsigned first,
    unsigned delay)
{
    void         *data;
    sim_t        *sim;
    size_t        size, max;
    unsigned      n;
    sim_event_t  *event;

    sim = to->sim;
    max = SIZE_MAX;

    if (sim->conf.pieces && m->m.type == RAFT_APPEND_ENTRIES
        && m->m.append_entries.n_entries && sim_chance(sim, 100))
    {
        max = KV_RAFT_FRAME_HEAD + KV_RAFT_FRAME_ENTRY
              + m->entries[first]->len + sim_below(sim, 200);
    }

    size = kv_raft_frame_size(m, first, max, &n);
    assert(size >= KV_RAFT_FRAME_HEAD && size <= max);

    data = malloc(size);
    assert(data != NULL);
    kv_raft_frame_write(m, first, n, data);

    event = sim_event(sim, SIM_EVENT_MESSAGE, delay);
    event->slot = to->slot;

    if (kv_raft_frame_read(data, size, &event->m) != KV_OK) {
        abort();
    }

    free(data);

    return n;
}


static unsigned
sim_net_delay(sim_t *sim, const kv_raft_message_t *m)
{
    unsigned  delay;

    delay = sim_below(sim, sim->delay + 1);

    if (sim_chance(sim, sim->late)) {
        delay += sim_below(sim, sim_chance(sim, 500) ? 1000 : 8000);
    }

    if (m->m.type == RAFT_INSTALL_SNAPSHOT) {
        delay += 20 + sim_below(sim, 800);
    }

    return delay;
}


void
sim_net_heal(sim_t *sim)
{
    memset(sim->cut, 0, sizeof(sim->cut));
}


/*
 * A cut of one kind or another: a node alone, the leader most of the time; one
 * way only; two parts; two parts with a bridge that both can reach.
 */

void
sim_net_cut(sim_t *sim)
{
    bool         side[SIM_NODES];
    unsigned     i, j, kind, one;
    sim_node_t  *leader;

    kind = sim_below(sim, 5);
    leader = sim_leader(sim);
    one = leader && sim_chance(sim, 600) ? leader->slot
                                         : sim_below(sim, SIM_NODES);

    sim->sum.cuts++;
    sim_say(sim, "cut %u, of %u", kind, one + 1);

    for (i = 0; i < SIM_NODES; i++) {
        side[i] = sim_chance(sim, 500);
    }

    for (i = 0; i < SIM_NODES; i++) {
        for (j = 0; j < SIM_NODES; j++) {

            switch (kind) {

            case 0:
                sim->cut[i][j] = i == one || j == one;
                break;

            case 1:
                sim->cut[i][j] = i == one;
                break;

            case 2:
                sim->cut[i][j] = j == one;
                break;

            case 3:
                sim->cut[i][j] = side[i] != side[j];
                break;

            default:
                sim->cut[i][j] = side[i] != side[j] && i != one && j != one;
            }
        }
    }
}
