
/*
 * Answers.  Each is in the contract's exact words and of its type; nginx's own
 * error pages never show.
 */


#include "http/ngx_http_kv.h"

#include "base/kv_number.h"


static ngx_int_t ngx_http_kv_reply_tag(ngx_http_request_t *r,
    ngx_uint_t status, const char *text);
static ngx_int_t ngx_http_kv_reply_status(ngx_http_request_t *r,
    ngx_uint_t status);
static void ngx_http_kv_type(ngx_http_request_t *r, const char *type);
static void ngx_http_kv_value_type(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_value_headers(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_tag(ngx_http_request_t *r);
static ngx_table_elt_t *ngx_http_kv_push_header(ngx_http_request_t *r);
static void ngx_http_kv_answered(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_send_empty(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_send_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_reply_pieces(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, kv_entry_t *e);
static ngx_int_t ngx_http_kv_reply_number(ngx_http_request_t *r,
    int64_t number);
static ngx_int_t ngx_http_kv_send_returned(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_reply_end(ngx_http_kv_ctx_t *ctx, ngx_int_t result);
static ngx_buf_t *ngx_http_kv_copy_value(ngx_http_request_t *r,
    const kv_entry_t *e);
static ngx_int_t ngx_http_kv_send_buf(ngx_http_request_t *r, ngx_buf_t *b);
static ngx_int_t ngx_http_kv_send_pieces(ngx_http_request_t *r,
    const kv_entry_t *e);


ngx_int_t
ngx_http_kv_reply(ngx_http_request_t *r, ngx_uint_t status, const char *text)
{
    size_t        len;
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    if (status >= NGX_HTTP_BAD_REQUEST && ngx_http_kv_intercept(r, status)) {
        return status;
    }

    ngx_http_kv_early(r);

    len = text ? ngx_strlen(text) : 0;

    r->headers_out.content_length_n = status == NGX_HTTP_NOT_MODIFIED
                                      ? -1 : (off_t) len;

    if (status == NGX_HTTP_NOT_MODIFIED) {

        /* a cache takes it for that of the value, and may keep it as such */

        ngx_http_kv_value_type(r);

    } else {
        ngx_http_kv_type(r, "text/plain");
    }

    if (ngx_http_kv_reply_status(r, status) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_kv_answered(r);

    if (len == 0) {
        return ngx_http_kv_send_empty(r);
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = (u_char *) text;
    b->last = b->pos + len;
    b->memory = 1;
    b->last_buf = r == r->main;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_kv_reply_wrong(ngx_http_request_t *r, const char *text)
{
    u_char  *line;
    size_t   n;

    n = ngx_strlen(text);
    line = ngx_pnalloc(r->pool, n + sizeof("\n"));

    if (line == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(ngx_cpymem(line, text, n), "\n", sizeof("\n"));

    return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, (char *) line);
}


ngx_int_t
ngx_http_kv_reply_rc(ngx_http_request_t *r, kv_rc_t rc)
{
    ngx_http_kv_ctx_t  *ctx;

    switch (rc) {

    case KV_OK:
        return ngx_http_kv_reply_tag(r, NGX_HTTP_OK, NULL);

    case KV_PRECONDITION:
        return ngx_http_kv_reply_tag(r, NGX_HTTP_PRECONDITION_FAILED,
                                     "precondition failed\n");

    case KV_NOT_INTEGER:
        return ngx_http_kv_reply_tag(r, NGX_HTTP_CONFLICT,
                                     "value is not an integer\n");

    case KV_OVERFLOW:
        return ngx_http_kv_reply_tag(r, NGX_HTTP_CONFLICT,
                                     "integer overflow\n");

    case KV_NOT_FOUND:
        return ngx_http_kv_reply(r, NGX_HTTP_NOT_FOUND, "key not found\n");

    case KV_NO_MEMORY:
        ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);
        kv_store_refused(ctx->zone->store);

        return ngx_http_kv_reply(r, NGX_HTTP_INSUFFICIENT_STORAGE,
                                 "zone is full\n");

    case KV_NO_SPACE:
        return ngx_http_kv_reply(r, NGX_HTTP_INSUFFICIENT_STORAGE,
                                 "disk is full\n");

    default:
        return ngx_http_kv_reply(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "store is unavailable\n");
    }
}


/* An answer with the version that it is about, if there is one. */

static ngx_int_t
ngx_http_kv_reply_tag(ngx_http_request_t *r, ngx_uint_t status,
    const char *text)
{
    if (status >= NGX_HTTP_BAD_REQUEST && ngx_http_kv_intercept(r, status)) {
        return status;
    }

    if (ngx_http_kv_tag(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_reply(r, status, text);
}


ngx_int_t
ngx_http_kv_reply_allow(ngx_http_request_t *r, const char *allow)
{
    if (ngx_http_kv_intercept(r, NGX_HTTP_NOT_ALLOWED)) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    if (ngx_http_kv_header(r, "Allow", allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_reply(r, NGX_HTTP_NOT_ALLOWED, "method not allowed\n");
}


ngx_int_t
ngx_http_kv_reply_body(ngx_http_request_t *r)
{
    r->keepalive = 0;
    r->lingering_close = 1;

    return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                             "invalid request body\n");
}


void
ngx_http_kv_finish(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = r->connection;

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


void
ngx_http_kv_reply_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_http_kv_reply_end(ctx, ngx_http_kv_reply_rc(ctx->request, rc));
}


void
ngx_http_kv_reply_sum(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    int64_t              sum;
    ngx_http_request_t  *r;

    r = ctx->request;
    sum = rc == KV_OK ? kv_store_sum(ctx->op) : 0;

    ngx_http_kv_detach(ctx);

    ngx_http_kv_reply_end(ctx, rc == KV_OK ? ngx_http_kv_reply_number(r, sum)
                                           : ngx_http_kv_reply_rc(r, rc));
}


static ngx_int_t
ngx_http_kv_reply_number(ngx_http_request_t *r, int64_t number)
{
    ngx_buf_t  *b;

    b = ngx_create_temp_buf(r->pool, KV_NUMBER_MAX);

    if (b == NULL || ngx_http_kv_value_headers(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last += kv_number_print(number, (char *) b->last);

    return ngx_http_kv_reply_buf(r, "text/plain", b);
}


void
ngx_http_kv_reply_returned(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    if (rc == KV_OK) {
        ngx_http_kv_reply_end(ctx, ngx_http_kv_send_returned(ctx->request,
                                                             ctx));
        return;
    }

    ngx_http_kv_detach(ctx);
    ngx_http_kv_reply_done(ctx, rc);
}


/*
 * The value has left the map, and this answer alone has it: as a copy of its
 * own, or pinned.  From here on it is sent like one that is read.
 */

static ngx_int_t
ngx_http_kv_send_returned(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_buf_t         *b;
    ngx_uint_t         body, pieces;
    const kv_entry_t  *e;

    e = kv_store_returned(ctx->op);
    body = !r->header_only;
    pieces = body && (e->flags & KV_ENTRY_PIECES);
    b = NULL;

    if (ngx_http_kv_types_show(ctx, e) != NGX_OK) {
        ngx_http_kv_detach(ctx);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_kv_early(r);

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = e->value_len;

    if (pieces) {
        if (ngx_http_kv_hold(ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

    } else {
        b = body ? ngx_http_kv_copy_value(r, e) : NULL;
        ngx_http_kv_detach(ctx);
    }

    if ((body && !pieces && b == NULL)
        || ngx_http_kv_value_headers(r) != NGX_OK
        || ngx_http_kv_header(r, "Preference-Applied",
                              "return=representation") != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return pieces ? ngx_http_kv_send_pieces(r, e) : ngx_http_kv_send_buf(r, b);
}


/* Ends a request whose operation is done. */

static void
ngx_http_kv_reply_end(ngx_http_kv_ctx_t *ctx, ngx_int_t result)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, ctx);
    }

    ngx_http_kv_finish(r, result);
}


ngx_int_t
ngx_http_kv_reply_value(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx,
    kv_entry_t *e)
{
    ngx_buf_t   *b;
    ngx_uint_t   body, status;

    status = NGX_HTTP_OK;

    if (e->has_meta && ngx_http_kv_types_show(ctx, e) != NGX_OK) {
        kv_store_read_done(ctx->zone->store);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_kv_has_condition(r)) {
        status = ngx_http_kv_condition_get(r, &ctx->version);
    }

    if (status != NGX_HTTP_OK) {
        kv_store_read_done(ctx->zone->store);

        return status == NGX_HTTP_NOT_MODIFIED
               ? ngx_http_kv_reply_tag(r, status, NULL)
               : ngx_http_kv_reply_rc(r, KV_PRECONDITION);
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = e->value_len;
    r->allow_ranges = 1;

    /*
     * auth_request and mirror want no body: a pin would last as long as the
     * main request, which does not read the value.
     */

    body = r->method != NGX_HTTP_HEAD && !r->header_only;

    if (body && e->flags & KV_ENTRY_PIECES) {
        return ngx_http_kv_reply_pieces(r, ctx, e);
    }

    b = body ? ngx_http_kv_copy_value(r, e) : NULL;

    kv_store_read_done(ctx->zone->store);

    if ((b == NULL && body) || ngx_http_kv_value_headers(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_send_buf(r, b);
}


/* A value that is in no pieces, in the request's own memory. */

static ngx_buf_t *
ngx_http_kv_copy_value(ngx_http_request_t *r, const kv_entry_t *e)
{
    ngx_buf_t  *b;

    b = ngx_create_temp_buf(r->pool, e->value_len);

    if (b) {
        b->last = ngx_cpymem(b->last, kv_store_value(e), e->value_len);
    }

    return b;
}


/* The header, and the value, or nothing (NULL). */

static ngx_int_t
ngx_http_kv_send_buf(ngx_http_request_t *r, ngx_buf_t *b)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    rc = ngx_http_kv_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only || b == NULL) {
        return rc;
    }

    b->last_buf = r == r->main;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/*
 * A large value leaves from the zone's own memory, pinned by the request's
 * pool (ngx_http_kv_attach_pin), so that an overwrite or a slow reader never
 * tears it.  What may hold its buffers, and until when:
 *
 *   - HTTP/1: r->out.  The pool goes after all is sent, or with the
 *     connection.
 *   - HTTP/2: the frames of h2c->last_out.  A reset stream takes its frames
 *     from there in an http cleanup, but for the one that is sent in part;
 *     ngx_http_v2_close_stream() keeps the pool until that one is gone.
 *   - HTTP/3 and TLS: none, they copy what they take.
 *   - Filters (gzip, sub_filter, postpone, and those of other modules): in
 *     contexts and chains of the pool, and nothing runs them after it.
 *   - Subrequests (addition, SSI, slice, mirror, auth_request) have the pool of
 *     the main request, whose output theirs becomes.
 *
 * An http cleanup would be too early: nginx runs those when it gives a request
 * up, with its connection and its frames still there.
 */

static ngx_int_t
ngx_http_kv_reply_pieces(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx,
    kv_entry_t *e)
{
    kv_op_t  *op;
    kv_rc_t   rc;

    rc = kv_store_pin(ctx->zone->store, e, &op);

    kv_store_read_done(ctx->zone->store);

    if (rc != KV_OK) {
        return ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }

    if (ngx_http_kv_attach_pin(ctx, op) != NGX_OK
        || ngx_http_kv_value_headers(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* several ranges at once would need one buffer */

    r->single_range = 1;

    return ngx_http_kv_send_pieces(r, e);
}


/* The header, and the pieces of a value that the request's pool pins. */

static ngx_int_t
ngx_http_kv_send_pieces(ngx_http_request_t *r, const kv_entry_t *e)
{
    size_t         i, k, n;
    ngx_int_t      result;
    ngx_buf_t     *b;
    ngx_chain_t   *out, **last, *cl;
    struct iovec   iov[16];

    result = ngx_http_kv_send_header(r);

    if (result == NGX_ERROR || result > NGX_OK || r->header_only) {
        return result;
    }

    out = NULL;
    last = &out;
    b = NULL;

    for (i = 0; (n = kv_store_value_iov(e, iov, 16, i)) != 0; i += n) {

        for (k = 0; k < n; k++) {
            cl = ngx_alloc_chain_link(r->pool);
            b = ngx_calloc_buf(r->pool);

            if (cl == NULL || b == NULL) {
                return NGX_ERROR;
            }

            b->pos = iov[k].iov_base;
            b->last = b->pos + iov[k].iov_len;
            b->memory = 1;

            cl->buf = b;
            cl->next = NULL;
            *last = cl;
            last = &cl->next;
        }
    }

    b->last_buf = r == r->main;
    b->last_in_chain = 1;

    return ngx_http_output_filter(r, out);
}


/*
 * The header of a value.  A range that it does not have is refused by one of
 * nginx's filters, whose page would be HTML: the answer is ours.  The filters
 * before that one have added their headers by then, and do so again.
 */

static ngx_int_t
ngx_http_kv_send_header(ngx_http_request_t *r)
{
    u_char                  *p;
    ngx_int_t                rc;
    ngx_uint_t               n;
    ngx_http_headers_out_t   out;

    ngx_http_kv_answered(r);

    if (r->headers_in.range == NULL) {
        return ngx_http_send_header(r);
    }

    out = r->headers_out;
    n = out.headers.last->nelts;

    rc = ngx_http_send_header(r);

    if (rc != NGX_HTTP_RANGE_NOT_SATISFIABLE) {
        return rc;
    }

    r->headers_out = out;
    r->headers_out.headers.last->nelts = n;
    r->headers_out.headers.last->next = NULL;
    r->allow_ranges = 0;

    ngx_http_kv_types_drop(r);

    p = ngx_pnalloc(r->pool, sizeof("bytes */") + NGX_OFF_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(p, "bytes */%O%Z", out.content_length_n);

    if (ngx_http_kv_header(r, "Content-Range", (char *) p) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_kv_reply(r, NGX_HTTP_RANGE_NOT_SATISFIABLE,
                           "range not satisfiable\n");

    /* callers must not send the value behind it */

    r->header_only = 1;

    return rc;
}


ngx_int_t
ngx_http_kv_reply_buf(ngx_http_request_t *r, const char *type, ngx_buf_t *b)
{
    ngx_chain_t  out;

    out.buf = b;
    out.next = NULL;

    return ngx_http_kv_reply_chain(r, type, &out);
}


ngx_int_t
ngx_http_kv_reply_chain(ngx_http_request_t *r, const char *type,
    ngx_chain_t *out)
{
    off_t         len;
    ngx_int_t     rc;
    ngx_chain_t  *cl, *last;

    len = 0;
    last = NULL;

    for (cl = out; cl; cl = cl->next) {
        len += cl->buf->last - cl->buf->pos;
        last = cl;
    }

    rc = ngx_http_kv_reply_begin(r, type, len);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    last->buf->last_buf = r == r->main;
    last->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, out);
}


ngx_int_t
ngx_http_kv_reply_begin(ngx_http_request_t *r, const char *type, off_t len)
{
    ngx_http_kv_early(r);

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = len;
    ngx_http_kv_type(r, type);

    ngx_http_kv_answered(r);

    return len == 0 ? ngx_http_kv_send_empty(r) : ngx_http_send_header(r);
}


/*
 * The header of an answer that has no body.  A filter that changes bodies, as
 * that of charsets does, may have made it one in chunks, which has an end.
 */

static ngx_int_t
ngx_http_kv_send_empty(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    r->header_only = 1;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || !r->chunked) {
        return rc;
    }

    r->header_only = 0;

    rc = ngx_http_send_special(r, NGX_HTTP_LAST);

    /* callers must not send anything behind it */

    r->header_only = 1;

    return rc;
}


ngx_int_t
ngx_http_kv_reply_json(ngx_http_request_t *r, ngx_uint_t status, ngx_buf_t *b)
{
    ngx_http_kv_early(r);

    r->headers_out.content_length_n = b->last - b->pos;
    ngx_http_kv_type(r, "application/json");

    if (ngx_http_kv_reply_status(r, status) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_send_buf(r, b);
}


/* The status of an answer, and what belongs to it.  NGX_ERROR: no memory. */

static ngx_int_t
ngx_http_kv_reply_status(ngx_http_request_t *r, ngx_uint_t status)
{
    r->headers_out.status = status;

    if (r->err_status && status >= NGX_HTTP_BAD_REQUEST) {

        /* what an "error_page" with a status leads to is no success */

        r->err_status = status;
    }

    if (status == NGX_HTTP_KV_PRECONDITION_REQUIRED) {

        /* nginx has no name for it */

        ngx_str_set(&r->headers_out.status_line, "428 Precondition Required");
    }

    return status == NGX_HTTP_SERVICE_UNAVAILABLE
           ? ngx_http_kv_header(r, "Retry-After", "1") : NGX_OK;
}


/* With parameters, if any, which nginx's lists of types do not name. */

static void
ngx_http_kv_type(ngx_http_request_t *r, const char *type)
{
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type_len = strcspn(type, ";");
}


/* That of a value: the one that it was stored with, where that is shown. */

static void
ngx_http_kv_value_type(ngx_http_request_t *r)
{
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx && ctx->type.len) {
        ngx_http_kv_types_set(ctx);

    } else {
        ngx_http_kv_type(r, "text/plain");
    }
}


/* Not before it is sure that the answer is the value. */

static ngx_int_t
ngx_http_kv_value_headers(ngx_http_request_t *r)
{
    ngx_table_elt_t    *h;
    ngx_http_kv_ctx_t  *ctx;

    ngx_http_kv_value_type(r);

    if (ngx_http_kv_tag(r) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx->encoding.len) {
        h = ngx_http_kv_push_header(r);
        if (h == NULL) {
            return NGX_ERROR;
        }

        ngx_str_set(&h->key, "Content-Encoding");
        h->value = ctx->encoding;
        r->headers_out.content_encoding = h;
    }

    h = ngx_http_kv_push_header(r);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&h->key, "X-Content-Type-Options");
    ngx_str_set(&h->value, "nosniff");

    return NGX_OK;
}


/* Adds the tag of the request's version, if there is one. */

static ngx_int_t
ngx_http_kv_tag(ngx_http_request_t *r)
{
    u_char             *tag;
    ngx_table_elt_t    *h;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx->version.lsn == 0) {
        return NGX_OK;
    }

    tag = ngx_pnalloc(r->pool, KV_VERSION_TAG);
    if (tag == NULL) {
        return NGX_ERROR;
    }

    h = ngx_http_kv_push_header(r);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&h->key, "ETag");
    h->value.data = tag;
    h->value.len = kv_version_tag_next(&ctx->version, &ctx->zone->version_end,
                                       (char *) tag);

    /* for If-Range, and for filters that make it weak or take it away */

    r->headers_out.etag = h;

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_header(ngx_http_request_t *r, const char *name, const char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_http_kv_push_header(r);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


/* A header without a name and a value yet; NULL: no memory. */

static ngx_table_elt_t *
ngx_http_kv_push_header(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));
    h->hash = 1;

    return h;
}


ngx_int_t
ngx_http_kv_discard(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (r == r->main
        && (r->headers_in.chunked || r->headers_in.content_length_n > 0))
    {
        ctx->taken = 1;
    }

    return ngx_http_discard_request_body(r);
}


void
ngx_http_kv_early(ngx_http_request_t *r)
{
    if (r != r->main || r->discard_body || (r->request_body && !r->reading_body)
        || (!r->headers_in.chunked && r->headers_in.content_length_n <= 0))
    {
        return;
    }

#if (NGX_HTTP_V2)

    if (r->stream) {
        (void) ngx_http_discard_request_body(r);
        return;
    }

#endif

    /*
     * Whether a client that waits for 100-continue sends its body after another
     * answer is not known.
     */

    if (r->reading_body || (r->headers_in.expect && !r->expect_tested)) {
        r->keepalive = 0;
    }

    if (r->keepalive && ngx_http_discard_request_body(r) == NGX_OK) {
        return;
    }

    r->keepalive = 0;
    r->lingering_close = 1;
}


/* Ends the measured time: how long sending takes is up to the client. */

static void
ngx_http_kv_answered(ngx_http_request_t *r)
{
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx) {
        ctx->answered = kv_now_ns();
    }
}
