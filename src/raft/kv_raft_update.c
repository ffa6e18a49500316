
/*
 * What the engine asks for after an event: term, vote and entries are written,
 * in this order, and messages sent; see kv_raft.h for why none is too early.
 */


#include "raft/kv_raft_private.h"


static void kv_raft_update_entries(kv_raft_t *r,
    const struct raft_update *update, const struct raft_entry *given,
    kv_raft_entry_t **entries);
static void kv_raft_update_install(kv_raft_t *r,
    const struct raft_update *update);
static bool kv_raft_update_fill(kv_raft_t *r, kv_raft_message_t *m);
static kv_raft_write_t *kv_raft_update_write(kv_raft_t *r,
    kv_raft_write_type_t type);


void
kv_raft_update(kv_raft_t *r, const struct raft_update *update,
    const struct raft_entry *given, kv_raft_entry_t **entries)
{
    unsigned  i;

    if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        kv_raft_write_vote(r, raft_current_term(&r->engine),
                           raft_voted_for(&r->engine));
    }

    if (update->flags & RAFT_UPDATE_ENTRIES) {
        kv_raft_update_entries(r, update, given, entries);
    }

    if (update->flags & RAFT_UPDATE_SNAPSHOT) {
        kv_raft_update_install(r, update);
    }

    if (update->flags & RAFT_UPDATE_MESSAGES) {
        for (i = 0; i < update->messages.n; i++) {
            kv_raft_send(r, &update->messages.batch[i]);
        }
    }
}


void
kv_raft_write_vote(kv_raft_t *r, uint64_t term, uint64_t voted_for)
{
    kv_raft_write_t  *w;

    w = kv_raft_update_write(r, KV_RAFT_VOTE);
    w->term = term;
    w->voted_for = voted_for;
    r->vote_seq = w->seq;

    r->ops->write(r->host, w);
}


/*
 * The entries are those that the event brought, or the engine's own barrier,
 * whose memory is ours.
 */

static void
kv_raft_update_entries(kv_raft_t *r, const struct raft_update *update,
    const struct raft_entry *given, kv_raft_entry_t **entries)
{
    uint64_t          index;
    unsigned          i, n;
    kv_raft_write_t  *w;

    n = update->entries.n;
    index = update->entries.index;
    r->took_entries = true;

    w = kv_raft_update_write(r, KV_RAFT_ENTRIES);
    w->index = index;
    w->n = n;
    w->entries = kv_raft_alloc(n * sizeof(*w->entries));

    if (update->entries.batch == &r->engine.barrier) {
        assert(n == 1);
        w->entries[0] = kv_raft_entry_make(r->engine.barrier.term,
                                           RAFT_BARRIER, NULL, 0);
        raft_free(r->engine.barrier.buf.base);

    } else {
        assert(given != NULL && update->entries.batch >= given);

        for (i = 0; i < n; i++) {
            w->entries[i] = kv_raft_entry_hold(
                                entries[update->entries.batch - given + i]);
        }
    }

    assert(index > r->applied);

    if (index <= kv_raft_log_last(&r->log)) {
        kv_raft_log_cut(&r->log, index);
    }

    assert(index == kv_raft_log_last(&r->log) + 1);

    for (i = 0; i < n; i++) {
        kv_raft_log_append(&r->log, w->entries[i]);
    }

    if (r->engine.state == RAFT_LEADER
        && r->own_term != raft_current_term(&r->engine))
    {
        r->own_term = raft_current_term(&r->engine);
        r->own_index = index;
    }

    /* The engine's may have gone back. */
    w->commit = kv_max(r->done, kv_min(raft_commit_index(&r->engine),
                                       kv_raft_log_last(&r->log)));

    r->ops->write(r->host, w);
}


/* The chunk is 8 bytes, the file's handle, in memory that is ours now. */

static void
kv_raft_update_install(kv_raft_t *r, const struct raft_update *update)
{
    kv_raft_write_t                      *w;
    const struct raft_snapshot_metadata  *metadata;

    metadata = &update->snapshot.metadata;

    w = kv_raft_update_write(r, KV_RAFT_INSTALL);
    w->snapshot.index = metadata->index;
    w->snapshot.term = metadata->term;
    w->snapshot.conf_index = metadata->configuration_index;
    w->snapshot.conf = kv_raft_conf_make(metadata->term,
                                         &metadata->configuration);

    assert(update->snapshot.chunk.len == sizeof(w->snapshot.handle));
    memcpy(&w->snapshot.handle, update->snapshot.chunk.base,
           sizeof(w->snapshot.handle));

    raft_configuration_close(
        (struct raft_configuration *) &metadata->configuration);
    raft_free(update->snapshot.chunk.base);

    kv_raft_log_free(&r->log);
    kv_raft_log_init(&r->log, metadata->index);

    r->ops->write(r->host, w);
}


void
kv_raft_send(kv_raft_t *r, const struct raft_message *message)
{
    kv_raft_message_t  m;

    memset(&m, 0, sizeof(m));
    m.from = r->conf.id;
    m.to = message->server_id;
    m.m = *message;
    m.m.server_id = r->conf.id;
    m.m.server_address = NULL;

    if (m.to != m.from && kv_raft_update_fill(r, &m)) {
        kv_raft_send_now(r, &m);
    }
}


void
kv_raft_send_now(kv_raft_t *r, kv_raft_message_t *m)
{
    kv_raft_held_t  *held;

    if (r->vote_seq <= r->written) {
        r->ops->send(r->host, m);
        kv_raft_message_drop(m);
        return;
    }

    held = kv_raft_alloc(sizeof(*held));
    held->m = *m;
    held->seq = r->vote_seq;
    held->next = NULL;
    *r->held_end = held;
    r->held_end = &held->next;
}


/*
 * What the engine leaves to us.  False: the message is not sent, because a
 * snapshot is on its way to this peer already.
 */

static bool
kv_raft_update_fill(kv_raft_t *r, kv_raft_message_t *m)
{
    unsigned                      i, n;
    kv_raft_peer_t               *peer;
    kv_raft_snapshot_t            s;
    struct raft_append_entries   *append;
    struct raft_install_snapshot *install;

    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        append = &m->m.append_entries;
        append->entries = NULL;
        n = append->n_entries;
        m->stamp = r->stamp;

        if (n) {
            m->entries = kv_raft_alloc(n * sizeof(*m->entries));
        }

        for (i = 0; i < n; i++) {
            m->entries[i] = kv_raft_log_get(&r->log,
                                            append->prev_log_index + 1 + i);
            assert(m->entries[i] != NULL);
            kv_raft_entry_hold(m->entries[i]);
        }

        return true;

    case RAFT_REQUEST_VOTE_RESULT:
        kv_raft_message_tell_term(m, raft_current_term(&r->engine));
        return true;

    case RAFT_APPEND_ENTRIES_RESULT:
        if (r->seen_term == m->m.append_entries_result.term) {
            m->stamp = r->seen_stamp;
        }

        return true;

    case RAFT_INSTALL_SNAPSHOT:
        peer = kv_raft_peer(r, m->to);
        r->asked_snapshots++;

        if (peer->snapshot
            && r->now - peer->snapshot < r->conf.snapshot_timeout)
        {
            return false;
        }

        peer->snapshot = kv_max(r->now, 1u);

        install = &m->m.install_snapshot;
        r->ops->snapshot(r->host, &s);

        assert(s.index == install->last_index);

        install->last_term = s.term;
        install->conf_index = s.conf_index;
        memset(&install->conf, 0, sizeof(install->conf));
        memset(&install->data, 0, sizeof(install->data));
        m->conf = kv_raft_entry_hold(s.conf);
        m->handle = s.handle;
        return true;

    default:
        return true;
    }
}


static kv_raft_write_t *
kv_raft_update_write(kv_raft_t *r, kv_raft_write_type_t type)
{
    kv_raft_pending_t  *p;

    p = kv_raft_alloc(sizeof(*p));
    memset(p, 0, sizeof(*p));
    p->w.seq = ++r->seq;
    p->w.type = type;

    *r->pending_end = p;
    r->pending_end = &p->next;

    return &p->w;
}


void
kv_raft_send_held(kv_raft_t *r)
{
    kv_raft_held_t  *held;

    while (r->held && r->held->seq <= r->written) {
        held = r->held;
        r->held = held->next;

        if (r->held == NULL) {
            r->held_end = &r->held;
        }

        r->ops->send(r->host, &held->m);
        kv_raft_message_drop(&held->m);
        free(held);
    }
}


void
kv_raft_pending_free(kv_raft_pending_t *p)
{
    unsigned  i;

    for (i = 0; i < p->w.n; i++) {
        kv_raft_entry_drop(p->w.entries[i]);
    }

    kv_raft_entry_drop(p->w.snapshot.conf);
    free(p->w.entries);
    free(p);
}
