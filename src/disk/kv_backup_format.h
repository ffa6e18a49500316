
/*
 * A backup, byte by byte: one file that is whole by itself.  Format version 1.
 *
 * It holds files of a data directory as they are there (kv_format.h), so that
 * to restore it is to write them back, but for the store that they name (see
 * kv_backup_identity.c).  Numbers are little-endian, and every part is a
 * multiple of 8 bytes.
 *
 *
 * Header (96 bytes)
 *
 *     0   8   magic "KVBACK\r\n"
 *     8   4   format version, 1
 *    12   4   CRC32C of these 96 bytes, these 4 taken as zeroes
 *    16  24   identity of the store, as it was then
 *    40   8   S, of the snapshot in it; 0: there is none
 *    48   8   L: the last LSN in it, with which a batch ended
 *    56   8   the store's time when it was begun, milliseconds since the epoch
 *    64   8   size of the whole file
 *    72   4   number of parts
 *    76  20   zeroes
 *
 *
 * Part
 *
 *     0   4   magic 0x5042564b ("KVBP")
 *     4   4   CRC32C of the part's header from byte 8 on
 *     8   4   kind: 1 snapshot, 2 segment, 3 end
 *    12   4   zeroes
 *    16   8   LSN that is in the file's name; of the end, L
 *    24   8   length n
 *    32   n   of a file: its bytes, from the first on
 *
 * The parts stand in this order:
 *
 *   - the snapshot S, if there is one, to the end of its footer;
 *   - the segments that hold the LSNs from S + 1 to L, by LSN: each to the end
 *     of its last batch, the last one to the end of the batch that ends with L.
 *     What follows there, up to the size that the segment's header names, is
 *     zeroes in the restored file;
 *   - the end, of 32 bytes: the SHA-256 of all bytes before them.  The file
 *     ends with it.
 *
 * So a file that was cut off, or is not as it was sent, is told from a whole
 * one, whatever its bytes; and where the digest was written down, also from one
 * that was made to look whole.
 *
 * Why it is consistent: all up to S is in the snapshot; the log from S + 1 on
 * puts right what its walk has seen too new, and reaches its E, for L is not
 * below that.  A batch is in it as a whole, or not at all.
 */


#ifndef KV_BACKUP_FORMAT_H
#define KV_BACKUP_FORMAT_H


#include "disk/kv_format.h"


#define KV_BACKUP_VERSION     1u

#define KV_BACKUP_MAGIC       "KVBACK\r\n"
#define KV_BACKUP_PART_MAGIC  0x5042564bu

#define KV_BACKUP_DIGEST      32u         /* bytes */

#define KV_BACKUP_PARTS_MAX   (1u << 20)  /* in a file */


typedef enum {
    KV_BACKUP_SNAPSHOT = 1,
    KV_BACKUP_SEGMENT = 2,
    KV_BACKUP_END = 3
} kv_backup_kind_t;


typedef struct {
    char           magic[8];
    uint32_t       version;
    uint32_t       crc;
    kv_identity_t  id;
    uint64_t       snapshot_lsn;
    uint64_t       lsn;
    uint64_t       time_ms;
    uint64_t       bytes;
    uint32_t       parts;
    uint32_t       zero[5];
} kv_backup_header_t;


typedef struct {
    uint32_t       magic;
    uint32_t       crc;
    uint32_t       kind;
    uint32_t       zero;
    uint64_t       lsn;
    uint64_t       len;
} kv_backup_part_t;


_Static_assert(sizeof(kv_backup_header_t) == 96, "backup header");
_Static_assert(sizeof(kv_backup_part_t) == 32, "part of a backup");


#endif /* KV_BACKUP_FORMAT_H */
