
/*
 * ngx_http_kv_key() on paths.
 *
 * The first byte of an input says how the rest is meant: as the path that a
 * client sends, which is made into r->uri as nginx does it, or as a path and
 * an r->uri that need have nothing to do with each other, as after a rewrite.
 *
 * What must hold: a key that is accepted lies in r->uri behind the location's
 * name and has the contract's characters only, and the path that was sent has
 * no empty segment; all others are declined.  A path that does not begin with
 * the location's name is an error.  A key sent as it is names the same key.
 */


#include "ngx.h"


#define PREFIX      "/kv/"
#define PREFIX_LEN  (sizeof(PREFIX) - 1)


static void key_sent(const uint8_t *data, size_t size);
static void key_rewritten(const uint8_t *data, size_t size, uint8_t flags);
static void key_normalize(ngx_str_t *uri);
static bool key_valid(const ngx_str_t *key);
static bool key_empty_segment(const ngx_str_t *decoded);
static ngx_int_t key_find(ngx_str_t uri, ngx_str_t unparsed, uint8_t flags,
    ngx_str_t *key);


#define KEY_VALID    0x01
#define KEY_COMPLEX  0x02
#define KEY_QUOTED   0x04


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }

    if (data[0] & 0x80) {
        key_rewritten(data + 1, size - 1, data[0]);

    } else {
        key_sent(data + 1, size - 1);
    }

    fuzz_ngx_done();

    return 0;
}


static void
key_sent(const uint8_t *data, size_t size)
{
    size_t      n;
    ngx_int_t   rc;
    ngx_str_t   sent, decoded, uri, key, again;

    /* what nginx takes for the path */

    for (n = 0; n < size && data[n] != '?' && data[n] != '#'; n++) {

        if (data[n] <= ' ' || data[n] == 0x7f) {
            return;
        }
    }

    if (n == 0 || data[0] != '/') {
        return;
    }

    sent = fuzz_ngx_str(data, size);
    decoded = fuzz_ngx_str(data, n);

    if (!fuzz_ngx_decode(&decoded) || memchr(decoded.data, 0, decoded.len)) {
        return;
    }

    uri = fuzz_ngx_str(decoded.data, decoded.len);
    key_normalize(&uri);

    if (uri.len < PREFIX_LEN || memcmp(uri.data, PREFIX, PREFIX_LEN) != 0) {
        return;
    }

    uri = fuzz_ngx_str(uri.data, uri.len);

    rc = key_find(uri, sent, KEY_VALID|KEY_COMPLEX|KEY_QUOTED, &key);

    fuzz_check(key.data == uri.data + PREFIX_LEN
               && key.len == uri.len - PREFIX_LEN);
    fuzz_check((rc == NGX_OK) == (key_valid(&key)
                                  && !key_empty_segment(&decoded)),
               "rc %d, key \"%.*s\"", (int) rc, (int) key.len, key.data);

    if (rc == NGX_OK && key.len) {
        fuzz_check(key_find(uri, uri, KEY_VALID|KEY_COMPLEX, &again) == NGX_OK);
        fuzz_check(again.len == key.len);
    }
}


static void
key_rewritten(const uint8_t *data, size_t size, uint8_t flags)
{
    size_t      n;
    ngx_int_t   rc;
    ngx_str_t   uri, key;

    n = size ? data[0] % size : 0;

    uri = fuzz_ngx_str(data, n);

    rc = key_find(uri, fuzz_ngx_str(data + n, size - n), flags, &key);

    fuzz_check((rc == NGX_ERROR)
               == (uri.len < PREFIX_LEN
                   || memcmp(uri.data, PREFIX, PREFIX_LEN) != 0));
    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED || rc == NGX_ERROR);

    if (rc == NGX_OK) {
        fuzz_check(key_valid(&key));
        fuzz_check(key.data == uri.data + PREFIX_LEN
                   && key.len == uri.len - PREFIX_LEN);
    }
}


/* Dot segments and empty ones go, as in ngx_http_parse_complex_uri(). */

static void
key_normalize(ngx_str_t *uri)
{
    size_t   i, end, n;
    u_char  *p = uri->data;

    n = 1;

    for (i = 1; i < uri->len; i = end + 1) {

        for (end = i; end < uri->len && p[end] != '/'; end++) {
            /* void */
        }

        if (end == i || (end - i == 1 && p[i] == '.')) {
            continue;
        }

        if (end - i == 2 && p[i] == '.' && p[i + 1] == '.') {

            for (n -= n > 1; p[n - 1] != '/'; n--) {
                /* void */
            }

            continue;
        }

        memmove(p + n, p + i, end - i);
        n += end - i;

        if (end < uri->len) {
            p[n++] = '/';
        }
    }

    uri->len = n;
}


static bool
key_valid(const ngx_str_t *key)
{
    size_t  i;

    static const char  chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789:_.-";

    for (i = 0; i < key->len; i++) {
        if (memchr(chars, key->data[i], sizeof(chars) - 1) == NULL) {
            return false;
        }
    }

    return true;
}


static bool
key_empty_segment(const ngx_str_t *decoded)
{
    size_t  i;

    for (i = 1; i < decoded->len; i++) {
        if (decoded->data[i - 1] == '/' && decoded->data[i] == '/') {
            return true;
        }
    }

    return false;
}


static ngx_int_t
key_find(ngx_str_t uri, ngx_str_t unparsed, uint8_t flags, ngx_str_t *key)
{
    void                      *conf[1];
    ngx_http_request_t         r;
    ngx_http_core_loc_conf_t   clcf;

    memset(&r, 0, sizeof(r));
    memset(&clcf, 0, sizeof(clcf));

    ngx_str_set(&clcf.name, PREFIX);
    conf[0] = &clcf;

    r.loc_conf = conf;
    r.uri = uri;
    r.unparsed_uri = unparsed;
    r.valid_unparsed_uri = (flags & KEY_VALID) != 0;
    r.complex_uri = (flags & KEY_COMPLEX) != 0;
    r.quoted_uri = (flags & KEY_QUOTED) != 0;

    ngx_str_null(key);

    return ngx_http_kv_key(&r, key);
}
