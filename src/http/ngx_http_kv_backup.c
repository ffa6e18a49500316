
/*
 * GET /backup: a file with all that the store holds, as it is sent.
 *
 * A thread of the pool fills one buffer with the file's next bytes, the event
 * loop sends it, and when all of it has left the thread fills it again: so a
 * backup takes as much memory as that, and no event loop waits for a disk.
 * What it needs of the log is kept meanwhile, but not for as long as the client
 * likes: see kv_backup's "hold=".
 *
 * The request may end at any time, also while a thread is at work, so what
 * belongs to both is in memory of its own.  It goes when the request's pool has
 * gone, from which nginx may send the buffer until then (ngx_http_kv_reply.c),
 * and no thread is in it.
 */


#include "http/ngx_http_kv.h"


/* bytes that are read, and sent, at a time */
#define NGX_HTTP_KV_BACKUP_BUFFER  262144

#define NGX_HTTP_KV_BACKUP_TYPE    "application/octet-stream"


typedef struct {
    ngx_queue_t              queue;         /* zone->backups */
    ngx_pool_t              *pool;          /* of this */
    ngx_http_kv_zone_t      *zone;
    ngx_http_request_t      *request;       /* NULL: its pool has gone */
    kv_store_backup_t       *store;
    kv_store_backup_info_t   info;
    ngx_thread_task_t       *task;
    u_char                  *data;          /* the buffer's memory, */
    size_t                   n;             /* and how much a thread read */
    ngx_buf_t                buf;
    uint64_t                 sent;          /* bytes given to nginx */
    ngx_msec_t               deadline;      /* of the client for the buffer;
                                               0: it did not have to wait */
    kv_rc_t                  rc;            /* of the thread */
    unsigned                 ready:1;       /* the header can be sent */
    unsigned                 working:1;     /* a thread is in it */
    unsigned                 over:1;        /* the request has ended, or was
                                               refused */
} ngx_http_kv_backup_t;


static ngx_http_kv_backup_t *ngx_http_kv_backup_create(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);
static ngx_int_t ngx_http_kv_backup_attach(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_ended(void *data);
static void ngx_http_kv_backup_gone(void *data);
static void ngx_http_kv_backup_free(ngx_http_kv_backup_t *b);
static ngx_int_t ngx_http_kv_backup_post(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_task(void *data, ngx_log_t *log);
static void ngx_http_kv_backup_task_over(ngx_event_t *ev);
static void ngx_http_kv_backup_go_on(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_refuse(ngx_http_kv_backup_t *b, kv_rc_t rc);
static ngx_int_t ngx_http_kv_backup_headers(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_send(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_writable(ngx_http_request_t *r);
static void ngx_http_kv_backup_wait(ngx_http_kv_backup_t *b);
static ngx_msec_t ngx_http_kv_backup_time(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_timed_out(ngx_http_kv_backup_t *b);
static void ngx_http_kv_backup_cut(ngx_http_kv_backup_t *b);


ngx_int_t
ngx_http_kv_backup(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t                  rc;
    ngx_http_kv_backup_t    *b;
    ngx_http_kv_loc_conf_t  *klcf;

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    if (r->method == NGX_HTTP_HEAD || r->header_only) {

        /* what a GET would send is not known before it is made */

        return ngx_http_kv_reply_begin(r, NGX_HTTP_KV_BACKUP_TYPE, -1);
    }

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    b = ngx_http_kv_backup_create(r, ctx);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_exiting ? KV_UNAVAILABLE
                     : kv_store_backup_begin(ctx->zone->store, klcf->hold,
                                             &b->store);

    if (rc == KV_OK && ngx_http_kv_backup_attach(b) != NGX_OK) {
        ngx_http_kv_backup_free(b);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc != KV_OK || ngx_http_kv_backup_post(b) != NGX_OK) {

        if (rc != KV_OK) {
            ngx_http_kv_backup_free(b);

        } else {
            b->over = 1;
        }

        return rc == KV_BUSY
               ? ngx_http_kv_reply(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                   "too many backups at a time\n")
               : ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }

    r->main->count++;

    (void) ngx_http_kv_watch_client(r);

    return NGX_DONE;
}


static ngx_http_kv_backup_t *
ngx_http_kv_backup_create(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    ngx_pool_t            *pool;
    ngx_http_kv_backup_t  *b;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, ctx->zone->log);
    if (pool == NULL) {
        return NULL;
    }

    b = ngx_pcalloc(pool, sizeof(ngx_http_kv_backup_t));

    if (b) {
        b->task = ngx_thread_task_alloc(pool, 0);
        b->data = ngx_palloc(pool, NGX_HTTP_KV_BACKUP_BUFFER);
    }

    if (b == NULL || b->task == NULL || b->data == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    b->pool = pool;
    b->zone = ctx->zone;
    b->request = r;
    ctx->bulk = b;

    b->task->ctx = b;
    b->task->handler = ngx_http_kv_backup_task;
    b->task->event.data = b;
    b->task->event.handler = ngx_http_kv_backup_task_over;
    b->task->event.log = ctx->zone->log;

    ngx_queue_insert_tail(&ctx->zone->backups, &b->queue);

    return b;
}


/* Ties it to its request: to the end of that, and of its pool. */

static ngx_int_t
ngx_http_kv_backup_attach(ngx_http_kv_backup_t *b)
{
    ngx_http_cleanup_t  *ended;
    ngx_pool_cleanup_t  *gone;

    ended = ngx_http_cleanup_add(b->request, 0);
    gone = ngx_pool_cleanup_add(b->request->pool, 0);

    if (ended == NULL || gone == NULL) {
        return NGX_ERROR;
    }

    ended->handler = ngx_http_kv_backup_ended;
    ended->data = b;

    gone->handler = ngx_http_kv_backup_gone;
    gone->data = b;

    return NGX_OK;
}


/* The request's cleanup: a thread has no more work for it. */

static void
ngx_http_kv_backup_ended(void *data)
{
    ngx_http_kv_backup_t *b = data;

    b->over = 1;
    kv_store_backup_stop(b->store);
}


/* The pool's. */

static void
ngx_http_kv_backup_gone(void *data)
{
    ngx_http_kv_backup_t *b = data;

    b->over = 1;
    b->request = NULL;

    if (b->working) {
        kv_store_backup_stop(b->store);
        return;
    }

    ngx_http_kv_backup_free(b);
}


static void
ngx_http_kv_backup_free(ngx_http_kv_backup_t *b)
{
    ngx_http_kv_zone_t  *zone;

    zone = b->zone;

    if (b->store) {
        kv_store_backup_end(b->store, b->info.bytes
                                      && b->sent == b->info.bytes
                                      && ngx_buf_size(&b->buf) == 0);
    }

    ngx_queue_remove(&b->queue);
    ngx_destroy_pool(b->pool);

    ngx_http_kv_rest(zone);
}


/* Has a thread do the next part of the work. */

static ngx_int_t
ngx_http_kv_backup_post(ngx_http_kv_backup_t *b)
{
    if (b->zone->thread_pool == NULL
        || ngx_thread_task_post(b->zone->thread_pool, b->task) != NGX_OK)
    {
        return NGX_ERROR;
    }

    b->working = 1;

    return NGX_OK;
}


static void
ngx_http_kv_backup_task(void *data, ngx_log_t *log)
{
    ngx_http_kv_backup_t *b = data;

    (void) log;

    b->n = 0;

    b->rc = b->ready ? KV_OK : kv_store_backup_prepare(b->store, &b->info);

    if (b->rc == KV_OK) {
        b->rc = kv_store_backup_read(b->store, b->data,
                                     NGX_HTTP_KV_BACKUP_BUFFER, &b->n);
    }
}


static void
ngx_http_kv_backup_task_over(ngx_event_t *ev)
{
    ngx_connection_t      *c;
    ngx_http_kv_backup_t  *b;

    b = ev->data;
    b->working = 0;

    if (b->request == NULL) {
        ngx_http_kv_backup_free(b);

    } else if (!b->over) {
        c = b->request->connection;

        ngx_http_kv_backup_go_on(b);
        ngx_http_run_posted_requests(c);
    }
}


/* A thread has read more, or knows that it cannot. */

static void
ngx_http_kv_backup_go_on(ngx_http_kv_backup_t *b)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = b->request;

    if (b->rc != KV_OK && b->ready) {
        ngx_http_kv_backup_cut(b);
        return;
    }

    if (b->rc != KV_OK) {
        ngx_http_kv_backup_refuse(b, b->rc);
        return;
    }

    if (!b->ready) {
        b->ready = 1;

        rc = ngx_http_kv_backup_headers(b) == NGX_OK
             ? ngx_http_kv_reply_begin(r, NGX_HTTP_KV_BACKUP_TYPE,
                                       (off_t) b->info.bytes)
             : NGX_ERROR;

        if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
            ngx_http_finalize_request(r, rc);
            return;
        }

        r->write_event_handler = ngx_http_kv_backup_writable;
    }

    ngx_http_kv_backup_send(b);
}


/*
 * There is none, of which nothing was sent yet.  Only the answer is left, which
 * may take the client as long as it likes: that is no work of a backup.
 */

static void
ngx_http_kv_backup_refuse(ngx_http_kv_backup_t *b, kv_rc_t rc)
{
    ngx_http_request_t  *r;

    b->over = 1;
    kv_store_backup_stop(b->store);

    r = b->request;
    r->read_event_handler = ngx_http_block_reading;

    ngx_http_finalize_request(r, rc == KV_CANCELLED
                                 ? ngx_http_kv_reply_rc(r, KV_UNAVAILABLE)
                                 : ngx_http_kv_reply(r,
                                       NGX_HTTP_INTERNAL_SERVER_ERROR,
                                       "backup failed\n"));
}


/* Its name: the zone's, L, and when it was begun. */

static ngx_int_t
ngx_http_kv_backup_headers(ngx_http_kv_backup_t *b)
{
    u_char              *name;
    ngx_tm_t             tm;
    kv_version_t         version;
    ngx_http_request_t  *r;
    char                *tag;

    r = b->request;

    name = ngx_pnalloc(r->pool, sizeof("attachment; filename=\"--.kvb\"")
                                + b->zone->name.len + 16
                                + sizeof("YYYYMMDDThhmmssZ"));
    tag = ngx_pnalloc(r->pool, KV_VERSION_TAG);

    if (name == NULL || tag == NULL) {
        return NGX_ERROR;
    }

    ngx_gmtime((time_t) (b->info.time_ms / 1000), &tm);

    (void) ngx_sprintf(name, "attachment; filename=\"%V-%016xL-"
                       "%04d%02d%02dT%02d%02d%02dZ.kvb\"%Z", &b->zone->name,
                       b->info.lsn, tm.ngx_tm_year, tm.ngx_tm_mon,
                       tm.ngx_tm_mday, tm.ngx_tm_hour, tm.ngx_tm_min,
                       tm.ngx_tm_sec);

    version.lsn = b->info.lsn;
    version.incarnation = b->info.incarnation;

    /* as in lists, without quotes */

    tag[kv_version_tag(&version, tag) - 1] = '\0';

    return ngx_http_kv_header(r, "Content-Disposition", (char *) name)
           == NGX_OK
           && ngx_http_kv_header(r, "KV-Version", tag + 1) == NGX_OK
           ? ngx_http_kv_header(r, "X-Content-Type-Options", "nosniff")
           : NGX_ERROR;
}


/* Gives nginx what was read; and when that has left, has more read. */

static void
ngx_http_kv_backup_send(ngx_http_kv_backup_t *b)
{
    ngx_int_t            rc;
    ngx_chain_t          out;
    ngx_event_t         *wev;
    ngx_http_request_t  *r;

    r = b->request;
    wev = r->connection->write;
    out.buf = &b->buf;
    out.next = NULL;

    if (b->n) {
        ngx_memzero(&b->buf, sizeof(ngx_buf_t));

        b->buf.start = b->data;
        b->buf.pos = b->data;
        b->buf.last = b->data + b->n;
        b->buf.end = b->data + NGX_HTTP_KV_BACKUP_BUFFER;
        b->buf.temporary = 1;
        b->buf.flush = 1;

        b->sent += b->n;
        b->deadline = 0;
        b->buf.last_buf = b->sent == b->info.bytes && r == r->main;
        b->buf.last_in_chain = b->sent == b->info.bytes;
    }

    rc = ngx_http_output_filter(r, b->n ? &out : NULL);
    b->n = 0;

    if (rc == NGX_ERROR || b->sent == b->info.bytes) {

        /* of the last one, nginx sends what is left by itself */

        r->read_event_handler = ngx_http_block_reading;
        ngx_http_finalize_request(r, rc);
        return;
    }

    if (ngx_buf_size(&b->buf)) {
        ngx_http_kv_backup_wait(b);
        return;
    }

    if (wev->timer_set && !wev->delayed) {
        ngx_del_timer(wev);
    }

    if (ngx_http_kv_backup_post(b) != NGX_OK) {
        ngx_http_kv_backup_cut(b);
    }
}


/*
 * The client is to take more before the buffer is free.  There are few backups
 * at a time, so it may not take it byte by byte.
 */

static void
ngx_http_kv_backup_wait(ngx_http_kv_backup_t *b)
{
    ngx_event_t               *wev;
    ngx_msec_int_t             left;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = b->request;
    wev = r->connection->write;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (b->deadline == 0) {
        b->deadline = ngx_current_msec + ngx_http_kv_backup_time(b);
    }

    left = (ngx_msec_int_t) (b->deadline - ngx_current_msec);

    if (left <= 0) {
        ngx_http_kv_backup_timed_out(b);
        return;
    }

    if (!wev->delayed) {
        ngx_add_timer(wev, ngx_min(clcf->send_timeout, (ngx_msec_t) left));
    }

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


/* In which all of the buffer is to leave, with what limit_rate asks for. */

static ngx_msec_t
ngx_http_kv_backup_time(ngx_http_kv_backup_t *b)
{
    ngx_msec_t                 time;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = b->request;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    time = clcf->send_timeout;

    if (r->limit_rate) {
        time += 2 * 1000 * (ngx_msec_t) NGX_HTTP_KV_BACKUP_BUFFER
                / r->limit_rate;
    }

    return time;
}


static void
ngx_http_kv_backup_timed_out(ngx_http_kv_backup_t *b)
{
    ngx_http_request_t  *r;

    r = b->request;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, NGX_ETIMEDOUT,
                  "client timed out");
    r->connection->timedout = 1;
    ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
}


static void
ngx_http_kv_backup_writable(ngx_http_request_t *r)
{
    ngx_event_t           *wev;
    ngx_http_kv_ctx_t     *ctx;
    ngx_http_kv_backup_t  *b;

    wev = r->connection->write;
    ctx = ngx_http_get_module_ctx(r, ngx_http_kv_module);
    b = ctx->bulk;

    if (wev->timedout) {
        ngx_http_kv_backup_timed_out(b);
        return;
    }

    if (b->working) {
        return;
    }

    if (wev->delayed) {
        ngx_http_kv_backup_wait(b);

    } else {
        ngx_http_kv_backup_send(b);
    }
}


/* The client is to see that something is missing. */

static void
ngx_http_kv_backup_cut(ngx_http_kv_backup_t *b)
{
    ngx_http_finalize_request(b->request, NGX_ERROR);
}


void
ngx_http_kv_backup_finish(ngx_http_kv_zone_t *zone)
{
    ngx_queue_t           *q;
    ngx_connection_t      *c;
    ngx_http_kv_backup_t  *b;

    q = ngx_queue_head(&zone->backups);

    while (q != ngx_queue_sentinel(&zone->backups)) {

        b = ngx_queue_data(q, ngx_http_kv_backup_t, queue);

        if (b->over || (b->ready && b->sent == b->info.bytes)) {
            q = ngx_queue_next(q);
            continue;
        }

        c = b->request->connection;

        if (b->ready) {
            ngx_http_kv_backup_cut(b);

        } else {
            ngx_http_kv_backup_refuse(b, KV_CANCELLED);
        }

        ngx_http_run_posted_requests(c);

        /* it is gone, or over; and so may be others */

        q = ngx_queue_head(&zone->backups);
    }
}
