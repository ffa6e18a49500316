
/*
 * The inside of a process's handle, for the files of this folder and for tests.
 */


#ifndef KV_STORE_PRIVATE_H
#define KV_STORE_PRIVATE_H


#include "store/kv_state.h"
#include "store/kv_store.h"


/*
 * What a log's handle was made for, from the zone: the largest value that may
 * be in the queue, and the size of new segments.
 */

typedef struct {
    uint32_t        max_value;
    uint64_t        segment;
} kv_store_sizes_t;


typedef struct kv_await_s  kv_await_t;    /* kv_await.c */
typedef struct kv_replica_s  kv_replica_t;  /* kv_replica.c */


struct kv_store_s {
    kv_store_conf_t         conf;
    kv_zone_t              *zone;
    kv_io_t                *io;
    int                     dirfd;
    kv_wal_t               *wal;          /* under the commit lock */
    kv_wal_state_t         *drafts;       /* it is not of the zone's log, but
                                             of this: see kv_member.c; NULL */
    kv_store_sizes_t        wal_sizes;
    kv_wal_t               *background;   /* under the background lock */
    kv_store_sizes_t        background_sizes;

    const int              *wakes;        /* kv_store_wakes() */
    unsigned                nwakes;
    unsigned                wake;         /* this process's number */

    kv_worker_t            *worker;       /* NULL: none */
    unsigned                number;
    uint64_t                generation;
    kv_op_t                *free;         /* records, linked by next */
    unsigned                nfree;
    unsigned                nchunks;      /* of its kv_worker_t, or 0 */
    uint32_t                ticket;       /* the last one given */
    kv_await_t             *await;        /* NULL: nothing waits */
    uint32_t                watched[32];  /* watchers, by worker->watched's
                                             bits */
    void                   *batch;        /* kv_batch_t; commit lock */
    kv_replica_t           *replica;      /* NULL: none; commit lock */

    volatile sig_atomic_t   stop;         /* threads: come to an end soon */
    bool                    hosts;        /* in kv_store_host() */
};


/* Whether the process may read what is in the zone. */

static inline bool
kv_store_ready(kv_store_t *store)
{
    return store->worker
           && kv_state_reads(store->zone)
           && store->generation
              == atomic_load_explicit(&store->zone->generation,
                                      memory_order_acquire);
}


#endif /* KV_STORE_PRIVATE_H */
