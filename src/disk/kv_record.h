
/*
 * A record: one operation as the log and snapshots hold it (kv_format.h),
 * seen from memory.
 */


#ifndef KV_RECORD_H
#define KV_RECORD_H


#include <sys/uio.h>

#include "base/kv_meta.h"
#include "base/kv_opcode.h"
#include "disk/kv_format.h"


/*
 * An operation to be written, or one that was read.  It points at memory of
 * the caller's (when written) or of the reader's (when read: valid until the
 * callback returns).  When read, the value is one piece.
 *
 * `lsn` is written if it is flagged.  A reader of files fills it in any case,
 * from the batch, or from the snapshot's S where the record has none.
 */

typedef struct {
    uint32_t             op;           /* kv_op_code_t */
    uint8_t              flags;        /* KV_RECORD_... */
    uint16_t             key_len;      /* bytes; 0 for a clear */
    uint32_t             value_len;    /* bytes; 0 but for a put */
    uint64_t             expires;      /* ms since the epoch, if flagged; else,
                                          and of a key that never does: 0 */
    uint64_t             lsn;          /* of the write: see below */
    const void          *meta;         /* if flagged (base/kv_meta.h) */
    uint8_t              meta_len;     /* bytes */
    const void          *key;
    const struct iovec  *value;        /* the value's pieces, in order */
    size_t               value_n;      /* how many */
    uint64_t             place;        /* when read: the value's offset in its
                                          file */
} kv_record_t;


/* Bytes that the record takes on disk. */
size_t kv_record_size(const kv_record_t *rec);

/* Writes it to `dst`, which has kv_record_size() bytes. */
void kv_record_encode(const kv_record_t *rec, void *dst);

/*
 * Writes all that comes before the value and returns its bytes: for callers
 * that write the value from where it lies, and the zeroes after it.
 */
size_t kv_record_encode_head(const kv_record_t *rec, void *dst);

/*
 * Reads the record at `src`, of which `n` bytes are there, into `rec` and
 * `value` (which rec->value then points to).  Returns the bytes it took, or
 * 0 if this is no record of that format version that ends within `n` bytes.
 */
size_t kv_record_decode(const void *src, size_t n, uint32_t version,
    kv_record_t *rec, struct iovec *value);

/*
 * What a decoded record has that this version of the module cannot keep, in
 * words, or NULL: then its metadata, if it has any, are as kv_meta_read() wants
 * them.  A reader must refuse it: to read on without that would lose
 * it with the next snapshot.
 */
const char *kv_record_unknown(const kv_record_t *rec);

/*
 * What readers call for each record; `lsn` is 0 if it is one of a snapshot,
 * else rec->lsn.  Any result but KV_OK stops the reading, and the reader
 * returns it.
 */
typedef kv_rc_t (*kv_record_pt)(void *ctx, uint64_t lsn,
    const kv_record_t *rec);


#endif /* KV_RECORD_H */
