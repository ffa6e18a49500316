
/*
 * Reads that wait: "GET /kv/{key}?wait=SECONDS" is answered when the answer is
 * another than 304, or than 404 without If-None-Match, and at the latest when
 * its time is over, or the worker is to quit.
 *
 * The store tells which keys have changed (store/kv_await.h); here is what else
 * ends a wait.  Until then a request costs a timer, a connection or a stream,
 * and no processor.  So that connections for others are left, only a share of
 * the worker's may wait.
 *
 * Subrequests do not wait, nor do requests that an error has led here: their
 * client asked for something else, and its conditions are not about this key.
 */


#include "http/ngx_http_kv.h"


/* how many are answered in one round of the event loop */
#define NGX_HTTP_KV_AWAIT_STEP   64

/*
 * How often a worker looks for what no process wakes it for, milliseconds: that
 * the committer died; in one that cannot be woken, all.
 */
#define NGX_HTTP_KV_AWAIT_WATCH  1000

/* when a read is tried again that a group's becoming visible was in the way of,
   milliseconds */
#define NGX_HTTP_KV_AWAIT_LATER  1


typedef struct {
    kv_waiter_t             waiter;
    ngx_event_t             timer;
    ngx_event_t             later;            /* NGX_HTTP_KV_LATER */
    ngx_http_kv_ctx_t      *ctx;
    ngx_http_kv_read_pt     read;
    unsigned                waits:1;
    unsigned                over:1;           /* its time is */
} ngx_http_kv_await_t;


static ngx_int_t ngx_http_kv_await_read(ngx_http_kv_await_t *await,
    ngx_uint_t wait);
static ngx_int_t ngx_http_kv_await_begin(ngx_http_kv_await_t *await);
static ngx_int_t ngx_http_kv_await_sleep(ngx_http_kv_await_t *await,
    ngx_uint_t seconds);
static void ngx_http_kv_await_set_later(ngx_http_kv_await_t *await);
static void ngx_http_kv_await_end(void *data);
static void ngx_http_kv_await_answer(ngx_http_kv_zone_t *zone,
    ngx_uint_t most, ngx_uint_t wait);
static void ngx_http_kv_await_try(ngx_http_kv_await_t *await,
    ngx_uint_t wait);
static void ngx_http_kv_await_timeout(ngx_event_t *ev);
static void ngx_http_kv_await_later(ngx_event_t *ev);
static void ngx_http_kv_await_again(ngx_event_t *ev);
static void ngx_http_kv_await_watch(ngx_event_t *ev);
static void ngx_http_kv_await_set_watch(ngx_http_kv_zone_t *zone);


ngx_uint_t  ngx_http_kv_awaiting;


void
ngx_http_kv_await_init(ngx_http_kv_zone_t *zone)
{
    zone->awaiting = 0;
    zone->awaking = 0;

    ngx_memzero(&zone->await_again, sizeof(ngx_event_t));
    zone->await_again.handler = ngx_http_kv_await_again;
    zone->await_again.data = zone;
    zone->await_again.log = zone->log;

    zone->await_watch = zone->await_again;
    zone->await_watch.handler = ngx_http_kv_await_watch;
    zone->await_watch.cancelable = 1;
}


ngx_int_t
ngx_http_kv_await(ngx_http_kv_ctx_t *ctx, ngx_uint_t seconds,
    ngx_http_kv_read_pt read)
{
    ngx_int_t             rc;
    ngx_http_request_t   *r;
    ngx_http_kv_await_t  *await;

    r = ctx->request;

    if (r != r->main || r->err_status || ngx_exiting || ngx_terminate) {
        return read(ctx, 0);
    }

    await = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_await_t));
    if (await == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    await->ctx = ctx;
    await->read = read;

    rc = ngx_http_kv_await_begin(await);

    if (rc != NGX_OK) {
        return rc;
    }

    /* not before: a change before that is told to no process */

    rc = ngx_http_kv_await_read(await, 1);

    if (rc == NGX_BUSY
        && ngx_http_kv_awaiting > ngx_cycle->connection_n / 4 * 3)
    {
        rc = ngx_http_kv_reply(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                               "too many waiting reads\n");
    }

    if (rc != NGX_BUSY && rc != NGX_HTTP_KV_LATER) {
        ngx_http_kv_await_end(await);
        return rc;
    }

    if (rc == NGX_HTTP_KV_LATER) {
        ngx_http_kv_await_set_later(await);
    }

    return ngx_http_kv_await_sleep(await, seconds);
}


static void
ngx_http_kv_await_set_later(ngx_http_kv_await_t *await)
{
    await->later.handler = ngx_http_kv_await_later;
    await->later.data = await;
    await->later.log = await->ctx->request->connection->log;

    ngx_add_timer(&await->later, NGX_HTTP_KV_AWAIT_LATER);
}


/*
 * A read that finds the store unavailable leads back to
 * ngx_http_kv_await_wake(), which must not answer the same request.
 */

static ngx_int_t
ngx_http_kv_await_read(ngx_http_kv_await_t *await, ngx_uint_t wait)
{
    ngx_int_t            rc;
    ngx_http_kv_zone_t  *zone;

    zone = await->ctx->zone;

    zone->awaking++;
    rc = await->read(await->ctx, wait);
    zone->awaking--;

    return rc;
}


/* NGX_OK, or what the content handler is to return. */

static ngx_int_t
ngx_http_kv_await_begin(ngx_http_kv_await_t *await)
{
    kv_rc_t              rc;
    ngx_http_kv_ctx_t   *ctx;
    ngx_http_cleanup_t  *cln;

    ctx = await->ctx;

    cln = ngx_http_cleanup_add(ctx->request, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = kv_store_await(ctx->zone->store, &await->waiter, ctx->key.data,
                        ctx->key.len);

    if (rc != KV_OK) {
        return ngx_http_kv_reply_rc(ctx->request, KV_UNAVAILABLE);
    }

    await->waiter.data = await;
    await->waits = 1;

    ctx->zone->awaiting++;
    ngx_http_kv_awaiting++;

    cln->handler = ngx_http_kv_await_end;
    cln->data = await;

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_await_sleep(ngx_http_kv_await_t *await, ngx_uint_t seconds)
{
    ngx_http_request_t  *r;

    r = await->ctx->request;

    (void) ngx_http_kv_watch_client(r);

    r->main->count++;

    await->timer.handler = ngx_http_kv_await_timeout;
    await->timer.data = await;
    await->timer.log = r->connection->log;

    ngx_add_timer(&await->timer, (ngx_msec_t) seconds * 1000);

    ngx_http_kv_await_set_watch(await->ctx->zone);

    return NGX_DONE;
}


/* Also the request's cleanup. */

static void
ngx_http_kv_await_end(void *data)
{
    ngx_http_kv_await_t *await = data;

    ngx_http_kv_zone_t  *zone;

    if (!await->waits) {
        return;
    }

    zone = await->ctx->zone;

    await->waits = 0;
    zone->awaiting--;
    ngx_http_kv_awaiting--;

    kv_store_await_end(zone->store, &await->waiter);

    if (await->ctx->answered == 0) {

        /* its client has gone: the wait does not count */

        await->ctx->started = kv_now_ns();
    }

    if (await->timer.timer_set) {
        ngx_del_timer(&await->timer);
    }

    if (await->later.timer_set) {
        ngx_del_timer(&await->later);
    }

    if (zone->awaiting == 0 && zone->await_watch.timer_set) {
        ngx_del_timer(&zone->await_watch);
    }

    ngx_http_kv_rest(zone);
}


void
ngx_http_kv_await_wake(ngx_http_kv_zone_t *zone)
{
    if (zone->awaiting == 0 || zone->awaking) {
        return;
    }

    if (ngx_exiting) {
        ngx_http_kv_await_finish(zone);
        return;
    }

    kv_store_await_collect(zone->store, false);
    ngx_http_kv_await_answer(zone, NGX_HTTP_KV_AWAIT_STEP, 1);
}


void
ngx_http_kv_await_finish(ngx_http_kv_zone_t *zone)
{
    if (zone->awaiting && !zone->awaking) {
        kv_store_await_collect(zone->store, true);
        ngx_http_kv_await_answer(zone, NGX_MAX_INT_T_VALUE, 0);
    }
}


static void
ngx_http_kv_await_answer(ngx_http_kv_zone_t *zone, ngx_uint_t most,
    ngx_uint_t wait)
{
    ngx_uint_t    n;
    kv_waiter_t  *waiter;

    zone->awaking++;

    for (n = 0; n < most; n++) {
        waiter = kv_store_await_next(zone->store);

        if (waiter == NULL) {
            break;
        }

        ngx_http_kv_await_try(waiter->data, wait);
    }

    zone->awaking--;

    if (n == most) {
        ngx_post_event(&zone->await_again, &ngx_posted_next_events);
    }
}


/* Answers the request, unless it is to wait on. */

static void
ngx_http_kv_await_try(ngx_http_kv_await_t *await, ngx_uint_t wait)
{
    ngx_int_t            rc;
    ngx_http_kv_ctx_t   *ctx;
    ngx_http_request_t  *r;

    ctx = await->ctx;
    r = ctx->request;

    /* what is measured begins with what it has waited for */

    ctx->started = kv_now_ns();

    if (ngx_exiting || ngx_terminate) {
        r->keepalive = 0;
    }

    rc = ngx_http_kv_await_read(await, wait);

    if (rc == NGX_BUSY) {
        return;
    }

    if (rc == NGX_HTTP_KV_LATER) {
        await->over = await->over || !wait;

        if (!ngx_terminate) {
            ngx_http_kv_await_set_later(await);
            return;
        }

        /* no timer will end */

        rc = ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }

    ngx_http_kv_await_end(await);

    if (!r->discard_body) {
        r->read_event_handler = ngx_http_block_reading;
    }

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, ctx);
    }

    ngx_http_kv_finish(r, rc);
}


static void
ngx_http_kv_await_timeout(ngx_event_t *ev)
{
    ngx_http_kv_await_try(ev->data, 0);
}


static void
ngx_http_kv_await_later(ngx_event_t *ev)
{
    ngx_http_kv_await_t *await = ev->data;

    ngx_http_kv_await_try(await, !await->over);
}


static void
ngx_http_kv_await_again(ngx_event_t *ev)
{
    ngx_http_kv_await_wake(ev->data);
}


static void
ngx_http_kv_await_watch(ngx_event_t *ev)
{
    ngx_http_kv_zone_t *zone = ev->data;

    zone->woken(zone);

    if (zone->awaiting) {
        ngx_http_kv_await_set_watch(zone);
    }
}


static void
ngx_http_kv_await_set_watch(ngx_http_kv_zone_t *zone)
{
    if (!zone->await_watch.timer_set) {
        ngx_add_timer(&zone->await_watch,
                      ngx_http_kv_wakes_sure(zone->wakes)
                      ? NGX_HTTP_KV_AWAIT_WATCH : KV_STORE_WATCH);
    }
}
