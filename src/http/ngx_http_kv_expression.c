
/*
 * Expressions of nginx: text with variables in it.
 *
 * nginx evaluates one in two passes: it measures its parts, and then copies
 * them.  Where a part is what a regular expression has found ($1, $name), and a
 * variable behind it gets its value by another one (a "map"), the first pass
 * measures what the second does not copy: without a guard, which nginx got
 * late, it writes past the end then, of what a client has sent.  So here all
 * variables get their values before it is measured, and, other than by
 * ngx_http_complex_value(), no volatile one gets another behind that.
 */


#include "http/ngx_http_kv.h"


typedef struct {
    size_t      len;
    ngx_uint_t  variables;
    ngx_uint_t  empty;            /* of its parts */
} ngx_http_kv_measure_t;


static void ngx_http_kv_expression_measure(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_http_kv_measure_t *measure);
static ngx_int_t ngx_http_kv_expression_copy(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_str_t *value);


ngx_int_t
ngx_http_kv_expression(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_str_t *value)
{
    ngx_http_kv_measure_t  measure;

    if (expression->lengths == NULL) {
        *value = expression->value;
        return NGX_OK;
    }

    ngx_http_script_flush_complex_value(r, expression);

    ngx_http_kv_expression_measure(r, expression, &measure);

    if (measure.variables > 1) {
        ngx_http_kv_expression_measure(r, expression, &measure);
    }

    value->len = measure.len;

    value->data = ngx_pnalloc(r->pool, value->len);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_kv_expression_copy(r, expression, value) != NGX_OK) {
        return NGX_ERROR;
    }

    return measure.empty ? NGX_DECLINED : NGX_OK;
}


static void
ngx_http_kv_expression_measure(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_http_kv_measure_t *measure)
{
    size_t                       n;
    ngx_http_script_engine_t     e;
    ngx_http_script_len_code_pt  code;

    ngx_memzero(measure, sizeof(ngx_http_kv_measure_t));
    ngx_memzero(&e, sizeof(ngx_http_script_engine_t));

    e.ip = expression->lengths;
    e.request = r;
    e.flushed = 1;

    while (*(uintptr_t *) e.ip) {
        code = *(ngx_http_script_len_code_pt *) e.ip;
        measure->variables += code != ngx_http_script_copy_len_code;

        n = code(&e);
        measure->empty += n == 0;
        measure->len += n;
    }
}


/* NGX_ERROR: it has another length than the value has memory. */

static ngx_int_t
ngx_http_kv_expression_copy(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_str_t *value)
{
    ngx_http_script_code_pt   code;
    ngx_http_script_engine_t  e;

    ngx_memzero(&e, sizeof(ngx_http_script_engine_t));

    e.ip = expression->values;
    e.request = r;
    e.flushed = 1;
    e.pos = value->data;
    e.buf = *value;

    while (*(uintptr_t *) e.ip) {
        code = *(ngx_http_script_code_pt *) e.ip;
        code(&e);
    }

    return e.pos == value->data + value->len ? NGX_OK : NGX_ERROR;
}
