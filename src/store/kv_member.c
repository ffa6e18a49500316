
/*
 * A node with peers; see kv_member.h.
 *
 * The host's thread runs the engine.  It waits in kv_net_wait(), which gives it
 * the messages of others, and does what is due; the writer (kv_writer.h) wakes
 * it when something is synced.  It holds the commit lock all the time.
 */


#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "store/kv_member_private.h"
#include "base/kv_failpoint.h"
#include "raft/kv_raft_frame.h"
#include "store/kv_batch.h"
#include "store/kv_clock.h"
#include "store/kv_evict.h"
#include "store/kv_node.h"
#include "store/kv_rebuild.h"
#include "store/kv_takeover.h"


/* the longest wait: for the end of the process, and for the dead; ms */
#define KV_MEMBER_LOOK     100u

/* after how long an entry is tried again that could not be applied; ms */
#define KV_MEMBER_PUT_OFF  1u

/* how often a leader that ends looks whether it still is one; ms */
#define KV_MEMBER_HAND_OVER  10u

/* pause before what failed is tried again; ns */
#define KV_MEMBER_PAUSE    100000000

/*
 * For how long what is said of the node counts, in ns.  A leader's counts since
 * a majority was known to be in its term: none of them votes for another one
 * before it has heard nothing for the time of an election.
 */
#define KV_MEMBER_LEADS    ((KV_MEMBER_ELECTION - 10) * UINT64_C(1000000))
#define KV_MEMBER_FOLLOWS  UINT64_C(2000000000)


static bool kv_member_begin(kv_store_t *store, bool died);
static void kv_member_life(kv_store_t *store);
static bool kv_member_connect(kv_member_t *m, kv_err_t *err);
static void kv_member_loop(kv_member_t *m);
static void kv_member_hand_over(kv_member_t *m);
static void kv_member_sleep(kv_member_t *m);
static void *kv_member_listen(void *data);
static void kv_member_join(kv_member_t *m);
static uint64_t kv_member_due(const kv_member_t *m);
static void kv_member_engine(kv_member_t *m);
static void kv_member_failed(kv_member_t *m);
static void kv_member_publish(kv_member_t *m);
static void kv_member_ask(kv_member_t *m);
static const char *kv_member_address(const kv_member_t *m, uint64_t id);
static void kv_member_close(kv_member_t *m);
static void kv_member_trouble(kv_store_t *store, kv_rc_t rc,
    const kv_err_t *err);
static void kv_member_pause(void);
static void kv_member_wake(void *ctx);
static kv_rc_t kv_member_net_hello(void *ctx, unsigned peer, const void *data,
    size_t len);
static kv_rc_t kv_member_net_receive(void *ctx, unsigned peer, unsigned type,
    const void *data, size_t len);
static void kv_member_host_write(void *host, const kv_raft_write_t *w);
static void kv_member_host_send(void *host, const kv_raft_message_t *message);
static bool kv_member_host_apply(void *host, uint64_t index,
    const kv_raft_entry_t *e);
static void kv_member_host_snapshot(void *host, kv_raft_snapshot_t *s);
static void kv_member_host_installed(void *host, const kv_raft_snapshot_t *s);


static const kv_net_ops_t  kv_member_net_ops = {
    kv_member_net_hello,
    kv_member_net_receive,
    NULL
};

static const kv_raft_host_t  kv_member_raft_ops = {
    kv_member_host_write,
    kv_member_host_send,
    kv_member_host_apply,
    kv_member_host_snapshot,
    kv_member_host_installed
};


void
kv_member_run(kv_store_t *store)
{
    kv_rc_t     rc;
    kv_zone_t  *zone;

    zone = store->zone;

    rc = kv_store_lock(store, &zone->commit_lock);

    if (rc == KV_BUSY) {
        return;
    }

    kv_failpoint(KV_FAILPOINT_COMMIT_LOCKED);

    if (!kv_member_begin(store, rc == KV_DEAD)) {
        kv_member_pause();

    } else if (kv_state_whole(zone) && kv_state_writes(zone)) {
        kv_member_life(store);

    } else {
        kv_member_pause();
    }

    kv_node_publish(&zone->node, KV_ROLE_FOLLOWER, zone->wal.replica.term, NULL,
                    0);

    kv_mutex_unlock(&zone->commit_lock);
}


/*
 * Makes the buffers, and a zone whole that a death left half changed.  False:
 * there is no memory for the buffers.
 */

static bool
kv_member_begin(kv_store_t *store, bool died)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (store->batch == NULL) {
        store->batch = calloc(1, sizeof(kv_batch_t));
    }

    if (store->batch == NULL || kv_store_grow_wal(store) != KV_OK) {
        return false;
    }

    if (died) {

        if (!kv_takeover_refuse(store, store->batch)) {
            kv_state_break(store, "the host died while it changed the map");
        }

        kv_clock_end(zone);
    }

    if (kv_heap_broken(zone->heap) && kv_state_reads(zone)) {
        kv_state_break(store, "a worker died while it changed the heap");
    }

    if (atomic_load(&zone->state) == KV_ZONE_BROKEN
        && kv_state_may_retry(zone) && !kv_store_stopping(store))
    {
        kv_rebuild(store);
    }

    /* finishes a move of the log that the dead one began */

    kv_wal_begin(store->wal);

    return true;
}


/* From the first connection until the process stops, or the zone breaks. */

static void
kv_member_life(kv_store_t *store)
{
    kv_rc_t       rc;
    kv_err_t      err;
    kv_member_t  *m;

    m = kv_raft_alloc(sizeof(kv_member_t));
    memset(m, 0, sizeof(kv_member_t));
    m->store = store;
    m->older = kv_older_create(m);

    rc = kv_found_self(m, &err);

    kv_store_log_wal(store);

    if (rc != KV_OK) {
        kv_member_trouble(store, rc, &err);
        kv_member_pause();

    } else if (!kv_member_connect(m, &err)) {
        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": no connections to "
                     "other nodes, which is tried again: %s", store->conf.name,
                     err.text);
        kv_member_pause();

    } else if (pthread_create(&m->listener, NULL, kv_member_listen, m) != 0) {
        kv_member_pause();

    } else {
        kv_member_loop(m);

        atomic_store(&m->deaf, true);
        (void) pthread_join(m->listener, NULL);
    }

    kv_member_close(m);
    free(m);
}


static bool
kv_member_connect(kv_member_t *m, kv_err_t *err)
{
    size_t                  len;
    uint8_t                 hello[KV_NET_HELLO_MAX];
    unsigned                i;
    kv_net_conf_t           conf;
    kv_net_node_t           peers[KV_PEERS_MAX];
    const kv_store_conf_t  *own;

    own = &m->store->conf;

    for (i = 0; i < own->npeers; i++) {
        peers[i].address = own->peers[i].address;
        peers[i].listen = own->peers[i].peer_address;
    }

    memset(&conf, 0, sizeof(conf));
    conf.zone = own->name;
    conf.self.address = own->cluster;
    conf.self.listen = own->peer_listen;
    conf.peers = peers;
    conf.n = own->npeers;
    conf.frame = KV_MEMBER_FRAME;
    conf.queue = KV_MEMBER_QUEUE;
    conf.wake = -1;
    conf.log = own->log;
    conf.log_ctx = own->log_ctx;

    len = kv_found_hello(m, hello);

    return kv_net_open(&conf, hello, len, &kv_member_net_ops, m, &m->net, err)
           == KV_OK;
}


static void
kv_member_loop(kv_member_t *m)
{
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = m->store;
    zone = store->zone;

    while (!store->stop && kv_state_whole(zone) && !m->failed
           && atomic_load(&zone->committer) == store->number + 1)
    {
        if (m->raft == NULL) {
            kv_member_join(m);
        }

        kv_member_sleep(m);

        if (m->raft) {
            kv_member_engine(m);
            kv_older_work(m->older);
        }

        kv_member_batch_work(m);
        kv_evict_over(store);
        kv_member_publish(m);

        if (m->writer) {
            kv_writer_sync(m->writer);
        }
    }

    if (kv_heap_broken(zone->heap) && kv_state_reads(zone)) {
        kv_state_break(store, "a worker died while it changed the heap");
    }

    if (store->stop && !m->failed) {
        kv_member_hand_over(m);
    }
}


/*
 * This process is to end: another node leads at once, and no election is
 * waited for.
 */

static void
kv_member_hand_over(kv_member_t *m)
{
    uint64_t        now, end;
    kv_raft_info_t  info;

    if (!kv_member_leads(m)) {
        return;
    }

    now = kv_member_ms();
    end = now + KV_MEMBER_ELECTION;

    if (kv_raft_transfer(m->raft, now, 0) != KV_OK) {
        return;
    }

    do {
        kv_net_wait(m->net, KV_MEMBER_HAND_OVER);
        kv_member_engine(m);
        kv_raft_info(m->raft, &info);

    } while (info.state == RAFT_LEADER && !m->failed && kv_member_ms() < end);
}


/* Workers wake the thread of kv_member_listen() if they push meanwhile. */

static void
kv_member_sleep(kv_member_t *m)
{
    uint64_t    due;
    kv_zone_t  *zone;

    zone = m->store->zone;
    due = kv_member_due(m);

    if (m->flying) {
        kv_net_wait(m->net, due);
        return;
    }

    atomic_store(&zone->host_sleeps, 1);
    kv_fence();

    kv_net_wait(m->net, atomic_load(&zone->queue) ? 0 : due);

    atomic_store(&zone->host_sleeps, 0);
}


/*
 * A thread that waits for what workers wake, as that is no descriptor: passes
 * it on.
 */

static void *
kv_member_listen(void *data)
{
    uint32_t          value, now;
    kv_zone_t        *zone;
    kv_member_t      *m = data;
    struct timespec   timeout;

    zone = m->store->zone;
    value = atomic_load(&zone->host_futex);

    timeout.tv_sec = 0;
    timeout.tv_nsec = KV_MEMBER_LOOK * 1000000;

    while (!atomic_load(&m->deaf)) {
        (void) syscall(SYS_futex, &zone->host_futex, FUTEX_WAIT, value,
                       &timeout, NULL, 0);

        now = atomic_load(&zone->host_futex);

        if (now != value) {
            value = now;
            kv_net_wake(m->net);
        }
    }

    return NULL;
}


/* Founds the cluster, once that is possible, and starts the engine. */

static void
kv_member_join(kv_member_t *m)
{
    size_t    len;
    kv_rc_t   rc;
    uint8_t   hello[KV_NET_HELLO_MAX];
    kv_err_t  err;

    if (m->cluster == 0) {

        if (!kv_found_ready(m)) {
            return;
        }

        rc = kv_found(m, &err);

        kv_store_log_wal(m->store);

        if (rc != KV_OK) {
            kv_member_trouble(m->store, rc, &err);
            m->failed = true;
            kv_member_pause();
            return;
        }

        len = kv_found_hello(m, hello);
        kv_net_hello(m->net, hello, len);
    }

    rc = kv_member_batch_begin(m, &err);

    if (rc == KV_OK) {
        rc = kv_member_start(m, &kv_member_raft_ops, kv_member_wake, &err);
    }

    if (rc != KV_OK) {
        kv_member_trouble(m->store, rc, &err);
        m->failed = true;
        kv_member_pause();
    }
}


/* In how many milliseconds there is something to do. */

static uint64_t
kv_member_due(const kv_member_t *m)
{
    uint64_t  now, due;

    if (m->raft == NULL) {
        return KV_MEMBER_LOOK;
    }

    if (m->put_off) {
        return KV_MEMBER_PUT_OFF;
    }

    now = kv_member_ms();
    due = kv_raft_next_timeout(m->raft);

    return due > now ? kv_min(due - now, (uint64_t) KV_MEMBER_LOOK) : 0;
}


/* Tells the engine what was written, and the time. */

static void
kv_member_engine(kv_member_t *m)
{
    kv_rc_t   rc;
    uint64_t  now, done;

    rc = KV_OK;
    now = kv_member_ms();
    done = kv_writer_done(m->writer);

    if (done != m->seq) {
        m->seq = done;
        rc = kv_raft_written(m->raft, now, done);
    }

    if (rc == KV_OK && kv_raft_next_timeout(m->raft) <= now) {
        rc = kv_raft_timeout(m->raft, now);
    }

    if (rc == KV_OK && m->put_off) {
        rc = kv_raft_apply(m->raft);
    }

    if (rc == KV_ERROR) {
        kv_member_failed(m);
    }

    if (kv_writer_state(m->writer) == KV_WRITER_FAILED) {
        m->failed = true;
    }
}


/* What would be a fault of ours, of the engine, or of another node. */

static void
kv_member_failed(kv_member_t *m)
{
    kv_err_t  err;

    m->failed = true;

    errno = EPROTO;
    kv_err_set(&err, "the engine of the cluster failed");
    kv_state_no_writes(m->store, &err);
}


static void
kv_member_publish(kv_member_t *m)
{
    kv_role_t        role;
    uint64_t         until;
    const char      *leader;
    kv_raft_info_t   info;

    if (m->raft == NULL) {
        return;
    }

    kv_raft_info(m->raft, &info);

    role = kv_member_leads(m) ? KV_ROLE_LEADER
           : info.state == RAFT_CANDIDATE ? KV_ROLE_CANDIDATE
           : KV_ROLE_FOLLOWER;

    leader = info.leader && (info.leader != m->id || role == KV_ROLE_LEADER)
             ? kv_member_address(m, info.leader) : NULL;
    if (role == KV_ROLE_LEADER) {
        kv_member_ask(m);
        until = m->sure_ns + KV_MEMBER_LEADS;

    } else {
        m->asked_ns = 0;
        m->sure_ns = 0;
        until = kv_now_ns() + KV_MEMBER_FOLLOWS;
    }

    kv_node_publish(&m->store->zone->node, role, info.term, leader, until);
}


/*
 * Finds when a majority was last in the term of this leader.  A process that
 * stood still, and goes on, may not have heard yet that another one leads.
 */

static void
kv_member_ask(kv_member_t *m)
{
    kv_rc_t   rc;
    uint64_t  now;

    if (m->asked_ns) {
        rc = kv_raft_read_ready(m->raft, &m->asked);

        if (rc == KV_AGAIN) {
            return;
        }

        m->sure_ns = rc == KV_OK ? m->asked_ns : 0;
        m->asked_ns = 0;
    }

    now = kv_now_ns();

    if (kv_raft_read_begin(m->raft, &m->asked) == KV_OK) {
        m->asked_ns = now;
    }
}


/* The address of a member; NULL: there is none with that id. */

static const char *
kv_member_address(const kv_member_t *m, uint64_t id)
{
    unsigned  i;

    if (id == m->id) {
        return m->store->conf.cluster;
    }

    for (i = 0; i < m->store->conf.npeers; i++) {
        if (m->peer[i].id == id) {
            return m->store->conf.peers[i].address;
        }
    }

    return NULL;
}


/* The writer goes first: it reads what the engine has given it. */

static void
kv_member_close(kv_member_t *m)
{
    kv_older_destroy(m->older);

    if (m->writer) {
        kv_writer_end(m->writer);
    }

    if (m->raft) {
        kv_raft_close(m->raft);
    }

    kv_member_batch_close(m);

    if (m->net) {
        kv_net_close(m->net);
    }

    kv_raft_entry_drop(m->snapshot.conf);
    kv_raft_entry_drop(m->members);
}


static void
kv_member_trouble(kv_store_t *store, kv_rc_t rc, const kv_err_t *err)
{
    if (rc == KV_AGAIN || rc == KV_NO_SPACE) {
        kv_state_refused(store, rc, 0, err);

    } else {
        kv_state_no_writes(store, err);
    }
}


static void
kv_member_pause(void)
{
    struct timespec  pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_MEMBER_PAUSE;

    (void) nanosleep(&pause, NULL);
}


/* ---- what others call */

static void
kv_member_wake(void *ctx)
{
    kv_member_t  *m = ctx;

    kv_net_wake(m->net);
}


static kv_rc_t
kv_member_net_hello(void *ctx, unsigned peer, const void *data, size_t len)
{
    return kv_found_heard(ctx, peer, data, len);
}


/*
 * A node that has just started votes for nobody as long as a leader that it
 * had heard of before might count on it.
 */

static kv_rc_t
kv_member_net_receive(void *ctx, unsigned peer, unsigned type,
    const void *data, size_t len)
{
    kv_rc_t             rc;
    uint64_t            now;
    kv_member_t        *m = ctx;
    kv_raft_message_t   message;

    if (m->raft == NULL || m->failed) {
        return KV_OK;
    }

    if (type != KV_MEMBER_RAFT
        || kv_raft_frame_read(data, len, &message) != KV_OK)
    {
        return KV_DAMAGED;
    }

    now = kv_member_ms();

    if (message.from != m->peer[peer].id || message.to != m->id) {
        rc = KV_DAMAGED;

    } else if (message.m.type == RAFT_INSTALL_SNAPSHOT
               || (message.m.type == RAFT_REQUEST_VOTE
                   && now - m->started < KV_MEMBER_ELECTION))
    {
        rc = KV_DECLINED;

    } else {

        if (message.m.type == RAFT_APPEND_ENTRIES_RESULT) {
            kv_older_heard(m->older, peer, &message.m.append_entries_result);
        }

        rc = kv_raft_receive(m->raft, now, &message);
    }

    kv_raft_message_drop(&message);

    if (rc == KV_ERROR) {
        kv_member_failed(m);
    }

    return rc == KV_DAMAGED ? KV_DAMAGED : KV_OK;
}


static void
kv_member_host_write(void *host, const kv_raft_write_t *w)
{
    kv_member_t  *m = host;

    kv_writer_add(m->writer, w);
}


/* Entries that do not fit into one frame go in several. */

static void
kv_member_host_send(void *host, const kv_raft_message_t *message)
{
    void         *buf;
    size_t        size;
    unsigned      peer, first, n, all;
    kv_member_t  *m = host;

    for (peer = 0;
         peer < m->store->conf.npeers && m->peer[peer].id != message->to;
         peer++)
    {
        /* void */
    }

    if (peer == m->store->conf.npeers) {
        return;
    }

    if (message->m.type == RAFT_INSTALL_SNAPSHOT) {
        kv_older_wanted(m->older, peer);
        return;
    }

    all = message->m.type == RAFT_APPEND_ENTRIES
          ? message->m.append_entries.n_entries : 0;
    first = 0;

    do {
        size = kv_raft_frame_size(message, first, KV_MEMBER_FRAME, &n);
        buf = size ? kv_net_reserve(m->net, peer, KV_MEMBER_RAFT, size) : NULL;

        if (buf == NULL) {
            return;
        }

        kv_raft_frame_write(message, first, n, buf);
        kv_net_commit(m->net, peer);
        first += n;

    } while (first < all);
}


/* In this order: who reads the same index twice has its term in between. */

static bool
kv_member_host_apply(void *host, uint64_t index, const kv_raft_entry_t *e)
{
    kv_rc_t       rc;
    kv_zone_t    *zone;
    kv_member_t  *m = host;

    zone = m->store->zone;

    if (m->failed) {
        return true;
    }

    rc = e->type == RAFT_COMMAND ? kv_member_batch_apply(m, index, e) : KV_OK;

    m->put_off = rc == KV_AGAIN;

    if (rc != KV_OK) {
        m->failed = rc != KV_AGAIN;
        return m->failed;
    }

    atomic_store(&zone->applied_index, 0);
    atomic_store(&zone->applied_term, e->term);
    atomic_store(&zone->applied_index, index);

    return true;
}


/* None is sent, or installed; but what it would be of can be told. */

static void
kv_member_host_snapshot(void *host, kv_raft_snapshot_t *s)
{
    kv_member_t  *m = host;

    *s = m->snapshot;
}


static void
kv_member_host_installed(void *host, const kv_raft_snapshot_t *s)
{
    (void) host;
    (void) s;
}
