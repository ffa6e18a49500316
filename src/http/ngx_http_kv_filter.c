
/*
 * What caches are told about answers of our locations.
 *
 * A value may be another the next moment, and an answer without a word about
 * it may be kept: by a cache's own guess (RFC 9111, section 4.2.2) or its
 * configuration, nginx's "proxy_cache_valid" for one.  So each answer says
 * "no-cache", also one that nginx made, unless the configuration has put
 * something else there; who leads a cluster is not to be kept at all.  A value
 * that expires says when, too; but "no-cache" stays, as it may be overwritten
 * or deleted before.
 *
 * Our filter can only see that behind nginx's headers filter, which "expires"
 * and "add_header" belong to.  So the file config registers our module
 * before that one: filters run in the opposite order.
 */


#include "http/ngx_http_kv.h"


static ngx_int_t ngx_http_kv_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_cache_control(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_cache_header(ngx_http_request_t *r,
    const char *name, const ngx_str_t *value);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


void
ngx_http_kv_filter_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_kv_header_filter;
}


static ngx_int_t
ngx_http_kv_header_filter(ngx_http_request_t *r)
{
    ngx_uint_t               there;
    ngx_http_kv_loc_conf_t  *klcf;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

#if (nginx_version >= 1023000)
    there = r->headers_out.cache_control != NULL;
#else
    there = r->headers_out.cache_control.elts != NULL;
#endif

    if (klcf->handler && r == r->main && !there
        && ngx_http_kv_cache_control(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


/* What is said of a value that expires holds as long as it is not changed. */

static ngx_int_t
ngx_http_kv_cache_control(ngx_http_request_t *r)
{
    u_char                  *p;
    time_t                   left;
    ngx_str_t                value;
    ngx_http_kv_ctx_t       *ctx;
    ngx_http_kv_loc_conf_t  *klcf;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    if (klcf->route == NGX_HTTP_KV_ROUTE_CLUSTER) {
        ngx_str_set(&value, "no-store");
        return ngx_http_kv_cache_header(r, "Cache-Control", &value);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx == NULL || ctx->expires == 0
        || r->headers_out.status >= NGX_HTTP_BAD_REQUEST)
    {
        ngx_str_set(&value, "no-cache");
        return ngx_http_kv_cache_header(r, "Cache-Control", &value);
    }

    left = (time_t) (ctx->expires / 1000);

    p = ngx_pnalloc(r->pool, sizeof("no-cache, max-age=") + NGX_TIME_T_LEN
                             + sizeof("Mon, 28 Sep 1970 06:00:00 GMT"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    value.data = p;
    p = ngx_sprintf(p, "no-cache, max-age=%T", left);
    value.len = p - value.data;

    if (ngx_http_kv_cache_header(r, "Cache-Control", &value) != NGX_OK) {
        return NGX_ERROR;
    }

    value.data = p;
    value.len = ngx_http_time(p, ngx_time() + left) - p;

    return ngx_http_kv_cache_header(r, "Expires", &value);
}


static ngx_int_t
ngx_http_kv_cache_header(ngx_http_request_t *r, const char *name,
    const ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value = *value;

    return NGX_OK;
}
