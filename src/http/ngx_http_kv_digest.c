
/*
 * Content-Digest (RFC 9530): a body that is not what the client sent is
 * refused.  A proxy that makes a whole body of one that was cut off cannot
 * store half a value then.
 *
 * SHA-256 and SHA-512 are checked, as the bytes come; other digests are
 * ignored, as the RFC says.
 */


#include "http/ngx_http_kv.h"

#include <openssl/evp.h>

#include "base/kv_dictionary.h"


#define NGX_HTTP_KV_DIGESTS  2


typedef struct {
    ngx_str_t                  name;
    size_t                     len;           /* bytes */
    const EVP_MD            *(*md)(void);
} ngx_http_kv_digest_kind_t;


struct ngx_http_kv_digest_s {
    EVP_MD_CTX                *md[NGX_HTTP_KV_DIGESTS];   /* NULL: none is
                                                             said */
    u_char                     said[NGX_HTTP_KV_DIGESTS][EVP_MAX_MD_SIZE];
};


static ngx_int_t ngx_http_kv_digest_dictionary(ngx_http_kv_ctx_t *ctx,
    ngx_str_t *text);
static ngx_int_t ngx_http_kv_digest_member(ngx_http_kv_ctx_t *ctx,
    const kv_dictionary_member_t *member);
static ngx_uint_t ngx_http_kv_digest_kind(
    const kv_dictionary_member_t *member);
static ngx_http_kv_digest_t *ngx_http_kv_digest_create(ngx_pool_t *pool);
static void ngx_http_kv_digest_cleanup(void *data);


static const ngx_http_kv_digest_kind_t
    ngx_http_kv_digest_kinds[NGX_HTTP_KV_DIGESTS] =
{
    { ngx_string("sha-256"), 32, EVP_sha256 },
    { ngx_string("sha-512"), 64, EVP_sha512 }
};


/* The lines of a header that stands several times are one list. */

ngx_int_t
ngx_http_kv_digest(ngx_http_kv_ctx_t *ctx)
{
    ngx_int_t         rc;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &ctx->request->headers_in.headers.part;
         part;
         part = part->next)
    {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != sizeof("Content-Digest") - 1
                || ngx_strncasecmp(h[i].key.data, (u_char *) "Content-Digest",
                                   h[i].key.len)
                   != 0)
            {
                continue;
            }

            rc = ngx_http_kv_digest_dictionary(ctx, &h[i].value);

            if (rc != NGX_OK) {
                return rc;
            }
        }
    }

    return ctx->digest == NULL || ngx_http_kv_digest_begin(ctx->digest)
           ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_kv_digest_dictionary(ngx_http_kv_ctx_t *ctx, ngx_str_t *text)
{
    kv_rc_t                  rc;
    ngx_int_t                result;
    const char              *p, *end;
    kv_dictionary_member_t   member;

    p = (char *) text->data;
    end = p + text->len;

    while ((rc = kv_dictionary_next(&p, end, &member)) == KV_OK) {
        result = ngx_http_kv_digest_member(ctx, &member);

        if (result != NGX_OK) {
            return result;
        }
    }

    return rc == KV_NOT_FOUND ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_kv_digest_member(ngx_http_kv_ctx_t *ctx,
    const kv_dictionary_member_t *member)
{
    size_t      len;
    u_char      bytes[2 * EVP_MAX_MD_SIZE];
    ngx_str_t   base64, decoded;
    ngx_uint_t  i;

    i = ngx_http_kv_digest_kind(member);

    if (i == NGX_HTTP_KV_DIGESTS) {
        return NGX_OK;
    }

    len = ngx_http_kv_digest_kinds[i].len;
    base64.data = (u_char *) member->base64;
    base64.len = member->base64_len;
    decoded.data = bytes;

    if (base64.data == NULL || base64.len > 4 * len / 3 + 4
        || ngx_decode_base64(&decoded, &base64) != NGX_OK
        || decoded.len != len)
    {
        return NGX_DECLINED;
    }

    if (ctx->digest == NULL) {
        ctx->digest = ngx_http_kv_digest_create(ctx->request->pool);

        if (ctx->digest == NULL) {
            return NGX_ERROR;
        }
    }

    if (ctx->digest->md[i] == NULL) {
        ctx->digest->md[i] = EVP_MD_CTX_new();

        if (ctx->digest->md[i] == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(ctx->digest->said[i], bytes, len);

    return NGX_OK;
}


/* Which one it is; NGX_HTTP_KV_DIGESTS: none that is checked. */

static ngx_uint_t
ngx_http_kv_digest_kind(const kv_dictionary_member_t *member)
{
    ngx_uint_t                        i;
    const ngx_http_kv_digest_kind_t  *kind;

    for (i = 0; i < NGX_HTTP_KV_DIGESTS; i++) {
        kind = &ngx_http_kv_digest_kinds[i];

        if (member->key_len == kind->name.len
            && ngx_memcmp(member->key, kind->name.data, kind->name.len) == 0)
        {
            break;
        }
    }

    return i;
}


static ngx_http_kv_digest_t *
ngx_http_kv_digest_create(ngx_pool_t *pool)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_kv_digest_t  *digest;

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_http_kv_digest_t));
    if (cln == NULL) {
        return NULL;
    }

    digest = cln->data;
    ngx_memzero(digest, sizeof(ngx_http_kv_digest_t));

    cln->handler = ngx_http_kv_digest_cleanup;

    return digest;
}


static void
ngx_http_kv_digest_cleanup(void *data)
{
    ngx_http_kv_digest_t *digest = data;

    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_KV_DIGESTS; i++) {
        EVP_MD_CTX_free(digest->md[i]);
    }
}


ngx_uint_t
ngx_http_kv_digest_begin(ngx_http_kv_digest_t *digest)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_KV_DIGESTS; i++) {
        if (digest->md[i]
            && EVP_DigestInit_ex(digest->md[i],
                                 ngx_http_kv_digest_kinds[i].md(), NULL)
               != 1)
        {
            return 0;
        }
    }

    return 1;
}


void
ngx_http_kv_digest_add(ngx_http_kv_digest_t *digest, const u_char *data,
    size_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_KV_DIGESTS; i++) {
        if (digest->md[i]) {
            (void) EVP_DigestUpdate(digest->md[i], data, n);
        }
    }
}


ngx_uint_t
ngx_http_kv_digest_matches(ngx_http_kv_digest_t *digest)
{
    u_char      sum[EVP_MAX_MD_SIZE];
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_KV_DIGESTS; i++) {
        if (digest->md[i]
            && (EVP_DigestFinal_ex(digest->md[i], sum, NULL) != 1
                || ngx_memcmp(sum, digest->said[i],
                              ngx_http_kv_digest_kinds[i].len) != 0))
        {
            return 0;
        }
    }

    return 1;
}
