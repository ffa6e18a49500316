
/*
 * Messages between nodes; see kv_raft_message.h.
 */


#include "raft/kv_raft_message.h"


static kv_rc_t kv_raft_message_check_entries(const kv_raft_message_t *m);


kv_rc_t
kv_raft_message_check(const kv_raft_message_t *m)
{
    const struct raft_install_snapshot  *install;

    if (m->from == 0 || m->from == m->to || kv_raft_message_term(m) == 0) {
        return KV_DAMAGED;
    }

    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        return kv_raft_message_check_entries(m);

    case RAFT_INSTALL_SNAPSHOT:
        install = &m->m.install_snapshot;

        if (install->last_index == 0 || install->last_term == 0
            || install->last_term > install->term
            || install->conf_index == 0
            || install->conf_index > install->last_index || m->conf == NULL)
        {
            return KV_DAMAGED;
        }

        return kv_raft_conf_check(m->conf);

    case RAFT_REQUEST_VOTE:
        return m->m.request_vote.candidate_id == m->from ? KV_OK : KV_DAMAGED;

    case RAFT_REQUEST_VOTE_RESULT:
    case RAFT_APPEND_ENTRIES_RESULT:
    case RAFT_TIMEOUT_NOW:
        return KV_OK;
    }

    return KV_DAMAGED;
}


/* Terms never fall along a log. */

static kv_rc_t
kv_raft_message_check_entries(const kv_raft_message_t *m)
{
    uint64_t                           last;
    unsigned                           i;
    const kv_raft_entry_t             *e;
    const struct raft_append_entries  *append;

    append = &m->m.append_entries;

    if ((append->prev_log_index == 0) != (append->prev_log_term == 0)) {
        return KV_DAMAGED;
    }

    last = kv_max(append->prev_log_term, 1u);

    for (i = 0; i < append->n_entries; i++) {
        e = m->entries[i];

        if (e->term < last || e->term > append->term
            || e->type < RAFT_COMMAND || e->type > RAFT_CHANGE
            || (e->type == RAFT_CHANGE
                && kv_raft_conf_check(e) != KV_OK))
        {
            return KV_DAMAGED;
        }

        last = e->term;
    }

    return KV_OK;
}


uint64_t
kv_raft_message_term(const kv_raft_message_t *m)
{
    switch (m->m.type) {

    case RAFT_APPEND_ENTRIES:
        return m->m.append_entries.term;

    case RAFT_APPEND_ENTRIES_RESULT:
        return m->m.append_entries_result.term;

    case RAFT_REQUEST_VOTE:
        return m->m.request_vote.term;

    case RAFT_REQUEST_VOTE_RESULT:
        return m->m.request_vote_result.term;

    case RAFT_INSTALL_SNAPSHOT:
        return m->m.install_snapshot.term;

    case RAFT_TIMEOUT_NOW:
        return m->m.timeout_now.term;
    }

    return 0;
}


bool
kv_raft_message_is_stale(const kv_raft_message_t *m, uint64_t term)
{
    return kv_raft_message_term(m) < term;
}


bool
kv_raft_message_is_late(const kv_raft_message_t *m, uint64_t match)
{
    const struct raft_append_entries_result  *result;

    result = &m->m.append_entries_result;

    return result->rejected && result->rejected <= match;
}


unsigned
kv_raft_message_piece(const kv_raft_message_t *m, unsigned first)
{
    unsigned  n, end;

    end = m->m.append_entries.n_entries;

    for (n = first; n < end; n++) {
        if (n > first && m->entries[n]->type == RAFT_CHANGE) {
            break;
        }
    }

    return n - first;
}


void
kv_raft_message_tell_term(kv_raft_message_t *m, uint64_t term)
{
    struct raft_request_vote_result  *result;

    result = &m->m.request_vote_result;

    if (result->pre_vote && !result->vote_granted) {
        result->term = kv_max(result->term, term);
    }
}


void
kv_raft_message_copy(kv_raft_message_t *to, const kv_raft_message_t *m)
{
    unsigned  i, n;

    *to = *m;

    if (m->conf) {
        kv_raft_entry_hold(m->conf);
    }

    if (m->entries) {
        n = m->m.append_entries.n_entries;
        to->entries = kv_raft_alloc(n * sizeof(*to->entries));

        for (i = 0; i < n; i++) {
            to->entries[i] = kv_raft_entry_hold(m->entries[i]);
        }
    }
}


void
kv_raft_message_drop(kv_raft_message_t *m)
{
    unsigned  i;

    kv_raft_entry_drop(m->conf);
    m->conf = NULL;

    if (m->entries) {
        for (i = 0; i < m->m.append_entries.n_entries; i++) {
            kv_raft_entry_drop(m->entries[i]);
        }

        free(m->entries);
        m->entries = NULL;
    }
}
