
/*
 * kv-inspect log: the records of the log, a line for each, also while it grows.
 */


#include <inttypes.h>
#include <time.h>

#include "disk/kv_wal_tail.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_dir.h"


#define KV_TOOL_LOG_NS  100000000u       /* between two looks */


typedef struct {
    kv_tool_dir_t      dir;
    const char        *path;
    bool               follow;
    bool               entries;          /* batches are printed, not records */
    uint64_t           after;            /* records up to this LSN are passed */
    kv_batch_header_t  batch;            /* that the next records are of */
} kv_tool_log_t;


static bool kv_tool_log_options(kv_tool_log_t *log, int argc, char **argv);
static kv_tool_exit_t kv_tool_log_tail(kv_tool_log_t *log,
    kv_wal_tail_t *tail);
static void kv_tool_log_batch(void *ctx, uint64_t segment_lsn,
    uint64_t offset, const kv_batch_header_t *h, const void *data);
static void kv_tool_log_entry(const kv_batch_header_t *h, const void *data);
static kv_rc_t kv_tool_log_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static void kv_tool_log_type(const kv_record_t *rec);
static void kv_tool_log_text(const char *text, size_t len);
static void kv_tool_log_warn(void *ctx, const char *text);


kv_tool_exit_t
kv_tool_log(int argc, char **argv)
{
    kv_tool_log_t     log;
    kv_tool_exit_t    code;
    kv_wal_tail_t    *tail;
    kv_wal_replay_t   from;

    memset(&log, 0, sizeof(log));
    memset(&from, 0, sizeof(from));

    if (!kv_tool_log_options(&log, argc, argv)
        || kv_tool_dir_look(&log.dir, log.path) != KV_OK)
    {
        return KV_TOOL_FAILED;
    }

    from.after = log.after;
    from.batch = kv_tool_log_batch;
    from.record = kv_tool_log_record;
    from.warn = kv_tool_log_warn;
    from.ctx = &log;

    tail = kv_wal_tail_create(&log.dir.io, log.dir.fd, &from,
                              !log.dir.in_use && !log.follow);

    if (tail) {
        code = kv_tool_log_tail(&log, tail);
        kv_wal_tail_destroy(tail);

    } else {
        kv_tool_say("out of memory");
        code = KV_TOOL_FAILED;
    }

    kv_tool_dir_close(&log.dir, false);

    return code;
}


static bool
kv_tool_log_options(kv_tool_log_t *log, int argc, char **argv)
{
    uint64_t     lsn;
    const char  *follow, *from, *entries;

    const kv_tool_arg_t  args[] = {
        { KV_TOOL_OPERAND, "a directory", &log->path },
        { KV_TOOL_FLAG, "--follow", &follow },
        { KV_TOOL_FLAG, "-f", &follow },
        { KV_TOOL_FLAG, "--entries", &entries },
        { KV_TOOL_VALUE, "--from", &from },
        { KV_TOOL_OPERAND, NULL, NULL }
    };

    follow = NULL;
    from = NULL;
    entries = NULL;

    if (!kv_tool_args(argc, argv, args)) {
        return false;
    }

    log->follow = follow != NULL;
    log->entries = entries != NULL;

    if (from == NULL) {
        return true;
    }

    if (!kv_tool_lsn_parse(from, &lsn)) {
        (void) kv_tool_usage("log: --from takes an LSN, 1 to %" PRIu64
                             ", or a version, not \"%s\"", KV_LSN_MAX, from);
        return false;
    }

    log->after = lsn - 1;

    return true;
}


static kv_tool_exit_t
kv_tool_log_tail(kv_tool_log_t *log, kv_wal_tail_t *tail)
{
    kv_rc_t          rc;
    kv_err_t         err;
    uint64_t         next;
    struct timespec  pause;

    pause.tv_sec = 0;
    pause.tv_nsec = KV_TOOL_LOG_NS;

    for ( ;; ) {
        rc = kv_wal_tail_read(tail, &next, &err);

        if (rc == KV_NOT_FOUND) {

            /* without --from, what was deleted long ago is nobody's loss */

            if (log->after) {
                kv_tool_say("%s: the records from LSN %" PRIu64 " to %" PRIu64
                            " are not there any more", log->path,
                            log->after + 1, next - 1);
            }

            log->after = next - 1;
            continue;
        }

        if (rc != KV_OK) {
            kv_tool_say("%s: %s", log->path, err.text);
            return rc == KV_DAMAGED ? KV_TOOL_DAMAGE : KV_TOOL_FAILED;
        }

        if (!log->follow || kv_tool_flush(KV_TOOL_GOOD) != KV_TOOL_GOOD) {
            return log->follow ? KV_TOOL_FAILED : KV_TOOL_GOOD;
        }

        (void) nanosleep(&pause, NULL);
    }
}


static void
kv_tool_log_batch(void *ctx, uint64_t segment_lsn, uint64_t offset,
    const kv_batch_header_t *h, const void *data)
{
    kv_tool_log_t *log = ctx;

    (void) segment_lsn;
    (void) offset;

    log->batch = *h;

    if (log->entries) {
        kv_tool_log_entry(h, data);
    }
}


/* A line about what the batch is in a replicated log. */

static void
kv_tool_log_entry(const kv_batch_header_t *h, const void *data)
{
    char              time[KV_TOOL_TIME];
    kv_entry_state_t  s;

    static const char  *types[] = { "plain", "records", "barrier", "change",
                                    "state" };

    (void) printf("%" PRIu64 "+%u %s %s %" PRIu64 " ", h->first_lsn, h->count,
                  kv_tool_time(h->time_ms, time), types[h->type],
                  h->type == KV_ENTRY_NONE ? 0 : h->term);

    if (h->type == KV_ENTRY_STATE && h->len >= sizeof(s)) {
        memcpy(&s, data, sizeof(s));
        (void) printf("%" PRIu64 " %" PRIu64 " %016" PRIx64 "\n", s.index,
                      h->commit_index, s.voted_for);
        return;
    }

    (void) printf("%" PRIu64 " %" PRIu64 " -\n", h->index, h->commit_index);
}


static kv_rc_t
kv_tool_log_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    char            time[KV_TOOL_TIME];
    kv_tool_log_t  *log = ctx;

    static const char  *ops[] = { "?", "put", "delete", "clear", "touch" };

    log->after = lsn;

    if (log->entries) {
        return KV_OK;
    }

    (void) printf("%" PRIu64 " %s %" PRIu64 "+%u %s ", lsn,
                  kv_tool_time(log->batch.time_ms, time),
                  log->batch.first_lsn, log->batch.count, ops[rec->op]);

    kv_tool_log_text(rec->key, rec->key_len);

    if (rec->op == KV_OP_PUT) {
        (void) printf(" %u", rec->value_len);

    } else {
        (void) fputs(" -", stdout);
    }

    (void) printf(" %s ", kv_tool_time(rec->expires, time));
    kv_tool_log_type(rec);
    (void) putchar('\n');

    return KV_OK;
}


/* A type has no comma: behind one are the codings. */

static void
kv_tool_log_type(const kv_record_t *rec)
{
    kv_meta_t  meta;

    if (!kv_meta_read(rec->meta, rec->meta_len, &meta)) {
        kv_tool_log_text(NULL, 0);
        return;
    }

    kv_tool_log_text(meta.type, meta.type_len);

    if (meta.encoding_len) {
        (void) putchar(',');
        kv_tool_log_text(meta.encoding, meta.encoding_len);
    }
}


/*
 * As in a URL: what would end the field, or may be for the terminal, is
 * encoded, and the "%" with it.
 */

static void
kv_tool_log_text(const char *text, size_t len)
{
    size_t         i;
    unsigned char  c;

    if (len == 0) {
        (void) putchar('-');
    }

    for (i = 0; i < len; i++) {
        c = (unsigned char) text[i];

        if (c > 0x20 && c < 0x7f && c != '%') {
            (void) putchar(c);

        } else {
            (void) printf("%%%02X", c);
        }
    }
}


static void
kv_tool_log_warn(void *ctx, const char *text)
{
    kv_tool_log_t *log = ctx;

    kv_tool_say("%s: %s", log->path, text);
}
