
/*
 * What is stored beside a value; see kv_meta.h.
 */


#include <assert.h>

#include "base/kv_meta.h"


static const char *kv_meta_token(const char *p, const char *end);
static const char *kv_meta_blanks(const char *p, const char *end);
static const char *kv_meta_parameter(const char *p, const char *end);
static const char *kv_meta_quoted(const char *p, const char *end);


/* by byte: whether a token may have it (RFC 9110, section 5.6.2) */

static const bool  kv_meta_tokens[256] = {
    ['!'] = true, ['#' ... '\''] = true, ['*'] = true, ['+'] = true,
    ['-'] = true, ['.'] = true, ['0' ... '9'] = true, ['A' ... 'Z'] = true,
    ['^' ... 'z'] = true, ['|'] = true, ['~'] = true
};


bool
kv_meta_type(const char *text, size_t n)
{
    const char  *p, *end;

    end = text + n;
    p = text + kv_meta_type_name(text, n);

    if (p == text || n > KV_META_TYPE || end[-1] == ' ') {
        return false;
    }

    while (p < end) {
        p = kv_meta_blanks(p, end);

        if (p == end || *p != ';') {
            return false;
        }

        p = kv_meta_parameter(kv_meta_blanks(p + 1, end), end);

        if (p == NULL) {
            return false;
        }
    }

    return true;
}


size_t
kv_meta_type_name(const char *text, size_t n)
{
    const char  *p, *slash, *end;

    end = text + n;
    slash = kv_meta_token(text, end);

    if (slash == text || slash == end || *slash != '/') {
        return 0;
    }

    p = kv_meta_token(slash + 1, end);

    return p == slash + 1 ? 0 : (size_t) (p - text);
}


static const char *
kv_meta_token(const char *p, const char *end)
{
    while (p < end && kv_meta_tokens[(uint8_t) *p]) {
        p++;
    }

    return p;
}


static const char *
kv_meta_blanks(const char *p, const char *end)
{
    while (p < end && *p == ' ') {
        p++;
    }

    return p;
}


/* Where a parameter, which may be missing, ends; NULL: it is none. */

static const char *
kv_meta_parameter(const char *p, const char *end)
{
    const char  *name, *value;

    name = p;
    p = kv_meta_token(p, end);

    if (p == name) {
        return p == end || *p == ';' ? p : NULL;
    }

    if (p == end || *p != '=') {
        return NULL;
    }

    value = p + 1;

    if (value < end && *value == '"') {
        return kv_meta_quoted(value + 1, end);
    }

    p = kv_meta_token(value, end);

    return p > value ? p : NULL;
}


/* Behind the quote that ends the string; NULL: there is none. */

static const char *
kv_meta_quoted(const char *p, const char *end)
{
    for ( /* void */ ; p < end && *p != '"'; p++) {
        if (*p < 0x20 || *p > 0x7e || *p == ',' || *p == '\\') {
            return NULL;
        }
    }

    return p < end ? p + 1 : NULL;
}


bool
kv_meta_encoding(const char *text, size_t n)
{
    const char  *p, *from, *end;

    if (n > KV_META_ENCODING) {
        return false;
    }

    end = text + n;

    for (from = text; /* void */ ; from = kv_meta_blanks(p + 1, end)) {
        p = kv_meta_token(from, end);

        if (p == from) {
            return false;
        }

        if (p == end) {
            return true;
        }

        p = kv_meta_blanks(p, end);

        if (p == end || *p != ',') {
            return false;
        }
    }
}


uint8_t
kv_meta_write(const kv_meta_t *meta, void *dst)
{
    char  *p;

    assert(kv_meta_type(meta->type, meta->type_len));
    assert(meta->encoding_len == 0
           || kv_meta_encoding(meta->encoding, meta->encoding_len));

    p = dst;
    *p++ = (char) meta->type_len;
    memcpy(p, meta->type, meta->type_len);
    p += meta->type_len;

    if (meta->encoding_len) {
        memcpy(p, meta->encoding, meta->encoding_len);
    }

    return (uint8_t) (1 + meta->type_len + meta->encoding_len);
}


bool
kv_meta_read(const void *src, size_t n, kv_meta_t *meta)
{
    const char  *p;

    p = src;

    if (n == 0 || n > KV_META_MAX || (uint8_t) *p > n - 1) {
        return false;
    }

    meta->type_len = (uint8_t) *p;
    meta->type = p + 1;
    meta->encoding = meta->type + meta->type_len;
    meta->encoding_len = (uint8_t) (n - 1 - meta->type_len);

    return kv_meta_type(meta->type, meta->type_len)
           && (meta->encoding_len == 0
               || kv_meta_encoding(meta->encoding, meta->encoding_len));
}
