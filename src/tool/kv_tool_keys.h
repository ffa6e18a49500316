
/*
 * The keys that a directory holds, and where their values lie in its files.
 *
 * Records come in the order in which a start reads them.  Each takes a cell of
 * 16 bytes and, beside it, 24 bytes and its key; no value is kept.  To know
 * which record of a key counts they are sorted, by key and then by place; this
 * happens at the end, where the order is wanted anyway, and before that each
 * time that there are twice as many as there were keys.  So memory grows with
 * the keys, not with the log: some 50 bytes and the key for each of them, or
 * twice that for a log that changes them all.  A dump of 5,000,000 keys of 16
 * bytes took 308 MiB, 62 bytes for each with its key.
 *
 * Why no table that finds a key at once: a hash of libc (hsearch) forgets
 * nothing and knows no order, its trees (tsearch) take three times the memory
 * and a cache miss for each level, and GLib's hash, another library to be
 * installed, would have to be sorted in the end, too.
 */


#ifndef KV_TOOL_KEYS_H
#define KV_TOOL_KEYS_H


#include "disk/kv_record.h"


typedef struct kv_tool_keys_s  kv_tool_keys_t;

/* A key that has a value. */

typedef struct {
    const char  *key;                /* until kv_tool_keys_destroy() */
    const char  *meta;               /* as long (base/kv_meta.h) */
    uint16_t     key_len;
    uint8_t      meta_len;           /* 0: none */
    uint32_t     value_len;
    uint64_t     expires;            /* ms since the epoch; 0: never */
    uint32_t     file;               /* that has the value, from 0, */
    uint64_t     offset;             /* and where in it */
} kv_tool_key_t;


/* NULL: out of memory. */
kv_tool_keys_t *kv_tool_keys_create(void);
void kv_tool_keys_destroy(kv_tool_keys_t *keys);

/*
 * Records from now on are of another file: how many there were before.  No
 * file that comes later may be read before one that came earlier.
 */
uint32_t kv_tool_keys_next_file(kv_tool_keys_t *keys);

/*
 * A record of that file, a put that has its place, a delete, a touch or a
 * clear.  KV_OK; KV_NO_MEMORY; KV_OVERFLOW: it lies behind the first TiB.
 */
kv_rc_t kv_tool_keys_add(kv_tool_keys_t *keys, const kv_record_t *rec);

/* Forgets all, files too. */
void kv_tool_keys_reset(kv_tool_keys_t *keys);

/*
 * Sorts what is there, after the last record: *n keys, in byte order.  KV_OK or
 * KV_NO_MEMORY.
 */
kv_rc_t kv_tool_keys_finish(kv_tool_keys_t *keys, size_t *n);

/* The i-th of them. */
void kv_tool_keys_get(const kv_tool_keys_t *keys, size_t i,
    kv_tool_key_t *key);


#endif /* KV_TOOL_KEYS_H */
