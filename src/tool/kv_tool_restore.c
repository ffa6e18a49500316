
/*
 * kv-inspect restore: makes a directory of a backup, or of an archive; and the
 * check of a backup.  What is done, and in which order, is in disk/kv_backup.h
 * and disk/kv_archive.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                          /* timegm() */
#endif

#include <errno.h>
#include <time.h>

#include <sys/stat.h>

#include "base/kv_number.h"
#include "disk/kv_archive.h"
#include "tool/kv_tool.h"


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
static kv_tool_exit_t kv_tool_restore_option(char **argv, int i,
    kv_tool_restore_t *r);
static bool kv_tool_restore_time(const char *text, uint64_t *ms);
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
    int              i;
    kv_tool_exit_t   code;

    memset(r, 0, sizeof(*r));

    for (i = 1; i < argc; i++) {

        if (strncmp(argv[i], "--", 2) == 0) {

            code = kv_tool_restore_option(argv, i++, r);

            if (code != KV_TOOL_GOOD) {
                return code;
            }

        } else if (r->from == NULL) {
            r->from = argv[i];

        } else if (r->dir == NULL) {
            r->dir = argv[i];

        } else {
            return kv_tool_usage("restore: \"%s\" is too much", argv[i]);
        }
    }

    return kv_tool_restore_check(r);
}


/* Whether what was given fits together. */

static kv_tool_exit_t
kv_tool_restore_check(const kv_tool_restore_t *r)
{
    struct stat  st;

    if (r->dir == NULL) {
        return kv_tool_usage("restore: %s is missing", r->from
                             ? "the directory that is to be made"
                             : "a backup, or an archive,");
    }

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

    return KV_TOOL_GOOD;
}


/* argv[i], and its value behind it. */

static kv_tool_exit_t
kv_tool_restore_option(char **argv, int i, kv_tool_restore_t *r)
{
    int64_t      number;
    const char  *value;

    value = argv[i + 1];

    if (strcmp(argv[i], "--data") != 0 && strcmp(argv[i], "--to-lsn") != 0
        && strcmp(argv[i], "--to-time") != 0)
    {
        return kv_tool_usage("restore: unknown option \"%s\"", argv[i]);
    }

    if (value == NULL) {
        return kv_tool_usage("restore: %s needs a value", argv[i]);
    }

    if (strcmp(argv[i], "--data") == 0) {
        r->data = value;
        return KV_TOOL_GOOD;
    }

    if (r->given) {
        return kv_tool_usage("restore: one moment at a time");
    }

    r->given = true;

    if (strcmp(argv[i], "--to-time") == 0) {
        return kv_tool_restore_time(value, &r->moment.time_ms)
               ? KV_TOOL_GOOD
               : kv_tool_usage("restore: \"%s\" is no time: give it in UTC, as "
                               "2026-11-30T02:38:00.123Z", value);
    }

    if (!kv_number_parse(value, strlen(value), &number) || number < 1
        || (uint64_t) number > KV_LSN_MAX)
    {
        return kv_tool_usage("restore: \"%s\" is no LSN: they are numbers from "
                             "1 on", value);
    }

    r->moment.lsn = (uint64_t) number;

    return KV_TOOL_GOOD;
}


/* As kv_tool_time() writes it; the T may be a blank, its end may be missing. */

static bool
kv_tool_restore_time(const char *text, uint64_t *ms)
{
    int         n, part, digits, month;
    char        sep;
    time_t      t;
    struct tm   tm, day;

    memset(&tm, 0, sizeof(tm));
    memset(&day, 0, sizeof(day));
    n = 0;
    part = 0;

    if (sscanf(text, "%4d-%2d-%2d%c%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
               &tm.tm_mday, &sep, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) != 7
        || (sep != 'T' && sep != ' '))
    {
        return false;
    }

    text += n;

    if (*text == '.') {
        text++;

        for (digits = 0; digits < 3; digits++) {
            part = 10 * part;

            if (*text >= '0' && *text <= '9') {
                part += *text++ - '0';
            }
        }
    }

    if (*text == 'Z') {
        text++;
    }

    if (*text || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1
        || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0
        || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
    {
        return false;
    }

    tm.tm_year -= 1900;
    tm.tm_mon--;
    month = tm.tm_mon;

    /* a day that the month does not have would be one of the next month */

    day.tm_year = tm.tm_year;
    day.tm_mon = month;
    day.tm_mday = tm.tm_mday;

    t = timegm(&tm);

    if (t <= 0 || timegm(&day) == -1 || day.tm_mon != month) {
        return false;
    }

    *ms = (uint64_t) t * 1000 + (uint64_t) part;

    return true;
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
