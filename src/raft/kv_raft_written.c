
/*
 * What is synced now is reported to the engine; see kv_raft.h.
 */


#include "raft/kv_raft_private.h"


static uint64_t kv_raft_still_there(const kv_raft_t *r,
    const kv_raft_write_t *w);
static kv_rc_t kv_raft_stored(kv_raft_t *r, uint64_t now, uint64_t index);
static kv_rc_t kv_raft_installed(kv_raft_t *r, uint64_t now,
    const kv_raft_snapshot_t *s);


kv_rc_t
kv_raft_written(kv_raft_t *r, uint64_t now, uint64_t seq)
{
    kv_rc_t             rc;
    uint64_t            stored;
    kv_raft_pending_t  *p;

    assert(seq <= r->seq);

    rc = r->failed ? KV_ERROR : KV_OK;
    stored = 0;
    r->written = kv_max(r->written, seq);
    kv_raft_send_held(r);

    while (rc == KV_OK && r->pending && r->pending->w.seq <= seq) {
        p = r->pending;
        r->pending = p->next;

        if (r->pending == NULL) {
            r->pending_end = &r->pending;
        }

        if (p->w.type == KV_RAFT_ENTRIES) {
            stored = kv_max(stored, kv_raft_still_there(r, &p->w));

        } else if (p->w.type == KV_RAFT_INSTALL) {
            rc = kv_raft_installed(r, now, &p->w.snapshot);
            stored = 0;
        }

        kv_raft_pending_free(p);
    }

    return rc == KV_OK ? kv_raft_stored(r, now, stored) : rc;
}


/*
 * Up to which index the log still has what was written; 0: nothing.  What was
 * replaced while it waited for the disk is none of the engine's business.
 */

static uint64_t
kv_raft_still_there(const kv_raft_t *r, const kv_raft_write_t *w)
{
    unsigned  i;

    for (i = 0; i < w->n; i++) {
        if (kv_raft_log_get(&r->log, w->index + i) != w->entries[i]) {
            break;
        }
    }

    return i ? w->index + i - 1 : 0;
}


static kv_rc_t
kv_raft_stored(kv_raft_t *r, uint64_t now, uint64_t index)
{
    int                rc;
    struct raft_event  event;

    if (index <= r->engine.last_stored) {
        return KV_OK;
    }

    memset(&event, 0, sizeof(event));
    event.type = RAFT_PERSISTED_ENTRIES;
    event.persisted_entries.index = index;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}


static kv_rc_t
kv_raft_installed(kv_raft_t *r, uint64_t now, const kv_raft_snapshot_t *s)
{
    int                             rc;
    struct raft_event               event;
    struct raft_snapshot_metadata  *metadata;

    memset(&event, 0, sizeof(event));
    event.type = RAFT_PERSISTED_SNAPSHOT;
    event.persisted_snapshot.last = true;

    metadata = &event.persisted_snapshot.metadata;
    metadata->index = s->index;
    metadata->term = s->term;
    metadata->configuration_index = s->conf_index;

    rc = kv_raft_conf_read(s->conf, &metadata->configuration);
    assert(rc == KV_OK);

    r->ops->installed(r->host, s);

    r->done = s->index;
    r->applied = s->index;
    r->recorded = 0;
    r->snapshot_index = s->index;
    r->snapshot_term = s->term;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    return rc == 0 ? KV_OK : KV_ERROR;
}
