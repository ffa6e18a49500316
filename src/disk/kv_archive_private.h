
/*
 * What the files of the archive share.
 */


#ifndef KV_ARCHIVE_PRIVATE_H
#define KV_ARCHIVE_PRIVATE_H


#include "disk/kv_archive.h"
#include "disk/kv_wal_private.h"


/* The names of the segments in a directory, in order. */

typedef struct {
    kv_wal_name_t  *name;            /* the caller frees it */
    size_t          n;
} kv_archive_list_t;


/* KV_OK; KV_AGAIN or KV_ERROR, `err` filled, and there is nothing to free. */
kv_rc_t kv_archive_list(kv_archive_t *a, int dirfd, kv_archive_list_t *list,
    kv_err_t *err);

/* Whether a segment that begins with this LSN is there. */
bool kv_archive_has(const kv_archive_list_t *list, uint64_t lsn);

/*
 * Whether all that the archive has may be of the store's own history: KV_OK, or
 * KV_DAMAGED and the like, `err` filled.
 */
kv_rc_t kv_archive_strange(kv_archive_t *a, const kv_archive_list_t *data,
    const kv_archive_list_t *there, kv_err_t *err);

/* That file of the archive is of another history: KV_DAMAGED. */
kv_rc_t kv_archive_other(const char *name, kv_err_t *err);

/* The result of kv_io_rc(), with `err` filled. */
kv_rc_t kv_archive_failed(const char *what, const char *name, kv_err_t *err);


#endif /* KV_ARCHIVE_PRIVATE_H */
