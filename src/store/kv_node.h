
/*
 * What this node of a cluster is, as its host says it (kv_host.h), and any
 * process of the store reads it: zone->node.
 *
 * It is there twice.  The writer fills the copy that does not count, and then
 * says that it counts, by `published`.  So a writer that is killed meanwhile
 * leaves what counted before, and no reader waits for one.  A reader whose copy
 * was being written anew finds `published` changed, and reads the other one.
 */


#ifndef KV_NODE_H
#define KV_NODE_H


#include "store/kv_store.h"


typedef struct {
    _Atomic uint64_t  role;           /* kv_role_t */
    _Atomic uint64_t  term;
    _Atomic uint64_t  until_ns;       /* monotonic; 0: for good */
    _Atomic uint64_t  leader[(KV_ADDRESS_MAX + 1) / 8];
                                      /* an address with zeroes behind it */
} kv_node_copy_t;


/* zeroes: a follower, in no term, that knows no leader */

typedef struct {
    _Atomic uint64_t  published;      /* how often; copy[it % 2] counts */
    kv_node_copy_t    copy[2];
} kv_node_t;


/*
 * Publishes what the node is: its role and term, and the leader's address, of
 * at most KV_ADDRESS_MAX bytes, by which clients reach it: its own if it leads;
 * NULL: it knows of none.
 *
 * It counts until `until_ns`, monotonic, or, with 0, until the next call.  When
 * that time is over the node knows of no leader, and is none: so a host that
 * stands still does not have workers answer in its name for longer than the
 * others wait before they elect another.
 *
 * Only the process that has the claim of the committer calls it.
 */
void kv_node_publish(kv_node_t *node, kv_role_t role, uint64_t term,
    const char *leader, uint64_t until_ns);

/* What counts at the time `now_ns`, of one publication.  Any process. */
void kv_node_read(const kv_node_t *node, uint64_t now_ns,
    kv_cluster_info_t *info);

/*
 * Whether the node leads at that time.  Cheaper than kv_node_read(), for each
 * request.  Any process.
 */
bool kv_node_leads(const kv_node_t *node, uint64_t now_ns);


#endif /* KV_NODE_H */
