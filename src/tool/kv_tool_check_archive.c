
/*
 * kv-inspect check of an archive, which may be in use: what is there does not
 * change any more, but for old files that are deleted.
 *
 * Each snapshot is read, and each segment by itself.  Where a segment ends must
 * the next one begin: what lies in between is missing, and so is each moment
 * from there to the next snapshot.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include <sys/stat.h>

#include "disk/kv_archive.h"
#include "disk/kv_snapshot.h"
#include "disk/kv_wal.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_dir.h"


typedef struct {
    kv_tool_dir_t     dir;
    kv_tool_files_t   files;
    uint64_t          records;           /* of the file that is being read */
    uint64_t          first;             /* LSNs of the segments so far */
    uint64_t          last;
    uint64_t         *snapshot;          /* S and E of each good one */
    size_t            n;
    bool              log;               /* there was a segment */
    kv_tool_exit_t    code;
} kv_tool_archive_t;


static void kv_tool_archive_read(kv_tool_archive_t *archive);
static void kv_tool_archive_snapshot(kv_tool_archive_t *archive,
    const kv_tool_file_t *file);
static void kv_tool_archive_segment(kv_tool_archive_t *archive,
    const kv_tool_file_t *file);
static kv_rc_t kv_tool_archive_log(kv_tool_archive_t *archive,
    const kv_tool_file_t *file, uint64_t *next);
static void kv_tool_archive_gap(kv_tool_archive_t *archive, uint64_t from,
    uint64_t to);
static bool kv_tool_archive_after(const kv_tool_archive_t *archive,
    uint64_t lsn, uint64_t *end);
static void kv_tool_archive_sum(kv_tool_archive_t *archive);
static void kv_tool_archive_failed(kv_tool_archive_t *archive,
    const kv_tool_file_t *file, kv_rc_t rc, const kv_err_t *err);
static kv_rc_t kv_tool_archive_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static void kv_tool_archive_warn(void *ctx, const char *text);


bool
kv_tool_is_archive(const char *path)
{
    char         name[PATH_MAX];
    struct stat  st;

    (void) snprintf(name, sizeof(name), "%s/" KV_ARCHIVE_NAME, path);

    return lstat(name, &st) == 0 && S_ISREG(st.st_mode);
}


kv_tool_exit_t
kv_tool_check_archive(const char *path)
{
    kv_tool_archive_t  archive;

    memset(&archive, 0, sizeof(archive));

    if (kv_tool_dir_look(&archive.dir, path) != KV_OK) {
        return KV_TOOL_FAILED;
    }

    archive.code = KV_TOOL_FAILED;

    if (kv_tool_files(&archive.dir, &archive.files) == KV_OK) {

        archive.snapshot = calloc(archive.files.n + 1, 2 * sizeof(uint64_t));

        if (archive.snapshot) {
            archive.code = KV_TOOL_GOOD;
            kv_tool_archive_read(&archive);

        } else {
            kv_tool_say("out of memory");
        }

        free(archive.snapshot);
        free(archive.files.file);
    }

    kv_tool_dir_close(&archive.dir, false);

    return archive.code;
}


static void
kv_tool_archive_read(kv_tool_archive_t *archive)
{
    size_t                 i;
    uint64_t               bytes, from, to;
    const kv_tool_file_t  *file;

    file = archive->files.file;

    for (i = 0, bytes = 0; i < archive->files.n; i++) {
        bytes += file[i].bytes;
    }

    kv_tool_progress_begin("reading", bytes, true);

    for (i = 0; i < archive->files.n; i++) {
        if (file[i].kind == KV_TOOL_SNAPSHOT) {
            kv_tool_archive_snapshot(archive, &file[i]);
        }
    }

    for (i = 0; i < archive->files.n; i++) {
        if (file[i].kind == KV_TOOL_SEGMENT) {
            kv_tool_archive_segment(archive, &file[i]);
        }
    }

    /* the others are told already */

    for (i = 0; i < archive->files.n; i++) {
        if (kv_archive_is_gap(file[i].name, &from, &to)
            && from > archive->last)
        {
            kv_tool_archive_gap(archive, from, to);
        }
    }

    kv_tool_progress_end();
    kv_tool_archive_sum(archive);
}


static void
kv_tool_archive_snapshot(kv_tool_archive_t *archive,
    const kv_tool_file_t *file)
{
    kv_rc_t   rc;
    kv_err_t  err;
    uint64_t  end, bytes;

    archive->records = 0;

    rc = kv_snapshot_read(&archive->dir.io, archive->dir.fd, file->lsn,
                          kv_tool_archive_record, archive, &end, &bytes, &err);

    if (rc != KV_OK) {
        kv_tool_archive_failed(archive, file, rc, &err);
        return;
    }

    archive->snapshot[2 * archive->n] = file->lsn;
    archive->snapshot[2 * archive->n + 1] = end;
    archive->n++;

    (void) printf("%s: good: %" PRIu64 " records, LSN %" PRIu64 " to %" PRIu64
                  "\n", file->name, archive->records, file->lsn, end);
}


static void
kv_tool_archive_segment(kv_tool_archive_t *archive, const kv_tool_file_t *file)
{
    kv_rc_t   rc;
    uint64_t  next;

    archive->records = 0;

    rc = kv_tool_archive_log(archive, file, &next);

    if (rc == KV_NOT_FOUND) {

        /* as too old, and so was all before it */

        archive->log = false;
        return;
    }

    if (!archive->log) {
        archive->first = file->lsn;
    }

    if (archive->log && archive->last + 1 < file->lsn) {
        kv_tool_archive_gap(archive, archive->last + 1, file->lsn - 1);
    }

    archive->log = true;
    archive->last = kv_max(archive->last, next - 1);

    if (rc == KV_OK) {
        (void) printf("%s: good: %" PRIu64 " records, LSN %" PRIu64 " to %"
                      PRIu64 "\n", file->name, archive->records, file->lsn,
                      next - 1);
    }
}


/*
 * Reads one by itself; *next is the LSN behind it.  KV_OK; KV_NOT_FOUND: it was
 * deleted; or another result, told.
 */

static kv_rc_t
kv_tool_archive_log(kv_tool_archive_t *archive, const kv_tool_file_t *file,
    uint64_t *next)
{
    int              fd;
    kv_rc_t          rc;
    kv_err_t         err;
    kv_io_t         *io;
    kv_tool_dir_t    alone;
    kv_wal_end_t     end;
    kv_wal_replay_t  from;

    io = &archive->dir.system;
    *next = file->lsn;

    fd = io->open(io, archive->dir.fd, file->name, O_RDONLY);

    if (fd == -1 && errno == ENOENT) {
        return KV_NOT_FOUND;
    }

    if (fd == -1) {
        kv_err_set(&err, "%s: it cannot be opened: %s", file->name,
                   strerror(errno));
        kv_tool_archive_failed(archive, file, KV_ERROR, &err);
        return KV_ERROR;
    }

    kv_tool_file_use(&alone, archive->dir.path, fd, file->name);

    memset(&from, 0, sizeof(from));
    from.after = file->lsn - 1;
    from.brief = true;
    from.record = kv_tool_archive_record;
    from.warn = kv_tool_archive_warn;
    from.ctx = archive;

    rc = kv_wal_read(&alone.io, alone.fd, &from, &end, NULL, &err);

    kv_tool_dir_close(&alone, false);

    if (rc == KV_OK) {
        *next = end.next_lsn;

    } else {
        kv_tool_archive_failed(archive, file, rc, &err);
    }

    return rc;
}


/* Log that is not there. */

static void
kv_tool_archive_gap(kv_tool_archive_t *archive, uint64_t from, uint64_t to)
{
    uint64_t  end;

    if (kv_tool_archive_after(archive, to, &end)) {
        kv_tool_say("%s: the log from LSN %" PRIu64 " to %" PRIu64 " is not "
                    "there: no moment from there to LSN %" PRIu64 " can be "
                    "restored", archive->dir.path, from, to, end - 1);

    } else {
        kv_tool_say("%s: the log from LSN %" PRIu64 " to %" PRIu64 " is not "
                    "there: no moment from there on can be restored",
                    archive->dir.path, from, to);
    }

    archive->code = kv_max(archive->code, KV_TOOL_DAMAGE);
}


/* The first good snapshot from that LSN on: *end is its E. */

static bool
kv_tool_archive_after(const kv_tool_archive_t *archive, uint64_t lsn,
    uint64_t *end)
{
    size_t  i;

    for (i = 0; i < archive->n; i++) {
        if (archive->snapshot[2 * i] >= lsn) {
            *end = archive->snapshot[2 * i + 1];
            return true;
        }
    }

    return false;
}


/* Which moments there are. */

static void
kv_tool_archive_sum(kv_tool_archive_t *archive)
{
    uint64_t  first;

    first = archive->first;

    if (first > 1 && !kv_tool_archive_after(archive, first - 1, &first)) {
        first = 0;
    }

    if (first == 0 || first > archive->last) {
        (void) printf("%s: no moment can be restored yet without the store's "
                      "own directory (--data)\n", archive->dir.path);
        return;
    }

    (void) printf("%s: %s: moments from LSN %" PRIu64 " to %" PRIu64 " can be "
                  "restored%s; newer ones are in the store's own directory "
                  "(--data)\n", archive->dir.path,
                  archive->code == KV_TOOL_GOOD ? "good" : "damaged", first,
                  archive->last, archive->code == KV_TOOL_GOOD
                  ? "" : ", but for what is damaged or missing");
}


/* A file that is not good, or was deleted meanwhile, as too old. */

static void
kv_tool_archive_failed(kv_tool_archive_t *archive, const kv_tool_file_t *file,
    kv_rc_t rc, const kv_err_t *err)
{
    struct stat  st;

    if (fstatat(archive->dir.fd, file->name, &st, AT_SYMLINK_NOFOLLOW) == -1
        && errno == ENOENT)
    {
        return;
    }

    kv_tool_say("%s: %s", archive->dir.path, err->text);

    archive->code = kv_max(archive->code, rc == KV_DAMAGED || rc == KV_DECLINED
                                          ? KV_TOOL_DAMAGE : KV_TOOL_FAILED);
}


static kv_rc_t
kv_tool_archive_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_tool_archive_t *archive = ctx;

    (void) lsn;
    (void) rec;

    archive->records++;

    return KV_OK;
}


static void
kv_tool_archive_warn(void *ctx, const char *text)
{
    kv_tool_archive_t *archive = ctx;

    kv_tool_say("%s: %s", archive->dir.path, text);
}
