
/*
 * Writes that depend on what is there, decided in the order of the log:
 * conditions, increments, deletes that return what they delete.
 *
 * Such a write is decided when its operation's turn for the batch comes:
 * against the map, and what the same batch has decided before.  All writes that
 * come first are known then, and none can come in between, so of several writes
 * with the same condition one is done, and no increment is lost.  The log gets
 * what was decided: replay decides nothing.
 */


#ifndef KV_DECIDE_H
#define KV_DECIDE_H


#include "store/kv_zone.h"


/* the most operations that a batch has: see kv_batch.h */
#define KV_DECIDE_MAX    1024u


/*
 * Which keys the batch has changed: a hash table with linear probing, filled
 * once the batch has a condition to decide.  In the committer's own memory.
 */

typedef struct {
    uint64_t   now;                    /* what expires then is gone */
    unsigned   n;                      /* operations in it, or before a clear */
    unsigned   cleared;                /* the batch has cleared the map */
    unsigned   ready;                  /* the cells are of this batch */
    uint64_t   hash[KV_DECIDE_MAX];    /* of operation i's key */
    uint16_t   cell[2 * KV_DECIDE_MAX];  /* 1 + i; 0: free */

    /* a touch: whose entry has the value, as above; 0: the map's */
    uint16_t   value[KV_DECIDE_MAX];
} kv_decide_t;


/* What a key has behind the operations of a batch. */

typedef struct {
    uint64_t     lsn;                  /* of its value; 0: it has none */
    uint64_t     expires;              /* ms; 0: never */
    kv_entry_t  *e;                    /* with the value */
} kv_decided_t;


/* A batch begins, at the time that kv_clock_begin() says. */
static inline void
kv_decide_begin(kv_decide_t *d, uint64_t now)
{
    d->now = now;
    d->n = 0;
    d->cleared = 0;
    d->ready = 0;
}

/* Whether it depends on what is there; if not, it is always done. */
static inline bool
kv_decide_depends(const kv_op_t *op)
{
    return op->code == KV_OP_INCR || op->code == KV_OP_TOUCH
           || (op->flags & (KV_OP_IF|KV_OP_RETURN));
}

/*
 * Decides `op` behind the batch's first `n` operations, which will have the
 * next LSNs of the log; once more for one that got no place in it.  With the
 * commit lock held.  KV_OK: it is to be done; its entry has the sum now
 * (KV_OP_INCR), or is a copy of the value, if that is in no pieces
 * (KV_OP_RETURN).  Else it is not, and this is its own result, for the
 * committer to report with the batch:
 *
 *     KV_PRECONDITION    its condition is false
 *     KV_NOT_INTEGER     it adds to what is no number,
 *     KV_OVERFLOW        or the sum has more than 64 bits
 *     KV_NOT_FOUND       there is nothing to return, or to touch
 *     KV_NO_MEMORY       there is none for the copy
 *     KV_DEAD            the heap broke
 *
 * With the first three, and of a touch that is done, op->found is the LSN of
 * the key's value, or 0, in the place of op->follow, which the caller has read
 * before.
 */
kv_rc_t kv_decide(kv_zone_t *zone, kv_decide_t *d, kv_op_t *const *batch,
    unsigned n, kv_op_t *op);


#endif /* KV_DECIDE_H */
