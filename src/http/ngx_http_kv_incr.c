
/*
 * kv_incr: requests are counted in a store, when nginx logs them.
 *
 * Keys and numbers are made of variables at the end of a request.  What is
 * counted is added up in the worker and written later (ngx_http_kv_sums.c), so
 * no request waits for it.
 */


#include "http/ngx_http_kv.h"
#include "base/kv_key.h"
#include "base/kv_number.h"


/* A directive; in the pool of its configuration. */

typedef struct {
    ngx_http_complex_value_t   key;
    ngx_http_complex_value_t   by;
    int64_t                    number;        /* where `by` has no variables */
    uint32_t                   ttl;           /* seconds; 0: none */
    ngx_http_kv_zone_t        *zone;

    /* until nginx has read all of http{} */
    ngx_str_t                  zone_name;
    ngx_str_t                  file;
    ngx_uint_t                 line;
} ngx_http_kv_incr_t;


static ngx_http_kv_incr_t *ngx_http_kv_incr_create(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *klcf);
static char *ngx_http_kv_incr_params(ngx_conf_t *cf, ngx_http_kv_incr_t *incr);
static char *ngx_http_kv_incr_ttl(ngx_conf_t *cf, ngx_http_kv_incr_t *incr,
    ngx_str_t *value);
static char *ngx_http_kv_incr_check(ngx_conf_t *cf, ngx_http_kv_incr_t *incr);
static void ngx_http_kv_incr_count(ngx_http_request_t *r,
    ngx_http_kv_loc_conf_t *klcf, ngx_http_kv_incr_t *incr);
static const char *ngx_http_kv_incr_key_wrong(ngx_http_kv_loc_conf_t *klcf,
    ngx_str_t *key);
static void ngx_http_kv_incr_refuse(ngx_http_request_t *r,
    ngx_http_kv_incr_t *incr, const char *why, ngx_str_t *value);


char *
ngx_http_kv_conf_incr(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ngx_str_t           *value;
    ngx_uint_t           off;
    ngx_http_kv_incr_t  *incr;

    (void) cmd;

    value = cf->args->elts;
    off = ngx_strcmp(value[1].data, "off") == 0;

    if (off && cf->args->nelts > 2) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_incr off\" takes no parameters, and \"off\" "
                           "is no key here");
        return NGX_CONF_ERROR;
    }

    if (klcf->incr_off || (off && klcf->incrs)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_incr off\" stands beside another \"kv_incr\": "
                           "remove one of them");
        return NGX_CONF_ERROR;
    }

    if (off) {
        klcf->incr_off = 1;
        return NGX_CONF_OK;
    }

    incr = ngx_http_kv_incr_create(cf, klcf);

    if (incr == NULL
        || ngx_http_kv_conf_compile(cf, &value[1], &incr->key) != NGX_OK
        || ngx_http_kv_incr_params(cf, incr) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_kv_incr_check(cf, incr);
}


/* One more for this level, which counts one for each request. */

static ngx_http_kv_incr_t *
ngx_http_kv_incr_create(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *klcf)
{
    ngx_http_kv_incr_t       *incr, **p, **all;
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);

    if (klcf->incrs == NULL) {
        klcf->incrs = ngx_array_create(cf->pool, 2,
                                       sizeof(ngx_http_kv_incr_t *));
        if (klcf->incrs == NULL) {
            return NULL;
        }
    }

    incr = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_incr_t));
    p = ngx_array_push(klcf->incrs);
    all = ngx_array_push(&kmcf->incrs);

    if (incr == NULL || p == NULL || all == NULL) {
        return NULL;
    }

    *p = incr;
    *all = incr;

    incr->number = 1;
    incr->file = cf->conf_file->file.name;
    incr->line = cf->conf_file->line;

    return incr;
}


static char *
ngx_http_kv_incr_params(ngx_conf_t *cf, ngx_http_kv_incr_t *incr)
{
    char        *rc;
    ngx_str_t   *arg, value;
    ngx_uint_t   i, given;

    arg = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        value.data = (u_char *) ngx_strchr(arg[i].data, '=');
        value.data += value.data != NULL;
        value.len = value.data ? arg[i].data + arg[i].len - value.data : 0;

        if (ngx_strncmp(arg[i].data, "zone=", 5) == 0) {
            given = incr->zone_name.data != NULL;
            incr->zone_name = value;
            rc = NGX_CONF_OK;

        } else if (ngx_strncmp(arg[i].data, "by=", 3) == 0) {
            given = incr->by.value.data != NULL;
            rc = ngx_http_kv_conf_compile(cf, &value, &incr->by) == NGX_OK
                 ? NGX_CONF_OK : NGX_CONF_ERROR;

        } else if (ngx_strncmp(arg[i].data, "ttl=", 4) == 0) {
            given = incr->ttl != 0;
            rc = ngx_http_kv_incr_ttl(cf, incr, &value);

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"kv_incr\": it "
                               "takes zone=, by= and ttl=, behind the key",
                               &arg[i]);
            return NGX_CONF_ERROR;
        }

        if (rc != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        if (given) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the parameter \"%V\" of \"kv_incr\" is the "
                               "second of its name", &arg[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_incr_ttl(ngx_conf_t *cf, ngx_http_kv_incr_t *incr,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 1);

    if (n == NGX_ERROR || n < 1 || n > (ngx_int_t) KV_STORE_TTL_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid ttl \"%V\" of \"kv_incr\": it must be a "
                           "time from 1s to 3650d", value);
        return NGX_CONF_ERROR;
    }

    incr->ttl = (uint32_t) n;

    return NGX_CONF_OK;
}


/* What can be seen without a request, and without the rest of http{}. */

static char *
ngx_http_kv_incr_check(ngx_conf_t *cf, ngx_http_kv_incr_t *incr)
{
    ngx_str_t  *by;

    by = &incr->by.value;

    if (by->data && incr->by.lengths == NULL
        && !kv_number_parse((char *) by->data, by->len, &incr->number))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid by \"%V\" of \"kv_incr\": it must be a "
                           "whole number of 64 bits, or have variables", by);
        return NGX_CONF_ERROR;
    }

    if (incr->zone_name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_incr\" needs the parameter \"zone=name\"");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_kv_incr_check_keys(ngx_conf_t *cf, ngx_http_kv_loc_conf_t *klcf)
{
    ngx_uint_t            i;
    const char           *why;
    ngx_http_kv_incr_t  **incr;

    if (klcf->incrs == NULL) {
        return NGX_OK;
    }

    incr = klcf->incrs->elts;

    for (i = 0; i < klcf->incrs->nelts; i++) {

        if (incr[i]->key.lengths) {
            continue;
        }

        why = ngx_http_kv_incr_key_wrong(klcf, &incr[i]->key.value);

        if (why) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "invalid key \"%V\" of \"kv_incr\", where "
                          "\"kv_key_chars\" is \"%s\": %s, in %V:%ui",
                          &incr[i]->key.value,
                          klcf->key_chars == KV_KEY_SAFE ? "safe" : "any", why,
                          &incr[i]->file, incr[i]->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_incr_init(ngx_conf_t *cf)
{
    ngx_uint_t                i;
    ngx_http_kv_incr_t      **incr;
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);
    incr = kmcf->incrs.elts;

    for (i = 0; i < kmcf->incrs.nelts; i++) {
        incr[i]->zone = ngx_http_kv_find_zone(kmcf, &incr[i]->zone_name);

        if (incr[i]->zone == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown kv zone \"%V\" of \"kv_incr\": there is no "
                          "\"kv_zone zone=%V:...\" in %V:%ui",
                          &incr[i]->zone_name, &incr[i]->zone_name,
                          &incr[i]->file, incr[i]->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_http_kv_incr_log(ngx_http_request_t *r)
{
    ngx_uint_t               i;
    ngx_array_t             *incrs;
    ngx_http_kv_incr_t     **incr;
    ngx_http_kv_loc_conf_t  *klcf;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);
    incrs = klcf->incrs;

    if (incrs == NULL || r != r->main) {
        return;
    }

    incr = incrs->elts;

    for (i = 0; i < incrs->nelts; i++) {
        ngx_http_kv_incr_count(r, klcf, incr[i]);
    }
}


static void
ngx_http_kv_incr_count(ngx_http_request_t *r, ngx_http_kv_loc_conf_t *klcf,
    ngx_http_kv_incr_t *incr)
{
    int64_t      number;
    ngx_str_t    key, by;
    const char  *why;

    if (ngx_http_kv_expression(r, &incr->key, &key) == NGX_ERROR
        || key.len == 0)
    {
        return;
    }

    why = ngx_http_kv_incr_key_wrong(klcf, &key);

    if (why) {
        ngx_http_kv_incr_refuse(r, incr, why, &key);
        return;
    }

    number = incr->number;

    if (incr->by.lengths) {

        if (ngx_http_kv_expression(r, &incr->by, &by) == NGX_ERROR) {
            return;
        }

        if (!kv_number_parse((char *) by.data, by.len, &number)) {
            ngx_http_kv_incr_refuse(r, incr, "by= is no whole number of 64 "
                                    "bits", &by);
            return;
        }
    }

    ngx_http_kv_sums_add(incr->zone, &key, number, incr->ttl);
}


/* NULL: nothing is. */

static const char *
ngx_http_kv_incr_key_wrong(ngx_http_kv_loc_conf_t *klcf, ngx_str_t *key)
{
    return key->len > KV_KEY_MAX
           ? "key too long"
           : kv_key_wrong((kv_key_chars_t) klcf->key_chars, (char *) key->data,
                          key->len);
}


static void
ngx_http_kv_incr_refuse(ngx_http_request_t *r, ngx_http_kv_incr_t *incr,
    const char *why, ngx_str_t *value)
{
    size_t  n;
    u_char  shown[NGX_HTTP_KV_SHOWN];

    ngx_http_kv_sums_refuse(incr->zone);

    if (!ngx_http_kv_may_log(incr->zone, NGX_HTTP_KV_LOG_INCR)) {
        return;
    }

    n = ngx_http_kv_shown(shown, value);

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "kv zone \"%V\": the request is not counted by \"kv_incr\" "
                  "in %V:%ui: %s: \"%*s%s\"", &incr->zone->name, &incr->file,
                  incr->line, why, n, shown, n < value->len ? "..." : "");
}
