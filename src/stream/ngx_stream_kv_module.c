
/*
 * ngx_stream_kv_module: the directive kv_get of stream{}, for zones that http{}
 * declares.
 *
 * It is a module of its own, because nginx's stream may be one that is loaded
 * (as Debian's is) or not be there at all, and it needs both that and
 * ngx_http_kv_module: it is loaded behind them.
 *
 * Where http{} and stream{} stand, and in which order, does not matter.  So the
 * zones are looked up when the whole configuration is read, which nginx tells
 * core modules alone: a second module is there for that.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_stream.h>

#include "http/ngx_http_kv_get.h"


typedef struct {
    ngx_http_kv_get_t            get;
    ngx_stream_complex_value_t   key;
    ngx_stream_complex_value_t   value;       /* the default */
    ngx_stream_variable_t       *variable;    /* until stream{} is read */
} ngx_stream_kv_variable_t;


typedef struct {
    ngx_array_t                  variables;   /* of pointers to these */
} ngx_stream_kv_main_conf_t;


static char *ngx_stream_kv_get(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_stream_kv_compile(ngx_conf_t *cf, ngx_str_t *source,
    ngx_stream_complex_value_t *cv);
static ngx_stream_variable_t *ngx_stream_kv_add(ngx_conf_t *cf,
    ngx_http_kv_get_t *get);
static ngx_int_t ngx_stream_kv_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_stream_kv_expression(ngx_stream_session_t *s,
    ngx_stream_complex_value_t *expression, ngx_str_t *value);
static ngx_uint_t ngx_stream_kv_handshake(ngx_stream_session_t *s);
static void *ngx_stream_kv_create_main_conf(ngx_conf_t *cf);
static ngx_int_t ngx_stream_kv_postconfiguration(ngx_conf_t *cf);
static char *ngx_stream_kv_init_conf(ngx_cycle_t *cycle, void *conf);


static ngx_command_t  ngx_stream_kv_commands[] = {

    { ngx_string("kv_get"),
      NGX_STREAM_MAIN_CONF|NGX_CONF_2MORE,
      ngx_stream_kv_get,
      NGX_STREAM_MAIN_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_kv_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_stream_kv_postconfiguration,       /* postconfiguration */

    ngx_stream_kv_create_main_conf,        /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL                                   /* merge server configuration */
};


ngx_module_t  ngx_stream_kv_module = {
    NGX_MODULE_V1,
    &ngx_stream_kv_module_ctx,             /* module context */
    ngx_stream_kv_commands,                /* module directives */
    NGX_STREAM_MODULE,                     /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_core_module_t  ngx_stream_kv_conf_module_ctx = {
    ngx_string("stream_kv_conf"),
    NULL,                                  /* create configuration */
    ngx_stream_kv_init_conf                /* init configuration */
};


ngx_module_t  ngx_stream_kv_conf_module = {
    NGX_MODULE_V1,
    &ngx_stream_kv_conf_module_ctx,        /* module context */
    NULL,                                  /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static char *
ngx_stream_kv_get(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_kv_main_conf_t *kmcf = conf;

    ngx_stream_kv_variable_t  *kv, **p;

    (void) cmd;

    kv = ngx_pcalloc(cf->pool, sizeof(ngx_stream_kv_variable_t));
    p = ngx_array_push(&kmcf->variables);

    if (kv == NULL || p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = kv;

    if (ngx_http_kv_get_args(cf, &kv->get) != NGX_CONF_OK
        || ngx_stream_kv_compile(cf, &kv->get.key, &kv->key) != NGX_OK
        || ngx_stream_kv_compile(cf, &kv->get.value, &kv->value) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    kv->variable = ngx_stream_kv_add(cf, &kv->get);
    if (kv->variable == NULL) {
        return NGX_CONF_ERROR;
    }

    kv->variable->get_handler = ngx_stream_kv_variable;
    kv->variable->data = (uintptr_t) kv;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_stream_kv_compile(ngx_conf_t *cf, ngx_str_t *source,
    ngx_stream_complex_value_t *cv)
{
    ngx_stream_compile_complex_value_t  ccv;

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = source;
    ccv.complex_value = cv;

    return ngx_stream_compile_complex_value(&ccv);
}


/* NULL: another directive has the name, which is logged. */

static ngx_stream_variable_t *
ngx_stream_kv_add(ngx_conf_t *cf, ngx_http_kv_get_t *get)
{
    ngx_stream_variable_t  *v;

    v = ngx_stream_add_variable(cf, &get->variable, NGX_STREAM_VAR_CHANGEABLE);
    if (v == NULL) {
        return NULL;
    }

    if (v->get_handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the variable \"$%V\" of \"kv_get\" is defined "
                           "before, by another directive: give it another "
                           "name", &get->variable);
        return NULL;
    }

    return v;
}


static ngx_int_t
ngx_stream_kv_variable(ngx_stream_session_t *s, ngx_stream_variable_value_t *v,
    uintptr_t data)
{
    ngx_stream_kv_variable_t *kv = (ngx_stream_kv_variable_t *) data;

    ngx_int_t          rc;
    ngx_str_t          key, value;
    ngx_uint_t         raw;
    ngx_connection_t  *c;

    if (ngx_stream_kv_expression(s, &kv->key, &key) != NGX_OK) {
        return NGX_ERROR;
    }

    c = s->connection;
    raw = kv->get.raw || ngx_stream_kv_handshake(s);

    rc = ngx_http_kv_get_value(&kv->get, c->pool, c->log, &key, raw, &value);

    if (rc == NGX_DECLINED) {
        rc = ngx_stream_kv_expression(s, &kv->value, &value);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = value.len;
    v->data = value.data;

    return NGX_OK;
}


/* As ngx_http_kv_expression(), see there: two passes measure, one copies. */

static ngx_int_t
ngx_stream_kv_expression(ngx_stream_session_t *s,
    ngx_stream_complex_value_t *expression, ngx_str_t *value)
{
    ngx_uint_t                  i;
    ngx_stream_script_code_pt   code;
    ngx_stream_script_engine_t  e;

    if (expression->lengths == NULL) {
        *value = expression->value;
        return NGX_OK;
    }

    ngx_stream_script_flush_complex_value(s, expression);

    ngx_memzero(&e, sizeof(ngx_stream_script_engine_t));
    e.session = s;
    e.flushed = 1;

    for (i = 0; i < 2; i++) {
        value->len = 0;

        for (e.ip = expression->lengths; *(uintptr_t *) e.ip; /* void */ ) {
            value->len += (*(ngx_stream_script_len_code_pt *) e.ip)(&e);
        }
    }

    value->data = ngx_pnalloc(s->connection->pool, value->len);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    e.pos = value->data;
    e.buf = *value;

    for (e.ip = expression->values; *(uintptr_t *) e.ip; /* void */ ) {
        code = *(ngx_stream_script_code_pt *) e.ip;
        code(&e);
    }

    return e.pos == value->data + value->len ? NGX_OK : NGX_ERROR;
}


/* Whether nginx evaluates "ssl_certificate", where a value must be whole. */

static ngx_uint_t
ngx_stream_kv_handshake(ngx_stream_session_t *s)
{
#if (NGX_SSL || NGX_COMPAT)

    return s->connection->ssl && !s->connection->ssl->handshaked;

#else

    return 0;

#endif
}


static void *
ngx_stream_kv_create_main_conf(ngx_conf_t *cf)
{
    ngx_stream_kv_main_conf_t  *kmcf;

    kmcf = ngx_pcalloc(cf->pool, sizeof(ngx_stream_kv_main_conf_t));

    if (kmcf == NULL
        || ngx_array_init(&kmcf->variables, cf->pool, 4,
                          sizeof(ngx_stream_kv_variable_t *))
           != NGX_OK)
    {
        return NULL;
    }

    return kmcf;
}


static ngx_int_t
ngx_stream_kv_postconfiguration(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_stream_kv_variable_t   **kv;
    ngx_stream_kv_main_conf_t   *kmcf;

    kmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_kv_module);
    kv = kmcf->variables.elts;

    for (i = 0; i < kmcf->variables.nelts; i++) {

        if (kv[i]->variable->get_handler != ngx_stream_kv_variable) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "the variable \"$%V\" of \"kv_get\" is defined "
                          "again, by another directive: give it another name, "
                          "in %V:%ui", &kv[i]->get.variable, &kv[i]->get.file,
                          kv[i]->get.line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static char *
ngx_stream_kv_init_conf(ngx_cycle_t *cycle, void *conf)
{
    ngx_uint_t                   i;
    ngx_stream_kv_variable_t   **kv;
    ngx_stream_kv_main_conf_t   *kmcf;

    (void) conf;

    kmcf = ngx_stream_cycle_get_module_main_conf(cycle, ngx_stream_kv_module);

    if (kmcf == NULL) {
        return NGX_CONF_OK;
    }

    kv = kmcf->variables.elts;

    for (i = 0; i < kmcf->variables.nelts; i++) {

        if (ngx_http_kv_get_zone(cycle, cycle->log, &kv[i]->get) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
