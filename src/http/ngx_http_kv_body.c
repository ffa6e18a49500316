
/*
 * The body of a PUT, or a POST that stores, straight into the zone.
 *
 * Each buffer that nginx reads is copied to its place in the zone and read into
 * again, so a body of any size takes one small buffer of the worker's memory,
 * and no temporary file.  The entry is begun by the first bytes that come, and
 * gets memory as more come: what a header announces costs nothing.  If there is
 * no memory for more, the worker stops reading until there is.
 */


#include "http/ngx_http_kv.h"


/*
 * Bytes that a client of HTTP/2 or HTTP/3 may have sent before it can see an
 * answer.  It may take the end of its stream, which nginx sends behind an early
 * answer, for an error, and never look at the answer (curl 7.88): so a
 * condition, whose answer matters, is not decided before a body of so few.
 */
#define NGX_HTTP_KV_UNASKED   65536

/* how long a body waits for all its memory before it begins without; ns */
#define NGX_HTTP_KV_PATIENCE  250000000ull


static ngx_int_t ngx_http_kv_put_headers(ngx_http_kv_ctx_t *ctx,
    const char **wrong);
static kv_rc_t ngx_http_kv_put_again(ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_put_read(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_read_refuse(ngx_http_request_t *r, kv_rc_t rc);
static kv_rc_t ngx_http_kv_read_take(ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_begin(ngx_http_kv_ctx_t *ctx, uint32_t len,
    uint32_t n, kv_op_t **op);
static size_t ngx_http_kv_name_len(ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_read_check(ngx_http_kv_ctx_t *ctx,
    ngx_chain_t *bufs);
static kv_rc_t ngx_http_kv_read_again(ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_put_submit(ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_body_start(ngx_http_request_t *r);
static void ngx_http_kv_body_init(ngx_http_request_t *r);
static void ngx_http_kv_body_read(ngx_http_request_t *r);
static void ngx_http_kv_body_stop(ngx_http_kv_ctx_t *ctx,
    ngx_http_kv_resume_pt resume);
static kv_rc_t ngx_http_kv_body_again(ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_body_take(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_body_write(ngx_http_kv_ctx_t *ctx, u_char *data,
    size_t n);
static void ngx_http_kv_body_end(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_end_again(ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_body_differs(ngx_http_request_t *r);
static void ngx_http_kv_body_refuse(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, kv_rc_t rc);


ngx_int_t
ngx_http_kv_put(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    off_t        len;
    kv_rc_t      rc;
    ngx_int_t    result;
    const char  *wrong;

    result = ngx_http_kv_put_headers(ctx, &wrong);

    if (result != NGX_OK) {
        return result == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR
                                   : ngx_http_kv_reply_wrong(r, wrong);
    }

    if (r != r->main || r->request_body || r->discard_body) {
        return ngx_http_kv_put_read(r, ctx);
    }

    if (!r->headers_in.chunked && r->headers_in.content_length_n <= 0) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "value cannot be empty\n");
    }

    if (r->headers_in.content_length_n > (off_t) ctx->max_value) {
        r->keepalive = 0;
        return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                 "value too large\n");
    }

    /*
     * A large value for which there is no memory, and one that waits for
     * 100-continue, are refused before the body comes.
     */

    len = ngx_max(r->headers_in.content_length_n, 0);

    ctx->need = r->headers_in.expect || len > (off_t) KV_ENTRY_INLINE
                ? (uint32_t) len : 0;

    rc = kv_store_fits(ctx->zone->store, ngx_http_kv_name_len(ctx), ctx->need);

    if (rc == KV_OK) {
        return ngx_http_kv_body_start(r);
    }

    if (rc == KV_NO_MEMORY
        && ngx_http_kv_reserve_wait(ctx, ctx->need, ngx_http_kv_put_again)
           == NGX_OK)
    {
        r->main->count++;
        return NGX_DONE;
    }

    if (rc != KV_NO_MEMORY) {
        ngx_http_kv_process_events(ctx->zone);
    }

    return ngx_http_kv_reply_rc(r, rc);
}


/* What the header says of the value.  NGX_DECLINED: what is wrong with it. */

static ngx_int_t
ngx_http_kv_put_headers(ngx_http_kv_ctx_t *ctx, const char **wrong)
{
    ngx_int_t  rc;

    if (ctx->request->headers_in.content_range) {

        /* RFC 9110, section 9.3.4: not to be taken for a whole value */

        *wrong = "partial values are not supported";
        return NGX_DECLINED;
    }

    rc = ngx_http_kv_digest(ctx);

    if (rc != NGX_OK) {
        *wrong = "invalid Content-Digest";
        return rc;
    }

    return ngx_http_kv_types_take(ctx, wrong);
}


static kv_rc_t
ngx_http_kv_put_again(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t              rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    /* that much may never be free at once: after a while it begins without */

    rc = kv_store_fits(ctx->zone->store, ngx_http_kv_name_len(ctx),
                       ctx->waited < NGX_HTTP_KV_PATIENCE ? ctx->need : 0);

    if (rc != KV_NO_MEMORY) {
        ngx_http_kv_finish(r, rc == KV_OK ? ngx_http_kv_body_start(r)
                                          : ngx_http_kv_reply_rc(r, rc));
        rc = KV_OK;
    }

    return rc;
}


/*
 * A body that has been read before, for the mirror module or the main request
 * of a subrequest, which may still need it.
 */

static ngx_int_t
ngx_http_kv_put_read(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    off_t         size;
    kv_rc_t       rc;
    ngx_buf_t    *b;
    ngx_chain_t  *bufs, *cl;

    bufs = r->request_body ? r->request_body->bufs : NULL;
    size = 0;

    for (cl = bufs; cl; cl = cl->next) {
        b = cl->buf;

        if (b->in_file && b->file_last > b->file_pos) {
            if (ngx_http_kv_may_log(ctx->zone, NGX_HTTP_KV_LOG_BODY)) {
                ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                              "the request body was read to a file before "
                              "\"kv\" could take it: raise "
                              "client_body_buffer_size");
            }

            return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     "value too large\n");
        }

        size += b->last - b->pos;
    }

    if (size == 0) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "value cannot be empty\n");
    }

    if (size > (off_t) ctx->max_value) {
        return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                 "value too large\n");
    }

    ctx->need = (uint32_t) size;
    ctx->arrived = 1;

    rc = ngx_http_kv_read_take(ctx);

    if (rc == KV_NO_MEMORY
        && ngx_http_kv_reserve_wait(ctx, ctx->need, ngx_http_kv_read_again)
           == NGX_OK)
    {
        rc = KV_OK;
    }

    if (rc != KV_OK) {
        return ngx_http_kv_read_refuse(r, rc);
    }

    r->main->count++;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_kv_read_refuse(ngx_http_request_t *r, kv_rc_t rc)
{
    return rc == KV_DECLINED
           ? ngx_http_kv_body_differs(r) : ngx_http_kv_reply_rc(r, rc);
}


/*
 * Takes the whole body at once.  It belongs to another request or module: if
 * that has changed it while this request waited for memory, it is not the value
 * any more.  KV_DECLINED: it is not what its digest says.
 */

static kv_rc_t
ngx_http_kv_read_take(ngx_http_kv_ctx_t *ctx)
{
    kv_op_t      *op;
    kv_rc_t       rc;
    uint32_t      offset;
    ngx_buf_t    *b;
    ngx_chain_t  *bufs, *cl;

    bufs = ctx->request->request_body->bufs;
    offset = 0;

    for (cl = bufs; cl; cl = cl->next) {
        offset += cl->buf->last - cl->buf->pos;
    }

    if (offset != ctx->need) {
        if (ngx_http_kv_may_log(ctx->zone, NGX_HTTP_KV_LOG_BODY)) {
            ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                          "kv zone \"%V\": the request body was changed while "
                          "it waited for memory, it is not stored",
                          &ctx->zone->name);
        }

        return KV_UNAVAILABLE;
    }

    rc = ngx_http_kv_read_check(ctx, bufs);

    if (rc != KV_OK) {
        return rc;
    }

    rc = ngx_http_kv_begin(ctx, ctx->need, ctx->need, &op);

    if (rc != KV_OK) {
        return rc;
    }

    offset = 0;

    for (cl = bufs; cl; cl = cl->next) {
        b = cl->buf;

        rc = kv_store_write(ctx->zone->store, op, offset, b->pos,
                            b->last - b->pos);
        if (rc != KV_OK) {
            kv_store_release(ctx->zone->store, op);
            return rc;
        }

        offset += b->last - b->pos;
    }

    if (ngx_http_kv_attach(ctx, op) != NGX_OK) {
        return KV_UNAVAILABLE;
    }

    rc = ngx_http_kv_put_submit(ctx);

    if (rc != KV_OK) {
        ngx_http_kv_detach(ctx);
    }

    return rc == KV_AGAIN ? KV_NO_MEMORY : rc;
}


/* Begins a put, as kv_store_upload(). */

static kv_rc_t
ngx_http_kv_begin(ngx_http_kv_ctx_t *ctx, uint32_t len, uint32_t n,
    kv_op_t **op)
{
    kv_name_t  name;

    name.key = ctx->key.data;
    name.key_len = (uint16_t) ctx->key.len;
    name.meta = ctx->meta.data;
    name.meta_len = (uint8_t) ctx->meta.len;

    return kv_store_upload(ctx->zone->store, &name, len, n, ctx->ttl, op);
}


/* What key and metadata take, and a byte. */

static size_t
ngx_http_kv_name_len(ngx_http_kv_ctx_t *ctx)
{
    return ctx->key.len + (ctx->meta.len ? 1 + ctx->meta.len : 0);
}


static kv_rc_t
ngx_http_kv_read_check(ngx_http_kv_ctx_t *ctx, ngx_chain_t *bufs)
{
    ngx_chain_t  *cl;

    if (ctx->digest == NULL) {
        return KV_OK;
    }

    if (!ngx_http_kv_digest_begin(ctx->digest)) {
        return KV_UNAVAILABLE;
    }

    for (cl = bufs; cl; cl = cl->next) {
        ngx_http_kv_digest_add(ctx->digest, cl->buf->pos,
                               cl->buf->last - cl->buf->pos);
    }

    return ngx_http_kv_digest_matches(ctx->digest) ? KV_OK : KV_DECLINED;
}


static kv_rc_t
ngx_http_kv_read_again(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t  rc;

    rc = ngx_http_kv_read_take(ctx);

    if (rc != KV_OK && rc != KV_NO_MEMORY) {
        ngx_http_kv_finish(ctx->request,
                           ngx_http_kv_read_refuse(ctx->request, rc));
        rc = KV_OK;
    }

    return rc;
}


/*
 * The value is complete: the committer's now, if the conditions are true.
 * KV_AGAIN: that cannot be told now.
 */

static kv_rc_t
ngx_http_kv_put_submit(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t  rc;

    rc = ngx_http_kv_condition_put(ctx);

    if (rc == KV_OK) {
        ngx_http_kv_submit(ctx, ngx_http_kv_reply_done);
    }

    return rc;
}


static ngx_int_t
ngx_http_kv_body_start(ngx_http_request_t *r)
{
    kv_rc_t             result;
    ngx_int_t           rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (r->http_version < NGX_HTTP_VERSION_20
        || r->headers_in.content_length_n > NGX_HTTP_KV_UNASKED)
    {
        /* what is false already need not be sent */

        result = ngx_http_kv_condition_put(ctx);

        if (result != KV_OK) {
            return ngx_http_kv_reply_rc(r, result);
        }
    }

    ctx->taken = 1;
    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_kv_body_init);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return ngx_http_kv_body_error(r, rc);
    }

    return NGX_DONE;
}


static void
ngx_http_kv_body_init(ngx_http_request_t *r)
{
    r->read_event_handler = ngx_http_kv_body_read;

    ngx_http_kv_body_read(r);
}


static void
ngx_http_kv_body_read(ngx_http_request_t *r)
{
    kv_rc_t             rc;
    ngx_int_t           result;
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    for ( ;; ) {
        rc = ngx_http_kv_body_take(r, ctx);

        if (rc == KV_NO_MEMORY) {
            ngx_http_kv_body_stop(ctx, ngx_http_kv_body_again);
            return;
        }

        if (rc != KV_OK) {
            ngx_http_kv_body_refuse(r, ctx, rc);
            return;
        }

        if (!r->reading_body) {
            ngx_http_kv_body_end(r, ctx);
            return;
        }

        if (ctx->zone->draining) {

            /* reading on would take others' memory, and the worker's time */

            ngx_http_kv_body_refuse(r, ctx, KV_NO_MEMORY);
            return;
        }

        result = ngx_http_read_unbuffered_request_body(r);

        if (result >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_kv_detach(ctx);
            ngx_http_finalize_request(r, ngx_http_kv_body_error(r, result));
            return;
        }

        if (result == NGX_AGAIN && r->request_body->bufs == NULL) {

            /* uploads may hold too much by now, which a timer checks */

            ngx_http_kv_set_timers(ctx->zone);
            return;
        }
    }
}


/*
 * Stops reading until there is memory for what was read.  The client's timeout
 * stands still: it is not the client that is slow.
 */

static void
ngx_http_kv_body_stop(ngx_http_kv_ctx_t *ctx, ngx_http_kv_resume_pt resume)
{
    ngx_event_t         *rev;
    ngx_http_request_t  *r;

    r = ctx->request;
    rev = r->connection->read;

    r->read_event_handler = ngx_http_block_reading;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }

    ctx->arrived = 1;

    if (ngx_http_kv_reserve_wait(ctx, ngx_http_kv_missing(ctx), resume)
        != NGX_OK)
    {
        ngx_http_kv_body_refuse(r, ctx, KV_NO_MEMORY);
    }
}


static kv_rc_t
ngx_http_kv_body_again(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t              rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    rc = ngx_http_kv_body_take(r, ctx);

    if (rc == KV_NO_MEMORY) {
        return KV_NO_MEMORY;
    }

    if (rc == KV_OK) {
        r->read_event_handler = ngx_http_kv_body_read;
        ngx_http_kv_body_read(r);

    } else {
        ngx_http_kv_body_refuse(r, ctx, rc);
    }

    ngx_http_run_posted_requests(c);

    return KV_OK;
}


/*
 * Copies what was read into the entry.  KV_OK, KV_DECLINED (the value is too
 * large), KV_NO_MEMORY (the rest stays in the buffers), KV_UNAVAILABLE.
 */

static kv_rc_t
ngx_http_kv_body_take(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    size_t        n;
    kv_rc_t       rc;
    ngx_buf_t    *b;
    ngx_chain_t  *cl, *next;

    for (cl = r->request_body->bufs; cl; cl = next) {
        next = cl->next;
        b = cl->buf;

        n = b->last - b->pos;

        if (n > ctx->max_value - ctx->received) {
            return KV_DECLINED;
        }

        if (n) {
            rc = ngx_http_kv_body_write(ctx, b->pos, n);

            if (rc != KV_OK) {
                r->request_body->bufs = cl;
                return rc;
            }

            if (ctx->digest) {
                ngx_http_kv_digest_add(ctx->digest, b->pos, n);
            }
        }

        ctx->received += n;
        b->pos = b->last;

        ngx_http_kv_wait_fed(ctx);

        ngx_free_chain(r->pool, cl);
    }

    r->request_body->bufs = NULL;

    return KV_OK;
}


static kv_rc_t
ngx_http_kv_body_write(ngx_http_kv_ctx_t *ctx, u_char *data, size_t n)
{
    kv_op_t             *op;
    kv_rc_t              rc;
    uint32_t             len;
    kv_store_t          *store;
    ngx_http_request_t  *r;

    r = ctx->request;
    store = ctx->zone->store;

    if (ctx->op == NULL) {
        len = r->headers_in.chunked ? KV_LENGTH_UNKNOWN
                                    : (uint32_t) r->headers_in.content_length_n;

        rc = ngx_http_kv_begin(ctx, len, (uint32_t) ngx_min(n, len), &op);

        if (rc != KV_OK) {
            return rc;
        }

        if (ngx_http_kv_attach(ctx, op) != NGX_OK) {
            return KV_UNAVAILABLE;
        }

        kv_store_set_began(op, ctx->started);
    }

    return kv_store_write(store, ctx->op, ctx->received, data, n);
}


static void
ngx_http_kv_body_end(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t  rc;

    r->read_event_handler = ngx_http_block_reading;

    if (ctx->received == 0) {
        ngx_http_kv_detach(ctx);
        ngx_http_finalize_request(r,
                                  ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                                 "value cannot be empty\n"));
        return;
    }

    if (!ngx_http_kv_body_whole(r, ctx->received)) {
        ngx_http_kv_detach(ctx);
        ngx_http_finalize_request(r, ngx_http_kv_reply_body(r));
        return;
    }

    if (ctx->digest && !ngx_http_kv_digest_matches(ctx->digest)) {
        ngx_http_kv_detach(ctx);
        ngx_http_finalize_request(r, ngx_http_kv_body_differs(r));
        return;
    }

    rc = kv_store_finish(ctx->zone->store, ctx->op, ctx->received);

    if (rc == KV_NO_MEMORY) {
        ngx_http_kv_body_stop(ctx, ngx_http_kv_end_again);
        return;
    }

    if (rc == KV_OK) {
        rc = ngx_http_kv_put_submit(ctx);
    }

    if (rc == KV_AGAIN
        && ngx_http_kv_reserve_wait(ctx, 0, ngx_http_kv_end_again) == NGX_OK)
    {
        return;
    }

    if (rc != KV_OK) {
        ngx_http_kv_body_refuse(r, ctx, rc);
    }
}


static kv_rc_t
ngx_http_kv_end_again(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t            rc;
    ngx_connection_t  *c;

    rc = kv_store_finish(ctx->zone->store, ctx->op, ctx->received);

    if (rc == KV_NO_MEMORY) {
        return KV_NO_MEMORY;
    }

    if (rc == KV_OK) {
        rc = ngx_http_kv_put_submit(ctx);
    }

    if (rc == KV_OK) {
        return KV_OK;
    }

    if (rc == KV_AGAIN) {
        return KV_NO_MEMORY;
    }

    c = ctx->request->connection;

    ngx_http_kv_body_refuse(ctx->request, ctx, rc);
    ngx_http_run_posted_requests(c);

    return KV_OK;
}


static ngx_int_t
ngx_http_kv_body_differs(ngx_http_request_t *r)
{
    return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                             "content digest does not match\n");
}


/* Refuses an upload in the middle of its body. */

static void
ngx_http_kv_body_refuse(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx,
    kv_rc_t rc)
{
    ngx_http_kv_detach(ctx);

    ngx_http_finalize_request(r, rc == KV_DECLINED
                    ? ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                        "value too large\n")
                    : ngx_http_kv_reply_rc(r, rc));
}


/*
 * nginx itself reads all of it or says that it cannot; other modules may change
 * what it reads.
 */

ngx_uint_t
ngx_http_kv_body_whole(ngx_http_request_t *r, off_t n)
{
    return r->headers_in.chunked || r->headers_in.content_length_n < 0
           || n == r->headers_in.content_length_n;
}


ngx_int_t
ngx_http_kv_body_error(ngx_http_request_t *r, ngx_int_t rc)
{
    if (r->connection->error || rc == NGX_HTTP_REQUEST_TIME_OUT) {
        return rc;
    }

    if (rc == NGX_HTTP_BAD_REQUEST) {
        return ngx_http_kv_reply_body(r);
    }

    r->keepalive = 0;

    return ngx_http_kv_reply(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                             "internal server error\n");
}
