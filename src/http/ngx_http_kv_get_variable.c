
/*
 * The directive kv_get of http{}.
 *
 * As with a variable of `map`, nginx asks for the value when the variable is
 * used for the first time in a request, and keeps it: one request, with its
 * subrequests, sees one value, however often it uses it.
 */


#include "http/ngx_http_kv.h"


typedef struct {
    ngx_http_kv_get_t          get;
    ngx_http_complex_value_t   key;
    ngx_http_complex_value_t   value;         /* the default */
    ngx_http_variable_t       *variable;      /* until all of http{} is read */
} ngx_http_kv_get_variable_t;


static ngx_http_variable_t *ngx_http_kv_get_add(ngx_conf_t *cf,
    ngx_http_kv_get_t *get);
static ngx_int_t ngx_http_kv_get_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_uint_t ngx_http_kv_get_handshake(ngx_http_request_t *r);


char *
ngx_http_kv_conf_get(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_main_conf_t *kmcf = conf;

    ngx_http_kv_get_variable_t  *gv, **p;

    (void) cmd;

    gv = ngx_pcalloc(cf->pool, sizeof(ngx_http_kv_get_variable_t));
    p = ngx_array_push(&kmcf->gets);

    if (gv == NULL || p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = gv;

    if (ngx_http_kv_get_args(cf, &gv->get) != NGX_CONF_OK
        || ngx_http_kv_conf_compile(cf, &gv->get.key, &gv->key) != NGX_OK
        || ngx_http_kv_conf_compile(cf, &gv->get.value, &gv->value) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    gv->variable = ngx_http_kv_get_add(cf, &gv->get);
    if (gv->variable == NULL) {
        return NGX_CONF_ERROR;
    }

    gv->variable->get_handler = ngx_http_kv_get_variable;
    gv->variable->data = (uintptr_t) gv;

    return NGX_CONF_OK;
}


/*
 * NULL: another directive has the name, which is logged.  One that "set" has
 * does not count, as nowhere else in nginx: it gives the variable other values
 * where it stands.
 */

static ngx_http_variable_t *
ngx_http_kv_get_add(ngx_conf_t *cf, ngx_http_kv_get_t *get)
{
    ngx_http_variable_t  *v;

    v = ngx_http_add_variable(cf, &get->variable,
                              NGX_HTTP_VAR_CHANGEABLE|NGX_HTTP_VAR_WEAK);
    if (v == NULL) {
        return NULL;
    }

    if (v->get_handler && !(v->flags & NGX_HTTP_VAR_WEAK)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the variable \"$%V\" of \"kv_get\" is defined "
                           "before, by another directive: give it another "
                           "name", &get->variable);
        return NULL;
    }

    v->flags &= ~NGX_HTTP_VAR_WEAK;

    return v;
}


ngx_int_t
ngx_http_kv_get_init(ngx_conf_t *cf)
{
    ngx_uint_t                    i;
    ngx_http_kv_main_conf_t      *kmcf;
    ngx_http_kv_get_variable_t  **gv;

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);
    gv = kmcf->gets.elts;

    for (i = 0; i < kmcf->gets.nelts; i++) {

        if (ngx_http_kv_get_zone(cf->cycle, cf->log, &gv[i]->get) != NGX_OK) {
            return NGX_ERROR;
        }

        if (gv[i]->variable->get_handler != ngx_http_kv_get_variable) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "the variable \"$%V\" of \"kv_get\" is defined "
                          "again, by another directive: give it another name, "
                          "in %V:%ui", &gv[i]->get.variable, &gv[i]->get.file,
                          gv[i]->get.line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_get_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_http_kv_get_variable_t *gv = (ngx_http_kv_get_variable_t *) data;

    ngx_int_t   rc;
    ngx_str_t   key, value;
    ngx_uint_t  raw;

    if (ngx_http_kv_expression(r, &gv->key, &key) == NGX_ERROR) {
        return NGX_ERROR;
    }

    raw = gv->get.raw || ngx_http_kv_get_handshake(r);

    rc = ngx_http_kv_get_value(&gv->get, r->pool, r->connection->log, &key, raw,
                               &value);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_kv_expression(r, &gv->value, &value);
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = value.len;
    v->data = value.data;

    return NGX_OK;
}


/*
 * Whether nginx evaluates "ssl_certificate", where a value must be whole.  It
 * does so in a request that the connection does not know of, as there is none
 * yet; a handshake alone would not tell, as QUIC takes requests before the end
 * of it.
 */

static ngx_uint_t
ngx_http_kv_get_handshake(ngx_http_request_t *r)
{
#if (NGX_HTTP_SSL)

    return r->connection->ssl
           && r->connection->data == (void *) r->http_connection;

#else

    return 0;

#endif
}
