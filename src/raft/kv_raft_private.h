
/*
 * What the files of this folder share.
 */


#ifndef KV_RAFT_PRIVATE_H
#define KV_RAFT_PRIVATE_H


#include "raft/kv_raft.h"
#include "raft/kv_raft_log.h"


/* Members at most, those included that were removed just now. */
#define KV_RAFT_PEERS     (2 * KV_RAFT_MEMBERS)


/* The engine wants an address of each sender, and compares it. */
#define KV_RAFT_ADDRESS   ""


typedef struct {
    uint64_t                id;      /* 0: free */
    uint64_t                snapshot;  /* on its way: since when, ms; or 0 */
    uint64_t                echo_term;
    uint64_t                echo;    /* highest stamp that it confirmed */
} kv_raft_peer_t;


/* What was given to the host to be written, in order. */

typedef struct kv_raft_pending_s  kv_raft_pending_t;

struct kv_raft_pending_s {
    kv_raft_write_t         w;
    kv_raft_pending_t      *next;
};


/* A message that waits for a vote to be synced. */

typedef struct kv_raft_held_s  kv_raft_held_t;

struct kv_raft_held_s {
    kv_raft_message_t       m;
    uint64_t                seq;
    kv_raft_held_t         *next;
};


struct kv_raft_s {
    struct raft             engine;
    kv_raft_conf_t          conf;
    const kv_raft_host_t   *ops;
    void                   *host;

    uint64_t                now;
    uint64_t                heard;   /* when a leader spoke to us last */
    uint64_t                timed_out;  /* when its timer was looked at */
    bool                    failed;
    bool                    updating;  /* the host is told what to do */
    bool                    took_entries;  /* the last update had some */
    kv_raft_log_t           log;

    uint64_t                seq;     /* of the last write */
    uint64_t                vote_seq;  /* of the last vote's */
    uint64_t                written;
    kv_raft_pending_t      *pending;
    kv_raft_pending_t     **pending_end;
    kv_raft_held_t         *held;
    kv_raft_held_t        **held_end;

    uint64_t                recorded;  /* commit index found on disk */
    uint64_t                done;    /* the engine knows these committed */
    uint64_t                applied;

    uint64_t                own_term;  /* of the first entry that we appended */
    uint64_t                own_index; /* as its leader */

    uint64_t                snapshot_index;  /* of the newest one */
    uint64_t                snapshot_term;

    uint64_t                stamp;   /* ours, as leader */
    uint64_t                seen_term;  /* the leader's, as follower */
    uint64_t                seen_stamp;

    unsigned                asked_snapshots;  /* by the engine */
    kv_raft_peer_t          peers[KV_RAFT_PEERS];
};


/* The peer of the id, which gets a place if it has none. */
kv_raft_peer_t *kv_raft_peer(kv_raft_t *r, uint64_t id);

/* Whether it is a member, as this node knows it. */
bool kv_raft_is_member(const kv_raft_t *r, uint64_t id);

/*
 * Does what the engine asks for in an update: writes, and sends.  `entries` are
 * those that the event brought, which engine entries from `given` on stand
 * for; NULL if it brought none.
 */
void kv_raft_update(kv_raft_t *r, const struct raft_update *update,
    const struct raft_entry *given, kv_raft_entry_t **entries);

/* Gives term and vote to the host; messages wait from now on. */
void kv_raft_write_vote(kv_raft_t *r, uint64_t term, uint64_t voted_for);

/* Sends a message of the engine's kind, when the present vote is synced. */
void kv_raft_send(kv_raft_t *r, const struct raft_message *message);

/* The same for a message that is whole, and is given away. */
void kv_raft_send_now(kv_raft_t *r, kv_raft_message_t *m);

/* Sends what waited for what is written by now. */
void kv_raft_send_held(kv_raft_t *r);

/* Drops a write and its entries. */
void kv_raft_pending_free(kv_raft_pending_t *p);

/* What the engine is given for entries, whose memory stays theirs. */
void kv_raft_entries(struct raft_entry *to, kv_raft_entry_t **from, unsigned n,
    void *batch);

/* A message that needs no care of its own. */
kv_rc_t kv_raft_receive_other(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);

/*
 * An event for the engine, and all that follows from it: see kv_raft_update().
 * 0; the engine's error; KV_ERROR: what followed went wrong, or did before.
 */
int kv_raft_run(kv_raft_t *r, uint64_t now, struct raft_event *event,
    const struct raft_entry *given, kv_raft_entry_t **entries);

/*
 * Another change is to follow what the log has up to `last`: so the one in it
 * is committed, or no leader would have made another.  The engine would forget
 * that one, and go back to the members before it if the new one is replaced.
 */
void kv_raft_change_follows(kv_raft_t *r, uint64_t last);

/* Submits an entry, which stays the caller's: KV_OK, or the engine's result. */
int kv_raft_submit_entry(kv_raft_t *r, uint64_t now, kv_raft_entry_t *e);

/* Whether no leader may be left when there are so many voters. */
bool kv_raft_change_strands(const kv_raft_t *r, unsigned voters);

/* Whether the members may change: KV_OK, KV_AGAIN, KV_UNAVAILABLE. */
kv_rc_t kv_raft_change_allowed(const kv_raft_t *r);

/* Whether this leader has committed an entry of its own term. */
bool kv_raft_own_committed(const kv_raft_t *r);


#endif /* KV_RAFT_PRIVATE_H */
