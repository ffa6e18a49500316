
/*
 * Reads that meet a group of writes which is just becoming visible: they are
 * tried again a millisecond later, until it is (store/kv_group.h).
 */


#include "http/ngx_http_kv.h"


typedef struct {
    ngx_http_kv_step_t      step;
    ngx_http_kv_ctx_t      *ctx;
    ngx_http_kv_later_pt    again;
} ngx_http_kv_later_t;


static void ngx_http_kv_later_take(void *data);
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

    later->step.ctx = ctx;
    later->step.take = ngx_http_kv_later_take;
    later->step.data = later;
    later->step.is_short = 1;

    r->main->count++;

    ngx_http_kv_step_later(&later->step);

    return NGX_DONE;
}


static void
ngx_http_kv_later_take(void *data)
{
    ngx_http_kv_later_t *later = data;

    ngx_int_t            rc;
    ngx_http_kv_ctx_t   *ctx;
    ngx_http_request_t  *r;

    ctx = later->ctx;
    r = ctx->request;

    /* a worker that is to quit may have given its place up meanwhile */

    rc = !ctx->zone->draining && ngx_http_kv_entered(ctx->zone) == NGX_OK
         ? later->again(ctx) : ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);

    if (rc == NGX_HTTP_KV_LATER) {
        ngx_http_kv_step_later(&later->step);
        return;
    }

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, ctx);
    }

    ngx_http_kv_finish(r, rc);
}


static void
ngx_http_kv_later_cleanup(void *data)
{
    ngx_http_kv_later_t *later = data;

    ngx_http_kv_step_over(&later->step);
}
