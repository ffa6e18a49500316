
/*
 * What the files of the data directory share: kv_dir.c finds and makes it,
 * kv_dir_lock.c locks it, kv_dir_owner.c gives it to the workers' user,
 * kv_dir_undo.c takes all that back, and all of them use kv_dir_files.c.
 */


#ifndef KV_DIR_PRIVATE_H
#define KV_DIR_PRIVATE_H


#include <sys/stat.h>

#include "disk/kv_dir.h"


/* What a file in the directory is, by its name. */

typedef enum {
    KV_FILE_OTHER = 0,                   /* nothing of ours */
    KV_FILE_HARMLESS,                    /* may be in an empty volume */
    KV_FILE_LOCK,
    KV_FILE_SEGMENT,
    KV_FILE_SNAPSHOT,
    KV_FILE_CLOSED,                      /* the note of a clean end */
    KV_FILE_SCRAP,                       /* can be deleted: spare, temporary */
    KV_FILE_PUT_ASIDE                    /* ours, not in use any more */
} kv_file_t;


/* A kind, in kv_dir_found_t.files. */
#define kv_file_bit(file)  (1u << (file))


typedef kv_rc_t (*kv_dir_each_pt)(void *ctx, const char *name);


/*
 * Refuses a directory that has files, but none that is surely ours.  KV_OK with
 * *found filled, or KV_ERROR with `err` filled.
 */
kv_rc_t kv_dir_inspect(int dirfd, const char *path, kv_dir_found_t *found,
    kv_err_t *err);

/*
 * Calls `each` for every name until it returns something other than KV_OK, and
 * returns that; also KV_ERROR with errno set, if the directory cannot be
 * listed.
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
