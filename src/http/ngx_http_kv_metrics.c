
/*
 * /metrics: the figures of all stores in Prometheus' text format, version
 * 0.0.4.
 *
 * The format wants all samples of a metric in one group, under its HELP and
 * TYPE.  So the stores' figures are all read first, and then each metric is
 * written for one store after the other.  A location of kv_metrics belongs to
 * no store, and no store counts its requests.
 *
 * Label values need no escapes: the configuration refuses a zone name with
 * other characters than letters, digits, "_", "-" and ".", and all others are
 * words of this module.
 */


#include "http/ngx_http_kv.h"


#define NGX_HTTP_KV_METRICS_TYPE  "text/plain; version=0.0.4; charset=utf-8"

/* bytes of a buffer, and of the longest line but for the zone's name */
#define NGX_HTTP_KV_METRICS_BUF   32768
#define NGX_HTTP_KV_METRICS_LINE  512

/* bytes of a number */
#define NGX_HTTP_KV_METRICS_VALUE  (NGX_INT64_LEN + sizeof(".000000"))


typedef struct {
    ngx_http_kv_zone_t        *zone;
    kv_figures_t               figures;
    ngx_http_kv_counts_t       counts;

    /* what is made of them */
    uint64_t                   size;
    uint64_t                   free_bytes;
} ngx_http_kv_sample_t;


typedef struct {
    ngx_pool_t                *pool;
    ngx_http_kv_sample_t      *sample;        /* of each store */
    ngx_uint_t                 n;
    size_t                     line;          /* bytes that one may take */
    ngx_chain_t               *out;
    ngx_chain_t              **last;
    ngx_buf_t                 *buf;
    unsigned                   failed:1;      /* no memory */
} ngx_http_kv_metrics_t;


/* Of a histogram; `route` and `method` may be NULL. */

typedef struct {
    const char                *name;
    ngx_str_t                 *zone;
    const char                *route;
    const char                *method;
} ngx_http_kv_labels_t;


/* A metric that is one number of ngx_http_kv_sample_t, in `per` of its unit. */

typedef struct {
    const char                *name;
    const char                *type;
    size_t                     where;
    uint64_t                   per;
    const char                *help;
} ngx_http_kv_metric_t;


static ngx_int_t ngx_http_kv_metrics_read(ngx_http_kv_metrics_t *m,
    ngx_http_kv_main_conf_t *kmcf);
static void ngx_http_kv_metrics_head(ngx_http_kv_metrics_t *m,
    const char *name, const char *type, const char *help);
static void ngx_http_kv_metrics_numbers(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_metric_t *metric, ngx_uint_t archives);
static void ngx_http_kv_metrics_number(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_metric_t *metric, ngx_http_kv_sample_t *sample);
static void ngx_http_kv_metrics_state(ngx_http_kv_metrics_t *m);
static void ngx_http_kv_metrics_incarnation(ngx_http_kv_metrics_t *m);
static void ngx_http_kv_metrics_fragmentation(ngx_http_kv_metrics_t *m);
static void ngx_http_kv_metrics_requests(ngx_http_kv_metrics_t *m);
static void ngx_http_kv_metrics_row(ngx_http_kv_metrics_t *m,
    ngx_http_kv_sample_t *sample, ngx_uint_t route, ngx_uint_t method);
static void ngx_http_kv_metrics_durations(ngx_http_kv_metrics_t *m);
static void ngx_http_kv_metrics_figure(ngx_http_kv_metrics_t *m,
    const char *name, const char *help, size_t where, uint64_t per);
static void ngx_http_kv_metrics_histogram(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_labels_t *labels, const uint64_t *upto, uint64_t first,
    uint64_t sum, uint64_t per);
static void ngx_http_kv_metrics_labels(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_labels_t *labels, const char *suffix);
static size_t ngx_http_kv_metrics_value(char *text, uint64_t value,
    uint64_t per);
static void ngx_http_kv_metrics_line(ngx_http_kv_metrics_t *m,
    const char *fmt, ...);


#define ngx_http_kv_counter(name, field, per, help)                           \
    { name, "counter", offsetof(ngx_http_kv_sample_t, field), per, help }

#define ngx_http_kv_gauge(name, field, per, help)                             \
    { name, "gauge", offsetof(ngx_http_kv_sample_t, field), per, help }


static const ngx_http_kv_metric_t  ngx_http_kv_metrics_list[] = {

    ngx_http_kv_gauge("keys", figures.keys, 1, "Keys in the store."),
    ngx_http_kv_gauge("data_bytes", figures.bytes, 1,
                      "Bytes of keys and values, and of their types."),
    ngx_http_kv_gauge("expiring_keys", figures.expiring, 1,
                      "Keys that have a time of expiry."),
    ngx_http_kv_counter("expired_keys_total", figures.expired, 1,
                        "Keys that were deleted because they had expired."),
    ngx_http_kv_gauge("waiting_reads", figures.waiting, 1,
                      "Reads that wait for a change."),
    ngx_http_kv_gauge("watches", figures.watching, 1,
                      "Streams of changes that clients read."),

    ngx_http_kv_counter("variable_hits_total", counts.reads.hits, 1,
                        "Reads of variables that found a value."),
    ngx_http_kv_counter("variable_misses_total", counts.reads.misses, 1,
                        "Reads of variables that found none."),
    ngx_http_kv_counter("variable_failures_total", counts.reads.failed, 1,
                        "Reads of variables while the store could not be "
                        "read."),

    ngx_http_kv_counter("counted_requests_total",
                        counts.counting[NGX_HTTP_KV_COUNTED], 1,
                        "Requests that kv_incr was to count."),
    ngx_http_kv_counter("counted_requests_refused_total",
                        counts.counting[NGX_HTTP_KV_COUNTED_REFUSED], 1,
                        "Of these, by a bad key or number, or to a value that "
                        "is no number."),
    ngx_http_kv_counter("counted_requests_dropped_total",
                        counts.counting[NGX_HTTP_KV_COUNTED_DROPPED], 1,
                        "Of these, lost before they were written."),

    ngx_http_kv_gauge("zone_size_bytes", size, 1,
                      "Size of the zone of shared memory."),
    ngx_http_kv_gauge("zone_used_bytes", figures.used, 1,
                      "Bytes of the zone in objects that are in use."),
    ngx_http_kv_gauge("zone_index_bytes", figures.index, 1,
                      "Of these, bytes in which the keys are kept in order."),
    ngx_http_kv_gauge("zone_held_bytes", figures.held, 1,
                      "Bytes of the zone in pages that hold objects."),
    ngx_http_kv_gauge("zone_free_bytes", free_bytes, 1,
                      "Bytes of the zone in pages that are free."),
    ngx_http_kv_counter("zone_refused_writes_total", figures.refused, 1,
                        "Writes that were refused because the zone was full."),

    ngx_http_kv_gauge("uploads_held_bytes", figures.uploads.bytes, 1,
                      "Bytes of the zone that unfinished uploads hold."),
    ngx_http_kv_gauge("uploads_limit_bytes", figures.uploads.limit, 1,
                      "The most that they may hold in a zone short of "
                      "memory."),
    ngx_http_kv_counter("uploads_evicted_total", figures.uploads.evicted, 1,
                        "Uploads that were ended to free memory."),
    ngx_http_kv_gauge("readers_held_bytes", figures.readers.bytes, 1,
                      "Bytes of the zone kept for slow readers of old "
                      "values."),
    ngx_http_kv_gauge("readers_limit_bytes", figures.readers.limit, 1,
                      "The most that may be kept for them in a zone short of "
                      "memory."),
    ngx_http_kv_counter("readers_evicted_total", figures.readers.evicted, 1,
                        "Slow readers that were ended to free memory."),

    ngx_http_kv_counter("commit_payload_bytes_total", figures.payload, 1,
                        "Bytes of keys and values put, and of their types."),
    ngx_http_kv_counter("memory_requests_total", figures.reserves, 1,
                        "Requests to the committer for memory in the zone."),
    ngx_http_kv_counter("moved_objects_total", figures.moved, 1,
                        "Objects moved to put free memory together."),

    ngx_http_kv_counter("log_bytes_total", figures.log_bytes, 1,
                        "Bytes of batches written to the log."),
    ngx_http_kv_counter("log_written_bytes_total", figures.log_written, 1,
                        "Bytes of the blocks that this took."),
    ngx_http_kv_gauge("log_segments", figures.log_segments, 1,
                      "Files of the log, spare ones not counted."),
    ngx_http_kv_gauge("log_next_lsn", figures.next_lsn, 1,
                      "The number of the next write."),
    ngx_http_kv_gauge("log_durable_lsn", figures.durable_lsn, 1,
                      "The number of the last write that is synced."),
    ngx_http_kv_gauge("log_unsynced_seconds", figures.unsynced_ms, 1000,
                      "Age of the oldest write in the log that is not "
                      "synced."),

    ngx_http_kv_gauge("disk_size_bytes", figures.disk_size, 1,
                      "Size of the file system of the store's directory; 0: "
                      "not known."),
    ngx_http_kv_gauge("disk_available_bytes", figures.disk_available, 1,
                      "What of it is left for the workers' user."),

    ngx_http_kv_counter("snapshots_total", figures.snapshots, 1,
                        "Snapshots that were completed."),
    ngx_http_kv_counter("snapshot_failures_total", figures.snapshots_failed, 1,
                        "Snapshots that failed."),
    ngx_http_kv_gauge("snapshot_lsn", figures.snapshot_lsn, 1,
                      "The LSN that the last snapshot is of."),
    ngx_http_kv_gauge("snapshot_size_bytes", figures.snapshot_bytes, 1,
                      "Size of the last snapshot."),
    ngx_http_kv_gauge("snapshot_duration_seconds", figures.snapshot_ms, 1000,
                      "How long the last snapshot took."),
    ngx_http_kv_gauge("snapshot_log_bytes", figures.snapshot_log_bytes, 1,
                      "Bytes logged since the last snapshot began."),
    ngx_http_kv_gauge("snapshot_timestamp_seconds", figures.snapshot_time_ms,
                      1000, "When the last snapshot was begun, since the "
                      "epoch; 0: there is none, or it does not say."),
    ngx_http_kv_gauge("snapshot_failure_timestamp_seconds",
                      figures.snapshot_failed_ms, 1000,
                      "When a snapshot failed last; 0: none did."),

    ngx_http_kv_gauge("backups_running", figures.backups_running, 1,
                      "Backups that are under way."),
    ngx_http_kv_counter("backups_total", figures.backups, 1,
                        "Backups that clients got as a whole."),
    ngx_http_kv_counter("backup_failures_total", figures.backups_failed, 1,
                        "Backups that ended before."),
    ngx_http_kv_gauge("backup_lsn", figures.backup_lsn, 1,
                      "The last LSN in the last whole one."),
    ngx_http_kv_gauge("backup_timestamp_seconds", figures.backup_time, 1000,
                      "When that was begun, since the epoch; 0: there was "
                      "none."),

    ngx_http_kv_gauge("recovery_duration_seconds", figures.recovery_ms, 1000,
                      "How long the last recovery took."),
    ngx_http_kv_gauge("recovery_snapshot_records", figures.recovered_snapshot,
                      1, "Records that it read of a snapshot."),
    ngx_http_kv_gauge("recovery_log_records", figures.recovered_log, 1,
                      "Records that it read of the log."),
    ngx_http_kv_gauge("recovery_timestamp_seconds", figures.recovered_ms, 1000,
                      "When it ended, since the epoch."),
    ngx_http_kv_counter("rebuilds_total", figures.rebuilds, 1,
                        "How often the zone was rebuilt from disk."),
    ngx_http_kv_counter("reloads_refused_total", figures.reloads_refused, 1,
                        "Configurations that the server did not take."),

    { NULL, NULL, 0, 0, NULL }
};


/* Of a store that has an archive. */

static const ngx_http_kv_metric_t  ngx_http_kv_metrics_archive[] = {

    ngx_http_kv_gauge("archive_lsn", figures.archive_lsn, 1,
                      "All up to this LSN was put into the archive, or lost "
                      "for it."),
    ngx_http_kv_gauge("archive_waiting_segments", figures.archive_waiting, 1,
                      "Full segments of the log that wait for the archive."),
    ngx_http_kv_counter("archive_files_total", figures.archive_files, 1,
                        "Files that were put into the archive."),
    ngx_http_kv_counter("archive_failures_total", figures.archive_failed, 1,
                        "Tries to put files there that failed."),
    ngx_http_kv_counter("archive_gaps_total", figures.archive_gaps, 1,
                        "Gaps that have arisen in the log there."),
    ngx_http_kv_counter("archive_deleted_files_total",
                        figures.archive_deleted, 1,
                        "Files that were deleted there as too old."),
    ngx_http_kv_gauge("archive_disk_size_bytes", figures.archive_disk_size, 1,
                      "Size of the archive's file system; 0: not known."),
    ngx_http_kv_gauge("archive_disk_available_bytes",
                      figures.archive_disk_available, 1,
                      "What of it is left for the workers' user."),

    { NULL, NULL, 0, 0, NULL }
};


ngx_int_t
ngx_http_kv_metrics_handler(ngx_http_request_t *r)
{
    ngx_http_kv_metrics_t     m;
    ngx_http_kv_main_conf_t  *kmcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_kv_reply_allow(r, "GET, HEAD");
    }

    if (r->args.len) {
        return ngx_http_kv_reply(r, NGX_HTTP_BAD_REQUEST,
                                 "metrics take no arguments\n");
    }

    r->disable_not_modified = 1;

    ngx_memzero(&m, sizeof(ngx_http_kv_metrics_t));
    m.pool = r->pool;
    m.last = &m.out;

    kmcf = ngx_http_get_module_main_conf(r, ngx_http_kv_module);

    if (ngx_http_kv_metrics_read(&m, kmcf) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_kv_metrics_state(&m);
    ngx_http_kv_metrics_requests(&m);
    ngx_http_kv_metrics_durations(&m);

    ngx_http_kv_metrics_figure(&m, "commit_wait_seconds", "Time from queueing "
                               "a write to its result.",
                               offsetof(ngx_http_kv_sample_t, figures.wait),
                               1000000);
    ngx_http_kv_metrics_figure(&m, "log_sync_duration_seconds", "Time of a "
                               "sync of the log.",
                               offsetof(ngx_http_kv_sample_t, figures.sync),
                               1000000);
    ngx_http_kv_metrics_figure(&m, "commit_batch_operations", "Writes in a "
                               "batch that went to the log.",
                               offsetof(ngx_http_kv_sample_t, figures.batch),
                               1);

    ngx_http_kv_metrics_numbers(&m, ngx_http_kv_metrics_list, 0);
    ngx_http_kv_metrics_numbers(&m, ngx_http_kv_metrics_archive, 1);
    ngx_http_kv_metrics_fragmentation(&m);
    ngx_http_kv_metrics_incarnation(&m);

    return m.failed ? NGX_HTTP_INTERNAL_SERVER_ERROR
                    : ngx_http_kv_reply_chain(r, NGX_HTTP_KV_METRICS_TYPE,
                                              m.out);
}


/* Reads the figures of all stores. */

static ngx_int_t
ngx_http_kv_metrics_read(ngx_http_kv_metrics_t *m,
    ngx_http_kv_main_conf_t *kmcf)
{
    ngx_uint_t             i;
    ngx_http_kv_zone_t   **zone;
    ngx_http_kv_sample_t  *sample;

    zone = kmcf->zones.elts;
    m->n = kmcf->zones.nelts;

    m->sample = ngx_palloc(m->pool, m->n * sizeof(ngx_http_kv_sample_t));
    if (m->sample == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < m->n; i++) {
        sample = &m->sample[i];

        sample->zone = zone[i];
        ngx_http_kv_ask_disk_space(zone[i]);
        kv_store_figures(zone[i]->store, &sample->figures);
        ngx_http_kv_counts_sum(zone[i]->store, &sample->counts);

        sample->size = ngx_http_kv_zone_size(zone[i]);
        sample->free_bytes = sample->figures.free_pages * KV_PAGE_SIZE;

        m->line = ngx_max(m->line, zone[i]->name.len);
    }

    m->line += NGX_HTTP_KV_METRICS_LINE;

    return NGX_OK;
}


static void
ngx_http_kv_metrics_head(ngx_http_kv_metrics_t *m, const char *name,
    const char *type, const char *help)
{
    ngx_http_kv_metrics_line(m, "# HELP nginx_kv_%s %s\n"
                             "# TYPE nginx_kv_%s %s\n", name, help, name,
                             type);
}


/* Metrics of all stores; with `archives`, of those that have one. */

static void
ngx_http_kv_metrics_numbers(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_metric_t *metric, ngx_uint_t archives)
{
    ngx_uint_t  i, n;

    for ( /* void */ ; metric->name; metric++) {

        for (i = 0, n = 0; i < m->n; i++) {

            if (archives && !m->sample[i].figures.archives) {
                continue;
            }

            if (n++ == 0) {
                ngx_http_kv_metrics_head(m, metric->name, metric->type,
                                         metric->help);
            }

            ngx_http_kv_metrics_number(m, metric, &m->sample[i]);
        }
    }
}


static void
ngx_http_kv_metrics_number(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_metric_t *metric, ngx_http_kv_sample_t *sample)
{
    char      text[NGX_HTTP_KV_METRICS_VALUE];
    size_t    len;
    uint64_t  value;

    value = *(uint64_t *) ((u_char *) sample + metric->where);
    len = ngx_http_kv_metrics_value(text, value, metric->per);

    ngx_http_kv_metrics_line(m, "nginx_kv_%s{zone=\"%V\"} %*s\n",
                             metric->name, &sample->zone->name, len, text);
}


static void
ngx_http_kv_metrics_state(ngx_http_kv_metrics_t *m)
{
    ngx_uint_t             i, k;
    const char            *name;
    ngx_http_kv_sample_t  *sample;

    ngx_http_kv_metrics_head(m, "state", "gauge", "1 for the state that the "
                             "store is in, 0 for the others.");

    for (i = 0; i < m->n; i++) {
        sample = &m->sample[i];

        for (k = 0; (name = kv_store_state_name(k)) != NULL; k++) {
            ngx_http_kv_metrics_line(m, "nginx_kv_state{zone=\"%V\","
                                     "state=\"%s\"} %d\n", &sample->zone->name,
                                     name, ngx_strcmp(sample->figures.state,
                                                      name)
                                           == 0);
        }
    }
}


static void
ngx_http_kv_metrics_incarnation(ngx_http_kv_metrics_t *m)
{
    ngx_uint_t  i;

    ngx_http_kv_metrics_head(m, "log_incarnation_info", "gauge", "Another "
                             "incarnation says that LSNs may have been given "
                             "out anew.");

    for (i = 0; i < m->n; i++) {
        ngx_http_kv_metrics_line(m, "nginx_kv_log_incarnation_info{"
                                 "zone=\"%V\",incarnation=\"%016xL\"} 1\n",
                                 &m->sample[i].zone->name,
                                 m->sample[i].figures.incarnation);
    }
}


static void
ngx_http_kv_metrics_fragmentation(ngx_http_kv_metrics_t *m)
{
    ngx_uint_t  i;

    ngx_http_kv_metrics_head(m, "zone_fragmentation_ratio", "gauge", "Which "
                             "part of the pages that hold objects is not in "
                             "use.");

    for (i = 0; i < m->n; i++) {
        ngx_http_kv_metrics_line(m, "nginx_kv_zone_fragmentation_ratio{"
                                 "zone=\"%V\"} %.6f\n",
                                 &m->sample[i].zone->name,
                                 m->sample[i].figures.fragmentation);
    }
}


static void
ngx_http_kv_metrics_requests(ngx_http_kv_metrics_t *m)
{
    ngx_uint_t  i, route, method;

    ngx_http_kv_metrics_head(m, "requests_total", "counter",
                             "Requests that were finished.");

    for (i = 0; i < m->n; i++) {
        for (route = 0; route < NGX_HTTP_KV_ROUTES; route++) {
            for (method = 0; method < NGX_HTTP_KV_METHODS; method++) {
                ngx_http_kv_metrics_row(m, &m->sample[i], route, method);
            }
        }
    }
}


/* Those of a route and a method, by status. */

static void
ngx_http_kv_metrics_row(ngx_http_kv_metrics_t *m, ngx_http_kv_sample_t *sample,
    ngx_uint_t route, ngx_uint_t method)
{
    uint64_t            count;
    ngx_uint_t          i;
    ngx_http_kv_row_t  *row;

    row = &sample->counts.row[route][method];

    for (i = 0; i <= NGX_HTTP_KV_STATUSES; i++) {
        count = kv_get_relaxed(row->status[i]);

        if (count == 0) {
            continue;
        }

        ngx_http_kv_metrics_line(m, "nginx_kv_requests_total{zone=\"%V\","
                                 "route=\"%s\",method=\"%s\",code=\"",
                                 &sample->zone->name,
                                 ngx_http_kv_route_names[route],
                                 ngx_http_kv_method_names[method]);

        if (i < NGX_HTTP_KV_STATUSES) {
            ngx_http_kv_metrics_line(m, "%ui\"} %uL\n",
                                     (ngx_uint_t) ngx_http_kv_statuses[i],
                                     count);

        } else {
            ngx_http_kv_metrics_line(m, "other\"} %uL\n", count);
        }
    }
}


/* The histograms of requests, where the route takes the method. */

static void
ngx_http_kv_metrics_durations(ngx_http_kv_metrics_t *m)
{
    uint64_t               upto[KV_HISTOGRAM_BOUNDS + 1];
    ngx_uint_t             i, route, method;
    ngx_http_kv_row_t     *row;
    ngx_http_kv_labels_t   labels;

    labels.name = "request_duration_seconds";
    ngx_http_kv_metrics_head(m, labels.name, "histogram", "Time of requests, "
                             "without their header, and waiting for a change.");

    for (i = 0; i < m->n; i++) {
        labels.zone = &m->sample[i].zone->name;

        for (route = 0; route < NGX_HTTP_KV_ROUTES; route++) {
            labels.route = ngx_http_kv_route_names[route];

            for (method = 0; method < NGX_HTTP_KV_METHODS; method++) {
                labels.method = ngx_http_kv_method_names[method];
                row = &m->sample[i].counts.row[route][method];

                if (kv_get_relaxed(row->latency.measure.count) == 0
                    || !ngx_http_kv_counts_timed(route, method))
                {
                    continue;
                }

                kv_histogram_upto(&row->latency, upto);
                ngx_http_kv_metrics_histogram(m, &labels, upto,
                              NGX_HTTP_KV_FIRST_US,
                              kv_get_relaxed(row->latency.measure.sum),
                              1000000);
            }
        }
    }
}


/* A histogram of each store: the kv_figure_t at `where` in its sample. */

static void
ngx_http_kv_metrics_figure(ngx_http_kv_metrics_t *m, const char *name,
    const char *help, size_t where, uint64_t per)
{
    ngx_uint_t             i;
    kv_figure_t           *f;
    ngx_http_kv_labels_t   labels;

    ngx_http_kv_metrics_head(m, name, "histogram", help);

    ngx_memzero(&labels, sizeof(ngx_http_kv_labels_t));
    labels.name = name;

    for (i = 0; i < m->n; i++) {
        labels.zone = &m->sample[i].zone->name;
        f = (kv_figure_t *) ((u_char *) &m->sample[i] + where);

        ngx_http_kv_metrics_histogram(m, &labels, f->upto, f->first, f->sum,
                                      per);
    }
}


/*
 * Sum and count are those of the buckets, so that a reader sees them agree,
 * but the sum may be ahead by what is just being counted.
 */

static void
ngx_http_kv_metrics_histogram(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_labels_t *labels, const uint64_t *upto, uint64_t first,
    uint64_t sum, uint64_t per)
{
    char        text[NGX_HTTP_KV_METRICS_VALUE];
    size_t      len;
    ngx_uint_t  i;

    for (i = 0; i < KV_HISTOGRAM_BOUNDS; i++) {
        len = ngx_http_kv_metrics_value(text, first << i, per);

        ngx_http_kv_metrics_labels(m, labels, "_bucket");
        ngx_http_kv_metrics_line(m, ",le=\"%*s\"} %uL\n", len, text, upto[i]);
    }

    ngx_http_kv_metrics_labels(m, labels, "_bucket");
    ngx_http_kv_metrics_line(m, ",le=\"+Inf\"} %uL\n", upto[i]);

    len = ngx_http_kv_metrics_value(text, sum, per);

    ngx_http_kv_metrics_labels(m, labels, "_sum");
    ngx_http_kv_metrics_line(m, "} %*s\n", len, text);

    ngx_http_kv_metrics_labels(m, labels, "_count");
    ngx_http_kv_metrics_line(m, "} %uL\n", upto[i]);
}


/* The beginning of a line, up to the last label that all lines have. */

static void
ngx_http_kv_metrics_labels(ngx_http_kv_metrics_t *m,
    const ngx_http_kv_labels_t *labels, const char *suffix)
{
    ngx_http_kv_metrics_line(m, "nginx_kv_%s%s{zone=\"%V\"", labels->name,
                             suffix, labels->zone);

    if (labels->route) {
        ngx_http_kv_metrics_line(m, ",route=\"%s\",method=\"%s\"",
                                 labels->route, labels->method);
    }
}


/*
 * Writes a value, given in parts of its unit (1, 1,000 or 1,000,000 make one),
 * without zeroes behind the last digit.  Its length.
 */

static size_t
ngx_http_kv_metrics_value(char *text, uint64_t value, uint64_t per)
{
    u_char  *p;

    p = (u_char *) text;

    switch (per) {

    case 1:
        return ngx_sprintf(p, "%uL", value) - p;

    case 1000:
        p = ngx_sprintf(p, "%uL.%03uL", value / per, value % per);
        break;

    default:
        p = ngx_sprintf(p, "%uL.%06uL", value / per, value % per);
    }

    while (p[-1] == '0') {
        p--;
    }

    if (p[-1] == '.') {
        p--;
    }

    return p - (u_char *) text;
}


/* Adds text, which is at most m->line bytes, to the answer. */

static void
ngx_http_kv_metrics_line(ngx_http_kv_metrics_t *m, const char *fmt, ...)
{
    va_list       args;
    ngx_chain_t  *cl;

    if (m->failed) {
        return;
    }

    if (m->buf == NULL || (size_t) (m->buf->end - m->buf->last) < m->line) {

        cl = ngx_alloc_chain_link(m->pool);
        m->buf = ngx_create_temp_buf(m->pool, ngx_max(m->line,
                                                  NGX_HTTP_KV_METRICS_BUF));

        if (cl == NULL || m->buf == NULL) {
            m->failed = 1;
            return;
        }

        cl->buf = m->buf;
        cl->next = NULL;
        *m->last = cl;
        m->last = &cl->next;
    }

    va_start(args, fmt);
    m->buf->last = ngx_vslprintf(m->buf->last, m->buf->end, fmt, args);
    va_end(args);
}
