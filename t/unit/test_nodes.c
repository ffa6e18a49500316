
/*
 * Nodes of a cluster of several (store/kv_member.h), each with a process that
 * hosts its store, on loopback: how they found it, who leads, and what becomes
 * of writes.  The test reads what they say of themselves as a worker does.
 */

/* long */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>


#if KV_HAVE_RAFT

#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/kv_poison.h"
#include "raft/kv_raft_entry.h"
#include "kit.h"


#define NODES    5u
#define SIZE     (8u << 20)
#define WORKERS  4u


typedef struct {
    kit_t       kit;
    host_t      worker;              /* the test, in this store */
    char        address[32];
    char        listen[32];
    pid_t       pid;                 /* 0: it does not run */
    bool        stopped;
    char        said[1024];          /* the last error of this process */
} node_t;


static node_t    nodes[NODES];
static unsigned  n;                  /* of this test */


static void
said(void *ctx, kv_log_level_t level, const char *text)
{
    node_t  *node = ctx;

    if (getenv("KIT_LOG")) {
        (void) fprintf(stderr, "%s [%d] %s\n", node->address, level, text);
    }

    if (level <= KV_LOG_ERR) {
        (void) snprintf(node->said, sizeof(node->said), "%s", text);
    }
}


/* A port where nothing listens, as "127.0.0.1:PORT". */

static void
port(char address[32])
{
    int                 fd;
    socklen_t           len;
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    len = sizeof(sin);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &sin, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *) &sin, &len), 0);
    (void) close(fd);

    (void) snprintf(address, 32, "127.0.0.1:%u", ntohs(sin.sin_port));
}


/* An empty directory for a node, which knows all addresses. */

static void
empty(unsigned i)
{
    unsigned          k;
    kv_store_conf_t  *conf;

    kit_open(&nodes[i].kit, SIZE, WORKERS);

    conf = &nodes[i].kit.conf;
    conf->hosted = true;
    conf->cluster = nodes[i].address;
    conf->peer_listen = nodes[i].listen;
    conf->log = said;
    conf->log_ctx = &nodes[i];

    for (k = 0; k < n; k++) {
        if (k != i) {
            conf->peers[conf->npeers].address = nodes[k].address;
            conf->peers[conf->npeers++].peer_address = nodes[k].listen;
        }
    }
}


static void
make(unsigned count)
{
    unsigned  i;

    n = count;
    memset(nodes, 0, sizeof(nodes));

    for (i = 0; i < n; i++) {
        port(nodes[i].address);
        port(nodes[i].listen);
    }

    for (i = 0; i < n; i++) {
        empty(i);
    }
}


/* The zone is made anew from what the directory has. */

static kv_rc_t
load(node_t *node)
{
    kv_rc_t   rc;
    size_t    size;
    kit_t    *kit;

    kit = &node->kit;
    size = SIZE + kit->conf.feed;

    kit->mem = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS,
                    -1, 0);
    assert_ptr_not_equal(kit->mem, MAP_FAILED);

    rc = kv_store_create(&kit->store, &kit->conf, kit->mem, size, kit->workers,
                         &kit->io->io, kit->dirfd, &kit->err);

    if (rc != KV_OK) {
        kit->store = NULL;
        return rc;
    }

    memset(&node->worker, 0, sizeof(node->worker));
    node->worker.store = kit->store;
    assert_int_equal(kv_store_enter(kit->store), KV_OK);
    kv_store_wakes(kit->store, kit_wakes, WORKERS, kit->store->number);

    return KV_OK;
}


/* `clean`: as the master does it that is told to stop. */

static void
unload(node_t *node, bool clean)
{
    size_t  size;

    size = SIZE + node->kit.conf.feed;

    if (node->kit.store) {
        kv_store_leave(node->kit.store);

        if (clean) {
            kv_store_close(node->kit.store);
        }

        kv_store_destroy(node->kit.store);
        node->kit.store = NULL;
    }

    if (node->kit.mem) {
        kv_poison_forget(node->kit.mem, size);
        (void) munmap(node->kit.mem, size);
        node->kit.mem = NULL;
    }
}


static kv_store_t  *hosted;          /* of the process that hosts it */


static void
quit(int signo)
{
    (void) signo;

    kv_store_host_end(hosted);
}


/* A process hosts the node's store. */

static void
host(node_t *node)
{

    assert_non_null(node->kit.store);
    assert_int_equal(node->pid, 0);

    node->pid = fork();
    assert_true(node->pid >= 0);

    if (node->pid) {
        return;
    }

    if (kv_store_attach(&hosted, &node->kit.conf, node->kit.mem,
                        &node->kit.io->io, node->kit.dirfd, &node->kit.err)
        != KV_OK)
    {
        abort();
    }

    (void) signal(SIGTERM, quit);
    kv_store_wakes(hosted, kit_wakes, WORKERS, WORKERS);
    kv_store_host(hosted);
    _exit(0);
}


static void
start(unsigned i)
{
    if (load(&nodes[i]) != KV_OK) {
        fail_msg("%s: %s", nodes[i].address, nodes[i].kit.err.text);
    }

    host(&nodes[i]);
}


/* The host dies: the zone is there for the next one. */

static void
died(unsigned i)
{
    assert_int_equal(kill(nodes[i].pid, SIGKILL), 0);
    assert_int_equal(waitpid(nodes[i].pid, NULL, 0), nodes[i].pid);
    nodes[i].pid = 0;
    nodes[i].stopped = false;
}


/* It ends as it should. */

static void
ended(unsigned i)
{
    int  status;

    assert_int_equal(kill(nodes[i].pid, SIGTERM), 0);
    assert_int_equal(waitpid(nodes[i].pid, &status, 0), nodes[i].pid);
    assert_int_equal(status, 0);
    nodes[i].pid = 0;
}


/* The node dies, and its zone with it. */

static void
lost(unsigned i)
{
    died(i);
    unload(&nodes[i], false);
}


static int
teardown(void **state)
{
    unsigned  i;

    (void) state;

    for (i = 0; i < n; i++) {
        if (nodes[i].pid) {
            died(i);
        }

        unload(&nodes[i], false);
        kit_close(&nodes[i].kit);
    }

    return 0;
}


static void
wait_some(void)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        if (nodes[i].kit.store) {
            host_process_events(&nodes[i].worker, 0);
        }
    }

    (void) usleep(5000);
}


static kv_cluster_info_t
info(unsigned i)
{
    kv_cluster_info_t  is;

    assert_int_equal(kv_store_cluster_info(nodes[i].kit.store, &is), KV_OK);

    return is;
}


/*
 * Whether all nodes that run name one that leads, in one term, which is above
 * `above`; *leader is that.
 */

static bool
agree(uint64_t above, unsigned *leader)
{
    unsigned           i, leaders;
    uint64_t           term;
    kv_cluster_info_t  is;

    leaders = 0;
    term = 0;

    for (i = 0; i < n; i++) {
        if (nodes[i].pid == 0 || nodes[i].stopped) {
            continue;
        }

        is = info(i);

        if (is.term <= above || (term && is.term != term)) {
            return false;
        }

        term = is.term;

        if (is.role == KV_ROLE_LEADER) {
            leaders++;
            *leader = i;
        }
    }

    for (i = 0; leaders == 1 && i < n; i++) {
        if (nodes[i].pid && !nodes[i].stopped
            && strcmp(info(i).leader, nodes[*leader].address) != 0)
        {
            return false;
        }
    }

    return leaders == 1;
}


/* Waits for that, for 30 seconds; who leads. */

static unsigned
elected(uint64_t above)
{
    uint64_t  end;
    unsigned  leader;

    end = kit_now_ms() + 30000;

    while (!agree(above, &leader)) {
        assert_true(kit_now_ms() < end);
        wait_some();
    }

    return leader;
}


static uint64_t
term(unsigned i)
{
    return nodes[i].kit.store->zone->wal.replica.term;
}


/* Waits until the node has `index` applied, or more. */

static void
applied(unsigned i, uint64_t index)
{
    uint64_t  end;

    end = kit_now_ms() + 30000;

    while (atomic_load(&nodes[i].kit.store->zone->applied_index) < index) {
        assert_true(kit_now_ms() < end);
        wait_some();
    }
}


/* The members, which are the same on all nodes that found a cluster. */

static kv_raft_entry_t *
members(unsigned i)
{
    kv_wal_state_t  *wal;

    wal = &nodes[i].kit.store->zone->wal;
    assert_true(wal->replica.members_len > 0);

    return kv_raft_entry_make(1, RAFT_CHANGE, kv_wal_members(wal),
                              wal->replica.members_len);
}


static void
same_members(void)
{
    unsigned          i;
    kv_raft_entry_t  *first, *e;

    first = members(0);

    for (i = 1; i < n; i++) {
        e = members(i);
        assert_int_equal(e->len, first->len);
        assert_memory_equal(e->data, first->data, e->len);
        kv_raft_entry_drop(e);
    }

    kv_raft_entry_drop(first);
}


/* All find each other, and one leads. */

static void
test_founding(void **state)
{
    unsigned  i, leader;

    (void) state;

    make(3);

    /* two of three found nothing: each must have heard all others */

    start(0);
    start(1);

    for (i = 0; i < 60; i++) {
        assert_int_equal(info(0).role, KV_ROLE_FOLLOWER);
        assert_int_equal(nodes[0].kit.store->zone->wal.replica.index, 0);
        wait_some();
    }

    start(2);
    leader = elected(0);
    same_members();

    assert_true(info(leader).term > 1);

    for (i = 0; i < n; i++) {
        applied(i, 2);
    }
}


/* It dies at any time while it founds: it is a member, once it is back. */

static void
test_founding_deaths(void **state)
{
    unsigned  round, i;

    (void) state;

    make(3);

    for (round = 0; round < 20; round++) {

        for (i = 0; i < n; i++) {
            if (nodes[i].pid == 0) {
                start(i);
            }
        }

        (void) usleep((unsigned) rand() % 20000);
        lost(round % n);
    }

    start(round % n == 0 ? n - 1 : (round - 1) % n);
    (void) elected(0);
    same_members();
}


/* A leader's death, again and again, with its zone or only its host. */

static void
test_leader_dies(void **state)
{
    unsigned  i, leader, round;
    uint64_t  before;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);

    for (round = 0; round < 4; round++) {
        before = info(leader).term;

        if (round % 2) {
            lost(leader);
            i = elected(before);
            assert_int_not_equal(i, leader);
            start(leader);

        } else {
            died(leader);
            host(&nodes[leader]);
        }

        leader = elected(before);
    }

    /* one that ends hands over: the next election is won by who was told */

    before = info(leader).term;
    i = leader;
    ended(i);
    leader = elected(before);
    assert_int_not_equal(leader, i);
    host(&nodes[i]);

    /* a follower comes back, and hears of all that was done meanwhile */

    i = (leader + 1) % n;
    before = info(leader).term;
    lost(i);
    died(leader);
    host(&nodes[leader]);
    leader = elected(before);
    start(i);
    leader = elected(before);
    applied(i, atomic_load(&nodes[leader].kit.store->zone->applied_index));
}


/*
 * Two of five lead nobody, and say so; nor does a leader that they were, which
 * is told by its own workers also while it stands still.
 */

static void
test_minority(void **state)
{
    unsigned  i, leader, other;
    uint64_t  before, end;

    (void) state;

    make(5);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    before = info(leader).term;

    /* it stands still: the others elect another one */

    assert_int_equal(kill(nodes[leader].pid, SIGSTOP), 0);
    nodes[leader].stopped = true;
    other = elected(before);
    assert_int_not_equal(info(leader).role, KV_ROLE_LEADER);
    assert_string_equal(info(leader).leader, "");

    assert_int_equal(kill(nodes[leader].pid, SIGCONT), 0);
    nodes[leader].stopped = false;
    assert_int_equal(elected(before), other);

    /* three die: who is left does not lead, nor raise its term */

    for (i = 0; i < n; i++) {
        if (i != leader && i != other) {
            died(i);
        }
    }

    end = kit_now_ms() + 30000;

    while (info(other).role == KV_ROLE_LEADER || *info(other).leader
           || *info(leader).leader)
    {
        assert_true(kit_now_ms() < end);
        wait_some();
    }

    before = term(other);

    for (i = 0; i < 200; i++) {
        assert_int_not_equal(info(other).role, KV_ROLE_LEADER);
        assert_int_not_equal(info(leader).role, KV_ROLE_LEADER);
        wait_some();
    }

    assert_int_equal(term(other), before);

    for (i = 0; i < n; i++) {
        if (nodes[i].pid == 0) {
            host(&nodes[i]);
        }
    }

    (void) elected(before);
}


/* A directory that is emptied makes no second cluster, and is no member. */

static void
test_emptied(void **state)
{
    unsigned  i, k, leader;
    uint64_t  before;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    before = info(leader).term;

    i = (leader + 1) % n;
    lost(i);
    kit_close(&nodes[i].kit);
    empty(i);
    start(i);

    /* what is left of the cluster goes on, and elects without it */

    died(leader);
    host(&nodes[leader]);

    while (nodes[i].kit.store->zone->wal.replica.term == 0) {
        wait_some();
    }

    nodes[i].stopped = true;
    leader = elected(before);
    assert_int_not_equal(leader, i);
    nodes[i].stopped = false;

    /* nor later, when it has heard from all */

    for (k = 0; k < 200; k++) {
        assert_int_equal(nodes[i].kit.store->zone->wal.replica.index, 0);
        assert_string_equal(info(i).leader, "");
        wait_some();
    }
}


/* What cannot go on as one of several is refused at its start. */

static void
test_refused(void **state)
{
    kit_t  *kit;

    (void) state;

    make(3);
    kit = &nodes[0].kit;

    /* of a cluster of one */

    kit->conf.npeers = 0;
    assert_int_equal(load(&nodes[0]), KV_OK);
    host(&nodes[0]);

    while (kv_get_relaxed(kit->store->zone->wal.replica.index) < 2) {
        wait_some();
    }

    lost(0);

    kit->conf.npeers = 2;
    assert_int_equal(load(&nodes[0]), KV_ERROR);
    assert_non_null(strstr(kit->err.text, "of a cluster of one node"));
    unload(&nodes[0], false);

    /* of a disk that was set back */

    assert_int_equal(mknodat(nodes[1].kit.dirfd, KV_RESTORED_NAME,
                             S_IFREG | 0600, 0), 0);
    assert_int_equal(load(&nodes[1]), KV_ERROR);
    assert_non_null(strstr(nodes[1].kit.err.text, "was set back"));
    unload(&nodes[1], false);
    assert_int_equal(unlinkat(nodes[1].kit.dirfd, KV_RESTORED_NAME, 0), 0);
    assert_int_equal(load(&nodes[1]), KV_OK);
}


/* ---- records */

/* What became of a write: done, or it may be so. */

static kv_rc_t
run(unsigned i, kv_op_t *op)
{
    kv_rc_t   rc;
    uint64_t  end;

    end = kit_now_ms() + 30000;

    (void) kv_store_submit(nodes[i].kit.store, op);

    while (!kv_store_done(op, &rc)) {
        assert_true(kit_now_ms() < end);
        host_process_events(&nodes[i].worker, 5);
    }

    kv_store_release(nodes[i].kit.store, op);

    return rc;
}


static void
paused(unsigned i)
{
    assert_int_equal(kill(nodes[i].pid, SIGSTOP), 0);
    nodes[i].stopped = true;
}


static kv_rc_t
put(unsigned i, uint32_t id, uint32_t version, uint32_t len)
{
    kv_op_t  *op;

    assert_int_equal(kit_begin_put(&nodes[i].worker, id, version, len, &op),
                     KV_OK);

    return run(i, op);
}


/* The version of a key on a node; 0: it has none. */

static uint32_t
get(unsigned i, uint32_t id)
{
    kv_rc_t   rc;
    uint32_t  version;

    rc = kit_get(&nodes[i].worker, id, &version, NULL);

    if (rc != KV_OK && rc != KV_NOT_FOUND) {
        fail_msg("key %u of node %u: %d", id, i, (int) rc);
    }

    return rc == KV_OK ? version : 0;
}


/* Waits until all nodes that run have applied what the leader has answered. */

static void
same(unsigned leader)
{
    unsigned  i;
    uint64_t  lsn, end;

    lsn = atomic_load(&nodes[leader].kit.store->zone->applied_lsn);
    end = kit_now_ms() + 30000;

    for (i = 0; i < n; i++) {
        while (nodes[i].pid
               && atomic_load(&nodes[i].kit.store->zone->applied_lsn) < lsn)
        {
            assert_true(kit_now_ms() < end);
            wait_some();
        }
    }
}


/* All that clients can do is done on all nodes. */

static void
test_records(void **state)
{
    char        key[32];
    size_t      len;
    kv_op_t    *op;
    uint32_t    id;
    uint64_t    end;
    unsigned    i, leader;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);

    /* of all sizes; the last one is in pieces */

    for (id = 1; id <= 40; id++) {
        assert_int_equal(put(leader, id, 1, id < 40 ? id * 100 : 300000),
                         KV_OK);
        assert_int_equal(get(leader, id), 1);
    }

    same(leader);

    for (i = 0; i < n; i++) {
        for (id = 1; id <= 40; id++) {
            assert_int_equal(get(i, id), 1);
        }

        assert_int_equal(atomic_load(&nodes[i].kit.store->zone->map.keys), 40);
    }

    /* replaced, deleted, touched, expired */

    assert_int_equal(put(leader, 2, 2, 50), KV_OK);

    len = kit_key(3, key);
    assert_int_equal(kv_store_delete(nodes[leader].kit.store, key,
                                     (uint16_t) len, &op), KV_OK);
    assert_int_equal(run(leader, op), KV_OK);

    for (id = 4; id <= 5; id++) {
        len = kit_key(id, key);
        assert_int_equal(kv_store_touch(nodes[leader].kit.store, key,
                                        (uint16_t) len, id == 4 ? 3600 : 1,
                                        &op), KV_OK);
        assert_int_equal(run(leader, op), KV_OK);
    }

    end = kit_now_ms() + 30000;

    for (i = 0; i < n; i++) {
        while (atomic_load(&nodes[i].kit.store->zone->map.keys) != 38) {
            assert_true(kit_now_ms() < end);
            wait_some();
        }

        assert_int_equal(get(i, 2), 2);
        assert_int_equal(get(i, 3), 0);
        assert_int_equal(get(i, 4), 1);
        assert_int_equal(get(i, 5), 0);
    }

    assert_int_equal(kv_store_clear(nodes[leader].kit.store, &op), KV_OK);
    assert_int_equal(run(leader, op), KV_OK);
    assert_int_equal(put(leader, 7, 7, 70), KV_OK);
    same(leader);

    for (i = 0; i < n; i++) {
        assert_int_equal(get(i, 6), 0);
        assert_int_equal(get(i, 7), 7);
        assert_int_equal(atomic_load(&nodes[i].kit.store->zone->map.keys), 1);
    }

    /* on a follower nothing is done */

    assert_int_equal(put((leader + 1) % n, 8, 1, 10), KV_UNAVAILABLE);
}


/*
 * A follower's reader stands still in what was cleared: the next clear but one
 * waits for it, and the node is a member meanwhile.
 */

static void
test_clear_waits(void **state)
{
    char         key[32];
    size_t       len;
    kv_op_t     *op;
    unsigned     i, leader, other;
    uint64_t     lsn, index, end;
    kv_entry_t  *e;
    kv_store_t  *store;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    other = (leader + 1) % n;
    store = nodes[other].kit.store;

    assert_int_equal(put(leader, 1, 1, 100), KV_OK);
    same(leader);

    len = kit_key(1, key);
    assert_int_equal(kv_store_read(store, key, len, &e), KV_OK);
    lsn = atomic_load(&store->zone->applied_lsn);

    for (i = 0; i < 10; i++) {
        assert_int_equal(kv_store_clear(nodes[leader].kit.store, &op), KV_OK);
        assert_int_equal(run(leader, op), KV_OK);
        assert_int_equal(put(leader, 2, i + 1, 100), KV_OK);
    }

    /* it has them in its log, and applies what it can */

    index = nodes[leader].kit.store->zone->wal.replica.index;
    end = kit_now_ms() + 30000;

    while (kv_get_relaxed(store->zone->wal.replica.index) < index) {
        assert_true(kit_now_ms() < end);
        wait_some();
    }

    for (i = 0; i < 200; i++) {
        assert_true(kv_state_writes(store->zone));
        wait_some();
    }

    assert_true(atomic_load(&store->zone->applied_lsn) > lsn);
    assert_true(atomic_load(&store->zone->applied_lsn) < lsn + 20);
    assert_string_equal(info(other).leader, nodes[elected(0)].address);

    kv_store_read_done(store);
    same(elected(0));
    assert_int_equal(get(other, 2), 10);
}


/* A leader writes to its own log alone, and dies; the others know nothing. */

static void
alone(unsigned old)
{
    kv_op_t   *op;
    uint64_t   end;
    unsigned   i;

    for (i = 1; i < n; i++) {
        paused((old + i) % n);
    }

    assert_int_equal(kit_begin_put(&nodes[old].worker, 1, 1000, 100, &op),
                     KV_OK);
    (void) kv_store_submit(nodes[old].kit.store, op);

    end = kit_now_ms() + 30000;

    while (atomic_load(&nodes[old].kit.store->zone->wal.durable_lsn)
           == atomic_load(&nodes[old].kit.store->zone->applied_lsn))
    {
        assert_true(kit_now_ms() < end);
        wait_some();
    }

    for (i = 0; i < n; i++) {
        lost((old + i) % n);
    }

    for (i = 1; i < n; i++) {
        start((old + i) % n);
    }
}


/*
 * A node lacks more than the leader has in memory, which sends it what its log
 * has: one that was away; the same after the leader was restarted, which does
 * not read all of its log; and one whose last entry is no other's.
 */

static void
test_lags(void **state)
{
    uint32_t  id, version;
    unsigned  i, leader, other, round;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    version = 0;

    for (round = 0; round < 3; round++) {
        same(leader);

        if (round < 2) {
            other = (leader + 1) % n;
            lost(other);

        } else {
            other = leader;
            alone(other);
            leader = elected(0);
        }

        for (i = 0; i < 45; i++) {
            assert_int_equal(put(leader, i % 9, ++version, 300000), KV_OK);
        }

        for (i = 0; i < 100; i++) {
            assert_int_equal(put(leader, 9 + i % 9, ++version, 100), KV_OK);
        }

        if (round == 1) {
            same(leader);

            for (i = 0; i < n; i++) {
                if (i != other) {
                    lost(i);
                    start(i);
                }
            }
        }

        start(other);
        leader = elected(0);
        assert_int_not_equal(leader, other);
        assert_int_equal(put(leader, 20, ++version, 100), KV_OK);
        same(leader);

        for (id = 0; id < 18; id++) {
            assert_int_equal(get(other, id), get(leader, id));
        }

        assert_int_equal(get(other, 20), version);
    }
}


/*
 * A leader writes to its own log alone, and dies.  The others go on without
 * that, and their entries take its place: with its zone lost, and kept, where
 * its client is told that the write may be done or not.
 */

static void
test_overridden(void **state)
{
    kv_rc_t    rc;
    kv_op_t   *op;
    uint32_t   version;
    uint64_t   before, end;
    unsigned   i, leader, old;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    version = 0;

    for (i = 0; i < 2; i++) {
        assert_int_equal(put(leader, 1, ++version, 100), KV_OK);
        same(leader);

        old = leader;
        before = info(old).term;
        paused((old + 1) % n);
        paused((old + 2) % n);

        assert_int_equal(kit_begin_put(&nodes[old].worker, 1, 1000 + i, 100,
                                       &op), KV_OK);
        (void) kv_store_submit(nodes[old].kit.store, op);

        end = kit_now_ms() + 30000;

        while (atomic_load(&nodes[old].kit.store->zone->wal.durable_lsn)
               == atomic_load(&nodes[old].kit.store->zone->applied_lsn))
        {
            assert_true(kit_now_ms() < end);
            wait_some();
        }

        /* if this took long, it has found out that it leads nobody */

        assert_true(!kv_store_done(op, &rc) || rc == KV_UNAVAILABLE);

        if (i == 0) {
            lost(old);

        } else {
            died(old);
        }

        /* what was sent to them is gone, too: they never read it */

        lost((old + 1) % n);
        lost((old + 2) % n);
        start((old + 1) % n);
        start((old + 2) % n);
        leader = elected(before);

        assert_int_equal(put(leader, 1, ++version, 100), KV_OK);
        assert_int_equal(put(leader, 2, ++version, 100), KV_OK);

        if (i == 0) {
            start(old);

        } else {
            host(&nodes[old]);

            while (!kv_store_done(op, &rc)) {
                assert_true(kit_now_ms() < end);
                wait_some();
            }

            assert_int_equal(rc, KV_UNAVAILABLE);
            kv_store_release(nodes[old].kit.store, op);
        }

        leader = elected(before);
        same(leader);

        for (old = 0; old < n; old++) {
            assert_int_equal(get(old, 1), version - 1);
            assert_int_equal(get(old, 2), version);
        }
    }
}


/*
 * Nodes die in turns, leaders and others, with their zones or only their hosts.
 * What was done once is there, on all nodes, whoever leads.
 */

static void
test_records_deaths(void **state)
{
    bool      all;
    kv_rc_t   rc;
    uint32_t  id, version, done[20], tried[20];
    uint64_t  before;
    unsigned  i, leader, round, who;

    (void) state;

    make(3);
    memset(done, 0, sizeof(done));
    memset(tried, 0, sizeof(tried));

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    version = 0;

    for (round = 0; round < 12; round++) {
        before = info(leader).term;

        for (i = 0; i < 60; i++) {
            id = (uint32_t) rand() % 20;
            version++;
            rc = put(leader, id, version, 100 + version % 3000);
            tried[id] = version;

            if (rc == KV_OK) {
                done[id] = version;
            }
        }

        all = round % 4 < 2;
        who = round % 2 ? (leader + 1) % n : leader;

        if (all) {
            lost(who);

        } else {
            died(who);
        }

        if (who == leader) {
            leader = elected(before);
        }

        for (id = 0; id < 20; id++) {
            assert_true(get(leader, id) >= done[id]
                        && get(leader, id) <= tried[id]);
        }

        assert_int_equal(put(leader, 0, ++version, 100), KV_OK);
        done[0] = version;
        tried[0] = version;

        if (all) {
            start(who);

        } else {
            host(&nodes[who]);
        }

        leader = elected(0);
    }

    assert_int_equal(put(leader, 0, ++version, 100), KV_OK);
    same(leader);

    for (id = 0; id < 20; id++) {
        for (i = 0; i < n; i++) {
            assert_int_equal(get(i, id), get(leader, id));
        }
    }
}


/* ---- versions */

static kv_version_t
version_of(unsigned i, uint32_t id)
{
    char          key[32];
    size_t        len;
    kv_entry_t   *e;
    kv_store_t   *store;
    kv_version_t  version;

    store = nodes[i].kit.store;
    len = kit_key(id, key);

    assert_int_equal(kv_store_read(store, key, len, &e), KV_OK);
    version = kv_store_version(store, e);
    kv_store_read_done(store);

    return version;
}


/* With If-Match: KV_PRECONDITION, if that is not the version. */

static kv_rc_t
put_if(unsigned i, uint32_t id, uint32_t version, kv_version_t match)
{
    kv_op_t  *op;

    if (match.incarnation != version_of(i, id).incarnation) {
        return KV_PRECONDITION;
    }

    assert_int_equal(kit_begin_put(&nodes[i].worker, id, version, 100, &op),
                     KV_OK);
    kv_store_if(op, KV_OP_IF_VERSION, &match);

    return run(i, op);
}


/* The same of who leads; what is done though it is told otherwise counts. */

static void
replace(uint32_t id, uint32_t version, kv_version_t match)
{
    kv_rc_t   rc;
    uint64_t  end;
    unsigned  leader;

    end = kit_now_ms() + 30000;

    do {
        assert_true(kit_now_ms() < end);
        leader = elected(0);
        rc = put_if(leader, id, version, match);

    } while (rc == KV_UNAVAILABLE);

    if (rc != KV_OK && get(leader, id) != version) {
        fail_msg("version %llx-%llx of one leader is unknown to another: %d",
                 (unsigned long long) match.lsn,
                 (unsigned long long) match.incarnation, (int) rc);
    }
}


/* All nodes stop, and start again. */

static void
restart(bool clean)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        if (clean) {
            ended(i);

        } else {
            died(i);
        }

        unload(&nodes[i], clean);
    }

    for (i = 0; i < n; i++) {
        start(i);
    }
}


/*
 * The versions that clients have from one leader are known to the next one,
 * and after all nodes were restarted: they are good for conditions, and to go
 * on with watching.
 */

static void
test_versions(void **state)
{
    unsigned          i, old, round;
    uint64_t          pos;
    kv_version_t      known, is;
    kv_feed_record_t  rec;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    assert_int_equal(put(elected(0), 1, 1, 100), KV_OK);

    for (round = 1; round < 6; round++) {
        old = elected(0);
        same(old);
        known = version_of(old, 1);

        switch (round) {

        case 1:
            died(old);
            break;

        case 2:
            lost(old);
            break;

        default:
            restart(round == 4);
            break;
        }

        i = elected(0);
        is = version_of(i, 1);
        assert_int_equal(is.lsn, known.lsn);
        assert_int_equal(is.incarnation, known.incarnation);
        assert_int_equal(kv_store_feed_find(nodes[i].kit.store, &known, &pos,
                                            &rec), KV_OK);

        replace(1, round + 1, known);

        if (round == 1) {
            host(&nodes[old]);

        } else if (round == 2) {
            start(old);
        }
    }
}


/* Of nodes that stop, the logs say what is committed, with no entry behind. */

static void
test_clean_stop(void **state)
{
    unsigned  i, leader;

    (void) state;

    make(3);

    for (i = 0; i < n; i++) {
        start(i);
    }

    leader = elected(0);
    assert_int_equal(put(leader, 1, 1, 100), KV_OK);
    same(leader);

    for (i = 0; i < n; i++) {
        ended(i);
        unload(&nodes[i], true);
    }

    for (i = 0; i < n; i++) {
        assert_int_equal(load(&nodes[i]), KV_OK);
        assert_int_equal(get(i, 1), 1);
    }
}


int
main(void)
{
    unsigned  i;

    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_teardown(test_founding, teardown),
        cmocka_unit_test_teardown(test_founding_deaths, teardown),
        cmocka_unit_test_teardown(test_leader_dies, teardown),
        cmocka_unit_test_teardown(test_minority, teardown),
        cmocka_unit_test_teardown(test_emptied, teardown),
        cmocka_unit_test_teardown(test_refused, teardown),
        cmocka_unit_test_teardown(test_records, teardown),
        cmocka_unit_test_teardown(test_clear_waits, teardown),
        cmocka_unit_test_teardown(test_lags, teardown),
        cmocka_unit_test_teardown(test_overridden, teardown),
        cmocka_unit_test_teardown(test_records_deaths, teardown),
        cmocka_unit_test_teardown(test_versions, teardown),
        cmocka_unit_test_teardown(test_clean_stop, teardown),
    };

    for (i = 0; i < WORKERS; i++) {
        kit_wakes[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    }

    return cmocka_run_group_tests(tests, NULL, NULL);
}


#else


static void
test_no_engine(void **state)
{
    (void) state;

    skip();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_no_engine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
