
/*
 * The directives of locations: kv, kv_clear, kv_health, kv_stats, kv_bulk,
 * kv_keys, kv_batch, kv_backup, kv_watch, kv_cluster; kv_metrics and
 * kv_dashboard, which name no store; and those that say what a location allows:
 * kv_max_value, kv_read_only, kv_require_match, kv_intercept_errors, kv_post,
 * kv_types.
 */


#include "http/ngx_http_kv.h"


/* of log that is kept for a backup: as a default, and at least */
#define NGX_HTTP_KV_HOLD      (1024 * 1024 * 1024)
#define NGX_HTTP_KV_HOLD_MIN  (1024 * 1024)


static ngx_int_t ngx_http_kv_conf_take(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_kv_loc_conf_t *conf, ngx_http_handler_pt handler);
static ngx_uint_t ngx_http_kv_conf_has_keys(ngx_conf_t *cf);
static ngx_int_t ngx_http_kv_conf_param(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf, ngx_str_t *param);
static ngx_int_t ngx_http_kv_conf_expression(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf, ngx_str_t *param, size_t n,
    ngx_http_complex_value_t **expression);
static ngx_int_t ngx_http_kv_conf_batch(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf, ngx_str_t *param);
static ngx_int_t ngx_http_kv_conf_backup(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf, ngx_str_t *param);
static ngx_int_t ngx_http_kv_conf_check_keys(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf);
static ngx_int_t ngx_http_kv_conf_any_zone(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf);
static ngx_int_t ngx_http_kv_conf_find_zone(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf);
static void ngx_http_kv_merge_rules(ngx_http_kv_loc_conf_t *prev,
    ngx_http_kv_loc_conf_t *conf);
static ngx_int_t ngx_http_kv_conf_check_limit(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *conf);


char *
ngx_http_kv_conf_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (ngx_http_kv_conf_take(cf, cmd, klcf, ngx_http_kv_handlers[cmd->offset])
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    klcf->route = (ngx_http_kv_route_t) cmd->offset;
    klcf->zone_name = value[1];
    klcf->hold = NGX_HTTP_KV_HOLD;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_kv_conf_param(cf, klcf, &value[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    klcf->max_ops = klcf->max_ops ? klcf->max_ops : KV_GROUP_MAX;
    klcf->max_size = klcf->max_size ? klcf->max_size : NGX_HTTP_KV_BATCH_SIZE;

    return klcf->route != NGX_HTTP_KV_ROUTE_KV || klcf->key
           || ngx_http_kv_conf_has_keys(cf)
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* Whether what follows the location's name in a path can be a key. */

static ngx_uint_t
ngx_http_kv_conf_has_keys(ngx_conf_t *cf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (!clcf->exact_match && !clcf->named
#if (NGX_PCRE)
        && clcf->regex == NULL
#endif
        && clcf->name.len && clcf->name.data[clcf->name.len - 1] == '/')
    {
        return 1;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"kv\" needs a prefix location that ends in \"/\", "
                       "like \"location /kv/\": what follows it is the key; "
                       "elsewhere \"key=\" must say which key it is, as in "
                       "\"kv name key=user:$id\"");
    return 0;
}


/* A parameter behind the store's name. */

static ngx_int_t
ngx_http_kv_conf_param(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf,
    ngx_str_t *param)
{
    const char  *takes;
    ngx_uint_t   prefix;

    prefix = ngx_strncmp(param->data, "prefix=", 7) == 0;

    switch (conf->route) {

    case NGX_HTTP_KV_ROUTE_BACKUP:
        return ngx_http_kv_conf_backup(cf, conf, param);

    case NGX_HTTP_KV_ROUTE_KV:
        if (ngx_strncmp(param->data, "key=", 4) == 0) {
            return ngx_http_kv_conf_expression(cf, conf, param, 4, &conf->key);
        }

        takes = "key= or prefix=";
        break;

    case NGX_HTTP_KV_ROUTE_CLEAR:
    case NGX_HTTP_KV_ROUTE_HEALTH:
    case NGX_HTTP_KV_ROUTE_STATS:
    case NGX_HTTP_KV_ROUTE_CLUSTER:
        takes = "none, as it is about the whole store";
        prefix = 0;
        break;

    default:
        takes = "prefix=";
    }

    if (prefix) {
        return ngx_http_kv_conf_expression(cf, conf, param, 7, &conf->prefix);
    }

    if (conf->route == NGX_HTTP_KV_ROUTE_BATCH) {
        return ngx_http_kv_conf_batch(cf, conf, param);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" of \"%V\": it takes %s",
                       param, &conf->directive, takes);

    return NGX_ERROR;
}


/* The expression of key= or prefix=, which are so many bytes. */

static ngx_int_t
ngx_http_kv_conf_expression(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf,
    ngx_str_t *param, size_t n, ngx_http_complex_value_t **expression)
{
    ngx_str_t  text;

    text.data = param->data + n;
    text.len = param->len - n;

    if (text.len == 0 || conf->key || conf->prefix) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, text.len
                           ? "\"%V\" of \"%V\": it takes one \"key=\" or one "
                             "\"prefix=\""
                           : "\"%V\" of \"%V\" is empty", param,
                           &conf->directive);
        return NGX_ERROR;
    }

    *expression = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*expression == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_kv_conf_compile(cf, &text, *expression);
}


char *
ngx_http_kv_conf_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_kv_conf_take(cf, cmd, conf, ngx_http_kv_metrics_handler)
           == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_kv_conf_dashboard(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (!clcf->exact_match) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_dashboard\" needs an exact location, like "
                           "\"location = /dashboard\": the page finds the "
                           "others from there");
        return NGX_CONF_ERROR;
    }

    klcf->dashboard = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_dashboard_t));

    return klcf->dashboard
           && ngx_http_kv_conf_take(cf, cmd, klcf,
                                    ngx_http_kv_dashboard_handler) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* Makes the location that of a directive, and notes where both stand. */

static ngx_int_t
ngx_http_kv_conf_take(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_kv_loc_conf_t *conf, ngx_http_handler_pt handler)
{
    ngx_http_kv_location_t    *location;
    ngx_http_kv_main_conf_t   *kmcf;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);

    if (conf->handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" cannot stand in a location that has "
                           "another kv directive", &cmd->name);
        return NGX_ERROR;
    }

    if (clcf->handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" cannot stand in a location that has "
                           "another content handler, like proxy_pass",
                           &cmd->name);
        return NGX_ERROR;
    }

    location = ngx_array_push(&kmcf->locations);
    if (location == NULL) {
        return NGX_ERROR;
    }

    location->server = ngx_http_conf_get_module_srv_conf(cf,
                                                         ngx_http_core_module);
    location->core = clcf;
    location->conf = conf;

    conf->directive = cmd->name;
    conf->file = cf->conf_file->file.name;
    conf->line = cf->conf_file->line;
    conf->handler = handler;

    clcf->handler = handler;

    return NGX_OK;
}


/* The parameter of kv_backup. */

static ngx_int_t
ngx_http_kv_conf_backup(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf,
    ngx_str_t *param)
{
    off_t      size;
    ngx_str_t  s;

    if (ngx_strncmp(param->data, "hold=", 5) == 0) {
        s.data = param->data + 5;
        s.len = param->len - 5;
        size = ngx_parse_offset(&s);

        if (size >= NGX_HTTP_KV_HOLD_MIN) {
            conf->hold = size;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" of \"%V\": it takes hold=, "
                       "from %uim on", param, &conf->directive,
                       (ngx_uint_t) NGX_HTTP_KV_HOLD_MIN >> 20);

    return NGX_ERROR;
}


/* A parameter of kv_batch. */

static ngx_int_t
ngx_http_kv_conf_batch(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf,
    ngx_str_t *param)
{
    ssize_t    size;
    ngx_int_t  ops;
    ngx_str_t  s;

    if (ngx_strncmp(param->data, "max_ops=", 8) == 0 && conf->max_ops == 0) {
        ops = ngx_atoi(param->data + 8, param->len - 8);

        if (ops >= 1 && ops <= (ngx_int_t) KV_GROUP_MAX) {
            conf->max_ops = ops;
            return NGX_OK;
        }

    } else if (ngx_strncmp(param->data, "max_size=", 9) == 0
               && conf->max_size == 0)
    {
        s.data = param->data + 9;
        s.len = param->len - 9;
        size = ngx_parse_size(&s);

        if (size >= 1 && size <= NGX_HTTP_KV_BATCH_SIZE) {
            conf->max_size = size;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" of \"%V\": it takes "
                       "max_ops=, from 1 to %ui, max_size=, up to %uim, and "
                       "prefix=, each once", param, &conf->directive,
                       (ngx_uint_t) KV_GROUP_MAX,
                       (ngx_uint_t) NGX_HTTP_KV_BATCH_SIZE >> 20);

    return NGX_ERROR;
}


char *
ngx_http_kv_conf_max_value(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (klcf->max_value != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    size = ngx_parse_size(&value[1]);

    if (size < 1 || size > (ssize_t) KV_VALUE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\" of \"%V\": it must be from 1 "
                           "byte to %uDm, as in \"64k\"", &value[1], &cmd->name,
                           KV_VALUE_MAX >> 20);
        return NGX_CONF_ERROR;
    }

    klcf->max_value = size;

    return NGX_CONF_OK;
}


char *
ngx_http_kv_conf_key_chars(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (klcf->key_chars != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "safe") == 0) {
        klcf->key_chars = KV_KEY_SAFE;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "any") == 0) {
        klcf->key_chars = KV_KEY_ANY;
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" of \"%V\": it must be \"safe\" or "
                       "\"any\"", &value[1], &cmd->name);

    return NGX_CONF_ERROR;
}


void *
ngx_http_kv_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_kv_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->key_chars = NGX_CONF_UNSET_UINT;
    conf->max_value = NGX_CONF_UNSET_SIZE;
    conf->read_only = NGX_CONF_UNSET;
    conf->require_match = NGX_CONF_UNSET;
    conf->intercept_errors = NGX_CONF_UNSET;
    conf->post = NGX_CONF_UNSET;
    conf->types = NGX_CONF_UNSET_PTR;

    return conf;
}


char *
ngx_http_kv_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_kv_loc_conf_t *prev = parent;
    ngx_http_kv_loc_conf_t *conf = child;

    ngx_uint_t                 own;
    ngx_array_t               *incrs;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    own = conf->max_value != NGX_CONF_UNSET_SIZE;
    ngx_http_kv_merge_rules(prev, conf);

    incrs = conf->incrs || conf->incr_off ? conf->incrs : prev->incrs;
    conf->incrs = incrs;

    if (ngx_http_kv_incr_check_keys(cf, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (clcf->noname && conf->handler == NULL) {

        /* limit_except{} and if{} are parts of their location */

        if (prev->handler && clcf->handler == NULL) {
            *conf = *prev;
            conf->incrs = incrs;
            clcf->handler = conf->handler;
            clcf->client_max_body_size = 0;
        }

        return NGX_CONF_OK;
    }

    if (conf->handler == NULL) {
        return NGX_CONF_OK;
    }

    if (clcf->handler != conf->handler) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" cannot stand in a location that has another "
                      "content handler, like proxy_pass, in %V:%ui",
                      &conf->directive, &conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    if ((conf->zone_name.data
         ? ngx_http_kv_conf_find_zone(cf, conf) != NGX_OK
           || (own && ngx_http_kv_conf_check_limit(cf, conf) != NGX_OK)
         : ngx_http_kv_conf_any_zone(cf, conf) != NGX_OK)
        || ngx_http_kv_conf_check_keys(cf, conf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    /*
     * The limit is max_value, which is checked where the answer can be ours:
     * nginx would answer with a page of HTML.
     */

    conf->max_left = clcf->client_max_body_size;
    clcf->client_max_body_size = 0;

    return NGX_CONF_OK;
}


static void
ngx_http_kv_merge_rules(ngx_http_kv_loc_conf_t *prev,
    ngx_http_kv_loc_conf_t *conf)
{
    ngx_conf_merge_uint_value(conf->key_chars, prev->key_chars, KV_KEY_SAFE);
    ngx_conf_merge_size_value(conf->max_value, prev->max_value, KV_VALUE_MAX);
    ngx_conf_merge_value(conf->read_only, prev->read_only, 0);
    ngx_conf_merge_value(conf->require_match, prev->require_match, 0);
    ngx_conf_merge_value(conf->intercept_errors, prev->intercept_errors, 0);
    ngx_conf_merge_value(conf->post, prev->post, 0);
    ngx_conf_merge_ptr_value(conf->types, prev->types, NULL);

    if (conf->types && conf->types->nelts == 0) {
        conf->types = NULL;
    }
}


/*
 * The zone's limit counts, too.  A location's own one above that would be a
 * promise that is not kept; one of an outer level is about other zones as well.
 */

static ngx_int_t
ngx_http_kv_conf_check_limit(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf)
{
    size_t  max;

    max = conf->zone->conf.max_value;

    if (conf->max_value > max) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"kv_max_value\" is %uz bytes, and values of the kv "
                      "zone \"%V\" have %uz at most: lower it, or raise "
                      "\"max_value=\" of the kv_zone, in %V:%ui",
                      conf->max_value, &conf->zone_name, max, &conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* An expression without variables: whether it is a key, or can begin one. */

static ngx_int_t
ngx_http_kv_conf_check_keys(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf)
{
    u_char                    *p;
    const char                *wrong;
    ngx_http_complex_value_t  *expression;

    expression = conf->key ? conf->key : conf->prefix;

    if (expression == NULL || expression->lengths) {
        return NGX_OK;
    }

    p = ngx_pnalloc(cf->pool, expression->value.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *ngx_cpymem(p, expression->value.data, expression->value.len) = 'x';

    wrong = kv_key_wrong((kv_key_chars_t) conf->key_chars, (char *) p,
                         expression->value.len + (conf->prefix != NULL));

    if (wrong == NULL) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"%s=%V\" of \"%V\" makes no key, with \"kv_key_chars %s\": "
                  "%s, in %V:%ui", conf->key ? "key" : "prefix",
                  &expression->value, &conf->directive,
                  conf->key_chars == KV_KEY_SAFE ? "safe" : "any", wrong,
                  &conf->file, conf->line);

    return NGX_ERROR;
}


/* What names no zone is about all of them. */

static ngx_int_t
ngx_http_kv_conf_any_zone(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf)
{
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);

    if (kmcf->zones.nelts == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" needs a \"kv_zone\": there is none, in %V:%ui",
                      &conf->directive, &conf->file, conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* Looks up the zone that a directive names, and checks that it is fit. */

static ngx_int_t
ngx_http_kv_conf_find_zone(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *conf)
{
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);

    conf->zone = ngx_http_kv_find_zone(kmcf, &conf->zone_name);

    if (conf->zone == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown kv zone \"%V\": there is no \"kv_zone "
                      "zone=%V:...\" in %V:%ui", &conf->zone_name,
                      &conf->zone_name, &conf->file, conf->line);
        return NGX_ERROR;
    }

    conf->zone->backed_up |= conf->route == NGX_HTTP_KV_ROUTE_BACKUP;

    if (conf->route == NGX_HTTP_KV_ROUTE_KEYS && !conf->zone->conf.list) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" needs a zone whose keys can be listed: add "
                      "\"list=on\" to the kv_zone \"%V\", in %V:%ui",
                      &conf->directive, &conf->zone_name, &conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    if (conf->route == NGX_HTTP_KV_ROUTE_WATCH && !conf->zone->conf.feed) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" needs a zone with a feed of its changes: add "
                      "\"feed=16m\" to the kv_zone \"%V\", in %V:%ui",
                      &conf->directive, &conf->zone_name, &conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    if (conf->route == NGX_HTTP_KV_ROUTE_CLUSTER
        && conf->zone->cluster.len == 0)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" needs a zone that is a node of a cluster: add "
                      "\"cluster=\", with this node's address, to the kv_zone "
                      "\"%V\", in %V:%ui", &conf->directive, &conf->zone_name,
                      &conf->file, conf->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}
