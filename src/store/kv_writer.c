
/*
 * The thread that writes the log; see kv_writer.h.
 */


#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "store/kv_writer.h"
#include "store/kv_batch.h"


/* pause before what failed is tried again; ns */
#define KV_WRITER_PAUSE  100000000

/* that wait at first */
#define KV_WRITER_QUEUE  64u


struct kv_writer_s {
    kv_store_t                    *store;
    kv_wal_t                      *wal;
    kv_store_sizes_t               sizes;     /* of wal */
    void                         (*wake)(void *ctx);
    void                          *ctx;
    pthread_t                      thread;
    pthread_mutex_t                lock;
    pthread_cond_t                 cond;
    pthread_mutex_t                held;      /* the log is not cut back */

    /* under the lock */
    const kv_raft_write_t        **queue;     /* a ring of `size` */
    unsigned                       size;
    unsigned                       first;
    unsigned                       n;
    bool                           sync;      /* asked for */
    bool                           stop;

    /* the thread alone */
    unsigned                       written;   /* of the first ones, whole, */
    unsigned                       entries;   /* and of the next one */

    _Atomic uint64_t               done;
    _Atomic uint32_t               state;     /* kv_writer_state_t */
};


static void *kv_writer_thread(void *data);
static bool kv_writer_wait(kv_writer_t *writer, unsigned *n);
static kv_rc_t kv_writer_run(kv_writer_t *writer, unsigned n, kv_err_t *err);
static const kv_raft_write_t *kv_writer_at(kv_writer_t *writer, unsigned i);
static kv_rc_t kv_writer_write(kv_writer_t *writer, const kv_raft_write_t *w,
    kv_err_t *err);
static kv_rc_t kv_writer_entry(kv_writer_t *writer, const kv_raft_write_t *w,
    unsigned i, kv_err_t *err);
static kv_rc_t kv_writer_records(kv_writer_t *writer, kv_wal_entry_t *entry,
    const kv_raft_entry_t *e, kv_err_t *err);
static void kv_writer_synced(kv_writer_t *writer, unsigned n);
static void kv_writer_refused(kv_writer_t *writer, kv_rc_t rc,
    const kv_err_t *err);


kv_writer_t *
kv_writer_start(kv_store_t *store, void (*wake)(void *ctx), void *ctx,
    kv_err_t *err)
{
    int           rc;
    kv_writer_t  *writer;

    writer = kv_raft_alloc(sizeof(kv_writer_t));
    memset(writer, 0, sizeof(kv_writer_t));

    writer->store = store;
    writer->wake = wake;
    writer->ctx = ctx;
    writer->size = KV_WRITER_QUEUE;
    writer->queue = kv_raft_alloc(writer->size * sizeof(writer->queue[0]));

    (void) pthread_mutex_init(&writer->lock, NULL);
    (void) pthread_mutex_init(&writer->held, NULL);
    (void) pthread_cond_init(&writer->cond, NULL);

    if (kv_store_grow_log(store, &writer->wal, &writer->sizes) != KV_OK) {
        rc = ENOMEM;

    } else {
        rc = pthread_create(&writer->thread, NULL, kv_writer_thread, writer);

        if (rc == 0) {
            return writer;
        }

        kv_wal_destroy(writer->wal);
    }

    errno = rc;
    kv_err_set(err, "no thread can be made that writes the log: %s",
               strerror(rc));

    (void) pthread_cond_destroy(&writer->cond);
    (void) pthread_mutex_destroy(&writer->held);
    (void) pthread_mutex_destroy(&writer->lock);
    free(writer->queue);
    free(writer);

    return NULL;
}


void
kv_writer_end(kv_writer_t *writer)
{
    (void) pthread_mutex_lock(&writer->lock);
    writer->stop = true;
    (void) pthread_cond_signal(&writer->cond);
    (void) pthread_mutex_unlock(&writer->lock);

    (void) pthread_join(writer->thread, NULL);

    kv_wal_destroy(writer->wal);
    (void) pthread_cond_destroy(&writer->cond);
    (void) pthread_mutex_destroy(&writer->held);
    (void) pthread_mutex_destroy(&writer->lock);
    free(writer->queue);
    free(writer);
}


void
kv_writer_add(kv_writer_t *writer, const kv_raft_write_t *w)
{
    unsigned                 i;
    const kv_raft_write_t  **queue;

    (void) pthread_mutex_lock(&writer->lock);

    if (writer->n == writer->size) {
        queue = kv_raft_alloc(2 * writer->size * sizeof(queue[0]));

        for (i = 0; i < writer->n; i++) {
            queue[i] = kv_writer_at(writer, i);
        }

        free(writer->queue);
        writer->queue = queue;
        writer->size *= 2;
        writer->first = 0;
    }

    writer->queue[(writer->first + writer->n++) % writer->size] = w;

    (void) pthread_cond_signal(&writer->cond);
    (void) pthread_mutex_unlock(&writer->lock);
}


uint64_t
kv_writer_done(const kv_writer_t *writer)
{
    return atomic_load(&writer->done);
}


kv_writer_state_t
kv_writer_state(const kv_writer_t *writer)
{
    return (kv_writer_state_t) atomic_load(&writer->state);
}


void
kv_writer_hold(kv_writer_t *writer)
{
    (void) pthread_mutex_lock(&writer->held);
}


void
kv_writer_let_go(kv_writer_t *writer)
{
    (void) pthread_mutex_unlock(&writer->held);
}


void
kv_writer_sync(kv_writer_t *writer)
{
    if (!atomic_load(&writer->store->zone->sync_requested)) {
        return;
    }

    (void) pthread_mutex_lock(&writer->lock);
    writer->sync = true;
    (void) pthread_cond_signal(&writer->cond);
    (void) pthread_mutex_unlock(&writer->lock);
}


/* ---- the thread */

static void *
kv_writer_thread(void *data)
{
    kv_rc_t       rc;
    unsigned      n;
    kv_err_t      err;
    kv_writer_t  *writer = data;

    while (kv_writer_wait(writer, &n)) {

        rc = kv_writer_run(writer, n, &err);

        kv_store_log_of(writer->store, writer->wal);

        if (rc == KV_OK) {
            kv_writer_synced(writer, n);
            continue;
        }

        kv_writer_refused(writer, rc, &err);

        if (kv_writer_state(writer) == KV_WRITER_FAILED) {
            writer->wake(writer->ctx);
            break;
        }
    }

    return NULL;
}


/*
 * Waits for something to write, or, if it could not be written, for a while.
 * False: the thread is to end.
 */

static bool
kv_writer_wait(kv_writer_t *writer, unsigned *n)
{
    bool             goes_on;
    struct timespec  until;

    (void) pthread_mutex_lock(&writer->lock);

    if (kv_writer_state(writer) == KV_WRITER_REFUSED) {
        (void) clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += KV_WRITER_PAUSE;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;

        while (!writer->stop
               && pthread_cond_timedwait(&writer->cond, &writer->lock, &until)
                  == 0)
        {
            /* void */
        }
    }

    while (!writer->stop && writer->n == 0 && !writer->sync) {
        (void) pthread_cond_wait(&writer->cond, &writer->lock);
    }

    goes_on = !writer->stop;
    *n = writer->n;
    writer->sync = false;

    (void) pthread_mutex_unlock(&writer->lock);

    return goes_on;
}


/* Writes the first `n`, as far as they are not written, and syncs them. */

static kv_rc_t
kv_writer_run(kv_writer_t *writer, unsigned n, kv_err_t *err)
{
    kv_rc_t                 rc;
    uint64_t                start;
    const kv_raft_write_t  *w;

    /* a reload may allow larger values */

    if (kv_store_grow_log(writer->store, &writer->wal, &writer->sizes)
        != KV_OK)
    {
        errno = ENOMEM;
        kv_err_set(err, "out of memory for a batch");
        return KV_AGAIN;
    }

    while (writer->written < n) {

        (void) pthread_mutex_lock(&writer->lock);
        w = kv_writer_at(writer, writer->written);
        (void) pthread_mutex_unlock(&writer->lock);

        rc = kv_writer_write(writer, w, err);

        if (rc != KV_OK) {
            return rc;
        }

        writer->written++;
        writer->entries = 0;
    }

    start = kv_now_ns();
    rc = kv_wal_sync(writer->wal, err);

    if (rc == KV_OK) {
        kv_histogram_count(&writer->store->zone->stats.sync,
                           (kv_now_ns() - start) / 1000, KV_FIGURE_FIRST_US);
    }

    return rc;
}


static const kv_raft_write_t *
kv_writer_at(kv_writer_t *writer, unsigned i)
{
    return writer->queue[(writer->first + i) % writer->size];
}


static kv_rc_t
kv_writer_write(kv_writer_t *writer, const kv_raft_write_t *w, kv_err_t *err)
{
    kv_rc_t   rc;
    kv_wal_t  *wal;

    wal = writer->wal;

    if (w->type == KV_RAFT_VOTE) {
        return kv_wal_put_vote(wal, w->term, w->voted_for, err);
    }

    /* no node sends a snapshot yet */

    assert(w->type == KV_RAFT_ENTRIES);

    if (writer->entries == 0
        && w->index <= writer->store->zone->wal.replica.index)
    {
        kv_writer_hold(writer);
        rc = kv_wal_truncate(wal, w->index, err);
        kv_writer_let_go(writer);

        if (rc != KV_OK) {
            return rc;
        }
    }

    while (writer->entries < w->n) {
        rc = kv_writer_entry(writer, w, writer->entries, err);

        if (rc != KV_OK) {
            return rc;
        }

        writer->entries++;
    }

    return KV_OK;
}


static kv_rc_t
kv_writer_entry(kv_writer_t *writer, const kv_raft_write_t *w, unsigned i,
    kv_err_t *err)
{
    kv_wal_entry_t          entry;
    const kv_raft_entry_t  *e;

    e = w->entries[i];

    entry.term = e->term;
    entry.index = w->index + i;
    entry.commit = kv_min(w->commit, entry.index);

    if (e->type == RAFT_COMMAND) {
        return kv_writer_records(writer, &entry, e, err);
    }

    entry.type = e->type == RAFT_BARRIER ? KV_ENTRY_BARRIER : KV_ENTRY_CHANGE;

    return kv_wal_put_entry(writer->wal, &entry, e->data, e->len, err);
}


/* At the time of the leader's, if its log is not ahead of it. */

static kv_rc_t
kv_writer_records(kv_writer_t *writer, kv_wal_entry_t *entry,
    const kv_raft_entry_t *e, kv_err_t *err)
{
    kv_rc_t              rc;
    kv_zone_t           *zone;
    kv_writer_records_t  head;

    zone = writer->store->zone;
    entry->type = KV_ENTRY_RECORDS;

    if (e->len < sizeof(head)) {
        errno = EPROTO;
        kv_err_set(err, "an entry of another node has no records");
        return KV_ERROR;
    }

    memcpy(&head, e->data, sizeof(head));

    if (head.lsn != atomic_load(&zone->wal.next_lsn)) {
        errno = EPROTO;
        kv_err_set(err, "an entry of another node begins with LSN %llu, and "
                   "the log goes on with %llu", (unsigned long long) head.lsn,
                   (unsigned long long) atomic_load(&zone->wal.next_lsn));
        return KV_ERROR;
    }

    zone->wal.time_ms = kv_max(zone->wal.time_ms, head.time_ms);

    rc = kv_wal_put_records(writer->wal, entry, e->data + sizeof(head),
                            e->len - sizeof(head), err);

    if (rc == KV_OK) {
        atomic_store(&zone->written_ns, kv_now_ns());
    }

    return rc == KV_DAMAGED ? KV_ERROR : rc;
}


static void
kv_writer_synced(kv_writer_t *writer, unsigned n)
{
    kv_zone_t  *zone;

    zone = writer->store->zone;

    kv_state_wrote(writer->store, 0, true);
    kv_state_succeeded(zone);
    atomic_store(&zone->current_segment, zone->wal.segment_lsn);
    atomic_store(&zone->synced_ns, kv_now_ns());
    atomic_store(&zone->sync_requested, 0);
    atomic_store(&zone->unsynced, 0);
    atomic_store(&writer->state, KV_WRITER_OK);
    kv_batch_request(writer->store);

    if (n == 0) {
        return;
    }

    (void) pthread_mutex_lock(&writer->lock);

    atomic_store(&writer->done, kv_writer_at(writer, n - 1)->seq);
    writer->first = (writer->first + n) % writer->size;
    writer->n -= n;
    writer->written -= n;

    (void) pthread_mutex_unlock(&writer->lock);

    writer->wake(writer->ctx);
}


/* What was written of it stays; the next try goes on from there. */

static void
kv_writer_refused(kv_writer_t *writer, kv_rc_t rc, const kv_err_t *err)
{
    if (rc == KV_NO_SPACE || rc == KV_AGAIN) {
        kv_state_refused(writer->store, rc, 0, err);
        (void) atomic_fetch_or(&writer->store->zone->requests,
                               KV_REQUEST_FREE_DISK);
        atomic_store(&writer->state, KV_WRITER_REFUSED);
        return;
    }

    kv_state_no_writes(writer->store, err);
    atomic_store(&writer->state, KV_WRITER_FAILED);
}
