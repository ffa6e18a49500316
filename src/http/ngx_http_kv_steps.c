
/*
 * Long work in steps, so that it never holds up the event loop: lists, batches,
 * bulk loads, deletes of all keys that begin alike.
 *
 * A step takes half a millisecond at most.  The steps that are to be taken
 * stand in one queue of the worker, whatever they are of: first in, first out.
 * In a round of the event loop the worker takes as many of them as begin
 * within NGX_HTTP_KV_STEPS_BUDGET, one of each request, so other clients wait
 * about as long, however many want long work at a time.  A request's first step
 * is taken at once if no step waits and the round has time left.
 *
 * A step that meets a group of writes which is just becoming visible
 * (store/kv_group.h) is put into the queue a moment later.  A read of one key
 * does not stand in the queue: it takes no time.
 *
 * Where a worker leaves its event loop at once, at SIGTERM, each step is taken
 * a last time, for its request to be answered.
 */


#include "http/ngx_http_kv.h"


/* in a round, nanoseconds */
#define NGX_HTTP_KV_STEPS_BUDGET  1000000

/* until a group that is becoming visible is, about; milliseconds */
#define NGX_HTTP_KV_STEPS_LATER   1

/* after how many steps a request that `watches` notices that its client left */
#define NGX_HTTP_KV_STEPS_WATCH   16

/*
 * A worker that is to quit ends when it has no timer any more, so there is one
 * as long as steps wait, milliseconds.
 */
#define NGX_HTTP_KV_STEPS_TIMER   60000


static void ngx_http_kv_step_put(ngx_http_kv_step_t *step, ngx_queue_t *queue);
static void ngx_http_kv_steps_post(void);
static void ngx_http_kv_steps_keep(void);
static void ngx_http_kv_steps_round(ngx_event_t *ev);
static void ngx_http_kv_steps_timeout(ngx_event_t *ev);
static void ngx_http_kv_steps_move(ngx_queue_t *to, ngx_queue_t *from);


/* of this worker, in all zones */

static ngx_queue_t  ngx_http_kv_steps;
static ngx_queue_t  ngx_http_kv_steps_later;
static ngx_event_t  ngx_http_kv_steps_next;
static ngx_event_t  ngx_http_kv_steps_moment;
static uint64_t     ngx_http_kv_steps_spent;  /* ns, in this round */
static ngx_uint_t   ngx_http_kv_steps_rounds;


void
ngx_http_kv_steps_init(ngx_log_t *log)
{
    if (ngx_http_kv_steps.next == NULL) {
        ngx_queue_init(&ngx_http_kv_steps);
        ngx_queue_init(&ngx_http_kv_steps_later);
    }

    ngx_http_kv_steps_next.handler = ngx_http_kv_steps_round;
    ngx_http_kv_steps_next.log = log;

    ngx_http_kv_steps_moment.handler = ngx_http_kv_steps_timeout;
    ngx_http_kv_steps_moment.log = log;
}


uint64_t
ngx_http_kv_step_begin(void)
{
    return ngx_queue_empty(&ngx_http_kv_steps)
           && ngx_http_kv_steps_spent < NGX_HTTP_KV_STEPS_BUDGET
           ? kv_now_ns() : 0;
}


void
ngx_http_kv_step_end(uint64_t begun)
{
    ngx_http_kv_steps_spent += kv_now_ns() - begun;

    /* which notices that the round is over */

    ngx_http_kv_steps_post();
}


void
ngx_http_kv_step_next(ngx_http_kv_step_t *step)
{
    ngx_http_kv_step_put(step, &ngx_http_kv_steps);
    ngx_http_kv_steps_keep();
}


void
ngx_http_kv_step_later(ngx_http_kv_step_t *step)
{
    ngx_http_kv_zone_t  *zone;

    ngx_http_kv_step_put(step, &ngx_http_kv_steps_later);

    if (!ngx_http_kv_steps_moment.timer_set) {
        ngx_add_timer(&ngx_http_kv_steps_moment, NGX_HTTP_KV_STEPS_LATER);
    }

    if (++step->waits % KV_STORE_WATCH == 0) {

        /* the committer may have died in the middle of the group */

        zone = step->ctx->zone;
        zone->woken(zone);
    }
}


static void
ngx_http_kv_step_put(ngx_http_kv_step_t *step, ngx_queue_t *queue)
{
    if (!step->queued) {
        step->queued = 1;
        step->round = ngx_http_kv_steps_rounds;
        ngx_queue_insert_tail(queue, &step->queue);
    }

    if (++step->n == NGX_HTTP_KV_STEPS_WATCH && step->watches) {
        step->watched = ngx_http_kv_watch_client(step->ctx->request);
    }
}


void
ngx_http_kv_step_cancel(ngx_http_kv_step_t *step)
{
    if (step->queued) {
        step->queued = 0;
        ngx_queue_remove(&step->queue);
    }
}


void
ngx_http_kv_step_over(ngx_http_kv_step_t *step)
{
    ngx_http_kv_step_cancel(step);

    if (step->watched) {
        step->watched = 0;
        step->ctx->request->read_event_handler = ngx_http_block_reading;
    }
}


static void
ngx_http_kv_steps_post(void)
{
    if (!ngx_http_kv_steps_next.posted) {
        ngx_post_event(&ngx_http_kv_steps_next, &ngx_posted_next_events);
    }
}


/* There are steps to take. */

static void
ngx_http_kv_steps_keep(void)
{
    if (!ngx_http_kv_steps_next.timer_set) {
        ngx_add_timer(&ngx_http_kv_steps_next, NGX_HTTP_KV_STEPS_TIMER);
    }

    ngx_http_kv_steps_post();
}


/* The end of a round, as the last of its events. */

static void
ngx_http_kv_steps_round(ngx_event_t *ev)
{
    uint64_t             begun;
    ngx_uint_t           n;
    ngx_http_kv_step_t  *step;

    begun = kv_now_ns();
    ngx_http_kv_steps_rounds++;

    for (n = 0; !ngx_queue_empty(&ngx_http_kv_steps); n++) {

        step = ngx_queue_data(ngx_queue_head(&ngx_http_kv_steps),
                              ngx_http_kv_step_t, queue);

        if (step->round == ngx_http_kv_steps_rounds
            || (n && kv_now_ns() - begun + ngx_http_kv_steps_spent
                     >= NGX_HTTP_KV_STEPS_BUDGET))
        {
            break;
        }

        ngx_http_kv_step_cancel(step);
        step->take(step->data);
    }

    ngx_http_kv_steps_spent = 0;

    if (!ngx_queue_empty(&ngx_http_kv_steps)) {
        ngx_http_kv_steps_keep();

    } else if (ev->timer_set) {
        ngx_del_timer(ev);
    }
}


/* Those that take no time are taken at once, others when it is their turn. */

static void
ngx_http_kv_steps_timeout(ngx_event_t *ev)
{
    ngx_queue_t          list;
    ngx_http_kv_step_t  *step;

    (void) ev;

    ngx_queue_init(&list);
    ngx_http_kv_steps_move(&list, &ngx_http_kv_steps_later);

    while (!ngx_queue_empty(&list)) {
        step = ngx_queue_data(ngx_queue_head(&list), ngx_http_kv_step_t, queue);

        ngx_http_kv_step_cancel(step);

        if (step->is_short) {
            step->take(step->data);

        } else {
            ngx_http_kv_step_next(step);
        }
    }
}


/* Moves all of a queue to the end of another one. */

static void
ngx_http_kv_steps_move(ngx_queue_t *to, ngx_queue_t *from)
{
    if (!ngx_queue_empty(from)) {
        ngx_queue_add(to, from);
        ngx_queue_init(from);
    }
}


void
ngx_http_kv_steps_drain(ngx_http_kv_zone_t *zone)
{
    ngx_queue_t          list;
    ngx_http_kv_step_t  *step;

    ngx_queue_init(&list);
    ngx_http_kv_steps_move(&list, &ngx_http_kv_steps);
    ngx_http_kv_steps_move(&list, &ngx_http_kv_steps_later);

    while (!ngx_queue_empty(&list)) {
        step = ngx_queue_data(ngx_queue_head(&list), ngx_http_kv_step_t, queue);

        ngx_http_kv_step_cancel(step);

        if (step->ctx->zone == zone) {
            step->take(step->data);

        } else {
            ngx_http_kv_step_next(step);
        }
    }
}
