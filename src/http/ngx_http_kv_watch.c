
/*
 * GET /watch: what changes, as a stream of events (text/event-stream).  Here
 * is the request: its arguments, where in the feed it begins, its beginning and
 * its end.
 */


#include "http/ngx_http_kv_watch_private.h"


#define NGX_HTTP_KV_WATCH_TYPE  "text/event-stream"


static const char *ngx_http_kv_watch_args(ngx_http_kv_watch_t *watch);
static const char *ngx_http_kv_watch_names(ngx_http_kv_watch_t *watch);
static const char *ngx_http_kv_watch_after(ngx_http_kv_watch_t *watch);
static ngx_str_t *ngx_http_kv_watch_last_id(ngx_http_request_t *r);
static ngx_http_kv_watches_t *ngx_http_kv_watch_create(
    ngx_http_kv_zone_t *zone);
static kv_rc_t ngx_http_kv_watch_begin(ngx_http_kv_watch_t *watch);
static kv_rc_t ngx_http_kv_watch_find(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_refuse(ngx_http_request_t *r, kv_rc_t rc);
static ngx_int_t ngx_http_kv_watch_start(ngx_http_kv_watch_t *watch);


static const ngx_http_kv_arg_t  ngx_http_kv_watch_arg[] = {
    { ngx_string("prefix"), offsetof(ngx_http_kv_watch_t, prefix) },
    { ngx_string("key"), offsetof(ngx_http_kv_watch_t, key) },
    { ngx_string("after"), offsetof(ngx_http_kv_watch_t, after_arg) },
    { ngx_string("values"), offsetof(ngx_http_kv_watch_t, values_arg) },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_kv_watch(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t               begun;
    ngx_int_t             rc;
    const char           *wrong;
    ngx_http_kv_watch_t  *watch;

    watch = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_watch_t));
    if (watch == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    watch->ctx = ctx;
    ctx->bulk = watch;

    wrong = "unknown argument: there are prefix, key, after and values\n";

    rc = ngx_http_kv_args_read(r, ngx_http_kv_watch_arg, watch, &wrong);

    if (rc == NGX_DECLINED) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    watch->name = watch->key.data ? watch->key : watch->prefix;

    if (rc != NGX_OK || ngx_http_kv_bound_name(ctx, &watch->name) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    wrong = ngx_http_kv_watch_args(watch);

    if (wrong) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    wrong = watch->key.data
            ? kv_key_wrong(ctx->key_chars, (char *) watch->name.data,
                           watch->name.len)
            : NULL;

    if (wrong) {
        return ngx_http_kv_reply_wrong(r, wrong);
    }

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    if (ngx_http_kv_awaiting > ngx_cycle->connection_n / 4 * 3) {
        return ngx_http_kv_reply(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "too many watches\n");
    }

    begun = ngx_http_kv_watch_begin(watch);

    return begun == KV_OK ? ngx_http_kv_watch_start(watch)
                          : ngx_http_kv_watch_refuse(r, begun);
}


/* NULL, or what is wrong. */

static const char *
ngx_http_kv_watch_args(ngx_http_kv_watch_t *watch)
{
    ngx_str_t   *values;
    const char  *wrong;

    wrong = ngx_http_kv_watch_names(watch);

    if (wrong) {
        return wrong;
    }

    values = &watch->values_arg;

    if (values->data) {
        if (values->len != 1
            || (*values->data != '0' && *values->data != '1'))
        {
            return "invalid values: it is 0 or 1\n";
        }

        watch->values = *values->data == '1';
    }

    return ngx_http_kv_watch_after(watch);
}


static const char *
ngx_http_kv_watch_names(ngx_http_kv_watch_t *watch)
{
    if (watch->prefix.data && watch->key.data) {
        return "prefix and key are given: a watch takes one of them\n";
    }

    if (watch->key.data && watch->key.len == 0) {
        return "key cannot be empty\n";
    }

    if (watch->name.len > KV_KEY_MAX) {
        return "prefix or key is longer than a key\n";
    }

    if (watch->name.len == 0) {
        ngx_str_set(&watch->name, "");
    }

    return NULL;
}


/*
 * Where it begins: a browser that connects again sends the id of the last event
 * in a header, and the address that it had.
 */

static const char *
ngx_http_kv_watch_after(ngx_http_kv_watch_t *watch)
{
    ngx_str_t  *id;

    id = ngx_http_kv_watch_last_id(watch->ctx->request);

    if (id && id->len) {
        watch->resumes = 1;

        return kv_version_parse_state(&watch->after, (char *) id->data,
                                      id->len)
               ? NULL : "invalid Last-Event-ID: it is a version\n";
    }

    id = &watch->after_arg;

    if (id->data == NULL) {
        return NULL;
    }

    watch->resumes = 1;

    return kv_version_parse_state(&watch->after, (char *) id->data,
                                      id->len)
           ? NULL : "invalid after: it is a version\n";
}


static ngx_str_t *
ngx_http_kv_watch_last_id(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("Last-Event-ID") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Last-Event-ID",
                                   h[i].key.len)
                   == 0)
            {
                return &h[i].value;
            }
        }
    }

    return NULL;
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
    ngx_queue_init(&watches->dirty);
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
    ngx_http_cleanup_t     *cln;
    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    zone = watch->ctx->zone;
    watches = ngx_http_kv_watch_create(zone);
    cln = ngx_http_cleanup_add(watch->ctx->request, 0);

    if (watches == NULL || cln == NULL) {
        return KV_NO_MEMORY;
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

    cln->handler = ngx_http_kv_watch_stop;
    cln->data = watch;

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

    if (watch->resumes) {
        return kv_store_feed_find(store, &watch->after, &watch->pos,
                                  &watches->rec);
    }

    watch->after = kv_store_state_version(store);

    rc = kv_store_feed_find(store, &watch->after, &watch->pos, &watches->rec);

    if (rc == KV_DECLINED) {

        /* a batch that is larger than the ring: what is behind it */

        watch->pos = kv_store_feed_end(store);
        rc = KV_OK;
    }

    return rc;
}


static ngx_int_t
ngx_http_kv_watch_refuse(ngx_http_request_t *r, kv_rc_t rc)
{
    ngx_http_kv_ctx_t  *ctx;

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
        ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);
        ctx->zone->woken(ctx->zone);

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

    if (!watch->live) {
        ngx_http_kv_step_next(&watch->step);
    }

    ngx_http_kv_watch_beat_start(watch->ctx->zone->watches);

    if (ngx_exiting) {

        /* the client is to connect again, to a worker that stays */

        ngx_http_kv_watch_end(watch);
    }

    return NGX_DONE;
}


void
ngx_http_kv_watch_stop(void *data)
{
    ngx_http_kv_watch_t *watch = data;

    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    if (!watch->shown) {
        return;
    }

    watch->shown = 0;

    zone = watch->ctx->zone;
    watches = zone->watches;

    if (watch->set) {
        ngx_http_kv_watch_index_remove(watches, watch);
    }

    if (watch->dirty) {
        ngx_queue_remove(&watch->to_send);
    }

    ngx_queue_remove(&watch->all);
    ngx_http_kv_step_over(&watch->step);

    kv_store_watch_end(zone->store, watch->name.data, watch->name.len,
                       watch->key.data == NULL);

    ngx_http_kv_awaiting--;

    if (--zone->watching == 0) {
        ngx_http_kv_watch_event_free(watches);

        if (watches->beat.timer_set) {
            ngx_del_timer(&watches->beat);
        }

        if (watches->more.posted) {
            ngx_delete_posted_event(&watches->more);
        }
    }

    ngx_http_kv_rest(zone);
}
