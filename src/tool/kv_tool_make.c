
/*
 * A new store; see kv_tool_make.h.
 */


#include <errno.h>

#include "disk/kv_wal.h"
#include "tool/kv_tool_make.h"


/*
 * All keys are of one write, the first, so that the snapshot is that of a
 * moment: it needs no log.
 */
#define KV_TOOL_MAKE_LSN  1


kv_rc_t
kv_tool_make_begin(kv_tool_make_t *make, const char *path)
{
    kv_rc_t              rc;
    kv_err_t             err;
    kv_snapshot_about_t  about;

    memset(make, 0, sizeof(*make));

    /* before there is anything that would be left behind */

    kv_tool_catch();

    if (kv_tool_dir_make(&make->dir, path) != KV_OK) {
        return KV_ERROR;
    }

    memset(&about, 0, sizeof(about));
    about.lsn = KV_TOOL_MAKE_LSN;
    about.time_ms = kv_wall_ms();

    rc = kv_wal_new_id(&about.id);

    if (rc != KV_OK) {
        kv_err_set(&err, "the store can have no name: %s", strerror(errno));

    } else {
        rc = kv_snapshot_begin(&make->dir.io, make->dir.fd, &about,
                               &make->writer, &err);
    }

    if (rc != KV_OK) {
        kv_tool_say("%s: %s", path, err.text);
        kv_tool_dir_close(&make->dir, true);
        return KV_ERROR;
    }

    return KV_OK;
}


kv_rc_t
kv_tool_make_put(kv_tool_make_t *make, const char *key, size_t key_len,
    const kv_meta_t *meta, const char *value, size_t value_len,
    uint64_t expires)
{
    char          bytes[KV_META_MAX];
    kv_err_t      err;
    kv_record_t   rec;
    struct iovec  iov;

    iov.iov_base = (void *) value;
    iov.iov_len = value_len;

    memset(&rec, 0, sizeof(rec));

    rec.op = KV_OP_PUT;
    rec.flags = KV_RECORD_LSN | (expires ? KV_RECORD_EXPIRES : 0);
    rec.lsn = KV_TOOL_MAKE_LSN;
    rec.expires = expires;
    rec.key = key;
    rec.key_len = (uint16_t) key_len;
    rec.value = &iov;
    rec.value_n = 1;
    rec.value_len = (uint32_t) value_len;

    if (meta) {
        rec.flags |= KV_RECORD_META;
        rec.meta = bytes;
        rec.meta_len = kv_meta_write(meta, bytes);
    }

    if (kv_snapshot_add(make->writer, &rec, &err) != KV_OK) {
        kv_tool_say("%s: %s", make->dir.path, err.text);
        return KV_ERROR;
    }

    make->n++;

    return KV_OK;
}


kv_tool_exit_t
kv_tool_make_finish(kv_tool_make_t *make)
{
    kv_err_t  err;
    uint64_t  bytes;

    if (kv_snapshot_finish(make->writer, KV_TOOL_MAKE_LSN, &bytes, &err)
        != KV_OK)
    {
        kv_tool_say("%s: %s", make->dir.path, err.text);
        return kv_tool_make_abort(make);
    }

    kv_tool_dir_close(&make->dir, false);

    return KV_TOOL_GOOD;
}


kv_tool_exit_t
kv_tool_make_abort(kv_tool_make_t *make)
{
    kv_tool_progress_end();

    kv_snapshot_abort(make->writer);

    kv_tool_say("\"%s\" is %s as it was before: nothing of this was kept",
                make->dir.path, make->dir.made ? "not there," : "empty,");

    kv_tool_dir_close(&make->dir, true);

    kv_tool_end_stopped();

    return KV_TOOL_FAILED;
}
