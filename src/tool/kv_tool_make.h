
/*
 * A new store, made of keys and values: a directory with one snapshot.
 *
 * A snapshot gets its name when all of it is on the disk.  So what a kill or a
 * power cut leaves of a store that was being made is one that is empty, never a
 * part of the keys; what a signal or an error ends is taken away altogether.
 */


#ifndef KV_TOOL_MAKE_H
#define KV_TOOL_MAKE_H


#include "disk/kv_snapshot.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_dir.h"


typedef struct {
    kv_tool_dir_t          dir;
    kv_snapshot_writer_t  *writer;
    uint64_t               n;            /* puts so far */
} kv_tool_make_t;


/*
 * Begins it in a directory that is missing or empty.  From now on signals are
 * caught: once kv_tool_stopped(), the caller is to abort it.  KV_OK; or
 * KV_ERROR, told, and nothing is left of it.
 */
kv_rc_t kv_tool_make_begin(kv_tool_make_t *make, const char *path);

/*
 * A key gets a value; the last one of a key counts.  `expires` is in ms since
 * the epoch; 0: never.  `meta` is stored beside the value; NULL: nothing.
 * KV_OK; or KV_ERROR, told: then kv_tool_make_abort().
 */
kv_rc_t kv_tool_make_put(kv_tool_make_t *make, const char *key,
    size_t key_len, const kv_meta_t *meta, const char *value,
    size_t value_len, uint64_t expires);

/* Makes it durable.  KV_TOOL_GOOD; or KV_TOOL_FAILED, told: nothing is left. */
kv_tool_exit_t kv_tool_make_finish(kv_tool_make_t *make);

/*
 * Takes all of it away, and says so.  If a signal has ended it, the program
 * ends by that signal; else KV_TOOL_FAILED.
 */
kv_tool_exit_t kv_tool_make_abort(kv_tool_make_t *make);


#endif /* KV_TOOL_MAKE_H */
