
/*
 * A node with peers starts from its log: the engine gets what is there, so that
 * it can send it to peers that lack some of it.  The map is the state after
 * the last entry that was applied, as of a snapshot.
 */


#include <errno.h>
#include <stdlib.h>

#include "disk/kv_wal_entries.h"
#include "store/kv_member_private.h"


/* What was read of the log. */

typedef struct {
    uint64_t            applied;     /* the state is that after this entry */
    uint64_t            term;        /* of it, 0: not seen */
    uint64_t            conf_index;  /* the members then */
    kv_raft_entry_t    *conf;
    uint64_t            index;       /* of the first entry */
    kv_raft_entry_t   **entries;
    unsigned            n;
    unsigned            size;
    size_t              bytes;
} kv_member_found_t;


static kv_rc_t kv_member_read(kv_member_t *m, kv_member_found_t *found,
    kv_err_t *err);
static void kv_member_before(kv_member_found_t *found,
    const kv_wal_final_t *before);
static kv_rc_t kv_member_take(void *ctx, const kv_wal_entry_t *e,
    uint64_t lsn, uint32_t count, const void *data, size_t len);
static void kv_member_drop_first(kv_member_found_t *found);
static kv_raft_entry_t *kv_member_records(uint64_t term, uint64_t lsn,
    const void *data, size_t len);
static void kv_member_forget(kv_member_found_t *found);
static kv_rc_t kv_member_open(kv_member_t *m, const kv_raft_host_t *ops,
    const kv_member_found_t *found, kv_err_t *err);


kv_rc_t
kv_member_start(kv_member_t *m, const kv_raft_host_t *ops,
    void (*wake)(void *ctx), kv_err_t *err)
{
    kv_rc_t            rc;
    kv_member_found_t  found;

    memset(&found, 0, sizeof(found));
    found.applied = atomic_load(&m->store->zone->applied_index);

    rc = kv_member_read(m, &found, err);

    if (rc == KV_OK) {
        m->writer = kv_writer_start(m->store, wake, m, err);
        rc = m->writer ? kv_member_open(m, ops, &found, err) : KV_AGAIN;
    }

    kv_member_forget(&found);

    if (rc != KV_OK && m->writer) {
        kv_writer_end(m->writer);
        m->writer = NULL;
    }

    return rc;
}


/*
 * Reads what was not applied, and some of what was: as much as is kept in
 * memory.  Segments may be gone: from as far back as goes.
 */

static kv_rc_t
kv_member_read(kv_member_t *m, kv_member_found_t *found, kv_err_t *err)
{
    kv_rc_t            rc;
    uint64_t           end;
    kv_wal_final_t    *before;
    kv_wal_entries_t  *entries;

    end = m->store->zone->wal.replica.index + 1;
    entries = kv_wal_entries_create(m->store->io, m->store->dirfd);
    before = malloc(sizeof(kv_wal_final_t));

    if (entries == NULL || before == NULL) {
        kv_err_set(err, "out of memory for the engine of the cluster");
        rc = KV_AGAIN;

    } else {
        found->index = found->applied > KV_MEMBER_BACK
                       ? found->applied - KV_MEMBER_BACK : 1;

        for ( ;; ) {
            rc = kv_wal_entries_read(entries, found->index, end, before,
                                     kv_member_take, found, err);

            if (rc != KV_NOT_FOUND || found->index > found->applied) {
                break;
            }

            found->index += (found->applied - found->index) / 2 + 1;
        }

        if (rc == KV_OK) {
            kv_member_before(found, before);

        } else if (rc == KV_NOT_FOUND) {
            errno = EINVAL;
            kv_err_set(err, "the log lacks entries behind the last one that "
                       "was applied, %llu",
                       (unsigned long long) found->applied);
            rc = KV_ERROR;
        }
    }

    free(before);

    if (entries) {
        kv_wal_entries_destroy(entries);
    }

    return rc;
}


/* What the entries that were read do not say is what was before them. */

static void
kv_member_before(kv_member_found_t *found, const kv_wal_final_t *before)
{
    if (found->conf == NULL && before->members_len) {
        found->conf_index = before->members_index;
        found->conf = kv_raft_entry_make(before->term, RAFT_CHANGE,
                                         before->members, before->members_len);
    }

    if (found->term == 0 && found->applied == before->index) {
        found->term = before->term;
    }
}


static kv_rc_t
kv_member_take(void *ctx, const kv_wal_entry_t *e, uint64_t lsn,
    uint32_t count, const void *data, size_t len)
{
    kv_raft_entry_t     *entry, **entries;
    kv_member_found_t   *found = ctx;

    (void) count;

    if (found->n == found->size) {
        found->size = kv_max(64u, found->size * 2);
        entries = kv_raft_alloc(found->size * sizeof(entries[0]));

        if (found->n) {
            memcpy(entries, found->entries, found->n * sizeof(entries[0]));
        }

        free(found->entries);
        found->entries = entries;
    }

    entry = kv_member_entry(e, lsn, data, len);
    found->entries[found->n++] = entry;
    found->bytes += entry->len;

    if (e->index == found->applied) {
        found->term = e->term;
    }

    if (e->type == KV_ENTRY_CHANGE && e->index <= found->applied) {
        kv_raft_entry_drop(found->conf);
        found->conf = kv_raft_entry_hold(entry);
        found->conf_index = e->index;
    }

    if (found->bytes > KV_MEMBER_KEEP && e->index <= found->applied) {
        kv_member_drop_first(found);
    }

    return KV_OK;
}


/* Half of them: so each is moved a few times at most. */

static void
kv_member_drop_first(kv_member_found_t *found)
{
    unsigned  i, n;

    for (n = 0; n < found->n && found->bytes > KV_MEMBER_KEEP / 2; n++) {
        found->bytes -= found->entries[n]->len;
        kv_raft_entry_drop(found->entries[n]);
    }

    for (i = n; i < found->n; i++) {
        found->entries[i - n] = found->entries[i];
    }

    found->n -= n;
    found->index += n;
}


kv_raft_entry_t *
kv_member_entry(const kv_wal_entry_t *e, uint64_t lsn, const void *data,
    size_t len)
{
    return e->type == KV_ENTRY_RECORDS
           ? kv_member_records(e->term, lsn, data, len)
           : kv_raft_entry_make(e->term, e->type == KV_ENTRY_BARRIER
                                         ? RAFT_BARRIER : RAFT_CHANGE,
                                data, len);
}


static kv_raft_entry_t *
kv_member_records(uint64_t term, uint64_t lsn, const void *data, size_t len)
{
    uint8_t              *buf;
    kv_raft_entry_t      *e;
    kv_writer_records_t   head;

    buf = kv_raft_alloc(sizeof(head) + len);

    head.lsn = lsn;
    head.time_ms = 0;

    memcpy(buf, &head, sizeof(head));
    memcpy(buf + sizeof(head), data, len);

    e = kv_raft_entry_make(term, RAFT_COMMAND, buf, sizeof(head) + len);
    free(buf);

    return e;
}


static void
kv_member_forget(kv_member_found_t *found)
{
    unsigned  i;

    for (i = 0; i < found->n; i++) {
        kv_raft_entry_drop(found->entries[i]);
    }

    free(found->entries);
    kv_raft_entry_drop(found->conf);
}


static kv_rc_t
kv_member_open(kv_member_t *m, const kv_raft_host_t *ops,
    const kv_member_found_t *found, kv_err_t *err)
{
    kv_rc_t                  rc;
    kv_raft_conf_t           conf;
    kv_raft_disk_t           disk;
    const kv_wal_replica_t  *log;

    log = &m->store->zone->wal.replica;

    memset(&conf, 0, sizeof(conf));
    conf.id = m->id;
    conf.seed = (unsigned) (kv_now_ns() ^ m->id);
    conf.election_timeout = KV_MEMBER_ELECTION;
    conf.heartbeat = KV_MEMBER_HEARTBEAT;
    conf.snapshot_timeout = KV_MEMBER_SNAPSHOT;
    conf.inflight = KV_MEMBER_INFLIGHT;

    m->snapshot.index = found->applied;
    m->snapshot.term = found->term;
    m->snapshot.conf_index = found->conf_index;
    m->snapshot.conf = found->conf ? kv_raft_entry_hold(found->conf) : NULL;

    memset(&disk, 0, sizeof(disk));
    disk.term = log->term;
    disk.voted_for = log->voted_for;
    disk.snapshot = found->applied ? &m->snapshot : NULL;
    disk.index = found->index;
    disk.entries = found->entries;
    disk.n = found->n;
    disk.commit = kv_max(found->applied, log->commit);

    m->started = kv_member_ms();
    m->seq = 0;
    m->raft = kv_raft_open(&conf, ops, m);

    rc = kv_raft_start(m->raft, m->started, &disk);

    if (rc == KV_OK) {
        return KV_OK;
    }

    /* the writer may be at what it was given */

    kv_writer_end(m->writer);
    m->writer = NULL;
    kv_raft_close(m->raft);
    m->raft = NULL;

    errno = EPROTO;
    kv_err_set(err, "the engine of the cluster does not start from this log");

    return KV_ERROR;
}
