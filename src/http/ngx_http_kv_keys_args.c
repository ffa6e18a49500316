
/*
 * The arguments of lists.
 */


#include "http/ngx_http_kv_keys_private.h"


#define NGX_HTTP_KV_LIMIT      1000
#define NGX_HTTP_KV_LIMIT_MAX  10000


static const char *ngx_http_kv_keys_values(ngx_http_kv_keys_t *keys);
static const char *ngx_http_kv_keys_format(ngx_http_kv_keys_t *keys);
static ngx_uint_t ngx_http_kv_keys_wants_json(ngx_http_request_t *r);
static u_char *ngx_http_kv_keys_link_part(u_char *p, u_char *from,
    u_char *end);
static ngx_uint_t ngx_http_kv_keys_is_after(u_char *p, u_char *end);


static const ngx_http_kv_arg_t  ngx_http_kv_keys_arg[] = {
    { ngx_string("prefix"), offsetof(ngx_http_kv_keys_t, prefix) },
    { ngx_string("after"), offsetof(ngx_http_kv_keys_t, after) },
    { ngx_string("limit"), offsetof(ngx_http_kv_keys_t, limit_arg) },
    { ngx_string("delimiter"), offsetof(ngx_http_kv_keys_t, delimiter) },
    { ngx_string("values"), offsetof(ngx_http_kv_keys_t, values_arg) },
    { ngx_string("format"), offsetof(ngx_http_kv_keys_t, format_arg) },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_kv_keys_args(ngx_http_kv_keys_t *keys, const char **wrong)
{
    ngx_int_t  rc;

    *wrong = "unknown argument: there are prefix, after, limit, delimiter, "
             "values and format\n";

    rc = ngx_http_kv_args_read(keys->request, ngx_http_kv_keys_arg, keys,
                               wrong);
    if (rc != NGX_OK) {
        return rc;
    }

    /* what the client names is relative to what it may see */

    if (ngx_http_kv_bound_name(keys->ctx, &keys->prefix) != NGX_OK
        || (keys->after.data
            && ngx_http_kv_bound_name(keys->ctx, &keys->after) != NGX_OK))
    {
        return NGX_ERROR;
    }

    *wrong = ngx_http_kv_keys_values(keys);

    return *wrong ? NGX_DECLINED : NGX_OK;
}


/* What the arguments say. */

static const char *
ngx_http_kv_keys_values(ngx_http_kv_keys_t *keys)
{
    ngx_int_t  n;

    if (keys->prefix.len > KV_KEY_MAX || keys->after.len > KV_KEY_MAX) {
        return "prefix or after is longer than a key\n";
    }

    keys->limit = NGX_HTTP_KV_LIMIT;

    if (keys->limit_arg.data) {
        n = ngx_atoi(keys->limit_arg.data, keys->limit_arg.len);

        if (n < 1 || n > NGX_HTTP_KV_LIMIT_MAX) {
            return "invalid limit: it is a number from 1 to 10000\n";
        }

        keys->limit = n;
    }

    if (keys->delimiter.data && keys->delimiter.len == 0) {
        return "delimiter is empty\n";
    }

    if (keys->values_arg.data) {

        if (keys->values_arg.len != 1
            || (*keys->values_arg.data != '0' && *keys->values_arg.data != '1'))
        {
            return "invalid values: it is 0 or 1\n";
        }

        keys->values = *keys->values_arg.data == '1';
    }

    return ngx_http_kv_keys_format(keys);
}


static const char *
ngx_http_kv_keys_format(ngx_http_kv_keys_t *keys)
{
    ngx_str_t  *format;

    format = &keys->format_arg;

    if (format->data == NULL) {
        keys->format = ngx_http_kv_keys_wants_json(keys->request)
                       ? NGX_HTTP_KV_KEYS_AS_JSON
                       : keys->values ? NGX_HTTP_KV_KEYS_AS_LINES
                                      : NGX_HTTP_KV_KEYS_AS_TEXT;

    } else if (format->len == 4 && ngx_strncmp(format->data, "json", 4) == 0) {
        keys->format = NGX_HTTP_KV_KEYS_AS_JSON;

    } else if (format->len == 5 && ngx_strncmp(format->data, "lines", 5) == 0) {
        keys->format = NGX_HTTP_KV_KEYS_AS_LINES;

    } else if (format->len == 4 && ngx_strncmp(format->data, "text", 4) == 0) {
        keys->format = NGX_HTTP_KV_KEYS_AS_TEXT;

    } else {
        return "invalid format: it is text, lines or json\n";
    }

    if (keys->values && keys->format == NGX_HTTP_KV_KEYS_AS_TEXT) {
        return "values cannot be listed as text: format is lines or json\n";
    }

    return NULL;
}


static ngx_uint_t
ngx_http_kv_keys_wants_json(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == 6
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Accept", 6) == 0
                && ngx_strlcasestrn(h[i].value.data,
                                    h[i].value.data + h[i].value.len,
                                    (u_char *) "application/json", 15))
            {
                return 1;
            }
        }
    }

    return 0;
}


/* What a "rewrite" added to what the client sent, it adds again. */

char *
ngx_http_kv_keys_link(ngx_http_kv_keys_t *keys)
{
    u_char              *link, *p, *from, *next, *end, sep;
    ngx_str_t           *uri, last;
    ngx_http_request_t  *r;

    r = keys->request;
    uri = &r->unparsed_uri;
    last = ngx_http_kv_keys_name(keys, keys->last.data, keys->last.len);

    link = ngx_pnalloc(r->pool, 3 * (uri->len + last.len)
                                + sizeof("<?after=>; rel=\"next\""));
    if (link == NULL) {
        return NULL;
    }

    end = uri->data + uri->len;
    next = ngx_strlchr(uri->data, end, '#');
    end = next ? next : end;

    next = ngx_strlchr(uri->data, end, '?');
    next = next ? next : end;

    p = link;
    *p++ = '<';
    p = ngx_http_kv_keys_link_part(p, uri->data, next);
    sep = '?';

    while (next < end) {
        from = next + 1;
        next = ngx_strlchr(from, end, '&');
        next = next ? next : end;

        if (from < next && !ngx_http_kv_keys_is_after(from, next)) {
            *p++ = sep;
            p = ngx_http_kv_keys_link_part(p, from, next);
            sep = '&';
        }
    }

    *p++ = sep;
    p = ngx_cpymem(p, "after=", sizeof("after=") - 1);
    p = (u_char *) ngx_escape_uri(p, last.data, last.len,
                                  NGX_ESCAPE_URI_COMPONENT);

    (void) ngx_cpymem(p, ">; rel=\"next\"", sizeof(">; rel=\"next\""));

    return (char *) link;
}


/* Copies a part of the address, in which no bracket may be. */

static u_char *
ngx_http_kv_keys_link_part(u_char *p, u_char *from, u_char *end)
{
    for ( /* void */ ; from < end; from++) {

        if (*from == '<' || *from == '>' || *from == '"') {
            p = ngx_sprintf(p, "%%%02xi", (ngx_uint_t) *from);

        } else {
            *p++ = *from;
        }
    }

    return p;
}


static ngx_uint_t
ngx_http_kv_keys_is_after(u_char *p, u_char *end)
{
    return (size_t) (end - p) >= sizeof("after") - 1
           && ngx_strncmp(p, "after", sizeof("after") - 1) == 0
           && (p + sizeof("after") - 1 == end
               || p[sizeof("after") - 1] == '=');
}
