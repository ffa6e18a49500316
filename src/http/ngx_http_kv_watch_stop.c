
/*
 * A watch leaves all lists.
 */


#include "http/ngx_http_kv_watch_private.h"


void
ngx_http_kv_watch_stop(void *data)
{
    ngx_http_kv_watch_t *watch = data;

    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_watches_t  *watches;

    ngx_http_kv_watch_unhold(watch);

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

    if (watch->slow) {
        watch->slow = 0;
        ngx_queue_remove(&watch->by_age);
    }

    watches->memory -= watch->memory;
    watch->memory = 0;

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


void
ngx_http_kv_watch_unhold(ngx_http_kv_watch_t *watch)
{
    if (watch->held) {
        watch->held = 0;
        ngx_queue_remove(&watch->all);
        ngx_http_kv_awaiting--;
    }
}
