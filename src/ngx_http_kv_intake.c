
/*
 * A PUT's body, straight into the zone.
 *
 * The entry is made first, where it will stay: Content-Length says how long
 * it is.  Each buffer that nginx reads is copied to its place in it and read
 * into again, so a body of any size takes one small buffer of the worker's
 * memory, and no temporary file.  A chunked body grows page by page and is
 * given its final form at the end.
 */


#include "ngx_http_kv.h"


static ngx_int_t ngx_http_kv_put_read(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_intake(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static kv_rc_t ngx_http_kv_intake_begin(ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_body_init(ngx_http_request_t *r);
static void ngx_http_kv_body_read(ngx_http_request_t *r);
static kv_rc_t ngx_http_kv_body_take(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_body_end(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_body_error(ngx_http_request_t *r, ngx_int_t rc);


ngx_int_t
ngx_http_kv_put(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_op_t  *op;
    kv_rc_t   rc;

    if (r->headers_in.content_range) {

        /* RFC 9110, section 9.3.4: not to be taken for a whole value */

        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "partial values are not supported\n");
    }

    if (r != r->main || r->request_body || r->discard_body) {
        return ngx_http_kv_put_read(r, ctx);
    }

    if (!r->headers_in.chunked && r->headers_in.content_length_n <= 0) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "value cannot be empty\n");
    }

    if (r->headers_in.content_length_n
        > (off_t) ctx->zone->store->conf.max_value)
    {
        r->keepalive = 0;
        return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                 "value too large\n");
    }

    rc = ngx_http_kv_intake_begin(ctx);

    if (rc == KV_OK) {
        return ngx_http_kv_intake(r, ctx);
    }

    if (rc != KV_NO_MEMORY) {
        ngx_http_kv_turn(ctx->zone);
        return ngx_http_kv_reply_rc(r, rc);
    }

    /*
     * There may be room that only needs to be put together: the committer
     * does that, and then we know.
     */

    rc = kv_store_room(ctx->zone->store,
                       (uint32_t) ngx_max(r->headers_in.content_length_n, 0),
                       &op);

    if (rc != KV_OK) {
        return ngx_http_kv_reply_rc(r, KV_NO_MEMORY);
    }

    if (ngx_http_kv_own(ctx, op) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->main->count++;
    ngx_http_kv_submit(ctx, NGX_HTTP_KV_WAIT_ROOM);

    return NGX_DONE;
}


/*
 * A body that somebody else has read, and may still need: the mirror module,
 * or the main request of a subrequest.
 */

static ngx_int_t
ngx_http_kv_put_read(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    off_t         size;
    kv_op_t      *op;
    kv_rc_t       rc;
    uint32_t      offset;
    ngx_buf_t    *b;
    ngx_chain_t  *bufs, *cl;

    bufs = r->request_body ? r->request_body->bufs : NULL;
    size = 0;

    for (cl = bufs; cl; cl = cl->next) {
        b = cl->buf;

        if (b->in_file && b->file_last > b->file_pos) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "the request body was read to a file before \"kv\" "
                          "could take it: raise client_body_buffer_size");

            return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     "value too large\n");
        }

        size += b->last - b->pos;
    }

    if (size == 0) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "value cannot be empty\n");
    }

    if (size > (off_t) ctx->zone->store->conf.max_value) {
        return ngx_http_kv_reply(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                 "value too large\n");
    }

    rc = kv_store_put(ctx->zone->store, ctx->key.data,
                      (uint16_t) ctx->key.len, (uint32_t) size, &op);

    if (rc != KV_OK) {
        return ngx_http_kv_reply_rc(r, rc);
    }

    for (cl = bufs, offset = 0; cl && rc == KV_OK; cl = cl->next) {
        b = cl->buf;

        rc = kv_store_write(ctx->zone->store, op, offset, b->pos,
                            b->last - b->pos);
        offset += b->last - b->pos;
    }

    if (ngx_http_kv_own(ctx, op) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc != KV_OK) {
        ngx_http_kv_disown(ctx);
        return ngx_http_kv_reply_rc(r, rc);
    }

    r->main->count++;
    ngx_http_kv_submit(ctx, NGX_HTTP_KV_WAIT_DONE);

    return NGX_DONE;
}


void
ngx_http_kv_put_room(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t              rc;
    ngx_int_t            result;
    ngx_http_request_t  *r;

    r = ctx->request;

    rc = ngx_http_kv_intake_begin(ctx);

    result = rc == KV_OK ? ngx_http_kv_intake(r, ctx)
                         : ngx_http_kv_reply_rc(r, rc);

    ngx_http_kv_finish(r, result);
}


static kv_rc_t
ngx_http_kv_intake_begin(ngx_http_kv_ctx_t *ctx)
{
    kv_op_t             *op;
    kv_rc_t              rc;
    uint32_t             len;
    ngx_http_request_t  *r;

    r = ctx->request;

    len = r->headers_in.chunked ? KV_LENGTH_UNKNOWN
                                : (uint32_t) r->headers_in.content_length_n;

    rc = kv_store_put(ctx->zone->store, ctx->key.data,
                      (uint16_t) ctx->key.len, len, &op);

    if (rc != KV_OK) {
        return rc;
    }

    return ngx_http_kv_own(ctx, op) == NGX_OK ? KV_OK : KV_UNAVAILABLE;
}


static ngx_int_t
ngx_http_kv_intake(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t  rc;

    (void) ctx;

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

        if (rc == KV_DECLINED) {
            ngx_http_kv_disown(ctx);
            ngx_http_finalize_request(r,
                         ngx_http_kv_reply(r,
                                           NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                           "value too large\n"));
            return;
        }

        if (rc != KV_OK) {
            ngx_http_kv_disown(ctx);
            ngx_http_finalize_request(r, ngx_http_kv_reply_rc(r, rc));
            return;
        }

        if (!r->reading_body) {
            ngx_http_kv_body_end(r, ctx);
            return;
        }

        result = ngx_http_read_unbuffered_request_body(r);

        if (result >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_kv_disown(ctx);
            ngx_http_finalize_request(r, ngx_http_kv_body_error(r, result));
            return;
        }

        if (result == NGX_AGAIN && r->request_body->bufs == NULL) {
            return;
        }
    }
}


/* What has been read goes into the entry; the buffers are free again. */

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

        if (n > ctx->zone->store->conf.max_value - ctx->received) {
            return KV_DECLINED;
        }

        if (n) {
            rc = kv_store_write(ctx->zone->store, ctx->op, ctx->received,
                                b->pos, n);

            if (rc != KV_OK) {
                return rc;
            }
        }

        ctx->received += n;
        b->pos = b->last;

        ngx_free_chain(r->pool, cl);
    }

    r->request_body->bufs = NULL;

    return KV_OK;
}


static void
ngx_http_kv_body_end(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t  rc;

    r->read_event_handler = ngx_http_block_reading;

    if (ctx->received == 0) {
        ngx_http_kv_disown(ctx);
        ngx_http_finalize_request(r,
                                  ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                                 "value cannot be empty\n"));
        return;
    }

    if (!r->headers_in.chunked
        && (off_t) ctx->received != r->headers_in.content_length_n)
    {
        /* never to be stored, whoever ended the body before its end */

        ngx_http_kv_disown(ctx);
        ngx_http_finalize_request(r, ngx_http_kv_reply_body(r));
        return;
    }

    if (r->headers_in.chunked) {
        rc = kv_store_finish(ctx->zone->store, ctx->op, ctx->received);

        if (rc != KV_OK) {
            ngx_http_kv_disown(ctx);
            ngx_http_finalize_request(r, ngx_http_kv_reply_rc(r, rc));
            return;
        }
    }

    ngx_http_kv_submit(ctx, NGX_HTTP_KV_WAIT_DONE);
}


/* A client that left, or is too slow, gets no answer; a bad one a plain one. */

static ngx_int_t
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
