
/*
 * Expressions of nginx: text with variables in it.
 *
 * nginx evaluates one in two passes: it measures its parts, and then copies
 * them.  Where a part is what a regular expression has found ($1, $name), and a
 * variable behind it gets its value by another one (a "map"), the first pass
 * measures what the second does not copy: before nginx 1.31 it writes past the
 * end then, of what a client has sent.  So here all variables get their values
 * before.
 */


#include "http/ngx_http_kv.h"


static size_t ngx_http_kv_expression_len(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression);


ngx_int_t
ngx_http_kv_expression(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_str_t *value)
{
    size_t  n;

    if (expression->lengths == NULL) {
        *value = expression->value;
        return NGX_OK;
    }

    ngx_http_script_flush_complex_value(r, expression);

    (void) ngx_http_kv_expression_len(r, expression);
    n = ngx_http_kv_expression_len(r, expression);

    if (ngx_http_complex_value(r, expression, value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (n == 0) {
        return NGX_DECLINED;
    }

    return value->len == n ? NGX_OK : NGX_ERROR;
}


/* Its bytes; 0: one of its variables has none. */

static size_t
ngx_http_kv_expression_len(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression)
{
    size_t                       n, len;
    ngx_uint_t                   empty;
    ngx_http_script_engine_t     e;
    ngx_http_script_len_code_pt  code;

    ngx_memzero(&e, sizeof(ngx_http_script_engine_t));

    e.ip = expression->lengths;
    e.request = r;
    e.flushed = 1;

    len = 0;
    empty = 0;

    while (*(uintptr_t *) e.ip) {
        code = *(ngx_http_script_len_code_pt *) e.ip;
        n = code(&e);

        empty |= n == 0;
        len += n;
    }

    return empty ? 0 : len;
}
