
/*
 * The directive kv_zone, and what other directives have in common.
 */


#include "http/ngx_http_kv_conf_private.h"


static ngx_http_kv_zone_t *ngx_http_kv_create_zone_conf(ngx_conf_t *cf);
static void ngx_http_kv_log(void *ctx, kv_log_level_t level,
    const char *text);
static bool ngx_http_kv_stopping(void);


void *
ngx_http_kv_create_main_conf(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t       *cln, *refused;
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_main_conf_t));
    if (kmcf == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->cycle->pool, 0);
    refused = ngx_pool_cleanup_add(cf->cycle->pool, 0);

    if (cln == NULL || refused == NULL
        || ngx_array_init(&kmcf->zones, cf->pool, 2,
                          sizeof(ngx_http_kv_zone_t *))
           != NGX_OK
        || ngx_array_init(&kmcf->locations, cf->pool, 8,
                          sizeof(ngx_http_kv_location_t))
           != NGX_OK
        || ngx_array_init(&kmcf->gets, cf->pool, 4, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&kmcf->incrs, cf->pool, 2, sizeof(void *)) != NGX_OK)
    {
        return NULL;
    }

    kmcf->wakes.zones = &kmcf->zones;

    cln->handler = ngx_http_kv_wakes_cleanup;
    cln->data = &kmcf->wakes;

    refused->handler = ngx_http_kv_cleanup_conf;
    refused->data = kmcf;

    return kmcf;
}


char *
ngx_http_kv_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_main_conf_t *kmcf = conf;

    ngx_http_kv_zone_t    *zone, **p;
    ngx_http_kv_params_t   params;

    (void) cmd;

    zone = ngx_http_kv_create_zone_conf(cf);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    params.zone = zone;
    params.size = 0;
    ngx_str_set(&params.thread_pool, "default");

    if (ngx_http_kv_params_read(cf, &params) != NGX_CONF_OK
        || ngx_http_kv_check_params(cf, &params) != NGX_CONF_OK
        || ngx_http_kv_check_peers(cf, zone) != NGX_CONF_OK
        || ngx_http_kv_check_directories(cf, zone) != NGX_CONF_OK
        || ngx_http_kv_check_unique(cf, kmcf, zone) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    zone->wakes = &kmcf->wakes;

    zone->thread_pool = ngx_thread_pool_add(cf, &params.thread_pool);
    if (zone->thread_pool == NULL) {
        return NGX_CONF_ERROR;
    }

    /*
     * The tag tells zones of the same name but another use apart, and must
     * outlive this code: a reload may load the module anew, at another
     * address, and must find the zone again.
     */

    zone->shm_zone = ngx_shared_memory_add(cf, &zone->name,
                                           params.size + zone->conf.feed,
                                           &ngx_http_core_module);
    if (zone->shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->shm_zone->init = ngx_http_kv_init_zone;
    zone->shm_zone->data = zone;

    p = ngx_array_push(&kmcf->zones);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = zone;

    return NGX_CONF_OK;
}


static ngx_http_kv_zone_t *
ngx_http_kv_create_zone_conf(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t  *cln;
    ngx_http_kv_zone_t  *zone;

    cln = ngx_pool_cleanup_add(cf->cycle->pool, 0);
    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_zone_t));

    if (cln == NULL || zone == NULL) {
        return NULL;
    }

    zone->cycle = cf->cycle;
    zone->log = cf->log;
    kv_store_dir_init(&zone->dir);
    kv_store_dir_init(&zone->archive_dir);

    zone->conf.sync = KV_SYNC_ALWAYS;
    zone->conf.batch = NGX_HTTP_KV_BATCH;
    zone->conf.segment = NGX_HTTP_KV_SEGMENT;
    zone->conf.snapshot = NGX_HTTP_KV_SNAPSHOT;
    zone->conf.max_value = NGX_HTTP_KV_MAX_VALUE;
    zone->conf.archive_fd = -1;
    zone->conf.archive_hold = NGX_HTTP_KV_ARCHIVE_HOLD;
    zone->conf.log = ngx_http_kv_log;
    zone->conf.log_ctx = zone;
    zone->conf.stopping = ngx_http_kv_stopping;

    cln->handler = ngx_http_kv_cleanup_zone;
    cln->data = zone;

    return zone;
}


static void
ngx_http_kv_log(void *ctx, kv_log_level_t level, const char *text)
{
    ngx_http_kv_zone_t *zone = ctx;

    ngx_log_error((ngx_uint_t) level, zone->log, 0, "%s", text);
}


static bool
ngx_http_kv_stopping(void)
{
    return ngx_terminate || ngx_quit || ngx_exiting;
}


ngx_int_t
ngx_http_kv_conf_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_complex_value_t *value)
{
    ngx_http_compile_complex_value_t  ccv;

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = value;

    return ngx_http_compile_complex_value(&ccv);
}
