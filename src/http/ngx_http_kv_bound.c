
/*
 * Keys that the configuration makes: key= of "kv", and prefix=, which all keys
 * of a location are relative to.
 *
 * Both are expressions of nginx.  A variable in one that is empty or not set
 * makes the request fail: "$remote_user:" must not become ":", which all
 * clients without a name would share.
 */


#include "http/ngx_http_kv.h"


static ngx_uint_t ngx_http_kv_has_control(const ngx_str_t *path);
static ngx_int_t ngx_http_kv_not_bound(ngx_http_kv_ctx_t *ctx,
    ngx_uint_t is_key);


ngx_int_t
ngx_http_kv_bind(ngx_http_kv_ctx_t *ctx)
{
    u_char                    *p;
    ngx_int_t                  rc;
    ngx_str_t                 *value;
    ngx_http_kv_loc_conf_t    *klcf;
    ngx_http_complex_value_t  *expression;

    klcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_kv_module);

    expression = klcf->key ? klcf->key : klcf->prefix;
    value = klcf->key ? &ctx->key : &ctx->prefix;

    if (expression == NULL) {
        return NGX_DECLINED;
    }

    /* "$" of a regular expression also stands before a newline at the end */

    if (ngx_http_kv_has_control(&ctx->request->uri)) {
        return ngx_http_kv_reply(ctx->request, NGX_HTTP_BAD_REQUEST,
                                 "key contains invalid characters\n");
    }

    rc = ngx_http_kv_expression(ctx->request, expression, value);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_kv_not_bound(ctx, klcf->key != NULL);
    }

    if (value->len > KV_KEY_MAX) {
        return ngx_http_kv_reply(ctx->request, NGX_HTTP_REQUEST_URI_TOO_LARGE,
                                 "key too long\n");
    }

    if (ctx->route == NGX_HTTP_KV_ROUTE_BATCH
        || ctx->route == NGX_HTTP_KV_ROUTE_BULK)
    {
        /* with a place behind it, for ngx_http_kv_bound_line() */

        p = ngx_pnalloc(ctx->request->pool, KV_KEY_MAX);
        if (p == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_memcpy(p, value->data, value->len);
        value->data = p;
    }

    return NGX_DECLINED;
}


static ngx_uint_t
ngx_http_kv_has_control(const ngx_str_t *path)
{
    size_t  i;

    for (i = 0; i < path->len; i++) {
        if (path->data[i] < 0x20 || path->data[i] == 0x7f) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_kv_not_bound(ngx_http_kv_ctx_t *ctx, ngx_uint_t is_key)
{
    ngx_http_request_t      *r;
    ngx_http_kv_loc_conf_t  *klcf;

    r = ctx->request;
    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    if (ngx_http_kv_may_log(ctx->zone, NGX_HTTP_KV_LOG_EMPTY)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "a variable of the \"%s=\" of \"%V\" is empty or not set "
                      "in this request, which is refused, in %V:%ui",
                      is_key ? "key" : "prefix", &klcf->directive, &klcf->file,
                      klcf->line);
    }

    return is_key ? ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                      "a part of the key is empty\n")
                  : ngx_http_kv_reply(r, NGX_HTTP_FORBIDDEN,
                                      "a part of the prefix is empty\n");
}


ngx_int_t
ngx_http_kv_bound_name(ngx_http_kv_ctx_t *ctx, ngx_str_t *name)
{
    u_char     *p;
    ngx_str_t  *prefix;

    prefix = &ctx->prefix;

    if (prefix->len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, prefix->len + name->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, prefix->data, prefix->len);
    ngx_memcpy(p + prefix->len, name->data, name->len);

    name->data = p;
    name->len += prefix->len;

    return NGX_OK;
}


const char *
ngx_http_kv_bound_line(ngx_http_kv_ctx_t *ctx, kv_line_t *line)
{
    size_t       n;
    ngx_str_t   *prefix;
    const char  *wrong;

    wrong = ngx_http_kv_types_line(ctx, line);
    prefix = &ctx->prefix;

    if (wrong || prefix->len == 0) {
        return wrong;
    }

    n = prefix->len + line->key_len;

    if (n > KV_KEY_MAX) {
        return "key too long";
    }

    ngx_memcpy(prefix->data + prefix->len, line->key, line->key_len);

    line->key = (char *) prefix->data;
    line->key_len = (uint16_t) n;

    return kv_key_wrong(ctx->key_chars, line->key, n);
}
