
/*
 * /stats, and the same per-route figures in the log when the server stops.
 */


#include "http/ngx_http_kv.h"


/* more than all routes, methods and statuses can fill */
#define NGX_HTTP_KV_STATS_SIZE  32768


static const char *const  ngx_http_kv_paths[KV_ROUTES] = {
    "/kv/{key}", "/clear", "/health", "/stats"
};


static u_char *ngx_http_kv_stats_route(u_char *p, u_char *end,
    kv_stats_t *stats, ngx_uint_t route);
static u_char *ngx_http_kv_stats_row(u_char *p, u_char *end,
    kv_stats_row_t *row);
static u_char *ngx_http_kv_stats_status(u_char *p, u_char *end,
    kv_stats_row_t *row, const char *quote);
static u_char *ngx_http_kv_stats_held(u_char *p, u_char *end, kv_zone_t *z,
    kv_held_t who, const char *name);
static u_char *ngx_http_kv_stats_store(u_char *p, u_char *end,
    ngx_http_kv_zone_t *zone);


ngx_buf_t *
ngx_http_kv_stats_json(ngx_pool_t *pool, ngx_http_kv_zone_t *zone)
{
    u_char      *p, *end;
    ngx_buf_t   *b;
    ngx_uint_t   i;
    kv_stats_t   stats;

    b = ngx_create_temp_buf(pool, NGX_HTTP_KV_STATS_SIZE);
    if (b == NULL) {
        return NULL;
    }

    kv_store_request_stats(zone->store, &stats);

    p = b->last;
    end = b->end;

    p = ngx_slprintf(p, end, "{\"zone\":\"%V\",\"routes\":{", &zone->name);

    for (i = 0; i < KV_ROUTES; i++) {
        p = ngx_slprintf(p, end, "%s\"%s\":", i ? "," : "", kv_route_names[i]);
        p = ngx_http_kv_stats_route(p, end, &stats, i);
    }

    p = ngx_slprintf(p, end, "},\"store\":");
    p = ngx_http_kv_stats_store(p, end, zone);
    p = ngx_slprintf(p, end, "}\n");

    b->last = p;

    return b;
}


static u_char *
ngx_http_kv_stats_route(u_char *p, u_char *end, kv_stats_t *stats,
    ngx_uint_t route)
{
    ngx_uint_t       i, n;
    kv_stats_row_t  *row;

    p = ngx_slprintf(p, end, "{");

    for (i = 0, n = 0; i < KV_METHODS; i++) {
        row = &stats->row[route][i];

        if (kv_get_relaxed(row->latency.count) == 0) {
            continue;
        }

        p = ngx_slprintf(p, end, "%s\"%s\":", n++ ? "," : "",
                         kv_method_names[i]);
        p = ngx_http_kv_stats_row(p, end, row);
    }

    return ngx_slprintf(p, end, "}");
}


static u_char *
ngx_http_kv_stats_row(u_char *p, u_char *end, kv_stats_row_t *row)
{
    p = ngx_slprintf(p, end, "{\"requests\":%uL,\"latency_us\":{\"avg\":%.1f,"
                     "\"min\":%uL,\"max\":%uL},\"status\":{",
                     (uint64_t) kv_get_relaxed(row->latency.count),
                     kv_measure_mean(&row->latency),
                     kv_measure_min(&row->latency),
                     (uint64_t) kv_get_relaxed(row->latency.max));

    p = ngx_http_kv_stats_status(p, end, row, "\"");

    return ngx_slprintf(p, end, "}}");
}


static u_char *
ngx_http_kv_stats_status(u_char *p, u_char *end, kv_stats_row_t *row,
    const char *quote)
{
    uint64_t     count;
    ngx_uint_t   i, n;
    const char  *sep;

    sep = *quote ? "," : ", ";

    for (i = 0, n = 0; i <= KV_STATUSES; i++) {
        count = kv_get_relaxed(row->status[i]);

        if (count == 0) {
            continue;
        }

        p = ngx_slprintf(p, end, "%s%s", n++ ? sep : "", quote);

        if (i < KV_STATUSES) {
            p = ngx_slprintf(p, end, "%ui", (ngx_uint_t) kv_statuses[i]);

        } else {
            p = ngx_slprintf(p, end, "other");
        }

        p = ngx_slprintf(p, end, "%s:%s%uL", quote, *quote ? "" : " ", count);
    }

    return p;
}


static u_char *
ngx_http_kv_stats_store(u_char *p, u_char *end, ngx_http_kv_zone_t *zone)
{
    uint64_t            since;
    kv_zone_t          *z;
    const char         *state;
    kv_heap_stat_t      heap;
    kv_commit_stats_t  *commit;

    z = zone->store->zone;
    commit = &z->stats;

    /* in this order: the second may grow meanwhile */

    since = atomic_load(&z->snapshot_log_bytes);
    since = atomic_load(&z->wal.bytes) - since;

    state = kv_state_name(kv_state(z));

    (void) kv_store_heap_stat(zone->store, &heap);

    p = ngx_slprintf(p, end, "{\"state\":\"%s\",\"keys\":%uL,\"bytes\":%uL,",
                     state, (uint64_t) atomic_load(&z->map.keys),
                     (uint64_t) atomic_load(&z->map.bytes));

    p = ngx_slprintf(p, end, "\"zone\":{\"size\":%uL,\"used\":%uL,"
                     "\"held\":%uL,\"free_pages\":%uL,\"refused\":%uL},",
                     (uint64_t) zone->shm_zone->shm.size, heap.used, heap.held,
                     heap.free_pages,
                     (uint64_t) atomic_load(&z->full_refused));

    p = ngx_http_kv_stats_held(p, end, z, KV_HELD_UPLOADS, "uploads");
    p = ngx_http_kv_stats_held(p, end, z, KV_HELD_READERS, "readers");

    p = ngx_slprintf(p, end, "\"commit\":{\"batches\":%uL,\"operations\":%uL,"
                     "\"operations_per_batch\":%.2f,\"payload_bytes\":%uL,"
                     "\"wait_us\":{\"avg\":%.1f,\"min\":%uL,\"max\":%uL},"
                     "\"sync_us\":{\"count\":%uL,\"avg\":%.1f,\"min\":%uL,"
                     "\"max\":%uL},\"moved\":%uL},",
                     (uint64_t) kv_get_relaxed(commit->batch.count),
                     (uint64_t) kv_get_relaxed(commit->batch.sum),
                     kv_measure_mean(&commit->batch),
                     (uint64_t) kv_get_relaxed(commit->payload),
                     kv_measure_mean(&commit->wait),
                     kv_measure_min(&commit->wait),
                     (uint64_t) kv_get_relaxed(commit->wait.max),
                     (uint64_t) kv_get_relaxed(commit->sync.count),
                     kv_measure_mean(&commit->sync),
                     kv_measure_min(&commit->sync),
                     (uint64_t) kv_get_relaxed(commit->sync.max),
                     (uint64_t) kv_get_relaxed(commit->moved));

    p = ngx_slprintf(p, end, "\"log\":{\"bytes\":%uL,\"written\":%uL,"
                     "\"segments\":%uL,\"next_lsn\":%uL,"
                     "\"durable_lsn\":%uL,\"unsynced_ms\":%uL},",
                     (uint64_t) atomic_load(&z->wal.bytes),
                     (uint64_t) atomic_load(&z->wal.written),
                     (uint64_t) atomic_load(&z->wal.segments),
                     (uint64_t) atomic_load(&z->wal.next_lsn),
                     (uint64_t) atomic_load(&z->wal.durable_lsn),
                     kv_store_unsynced(zone->store));

    p = ngx_slprintf(p, end, "\"snapshots\":{\"completed\":%uL,"
                     "\"failed\":%uL,\"last_lsn\":%uL,\"last_bytes\":%uL,"
                     "\"last_ms\":%uL,\"log_bytes\":%uL},",
                     (uint64_t) atomic_load(&z->snapshots),
                     (uint64_t) atomic_load(&z->snapshots_failed),
                     (uint64_t) atomic_load(&z->snapshot_lsn),
                     (uint64_t) atomic_load(&z->snapshot_bytes),
                     (uint64_t) atomic_load(&z->snapshot_ms),
                     since);

    return ngx_slprintf(p, end, "\"recovery\":{\"ms\":%uL,"
                        "\"snapshot_records\":%uL,\"log_records\":%uL,"
                        "\"rebuilds\":%uL}}",
                        (uint64_t) atomic_load(&z->recovery_ms),
                        (uint64_t) atomic_load(&z->recovered_snapshot),
                        (uint64_t) atomic_load(&z->recovered_log),
                        (uint64_t) atomic_load(&z->rebuilds));
}


/* What is held for as long as clients like. */

static u_char *
ngx_http_kv_stats_held(u_char *p, u_char *end, kv_zone_t *z, kv_held_t who,
    const char *name)
{
    return ngx_slprintf(p, end, "\"%s\":{\"bytes\":%uL,\"limit\":%uL,"
                        "\"evicted\":%uL},", name,
                        kv_heap_held(z->heap, who),
                        (uint64_t) atomic_load(&z->limit[who]),
                        (uint64_t) kv_get_relaxed(z->evicted[who]));
}


void
ngx_http_kv_stats_count(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    uint64_t      end;
    ngx_uint_t    status;
    kv_worker_t  *worker;
    kv_method_t   method;

    if (ctx->counted
        || (ngx_exiting && ngx_http_kv_entered(ctx->zone) != NGX_OK)
        || ctx->zone->store->worker == NULL)
    {
        return;
    }

    worker = ctx->zone->store->worker;

    ctx->counted = 1;

    switch (r->method) {

    case NGX_HTTP_GET:
        method = KV_METHOD_GET;
        break;

    case NGX_HTTP_HEAD:
        method = KV_METHOD_HEAD;
        break;

    case NGX_HTTP_PUT:
        method = KV_METHOD_PUT;
        break;

    case NGX_HTTP_DELETE:
        method = KV_METHOD_DELETE;
        break;

    default:
        method = KV_METHOD_OTHER;
    }

    status = r->err_status ? r->err_status : r->headers_out.status;

    /* gone before an answer, as nginx's own log calls it */

    status = status ? status : NGX_HTTP_CLIENT_CLOSED_REQUEST;

    end = ctx->answered ? ctx->answered : kv_now_ns();

    kv_stats_count(&worker->stats, ctx->route, method, (unsigned) status,
                   (end - ctx->started) / 1000);
}


void
ngx_http_kv_stats_log(ngx_http_kv_zone_t *zone, ngx_log_t *log)
{
    u_char           line[1024], *p;
    ngx_uint_t       route, method;
    kv_stats_t       stats;
    kv_stats_row_t  *row;

    kv_store_request_stats(zone->store, &stats);

    for (route = 0; route < KV_ROUTES; route++) {

        for (method = 0; method < KV_METHODS; method++) {
            row = &stats.row[route][method];

            if (kv_get_relaxed(row->latency.count) == 0) {
                continue;
            }

            p = ngx_http_kv_stats_status(line, line + sizeof(line), row, "");

            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "kv zone \"%V\": %s %s: %uL request%s, latency "
                          "%.3f ms avg, %.3f ms min, %.3f ms max, status %*s",
                          &zone->name, kv_method_names[method],
                          ngx_http_kv_paths[route],
                          (uint64_t) kv_get_relaxed(row->latency.count),
                          kv_get_relaxed(row->latency.count) == 1 ? "" : "s",
                          kv_measure_mean(&row->latency) / 1000,
                          (double) kv_measure_min(&row->latency) / 1000,
                          (double) kv_get_relaxed(row->latency.max) / 1000,
                          (size_t) (p - line), line);
        }
    }
}
