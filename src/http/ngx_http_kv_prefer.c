
/*
 * What a client prefers (RFC 7240): "return=representation", of a DELETE the
 * value that it deletes.  All else is ignored, as the RFC says.
 */


#include "http/ngx_http_kv.h"


typedef enum {
    NGX_HTTP_KV_RETURN_ANY = 0,     /* nothing is said */
    NGX_HTTP_KV_RETURN_VALUE,
    NGX_HTTP_KV_RETURN_OTHER
} ngx_http_kv_return_t;


static ngx_http_kv_return_t ngx_http_kv_prefer_list(ngx_str_t *list);
static u_char *ngx_http_kv_prefer_word(u_char *p, u_char *end,
    ngx_str_t *word);
static u_char *ngx_http_kv_prefer_blanks(u_char *p, u_char *end);
static ngx_uint_t ngx_http_kv_prefer_is(ngx_str_t *word, const char *text);


/* Of several such preferences the first counts. */

ngx_uint_t
ngx_http_kv_prefers_value(ngx_http_request_t *r)
{
    ngx_uint_t             i;
    ngx_list_part_t       *part;
    ngx_table_elt_t       *h;
    ngx_http_kv_return_t   prefers;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_kv_prefer_is(&h[i].key, "Prefer")) {
                continue;
            }

            prefers = ngx_http_kv_prefer_list(&h[i].value);

            if (prefers != NGX_HTTP_KV_RETURN_ANY) {
                return prefers == NGX_HTTP_KV_RETURN_VALUE;
            }
        }
    }

    return 0;
}


/* Preferences with commas between them, each with or without parameters. */

static ngx_http_kv_return_t
ngx_http_kv_prefer_list(ngx_str_t *list)
{
    u_char     *p, *end;
    ngx_str_t   name, value;

    p = list->data;
    end = p + list->len;

    while (p < end) {
        p = ngx_http_kv_prefer_word(ngx_http_kv_prefer_blanks(p, end), end,
                                    &name);
        p = ngx_http_kv_prefer_blanks(p, end);

        ngx_str_null(&value);

        if (p < end && *p == '=') {
            p = ngx_http_kv_prefer_blanks(p + 1, end);
            p = ngx_http_kv_prefer_word(p, end, &value);
        }

        if (ngx_http_kv_prefer_is(&name, "return")) {
            return ngx_http_kv_prefer_is(&value, "representation")
                   ? NGX_HTTP_KV_RETURN_VALUE : NGX_HTTP_KV_RETURN_OTHER;
        }

        /* to the next one; a comma in quotes is none */

        while (p < end && *p != ',') {
            p = *p == '"' ? ngx_http_kv_prefer_word(p, end, &value) : p + 1;
        }

        p++;
    }

    return NGX_HTTP_KV_RETURN_ANY;
}


/* A token, or what stands in quotes. */

static u_char *
ngx_http_kv_prefer_word(u_char *p, u_char *end, ngx_str_t *word)
{
    if (p < end && *p == '"') {
        word->data = ++p;

        while (p < end && *p != '"') {
            p += *p == '\\' && end - p > 1 ? 2 : 1;
        }

        word->len = p - word->data;

        return p < end ? p + 1 : p;
    }

    word->data = p;

    while (p < end && ngx_strchr("=;,\" \t", *p) == NULL) {
        p++;
    }

    word->len = p - word->data;

    return p;
}


static u_char *
ngx_http_kv_prefer_blanks(u_char *p, u_char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}


static ngx_uint_t
ngx_http_kv_prefer_is(ngx_str_t *word, const char *text)
{
    return word->len == ngx_strlen(text)
           && ngx_strncasecmp(word->data, (u_char *) text, word->len) == 0;
}
