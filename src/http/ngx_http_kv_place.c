
/*
 * A worker's place in a zone: taking it, giving it up, and the timers that the
 * zone needs while the worker has it; how often the worker logs the same, and
 * what of a client's text.
 */


#include "http/ngx_http_kv.h"


/* how often a worker that is not woken polls for results, milliseconds */
#define NGX_HTTP_KV_POLLS  5


static uint64_t ngx_http_kv_left(ngx_event_t *ev);


ngx_uint_t
ngx_http_kv_may_log(ngx_http_kv_zone_t *zone, ngx_http_kv_log_t what)
{
    if (zone->logged[what] == ngx_time()) {
        return 0;
    }

    zone->logged[what] = ngx_time();

    return 1;
}


size_t
ngx_http_kv_shown(u_char *shown, const ngx_str_t *text)
{
    u_char  c;
    size_t  i, n;

    n = ngx_min(text->len, NGX_HTTP_KV_SHOWN);

    for (i = 0; i < n; i++) {
        c = text->data[i];
        shown[i] = c < ' ' || c > '~' ? '?' : c;
    }

    return n;
}


ngx_int_t
ngx_http_kv_entered(ngx_http_kv_zone_t *zone)
{
    if (kv_store_entered(zone->store)) {
        return NGX_OK;
    }

    if (kv_store_enter(zone->store) != KV_OK) {
        if (ngx_http_kv_may_log(zone, NGX_HTTP_KV_LOG_PLACE)) {
            ngx_log_error(NGX_LOG_ERR, zone->log, 0,
                          "kv zone \"%V\": all %uD places for workers are "
                          "taken, by workers of older configurations that "
                          "still have requests", &zone->name,
                          kv_store_workers(zone->store));
        }

        return NGX_DECLINED;
    }

    ngx_http_kv_set_timers(zone);
    ngx_http_kv_rest(zone);

    return NGX_OK;
}


void
ngx_http_kv_rest(ngx_http_kv_zone_t *zone)
{
    if (ngx_exiting && kv_store_entered(zone->store) && !zone->draining) {
        ngx_post_event(&zone->rest, &ngx_posted_events);
    }
}


/*
 * While an operation waits, its worker must notice if the committer dies; and
 * the timer keeps a worker that was asked to quit alive until all is answered.
 */

void
ngx_http_kv_set_timers(ngx_http_kv_zone_t *zone)
{
    uint64_t    timeout, left;
    ngx_uint_t  sure;

    if (!kv_store_entered(zone->store)) {
        return;
    }

    sure = ngx_http_kv_wakes_sure(zone->wakes);

    if (!ngx_queue_empty(&zone->waiting) && !zone->watch.timer_set) {
        ngx_add_timer(&zone->watch, sure ? KV_STORE_WATCH : NGX_HTTP_KV_POLLS);
    }

    left = zone->timeout.timer_set ? ngx_http_kv_left(&zone->timeout)
                                   : KV_TIMEOUT_NEVER;

    /* one that will be over soon need not be made sooner */

    if (left <= KV_STORE_QUIET) {
        return;
    }

    timeout = kv_store_next_timeout(zone->store);

    if (!sure) {
        timeout = ngx_min(timeout, KV_STORE_WATCH);
    }

    if (timeout >= left) {
        return;
    }

    if (zone->timeout.timer_set) {

        /* nginx would leave a timer as it is that is nearly the same */

        ngx_del_timer(&zone->timeout);
    }

    ngx_add_timer(&zone->timeout, (ngx_msec_t) timeout);
}


/* Milliseconds until a timer that is set is over. */

static uint64_t
ngx_http_kv_left(ngx_event_t *ev)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (ev->timer.key - ngx_current_msec);

    return left > 0 ? (uint64_t) left : 0;
}


void
ngx_http_kv_beat(ngx_http_kv_zone_t *zone)
{
    if (!zone->beat.timer_set && !zone->draining
        && !ngx_queue_empty(&zone->active))
    {
        ngx_add_timer(&zone->beat, KV_STORE_BEAT);
    }
}
