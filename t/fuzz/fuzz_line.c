
/*
 * kv_line_parse() and kv_line_parse_batch() on a line.  The first byte of an
 * input tells how large a value may be; in the rest, each byte 1 stands for 50
 * bytes "A", and each byte 2 for as many of other kinds, as long strings go
 * another way through the parser.
 *
 * What must hold: nothing behind the line is read, and what it takes is what
 * jansson alone reads there; what it declines has a reason that can stand in a
 * JSON string.
 */


#include <jansson.h>

#include "fuzz.h"
#include "base/kv_key.h"
#include "lines/kv_line.h"


/* a part of a string */

static const char  line_text[] =
    "\\u00e9\\ud83d\\ude00\\n\\\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
    "\\u0000\\/\\\\\x7f plain text";

_Static_assert(sizeof(line_text) - 1 >= 50 && sizeof(line_text) - 1 <= 64,
               "bytes of the text");


static void line_parse(const char *text, size_t len, uint32_t max_value,
    kv_key_chars_t chars, bool batch);
static void line_check_meta(const kv_line_t *line, const json_t *root);
static void line_check_more(const kv_line_t *line, const json_t *root);
static void line_check(const kv_line_t *line, const char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars);
static void line_check_value(const kv_line_t *line, const json_t *root);
static void line_check_base64(const kv_line_t *line, const char *text,
    size_t len);
static void line_check_error(const kv_line_t *line);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char         *text;
    size_t        len;
    uint32_t      max_value;
    fuzz_feed_t   feed = { data, data + size };

    max_value = 64u * fuzz_u8(&feed);

    text = malloc(size * 64 + 1);
    fuzz_check(text);

    for (len = 0; feed.p < feed.end; feed.p++) {
        if (*feed.p == 1) {
            memset(text + len, 'A', 50);
            len += 50;

        } else if (*feed.p == 2) {
            memcpy(text + len, line_text, sizeof(line_text) - 1);
            len += sizeof(line_text) - 1;

        } else {
            text[len++] = (char) *feed.p;
        }
    }

    line_parse(text, len, max_value, KV_KEY_SAFE, false);
    line_parse(text, len, max_value, KV_KEY_SAFE, true);
    line_parse(text, len, max_value, KV_KEY_ANY, false);
    line_parse(text, len, max_value, KV_KEY_ANY, true);

    free(text);

    return 0;
}


static void
line_parse(const char *text, size_t len, uint32_t max_value,
    kv_key_chars_t chars, bool batch)
{
    char       *copy;
    kv_rc_t     rc;
    kv_line_t   line;

    /* as long as its memory */

    copy = malloc(len ? len : 1);
    fuzz_check(copy);
    memcpy(copy, text, len);

    (void) kv_line_blank(copy, len);

    rc = batch ? kv_line_parse_batch(&line, copy, len, max_value, chars)
               : kv_line_parse(&line, copy, len, max_value, chars);
    fuzz_check(rc == KV_OK || rc == KV_DECLINED);
    fuzz_check(!batch || memcmp(copy, text, len) == 0);

    if (rc == KV_OK) {
        line_check(&line, text, len, max_value, chars);
        kv_line_free(&line);

    } else {
        fuzz_check(line.root == NULL && line.decoded == NULL);
        line_check_error(&line);
    }

    free(copy);
}


static void
line_check(const kv_line_t *line, const char *text, size_t len,
    uint32_t max_value, kv_key_chars_t chars)
{
    json_t  *root, *key;

    root = json_loadb(text, len, JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL, NULL);
    fuzz_check(json_is_object(root));

    key = json_object_get(root, "key");

    if (key) {
        fuzz_check(json_is_string(key));
        fuzz_check(line->key_len == json_string_length(key));
        fuzz_check(memcmp(line->key, json_string_value(key), line->key_len)
                   == 0);

    } else {
        key = json_object_get(root, "key_base64");
        fuzz_check(chars == KV_KEY_ANY && json_is_string(key));
        fuzz_check((line->key_len + 2) / 3 * 4 == json_string_length(key));
    }

    fuzz_check(kv_key_wrong(chars, line->key, line->key_len) == NULL);

    fuzz_check(line->ttl == json_integer_value(json_object_get(root, "ttl")));
    fuzz_check(line->ttl <= KV_LINE_TTL_MAX);

    if (line->op == KV_LINE_PUT) {
        fuzz_check(line->value_len > 0 && line->value_len <= max_value);
        line_check_value(line, root);
        line_check_meta(line, root);

    } else {
        fuzz_check(line->meta.type_len == 0);
        line_check_more(line, root);
    }

    json_decref(root);
}


static void
line_check_meta(const kv_line_t *line, const json_t *root)
{
    json_t           *type, *encoding;
    const kv_meta_t  *meta;

    meta = &line->meta;
    type = json_object_get(root, "type");
    encoding = json_object_get(root, "encoding");

    fuzz_check(meta->type_len == json_string_length(type));
    fuzz_check(meta->encoding_len == json_string_length(encoding));

    if (type) {
        fuzz_check(kv_meta_type(meta->type, meta->type_len));
        fuzz_check(memcmp(meta->type, json_string_value(type), meta->type_len)
                   == 0);
    }

    if (encoding) {
        fuzz_check(type && kv_meta_encoding(meta->encoding,
                                            meta->encoding_len));
        fuzz_check(memcmp(meta->encoding, json_string_value(encoding),
                          meta->encoding_len) == 0);
    }
}


/* An operation without a value. */

static void
line_check_more(const kv_line_t *line, const json_t *root)
{
    static const char *const  names[] = { "put", "delete", "incr", "touch" };

    fuzz_check(line->op <= KV_LINE_TOUCH);
    fuzz_check(strcmp(json_string_value(json_object_get(root, "op")),
                      names[line->op]) == 0);

    if (line->op == KV_LINE_INCR) {
        fuzz_check(line->by
                   == json_integer_value(json_object_get(root, "by")));
    }

    if (line->match) {
        root = json_object_get(root, line->unless ? "if_none_match"
                                                  : "if_match");
        fuzz_check(line->match_len == json_string_length(root));
        fuzz_check(memcmp(line->match, json_string_value(root),
                          line->match_len) == 0);
    }
}


static void
line_check_value(const kv_line_t *line, const json_t *root)
{
    json_t  *value, *base64;

    value = json_object_get(root, "value");
    base64 = json_object_get(root, "base64");

    fuzz_check((value == NULL) != (base64 == NULL));

    if (value) {
        fuzz_check(line->value_len == json_string_length(value));
        fuzz_check(memcmp(line->value, json_string_value(value),
                          line->value_len) == 0);

    } else {
        line_check_base64(line, json_string_value(base64),
                          json_string_length(base64));
    }
}


/* The value, encoded, is the text. */

static void
line_check_base64(const kv_line_t *line, const char *text, size_t len)
{
    size_t       i, k, n;
    uint32_t     group;
    const char  *set;

    set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    fuzz_check(len == ((size_t) line->value_len + 2) / 3 * 4);

    for (i = 0; i < line->value_len; i += 3, text += 4) {
        n = kv_min(line->value_len - i, 3u);
        group = 0;

        for (k = 0; k < 3; k++) {
            group = group << 8 | (k < n ? (uint8_t) line->value[i + k] : 0);
        }

        for (k = 0; k < 4; k++) {
            fuzz_check(text[k] == (k <= n ? set[group >> (18 - 6 * k) & 63]
                                          : '='));
        }
    }
}


static void
line_check_error(const kv_line_t *line)
{
    const char  *p;

    fuzz_check(line->error[0]);

    for (p = line->error; *p; p++) {
        fuzz_check(*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\');
    }
}
