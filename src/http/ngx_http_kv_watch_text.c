
/*
 * The memory of a stream's text: buffers, which are used again, and given back
 * when all was sent.  A first one is kept: it is enough for a stream that has
 * an event now and then.
 */


#include "http/ngx_http_kv_watch_private.h"


/* bytes of a buffer, and of the first one */
#define NGX_HTTP_KV_WATCH_BUFFER   4096
#define NGX_HTTP_KV_WATCH_FIRST    256


static ngx_buf_t *ngx_http_kv_watch_buffer(ngx_http_kv_watch_t *watch);
static ngx_int_t ngx_http_kv_watch_allocate(ngx_http_kv_watch_t *watch,
    ngx_buf_t *b);
static void ngx_http_kv_watch_text_free_chain(ngx_http_kv_watch_t *watch,
    ngx_chain_t *cl);


void
ngx_http_kv_watch_put(ngx_http_kv_watch_t *watch, const u_char *p, size_t n)
{
    size_t      size;
    ngx_buf_t  *b;

    while (n && !watch->failed) {
        b = ngx_http_kv_watch_buffer(watch);

        if (b == NULL) {
            watch->failed = 1;
            return;
        }

        size = ngx_min(n, (size_t) (b->end - b->last));

        b->last = ngx_cpymem(b->last, p, size);
        p += size;
        n -= size;
        watch->pending += size;
    }
}


/* One with space; NULL: no memory. */

static ngx_buf_t *
ngx_http_kv_watch_buffer(ngx_http_kv_watch_t *watch)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (watch->last && watch->last->buf->last < watch->last->buf->end) {
        return watch->last->buf;
    }

    cl = ngx_chain_get_free_buf(watch->ctx->request->pool, &watch->free);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;

    if (b->start == NULL && ngx_http_kv_watch_allocate(watch, b) != NGX_OK) {
        return NULL;
    }

    b->pos = b->start;
    b->last = b->start;
    b->flush = 0;

    cl->next = NULL;

    if (watch->last) {
        watch->last->next = cl;

    } else {
        watch->out = cl;
    }

    watch->last = cl;

    return b;
}


static ngx_int_t
ngx_http_kv_watch_allocate(ngx_http_kv_watch_t *watch, ngx_buf_t *b)
{
    size_t               size;
    ngx_http_request_t  *r;

    r = watch->ctx->request;

    if (watch->first == NULL) {
        size = NGX_HTTP_KV_WATCH_FIRST;

        watch->first = ngx_palloc(r->pool, size);
        b->start = watch->first;

    } else {
        size = NGX_HTTP_KV_WATCH_BUFFER;

        b->start = ngx_alloc(size, r->connection->log);
    }

    if (b->start == NULL) {
        return NGX_ERROR;
    }

    if (b->start != watch->first) {
        watch->memory += size;
        watch->ctx->zone->watches->memory += size;
    }

    b->end = b->start + size;
    b->tag = (ngx_buf_tag_t) &ngx_http_kv_module;
    b->temporary = 1;

    return NGX_OK;
}


void
ngx_http_kv_watch_text_over(ngx_http_kv_watch_t *watch)
{
    ngx_chain_t  *cl, **last;

    if (watch->busy || watch->out || watch->memory == 0) {
        return;
    }

    watch->ctx->zone->watches->memory -= watch->memory;
    watch->memory = 0;

    ngx_http_kv_watch_text_free_chain(watch, watch->free);

    /* the first one is to be used first */

    for (last = &watch->free; *last; last = &(*last)->next) {
        cl = *last;

        if (cl->buf->start) {
            *last = cl->next;
            cl->next = watch->free;
            watch->free = cl;
            return;
        }
    }
}


void
ngx_http_kv_watch_text_free(void *data)
{
    ngx_http_kv_watch_t *watch = data;

    ngx_http_kv_watch_text_free_chain(watch, watch->out);
    ngx_http_kv_watch_text_free_chain(watch, watch->busy);
    ngx_http_kv_watch_text_free_chain(watch, watch->free);
}


static void
ngx_http_kv_watch_text_free_chain(ngx_http_kv_watch_t *watch, ngx_chain_t *cl)
{
    ngx_buf_t  *b;

    for ( /* void */ ; cl; cl = cl->next) {
        b = cl->buf;

        if (b->start && b->start != watch->first) {
            ngx_free(b->start);
            b->start = NULL;
        }
    }
}
