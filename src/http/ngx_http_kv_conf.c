
/*
 * The configuration: the parameters of kv_zone, the directives of locations,
 * and what is only known once all of http{} is read.
 */


#include "http/ngx_http_kv.h"


#define NGX_HTTP_KV_SEGMENT     (64 * 1024 * 1024)
#define NGX_HTTP_KV_SNAPSHOT    (256 * 1024 * 1024)
#define NGX_HTTP_KV_MAX_VALUE   (10 * 1024 * 1024)
#define NGX_HTTP_KV_BATCH       100

/* what a segment needs beside the largest value: headers, a key */
#define NGX_HTTP_KV_OVERHEAD    (32 * 1024)


/* What the parameters of a kv_zone say. */

typedef struct {
    ngx_http_kv_zone_t    *zone;
    ngx_str_t              thread_pool;
    ssize_t                size;          /* bytes; 0: not given */
} ngx_http_kv_params_t;


/*
 * A parameter.  The parser takes what is behind the "=", and logs why if it
 * returns NGX_CONF_ERROR.
 */

typedef struct {
    const char            *name;          /* with the "=" */
    char                *(*parse)(ngx_conf_t *cf,
        ngx_http_kv_params_t *params, ngx_str_t *value);
} ngx_http_kv_param_t;


static char *ngx_http_kv_parse(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *arg);
static ngx_int_t ngx_http_kv_param_value(ngx_str_t *arg, const char *name,
    ngx_str_t *value);
static ngx_uint_t ngx_http_kv_given(ngx_conf_t *cf, const char *name);
static char *ngx_http_kv_params_check(ngx_conf_t *cf);
static char *ngx_http_kv_parse_zone(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_name_check(ngx_conf_t *cf, ngx_str_t *name);
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
static char *ngx_http_kv_parse_uploads(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_readers(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static char *ngx_http_kv_parse_thread_pool(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);
static ngx_uint_t ngx_http_kv_is(ngx_str_t *value, const char *word);
static char *ngx_http_kv_size(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, off_t min, off_t max, off_t *result);
static char *ngx_http_kv_share(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, uint64_t *share);
static char *ngx_http_kv_zone_check(ngx_conf_t *cf, ngx_http_kv_zone_t *zone,
    ssize_t size);
static char *ngx_http_kv_path_check(ngx_conf_t *cf, ngx_http_kv_zone_t *zone);
static char *ngx_http_kv_twins_check(ngx_conf_t *cf,
    ngx_http_kv_main_conf_t *kmcf, ngx_http_kv_zone_t *zone);
static char *ngx_http_kv_segment_check(ngx_conf_t *cf, kv_store_conf_t *conf);
static void ngx_http_kv_print_size(char *buf, uint64_t n);
static ngx_http_kv_zone_t *ngx_http_kv_create_zone_conf(ngx_conf_t *cf);
static void ngx_http_kv_log(void *ctx, kv_log_level_t level,
    const char *text);
static bool ngx_http_kv_stopping(void);


static const ngx_http_kv_param_t  ngx_http_kv_params[] = {
    { "zone=",        ngx_http_kv_parse_zone },
    { "path=",        ngx_http_kv_parse_path },
    { "delay=",       ngx_http_kv_parse_delay },
    { "batch=",       ngx_http_kv_parse_batch },
    { "sync=",        ngx_http_kv_parse_sync },
    { "segment=",     ngx_http_kv_parse_segment },
    { "snapshot=",    ngx_http_kv_parse_snapshot },
    { "max_value=",   ngx_http_kv_parse_max_value },
    { "uploads=",     ngx_http_kv_parse_uploads },
    { "readers=",     ngx_http_kv_parse_readers },
    { "thread_pool=", ngx_http_kv_parse_thread_pool },
    { NULL, NULL }
};


char *
ngx_http_kv_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_main_conf_t *kmcf = conf;

    ngx_str_t             *arg;
    ngx_uint_t             i;
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

    arg = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        if (ngx_http_kv_parse(cf, &params, &arg[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_kv_params_check(cf) != NGX_CONF_OK
        || ngx_http_kv_zone_check(cf, zone, params.size) != NGX_CONF_OK
        || ngx_http_kv_path_check(cf, zone) != NGX_CONF_OK
        || ngx_http_kv_twins_check(cf, kmcf, zone) != NGX_CONF_OK)
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
     * address, and the zone is to be found again.
     */

    zone->shm_zone = ngx_shared_memory_add(cf, &zone->name, params.size,
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


static char *
ngx_http_kv_parse(ngx_conf_t *cf, ngx_http_kv_params_t *params, ngx_str_t *arg)
{
    ngx_str_t                   value;
    const ngx_http_kv_param_t  *param;

    for (param = ngx_http_kv_params; param->name; param++) {

        if (ngx_http_kv_param_value(arg, param->name, &value) == NGX_OK) {
            return param->parse(cf, params, &value) == NGX_CONF_OK
                   ? NGX_CONF_OK : NGX_CONF_ERROR;
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


/* How often the directive that is read has the parameter. */

static ngx_uint_t
ngx_http_kv_given(ngx_conf_t *cf, const char *name)
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


/* What a parameter's own parser cannot see. */

static char *
ngx_http_kv_params_check(ngx_conf_t *cf)
{
    const ngx_http_kv_param_t  *param;

    for (param = ngx_http_kv_params; param->name; param++) {

        if (ngx_http_kv_given(cf, param->name) > 1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the parameter \"%s\" is given twice",
                               param->name);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_kv_given(cf, "batch=") && !ngx_http_kv_given(cf, "delay=")) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"batch=\" does nothing without \"delay=\"");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
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

    if (ngx_http_kv_name_check(cf, &zone->name) != NGX_CONF_OK) {
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

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_name_check(ngx_conf_t *cf, ngx_str_t *name)
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
    while (value->len > 1 && value->data[value->len - 1] == '/') {
        value->data[--value->len] = '\0';
    }

    if (value->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "path= is empty");
        return NGX_CONF_ERROR;
    }

    params->zone->path = *value;

    if (ngx_conf_full_name(cf->cycle, &params->zone->path, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
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

    if (ngx_http_kv_is(value, "always")) {
        conf->sync = KV_SYNC_ALWAYS;
        return NGX_CONF_OK;
    }

    if (ngx_http_kv_is(value, "off")) {
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

    if (ngx_http_kv_size(cf, "segment", value, 64 * 1024, KV_STORE_SEGMENT_MAX,
                         &n)
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

    if (ngx_http_kv_is(value, "off")) {
        params->zone->conf.snapshot = 0;
        return NGX_CONF_OK;
    }

    if (ngx_http_kv_size(cf, "snapshot", value, 64 * 1024,
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

    if (ngx_http_kv_size(cf, "max_value", value, 1, KV_VALUE_MAX, &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    params->zone->conf.max_value = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_parse_uploads(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    return ngx_http_kv_share(cf, "uploads", value,
                             &params->zone->conf.uploads);
}


static char *
ngx_http_kv_parse_readers(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    return ngx_http_kv_share(cf, "readers", value,
                             &params->zone->conf.readers);
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
ngx_http_kv_is(ngx_str_t *value, const char *word)
{
    return value->len == ngx_strlen(word)
           && ngx_strncmp(value->data, word, value->len) == 0;
}


static char *
ngx_http_kv_size(ngx_conf_t *cf, const char *name, ngx_str_t *value, off_t min,
    off_t max, off_t *result)
{
    off_t  n;

    n = ngx_parse_offset(value);

    if (n == (off_t) NGX_ERROR || n < min || n > max) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s \"%V\": it must be a size from %O to "
                           "%O bytes", name, value, min, max);
        return NGX_CONF_ERROR;
    }

    *result = n;

    return NGX_CONF_OK;
}


/* A share of the zone that clients may hold, in bytes. */

static char *
ngx_http_kv_share(ngx_conf_t *cf, const char *name, ngx_str_t *value,
    uint64_t *share)
{
    off_t  n;

    if (ngx_http_kv_size(cf, name, value, 64 * 1024, NGX_MAX_OFF_T_VALUE, &n)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    *share = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_zone_check(ngx_conf_t *cf, ngx_http_kv_zone_t *zone, ssize_t size)
{
    if (size == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_zone\" needs the parameter "
                           "\"zone=name:size\"");
        return NGX_CONF_ERROR;
    }

    if (zone->path.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_zone\" needs the parameter "
                           "\"path=directory\"");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_kv_segment_check(cf, &zone->conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (zone->conf.uploads > (uint64_t) size
        || zone->conf.readers > (uint64_t) size)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "uploads and readers are shares of the zone: they "
                           "cannot be larger than its %uz bytes", size);
        return NGX_CONF_ERROR;
    }

    zone->conf.name = (char *) ngx_pnalloc(cf->pool, zone->name.len + 1);
    if (zone->conf.name == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn((u_char *) zone->conf.name, zone->name.data,
                       zone->name.len + 1);
    zone->conf.path = (char *) zone->path.data;

    return NGX_CONF_OK;
}


/* Whether the store can use the directory.  Nothing is changed there. */

static char *
ngx_http_kv_path_check(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_store_dir_check((char *) zone->path.data, &zone->dir_id, &err);

    if (rc == KV_OK) {
        zone->dir_known = 1;
        return NGX_CONF_OK;
    }

    /* nginx -t may be run by a user who has no right to look */

    if (rc == KV_DECLINED) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "%s", err.text);
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", err.text);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_kv_twins_check(ngx_conf_t *cf, ngx_http_kv_main_conf_t *kmcf,
    ngx_http_kv_zone_t *zone)
{
    ngx_uint_t           i;
    ngx_http_kv_zone_t  *other, **p;

    p = kmcf->zones.elts;

    for (i = 0; i < kmcf->zones.nelts; i++) {

        other = p[i];

        if (other->name.len == zone->name.len
            && ngx_strncmp(other->name.data, zone->name.data, zone->name.len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "kv zone \"%V\" is already declared",
                               &zone->name);
            return NGX_CONF_ERROR;
        }

        if (ngx_strcmp(other->path.data, zone->path.data) == 0
            || (other->dir_known && zone->dir_known
                && kv_store_dir_same(&other->dir_id, &zone->dir_id)))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "path \"%V\" is the directory of kv zone "
                               "\"%V\", \"%V\": each zone needs a directory "
                               "of its own", &zone->path, &other->name,
                               &other->path);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_segment_check(ngx_conf_t *cf, kv_store_conf_t *conf)
{
    char         segment[NGX_OFF_T_LEN + 2], value[NGX_OFF_T_LEN + 2];
    char         need[NGX_OFF_T_LEN + 2], fits[NGX_OFF_T_LEN + 2];
    const char  *by_default;

    if (conf->segment >= conf->max_value + NGX_HTTP_KV_OVERHEAD) {
        return NGX_CONF_OK;
    }

    by_default = ngx_http_kv_given(cf, "max_value=") ? "" : " (the default)";

    ngx_http_kv_print_size(segment, conf->segment);
    ngx_http_kv_print_size(value, conf->max_value);
    ngx_http_kv_print_size(need, conf->max_value + NGX_HTTP_KV_OVERHEAD);
    ngx_http_kv_print_size(fits, conf->segment - NGX_HTTP_KV_OVERHEAD);

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "segment=%s is too small for values of max_value=%s%s: "
                       "set max_value=%s or less, or segment=%s or more",
                       segment, value, by_default, fits, need);

    return NGX_CONF_ERROR;
}


/* In the form of a parameter's value. */

static void
ngx_http_kv_print_size(char *buf, uint64_t n)
{
    const char  *unit;

    unit = "";

    if (n % 1024 == 0) {
        n /= 1024;
        unit = "k";
    }

    if (*unit && n % 1024 == 0) {
        n /= 1024;
        unit = "m";
    }

    (void) snprintf(buf, NGX_OFF_T_LEN + 2, "%llu%s", (unsigned long long) n,
                    unit);
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

    zone->conf.sync = KV_SYNC_ALWAYS;
    zone->conf.batch = NGX_HTTP_KV_BATCH;
    zone->conf.segment = NGX_HTTP_KV_SEGMENT;
    zone->conf.snapshot = NGX_HTTP_KV_SNAPSHOT;
    zone->conf.max_value = NGX_HTTP_KV_MAX_VALUE;
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


char *
ngx_http_kv_conf_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (klcf->handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" cannot stand in a location that has "
                           "another kv directive", &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (clcf->handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" cannot stand in a location that has "
                           "another content handler, like proxy_pass",
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (cmd->offset == NGX_HTTP_KV_ROUTE_KV
        && (clcf->exact_match || clcf->named
#if (NGX_PCRE)
            || clcf->regex
#endif
            || clcf->name.len == 0
            || clcf->name.data[clcf->name.len - 1] != '/'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv\" needs a prefix location that ends in "
                           "\"/\", like \"location /kv/\": what follows it is "
                           "the key");
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    klcf->route = (ngx_http_kv_route_t) cmd->offset;
    klcf->zone_name = value[1];
    klcf->directive = cmd->name;
    klcf->file = cf->conf_file->file.name;
    klcf->line = cf->conf_file->line;
    klcf->handler = ngx_http_kv_handlers[klcf->route];

    clcf->handler = klcf->handler;

    return NGX_CONF_OK;
}


void *
ngx_http_kv_create_main_conf(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_main_conf_t));
    if (kmcf == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->cycle->pool, 0);

    if (cln == NULL
        || ngx_array_init(&kmcf->zones, cf->pool, 2,
                          sizeof(ngx_http_kv_zone_t *))
           != NGX_OK)
    {
        return NULL;
    }

    kmcf->wakes.zones = &kmcf->zones;

    cln->handler = ngx_http_kv_wakes_cleanup;
    cln->data = &kmcf->wakes;

    return kmcf;
}


void *
ngx_http_kv_create_loc_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_loc_conf_t));
}


char *
ngx_http_kv_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_kv_loc_conf_t *prev = parent;
    ngx_http_kv_loc_conf_t *conf = child;

    ngx_uint_t                 i;
    ngx_http_kv_zone_t       **zone;
    ngx_http_kv_main_conf_t   *kmcf;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && conf->handler == NULL) {

        /* limit_except{} and if{} are parts of their location */

        if (prev->handler && clcf->handler == NULL) {
            *conf = *prev;
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

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);
    zone = kmcf->zones.elts;

    for (i = 0; i < kmcf->zones.nelts; i++) {

        if (zone[i]->name.len == conf->zone_name.len
            && ngx_strncmp(zone[i]->name.data, conf->zone_name.data,
                           conf->zone_name.len)
               == 0)
        {
            conf->zone = zone[i];
        }
    }

    if (conf->zone == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown kv zone \"%V\": there is no \"kv_zone "
                      "zone=%V:...\" in %V:%ui", &conf->zone_name,
                      &conf->zone_name, &conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    /*
     * The limit is max_value, which is checked where the answer can be ours:
     * nginx would answer with a page of HTML.
     */

    clcf->client_max_body_size = 0;

    return NGX_CONF_OK;
}
