
/*
 * Lines of JSON; see kv_tool_line.h.
 */


#include "base/kv_utf8.h"
#include "tool/kv_tool_line.h"


static void kv_tool_line_member(const char *text, const char *base64,
    const char *data, size_t len);
static bool kv_tool_line_text(const char *value, size_t len);
static void kv_tool_line_string(const char *value, size_t len);
static void kv_tool_line_escape(unsigned char c);
static void kv_tool_line_base64(const char *value, size_t len);


void
kv_tool_line_print(const char *key, size_t key_len, const kv_meta_t *meta,
    const char *value, size_t value_len, uint64_t expires)
{
    (void) fputc('{', stdout);
    kv_tool_line_member("key", "key_base64", key, key_len);

    if (expires) {
        (void) printf(",\"expires\":%llu", (unsigned long long) expires);
    }

    if (meta) {
        (void) fputc(',', stdout);
        kv_tool_line_member("type", "type", meta->type, meta->type_len);
    }

    if (meta && meta->encoding_len) {
        (void) fputc(',', stdout);
        kv_tool_line_member("encoding", "encoding", meta->encoding,
                            meta->encoding_len);
    }

    (void) fputc(',', stdout);
    kv_tool_line_member("value", "base64", value, value_len);
    (void) fputs("}\n", stdout);
}


static void
kv_tool_line_member(const char *text, const char *base64, const char *data,
    size_t len)
{
    bool  is_text;

    is_text = kv_tool_line_text(data, len);

    (void) printf("\"%s\":\"", is_text ? text : base64);

    if (is_text) {
        kv_tool_line_string(data, len);

    } else {
        kv_tool_line_base64(data, len);
    }

    (void) fputc('"', stdout);
}


/* Whether a string is not much longer than base64 would be, and can hold it. */

static bool
kv_tool_line_text(const char *value, size_t len)
{
    size_t  i, n, controls;

    for (i = 0, controls = 0; i < len; i += n) {
        n = kv_utf8_size(value + i, len - i);

        if (n == 0) {
            return false;
        }

        controls += (unsigned char) value[i] < 0x20;
    }

    return controls <= len / 4;
}


static void
kv_tool_line_string(const char *value, size_t len)
{
    size_t         i, start;
    unsigned char  c;

    for (i = 0, start = 0; i < len; i++) {
        c = (unsigned char) value[i];

        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }

        (void) fwrite(value + start, 1, i - start, stdout);
        kv_tool_line_escape(c);
        start = i + 1;
    }

    (void) fwrite(value + start, 1, len - start, stdout);
}


static void
kv_tool_line_escape(unsigned char c)
{
    switch (c) {

    case '"':
    case '\\':
        (void) printf("\\%c", c);
        break;

    case '\n':
        (void) fputs("\\n", stdout);
        break;

    case '\r':
        (void) fputs("\\r", stdout);
        break;

    case '\t':
        (void) fputs("\\t", stdout);
        break;

    default:
        (void) printf("\\u%04x", c);
        break;
    }
}


static void
kv_tool_line_base64(const char *value, size_t len)
{
    char                  out[4];
    size_t                i, left;
    uint32_t              bits;
    const unsigned char  *p;

    static const char  digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    p = (const unsigned char *) value;

    for (i = 0; i < len; i += 3) {
        left = len - i;

        bits = (uint32_t) p[i] << 16
               | (left > 1 ? (uint32_t) p[i + 1] << 8 : 0)
               | (left > 2 ? p[i + 2] : 0);

        out[0] = digits[bits >> 18];
        out[1] = digits[bits >> 12 & 63];
        out[2] = left > 1 ? digits[bits >> 6 & 63] : '=';
        out[3] = left > 2 ? digits[bits & 63] : '=';

        (void) fwrite(out, 1, sizeof(out), stdout);
    }
}
