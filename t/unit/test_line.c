
/*
 * Writes as lines of JSON: what they say, and what is wrong with others.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "lines/kv_line.h"


#define MAX  100000u


/* a text, and what it is in base64, and all of that but the first byte */
#define LONG           "A key of more than 48 bytes, which is decoded by itself"
#define B64_LONG       "Q" B64_LONG_REST
#define B64_LONG_REST  "SBrZXkgb2YgbW9yZSB0aGFuIDQ4IGJ5dGVzLCB3a" \
                       "GljaCBpcyBkZWNvZGVkIGJ5IGl0c2VsZg=="


/* A line in memory of its own, so that what is read behind it is seen. */

static kv_line_t  line;
static char      *text;

/* of the keys that are taken */
static kv_key_chars_t  chars = KV_KEY_SAFE;


static kv_rc_t
parse_bytes(const char *p, size_t len, uint32_t max_value)
{
    text = malloc(len ? len : 1);
    assert_non_null(text);

    if (len) {
        memcpy(text, p, len);
    }

    return kv_line_parse(&line, text, len, max_value, chars);
}


static void
done(void)
{
    kv_line_free(&line);
    free(text);
}


static void
puts_bytes(const char *p, size_t len, const char *key, const char *value,
    size_t value_len)
{
    kv_rc_t  rc;

    rc = parse_bytes(p, len, MAX);

    if (rc != KV_OK) {
        print_error("%.*s: %s\n", (int) kv_min(len, 200u), p, line.error);
    }

    assert_int_equal(rc, KV_OK);
    assert_int_equal(line.op, KV_LINE_PUT);
    assert_int_equal(line.key_len, strlen(key));
    assert_memory_equal(line.key, key, line.key_len);
    assert_int_equal(line.value_len, value_len);
    assert_memory_equal(line.value, value, value_len);
    done();
}


static void
puts_value(const char *p, const char *key, const char *value)
{
    puts_bytes(p, strlen(p), key, value, strlen(value));
}


static void
declines_bytes(const char *p, size_t len, const char *error)
{
    size_t  n;

    assert_int_equal(parse_bytes(p, len, MAX), KV_DECLINED);

    /* of "at byte N" the number does not matter */

    n = strlen(error);
    n = n < 4 || strcmp(error + n - 4, "byte") != 0 ? n + 1 : n;

    if (strncmp(line.error, error, n) != 0) {
        print_error("%.*s: %s\n", (int) kv_min(len, 200u), p, line.error);
    }

    assert_int_equal(strncmp(line.error, error, n), 0);
    assert_false(line.too_large);
    assert_null(line.root);
    free(text);
}


static void
declines(const char *p, const char *error)
{
    declines_bytes(p, strlen(p), error);
}


static void
test_puts(void **state)
{
    (void) state;

    puts_value("{\"key\":\"a\",\"value\":\"b\"}", "a", "b");
    puts_value(" { \"value\" : \"b\" ,\t\"key\" : \"a\" } \r", "a", "b");
    puts_value("{\"op\":\"put\",\"key\":\"A:z_0.-\",\"value\":\" \"}",
               "A:z_0.-", " ");
    puts_value("{\"key\":\"...\",\"value\":\"b\"}", "...", "b");
    puts_value("{\"key\":\"\\u0061\",\"value\":\"b\"}", "a", "b");

    /* as a list of keys has it */

    puts_value("{\"key\":\"a\",\"size\":1,\"version\":\"1-2\",\"value\":\"b\"}",
               "a", "b");

    /* what looks like JSON in a string */

    puts_value("{\"key\":\"a\",\"value\":\"{[,,,,,,,,,,,,,,,,,,,,\\\"{\"}", "a",
               "{[,,,,,,,,,,,,,,,,,,,,\"{");
}


static void
test_text(void **state)
{
    const char  *p;

    (void) state;

    puts_value("{\"key\":\"a\",\"value\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "a",
               "\"\\/\b\f\n\r\t");
    puts_value("{\"key\":\"a\",\"value\":\"\xc3\xa9\\u00e9\\ud83d\\ude00\"}",
               "a", "\xc3\xa9\xc3\xa9\xf0\x9f\x98\x80");
    p = "{\"key\":\"a\",\"value\":\"1\\u00002\"}";
    puts_bytes(p, strlen(p), "a", "1\0002", 3);

    declines("{\"key\":\"a\",\"value\":\"\\ud800\"}",
             "invalid JSON at byte");
    declines("{\"key\":\"a\",\"value\":\"\\udc00\\ud800\"}",
             "invalid JSON at byte");
    declines("{\"key\":\"a\",\"value\":\"\xff\"}", "invalid UTF-8 at byte");
    declines("{\"key\":\"a\",\"value\":\"\xed\xa0\x80\"}",
             "invalid UTF-8 at byte");
    declines("{\"key\":\"a\",\"value\":\"\xc0\x80\"}",
             "invalid UTF-8 at byte");
    declines("{\"key\":\"a\",\"value\":\"a\tb\"}", "invalid JSON at byte");
}


static void
test_base64(void **state)
{
    const char  *p;

    (void) state;

    puts_value("{\"key\":\"a\",\"base64\":\"Zg==\"}", "a", "f");
    puts_value("{\"key\":\"a\",\"base64\":\"Zm8=\"}", "a", "fo");
    puts_value("{\"key\":\"a\",\"base64\":\"Zm9v\"}", "a", "foo");
    puts_value("{\"key\":\"a\",\"base64\":\"Zm9vYg==\"}", "a", "foob");
    p = "{\"key\":\"a\",\"base64\":\"AP+/\"}";
    puts_bytes(p, strlen(p), "a", "\0\xff\xbf", 3);

    declines("{\"key\":\"a\",\"base64\":\"\"}", "value cannot be empty");
    declines("{\"key\":\"a\",\"base64\":\"Zg=\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zg\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Z===\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"====\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zg==Zg==\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zh==\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zm9=\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zm9-\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zm9_\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":\"Zm9v\\n\"}", "base64 is not valid");
    declines("{\"key\":\"a\",\"base64\":1}", "base64 is not a string");
    declines("{\"key\":\"a\",\"base64\":\"Zg==\",\"value\":\"f\"}",
             "value and base64 exclude each other");
}


static void
test_deletes(void **state)
{
    const char  *p;

    (void) state;

    p = "{\"op\":\"delete\",\"key\":\"abc\"}";

    assert_int_equal(parse_bytes(p, strlen(p), MAX), KV_OK);
    assert_int_equal(line.op, KV_LINE_DELETE);
    assert_int_equal(line.key_len, 3);
    assert_memory_equal(line.key, "abc", 3);
    done();

    declines("{\"op\":\"delete\",\"key\":\"a\",\"value\":\"b\"}",
             "a delete takes no value");
    declines("{\"op\":\"delete\",\"key\":\"a\",\"base64\":\"Zg==\"}",
             "a delete takes no base64");
    declines("{\"op\":\"delete\",\"key\":\"a\",\"ttl\":1}",
             "a delete takes no ttl");
    declines("{\"op\":\"delete\"}", "key is missing");
    declines("{\"op\":\"incr\",\"key\":\"a\"}", "op is not put or delete");
    declines("{\"op\":\"put\\u0000\",\"key\":\"a\",\"value\":\"b\"}",
             "op is not put or delete");
    declines("{\"op\":null,\"key\":\"a\",\"value\":\"b\"}",
             "op is not put or delete");
}


static void
has_meta(const char *p, const char *type, const char *encoding)
{
    assert_int_equal(parse_bytes(p, strlen(p), MAX), KV_OK);
    assert_int_equal(line.meta.type_len, strlen(type));
    assert_int_equal(line.meta.encoding_len, strlen(encoding));

    if (line.meta.type_len) {
        assert_memory_equal(line.meta.type, type, strlen(type));
    }

    if (line.meta.encoding_len) {
        assert_memory_equal(line.meta.encoding, encoding, strlen(encoding));
    }

    done();
}


/* Short ones, and long ones, which are decoded apart. */

static void
test_types(void **state)
{
    (void) state;

    has_meta("{\"key\":\"a\",\"value\":\"b\"}", "", "");
    has_meta("{\"key\":\"a\",\"value\":\"b\",\"type\":\"text/html\"}",
             "text/html", "");
    has_meta("{\"type\":\"a\\/b; c=\\\"\\u0064\\\"\",\"encoding\":\"gzip\","
             "\"key\":\"a\",\"base64\":\"AA==\"}", "a/b; c=\"d\"", "gzip");
    has_meta("{\"key\":\"a\",\"value\":\"b\",\"type\":\"text/html; a=\\\""
             "0123456789 0123456789 0123456789 01234567\\\"\","
             "\"encoding\":\"a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p\"}",
             "text/html; a=\"0123456789 0123456789 0123456789 01234567\"",
             "a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p");

    declines("{\"key\":\"a\",\"value\":\"b\",\"encoding\":\"gzip\"}",
             "encoding needs a type");
    declines("{\"key\":\"a\",\"value\":\"b\",\"type\":1}",
             "type is not a string");
    declines("{\"key\":\"a\",\"value\":\"b\",\"type\":\"a/b\",\"encoding\":1}",
             "encoding is not a string");
    declines("{\"key\":\"a\",\"value\":\"b\",\"type\":\"\"}",
             "type is none like text/html, of 200 characters at most, without "
             "a comma");
    declines("{\"key\":\"a\",\"value\":\"b\",\"type\":\"a/b\\r\\nc: d\"}",
             "type is none like text/html, of 200 characters at most, without "
             "a comma");
    declines("{\"key\":\"a\",\"value\":\"b\",\"type\":\"a/b\\u0000\"}",
             "type is none like text/html, of 200 characters at most, without "
             "a comma");
    declines("{\"key\":\"a\",\"value\":\"b\",\"type\":\"a/b\","
             "\"encoding\":\"\"}",
             "encoding is no list like gzip, of 50 characters at most");
    declines("{\"op\":\"delete\",\"key\":\"a\",\"type\":\"a/b\"}",
             "a delete takes no type");
}


static void
has_time(const char *p, uint32_t ttl, uint64_t expires)
{
    assert_int_equal(parse_bytes(p, strlen(p), MAX), KV_OK);
    assert_int_equal(line.ttl, ttl);
    assert_int_equal(line.expires, expires);
    done();
}


static void
test_times(void **state)
{
    (void) state;

    has_time("{\"key\":\"a\",\"value\":\"b\"}", 0, 0);
    has_time("{\"key\":\"a\",\"value\":\"b\",\"ttl\":1}", 1, 0);
    has_time("{\"key\":\"a\",\"value\":\"b\",\"ttl\":315360000}", 315360000, 0);
    has_time("{\"key\":\"a\",\"value\":\"b\",\"expires\":18000000000}", 0,
             18000000000);

    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":0}", "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":315360001}",
             "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":-1}", "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":1.0}", "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":\"1\"}", "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":null}", "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":4294967297}",
             "invalid ttl");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":99999999999999999999}",
             "a number is out of range");
    declines("{\"key\":\"a\",\"value\":\"b\",\"ttl\":1e999}",
             "a number is out of range");
    declines("{\"key\":\"a\",\"value\":\"b\",\"expires\":0}",
             "invalid expires");
    declines("{\"key\":\"a\",\"value\":\"b\",\"expires\":1,\"ttl\":1}",
             "ttl and expires exclude each other");
}


/* ---- lines of a batch */


static kv_rc_t
parse_batch(const char *p)
{
    size_t  len;

    len = strlen(p);
    text = malloc(len);
    assert_non_null(text);
    memcpy(text, p, len);

    return kv_line_parse_batch(&line, text, len, MAX, chars);
}


static void
takes(const char *p, kv_line_op_t op)
{
    if (parse_batch(p) != KV_OK) {
        fail_msg("%s: %s", p, line.error);
    }

    assert_int_equal(line.op, op);
    assert_int_equal(line.key_len, 1);
    assert_memory_equal(line.key, "a", 1);
}


static void
batch_declines(const char *p, const char *error)
{
    assert_int_equal(parse_batch(p), KV_DECLINED);
    assert_string_equal(line.error, error);
    assert_null(line.root);
    free(text);
}


/* A batch may have its lines read again. */

static void
stays(const char *p, size_t len)
{
    char        *again;
    kv_line_t    other;
    unsigned     i;

    again = malloc(len);
    assert_non_null(again);
    memcpy(again, p, len);

    assert_int_equal(parse_bytes(p, len, MAX), KV_OK);

    for (i = 0; i < 2; i++) {
        assert_int_equal(kv_line_parse_batch(&other, again, len, MAX, chars),
                         KV_OK);
        assert_memory_equal(again, p, len);
        assert_int_equal(other.key_len, line.key_len);
        assert_memory_equal(other.key, line.key, line.key_len);
        assert_int_equal(other.value_len, line.value_len);
        assert_memory_equal(other.value, line.value, line.value_len);
        kv_line_free(&other);
    }

    done();
    free(again);
}


static void
test_again(void **state)
{
    char      text_of[1024];
    int       n;
    unsigned  i;

    /* short and long ones, with nothing, one and much to decode */

    static const char *const  keys[] = {
        "a", "\\u0061",
        "------------------------------------------------------------",
        "---------------------------------------------------\\u0061--",
        "\\u0061\\u0062\\u0063\\u0064\\u0065\\u0066\\u0067\\u0068\\u0069-"
    };

    static const char *const  values[] = {
        "a", "\\n", "\\u00e4b",
        "------------------------------------------------------------",
        "---------------------------------------------------\\\"\\u0000--",
        "\\ud83d\\ude00----------------------------------------------"
    };

    static const char *const  base64[] = {
        "AAEC", "\\u0041AEC",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKis=",
        "\\u0041AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygp"
    };

    (void) state;

    for (i = 0; i < 5 * 6; i++) {
        n = snprintf(text_of, sizeof(text_of),
                     "{\"key\":\"%s\",\"value\":\"%s\"}", keys[i % 5],
                     values[i / 5]);
        stays(text_of, (size_t) n);
    }

    for (i = 0; i < 5 * 4; i++) {
        n = snprintf(text_of, sizeof(text_of),
                     "{\"base64\":\"%s\",\"key\":\"%s\"}", base64[i / 5],
                     keys[i % 5]);
        stays(text_of, (size_t) n);
    }
}


static void
conditional(const char *p, bool unless, const char *match)
{
    takes(p, KV_LINE_PUT);
    assert_int_equal(line.unless, unless);
    assert_int_equal(line.match_len, strlen(match));
    assert_memory_equal(line.match, match, line.match_len);
    done();
}


static void
test_batch(void **state)
{
    const char  *sixty;

    (void) state;

    takes("{\"key\":\"a\",\"value\":\"b\",\"ttl\":7}", KV_LINE_PUT);
    assert_int_equal(line.ttl, 7);
    assert_null(line.match);
    done();
    takes("{\"op\":\"delete\",\"key\":\"a\"}", KV_LINE_DELETE);
    done();
    takes("{\"op\":\"incr\",\"key\":\"a\",\"by\":-9223372036854775808}",
          KV_LINE_INCR);
    assert_true(line.by == INT64_MIN);
    done();
    takes("{\"op\":\"incr\",\"key\":\"a\",\"by\":5,\"ttl\":1}", KV_LINE_INCR);
    assert_int_equal(line.by, 5);
    assert_int_equal(line.ttl, 1);
    done();
    takes("{\"op\":\"touch\",\"key\":\"a\",\"ttl\":0}", KV_LINE_TOUCH);
    assert_int_equal(line.ttl, 0);
    done();

    conditional("{\"key\":\"a\",\"value\":\"b\",\"if_match\":\"*\"}", false,
                "*");
    conditional("{\"key\":\"a\",\"value\":\"b\",\"if_none_match\":\"1-2\"}",
                true, "1-2");

    /* which jansson does not see */

    sixty = "123456789-123456789-123456789-123456789-123456789-123456789-";
    conditional("{\"key\":\"a\",\"value\":\"b\",\"if_match\":\"123456789-"
                "123456789-123456789-123456789-123456789-123456789-\"}", false,
                sixty);

    batch_declines("{\"op\":\"get\",\"key\":\"a\"}",
                   "op is not put, delete, incr or touch");
    batch_declines("{\"op\":\"incr\",\"key\":\"a\"}", "by is missing");
    batch_declines("{\"op\":\"incr\",\"key\":\"a\",\"by\":1.0}",
                   "invalid increment");
    batch_declines("{\"op\":\"incr\",\"key\":\"a\",\"by\":\"1\"}",
                   "invalid increment");
    batch_declines("{\"op\":\"incr\",\"key\":\"a\",\"by\":9223372036854775808}",
                   "a number is out of range");
    batch_declines("{\"op\":\"incr\",\"key\":\"a\",\"by\":1,\"ttl\":0}",
                   "invalid ttl");
    batch_declines("{\"op\":\"incr\",\"key\":\"a\",\"by\":1,\"expires\":9}",
                   "an incr takes no expires");
    batch_declines("{\"op\":\"touch\",\"key\":\"a\"}", "ttl is missing");
    batch_declines("{\"op\":\"touch\",\"key\":\"a\",\"ttl\":315360001}",
                   "invalid ttl");
    batch_declines("{\"op\":\"touch\",\"key\":\"a\",\"ttl\":1,\"value\":\"b\"}",
                   "a touch takes no value");
    batch_declines("{\"op\":\"delete\",\"key\":\"a\",\"by\":1}",
                   "a delete takes no by");
    batch_declines("{\"key\":\"a\",\"value\":\"b\",\"by\":1}",
                   "a put takes no by");
    batch_declines("{\"key\":\"a\",\"value\":\"b\",\"if_match\":1}",
                   "if_match is not a string");
    batch_declines("{\"key\":\"a\",\"value\":\"b\",\"if_match\":\"*\","
                   "\"if_none_match\":\"*\"}",
                   "if_match and if_none_match exclude each other");

    /* but a bulk load does not take these */

    declines("{\"key\":\"a\",\"value\":\"b\",\"if_match\":\"*\"}",
             "unknown member if_match");
    declines("{\"op\":\"touch\",\"key\":\"a\",\"ttl\":1}",
             "op is not put or delete");
}


static void
test_keys(void **state)
{
    (void) state;

    declines("{\"value\":\"b\"}", "key is missing");
    declines("{\"key\":1,\"value\":\"b\"}", "key is not a string");
    declines("{\"key\":\"\",\"value\":\"b\"}", "key cannot be empty");
    declines("{\"key\":\".\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"..\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"a/b\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"a b\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"\xc3\xa9\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"a\\u0000\",\"value\":\"b\"}",
             "key contains invalid characters");
}


/* Where a key may have any characters. */

static void
test_any_keys(void **state)
{
    (void) state;

    chars = KV_KEY_ANY;

    puts_value("{\"key\":\"a/b\",\"value\":\"b\"}", "a/b", "b");
    puts_value("{\"key\":\"\\u002fa\\/\\/b/\",\"value\":\"b\"}", "/a//b/", "b");
    puts_value("{\"key\":\"a b\\\"\\\\\",\"value\":\"b\"}", "a b\"\\", "b");
    puts_value("{\"key\":\"\\u00e9\xc3\xa9\",\"value\":\"b\"}",
               "\xc3\xa9\xc3\xa9", "b");
    puts_value("{\"key\":\".../..a/.b./a.\",\"value\":\"b\"}",
               ".../..a/.b./a.", "b");
    puts_value("{\"key_base64\":\"/w==\",\"value\":\"b\"}", "\xff", "b");
    puts_value("{\"key_base64\":\"YQ==\",\"base64\":\"Yg==\"}", "a", "b");

    /* long ones */

    puts_value("{\"base64\":\"" B64_LONG "\",\"key_base64\":\"" B64_LONG "\"}",
               LONG, LONG);
    puts_value("{\"key_base64\":\"" B64_LONG "\",\"value\":\"\\n" LONG "\"}",
               LONG, "\n" LONG);
    puts_value("{\"key_base64\":\"\\u0051" B64_LONG_REST "\",\"value\":\"b\"}",
               LONG, "b");

    declines("{\"key\":\"\",\"value\":\"b\"}", "key cannot be empty");
    declines("{\"key_base64\":\"\",\"value\":\"b\"}", "key cannot be empty");
    declines("{\"value\":\"b\"}", "key is missing");
    declines("{\"key_base64\":1,\"value\":\"b\"}",
             "key_base64 is not a string");
    declines("{\"key_base64\":\"YQ=\",\"value\":\"b\"}",
             "key_base64 is not valid");
    declines("{\"key\":\"a\",\"key_base64\":\"YQ==\",\"value\":\"b\"}",
             "key and key_base64 exclude each other");
    declines("{\"key\":\"\xff\",\"value\":\"b\"}", "invalid UTF-8 at byte");

    declines("{\"key\":\"a\\u0000\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"a\\u001f\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key\":\"a\x7f\",\"value\":\"b\"}",
             "key contains invalid characters");
    declines("{\"key_base64\":\"YQA=\",\"value\":\"b\"}",
             "key contains invalid characters");

    declines("{\"key\":\".\",\"value\":\"b\"}", "key has a dot segment");
    declines("{\"key\":\"..\",\"value\":\"b\"}", "key has a dot segment");
    declines("{\"key\":\"./a\",\"value\":\"b\"}", "key has a dot segment");
    declines("{\"key\":\"a/..\",\"value\":\"b\"}", "key has a dot segment");
    declines("{\"key\":\"a\\u002f.\\u002e/b\",\"value\":\"b\"}",
             "key has a dot segment");
    declines("{\"key\":\"/./\",\"value\":\"b\"}", "key has a dot segment");
    declines("{\"key_base64\":\"YS8uLg==\",\"value\":\"b\"}",
             "key has a dot segment");

    chars = KV_KEY_SAFE;

    declines("{\"key_base64\":\"YQ==\",\"value\":\"b\"}",
             "unknown member key_base64");
}


static void
test_no_lines(void **state)
{
    char  deep[10000];

    (void) state;

    declines("", "invalid JSON at byte");
    declines("{", "invalid JSON at byte");
    declines("x", "invalid JSON at byte");
    declines("1", "invalid JSON at byte");
    declines("\"abc\"", "invalid JSON at byte");
    declines("[]", "not a JSON object");
    declines("{}", "key is missing");
    declines("{\"key\":\"a\",\"value\":\"b\"}{}",
             "a member is no string or number");
    declines("{\"key\":\"a\",\"value\":\"b\"} x", "invalid JSON at byte");
    declines("{\"key\":\"a\",\"value\":\"b\",}", "invalid JSON at byte");
    declines("{\"key\":\"a\",\"value\":\"b}", "invalid JSON at byte");
    declines("{\"key\":\"a\",\"value\":\"b\\", "invalid JSON at byte");
    declines("{\"key\":\"a\",\"key\":\"a\",\"value\":\"b\"}",
             "a member stands twice");
    declines("{\"key\":\"a\",\"value\":\"b\",\"if_match\":\"*\"}",
             "unknown member if_match");
    declines("{\"key\":\"a\",\"value\":\"b\",\"a\\\"b\":1}", "unknown member");
    declines("{\"key\":\"a\"}", "value is missing");
    declines("{\"key\":\"a\",\"value\":\"\"}", "value cannot be empty");
    declines("{\"key\":\"a\",\"value\":5}", "value is not a string");
    declines("{\"key\":\"a\",\"value\":null}", "value is not a string");
    declines("{\"key\":\"a\",\"value\":[]}", "a member is no string or number");
    declines("{\"key\":\"a\",\"value\":{}}", "a member is no string or number");
    declines("\xef\xbb\xbf{\"key\":\"a\",\"value\":\"b\"}",
             "invalid JSON at byte");
    declines_bytes("{\"key\":\"a\",\0\"value\":\"b\"}", 24,
                   "invalid JSON at byte");

    memset(deep, '[', sizeof(deep));
    declines_bytes(deep, sizeof(deep), "a member is no string or number");

    memset(deep, ',', sizeof(deep));
    declines_bytes(deep, sizeof(deep), "too many members");
}


/* Values of all lengths around that at which the parser's work differs. */

static void
test_long(void **state)
{
    char    *p, *value;
    size_t   i, n;

    (void) state;

    p = malloc(MAX + 100);
    value = malloc(MAX + 100);
    assert_non_null(p);
    assert_non_null(value);

    for (n = 1; n <= MAX; n = n < 300 ? n + 1 : n * 4) {
        for (i = 0; i < n; i++) {
            value[i] = (char) ('a' + i % 26);
        }

        value[n] = '\0';

        (void) sprintf(p, "{\"value\":\"%s\",\"key\":\"k\",\"ttl\":7}", value);
        puts_value(p, "k", value);

        (void) sprintf(p, "{\"op\":\"put\",\"key\":\"k\",\"value\":\"%s\\n\"}",
                       value);
        value[n] = '\n';
        puts_bytes(p, strlen(p), "k", value, n + 1);
        value[n] = '\0';

        if (n <= KV_KEY_MAX) {
            (void) sprintf(p, "{\"key\":\"%s\",\"value\":\"1\"}", value);
            puts_value(p, value, "1");

            (void) sprintf(p, "{\"key\":\"%s\",\"value\":\"%s\"}", value,
                           value);
            puts_value(p, value, value);
        }

        /* the value is that of its member, whichever is long */

        (void) sprintf(p, "{\"version\":\"%s\",\"key\":\"k\",\"value\":\"\"}",
                       value);
        declines(p, "value cannot be empty");

        (void) sprintf(p, "{\"%s\":\"1\",\"key\":\"k\",\"value\":\"2\"}",
                       value);
        assert_int_equal(parse_bytes(p, strlen(p), MAX), KV_DECLINED);
        free(text);

        (void) sprintf(p, "{\"key\":\"k\",\"value\":\"%s\",}", value);
        assert_int_equal(parse_bytes(p, strlen(p), MAX), KV_DECLINED);
        free(text);
    }

    memset(value, 'a', KV_KEY_MAX + 1);
    value[KV_KEY_MAX + 1] = '\0';
    (void) sprintf(p, "{\"key\":\"%s\",\"value\":\"1\"}", value);
    declines(p, "key too long");

    /* in base64, and what is not: a byte of it, wherever it is */

    memset(value, 'A', 400);
    value[400] = '\0';
    (void) sprintf(p, "{\"key\":\"k\",\"base64\":\"%s\"}", value);
    n = strlen(p);
    memset(value, 0, 300);
    puts_bytes(p, n, "k", value, 300);

    for (i = 0; i < 400; i++) {
        p[21 + i] = i % 2 ? '\n' : '*';
        assert_int_equal(parse_bytes(p, n, MAX), KV_DECLINED);
        free(text);
        p[21 + i] = 'A';
    }

    free(p);
    free(value);
}


/*
 * Pieces in any order and number, so that each is met at each place of what is
 * looked at at once; and what is wrong behind them is found where it is.
 */

static void
test_pieces(void **state)
{
    char      p[4000], value[4000], error[40];
    size_t    n, len, k, piece;
    unsigned  round, i;

    static const struct {
        const char  *text;
        const char  *value;
    } pieces[] = {
        { "a", "a" }, { "bcd", "bcd" }, { "efghijkl", "efghijkl" },
        { "\x7f{}[],:", "\x7f{}[],:" }, { "\\n", "\n" }, { "\\\"", "\"" },
        { "\\\\", "\\" }, { "\\u00e4", "\xc3\xa4" },
        { "\\ud83d\\ude00", "\xf0\x9f\x98\x80" }, { "\xc3\xa4", "\xc3\xa4" },
        { "\xe4\xb8\xad", "\xe4\xb8\xad" },
        { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" }
    };

    static const char *const  wrong[] = {
        "\x01", "\x1f", "\\x", "\\u12g4", "\x80", "\xff", "\xc3", "\xe4\xb8"
    };

    (void) state;

    for (round = 0; round < 20000; round++) {
        n = (size_t) sprintf(p, "{\"key\":\"k\",\"value\":\"");
        len = 0;

        for (i = 0; len < 60 || i < round % 100; i++) {
            piece = (size_t) rand() % (sizeof(pieces) / sizeof(pieces[0]));
            k = strlen(pieces[piece].text);
            memcpy(p + n, pieces[piece].text, k);
            n += k;
            k = strlen(pieces[piece].value);
            memcpy(value + len, pieces[piece].value, k);
            len += k;
        }

        (void) sprintf(p + n, "\"}");
        puts_bytes(p, n + 2, "k", value, len);

        i = round % (sizeof(wrong) / sizeof(wrong[0]));
        (void) sprintf(p + n, "%szzzzzzzzzz\"}", wrong[i]);
        (void) sprintf(error, "invalid %s at byte %d",
                       (uint8_t) *wrong[i] < 0x80 ? "JSON" : "UTF-8",
                       (int) n + 1);
        declines_bytes(p, strlen(p), error);
    }
}


/* Long strings are decoded here, not by jansson: of whatever they consist. */

static void
test_long_text(void **state)
{
    char    p[600], value[600];
    size_t  i, n;

    static const struct {
        const char  *text;
        const char  *value;
        size_t       len;
    } good[] = {
        { "x", "x", 1 },
        { " !#[]^~\x7f", " !#[]^~\x7f", 8 },
        { "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8 },
        { "1\\u00002", "1\0002", 3 },
        { "\\u007f\\u0080\\u07FF\\u0800\\ud7ff\\uE000\\uffff",
          "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
          "\xef\xbf\xbf", 17 },
        { "\\ud800\\udc00\\uDBFF\\uDFFF",
          "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8 },
        { "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80",
          "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80", 13 },
        { "\xf0\x90\x80\x80\\n\xf4\x8f\xbf\xbf",
          "\xf0\x90\x80\x80\n\xf4\x8f\xbf\xbf", 9 }
    };

    static const char *const  bad[] = {
        "\t", "\x1f", "\\x", "\\U0041", "\\u", "\\u004", "\\u004g", "\\u-041",
        "\\ud800", "\\ud800x", "\\ud800\\n", "\\ud800\\u0041",
        "\\ud800\\ud800", "\\udc00", "\\udfff\\ud800"
    };

    static const char *const  no_utf8[] = {
        "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2x",
        "\xe0\x9f\xbf", "\xe1\x80", "\xe1\x80x", "\xed\xa0\x80",
        "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf1\x80\x80", "\xf1\x80x\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff"
    };

    (void) state;

    /* behind 100 bytes, and before none and 100 */

    memset(value, 'A', sizeof(value));

    for (i = 0; i < 2 * sizeof(good) / sizeof(good[0]); i++) {
        n = i / 2;

        (void) sprintf(p, "{\"key\":\"k\",\"value\":\"%.100s%s%.*s\","
                       "\"version\":\"%.50s\"}", value, good[n].text,
                       (int) (i % 2 * 100), value, value);
        memcpy(value + 100, good[n].value, good[n].len);
        puts_bytes(p, strlen(p), "k", value, 100 + good[n].len + i % 2 * 100);
        memset(value, 'A', sizeof(value));
    }

    for (i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
        (void) sprintf(p, "{\"key\":\"k\",\"value\":\"%.100s%s%s\"}", value,
                       bad[i / 2], i % 2 ? " and so on" : "");
        declines(p, "invalid JSON at byte");
    }

    for (i = 0; i < 2 * sizeof(no_utf8) / sizeof(no_utf8[0]); i++) {
        (void) sprintf(p, "{\"key\":\"k\",\"value\":\"%.100s%s%.*s\"}", value,
                       no_utf8[i / 2], (int) (i % 2 * 100), value);
        declines(p, "invalid UTF-8 at byte 121");
    }

    /* in whichever member, and in more than there are */

    (void) sprintf(p, "{\"version\":\"%.60s\",\"key\":\"%.70s\",\"base64\":"
                   "\"%.80s\"}", value, value, value);
    n = strlen(p);
    value[70] = '\0';
    memset(value + 100, 0, 60);
    puts_bytes(p, n, value, value + 100, 60);
    memset(value, 'A', sizeof(value));

    for (i = 0, n = 0; i < 9; i++) {
        n += (size_t) sprintf(p + n, "%c\"a\":\"%.50s\"", i ? ',' : '{', value);
    }

    (void) sprintf(p + n, "}");
    declines(p, "too many members");
}


/* What jansson would look at for long. */

static void
test_rest(void **state)
{
    char    *p;
    size_t   n;

    (void) state;

    n = 1000000;
    p = malloc(n);
    assert_non_null(p);

    memset(p, ' ', n);
    memcpy(p + n - 23, "{\"key\":\"a\",\"value\":\"b\"}", 23);
    declines_bytes(p, n, "more than 4096 bytes beside strings");

    memset(p, '1', n);
    memcpy(p, "{\"size\":", 8);
    declines_bytes(p, n, "more than 4096 bytes beside strings");

    memset(p, ' ', n);
    memcpy(p, "{\"key\":\"a\",\"value\":\"b\"}", 23);
    puts_bytes(p, 4096, "a", "b", 1);
    declines_bytes(p, 4097, "more than 4096 bytes beside strings");

    free(p);
}


static void
test_too_large(void **state)
{
    const char  *p;

    (void) state;

    p = "{\"key\":\"a\",\"value\":\"12345\"}";

    assert_int_equal(parse_bytes(p, strlen(p), 5), KV_OK);
    done();

    assert_int_equal(parse_bytes(p, strlen(p), 4), KV_DECLINED);
    assert_string_equal(line.error, "value too large");
    assert_true(line.too_large);
    free(text);

    assert_true(kv_line_max(10) >= 16 + KV_KEY_MAX);
    assert_true(kv_line_max(KV_VALUE_MAX) > KV_VALUE_MAX / 3 * 4);
}


static void
test_blank(void **state)
{
    (void) state;

    assert_true(kv_line_blank("", 0));
    assert_true(kv_line_blank(" \t\r", 3));
    assert_false(kv_line_blank(" \t\r1", 4));
    assert_false(kv_line_blank("\0", 1));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_puts),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_deletes),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_any_keys),
        cmocka_unit_test(test_no_lines),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_blank)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
