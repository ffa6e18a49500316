
/*
 * What caches are told about answers of our locations.
 *
 * A value may be another the next moment, and an answer without a word about
 * it may be kept: by a cache's own guess (RFC 9111, section 4.2.2) or its
 * configuration, nginx's "proxy_cache_valid" for one.  So each answer says
 * "no-cache", also one that nginx made, unless the configuration has put
 * something else there.
 *
 * Our filter can only see that behind nginx's headers filter, which "expires"
 * and "add_header" belong to.  So the file config registers our module
 * before that one: filters run in the opposite order.
 */


#include "http/ngx_http_kv.h"


static ngx_int_t ngx_http_kv_header_filter(ngx_http_request_t *r);


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
    ngx_table_elt_t         *h;
    ngx_http_kv_loc_conf_t  *klcf;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

#if (nginx_version >= 1023000)
    there = r->headers_out.cache_control != NULL;
#else
    there = r->headers_out.cache_control.elts != NULL;
#endif

    if (klcf->zone == NULL || r != r->main || there) {
        return ngx_http_next_header_filter(r);
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    ngx_str_set(&h->key, "Cache-Control");
    ngx_str_set(&h->value, "no-cache");

    return ngx_http_next_header_filter(r);
}
