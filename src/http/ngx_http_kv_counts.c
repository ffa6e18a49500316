
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
    "kv", "clear", "health", "stats", "bulk", "keys", "batch", "backup",
    "watch"
};

const char *const  ngx_http_kv_method_names[NGX_HTTP_KV_METHODS] = {
    "GET", "HEAD", "PUT", "POST", "DELETE", "other"
};


/*
 * Which row of a set is whose, from 1 on; 0: the route does not take the
 * method.  Rows of their own for all of them would take three times the memory
 * of each zone.
 */

#define NGX_HTTP_KV_ROWS  20

static const uint8_t  ngx_http_kv_rows[NGX_HTTP_KV_ROUTES]
                                      [NGX_HTTP_KV_METHODS] = {

    /*             GET HEAD PUT POST DELETE other */
    /* kv */     { 1,  2,   3,  4,   5,     6 },
    /* clear */  { 0,  0,   0,  0,   7,     0 },
    /* health */ { 8,  9,   0,  0,   0,     0 },
    /* stats */  { 10, 11,  0,  0,   0,     0 },
    /* bulk */   { 0,  0,   0,  12,  0,     0 },
    /* keys */   { 13, 14,  0,  0,   15,    0 },
    /* batch */  { 0,  0,   0,  16,  0,     0 },
    /* backup */ { 17, 18,  0,  0,   0,     0 },
    /* watch */  { 19, 20,  0,  0,   0,     0 }
};


/* What is counted of requests of a method that the route does not take. */

typedef struct {
    kv_measure_t       latency;
    _Atomic uint64_t   refused;          /* 405 */
    _Atomic uint64_t   other;            /* by error_page, say */
} ngx_http_kv_refused_t;


/*
 * A worker's set; all zero at first, as the store's counters are.  Who changes
 * what is where in it counts KV_ZONE_LAYOUT up (store/kv_zone.h).
 */

typedef struct {
    ngx_http_kv_row_t      row[NGX_HTTP_KV_ROWS];
    ngx_http_kv_refused_t  refused[NGX_HTTP_KV_ROUTES][NGX_HTTP_KV_METHODS];
    uint64_t               unused_before[4];

    /* a cache line */
    ngx_http_kv_reads_t    reads;
    _Atomic uint64_t       counting[NGX_HTTP_KV_COUNTINGS];
    uint64_t               unused[2];
} ngx_http_kv_set_t;


#define ngx_http_kv_plus(v, n)  kv_set_relaxed(v, kv_get_relaxed(v) + (n))


static unsigned ngx_http_kv_status_cell(unsigned status);
static void ngx_http_kv_counts_add_row(ngx_http_kv_row_t *to,
    const ngx_http_kv_row_t *from);
static void ngx_http_kv_counts_add_refused(ngx_http_kv_row_t *to,
    const ngx_http_kv_refused_t *from);
static void ngx_http_kv_counts_add_reads(ngx_http_kv_reads_t *to,
    const ngx_http_kv_reads_t *from);


_Static_assert(sizeof(ngx_http_kv_set_t) <= KV_COUNTERS * sizeof(kv_counter_t),
               "the store's counters hold those of requests");


bool
ngx_http_kv_counts_timed(ngx_http_kv_route_t route, ngx_http_kv_method_t method)
{
    return ngx_http_kv_rows[route][method] != 0;
}


void
ngx_http_kv_counts_add(kv_store_t *store, ngx_http_kv_route_t route,
    ngx_http_kv_method_t method, unsigned status, uint64_t us)
{
    unsigned                n;
    ngx_http_kv_row_t      *row;
    ngx_http_kv_set_t      *set;
    ngx_http_kv_refused_t  *refused;

    set = (ngx_http_kv_set_t *) kv_store_counters(store);

    if (set == NULL) {
        return;
    }

    n = ngx_http_kv_rows[route][method];

    if (n) {
        row = &set->row[n - 1];

        kv_histogram_count(&row->latency, us, NGX_HTTP_KV_FIRST_US);
        ngx_http_kv_plus(row->status[ngx_http_kv_status_cell(status)], 1);

        return;
    }

    refused = &set->refused[route][method];

    kv_measure_count(&refused->latency, us);

    if (status == 405) {
        ngx_http_kv_plus(refused->refused, 1);

    } else {
        ngx_http_kv_plus(refused->other, 1);
    }
}


void
ngx_http_kv_counts_counting(kv_store_t *store, ngx_http_kv_counting_t what,
    uint64_t n)
{
    ngx_http_kv_set_t  *set;

    set = (ngx_http_kv_set_t *) kv_store_counters(store);

    ngx_http_kv_plus(set->counting[what], n);
}


/* Where it is counted. */

static unsigned
ngx_http_kv_status_cell(unsigned status)
{
    unsigned  i;

    for (i = 0;
         i < NGX_HTTP_KV_STATUSES && ngx_http_kv_statuses[i] != status;
         i++)
    {
        /* void */
    }

    return i;
}


void
ngx_http_kv_counts_sum(kv_store_t *store, ngx_http_kv_counts_t *sum)
{
    unsigned                  w, r, m, n;
    const ngx_http_kv_set_t  *set;

    memset((void *) sum, 0, sizeof(ngx_http_kv_counts_t));

    for (w = 0; w < kv_store_workers(store); w++) {
        set = (const ngx_http_kv_set_t *) kv_store_counters_of(store, w);

        ngx_http_kv_counts_add_reads(&sum->reads, &set->reads);

        for (r = 0; r < NGX_HTTP_KV_ROUTES; r++) {
            for (m = 0; m < NGX_HTTP_KV_METHODS; m++) {
                n = ngx_http_kv_rows[r][m];

                if (n) {
                    ngx_http_kv_counts_add_row(&sum->row[r][m],
                                               &set->row[n - 1]);

                } else {
                    ngx_http_kv_counts_add_refused(&sum->row[r][m],
                                                   &set->refused[r][m]);
                }
            }
        }

        for (n = 0; n < NGX_HTTP_KV_COUNTINGS; n++) {
            sum->counting[n] += kv_get_relaxed(set->counting[n]);
        }
    }
}


static void
ngx_http_kv_counts_add_row(ngx_http_kv_row_t *to, const ngx_http_kv_row_t *from)
{
    unsigned  i;

    kv_histogram_add(&to->latency, &from->latency);

    for (i = 0; i <= NGX_HTTP_KV_STATUSES; i++) {
        ngx_http_kv_plus(to->status[i], kv_get_relaxed(from->status[i]));
    }
}


static void
ngx_http_kv_counts_add_refused(ngx_http_kv_row_t *to,
    const ngx_http_kv_refused_t *from)
{
    kv_measure_add(&to->latency.measure, &from->latency);

    ngx_http_kv_plus(to->status[ngx_http_kv_status_cell(405)],
                     kv_get_relaxed(from->refused));
    ngx_http_kv_plus(to->status[NGX_HTTP_KV_STATUSES],
                     kv_get_relaxed(from->other));
}


void
ngx_http_kv_counts_variable(kv_store_t *store, kv_rc_t rc)
{
    ngx_http_kv_set_t  *set;

    set = (ngx_http_kv_set_t *) kv_store_counters(store);

    if (set == NULL) {
        return;
    }

    switch (rc) {

    case KV_OK:
        ngx_http_kv_plus(set->reads.hits, 1);
        break;

    case KV_NOT_FOUND:
        ngx_http_kv_plus(set->reads.misses, 1);
        break;

    default:
        ngx_http_kv_plus(set->reads.failed, 1);
    }
}


static void
ngx_http_kv_counts_add_reads(ngx_http_kv_reads_t *to,
    const ngx_http_kv_reads_t *from)
{
    ngx_http_kv_plus(to->hits, kv_get_relaxed(from->hits));
    ngx_http_kv_plus(to->misses, kv_get_relaxed(from->misses));
    ngx_http_kv_plus(to->failed, kv_get_relaxed(from->failed));
}


uint64_t
ngx_http_kv_counts_reads(kv_store_t *store)
{
    unsigned                  w, m;
    uint64_t                  n;
    const ngx_http_kv_set_t  *set;

    n = 0;

    for (w = 0; w < kv_store_workers(store); w++) {
        set = (const ngx_http_kv_set_t *) kv_store_counters_of(store, w);

        for (m = NGX_HTTP_KV_METHOD_GET; m <= NGX_HTTP_KV_METHOD_HEAD; m++) {
            n += kv_get_relaxed(
                     set->row[ngx_http_kv_rows[NGX_HTTP_KV_ROUTE_KV][m] - 1]
                     .latency.measure.count);
        }
    }

    return n;
}
