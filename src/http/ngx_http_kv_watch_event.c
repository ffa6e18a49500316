
/*
 * The text of an event, as text/event-stream has it.
 *
 * Watchers of the same keys get the same text, which is made once.  It has a
 * value only if that is still stored: if it was replaced since, an event with
 * the newer one follows.
 */


#include "http/ngx_http_kv_watch_private.h"


static ngx_int_t ngx_http_kv_watch_event_make(ngx_http_kv_watches_t *watches);
static ngx_int_t ngx_http_kv_watch_event_key(ngx_http_kv_watches_t *watches);
static ngx_int_t ngx_http_kv_watch_event_value(
    ngx_http_kv_watches_t *watches);
static ngx_int_t ngx_http_kv_watch_event_copy(ngx_http_kv_watches_t *watches,
    ngx_str_t *value);
static ngx_uint_t ngx_http_kv_watch_event_is_text(ngx_str_t *value);


/* by kv_feed_kind_t */

static const char *const  ngx_http_kv_watch_kinds[] = {
    NULL, "put", "delete", "expire", "clear"
};


ngx_chain_t *
ngx_http_kv_watch_event(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch)
{
    size_t       skip;
    ngx_log_t   *log;
    ngx_pool_t  *pool;

    skip = watch->ctx->prefix.len;

    if (watches->made == watches->rec.next && watches->skip == skip
        && watches->values == watch->values)
    {
        return watches->page.first;
    }

    pool = watches->page.pool;
    log = watches->zone->log;

    if (pool) {
        ngx_reset_pool(pool);

    } else {
        pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, log);
    }

    ngx_memzero(&watches->page, sizeof(ngx_http_kv_page_t));

    watches->page.pool = pool;
    watches->made = 0;
    watches->skip = skip;
    watches->values = watch->values;

    if (pool == NULL || ngx_http_kv_watch_event_make(watches) != NGX_OK) {
        return NULL;
    }

    watches->made = watches->rec.next;

    return watches->page.first;
}


void
ngx_http_kv_watch_event_free(ngx_http_kv_watches_t *watches)
{
    if (watches->page.pool) {
        ngx_destroy_pool(watches->page.pool);
        watches->page.pool = NULL;
    }

    watches->made = 0;
}


static ngx_int_t
ngx_http_kv_watch_event_make(ngx_http_kv_watches_t *watches)
{
    char                 tag[KV_VERSION_TAG];
    u_char              *p;
    size_t               n;
    kv_store_t          *store;
    kv_version_t         version;
    ngx_http_kv_page_t  *page;

    page = &watches->page;
    store = watches->zone->store;

    version = kv_store_feed_id(store, watches->rec.lsn);
    n = kv_version_tag(&version, tag) - 2;

    p = ngx_http_kv_page_space(page, NGX_HTTP_KV_KEYS_ENTRY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, "id: %*s\nevent: %s\ndata: {", n, tag + 1,
                    ngx_http_kv_watch_kinds[watches->rec.kind]);
    ngx_http_kv_page_used(page, p);

    if (watches->rec.kind != KV_FEED_CLEAR
        && ngx_http_kv_watch_event_key(watches) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* the one that the key has now, if it is still the same write */

    version = kv_store_state_version(store);
    version.lsn = watches->rec.lsn;
    n = kv_version_tag(&version, tag) - 2;

    p = ngx_http_kv_page_space(page, NGX_HTTP_KV_KEYS_ENTRY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, "\"version\":\"%*s\"", n, tag + 1);
    ngx_http_kv_page_used(page, p);

    if (watches->values && watches->rec.kind == KV_FEED_PUT
        && ngx_http_kv_watch_event_value(watches) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_kv_page_text(page, "}\n\n");
}


static ngx_int_t
ngx_http_kv_watch_event_key(ngx_http_kv_watches_t *watches)
{
    ngx_str_t  key;

    key.data = (u_char *) watches->rec.key + watches->skip;
    key.len = watches->rec.key_len - watches->skip;

    return ngx_http_kv_page_member(&watches->page, "key", &key) == NGX_OK
           ? ngx_http_kv_page_text(&watches->page, ",") : NGX_ERROR;
}


static ngx_int_t
ngx_http_kv_watch_event_value(ngx_http_kv_watches_t *watches)
{
    ngx_int_t            rc;
    ngx_str_t            value;
    ngx_uint_t           is_text;
    ngx_http_kv_page_t  *page;

    page = &watches->page;

    rc = ngx_http_kv_watch_event_copy(watches, &value);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : NGX_ERROR;
    }

    is_text = ngx_http_kv_watch_event_is_text(&value);

    if ((is_text ? ngx_http_kv_page_text(page, ",\"value\":\"")
                 : ngx_http_kv_page_text(page, ",\"base64\":\"")) != NGX_OK
        || (is_text ? ngx_http_kv_page_escape(page, value.data, value.len)
                    : ngx_http_kv_page_base64(page, &value)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_kv_page_text(page, "\"");
}


/*
 * Copies the value, and adds its type.  NGX_DECLINED: it is too large, or not
 * stored any more; NGX_ERROR: there is no memory, or the zone is being rebuilt.
 * A group of writes that is becoming visible hides nothing here: what this one
 * has made is visible, and of another one it has another LSN.
 */

static ngx_int_t
ngx_http_kv_watch_event_copy(ngx_http_kv_watches_t *watches, ngx_str_t *value)
{
    u_char        *p;
    size_t         i, k, n;
    kv_rc_t        rc;
    kv_entry_t    *e;
    kv_store_t    *store;
    struct iovec   iov[16];

    store = watches->zone->store;

    rc = kv_store_read_now(store, watches->rec.key, watches->rec.key_len, &e);

    if (rc != KV_OK) {

        /* where it cannot be read now, its client asks again */

        return rc == KV_NOT_FOUND ? NGX_DECLINED : NGX_ERROR;
    }

    if (kv_store_version(store, e).lsn != watches->rec.lsn
        || e->value_len > NGX_HTTP_KV_WATCH_VALUE)
    {
        kv_store_read_done(store);
        return NGX_DECLINED;
    }

    value->len = e->value_len;
    value->data = ngx_pnalloc(watches->page.pool, e->value_len);
    p = ngx_http_kv_keys_add_type(&watches->page, e) == NGX_OK ? value->data
                                                               : NULL;

    for (i = 0; p && (n = kv_store_value_iov(e, iov, 16, i)) != 0; i += n) {
        for (k = 0; k < n; k++) {
            p = ngx_cpymem(p, iov[k].iov_base, iov[k].iov_len);
        }
    }

    kv_store_read_done(store);

    return p ? NGX_OK : NGX_ERROR;
}


/* Control characters take six bytes each in a string, base64 less. */

static ngx_uint_t
ngx_http_kv_watch_event_is_text(ngx_str_t *value)
{
    size_t  i, controls;

    for (i = 0, controls = 0; i < value->len; i++) {
        controls += value->data[i] < 0x20;
    }

    return controls <= value->len / 4 && ngx_http_kv_page_is_text(value);
}
