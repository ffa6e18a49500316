
/*
 * The entries of a list, as text or JSON.  A large value is written in parts.
 */


#include "http/ngx_http_kv_keys_private.h"

#include "base/kv_utf8.h"


/* bytes of a value that are looked at, or written, at once; threes */
#define NGX_HTTP_KV_VALUE_PART  (48 * 1024)


static ngx_int_t ngx_http_kv_keys_keep(ngx_http_kv_keys_t *keys,
    const void *key, size_t n);
static ngx_int_t ngx_http_kv_keys_add_json(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e, uint64_t expires);
static ngx_int_t ngx_http_kv_keys_add_expires(ngx_http_kv_keys_t *keys,
    uint64_t ms);
static ngx_int_t ngx_http_kv_keys_add_to(ngx_http_kv_page_t *page,
    ngx_str_t *prefix);
static ngx_int_t ngx_http_kv_keys_copy(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e);
static ngx_int_t ngx_http_kv_value_check(ngx_http_kv_keys_t *keys, size_t n);
static ngx_int_t ngx_http_kv_value_base64(ngx_http_kv_keys_t *keys);
static ngx_int_t ngx_http_kv_value_write(ngx_http_kv_keys_t *keys, size_t n);
static ngx_int_t ngx_http_kv_value_end(ngx_http_kv_keys_t *keys);


ngx_int_t
ngx_http_kv_keys_add_key(ngx_http_kv_keys_t *keys, const kv_entry_t *e,
    uint64_t expires)
{
    u_char     *p;
    ngx_str_t   name;

    if (keys->format != NGX_HTTP_KV_KEYS_AS_TEXT) {
        return ngx_http_kv_keys_add_json(keys, e, expires);
    }

    name = ngx_http_kv_keys_name(keys, e->key, e->key_len);

    p = ngx_http_kv_page_space(&keys->entries, name.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (keys->ctx->prefix.len) {

        if (ngx_http_kv_keys_keep(keys, e->key, e->key_len) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {

        /* where it stands on the page is good for as long as the request */

        keys->last.data = p;
        keys->last.len = name.len;
    }

    p = ngx_cpymem(p, name.data, name.len);
    *p++ = '\n';
    ngx_http_kv_page_used(&keys->entries, p);

    return NGX_OK;
}


/* It is the last entry. */

static ngx_int_t
ngx_http_kv_keys_keep(ngx_http_kv_keys_t *keys, const void *key, size_t n)
{
    keys->last.len = n;
    keys->last.data = ngx_pnalloc(keys->request->pool, n);

    if (keys->last.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(keys->last.data, key, n);

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_keys_add_json(ngx_http_kv_keys_t *keys, const kv_entry_t *e,
    uint64_t expires)
{
    char           tag[KV_VERSION_TAG];
    u_char        *p;
    size_t         n;
    ngx_str_t      key;
    kv_version_t   version;

    if (ngx_http_kv_keys_keep(keys, e->key, e->key_len) != NGX_OK) {
        return NGX_ERROR;
    }

    key = ngx_http_kv_keys_name(keys, e->key, e->key_len);

    if (keys->format == NGX_HTTP_KV_KEYS_AS_JSON
        && keys->n > keys->nprefixes
        && ngx_http_kv_page_text(&keys->entries, ",") != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_kv_page_text(&keys->entries, "{") != NGX_OK
        || ngx_http_kv_page_member(&keys->entries, "key", &key) != NGX_OK)
    {
        return NGX_ERROR;
    }

    version = kv_store_version(keys->ctx->zone->store, e);
    n = kv_version_tag(&version, tag);

    p = ngx_http_kv_page_space(&keys->entries, NGX_HTTP_KV_KEYS_ENTRY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, ",\"size\":%uD,\"version\":\"%*s\"", e->value_len,
                    n - 2, tag + 1);
    ngx_http_kv_page_used(&keys->entries, p);

    if (ngx_http_kv_keys_add_expires(keys, expires) != NGX_OK
        || ngx_http_kv_keys_add_type(&keys->entries, e) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!keys->values) {
        return ngx_http_kv_value_end(keys);
    }

    return ngx_http_kv_keys_copy(keys, e) == NGX_OK
           ? ngx_http_kv_keys_value(keys) : NGX_ERROR;
}


/* When it expires, in seconds since the epoch, if it does. */

static ngx_int_t
ngx_http_kv_keys_add_expires(ngx_http_kv_keys_t *keys, uint64_t ms)
{
    u_char  *p;

    if (ms == 0) {
        return NGX_OK;
    }

    p = ngx_http_kv_page_space(&keys->entries, NGX_HTTP_KV_KEYS_ENTRY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, ",\"expires\":%T", ngx_time() + (time_t) (ms / 1000));
    ngx_http_kv_page_used(&keys->entries, p);

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_keys_add_type(ngx_http_kv_page_t *page, const kv_entry_t *e)
{
    kv_meta_t  meta;
    ngx_str_t  type, encoding;

    if (!e->has_meta || !kv_store_meta(e, &meta)) {
        return NGX_OK;
    }

    type.data = (u_char *) meta.type;
    type.len = meta.type_len;
    encoding.data = (u_char *) meta.encoding;
    encoding.len = meta.encoding_len;

    if (ngx_http_kv_page_text(page, ",") != NGX_OK
        || ngx_http_kv_page_member(page, "type", &type) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return encoding.len == 0
           || (ngx_http_kv_page_text(page, ",") == NGX_OK
               && ngx_http_kv_page_member(page, "encoding", &encoding)
                  == NGX_OK)
           ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_kv_keys_add_prefix(ngx_http_kv_keys_t *keys, ngx_str_t *prefix)
{
    ngx_str_t            name;
    ngx_http_kv_page_t  *page;

    if (ngx_http_kv_keys_keep(keys, prefix->data, prefix->len) != NGX_OK) {
        return NGX_ERROR;
    }

    name = ngx_http_kv_keys_name(keys, prefix->data, prefix->len);

    keys->nprefixes++;
    page = &keys->entries;

    switch (keys->format) {

    case NGX_HTTP_KV_KEYS_AS_TEXT:
        return ngx_http_kv_page_put(page, name.data, name.len) == NGX_OK
               ? ngx_http_kv_page_text(page, "\n") : NGX_ERROR;

    case NGX_HTTP_KV_KEYS_AS_LINES:
        return ngx_http_kv_page_text(page, "{") == NGX_OK
               && ngx_http_kv_page_member(page, "prefix", &name) == NGX_OK
               ? ngx_http_kv_page_text(page, "}\n") : NGX_ERROR;

    default:
        return ngx_http_kv_keys_add_to(ngx_http_kv_page_is_text(&name)
                                       ? &keys->prefixes : &keys->no_text,
                                       &name);
    }
}


/* Adds to a list of common prefixes, which has all as text or none. */

static ngx_int_t
ngx_http_kv_keys_add_to(ngx_http_kv_page_t *page, ngx_str_t *prefix)
{
    if (page->size && ngx_http_kv_page_text(page, ",") != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_kv_page_is_text(prefix)) {
        return ngx_http_kv_page_string(page, prefix);
    }

    return ngx_http_kv_page_text(page, "\"") == NGX_OK
           && ngx_http_kv_page_base64(page, prefix) == NGX_OK
           ? ngx_http_kv_page_text(page, "\"") : NGX_ERROR;
}


/* The value, of which a string or base64 is made. */

static ngx_int_t
ngx_http_kv_keys_copy(ngx_http_kv_keys_t *keys, const kv_entry_t *e)
{
    u_char        *p;
    size_t         i, k, n;
    struct iovec   iov[16];

    keys->value.len = e->value_len;
    keys->value.data = ngx_pnalloc(keys->request->pool, e->value_len);

    if (keys->value.data == NULL) {
        return NGX_ERROR;
    }

    p = keys->value.data;

    for (i = 0; (n = kv_store_value_iov(e, iov, 16, i)) != 0; i += n) {
        for (k = 0; k < n; k++) {
            p = ngx_cpymem(p, iov[k].iov_base, iov[k].iov_len);
        }
    }

    keys->todo = NGX_HTTP_KV_VALUE_CHECK;
    keys->done = 0;
    keys->controls = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_keys_value(ngx_http_kv_keys_t *keys)
{
    size_t     n;
    ngx_int_t  rc;

    while (keys->todo != NGX_HTTP_KV_VALUE_NONE) {

        if (keys->work == 0) {
            return NGX_AGAIN;
        }

        n = ngx_min(keys->value.len - keys->done, NGX_HTTP_KV_VALUE_PART);

        rc = keys->todo == NGX_HTTP_KV_VALUE_CHECK
             ? ngx_http_kv_value_check(keys, n)
             : ngx_http_kv_value_write(keys, n);

        if (rc != NGX_OK) {
            return rc;
        }

        ngx_http_kv_keys_work(keys, 1 + n / NGX_HTTP_KV_KEYS_TEXT);
    }

    return NGX_OK;
}


/*
 * Whether `n` bytes more are UTF-8, so that a JSON string can hold the value;
 * begins to write it once that is known.  Not by ngx_utf8_decode(), which takes
 * any byte above 0x7f for the second one of a character.
 */

static ngx_int_t
ngx_http_kv_value_check(ngx_http_kv_keys_t *keys, size_t n)
{
    u_char  *p, *end, *last;
    size_t   size;

    p = keys->value.data + keys->done;
    last = keys->value.data + keys->value.len;

    for (end = p + n; p < end; p += size) {
        size = kv_utf8_size((char *) p, last - p);

        if (size == 0) {
            return ngx_http_kv_value_base64(keys);
        }

        keys->controls += *p < 0x20;
    }

    keys->done = p - keys->value.data;

    if (keys->done < keys->value.len) {
        return NGX_OK;
    }

    /* each takes six bytes in a string */

    if (keys->controls > keys->value.len / 4) {
        return ngx_http_kv_value_base64(keys);
    }

    keys->todo = NGX_HTTP_KV_VALUE_STRING;
    keys->done = 0;

    return ngx_http_kv_page_text(&keys->entries, ",\"value\":\"");
}


static ngx_int_t
ngx_http_kv_value_base64(ngx_http_kv_keys_t *keys)
{
    keys->todo = NGX_HTTP_KV_VALUE_BASE64;
    keys->done = 0;

    return ngx_http_kv_page_text(&keys->entries, ",\"base64\":\"");
}


/* Writes `n` bytes more. */

static ngx_int_t
ngx_http_kv_value_write(ngx_http_kv_keys_t *keys, size_t n)
{
    ngx_int_t  rc;
    ngx_str_t  part;

    part.data = keys->value.data + keys->done;
    part.len = n;

    rc = keys->todo == NGX_HTTP_KV_VALUE_STRING
         ? ngx_http_kv_page_escape(&keys->entries, part.data, n)
         : ngx_http_kv_page_base64(&keys->entries, &part);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    keys->done += n;

    if (keys->done < keys->value.len) {
        return NGX_OK;
    }

    (void) ngx_pfree(keys->request->pool, keys->value.data);

    keys->todo = NGX_HTTP_KV_VALUE_NONE;

    return ngx_http_kv_page_text(&keys->entries, "\"") == NGX_OK
           ? ngx_http_kv_value_end(keys) : NGX_ERROR;
}


static ngx_int_t
ngx_http_kv_value_end(ngx_http_kv_keys_t *keys)
{
    return keys->format == NGX_HTTP_KV_KEYS_AS_JSON
           ? ngx_http_kv_page_text(&keys->entries, "}")
           : ngx_http_kv_page_text(&keys->entries, "}\n");
}
