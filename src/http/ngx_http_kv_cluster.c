
/*
 * What a node of a cluster tells clients: kv_cluster, for GET /cluster/info.
 */


#include "http/ngx_http_kv.h"


/* all but the addresses: {"id":"","role":"candidate","term":,"leader":...} */
#define NGX_HTTP_KV_CLUSTER_JSON  (80 + NGX_INT64_LEN)


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
