
/*
 * Keeping an archive of the log and the snapshots (disk/kv_archive.h).  With
 * the background lock held.
 *
 * What gives first.  Full segments that are not in the archive yet, because its
 * disk is full or gone, are kept by the store, up to what archive_hold= says,
 * and as long as its own disk has space; then writes come first: the log is
 * given up as without an archive, which has a gap then.  That is logged,
 * counted, and noted in the archive when it arises.  A restore needs the next
 * snapshot then.
 */


#ifndef KV_BACKGROUND_ARCHIVE_H
#define KV_BACKGROUND_ARCHIVE_H


#include "store/kv_handle.h"


/* Puts there what is not there yet.  Failures are logged, once a minute. */
void kv_background_archive(kv_store_t *store);

/*
 * Up to which LSN the log may be given up, as far as the archive is concerned;
 * UINT64_MAX: all of it.  `full`: the store's disk is full.
 */
uint64_t kv_background_archived(kv_store_t *store, bool full);


#endif /* KV_BACKGROUND_ARCHIVE_H */
