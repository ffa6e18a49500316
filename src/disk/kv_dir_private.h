
/*
 * What the files of the data directory share: kv_dir.c finds and makes it,
 * kv_dir_lock.c locks it, kv_dir_owner.c gives it to the workers' user, and
 * they all stand on kv_dir_files.c.
 */


#ifndef KV_DIR_PRIVATE_H
#define KV_DIR_PRIVATE_H


#include <sys/stat.h>

#include "disk/kv_dir.h"


/* What a name in the directory says that the file is. */

typedef enum {
    KV_FILE_OTHER = 0,                   /* nothing of ours */
    KV_FILE_HARMLESS,                    /* what is in an empty volume */
    KV_FILE_LOCK,
    KV_FILE_SEGMENT,
    KV_FILE_SNAPSHOT,
    KV_FILE_CLOSED,                      /* the note of a clean end */
    KV_FILE_SCRAP,                       /* can be deleted: spare, temporary */
    KV_FILE_PUT_ASIDE                    /* of ours, not in use any more */
} kv_file_t;


typedef kv_rc_t (*kv_dir_each_pt)(void *ctx, const char *name);


/*
 * Refuses a directory that has files, and none of them is ours for sure.  KV_OK
 * or KV_ERROR, with `err` filled.
 */
kv_rc_t kv_dir_inspect(int dirfd, const char *path, kv_err_t *err);

/*
 * Calls for every name until a result is not KV_OK, and returns that; KV_ERROR
 * with errno set, too, if the directory cannot be listed.
 */
kv_rc_t kv_dir_each(int dirfd, kv_dir_each_pt each, void *ctx);

kv_file_t kv_dir_file(const char *name);

/* Whether the file begins as a segment, a snapshot or a note does. */
bool kv_dir_magic(int fd, kv_file_t file);

/*
 * Opens a regular file, made with mode 0600 if `flags` say so, and fills *st.
 * Returns the descriptor; else -1, with errno EINVAL if it is something else.
 */
int kv_dir_open_file(int dirfd, const char *name, int flags, struct stat *st);

/* "cannot <what> the directory "<path>"", and errno's text: KV_ERROR. */
kv_rc_t kv_dir_failed(kv_err_t *err, const char *what, const char *path);


#endif /* KV_DIR_PRIVATE_H */
