
/*
 * Restoring from an archive: the newest snapshot that is not beyond the moment,
 * and the log from there on, up to it.
 *
 * The archive and the store's own directory are shown as one to the readers of
 * a directory.  What both have is taken from the archive, where nothing is
 * written any more.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                          /* faccessat() */
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/kv_archive.h"
#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot.h"


typedef struct {
    kv_backup_reader_t           from;     /* first */
    kv_io_t                      system;
    const kv_archive_moment_t   *moment;
    kv_wal_walk_t                walk;
    uint64_t                    *snapshot; /* LSNs, ascending: all of them */
    size_t                       n;
    size_t                       max;
    bool                         failed;   /* no memory for more */
    uint64_t                     least;    /* the least LSN of all segments */
    uint64_t                     bytes;    /* of the snapshot */
    kv_io_list_pt                list;     /* whom the names are for */
    void                        *list_ctx;
} kv_archive_source_t;


static kv_rc_t kv_archive_open(kv_archive_source_t *s, const char *path,
    const char *data, kv_err_t *err);
static int kv_archive_open_dir(const char *path, kv_err_t *err);
static kv_rc_t kv_archive_choose(kv_archive_source_t *s, kv_err_t *err);
static kv_rc_t kv_archive_too_early(const kv_archive_source_t *s,
    kv_err_t *err);
static kv_rc_t kv_archive_look(kv_archive_source_t *s, kv_err_t *err);
static void kv_archive_see(void *ctx, const char *name);
static int kv_archive_ascending(const void *one, const void *two);
static bool kv_archive_before(kv_archive_source_t *s, uint64_t lsn);
static kv_rc_t kv_archive_try(kv_archive_source_t *s, uint64_t lsn,
    kv_err_t *err);
static kv_rc_t kv_archive_reaches(kv_archive_source_t *s, uint64_t end,
    kv_err_t *err);
static kv_rc_t kv_archive_seen(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_archive_files(kv_archive_source_t *s, kv_err_t *err);
static void kv_archive_view(kv_archive_source_t *s);
static int kv_archive_view_open(kv_io_t *io, int dirfd, const char *name,
    int flags);
static int kv_archive_view_list(kv_io_t *io, int dirfd, kv_io_list_pt cb,
    void *ctx);
static void kv_archive_view_name(void *ctx, const char *name);


kv_rc_t
kv_archive_restore(const char *path, const char *data, const char *dir,
    const kv_archive_moment_t *moment, const kv_backup_watch_t *watch,
    kv_backup_header_t *header, kv_err_t *err)
{
    kv_rc_t              rc;
    kv_archive_source_t  s;

    rc = kv_restore_check_dir(dir, err);

    if (rc != KV_OK) {
        return rc;
    }

    memset(&s, 0, sizeof(s));
    s.from.watch = watch;
    s.moment = moment;

    rc = kv_archive_open(&s, path, data, err);

    if (rc == KV_OK) {
        rc = kv_archive_choose(&s, err);
    }

    if (rc == KV_OK) {
        rc = kv_archive_files(&s, err);
    }

    if (rc == KV_OK) {
        *header = s.from.header;
        rc = kv_restore_from(&s.from, dir, err);
    }

    free(s.walk.part);
    free(s.snapshot);
    kv_backup_close(&s.from);

    if (s.from.dir[0] != -1) {
        (void) close(s.from.dir[0]);
    }

    if (s.from.dir[1] != -1) {
        (void) close(s.from.dir[1]);
    }

    return rc;
}


static kv_rc_t
kv_archive_open(kv_archive_source_t *s, const char *path, const char *data,
    kv_err_t *err)
{
    s->from.fd = -1;
    s->from.dir[1] = -1;

    kv_archive_view(s);

    s->from.dir[0] = kv_archive_open_dir(path, err);

    if (s->from.dir[0] == -1) {
        return KV_ERROR;
    }

    if (data) {
        s->from.dir[1] = kv_archive_open_dir(data, err);

        if (s->from.dir[1] == -1) {
            return KV_ERROR;
        }
    }

    return KV_OK;
}


static int
kv_archive_open_dir(const char *path, kv_err_t *err)
{
    int  fd;

    fd = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        kv_err_set(err, "the directory \"%s\" cannot be opened: %s", path,
                   strerror(errno));
    }

    return fd;
}


/* The newest snapshot, or none, from which the log leads to the moment. */

static kv_rc_t
kv_archive_choose(kv_archive_source_t *s, kv_err_t *err)
{
    size_t     i;
    kv_rc_t    rc;
    kv_err_t   other, *told;

    rc = kv_archive_look(s, err);

    if (rc != KV_OK) {
        return rc;
    }

    /* what is told is why the newest one would not do */

    told = err;

    for (i = s->n; i-- > 0; /* void */ ) {

        if (!kv_archive_before(s, s->snapshot[i])) {
            continue;
        }

        rc = kv_archive_try(s, s->snapshot[i], told);

        if (rc != KV_NOT_FOUND && rc != KV_DAMAGED) {
            *err = *told;
            return rc;
        }

        told = &other;
    }

    /* without a snapshot all of the log is needed */

    return s->least == 1 ? kv_archive_try(s, 0, told)
                         : kv_archive_too_early(s, told);
}


static kv_rc_t
kv_archive_too_early(const kv_archive_source_t *s, kv_err_t *err)
{
    if (s->least == UINT64_MAX && s->n == 0) {
        kv_err_set(err, "it has no snapshot and no log: give the directory "
                   "that archive= of the kv_zone names");

    } else if (s->least == UINT64_MAX) {
        kv_err_set(err, "it has no snapshot before that moment, and no log: "
                   "\"kv-inspect stat\" tells of when its snapshots are");

    } else {
        kv_err_set(err, "it has no snapshot before that moment, and its log "
                   "begins with LSN %" PRIu64 ": \"kv-inspect stat\" tells of "
                   "when its snapshots are", s->least);
    }

    return KV_NOT_FOUND;
}


/* Lists what is there, once: there may be a hundred thousand files. */

static kv_rc_t
kv_archive_look(kv_archive_source_t *s, kv_err_t *err)
{
    s->least = UINT64_MAX;

    if (s->from.io.list(&s->from.io, -1, kv_archive_see, s) == -1
        || s->failed)
    {
        kv_err_set(err, "the files there cannot be listed: %s", s->failed
                   ? "out of memory" : strerror(errno));
        return KV_ERROR;
    }

    if (s->n) {
        qsort(s->snapshot, s->n, sizeof(uint64_t), kv_archive_ascending);
    }

    return KV_OK;
}


static void
kv_archive_see(void *ctx, const char *name)
{
    kv_archive_source_t *s = ctx;

    size_t              max;
    uint64_t            lsn, *snapshot;
    kv_backup_kind_t    kind;

    if (!kv_backup_parse(name, &kind, &lsn)) {
        return;
    }

    if (kind == KV_BACKUP_SEGMENT) {
        s->least = kv_min(s->least, lsn);
        return;
    }

    if (s->n == s->max) {
        max = s->max ? 2 * s->max : 64;
        snapshot = realloc(s->snapshot, max * sizeof(uint64_t));

        if (snapshot == NULL) {
            s->failed = true;
            return;
        }

        s->snapshot = snapshot;
        s->max = max;
    }

    s->snapshot[s->n++] = lsn;
}


static int
kv_archive_ascending(const void *one, const void *two)
{
    const uint64_t  *a = one;
    const uint64_t  *b = two;

    return *a < *b ? -1 : *a > *b;
}


/* Whether that snapshot was begun before the moment. */

static bool
kv_archive_before(kv_archive_source_t *s, uint64_t lsn)
{
    kv_snapshot_guess_t  guess;

    if (s->moment->lsn) {
        return lsn <= s->moment->lsn;
    }

    kv_snapshot_guess(&s->from.io, -1, lsn, &guess);

    return guess.time_ms <= s->moment->time_ms;
}


/* KV_NOT_FOUND or KV_DAMAGED, `err` filled: not with this one. */

static kv_rc_t
kv_archive_try(kv_archive_source_t *s, uint64_t lsn, kv_err_t *err)
{
    kv_rc_t              rc;
    uint64_t             end;
    kv_wal_walk_t       *walk;
    kv_snapshot_guess_t  guess;

    walk = &s->walk;
    end = 0;

    free(walk->part);
    memset(walk, 0, sizeof(*walk));
    memset(&guess, 0, sizeof(guess));

    if (lsn) {
        rc = kv_snapshot_read(&s->from.io, -1, lsn, kv_archive_seen, s, &end,
                              &s->bytes, err);

        if (rc != KV_OK) {
            return rc == KV_DECLINED ? KV_ERROR : rc;
        }

        kv_snapshot_guess(&s->from.io, -1, lsn, &guess);
    }

    walk->io = &s->from.io;
    walk->dirfd = -1;
    walk->after = lsn;
    walk->upto = s->moment->lsn ? s->moment->lsn : KV_LSN_MAX;
    walk->cuts = true;
    walk->open_end = true;
    walk->until_ms = s->moment->lsn ? 0 : s->moment->time_ms;
    walk->id = guess.id;
    walk->record = kv_archive_seen;
    walk->ctx = s;

    s->from.header.snapshot_lsn = lsn;
    s->from.header.time_ms = guess.time_ms;

    rc = kv_wal_walk(walk, err);

    return rc == KV_OK ? kv_archive_reaches(s, end, err) : rc;
}


/* Whether the log goes far enough: to the moment, and to the snapshot's E. */

static kv_rc_t
kv_archive_reaches(kv_archive_source_t *s, uint64_t end, kv_err_t *err)
{
    uint64_t  lsn;

    lsn = s->walk.last;

    if (lsn < end) {
        kv_err_set(err, "what is there ends with LSN %" PRIu64 ", before all "
                   "that " KV_SNAPSHOT_NAME ".kvs has seen", lsn,
                   s->walk.after);
        return KV_NOT_FOUND;
    }

    if (s->moment->lsn && lsn < s->moment->lsn) {
        kv_err_set(err, "what is there ends with LSN %" PRIu64 "%s", lsn,
                   s->from.dir[1] != -1 ? "" : ": newer writes may be in the "
                   "store's own directory, which --data adds");
        return KV_NOT_FOUND;
    }

    s->from.header.lsn = lsn;
    s->from.header.time_ms = kv_max(s->walk.time_ms, s->from.header.time_ms);

    return KV_OK;
}


static kv_rc_t
kv_archive_seen(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_archive_source_t *s = ctx;

    (void) lsn;
    (void) rec;

    return kv_backup_step(&s->from, 0);
}


/* Lists what is to be restored. */

static kv_rc_t
kv_archive_files(kv_archive_source_t *s, kv_err_t *err)
{
    size_t               i;
    kv_backup_file_t    *f;
    kv_backup_reader_t  *r;

    r = &s->from;
    r->header.id = s->walk.id;
    r->file = calloc(s->walk.n + 1, sizeof(kv_backup_file_t));

    if (r->file == NULL) {
        kv_err_set(err, "out of memory");
        return KV_AGAIN;
    }

    f = r->file;

    if (r->header.snapshot_lsn) {
        f->kind = KV_BACKUP_SNAPSHOT;
        f->lsn = r->header.snapshot_lsn;
        f->len = s->bytes;
        f++;
    }

    for (i = 0; i < s->walk.n; i++, f++) {
        f->kind = KV_BACKUP_SEGMENT;
        f->lsn = s->walk.part[i].lsn;
        f->len = s->walk.part[i].bytes;

        if (i + 1 == s->walk.n) {
            f->cut = s->walk.cut;
            f->len += f->cut.head + f->cut.len;
        }
    }

    r->files = (uint32_t) (f - r->file);

    while (f-- > r->file) {
        kv_backup_name(f->name, f->kind, f->lsn);
        r->all += 2 * f->len;
    }

    return KV_OK;
}


/* The table of calls. */

static void
kv_archive_view(kv_archive_source_t *s)
{
    kv_io_system(&s->system);
    kv_io_system(&s->from.io);

    s->from.io.open = kv_archive_view_open;
    s->from.io.list = kv_archive_view_list;
}


static int
kv_archive_view_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    int                   fd;
    kv_archive_source_t  *s;

    (void) dirfd;
    (void) flags;

    s = (kv_archive_source_t *) io;
    fd = s->system.open(&s->system, s->from.dir[0], name, O_RDONLY);

    if (fd == -1 && errno == ENOENT && s->from.dir[1] != -1) {
        fd = s->system.open(&s->system, s->from.dir[1], name, O_RDONLY);
    }

    return fd;
}


static int
kv_archive_view_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    kv_archive_source_t  *s;

    (void) dirfd;

    s = (kv_archive_source_t *) io;

    if (s->system.list(&s->system, s->from.dir[0], cb, ctx) == -1) {
        return -1;
    }

    s->list = cb;
    s->list_ctx = ctx;

    return s->from.dir[1] == -1
           ? 0 : s->system.list(&s->system, s->from.dir[1],
                                kv_archive_view_name, s);
}


/* A name in the second directory; each is told once. */

static void
kv_archive_view_name(void *ctx, const char *name)
{
    kv_archive_source_t *s = ctx;

    if (faccessat(s->from.dir[0], name, F_OK, 0) == -1) {
        s->list(s->list_ctx, name);
    }
}
