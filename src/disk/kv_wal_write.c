
/*
 * The log's writing half: batches and the segments they go to.
 *
 * Two things keep it whole when a process dies at any instruction.  Bytes
 * come first and the state after them, so that what a dead process had begun
 * lies behind the end of the log.  And a segment is closed to batches before
 * the name of the next one appears: LSNs of two segments never overlap.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/random.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


/* Pieces of a value from this size on are written from where they lie. */
#define KV_WAL_COPY      8192

#define KV_WAL_SIZE_MIN  65536u
#define KV_WAL_MARK      sizeof(kv_batch_header_t)

/* names that a new file may have until it is complete */
#define KV_WAL_TMP_TRIES 100u


static void kv_wal_write_failed(kv_wal_t *wal, kv_rc_t rc, size_t len,
    kv_err_t *err);
static void kv_wal_reset(kv_wal_t *wal);
static void kv_wal_stage(kv_wal_t *wal, size_t n);
static void kv_wal_refer(kv_wal_t *wal, const struct iovec *piece);
static void kv_wal_header(kv_wal_t *wal, kv_batch_header_t *h, size_t len,
    uint32_t count);
static const char *kv_wal_advice(kv_rc_t rc);
static kv_rc_t kv_wal_rewrite_tail(kv_wal_t *wal, kv_err_t *err);

static kv_rc_t kv_wal_current(kv_wal_t *wal, kv_err_t *err);
static void kv_wal_use(kv_wal_t *wal, int fd, uint64_t lsn, uint64_t salt);
static kv_rc_t kv_wal_there(kv_wal_t *wal, kv_err_t *err);
static kv_rc_t kv_wal_place(kv_wal_t *wal, kv_err_t *err);
static bool kv_wal_full(kv_wal_t *wal, size_t reserve);
static kv_rc_t kv_wal_next_segment(kv_wal_t *wal, kv_err_t *err);
static kv_rc_t kv_wal_new_file(kv_wal_t *wal, char *tmp, int *fd);
static kv_rc_t kv_wal_new_header(kv_wal_t *wal, int fd,
    kv_wal_position_t *to);


static const char  kv_wal_put_back[] =
    "a restart would lose the writes in it: first put it back (another "
    "worker's /proc/<pid>/fd may still have it)";


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

    /* each piece that is referred to may have staged bytes before it */

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
    size_t               i, n, size;
    const struct iovec  *piece;

    size = kv_record_size(rec);

    if (size > wal->max_batch - wal->len) {
        assert(wal->count > 0);
        return KV_AGAIN;
    }

    n = kv_record_encode_head(rec, wal->staging + wal->staged);
    kv_wal_stage(wal, n);

    for (i = 0; rec->value_len && i < rec->value_n; i++) {
        piece = &rec->value[i];

        assert(piece->iov_len <= size - n);

        if (piece->iov_len >= KV_WAL_COPY) {
            kv_wal_refer(wal, piece);

        } else if (piece->iov_len) {
            memcpy(wal->staging + wal->staged, piece->iov_base,
                   piece->iov_len);
            kv_wal_stage(wal, piece->iov_len);
        }

        n += piece->iov_len;
    }

    assert(size - n < 8);

    if (n < size) {
        memset(wal->staging + wal->staged, 0, size - n);
        kv_wal_stage(wal, size - n);
    }

    wal->len += size;
    wal->count++;
    wal->puts += rec->op == KV_OP_PUT;

    return KV_OK;
}


kv_rc_t
kv_wal_write(kv_wal_t *wal, kv_err_t *err)
{
    size_t             i, skip, written;
    kv_rc_t            rc;
    kv_wal_state_t    *state;
    kv_batch_header_t  h;
    kv_wal_position_t  to;

    if (wal->count == 0) {
        return KV_OK;
    }

    state = wal->state;

    kv_wal_settle(state);

    rc = atomic_load(&state->closed) ? kv_wal_open_again(wal, err) : KV_OK;

    if (rc == KV_OK) {
        rc = kv_wal_place(wal, err);
    }

    if (rc != KV_OK) {
        return rc;
    }

    kv_wal_header(wal, &h, wal->len - sizeof(h), wal->count);

    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, sizeof(h) - 8);
    skip = sizeof(h);

    for (i = 0; i < wal->iov_n; i++) {
        h.crc = kv_crc32c(h.crc, (uint8_t *) wal->iov[i].iov_base + skip,
                          wal->iov[i].iov_len - skip);
        skip = 0;
    }

    memcpy(wal->staging, &h, sizeof(h));
    memcpy(wal->iov_copy, wal->iov, wal->iov_n * sizeof(struct iovec));

    written = kv_direct_bytes(&wal->out, state->offset, wal->len);
    rc = kv_direct_writev(&wal->out, wal->iov_copy, wal->iov_n,
                          state->offset);

    if (rc != KV_OK) {
        kv_wal_write_failed(wal, rc, wal->len, err);
        return rc;
    }

    to.segment_lsn = state->segment_lsn;
    to.segment_salt = state->segment_salt;
    to.segment_size = state->segment_size;
    to.offset = state->offset + wal->len;
    to.next_lsn = state->next_lsn + wal->count;

    kv_wal_move(state, &to);

    atomic_fetch_add_explicit(&state->bytes, wal->len, memory_order_relaxed);
    atomic_fetch_add_explicit(&state->written, written, memory_order_relaxed);

    kv_wal_reset(wal);

    return KV_OK;
}


size_t
kv_wal_pending(const kv_wal_t *wal)
{
    return wal->count ? wal->len : 0;
}


kv_rc_t
kv_wal_check(kv_wal_t *wal, kv_err_t *err)
{
    kv_wal_settle(wal->state);

    if (wal->state->rewrite_end) {
        return kv_wal_sync(wal, err);
    }

    return wal->state->segment_size ? kv_wal_current(wal, err) : KV_OK;
}


kv_rc_t
kv_wal_sync(kv_wal_t *wal, kv_err_t *err)
{
    char             name[KV_NAME_MAX];
    kv_rc_t          rc;
    uint64_t         last;
    kv_wal_state_t  *state;

    state = wal->state;

    kv_wal_settle(state);

    last = state->next_lsn - 1;

    if (state->durable_lsn >= last) {
        return KV_OK;
    }

    if (state->rewrite_end) {
        rc = kv_wal_rewrite_tail(wal, err);

        if (rc != KV_OK) {
            return rc;
        }
    }

    /* all segments before the current one were synced before it was begun */

    rc = kv_wal_current(wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_io_sync(wal->io, wal->fd);

    if (rc != KV_OK) {
        kv_err_set(err, "%s: syncing up to offset %" PRIu64 " failed: %s; %s",
                   kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
                   state->offset, strerror(errno), kv_wal_advice(rc));
        return rc;
    }

    state->durable_lsn = last;

    return KV_OK;
}


/*
 * What the start could not do for want of room: see kv_wal_rewrite().  With a
 * descriptor of its own, as the other one may have to keep to whole blocks.
 */

static kv_rc_t
kv_wal_rewrite_tail(kv_wal_t *wal, kv_err_t *err)
{
    int              fd, saved;
    char             name[KV_NAME_MAX];
    size_t           n;
    kv_rc_t          rc;
    uint8_t          buf[KV_SEGMENT_HEADER];
    ssize_t          got;
    uint64_t         offset, size;
    kv_wal_state_t  *state;

    state = wal->state;

    fd = kv_wal_open(wal, state->segment_lsn, buf, &size);
    rc = fd == -1 ? kv_wal_rc() : KV_OK;

    for (offset = state->rewrite; rc == KV_OK && offset < state->rewrite_end;
         offset += n)
    {
        n = (size_t) kv_min(state->rewrite_end - offset,
                            (uint64_t) sizeof(buf));
        got = kv_io_read(wal->io, fd, buf, n, (off_t) offset);

        if (got != (ssize_t) n) {
            errno = got == -1 ? errno : EIO;
            rc = KV_ERROR;

        } else {
            rc = kv_io_write(wal->io, fd, buf, n, (off_t) offset);
        }
    }

    /* a sync that found no room is not believed: all is written again */

    if (rc == KV_OK && kv_io_sync(wal->io, fd) != KV_OK) {
        rc = kv_wal_rc();
    }

    saved = errno;

    if (fd != -1) {
        (void) wal->io->close(wal->io, fd);
    }

    errno = saved;

    if (rc == KV_OK) {
        state->rewrite_end = 0;
        return KV_OK;
    }

    kv_err_set(err, "%s: writing the log's end once more failed: %s; %s",
               kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
               strerror(errno), kv_wal_advice(rc));

    return rc;
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

    if (state->segment_size < KV_WAL_MARK
        || state->offset > state->segment_size - KV_WAL_MARK
        || kv_wal_current(wal, NULL) != KV_OK)
    {
        return KV_OK;
    }

    kv_wal_header(wal, &h, 0, 0);
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


/* Names the file, where in it, and what to do. */

static void
kv_wal_write_failed(kv_wal_t *wal, kv_rc_t rc, size_t len, kv_err_t *err)
{
    char             name[KV_NAME_MAX];
    kv_wal_state_t  *state;

    state = wal->state;

    kv_err_set(err, "%s: writing %zu bytes at offset %" PRIu64 " failed: %s; "
               "%s", kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
               len, state->offset, strerror(errno), kv_wal_advice(rc));
}


/* What to do about it; see kv_state.h. */

static const char *
kv_wal_advice(kv_rc_t rc)
{
    switch (rc) {

    case KV_NO_SPACE:
        return "writes work again when there is room on the disk";

    case KV_AGAIN:
        return "writes work again when that has passed";

    default:
        return "see to the disk, then restart";
    }
}


static void
kv_wal_reset(kv_wal_t *wal)
{
    wal->staged = 0;
    wal->iov_n = 0;
    wal->len = sizeof(kv_batch_header_t);
    wal->count = 0;
    wal->puts = 0;

    kv_wal_stage(wal, sizeof(kv_batch_header_t));
}


/* Takes the next `n` bytes of the staging buffer into the batch. */

static void
kv_wal_stage(kv_wal_t *wal, size_t n)
{
    uint8_t       *p;
    struct iovec  *last;

    assert(n <= wal->max_batch - wal->staged);

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


/* The header of a batch at the log's end, but for its checksum. */

static void
kv_wal_header(kv_wal_t *wal, kv_batch_header_t *h, size_t len, uint32_t count)
{
    h->magic = KV_BATCH_MAGIC;
    h->crc = 0;
    h->len = (uint32_t) len;
    h->count = count;
    h->first_lsn = wal->state->next_lsn;
    h->durable_lsn = wal->state->durable_lsn;
    h->salt = wal->state->segment_salt;

    assert(h->durable_lsn < h->first_lsn);
}


/*
 * Sees to it that wal->fd is the current segment.  The file is checked: were
 * it another one, batches would go where no replay looks for them.
 */

static kv_rc_t
kv_wal_current(kv_wal_t *wal, kv_err_t *err)
{
    int                   fd;
    char                  name[KV_NAME_MAX];
    kv_rc_t               rc;
    uint8_t               buf[KV_SEGMENT_HEADER];
    uint64_t              size;
    kv_wal_state_t       *state;
    kv_segment_header_t   h;

    state = wal->state;

    if (wal->fd != -1 && wal->fd_lsn == state->segment_lsn
        && wal->fd_salt == state->segment_salt)
    {
        return KV_OK;
    }

    kv_wal_close(wal);

    (void) kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn);

    fd = kv_wal_open(wal, state->segment_lsn, buf, &size);

    if (fd == -1) {
        rc = kv_wal_rc();
        kv_err_set(err, "%s: the current segment cannot be opened: %s; %s",
                   name, strerror(errno), errno == ENOENT
                   ? kv_wal_put_back : kv_wal_advice(rc));
        return rc;
    }

    memcpy(&h, buf, sizeof(h));

    if (h.salt != state->segment_salt || size < state->segment_size) {

        if (h.salt != state->segment_salt) {
            kv_err_set(err, "%s: offset 0: this is not the segment that was "
                       "being written; %s", name, kv_wal_put_back);
        } else {
            kv_err_set(err, "%s: the current segment became shorter; restart, "
                       "to read the log back", name);
        }

        (void) wal->io->close(wal->io, fd);
        errno = ESTALE;
        return KV_ERROR;
    }

    kv_wal_use(wal, fd, state->segment_lsn, state->segment_salt);

    return KV_OK;
}


static void
kv_wal_use(kv_wal_t *wal, int fd, uint64_t lsn, uint64_t salt)
{
    wal->fd = fd;
    wal->fd_lsn = lsn;
    wal->fd_salt = salt;

    kv_direct_use(&wal->out, fd, wal->direct);
}


/*
 * A segment that somebody deletes would take every further write along, and
 * only its descriptors still give what is in it.
 */

static kv_rc_t
kv_wal_there(kv_wal_t *wal, kv_err_t *err)
{
    char             name[KV_NAME_MAX];
    kv_wal_state_t  *state;

    state = wal->state;

    if (wal->fd == -1 || wal->fd_lsn != state->segment_lsn
        || wal->fd_salt != state->segment_salt
        || wal->io->links == NULL || wal->io->links(wal->io, wal->fd) != 0)
    {
        return KV_OK;
    }

    kv_err_set(err, "%s: the current segment was deleted, and a restart would "
               "lose the writes in it: first copy \"/proc/%d/fd/%d\" to its "
               "place", kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
               (int) getpid(), wal->fd);
    errno = ENOENT;

    return KV_ERROR;
}


/*
 * Sees to it that the batch fits into the segment that is open.  What puts
 * leave at a segment's end is for who makes things smaller while there can be
 * no new one.
 */

static kv_rc_t
kv_wal_place(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t  rc;

    rc = kv_wal_there(wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    if (!kv_wal_full(wal, wal->reserve)) {
        return kv_wal_current(wal, err);
    }

    rc = kv_wal_next_segment(wal, err);

    if ((rc == KV_NO_SPACE || rc == KV_AGAIN) && wal->puts == 0
        && !kv_wal_full(wal, 0))
    {
        rc = kv_wal_current(wal, err);
    }

    return rc;
}


/*
 * Room is left for the mark behind the last batch, so that this one, too, has
 * somebody to say that it was durable; a batch that fills a segment by itself
 * goes without.
 */

static bool
kv_wal_full(kv_wal_t *wal, size_t reserve)
{
    size_t           n;
    kv_wal_state_t  *state;

    state = wal->state;
    n = wal->len;

    if (state->segment_size == 0) {
        return true;
    }

    if (state->offset != KV_SEGMENT_HEADER) {
        n += KV_WAL_MARK + reserve;
    }

    return n > state->segment_size - state->offset;
}


static kv_rc_t
kv_wal_next_segment(kv_wal_t *wal, kv_err_t *err)
{
    int                fd, saved;
    char               tmp[KV_NAME_MAX], name[KV_NAME_MAX];
    bool               more;
    kv_rc_t            rc;
    kv_wal_state_t    *state;
    kv_wal_position_t  to, closed;

    state = wal->state;

    rc = kv_wal_sync(wal, err);

    if (rc != KV_OK) {
        return rc;
    }

    (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, state->next_lsn);
    (void) kv_wal_name(name, KV_WAL_SEGMENT, state->next_lsn);

    rc = kv_wal_new_file(wal, tmp, &fd);

    if (rc != KV_OK) {
        goto failed;
    }

    rc = kv_wal_new_header(wal, fd, &to);

    if (rc != KV_OK) {
        goto half_made;
    }

    closed.segment_lsn = state->segment_lsn;
    closed.segment_salt = state->segment_salt;
    closed.segment_size = state->segment_size;
    closed.offset = state->segment_size;
    closed.next_lsn = state->next_lsn;

    kv_wal_move(state, &closed);

    if (wal->io->rename(wal->io, wal->dirfd, tmp, name) == -1) {
        rc = kv_wal_rc();
        goto half_made;
    }

    more = state->segment_size == 0 || state->segment_lsn != to.segment_lsn;

    /* nobody believes in the name yet: the next try makes it anew */

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        rc = kv_wal_rc();
        saved = errno;
        (void) wal->io->close(wal->io, fd);

        if (more && rc != KV_ERROR) {
            (void) wal->io->unlink(wal->io, wal->dirfd, name);
        }

        errno = saved;
        goto failed;
    }

    kv_wal_move(state, &to);

    if (more) {
        atomic_fetch_add_explicit(&state->segments, 1, memory_order_relaxed);
    }

    kv_wal_close(wal);
    kv_wal_use(wal, fd, to.segment_lsn, to.segment_salt);

    return KV_OK;

half_made:

    saved = errno;
    (void) wal->io->close(wal->io, fd);
    (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
    errno = saved;

failed:

    kv_err_set(err, "%s: the new segment cannot be made: %s; %s", name,
               strerror(errno), kv_wal_advice(rc));

    return rc;
}


/*
 * Makes the file `tmp`, or one of another LSN's name, which it then holds: what
 * a predecessor left there may be impossible to delete.
 */

static kv_rc_t
kv_wal_new_file(kv_wal_t *wal, char *tmp, int *fd)
{
    kv_rc_t   rc;
    uint64_t  number;

    rc = kv_wal_take_spare(wal, tmp, fd);

    if (rc != KV_NOT_FOUND) {
        return rc;
    }

    number = wal->state->next_lsn;

    do {
        (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, number++);

        rc = kv_io_preallocate(wal->io, wal->dirfd, tmp,
                               (off_t) wal->segment_size, NULL, fd);

    } while (rc == KV_ERROR && errno == EEXIST
             && number - wal->state->next_lsn < KV_WAL_TMP_TRIES);

    return rc;
}


/* Puts the file to use: header, salt, sync.  *to is its beginning. */

static kv_rc_t
kv_wal_new_header(kv_wal_t *wal, int fd, kv_wal_position_t *to)
{
    kv_rc_t              rc;
    uint8_t              buf[KV_SEGMENT_HEADER];
    kv_segment_header_t  h;

    memset(buf, 0, sizeof(buf));

    memcpy(h.magic, KV_SEGMENT_MAGIC, sizeof(h.magic));
    h.version = KV_FORMAT_VERSION;
    h.crc = 0;
    h.size = wal->segment_size;
    h.first_lsn = wal->state->next_lsn;

    if (getrandom(&h.salt, sizeof(h.salt), 0) != sizeof(h.salt)) {
        return kv_wal_rc();
    }

    memcpy(buf, &h, sizeof(h));

    h.crc = kv_wal_header_crc(buf);

    memcpy(buf, &h, sizeof(h));

    rc = kv_io_write(wal->io, fd, buf, sizeof(buf), 0);

    if (rc != KV_OK) {
        return rc;
    }

    /* nothing was believed of this file yet: a full disk may pass */

    if (kv_io_sync(wal->io, fd) != KV_OK) {
        return kv_wal_rc();
    }

    to->segment_lsn = h.first_lsn;
    to->segment_salt = h.salt;
    to->segment_size = h.size;
    to->offset = KV_SEGMENT_HEADER;
    to->next_lsn = h.first_lsn;

    return KV_OK;
}


void
kv_wal_move(kv_wal_state_t *state, const kv_wal_position_t *to)
{
    state->to = *to;
    atomic_store(&state->moving, 1);

    kv_wal_settle(state);
}


void
kv_wal_settle(kv_wal_state_t *state)
{
    if (atomic_load(&state->moving) == 0) {
        return;
    }

    state->segment_lsn = state->to.segment_lsn;
    state->segment_salt = state->to.segment_salt;
    state->segment_size = state->to.segment_size;
    state->offset = state->to.offset;
    atomic_store(&state->next_lsn, state->to.next_lsn);

    atomic_store(&state->moving, 0);
}


void
kv_wal_close(kv_wal_t *wal)
{
    if (wal->fd != -1) {
        kv_direct_use(&wal->out, -1, false);
        (void) wal->io->close(wal->io, wal->fd);
        wal->fd = -1;
    }
}
