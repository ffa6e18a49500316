
/*
 * What a start reads of a directory; see kv_start.h.
 */


#include <errno.h>

#include "disk/kv_start.h"


static kv_rc_t kv_start_use(kv_io_t *io, int dirfd, kv_start_t *start,
    uint64_t lsn, const kv_snapshot_guess_t *guess, uint64_t end,
    kv_err_t *err);
static void kv_start_next(kv_start_t *start, const kv_snapshot_list_t *list,
    unsigned i, const kv_err_t *err);
static void kv_start_warn(kv_start_t *start, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));


kv_rc_t
kv_start_snapshot(kv_io_t *io, int dirfd, kv_start_t *start,
    kv_start_read_pt read, void *ctx, kv_err_t *err)
{
    kv_rc_t              rc;
    unsigned             i;
    kv_err_t             why;
    uint64_t             end;
    kv_snapshot_list_t   list;
    kv_snapshot_guess_t  guess;

    rc = kv_snapshot_list(io, dirfd, &list, err);

    for (i = 0; rc == KV_OK && i < list.n; i++) {

        kv_snapshot_guess(io, dirfd, list.lsn[i], &guess);

        rc = read(ctx, list.lsn[i], &guess, &end, &start->bytes, &why);

        if (rc == KV_OK) {
            return kv_start_use(io, dirfd, start, list.lsn[i], &guess, end,
                                err);
        }

        if (rc == KV_ERROR && kv_snapshot_lost(errno)) {

            /* for the message, if there is nothing else to begin with */

            if (start->unread.text[0] == '\0') {
                start->unread = why;
            }

            rc = KV_DAMAGED;
        }

        if (rc != KV_DAMAGED) {

            /* of another result the callback has told the reason itself */

            if (rc == KV_ERROR || rc == KV_DECLINED) {
                *err = why;
            }

            return rc == KV_DECLINED ? KV_DAMAGED : rc;
        }

        kv_start_next(start, &list, i, &why);
        rc = KV_OK;
    }

    start->bytes = 0;

    return rc;
}


/* The snapshot is good, and has the E `end`. */

static kv_rc_t
kv_start_use(kv_io_t *io, int dirfd, kv_start_t *start, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t end, kv_err_t *err)
{
    kv_rc_t  rc;

    start->snapshot = lsn;
    start->records = guess->records;
    start->time_ms = guess->time_ms;
    start->from.id = guess->id;
    start->from.id_lsn = lsn;
    start->from.index = guess->index;
    start->from.after = lsn;
    start->from.must_reach = end;

    if (start->bytes < guess->bytes) {
        kv_start_warn(start, "\"" KV_SNAPSHOT_NAME ".kvs\" ends at offset %"
                      PRIu64 ", but the file goes on for %" PRIu64 " bytes: "
                      "they are ignored", lsn, start->bytes,
                      guess->bytes - start->bytes);
    }

    rc = end > lsn || guess->index ? kv_snapshot_alone(io, dirfd, lsn, err)
                                   : KV_NOT_FOUND;

    if (rc == KV_OK) {
        kv_start_warn(start, "\"" KV_SNAPSHOT_NAME ".alone\" is there: the "
                      "snapshot is taken for the state at LSN %" PRIu64, lsn,
                      end);
        start->from.after = end;
        start->from.alone = true;
    }

    return rc == KV_NOT_FOUND ? KV_OK : rc;
}


/* Notes that list->lsn[i] cannot be used, and says what is tried next. */

static void
kv_start_next(kv_start_t *start, const kv_snapshot_list_t *list, unsigned i,
    const kv_err_t *err)
{
    start->bad.lsn[start->bad.n++] = list->lsn[i];
    start->from.newer = list->lsn[0];

    if (i + 1 < list->n) {
        kv_start_warn(start, "%s; trying the older snapshot, of LSN %" PRIu64
                      ", and its log", err->text, list->lsn[i + 1]);

    } else {
        kv_start_warn(start, "%s; trying the log alone", err->text);
    }
}


static void
kv_start_warn(kv_start_t *start, const char *fmt, ...)
{
    va_list   args;
    kv_err_t  text;

    if (start->from.warn == NULL) {
        return;
    }

    va_start(args, fmt);
    (void) vsnprintf(text.text, sizeof(text.text), fmt, args);
    va_end(args);

    start->from.warn(start->from.ctx, text.text);
}


kv_rc_t
kv_start_end(const kv_start_t *start, kv_rc_t rc, kv_err_t *err)
{
    kv_err_t  log;

    if (rc != KV_DAMAGED || start->unread.text[0] == '\0') {
        return rc;
    }

    log = *err;
    kv_err_set(err, "%.240s; and without it: %.500s", start->unread.text,
               log.text);
    errno = EIO;

    return KV_ERROR;
}
