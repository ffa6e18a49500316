
/*
 * From the request line to the key.
 *
 * nginx decodes and normalises the path into r->uri: it resolves dot segments
 * (as RFC 3986, section 6.2.2.3, says) and also merges slashes, which are not
 * equivalent there: "/kv//a" names the key "/a", which no key may be, and must
 * not be taken for "a".  So the key is what r->uri says, and the path as the
 * client sent it is asked whether an empty segment was merged away.
 */


#include "ngx_http_kv.h"


static ngx_int_t ngx_http_kv_merged(ngx_http_request_t *r, ngx_str_t *key);


/* A-Z a-z 0-9 : _ . - */

static const uint32_t  ngx_http_kv_key_chars[] = {
    0x00000000,
    0x07ff6000,                    /* - . 0-9 : */
    0x87fffffe,                    /* A-Z _ */
    0x07fffffe,                    /* a-z */
    0x00000000, 0x00000000, 0x00000000, 0x00000000
};


ngx_int_t
ngx_http_kv_key(ngx_http_request_t *r, ngx_str_t *key)
{
    size_t                     i;
    u_char                     c;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->uri.len < clcf->name.len) {
        ngx_str_null(key);
        return NGX_OK;
    }

    key->data = r->uri.data + clcf->name.len;
    key->len = r->uri.len - clcf->name.len;

    for (i = 0; i < key->len; i++) {
        c = key->data[i];

        if (!(ngx_http_kv_key_chars[c >> 5] & (1U << (c & 0x1f)))) {
            return NGX_DECLINED;
        }
    }

    return ngx_http_kv_merged(r, key);
}


/*
 * NGX_DECLINED if the key, as the client sent it, followed an empty segment.
 * After a rewrite the path that was sent says nothing about the key.
 */

static ngx_int_t
ngx_http_kv_merged(ngx_http_request_t *r, ngx_str_t *key)
{
    size_t   n;
    u_char  *p, *end, *src, *dst;

    /* no escape, no doubtful segment: what was sent is what we have */

    if (!r->valid_unparsed_uri || (!r->complex_uri && !r->quoted_uri)) {
        return NGX_OK;
    }

    src = r->unparsed_uri.data;
    end = src + r->unparsed_uri.len;

    for (n = 0; src + n < end && src[n] != '?' && src[n] != '#'; n++) {
        /* void */
    }

    p = ngx_pnalloc(r->pool, n + 1);
    if (p == NULL) {
        return NGX_DECLINED;
    }

    dst = p;

    ngx_unescape_uri(&dst, &src, n, 0);

    n = dst - p;

    if (n >= key->len + 2
        && ngx_memcmp(dst - key->len, key->data, key->len) == 0
        && dst[- (ssize_t) key->len - 1] == '/'
        && dst[- (ssize_t) key->len - 2] == '/')
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}
