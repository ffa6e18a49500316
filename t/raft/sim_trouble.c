
/*
 * What befalls the world: weather, partitions, crashes, slow disks, nodes that
 * stand still, and people who change the members.
 */


#include "sim.h"


static void sim_weather(sim_t *sim);
static void sim_crash(sim_t *sim);
static void sim_slow(sim_t *sim);
static unsigned sim_role(const struct raft_configuration *conf, uint64_t id);
static void sim_change(sim_t *sim, sim_node_t *leader, sim_node_t *node);
static void sim_leave(sim_t *sim);


#define SIM_NO_MEMBER  99u


void
sim_trouble(sim_t *sim)
{
    unsigned      trouble;
    sim_event_t  *event;

    trouble = sim->conf.trouble;

    switch (sim_below(sim, 8)) {

    case 0:
        if (trouble & SIM_LOSS) {
            sim_weather(sim);
        }

        break;

    case 1:
        if (trouble & SIM_CUTS) {
            sim_net_cut(sim);
            event = sim_event(sim, SIM_EVENT_CALM,
                              300 + sim_below(sim, 3000));
            (void) event;
        }

        break;

    case 2:
    case 3:
        if (trouble & SIM_CRASHES) {
            sim_crash(sim);
        }

        break;

    case 4:
        if (trouble & SIM_SLOW) {
            sim_slow(sim);
        }

        break;

    default:
        if (trouble & SIM_MEMBERS) {
            sim_members(sim);
        }
    }
}


static void
sim_weather(sim_t *sim)
{
    sim->loss = sim_chance(sim, 500) ? 0 : sim_below(sim, 250);
    sim->twice = sim_chance(sim, 500) ? 0 : sim_below(sim, 100);
    sim->late = sim_chance(sim, 300) ? 0 : sim_below(sim, 60);
    sim->delay = sim_chance(sim, 700) ? 3 : sim_below(sim, 60);
}


/* One node, or all of them at once. */

static void
sim_crash(sim_t *sim)
{
    bool         power, all;
    unsigned     i, one;
    sim_node_t  *leader;

    power = sim_chance(sim, 500);
    all = sim_chance(sim, 50);
    one = sim_below(sim, SIM_NODES);
    leader = sim_leader(sim);

    if (leader && sim_chance(sim, 300)) {
        one = leader->slot;
    }

    for (i = 0; i < SIM_NODES; i++) {
        if (sim->nodes[i].raft && (all || i == one)) {
            sim_node_down(&sim->nodes[i], power);
        }
    }
}


static void
sim_slow(sim_t *sim)
{
    sim_node_t  *node;

    node = &sim->nodes[sim_below(sim, SIM_NODES)];

    if (sim_chance(sim, 300)) {
        node->paused = sim->now + sim_below(sim, 2500);
        sim_say(sim, "%llu stands still until %llu",
                (unsigned long long) node->id,
                (unsigned long long) node->paused);
        return;
    }

    node->slow = sim_chance(sim, 400) ? 5
                 : sim_chance(sim, 600) ? sim_below(sim, 800)
                 : sim_below(sim, 4000);
}


/* All that troubles ends. */

void
sim_calm(sim_t *sim)
{
    unsigned  i;

    sim_say(sim, "all troubles end");

    sim_net_heal(sim);
    sim->loss = 0;
    sim->twice = 0;
    sim->late = 0;
    sim->delay = 3;

    for (i = 0; i < SIM_NODES; i++) {
        sim->nodes[i].slow = 5;
        sim->nodes[i].paused = 0;

        if (sim->nodes[i].used && sim->nodes[i].raft == NULL) {
            sim_node_up(&sim->nodes[i]);
        }
    }
}


/* ---- members */

static unsigned
sim_role(const struct raft_configuration *conf, uint64_t id)
{
    unsigned  i;

    for (i = 0; i < conf->n; i++) {
        if (conf->servers[i].id == id) {
            return (unsigned) conf->servers[i].role;
        }
    }

    return SIM_NO_MEMBER;
}


/*
 * Somebody asks a node that believes to lead, which may not be the one that
 * does.
 */

void
sim_members(sim_t *sim)
{
    unsigned         i;
    sim_node_t      *leader, *node;
    kv_raft_info_t   info;

    leader = &sim->nodes[sim_below(sim, SIM_NODES)];

    for (i = 0; i < SIM_NODES; i++) {
        leader = &sim->nodes[(leader->slot + 1) % SIM_NODES];

        if (leader->raft && leader->paused <= sim->now) {
            kv_raft_info(leader->raft, &info);

            if (info.state == RAFT_LEADER) {
                break;
            }
        }
    }

    if (i == SIM_NODES) {
        return;
    }

    node = &sim->nodes[sim_below(sim, SIM_NODES)];

    if (sim_chance(sim, 100)) {
        sim_node_after(leader, kv_raft_transfer(leader->raft,
                                                sim_node_now(leader), 0));

    } else if (sim_chance(sim, 100)) {
        sim_leave(sim);

    } else {
        sim_change(sim, leader, node);
    }
}


/* A node goes its way: from nothing to spare to voter, and out again. */

static void
sim_change(sim_t *sim, sim_node_t *leader, sim_node_t *node)
{
    kv_rc_t            rc;
    uint64_t           now;
    unsigned           role;
    kv_raft_member_t   member;
    char               address[24];

    now = sim_node_now(leader);
    role = sim_role(kv_raft_members(leader->raft), node->id);

    snprintf(address, sizeof(address), "n%llu",
             (unsigned long long) node->id);
    member.id = node->id;
    member.address = address;

    switch (role) {

    case SIM_NO_MEMBER:
        if (!node->used) {
            sim_node_new(node);
        }

        member.role = sim_chance(sim, 500) ? RAFT_SPARE : RAFT_STANDBY;
        rc = kv_raft_assign(leader->raft, now, &member);
        break;

    case RAFT_SPARE:
    case RAFT_STANDBY:
        rc = kv_raft_caught_up(leader->raft, node->id);

        if (rc == KV_DECLINED) {
            rc = kv_raft_catch_up(leader->raft, now, node->id);
            break;
        }

        if (rc != KV_OK) {
            return;
        }

        member.role = RAFT_VOTER;
        rc = kv_raft_assign(leader->raft, now, &member);
        break;

    default:
        if (sim_chance(sim, 700)) {
            return;
        }

        if (sim_chance(sim, 500)) {
            rc = kv_raft_remove(leader->raft, now, node->id);
            break;
        }

        member.role = RAFT_STANDBY;
        rc = kv_raft_assign(leader->raft, now, &member);
        break;
    }

    if (rc == KV_OK) {
        sim->sum.changes++;
        sim_say(sim, "%llu changes %llu, which was %u",
                (unsigned long long) leader->id,
                (unsigned long long) node->id, role);
    }

    sim_node_after(leader, rc);
}


/*
 * A node that is certainly no member any more is emptied, and comes back as
 * another one.
 */

static void
sim_leave(sim_t *sim)
{
    unsigned                   i, role;
    sim_node_t                *node;
    struct raft_configuration  conf;

    for (i = 0; i < SIM_NODES; i++) {
        node = &sim->nodes[i];

        if (sim->members == NULL || !node->used) {
            continue;
        }

        if (kv_raft_conf_read(sim->members, &conf) != KV_OK) {
            return;
        }

        role = sim_role(&conf, node->id);
        raft_configuration_close(&conf);

        if (role == SIM_NO_MEMBER && sim_chance(sim, 500)) {
            sim_node_new(node);
            sim_say(sim, "%u is %llu now", i + 1,
                    (unsigned long long) node->id);
            return;
        }
    }
}
