
/*
 * Reads that wait for a change of their key.
 *
 * A worker keeps its waiters (kv_waiter_t) in its own memory, in a hash table
 * by key.  In the zone it shows which keys they are about, and how many they
 * are: worker->awaited is a Bloom filter of their hashes.  When a batch is
 * applied, the committer looks for each changed key in the filter of every
 * worker that has waiters.  Where it finds it, it puts the key's hash into that
 * worker's ring, and wakes the worker, which looks up the waiters of the hash.
 * So workers sleep while others' keys are written; in a zone of 128m or more
 * the filter is wrong about one key in a hundred while a worker waits for
 * 10,000.
 *
 * A ring that is full, a clear and a rebuild are told by one flag: every key
 * may have changed.
 *
 * No change is missed.  The worker first shows the key, then reads its value;
 * the committer first changes the map, then looks for the key; and each makes a
 * full fence in between.  So the worker reads the new value, or the committer
 * sees the key, or both.  If the committer dies in between, its successor sets
 * the flag of all workers (kv_takeover.c).
 */


#ifndef KV_AWAIT_H
#define KV_AWAIT_H


#include "store/kv_handle.h"


/* How many changes are told one by one; more of them are told by the flag. */
#define KV_CHANGES_TOLD  1024u


/* The keys that a batch changes; in the committer's own memory. */

typedef struct {
    unsigned   n;
    bool       all;                        /* any key, or more than fit */
    uint64_t   hash[KV_CHANGES_TOLD];
} kv_changes_t;


static inline void
kv_changes_begin(kv_changes_t *changes)
{
    changes->n = 0;
    changes->all = false;
}


static inline void
kv_changes_add(kv_changes_t *changes, uint64_t hash)
{
    if (changes->n < KV_CHANGES_TOLD) {
        changes->hash[changes->n++] = hash;

    } else {
        changes->all = true;
    }
}


static inline void
kv_changes_add_all(kv_changes_t *changes)
{
    changes->all = true;
}


/*
 * The bytes of the filters of all workers, in a zone of `size` bytes; and their
 * setup at `mem`, once the workers are made.
 */
size_t kv_await_filters_size(size_t size, unsigned workers);
void kv_await_filters_create(kv_zone_t *zone, void *mem);

/*
 * Tells the workers that wait for one of the changes, which readers can see
 * already; wake[i] = 1: the caller must wake worker i.  With the commit lock
 * held.
 */
void kv_await_tell(kv_zone_t *zone, const kv_changes_t *changes,
    uint8_t *wake);

/*
 * The same for changes that nobody has noted: any key may be another now.  The
 * caller must wake all workers.
 */
void kv_await_tell_all(kv_zone_t *zone);

/* How many waiters the workers have. */
uint64_t kv_await_count(kv_zone_t *zone);

/* The process gives its place up: forgets all waiters, and watchers. */
void kv_await_leave(kv_store_t *store);

/*
 * Has a hash be in the process's filter until kv_await_hide(), which is called
 * as often.  KV_OK, KV_NO_MEMORY (of the process), KV_UNAVAILABLE: it has no
 * kv_worker_t.
 */
kv_rc_t kv_await_show(kv_store_t *store, uint64_t hash);
void kv_await_hide(kv_store_t *store, uint64_t hash);

/* Whether a worker's filter may have a hash.  Any process. */
bool kv_await_has(const kv_worker_t *worker, uint64_t hash);


#endif /* KV_AWAIT_H */
