
/*
 * What is on disk, byte by byte.  Format version 1.
 *
 * All numbers are little-endian.  Every part is a multiple of 8 bytes, filled
 * up with zeroes.  LSNs (log sequence numbers) count operations from 1,
 * without gaps.
 *
 *
 * The data directory
 *
 *     kv.lock                   flock()ed by the master that serves it; holds
 *                               its pid, for people
 *     log-<LSN>.kvl             a log segment, named by its first LSN
 *     log-<LSN>.closed          the log was closed at a clean stop, and ends
 *                               with this LSN; deleted before more is written
 *     snap-<LSN>.kvs            a snapshot, named by the LSN S that replay
 *                               continues after
 *     spare-<n>.kvl             a segment to be, preallocated or recycled
 *     *.tmp                     not finished: deleted at start
 *     snap-<LSN>.kvs.damaged    a snapshot that was found damaged: for people,
 *                               never read; two are kept, none on a full disk
 *     snap-<LSN>.alone          put there by people: that snapshot stands for
 *                               the state at its E, though the log up to
 *                               there is lost; deleted with the snapshot
 *
 * <LSN> is 16 lower-case hexadecimal digits.
 *
 *
 * Segment header (4096 bytes at offset 0; zeroes after the fields)
 *
 *     0   8   magic "KVLOG\r\n\032"
 *     8   4   format version, 1
 *    12   4   CRC32C of the 4096 bytes, these 4 taken as zeroes
 *    16   8   size of the file; it never changes afterwards
 *    24   8   first LSN
 *    32   8   salt: random, new whenever the file is put to use
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
 *    40       records
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
 * Closed log (64 bytes)
 *
 *     0   8   magic "KVEND\r\n\032"
 *     8   4   format version, 1
 *    12   4   CRC32C of these 64 bytes, these 4 taken as zeroes
 *    16   8   the last LSN of the log, which is durable up to it
 *    24   8   first LSN of the segment that it ends in
 *    32   8   salt of that segment
 *    40   8   offset in it where the log ends: where the next batch would go
 *    48  16   zeroes
 *
 * Written as log-<LSN>.tmp, synced, renamed, and the directory synced, when
 * all workers are gone and the log is synced.  The committer deletes it, and
 * syncs the directory, before the next batch is written; if it cannot delete
 * it, it begins a new segment, so that an old end never passes for the present
 * one.  That the log was durable up to that LSN stays true whatever comes after
 * it.
 *
 *
 * Record
 *
 *     0   1   operation: 1 put, 2 delete, 3 clear
 *     1   1   flags: 1 = an expiry follows the header; others are zero
 *     2   2   length of the key
 *     4   4   length of the value
 *     8  (8)  expiry, milliseconds since the epoch, if the flag says so
 *             key, value, zeroes up to a multiple of 8
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
 * After such an end, valid batches may still lie behind the gap (with
 * sync=<interval> several are in flight).  They must not come to life when
 * new ones fill it, so the log then continues in a new segment, with
 * a new salt.
 *
 *
 * Snapshot
 *
 *   header (64 bytes)
 *     0   8   magic "KVSNAP\r\n"
 *     8   4   format version, 1
 *    12   4   CRC32C of these 64 bytes, these 4 taken as zeroes
 *    16   8   S: replay continues with S + 1
 *    24   8   salt
 *    32  16   seed of the map's hash, in whose order the records are: a map
 *             made with it is filled from its first bucket to its last.
 *             Zeroes: not known
 *    48  16   zeroes
 *
 *   blocks, one after the other
 *     0   4   magic 0x4253564b ("KVSB")
 *     4   4   CRC32C of the salt, then of the block from byte 8 on
 *     8   4   length of the records in bytes
 *    12   4   number of records (puts)
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
 */


#ifndef KV_FORMAT_H
#define KV_FORMAT_H


#include <inttypes.h>

#include "base/kv_base.h"


#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file formats are little-endian, and so must be the machine"
#endif


#define KV_FORMAT_VERSION   1u

#define KV_SEGMENT_MAGIC    "KVLOG\r\n\032"
#define KV_CLOSED_MAGIC     "KVEND\r\n\032"
#define KV_SNAPSHOT_MAGIC   "KVSNAP\r\n"
#define KV_BATCH_MAGIC      0x4254564bu
#define KV_BLOCK_MAGIC      0x4253564bu

/* no file has a higher LSN, so an LSN and a count of records can be added */
#define KV_LSN_MAX          (UINT64_MAX / 2)

#define KV_SEGMENT_HEADER   4096u
#define KV_SEGMENT_MAX      (1u << 30)    /* bytes of a segment */

/* a snapshot's name but for the suffix: for printf(), with its LSN */
#define KV_SNAPSHOT_NAME    "snap-%016" PRIx64


typedef struct {
    char      magic[8];
    uint32_t  version;
    uint32_t  crc;
    uint64_t  size;
    uint64_t  first_lsn;
    uint64_t  salt;
} kv_segment_header_t;


typedef struct {
    uint32_t  magic;
    uint32_t  crc;
    uint32_t  len;
    uint32_t  count;
    uint64_t  first_lsn;
    uint64_t  durable_lsn;
    uint64_t  salt;
} kv_batch_header_t;


typedef struct {
    char      magic[8];
    uint32_t  version;
    uint32_t  crc;
    uint64_t  lsn;
    uint64_t  segment_lsn;
    uint64_t  segment_salt;
    uint64_t  offset;
    uint8_t   zero[16];
} kv_closed_t;


#define KV_RECORD_EXPIRES   0x01u


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
    uint8_t   zero[16];
} kv_snapshot_header_t;


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


_Static_assert(sizeof(kv_segment_header_t) == 40, "segment header");
_Static_assert(sizeof(kv_batch_header_t) == 40, "batch header");
_Static_assert(sizeof(kv_closed_t) == 64, "closed log");
_Static_assert(sizeof(kv_record_header_t) == 8, "record header");
_Static_assert(sizeof(kv_snapshot_header_t) == 64, "snapshot header");
_Static_assert(sizeof(kv_block_header_t) == 24, "block header");
_Static_assert(sizeof(kv_snapshot_footer_t) == 24, "snapshot footer");


#endif /* KV_FORMAT_H */
