
/*
 * A node starts from what was found on disk; see kv_raft.h.
 */


#include "raft/kv_raft_private.h"


static kv_rc_t kv_raft_start_check(const kv_raft_disk_t *disk, bool joined);
static bool kv_raft_start_alone(const kv_raft_t *r,
    const kv_raft_disk_t *disk);
static kv_rc_t kv_raft_start_engine(kv_raft_t *r, uint64_t now,
    const kv_raft_disk_t *disk, uint64_t term, uint64_t voted_for);


kv_rc_t
kv_raft_start(kv_raft_t *r, uint64_t now, const kv_raft_disk_t *found)
{
    bool            joined;
    kv_rc_t         rc;
    uint64_t        s, term, voted_for;
    unsigned        i;
    kv_raft_disk_t  disk;

    disk = *found;
    s = disk.snapshot ? disk.snapshot->index : 0;

    joined = disk.n > 0 && disk.index <= s + 1 && disk.index + disk.n > s
             && (s < disk.index
                 || disk.entries[s - disk.index]->term
                    == disk.snapshot->term);

    rc = kv_raft_start_check(&disk, joined);

    if (rc != KV_OK) {
        return rc;
    }

    if (!joined) {
        disk.n = 0;
        disk.index = s + 1;
    }

    kv_raft_log_init(&r->log, disk.index - 1);

    for (i = 0; i < disk.n; i++) {
        kv_raft_log_append(&r->log, disk.entries[i]);
    }

    r->snapshot_index = s;
    r->applied = s;
    r->recorded = disk.commit;

    term = disk.term;
    voted_for = disk.voted_for;

    /*
     * A voter that is alone leads at once, in the term that it finds.  But it
     * may have led in it before, and sent entries that its own disk has lost:
     * other ones with the same index and term must not follow them.
     */

    if (term && kv_raft_start_alone(r, &disk)) {
        term++;
        voted_for = r->conf.id;
        kv_raft_write_vote(r, term, voted_for);
    }

    return kv_raft_start_engine(r, now, &disk, term, voted_for);
}


/* What the engine would end the process for. */

static kv_rc_t
kv_raft_start_check(const kv_raft_disk_t *disk, bool joined)
{
    unsigned  i;

    if (disk->term == 0
        && (disk->voted_for || disk->snapshot || disk->n || disk->commit))
    {
        return KV_DAMAGED;
    }

    if (disk->snapshot == NULL && disk->n
        && (!joined || disk->entries[0]->type != RAFT_CHANGE))
    {
        return KV_DAMAGED;
    }

    if (disk->snapshot && kv_raft_conf_check(disk->snapshot->conf) != KV_OK) {
        return KV_DAMAGED;
    }

    if (!joined) {
        return KV_OK;
    }

    for (i = 0; i < disk->n; i++) {
        if (disk->entries[i]->type == RAFT_CHANGE
            && kv_raft_conf_check(disk->entries[i]) != KV_OK)
        {
            return KV_DAMAGED;
        }
    }

    return disk->entries[disk->n - 1]->term > disk->term ? KV_DAMAGED : KV_OK;
}


static bool
kv_raft_start_alone(const kv_raft_t *r, const kv_raft_disk_t *disk)
{
    bool                       alone;
    unsigned                   i;
    kv_raft_entry_t           *e;
    struct raft_configuration  conf;

    e = disk->snapshot ? disk->snapshot->conf : NULL;

    for (i = 0; i < disk->n; i++) {
        if (disk->entries[i]->type == RAFT_CHANGE) {
            e = disk->entries[i];
        }
    }

    if (e == NULL || kv_raft_conf_read(e, &conf) != KV_OK) {
        return false;
    }

    alone = kv_raft_is_alone(&conf, r->conf.id);
    raft_configuration_close(&conf);

    return alone;
}


/* If it fails, the engine frees the entries. */

static kv_rc_t
kv_raft_start_engine(kv_raft_t *r, uint64_t now, const kv_raft_disk_t *disk,
    uint64_t term, uint64_t voted_for)
{
    int                            rc;
    void                          *batch;
    struct raft_event              event;
    struct raft_entry             *entries;
    struct raft_snapshot_metadata  metadata;

    memset(&event, 0, sizeof(event));
    event.type = RAFT_START;
    event.start.term = term;
    event.start.voted_for = voted_for;
    event.start.start_index = disk->index;

    if (disk->snapshot) {
        metadata.index = disk->snapshot->index;
        metadata.term = disk->snapshot->term;
        metadata.configuration_index = disk->snapshot->conf_index;

        if (kv_raft_conf_read(disk->snapshot->conf, &metadata.configuration)
            != KV_OK)
        {
            return KV_DAMAGED;
        }

        r->snapshot_term = metadata.term;
        event.start.metadata = &metadata;
    }

    entries = NULL;
    batch = NULL;

    if (disk->n) {
        entries = raft_malloc(disk->n * sizeof(*entries));
        batch = raft_malloc(1);
        assert(entries != NULL && batch != NULL);
        kv_raft_entries(entries, disk->entries, disk->n, batch);
    }

    event.start.entries = entries;
    event.start.n_entries = disk->n;

    /* The commit index that it starts with needs no event. */
    r->done = disk->snapshot ? disk->snapshot->index : disk->n > 0;

    rc = kv_raft_run(r, now, &event, NULL, NULL);

    if (rc <= 0) {
        raft_free(entries);
        raft_free(batch);
    }

    return rc == 0 ? KV_OK : KV_ERROR;
}
