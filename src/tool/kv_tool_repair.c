
/*
 * kv-inspect repair: goes the way out of damage that the refusal of a start
 * tells (disk/kv_wal_damage.c), again and again, until a start would succeed.
 *
 * No file is deleted or written to.  What must go is moved to a folder in the
 * directory, which no start looks into.  A segment that is to be cut gets
 * another name there, and a shorter copy takes its own name by a rename.  So
 * when this is killed, at any point, what is left is either refused by a start,
 * as before, or is what the whole repair leaves: of the files that tell of
 * writes which are given up, all or some are there.  A second repair goes on.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

#include "disk/kv_start.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_dir.h"


/* as many damages can be in a directory, and no repair goes on for ever */
#define KV_TOOL_REPAIR_STEPS  1000u

#define KV_TOOL_REPAIR_COPY   (1u << 20)  /* bytes copied at once */


typedef struct {
    kv_tool_dir_t  dir;
    bool           yes;
    int            kept;                 /* the folder; -1: not made yet */
    char           folder[64];           /* its name */
    kv_start_t     start;
    kv_wal_end_t   end;
    kv_wal_way_t   way;
    kv_err_t       err;
    unsigned       steps;
} kv_tool_repair_t;


static const char *kv_tool_repair_options(kv_tool_repair_t *repair, int argc,
    char **argv);
static kv_tool_exit_t kv_tool_repair_all(kv_tool_repair_t *repair);
static kv_tool_exit_t kv_tool_repair_done(kv_tool_repair_t *repair);
static kv_rc_t kv_tool_repair_look(kv_tool_repair_t *repair);
static kv_rc_t kv_tool_repair_snapshot(void *ctx, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err);
static kv_rc_t kv_tool_repair_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static void kv_tool_repair_warn(void *ctx, const char *text);
static kv_rc_t kv_tool_repair_step(kv_tool_repair_t *repair);
static bool kv_tool_repair_goes(const kv_tool_repair_t *repair,
    const kv_tool_file_t *file);
static kv_rc_t kv_tool_repair_folder(kv_tool_repair_t *repair);
static kv_rc_t kv_tool_repair_move(kv_tool_repair_t *repair,
    const char *name);
static kv_rc_t kv_tool_repair_cut(kv_tool_repair_t *repair);
static kv_rc_t kv_tool_repair_copy(kv_tool_repair_t *repair, const char *name,
    const char *tmp);
static kv_rc_t kv_tool_repair_bytes(int from, int to, uint64_t size);
static kv_rc_t kv_tool_repair_alone(kv_tool_repair_t *repair);
static kv_rc_t kv_tool_repair_failed(kv_tool_repair_t *repair,
    const char *what, const char *name);


kv_tool_exit_t
kv_tool_repair(int argc, char **argv)
{
    const char        *path;
    kv_tool_exit_t     code;
    kv_tool_repair_t   repair;

    memset(&repair, 0, sizeof(repair));
    repair.kept = -1;

    path = kv_tool_repair_options(&repair, argc, argv);

    if (path && kv_tool_is_archive(path)) {
        kv_tool_say("\"%s\" is an archive, in which nothing is repaired: a "
                    "restore uses what is good there; \"check\" says what "
                    "that is", path);
        return KV_TOOL_FAILED;
    }

    if (path == NULL
        || (repair.yes ? kv_tool_dir_write(&repair.dir, path)
                       : kv_tool_dir_read(&repair.dir, path,
                                          KV_TOOL_STOP_FIRST))
           != KV_OK)
    {
        return KV_TOOL_FAILED;
    }

    code = kv_tool_repair_all(&repair);

    kv_tool_progress_end();

    if (repair.kept != -1) {
        (void) close(repair.kept);
    }

    kv_tool_dir_close(&repair.dir, false);

    return code;
}


/* The operand; NULL, and it was told, if there is none. */

static const char *
kv_tool_repair_options(kv_tool_repair_t *repair, int argc, char **argv)
{
    const char  *path, *yes;

    const kv_tool_arg_t  args[] = {
        { KV_TOOL_OPERAND, "a directory", &path },
        { KV_TOOL_FLAG, "--yes", &yes },
        { KV_TOOL_OPERAND, NULL, NULL }
    };

    path = NULL;
    yes = NULL;

    if (!kv_tool_args(argc, argv, args)) {
        return NULL;
    }

    repair->yes = yes != NULL;

    return path;
}


static kv_tool_exit_t
kv_tool_repair_all(kv_tool_repair_t *repair)
{
    kv_rc_t      rc;
    const char  *path;

    path = repair->dir.path;

    for ( /* void */ ; repair->steps < KV_TOOL_REPAIR_STEPS; repair->steps++) {

        rc = kv_tool_repair_look(repair);

        if (rc == KV_OK) {
            return kv_tool_repair_done(repair);
        }

        kv_tool_say("%s: %s", path, repair->err.text);

        if (rc != KV_DAMAGED || !repair->way.found) {
            kv_tool_say("%s: no repair helps against that", path);
            return rc == KV_DAMAGED ? KV_TOOL_DAMAGE : KV_TOOL_FAILED;
        }

        if (kv_tool_repair_step(repair) != KV_OK) {
            return KV_TOOL_FAILED;
        }

        if (!repair->yes) {
            (void) printf("nothing was changed: with --yes it is done, and "
                          "what goes is kept in a folder there\n");
            return KV_TOOL_DAMAGE;
        }
    }

    kv_tool_say("%s: after %u steps there is still damage", path,
                KV_TOOL_REPAIR_STEPS);

    return KV_TOOL_DAMAGE;
}


static kv_tool_exit_t
kv_tool_repair_done(kv_tool_repair_t *repair)
{
    if (repair->steps == 0) {
        (void) printf("%s: a start would succeed: there is nothing to "
                      "repair\n", repair->dir.path);
        return KV_TOOL_GOOD;
    }

    if (repair->kept != -1 && fsync(repair->kept) == -1) {
        (void) kv_tool_repair_failed(repair, "sync", repair->folder);
        return KV_TOOL_FAILED;
    }

    (void) printf("%s: repaired: a start would succeed, and the next LSN is %"
                  PRIu64 "; what was moved is in \"%s/%s\"\n",
                  repair->dir.path, repair->end.next_lsn, repair->dir.path,
                  repair->folder);

    return KV_TOOL_GOOD;
}


/* What a start would come to, without a change: repair->err, end and way. */

static kv_rc_t
kv_tool_repair_look(kv_tool_repair_t *repair)
{
    kv_rc_t         rc;
    kv_io_t        *io;
    kv_start_t     *start;

    io = &repair->dir.io;
    start = &repair->start;

    memset(start, 0, sizeof(*start));
    memset(&repair->way, 0, sizeof(repair->way));

    start->from.record = kv_tool_repair_record;
    start->from.warn = kv_tool_repair_warn;
    start->from.ctx = repair;

    kv_tool_progress_begin("reading", 0, true);

    rc = kv_start_snapshot(io, repair->dir.fd, start, kv_tool_repair_snapshot,
                           repair, &repair->err);

    if (rc == KV_OK) {
        rc = kv_wal_read(io, repair->dir.fd, &start->from, &repair->end,
                         &repair->way, &repair->err);
        rc = kv_start_end(start, rc, &repair->err);
    }

    kv_tool_progress_end();

    return rc;
}


static kv_rc_t
kv_tool_repair_snapshot(void *ctx, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err)
{
    kv_tool_repair_t *repair = ctx;

    (void) guess;

    return kv_snapshot_read(&repair->dir.io, repair->dir.fd, lsn,
                            kv_tool_repair_record, repair, end, bytes, err);
}


static kv_rc_t
kv_tool_repair_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) ctx, (void) lsn, (void) rec;

    return KV_OK;
}


static void
kv_tool_repair_warn(void *ctx, const char *text)
{
    kv_tool_repair_t *repair = ctx;

    kv_tool_say("%s: %s", repair->dir.path, text);
}


/* Says what goes, and lets it go if it may. */

static kv_rc_t
kv_tool_repair_step(kv_tool_repair_t *repair)
{
    size_t           i;
    kv_rc_t          rc;
    kv_tool_files_t  files;

    if (kv_tool_files(&repair->dir, &files) != KV_OK) {
        return KV_ERROR;
    }

    rc = repair->yes ? kv_tool_repair_folder(repair) : KV_OK;

    for (i = files.n; rc == KV_OK && i--; /* void */ ) {

        if (kv_tool_repair_goes(repair, &files.file[i])) {
            rc = kv_tool_repair_move(repair, files.file[i].name);
        }
    }

    free(files.file);

    if (rc == KV_OK && repair->way.cut_size) {
        rc = kv_tool_repair_cut(repair);
    }

    if (rc == KV_OK && repair->way.alone) {
        rc = kv_tool_repair_alone(repair);
    }

    if (rc == KV_OK && repair->yes && fsync(repair->dir.fd) == -1) {
        rc = kv_tool_repair_failed(repair, "sync", repair->dir.path);
    }

    return rc;
}


static bool
kv_tool_repair_goes(const kv_tool_repair_t *repair, const kv_tool_file_t *file)
{
    const kv_wal_way_t  *way;

    way = &repair->way;

    switch (file->kind) {

    case KV_TOOL_SEGMENT:
        return file->lsn >= way->logs_from;

    case KV_TOOL_CLOSED:
        return way->logs_from == 0 || file->lsn == way->closed;

    case KV_TOOL_SNAPSHOT:
        return way->newer && file->lsn > repair->start.from.after;

    default:
        return false;
    }
}


/* The folder that keeps what goes. */

static kv_rc_t
kv_tool_repair_folder(kv_tool_repair_t *repair)
{
    time_t     now;
    struct tm  tm;
    unsigned   i;
    char       text[24];

    if (repair->kept != -1) {
        return KV_OK;
    }

    now = time(NULL);
    (void) strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));

    for (i = 0; i < 100; i++) {

        (void) snprintf(repair->folder, sizeof(repair->folder),
                        i ? KV_TOOL_BEFORE_REPAIR "%s-%u"
                          : KV_TOOL_BEFORE_REPAIR "%s", text, i);

        if (mkdirat(repair->dir.fd, repair->folder, 0700) == 0) {
            repair->kept = openat(repair->dir.fd, repair->folder,
                                  O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC);
            break;
        }

        if (errno != EEXIST) {
            break;
        }
    }

    return repair->kept != -1 ? KV_OK
                              : kv_tool_repair_failed(repair, "make",
                                                      repair->folder);
}


static kv_rc_t
kv_tool_repair_move(kv_tool_repair_t *repair, const char *name)
{
    (void) printf("%s %s\n", repair->yes ? "moved" : "would move", name);

    if (!repair->yes) {
        return KV_OK;
    }

    return renameat(repair->dir.fd, name, repair->kept, name) == 0
           ? KV_OK : kv_tool_repair_failed(repair, "move", name);
}


static kv_rc_t
kv_tool_repair_cut(kv_tool_repair_t *repair)
{
    char     name[KV_NAME_MAX], tmp[KV_NAME_MAX];
    kv_rc_t  rc;

    (void) snprintf(name, sizeof(name), "log-%016" PRIx64 ".kvl",
                    repair->way.cut_lsn);
    (void) snprintf(tmp, sizeof(tmp), "log-%016" PRIx64 ".tmp",
                    repair->way.cut_lsn);

    (void) printf("%s %s at offset %" PRIu64 "\n", repair->yes
                  ? "cut" : "would cut", name, repair->way.cut_offset);

    if (!repair->yes) {
        return KV_OK;
    }

    rc = kv_tool_repair_copy(repair, name, tmp);

    if (rc != KV_OK) {
        (void) unlinkat(repair->dir.fd, tmp, 0);
        return rc;
    }

    if (linkat(repair->dir.fd, name, repair->kept, name, 0) == -1
        || fsync(repair->kept) == -1)
    {
        rc = kv_tool_repair_failed(repair, "keep", name);

    } else if (renameat(repair->dir.fd, tmp, repair->dir.fd, name) == -1) {
        rc = kv_tool_repair_failed(repair, "replace", name);
    }

    if (rc != KV_OK) {
        (void) unlinkat(repair->dir.fd, tmp, 0);
    }

    return rc;
}


/* Makes the file `tmp`, which is what the segment is to be, and syncs it. */

static kv_rc_t
kv_tool_repair_copy(kv_tool_repair_t *repair, const char *name,
    const char *tmp)
{
    int            from, to;
    kv_rc_t        rc;
    kv_io_t       *io;
    struct stat    st;

    io = &repair->dir.io;
    (void) unlinkat(repair->dir.fd, tmp, 0);

    from = io->open(io, repair->dir.fd, name, O_RDONLY);

    if (from == -1) {
        return kv_tool_repair_failed(repair, "open", name);
    }

    to = io->open(io, repair->dir.fd, tmp, O_WRONLY|O_CREAT|O_EXCL);
    rc = KV_ERROR;

    if (to == -1) {
        (void) kv_tool_repair_failed(repair, "make", tmp);

    } else if (fstat(from, &st) == -1
               || (geteuid() == 0 && fchown(to, st.st_uid, st.st_gid) == -1)
               || kv_tool_repair_bytes(from, to, repair->way.cut_offset)
                  != KV_OK
               || ftruncate(to, (off_t) repair->way.cut_size) == -1
               || fsync(to) == -1)
    {
        (void) kv_tool_repair_failed(repair, "copy", name);

    } else {
        rc = KV_OK;
    }

    (void) close(from);

    if (to != -1) {
        (void) close(to);
    }

    return rc;
}


/* Copies the first `size` bytes.  KV_OK, or KV_ERROR with errno set. */

static kv_rc_t
kv_tool_repair_bytes(int from, int to, uint64_t size)
{
    char      *buf;
    size_t     n;
    ssize_t    got;
    uint64_t   done;

    buf = malloc(KV_TOOL_REPAIR_COPY);

    if (buf == NULL) {
        return KV_ERROR;
    }

    for (done = 0; done < size; done += (uint64_t) got) {

        n = (size_t) kv_min(size - done, (uint64_t) KV_TOOL_REPAIR_COPY);
        got = pread(from, buf, n, (off_t) done);

        if (got > 0) {
            got = pwrite(to, buf, (size_t) got, (off_t) done);
        }

        if (got <= 0) {
            errno = got == 0 ? EIO : errno;
            break;
        }
    }

    free(buf);

    return done < size ? KV_ERROR : KV_OK;
}


static kv_rc_t
kv_tool_repair_alone(kv_tool_repair_t *repair)
{
    int       fd;
    char      name[KV_NAME_MAX];
    kv_io_t  *io;

    (void) snprintf(name, sizeof(name), KV_SNAPSHOT_NAME ".alone",
                    repair->start.from.after);

    (void) printf("%s %s\n", repair->yes ? "made" : "would make", name);

    if (!repair->yes) {
        return KV_OK;
    }

    io = &repair->dir.io;
    fd = io->open(io, repair->dir.fd, name, O_WRONLY|O_CREAT);

    if (fd == -1) {
        return kv_tool_repair_failed(repair, "make", name);
    }

    (void) io->close(io, fd);

    return KV_OK;
}


static kv_rc_t
kv_tool_repair_failed(kv_tool_repair_t *repair, const char *what,
    const char *name)
{
    kv_tool_say("%s: cannot %s \"%s\": %s; see to the disk and the rights "
                "there, and run the repair again", repair->dir.path, what,
                name, strerror(errno));

    return KV_ERROR;
}
