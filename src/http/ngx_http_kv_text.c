
/*
 * Text that has come of lines, and is not whole yet: the body of a batch, a
 * line of a bulk load.  It is kept in the memory of the worker.
 *
 * All of it counts, in zone->text_bytes, however short: ten thousand clients
 * with 64 KiB each take as much as some that send long ones.  Where there is
 * too much the slowest clients are given up, of those that have taken some time
 * already; if there are none, whoever wants more is refused.  A short text may
 * take a part of the memory that long ones are not given.
 */


#include "http/ngx_http_kv.h"

#include "lines/kv_line.h"


/*
 * What all of a worker may take, bytes, or four times the longest line; with
 * short ones, a quarter more.
 */
#define NGX_HTTP_KV_TEXT_MAX    67108864
#define NGX_HTTP_KV_TEXT_SHORT  65536

/* the least that one takes */
#define NGX_HTTP_KV_TEXT_LEAST  4096

/* how long one takes at least before it is too slow, nanoseconds */
#define NGX_HTTP_KV_TEXT_SLOW   1000000000ull

/* of how many of the oldest the slowest is given up */
#define NGX_HTTP_KV_TEXT_LOOK   64


static size_t ngx_http_kv_text_size(ngx_http_kv_text_t *text, size_t len,
    size_t max);
static ngx_int_t ngx_http_kv_text_space(ngx_http_kv_text_t *text, size_t size);
static ngx_http_kv_text_t *ngx_http_kv_text_slowest(ngx_http_kv_text_t *text);


ngx_int_t
ngx_http_kv_text_append(ngx_http_kv_text_t *text, const u_char *p, size_t n,
    size_t max)
{
    char                *data;
    size_t               size;
    ngx_http_kv_zone_t  *zone;

    if (n == 0) {
        return NGX_OK;
    }

    zone = text->step->ctx->zone;

    if (text->len + n > text->size) {

        size = ngx_http_kv_text_size(text, text->len + n, max);

        if (ngx_http_kv_text_space(text, size) != NGX_OK) {
            return NGX_DECLINED;
        }

        data = realloc(text->data, size);

        if (data == NULL) {
            return NGX_ERROR;
        }

        zone->text_bytes += size - text->size;

        text->data = data;
        text->size = size;
    }

    if (!text->comes) {
        text->comes = 1;
        text->begun = kv_now_ns();
        ngx_queue_insert_tail(&zone->texts, &text->queue);
    }

    ngx_memcpy(text->data + text->len, p, n);
    text->len += n;

    return NGX_OK;
}


/* To twice the size, so that it is copied twice at most. */

static size_t
ngx_http_kv_text_size(ngx_http_kv_text_t *text, size_t len, size_t max)
{
    size_t  size;

    if (len <= NGX_HTTP_KV_TEXT_SHORT) {
        max = NGX_HTTP_KV_TEXT_SHORT;
    }

    size = ngx_max(2 * text->size, NGX_HTTP_KV_TEXT_LEAST);
    size = ngx_min(size, max);

    return ngx_max(size, len);
}


/* Makes space for a text to have `size` bytes.  NGX_OK, or NGX_DECLINED. */

static ngx_int_t
ngx_http_kv_text_space(ngx_http_kv_text_t *text, size_t size)
{
    size_t               max;
    ngx_http_kv_text_t  *slow;
    ngx_http_kv_zone_t  *zone;

    zone = text->step->ctx->zone;

    max = ngx_max(NGX_HTTP_KV_TEXT_MAX, 4 * kv_line_max(zone->conf.max_value));
    max += size > NGX_HTTP_KV_TEXT_SHORT ? 0 : max / 4;

    while (zone->text_bytes + size - text->size > max) {
        slow = ngx_http_kv_text_slowest(text);

        if (slow == NULL) {
            return NGX_DECLINED;
        }

        ngx_http_kv_text_free(slow);

        slow->cut = 1;
        ngx_http_kv_step_next(slow->step);
    }

    return NGX_OK;
}


/* The other one that came with the fewest bytes a second, or NULL. */

static ngx_http_kv_text_t *
ngx_http_kv_text_slowest(ngx_http_kv_text_t *text)
{
    double               pace, least;
    uint64_t             now;
    ngx_uint_t           n;
    ngx_queue_t         *q, *texts;
    ngx_http_kv_text_t  *other, *slowest;

    texts = &text->step->ctx->zone->texts;
    now = kv_now_ns();
    slowest = NULL;
    least = 0;

    for (q = ngx_queue_head(texts), n = 0;
         q != texts && n < NGX_HTTP_KV_TEXT_LOOK;
         q = ngx_queue_next(q), n++)
    {
        other = ngx_queue_data(q, ngx_http_kv_text_t, queue);

        if (now - other->begun < NGX_HTTP_KV_TEXT_SLOW) {
            break;
        }

        pace = (double) other->len / (double) (now - other->begun);

        if (other != text && (slowest == NULL || pace < least)) {
            slowest = other;
            least = pace;
        }
    }

    return slowest;
}


void
ngx_http_kv_text_whole(ngx_http_kv_text_t *text)
{
    if (text->comes) {
        text->comes = 0;
        ngx_queue_remove(&text->queue);
    }
}


void
ngx_http_kv_text_free(ngx_http_kv_text_t *text)
{
    ngx_http_kv_text_whole(text);

    text->step->ctx->zone->text_bytes -= text->size;

    free(text->data);

    text->data = NULL;
    text->len = 0;
    text->size = 0;
}
