
/*
 * A world of nodes, of which a seed tells all that happens: nodes on src/raft,
 * a network between them, a disk of each, clients, and faults.  One thread, and
 * a clock that is the world's own.
 *
 * Whoever changes it: all that is random comes from sim_random(), and nothing
 * depends on addresses or on the time of day.  So a seed does the same again.
 */


#ifndef SIM_H
#define SIM_H


#include "raft/kv_raft.h"


#define SIM_NODES      7             /* places for nodes */
#define SIM_KEYS       16            /* of the state */
#define SIM_READS      4             /* of a node at a time */
#define SIM_MESSAGE    256           /* bytes of a failure's text */

/* Of the engine, in ms, as the cluster will have them. */
#define SIM_ELECTION   500u
#define SIM_HEARTBEAT  100u
#define SIM_INFLIGHT   256u


typedef struct sim_s  sim_t;


/* Faults of the code, which the invariants must notice. */

typedef enum {
    SIM_SOUND,
    SIM_VOTE_NOT_WRITTEN,            /* the vote is not on disk */
    SIM_VOTE_NOT_AWAITED,            /* it is, but messages do not wait */
    SIM_WRITTEN_EARLY,               /* reported before the sync */
    SIM_TRUNCATION_FORGOTTEN,        /* an entry that replaces another one does
                                        not end the log that was behind it */
    SIM_TORN_TAIL_COUNTS,            /* recovery goes on behind a torn batch */
    SIM_COMMIT_TOO_FAR,              /* recorded commit index: all there is */
    SIM_FUZZY_SERVED,                /* a snapshot's state is taken for whole
                                        before its last entry is applied */
    SIM_STALE_READ                   /* reads do not wait for a majority */
} sim_fault_t;


/* Which of the world's troubles may come; all of them: ~0. */

#define SIM_LOSS       0x01u         /* also twice, late, and out of order */
#define SIM_CUTS       0x02u         /* partitions */
#define SIM_CRASHES    0x04u
#define SIM_SLOW       0x08u         /* disks, and nodes that stand still */
#define SIM_SNAPSHOTS  0x10u
#define SIM_MEMBERS    0x20u
#define SIM_PUT_OFF    0x40u         /* what cannot be applied at once */


typedef struct {
    uint64_t            seed;
    uint64_t            steps;       /* events for nodes, before all heals */
    unsigned            nodes;       /* that vote at first; 0: random */
    unsigned            trouble;
    sim_fault_t         fault;
    bool                pieces;      /* some frames are short */
    bool                log;         /* tell on standard error what happens */
} sim_conf_t;


/* The state that entries change: the value of each key. */

typedef struct {
    uint64_t            value[SIM_KEYS];
    uint64_t            hash;        /* of all of them */
} sim_state_t;


/* A fuzzy one: what was written up to `whole` may be in it or not. */

typedef struct {
    kv_raft_snapshot_t  s;
    sim_state_t         state;
    uint64_t            whole;
} sim_snapshot_t;


typedef enum { SIM_BATCH, SIM_VOTE, SIM_INSTALL, SIM_TAKEN } sim_record_type_t;

typedef struct {
    sim_record_type_t   type;
    bool                torn;
    uint64_t            seq;
    uint64_t            index;       /* of a batch, which is one entry */
    uint64_t            commit;
    kv_raft_entry_t    *entry;
    uint64_t            term;        /* of a vote */
    uint64_t            voted_for;
    uint64_t            handle;      /* of a snapshot */
    unsigned            trailing;
} sim_record_t;


/* What was written, in order; the first `synced` records no crash takes. */

typedef struct {
    sim_record_t       *records;
    unsigned            n;
    unsigned            size;
    unsigned            synced;
    unsigned            syncing;     /* up to which a sync runs, or 0 */
} sim_disk_t;


/* What is found in it. */

typedef struct {
    kv_raft_disk_t      found;
    kv_raft_snapshot_t  snapshot;
    uint64_t            handle;
    unsigned            size;
} sim_found_t;


typedef struct {
    uint64_t            index;       /* 0: none */
    uint64_t            term;
    uint64_t            value;
} sim_write_t;

typedef struct {
    bool                busy;
    kv_raft_read_t      read;
    uint64_t            floor;       /* acknowledged before it began */
} sim_read_t;


typedef struct {
    sim_t              *sim;
    uint64_t            id;
    unsigned            slot;
    unsigned            life;        /* how many there were, disks included */
    bool                used;        /* it is, or was, of the cluster */
    kv_raft_t          *raft;        /* NULL: down */
    uint64_t            up_at;       /* when down */
    uint64_t            paused;      /* until then it stands still */
    uint64_t            timer;       /* of the event that is on its way */
    uint64_t            skew;        /* of its clock */

    sim_disk_t          disk;
    unsigned            slow;        /* ms of a sync, at most */

    sim_state_t         state;
    uint64_t            applied;
    uint64_t            whole;       /* before this it is no state */
    uint64_t            checked;     /* commit index that was checked */
    uint64_t            role_term;   /* term that it was seen to lead */
    uint64_t            said_term;   /* highest term in its messages */

    unsigned            slices;      /* of the snapshot that it takes, or 0 */
    sim_snapshot_t      taking;
    uint64_t            snapshot;    /* handle of the newest on disk */
    uint64_t            snapshot_due;  /* at this index */

    sim_write_t         writes[8];
    sim_read_t          reads[SIM_READS];
} sim_node_t;


typedef enum {
    SIM_EVENT_MESSAGE, SIM_EVENT_SENT, SIM_EVENT_TIMER, SIM_EVENT_SYNC,
    SIM_EVENT_EARLY, SIM_EVENT_SLICE, SIM_EVENT_UP, SIM_EVENT_CLIENT,
    SIM_EVENT_TROUBLE, SIM_EVENT_CALM
} sim_event_type_t;

typedef struct sim_event_s  sim_event_t;

struct sim_event_s {
    uint64_t            at;
    uint64_t            order;
    sim_event_type_t    type;
    unsigned            slot;        /* of the node, and which life of it */
    unsigned            life;
    uint64_t            n;
    kv_raft_message_t   m;
    sim_event_t        *next;        /* free ones */
};


/* What all nodes together have done; see sim_check.c. */

typedef struct {
    uint64_t            term;        /* of the entry, 0: not committed yet */
    uint64_t            by;          /* the leader's that committed it */
    uint64_t            value;
    uint64_t            hash;        /* of the state, 0: not known */
} sim_committed_t;

typedef struct {
    uint64_t            index;
    uint64_t            term;        /* 0: free */
    uint64_t            value;
    uint64_t            before;      /* term of the entry before it */
} sim_made_t;

typedef struct {
    uint64_t            term;
    uint64_t            leader;
    uint64_t            vote[SIM_NODES];
} sim_term_t;


struct sim_s {
    sim_conf_t          conf;
    uint64_t            random;
    uint64_t            now;
    uint64_t            order;
    uint64_t            steps;
    bool                healed;
    bool                failed;
    char                message[SIM_MESSAGE];

    sim_event_t       **heap;
    unsigned            n;
    unsigned            size;
    sim_event_t        *free;

    sim_node_t          nodes[SIM_NODES];

    unsigned            loss;        /* of 1,000 */
    unsigned            twice;
    unsigned            late;
    unsigned            delay;       /* ms, at most */
    bool                cut[SIM_NODES][SIM_NODES];  /* from, to */

    sim_snapshot_t     *snapshots;
    unsigned            n_snapshots;
    unsigned            size_snapshots;

    sim_committed_t    *committed;
    uint64_t            size_committed;
    uint64_t            last_committed;
    uint64_t            acknowledged;  /* highest index that a client knows */
    kv_raft_entry_t    *members;     /* the last change that is committed */
    sim_made_t         *made;
    uint64_t            size_made;
    uint64_t            n_made;
    sim_term_t         *terms;
    uint64_t            size_terms;

    uint64_t            value;       /* the last one that a client wrote */

    struct {
        uint64_t        messages;
        uint64_t        lost;
        uint64_t        crashes;
        uint64_t        torn;
        uint64_t        cuts;
        uint64_t        leaders;
        uint64_t        writes;
        uint64_t        reads;
        uint64_t        taken;
        uint64_t        installed;
        uint64_t        changes;
        uint64_t        replaced;
    } sum;
};


/* ---- sim.c */

/*
 * Lives a world: true if all that is promised held, else sim->message says what
 * did not.  sim_free() frees what it holds.
 */
bool sim_run(sim_t *sim, const sim_conf_t *conf);
void sim_free(sim_t *sim);

/* For tests that do it step by step: a world without troubles of its own. */
void sim_init(sim_t *sim, const sim_conf_t *conf);

/* The next thing happens; false: nothing is to come. */
bool sim_next(sim_t *sim);

/* Notes what is not as it must be: the world ends. */
void sim_fail(sim_t *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Tells what happens, with conf.log. */
void sim_say(const sim_t *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

uint64_t sim_random(sim_t *sim);
unsigned sim_below(sim_t *sim, unsigned n);
bool sim_chance(sim_t *sim, unsigned of_1000);

/* An event after so many ms, to be filled. */
sim_event_t *sim_event(sim_t *sim, sim_event_type_t type, uint64_t after);
void sim_event_free(sim_t *sim, sim_event_t *event);

/* ---- sim_disk.c */

void sim_disk_write(sim_node_t *node, const kv_raft_write_t *w);
void sim_disk_taken(sim_node_t *node, uint64_t handle, unsigned trailing);
void sim_disk_synced(sim_node_t *node);

/* The power goes, or only the process. */
void sim_disk_crash(sim_node_t *node, bool power);

/* What is on it now, torn records not counted; `n` records of it. */
void sim_disk_read(const sim_node_t *node, unsigned n, sim_found_t *found);
void sim_found_free(sim_found_t *found);

/* Leaves only what is of use. */
void sim_disk_compact(sim_node_t *node);
void sim_disk_free(sim_node_t *node);

/* Whether an entry, or a snapshot that has it, is synced. */
bool sim_disk_has(const sim_node_t *node, uint64_t index, uint64_t term);

/* ---- sim_net.c */

void sim_net_send(sim_node_t *node, const kv_raft_message_t *m);
void sim_net_heal(sim_t *sim);
void sim_net_cut(sim_t *sim);

/* ---- sim_node.c */

extern const kv_raft_host_t  sim_node_ops;

void sim_node_up(sim_node_t *node);
void sim_node_down(sim_node_t *node, bool power);

/* A node that never was, with an empty disk and an id of its own. */
void sim_node_new(sim_node_t *node);

/* What it is told of; each is a step, and the invariants are checked. */
void sim_node_receive(sim_node_t *node, const kv_raft_message_t *m);
void sim_node_timeout(sim_node_t *node);
void sim_node_written(sim_node_t *node, uint64_t seq);
void sim_node_slice(sim_node_t *node);
void sim_node_taken(sim_node_t *node, uint64_t handle, unsigned trailing);
void sim_node_client(sim_node_t *node);

/* After a step of any other kind. */
void sim_node_after(sim_node_t *node, kv_rc_t rc);

uint64_t sim_node_now(const sim_node_t *node);
sim_node_t *sim_node(sim_t *sim, uint64_t id);
sim_node_t *sim_leader(sim_t *sim);

/* ---- sim_trouble.c */

void sim_trouble(sim_t *sim);
void sim_calm(sim_t *sim);
void sim_members(sim_t *sim);

/* ---- sim_check.c */

void sim_check_init(sim_t *sim);
void sim_check_free(sim_t *sim);

/* After each step of a node. */
void sim_check(sim_node_t *node);

/* What it sends, syncs and applies. */
void sim_check_message(sim_node_t *node, const kv_raft_message_t *m);
void sim_check_entry(sim_node_t *node, uint64_t index,
    const kv_raft_entry_t *e, uint64_t before);
void sim_check_applied(sim_node_t *node, uint64_t index,
    const kv_raft_entry_t *e);

/* Whether the world has come to rest as it must: true when all is equal. */
bool sim_check_equal(sim_t *sim);

uint64_t sim_value_of(const kv_raft_entry_t *e);
uint64_t sim_mix(uint64_t n);


#endif /* SIM_H */
