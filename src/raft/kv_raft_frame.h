
/*
 * A message between two nodes as bytes, for the network.  All numbers are
 * little-endian.
 *
 *      0  1  version of this format, 1
 *      1  1  type, enum raft_message_type
 *      2  1  version of the engine's message
 *      3  1  flags: 1, 2; see below
 *      4  4  entries that follow
 *      8  8  id of the sender
 *     16  8  id of the receiver
 *     24  8  term
 *     32  8  a
 *     40  8  b
 *     48  8  c
 *     56  8  d
 *     64     the entries
 *
 *                        a               b               c               d
 *     AppendEntries      prev_log_index  prev_log_term   leader_commit   stamp
 *       its result       rejected        last_log_index  capabilities    stamp
 *     RequestVote        last_log_index  last_log_term   0               0
 *       its result       0               0               capabilities    0
 *     InstallSnapshot    last_index      last_term       conf_index      handle
 *     TimeoutNow         last_log_index  last_log_term   0               0
 *
 *     capabilities       features | capacity << 16
 *     RequestVote        flags: 1 disrupt_leader, 2 pre_vote
 *       its result       flags: 1 vote_granted, 2 pre_vote
 *
 * An entry, of which InstallSnapshot has one, its members:
 *
 *      0  8  term
 *      8  4  bytes of data
 *     12  1  type, enum raft_entry_type
 *     13  3  0
 *     16     data
 *
 * What has no meaning is 0, and nothing follows the last entry: a message has
 * one form.
 */


#ifndef KV_RAFT_FRAME_H
#define KV_RAFT_FRAME_H


#include "raft/kv_raft_message.h"


/* Bytes of a message, and of an entry in it, besides its data. */
#define KV_RAFT_FRAME_HEAD   64
#define KV_RAFT_FRAME_ENTRY  16


/*
 * The bytes that the message takes with those of its entries, from `first` on,
 * that fit into `max` bytes: *n of them.  AppendEntries whose entries do not
 * fit at once are sent as several.  0: not even one fits, or the message is
 * longer, whose type has no pieces.
 */
size_t kv_raft_frame_size(const kv_raft_message_t *m, unsigned first,
    size_t max, unsigned *n);

/*
 * Writes the message with `n` entries from `first` on, as AppendEntries that
 * begin there, to `buf`, of the size that kv_raft_frame_size() said.
 */
void kv_raft_frame_write(const kv_raft_message_t *m, unsigned first,
    unsigned n, void *buf);

/*
 * Reads a message from exactly `len` bytes; kv_raft_message_drop() frees what
 * it owns.  KV_OK; KV_DAMAGED: it is none, and nothing is owned.  Whether the
 * engine can take it is kv_raft_message_check()'s to say.
 */
kv_rc_t kv_raft_frame_read(const void *data, size_t len,
    kv_raft_message_t *m);


#endif /* KV_RAFT_FRAME_H */
