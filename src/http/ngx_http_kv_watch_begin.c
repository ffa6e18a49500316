
/*
 * Where in the feed a watch begins, and the beginning of its stream.
 */


#include "http/ngx_http_kv_watch_private.h"


static ngx_http_kv_watches_t *ngx_http_kv_watch_create(
    ngx_http_kv_zone_t *zone);
static kv_rc_t ngx_http_kv_watch_begin(ngx_http_kv_watch_t *watch);
static kv_rc_t ngx_http_kv_watch_find(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_refuse(ngx_http_request_t *r, kv_rc_t rc);
static ngx_int_t ngx_http_kv_watch_start(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_nodelay(ngx_http_request_t *r);


ngx_int_t
ngx_http_kv_watch_try(ngx_http_kv_watch_t *watch)
{
    kv_rc_t  rc;

    rc = ngx_http_kv_watch_begin(watch);

    switch (rc) {

    case KV_OK:
        return ngx_http_kv_watch_start(watch);

    case KV_UNAVAILABLE:
        return NGX_HTTP_KV_LATER;

    default:
        return ngx_http_kv_watch_refuse(watch->ctx->request, rc);
    }
}


/* Those of the zone; NULL: no memory. */

static ngx_http_kv_watches_t *
ngx_http_kv_watch_create(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_watches_t  *watches;

    if (zone->watches) {
        return zone->watches;
    }

    watches = ngx_pcalloc(zone->cycle->pool, sizeof(ngx_http_kv_watches_t));
    if (watches == NULL) {
        return NULL;
    }

    watches->zone = zone;

    ngx_queue_init(&watches->all);
    ngx_queue_init(&watches->held);
    ngx_queue_init(&watches->dirty);
    ngx_queue_init(&watches->slow);
    ngx_http_kv_watch_index_init(watches);

    watches->more.handler = ngx_http_kv_watch_more;
    watches->more.data = watches;
    watches->more.log = zone->log;

    watches->beat.handler = ngx_http_kv_watch_beat;
    watches->beat.data = watches;
    watches->beat.log = zone->log;
    watches->beat.cancelable = 1;

    zone->watches = watches;

    return watches;
}


/* KV_OK, KV_NO_MEMORY, or as kv_store_feed_find(). */

static kv_rc_t
ngx_http_kv_watch_begin(ngx_http_kv_watch_t *watch)
{
    kv_rc_t                 rc;
    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    zone = watch->ctx->zone;
    watches = ngx_http_kv_watch_create(zone);

    if (watches == NULL) {
        return KV_NO_MEMORY;
    }

    if (ngx_http_kv_entered(zone) != NGX_OK) {
        return KV_UNAVAILABLE;
    }

    rc = kv_store_watch(zone->store, watch->name.data, watch->name.len,
                        watch->key.data == NULL);

    if (rc != KV_OK) {
        return rc;
    }

    watch->shown = 1;
    watch->sent = kv_now_ns();

    if (zone->watching++ == 0) {
        watches->pos = kv_store_feed_end(zone->store);
        kv_store_feed_seen(zone->store, watches->pos);
    }

    ngx_http_kv_awaiting++;
    ngx_queue_insert_tail(&watches->all, &watch->all);

    watch->step.ctx = watch->ctx;
    watch->step.take = ngx_http_kv_watch_take;
    watch->step.data = watch;

    /* not before: what is published before that wakes no process */

    rc = ngx_http_kv_watch_find(watch);

    if (rc != KV_OK) {
        ngx_http_kv_watch_stop(watch);
    }

    return rc;
}


/* Finds where it begins: behind the version that is given, or now. */

static kv_rc_t
ngx_http_kv_watch_find(ngx_http_kv_watch_t *watch)
{
    kv_rc_t                 rc;
    kv_store_t             *store;
    ngx_http_kv_watches_t  *watches;

    store = watch->ctx->zone->store;
    watches = watch->ctx->zone->watches;

    if (!watch->resumes) {
        watch->after = kv_store_state_version(store);
    }

    rc = kv_store_feed_find(store, &watch->after, &watch->pos, &watches->rec);

    /* the present one: a batch that is larger than the ring is being applied */

    return rc == KV_DECLINED && !watch->resumes ? KV_UNAVAILABLE : rc;
}


static ngx_int_t
ngx_http_kv_watch_refuse(ngx_http_request_t *r, kv_rc_t rc)
{
    switch (rc) {

    case KV_NO_MEMORY:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;

    case KV_DECLINED:
        return ngx_http_kv_reply(r, NGX_HTTP_KV_GONE,
                                 "changes since this version are not kept any "
                                 "more: list the keys, and watch from the "
                                 "KV-Version of the list\n");

    case KV_PRECONDITION:
        return ngx_http_kv_reply(r, NGX_HTTP_KV_GONE,
                                 "this version was lost, or is of another "
                                 "store: list the keys, and watch from the "
                                 "KV-Version of the list\n");

    default:
        return ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }
}


/* Sends the header and the first id, and begins to send events. */

static ngx_int_t
ngx_http_kv_watch_start(ngx_http_kv_watch_t *watch)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = watch->ctx->request;

    rc = ngx_http_kv_header(r, "X-Content-Type-Options", "nosniff") == NGX_OK
         && ngx_http_kv_header(r, "X-Accel-Buffering", "no") == NGX_OK
         && ngx_http_kv_watch_nodelay(r) == NGX_OK
         ? ngx_http_kv_reply_begin(r, NGX_HTTP_KV_WATCH_TYPE, -1)
         : NGX_HTTP_INTERNAL_SERVER_ERROR;

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_kv_watch_stop(watch);
        return rc;
    }

    r->main->count++;
    r->write_event_handler = ngx_http_kv_watch_writable;

    (void) ngx_http_kv_watch_client(r);

    ngx_http_kv_watch_id(watch, "watching");
    ngx_http_kv_watch_go_live(watch);

    if (!watch->live || ngx_exiting) {

        /* in one that exits the step ends it: here nginx still needs r */

        ngx_http_kv_step_next(&watch->step);
    }

    ngx_http_kv_watch_beat_start(watch->ctx->zone->watches);

    return NGX_DONE;
}


/*
 * An event is not to wait until the client acknowledges the one before, which
 * it does within 40 ms or so.  nginx sees to that for an answer that ends; and
 * for all of HTTP/2.  HTTP/3 has no TCP.
 */

static ngx_int_t
ngx_http_kv_watch_nodelay(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return clcf->tcp_nodelay && r->http_version < NGX_HTTP_VERSION_20
           ? ngx_tcp_nodelay(r->connection) : NGX_OK;
}
