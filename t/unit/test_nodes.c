
/*
 * Nodes of a cluster of several (store/kv_member.h), each with a process that
 * hosts its store, on loopback: how they found it, and who leads.  The test
 * reads what they say of themselves as a worker does.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>


#if KV_HAVE_RAFT

#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/kv_poison.h"
#include "raft/kv_raft_entry.h"
#include "kit.h"


#define NODES  5u
#define SIZE   (8u << 20)


typedef struct {
    kit_t       kit;
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

    kit_open(&nodes[i].kit, SIZE, 4);

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
    }

    return rc;
}


static void
unload(node_t *node)
{
    size_t  size;

    size = SIZE + node->kit.conf.feed;

    if (node->kit.store) {
        kv_store_destroy(node->kit.store);
        node->kit.store = NULL;
    }

    if (node->kit.mem) {
        kv_poison_forget(node->kit.mem, size);
        (void) munmap(node->kit.mem, size);
        node->kit.mem = NULL;
    }
}


/* A process hosts the node's store. */

static void
host(node_t *node)
{
    kv_store_t  *store;

    assert_non_null(node->kit.store);
    assert_int_equal(node->pid, 0);

    node->pid = fork();
    assert_true(node->pid >= 0);

    if (node->pid) {
        return;
    }

    if (kv_store_attach(&store, &node->kit.conf, node->kit.mem,
                        &node->kit.io->io, node->kit.dirfd, &node->kit.err)
        != KV_OK)
    {
        abort();
    }

    kv_store_host(store);
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


/* The node dies, and its zone with it. */

static void
lost(unsigned i)
{
    died(i);
    unload(&nodes[i]);
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

        unload(&nodes[i]);
        kit_close(&nodes[i].kit);
    }

    return 0;
}


static void
wait_some(void)
{
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
    unsigned  i, leader;
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

    assert_int_equal(nodes[i].kit.store->zone->wal.replica.index, 0);
    assert_string_equal(info(i).leader, "");
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
    unload(&nodes[0]);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_teardown(test_founding, teardown),
        cmocka_unit_test_teardown(test_founding_deaths, teardown),
        cmocka_unit_test_teardown(test_leader_dies, teardown),
        cmocka_unit_test_teardown(test_minority, teardown),
        cmocka_unit_test_teardown(test_emptied, teardown),
        cmocka_unit_test_teardown(test_refused, teardown),
    };

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
