
/*
 * What happens to a request, by route and method: up to its answer, or to the
 * file that goes on with it.
 */


#include "http/ngx_http_kv.h"

#include "base/kv_number.h"


/* how long a read may wait for a change, seconds */
#define NGX_HTTP_KV_WAIT_MAX  600


static ngx_int_t ngx_http_kv_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_find_key(ngx_http_kv_ctx_t *ctx,
    const char **wrong);
static ngx_int_t ngx_http_kv_no_key(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_method(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_write(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_no_method(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_args(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, const char **wrong);
static ngx_int_t ngx_http_kv_args_post(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, const char **wrong);
static ngx_int_t ngx_http_kv_get(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_read_again(ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_read(ngx_http_kv_ctx_t *ctx, ngx_uint_t wait);
static ngx_int_t ngx_http_kv_change(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_change_op(ngx_http_kv_ctx_t *ctx, kv_op_t **op);
static ngx_int_t ngx_http_kv_change_wait(ngx_http_kv_ctx_t *ctx,
    uint32_t need);
static kv_rc_t ngx_http_kv_change_again(ngx_http_kv_ctx_t *ctx);
static ngx_http_kv_done_pt ngx_http_kv_change_done(ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_returned(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_touched(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static ngx_int_t ngx_http_kv_clear_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_health_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_stats_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_bulk_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_keys_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_batch_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_backup_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_watch_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_lines(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, const char *args, const char *conditions);
static ngx_int_t ngx_http_kv_here(ngx_http_kv_ctx_t *ctx);
static const ngx_http_kv_loc_conf_t *ngx_http_kv_rules(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_no_condition(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_start(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, kv_op_t *op);
static ngx_http_kv_ctx_t *ngx_http_kv_create_ctx(ngx_http_request_t *r);


/* by route, in the order of ngx_http_kv_route_t */

ngx_http_handler_pt  ngx_http_kv_handlers[NGX_HTTP_KV_ROUTES + 1] = {
    ngx_http_kv_handler,
    ngx_http_kv_clear_handler,
    ngx_http_kv_health_handler,
    ngx_http_kv_stats_handler,
    ngx_http_kv_bulk_handler,
    ngx_http_kv_keys_handler,
    ngx_http_kv_batch_handler,
    ngx_http_kv_backup_handler,
    ngx_http_kv_watch_handler,
    ngx_http_kv_cluster_handler
};


static ngx_int_t
ngx_http_kv_handler(ngx_http_request_t *r)
{
    ngx_int_t           rc;
    const char         *wrong;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_kv_bind(ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_kv_find_key(ctx, &wrong);

    switch (rc) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        return ngx_http_kv_reply_wrong(r, wrong);

    case NGX_ABORT:
        return ngx_http_kv_no_key(r);

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->key.len > KV_KEY_MAX) {
        return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_URI_TOO_LARGE,
                                 "key too long\n");
    }

    ctx->key_good = 1;

    return ngx_http_kv_method(r, ctx);
}


/* Results as of ngx_http_kv_key(). */

static ngx_int_t
ngx_http_kv_find_key(ngx_http_kv_ctx_t *ctx, const char **wrong)
{
    ngx_int_t  rc;

    /* that of key= is there already */

    if (ctx->key.len == 0) {
        rc = ngx_http_kv_key(ctx->request, ctx->key_chars, &ctx->key, wrong);

        if (rc != NGX_OK || ctx->prefix.len == 0) {
            return rc;
        }

        if (ngx_http_kv_bound_name(ctx, &ctx->key) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    *wrong = kv_key_wrong(ctx->key_chars, (char *) ctx->key.data, ctx->key.len);

    return *wrong ? NGX_DECLINED : NGX_OK;
}


/* Goes on with a key that is good. */

static ngx_int_t
ngx_http_kv_method(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t    rc;
    const char  *wrong;

    rc = ngx_http_kv_args(r, ctx, &wrong);

    if (rc == NGX_DECLINED) {
        return ngx_http_kv_no_method(r);
    }

    if (rc == NGX_ERROR) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    if (ngx_http_kv_has_condition(r)
        && ngx_http_kv_condition_check(r) != NGX_OK)
    {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "If-Match and If-None-Match take * or a list "
                                 "of quoted tags\n");
    }

    rc = ngx_http_kv_here(ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    return r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)
           ? ngx_http_kv_get(r, ctx) : ngx_http_kv_write(r, ctx);
}


static ngx_int_t
ngx_http_kv_write(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    if (ngx_http_kv_rules(r)->require_match && !ngx_http_kv_has_condition(r)) {
        return ngx_http_kv_reply(r, NGX_HTTP_KV_PRECONDITION_REQUIRED,
                                 "precondition required: send If-Match or "
                                 "If-None-Match\n");
    }

    return ctx->stores ? ngx_http_kv_put(r, ctx) : ngx_http_kv_change(r, ctx);
}


/* The key does not take the method, or not without an argument. */

static ngx_int_t
ngx_http_kv_no_method(ngx_http_request_t *r)
{
    if (ngx_http_kv_rules(r)->read_only) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    /* with an argument that says what to change it does take a POST */

    return ngx_http_kv_reply_allow(r, r->method == NGX_HTTP_POST
                                      ? "GET, HEAD, PUT, DELETE"
                                      : "GET, HEAD, PUT, POST, DELETE");
}


/*
 * The arguments of a request for a key.  NGX_OK; NGX_DECLINED: a key does not
 * take the method, or not without them; NGX_ERROR, and what is wrong.
 */

static ngx_int_t
ngx_http_kv_args(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx,
    const char **wrong)
{
    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_OK;
    }

    if (ngx_http_kv_rules(r)->read_only) {
        return NGX_DECLINED;
    }

    switch (r->method) {

    case NGX_HTTP_PUT:
        ctx->stores = 1;
        ctx->ttl = ctx->zone->ttl;

        if (r->args.len
            && ngx_http_kv_arg_ttl(r, 1, &ctx->ttl) == NGX_ERROR)
        {
            *wrong = "invalid ttl\n";
            return NGX_ERROR;
        }

        return NGX_OK;

    case NGX_HTTP_POST:
        return ngx_http_kv_args_post(r, ctx, wrong);

    case NGX_HTTP_DELETE:
        return NGX_OK;

    default:
        return NGX_DECLINED;
    }
}


/*
 * An increment, which may have a time for a new counter, or a time alone; or,
 * with kv_post, a value.
 */

static ngx_int_t
ngx_http_kv_args_post(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx,
    const char **wrong)
{
    ngx_int_t  incr, ttl;

    incr = ngx_http_kv_arg_number(r, "incr", &ctx->increment);

    if (incr == NGX_ERROR) {
        *wrong = "invalid increment\n";
        return NGX_ERROR;
    }

    ctx->adds = incr == NGX_OK;
    ctx->ttl = ctx->adds ? ctx->zone->ttl : 0;

    ttl = ngx_http_kv_arg_ttl(r, ctx->adds ? 1 : 0, &ctx->ttl);

    if (ttl == NGX_ERROR) {
        *wrong = "invalid ttl\n";
        return NGX_ERROR;
    }

    if (ctx->adds || ttl == NGX_OK) {
        return NGX_OK;
    }

    if (!ngx_http_kv_rules(r)->post) {
        return NGX_DECLINED;
    }

    ctx->stores = 1;
    ctx->ttl = ctx->zone->ttl;

    return NGX_OK;
}


/*
 * A mistake of the configuration, "rewrite" with "break" or "try_files": an
 * answer about some other key would hide it.
 */

static ngx_int_t
ngx_http_kv_no_key(ngx_http_request_t *r)
{
    size_t                     n;
    u_char                     shown[NGX_HTTP_KV_SHOWN];
    ngx_http_kv_ctx_t         *ctx;
    ngx_http_core_loc_conf_t  *clcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (ngx_http_kv_may_log(ctx->zone, NGX_HTTP_KV_LOG_PATH)) {
        n = ngx_http_kv_shown(shown, &r->uri);

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the path was changed to \"%*s%s\", which does not begin "
                      "with \"%V\", the name of the location: there is no key "
                      "in it", n, shown, n < r->uri.len ? "..." : "",
                      &clcf->name);
    }

    return ngx_http_kv_reply(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                             "internal server error\n");
}


static ngx_int_t
ngx_http_kv_get(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    int64_t    wait;
    ngx_int_t  rc;

    wait = 0;

    if (r->args.len && r == r->main) {
        rc = ngx_http_kv_arg_number(r, "wait", &wait);

        if (rc == NGX_ERROR || wait < 0 || wait > NGX_HTTP_KV_WAIT_MAX) {
            return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                     "invalid wait\n");
        }
    }

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    if (wait) {
        return ngx_http_kv_await(ctx, (ngx_uint_t) wait, ngx_http_kv_read);
    }

    rc = ngx_http_kv_read(ctx, 0);

    return rc == NGX_HTTP_KV_LATER
           ? ngx_http_kv_later(ctx, ngx_http_kv_read_again) : rc;
}


static ngx_int_t
ngx_http_kv_read_again(ngx_http_kv_ctx_t *ctx)
{
    return ngx_http_kv_read(ctx, 0);
}


static ngx_int_t
ngx_http_kv_read(ngx_http_kv_ctx_t *ctx, ngx_uint_t wait)
{
    kv_rc_t              rc;
    ngx_int_t            elsewhere;
    kv_entry_t          *e;
    kv_store_t          *store;
    ngx_http_request_t  *r;

    r = ctx->request;
    store = ctx->zone->store;

    /* of one that has waited another node may be the leader by now */

    elsewhere = ngx_http_kv_lead(ctx);

    if (elsewhere != NGX_DECLINED) {
        return elsewhere;
    }

    rc = kv_store_read(store, ctx->key.data, ctx->key.len, &e);

    if (rc == KV_OK) {
        ctx->version = kv_store_version(store, e);
        ctx->expires = kv_store_expires(store, e);

        if (wait && ngx_http_kv_condition_get(r, &ctx->version)
                    == NGX_HTTP_NOT_MODIFIED)
        {
            kv_store_read_done(store);
            return NGX_BUSY;
        }

        return ngx_http_kv_reply_value(r, ctx, e);
    }

    if (rc == KV_AGAIN) {
        return NGX_HTTP_KV_LATER;
    }

    if (rc == KV_NOT_FOUND && wait && r->headers_in.if_none_match == NULL) {
        return NGX_BUSY;
    }

    if (rc == KV_UNAVAILABLE) {
        ngx_http_kv_process_events(ctx->zone);
    }

    return ngx_http_kv_reply_rc(r, rc);
}


/*
 * A write without a body: a DELETE, of a key or of all, an increment, or
 * another time of expiry.
 */

static ngx_int_t
ngx_http_kv_change(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_op_t  *op;
    kv_rc_t   rc;

    rc = ngx_http_kv_change_op(ctx, &op);

    if (rc == KV_OK) {
        return ngx_http_kv_start(r, ctx, op);
    }

    /* the zone has memory for a limited number at a time */

    if (rc == KV_NO_MEMORY
        && ngx_http_kv_change_wait(ctx, ctx->adds ? KV_NUMBER_MAX : 0)
           == NGX_OK)
    {
        r->main->count++;
        return NGX_DONE;
    }

    ngx_http_kv_process_events(ctx->zone);

    return ngx_http_kv_reply_rc(r, rc);
}


static kv_rc_t
ngx_http_kv_change_op(ngx_http_kv_ctx_t *ctx, kv_op_t **op)
{
    kv_rc_t      rc;
    uint16_t     len;
    kv_store_t  *store;

    store = ctx->zone->store;
    len = (uint16_t) ctx->key.len;

    if (ctx->route == NGX_HTTP_KV_ROUTE_CLEAR) {
        return kv_store_clear(store, op);
    }

    if (ctx->adds) {
        ctx->keeps = 1;

        return kv_store_increment(store, ctx->key.data, len, ctx->increment,
                                  ctx->ttl, op);
    }

    if (ctx->request->method == NGX_HTTP_POST) {
        return kv_store_touch(store, ctx->key.data, len, ctx->ttl, op);
    }

    rc = kv_store_delete(store, ctx->key.data, len, op);

    if (rc == KV_OK && ngx_http_kv_prefers_value(ctx->request)) {
        ctx->keeps = 1;
        kv_store_return(*op);
    }

    return rc;
}


/* A delete will find memory; an increment needs as much as a small value. */

static ngx_int_t
ngx_http_kv_change_wait(ngx_http_kv_ctx_t *ctx, uint32_t need)
{
    return ngx_http_kv_reserve_wait(ctx, need, ngx_http_kv_change_again);
}


static kv_rc_t
ngx_http_kv_change_again(ngx_http_kv_ctx_t *ctx)
{
    kv_op_t             *op;
    kv_rc_t              rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    rc = ngx_http_kv_change_op(ctx, &op);

    if (rc != KV_NO_MEMORY) {
        ngx_http_kv_finish(r, rc == KV_OK ? ngx_http_kv_start(r, ctx, op)
                                          : ngx_http_kv_reply_rc(r, rc));
        rc = KV_OK;
    }

    return rc;
}


/* What answers it. */

static ngx_http_kv_done_pt
ngx_http_kv_change_done(ngx_http_kv_ctx_t *ctx)
{
    if (ctx->request->method == NGX_HTTP_POST) {
        return ctx->adds ? ngx_http_kv_reply_sum : ngx_http_kv_touched;
    }

    return ctx->keeps ? ngx_http_kv_returned : ngx_http_kv_reply_done;
}


/* The committer had no memory to give a delete its value. */

static void
ngx_http_kv_returned(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    if (rc == KV_NO_MEMORY) {
        ngx_http_kv_detach(ctx);

        if (ngx_http_kv_change_wait(ctx, 0) == NGX_OK) {
            return;
        }
    }

    ngx_http_kv_reply_returned(ctx, rc);
}


/*
 * The committer had no memory for a time of expiry, for which the value has no
 * place: it may be copied.
 */

static void
ngx_http_kv_touched(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    if (rc != KV_NO_MEMORY
        || ngx_http_kv_change_wait(ctx, KV_ENTRY_INLINE) != NGX_OK)
    {
        ngx_http_kv_reply_done(ctx, rc);
    }
}


static ngx_int_t
ngx_http_kv_clear_handler(ngx_http_request_t *r)
{
    ngx_int_t           rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_kv_rules(r)->read_only) {
        return ngx_http_kv_reply_allow(r, "");
    }

    if (r->method != NGX_HTTP_DELETE) {
        return ngx_http_kv_reply_allow(r, "DELETE");
    }

    if (ngx_http_kv_has_condition(r)) {

        /* all keys together have no version: not to be done without one */

        return ngx_http_kv_reply(r, NGX_HTTP_NOT_IMPLEMENTED,
                                 "a clear cannot be conditional\n");
    }

    if (ngx_http_kv_rules(r)->require_match) {
        return ngx_http_kv_no_condition(r);
    }

    rc = ngx_http_kv_here(ctx);

    return rc == NGX_DECLINED ? ngx_http_kv_change(r, ctx) : rc;
}


static ngx_int_t
ngx_http_kv_health_handler(ngx_http_request_t *r)
{
    bool                healthy;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    healthy = ngx_http_kv_entered(ctx->zone) == NGX_OK
              && kv_store_healthy(ctx->zone->store);

    if (!healthy && kv_store_entered(ctx->zone->store)) {

        /* a rebuild may have to be started from here */

        ngx_http_kv_process_events(ctx->zone);
    }

    return ngx_http_kv_reply_rc(r, healthy ? KV_OK : KV_UNAVAILABLE);
}


static ngx_int_t
ngx_http_kv_stats_handler(ngx_http_request_t *r)
{
    ngx_buf_t          *b;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    ngx_http_kv_ask_disk_space(ctx->zone);

    b = ngx_http_kv_stats_json(r->pool, ctx->zone);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_reply_buf(r, "application/json", b);
}


static ngx_int_t
ngx_http_kv_bulk_handler(ngx_http_request_t *r)
{
    ngx_int_t           rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_kv_lines(r, ctx, "a bulk load takes no arguments\n",
                           "a bulk load cannot be conditional\n");

    if (rc == NGX_DECLINED && ngx_http_kv_rules(r)->require_match) {
        return ngx_http_kv_no_condition(r);
    }

    return rc == NGX_DECLINED ? ngx_http_kv_bulk(r, ctx) : rc;
}


static ngx_int_t
ngx_http_kv_batch_handler(ngx_http_request_t *r)
{
    ngx_int_t           rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_kv_lines(r, ctx, "a batch takes no arguments\n",
                           "the conditions of a batch are in its lines\n");

    return rc == NGX_DECLINED ? ngx_http_kv_batch(r, ctx) : rc;
}


static ngx_int_t
ngx_http_kv_backup_handler(ngx_http_request_t *r)
{
    ngx_int_t           rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    if (r->args.len) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "a backup takes no arguments\n");
    }

    rc = ngx_http_kv_here(ctx);

    return rc == NGX_DECLINED ? ngx_http_kv_backup(r, ctx) : rc;
}


static ngx_int_t
ngx_http_kv_watch_handler(ngx_http_request_t *r)
{
    ngx_int_t           rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    rc = ngx_http_kv_bind(ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (r != r->main) {

        /* the answer that it is to be a part of would never end */

        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "a watch cannot be part of another answer\n");
    }

    if (r->headers_in.chunked || r->headers_in.content_length_n > 0) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "a watch takes no body\n");
    }

    rc = ngx_http_kv_lead(ctx);

    return rc == NGX_DECLINED ? ngx_http_kv_watch(r, ctx) : rc;
}


/* NGX_DECLINED: the body is to be taken; else this is the handler's result. */

static ngx_int_t
ngx_http_kv_lines(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx,
    const char *args, const char *conditions)
{
    kv_rc_t    rc;
    ngx_int_t  result;

    if (ngx_http_kv_rules(r)->read_only) {
        return ngx_http_kv_reply_allow(r, "");
    }

    if (r->method != NGX_HTTP_POST) {
        return ngx_http_kv_reply_allow(r, "POST");
    }

    result = ngx_http_kv_bind(ctx);

    if (result != NGX_DECLINED) {
        return result;
    }

    if (r->args.len) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, args);
    }

    if (ngx_http_kv_has_condition(r)) {
        return ngx_http_kv_reply(r, NGX_HTTP_NOT_IMPLEMENTED, conditions);
    }

    result = ngx_http_kv_here(ctx);

    if (result != NGX_DECLINED) {
        return result;
    }

    rc = kv_store_fits(ctx->zone->store, 0, 0);

    return rc == KV_OK ? NGX_DECLINED : ngx_http_kv_reply_rc(r, rc);
}


static ngx_int_t
ngx_http_kv_keys_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_uint_t                     methods;
    ngx_http_kv_ctx_t             *ctx;
    const ngx_http_kv_loc_conf_t  *rules;

    ctx = ngx_http_kv_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rules = ngx_http_kv_rules(r);
    methods = NGX_HTTP_GET|NGX_HTTP_HEAD;

    if (!rules->read_only) {
        methods |= NGX_HTTP_DELETE;
    }

    if (!(r->method & methods)) {
        return ngx_http_kv_reply_allow(r, rules->read_only
                                          ? "GET, HEAD" : "GET, HEAD, DELETE");
    }

    rc = ngx_http_kv_bind(ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (r == r->main
        && (r->headers_in.chunked || r->headers_in.content_length_n > 0))
    {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 r->method == NGX_HTTP_DELETE
                                 ? "a delete takes no body\n"
                                 : "a list takes no body\n");
    }

    rc = ngx_http_kv_here(ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (r->method != NGX_HTTP_DELETE) {
        return ngx_http_kv_keys(r, ctx);
    }

    if (rules->require_match && !ngx_http_kv_has_condition(r)) {
        return ngx_http_kv_no_condition(r);
    }

    return ngx_http_kv_keys_delete(r, ctx);
}


/*
 * Whether this worker can do the request now: NGX_DECLINED; else this is the
 * handler's result.
 */

static ngx_int_t
ngx_http_kv_here(ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_kv_lead(ctx);

    if (rc == NGX_DECLINED && ngx_http_kv_entered(ctx->zone) != NGX_OK) {
        rc = ngx_http_kv_reply_rc(ctx->request, KV_UNAVAILABLE);
    }

    return rc;
}


/* What the location allows: kv_read_only and others. */

static const ngx_http_kv_loc_conf_t *
ngx_http_kv_rules(ngx_http_request_t *r)
{
    return ngx_http_get_module_loc_conf(r, ngx_http_kv_module);
}


/* With kv_require_match, to a write that is never conditional. */

static ngx_int_t
ngx_http_kv_no_condition(ngx_http_request_t *r)
{
    return ngx_http_kv_reply(r, NGX_HTTP_KV_PRECONDITION_REQUIRED,
                             "precondition required: this write cannot have "
                             "one\n");
}


/* A write without a body: from here on it waits for the committer. */

static ngx_int_t
ngx_http_kv_start(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx, kv_op_t *op)
{
    kv_rc_t  rc;

    if (ngx_http_kv_attach(ctx, op) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        ngx_http_kv_detach(ctx);
        return ngx_http_kv_reply_body(r);
    }

    rc = ngx_http_kv_condition_put(ctx);

    if (rc != KV_OK) {
        ngx_http_kv_detach(ctx);
    }

    if (rc == KV_AGAIN && ngx_http_kv_change_wait(ctx, 0) == NGX_OK) {
        r->main->count++;
        return NGX_DONE;
    }

    if (rc != KV_OK) {
        return ngx_http_kv_reply_rc(r, rc);
    }

    r->main->count++;
    ngx_http_kv_submit(ctx, ngx_http_kv_change_done(ctx));

    return NGX_DONE;
}


static ngx_http_kv_ctx_t *
ngx_http_kv_create_ctx(ngx_http_request_t *r)
{
    ngx_http_kv_ctx_t       *ctx;
    ngx_http_kv_loc_conf_t  *klcf;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    ctx->request = r;
    ctx->zone = klcf->zone;
    ctx->route = klcf->route;
    ctx->key_chars = (kv_key_chars_t) klcf->key_chars;
    ctx->max_value = (uint32_t) ngx_min(klcf->max_value,
                                        klcf->zone->conf.max_value);
    ctx->started = kv_now_ns();

    ngx_http_set_ctx(r, ctx, ngx_http_kv_module);

    /*
     * nginx would compare after the answer is made, with an HTML page for 412,
     * and on a write turn a success into one.
     */

    r->disable_not_modified = 1;

    return ctx;
}
