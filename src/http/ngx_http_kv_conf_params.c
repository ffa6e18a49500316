
/*
 * The parameters of kv_zone: a table of names and parsers.
 */


#include "http/ngx_http_kv_conf_private.h"


/*
 * A parameter.  The parser takes what is behind the "=", and logs why if it
 * returns NGX_CONF_ERROR.  Without one it is a share of the zone, in bytes.
 */

typedef struct {
    const char            *name;          /* with the "=" */
    char                *(*parse)(ngx_conf_t *cf,
        ngx_http_kv_params_t *params, ngx_str_t *value);
    size_t                 share;         /* where it is in kv_store_conf_t */
} ngx_http_kv_param_t;


static char *ngx_http_kv_param_read(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *arg);
static ngx_int_t ngx_http_kv_param_value(ngx_str_t *arg, const char *name,
    ngx_str_t *value);
static char *ngx_http_kv_parse_zone(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_zone_name(ngx_conf_t *cf, ngx_str_t *name);
static char *ngx_http_kv_parse_path(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_delay(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_batch(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_sync(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_segment(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_snapshot(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_max_value(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_list(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_feed(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_ttl(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_thread_pool(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_archive(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_archive_keep(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static ngx_int_t ngx_http_kv_param_path(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, ngx_str_t *path);
static ngx_uint_t ngx_http_kv_param_is(ngx_str_t *value, const char *word);
static char *ngx_http_kv_param_size(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, off_t min, off_t max, off_t *result);
static char *ngx_http_kv_param_share(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, const ngx_http_kv_param_t *param,
    ngx_str_t *value);


static const ngx_http_kv_param_t  ngx_http_kv_params[] = {
    { "zone=",        ngx_http_kv_parse_zone, 0 },
    { "path=",        ngx_http_kv_parse_path, 0 },
    { "archive=",     ngx_http_kv_parse_archive, 0 },
    { "archive_keep=", ngx_http_kv_parse_archive_keep, 0 },
    { "archive_hold=", NULL, offsetof(kv_store_conf_t, archive_hold) },
    { "cluster=",     ngx_http_kv_parse_cluster, 0 },
    { "peers=",       ngx_http_kv_parse_peers, 0 },
    { "peer_listen=", ngx_http_kv_parse_peer_listen, 0 },
    { "delay=",       ngx_http_kv_parse_delay, 0 },
    { "batch=",       ngx_http_kv_parse_batch, 0 },
    { "sync=",        ngx_http_kv_parse_sync, 0 },
    { "segment=",     ngx_http_kv_parse_segment, 0 },
    { "snapshot=",    ngx_http_kv_parse_snapshot, 0 },
    { "max_value=",   ngx_http_kv_parse_max_value, 0 },
    { "ttl=",         ngx_http_kv_parse_ttl, 0 },
    { "uploads=",     NULL, offsetof(kv_store_conf_t, uploads) },
    { "readers=",     NULL, offsetof(kv_store_conf_t, readers) },
    { "list=",        ngx_http_kv_parse_list, 0 },
    { "feed=",        ngx_http_kv_parse_feed, 0 },
    { "thread_pool=", ngx_http_kv_parse_thread_pool, 0 },
    { NULL, NULL, 0 }
};


char *
ngx_http_kv_params_read(ngx_conf_t *cf, ngx_http_kv_params_t *params)
{
    ngx_str_t                  *arg;
    ngx_uint_t                  i;
    const ngx_http_kv_param_t  *param;

    arg = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        if (ngx_http_kv_param_read(cf, params, &arg[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    for (param = ngx_http_kv_params; param->name; param++) {

        if (ngx_http_kv_param_given(cf, param->name) > 1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the parameter \"%s\" is given twice",
                               param->name);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_param_read(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *arg)
{
    ngx_str_t                   value;
    const ngx_http_kv_param_t  *param;

    for (param = ngx_http_kv_params; param->name; param++) {

        if (ngx_http_kv_param_value(arg, param->name, &value) == NGX_OK) {
            return param->parse
                   ? param->parse(cf, params, &value)
                   : ngx_http_kv_param_share(cf, params, param, &value);
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown parameter \"%V\"", arg);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_kv_param_value(ngx_str_t *arg, const char *name, ngx_str_t *value)
{
    size_t  len;

    len = ngx_strlen(name);

    if (arg->len < len || ngx_strncmp(arg->data, name, len) != 0) {
        return NGX_DECLINED;
    }

    value->data = arg->data + len;
    value->len = arg->len - len;

    return NGX_OK;
}


ngx_uint_t
ngx_http_kv_param_given(ngx_conf_t *cf, const char *name)
{
    ngx_str_t   *arg, value;
    ngx_uint_t   i, n;

    arg = cf->args->elts;
    n = 0;

    for (i = 1; i < cf->args->nelts; i++) {
        n += ngx_http_kv_param_value(&arg[i], name, &value) == NGX_OK;
    }

    return n;
}


static char *
ngx_http_kv_parse_zone(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    u_char              *p;
    ngx_str_t            s;
    ngx_http_kv_zone_t  *zone;

    zone = params->zone;

    p = ngx_strlchr(value->data, value->data + value->len, ':');

    if (p == NULL || p == value->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone \"%V\": it must be name:size",
                           value);
        return NGX_CONF_ERROR;
    }

    zone->name.data = value->data;
    zone->name.len = p - value->data;

    if (ngx_http_kv_parse_zone_name(cf, &zone->name) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    s.data = p + 1;
    s.len = value->data + value->len - s.data;

    params->size = (ssize_t) ngx_parse_offset(&s);

    if (params->size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\" of zone \"%V\"", &s,
                           &zone->name);
        return NGX_CONF_ERROR;
    }

    if (params->size < (ssize_t) KV_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is too small: it needs at least 4m",
                           &zone->name);
        return NGX_CONF_ERROR;
    }

    zone->conf.name = (char *) ngx_pnalloc(cf->pool, zone->name.len + 1);
    if (zone->conf.name == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn((u_char *) zone->conf.name, zone->name.data,
                       zone->name.len + 1);

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_zone_name(ngx_conf_t *cf, ngx_str_t *name)
{
    u_char  c;
    size_t  i;

    for (i = 0; i < name->len; i++) {
        c = ngx_tolower(name->data[i]);

        if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_'
            && c != '-' && c != '.')
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid zone name \"%V\": it may have "
                               "letters, digits, \"_\", \"-\" and \".\"",
                               name);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_path(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_http_kv_zone_t  *zone;

    zone = params->zone;

    if (ngx_http_kv_param_path(cf, "path=", value, &zone->path) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    zone->conf.path = (char *) zone->path.data;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_archive(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_http_kv_zone_t  *zone;

    zone = params->zone;

    if (ngx_http_kv_param_path(cf, "archive=", value, &zone->archive)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    zone->conf.archive = (char *) zone->archive.data;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_archive_keep(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 1);

    if (n == NGX_ERROR || n < 1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid archive_keep \"%V\": it must be a time "
                           "from 1s on, as in \"30d\"", value);
        return NGX_CONF_ERROR;
    }

    params->zone->conf.archive_keep = (uint64_t) n * 1000;

    return NGX_CONF_OK;
}


/* A directory, relative to nginx's prefix, with a zero at its end. */

static ngx_int_t
ngx_http_kv_param_path(ngx_conf_t *cf, const char *name, ngx_str_t *value,
    ngx_str_t *path)
{
    while (value->len > 1 && value->data[value->len - 1] == '/') {
        value->data[--value->len] = '\0';
    }

    if (value->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s is empty", name);
        return NGX_ERROR;
    }

    *path = *value;

    return ngx_conf_full_name(cf->cycle, path, 0);
}


static char *
ngx_http_kv_parse_delay(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 0);

    if (n == NGX_ERROR || n > 10000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid delay \"%V\": it must be a time from "
                           "0 to 10s", value);
        return NGX_CONF_ERROR;
    }

    params->zone->conf.delay = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_batch(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_atoi(value->data, value->len);

    if (n == NGX_ERROR || n < 1 || n > 1000000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid batch \"%V\": it must be a number "
                           "from 1 to 1000000", value);
        return NGX_CONF_ERROR;
    }

    params->zone->conf.batch = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_sync(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_int_t         n;
    kv_store_conf_t  *conf;

    conf = &params->zone->conf;

    if (ngx_http_kv_param_is(value, "always")) {
        conf->sync = KV_SYNC_ALWAYS;
        return NGX_CONF_OK;
    }

    if (ngx_http_kv_param_is(value, "off")) {
        conf->sync = KV_SYNC_OFF;
        return NGX_CONF_OK;
    }

    n = ngx_parse_time(value, 0);

    if (n == NGX_ERROR || n < 1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid sync \"%V\": it must be always, off, or "
                           "a time of at least 1ms", value);
        return NGX_CONF_ERROR;
    }

    conf->sync = KV_SYNC_INTERVAL;
    conf->sync_interval = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_segment(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    off_t  n;

    if (ngx_http_kv_param_size(cf, "segment=", value, 64 * 1024,
                               KV_STORE_SEGMENT_MAX, &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    params->zone->conf.segment = kv_align((uint64_t) n, 4096);

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_snapshot(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    off_t  n;

    if (ngx_http_kv_param_is(value, "off")) {
        params->zone->conf.snapshot = 0;
        return NGX_CONF_OK;
    }

    if (ngx_http_kv_param_size(cf, "snapshot=", value, 64 * 1024,
                               NGX_MAX_OFF_T_VALUE, &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    params->zone->conf.snapshot = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_max_value(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    off_t  n;

    if (ngx_http_kv_param_size(cf, "max_value=", value, 1, KV_VALUE_MAX, &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    params->zone->conf.max_value = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_list(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    params->zone->conf.list = ngx_http_kv_param_is(value, "on");

    if (!params->zone->conf.list && !ngx_http_kv_param_is(value, "off")) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid list \"%V\": it must be on or off", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_feed(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    off_t  n;

    if (ngx_http_kv_param_is(value, "off")) {
        params->zone->conf.feed = 0;
        return NGX_CONF_OK;
    }

    if (ngx_http_kv_param_size(cf, "feed=", value, KV_FEED_MIN, KV_FEED_MAX,
                               &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    params->zone->conf.feed = kv_align((uint64_t) n, KV_FEED_ALIGN);

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_ttl(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 1);

    if (n == NGX_ERROR || n < 1 || n > (ngx_int_t) KV_STORE_TTL_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid ttl \"%V\": it must be a time from 1s to "
                           "3650d", value);
        return NGX_CONF_ERROR;
    }

    params->zone->ttl = (uint32_t) n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_thread_pool(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    (void) cf;

    params->thread_pool = *value;

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_kv_param_is(ngx_str_t *value, const char *word)
{
    return value->len == ngx_strlen(word)
           && ngx_strncmp(value->data, word, value->len) == 0;
}


/* Parses a size; `name` is the parameter's, with the "=". */

static char *
ngx_http_kv_param_size(ngx_conf_t *cf, const char *name, ngx_str_t *value,
    off_t min, off_t max, off_t *result)
{
    off_t  n;

    n = ngx_parse_offset(value);

    if (n == (off_t) NGX_ERROR || n < min || n > max) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %*s \"%V\": it must be a size from %O to "
                           "%O bytes", ngx_strlen(name) - 1, name, value, min,
                           max);
        return NGX_CONF_ERROR;
    }

    *result = n;

    return NGX_CONF_OK;
}


/* Parses a share of the zone that clients may hold. */

static char *
ngx_http_kv_param_share(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    const ngx_http_kv_param_t *param, ngx_str_t *value)
{
    off_t      n;
    uint64_t  *share;

    if (ngx_http_kv_param_size(cf, param->name, value, 64 * 1024,
                               NGX_MAX_OFF_T_VALUE, &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    share = (uint64_t *) ((char *) &params->zone->conf + param->share);
    *share = n;

    return NGX_CONF_OK;
}
