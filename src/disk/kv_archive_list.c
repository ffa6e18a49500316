
/*
 * What is in an archive, or beside it, and what is said of it.
 */


#include <errno.h>
#include <string.h>

#include "disk/kv_archive_private.h"


kv_rc_t
kv_archive_list(kv_archive_t *a, int dirfd, kv_archive_list_t *list,
    kv_err_t *err)
{
    kv_rc_t   rc;
    kv_wal_t  wal;

    memset(&wal, 0, sizeof(wal));
    wal.io = a->io;
    wal.dirfd = dirfd;

    rc = kv_wal_list(&wal, &list->name, &list->n);

    if (rc != KV_OK) {
        (void) kv_archive_failed("list", ".", err);
        return rc;
    }

    while (list->n && list->name[list->n - 1].kind != KV_WAL_SEGMENT) {
        list->n--;
    }

    return KV_OK;
}


bool
kv_archive_has(const kv_archive_list_t *list, uint64_t lsn)
{
    size_t  low, high, i;

    low = 0;
    high = list->n;

    while (low < high) {
        i = low + (high - low) / 2;

        if (list->name[i].number == lsn) {
            return true;
        }

        if (list->name[i].number < lsn) {
            low = i + 1;

        } else {
            high = i;
        }
    }

    return false;
}


kv_rc_t
kv_archive_other(const char *name, kv_err_t *err)
{
    kv_err_set(err, "%s: that file of the archive is not the store's, as where "
               "an old copy was put back: give the zone a new archive", name);

    return KV_DAMAGED;
}


kv_rc_t
kv_archive_failed(const char *what, const char *name, kv_err_t *err)
{
    int      saved;
    kv_rc_t  rc;

    saved = errno;
    rc = kv_io_rc(saved);

    kv_err_set(err, "cannot %s \"%s\": %s; see to the archive's disk, and to "
               "the rights there", what, name, strerror(saved));

    errno = saved;

    return rc;
}
