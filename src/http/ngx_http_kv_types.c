
/*
 * kv_types: values that are content.  The type that a client gives a value, and
 * its encoding, are stored and come back where the location lists that type.
 *
 * The list counts twice: a type that is not on it is not stored, and one that
 * is stored is not shown.  So no location makes a page of a value unless its
 * own configuration says so, whoever stored it, and where.
 *
 * Answers say nothing of Vary: which value a client gets does not depend on
 * what it accepts (RFC 9110, section 12.5.5), and one that cannot take the
 * encoding may have it all the same (section 12.5.3), or "gunzip on" undoes it.
 */


#include "http/ngx_http_kv.h"


static ngx_int_t ngx_http_kv_types_add(ngx_conf_t *cf, ngx_array_t *types,
    ngx_str_t *value);
static ngx_uint_t ngx_http_kv_types_has(const ngx_array_t *types,
    const char *name, size_t n);
static ngx_str_t ngx_http_kv_types_trim(ngx_str_t value);
static ngx_int_t ngx_http_kv_types_encoding(ngx_http_request_t *r,
    u_char *text, kv_meta_t *meta);
static ngx_uint_t ngx_http_kv_types_append(ngx_str_t value, u_char *text,
    kv_meta_t *meta);
static void ngx_http_kv_types_charset(ngx_http_request_t *r);


char *
ngx_http_kv_conf_types(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_kv_loc_conf_t *klcf = conf;

    ngx_str_t   *value;
    ngx_uint_t   i, alone;

    (void) cmd;

    if (klcf->types != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    klcf->types = ngx_array_create(cf->pool, cf->args->nelts,
                                   sizeof(ngx_str_t));
    if (klcf->types == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {
        alone = ngx_strcmp(value[i].data, "off") == 0
                || ngx_strcmp(value[i].data, "*") == 0;

        if (alone && cf->args->nelts > 2) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" of \"kv_types\" must stand alone",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (ngx_http_kv_types_add(cf, klcf->types, &value[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_kv_types_add(ngx_conf_t *cf, ngx_array_t *types, ngx_str_t *value)
{
    size_t       n;
    ngx_str_t   *type;
    ngx_uint_t   i;

    if (ngx_strcmp(value->data, "off") == 0) {
        return NGX_OK;
    }

    n = kv_meta_type_name((char *) value->data, value->len);

    /* a name may have a "*", but who writes one here means several types */

    if (ngx_strcmp(value->data, "*") != 0
        && (n == 0 || n != value->len || ngx_strchr(value->data, '*')))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid type \"%V\" of \"kv_types\": it takes "
                           "types without parameters, like text/html, or * "
                           "for all of them, or off", value);
        return NGX_ERROR;
    }

    ngx_strlow(value->data, value->data, value->len);

    type = types->elts;

    for (i = 0; i < types->nelts; i++) {
        if (type[i].len == value->len
            && ngx_memcmp(type[i].data, value->data, value->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "duplicate MIME type \"%V\"", value);
            return NGX_OK;
        }
    }

    type = ngx_array_push(types);
    if (type == NULL) {
        return NGX_ERROR;
    }

    *type = *value;

    return NGX_OK;
}


/* Whether they have a type of that name, which is without parameters. */

static ngx_uint_t
ngx_http_kv_types_has(const ngx_array_t *types, const char *name, size_t n)
{
    ngx_str_t   *type;
    ngx_uint_t   i;

    type = types->elts;

    for (i = 0; i < types->nelts; i++) {

        if (type[i].len == 1
            || (type[i].len == n
                && ngx_strncasecmp(type[i].data, (u_char *) name, n) == 0))
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_kv_types_take(ngx_http_kv_ctx_t *ctx, const char **wrong)
{
    size_t                   n;
    u_char                   encoding[KV_META_ENCODING];
    kv_meta_t                meta;
    ngx_str_t                type;
    ngx_http_request_t      *r;
    ngx_http_kv_loc_conf_t  *klcf;

    r = ctx->request;
    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    if (klcf->types == NULL || r->headers_in.content_type == NULL) {
        return NGX_OK;
    }

    type = ngx_http_kv_types_trim(r->headers_in.content_type->value);
    n = kv_meta_type_name((char *) type.data, type.len);

    if (n == 0
        || !ngx_http_kv_types_has(klcf->types, (char *) type.data, n))
    {
        return NGX_OK;
    }

    if (!kv_meta_type((char *) type.data, type.len)) {
        *wrong = "invalid Content-Type: it takes a type like text/html; "
                 "charset=utf-8, of 200 characters at most, without a comma";
        return NGX_DECLINED;
    }

    meta.type = (char *) type.data;
    meta.type_len = (uint8_t) type.len;

    if (ngx_http_kv_types_encoding(r, encoding, &meta) != NGX_OK) {
        *wrong = "invalid Content-Encoding: it takes a list like gzip, of 50 "
                 "characters at most";
        return NGX_DECLINED;
    }

    ctx->meta.data = ngx_pnalloc(r->pool, KV_META_MAX);
    if (ctx->meta.data == NULL) {
        return NGX_ERROR;
    }

    ctx->meta.len = kv_meta_write(&meta, ctx->meta.data);

    return NGX_OK;
}


/* A field without the white space around it: nginx leaves tabs there. */

static ngx_str_t
ngx_http_kv_types_trim(ngx_str_t value)
{
    while (value.len && (value.data[0] == ' ' || value.data[0] == '\t')) {
        value.data++;
        value.len--;
    }

    while (value.len && (value.data[value.len - 1] == ' '
                         || value.data[value.len - 1] == '\t'))
    {
        value.len--;
    }

    return value;
}


/*
 * The lines of Content-Encoding, as one list in `text`, of KV_META_ENCODING
 * bytes.  NGX_DECLINED: they are malformed, or too long.
 */

static ngx_int_t
ngx_http_kv_types_encoding(ngx_http_request_t *r, u_char *text,
    kv_meta_t *meta)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    meta->encoding = (char *) text;
    meta->encoding_len = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("Content-Encoding") - 1
                && ngx_strncasecmp(h[i].key.data,
                                   (u_char *) "Content-Encoding",
                                   h[i].key.len)
                   == 0
                && !ngx_http_kv_types_append(ngx_http_kv_types_trim(h[i].value),
                                             text, meta))
            {
                return NGX_DECLINED;
            }
        }
    }

    return meta->encoding_len == 0
           || kv_meta_encoding(meta->encoding, meta->encoding_len)
           ? NGX_OK : NGX_DECLINED;
}


/* "identity" says that there is none. */

static ngx_uint_t
ngx_http_kv_types_append(ngx_str_t value, u_char *text, kv_meta_t *meta)
{
    size_t   n;
    u_char  *p;

    if (value.len == 0
        || (value.len == 8
            && ngx_strncasecmp(value.data, (u_char *) "identity", 8) == 0))
    {
        return 1;
    }

    n = meta->encoding_len ? meta->encoding_len + 2u : 0;

    if (n + value.len > KV_META_ENCODING) {
        return 0;
    }

    p = n ? ngx_cpymem(text + n - 2, ", ", 2) : text;

    p = ngx_cpymem(p, value.data, value.len);
    meta->encoding_len = (uint8_t) (p - text);

    return 1;
}


const char *
ngx_http_kv_types_line(ngx_http_kv_ctx_t *ctx, const kv_line_t *line)
{
    size_t                   n;
    ngx_http_kv_loc_conf_t  *klcf;

    if (line->meta.type_len == 0) {
        return NULL;
    }

    klcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_kv_module);

    if (klcf->types == NULL) {
        return "types are not stored here: kv_types is off";
    }

    n = kv_meta_type_name(line->meta.type, line->meta.type_len);

    return ngx_http_kv_types_has(klcf->types, line->meta.type, n)
           ? NULL : "the type is not on the list of kv_types";
}


void
ngx_http_kv_types_name(const kv_line_t *line, u_char *meta, kv_name_t *name)
{
    name->key = line->key;
    name->key_len = line->key_len;
    name->meta = meta;
    name->meta_len = line->meta.type_len ? kv_meta_write(&line->meta, meta) : 0;
}


ngx_int_t
ngx_http_kv_types_show(ngx_http_kv_ctx_t *ctx, const kv_entry_t *e)
{
    size_t                   n;
    u_char                  *p;
    kv_meta_t                meta;
    ngx_http_request_t      *r;
    ngx_http_kv_loc_conf_t  *klcf;

    r = ctx->request;
    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    if (klcf->types == NULL || !kv_store_meta(e, &meta)) {
        return NGX_OK;
    }

    n = kv_meta_type_name(meta.type, meta.type_len);

    if (!ngx_http_kv_types_has(klcf->types, meta.type, n)) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, (size_t) meta.type_len + meta.encoding_len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->type.data = p;
    ctx->type.len = meta.type_len;
    ctx->type_name = n;
    p = ngx_cpymem(p, meta.type, meta.type_len);

    ctx->encoding.data = p;
    ctx->encoding.len = meta.encoding_len;
    ngx_memcpy(p, meta.encoding, meta.encoding_len);

    return NGX_OK;
}


void
ngx_http_kv_types_set(ngx_http_kv_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    r->headers_out.content_type = ctx->type;
    r->headers_out.content_type_len = ctx->type_name;
    r->headers_out.content_type_lowcase = NULL;

    if (ctx->type.len != ctx->type_name) {
        ngx_http_kv_types_charset(r);
    }
}


/* Its charset, if it says one, for nginx's filter of charsets. */

static void
ngx_http_kv_types_charset(ngx_http_request_t *r)
{
    u_char      *p, *q, *end;
    ngx_str_t   *type;
    ngx_uint_t   quoted;

    type = &r->headers_out.content_type;
    end = type->data + type->len;
    quoted = 0;

    for (p = type->data; p < end; p++) {
        quoted ^= *p == '"';

        if (quoted || *p != ';') {
            continue;
        }

        for (q = p + 1; q < end && *q == ' '; q++) { /* void */ }

        if (end - q < 9
            || ngx_strncasecmp(q, (u_char *) "charset=", 8) != 0)
        {
            continue;
        }

        q += q[8] == '"' ? 9 : 8;

        for (p = q; p < end && *p != '"' && *p != ';' && *p != ' '; p++) {
            /* void */
        }

        r->headers_out.charset.data = q;
        r->headers_out.charset.len = p - q;

        return;
    }
}


void
ngx_http_kv_types_drop(ngx_http_request_t *r)
{
    ngx_str_null(&r->headers_out.charset);

    if (r->headers_out.content_encoding) {
        r->headers_out.content_encoding->hash = 0;
        r->headers_out.content_encoding = NULL;
    }
}
