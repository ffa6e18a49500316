
/*
 * What a replicated log gets besides the batches that are built here: entries
 * of others, entries without records, and votes.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


static uint32_t kv_wal_count_records(const uint8_t *data, size_t len);
static kv_rc_t kv_wal_ready_for(kv_wal_t *wal, size_t len, uint32_t count,
    bool entry, kv_err_t *err);


kv_rc_t
kv_wal_put_entry(kv_wal_t *wal, const kv_wal_entry_t *e, const void *data,
    size_t len, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_wal_small_t      batch;
    kv_wal_state_t     *state;
    kv_wal_position_t   to;

    state = wal->state;

    assert(e->type == KV_ENTRY_BARRIER || e->type == KV_ENTRY_CHANGE);
    assert(len <= KV_MEMBERS_MAX && (e->type == KV_ENTRY_BARRIER || len));

    rc = kv_wal_ready_for(wal, sizeof(batch.h) + kv_align(len, 8), 0, true,
                          err);

    if (rc != KV_OK) {
        return rc;
    }

    memset(batch.data, 0, kv_align(len, 8));

    if (len) {
        memcpy(batch.data, data, len);
    }

    kv_wal_header(wal, &batch.h, kv_align(len, 8), 0);
    kv_wal_here(state, &to);
    kv_wal_enter(state, e, &batch.h, &to);

    if (e->type == KV_ENTRY_CHANGE) {

        /* the other place, until the log has moved */

        to.replica.members_at = 1 - to.replica.members_at;
        to.replica.members_len = batch.h.len;
        to.replica.members_index = e->index;

        memcpy(state->members[to.replica.members_at], batch.data, batch.h.len);
    }

    return kv_wal_append_small(wal, &batch, &to, err);
}


kv_rc_t
kv_wal_put_records(kv_wal_t *wal, const kv_wal_entry_t *e, const void *data,
    size_t len, kv_err_t *err)
{
    kv_rc_t             rc;
    uint32_t            count;
    struct iovec        iov[2];
    kv_wal_state_t     *state;
    kv_batch_header_t   h;
    kv_wal_position_t   to;

    state = wal->state;

    assert(e->type == KV_ENTRY_RECORDS && state->replicated);

    count = kv_wal_count_records(data, len);

    if (count == 0 || len > wal->max_batch - sizeof(h)) {
        errno = EBADMSG;
        kv_err_set(err, "an entry of the replicated log, index %" PRIu64
                   ", has %zu bytes, which are no records, or more than the %zu"
                   " that one may have here", e->index, len,
                   wal->max_batch - sizeof(h));
        return KV_DAMAGED;
    }

    rc = kv_wal_ready_for(wal, sizeof(h) + len, count, true, err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_wal_header(wal, &h, len, count);
    kv_wal_here(state, &to);
    kv_wal_enter(state, e, &h, &to);
    to.next_lsn += count;

    kv_wal_assert(wal, &h);

    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, sizeof(h) - 8);
    h.crc = kv_crc32c(h.crc, data, len);

    iov[0].iov_base = &h;
    iov[0].iov_len = sizeof(h);
    iov[1].iov_base = (void *) (uintptr_t) data;
    iov[1].iov_len = len;

    return kv_wal_append(wal, iov, 2, sizeof(h) + len, &to, err);
}


/* 0: these are no records, or of a later version of the module. */

static uint32_t
kv_wal_count_records(const uint8_t *data, size_t len)
{
    size_t        size;
    uint32_t      n;
    kv_record_t   rec;
    struct iovec  value;

    for (n = 0; len; n++) {
        size = kv_record_decode(data, len, KV_FORMAT_VERSION, &rec, &value);

        if (size == 0 || kv_record_unknown(&rec)) {
            return 0;
        }

        data += size;
        len -= size;
    }

    return n;
}


/* Finishes what a process left, and finds a place; as kv_wal_ready(). */

static kv_rc_t
kv_wal_ready_for(kv_wal_t *wal, size_t len, uint32_t count, bool entry,
    kv_err_t *err)
{
    kv_rc_t        rc;
    kv_wal_need_t  need;

    kv_wal_settle(wal->state);

    rc = kv_wal_end_cut(wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    need.len = len;
    need.count = count;
    need.entry = entry;
    need.urgent = true;

    return kv_wal_ready(wal, &need, err);
}


kv_rc_t
kv_wal_put_vote(kv_wal_t *wal, uint64_t term, uint64_t voted_for,
    kv_err_t *err)
{
    kv_rc_t                  rc;
    kv_wal_position_t        to;
    const kv_wal_replica_t  *replica;

    assert(wal->state->replicated);

    kv_wal_settle(wal->state);

    replica = &wal->state->replica;

    assert(term > replica->term
           || (term == replica->term && (replica->voted_for == 0
                                         || voted_for == replica->voted_for)));

    rc = kv_wal_ready_for(wal, kv_wal_state_size(wal->state), 0, false, err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_wal_here(wal->state, &to);
    to.replica.term = term;
    to.replica.voted_for = voted_for;

    return kv_wal_write_state(wal, &to, err);
}


kv_rc_t
kv_wal_put_commit(kv_wal_t *wal, uint64_t commit, kv_err_t *err)
{
    kv_rc_t            rc;
    kv_wal_position_t  to;

    assert(wal->state->replicated);

    rc = kv_wal_ready_for(wal, kv_wal_state_size(wal->state), 0, false, err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_wal_here(wal->state, &to);

    assert(commit <= to.replica.index);

    if (commit <= to.replica.commit) {
        return KV_OK;
    }

    to.replica.commit = commit;

    return kv_wal_write_state(wal, &to, err);
}
