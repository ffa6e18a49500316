
/*
 * The parameters of kv_zone for a cluster: cluster=, peers=, peer_listen=.
 *
 * An address that is an IP is kept as nginx prints it, so that all nodes write
 * it alike, however it was written.  Letters, digits, and what stands in
 * addresses are all that any of them has: they go into JSON, and into URLs.
 */


#include "http/ngx_http_kv_conf_private.h"


/* where nodes listen for each other, behind the port that clients have */
#define NGX_HTTP_KV_PEER_PORT  10000


/* One, as it is read. */

typedef struct {
    ngx_str_t                  text;          /* with a zero at the end */
    struct sockaddr           *sockaddr;      /* NULL: it is a name */
    socklen_t                  socklen;
    in_port_t                  port;
} ngx_http_kv_address_t;


static ngx_int_t ngx_http_kv_address(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_kv_address_t *address);
static ngx_uint_t ngx_http_kv_address_host(ngx_url_t *u);
static ngx_int_t ngx_http_kv_address_text(ngx_conf_t *cf,
    ngx_http_kv_address_t *address);
static ngx_int_t ngx_http_kv_peer_listen(ngx_conf_t *cf,
    ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_peer_list(ngx_conf_t *cf,
    ngx_http_kv_zone_t *zone);
static ngx_int_t ngx_http_kv_peer(ngx_conf_t *cf, ngx_http_kv_zone_t *zone,
    ngx_str_t *text);
static ngx_int_t ngx_http_kv_peer_port(ngx_conf_t *cf,
    ngx_http_kv_address_t *client, ngx_str_t *port,
    ngx_http_kv_address_t *address);
static ngx_int_t ngx_http_kv_peer_insert(ngx_conf_t *cf,
    ngx_http_kv_zone_t *zone, const char *address, const char *peer_address);
static ngx_int_t ngx_http_kv_peer_text(ngx_conf_t *cf,
    ngx_http_kv_zone_t *zone);


/* This node's address, and whether the module can be one. */

char *
ngx_http_kv_parse_cluster(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    ngx_int_t               rc;
    ngx_http_kv_zone_t     *zone;
    ngx_http_kv_address_t   address;

    zone = params->zone;

    if (!NGX_HTTP_KV_CLUSTER) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"cluster=\" needs the library libraft 0.22.1, "
                           "without which this module was built: build it "
                           "with libraft-dev, or remove \"cluster=\"");
        return NGX_CONF_ERROR;
    }

    rc = ngx_http_kv_address(cf, value, &address);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid cluster \"%V\": a name may only have the "
                           "letters a to z, digits, \"-\" and \".\": give the "
                           "host such a name, or use its IP address", value);
        return NGX_CONF_ERROR;
    }

    if (rc != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid cluster \"%V\": it must be the address "
                           "and port at which clients reach this node, as in "
                           "\"192.0.2.1:8080\"", value);
        return NGX_CONF_ERROR;
    }

    zone->cluster = address.text;
    zone->conf.hosted = true;

#if KV_HAVE_RAFT
    zone->conf.cluster = (char *) address.text.data;
#endif

    return NGX_CONF_OK;
}


/*
 * NGX_OK; NGX_DECLINED: a name with characters that it may not have; NGX_ERROR:
 * it is no address that a node may have, or no memory.
 */

static ngx_int_t
ngx_http_kv_address(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_kv_address_t *address)
{
    ngx_url_t  u;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *text;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.family == AF_UNIX
        || u.no_port || u.uri.len || u.wildcard || u.host.len == 0
        || text->len > KV_ADDRESS_MAX)
    {
        return NGX_ERROR;
    }

    if (!ngx_http_kv_address_host(&u)) {
        return NGX_DECLINED;
    }

    address->text = *text;
    address->port = u.port;
    address->sockaddr = u.naddrs ? u.addrs[0].sockaddr : NULL;
    address->socklen = u.naddrs ? u.addrs[0].socklen : 0;

    return address->sockaddr ? ngx_http_kv_address_text(cf, address) : NGX_OK;
}


/* Whether it is an address, or a name that may be one of a host. */

static ngx_uint_t
ngx_http_kv_address_host(ngx_url_t *u)
{
    u_char  c;
    size_t  i;

    for (i = 0; i < u->host.len && u->naddrs == 0; i++) {
        c = ngx_tolower(u->host.data[i]);

        if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
            && c != '.')
        {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_kv_address_text(ngx_conf_t *cf, ngx_http_kv_address_t *address)
{
    u_char  *p;
    size_t   n;

    p = ngx_pnalloc(cf->pool, NGX_SOCKADDR_STRLEN + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    n = ngx_sock_ntop(address->sockaddr, address->socklen, p,
                      NGX_SOCKADDR_STRLEN, 1);
    p[n] = '\0';

    address->text.data = p;
    address->text.len = n;

    return NGX_OK;
}


/* These two are looked at when all parameters are known. */

char *
ngx_http_kv_parse_peers(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    (void) cf;

    params->zone->peers = *value;

    return NGX_CONF_OK;
}


char *
ngx_http_kv_parse_peer_listen(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value)
{
    (void) cf;

    params->zone->peer_listen = *value;

    return NGX_CONF_OK;
}


char *
ngx_http_kv_check_peers(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    ngx_uint_t  peers;

    peers = zone->peers.data != NULL;

    if (!peers && zone->peer_listen.data == NULL) {
        return NGX_CONF_OK;
    }

    if (!NGX_HTTP_KV_PEERS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"peers=\" and \"peer_listen=\" come with a later "
                           "version of this module: remove them");
        return NGX_CONF_ERROR;
    }

    if (!peers || zone->cluster.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s=\" does nothing without \"%s=\"",
                           peers ? "peers" : "peer_listen",
                           peers ? "cluster" : "peers");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_kv_peer_listen(cf, zone) != NGX_OK
        || ngx_http_kv_peer_list(cf, zone) != NGX_OK
        || ngx_http_kv_peer_text(cf, zone) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (zone->conf.npeers % 2) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "of a cluster of %uD nodes no more may fail than of "
                           "one of %uD: an odd number is better",
                           zone->conf.npeers + 1, zone->conf.npeers);
    }

    return NGX_CONF_OK;
}


/* Where this node listens for the others: as it is said, or by the rule. */

static ngx_int_t
ngx_http_kv_peer_listen(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    ngx_str_t               none;
    ngx_http_kv_address_t   self, listen;

    if (ngx_http_kv_address(cf, &zone->cluster, &self) != NGX_OK
        || self.sockaddr == NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "cluster=%V must have an IP address beside "
                           "\"peers=\", as in \"192.0.2.1:8080\"",
                           &zone->cluster);
        return NGX_ERROR;
    }

    if (zone->peer_listen.data == NULL) {
        ngx_str_null(&none);

        if (ngx_http_kv_peer_port(cf, &self, &none, &listen) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "cluster=%V leaves no port for the other nodes, "
                               "which would be 10000 above it: set "
                               "\"peer_listen=\"", &zone->cluster);
            return NGX_ERROR;
        }

    } else if (ngx_http_kv_address(cf, &zone->peer_listen, &listen) != NGX_OK
               || listen.sockaddr == NULL
               || ngx_strcmp(listen.text.data, self.text.data) == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid peer_listen \"%V\": it must be an IP "
                           "address of this node, with another port than "
                           "clients have, as in \"192.0.2.1:18080\"",
                           &zone->peer_listen);
        return NGX_ERROR;
    }

    zone->peer_listen = listen.text;
    zone->conf.peer_listen = (char *) listen.text.data;

    return NGX_OK;
}


/*
 * Fills *address with that by which nodes reach the one that `client` is: the
 * same IP, with the port that is given, or, if it is empty, with that of the
 * rule.
 */

static ngx_int_t
ngx_http_kv_peer_port(ngx_conf_t *cf, ngx_http_kv_address_t *client,
    ngx_str_t *port, ngx_http_kv_address_t *address)
{
    ngx_int_t  n;

    n = port->len ? ngx_atoi(port->data, port->len)
                  : client->port + NGX_HTTP_KV_PEER_PORT;

    if (n < 1 || n > 65535 || n == client->port) {
        return NGX_ERROR;
    }

    *address = *client;

    address->sockaddr = ngx_pnalloc(cf->pool, client->socklen);
    if (address->sockaddr == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(address->sockaddr, client->sockaddr, client->socklen);
    ngx_inet_set_port(address->sockaddr, (in_port_t) n);
    address->port = (in_port_t) n;

    return ngx_http_kv_address_text(cf, address);
}


static ngx_int_t
ngx_http_kv_peer_list(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    u_char     *p, *comma, *end;
    ngx_str_t   text;

    p = zone->peers.data;
    end = p + zone->peers.len;

    do {
        comma = ngx_strlchr(p, end, ',');

        text.data = p;
        text.len = (size_t) ((comma ? comma : end) - p);

        if (ngx_http_kv_peer(cf, zone, &text) != NGX_OK) {
            return NGX_ERROR;
        }

        p = comma ? comma + 1 : NULL;

    } while (p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_kv_peer(ngx_conf_t *cf, ngx_http_kv_zone_t *zone, ngx_str_t *text)
{
    u_char                 *at;
    ngx_str_t               client, port;
    ngx_http_kv_address_t   address, peer;

    at = ngx_strlchr(text->data, text->data + text->len, '@');

    client.data = text->data;
    client.len = at ? (size_t) (at - text->data) : text->len;

    ngx_str_null(&port);

    if (at) {
        port.data = at + 1;
        port.len = text->len - client.len - 1;
    }

    if ((at && port.len == 0)
        || ngx_http_kv_address(cf, &client, &address) != NGX_OK
        || address.sockaddr == NULL
        || ngx_http_kv_peer_port(cf, &address, &port, &peer) != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid peer \"%V\": it must be the IP address and "
                           "port at which clients reach another node, as in "
                           "\"192.0.2.2:8080\"; nodes reach it at that port + "
                           "10000, or at another one that follows, as in "
                           "\"192.0.2.2:8080@7000\"", text);
        return NGX_ERROR;
    }

    return ngx_http_kv_peer_insert(cf, zone, (char *) address.text.data,
                                   (char *) peer.text.data);
}


/* Puts it in its place, if there is none like it. */

static ngx_int_t
ngx_http_kv_peer_insert(ngx_conf_t *cf, ngx_http_kv_zone_t *zone,
    const char *address, const char *peer_address)
{
    ngx_uint_t        i;
    kv_store_conf_t  *conf;

    conf = &zone->conf;

    if (ngx_strcmp(address, zone->cluster.data) == 0
        || ngx_strcmp(peer_address, zone->peer_listen.data) == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "peer \"%s\" is this node itself: \"peers=\" has "
                           "the others", address);
        return NGX_ERROR;
    }

    for (i = 0; i < conf->npeers; i++) {

        if (ngx_strcmp(address, conf->peers[i].address) == 0
            || ngx_strcmp(peer_address, conf->peers[i].peer_address) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "peer \"%s\" is given twice", address);
            return NGX_ERROR;
        }
    }

    if (conf->npeers == KV_PEERS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a cluster has at most %ui nodes, this one and %ui "
                           "in \"peers=\"", (ngx_uint_t) KV_PEERS_MAX + 1,
                           (ngx_uint_t) KV_PEERS_MAX);
        return NGX_ERROR;
    }

    for (i = conf->npeers++; i > 0; i--) {

        if (ngx_strcmp(conf->peers[i - 1].address, address) < 0) {
            break;
        }

        conf->peers[i] = conf->peers[i - 1];
    }

    conf->peers[i].address = address;
    conf->peers[i].peer_address = peer_address;

    return NGX_OK;
}


/* How the list is shown, and compared with that of another configuration. */

static ngx_int_t
ngx_http_kv_peer_text(ngx_conf_t *cf, ngx_http_kv_zone_t *zone)
{
    u_char      *p;
    ngx_uint_t   i;

    p = ngx_pnalloc(cf->pool, KV_PEERS_MAX * 2 * (NGX_SOCKADDR_STRLEN + 1));
    if (p == NULL) {
        return NGX_ERROR;
    }

    zone->peers.data = p;

    for (i = 0; i < zone->conf.npeers; i++) {
        p = ngx_sprintf(p, "%s%s@%s", i ? "," : "",
                        zone->conf.peers[i].address,
                        zone->conf.peers[i].peer_address);
    }

    zone->peers.len = (size_t) (p - zone->peers.data);

    return NGX_OK;
}
