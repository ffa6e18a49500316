
/*
 * kv-inspect restore: makes a directory of a backup; and the check of one.
 * What is done, and in which order, is in disk/kv_backup.h.
 */


#include <errno.h>

#include "disk/kv_backup.h"
#include "tool/kv_tool.h"


static bool kv_tool_restore_step(void *ctx, uint64_t done, uint64_t all);
static kv_tool_exit_t kv_tool_restore_failed(const char *path, kv_rc_t rc,
    const kv_err_t *err);


kv_tool_exit_t
kv_tool_restore(int argc, char **argv)
{
    kv_rc_t             rc;
    uint64_t            done;
    kv_err_t            err;
    const char         *path;
    kv_backup_watch_t   watch;
    kv_backup_header_t  header;

    if (argc < 3) {
        return kv_tool_usage("restore: a backup and a directory are missing");
    }

    /* the last one is the directory */

    path = kv_tool_operand(argc - 1, argv, "a backup and a directory");

    if (path == NULL) {
        return KV_TOOL_FAILED;
    }

    kv_tool_catch();

    done = 0;
    watch.step = kv_tool_restore_step;
    watch.ctx = &done;

    rc = kv_backup_restore(path, argv[argc - 1], &watch, &header, &err);

    kv_tool_progress_end();

    if (rc != KV_OK) {
        return kv_tool_restore_failed(path, rc, &err);
    }

    (void) printf("\"%s\" holds what was stored up to LSN %" PRIu64 " now\n",
                  argv[argc - 1], header.lsn);

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

    if (*before == 0) {
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
