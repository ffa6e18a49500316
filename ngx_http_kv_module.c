
/*
 * ngx_http_kv_module: a durable key-value store inside nginx.
 *
 * Here are the table of directives and the functions that nginx calls.  They
 * call the files that src/http/ngx_http_kv.h lists, and these call the store,
 * src/store/kv_store.h.
 */


#include "http/ngx_http_kv.h"


static ngx_int_t ngx_http_kv_log_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_kv_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_kv_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_kv_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_kv_init_process(ngx_cycle_t *cycle);
static void ngx_http_kv_exit_first(ngx_cycle_t *cycle);
static void ngx_http_kv_exit_pools(ngx_cycle_t *cycle);
static void ngx_http_kv_exit_process(ngx_cycle_t *cycle);
static void ngx_http_kv_exit_master(ngx_cycle_t *cycle);
static ngx_http_kv_zone_t **ngx_http_kv_zones(ngx_cycle_t *cycle,
    ngx_uint_t *n);


static ngx_command_t  ngx_http_kv_commands[] = {

    { ngx_string("kv_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_kv_conf_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv_get"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_kv_conf_get,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_KV,
      NULL },

    { ngx_string("kv_key_chars"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_kv_conf_key_chars,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv_clear"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_CLEAR,
      NULL },

    { ngx_string("kv_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_HEALTH,
      NULL },

    { ngx_string("kv_stats"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_STATS,
      NULL },

    { ngx_string("kv_bulk"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_BULK,
      NULL },

    { ngx_string("kv_keys"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_KEYS,
      NULL },

    { ngx_string("kv_batch"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1234,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_BATCH,
      NULL },

    { ngx_string("kv_backup"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_BACKUP,
      NULL },

    { ngx_string("kv_watch"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_WATCH,
      NULL },

    { ngx_string("kv_cluster"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_kv_conf_route,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_HTTP_KV_ROUTE_CLUSTER,
      NULL },

    { ngx_string("kv_dashboard"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_kv_conf_dashboard,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_kv_conf_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv_max_value"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_kv_conf_max_value,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv_read_only"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_kv_loc_conf_t, read_only),
      NULL },

    { ngx_string("kv_require_match"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_kv_loc_conf_t, require_match),
      NULL },

    { ngx_string("kv_intercept_errors"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_kv_loc_conf_t, intercept_errors),
      NULL },

    { ngx_string("kv_post"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_kv_loc_conf_t, post),
      NULL },

    { ngx_string("kv_types"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_kv_conf_types,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("kv_incr"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_kv_conf_incr,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_kv_module_ctx = {
    ngx_http_kv_preconfiguration,          /* preconfiguration */
    ngx_http_kv_postconfiguration,         /* postconfiguration */

    ngx_http_kv_create_main_conf,          /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_kv_create_loc_conf,           /* create location configuration */
    ngx_http_kv_merge_loc_conf             /* merge location configuration */
};


ngx_module_t  ngx_http_kv_module = {
    NGX_MODULE_V1,
    &ngx_http_kv_module_ctx,               /* module context */
    ngx_http_kv_commands,                  /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_kv_init_module,               /* init module */
    ngx_http_kv_init_process,              /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_kv_exit_process,              /* exit process */
    ngx_http_kv_exit_master,               /* exit master */
    NGX_MODULE_V1_PADDING
};


/* a worker's own: see ngx_http_kv_exit_first() */

extern ngx_module_t  ngx_thread_pool_module;

static ngx_module_t  ngx_http_kv_pools_module;


static ngx_int_t
ngx_http_kv_log_handler(ngx_http_request_t *r)
{
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    if (ctx) {
        ngx_http_kv_stats_count(r, ctx);
    }

    ngx_http_kv_incr_log(r);

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_preconfiguration(ngx_conf_t *cf)
{
    if (ngx_http_kv_add_log_variables(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_kv_add_leader_variable(cf);
}


static ngx_int_t
ngx_http_kv_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_kv_log_handler;

    ngx_http_kv_filter_init();

    if (ngx_http_kv_get_init(cf) != NGX_OK
        || ngx_http_kv_incr_init(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_kv_dashboard_init(cf);
}


static ngx_int_t
ngx_http_kv_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                i, n;
    ngx_http_kv_zone_t      **zone;
    ngx_http_kv_main_conf_t  *kmcf;

    if (ngx_test_config) {
        return NGX_OK;
    }

    kmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_kv_module);

    if (kmcf) {
        kmcf->in_force = 1;

        if (ngx_http_kv_host_init(cycle, kmcf) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    zone = ngx_http_kv_zones(cycle, &n);

    if (n && ngx_http_kv_wakes_create(zone[0]->wakes, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        ngx_http_kv_take_descriptors(zone[i]);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t            i, n;
    ngx_http_kv_zone_t  **zone;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    zone = ngx_http_kv_zones(cycle, &n);

    if (n) {
        ngx_http_kv_check_threads(cycle, zone, n);
        ngx_http_kv_wakes_enter(zone[0]->wakes, cycle, ngx_http_kv_woken,
                                ngx_http_kv_quit);
    }

    for (i = 0; i < n; i++) {
        if (ngx_http_kv_enter(zone[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (n) {
        ngx_http_kv_exit_first(cycle);
    }

    return NGX_OK;
}


/*
 * The exit hook of nginx's thread pools runs before ours, and waits for their
 * threads, so for every disk that hangs.  We put a hook in its place that
 * answers requests first.  The list of modules is this worker's own.
 */

static void
ngx_http_kv_exit_first(ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    for (i = 0; cycle->modules[i]; i++) {

        if (cycle->modules[i] == &ngx_thread_pool_module) {
            ngx_http_kv_pools_module = ngx_thread_pool_module;
            ngx_http_kv_pools_module.exit_process = ngx_http_kv_exit_pools;
            cycle->modules[i] = &ngx_http_kv_pools_module;
            return;
        }
    }
}


static void
ngx_http_kv_exit_pools(ngx_cycle_t *cycle)
{
    ngx_uint_t            n;
    ngx_http_kv_zone_t  **zone;

    zone = ngx_http_kv_zones(cycle, &n);
    ngx_http_kv_drain(zone, n);

    ngx_thread_pool_module.exit_process(cycle);
}


static void
ngx_http_kv_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t            i, n;
    ngx_http_kv_zone_t  **zone;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    zone = ngx_http_kv_zones(cycle, &n);

    for (i = 0; i < n; i++) {
        ngx_http_kv_leave(zone[i]);
    }

    if (n) {
        ngx_http_kv_wakes_leave(zone[0]->wakes);
    }
}


static void
ngx_http_kv_exit_master(ngx_cycle_t *cycle)
{
    ngx_uint_t            i, n;
    ngx_http_kv_zone_t  **zone;

    zone = ngx_http_kv_zones(cycle, &n);

    for (i = 0; i < n; i++) {
        if (zone[i]->store) {
            ngx_http_kv_stats_log(zone[i], cycle->log);
            ngx_http_kv_close(zone[i]);
        }
    }
}


static ngx_http_kv_zone_t **
ngx_http_kv_zones(ngx_cycle_t *cycle, ngx_uint_t *n)
{
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_kv_module);

    if (kmcf == NULL) {
        *n = 0;
        return NULL;
    }

    *n = kmcf->zones.nelts;

    return kmcf->zones.elts;
}
