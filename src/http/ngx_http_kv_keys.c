
/*
 * GET /keys: keys in the order of their bytes, a page at a time.
 *
 * A page is made whole, in memory of the request, before it is sent, and so has
 * a size: at most NGX_HTTP_KV_KEYS_PAGE bytes, or one entry.  It is made in
 * steps (ngx_http_kv_steps.c).  Between two of them there is only a copy of the
 * key with which the next one begins: nothing of the zone is held.
 */


#include "http/ngx_http_kv_keys_private.h"


/* bytes of a page's body, about */
#define NGX_HTTP_KV_KEYS_PAGE   (1024 * 1024)

/*
 * What all pages of a worker may take, bytes; and how long a client has had one
 * that is given up for others, nanoseconds.
 */
#define NGX_HTTP_KV_KEYS_HELD   67108864
#define NGX_HTTP_KV_KEYS_SLOW   1000000000ull


static ngx_int_t ngx_http_kv_keys_begin(ngx_http_kv_keys_t *keys);
static void ngx_http_kv_keys_cleanup(void *data);
static void ngx_http_kv_keys_forget(ngx_http_kv_keys_t *keys);
static ngx_int_t ngx_http_kv_keys_hold(ngx_http_kv_keys_t *keys);
static ngx_http_kv_keys_t *ngx_http_kv_keys_oldest(ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_keys_sleep(ngx_http_kv_keys_t *keys);
static void ngx_http_kv_keys_next(ngx_http_kv_keys_t *keys);
static void ngx_http_kv_keys_take(void *data);
static void ngx_http_kv_keys_stop(void *data);
static ngx_int_t ngx_http_kv_keys_run(ngx_http_kv_keys_t *keys);
static ngx_int_t ngx_http_kv_keys_step(ngx_http_kv_keys_t *keys);
static ngx_int_t ngx_http_kv_keys_skip(ngx_http_kv_keys_t *keys);
static bool ngx_http_kv_keys_visit(void *data, const void *key, size_t n,
    const kv_entry_t *e, uint64_t expires);
static bool ngx_http_kv_keys_pause(ngx_http_kv_keys_t *keys, ngx_str_t *key,
    ngx_uint_t behind);
static bool ngx_http_kv_keys_add(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e, uint64_t expires, ngx_str_t *key);
static ngx_uint_t ngx_http_kv_keys_rolled_up(ngx_http_kv_keys_t *keys,
    ngx_str_t *key, ngx_str_t *common);
static ngx_int_t ngx_http_kv_keys_answer(ngx_http_kv_keys_t *keys,
    ngx_int_t rc);
static ngx_int_t ngx_http_kv_keys_end(ngx_http_kv_keys_t *keys);
static ngx_int_t ngx_http_kv_keys_end_list(ngx_http_kv_page_t *page,
    const char *name, ngx_http_kv_page_t *list);
static ngx_int_t ngx_http_kv_keys_send(ngx_http_kv_keys_t *keys);


static const char *const  ngx_http_kv_keys_types[] = {
    "text/plain", "application/x-ndjson", "application/json"
};


ngx_int_t
ngx_http_kv_keys(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    uint64_t             begun;
    ngx_int_t            rc;
    const char          *wrong;
    ngx_http_kv_keys_t  *keys;

    keys = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_keys_t));
    if (keys == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    keys->request = r;
    keys->ctx = ctx;

    rc = ngx_http_kv_keys_args(keys, &wrong);

    if (rc != NGX_OK) {
        return rc == NGX_ERROR
               ? NGX_HTTP_INTERNAL_SERVER_ERROR
               : ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    if (ngx_http_kv_discard(ctx) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    if (ngx_http_kv_keys_begin(keys) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    begun = ngx_http_kv_step_begin();

    if (begun == 0) {
        return ngx_http_kv_keys_sleep(keys);
    }

    rc = ngx_http_kv_keys_run(keys);
    rc = rc == NGX_AGAIN ? ngx_http_kv_keys_sleep(keys)
                         : ngx_http_kv_keys_answer(keys, rc);

    ngx_http_kv_step_end(begun);

    return rc;
}


static ngx_int_t
ngx_http_kv_keys_begin(ngx_http_kv_keys_t *keys)
{
    ngx_str_t            common;
    ngx_pool_cleanup_t  *cln;

    /* the page lasts as long as the pool: see ngx_http_kv_reply.c */

    cln = ngx_pool_cleanup_add(keys->request->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_kv_keys_cleanup;
    cln->data = keys;

    keys->entries.pool = keys->request->pool;
    keys->prefixes.pool = keys->request->pool;
    keys->no_text.pool = keys->request->pool;

    /* first: what the list shows is this state, or a later one */

    keys->ctx->version = kv_store_state_version(keys->ctx->zone->store);

    keys->goes_on = 1;
    keys->from = keys->prefix;

    /* where all keys have a prefix, one that is nothing else has no name */

    keys->behind = keys->ctx->prefix.len
                   && keys->prefix.len == keys->ctx->prefix.len;

    if (keys->after.data
        && (keys->prefix.len == 0
            || ngx_memn2cmp(keys->after.data, keys->prefix.data,
                            keys->after.len, keys->prefix.len) >= 0))
    {
        keys->from = keys->after;
        keys->behind = 1;

        if (ngx_http_kv_keys_rolled_up(keys, &keys->after, &common)) {
            keys->skip = common;
        }
    }

    if (keys->format == NGX_HTTP_KV_KEYS_AS_JSON
        && ngx_http_kv_page_text(&keys->entries, "{\"keys\":[") != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_kv_keys_cleanup(void *data)
{
    ngx_http_kv_keys_t *keys = data;

    ngx_http_kv_keys_forget(keys);
}


/* It does not count any more. */

static void
ngx_http_kv_keys_forget(ngx_http_kv_keys_t *keys)
{
    keys->ctx->zone->list_bytes -= keys->held;
    keys->held = 0;

    if (keys->sent) {
        keys->sent = 0;
        ngx_queue_remove(&keys->lists);
    }
}


/*
 * Counts what the page takes by now.  If all take too much, those that a client
 * has had for longest, and not read, are given up.  NGX_DECLINED: there are
 * none.
 */

static ngx_int_t
ngx_http_kv_keys_hold(ngx_http_kv_keys_t *keys)
{
    size_t               max, held;
    ngx_http_kv_keys_t  *other;
    ngx_http_kv_zone_t  *zone;

    zone = keys->ctx->zone;
    max = ngx_max(NGX_HTTP_KV_KEYS_HELD, 4 * (size_t) zone->conf.max_value);

    held = keys->entries.size + keys->prefixes.size + keys->no_text.size
           + (keys->todo == NGX_HTTP_KV_VALUE_NONE ? 0 : keys->value.len);

    zone->list_bytes += held;
    zone->list_bytes -= keys->held;
    keys->held = held;

    while (zone->list_bytes > max) {
        other = ngx_http_kv_keys_oldest(zone);

        if (other == NULL) {
            keys->many = 1;
            return NGX_DECLINED;
        }

        /* its pool goes soon */

        ngx_http_kv_keys_forget(other);

        ngx_log_error(NGX_LOG_INFO, other->request->connection->log, 0,
                      "kv zone \"%V\": a client is too slow for a list, its "
                      "connection is cut", &zone->name);

        ngx_http_kv_cut_connection(other->request);
    }

    return NGX_OK;
}


/* The page that its client has had for longest, and long enough; or NULL. */

static ngx_http_kv_keys_t *
ngx_http_kv_keys_oldest(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_keys_t  *oldest;

    if (ngx_queue_empty(&zone->lists)) {
        return NULL;
    }

    oldest = ngx_queue_data(ngx_queue_head(&zone->lists), ngx_http_kv_keys_t,
                            lists);

    return kv_now_ns() - oldest->sent >= NGX_HTTP_KV_KEYS_SLOW ? oldest : NULL;
}


/* Has the rest done in other rounds of the event loop. */

static ngx_int_t
ngx_http_kv_keys_sleep(ngx_http_kv_keys_t *keys)
{
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(keys->request, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_kv_keys_stop;
    cln->data = keys;

    keys->step.ctx = keys->ctx;
    keys->step.take = ngx_http_kv_keys_take;
    keys->step.data = keys;
    keys->step.watches = 1;

    keys->request->main->count++;

    ngx_http_kv_keys_next(keys);

    return NGX_DONE;
}


/* The request may be gone afterwards. */

static void
ngx_http_kv_keys_next(ngx_http_kv_keys_t *keys)
{
    if (keys->later) {
        ngx_http_kv_step_later(&keys->step);

    } else {
        ngx_http_kv_step_next(&keys->step);
    }
}


static void
ngx_http_kv_keys_take(void *data)
{
    ngx_http_kv_keys_t *keys = data;

    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = keys->request;

    /* a worker that is to quit may have given its place back */

    rc = !keys->ctx->zone->draining
         && ngx_http_kv_entered(keys->ctx->zone) == NGX_OK
         ? ngx_http_kv_keys_run(keys) : NGX_DECLINED;

    if (rc == NGX_AGAIN) {
        ngx_http_kv_keys_next(keys);
        return;
    }

    ngx_http_kv_step_over(&keys->step);

    rc = ngx_http_kv_keys_answer(keys, rc);

    if (ngx_terminate) {

        /* the process ends before nginx gets to the request's log phase */

        ngx_http_kv_stats_count(r, keys->ctx);
    }

    ngx_http_kv_finish(r, rc);
}


/* The request's cleanup. */

static void
ngx_http_kv_keys_stop(void *data)
{
    ngx_http_kv_keys_t *keys = data;

    ngx_http_kv_step_over(&keys->step);
}


/*
 * Takes a step.  Results as of it; NGX_DECLINED with keys->many, too: there
 * is no memory of the worker for lists.
 */

static ngx_int_t
ngx_http_kv_keys_run(ngx_http_kv_keys_t *keys)
{
    ngx_int_t  rc;

    rc = ngx_http_kv_keys_step(keys);

    return rc == NGX_OK || rc == NGX_AGAIN
           ? (ngx_http_kv_keys_hold(keys) == NGX_OK ? rc : NGX_DECLINED) : rc;
}


/*
 * Goes on with the page.  NGX_OK: it is complete; NGX_AGAIN; NGX_DECLINED: the
 * store is unavailable; NGX_ERROR: no memory.
 */

static ngx_int_t
ngx_http_kv_keys_step(ngx_http_kv_keys_t *keys)
{
    kv_rc_t     rc;
    ngx_int_t   more;
    ngx_uint_t  n;

    keys->work = NGX_HTTP_KV_KEYS_STEP;
    keys->later = 0;

    more = ngx_http_kv_keys_value(keys);

    if (more != NGX_OK) {
        return more;
    }

    while (keys->goes_on && !keys->over) {

        if (keys->skip.len && ngx_http_kv_keys_skip(keys) != NGX_OK) {
            break;
        }

        if (keys->work == 0) {
            return NGX_AGAIN;
        }

        n = keys->n;
        keys->goes_on = 0;
        ngx_http_kv_keys_work(keys, NGX_HTTP_KV_KEYS_SEARCH);

        rc = kv_store_list(keys->ctx->zone->store, keys->from.data,
                           keys->from.len, keys->behind,
                           ngx_http_kv_keys_visit, keys);

        if (rc == KV_AGAIN) {

            /* behind what was added, which is keys alone */

            if (keys->n != n) {
                keys->from = keys->last;
                keys->behind = 1;
            }

            keys->goes_on = 1;
            keys->later = 1;

            return keys->over ? NGX_ERROR : NGX_AGAIN;
        }

        if (rc != KV_OK) {
            return NGX_DECLINED;
        }
    }

    return keys->over ? NGX_ERROR : NGX_OK;
}


/*
 * Sets where the list goes on to the first key that does not begin with what is
 * to be skipped.  NGX_DONE: there is none, or no memory.
 */

static ngx_int_t
ngx_http_kv_keys_skip(ngx_http_kv_keys_t *keys)
{
    ngx_str_t  from;

    from.len = keys->skip.len;
    from.data = ngx_pstrdup(keys->request->pool, &keys->skip);

    if (from.data == NULL) {
        keys->over = 1;
        return NGX_DONE;
    }

    while (from.len && from.data[from.len - 1] == 0xff) {
        from.len--;
    }

    if (from.len == 0) {
        return NGX_DONE;
    }

    from.data[from.len - 1]++;

    keys->from = from;
    keys->behind = 0;
    keys->skip.len = 0;

    return NGX_OK;
}


/* A key of the list; whether that goes on. */

static bool
ngx_http_kv_keys_visit(void *data, const void *key, size_t n,
    const kv_entry_t *e, uint64_t expires)
{
    ngx_http_kv_keys_t *keys = data;

    size_t     size;
    ngx_str_t  name;

    name.data = (u_char *) key;
    name.len = n;

    if (n < keys->prefix.len
        || ngx_memcmp(key, keys->prefix.data, keys->prefix.len) != 0)
    {
        return false;
    }

    if (keys->work == 0) {
        return ngx_http_kv_keys_pause(keys, &name, 0);
    }

    ngx_http_kv_keys_work(keys, NGX_HTTP_KV_KEYS_VISIT);

    if (e == NULL) {
        return true;
    }

    size = keys->entries.size + keys->prefixes.size + keys->no_text.size
           + n + NGX_HTTP_KV_KEYS_ENTRY
           + (keys->values ? e->value_len + e->value_len / 3 : 0);

    if (keys->n == keys->limit || (keys->n && size > NGX_HTTP_KV_KEYS_PAGE)) {
        keys->more = 1;
        return false;
    }

    return ngx_http_kv_keys_add(keys, e, expires, &name);
}


/* The next step begins with this key, or behind it. */

static bool
ngx_http_kv_keys_pause(ngx_http_kv_keys_t *keys, ngx_str_t *key,
    ngx_uint_t behind)
{
    keys->from.len = key->len;
    keys->from.data = ngx_pstrdup(keys->request->pool, key);
    keys->behind = behind;

    if (keys->from.data == NULL) {
        keys->over = 1;
    }

    keys->goes_on = 1;

    return false;
}


/* Adds an entry, or what it is rolled up to. */

static bool
ngx_http_kv_keys_add(ngx_http_kv_keys_t *keys, const kv_entry_t *e,
    uint64_t expires, ngx_str_t *key)
{
    size_t      size;
    ngx_int_t   rc;
    ngx_str_t   common;
    ngx_uint_t  rolled_up;

    size = keys->entries.size;
    rolled_up = ngx_http_kv_keys_rolled_up(keys, key, &common);

    rc = rolled_up ? ngx_http_kv_keys_add_prefix(keys, &common)
                   : ngx_http_kv_keys_add_key(keys, e, expires);

    if (rc == NGX_ERROR) {
        keys->over = 1;
        return false;
    }

    keys->n++;

    if (rolled_up) {
        keys->skip = keys->last;
        keys->goes_on = 1;
        return false;
    }

    if (rc == NGX_AGAIN) {
        return ngx_http_kv_keys_pause(keys, key, 1);
    }

    if (!keys->values) {
        ngx_http_kv_keys_work(keys, (keys->entries.size - size)
                                    / NGX_HTTP_KV_KEYS_TEXT);
    }

    return true;
}


/*
 * Whether a key has the delimiter behind the prefix; then it is in the list by
 * what comes before that, and by the delimiter, alone.
 */

static ngx_uint_t
ngx_http_kv_keys_rolled_up(ngx_http_kv_keys_t *keys, ngx_str_t *key,
    ngx_str_t *common)
{
    size_t  i;

    if (keys->delimiter.len == 0 || key->len < keys->prefix.len
        || ngx_memcmp(key->data, keys->prefix.data, keys->prefix.len) != 0)
    {
        return 0;
    }

    for (i = keys->prefix.len; i + keys->delimiter.len <= key->len; i++) {

        if (ngx_memcmp(key->data + i, keys->delimiter.data,
                       keys->delimiter.len)
            == 0)
        {
            common->data = key->data;
            common->len = i + keys->delimiter.len;
            return 1;
        }
    }

    return 0;
}


/* What the request ends with, by the result of a step. */

static ngx_int_t
ngx_http_kv_keys_answer(ngx_http_kv_keys_t *keys, ngx_int_t rc)
{
    if (keys->many) {
        return ngx_http_kv_reply(keys->request, NGX_HTTP_SERVICE_UNAVAILABLE,
                                 "too many lists at a time\n");
    }

    if (rc == NGX_DECLINED) {
        ngx_http_kv_process_events(keys->ctx->zone);
        return ngx_http_kv_reply_rc(keys->request, KV_UNAVAILABLE);
    }

    if (rc != NGX_OK || ngx_http_kv_keys_end(keys) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_keys_send(keys);
}


/* What stands behind the entries. */

static ngx_int_t
ngx_http_kv_keys_end(ngx_http_kv_keys_t *keys)
{
    ngx_str_t            last;
    ngx_http_kv_page_t  *page;

    page = &keys->entries;

    if (keys->format != NGX_HTTP_KV_KEYS_AS_JSON) {
        return NGX_OK;
    }

    if (ngx_http_kv_page_text(page, "]") != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_kv_keys_end_list(page, "prefixes", &keys->prefixes) != NGX_OK
        || ngx_http_kv_keys_end_list(page, "prefixes_base64", &keys->no_text)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!keys->more) {
        return ngx_http_kv_page_text(page, ",\"more\":false}\n");
    }

    last = ngx_http_kv_keys_name(keys, keys->last.data, keys->last.len);

    return ngx_http_kv_page_text(page, ",\"more\":true,") == NGX_OK
           && ngx_http_kv_page_member(page, "next", &last) == NGX_OK
           ? ngx_http_kv_page_text(page, "}\n") : NGX_ERROR;
}


/* A list of common prefixes, if there are any. */

static ngx_int_t
ngx_http_kv_keys_end_list(ngx_http_kv_page_t *page, const char *name,
    ngx_http_kv_page_t *list)
{
    if (list->size == 0) {
        return NGX_OK;
    }

    if (ngx_http_kv_page_text(page, ",\"") != NGX_OK
        || ngx_http_kv_page_put(page, name, ngx_strlen(name)) != NGX_OK
        || ngx_http_kv_page_text(page, "\":[") != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_kv_page_join(page, list);

    return ngx_http_kv_page_text(page, "]");
}


static ngx_int_t
ngx_http_kv_keys_send(ngx_http_kv_keys_t *keys)
{
    char                *tag, *link;
    size_t               n;
    ngx_http_request_t  *r;

    r = keys->request;

    tag = ngx_pnalloc(r->pool, KV_VERSION_TAG);
    if (tag == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* as in the entries, without quotes */

    n = kv_version_tag(&keys->ctx->version, tag);
    tag[n - 1] = '\0';

    if (ngx_http_kv_header(r, "KV-Version", tag + 1) != NGX_OK
        || ngx_http_kv_header(r, "Vary", "Accept") != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (keys->values
        && ngx_http_kv_header(r, "X-Content-Type-Options", "nosniff")
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (keys->more) {
        link = ngx_http_kv_keys_link(keys);

        if (link == NULL || ngx_http_kv_header(r, "Link", link) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    keys->sent = kv_now_ns();
    ngx_queue_insert_tail(&keys->ctx->zone->lists, &keys->lists);

    return ngx_http_kv_reply_chain(r, ngx_http_kv_keys_types[keys->format],
                                   keys->entries.first);
}
