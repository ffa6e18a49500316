
/*
 * The requests of a worker that wait for memory in the zone: their order, and
 * what the other workers see of it.
 *
 * Deletes and small values are tried first, then the oldest requests.  A
 * request is hungry if bytes of its value are here and have no memory: the
 * worker shows the oldest of these to the others, which leave them what comes
 * free (kv_fair.h).  A request stays hungry until its value is complete, or it
 * would wait for each page anew.
 */


#include "http/ngx_http_kv.h"


/* how much a body of unknown length needs; bytes */
#define NGX_HTTP_KV_CHUNKED   KV_PAGE_SIZE

/* how long a hungry request that gets memory keeps its place without bytes */
#define NGX_HTTP_KV_WAIT_FED  500000000ull                  /* nanoseconds */


static ngx_uint_t ngx_http_kv_wait_before(ngx_http_kv_ctx_t *one,
    ngx_http_kv_ctx_t *two);
static ngx_uint_t ngx_http_kv_wait_keeps(ngx_http_kv_ctx_t *ctx,
    uint64_t now);


void
ngx_http_kv_wait_put(ngx_http_kv_ctx_t *ctx, uint64_t now)
{
    ctx->starving = 1;
    ctx->starves_since = now;

    if (ctx->op) {
        kv_store_stop_clock(ctx->op);
    }

    ngx_http_kv_wait_queue(ctx);
}


void
ngx_http_kv_wait_queue(ngx_http_kv_ctx_t *ctx)
{
    ngx_queue_t  *q, *starving;

    starving = &ctx->zone->starving;

    /* requests that come are mostly the youngest */

    for (q = ngx_queue_last(starving);
         q != starving
         && ngx_http_kv_wait_before(ctx, ngx_queue_data(q, ngx_http_kv_ctx_t,
                                                        starved));
         q = ngx_queue_prev(q))
    {
        /* void */
    }

    ngx_queue_insert_after(q, &ctx->starved);
}


static ngx_uint_t
ngx_http_kv_wait_before(ngx_http_kv_ctx_t *one, ngx_http_kv_ctx_t *two)
{
    ngx_uint_t  large[2];

    large[0] = one->need > KV_ENTRY_INLINE;
    large[1] = two->need > KV_ENTRY_INLINE;

    return large[0] == large[1] ? one->started < two->started
                                : large[0] < large[1];
}


void
ngx_http_kv_wait_take(ngx_http_kv_ctx_t *ctx)
{
    ngx_queue_remove(&ctx->starved);

    ctx->starving = 0;
    ctx->waited += kv_now_ns() - ctx->starves_since;

    if (ctx->op) {
        kv_store_start_clock(ctx->op);
    }
}


void
ngx_http_kv_wait_leave(ngx_http_kv_ctx_t *ctx)
{
    if (ctx->starving) {
        ctx->starving = 0;
        ngx_queue_remove(&ctx->starved);
    }

    if (ctx->hungry) {
        ctx->hungry = 0;
        ngx_queue_remove(&ctx->hungers);
        ngx_http_kv_wait_show(ctx->zone);
    }
}


void
ngx_http_kv_wait_hunger(ngx_http_kv_ctx_t *ctx)
{
    ngx_queue_t        *q, *hungry;
    ngx_http_kv_ctx_t  *other;

    hungry = &ctx->zone->hungry;

    if (!ctx->hungry) {

        for (q = ngx_queue_last(hungry); q != hungry; q = ngx_queue_prev(q)) {
            other = ngx_queue_data(q, ngx_http_kv_ctx_t, hungers);

            if (other->started <= ctx->started) {
                break;
            }
        }

        ngx_queue_insert_after(q, &ctx->hungers);
        ctx->hungry = 1;
    }

    ngx_http_kv_wait_show(ctx->zone);
}


void
ngx_http_kv_wait_fed(ngx_http_kv_ctx_t *ctx)
{
    if (ctx->hungry) {
        ctx->fed = kv_now_ns();
        ngx_http_kv_wait_show(ctx->zone);
    }
}


void
ngx_http_kv_wait_show(ngx_http_kv_zone_t *zone)
{
    unsigned            n;
    uint64_t            now;
    kv_hungry_t         hungry[KV_HUNGRY];
    ngx_queue_t        *q;
    ngx_http_kv_ctx_t  *ctx;

    now = kv_now_ns();
    n = 0;

    for (q = ngx_queue_head(&zone->hungry);
         q != ngx_queue_sentinel(&zone->hungry) && n < KV_HUNGRY;
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, hungers);

        if (ngx_http_kv_wait_keeps(ctx, now)) {
            hungry[n].began_ns = ctx->started;
            hungry[n].bytes = ngx_http_kv_missing(ctx);

            /* a load or a batch needs all of it at once */

            if (ctx->op && ctx->bulk == NULL) {
                hungry[n].bytes = ngx_min(hungry[n].bytes,
                                          kv_store_pace(ctx->op));
            }

            n++;
        }
    }

    kv_store_hungry(zone->store, hungry, n);
}


/* Whether a hungry request waits, or gets memory for what keeps coming. */

static ngx_uint_t
ngx_http_kv_wait_keeps(ngx_http_kv_ctx_t *ctx, uint64_t now)
{
    return ctx->starving || now - ctx->fed < NGX_HTTP_KV_WAIT_FED;
}


ngx_uint_t
ngx_http_kv_wait_stuck(ngx_http_kv_zone_t *zone, uint64_t ns)
{
    uint64_t            now;
    ngx_queue_t        *q;
    ngx_http_kv_ctx_t  *ctx;

    now = kv_now_ns();

    for (q = ngx_queue_head(&zone->hungry);
         q != ngx_queue_sentinel(&zone->hungry);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, hungers);

        if (ngx_http_kv_wait_keeps(ctx, now)) {
            return ctx->starving && now - ctx->stuck_since >= ns;
        }
    }

    return 0;
}


uint32_t
ngx_http_kv_missing(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->bulk) {
        return ngx_max(ctx->need, 1);
    }

    if (r->headers_in.chunked) {
        return NGX_HTTP_KV_CHUNKED;
    }

    return (uint32_t) ngx_max(r->headers_in.content_length_n
                              - (off_t) ctx->received, 1);
}
