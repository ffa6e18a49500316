
/*
 * A write as a line of JSON; see kv_line.h.
 */


#include <jansson.h>
#include <stdlib.h>

#include "base/kv_key.h"
#include "base/kv_utf8.h"
#include "lines/kv_line.h"


/* more members than any line can have */
#define KV_LINE_COMMAS  16

/* more long strings */
#define KV_LINE_LONGS   8

/* from how many bytes on a string is long */
#define KV_LINE_LONG    48

/* bytes that are looked at at once */
#define KV_LINE_WORD    8

/* what a line may have beside its long strings, bytes */
#define KV_LINE_REST    4096


typedef enum {
    KV_LINE_OP = 0,
    KV_LINE_KEY,
    KV_LINE_VALUE,
    KV_LINE_BASE64,
    KV_LINE_TTL,
    KV_LINE_EXPIRES,
    KV_LINE_SIZE,
    KV_LINE_VERSION,
    KV_LINE_KEY_BASE64,
    KV_LINE_TYPE,
    KV_LINE_ENCODING,
    KV_LINE_BULK,                    /* those of POST /bulk are above */
    KV_LINE_BY = KV_LINE_BULK,
    KV_LINE_IF_MATCH,
    KV_LINE_IF_NONE_MATCH,
    KV_LINE_MEMBERS
} kv_line_member_t;


/*
 * Long strings are decoded here, and jansson, which takes some 20 ns a byte,
 * gets empty ones: a line of some megabytes would keep the caller for a good
 * part of a second.
 */

typedef struct {
    const char       *raw;           /* in the line, */
    size_t            raw_len;
    const char       *text;          /* and decoded */
    size_t            len;
    unsigned          at;            /* the how manyth member, from 0 */
} kv_line_long_t;


typedef struct {
    json_t           *member[KV_LINE_MEMBERS];
    kv_line_long_t   *is_long[KV_LINE_MEMBERS];  /* or NULL */
    kv_line_long_t    longs[KV_LINE_LONGS];
    unsigned          n;                         /* of them */
    bool              batch;                     /* it is one of POST /batch */
    kv_key_chars_t    chars;                     /* of the key */
    size_t            size;                      /* of the line */
    size_t            decoded;                   /* used of line->decoded */
} kv_line_parts_t;


static const char *const  kv_line_names[KV_LINE_MEMBERS] = {
    "op", "key", "value", "base64", "ttl", "expires", "size", "version",
    "key_base64", "type", "encoding", "by", "if_match", "if_none_match"
};

/* by kv_line_op_t: its name, and a bit for each member that it does not take */

#define kv_line_bit(member)  (1u << (member))

#define KV_LINE_OF_PUTS                                                       \
    (kv_line_bit(KV_LINE_VALUE) | kv_line_bit(KV_LINE_BASE64)                 \
     | kv_line_bit(KV_LINE_EXPIRES) | kv_line_bit(KV_LINE_TYPE)               \
     | kv_line_bit(KV_LINE_ENCODING))

static const struct {
    const char  *name;
    const char  *who;
    unsigned     not;
} kv_line_ops[] = {
    { "put", "a put", kv_line_bit(KV_LINE_BY) },
    { "delete", "a delete", KV_LINE_OF_PUTS | kv_line_bit(KV_LINE_TTL)
                            | kv_line_bit(KV_LINE_BY) },
    { "incr", "an incr", KV_LINE_OF_PUTS },
    { "touch", "a touch", KV_LINE_OF_PUTS | kv_line_bit(KV_LINE_BY) }
};


static kv_rc_t kv_line_parse_any(kv_line_t *line, const char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars, bool batch);
static kv_rc_t kv_line_scan(kv_line_t *line, const char *text, size_t len,
    kv_line_parts_t *parts);
static const char *kv_line_string_end(const char *p, const char *end);
static const char *kv_line_plain(const char *p, const char *end);
static kv_rc_t kv_line_add_long(kv_line_t *line, const char *text,
    const char *p, const char *q, unsigned at, kv_line_parts_t *parts);
static kv_rc_t kv_line_decode(kv_line_t *line, kv_line_long_t *s,
    kv_line_parts_t *parts, const char **wrong);
static char *kv_line_place(kv_line_t *line, const kv_line_parts_t *parts,
    const char *raw);
static const char *kv_line_escape(const char *p, const char *end, char **to);
static bool kv_line_hex(const char *p, const char *end, uint32_t *c);
static char *kv_line_put_utf8(char *to, uint32_t c);
static kv_rc_t kv_line_load(kv_line_t *line, const char *text, size_t len,
    const kv_line_parts_t *parts);
static kv_rc_t kv_line_too_much(kv_line_t *line);
static kv_rc_t kv_line_invalid(kv_line_t *line, const json_error_t *err);
static kv_rc_t kv_line_read(kv_line_t *line, kv_line_parts_t *parts,
    uint32_t max_value);
static kv_rc_t kv_line_read_batch(kv_line_t *line,
    const kv_line_parts_t *parts);
static kv_rc_t kv_line_members(kv_line_t *line, kv_line_parts_t *parts);
static kv_rc_t kv_line_op(kv_line_t *line, const kv_line_parts_t *parts);
static kv_rc_t kv_line_key(kv_line_t *line, kv_line_parts_t *parts);
static kv_rc_t kv_line_decode_base64(kv_line_t *line, kv_line_parts_t *parts,
    kv_line_member_t which, const char **decoded, size_t *len);
static const char *kv_line_text(const kv_line_parts_t *parts,
    kv_line_member_t which, size_t *len);
static kv_rc_t kv_line_value(kv_line_t *line, kv_line_parts_t *parts,
    uint32_t max_value);
static kv_rc_t kv_line_meta(kv_line_t *line, const kv_line_parts_t *parts);
static kv_rc_t kv_line_time(kv_line_t *line, const kv_line_parts_t *parts);
static kv_rc_t kv_line_by(kv_line_t *line, const kv_line_parts_t *parts);
static kv_rc_t kv_line_condition(kv_line_t *line,
    const kv_line_parts_t *parts);
static bool kv_line_base64(const char *text, size_t len, char *place,
    size_t *decoded);
static kv_rc_t __attribute__((format(printf, 2, 3)))
kv_line_decline(kv_line_t *line, const char *fmt, ...);


/* by the byte behind a backslash: what it stands for, or 0 */

static const char  kv_line_escapes[256] = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f',
    ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'
};


/* by hexadecimal digit: its value, and 0x10 */

static const uint8_t  kv_line_digits[256] = {
    ['0'] = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
    ['A'] = 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
    ['a'] = 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f
};


/* by byte: its six bits, or 64 */

#define X  64

static const uint8_t  kv_line_sextets[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, 62, X, X, X, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X, X, X, X, X, X,
    X, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X, X, X, X, X,
    X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X
};

#undef X


bool
kv_line_blank(const char *text, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') {
            return false;
        }
    }

    return true;
}


kv_rc_t
kv_line_parse(kv_line_t *line, char *text, size_t len, uint32_t max_value,
    kv_key_chars_t chars)
{
    return kv_line_parse_any(line, text, len, max_value, chars, false);
}


kv_rc_t
kv_line_parse_batch(kv_line_t *line, const char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars)
{
    return kv_line_parse_any(line, text, len, max_value, chars, true);
}


static kv_rc_t
kv_line_parse_any(kv_line_t *line, const char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars, bool batch)
{
    kv_rc_t          rc;
    kv_line_parts_t  parts;

    memset(line, 0, sizeof(kv_line_t));
    memset(&parts, 0, sizeof(kv_line_parts_t));
    parts.batch = batch;
    parts.chars = chars;
    parts.size = len;

    rc = kv_line_scan(line, text, len, &parts);

    if (rc == KV_OK) {
        rc = kv_line_load(line, text, len, &parts);
    }

    if (rc == KV_OK) {
        rc = kv_line_read(line, &parts, max_value);
    }

    if (rc != KV_OK) {
        kv_line_free(line);
    }

    return rc;
}


void
kv_line_free(kv_line_t *line)
{
    json_decref(line->root);
    line->root = NULL;

    free(line->decoded);
    line->decoded = NULL;
}


/*
 * Decodes long strings, and looks at what is outside strings.  What jansson
 * builds of brackets takes forty times their bytes: a line of them would cost
 * much memory before it is refused.
 */

static kv_rc_t
kv_line_scan(kv_line_t *line, const char *text, size_t len,
    kv_line_parts_t *parts)
{
    kv_rc_t      rc;
    unsigned     commas, depth, rest;
    const char  *p, *q, *end;

    commas = 0;
    depth = 0;

    for (p = text, end = text + len, rest = 0; p < end; p++) {

        if (++rest > KV_LINE_REST) {
            return kv_line_too_much(line);
        }

        switch (*p) {

        case '"':
            p++;
            q = kv_line_string_end(p, end);

            if (q == end) {
                return kv_line_decline(line, "invalid JSON at byte %d",
                                       (int) len);
            }

            if (q - p >= KV_LINE_LONG) {
                rc = kv_line_add_long(line, text, p, q, commas, parts);

                if (rc != KV_OK) {
                    return rc;
                }
            }

            p = q;
            break;

        case ',':
            if (++commas > KV_LINE_COMMAS) {
                return kv_line_decline(line, "too many members");
            }

            break;

        case '[':
        case '{':
            if (++depth > 1) {
                return kv_line_decline(line, "a member is no string or "
                                             "number");
            }
        }
    }

    return KV_OK;
}


/*
 * The words below have eight bytes of text, and results a bit, the highest, for
 * each that is looked for; above the first of them others may be wrong.  The
 * first byte is the lowest one: disk/kv_format.h checks that.
 */

#define kv_line_each(byte)  (0x0101010101010101ull * (byte))


static inline uint64_t
kv_line_word(const char *p)
{
    uint64_t  word;

    memcpy(&word, p, sizeof(word));

    return word;
}


static inline unsigned
kv_line_first(uint64_t found)
{
    return (unsigned) __builtin_ctzll(found) / 8;
}


static inline uint64_t
kv_line_find(uint64_t word, uint8_t byte)
{
    word ^= kv_line_each(byte);

    return (word - kv_line_each(1)) & ~word & kv_line_each(0x80);
}


/* What does not stand for itself in a string, or is a part of a character. */

static inline uint64_t
kv_line_odd(uint64_t word)
{
    return kv_line_find(word, '"') | kv_line_find(word, '\\')
           | ((word - kv_line_each(0x20)) & ~word & kv_line_each(0x80))
           | (word & kv_line_each(0x80));
}


/* The quote behind a string, or the end of the text. */

static const char *
kv_line_string_end(const char *p, const char *end)
{
    uint64_t  word, found;

    while (end - p >= KV_LINE_WORD) {
        word = kv_line_word(p);
        found = kv_line_find(word, '"') | kv_line_find(word, '\\');

        if (found == 0) {
            p += KV_LINE_WORD;
            continue;
        }

        p += kv_line_first(found);

        if (*p == '"') {
            return p;
        }

        /* where there is one there are often more */

        do {
            p += 2;
        } while (p < end && *p == '\\');
    }

    while (p < end && *p != '"') {
        p += *p == '\\' ? 2 : 1;
    }

    return kv_min(p, end);
}


/* Behind bytes that stand for themselves, and characters of more than one. */

static const char *
kv_line_plain(const char *p, const char *end)
{
    size_t    n;
    uint64_t  odd;

    while (end - p >= KV_LINE_WORD) {
        odd = kv_line_odd(kv_line_word(p));

        if (odd == 0) {
            p += KV_LINE_WORD;
            continue;
        }

        p += kv_line_first(odd);

        do {
            n = (uint8_t) *p >= 0x80 ? kv_utf8_size(p, (size_t) (end - p)) : 0;
            p += n;
        } while (n && p < end && (uint8_t) *p >= 0x80);

        if (n == 0) {
            return p;
        }
    }

    while (p < end && (uint8_t) *p >= 0x20 && *p != '\\' && *p != '"') {
        n = kv_utf8_size(p, (size_t) (end - p));

        if (n == 0) {
            break;
        }

        p += n;
    }

    return p;
}


static kv_rc_t
kv_line_add_long(kv_line_t *line, const char *text, const char *p,
    const char *q, unsigned at, kv_line_parts_t *parts)
{
    kv_rc_t          rc;
    const char      *wrong;
    kv_line_long_t  *s;

    if (parts->n == KV_LINE_LONGS) {
        return kv_line_decline(line, "too many members");
    }

    s = &parts->longs[parts->n++];
    s->at = at;
    s->raw = p;
    s->raw_len = (size_t) (q - p);

    rc = kv_line_decode(line, s, parts, &wrong);

    return rc != KV_DECLINED
           ? rc : kv_line_decline(line, (uint8_t) *wrong < 0x80
                                        ? "invalid JSON at byte %d"
                                        : "invalid UTF-8 at byte %d",
                                  (int) (wrong - text + 1));
}


/* KV_OK; KV_DECLINED: *wrong is wrong; KV_NO_MEMORY. */

static kv_rc_t
kv_line_decode(kv_line_t *line, kv_line_long_t *s, kv_line_parts_t *parts,
    const char **wrong)
{
    char        *to;
    size_t       n;
    const char  *p, *from, *end;

    s->text = s->raw;
    to = NULL;

    for (p = s->raw, end = p + s->raw_len; p < end; /* void */ ) {

        from = p;
        p = kv_line_plain(p, end);
        n = (size_t) (p - from);

        if (to) {
            memmove(to, from, n);
            to += n;
        }

        if (p == end) {
            break;
        }

        *wrong = p;

        if (*p != '\\') {

            /* a control character, or no UTF-8 */

            return KV_DECLINED;
        }

        if (to == NULL) {

            /* the first of them: all before stands for itself */

            to = kv_line_place(line, parts, s->raw);

            if (to == NULL) {
                return KV_NO_MEMORY;
            }

            if (to != from) {
                memcpy(to, from, n);
            }

            s->text = to;
            to += n;
        }

        do {
            *wrong = p;
            p = kv_line_escape(p + 1, end, &to);

            if (p == NULL) {
                return KV_DECLINED;
            }

        } while (p < end && *p == '\\');
    }

    s->len = to ? (size_t) (to - s->text) : s->raw_len;
    parts->decoded += to ? s->len : 0;

    return KV_OK;
}


/*
 * Where to decode what is at `raw` in the line; NULL: no memory.  A line that
 * may be changed has it in its place.  Else there is memory for as much as it
 * is long, as decoding makes nothing longer.
 */

static char *
kv_line_place(kv_line_t *line, const kv_line_parts_t *parts, const char *raw)
{
    if (!parts->batch) {
        return (char *) raw;
    }

    if (line->decoded == NULL) {
        line->decoded = malloc(parts->size);
    }

    return line->decoded ? line->decoded + parts->decoded : NULL;
}


/* Decodes what is behind a backslash.  Where it ends; NULL: it is none. */

static const char *
kv_line_escape(const char *p, const char *end, char **to)
{
    uint32_t  c, low;

    if (p == end) {
        return NULL;
    }

    if (*p != 'u') {
        **to = kv_line_escapes[(uint8_t) *p];

        return *(*to)++ ? p + 1 : NULL;
    }

    if (!kv_line_hex(p + 1, end, &c)) {
        return NULL;
    }

    p += 5;

    if (c >= 0xd800 && c <= 0xdfff) {

        if (c > 0xdbff || end - p < 2 || p[0] != '\\' || p[1] != 'u'
            || !kv_line_hex(p + 2, end, &low) || low < 0xdc00 || low > 0xdfff)
        {
            return NULL;
        }

        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }

    *to = kv_line_put_utf8(*to, c);

    return p;
}


static bool
kv_line_hex(const char *p, const char *end, uint32_t *c)
{
    uint8_t   valid;
    unsigned  i;

    if (end - p < 4) {
        return false;
    }

    valid = 0x10;

    for (i = 0, *c = 0; i < 4; i++) {
        valid &= kv_line_digits[(uint8_t) p[i]];
        *c = *c << 4 | (kv_line_digits[(uint8_t) p[i]] & 0xfu);
    }

    return valid != 0;
}


static char *
kv_line_put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char) c;
        return to;
    }

    if (c < 0x800) {
        *to++ = (char) (0xc0 | c >> 6);

    } else {

        if (c < 0x10000) {
            *to++ = (char) (0xe0 | c >> 12);

        } else {
            *to++ = (char) (0xf0 | c >> 18);
            *to++ = (char) (0x80 | (c >> 12 & 0x3f));
        }

        *to++ = (char) (0x80 | (c >> 6 & 0x3f));
    }

    *to++ = (char) (0x80 | (c & 0x3f));

    return to;
}


/* Loads the line, with empty strings in the places of long ones. */

static kv_rc_t
kv_line_load(kv_line_t *line, const char *text, size_t len,
    const kv_line_parts_t *parts)
{
    char                    rest[KV_LINE_REST];
    size_t                  n, before;
    unsigned                i;
    const char             *from;
    json_error_t            err;
    const kv_line_long_t   *s;

    n = 0;
    from = text;

    for (i = 0; i <= parts->n; i++) {
        s = &parts->longs[i];
        before = (size_t) ((i < parts->n ? s->raw : text + len) - from);

        if (before > sizeof(rest) - n) {
            return kv_line_too_much(line);
        }

        memcpy(rest + n, from, before);
        n += before;

        if (i < parts->n) {
            from = s->raw + s->raw_len;
        }
    }

    line->root = json_loadb(rest, n, JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL,
                            &err);

    if (line->root == NULL) {

        for (i = 0; i < parts->n; i++) {
            s = &parts->longs[i];

            if (err.position > s->raw - text) {
                err.position += (int) s->raw_len;
            }
        }

        return kv_line_invalid(line, &err);
    }

    return json_is_object(line->root)
           ? KV_OK : kv_line_decline(line, "not a JSON object");
}


static kv_rc_t
kv_line_too_much(kv_line_t *line)
{
    return kv_line_decline(line, "more than %d bytes beside strings",
                           KV_LINE_REST);
}


/* jansson's own texts quote the client's bytes. */

static kv_rc_t
kv_line_invalid(kv_line_t *line, const json_error_t *err)
{
    switch (json_error_code(err)) {

    case json_error_out_of_memory:
        return KV_NO_MEMORY;

    case json_error_duplicate_key:
        return kv_line_decline(line, "a member stands twice");

    case json_error_invalid_utf8:
        return kv_line_decline(line, "invalid UTF-8 at byte %d",
                               err->position);

    case json_error_numeric_overflow:
        return kv_line_decline(line, "a number is out of range");

    default:
        return kv_line_decline(line, "invalid JSON at byte %d", err->position);
    }
}


static kv_rc_t
kv_line_read(kv_line_t *line, kv_line_parts_t *parts, uint32_t max_value)
{
    kv_rc_t  rc;

    rc = kv_line_members(line, parts);

    if (rc == KV_OK) {
        rc = kv_line_op(line, parts);
    }

    if (rc == KV_OK) {
        rc = kv_line_key(line, parts);
    }

    if (rc == KV_OK && line->op == KV_LINE_PUT) {
        rc = kv_line_value(line, parts, max_value);
    }

    if (rc == KV_OK) {
        rc = kv_line_meta(line, parts);
    }

    if (rc == KV_OK) {
        rc = kv_line_time(line, parts);
    }

    return rc == KV_OK && parts->batch ? kv_line_read_batch(line, parts) : rc;
}


static kv_rc_t
kv_line_read_batch(kv_line_t *line, const kv_line_parts_t *parts)
{
    kv_rc_t  rc;

    rc = line->op == KV_LINE_INCR ? kv_line_by(line, parts) : KV_OK;

    return rc == KV_OK ? kv_line_condition(line, parts) : rc;
}


/* jansson gives the members in the order of the text. */

static kv_rc_t
kv_line_members(kv_line_t *line, kv_line_parts_t *parts)
{
    json_t            *value;
    unsigned           n, k;
    const char        *name;
    kv_line_member_t   i, end;

    end = parts->batch ? KV_LINE_MEMBERS : KV_LINE_BULK;
    n = 0;

    json_object_foreach(line->root, name, value) {

        for (i = 0; i < end; i++) {
            if (strcmp(name, kv_line_names[i]) == 0) {
                break;
            }
        }

        if (i == KV_LINE_KEY_BASE64 && parts->chars == KV_KEY_SAFE) {
            i = end;
        }

        if (i == end) {
            return strlen(name) <= 32
                   && kv_key_wrong(KV_KEY_SAFE, name, strlen(name)) == NULL
                   ? kv_line_decline(line, "unknown member %s", name)
                   : kv_line_decline(line, "unknown member");
        }

        parts->member[i] = value;

        for (k = 0; k < parts->n; k++) {
            if (parts->longs[k].at == n) {
                parts->is_long[i] = &parts->longs[k];
            }
        }

        n++;
    }

    return KV_OK;
}


static kv_rc_t
kv_line_op(kv_line_t *line, const kv_line_parts_t *parts)
{
    json_t            *op;
    unsigned           ops;
    const char        *name;
    kv_line_member_t   i;

    line->op = KV_LINE_PUT;
    op = parts->member[KV_LINE_OP];
    name = op ? json_string_value(op) : kv_line_ops[KV_LINE_PUT].name;
    ops = parts->batch ? KV_LINE_TOUCH + 1 : KV_LINE_DELETE + 1;

    if (name == NULL || (op && strlen(name) != json_string_length(op))) {
        name = "";
    }

    while (line->op < ops && strcmp(name, kv_line_ops[line->op].name) != 0) {
        line->op++;
    }

    if (line->op == ops) {
        return kv_line_decline(line, parts->batch
                               ? "op is not put, delete, incr or touch"
                               : "op is not put or delete");
    }

    for (i = 0; i < KV_LINE_MEMBERS; i++) {
        if (parts->member[i]
            && (kv_line_ops[line->op].not & kv_line_bit(i)))
        {
            return kv_line_decline(line, "%s takes no %s",
                                   kv_line_ops[line->op].who,
                                   kv_line_names[i]);
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_line_key(kv_line_t *line, kv_line_parts_t *parts)
{
    size_t             len;
    json_t            *key;
    kv_rc_t            rc;
    const char        *wrong;
    kv_line_member_t   which;

    which = parts->member[KV_LINE_KEY] || !parts->member[KV_LINE_KEY_BASE64]
            ? KV_LINE_KEY : KV_LINE_KEY_BASE64;
    key = parts->member[which];

    if (which == KV_LINE_KEY && parts->member[KV_LINE_KEY_BASE64]) {
        return kv_line_decline(line, "key and key_base64 exclude each other");
    }

    if (!json_is_string(key)) {
        return key ? kv_line_decline(line, "%s is not a string",
                                     kv_line_names[which])
                   : kv_line_decline(line, "key is missing");
    }

    if (which == KV_LINE_KEY_BASE64) {
        rc = kv_line_decode_base64(line, parts, which, &line->key, &len);

        if (rc != KV_OK) {
            return rc;
        }

    } else {
        line->key = kv_line_text(parts, which, &len);
    }

    wrong = kv_key_wrong(parts->chars, line->key, len);

    if (wrong) {
        return kv_line_decline(line, "%s", wrong);
    }

    if (len > KV_KEY_MAX) {
        return kv_line_decline(line, "key too long");
    }

    line->key_len = (uint16_t) len;

    return KV_OK;
}


/*
 * Decodes a string of base64, in its own place where nobody else has that.
 * KV_OK; KV_DECLINED; KV_NO_MEMORY.
 */

static kv_rc_t
kv_line_decode_base64(kv_line_t *line, kv_line_parts_t *parts,
    kv_line_member_t which, const char **decoded, size_t *len)
{
    char                  *place;
    const char            *text;
    const kv_line_long_t  *s;

    text = kv_line_text(parts, which, len);
    s = parts->is_long[which];
    place = (char *) text;

    if (s && s->text == s->raw) {
        place = kv_line_place(line, parts, s->raw);

        if (place == NULL) {
            return KV_NO_MEMORY;
        }
    }

    if (!kv_line_base64(text, *len, place, len)) {
        return kv_line_decline(line, "%s is not valid", kv_line_names[which]);
    }

    if (s && s->text == s->raw) {
        parts->decoded += *len;
    }

    *decoded = place;

    return KV_OK;
}


/* What a string says, and its bytes. */

static const char *
kv_line_text(const kv_line_parts_t *parts, kv_line_member_t which, size_t *len)
{
    if (parts->is_long[which]) {
        *len = parts->is_long[which]->len;
        return parts->is_long[which]->text;
    }

    *len = json_string_length(parts->member[which]);

    return json_string_value(parts->member[which]);
}


static kv_rc_t
kv_line_value(kv_line_t *line, kv_line_parts_t *parts, uint32_t max_value)
{
    size_t             len;
    json_t            *value;
    kv_rc_t            rc;
    kv_line_member_t   which;

    which = parts->member[KV_LINE_VALUE] ? KV_LINE_VALUE : KV_LINE_BASE64;
    value = parts->member[which];

    if (value == NULL) {
        return kv_line_decline(line, "value is missing");
    }

    if (which == KV_LINE_VALUE && parts->member[KV_LINE_BASE64]) {
        return kv_line_decline(line, "value and base64 exclude each other");
    }

    if (!json_is_string(value)) {
        return kv_line_decline(line, "%s is not a string",
                               kv_line_names[which]);
    }

    if (which == KV_LINE_BASE64) {
        rc = kv_line_decode_base64(line, parts, which, &line->value, &len);

        if (rc != KV_OK) {
            return rc;
        }

    } else {
        line->value = kv_line_text(parts, which, &len);
    }

    if (len == 0) {
        return kv_line_decline(line, "value cannot be empty");
    }

    if (len > max_value) {
        line->too_large = true;
        return kv_line_decline(line, "value too large");
    }

    line->value_len = (uint32_t) len;

    return KV_OK;
}


static kv_rc_t
kv_line_meta(kv_line_t *line, const kv_line_parts_t *parts)
{
    size_t   n;
    json_t  *type, *encoding;

    type = parts->member[KV_LINE_TYPE];
    encoding = parts->member[KV_LINE_ENCODING];

    if (type == NULL) {
        return encoding ? kv_line_decline(line, "encoding needs a type")
                        : KV_OK;
    }

    if (!json_is_string(type) || (encoding && !json_is_string(encoding))) {
        return kv_line_decline(line, "%s is not a string",
                               json_is_string(type) ? "encoding" : "type");
    }

    line->meta.type = kv_line_text(parts, KV_LINE_TYPE, &n);

    if (!kv_meta_type(line->meta.type, n)) {
        return kv_line_decline(line, "type is none like text/html, of %u "
                               "characters at most, without a comma",
                               KV_META_TYPE);
    }

    line->meta.type_len = (uint8_t) n;

    if (encoding == NULL) {
        return KV_OK;
    }

    line->meta.encoding = kv_line_text(parts, KV_LINE_ENCODING, &n);

    if (!kv_meta_encoding(line->meta.encoding, n)) {
        return kv_line_decline(line, "encoding is no list like gzip, of %u "
                               "characters at most", KV_META_ENCODING);
    }

    line->meta.encoding_len = (uint8_t) n;

    return KV_OK;
}


static kv_rc_t
kv_line_time(kv_line_t *line, const kv_line_parts_t *parts)
{
    json_int_t   n, least;
    json_t      *ttl, *expires;

    ttl = parts->member[KV_LINE_TTL];
    expires = parts->member[KV_LINE_EXPIRES];

    if (ttl && expires) {
        return kv_line_decline(line, "ttl and expires exclude each other");
    }

    least = line->op == KV_LINE_TOUCH ? 0 : 1;

    if (least == 0 && ttl == NULL) {
        return kv_line_decline(line, "ttl is missing");
    }

    if (ttl) {
        n = json_integer_value(ttl);

        if (!json_is_integer(ttl) || n < least
            || n > (json_int_t) KV_LINE_TTL_MAX)
        {
            return kv_line_decline(line, "invalid ttl");
        }

        line->ttl = (uint32_t) n;
    }

    if (expires) {
        n = json_integer_value(expires);

        if (!json_is_integer(expires) || n < 1) {
            return kv_line_decline(line, "invalid expires");
        }

        line->expires = (uint64_t) n;
    }

    return KV_OK;
}


static kv_rc_t
kv_line_by(kv_line_t *line, const kv_line_parts_t *parts)
{
    json_t  *by;

    by = parts->member[KV_LINE_BY];

    if (by == NULL) {
        return kv_line_decline(line, "by is missing");
    }

    if (!json_is_integer(by)) {
        return kv_line_decline(line, "invalid increment");
    }

    line->by = json_integer_value(by);

    return KV_OK;
}


/* What it says is for the caller to know. */

static kv_rc_t
kv_line_condition(kv_line_t *line, const kv_line_parts_t *parts)
{
    json_t            *match;
    kv_line_member_t   which;

    which = parts->member[KV_LINE_IF_MATCH] ? KV_LINE_IF_MATCH
                                            : KV_LINE_IF_NONE_MATCH;
    match = parts->member[which];

    if (match == NULL) {
        return KV_OK;
    }

    if (which == KV_LINE_IF_MATCH && parts->member[KV_LINE_IF_NONE_MATCH]) {
        return kv_line_decline(line, "if_match and if_none_match exclude each "
                               "other");
    }

    if (!json_is_string(match)) {
        return kv_line_decline(line, "%s is not a string",
                               kv_line_names[which]);
    }

    line->unless = which == KV_LINE_IF_NONE_MATCH;
    line->match = kv_line_text(parts, which, &line->match_len);

    return KV_OK;
}


/*
 * Decodes in place.  Only the one form that an encoder makes is taken: padding
 * to groups of four, and no bits left over.
 */

static bool
kv_line_base64(const char *text, size_t len, char *place, size_t *decoded)
{
    size_t    i, n, pad;
    uint8_t  *to;
    uint32_t  a, b, c, d, group, bad;

    if (len % 4) {
        return false;
    }

    for (pad = 0; pad < 2 && pad < len && text[len - 1 - pad] == '='; pad++) {
        /* void */
    }

    to = (uint8_t *) place;
    group = 0;
    bad = 0;

    for (i = 0, n = len - pad; i + 4 <= n; i += 4) {
        a = kv_line_sextets[(uint8_t) text[i]];
        b = kv_line_sextets[(uint8_t) text[i + 1]];
        c = kv_line_sextets[(uint8_t) text[i + 2]];
        d = kv_line_sextets[(uint8_t) text[i + 3]];

        bad |= a | b | c | d;

        *to++ = (uint8_t) (a << 2 | b >> 4);
        *to++ = (uint8_t) (b << 4 | c >> 2);
        *to++ = (uint8_t) (c << 6 | d);
    }

    for ( /* void */ ; i < n; i++) {
        bad |= kv_line_sextets[(uint8_t) text[i]];
        group = group << 6 | kv_line_sextets[(uint8_t) text[i]];
    }

    if (bad & 64) {
        return false;
    }

    if (pad == 1) {
        *to++ = (uint8_t) (group >> 10);
        *to++ = (uint8_t) (group >> 2);

    } else if (pad == 2) {
        *to++ = (uint8_t) (group >> 4);
    }

    *decoded = (size_t) (to - (uint8_t *) place);

    return pad == 0 || (group & (pad == 1 ? 0x3u : 0xfu)) == 0;
}


static kv_rc_t
kv_line_decline(kv_line_t *line, const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    (void) vsnprintf(line->error, sizeof(line->error), fmt, args);
    va_end(args);

    return KV_DECLINED;
}
