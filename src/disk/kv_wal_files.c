
/*
 * The log's files: their names, spares to take segments from, and what to do
 * with segments that nobody needs any more.
 *
 * kv_wal_prepare() and kv_wal_purge() run beside commits of other processes.
 * What makes that safe: they touch no segment from the current one on, and a
 * spare belongs to whoever renamed it.
 */


#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"
#include "base/kv_failpoint.h"


typedef struct {
    kv_wal_name_t  *names;
    size_t          n;
    size_t          max;
    bool            failed;
} kv_wal_names_t;


static kv_rc_t kv_wal_write_closed(kv_wal_t *wal, const kv_closed_t *closed,
    kv_err_t *err);
static bool kv_wal_recycle(kv_wal_t *wal, uint64_t lsn, uint64_t n);
static int kv_wal_usable(kv_wal_t *wal, const char *name);
static int kv_wal_fits(kv_wal_t *wal, int fd);
static uint64_t kv_wal_free_spare(const kv_wal_name_t *names, size_t n,
    unsigned *spares);
static void kv_wal_list_cb(void *ctx, const char *name);
static bool kv_wal_parse(const char *name, kv_wal_name_t *parsed);
static int kv_wal_compare(const void *one, const void *two);


static const char  *kv_wal_formats[] = {
    "log-%016" PRIx64 ".kvl",
    "log-%016" PRIx64 ".tmp",
    "spare-%" PRIu64 ".kvl",
    "spare-%" PRIu64 ".tmp",
    "log-%016" PRIx64 ".closed"
};


kv_rc_t
kv_wal_prepare(kv_wal_t *wal, volatile sig_atomic_t *cancel)
{
    int             fd;
    char            tmp[KV_NAME_MAX], name[KV_NAME_MAX];
    size_t          i, n;
    kv_rc_t         rc;
    uint64_t        number;
    unsigned        spares;
    kv_wal_name_t  *names;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        return rc;
    }

    number = kv_wal_free_spare(names, n, &spares);

    for (i = 0; i < n; i++) {

        (void) kv_wal_name(name, names[i].kind, names[i].number);

        if (names[i].kind == KV_WAL_SPARE_TMP

            /* what a dead predecessor left: out of the way, or we are */

            && wal->io->unlink(wal->io, wal->dirfd, name) == -1
            && errno != ENOENT)
        {
            number = kv_max(number, names[i].number + 1);
        }

        if (names[i].kind != KV_WAL_SPARE) {
            continue;
        }

        switch (kv_wal_usable(wal, name)) {

        case 1:
            free(names);
            return KV_DECLINED;

        case 0:
            (void) wal->io->unlink(wal->io, wal->dirfd, name);
            break;
        }
    }

    free(names);

    (void) kv_wal_name(tmp, KV_WAL_SPARE_TMP, number);
    (void) kv_wal_name(name, KV_WAL_SPARE, number);

    rc = kv_io_preallocate(wal->io, wal->dirfd, tmp,
                           (off_t) wal->segment_size, cancel, &fd);

    if (rc != KV_OK) {
        return rc;
    }

    (void) wal->io->close(wal->io, fd);

    kv_failpoint(KV_FAILPOINT_SPARE_MADE);

    if (wal->io->rename(wal->io, wal->dirfd, tmp, name) == -1) {
        rc = kv_wal_rc();
        (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
        return rc;
    }

    return KV_OK;
}


kv_rc_t
kv_wal_purge(kv_wal_t *wal, uint64_t lsn, uint64_t current_lsn,
    unsigned spares, const kv_io_hurry_t *hurry, kv_err_t *err)
{
    char            name[KV_NAME_MAX];
    size_t          i, n, gone;
    kv_rc_t         rc;
    uint64_t        number;
    unsigned        have;
    kv_wal_name_t  *names;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        kv_err_set(err, "the data directory cannot be listed: %s; see to its "
                   "permissions and the disk", strerror(errno));
        return rc;
    }

    number = kv_wal_free_spare(names, n, &have);
    gone = 0;

    /* the next segment's first LSN says where one ends */

    for (i = 0; i + 1 < n; i++) {

        if (names[i].kind != KV_WAL_SEGMENT
            || names[i + 1].kind != KV_WAL_SEGMENT
            || names[i + 1].number > current_lsn
            || names[i + 1].number - 1 > lsn)
        {
            break;
        }

        if (gone) {
            kv_failpoint(KV_FAILPOINT_PURGING_LOG);
        }

        if (have < spares && kv_wal_recycle(wal, names[i].number, number)) {
            have++;
            number++;
            gone++;
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_SEGMENT, names[i].number);

        if (kv_io_remove(wal->io, wal->dirfd, name, hurry) == -1
            && errno != ENOENT)
        {
            kv_err_set(err, "%s: the segment, no longer needed, cannot be "
                       "deleted: %s; see to the disk", name, strerror(errno));
            rc = KV_ERROR;
            continue;
        }

        gone++;
    }

    free(names);

    if (gone == 0) {
        return rc;
    }

    atomic_fetch_sub_explicit(&wal->state->segments, gone,
                              memory_order_relaxed);

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK && rc == KV_OK) {
        kv_err_set(err, "the data directory cannot be synced: %s; see to the "
                   "disk", strerror(errno));
        rc = KV_ERROR;
    }

    return rc;
}


/*
 * The renaming comes first, then the opening: another process may put another
 * file under the spare's name at any time.
 */

kv_rc_t
kv_wal_take_spare(kv_wal_t *wal, const char *tmp, int *fd)
{
    int             saved;
    char            name[KV_NAME_MAX];
    size_t          i, n;
    kv_rc_t         rc;
    kv_wal_name_t  *names;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        return rc;
    }

    rc = KV_NOT_FOUND;

    for (i = 0; i < n; i++) {

        (void) kv_wal_name(name, names[i].kind, names[i].number);

        if (names[i].kind == KV_WAL_SEGMENT_TMP) {
            /* what a dead predecessor left */
            (void) wal->io->unlink(wal->io, wal->dirfd, name);
        }

        if (names[i].kind != KV_WAL_SPARE) {
            continue;
        }

        if (wal->io->rename(wal->io, wal->dirfd, name, tmp) == -1) {
            if (errno == ENOENT) {
                continue;
            }

            rc = kv_wal_rc();
            break;
        }

        *fd = wal->io->open(wal->io, wal->dirfd, tmp, O_RDWR);

        if (*fd == -1) {
            saved = errno;
            (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
            errno = saved;
            rc = kv_wal_rc();
            break;
        }

        if (kv_wal_fits(wal, *fd) == 1) {
            rc = KV_OK;
            break;
        }

        (void) wal->io->close(wal->io, *fd);
        (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
    }

    free(names);

    return rc;
}


/* Turns a segment into the spare `n`, if its size is right. */

static bool
kv_wal_recycle(kv_wal_t *wal, uint64_t lsn, uint64_t n)
{
    char  name[KV_NAME_MAX], spare[KV_NAME_MAX];

    (void) kv_wal_name(name, KV_WAL_SEGMENT, lsn);
    (void) kv_wal_name(spare, KV_WAL_SPARE, n);

    return kv_wal_usable(wal, name) == 1
           && wal->io->rename(wal->io, wal->dirfd, name, spare) == 0;
}


/* 1 if a segment can be made of the file, 0 if not, -1 on error. */

static int
kv_wal_usable(kv_wal_t *wal, const char *name)
{
    int  fd, rc;

    fd = wal->io->open(wal->io, wal->dirfd, name, O_RDONLY);

    if (fd == -1) {
        return -1;
    }

    rc = kv_wal_fits(wal, fd);

    (void) wal->io->close(wal->io, fd);

    return rc;
}


/* The size must be right, and nobody have a copy that is a name for it. */

static int
kv_wal_fits(kv_wal_t *wal, int fd)
{
    off_t  size;

    size = wal->io->size(wal->io, fd);

    if (size == -1) {
        return -1;
    }

    return size == (off_t) wal->segment_size
           && (wal->io->links == NULL || wal->io->links(wal->io, fd) == 1);
}


/* How many spares there are, and a number above all of theirs. */

static uint64_t
kv_wal_free_spare(const kv_wal_name_t *names, size_t n, unsigned *spares)
{
    size_t    i;
    uint64_t  number;

    *spares = 0;
    number = 0;

    for (i = 0; i < n; i++) {
        if (names[i].kind == KV_WAL_SPARE) {
            number = names[i].number + 1;
            (*spares)++;
        }
    }

    return number;
}


char *
kv_wal_name(char *buf, kv_wal_file_t kind, uint64_t number)
{
    (void) snprintf(buf, KV_NAME_MAX, kv_wal_formats[kind], number);

    return buf;
}


kv_rc_t
kv_wal_list(kv_wal_t *wal, kv_wal_name_t **names, size_t *n)
{
    int             saved;
    kv_wal_names_t  list;

    memset(&list, 0, sizeof(list));

    if (wal->io->list(wal->io, wal->dirfd, kv_wal_list_cb, &list) == -1) {
        saved = errno;
        free(list.names);
        errno = saved;
        return kv_wal_rc();
    }

    if (list.failed) {
        free(list.names);
        errno = ENOMEM;
        return KV_AGAIN;
    }

    if (list.n > 1) {
        qsort(list.names, list.n, sizeof(kv_wal_name_t), kv_wal_compare);
    }

    *names = list.names;
    *n = list.n;

    return KV_OK;
}


static void
kv_wal_list_cb(void *ctx, const char *name)
{
    size_t           max;
    kv_wal_name_t    parsed, *names;
    kv_wal_names_t  *list = ctx;

    if (!kv_wal_parse(name, &parsed)) {
        return;
    }

    if (list->n == list->max) {
        max = list->max ? 2 * list->max : 32;
        names = realloc(list->names, max * sizeof(kv_wal_name_t));

        if (names == NULL) {
            list->failed = true;
            return;
        }

        list->names = names;
        list->max = max;
    }

    list->names[list->n++] = parsed;
}


/* Only names that kv_wal_name() makes are the log's. */

static bool
kv_wal_parse(const char *name, kv_wal_name_t *parsed)
{
    char      again[KV_NAME_MAX];
    unsigned  kind;

    for (kind = KV_WAL_SEGMENT; kind <= KV_WAL_CLOSED; kind++) {

        parsed->kind = kind;
        parsed->number = kind < KV_WAL_SPARE || kind == KV_WAL_CLOSED
                         ? strtoull(name + kv_min(strlen(name), 4u), NULL, 16)
                         : strtoull(name + kv_min(strlen(name), 6u), NULL, 10);

        if (strcmp(kv_wal_name(again, kind, parsed->number), name) == 0) {

            /* 0 is no LSN, and the reader takes UINT64_MAX for no limit */

            return kind != KV_WAL_SEGMENT
                   || (parsed->number > 0 && parsed->number < UINT64_MAX);
        }
    }

    return false;
}


static int
kv_wal_compare(const void *one, const void *two)
{
    const kv_wal_name_t  *a = one;
    const kv_wal_name_t  *b = two;

    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }

    return a->number < b->number ? -1 : a->number > b->number;
}


int
kv_wal_open(kv_wal_t *wal, uint64_t lsn, uint8_t *buf, uint64_t *size)
{
    int      fd, saved;
    char     name[KV_NAME_MAX];
    off_t    bytes;
    ssize_t  n;

    (void) kv_wal_name(name, KV_WAL_SEGMENT, lsn);

    fd = wal->io->open(wal->io, wal->dirfd, name, O_RDWR);

    if (fd == -1) {
        return -1;
    }

    bytes = wal->io->size(wal->io, fd);
    n = bytes == -1 ? -1
                    : kv_io_read(wal->io, fd, buf, KV_SEGMENT_HEADER, 0);

    if (n == -1) {
        saved = errno;
        (void) wal->io->close(wal->io, fd);
        errno = saved;
        return -1;
    }

    memset(buf + n, 0, KV_SEGMENT_HEADER - (size_t) n);
    *size = (uint64_t) bytes;

    return fd;
}


kv_rc_t
kv_wal_leave_closed(kv_wal_t *wal, kv_err_t *err)
{
    kv_rc_t          rc;
    kv_closed_t      closed;
    kv_wal_state_t  *state;

    state = wal->state;

    kv_wal_settle(state);

    if (state->segment_size == 0) {
        return KV_OK;
    }

    rc = kv_wal_mark(wal, err);

    if (rc == KV_OK) {
        rc = kv_wal_sync(wal, err);
    }

    if (rc != KV_OK) {
        return rc;
    }

    memset(&closed, 0, sizeof(closed));

    memcpy(closed.magic, KV_CLOSED_MAGIC, sizeof(closed.magic));
    closed.version = KV_FORMAT_VERSION;
    closed.lsn = state->next_lsn - 1;
    closed.segment_lsn = state->segment_lsn;
    closed.segment_salt = state->segment_salt;
    closed.offset = state->offset;
    closed.crc = kv_crc32c(0, &closed, sizeof(closed));

    return kv_wal_write_closed(wal, &closed, err);
}


kv_rc_t
kv_wal_open_again(kv_wal_t *wal, kv_err_t *err)
{
    bool                stays;
    char                name[KV_NAME_MAX];
    size_t              i, n;
    kv_rc_t             rc;
    kv_wal_name_t      *names;
    kv_wal_state_t     *state;
    kv_wal_position_t   to;

    state = wal->state;
    stays = false;

    rc = kv_wal_list(wal, &names, &n);

    if (rc != KV_OK) {
        goto failed;
    }

    for (i = 0; i < n; i++) {

        if (names[i].kind != KV_WAL_CLOSED) {
            continue;
        }

        (void) kv_wal_name(name, KV_WAL_CLOSED, names[i].number);

        if (wal->io->unlink(wal->io, wal->dirfd, name) == -1
            && errno != ENOENT)
        {
            stays = true;
        }
    }

    free(names);

    if (kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK) {
        rc = kv_wal_rc();
        goto failed;
    }

    if (stays) {
        to.segment_lsn = state->segment_lsn;
        to.segment_salt = state->segment_salt;
        to.segment_size = state->segment_size;
        to.offset = state->segment_size;
        to.next_lsn = state->next_lsn;

        kv_wal_move(state, &to);
    }

    atomic_store(&state->closed, 0);

    return KV_OK;

failed:

    kv_err_set(err, "the note of the log's last end, log-*.closed, cannot be "
               "deleted: %s", strerror(errno));

    return rc;
}


static kv_rc_t
kv_wal_write_closed(kv_wal_t *wal, const kv_closed_t *closed, kv_err_t *err)
{
    int      fd, saved;
    char     tmp[KV_NAME_MAX], name[KV_NAME_MAX];
    kv_rc_t  rc;

    (void) kv_wal_name(tmp, KV_WAL_SEGMENT_TMP, closed->lsn);
    (void) kv_wal_name(name, KV_WAL_CLOSED, closed->lsn);

    (void) wal->io->unlink(wal->io, wal->dirfd, tmp);

    fd = wal->io->open(wal->io, wal->dirfd, tmp, O_WRONLY|O_CREAT|O_EXCL);

    if (fd == -1) {
        rc = kv_wal_rc();
        goto failed;
    }

    rc = kv_io_write(wal->io, fd, closed, sizeof(*closed), 0);

    if (rc == KV_OK && wal->io->fsync(wal->io, fd) == -1) {
        rc = kv_wal_rc();
    }

    saved = errno;
    (void) wal->io->close(wal->io, fd);
    errno = saved;

    if (rc == KV_OK
        && (wal->io->rename(wal->io, wal->dirfd, tmp, name) == -1
            || kv_io_sync_dir(wal->io, wal->dirfd) != KV_OK))
    {
        rc = kv_wal_rc();
    }

    if (rc == KV_OK) {
        return KV_OK;
    }

    saved = errno;
    (void) wal->io->unlink(wal->io, wal->dirfd, tmp);
    errno = saved;

failed:

    kv_err_set(err, "%s: it cannot be written: %s", name, strerror(errno));

    return rc;
}


kv_rc_t
kv_wal_read_closed(kv_wal_t *wal, uint64_t lsn, kv_closed_t *closed)
{
    int       fd, saved;
    char      name[KV_NAME_MAX];
    ssize_t   n;
    uint32_t  crc;

    fd = wal->io->open(wal->io, wal->dirfd,
                       kv_wal_name(name, KV_WAL_CLOSED, lsn), O_RDONLY);

    if (fd == -1) {
        return KV_ERROR;
    }

    n = kv_io_read(wal->io, fd, closed, sizeof(*closed), 0);

    saved = errno;
    (void) wal->io->close(wal->io, fd);
    errno = saved;

    if (n == -1) {
        return KV_ERROR;
    }

    if (n != (ssize_t) sizeof(*closed)) {
        return KV_DAMAGED;
    }

    crc = closed->crc;
    closed->crc = 0;

    return memcmp(closed->magic, KV_CLOSED_MAGIC, sizeof(closed->magic)) == 0
           && closed->version == KV_FORMAT_VERSION
           && kv_crc32c(0, closed, sizeof(*closed)) == crc
           && closed->lsn == lsn
           ? KV_OK : KV_DAMAGED;
}


uint32_t
kv_wal_header_crc(const uint8_t *buf)
{
    uint32_t      crc;
    const size_t  field = offsetof(kv_segment_header_t, crc);

    static const uint8_t  zeroes[sizeof(uint32_t)];

    crc = kv_crc32c(0, buf, field);
    crc = kv_crc32c(crc, zeroes, sizeof(zeroes));
    return kv_crc32c(crc, buf + field + sizeof(zeroes),
                     KV_SEGMENT_HEADER - field - sizeof(zeroes));
}


kv_rc_t
kv_wal_rc(void)
{
    return kv_io_rc(errno);
}
