
/*
 * What the files of kv_zone share:
 *
 *     ngx_http_kv_conf.c           the directive
 *     ngx_http_kv_conf_check.c     what it must fulfil as a whole
 *     ngx_http_kv_conf_params.c    its parameters
 *     ngx_http_kv_conf_cluster.c   those of a cluster
 */


#ifndef _NGX_HTTP_KV_CONF_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_KV_CONF_PRIVATE_H_INCLUDED_


#include "http/ngx_http_kv.h"


/* the defaults */
#define NGX_HTTP_KV_BATCH       100
#define NGX_HTTP_KV_SEGMENT     (64 * 1024 * 1024)
#define NGX_HTTP_KV_SNAPSHOT    (256 * 1024 * 1024)
#define NGX_HTTP_KV_MAX_VALUE   (10 * 1024 * 1024)
#define NGX_HTTP_KV_ARCHIVE_HOLD  (1024 * 1024 * 1024)


/*
 * Whether cluster= is taken.  Builds for tests take it without libraft, too:
 * there is only the process that writes the log then, which is a plain one.
 */
#if KV_HAVE_RAFT || defined KV_TEST_FAILPOINTS
#define NGX_HTTP_KV_CLUSTER  1
#else
#define NGX_HTTP_KV_CLUSTER  0
#endif


/* Whether peers= is taken: only builds for tests do yet. */
#if KV_HAVE_RAFT && defined KV_TEST_FAILPOINTS
#define NGX_HTTP_KV_PEERS  1
#else
#define NGX_HTTP_KV_PEERS  0
#endif


/* What the parameters of a kv_zone say. */

typedef struct {
    ngx_http_kv_zone_t    *zone;
    ngx_str_t              thread_pool;
    ssize_t                size;          /* bytes; 0: not given */
} ngx_http_kv_params_t;


/*
 * All functions below that return a string return NGX_CONF_OK, or
 * NGX_CONF_ERROR once they have logged why.
 */


/* ngx_http_kv_conf_params.c */

/*
 * Reads the directive's parameters.  `params` has the defaults; the zone's
 * strings go on pointing into cf->args.
 */
char *ngx_http_kv_params_read(ngx_conf_t *cf, ngx_http_kv_params_t *params);

/* How often the directive that is read has the parameter, as in "path=". */
ngx_uint_t ngx_http_kv_param_given(ngx_conf_t *cf, const char *name);


/* ngx_http_kv_conf_cluster.c */

/* The parsers of cluster=, peers= and peer_listen=. */
char *ngx_http_kv_parse_cluster(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value);
char *ngx_http_kv_parse_peers(ngx_conf_t *cf, ngx_http_kv_params_t *params,
    ngx_str_t *value);
char *ngx_http_kv_parse_peer_listen(ngx_conf_t *cf,
    ngx_http_kv_params_t *params, ngx_str_t *value);

/* Reads the last two, which say something beside cluster= alone. */
char *ngx_http_kv_check_peers(ngx_conf_t *cf, ngx_http_kv_zone_t *zone);


/* ngx_http_kv_conf_check.c */

/* Checks what a parameter's own parser cannot see: the others. */
char *ngx_http_kv_check_params(ngx_conf_t *cf, ngx_http_kv_params_t *params);

/*
 * Checks that the store can use the zone's directory, and its archive, and sets
 * zone->dir_id and zone->archive_id if it could see them.  Changes nothing
 * there.
 */
char *ngx_http_kv_check_directories(ngx_conf_t *cf, ngx_http_kv_zone_t *zone);

/* Checks that no zone of `kmcf` has the name or a directory of this one. */
char *ngx_http_kv_check_unique(ngx_conf_t *cf, ngx_http_kv_main_conf_t *kmcf,
    ngx_http_kv_zone_t *zone);


#endif /* _NGX_HTTP_KV_CONF_PRIVATE_H_INCLUDED_ */
