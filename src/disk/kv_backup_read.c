
/*
 * Reading a backup: its parts, its digest, and what is in it.
 *
 * There is no second reader of snapshots and logs: the file is shown to those
 * of a directory as one, through a table of calls (kv_io.h).
 */


#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <sys/stat.h>

#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot.h"


/* descriptors of the files in it */
#define KV_BACKUP_FD  1000


static kv_rc_t kv_backup_open_file(kv_backup_reader_t *r, const char *path,
    uint64_t *size, kv_err_t *err);
static kv_rc_t kv_backup_read_header(kv_backup_reader_t *r, uint64_t size,
    kv_err_t *err);
static kv_rc_t kv_backup_read_parts(kv_backup_reader_t *r, kv_err_t *err);
static kv_rc_t kv_backup_read_part(kv_backup_reader_t *r, uint32_t i,
    uint64_t *offset, kv_err_t *err);
static const char *kv_backup_judge_part(const kv_backup_reader_t *r,
    const kv_backup_part_t *p, uint32_t i, uint64_t left);
static kv_rc_t kv_backup_get(kv_backup_reader_t *r, void *buf, size_t n,
    uint64_t offset, kv_err_t *err);
static kv_rc_t kv_backup_read_digest(kv_backup_reader_t *r, EVP_MD_CTX *ctx,
    uint8_t *buf, kv_err_t *err);
static kv_rc_t kv_backup_verify_snapshot(kv_backup_reader_t *r, kv_io_t *io,
    int dirfd, kv_err_t *err);
static kv_rc_t kv_backup_verify_log(kv_backup_reader_t *r, kv_io_t *io,
    int dirfd, kv_err_t *err);
static kv_rc_t kv_backup_seen(void *ctx, uint64_t lsn, const kv_record_t *rec);

static void kv_backup_view(kv_io_t *io);
static const kv_backup_file_t *kv_backup_of(kv_io_t *io, int fd);
static int kv_backup_view_open(kv_io_t *io, int dirfd, const char *name,
    int flags);
static int kv_backup_view_close(kv_io_t *io, int fd);
static ssize_t kv_backup_view_pread(kv_io_t *io, int fd, void *buf, size_t n,
    off_t offset);
static off_t kv_backup_view_size(kv_io_t *io, int fd);
static int kv_backup_view_list(kv_io_t *io, int dirfd, kv_io_list_pt cb,
    void *ctx);


kv_rc_t
kv_backup_check(const char *path, const kv_backup_watch_t *watch,
    kv_backup_header_t *header, kv_err_t *err)
{
    kv_rc_t             rc;
    kv_backup_reader_t  r;

    rc = kv_backup_open(&r, path, watch, 2, err);

    if (rc != KV_OK) {
        return rc;
    }

    rc = kv_backup_digest(&r, err);

    if (rc == KV_OK) {
        rc = kv_backup_verify(&r, &r.io, -1, err);
    }

    *header = r.header;

    kv_backup_close(&r);

    return rc;
}


void
kv_backup_name(char *name, kv_backup_kind_t kind, uint64_t lsn)
{
    (void) snprintf(name, KV_NAME_MAX, kind == KV_BACKUP_SNAPSHOT
                    ? KV_SNAPSHOT_NAME ".kvs" : "log-%016" PRIx64 ".kvl", lsn);
}


bool
kv_backup_parse(const char *name, kv_backup_kind_t *kind, uint64_t *lsn)
{
    char    again[KV_NAME_MAX];
    size_t  n;

    *kind = strncmp(name, "snap-", 5) == 0 ? KV_BACKUP_SNAPSHOT
                                           : KV_BACKUP_SEGMENT;

    n = *kind == KV_BACKUP_SNAPSHOT ? 5 : 4;
    *lsn = strlen(name) > n ? strtoull(name + n, NULL, 16) : 0;

    kv_backup_name(again, *kind, *lsn);

    return strcmp(again, name) == 0;
}


kv_rc_t
kv_backup_open(kv_backup_reader_t *r, const char *path,
    const kv_backup_watch_t *watch, unsigned passes, kv_err_t *err)
{
    kv_rc_t   rc;
    uint64_t  size;

    size = 0;
    memset(r, 0, sizeof(*r));

    r->watch = watch;
    r->fd = -1;

    kv_backup_view(&r->io);

    rc = kv_backup_open_file(r, path, &size, err);

    if (rc == KV_OK) {
        rc = kv_backup_read_header(r, size, err);
    }

    if (rc == KV_OK) {
        rc = kv_backup_read_parts(r, err);
    }

    r->all = passes * r->header.bytes;

    if (rc != KV_OK) {
        kv_backup_close(r);
    }

    return rc;
}


void
kv_backup_close(kv_backup_reader_t *r)
{
    if (r->fd != -1) {
        (void) close(r->fd);
        r->fd = -1;
    }

    free(r->file);
    r->file = NULL;
}


static kv_rc_t
kv_backup_open_file(kv_backup_reader_t *r, const char *path, uint64_t *size,
    kv_err_t *err)
{
    struct stat  st;

    r->fd = open(path, O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC);

    if (r->fd == -1 || fstat(r->fd, &st) == -1) {
        kv_err_set(err, "the backup cannot be opened: %s", strerror(errno));
        return KV_ERROR;
    }

    if (!S_ISREG(st.st_mode)) {
        kv_err_set(err, "it is no regular file: give the file that was "
                   "fetched from /backup");
        return KV_ERROR;
    }

    *size = (uint64_t) st.st_size;

    return KV_OK;
}


static kv_rc_t
kv_backup_read_header(kv_backup_reader_t *r, uint64_t size, kv_err_t *err)
{
    kv_rc_t              rc;
    kv_backup_header_t  *h;

    h = &r->header;

    if (size < sizeof(*h)) {
        return kv_backup_damaged(size, err, "the file ends here: it is no "
                                 "backup, or was cut off");
    }

    rc = kv_backup_get(r, h, sizeof(*h), 0, err);

    if (rc != KV_OK) {
        return rc;
    }

    if (memcmp(h->magic, KV_BACKUP_MAGIC, sizeof(h->magic)) != 0) {
        return kv_backup_damaged(0, err, "this is no backup: give the file "
                                 "that was fetched from /backup");
    }

    if (h->crc != kv_backup_header_crc(*h)) {
        return kv_backup_damaged(0, err, "the header's checksum is wrong");
    }

    if (h->version != KV_BACKUP_VERSION) {
        kv_err_set(err, "offset 8: format version %" PRIu32 ", of which this "
                   "program knows nothing (its own is %u): use the one of the "
                   "module that made it", h->version, KV_BACKUP_VERSION);
        return KV_DAMAGED;
    }

    if (h->parts == 0 || h->parts > KV_BACKUP_PARTS_MAX) {
        return kv_backup_damaged(72, err, "no backup has that many parts");
    }

    if (h->lsn < h->snapshot_lsn || h->lsn > KV_LSN_MAX) {
        return kv_backup_damaged(48, err, "the last LSN cannot be right");
    }

    if (size < h->bytes) {
        return kv_backup_damaged(size, err, "the file ends here: it was "
                                 "cut off, fetch it again");
    }

    if (size > h->bytes) {
        return kv_backup_damaged(h->bytes, err, "the file goes on behind "
                                 "the end of the backup");
    }

    return KV_OK;
}


static kv_rc_t
kv_backup_read_parts(kv_backup_reader_t *r, kv_err_t *err)
{
    kv_rc_t   rc;
    uint32_t  i;
    uint64_t  offset;

    r->files = r->header.parts - 1;
    r->file = calloc(r->files + 1, sizeof(kv_backup_file_t));

    if (r->file == NULL) {
        kv_err_set(err, "out of memory");
        return KV_AGAIN;
    }

    offset = sizeof(kv_backup_header_t);
    rc = KV_OK;

    for (i = 0; i < r->header.parts && rc == KV_OK; i++) {
        rc = kv_backup_read_part(r, i, &offset, err);
    }

    if (rc == KV_OK && offset != r->header.bytes) {
        return kv_backup_damaged(offset, err, "the parts end here, and the "
                                 "file does not");
    }

    return rc;
}


static kv_rc_t
kv_backup_read_part(kv_backup_reader_t *r, uint32_t i, uint64_t *offset,
    kv_err_t *err)
{
    kv_rc_t            rc;
    const char        *wrong;
    kv_backup_part_t   p;
    kv_backup_file_t  *f;

    if (r->header.bytes - *offset < sizeof(p)) {
        return kv_backup_damaged(*offset, err, "a part is missing here");
    }

    rc = kv_backup_get(r, &p, sizeof(p), *offset, err);

    if (rc != KV_OK) {
        return rc;
    }

    wrong = kv_backup_judge_part(r, &p, i,
                                 r->header.bytes - *offset - sizeof(p));

    if (wrong) {
        return kv_backup_damaged(*offset, err, wrong);
    }

    *offset += sizeof(p);

    if (p.kind != KV_BACKUP_END) {
        f = &r->file[i];

        f->kind = p.kind;
        f->lsn = p.lsn;
        f->offset = *offset;
        f->len = p.len;
        kv_backup_name(f->name, f->kind, f->lsn);
    }

    *offset += p.len;

    return KV_OK;
}


/* What is wrong with the header of part `i`, behind which are `left` bytes. */

static const char *
kv_backup_judge_part(const kv_backup_reader_t *r, const kv_backup_part_t *p,
    uint32_t i, uint64_t left)
{
    bool  first, last;

    if (p->magic != KV_BACKUP_PART_MAGIC) {
        return "no part begins here";
    }

    if (p->crc != kv_backup_part_crc(p)) {
        return "the checksum of the part's header is wrong";
    }

    if (p->zero || p->len % 8 || p->len > left) {
        return "the part's length is wrong";
    }

    first = i == 0 && r->header.snapshot_lsn;
    last = i + 1 == r->header.parts;

    if ((p->kind == KV_BACKUP_END) != last
        || (p->kind == KV_BACKUP_SNAPSHOT) != first
        || p->kind < KV_BACKUP_SNAPSHOT || p->kind > KV_BACKUP_END)
    {
        return "a part of that kind does not belong here";
    }

    if ((first && p->lsn != r->header.snapshot_lsn)
        || (last && (p->lsn != r->header.lsn || p->len != KV_BACKUP_DIGEST))
        || (p->kind == KV_BACKUP_SEGMENT
            && (p->lsn == 0 || p->lsn > r->header.lsn)))
    {
        return "the part is not the one that belongs here";
    }

    return NULL;
}


static kv_rc_t
kv_backup_get(kv_backup_reader_t *r, void *buf, size_t n, uint64_t offset,
    kv_err_t *err)
{
    ssize_t  got;

    do {
        got = pread(r->fd, buf, n, (off_t) offset);
    } while (got == -1 && errno == EINTR);

    if (got == -1) {
        kv_err_set(err, "offset %" PRIu64 ": reading the backup failed: %s",
                   offset, strerror(errno));
        return KV_ERROR;
    }

    if (got == 0) {
        return kv_backup_damaged(offset, err, "the file ends here");
    }

    /* a file may be read in pieces */

    return (size_t) got == n ? KV_OK
           : kv_backup_get(r, (uint8_t *) buf + got, n - (size_t) got,
                           offset + (uint64_t) got, err);
}


kv_rc_t
kv_backup_digest(kv_backup_reader_t *r, kv_err_t *err)
{
    kv_rc_t      rc;
    uint8_t     *buf;
    EVP_MD_CTX  *ctx;

    buf = malloc(KV_BACKUP_BLOCK);
    ctx = EVP_MD_CTX_new();

    if (buf == NULL || ctx == NULL
        || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
    {
        kv_err_set(err, "out of memory");
        rc = KV_AGAIN;

    } else {
        rc = kv_backup_read_digest(r, ctx, buf, err);
    }

    EVP_MD_CTX_free(ctx);
    free(buf);

    return rc;
}


static kv_rc_t
kv_backup_read_digest(kv_backup_reader_t *r, EVP_MD_CTX *ctx, uint8_t *buf,
    kv_err_t *err)
{
    size_t    n;
    kv_rc_t   rc;
    uint8_t   sum[KV_BACKUP_DIGEST], its[KV_BACKUP_DIGEST];
    uint64_t  offset, end;

    end = r->header.bytes - sizeof(sum);

    for (offset = 0; offset < end; offset += n) {

        n = (size_t) kv_min(end - offset, (uint64_t) KV_BACKUP_BLOCK);

        rc = kv_backup_get(r, buf, n, offset, err);

        if (rc == KV_OK) {
            rc = kv_backup_step(r, n);
        }

        if (rc != KV_OK) {
            return rc;
        }

        (void) EVP_DigestUpdate(ctx, buf, n);
    }

    (void) EVP_DigestFinal_ex(ctx, sum, NULL);

    rc = kv_backup_get(r, its, sizeof(its), end, err);

    if (rc == KV_OK && memcmp(sum, its, sizeof(sum)) != 0) {
        return kv_backup_damaged(end, err, "the SHA-256 of what is before "
                                 "is another one: the file was changed, fetch "
                                 "it again");
    }

    return rc;
}


kv_rc_t
kv_backup_verify(kv_backup_reader_t *r, kv_io_t *io, int dirfd, kv_err_t *err)
{
    kv_rc_t  rc;

    rc = KV_OK;

    if (r->header.snapshot_lsn) {
        rc = kv_backup_verify_snapshot(r, io, dirfd, err);
    }

    return rc == KV_OK ? kv_backup_verify_log(r, io, dirfd, err) : rc;
}


static kv_rc_t
kv_backup_verify_snapshot(kv_backup_reader_t *r, kv_io_t *io, int dirfd,
    kv_err_t *err)
{
    kv_rc_t   rc;
    uint64_t  end, bytes;

    rc = kv_snapshot_read(io, dirfd, r->header.snapshot_lsn, kv_backup_seen, r,
                          &end, &bytes, err);

    if (rc == KV_DECLINED) {
        return KV_DAMAGED;
    }

    if (rc == KV_OK && end > r->header.lsn) {
        kv_err_set(err, "the snapshot in it needs the log up to LSN %" PRIu64
                   ", which ends with %" PRIu64, end, r->header.lsn);
        return KV_DAMAGED;
    }

    return rc;
}


static kv_rc_t
kv_backup_verify_log(kv_backup_reader_t *r, kv_io_t *io, int dirfd,
    kv_err_t *err)
{
    size_t                   i, first;
    kv_rc_t                  rc;
    kv_wal_walk_t            walk;
    kv_snapshot_guess_t      guess;
    const kv_backup_file_t  *f;

    memset(&walk, 0, sizeof(walk));
    memset(&guess, 0, sizeof(guess));

    first = r->header.snapshot_lsn ? 1 : 0;

    if (first) {
        kv_snapshot_guess(io, dirfd, r->header.snapshot_lsn, &guess);
    }

    walk.io = io;
    walk.dirfd = dirfd;
    walk.after = r->header.snapshot_lsn;
    walk.upto = r->header.lsn;
    walk.id = guess.id;
    walk.record = kv_backup_seen;
    walk.ctx = r;

    rc = kv_wal_walk(&walk, err);

    for (i = 0; rc == KV_OK && i < kv_max(walk.n, r->files - first); i++) {

        f = &r->file[first + i];

        if (walk.n != r->files - first || f->lsn != walk.part[i].lsn
            || f->len != walk.part[i].bytes)
        {
            rc = kv_backup_damaged(f->offset, err, "the log in it has "
                                   "other segments than its parts say");
        }
    }

    if (rc == KV_OK
        && memcmp(&walk.id, &r->header.id, sizeof(walk.id)) != 0)
    {
        rc = kv_backup_damaged(16, err, "the files in it are of another "
                               "store, or another incarnation, than it says");
    }

    free(walk.part);

    return rc;
}


static kv_rc_t
kv_backup_seen(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    (void) lsn;

    return kv_backup_step(ctx, kv_record_size(rec));
}


kv_rc_t
kv_backup_step(kv_backup_reader_t *r, uint64_t n)
{
    r->done = kv_min(r->done + n, r->all);

    return r->watch == NULL
           || r->watch->step(r->watch->ctx, r->done, r->all)
           ? KV_OK : KV_CANCELLED;
}


kv_rc_t
kv_backup_damaged(uint64_t offset, kv_err_t *err, const char *what)
{
    kv_err_set(err, "offset %" PRIu64 ": %s", offset, what);

    return KV_DAMAGED;
}


/* The table of calls. */

static void
kv_backup_view(kv_io_t *io)
{
    kv_io_system(io);

    io->open = kv_backup_view_open;
    io->close = kv_backup_view_close;
    io->pread = kv_backup_view_pread;
    io->size = kv_backup_view_size;
    io->list = kv_backup_view_list;
    io->direct = NULL;
    io->links = NULL;
    io->named = NULL;
    io->file_id = NULL;
}


static const kv_backup_file_t *
kv_backup_of(kv_io_t *io, int fd)
{
    kv_backup_reader_t *r = (kv_backup_reader_t *) io;

    assert(fd >= KV_BACKUP_FD && fd - KV_BACKUP_FD < (int) r->files);

    return &r->file[fd - KV_BACKUP_FD];
}


static int
kv_backup_view_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    kv_backup_reader_t *r = (kv_backup_reader_t *) io;

    uint32_t  i;

    (void) dirfd;
    (void) flags;

    for (i = 0; i < r->files; i++) {
        if (strcmp(r->file[i].name, name) == 0) {
            return KV_BACKUP_FD + (int) i;
        }
    }

    errno = ENOENT;

    return -1;
}


static int
kv_backup_view_close(kv_io_t *io, int fd)
{
    (void) kv_backup_of(io, fd);

    return 0;
}


static ssize_t
kv_backup_view_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    uint64_t                 left;
    kv_backup_reader_t      *r;
    const kv_backup_file_t  *f;

    r = (kv_backup_reader_t *) io;
    f = kv_backup_of(io, fd);

    left = f->len - kv_min(f->len, (uint64_t) offset);

    return pread(r->fd, buf, (size_t) kv_min((uint64_t) n, left),
                 (off_t) f->offset + offset);
}


static off_t
kv_backup_view_size(kv_io_t *io, int fd)
{
    return (off_t) kv_backup_of(io, fd)->len;
}


static int
kv_backup_view_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    kv_backup_reader_t *r = (kv_backup_reader_t *) io;

    uint32_t  i;

    (void) dirfd;

    for (i = 0; i < r->files; i++) {
        cb(ctx, r->file[i].name);
    }

    return 0;
}
