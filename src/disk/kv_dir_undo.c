
/*
 * The data directory after a configuration that was refused: as it was.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>

#include "disk/kv_dir_private.h"


/* the kinds of files with what was written, or was read from such */
#define KV_DIR_DATA                                                           \
    (kv_file_bit(KV_FILE_SEGMENT) | kv_file_bit(KV_FILE_SNAPSHOT)             \
     | kv_file_bit(KV_FILE_CLOSED) | kv_file_bit(KV_FILE_PUT_ASIDE))


typedef struct {
    int                    fd;
    const kv_dir_found_t  *found;
} kv_dir_undo_t;


static kv_rc_t kv_dir_undo_file(void *ctx, const char *name);


void
kv_dir_undo(int dirfd, const kv_dir_found_t *found)
{
    kv_dir_undo_t  undo;

    undo.fd = dirfd;
    undo.found = found;

    (void) kv_dir_each(dirfd, kv_dir_undo_file, &undo);

    if ((found->files & KV_DIR_DATA) == 0) {
        (void) !fchmod(dirfd, found->mode);
        (void) !fchown(dirfd, found->uid, found->gid);
    }
}


static kv_rc_t
kv_dir_undo_file(void *ctx, const char *name)
{
    kv_dir_undo_t *undo = ctx;

    unsigned   bit;
    kv_file_t  file;

    file = kv_dir_file(name);
    bit = kv_file_bit(file);

    if (file == KV_FILE_HARMLESS) {
        if (strcmp(name, KV_ARCHIVE_NAME) != 0 || undo->found->archive) {
            return KV_OK;
        }

    } else if (file == KV_FILE_OTHER || (undo->found->files & bit)
               || ((bit & KV_DIR_DATA) && (undo->found->files & KV_DIR_DATA)))
    {
        return KV_OK;
    }

    (void) unlinkat(undo->fd, name, 0);

    return KV_OK;
}


void
kv_dir_remove(int dirfd, const char *name)
{
    int  fd;

    if (flock(dirfd, LOCK_EX|LOCK_NB) == -1) {
        return;
    }

    fd = openat(dirfd, "..", O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd != -1) {
        (void) unlinkat(fd, name, AT_REMOVEDIR);
        (void) close(fd);
    }
}
