
/*
 * DELETE /keys?prefix=p&max=N: all keys that begin alike, or none.
 *
 * The worker looks the keys up, in steps (ngx_http_kv_steps.c), and has them
 * deleted as one group, each on the condition that it is there.  If one has
 * gone meanwhile nothing was done, and the worker begins anew.  So the number
 * that it answers is how many this request, and no other, has deleted.
 */


#include "http/ngx_http_kv.h"


#define NGX_HTTP_KV_DELETE_MAX    1000

/* how often it begins anew */
#define NGX_HTTP_KV_DELETE_TRIES  100

/* keys that a step visits: less than half a millisecond */
#define NGX_HTTP_KV_DELETE_STEP   1024


typedef struct {
    ngx_http_kv_ctx_t         *ctx;

    /* the arguments; data == NULL: not given */
    ngx_str_t                  prefix;        /* behind ctx->prefix */
    ngx_str_t                  max_arg;

    ngx_uint_t                 max;
    ngx_uint_t                 tries;
    ngx_uint_t                 deleted;
    ngx_http_kv_step_t         step;
    kv_prefix_t                keys;
} ngx_http_kv_delete_t;


static ngx_int_t ngx_http_kv_delete_args(ngx_http_kv_delete_t *del,
    const char **wrong);
static ngx_int_t ngx_http_kv_delete_begin(ngx_http_kv_delete_t *del);
static void ngx_http_kv_delete_take(void *data);
static kv_rc_t ngx_http_kv_delete_look_up(ngx_http_kv_delete_t *del);
static ngx_int_t ngx_http_kv_delete_go_on(ngx_http_kv_delete_t *del,
    kv_rc_t rc);
static void ngx_http_kv_delete_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static kv_rc_t ngx_http_kv_delete_resume(ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_delete_drop(ngx_http_kv_delete_t *del);
static void ngx_http_kv_delete_refuse(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_delete_end(ngx_http_kv_delete_t *del, ngx_int_t rc);
static void ngx_http_kv_delete_cleanup(void *data);
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
    ngx_http_cleanup_t    *cln;
    ngx_http_kv_delete_t  *del;

    del = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_delete_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (del == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_kv_delete_cleanup;
    cln->data = del;

    del->ctx = ctx;
    ctx->bulk = del;
    ctx->refuse = ngx_http_kv_delete_refuse;
    ctx->keeps = 1;

    rc = ngx_http_kv_delete_args(del, &wrong);

    if (rc != NGX_OK) {
        return rc == NGX_ERROR
               ? NGX_HTTP_INTERNAL_SERVER_ERROR
               : ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    if (ngx_http_kv_has_condition(r)) {
        return ngx_http_kv_reply(r, NGX_HTTP_NOT_IMPLEMENTED,
                                 "a delete of many keys cannot be "
                                 "conditional\n");
    }

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    return ngx_http_kv_delete_begin(del);
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

    if (ngx_http_kv_bound_name(del->ctx, &del->prefix) != NGX_OK) {
        return NGX_ERROR;
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


/* The first step, now or when it is its turn.  A content handler's result. */

static ngx_int_t
ngx_http_kv_delete_begin(ngx_http_kv_delete_t *del)
{
    uint64_t             begun;
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = del->ctx->request;

    kv_store_prefix_begin(&del->keys, del->prefix.data, del->prefix.len,
                          (unsigned) del->max);

    del->step.ctx = del->ctx;
    del->step.take = ngx_http_kv_delete_take;
    del->step.data = del;
    del->step.watches = 1;

    r->main->count++;

    begun = ngx_http_kv_step_begin();

    if (begun == 0) {
        ngx_http_kv_step_next(&del->step);
        return NGX_DONE;
    }

    rc = ngx_http_kv_delete_go_on(del, ngx_http_kv_delete_look_up(del));

    ngx_http_kv_step_end(begun);

    if (rc != NGX_DONE) {
        r->main->count--;
    }

    return rc;
}


static void
ngx_http_kv_delete_take(void *data)
{
    ngx_http_kv_delete_t *del = data;

    ngx_int_t  rc;

    rc = ngx_http_kv_delete_go_on(del, ngx_http_kv_delete_look_up(del));

    if (rc != NGX_DONE) {
        ngx_http_kv_delete_end(del, rc);
    }
}


/*
 * Takes a step.  Results as of kv_store_prefix_step(); where it goes on, the
 * request has the group, else there is none any more.
 */

static kv_rc_t
ngx_http_kv_delete_look_up(ngx_http_kv_delete_t *del)
{
    kv_rc_t              rc;
    ngx_http_kv_zone_t  *zone;

    zone = del->ctx->zone;

    /* a worker that is to quit may have given its place up meanwhile */

    rc = !zone->draining && ngx_http_kv_entered(zone) == NGX_OK
         ? kv_store_prefix_step(zone->store, &del->keys,
                                NGX_HTTP_KV_DELETE_STEP)
         : KV_UNAVAILABLE;

    if (rc == KV_OK || rc == KV_BUSY || rc == KV_AGAIN) {

        if (del->keys.group.op == NULL || del->ctx->op) {
            return rc;
        }

        if (ngx_http_kv_attach(del->ctx, del->keys.group.op) == NGX_OK) {
            return rc;
        }

        rc = KV_UNAVAILABLE;
        del->keys.group.op = NULL;
    }

    ngx_http_kv_delete_drop(del);

    return rc;
}


/*
 * NGX_DONE: the request goes on, or has ended already; or what it ends with.
 */

static ngx_int_t
ngx_http_kv_delete_go_on(ngx_http_kv_delete_t *del, kv_rc_t rc)
{
    switch (rc) {

    case KV_OK:
        if (del->keys.group.n) {
            ngx_http_kv_submit(del->ctx, ngx_http_kv_delete_done);
            return NGX_DONE;
        }

        ngx_http_kv_delete_drop(del);
        break;

    case KV_BUSY:
        ngx_http_kv_step_next(&del->step);
        return NGX_DONE;

    case KV_AGAIN:
        ngx_http_kv_step_later(&del->step);
        return NGX_DONE;

    case KV_NO_MEMORY:
        if (ngx_http_kv_reserve_wait(del->ctx, 0, ngx_http_kv_delete_resume)
            == NGX_OK)
        {
            return NGX_DONE;
        }

        break;

    default:
        break;
    }

    ngx_http_kv_step_over(&del->step);

    return ngx_http_kv_delete_answer(del, rc);
}


static void
ngx_http_kv_delete_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_int_t              end;
    ngx_http_kv_delete_t  *del;

    del = ctx->bulk;

    if (rc == KV_OK) {
        del->deleted = del->keys.group.n;
        ctx->version = kv_store_group_version(ctx->zone->store,
                                              &del->keys.group);
    }

    ngx_http_kv_delete_drop(del);

    if (rc == KV_PRECONDITION) {

        /*
         * Another client was quicker with one of the keys.  At exit nothing
         * takes steps any more.
         */

        rc = del->tries++ < NGX_HTTP_KV_DELETE_TRIES && !ctx->zone->draining
             ? KV_AGAIN : KV_UNAVAILABLE;
    }

    end = ngx_http_kv_delete_go_on(del, rc);

    if (end != NGX_DONE) {
        ngx_http_kv_delete_end(del, end);
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

    rc = ngx_http_kv_delete_look_up(del);

    if (rc == KV_NO_MEMORY) {
        return rc;
    }

    end = ngx_http_kv_delete_go_on(del, rc);

    if (end != NGX_DONE) {
        ngx_http_kv_delete_end(del, end);
    }

    return KV_OK;
}


/* There is no group any more: a step begins another one. */

static void
ngx_http_kv_delete_drop(ngx_http_kv_delete_t *del)
{
    if (del->ctx->op) {
        ngx_http_kv_detach(del->ctx);

    } else if (del->keys.group.op) {
        kv_store_release(del->ctx->zone->store, del->keys.group.op);
    }

    kv_store_prefix_again(&del->keys);
}


/*
 * The request waits for memory in vain, or the zone is to be rebuilt, which
 * takes all operations away.
 */

static void
ngx_http_kv_delete_refuse(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_http_kv_delete_t  *del;

    del = ctx->bulk;

    if (ctx->zone->resetting) {
        del->keys.group.op = NULL;
    }

    ngx_http_kv_wait_leave(ctx);
    ngx_http_kv_delete_drop(del);
    ngx_http_kv_step_over(&del->step);

    ngx_http_kv_delete_end(del, ngx_http_kv_reply_rc(ctx->request, rc));
}


static void
ngx_http_kv_delete_end(ngx_http_kv_delete_t *del, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = del->ctx->request;

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, del->ctx);
    }

    ngx_http_kv_finish(r, rc);
}


static void
ngx_http_kv_delete_cleanup(void *data)
{
    ngx_http_kv_delete_t *del = data;

    ngx_http_kv_step_over(&del->step);
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

    b->last = ngx_sprintf(b->last, "%ui", del->deleted);

    if (del->deleted) {

        /* without quotes, as a list has it */

        n = kv_version_tag(&del->ctx->version, tag);
        tag[n - 1] = '\0';

        if (ngx_http_kv_header(r, "KV-Version", tag + 1) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_kv_reply_buf(r, "text/plain", b);
}
