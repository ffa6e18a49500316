
/*
 * What the files of lists share: ngx_http_kv_keys.c (a page, in steps),
 * ngx_http_kv_keys_entry.c (its entries), ngx_http_kv_keys_args.c (arguments),
 * ngx_http_kv_page.c (text).
 */


#ifndef _NGX_HTTP_KV_KEYS_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_KV_KEYS_PRIVATE_H_INCLUDED_


#include "http/ngx_http_kv.h"


/*
 * The work of a step, after which other events have their turn, in units of
 * about 100 ns: a key that is visited, one behind a search, 64 bytes of text.
 */
#define NGX_HTTP_KV_KEYS_STEP    4096
#define NGX_HTTP_KV_KEYS_VISIT   12
#define NGX_HTTP_KV_KEYS_SEARCH  64
#define NGX_HTTP_KV_KEYS_TEXT    64

/* bytes of an entry beside the key and the value */
#define NGX_HTTP_KV_KEYS_ENTRY   160


/* Text in buffers of a pool, which are not moved any more. */

typedef struct {
    ngx_pool_t                *pool;
    ngx_chain_t               *first;
    ngx_chain_t               *last;
    size_t                     size;
} ngx_http_kv_page_t;


typedef enum {
    NGX_HTTP_KV_KEYS_AS_TEXT = 0,             /* a key a line */
    NGX_HTTP_KV_KEYS_AS_LINES,                /* a JSON object a line */
    NGX_HTTP_KV_KEYS_AS_JSON
} ngx_http_kv_keys_format_t;


/* What is next to do with a value. */

typedef enum {
    NGX_HTTP_KV_VALUE_NONE = 0,
    NGX_HTTP_KV_VALUE_CHECK,                  /* whether it is UTF-8 */
    NGX_HTTP_KV_VALUE_STRING,
    NGX_HTTP_KV_VALUE_BASE64
} ngx_http_kv_value_t;


typedef struct {
    ngx_http_request_t        *request;
    ngx_http_kv_ctx_t         *ctx;

    /* the arguments; data == NULL: not given; both behind ctx->prefix */
    ngx_str_t                  prefix;
    ngx_str_t                  after;
    ngx_str_t                  limit_arg;
    ngx_str_t                  delimiter;
    ngx_str_t                  values_arg;
    ngx_str_t                  format_arg;
    ngx_uint_t                 limit;
    ngx_http_kv_keys_format_t  format;
    unsigned                   values:1;

    /* the page */
    ngx_http_kv_page_t         entries;       /* from the beginning */
    ngx_http_kv_page_t         prefixes;      /* JSON: they come behind them, */
    ngx_http_kv_page_t         no_text;       /* or here, if no UTF-8 */
    ngx_uint_t                 n;             /* keys and common prefixes */
    ngx_uint_t                 nprefixes;
    ngx_str_t                  last;          /* of these */
    unsigned                   more:1;        /* there are */

    /* where it goes on */
    ngx_http_kv_step_t         step;
    ngx_uint_t                 work;          /* left of this step */
    ngx_str_t                  from;
    unsigned                   behind:1;      /* `from`, not with it */
    ngx_str_t                  skip;          /* common prefix, or empty: to be
                                                 skipped */
    unsigned                   goes_on:1;     /* the list does */
    unsigned                   later:1;       /* it goes on in a moment */

    /* memory of the worker */
    size_t                     held;          /* bytes, as far as counted */
    uint64_t                   sent;          /* ns; 0: not in zone->lists */
    ngx_queue_t                lists;
    unsigned                   many:1;        /* others hold too much */

    unsigned                   over:1;        /* there is no memory */
    ngx_http_kv_value_t        todo;          /* of the last entry */
    ngx_str_t                  value;         /* its value, a copy */
    size_t                     done;          /* bytes of it */
    size_t                     controls;      /* characters in it */
} ngx_http_kv_keys_t;


/* ngx_http_kv_page.c */

/* Where the next `n` bytes go; NULL: no memory. */
u_char *ngx_http_kv_page_space(ngx_http_kv_page_t *page, size_t n);

/* They were written up to there. */
void ngx_http_kv_page_used(ngx_http_kv_page_t *page, u_char *end);

/*
 * Adds bytes; bytes as they stand in a JSON string; a JSON string; bytes in
 * base64, as they stand in a string.  NGX_OK, or NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_page_put(ngx_http_kv_page_t *page, const void *data,
    size_t n);
ngx_int_t ngx_http_kv_page_escape(ngx_http_kv_page_t *page, u_char *data,
    size_t n);
ngx_int_t ngx_http_kv_page_string(ngx_http_kv_page_t *page, ngx_str_t *s);
ngx_int_t ngx_http_kv_page_base64(ngx_http_kv_page_t *page, ngx_str_t *s);

/*
 * Adds a member of a JSON object: "name":"s" or, as a string can hold only what
 * is UTF-8, "name_base64":"...".  Results as above.
 */
ngx_int_t ngx_http_kv_page_member(ngx_http_kv_page_t *page, const char *name,
    ngx_str_t *s);

/* Whether it is UTF-8. */
ngx_uint_t ngx_http_kv_page_is_text(const ngx_str_t *s);

/* Adds what is on another page, to one that is not empty. */
void ngx_http_kv_page_join(ngx_http_kv_page_t *page,
    ngx_http_kv_page_t *other);

#define ngx_http_kv_page_text(page, text)                                     \
    ngx_http_kv_page_put(page, text, sizeof(text) - 1)


/* ngx_http_kv_keys_args.c */

/*
 * Reads the arguments.  NGX_OK; NGX_DECLINED, and what is wrong; NGX_ERROR: no
 * memory.
 */
ngx_int_t ngx_http_kv_keys_args(ngx_http_kv_keys_t *keys, const char **wrong);

/*
 * The header Link: the address of the next page (RFC 8288), which is the one
 * that the client sent but for "after".  NULL: no memory.
 */
char *ngx_http_kv_keys_link(ngx_http_kv_keys_t *keys);


/* ngx_http_kv_keys_entry.c */

/*
 * Adds a key with its entry, which expires in so many milliseconds (0: never),
 * or a common prefix.  NGX_OK; NGX_AGAIN: the rest is for
 * ngx_http_kv_keys_value(); NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_keys_add_key(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e, uint64_t expires);
ngx_int_t ngx_http_kv_keys_add_prefix(ngx_http_kv_keys_t *keys,
    ngx_str_t *prefix);

/*
 * Adds what is stored beside the value, if there is any, whatever kv_types the
 * location has.  NGX_OK, or NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_keys_add_type(ngx_http_kv_page_t *page,
    const kv_entry_t *e);

/*
 * Goes on with the value of the last entry as long as there is work in the
 * step.  Results as above.
 */
ngx_int_t ngx_http_kv_keys_value(ngx_http_kv_keys_t *keys);

/* A key, or a common prefix, as the client knows it: without ctx->prefix. */
static inline ngx_str_t
ngx_http_kv_keys_name(ngx_http_kv_keys_t *keys, const void *key, size_t n)
{
    ngx_str_t  name;

    name.data = (u_char *) key + keys->ctx->prefix.len;
    name.len = n - keys->ctx->prefix.len;

    return name;
}

/* Takes `n` units from the work that is left. */
static inline void
ngx_http_kv_keys_work(ngx_http_kv_keys_t *keys, size_t n)
{
    keys->work -= ngx_min(keys->work, n);
}


#endif /* _NGX_HTTP_KV_KEYS_PRIVATE_H_INCLUDED_ */
