
/*
 * What was read is given to the caller.  Of a replicated log that may not be
 * all committed, a batch is held until a later one says that it is; what is
 * held at the end is left in the log.
 */


#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_wal_reader.h"


struct kv_wal_held_s {
    struct kv_wal_held_s  *next;
    char                   name[KV_NAME_MAX];   /* of the segment, */
    uint64_t               lsn;                 /* its first LSN, */
    uint64_t               offset;              /* and where in it */
    uint64_t               index;               /* of the last entry */
    kv_batch_header_t      h;
    uint8_t                data[];
};


static void kv_wal_note_final(kv_wal_final_t *final,
    const kv_batch_header_t *h, const void *data);
static kv_rc_t kv_wal_give_held(kv_wal_reader_t *r,
    const struct kv_wal_held_s *held);


kv_rc_t
kv_wal_give(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data)
{
    size_t          n, size;
    kv_rc_t         rc;
    uint64_t        lsn, end;
    kv_record_t     rec;
    struct iovec    value;
    const uint8_t  *records;

    records = data;
    n = h->len;
    end = h->first_lsn + h->count;

    /* one without an LSN counts as what follows on it */

    if (r->from->batch && kv_max(end - 1, h->first_lsn) > r->from->after) {
        r->from->batch(r->from->ctx, r->lsn, r->offset, h, records);
    }

    for (lsn = h->first_lsn; lsn < end; lsn++) {

        size = kv_record_decode(records, n, r->version, &rec, &value);

        if (size == 0) {
            break;
        }

        if (kv_record_unknown(&rec)) {
            kv_err_set(r->err, "%s: offset %" PRIu64 ": LSN %" PRIu64 " is of "
                       "a record with %s, which this version of the module "
                       "cannot keep; use the version that wrote it, or another "
                       "directory", r->name, r->offset, lsn,
                       kv_record_unknown(&rec));
            return KV_DAMAGED;
        }

        rec.lsn = lsn;
        rec.place = r->offset + kv_wal_batch_header(r->version) + h->len - n
                    + (size_t) ((uint8_t *) value.iov_base - records);

        if (lsn > r->from->after) {
            rc = r->from->record(r->from->ctx, lsn, &rec);

            if (rc != KV_OK) {
                return rc;
            }
        }

        records += size;
        n -= size;
    }

    if (lsn < end || (n > 0 && h->count)) {
        return kv_wal_damaged(r, r->offset + kv_wal_batch_header(r->version)
                                 + h->len - n, h->first_lsn,
                              "the batch is as it was written, but this is no "
                              "record of format version %u", r->version);
    }

    if (r->from->final && h->type != KV_ENTRY_NONE) {
        kv_wal_note_final(r->from->final, h, data);
    }

    return KV_OK;
}


/* What the log is after this batch. */

static void
kv_wal_note_final(kv_wal_final_t *final, const kv_batch_header_t *h,
    const void *data)
{
    kv_entry_state_t  s;

    final->lsn = h->first_lsn + h->count - 1;

    if (h->type == KV_ENTRY_STATE) {
        memcpy(&s, data, sizeof(s));
        final->index = s.index;
        final->term = s.index_term;
        final->members_index = s.members_index;
        final->members_len = s.len;
        memcpy(final->members, (const uint8_t *) data + sizeof(s), s.len);

        return;
    }

    final->index = h->index;
    final->term = h->term;

    if (h->type == KV_ENTRY_CHANGE) {
        final->members_index = h->index;
        final->members_len = h->len;
        memcpy(final->members, data, h->len);
    }
}


kv_rc_t
kv_wal_hold(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data)
{
    kv_rc_t                rc;
    struct kv_wal_held_s  *held;

    held = malloc(sizeof(struct kv_wal_held_s) + h->len);

    if (held == NULL) {
        errno = ENOMEM;
        return kv_wal_failed(r, "holding");
    }

    held->next = NULL;
    held->lsn = r->lsn;
    held->offset = r->offset;
    held->index = r->replica.index;
    held->h = *h;
    (void) strcpy(held->name, r->name);
    memcpy(held->data, data, h->len);

    if (r->held) {
        r->held_last->next = held;
    } else {
        r->held = held;
    }

    r->held_last = held;

    r->final = kv_max(r->final, kv_max(r->replica.commit, r->from->index));

    /* what a snapshot has, or may have, was committed when it was made */

    if (h->count
        && h->first_lsn <= kv_max(r->from->after, r->from->must_reach))
    {
        r->final = kv_max(r->final, held->index);
    }

    while (r->held && r->held->index <= r->final) {
        held = r->held;
        rc = kv_wal_give_held(r, held);

        if (rc != KV_OK) {
            return rc;
        }

        r->held = held->next;
        free(held);
    }

    return KV_OK;
}


/* As if it were just read. */

static kv_rc_t
kv_wal_give_held(kv_wal_reader_t *r, const struct kv_wal_held_s *held)
{
    char      name[KV_NAME_MAX];
    kv_rc_t   rc;
    uint64_t  lsn, offset;

    lsn = r->lsn;
    offset = r->offset;
    (void) strcpy(name, r->name);

    r->lsn = held->lsn;
    r->offset = held->offset;
    (void) strcpy(r->name, held->name);

    rc = kv_wal_give(r, &held->h, held->data);

    if (rc == KV_OK) {
        r->lsn = lsn;
        r->offset = offset;
        (void) strcpy(r->name, name);
    }

    return rc;
}


void
kv_wal_release(kv_wal_reader_t *r)
{
    struct kv_wal_held_s  *held;

    while (r->held) {
        held = r->held;
        r->held = held->next;
        free(held);
    }
}
