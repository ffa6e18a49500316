
/*
 * Values as variables: what kv_get of http{} and of stream{} have in common.
 *
 * Of nginx it needs its core alone, so that a module of stream{} can include
 * it.
 */


#ifndef _NGX_HTTP_KV_GET_H_INCLUDED_
#define _NGX_HTTP_KV_GET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct ngx_http_kv_zone_s  ngx_http_kv_zone_t;


/* A kv_get directive. */

typedef struct {
    ngx_str_t                  key;           /* an expression, not empty */
    ngx_str_t                  variable;      /* its name, without the "$" */
    ngx_str_t                  value;         /* by default: an expression */
    ngx_uint_t                 raw;

    ngx_http_kv_zone_t        *zone;          /* once ngx_http_kv_get_zone() */
    ngx_str_t                  zone_name;     /* has found it by this */
    ngx_str_t                  file;
    ngx_uint_t                 line;
} ngx_http_kv_get_t;


/*
 * Reads the arguments of the directive.  NGX_CONF_OK, or NGX_CONF_ERROR once it
 * has logged why.
 */
char *ngx_http_kv_get_args(ngx_conf_t *cf, ngx_http_kv_get_t *get);

/*
 * Finds the zone, when all of http{} is read.  NGX_OK, or NGX_ERROR once it has
 * logged to `log` why there is none.
 */
ngx_int_t ngx_http_kv_get_zone(ngx_cycle_t *cycle, ngx_log_t *log,
    ngx_http_kv_get_t *get);

/*
 * Reads the value of a key, in a worker: a copy in the pool, from which `raw`
 * leaves nothing out.  Any bytes may be asked for; what is no key has no value.
 * NGX_OK; NGX_DECLINED: there is none, or no store to read it from, or it is
 * longer than a variable may be; the last two are logged, once a second.
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_get_value(const ngx_http_kv_get_t *get, ngx_pool_t *pool,
    ngx_log_t *log, const ngx_str_t *key, ngx_uint_t raw, ngx_str_t *value);


#endif /* _NGX_HTTP_KV_GET_H_INCLUDED_ */
