
/*
 * The engine's traps, one by one: each test shows what the engine does as it
 * is, and that it does not happen with src/raft before it.
 */


#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"
#include "raft/kv_raft_private.h"


#define MEMBERS  5


/* ---- an engine as it is */

typedef struct {
    struct raft           r;
    struct raft_update    update;
    unsigned char         token;
} bare_t;


static void
bare_init(bare_t *bare, uint64_t id)
{
    memset(bare, 0, sizeof(*bare));
    assert_int_equal(raft_init(&bare->r, NULL, NULL, id, "x"), 0);
    bare->r.tracer = NULL;
    raft_seed(&bare->r, 1);
}


static int
bare_step(bare_t *bare, struct raft_event *event)
{
    event->time = kv_max(event->time, bare->r.now);

    return raft_step(&bare->r, event, &bare->update);
}


/* What the engine reads of an entry must live as long as the entry does. */

static kv_raft_entry_t *
members(uint64_t term, unsigned n)
{
    unsigned           i;
    kv_raft_member_t   list[MEMBERS];
    static const char *addresses[] = { "a", "b", "c", "d", "e" };

    for (i = 0; i < n; i++) {
        list[i].id = i + 1;
        list[i].role = RAFT_VOTER;
        list[i].address = addresses[i];
    }

    return kv_raft_conf_members(term, list, n);
}


/* It has the members' entry, and `n` - 1 commands of the term behind it. */

static void
bare_start(bare_t *bare, uint64_t term, unsigned voters, unsigned n)
{
    unsigned            i;
    kv_raft_entry_t    *e;
    struct raft_entry   entries[8];
    struct raft_event   event;

    e = members(1, voters);
    memset(entries, 0, sizeof(entries));

    for (i = 0; i < n; i++) {
        entries[i].term = i ? term : 1;
        entries[i].type = i ? RAFT_COMMAND : RAFT_CHANGE;
        entries[i].buf.base = e->data;
        entries[i].buf.len = e->len;
        entries[i].batch = &bare->token;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_START;
    event.start.term = term;
    event.start.start_index = 1;
    event.start.entries = entries;
    event.start.n_entries = n;
    assert_int_equal(bare_step(bare, &event), 0);
    kv_raft_entry_drop(e);
}


static int
bare_timeout(bare_t *bare)
{
    struct raft_event  event;

    memset(&event, 0, sizeof(event));
    event.type = RAFT_TIMEOUT;
    event.time = raft_timeout(&bare->r);

    return bare_step(bare, &event);
}


static int
bare_receive(bare_t *bare, struct raft_message *m, uint64_t from)
{
    struct raft_event  event;

    m->server_id = from;
    m->server_address = "";
    memset(&event, 0, sizeof(event));
    event.type = RAFT_RECEIVE;
    event.receive.message = m;

    return bare_step(bare, &event);
}


static void
bare_vote(bare_t *bare, uint64_t from)
{
    struct raft_message  m;

    memset(&m, 0, sizeof(m));
    m.type = RAFT_REQUEST_VOTE_RESULT;
    m.request_vote_result.version = 2;
    m.request_vote_result.term = raft_current_term(&bare->r);
    m.request_vote_result.vote_granted = true;
    assert_int_equal(bare_receive(bare, &m, from), 0);
}


/* Entries of a type each, the first behind `prev`, from node 2. */

static int
bare_append(bare_t *bare, uint64_t term, uint64_t prev, uint64_t prev_term,
    const unsigned *types, unsigned n)
{
    int                  rc;
    void                *batch;
    unsigned             i;
    kv_raft_entry_t     *e;
    struct raft_entry    entries[8];
    struct raft_message  m;

    e = members(term, 3);
    batch = n ? raft_malloc(1) : NULL;

    for (i = 0; i < n; i++) {
        entries[i].term = term;
        entries[i].type = types[i];
        entries[i].buf.base = e->data;
        entries[i].buf.len = e->len;
        entries[i].batch = batch;
    }

    memset(&m, 0, sizeof(m));
    m.type = RAFT_APPEND_ENTRIES;
    m.append_entries.term = term;
    m.append_entries.prev_log_index = prev;
    m.append_entries.prev_log_term = prev_term;
    m.append_entries.entries = n ? entries : NULL;
    m.append_entries.n_entries = n;
    rc = bare_receive(bare, &m, 2);

    if (bare->update.flags & RAFT_UPDATE_ENTRIES) {
        raft_free(batch);
    }

    kv_raft_entry_drop(e);

    return rc;
}


/* ---- a node of ours */

typedef struct {
    kv_raft_t          *r;
    uint64_t            now;
    uint64_t            seq;         /* of the last write */
    uint64_t            commit;      /* that was recorded with it */
    uint64_t            applied;
    kv_raft_message_t   sent[64];    /* without references */
    unsigned            n;
    kv_raft_snapshot_t  snapshot;
} node_t;


static void
on_write(void *host, const kv_raft_write_t *w)
{
    node_t  *node = host;

    node->seq = w->seq;
    node->commit = w->commit;
}


static void
on_send(void *host, const kv_raft_message_t *m)
{
    node_t  *node = host;

    node->sent[node->n++ % 64] = *m;
}


static bool
on_apply(void *host, uint64_t index, const kv_raft_entry_t *e)
{
    node_t  *node = host;

    (void) e;
    node->applied = index;

    return true;
}


static void
on_snapshot(void *host, kv_raft_snapshot_t *s)
{
    node_t  *node = host;

    *s = node->snapshot;
}


static void
on_installed(void *host, const kv_raft_snapshot_t *s)
{
    (void) host;
    (void) s;
}


static const kv_raft_host_t  ops = {
    on_write, on_send, on_apply, on_snapshot, on_installed
};


static void
node_start(node_t *node, uint64_t id, uint64_t term, unsigned voters,
    unsigned n)
{
    unsigned          i;
    kv_raft_conf_t    conf = { id, 1, 500, 100, 10000, 256 };
    kv_raft_disk_t    disk;
    kv_raft_entry_t  *entries[8];

    memset(node, 0, sizeof(*node));
    memset(&disk, 0, sizeof(disk));

    for (i = 0; i < n; i++) {
        entries[i] = i ? kv_raft_entry_make(term, RAFT_COMMAND, "12345678", 8)
                       : members(1, voters);
    }

    disk.term = term;
    disk.index = 1;
    disk.entries = entries;
    disk.n = n;

    node->now = 1000;
    node->r = kv_raft_open(&conf, &ops, node);
    assert_int_equal(kv_raft_start(node->r, node->now, &disk), KV_OK);

    for (i = 0; i < n; i++) {
        kv_raft_entry_drop(entries[i]);
    }
}


static void
node_written(node_t *node)
{
    assert_int_equal(kv_raft_written(node->r, node->now, node->seq), KV_OK);
}


static kv_rc_t
node_receive(node_t *node, struct raft_message *m, uint64_t from)
{
    kv_raft_message_t  message;

    memset(&message, 0, sizeof(message));
    message.m = *m;
    message.from = from;
    message.to = node->r->conf.id;

    return kv_raft_receive(node->r, node->now, &message);
}


static kv_rc_t
node_append(node_t *node, uint64_t term, uint64_t prev, uint64_t prev_term,
    const unsigned *types, unsigned n)
{
    kv_rc_t             rc;
    unsigned            i;
    kv_raft_entry_t    *e[8];
    kv_raft_message_t   m;

    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_APPEND_ENTRIES;
    m.from = 2;
    m.to = node->r->conf.id;
    m.entries = e;
    m.m.append_entries.term = term;
    m.m.append_entries.prev_log_index = prev;
    m.m.append_entries.prev_log_term = prev_term;
    m.m.append_entries.n_entries = n;

    for (i = 0; i < n; i++) {
        e[i] = types[i] == RAFT_CHANGE
               ? members(term, 3)
               : kv_raft_entry_make(term, types[i], "12345678", 8);
    }

    rc = kv_raft_receive(node->r, node->now, &m);

    for (i = 0; i < n; i++) {
        kv_raft_entry_drop(e[i]);
    }

    return rc;
}


/* It leads three nodes or more, by the votes of 2 and 3. */

static void
node_lead(node_t *node)
{
    uint64_t             term;
    unsigned             i, from;
    struct raft_message  m;

    term = raft_current_term(&node->r->engine) + 1;
    node->now = kv_raft_next_timeout(node->r);
    assert_int_equal(kv_raft_timeout(node->r, node->now), KV_OK);

    for (i = 0; i < 2; i++) {
        for (from = 2; from <= 3; from++) {
            memset(&m, 0, sizeof(m));
            m.type = RAFT_REQUEST_VOTE_RESULT;
            m.request_vote_result.version = 2;
            m.request_vote_result.pre_vote = i == 0;
            m.request_vote_result.term = term;
            m.request_vote_result.vote_granted = true;
            assert_int_equal(node_receive(node, &m, from), KV_OK);
        }

        node_written(node);
    }

    assert_int_equal(node->r->engine.state, RAFT_LEADER);
}


static void
node_confirm(node_t *node, uint64_t from, uint64_t index, uint64_t stamp)
{
    kv_raft_message_t  m;

    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_APPEND_ENTRIES_RESULT;
    m.from = from;
    m.to = node->r->conf.id;
    m.stamp = stamp;
    m.m.append_entries_result.term = raft_current_term(&node->r->engine);
    m.m.append_entries_result.last_log_index = index;
    assert_int_equal(kv_raft_receive(node->r, node->now, &m), KV_OK);
}


/* ---- the traps */

/* 1. A change that is not the first of its message is filed wrongly. */

static void
test_change_first(void **state)
{
    bare_t                 bare;
    node_t                 node;
    static const unsigned  types[] = { RAFT_COMMAND, RAFT_COMMAND,
                                       RAFT_CHANGE };

    (void) state;

    bare_init(&bare, 1);
    bare_start(&bare, 1, 3, 1);
    assert_int_equal(bare_append(&bare, 1, 1, 1, types, 3), 0);
    assert_int_equal(bare.r.configuration_uncommitted_index, 2);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 1, 3, 1);
    assert_int_equal(node_append(&node, 1, 1, 1, types, 3), KV_OK);
    assert_int_equal(node.r->engine.configuration_uncommitted_index, 4);
    assert_int_equal(kv_raft_log_last(&node.r->log), 4);
    kv_raft_close(node.r);
}


/* 2. A change before the leader has committed an entry of its term. */

static void
test_barrier_first(void **state)
{
    bare_t             bare;
    node_t             node;
    kv_raft_entry_t   *e;
    kv_raft_member_t   member = { 4, RAFT_SPARE, "d" };
    struct raft_entry  entry;
    struct raft_event  event;

    (void) state;

    bare_init(&bare, 1);
    bare_start(&bare, 1, 3, 1);
    assert_int_equal(bare_timeout(&bare), 0);
    bare_vote(&bare, 2);
    assert_int_equal(bare.r.state, RAFT_LEADER);

    e = members(2, 4);
    memset(&event, 0, sizeof(event));
    kv_raft_entries(&entry, &e, 1, &bare.token);
    event.type = RAFT_SUBMIT;
    event.submit.entries = &entry;
    event.submit.n = 1;
    assert_int_equal(bare_step(&bare, &event), 0);
    kv_raft_entry_drop(e);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 1, 3, 1);
    node_lead(&node);
    assert_int_equal(kv_raft_assign(node.r, node.now, &member), KV_AGAIN);
    node_confirm(&node, 2, 2, 0);
    assert_int_equal(kv_raft_assign(node.r, node.now, &member), KV_OK);
    kv_raft_close(node.r);
}


/* 3. A snapshot is sent again and again while it is on its way. */

static unsigned
count(const node_t *node, int type)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < kv_min(node->n, 64u); i++) {
        n += (int) node->sent[i].m.type == type && node->sent[i].to == 2;
    }

    return n;
}


static void
test_one_snapshot(void **state)
{
    node_t               node;
    unsigned             i, asked;
    uint64_t             index, term;
    struct raft_message  m;

    (void) state;

    node_start(&node, 1, 1, 3, 1);
    node_lead(&node);
    node_confirm(&node, 3, 2, 0);
    assert_int_equal(kv_raft_submit(node.r, node.now, "12345678", 8, &index,
                                    &term), KV_OK);
    node_written(&node);
    node_confirm(&node, 3, index, 0);
    assert_int_equal(node.applied, index);

    assert_int_equal(kv_raft_snapshot_begin(node.r, &node.snapshot), KV_OK);
    node.snapshot.handle = 7;
    assert_int_equal(kv_raft_snapshot_taken(node.r, node.now, &node.snapshot,
                                            0), KV_OK);
    node.n = 0;
    asked = 0;

    /* Node 2 has nothing, and says so each time. */

    for (i = 0; i < 5; i++) {
        node.now += 100;
        memset(&m, 0, sizeof(m));
        m.type = RAFT_APPEND_ENTRIES_RESULT;
        m.append_entries_result.term = term;
        m.append_entries_result.rejected = i ? index : 1;
        assert_int_equal(node_receive(&node, &m, 2), KV_OK);
        node_confirm(&node, 3, index, 0);
        assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
        asked += node.r->asked_snapshots;
        node.r->asked_snapshots = 0;
    }

    /* The engine would have sent several. */
    assert_true(asked > 1);
    assert_int_equal(count(&node, RAFT_INSTALL_SNAPSHOT), 1);

    kv_raft_snapshot_sent(node.r, 2);
    node.now += 100;
    assert_int_equal(node_receive(&node, &m, 2), KV_OK);
    node.now += 100;
    assert_int_equal(node_receive(&node, &m, 2), KV_OK);
    assert_int_equal(count(&node, RAFT_INSTALL_SNAPSHOT), 2);

    kv_raft_entry_drop(node.snapshot.conf);
    kv_raft_close(node.r);
}


/*
 * 4. Who frees the batch of a message: the engine if it hands nothing on, else
 * we do.  AddressSanitizer and LeakSanitizer see whether each does, here and in
 * all worlds; a library that does it in another way does not even compile.
 */

static void
test_ownership(void **state)
{
    bare_t                 bare;
    node_t                 node;
    static const unsigned  types[] = { RAFT_COMMAND };

    (void) state;

    assert_int_equal(raft_version_number(), RAFT_VERSION_NUMBER);

    bare_init(&bare, 1);
    bare_start(&bare, 2, 3, 1);
    assert_int_equal(bare_append(&bare, 2, 1, 1, types, 1), 0);
    assert_true(bare.update.flags & RAFT_UPDATE_ENTRIES);
    assert_int_equal(bare_append(&bare, 2, 1, 1, types, 1), 0);
    assert_false(bare.update.flags & RAFT_UPDATE_ENTRIES);
    assert_int_equal(bare_append(&bare, 2, 9, 2, types, 1), 0);
    assert_false(bare.update.flags & RAFT_UPDATE_ENTRIES);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 2, 3, 1);
    assert_int_equal(node_append(&node, 2, 1, 1, types, 1), KV_OK);
    assert_int_equal(node_append(&node, 2, 1, 1, types, 1), KV_OK);
    assert_int_equal(node_append(&node, 2, 9, 2, types, 1), KV_OK);
    assert_int_equal(node_append(&node, 1, 1, 1, types, 1), KV_OK);
    node_written(&node);
    kv_raft_close(node.r);
}


/*
 * 5. It ends the process for what no sound peer sends, or goes on with broken
 * memory, as Debian's package does, which has no assertions: here a leader that
 * hears of another one in its term takes it for its own.
 */

static void
test_unsound(void **state)
{
    int                    status;
    pid_t                  pid;
    bare_t                 bare;
    node_t                 node;
    struct rlimit          none = { 0, 0 };
    static const unsigned  types[] = { RAFT_COMMAND };

    (void) state;

    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }

        bare_init(&bare, 1);
        bare_start(&bare, 1, 3, 1);
        (void) bare_timeout(&bare);
        bare_vote(&bare, 2);
        (void) bare_append(&bare, 2, 1, 1, types, 1);

        /* It leads, and believes that another one does. */
        _exit(bare.r.state == RAFT_LEADER
              && bare.r.follower_state.current_leader.id == 2 ? 3 : 0);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(status != 0);

    node_start(&node, 1, 1, 3, 1);
    node_lead(&node);
    assert_int_equal(node_append(&node, 2, 1, 1, types, 1), KV_DAMAGED);
    assert_int_equal(node_append(&node, 3, 0, 1, types, 1), KV_DAMAGED);
    assert_int_equal(node_append(&node, 3, 1, 4, types, 1), KV_DAMAGED);
    assert_int_equal(node.r->engine.state, RAFT_LEADER);
    kv_raft_close(node.r);
}


/* 6. What it does if nobody asks for anything else. */

static void
test_defaults(void **state)
{
    bare_t       bare;
    node_t       node;
    struct raft  r;

    (void) state;

    assert_int_equal(raft_init(&r, NULL, NULL, 1, "x"), 0);
    assert_non_null(r.tracer);
    assert_int_equal(r.max_inflight_entries, 32);
    assert_false(r.pre_vote);
    raft_close(&r, NULL);

    /* Alone in a part of the network, it raises its term for ever. */
    bare_init(&bare, 1);
    bare_start(&bare, 1, 3, 1);
    assert_int_equal(bare_timeout(&bare), 0);
    assert_int_equal(bare_timeout(&bare), 0);
    assert_int_equal(raft_current_term(&bare.r), 3);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 1, 3, 1);
    assert_null(node.r->engine.tracer);
    assert_int_equal(node.r->engine.max_inflight_entries, 256);

    node.now = kv_raft_next_timeout(node.r);
    assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    node.now = kv_raft_next_timeout(node.r);
    assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    assert_int_equal(raft_current_term(&node.r->engine), 1);
    kv_raft_close(node.r);
}


/*
 * 7. It has no read index: who was the leader answers reads as if it were, for
 * as long as the time of an election.
 */

static void
test_read_index(void **state)
{
    node_t          node;
    uint64_t        index, term;
    kv_raft_read_t  read, later;

    (void) state;

    node_start(&node, 1, 1, 5, 1);
    node_lead(&node);
    assert_int_equal(kv_raft_read_begin(node.r, &read), KV_AGAIN);

    node_confirm(&node, 2, 2, 0);
    node_confirm(&node, 3, 2, 0);
    assert_int_equal(kv_raft_read_begin(node.r, &read), KV_OK);

    /* The engine says that it leads; that is no answer. */
    assert_int_equal(node.r->engine.state, RAFT_LEADER);
    assert_int_equal(kv_raft_read_ready(node.r, &read), KV_AGAIN);

    node_confirm(&node, 2, 2, read.stamp);
    assert_int_equal(kv_raft_read_ready(node.r, &read), KV_AGAIN);
    assert_int_equal(kv_raft_read_begin(node.r, &later), KV_OK);
    node_confirm(&node, 3, 2, read.stamp);
    assert_int_equal(kv_raft_read_ready(node.r, &read), KV_OK);
    assert_int_equal(kv_raft_read_ready(node.r, &later), KV_AGAIN);

    /* It is committed, but not yet in this node's state. */
    assert_int_equal(kv_raft_submit(node.r, node.now, "12345678", 8, &index,
                                    &term), KV_OK);
    node_confirm(&node, 2, index, 0);
    node_confirm(&node, 3, index, 0);
    node_confirm(&node, 4, index, 0);
    assert_int_equal(kv_raft_read_begin(node.r, &read), KV_OK);
    assert_int_equal(read.index, index);
    node_confirm(&node, 2, index, read.stamp);
    node_confirm(&node, 3, index, read.stamp);
    assert_int_equal(kv_raft_read_ready(node.r, &read), KV_AGAIN);
    node_written(&node);
    assert_int_equal(kv_raft_read_ready(node.r, &read), KV_OK);

    assert_int_equal(kv_raft_read_begin(node.r, &later), KV_OK);
    node.now += 600;
    assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    node.now += 600;
    assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    assert_int_equal(kv_raft_read_ready(node.r, &later), KV_UNAVAILABLE);
    kv_raft_close(node.r);
}


/* 8. Who is alone leads at once, in the term that is there already. */

static void
test_alone(void **state)
{
    bare_t  bare;
    node_t  node;

    (void) state;

    bare_init(&bare, 1);
    bare_start(&bare, 4, 1, 3);
    assert_int_equal(bare.r.state, RAFT_LEADER);
    assert_int_equal(raft_current_term(&bare.r), 4);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 4, 1, 3);
    assert_int_equal(node.r->engine.state, RAFT_LEADER);
    assert_int_equal(raft_current_term(&node.r->engine), 5);
    kv_raft_close(node.r);
}


/* 9. Who is terms behind never learns of it from pre-votes. */

static void
test_pre_vote(void **state)
{
    bare_t               bare;
    node_t               node;
    struct raft_message  m;

    (void) state;

    memset(&m, 0, sizeof(m));
    m.type = RAFT_REQUEST_VOTE;
    m.request_vote.version = 2;
    m.request_vote.term = 3;
    m.request_vote.candidate_id = 2;
    m.request_vote.last_log_index = 9;
    m.request_vote.last_log_term = 2;
    m.request_vote.pre_vote = true;

    bare_init(&bare, 1);
    bare_start(&bare, 7, 3, 1);
    assert_int_equal(bare_receive(&bare, &m, 2), 0);
    assert_int_equal(bare.update.messages.n, 1);
    assert_false(bare.update.messages.batch[0]
                 .request_vote_result.vote_granted);
    assert_int_equal(bare.update.messages.batch[0].request_vote_result.term,
                     3);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 7, 3, 1);
    assert_int_equal(node_receive(&node, &m, 2), KV_OK);
    assert_int_equal(node.n, 1);
    assert_int_equal(node.sent[0].m.request_vote_result.term, 7);
    kv_raft_close(node.r);
}


/*
 * 10. A message of a leader whose term is over is answered in the present term,
 * with an index that is not set: as if a snapshot had been installed.
 */

static void
test_stale(void **state)
{
    bare_t                bare;
    node_t                node;
    kv_raft_entry_t      *e;
    kv_raft_message_t     m;
    struct raft_message   message;

    (void) state;

    e = members(1, 3);

    memset(&message, 0, sizeof(message));
    message.type = RAFT_INSTALL_SNAPSHOT;
    message.install_snapshot.term = 2;
    message.install_snapshot.last_index = 50;
    message.install_snapshot.last_term = 2;
    message.install_snapshot.conf_index = 1;
    m.m = message;

    bare_init(&bare, 1);
    bare_start(&bare, 7, 3, 1);
    assert_int_equal(kv_raft_conf_read(e, &message.install_snapshot.conf),
                     KV_OK);
    assert_int_equal(bare_receive(&bare, &message, 2), 0);
    assert_int_equal(bare.update.messages.n, 1);

    /* Of the present term, and no refusal. */
    assert_int_equal(bare.update.messages.batch[0]
                     .append_entries_result.term, 7);
    assert_int_equal(bare.update.messages.batch[0]
                     .append_entries_result.rejected, 0);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 7, 3, 1);
    message = m.m;
    memset(&m, 0, sizeof(m));
    m.m = message;
    m.from = 2;
    m.to = 1;
    m.conf = e;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);
    assert_int_equal(node.n, 1);
    assert_int_equal(node.sent[0].m.append_entries_result.term, 7);
    assert_int_equal(node.sent[0].m.append_entries_result.last_log_index, 0);
    kv_raft_close(node.r);
    kv_raft_entry_drop(e);
}


/*
 * 11. A refusal that comes after its peer has confirmed the index stops all
 * that would be sent to that peer: how many entries it is still sent.
 */

static unsigned
late_refusal(bool bare)
{
    node_t              node;
    unsigned            i, n;
    uint64_t            index, term;
    kv_raft_message_t   m;

    node_start(&node, 1, 1, 3, 1);
    node_lead(&node);
    node_confirm(&node, 2, 2, 0);
    node_confirm(&node, 3, 2, 0);
    assert_int_equal(kv_raft_submit(node.r, node.now, "12345678", 8, &index,
                                    &term), KV_OK);
    node_written(&node);

    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_APPEND_ENTRIES_RESULT;
    m.from = 2;
    m.to = 1;
    m.m.append_entries_result.term = term;
    m.m.append_entries_result.rejected = 2;
    m.m.append_entries_result.last_log_index = 1;

    for (i = 0; i < 6; i++) {
        if (i == 4) {
            assert_int_equal(bare ? kv_raft_receive_other(node.r, node.now, &m)
                                  : kv_raft_receive(node.r, node.now, &m),
                             KV_OK);
            node.n = 0;
        }

        node.now += 100;
        node_confirm(&node, 3, index, 0);
        assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    }

    for (i = 0, n = 0; i < kv_min(node.n, 64u); i++) {
        if (node.sent[i].to == 2
            && node.sent[i].m.type == RAFT_APPEND_ENTRIES)
        {
            n += node.sent[i].m.append_entries.n_entries;
        }
    }

    kv_raft_close(node.r);

    return n;
}


static void
test_late_refusal(void **state)
{
    (void) state;

    assert_int_equal(late_refusal(true), 0);
    assert_true(late_refusal(false) > 0);
}


/* 12. Entries that are long in a snapshot are taken for new, and appended. */

static void
test_old_entries(void **state)
{
    node_t                  node;
    unsigned                i, types[4];

    (void) state;

    node_start(&node, 1, 1, 3, 1);

    for (i = 0; i < 4; i++) {
        types[i] = i ? RAFT_COMMAND : RAFT_CHANGE;
    }

    assert_int_equal(node_append(&node, 1, 1, 1, types + 1, 3), KV_OK);
    node_written(&node);
    node.r->engine.commit_index = 4;
    assert_int_equal(node_append(&node, 1, 4, 1, NULL, 0), KV_OK);
    assert_int_equal(node.applied, 4);

    assert_int_equal(kv_raft_snapshot_begin(node.r, &node.snapshot), KV_OK);
    assert_int_equal(kv_raft_snapshot_taken(node.r, node.now, &node.snapshot,
                                            0), KV_OK);
    assert_int_equal(kv_raft_log_last(&node.r->log), 4);

    /* The engine's log would have eight entries, of which four are twice. */
    node.n = 0;
    assert_int_equal(node_append(&node, 1, 0, 0, types, 4), KV_OK);
    assert_int_equal(kv_raft_log_last(&node.r->log), 4);
    assert_int_equal(node.n, 1);
    assert_int_equal(node.sent[0].m.append_entries_result.rejected, 0);
    assert_int_equal(node.sent[0].m.append_entries_result.last_log_index, 4);

    kv_raft_entry_drop(node.snapshot.conf);
    kv_raft_close(node.r);
}


/*
 * 13. It believes what it is told to be on disk: also of entries that were
 * replaced while they waited for it.
 */

static void
test_replaced(void **state)
{
    node_t                 node;
    uint64_t               seq;
    static const unsigned  types[] = { RAFT_COMMAND, RAFT_COMMAND };

    (void) state;

    node_start(&node, 1, 1, 3, 1);
    assert_int_equal(node_append(&node, 1, 1, 1, types, 2), KV_OK);
    seq = node.seq;
    assert_int_equal(node_append(&node, 2, 2, 1, types, 1), KV_OK);

    /* Entry 3 is another one by now. */
    assert_int_equal(kv_raft_written(node.r, node.now, seq), KV_OK);
    assert_int_equal(node.r->engine.last_stored, 2);
    node_written(&node);
    assert_int_equal(node.r->engine.last_stored, 3);
    kv_raft_close(node.r);
}


/* 14. Nor does an echo count that is of a leader of another term. */

static void
test_echo(void **state)
{
    node_t               node;
    kv_raft_message_t    m;
    struct raft_message  vote;

    (void) state;

    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_APPEND_ENTRIES;
    m.m.append_entries.term = 1;
    m.m.append_entries.prev_log_index = 1;
    m.m.append_entries.prev_log_term = 1;
    m.from = 2;
    m.to = 1;
    m.stamp = 9;

    node_start(&node, 1, 1, 3, 1);
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);
    assert_int_equal(node.n, 1);
    assert_int_equal(node.sent[0].stamp, 9);

    memset(&vote, 0, sizeof(vote));
    vote.type = RAFT_REQUEST_VOTE;
    vote.request_vote.term = 5;
    vote.request_vote.candidate_id = 3;
    vote.request_vote.disrupt_leader = true;
    assert_int_equal(node_receive(&node, &vote, 3), KV_OK);

    /* Nothing is said in the new term before it is on disk. */
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);
    assert_int_equal(node.n, 1);
    node_written(&node);
    assert_int_equal(node.n, 3);
    assert_int_equal(node.sent[2].m.append_entries_result.term, 5);
    assert_int_equal(node.sent[2].stamp, 0);
    kv_raft_close(node.r);
}


/*
 * 15. It reads on where the bytes of a change end: what is cut off is taken for
 * whole if the memory behind it happens to hold the rest.
 */

static void
test_cut_off(void **state)
{
    node_t                     node;
    size_t                     len, whole;
    kv_raft_entry_t           *e;
    kv_raft_message_t          m;
    struct raft_buffer         buf;
    struct raft_configuration  conf;

    (void) state;

    e = members(1, 3);
    whole = 1 + 8 + 3 * (8 + 2 + 1);
    buf.base = e->data;
    buf.len = whole - 12;
    assert_int_equal(raft_configuration_decode(&buf, &conf), 0);
    assert_int_equal(conf.n, 3);
    raft_configuration_close(&conf);

    node_start(&node, 1, 1, 3, 1);
    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_APPEND_ENTRIES;
    m.m.append_entries.term = 1;
    m.m.append_entries.prev_log_index = 1;
    m.m.append_entries.prev_log_term = 1;
    m.m.append_entries.n_entries = 1;
    m.entries = &e;
    m.from = 2;
    m.to = 1;

    for (len = 0; len < whole; len++) {
        e->len = len;
        assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_DAMAGED);
    }

    e->len = whole;
    e->data[1] = 0;                           /* no members */
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_DAMAGED);
    e->data[1] = KV_RAFT_MEMBERS + 1;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_DAMAGED);
    e->data[1] = 3;
    e->data[9] = 0;                           /* the first one's id */
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_DAMAGED);
    e->data[9] = 1;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);

    kv_raft_close(node.r);
    kv_raft_entry_drop(e);
}


/*
 * 16. Members in its log that it cannot read it frees twice when it starts.
 */

static void
test_start_damaged(void **state)
{
    node_t            node;
    unsigned          i;
    kv_raft_conf_t    conf = { 1, 1, 500, 100, 10000, 256 };
    kv_raft_disk_t    disk;
    kv_raft_entry_t  *entries[2];

    (void) state;

    entries[0] = members(1, 3);
    entries[1] = members(1, 3);
    memset(entries[1]->data + 20, 0, 8);      /* the second one is the first */
    entries[1]->data[20] = 1;

    memset(&node, 0, sizeof(node));
    memset(&disk, 0, sizeof(disk));
    disk.term = 1;
    disk.index = 1;
    disk.entries = entries;
    disk.n = 2;

    node.r = kv_raft_open(&conf, &ops, &node);
    assert_int_equal(kv_raft_start(node.r, 1000, &disk), KV_DAMAGED);
    kv_raft_close(node.r);

    for (i = 0; i < 2; i++) {
        kv_raft_entry_drop(entries[i]);
    }
}


/* 17. It has no two members of one address, and we no more than there fit. */

static void
test_members(void **state)
{
    char              address[8];
    node_t            node;
    unsigned          i;
    kv_raft_info_t    info;
    kv_raft_member_t  member;

    (void) state;

    node_start(&node, 1, 1, 1, 1);
    node_written(&node);
    node_written(&node);

    /* As one whose directory was lost would come again. */
    member.id = 99;
    member.role = RAFT_SPARE;
    member.address = "a";
    assert_int_equal(kv_raft_assign(node.r, node.now, &member), KV_DECLINED);
    member.id = 0;
    member.address = "z";
    assert_int_equal(kv_raft_assign(node.r, node.now, &member), KV_DECLINED);

    for (i = 2; i <= KV_RAFT_MEMBERS + 1; i++) {
        (void) snprintf(address, sizeof(address), "m%u", i);
        member.id = i;
        member.address = address;
        assert_int_equal(kv_raft_assign(node.r, node.now, &member),
                         i <= KV_RAFT_MEMBERS ? KV_OK : KV_DECLINED);
        node_written(&node);
    }

    kv_raft_info(node.r, &info);
    assert_int_equal(info.applied, info.last);
    assert_int_equal(kv_raft_members(node.r)->n, KV_RAFT_MEMBERS);
    kv_raft_close(node.r);
}


/* 18. A node that has failed keeps nothing of what it is sent. */

static void
test_failed(void **state)
{
    node_t                 node;
    kv_raft_entry_t       *e;
    kv_raft_message_t      m;
    static const unsigned  types[] = { RAFT_COMMAND };

    (void) state;

    node_start(&node, 1, 2, 3, 3);
    node.r->engine.commit_index = 3;
    assert_int_equal(node_append(&node, 3, 2, 1, types, 1), KV_ERROR);
    assert_int_equal(node_append(&node, 3, 3, 2, types, 1), KV_ERROR);

    e = members(3, 3);
    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_INSTALL_SNAPSHOT;
    m.m.install_snapshot.term = 3;
    m.m.install_snapshot.last_index = 50;
    m.m.install_snapshot.last_term = 3;
    m.m.install_snapshot.conf_index = 1;
    m.from = 2;
    m.to = 1;
    m.conf = e;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_ERROR);
    kv_raft_entry_drop(e);
    kv_raft_close(node.r);
}


/*
 * 19. A spare member that it no longer sends anything keeps its timer due: the
 * host would never sleep again.
 */

static void
test_spare(void **state)
{
    node_t            node;
    unsigned          i;
    kv_raft_member_t  member = { 4, RAFT_SPARE, "d" };

    (void) state;

    node_start(&node, 1, 1, 3, 1);
    node_lead(&node);
    node_written(&node);
    node_confirm(&node, 2, 2, 0);
    assert_int_equal(kv_raft_assign(node.r, node.now, &member), KV_OK);
    node_written(&node);
    node_confirm(&node, 2, 3, 0);
    assert_int_equal(kv_raft_catch_up(node.r, node.now, 4), KV_OK);
    node_confirm(&node, 4, 3, 0);
    assert_int_equal(kv_raft_caught_up(node.r, 4), KV_OK);

    for (i = 0; i < 20; i++) {
        node.now = kv_max(node.now, kv_raft_next_timeout(node.r));
        node_confirm(&node, 2, 3, 0);
        assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
        assert_true(kv_raft_next_timeout(node.r) > node.now);
        assert_true(kv_raft_next_timeout(node.r) <= node.now + 100);
    }

    assert_int_equal(node.r->engine.state, RAFT_LEADER);
    assert_true(raft_timeout(&node.r->engine) < node.now);
    kv_raft_close(node.r);
}


/*
 * 20. A candidate whose pre-vote was won once never asks for one again: cut
 * off, it raises its term for ever; and one that was told to disrupt a leader
 * goes on to.
 */

static void
test_candidate(void **state)
{
    bare_t               bare;
    node_t               node;
    unsigned             i;
    struct raft_message  m;

    (void) state;

    memset(&m, 0, sizeof(m));
    m.type = RAFT_REQUEST_VOTE_RESULT;
    m.request_vote_result.version = 2;
    m.request_vote_result.pre_vote = true;
    m.request_vote_result.term = 2;
    m.request_vote_result.vote_granted = true;

    bare_init(&bare, 1);
    raft_set_pre_vote(&bare.r, true);
    bare_start(&bare, 1, 3, 1);
    assert_int_equal(bare_timeout(&bare), 0);
    assert_int_equal(bare_receive(&bare, &m, 2), 0);

    for (i = 0; i < 3; i++) {
        assert_int_equal(bare_timeout(&bare), 0);
    }

    assert_int_equal(raft_current_term(&bare.r), 5);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 1, 3, 1);
    node.now = kv_raft_next_timeout(node.r);
    assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    assert_int_equal(node_receive(&node, &m, 2), KV_OK);
    assert_int_equal(raft_current_term(&node.r->engine), 2);
    node_written(&node);
    node.r->engine.candidate_state.disrupt_leader = true;

    for (i = 0; i < 3; i++) {
        node.now = kv_raft_next_timeout(node.r);
        assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    }

    assert_int_equal(raft_current_term(&node.r->engine), 2);
    i = (node.n - 1) % 64;
    assert_int_equal(node.sent[i].m.request_vote.term, 3);
    assert_true(node.sent[i].m.request_vote.pre_vote);
    assert_false(node.sent[i].m.request_vote.disrupt_leader);

    /* And it can be elected. */
    m.request_vote_result.term = 3;
    assert_int_equal(node_receive(&node, &m, 3), KV_OK);
    assert_int_equal(raft_current_term(&node.r->engine), 3);
    m.request_vote_result.pre_vote = false;
    assert_int_equal(node_receive(&node, &m, 3), KV_OK);
    assert_int_equal(node.r->engine.state, RAFT_LEADER);
    kv_raft_close(node.r);
}


/*
 * 21. Its commit index goes back when a message tells of a higher one, but has
 * only entries from before.
 */

static void
test_commit_goes_back(void **state)
{
    node_t                 node;
    kv_raft_info_t         info;
    kv_raft_message_t      m;
    static const unsigned  types[] = { RAFT_COMMAND, RAFT_COMMAND,
                                       RAFT_COMMAND };

    (void) state;

    node_start(&node, 1, 1, 3, 1);
    assert_int_equal(node_append(&node, 1, 1, 1, types, 3), KV_OK);
    node_written(&node);

    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_APPEND_ENTRIES;
    m.m.append_entries.term = 1;
    m.m.append_entries.prev_log_index = 4;
    m.m.append_entries.prev_log_term = 1;
    m.m.append_entries.leader_commit = 4;
    m.from = 2;
    m.to = 1;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);
    assert_int_equal(node.applied, 4);

    m.m.append_entries.prev_log_index = 2;
    m.m.append_entries.leader_commit = 6;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);
    assert_int_equal(raft_commit_index(&node.r->engine), 2);
    kv_raft_info(node.r, &info);
    assert_int_equal(info.commit, 4);

    /* Nor is a lower one recorded. */
    assert_int_equal(node_append(&node, 1, 4, 1, types, 1), KV_OK);
    assert_int_equal(node.commit, 4);
    kv_raft_close(node.r);
}


/*
 * 22. It looks for its pre-vote also when it is no candidate, in memory that
 * holds an address then; and takes the term of an answer that comes late, which
 * nobody has, for a new one: the leader goes.
 */

static void *
aligned(void *data, size_t size)
{
    (void) data;

    return aligned_alloc(65536, (size + 65535) & ~(size_t) 65535);
}


static void
test_late_pre_vote(void **state)
{
    bare_t               bare;
    node_t               node;
    struct raft_heap     heap;
    struct raft_message  m;

    (void) state;

    memset(&m, 0, sizeof(m));
    m.type = RAFT_REQUEST_VOTE_RESULT;
    m.request_vote_result.version = 2;
    m.request_vote_result.pre_vote = true;
    m.request_vote_result.term = 2;
    m.request_vote_result.vote_granted = true;

    bare_init(&bare, 1);
    bare_start(&bare, 1, 3, 1);
    heap = *raft_heap_get();
    heap.malloc = aligned;
    raft_heap_set(&heap);
    assert_int_equal(bare_append(&bare, 1, 1, 1, NULL, 0), 0);
    assert_int_equal(bare_receive(&bare, &m, 3), 0);
    raft_heap_set_default();
    assert_int_equal(raft_current_term(&bare.r), 2);
    raft_close(&bare.r, NULL);

    node_start(&node, 1, 1, 3, 1);
    raft_heap_set(&heap);
    assert_int_equal(node_append(&node, 1, 1, 1, NULL, 0), KV_OK);
    assert_int_equal(node_receive(&node, &m, 3), KV_DECLINED);
    raft_heap_set_default();
    assert_int_equal(raft_current_term(&node.r->engine), 1);
    kv_raft_close(node.r);
}


/* 23. It keeps its leader when it votes for another one in a later term. */

static void
test_leader(void **state)
{
    node_t               node;
    kv_raft_info_t       info;
    struct raft_message  m;

    (void) state;

    node_start(&node, 1, 1, 3, 1);
    assert_int_equal(node_append(&node, 1, 1, 1, NULL, 0), KV_OK);
    kv_raft_info(node.r, &info);
    assert_int_equal(info.leader, 2);

    memset(&m, 0, sizeof(m));
    m.type = RAFT_REQUEST_VOTE;
    m.request_vote.term = 5;
    m.request_vote.candidate_id = 3;
    m.request_vote.disrupt_leader = true;
    assert_int_equal(node_receive(&node, &m, 3), KV_OK);
    assert_int_equal(node.r->engine.follower_state.current_leader.id, 2);
    kv_raft_info(node.r, &info);
    assert_int_equal(info.term, 5);
    assert_int_equal(info.leader, 0);
    kv_raft_close(node.r);
}


/*
 * 24. Who is alone by the log that it has, but is sent a snapshot by a leader,
 * lets that one lead.
 */

static void
test_alone_installing(void **state)
{
    node_t             node;
    uint64_t           term;
    unsigned           i;
    kv_raft_entry_t   *e;
    kv_raft_message_t  m;

    (void) state;

    node_start(&node, 1, 1, 1, 1);
    node_written(&node);
    node_written(&node);
    term = raft_current_term(&node.r->engine) + 5;

    e = members(term, 3);
    memset(&m, 0, sizeof(m));
    m.m.type = RAFT_INSTALL_SNAPSHOT;
    m.m.install_snapshot.term = term;
    m.m.install_snapshot.last_index = 50;
    m.m.install_snapshot.last_term = term;
    m.m.install_snapshot.conf_index = 1;
    m.from = 2;
    m.to = 1;
    m.conf = e;
    assert_int_equal(kv_raft_receive(node.r, node.now, &m), KV_OK);
    assert_true(node.r->engine.snapshot.installing);

    for (i = 0; i < 3; i++) {
        node.now = kv_raft_next_timeout(node.r);
        assert_int_equal(kv_raft_timeout(node.r, node.now), KV_OK);
    }

    assert_int_equal(raft_current_term(&node.r->engine), term);
    node_written(&node);
    assert_int_equal(kv_raft_members(node.r)->n, 3);
    kv_raft_entry_drop(e);
    kv_raft_close(node.r);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_change_first),
        cmocka_unit_test(test_barrier_first),
        cmocka_unit_test(test_one_snapshot),
        cmocka_unit_test(test_ownership),
        cmocka_unit_test(test_unsound),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_read_index),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_pre_vote),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_late_refusal),
        cmocka_unit_test(test_old_entries),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_start_damaged),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_spare),
        cmocka_unit_test(test_candidate),
        cmocka_unit_test(test_commit_goes_back),
        cmocka_unit_test(test_late_pre_vote),
        cmocka_unit_test(test_leader),
        cmocka_unit_test(test_alone_installing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
