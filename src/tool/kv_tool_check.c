
/*
 * kv-inspect check: reads all of a directory, or of one file, and says what is
 * damaged, and what a start would lose.
 *
 * Each snapshot is read to its end.  The log is read from its first segment on,
 * though a start needs only what is after the snapshot.  If that finds damage,
 * it is read again as a start would: so it is known whether anything is lost.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdlib.h>

#include <sys/stat.h>

#include "disk/kv_backup_format.h"
#include "disk/kv_start.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_dir.h"


/* What was found in a file. */

typedef struct {
    kv_rc_t   rc;
    int       error;                     /* errno of KV_ERROR */
    bool      read;                      /* of a segment: it has batches */
    uint64_t  records;
    uint64_t  batches;
    uint64_t  last;                      /* of a segment: its last LSN, */
    uint64_t  index;                     /* and entry of a replicated log */
    uint64_t  term;
    uint64_t  end;                       /* of a snapshot: its E, */
    uint64_t  bytes;                     /* and what it takes of the file */
    kv_err_t  err;
} kv_tool_found_t;


typedef struct {
    kv_tool_dir_t     dir;
    kv_tool_files_t   files;
    kv_tool_found_t  *found;             /* of each file */
    kv_tool_found_t  *now;               /* of the one that is being read */
    kv_tool_exit_t    code;
} kv_tool_check_t;


static kv_tool_exit_t kv_tool_check_dir(const char *path);
static uint64_t kv_tool_check_bytes(const kv_tool_check_t *check);
static void kv_tool_check_snapshots(kv_tool_check_t *check);
static void kv_tool_check_snapshot(kv_tool_check_t *check, size_t i);
static void kv_tool_check_log(kv_tool_check_t *check);
static void kv_tool_check_segments(kv_tool_check_t *check, kv_rc_t rc,
    const char *text);
static void kv_tool_check_segment(const kv_tool_file_t *file,
    const kv_tool_found_t *found);
static void kv_tool_check_start(kv_tool_check_t *check, kv_start_t *start,
    kv_rc_t rc, kv_wal_end_t *end);
static void kv_tool_check_good(kv_tool_check_t *check,
    const kv_start_t *start, const kv_wal_end_t *end);
static kv_rc_t kv_tool_check_again(void *ctx, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err);
static void kv_tool_check_batch(void *ctx, uint64_t segment_lsn,
    uint64_t offset, const kv_batch_header_t *h, const void *data);
static kv_rc_t kv_tool_check_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static void kv_tool_check_warn(void *ctx, const char *text);
static kv_tool_exit_t kv_tool_check_file(const char *path);
static kv_tool_exit_t kv_tool_check_file_snapshot(kv_tool_dir_t *dir);
static kv_tool_exit_t kv_tool_check_file_segment(kv_tool_dir_t *dir);


kv_tool_exit_t
kv_tool_check(int argc, char **argv)
{
    const char      *path;
    struct stat      st;
    kv_tool_exit_t   code;

    path = kv_tool_operand(argc, argv, "a file or a directory");

    if (path == NULL) {
        return KV_TOOL_FAILED;
    }

    if (stat(path, &st) == -1) {
        kv_tool_say("cannot open \"%s\": %s", path, strerror(errno));
        return KV_TOOL_FAILED;
    }

    code = S_ISDIR(st.st_mode) ? kv_tool_check_dir(path)
                               : kv_tool_check_file(path);
    kv_tool_progress_end();

    return code;
}


/* ---- a directory */


static kv_tool_exit_t
kv_tool_check_dir(const char *path)
{
    kv_tool_check_t  check;

    if (kv_tool_is_archive(path)) {
        return kv_tool_check_archive(path);
    }

    memset(&check, 0, sizeof(check));

    if (kv_tool_dir_read(&check.dir, path, "stop it first; \"stat\" and "
                         "\"log\" work meanwhile, and so does the check of a "
                         "backup, or of a snapshot file alone")
        != KV_OK)
    {
        return KV_TOOL_FAILED;
    }

    check.code = KV_TOOL_FAILED;

    if (kv_tool_files(&check.dir, &check.files) == KV_OK) {

        check.found = calloc(check.files.n + 1, sizeof(kv_tool_found_t));

        if (check.found) {
            check.code = KV_TOOL_GOOD;
            kv_tool_progress_begin("reading", kv_tool_check_bytes(&check),
                                   true);
            kv_tool_check_snapshots(&check);
            kv_tool_check_log(&check);

        } else {
            kv_tool_say("out of memory");
        }

        free(check.found);
        free(check.files.file);
    }

    kv_tool_dir_close(&check.dir, false);

    return check.code;
}


static uint64_t
kv_tool_check_bytes(const kv_tool_check_t *check)
{
    size_t    i;
    uint64_t  bytes;

    for (i = 0, bytes = 0; i < check->files.n; i++) {
        if (check->files.file[i].kind == KV_TOOL_SNAPSHOT
            || check->files.file[i].kind == KV_TOOL_SEGMENT)
        {
            bytes += check->files.file[i].bytes;
        }
    }

    return bytes;
}


static void
kv_tool_check_snapshots(kv_tool_check_t *check)
{
    size_t                 i;
    const kv_tool_file_t  *file;

    for (i = 0; i < check->files.n; i++) {
        file = &check->files.file[i];

        if (file->kind == KV_TOOL_SNAPSHOT) {
            kv_tool_check_snapshot(check, i);

        } else if (file->kind == KV_TOOL_ASIDE) {
            kv_tool_say("%s: %s: a start found this snapshot damaged and put "
                        "it aside; nothing reads it", check->dir.path,
                        file->name);
        }
    }
}


static void
kv_tool_check_snapshot(kv_tool_check_t *check, size_t i)
{
    kv_tool_found_t       *found;
    const kv_tool_file_t  *file;

    file = &check->files.file[i];
    found = &check->found[i];
    check->now = found;

    found->rc = kv_snapshot_read(&check->dir.io, check->dir.fd, file->lsn,
                                 kv_tool_check_record, check, &found->end,
                                 &found->bytes, &found->err);
    found->error = errno;

    if (found->rc == KV_OK) {
        (void) printf("%s: good: %" PRIu64 " records, LSN %" PRIu64 " to %"
                      PRIu64 "\n", file->name, found->records, file->lsn,
                      found->end);
        return;
    }

    kv_tool_say("%s: %s", check->dir.path, found->err.text);

    check->code = found->rc == KV_ERROR && !kv_snapshot_lost(found->error)
                  ? KV_TOOL_FAILED : kv_max(check->code, KV_TOOL_DAMAGE);
}


/* Reads the log, from its first segment on, and then says what it comes to. */

static void
kv_tool_check_log(kv_tool_check_t *check)
{
    size_t            i;
    kv_rc_t           rc;
    kv_err_t          err;
    kv_start_t        start;
    kv_wal_end_t      end;
    kv_wal_replay_t   all;

    memset(&start, 0, sizeof(start));

    start.from.record = kv_tool_check_record;
    start.from.warn = kv_tool_check_warn;
    start.from.ctx = check;

    rc = kv_start_snapshot(&check->dir.io, check->dir.fd, &start,
                           kv_tool_check_again, check, &err);

    if (rc != KV_OK) {
        kv_tool_say("%s: a start would be refused: %s", check->dir.path,
                    err.text);
        check->code = rc == KV_DAMAGED ? KV_TOOL_DAMAGE : KV_TOOL_FAILED;
        return;
    }

    all = start.from;
    all.batch = kv_tool_check_batch;
    all.brief = true;

    for (i = 0; i < check->files.n; i++) {
        if (check->files.file[i].kind == KV_TOOL_SEGMENT) {
            all.after = kv_min(all.after, check->files.file[i].lsn - 1);
            break;
        }
    }

    rc = kv_wal_read(&check->dir.io, check->dir.fd, &all, &end, NULL, &err);

    kv_tool_check_segments(check, rc, err.text);

    if (rc == KV_OK) {
        kv_tool_check_good(check, &start, &end);
        return;
    }

    check->code = kv_max(check->code, rc == KV_DAMAGED ? KV_TOOL_DAMAGE
                                                       : KV_TOOL_FAILED);
    kv_tool_check_start(check, &start, rc, &end);
}


/*
 * A line about each segment that was read; of those behind damage nothing is
 * known.
 */

static void
kv_tool_check_segments(kv_tool_check_t *check, kv_rc_t rc, const char *text)
{
    size_t                 i, last, unread;
    const kv_tool_file_t  *file;

    /* the one that the damage is in, or is before, is not known to be good */

    for (i = 0, last = 0; i < check->files.n; i++) {
        if (check->found[i].read) {
            last = i;
        }
    }

    unread = 0;

    for (i = 0; i < check->files.n; i++) {
        file = &check->files.file[i];

        if (file->kind != KV_TOOL_SEGMENT) {
            continue;
        }

        if (rc == KV_OK || (i < last && check->found[i].read)) {
            kv_tool_check_segment(file, &check->found[i]);

        } else if (file->lsn > check->files.file[last].lsn) {
            unread++;
        }
    }

    if (rc == KV_OK) {
        return;
    }

    kv_tool_say("%s: %s", check->dir.path, text);

    if (unread) {
        kv_tool_say("%s: %zu segments behind that were not checked",
                    check->dir.path, unread);
    }
}


static void
kv_tool_check_segment(const kv_tool_file_t *file, const kv_tool_found_t *found)
{
    (void) printf("%s: good: ", file->name);

    if (found->last < file->lsn) {
        (void) printf("no records");

    } else {
        (void) printf("%" PRIu64 " records, LSN %" PRIu64 " to %" PRIu64
                      ", in %" PRIu64 " batches", found->records, file->lsn,
                      found->last, found->batches);
    }

    if (found->index) {
        (void) printf(", to index %" PRIu64 ", term %" PRIu64, found->index,
                      found->term);
    }

    (void) putchar('\n');
}


/* The log is damaged somewhere: reads it as a start does. */

static void
kv_tool_check_start(kv_tool_check_t *check, kv_start_t *start, kv_rc_t rc,
    kv_wal_end_t *end)
{
    kv_err_t  err;

    check->now = NULL;
    start->from.warn = NULL;

    if (rc == KV_DAMAGED || rc == KV_ERROR) {
        rc = kv_wal_read(&check->dir.io, check->dir.fd, &start->from, end,
                         NULL, &err);
        rc = kv_start_end(start, rc, &err);
    }

    if (rc == KV_OK) {
        (void) printf("%s: a start does not need what is damaged: nothing "
                      "would be lost, and the next LSN is %" PRIu64 "\n",
                      check->dir.path, end->next_lsn);
        return;
    }

    kv_tool_say("%s: a start would be refused: %s", check->dir.path, err.text);
}


static void
kv_tool_check_good(kv_tool_check_t *check, const kv_start_t *start,
    const kv_wal_end_t *end)
{
    (void) printf("%s: %s: ", check->dir.path, check->code == KV_TOOL_GOOD
                  ? "good" : "nothing would be lost");

    if (start->snapshot) {
        (void) printf("a start reads " KV_SNAPSHOT_NAME ".kvs and the log "
                      "after it; ", start->snapshot);

    } else {
        (void) printf("a start reads the log; ");
    }

    (void) printf("the next LSN is %" PRIu64 ", and the log %s\n",
                  end->next_lsn, end->segments == 0 ? "begins with it"
                  : end->closed ? "was closed" : "was not closed: what may lie "
                  "behind its last batch was never acknowledged");
}


/* A snapshot was read before: what was found. */

static kv_rc_t
kv_tool_check_again(void *ctx, uint64_t lsn, const kv_snapshot_guess_t *guess,
    uint64_t *end, uint64_t *bytes, kv_err_t *err)
{
    size_t            i;
    kv_tool_check_t  *check = ctx;

    (void) guess;

    for (i = 0; i < check->files.n; i++) {

        if (check->files.file[i].kind == KV_TOOL_SNAPSHOT
            && check->files.file[i].lsn == lsn)
        {
            *end = check->found[i].end;
            *bytes = check->found[i].bytes;
            *err = check->found[i].err;
            errno = check->found[i].error;

            return check->found[i].rc;
        }
    }

    kv_err_set(err, KV_SNAPSHOT_NAME ".kvs has come while the directory was "
               "read", lsn);
    errno = EAGAIN;

    return KV_ERROR;
}


static void
kv_tool_check_batch(void *ctx, uint64_t segment_lsn, uint64_t offset,
    const kv_batch_header_t *h, const void *data)
{
    size_t            i;
    kv_tool_check_t  *check = ctx;

    (void) offset;
    (void) data;

    for (i = 0; i < check->files.n; i++) {

        if (check->files.file[i].kind == KV_TOOL_SEGMENT
            && check->files.file[i].lsn == segment_lsn)
        {
            check->now = &check->found[i];
            check->now->read = true;
            check->now->batches++;
            check->now->last = h->first_lsn + h->count - 1;

            if (h->index) {
                check->now->index = h->index;
                check->now->term = h->term;
            }

            return;
        }
    }

    check->now = NULL;
}


static kv_rc_t
kv_tool_check_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_tool_check_t *check = ctx;

    (void) lsn;
    (void) rec;

    if (check->now) {
        check->now->records++;
    }

    return KV_OK;
}


static void
kv_tool_check_warn(void *ctx, const char *text)
{
    kv_tool_check_t *check = ctx;

    kv_tool_say("%s: %s", check->dir.path, text);
}


/* ---- a file alone */


static kv_tool_exit_t
kv_tool_check_file(const char *path)
{
    char            magic[8];
    ssize_t         n;
    kv_tool_dir_t   dir;
    kv_tool_exit_t  code;

    if (kv_tool_file_open(&dir, path) != KV_OK) {
        return KV_TOOL_FAILED;
    }

    n = kv_io_read(&dir.system, dir.file, magic, sizeof(magic), 0);

    if (n == -1) {
        kv_tool_say("cannot read \"%s\": %s", path, strerror(errno));
        code = KV_TOOL_FAILED;

    } else if (n == sizeof(magic)
               && memcmp(magic, KV_SNAPSHOT_MAGIC, sizeof(magic)) == 0)
    {
        code = kv_tool_check_file_snapshot(&dir);

    } else if (n == sizeof(magic)
               && memcmp(magic, KV_SEGMENT_MAGIC, sizeof(magic)) == 0)
    {
        code = kv_tool_check_file_segment(&dir);

    } else if (n == sizeof(magic)
               && memcmp(magic, KV_BACKUP_MAGIC, sizeof(magic)) == 0)
    {
        code = kv_tool_check_backup(path);

    } else {
        kv_tool_say("\"%s\" does not begin as a backup, a snapshot or a "
                    "segment of the log does", path);
        code = KV_TOOL_DAMAGE;
    }

    kv_tool_dir_close(&dir, false);

    return code;
}


static kv_tool_exit_t
kv_tool_check_file_snapshot(kv_tool_dir_t *dir)
{
    char                  name[KV_NAME_MAX];
    kv_rc_t               rc;
    kv_err_t              err;
    kv_tool_check_t       check;
    kv_tool_found_t       found;
    kv_snapshot_header_t  h;

    memset(&h, 0, sizeof(h));
    memset(&check, 0, sizeof(check));
    memset(&found, 0, sizeof(found));

    check.now = &found;

    (void) kv_io_read(&dir->system, dir->file, &h, sizeof(h), 0);
    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".kvs", h.lsn);
    kv_tool_file_name(dir, name);

    rc = kv_snapshot_read(&dir->io, dir->fd, h.lsn, kv_tool_check_record,
                          &check, &found.end, &found.bytes, &err);

    if (rc != KV_OK) {
        kv_tool_say("%s: %s", dir->path, err.text);
        return rc == KV_ERROR ? KV_TOOL_FAILED : KV_TOOL_DAMAGE;
    }

    (void) printf("%s: good: a snapshot of %" PRIu64 " records, LSN %" PRIu64
                  " to %" PRIu64 "%s\n", dir->path, found.records, h.lsn,
                  found.end, found.end > h.lsn ? ": it is whole with the log "
                  "of these LSNs" : "");

    return KV_TOOL_GOOD;
}


static kv_tool_exit_t
kv_tool_check_file_segment(kv_tool_dir_t *dir)
{
    char                 name[KV_NAME_MAX];
    kv_rc_t              rc;
    kv_err_t             err;
    kv_wal_end_t         end;
    kv_tool_check_t      check;
    kv_wal_replay_t      from;
    kv_segment_header_t  h;

    memset(&h, 0, sizeof(h));
    memset(&check, 0, sizeof(check));
    memset(&from, 0, sizeof(from));

    check.dir.path = dir->path;

    (void) kv_io_read(&dir->system, dir->file, &h, sizeof(h), 0);

    if (h.first_lsn == 0 || h.first_lsn > KV_LSN_MAX) {
        kv_tool_say("%s: offset %zu: no segment begins with LSN %" PRIu64,
                    dir->path, offsetof(kv_segment_header_t, first_lsn),
                    h.first_lsn);
        return KV_TOOL_DAMAGE;
    }

    (void) snprintf(name, sizeof(name), "log-%016" PRIx64 ".kvl", h.first_lsn);
    kv_tool_file_name(dir, name);

    from.after = h.first_lsn - 1;
    from.brief = true;
    from.record = kv_tool_check_record;
    from.warn = kv_tool_check_warn;
    from.ctx = &check;

    rc = kv_wal_read(&dir->io, dir->fd, &from, &end, NULL, &err);

    if (rc != KV_OK) {
        kv_tool_say("%s: %s", dir->path, err.text);
        return rc == KV_DAMAGED ? KV_TOOL_DAMAGE : KV_TOOL_FAILED;
    }

    if (end.next_lsn == h.first_lsn) {
        (void) printf("%s: good: a segment without records\n", dir->path);

    } else {
        (void) printf("%s: good: a segment, LSN %" PRIu64 " to %" PRIu64 ": "
                      "whether that is all of it, only the segment after it "
                      "tells\n", dir->path, h.first_lsn, end.next_lsn - 1);
    }

    return KV_TOOL_GOOD;
}
