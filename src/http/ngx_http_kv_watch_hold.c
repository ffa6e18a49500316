
/*
 * Watches that cannot begin yet, as when the zone is being rebuilt: they are
 * tried again for some seconds.
 *
 * A browser takes any answer but 200 for the end of its EventSource, and does
 * not connect again.  So a request that goes on behind a version is answered
 * 200 after that time, with a stream that ends at once: its client has missed
 * nothing yet, and connects again.  One that begins now is refused: it would
 * take the answer for the beginning.
 */


#include "http/ngx_http_kv_watch_private.h"


/* how long one is held, and how often tried; milliseconds */
#define NGX_HTTP_KV_WATCH_HOLD   10000
#define NGX_HTTP_KV_WATCH_AGAIN  100


static void ngx_http_kv_watch_try_held(ngx_event_t *ev);
static ngx_int_t ngx_http_kv_watch_over(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_answer(ngx_http_kv_watch_t *watch,
    ngx_int_t rc);


ngx_int_t
ngx_http_kv_watch_hold(ngx_http_kv_watch_t *watch)
{
    ngx_http_request_t     *r;
    ngx_http_kv_watches_t  *watches;

    if (ngx_exiting || ngx_terminate) {
        return ngx_http_kv_watch_over(watch);
    }

    r = watch->ctx->request;
    watches = watch->ctx->zone->watches;

    watch->held = 1;
    watch->until = kv_now_ns() + (uint64_t) NGX_HTTP_KV_WATCH_HOLD * 1000000;
    ngx_queue_insert_tail(&watches->held, &watch->all);
    ngx_http_kv_awaiting++;

    r->main->count++;

    (void) ngx_http_kv_watch_client(r);

    if (!watches->hold.timer_set) {
        watches->hold.handler = ngx_http_kv_watch_try_held;
        watches->hold.data = watches;
        watches->hold.log = watches->zone->log;

        ngx_add_timer(&watches->hold, NGX_HTTP_KV_WATCH_AGAIN);
    }

    return NGX_DONE;
}


/* What one cannot do, those behind it cannot, either. */

static void
ngx_http_kv_watch_try_held(ngx_event_t *ev)
{
    ngx_int_t               rc;
    ngx_uint_t              n;
    ngx_http_kv_watch_t    *watch;
    ngx_http_kv_watches_t  *watches;

    watches = ev->data;

    /* the committer may have died, and no other process wait for it */

    watches->zone->woken(watches->zone);

    for (n = 0; n < NGX_HTTP_KV_WATCH_SENDS; n++) {

        if (ngx_queue_empty(&watches->held)) {
            return;
        }

        watch = ngx_http_kv_watch_of(ngx_queue_head(&watches->held), all);

        ngx_http_kv_watch_unhold(watch);

        rc = ngx_http_kv_watch_try(watch);

        if (rc == NGX_HTTP_KV_LATER) {

            if (kv_now_ns() < watch->until && !ngx_exiting) {
                watch->held = 1;
                ngx_queue_insert_head(&watches->held, &watch->all);
                ngx_http_kv_awaiting++;
                break;
            }

            rc = ngx_http_kv_watch_over(watch);
        }

        ngx_http_kv_watch_answer(watch, rc);
    }

    ngx_add_timer(ev, n < NGX_HTTP_KV_WATCH_SENDS ? NGX_HTTP_KV_WATCH_AGAIN
                                                  : 1);
}


void
ngx_http_kv_watch_hold_finish(ngx_http_kv_watches_t *watches)
{
    ngx_http_kv_watch_t  *watch;

    while (!ngx_queue_empty(&watches->held)) {
        watch = ngx_http_kv_watch_of(ngx_queue_head(&watches->held), all);

        ngx_http_kv_watch_unhold(watch);
        ngx_http_kv_watch_answer(watch, ngx_http_kv_watch_over(watch));
    }

    if (watches->hold.timer_set) {
        ngx_del_timer(&watches->hold);
    }
}


/* It is held no longer.  A content handler's result. */

static ngx_int_t
ngx_http_kv_watch_over(ngx_http_kv_watch_t *watch)
{
    ngx_buf_t           *b;
    ngx_http_request_t  *r;

    r = watch->ctx->request;

    if (!watch->resumes) {
        return ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }

    b = ngx_create_temp_buf(r->pool, 64);

    if (b == NULL
        || ngx_http_kv_header(r, "X-Content-Type-Options", "nosniff")
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, ": not yet\nretry: %d\n\n",
                          NGX_HTTP_KV_WATCH_RETRY);

    return ngx_http_kv_reply_buf(r, NGX_HTTP_KV_WATCH_TYPE, b);
}


static void
ngx_http_kv_watch_answer(ngx_http_kv_watch_t *watch, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = watch->ctx->request;

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, watch->ctx);
    }

    ngx_http_kv_finish(r, rc);
}
