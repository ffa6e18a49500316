
/*
 * A batch gets its place at the log's end, and is written there; then the log's
 * end moves.  Bytes first, then the state: what a process had begun when it
 * died lies behind the end of the log.
 *
 * What each batch passes is static here, and is called by name by others.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


static inline kv_rc_t kv_wal_find_place(kv_wal_t *wal,
    const kv_wal_need_t *need, kv_err_t *err);
static inline kv_rc_t kv_wal_put(kv_wal_t *wal, struct iovec *iov, size_t n,
    size_t len, kv_wal_position_t *to, kv_err_t *err);
static void kv_wal_finish(kv_wal_t *wal, kv_batch_header_t *h);
static kv_rc_t kv_wal_place(kv_wal_t *wal, const kv_wal_need_t *need,
    kv_err_t *err);
static inline bool kv_wal_full(const kv_wal_t *wal, const kv_wal_need_t *need,
    size_t reserve);


kv_rc_t
kv_wal_write(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_wal_need_t       need;
    kv_wal_state_t     *state;
    kv_batch_header_t   h;
    kv_wal_position_t   to;

    if (wal->count == 0) {
        return KV_OK;
    }

    state = wal->state;

    assert((wal->entry.type != KV_ENTRY_NONE) == (state->replicated != 0));

    kv_wal_settle(state);

    if (state->replicated) {
        rc = kv_wal_end_cut(wal, err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    need.len = wal->len;
    need.count = wal->count;
    need.entry = state->replicated;
    need.urgent = wal->puts == 0;

    rc = kv_wal_find_place(wal, &need, err);

    if (rc != KV_OK) {
        return rc;
    }

    kv_wal_header(wal, &h, wal->len - sizeof(h), wal->count);
    kv_wal_here(state, &to);
    to.next_lsn += wal->count;

    if (state->replicated) {
        kv_wal_enter(state, &wal->entry, &h, &to);
    }

    kv_wal_finish(wal, &h);

    assert(to.next_lsn == h.first_lsn + h.count);

    memcpy(wal->iov_copy, wal->iov, wal->iov_n * sizeof(struct iovec));

    rc = kv_wal_put(wal, wal->iov_copy, wal->iov_n, wal->len, &to, err);

    if (rc == KV_OK) {
        kv_wal_reset(wal);
    }

    return rc;
}


/* Puts the header, with the checksum, before the batch that is built. */

static void
kv_wal_finish(kv_wal_t *wal, kv_batch_header_t *h)
{
    size_t  i, len, skip;

    kv_wal_assert(wal, h);

    h->crc = kv_crc32c(0, (uint8_t *) h + 8, sizeof(*h) - 8);
    skip = sizeof(*h);
    len = 0;

    for (i = 0; i < wal->iov_n; i++) {
        h->crc = kv_crc32c(h->crc, (uint8_t *) wal->iov[i].iov_base + skip,
                           wal->iov[i].iov_len - skip);
        len += wal->iov[i].iov_len;
        skip = 0;
    }

    assert(len == wal->len);

    memcpy(wal->staging, h, sizeof(*h));
}


kv_rc_t
kv_wal_ready(kv_wal_t *wal, const kv_wal_need_t *need, kv_err_t *err)
{
    return kv_wal_find_place(wal, need, err);
}


static inline kv_rc_t
kv_wal_find_place(kv_wal_t *wal, const kv_wal_need_t *need, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_wal_state_t     *state;
    kv_wal_position_t   to;

    state = wal->state;

    rc = kv_wal_place(wal, need, err);

    if (rc == KV_OK
        && (atomic_load(&state->closed) != KV_WAL_NOTE_NONE || state->restored))
    {

        /* not before: a log that takes no batch needs the note as it is */

        rc = kv_wal_open_again(wal, err);

        if (rc == KV_OK) {
            rc = kv_wal_place(wal, need, err);
        }
    }

    if (rc == KV_OK && need->entry && kv_wal_state_due(state)) {
        kv_wal_here(state, &to);
        rc = kv_wal_write_state(wal, &to, err);
    }

    return rc;
}


/*
 * Opens a segment that the batch fits into.  Puts leave the reserve at a
 * segment's end to deletes and clears, which free memory while there can be no
 * new segment.
 */

static kv_rc_t
kv_wal_place(kv_wal_t *wal, const kv_wal_need_t *need, kv_err_t *err)
{
    kv_rc_t  rc;

    if (wal->state->next_lsn + need->count > KV_LSN_MAX + 1) {
        errno = EOVERFLOW;
        kv_err_set(err, "the log has given out its last LSN; store the keys "
                   "in a new directory");
        return KV_ERROR;
    }

    rc = kv_wal_check_name(wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    if (!kv_wal_full(wal, need, wal->reserve)) {
        return kv_wal_current(wal, err);
    }

    rc = kv_wal_next_segment(wal, err);

    if ((rc == KV_NO_SPACE || rc == KV_AGAIN) && need->urgent
        && !kv_wal_full(wal, need, 0))
    {
        rc = kv_wal_current(wal, err);
    }

    return rc;
}


/*
 * Leaves space for the mark behind the batch, which says that this one, too,
 * was durable; a batch that fills a segment by itself has no mark.
 */

static inline bool
kv_wal_full(const kv_wal_t *wal, const kv_wal_need_t *need, size_t reserve)
{
    size_t           n;
    kv_wal_state_t  *state;

    state = wal->state;
    n = need->len;

    if (state->segment_size == 0) {
        return true;
    }

    if (need->entry && kv_wal_state_due(state)) {
        n += kv_wal_state_size(state);
    }

    if (state->offset != kv_wal_first_offset(state)) {
        n += sizeof(kv_batch_header_t) + reserve;
    }

    return n > state->segment_size - state->offset;
}


kv_rc_t
kv_wal_append(kv_wal_t *wal, struct iovec *iov, size_t n, size_t len,
    kv_wal_position_t *to, kv_err_t *err)
{
    return kv_wal_put(wal, iov, n, len, to, err);
}


static inline kv_rc_t
kv_wal_put(kv_wal_t *wal, struct iovec *iov, size_t n, size_t len,
    kv_wal_position_t *to, kv_err_t *err)
{
    size_t           written;
    kv_rc_t          rc;
    kv_wal_state_t  *state;

    state = wal->state;

    written = kv_direct_bytes(&wal->out, state->offset, len);
    rc = kv_direct_writev(&wal->out, iov, n, state->offset);

    if (rc != KV_OK) {
        kv_wal_write_failed(wal, rc, len, err);
        return rc;
    }

    to->offset = state->offset + len;

    if (state->replicated) {
        to->replica.end = to->offset;
        atomic_store(&state->unsynced, 1);
    }

    kv_wal_move(state, to);

    atomic_fetch_add_explicit(&state->bytes, len, memory_order_relaxed);
    atomic_fetch_add_explicit(&state->written, written, memory_order_relaxed);

    return KV_OK;
}


kv_rc_t
kv_wal_append_small(kv_wal_t *wal, kv_wal_small_t *batch,
    kv_wal_position_t *to, kv_err_t *err)
{
    size_t        len;
    struct iovec  iov;

    kv_wal_assert(wal, &batch->h);

    len = kv_wal_seal_small(batch);

    iov.iov_base = batch;
    iov.iov_len = len;

    return kv_wal_append(wal, &iov, 1, len, to, err);
}


kv_rc_t
kv_wal_write_state(kv_wal_t *wal, kv_wal_position_t *to, kv_err_t *err)
{
    kv_wal_small_t  batch;

    to->replica.incarnation = atomic_load(&wal->state->incarnation);
    kv_wal_make_state(wal, &batch, &to->replica, kv_wal_members(wal->state));

    return kv_wal_append_small(wal, &batch, to, err);
}


void
kv_wal_assert(const kv_wal_t *wal, const kv_batch_header_t *h)
{
    const kv_wal_state_t  *state;

    state = wal->state;

    assert(h->len % 8 == 0);
    assert(h->count <= h->len / sizeof(kv_record_header_t));
    assert(h->durable_lsn < h->first_lsn);
    assert(h->durable_end <= state->offset);

    if (h->type <= KV_ENTRY_RECORDS) {
        assert((h->count == 0) == (h->len == 0));
    }

    assert(wal->fd_lsn == state->segment_lsn
           && wal->fd_salt == state->segment_salt);
    assert(state->offset >= KV_SEGMENT_HEADER && state->offset % 8 == 0);
    assert(state->replicated || (state->offset == KV_SEGMENT_HEADER)
                                == (h->first_lsn == state->segment_lsn));
    assert(sizeof(*h) + h->len <= state->segment_size - state->offset);
}


void
kv_wal_write_failed(kv_wal_t *wal, kv_rc_t rc, size_t len, kv_err_t *err)
{
    char             name[KV_NAME_MAX];
    kv_wal_state_t  *state;

    state = wal->state;

    kv_err_set(err, "%s: writing %zu bytes at offset %" PRIu64 " failed: %s; "
               "%s", kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
               len, state->offset, strerror(errno), kv_wal_advice(rc));
}
