
/*
 * Requests that wait for memory in the zone, and those that have to give some.
 *
 * A request that finds no memory waits in a queue of its worker, which asks the
 * committer for all of them at once: one operation at a time, so that a full
 * zone costs the committer little however many requests wait.  Then all are
 * tried again, and a request that still finds none goes on waiting, for
 * NGX_HTTP_KV_RESERVE_WAIT in all, unless the committer says that there is
 * nothing to wait for.
 *
 * The other way round, the committer evicts holders of memory (kv_evict.h): the
 * worker answers an upload, and cuts a reader's connection.
 */


#include "http/ngx_http_kv.h"


/* how long a request may wait in all; from when it is urgent; nanoseconds */
#define NGX_HTTP_KV_RESERVE_WAIT    4000000000ull
#define NGX_HTTP_KV_RESERVE_URGENT  1000000000ull

/* when requests that wait are tried again, milliseconds; how many of them */
#define NGX_HTTP_KV_RESERVE_RETRY   10
#define NGX_HTTP_KV_RESERVE_TRIES   64


static void ngx_http_kv_reserve_cleanup(void *data);
static void ngx_http_kv_reserve_handler(ngx_event_t *ev);
static void ngx_http_kv_reserve_submit(ngx_http_kv_zone_t *zone);
static void ngx_http_kv_reserve_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_reserve_retry(ngx_http_kv_zone_t *zone, uint32_t full,
    ngx_uint_t tries);
static void ngx_http_kv_reserve_refuse(ngx_http_kv_ctx_t *ctx);
static ngx_http_kv_ctx_t *ngx_http_kv_evicted(ngx_http_kv_zone_t *zone);


void
ngx_http_kv_reserve_init(ngx_http_kv_zone_t *zone)
{
    ngx_queue_init(&zone->starving);
    ngx_queue_init(&zone->hungry);

    ngx_memzero(&zone->retry, sizeof(ngx_event_t));
    zone->retry.handler = ngx_http_kv_reserve_handler;
    zone->retry.data = zone;
    zone->retry.log = zone->log;

    zone->reserving = 0;
}


ngx_int_t
ngx_http_kv_reserve_wait(ngx_http_kv_ctx_t *ctx, uint32_t need,
    ngx_http_kv_resume_pt resume)
{
    ngx_http_cleanup_t  *cln;

    if (ctx->waited >= NGX_HTTP_KV_RESERVE_WAIT
        || (need && kv_store_full(ctx->zone->store, need)))
    {
        return NGX_DECLINED;
    }

    if (!ctx->may_starve) {
        cln = ngx_http_cleanup_add(ctx->request, 0);
        if (cln == NULL) {
            return NGX_DECLINED;
        }

        cln->handler = ngx_http_kv_reserve_cleanup;
        cln->data = ctx;

        ctx->may_starve = 1;
    }

    ctx->need = need;
    ctx->resume = resume;

    ctx->stuck_since = kv_now_ns();

    ngx_http_kv_wait_put(ctx, ctx->stuck_since);

    if (ctx->arrived) {
        ngx_http_kv_wait_hunger(ctx);
    }

    ngx_http_kv_reserve_submit(ctx->zone);

    return NGX_OK;
}


static void
ngx_http_kv_reserve_cleanup(void *data)
{
    ngx_http_kv_wait_leave(data);
}


/*
 * Submits one operation for all requests that wait, unless one is under way.
 * It asks for as much as the largest of them needs, and every other time for as
 * much as the first needs: a large request that has to be refused must not keep
 * the first from its memory.
 */

static void
ngx_http_kv_reserve_submit(ngx_http_kv_zone_t *zone)
{
    kv_op_t            *op;
    uint32_t            need;
    uint8_t             urgent;
    uint64_t            own;
    ngx_uint_t          n;
    ngx_queue_t        *q;
    ngx_http_kv_ctx_t  *ctx;

    if (zone->reserving || zone->draining || ngx_queue_empty(&zone->starving)) {
        return;
    }

    need = 0;
    own = 0;
    urgent = 0;

    for (q = ngx_queue_head(&zone->starving), n = 0;
         q != ngx_queue_sentinel(&zone->starving)
         && n < NGX_HTTP_KV_RESERVE_TRIES;
         q = ngx_queue_next(q), n++)
    {
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, starved);

        if (n == 0 || (ctx->need >= need && !zone->reserve_first)) {
            need = ctx->need;
            own = ctx->op ? kv_store_held(ctx->op) : 0;
        }

        urgent |= ctx->waited >= NGX_HTTP_KV_RESERVE_URGENT ? KV_OP_URGENT : 0;
    }

    urgent |= ngx_http_kv_wait_stuck(zone, NGX_HTTP_KV_RESERVE_URGENT)
              ? KV_OP_STUCK : 0;

    if (!zone->retry.timer_set) {
        ngx_add_timer(&zone->retry, NGX_HTTP_KV_RESERVE_RETRY);
    }

    /* an operation of no request */

    ctx = ngx_calloc(sizeof(ngx_http_kv_ctx_t), zone->log);

    if (ctx == NULL) {
        return;
    }

    if (kv_store_reserve(zone->store, need, own, &op) != KV_OK) {
        ngx_free(ctx);
        return;
    }

    kv_store_urge(op, urgent);

    zone->reserving = 1;
    zone->reserve_first = !zone->reserve_first;

    ctx->reserving = 1;
    ctx->need = need;
    ctx->zone = zone;
    ctx->op = op;
    op->data = ctx;
    ngx_queue_insert_tail(&zone->active, &ctx->active);

    ngx_http_kv_submit(ctx, ngx_http_kv_reserve_done);
}


static void
ngx_http_kv_reserve_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ctx->zone->reserving = 0;

    ngx_http_kv_reserve_retry(ctx->zone, rc == KV_NO_MEMORY ? ctx->need : 0,
                              NGX_HTTP_KV_RESERVE_TRIES);
    ngx_free(ctx);
}


static void
ngx_http_kv_reserve_handler(ngx_event_t *ev)
{
    ngx_http_kv_zone_t  *zone;

    zone = ev->data;

    ngx_http_kv_reserve_retry(zone, 0, NGX_HTTP_KV_RESERVE_TRIES);
    ngx_http_kv_reserve_submit(zone);
    ngx_http_kv_rest(zone);
}


void
ngx_http_kv_reserve_drain(ngx_http_kv_zone_t *zone)
{
    while (!ngx_queue_empty(&zone->starving)) {
        ngx_http_kv_reserve_retry(zone, 0, NGX_MAX_INT_T_VALUE);
    }

    if (zone->retry.timer_set) {
        ngx_del_timer(&zone->retry);
    }
}


/*
 * Tries all requests that wait once more, but stops when `tries` of them found
 * no memory.  With `full`, the committer found that `full` bytes cannot be had:
 * requests that need as many are refused, until the refusal of one has given
 * memory back.  A delete is not refused: it will find memory.
 */

static void
ngx_http_kv_reserve_retry(ngx_http_kv_zone_t *zone, uint32_t full,
    ngx_uint_t tries)
{
    ngx_queue_t         list;
    ngx_http_kv_ctx_t  *ctx;

    if (ngx_queue_empty(&zone->starving)) {
        return;
    }

    ngx_queue_init(&list);
    ngx_queue_add(&list, &zone->starving);
    ngx_queue_init(&zone->starving);

    while (!ngx_queue_empty(&list) && tries) {

        ctx = ngx_queue_data(ngx_queue_head(&list), ngx_http_kv_ctx_t,
                             starved);

        ngx_http_kv_wait_take(ctx);

        /* the request may be gone after anything but KV_NO_MEMORY */

        if (ctx->resume(ctx) != KV_NO_MEMORY) {
            continue;
        }

        tries--;

        if (ctx->waited >= NGX_HTTP_KV_RESERVE_WAIT || zone->draining
            || (full && ctx->need >= full))
        {
            full = ctx->op && kv_store_held(ctx->op) ? 0 : full;

            ngx_http_kv_reserve_refuse(ctx);
            continue;
        }

        ngx_http_kv_wait_put(ctx, kv_now_ns());
    }

    while (!ngx_queue_empty(&list)) {
        ctx = ngx_queue_data(ngx_queue_head(&list), ngx_http_kv_ctx_t,
                             starved);

        ngx_queue_remove(&ctx->starved);
        ngx_http_kv_wait_queue(ctx);
    }

    ngx_http_kv_wait_show(zone);

    if (!ngx_queue_empty(&zone->starving) && !zone->retry.timer_set
        && !zone->draining)
    {
        ngx_add_timer(&zone->retry, NGX_HTTP_KV_RESERVE_RETRY);
    }
}


static void
ngx_http_kv_reserve_refuse(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->refuse) {
        ctx->refuse(ctx, KV_NO_MEMORY);
        return;
    }

    ngx_http_kv_detach(ctx);
    ngx_http_kv_finish(r, ngx_http_kv_reply_rc(r, KV_NO_MEMORY));
}


void
ngx_http_kv_evict(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_ctx_t   *ctx;
    ngx_http_request_t  *r;

    if (!kv_store_evicted(zone->store)) {
        return;
    }

    while ((ctx = ngx_http_kv_evicted(zone)) != NULL) {

        ctx->cut = 1;
        r = ctx->request;

        if (ctx->sending) {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                          "kv zone \"%V\": a reader is too slow for a value "
                          "that was replaced, its connection is cut",
                          &zone->name);

            ngx_http_kv_cut_connection(r);
            continue;
        }

        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "kv zone \"%V\": an upload is too slow, it is refused",
                      &zone->name);

        if (ctx->starving) {

            /* uploads wait for each other's memory: this is the slowest */

            ngx_http_kv_wait_leave(ctx);
            ngx_http_kv_reserve_refuse(ctx);
            continue;
        }

        ngx_http_kv_detach(ctx);

        r->read_event_handler = ngx_http_block_reading;

        ngx_http_kv_finish(r,
                           ngx_http_kv_reply(r, NGX_HTTP_REQUEST_TIME_OUT,
                                             "upload too slow\n"));
    }
}


/* One of the worker's holders of memory that the committer evicts. */

static ngx_http_kv_ctx_t *
ngx_http_kv_evicted(ngx_http_kv_zone_t *zone)
{
    ngx_queue_t        *q;
    ngx_http_kv_ctx_t  *ctx;

    for (q = ngx_queue_head(&zone->active);
         q != ngx_queue_sentinel(&zone->active);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, active);

        if (!ctx->submitted && !ctx->cut && kv_store_must_go(ctx->op)) {
            return ctx;
        }
    }

    return NULL;
}
