
/*
 * From the request line to the key.
 *
 * nginx decodes and normalises the path into r->uri: it resolves dot segments
 * (as RFC 3986, section 6.2.2.3, says) and also merges slashes, which are not
 * equivalent there: "/kv//a" names the key "/a", which no key may be, and must
 * not be taken for "a".  And a ".." behind an empty segment leads elsewhere
 * without it than with it.
 *
 * So there is one rule: the key is what r->uri has behind the location's name,
 * and a path that has an empty segment anywhere, as it was sent and once it is
 * decoded, names no key.  It depends neither on "merge_slashes" nor on what dot
 * segments there are.
 *
 * After a rewrite or an internal redirect the path that was sent says nothing
 * about the key, and r->uri need not begin with the location's name any more:
 * to cut it there would make one key of many.
 */


#include "http/ngx_http_kv.h"
#include "base/kv_key.h"


static ngx_uint_t ngx_http_kv_empty_segment(ngx_str_t *path);


ngx_int_t
ngx_http_kv_key(ngx_http_request_t *r, ngx_str_t *key)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->uri.len < clcf->name.len
        || ngx_memcmp(r->uri.data, clcf->name.data, clcf->name.len) != 0)
    {
        return NGX_ERROR;
    }

    key->data = r->uri.data + clcf->name.len;
    key->len = r->uri.len - clcf->name.len;

    if (!kv_key_valid((char *) key->data, key->len)) {
        return NGX_DECLINED;
    }

    /* nginx marks each path that has an empty segment as complex */

    if (r->valid_unparsed_uri
        && (r->complex_uri || r->quoted_uri)
        && ngx_http_kv_empty_segment(&r->unparsed_uri))
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_kv_empty_segment(ngx_str_t *path)
{
    u_char     *p, *end, c;
    ngx_int_t   n;
    ngx_uint_t  slash;

    slash = 0;

    for (p = path->data, end = p + path->len; p < end; /* void */) {
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

        if (c == '/' && slash) {
            return 1;
        }

        slash = (c == '/');
    }

    return 0;
}
