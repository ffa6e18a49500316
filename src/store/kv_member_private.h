
/*
 * What the files of a node with peers share: kv_member.c, kv_member_start.c and
 * kv_found.c.  All of it belongs to the host's thread.
 */


#ifndef KV_MEMBER_PRIVATE_H
#define KV_MEMBER_PRIVATE_H


#include <pthread.h>

#include "net/kv_net.h"
#include "raft/kv_raft.h"
#include "store/kv_follow.h"
#include "store/kv_member.h"
#include "store/kv_writer.h"


/* milliseconds; an election is begun after once to twice this time */
#define KV_MEMBER_ELECTION    500u
#define KV_MEMBER_HEARTBEAT   100u
#define KV_MEMBER_SNAPSHOT    10000u

/* entries on their way to a peer */
#define KV_MEMBER_INFLIGHT    1024u

/* bytes of a frame, and that may wait for a peer */
#define KV_MEMBER_FRAME       (32u << 20)
#define KV_MEMBER_QUEUE       (64u << 20)

/* bytes of entries in memory, about; peers that lack older ones get those from
   the log, which at a start is read back as many entries */
#define KV_MEMBER_KEEP        (8u << 20)
#define KV_MEMBER_BACK        4096u

/* the type of frames with a message of src/raft */
#define KV_MEMBER_RAFT        1u


/* What was said of a peer last, so that it is said once. */

typedef enum {
    KV_MEMBER_SAID_NOTHING = 0,
    KV_MEMBER_SAID_VERSION,          /* its hello has another form */
    KV_MEMBER_SAID_CLUSTER,          /* it is of another cluster */
    KV_MEMBER_SAID_ID,               /* at its address is another node */
    KV_MEMBER_SAID_OUT               /* its cluster does not know this node */
} kv_member_said_t;

typedef struct {
    uint64_t            id;          /* 0: not heard yet, and no member */
    kv_member_said_t    said;
} kv_member_peer_t;


typedef struct kv_older_s  kv_older_t;

typedef struct {
    kv_store_t         *store;
    uint64_t            id;          /* this node's */
    uint64_t            cluster;     /* 0: it is not founded */
    kv_raft_entry_t    *members;     /* a change, which it begins with; NULL */
    bool                adopted;     /* a peer has told them */
    kv_member_peer_t    peer[KV_PEERS_MAX];
    kv_net_t           *net;
    pthread_t           listener;    /* kv_member_listen(), until this: */
    _Atomic bool        deaf;
    kv_writer_t        *writer;      /* NULL: there is no engine */
    kv_raft_t          *raft;
    kv_raft_snapshot_t  snapshot;    /* what the engine begins with */
    uint64_t            started;     /* ms */
    uint64_t            seq;         /* what was reported as written */
    kv_older_t         *older;       /* what peers get from the log */

    /* kv_member_batch.c */
    kv_wal_state_t      drafts;      /* of store->wal, which builds batches */
    kv_follow_t        *follow;
    kv_op_t            *taken;       /* of the queue, for the next batches */
    bool                flying;      /* one is submitted, not applied yet, */
    bool                clients;     /* of operations, not of expired keys */
    uint64_t            led;         /* the last term in which it led */
    kv_raft_read_t      asked;       /* whether a majority is in its term, */
    uint64_t            asked_ns;    /* since this time; 0: not asked */
    uint64_t            sure_ns;     /* a majority was at this time */
    uint64_t            index;       /* which entry it is */
    uint64_t            term;
    bool                some;        /* of the workers these are dead, */
    bool                dead[KV_WORKERS_MAX];  /* and locked */
    bool                put_off;     /* what is committed waits to be applied */
    bool                failed;      /* the engine did */
    bool                lagging;     /* it was said that a peer lags */
} kv_member_t;


static inline uint64_t
kv_member_ms(void)
{
    return kv_now_ns() / 1000000;
}


/* kv_member_start.c */

/*
 * Opens the engine with what the log has, and the writer.  KV_OK; KV_AGAIN, or
 * KV_ERROR, `err` filled, with neither.
 */
kv_rc_t kv_member_start(kv_member_t *m, const kv_raft_host_t *ops,
    void (*wake)(void *ctx), kv_err_t *err);


/* An entry as it was read from the log: one reference, the caller's. */
kv_raft_entry_t *kv_member_entry(const kv_wal_entry_t *e, uint64_t lsn,
    const void *data, size_t len);


/* kv_member_older.c */

/* The writer is there as long as it is, once a peer has wanted anything. */
kv_older_t *kv_older_create(kv_member_t *m);
void kv_older_destroy(kv_older_t *o);

/* The engine has no entries that a peer lacks, and would send a snapshot. */
void kv_older_wanted(kv_older_t *o, unsigned i);

/* A peer has answered to entries; before the engine hears of it. */
void kv_older_heard(kv_older_t *o, unsigned i,
    const struct raft_append_entries_result *result);

/* Sends what was read, and has more read. */
void kv_older_work(kv_older_t *o);


/* kv_member_batch.c */

/* Before the engine is opened; KV_OK, or KV_AGAIN, `err` filled. */
kv_rc_t kv_member_batch_begin(kv_member_t *m, kv_err_t *err);

/* When it is closed: what is on its way may be done or not. */
void kv_member_batch_close(kv_member_t *m);

/* Whether this node leads, and has applied all that was committed before. */
bool kv_member_leads(kv_member_t *m);

/* Submits what waits, if it leads, else refuses it; and other such work. */
void kv_member_batch_work(kv_member_t *m);

/*
 * An entry with records is committed: applies them.  KV_OK; KV_AGAIN: not now;
 * KV_ERROR: that failed.
 */
kv_rc_t kv_member_batch_apply(kv_member_t *m, uint64_t index,
    const kv_raft_entry_t *e);


/* kv_found.c */

/*
 * Who this node is, by the log: fills id, and of a cluster that is founded, its
 * number and the peers' ids.  Makes an id, if it has none, which is durable.
 * Results as those of kv_wal_write().
 */
kv_rc_t kv_found_self(kv_member_t *m, kv_err_t *err);

/* What it says of itself; returns the bytes. */
size_t kv_found_hello(const kv_member_t *m, uint8_t hello[KV_NET_HELLO_MAX]);

/* A peer has said hello: for kv_net_ops_t. */
kv_rc_t kv_found_heard(kv_member_t *m, unsigned peer, const void *data,
    size_t len);

/*
 * Of a node that is not founded: whether it could be, with m->members; and
 * writes them.  Results as those of kv_wal_write().
 */
bool kv_found_ready(kv_member_t *m);
kv_rc_t kv_found(kv_member_t *m, kv_err_t *err);


#endif /* KV_MEMBER_PRIVATE_H */
