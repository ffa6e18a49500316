
/*
 * The log read while it grows, by a process that holds no lock and changes
 * nothing: what a tool shows of a directory in use.
 *
 * A committer that dies leaves batches which the next one writes over, with
 * other records for the same LSNs.  So of a log in use only what a later batch,
 * or a mark, says was durable is given: that stays as it is.
 */


#ifndef KV_WAL_TAIL_H
#define KV_WAL_TAIL_H


#include "disk/kv_wal.h"


typedef struct kv_wal_tail_s  kv_wal_tail_t;


/*
 * Begins with the LSN from->after + 1, or with the first that is there.  Of
 * *from, which is copied, it uses after, record, batch, warn and ctx.  With
 * `all` the last batches are given even if nothing says that they were durable:
 * for a log that no process writes.  `io` and the descriptor stay the caller's.
 * NULL: out of memory.
 */
kv_wal_tail_t *kv_wal_tail_create(kv_io_t *io, int dirfd,
    const kv_wal_replay_t *from, bool all);

void kv_wal_tail_destroy(kv_wal_tail_t *tail);

/*
 * Gives all that has come since the last call.  KV_OK, also if that is nothing.
 * KV_NOT_FOUND: the records up to *next - 1 are gone, as they were recycled
 * before they were read; the next call goes on with *next.  KV_DAMAGED or
 * KV_ERROR, `err` filled; or what from->record returned.
 */
kv_rc_t kv_wal_tail_read(kv_wal_tail_t *tail, uint64_t *next, kv_err_t *err);


#endif /* KV_WAL_TAIL_H */
