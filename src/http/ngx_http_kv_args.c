
/*
 * The arguments of a request, behind the question mark.
 */


#include "http/ngx_http_kv.h"

#include "base/kv_number.h"


/* bytes of an argument, each of them encoded */
#define NGX_HTTP_KV_ARG  (3 * KV_NUMBER_MAX)


ngx_int_t
ngx_http_kv_arg_number(ngx_http_request_t *r, const char *name,
    int64_t *number)
{
    u_char     *src, *dst, decoded[NGX_HTTP_KV_ARG];
    ngx_str_t   value;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &value) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (value.len > NGX_HTTP_KV_ARG) {
        return NGX_ERROR;
    }

    src = value.data;
    dst = decoded;
    ngx_unescape_uri(&dst, &src, value.len, 0);

    return kv_number_parse((char *) decoded, dst - decoded, number)
           ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_kv_arg_ttl(ngx_http_request_t *r, uint32_t least, uint32_t *ttl)
{
    int64_t    seconds;
    ngx_int_t  rc;

    rc = ngx_http_kv_arg_number(r, "ttl", &seconds);

    if (rc != NGX_OK) {
        return rc;
    }

    if (seconds < (int64_t) least || seconds > (int64_t) KV_STORE_TTL_MAX) {
        return NGX_ERROR;
    }

    *ttl = (uint32_t) seconds;

    return NGX_OK;
}
