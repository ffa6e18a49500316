
/*
 * DELETE /keys?prefix=p&max=N: all keys that begin alike, or none.
 *
 * The worker looks the keys up and has them deleted as one group, each on the
 * condition that it is there.  If one has gone meanwhile nothing was done, and
 * the worker begins anew.  So the number that it answers is how many this
 * request, and no other, has deleted.
 */


#include "http/ngx_http_kv.h"


#define NGX_HTTP_KV_DELETE_MAX    1000

/* how often it begins anew, and after how many milliseconds where it waits */
#define NGX_HTTP_KV_DELETE_TRIES  100
#define NGX_HTTP_KV_DELETE_WAIT   1


typedef struct {
    ngx_http_kv_ctx_t         *ctx;

    /* the arguments; data == NULL: not given */
    ngx_str_t                  prefix;
    ngx_str_t                  max_arg;

    ngx_uint_t                 max;
    kv_group_t                 group;
    ngx_uint_t                 tries;
    ngx_uint_t                 waits;
    kv_version_t               version;       /* of the last delete */
    ngx_event_t                event;
} ngx_http_kv_delete_t;


static ngx_int_t ngx_http_kv_delete_args(ngx_http_kv_delete_t *del,
    const char **wrong);
static ngx_int_t ngx_http_kv_delete_try(ngx_http_kv_delete_t *del);
static ngx_int_t ngx_http_kv_delete_submit(ngx_http_kv_delete_t *del);
static ngx_int_t ngx_http_kv_delete_wait(ngx_http_kv_delete_t *del,
    kv_rc_t rc);
static void ngx_http_kv_delete_timeout(ngx_event_t *ev);
static void ngx_http_kv_delete_cleanup(void *data);
static kv_rc_t ngx_http_kv_delete_resume(ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_delete_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static ngx_int_t ngx_http_kv_delete_answer(ngx_http_kv_delete_t *del,
    kv_rc_t rc);
static ngx_int_t ngx_http_kv_delete_reply(ngx_http_kv_delete_t *del);


static const ngx_http_kv_arg_t  ngx_http_kv_delete_arg[] = {
    { ngx_string("prefix"), offsetof(ngx_http_kv_delete_t, prefix) },
    { ngx_string("max"), offsetof(ngx_http_kv_delete_t, max_arg) },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_kv_keys_delete(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t              rc;
    const char            *wrong;
    ngx_http_kv_delete_t  *del;

    del = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_delete_t));
    if (del == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    del->ctx = ctx;
    ctx->bulk = del;

    rc = ngx_http_kv_delete_args(del, &wrong);

    if (rc != NGX_OK) {
        return rc == NGX_ERROR
               ? NGX_HTTP_INTERNAL_SERVER_ERROR
               : ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    if (r->headers_in.if_match || r->headers_in.if_none_match) {
        return ngx_http_kv_reply(r, NGX_HTTP_NOT_IMPLEMENTED,
                                 "a delete of many keys cannot be "
                                 "conditional\n");
    }

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    r->main->count++;

    rc = ngx_http_kv_delete_try(del);

    if (rc != NGX_DONE) {
        r->main->count--;
    }

    return rc;
}


/* NGX_OK; NGX_DECLINED, and what is wrong; NGX_ERROR: no memory. */

static ngx_int_t
ngx_http_kv_delete_args(ngx_http_kv_delete_t *del, const char **wrong)
{
    ngx_int_t  rc, n;

    *wrong = "unknown argument: there are prefix and max\n";

    rc = ngx_http_kv_args_read(del->ctx->request, ngx_http_kv_delete_arg, del,
                               wrong);
    if (rc != NGX_OK) {
        return rc;
    }

    del->max = NGX_HTTP_KV_DELETE_MAX;

    if (del->prefix.len == 0) {
        *wrong = "prefix cannot be empty\n";
        return NGX_DECLINED;
    }

    if (del->prefix.len > KV_KEY_MAX) {
        *wrong = "prefix is longer than a key\n";
        return NGX_DECLINED;
    }

    if (del->max_arg.data) {
        n = ngx_atoi(del->max_arg.data, del->max_arg.len);

        if (n < 1 || n > (ngx_int_t) KV_GROUP_MAX) {
            *wrong = "invalid max: it is a number from 1 to 1024\n";
            return NGX_DECLINED;
        }

        del->max = n;
    }

    return NGX_OK;
}


/* NGX_DONE: it goes on; or what the request ends with. */

static ngx_int_t
ngx_http_kv_delete_try(ngx_http_kv_delete_t *del)
{
    kv_rc_t              rc;
    ngx_http_kv_ctx_t   *ctx;

    ctx = del->ctx;

    rc = ngx_http_kv_entered(ctx->zone) == NGX_OK
         ? kv_store_delete_prefix(ctx->zone->store, del->prefix.data,
                                  del->prefix.len, (unsigned) del->max,
                                  &del->group)
         : KV_UNAVAILABLE;

    if (rc == KV_OK && del->group.op) {
        return ngx_http_kv_delete_submit(del);
    }

    return ngx_http_kv_delete_wait(del, rc);
}


static ngx_int_t
ngx_http_kv_delete_submit(ngx_http_kv_delete_t *del)
{
    if (ngx_http_kv_attach(del->ctx, del->group.op) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    del->ctx->keeps = 1;

    ngx_http_kv_submit(del->ctx, ngx_http_kv_delete_done);

    return NGX_DONE;
}


static void
ngx_http_kv_delete_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_int_t              end;
    ngx_http_kv_delete_t  *del;

    del = ctx->bulk;

    if (rc == KV_OK) {
        del->version = kv_store_group_version(ctx->zone->store, &del->group);
    }

    ngx_http_kv_detach(ctx);

    if (rc == KV_PRECONDITION) {

        /* another client was quicker with one of the keys */

        rc = del->tries++ < NGX_HTTP_KV_DELETE_TRIES ? KV_AGAIN
                                                     : KV_UNAVAILABLE;
    }

    end = ngx_http_kv_delete_wait(del, rc);

    if (end != NGX_DONE) {
        ngx_http_kv_finish(ctx->request, end);
    }
}


/* Tries again later, if that may help; else the answer. */

static ngx_int_t
ngx_http_kv_delete_wait(ngx_http_kv_delete_t *del, kv_rc_t rc)
{
    ngx_http_cleanup_t  *cln;

    if (rc == KV_NO_MEMORY
        && ngx_http_kv_reserve_wait(del->ctx, 0, ngx_http_kv_delete_resume)
           == NGX_OK)
    {
        return NGX_DONE;
    }

    if (rc != KV_AGAIN) {
        return ngx_http_kv_delete_answer(del, rc);
    }

    if (del->event.handler == NULL) {
        cln = ngx_http_cleanup_add(del->ctx->request, 0);
        if (cln == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        cln->handler = ngx_http_kv_delete_cleanup;
        cln->data = del;

        del->event.handler = ngx_http_kv_delete_timeout;
        del->event.data = del;
        del->event.log = del->ctx->request->connection->log;
    }

    ngx_add_timer(&del->event, NGX_HTTP_KV_DELETE_WAIT);

    return NGX_DONE;
}


static void
ngx_http_kv_delete_timeout(ngx_event_t *ev)
{
    ngx_http_kv_delete_t *del = ev->data;

    ngx_int_t  rc;

    if (++del->waits % KV_STORE_WATCH == 0) {

        /* the committer may have died in the middle of a group */

        ngx_http_kv_process_events(del->ctx->zone);
    }

    rc = ngx_http_kv_delete_try(del);

    if (rc != NGX_DONE) {
        ngx_http_kv_finish(del->ctx->request, rc);
    }
}


static void
ngx_http_kv_delete_cleanup(void *data)
{
    ngx_http_kv_delete_t *del = data;

    if (del->event.timer_set) {
        ngx_del_timer(&del->event);
    }
}


/* There may be memory for the group now. */

static kv_rc_t
ngx_http_kv_delete_resume(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t                rc;
    ngx_int_t              end;
    ngx_http_kv_delete_t  *del;

    del = ctx->bulk;

    rc = kv_store_delete_prefix(ctx->zone->store, del->prefix.data,
                                del->prefix.len, (unsigned) del->max,
                                &del->group);

    if (rc == KV_NO_MEMORY) {
        return rc;
    }

    end = rc == KV_OK && del->group.op ? ngx_http_kv_delete_submit(del)
                                       : ngx_http_kv_delete_wait(del, rc);

    if (end != NGX_DONE) {
        ngx_http_kv_finish(ctx->request, end);
    }

    return KV_OK;
}


static ngx_int_t
ngx_http_kv_delete_answer(ngx_http_kv_delete_t *del, kv_rc_t rc)
{
    ngx_http_request_t  *r;

    r = del->ctx->request;

    switch (rc) {

    case KV_OK:
        return ngx_http_kv_delete_reply(del);

    case KV_OVERFLOW:
        return ngx_http_kv_reply(r, NGX_HTTP_CONFLICT,
                                 "more keys than max begin with it: none is "
                                 "deleted\n");

    case KV_DECLINED:
        return ngx_http_kv_reply(r, NGX_HTTP_CONFLICT,
                                 "the keys that begin with it take more than a "
                                 "batch of the log: none is deleted\n");

    default:
        ngx_http_kv_process_events(del->ctx->zone);
        return ngx_http_kv_reply_rc(r, rc);
    }
}


/* 200, with how many were deleted. */

static ngx_int_t
ngx_http_kv_delete_reply(ngx_http_kv_delete_t *del)
{
    char                *tag;
    size_t               n;
    ngx_buf_t           *b;
    ngx_http_request_t  *r;

    r = del->ctx->request;

    b = ngx_create_temp_buf(r->pool, NGX_INT_T_LEN);
    tag = ngx_pnalloc(r->pool, KV_VERSION_TAG);

    if (b == NULL || tag == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "%ui", (ngx_uint_t) del->group.n);

    if (del->group.n) {

        /* without quotes, as a list has it */

        n = kv_version_tag(&del->version, tag);
        tag[n - 1] = '\0';

        if (ngx_http_kv_header(r, "KV-Version", tag + 1) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_kv_reply_buf(r, "text/plain", b);
}
