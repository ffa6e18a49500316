
/*
 * Reading a replicated log back: which entry a batch is, that it follows on the
 * one before, and what the STATEs say.
 */


#include <errno.h>
#include <inttypes.h>

#include "disk/kv_wal_reader.h"


static kv_rc_t kv_wal_read_state(kv_wal_reader_t *r,
    const kv_batch_header_t *h, const uint8_t *data);
static bool kv_wal_state_follows(const kv_wal_reader_t *r,
    const kv_batch_header_t *h, const kv_entry_state_t *s);
static void kv_wal_take_members(kv_wal_reader_t *r, uint64_t index,
    const void *data, size_t len);


kv_rc_t
kv_wal_list_stale(kv_wal_reader_t *r)
{
    if (kv_wal_set_stale(r->wal, r->names, r->n) != KV_OK) {
        kv_err_set(r->err, "the segments cannot be read: %s; see to the disk",
                   strerror(errno));
        return KV_ERROR;
    }

    return KV_OK;
}


kv_rc_t
kv_wal_judge_entry(kv_wal_reader_t *r, uint64_t offset,
    const kv_batch_header_t *h)
{
    if (h->type > KV_ENTRY_STATE) {
        kv_err_set(r->err, "%s: offset %" PRIu64 ": LSN %" PRIu64 " is of an "
                   "entry of type %" PRIu32 ", which this version of the "
                   "module cannot read; use the version that wrote it, or "
                   "another directory", r->name, offset, h->first_lsn, h->type);
        return KV_DAMAGED;
    }

    if (r->kind == KV_SEGMENT_PLAIN
        && (h->index || h->commit_index || h->type || h->durable_end))
    {
        kv_err_set(r->err, "%s: offset %" PRIu64 ": LSN %" PRIu64 " is of a "
                   "batch of a replicated log, but its segment is of none: no "
                   "version of the module writes that; restore the data "
                   "directory from a copy", r->name, offset, h->first_lsn);
        return KV_DAMAGED;
    }

    if (r->kind != KV_SEGMENT_PLAIN
        && (h->type == KV_ENTRY_RECORDS) != (h->count != 0))
    {
        return kv_wal_damaged(r, offset, h->first_lsn, "the batch is as it was "
                              "written, but no entry of type %" PRIu32 " has %"
                              PRIu32 " records", h->type, h->count);
    }

    return KV_OK;
}


uint64_t
kv_wal_batch_incarnation(const kv_batch_header_t *h, const uint8_t *data,
    size_t *place)
{
    kv_entry_state_t  s;

    *place = offsetof(kv_batch_header_t, term);

    if (h->type == KV_ENTRY_NONE) {
        return h->term;
    }

    if (h->type != KV_ENTRY_STATE || h->len < sizeof(s)) {
        return 0;
    }

    *place = sizeof(*h) + offsetof(kv_entry_state_t, incarnation);
    memcpy(&s, data, sizeof(s));

    return s.incarnation;
}


kv_rc_t
kv_wal_read_first(kv_wal_reader_t *r)
{
    if (r->kind == KV_SEGMENT_PLAIN || r->offset > KV_SEGMENT_HEADER) {
        return KV_OK;
    }

    if (r->size < r->segment_size
        && r->size < KV_SEGMENT_HEADER + KV_ENTRY_STATE_MAX)
    {
        return kv_wal_cut_short(r);
    }

    return kv_wal_damaged(r, r->offset, r->expected, "the state of the "
                          "replicated log, with which each segment begins, is "
                          "not there");
}


kv_rc_t
kv_wal_read_entry(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data)
{
    kv_wal_replica_t  *replica;

    if (h->durable_end > r->offset) {
        return kv_wal_damaged(r, r->offset, r->expected, "the batch says that "
                              "the segment was durable before it up to offset %"
                              PRIu32, h->durable_end);
    }

    r->doubtful = kv_max(r->doubtful, h->durable_end);

    if (h->type == KV_ENTRY_STATE) {
        return kv_wal_read_state(r, h, data);
    }

    if (r->offset == KV_SEGMENT_HEADER) {
        return kv_wal_read_first(r);
    }

    if (h->type == KV_ENTRY_NONE) {
        return KV_OK;
    }

    replica = &r->replica;

    if (h->index != replica->index + 1 || h->term < replica->index_term
        || h->term > replica->term || h->commit_index > h->index)
    {
        return kv_wal_damaged(r, r->offset, r->expected, "the entry has index %"
                              PRIu64 ", term %" PRIu64 " and commit index %"
                              PRIu64 ", but the one before it has index %"
                              PRIu64 " and term %" PRIu64 ", and the node was "
                              "in term %" PRIu64, h->index, h->term,
                              h->commit_index, replica->index,
                              replica->index_term, replica->term);
    }

    if (h->type == KV_ENTRY_CHANGE
        && (h->len == 0 || h->len > KV_MEMBERS_MAX))
    {
        return kv_wal_damaged(r, r->offset, r->expected, "the members have %"
                              PRIu32 " bytes", h->len);
    }

    if (h->type == KV_ENTRY_CHANGE) {
        kv_wal_take_members(r, h->index, data, h->len);
    }

    replica->index = h->index;
    replica->index_term = h->term;
    replica->commit = kv_max(replica->commit, h->commit_index);

    return KV_OK;
}


static kv_rc_t
kv_wal_read_state(kv_wal_reader_t *r, const kv_batch_header_t *h,
    const uint8_t *data)
{
    kv_entry_state_t   s;
    kv_wal_replica_t  *replica;

    memset(&s, 0, sizeof(s));
    memcpy(&s, data, kv_min(sizeof(s), h->len));

    if (h->len < sizeof(s) || s.len > KV_MEMBERS_MAX || s.len % 8
        || h->len != sizeof(s) + s.len || s.index_term > h->term
        || s.members_index > s.index || (s.members_index == 0) != (s.len == 0)
        || (r->offset > KV_SEGMENT_HEADER && (s.before || s.number)))
    {
        return kv_wal_damaged(r, r->offset, r->expected, "the batch is as it "
                              "was written, but this is no state of a "
                              "replicated log");
    }

    replica = &r->replica;

    /* where a log was restored, and its next one, too, that began anew */

    if (r->kind == KV_SEGMENT_RESTORED && r->offset == KV_SEGMENT_HEADER) {
        r->known &= s.before != 0;
    }

    if (r->known && !kv_wal_state_follows(r, h, &s)) {
        return kv_wal_damaged(r, r->offset, r->expected, "the state of the "
                              "replicated log is of index %" PRIu64 " and term "
                              "%" PRIu64 ", with a vote in term %" PRIu64 " for"
                              " %016" PRIx64 ", which does not follow on index "
                              "%" PRIu64 ", term %" PRIu64 ", term %" PRIu64
                              ", %016" PRIx64, s.index, s.index_term, h->term,
                              s.voted_for, replica->index, replica->index_term,
                              replica->term, replica->voted_for);
    }

    r->known = true;

    replica->term = h->term;
    replica->voted_for = s.voted_for;
    replica->index = s.index;
    replica->index_term = s.index_term;
    replica->commit = h->commit_index;
    replica->incarnation = s.incarnation;

    kv_wal_take_members(r, s.members_index, data + sizeof(s), s.len);

    if (r->offset == KV_SEGMENT_HEADER) {
        replica->before = s.before;
        replica->number = s.number;
        replica->start = r->offset + sizeof(*h) + h->len;
    }

    return KV_OK;
}


/*
 * A segment that took the place of one without records has lost the entries of
 * that: its first STATE may have a higher index than the segment before.
 */

static bool
kv_wal_state_follows(const kv_wal_reader_t *r, const kv_batch_header_t *h,
    const kv_entry_state_t *s)
{
    bool                     first;
    const kv_wal_replica_t  *replica;

    replica = &r->replica;
    first = r->offset == KV_SEGMENT_HEADER;

    if (h->term < replica->term
        || (h->term == replica->term && replica->voted_for
            && s->voted_for != replica->voted_for))
    {
        return false;
    }

    if (first && s->index > replica->index) {
        return s->index_term >= replica->index_term
               && s->members_index >= replica->members_index;
    }

    return s->index == replica->index && s->index_term == replica->index_term
           && s->members_index == replica->members_index;
}


static void
kv_wal_take_members(kv_wal_reader_t *r, uint64_t index, const void *data,
    size_t len)
{
    r->replica.members_index = index;
    r->replica.members_len = (uint32_t) len;

    memcpy(r->members, data, len);
}


uint64_t
kv_wal_read_before(kv_wal_reader_t *r, uint64_t lsn)
{
    kv_entry_state_t      s;
    kv_segment_header_t   h;

    return kv_wal_read_start(r->wal, lsn, &h, &s, NULL) == KV_OK
           && h.kind == r->kind ? s.before : 0;
}
