
/*
 * Deleting keys that have expired.
 *
 * For readers, and for what is decided, a key is gone as soon as it expires
 * (kv_clock.h).  The committer frees its memory later, a bounded number of keys
 * between two rounds, so that no write waits long for it.  It deletes them
 * through the log, by batches of their own: so replay, and all else that
 * follows the log, sees one order.  No client waits for such a batch, and it is
 * synced with the next one, or within KV_EXPIRE_SYNC; if it is lost, its keys
 * are deleted once more.
 *
 * While writes are refused, as on a full disk, nothing is deleted: what the log
 * has in reserve then is for the deletes of clients.
 */


#ifndef KV_EXPIRE_H
#define KV_EXPIRE_H


#include "store/kv_batch.h"


/* milliseconds within which a delete of an expired key is durable */
#define KV_EXPIRE_SYNC   1000u


/*
 * Between two rounds: deletes the next expired keys, if some are due.  Whether
 * more are.  With the commit lock held.
 */
bool kv_expire_between(kv_store_t *store, kv_batch_t *batch);

/*
 * The steps of that, for who has other ways to write it.  Builds a batch of the
 * deletes of keys that have expired at `now`, in store->wal: how many.  *more:
 * it took so many steps that the next call goes on with it.
 */
unsigned kv_expire_build(kv_store_t *store, kv_batch_t *batch, uint64_t now,
    bool *more);

/*
 * Deletes the `n` keys in batch->expired, for whose retiring there is memory;
 * the last delete has that LSN.  False: the heap broke.
 */
bool kv_expire_apply(kv_store_t *store, kv_batch_t *batch, unsigned n,
    uint64_t lsn);

/*
 * In a takeover, when all operations in the log are applied: what the log has
 * behind them are the deletes of a dead committer, which are done now.  False:
 * the heap broke, or they are not what is due.
 */
bool kv_expire_take_over(kv_store_t *store, kv_batch_t *batch);


#endif /* KV_EXPIRE_H */
