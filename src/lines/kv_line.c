
/*
 * A write as a line of JSON; see kv_line.h.
 */


#include <jansson.h>
#include <stdlib.h>

#include "base/kv_key.h"
#include "lines/kv_line.h"


/* more members than any line can have */
#define KV_LINE_COMMAS  16

/* from how many bytes on a string may be kv_line_plain_t */
#define KV_LINE_PLAIN   48

/* what is left of most lines */
#define KV_LINE_REST    256


typedef enum {
    KV_LINE_OP = 0,
    KV_LINE_KEY,
    KV_LINE_VALUE,
    KV_LINE_BASE64,
    KV_LINE_TTL,
    KV_LINE_EXPIRES,
    KV_LINE_SIZE,
    KV_LINE_VERSION,
    KV_LINE_MEMBERS
} kv_line_member_t;


/*
 * The text of a long string that is its own value: plain ASCII, no escapes.
 * jansson, which takes some 20 ns a byte, gets an empty string in its place.
 */

typedef struct {
    char           *text;
    size_t          len;             /* 0: there is none */
    unsigned        at;              /* the how manyth member, from 0 */
} kv_line_plain_t;


typedef struct {
    json_t           *member[KV_LINE_MEMBERS];
    kv_line_plain_t   plain;
    kv_line_member_t  plain_of;      /* KV_LINE_MEMBERS: of none */
} kv_line_parts_t;


static const char *const  kv_line_names[KV_LINE_MEMBERS] = {
    "op", "key", "value", "base64", "ttl", "expires", "size", "version"
};


static bool kv_line_scan(kv_line_t *line, char *text, size_t len,
    kv_line_plain_t *plain);
static char *kv_line_string(char *p, char *end, kv_line_plain_t *plain);
static kv_rc_t kv_line_load(kv_line_t *line, const char *text, size_t len,
    const kv_line_plain_t *plain);
static json_t *kv_line_load_rest(const char *text, size_t len,
    const kv_line_plain_t *plain, json_error_t *err);
static kv_rc_t kv_line_invalid(kv_line_t *line, const json_error_t *err);
static kv_rc_t kv_line_read(kv_line_t *line, kv_line_parts_t *parts,
    uint32_t max_value);
static kv_rc_t kv_line_members(kv_line_t *line, kv_line_parts_t *parts);
static kv_rc_t kv_line_op(kv_line_t *line, const kv_line_parts_t *parts);
static kv_rc_t kv_line_key(kv_line_t *line, const kv_line_parts_t *parts);
static kv_rc_t kv_line_value(kv_line_t *line, const kv_line_parts_t *parts,
    uint32_t max_value);
static kv_rc_t kv_line_time(kv_line_t *line, const kv_line_parts_t *parts);
static bool kv_line_base64(char *text, size_t len, size_t *decoded);
static kv_rc_t __attribute__((format(printf, 2, 3)))
kv_line_decline(kv_line_t *line, const char *fmt, ...);


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
kv_line_parse(kv_line_t *line, char *text, size_t len, uint32_t max_value)
{
    kv_rc_t          rc;
    kv_line_parts_t  parts;

    memset(line, 0, sizeof(kv_line_t));
    memset(&parts, 0, sizeof(kv_line_parts_t));

    if (!kv_line_scan(line, text, len, &parts.plain)) {
        return KV_DECLINED;
    }

    rc = kv_line_load(line, text, len, &parts.plain);

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
}


/*
 * Looks at what is outside strings.  What jansson builds of brackets takes
 * forty times their bytes: a line of them would cost much memory before it is
 * refused.
 */

static bool
kv_line_scan(kv_line_t *line, char *text, size_t len, kv_line_plain_t *plain)
{
    char      *p, *end;
    unsigned   commas, depth;

    commas = 0;
    depth = 0;

    for (p = text, end = text + len; p < end; p++) {

        switch (*p) {

        case '"':
            plain->at = plain->len ? plain->at : commas;
            p = kv_line_string(p + 1, end, plain);
            break;

        case ',':
            if (++commas > KV_LINE_COMMAS) {
                (void) kv_line_decline(line, "too many members");
                return false;
            }

            break;

        case '[':
        case '{':
            if (++depth > 1) {
                (void) kv_line_decline(line, "a member is no string or "
                                             "number");
                return false;
            }
        }
    }

    return true;
}


/*
 * The end of the string that begins at `p`: its quote, or the end of the text.
 * Notes the first one that is long and plain.
 */

static char *
kv_line_string(char *p, char *end, kv_line_plain_t *plain)
{
    char     *q;
    uint8_t   odd;

    for (q = p; q < end && *q != '"' && *q != '\\'; q++) {
        /* void */
    }

    if (plain->len == 0 && q - p >= KV_LINE_PLAIN && q < end && *q == '"')
    {
        plain->text = p;
        odd = 0;

        for (/* void */; p < q; p++) {
            odd |= (uint8_t) (*p - 0x20) > 0x7e - 0x20;
        }

        plain->len = odd ? 0 : (size_t) (q - plain->text);
    }

    for (/* void */; q < end && *q != '"'; q++) {
        q += *q == '\\';
    }

    return q;
}


static kv_rc_t
kv_line_load(kv_line_t *line, const char *text, size_t len,
    const kv_line_plain_t *plain)
{
    json_error_t  err;

    line->root = kv_line_load_rest(text, len, plain, &err);

    if (line->root == NULL) {
        return kv_line_invalid(line, &err);
    }

    return json_is_object(line->root)
           ? KV_OK : kv_line_decline(line, "not a JSON object");
}


/* Loads the text without what is plain. */

static json_t *
kv_line_load_rest(const char *text, size_t len, const kv_line_plain_t *plain,
    json_error_t *err)
{
    char    *rest, small[KV_LINE_REST];
    size_t   before, after;
    json_t  *root;

    if (plain->len == 0) {
        return json_loadb(text, len, JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL,
                          err);
    }

    before = (size_t) (plain->text - text);
    after = len - before - plain->len;
    rest = before + after <= sizeof(small) ? small : malloc(before + after);

    if (rest == NULL) {
        err->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory;
        return NULL;
    }

    memcpy(rest, text, before);
    memcpy(rest + before, plain->text + plain->len, after);

    root = json_loadb(rest, before + after,
                      JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL, err);

    if (root == NULL && err->position > (int) before) {
        err->position += (int) plain->len;
    }

    if (rest != small) {
        free(rest);
    }

    return root;
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

    if (rc == KV_OK && line->op == KV_OP_PUT) {
        rc = kv_line_value(line, parts, max_value);
    }

    return rc == KV_OK ? kv_line_time(line, parts) : rc;
}


/* jansson gives the members in the order of the text. */

static kv_rc_t
kv_line_members(kv_line_t *line, kv_line_parts_t *parts)
{
    json_t            *value;
    unsigned           n;
    const char        *name;
    kv_line_member_t   i;

    parts->plain_of = KV_LINE_MEMBERS;
    n = 0;

    json_object_foreach(line->root, name, value) {

        for (i = 0; i < KV_LINE_MEMBERS; i++) {
            if (strcmp(name, kv_line_names[i]) == 0) {
                break;
            }
        }

        if (i == KV_LINE_MEMBERS) {
            return strlen(name) <= 32 && kv_key_valid(name, strlen(name))
                   ? kv_line_decline(line, "unknown member %s", name)
                   : kv_line_decline(line, "unknown member");
        }

        parts->member[i] = value;

        if (parts->plain.len && parts->plain.at == n) {
            parts->plain_of = i;
        }

        n++;
    }

    return KV_OK;
}


static kv_rc_t
kv_line_op(kv_line_t *line, const kv_line_parts_t *parts)
{
    json_t            *op;
    const char        *name;
    kv_line_member_t   i;

    line->op = KV_OP_PUT;
    op = parts->member[KV_LINE_OP];

    if (op == NULL) {
        return KV_OK;
    }

    name = json_string_value(op);

    if (name && strcmp(name, "put") == 0 && json_string_length(op) == 3) {
        return KV_OK;
    }

    if (name == NULL || strcmp(name, "delete") != 0
        || json_string_length(op) != 6)
    {
        return kv_line_decline(line, "op is not put or delete");
    }

    line->op = KV_OP_DELETE;

    for (i = KV_LINE_VALUE; i < KV_LINE_SIZE; i++) {
        if (parts->member[i]) {
            return kv_line_decline(line, "a delete takes no %s",
                                   kv_line_names[i]);
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_line_key(kv_line_t *line, const kv_line_parts_t *parts)
{
    size_t   len;
    json_t  *key;

    key = parts->member[KV_LINE_KEY];

    if (!json_is_string(key)) {
        return kv_line_decline(line, key ? "key is not a string"
                                         : "key is missing");
    }

    line->key = json_string_value(key);
    len = json_string_length(key);

    if (parts->plain_of == KV_LINE_KEY) {
        line->key = parts->plain.text;
        len = parts->plain.len;
    }

    if (len == 0) {
        return kv_line_decline(line, "key cannot be empty");
    }

    if (!kv_key_valid(line->key, len)
        || (len <= 2 && memcmp(line->key, "..", len) == 0))
    {
        return kv_line_decline(line, "key contains invalid characters");
    }

    if (len > KV_KEY_MAX) {
        return kv_line_decline(line, "key too long");
    }

    line->key_len = (uint16_t) len;

    return KV_OK;
}


static kv_rc_t
kv_line_value(kv_line_t *line, const kv_line_parts_t *parts,
    uint32_t max_value)
{
    size_t             len;
    json_t            *value;
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

    line->value = json_string_value(value);
    len = json_string_length(value);

    if (parts->plain_of == which) {
        line->value = parts->plain.text;
        len = parts->plain.len;
    }

    /* in its own place: nobody else has the string */

    if (which == KV_LINE_BASE64
        && !kv_line_base64((char *) line->value, len, &len))
    {
        return kv_line_decline(line, "base64 is not valid");
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
kv_line_time(kv_line_t *line, const kv_line_parts_t *parts)
{
    json_int_t   n;
    json_t      *ttl, *expires;

    ttl = parts->member[KV_LINE_TTL];
    expires = parts->member[KV_LINE_EXPIRES];

    if (ttl && expires) {
        return kv_line_decline(line, "ttl and expires exclude each other");
    }

    if (ttl) {
        n = json_integer_value(ttl);

        if (!json_is_integer(ttl) || n < 1 || n > (json_int_t) KV_LINE_TTL_MAX)
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


/*
 * Decodes in place.  Only the one form that an encoder makes is taken: padding
 * to groups of four, and no bits left over.
 */

static bool
kv_line_base64(char *text, size_t len, size_t *decoded)
{
    size_t    i, n, pad;
    uint8_t  *to;
    uint32_t  group, bad;

    if (len % 4) {
        return false;
    }

    for (pad = 0; pad < 2 && pad < len && text[len - 1 - pad] == '='; pad++) {
        /* void */
    }

    to = (uint8_t *) text;
    group = 0;
    bad = 0;

    for (i = 0, n = len - pad; i < n; i++) {
        bad |= kv_line_sextets[(uint8_t) text[i]];
        group = group << 6 | kv_line_sextets[(uint8_t) text[i]];

        if (i % 4 == 3) {
            *to++ = (uint8_t) (group >> 16);
            *to++ = (uint8_t) (group >> 8);
            *to++ = (uint8_t) group;
        }
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

    *decoded = (size_t) (to - (uint8_t *) text);

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
