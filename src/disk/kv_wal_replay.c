
/*
 * Reading the log back: all segments in order, then what the end means, then
 * the state that writing continues from.  kv_format.h, "Reading the log back",
 * says what ends a segment, what ends the log and what is damage.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_reader.h"


static kv_rc_t kv_wal_reader_open(kv_wal_reader_t *r, kv_wal_t *wal,
    const kv_wal_replay_t *from, kv_err_t *err);
static void kv_wal_reader_close(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_all(kv_wal_reader_t *r);
static size_t kv_wal_read_from(kv_wal_reader_t *r, size_t segments);
static bool kv_wal_begins_final(kv_wal_reader_t *r, size_t i);
static void kv_wal_find_closed(kv_wal_reader_t *r, bool again);
static void kv_wal_take_closed(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_none(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_end(kv_wal_reader_t *r);
static void kv_wal_read_closed_end(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_missing(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_needed(kv_wal_reader_t *r, uint64_t needed);
static kv_rc_t kv_wal_read_short(kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_done(kv_wal_reader_t *r);
static void kv_wal_read_position(const kv_wal_reader_t *r,
    kv_wal_position_t *to);
static void kv_wal_read_durable(const kv_wal_reader_t *r, bool full);
static void kv_wal_read_replica(const kv_wal_reader_t *r,
    kv_wal_replica_t *to);
static void kv_wal_distrust(kv_wal_reader_t *r);
static void kv_wal_distrust_warn(kv_wal_reader_t *r, uint64_t lsn);
static kv_rc_t kv_wal_distrust_short(kv_wal_reader_t *r);
static kv_wal_note_t kv_wal_read_note(const kv_wal_reader_t *r);
static kv_rc_t kv_wal_read_identity(kv_wal_reader_t *r);
static void kv_wal_read_past(kv_wal_reader_t *r);
static bool kv_wal_in_use(const kv_wal_reader_t *r);
static const char *kv_wal_renew(const kv_wal_reader_t *r);
static const char *kv_wal_renew_start(const kv_wal_reader_t *r);
static void kv_wal_delete_unfinished(kv_wal_t *wal, const kv_wal_name_t *names,
    size_t n);
static uint32_t kv_wal_count(const kv_wal_name_t *names, size_t n,
    kv_wal_file_t kind);
static kv_rc_t kv_wal_rewrite(kv_wal_reader_t *r);


kv_rc_t
kv_wal_replay(kv_wal_t *wal, const kv_wal_replay_t *from, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_wal_reader_t  r;

    kv_wal_close(wal);

    rc = kv_wal_reader_open(&r, wal, from, err);

    if (rc != KV_OK) {
        return rc;
    }

    r.plain = !from->replicated;

    rc = kv_wal_read_all(&r);

    if (rc == KV_OK) {
        rc = kv_wal_read_done(&r);
    }

    kv_wal_reader_close(&r);

    return rc;
}


kv_rc_t
kv_wal_read(kv_io_t *io, int dirfd, const kv_wal_replay_t *from,
    kv_wal_end_t *end, kv_wal_way_t *way, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_wal_t         wal;
    kv_wal_reader_t  r;

    /* files are all that a reader asks for */

    memset(&wal, 0, sizeof(wal));

    wal.io = io;
    wal.dirfd = dirfd;
    wal.fd = -1;

    rc = kv_wal_reader_open(&r, &wal, from, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_wal_read_all(&r);

    if (rc == KV_DAMAGED && way) {
        *way = r.way;
    }

    if (rc == KV_OK && end) {
        memset(end, 0, sizeof(*end));

        end->next_lsn = r.expected;
        end->segments = kv_wal_count(r.names, r.n, KV_WAL_SEGMENT);
        end->segment_lsn = r.lsn;
        end->offset = r.offset;
        end->time_ms = r.time_ms;
        end->closed = r.noted;
        end->id = r.id;
    }

    kv_wal_reader_close(&r);

    return rc;
}


/* Lists the log's files.  On KV_OK the caller closes it. */

static kv_rc_t
kv_wal_reader_open(kv_wal_reader_t *r, kv_wal_t *wal,
    const kv_wal_replay_t *from, kv_err_t *err)
{
    kv_rc_t  rc;

    assert(from->after < UINT64_MAX);

    memset(r, 0, sizeof(*r));

    r->wal = wal;
    r->from = from;
    r->err = err;
    r->fd = -1;
    r->id = from->id;
    (void) snprintf(r->id_name, sizeof(r->id_name), KV_SNAPSHOT_NAME ".kvs",
                    from->id_lsn);
    r->id_offset = offsetof(kv_snapshot_header_t, id.incarnation);

    rc = kv_wal_list(wal, &r->names, &r->n);

    if (rc != KV_OK) {
        kv_err_set(err, "the data directory cannot be listed: %s; see to its "
                   "permissions and the disk", strerror(errno));
        return rc;
    }

    if (from->final) {
        memset(from->final, 0, sizeof(*from->final));
        from->final->lsn = from->after;
    }

    return KV_OK;
}


static void
kv_wal_reader_close(kv_wal_reader_t *r)
{
    int  saved;

    saved = errno;

    if (r->fd != -1) {
        (void) r->wal->io->close(r->wal->io, r->fd);
    }

    kv_wal_release(r);
    free(r->buf);
    free(r->names);

    errno = saved;
}


static kv_rc_t
kv_wal_read_all(kv_wal_reader_t *r)
{
    size_t                i, first, segments;
    kv_rc_t               rc;
    uint64_t              limit, after;
    const kv_wal_name_t  *names;

    rc = kv_wal_list_stale(r);

    if (rc != KV_OK) {
        return rc;
    }

    names = r->names;
    after = r->from->after;

    kv_wal_find_closed(r, false);

    for (segments = 0; segments < r->n; segments++) {
        if (names[segments].kind != KV_WAL_SEGMENT) {
            break;
        }
    }

    if (segments == 0) {
        kv_wal_take_closed(r);
        return kv_wal_read_none(r);
    }

    r->last = names[segments - 1].number;

    if (names[0].number - 1 > after) {
        (void) kv_wal_name(r->name, KV_WAL_SEGMENT, names[0].number);

        return kv_wal_damaged(r, 0, after + 1, "the log starts with LSN %"
                              PRIu64 ", but %" PRIu64 " is needed",
                              names[0].number, after + 1);
    }

    i = kv_wal_read_from(r, segments);
    r->expected = names[i].number;

    for (first = i; i < segments; i++) {

        if (r->from->segment) {
            r->from->segment(r->from->ctx, i - first, segments - first);
        }

        rc = kv_wal_read_header(r, names[i].number);

        if (rc != KV_OK) {
            return rc;
        }

        limit = i + 1 < segments ? names[i + 1].number : UINT64_MAX;

        rc = kv_wal_read_segment(r, limit);

        if (rc != KV_OK) {
            return rc;
        }
    }

    kv_wal_take_closed(r);

    return kv_wal_read_end(r);
}


/* The segment to begin with: what the snapshot has not is there and behind. */

static size_t
kv_wal_read_from(kv_wal_reader_t *r, size_t segments)
{
    size_t  i;

    for (i = segments - 1; r->names[i].number - 1 > r->from->after; i--) {
        /* void */
    }

    while (i > 0 && r->from->committed && !kv_wal_begins_final(r, i)) {
        i--;
    }

    return i;
}


/*
 * Whether all entries before this segment are final: if not, some have no LSN,
 * and are in the one before it.
 */

static bool
kv_wal_begins_final(kv_wal_reader_t *r, size_t i)
{
    uint64_t              commit;
    kv_entry_state_t      s;
    kv_segment_header_t   h;

    return kv_wal_read_start(r->wal, r->names[i].number, &h, &s, &commit)
           != KV_OK
           || h.kind != KV_SEGMENT_REPLICATED
           || s.index <= kv_max(commit, r->from->index);
}


/*
 * How far the log went, if it was closed; an old note says less, not wrong.
 * `again`: what is damaged was told.
 */

static void
kv_wal_find_closed(kv_wal_reader_t *r, bool again)
{
    bool          own;
    char          name[KV_NAME_MAX];
    size_t        i;
    kv_rc_t       rc;
    kv_closed_t   closed;

    memset(&r->closed, 0, sizeof(r->closed));

    for (i = 0; i < r->n; i++) {

        if (r->names[i].kind != KV_WAL_CLOSED) {
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_CLOSED, r->names[i].number);

        rc = kv_wal_read_closed(r->wal, r->names[i].number, &closed, &own);

        if (rc == KV_OK && kv_wal_foreign(&r->id, &closed.id)) {
            kv_wal_warn(r, "%s: it is of another store: what it says does not "
                        "count", name);

        } else if (rc == KV_OK) {
            r->closed = closed;
            r->own = own;

        } else if (rc != KV_NOT_FOUND && !again) {
            kv_wal_warn(r, "%s: %s: what it says of the log's end is not known",
                        name, rc == KV_ERROR ? strerror(errno)
                                             : "it is damaged");
        }
    }
}


/* Takes what the note says, once it is known which store this is. */

static void
kv_wal_take_closed(kv_wal_reader_t *r)
{
    char  name[KV_NAME_MAX];

    if (kv_wal_foreign(&r->id, &r->closed.id)) {
        kv_wal_find_closed(r, true);
    }

    r->durable = kv_max(r->durable, r->closed.lsn);

    kv_wal_see_identity(r, &r->closed.id,
                        kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                        offsetof(kv_closed_t, id.incarnation));
}


static kv_rc_t
kv_wal_read_none(kv_wal_reader_t *r)
{
    char      way[KV_WAL_WAY], name[KV_NAME_MAX];
    uint64_t  needed;

    needed = kv_max(r->from->must_reach, r->from->newer);

    r->expected = r->from->after + 1;

    if (kv_max(needed, r->closed.lsn) < r->expected
        && (r->from->index == 0 || r->from->alone))
    {
        return KV_OK;
    }

    kv_wal_way_out(r, 0, r->expected, way, sizeof(way));

    if (needed < r->expected && r->closed.lsn < r->expected) {
        kv_err_set(r->err, "no log-*.kvl is there, but " KV_SNAPSHOT_NAME
                   ".kvs is of a replicated log, which held the term and the "
                   "vote%s", r->from->after, way);
        return KV_DAMAGED;
    }

    if (r->closed.lsn > needed) {
        kv_err_set(r->err, "no log-*.kvl is there, but %s says that there was "
                   "one up to LSN %" PRIu64 "%s",
                   kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                   r->closed.lsn, way);
        return KV_DAMAGED;
    }

    kv_err_set(r->err, "no log-*.kvl is there, but " KV_SNAPSHOT_NAME ".kvs "
               "needs the log up to LSN %" PRIu64 "%s",
               r->from->newer ? r->from->newer : r->from->after, needed, way);

    return KV_DAMAGED;
}


/* After the last segment: decides whether this is the end, or more is lost. */

static kv_rc_t
kv_wal_read_end(kv_wal_reader_t *r)
{
    char      name[KV_NAME_MAX];
    kv_rc_t   rc;
    uint64_t  needed;

    kv_wal_read_closed_end(r);

    if (r->closed.lsn && r->closed.lsn < r->expected - 1) {
        kv_wal_warn(r, "%s: it says that the log was closed there, but it goes "
                    "on to LSN %" PRIu64 ", which is used: if a copy was "
                    "restored, it was not into an empty directory",
                    kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                    r->expected - 1);
    }

    rc = kv_wal_scan(r);

    if (rc != KV_OK) {
        return rc;
    }

    needed = kv_max(r->from->must_reach, r->from->after);

    if (r->size < r->segment_size) {
        return r->marked && kv_max(needed, kv_max(r->durable, r->from->newer))
                            < r->expected
               ? kv_wal_read_short(r) : kv_wal_cut_short(r);
    }

    if (r->closed.lsn >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch with "
                              "LSN %" PRIu64 " is here, and %s says that the "
                              "log was closed with %" PRIu64, r->expected,
                              kv_wal_name(name, KV_WAL_CLOSED, r->closed.lsn),
                              r->closed.lsn);
    }

    if (r->durable >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch with "
                              "LSN %" PRIu64 " is here, and a later one says "
                              "that %" PRIu64 " was durable",
                              r->expected, r->durable);
    }

    if (r->kind != KV_SEGMENT_PLAIN && r->durable_end > r->offset) {
        return kv_wal_damaged(r, r->offset, r->expected, "no good batch is "
                              "here, and the log was durable up to offset %"
                              PRIu64, r->durable_end);
    }

    if (r->kind == KV_SEGMENT_REPLICATED && r->closed.lsn == r->expected - 1
        && r->closed.segment_lsn > r->lsn)
    {
        return kv_wal_read_missing(r);
    }

    return kv_wal_read_needed(r, needed);
}


/*
 * The note says that a segment followed.  No record was in it, but there may
 * have been votes.
 */

static kv_rc_t
kv_wal_read_missing(kv_wal_reader_t *r)
{
    char  note[KV_NAME_MAX], name[KV_NAME_MAX];

    (void) kv_wal_name(note, KV_WAL_CLOSED, r->closed.lsn);
    (void) kv_wal_name(name, KV_WAL_SEGMENT, r->closed.segment_lsn);

    r->way.found = true;
    r->way.lsn = r->expected;
    r->way.logs_from = r->closed.segment_lsn;
    r->way.closed = r->closed.lsn;

    kv_err_set(r->err, "%s: it says that the replicated log ended in %s, which "
               "is not there, and may have had votes%s%s%s", note, name,
               r->from->brief ? "" : "; put it back, or restore the data "
               "directory from a copy, or, with a copy of it made and giving "
               "up what is gone, move ", r->from->brief ? "" : note,
               r->from->brief ? "" : " away");

    return KV_DAMAGED;
}


/* What the note says of the place where the log ends. */

static void
kv_wal_read_closed_end(kv_wal_reader_t *r)
{
    if (r->closed.lsn != r->expected - 1 || r->closed.segment_lsn != r->lsn
        || r->closed.segment_salt != r->salt)
    {
        return;
    }

    if (r->closed.offset == r->offset) {
        r->marked = true;
        r->noted = true;
    }

    if (r->closed.offset < r->segment_size) {
        r->durable_end = r->closed.offset;
    }
}


/* Whether the log goes as far as snapshots need it. */

static kv_rc_t
kv_wal_read_needed(kv_wal_reader_t *r, uint64_t needed)
{
    if (needed >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "the log ends before "
                              "LSN %" PRIu64 ", but " KV_SNAPSHOT_NAME ".kvs "
                              "needs it up to %" PRIu64,
                              r->expected, r->from->after, needed);
    }

    if (r->kind == KV_SEGMENT_REPLICATED
        && r->from->index > r->replica.index && !r->from->alone)
    {
        return kv_wal_damaged(r, r->offset, r->expected, "the log ends with "
                              "index %" PRIu64 ", but " KV_SNAPSHOT_NAME ".kvs "
                              "has entries up to %" PRIu64, r->replica.index,
                              r->from->after, r->from->index);
    }

    if (r->from->newer >= r->expected) {
        return kv_wal_damaged(r, r->offset, r->expected, "the log ends before "
                              "LSN %" PRIu64 ", but " KV_SNAPSHOT_NAME ".kvs, "
                              "which is damaged, was made at %" PRIu64,
                              r->expected, r->from->newer, r->from->newer);
    }

    return KV_OK;
}


/*
 * Warns: bytes of the last segment are gone, but the mark at the end says that
 * none of them was in use.
 */

static kv_rc_t
kv_wal_read_short(kv_wal_reader_t *r)
{
    kv_wal_warn(r, "%s: offset %" PRIu64 ": the file ends here, but its header "
                "says %" PRIu64 ": the log ended before that, and goes on in "
                "a new segment", r->name, r->size, r->segment_size);

    r->behind = true;

    return KV_OK;
}


/*
 * All is read, and good.  It must be durable before clients see it, and the
 * last process may not have come to that: syncs the end of the last segment,
 * and that segment's name.
 */

static kv_rc_t
kv_wal_read_done(kv_wal_reader_t *r)
{
    bool               full;
    kv_rc_t            rc;
    kv_wal_t          *wal;
    kv_wal_position_t  to;

    wal = r->wal;

    assert(r->durable < r->expected);
    assert(r->expected > kv_max(r->from->after, r->from->must_reach));

    memset(&to, 0, sizeof(to));

    full = false;
    rc = kv_wal_read_identity(r);

    if (rc != KV_OK) {
        return rc;
    }

    if (r->fd != -1) {
        rc = kv_wal_rewrite(r);

        if (rc == KV_NO_SPACE) {
            full = true;
            r->behind = true;

        } else if (rc != KV_OK) {
            return rc;
        }

        kv_wal_read_position(r, &to);
    }

    kv_wal_delete_unfinished(wal, r->names, r->n);
    kv_wal_delete_stale(wal, r->names, r->n);
    kv_wal_distrust(r);

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        kv_err_set(r->err, "the data directory cannot be synced: %s; see to "
                   "the disk", strerror(errno));
        return KV_ERROR;
    }

    to.next_lsn = r->expected;

    wal->state->cutting = 0;
    wal->state->replicated = r->from->replicated;
    kv_wal_read_replica(r, &to.replica);

    kv_wal_read_past(r);
    kv_wal_set_id(wal->state, &r->id);
    wal->state->restored = r->restored;
    wal->state->shared = 0;
    wal->state->time_ms = kv_max(wal->state->time_ms, r->time_ms);
    kv_wal_move(wal->state, &to);
    wal->state->segments = kv_wal_count(r->names, r->n, KV_WAL_SEGMENT);

    wal->state->closed = kv_wal_read_note(r);

    kv_wal_read_durable(r, full);

    return KV_OK;
}


/* What is durable, and, if the disk was too full for it, what is not. */

static void
kv_wal_read_durable(const kv_wal_reader_t *r, bool full)
{
    uint64_t         known;
    kv_wal_state_t  *state;

    state = r->wal->state;

    state->durable_lsn = r->expected - 1;
    state->durable_commit = full ? 0 : state->replica.commit;
    state->durable_salt = 0;
    state->syncing = 0;
    state->rewrite_end = 0;
    state->unsynced = 0;

    known = kv_max(r->durable, r->from->after);

    if (full && (known < r->expected - 1 || r->doubtful < state->replica.end)) {
        state->durable_lsn = known;
        state->rewrite_end = r->offset;
        state->unsynced = state->replica.end != 0;

    } else if (state->replica.end) {
        state->durable_offset = r->offset;
        state->durable_salt = r->salt;
    }
}


/* What a replicated log knows of itself; zeroes, if it is yet to become one. */

static void
kv_wal_read_replica(const kv_wal_reader_t *r, kv_wal_replica_t *to)
{
    kv_wal_state_t  *state;

    state = r->wal->state;

    if (!r->from->replicated) {

        /* this is not moved, then */

        memset(&state->replica, 0, sizeof(state->replica));
        return;
    }

    if (r->fd == -1 || r->kind != KV_SEGMENT_REPLICATED) {
        return;
    }

    *to = r->replica;
    to->end = r->offset;
    to->members_at = !state->replica.members_at;

    memcpy(state->members[to->members_at], r->members, to->members_len);
}


/*
 * Voids the note if a new incarnation begins though it fits: what speaks
 * against it now, as the file "restored", may be gone with the next start.  A
 * copy of a note is none there, either, and still tells a start after one that
 * fails how far the log went.
 */

static void
kv_wal_distrust(kv_wal_reader_t *r)
{
    bool         own;
    size_t       i;
    uint64_t     lsn;
    kv_closed_t  closed;

    if (r->noted && r->own && r->renewed) {

        if (kv_wal_distrust_short(r) == KV_OK
            && kv_wal_void_closed(r->wal, r->closed.lsn))
        {
            r->noted = false;

        } else {
            kv_wal_distrust_warn(r, r->closed.lsn);
        }
    }

    /* one that does not fit may do so once the other files are set back, too */

    for (i = 0; r->restored && i < r->n; i++) {
        lsn = r->names[i].number;

        if (r->names[i].kind == KV_WAL_CLOSED
            && !(r->noted && lsn == r->closed.lsn)
            && kv_wal_read_closed(r->wal, lsn, &closed, &own) == KV_OK
            && own && !kv_wal_void_closed(r->wal, lsn))
        {
            kv_wal_distrust_warn(r, lsn);
        }
    }
}


static void
kv_wal_distrust_warn(kv_wal_reader_t *r, uint64_t lsn)
{
    char  name[KV_NAME_MAX];

    kv_wal_warn(r, "%s: it cannot be emptied: %s; if nothing is written, "
                "delete it when nginx is stopped, as it is not to be trusted",
                kv_wal_name(name, KV_WAL_CLOSED, lsn), strerror(errno));
}


/*
 * If the segment is too short, and only the note says that nothing is missing,
 * a mark has to say so: the next start would refuse it.
 */

static kv_rc_t
kv_wal_distrust_short(kv_wal_reader_t *r)
{
    kv_rc_t            rc;
    kv_batch_header_t  h;

    if (r->size == r->segment_size
        || r->offset > r->segment_size - sizeof(h))
    {
        return KV_OK;
    }

    memset(&h, 0, sizeof(h));

    h.magic = KV_BATCH_MAGIC;
    h.first_lsn = r->expected;
    h.durable_lsn = r->expected - 1;
    h.salt = r->salt;
    h.time_ms = r->time_ms;
    h.term = r->highest;
    h.crc = kv_crc32c(0, (uint8_t *) &h + 8, sizeof(h) - 8);

    rc = kv_io_write(r->wal->io, r->fd, &h, sizeof(h), (off_t) r->offset);

    return rc == KV_OK ? kv_io_sync(r->wal->io, r->fd) : rc;
}


static kv_wal_note_t
kv_wal_read_note(const kv_wal_reader_t *r)
{
    if (!r->noted) {
        return kv_wal_count(r->names, r->n, KV_WAL_CLOSED) ? KV_WAL_NOTE_OLD
                                                           : KV_WAL_NOTE_NONE;
    }

    return r->own && r->closed.id.incarnation == r->id.incarnation
           ? KV_WAL_NOTE_OWN : KV_WAL_NOTE_END;
}


/* Where writing goes on in the last segment that was read. */

static void
kv_wal_read_position(const kv_wal_reader_t *r, kv_wal_position_t *to)
{
    to->segment_lsn = r->lsn;
    to->segment_salt = r->salt;
    to->segment_size = r->segment_size;
    to->offset = r->behind || r->version != KV_FORMAT_VERSION
                 || r->kind == KV_SEGMENT_RESTORED
                 || (r->kind == KV_SEGMENT_REPLICATED) != r->from->replicated
                 ? r->segment_size : r->offset;
}


/*
 * Which incarnation the store goes on with: see kv_format.h.  In r->id, where
 * until then is what the files name.
 */

static kv_rc_t
kv_wal_read_identity(kv_wal_reader_t *r)
{
    const char     *why;
    kv_identity_t   id;

    r->restored = kv_wal_restored(r->wal);

    why = kv_wal_renew(r);
    id = kv_wal_id(r->wal->state);

    /* one that is in use need not be on disk */

    if (id.incarnation > r->id.incarnation && !kv_wal_foreign(&r->id, &id)) {
        r->id = id;
    }

    r->highest = r->id.incarnation;

    if (kv_wal_identify(&r->id, why != NULL) == KV_OK) {
        r->renewed = why != NULL;
        r->wal->renewed = why ? why : r->wal->renewed;
        return KV_OK;
    }

    if (errno == EOVERFLOW) {
        kv_err_set(r->err, "%s: offset %" PRIu64 ": no incarnation is above "
                   "the one that is named here, %016" PRIx64 "; restore the "
                   "data directory from a copy", r->id_name, r->id_offset,
                   r->highest);
        return KV_DAMAGED;
    }

    kv_err_set(r->err, "the store can have no new incarnation: %s",
               strerror(errno));

    return KV_ERROR;
}


/*
 * Which incarnations wrote the log up to now, the last of which was r->highest.
 * What their clients knew is in the log as far as the log goes: no write that
 * clients may have seen had the LSN of another one (kv_format.h).  But where
 * people say that a snapshot stands for what is lost, and where the log has
 * changed while it was in use, nothing is sure.
 */

static void
kv_wal_read_past(kv_wal_reader_t *r)
{
    kv_wal_past_t  *past;

    past = &r->wal->state->past;

    if (kv_wal_in_use(r) && !r->renewed) {
        return;
    }

    if (kv_wal_in_use(r) || r->from->alone) {
        kv_wal_past_forget(past);
        return;
    }

    if (r->highest > r->writer) {
        kv_wal_past_add(&r->past, r->writer, r->expected);
    }

    if (r->renewed) {
        kv_wal_past_add(&r->past, r->highest, r->expected);
    }

    kv_wal_past_copy(past, &r->past);
}


/* Whether it is a zone in use that is read anew. */

static bool
kv_wal_in_use(const kv_wal_reader_t *r)
{
    kv_identity_t  id;

    id = kv_wal_id(r->wal->state);

    return id.incarnation && !kv_wal_foreign(&r->id, &id);
}


/* Why a new incarnation begins, in words; NULL: the old one goes on. */

static const char *
kv_wal_renew(const kv_wal_reader_t *r)
{
    kv_identity_t          id;
    const kv_wal_state_t  *state;

    state = r->wal->state;
    id = kv_wal_id(state);

    if (r->restored) {
        return "a file \"restored\" is there, or cannot be looked for";
    }

    if (!kv_wal_in_use(r)) {
        return kv_wal_renew_start(r);
    }

    /* what is in use has met no restart: nothing is lost but what is missing */

    if (r->expected < atomic_load(&state->next_lsn)) {
        return "the log lost writes while it was in use";
    }

    if (r->salt != state->segment_salt) {
        return "the log ends in another segment than before";
    }

    return r->id.incarnation > id.incarnation
           ? "a file has come that is newer" : NULL;
}


static const char *
kv_wal_renew_start(const kv_wal_reader_t *r)
{
    if (r->id.incarnation == 0) {
        return r->expected == 1 ? "the store is new"
                                : "its files are of format 1";
    }

    if (r->from->alone) {
        return "a snapshot was told to stand alone";
    }

    if (!r->noted) {
        return r->closed.lsn == 0 ? "the last end was not clean"
               : r->closed.offset == r->segment_size
               ? "the note of the last clean end does not tell where in its "
                 "segment the log ended"
               : "the note of the last clean end does not fit the log's end";
    }

    if (!r->own) {
        return "the note of the last clean end is a copy, or cannot be told "
               "from one";
    }

    if (r->closed.id.incarnation != r->id.incarnation) {
        return "a file is newer than the note of the last clean end";
    }

    return NULL;
}


const char *
kv_wal_renewed(kv_wal_t *wal)
{
    const char  *why;

    why = wal->renewed;
    wal->renewed = NULL;

    return why;
}


static void
kv_wal_delete_unfinished(kv_wal_t *wal, const kv_wal_name_t *names, size_t n)
{
    char    name[KV_NAME_MAX];
    size_t  i;

    for (i = 0; i < n; i++) {

        if (names[i].kind == KV_WAL_SEGMENT_TMP
            || names[i].kind == KV_WAL_SPARE_TMP)
        {
            (void) kv_wal_name(name, names[i].kind, names[i].number);
            (void) wal->io->unlink(wal->io, wal->dirfd, name);
        }
    }
}


static uint32_t
kv_wal_count(const kv_wal_name_t *names, size_t n, kv_wal_file_t kind)
{
    size_t    i;
    uint32_t  count;

    count = 0;

    for (i = 0; i < n; i++) {
        count += names[i].kind == kind;
    }

    return count;
}


/*
 * After a failed sync the system may hold in memory, and give to every reader,
 * what never reached the disk, and the next sync succeeds without it.  So what
 * no batch says was durable is written once more, then synced.  If there is no
 * space (KV_NO_SPACE) it is only synced, which suffices unless a sync has
 * failed before, and the first sync of the log writes it.
 */

static kv_rc_t
kv_wal_rewrite(kv_wal_reader_t *r)
{
    size_t          n;
    kv_rc_t         rc;
    uint64_t        offset;
    const uint8_t  *p;

    rc = KV_OK;

    for (offset = r->doubtful; offset < r->offset; offset += n) {

        n = (size_t) kv_min(r->offset - offset, (uint64_t) KV_WAL_WINDOW);
        p = kv_wal_window(r, offset, n);

        if (p == NULL) {
            return kv_wal_failed(r, "reading");
        }

        rc = kv_io_write(r->wal->io, r->fd, p, n, (off_t) offset);

        if (rc == KV_NO_SPACE) {
            break;
        }

        if (rc != KV_OK) {
            return kv_wal_failed(r, "writing");
        }
    }

    if (kv_io_sync(r->wal->io, r->fd) != KV_OK) {
        return kv_wal_failed(r, "syncing");
    }

    return rc;
}
