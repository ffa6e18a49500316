
/*
 * What is stored beside a value: its media type, and the codings that it has
 * (RFC 9110, sections 8.3 and 8.4).
 *
 * In a record (disk/kv_format.h) and in an entry (memory/kv_entry.h) they are
 * these bytes, from 4 to KV_META_MAX of them:
 *
 *     0  1   length n of the type, from 3 to KV_META_TYPE
 *     1  n   the type
 *            the encoding: what follows; of no bytes, if the value has none
 *
 * All that comes from a client, or is read from a file, is checked here, so
 * that both can stand in the header of an answer as they are.
 *
 * A type has no comma, not even in quotes.  Browsers take a header with one for
 * a list of types, of which the last counts, and have not always agreed on what
 * is quoted: "image/png; a=b, text/html" must not pass for an image.
 */


#ifndef KV_META_H
#define KV_META_H


#include "base/kv_base.h"


/* bytes that they have at most */
#define KV_META_TYPE      200u
#define KV_META_ENCODING  50u
#define KV_META_MAX       (1 + KV_META_TYPE + KV_META_ENCODING)


/* It points into the bytes that it was made of. */

typedef struct {
    const char  *type;
    const char  *encoding;
    uint8_t      type_len;
    uint8_t      encoding_len;       /* 0: none */
} kv_meta_t;


/*
 * Whether `n` bytes are a media type that can be stored: in the form of RFC
 * 9110, section 8.3.1, "text/html" or "text/html; charset=utf-8", of printable
 * ASCII without commas and backslashes.
 */
bool kv_meta_type(const char *text, size_t n);

/* Bytes of the type's name, as "text/html", without parameters; 0: no type. */
size_t kv_meta_type_name(const char *text, size_t n);

/* Whether they are codings that can be stored: "gzip", or "gzip, br". */
bool kv_meta_encoding(const char *text, size_t n);

/*
 * Writes them as above to `dst`, which has KV_META_MAX bytes; both are good.
 * Returns how many bytes that takes.
 */
uint8_t kv_meta_write(const kv_meta_t *meta, void *dst);

/* The other way.  False: these `n` bytes are no metadata as above. */
bool kv_meta_read(const void *src, size_t n, kv_meta_t *meta);


#endif /* KV_META_H */
