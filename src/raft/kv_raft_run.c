
/*
 * An event for the engine, and what follows from it.
 *
 * Whose memory is whose, as 0.22.1 has it: the engine frees the batch of the
 * entries of a message that it does not hand on in an update, and the members
 * and data of a snapshot that it refuses; it keeps the members of a snapshot or
 * a configuration that it is told of; and what it hands on in an update is
 * ours.  So it is given tokens for batches, and copies of members.
 */


#include "raft/kv_raft_private.h"


/* What an entry's batch is where the engine never frees it. */
static unsigned char  kv_raft_token;


static int kv_raft_step(kv_raft_t *r, struct raft_event *event,
    const struct raft_entry *given, kv_raft_entry_t **entries);
static uint64_t kv_raft_trail_last(const struct raft_trail *trail);
static void kv_raft_follow(kv_raft_t *r);
static void kv_raft_commit_next(kv_raft_t *r);
static void kv_raft_change_committed(kv_raft_t *r, uint64_t index);


int
kv_raft_run(kv_raft_t *r, uint64_t now, struct raft_event *event,
    const struct raft_entry *given, kv_raft_entry_t **entries)
{
    int  rc;

    if (r->failed) {
        return KV_ERROR;
    }

    r->now = kv_max(r->now, now);

    rc = kv_raft_step(r, event, given, entries);

    if (rc != 0) {
        return rc;
    }

    kv_raft_follow(r);

    return r->failed ? KV_ERROR : 0;
}


/* Only what is asked of a leader may fail; all else is broken then. */

static int
kv_raft_step(kv_raft_t *r, struct raft_event *event,
    const struct raft_entry *given, kv_raft_entry_t **entries)
{
    int                 rc;
    struct raft_update  update;

    assert(!r->updating);
    event->time = r->now;

    rc = raft_step(&r->engine, event, &update);

    if (rc != 0) {
        r->failed = event->type != RAFT_SUBMIT && event->type != RAFT_TRANSFER;
        return rc;
    }

    r->updating = true;
    kv_raft_update(r, &update, given, entries);
    r->updating = false;

    /* Its own assertions are not in Debian's package: these are instead. */
    assert(r->engine.trail.offset == r->log.before);
    assert(kv_raft_trail_last(&r->engine.trail) == kv_raft_log_last(&r->log));

    return 0;
}


/* The index of the last entry that the engine knows of. */

static uint64_t
kv_raft_trail_last(const struct raft_trail *trail)
{
    unsigned  last;

    if (trail->front == trail->back) {
        return trail->offset;
    }

    last = (trail->back ? trail->back : trail->size) - 1;

    return trail->records[last].index;
}


/*
 * What follows from the new state: committed entries are applied, and each term
 * of a leader begins with an entry of its own.  Without one, it would not know
 * what is committed, and a change of the members could undo another one that
 * was committed by a leader before it.
 */

static void
kv_raft_follow(kv_raft_t *r)
{
    kv_raft_entry_t  *e;

    while (!r->failed) {
        if (r->done < kv_min(raft_commit_index(&r->engine),
                             r->engine.last_stored))
        {
            kv_raft_commit_next(r);
            continue;
        }

        if (r->engine.state == RAFT_LEADER
            && r->own_term != raft_current_term(&r->engine))
        {
            e = kv_raft_entry_make(raft_current_term(&r->engine),
                                   RAFT_BARRIER, NULL, 0);
            r->failed = kv_raft_submit_entry(r, r->now, e) != 0;
            kv_raft_entry_drop(e);
            continue;
        }

        break;
    }

    (void) kv_raft_apply(r);
}


kv_rc_t
kv_raft_apply(kv_raft_t *r)
{
    uint64_t          stored;
    kv_raft_entry_t  *e;

    stored = r->engine.last_stored;

    /* what was put off may be gone: the snapshot has it */

    while (!r->engine.snapshot.installing
           && r->applied < kv_max(r->done, kv_min(r->recorded, stored)))
    {
        e = kv_raft_log_get(&r->log, r->applied + 1);
        assert(e != NULL);

        if (!r->ops->apply(r->host, r->applied + 1, e)) {
            break;
        }

        r->applied++;
    }

    return r->failed ? KV_ERROR : KV_OK;
}


static void
kv_raft_commit_next(kv_raft_t *r)
{
    r->done++;
    kv_raft_change_committed(r, r->done);
}


/* The engine wants to know of each change that is committed. */

static void
kv_raft_change_committed(kv_raft_t *r, uint64_t index)
{
    kv_rc_t            rc;
    kv_raft_entry_t   *e;
    struct raft_event  event;

    e = kv_raft_log_get(&r->log, index);
    assert(e != NULL);

    if (e->type != RAFT_CHANGE) {
        return;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_CONFIGURATION;
    event.configuration.index = index;
    rc = kv_raft_conf_read(e, &event.configuration.conf);
    assert(rc == KV_OK);

    (void) kv_raft_step(r, &event, NULL, NULL);
}


void
kv_raft_change_follows(kv_raft_t *r, uint64_t last)
{
    uint64_t  index;

    index = r->engine.configuration_uncommitted_index;

    if (index && index <= last && index > r->log.before && !r->failed) {
        kv_raft_change_committed(r, index);
    }
}


int
kv_raft_submit_entry(kv_raft_t *r, uint64_t now, kv_raft_entry_t *e)
{
    struct raft_entry  entry;
    struct raft_event  event;

    kv_raft_entries(&entry, &e, 1, &kv_raft_token);

    memset(&event, 0, sizeof(event));
    event.type = RAFT_SUBMIT;
    event.submit.entries = &entry;
    event.submit.n = 1;

    return kv_raft_run(r, now, &event, &entry, &e);
}


void
kv_raft_entries(struct raft_entry *to, kv_raft_entry_t **from, unsigned n,
    void *batch)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        to[i].term = from[i]->term;
        to[i].type = from[i]->type;
        to[i].buf.base = from[i]->data;
        to[i].buf.len = from[i]->len;
        to[i].batch = batch;
    }
}
