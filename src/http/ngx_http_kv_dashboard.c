
/*
 * The dashboard: a page that asks the /stats of its stores, and shows what they
 * say.  It is the same for all servers, but for the addresses of these
 * locations, which it finds as
 *
 *     <meta name="kv-store" content="main" data-stats="./stats"
 *           data-keys="./keys" data-values="./kv/">
 *
 * The addresses are relative to the page's own, so that it works behind a proxy
 * that serves all of them below another path.  They are those of the same
 * server{}: there a browser may read them.
 */


#include "http/ngx_http_kv.h"
#include "http/ngx_http_kv_dashboard_page.h"


/* what stands around the values of one <meta> */
#define NGX_HTTP_KV_DASHBOARD_META  128


static ngx_int_t ngx_http_kv_dashboard_stores(ngx_conf_t *cf,
    ngx_array_t *locations, ngx_http_kv_location_t *dashboard);
static ngx_http_kv_location_t *ngx_http_kv_dashboard_find(
    ngx_array_t *locations, ngx_http_kv_location_t *dashboard,
    ngx_http_kv_zone_t *zone, ngx_http_kv_route_t route);
static ngx_int_t ngx_http_kv_dashboard_store(ngx_conf_t *cf,
    ngx_array_t *locations, ngx_http_kv_location_t *dashboard,
    ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_dashboard_address(ngx_conf_t *cf,
    const ngx_str_t *from, const ngx_http_kv_location_t *to,
    ngx_str_t *address);
static ngx_int_t ngx_http_kv_dashboard_headers(ngx_http_request_t *r,
    ngx_http_kv_loc_conf_t *conf);
static void ngx_http_kv_dashboard_buf(ngx_chain_t *out, ngx_buf_t *b,
    const void *text, size_t len);


ngx_int_t
ngx_http_kv_dashboard_init(ngx_conf_t *cf)
{
    ngx_uint_t                i;
    ngx_http_kv_location_t   *location;
    ngx_http_kv_main_conf_t  *kmcf;

    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);
    location = kmcf->locations.elts;

    for (i = 0; i < kmcf->locations.nelts; i++) {

        if (location[i].conf->handler == ngx_http_kv_dashboard_handler
            && ngx_http_kv_dashboard_stores(cf, &kmcf->locations, &location[i])
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* Finds the stores of one dashboard, in the order of the configuration. */

static ngx_int_t
ngx_http_kv_dashboard_stores(ngx_conf_t *cf, ngx_array_t *locations,
    ngx_http_kv_location_t *dashboard)
{
    u_char                   *p;
    ngx_str_t                *tag, *stores;
    ngx_uint_t                i;
    ngx_http_kv_zone_t      **zone;
    ngx_http_kv_loc_conf_t   *conf;
    ngx_http_kv_main_conf_t  *kmcf;

    conf = dashboard->conf;
    tag = &conf->dashboard->tag;
    stores = &conf->dashboard->stores;
    kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_kv_module);
    zone = kmcf->zones.elts;

    for (i = 0; i < kmcf->zones.nelts; i++) {

        if (ngx_http_kv_dashboard_store(cf, locations, dashboard, zone[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (stores->len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" has nothing to show: add a location with "
                      "\"kv_stats\", like \"location = /stats\", to the same "
                      "server, in %V:%ui", &conf->directive, &conf->file,
                      conf->line);
        return NGX_ERROR;
    }

    tag->data = ngx_pnalloc(cf->pool, ngx_strlen(ngx_http_kv_page_digest)
                                      + sizeof("\"-00000000\""));
    if (tag->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(tag->data, "\"%s-%08xD\"", ngx_http_kv_page_digest,
                    ngx_crc32_long(stores->data, stores->len));
    tag->len = p - tag->data;

    return NGX_OK;
}


/* Adds a store, if the server has its statistics. */

static ngx_int_t
ngx_http_kv_dashboard_store(ngx_conf_t *cf, ngx_array_t *locations,
    ngx_http_kv_location_t *dashboard, ngx_http_kv_zone_t *zone)
{
    u_char                  *p;
    size_t                   len;
    ngx_str_t               *stores, address[3];
    ngx_uint_t               i;
    ngx_http_kv_location_t  *location;

    static const char *const  names[] = { "stats", "keys", "values" };

    static const ngx_http_kv_route_t  routes[] = {
        NGX_HTTP_KV_ROUTE_STATS, NGX_HTTP_KV_ROUTE_KEYS, NGX_HTTP_KV_ROUTE_KV
    };

    stores = &dashboard->conf->dashboard->stores;
    len = stores->len + zone->name.len + NGX_HTTP_KV_DASHBOARD_META;

    for (i = 0; i < 3; i++) {
        ngx_str_null(&address[i]);

        location = ngx_http_kv_dashboard_find(locations, dashboard, zone,
                                              routes[i]);

        if (location
            && ngx_http_kv_dashboard_address(cf, &dashboard->core->name,
                                             location, &address[i])
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        len += address[i].len;
    }

    if (address[0].len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (stores->len) {
        ngx_memcpy(p, stores->data, stores->len);
    }

    stores->data = p;
    p = ngx_sprintf(p + stores->len, "<meta name=\"kv-store\" content=\"%V\"",
                    &zone->name);

    for (i = 0; i < 3; i++) {
        if (address[i].len) {
            p = ngx_sprintf(p, " data-%s=\"%V\"", names[i], &address[i]);
        }
    }

    p = ngx_sprintf(p, ">\n");
    stores->len = p - stores->data;

    return NGX_OK;
}


/* The first location of the server that has an address for this; or NULL. */

static ngx_http_kv_location_t *
ngx_http_kv_dashboard_find(ngx_array_t *locations,
    ngx_http_kv_location_t *dashboard, ngx_http_kv_zone_t *zone,
    ngx_http_kv_route_t route)
{
    ngx_uint_t               i;
    ngx_http_kv_location_t  *location;

    location = locations->elts;

    for (i = 0; i < locations->nelts; i++) {

        if (location[i].server == dashboard->server
            && location[i].conf->zone == zone
            && location[i].conf->route == route
            && location[i].conf->key == NULL
            && location[i].conf->prefix == NULL
            && !location[i].core->named
#if (NGX_PCRE)
            && location[i].core->regex == NULL
#endif
            && location[i].core->internal != 1)
        {
            return &location[i];
        }
    }

    return NULL;
}


/*
 * The address of a location as seen from the page's own, for an attribute of
 * HTML.  It begins with a dot: a name with a colon is no scheme then, and two
 * slashes name no host.
 */

static ngx_int_t
ngx_http_kv_dashboard_address(ngx_conf_t *cf, const ngx_str_t *from,
    const ngx_http_kv_location_t *to, ngx_str_t *address)
{
    u_char            *p, *uri;
    size_t             i, same, n;
    ngx_uint_t         up;
    const ngx_str_t   *name;

    name = &to->core->name;
    same = 0;

    for (i = 0; i < from->len && i < name->len; i++) {

        if (from->data[i] != name->data[i]) {
            break;
        }

        if (from->data[i] == '/') {
            same = i + 1;
        }
    }

    up = 0;

    for (i = same; i < from->len; i++) {
        up += from->data[i] == '/';
    }

    n = name->len - same;

    uri = ngx_pnalloc(cf->pool, 3 * n);
    p = ngx_pnalloc(cf->pool, sizeof("./") + up * sizeof("../") + 18 * n);

    if (uri == NULL || p == NULL) {
        return NGX_ERROR;
    }

    address->data = p;
    p = ngx_cpymem(p, "./", up ? 0 : 2);

    while (up--) {
        p = ngx_cpymem(p, "../", 3);
    }

    n = (u_char *) ngx_escape_uri(uri, name->data + same, n, NGX_ESCAPE_URI)
        - uri;
    p = (u_char *) ngx_escape_html(p, uri, n);

    address->len = p - address->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_kv_dashboard_handler(ngx_http_request_t *r)
{
    ngx_buf_t               *b;
    ngx_chain_t              out[3];
    ngx_http_kv_loc_conf_t  *klcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_kv_module);
    b = ngx_pcalloc(r->pool, 3 * sizeof(ngx_buf_t));

    if (b == NULL || ngx_http_kv_dashboard_headers(r, klcf) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_kv_dashboard_buf(&out[0], &b[0], ngx_http_kv_page_head.text,
                              ngx_http_kv_page_head.len);
    ngx_http_kv_dashboard_buf(&out[1], &b[1], klcf->dashboard->stores.data,
                              klcf->dashboard->stores.len);
    ngx_http_kv_dashboard_buf(&out[2], &b[2], ngx_http_kv_page_rest.text,
                              ngx_http_kv_page_rest.len);
    out[0].next = &out[1];
    out[1].next = &out[2];
    out[2].next = NULL;

    return ngx_http_kv_reply_chain(r, "text/html", out);
}


static ngx_int_t
ngx_http_kv_dashboard_headers(ngx_http_request_t *r,
    ngx_http_kv_loc_conf_t *conf)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    ngx_str_set(&h->key, "ETag");
    h->value = conf->dashboard->tag;

    r->headers_out.etag = h;

    /* nginx compares; other conditions than this it answers with HTML */

    r->disable_not_modified = r->headers_in.if_none_match == NULL;

    ngx_str_set(&r->headers_out.charset, "utf-8");

    return ngx_http_kv_header(r, "Content-Security-Policy",
                              ngx_http_kv_page_policy) == NGX_OK
           && ngx_http_kv_header(r, "X-Content-Type-Options", "nosniff")
              == NGX_OK
           && ngx_http_kv_header(r, "Referrer-Policy", "no-referrer") == NGX_OK
           ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_kv_dashboard_buf(ngx_chain_t *out, ngx_buf_t *b, const void *text,
    size_t len)
{
    b->pos = (u_char *) text;
    b->last = b->pos + len;
    b->memory = 1;

    out->buf = b;
}
