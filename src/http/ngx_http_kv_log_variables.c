
/*
 * Variables for the log: what a request did to the store.
 *
 * They are of the request that was last served by a location of ours; what
 * error_page leads to in its place (kv_intercept_errors) has no context of its
 * own, and finds that one by a cleanup of the pool, as nginx clears the
 * contexts.  Any other request has none of them.
 *
 * None can break a line of the log, also with "escape=none": the key is one
 * that was found good, so it has no controls, and the others are words and
 * numbers of ours.
 */


#include "http/ngx_http_kv.h"


static void ngx_http_kv_log_cleanup(void *data);
static ngx_int_t ngx_http_kv_log_key(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_kv_log_version(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_kv_log_result(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static const char *ngx_http_kv_log_word(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_log_wait_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_kv_log_set(ngx_http_variable_value_t *v, u_char *p,
    size_t len);


/* They change while a request lasts, so nginx is not to keep them. */

static ngx_http_variable_t  ngx_http_kv_log_variables[] = {

    { ngx_string("kv_key"), NULL, ngx_http_kv_log_key, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("kv_version"), NULL, ngx_http_kv_log_version, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("kv_result"), NULL, ngx_http_kv_log_result, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("kv_wait_time"), NULL, ngx_http_kv_log_wait_time, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_kv_add_log_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *v, *added;

    for (v = ngx_http_kv_log_variables; v->name.len; v++) {

        added = ngx_http_add_variable(cf, &v->name, v->flags);
        if (added == NULL) {
            return NGX_ERROR;
        }

        added->get_handler = v->get_handler;
        added->data = v->data;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_log_keep(ngx_http_kv_ctx_t *ctx)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(ctx->request->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_kv_log_cleanup;
    cln->data = ctx;

    return NGX_OK;
}


static void
ngx_http_kv_log_cleanup(void *data)
{
    (void) data;
}


ngx_http_kv_ctx_t *
ngx_http_kv_log_ctx(ngx_http_request_t *r)
{
    ngx_http_kv_ctx_t   *ctx;
    ngx_pool_cleanup_t  *cln;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx || !r->internal) {
        return ctx;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_kv_log_cleanup) {
            ctx = cln->data;

            /* a subrequest has the pool of the main one */

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_kv_log_key(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_http_kv_ctx_t  *ctx;

    (void) data;

    ctx = ngx_http_kv_log_ctx(r);

    if (ctx == NULL || !ctx->key_good) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_kv_log_set(v, ctx->key.data, ctx->key.len);

    return NGX_OK;
}


/* As in a list of keys: without the quotes of the tag. */

static ngx_int_t
ngx_http_kv_log_version(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    u_char             *tag;
    size_t              len;
    ngx_http_kv_ctx_t  *ctx;

    (void) data;

    ctx = ngx_http_kv_log_ctx(r);

    if (ctx == NULL || ctx->version.lsn == 0
        || ctx->route == NGX_HTTP_KV_ROUTE_BULK)
    {
        v->not_found = 1;
        return NGX_OK;
    }

    tag = ngx_pnalloc(r->pool, KV_VERSION_TAG);
    if (tag == NULL) {
        return NGX_ERROR;
    }

    len = kv_version_tag(&ctx->version, (char *) tag);

    ngx_http_kv_log_set(v, tag + 1, len - 2);

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_log_result(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    const char         *word;
    ngx_http_kv_ctx_t  *ctx;

    (void) data;

    ctx = ngx_http_kv_log_ctx(r);
    word = ctx ? ngx_http_kv_log_word(r, ctx) : NULL;

    if (word == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_kv_log_set(v, (u_char *) word, ngx_strlen(word));

    return NGX_OK;
}


static const char *
ngx_http_kv_log_word(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_uint_t  status;

    if (ctx->route == NGX_HTTP_KV_ROUTE_HEALTH
        || ctx->route == NGX_HTTP_KV_ROUTE_STATS
        || ctx->route == NGX_HTTP_KV_ROUTE_BACKUP
        || ctx->route == NGX_HTTP_KV_ROUTE_WATCH)
    {
        return NULL;
    }

    status = ctx->intercepted ? ctx->intercepted : ngx_http_kv_status(r);

    switch (status) {

    case NGX_HTTP_NOT_FOUND:
        return "miss";

    case NGX_HTTP_CLIENT_CLOSED_REQUEST:
        return "failed";

    case NGX_HTTP_NOT_IMPLEMENTED:
        return "refused";

    default:
        break;
    }

    if (status >= NGX_HTTP_BAD_REQUEST) {
        return status < NGX_HTTP_INTERNAL_SERVER_ERROR ? "refused" : "failed";
    }

    switch (r->method) {

    case NGX_HTTP_GET:
    case NGX_HTTP_HEAD:
        return "hit";

    case NGX_HTTP_DELETE:
        return "deleted";

    default:
        return "stored";
    }
}


/* As nginx's own $request_time. */

static ngx_int_t
ngx_http_kv_log_wait_time(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    u_char             *p;
    uint64_t            ms;
    ngx_http_kv_ctx_t  *ctx;

    (void) data;

    ctx = ngx_http_kv_log_ctx(r);

    if (ctx == NULL || ctx->committed == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ms = ctx->committed / 1000000;

    ngx_http_kv_log_set(v, p, ngx_sprintf(p, "%uL.%03uL", ms / 1000, ms % 1000)
                              - p);

    return NGX_OK;
}


static void
ngx_http_kv_log_set(ngx_http_variable_value_t *v, u_char *p, size_t len)
{
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;
    v->len = len;
}
