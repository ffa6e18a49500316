
/*
 * A replicated log, and a model of its entries; see replica_rig.h.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "replica_rig.h"


#define ENTRIES  20000u


/* What was written last under an index. */

typedef struct {
    kv_entry_type_t  type;
    uint64_t         term;
    uint64_t         lsn;
} replica_model_t;


static replica_model_t  replica_model[ENTRIES];


static void replica_batch(void *ctx, uint64_t segment_lsn, uint64_t offset,
    const kv_batch_header_t *h, const void *data);
static void replica_note(wal_t *t, kv_entry_type_t type);


int
replica_setup(void **ctx)
{
    wal_t  *t;

    if (wal_setup(ctx) != 0) {
        return -1;
    }

    t = *ctx;
    t->replicated = true;
    t->max_batch = KV_WAL_BATCH_MAX(SEGMENT);
    t->batch = replica_batch;
    wal_open(t);

    return 0;
}


void
replica_open(wal_t *t)
{
    wal_empty(t);
    wal_open(t);
}


void
replica_vote(wal_t *t, uint64_t term, uint64_t voted_for)
{
    assert_int_equal(kv_wal_put_vote(t->log, term, voted_for, &t->err), KV_OK);
    assert_int_equal(t->state.replica.term, term);
    assert_int_equal(t->state.replica.voted_for, voted_for);
}


kv_rc_t
replica_try(wal_t *t, kv_entry_type_t type, const char *data)
{
    kv_wal_entry_t  e;

    replica_note(t, type);

    e.type = type;
    e.term = t->state.replica.term;
    e.index = t->state.replica.index + 1;
    e.commit = t->held ? t->commit : t->state.replica.index;

    return kv_wal_put_entry(t->log, &e, data, data ? strlen(data) : 0,
                            &t->err);
}


void
replica_entry(wal_t *t, kv_entry_type_t type, const char *data)
{
    uint64_t  index;

    index = t->state.replica.index;

    assert_int_equal(replica_try(t, type, data), KV_OK);
    assert_int_equal(t->state.replica.index, index + 1);
}


uint64_t
replica_lsn(uint64_t index)
{
    return replica_model[index].lsn;
}


void
replica_write(wal_t *t, unsigned n, size_t len)
{
    replica_note(t, KV_ENTRY_RECORDS);
    wal_write(t, n, len);
}


kv_rc_t
replica_try_write(wal_t *t, unsigned n, size_t len)
{
    replica_note(t, KV_ENTRY_RECORDS);

    return wal_try(t, t->log, n, len);
}


/* The entry that is written next. */

static void
replica_note(wal_t *t, kv_entry_type_t type)
{
    replica_model_t  *m;

    assert_true(t->state.replica.index + 1 < ENTRIES);

    m = &replica_model[t->state.replica.index + 1];

    m->type = type;
    m->term = t->state.replica.term;
    m->lsn = t->state.next_lsn;
}


static void
replica_batch(void *ctx, uint64_t segment_lsn, uint64_t offset,
    const kv_batch_header_t *h, const void *data)
{
    const replica_model_t  *m;

    (void) ctx;
    (void) segment_lsn;
    (void) offset;
    (void) data;

    if (h->type == KV_ENTRY_STATE) {
        return;
    }

    assert_true(h->index < ENTRIES);

    m = &replica_model[h->index];

    assert_int_equal(h->type, m->type);
    assert_int_equal(h->term, m->term);
    assert_int_equal(h->first_lsn, m->lsn);
}


void
replica_same(wal_t *t, uint64_t last)
{
    uint8_t           members[KV_MEMBERS_MAX];
    kv_wal_replica_t  was;

    was = t->state.replica;
    memcpy(members, kv_wal_members(&t->state), was.members_len);

    wal_replays(t, last);

    /* where they are, and who wrote them, is not of the log */

    was.members_at = t->state.replica.members_at;
    was.incarnation = t->state.replica.incarnation;

    assert_memory_equal(&t->state.replica, &was, sizeof(was));
    assert_memory_equal(kv_wal_members(&t->state), members, was.members_len);
    assert_int_equal(t->state.unsynced, 0);
    assert_int_equal(t->state.replicated, 1);
}
