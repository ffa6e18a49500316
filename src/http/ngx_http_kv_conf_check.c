
/*
 * What a kv_zone must fulfil as a whole, and beside the others.
 */


#include "http/ngx_http_kv_conf_private.h"


/* what a segment needs beside the largest value: headers, a key */
#define NGX_HTTP_KV_OVERHEAD  (32 * 1024)


static char *ngx_http_kv_check_segment(ngx_conf_t *cf, kv_store_conf_t *conf);
static void ngx_http_kv_print_size(char *buf, uint64_t n);
static ngx_int_t ngx_http_kv_check_directory(ngx_conf_t *cf, ngx_str_t *path,
    kv_dir_id_t *id);
static ngx_uint_t ngx_http_kv_same_dir(ngx_str_t *path, kv_dir_id_t *id,
    ngx_str_t *other, kv_dir_id_t *other_id);
static ngx_int_t ngx_http_kv_check_archives(ngx_conf_t *cf,
    ngx_http_kv_zone_t *zone, ngx_http_kv_zone_t *other);


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

    if ((ngx_http_kv_param_given(cf, "archive_hold=")
         || ngx_http_kv_param_given(cf, "archive_keep="))
        && params->zone->archive.len == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"archive_hold=\" and \"archive_keep=\" do nothing "
                           "without \"archive=\"");
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
ngx_http_kv_check_directories(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    if (ngx_http_kv_check_directory(cf, &zone->path, &zone->dir_id) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    zone->dir_known = zone->dir_id.ino != 0;

    if (zone->archive.len == 0) {
        return NGX_CONF_OK;
    }

    if (ngx_http_kv_check_directory(cf, &zone->archive, &zone->archive_id)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    zone->archive_known = zone->archive_id.ino != 0;

    if (ngx_http_kv_same_dir(&zone->path, &zone->dir_id, &zone->archive,
                             &zone->archive_id))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "archive=\"%V\" is the directory of the zone "
                           "itself: give it another one", &zone->archive);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* Fills *id, whose inode is 0 where it is not known. */

static ngx_int_t
ngx_http_kv_check_directory(ngx_conf_t *cf, ngx_str_t *path, kv_dir_id_t *id)
{
    kv_rc_t   rc;
    kv_err_t  err;

    rc = kv_store_dir_check((char *) path->data, id, &err);

    if (rc == KV_OK) {
        return NGX_OK;
    }

    ngx_memzero(id, sizeof(kv_dir_id_t));

    /* the user who runs nginx -t may have no right to see it */

    if (rc == KV_DECLINED) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "%s", err.text);
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", err.text);

    return NGX_ERROR;
}


/* Whether both paths lead to one directory, as far as is known. */

static ngx_uint_t
ngx_http_kv_same_dir(ngx_str_t *path, kv_dir_id_t *id, ngx_str_t *other,
    kv_dir_id_t *other_id)
{
    if (path->len == 0 || other->len == 0) {
        return 0;
    }

    return ngx_strcmp(path->data, other->data) == 0
           || (id->ino && other_id->ino && kv_store_dir_same(id, other_id));
}


char *
ngx_http_kv_check_unique(ngx_conf_t *cf, ngx_http_kv_main_conf_t *kmcf,
    ngx_http_kv_zone_t *zone)
{
    ngx_uint_t           i;
    ngx_http_kv_zone_t  *other, **p;

    if (ngx_http_kv_find_zone(kmcf, &zone->name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "kv zone \"%V\" is already declared", &zone->name);
        return NGX_CONF_ERROR;
    }

    p = kmcf->zones.elts;

    for (i = 0; i < kmcf->zones.nelts; i++) {

        other = p[i];

        if (ngx_http_kv_same_dir(&zone->path, &zone->dir_id, &other->path,
                                 &other->dir_id))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "path \"%V\" is the directory of kv zone "
                               "\"%V\", \"%V\": each zone needs a directory "
                               "of its own", &zone->path, &other->name,
                               &other->path);
            return NGX_CONF_ERROR;
        }

        if (zone->peer_listen.len
            && zone->peer_listen.len == other->peer_listen.len
            && ngx_strncmp(zone->peer_listen.data, other->peer_listen.data,
                           zone->peer_listen.len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "kv zone \"%V\" listens for its nodes at %V, "
                               "too: set \"peer_listen=\"", &other->name,
                               &zone->peer_listen);
            return NGX_CONF_ERROR;
        }

        if (ngx_http_kv_check_archives(cf, zone, other) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_kv_check_archives(ngx_conf_t *cf, ngx_http_kv_zone_t *zone,
    ngx_http_kv_zone_t *other)
{
    ngx_str_t  *path;

    if (ngx_http_kv_same_dir(&zone->archive, &zone->archive_id,
                             &other->archive, &other->archive_id)
        || ngx_http_kv_same_dir(&zone->archive, &zone->archive_id,
                                &other->path, &other->dir_id))
    {
        path = &zone->archive;

    } else if (ngx_http_kv_same_dir(&zone->path, &zone->dir_id,
                                    &other->archive, &other->archive_id))
    {
        path = &zone->path;

    } else {
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" is a directory of kv zone \"%V\", too: each "
                       "zone needs a directory, and an archive, of its own",
                       path, &other->name);

    return NGX_ERROR;
}
