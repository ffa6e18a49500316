
/*
 * The log's files: their names, their list, a segment's header.
 */


#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/kv_crc32c.h"
#include "disk/kv_wal_private.h"


typedef struct {
    kv_wal_name_t  *names;
    size_t          n;
    size_t          max;
    bool            failed;
} kv_wal_names_t;


static void kv_wal_list_cb(void *ctx, const char *name);
static bool kv_wal_parse(const char *name, kv_wal_name_t *parsed);
static int kv_wal_compare(const void *one, const void *two);
static kv_rc_t kv_wal_replicated(kv_wal_t *wal, const kv_wal_name_t *names,
    size_t segments);


static const char  *kv_wal_formats[] = {
    "log-%016" PRIx64 ".kvl",
    "log-%016" PRIx64 ".tmp",
    "spare-%" PRIu64 ".kvl",
    "spare-%" PRIu64 ".tmp",
    "log-%016" PRIx64 ".closed",
    "log-%016" PRIx64 ".kvl"
};


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


kv_rc_t
kv_wal_set_stale(kv_wal_t *wal, kv_wal_name_t *names, size_t n)
{
    size_t                i, segments, kept;
    kv_rc_t               rc;
    uint32_t              highest;
    kv_wal_name_t         name;
    kv_entry_state_t      s;
    kv_segment_header_t   h;

    for (segments = 0; segments < n; segments++) {
        if (names[segments].kind != KV_WAL_SEGMENT) {
            break;
        }
    }

    rc = segments < 2 ? KV_DECLINED : kv_wal_replicated(wal, names, segments);

    if (rc != KV_OK) {
        return rc == KV_DECLINED ? KV_OK : rc;
    }

    highest = 0;
    kept = 0;

    for (i = 0; i < segments; i++) {
        name = names[kept];
        rc = kv_wal_read_start(wal, name.number, &h, &s, NULL);

        if (rc == KV_ERROR && errno != ENOENT) {
            return rc;
        }

        if (rc != KV_OK || h.kind != KV_SEGMENT_REPLICATED || s.number == 0)
        {
            kept++;
            continue;
        }

        if (s.number > highest) {
            highest = s.number;
            kept++;
            continue;
        }

        name.kind = KV_WAL_STALE;
        memmove(&names[kept], &names[kept + 1],
                (n - kept - 1) * sizeof(kv_wal_name_t));
        names[n - 1] = name;
    }

    return KV_OK;
}


/*
 * Whether a log is a replicated one: once it is, its last segment is of such a
 * log.  Any may be gone since it was listed, as others purge and give up
 * segments.  If the last one cannot be read, the one before tells: of a plain
 * log nothing is stale, and who reads the last one tells what is wrong with it.
 * KV_OK, KV_DECLINED: it is not; KV_ERROR with errno set.
 */

static kv_rc_t
kv_wal_replicated(kv_wal_t *wal, const kv_wal_name_t *names, size_t segments)
{
    int                   error;
    kv_rc_t               rc;
    kv_entry_state_t      s;
    kv_segment_header_t   h;

    for (error = 0; segments--; /* void */ ) {
        rc = kv_wal_read_start(wal, names[segments].number, &h, &s, NULL);

        if (rc == KV_ERROR && errno == ENOENT) {
            continue;
        }

        if (rc == KV_ERROR) {

            if (error) {
                return KV_ERROR;
            }

            error = errno;
            continue;
        }

        if (rc != KV_OK || h.kind != KV_SEGMENT_REPLICATED) {
            break;
        }

        errno = error;
        return error ? KV_ERROR : KV_OK;
    }

    return KV_DECLINED;
}


void
kv_wal_delete_stale(kv_wal_t *wal, const kv_wal_name_t *names, size_t n)
{
    char    name[KV_NAME_MAX];
    size_t  i;

    for (i = n; i > 0 && names[i - 1].kind == KV_WAL_STALE; i--) {
        (void) kv_wal_name(name, KV_WAL_STALE, names[i - 1].number);
        (void) wal->io->unlink(wal->io, wal->dirfd, name);
    }
}


kv_rc_t
kv_wal_read_start(kv_wal_t *wal, uint64_t lsn, kv_segment_header_t *h,
    kv_entry_state_t *s, uint64_t *commit)
{
    int                 fd, saved;
    ssize_t             n;
    uint8_t             buf[KV_SEGMENT_HEADER], state[KV_ENTRY_STATE_MAX];
    uint64_t            size;
    kv_batch_header_t   b;

    fd = kv_wal_open(wal, lsn, buf, &size);

    if (fd == -1) {
        return KV_ERROR;
    }

    memcpy(h, buf, sizeof(*h));

    n = h->kind == KV_SEGMENT_PLAIN
        ? 0 : kv_io_read(wal->io, fd, state, sizeof(state), KV_SEGMENT_HEADER);

    saved = errno;
    (void) wal->io->close(wal->io, fd);
    errno = saved;

    if (n == -1) {
        return KV_ERROR;
    }

    /* a power cut may give a recycled file its old name again */

    if (memcmp(h->magic, KV_SEGMENT_MAGIC, sizeof(h->magic)) != 0
        || h->first_lsn != lsn
        || h->crc != kv_wal_header_crc(buf)
        || n < (ssize_t) (sizeof(b) + sizeof(*s)))
    {
        return KV_NOT_FOUND;
    }

    memcpy(&b, state, sizeof(b));
    memcpy(s, state + sizeof(b), sizeof(*s));

    if (commit) {
        *commit = b.commit_index;
    }

    return b.magic == KV_BATCH_MAGIC && b.salt == h->salt
           && b.type == KV_ENTRY_STATE && b.len <= (size_t) n - sizeof(b)
           && b.crc == kv_crc32c(0, state + 8, sizeof(b) - 8 + b.len)
           ? KV_OK : KV_NOT_FOUND;
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


size_t
kv_wal_batch_header(uint32_t version)
{
    return version == 1 ? KV_BATCH_HEADER_1 : sizeof(kv_batch_header_t);
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
