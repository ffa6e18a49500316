
/*
 * What the kinds of import share: where they read, and where keys go.
 */


#ifndef KV_TOOL_SOURCE_H
#define KV_TOOL_SOURCE_H


#include "base/kv_key.h"
#include "tool/kv_tool_make.h"


typedef struct {
    kv_tool_make_t  make;
    const char     *path;                /* of the directory that is made */
    const char     *kind;
    const char     *source;              /* NULL: the kind's own */
    unsigned        db;                  /* of Redis */
    kv_key_chars_t  chars;               /* of keys that are kept */
    bool            skip;                /* leave out what cannot be kept */
    uint64_t        skipped;
} kv_tool_import_t;


/*
 * Opens the source, begins import->make, and puts all that is there.  KV_OK;
 * KV_DAMAGED: a file of the source is damaged, KV_CANCELLED, or KV_ERROR.  All
 * but KV_CANCELLED were told; import->make.writer is NULL if it was not begun.
 */
kv_rc_t kv_tool_import_lkv(kv_tool_import_t *import);
kv_rc_t kv_tool_import_redis(kv_tool_import_t *import);

/*
 * Puts a key, or refuses one that no store can keep, or leaves that out.
 * `expires` is in ms since the epoch; 0: never.  KV_OK or KV_ERROR, told.
 */
kv_rc_t kv_tool_import_put(kv_tool_import_t *import, const char *key,
    size_t key_len, const char *value, size_t value_len, uint64_t expires);

/* Refuses a key for that reason, or leaves it out: results as above. */
kv_rc_t kv_tool_import_refuse(kv_tool_import_t *import, const char *key,
    size_t key_len, const char *why);


#endif /* KV_TOOL_SOURCE_H */
