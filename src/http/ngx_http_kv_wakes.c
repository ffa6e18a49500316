
/*
 * How processes wake each other: one eventfd a process, for all its stores.
 *
 * The master makes a table of them before it forks, and keeps it over reloads.
 * A process has the index in it that it has in nginx's own table of processes,
 * which no other living child of the master has.  So the number of descriptors
 * does not grow with stores, or with their places.
 *
 * The table only grows, at reloads, and is made large enough for the next one.
 * Workers that were forked before know the part that was there then.  So a
 * worker whose index is behind the end of the first table, or that has none,
 * cannot be sure that every process wakes it, and also polls.
 */


#include "http/ngx_http_kv.h"

#include <sys/eventfd.h>


#define NGX_HTTP_KV_WAKES_MIN    32

/* nginx's processes that are no workers, and some more */
#define NGX_HTTP_KV_WAKES_SPARE  8


static ngx_int_t ngx_http_kv_wakes_grow(ngx_http_kv_wakes_t *wakes,
    ngx_cycle_t *cycle);
static void ngx_http_kv_wakes_listen(ngx_http_kv_wakes_t *wakes,
    ngx_cycle_t *cycle);
static void ngx_http_kv_wakes_handler(ngx_event_t *ev);


ngx_int_t
ngx_http_kv_wakes_create(ngx_http_kv_wakes_t *wakes, ngx_cycle_t *cycle)
{
    ngx_uint_t            i;
    ngx_http_kv_zone_t  **zone;
    ngx_http_kv_wakes_t  *old;

    zone = wakes->zones->elts;
    old = NULL;

    for (i = 0; i < wakes->zones->nelts && old == NULL; i++) {
        old = zone[i]->old ? zone[i]->old->wakes : NULL;
    }

    if (old) {
        wakes->fds = old->fds;
        wakes->n = old->n;
        wakes->sure = old->sure;
    }

    if (ngx_http_kv_wakes_grow(wakes, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    wakes->owner = 1;

    if (old) {
        old->owner = 0;

    } else {
        wakes->sure = wakes->n;
    }

    return NGX_OK;
}


/* Grows the table for the next reload's workers, in this cycle's memory. */

static ngx_int_t
ngx_http_kv_wakes_grow(ngx_http_kv_wakes_t *wakes, ngx_cycle_t *cycle)
{
    int              *fds;
    ngx_uint_t        n;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    n = ngx_last_process + 2 * ngx_max(ccf->worker_processes, 1)
        + NGX_HTTP_KV_WAKES_SPARE;
    n = ngx_max(n, NGX_HTTP_KV_WAKES_MIN);
    n = ngx_max(n, wakes->n);

    fds = ngx_pnalloc(cycle->pool, n * sizeof(int));
    if (fds == NULL) {
        return NGX_ERROR;
    }

    if (wakes->n) {
        ngx_memcpy(fds, wakes->fds, wakes->n * sizeof(int));
    }

    wakes->fds = fds;

    while (wakes->n < n) {
        fds[wakes->n] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

        if (fds[wakes->n] == -1) {
            ngx_log_error(NGX_LOG_WARN, cycle->log, ngx_errno,
                          "eventfd() failed: kv stores have %ui for their "
                          "workers, not %ui: who has none looks every few "
                          "milliseconds instead", wakes->n, n);
            break;
        }

        wakes->n++;
    }

    return NGX_OK;
}


void
ngx_http_kv_wakes_cleanup(void *data)
{
    ngx_http_kv_wakes_t *wakes = data;

    ngx_uint_t  i;

    for (i = 0; wakes->owner && i < wakes->n; i++) {
        (void) close(wakes->fds[i]);
    }
}


void
ngx_http_kv_wakes_enter(ngx_http_kv_wakes_t *wakes, ngx_cycle_t *cycle,
    ngx_http_kv_wakes_pt woken, ngx_http_kv_wakes_pt quit)
{
    ngx_uint_t            i, mine;
    ngx_http_kv_zone_t  **zone;

    wakes->woken = woken;
    wakes->quit = quit;

    ngx_http_kv_wakes_listen(wakes, cycle);

    mine = wakes->connection ? (ngx_uint_t) ngx_process_slot : wakes->n;
    zone = wakes->zones->elts;

    for (i = 0; i < wakes->zones->nelts; i++) {
        kv_store_wakes(zone[i]->store, wakes->fds, wakes->n, mine);
    }
}


static void
ngx_http_kv_wakes_listen(ngx_http_kv_wakes_t *wakes, ngx_cycle_t *cycle)
{
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    if ((ngx_uint_t) ngx_process_slot >= wakes->n) {
        return;
    }

    c = ngx_get_connection(wakes->fds[ngx_process_slot], cycle->log);
    if (c == NULL) {
        return;
    }

    c->pool = NULL;
    c->data = wakes;
    c->log = cycle->log;

    /* nginx calls the handler of an idle connection when it is to quit */

    c->idle = 1;

    rev = c->read;
    rev->log = cycle->log;
    rev->handler = ngx_http_kv_wakes_handler;
    rev->channel = 1;

    if (ngx_add_event(rev, NGX_READ_EVENT,
                      ngx_event_flags & NGX_USE_CLEAR_EVENT ? NGX_CLEAR_EVENT
                                                            : 0)
        == NGX_ERROR)
    {
        c->fd = (ngx_socket_t) -1;
        ngx_free_connection(c);
        return;
    }

    wakes->connection = c;
}


static void
ngx_http_kv_wakes_handler(ngx_event_t *ev)
{
    uint64_t              n;
    ngx_uint_t            i;
    ngx_connection_t     *c;
    ngx_http_kv_zone_t  **zone;
    ngx_http_kv_wakes_t  *wakes;

    c = ev->data;
    wakes = c->data;
    zone = wakes->zones->elts;

    if (c->close) {
        c->close = 0;

        for (i = 0; i < wakes->zones->nelts; i++) {
            wakes->quit(zone[i]);
        }

        return;
    }

    /* edge-triggered, each write is an event: the count need not be read */

    if (!(ngx_event_flags & NGX_USE_CLEAR_EVENT)
        && read(c->fd, &n, sizeof(n)) == -1)
    {
        return;
    }

    for (i = 0; i < wakes->zones->nelts; i++) {
        wakes->woken(zone[i]);
    }
}


ngx_uint_t
ngx_http_kv_wakes_sure(ngx_http_kv_wakes_t *wakes)
{
    return wakes->connection && (ngx_uint_t) ngx_process_slot < wakes->sure;
}


int
ngx_http_kv_wakes_fd(ngx_http_kv_wakes_t *wakes)
{
    uint64_t  n;

    if (wakes->connection == NULL) {
        return -1;
    }

    (void) !read(wakes->connection->fd, &n, sizeof(n));

    return wakes->connection->fd;
}


void
ngx_http_kv_wakes_leave(ngx_http_kv_wakes_t *wakes)
{
    if (wakes->connection == NULL) {
        return;
    }

    (void) ngx_del_event(wakes->connection->read, NGX_READ_EVENT, 0);
    wakes->connection->fd = (ngx_socket_t) -1;
    ngx_free_connection(wakes->connection);
    wakes->connection = NULL;
}
