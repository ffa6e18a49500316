
/*
 * Groups: operations that are done all or not at all, and become visible as
 * one.
 *
 *
 * All or nothing
 *
 * A group is a record of its own (KV_OP_GROUP), to which those of its
 * operations, its members, are linked.  The group alone is in the queue, so it
 * is there whole, or not.  The committer takes the members into one batch of
 * the log, with LSNs that follow each other, or refuses the group: each member
 * is decided against the map and what comes before it (kv_decide.h), and the
 * first that is not to be done refuses all.  A batch is in the log whole or not
 * at all, and so it is replayed.  A member's result is not told by its own
 * state, but by the group's, which is one store.  So a committer that takes
 * over finds a group whole: in the log, or not, and then it is decided again.
 *
 *
 * Visible as one
 *
 * While the committer applies a group, zone->groups says so, and which LSN its
 * first member has.  A reader looks up the key first, and then at that word.
 * If it has found an entry of the group, or nothing, which may be the group's
 * doing, and the group is still being applied, it must not tell, and tries
 * again (KV_AGAIN): by then it is as if nothing of the group had happened yet.
 * An older entry it may tell of: it has read before the group.  Nobody has seen
 * anything of the group before the word is reset, and after that all of it is
 * there to find.
 *
 * A touch does not change an entry's LSN, so while a group with a touch is
 * applied, readers tell of nothing.  A list, which finds keys in the index and
 * then in the map, tells only of those that it has found while no group was
 * applied at all.
 *
 * A reader that cannot come back gets what there was before the group.  The
 * committer looks that up before it changes anything, and leaves it in a hash
 * table, zone->before.  Until the group is visible nothing is freed
 * (kv_epoch_pause()), so a reader that is in an epoch and finds the group still
 * being applied may read what the table says.  If it finds that over, it begins
 * anew: it may have read cells that the committer fills for another group.
 *
 * To apply a group takes as long as a batch: at most KV_BATCH_MAX times a
 * microsecond or so.  If the committer dies meanwhile, the zone is rebuilt, as
 * after any death in the middle of a batch.
 */


#ifndef KV_GROUP_H
#define KV_GROUP_H


#include "store/kv_batch.h"


/* In zone->groups, beside the LSN of the last group's first member. */

#define KV_GROUPS_BUSY     1u       /* it is being applied, */
#define KV_GROUPS_ALL      2u       /* and hides what is older, too */
#define KV_GROUPS_SHIFT    2


/* The operations of a group, in order; of any other, itself alone. */

static inline kv_op_t *
kv_group_first(kv_op_t *op)
{
    return op->code == KV_OP_GROUP ? op->members : op;
}


static inline kv_op_t *
kv_group_next(kv_op_t *op)
{
    return op->flags & KV_OP_MEMBER ? op->next : NULL;
}


/* How many there are. */

static inline unsigned
kv_group_count(kv_op_t *op)
{
    unsigned  n;

    for (op = kv_group_first(op), n = 0; op; op = kv_group_next(op)) {
        n++;
    }

    return n;
}


/* Puts all members of a group that is in the queue, or was, into a state. */

static inline void
kv_group_set_state(kv_op_t *group, kv_op_state_t state)
{
    kv_op_t  *op;

    for (op = group->members; op; op = op->next) {
        atomic_store_explicit(&op->state, state, memory_order_release);
    }
}


/*
 * The committer, in kv_group_begin(): a member of this LSN, and all up to
 * kv_group_show(), become visible then.  `all`: one of them changes an entry in
 * place.
 */

static inline void
kv_group_hide(kv_zone_t *zone, uint64_t lsn, bool all)
{
    atomic_store(&zone->groups, lsn << KV_GROUPS_SHIFT | KV_GROUPS_BUSY
                                | (all ? KV_GROUPS_ALL : 0));

    /* before any of it can be found */

    kv_fence();
}


static inline void
kv_group_show(kv_zone_t *zone)
{
    (void) atomic_fetch_and(&zone->groups, ~(uint64_t) KV_GROUPS_BUSY);
}


/*
 * A reader that has found `e`, or NULL: nothing, asks whether a group that is
 * being applied may be why; then *groups tells which.
 */

static inline bool
kv_group_made(kv_zone_t *zone, const kv_entry_t *e, uint64_t *groups)
{
    *groups = atomic_load_explicit(&zone->groups, memory_order_acquire);

    return kv_unlikely(*groups & KV_GROUPS_BUSY)
           && (e == NULL || kv_entry_lsn(e) >= *groups >> KV_GROUPS_SHIFT);
}


/* And whether it must not tell of it, nor of when it expires. */

static inline bool
kv_group_hides(kv_zone_t *zone, const kv_entry_t *e)
{
    uint64_t  groups;

    return kv_group_made(zone, e, &groups)
           || kv_unlikely((groups & KV_GROUPS_BUSY)
                          && (groups & KV_GROUPS_ALL));
}


/*
 * Then it may ask, in the same epoch, what the key had before that group: *e is
 * that, or NULL.  False: the group is not being applied any more.
 */
bool kv_group_before(kv_zone_t *zone, uint64_t groups, uint64_t hash,
    const void *key, size_t n, kv_entry_t **e);


/*
 * A list: what to ask with later.  False: a group is being applied now.
 */

static inline bool
kv_group_quiet(kv_zone_t *zone, uint64_t *groups)
{
    *groups = atomic_load_explicit(&zone->groups, memory_order_acquire);

    return (*groups & KV_GROUPS_BUSY) == 0;
}


/* Whether no group has begun to be applied, or has become visible, since. */

static inline bool
kv_group_still(kv_zone_t *zone, uint64_t groups)
{
    kv_fence();

    return kv_get_relaxed(zone->groups) == groups;
}


/* The committer's calls, with the commit lock held. */

/*
 * Decides a group's members, and adds them to the batch; their records are not
 * added to the log yet.  There must be space for them in the batch.  KV_OK;
 * KV_AGAIN: there is none in the log's.
 * Else the group is not done, and this is its result, and that of the member
 * which is why: see kv_decide().
 */
kv_rc_t kv_group_decide(kv_store_t *store, kv_batch_t *batch, kv_op_t *group);

/* Takes out of the batch what was added from its `n`-th operation on. */
void kv_group_back_out(kv_batch_t *batch, unsigned n);

/*
 * The first of these operations, which are to be applied, is a member: it and
 * the members behind it, up to an operation that is none, are applied until
 * kv_group_end(), with which they become visible.
 */
void kv_group_begin(kv_zone_t *zone, kv_op_t **op, unsigned n);
void kv_group_end(kv_zone_t *zone);

/* The members are done, with the group's result. */
void kv_group_done(kv_op_t *group);

/*
 * The group is in no log, and is to be decided again: no committer must believe
 * anything else.
 */
void kv_group_again(kv_op_t *group);


#endif /* KV_GROUP_H */
