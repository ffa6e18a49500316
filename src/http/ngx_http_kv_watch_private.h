
/*
 * What the files of watches share:
 *
 *     ngx_http_kv_watch.c        the request
 *     ngx_http_kv_watch_hold.c       ... that cannot begin yet
 *     ngx_http_kv_watch_begin.c  where a stream begins
 *     ngx_http_kv_watch_feed.c   who gets what of the feed
 *     ngx_http_kv_watch_index.c      ... who watches a key
 *     ngx_http_kv_watch_event.c      ... the text of an event
 *     ngx_http_kv_watch_send.c   a stream's text is sent; its end
 *     ngx_http_kv_watch_text.c       ... its memory
 *     ngx_http_kv_watch_beat.c   signs of life
 *     ngx_http_kv_watch_stop.c   it leaves all lists
 */


#ifndef _NGX_HTTP_KV_WATCH_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_KV_WATCH_PRIVATE_H_INCLUDED_


#include "http/ngx_http_kv_keys_private.h"


#define NGX_HTTP_KV_WATCH_TYPE     "text/event-stream"

/* when a browser connects again, milliseconds */
#define NGX_HTTP_KV_WATCH_RETRY    1000

/* the largest value that an event has, bytes */
#define NGX_HTTP_KV_WATCH_VALUE    65536

/* bytes that wait for a client before its watch reads by itself */
#define NGX_HTTP_KV_WATCH_PENDING  65536

/* streams that are sent in a round of the event loop */
#define NGX_HTTP_KV_WATCH_SENDS    64

#define ngx_http_kv_watch_of(q, where)                                        \
    ngx_queue_data(q, ngx_http_kv_watch_t, where)


/* The watchers of one prefix, or key. */

typedef struct {
    ngx_rbtree_node_t          node;
    ngx_str_t                  name;
    ngx_queue_t                watchers;      /* watch->in_set */
} ngx_http_kv_watch_set_t;


/* A stream; in the request's pool. */

typedef struct {
    ngx_http_kv_ctx_t         *ctx;

    /* the arguments; data == NULL: not given; behind ctx->prefix */
    ngx_str_t                  prefix;
    ngx_str_t                  key;
    ngx_str_t                  after_arg;
    ngx_str_t                  values_arg;
    ngx_str_t                  name;          /* prefix, or key */
    unsigned                   values:1;
    unsigned                   resumes:1;     /* `after` is given */

    kv_version_t               after;         /* it has all up to this one */
    uint64_t                   pos;           /* of the feed, unless live */

    unsigned                   held:1;        /* in the queue of that name */
    unsigned                   shown:1;       /* kv_store_watch() */
    unsigned                   live:1;        /* it is in a set, and gets what
                                                 the worker reads */
    unsigned                   dirty:1;       /* in the queue of that name */
    unsigned                   slow:1;        /* in the queue of that name */
    unsigned                   failed:1;      /* there is no memory */

    ngx_http_kv_watch_set_t   *set;
    ngx_queue_t                in_set;
    ngx_queue_t                all;           /* by `sent`; or held */
    ngx_queue_t                to_send;
    ngx_queue_t                by_age;        /* of those that are slow */
    ngx_http_kv_step_t         step;          /* unless live */

    /* text in buffers, which are used again */
    ngx_chain_t               *out;           /* not given to nginx yet */
    ngx_chain_t               *last;
    ngx_chain_t               *busy;          /* given, not sent */
    ngx_chain_t               *free;
    u_char                    *first;         /* the first one */
    size_t                     memory;        /* bytes of all others */
    size_t                     pending;       /* bytes of text in them */
    off_t                      taken;         /* what its client had taken when
                                                 it came into the queue */
    uint64_t                   sent;          /* ns, the last text */
    uint64_t                   until;         /* ns: it is held so long */
} ngx_http_kv_watch_t;


/* Those of a zone, in a worker. */

struct ngx_http_kv_watches_s {
    ngx_http_kv_zone_t        *zone;
    ngx_rbtree_t               sets;          /* of those that are live, */
    ngx_rbtree_node_t          sentinel;      /* in the order of their bytes */
    ngx_queue_t                all;
    ngx_queue_t                held;          /* by their age */
    ngx_queue_t                dirty;         /* there is text to send */
    ngx_queue_t                slow;          /* clients that have not taken
                                                 all; the first has taken none
                                                 for the longest time */
    size_t                     memory;        /* watch->memory, all */
    ngx_event_t                more;          /* there is more to do */
    ngx_event_t                beat;
    ngx_event_t                hold;
    uint64_t                   pos;           /* how far the feed is read */
    size_t                     bytes;         /* copied in this round */
    unsigned                   full:1;        /* that were as many as may be,
                                                 and some did not get it */
    unsigned                   reading:1;
    kv_feed_record_t           rec;           /* the record that was read */

    /* the text of an event */
    ngx_http_kv_page_t         page;
    uint64_t                   made;          /* rec.next of the record that it
                                                 is of; 0: none */
    size_t                     skip;          /* bytes that keys are without */
    unsigned                   values:1;
};


/* ngx_http_kv_watch_begin.c */

/*
 * Begins it, or refuses it.  NGX_HTTP_KV_LATER: it can do neither now; else a
 * content handler's result.
 */
ngx_int_t ngx_http_kv_watch_try(ngx_http_kv_watch_t *watch);


/* ngx_http_kv_watch_stop.c */

/* It ends: it is in no list, and gets nothing.  Also the request's cleanup. */
void ngx_http_kv_watch_stop(void *data);

/* It is not tried any more. */
void ngx_http_kv_watch_unhold(ngx_http_kv_watch_t *watch);


/* ngx_http_kv_watch_hold.c */

/* Tries it again, after NGX_HTTP_KV_LATER.  A content handler's result. */
ngx_int_t ngx_http_kv_watch_hold(ngx_http_kv_watch_t *watch);

/* The worker is to end: answers all of them. */
void ngx_http_kv_watch_hold_finish(ngx_http_kv_watches_t *watches);


/* ngx_http_kv_watch_feed.c */

/* It may get what the worker reads, if it has come to where that is. */
void ngx_http_kv_watch_go_live(ngx_http_kv_watch_t *watch);

/* A step of one that is not live, watch->step. */
void ngx_http_kv_watch_take(void *data);

/* The handler of watches->more. */
void ngx_http_kv_watch_more(ngx_event_t *ev);


/* ngx_http_kv_watch_send.c */

/* Ends some if what waits for clients takes too much memory. */
void ngx_http_kv_watch_limit(ngx_http_kv_watches_t *watches);

/* Adds the event of watches->rec to a stream.  Returns its bytes. */
size_t ngx_http_kv_watch_add(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch);

/* Adds the id up to which the stream has all, without an event. */
void ngx_http_kv_watch_id(ngx_http_kv_watch_t *watch, const char *comment);

/* It has text to send, or is to be cut. */
void ngx_http_kv_watch_dirty(ngx_http_kv_watch_t *watch);

/* Sends what some streams have.  Whether others have more. */
ngx_uint_t ngx_http_kv_watch_send_dirty(ngx_http_kv_watches_t *watches);

/* Gives nginx what there is.  NGX_OK, or NGX_DONE: the request has ended. */
ngx_int_t ngx_http_kv_watch_send(ngx_http_kv_watch_t *watch);

/* The request's write event handler. */
void ngx_http_kv_watch_writable(ngx_http_request_t *r);

/* Ends a stream, at once: its client connects again. */
void ngx_http_kv_watch_end(ngx_http_kv_watch_t *watch);

void ngx_http_kv_watch_end_all(ngx_http_kv_watches_t *watches);

/* Ends it so that its client sees that something is missing. */
void ngx_http_kv_watch_cut(ngx_http_kv_watch_t *watch, const char *why);


/* ngx_http_kv_watch_text.c */

/* Adds text to a stream. */
void ngx_http_kv_watch_put(ngx_http_kv_watch_t *watch, const u_char *p,
    size_t n);

/* Gives memory back if all was sent. */
void ngx_http_kv_watch_text_over(ngx_http_kv_watch_t *watch);

/* Frees all of it.  The cleanup of the request's pool. */
void ngx_http_kv_watch_text_free(void *data);


/* ngx_http_kv_watch_beat.c */

/* Some watch: signs of life are sent until none does. */
void ngx_http_kv_watch_beat_start(ngx_http_kv_watches_t *watches);

/* The handler of watches->beat. */
void ngx_http_kv_watch_beat(ngx_event_t *ev);


/* ngx_http_kv_watch_event.c */

/*
 * The text of the event of watches->rec, for this watch.  The chain is good
 * until the next call; NULL: no memory.
 */
ngx_chain_t *ngx_http_kv_watch_event(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch);

/* Frees what the text of the last event takes. */
void ngx_http_kv_watch_event_free(ngx_http_kv_watches_t *watches);


/* ngx_http_kv_watch_index.c */

void ngx_http_kv_watch_index_init(ngx_http_kv_watches_t *watches);

/* Puts a watch into the set of its name, or takes it out. */
ngx_int_t ngx_http_kv_watch_index_add(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch);
void ngx_http_kv_watch_index_remove(ngx_http_kv_watches_t *watches,
    ngx_http_kv_watch_t *watch);

/* The set whose name is the longest that `key` begins with; NULL: there is
   none. */
ngx_http_kv_watch_set_t *ngx_http_kv_watch_index_find(
    ngx_http_kv_watches_t *watches, const ngx_str_t *key);

/* Whether a key, or all (kind), is the watch's. */
ngx_uint_t ngx_http_kv_watch_wants(ngx_http_kv_watch_t *watch,
    const kv_feed_record_t *rec);


#endif /* _NGX_HTTP_KV_WATCH_PRIVATE_H_INCLUDED_ */
