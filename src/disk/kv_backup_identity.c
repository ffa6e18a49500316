
/*
 * What is restored is another store: see "Identity" in kv_format.h.  Two that
 * come from one backup give out the same LSNs, each to writes of its own, and
 * nothing else tells their files apart.
 *
 * Nor is it a member of a cluster that the other one was of: term, vote and
 * members of the log are for those who look what was there.
 */


#include <errno.h>

#include "disk/kv_backup_private.h"
#include "disk/kv_snapshot_private.h"
#include "disk/kv_wal_private.h"


static bool kv_restore_segment(uint8_t *buf, const kv_restore_ids_t *ids);
static bool kv_restore_snapshot(uint8_t *buf, const kv_restore_ids_t *ids);


kv_rc_t
kv_restore_new_store(kv_identity_t *id, kv_restore_ids_t *ids)
{
    kv_rc_t        rc;
    kv_identity_t  other;

    memcpy(ids->was, id->store, sizeof(ids->was));
    memcpy(ids->is, id->store, sizeof(ids->is));

    /* files of format 1 name none, and get one when the store is started */

    if (id->store[0] == 0 && id->store[1] == 0) {
        return KV_OK;
    }

    rc = kv_wal_new_id(&other);

    if (rc == KV_OK) {
        memcpy(ids->is, other.store, sizeof(ids->is));
        memcpy(id->store, other.store, sizeof(id->store));
    }

    return rc;
}


kv_rc_t
kv_restore_set_store(kv_io_t *io, int fd, kv_backup_kind_t kind,
    const kv_restore_ids_t *ids)
{
    bool      changed;
    size_t    size;
    ssize_t   n;
    uint8_t   buf[KV_SEGMENT_HEADER];

    size = kind == KV_BACKUP_SEGMENT ? KV_SEGMENT_HEADER
                                     : sizeof(kv_snapshot_header_t);

    n = kv_io_read(io, fd, buf, size, 0);

    if (n == -1) {
        return kv_io_rc(errno);
    }

    /* a file that is not good is refused by who reads it */

    if (n != (ssize_t) size) {
        return KV_OK;
    }

    changed = kind == KV_BACKUP_SEGMENT ? kv_restore_segment(buf, ids)
                                        : kv_restore_snapshot(buf, ids);

    return changed ? kv_io_write(io, fd, buf, size, 0) : KV_OK;
}


static bool
kv_restore_segment(uint8_t *buf, const kv_restore_ids_t *ids)
{
    kv_segment_header_t  h;

    memcpy(&h, buf, sizeof(h));

    if (h.version == 1 || h.crc != kv_wal_header_crc(buf)
        || memcmp(h.id.store, ids->was, sizeof(h.id.store)) != 0)
    {
        return false;
    }

    memcpy(h.id.store, ids->is, sizeof(h.id.store));

    if (h.kind == KV_SEGMENT_REPLICATED) {
        h.kind = KV_SEGMENT_RESTORED;
    }

    h.crc = 0;
    memcpy(buf, &h, sizeof(h));

    h.crc = kv_wal_header_crc(buf);
    memcpy(buf, &h, sizeof(h));

    return true;
}


static bool
kv_restore_snapshot(uint8_t *buf, const kv_restore_ids_t *ids)
{
    kv_snapshot_header_t  h;

    memcpy(&h, buf, sizeof(h));

    if (h.version == 1 || h.crc != kv_snapshot_crc(h)
        || h.crc_all != kv_snapshot_crc_all(&h)
        || memcmp(h.id.store, ids->was, sizeof(h.id.store)) != 0)
    {
        return false;
    }

    memcpy(h.id.store, ids->is, sizeof(h.id.store));
    h.term = 0;
    h.index = 0;
    h.crc = kv_snapshot_crc(h);
    h.crc_all = kv_snapshot_crc_all(&h);
    memcpy(buf, &h, sizeof(h));

    return true;
}
