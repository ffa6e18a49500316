
/*
 * Reading the log without a change to it; see kv_wal_walk.h.
 *
 * It takes the list of segments once.  Those that are begun later hold nothing
 * that it looks for.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_wal_reader.h"
#include "disk/kv_wal_walk.h"


/* The result of the callback that ends the reading behind `upto`. */
#define KV_WAL_WALK_OVER  KV_DECLINED


typedef struct {
    kv_wal_walk_t          *walk;
    const kv_wal_reader_t  *reader;
    uint64_t                batch;       /* the offset of the batch, */
    uint32_t                count;       /* and what was read of it */
    uint32_t                len;
} kv_wal_walking_t;


static void kv_wal_walk_begin(kv_wal_walk_t *walk);
static kv_rc_t kv_wal_walk_segments(kv_wal_walking_t *w, kv_wal_reader_t *r);
static kv_rc_t kv_wal_walk_end(kv_wal_walking_t *w, kv_wal_reader_t *r,
    kv_rc_t rc);
static size_t kv_wal_walk_first(const kv_wal_walk_t *walk,
    const kv_wal_reader_t *r, size_t *segments);
static kv_rc_t kv_wal_walk_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);


kv_rc_t
kv_wal_walk(kv_wal_walk_t *walk, kv_err_t *err)
{
    kv_rc_t           rc;
    kv_wal_t          wal;
    kv_wal_name_t    *names;
    kv_wal_replay_t   from;
    kv_wal_reader_t   r;
    kv_wal_walking_t  walking;

    kv_wal_walk_begin(walk);

    if (walk->upto == walk->after) {
        return KV_OK;
    }

    memset(&wal, 0, sizeof(wal));
    wal.io = walk->io;
    wal.dirfd = walk->dirfd;
    wal.fd = -1;

    memset(&walking, 0, sizeof(walking));
    walking.walk = walk;
    walking.reader = &r;

    memset(&from, 0, sizeof(from));
    from.after = walk->after;
    from.record = kv_wal_walk_record;
    from.ctx = &walking;

    memset(&r, 0, sizeof(r));
    r.wal = &wal;
    r.from = &from;
    r.err = err;
    r.fd = -1;
    r.id = walk->id;
    (void) snprintf(r.id_name, sizeof(r.id_name), KV_SNAPSHOT_NAME ".kvs",
                    walk->after);

    rc = kv_wal_list(&wal, &names, &r.n);

    if (rc != KV_OK) {
        kv_err_set(err, "the directory cannot be listed: %s; see to its "
                   "permissions and the disk", strerror(errno));
        return rc;
    }

    r.names = names;

    rc = kv_wal_walk_segments(&walking, &r);

    if (r.fd != -1) {
        (void) walk->io->close(walk->io, r.fd);
    }

    free(r.buf);
    free(names);

    if (rc != KV_OK) {
        free(walk->part);
        walk->part = NULL;
        walk->n = 0;
    }

    return rc;
}


/* Nothing is found yet. */

static void
kv_wal_walk_begin(kv_wal_walk_t *walk)
{
    assert(walk->upto >= walk->after);

    walk->part = NULL;
    walk->n = 0;
    walk->last = walk->after;
    walk->time_ms = 0;
    memset(&walk->cut, 0, sizeof(walk->cut));
}


static kv_rc_t
kv_wal_walk_segments(kv_wal_walking_t *w, kv_wal_reader_t *r)
{
    size_t          i, segments;
    kv_rc_t         rc;
    uint64_t        limit;
    kv_wal_part_t  *part;
    kv_wal_walk_t  *walk;

    walk = w->walk;
    i = kv_wal_walk_first(walk, r, &segments);
    rc = KV_OK;

    walk->part = calloc(segments - i + 1, sizeof(kv_wal_part_t));

    if (walk->part == NULL) {
        kv_err_set(r->err, "out of memory");
        return KV_AGAIN;
    }

    r->expected = i < segments ? r->names[i].number : walk->after + 1;

    if (i == segments && segments && r->names[0].number > r->expected) {
        kv_err_set(r->err, "the log from LSN %" PRIu64 " to %" PRIu64 " is "
                   "missing", r->expected, r->names[0].number - 1);
        return KV_DAMAGED;
    }

    for ( /* void */ ;
         i < segments && rc == KV_OK && r->expected <= walk->upto;
         i++)
    {
        rc = kv_wal_read_header(r, r->names[i].number);

        if (rc != KV_OK) {
            return rc;
        }

        /* what follows on the last one that is needed may be missing */

        limit = i + 1 < segments && r->names[i + 1].number <= walk->upto
                ? r->names[i + 1].number : UINT64_MAX;
        w->batch = 0;

        rc = kv_wal_read_segment(r, limit);

        if (rc != KV_OK && rc != KV_WAL_WALK_OVER) {
            return rc;
        }

        part = &walk->part[walk->n++];
        part->lsn = r->lsn;
        part->bytes = r->offset;
    }

    return kv_wal_walk_end(w, r, rc);
}


/* Whether the end is where it may be, once no more is to be read. */

static kv_rc_t
kv_wal_walk_end(kv_wal_walking_t *w, kv_wal_reader_t *r, kv_rc_t rc)
{
    kv_wal_walk_t  *walk;

    walk = w->walk;

    if (r->expected == walk->last + 1
        && (walk->last == walk->upto || walk->open_end))
    {
        return KV_OK;
    }

    if (r->expected <= walk->after && walk->open_end) {

        /* it does not even come to that */

        walk->n = 0;
        return KV_OK;
    }

    if (rc == KV_WAL_WALK_OVER && walk->cuts
        && r->expected + w->count == walk->upto + 1)
    {
        walk->cut.head = (uint32_t) kv_wal_batch_header(r->version);
        walk->cut.count = w->count;
        walk->cut.len = w->len;

        return KV_OK;
    }

    if (rc == KV_WAL_WALK_OVER) {
        kv_err_set(r->err, "%s: offset %" PRIu64 ": LSN %" PRIu64 " is in the "
                   "middle of a batch", r->name, r->offset, walk->upto);

    } else {
        kv_err_set(r->err, "the log is needed up to LSN %" PRIu64 ", and no "
                   "good batch with LSN %" PRIu64 " is there", walk->upto,
                   r->expected);
    }

    return KV_DAMAGED;
}


/* The segment that holds after + 1, and how many there are. */

static size_t
kv_wal_walk_first(const kv_wal_walk_t *walk, const kv_wal_reader_t *r,
    size_t *segments)
{
    size_t  i, n;

    for (n = 0; n < r->n && r->names[n].kind == KV_WAL_SEGMENT; n++) {
        /* void */
    }

    *segments = n;

    for (i = n; i > 0 && r->names[i - 1].number - 1 > walk->after; i--) {
        /* void */
    }

    /* none of them holds it: the reading ends with what it expected */

    return i ? i - 1 : n;
}


static kv_rc_t
kv_wal_walk_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_rc_t            rc;
    kv_wal_walk_t     *walk;
    kv_wal_walking_t  *w;

    w = ctx;
    walk = w->walk;

    if (lsn > walk->upto
        || (walk->until_ms && w->reader->time_ms > walk->until_ms))
    {
        return KV_WAL_WALK_OVER;
    }

    rc = walk->record(walk->ctx, lsn, rec);

    if (rc != KV_OK) {
        return rc;
    }

    if (w->batch != w->reader->offset) {
        w->batch = w->reader->offset;
        w->count = 0;
        w->len = 0;
    }

    w->count++;
    w->len += (uint32_t) kv_record_size(rec);

    /* now: the batch behind the end may name a newer one, and a later time */

    walk->id = w->reader->id;
    walk->time_ms = w->reader->time_ms;
    walk->last = lsn;

    return KV_OK;
}


kv_rc_t
kv_wal_end(kv_io_t *io, int dirfd, uint64_t lsn, uint64_t next,
    kv_identity_t *id, uint64_t *end, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_wal_t         wal;
    uint64_t         last, durable;
    kv_wal_replay_t  from;
    kv_wal_reader_t  r;

    memset(&wal, 0, sizeof(wal));
    wal.io = io;
    wal.dirfd = dirfd;
    wal.fd = -1;

    memset(&from, 0, sizeof(from));
    from.after = UINT64_MAX;

    memset(&r, 0, sizeof(r));
    r.wal = &wal;
    r.from = &from;
    r.err = err;
    r.fd = -1;
    r.expected = lsn;

    rc = kv_wal_read_header(&r, lsn);

    if (rc == KV_OK) {
        rc = kv_wal_read_batches(&r, next ? next : UINT64_MAX);
    }

    if (rc == KV_OK && r.expected == next) {
        rc = kv_wal_peek(&r, UINT64_MAX, &last, &durable);

        if (rc == KV_OK && durable >= next) {
            rc = KV_DECLINED;
        }
    }

    *end = r.expected - 1;
    *id = r.id;

    if (r.fd != -1) {
        (void) io->close(io, r.fd);
    }

    free(r.buf);

    return rc;
}
