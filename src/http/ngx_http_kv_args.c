
/*
 * The arguments of a request, behind the question mark.
 */


#include "http/ngx_http_kv.h"

#include "base/kv_number.h"


/* bytes of an argument, each of them encoded */
#define NGX_HTTP_KV_ARG  (3 * KV_NUMBER_MAX)


static ngx_int_t ngx_http_kv_args_one(ngx_http_request_t *r,
    const ngx_http_kv_arg_t *arg, void *values, u_char *p, u_char *end,
    const char **wrong);


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


ngx_int_t
ngx_http_kv_args_read(ngx_http_request_t *r, const ngx_http_kv_arg_t *args,
    void *values, const char **wrong)
{
    u_char     *p, *end, *next;
    ngx_int_t   rc;

    end = r->args.data + r->args.len;

    for (p = r->args.data; p < end; p = next + 1) {
        next = ngx_strlchr(p, end, '&');
        next = next ? next : end;

        if (next == p) {
            continue;
        }

        rc = ngx_http_kv_args_one(r, args, values, p, next, wrong);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* Reads the argument that ends before `end`.  Results as above. */

static ngx_int_t
ngx_http_kv_args_one(ngx_http_request_t *r, const ngx_http_kv_arg_t *arg,
    void *values, u_char *p, u_char *end, const char **wrong)
{
    u_char     *eq, *src, *dst;
    ngx_str_t  *value;

    eq = ngx_strlchr(p, end, '=');
    eq = eq ? eq : end;

    for ( /* void */ ; arg->name.len; arg++) {

        if (arg->name.len == (size_t) (eq - p)
            && ngx_strncmp(arg->name.data, p, arg->name.len) == 0)
        {
            break;
        }
    }

    if (arg->name.len == 0) {
        return NGX_DECLINED;
    }

    value = (ngx_str_t *) ((char *) values + arg->where);

    if (value->data) {
        *wrong = "an argument is given twice\n";
        return NGX_DECLINED;
    }

    value->data = ngx_pnalloc(r->pool, end - eq + 1);

    if (value->data == NULL) {
        return NGX_ERROR;
    }

    src = eq < end ? eq + 1 : end;
    dst = value->data;
    ngx_unescape_uri(&dst, &src, end - src, 0);

    value->len = dst - value->data;

    return NGX_OK;
}
