
/*
 * Polling for a result instead of sleeping until it comes.
 *
 * A client that writes one by one waits for two threads to be woken: the
 * committer's, and then the worker's event loop.  On processors that fell
 * idle meanwhile, each costs more than a batch that is not synced.  So while a
 * worker has just one write under way it polls for the result, once in each
 * round of its event loop, which does not sleep then and takes all other events
 * as usual.  Between two polls the worker yields the processor.
 *
 * Measured with sync=off, a lone connection writes 1.2 times as fast.  With
 * sync=always that depends on the machine: on one it gained nothing, on another
 * a write took a sixth less time and a third more of a processor, which nobody
 * else wanted (t/bench/README.md).  The worker stops after a moment, when other
 * writes come, or when another thread wanted the processor, and does not begin
 * again for a while.
 */


#include "http/ngx_http_kv.h"

#include <sched.h>


/*
 * How long it polls, and how long a round may take; nanoseconds.  A committer
 * on the same processor has it for some ten microseconds at a time, another
 * thread for milliseconds.
 */
#define NGX_HTTP_KV_POLL           500000u
#define NGX_HTTP_KV_POLL_ROUND     300000u

/* how long it does not poll, after other writes came; after it was in vain */
#define NGX_HTTP_KV_POLL_COMPANY   10000000u
#define NGX_HTTP_KV_POLL_VAIN      100000000u


static void ngx_http_kv_poll_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_kv_poll_again(ngx_http_kv_zone_t *zone,
    uint64_t now);


void
ngx_http_kv_poll_init(ngx_http_kv_zone_t *zone)
{
    ngx_memzero(&zone->poll, sizeof(ngx_event_t));
    zone->poll.handler = ngx_http_kv_poll_handler;
    zone->poll.data = zone;
    zone->poll.log = zone->log;

    zone->poll_not_before = 0;
}


void
ngx_http_kv_poll(ngx_http_kv_zone_t *zone)
{
    uint64_t            now;
    ngx_queue_t        *q;
    ngx_http_kv_ctx_t  *ctx;

    q = ngx_queue_head(&zone->waiting);

    if (zone->poll.posted
        || q != ngx_queue_last(&zone->waiting)
        || zone->conf.delay
        || ngx_ncpu < 2)
    {
        return;
    }

    ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, waiting);

    if (ctx->unhurried) {
        return;
    }

    now = kv_now_ns();

    if (now < zone->poll_not_before) {
        return;
    }

    zone->poll_end = now + NGX_HTTP_KV_POLL;
    zone->poll_last = now;

    kv_store_polling(zone->store, true);

    ngx_post_event(&zone->poll, &ngx_posted_next_events);
}


void
ngx_http_kv_poll_stop(ngx_http_kv_zone_t *zone)
{
    if (zone->poll.posted) {
        ngx_delete_posted_event(&zone->poll);
    }

    kv_store_polling(zone->store, false);
}


static void
ngx_http_kv_poll_handler(ngx_event_t *ev)
{
    uint64_t             now;
    ngx_http_kv_zone_t  *zone;

    zone = ev->data;

    (void) sched_yield();

    ngx_http_kv_complete(zone);
    ngx_http_kv_await_wake(zone);
    ngx_http_kv_watch_wake(zone);

    /* the answer may have brought the client's next write, which polls */

    if (zone->poll.posted) {
        return;
    }

    now = kv_now_ns();

    if (ngx_http_kv_poll_again(zone, now)) {
        zone->poll_last = now;
        ngx_post_event(&zone->poll, &ngx_posted_next_events);
        return;
    }

    kv_store_polling(zone->store, false);

    /* the committer did not wake us for what it did before that line */

    ngx_http_kv_complete(zone);
    ngx_http_kv_await_wake(zone);
    ngx_http_kv_watch_wake(zone);
}


static ngx_uint_t
ngx_http_kv_poll_again(ngx_http_kv_zone_t *zone, uint64_t now)
{
    if (ngx_queue_empty(&zone->waiting)) {
        return 0;
    }

    if (ngx_queue_head(&zone->waiting) != ngx_queue_last(&zone->waiting)) {
        zone->poll_not_before = now + NGX_HTTP_KV_POLL_COMPANY;
        return 0;
    }

    if (now > zone->poll_end
        || now - zone->poll_last > NGX_HTTP_KV_POLL_ROUND)
    {
        zone->poll_not_before = now + NGX_HTTP_KV_POLL_VAIN;
        return 0;
    }

    return 1;
}
