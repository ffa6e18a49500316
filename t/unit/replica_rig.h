
/*
 * A replicated log on the log's rig (wal_rig.h), and a model of its entries,
 * which each replay compares.
 */


#ifndef REPLICA_RIG_H
#define REPLICA_RIG_H


#include "wal_rig.h"


/* cmocka's: *ctx is a wal_t with a replicated log, of term 0. */
int replica_setup(void **ctx);

/* The log is begun anew, without anything. */
void replica_open(wal_t *t);

/* kv_wal_put_vote() and kv_wal_put_entry() through t->log, which succeed. */
void replica_vote(wal_t *t, uint64_t term, uint64_t voted_for);
void replica_entry(wal_t *t, kv_entry_type_t type, const char *data);

/* The latter, in any case: returns what it did. */
kv_rc_t replica_try(wal_t *t, kv_entry_type_t type, const char *data);

/* The LSN that the entry begins with. */
uint64_t replica_lsn(uint64_t index);

/* n records with values of `len` bytes, as one entry; and in any case. */
void replica_write(wal_t *t, unsigned n, size_t len);
kv_rc_t replica_try_write(wal_t *t, unsigned n, size_t len);

/* Reads the log anew: what it knows of itself is what it was. */
void replica_same(wal_t *t, uint64_t last);


#endif /* REPLICA_RIG_H */
