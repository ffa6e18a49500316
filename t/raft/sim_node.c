
/*
 * A node: the host of src/raft, with the state that the entries change, a
 * client's writes and reads, and the snapshots that it takes.
 */


#include "sim.h"


/* Pieces in which the state is copied into a snapshot. */
#define SIM_SLICES  4


static void sim_node_write(void *host, const kv_raft_write_t *w);
static void sim_node_send(void *host, const kv_raft_message_t *m);
static bool sim_node_apply(void *host, uint64_t index,
    const kv_raft_entry_t *e);
static void sim_node_newest(void *host, kv_raft_snapshot_t *s);
static void sim_node_installed(void *host, const kv_raft_snapshot_t *s);
static void sim_node_load(sim_node_t *node, uint64_t handle);
static void sim_node_timer(sim_node_t *node);
static void sim_node_answer(sim_node_t *node, uint64_t index, uint64_t term,
    uint64_t value);
static void sim_node_reads(sim_node_t *node);
static void sim_node_read(sim_node_t *node);
static void sim_node_begin_snapshot(sim_node_t *node);
static void sim_node_end_snapshot(sim_node_t *node);
static void sim_node_next_slice(sim_node_t *node);
static uint64_t sim_hash(unsigned key, uint64_t value);


const kv_raft_host_t  sim_node_ops = {
    sim_node_write,
    sim_node_send,
    sim_node_apply,
    sim_node_newest,
    sim_node_installed
};


/* ---- life */

void
sim_node_up(sim_node_t *node)
{
    kv_rc_t         rc;
    sim_t          *sim;
    unsigned        i;
    sim_found_t     found;
    kv_raft_conf_t  conf;

    sim = node->sim;
    memset(&conf, 0, sizeof(conf));

    conf.id = node->id;
    conf.seed = (unsigned) sim_random(sim);
    conf.election_timeout = SIM_ELECTION;
    conf.heartbeat = SIM_HEARTBEAT;
    conf.snapshot_timeout = 10000;
    conf.inflight = SIM_INFLIGHT;

    node->life++;
    node->used = true;
    node->timer = 0;
    node->skew = sim_below(sim, 100000);
    node->applied = 0;
    node->whole = 0;
    node->checked = 0;
    node->role_term = 0;
    node->slices = 0;
    memset(&node->state, 0, sizeof(node->state));
    memset(node->writes, 0, sizeof(node->writes));
    memset(node->reads, 0, sizeof(node->reads));

    sim_disk_read(node, node->disk.n, &found);

    node->snapshot = found.handle;
    node->snapshot_due = found.snapshot.index + 40 + sim_below(sim, 80);

    if (found.handle) {
        sim_node_load(node, found.handle);
    }

    sim_say(sim, "%llu starts: term %llu, snapshot %llu, log %llu+%u",
            (unsigned long long) node->id,
            (unsigned long long) found.found.term,
            (unsigned long long) found.snapshot.index,
            (unsigned long long) found.found.index, found.found.n);

    for (i = 0; i < found.found.n; i++) {
        sim_check_entry(node, found.found.index + i, found.found.entries[i],
                        i ? found.found.entries[i - 1]->term : 0);
    }

    node->raft = kv_raft_open(&conf, &sim_node_ops, node);
    rc = kv_raft_start(node->raft, sim_node_now(node), &found.found);

    if (rc == KV_DAMAGED) {
        sim_fail(sim, "node %llu found what no node can have written",
                 (unsigned long long) node->id);
    }

    sim_found_free(&found);
    sim_node_after(node, rc);
}


void
sim_node_down(sim_node_t *node, bool power)
{
    sim_t        *sim;
    sim_event_t  *event;

    sim = node->sim;
    sim->sum.crashes++;
    sim_say(sim, "%llu goes down%s", (unsigned long long) node->id,
            power ? " with the power" : "");

    kv_raft_close(node->raft);
    node->raft = NULL;
    sim_node_end_snapshot(node);
    sim_disk_crash(node, power);

    event = sim_event(sim, SIM_EVENT_UP, sim_below(sim, 3000));
    event->slot = node->slot;
    event->life = node->life;
}


void
sim_node_new(sim_node_t *node)
{
    if (node->raft) {
        kv_raft_close(node->raft);
        node->raft = NULL;
    }

    sim_node_end_snapshot(node);
    sim_disk_free(node);

    if (node->used) {
        node->id += 16;
    }

    node->said_term = 0;
    sim_node_up(node);
}


uint64_t
sim_node_now(const sim_node_t *node)
{
    return node->sim->now + node->skew;
}


/* The node that has this id now, or NULL. */

sim_node_t *
sim_node(sim_t *sim, uint64_t id)
{
    sim_node_t  *node;

    node = &sim->nodes[(id - 1) % 16];

    return node->id == id ? node : NULL;
}


/* The one that leads in the highest term, or NULL. */

sim_node_t *
sim_leader(sim_t *sim)
{
    unsigned         i;
    uint64_t         term;
    sim_node_t      *leader;
    kv_raft_info_t   info;

    leader = NULL;
    term = 0;

    for (i = 0; i < SIM_NODES; i++) {
        if (sim->nodes[i].raft == NULL) {
            continue;
        }

        kv_raft_info(sim->nodes[i].raft, &info);

        if (info.state == RAFT_LEADER && info.term > term) {
            leader = &sim->nodes[i];
            term = info.term;
        }
    }

    return leader;
}


/* ---- what it is told of */

void
sim_node_after(sim_node_t *node, kv_rc_t rc)
{
    sim_t  *sim;

    sim = node->sim;
    sim->steps++;

    if (rc == KV_ERROR) {
        sim_fail(sim, "the engine of node %llu gave up",
                 (unsigned long long) node->id);
    }

    if (sim->failed) {
        return;
    }

    sim_check(node);
    sim_node_reads(node);
    sim_node_timer(node);

    if (node->slices == 0 && node->applied >= node->snapshot_due) {
        sim_node_begin_snapshot(node);
    }
}


static void
sim_node_timer(sim_node_t *node)
{
    uint64_t      due, now;
    sim_event_t  *event;

    now = sim_node_now(node);
    due = kv_raft_next_timeout(node->raft);
    due = due > now ? due - node->skew : node->sim->now + 1;

    if (node->timer == 0 || due < node->timer) {
        node->timer = due;
        event = sim_event(node->sim, SIM_EVENT_TIMER, due - node->sim->now);
        event->slot = node->slot;
        event->life = node->life;
    }
}


void
sim_node_timeout(sim_node_t *node)
{
    if (kv_raft_next_timeout(node->raft) > sim_node_now(node)) {
        sim_node_timer(node);
        return;
    }

    sim_node_after(node, kv_raft_timeout(node->raft, sim_node_now(node)));
}


void
sim_node_receive(sim_node_t *node, const kv_raft_message_t *m)
{
    kv_rc_t  rc;

    rc = kv_raft_receive(node->raft, sim_node_now(node), m);

    if (rc == KV_DAMAGED) {
        sim_fail(node->sim, "node %llu refuses a message of type %d",
                 (unsigned long long) node->id, (int) m->m.type);
    }

    sim_node_after(node, rc);
}


void
sim_node_written(sim_node_t *node, uint64_t seq)
{
    sim_node_after(node, kv_raft_written(node->raft, sim_node_now(node), seq));
}


/* ---- host */

static void
sim_node_write(void *host, const kv_raft_write_t *w)
{
    sim_node_t  *node;

    node = host;

    if (w->type == KV_RAFT_INSTALL) {
        sim_node_end_snapshot(node);
    }

    sim_disk_write(node, w);
}


static void
sim_node_send(void *host, const kv_raft_message_t *m)
{
    sim_check_message(host, m);
    sim_net_send(host, m);
}


/*
 * What a command does is in it: done again, it does the same.  Now and then it
 * cannot be done at once.
 */

static bool
sim_node_apply(void *host, uint64_t index, const kv_raft_entry_t *e)
{
    uint64_t     value;
    unsigned     key;
    sim_node_t  *node;

    node = host;
    value = sim_value_of(e);

    if ((node->sim->conf.trouble & SIM_PUT_OFF)
        && sim_below(node->sim, 16) == 0)
    {
        return false;
    }

    if (e->type == RAFT_COMMAND) {
        key = value % SIM_KEYS;
        node->state.hash ^= sim_hash(key, node->state.value[key])
                            ^ sim_hash(key, value);
        node->state.value[key] = value;
    }

    if (index != node->applied + 1) {
        sim_fail(node->sim, "node %llu applies %llu after %llu",
                 (unsigned long long) node->id, (unsigned long long) index,
                 (unsigned long long) node->applied);
    }

    node->applied = index;
    sim_check_applied(node, index, e);
    sim_node_answer(node, index, e->term, value);

    return true;
}


static uint64_t
sim_hash(unsigned key, uint64_t value)
{
    return value ? sim_mix(value * SIM_KEYS + key) : 0;
}


static void
sim_node_newest(void *host, kv_raft_snapshot_t *s)
{
    sim_node_t  *node;

    node = host;
    *s = node->sim->snapshots[node->snapshot].s;
}


static void
sim_node_installed(void *host, const kv_raft_snapshot_t *s)
{
    sim_node_t  *node;

    node = host;
    node->sim->sum.installed++;
    node->snapshot = s->handle;
    node->snapshot_due = s->index + 40;
    sim_node_load(node, s->handle);
    sim_say(node->sim, "%llu has installed %llu",
            (unsigned long long) node->id, (unsigned long long) s->index);
}


static void
sim_node_load(sim_node_t *node, uint64_t handle)
{
    const sim_snapshot_t  *s;

    s = &node->sim->snapshots[handle];
    node->state = s->state;
    node->applied = s->s.index;
    node->checked = s->s.index;
    node->whole = node->sim->conf.fault == SIM_FUZZY_SERVED ? 0 : s->whole;
}


/* ---- clients */

void
sim_node_client(sim_node_t *node)
{
    sim_t        *sim;
    uint64_t      value, index, term;
    unsigned      i;

    sim = node->sim;

    /* When all is well again, one now and then. */

    if (sim->healed) {
        node = sim_chance(sim, 20) ? sim_leader(sim) : NULL;
    }

    if (node == NULL || node->raft == NULL || node->paused > sim->now) {
        return;
    }

    if (sim_chance(sim, 300)) {
        sim_node_read(node);
        return;
    }

    value = sim->value + 1;

    if (kv_raft_submit(node->raft, sim_node_now(node), &value, sizeof(value),
                       &index, &term)
        != KV_OK)
    {
        return;
    }

    sim->value = value;
    i = sim_below(sim, 8);
    node->writes[i].index = index;
    node->writes[i].term = term;
    node->writes[i].value = value;

    sim_node_after(node, KV_OK);
}


static void
sim_node_answer(sim_node_t *node, uint64_t index, uint64_t term,
    uint64_t value)
{
    unsigned  i;

    for (i = 0; i < 8; i++) {
        if (node->writes[i].index != index) {
            continue;
        }

        node->writes[i].index = 0;

        if (node->writes[i].term != term) {
            continue;
        }

        if (node->writes[i].value != value) {
            sim_fail(node->sim, "what a client wrote is not at %llu",
                     (unsigned long long) index);
        }

        node->sim->sum.writes++;
        node->sim->acknowledged = kv_max(node->sim->acknowledged, index);
    }
}


static void
sim_node_read(sim_node_t *node)
{
    unsigned     i;
    sim_read_t  *read;

    for (i = 0; i < SIM_READS && node->reads[i].busy; i++) { /* void */ }

    if (i == SIM_READS) {
        return;
    }

    read = &node->reads[i];

    if (node->sim->conf.fault == SIM_STALE_READ) {
        memset(&read->read, 0, sizeof(read->read));
        read->busy = true;

    } else {
        read->busy = kv_raft_read_begin(node->raft, &read->read) == KV_OK;
    }

    read->floor = node->sim->acknowledged;
}


static void
sim_node_reads(sim_node_t *node)
{
    kv_rc_t          rc;
    unsigned         i;
    sim_read_t      *read;
    kv_raft_info_t   info;

    for (i = 0; i < SIM_READS; i++) {
        read = &node->reads[i];

        if (!read->busy || node->applied < node->whole) {
            continue;
        }

        rc = kv_raft_read_ready(node->raft, &read->read);

        if (node->sim->conf.fault == SIM_STALE_READ) {
            kv_raft_info(node->raft, &info);
            rc = info.state == RAFT_LEADER ? KV_OK : KV_UNAVAILABLE;
        }

        if (rc == KV_AGAIN) {
            continue;
        }

        read->busy = false;

        if (rc != KV_OK) {
            continue;
        }

        node->sim->sum.reads++;

        if (node->applied < read->floor) {
            sim_fail(node->sim, "a read of node %llu at %llu does not see the"
                     " write at %llu, which was acknowledged before it began",
                     (unsigned long long) node->id,
                     (unsigned long long) node->applied,
                     (unsigned long long) read->floor);
        }
    }
}


/* ---- snapshots */

static void
sim_node_begin_snapshot(sim_node_t *node)
{
    sim_t  *sim;

    sim = node->sim;
    node->snapshot_due = node->applied + 40 + sim_below(sim, 80);

    if (!(sim->conf.trouble & SIM_SNAPSHOTS) || node->applied < node->whole
        || kv_raft_snapshot_begin(node->raft, &node->taking.s) != KV_OK)
    {
        return;
    }

    node->taking.state = node->state;
    node->slices = SIM_SLICES;
    sim_node_next_slice(node);
}


static void
sim_node_next_slice(sim_node_t *node)
{
    sim_event_t  *event;

    event = sim_event(node->sim, SIM_EVENT_SLICE, sim_below(node->sim, 60));
    event->slot = node->slot;
    event->life = node->life;
    event->n = node->taking.s.index;
}


/* The keys of this slice, as they are by now. */

void
sim_node_slice(sim_node_t *node)
{
    sim_t           *sim;
    unsigned         i, n;
    sim_state_t     *state;
    sim_snapshot_t  *s;

    if (node->slices == 0) {
        return;
    }

    sim = node->sim;
    state = &node->taking.state;
    n = SIM_KEYS / SIM_SLICES;
    node->slices--;

    for (i = node->slices * n; i < (node->slices + 1) * n; i++) {
        state->hash ^= sim_hash(i, state->value[i])
                       ^ sim_hash(i, node->state.value[i]);
        state->value[i] = node->state.value[i];
    }

    if (node->slices) {
        sim_node_next_slice(node);
        return;
    }

    node->taking.whole = node->applied;

    if (sim->n_snapshots == sim->size_snapshots) {
        sim->size_snapshots *= 2;
        sim->snapshots = realloc(sim->snapshots, sim->size_snapshots
                                                 * sizeof(*sim->snapshots));
        assert(sim->snapshots != NULL);
    }

    s = &sim->snapshots[sim->n_snapshots];
    *s = node->taking;
    s->s.handle = sim->n_snapshots++;
    node->taking.s.conf = NULL;

    sim->sum.taken++;
    sim_disk_taken(node, s->s.handle, sim_below(sim, 30));
}


static void
sim_node_end_snapshot(sim_node_t *node)
{
    kv_raft_entry_drop(node->taking.s.conf);
    node->taking.s.conf = NULL;
    node->slices = 0;
}


/* It is on disk: the log before it may go. */

void
sim_node_taken(sim_node_t *node, uint64_t handle, unsigned trailing)
{
    kv_rc_t              rc;
    uint64_t             before;
    kv_raft_snapshot_t  *s;

    s = &node->sim->snapshots[handle].s;
    before = node->snapshot;
    node->snapshot = handle;
    rc = kv_raft_snapshot_taken(node->raft, sim_node_now(node), s, trailing);

    if (rc == KV_DECLINED) {
        node->snapshot = before;
        return;
    }

    sim_disk_compact(node);
    sim_node_after(node, rc);
}
