
/*
 * The world: its clock, its events, its chance; see sim.h.
 */


#include "sim.h"


/* How long it may take until all is well again, when no trouble comes. */
#define SIM_REST  120000u


static void sim_begin(sim_t *sim);
static void sim_tell(const sim_t *sim);
static void sim_do(sim_t *sim, sim_event_t *event);
static bool sim_postpone(sim_t *sim, sim_event_t *event);
static void sim_push(sim_t *sim, sim_event_t *event);
static sim_event_t *sim_pop(sim_t *sim);
static bool sim_before(const sim_event_t *a, const sim_event_t *b);


bool
sim_run(sim_t *sim, const sim_conf_t *conf)
{
    uint64_t  end;

    sim_init(sim, conf);
    sim_begin(sim);

    while (!sim->failed && sim->steps < conf->steps && sim_next(sim)) {
        /* void */
    }

    if (sim->failed) {
        return false;
    }

    sim->healed = true;
    sim_calm(sim);
    end = sim->now + SIM_REST;

    while (!sim->failed && sim->now < end && sim_next(sim)) {
        if (sim_check_equal(sim)) {
            return !sim->failed;
        }
    }

    if (!sim->failed) {
        sim_tell(sim);
        sim_fail(sim, "not all nodes are equal %u ms after the last trouble",
                 SIM_REST);
    }

    return false;
}


void
sim_init(sim_t *sim, const sim_conf_t *conf)
{
    unsigned  i;

    memset(sim, 0, sizeof(*sim));

    sim->conf = *conf;
    sim->random = sim_mix(conf->seed + 1);
    sim->now = 1000;
    sim->delay = 3;

    sim_check_init(sim);

    for (i = 0; i < SIM_NODES; i++) {
        sim->nodes[i].sim = sim;
        sim->nodes[i].slot = i;
        sim->nodes[i].id = i + 1;
        sim->nodes[i].slow = 5;
    }

    /* No snapshot has the handle 0. */
    sim->size_snapshots = 16;
    sim->snapshots = kv_raft_alloc(sim->size_snapshots
                                   * sizeof(*sim->snapshots));
    memset(sim->snapshots, 0, sizeof(*sim->snapshots));
    sim->n_snapshots = 1;
}


/* The first members have the same first entry on their disks. */

static void
sim_begin(sim_t *sim)
{
    unsigned           i, n;
    kv_raft_write_t    w;
    kv_raft_entry_t   *e;
    kv_raft_member_t   members[SIM_NODES];
    static const char *addresses[] = { "a", "b", "c", "d", "e", "f", "g" };

    n = sim->conf.nodes ? sim->conf.nodes : 1 + sim_below(sim, 5);

    for (i = 0; i < n; i++) {
        members[i].id = sim->nodes[i].id;
        members[i].role = RAFT_VOTER;
        members[i].address = addresses[i];
    }

    e = kv_raft_conf_members(1, members, n);

    for (i = 0; i < n; i++) {
        memset(&w, 0, sizeof(w));
        w.type = KV_RAFT_VOTE;
        w.term = 1;
        sim_disk_write(&sim->nodes[i], &w);

        w.type = KV_RAFT_ENTRIES;
        w.index = 1;
        w.n = 1;
        w.entries = &e;
        sim_disk_write(&sim->nodes[i], &w);

        sim->nodes[i].disk.synced = sim->nodes[i].disk.n;
        sim->nodes[i].disk.syncing = 0;
    }

    kv_raft_entry_drop(e);

    for (i = 0; i < n; i++) {
        sim_node_up(&sim->nodes[i]);
    }

    sim_event(sim, SIM_EVENT_CLIENT, 1);
    sim_event(sim, SIM_EVENT_TROUBLE, 1);
}


void
sim_free(sim_t *sim)
{
    unsigned      i;
    sim_node_t   *node;
    sim_event_t  *event;

    for (i = 0; i < SIM_NODES; i++) {
        node = &sim->nodes[i];

        if (node->raft) {
            kv_raft_close(node->raft);
        }

        kv_raft_entry_drop(node->taking.s.conf);
        sim_disk_free(node);
    }

    while (sim->n) {
        sim_event_free(sim, sim_pop(sim));
    }

    while (sim->free) {
        event = sim->free;
        sim->free = event->next;
        free(event);
    }

    for (i = 0; i < sim->n_snapshots; i++) {
        kv_raft_entry_drop(sim->snapshots[i].s.conf);
    }

    free(sim->heap);
    free(sim->snapshots);
    sim_check_free(sim);
}


bool
sim_next(sim_t *sim)
{
    sim_event_t  *event;

    if (sim->n == 0) {
        return false;
    }

    event = sim_pop(sim);
    sim->now = kv_max(sim->now, event->at);

    if (!sim_postpone(sim, event)) {
        sim_do(sim, event);
        sim_event_free(sim, event);
    }

    return true;
}


/* A node that stands still finds all that happened when it goes on. */

static bool
sim_postpone(sim_t *sim, sim_event_t *event)
{
    sim_node_t  *node;

    if (event->type == SIM_EVENT_CLIENT || event->type == SIM_EVENT_TROUBLE
        || event->type == SIM_EVENT_CALM)
    {
        return false;
    }

    node = &sim->nodes[event->slot];

    if (node->paused <= sim->now) {
        return false;
    }

    event->at = node->paused;
    sim_push(sim, event);

    return true;
}


static void
sim_do(sim_t *sim, sim_event_t *event)
{
    sim_node_t  *node;

    node = &sim->nodes[event->slot];

    switch (event->type) {

    case SIM_EVENT_CLIENT:
        sim_event(sim, SIM_EVENT_CLIENT, sim_below(sim, 12));
        sim_node_client(&sim->nodes[sim_below(sim, SIM_NODES)]);
        return;

    case SIM_EVENT_TROUBLE:
        if (!sim->healed) {
            sim_event(sim, SIM_EVENT_TROUBLE, sim_below(sim, 400));
            sim_trouble(sim);
        }

        return;

    case SIM_EVENT_CALM:
        sim_net_heal(sim);
        return;

    case SIM_EVENT_UP:
        if (node->raft == NULL && node->life == event->life) {
            sim_node_up(node);
        }

        return;

    case SIM_EVENT_MESSAGE:
        if (node->raft && node->id == event->m.to) {
            sim_node_receive(node, &event->m);
        }

        return;

    default:
        break;
    }

    if (node->raft == NULL || node->life != event->life) {
        return;
    }

    switch (event->type) {

    case SIM_EVENT_TIMER:
        if (event->at >= node->timer) {
            node->timer = 0;
            sim_node_timeout(node);
        }

        return;

    case SIM_EVENT_SYNC:
        sim_disk_synced(node);
        return;

    case SIM_EVENT_EARLY:
        sim_node_written(node, event->n);
        return;

    case SIM_EVENT_SLICE:
        sim_node_slice(node);
        return;

    case SIM_EVENT_SENT:
        kv_raft_snapshot_sent(node->raft, event->n);
        return;

    default:
        return;
    }
}


void
sim_fail(sim_t *sim, const char *format, ...)
{
    va_list  args;

    if (sim->failed) {
        return;
    }

    sim->failed = true;
    va_start(args, format);
    vsnprintf(sim->message, sizeof(sim->message), format, args);
    va_end(args);
    sim_say(sim, "FAILED: %s", sim->message);
}


void
sim_say(const sim_t *sim, const char *format, ...)
{
    va_list  args;

    if (sim->conf.log) {
        fprintf(stderr, "%8llu %7llu ", (unsigned long long) sim->now,
                (unsigned long long) sim->steps);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
    }
}


/* What each node believes. */

static void
sim_tell(const sim_t *sim)
{
    unsigned                          i, j, n;
    char                              text[256];
    kv_raft_info_t                    info;
    const sim_node_t                 *node;
    const struct raft_configuration  *conf;

    for (i = 0; i < SIM_NODES; i++) {
        node = &sim->nodes[i];

        if (node->raft == NULL) {
            continue;
        }

        kv_raft_info(node->raft, &info);
        conf = kv_raft_members(node->raft);
        text[0] = '\0';

        for (j = 0, n = 0; j < conf->n && n < sizeof(text) - 32; j++) {
            n += (unsigned) snprintf(text + n, sizeof(text) - n, " %llu:%d",
                                     conf->servers[j].id,
                                     conf->servers[j].role);
        }

        sim_say(sim, "%llu: %s, term %llu, leader %llu, last %llu (%llu),"
                " stored %llu, commit %llu, applied %llu%s; members%s",
                (unsigned long long) node->id, raft_state_name(info.state),
                (unsigned long long) info.term,
                (unsigned long long) info.leader,
                (unsigned long long) info.last,
                (unsigned long long) kv_raft_term_of(node->raft, info.last),
                (unsigned long long) info.stored,
                (unsigned long long) info.commit,
                (unsigned long long) info.applied,
                info.installing ? ", installing" : "", text);
    }
}


/* ---- chance */

uint64_t
sim_random(sim_t *sim)
{
    sim->random += UINT64_C(0x9e3779b97f4a7c15);

    return sim_mix(sim->random);
}


unsigned
sim_below(sim_t *sim, unsigned n)
{
    return (unsigned) ((sim_random(sim) >> 32) * n >> 32);
}


bool
sim_chance(sim_t *sim, unsigned of_1000)
{
    return of_1000 && sim_below(sim, 1000) < of_1000;
}


/* ---- events: a heap by time, and by their order at the same time */

sim_event_t *
sim_event(sim_t *sim, sim_event_type_t type, uint64_t after)
{
    sim_event_t  *event;

    event = sim->free;

    if (event) {
        sim->free = event->next;

    } else {
        event = kv_raft_alloc(sizeof(*event));
    }

    memset(event, 0, sizeof(*event));
    event->type = type;
    event->at = sim->now + after;
    event->order = ++sim->order;
    sim_push(sim, event);

    return event;
}


void
sim_event_free(sim_t *sim, sim_event_t *event)
{
    kv_raft_message_drop(&event->m);
    event->next = sim->free;
    sim->free = event;
}


static bool
sim_before(const sim_event_t *a, const sim_event_t *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}


static void
sim_push(sim_t *sim, sim_event_t *event)
{
    unsigned  i;

    if (sim->n == sim->size) {
        sim->size = sim->size ? sim->size * 2 : 256;
        sim->heap = realloc(sim->heap, sim->size * sizeof(*sim->heap));
        assert(sim->heap != NULL);
    }

    for (i = sim->n++; i && sim_before(event, sim->heap[(i - 1) / 2]);
         i = (i - 1) / 2)
    {
        sim->heap[i] = sim->heap[(i - 1) / 2];
    }

    sim->heap[i] = event;
}


static sim_event_t *
sim_pop(sim_t *sim)
{
    unsigned      i, child;
    sim_event_t  *first, *last;

    first = sim->heap[0];
    last = sim->heap[--sim->n];

    for (i = 0; (child = 2 * i + 1) < sim->n; i = child) {
        if (child + 1 < sim->n
            && sim_before(sim->heap[child + 1], sim->heap[child]))
        {
            child++;
        }

        if (!sim_before(sim->heap[child], last)) {
            break;
        }

        sim->heap[i] = sim->heap[child];
    }

    sim->heap[i] = last;

    return first;
}
