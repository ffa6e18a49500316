
/*
 * Messages of a reader of the log: warnings, and refusals with the way out.
 */


#include <errno.h>
#include <inttypes.h>

#include "disk/kv_wal_reader.h"


static void kv_wal_way(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn);
static void kv_wal_way_logs(const kv_wal_reader_t *r, char *logs,
    size_t size);
static void kv_wal_given_up(kv_wal_reader_t *r, uint64_t lsn, char *buf,
    size_t size);


void
kv_wal_warn(kv_wal_reader_t *r, const char *fmt, ...)
{
    va_list   args;
    kv_err_t  text;

    if (r->from->warn == NULL) {
        return;
    }

    va_start(args, fmt);
    (void) vsnprintf(text.text, sizeof(text.text), fmt, args);
    va_end(args);

    r->from->warn(r->from->ctx, text.text);
}


kv_rc_t
kv_wal_damaged(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn,
    const char *fmt, ...)
{
    char     what[256], way[KV_WAL_WAY];
    va_list  args;

    va_start(args, fmt);
    (void) vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);

    kv_wal_way_out(r, offset, lsn, way, sizeof(way));

    kv_err_set(r->err, "%s: offset %" PRIu64 ": %s%s", r->name, offset, what,
               way);

    return KV_DAMAGED;
}


kv_rc_t
kv_wal_cut_short(kv_wal_reader_t *r)
{
    return kv_wal_damaged(r, r->size, r->expected, "the file ends here, but "
                          "its header says %" PRIu64 ", and LSN %" PRIu64 " "
                          "may have been in what is gone",
                          r->segment_size, r->expected);
}


kv_rc_t
kv_wal_unreadable(kv_wal_reader_t *r, uint64_t offset)
{
    int   saved;
    char  way[KV_WAL_WAY];

    saved = errno;

    kv_wal_way_out(r, offset, kv_max(r->expected, r->lsn), way, sizeof(way));

    kv_err_set(r->err, "%s: offset %" PRIu64 ": reading the segment failed: "
               "%s; see to its permissions and the disk%s%s", r->name, offset,
               strerror(saved), saved == EIO ? ", and if that does not help"
                                             : "",
               saved == EIO ? way : "");

    errno = saved;

    return KV_ERROR;
}


kv_rc_t
kv_wal_failed(kv_wal_reader_t *r, const char *what)
{
    int  saved;

    saved = errno;

    kv_err_set(r->err, "%s: offset %" PRIu64 ": %s the segment failed: %s; "
               "see to its permissions and the disk", r->name, r->offset,
               what, strerror(saved));

    errno = saved;

    return KV_ERROR;
}


void
kv_wal_way_out(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn, char *text,
    size_t size)
{
    char                    lost[160], newer[80], logs[120], run[200];
    char                    closed[KV_NAME_MAX];
    size_t                  n;
    uint64_t                after;
    kv_wal_way_t           *way;

    way = &r->way;
    after = r->from->after;

    kv_wal_way(r, offset, lsn);

    if (r->from->brief) {
        text[0] = '\0';
        return;
    }

    newer[0] = '\0';
    run[0] = '\0';

    kv_wal_way_logs(r, logs, sizeof(logs));

    if (way->cut_size) {
        (void) snprintf(run, sizeof(run), "\"truncate -s %" PRIu64 " %s "
                        "&& truncate -s %" PRIu64 " %s\"", way->cut_offset,
                        r->name, way->cut_size, r->name);
    }

    if (way->alone) {
        (void) snprintf(run, sizeof(run), "\"touch " KV_SNAPSHOT_NAME
                        ".alone\"", after);
    }

    if (way->alone && r->from->must_reach > after) {
        (void) snprintf(lost, sizeof(lost), "what " KV_SNAPSHOT_NAME ".kvs has "
                        "not seen of the writes after LSN %" PRIu64 " (it has "
                        "seen some of those up to %" PRIu64 ")", after, after,
                        r->from->must_reach);

    } else {
        kv_wal_given_up(r, way->lsn, lost, sizeof(lost));
    }

    if (way->closed && way->logs_from) {
        (void) kv_wal_name(closed, KV_WAL_CLOSED, way->closed);
        n = strlen(logs);
        (void) snprintf(logs + n, sizeof(logs) - n, "%s%s", n ? " and " : "",
                        closed);
    }

    if (way->newer) {
        (void) snprintf(newer, sizeof(newer), after ? "every snap-*.kvs newer "
                        "than " KV_SNAPSHOT_NAME ".kvs" : "every snap-*.kvs",
                        after);
    }

    (void) snprintf(text, size, "; restore the data directory from a copy, or, "
                    "with a copy of it made and giving up %s, %s%s%s%s%s%s%s%s",
                    lost, logs[0] || newer[0] ? "move " : "", logs,
                    logs[0] && newer[0] ? " and " : "", newer,
                    logs[0] || newer[0] ? " away" : "",
                    (logs[0] || newer[0]) && run[0] ? " and " : "",
                    run[0] ? "run " : "", run);
}


/* Decides which way out there is. */

static void
kv_wal_way(kv_wal_reader_t *r, uint64_t offset, uint64_t lsn)
{
    uint64_t                end;
    kv_wal_way_t           *way;
    const kv_wal_replay_t  *from;

    way = &r->way;
    from = r->from;
    end = kv_max(from->after, from->must_reach);

    memset(way, 0, sizeof(*way));

    way->found = true;
    way->closed = r->closed.lsn >= lsn ? r->closed.lsn : 0;
    way->newer = from->newer >= lsn;

    if (r->lsn && lsn > end) {
        way->lsn = lsn;

        if (offset < KV_SEGMENT_HEADER
            || (r->kind != KV_SEGMENT_PLAIN && r->offset == KV_SEGMENT_HEADER))
        {
            way->logs_from = r->lsn;

            /* what such a snapshot needs besides was in the log alone */

            way->alone = from->index && r->lsn == r->names[0].number;

        } else {
            way->logs_from = r->lsn + 1;
            way->cut_lsn = r->lsn;
            way->cut_offset = r->offset;
            way->cut_size = r->segment_size;
        }

    } else {
        way->lsn = from->after + 1;
        way->alone = end > from->after || from->index;
    }
}


/* In words, which files of the log are to be moved away, if any. */

static void
kv_wal_way_logs(const kv_wal_reader_t *r, char *logs, size_t size)
{
    bool  last;

    last = r->lsn == r->last;

    (void) snprintf(logs, size, "%s", r->way.logs_from == 0 ? "every log-*"
                    : r->way.cut_size ? (last ? "" : "all segments after it")
                    : last ? "this file"
                    : "this file and all segments after it");
}


/* Writes in words what is given up: the writes from `lsn` on, and how many. */

static void
kv_wal_given_up(kv_wal_reader_t *r, uint64_t lsn, char *buf, size_t size)
{
    uint64_t  known;

    known = kv_max(kv_max(r->durable, r->closed.lsn),
                   kv_max(r->from->must_reach, r->from->newer));

    if (r->last) {
        known = kv_max(known, r->last - 1);
    }

    if (known >= lsn) {
        (void) snprintf(buf, size, "every write from LSN %" PRIu64 " on, at "
                        "least %" PRIu64 " of them", lsn, known - lsn + 1);

    } else {
        (void) snprintf(buf, size, "every write from LSN %" PRIu64 " on", lsn);
    }
}
