
/*
 * A peer lacks entries that the leader no longer has in memory, for which the
 * engine would send a snapshot: they are read from the log, and sent, one
 * message at a time, until the peer has what the engine goes on from.
 *
 * A thread of its own reads, as that may take longer than the others wait for
 * a heartbeat.
 */


#include <errno.h>
#include <stdlib.h>

#include "disk/kv_wal_entries.h"
#include "store/kv_member_private.h"


/* bytes of entries that are read at a time, and one entry more */
#define KV_OLDER_BYTES  (1u << 20)

/* after how long what was not answered is sent again; ms */
#define KV_OLDER_AGAIN  1000u


typedef enum {
    KV_OLDER_IDLE = 0,
    KV_OLDER_ASKED,                  /* the thread is at it, */
    KV_OLDER_READ                    /* and is done */
} kv_older_state_t;


typedef struct {
    uint64_t            term;        /* in which it answered last */
    uint64_t            before;      /* it may have all up to this entry, */
    uint64_t            before_term; /* whose term is this; 0: not read yet */
    bool                matched;     /* and has, as it has answered */
    bool                on;          /* it is to be sent more: */
    uint64_t            upto;        /* the last one that was sent, or is
                                        supposed to be there */
    bool                waits;       /* that is read, or to be answered, */
    uint64_t            since;       /* since this time, ms */
} kv_older_peer_t;


struct kv_older_s {
    kv_member_t        *m;
    kv_older_peer_t     peer[KV_PEERS_MAX];
    pthread_t           thread;
    bool                started;
    pthread_mutex_t     lock;
    pthread_cond_t      cond;

    /* under the lock; but the job, once it is asked for, is the thread's */
    kv_older_state_t    state;
    bool                stop;

    /* the job */
    unsigned            i;           /* for which peer, */
    uint64_t            term;        /* in which term of this leader, */
    uint64_t            first;       /* from this entry on, */
    uint64_t            end;         /* to the one before this */
    kv_rc_t             rc;
    kv_err_t            err;
    kv_wal_final_t      before;
    kv_raft_entry_t   **entries;
    unsigned            n;
    unsigned            size;
    size_t              bytes;

    /* the thread alone */
    kv_wal_entries_t   *reader;
    uint64_t            reader_term;
};


static bool kv_older_start(kv_older_t *o);
static void kv_older_peer(kv_older_t *o, unsigned i, uint64_t term);
static void kv_older_ask(kv_older_t *o, unsigned i);
static kv_older_state_t kv_older_state(kv_older_t *o);
static void kv_older_set(kv_older_t *o, kv_older_state_t state);
static void kv_older_send(kv_older_t *o);
static void kv_older_failed(kv_older_t *o);
static void kv_older_forget(kv_older_t *o);
static void *kv_older_thread(void *data);
static kv_rc_t kv_older_read(kv_older_t *o);
static kv_rc_t kv_older_entry(void *ctx, const kv_wal_entry_t *e, uint64_t lsn,
    uint32_t count, const void *data, size_t len);


kv_older_t *
kv_older_create(kv_member_t *m)
{
    kv_older_t  *o;

    o = kv_raft_alloc(sizeof(kv_older_t));
    memset(o, 0, sizeof(kv_older_t));

    o->m = m;
    (void) pthread_mutex_init(&o->lock, NULL);
    (void) pthread_cond_init(&o->cond, NULL);

    return o;
}


void
kv_older_destroy(kv_older_t *o)
{
    if (o->started) {
        (void) pthread_mutex_lock(&o->lock);
        o->stop = true;
        (void) pthread_cond_signal(&o->cond);
        (void) pthread_mutex_unlock(&o->lock);

        (void) pthread_join(o->thread, NULL);
    }

    kv_older_forget(o);
    free(o->entries);

    if (o->reader) {
        kv_wal_entries_destroy(o->reader);
    }

    (void) pthread_cond_destroy(&o->cond);
    (void) pthread_mutex_destroy(&o->lock);
    free(o);
}


void
kv_older_wanted(kv_older_t *o, unsigned i)
{
    kv_older_peer_t  *p;

    p = &o->peer[i];

    if (p->on || !kv_older_start(o)) {
        return;
    }

    p->on = true;
    p->matched = false;
    p->before = kv_min(p->before, o->m->snapshot.index);
    p->before_term = 0;
    p->upto = p->before;
    p->waits = false;
}


static bool
kv_older_start(kv_older_t *o)
{
    if (!o->started) {
        o->started = pthread_create(&o->thread, NULL, kv_older_thread, o) == 0;
    }

    return o->started;
}


/*
 * It may have more than what was sent, of another leader: that counts only once
 * it was sent, too.
 */

void
kv_older_heard(kv_older_t *o, unsigned i,
    const struct raft_append_entries_result *result)
{
    uint64_t          last;
    kv_older_peer_t  *p;

    p = &o->peer[i];
    last = result->last_log_index;

    if (result->term < p->term) {
        return;
    }

    if (result->term > p->term) {
        p->term = result->term;
        p->on = false;
    }

    if (result->rejected) {

        if (!p->on || (result->rejected == p->before && !p->matched)) {
            p->before = kv_min((uint64_t) result->rejected - 1, last);
            p->before_term = 0;
            p->upto = p->before;
            p->waits = false;
        }

        return;
    }

    if (!p->on) {
        p->before = last;
        return;
    }

    last = kv_min(last, p->upto);

    if (last > p->before) {
        p->before = last;
        p->before_term = 0;
        p->matched = true;
        p->waits = false;

    } else if (last == p->before && p->before_term) {
        p->matched = true;
    }
}


void
kv_older_work(kv_older_t *o)
{
    bool              leads;
    unsigned          i;
    kv_member_t      *m;
    kv_raft_info_t    info;

    m = o->m;

    if (!o->started) {
        return;
    }

    kv_raft_info(m->raft, &info);
    leads = kv_member_leads(m);

    if (kv_older_state(o) == KV_OLDER_READ) {

        if (leads && o->term == info.term && o->peer[o->i].on
            && o->first == o->peer[o->i].before + 1)
        {
            kv_older_send(o);
        }

        kv_older_forget(o);
        kv_older_set(o, KV_OLDER_IDLE);
    }

    for (i = 0; i < m->store->conf.npeers; i++) {

        if (!o->peer[i].on) {
            continue;
        }

        if (info.state != RAFT_LEADER || o->peer[i].term != info.term) {
            o->peer[i].on = false;
            kv_raft_snapshot_sent(m->raft, m->peer[i].id);

        } else if (leads) {
            kv_older_peer(o, i, info.term);
        }
    }
}


/* What is to be done for a peer that lacks entries. */

static void
kv_older_peer(kv_older_t *o, unsigned i, uint64_t term)
{
    uint64_t          now;
    kv_member_t      *m;
    kv_older_peer_t  *p;

    m = o->m;
    p = &o->peer[i];

    if (p->matched && p->before >= m->snapshot.index) {

        /* the engine has heard it, too, and goes on from there */

        p->on = false;
        m->lagging = false;
        kv_raft_snapshot_sent(m->raft, m->peer[i].id);
        return;
    }

    now = kv_member_ms();

    if ((!p->waits || now - p->since >= KV_OLDER_AGAIN)
        && kv_older_state(o) == KV_OLDER_IDLE)
    {
        p->waits = true;
        p->since = now;
        o->term = term;
        kv_older_ask(o, i);
    }
}


static void
kv_older_ask(kv_older_t *o, unsigned i)
{
    o->i = i;
    o->first = o->peer[i].before + 1;
    o->end = o->m->snapshot.index + 1;

    kv_older_set(o, KV_OLDER_ASKED);
}


static kv_older_state_t
kv_older_state(kv_older_t *o)
{
    kv_older_state_t  state;

    (void) pthread_mutex_lock(&o->lock);
    state = o->state;
    (void) pthread_mutex_unlock(&o->lock);

    return state;
}


static void
kv_older_set(kv_older_t *o, kv_older_state_t state)
{
    (void) pthread_mutex_lock(&o->lock);
    o->state = state;
    (void) pthread_cond_signal(&o->cond);
    (void) pthread_mutex_unlock(&o->lock);
}


/* Sends what was read, to a peer that still lacks it. */

static void
kv_older_send(kv_older_t *o)
{
    kv_member_t      *m;
    kv_older_peer_t  *p;

    m = o->m;
    p = &o->peer[o->i];

    if (o->rc != KV_OK) {
        p->on = false;
        kv_older_failed(o);
        return;
    }

    p->before_term = o->before.term;
    p->upto = kv_max(p->upto, p->before + o->n);
    p->since = kv_member_ms();

    (void) kv_raft_send_older(m->raft, m->peer[o->i].id, p->before,
                              p->before_term, o->entries, o->n);
}


/* Said once; it is tried again when the engine asks again. */

static void
kv_older_failed(kv_older_t *o)
{
    kv_member_t  *m;

    m = o->m;

    if (m->lagging) {
        return;
    }

    m->lagging = true;

    kv_store_log(m->store, KV_LOG_ERR, "kv zone \"%s\": node %s lacks entries "
                 "from number %llu on, and cannot be brought up yet: %s",
                 m->store->conf.name, m->store->conf.peers[o->i].address,
                 (unsigned long long) o->first,
                 o->rc == KV_NOT_FOUND ? "they are no longer in the log"
                                       : o->err.text);
}


static void
kv_older_forget(kv_older_t *o)
{
    unsigned  i;

    for (i = 0; i < o->n; i++) {
        kv_raft_entry_drop(o->entries[i]);
    }

    o->n = 0;
    o->bytes = 0;
}


/* ---- the thread */

static void *
kv_older_thread(void *data)
{
    kv_older_t  *o = data;

    (void) pthread_mutex_lock(&o->lock);

    for ( ;; ) {

        while (!o->stop && o->state != KV_OLDER_ASKED) {
            (void) pthread_cond_wait(&o->cond, &o->lock);
        }

        if (o->stop) {
            break;
        }

        (void) pthread_mutex_unlock(&o->lock);

        kv_writer_hold(o->m->writer);
        o->rc = kv_older_read(o);
        kv_writer_let_go(o->m->writer);

        (void) pthread_mutex_lock(&o->lock);
        o->state = KV_OLDER_READ;
        kv_net_wake(o->m->net);
    }

    (void) pthread_mutex_unlock(&o->lock);

    return NULL;
}


/* What was cut back a reader does not know: each term begins with another. */

static kv_rc_t
kv_older_read(kv_older_t *o)
{
    kv_rc_t      rc;
    kv_store_t  *store;

    store = o->m->store;

    if (o->reader && o->reader_term != o->term) {
        kv_wal_entries_destroy(o->reader);
        o->reader = NULL;
    }

    if (o->reader == NULL) {
        o->reader = kv_wal_entries_create(store->io, store->dirfd);
        o->reader_term = o->term;
    }

    if (o->reader == NULL) {
        kv_err_set(&o->err, "out of memory");
        return KV_AGAIN;
    }

    rc = kv_wal_entries_read(o->reader, o->first, o->end, &o->before,
                             kv_older_entry, o, &o->err);

    return rc == KV_DECLINED ? KV_OK : rc;
}


/* KV_DECLINED: that is enough for now. */

static kv_rc_t
kv_older_entry(void *ctx, const kv_wal_entry_t *e, uint64_t lsn,
    uint32_t count, const void *data, size_t len)
{
    kv_older_t        *o = ctx;
    kv_raft_entry_t  **entries;

    (void) count;

    if (o->n == o->size) {
        o->size = kv_max(64u, o->size * 2);
        entries = realloc(o->entries, o->size * sizeof(entries[0]));
        assert(entries != NULL);
        o->entries = entries;
    }

    o->entries[o->n++] = kv_member_entry(e, lsn, data, len);
    o->bytes += len;

    return o->bytes < KV_OLDER_BYTES && o->n < KV_MEMBER_INFLIGHT ? KV_OK
                                                                 : KV_DECLINED;
}
