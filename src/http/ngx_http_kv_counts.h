
/*
 * Counters of requests by route, method and status.  Each worker has a set, in
 * its counters of the store (kv_store_counters()), so that no two workers write
 * to one cache line.  The owner writes; every process may read and add up.  A
 * counter is always whole, but a reader may see a set in the middle of an
 * update.  No counter ever goes back: a set stays when its worker ends, for the
 * next worker to count on.
 *
 * Reads of variables belong to no request of ours, and are counted by
 * themselves.
 *
 * A set has a row for each route and method that it takes.  Requests of other
 * methods, which are refused, have less: no histogram, and of the statuses 405
 * alone (ngx_http_kv_counts.c).
 */


#ifndef _NGX_HTTP_KV_COUNTS_H_INCLUDED_
#define _NGX_HTTP_KV_COUNTS_H_INCLUDED_


#include "base/kv_measure.h"
#include "store/kv_store.h"


typedef enum {
    NGX_HTTP_KV_ROUTE_KV = 0,
    NGX_HTTP_KV_ROUTE_CLEAR,
    NGX_HTTP_KV_ROUTE_HEALTH,
    NGX_HTTP_KV_ROUTE_STATS,
    NGX_HTTP_KV_ROUTE_BULK,
    NGX_HTTP_KV_ROUTE_KEYS,
    NGX_HTTP_KV_ROUTE_BATCH,
    NGX_HTTP_KV_ROUTE_BACKUP,
    NGX_HTTP_KV_ROUTE_WATCH,
    NGX_HTTP_KV_ROUTES,              /* that are counted */
    NGX_HTTP_KV_ROUTE_CLUSTER = NGX_HTTP_KV_ROUTES
} ngx_http_kv_route_t;


typedef enum {
    NGX_HTTP_KV_METHOD_GET = 0,
    NGX_HTTP_KV_METHOD_HEAD,
    NGX_HTTP_KV_METHOD_PUT,
    NGX_HTTP_KV_METHOD_POST,
    NGX_HTTP_KV_METHOD_DELETE,
    NGX_HTTP_KV_METHOD_OTHER,
    NGX_HTTP_KV_METHODS
} ngx_http_kv_method_t;


/* The status codes that are counted one by one; the rest is "other". */

#define NGX_HTTP_KV_STATUSES  18

extern const uint16_t     ngx_http_kv_statuses[NGX_HTTP_KV_STATUSES];
extern const char *const  ngx_http_kv_route_names[NGX_HTTP_KV_ROUTES];
extern const char *const  ngx_http_kv_method_names[NGX_HTTP_KV_METHODS];


/* The first bound of the histograms, microseconds. */
#define NGX_HTTP_KV_FIRST_US  50

/*
 * Of a request that is answered soon, two cache lines: that of the measure and
 * the first buckets, and that of the status 200.
 */
typedef struct {
    kv_histogram_t            latency;         /* microseconds */
    _Atomic uint64_t          status[NGX_HTTP_KV_STATUSES + 1];
} ngx_http_kv_row_t;

_Static_assert(sizeof(ngx_http_kv_row_t) % KV_CACHE_LINE == 0,
               "a row has whole cache lines");


/* Reads by variables. */

typedef struct {
    _Atomic uint64_t          hits;
    _Atomic uint64_t          misses;
    _Atomic uint64_t          failed;
} ngx_http_kv_reads_t;


/* Requests that kv_incr is to count. */

typedef enum {
    NGX_HTTP_KV_COUNTED = 0,
    NGX_HTTP_KV_COUNTED_REFUSED,     /* of these: by what cannot be counted */
    NGX_HTTP_KV_COUNTED_DROPPED,     /* and what the store did not get */
    NGX_HTTP_KV_COUNTINGS
} ngx_http_kv_counting_t;


/* A sum; all zero without requests. */

typedef struct {
    ngx_http_kv_reads_t       reads;
    ngx_http_kv_row_t         row[NGX_HTTP_KV_ROUTES][NGX_HTTP_KV_METHODS];
    uint64_t                  counting[NGX_HTTP_KV_COUNTINGS];
} ngx_http_kv_counts_t;


/* Whether the route takes the method, and the row has a histogram. */
bool ngx_http_kv_counts_timed(ngx_http_kv_route_t route,
    ngx_http_kv_method_t method);

/*
 * Counts a request that took `us` microseconds in the worker's set.  Nothing if
 * the worker has not entered the store.
 */
void ngx_http_kv_counts_add(kv_store_t *store, ngx_http_kv_route_t route,
    ngx_http_kv_method_t method, unsigned status, uint64_t us);

/* Counts the read of a variable, with its result. */
void ngx_http_kv_counts_variable(kv_store_t *store, kv_rc_t rc);

/* Adds `n` to what kv_incr has counted.  The worker has entered the store. */
void ngx_http_kv_counts_counting(kv_store_t *store,
    ngx_http_kv_counting_t what, uint64_t n);

/* The sum of all workers' sets, also of those that are gone. */
void ngx_http_kv_counts_sum(kv_store_t *store, ngx_http_kv_counts_t *sum);

/* How many requests have read one key, in all workers. */
uint64_t ngx_http_kv_counts_reads(kv_store_t *store);


#endif /* _NGX_HTTP_KV_COUNTS_H_INCLUDED_ */
