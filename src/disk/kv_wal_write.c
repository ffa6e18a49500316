
/*
 * Writing the log: a batch is built, and a log that is left is marked, and
 * closed.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


/* Pieces of a value from this size on are written from where they lie. */
#define KV_WAL_COPY      8192

#define KV_WAL_SIZE_MIN  65536u
#define KV_WAL_MARK      sizeof(kv_batch_header_t)


static bool kv_wal_can_wait(const kv_record_t *rec);
static void kv_wal_stage(kv_wal_t *wal, size_t n);
static void kv_wal_refer(kv_wal_t *wal, const struct iovec *piece);


kv_wal_t *
kv_wal_create(kv_io_t *io, int dirfd, kv_wal_state_t *state,
    uint64_t segment_size, size_t max_batch)
{
    kv_wal_t  *wal;

    assert(segment_size >= KV_WAL_SIZE_MIN && segment_size % 4096 == 0);
    assert(max_batch > sizeof(kv_batch_header_t) && max_batch <= UINT32_MAX
           && max_batch <= segment_size - KV_SEGMENT_HEADER);

    wal = calloc(1, sizeof(kv_wal_t));

    if (wal == NULL) {
        return NULL;
    }

    wal->io = io;
    wal->dirfd = dirfd;
    wal->state = state;
    wal->segment_size = segment_size;
    wal->max_batch = max_batch;
    wal->fd = -1;
    kv_direct_init(&wal->out, io);

    /* each piece that is not copied may have staged bytes before it */

    wal->iov_max = 2 * (max_batch / KV_WAL_COPY) + 2;
    wal->iov = calloc(2 * wal->iov_max, sizeof(struct iovec));

    /* the system gives the pages of a large block when they are first used */

    wal->staging = malloc(max_batch);

    if (wal->iov == NULL || wal->staging == NULL) {
        kv_wal_destroy(wal);
        return NULL;
    }

    wal->iov_copy = wal->iov + wal->iov_max;

    kv_wal_reset(wal);

    return wal;
}


void
kv_wal_destroy(kv_wal_t *wal)
{
    kv_wal_close(wal);

    kv_direct_destroy(&wal->out);
    free(wal->staging);
    free(wal->iov);
    free(wal);
}


void
kv_wal_set_direct(kv_wal_t *wal, bool direct)
{
    wal->direct = direct;
}


void
kv_wal_set_reserve(kv_wal_t *wal, size_t reserve)
{
    wal->reserve = reserve;
}


void
kv_wal_begin(kv_wal_t *wal)
{
    kv_wal_settle(wal->state);
    kv_wal_reset(wal);
}


kv_rc_t
kv_wal_add(kv_wal_t *wal, const kv_record_t *rec)
{
    size_t               i, n, size, copied;
    const struct iovec  *piece;

    size = kv_record_size(rec);

    if (size > wal->max_batch - wal->len) {
        assert(wal->count > 0);
        return KV_AGAIN;
    }

    n = kv_record_encode_head(rec, wal->staging + wal->staged);
    copied = n;

    for (i = 0; rec->value_len && i < rec->value_n; i++) {
        piece = &rec->value[i];

        assert(piece->iov_len <= size - n);

        if (piece->iov_len >= KV_WAL_COPY) {
            kv_wal_stage(wal, copied);
            kv_wal_refer(wal, piece);
            copied = 0;

        } else if (piece->iov_len) {
            memcpy(wal->staging + wal->staged + copied, piece->iov_base,
                   piece->iov_len);
            copied += piece->iov_len;
        }

        n += piece->iov_len;
    }

    assert(size - n < 8);

    memset(wal->staging + wal->staged + copied, 0, size - n);
    kv_wal_stage(wal, copied + size - n);

    wal->len += size;
    wal->count++;
    wal->puts += kv_wal_can_wait(rec);

    return KV_OK;
}


/*
 * Whether the reserve is not for it: it frees nothing, or nothing that a client
 * waits for.
 */

static bool
kv_wal_can_wait(const kv_record_t *rec)
{
    return (rec->op != KV_OP_DELETE && rec->op != KV_OP_CLEAR)
           || (rec->flags & KV_RECORD_EXPIRES);
}


void
kv_wal_set_entry(kv_wal_t *wal, const kv_wal_entry_t *e)
{
    assert(e->type == KV_ENTRY_RECORDS && wal->count > 0);

    wal->entry = *e;
}


size_t
kv_wal_pending(const kv_wal_t *wal)
{
    return wal->count ? wal->len : 0;
}


size_t
kv_wal_copy_records(const kv_wal_t *wal, void *buf)
{
    size_t    i, n, skip;
    uint8_t  *p;

    p = buf;
    skip = sizeof(kv_batch_header_t);

    for (i = 0; i < wal->iov_n; i++) {
        n = wal->iov[i].iov_len - skip;
        memcpy(p, (uint8_t *) wal->iov[i].iov_base + skip, n);
        p += n;
        skip = 0;
    }

    return (size_t) (p - (uint8_t *) buf);
}


size_t
kv_wal_space(const kv_wal_t *wal)
{
    return wal->max_batch - wal->len;
}


kv_rc_t
kv_wal_check(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t  rc;

    kv_wal_settle(wal->state);

    rc = kv_wal_end_cut(wal, err);

    if (rc == KV_ERROR) {
        return rc;
    }

    if (wal->state->rewrite_end) {
        return kv_wal_sync(wal, err);
    }

    return wal->state->segment_size && !kv_wal_replaceable(wal->state)
           ? kv_wal_current(wal, err) : KV_OK;
}


kv_rc_t
kv_wal_mark(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t            rc;
    struct iovec       iov;
    kv_wal_state_t    *state;
    kv_batch_header_t  h;

    state = wal->state;

    kv_wal_settle(state);

    if (atomic_load(&state->cutting) || state->segment_size < KV_WAL_MARK
        || state->offset > state->segment_size - KV_WAL_MARK
        || kv_wal_current(wal, NULL) != KV_OK)
    {
        return KV_OK;
    }

    kv_wal_header(wal, &h, 0, 0);
    kv_wal_assert(wal, &h);

    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, sizeof(h) - 8);

    iov.iov_base = &h;
    iov.iov_len = sizeof(h);

    rc = kv_direct_writev(&wal->out, &iov, 1, state->offset);

    if (rc != KV_ERROR) {
        return KV_OK;
    }

    kv_wal_write_failed(wal, rc, KV_WAL_MARK, err);

    return rc;
}


kv_rc_t
kv_wal_leave_closed(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_closed_t      closed;
    kv_wal_state_t  *state;

    state = wal->state;

    kv_wal_settle(state);

    rc = kv_wal_end_cut(wal, err);

    if (rc == KV_ERROR) {
        return rc;
    }

    /*
     * If the rest of a segment was given up, the state does not tell where the
     * batches end, but the note that was found does.
     */

    if (state->segment_size == 0
        || atomic_load(&state->closed) == KV_WAL_NOTE_OWN
        || (atomic_load(&state->closed) == KV_WAL_NOTE_END
            && state->offset == state->segment_size))
    {
        return KV_OK;
    }

    rc = kv_wal_mark(wal, err);

    if (rc == KV_OK) {
        rc = kv_wal_sync(wal, err);
    }

    if (rc != KV_OK) {
        return rc;
    }

    memset(&closed, 0, sizeof(closed));

    memcpy(closed.magic, KV_CLOSED_MAGIC, sizeof(closed.magic));
    closed.version = KV_FORMAT_VERSION;
    closed.lsn = state->next_lsn - 1;
    closed.segment_lsn = state->segment_lsn;
    closed.segment_salt = state->segment_salt;
    closed.offset = state->offset;
    closed.id = kv_wal_id(state);

    atomic_store(&state->closed, KV_WAL_NOTE_OLD);

    return kv_wal_write_closed(wal, &closed, err);
}


/* Takes the next `n` bytes of the staging buffer into the batch. */

static void
kv_wal_stage(kv_wal_t *wal, size_t n)
{
    uint8_t       *p;
    struct iovec  *last;

    assert(n <= wal->max_batch - wal->staged);

    if (n == 0) {
        return;
    }

    p = wal->staging + wal->staged;
    wal->staged += n;

    if (wal->iov_n) {
        last = &wal->iov[wal->iov_n - 1];

        if ((uint8_t *) last->iov_base + last->iov_len == p) {
            last->iov_len += n;
            return;
        }
    }

    assert(wal->iov_n < wal->iov_max);

    wal->iov[wal->iov_n].iov_base = p;
    wal->iov[wal->iov_n].iov_len = n;
    wal->iov_n++;
}


static void
kv_wal_refer(kv_wal_t *wal, const struct iovec *piece)
{
    assert(wal->iov_n < wal->iov_max);

    wal->iov[wal->iov_n++] = *piece;
}
