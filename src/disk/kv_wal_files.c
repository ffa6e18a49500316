
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


static const char  *kv_wal_formats[] = {
    "log-%016" PRIx64 ".kvl",
    "log-%016" PRIx64 ".tmp",
    "spare-%" PRIu64 ".kvl",
    "spare-%" PRIu64 ".tmp",
    "log-%016" PRIx64 ".closed"
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
