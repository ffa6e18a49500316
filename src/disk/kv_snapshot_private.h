
/*
 * What the files of the snapshots share: kv_snapshot_write.c writes one,
 * kv_snapshot_read.c reads it back, kv_snapshot_files.c names, finds and
 * deletes them.
 */


#ifndef KV_SNAPSHOT_PRIVATE_H
#define KV_SNAPSHOT_PRIVATE_H


#include "disk/kv_snapshot.h"


#define KV_BLOCK_SIZE     (1u << 20)    /* bytes, its header included */

#define KV_SNAPSHOT_ALONE ".alone"      /* a suffix: see kv_format.h */


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
