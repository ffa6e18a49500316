
/*
 * The text of an answer that is made bit by bit; see
 * ngx_http_kv_keys_private.h.
 */


#include "http/ngx_http_kv_keys_private.h"

#include "base/kv_utf8.h"


/* bytes of a buffer */
#define NGX_HTTP_KV_PAGE_BUF  (32 * 1024)


u_char *
ngx_http_kv_page_space(ngx_http_kv_page_t *page, size_t n)
{
    ngx_chain_t  *cl;

    cl = page->last;

    if (cl && (size_t) (cl->buf->end - cl->buf->last) >= n) {
        return cl->buf->last;
    }

    cl = ngx_alloc_chain_link(page->pool);
    if (cl == NULL) {
        return NULL;
    }

    cl->buf = ngx_create_temp_buf(page->pool,
                                  ngx_max(n, NGX_HTTP_KV_PAGE_BUF));
    if (cl->buf == NULL) {
        return NULL;
    }

    cl->next = NULL;

    if (page->last) {
        page->last->next = cl;

    } else {
        page->first = cl;
    }

    page->last = cl;

    return cl->buf->last;
}


void
ngx_http_kv_page_used(ngx_http_kv_page_t *page, u_char *end)
{
    page->size += end - page->last->buf->last;
    page->last->buf->last = end;
}


ngx_int_t
ngx_http_kv_page_put(ngx_http_kv_page_t *page, const void *data, size_t n)
{
    u_char  *p;

    p = ngx_http_kv_page_space(page, n);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_kv_page_used(page, ngx_cpymem(p, data, n));

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_page_escape(ngx_http_kv_page_t *page, u_char *data, size_t n)
{
    u_char  *p;

    p = ngx_http_kv_page_space(page, n + ngx_escape_json(NULL, data, n));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_kv_page_used(page, (u_char *) ngx_escape_json(p, data, n));

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_page_string(ngx_http_kv_page_t *page, ngx_str_t *s)
{
    return ngx_http_kv_page_put(page, "\"", 1) == NGX_OK
           && ngx_http_kv_page_escape(page, s->data, s->len) == NGX_OK
           ? ngx_http_kv_page_put(page, "\"", 1) : NGX_ERROR;
}


ngx_int_t
ngx_http_kv_page_base64(ngx_http_kv_page_t *page, ngx_str_t *s)
{
    u_char     *p;
    ngx_str_t   out;

    p = ngx_http_kv_page_space(page, ngx_base64_encoded_length(s->len));
    if (p == NULL) {
        return NGX_ERROR;
    }

    out.data = p;
    ngx_encode_base64(&out, s);
    ngx_http_kv_page_used(page, out.data + out.len);

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_page_member(ngx_http_kv_page_t *page, const char *name,
    ngx_str_t *s)
{
    ngx_uint_t  is_text;

    is_text = ngx_http_kv_page_is_text(s);

    if (ngx_http_kv_page_put(page, "\"", 1) != NGX_OK
        || ngx_http_kv_page_put(page, name, ngx_strlen(name)) != NGX_OK
        || ngx_http_kv_page_put(page, "_base64", is_text ? 0 : 7) != NGX_OK
        || ngx_http_kv_page_put(page, "\":\"", 3) != NGX_OK
        || (is_text ? ngx_http_kv_page_escape(page, s->data, s->len)
                    : ngx_http_kv_page_base64(page, s)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_kv_page_put(page, "\"", 1);
}


ngx_uint_t
ngx_http_kv_page_is_text(const ngx_str_t *s)
{
    size_t  i, n;

    for (i = 0; i < s->len; i += n) {
        n = kv_utf8_size((char *) s->data + i, s->len - i);

        if (n == 0) {
            return 0;
        }
    }

    return 1;
}


void
ngx_http_kv_page_join(ngx_http_kv_page_t *page, ngx_http_kv_page_t *other)
{
    if (other->size == 0) {
        return;
    }

    page->last->next = other->first;
    page->last = other->last;
    page->size += other->size;
}
