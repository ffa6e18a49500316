
/*
 * POST /bulk: writes as lines of JSON (lines/kv_line.h), of any number.
 *
 * Lines are read as they come, and become operations at once, so what a request
 * holds is bounded: one line that is not whole yet, in the worker's memory, and
 * two groups of operations.  One group is in the queue of the committer; the
 * other one is built meanwhile from what is there to read, and submitted when
 * the first is done.  While it is full, nothing more is read.  Without a group
 * in the queue what was built is submitted before the worker waits for the
 * client, so no client holds memory of the zone by sending slowly.
 *
 * A group has one place in zone->waiting, which it leaves when all of its
 * operations are done.
 */


#include "http/ngx_http_kv.h"

#include <sched.h>

#include "lines/kv_line.h"


/*
 * The most of a group; a line that is larger is a group of its own.  Others'
 * writes that share a batch with it wait as long as its lines take, about a
 * microsecond each.  So it has few where the disk is quick, and more where a
 * group takes long in any case: one line for each EACH_NS that the last ones
 * took.  All of a worker leave a batch space for others.
 */
#define NGX_HTTP_KV_BULK_LEAST    64
#define NGX_HTTP_KV_BULK_LINES    640
#define NGX_HTTP_KV_BULK_EACH_NS  4000
#define NGX_HTTP_KV_BULK_BYTES    1048576

/*
 * A group takes at most this share of the zone; and those of a worker together
 * that are in the queue, where there are many, about this one.
 */
#define NGX_HTTP_KV_BULK_SHARE  256
#define NGX_HTTP_KV_BULK_ALL    32

/* bytes of a line that count besides its key, its type and its value */
#define NGX_HTTP_KV_BULK_EACH   128

/*
 * Lines, and bytes of them, of a step (ngx_http_kv_steps.c): less than 100 us;
 * and lines where others use the store.
 */
#define NGX_HTTP_KV_BULK_STEP        16
#define NGX_HTTP_KV_BULK_STEP_BYTES  8192
#define NGX_HTTP_KV_BULK_STEP_OTHERS 4

/*
 * Where others use the store a load leaves them half of the time: each of its
 * lines, and each byte of a line, takes so long in the long run; it rests as
 * soon as it is ahead by REST, and others count for so long after their last
 * request.  Nanoseconds.
 */
#define NGX_HTTP_KV_BULK_PACE       10000
#define NGX_HTTP_KV_BULK_PACE_BYTE  4
#define NGX_HTTP_KV_BULK_REST       1000000
#define NGX_HTTP_KV_BULK_OTHERS     10000000

/*
 * Besides, the worker yields the processor between two steps, to the committer
 * say.  If that takes longer than a thread of ours needs, another program wants
 * the processor: then it does not for a while.  Nanoseconds.
 */
#define NGX_HTTP_KV_BULK_YIELD       300000
#define NGX_HTTP_KV_BULK_YIELD_VAIN  100000000


typedef struct {
    kv_op_t                   *first;      /* linked by op->data */
    kv_op_t                   *last;
    ngx_uint_t                 n;
    size_t                     bytes;
    uint64_t                   submitted;  /* ns */
    uint64_t                   line[NGX_HTTP_KV_BULK_LINES];
} ngx_http_kv_group_t;


typedef struct {
    ngx_http_kv_ctx_t         *ctx;
    ngx_http_kv_group_t        groups[2];
    ngx_http_kv_group_t       *built;      /* the other one, once submitted, */
    ngx_http_kv_group_t       *queued;     /* or NULL */

    uint64_t                   lines;      /* begun */
    uint64_t                   applied;
    uint64_t                   started;    /* ns */
    uint64_t                   took;       /* ns: a group, lately */
    uint64_t                   newest;     /* the LSN of its last write */
    uint64_t                   reads;      /* of all clients, so far */
    uint64_t                   others;     /* ns: their last request, about */
    uint64_t                   ahead;      /* ns: of the pace, */
    uint64_t                   rested;     /* ns: and rests since then */

    ngx_http_kv_text_t         text;       /* of a line that is not whole */

    kv_line_t                  line;       /* with `pending` */
    u_char                    *next;       /* what is behind it */

    ngx_uint_t                 status;     /* of the answer; 0: so far good */
    uint64_t                   failed;     /* line */
    char                       error[96];

    ngx_http_kv_step_t         step;
    ngx_uint_t                 step_lines; /* in this one */
    size_t                     step_bytes;
    unsigned                   pending:1;  /* line is read, and not stored */
    unsigned                   ended:1;    /* nothing more is read */
    unsigned                   beside:1;   /* others use the store */
} ngx_http_kv_bulk_t;


_Static_assert(KV_LINE_TTL_MAX == KV_STORE_TTL_MAX, "ttl of a line");


static void ngx_http_kv_bulk_cleanup(void *data);
static void ngx_http_kv_bulk_init(ngx_http_request_t *r);
static void ngx_http_kv_bulk_read(ngx_http_request_t *r);
static void ngx_http_kv_bulk_run(ngx_http_kv_bulk_t *bulk);
static void ngx_http_kv_bulk_take_step(void *data);
static void ngx_http_kv_bulk_step(ngx_http_kv_bulk_t *bulk);
static ngx_int_t ngx_http_kv_bulk_unread(ngx_http_kv_bulk_t *bulk,
    ngx_int_t rc);
static void ngx_http_kv_bulk_block(ngx_http_kv_bulk_t *bulk);
static void ngx_http_kv_bulk_end(ngx_http_kv_bulk_t *bulk);
static ngx_int_t ngx_http_kv_bulk_take(ngx_http_kv_bulk_t *bulk);
static ngx_uint_t ngx_http_kv_bulk_more(ngx_http_kv_bulk_t *bulk);
static ngx_int_t ngx_http_kv_bulk_line(ngx_http_kv_bulk_t *bulk, ngx_buf_t *b);
static ngx_int_t ngx_http_kv_bulk_append(ngx_http_kv_bulk_t *bulk, u_char *p,
    size_t n);
static void ngx_http_kv_bulk_free_line(ngx_http_kv_bulk_t *bulk);
static ngx_int_t ngx_http_kv_bulk_parse(ngx_http_kv_bulk_t *bulk, char *text,
    size_t len);
static ngx_int_t ngx_http_kv_bulk_time(ngx_http_kv_bulk_t *bulk);
static ngx_int_t ngx_http_kv_bulk_store(ngx_http_kv_bulk_t *bulk);
static kv_rc_t ngx_http_kv_bulk_op(ngx_http_kv_bulk_t *bulk, kv_op_t **op);
static void ngx_http_kv_bulk_add(ngx_http_kv_bulk_t *bulk, kv_op_t *op);
static ngx_int_t ngx_http_kv_bulk_wait(ngx_http_kv_bulk_t *bulk);
static kv_rc_t ngx_http_kv_bulk_again(ngx_http_kv_ctx_t *ctx);
static ngx_uint_t ngx_http_kv_bulk_full(ngx_http_kv_bulk_t *bulk);
static ngx_uint_t ngx_http_kv_bulk_most(ngx_http_kv_bulk_t *bulk);
static void ngx_http_kv_bulk_submit(ngx_http_kv_bulk_t *bulk);
static void ngx_http_kv_bulk_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_bulk_pace(ngx_http_kv_bulk_t *bulk,
    const ngx_http_kv_group_t *group, ngx_uint_t wrote);
static ngx_uint_t ngx_http_kv_bulk_rested(ngx_http_kv_bulk_t *bulk);
static void ngx_http_kv_bulk_yield(void);
static void ngx_http_kv_bulk_drop(ngx_http_kv_bulk_t *bulk);
static void ngx_http_kv_bulk_refuse(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static ngx_int_t ngx_http_kv_bulk_fail(ngx_http_kv_bulk_t *bulk,
    ngx_uint_t status, uint64_t line, const char *error);
static ngx_int_t ngx_http_kv_bulk_fail_rc(ngx_http_kv_bulk_t *bulk,
    kv_rc_t rc, uint64_t line);
static void ngx_http_kv_bulk_answer(ngx_http_kv_bulk_t *bulk);
static ngx_int_t ngx_http_kv_bulk_reply(ngx_http_kv_bulk_t *bulk);


ngx_int_t
ngx_http_kv_bulk(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_http_cleanup_t  *cln;
    ngx_http_kv_bulk_t  *bulk;

    if (r != r->main || r->request_body || r->discard_body) {
        if (ngx_http_kv_may_log(ctx->zone, NGX_HTTP_KV_LOG_BODY)) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "the request body was read before \"kv_bulk\" could "
                          "take it, by \"mirror\" for instance");
        }

        return ngx_http_kv_reply(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                 "internal server error\n");
    }

    bulk = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_bulk_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (bulk == NULL || cln == NULL || ngx_http_kv_attach_groups(ctx) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_kv_bulk_cleanup;
    cln->data = bulk;

    bulk->ctx = ctx;
    bulk->built = &bulk->groups[0];
    bulk->started = ctx->started;
    bulk->reads = ngx_http_kv_counts_reads(ctx->zone->store);

    bulk->step.ctx = ctx;
    bulk->step.take = ngx_http_kv_bulk_take_step;
    bulk->step.data = bulk;
    bulk->text.step = &bulk->step;

    ctx->bulk = bulk;
    ctx->refuse = ngx_http_kv_bulk_refuse;
    ctx->keeps = 1;

    ctx->taken = 1;
    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_kv_bulk_init);

    if (rc < NGX_HTTP_SPECIAL_RESPONSE) {
        return NGX_DONE;
    }

    return ngx_http_kv_bulk_unread(bulk, rc) == NGX_OK
           ? ngx_http_kv_bulk_reply(bulk) : ngx_http_kv_body_error(r, rc);
}


/* What is in the queue of the committer is ngx_http_kv_op.c's. */

static void
ngx_http_kv_bulk_cleanup(void *data)
{
    ngx_http_kv_bulk_t *bulk = data;

    ngx_http_kv_step_over(&bulk->step);

    if (bulk->queued) {
        bulk->ctx->zone->loading--;
    }

    ngx_http_kv_bulk_drop(bulk);
    ngx_http_kv_bulk_free_line(bulk);
}


static void
ngx_http_kv_bulk_init(ngx_http_request_t *r)
{
    ngx_http_kv_bulk_read(r);
}


static void
ngx_http_kv_bulk_read(ngx_http_request_t *r)
{
    ngx_http_kv_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);

    ngx_http_kv_bulk_run(ctx->bulk);
}


/*
 * Reads lines, now or when it is this load's turn.  The request may be gone
 * afterwards.
 */

static void
ngx_http_kv_bulk_run(ngx_http_kv_bulk_t *bulk)
{
    uint64_t  begun;

    if (bulk->ctx->zone->draining) {

        /* nothing takes steps any more: this one answers */

        ngx_http_kv_bulk_step(bulk);
        return;
    }

    begun = ngx_http_kv_step_begin();

    if (begun == 0) {
        ngx_http_kv_bulk_block(bulk);
        ngx_http_kv_bulk_submit(bulk);
        ngx_http_kv_step_next(&bulk->step);
        return;
    }

    ngx_http_kv_bulk_step(bulk);
    ngx_http_kv_step_end(begun);
}


static void
ngx_http_kv_bulk_take_step(void *data)
{
    ngx_http_kv_bulk_t *bulk = data;

    ngx_connection_t  *c;

    if (bulk->ahead >= NGX_HTTP_KV_BULK_REST && !ngx_http_kv_bulk_rested(bulk))
    {
        ngx_http_kv_step_later(&bulk->step);
        return;
    }

    if (bulk->beside) {
        ngx_http_kv_bulk_yield();
    }

    c = bulk->ctx->request->connection;

    ngx_http_kv_bulk_step(bulk);
    ngx_http_run_posted_requests(c);
}


/*
 * Goes on until there are no more lines, or something else must happen first.
 */

static void
ngx_http_kv_bulk_step(ngx_http_kv_bulk_t *bulk)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = bulk->ctx->request;

    bulk->step_lines = 0;
    bulk->step_bytes = 0;

    for ( ;; ) {
        rc = ngx_http_kv_bulk_take(bulk);

        if (rc == NGX_ERROR || (rc == NGX_OK && !r->reading_body)) {
            ngx_http_kv_bulk_end(bulk);
            return;
        }

        if (rc == NGX_AGAIN && bulk->queued == NULL) {
            ngx_http_kv_bulk_submit(bulk);
            continue;
        }

        if (rc != NGX_OK) {

            /* a group, other events, or memory: what is here waits for them */

            ngx_http_kv_bulk_block(bulk);

            if (rc == NGX_DONE) {
                ngx_http_kv_bulk_submit(bulk);
                ngx_http_kv_step_next(&bulk->step);
            }

            return;
        }

        r->read_event_handler = ngx_http_kv_bulk_read;

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {

            if (ngx_http_kv_bulk_unread(bulk, rc) == NGX_OK) {
                ngx_http_kv_bulk_end(bulk);

            } else {
                ngx_http_finalize_request(r, ngx_http_kv_body_error(r, rc));
            }

            return;
        }

        if (rc == NGX_AGAIN && r->request_body->bufs == NULL) {
            ngx_http_kv_bulk_submit(bulk);
            return;
        }
    }
}


/*
 * The body could not be read on, for nginx's reason `rc`.  NGX_OK: it is not
 * well-formed, which the answer says as of a bad line, for lines are done;
 * NGX_DECLINED: it is as for other bodies.
 */

static ngx_int_t
ngx_http_kv_bulk_unread(ngx_http_kv_bulk_t *bulk, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = bulk->ctx->request;

    if (rc != NGX_HTTP_BAD_REQUEST || r->connection->error) {
        return NGX_DECLINED;
    }

    /* where the next request begins is not known */

    r->keepalive = 0;
    r->lingering_close = 1;

    (void) ngx_http_kv_bulk_fail(bulk, NGX_HTTP_BAD_REQUEST, bulk->lines + 1,
                                 "invalid request body");

    return NGX_OK;
}


/* Stops reading.  The client's timeout stands still: it need not send. */

static void
ngx_http_kv_bulk_block(ngx_http_kv_bulk_t *bulk)
{
    ngx_event_t         *rev;
    ngx_http_request_t  *r;

    r = bulk->ctx->request;
    rev = r->connection->read;

    r->read_event_handler = ngx_http_block_reading;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }
}


/* Nothing more is read: answers once the groups are done. */

static void
ngx_http_kv_bulk_end(ngx_http_kv_bulk_t *bulk)
{
    bulk->ended = 1;

    ngx_http_kv_step_over(&bulk->step);

    /*
     * Before others can take it away, which is an error of its own; and the
     * request may last: its client may still be sending.
     */

    ngx_http_kv_bulk_free_line(bulk);

    ngx_http_kv_bulk_block(bulk);
    ngx_http_kv_bulk_submit(bulk);

    if (bulk->queued == NULL) {
        ngx_http_kv_bulk_answer(bulk);
    }
}


/*
 * Makes operations of what was read.  NGX_OK: of all; NGX_AGAIN: a group must
 * be done before; NGX_DONE: it is others' turn; NGX_BUSY: the request waits for
 * memory; NGX_ERROR: it has failed, nothing more is to be read.
 */

static ngx_int_t
ngx_http_kv_bulk_take(ngx_http_kv_bulk_t *bulk)
{
    ngx_int_t            rc;
    ngx_uint_t           most;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = bulk->ctx->request;

    if (bulk->ctx->zone->draining && ngx_http_kv_bulk_more(bulk)) {

        /* a line that is pending counts already */

        return ngx_http_kv_bulk_fail_rc(bulk, KV_UNAVAILABLE,
                                        bulk->lines + !bulk->pending);
    }

    if (bulk->text.cut) {
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_REQUEST_TIME_OUT,
                                     bulk->lines + 1, "upload too slow");
    }

    rc = bulk->pending ? ngx_http_kv_bulk_store(bulk) : NGX_OK;
    most = bulk->beside ? NGX_HTTP_KV_BULK_STEP_OTHERS : NGX_HTTP_KV_BULK_STEP;

    while (rc == NGX_OK && (cl = r->request_body->bufs) != NULL) {

        if (cl->buf->pos == cl->buf->last) {
            r->request_body->bufs = cl->next;
            ngx_free_chain(r->pool, cl);
            continue;
        }

        if (bulk->step_lines >= most
            || bulk->step_bytes >= NGX_HTTP_KV_BULK_STEP_BYTES)
        {
            return NGX_DONE;
        }

        rc = ngx_http_kv_bulk_line(bulk, cl->buf);
    }

    if (rc == NGX_OK && !r->reading_body && bulk->text.len) {

        /* the last one, without a newline */

        if (ngx_http_kv_bulk_full(bulk)) {
            return NGX_AGAIN;
        }

        bulk->next = NULL;
        rc = ngx_http_kv_bulk_parse(bulk, bulk->text.data, bulk->text.len);
    }

    return rc;
}


/* Whether there is more to read, or was read and is not stored. */

static ngx_uint_t
ngx_http_kv_bulk_more(ngx_http_kv_bulk_t *bulk)
{
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = bulk->ctx->request;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        if (cl->buf->pos < cl->buf->last) {
            return 1;
        }
    }

    return r->reading_body || bulk->pending || bulk->text.len;
}


/* One line of a buffer, or the rest of the buffer.  Results as above. */

static ngx_int_t
ngx_http_kv_bulk_line(ngx_http_kv_bulk_t *bulk, ngx_buf_t *b)
{
    u_char     *end;
    ngx_int_t   rc;

    end = memchr(b->pos, '\n', b->last - b->pos);

    if (end == NULL) {
        rc = ngx_http_kv_bulk_append(bulk, b->pos, b->last - b->pos);
        b->pos = b->last;
        return rc;
    }

    if (ngx_http_kv_bulk_full(bulk)) {
        return NGX_AGAIN;
    }

    bulk->next = end + 1;
    bulk->step_lines++;
    bulk->step_bytes += bulk->text.len + (end - b->pos);

    if (bulk->text.len == 0) {
        return ngx_http_kv_bulk_parse(bulk, (char *) b->pos, end - b->pos);
    }

    rc = ngx_http_kv_bulk_append(bulk, b->pos, end - b->pos);

    return rc == NGX_OK
           ? ngx_http_kv_bulk_parse(bulk, bulk->text.data, bulk->text.len) : rc;
}


static ngx_int_t
ngx_http_kv_bulk_append(ngx_http_kv_bulk_t *bulk, u_char *p, size_t n)
{
    size_t  max;

    max = kv_line_max(bulk->ctx->max_value);

    if (n > max - bulk->text.len) {
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     bulk->lines + 1, "line too long");
    }

    switch (ngx_http_kv_text_append(&bulk->text, p, n, max)) {

    case NGX_OK:
        return NGX_OK;

    case NGX_DECLINED:
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_SERVICE_UNAVAILABLE,
                                     bulk->lines + 1,
                                     "too many long lines at a time");

    default:
        return ngx_http_kv_bulk_fail_rc(bulk, KV_UNAVAILABLE, bulk->lines + 1);
    }
}


/* Also of a line that is read and not stored. */

static void
ngx_http_kv_bulk_free_line(ngx_http_kv_bulk_t *bulk)
{
    if (bulk->pending) {
        bulk->pending = 0;
        kv_line_free(&bulk->line);
    }

    ngx_http_kv_text_free(&bulk->text);
}


/* Reads a whole line, and stores what it says.  Results as above. */

static ngx_int_t
ngx_http_kv_bulk_parse(ngx_http_kv_bulk_t *bulk, char *text, size_t len)
{
    kv_rc_t      rc;
    const char  *wrong;

    ngx_http_kv_text_whole(&bulk->text);

    if (len > kv_line_max(bulk->ctx->max_value)) {
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     bulk->lines + 1, "line too long");
    }

    if (bulk->lines++ == 0 && len >= 3 && ngx_memcmp(text, "\xef\xbb\xbf", 3)
                                          == 0)
    {
        /* some editors put a mark of UTF-8 there */

        text += 3;
        len -= 3;
    }

    if (kv_line_blank(text, len)) {
        ngx_http_kv_bulk_add(bulk, NULL);
        return NGX_OK;
    }

    rc = kv_line_parse(&bulk->line, text, len, bulk->ctx->max_value,
                       bulk->ctx->key_chars);

    if (rc == KV_DECLINED) {
        return ngx_http_kv_bulk_fail(bulk, bulk->line.too_large
                                     ? NGX_HTTP_REQUEST_ENTITY_TOO_LARGE
                                     : NGX_HTTP_BAD_REQUEST, bulk->lines,
                                     bulk->line.error);
    }

    if (rc != KV_OK) {
        return ngx_http_kv_bulk_fail_rc(bulk, KV_UNAVAILABLE, bulk->lines);
    }

    bulk->pending = 1;

    wrong = ngx_http_kv_bound_line(bulk->ctx, &bulk->line);

    if (wrong) {
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_BAD_REQUEST, bulk->lines,
                                     wrong);
    }

    if (ngx_http_kv_bulk_time(bulk) != NGX_OK) {
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_BAD_REQUEST, bulk->lines,
                                     "invalid expires");
    }

    return ngx_http_kv_bulk_store(bulk);
}


/* When a put expires, as seconds from now.  What has expired is deleted. */

static ngx_int_t
ngx_http_kv_bulk_time(ngx_http_kv_bulk_t *bulk)
{
    uint64_t    now;
    kv_line_t  *line;

    line = &bulk->line;
    now = (uint64_t) ngx_time();

    if (line->expires == 0) {
        line->ttl = line->ttl ? line->ttl : bulk->ctx->zone->ttl;
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
ngx_http_kv_bulk_store(ngx_http_kv_bulk_t *bulk)
{
    kv_op_t  *op;
    kv_rc_t   rc;

    rc = ngx_http_kv_bulk_op(bulk, &op);

    if (rc == KV_OK) {
        ngx_http_kv_bulk_add(bulk, op);
        return NGX_OK;
    }

    if (rc != KV_NO_MEMORY) {
        return ngx_http_kv_bulk_fail_rc(bulk, rc, bulk->lines);
    }

    /* what is under way may replace values, and so free memory */

    return bulk->built->n || bulk->queued ? NGX_AGAIN
                                          : ngx_http_kv_bulk_wait(bulk);
}


static kv_rc_t
ngx_http_kv_bulk_op(ngx_http_kv_bulk_t *bulk, kv_op_t **op)
{
    u_char       meta[KV_META_MAX];
    kv_rc_t      rc;
    kv_line_t   *line;
    kv_name_t    name;
    kv_store_t  *store;

    line = &bulk->line;
    store = bulk->ctx->zone->store;

    /* a worker that is to quit gives its place up between two groups */

    if (ngx_http_kv_entered(bulk->ctx->zone) != NGX_OK) {
        return KV_UNAVAILABLE;
    }

    if (line->op == KV_LINE_DELETE) {
        return kv_store_group_delete(store, NULL, line->key, line->key_len,
                                     op);
    }

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


/* The line is done with; NULL: it was empty. */

static void
ngx_http_kv_bulk_add(ngx_http_kv_bulk_t *bulk, kv_op_t *op)
{
    kv_line_t            *line;
    ngx_http_kv_group_t  *group;

    if (op) {
        line = &bulk->line;
        group = bulk->built;

        op->data = NULL;

        if (group->n) {
            group->last->data = op;

        } else {
            group->first = op;
            group->bytes = 0;
        }

        group->last = op;
        group->line[group->n++] = bulk->lines;
        group->bytes += line->key_len + line->meta.type_len
                        + line->meta.encoding_len + line->value_len
                        + NGX_HTTP_KV_BULK_EACH;

        kv_line_free(line);
    }

    bulk->pending = 0;

    if (bulk->next) {
        bulk->ctx->request->request_body->bufs->buf->pos = bulk->next;
    }

    if (bulk->text.data) {
        ngx_http_kv_text_free(&bulk->text);
    }
}


static ngx_int_t
ngx_http_kv_bulk_wait(ngx_http_kv_bulk_t *bulk)
{
    uint32_t            need;
    ngx_http_kv_ctx_t  *ctx;

    ctx = bulk->ctx;

    /* among others it is as old as this line, and may wait as long for it */

    ctx->started = kv_now_ns();
    ctx->waited = 0;
    ctx->arrived = bulk->line.op == KV_LINE_PUT;

    need = bulk->line.value_len;

    if (ngx_http_kv_reserve_wait(ctx, need, ngx_http_kv_bulk_again) == NGX_OK) {
        return NGX_BUSY;
    }

    return ngx_http_kv_bulk_fail_rc(bulk, KV_NO_MEMORY, bulk->lines);
}


static kv_rc_t
ngx_http_kv_bulk_again(ngx_http_kv_ctx_t *ctx)
{
    kv_op_t             *op;
    kv_rc_t              rc;
    ngx_connection_t    *c;
    ngx_http_kv_bulk_t  *bulk;

    bulk = ctx->bulk;
    c = ctx->request->connection;

    rc = ngx_http_kv_bulk_op(bulk, &op);

    if (rc == KV_NO_MEMORY) {
        return KV_NO_MEMORY;
    }

    ngx_http_kv_wait_leave(ctx);

    if (rc == KV_OK) {
        ngx_http_kv_bulk_add(bulk, op);
        ngx_http_kv_bulk_run(bulk);

    } else {
        (void) ngx_http_kv_bulk_fail_rc(bulk, rc, bulk->lines);
        ngx_http_kv_bulk_end(bulk);
    }

    ngx_http_run_posted_requests(c);

    return KV_OK;
}


/* Whether no more fits into the group that is built. */

static ngx_uint_t
ngx_http_kv_bulk_full(ngx_http_kv_bulk_t *bulk)
{
    size_t               max, size;
    ngx_http_kv_zone_t  *zone;

    zone = bulk->ctx->zone;
    size = ngx_http_kv_zone_size(zone);

    max = ngx_min(NGX_HTTP_KV_BULK_BYTES, size / NGX_HTTP_KV_BULK_SHARE);
    max = ngx_min(max, size / NGX_HTTP_KV_BULK_ALL
                       / ngx_max(zone->loading, 1));

    return bulk->built->n >= ngx_http_kv_bulk_most(bulk)
           || (bulk->built->n && bulk->built->bytes >= max);
}


/* How many lines a group may have now. */

static ngx_uint_t
ngx_http_kv_bulk_most(ngx_http_kv_bulk_t *bulk)
{
    uint64_t    most;
    ngx_uint_t  share;

    most = ngx_max(bulk->took / (bulk->beside ? NGX_HTTP_KV_BULK_PACE
                                              : NGX_HTTP_KV_BULK_EACH_NS),
                   NGX_HTTP_KV_BULK_LEAST);
    share = NGX_HTTP_KV_BULK_LINES / ngx_max(bulk->ctx->zone->loading, 1);
    share = ngx_max(share, NGX_HTTP_KV_BULK_STEP);

    return (ngx_uint_t) ngx_min(most, share);
}


/* Submits the group that is built, if there is one and none before it. */

static void
ngx_http_kv_bulk_submit(ngx_http_kv_bulk_t *bulk)
{
    if (bulk->queued || bulk->built->n == 0) {
        return;
    }

    bulk->queued = bulk->built;
    bulk->queued->submitted = kv_now_ns();
    bulk->ctx->zone->loading++;
    bulk->built = &bulk->groups[bulk->queued == &bulk->groups[0]];

    ngx_http_kv_submit_group(bulk->ctx, bulk->queued->first,
                             bulk->queued->last, ngx_http_kv_bulk_done);
}


static void
ngx_http_kv_bulk_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    kv_op_t              *op;
    uint64_t              line, lsn;
    ngx_uint_t            i, wrote;
    ngx_connection_t     *c;
    ngx_http_kv_bulk_t   *bulk;
    ngx_http_kv_group_t  *group;

    bulk = ctx->bulk;
    group = bulk->queued;
    c = ctx->request->connection;
    line = 0;
    wrote = 0;

    bulk->took = (4 * bulk->took + kv_now_ns() - group->submitted) / 5;

    for (i = 0, op = group->first; i < group->n; i++, op = op->data) {

        if (kv_store_done(op, &rc) && rc == KV_OK) {
            bulk->applied++;

            lsn = kv_store_result(ctx->zone->store, op).lsn;

            /* that of a delete is not told */

            lsn = lsn || bulk->newest == 0 ? lsn : bulk->newest + 1;
            wrote |= bulk->newest && lsn != bulk->newest + 1;
            bulk->newest = lsn;

        } else if (line == 0) {
            line = group->line[i];
            (void) ngx_http_kv_bulk_fail_rc(bulk, rc, line);
        }
    }

    ngx_http_kv_detach(ctx);
    ngx_http_kv_bulk_pace(bulk, group, wrote);

    group->n = 0;
    bulk->queued = NULL;
    ctx->zone->loading--;

    if (line) {
        ngx_http_kv_bulk_drop(bulk);
    }

    if (line || bulk->ended) {
        ngx_http_kv_bulk_end(bulk);

    } else if (bulk->ahead >= NGX_HTTP_KV_BULK_REST && !ctx->zone->draining) {
        ngx_http_kv_bulk_block(bulk);

        /* a worker that is to quit gives its place up if nothing is queued */

        ngx_http_kv_bulk_submit(bulk);
        ngx_http_kv_step_later(&bulk->step);

    } else {
        ngx_http_kv_bulk_run(bulk);
    }

    ngx_http_run_posted_requests(c);
}


/*
 * After a group: whether others use the store, who wrote beside it or have
 * read, and how far the load is ahead of the pace that it has then.  What it
 * waited for its client does not count.
 */

static void
ngx_http_kv_bulk_pace(ngx_http_kv_bulk_t *bulk,
    const ngx_http_kv_group_t *group, ngx_uint_t wrote)
{
    uint64_t  now, reads, pace;

    now = kv_now_ns();
    reads = ngx_http_kv_counts_reads(bulk->ctx->zone->store);

    if (wrote || reads != bulk->reads) {
        bulk->others = now;
        bulk->reads = reads;
    }

    bulk->beside = now - bulk->others < NGX_HTTP_KV_BULK_OTHERS;

    pace = group->n * NGX_HTTP_KV_BULK_PACE
           + group->bytes * NGX_HTTP_KV_BULK_PACE_BYTE;

    bulk->ahead = bulk->beside ? bulk->ahead + pace : 0;
    bulk->ahead -= ngx_min(bulk->ahead, now - group->submitted);
    bulk->rested = now;
}


/* Whether it has rested long enough. */

static ngx_uint_t
ngx_http_kv_bulk_rested(ngx_http_kv_bulk_t *bulk)
{
    uint64_t  now;

    now = kv_now_ns();

    bulk->ahead -= ngx_min(bulk->ahead, now - bulk->rested);
    bulk->rested = now;

    return bulk->ahead < NGX_HTTP_KV_BULK_REST || bulk->ctx->zone->draining;
}


static void
ngx_http_kv_bulk_yield(void)
{
    uint64_t         begun, now;
    static uint64_t  not_before;

    begun = kv_now_ns();

    if (begun < not_before) {
        return;
    }

    (void) sched_yield();

    now = kv_now_ns();

    if (now - begun > NGX_HTTP_KV_BULK_YIELD) {
        not_before = now + NGX_HTTP_KV_BULK_YIELD_VAIN;
    }
}


/* Gives up what is not submitted. */

static void
ngx_http_kv_bulk_drop(ngx_http_kv_bulk_t *bulk)
{
    kv_op_t     *op, *next;
    ngx_uint_t   n;

    for (n = bulk->built->n, op = bulk->built->first; n; n--, op = next) {
        next = op->data;
        kv_store_release(bulk->ctx->zone->store, op);
    }

    bulk->built->n = 0;
}


/*
 * The request waits for memory in vain, or the zone is to be rebuilt, which
 * takes all operations away.
 */

static void
ngx_http_kv_bulk_refuse(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    uint64_t             line;
    ngx_connection_t    *c;
    ngx_http_kv_bulk_t  *bulk;

    bulk = ctx->bulk;
    c = ctx->request->connection;
    line = bulk->lines;

    if (ctx->zone->resetting) {
        if (bulk->queued) {
            line = bulk->queued->line[0];
            bulk->queued = NULL;
            ctx->zone->loading--;
        }

        bulk->built->n = 0;
    }

    ngx_http_kv_wait_leave(ctx);
    ngx_http_kv_bulk_drop(bulk);

    (void) ngx_http_kv_bulk_fail_rc(bulk, rc, line);
    ngx_http_kv_bulk_end(bulk);

    ngx_http_run_posted_requests(c);
}


/* Notes what is wrong with a line; it counts, as it comes first. */

static ngx_int_t
ngx_http_kv_bulk_fail(ngx_http_kv_bulk_t *bulk, ngx_uint_t status,
    uint64_t line, const char *error)
{
    bulk->status = status;
    bulk->failed = line;

    (void) ngx_cpystrn((u_char *) bulk->error, (u_char *) error,
                       sizeof(bulk->error));

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_kv_bulk_fail_rc(ngx_http_kv_bulk_t *bulk, kv_rc_t rc, uint64_t line)
{
    switch (rc) {

    case KV_NO_MEMORY:
        kv_store_refused(bulk->ctx->zone->store);

        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_INSUFFICIENT_STORAGE, line,
                                     "zone is full");

    case KV_NO_SPACE:
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_INSUFFICIENT_STORAGE, line,
                                     "disk is full");

    default:
        return ngx_http_kv_bulk_fail(bulk, NGX_HTTP_SERVICE_UNAVAILABLE, line,
                                     "store is unavailable");
    }
}


static void
ngx_http_kv_bulk_answer(ngx_http_kv_bulk_t *bulk)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = bulk->ctx->request;
    bulk->ctx->started = bulk->started;

    rc = ngx_http_kv_bulk_reply(bulk);

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, bulk->ctx);
    }

    ngx_http_finalize_request(r, rc);
}


/* Says what was done.  As ngx_http_kv_reply_json(). */

static ngx_int_t
ngx_http_kv_bulk_reply(ngx_http_kv_bulk_t *bulk)
{
    ngx_buf_t           *b;
    ngx_http_request_t  *r;

    r = bulk->ctx->request;

    b = ngx_create_temp_buf(r->pool, sizeof(bulk->error) + 128);

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (bulk->status == 0) {
        bulk->status = NGX_HTTP_OK;
        b->last = ngx_slprintf(b->pos, b->end, "{\"lines\":%uL,"
                               "\"applied\":%uL}\n", bulk->lines,
                               bulk->applied);

    } else {
        b->last = ngx_slprintf(b->pos, b->end, "{\"line\":%uL,\"error\":\"%s\","
                               "\"applied\":%uL}\n", bulk->failed, bulk->error,
                               bulk->applied);
    }

    return ngx_http_kv_reply_json(r, bulk->status, b);
}
