
/*
 * The entries of a replicated log, read back by their index: for the engine,
 * which is given at its start what is not yet committed, and for a node that
 * lags.  No lock is held; but the log must not be cut back meanwhile
 * (kv_wal_truncate()).
 */


#ifndef KV_WAL_ENTRIES_H
#define KV_WAL_ENTRIES_H


#include "disk/kv_wal.h"


typedef struct kv_wal_entries_s  kv_wal_entries_t;


/*
 * Gets an entry.  Of KV_ENTRY_RECORDS, `data` are its records, `count` of them,
 * and `lsn` is that of the first; of others `data` are as they were written,
 * filled up with zeroes, and `lsn` is the next one.  Good until it returns;
 * any result but KV_OK ends the reading.
 */
typedef kv_rc_t (*kv_wal_entry_pt)(void *ctx, const kv_wal_entry_t *e,
    uint64_t lsn, uint32_t count, const void *data, size_t len);


/*
 * A reader, which remembers where it was: what follows on that is found at
 * once.  `io` and the directory's descriptor stay the caller's, and must
 * outlive it.  NULL: out of memory.  Not for two threads at once.
 */
kv_wal_entries_t *kv_wal_entries_create(kv_io_t *io, int dirfd);
void kv_wal_entries_destroy(kv_wal_entries_t *entries);

/*
 * Gives the entries from `first` on to the one before `end`, all of which are
 * written: end is at most state->replica.index + 1.  *before, if it is not
 * NULL, is what the log was before the first of them; it is filled before
 * anything is given, also where first == end.  It does file I/O.
 *
 * KV_OK; KV_NOT_FOUND: they are not all in the log any more, as its segments
 * were given up, and the first is not given; KV_DAMAGED or KV_ERROR, `err`
 * filled; or what `give` returned.
 */
kv_rc_t kv_wal_entries_read(kv_wal_entries_t *entries, uint64_t first,
    uint64_t end, kv_wal_final_t *before, kv_wal_entry_pt give, void *ctx,
    kv_err_t *err);


#endif /* KV_WAL_ENTRIES_H */
