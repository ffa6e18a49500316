
/*
 * kv_intercept_errors: an error, or 307 to another node of the cluster, is left
 * to error_page, as an error of nginx's own is.  What that leads to may be a
 * page, or a location that answers in the store's place, such as one that asks
 * another server.
 *
 * Not if the module has taken the request's body, or a part of it, or has
 * thrown it away.  What error_page leads to could not read it again: a proxied
 * server would wait for bytes that never come, or get the client's next
 * request for them.  Nor if the body is longer than client_max_body_size, which
 * nginx does not look at any more on its way to a named location.
 */


#include "http/ngx_http_kv.h"


static ngx_uint_t ngx_http_kv_intercept_page(ngx_http_request_t *r,
    ngx_uint_t status);


ngx_uint_t
ngx_http_kv_intercept(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_http_kv_ctx_t       *ctx;
    ngx_http_kv_loc_conf_t  *klcf;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);
    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    /*
     * 416 is about a value that is there, whose headers are made by then.  At
     * exit no other server could be asked any more.  Who asks for the health of
     * the store is not to get that of another server.
     */

    if (!klcf->intercept_errors
        || (status < NGX_HTTP_BAD_REQUEST
            && status != NGX_HTTP_TEMPORARY_REDIRECT)
        || status == NGX_HTTP_RANGE_NOT_SATISFIABLE || ngx_terminate
        || (ctx && ctx->route == NGX_HTTP_KV_ROUTE_HEALTH)
        || (ctx && ctx->taken)
        || (klcf->max_left && r->headers_in.content_length_n > klcf->max_left)
        || !ngx_http_kv_intercept_page(r, status))
    {
        return 0;
    }

    if (ctx) {

        /* what takes over gets no context of ours */

        r->headers_out.status = status;
        ctx->answered = kv_now_ns();
        ngx_http_kv_stats_count(r, ctx);
        r->headers_out.status = 0;

        ctx->intercepted = status;
        (void) ngx_http_kv_log_keep(ctx);
    }

    /* the conditions of a write are about the key, and are decided */

    r->disable_not_modified = !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD));

    return 1;
}


/* Whether nginx has an error_page for it, and would use it now. */

static ngx_uint_t
ngx_http_kv_intercept_page(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->error_pages == NULL || r->error_page) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}
