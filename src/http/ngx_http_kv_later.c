
/*
 * Reads that meet a group of writes which is just becoming visible: they are
 * tried again a millisecond later, until it is (store/kv_group.h).
 */


#include "http/ngx_http_kv.h"


#define NGX_HTTP_KV_LATER_MS  1


typedef struct {
    ngx_event_t             timer;
    ngx_http_kv_ctx_t      *ctx;
    ngx_http_kv_later_pt    again;
    ngx_uint_t              n;                /* how often it was tried */
} ngx_http_kv_later_t;


static void ngx_http_kv_later_handler(ngx_event_t *ev);
static void ngx_http_kv_later_cleanup(void *data);


ngx_int_t
ngx_http_kv_later(ngx_http_kv_ctx_t *ctx, ngx_http_kv_later_pt again)
{
    ngx_http_request_t   *r;
    ngx_http_cleanup_t   *cln;
    ngx_http_kv_later_t  *later;

    r = ctx->request;

    later = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_later_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (later == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_kv_later_cleanup;
    cln->data = later;

    later->ctx = ctx;
    later->again = again;
    later->timer.handler = ngx_http_kv_later_handler;
    later->timer.data = later;
    later->timer.log = r->connection->log;

    ngx_add_timer(&later->timer, NGX_HTTP_KV_LATER_MS);

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_kv_later_handler(ngx_event_t *ev)
{
    ngx_int_t             rc;
    ngx_http_kv_ctx_t    *ctx;
    ngx_http_kv_later_t  *later;

    later = ev->data;
    ctx = later->ctx;

    /* a worker that is to quit may have given its place up meanwhile */

    rc = ngx_http_kv_entered(ctx->zone) == NGX_OK
         ? later->again(ctx)
         : ngx_http_kv_reply_rc(ctx->request, KV_UNAVAILABLE);

    if (rc == NGX_HTTP_KV_LATER) {
        ngx_add_timer(ev, NGX_HTTP_KV_LATER_MS);

        if (++later->n % KV_STORE_WATCH == 0) {

            /* the committer may have died in the middle of it */

            ngx_http_kv_process_events(ctx->zone);
        }

        return;
    }

    ngx_http_kv_finish(ctx->request, rc);
}


static void
ngx_http_kv_later_cleanup(void *data)
{
    ngx_http_kv_later_t *later = data;

    if (later->timer.timer_set) {
        ngx_del_timer(&later->timer);
    }
}
