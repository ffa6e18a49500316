
/*
 * Conditional requests: If-Match and If-None-Match (RFC 9110, section 13).
 *
 * Reads are decided here, at the value that was found.  So is a write whose
 * condition is false now: it may be refused before its body comes.  Else the
 * write leaves to the committer what can still change, in one of three forms:
 * the key has a value, has none, or has the one that it has now.  A list of
 * tags needs no more, for of those in it that a client can know no other can
 * become the key's version: versions never come back.
 *
 * If-Unmodified-Since and If-Modified-Since are ignored, as values have no
 * date.
 */


#include "http/ngx_http_kv.h"


static ngx_uint_t ngx_http_kv_conditional(ngx_http_request_t *r);
static kv_tags_t ngx_http_kv_find(const kv_version_t *version,
    ngx_table_elt_t *h);
static kv_rc_t ngx_http_kv_require_unseen(ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_require(ngx_http_kv_ctx_t *ctx);


ngx_int_t
ngx_http_kv_condition_check(ngx_http_request_t *r)
{
    kv_version_t      none;
    ngx_uint_t        i;
    ngx_table_elt_t  *h[2];

    if (!ngx_http_kv_conditional(r)) {
        return NGX_OK;
    }

    none.lsn = 0;
    none.incarnation = 0;

    h[0] = r->headers_in.if_match;
    h[1] = r->headers_in.if_none_match;

    for (i = 0; i < 2; i++) {
        if (h[i] && ngx_http_kv_find(&none, h[i]) == KV_TAGS_INVALID) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_kv_condition_get(ngx_http_request_t *r, const kv_version_t *version)
{
    if (!ngx_http_kv_conditional(r)) {
        return NGX_HTTP_OK;
    }

    if (r->headers_in.if_match
        && ngx_http_kv_find(version, r->headers_in.if_match) < KV_TAGS_NAMED)
    {
        return NGX_HTTP_PRECONDITION_FAILED;
    }

    if (r->headers_in.if_none_match
        && ngx_http_kv_find(version, r->headers_in.if_none_match)
           >= KV_TAGS_NAMED)
    {
        return NGX_HTTP_NOT_MODIFIED;
    }

    return NGX_HTTP_OK;
}


/*
 * Whether the request's conditions are about its own key: those of a read that
 * another request or an error has led to are about that one's.
 */

static ngx_uint_t
ngx_http_kv_conditional(ngx_http_request_t *r)
{
    return (r == r->main && r->err_status == 0)
           || !(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD));
}


kv_rc_t
ngx_http_kv_condition_decide(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t      rc;
    kv_entry_t  *e;
    kv_store_t  *store;

    store = ctx->zone->store;

    rc = kv_store_read(store, ctx->key.data, ctx->key.len, &e);

    if (rc == KV_AGAIN) {
        return ngx_http_kv_require_unseen(ctx);
    }

    if (rc == KV_OK) {
        ctx->version = kv_store_version(store, e);
        kv_store_read_done(store);

    } else {
        ctx->version.lsn = 0;
    }

    return rc == KV_UNAVAILABLE ? KV_UNAVAILABLE : ngx_http_kv_require(ctx);
}


/*
 * A group of writes is just becoming visible, so what is there cannot be told:
 * leaves a condition with one tag to the committer alone.  KV_AGAIN: it cannot
 * check this one.
 */

static kv_rc_t
ngx_http_kv_require_unseen(ngx_http_kv_ctx_t *ctx)
{
    ngx_str_t           *value;
    ngx_uint_t           match;
    kv_version_t         version, now;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->op == NULL) {

        /* it is checked once more when the body is here */

        return KV_OK;
    }

    match = r->headers_in.if_match != NULL;

    if (match && r->headers_in.if_none_match) {
        return KV_AGAIN;
    }

    value = match ? &r->headers_in.if_match->value
                  : &r->headers_in.if_none_match->value;

    if (value->len == 1 && value->data[0] == '*') {
        kv_store_if(ctx->op, match ? KV_OP_IF_PRESENT : KV_OP_IF_ABSENT, NULL);
        return KV_OK;
    }

    if (!kv_version_parse(&version, (char *) value->data, value->len)) {
        return KV_AGAIN;
    }

    now = kv_store_state_version(ctx->zone->store);

    if (version.incarnation != now.incarnation
        || version.lsn > KV_STORE_NO_LSN)
    {
        version.lsn = KV_STORE_NO_LSN;
    }

    kv_store_if(ctx->op, match ? KV_OP_IF_VERSION : KV_OP_IF_OTHER, &version);

    return KV_OK;
}


static kv_rc_t
ngx_http_kv_require(ngx_http_kv_ctx_t *ctx)
{
    uint8_t              flag;
    kv_tags_t            found;
    ngx_http_request_t  *r;

    r = ctx->request;
    flag = 0;

    if (r->headers_in.if_none_match) {
        found = ngx_http_kv_find(&ctx->version, r->headers_in.if_none_match);

        if (found == KV_TAGS_NAMED
            || (found == KV_TAGS_ANY && ctx->version.lsn))
        {
            return KV_PRECONDITION;
        }

        if (found == KV_TAGS_ANY) {
            flag = KV_OP_IF_ABSENT;
        }
    }

    if (r->headers_in.if_match) {
        found = ngx_http_kv_find(&ctx->version, r->headers_in.if_match);

        if (found == KV_TAGS_OTHERS || ctx->version.lsn == 0) {
            return KV_PRECONDITION;
        }

        flag = found == KV_TAGS_ANY ? KV_OP_IF_PRESENT : KV_OP_IF_VERSION;
    }

    if (flag && ctx->op) {
        kv_store_if(ctx->op, flag, &ctx->version);
    }

    return KV_OK;
}


static kv_tags_t
ngx_http_kv_find(const kv_version_t *version, ngx_table_elt_t *h)
{
    return kv_version_find(version, (char *) h->value.data, h->value.len);
}
