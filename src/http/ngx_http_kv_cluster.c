
/*
 * What a node of a cluster tells clients: kv_cluster, for GET /cluster/info;
 * where a request goes that another node must answer; and $kv_leader.
 */


#include "http/ngx_http_kv.h"


/* all but the addresses: {"id":"","role":"candidate","term":,"leader":...} */
#define NGX_HTTP_KV_CLUSTER_JSON  (80 + NGX_INT64_LEN)


/* a byte of a path that takes three in a URL */
#define ngx_http_kv_escaped(c)                                                \
    ((c) <= ' ' || (c) >= 0x7f || (c) == '"' || (c) == '<' || (c) == '>'      \
     || (c) == '\\' || (c) == '^' || (c) == '`' || ((c) >= '{' && (c) <= '}'))


static ngx_int_t ngx_http_kv_redirect(ngx_http_request_t *r,
    const char *leader);
static ngx_int_t ngx_http_kv_leader_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_kv_zone_t *ngx_http_kv_leader_zone(ngx_http_request_t *r);


static const char *const  ngx_http_kv_roles[] = {
    "follower", "candidate", "leader"
};


/*
 * No address needs an escape in JSON (ngx_http_kv_conf_cluster.c), and nobody
 * may keep the answer: the next moment another node may lead.
 */

ngx_int_t
ngx_http_kv_cluster_handler(ngx_http_request_t *r)
{
    u_char                  *p, *end;
    ngx_buf_t               *b;
    ngx_uint_t               i;
    kv_store_conf_t         *conf;
    kv_cluster_info_t        info;
    ngx_http_kv_loc_conf_t  *klcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    /* the answer has no version that a condition could name */

    r->disable_not_modified = 1;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);
    conf = &klcf->zone->conf;

    ngx_memzero(&info, sizeof(kv_cluster_info_t));
    (void) kv_store_cluster_info(klcf->zone->store, &info);

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_KV_CLUSTER_JSON
                                     + (2 + conf->npeers)
                                       * (KV_ADDRESS_MAX + sizeof(",\"\"")));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = b->last;
    end = b->end;

    p = ngx_slprintf(p, end, "{\"id\":\"%V\",\"role\":\"%s\",\"term\":%uL,"
                     "\"leader\":", &klcf->zone->cluster,
                     ngx_http_kv_roles[info.role], info.term);

    p = info.leader[0] ? ngx_slprintf(p, end, "\"%s\"", info.leader)
                       : ngx_slprintf(p, end, "null");

    p = ngx_slprintf(p, end, ",\"peers\":[");

    for (i = 0; i < conf->npeers; i++) {
        p = ngx_slprintf(p, end, "%s\"%s\"", i ? "," : "",
                         conf->peers[i].address);
    }

    b->last = ngx_slprintf(p, end, "]}\n");

    return ngx_http_kv_reply_buf(r, "application/json", b);
}


ngx_int_t
ngx_http_kv_lead(ngx_http_kv_ctx_t *ctx)
{
    kv_store_t          *store;
    kv_cluster_info_t    info;
    ngx_http_request_t  *r;

    r = ctx->request;
    store = ctx->zone->store;

    if (ctx->zone->conf.npeers == 0 || kv_store_leads(store)) {
        return NGX_DECLINED;
    }

    /*
     * Nor is a part of another answer sent elsewhere: the client would ask for
     * all of it there.
     */

    if (kv_store_cluster_info(store, &info) != KV_OK || info.leader[0] == '\0'
        || ngx_strcmp(info.leader, ctx->zone->cluster.data) == 0
        || r != r->main)
    {
        return ngx_http_kv_reply_rc(r, KV_UNAVAILABLE);
    }

    if (ngx_http_kv_intercept(r, NGX_HTTP_TEMPORARY_REDIRECT)) {
        return NGX_HTTP_TEMPORARY_REDIRECT;
    }

    return ngx_http_kv_redirect(r, info.leader);
}


/*
 * 307 to the same path and arguments, as the client sent them, of the leader,
 * whose address is of the cluster's configuration.  Nothing of the client's can
 * be taken for a part of the address: it follows a "/".
 */

static ngx_int_t
ngx_http_kv_redirect(ngx_http_request_t *r, const char *leader)
{
    u_char           *p, c;
    size_t            i;
    const char       *scheme;
    ngx_str_t        *path;
    ngx_table_elt_t  *h;

    path = &r->unparsed_uri;
    scheme = "http";

#if (NGX_HTTP_SSL)
    scheme = r->connection->ssl ? "https" : "http";
#endif

    p = ngx_pnalloc(r->pool, sizeof("https:///") + ngx_strlen(leader)
                             + 3 * path->len);
    h = ngx_list_push(&r->headers_out.headers);

    if (p == NULL || h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));
    h->hash = 1;
    ngx_str_set(&h->key, "Location");
    h->value.data = p;

    p = ngx_sprintf(p, "%s://%s", scheme, leader);

    if (path->len == 0 || path->data[0] != '/') {
        *p++ = '/';
    }

    for (i = 0; i < path->len; i++) {
        c = path->data[i];

        if (ngx_http_kv_escaped(c)) {
            p = ngx_sprintf(p, "%%%02Xd", (ngx_uint_t) c);

        } else {
            *p++ = c;
        }
    }

    h->value.len = (size_t) (p - h->value.data);
    r->headers_out.location = h;

    return ngx_http_kv_reply(r, NGX_HTTP_TEMPORARY_REDIRECT, NULL);
}


ngx_int_t
ngx_http_kv_add_leader_variable(ngx_conf_t *cf)
{
    ngx_http_variable_t  *v;

    static ngx_str_t  name = ngx_string("kv_leader");

    v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = ngx_http_kv_leader_variable;

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_leader_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    size_t               n;
    kv_cluster_info_t    info;
    ngx_http_kv_zone_t  *zone;

    (void) data;

    zone = ngx_http_kv_leader_zone(r);

    if (zone == NULL || kv_store_cluster_info(zone->store, &info) != KV_OK
        || info.leader[0] == '\0')
    {
        v->not_found = 1;
        return NGX_OK;
    }

    n = ngx_strlen(info.leader);

    v->data = ngx_pnalloc(r->pool, n);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(v->data, info.leader, n);

    v->len = n;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/*
 * The store that the request is for, or was for before error_page; for any
 * other request the first one that is a node of a cluster.
 */

static ngx_http_kv_zone_t *
ngx_http_kv_leader_zone(ngx_http_request_t *r)
{
    ngx_uint_t                i;
    ngx_http_kv_ctx_t        *ctx;
    ngx_http_kv_zone_t      **zone;
    ngx_http_kv_loc_conf_t   *klcf;
    ngx_http_kv_main_conf_t  *kmcf;

    ctx = ngx_http_kv_log_ctx(r);

    if (ctx) {
        return ctx->zone;
    }

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);

    if (klcf->zone) {
        return klcf->zone;
    }

    kmcf = ngx_http_get_module_main_conf(r, ngx_http_kv_module);
    zone = kmcf->zones.elts;

    for (i = 0; i < kmcf->zones.nelts; i++) {
        if (zone[i]->cluster.len) {
            return zone[i];
        }
    }

    return NULL;
}
