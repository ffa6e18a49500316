
/*
 * An entry of the replicated log.
 *
 * It never changes, and is shared by all who need it: the log's tail in memory,
 * a write that waits for the disk, messages to peers.  Each holds a reference.
 * The engine gets entries only to look at: what it would free is a token of a
 * few bytes (kv_raft.c), so it owns no memory of an entry.
 *
 * One thread, the one that runs the engine, makes, holds and drops entries.
 * Others may read one while that thread holds it for them.
 *
 * Memory that cannot be allocated ends the process, here and in the other files
 * of this folder: it is one of its own, and starts again from the disk.
 */


#ifndef KV_RAFT_ENTRY_H
#define KV_RAFT_ENTRY_H


#include "base/kv_base.h"

#include <raft.h>
#include <stdlib.h>


/* Who owns what differs between its versions. */

_Static_assert(RAFT_VERSION_NUMBER == 2201,
               "src/raft is written for libraft 0.22.1");


/* Members of a cluster at most. */
#define KV_RAFT_MEMBERS  32


typedef struct {
    uint64_t        term;
    unsigned        refs;
    unsigned        type;            /* enum raft_entry_type */
    size_t          len;
    unsigned char   data[];
} kv_raft_entry_t;


typedef struct {
    uint64_t        id;              /* not 0 */
    int             role;            /* RAFT_VOTER, RAFT_STANDBY, RAFT_SPARE */
    const char     *address;
} kv_raft_member_t;


/* Memory that is there. */
void *kv_raft_alloc(size_t size);

/* A new entry with one reference, the caller's; copies `len` bytes of data. */
kv_raft_entry_t *kv_raft_entry_make(uint64_t term, unsigned type,
    const void *data, size_t len);

/* One reference more; returns the entry. */
kv_raft_entry_t *kv_raft_entry_hold(kv_raft_entry_t *e);

/* One less; the last one frees the entry.  NULL is no entry. */
void kv_raft_entry_drop(kv_raft_entry_t *e);


/*
 * A configuration as an entry, RAFT_CHANGE, of the term: the first entry of a
 * new cluster, and each change.  One reference, the caller's.
 */
kv_raft_entry_t *kv_raft_conf_make(uint64_t term,
    const struct raft_configuration *conf);
kv_raft_entry_t *kv_raft_conf_members(uint64_t term,
    const kv_raft_member_t *members, unsigned n);

/*
 * The configuration of such an entry, in memory that raft_configuration_close()
 * frees, or that the engine takes over.  KV_DAMAGED: it is none.
 */
kv_rc_t kv_raft_conf_read(const kv_raft_entry_t *e,
    struct raft_configuration *conf);

/* Whether there is one: KV_OK, KV_DAMAGED. */
kv_rc_t kv_raft_conf_check(const kv_raft_entry_t *e);


/* How many members vote, and whether this one is the only one. */
unsigned kv_raft_voters(const struct raft_configuration *conf);
bool kv_raft_is_alone(const struct raft_configuration *conf, uint64_t id);


#endif /* KV_RAFT_ENTRY_H */
