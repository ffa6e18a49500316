
/*
 * A node's disk: records in the order in which they were written, as the log
 * will have them.
 *
 * A batch is one entry.  One with an index that is there already takes its
 * place, and ends the log that was behind it.  What is damaged ends the log
 * altogether, as it was never synced.  A snapshot is one record, which is there
 * or not; the one that is installed ends the log before it.
 *
 * One sync covers all that was written before it began; the next one begins
 * when it is over, if there is something to sync.
 */


#include "sim.h"


static sim_record_t *sim_disk_add(sim_node_t *node, sim_record_type_t type);
static void sim_disk_sync(sim_node_t *node);
static void sim_disk_drop(sim_record_t *record);
static void sim_found_snapshot(const sim_node_t *node, sim_found_t *found,
    const sim_record_t *record);
static void sim_found_batch(const sim_node_t *node, sim_found_t *found,
    const sim_record_t *record);
static void sim_found_trim(sim_found_t *found, uint64_t index);


void
sim_disk_write(sim_node_t *node, const kv_raft_write_t *w)
{
    unsigned       i;
    sim_fault_t    fault;
    sim_event_t   *event;
    sim_record_t  *record;

    fault = node->sim->conf.fault;

    switch (w->type) {

    case KV_RAFT_VOTE:
        record = sim_disk_add(node, SIM_VOTE);
        record->seq = w->seq;
        record->term = w->term;
        record->voted_for = fault == SIM_VOTE_NOT_WRITTEN ? 0 : w->voted_for;
        break;

    case KV_RAFT_ENTRIES:
        for (i = 0; i < w->n; i++) {
            record = sim_disk_add(node, SIM_BATCH);
            record->seq = i + 1 == w->n ? w->seq : w->seq - 1;
            record->index = w->index + i;
            record->commit = fault == SIM_COMMIT_TOO_FAR ? record->index
                                                         : w->commit;
            record->entry = kv_raft_entry_hold(w->entries[i]);
        }

        break;

    case KV_RAFT_INSTALL:
        record = sim_disk_add(node, SIM_INSTALL);
        record->seq = w->seq;
        record->handle = w->snapshot.handle;
        break;
    }

    if (fault == SIM_WRITTEN_EARLY
        || (fault == SIM_VOTE_NOT_AWAITED && w->type == KV_RAFT_VOTE))
    {
        event = sim_event(node->sim, SIM_EVENT_EARLY, 0);
        event->slot = node->slot;
        event->life = node->life;
        event->n = w->seq;
    }

    sim_disk_sync(node);
}


/* A snapshot that this node took itself. */

void
sim_disk_taken(sim_node_t *node, uint64_t handle, unsigned trailing)
{
    sim_record_t  *record;

    record = sim_disk_add(node, SIM_TAKEN);
    record->seq = node->disk.n > 1 ? record[-1].seq : 0;
    record->handle = handle;
    record->trailing = trailing;

    sim_disk_sync(node);
}


static sim_record_t *
sim_disk_add(sim_node_t *node, sim_record_type_t type)
{
    sim_disk_t    *disk;
    sim_record_t  *record;

    disk = &node->disk;

    if (disk->n == disk->size) {
        disk->size = disk->size ? disk->size * 2 : 64;
        disk->records = realloc(disk->records,
                                disk->size * sizeof(*disk->records));
        assert(disk->records != NULL);
    }

    record = &disk->records[disk->n++];
    memset(record, 0, sizeof(*record));
    record->type = type;

    return record;
}


static void
sim_disk_sync(sim_node_t *node)
{
    sim_disk_t   *disk;
    sim_event_t  *event;

    disk = &node->disk;

    if (disk->syncing || disk->synced == disk->n) {
        return;
    }

    disk->syncing = disk->n;
    event = sim_event(node->sim, SIM_EVENT_SYNC,
                      sim_below(node->sim, node->slow + 1));
    event->slot = node->slot;
    event->life = node->life;
}


void
sim_disk_synced(sim_node_t *node)
{
    unsigned      i, first, trailing;
    uint64_t      seq, handle, before;
    sim_disk_t   *disk;
    sim_record_t *record;

    disk = &node->disk;
    first = disk->synced;
    disk->synced = disk->syncing;
    disk->syncing = 0;
    handle = 0;
    trailing = 0;
    seq = 0;

    for (i = first; i < disk->synced; i++) {
        record = &disk->records[i];
        seq = record->seq;

        if (record->type == SIM_TAKEN) {
            handle = record->handle;
            trailing = record->trailing;

        } else if (record->type == SIM_BATCH) {
            before = i && record[-1].type == SIM_BATCH
                     && record[-1].index + 1 == record->index
                     ? record[-1].entry->term : 0;
            sim_check_entry(node, record->index, record->entry, before);
        }
    }

    sim_disk_sync(node);
    sim_node_written(node, seq);

    if (handle && !node->sim->failed) {
        sim_node_taken(node, handle, trailing);
    }
}


/*
 * When the power goes, each record that was not synced is whole, torn, or not
 * there, and nothing is there behind some point.  What the system had is
 * written if only the process dies.  Recovery cuts what does not count, and
 * syncs the rest, before it believes it.
 */

void
sim_disk_crash(sim_node_t *node, bool power)
{
    unsigned      i, n;
    sim_t        *sim;
    sim_disk_t   *disk;
    sim_record_t *record;

    sim = node->sim;
    disk = &node->disk;
    n = disk->n;

    if (power && n > disk->synced) {
        n = disk->synced + sim_below(sim, n - disk->synced + 1);
    }

    for (i = disk->synced; i < n; i++) {
        record = &disk->records[i];

        if (power && sim_chance(sim, 300)) {
            sim->sum.torn++;
            record->torn = true;

            if (sim->conf.fault != SIM_TORN_TAIL_COUNTS) {
                n = i;
            }
        }
    }

    while (disk->n > n) {
        sim_disk_drop(&disk->records[--disk->n]);
    }

    /* The torn ones are skipped by a recovery that goes on behind them. */

    for (i = 0, n = 0; i < disk->n; i++) {
        if (disk->records[i].torn) {
            sim_disk_drop(&disk->records[i]);
        } else {
            disk->records[n] = disk->records[i];
            disk->records[n++].seq = 0;
        }
    }

    disk->n = n;
    disk->synced = n;
    disk->syncing = 0;
}


static void
sim_disk_drop(sim_record_t *record)
{
    kv_raft_entry_drop(record->entry);
    record->entry = NULL;
}


void
sim_disk_free(sim_node_t *node)
{
    while (node->disk.n) {
        sim_disk_drop(&node->disk.records[--node->disk.n]);
    }

    free(node->disk.records);
    memset(&node->disk, 0, sizeof(node->disk));
}


/* ---- recovery */

void
sim_disk_read(const sim_node_t *node, unsigned n, sim_found_t *found)
{
    unsigned             i;
    kv_raft_disk_t      *disk;
    const sim_record_t  *record;

    memset(found, 0, sizeof(*found));
    disk = &found->found;
    disk->index = 1;

    for (i = 0; i < n; i++) {
        record = &node->disk.records[i];

        switch (record->type) {

        case SIM_VOTE:
            disk->term = record->term;
            disk->voted_for = record->voted_for;
            break;

        case SIM_BATCH:
            sim_found_batch(node, found, record);
            break;

        case SIM_INSTALL:
        case SIM_TAKEN:
            sim_found_snapshot(node, found, record);
            break;
        }
    }

    if (disk->snapshot) {
        disk->snapshot = &found->snapshot;
        disk->commit = kv_max(disk->commit, found->snapshot.index);
    }
}


static void
sim_found_snapshot(const sim_node_t *node, sim_found_t *found,
    const sim_record_t *record)
{
    uint64_t                   last;
    const kv_raft_snapshot_t  *s;

    s = &node->sim->snapshots[record->handle].s;
    found->snapshot = *s;
    found->handle = record->handle;
    found->found.snapshot = &found->snapshot;

    last = found->found.index + found->found.n - 1;

    if (record->type == SIM_TAKEN) {
        if (s->index > record->trailing) {
            sim_found_trim(found, s->index - record->trailing);
        }

        return;
    }

    sim_found_trim(found, last);
    found->found.index = s->index + 1;
}


static void
sim_found_batch(const sim_node_t *node, sim_found_t *found,
    const sim_record_t *record)
{
    unsigned         at;
    kv_raft_disk_t  *disk;

    disk = &found->found;
    disk->commit = kv_max(disk->commit, record->commit);

    if (disk->n == 0) {
        disk->index = record->index;
    }

    if (record->index < disk->index) {
        return;
    }

    /* Only a torn tail that counts leaves a hole: what is behind it moves up,
       as if it were what is missing. */

    at = (unsigned) kv_min(record->index - disk->index, disk->n);

    if (at == found->size) {
        found->size = found->size ? found->size * 2 : 64;
        disk->entries = realloc(disk->entries,
                                found->size * sizeof(*disk->entries));
        assert(disk->entries != NULL);
    }

    disk->entries[at] = record->entry;

    if (node->sim->conf.fault != SIM_TRUNCATION_FORGOTTEN || at == disk->n) {
        disk->n = at + 1;
    }
}


/* The entries up to the index go. */

static void
sim_found_trim(sim_found_t *found, uint64_t index)
{
    unsigned         n;
    kv_raft_disk_t  *disk;

    disk = &found->found;

    if (index < disk->index) {
        return;
    }

    n = (unsigned) kv_min(index - disk->index + 1, disk->n);
    disk->n -= n;
    disk->index += n;
    memmove(disk->entries, disk->entries + n,
            disk->n * sizeof(*disk->entries));
}


void
sim_found_free(sim_found_t *found)
{
    free(found->found.entries);
}


/* What counts of the synced records is written anew, before the others. */

void
sim_disk_compact(sim_node_t *node)
{
    unsigned      i, synced;
    sim_disk_t    old;
    sim_found_t   found;
    sim_record_t *record;

    sim_disk_read(node, node->disk.synced, &found);

    old = node->disk;
    memset(&node->disk, 0, sizeof(node->disk));

    if (found.found.snapshot) {
        record = sim_disk_add(node, SIM_TAKEN);
        record->handle = found.handle;
        record->trailing = (unsigned) found.snapshot.index;
    }

    record = sim_disk_add(node, SIM_VOTE);
    record->term = found.found.term;
    record->voted_for = found.found.voted_for;

    for (i = 0; i < found.found.n; i++) {
        record = sim_disk_add(node, SIM_BATCH);
        record->index = found.found.index + i;
        record->commit = found.found.commit;
        record->entry = kv_raft_entry_hold(found.found.entries[i]);
    }

    synced = node->disk.n;

    for (i = old.synced; i < old.n; i++) {
        record = sim_disk_add(node, SIM_BATCH);
        *record = old.records[i];
    }

    node->disk.synced = synced;
    node->disk.syncing = old.syncing ? old.syncing - old.synced + synced : 0;

    for (i = 0; i < old.synced; i++) {
        sim_disk_drop(&old.records[i]);
    }

    free(old.records);
    sim_found_free(&found);
}


bool
sim_disk_has(const sim_node_t *node, uint64_t index, uint64_t term)
{
    unsigned             i;
    const sim_record_t  *record;

    /* The last record that says something of the index counts. */

    for (i = node->disk.synced; i-- > 0; ) {
        record = &node->disk.records[i];

        if (record->type == SIM_BATCH && record->index <= index) {
            if (record->index == index) {
                return record->entry->term == term;
            }

            /* It ended the log before the index, unless that came later. */
            return false;
        }

        if ((record->type == SIM_INSTALL || record->type == SIM_TAKEN)
            && node->sim->snapshots[record->handle].s.index >= index)
        {
            return true;
        }
    }

    return false;
}
