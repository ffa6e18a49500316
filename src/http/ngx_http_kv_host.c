
/*
 * The helper process that commits for zones with cluster=.
 *
 * nginx starts a process, its "cache manager process", for whoever has a path
 * with a manager, and starts it again if it dies.  Beside the directories of
 * proxy_cache and the like, whose files it deletes in its event loop, it gets
 * ours, which is none: it is added behind the place where nginx makes missing
 * directories and gives them to the workers' user.  So neither a start nor
 * `nginx -t` touches any for it.
 *
 * The manager is called first when the process begins, and there only: in the
 * cache loader, which is a helper of nginx as well, it is not.  It starts a
 * thread for each zone, where kv_store_host() runs.  So a slow deletion holds
 * up no write, and no write a deletion.
 *
 * nginx ends the process by exit(), also at a reload, and calls none of our
 * hooks.  So what is to be done then is a handler of exit() itself: the process
 * stays until another goes on in its place, or until the workers, who need it
 * for the writes that they have accepted, are gone.  Where its master is dead,
 * nginx ends it never: it ends itself, when the workers are gone.
 */


#include "http/ngx_http_kv.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>


/* how often an ending process looks whether it is needed, milliseconds */
#define NGX_HTTP_KV_HOST_LOOK   10

/* how soon to try again what the system refused, milliseconds */
#define NGX_HTTP_KV_HOST_AGAIN  200

/* how long writes wait for a host, milliseconds */
#define NGX_HTTP_KV_HOST_MISSED  5000

/* how often it looks whether its master lives, milliseconds */
#define NGX_HTTP_KV_HOST_IDLE   1000


static ngx_msec_t ngx_http_kv_host_manager(void *data);
static ngx_int_t ngx_http_kv_host_start(ngx_http_kv_main_conf_t *kmcf,
    ngx_http_kv_zone_t *zone);
static void *ngx_http_kv_host_thread(void *data);
static void ngx_http_kv_host_exit(void);
static ngx_uint_t ngx_http_kv_hosts_needed(ngx_http_kv_zone_t **zone,
    ngx_uint_t n, ngx_uint_t waited);
static void ngx_http_kv_host_join(ngx_http_kv_zone_t *zone, time_t end);
static void ngx_http_kv_host_refuse(ngx_http_kv_ctx_t *ctx);


/* what this process has started; for the handler of exit() */
static ngx_http_kv_main_conf_t  *ngx_http_kv_hosting;


ngx_int_t
ngx_http_kv_host_init(ngx_cycle_t *cycle, ngx_http_kv_main_conf_t *kmcf)
{
    ngx_uint_t            i, hosted;
    ngx_path_t           *path, **p, **first;
    ngx_http_kv_zone_t  **zone;

    zone = kmcf->zones.elts;
    hosted = 0;

    for (i = 0; i < kmcf->zones.nelts; i++) {
        hosted |= zone[i]->conf.hosted;
    }

    if (!hosted) {
        return NGX_OK;
    }

    path = ngx_pcalloc(cycle->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&path->name, "kv_zone");
    path->manager = ngx_http_kv_host_manager;
    path->data = kmcf;

    p = ngx_array_push(&cycle->paths);
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* before all others, whose managers may take their time */

    first = cycle->paths.elts;
    ngx_memmove(first + 1, first, (u_char *) p - (u_char *) first);
    *first = path;

    return NGX_OK;
}


static ngx_msec_t
ngx_http_kv_host_manager(void *data)
{
    ngx_http_kv_main_conf_t *kmcf = data;

    ngx_uint_t            i;
    ngx_msec_t            next;
    ngx_http_kv_zone_t  **zone;

    if (ngx_http_kv_hosting == NULL) {

        if (atexit(ngx_http_kv_host_exit) != 0) {
            return NGX_HTTP_KV_HOST_AGAIN;
        }

        ngx_http_kv_hosting = kmcf;
    }

    zone = kmcf->zones.elts;
    next = NGX_HTTP_KV_HOST_IDLE;

    for (i = 0; i < kmcf->zones.nelts; i++) {

        if (zone[i]->conf.hosted && !zone[i]->hosts
            && ngx_http_kv_host_start(kmcf, zone[i]) != NGX_OK)
        {
            next = NGX_HTTP_KV_HOST_AGAIN;
        }
    }

    if (getppid() != ngx_parent
        && !ngx_http_kv_hosts_needed(zone, kmcf->zones.nelts, 0))
    {
        ngx_quit = 1;
    }

    return next;
}


/* Starts a thread that hosts the zone, and takes no signals from nginx. */

static ngx_int_t
ngx_http_kv_host_start(ngx_http_kv_main_conf_t *kmcf, ngx_http_kv_zone_t *zone)
{
    int       rc;
    sigset_t  all, saved;

    zone->log = zone->cycle->log;

    kv_store_wakes(zone->store, kmcf->wakes.fds, kmcf->wakes.n, kmcf->wakes.n);

    (void) sigfillset(&all);
    (void) sigdelset(&all, SIGILL);
    (void) sigdelset(&all, SIGFPE);
    (void) sigdelset(&all, SIGSEGV);
    (void) sigdelset(&all, SIGBUS);
    (void) pthread_sigmask(SIG_BLOCK, &all, &saved);

    rc = pthread_create(&zone->host, NULL, ngx_http_kv_host_thread, zone);

    (void) pthread_sigmask(SIG_SETMASK, &saved, NULL);

    if (rc != 0) {

        if (ngx_http_kv_may_log(zone, NGX_HTTP_KV_LOG_HOST)) {
            ngx_log_error(NGX_LOG_ALERT, zone->log, rc,
                          "kv zone \"%V\": no thread that writes the log can "
                          "be made, which is tried again: until then writes "
                          "wait, and get 503 after 5 seconds", &zone->name);
        }

        return NGX_ERROR;
    }

    zone->hosts = 1;

    return NGX_OK;
}


static void *
ngx_http_kv_host_thread(void *data)
{
    ngx_http_kv_zone_t *zone = data;

    kv_store_host(zone->store);

    return NULL;
}


/*
 * At a quit the workers may have requests for as long as they like, and nginx's
 * master waits for them.  After SIGTERM they have the same time as a disk has.
 */

static void
ngx_http_kv_host_exit(void)
{
    uint64_t               now, begun, term;
    ngx_uint_t             i, n;
    struct timespec        end;
    ngx_http_kv_zone_t   **zone;

    zone = ngx_http_kv_hosting->zones.elts;
    n = ngx_http_kv_hosting->zones.nelts;

    begun = kv_now_ns();
    term = 0;

    for ( ;; ) {
        now = kv_now_ns();

        if (ngx_terminate && term == 0) {
            term = now;
        }

        if ((term && now - term >= NGX_HTTP_KV_EXIT * 1000000ull)
            || !ngx_http_kv_hosts_needed(zone, n,
                           now - begun >= NGX_HTTP_KV_EXIT * 1000000ull))
        {
            break;
        }

        ngx_msleep(NGX_HTTP_KV_HOST_LOOK);
    }

    for (i = 0; i < n; i++) {
        if (zone[i]->hosts) {
            kv_store_host_end(zone[i]->store);
        }
    }

    (void) clock_gettime(CLOCK_REALTIME, &end);

    for (i = 0; i < n; i++) {
        if (zone[i]->hosts) {
            ngx_http_kv_host_join(zone[i],
                                  end.tv_sec + NGX_HTTP_KV_EXIT / 1000);
        }
    }
}


/* A disk that hangs must not keep the process. */

static void
ngx_http_kv_host_join(ngx_http_kv_zone_t *zone, time_t end)
{
    struct timespec  until;

    until.tv_sec = end;
    until.tv_nsec = 0;

    (void) pthread_timedjoin_np(zone->host, NULL, &until);
}


static ngx_uint_t
ngx_http_kv_hosts_needed(ngx_http_kv_zone_t **zone, ngx_uint_t n,
    ngx_uint_t waited)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        if (zone[i]->hosts && kv_store_host_needed(zone[i]->store, waited)) {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_kv_host_missing(ngx_http_kv_zone_t *zone)
{
    ngx_uint_t          left;
    ngx_queue_t        *q, *prev;
    ngx_http_kv_ctx_t  *ctx;

    if (!zone->conf.hosted
        || kv_store_unhosted(zone->store) < NGX_HTTP_KV_HOST_MISSED)
    {
        return;
    }

    if (ngx_http_kv_may_log(zone, NGX_HTTP_KV_LOG_HOST)) {
        ngx_log_error(NGX_LOG_ALERT, zone->log, 0,
                      "kv zone \"%V\": the process that writes the log is not "
                      "there, nginx's \"cache manager process\": writes get "
                      "503; if the master process does not start it soon, "
                      "restart nginx", &zone->name);
    }

    /*
     * A request's context leaves the queue, and what takes its place there has
     * no request.  The queue may get longer at its end, as clients send more.
     */

    left = 0;

    for (q = ngx_queue_head(&zone->waiting);
         q != ngx_queue_sentinel(&zone->waiting);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, waiting);

        if (ctx->request) {
            prev = ngx_queue_prev(q);
            ngx_http_kv_host_refuse(ctx);
            q = prev;
            left++;
        }
    }

    /* what is left in the queue keeps no worker that is to quit */

    if (ngx_exiting && left == 0 && zone->watch.timer_set) {
        ngx_del_timer(&zone->watch);
    }
}


/* Ends a request that waits for a write: what becomes of that is unknown. */

static void
ngx_http_kv_host_refuse(ngx_http_kv_ctx_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_kv_waited(ctx);

    if (ctx->refuse == NULL) {
        (void) ngx_http_kv_abandon(ctx);
        ngx_http_kv_finish(r, ngx_http_kv_reply_rc(r, KV_UNAVAILABLE));
        return;
    }

    /* its own cleanup knows what is in the queue; it has no answer for that */

    ngx_http_finalize_request(r, NGX_HTTP_CLOSE);
    ngx_http_run_posted_requests(c);
}
