
/*
 * POST /batch: writes as lines of JSON (lines/kv_line.h) that are done all or
 * not at all, as one group (store/kv_group.h).
 *
 * The body is kept in the worker's memory until all of it is here: only then do
 * its lines become operations, so a client that sends slowly holds nothing of
 * the zone.  If there are many lines that takes some steps.
 *
 * Nor does a batch that waits for memory in the zone hold any: it gives back
 * what it has, and begins anew with its first line when there may be enough for
 * all of it.  Of those that have waited a worker has one at a time begin anew,
 * or they would take the memory from each other.
 */


#include "http/ngx_http_kv.h"

#include "lines/kv_line.h"


/* lines, and bytes of them, of a step (ngx_http_kv_steps.c) */
#define NGX_HTTP_KV_BATCH_STEP        16
#define NGX_HTTP_KV_BATCH_STEP_BYTES  8192

/*
 * What an operation takes of the zone besides its key and value, about; bytes.
 * How long a batch waits at least before it begins anew, doubled up to
 * LATER times; and how long for all its memory at once.  Nanoseconds.
 */
#define NGX_HTTP_KV_BATCH_EACH      128
#define NGX_HTTP_KV_BATCH_AGAIN     5000000ull
#define NGX_HTTP_KV_BATCH_LATER     5
#define NGX_HTTP_KV_BATCH_PATIENCE  250000000ull

/* bytes of the answer for an operation: two versions would fit */
#define NGX_HTTP_KV_BATCH_RESULT  (2 * KV_VERSION_TAG + 40)


typedef struct {
    ngx_http_kv_ctx_t         *ctx;
    ngx_uint_t                 max_ops;
    size_t                     max_size;

    ngx_http_kv_text_t         text;          /* the body, as far as it is
                                                 here */

    /* what was made of it */
    char                      *next;          /* the next line */
    ngx_uint_t                 lines;         /* begun */
    kv_line_t                  line;          /* with `pending` */
    kv_group_t                 group;         /* op: NULL until there is one */
    uint32_t                   line_of[KV_GROUP_MAX];  /* of an operation */
    size_t                     bytes;         /* of the zone, about */

    /* while it waits for memory, and after that */
    size_t                     need;          /* for all of it, about */
    ngx_uint_t                 lacking;       /* the line that had none, or 0 */
    ngx_uint_t                 tries;
    uint64_t                   not_before;    /* ns: begins anew */

    ngx_uint_t                 status;        /* of the answer, if that is no
                                                 200 */
    ngx_uint_t                 failed;        /* line, or 0 */
    char                       error[128];
    kv_version_t               version;       /* what a false condition found */

    ngx_http_kv_step_t         step;
    unsigned                   pending:1;     /* line is read, and not stored */
    unsigned                   copies:1;      /* the committer needs memory */
    unsigned                   last:1;        /* it waits no more */
    unsigned                   require_match:1;
} ngx_http_kv_batch_t;


static void ngx_http_kv_batch_cleanup(void *data);
static void ngx_http_kv_batch_init(ngx_http_request_t *r);
static void ngx_http_kv_batch_read(ngx_http_request_t *r);
static void ngx_http_kv_batch_whole(ngx_http_kv_batch_t *batch);
static void ngx_http_kv_batch_block(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_take(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_append(ngx_http_kv_batch_t *batch,
    u_char *p, size_t n);
static void ngx_http_kv_batch_run(ngx_http_kv_batch_t *batch);
static void ngx_http_kv_batch_take_step(void *data);
static void ngx_http_kv_batch_step(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_lines(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_line(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_time(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_store(ngx_http_kv_batch_t *batch);
static kv_rc_t ngx_http_kv_batch_begin(ngx_http_kv_batch_t *batch,
    kv_op_t **op);
static kv_rc_t ngx_http_kv_batch_op(ngx_http_kv_batch_t *batch, kv_op_t **op);
static kv_rc_t ngx_http_kv_batch_put(ngx_http_kv_batch_t *batch, kv_op_t **op);
static ngx_int_t ngx_http_kv_batch_add(ngx_http_kv_batch_t *batch,
    kv_op_t *op);
static ngx_int_t ngx_http_kv_batch_condition(ngx_http_kv_batch_t *batch,
    kv_op_t *op);
static size_t ngx_http_kv_batch_footprint(const kv_line_t *line);
static size_t ngx_http_kv_batch_lacks(ngx_http_kv_batch_t *batch);
static ngx_int_t ngx_http_kv_batch_wait(ngx_http_kv_batch_t *batch,
    size_t need);
static void ngx_http_kv_batch_forget(ngx_http_kv_batch_t *batch);
static kv_rc_t ngx_http_kv_batch_again(ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_batch_anew(ngx_http_kv_batch_t *batch);
static void ngx_http_kv_batch_rebuilt(ngx_http_kv_batch_t *batch);
static void ngx_http_kv_batch_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_batch_why(ngx_http_kv_batch_t *batch, kv_rc_t rc);
static void ngx_http_kv_batch_refuse(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static ngx_int_t ngx_http_kv_batch_fail(ngx_http_kv_batch_t *batch,
    ngx_uint_t status, ngx_uint_t line, const char *error);
static ngx_int_t ngx_http_kv_batch_fail_rc(ngx_http_kv_batch_t *batch,
    kv_rc_t rc, ngx_uint_t line);
static ngx_int_t ngx_http_kv_batch_too_large(ngx_http_kv_batch_t *batch,
    ngx_uint_t line);
static ngx_int_t ngx_http_kv_batch_too_long(ngx_http_kv_batch_t *batch);
static void ngx_http_kv_batch_end(ngx_http_kv_batch_t *batch, ngx_buf_t *b);
static ngx_int_t ngx_http_kv_batch_answer(ngx_http_kv_batch_t *batch,
    ngx_buf_t *b);
static ngx_buf_t *ngx_http_kv_batch_results(ngx_http_kv_batch_t *batch);
static u_char *ngx_http_kv_batch_result(ngx_http_kv_batch_t *batch, u_char *p,
    kv_op_t *op);
static u_char *ngx_http_kv_batch_version(u_char *p,
    const kv_version_t *version);


ngx_int_t
ngx_http_kv_batch(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_http_cleanup_t      *cln;
    ngx_http_kv_batch_t     *batch;
    ngx_http_kv_loc_conf_t  *klcf;

    if (r != r->main || r->request_body || r->discard_body) {
        if (ngx_http_kv_may_log(ctx->zone, NGX_HTTP_KV_LOG_BODY)) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "the request body was read before \"kv_batch\" could "
                          "take it, by \"mirror\" for instance");
        }

        return ngx_http_kv_reply(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                 "internal server error\n");
    }

    batch = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_batch_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (batch == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_kv_batch_cleanup;
    cln->data = batch;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    batch->ctx = ctx;
    batch->max_ops = klcf->max_ops;
    batch->max_size = klcf->max_size;
    batch->require_match = klcf->require_match;

    batch->step.ctx = ctx;
    batch->step.take = ngx_http_kv_batch_take_step;
    batch->step.data = batch;
    batch->text.step = &batch->step;

    ctx->bulk = batch;
    ctx->refuse = ngx_http_kv_batch_refuse;
    ctx->keeps = 1;

    if (r->headers_in.content_length_n > (off_t) batch->max_size) {
        (void) ngx_http_kv_batch_too_large(batch, 0);
        return ngx_http_kv_batch_answer(batch, NULL);
    }

    rc = ngx_http_kv_digest(ctx);

    if (rc != NGX_OK) {
        (void) ngx_http_kv_batch_fail(batch, rc == NGX_DECLINED
                                      ? NGX_HTTP_BAD_REQUEST
                                      : NGX_HTTP_INTERNAL_SERVER_ERROR, 0,
                                      rc == NGX_DECLINED
                                      ? "invalid Content-Digest"
                                      : "internal server error");
        return ngx_http_kv_batch_answer(batch, NULL);
    }

    ctx->taken = 1;
    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_kv_batch_init);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? ngx_http_kv_body_error(r, rc)
                                           : NGX_DONE;
}


/* The group is ngx_http_kv_op.c's. */

static void
ngx_http_kv_batch_cleanup(void *data)
{
    ngx_http_kv_batch_t *batch = data;

    ngx_http_kv_step_over(&batch->step);
    ngx_http_kv_batch_rebuilt(batch);

    if (batch->pending) {
        batch->pending = 0;
        kv_line_free(&batch->line);
    }

    ngx_http_kv_text_free(&batch->text);
}


static void
ngx_http_kv_batch_init(ngx_http_request_t *r)
{
    ngx_http_kv_batch_read(r);
}


/* Reads the body.  The request may be gone afterwards. */

static void
ngx_http_kv_batch_read(ngx_http_request_t *r)
{
    ngx_int_t             rc;
    ngx_http_kv_ctx_t    *ctx;
    ngx_http_kv_batch_t  *batch;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);
    batch = ctx->bulk;

    for ( ;; ) {

        if (ngx_http_kv_batch_take(batch) != NGX_OK) {
            ngx_http_kv_batch_end(batch, NULL);
            return;
        }

        if (!r->reading_body) {
            ngx_http_kv_batch_block(batch);

            if (!batch->text.cut
                && !ngx_http_kv_body_whole(r, (off_t) batch->text.len))
            {
                ngx_http_finalize_request(r, ngx_http_kv_reply_body(r));
                return;
            }

            ngx_http_kv_batch_whole(batch);
            return;
        }

        r->read_event_handler = ngx_http_kv_batch_read;

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_finalize_request(r, ngx_http_kv_body_error(r, rc));
            return;
        }

        if (rc == NGX_AGAIN && r->request_body->bufs == NULL) {
            return;
        }
    }
}


/* All of it is here, or it was cut.  The request may be gone afterwards. */

static void
ngx_http_kv_batch_whole(ngx_http_kv_batch_t *batch)
{
    ngx_http_kv_digest_t  *digest;

    digest = batch->ctx->digest;

    if (digest && !batch->text.cut && !ngx_http_kv_digest_matches(digest)) {
        (void) ngx_http_kv_batch_fail(batch, NGX_HTTP_BAD_REQUEST, 0,
                                      "content digest does not match");
        ngx_http_kv_batch_end(batch, NULL);
        return;
    }

    ngx_http_kv_text_whole(&batch->text);
    batch->next = batch->text.data;
    ngx_http_kv_batch_run(batch);
}


static void
ngx_http_kv_batch_block(ngx_http_kv_batch_t *batch)
{
    ngx_event_t         *rev;
    ngx_http_request_t  *r;

    r = batch->ctx->request;
    rev = r->connection->read;

    r->read_event_handler = ngx_http_block_reading;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }
}


/* Keeps what was read.  NGX_OK, or NGX_ERROR: the request has failed. */

static ngx_int_t
ngx_http_kv_batch_take(ngx_http_kv_batch_t *batch)
{
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = batch->ctx->request;

    while ((cl = r->request_body->bufs) != NULL) {
        b = cl->buf;

        if (ngx_http_kv_batch_append(batch, b->pos, b->last - b->pos)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        b->pos = b->last;
        r->request_body->bufs = cl->next;
        ngx_free_chain(r->pool, cl);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_batch_append(ngx_http_kv_batch_t *batch, u_char *p, size_t n)
{
    if (n > batch->max_size - batch->text.len) {
        return ngx_http_kv_batch_too_large(batch, 0);
    }

    if (batch->ctx->digest) {
        ngx_http_kv_digest_add(batch->ctx->digest, p, n);
    }

    switch (ngx_http_kv_text_append(&batch->text, p, n, batch->max_size)) {

    case NGX_OK:
        return NGX_OK;

    case NGX_DECLINED:
        return ngx_http_kv_batch_fail(batch, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      0, "too many large batches at a time");

    default:
        return ngx_http_kv_batch_fail_rc(batch, KV_UNAVAILABLE, 0);
    }
}


/*
 * Makes operations of the lines, now or when it is this batch's turn.  The
 * request may be gone afterwards.
 */

static void
ngx_http_kv_batch_run(ngx_http_kv_batch_t *batch)
{
    uint64_t  begun;

    begun = ngx_http_kv_step_begin();

    if (begun == 0) {
        ngx_http_kv_step_next(&batch->step);
        return;
    }

    ngx_http_kv_batch_step(batch);
    ngx_http_kv_step_end(begun);
}


static void
ngx_http_kv_batch_take_step(void *data)
{
    ngx_http_kv_batch_t *batch = data;

    ngx_connection_t  *c;

    c = batch->ctx->request->connection;

    ngx_http_kv_batch_step(batch);
    ngx_http_run_posted_requests(c);
}


/*
 * Goes on until there are no more lines, or something else must happen first.
 */

static void
ngx_http_kv_batch_step(ngx_http_kv_batch_t *batch)
{
    ngx_int_t  rc;

    if (batch->text.cut) {
        rc = ngx_http_kv_batch_fail(batch, NGX_HTTP_REQUEST_TIME_OUT, 0,
                                    "upload too slow");

    } else if (batch->ctx->zone->draining) {
        rc = ngx_http_kv_batch_fail_rc(batch, KV_UNAVAILABLE, 0);

    } else {
        rc = ngx_http_kv_batch_lines(batch);
    }

    switch (rc) {

    case NGX_AGAIN:
        ngx_http_kv_step_next(&batch->step);
        return;

    case NGX_BUSY:
        return;

    case NGX_ERROR:
        ngx_http_kv_batch_end(batch, NULL);
        return;

    default:
        ngx_http_kv_batch_rebuilt(batch);

        if (!batch->copies) {
            ngx_http_kv_text_free(&batch->text);
        }

        ngx_http_kv_submit(batch->ctx, ngx_http_kv_batch_done);
    }
}


/*
 * NGX_OK: of all; NGX_AGAIN: it is others' turn; NGX_BUSY: the request waits
 * for memory; NGX_ERROR: it has failed.
 */

static ngx_int_t
ngx_http_kv_batch_lines(ngx_http_kv_batch_t *batch)
{
    char        *end, *stop;
    ngx_int_t    rc;
    ngx_uint_t   n;

    end = batch->text.data + batch->text.len;
    stop = batch->next + NGX_HTTP_KV_BATCH_STEP_BYTES;

    for (n = 0; batch->next < end; n++) {

        if (n == NGX_HTTP_KV_BATCH_STEP || batch->next > stop) {
            return NGX_AGAIN;
        }

        rc = ngx_http_kv_batch_line(batch);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return batch->group.n ? NGX_OK
           : ngx_http_kv_batch_fail(batch, NGX_HTTP_BAD_REQUEST, 0,
                                    "there is no operation");
}


static ngx_int_t
ngx_http_kv_batch_line(ngx_http_kv_batch_t *batch)
{
    char        *p, *end;
    size_t       len;
    kv_rc_t      rc;
    const char  *wrong;

    p = batch->next;
    end = memchr(p, '\n', batch->text.data + batch->text.len - p);
    len = (end ? end : batch->text.data + batch->text.len) - p;

    batch->next = p + len + (end != NULL);

    if (batch->lines++ == 0 && len >= 3
        && ngx_memcmp(p, "\xef\xbb\xbf", 3) == 0)
    {
        /* some editors put a mark of UTF-8 there */

        p += 3;
        len -= 3;
    }

    if (kv_line_blank(p, len)) {
        return NGX_OK;
    }

    if (batch->group.n == batch->max_ops) {
        return ngx_http_kv_batch_too_large(batch, batch->lines);
    }

    rc = kv_line_parse_batch(&batch->line, p, len, batch->ctx->max_value,
                             batch->ctx->key_chars);

    if (rc == KV_DECLINED) {
        return ngx_http_kv_batch_fail(batch, batch->line.too_large
                                      ? NGX_HTTP_REQUEST_ENTITY_TOO_LARGE
                                      : NGX_HTTP_BAD_REQUEST, batch->lines,
                                      batch->line.error);
    }

    if (rc != KV_OK) {
        return ngx_http_kv_batch_fail_rc(batch, KV_UNAVAILABLE, batch->lines);
    }

    batch->pending = 1;

    wrong = ngx_http_kv_bound_line(batch->ctx, &batch->line);

    if (wrong) {
        return ngx_http_kv_batch_fail(batch, NGX_HTTP_BAD_REQUEST,
                                      batch->lines, wrong);
    }

    if (batch->line.match == NULL && batch->require_match) {
        return ngx_http_kv_batch_fail(batch, NGX_HTTP_KV_PRECONDITION_REQUIRED,
                                      batch->lines, "precondition required: "
                                      "if_match or if_none_match");
    }

    if (ngx_http_kv_batch_time(batch) != NGX_OK) {
        return ngx_http_kv_batch_fail(batch, NGX_HTTP_BAD_REQUEST,
                                      batch->lines, "invalid expires");
    }

    return ngx_http_kv_batch_store(batch);
}


/* When it expires, as seconds from now.  A put that has expired deletes. */

static ngx_int_t
ngx_http_kv_batch_time(ngx_http_kv_batch_t *batch)
{
    uint64_t    now;
    kv_line_t  *line;

    line = &batch->line;
    now = (uint64_t) ngx_time();

    if (line->expires == 0) {

        if (line->op != KV_LINE_TOUCH && line->ttl == 0) {
            line->ttl = batch->ctx->zone->ttl;
        }

        return NGX_OK;
    }

    if (line->expires <= now) {
        line->op = KV_LINE_DELETE;
        return NGX_OK;
    }

    if (line->expires - now > KV_STORE_TTL_MAX) {
        return NGX_DECLINED;
    }

    line->ttl = (uint32_t) (line->expires - now);

    return NGX_OK;
}


/* Makes an operation of the line that was read.  Results as above. */

static ngx_int_t
ngx_http_kv_batch_store(ngx_http_kv_batch_t *batch)
{
    kv_op_t  *op;
    kv_rc_t   rc;

    rc = ngx_http_kv_batch_begin(batch, &op);

    if (rc == KV_OK) {
        return ngx_http_kv_batch_add(batch, op);
    }

    if (rc == KV_NO_MEMORY) {
        batch->lacking = batch->lines;

        return ngx_http_kv_batch_wait(batch, ngx_http_kv_batch_lacks(batch));
    }

    return ngx_http_kv_batch_fail_rc(batch, rc, batch->lines);
}


/* The same, and the group before its first operation. */

static kv_rc_t
ngx_http_kv_batch_begin(ngx_http_kv_batch_t *batch, kv_op_t **op)
{
    kv_rc_t             rc;
    ngx_http_kv_ctx_t  *ctx;

    ctx = batch->ctx;

    /* a worker that is to quit gives its place up between two turns */

    if (ngx_http_kv_entered(ctx->zone) != NGX_OK) {
        return KV_UNAVAILABLE;
    }

    if (batch->group.op == NULL) {
        rc = kv_store_group(ctx->zone->store, &batch->group);

        if (rc != KV_OK) {
            return rc;
        }

        if (ngx_http_kv_attach(ctx, batch->group.op) != NGX_OK) {
            batch->group.op = NULL;
            return KV_UNAVAILABLE;
        }
    }

    return ngx_http_kv_batch_op(batch, op);
}


static kv_rc_t
ngx_http_kv_batch_op(ngx_http_kv_batch_t *batch, kv_op_t **op)
{
    kv_line_t   *line;
    kv_store_t  *store;

    line = &batch->line;
    store = batch->ctx->zone->store;

    switch (line->op) {

    case KV_LINE_DELETE:
        return kv_store_group_delete(store, &batch->group, line->key,
                                     line->key_len, op);

    case KV_LINE_INCR:
        return kv_store_increment(store, line->key, line->key_len, line->by,
                                  line->ttl, op);

    case KV_LINE_TOUCH:
        return kv_store_touch(store, line->key, line->key_len, line->ttl, op);

    default:
        return ngx_http_kv_batch_put(batch, op);
    }
}


static kv_rc_t
ngx_http_kv_batch_put(ngx_http_kv_batch_t *batch, kv_op_t **op)
{
    u_char       meta[KV_META_MAX];
    kv_rc_t      rc;
    kv_line_t   *line;
    kv_name_t    name;
    kv_store_t  *store;

    line = &batch->line;
    store = batch->ctx->zone->store;

    ngx_http_kv_types_name(line, meta, &name);

    rc = kv_store_upload(store, &name, line->value_len, line->value_len,
                         line->ttl, op);

    if (rc == KV_OK) {
        rc = kv_store_write(store, *op, 0, line->value, line->value_len);

        if (rc != KV_OK) {
            kv_store_release(store, *op);
        }
    }

    return rc;
}


/* The line is done with.  NGX_OK, or NGX_ERROR. */

static ngx_int_t
ngx_http_kv_batch_add(ngx_http_kv_batch_t *batch, kv_op_t *op)
{
    kv_store_t  *store;

    store = batch->ctx->zone->store;

    if (ngx_http_kv_batch_condition(batch, op) != NGX_OK) {
        kv_store_release(store, op);

        return ngx_http_kv_batch_fail(batch, NGX_HTTP_BAD_REQUEST,
                                      batch->lines, batch->line.unless
                                      ? "if_none_match is no * or version"
                                      : "if_match is no * or version");
    }

    batch->line_of[batch->group.n] = (uint32_t) batch->lines;

    if (kv_store_group_add(store, &batch->group, op) != KV_OK) {
        kv_store_release(store, op);

        return ngx_http_kv_batch_too_long(batch);
    }

    batch->bytes += ngx_http_kv_batch_footprint(&batch->line);
    batch->copies |= op->code == KV_OP_TOUCH || op->code == KV_OP_INCR;

    batch->pending = 0;
    kv_line_free(&batch->line);

    return NGX_OK;
}


/* What the committer is to check. */

static ngx_int_t
ngx_http_kv_batch_condition(ngx_http_kv_batch_t *batch, kv_op_t *op)
{
    uint8_t        flag;
    kv_line_t     *line;
    kv_version_t   version, now;

    line = &batch->line;

    if (line->match == NULL) {
        return NGX_OK;
    }

    if (line->match_len == 1 && line->match[0] == '*') {
        kv_store_if(op, line->unless ? KV_OP_IF_ABSENT : KV_OP_IF_PRESENT,
                    NULL);
        return NGX_OK;
    }

    if (!kv_version_parse(&version, line->match, line->match_len)) {
        return NGX_DECLINED;
    }

    /* no key has a version of another incarnation */

    now = kv_store_state_version(batch->ctx->zone->store);

    if (version.incarnation != now.incarnation
        || version.lsn > KV_STORE_NO_LSN)
    {
        version.lsn = KV_STORE_NO_LSN;
    }

    flag = line->unless ? KV_OP_IF_OTHER : KV_OP_IF_VERSION;
    kv_store_if(op, flag, &version);

    return NGX_OK;
}


/* What the line's operation takes of the zone, about; bytes. */

static size_t
ngx_http_kv_batch_footprint(const kv_line_t *line)
{
    return NGX_HTTP_KV_BATCH_EACH + line->key_len + line->meta.type_len
           + line->meta.encoding_len + line->value_len;
}


/*
 * What to wait for, with the line for which there was no memory.  0: only for
 * what others of its kind have, as there is memory for a group of deletes also
 * in a full zone.
 */

static size_t
ngx_http_kv_batch_lacks(ngx_http_kv_batch_t *batch)
{
    size_t  need;

    need = batch->bytes + ngx_http_kv_batch_footprint(&batch->line);

    if (batch->line.op == KV_LINE_DELETE && need <= KV_STORE_GROUP_KEPT
        && (batch->group.op == NULL
            || !(batch->group.op->flags & KV_OP_MIXED)))
    {
        return 0;
    }

    return need + need / 8;
}


/*
 * Waits for memory, of `need` bytes, without holding any.  NGX_BUSY, or
 * NGX_ERROR: the request has failed.
 */

static ngx_int_t
ngx_http_kv_batch_wait(ngx_http_kv_batch_t *batch, size_t need)
{
    uint64_t             now, since;
    ngx_int_t            rc;
    ngx_http_kv_ctx_t   *ctx;

    ctx = batch->ctx;
    ngx_http_kv_batch_forget(batch);

    if (batch->last) {
        return ngx_http_kv_batch_fail_rc(batch, KV_NO_MEMORY, batch->lacking);
    }

    /* what is free may be of no use for it: it asks for more each time */

    if (need && batch->need) {
        need = ngx_max(need, batch->need + batch->need / 4 + KV_PAGE_SIZE);
    }

    batch->need = need;

    now = kv_now_ns();
    since = ctx->stuck_since;
    ctx->arrived = need != 0;

    rc = ngx_http_kv_reserve_wait(ctx, (uint32_t) ngx_min(need, KV_VALUE_MAX),
                                  ngx_http_kv_batch_again);
    if (rc != NGX_OK) {
        return ngx_http_kv_batch_fail_rc(batch, KV_NO_MEMORY, batch->lacking);
    }

    if (batch->tries) {
        ctx->stuck_since = since;
        batch->not_before = now + (NGX_HTTP_KV_BATCH_AGAIN
                                   << ngx_min(batch->tries,
                                              NGX_HTTP_KV_BATCH_LATER))
                            + ngx_random() % NGX_HTTP_KV_BATCH_AGAIN;
    }

    batch->tries++;

    return NGX_BUSY;
}


/* Gives back what was made of the lines. */

static void
ngx_http_kv_batch_forget(ngx_http_kv_batch_t *batch)
{
    ngx_http_kv_detach(batch->ctx);
    ngx_memzero(&batch->group, sizeof(kv_group_t));

    if (batch->pending) {
        batch->pending = 0;
        kv_line_free(&batch->line);
    }

    batch->next = batch->text.data;
    batch->lines = 0;
    batch->bytes = 0;

    ngx_http_kv_batch_rebuilt(batch);
}


/* There may be memory now. */

static kv_rc_t
ngx_http_kv_batch_again(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_kv_zone_t   *zone;
    ngx_http_kv_batch_t  *batch;

    batch = ctx->bulk;
    zone = ctx->zone;

    /*
     * At exit nothing takes steps any more.  That much may never be free at
     * once: after a while it begins without.
     */

    if (zone->draining || zone->rebuilding || kv_now_ns() < batch->not_before
        || (ctx->waited < NGX_HTTP_KV_BATCH_PATIENCE
            && kv_store_fits(zone->store, 0, ctx->need) == KV_NO_MEMORY))
    {
        return KV_NO_MEMORY;
    }

    ngx_http_kv_batch_anew(batch);

    return KV_OK;
}


/* Begins anew.  The request may be gone afterwards. */

static void
ngx_http_kv_batch_anew(ngx_http_kv_batch_t *batch)
{
    ngx_connection_t  *c;

    c = batch->ctx->request->connection;

    /* it keeps its place among those that lack memory until it has all */

    ngx_http_kv_wait_fed(batch->ctx);

    batch->ctx->zone->rebuilding = batch;

    ngx_http_kv_batch_run(batch);
    ngx_http_run_posted_requests(c);
}


/* It does not begin anew, or has done so: others may. */

static void
ngx_http_kv_batch_rebuilt(ngx_http_kv_batch_t *batch)
{
    if (batch->ctx->zone->rebuilding == batch) {
        batch->ctx->zone->rebuilding = NULL;
    }
}


static void
ngx_http_kv_batch_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_buf_t            *b;
    ngx_connection_t     *c;
    ngx_http_kv_batch_t  *batch;

    batch = ctx->bulk;
    c = ctx->request->connection;
    b = NULL;

    if (rc == KV_NO_MEMORY && batch->text.data && !batch->last) {

        /* for a copy that the committer makes: see kv_decide() */

        batch->lacking = 0;

        if (ngx_http_kv_batch_wait(batch, KV_ENTRY_INLINE) == NGX_BUSY) {
            return;
        }

    } else if (rc == KV_OK) {
        b = ngx_http_kv_batch_results(batch);

        if (b == NULL) {
            (void) ngx_http_kv_batch_fail(batch, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                          0, "internal server error");
        }

    } else {
        ngx_http_kv_batch_why(batch, rc);
    }

    ngx_http_kv_batch_end(batch, b);
    ngx_http_run_posted_requests(c);
}


/* Notes why a group was not done, and for which line, if for one. */

static void
ngx_http_kv_batch_why(ngx_http_kv_batch_t *batch, kv_rc_t rc)
{
    kv_op_t     *op, *failed;
    ngx_uint_t   i, line;

    failed = kv_store_group_failed(batch->group.op);
    line = 0;

    for (op = kv_store_group_first(&batch->group), i = 0;
         failed && op;
         op = kv_store_group_next(op), i++)
    {
        if (op == failed) {
            line = batch->line_of[i];
            batch->version = kv_store_result(batch->ctx->zone->store, op);
        }
    }

    switch (rc) {

    case KV_PRECONDITION:
        (void) ngx_http_kv_batch_fail(batch, NGX_HTTP_PRECONDITION_FAILED,
                                      line, "precondition failed");
        break;

    case KV_NOT_INTEGER:
        (void) ngx_http_kv_batch_fail(batch, NGX_HTTP_CONFLICT, line,
                                      "value is not an integer");
        break;

    case KV_OVERFLOW:
        (void) ngx_http_kv_batch_fail(batch, NGX_HTTP_CONFLICT, line,
                                      "integer overflow");
        break;

    case KV_NOT_FOUND:
        (void) ngx_http_kv_batch_fail(batch, NGX_HTTP_CONFLICT, line,
                                      "key not found");
        break;

    default:
        (void) ngx_http_kv_batch_fail_rc(batch, rc, line);
    }
}


/*
 * The request waits for memory in vain, or the zone is to be rebuilt, which
 * takes all operations away.
 */

static void
ngx_http_kv_batch_refuse(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_connection_t     *c;
    ngx_http_kv_zone_t   *zone;
    ngx_http_kv_batch_t  *batch;

    batch = ctx->bulk;
    zone = ctx->zone;
    c = ctx->request->connection;

    if (rc == KV_NO_MEMORY && !zone->draining && !zone->rebuilding) {

        /* what is free in pages that are in use may be enough */

        batch->last = 1;
        ngx_http_kv_batch_anew(batch);
        return;
    }

    if (zone->resetting) {
        batch->group.op = NULL;
    }

    (void) ngx_http_kv_batch_fail_rc(batch, rc,
                                     rc == KV_NO_MEMORY ? batch->lacking : 0);
    ngx_http_kv_batch_end(batch, NULL);

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_kv_batch_fail(ngx_http_kv_batch_t *batch, ngx_uint_t status,
    ngx_uint_t line, const char *error)
{
    batch->status = status;
    batch->failed = line;

    (void) ngx_cpystrn((u_char *) batch->error, (u_char *) error,
                       sizeof(batch->error));

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_kv_batch_fail_rc(ngx_http_kv_batch_t *batch, kv_rc_t rc,
    ngx_uint_t line)
{
    switch (rc) {

    case KV_NO_MEMORY:
        kv_store_refused(batch->ctx->zone->store);

        return ngx_http_kv_batch_fail(batch, NGX_HTTP_INSUFFICIENT_STORAGE,
                                      line, "zone is full");

    case KV_NO_SPACE:
        return ngx_http_kv_batch_fail(batch, NGX_HTTP_INSUFFICIENT_STORAGE,
                                      line, "disk is full");

    default:
        return ngx_http_kv_batch_fail(batch, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      line, "store is unavailable");
    }
}


static ngx_int_t
ngx_http_kv_batch_too_large(ngx_http_kv_batch_t *batch, ngx_uint_t line)
{
    u_char  error[sizeof(batch->error)];

    (void) ngx_snprintf(error, sizeof(error), "a batch has at most %ui "
                        "operations and %uz bytes%Z", batch->max_ops,
                        batch->max_size);

    return ngx_http_kv_batch_fail(batch, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                  line, (char *) error);
}


/* A batch is in one segment of the log, and segments are small here. */

static ngx_int_t
ngx_http_kv_batch_too_long(ngx_http_kv_batch_t *batch)
{
    u_char  error[sizeof(batch->error)];

    (void) ngx_snprintf(error, sizeof(error), "a batch takes at most %uz "
                        "bytes of the log: split it, or make segment= larger%Z",
                        kv_store_group_space(batch->ctx->zone->store));

    return ngx_http_kv_batch_fail(batch, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                  batch->lines, (char *) error);
}


/* The request is over: with these results, or with what is wrong. */

static void
ngx_http_kv_batch_end(ngx_http_kv_batch_t *batch, ngx_buf_t *b)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = batch->ctx->request;

    ngx_http_kv_batch_block(batch);
    ngx_http_kv_wait_leave(batch->ctx);
    ngx_http_kv_detach(batch->ctx);
    batch->group.op = NULL;

    /* the request may last: its client may still be sending */

    ngx_http_kv_batch_cleanup(batch);

    rc = ngx_http_kv_batch_answer(batch, b);

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, batch->ctx);
    }

    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_kv_batch_answer(ngx_http_kv_batch_t *batch, ngx_buf_t *b)
{
    ngx_http_request_t  *r;

    r = batch->ctx->request;

    if (b) {
        return ngx_http_kv_reply_json(r, NGX_HTTP_OK, b);
    }

    b = ngx_create_temp_buf(r->pool, sizeof(batch->error) + 128);

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *b->last++ = '{';

    if (batch->failed) {
        b->last = ngx_sprintf(b->last, "\"line\":%ui,", batch->failed);
    }

    b->last = ngx_sprintf(b->last, "\"error\":\"%s\"", batch->error);

    if (batch->version.lsn) {
        b->last = ngx_cpymem(b->last, ",", 1);
        b->last = ngx_http_kv_batch_version(b->last, &batch->version);
    }

    b->last = ngx_cpymem(b->last, "}\n", 2);

    return ngx_http_kv_reply_json(r, batch->status, b);
}


/* What the group has made; NULL: no memory. */

static ngx_buf_t *
ngx_http_kv_batch_results(ngx_http_kv_batch_t *batch)
{
    kv_op_t             *op;
    ngx_buf_t           *b;
    kv_version_t         version;
    ngx_http_request_t  *r;

    r = batch->ctx->request;

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_KV_BATCH_RESULT
                                     * (batch->group.n + 1));

    if (b == NULL) {
        return NULL;
    }

    version = kv_store_group_version(batch->ctx->zone->store, &batch->group);
    batch->ctx->version = version;

    *b->last++ = '{';
    b->last = ngx_http_kv_batch_version(b->last, &version);
    b->last = ngx_cpymem(b->last, ",\"results\":[", 12);

    for (op = kv_store_group_first(&batch->group);
         op;
         op = kv_store_group_next(op))
    {
        b->last = ngx_http_kv_batch_result(batch, b->last, op);
        *b->last++ = ',';
    }

    b->last = ngx_cpymem(b->last - 1, "]}\n", 3);

    return b;
}


/* Of a put and a touch, the version; of a delete, nothing. */

static u_char *
ngx_http_kv_batch_result(ngx_http_kv_batch_t *batch, u_char *p, kv_op_t *op)
{
    kv_version_t  version;

    version = kv_store_result(batch->ctx->zone->store, op);

    *p++ = '{';

    if (version.lsn) {
        p = ngx_http_kv_batch_version(p, &version);
    }

    if (op->code == KV_OP_INCR) {
        p = ngx_sprintf(p, ",\"value\":\"%L\"", kv_store_sum(op));
    }

    *p++ = '}';

    return p;
}


static u_char *
ngx_http_kv_batch_version(u_char *p, const kv_version_t *version)
{
    char    tag[KV_VERSION_TAG];
    size_t  n;

    n = kv_version_tag(version, tag);

    p = ngx_cpymem(p, "\"version\":", 10);

    return ngx_cpymem(p, tag, n);
}
