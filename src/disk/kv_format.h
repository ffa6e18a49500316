
/*
 * What is on disk, byte by byte.  Format version 2; version 1 is read, too.
 *
 * All numbers are little-endian.  Every part is a multiple of 8 bytes, filled
 * up with zeroes.  LSNs (log sequence numbers) count operations from 1,
 * without gaps, up to 2^48 - 1.
 *
 *
 * The data directory
 *
 *     kv.lock                   flock()ed by the master that serves it; holds
 *                               its pid, for people
 *     log-<LSN>.kvl             a log segment, named by its first LSN
 *     log-<LSN>.closed          the log was closed at a clean stop, and ends
 *                               with this LSN; emptied and deleted before more
 *                               is written
 *     snap-<LSN>.kvs            a snapshot, named by the LSN S that replay
 *                               continues after
 *     spare-<n>.kvl             a segment to be, preallocated or recycled
 *     *.tmp                     not finished: deleted at start
 *     snap-<LSN>.kvs.damaged    a snapshot that was found damaged: for people,
 *                               never read; two are kept, none on a full disk
 *     gap-<LSN>-<LSN>           in an archive (kv_archive.h), empty: it lacks
 *                               the log from the one to the other
 *     restored                  put there by people: the disk was set back;
 *                               see "Identity"
 *     snap-<LSN>.alone          put there by people: that snapshot stands for
 *                               the state at its E, though the log up to
 *                               there, or all of a replicated log, is lost;
 *                               deleted with the snapshot
 *
 * <LSN> is 16 lower-case hexadecimal digits.
 *
 *
 * Identity (24 bytes)
 *
 *     0  16   the store: random, made with the directory, also by a restore,
 *             or by the first start of this version that finds files of version
 *             1
 *    16   8   its incarnation: 42 bits of milliseconds since the epoch, 22
 *             random ones; a new one is above all that its files name.  Of a
 *             node of a cluster of several: the cluster's number, which is
 *             below those, or 1 as long as the cluster is not founded
 *
 * Clients know a write by its version, "<LSN>-<incarnation>": its LSN, and the
 * incarnation that the store has when they ask.  The store is not in it: two
 * stores with one incarnation began it in the same millisecond, with the same
 * random bits, and no client takes one store's versions to another by itself.
 *
 * A version never comes back, for in one incarnation no two writes that clients
 * may have seen get the same LSN:
 *
 *   - While the log is in use each LSN is above the one before.  A batch that a
 *     committer began, and died, was seen by no client.  A zone that is read
 *     anew gets a new incarnation if the log ends earlier than it did, or in
 *     another segment.
 *   - A start goes on with the incarnation in one case alone.  There is a note
 *     of a clean end; the log ends exactly where it says (LSN, segment, salt,
 *     offset); no file names a higher incarnation than it does; and it is the
 *     file that was written then, in the directory that it was written to (its
 *     origin).  Before the first batch that follows, the committer empties that
 *     file, for good, and deletes it.  So no batch has followed, and all before
 *     it are there; also where the file had another name (a hard link), for
 *     that is empty, too.  A committer that cannot empty it, or does not find
 *     it where the start did, begins a new incarnation for what it writes.
 *   - All other starts begin a new one: after an unclean end; where people cut
 *     the log, moved segments away or declared that a snapshot stands alone;
 *     where they put a copy in the files' place, as a copy of the note has
 *     another inode, or the same one, given out again, and another time of
 *     birth, and a hard link is in another directory, or empty; where the file
 *     system keeps no time of birth; and where the log is of format version 1.
 *     A note that fits all the same is emptied and deleted, so that no later
 *     start goes on from it, or from a copy that is written into that file; if
 *     people say that files were set back (below), each that is no copy is.
 *   - Two starts from the same files do not get the same incarnation, for it
 *     has random bits.
 *
 * An unclean end loses no write that clients saw if all were synced before, and
 * is followed by a new incarnation all the same: a log that was cut, as the
 * messages of a refused start advise, looks like one whose last write was torn.
 * That costs a client one request.  What it asks for with an old version is
 * answered as if the value had changed: it gets the value once more, or its
 * write is refused, and it reads the version that the value has now.  No write
 * with If-Match is ever done for an old version.
 *
 * Who asks what came after a version needs less: that nothing up to it is lost,
 * and that its LSN was not given out again.  Each batch names the incarnation
 * that wrote it.  Where the log changes to a later one, it has all that clients
 * knew in the one before, up to there; what else that one wrote is lost.  So a
 * version of it is of the log's past if its LSN is before that place.  It would
 * not be if a batch that a committer had begun, and that was written over, came
 * back with a power cut: so what is written over it is synced before it is seen
 * (store/kv_takeover.c).  Nothing is known where a snapshot stands alone.
 *
 * The nodes of a cluster of several have one incarnation, for good, as clients
 * take versions from one to the other.  It needs no other one: clients see only
 * what is committed, and a majority has on disk; so no LSN that they saw is
 * given out again, though one node loses what was not.  A node whose disk was
 * set back may have forgotten what it has confirmed, and is refused.
 *
 * What this cannot tell: files that are set back, or cloned, together with
 * their inodes, by a snapshot of the volume or of a virtual machine.  Then an
 * empty file "restored" in the directory says so, to the next start.  What
 * people copy there before that start succeeds must not take it away, as a
 * mirroring copy does.  The committer deletes it before the first batch, once
 * the note is gone for good: the start after that begins a new incarnation
 * without it, or goes on with this one after a clean end.
 *
 * The incarnation of the store is the highest that a file names.  Each batch
 * names that of its writes, so both are durable with the same sync.  It need
 * not be on disk before clients see it: until a batch names it, all that they
 * know by it are writes of earlier ones, with LSNs that are not given out
 * again; and if it is lost, no later one is the same.
 *
 *
 * Segment header (4096 bytes at offset 0; zeroes after the fields)
 *
 *     0   8   magic "KVLOG\r\n\032"
 *     8   4   format version, 2
 *    12   4   CRC32C of the 4096 bytes, these 4 taken as zeroes
 *    16   8   size of the file; it never changes afterwards
 *    24   8   first LSN
 *    32   8   salt: random, new whenever the file is put to use
 *    40  24   identity
 *    64   4   kind: 0 of a log that is not replicated, 1 of a replicated one, 2
 *             of one that was: a restore has made another store of it
 *
 * A segment is preallocated and synced before it gets its name, so a file
 * that is shorter than its header says was damaged.  It may pass if all batches
 * up to the next segment, or a mark at the end, are still there.  What a longer
 * file has behind that size does not count.
 *
 *
 * Batch (from offset 4096 on, one after the other)
 *
 *     0   4   magic 0x4254564b ("KVTB")
 *     4   4   CRC32C of the batch from byte 8 on
 *     8   4   length of the records in bytes
 *    12   4   number of records
 *    16   8   LSN of the first record
 *    24   8   the highest LSN known durable when this was written
 *    32   8   the segment's salt
 *    40   8   the store's time when it was built, milliseconds since the epoch.
 *             It never goes back, and is never below the highest that the log
 *             or the snapshot names: see kv_clock.h
 *    48   8   the incarnation; where there is a type, the term
 *    56   8   index, and
 *    64   8   commit index of a replicated log, else zeroes
 *    72   4   type, of a replicated log, else 0
 *    76   4   of a replicated log, the offset up to which the segment was known
 *             to be durable when this was written, else 0
 *    80       records
 *
 * The batches of one segment, and of one segment and the next, have
 * consecutive LSNs.  Because of the salt, which no client knows, neither
 * what a recycled file held before nor a value that looks like a batch ever
 * passes for one.  It stands in the header, not only in the checksum, so that
 * a scan can refuse a million forged headers without a checksum of each.
 *
 * A batch without records is a mark: its LSN is the next one to be given.  It
 * is written, not synced, where the next batch will overwrite it, when the
 * committer falls idle or the server stops, so that even after the last batch
 * something says that it was durable.
 *
 *
 * Replicated log
 *
 * Each batch of it has a type, but for marks:
 *
 *     1   an entry with records
 *     2   a barrier: an entry that changes nothing
 *     3   a change of the members: the entry's data say who they are from then
 *         on, as raft/kv_raft_entry.h has it; 4096 bytes at most
 *     4   the state of the log at this place, which is no entry:
 *           80   8   the incarnation of the batches from here on
 *           88   8   the vote, in the term of the header; 0: there is none
 *           96   8   index, and
 *          104   8   term of the last entry before this one, or zeroes
 *          112   8   index of the last change, or 0: there was none
 *          120   8   in the first batch of a segment, the offset where the
 *                    segment before it ends, 0: there is none; else zeroes
 *          128   4   length of the members
 *          132   4   in the first batch of a segment, its number, which is
 *                    above those of all segments before it; else zeroes
 *          136       the members, as in that change
 *
 * All but the first have no records, and take no LSN: they name the one that
 * comes next.  From entry to entry the index goes up by one, and the term never
 * goes down.  No entry is of a higher term than the state before it: a node
 * that learns of a new term, or votes, writes a state, and syncs it before it
 * tells anyone.
 *
 * Each segment begins with a state, which is synced before the file gets its
 * name.  So an older segment is not needed to know term, vote and members, and
 * one without its first state is damaged, not torn.  A segment that is full
 * without a record in it is replaced by the next one, which has its name: its
 * entries are gone, and its votes and changes are in the state of the other.
 *
 * The log of a store becomes a replicated one in a new segment, where its
 * entries begin with the index 1.  There is no way back but a backup: what is
 * restored is another store, which is no member of a cluster.  Its log goes on
 * in a new segment, of kind 0, or of kind 1, with new members and the index 1.
 *
 * Entries that are not committed may be given up, and others take their places,
 * with the same indexes, and LSNs.  The first of those begins a new segment.
 * Its state names the last entry that stays, and says that the segment before
 * it, which has that entry, ends behind it: what follows there does not count.
 * If this leaves no record in a segment, the new one takes its place, and what
 * stays of its entries is copied there.  A segment whose number is not above
 * that of each segment with a lower LSN was given up as a whole, and is deleted
 * by the next start, if that was not done at once.
 *
 * An entry is final if a batch says that it is committed.  A node with others
 * gives nothing else to its state when it starts, but for what is in a snapshot
 * already.  A voter that is alone has committed all that is on its disk.
 *
 *
 * Closed log (80 bytes)
 *
 *     0   8   magic "KVEND\r\n\032"
 *     8   4   format version, 2
 *    12   4   CRC32C of these 80 bytes, these 4 taken as zeroes
 *    16   8   the last LSN of the log, which is durable up to it
 *    24   8   first LSN of the segment that it ends in
 *    32   8   salt of that segment
 *    40   8   offset in it where the log ends: where the next batch would go
 *    48  24   identity
 *    72   8   origin: a hash of this file's inode and time of birth, of the
 *             directory's, and of the identity of the file system (of the
 *             subvolume, on btrfs); 0 where they cannot be told
 *
 * Written as log-<LSN>.tmp, synced, renamed, and the directory synced, when
 * all workers are gone and the log is synced.  Before the next batch is written
 * the committer empties it, syncs it, deletes it, and syncs the directory.  An
 * empty one says nothing.  If it can neither empty nor delete it, it begins a
 * new segment, so that an old end never passes for the present one.  That the
 * log was durable up to that LSN stays true whatever comes after it.
 *
 *
 * Record
 *
 *     0   1   operation: 1 put, 2 delete, 3 clear, 4 touch (a key gets another
 *             expiry; its value, metadata and LSN stay)
 *     1   1   flags: 1 = it has an expiry, 2 = an LSN, 4 = metadata
 *     2   2   length of the key
 *     4   4   length of the value
 *     8  (8)  expiry, milliseconds since the epoch; 0: the key never expires.
 *             Of a delete: the key was deleted because it expired then
 *        (8)  LSN of the write, where the batch does not imply it (snapshots)
 *        (1)  length n of the metadata, from 1 on
 *        (n)  metadata, which say how a value is to be taken: its media type,
 *             and its codings (base/kv_meta.h)
 *             key, value, zeroes up to a multiple of 8
 *
 * What is in brackets is there if its flag is set.  A put may have any flag, a
 * touch has an expiry and no metadata, a delete no metadata, a clear none of
 * both.  A put without an expiry, or without metadata, leaves the key without.
 *
 * A key that has expired is gone for clients, but not in the files, until a
 * record deletes it or gives it another value.  A touch is of a key that was
 * not gone.  A snapshot may lack what was gone when it was written.  A touch of
 * a key that has no value in replay is of one that was deleted later, or is not
 * in the snapshot for that reason: it is passed over.
 *
 * A reader refuses files with metadata of any other form, as it would lose
 * them: a first byte of 0, or above KV_META_TYPE, is left for later versions.
 * Versions of the module before 0.4 was finished refuse all.  So a directory
 * can go back to them until the first value with a type is stored in it.
 * Versions that cannot read a replicated log refuse its files.
 *
 * Records carry results, not changes: to replay one twice does no harm.
 *
 *
 * Reading the log back
 *
 * The first batch that does not check out, at LSN n, is
 *
 *   - the end of its segment, if the next segment starts with LSN n;
 *   - damage, if there is a next segment and it starts later (a segment is
 *     synced before the next is begun), or if anything valid after it, or a
 *     closed log, says that LSN n was durable: acknowledged data is gone;
 *   - damage, too, if the segment continues from the LSN that the next one
 *     starts with, and says that this one was durable: one of the two is of
 *     another log;
 *   - else the end of the log: a write that was never acknowledged.
 *
 * In a replicated log, where a batch need not have an LSN, this holds for
 * places, too.  Such a batch is damage if anything valid after it, or the
 * closed log, says that the segment was durable behind its beginning.  And a
 * segment ends where the next one says: no earlier, and what lies behind is of
 * a writer that died.
 *
 * After such an end, valid batches may still lie behind the gap (with
 * sync=<interval> several are in flight).  They must not come to life when
 * new ones fill it, so the log then continues in a new segment, with
 * a new salt.
 *
 *
 * Snapshot
 *
 *   header (104 bytes)
 *     0   8   magic "KVSNAP\r\n"
 *     8   4   format version, 2
 *    12   4   CRC32C of the first 64 bytes, these 4 taken as zeroes
 *    16   8   S: replay continues with S + 1
 *    24   8   salt
 *    32  16   seed of the map's hash, in whose order the records are: a map
 *             made with it is filled from its first bucket to its last.
 *             Zeroes: not known
 *    48  24   identity
 *    72   8   the store's time when it was begun, milliseconds since the epoch
 *    80   8   term, and
 *    88   8   index, in a replicated log, of the last entry that is in it for
 *             sure; zeroes where there is none, or it is not known
 *    96   4   zeroes
 *   100   4   CRC32C of the 100 bytes before
 *
 *   All versions have the first 64 bytes, under a checksum of their own: so one
 *   that is older says that a snapshot is of another version, not damaged.
 *
 *   blocks, one after the other
 *     0   4   magic 0x4253564b ("KVSB")
 *     4   4   CRC32C of the salt, then of the block from byte 8 on
 *     8   4   length of the records in bytes
 *    12   4   number of records (puts that have their LSN)
 *    16   8   number of this block, from 0
 *    24       records
 *
 *   footer (48 bytes): a block of length 24 with 0 records, holding
 *    24   8   E: the highest LSN that the walk can have seen; the log must
 *             reach it, or the snapshot is of no use
 *    32   8   number of records in all blocks
 *    40   8   zero
 *
 * The walk is fuzzy: a block may hold anything that was true between S and E.
 * A snapshot is written as snap-<S>.tmp, synced, renamed, and the directory
 * synced.  It ends with its footer; bytes behind that do not count.
 *
 *
 * Format version 1
 *
 * has no identity and no origin: a segment's header, and the zeroes of a closed
 * log (64 bytes) and of a snapshot's header (64 bytes) end before them.  A
 * batch's header has 40 bytes, to the salt.  A record has no LSN, no metadata,
 * and is no touch; in a snapshot it has the LSN S.  A directory of version 1 is
 * read, and written on in a new segment, of version 2.
 */


#ifndef KV_FORMAT_H
#define KV_FORMAT_H


#include <inttypes.h>

#include "base/kv_base.h"


#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file formats are little-endian, and so must be the machine"
#endif


#define KV_FORMAT_VERSION   2u
#define KV_FORMAT_OLDEST    1u         /* that is read */

#define KV_SEGMENT_MAGIC    "KVLOG\r\n\032"
#define KV_CLOSED_MAGIC     "KVEND\r\n\032"
#define KV_SNAPSHOT_MAGIC   "KVSNAP\r\n"
#define KV_BATCH_MAGIC      0x4254564bu
#define KV_BLOCK_MAGIC      0x4253564bu

#define KV_SEGMENT_HEADER   4096u
#define KV_SEGMENT_MAX      (1u << 30)    /* bytes of a segment */

/* a snapshot's name but for the suffix: for printf(), with its LSN */
#define KV_SNAPSHOT_NAME    "snap-%016" PRIx64


/* no file has a higher LSN: an entry has 48 bits for that of its write */
#define KV_LSN_MAX          ((UINT64_C(1) << 48) - 1)

/* an empty file: the next start begins a new incarnation */
#define KV_RESTORED_NAME    "restored"


/* what log a segment is of */

typedef enum {
    KV_SEGMENT_PLAIN = 0,
    KV_SEGMENT_REPLICATED,
    KV_SEGMENT_RESTORED
} kv_segment_kind_t;


/* zeroes: of no store, as in version 1 */

typedef struct {
    uint64_t  store[2];
    uint64_t  incarnation;
} kv_identity_t;


typedef struct {
    char           magic[8];
    uint32_t       version;
    uint32_t       crc;
    uint64_t       size;
    uint64_t       first_lsn;
    uint64_t       salt;
    kv_identity_t  id;
    uint32_t       kind;               /* kv_segment_kind_t */
    uint32_t       zero;
} kv_segment_header_t;


/* what a batch is, in a segment of a replicated log */

typedef enum {
    KV_ENTRY_NONE = 0,                 /* a mark */
    KV_ENTRY_RECORDS,
    KV_ENTRY_BARRIER,
    KV_ENTRY_CHANGE,
    KV_ENTRY_STATE                     /* no entry */
} kv_entry_type_t;


typedef struct {
    uint32_t  magic;
    uint32_t  crc;
    uint32_t  len;
    uint32_t  count;
    uint64_t  first_lsn;
    uint64_t  durable_lsn;
    uint64_t  salt;
    uint64_t  time_ms;
    uint64_t  term;                    /* or the incarnation */
    uint64_t  index;
    uint64_t  commit_index;
    uint32_t  type;                    /* kv_entry_type_t */
    uint32_t  durable_end;
} kv_batch_header_t;

#define KV_BATCH_HEADER_1   40u        /* bytes of it in version 1 */


#define KV_MEMBERS_MAX      4096u      /* bytes of what a CHANGE holds */

typedef struct {
    uint64_t  incarnation;
    uint64_t  voted_for;
    uint64_t  index;
    uint64_t  index_term;
    uint64_t  members_index;
    uint64_t  before;
    uint32_t  len;
    uint32_t  number;
} kv_entry_state_t;

#define KV_ENTRY_STATE_MAX                                                    \
    (sizeof(kv_batch_header_t) + sizeof(kv_entry_state_t) + KV_MEMBERS_MAX)


typedef struct {
    char      magic[8];
    uint32_t  version;
    uint32_t  crc;
    uint64_t  lsn;
    uint64_t  segment_lsn;
    uint64_t  segment_salt;
    uint64_t  offset;
    kv_identity_t  id;
    uint64_t  origin;
} kv_closed_t;

#define KV_CLOSED_1         64u        /* bytes of it in version 1 */


#define KV_RECORD_EXPIRES   0x01u
#define KV_RECORD_LSN       0x02u
#define KV_RECORD_META      0x04u


typedef struct {
    uint8_t   op;
    uint8_t   flags;
    uint16_t  key_len;
    uint32_t  value_len;
} kv_record_header_t;


typedef struct {
    char      magic[8];
    uint32_t  version;
    uint32_t  crc;
    uint64_t  lsn;
    uint64_t  salt;
    uint64_t  seed[2];
    kv_identity_t  id;
    uint64_t  time_ms;
    uint64_t  term;
    uint64_t  index;
    uint32_t  zero;
    uint32_t  crc_all;
} kv_snapshot_header_t;

#define KV_SNAPSHOT_HEADER_1  64u      /* in all versions; all of it in 1 */


typedef struct {
    uint32_t  magic;
    uint32_t  crc;
    uint32_t  len;
    uint32_t  count;
    uint64_t  number;
} kv_block_header_t;


typedef struct {
    uint64_t  end_lsn;
    uint64_t  records;
    uint64_t  zero;
} kv_snapshot_footer_t;


_Static_assert(sizeof(kv_segment_header_t) == 72, "segment header");
_Static_assert(sizeof(kv_batch_header_t) == 80, "batch header");
_Static_assert(sizeof(kv_entry_state_t) == 56, "state of a replicated log");
_Static_assert(sizeof(kv_closed_t) == 80, "closed log");
_Static_assert(sizeof(kv_record_header_t) == 8, "record header");
_Static_assert(sizeof(kv_snapshot_header_t) == 104, "snapshot header");
_Static_assert(sizeof(kv_block_header_t) == 24, "block header");
_Static_assert(sizeof(kv_snapshot_footer_t) == 24, "snapshot footer");


#endif /* KV_FORMAT_H */
