
/*
 * The engine of a replicated log; see kv_replica.h.
 *
 * The log is written first, and then the engine is told: what the log refuses
 * never was an entry.  All else that the engine wants written, votes and
 * barriers, comes from kv_raft_start(), while it is being opened: if the log
 * refuses one of these, the engine is closed, and the next batch tries again.
 */


#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "store/kv_replica.h"
#include "store/kv_node.h"
#include "base/kv_failpoint.h"
#include "raft/kv_raft.h"


/* entries that the engine keeps, of those that no node needs any more */
#define KV_REPLICA_TAIL       256u

/* milliseconds, with others; and entries on their way to one */
#define KV_REPLICA_ELECTION   1000u
#define KV_REPLICA_HEARTBEAT  100u
#define KV_REPLICA_SNAPSHOT   10000u
#define KV_REPLICA_INFLIGHT   1024u


/* Who the members are, by the log. */

typedef enum {
    KV_REPLICA_NONE = 0,             /* nobody yet */
    KV_REPLICA_SELF,                 /* this node alone, at its address, */
    KV_REPLICA_MOVED,                /* or at another one */
    KV_REPLICA_OTHERS,               /* there are others */
    KV_REPLICA_UNREADABLE
} kv_replica_members_t;


struct kv_replica_s {
    kv_store_t  *store;
    kv_raft_t   *raft;               /* NULL: closed */
    uint64_t     term;               /* in which it leads */
    uint64_t     index;              /* of the last entry, */
    uint64_t     applied;            /* of the last one that is committed, */
    uint64_t     trimmed;            /* and that the engine does not keep */
    uint64_t     seq;                /* of its last write */
    kv_rc_t      rc;                 /* KV_OK, or of a write that failed, */
    kv_err_t     err;                /* and why */
};


static bool kv_replica_is_open(const kv_store_t *store);
static kv_rc_t kv_replica_open(kv_store_t *store, kv_err_t *err);
static kv_rc_t kv_replica_found(kv_store_t *store, uint64_t *id,
    kv_err_t *err);
static kv_replica_members_t kv_replica_who(kv_store_t *store, uint64_t *id);
static kv_raft_entry_t *kv_replica_members(kv_store_t *store);
static kv_rc_t kv_replica_start(kv_replica_t *r, uint64_t id, kv_err_t *err);
static kv_rc_t kv_replica_lead(kv_replica_t *r, kv_err_t *err);
static void kv_replica_trim(kv_replica_t *r);
static void kv_replica_shut(kv_replica_t *r);
static kv_rc_t kv_replica_failed(kv_store_t *store, kv_err_t *err);
static void kv_replica_host_write(void *host, const kv_raft_write_t *w);
static kv_rc_t kv_replica_entry(kv_replica_t *r, uint64_t index,
    const kv_raft_entry_t *e);
static void kv_replica_host_send(void *host, const kv_raft_message_t *m);
static bool kv_replica_host_apply(void *host, uint64_t index,
    const kv_raft_entry_t *e);
static void kv_replica_host_snapshot(void *host, kv_raft_snapshot_t *s);
static void kv_replica_host_installed(void *host, const kv_raft_snapshot_t *s);


static const kv_raft_host_t  kv_replica_ops = {
    kv_replica_host_write,
    kv_replica_host_send,
    kv_replica_host_apply,
    kv_replica_host_snapshot,
    kv_replica_host_installed
};


static inline uint64_t
kv_replica_ms(void)
{
    return kv_now_ns() / 1000000;
}


kv_rc_t
kv_replica_write(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t          rc;
    uint64_t         index, term;
    kv_replica_t    *r;
    kv_wal_entry_t   entry;

    rc = kv_replica_begin(store, err);

    if (rc != KV_OK) {
        return rc;
    }

    r = store->replica;

    entry.type = KV_ENTRY_RECORDS;
    entry.term = r->term;
    entry.index = r->index + 1;
    entry.commit = r->applied;

    kv_wal_set_entry(store->wal, &entry);

    rc = kv_wal_write(store->wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    r->index++;

    /* the records are in the log: the engine needs none of their bytes */

    if (kv_raft_submit(r->raft, kv_replica_ms(), NULL, 0, &index, &term)
            != KV_OK
        || index != r->index || term != r->term || r->rc != KV_OK)
    {
        return kv_replica_failed(store, err);
    }

    return KV_OK;
}


kv_rc_t
kv_replica_begin(kv_store_t *store, kv_err_t *err)
{
    return kv_replica_is_open(store) ? KV_OK : kv_replica_open(store, err);
}


/*
 * Whether this process has the engine, and none has another one, or has read
 * the log anew and found something else in it.
 */

static bool
kv_replica_is_open(const kv_store_t *store)
{
    const kv_replica_t      *r;
    const kv_wal_replica_t  *found;

    r = store->replica;
    found = &store->zone->wal.replica;

    return r && r->raft && r->term == found->term && r->index == found->index;
}


kv_rc_t
kv_replica_commit(kv_store_t *store, kv_err_t *err)
{
    kv_replica_t  *r;

    r = store->replica;

    if (kv_raft_written(r->raft, kv_replica_ms(), r->seq) != KV_OK
        || r->applied != r->index)
    {
        return kv_replica_failed(store, err);
    }

    if (r->applied - r->trimmed >= KV_REPLICA_TAIL) {
        kv_replica_trim(r);
    }

    return KV_OK;
}


/* What would be a fault of ours, or of the engine. */

static kv_rc_t
kv_replica_failed(kv_store_t *store, kv_err_t *err)
{
    kv_replica_shut(store->replica);

    errno = EPROTO;
    kv_err_set(err, "the engine of the cluster failed");

    return KV_ERROR;
}


/*
 * The engine keeps what others may still need: nobody does.  Its state is the
 * map, which has all that is applied, or is just about to.
 */

static void
kv_replica_trim(kv_replica_t *r)
{
    kv_raft_snapshot_t  s;

    r->trimmed = r->applied;

    if (kv_raft_snapshot_begin(r->raft, &s) == KV_OK) {
        (void) kv_raft_snapshot_taken(r->raft, kv_replica_ms(), &s, 0);
        kv_raft_entry_drop(s.conf);
    }
}


kv_rc_t
kv_replica_check(kv_store_t *store, kv_err_t *err)
{
    uint64_t    id;

    switch (kv_replica_who(store, &id)) {

    case KV_REPLICA_OTHERS:
        kv_err_set(err, "the log in \"%s\" is that of a cluster of more nodes "
                   "than one, which this version of the module does not know",
                   store->conf.path);
        break;

    case KV_REPLICA_UNREADABLE:
        kv_err_set(err, "the log in \"%s\" names members of its cluster in a "
                   "form that this version of the module does not know",
                   store->conf.path);
        break;

    default:
        return KV_OK;
    }

    errno = EINVAL;

    return KV_ERROR;
}


void
kv_replica_close(kv_store_t *store)
{
    if (store->replica) {
        kv_replica_shut(store->replica);
        free(store->replica);
        store->replica = NULL;
    }
}


/* In this order: who reads the same index twice has its term in between. */

void
kv_replica_applied(kv_store_t *store)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (store->conf.npeers) {
        return;
    }

    if (atomic_load(&zone->applied_lsn) + 1
        == atomic_load(&zone->wal.next_lsn))
    {
        atomic_store(&zone->applied_index, 0);
        atomic_store(&zone->applied_term, zone->wal.replica.index_term);
        atomic_store(&zone->applied_index, zone->wal.replica.index);
    }
}


static void
kv_replica_shut(kv_replica_t *r)
{
    if (r->raft) {
        kv_raft_close(r->raft);
        r->raft = NULL;
    }
}


/* Results as those of kv_wal_write(). */

static kv_rc_t
kv_replica_open(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t        rc;
    uint64_t       id;
    kv_replica_t  *r;

    kv_replica_close(store);

    r = calloc(1, sizeof(kv_replica_t));

    if (r == NULL) {
        kv_err_set(err, "out of memory for the engine of the cluster");
        return KV_AGAIN;
    }

    r->store = store;
    store->replica = r;

    kv_node_publish(&store->zone->node, KV_ROLE_FOLLOWER,
                    store->zone->wal.replica.term, NULL, 0);

    rc = kv_replica_who(store, &id) == KV_REPLICA_SELF
         ? KV_OK : kv_replica_found(store, &id, err);

    if (rc == KV_OK) {
        rc = kv_replica_start(r, id, err);
    }

    if (rc == KV_OK) {
        rc = kv_replica_lead(r, err);
    }

    if (rc != KV_OK) {
        kv_replica_shut(r);
        return rc;
    }

    kv_failpoint(KV_FAILPOINT_LEADING);

    return KV_OK;
}


/* Who the members are; *id is this node's, if it is alone, else 0. */

static kv_replica_members_t
kv_replica_who(kv_store_t *store, uint64_t *id)
{
    kv_raft_entry_t            *e;
    kv_replica_members_t        who;
    struct raft_configuration   conf;

    *id = 0;
    e = kv_replica_members(store);

    if (e == NULL) {
        return KV_REPLICA_NONE;
    }

    if (kv_raft_conf_read(e, &conf) != KV_OK) {
        kv_raft_entry_drop(e);
        return KV_REPLICA_UNREADABLE;
    }

    who = KV_REPLICA_OTHERS;

    if (conf.n == 1 && conf.servers[0].role == RAFT_VOTER) {
        *id = conf.servers[0].id;
        who = strcmp(conf.servers[0].address, store->conf.cluster) == 0
              ? KV_REPLICA_SELF : KV_REPLICA_MOVED;
    }

    raft_configuration_close(&conf);
    kv_raft_entry_drop(e);

    return who;
}


/* The members as an entry, a reference to which is the caller's; or NULL. */

static kv_raft_entry_t *
kv_replica_members(kv_store_t *store)
{
    const kv_wal_state_t  *wal;

    wal = &store->zone->wal;

    return wal->replica.members_len
           ? kv_raft_entry_make(wal->replica.index_term, RAFT_CHANGE,
                                kv_wal_members(wal), wal->replica.members_len)
           : NULL;
}


/*
 * Makes this node the only member, with a new id if *id is 0: the first entry
 * of a replicated log, or one that tells its new address.  In a term of its
 * own, as what is said of votes in kv_raft_start() holds here, too.
 */

static kv_rc_t
kv_replica_found(kv_store_t *store, uint64_t *id, kv_err_t *err)
{
    kv_rc_t                  rc;
    kv_wal_entry_t           entry;
    kv_raft_entry_t         *e;
    kv_raft_member_t         member;
    const kv_wal_replica_t  *found;

    found = &store->zone->wal.replica;

    while (*id == 0) {
        if (getrandom(id, sizeof(*id), 0) != (ssize_t) sizeof(*id)) {
            kv_err_set(err, "the kernel gives no random bytes: %s",
                       strerror(errno));
            return KV_AGAIN;
        }
    }

    member.id = *id;
    member.role = RAFT_VOTER;
    member.address = store->conf.cluster;

    entry.type = KV_ENTRY_CHANGE;
    entry.term = kv_max(found->term, found->index_term) + 1;
    entry.index = found->index + 1;
    entry.commit = found->index;

    rc = kv_wal_put_vote(store->wal, entry.term, member.id, err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_failpoint(KV_FAILPOINT_FOUNDING);

    e = kv_raft_conf_members(entry.term, &member, 1);
    rc = kv_wal_put_entry(store->wal, &entry, e->data, e->len, err);
    kv_raft_entry_drop(e);

    if (rc == KV_OK) {
        kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": node %016llx at %s "
                     "is a cluster of its own", store->conf.name,
                     (unsigned long long) member.id, member.address);
    }

    return rc;
}


/* Starts the engine, which writes a vote and a barrier: none is synced yet. */

static kv_rc_t
kv_replica_start(kv_replica_t *r, uint64_t id, kv_err_t *err)
{
    kv_rc_t                  rc;
    kv_raft_conf_t           conf;
    kv_raft_disk_t           disk;
    kv_raft_snapshot_t       s;
    const kv_wal_replica_t  *found;

    found = &r->store->zone->wal.replica;

    memset(&conf, 0, sizeof(conf));
    conf.id = id;
    conf.seed = (unsigned) kv_now_ns();
    conf.election_timeout = KV_REPLICA_ELECTION;
    conf.heartbeat = KV_REPLICA_HEARTBEAT;
    conf.snapshot_timeout = KV_REPLICA_SNAPSHOT;
    conf.inflight = KV_REPLICA_INFLIGHT;

    memset(&s, 0, sizeof(s));
    s.index = found->index;
    s.term = found->index_term;
    s.conf_index = found->members_index;
    s.conf = kv_replica_members(r->store);

    memset(&disk, 0, sizeof(disk));
    disk.term = found->term;
    disk.voted_for = found->voted_for;
    disk.snapshot = &s;
    disk.index = s.index + 1;
    disk.commit = s.index;

    r->index = s.index;
    r->applied = s.index;
    r->trimmed = s.index;

    r->raft = kv_raft_open(&conf, &kv_replica_ops, r);
    rc = kv_raft_start(r->raft, kv_replica_ms(), &disk);

    kv_raft_entry_drop(s.conf);

    if (r->rc != KV_OK) {
        *err = r->err;
        return r->rc;
    }

    return rc == KV_OK ? KV_OK : kv_replica_failed(r->store, err);
}


/* Syncs that, and all before it: now the node leads. */

static kv_rc_t
kv_replica_lead(kv_replica_t *r, kv_err_t *err)
{
    kv_rc_t         rc;
    kv_raft_info_t  info;

    kv_failpoint(KV_FAILPOINT_VOTED);

    rc = kv_wal_sync(r->store->wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_raft_written(r->raft, kv_replica_ms(), r->seq);

    kv_raft_info(r->raft, &info);
    r->term = info.term;

    if (rc != KV_OK || r->rc != KV_OK || info.state != RAFT_LEADER
        || info.commit != r->index || r->applied != r->index)
    {
        return kv_replica_failed(r->store, err);
    }

    kv_node_publish(&r->store->zone->node, KV_ROLE_LEADER, r->term,
                    r->store->conf.cluster, 0);

    return KV_OK;
}


/* ---- what the engine calls */

/* After the first failure nothing more is written: the engine is closed. */

static void
kv_replica_host_write(void *host, const kv_raft_write_t *w)
{
    unsigned       i;
    kv_replica_t  *r = host;

    r->seq = w->seq;

    if (w->type == KV_RAFT_VOTE && r->rc == KV_OK) {
        r->rc = kv_wal_put_vote(r->store->wal, w->term, w->voted_for, &r->err);
    }

    for (i = 0; i < w->n && r->rc == KV_OK; i++) {
        r->rc = kv_replica_entry(r, w->index + i, w->entries[i]);
    }
}


/* An entry; that of a batch is in the log by now. */

static kv_rc_t
kv_replica_entry(kv_replica_t *r, uint64_t index, const kv_raft_entry_t *e)
{
    kv_rc_t          rc;
    kv_wal_entry_t   entry;

    if (e->type == RAFT_COMMAND) {
        assert(index == r->index);
        return KV_OK;
    }

    assert(index == r->index + 1);

    entry.type = e->type == RAFT_BARRIER ? KV_ENTRY_BARRIER : KV_ENTRY_CHANGE;
    entry.term = e->term;
    entry.index = index;
    entry.commit = r->applied;

    rc = kv_wal_put_entry(r->store->wal, &entry, e->data, e->len, &r->err);

    if (rc == KV_OK) {
        r->index = index;
    }

    return rc;
}


/* There is no other node. */

static void
kv_replica_host_send(void *host, const kv_raft_message_t *m)
{
    (void) host;
    (void) m;
}


/* The caller of kv_replica_commit() applies the batch to the map. */

static bool
kv_replica_host_apply(void *host, uint64_t index, const kv_raft_entry_t *e)
{
    kv_replica_t  *r = host;

    (void) e;

    assert(index == r->applied + 1);
    r->applied = index;

    return true;
}


/* Nor is one sent, or installed. */

static void
kv_replica_host_snapshot(void *host, kv_raft_snapshot_t *s)
{
    (void) host;
    memset(s, 0, sizeof(*s));
}


static void
kv_replica_host_installed(void *host, const kv_raft_snapshot_t *s)
{
    (void) host;
    (void) s;
}
