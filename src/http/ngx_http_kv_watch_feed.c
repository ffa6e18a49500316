
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
 *
 * One record may be that of thousands of watches, with a value.  When enough
 * was copied in a round, the worker reads the record once more in the next one,
 * and gives it to those that have not got it.
 */


#include "http/ngx_http_kv_watch_private.h"


/* in a round of the event loop, for those that are live: bytes of text that is
   copied, and as how many an event counts at least; nanoseconds; for one that
   is not live: records in a step */
#define NGX_HTTP_KV_WATCH_BYTES    1048576
#define NGX_HTTP_KV_WATCH_LEAST    1024
#define NGX_HTTP_KV_WATCH_BUDGET   1000000
#define NGX_HTTP_KV_WATCH_RECORDS  512


static void ngx_http_kv_watch_fall_behind(ngx_http_kv_watch_t *watch,
    uint64_t pos);
static void ngx_http_kv_watch_step(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_catch_up(ngx_http_kv_watch_t *watch);
static void ngx_http_kv_watch_read(ngx_http_kv_watches_t *watches);
static kv_rc_t ngx_http_kv_watch_read_next(ngx_http_kv_watches_t *watches);
static void ngx_http_kv_watch_deliver(ngx_http_kv_watches_t *watches,
    uint64_t pos);
static void ngx_http_kv_watch_deliver_all(ngx_http_kv_watches_t *watches,
    uint64_t pos);
static void ngx_http_kv_watch_give(ngx_http_kv_watches_t *watches,
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
    kv_rc_t     rc;
    uint64_t    begun;
    ngx_uint_t  more;

    watches->reading = 1;
    watches->bytes = 0;
    begun = kv_now_ns();
    rc = KV_NOT_FOUND;

    /* what was added before is to be sent first */

    more = ngx_http_kv_watch_send_dirty(watches);

    while (!more) {
        rc = ngx_http_kv_watch_read_next(watches);

        if (rc != KV_OK) {
            break;
        }

        more = watches->bytes >= NGX_HTTP_KV_WATCH_BYTES
               || kv_now_ns() - begun >= NGX_HTTP_KV_WATCH_BUDGET;
    }

    kv_store_feed_seen(watches->zone->store, watches->pos);

    if (rc == KV_DECLINED) {
        ngx_http_kv_watch_lost(watches);
    }

    if (ngx_http_kv_watch_send_dirty(watches) || more) {
        ngx_post_event(&watches->more, &ngx_posted_next_events);
    }

    ngx_http_kv_watch_limit(watches);

    watches->reading = 0;

    if (rc == KV_ERROR) {
        ngx_http_kv_watch_end_all(watches);
    }
}


static kv_rc_t
ngx_http_kv_watch_read_next(ngx_http_kv_watches_t *watches)
{
    kv_rc_t   rc;
    uint64_t  pos;

    pos = watches->pos;

    rc = kv_store_feed_read(watches->zone->store, pos, &watches->rec);

    if (rc != KV_OK) {
        return rc;
    }

    watches->full = 0;

    if (watches->rec.kind == KV_FEED_CLEAR) {
        ngx_http_kv_watch_deliver_all(watches, pos);

    } else {
        ngx_http_kv_watch_deliver(watches, pos);
    }

    if (!watches->full) {
        watches->pos = watches->rec.next;
    }

    return KV_OK;
}


/* Gives the record at `pos` to all whose name its key begins with. */

static void
ngx_http_kv_watch_deliver(ngx_http_kv_watches_t *watches, uint64_t pos)
{
    size_t                    n;
    ngx_str_t                 key;
    ngx_queue_t              *q, *next, *end;
    ngx_http_kv_watch_set_t  *set;

    key.data = (u_char *) watches->rec.key;
    key.len = watches->rec.key_len;

    for ( ;; ) {
        set = ngx_http_kv_watch_index_find(watches, &key);

        if (set == NULL) {
            return;
        }

        /* the set goes with the last watch that leaves it */

        n = set->name.len;
        end = ngx_queue_sentinel(&set->watchers);

        for (q = ngx_queue_head(&set->watchers); q != end; q = next) {
            next = ngx_queue_next(q);
            ngx_http_kv_watch_give(watches, ngx_http_kv_watch_of(q, in_set),
                                   pos);
        }

        if (n == 0) {
            return;
        }

        key.len = n - 1;
    }
}


static void
ngx_http_kv_watch_deliver_all(ngx_http_kv_watches_t *watches, uint64_t pos)
{
    ngx_queue_t          *q;
    ngx_http_kv_watch_t  *watch;

    for (q = ngx_queue_head(&watches->all);
         q != ngx_queue_sentinel(&watches->all);
         q = ngx_queue_next(q))
    {
        watch = ngx_http_kv_watch_of(q, all);

        if (watch->live) {
            ngx_http_kv_watch_give(watches, watch, pos);
        }
    }
}


/* Gives a watch that is live the record at `pos`, if it is its own. */

static void
ngx_http_kv_watch_give(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch, uint64_t pos)
{
    size_t  n;

    if (!ngx_http_kv_watch_wants(watch, &watches->rec)) {
        return;
    }

    if (watch->pending >= NGX_HTTP_KV_WATCH_PENDING) {
        ngx_http_kv_watch_fall_behind(watch, pos);
        return;
    }

    if (watches->bytes >= NGX_HTTP_KV_WATCH_BYTES) {
        watches->full = 1;
        return;
    }

    n = ngx_http_kv_watch_add(watches, watch);

    watches->bytes += ngx_max(n, NGX_HTTP_KV_WATCH_LEAST);
}


/*
 * The worker was stopped, and the feed has gone on: what those that are live
 * have missed is not known.
 */

static void
ngx_http_kv_watch_lost(ngx_http_kv_watches_t *watches)
{
    ngx_queue_t              *q;
    ngx_http_kv_watch_set_t  *set;

    ngx_log_error(NGX_LOG_WARN, watches->zone->log, 0,
                  "kv zone \"%V\": this worker was overtaken by the feed, its "
                  "%ui watches are cut; if it was not stopped, make feed= "
                  "larger", &watches->zone->name, watches->zone->watching);

    watches->pos = kv_store_feed_end(watches->zone->store);

    /* those that are live are in the sets, which go with their last one */

    while (watches->sets.root != &watches->sentinel) {
        set = (ngx_http_kv_watch_set_t *) watches->sets.root;
        q = ngx_queue_head(&set->watchers);

        ngx_http_kv_watch_cut(ngx_http_kv_watch_of(q, in_set),
                              "has been overtaken by the feed");
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

    ngx_http_kv_watches_t  *watches;

    watches = watch->ctx->zone->watches;

    ngx_http_kv_watch_step(watch);
    ngx_http_kv_watch_limit(watches);
}


static void
ngx_http_kv_watch_step(ngx_http_kv_watch_t *watch)
{
    ngx_int_t  rc;

    if (watch->ctx->zone->draining || ngx_exiting) {

        /* the client is to connect again, to a worker that stays */

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
