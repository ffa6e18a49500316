
/*
 * A zone in a worker: commit and background tasks, wake-ups, results, and the
 * worker's exit.
 */


#include "http/ngx_http_kv.h"

#include <dirent.h>
#include <poll.h>


/* how often a worker that exits polls without being woken, milliseconds */
#define NGX_HTTP_KV_EXIT_POLLS  10


static void ngx_http_kv_rest_handler(ngx_event_t *ev);
static void ngx_http_kv_unread_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_kv_has_work(ngx_http_kv_zone_t *zone);
static void ngx_http_kv_timer_handler(ngx_event_t *ev);
static void ngx_http_kv_beat_handler(ngx_event_t *ev);
static void ngx_http_kv_submitted(ngx_http_kv_zone_t *zone, unsigned todo);
static void ngx_http_kv_post_tasks(ngx_http_kv_zone_t *zone, unsigned todo);
static void ngx_http_kv_post_commit(ngx_http_kv_zone_t *zone);
static ngx_thread_task_t *ngx_http_kv_task(ngx_http_kv_zone_t *zone,
    void (*handler)(void *data, ngx_log_t *log),
    ngx_event_handler_pt done);
static void ngx_http_kv_commit_task(void *data, ngx_log_t *log);
static void ngx_http_kv_commit_over(ngx_event_t *ev);
static void ngx_http_kv_background_task(void *data, ngx_log_t *log);
static void ngx_http_kv_background_over(ngx_event_t *ev);
static void ngx_http_kv_reset(ngx_http_kv_zone_t *zone);
static void ngx_http_kv_drain_begin(ngx_http_kv_zone_t *zone);
static ngx_uint_t ngx_http_kv_drain_step(ngx_http_kv_zone_t *zone);


void
ngx_http_kv_check_threads(ngx_cycle_t *cycle, ngx_http_kv_zone_t **zone,
    ngx_uint_t n)
{
    DIR            *dir;
    ngx_uint_t      i, threads, backups;
    struct dirent  *task;

    /* pools do not tell how many threads they have: this process does */

    dir = ngx_worker == 0 ? opendir("/proc/self/task") : NULL;

    if (dir == NULL) {
        return;
    }

    threads = 0;

    while ((task = readdir(dir)) != NULL) {
        threads += task->d_name[0] != '.';
    }

    (void) closedir(dir);

    backups = 0;

    for (i = 0; i < n; i++) {
        backups += zone[i]->backed_up ? KV_STORE_BACKUPS : 0;
    }

    if (threads < 2 || threads - 1 > n + backups) {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                  "all thread pools together have %ui thread(s) for %ui kv "
                  "zone(s) and up to %ui backups: while snapshots or backups "
                  "are made all writes may wait, give \"thread_pool\" two "
                  "threads for each zone, and %d more for its backups",
                  threads - 1, n, backups, KV_STORE_BACKUPS);
}


ngx_int_t
ngx_http_kv_enter(ngx_http_kv_zone_t *zone)
{
    int         master;
    ngx_uint_t  i;

    zone->log = zone->cycle->log;

    ngx_queue_init(&zone->waiting);
    ngx_queue_init(&zone->active);
    ngx_queue_init(&zone->texts);
    ngx_queue_init(&zone->lists);
    ngx_queue_init(&zone->backups);

    zone->submitted = ngx_http_kv_submitted;
    zone->woken = ngx_http_kv_process_events;

    ngx_memzero(&zone->watch, sizeof(ngx_event_t));
    zone->watch.handler = ngx_http_kv_timer_handler;
    zone->watch.data = zone;
    zone->watch.log = zone->log;

    zone->timeout = zone->watch;
    zone->timeout.cancelable = 1;

    zone->beat = zone->timeout;
    zone->beat.handler = ngx_http_kv_beat_handler;

    zone->rest = zone->watch;
    zone->rest.handler = ngx_http_kv_rest_handler;

    zone->unread = zone->watch;
    zone->unread.handler = ngx_http_kv_unread_handler;

    ngx_http_kv_poll_init(zone);
    ngx_http_kv_await_init(zone);
    ngx_http_kv_reserve_init(zone);
    ngx_http_kv_steps_init(zone->log);

    for (i = 0; i < NGX_HTTP_KV_TASKS; i++) {
        zone->commit[i] = ngx_http_kv_task(zone, ngx_http_kv_commit_task,
                                           ngx_http_kv_commit_over);
        if (zone->commit[i] == NULL) {
            return NGX_ERROR;
        }
    }

    zone->background = ngx_http_kv_task(zone, ngx_http_kv_background_task,
                                        ngx_http_kv_background_over);
    if (zone->background == NULL) {
        return NGX_ERROR;
    }

    master = ngx_process == NGX_PROCESS_SINGLE ? (int) ngx_pid
                                               : (int) ngx_parent;
    kv_store_dir_set_holder(&zone->dir, master);

    if (zone->archive.len) {
        kv_store_dir_set_holder(&zone->archive_dir, master);
    }

    if (ngx_http_kv_entered(zone) == NGX_OK) {

        /* the place's last worker may be dead, or the committer */

        ngx_http_kv_process_events(zone);
    }

    return NGX_OK;
}


static void
ngx_http_kv_rest_handler(ngx_event_t *ev)
{
    ngx_http_kv_zone_t *zone = ev->data;

    if (!kv_store_entered(zone->store) || ngx_http_kv_has_work(zone)) {
        return;
    }

    ngx_http_kv_poll_stop(zone);

    if (zone->watch.timer_set) {
        ngx_del_timer(&zone->watch);
    }

    if (zone->timeout.timer_set) {
        ngx_del_timer(&zone->timeout);
    }

    if (zone->beat.timer_set) {
        ngx_del_timer(&zone->beat);
    }

    kv_store_suspend(zone->store);
}


static ngx_uint_t
ngx_http_kv_has_work(ngx_http_kv_zone_t *zone)
{
    ngx_uint_t  i;

    if (!ngx_queue_empty(&zone->active) || !ngx_queue_empty(&zone->starving)
        || zone->awaiting || zone->watching || !ngx_queue_empty(&zone->backups)
        || zone->retry.timer_set || zone->commit_pending
        || zone->background->event.active)
    {
        return 1;
    }

    for (i = 0; i < NGX_HTTP_KV_TASKS; i++) {
        if (zone->commit[i]->event.active) {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_kv_woken(ngx_http_kv_zone_t *zone)
{
    if (kv_store_entered(zone->store)) {
        ngx_http_kv_process_events(zone);
    }
}


void
ngx_http_kv_quit(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_await_finish(zone);
    ngx_http_kv_backup_finish(zone);
    ngx_http_kv_watch_finish(zone);
    kv_store_leave_work(zone->store);
    ngx_http_kv_rest(zone);
}


static void
ngx_http_kv_unread_handler(ngx_event_t *ev)
{
    ngx_http_kv_woken(ev->data);
}


static void
ngx_http_kv_timer_handler(ngx_event_t *ev)
{
    ngx_http_kv_process_events(ev->data);
    ngx_http_kv_host_missing(ev->data);
}


static void
ngx_http_kv_beat_handler(ngx_event_t *ev)
{
    ngx_http_kv_zone_t *zone = ev->data;

    kv_store_beat(zone->store);
    ngx_http_kv_beat(zone);
}


void
ngx_http_kv_process_events(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_complete(zone);
    ngx_http_kv_await_wake(zone);
    ngx_http_kv_watch_wake(zone);
    ngx_http_kv_evict(zone);

    if (ngx_exiting && !ngx_queue_empty(&zone->waiting)) {
        kv_store_start_now(zone->store);
    }

    ngx_http_kv_post_tasks(zone, kv_store_todo(zone->store));
    ngx_http_kv_set_timers(zone);
}


void
ngx_http_kv_ask_disk_space(ngx_http_kv_zone_t *zone)
{
    if (kv_store_entered(zone->store)
        && kv_store_ask_disk_space(zone->store))
    {
        ngx_http_kv_process_events(zone);
    }
}


static void
ngx_http_kv_submitted(ngx_http_kv_zone_t *zone, unsigned todo)
{
    ngx_http_kv_post_tasks(zone, todo);
    ngx_http_kv_set_timers(zone);
    ngx_http_kv_poll(zone);
}


static void
ngx_http_kv_post_tasks(ngx_http_kv_zone_t *zone, unsigned todo)
{
    if (todo & KV_TODO_RESET) {
        ngx_http_kv_reset(zone);
    }

    if (todo & KV_TODO_COMMIT) {
        ngx_http_kv_post_commit(zone);
    }

    /* until the event loop has seen the last task's end, it is not posted */

    if (todo & KV_TODO_BACKGROUND
        && (zone->draining
            || zone->background->event.active
            || ngx_thread_task_post(zone->thread_pool, zone->background)
               != NGX_OK))
    {
        kv_store_unclaim(zone->store, KV_TODO_BACKGROUND);
    }
}


static void
ngx_http_kv_post_commit(ngx_http_kv_zone_t *zone)
{
    ngx_uint_t          i;
    ngx_thread_task_t  *task;

    task = NULL;

    if (zone->draining) {

        /* no event loop sees a task's end any more: each is used once */

        task = ngx_http_kv_task(zone, ngx_http_kv_commit_task,
                                ngx_http_kv_commit_over);

    } else {
        for (i = 0; i < NGX_HTTP_KV_TASKS && task == NULL; i++) {
            task = zone->commit[i]->event.active ? NULL : zone->commit[i];
        }

        if (task == NULL) {

            /* the event loop will see the end of one, and post it again */

            zone->commit_pending = 1;
            return;
        }
    }

    if (task == NULL || zone->thread_pool == NULL
        || ngx_thread_task_post(zone->thread_pool, task) != NGX_OK)
    {
        kv_store_unclaim(zone->store, KV_TODO_COMMIT);
    }
}


static ngx_thread_task_t *
ngx_http_kv_task(ngx_http_kv_zone_t *zone,
    void (*handler)(void *data, ngx_log_t *log), ngx_event_handler_pt done)
{
    ngx_thread_task_t  *task;

    task = ngx_thread_task_alloc(zone->cycle->pool, 0);
    if (task == NULL) {
        return NULL;
    }

    task->ctx = zone;
    task->handler = handler;
    task->event.data = zone;
    task->event.handler = done;
    task->event.log = zone->log;

    return task;
}


static void
ngx_http_kv_commit_task(void *data, ngx_log_t *log)
{
    ngx_http_kv_zone_t *zone = data;

    (void) log;

    kv_store_commit(zone->store);
}


static void
ngx_http_kv_commit_over(ngx_event_t *ev)
{
    ngx_http_kv_zone_t *zone = ev->data;

    if (zone->commit_pending) {
        zone->commit_pending = 0;
        ngx_http_kv_post_commit(zone);
    }

    if (!ngx_http_kv_wakes_sure(zone->wakes)) {
        ngx_http_kv_complete(zone);
    }

    ngx_http_kv_set_timers(zone);
    ngx_http_kv_rest(zone);
}


static void
ngx_http_kv_background_task(void *data, ngx_log_t *log)
{
    ngx_http_kv_zone_t *zone = data;

    (void) log;

    kv_store_background(zone->store);
}


static void
ngx_http_kv_background_over(ngx_event_t *ev)
{
    ngx_http_kv_zone_t *zone = ev->data;

    ngx_http_kv_process_events(zone);
    ngx_http_kv_rest(zone);
}


/*
 * The zone is to be rebuilt: gives up every operation and entry.  Answers
 * requests that wait, refuses uploads, and cuts off values that are half sent,
 * because their memory goes away.
 */

static void
ngx_http_kv_reset(ngx_http_kv_zone_t *zone)
{
    ngx_queue_t         *q;
    ngx_http_kv_ctx_t   *ctx;
    ngx_http_request_t  *r;

    if (zone->resetting) {

        /* a request that ended below led back here: the loop below goes on */

        return;
    }

    zone->resetting = 1;

    while (!ngx_queue_empty(&zone->active)) {

        q = ngx_queue_head(&zone->active);
        ctx = ngx_queue_data(q, ngx_http_kv_ctx_t, active);

        ngx_queue_remove(q);

        if (ctx->submitted) {
            ngx_queue_remove(&ctx->waiting);
            ctx->submitted = 0;
            ngx_http_kv_waited(ctx);
        }

        ctx->op = NULL;
        r = ctx->request;

        if (r == NULL && ctx->refuse == NULL) {
            zone->reserving &= !ctx->reserving;
            ngx_free(ctx);
            continue;
        }

        ngx_http_kv_wait_leave(ctx);

        if (ctx->sending) {

            /* the request may be over, with frames of its value queued */

            ngx_http_kv_cut_connection(r);
            continue;
        }

        if (ctx->refuse) {
            ctx->refuse(ctx, KV_UNAVAILABLE);
            continue;
        }

        ngx_http_kv_finish(r, ngx_http_kv_reply_rc(r, KV_UNAVAILABLE));
    }

    kv_store_reset(zone->store);

    zone->resetting = 0;
}


/*
 * At SIGTERM nginx leaves the event loop at once.  The pools' threads, which
 * are still there, commit what was accepted, and this loop answers it, for all
 * stores side by side.
 */

void
ngx_http_kv_drain(ngx_http_kv_zone_t **zone, ngx_uint_t n)
{
    uint64_t        end;
    ngx_uint_t      i, left;
    struct pollfd   pfd;

    end = kv_now_ns() + (uint64_t) NGX_HTTP_KV_EXIT * 1000000;

    for (i = 0; i < n; i++) {
        ngx_http_kv_drain_begin(zone[i]);
    }

    for ( ;; ) {
        pfd.fd = n ? ngx_http_kv_wakes_fd(zone[0]->wakes) : -1;
        pfd.events = POLLIN;

        for (i = 0, left = 0; i < n; i++) {
            left += ngx_http_kv_drain_step(zone[i]);
        }

        /* also what this step has answered is counted */

        for (i = 0; i < n; i++) {
            left += ngx_http_kv_sums_drain(zone[i]);
        }

        if (left == 0 || kv_now_ns() >= end) {
            return;
        }

        (void) poll(&pfd, 1, NGX_HTTP_KV_EXIT_POLLS);
    }
}


static void
ngx_http_kv_drain_begin(ngx_http_kv_zone_t *zone)
{
    kv_store_stop(zone->store);
    zone->draining = 1;

    ngx_http_kv_steps_drain(zone);

    if (!kv_store_entered(zone->store)) {
        return;
    }

    ngx_http_kv_poll_stop(zone);
    ngx_http_kv_await_finish(zone);
    ngx_http_kv_watch_finish(zone);

    if (zone->commit_pending) {
        zone->commit_pending = 0;
        ngx_http_kv_post_commit(zone);
    }

    ngx_http_kv_post_tasks(zone, kv_store_todo(zone->store));
}


/* Returns whether the zone still has work. */

static ngx_uint_t
ngx_http_kv_drain_step(ngx_http_kv_zone_t *zone)
{
    if (!kv_store_entered(zone->store)) {
        return 0;
    }

    if (!ngx_queue_empty(&zone->waiting)) {
        ngx_http_kv_post_tasks(zone, kv_store_todo(zone->store));
    }

    ngx_http_kv_complete(zone);

    if (ngx_queue_empty(&zone->waiting)) {
        ngx_http_kv_reserve_drain(zone);
    }

    return !ngx_queue_empty(&zone->waiting) || kv_store_commits(zone->store);
}


void
ngx_http_kv_leave(ngx_http_kv_zone_t *zone)
{
    if (!kv_store_entered(zone->store)) {
        ngx_http_kv_sums_leave(zone);
        return;
    }

    /*
     * Answers what ended while nginx waited for the threads.  A request that
     * ends may begin another, for which there is no pool any more.
     */

    zone->thread_pool = NULL;
    ngx_http_kv_complete(zone);
    ngx_http_kv_sums_leave(zone);

    if (zone->watch.timer_set) {
        ngx_del_timer(&zone->watch);
    }

    if (zone->timeout.timer_set) {
        ngx_del_timer(&zone->timeout);
    }

    if (zone->beat.timer_set) {
        ngx_del_timer(&zone->beat);
    }

    kv_store_leave(zone->store);
}
