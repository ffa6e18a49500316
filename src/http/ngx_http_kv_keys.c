
/*
 * GET /keys: keys in the order of their bytes, a page at a time.
 *
 * A page is made whole, in memory of the request, before it is sent, and so has
 * a size: at most NGX_HTTP_KV_PAGE bytes, or one entry.
 */


#include "http/ngx_http_kv.h"


#define NGX_HTTP_KV_LIMIT      1000
#define NGX_HTTP_KV_LIMIT_MAX  10000

/* bytes of a page's body, about, and of the buffers that it is made of */
#define NGX_HTTP_KV_PAGE       (1024 * 1024)
#define NGX_HTTP_KV_PAGE_BUF   (32 * 1024)

/* bytes of an entry beside the key and the value */
#define NGX_HTTP_KV_PAGE_ENTRY 160


typedef enum {
    NGX_HTTP_KV_KEYS_TEXT = 0,                /* a key a line */
    NGX_HTTP_KV_KEYS_LINES,                   /* a JSON object a line */
    NGX_HTTP_KV_KEYS_JSON
} ngx_http_kv_keys_format_t;


typedef struct {
    ngx_http_request_t        *request;
    kv_store_t                *store;

    /* the arguments; data == NULL: not given */
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
    ngx_chain_t               *page;
    ngx_chain_t               *end;
    size_t                     size;
    ngx_uint_t                 n;             /* keys and common prefixes */
    ngx_str_t                  last;          /* of these */
    ngx_str_t                  skip;          /* to be skipped: keys that begin
                                                 with it */
    ngx_array_t                prefixes;      /* JSON: of ngx_str_t */
    unsigned                   more:1;        /* there are */
    unsigned                   over:1;        /* there is no memory */
} ngx_http_kv_keys_t;


typedef struct {
    ngx_str_t                  name;
    size_t                     where;         /* in ngx_http_kv_keys_t */
} ngx_http_kv_keys_arg_t;


static const char *ngx_http_kv_keys_args(ngx_http_kv_keys_t *keys);
static const char *ngx_http_kv_keys_arg(ngx_http_kv_keys_t *keys,
    u_char *p, u_char *end);
static const char *ngx_http_kv_keys_values(ngx_http_kv_keys_t *keys);
static ngx_uint_t ngx_http_kv_keys_wants_json(ngx_http_request_t *r);
static kv_rc_t ngx_http_kv_keys_list(ngx_http_kv_keys_t *keys);
static ngx_uint_t ngx_http_kv_keys_rolled_up(ngx_http_kv_keys_t *keys,
    ngx_str_t *key, ngx_str_t *common);
static bool ngx_http_kv_keys_add(void *data, const kv_entry_t *e);
static ngx_int_t ngx_http_kv_keys_add_common(ngx_http_kv_keys_t *keys,
    ngx_str_t *common);
static ngx_int_t ngx_http_kv_keys_add_key(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e, ngx_str_t *key);
static ngx_int_t ngx_http_kv_keys_add_expires(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e);
static ngx_int_t ngx_http_kv_keys_add_value(ngx_http_kv_keys_t *keys,
    const kv_entry_t *e);
static ngx_int_t ngx_http_kv_keys_add_string(ngx_http_kv_keys_t *keys,
    ngx_str_t *s);
static ngx_uint_t ngx_http_kv_keys_utf8(ngx_str_t *s);
static ngx_int_t ngx_http_kv_keys_end(ngx_http_kv_keys_t *keys);
static ngx_int_t ngx_http_kv_keys_send(ngx_http_kv_keys_t *keys,
    const kv_version_t *version);
static char *ngx_http_kv_keys_link(ngx_http_kv_keys_t *keys);
static u_char *ngx_http_kv_keys_space(ngx_http_kv_keys_t *keys, size_t n);
static void ngx_http_kv_keys_used(ngx_http_kv_keys_t *keys, u_char *end);
static ngx_int_t ngx_http_kv_keys_put(ngx_http_kv_keys_t *keys,
    const void *data, size_t n);


static const ngx_http_kv_keys_arg_t  ngx_http_kv_keys_arg_names[] = {
    { ngx_string("prefix"), offsetof(ngx_http_kv_keys_t, prefix) },
    { ngx_string("after"), offsetof(ngx_http_kv_keys_t, after) },
    { ngx_string("limit"), offsetof(ngx_http_kv_keys_t, limit_arg) },
    { ngx_string("delimiter"), offsetof(ngx_http_kv_keys_t, delimiter) },
    { ngx_string("values"), offsetof(ngx_http_kv_keys_t, values_arg) },
    { ngx_string("format"), offsetof(ngx_http_kv_keys_t, format_arg) },
    { ngx_null_string, 0 }
};

static const char *const  ngx_http_kv_keys_types[] = {
    "text/plain", "application/x-ndjson", "application/json"
};


#define ngx_http_kv_keys_put_text(keys, text)                                 \
    ngx_http_kv_keys_put(keys, text, sizeof(text) - 1)


ngx_int_t
ngx_http_kv_keys(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t              rc;
    const char          *wrong;
    kv_version_t         version;
    ngx_http_kv_keys_t  *keys;

    keys = ngx_pcalloc(r->pool, sizeof(ngx_http_kv_keys_t));
    if (keys == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    keys->request = r;
    keys->store = ctx->zone->store;

    if (ngx_array_init(&keys->prefixes, r->pool, 4, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    wrong = ngx_http_kv_keys_args(keys);

    if (keys->over) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (wrong) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        return ngx_http_kv_reply_body(r);
    }

    /* first: what the list shows is this state, or a later one */

    version = kv_store_state_version(keys->store);

    rc = ngx_http_kv_keys_list(keys);

    if (rc != KV_OK) {
        ngx_http_kv_process_events(ctx->zone);
        return ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }

    if (keys->over || ngx_http_kv_keys_end(keys) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_kv_keys_send(keys, &version);
}


/* Reads the arguments; NULL, or what is wrong. */

static const char *
ngx_http_kv_keys_args(ngx_http_kv_keys_t *keys)
{
    u_char              *p, *end, *next;
    const char          *wrong;
    ngx_http_request_t  *r;

    r = keys->request;
    end = r->args.data + r->args.len;

    for (p = r->args.data; p < end; p = next + 1) {
        next = ngx_strlchr(p, end, '&');
        next = next ? next : end;

        if (next == p) {
            continue;
        }

        wrong = ngx_http_kv_keys_arg(keys, p, next);

        if (wrong) {
            return wrong;
        }
    }

    return ngx_http_kv_keys_values(keys);
}


/* Reads one argument, which ends before `end`. */

static const char *
ngx_http_kv_keys_arg(ngx_http_kv_keys_t *keys, u_char *p, u_char *end)
{
    u_char                        *eq, *src, *dst;
    ngx_str_t                     *value;
    const ngx_http_kv_keys_arg_t  *arg;

    eq = ngx_strlchr(p, end, '=');
    eq = eq ? eq : end;

    for (arg = ngx_http_kv_keys_arg_names; arg->name.len; arg++) {

        if (arg->name.len == (size_t) (eq - p)
            && ngx_strncmp(arg->name.data, p, arg->name.len) == 0)
        {
            break;
        }
    }

    if (arg->name.len == 0) {
        return "unknown argument: there are prefix, after, limit, delimiter, "
               "values and format\n";
    }

    value = (ngx_str_t *) ((char *) keys + arg->where);

    if (value->data) {
        return "an argument is given twice\n";
    }

    value->data = ngx_pnalloc(keys->request->pool, end - eq + 1);

    if (value->data == NULL) {
        keys->over = 1;
        return "";
    }

    src = eq < end ? eq + 1 : end;
    dst = value->data;
    ngx_unescape_uri(&dst, &src, end - src, 0);

    value->len = dst - value->data;

    return NULL;
}


/* What the arguments say. */

static const char *
ngx_http_kv_keys_values(ngx_http_kv_keys_t *keys)
{
    ngx_int_t   n;
    ngx_str_t  *format;

    if (keys->prefix.len > KV_KEY_MAX || keys->after.len > KV_KEY_MAX) {
        return "prefix or after is longer than a key\n";
    }

    keys->limit = NGX_HTTP_KV_LIMIT;

    if (keys->limit_arg.data) {
        n = ngx_atoi(keys->limit_arg.data, keys->limit_arg.len);

        if (n < 1 || n > NGX_HTTP_KV_LIMIT_MAX) {
            return "invalid limit: it is a number from 1 to 10000\n";
        }

        keys->limit = n;
    }

    if (keys->delimiter.data && keys->delimiter.len == 0) {
        return "delimiter is empty\n";
    }

    if (keys->values_arg.data) {

        if (keys->values_arg.len != 1
            || (*keys->values_arg.data != '0' && *keys->values_arg.data != '1'))
        {
            return "invalid values: it is 0 or 1\n";
        }

        keys->values = *keys->values_arg.data == '1';
    }

    format = &keys->format_arg;

    if (format->data == NULL) {
        keys->format = ngx_http_kv_keys_wants_json(keys->request)
                       ? NGX_HTTP_KV_KEYS_JSON
                       : keys->values ? NGX_HTTP_KV_KEYS_LINES
                                      : NGX_HTTP_KV_KEYS_TEXT;

    } else if (format->len == 4 && ngx_strncmp(format->data, "json", 4) == 0) {
        keys->format = NGX_HTTP_KV_KEYS_JSON;

    } else if (format->len == 5 && ngx_strncmp(format->data, "lines", 5) == 0) {
        keys->format = NGX_HTTP_KV_KEYS_LINES;

    } else if (format->len == 4 && ngx_strncmp(format->data, "text", 4) == 0) {
        keys->format = NGX_HTTP_KV_KEYS_TEXT;

    } else {
        return "invalid format: it is text, lines or json\n";
    }

    if (keys->values && keys->format == NGX_HTTP_KV_KEYS_TEXT) {
        return "values cannot be listed as text: format is lines or json\n";
    }

    return NULL;
}


static ngx_uint_t
ngx_http_kv_keys_wants_json(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == 6
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Accept", 6) == 0
                && ngx_strlcasestrn(h[i].value.data,
                                    h[i].value.data + h[i].value.len,
                                    (u_char *) "application/json", 15))
            {
                return 1;
            }
        }
    }

    return 0;
}


/* Fills the page.  KV_OK, KV_UNAVAILABLE. */

static kv_rc_t
ngx_http_kv_keys_list(ngx_http_kv_keys_t *keys)
{
    bool        after;
    kv_rc_t     rc;
    ngx_str_t   from, common;

    from = keys->prefix;
    after = false;

    if (keys->after.data
        && (keys->prefix.len == 0
            || ngx_memn2cmp(keys->after.data, keys->prefix.data,
                            keys->after.len, keys->prefix.len) >= 0))
    {
        from = keys->after;
        after = true;

        if (ngx_http_kv_keys_rolled_up(keys, &keys->after, &common)) {
            keys->skip = common;
        }
    }

    for ( ;; ) {

        if (keys->skip.len) {

            /* the first that does not begin with it */

            from.data = ngx_pnalloc(keys->request->pool, keys->skip.len);
            if (from.data == NULL) {
                keys->over = 1;
                return KV_OK;
            }

            ngx_memcpy(from.data, keys->skip.data, keys->skip.len);

            for (from.len = keys->skip.len;
                 from.len && from.data[from.len - 1] == 0xff;
                 from.len--)
            {
                /* void */
            }

            if (from.len == 0) {
                return KV_OK;
            }

            from.data[from.len - 1]++;
            after = false;
            keys->skip.len = 0;
        }

        rc = kv_store_list(keys->store, from.data, from.len, after,
                           ngx_http_kv_keys_add, keys);

        if (rc != KV_OK || keys->skip.len == 0) {
            return rc;
        }
    }
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


/* Adds an entry, or what it is rolled up to; whether the page goes on. */

static bool
ngx_http_kv_keys_add(void *data, const kv_entry_t *e)
{
    ngx_http_kv_keys_t *keys = data;

    size_t     size;
    ngx_int_t  rc;
    ngx_str_t  key, common;
    ngx_uint_t rolled_up;

    key.data = (u_char *) e->key;
    key.len = e->key_len;

    if (key.len < keys->prefix.len
        || ngx_memcmp(key.data, keys->prefix.data, keys->prefix.len) != 0)
    {
        return false;
    }

    size = key.len + NGX_HTTP_KV_PAGE_ENTRY
           + (keys->values ? e->value_len + e->value_len / 3 : 0);

    if (keys->n == keys->limit
        || (keys->n && keys->size + size > NGX_HTTP_KV_PAGE))
    {
        keys->more = 1;
        return false;
    }

    rolled_up = ngx_http_kv_keys_rolled_up(keys, &key, &common);

    rc = rolled_up ? ngx_http_kv_keys_add_common(keys, &common)
                   : ngx_http_kv_keys_add_key(keys, e, &key);

    if (rc != NGX_OK) {
        keys->over = 1;
        return false;
    }

    keys->n++;

    return !rolled_up;
}


static ngx_int_t
ngx_http_kv_keys_add_common(ngx_http_kv_keys_t *keys, ngx_str_t *common)
{
    ngx_str_t  *s, copy;

    copy.len = common->len;
    copy.data = ngx_pstrdup(keys->request->pool, common);

    if (copy.data == NULL) {
        return NGX_ERROR;
    }

    keys->skip = copy;
    keys->last = copy;

    switch (keys->format) {

    case NGX_HTTP_KV_KEYS_TEXT:
        return ngx_http_kv_keys_put(keys, copy.data, copy.len) == NGX_OK
               ? ngx_http_kv_keys_put_text(keys, "\n") : NGX_ERROR;

    case NGX_HTTP_KV_KEYS_LINES:
        return ngx_http_kv_keys_put_text(keys, "{\"prefix\":") == NGX_OK
               && ngx_http_kv_keys_add_string(keys, &copy) == NGX_OK
               ? ngx_http_kv_keys_put_text(keys, "}\n") : NGX_ERROR;

    default:
        s = ngx_array_push(&keys->prefixes);
        if (s == NULL) {
            return NGX_ERROR;
        }

        *s = copy;
        keys->size += copy.len + sizeof("\"\",") - 1;

        return NGX_OK;
    }
}


static ngx_int_t
ngx_http_kv_keys_add_key(ngx_http_kv_keys_t *keys, const kv_entry_t *e,
    ngx_str_t *key)
{
    char           tag[KV_VERSION_TAG];
    u_char        *p;
    size_t         n;
    kv_version_t   version;

    /* where it stands in the page is good for as long as the request */

    p = ngx_http_kv_keys_space(keys, key->len + sizeof("{\"key\":\"\",,\n"));

    if (p == NULL) {
        return NGX_ERROR;
    }

    if (keys->format == NGX_HTTP_KV_KEYS_TEXT) {
        keys->last.data = p;
        keys->last.len = key->len;

        p = ngx_cpymem(p, key->data, key->len);
        *p++ = '\n';
        ngx_http_kv_keys_used(keys, p);

        return NGX_OK;
    }

    keys->last.len = key->len;
    keys->last.data = ngx_pstrdup(keys->request->pool, key);

    if (keys->last.data == NULL) {
        return NGX_ERROR;
    }

    if (keys->format == NGX_HTTP_KV_KEYS_JSON
        && keys->n > keys->prefixes.nelts)
    {
        *p++ = ',';
    }

    p = ngx_cpymem(p, "{\"key\":", sizeof("{\"key\":") - 1);
    ngx_http_kv_keys_used(keys, p);

    version = kv_store_version(keys->store, e);
    n = kv_version_tag(&version, tag);

    if (ngx_http_kv_keys_add_string(keys, key) != NGX_OK
        || (p = ngx_http_kv_keys_space(keys, NGX_HTTP_KV_PAGE_ENTRY)) == NULL)
    {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, ",\"size\":%uD,\"version\":\"%*s\"", e->value_len,
                    n - 2, tag + 1);
    ngx_http_kv_keys_used(keys, p);

    if (ngx_http_kv_keys_add_expires(keys, e) != NGX_OK
        || (keys->values && ngx_http_kv_keys_add_value(keys, e) != NGX_OK))
    {
        return NGX_ERROR;
    }

    return keys->format == NGX_HTTP_KV_KEYS_JSON
           ? ngx_http_kv_keys_put_text(keys, "}")
           : ngx_http_kv_keys_put_text(keys, "}\n");
}


/* When it expires, in seconds since the epoch, if it does. */

static ngx_int_t
ngx_http_kv_keys_add_expires(ngx_http_kv_keys_t *keys, const kv_entry_t *e)
{
    u_char    *p;
    uint64_t   ms;

    ms = kv_store_expires(keys->store, e);

    if (ms == 0) {
        return NGX_OK;
    }

    p = ngx_http_kv_keys_space(keys, NGX_HTTP_KV_PAGE_ENTRY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(p, ",\"expires\":%T", ngx_time() + (time_t) (ms / 1000));
    ngx_http_kv_keys_used(keys, p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_keys_add_value(ngx_http_kv_keys_t *keys, const kv_entry_t *e)
{
    u_char        *p;
    size_t         i, k, n;
    ngx_int_t      rc;
    ngx_str_t      value, out;
    struct iovec   iov[16];

    value.len = e->value_len;
    value.data = ngx_pnalloc(keys->request->pool, value.len);

    if (value.data == NULL) {
        return NGX_ERROR;
    }

    p = value.data;

    for (i = 0; (n = kv_store_value_iov(e, iov, 16, i)) != 0; i += n) {
        for (k = 0; k < n; k++) {
            p = ngx_cpymem(p, iov[k].iov_base, iov[k].iov_len);
        }
    }

    if (ngx_http_kv_keys_utf8(&value)) {
        rc = ngx_http_kv_keys_put_text(keys, ",\"value\":") == NGX_OK
             ? ngx_http_kv_keys_add_string(keys, &value) : NGX_ERROR;

    } else {
        rc = ngx_http_kv_keys_put_text(keys, ",\"base64\":\"");
        p = ngx_http_kv_keys_space(keys, ngx_base64_encoded_length(value.len));

        if (rc != NGX_OK || p == NULL) {
            return NGX_ERROR;
        }

        out.data = p;
        ngx_encode_base64(&out, &value);
        ngx_http_kv_keys_used(keys, out.data + out.len);

        rc = ngx_http_kv_keys_put_text(keys, "\"");
    }

    (void) ngx_pfree(keys->request->pool, value.data);

    return rc;
}


/* A string in quotes. */

static ngx_int_t
ngx_http_kv_keys_add_string(ngx_http_kv_keys_t *keys, ngx_str_t *s)
{
    u_char  *p;
    size_t   n;

    n = s->len + ngx_escape_json(NULL, s->data, s->len);

    p = ngx_http_kv_keys_space(keys, n + 2);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *p++ = '"';
    p = (u_char *) ngx_escape_json(p, s->data, s->len);
    *p++ = '"';

    ngx_http_kv_keys_used(keys, p);

    return NGX_OK;
}


/* Whether all of it is UTF-8 (RFC 3629), so that a JSON string can hold it. */

static ngx_uint_t
ngx_http_kv_keys_utf8(ngx_str_t *s)
{
    u_char    *p, *end;
    uint32_t   c;

    end = s->data + s->len;

    for (p = s->data; p < end; /* void */ ) {

        if (*p < 0x80) {
            p++;
            continue;
        }

        c = ngx_utf8_decode(&p, end - p);

        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
            return 0;
        }
    }

    return 1;
}


/* What stands around the entries. */

static ngx_int_t
ngx_http_kv_keys_end(ngx_http_kv_keys_t *keys)
{
    ngx_str_t    *prefix;
    ngx_uint_t    i;
    ngx_chain_t  *entries, *last;

    if (keys->format != NGX_HTTP_KV_KEYS_JSON) {
        return NGX_OK;
    }

    entries = keys->page;
    last = keys->end;
    keys->page = NULL;
    keys->end = NULL;

    if (ngx_http_kv_keys_put_text(keys, "{\"keys\":[") != NGX_OK) {
        return NGX_ERROR;
    }

    if (entries) {
        keys->end->next = entries;
        keys->end = last;
    }

    if (ngx_http_kv_keys_put_text(keys, "]") != NGX_OK) {
        return NGX_ERROR;
    }

    prefix = keys->prefixes.elts;

    for (i = 0; i < keys->prefixes.nelts; i++) {

        if ((i ? ngx_http_kv_keys_put_text(keys, ",")
               : ngx_http_kv_keys_put_text(keys, ",\"prefixes\":[")) != NGX_OK
            || ngx_http_kv_keys_add_string(keys, &prefix[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (i && ngx_http_kv_keys_put_text(keys, "]") != NGX_OK) {
        return NGX_ERROR;
    }

    if (!keys->more) {
        return ngx_http_kv_keys_put_text(keys, ",\"more\":false}\n");
    }

    return ngx_http_kv_keys_put_text(keys, ",\"more\":true,\"next\":") == NGX_OK
           && ngx_http_kv_keys_add_string(keys, &keys->last) == NGX_OK
           ? ngx_http_kv_keys_put_text(keys, "}\n") : NGX_ERROR;
}


static ngx_int_t
ngx_http_kv_keys_send(ngx_http_kv_keys_t *keys, const kv_version_t *version)
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

    n = kv_version_tag(version, tag);
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

    return ngx_http_kv_reply_chain(r, ngx_http_kv_keys_types[keys->format],
                                   keys->page);
}


/* The address of the next page (RFC 8288), with this one's arguments. */

static char *
ngx_http_kv_keys_link(ngx_http_kv_keys_t *keys)
{
    u_char                        *link, *p;
    size_t                         n, path;
    ngx_str_t                     *value;
    ngx_http_request_t            *r;
    const ngx_http_kv_keys_arg_t  *arg;

    r = keys->request;

    p = ngx_strlchr(r->unparsed_uri.data,
                    r->unparsed_uri.data + r->unparsed_uri.len, '?');
    path = p ? (size_t) (p - r->unparsed_uri.data) : r->unparsed_uri.len;

    keys->after = keys->last;
    n = path + sizeof("<>; rel=\"next\"");

    for (arg = ngx_http_kv_keys_arg_names; arg->name.len; arg++) {
        value = (ngx_str_t *) ((char *) keys + arg->where);
        n += 2 + arg->name.len + 3 * value->len;
    }

    link = ngx_pnalloc(r->pool, n);
    if (link == NULL) {
        return NULL;
    }

    p = link;
    *p++ = '<';
    p = ngx_cpymem(p, r->unparsed_uri.data, path);

    n = 0;

    for (arg = ngx_http_kv_keys_arg_names; arg->name.len; arg++) {
        value = (ngx_str_t *) ((char *) keys + arg->where);

        if (value->data) {
            *p++ = n++ ? '&' : '?';
            p = ngx_cpymem(p, arg->name.data, arg->name.len);
            *p++ = '=';
            p = (u_char *) ngx_escape_uri(p, value->data, value->len,
                                          NGX_ESCAPE_URI_COMPONENT);
        }
    }

    (void) ngx_cpymem(p, ">; rel=\"next\"", sizeof(">; rel=\"next\""));

    return (char *) link;
}


/* Where the next `n` bytes of the page go; NULL: no memory. */

static u_char *
ngx_http_kv_keys_space(ngx_http_kv_keys_t *keys, size_t n)
{
    ngx_chain_t  *cl;

    cl = keys->end;

    if (cl && (size_t) (cl->buf->end - cl->buf->last) >= n) {
        return cl->buf->last;
    }

    cl = ngx_alloc_chain_link(keys->request->pool);
    if (cl == NULL) {
        return NULL;
    }

    cl->buf = ngx_create_temp_buf(keys->request->pool,
                                  ngx_max(n, NGX_HTTP_KV_PAGE_BUF));
    if (cl->buf == NULL) {
        return NULL;
    }

    cl->next = NULL;

    if (keys->end) {
        keys->end->next = cl;

    } else {
        keys->page = cl;
    }

    keys->end = cl;

    return cl->buf->last;
}


static void
ngx_http_kv_keys_used(ngx_http_kv_keys_t *keys, u_char *end)
{
    keys->size += end - keys->end->buf->last;
    keys->end->buf->last = end;
}


static ngx_int_t
ngx_http_kv_keys_put(ngx_http_kv_keys_t *keys, const void *data, size_t n)
{
    u_char  *p;

    p = ngx_http_kv_keys_space(keys, n);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_kv_keys_used(keys, ngx_cpymem(p, data, n));

    return NGX_OK;
}
