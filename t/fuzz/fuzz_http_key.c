
/*
 * ngx_http_kv_key() on paths.
 *
 * The first byte of an input says how the rest is meant: as the path that a
 * client sends, which is made into r->uri as nginx does it, with merge_slashes
 * or without, or as a path and an r->uri that need have nothing to do with each
 * other, as after a rewrite; and which characters a key may have.
 *
 * What must hold: a key that is accepted has these characters only.  Where they
 * are the safe ones it lies in r->uri behind the location's name, and the path
 * that was sent has no empty segment.  Else it is what that path has behind the
 * location's name, which has no dot segment.  All others are declined, and a
 * path that does not begin with the location's name is an error.  A key that is
 * sent with each of its bytes encoded is the same key.
 */


#include "ngx.h"


#define PREFIX      "/kv/"
#define PREFIX_LEN  (sizeof(PREFIX) - 1)


static void key_sent(const uint8_t *data, size_t size, uint8_t flags);
static void key_sent_safe(ngx_int_t rc, const ngx_str_t *uri,
    const ngx_str_t *decoded, const ngx_str_t *key);
static void key_sent_any(ngx_int_t rc, const ngx_str_t *decoded,
    const ngx_str_t *key);
static void key_encoded(const ngx_str_t *key);
static void key_rewritten(const uint8_t *data, size_t size, uint8_t flags);
static void key_normalize(ngx_str_t *uri, bool merge_slashes);
static bool key_valid(const ngx_str_t *key, uint8_t flags);
static bool key_dot_segment(const ngx_str_t *key);
static bool key_is_behind(const ngx_str_t *path);
static bool key_empty_segment(const ngx_str_t *decoded);
static ngx_int_t key_find(ngx_str_t uri, ngx_str_t unparsed, uint8_t flags,
    ngx_str_t *key);


#define KEY_MERGE    0x01
#define KEY_COMPLEX  0x02
#define KEY_QUOTED   0x04
#define KEY_ANY      0x08


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }

    if (data[0] & 0x80) {
        key_rewritten(data + 1, size - 1, data[0]);

    } else {
        key_sent(data + 1, size - 1, data[0]);
    }

    fuzz_ngx_done();

    return 0;
}


static void
key_sent(const uint8_t *data, size_t size, uint8_t flags)
{
    size_t     n;
    ngx_int_t  rc;
    ngx_str_t  sent, decoded, uri, key;

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
    key_normalize(&uri, flags & KEY_MERGE);

    if (!key_is_behind(&uri)) {
        return;
    }

    uri = fuzz_ngx_str(uri.data, uri.len);

    rc = key_find(uri, sent, flags | KEY_COMPLEX | KEY_QUOTED, &key);

    if (flags & KEY_ANY) {
        key_sent_any(rc, &decoded, &key);

    } else {
        key_sent_safe(rc, &uri, &decoded, &key);
    }

    if (rc == NGX_OK) {
        key_encoded(&key);
    }
}


static void
key_sent_safe(ngx_int_t rc, const ngx_str_t *uri, const ngx_str_t *decoded,
    const ngx_str_t *key)
{
    fuzz_check(key->data == uri->data + PREFIX_LEN
               && key->len == uri->len - PREFIX_LEN);
    fuzz_check((rc == NGX_OK) == (key_valid(key, 0)
                                  && !key_empty_segment(decoded)),
               "rc %d, key \"%.*s\"", (int) rc, (int) key->len, key->data);
}


static void
key_sent_any(ngx_int_t rc, const ngx_str_t *decoded, const ngx_str_t *key)
{
    ngx_str_t  is;

    if (!key_is_behind(decoded)) {
        fuzz_check(rc == NGX_DECLINED);
        return;
    }

    is.data = decoded->data + PREFIX_LEN;
    is.len = decoded->len - PREFIX_LEN;

    fuzz_check(key->len == is.len && memcmp(key->data, is.data, is.len) == 0);
    fuzz_check((rc == NGX_OK) == (key_valid(&is, KEY_ANY)
                                  && !key_dot_segment(&is)),
               "rc %d, key \"%.*s\"", (int) rc, (int) key->len, key->data);
}


/* Every key has an address, whatever nginx does to slashes. */

static void
key_encoded(const ngx_str_t *key)
{
    size_t      i;
    uint8_t     flags;
    u_char     *p;
    ngx_str_t   path, uri, again;

    path.data = ngx_pnalloc(NULL, PREFIX_LEN + 3 * key->len + 1);
    uri.data = ngx_pnalloc(NULL, PREFIX_LEN + key->len);

    memcpy(path.data, PREFIX, PREFIX_LEN);
    memcpy(uri.data, PREFIX, PREFIX_LEN);

    for (i = 0, p = path.data + PREFIX_LEN; i < key->len; i++) {
        p += snprintf((char *) p, 4, "%%%02x", key->data[i]);
    }

    path.len = p - path.data;

    for (flags = 0; flags <= KEY_MERGE; flags++) {
        uri.len = PREFIX_LEN + key->len;
        memcpy(uri.data + PREFIX_LEN, key->data, key->len);
        key_normalize(&uri, flags & KEY_MERGE);

        fuzz_check(key_find(uri, path, KEY_ANY | KEY_QUOTED, &again) == NGX_OK);
        fuzz_check(again.len == key->len
                   && memcmp(again.data, key->data, key->len) == 0);
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

    fuzz_check((rc == NGX_ABORT) == !key_is_behind(&uri));
    fuzz_check(rc == NGX_OK || rc == NGX_DECLINED || rc == NGX_ABORT);

    if (rc == NGX_OK) {
        fuzz_check(key_valid(&key, flags) && !key_dot_segment(&key));
    }

    if (rc == NGX_OK && !(flags & KEY_ANY)) {
        fuzz_check(key.data == uri.data + PREFIX_LEN
                   && key.len == uri.len - PREFIX_LEN);
    }
}


/* Dot segments and empty ones go, as in ngx_http_parse_complex_uri(). */

static void
key_normalize(ngx_str_t *uri, bool merge_slashes)
{
    size_t   i, end, n;
    u_char  *p = uri->data;

    n = 1;

    for (i = 1; i < uri->len; i = end + 1) {

        for (end = i; end < uri->len && p[end] != '/'; end++) {
            /* void */
        }

        if ((end == i && merge_slashes) || (end - i == 1 && p[i] == '.')) {
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
key_valid(const ngx_str_t *key, uint8_t flags)
{
    size_t  i;

    static const char  chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789:_.-";

    for (i = 0; i < key->len; i++) {

        if (flags & KEY_ANY
            ? key->data[i] < 0x20 || key->data[i] == 0x7f
            : memchr(chars, key->data[i], sizeof(chars) - 1) == NULL)
        {
            return false;
        }
    }

    return key->len != 0;
}


static bool
key_dot_segment(const ngx_str_t *key)
{
    size_t  i, begin, n;

    for (i = 0, begin = 0; i <= key->len; i++) {

        if (i < key->len && key->data[i] != '/') {
            continue;
        }

        n = i - begin;

        if ((n == 1 || n == 2) && memcmp(key->data + begin, "..", n) == 0) {
            return true;
        }

        begin = i + 1;
    }

    return false;
}


static bool
key_is_behind(const ngx_str_t *path)
{
    return path->len >= PREFIX_LEN
           && memcmp(path->data, PREFIX, PREFIX_LEN) == 0;
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
    const char                *wrong;
    ngx_http_request_t         r;
    ngx_http_core_loc_conf_t   clcf;

    memset(&r, 0, sizeof(r));
    memset(&clcf, 0, sizeof(clcf));

    ngx_str_set(&clcf.name, PREFIX);
    conf[0] = &clcf;

    r.loc_conf = conf;
    r.uri = uri;
    r.unparsed_uri = unparsed;
    r.complex_uri = (flags & KEY_COMPLEX) != 0;
    r.quoted_uri = (flags & KEY_QUOTED) != 0;

    ngx_str_null(key);

    return ngx_http_kv_key(&r, flags & KEY_ANY ? KV_KEY_ANY : KV_KEY_SAFE, key,
                           &wrong);
}
