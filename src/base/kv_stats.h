
/*
 * Counters of requests, one set per worker, so that no cache line is
 * fought over.  The owner writes, anyone reads and adds up; a counter is
 * always whole but a set may be seen in the middle of an update.
 */


#ifndef KV_STATS_H
#define KV_STATS_H


#include "base/kv_base.h"


typedef enum {
    KV_ROUTE_KV = 0,
    KV_ROUTE_CLEAR,
    KV_ROUTE_HEALTH,
    KV_ROUTE_STATS,
    KV_ROUTES
} kv_route_t;


typedef enum {
    KV_METHOD_GET = 0,
    KV_METHOD_HEAD,
    KV_METHOD_PUT,
    KV_METHOD_DELETE,
    KV_METHOD_OTHER,
    KV_METHODS
} kv_method_t;


/* The status codes that are counted one by one; the rest is "other". */

#define KV_STATUSES  16

extern const uint16_t     kv_statuses[KV_STATUSES];
extern const char *const  kv_route_names[KV_ROUTES];
extern const char *const  kv_method_names[KV_METHODS];


/* A distribution: microseconds, or whatever its user counts. */

typedef struct {
    _Atomic uint64_t  count;
    _Atomic uint64_t  sum;
    _Atomic uint64_t  min;             /* UINT64_MAX while count is 0 */
    _Atomic uint64_t  max;
} kv_measure_t;


typedef struct {
    kv_measure_t      latency;         /* microseconds */
    _Atomic uint64_t  status[KV_STATUSES + 1];
} kv_stats_row_t;


typedef struct {
    kv_stats_row_t    row[KV_ROUTES][KV_METHODS];
} kv_stats_t;


void kv_stats_init(kv_stats_t *stats);

/* Counts a request that took `us` microseconds; by the owner only. */
void kv_stats_count(kv_stats_t *stats, kv_route_t route, kv_method_t method,
    unsigned status, uint64_t us);

/* Adds `from` to `to`, which no other thread uses. */
void kv_stats_add(kv_stats_t *to, const kv_stats_t *from);

void kv_measure_init(kv_measure_t *m);

/* By one writer at a time. */
void kv_measure_count(kv_measure_t *m, uint64_t value);

/* The mean, 0 without values. */
double kv_measure_mean(const kv_measure_t *m);

/* The least value, 0 without values. */
uint64_t kv_measure_min(const kv_measure_t *m);


#endif /* KV_STATS_H */
