
/*
 * Request counters; see kv_stats.h.  One writer each, so that relaxed loads
 * and stores do, without a locked instruction.
 */


#include "base/kv_stats.h"


const uint16_t  kv_statuses[KV_STATUSES] = {
    200, 206, 304, 400, 401, 403, 404, 405, 408, 413, 414, 416, 499, 500, 503,
    507
};

const char *const  kv_route_names[KV_ROUTES] = {
    "kv", "clear", "health", "stats"
};

const char *const  kv_method_names[KV_METHODS] = {
    "GET", "HEAD", "PUT", "DELETE", "other"
};


#define kv_get(v)      kv_get_relaxed(v)
#define kv_set(v, n)   kv_set_relaxed(v, n)
#define kv_plus(v, n)  kv_set(v, kv_get(v) + (n))


void
kv_stats_init(kv_stats_t *stats)
{
    unsigned  r, m;

    memset(stats, 0, sizeof(kv_stats_t));

    for (r = 0; r < KV_ROUTES; r++) {
        for (m = 0; m < KV_METHODS; m++) {
            kv_measure_init(&stats->row[r][m].latency);
        }
    }
}


void
kv_stats_count(kv_stats_t *stats, kv_route_t route, kv_method_t method,
    unsigned status, uint64_t us)
{
    unsigned         i;
    kv_stats_row_t  *row;

    row = &stats->row[route][method];

    kv_measure_count(&row->latency, us);

    for (i = 0; i < KV_STATUSES && kv_statuses[i] != status; i++) {
        /* void */
    }

    kv_plus(row->status[i], 1);
}


void
kv_stats_add(kv_stats_t *to, const kv_stats_t *from)
{
    unsigned               r, m, i;
    kv_stats_row_t        *t;
    const kv_stats_row_t  *f;

    for (r = 0; r < KV_ROUTES; r++) {
        for (m = 0; m < KV_METHODS; m++) {
            t = &to->row[r][m];
            f = &from->row[r][m];

            kv_plus(t->latency.count, kv_get(f->latency.count));
            kv_plus(t->latency.sum, kv_get(f->latency.sum));
            kv_set(t->latency.min, kv_min(kv_get(t->latency.min),
                                          kv_get(f->latency.min)));
            kv_set(t->latency.max, kv_max(kv_get(t->latency.max),
                                          kv_get(f->latency.max)));

            for (i = 0; i <= KV_STATUSES; i++) {
                kv_plus(t->status[i], kv_get(f->status[i]));
            }
        }
    }
}


void
kv_measure_init(kv_measure_t *m)
{
    kv_set(m->count, 0);
    kv_set(m->sum, 0);
    kv_set(m->min, UINT64_MAX);
    kv_set(m->max, 0);
}


void
kv_measure_count(kv_measure_t *m, uint64_t value)
{
    kv_plus(m->count, 1);
    kv_plus(m->sum, value);

    if (value < kv_get(m->min)) {
        kv_set(m->min, value);
    }

    if (value > kv_get(m->max)) {
        kv_set(m->max, value);
    }
}


double
kv_measure_mean(const kv_measure_t *m)
{
    uint64_t  count;

    count = kv_get(m->count);

    return count ? (double) kv_get(m->sum) / (double) count : 0.0;
}


uint64_t
kv_measure_min(const kv_measure_t *m)
{
    return kv_get(m->count) ? kv_get(m->min) : 0;
}
