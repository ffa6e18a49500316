
/*
 * /stats, and the same per-route figures in the log when the server stops.
 */


#include "http/ngx_http_kv.h"


/* more than all routes, methods and statuses can fill */
#define NGX_HTTP_KV_STATS_SIZE  65536


static const char *const  ngx_http_kv_paths[NGX_HTTP_KV_ROUTES] = {
    "/kv/{key}", "/clear", "/health", "/stats", "/bulk", "/keys",
    "/batch", "/backup", "/watch"
};


static u_char *ngx_http_kv_stats_route(u_char *p, u_char *end,
    ngx_http_kv_counts_t *stats, ngx_uint_t route);
static u_char *ngx_http_kv_stats_row(u_char *p, u_char *end,
    ngx_http_kv_row_t *row, ngx_uint_t timed);
static u_char *ngx_http_kv_stats_histogram(u_char *p, u_char *end,
    const uint64_t *upto, uint64_t first, uint64_t sum);
static u_char *ngx_http_kv_stats_figure(u_char *p, u_char *end,
    const kv_figure_t *f);
static u_char *ngx_http_kv_stats_status(u_char *p, u_char *end,
    ngx_http_kv_row_t *row, const char *quote);
static u_char *ngx_http_kv_stats_held(u_char *p, u_char *end,
    const kv_figures_held_t *held, const char *name);
static u_char *ngx_http_kv_stats_store(u_char *p, u_char *end,
    ngx_http_kv_zone_t *zone);
static u_char *ngx_http_kv_stats_commit(u_char *p, u_char *end,
    const kv_figures_t *f);
static u_char *ngx_http_kv_stats_archive(u_char *p, u_char *end,
    const kv_figures_t *f);
static u_char *ngx_http_kv_stats_disk(u_char *p, u_char *end, uint64_t size,
    uint64_t available);


ngx_buf_t *
ngx_http_kv_stats_json(ngx_pool_t *pool, ngx_http_kv_zone_t *zone)
{
    u_char                *p, *end;
    ngx_buf_t             *b;
    ngx_uint_t             i;
    ngx_http_kv_counts_t   stats;

    b = ngx_create_temp_buf(pool, NGX_HTTP_KV_STATS_SIZE);
    if (b == NULL) {
        return NULL;
    }

    ngx_http_kv_counts_sum(zone->store, &stats);

    p = b->last;
    end = b->end;

    p = ngx_slprintf(p, end, "{\"zone\":\"%V\",\"routes\":{", &zone->name);

    for (i = 0; i < NGX_HTTP_KV_ROUTES; i++) {
        p = ngx_slprintf(p, end, "%s\"%s\":", i ? "," : "",
                         ngx_http_kv_route_names[i]);
        p = ngx_http_kv_stats_route(p, end, &stats, i);
    }

    p = ngx_slprintf(p, end, "},\"variables\":{\"hits\":%uL,"
                     "\"misses\":%uL,\"failed\":%uL},",
                     (uint64_t) kv_get_relaxed(stats.reads.hits),
                     (uint64_t) kv_get_relaxed(stats.reads.misses),
                     (uint64_t) kv_get_relaxed(stats.reads.failed));

    p = ngx_slprintf(p, end, "\"counting\":{\"requests\":%uL,"
                     "\"refused\":%uL,\"dropped\":%uL},\"store\":",
                     stats.counting[NGX_HTTP_KV_COUNTED],
                     stats.counting[NGX_HTTP_KV_COUNTED_REFUSED],
                     stats.counting[NGX_HTTP_KV_COUNTED_DROPPED]);
    p = ngx_http_kv_stats_store(p, end, zone);
    p = ngx_slprintf(p, end, "}\n");

    b->last = p;

    return b;
}


static u_char *
ngx_http_kv_stats_route(u_char *p, u_char *end, ngx_http_kv_counts_t *stats,
    ngx_uint_t route)
{
    ngx_uint_t          i, n;
    ngx_http_kv_row_t  *row;

    p = ngx_slprintf(p, end, "{");

    for (i = 0, n = 0; i < NGX_HTTP_KV_METHODS; i++) {
        row = &stats->row[route][i];

        if (kv_get_relaxed(row->latency.measure.count) == 0) {
            continue;
        }

        p = ngx_slprintf(p, end, "%s\"%s\":", n++ ? "," : "",
                         ngx_http_kv_method_names[i]);
        p = ngx_http_kv_stats_row(p, end, row,
                                  ngx_http_kv_counts_timed(route, i));
    }

    return ngx_slprintf(p, end, "}");
}


static u_char *
ngx_http_kv_stats_row(u_char *p, u_char *end, ngx_http_kv_row_t *row,
    ngx_uint_t timed)
{
    uint64_t             upto[KV_HISTOGRAM_BOUNDS + 1];
    const kv_measure_t  *m;

    m = &row->latency.measure;

    p = ngx_slprintf(p, end, "{\"requests\":%uL,\"latency_us\":{\"avg\":%.1f,"
                     "\"min\":%uL,\"max\":%uL},",
                     (uint64_t) kv_get_relaxed(m->count), kv_measure_mean(m),
                     kv_measure_min(m), (uint64_t) kv_get_relaxed(m->max));

    if (timed) {
        kv_histogram_upto(&row->latency, upto);
        p = ngx_http_kv_stats_histogram(p, end, upto, NGX_HTTP_KV_FIRST_US,
                                        kv_get_relaxed(m->sum));
        p = ngx_slprintf(p, end, ",");
    }

    p = ngx_slprintf(p, end, "\"status\":{");
    p = ngx_http_kv_stats_status(p, end, row, "\"");

    return ngx_slprintf(p, end, "}}");
}


/* The bounds, and how many values are not above each; at the end, all. */

static u_char *
ngx_http_kv_stats_histogram(u_char *p, u_char *end, const uint64_t *upto,
    uint64_t first, uint64_t sum)
{
    ngx_uint_t  i;

    p = ngx_slprintf(p, end, "\"histogram\":{\"le\":[");

    for (i = 0; i < KV_HISTOGRAM_BOUNDS; i++) {
        p = ngx_slprintf(p, end, "%s%uL", i ? "," : "", first << i);
    }

    p = ngx_slprintf(p, end, "],\"count\":[");

    for (i = 0; i <= KV_HISTOGRAM_BOUNDS; i++) {
        p = ngx_slprintf(p, end, "%s%uL", i ? "," : "", upto[i]);
    }

    return ngx_slprintf(p, end, "],\"sum\":%uL,\"total\":%uL}", sum,
                        upto[KV_HISTOGRAM_BOUNDS]);
}


static u_char *
ngx_http_kv_stats_figure(u_char *p, u_char *end, const kv_figure_t *f)
{
    p = ngx_slprintf(p, end, "\"avg\":%.1f,\"min\":%uL,\"max\":%uL,", f->mean,
                     f->min, f->max);

    return ngx_http_kv_stats_histogram(p, end, f->upto, f->first, f->sum);
}


static u_char *
ngx_http_kv_stats_status(u_char *p, u_char *end, ngx_http_kv_row_t *row,
    const char *quote)
{
    uint64_t     count;
    ngx_uint_t   i, n;
    const char  *sep;

    sep = *quote ? "," : ", ";

    for (i = 0, n = 0; i <= NGX_HTTP_KV_STATUSES; i++) {
        count = kv_get_relaxed(row->status[i]);

        if (count == 0) {
            continue;
        }

        p = ngx_slprintf(p, end, "%s%s", n++ ? sep : "", quote);

        if (i < NGX_HTTP_KV_STATUSES) {
            p = ngx_slprintf(p, end, "%ui",
                             (ngx_uint_t) ngx_http_kv_statuses[i]);

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
    ngx_time_t    *now;
    kv_figures_t   f;

    kv_store_figures(zone->store, &f);

    now = ngx_timeofday();

    p = ngx_slprintf(p, end, "{\"time\":%T.%03ui,\"state\":\"%s\","
                     "\"keys\":%uL,\"bytes\":%uL,"
                     "\"expiring\":%uL,\"expired\":%uL,\"waiting\":%uL,"
                     "\"watching\":%uL,\"feed\":{\"size\":%uL,"
                     "\"after_lsn\":%uL},",
                     now->sec, now->msec, f.state, f.keys, f.bytes,
                     f.expiring, f.expired, f.waiting, f.watching, f.feed_size,
                     f.feed_after);

    p = ngx_slprintf(p, end, "\"zone\":{\"size\":%uL,\"used\":%uL,"
                     "\"index\":%uL,\"held\":%uL,\"free_pages\":%uL,"
                     "\"fragmentation\":%.6f,\"refused\":%uL},",
                     (uint64_t) ngx_http_kv_zone_size(zone), f.used, f.index,
                     f.held, f.free_pages, f.fragmentation, f.refused);

    p = ngx_http_kv_stats_held(p, end, &f.uploads, "uploads");
    p = ngx_http_kv_stats_held(p, end, &f.readers, "readers");

    p = ngx_http_kv_stats_commit(p, end, &f);

    p = ngx_slprintf(p, end, "\"log\":{\"bytes\":%uL,\"written\":%uL,"
                     "\"segments\":%uL,\"next_lsn\":%uL,"
                     "\"durable_lsn\":%uL,\"incarnation\":\"%016xL\","
                     "\"unsynced_ms\":%uL},",
                     f.log_bytes, f.log_written, f.log_segments, f.next_lsn,
                     f.durable_lsn, f.incarnation, f.unsynced_ms);

    p = ngx_http_kv_stats_disk(p, end, f.disk_size, f.disk_available);
    p = ngx_slprintf(p, end, ",");

    p = ngx_slprintf(p, end, "\"snapshots\":{\"completed\":%uL,"
                     "\"failed\":%uL,\"last_lsn\":%uL,\"last_bytes\":%uL,"
                     "\"last_ms\":%uL,\"log_bytes\":%uL,"
                     "\"last_success\":%uL.%03uL,"
                     "\"last_failure\":%uL.%03uL},",
                     f.snapshots, f.snapshots_failed, f.snapshot_lsn,
                     f.snapshot_bytes, f.snapshot_ms, f.snapshot_log_bytes,
                     f.snapshot_time_ms / 1000, f.snapshot_time_ms % 1000,
                     f.snapshot_failed_ms / 1000, f.snapshot_failed_ms % 1000);

    p = ngx_slprintf(p, end, "\"backups\":{\"running\":%uL,"
                     "\"completed\":%uL,\"failed\":%uL,\"last_lsn\":%uL,"
                     "\"last_time\":%uL},",
                     f.backups_running, f.backups, f.backups_failed,
                     f.backup_lsn, f.backup_time / 1000);

    if (f.archives) {
        p = ngx_http_kv_stats_archive(p, end, &f);
    }

    return ngx_slprintf(p, end, "\"recovery\":{\"ms\":%uL,"
                        "\"snapshot_records\":%uL,\"log_records\":%uL,"
                        "\"last\":%uL.%03uL,\"rebuilds\":%uL},"
                        "\"reloads\":{\"refused\":%uL}}",
                        f.recovery_ms, f.recovered_snapshot, f.recovered_log,
                        f.recovered_ms / 1000, f.recovered_ms % 1000,
                        f.rebuilds, f.reloads_refused);
}


static u_char *
ngx_http_kv_stats_commit(u_char *p, u_char *end, const kv_figures_t *f)
{
    p = ngx_slprintf(p, end, "\"commit\":{\"batches\":%uL,\"operations\":%uL,"
                     "\"operations_per_batch\":%.2f,\"payload_bytes\":%uL,"
                     "\"moved\":%uL,\"reserves\":%uL,\"batch\":{",
                     f->batch.count, f->batch.sum, f->batch.mean, f->payload,
                     f->moved, f->reserves);
    p = ngx_http_kv_stats_figure(p, end, &f->batch);

    p = ngx_slprintf(p, end, "},\"wait_us\":{");
    p = ngx_http_kv_stats_figure(p, end, &f->wait);

    p = ngx_slprintf(p, end, "},\"sync_us\":{\"count\":%uL,", f->sync.count);
    p = ngx_http_kv_stats_figure(p, end, &f->sync);

    return ngx_slprintf(p, end, "}},");
}


static u_char *
ngx_http_kv_stats_archive(u_char *p, u_char *end, const kv_figures_t *f)
{
    p = ngx_slprintf(p, end, "\"archive\":{\"lsn\":%uL,\"waiting\":%uL,"
                     "\"files\":%uL,\"failed\":%uL,\"gaps\":%uL,"
                     "\"deleted\":%uL,",
                     f->archive_lsn, f->archive_waiting, f->archive_files,
                     f->archive_failed, f->archive_gaps, f->archive_deleted);
    p = ngx_http_kv_stats_disk(p, end, f->archive_disk_size,
                               f->archive_disk_available);

    return ngx_slprintf(p, end, "},");
}


static u_char *
ngx_http_kv_stats_disk(u_char *p, u_char *end, uint64_t size,
    uint64_t available)
{
    return ngx_slprintf(p, end, "\"disk\":{\"size\":%uL,\"available\":%uL}",
                        size, available);
}


/* Memory that clients hold, for as long as they like. */

static u_char *
ngx_http_kv_stats_held(u_char *p, u_char *end, const kv_figures_held_t *held,
    const char *name)
{
    return ngx_slprintf(p, end, "\"%s\":{\"bytes\":%uL,\"limit\":%uL,"
                        "\"evicted\":%uL},", name, held->bytes, held->limit,
                        held->evicted);
}


void
ngx_http_kv_stats_count(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx)
{
    uint64_t              end;
    ngx_http_kv_method_t  method;

    if (ctx->counted
        || (ngx_exiting && ngx_http_kv_entered(ctx->zone) != NGX_OK)
        || !kv_store_entered(ctx->zone->store))
    {
        return;
    }

    ctx->counted = 1;

    switch (r->method) {

    case NGX_HTTP_GET:
        method = NGX_HTTP_KV_METHOD_GET;
        break;

    case NGX_HTTP_HEAD:
        method = NGX_HTTP_KV_METHOD_HEAD;
        break;

    case NGX_HTTP_PUT:
        method = NGX_HTTP_KV_METHOD_PUT;
        break;

    case NGX_HTTP_POST:
        method = NGX_HTTP_KV_METHOD_POST;
        break;

    case NGX_HTTP_DELETE:
        method = NGX_HTTP_KV_METHOD_DELETE;
        break;

    default:
        method = NGX_HTTP_KV_METHOD_OTHER;
    }

    end = ctx->answered ? ctx->answered : kv_now_ns();

    ngx_http_kv_counts_add(ctx->zone->store, ctx->route, method,
                           (unsigned) ngx_http_kv_status(r),
                           (end - ctx->started) / 1000);
}


ngx_uint_t
ngx_http_kv_status(ngx_http_request_t *r)
{
    ngx_uint_t  status;

    status = r->err_status ? r->err_status : r->headers_out.status;

    /* gone before an answer, as nginx's own log calls it */

    return status ? status : NGX_HTTP_CLIENT_CLOSED_REQUEST;
}


void
ngx_http_kv_stats_log(ngx_http_kv_zone_t *zone, ngx_log_t *log)
{
    u_char                 line[1024], *p;
    ngx_uint_t             route, method;
    ngx_http_kv_row_t     *row;
    const kv_measure_t    *m;
    ngx_http_kv_counts_t   stats;

    ngx_http_kv_counts_sum(zone->store, &stats);

    for (route = 0; route < NGX_HTTP_KV_ROUTES; route++) {

        for (method = 0; method < NGX_HTTP_KV_METHODS; method++) {
            row = &stats.row[route][method];
            m = &row->latency.measure;

            if (kv_get_relaxed(m->count) == 0) {
                continue;
            }

            p = ngx_http_kv_stats_status(line, line + sizeof(line), row, "");

            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "kv zone \"%V\": %s %s: %uL request%s, latency "
                          "%.3f ms avg, %.3f ms min, %.3f ms max, status %*s",
                          &zone->name, ngx_http_kv_method_names[method],
                          ngx_http_kv_paths[route],
                          (uint64_t) kv_get_relaxed(m->count),
                          kv_get_relaxed(m->count) == 1 ? "" : "s",
                          kv_measure_mean(m) / 1000,
                          (double) kv_measure_min(m) / 1000,
                          (double) kv_get_relaxed(m->max) / 1000,
                          (size_t) (p - line), line);
        }
    }
}
