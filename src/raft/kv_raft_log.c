
/*
 * The tail of the log in memory; see kv_raft_log.h.
 */


#include "raft/kv_raft_log.h"


static void kv_raft_log_grow(kv_raft_log_t *log);
static void kv_raft_log_drop(kv_raft_log_t *log, uint64_t index);


void
kv_raft_log_init(kv_raft_log_t *log, uint64_t before)
{
    memset(log, 0, sizeof(*log));
    log->before = before;
}


void
kv_raft_log_free(kv_raft_log_t *log)
{
    kv_raft_log_trim(log, kv_raft_log_last(log));
    free(log->ring);
    log->ring = NULL;
}


uint64_t
kv_raft_log_last(const kv_raft_log_t *log)
{
    return log->before + log->n;
}


kv_raft_entry_t *
kv_raft_log_get(const kv_raft_log_t *log, uint64_t index)
{
    if (index <= log->before || index > kv_raft_log_last(log)) {
        return NULL;
    }

    return log->ring[index & (log->size - 1)];
}


void
kv_raft_log_append(kv_raft_log_t *log, kv_raft_entry_t *e)
{
    if (log->n == log->size) {
        kv_raft_log_grow(log);
    }

    log->n++;
    log->bytes += e->len;
    log->ring[kv_raft_log_last(log) & (log->size - 1)] = kv_raft_entry_hold(e);
}


static void
kv_raft_log_grow(kv_raft_log_t *log)
{
    uint64_t           i, size;
    kv_raft_entry_t  **ring;

    size = log->size ? log->size * 2 : 64;
    ring = kv_raft_alloc(size * sizeof(*ring));

    for (i = log->before + 1; i <= kv_raft_log_last(log); i++) {
        ring[i & (size - 1)] = log->ring[i & (log->size - 1)];
    }

    free(log->ring);
    log->ring = ring;
    log->size = size;
}


void
kv_raft_log_cut(kv_raft_log_t *log, uint64_t index)
{
    assert(index > log->before);

    while (kv_raft_log_last(log) >= index) {
        kv_raft_log_drop(log, kv_raft_log_last(log));
    }
}


void
kv_raft_log_trim(kv_raft_log_t *log, uint64_t index)
{
    while (log->n && log->before < index) {
        kv_raft_log_drop(log, log->before + 1);
        log->before++;
    }
}


/* The first one, or the last one. */

static void
kv_raft_log_drop(kv_raft_log_t *log, uint64_t index)
{
    kv_raft_entry_t  *e;

    e = kv_raft_log_get(log, index);

    log->bytes -= e->len;
    log->n--;

    kv_raft_entry_drop(e);
}
