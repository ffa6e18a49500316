
/*
 * Entries of a replicated log that are given up, as those of a leader that no
 * majority has: a new segment says where what stays ends; see "Replicated log"
 * in kv_format.h.
 */


#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/kv_wal_private.h"


static void kv_wal_delete_given_up(kv_wal_t *wal);


kv_rc_t
kv_wal_truncate(kv_wal_t *wal, uint64_t index, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_wal_rest_t    rest;
    kv_wal_state_t  *state;

    state = wal->state;

    assert(state->replicated && index > 0);

    kv_wal_settle(state);
    kv_wal_reset(wal);

    rc = kv_wal_end_cut(wal, err);

    if (rc == KV_ERROR || index > state->replica.index) {
        return rc == KV_ERROR ? rc : KV_OK;
    }

    assert(index > state->replica.commit);

    rc = kv_wal_sync(wal, err);

    if (rc == KV_OK
        && (atomic_load(&state->closed) != KV_WAL_NOTE_NONE || state->restored))
    {
        rc = kv_wal_open_again(wal, err);
    }

    if (rc == KV_OK) {
        rc = kv_wal_find_rest(wal, index, &rest, err);
    }

    if (rc == KV_NOT_FOUND) {
        kv_err_set(err, "the replicated log cannot be cut back to the entry "
                   "before index %" PRIu64 ": its segments do not have it",
                   index);
        return KV_DAMAGED;
    }

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_wal_cut_segment(wal, &rest, err);

    free(rest.entries);

    if (rc == KV_OK) {
        kv_wal_past_cut(&state->past, rest.to.next_lsn);
        kv_wal_delete_given_up(wal);
    }

    return rc;
}


/* Segments behind the new one, which all have lower numbers. */

static void
kv_wal_delete_given_up(kv_wal_t *wal)
{
    size_t          i, n, segments;
    kv_wal_name_t  *names;

    if (kv_wal_list(wal, &names, &n) != KV_OK) {
        return;
    }

    (void) kv_wal_set_stale(wal, names, n);
    kv_wal_delete_stale(wal, names, n);

    segments = 0;

    for (i = 0; i < n; i++) {
        segments += names[i].kind == KV_WAL_SEGMENT;
    }

    atomic_store(&wal->state->segments, segments);
    free(names);
}
