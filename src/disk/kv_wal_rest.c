
/*
 * What stays of a replicated log when entries are given up, or when a segment
 * takes the place of another: found by reading the segment where that ends.
 */


#include <errno.h>
#include <stdlib.h>

#include "disk/kv_wal_reader.h"


static kv_rc_t kv_wal_read_rest(kv_wal_reader_t *r, uint64_t commit,
    kv_wal_rest_t *rest);
static void kv_wal_take_first(const kv_wal_reader_t *r, kv_wal_rest_t *rest);
static kv_rc_t kv_wal_keep_entry(kv_wal_reader_t *r,
    const kv_batch_header_t *h, const uint8_t *data, kv_wal_rest_t *rest);
static void kv_wal_take_rest(kv_wal_t *wal, const kv_wal_reader_t *r,
    kv_wal_rest_t *rest);

kv_rc_t
kv_wal_find_rest(kv_wal_t *wal, uint64_t index, kv_wal_rest_t *rest,
    kv_err_t *err)
{
    int              saved;
    kv_rc_t          rc;
    kv_wal_replay_t  from;
    kv_wal_reader_t  r;

    rest->entries = NULL;
    rest->len = 0;

    rc = kv_wal_seeker_open(&r, wal, &from, err);

    if (rc == KV_OK) {
        rc = kv_wal_seek(&r, index);
    }

    if (rc == KV_OK) {
        r.stop = index;
        rc = kv_wal_read_rest(&r, wal->state->replica.commit, rest);
    }

    if (rc == KV_OK && r.replica.index != index - 1) {
        rc = KV_NOT_FOUND;
    }

    if (rc == KV_ERROR) {

        /* to a reader all errors are one; a writer may try again */

        rc = kv_wal_rc();
    }

    saved = errno;

    if (rc == KV_OK) {
        kv_wal_take_rest(wal, &r, rest);

    } else {
        free(rest->entries);
    }

    kv_wal_seeker_close(&r);
    errno = saved;

    return rc;
}


kv_rc_t
kv_wal_keep_rest(kv_wal_t *wal, kv_wal_rest_t *rest, kv_err_t *err)
{
    kv_rc_t                  rc;
    const kv_wal_replica_t  *replica;

    replica = &wal->state->replica;

    if (!wal->state->replicated || replica->commit == replica->index) {
        return KV_NOT_FOUND;
    }

    rc = kv_wal_find_rest(wal, replica->index + 1, rest, err);

    if (rc == KV_OK && (rest->to.segment_lsn != wal->state->segment_lsn
                        || rest->to.next_lsn != wal->state->next_lsn))
    {
        free(rest->entries);
        rc = KV_NOT_FOUND;
    }

    return rc;
}


/*
 * Reads the segment up to r->stop.  If no record is in it, the next segment
 * takes its place, and must have its entries that may not be committed.
 */

static kv_rc_t
kv_wal_read_rest(kv_wal_reader_t *r, uint64_t commit, kv_wal_rest_t *rest)
{
    kv_rc_t             rc;
    const uint8_t      *data;
    kv_batch_header_t   h;

    for ( ;; ) {
        rc = kv_wal_read_batch(r, UINT64_MAX, &h, &data);

        if (rc != KV_OK) {
            return rc == KV_DECLINED ? KV_OK : rc;
        }

        if (h.count == 0 && kv_wal_is_entry(&h) && r->expected == r->lsn
            && h.index > commit)
        {
            rc = kv_wal_keep_entry(r, &h, data, rest);

            if (rc != KV_OK) {
                return rc;
            }
        }

        if (rest->len == 0) {
            kv_wal_take_first(r, rest);
        }

        kv_wal_pass(r, &h);
    }
}


/* The place, up to now, is the one that the STATE names. */

static void
kv_wal_take_first(const kv_wal_reader_t *r, kv_wal_rest_t *rest)
{
    rest->first = r->replica;
    memcpy(rest->first_members, r->members, r->replica.members_len);
}


static kv_rc_t
kv_wal_keep_entry(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data, kv_wal_rest_t *rest)
{
    uint8_t  *p;

    p = realloc(rest->entries, rest->len + sizeof(*h) + h->len);

    if (p == NULL) {
        kv_err_set(r->err, "out of memory");
        return KV_AGAIN;
    }

    rest->entries = p;

    memcpy(p + rest->len, h, sizeof(*h));
    memcpy(p + rest->len + sizeof(*h), data, h->len);

    rest->len += sizeof(*h) + h->len;

    return KV_OK;
}


/* Term and vote stay; of the rest, what the reader has found. */

static void
kv_wal_take_rest(kv_wal_t *wal, const kv_wal_reader_t *r, kv_wal_rest_t *rest)
{
    kv_wal_state_t    *state;
    kv_wal_replica_t  *to;

    state = wal->state;

    memset(&rest->to, 0, sizeof(rest->to));

    rest->to.segment_lsn = r->lsn;
    rest->to.next_lsn = r->expected;

    to = &rest->to.replica;
    *to = r->replica;
    to->members_at = state->replica.members_at;
    to->commit = state->replica.commit;

    memcpy(rest->members, r->members, to->members_len);

    if (r->expected > r->lsn) {

        /* the next segment follows on this one */

        free(rest->entries);
        rest->entries = NULL;
        rest->len = 0;
        to->before = r->offset;
        rest->first = *to;
        memcpy(rest->first_members, rest->members, to->members_len);
    }

    to->term = state->replica.term;
    to->voted_for = state->replica.voted_for;

    rest->first.before = to->before;
    rest->first.term = to->term;
    rest->first.voted_for = to->voted_for;
    rest->first.commit = to->commit;
}
