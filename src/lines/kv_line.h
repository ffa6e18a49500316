
/*
 * A write as a line of JSON, as POST /bulk and POST /batch take it:
 *
 *     {"op":"put","key":"a","value":"text","ttl":60}
 *     {"key":"b","base64":"AAEC"}
 *     {"key":"c","value":"<p>text","type":"text/html; charset=utf-8"}
 *     {"op":"delete","key":"c"}
 *
 * and POST /batch alone:
 *
 *     {"op":"incr","key":"d","by":-1}
 *     {"op":"touch","key":"e","ttl":0}
 *     {"key":"f","value":"1","if_none_match":"*"}
 *     {"op":"delete","key":"g","if_match":"1c-d2e0f7a15b9c3e64"}
 *
 *     op        "put", which is the default, "delete", "incr" or "touch"
 *     key       as in a URL, decoded (base/kv_key.h)
 *     key_base64
 *               instead, where a key may have any characters: for one that is
 *               no UTF-8
 *     type      of a put: the value's media type, which is stored beside it
 *               (base/kv_meta.h)
 *     encoding  and its codings, as "gzip"; not without a type
 *     value     a put's, as a string: its bytes are those of its UTF-8.  Any
 *               character may be in it, U+0000 too
 *     base64    or in base64 (RFC 4648, section 4): padded, without line breaks
 *     by        what an increment adds, a signed 64-bit integer
 *     ttl       seconds until it expires, 1 to KV_LINE_TTL_MAX.  An increment
 *               gives it to a new key; a touch must have it, 0: never expires
 *     expires   of a put: or when, in seconds since the epoch, as a list of
 *               keys says it
 *     if_match, if_none_match
 *               one of them: "*", or a version, as a list of keys or, with
 *               quotes, an ETag says it
 *     size, version
 *               ignored: a list of keys has them
 *
 * No other member is allowed, none may stand twice, and nothing may be nested.
 * Beside strings of 48 bytes or more a line has 4096 bytes at most, so that it
 * takes some nanoseconds a byte.
 *
 * The JSON is read by jansson, which Debian keeps in all its releases.  It
 * refuses what others let pass: invalid UTF-8, lone surrogates, members that
 * stand twice, numbers out of range; and it can give U+0000 out.  yyjson is
 * quicker, but Debian 12 does not have it; cJSON cuts strings at U+0000 and
 * does not look at UTF-8; yajl makes a "?" of a lone surrogate; json-c lets
 * members stand twice; json-glib needs GLib.
 */


#ifndef KV_LINE_H
#define KV_LINE_H


#include "base/kv_key.h"
#include "base/kv_meta.h"


#define KV_LINE_TTL_MAX  315360000u    /* seconds: ten years */

/* what a line may have besides its value in base64 */
#define KV_LINE_SLACK    65536u


typedef enum {
    KV_LINE_PUT = 0,
    KV_LINE_DELETE,
    KV_LINE_INCR,
    KV_LINE_TOUCH
} kv_line_op_t;


typedef struct kv_line_s {
    kv_line_op_t    op;
    uint16_t        key_len;
    uint32_t        value_len;       /* of a put: > 0 */
    const char     *key;
    const char     *value;
    kv_meta_t       meta;            /* of a put; no bytes of type: none */
    uint64_t        expires;         /* seconds since the epoch; 0: not said */
    uint32_t        ttl;             /* seconds; 0: not said, or a touch's */
    bool            unless;          /* match is of if_none_match */
    const char     *match;           /* the condition; NULL: there is none */
    size_t          match_len;
    int64_t         by;
    bool            too_large;       /* KV_DECLINED because of that */
    char            error[96];       /* of KV_DECLINED; may stand in a JSON
                                        string as it is */
    struct json_t  *root;            /* key and value belong to it, or lie in */
    char           *decoded;         /* this, or in the text */
} kv_line_t;


/* The bytes of the longest line whose value is of `max_value` bytes. */

static inline size_t
kv_line_max(uint32_t max_value)
{
    return ((size_t) max_value + 2) / 3 * 4 + KV_LINE_SLACK;
}


/* Whether it has nothing but white space: no line to parse. */
bool kv_line_blank(const char *text, size_t len);

/*
 * Reads a line of `len` bytes, without its end; they are the caller's, are
 * changed, and must stay until kv_line_free(), which the caller calls after
 * KV_OK.  KV_DECLINED: it is none, its value is larger than `max_value` bytes,
 * or its key is none of `chars`, and line->error says what is wrong.
 * KV_NO_MEMORY.
 */
kv_rc_t kv_line_parse(kv_line_t *line, char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars);

/*
 * The same for a line of POST /batch, which may be read again: it stays as it
 * is.  That takes memory for as much as it is long, until kv_line_free().
 */
kv_rc_t kv_line_parse_batch(kv_line_t *line, const char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars);

void kv_line_free(kv_line_t *line);


#endif /* KV_LINE_H */
