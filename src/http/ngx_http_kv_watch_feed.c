
/*
 * Who gets what of the feed (feed/kv_feed.h).
 *
 * The worker reads it once for all watches that are live, and finds those of
 * each record by its key; its text is made once for all of them.  So a watch
 * costs nothing while other keys change.
 *
 * A watch that begins at an older version, or whose client does not take what
 * it is sent, is not live: it reads the feed by itself, in steps
 * (ngx_http_kv_steps.c), until it has come to where the worker is.  What a
 * client has not taken is bounded so, by NGX_HTTP_KV_WATCH_PENDING and an
 * event; the rest is in the feed.  One that is overtaken there is cut off.
 */


#include "http/ngx_http_kv_watch_private.h"


/* in a round of the event loop: records that are read, bytes of text that is
   copied for it */
#define NGX_HTTP_KV_WATCH_RECORDS  512
#define NGX_HTTP_KV_WATCH_BYTES    1048576


static void ngx_http_kv_watch_fall_behind(ngx_http_kv_watch_t *watch,
    uint64_t pos);
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


void
ngx_http_kv_watch_wake(ngx_http_kv_zone_t *zone)
{
    if (zone->watching && !zone->watches->reading) {
        ngx_http_kv_watch_read(zone->watches);
    }
}


void
ngx_http_kv_watch_more(ngx_event_t *ev)
{
    ngx_http_kv_watches_t *watches = ev->data;

    ngx_http_kv_watch_wake(watches->zone);
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


void
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


void
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
