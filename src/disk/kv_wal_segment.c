
/*
 * The segment that batches go to: opened, synced, and followed by a new one;
 * and where the log ends.
 *
 * Two things keep it whole when a process dies at any instruction.  The state
 * moves as one step.  And a segment is closed to batches before the next one
 * gets its name: LSNs of two segments never overlap.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/random.h>

#include "base/kv_crc32c.h"
#include "base/kv_failpoint.h"
#include "disk/kv_wal_private.h"


/* names that a new file may have until it is complete */
#define KV_WAL_TMP_TRIES 100u


static kv_rc_t kv_wal_sync_segment(kv_wal_t *wal, kv_err_t *err);
static void kv_wal_synced(kv_wal_state_t *state, uint64_t lsn);
static bool kv_wal_has_batch(const kv_wal_state_t *state);
static kv_rc_t kv_wal_rewrite_tail(kv_wal_t *wal, kv_err_t *err);
static kv_rc_t kv_wal_rewrite_batches(kv_wal_t *wal, int fd, size_t head);
static kv_rc_t kv_wal_rewrite_batch(kv_wal_t *wal, int fd, uint64_t offset,
    size_t head, const kv_batch_header_t *h);
static kv_rc_t kv_wal_read_back(kv_wal_t *wal, int fd, void *buf, size_t n,
    uint64_t offset);
static void kv_wal_use(kv_wal_t *wal, int fd, uint64_t lsn, uint64_t salt);
static kv_rc_t kv_wal_make_segment(kv_wal_t *wal, kv_wal_rest_t *rest,
    bool cut, kv_err_t *err);
static kv_rc_t kv_wal_begin_segment(kv_wal_t *wal, int fd, const char *tmp,
    const char *name, kv_wal_rest_t *rest, bool cut);
static kv_rc_t kv_wal_name_failed(kv_wal_t *wal, const char *name, bool more,
    bool cut);
static void kv_wal_end_segment(kv_wal_state_t *state);
static void kv_wal_begin_cut(kv_wal_state_t *state, kv_wal_rest_t *rest);
static kv_rc_t kv_wal_new_file(kv_wal_t *wal, uint64_t lsn, char *tmp, int *fd);
static kv_rc_t kv_wal_new_header(kv_wal_t *wal, int fd, kv_wal_rest_t *rest);
static kv_rc_t kv_wal_new_entries(kv_wal_t *wal, int fd, kv_wal_rest_t *rest,
    kv_wal_position_t *to);
static void kv_wal_same_rest(const kv_wal_state_t *state, kv_wal_rest_t *rest);


static const char  kv_wal_put_back[] =
    "a restart would lose the writes in it: first put it back (another "
    "worker's /proc/<pid>/fd may still have it)";


kv_rc_t
kv_wal_sync(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_wal_state_t  *state;

    state = wal->state;

    kv_wal_settle(state);

    rc = kv_wal_end_cut(wal, err);

    if (rc == KV_ERROR) {
        return rc;
    }

    if (state->durable_lsn >= state->next_lsn - 1
        && !atomic_load(&state->unsynced))
    {
        /* a process may have died when its sync had succeeded */

        state->rewrite_end = 0;
        atomic_store(&state->syncing, 0);

        return KV_OK;
    }

    if (kv_wal_replaceable(state)) {

        /* what it had is in the STATE of the one that takes its place */

        return kv_wal_next_segment(wal, err);
    }

    return kv_wal_sync_segment(wal, err);
}


static kv_rc_t
kv_wal_sync_segment(kv_wal_t *wal, kv_err_t *err)
{
    char             name[KV_NAME_MAX];
    kv_rc_t          rc;
    kv_wal_state_t  *state;

    state = wal->state;

    /* a process died in its sync: if that failed, another would not tell */

    if (atomic_load(&state->syncing)
        && (state->rewrite_end == 0 || state->offset < state->segment_size))
    {
        state->rewrite_end = kv_wal_last_end(state);
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

    atomic_store(&state->syncing, 1);

    rc = kv_io_sync(wal->io, wal->fd);

    if (rc != KV_OK) {
        kv_err_set(err, "%s: syncing up to offset %" PRIu64 " failed: %s; %s",
                   kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
                   state->offset, strerror(errno), kv_wal_advice(rc));
        return rc;
    }

    kv_wal_synced(state, state->next_lsn - 1);

    /* not before: of a sealed segment nothing else says where it ends */

    state->rewrite_end = 0;
    atomic_store(&state->syncing, 0);

    return KV_OK;
}


/* All of the current segment is synced, and so are the LSNs up to that one. */

static void
kv_wal_synced(kv_wal_state_t *state, uint64_t lsn)
{
    atomic_store(&state->durable_salt, 0);
    state->durable_offset = kv_wal_last_end(state);
    state->durable_lsn = lsn;
    state->durable_commit = state->replica.commit;
    atomic_store(&state->durable_salt, state->segment_salt);

    atomic_store(&state->unsynced, 0);
}


/*
 * Writes the batches that are not known to be durable once more, and syncs
 * them: see kv_wal_rewrite(), whose work this is if the disk was full at the
 * start, or if a process died in its sync.  With a descriptor of its own, as
 * the other one may be limited to whole blocks.
 */

static kv_rc_t
kv_wal_rewrite_tail(kv_wal_t *wal, kv_err_t *err)
{
    int                   fd, saved;
    char                  name[KV_NAME_MAX];
    kv_rc_t               rc;
    uint8_t               buf[KV_SEGMENT_HEADER];
    uint64_t              size;
    kv_wal_state_t       *state;
    kv_segment_header_t   h;

    state = wal->state;

    fd = kv_wal_open(wal, state->segment_lsn, buf, &size);

    if (fd == -1) {
        rc = kv_wal_rc();

    } else {
        memcpy(&h, buf, sizeof(h));
        rc = kv_wal_rewrite_batches(wal, fd, kv_wal_batch_header(h.version));
    }

    /* a sync that found no space does not count: all is written again */

    if (rc == KV_OK && kv_io_sync(wal->io, fd) != KV_OK) {
        rc = kv_wal_rc();
    }

    saved = errno;

    if (fd != -1) {
        (void) wal->io->close(wal->io, fd);
    }

    errno = saved;

    if (rc == KV_OK) {
        return KV_OK;
    }

    kv_err_set(err, "%s: writing the log's end once more failed: %s; %s",
               kv_wal_name(name, KV_WAL_SEGMENT, state->segment_lsn),
               strerror(errno), kv_wal_advice(rc));

    return rc;
}


static kv_rc_t
kv_wal_rewrite_batches(kv_wal_t *wal, int fd, size_t head)
{
    kv_rc_t             rc;
    uint64_t            offset, lsn;
    kv_wal_state_t     *state;
    kv_batch_header_t   h;

    state = wal->state;
    offset = KV_SEGMENT_HEADER;
    lsn = state->segment_lsn;
    rc = KV_OK;

    if (atomic_load(&state->durable_salt) == state->segment_salt) {
        offset = state->durable_offset;
        lsn = state->durable_lsn + 1;
    }

    for ( /* void */ ; rc == KV_OK && offset < state->rewrite_end;
         offset += head + h.len)
    {
        memset(&h, 0, sizeof(h));
        rc = kv_wal_read_back(wal, fd, &h, head, offset);

        if (rc != KV_OK) {
            return rc;
        }

        if (h.magic != KV_BATCH_MAGIC || h.salt != state->segment_salt
            || h.first_lsn != lsn || (h.count == 0 && h.type == KV_ENTRY_NONE)
            || h.len > state->rewrite_end - offset - head)
        {
            errno = EIO;
            return KV_ERROR;
        }

        lsn += h.count;

        if (lsn - 1 > state->durable_lsn || h.count == 0) {
            rc = kv_wal_rewrite_batch(wal, fd, offset, head, &h);
        }
    }

    return rc;
}


/*
 * What is read may be what was on the disk before the batch: the system may
 * have dropped what it could not write.  So the checksum is verified.
 */

static kv_rc_t
kv_wal_rewrite_batch(kv_wal_t *wal, int fd, uint64_t offset, size_t head,
    const kv_batch_header_t *h)
{
    size_t    n, skip;
    kv_rc_t   rc;
    uint8_t   buf[KV_SEGMENT_HEADER];
    uint32_t  crc;
    uint64_t  end;

    end = offset + head + h->len;
    skip = offsetof(kv_batch_header_t, len);
    crc = 0;

    for ( /* void */ ; offset < end; offset += n) {

        n = (size_t) kv_min(end - offset, (uint64_t) sizeof(buf));
        rc = kv_wal_read_back(wal, fd, buf, n, offset);

        if (rc == KV_OK) {
            rc = kv_io_write(wal->io, fd, buf, n, (off_t) offset);
        }

        if (rc != KV_OK) {
            return rc;
        }

        crc = kv_crc32c(crc, buf + skip, n - skip);
        skip = 0;
    }

    if (crc != h->crc) {
        errno = EIO;
        return KV_ERROR;
    }

    return KV_OK;
}


static kv_rc_t
kv_wal_read_back(kv_wal_t *wal, int fd, void *buf, size_t n, uint64_t offset)
{
    ssize_t  got;

    got = kv_io_read(wal->io, fd, buf, n, (off_t) offset);

    if (got != (ssize_t) n) {
        errno = got == -1 ? errno : EIO;
        return KV_ERROR;
    }

    return KV_OK;
}


kv_rc_t
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

    /* one that is closed to batches may have been too short at the start */

    if (h.salt != state->segment_salt
        || (size < state->segment_size && state->offset < state->segment_size))
    {
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


/*
 * Whether there is something in the current segment that can be lost.  What has
 * no LSN cannot: it is in the STATE that the next segment begins with.
 */

static bool
kv_wal_has_batch(const kv_wal_state_t *state)
{
    return state->segment_size && state->next_lsn > state->segment_lsn;
}


static void
kv_wal_use(kv_wal_t *wal, int fd, uint64_t lsn, uint64_t salt)
{
    wal->fd = fd;
    wal->fd_lsn = lsn;
    wal->fd_salt = salt;

    (void) kv_wal_name(wal->fd_name, KV_WAL_SEGMENT, lsn);

    kv_direct_use(&wal->out, fd, wal->direct);
}


kv_rc_t
kv_wal_check_name(kv_wal_t *wal, kv_err_t *err)
{
    kv_wal_state_t  *state;

    state = wal->state;

    if (wal->fd == -1 || wal->fd_lsn != state->segment_lsn
        || wal->fd_salt != state->segment_salt || wal->io->named == NULL
        || wal->io->named(wal->io, wal->dirfd, wal->fd_name, wal->fd) != 0)
    {
        return KV_OK;
    }

    if (!kv_wal_has_batch(state)) {

        /* or another process died, or failed, while it made it anew */

        kv_wal_seal(state);
        return KV_OK;
    }

    kv_err_set(err, "%s: the current segment was deleted or renamed, and a "
               "restart would lose the writes in it: first copy "
               "\"/proc/%d/fd/%d\" to its place", wal->fd_name,
               (int) getpid(), wal->fd);
    errno = ENOENT;

    return KV_ERROR;
}


kv_rc_t
kv_wal_next_segment(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t         rc;
    kv_wal_rest_t   rest;
    kv_wal_state_t *state;

    state = wal->state;
    rc = kv_wal_replaceable(state) ? KV_OK : kv_wal_sync(wal, err);

    /* a log with a segment missing in it cannot be read */

    if (rc == KV_OK && kv_wal_has_batch(state)) {
        rc = kv_wal_current(wal, err);
    }

    if (rc != KV_OK) {
        return rc;
    }

    assert(state->durable_lsn == state->next_lsn - 1);

    rc = state->segment_size && !kv_wal_has_batch(state)
         ? kv_wal_keep_rest(wal, &rest, err) : KV_NOT_FOUND;

    /* where the file is gone, or damaged, memory still has its last vote */

    if (rc == KV_NOT_FOUND || rc == KV_DAMAGED) {
        kv_wal_same_rest(state, &rest);
        rc = KV_OK;
    }

    if (rc == KV_OK) {
        rc = kv_wal_make_segment(wal, &rest, false, err);
        free(rest.entries);
    }

    return rc;
}


/* The log goes on where it is. */

static void
kv_wal_same_rest(const kv_wal_state_t *state, kv_wal_rest_t *rest)
{
    kv_wal_here(state, &rest->to);

    rest->entries = NULL;
    rest->len = 0;

    if (!state->replicated) {
        return;
    }

    /* one that takes the place of another follows on the same one */

    if (state->segment_size == 0 || state->segment_lsn != state->next_lsn) {
        rest->to.replica.before = state->replica.end;
    }

    rest->first = rest->to.replica;
    memcpy(rest->members, kv_wal_members(state), state->replica.members_len);
    memcpy(rest->first_members, rest->members, state->replica.members_len);
}


kv_rc_t
kv_wal_cut_segment(kv_wal_t *wal, kv_wal_rest_t *rest, kv_err_t *err)
{
    return kv_wal_make_segment(wal, rest, true, err);
}


/* `cut`: entries are given up. */

static kv_rc_t
kv_wal_make_segment(kv_wal_t *wal, kv_wal_rest_t *rest, bool cut,
    kv_err_t *err)
{
    int       fd;
    char      tmp[KV_NAME_MAX], name[KV_NAME_MAX];
    kv_rc_t   rc;
    uint64_t  lsn;

    lsn = rest->to.next_lsn;

    (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, lsn);
    (void) kv_wal_name(name, KV_WAL_SEGMENT, lsn);

    rc = kv_wal_new_file(wal, lsn, tmp, &fd);

    if (rc == KV_OK) {
        rc = kv_wal_begin_segment(wal, fd, tmp, name, rest, cut);
    }

    if (rc != KV_OK) {
        kv_err_set(err, "%s: the new segment cannot be made: %s; %s", name,
                   strerror(errno), kv_wal_advice(rc));
    }

    return rc;
}


/*
 * Makes the file `tmp`, open as `fd`, the current segment `name`.  On failure
 * the file is closed and, unless only the sync of its name failed, deleted;
 * errno is set.
 */

static kv_rc_t
kv_wal_begin_segment(kv_wal_t *wal, int fd, const char *tmp, const char *name,
    kv_wal_rest_t *rest, bool cut)
{
    int                       saved;
    bool                      more;
    kv_rc_t                   rc;
    kv_wal_state_t           *state;
    const kv_wal_position_t  *to;

    state = wal->state;
    to = &rest->to;

    rc = kv_wal_new_header(wal, fd, rest);

    if (rc == KV_OK) {
        kv_wal_end_segment(state);

        if (cut) {
            kv_wal_begin_cut(state, rest);
        }

        if (wal->io->rename(wal->io, wal->dirfd, tmp, name) == -1) {
            rc = kv_wal_rc();
            atomic_store(&state->cutting, 0);
        }
    }

    if (rc != KV_OK) {
        saved = errno;
        (void) wal->io->close(wal->io, fd);
        (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
        errno = saved;

        return rc;
    }

    more = state->segment_size == 0 || state->segment_lsn != to->segment_lsn;

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        rc = kv_wal_name_failed(wal, name, more, cut);
        saved = errno;
        (void) wal->io->close(wal->io, fd);
        errno = saved;

        return rc;
    }

    kv_failpoint(KV_FAILPOINT_SEGMENT_NAMED);

    kv_wal_move(state, to);

    if (state->replicated) {
        kv_wal_synced(state, to->next_lsn - 1);
        atomic_store(&state->cutting, 0);
    }

    if (more) {
        atomic_fetch_add_explicit(&state->segments, 1, memory_order_relaxed);
    }

    kv_wal_close(wal);
    kv_wal_use(wal, fd, to->segment_lsn, to->segment_salt);

    return KV_OK;
}


/*
 * The new name could not be synced.  The segment has no batch yet: the next try
 * makes the name again.  But where entries are given up, that may have happened
 * or not, and a start has to tell.
 */

static kv_rc_t
kv_wal_name_failed(kv_wal_t *wal, const char *name, bool more, bool cut)
{
    int      saved;
    kv_rc_t  rc;

    rc = cut ? KV_ERROR : kv_wal_rc();
    saved = errno;

    if (more && rc != KV_ERROR) {
        (void) wal->io->unlink(wal->io, wal->dirfd, name);
    }

    errno = saved;

    return rc;
}


/* No batch goes to the current segment any more: the next one gets its name. */

static void
kv_wal_end_segment(kv_wal_state_t *state)
{
    kv_wal_seal(state);

    if (kv_wal_replaceable(state)) {

        /* nothing of it is written once more */

        state->rewrite_end = 0;
        atomic_store(&state->syncing, 0);
    }
}


/*
 * LSNs will be given out again, and are not durable any more.  If the process
 * dies from here on, the next one finds out whether the file got its name.
 */

static void
kv_wal_begin_cut(kv_wal_state_t *state, kv_wal_rest_t *rest)
{
    kv_wal_replica_t  *replica;

    replica = &rest->to.replica;
    replica->members_at = 1 - state->replica.members_at;

    memcpy(state->members[replica->members_at], rest->members,
           replica->members_len);

    atomic_store(&state->durable_salt, 0);
    state->durable_lsn = kv_min(atomic_load(&state->durable_lsn),
                                rest->to.next_lsn - 1);
    state->to = rest->to;
    atomic_store(&state->cutting, 1);
}


kv_rc_t
kv_wal_end_cut(kv_wal_t *wal, kv_err_t *err)
{
    int                   fd;
    char                  name[KV_NAME_MAX];
    uint8_t               buf[KV_SEGMENT_HEADER];
    uint64_t              size;
    kv_wal_state_t       *state;
    kv_segment_header_t   h;

    state = wal->state;

    if (kv_likely(atomic_load(&state->cutting) == 0)) {
        return KV_OK;
    }

    (void) kv_wal_name(name, KV_WAL_SEGMENT, state->to.segment_lsn);

    fd = kv_wal_open(wal, state->to.segment_lsn, buf, &size);

    if (fd == -1 && errno != ENOENT) {
        kv_err_set(err, "%s: the segment cannot be opened: %s; see to the "
                   "disk, then restart", name, strerror(errno));
        return KV_ERROR;
    }

    memset(&h, 0, sizeof(h));

    if (fd != -1) {
        memcpy(&h, buf, sizeof(h));
        (void) wal->io->close(wal->io, fd);
    }

    if (h.salt == state->to.segment_salt) {

        if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
            kv_err_set(err, "%s: its name cannot be synced: %s; see to the "
                       "disk, then restart", name, strerror(errno));
            return KV_ERROR;
        }

        atomic_store(&state->moving, 1);
        kv_wal_end_move(state);
        kv_wal_synced(state, state->to.next_lsn - 1);
    }

    atomic_store(&state->cutting, 0);

    kv_err_set(err, "%s: a process died while it gave up entries of the "
               "replicated log: they are %s", name,
               h.salt == state->to.segment_salt ? "gone" : "still there");
    errno = EAGAIN;

    return KV_AGAIN;
}


/*
 * Makes the file `tmp`, or one with another LSN's name, which `tmp` then is: it
 * may be impossible to delete what a predecessor left there.
 */

static kv_rc_t
kv_wal_new_file(kv_wal_t *wal, uint64_t lsn, char *tmp, int *fd)
{
    kv_rc_t   rc;
    uint64_t  number;

    rc = kv_wal_take_spare(wal, tmp, fd);

    if (rc != KV_NOT_FOUND) {
        return rc;
    }

    number = lsn;

    do {
        (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, number++);

        rc = kv_io_preallocate(wal->io, wal->dirfd, tmp,
                               (off_t) wal->segment_size, NULL, fd);

    } while (rc == KV_ERROR && errno == EEXIST
             && number - lsn < KV_WAL_TMP_TRIES);

    return rc;
}


/* Prepares the file: header, salt, sync.  rest->to is then its beginning. */

static kv_rc_t
kv_wal_new_header(kv_wal_t *wal, int fd, kv_wal_rest_t *rest)
{
    kv_rc_t               rc;
    uint8_t               buf[KV_SEGMENT_HEADER];
    kv_wal_state_t       *state;
    kv_wal_position_t    *to;
    kv_segment_header_t   h;

    state = wal->state;
    to = &rest->to;

    memset(buf, 0, sizeof(buf));
    memset(&h, 0, sizeof(h));

    memcpy(h.magic, KV_SEGMENT_MAGIC, sizeof(h.magic));
    h.version = KV_FORMAT_VERSION;
    h.size = wal->segment_size;
    h.first_lsn = to->next_lsn;
    h.id = kv_wal_id(state);
    h.kind = state->replicated ? KV_SEGMENT_REPLICATED : KV_SEGMENT_PLAIN;

    if (getrandom(&h.salt, sizeof(h.salt), 0) != sizeof(h.salt)) {
        return kv_wal_rc();
    }

    memcpy(buf, &h, sizeof(h));

    h.crc = kv_wal_header_crc(buf);

    memcpy(buf, &h, sizeof(h));

    to->segment_lsn = h.first_lsn;
    to->segment_salt = h.salt;
    to->segment_size = h.size;
    to->offset = KV_SEGMENT_HEADER;

    rc = kv_io_write(wal->io, fd, buf, sizeof(buf), 0);

    if (rc == KV_OK && state->replicated) {
        rc = kv_wal_new_entries(wal, fd, rest, to);
    }

    if (rc != KV_OK) {
        return rc;
    }

    /* no batch was in this file yet: a full disk may pass */

    return kv_io_sync(wal->io, fd) == KV_OK ? KV_OK : kv_wal_rc();
}


/* The STATE of a replicated log, and the entries that stay behind it. */

static kv_rc_t
kv_wal_new_entries(kv_wal_t *wal, int fd, kv_wal_rest_t *rest,
    kv_wal_position_t *to)
{
    size_t              at;
    kv_rc_t             rc;
    kv_batch_header_t   h;
    kv_wal_position_t   first;

    first = *to;
    first.replica = rest->first;
    first.replica.number = wal->state->replica.number + 1;

    rc = kv_wal_first_state(wal, fd, &first, rest->first_members);

    if (rc != KV_OK) {
        return rc;
    }

    if (rest->len > to->segment_size - first.offset) {
        errno = EFBIG;
        return KV_NO_SPACE;
    }

    for (at = 0; at < rest->len; at += sizeof(h) + h.len) {

        memcpy(&h, rest->entries + at, sizeof(h));
        h.salt = to->segment_salt;
        h.durable_end = KV_SEGMENT_HEADER;
        memcpy(rest->entries + at, &h, sizeof(h));
        h.crc = kv_crc32c(0, rest->entries + at + 8, sizeof(h) - 8 + h.len);
        memcpy(rest->entries + at, &h, sizeof(h));
    }

    to->offset = first.offset + rest->len;
    to->replica.number = first.replica.number;
    to->replica.before = first.replica.before;
    to->replica.incarnation = first.replica.incarnation;
    to->replica.start = first.replica.start;
    to->replica.end = to->offset;

    return rest->len ? kv_io_write(wal->io, fd, rest->entries, rest->len,
                                   (off_t) first.offset) : KV_OK;
}


uint64_t
kv_wal_last_end(const kv_wal_state_t *state)
{
    return state->replica.end ? state->replica.end : state->offset;
}


void
kv_wal_seal(kv_wal_state_t *state)
{
    kv_wal_position_t  to;

    kv_wal_here(state, &to);
    to.offset = state->segment_size;

    kv_wal_move(state, &to);
}


bool
kv_wal_replaceable(const kv_wal_state_t *state)
{
    return state->segment_size && state->offset == state->segment_size
           && atomic_load(&state->next_lsn) == state->segment_lsn;
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


const char *
kv_wal_advice(kv_rc_t rc)
{
    switch (rc) {

    case KV_NO_SPACE:
        return "writes work again when there is space on the disk";

    case KV_AGAIN:
        return "writes work again when that has passed";

    default:
        return "see to the disk, then restart";
    }
}
