
/*
 * A message between two nodes: the engine's, with what it leaves to us: the
 * entries, the configuration and the file of a snapshot, and the stamps of the
 * read index (kv_raft_peer.c).
 *
 * Whoever has a message owns a reference to each of its entries.
 */


#ifndef KV_RAFT_MESSAGE_H
#define KV_RAFT_MESSAGE_H


#include "raft/kv_raft_entry.h"


typedef struct {
    uint64_t              from;
    uint64_t              to;
    struct raft_message   m;         /* no addresses, entries, conf, data */
    kv_raft_entry_t     **entries;   /* m.append_entries.n_entries of them */
    kv_raft_entry_t      *conf;      /* of m.install_snapshot */
    uint64_t              handle;    /* the snapshot's file: 8 bytes of data */
    uint64_t              stamp;     /* of AppendEntries, or its echo */
} kv_raft_message_t;


/*
 * Whether the engine can take the message: it would end the process for some
 * that no sound peer sends.  KV_OK; KV_DAMAGED: drop it, and the connection.
 */
kv_rc_t kv_raft_message_check(const kv_raft_message_t *m);

/* The term of the sender. */
uint64_t kv_raft_message_term(const kv_raft_message_t *m);

/* Whether it is a leader's whose term is over. */
bool kv_raft_message_is_stale(const kv_raft_message_t *m, uint64_t term);

/* Whether it refuses what its sender has confirmed, up to the index `match`. */
bool kv_raft_message_is_late(const kv_raft_message_t *m, uint64_t match);

/*
 * How many of the entries from `first` on can be given to the engine at once: a
 * configuration comes first, or the engine files it under a wrong index, and
 * would never take it for committed.
 */
unsigned kv_raft_message_piece(const kv_raft_message_t *m, unsigned first);

/*
 * The answer to a pre-vote that is refused says the term of who refuses it.
 * The engine repeats the candidate's, so one that is terms behind never learns
 * of it; and if its log is the one that a leader needs, there is no leader ever
 * again.
 */
void kv_raft_message_tell_term(kv_raft_message_t *m, uint64_t term);

/* Copies a message, with references of its own; drops the references. */
void kv_raft_message_copy(kv_raft_message_t *to, const kv_raft_message_t *m);
void kv_raft_message_drop(kv_raft_message_t *m);


#endif /* KV_RAFT_MESSAGE_H */
