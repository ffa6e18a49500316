
/*
 * One node of a replicated log: the engine, cowsql/raft through raft_step(),
 * and what stands between it and disk, network and state.
 *
 * It does no I/O, has no thread and no clock.  Its host, the only caller, tells
 * it what happens, with the time, and does what it is told by the functions of
 * kv_raft_host_t, from within these calls.  One thread at a time; and from
 * within those functions it calls none of these: what was written at once is
 * reported when the call has returned.
 *
 * The order of things, which all safety rests on:
 *
 *  - What is to be written is written in the order of its numbers, and reported
 *    by kv_raft_written() when it is synced, not before.
 *  - No message leaves before the term and vote that it speaks for are synced:
 *    kv_raft_t holds it back.
 *  - No entry is reported to the engine, and so to the leader, before it is
 *    synced; nor one that was replaced while it waited for the disk.
 *  - An entry is applied when it is committed and on this node's own disk.
 */


#ifndef KV_RAFT_H
#define KV_RAFT_H


#include "raft/kv_raft_message.h"


typedef struct kv_raft_s  kv_raft_t;


/* A snapshot: which entries are in it, and the members after the last one. */

typedef struct {
    uint64_t                index;
    uint64_t                term;
    uint64_t                conf_index;
    kv_raft_entry_t        *conf;
    uint64_t                handle;  /* the host's name for its file */
} kv_raft_snapshot_t;


/*
 * To be written.  It and its entries are there until it is reported.
 *
 * KV_RAFT_VOTE: term and vote, to be remembered together.
 * KV_RAFT_ENTRIES: `n` entries from `index` on; what the log has from there on
 *     is replaced.  `commit` is recorded with them: entries up to it are final.
 * KV_RAFT_INSTALL: the snapshot takes the place of the state and of the whole
 *     log, which goes on behind it.  Term and vote stay.
 */

typedef enum {
    KV_RAFT_VOTE = 1,
    KV_RAFT_ENTRIES,
    KV_RAFT_INSTALL
} kv_raft_write_type_t;

typedef struct {
    uint64_t                seq;     /* 1, 2, 3, ... */
    kv_raft_write_type_t    type;

    uint64_t                term;
    uint64_t                voted_for;

    uint64_t                index;
    uint64_t                commit;
    unsigned                n;
    kv_raft_entry_t       **entries;

    kv_raft_snapshot_t      snapshot;
} kv_raft_write_t;


typedef struct {

    /* Begins to write; the host may read `w` until it has reported it. */
    void (*write)(void *host, const kv_raft_write_t *w);

    /* Sends a message to m->to, or loses it; copies what it keeps of it. */
    void (*send)(void *host, const kv_raft_message_t *m);

    /* Applies a committed entry, of any type; in order, each once.  False: it
       cannot do that now, and is given it again by kv_raft_apply(). */
    bool (*apply)(void *host, uint64_t index, const kv_raft_entry_t *e);

    /* The newest snapshot that the node was told of, or told to install; the
       reference to its members stays the host's. */
    void (*snapshot)(void *host, kv_raft_snapshot_t *s);

    /* The installed snapshot is the state now. */
    void (*installed)(void *host, const kv_raft_snapshot_t *s);

} kv_raft_host_t;


typedef struct {
    uint64_t                id;      /* not 0 */
    unsigned                seed;    /* of the engine's random timeouts */
    unsigned                election_timeout;   /* ms */
    unsigned                heartbeat;          /* ms */
    unsigned                snapshot_timeout;   /* ms */
    unsigned                inflight;           /* entries on the way to a peer
                                                   that it has not confirmed */
} kv_raft_conf_t;


/*
 * What was found on disk: term and vote, 0 if there are none; the newest
 * snapshot, or NULL; the entries from `index` on, which is 1 without a snapshot
 * and at most one behind it with one; the highest commit index recorded.
 * Entries that are not joined to the snapshot are none.
 */

typedef struct {
    uint64_t                   term;
    uint64_t                   voted_for;
    const kv_raft_snapshot_t  *snapshot;
    uint64_t                   index;
    kv_raft_entry_t          **entries;
    unsigned                   n;
    uint64_t                   commit;
} kv_raft_disk_t;


/* A node that kv_raft_start() starts; kv_raft_close() ends and frees it. */
kv_raft_t *kv_raft_open(const kv_raft_conf_t *conf, const kv_raft_host_t *ops,
    void *host);
void kv_raft_close(kv_raft_t *r);

/*
 * The functions that tell what happened take the present time in milliseconds,
 * of a clock that does not jump; if it goes back, it stands still.  Each may
 * return, besides what is said there,
 *
 *     KV_ERROR   the engine met what cannot be (a committed entry that another
 *                node denies): the node must stop; all later calls return it
 */

/*
 * Starts the node.  It applies what was recorded as committed.  The host's
 * state is that of the snapshot.
 */
kv_rc_t kv_raft_start(kv_raft_t *r, uint64_t now, const kv_raft_disk_t *disk);

/* When kv_raft_timeout() is due at the latest: read it after each call. */
uint64_t kv_raft_next_timeout(const kv_raft_t *r);
kv_rc_t kv_raft_timeout(kv_raft_t *r, uint64_t now);

/*
 * A message arrived; it stays the caller's.  KV_DAMAGED: no sound peer sends
 * it, and it was not looked at.  KV_DECLINED: it came at a wrong time, and was
 * dropped, as a network might.
 */
kv_rc_t kv_raft_receive(kv_raft_t *r, uint64_t now,
    const kv_raft_message_t *m);

/* All that was to be written up to the number is synced. */
kv_rc_t kv_raft_written(kv_raft_t *r, uint64_t now, uint64_t seq);

/*
 * Goes on to apply, after kv_raft_host_t's apply() could not; the other
 * functions that tell what happened do it, too.
 */
kv_rc_t kv_raft_apply(kv_raft_t *r);

/*
 * Appends an entry to the log: *index is where.  It counts when an entry of
 * *term is applied there; an entry of another term, or a snapshot over it,
 * means that it is lost.  KV_UNAVAILABLE: this is not the leader.
 */
kv_rc_t kv_raft_submit(kv_raft_t *r, uint64_t now, const void *data,
    size_t len, uint64_t *index, uint64_t *term);


/* ---- what it is */

typedef struct {
    int                     state;   /* RAFT_FOLLOWER, _CANDIDATE, _LEADER */
    uint64_t                term;
    uint64_t                leader;  /* id, 0 if none is known */
    uint64_t                last;    /* index of the last entry */
    uint64_t                stored;  /* of the last one that is synced */
    uint64_t                commit;  /* as far as this node knows */
    uint64_t                applied;
    uint64_t                bytes;   /* of the entries that are in memory */
    bool                    installing;
} kv_raft_info_t;

void kv_raft_info(const kv_raft_t *r, kv_raft_info_t *info);

/* The members as this node knows them; they stay the node's. */
const struct raft_configuration *kv_raft_members(const kv_raft_t *r);

/* The term of the entry, or 0 if it is not in the log. */
uint64_t kv_raft_term_of(const kv_raft_t *r, uint64_t index);


/* ---- snapshots */

/*
 * What a snapshot of the present state is of.  The caller owns the reference
 * to s->conf.  KV_DECLINED: there is nothing new since the last one, or one is
 * being installed.
 */
kv_rc_t kv_raft_snapshot_begin(kv_raft_t *r, kv_raft_snapshot_t *s);

/*
 * It is on disk, and kv_raft_host_t's snapshot() gives it; `trailing` entries
 * before its index are kept for peers that lag a little.  KV_DECLINED: another
 * one was installed meanwhile, or is being.
 */
kv_rc_t kv_raft_snapshot_taken(kv_raft_t *r, uint64_t now,
    const kv_raft_snapshot_t *s, unsigned trailing);

/* How many entries up to that one, all in memory, have at most `bytes`. */
unsigned kv_raft_trailing(const kv_raft_t *r, uint64_t index, uint64_t bytes);

/*
 * What a peer lacks, instead of a snapshot: `n` entries of the log that are no
 * longer in memory, behind the index `before`, which is of `before_term`.  They
 * stay the caller's.  What the peer answers is as ever for kv_raft_receive(); a
 * refusal means that it has another entry there, or none.  KV_UNAVAILABLE: this
 * is not the leader, or it has not committed an entry of its own term.
 */
kv_rc_t kv_raft_send_older(kv_raft_t *r, uint64_t peer, uint64_t before,
    uint64_t before_term, kv_raft_entry_t **entries, unsigned n);

/*
 * The snapshot for this peer has arrived, or cannot: only then, or after
 * snapshot_timeout, the peer is sent another one.
 */
void kv_raft_snapshot_sent(kv_raft_t *r, uint64_t peer);


/* ---- members: one change at a time */

/*
 * Adds a member, or gives it another role; removes it.  KV_UNAVAILABLE: this is
 * not the leader.  KV_AGAIN: a change is under way, or the leader has not yet
 * committed an entry of its own term.  KV_DECLINED: so it is already; no voter
 * would be left, or one of two, which is not safe; the id is 0; another member
 * has the address; or there are KV_RAFT_MEMBERS.
 */
kv_rc_t kv_raft_assign(kv_raft_t *r, uint64_t now,
    const kv_raft_member_t *member);
kv_rc_t kv_raft_remove(kv_raft_t *r, uint64_t now, uint64_t id);

/*
 * Begins to send the log to a spare or standby member, before it becomes a
 * voter; and whether it has all by now: KV_OK; KV_AGAIN: not yet; KV_DECLINED:
 * it was not begun, or given up, being too slow.  Besides KV_UNAVAILABLE.
 */
kv_rc_t kv_raft_catch_up(kv_raft_t *r, uint64_t now, uint64_t id);
kv_rc_t kv_raft_caught_up(const kv_raft_t *r, uint64_t id);

/*
 * Hands leadership to a voter; 0: to any.  KV_UNAVAILABLE: this is not the
 * leader, it is handing over already, or there is no such voter.
 */
kv_rc_t kv_raft_transfer(kv_raft_t *r, uint64_t now, uint64_t id);


/* ---- linearizable reads */

typedef struct {
    uint64_t                term;
    uint64_t                stamp;
    uint64_t                index;
} kv_raft_read_t;

/*
 * Begins a read; many may share one.  KV_UNAVAILABLE: this is not the leader.
 * KV_AGAIN: the leader has not yet committed an entry of its own term.
 */
kv_rc_t kv_raft_read_begin(kv_raft_t *r, kv_raft_read_t *read);

/*
 * Whether what is in the state now may be the answer.  KV_AGAIN: not yet: a
 * majority has not yet confirmed that this was the leader, or the state is
 * behind.  KV_UNAVAILABLE: it no longer is.
 */
kv_rc_t kv_raft_read_ready(const kv_raft_t *r, const kv_raft_read_t *read);


#endif /* KV_RAFT_H */
