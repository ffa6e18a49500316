
/*
 * What is in the data directory: names of ours and of others, and files that
 * root can open without harm.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/stat.h>

#include "disk/kv_dir_private.h"
#include "disk/kv_format.h"


typedef struct {
    int              fd;
    char             stranger[NAME_MAX + 1]; /* a file not ours; or "" */
    bool             ours;                   /* there is one that surely is */
    kv_dir_found_t  *found;
} kv_dir_inspect_t;


static kv_rc_t kv_dir_inspect_file(void *ctx, const char *name);


kv_rc_t
kv_dir_inspect(int dirfd, const char *path, kv_dir_found_t *found,
    kv_err_t *err)
{
    struct stat       st;
    kv_dir_inspect_t  inspect;

    memset(found, 0, sizeof(*found));

    if (fstat(dirfd, &st) == -1) {
        return kv_dir_failed(err, "stat", path);
    }

    found->uid = st.st_uid;
    found->gid = st.st_gid;
    found->mode = st.st_mode & 07777;

    memset(&inspect, 0, sizeof(inspect));
    inspect.fd = dirfd;
    inspect.found = found;

    if (kv_dir_each(dirfd, kv_dir_inspect_file, &inspect) != KV_OK) {
        return kv_dir_failed(err, "list", path);
    }

    if (inspect.stranger[0] && !inspect.ours) {
        kv_err_set(err, "cannot use the directory \"%s\": it is not empty, "
                   "and holds \"%.100s\" but no data of a kv_zone: give the "
                   "zone a directory of its own", path, inspect.stranger);
        return KV_ERROR;
    }

    return KV_OK;
}


static kv_rc_t
kv_dir_inspect_file(void *ctx, const char *name)
{
    kv_dir_inspect_t *inspect = ctx;

    int          fd;
    kv_file_t    file;
    struct stat  st;

    file = kv_dir_file(name);

    inspect->found->files |= kv_file_bit(file);

    if (strcmp(name, KV_ARCHIVE_NAME) == 0) {
        inspect->found->archive = true;
    }

    if (file == KV_FILE_OTHER && inspect->stranger[0] == '\0') {
        (void) snprintf(inspect->stranger, sizeof(inspect->stranger), "%s",
                        name);
    }

    if (inspect->ours
        || (file != KV_FILE_SEGMENT && file != KV_FILE_SNAPSHOT))
    {
        return KV_OK;
    }

    fd = kv_dir_open_file(inspect->fd, name, O_RDONLY, &st);

    if (fd != -1) {
        inspect->ours = kv_dir_magic(fd, file);
        (void) close(fd);
    }

    return KV_OK;
}


kv_rc_t
kv_dir_each(int dirfd, kv_dir_each_pt each, void *ctx)
{
    int             fd, saved;
    DIR            *dir;
    kv_rc_t         rc;
    struct dirent  *entry;

    fd = openat(dirfd, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return KV_ERROR;
    }

    dir = fdopendir(fd);

    if (dir == NULL) {
        saved = errno;
        (void) close(fd);
        errno = saved;
        return KV_ERROR;
    }

    rc = KV_OK;

    while (rc == KV_OK) {
        errno = 0;
        entry = readdir(dir);

        if (entry == NULL) {
            rc = errno ? KV_ERROR : KV_OK;
            break;
        }

        if (strcmp(entry->d_name, ".") != 0
            && strcmp(entry->d_name, "..") != 0)
        {
            rc = each(ctx, entry->d_name);
        }
    }

    saved = errno;
    (void) closedir(dir);
    errno = saved;

    return rc;
}


kv_file_t
kv_dir_file(const char *name)
{
    size_t       i, n;
    const char  *end;

    static const char  *harmless[] = {
        "lost+found", ".snapshot", ".zfs", ".gitkeep", ".gitignore", ".keep",
        KV_RESTORED_NAME, KV_ARCHIVE_NAME
    };

    if (strcmp(name, KV_DIR_LOCK) == 0) {
        return KV_FILE_LOCK;
    }

    for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        if (strcmp(name, harmless[i]) == 0) {
            return KV_FILE_HARMLESS;
        }
    }

    if (strncmp(name, "spare-", 6) == 0) {
        end = name + 6 + strspn(name + 6, "0123456789");

        return end > name + 6 && end[0] == '.' ? KV_FILE_SCRAP : KV_FILE_OTHER;
    }

    if (strncmp(name, "gap-", 4) == 0) {
        return strlen(name) == 37 && name[20] == '-'
               && strspn(name + 4, "0123456789abcdef") == 16
               && strspn(name + 21, "0123456789abcdef") == 16
               ? KV_FILE_PUT_ASIDE : KV_FILE_OTHER;
    }

    n = strncmp(name, "log-", 4) == 0 ? 4
        : strncmp(name, "snap-", 5) == 0 ? 5 : 0;

    if (n == 0 || strspn(name + n, "0123456789abcdef") != 16
        || name[n + 16] != '.')
    {
        return KV_FILE_OTHER;
    }

    end = name + n + 16;

    if (strcmp(end, ".tmp") == 0) {
        return KV_FILE_SCRAP;
    }

    if (n == 4 && strcmp(end, ".kvl") == 0) {
        return KV_FILE_SEGMENT;
    }

    if (n == 4 && strcmp(end, ".closed") == 0) {
        return KV_FILE_CLOSED;
    }

    if (n == 5 && strcmp(end, ".kvs") == 0) {
        return KV_FILE_SNAPSHOT;
    }

    return KV_FILE_PUT_ASIDE;
}


bool
kv_dir_magic(int fd, kv_file_t file)
{
    char         buf[8];
    const char  *magic;

    magic = file == KV_FILE_SEGMENT  ? KV_SEGMENT_MAGIC
          : file == KV_FILE_SNAPSHOT ? KV_SNAPSHOT_MAGIC
                                     : KV_CLOSED_MAGIC;

    return pread(fd, buf, sizeof(buf), 0) == (ssize_t) sizeof(buf)
           && memcmp(buf, magic, sizeof(buf)) == 0;
}


int
kv_dir_open_file(int dirfd, const char *name, int flags, struct stat *st)
{
    int  fd, error;

    fd = openat(dirfd, name,
                flags|O_NOFOLLOW|O_NONBLOCK|O_NOCTTY|O_CLOEXEC, 0600);

    if (fd == -1) {
        if (errno == ELOOP || errno == ENXIO || errno == EISDIR) {
            errno = EINVAL;
        }

        return -1;
    }

    if (fstat(fd, st) == 0) {

        if (S_ISREG(st->st_mode)) {
            return fd;
        }

        errno = EINVAL;
    }

    error = errno;
    (void) close(fd);
    errno = error;

    return -1;
}


kv_rc_t
kv_dir_failed(kv_err_t *err, const char *what, const char *path)
{
    kv_err_set(err, "cannot %s the directory \"%s\": %s", what, path,
               strerror(errno));

    return KV_ERROR;
}
