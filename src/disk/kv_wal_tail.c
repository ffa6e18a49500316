
/*
 * The log read while it grows; see kv_wal_tail.h.
 *
 * A segment is synced before the next one gets its name, and no batch goes to
 * it afterwards.  So once there is a later one, all of it counts.
 */


#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_wal_reader.h"
#include "disk/kv_wal_tail.h"


struct kv_wal_tail_s {
    kv_wal_t         wal;
    kv_wal_replay_t  from;               /* after: what was given */
    kv_wal_reader_t  r;
    bool             all;
};


static kv_rc_t kv_wal_tail_segments(kv_wal_tail_t *tail, uint64_t *next);
static kv_rc_t kv_wal_tail_open(kv_wal_tail_t *tail, uint64_t lsn,
    uint64_t *next);
static kv_rc_t kv_wal_tail_batches(kv_wal_tail_t *tail, uint64_t later);
static kv_rc_t kv_wal_tail_list(kv_wal_tail_t *tail);
static uint64_t kv_wal_tail_first(const kv_wal_tail_t *tail);
static uint64_t kv_wal_tail_later(const kv_wal_tail_t *tail, uint64_t lsn);
static bool kv_wal_tail_named(kv_wal_tail_t *tail);


kv_wal_tail_t *
kv_wal_tail_create(kv_io_t *io, int dirfd, const kv_wal_replay_t *from,
    bool all)
{
    kv_wal_tail_t  *tail;

    tail = calloc(1, sizeof(kv_wal_tail_t));

    if (tail == NULL) {
        return NULL;
    }

    tail->wal.io = io;
    tail->wal.dirfd = dirfd;
    tail->wal.fd = -1;

    tail->from = *from;
    tail->from.brief = true;

    tail->r.wal = &tail->wal;
    tail->r.from = &tail->from;
    tail->r.fd = -1;

    tail->all = all;

    return tail;
}


void
kv_wal_tail_destroy(kv_wal_tail_t *tail)
{
    if (tail->r.fd != -1) {
        (void) tail->wal.io->close(tail->wal.io, tail->r.fd);
    }

    free(tail->r.buf);
    free(tail->r.names);
    free(tail);
}


kv_rc_t
kv_wal_tail_read(kv_wal_tail_t *tail, uint64_t *next, kv_err_t *err)
{
    tail->r.err = err;

    return kv_wal_tail_segments(tail, next);
}


static kv_rc_t
kv_wal_tail_segments(kv_wal_tail_t *tail, uint64_t *next)
{
    kv_rc_t           rc;
    uint64_t          later;
    kv_wal_reader_t  *r;

    r = &tail->r;

    for ( ;; ) {
        rc = kv_wal_tail_list(tail);

        if (rc != KV_OK) {
            return rc;
        }

        if (r->fd == -1
            || (r->expected == r->lsn && !kv_wal_tail_named(tail)))
        {
            /* one without a batch may be replaced by another of its name */

            later = kv_wal_tail_first(tail);

        } else {
            later = kv_wal_tail_later(tail, r->lsn);
            rc = kv_wal_tail_batches(tail, later);

            if (rc != KV_OK) {
                return rc;
            }

            tail->from.after = kv_max(tail->from.after, r->expected - 1);
        }

        if (later == 0) {
            return KV_OK;
        }

        if (r->fd != -1 && later > r->expected && kv_wal_tail_named(tail)) {
            return kv_wal_damaged(r, r->offset, r->expected, "no good batch "
                                  "with LSN %" PRIu64 " is here, and the next "
                                  "segment starts with %" PRIu64, r->expected,
                                  later);
        }

        rc = kv_wal_tail_open(tail, later, next);

        if (rc != KV_OK) {
            return rc;
        }
    }
}


/* The segment that begins with this LSN; KV_NOT_FOUND: after a gap. */

static kv_rc_t
kv_wal_tail_open(kv_wal_tail_t *tail, uint64_t lsn, uint64_t *next)
{
    kv_rc_t           rc;
    kv_wal_reader_t  *r;

    r = &tail->r;
    rc = kv_wal_read_header(r, lsn);

    if (rc == KV_ERROR && errno == ENOENT) {

        /* it was recycled since it was listed: the next list tells more */

        return KV_OK;
    }

    if (rc != KV_OK) {
        return rc;
    }

    r->expected = lsn;

    if (lsn - 1 > tail->from.after) {
        tail->from.after = lsn - 1;
        *next = lsn;
        return KV_NOT_FOUND;
    }

    return KV_OK;
}


/* Gives what is new in the segment; later: the next one, 0: there is none. */

static kv_rc_t
kv_wal_tail_batches(kv_wal_tail_t *tail, uint64_t later)
{
    kv_rc_t           rc;
    uint64_t          lsn, durable;
    kv_wal_reader_t  *r;

    r = &tail->r;
    r->len = 0;

    if (later && r->kind != KV_SEGMENT_PLAIN) {
        r->upto = kv_wal_read_before(r, later);
    }

    if (tail->all || later) {
        return kv_wal_read_batches(r, UINT64_MAX);
    }

    rc = kv_wal_peek(r, UINT64_MAX, &lsn, &durable);

    if (rc != KV_OK || durable < r->expected) {
        return rc;
    }

    /* up to the end of a batch */

    rc = kv_wal_peek(r, durable + 1, &lsn, &durable);

    return rc == KV_OK ? kv_wal_read_batches(r, lsn) : rc;
}


static kv_rc_t
kv_wal_tail_list(kv_wal_tail_t *tail)
{
    kv_rc_t           rc;
    kv_wal_reader_t  *r;

    r = &tail->r;

    free(r->names);
    r->names = NULL;
    r->n = 0;

    rc = kv_wal_list(&tail->wal, &r->names, &r->n);

    if (rc != KV_OK) {
        kv_err_set(r->err, "the data directory cannot be listed: %s; see to "
                   "its permissions and the disk", strerror(errno));
        return KV_ERROR;
    }

    return kv_wal_list_stale(r);
}


/* The segment to begin with: the one with the first LSN that is wanted. */

static uint64_t
kv_wal_tail_first(const kv_wal_tail_t *tail)
{
    size_t                  i;
    uint64_t                lsn;
    const kv_wal_reader_t  *r;

    r = &tail->r;
    lsn = 0;

    for (i = 0; i < r->n && r->names[i].kind == KV_WAL_SEGMENT; i++) {

        if (lsn == 0 || r->names[i].number - 1 <= tail->from.after) {
            lsn = r->names[i].number;
        }
    }

    return lsn;
}


/* The segment after that one; 0: there is none. */

static uint64_t
kv_wal_tail_later(const kv_wal_tail_t *tail, uint64_t lsn)
{
    size_t                  i;
    const kv_wal_reader_t  *r;

    r = &tail->r;

    for (i = 0; i < r->n && r->names[i].kind == KV_WAL_SEGMENT; i++) {
        if (r->names[i].number > lsn) {
            return r->names[i].number;
        }
    }

    return 0;
}


/* Whether the open segment still has its name: it was not recycled. */

static bool
kv_wal_tail_named(kv_wal_tail_t *tail)
{
    kv_io_t  *io;

    io = tail->wal.io;

    return io->named == NULL
           || io->named(io, tail->wal.dirfd, tail->r.name, tail->r.fd) != 0;
}
