
/*
 * Counters of requests; see ngx_http_kv_counts.h.  Each has one writer, so
 * relaxed loads and stores are enough, without a locked instruction.
 */


#include "http/ngx_http_kv_counts.h"


const uint16_t  ngx_http_kv_statuses[NGX_HTTP_KV_STATUSES] = {
    200, 206, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 416, 499,
    500, 503, 507
};

const char *const  ngx_http_kv_route_names[NGX_HTTP_KV_ROUTES] = {
    "kv", "clear", "health", "stats", "bulk", "keys", "batch", "backup"
};

const char *const  ngx_http_kv_method_names[NGX_HTTP_KV_METHODS] = {
    "GET", "HEAD", "PUT", "POST", "DELETE", "other"
};


#define ngx_http_kv_plus(v, n)  kv_set_relaxed(v, kv_get_relaxed(v) + (n))


_Static_assert(sizeof(ngx_http_kv_counts_t)
               <= KV_COUNTERS * sizeof(kv_counter_t),
               "the store's counters hold those of requests");


void
ngx_http_kv_counts_add(kv_store_t *store, ngx_http_kv_route_t route,
    ngx_http_kv_method_t method, unsigned status, uint64_t us)
{
    unsigned               i;
    ngx_http_kv_row_t     *row;
    ngx_http_kv_counts_t  *counts;

    counts = (ngx_http_kv_counts_t *) kv_store_counters(store);

    if (counts == NULL) {
        return;
    }

    row = &counts->row[route][method];

    kv_measure_count(&row->latency, us);

    for (i = 0;
         i < NGX_HTTP_KV_STATUSES && ngx_http_kv_statuses[i] != status;
         i++)
    {
        /* void */
    }

    ngx_http_kv_plus(row->status[i], 1);
}


void
ngx_http_kv_counts_sum(kv_store_t *store, ngx_http_kv_counts_t *sum)
{
    unsigned                     w, r, m, i;
    ngx_http_kv_row_t           *to;
    const ngx_http_kv_row_t     *from;
    const ngx_http_kv_counts_t  *counts;

    memset((void *) sum, 0, sizeof(ngx_http_kv_counts_t));

    for (w = 0; w < kv_store_workers(store); w++) {
        counts = (const ngx_http_kv_counts_t *) kv_store_counters_of(store, w);

        for (r = 0; r < NGX_HTTP_KV_ROUTES; r++) {
            for (m = 0; m < NGX_HTTP_KV_METHODS; m++) {
                to = &sum->row[r][m];
                from = &counts->row[r][m];

                kv_measure_add(&to->latency, &from->latency);

                for (i = 0; i <= NGX_HTTP_KV_STATUSES; i++) {
                    ngx_http_kv_plus(to->status[i],
                                     kv_get_relaxed(from->status[i]));
                }
            }
        }
    }
}
