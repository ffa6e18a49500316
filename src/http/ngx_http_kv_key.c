
/*
 * From the request line to the key.
 *
 * nginx decodes and normalises the path into r->uri: it resolves dot segments
 * (as RFC 3986, section 6.2.2.3, says) and also merges slashes, which are not
 * equivalent there: "/kv//a" names the key "/a", which must not be taken for
 * "a".  And a ".." behind an empty segment leads elsewhere without it than with
 * it.
 *
 * So there are two rules, of which neither depends on "merge_slashes":
 *
 * - Where keys are of the safe characters, the key is what r->uri has behind
 *   the location's name, and a path that has an empty segment anywhere, as it
 *   was sent and once it is decoded, names no key.
 *
 * - Where a key may have any characters, it is what the path as it was sent has
 *   behind the location's name, once that is decoded.  So empty segments count.
 *   A path with a dot segment names no key: nginx has resolved it, and has
 *   chosen the location by the rest.  If it were a part of the key, then
 *   "/kv/private/../a" would be a key below "private/" which no location for
 *   that ever saw.
 *
 * After a rewrite or an internal redirect the path that was sent says nothing
 * about the key, and r->uri need not begin with the location's name any more:
 * to cut it there would make one key of many.
 */


#include "http/ngx_http_kv.h"


static ngx_int_t ngx_http_kv_sent_path(ngx_http_request_t *r,
    ngx_str_t *path);
static void ngx_http_kv_decode_path(ngx_str_t *sent, ngx_str_t *path);
static size_t ngx_http_kv_normalize(u_char *uri, const ngx_str_t *path,
    ngx_uint_t merge_slashes);
static ngx_uint_t ngx_http_kv_empty_segment(const ngx_str_t *path);
static ngx_uint_t ngx_http_kv_cut(const ngx_str_t *path, const ngx_str_t *name,
    ngx_str_t *key);


ngx_int_t
ngx_http_kv_key(ngx_http_request_t *r, kv_key_chars_t chars, ngx_str_t *key,
    const char **wrong)
{
    ngx_int_t                  rc;
    ngx_str_t                  path;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!ngx_http_kv_cut(&r->uri, &clcf->name, key)) {
        return NGX_ABORT;
    }

    /* nginx marks each path of which it makes another one */

    rc = r->complex_uri || r->quoted_uri ? ngx_http_kv_sent_path(r, &path)
                                         : NGX_DECLINED;

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK && chars == KV_KEY_SAFE
        && ngx_http_kv_empty_segment(&path))
    {
        *wrong = "key contains invalid characters";
        return NGX_DECLINED;
    }

    if (rc == NGX_OK && chars != KV_KEY_SAFE
        && !ngx_http_kv_cut(&path, &clcf->name, key))
    {
        *wrong = "path has a dot or empty segment before the key";
        return NGX_DECLINED;
    }

    *wrong = kv_key_wrong(chars, (char *) key->data, key->len);

    return *wrong ? NGX_DECLINED : NGX_OK;
}


/*
 * The path as it was sent, decoded, in the request's pool.  NGX_OK;
 * NGX_DECLINED: it is not what r->uri was made of; NGX_ERROR: no memory.
 */

static ngx_int_t
ngx_http_kv_sent_path(ngx_http_request_t *r, ngx_str_t *path)
{
    size_t       n;
    u_char      *uri;
    ngx_uint_t   merge_slashes;

    n = r->unparsed_uri.len;

    path->data = ngx_pnalloc(r->pool, 2 * n + 1);
    if (path->data == NULL) {
        return NGX_ERROR;
    }

    uri = path->data + n;

    ngx_http_kv_decode_path(&r->unparsed_uri, path);

    if (path->len == 0 || path->data[0] != '/') {
        return NGX_DECLINED;
    }

    /* the server may be another one than that whose setting nginx went by */

    for (merge_slashes = 0; merge_slashes < 2; merge_slashes++) {
        n = ngx_http_kv_normalize(uri, path, merge_slashes);

        if (n == r->uri.len && ngx_memcmp(uri, r->uri.data, n) == 0) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


static void
ngx_http_kv_decode_path(ngx_str_t *sent, ngx_str_t *path)
{
    u_char     *p, *end, *to, c;
    ngx_int_t   n;

    to = path->data;

    for (p = sent->data, end = p + sent->len; p < end; /* void */) {
        c = *p++;

        if (c == '?' || c == '#') {
            break;
        }

        if (c == '%' && end - p >= 2) {
            n = ngx_hextoi(p, 2);

            if (n != NGX_ERROR) {
                c = (u_char) n;
                p += 2;
            }
        }

        *to++ = c;
    }

    path->len = to - path->data;
}


/*
 * What nginx makes of a decoded path, which begins with a slash.  It is not
 * longer; its length is returned.
 */

static size_t
ngx_http_kv_normalize(u_char *uri, const ngx_str_t *path,
    ngx_uint_t merge_slashes)
{
    size_t   n;
    u_char  *p, *end, *slash, *to;

    to = uri;
    *to++ = '/';

    end = path->data + path->len;

    for (p = path->data + 1; p < end; p = slash + 1) {
        slash = ngx_strlchr(p, end, '/');
        slash = slash ? slash : end;
        n = slash - p;

        if ((n == 0 && merge_slashes) || (n == 1 && p[0] == '.')) {
            continue;
        }

        if (n == 2 && p[0] == '.' && p[1] == '.') {

            for (to -= to > uri + 1; to[-1] != '/'; to--) {
                /* void */
            }

            continue;
        }

        to = ngx_cpymem(to, p, n);

        if (slash < end) {
            *to++ = '/';
        }
    }

    return to - uri;
}


static ngx_uint_t
ngx_http_kv_empty_segment(const ngx_str_t *path)
{
    size_t  i;

    for (i = 1; i < path->len; i++) {
        if (path->data[i - 1] == '/' && path->data[i] == '/') {
            return 1;
        }
    }

    return 0;
}


/* What follows the location's name; 0: the path does not begin with that. */

static ngx_uint_t
ngx_http_kv_cut(const ngx_str_t *path, const ngx_str_t *name, ngx_str_t *key)
{
    if (path->len < name->len
        || ngx_memcmp(path->data, name->data, name->len) != 0)
    {
        return 0;
    }

    key->data = path->data + name->len;
    key->len = path->len - name->len;

    return 1;
}
