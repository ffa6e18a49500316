
/*
 * What the files of the snapshots share: kv_snapshot_write.c writes one,
 * kv_snapshot_read.c reads it back, kv_snapshot_files.c names, finds and
 * deletes them.
 */


#ifndef KV_SNAPSHOT_PRIVATE_H
#define KV_SNAPSHOT_PRIVATE_H


#include "base/kv_crc32c.h"
#include "disk/kv_snapshot.h"


#define KV_BLOCK_SIZE     (1u << 20)    /* bytes, its header included */

#define KV_SNAPSHOT_ALONE ".alone"      /* a suffix: see kv_format.h */


/* Checksums of a header: of what all versions have; of all before the last. */

static inline uint32_t
kv_snapshot_crc(kv_snapshot_header_t h)
{
    h.crc = 0;

    return kv_crc32c(0, &h, KV_SNAPSHOT_HEADER_1);
}


static inline uint32_t
kv_snapshot_crc_all(const kv_snapshot_header_t *h)
{
    return kv_crc32c(0, h, offsetof(kv_snapshot_header_t, crc_all));
}


/* Writes snap-<lsn> and the suffix to `name`, of KV_NAME_MAX bytes. */
void kv_snapshot_name(char *name, uint64_t lsn, const char *suffix);

/*
 * Fills `err` for the call that has just failed: "cannot <what> "<name>" at
 * offset <offset>" (-1: no offset), and what the operator can do.  KV_NO_SPACE
 * or KV_ERROR, after errno, which stays.
 */
kv_rc_t kv_snapshot_failed(const char *what, const char *name, int64_t offset,
    kv_err_t *err);


#endif /* KV_SNAPSHOT_PRIVATE_H */
