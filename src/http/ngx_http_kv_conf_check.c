
/*
 * What a kv_zone must fulfil as a whole, and beside the others.
 */


#include "http/ngx_http_kv_conf_private.h"


/* what a segment needs beside the largest value: headers, a key */
#define NGX_HTTP_KV_OVERHEAD  (32 * 1024)


static char *ngx_http_kv_check_segment(ngx_conf_t *cf, kv_store_conf_t *conf);
static void ngx_http_kv_print_size(char *buf, uint64_t n);


char *
ngx_http_kv_check_params(ngx_conf_t *cf, ngx_http_kv_params_t *params)
{
    kv_store_conf_t  *conf;

    conf = &params->zone->conf;

    if (ngx_http_kv_param_given(cf, "batch=")
        && !ngx_http_kv_param_given(cf, "delay="))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"batch=\" does nothing without \"delay=\"");
        return NGX_CONF_ERROR;
    }

    if (params->size == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_zone\" needs the parameter "
                           "\"zone=name:size\"");
        return NGX_CONF_ERROR;
    }

    if (params->zone->path.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_zone\" needs the parameter "
                           "\"path=directory\"");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_kv_check_segment(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->uploads > (uint64_t) params->size
        || conf->readers > (uint64_t) params->size)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "uploads and readers are shares of the zone: they "
                           "cannot be larger than its %uz bytes", params->size);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_check_segment(ngx_conf_t *cf, kv_store_conf_t *conf)
{
    char         segment[NGX_OFF_T_LEN + 2], value[NGX_OFF_T_LEN + 2];
    char         need[NGX_OFF_T_LEN + 2], fits[NGX_OFF_T_LEN + 2];
    const char  *by_default;

    if (conf->segment >= conf->max_value + NGX_HTTP_KV_OVERHEAD) {
        return NGX_CONF_OK;
    }

    by_default = ngx_http_kv_param_given(cf, "max_value=")
                 ? "" : " (the default)";

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


/* Prints a size as a parameter's value is written. */

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


char *
ngx_http_kv_check_directory(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_store_dir_check((char *) zone->path.data, &zone->dir_id, &err);

    if (rc == KV_OK) {
        zone->dir_known = 1;
        return NGX_CONF_OK;
    }

    /* the user who runs nginx -t may have no right to see it */

    if (rc == KV_DECLINED) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "%s", err.text);
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", err.text);

    return NGX_CONF_ERROR;
}


char *
ngx_http_kv_check_unique(ngx_conf_t *cf, ngx_http_kv_main_conf_t *kmcf,
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
