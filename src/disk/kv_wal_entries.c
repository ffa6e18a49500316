
/*
 * Entries of a replicated log read back by their index; see kv_wal_entries.h.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_wal_entries.h"
#include "disk/kv_wal_reader.h"


struct kv_wal_entries_s {
    kv_wal_t         wal;
    kv_wal_replay_t  from;
    kv_wal_reader_t  r;
    uint64_t         next;           /* the index of the entry that the reader
                                        stands before; 0: it does not */
};


static kv_rc_t kv_wal_list_again(kv_wal_reader_t *r);
static kv_rc_t kv_wal_seek_none(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static void kv_wal_entries_before(const kv_wal_reader_t *r,
    kv_wal_final_t *before);
static kv_rc_t kv_wal_entries_more(kv_wal_entries_t *entries, uint64_t end,
    kv_wal_entry_pt give, void *ctx);
static kv_rc_t kv_wal_entries_next(kv_wal_entries_t *entries,
    kv_batch_header_t *h, const uint8_t **data);


kv_wal_entries_t *
kv_wal_entries_create(kv_io_t *io, int dirfd)
{
    kv_wal_entries_t  *entries;

    entries = calloc(1, sizeof(kv_wal_entries_t));

    if (entries) {
        entries->wal.io = io;
        entries->wal.dirfd = dirfd;
        entries->r.fd = -1;
    }

    return entries;
}


void
kv_wal_entries_destroy(kv_wal_entries_t *entries)
{
    kv_wal_seeker_close(&entries->r);
    free(entries);
}


kv_rc_t
kv_wal_entries_read(kv_wal_entries_t *entries, uint64_t first, uint64_t end,
    kv_wal_final_t *before, kv_wal_entry_pt give, void *ctx, kv_err_t *err)
{
    kv_rc_t             rc;
    const uint8_t      *data;
    kv_wal_reader_t    *r;
    kv_batch_header_t   h;

    assert(first > 0 && first <= end);

    r = &entries->r;
    if (entries->next != first) {
        kv_wal_seeker_close(r);
        entries->next = 0;

        rc = kv_wal_seeker_open(r, &entries->wal, &entries->from, err);

        if (rc == KV_OK) {
            rc = kv_wal_seek(r, first);
        }

        r->stop = first;

        while (rc == KV_OK) {
            rc = kv_wal_entries_next(entries, &h, &data);
        }

        if (rc != KV_DECLINED) {
            return rc;
        }

        if (r->replica.index != first - 1) {
            return KV_NOT_FOUND;
        }

        entries->next = first;
    }

    r->err = err;

    if (before) {
        kv_wal_entries_before(r, before);
    }

    return kv_wal_entries_more(entries, end, give, ctx);
}


/* What the log is where the reader stands. */

static void
kv_wal_entries_before(const kv_wal_reader_t *r, kv_wal_final_t *before)
{
    before->index = r->replica.index;
    before->term = r->replica.index_term;
    before->lsn = r->expected - 1;
    before->members_index = r->replica.members_index;
    before->members_len = r->replica.members_len;

    memcpy(before->members, r->members, r->replica.members_len);
}


static kv_rc_t
kv_wal_entries_more(kv_wal_entries_t *entries, uint64_t end,
    kv_wal_entry_pt give, void *ctx)
{
    kv_rc_t             rc;
    const uint8_t      *data;
    kv_wal_entry_t      e;
    kv_wal_reader_t    *r;
    kv_batch_header_t   h;

    r = &entries->r;
    r->stop = end;
    r->len = 0;

    while (entries->next < end) {
        rc = kv_wal_entries_next(entries, &h, &data);

        if (rc == KV_OK && !kv_wal_is_entry(&h)) {
            continue;
        }

        if (rc == KV_OK && h.index != entries->next) {
            rc = KV_NOT_FOUND;
        }

        if (rc != KV_OK) {
            entries->next = 0;
            return rc == KV_DECLINED ? KV_NOT_FOUND : rc;
        }

        e.type = h.type;
        e.term = h.term;
        e.index = h.index;
        e.commit = h.commit_index;

        entries->next++;

        rc = give(ctx, &e, h.first_lsn, h.count, data, h.len);

        if (rc != KV_OK) {
            return rc;
        }
    }

    return KV_OK;
}


/*
 * Reads the next batch, and goes behind it; in the next segment, if this one
 * has no more.  KV_DECLINED: there is none, or the entry r->stop follows.
 */

static kv_rc_t
kv_wal_entries_next(kv_wal_entries_t *entries, kv_batch_header_t *h,
    const uint8_t **data)
{
    size_t            i;
    kv_rc_t           rc;
    uint64_t          lsn;
    kv_wal_reader_t  *r;

    r = &entries->r;

    for ( ;; ) {
        rc = kv_wal_read_batch(r, UINT64_MAX, h, data);

        if (rc == KV_OK) {
            kv_wal_pass(r, h);
            return KV_OK;
        }

        if (rc != KV_DECLINED || r->replica.index + 1 == r->stop) {
            return rc;
        }

        rc = kv_wal_list_again(r);

        if (rc != KV_OK) {
            return rc;
        }

        for (i = 0; i < r->n && r->names[i].kind == KV_WAL_SEGMENT; i++) {
            if (r->names[i].number > r->lsn) {
                break;
            }
        }

        if (i == r->n || r->names[i].kind != KV_WAL_SEGMENT) {
            return KV_DECLINED;
        }

        /* it may have been the current one when the reading began */

        if (r->upto == 0) {
            r->upto = kv_wal_read_before(r, r->names[i].number);
            r->len = 0;

            if (r->upto > r->offset) {
                continue;
            }
        }

        lsn = r->lsn;
        rc = kv_wal_seek(r, r->replica.index + 1);

        if (rc != KV_OK || r->lsn == lsn) {
            return rc == KV_OK || rc == KV_NOT_FOUND ? KV_DECLINED : rc;
        }
    }
}


/* ---- what these share with kv_wal_truncate.c */


kv_rc_t
kv_wal_seeker_open(kv_wal_reader_t *r, kv_wal_t *wal, kv_wal_replay_t *from,
    kv_err_t *err)
{
    memset(r, 0, sizeof(*r));
    memset(from, 0, sizeof(*from));

    from->after = UINT64_MAX;
    from->record = kv_wal_seek_none;
    from->brief = true;

    r->wal = wal;
    r->from = from;
    r->err = err;
    r->fd = -1;

    return kv_wal_list_again(r);
}


void
kv_wal_seeker_close(kv_wal_reader_t *r)
{
    if (r->fd != -1) {
        (void) r->wal->io->close(r->wal->io, r->fd);
        r->fd = -1;
    }

    free(r->buf);
    free(r->names);

    r->buf = NULL;
    r->max = 0;
    r->len = 0;
    r->names = NULL;
    r->n = 0;
}


static kv_rc_t
kv_wal_list_again(kv_wal_reader_t *r)
{
    kv_rc_t  rc;

    free(r->names);
    r->names = NULL;
    r->n = 0;

    rc = kv_wal_list(r->wal, &r->names, &r->n);

    if (rc != KV_OK) {
        kv_err_set(r->err, "the data directory cannot be listed: %s; see to "
                   "its permissions and the disk", strerror(errno));
        return rc;
    }

    return kv_wal_list_stale(r);
}


static kv_rc_t
kv_wal_seek_none(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) ctx;
    (void) lsn;
    (void) rec;

    return KV_OK;
}


/* Each segment's first STATE says which entry is the last before it. */

kv_rc_t
kv_wal_seek(kv_wal_reader_t *r, uint64_t index)
{
    size_t                i, segments;
    kv_rc_t               rc;
    kv_entry_state_t      s;
    kv_segment_header_t   h;

    for (segments = 0; segments < r->n; segments++) {
        if (r->names[segments].kind != KV_WAL_SEGMENT) {
            break;
        }
    }

    for (i = segments; i > 0; i--) {

        rc = kv_wal_read_start(r->wal, r->names[i - 1].number, &h, &s,
                               NULL);

        if (rc == KV_ERROR) {
            kv_err_set(r->err, "the segments cannot be read: %s; see to the "
                       "disk", strerror(errno));
            return rc;
        }

        if (rc == KV_OK && h.kind == KV_SEGMENT_REPLICATED && s.index < index) {
            break;
        }
    }

    if (i == 0) {
        return KV_NOT_FOUND;
    }

    rc = kv_wal_read_header(r, r->names[i - 1].number);

    if (rc != KV_OK) {
        return rc;
    }

    r->known = false;
    r->expected = r->lsn;
    r->upto = i < segments ? kv_wal_read_before(r, r->names[i].number) : 0;

    return KV_OK;
}
