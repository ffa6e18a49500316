
/*
 * A replicated log, of a store with conf.cluster: each batch is an entry of it,
 * and passes the engine of src/raft, in the process that holds the commit lock.
 *
 * Here the cluster has one node, which leads it alone; kv_member.h is for one
 * that has peers.  So all entries in the log are committed, and the map is the
 * state after the last of them: the engine starts from there as from a
 * snapshot, with no entries.
 *
 * A process opens the engine before its first batch, a host as soon as it has
 * the claim, and again if another one has done so meanwhile.  The node then
 * leads in a term of its own: the log gets a vote and a barrier, which are
 * synced.
 *
 * Without the library that the engine is, KV_HAVE_RAFT is not defined, and
 * conf.cluster must be NULL.
 */


#ifndef KV_REPLICA_H
#define KV_REPLICA_H


#include "store/kv_handle.h"


#if KV_HAVE_RAFT

static inline bool
kv_replicates(const kv_store_t *store)
{
    return store->conf.cluster != NULL;
}

/*
 * Has this process lead, if it does not: before kv_wal_begin().  Results as
 * those of kv_wal_write().
 */
kv_rc_t kv_replica_begin(kv_store_t *store, kv_err_t *err);

/*
 * Writes the batch that store->wal has built, as kv_wal_write() does, with the
 * same results; after KV_ERROR it may be in the log.
 */
kv_rc_t kv_replica_write(kv_store_t *store, kv_err_t *err);

/*
 * What was written is as durable as its writers want it: commits it.  KV_OK, or
 * KV_ERROR, `err` filled, never to be tried again.
 */
kv_rc_t kv_replica_commit(kv_store_t *store, kv_err_t *err);

/*
 * After the log was read: whether this version can go on with its cluster.
 * KV_OK, or KV_ERROR, `err` filled.
 */
kv_rc_t kv_replica_check(kv_store_t *store, kv_err_t *err);

/* Closes the engine of this process, if it has one. */
void kv_replica_close(kv_store_t *store);

/* Operations of the log were applied: notes it in the zone if all are. */
void kv_replica_applied(kv_store_t *store);

#else

static inline bool
kv_replicates(const kv_store_t *store)
{
    (void) store;

    return false;
}

static inline kv_rc_t
kv_replica_begin(kv_store_t *store, kv_err_t *err)
{
    (void) store;
    (void) err;

    return KV_OK;
}

static inline kv_rc_t
kv_replica_write(kv_store_t *store, kv_err_t *err)
{
    return kv_wal_write(store->wal, err);
}

static inline kv_rc_t
kv_replica_commit(kv_store_t *store, kv_err_t *err)
{
    (void) store;
    (void) err;

    return KV_OK;
}

static inline kv_rc_t
kv_replica_check(kv_store_t *store, kv_err_t *err)
{
    (void) store;
    (void) err;

    return KV_OK;
}

static inline void
kv_replica_close(kv_store_t *store)
{
    (void) store;
}

static inline void
kv_replica_applied(kv_store_t *store)
{
    (void) store;
}

#endif


/*
 * The last entry that is applied, for a snapshot that is begun afterwards: its
 * index and its term, or zeroes where they just change, or there is none.  Any
 * process.
 */
static inline void
kv_replica_last(kv_zone_t *zone, uint64_t *index, uint64_t *term)
{
    *index = atomic_load(&zone->applied_index);
    *term = atomic_load(&zone->applied_term);

    if (*index == 0 || *index != atomic_load(&zone->applied_index)) {
        *index = 0;
        *term = 0;
    }
}


#endif /* KV_REPLICA_H */
