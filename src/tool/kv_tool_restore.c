
/*
 * kv-inspect restore: makes a directory of a backup, or of an archive; and the
 * check of a backup.  What is done, and in which order, is in disk/kv_backup.h
 * and disk/kv_archive.h.
 */


#include <errno.h>

#include <sys/stat.h>

#include "disk/kv_archive.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"


/* What the command line says. */

typedef struct {
    const char           *from;          /* a backup, or an archive */
    const char           *dir;
    const char           *data;          /* NULL: not given */
    kv_archive_moment_t   moment;
    bool                  given;         /* there is a moment */
} kv_tool_restore_t;


static kv_tool_exit_t kv_tool_restore_args(int argc, char **argv,
    kv_tool_restore_t *r);
static kv_tool_exit_t kv_tool_restore_check(const kv_tool_restore_t *r);
static bool kv_tool_restore_step(void *ctx, uint64_t done, uint64_t all);
static kv_tool_exit_t kv_tool_restore_failed(const char *path, kv_rc_t rc,
    const kv_err_t *err);


kv_tool_exit_t
kv_tool_restore(int argc, char **argv)
{
    char                 when[KV_TOOL_TIME];
    kv_rc_t              rc;
    uint64_t             done;
    kv_err_t             err;
    kv_tool_exit_t       code;
    kv_tool_restore_t    r;
    kv_backup_watch_t    watch;
    kv_backup_header_t   header;

    code = kv_tool_restore_args(argc, argv, &r);

    if (code != KV_TOOL_GOOD) {
        return code;
    }

    kv_tool_catch();

    done = 0;
    watch.step = kv_tool_restore_step;
    watch.ctx = &done;

    rc = r.given ? kv_archive_restore(r.from, r.data, r.dir, &r.moment, &watch,
                                      &header, &err)
                 : kv_backup_restore(r.from, r.dir, &watch, &header, &err);

    kv_tool_progress_end();

    if (rc != KV_OK) {
        return kv_tool_restore_failed(r.from, rc, &err);
    }

    (void) printf("\"%s\" holds what was stored up to LSN %" PRIu64 " now",
                  r.dir, header.lsn);

    if (r.given) {
        (void) printf(", logged %s", kv_tool_time(header.time_ms, when));
    }

    (void) printf("\n");

    return KV_TOOL_GOOD;
}


static kv_tool_exit_t
kv_tool_restore_args(int argc, char **argv, kv_tool_restore_t *r)
{
    const char  *lsn, *time;

    const kv_tool_arg_t  args[] = {
        { KV_TOOL_OPERAND, "a backup, or an archive,", &r->from },
        { KV_TOOL_OPERAND, "the directory that is to be made", &r->dir },
        { KV_TOOL_VALUE, "--to-lsn", &lsn },
        { KV_TOOL_VALUE, "--to-time", &time },
        { KV_TOOL_VALUE, "--data", &r->data },
        { KV_TOOL_OPERAND, NULL, NULL }
    };

    memset(r, 0, sizeof(*r));
    lsn = NULL;
    time = NULL;

    if (!kv_tool_args(argc, argv, args)) {
        return KV_TOOL_FAILED;
    }

    if (lsn && time) {
        return kv_tool_usage("restore: one moment at a time: --to-lsn or "
                             "--to-time");
    }

    r->given = lsn || time;

    if (time && !kv_tool_time_parse(time, &r->moment.time_ms)) {
        return kv_tool_usage("restore: \"%s\" is no time: give it in UTC, as "
                             "2026-11-30T02:38:00.123Z, or with its zone, as "
                             "2026-11-30T03:38:00+01:00", time);
    }

    if (lsn && !kv_tool_lsn_parse(lsn, &r->moment.lsn)) {
        return kv_tool_usage("restore: \"%s\" is no LSN: give a number from 1 "
                             "on, or a version, as in an ETag", lsn);
    }

    return kv_tool_restore_check(r);
}


/* Whether what was given fits together. */

static kv_tool_exit_t
kv_tool_restore_check(const kv_tool_restore_t *r)
{
    kv_err_t     err;
    struct stat  st;

    if (r->data && !r->given) {
        return kv_tool_usage("restore: --data is for an archive, with --to-lsn "
                             "or --to-time");
    }

    if (stat(r->from, &st) == -1) {
        kv_tool_say("cannot open \"%s\": %s", r->from, strerror(errno));
        return KV_TOOL_FAILED;
    }

    if (S_ISDIR(st.st_mode) && !r->given) {
        return kv_tool_usage("restore: \"%s\" is a directory: of an archive, "
                             "say which moment, with --to-lsn or --to-time",
                             r->from);
    }

    if (!S_ISDIR(st.st_mode) && r->given) {
        return kv_tool_usage("restore: \"%s\" is no archive: a backup holds "
                             "one moment", r->from);
    }

    if (kv_restore_check_dir(r->dir, &err) != KV_OK) {
        kv_tool_say("restore: %s", err.text);
        return KV_TOOL_FAILED;
    }

    return KV_TOOL_GOOD;
}


kv_tool_exit_t
kv_tool_check_backup(const char *path)
{
    char                time[KV_TOOL_TIME];
    kv_rc_t             rc;
    uint64_t            done;
    kv_err_t            err;
    kv_backup_watch_t   watch;
    kv_backup_header_t  header;

    kv_tool_catch();

    done = 0;
    watch.step = kv_tool_restore_step;
    watch.ctx = &done;

    rc = kv_backup_check(path, &watch, &header, &err);

    kv_tool_progress_end();

    if (rc != KV_OK) {
        return kv_tool_restore_failed(path, rc, &err);
    }

    (void) printf("%s: good: a backup of what was stored up to LSN %" PRIu64
                  ", begun %s, store %016" PRIx64 "%016" PRIx64 "\n", path,
                  header.lsn, kv_tool_time(header.time_ms, time),
                  header.id.store[0], header.id.store[1]);

    return KV_TOOL_GOOD;
}


static bool
kv_tool_restore_step(void *ctx, uint64_t done, uint64_t all)
{
    uint64_t *before = ctx;

    if (*before == 0 && done) {
        kv_tool_progress_begin("reading", all, true);
    }

    kv_tool_progress_add(done - *before);
    *before = done;

    return !kv_tool_stopped();
}


static kv_tool_exit_t
kv_tool_restore_failed(const char *path, kv_rc_t rc, const kv_err_t *err)
{
    if (rc == KV_CANCELLED) {
        kv_tool_end_stopped();
    }

    kv_tool_say("%s: %s", path, err->text);

    return rc == KV_DAMAGED ? KV_TOOL_DAMAGE : KV_TOOL_FAILED;
}
