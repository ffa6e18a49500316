
/*
 * kv-inspect stat: what is in a directory, as the files' names and headers say
 * it.  Also of one that is in use.
 */


#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "disk/kv_archive.h"
#include "disk/kv_snapshot.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_dir.h"


static void kv_tool_stat_files(kv_tool_dir_t *dir,
    const kv_tool_files_t *files);
static void kv_tool_stat_snapshot(kv_tool_dir_t *dir,
    const kv_tool_file_t *file);
static void kv_tool_stat_segment(kv_tool_dir_t *dir,
    const kv_tool_file_t *file);
static void kv_tool_stat_note(kv_tool_dir_t *dir, const kv_tool_file_t *file);
static void kv_tool_stat_other(const kv_tool_file_t *file);
static bool kv_tool_stat_is(const char *name, const char *begin,
    const char *end, size_t len);
static bool kv_tool_stat_head(kv_tool_dir_t *dir, const kv_tool_file_t *file,
    void *buf, size_t size, const char *magic);
static void kv_tool_stat_sum(const kv_tool_files_t *files);


kv_tool_exit_t
kv_tool_stat(int argc, char **argv)
{
    char              who[128];
    const char       *path;
    kv_tool_dir_t     dir;
    kv_tool_files_t   files;

    path = kv_tool_operand(argc, argv, "a directory");

    if (path == NULL || kv_tool_dir_look(&dir, path) != KV_OK) {
        return KV_TOOL_FAILED;
    }

    if (kv_tool_files(&dir, &files) != KV_OK) {
        kv_tool_dir_close(&dir, false);
        return KV_TOOL_FAILED;
    }

    (void) printf("directory: %s\n", path);
    (void) printf("in use: %s\n", dir.in_use
                  ? kv_tool_holder(&dir, who, sizeof(who)) : "no");

    kv_tool_stat_files(&dir, &files);
    kv_tool_stat_sum(&files);

    free(files.file);
    kv_tool_dir_close(&dir, false);

    return KV_TOOL_GOOD;
}


static void
kv_tool_stat_files(kv_tool_dir_t *dir, const kv_tool_files_t *files)
{
    size_t                 i;
    const kv_tool_file_t  *file;

    for (i = 0; i < files->n; i++) {
        file = &files->file[i];

        switch (file->kind) {

        case KV_TOOL_SNAPSHOT:
            kv_tool_stat_snapshot(dir, file);
            break;

        case KV_TOOL_SEGMENT:
            kv_tool_stat_segment(dir, file);
            break;

        case KV_TOOL_CLOSED:
            kv_tool_stat_note(dir, file);
            break;

        case KV_TOOL_ASIDE:
            (void) printf("%s: a damaged snapshot that was put aside\n",
                          file->name);
            break;

        case KV_TOOL_OTHER:
            kv_tool_stat_other(file);
            break;

        default:
            break;
        }
    }
}


static void
kv_tool_stat_snapshot(kv_tool_dir_t *dir, const kv_tool_file_t *file)
{
    char                  time[KV_TOOL_TIME], size[KV_TOOL_SIZE];
    kv_snapshot_guess_t   guess;
    kv_snapshot_header_t  h;

    if (!kv_tool_stat_head(dir, file, &h, KV_SNAPSHOT_HEADER_1,
                           KV_SNAPSHOT_MAGIC))
    {
        return;
    }

    kv_snapshot_guess(&dir->io, dir->fd, file->lsn, &guess);

    (void) printf("%s: format %u, LSN %" PRIu64 ", %" PRIu64 " records, %s, "
                  "begun %s", file->name, h.version, h.lsn, guess.records,
                  kv_tool_size(file->bytes, size),
                  kv_tool_time(guess.time_ms, time));

    if (guess.id.incarnation) {
        (void) printf(", store %016" PRIx64 "%016" PRIx64 ", incarnation "
                      "%016" PRIx64, guess.id.store[0], guess.id.store[1],
                      guess.id.incarnation);
    }

    if (guess.index) {
        (void) printf(", index %" PRIu64 " and term %" PRIu64 " of a "
                      "replicated log", guess.index, guess.term);
    }

    (void) putchar('\n');
}


static void
kv_tool_stat_segment(kv_tool_dir_t *dir, const kv_tool_file_t *file)
{
    char                 size[KV_TOOL_SIZE];
    kv_segment_header_t  h;

    if (!kv_tool_stat_head(dir, file, &h, sizeof(h), KV_SEGMENT_MAGIC)) {
        return;
    }

    (void) printf("%s: format %u, from LSN %" PRIu64 ", %s", file->name,
                  h.version, h.first_lsn, kv_tool_size(file->bytes, size));

    if (h.version > 1) {
        (void) printf(", store %016" PRIx64 "%016" PRIx64 ", incarnation "
                      "%016" PRIx64, h.id.store[0], h.id.store[1],
                      h.id.incarnation);
    }

    if (h.version > 1 && h.kind != KV_SEGMENT_PLAIN) {
        (void) printf(h.kind == KV_SEGMENT_RESTORED
                      ? ", restored from a replicated log"
                      : ", of a replicated log");
    }

    (void) putchar('\n');
}


static void
kv_tool_stat_note(kv_tool_dir_t *dir, const kv_tool_file_t *file)
{
    kv_closed_t  note;

    if (file->bytes == 0) {
        (void) printf("%s: an empty note of a clean end: it says nothing\n",
                      file->name);

    } else if (kv_tool_stat_head(dir, file, &note, KV_CLOSED_1,
                                 KV_CLOSED_MAGIC))
    {
        (void) printf("%s: the log was closed with LSN %" PRIu64 "\n",
                      file->name, note.lsn);
    }
}


static void
kv_tool_stat_other(const kv_tool_file_t *file)
{
    size_t    i;
    uint64_t  from, to;

    static const struct {
        const char  *begin;
        const char  *end;
        size_t       len;                /* of the name; 0: any */
        const char  *what;
    } others[] = {
        { KV_ARCHIVE_NAME, "", sizeof(KV_ARCHIVE_NAME) - 1,
          "this is the archive of a store" },
        { KV_RESTORED_NAME, "", sizeof(KV_RESTORED_NAME) - 1,
          "the disk was set back, or this was restored: the next start begins "
          "a new incarnation" },
        { "snap-", ".alone", sizeof("snap-0123456789abcdef.alone") - 1,
          "this snapshot is to be used without the log up to its end" },
        { KV_TOOL_BEFORE_REPAIR, "", 0,
          "what \"kv-inspect repair\" has moved away" }
    };

    if (kv_archive_is_gap(file->name, &from, &to)) {
        (void) printf("%s: this archive lacks the log from LSN %" PRIu64
                      " to %" PRIu64 "\n", file->name, from, to);
        return;
    }

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (kv_tool_stat_is(file->name, others[i].begin, others[i].end,
                            others[i].len))
        {
            (void) printf("%s: %s\n", file->name, others[i].what);
            return;
        }
    }

    (void) printf("%s: not a file of the store\n", file->name);
}


/* Whether a name begins and ends so, and has that length, unless that is 0. */

static bool
kv_tool_stat_is(const char *name, const char *begin, const char *end,
    size_t len)
{
    size_t  n;

    n = strlen(name);

    return (len == 0 || n == len) && n >= strlen(end)
           && strncmp(name, begin, strlen(begin)) == 0
           && strcmp(name + n - strlen(end), end) == 0;
}


/* Reads the first `size` bytes; false, and it was printed why, if it cannot. */

static bool
kv_tool_stat_head(kv_tool_dir_t *dir, const kv_tool_file_t *file, void *buf,
    size_t size, const char *magic)
{
    int      fd;
    ssize_t  n;

    fd = dir->io.open(&dir->io, dir->fd, file->name, O_RDONLY);
    n = fd == -1 ? -1 : kv_io_read(&dir->io, fd, buf, size, 0);

    if (n == -1) {
        (void) printf("%s: cannot be read: %s\n", file->name, errno == EINVAL
                      ? "no regular file" : strerror(errno));

    } else if (n != (ssize_t) size || memcmp(buf, magic, 8) != 0) {
        (void) printf("%s: does not begin as such a file does: run "
                      "\"kv-inspect check\"\n", file->name);
        n = -1;
    }

    if (fd != -1) {
        (void) dir->io.close(&dir->io, fd);
    }

    return n != -1;
}


static void
kv_tool_stat_sum(const kv_tool_files_t *files)
{
    char      size[KV_TOOL_SIZE];
    size_t    i;
    uint64_t  n[KV_TOOL_KINDS], bytes[KV_TOOL_KINDS];

    static const struct {
        kv_tool_kind_t   kind;
        const char      *name;
    } sums[] = {
        { KV_TOOL_SNAPSHOT, "snapshots" },
        { KV_TOOL_SEGMENT, "segments" },
        { KV_TOOL_SPARE, "spare segments" },
        { KV_TOOL_UNFINISHED, "unfinished files" }
    };

    memset(n, 0, sizeof(n));
    memset(bytes, 0, sizeof(bytes));

    for (i = 0; i < files->n; i++) {
        n[files->file[i].kind]++;
        bytes[files->file[i].kind] += files->file[i].bytes;
    }

    for (i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
        (void) printf("%s: %" PRIu64 ", %s\n", sums[i].name, n[sums[i].kind],
                      kv_tool_size(bytes[sums[i].kind], size));
    }
}
