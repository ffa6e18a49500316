
/*
 * Values as variables: the arguments of kv_get, and how a value gets from the
 * zone into a variable.
 *
 * A variable is read by code that cannot wait, and kept for as long as the
 * request lasts, so its value is copied.  A variable's value ends up in header
 * lines more often than not: there CR, LF and NUL are replaced by spaces, as
 * RFC 9110, section 5.5, says.  At the end of a value a line end means nothing,
 * and is left out: "echo on | curl -T -" puts one there.
 */


#include "http/ngx_http_kv.h"


/* of ngx_variable_value_t.len, which has 28 bits */
#define NGX_HTTP_KV_GET_MAX  0xfffffff

/* a word of bytes of 14, and one of highest bits */
#define NGX_HTTP_KV_GET_14S   UINT64_C(0x0e0e0e0e0e0e0e0e)
#define NGX_HTTP_KV_GET_HIGH  UINT64_C(0x8080808080808080)


static char *ngx_http_kv_get_name(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *name);
static char *ngx_http_kv_get_arg(ngx_conf_t *cf, ngx_http_kv_get_t *get,
    ngx_str_t *arg);
static ngx_uint_t ngx_http_kv_get_arg_is(const ngx_str_t *arg,
    const char *name);
static ngx_int_t ngx_http_kv_get_copy(ngx_http_kv_zone_t *zone,
    ngx_pool_t *pool, ngx_log_t *log, const kv_entry_t *e, ngx_str_t *value);
static void ngx_http_kv_get_line(ngx_str_t *value);
static ngx_inline uint64_t ngx_http_kv_get_low(const u_char *p);
static void ngx_http_kv_get_spaces(u_char *p, const u_char *end);


char *
ngx_http_kv_get_args(ngx_conf_t *cf, ngx_http_kv_get_t *get)
{
    ngx_str_t   *arg;
    ngx_uint_t   i;

    arg = cf->args->elts;

    get->key = arg[1];
    get->file = cf->conf_file->file.name;
    get->line = cf->conf_file->line;

    if (get->key.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the key of \"kv_get\" is empty: no key is");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_kv_get_name(cf, &arg[2], &get->variable) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 3; i < cf->args->nelts; i++) {
        if (ngx_http_kv_get_arg(cf, get, &arg[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (get->zone_name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"kv_get\" needs the parameter \"zone=name\", the "
                           "name of a \"kv_zone\"");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_kv_get_name(ngx_conf_t *cf, ngx_str_t *arg, ngx_str_t *name)
{
    u_char  c;
    size_t  i;

    if (arg->len < 2 || arg->data[0] != '$') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid variable \"%V\" of \"kv_get\": behind the "
                           "key it takes a variable, like \"$flag\"", arg);
        return NGX_CONF_ERROR;
    }

    name->data = arg->data + 1;
    name->len = arg->len - 1;

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
            && (c < '0' || c > '9' || i == 0) && c != '_')
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid variable \"%V\" of \"kv_get\": the "
                               "name may have letters, digits and \"_\", and "
                               "begins with no digit", arg);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* One of those behind the variable. */

static char *
ngx_http_kv_get_arg(ngx_conf_t *cf, ngx_http_kv_get_t *get, ngx_str_t *arg)
{
    ngx_str_t  *value;

    value = NULL;

    if (ngx_http_kv_get_arg_is(arg, "zone=")) {
        value = &get->zone_name;

    } else if (ngx_http_kv_get_arg_is(arg, "default=")) {
        value = &get->value;
    }

    if (value ? value->data != NULL : get->raw) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": a parameter of \"kv_get\" is given twice",
                           arg);
        return NGX_CONF_ERROR;
    }

    if (value) {
        value->data = ngx_strlchr(arg->data, arg->data + arg->len, '=') + 1;
        value->len = arg->data + arg->len - value->data;
        return NGX_CONF_OK;
    }

    if (arg->len == 3 && ngx_strncmp(arg->data, "raw", 3) == 0) {
        get->raw = 1;
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown parameter \"%V\" of \"kv_get\": there are "
                       "zone=, default= and raw", arg);

    return NGX_CONF_ERROR;
}


static ngx_uint_t
ngx_http_kv_get_arg_is(const ngx_str_t *arg, const char *name)
{
    size_t  len;

    len = ngx_strlen(name);

    return arg->len >= len && ngx_strncmp(arg->data, name, len) == 0;
}


ngx_int_t
ngx_http_kv_get_zone(ngx_cycle_t *cycle, ngx_log_t *log,
    ngx_http_kv_get_t *get)
{
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_kv_module);

    if (kmcf) {
        get->zone = ngx_http_kv_find_zone(kmcf, &get->zone_name);
    }

    if (get->zone) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, log, 0,
                  "unknown kv zone \"%V\" of \"kv_get\": there is no \"kv_zone "
                  "zone=%V:...\" in http{}, in %V:%ui", &get->zone_name,
                  &get->zone_name, &get->file, get->line);

    return NGX_ERROR;
}


ngx_int_t
ngx_http_kv_get_value(const ngx_http_kv_get_t *get, ngx_pool_t *pool,
    ngx_log_t *log, const ngx_str_t *key, ngx_uint_t raw, ngx_str_t *value)
{
    kv_rc_t              rc;
    ngx_int_t            result;
    kv_entry_t          *e;
    ngx_http_kv_zone_t  *zone;

    zone = get->zone;

    if (key->len == 0 || key->len > KV_KEY_MAX || zone->draining
        || ngx_http_kv_entered(zone) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    rc = kv_store_leads(zone->store)
         ? kv_store_read_now(zone->store, key->data, key->len, &e)
         : KV_UNAVAILABLE;

    ngx_http_kv_counts_variable(zone->store, rc);

    if (rc == KV_OK) {
        result = ngx_http_kv_get_copy(zone, pool, log, e, value);
        kv_store_read_done(zone->store);

        if (result == NGX_OK && !raw) {
            ngx_http_kv_get_line(value);
        }

        return result;
    }

    if (rc == KV_NOT_FOUND) {
        return NGX_DECLINED;
    }

    /* a rebuild may have to be started from here, but not within a request */

    ngx_post_event(&zone->unread, &ngx_posted_events);

    if (ngx_http_kv_may_log(zone, NGX_HTTP_KV_LOG_GET)) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "kv zone \"%V\" cannot be read now: variables of "
                      "\"kv_get\" have their defaults", &zone->name);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_kv_get_copy(ngx_http_kv_zone_t *zone, ngx_pool_t *pool,
    ngx_log_t *log, const kv_entry_t *e, ngx_str_t *value)
{
    u_char        *p;
    size_t         i, k, n;
    struct iovec   iov[16];

    if (e->value_len > NGX_HTTP_KV_GET_MAX) {

        if (ngx_http_kv_may_log(zone, NGX_HTTP_KV_LOG_LONG)) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "kv zone \"%V\": a value of %uD bytes is longer than "
                          "a variable of \"kv_get\" may be, which has its "
                          "default", &zone->name, e->value_len);
        }

        return NGX_DECLINED;
    }

    value->len = e->value_len;

    value->data = ngx_pnalloc(pool, value->len);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    p = value->data;

    if (!(e->flags & KV_ENTRY_PIECES)) {
        ngx_memcpy(p, kv_store_value(e), value->len);
        return NGX_OK;
    }

    for (i = 0; (n = kv_store_value_iov(e, iov, 16, i)) != 0; i += n) {

        for (k = 0; k < n; k++) {
            p = ngx_cpymem(p, iov[k].iov_base, iov[k].iov_len);
        }
    }

    return NGX_OK;
}


/*
 * Makes one line of a value.  Most have none of the bytes to replace, so it is
 * searched in blocks for bytes below 14, and only what has one is looked at.
 * The last word may begin within what was passed over before: a space that
 * replaced a byte stays.
 */

static void
ngx_http_kv_get_line(ngx_str_t *value)
{
    u_char  *p, *end, *last;

    p = value->data;
    end = p + value->len;

    if (p < end && end[-1] == '\n') {
        end--;
        end -= p < end && end[-1] == '\r';
        value->len = end - p;
    }

    while (end - p >= 32) {

        if (ngx_http_kv_get_low(p) | ngx_http_kv_get_low(p + 8)
            | ngx_http_kv_get_low(p + 16) | ngx_http_kv_get_low(p + 24))
        {
            ngx_http_kv_get_spaces(p, p + 32);
        }

        p += 32;
    }

    while (p < end) {

        if (value->len < 8) {
            ngx_http_kv_get_spaces(p, end);
            return;
        }

        last = end - 8;
        p = ngx_min(p, last);

        if (ngx_http_kv_get_low(p)) {
            ngx_http_kv_get_spaces(p, p + 8);
        }

        p += 8;
    }
}


/*
 * 0: none of 8 bytes is below 14.  When 14 is taken from each, the highest bit
 * of one that had it clear gets set only if that byte is below 14, or lends to
 * one that is.
 */

static ngx_inline uint64_t
ngx_http_kv_get_low(const u_char *p)
{
    uint64_t  word;

    ngx_memcpy(&word, p, sizeof(word));

    return (word - NGX_HTTP_KV_GET_14S) & ~word & NGX_HTTP_KV_GET_HIGH;
}


static void
ngx_http_kv_get_spaces(u_char *p, const u_char *end)
{
    for ( /* void */ ; p < end; p++) {

        if (*p == '\r' || *p == '\n' || *p == '\0') {
            *p = ' ';
        }
    }
}
