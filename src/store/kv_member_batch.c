
/*
 * What clients write on a node with peers.
 *
 * The leader builds a batch as any committer does, and submits its records as
 * an entry; when that is committed, and in its own log, the batch is applied,
 * and answered.  The next one is decided then, as it depends on what this one
 * does: one is on its way at a time.
 *
 * If the node leads no more, the batch may be done or not: its clients are told
 * so, and the entry, if it comes to be committed, is applied from its records,
 * as those that other nodes have led to.
 */


#include <errno.h>
#include <stdlib.h>

#include "store/kv_member_private.h"
#include "store/kv_batch.h"
#include "store/kv_clock.h"
#include "store/kv_expire.h"
#include "store/kv_queue.h"
#include "store/kv_reap.h"
#include "store/kv_sweep.h"
#include "store/kv_timeout.h"


static void kv_member_lose(kv_member_t *m);
static void kv_member_refuse(kv_member_t *m);
static void kv_member_next(kv_member_t *m);
static bool kv_member_take(kv_member_t *m);
static void kv_member_expire(kv_member_t *m);
static void kv_member_submit(kv_member_t *m, bool clients, uint64_t now);
static void kv_member_submitted(kv_member_t *m, bool clients, kv_rc_t rc);
static void kv_member_trim(kv_member_t *m);


kv_rc_t
kv_member_batch_begin(kv_member_t *m, kv_err_t *err)
{
    m->follow = kv_follow_create(m->store);

    atomic_store(&m->drafts.next_lsn, 1);
    m->drafts.replicated = 1;

    kv_wal_destroy(m->store->wal);
    m->store->wal = NULL;
    m->store->drafts = &m->drafts;

    if (m->follow && kv_store_grow_wal(m->store) == KV_OK) {
        return KV_OK;
    }

    errno = ENOMEM;
    kv_err_set(err, "out of memory for a batch");

    return KV_AGAIN;
}


void
kv_member_batch_close(kv_member_t *m)
{
    if (m->store->drafts == NULL) {
        return;
    }

    if (kv_state_whole(m->store->zone)) {
        kv_member_lose(m);
        kv_member_refuse(m);
    }

    if (m->some) {
        kv_reap(m->store, m->dead);
    }

    if (m->store->wal) {
        kv_wal_destroy(m->store->wal);
        m->store->wal = NULL;
    }

    m->store->drafts = NULL;
    kv_follow_destroy(m->follow);
}


bool
kv_member_leads(kv_member_t *m)
{
    kv_raft_read_t  read;
    kv_raft_info_t  info;

    if (m->raft == NULL || m->failed) {
        return false;
    }

    kv_raft_info(m->raft, &info);

    if (info.state != RAFT_LEADER) {
        return false;
    }

    /* what others committed before is applied once, and for good */

    if (info.term != m->led && kv_raft_read_begin(m->raft, &read) == KV_OK
        && info.applied >= read.index)
    {
        m->led = info.term;
    }

    return info.term == m->led;
}


void
kv_member_batch_work(kv_member_t *m)
{
    kv_raft_info_t  info;

    if (m->store->drafts == NULL || m->raft == NULL || m->failed) {
        return;
    }

    kv_raft_info(m->raft, &info);

    if (m->flying && (info.state != RAFT_LEADER || info.term != m->term)) {
        kv_member_lose(m);
    }

    if (kv_member_leads(m)) {
        kv_member_next(m);

    } else if (!m->flying) {
        kv_member_refuse(m);
        (void) kv_member_take(m);
        kv_member_refuse(m);
    }

    kv_member_trim(m);
}


/* What is on its way may be done or not. */

static void
kv_member_lose(kv_member_t *m)
{
    if (!m->flying) {
        return;
    }

    m->flying = false;

    if (m->clients) {
        (void) kv_batch_end(m->store, m->store->batch, KV_UNAVAILABLE);

    } else {
        kv_clock_end(m->store->zone);
    }
}


static void
kv_member_refuse(kv_member_t *m)
{
    kv_op_t     *op;
    kv_batch_t  *batch;

    if (m->taken == NULL) {
        return;
    }

    batch = m->store->batch;

    while (m->taken) {
        op = m->taken;
        m->taken = op->follow;
        kv_batch_report(m->store, batch, &op, 1, KV_UNAVAILABLE);
    }

    kv_batch_wake(m->store, batch);
}


/* Submits the next batch, if none is on its way, and there is one. */

static void
kv_member_next(kv_member_t *m)
{
    kv_store_t  *store;
    kv_batch_t  *batch;

    store = m->store;
    batch = store->batch;

    while (!m->flying && kv_state_whole(store->zone)) {

        if (m->taken == NULL && !kv_member_take(m)) {
            kv_member_expire(m);
            return;
        }

        if (!kv_batch_next(store, batch, &m->taken)) {
            continue;
        }

        if (batch->n == 0) {
            (void) kv_batch_end(store, batch, KV_OK);

        } else {
            kv_member_submit(m, true, batch->time_ms);
        }
    }
}


/*
 * Takes the queue; whether there was anything.  Before that the dead are
 * locked: once all is done that was taken then, none of it is theirs any more,
 * and they are reaped.
 */

static bool
kv_member_take(kv_member_t *m)
{
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = m->store;
    zone = store->zone;

    if (m->some) {
        m->some = false;
        kv_reap(store, m->dead);
    }

    if (!kv_state_whole(zone)) {
        return false;
    }

    m->some = kv_reap_lock_dead(zone, m->dead);
    (void) kv_sweep_between(store);

    if (atomic_load(&zone->queue) == NULL) {
        return false;
    }

    m->taken = kv_queue_take(zone);
    ((kv_batch_t *) store->batch)->reserve_ns = 0;

    return true;
}


/* Deletes keys that have expired: the leader decides which. */

static void
kv_member_expire(kv_member_t *m)
{
    bool         more;
    unsigned     n;
    uint64_t     now;
    kv_zone_t   *zone;
    kv_store_t  *store;

    store = m->store;
    zone = store->zone;

    if (kv_timeout_expire(zone) != KV_TIMEOUT_NOW) {
        return;
    }

    now = kv_clock_begin(zone);
    n = kv_expire_build(store, store->batch, now, &more);

    if (n) {
        kv_member_submit(m, false, now);
        return;
    }

    kv_clock_end(zone);

    if (!more && kv_timers_ready(&zone->timers, now)) {
        kv_timers_put_off(&zone->timers, now);
    }
}


/* Submits the records that store->wal has, as one entry. */

static void
kv_member_submit(kv_member_t *m, bool clients, uint64_t now)
{
    size_t                len;
    kv_rc_t               rc;
    uint8_t              *buf;
    kv_batch_t           *batch;
    kv_store_t           *store;
    kv_writer_records_t   head;

    store = m->store;

    head.lsn = atomic_load(&store->zone->applied_lsn) + 1;
    head.time_ms = now;

    if (clients) {
        batch = store->batch;
        kv_batch_number(batch, head.lsn);
        kv_histogram_count(&store->zone->stats.batch, batch->n,
                           KV_FIGURE_FIRST_OPS);
    }

    buf = kv_raft_alloc(sizeof(head) + kv_wal_pending(store->wal));
    memcpy(buf, &head, sizeof(head));
    len = kv_wal_copy_records(store->wal, buf + sizeof(head));

    rc = kv_raft_submit(m->raft, kv_member_ms(), buf, sizeof(head) + len,
                        &m->index, &m->term);
    free(buf);

    kv_member_submitted(m, clients, rc);
}


static void
kv_member_submitted(kv_member_t *m, bool clients, kv_rc_t rc)
{
    m->clients = clients;
    m->flying = true;

    if (rc != KV_OK) {
        kv_member_lose(m);
    }
}


kv_rc_t
kv_member_batch_apply(kv_member_t *m, uint64_t index, const kv_raft_entry_t *e)
{
    kv_rc_t               rc;
    kv_err_t              err;
    kv_store_t           *store;
    kv_writer_records_t   head;

    store = m->store;

    if (m->flying && m->index == index && m->term == e->term && m->clients) {
        m->flying = false;

        return kv_batch_end(store, store->batch, KV_OK) ? KV_OK : KV_ERROR;
    }

    if (m->flying && m->index == index) {

        if (m->term != e->term) {
            kv_member_lose(m);

        } else {
            m->flying = false;
            kv_clock_end(store->zone);
        }
    }

    if (e->len < sizeof(head)) {
        return KV_ERROR;
    }

    memcpy(&head, e->data, sizeof(head));

    rc = kv_follow_apply(m->follow, head.lsn, e->data + sizeof(head),
                         e->len - sizeof(head), &err);

    if (rc == KV_OK || rc == KV_AGAIN) {
        return rc;
    }

    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\": an entry of the cluster "
                 "cannot be applied: %s", store->conf.name, err.text);

    if (rc == KV_DEAD) {
        kv_state_break(store, "the heap broke while records were applied");

    } else {
        kv_state_no_writes(store, &err);
    }

    return KV_ERROR;
}


/* The older half of what is in memory, and applied, goes. */

static void
kv_member_trim(kv_member_t *m)
{
    unsigned            trailing;
    kv_raft_info_t      info;
    kv_raft_snapshot_t  s, before;

    kv_raft_info(m->raft, &info);

    if (info.bytes < KV_MEMBER_KEEP
        || kv_raft_snapshot_begin(m->raft, &s) != KV_OK)
    {
        return;
    }

    before = m->snapshot;
    m->snapshot = s;
    trailing = kv_raft_trailing(m->raft, s.index, KV_MEMBER_KEEP / 2);

    if (kv_raft_snapshot_taken(m->raft, kv_member_ms(), &s, trailing)
        != KV_OK)
    {
        m->snapshot = before;
        before = s;
    }

    kv_raft_entry_drop(before.conf);
}
