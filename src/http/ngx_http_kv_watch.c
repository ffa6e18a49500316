
/*
 * GET /watch: what changes, as a stream of events (text/event-stream).
 *
 * The worker reads the feed (feed/kv_feed.h) once for all watches that are
 * live, and finds those of each record by its key; its text is made once for
 * all of them.  So a watch costs nothing while other keys change.
 *
 * A watch that begins at an older version, or whose client does not take what
 * it is sent, is not live: it reads the feed by itself, in steps
 * (ngx_http_kv_steps.c), until it has come to where the worker is.  What a
 * client has not taken is bounded so, by NGX_HTTP_KV_WATCH_PENDING and an
 * event; the rest is in the feed.  A client that is overtaken there, or takes
 * nothing for send_timeout, is cut off.
 *
 * All that is added to a stream is sent in the same round of the event loop, or
 * in the next ones if there is much of it.  Meanwhile the worker reads no more
 * of the feed: so it does nothing for long.
 */


#include "http/ngx_http_kv_watch_private.h"


#define NGX_HTTP_KV_WATCH_TYPE     "text/event-stream"

/* bytes that wait for a client before its watch reads by itself */
#define NGX_HTTP_KV_WATCH_PENDING  65536

/* bytes of a buffer; of the first one, which is enough for one that is idle */
#define NGX_HTTP_KV_WATCH_BUFFER   4096
#define NGX_HTTP_KV_WATCH_FIRST    256

/* in a round of the event loop: records that are read, bytes of text that is
   copied for it, streams that are sent */
#define NGX_HTTP_KV_WATCH_RECORDS  512
#define NGX_HTTP_KV_WATCH_BYTES    1048576
#define NGX_HTTP_KV_WATCH_SENDS    64

/* a stream that is silent for this time gets a sign of life; and how often that
   is looked at; milliseconds */
#define NGX_HTTP_KV_WATCH_BEAT     15000
#define NGX_HTTP_KV_WATCH_LOOK     1000

/* when a browser connects again, milliseconds */
#define NGX_HTTP_KV_WATCH_RETRY    1000

#define ngx_http_kv_watch_of(q, where)                                        \
    ngx_queue_data(q, ngx_http_kv_watch_t, where)


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
static void ngx_http_kv_watch_stop(void *data);
static void ngx_http_kv_watch_go_live(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_fall_behind(ngx_http_kv_watch_t *watch,
    uint64_t pos);
static void ngx_http_kv_watch_take(void *data);
static ngx_int_t ngx_http_kv_watch_catch_up(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_read(ngx_http_kv_watches_t *watches);
static kv_rc_t ngx_http_kv_watch_read_next(ngx_http_kv_watches_t *watches,
    size_t *bytes);
static size_t ngx_http_kv_watch_deliver(ngx_http_kv_watches_t *watches,
    uint64_t pos);
static size_t ngx_http_kv_watch_deliver_all(ngx_http_kv_watches_t *watches,
    uint64_t pos);
static size_t ngx_http_kv_watch_give(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch, uint64_t pos);
static void ngx_http_kv_watch_lost(ngx_http_kv_watches_t *watches);
static size_t ngx_http_kv_watch_add(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_put(ngx_http_kv_watch_t *watch,
    const u_char *p, size_t n);
static ngx_buf_t *ngx_http_kv_watch_buffer(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_id(ngx_http_kv_watch_t *watch,
    const char *comment);
static void ngx_http_kv_watch_dirty(ngx_http_kv_watch_t *watch);
static ngx_uint_t ngx_http_kv_watch_send_dirty(
    ngx_http_kv_watches_t *watches);
static ngx_int_t ngx_http_kv_watch_send(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_sent(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_writable(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_watch_wait(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_end(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_cut(ngx_http_kv_watch_t *watch,
    const char *why);
static void ngx_http_kv_watch_more(ngx_event_t *ev);
static void ngx_http_kv_watch_beat(ngx_event_t *ev);
static ngx_uint_t ngx_http_kv_watch_beats(ngx_http_kv_watches_t *watches);


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

    if (!watch->ctx->zone->watches->beat.timer_set) {
        ngx_add_timer(&watch->ctx->zone->watches->beat,
                      NGX_HTTP_KV_WATCH_LOOK);
    }

    if (ngx_exiting) {

        /* the client is to connect again, to a worker that stays */

        ngx_http_kv_watch_end(watch);
    }

    return NGX_DONE;
}


/* It ends; also the request's cleanup. */

static void
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


/* It may get what the worker reads, if it has come to where that is. */

static void
ngx_http_kv_watch_go_live(ngx_http_kv_watch_t *watch)
{
    ngx_http_kv_watches_t  *watches;

    watches = watch->ctx->zone->watches;

    if (watch->pos >= watches->pos
        && watch->pending < NGX_HTTP_KV_WATCH_PENDING)
    {
        if (ngx_http_kv_watch_index_add(watches, watch) == NGX_OK) {
            watch->live = 1;

        } else {
            watch->failed = 1;
            ngx_http_kv_watch_dirty(watch);
        }
    }
}


/* Its next record is at `pos`. */

static void
ngx_http_kv_watch_fall_behind(ngx_http_kv_watch_t *watch, uint64_t pos)
{
    ngx_http_kv_watch_index_remove(watch->ctx->zone->watches, watch);

    watch->live = 0;
    watch->pos = pos;
}


/* A step of one that is not live. */

static void
ngx_http_kv_watch_take(void *data)
{
    ngx_http_kv_watch_t *watch = data;

    ngx_int_t  rc;

    if (watch->ctx->zone->draining) {
        ngx_http_kv_watch_end(watch);
        return;
    }

    rc = ngx_http_kv_watch_catch_up(watch);

    if (rc == NGX_DECLINED) {
        ngx_http_kv_watch_cut(watch, "has been overtaken by the feed");
        return;
    }

    if ((watch->out || watch->failed)
        && ngx_http_kv_watch_send(watch) != NGX_OK)
    {
        return;
    }

    if (rc == NGX_AGAIN) {
        ngx_http_kv_step_next(&watch->step);

    } else if (rc == NGX_BUSY) {
        ngx_http_kv_step_later(&watch->step);
    }
}


/*
 * Reads the feed.  NGX_OK: it is live, or its client is to take some text
 * first; NGX_AGAIN: there is more to read; NGX_BUSY: the zone cannot be read
 * now; NGX_DECLINED: the feed has gone on without it.
 */

static ngx_int_t
ngx_http_kv_watch_catch_up(ngx_http_kv_watch_t *watch)
{
    kv_rc_t                 rc;
    ngx_uint_t              n;
    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    zone = watch->ctx->zone;
    watches = zone->watches;

    for (n = 0; n < NGX_HTTP_KV_WATCH_RECORDS; n++) {

        if (watch->failed || watch->pending >= NGX_HTTP_KV_WATCH_PENDING) {
            return NGX_OK;
        }

        ngx_http_kv_watch_go_live(watch);

        if (watch->live) {
            return NGX_OK;
        }

        rc = kv_store_feed_read(zone->store, watch->pos, &watches->rec);

        if (rc != KV_OK) {
            return rc == KV_DECLINED ? NGX_DECLINED : NGX_BUSY;
        }

        if (ngx_http_kv_watch_wants(watch, &watches->rec)) {
            n += ngx_http_kv_watch_add(watches, watch) / 256;
        }

        watch->pos = watches->rec.next;
    }

    return NGX_AGAIN;
}


void
ngx_http_kv_watch_wake(ngx_http_kv_zone_t *zone)
{
    if (zone->watching && !zone->watches->reading) {
        ngx_http_kv_watch_read(zone->watches);
    }
}


/* Reads what is new for those that are live, and sends it. */

static void
ngx_http_kv_watch_read(ngx_http_kv_watches_t *watches)
{
    size_t       bytes;
    kv_rc_t      rc;
    ngx_uint_t   n, more;

    watches->reading = 1;
    rc = KV_NOT_FOUND;
    bytes = 0;

    /* what was added before is to be sent first */

    more = ngx_http_kv_watch_send_dirty(watches);

    for (n = 0; !more; n++) {

        if (n == NGX_HTTP_KV_WATCH_RECORDS
            || bytes >= NGX_HTTP_KV_WATCH_BYTES)
        {
            more = 1;
            break;
        }

        rc = ngx_http_kv_watch_read_next(watches, &bytes);

        if (rc != KV_OK) {
            break;
        }
    }

    kv_store_feed_seen(watches->zone->store, watches->pos);

    if (rc == KV_DECLINED) {
        ngx_http_kv_watch_lost(watches);
    }

    if (ngx_http_kv_watch_send_dirty(watches) || more) {
        ngx_post_event(&watches->more, &ngx_posted_next_events);
    }

    watches->reading = 0;

    if (rc == KV_ERROR) {
        ngx_http_kv_watch_finish(watches->zone);
    }
}


static kv_rc_t
ngx_http_kv_watch_read_next(ngx_http_kv_watches_t *watches, size_t *bytes)
{
    kv_rc_t   rc;
    uint64_t  pos;

    pos = watches->pos;

    rc = kv_store_feed_read(watches->zone->store, pos, &watches->rec);

    if (rc != KV_OK) {
        return rc;
    }

    watches->pos = watches->rec.next;

    *bytes += watches->rec.kind == KV_FEED_CLEAR
              ? ngx_http_kv_watch_deliver_all(watches, pos)
              : ngx_http_kv_watch_deliver(watches, pos);

    return KV_OK;
}


/* Gives the record at `pos` to all whose name its key begins with. */

static size_t
ngx_http_kv_watch_deliver(ngx_http_kv_watches_t *watches, uint64_t pos)
{
    size_t                    bytes, n;
    ngx_str_t                 key;
    ngx_queue_t              *q, *next, *end;
    ngx_http_kv_watch_set_t  *set;

    key.data = (u_char *) watches->rec.key;
    key.len = watches->rec.key_len;
    bytes = 0;

    for ( ;; ) {
        set = ngx_http_kv_watch_index_find(watches, &key);

        if (set == NULL) {
            return bytes;
        }

        /* the set goes with the last watch that leaves it */

        n = set->name.len;
        end = ngx_queue_sentinel(&set->watchers);

        for (q = ngx_queue_head(&set->watchers); q != end; q = next) {
            next = ngx_queue_next(q);
            bytes += ngx_http_kv_watch_give(watches,
                                            ngx_http_kv_watch_of(q, in_set),
                                            pos);
        }

        if (n == 0) {
            return bytes;
        }

        key.len = n - 1;
    }
}


static size_t
ngx_http_kv_watch_deliver_all(ngx_http_kv_watches_t *watches, uint64_t pos)
{
    size_t                bytes;
    ngx_queue_t          *q;
    ngx_http_kv_watch_t  *watch;

    bytes = 0;

    for (q = ngx_queue_head(&watches->all);
         q != ngx_queue_sentinel(&watches->all);
         q = ngx_queue_next(q))
    {
        watch = ngx_http_kv_watch_of(q, all);

        if (watch->live) {
            bytes += ngx_http_kv_watch_give(watches, watch, pos);
        }
    }

    return bytes;
}


/* Gives a watch that is live the record at `pos`, if it is its own. */

static size_t
ngx_http_kv_watch_give(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch, uint64_t pos)
{
    if (!ngx_http_kv_watch_wants(watch, &watches->rec)) {
        return 0;
    }

    if (watch->pending >= NGX_HTTP_KV_WATCH_PENDING) {
        ngx_http_kv_watch_fall_behind(watch, pos);
        return 0;
    }

    return ngx_http_kv_watch_add(watches, watch);
}


/*
 * The worker was stopped, and the feed has gone on: what those that are live
 * have missed is not known.
 */

static void
ngx_http_kv_watch_lost(ngx_http_kv_watches_t *watches)
{
    ngx_queue_t          *q, lost;
    ngx_http_kv_watch_t  *watch;

    ngx_log_error(NGX_LOG_WARN, watches->zone->log, 0,
                  "kv zone \"%V\": this worker was overtaken by the feed, its "
                  "%ui watches are cut; if it was not stopped, make feed= "
                  "larger", &watches->zone->name, watches->zone->watching);

    watches->pos = kv_store_feed_end(watches->zone->store);

    ngx_queue_init(&lost);

    if (!ngx_queue_empty(&watches->all)) {
        ngx_queue_add(&lost, &watches->all);
        ngx_queue_init(&watches->all);
    }

    while (!ngx_queue_empty(&lost)) {
        q = ngx_queue_head(&lost);
        watch = ngx_http_kv_watch_of(q, all);

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&watches->all, q);

        if (watch->live) {
            ngx_http_kv_watch_cut(watch, "has been overtaken by the feed");
        }
    }
}


/* Adds the event of watches->rec to a stream.  Returns its bytes. */

static size_t
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


/* Adds text to a stream. */

static void
ngx_http_kv_watch_put(ngx_http_kv_watch_t *watch, const u_char *p, size_t n)
{
    size_t      size;
    ngx_buf_t  *b;

    while (n && !watch->failed) {
        b = ngx_http_kv_watch_buffer(watch);

        if (b == NULL) {
            watch->failed = 1;
            return;
        }

        size = ngx_min(n, (size_t) (b->end - b->last));

        b->last = ngx_cpymem(b->last, p, size);
        p += size;
        n -= size;
        watch->pending += size;
    }
}


/* One with space; NULL: no memory. */

static ngx_buf_t *
ngx_http_kv_watch_buffer(ngx_http_kv_watch_t *watch)
{
    size_t        size;
    ngx_buf_t    *b;
    ngx_pool_t   *pool;
    ngx_chain_t  *cl;

    if (watch->last && watch->last->buf->last < watch->last->buf->end) {
        return watch->last->buf;
    }

    pool = watch->ctx->request->pool;

    cl = ngx_chain_get_free_buf(pool, &watch->free);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;

    if (b->start == NULL) {
        size = watch->buffers ? NGX_HTTP_KV_WATCH_BUFFER
                              : NGX_HTTP_KV_WATCH_FIRST;

        b->start = ngx_palloc(pool, size);
        if (b->start == NULL) {
            return NULL;
        }

        watch->buffers++;

        b->end = b->start + size;
        b->tag = (ngx_buf_tag_t) &ngx_http_kv_module;
        b->temporary = 1;
    }

    b->pos = b->start;
    b->last = b->start;
    b->flush = 0;

    cl->next = NULL;

    if (watch->last) {
        watch->last->next = cl;

    } else {
        watch->out = cl;
    }

    watch->last = cl;

    return b;
}


/* The id up to which the stream has all, without an event. */

static void
ngx_http_kv_watch_id(ngx_http_kv_watch_t *watch, const char *comment)
{
    char    tag[KV_VERSION_TAG];
    u_char  text[KV_VERSION_TAG + 64], *p;
    size_t  n;

    n = kv_version_tag(&watch->after, tag) - 2;
    p = ngx_sprintf(text, ": %s\nretry: %d\nid: %*s\n\n", comment,
                    NGX_HTTP_KV_WATCH_RETRY, n, tag + 1);

    ngx_http_kv_watch_put(watch, text, p - text);
    ngx_http_kv_watch_dirty(watch);
}


/* It has text to send, or is to be cut. */

static void
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


/* Sends what some streams have.  Whether others have more. */

static ngx_uint_t
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


/* Gives nginx what there is.  NGX_OK, or NGX_DONE: the request has ended. */

static ngx_int_t
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
        ngx_http_kv_watch_cut(watch, "finds no memory");
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

    if (watch->busy && ngx_http_kv_watch_wait(watch) != NGX_OK) {
        return NGX_DONE;
    }

    if (!watch->live && watch->pending < NGX_HTTP_KV_WATCH_PENDING / 2) {
        ngx_http_kv_step_next(&watch->step);
    }

    return NGX_OK;
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


static void
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


/* Ends a stream, at once: its client connects again. */

static void
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


/* Ends it so that its client sees that something is missing. */

static void
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
ngx_http_kv_watch_finish(ngx_http_kv_zone_t *zone)
{
    ngx_queue_t  *q;

    while (zone->watching) {
        q = ngx_queue_head(&zone->watches->all);
        ngx_http_kv_watch_end(ngx_http_kv_watch_of(q, all));
    }
}


static void
ngx_http_kv_watch_more(ngx_event_t *ev)
{
    ngx_http_kv_watches_t *watches = ev->data;

    ngx_http_kv_watch_wake(watches->zone);
}


/*
 * Sends signs of life, with the newest id: who watches what never changes has
 * one that is still in the feed when it connects again.
 */

static void
ngx_http_kv_watch_beat(ngx_event_t *ev)
{
    ngx_uint_t              more;
    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    watches = ev->data;
    zone = watches->zone;

    /* the committer may have died, and no other process wait for it */

    zone->woken(zone);

    more = zone->watching ? ngx_http_kv_watch_beats(watches) : 0;

    if (zone->watching) {
        ngx_add_timer(ev, more ? 1 : NGX_HTTP_KV_WATCH_LOOK);
    }
}


/* Whether there are more. */

static ngx_uint_t
ngx_http_kv_watch_beats(ngx_http_kv_watches_t *watches)
{
    uint64_t              now;
    ngx_uint_t            n;
    ngx_queue_t          *q;
    kv_version_t          version;
    ngx_http_kv_watch_t  *watch;

    version = kv_store_state_version(watches->zone->store);
    now = kv_now_ns();

    for (n = 0; n < NGX_HTTP_KV_WATCH_SENDS; n++) {

        if (ngx_queue_empty(&watches->all)) {
            return 0;
        }

        q = ngx_queue_head(&watches->all);
        watch = ngx_http_kv_watch_of(q, all);

        if (now - watch->sent < (uint64_t) NGX_HTTP_KV_WATCH_BEAT * 1000000) {
            return 0;
        }

        /* after the version: the feed that was read must have all up to it */

        if (watches->pos != kv_store_feed_end(watches->zone->store)) {
            return 1;
        }

        watch->sent = now;
        ngx_queue_remove(q);
        ngx_queue_insert_tail(&watches->all, q);

        if (!watch->live || watch->busy || watch->out) {
            continue;
        }

        watch->after = version;

        ngx_http_kv_watch_id(watch, "alive");
        (void) ngx_http_kv_watch_send(watch);
    }

    return 1;
}
