
/*
 * The text of a stream is sent.
 *
 * All that is added to streams is sent in the same round of the event loop, or
 * in the next ones if there is much of it.  Meanwhile the worker reads no more
 * of the feed: so it does nothing for long.  A client that takes nothing for
 * send_timeout is cut off; and if what waits for clients takes too much memory
 * together, those that have taken nothing for the longest time are.
 */


#include "http/ngx_http_kv_watch_private.h"


/* bytes that may wait for all clients of a worker, in a zone with less feed */
#define NGX_HTTP_KV_WATCH_MEMORY   1048576


static ngx_int_t ngx_http_kv_watch_sent(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_note_slow(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_wait(ngx_http_kv_watch_t *watch);


size_t
ngx_http_kv_watch_add(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch)
{
    size_t        bytes, n;
    ngx_chain_t  *cl;

    cl = ngx_http_kv_watch_event(watches, watch);
    bytes = 0;

    if (cl == NULL) {
        watch->failed = 1;
    }

    for ( /* void */ ; cl; cl = cl->next) {
        n = cl->buf->last - cl->buf->pos;
        ngx_http_kv_watch_put(watch, cl->buf->pos, n);
        bytes += n;
    }

    watch->after.lsn = watches->rec.lsn;

    ngx_http_kv_watch_dirty(watch);

    return bytes;
}


void
ngx_http_kv_watch_id(ngx_http_kv_watch_t *watch, const char *comment)
{
    char          tag[KV_VERSION_TAG];
    u_char        text[KV_VERSION_TAG + 64], *p;
    size_t        n;
    kv_version_t  id;

    id = kv_store_feed_id(watch->ctx->zone->store, watch->after.lsn);
    n = kv_version_tag(&id, tag) - 2;
    p = ngx_sprintf(text, ": %s\nretry: %d\nid: %*s\n\n", comment,
                    NGX_HTTP_KV_WATCH_RETRY, n, tag + 1);

    ngx_http_kv_watch_put(watch, text, p - text);
    ngx_http_kv_watch_dirty(watch);
}


void
ngx_http_kv_watch_dirty(ngx_http_kv_watch_t *watch)
{
    ngx_http_kv_watches_t  *watches;

    watches = watch->ctx->zone->watches;

    if (!watch->dirty) {
        watch->dirty = 1;
        ngx_queue_insert_tail(&watches->dirty, &watch->to_send);
        ngx_post_event(&watches->more, &ngx_posted_events);
    }
}


ngx_uint_t
ngx_http_kv_watch_send_dirty(ngx_http_kv_watches_t *watches)
{
    ngx_uint_t            n;
    ngx_queue_t          *q;
    ngx_http_kv_watch_t  *watch;

    for (n = 0; n < NGX_HTTP_KV_WATCH_SENDS; n++) {

        if (ngx_queue_empty(&watches->dirty)) {
            return 0;
        }

        q = ngx_queue_head(&watches->dirty);
        watch = ngx_http_kv_watch_of(q, to_send);

        (void) ngx_http_kv_watch_send(watch);
    }

    return !ngx_queue_empty(&watches->dirty);
}


ngx_int_t
ngx_http_kv_watch_send(ngx_http_kv_watch_t *watch)
{
    ngx_int_t            rc;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = watch->ctx->request;
    out = watch->out;

    if (watch->dirty) {
        watch->dirty = 0;
        ngx_queue_remove(&watch->to_send);
    }

    if (watch->failed) {
        ngx_http_kv_watch_cut(watch, "cannot have its event now");
        return NGX_DONE;
    }

    if (out) {
        watch->last->buf->flush = 1;
        watch->last = NULL;
        watch->out = NULL;
        watch->sent = kv_now_ns();

        ngx_queue_remove(&watch->all);
        ngx_queue_insert_tail(&watch->ctx->zone->watches->all, &watch->all);

    } else if (watch->busy == NULL) {
        return NGX_OK;
    }

    rc = ngx_http_output_filter(r, out);

    ngx_chain_update_chains(r->pool, &watch->free, &watch->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_kv_module);

    if (rc == NGX_ERROR) {
        ngx_http_kv_watch_cut(watch, "cannot be sent");
        return NGX_DONE;
    }

    return ngx_http_kv_watch_sent(watch);
}


/* What is left is sent when the client has taken some.  Results as above. */

static ngx_int_t
ngx_http_kv_watch_sent(ngx_http_kv_watch_t *watch)
{
    ngx_chain_t  *cl;
    ngx_event_t  *wev;

    wev = watch->ctx->request->connection->write;
    watch->pending = 0;

    for (cl = watch->busy; cl; cl = cl->next) {
        watch->pending += ngx_buf_size(cl->buf);
    }

    if (watch->busy == NULL && wev->timer_set && !wev->delayed) {
        ngx_del_timer(wev);
    }

    ngx_http_kv_watch_text_over(watch);
    ngx_http_kv_watch_note_slow(watch);

    if (watch->busy && ngx_http_kv_watch_wait(watch) != NGX_OK) {
        return NGX_DONE;
    }

    if (!watch->live && watch->pending < NGX_HTTP_KV_WATCH_PENDING / 2) {
        ngx_http_kv_step_next(&watch->step);
    }

    return NGX_OK;
}


/* Who takes some comes behind those that take none. */

static void
ngx_http_kv_watch_note_slow(ngx_http_kv_watch_t *watch)
{
    ngx_connection_t  *c;

    c = watch->ctx->request->connection;

    if (watch->slow && (watch->busy == NULL || c->sent != watch->taken)) {
        watch->slow = 0;
        ngx_queue_remove(&watch->by_age);
    }

    if (watch->busy && !watch->slow) {
        watch->slow = 1;
        watch->taken = c->sent;
        ngx_queue_insert_tail(&watch->ctx->zone->watches->slow,
                              &watch->by_age);
    }
}


void
ngx_http_kv_watch_limit(ngx_http_kv_watches_t *watches)
{
    size_t        most;
    ngx_queue_t  *q;

    most = ngx_max(watches->zone->conf.feed, NGX_HTTP_KV_WATCH_MEMORY);

    while (watches->memory > most && !ngx_queue_empty(&watches->slow)) {
        q = ngx_queue_head(&watches->slow);

        ngx_http_kv_watch_cut(ngx_http_kv_watch_of(q, by_age),
                              "takes nothing, and too much waits for all");
    }
}


static ngx_int_t
ngx_http_kv_watch_wait(ngx_http_kv_watch_t *watch)
{
    ngx_event_t               *wev;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = watch->ctx->request;
    wev = r->connection->write;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /* from when the client has last taken something */

    if (!wev->delayed && !wev->timer_set) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_handle_write_event(wev, clcf->send_lowat) == NGX_OK) {
        return NGX_OK;
    }

    ngx_http_kv_watch_cut(watch, "cannot be sent");

    return NGX_DONE;
}


void
ngx_http_kv_watch_writable(ngx_http_request_t *r)
{
    ngx_event_t          *wev;
    ngx_http_kv_ctx_t    *ctx;
    ngx_http_kv_watch_t  *watch;

    wev = r->connection->write;
    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);
    watch = ctx->bulk;

    if (!watch->shown) {
        return;
    }

    if (wev->timedout) {
        r->connection->timedout = 1;
        ngx_http_kv_watch_cut(watch, "is too slow");
        return;
    }

    if (wev->delayed) {
        (void) ngx_http_kv_watch_wait(watch);
        return;
    }

    if (wev->timer_set && wev->ready) {
        ngx_del_timer(wev);
    }

    (void) ngx_http_kv_watch_send(watch);
}


void
ngx_http_kv_watch_end(ngx_http_kv_watch_t *watch)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = watch->ctx->request;
    rc = NGX_ERROR;

    if (watch->out && watch->busy == NULL
        && ngx_http_kv_watch_send(watch) != NGX_OK)
    {
        return;
    }

    ngx_http_kv_watch_stop(watch);

    r->keepalive = 0;

    if (watch->busy == NULL) {
        rc = ngx_http_send_special(r, NGX_HTTP_LAST);
    }

    /* what cannot be sent now is not waited for */

    if (rc == NGX_AGAIN || r->buffered || r->connection->buffered) {
        rc = NGX_ERROR;
    }

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, watch->ctx);
    }

    ngx_http_kv_finish(r, rc);
}


void
ngx_http_kv_watch_cut(ngx_http_kv_watch_t *watch, const char *why)
{
    ngx_http_request_t  *r;

    r = watch->ctx->request;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "kv zone \"%V\": a watch %s, its connection is cut",
                  &watch->ctx->zone->name, why);

    ngx_http_kv_watch_stop(watch);
    ngx_http_kv_finish(r, NGX_ERROR);
}


void
ngx_http_kv_watch_end_all(ngx_http_kv_watches_t *watches)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&watches->all)) {
        q = ngx_queue_head(&watches->all);
        ngx_http_kv_watch_end(ngx_http_kv_watch_of(q, all));
    }
}
