
/*
 * A request and its operation: from the moment when the request has one until
 * the operation is done, or the request ends.
 *
 * Calls no file above: what comes next is in ctx->done, which runs when the
 * operation is done, and in zone->submitted, which starts the committer.
 */


#include "http/ngx_http_kv.h"


static void ngx_http_kv_cleanup_ctx(void *data);
static void ngx_http_kv_orphan_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_cleanup_pin(void *data);
static ngx_uint_t ngx_http_kv_all_done(ngx_http_kv_ctx_t *ctx, kv_rc_t *rc);


ngx_int_t
ngx_http_kv_attach(ngx_http_kv_ctx_t *ctx, kv_op_t *op)
{
    ngx_http_cleanup_t  *cln;

    ctx->op = op;
    op->data = ctx;
    ngx_queue_insert_tail(&ctx->zone->active, &ctx->active);
    ngx_http_kv_beat(ctx->zone);

    /* an operation that is not answered yet ends with its request */

    if (ctx->may_end) {
        return NGX_OK;
    }

    cln = ngx_http_cleanup_add(ctx->request, 0);
    if (cln == NULL) {
        ngx_http_kv_detach(ctx);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_kv_cleanup_ctx;
    cln->data = ctx;

    ctx->may_end = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_attach_groups(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(ctx->request, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_kv_cleanup_ctx;
    cln->data = ctx;

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_attach_pin(ngx_http_kv_ctx_t *ctx, kv_op_t *op)
{
    ngx_pool_cleanup_t  *cln;

    ctx->op = op;
    ctx->sending = 1;
    op->data = ctx;
    ngx_queue_insert_tail(&ctx->zone->active, &ctx->active);
    ngx_http_kv_beat(ctx->zone);

    cln = ngx_pool_cleanup_add(ctx->request->pool, 0);
    if (cln == NULL) {
        ngx_http_kv_detach(ctx);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_kv_cleanup_pin;
    cln->data = ctx;

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_hold(ngx_http_kv_ctx_t *ctx)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(ctx->request->pool, 0);
    if (cln == NULL) {
        ngx_http_kv_detach(ctx);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_kv_cleanup_pin;
    cln->data = ctx;

    /* the http cleanup of ngx_http_kv_attach() leaves it alone from now on */

    ctx->sending = 1;
    kv_store_hold(ctx->zone->store, ctx->op);

    return NGX_OK;
}


void
ngx_http_kv_detach(ngx_http_kv_ctx_t *ctx)
{
    kv_op_t  *op, *next;

    if (ctx->op == NULL) {
        return;
    }

    ngx_http_kv_wait_leave(ctx);

    ngx_queue_remove(&ctx->active);

    op = ctx->first ? ctx->first : ctx->op;

    while (op != ctx->op) {
        next = op->data;
        kv_store_release(ctx->zone->store, op);
        op = next;
    }

    kv_store_release(ctx->zone->store, ctx->op);
    ctx->op = NULL;

    ngx_http_kv_rest(ctx->zone);
}


static void
ngx_http_kv_cleanup_ctx(void *data)
{
    ngx_http_kv_ctx_t *ctx = data;

    if (ctx->op == NULL || ctx->sending) {
        return;
    }

    if (ctx->submitted) {
        (void) ngx_http_kv_abandon(ctx);

    } else {
        ngx_http_kv_detach(ctx);
    }
}


/*
 * The operation stays in the queue, under a context that outlives the request.
 */

ngx_http_kv_ctx_t *
ngx_http_kv_abandon(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_kv_ctx_t  *orphan;

    orphan = ngx_alloc(sizeof(ngx_http_kv_ctx_t), ctx->zone->log);

    if (orphan) {
        *orphan = *ctx;
        orphan->request = NULL;
        orphan->done = ngx_http_kv_orphan_done;
        orphan->refuse = NULL;
        orphan->op->data = orphan;

        ngx_queue_insert_after(&ctx->waiting, &orphan->waiting);
        ngx_queue_insert_after(&ctx->active, &orphan->active);
    }

    /* else this leaks one record until the worker exits */

    ngx_queue_remove(&ctx->waiting);
    ngx_queue_remove(&ctx->active);

    ctx->op = NULL;
    ctx->submitted = 0;

    return orphan;
}


static void
ngx_http_kv_orphan_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    (void) rc;

    ngx_http_kv_detach(ctx);
    ngx_free(ctx);
}


static void
ngx_http_kv_cleanup_pin(void *data)
{
    ngx_http_kv_detach(data);
}


void
ngx_http_kv_cut_connection(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    c->error = 1;
    c->close = 1;

    if (!c->shared) {
        (void) shutdown(c->fd, SHUT_RDWR);
    }

    ngx_post_event(c->read, &ngx_posted_events);
}


ngx_uint_t
ngx_http_kv_watch_client(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    if (r != r->main || r->discard_body) {
        return 0;
    }

    rev = r->connection->read;
    r->read_event_handler = ngx_http_test_reading;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        r->read_event_handler = ngx_http_block_reading;
        return 0;
    }

    return 1;
}


void
ngx_http_kv_submit(ngx_http_kv_ctx_t *ctx, ngx_http_kv_done_pt done)
{
    ngx_http_kv_wait_leave(ctx);

    ctx->done = done;
    ctx->submitted = 1;

    ngx_queue_insert_tail(&ctx->zone->waiting, &ctx->waiting);

    ctx->zone->submitted(ctx->zone,
                         kv_store_submit(ctx->zone->store, ctx->op));
}


void
ngx_http_kv_submit_group(ngx_http_kv_ctx_t *ctx, kv_op_t *first, kv_op_t *last,
    ngx_http_kv_done_pt done)
{
    kv_op_t             *op, *next;
    unsigned             todo;
    ngx_http_kv_zone_t  *zone;

    zone = ctx->zone;

    ctx->first = first;
    ctx->op = last;
    ctx->done = done;
    ctx->submitted = 1;

    ngx_queue_insert_tail(&zone->active, &ctx->active);
    ngx_queue_insert_tail(&zone->waiting, &ctx->waiting);
    ngx_http_kv_beat(zone);

    todo = 0;
    next = first;

    do {
        op = next;
        next = op->data;
        todo |= kv_store_submit(zone->store, op);

    } while (op != last);

    zone->submitted(zone, todo);
}


void
ngx_http_kv_waited(ngx_http_kv_ctx_t *ctx)
{
    const kv_op_t  *op;

    op = ctx->first ? ctx->first : ctx->op;

    ctx->committed += kv_now_ns() - kv_get_relaxed(op->queued_ns);
}


void
ngx_http_kv_complete(ngx_http_kv_zone_t *zone)
{
    kv_rc_t             rc;
    ngx_queue_t        *q;
    ngx_http_kv_ctx_t  *ctx;

    /* nearly always they are done in the order of submission */

    while (!ngx_queue_empty(&zone->waiting)) {

        q = ngx_queue_head(&zone->waiting);
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, waiting);

        if (!ngx_http_kv_all_done(ctx, &rc)) {
            return;
        }

        ngx_queue_remove(q);
        ctx->submitted = 0;
        ctx->version = kv_store_result(zone->store, ctx->op);
        ngx_http_kv_waited(ctx);

        if (!ctx->keeps) {
            ngx_http_kv_detach(ctx);
        }

        ctx->done(ctx, rc);
    }
}


/*
 * Whether the request's operations are done, and the result of the last.  Of a
 * group each counts: the committer refuses some before it has done others.
 */

static ngx_uint_t
ngx_http_kv_all_done(ngx_http_kv_ctx_t *ctx, kv_rc_t *rc)
{
    kv_rc_t   other;
    kv_op_t  *op;

    if (!kv_store_done(ctx->op, rc)) {
        return 0;
    }

    for (op = ctx->first; op && op != ctx->op; op = op->data) {

        if (!kv_store_done(op, &other)) {
            return 0;
        }
    }

    return 1;
}
