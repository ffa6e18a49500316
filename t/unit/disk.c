
/*
 * A disk in memory, and power cuts; see disk.h.
 */


#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "disk.h"


/* a bit for each sector of a page */
#define DISK_WHOLE  ((1u << DISK_PAGE / DISK_SECTOR) - 1)


/* How much of what is not safe a cut leaves, in percent; one for each file. */

static const unsigned  disk_chances[] = { 0, 0, 10, 50, 50, 90, 100, 100 };

static const uint8_t  disk_zeroes[DISK_PAGE];

/* Pages come and go by the million: they are kept. */

static disk_page_t  *disk_free_pages;


uint64_t
disk_random(uint64_t *seed, uint64_t n)
{
    uint64_t  z;

    *seed += UINT64_C(0x9e3779b97f4a7c15);

    z = *seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);

    return (z ^ (z >> 31)) % n;
}


static bool
disk_chance(uint64_t *seed, unsigned percent)
{
    return disk_random(seed, 100) < percent;
}


static unsigned
disk_some_chance(uint64_t *seed)
{
    return disk_chances[disk_random(seed, sizeof(disk_chances)
                                          / sizeof(disk_chances[0]))];
}


/* Grows an array for one more element of `size` bytes. */

static void *
disk_more(void *p, size_t n, size_t *max, size_t size)
{
    if (n < *max) {
        return p;
    }

    *max = kv_max(2 * *max, (size_t) 16);
    p = realloc(p, *max * size);
    assert(p);

    return p;
}


/* ---- contents */


static disk_page_t *
disk_page_ref(disk_page_t *page)
{
    if (page) {
        page->refs++;
    }

    return page;
}


static void
disk_page_unref(disk_page_t *page)
{
    if (page && --page->refs == 0) {
        page->next = disk_free_pages;
        disk_free_pages = page;
    }
}


static disk_page_t *
disk_page_copy(const disk_page_t *from)
{
    disk_page_t  *page;

    page = disk_free_pages;

    if (page) {
        disk_free_pages = page->next;

    } else {
        page = malloc(sizeof(disk_page_t));
        assert(page);
    }

    memcpy(page->bytes, from ? from->bytes : disk_zeroes, DISK_PAGE);
    page->refs = 1;

    return page;
}


/* The page's place in the table, which is made long enough. */

static disk_page_t **
disk_place(disk_bytes_t *b, size_t i)
{
    size_t  n;

    if (i >= b->n) {
        n = kv_max(i + 1, kv_align(b->size, (size_t) DISK_PAGE) / DISK_PAGE);

        b->page = realloc(b->page, n * sizeof(disk_page_t *));
        assert(b->page);

        memset(b->page + b->n, 0, (n - b->n) * sizeof(disk_page_t *));
        b->n = n;
    }

    return &b->page[i];
}


static void
disk_share_page(disk_bytes_t *b, size_t i, disk_page_t *page)
{
    disk_page_t  **place;

    place = disk_place(b, i);

    (void) disk_page_ref(page);
    disk_page_unref(*place);

    *place = page;
}


/* A page of its own, to be written to. */

static uint8_t *
disk_own_page(disk_bytes_t *b, size_t i)
{
    disk_page_t  *page, **place;

    place = disk_place(b, i);
    page = *place;

    if (page == NULL || page->refs > 1) {
        page = disk_page_copy(*place);
        disk_page_unref(*place);
        *place = page;
    }

    return page->bytes;
}


static void
disk_share(disk_bytes_t *to, const disk_bytes_t *from)
{
    size_t  i;

    *to = *from;

    if (from->n == 0) {
        to->page = NULL;
        return;
    }

    to->page = malloc(from->n * sizeof(disk_page_t *));
    assert(to->page);

    for (i = 0; i < from->n; i++) {
        to->page[i] = disk_page_ref(from->page[i]);
    }
}


static void
disk_drop(disk_bytes_t *b)
{
    size_t  i;

    for (i = 0; i < b->n; i++) {
        disk_page_unref(b->page[i]);
    }

    free(b->page);
    memset(b, 0, sizeof(disk_bytes_t));
}


/* Nothing stays behind the end: a file that grows again grows by zeroes. */

static void
disk_resize(disk_bytes_t *b, size_t size)
{
    size_t  i, used;

    b->size = size;
    i = size / DISK_PAGE;
    used = size % DISK_PAGE;

    if (used && i < b->n && b->page[i]) {
        memset(disk_own_page(b, i) + used, 0, DISK_PAGE - used);
    }

    for (i += used != 0; i < b->n; i++) {
        disk_share_page(b, i, NULL);
    }
}


static void
disk_put(disk_bytes_t *b, size_t offset, const uint8_t *data, size_t len)
{
    size_t  i, n, at;

    for ( /* void */ ; len; offset += n, data += n, len -= n) {

        i = offset / DISK_PAGE;
        at = offset % DISK_PAGE;
        n = kv_min(len, DISK_PAGE - at);

        if (*disk_place(b, i) || memcmp(data, disk_zeroes, n) != 0) {
            memcpy(disk_own_page(b, i) + at, data, n);
        }
    }
}


/* ---- names */


/* The name as it is kept, in `buf` of KV_NAME_MAX bytes. */

static const char *
disk_path(int dirfd, const char *name, char *buf)
{
    assert(dirfd == DISK_DIR || dirfd == DISK_ARCHIVE);

    (void) snprintf(buf, KV_NAME_MAX, "%s%s", dirfd == DISK_DIR ? "" : "a/",
                    name);

    return buf;
}


static int
disk_dir_of(const char *path)
{
    return strncmp(path, "a/", 2) == 0 ? DISK_ARCHIVE : DISK_DIR;
}


static disk_name_t *
disk_find(disk_names_t *names, const char *name)
{
    size_t  i;

    for (i = 0; i < names->n; i++) {
        if (strcmp(names->name[i].name, name) == 0) {
            return &names->name[i];
        }
    }

    return NULL;
}


static void
disk_remove(disk_names_t *names, disk_name_t *name)
{
    *name = names->name[--names->n];
}


static void
disk_bind(disk_names_t *names, const char *name, size_t file)
{
    disk_name_t  *place;

    place = disk_find(names, name);

    if (place == NULL) {
        names->name = disk_more(names->name, names->n, &names->max,
                                sizeof(disk_name_t));
        place = &names->name[names->n++];

        assert(strlen(name) < sizeof(place->name));
        (void) strcpy(place->name, name);
    }

    place->file = file;
}


static void
disk_copy_names(disk_names_t *to, const disk_names_t *from)
{
    memset(to, 0, sizeof(disk_names_t));

    for (size_t i = 0; i < from->n; i++) {
        disk_bind(to, from->name[i].name, from->name[i].file);
    }
}


/* Does what the record says, if that name is still that file's. */

static void
disk_change_names(disk_names_t *names, const disk_record_t *r)
{
    disk_name_t  *name;

    name = disk_find(names, r->name);

    if (r->kind == DISK_CREATE) {

        if (name == NULL) {
            disk_bind(names, r->name, r->file);
        }

        return;
    }

    if (name == NULL || name->file != r->file) {
        return;
    }

    disk_remove(names, name);

    if (r->kind == DISK_RENAME) {
        disk_bind(names, r->to, r->file);
    }
}


/* ---- the table */


static disk_fd_t *
disk_fd(disk_t *disk, int fd)
{
    assert(fd >= 0 && fd < (int) DISK_FDS && disk->fd[fd].used);

    return &disk->fd[fd];
}


static disk_file_t *
disk_file(disk_t *disk, int fd)
{
    return &disk->file[disk_fd(disk, fd)->file];
}


static void
disk_before(disk_t *disk)
{
    if (disk->before) {
        disk->before(disk->ctx);
    }
}


static disk_record_t *
disk_record(disk_t *disk, disk_kind_t kind, size_t file)
{
    disk_record_t  *r;

    disk->record = disk_more(disk->record, disk->records, &disk->records_max,
                             sizeof(disk_record_t));
    r = &disk->record[disk->records++];

    memset(r, 0, sizeof(disk_record_t));
    r->kind = kind;
    r->file = file;
    r->size = file < disk->files ? disk->file[file].now.size : 0;
    r->note = disk->note;
    r->seen = disk->seen;
    r->incarnation = disk->incarnation;
    r->known = disk->known;

    return r;
}


static size_t
disk_new_file(disk_t *disk)
{
    disk->file = disk_more(disk->file, disk->files, &disk->files_max,
                           sizeof(disk_file_t));
    memset(&disk->file[disk->files], 0, sizeof(disk_file_t));
    disk->file[disk->files].id = ++disk->ids;

    return disk->files++;
}


static int
disk_io_open(kv_io_t *io, int dirfd, const char *name, int flags)
{
    int            fd;
    char           path[KV_NAME_MAX];
    disk_t        *disk = (disk_t *) io;
    disk_name_t   *found;
    disk_record_t  r;

    assert(!(flags & O_TRUNC));

    name = disk_path(dirfd, name, path);

    if (flags & O_CREAT) {
        disk_before(disk);
    }

    found = disk_find(&disk->now, name);

    if (found ? (flags & O_CREAT) && (flags & O_EXCL) : !(flags & O_CREAT)) {
        errno = found ? EEXIST : ENOENT;
        return -1;
    }

    for (fd = 0; disk->fd[fd].used; fd++) {
        assert(fd + 1 < (int) DISK_FDS);
    }

    if (found == NULL) {
        r.file = disk_new_file(disk);
        disk_bind(&disk->now, name, r.file);
        (void) strcpy(disk_record(disk, DISK_CREATE, r.file)->name, name);
        found = disk_find(&disk->now, name);
    }

    disk->fd[fd].file = found->file;
    disk->fd[fd].used = true;
    disk->fd[fd].direct = false;

    return fd;
}


static int
disk_io_close(kv_io_t *io, int fd)
{
    disk_fd((disk_t *) io, fd)->used = false;

    return 0;
}


static ssize_t
disk_io_pread(kv_io_t *io, int fd, void *buf, size_t n, off_t offset)
{
    size_t          i, at, len, done;
    disk_bytes_t   *b;
    const uint8_t  *from;

    b = &disk_file((disk_t *) io, fd)->now;

    if ((size_t) offset >= b->size) {
        return 0;
    }

    n = kv_min(n, b->size - (size_t) offset);

    for (done = 0; done < n; done += len) {

        i = ((size_t) offset + done) / DISK_PAGE;
        at = ((size_t) offset + done) % DISK_PAGE;
        len = kv_min(n - done, DISK_PAGE - at);

        from = i < b->n && b->page[i] ? b->page[i]->bytes : disk_zeroes;
        memcpy((uint8_t *) buf + done, from + at, len);
    }

    return (ssize_t) n;
}


static ssize_t
disk_io_pwritev(kv_io_t *io, int fd, const struct iovec *iov, int n,
    off_t offset)
{
    int             i;
    size_t          len, first, pages, p;
    disk_t         *disk = (disk_t *) io;
    disk_bytes_t   *b;
    disk_record_t  *r;

    disk_before(disk);

    b = &disk_file(disk, fd)->now;
    len = 0;

    for (i = 0; i < n; i++) {

        assert(!disk_fd(disk, fd)->direct
               || ((uintptr_t) iov[i].iov_base % DISK_PAGE == 0
                   && iov[i].iov_len % DISK_PAGE == 0
                   && offset % DISK_PAGE == 0));

        disk_put(b, (size_t) offset + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
        b->size = kv_max(b->size, (size_t) offset + len);
    }

    assert(len);

    r = disk_record(disk, DISK_WRITE, disk_fd(disk, fd)->file);
    r->offset = (size_t) offset;
    r->len = len;

    first = r->offset / DISK_PAGE;
    pages = (r->offset + len - 1) / DISK_PAGE - first + 1;

    r->page = malloc(pages * sizeof(disk_page_t *));
    assert(r->page);

    for (p = 0; p < pages; p++) {
        r->page[p] = disk_page_ref(b->page[first + p]);
    }

    return (ssize_t) len;
}


static int
disk_io_sync(kv_io_t *io, int fd)
{
    disk_t  *disk = (disk_t *) io;

    disk_before(disk);

    if (fd == DISK_DIR || fd == DISK_ARCHIVE) {
        disk_record(disk, DISK_SYNC_NAMES, SIZE_MAX)->file = (size_t) fd;

    } else {
        (void) disk_record(disk, DISK_SYNC, disk_fd(disk, fd)->file);
    }

    return 0;
}


static int
disk_io_ftruncate(kv_io_t *io, int fd, off_t len)
{
    disk_t  *disk = (disk_t *) io;

    disk_before(disk);
    disk_resize(&disk_file(disk, fd)->now, (size_t) len);
    (void) disk_record(disk, DISK_RESIZE, disk_fd(disk, fd)->file);

    return 0;
}


static int
disk_io_fallocate(kv_io_t *io, int fd, off_t offset, off_t len)
{
    disk_bytes_t  *b;

    b = &disk_file((disk_t *) io, fd)->now;

    return disk_io_ftruncate(io, fd, kv_max((off_t) b->size, offset + len));
}


static int
disk_io_rename(kv_io_t *io, int dirfd, const char *from, const char *to)
{
    char            paths[2][KV_NAME_MAX];
    disk_t         *disk = (disk_t *) io;
    disk_name_t    *found;
    disk_record_t  *r;

    from = disk_path(dirfd, from, paths[0]);
    to = disk_path(dirfd, to, paths[1]);

    disk_before(disk);
    found = disk_find(&disk->now, from);

    if (found == NULL) {
        errno = ENOENT;
        return -1;
    }

    r = disk_record(disk, DISK_RENAME, found->file);
    (void) strcpy(r->name, from);
    (void) strcpy(r->to, to);

    disk_change_names(&disk->now, r);

    return 0;
}


static int
disk_io_unlink(kv_io_t *io, int dirfd, const char *name)
{
    char            path[KV_NAME_MAX];
    disk_t         *disk = (disk_t *) io;
    disk_name_t    *found;
    disk_record_t  *r;

    name = disk_path(dirfd, name, path);

    disk_before(disk);
    found = disk_find(&disk->now, name);

    if (found == NULL) {
        errno = ENOENT;
        return -1;
    }

    r = disk_record(disk, DISK_UNLINK, found->file);
    (void) strcpy(r->name, name);

    disk_change_names(&disk->now, r);

    return 0;
}


static int
disk_io_link(kv_io_t *io, int dirfd, const char *name, int todir,
    const char *to)
{
    char          paths[2][KV_NAME_MAX];
    disk_t       *disk = (disk_t *) io;
    disk_name_t  *found;

    to = disk_path(todir, to, paths[1]);

    disk_before(disk);
    found = disk_find(&disk->now, disk_path(dirfd, name, paths[0]));

    if (found == NULL || disk_find(&disk->now, to)) {
        errno = found ? EEXIST : ENOENT;
        return -1;
    }

    (void) strcpy(disk_record(disk, DISK_CREATE, found->file)->name, to);
    disk_bind(&disk->now, to, found->file);

    return 0;
}


static int
disk_io_links(kv_io_t *io, int fd)
{
    int      n;
    size_t   i, file;
    disk_t  *disk = (disk_t *) io;

    if (fd == DISK_DIR || fd == DISK_ARCHIVE) {
        return 2;
    }

    file = disk_fd(disk, fd)->file;
    n = 0;

    for (i = 0; i < disk->now.n; i++) {
        n += disk->now.name[i].file == file;
    }

    return n;
}


static off_t
disk_io_size(kv_io_t *io, int fd)
{
    return (off_t) disk_file((disk_t *) io, fd)->now.size;
}


static int
disk_io_list(kv_io_t *io, int dirfd, kv_io_list_pt cb, void *ctx)
{
    size_t       i;
    disk_t      *disk = (disk_t *) io;
    const char  *name;

    for (i = 0; i < disk->now.n; i++) {
        name = disk->now.name[i].name;

        if (disk_dir_of(name) == dirfd) {
            cb(ctx, dirfd == DISK_DIR ? name : name + 2);
        }
    }

    return 0;
}


static int
disk_io_direct(kv_io_t *io, int fd, bool on)
{
    disk_t  *disk = (disk_t *) io;

    if (on && !disk->can_direct) {
        errno = EINVAL;
        return -1;
    }

    disk_fd(disk, fd)->direct = on;

    return 0;
}


static uint64_t
disk_io_file_id(kv_io_t *io, int fd)
{
    return fd == DISK_DIR ? 1 : disk_file((disk_t *) io, fd)->id;
}


void
disk_init(disk_t *disk)
{
    memset(disk, 0, sizeof(disk_t));

    disk->ids = 1;

    disk->io.open = disk_io_open;
    disk->io.close = disk_io_close;
    disk->io.pread = disk_io_pread;
    disk->io.pwritev = disk_io_pwritev;
    disk->io.fdatasync = disk_io_sync;
    disk->io.fsync = disk_io_sync;
    disk->io.fallocate = disk_io_fallocate;
    disk->io.ftruncate = disk_io_ftruncate;
    disk->io.rename = disk_io_rename;
    disk->io.unlink = disk_io_unlink;
    disk->io.size = disk_io_size;
    disk->io.list = disk_io_list;
    disk->io.direct = disk_io_direct;
    disk->io.link = disk_io_link;
    disk->io.links = disk_io_links;
    disk->io.file_id = disk_io_file_id;
    disk->io.uid = (uid_t) -1;
    disk->io.gid = (gid_t) -1;
}


/* The pages that a write touched: the first one, and how many. */

static size_t
disk_touched(const disk_record_t *r, size_t *first)
{
    *first = r->offset / DISK_PAGE;

    return (r->offset + r->len - 1) / DISK_PAGE - *first + 1;
}


void
disk_clear(disk_t *disk)
{
    size_t          i, k, n, first;
    disk_record_t  *r;

    for (i = 0; i < disk->records; i++) {
        r = &disk->record[i];

        if (r->page == NULL) {
            continue;
        }

        n = disk_touched(r, &first);

        for (k = 0; k < n; k++) {
            disk_page_unref(r->page[k]);
        }

        free(r->page);
    }

    for (i = 0; i < disk->files; i++) {
        disk_drop(&disk->file[i].now);
        disk_drop(&disk->file[i].safe);
    }

    free(disk->file);
    free(disk->now.name);
    free(disk->safe.name);
    free(disk->record);
    free(disk->pending);

    memset(disk, 0, sizeof(disk_t));
}


unsigned
disk_open_fds(disk_t *disk)
{
    unsigned  i, n;

    for (i = 0, n = 0; i < DISK_FDS; i++) {
        n += disk->fd[i].used;
    }

    return n;
}


/* ---- cuts */


/*
 * Writes some of the sectors; a page without gaps is shared.  Returns how many
 * were not written.
 */

static size_t
disk_rewrite(disk_bytes_t *b, const disk_record_t *r, unsigned chance,
    uint64_t *seed)
{
    size_t        i, n, first, at, end, sector, from, to, kept, lost;
    disk_page_t  *page;

    n = disk_touched(r, &first);
    lost = 0;

    for (i = 0; i < n; i++) {

        page = r->page[i];
        at = (first + i) * DISK_PAGE;
        from = r->offset > at ? (r->offset - at) / DISK_SECTOR : 0;
        end = kv_min(r->offset + r->len - at, DISK_PAGE);
        to = (end + DISK_SECTOR - 1) / DISK_SECTOR;

        kept = 0;

        for (sector = from; sector < to; sector++) {
            if (disk_chance(seed, chance)) {
                kept |= (size_t) 1 << sector;

            } else {
                lost++;
            }
        }

        if (kept == DISK_WHOLE) {
            disk_share_page(b, first + i, page);
            continue;
        }

        for (sector = from; sector < to; sector++) {

            if (kept >> sector & 1) {
                memcpy(disk_own_page(b, first + i) + sector * DISK_SECTOR,
                       (page ? page->bytes : disk_zeroes)
                       + sector * DISK_SECTOR, DISK_SECTOR);
            }
        }
    }

    return lost;
}


/* One of the changes since the last sync, or a part of it; what was lost. */

static size_t
disk_redo(disk_bytes_t *b, const disk_record_t *r, unsigned chance,
    uint64_t *seed)
{
    size_t  lost;

    lost = r->kind == DISK_WRITE ? disk_rewrite(b, r, chance, seed) : 0;

    if (disk_chance(seed, chance)) {
        b->size = r->size;
    }

    return lost + (b->size != r->size);
}


/* All of it; earlier ones of this file were done before. */

static void
disk_redo_all(disk_bytes_t *b, const disk_record_t *r)
{
    size_t  i, n, first;

    if (r->kind == DISK_WRITE) {
        n = disk_touched(r, &first);

        for (i = 0; i < n; i++) {
            disk_share_page(b, first + i, r->page[i]);
        }
    }

    disk_resize(b, r->size);
}


/* Takes what a sync has reached from the pending records. */

static void
disk_settle(disk_t *disk, const disk_record_t *sync)
{
    bool            names;
    size_t          i, n;
    disk_record_t  *r;

    for (i = 0, n = 0; i < disk->pending_n; i++) {

        r = &disk->record[disk->pending[i]];
        names = r->kind >= DISK_CREATE;

        if (names != (sync->kind == DISK_SYNC_NAMES)
            || (names ? disk_dir_of(r->name) != (int) sync->file
                      : r->file != sync->file))
        {
            disk->pending[n++] = disk->pending[i];
            continue;
        }

        if (names) {
            disk_change_names(&disk->safe, r);

        } else {
            disk_redo_all(&disk->file[r->file].safe, r);
        }
    }

    disk->pending_n = n;
}


static void
disk_advance(disk_t *disk, size_t at)
{
    disk_record_t  *r;

    assert(at >= disk->past && at <= disk->records);

    for ( /* void */ ; disk->past < at; disk->past++) {

        r = &disk->record[disk->past];

        if (r->kind == DISK_SYNC || r->kind == DISK_SYNC_NAMES) {
            disk_settle(disk, r);
            continue;
        }

        disk->pending = disk_more(disk->pending, disk->pending_n,
                                  &disk->pending_max, sizeof(size_t));
        disk->pending[disk->pending_n++] = disk->past;
    }
}


size_t
disk_cut(disk_t *disk, size_t at, uint64_t *seed, disk_t *image)
{
    size_t          i, k, n, file, lost;
    unsigned        chance;
    disk_bytes_t   *b;
    disk_record_t  *r;

    disk_advance(disk, at);
    disk_init(image);

    disk_copy_names(&image->now, &disk->safe);
    chance = disk_some_chance(seed);
    lost = 0;

    for (i = 0; i < disk->pending_n; i++) {
        r = &disk->record[disk->pending[i]];

        if (r->kind < DISK_CREATE) {
            continue;
        }

        if (disk_chance(seed, chance)) {
            disk_change_names(&image->now, r);

        } else {
            lost++;
        }
    }

    image->ids = disk->ids;

    for (i = 0; i < image->now.n; i++) {

        file = image->now.name[i].file;

        for (n = 0; n < image->files; n++) {
            if (image->file[n].id == disk->file[file].id) {
                break;
            }
        }

        image->now.name[i].file = n;

        if (n < image->files) {

            /* it had another name before */

            continue;
        }

        (void) disk_new_file(image);
        image->file[n].id = disk->file[file].id;

        b = &image->file[n].now;
        disk_share(b, &disk->file[file].safe);
        chance = disk_some_chance(seed);

        for (k = 0; k < disk->pending_n; k++) {
            r = &disk->record[disk->pending[k]];

            if (r->file == file && r->kind < DISK_CREATE) {
                lost += disk_redo(b, r, chance, seed);
            }
        }

        disk_resize(b, b->size);
        disk_share(&image->file[n].safe, b);
    }

    disk_copy_names(&image->safe, &image->now);

    return lost;
}
