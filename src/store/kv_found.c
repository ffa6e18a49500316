
/*
 * How the nodes of a new cluster found it, and who is a member.
 *
 * A node is a number, its id, which it makes for its directory: before that has
 * any entry, it votes for itself in term 1, which is durable before another
 * node hears it.  All nodes know the same addresses, and hear each other's ids.
 * Who has heard all of them writes the first entry: the members, by their
 * addresses, as a change with index 1 and term 1.  It is the same on all nodes,
 * and its hash is the cluster's number.  That is also the incarnation that all
 * of them have from then on, so that each knows the versions of the others.
 *
 * A node that died before it founded learns the members from one that has.  If
 * they have its id, it begins with them.  If not, its directory is not the one
 * that the others have heard of: it stays out.  A directory that was emptied
 * never founds a second cluster, as one of its peers is founded.
 *
 * Two nodes may have heard different ids of a third one, whose directory was
 * emptied meanwhile.  Then they are of two clusters, whose nodes do not speak
 * with each other; in only one of these there can be a majority.
 */


#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "store/kv_found.h"
#include "store/kv_member_private.h"
#include "base/kv_hash.h"


#define KV_FOUND_VERSION  2u


/* What a node says of itself, before the members of its cluster. */

typedef struct {
    uint32_t    version;
    uint32_t    len;                 /* of the members; 0: it is not founded */
    uint64_t    id;
    uint64_t    cluster;
} kv_found_hello_t;

_Static_assert(sizeof(kv_found_hello_t) + KV_MEMBERS_MAX <= KV_NET_HELLO_MAX,
               "a hello has room for the members");


/*
 * A cluster's number has these bits, and is an incarnation: above that of who
 * is of none, 1, and below all that a time begins.
 */
#define KV_FOUND_NUMBER   ((UINT64_C(1) << 61) - 1)
#define KV_FOUND_NONE     UINT64_C(1)


static kv_rc_t kv_found_new(kv_store_t *store, kv_err_t *err);
static kv_rc_t kv_found_compare(kv_store_t *store,
    const struct raft_configuration *conf, kv_err_t *err);
static uint64_t kv_found_number(const kv_raft_entry_t *members);
static kv_rc_t kv_found_take(kv_member_t *m, const kv_raft_entry_t *members);
static uint64_t kv_found_id(const struct raft_configuration *conf,
    const char *address);
static bool kv_found_adopts(kv_member_t *m, const kv_found_hello_t *hello,
    const void *members);
static kv_raft_entry_t *kv_found_members(const kv_member_t *m);
static int kv_found_by_address(const void *one, const void *two);
static kv_rc_t kv_found_refuse(kv_member_t *m, unsigned peer,
    kv_member_said_t said);


kv_rc_t
kv_found_check(kv_store_t *store, kv_err_t *err)
{
    kv_rc_t                     rc;
    uint64_t                    number;
    kv_wal_state_t             *wal;
    kv_raft_entry_t            *e;
    struct raft_configuration   conf;

    wal = &store->zone->wal;
    errno = EINVAL;

    if (wal->restored) {
        kv_err_set(err, "\"%s\" has a file \"" KV_RESTORED_NAME "\": a node "
                   "of a cluster of several cannot go on with a disk that was "
                   "set back, as it may have forgotten what it has confirmed "
                   "to the others; put its newest files back, or begin with "
                   "empty directories on all nodes", store->conf.path);
        return KV_ERROR;
    }

    if (wal->replica.members_len == 0) {
        return kv_found_new(store, err);
    }

    e = kv_raft_entry_make(1, RAFT_CHANGE, kv_wal_members(wal),
                           wal->replica.members_len);
    rc = kv_raft_conf_read(e, &conf);
    number = kv_found_number(e);
    kv_raft_entry_drop(e);

    if (rc != KV_OK) {
        kv_err_set(err, "the log in \"%s\" names members of its cluster in a "
                   "form that this version of the module does not know",
                   store->conf.path);
        return KV_ERROR;
    }

    rc = kv_found_compare(store, &conf, err);
    raft_configuration_close(&conf);

    if (rc == KV_OK) {
        kv_wal_share(store->wal, number);
    }

    return rc;
}


/* It is of no cluster yet. */

static kv_rc_t
kv_found_new(kv_store_t *store, kv_err_t *err)
{
    if (atomic_load(&store->zone->wal.next_lsn) == 1) {
        kv_wal_share(store->wal, KV_FOUND_NONE);
        return KV_OK;
    }

    kv_err_set(err, "\"%s\" holds data of a store that is no node of a "
               "cluster, which cannot become one of several yet: begin "
               "with an empty directory, and write the data to it",
               store->conf.path);

    return KV_ERROR;
}


/* Whether the members are those of the configuration. */

static kv_rc_t
kv_found_compare(kv_store_t *store, const struct raft_configuration *conf,
    kv_err_t *err)
{
    unsigned  i;

    if (conf->n == 1) {
        kv_err_set(err, "the log in \"%s\" is that of a cluster of one node, "
                   "to which no others can be added yet: leave out peers=, or "
                   "begin with an empty directory", store->conf.path);
        return KV_ERROR;
    }

    if (kv_found_id(conf, store->conf.cluster) == 0) {
        kv_err_set(err, "the log in \"%s\" is that of a cluster which has no "
                   "node %s: members cannot change yet; give back "
                   "cluster= and peers= their addresses", store->conf.path,
                   store->conf.cluster);
        return KV_ERROR;
    }

    for (i = 0; i < store->conf.npeers; i++) {

        if (conf->n == store->conf.npeers + 1
            && kv_found_id(conf, store->conf.peers[i].address))
        {
            continue;
        }

        kv_err_set(err, "the log in \"%s\" is that of a cluster of %u nodes, "
                   "which are not those of peers=, %s for one: members "
                   "cannot change yet; give back peers= their addresses",
                   store->conf.path, conf->n, store->conf.peers[i].address);
        return KV_ERROR;
    }

    return KV_OK;
}


kv_rc_t
kv_found_self(kv_member_t *m, kv_err_t *err)
{
    kv_rc_t                  rc;
    kv_wal_t                *log;
    kv_raft_entry_t         *e;
    const kv_wal_state_t    *wal;

    log = m->store->wal;
    wal = &m->store->zone->wal;

    if (wal->replica.members_len) {
        e = kv_raft_entry_make(1, RAFT_CHANGE, kv_wal_members(wal),
                               wal->replica.members_len);
        rc = kv_found_take(m, e);
        kv_raft_entry_drop(e);

        if (rc != KV_OK) {
            errno = EPROTO;
            kv_err_set(err, "the members in the log cannot be read");
            rc = KV_ERROR;
        }

        return rc;
    }

    m->id = wal->replica.voted_for;

    if (m->id) {
        return KV_OK;
    }

    while (m->id == 0) {
        if (getrandom(&m->id, sizeof(m->id), 0) != (ssize_t) sizeof(m->id)) {
            m->id = 0;
            kv_err_set(err, "the kernel gives no random bytes: %s",
                       strerror(errno));
            return KV_AGAIN;
        }
    }

    rc = kv_wal_put_vote(log, 1, m->id, err);

    if (rc == KV_OK) {
        rc = kv_wal_sync(log, err);
    }

    if (rc != KV_OK) {
        m->id = 0;
    }

    return rc;
}


/* The cluster is founded, and these are its members. */

static kv_rc_t
kv_found_take(kv_member_t *m, const kv_raft_entry_t *members)
{
    unsigned                    i;
    struct raft_configuration   conf;

    if (kv_raft_conf_read(members, &conf) != KV_OK) {
        return KV_DAMAGED;
    }

    m->id = kv_found_id(&conf, m->store->conf.cluster);
    m->cluster = kv_found_number(members);

    for (i = 0; i < m->store->conf.npeers; i++) {
        m->peer[i].id = kv_found_id(&conf, m->store->conf.peers[i].address);
    }

    raft_configuration_close(&conf);

    return m->id ? KV_OK : KV_DAMAGED;
}


/* As no members change yet, the last change is the first one. */

static uint64_t
kv_found_number(const kv_raft_entry_t *members)
{
    static const uint64_t  seed[2] = { 0, 0 };

    return (kv_hash(seed, members->data, members->len) & KV_FOUND_NUMBER)
           | (KV_FOUND_NONE + 1);
}


/* The id of the member at that address, or 0. */

static uint64_t
kv_found_id(const struct raft_configuration *conf, const char *address)
{
    unsigned  i;

    for (i = 0; i < conf->n; i++) {
        if (strcmp(conf->servers[i].address, address) == 0) {
            return conf->servers[i].id;
        }
    }

    return 0;
}


size_t
kv_found_hello(const kv_member_t *m, uint8_t hello[KV_NET_HELLO_MAX])
{
    kv_found_hello_t         h;
    const kv_wal_state_t    *wal;

    wal = &m->store->zone->wal;

    h.version = KV_FOUND_VERSION;
    h.len = m->cluster ? wal->replica.members_len : 0;
    h.id = m->id;
    h.cluster = m->cluster;

    memcpy(hello, &h, sizeof(h));

    if (h.len) {
        memcpy(hello + sizeof(h), kv_wal_members(wal), h.len);
    }

    return sizeof(h) + h.len;
}


kv_rc_t
kv_found_heard(kv_member_t *m, unsigned peer, const void *data, size_t len)
{
    kv_found_hello_t   hello;
    kv_member_peer_t  *p;

    p = &m->peer[peer];

    if (len < sizeof(hello)) {
        return kv_found_refuse(m, peer, KV_MEMBER_SAID_VERSION);
    }

    memcpy(&hello, data, sizeof(hello));

    if (hello.version != KV_FOUND_VERSION || hello.id == 0
        || hello.len != len - sizeof(hello)
        || (hello.cluster == 0) != (hello.len == 0))
    {
        return kv_found_refuse(m, peer, KV_MEMBER_SAID_VERSION);
    }

    if (m->cluster) {

        if (hello.cluster && hello.cluster != m->cluster) {
            return kv_found_refuse(m, peer, KV_MEMBER_SAID_CLUSTER);
        }

        if (hello.id != p->id) {
            return kv_found_refuse(m, peer, KV_MEMBER_SAID_ID);
        }

    } else if (hello.cluster) {

        if (!kv_found_adopts(m, &hello,
                             (const uint8_t *) data + sizeof(hello)))
        {
            return kv_found_refuse(m, peer, KV_MEMBER_SAID_OUT);
        }

    } else {
        p->id = hello.id;
    }

    p->said = KV_MEMBER_SAID_NOTHING;

    return KV_OK;
}


/* Whether the members of a peer's cluster are ours; notes them, if so. */

static bool
kv_found_adopts(kv_member_t *m, const kv_found_hello_t *hello,
    const void *members)
{
    bool                        ours;
    kv_raft_entry_t            *e;
    struct raft_configuration   conf;

    e = kv_raft_entry_make(1, RAFT_CHANGE, members, hello->len);
    ours = kv_found_number(e) == hello->cluster
           && kv_raft_conf_read(e, &conf) == KV_OK;

    if (ours) {
        ours = kv_found_id(&conf, m->store->conf.cluster) == m->id;
        raft_configuration_close(&conf);
    }

    if (ours && m->members == NULL) {
        m->members = kv_raft_entry_hold(e);
        m->adopted = true;
    }

    kv_raft_entry_drop(e);

    return ours;
}


bool
kv_found_ready(kv_member_t *m)
{
    unsigned  i;

    if (m->members) {
        return true;
    }

    for (i = 0; i < m->store->conf.npeers; i++) {
        if (m->peer[i].id == 0) {
            return false;
        }
    }

    m->members = kv_found_members(m);

    return true;
}


/* What all nodes write that have heard the same ids. */

static kv_raft_entry_t *
kv_found_members(const kv_member_t *m)
{
    unsigned                 i, n;
    kv_raft_member_t         members[KV_PEERS_MAX + 1];
    const kv_store_conf_t   *conf;

    conf = &m->store->conf;
    n = conf->npeers + 1;

    for (i = 0; i < conf->npeers; i++) {
        members[i].id = m->peer[i].id;
        members[i].role = RAFT_VOTER;
        members[i].address = conf->peers[i].address;
    }

    members[i].id = m->id;
    members[i].role = RAFT_VOTER;
    members[i].address = conf->cluster;

    qsort(members, n, sizeof(members[0]), kv_found_by_address);

    return kv_raft_conf_members(1, members, n);
}


static int
kv_found_by_address(const void *one, const void *two)
{
    const kv_raft_member_t  *a = one, *b = two;

    return strcmp(a->address, b->address);
}


kv_rc_t
kv_found(kv_member_t *m, kv_err_t *err)
{
    kv_rc_t         rc;
    kv_wal_t       *log;
    kv_wal_entry_t  entry;

    log = m->store->wal;

    if (m->store->zone->wal.replica.index == 0) {
        entry.type = KV_ENTRY_CHANGE;
        entry.term = 1;
        entry.index = 1;
        entry.commit = 1;

        rc = kv_wal_put_entry(log, &entry, m->members->data, m->members->len,
                              err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    rc = kv_wal_sync(log, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_found_take(m, m->members);

    if (rc != KV_OK) {
        errno = EPROTO;
        kv_err_set(err, "the members that were written cannot be read");
        return KV_ERROR;
    }

    kv_wal_share(log, m->cluster);

    kv_store_log(m->store, KV_LOG_NOTICE, "kv zone \"%s\": node %016llx at %s "
                 "%s cluster %016llx of %u nodes", m->store->conf.name,
                 (unsigned long long) m->id, m->store->conf.cluster,
                 m->adopted ? "is of" : "has founded",
                 (unsigned long long) m->cluster, m->store->conf.npeers + 1);

    return KV_OK;
}


/* Nothing is done with the peer, which is said once. */

static kv_rc_t
kv_found_refuse(kv_member_t *m, unsigned peer, kv_member_said_t said)
{
    const char  *name, *address;

    name = m->store->conf.name;
    address = m->store->conf.peers[peer].address;

    if (m->peer[peer].said == said) {
        return KV_DECLINED;
    }

    m->peer[peer].said = said;

    switch (said) {

    case KV_MEMBER_SAID_VERSION:
        kv_store_log(m->store, KV_LOG_ERR, "kv zone \"%s\": node %s speaks "
                     "another version of the protocol: give all nodes the same "
                     "version of the module", name, address);
        break;

    case KV_MEMBER_SAID_CLUSTER:
        kv_store_log(m->store, KV_LOG_ERR, "kv zone \"%s\": node %s is of "
                     "another cluster: nothing is sent to it, or taken from "
                     "it; empty the directory of the one that is wrong, or "
                     "correct peers=", name, address);
        break;

    case KV_MEMBER_SAID_ID:
        kv_store_log(m->store, KV_LOG_ERR, "kv zone \"%s\": node %s has "
                     "another directory than the member of this cluster had: "
                     "put that one back, as no other can take its place yet",
                     name, address);
        break;

    default:
        kv_store_log(m->store, KV_LOG_ERR, "kv zone \"%s\": node %s is of a "
                     "cluster that does not know this node's directory, which "
                     "stays out: put the one back that the cluster knows, as "
                     "no other can take its place yet", name, address);
        break;
    }

    return KV_DECLINED;
}
