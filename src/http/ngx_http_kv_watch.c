
/*
 * GET /watch: what changes, as a stream of events (text/event-stream).  Here is
 * the request, with its arguments.
 */


#include "http/ngx_http_kv_watch_private.h"


static const char *ngx_http_kv_watch_args(ngx_http_kv_watch_t *watch);
static const char *ngx_http_kv_watch_names(ngx_http_kv_watch_t *watch);
static const char *ngx_http_kv_watch_after(ngx_http_kv_watch_t *watch);
static ngx_str_t *ngx_http_kv_watch_last_id(ngx_http_request_t *r);


static const ngx_http_kv_arg_t  ngx_http_kv_watch_arg[] = {
    { ngx_string("prefix"), offsetof(ngx_http_kv_watch_t, prefix) },
    { ngx_string("key"), offsetof(ngx_http_kv_watch_t, key) },
    { ngx_string("after"), offsetof(ngx_http_kv_watch_t, after_arg) },
    { ngx_string("values"), offsetof(ngx_http_kv_watch_t, values_arg) },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_kv_watch(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t             rc;
    const char           *wrong;
    ngx_pool_cleanup_t   *text;
    ngx_http_cleanup_t   *cln;
    ngx_http_kv_watch_t  *watch;

    watch = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_watch_t));
    text = ngx_pool_cleanup_add(r->pool, 0);
    cln = ngx_http_cleanup_add(r, 0);

    if (watch == NULL || text == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    text->handler = ngx_http_kv_watch_text_free;
    text->data = watch;

    cln->handler = ngx_http_kv_watch_stop;
    cln->data = watch;

    watch->ctx = ctx;
    ctx->bulk = watch;

    wrong = "unknown argument: there are prefix, key, after and values\n";

    rc = ngx_http_kv_args_read(r, ngx_http_kv_watch_arg, watch, &wrong);

    if (rc == NGX_DECLINED) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    watch->name = watch->key.data ? watch->key : watch->prefix;

    if (rc != NGX_OK || ngx_http_kv_bound_name(ctx, &watch->name) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    wrong = ngx_http_kv_watch_args(watch);

    if (wrong) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    wrong = watch->key.data
            ? kv_key_wrong(ctx->key_chars, (char *) watch->name.data,
                           watch->name.len)
            : NULL;

    if (wrong) {
        return ngx_http_kv_reply_wrong(r, wrong);
    }

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    if (ngx_http_kv_awaiting > ngx_cycle->connection_n / 4 * 3) {
        return ngx_http_kv_reply(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "too many watches\n");
    }

    rc = ngx_http_kv_watch_try(watch);

    return rc == NGX_HTTP_KV_LATER ? ngx_http_kv_watch_hold(watch) : rc;
}


/* NULL, or what is wrong. */

static const char *
ngx_http_kv_watch_args(ngx_http_kv_watch_t *watch)
{
    ngx_str_t   *values;
    const char  *wrong;

    wrong = ngx_http_kv_watch_names(watch);

    if (wrong) {
        return wrong;
    }

    values = &watch->values_arg;

    if (values->data) {
        if (values->len != 1
            || (*values->data != '0' && *values->data != '1'))
        {
            return "invalid values: it is 0 or 1\n";
        }

        watch->values = *values->data == '1';
    }

    return ngx_http_kv_watch_after(watch);
}


static const char *
ngx_http_kv_watch_names(ngx_http_kv_watch_t *watch)
{
    if (watch->prefix.data && watch->key.data) {
        return "prefix and key are given: a watch takes one of them\n";
    }

    if (watch->key.data && watch->key.len == 0) {
        return "key cannot be empty\n";
    }

    if (watch->name.len > KV_KEY_MAX) {
        return "prefix or key is longer than a key\n";
    }

    if (watch->name.len == 0) {
        ngx_str_set(&watch->name, "");
    }

    return NULL;
}


/*
 * Where it begins: a browser that connects again sends the id of the last event
 * in a header, and the address that it had.
 */

static const char *
ngx_http_kv_watch_after(ngx_http_kv_watch_t *watch)
{
    ngx_str_t  *id;

    id = ngx_http_kv_watch_last_id(watch->ctx->request);

    if (id && id->len) {
        watch->resumes = 1;

        return kv_version_parse_state(&watch->after, (char *) id->data,
                                      id->len)
               ? NULL : "invalid Last-Event-ID: it is a version\n";
    }

    id = &watch->after_arg;

    if (id->data == NULL) {
        return NULL;
    }

    watch->resumes = 1;

    return kv_version_parse_state(&watch->after, (char *) id->data,
                                      id->len)
           ? NULL : "invalid after: it is a version\n";
}


static ngx_str_t *
ngx_http_kv_watch_last_id(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("Last-Event-ID") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Last-Event-ID",
                                   h[i].key.len)
                   == 0)
            {
                return &h[i].value;
            }
        }
    }

    return NULL;
}


void
ngx_http_kv_watch_finish(ngx_http_kv_zone_t *zone)
{
    if (zone->watches) {
        ngx_http_kv_watch_hold_finish(zone->watches);
        ngx_http_kv_watch_end_all(zone->watches);
    }
}
