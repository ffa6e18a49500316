
/*
 * Signs of life, with the newest id: who watches what never changes has one
 * that is still in the feed when it connects again.
 */


#include "http/ngx_http_kv_watch_private.h"


/* a stream that is silent for this time gets one; and how often that is looked
   at; milliseconds */
#define NGX_HTTP_KV_WATCH_BEAT     15000
#define NGX_HTTP_KV_WATCH_LOOK     1000


static ngx_uint_t ngx_http_kv_watch_beats(ngx_http_kv_watches_t *watches);


void
ngx_http_kv_watch_beat_start(ngx_http_kv_watches_t *watches)
{
    if (!watches->beat.timer_set) {
        ngx_add_timer(&watches->beat, NGX_HTTP_KV_WATCH_LOOK);
    }
}



void
ngx_http_kv_watch_beat(ngx_event_t *ev)
{
    ngx_uint_t              more;
    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    watches = ev->data;
    zone = watches->zone;

    /* the committer may have died, and no other process wait for it */

    zone->woken(zone);

    if (!kv_store_leads(zone->store)) {

        /* another node has what changes from now on: clients ask that one */

        ngx_http_kv_watch_end_all(watches);
        return;
    }

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
