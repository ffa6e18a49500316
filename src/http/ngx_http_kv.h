
/*
 * What the files of the HTTP side share.  No file calls one above it:
 *
 *     ../ngx_http_kv_module.c    table of directives, what nginx calls
 *     ngx_http_kv_conf.c         configuration: the directive kv_zone
 *     ngx_http_kv_conf_check.c       ... what it must fulfil as a whole
 *     ngx_http_kv_conf_params.c      ... its parameters
 *     ngx_http_kv_conf_cluster.c     ... those of a cluster
 *     ngx_http_kv_conf_location.c    ... the directives of locations
 *     ngx_http_kv_get_variable.c values as variables: kv_get of http{}
 *     ngx_http_kv_get.c              ... and what stream{} has of it, too
 *     ngx_http_kv_handler.c      what a request does, by route and method
 *     ngx_http_kv_batch.c        writes as lines, all or none
 *     ngx_http_kv_bulk.c         writes as lines, of any number
 *     ngx_http_kv_body.c         a PUT's body, straight into the zone
 *     ngx_http_kv_backup.c       backups
 *     ngx_http_kv_keys_delete.c  deletes of all keys that begin alike
 *     ngx_http_kv_watch.c        streams of changes
 *     ngx_http_kv_watch_hold.c       ... that cannot begin yet
 *     ngx_http_kv_watch_begin.c      ... their beginning
 *     ngx_http_kv_watch_feed.c       ... who gets what of the feed
 *     ngx_http_kv_watch_index.c      ... who watches a key
 *     ngx_http_kv_watch_event.c      ... their events
 *     ngx_http_kv_watch_send.c       ... how they are sent
 *     ngx_http_kv_watch_text.c       ... the memory of what is sent
 *     ngx_http_kv_watch_beat.c       ... signs of life
 *     ngx_http_kv_watch_stop.c       ... they leave all lists
 *     ngx_http_kv_keys.c         lists of keys
 *     ngx_http_kv_keys_entry.c       ... their entries
 *     ngx_http_kv_keys_args.c        ... their arguments
 *     ngx_http_kv_page.c             ... the text of a page
 *     ngx_http_kv_worker.c       a zone in a worker: tasks, events, exit
 *     ngx_http_kv_host.c         the helper process of zones with cluster=, and
 *                                what writes get without it
 *     ngx_http_kv_incr.c         requests that are counted: kv_incr
 *     ngx_http_kv_sums.c         ... what is to be written of them
 *     ngx_http_kv_poll.c         a worker that polls for a lone write's result
 *     ngx_http_kv_await.c        reads that wait for a change
 *     ngx_http_kv_later.c        reads that are tried again a moment later
 *     ngx_http_kv_reserve.c      waiting for memory in the zone; evicting
 *     ngx_http_kv_bound.c        keys that the configuration makes
 *     ngx_http_kv_reply.c        answers
 *     ngx_http_kv_intercept.c        ... that error_page takes over
 *     ngx_http_kv_log_variables.c    variables for the log
 *     ngx_http_kv_cluster.c      what a node tells of its cluster
 *     ngx_http_kv_metrics.c      /metrics
 *     ngx_http_kv_stats.c        /stats and the lines at the end
 *     ngx_http_kv_dashboard.c    the page that shows it
 *     ngx_http_kv_counts.c       what it counts: routes, methods, statuses
 *     ngx_http_kv_text.c         lines that have come in part
 *     ngx_http_kv_steps.c        long work in steps, one queue for all kinds
 *     ngx_http_kv_op.c           a request and its operation
 *     ngx_http_kv_wait.c         the order of requests that wait for memory
 *     ngx_http_kv_place.c        a worker's place in a zone, its timers, and
 *                                what it logs, how often
 *     ngx_http_kv_wakes.c        how the processes wake each other
 *     ngx_http_kv_condition.c    If-Match, If-None-Match
 *     ngx_http_kv_args.c         arguments
 *     ngx_http_kv_prefer.c       Prefer
 *     ngx_http_kv_digest.c       Content-Digest
 *     ngx_http_kv_types.c        Content-Type and Content-Encoding: kv_types
 *     ngx_http_kv_key.c          from the request line to the key
 *     ngx_http_kv_expression.c   text with variables in it
 *     ngx_http_kv_filter.c       what caches are told about answers
 *     ngx_http_kv_zone.c         a zone's life: shared memory, directory, lock
 */


#ifndef _NGX_HTTP_KV_H_INCLUDED_
#define _NGX_HTTP_KV_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_thread_pool.h>
#include <pthread.h>

#include "base/kv_key.h"
#include "http/ngx_http_kv_counts.h"
#include "http/ngx_http_kv_get.h"
#include "lines/kv_line.h"
#include "store/kv_store.h"


/*
 * Tasks for commits.  One runs at a time, but the worker may need the next
 * before its event loop has noticed the end of the last.
 */
#define NGX_HTTP_KV_TASKS  4

/* how long the answers to accepted writes may take at exit, milliseconds */
#define NGX_HTTP_KV_EXIT  5000

/* which nginx has no names for: RFC 9110, RFC 6585 */
#define NGX_HTTP_KV_GONE                   410
#define NGX_HTTP_KV_PRECONDITION_REQUIRED  428


typedef struct ngx_http_kv_ctx_s     ngx_http_kv_ctx_t;
typedef struct ngx_http_kv_digest_s  ngx_http_kv_digest_t;
typedef struct ngx_http_kv_sums_s    ngx_http_kv_sums_t;
typedef struct ngx_http_kv_watches_s  ngx_http_kv_watches_t;

typedef void (*ngx_http_kv_wakes_pt)(ngx_http_kv_zone_t *zone);


/* One per configuration cycle; see ngx_http_kv_wakes.c. */

typedef struct {
    ngx_array_t               *zones;         /* ngx_http_kv_main_conf_t's */
    int                       *fds;           /* by ngx_process_slot */
    ngx_uint_t                 n;
    ngx_uint_t                 sure;          /* how many all processes know */
    ngx_connection_t          *connection;    /* a worker's own; or NULL */
    ngx_http_kv_wakes_pt       woken;         /* in a worker */
    ngx_http_kv_wakes_pt       quit;
    unsigned                   owner:1;       /* closes them with its cycle */
} ngx_http_kv_wakes_t;


/* bytes of a client's text that are logged: see ngx_http_kv_shown() */
#define NGX_HTTP_KV_SHOWN  64


/* Messages that each request may cause: see ngx_http_kv_may_log(). */

typedef enum {
    NGX_HTTP_KV_LOG_PLACE = 0,                /* no place for the worker */
    NGX_HTTP_KV_LOG_PATH,                     /* no key in a rewritten path */
    NGX_HTTP_KV_LOG_BODY,                     /* a body that others read */
    NGX_HTTP_KV_LOG_GET,                      /* kv_get: no store to read */
    NGX_HTTP_KV_LOG_LONG,                     /* and a value too long for it */
    NGX_HTTP_KV_LOG_EMPTY,                    /* a part of a key is empty */
    NGX_HTTP_KV_LOG_INCR,                     /* a request is not counted */
    NGX_HTTP_KV_LOG_VALUE,                    /* nor added to that value */
    NGX_HTTP_KV_LOG_DROPPED,                  /* counted requests are lost */
    NGX_HTTP_KV_LOG_HOST,                     /* no process that commits */
    NGX_HTTP_KV_LOGS
} ngx_http_kv_log_t;


/* A kv_zone directive; one per configuration cycle, in the cycle's pool. */

struct ngx_http_kv_zone_s {
    ngx_str_t                  name;
    ngx_str_t                  path;          /* with a zero at the end */
    uint32_t                   ttl;           /* seconds, by default; 0: none */
    kv_dir_id_t                dir_id;        /* when it was read; see below */
    ngx_str_t                  archive;       /* as `path`; or empty */
    kv_dir_id_t                archive_id;
    ngx_str_t                  cluster;       /* as `path`; or empty */
    ngx_str_t                  peers;         /* all of them; or empty */
    ngx_str_t                  peer_listen;   /* as `cluster` */
    ngx_cycle_t               *cycle;
    ngx_log_t                 *log;
    ngx_shm_zone_t            *shm_zone;
    kv_store_conf_t            conf;
    ngx_thread_pool_t         *thread_pool;

    /*
     * Descriptors that master and workers share.  The zone that owns them
     * closes them with its cycle; a reload passes them to the new zone once it
     * cannot fail any more.
     */
    kv_store_dir_t             dir;
    kv_store_dir_t             archive_dir;
    ngx_http_kv_wakes_t       *wakes;         /* for all zones */
    ngx_http_kv_zone_t        *old;           /* the last cycle's */
    unsigned                   owner:1;
    unsigned                   pending:1;     /* new, and not in force yet */
    unsigned                   dir_known:1;   /* dir_id is filled */
    unsigned                   archive_known:1;   /* so is archive_id */
    unsigned                   backed_up:1;   /* a location makes backups */

    kv_store_t                *store;

    /* in the helper process (ngx_http_kv_host.c) */
    pthread_t                  host;
    unsigned                   hosts:1;       /* it is there */

    /* in a worker */
    kv_version_end_t           version_end;   /* of the last tag */
    void                     (*submitted)(ngx_http_kv_zone_t *zone,
                                   unsigned todo);  /* of kv_store_submit() */
    void                     (*woken)(ngx_http_kv_zone_t *zone);
    ngx_event_t                watch;
    ngx_event_t                timeout;       /* kv_store_next_timeout() */
    ngx_event_t                beat;          /* kv_store_beat() */
    ngx_event_t                rest;          /* ngx_http_kv_rest() */
    ngx_event_t                unread;        /* a variable found no store */
    ngx_event_t                poll;          /* ngx_http_kv_poll.c; times */
    uint64_t                   poll_end;      /* are of kv_now_ns() */
    uint64_t                   poll_last;
    uint64_t                   poll_not_before;
    ngx_queue_t                waiting;       /* ctx->waiting, oldest first */
    ngx_queue_t                active;        /* ctx->active: all with an op */
    ngx_queue_t                starving;      /* ctx->starved: small values,
                                                 then the oldest first */
    ngx_queue_t                hungry;        /* ctx->hungers, oldest first */
    ngx_uint_t                 loading;       /* loads with queued groups */
    ngx_queue_t                texts;         /* that come, oldest first, and */
    size_t                     text_bytes;    /* all (ngx_http_kv_text.c) */
    void                      *rebuilding;    /* a batch, or NULL */
    ngx_queue_t                lists;         /* pages that are sent, oldest */
    size_t                     list_bytes;    /* first, and all (..._keys.c) */
    ngx_event_t                retry;         /* of these */
    ngx_queue_t                backups;       /* ngx_http_kv_backup.c */
    ngx_thread_task_t         *commit[NGX_HTTP_KV_TASKS];
    ngx_thread_task_t         *background;
    ngx_uint_t                 awaiting;      /* reads that wait */
    ngx_uint_t                 awaking;       /* they are being answered */
    ngx_event_t                await_again;   /* more of them are collected */
    ngx_event_t                await_watch;
    ngx_http_kv_sums_t        *sums;          /* or NULL */
    ngx_http_kv_watches_t     *watches;       /* or NULL: there were none */
    ngx_uint_t                 watching;      /* of these */
    unsigned                   commit_pending:1;
    unsigned                   draining:1;    /* exiting: no event loop */
    unsigned                   resetting:1;   /* gives all operations up */
    unsigned                   reserving:1;   /* KV_OP_RESERVE under way */
    unsigned                   reserve_first:1; /* the next, for the first */
    time_t                     logged[NGX_HTTP_KV_LOGS];
};


typedef struct {
    ngx_array_t                zones;         /* of ngx_http_kv_zone_t * */
    ngx_array_t                locations;     /* of ngx_http_kv_location_t */
    ngx_array_t                gets;          /* ngx_http_kv_get_variable.c */
    ngx_array_t                incrs;         /* kv_incr (ngx_http_kv_incr.c) */
    ngx_http_kv_wakes_t        wakes;
    unsigned                   in_force:1;    /* it took effect */
} ngx_http_kv_main_conf_t;


/* Of a dashboard, once all of http{} is read. */

typedef struct {
    ngx_str_t                  stores;        /* HTML */
    ngx_str_t                  tag;           /* its ETag */
} ngx_http_kv_dashboard_t;


typedef struct {
    ngx_http_kv_zone_t        *zone;          /* NULL: that of no store */
    ngx_http_kv_route_t        route;
    ngx_uint_t                 key_chars;     /* kv_key_chars_t */
    ngx_http_complex_value_t  *key;           /* or NULL */
    ngx_http_complex_value_t  *prefix;        /* or NULL */
    ngx_uint_t                 max_ops;       /* of a batch */
    size_t                     max_size;      /* bytes of its body */
    off_t                      hold;          /* of log, for a backup */
    size_t                     max_value;     /* bytes; the zone has one, too */
    ngx_flag_t                 read_only;
    ngx_flag_t                 require_match;
    ngx_flag_t                 intercept_errors;
    off_t                      max_left;      /* bytes of a body that may be
                                                 left to others; 0: any */
    ngx_flag_t                 post;
    ngx_array_t               *types;         /* of ngx_str_t, "*" for all; or
                                                 NULL: kv_types is off */
    ngx_http_kv_dashboard_t   *dashboard;     /* or NULL */
    ngx_array_t               *incrs;         /* of those of kmcf; or NULL */
    unsigned                   incr_off:1;    /* none of outer levels */

    /* until nginx has read all of http{}, when the zone is looked up */
    ngx_str_t                  zone_name;
    ngx_str_t                  directive;
    ngx_str_t                  file;
    ngx_uint_t                 line;
    ngx_http_handler_pt        handler;
} ngx_http_kv_loc_conf_t;


/* A location with a directive of ours, in the order of the configuration. */

typedef struct {
    ngx_http_core_srv_conf_t  *server;
    ngx_http_core_loc_conf_t  *core;
    ngx_http_kv_loc_conf_t    *conf;
} ngx_http_kv_location_t;


/*
 * Called once when a submitted operation is done and released, or, with
 * ctx->keeps, to be released by the callee; not called if the zone is rebuilt,
 * or the request ends, before that.
 */
typedef void (*ngx_http_kv_done_pt)(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);

/*
 * Tries again what found no memory in the zone.  KV_NO_MEMORY: there is still
 * none, and nothing has changed.  KV_OK: it went on, the request may be gone.
 */
typedef kv_rc_t (*ngx_http_kv_resume_pt)(ngx_http_kv_ctx_t *ctx);


/*
 * A read meets a group of writes that is just becoming visible: there is no
 * answer now, but a moment later.  No answer's result is this.
 */
#define NGX_HTTP_KV_LATER  NGX_ABORT

/*
 * Answers a read by what is there now; a content handler's result, or
 * NGX_HTTP_KV_LATER.  If `wait` is set and the answer would be one that a
 * request with "wait" is not to get before its time: NGX_BUSY, which no
 * answer's result is, and there is none.
 */
typedef ngx_int_t (*ngx_http_kv_read_pt)(ngx_http_kv_ctx_t *ctx,
    ngx_uint_t wait);


/*
 * `refuse` answers a request that waits in vain, or whose operations are given
 * up, where that takes more than ngx_http_kv_reply_rc().
 */

struct ngx_http_kv_ctx_s {
    ngx_http_request_t        *request;
    ngx_http_kv_zone_t        *zone;
    ngx_str_t                  key;
    ngx_str_t                  prefix;        /* of all keys; or empty */
    kv_key_chars_t             key_chars;     /* of this and other keys */
    kv_version_t               version;       /* of the value, for ETag; that a
                                                 batch has made, or that a list
                                                 shows, or a later one */
    int64_t                    increment;     /* of a POST */
    uint32_t                   ttl;           /* seconds, of a write; 0: none */
    uint64_t                   expires;       /* ms, of a read; 0: never */
    uint32_t                   max_value;     /* bytes, of a write */
    kv_op_t                   *op;            /* NULL: none, or gone */
    kv_op_t                   *first;         /* of a group whose last is op,
                                                 linked by op->data; or NULL */
    ngx_queue_t                active;
    ngx_queue_t                waiting;
    uint64_t                   started;       /* ns */
    uint64_t                   answered;      /* ns; 0: not yet */
    uint64_t                   committed;     /* ns that it waited for commits;
                                                 0: for none */
    ngx_uint_t                 intercepted;   /* the status that was left to
                                                 error_page; 0: none */
    uint32_t                   received;      /* bytes of the body */
    ngx_http_kv_digest_t      *digest;        /* of them; NULL: none is said */
    ngx_str_t                  meta;          /* to be stored beside them
                                                 (base/kv_meta.h); or empty */
    ngx_str_t                  type;          /* of a read, shown; or empty */
    size_t                     type_name;     /* bytes before parameters */
    ngx_str_t                  encoding;      /* the same; or empty */

    /* ngx_http_kv_wait.c, _reserve.c; times are of kv_now_ns() */
    uint32_t                   need;          /* bytes that it waits for */
    ngx_queue_t                starved;
    ngx_http_kv_resume_pt      resume;
    uint64_t                   stuck_since;   /* without any memory */
    uint64_t                   starves_since; /* in the queue, this time */
    uint64_t                   waited;        /* before that */
    ngx_queue_t                hungers;
    uint64_t                   fed;           /* when it last got memory */

    ngx_http_kv_done_pt        done;
    ngx_http_kv_done_pt        refuse;        /* or NULL: see below */
    void                      *bulk;          /* the route's own */
    unsigned                   route:4;       /* ngx_http_kv_route_t */
    unsigned                   submitted:1;   /* in the queue `waiting` */
    unsigned                   adds:1;        /* a POST: increment */
    unsigned                   stores:1;      /* its body is the value */
    unsigned                   unhurried:1;   /* no client waits for it */
    unsigned                   keeps:1;       /* op, until after done() */
    unsigned                   sending:1;     /* op pins what is sent */
    unsigned                   counted:1;     /* in the statistics */
    unsigned                   reserving:1;   /* KV_OP_RESERVE, no request */
    unsigned                   starving:1;    /* in the queue `starving` */
    unsigned                   hungry:1;      /* in the queue `hungry` */
    unsigned                   arrived:1;     /* its bytes are here */
    unsigned                   may_starve:1;  /* its cleanup is there */
    unsigned                   may_end:1;     /* so is that of its op */
    unsigned                   cut:1;         /* evicted */
    unsigned                   taken:1;       /* its body, or a part of it */
    unsigned                   key_good:1;    /* there is one, that may be */
};


extern ngx_module_t  ngx_http_kv_module;


/* ngx_http_kv_conf.c */

/* A callback of ngx_http_module_t. */
void *ngx_http_kv_create_main_conf(ngx_conf_t *cf);

/* The directive kv_zone. */
char *ngx_http_kv_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Makes an expression of a text with variables.  NGX_OK, or NGX_ERROR once it
 * has logged why.
 */
ngx_int_t ngx_http_kv_conf_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_complex_value_t *value);


/* ngx_http_kv_get_variable.c */

/* The directive kv_get. */
char *ngx_http_kv_conf_get(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Postconfiguration: finds the zones of all of them.  NGX_OK, or NGX_ERROR once
 * it has logged which has none, or no variable of its own.
 */
ngx_int_t ngx_http_kv_get_init(ngx_conf_t *cf);


/* ngx_http_kv_conf_location.c */

/* Bytes of a batch's body, at most: see kv_store_group_add(). */
#define NGX_HTTP_KV_BATCH_SIZE  (4 * 1024 * 1024)

/* The directives of locations; cmd->offset is the route. */
char *ngx_http_kv_conf_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* kv_max_value, kv_key_chars. */
char *ngx_http_kv_conf_max_value(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_kv_conf_key_chars(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* The directive kv_metrics. */
char *ngx_http_kv_conf_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* The directive kv_dashboard. */
char *ngx_http_kv_conf_dashboard(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* Callbacks of ngx_http_module_t. */
void *ngx_http_kv_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_kv_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);


/* ngx_http_kv_incr.c */

/* The directive kv_incr. */
char *ngx_http_kv_conf_incr(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Postconfiguration: looks up the zones of all kv_incr.  NGX_OK, or NGX_ERROR
 * once it has logged which has none.
 */
ngx_int_t ngx_http_kv_incr_init(ngx_conf_t *cf);

/*
 * A level of the configuration that was merged: NGX_OK, or NGX_ERROR once it
 * has logged which key without variables is none there.
 */
ngx_int_t ngx_http_kv_incr_check_keys(ngx_conf_t *cf,
    ngx_http_kv_loc_conf_t *klcf);

/* The log phase: counts the request as its location says. */
void ngx_http_kv_incr_log(ngx_http_request_t *r);


/* ngx_http_kv_sums.c */

/*
 * Adds `by` to a key, soon, for one request.  A key without a value gets `ttl`
 * seconds; 0: it does not expire.  The key is valid.  What prevents it is
 * logged and counted.
 */
void ngx_http_kv_sums_add(ngx_http_kv_zone_t *zone, ngx_str_t *key, int64_t by,
    uint32_t ttl);

/* Counts a request that has no key or number to be counted by. */
void ngx_http_kv_sums_refuse(ngx_http_kv_zone_t *zone);

/*
 * With zone->draining: writes what is there.  Whether there is something left
 * for which the caller is to wait, and to call this again.
 */
ngx_uint_t ngx_http_kv_sums_drain(ngx_http_kv_zone_t *zone);

/* The worker has waited long enough: logs and counts what is lost. */
void ngx_http_kv_sums_leave(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_handler.c */

/* The content handlers, by route. */
extern ngx_http_handler_pt  ngx_http_kv_handlers[NGX_HTTP_KV_ROUTES + 1];


/* ngx_http_kv_zone.c */

/* Finds the zone of that name; NULL: there is none. */
ngx_http_kv_zone_t *ngx_http_kv_find_zone(ngx_http_kv_main_conf_t *kmcf,
    const ngx_str_t *name);

/*
 * The zone of shared memory's init callback: makes or takes over the store.
 */
ngx_int_t ngx_http_kv_init_zone(ngx_shm_zone_t *shm_zone, void *data);

/* The bytes of a zone, as its kv_zone says: without those of the feed. */
static inline size_t
ngx_http_kv_zone_size(ngx_http_kv_zone_t *zone)
{
    return zone->shm_zone->shm.size - zone->conf.feed;
}

/* After a configuration took effect: takes the old zone's descriptors over. */
void ngx_http_kv_take_descriptors(ngx_http_kv_zone_t *zone);

/* The master ends, and so do all workers: see kv_store_close(). */
void ngx_http_kv_close(ngx_http_kv_zone_t *zone);

/* Pool cleanup: closes what the zone owns. */
void ngx_http_kv_cleanup_zone(void *data);

/*
 * Pool cleanup of a ngx_http_kv_main_conf_t: if it did not take effect, the
 * zones of the running configuration count that.
 */
void ngx_http_kv_cleanup_conf(void *data);


/* ngx_http_kv_wakes.c */

/*
 * After a configuration took effect, and before
 * ngx_http_kv_take_descriptors(): takes the last cycle's table over, or makes
 * one.  With too few descriptors it is smaller.
 */
ngx_int_t ngx_http_kv_wakes_create(ngx_http_kv_wakes_t *wakes,
    ngx_cycle_t *cycle);

/* Pool cleanup: closes the eventfds, if this table owns them. */
void ngx_http_kv_wakes_cleanup(void *data);

/*
 * In a worker, before its zones enter; and when they have left.  Between them,
 * `woken` is called for each zone when a process wakes the worker, and `quit`
 * when nginx asks it to quit.
 */
void ngx_http_kv_wakes_enter(ngx_http_kv_wakes_t *wakes, ngx_cycle_t *cycle,
    ngx_http_kv_wakes_pt woken, ngx_http_kv_wakes_pt quit);
void ngx_http_kv_wakes_leave(ngx_http_kv_wakes_t *wakes);

/* Whether every process wakes this worker; if not, it must poll. */
ngx_uint_t ngx_http_kv_wakes_sure(ngx_http_kv_wakes_t *wakes);

/*
 * For the time after the event loop: the descriptor to poll, or -1.  Forgets
 * what has woken the worker until now.
 */
int ngx_http_kv_wakes_fd(ngx_http_kv_wakes_t *wakes);


/* ngx_http_kv_host.c */

/*
 * After a configuration took effect: has nginx start the helper process, if a
 * zone has cluster=.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_host_init(ngx_cycle_t *cycle,
    ngx_http_kv_main_conf_t *kmcf);

/*
 * In a worker, while writes wait: answers them with 503, or cuts them off, if
 * there is no helper process for long.  They may happen all the same, later.
 */
void ngx_http_kv_host_missing(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_wait.c */

/* Puts the request into the queue, at `now`, and stops its upload's clock. */
void ngx_http_kv_wait_put(ngx_http_kv_ctx_t *ctx, uint64_t now);

/* Puts a request back that was in the queue: its times go on. */
void ngx_http_kv_wait_queue(ngx_http_kv_ctx_t *ctx);

/* Takes the request out of the queue, so that the caller tries it again. */
void ngx_http_kv_wait_take(ngx_http_kv_ctx_t *ctx);

/* Takes the request out of all queues: it needs no memory any more. */
void ngx_http_kv_wait_leave(ngx_http_kv_ctx_t *ctx);

/* Makes the request hungry: bytes of its value are here, without memory. */
void ngx_http_kv_wait_hunger(ngx_http_kv_ctx_t *ctx);

/* Notes that the request got memory for more of its bytes. */
void ngx_http_kv_wait_fed(ngx_http_kv_ctx_t *ctx);

/* Shows the other workers the oldest of the hungry requests. */
void ngx_http_kv_wait_show(ngx_http_kv_zone_t *zone);

/* Whether the oldest of the hungry requests has got nothing for `ns`. */
ngx_uint_t ngx_http_kv_wait_stuck(ngx_http_kv_zone_t *zone, uint64_t ns);

/* Bytes for which the value still needs memory, as far as that is known. */
uint32_t ngx_http_kv_missing(ngx_http_kv_ctx_t *ctx);


/* ngx_http_kv_place.c */

/*
 * Whether a message that each request may cause is logged now: a worker does so
 * once a second, so that no client fills the error log with it.
 */
ngx_uint_t ngx_http_kv_may_log(ngx_http_kv_zone_t *zone,
    ngx_http_kv_log_t what);

/*
 * What the error log shows of a text that a client may have chosen: writes it
 * to `shown`, which has NGX_HTTP_KV_SHOWN bytes, and returns how many bytes of
 * it that is.  None of them can break a line.
 */
size_t ngx_http_kv_shown(u_char *shown, const ngx_str_t *text);

/*
 * Whether the worker can use the store now.  Tries to get a place in the zone
 * if the worker has none.
 */
ngx_int_t ngx_http_kv_entered(ngx_http_kv_zone_t *zone);

/*
 * In a worker that nginx has asked to quit: gives the worker's place back, soon
 * after this call, unless it has work of ours then.  The worker may serve other
 * locations for hours; for a request of ours it takes a place again
 * (ngx_http_kv_entered()).  In other workers, nothing.
 */
void ngx_http_kv_rest(ngx_http_kv_zone_t *zone);

/* Sets the timers that the zone needs now. */
void ngx_http_kv_set_timers(ngx_http_kv_zone_t *zone);

/*
 * Sets the timer of the next kv_store_beat(), as long as the worker has
 * operations: clients are judged by what it sees of them.
 */
void ngx_http_kv_beat(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_steps.c */

/* Long work of a request; its owner keeps it in the request's pool, zeroed. */

typedef void (*ngx_http_kv_step_pt)(void *data);

typedef struct {
    ngx_http_kv_ctx_t         *ctx;
    ngx_http_kv_step_pt        take;
    void                      *data;
    unsigned                   watches:1;     /* the request ends if its client
                                                 leaves, and it takes long */
    unsigned                   is_short:1;    /* microseconds, and only later */
    /* private */
    unsigned                   queued:1;
    unsigned                   watched:1;
    ngx_uint_t                 round;         /* in which it was queued */
    ngx_uint_t                 n;             /* how often it was queued, */
    ngx_uint_t                 waits;         /* and for later */
    ngx_queue_t                queue;
} ngx_http_kv_step_t;

/* Prepares the worker for the functions below; may be called again. */
void ngx_http_kv_steps_init(ngx_log_t *log);

/*
 * Has step->take(step->data) called, for the next step: when it is its turn, or
 * about a millisecond later than that.  Once, however often this is called
 * before.  With zone->draining, `take` must answer the request.  After
 * ngx_http_kv_step_later() the request may be gone.
 */
void ngx_http_kv_step_next(ngx_http_kv_step_t *step);
void ngx_http_kv_step_later(ngx_http_kv_step_t *step);

/*
 * For a step outside `take`, as the first one is: the present time, or 0: not
 * now, the caller calls ngx_http_kv_step_next().  With that time, the other one
 * is called behind the step.
 */
uint64_t ngx_http_kv_step_begin(void);
void ngx_http_kv_step_end(uint64_t begun);

/* No step is to be taken, for now. */
void ngx_http_kv_step_cancel(ngx_http_kv_step_t *step);

/* Nor one later: the request is about to be answered, or has ended. */
void ngx_http_kv_step_over(ngx_http_kv_step_t *step);

/* At exit: takes all that wait, with zone->draining. */
void ngx_http_kv_steps_drain(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_text.c */

/*
 * Text of lines that is not whole yet.  Its owner keeps it, zeroed but for
 * `step`, which is taken when `cut` gets set: the text was freed for others,
 * and the request is to be answered so.
 */
typedef struct {
    ngx_http_kv_step_t        *step;
    char                      *data;
    size_t                     len;
    unsigned                   cut:1;

    /* private */
    unsigned                   comes:1;       /* in zone->texts */
    size_t                     size;
    uint64_t                   begun;         /* ns */
    ngx_queue_t                queue;
} ngx_http_kv_text_t;

/*
 * Adds bytes, of a text of at most `max`.  NGX_OK; NGX_DECLINED: others take
 * too much; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_text_append(ngx_http_kv_text_t *text, const u_char *p,
    size_t n, size_t max);

/* It is whole: it is not cut any more, and counts until it is freed. */
void ngx_http_kv_text_whole(ngx_http_kv_text_t *text);

/* Frees its memory: it is empty. */
void ngx_http_kv_text_free(ngx_http_kv_text_t *text);


/* ngx_http_kv_op.c */

/*
 * Gives the context an operation, which is released when the request ends.
 * NGX_ERROR: no memory, the operation is released.
 */
ngx_int_t ngx_http_kv_attach(ngx_http_kv_ctx_t *ctx, kv_op_t *op);

/*
 * The same for a pin of what is sent.  It is released when the request's pool
 * goes, because nginx may send from the value until then (ngx_http_kv_reply.c).
 */
ngx_int_t ngx_http_kv_attach_pin(ngx_http_kv_ctx_t *ctx, kv_op_t *op);

/*
 * The same for the operation that the context has, a delete that returns a
 * value in pieces.
 */
ngx_int_t ngx_http_kv_hold(ngx_http_kv_ctx_t *ctx);

/* Releases the context's operation, if it has one. */
void ngx_http_kv_detach(ngx_http_kv_ctx_t *ctx);

/*
 * Takes the operation from a context that has submitted it: what comes of it is
 * told to nobody.  Returns the context that has it now, in the other's place in
 * the queues; NULL: there was no memory for one, the operation is in no queue.
 */
ngx_http_kv_ctx_t *ngx_http_kv_abandon(ngx_http_kv_ctx_t *ctx);

/*
 * Submits the context's operation; `done` is called when it is done.
 */
void ngx_http_kv_submit(ngx_http_kv_ctx_t *ctx, ngx_http_kv_done_pt done);

/*
 * Submits operations that no context has, from `first` to `last`, linked by
 * op->data, of one that has none.  `done` is called once, when all are done;
 * with ctx->keeps it reads their results and releases them.  The request has
 * had ngx_http_kv_attach_groups() called.
 */
void ngx_http_kv_submit_group(ngx_http_kv_ctx_t *ctx, kv_op_t *first,
    kv_op_t *last, ngx_http_kv_done_pt done);

/* Has groups released when the request ends.  NGX_ERROR: no memory. */
ngx_int_t ngx_http_kv_attach_groups(ngx_http_kv_ctx_t *ctx);

/*
 * Adds to ctx->committed how long the context's operation has waited until now;
 * it is submitted.
 */
void ngx_http_kv_waited(ngx_http_kv_ctx_t *ctx);

/* Calls `done` for each operation, or group of them, that is done. */
void ngx_http_kv_complete(ngx_http_kv_zone_t *zone);

/*
 * Ends the connection of a request that sends a value, for good: once this
 * returns, no byte that is in the zone now or later leaves through it.  The
 * request itself ends, and its pool with the pin goes, in this round of the
 * event loop or soon after; nothing is finalized from here, so this may be
 * called from any event handler, more than once, and also while a request
 * that is over waits for its last frames (which belong to its pool still).
 *
 * Why nothing more can leave: a request of HTTP/1 or HTTP/2 has the
 * descriptor of the real connection (HTTP/2's fake connections are copies of
 * it, and the real one is not closed while a stream is there), and once that
 * is shut down, the kernel refuses what nginx still has in r->out, in queued
 * frames, in TLS or in filters.  What the kernel has already is a copy.  The
 * other streams of an HTTP/2 connection end with it: part of a frame may have
 * been sent, so the connection cannot go on.  A stream of HTTP/3 has the
 * listening socket, which it shares, but QUIC copies what it takes, and takes
 * nothing more from a request that has ended.
 */
void ngx_http_kv_cut_connection(ngx_http_request_t *r);

/*
 * Has a request end when its client leaves, until the caller sets its
 * read_event_handler to ngx_http_block_reading; a client that closes its half
 * of the connection counts as one that has left.  Returns whether it does: not
 * a subrequest, nor while the body is being thrown away.
 */
ngx_uint_t ngx_http_kv_watch_client(ngx_http_request_t *r);


/* ngx_http_kv_worker.c */

/*
 * Warns, in one worker and before it enters any, if its thread pools have so
 * few threads that the background work of the zones, and their backups, may
 * take them all.
 */
void ngx_http_kv_check_threads(ngx_cycle_t *cycle, ngx_http_kv_zone_t **zone,
    ngx_uint_t n);

/*
 * The worker's start: prepares the zone, and takes a place in it if one is
 * free.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_enter(ngx_http_kv_zone_t *zone);

/*
 * The worker's exit, after the event loop and before the thread pools are
 * destroyed: all zones of the cycle take no more work, and accepted writes are
 * committed and answered, for 5 seconds at most in all.
 */
void ngx_http_kv_drain(ngx_http_kv_zone_t **zone, ngx_uint_t n);

/* After that, with no thread left: answers what is done, gives the place up. */
void ngx_http_kv_leave(ngx_http_kv_zone_t *zone);

/* Completes operations, evicts, posts tasks, sets timers. */
void ngx_http_kv_process_events(ngx_http_kv_zone_t *zone);

/* A client wants figures: kv_store_ask_disk_space(), and a task for it. */
void ngx_http_kv_ask_disk_space(ngx_http_kv_zone_t *zone);

/* For ngx_http_kv_wakes_enter(). */
void ngx_http_kv_woken(ngx_http_kv_zone_t *zone);
void ngx_http_kv_quit(ngx_http_kv_zone_t *zone);

/* ngx_http_kv_poll.c */

/* Prepares the zone for the functions below. */
void ngx_http_kv_poll_init(ngx_http_kv_zone_t *zone);

/* After a write was submitted: begins to poll for its result, if that pays. */
void ngx_http_kv_poll(ngx_http_kv_zone_t *zone);

/* Stops polling, before the event loop ends: the eventfd tells of results. */
void ngx_http_kv_poll_stop(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_expression.c */

/*
 * Evaluates an expression for a request, into its pool.  NGX_OK; NGX_DECLINED:
 * as well, but a variable in it is empty, or not set; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_expression(ngx_http_request_t *r,
    ngx_http_complex_value_t *expression, ngx_str_t *value);


/* ngx_http_kv_key.c */

/*
 * Finds the key in the request's path, which may have characters of `chars`.
 * NGX_OK with `key` set, into r->uri or in the request's pool; NGX_DECLINED,
 * and what is wrong with it; NGX_ABORT: the path was rewritten, and does not
 * begin with the location's name; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_key(ngx_http_request_t *r, kv_key_chars_t chars,
    ngx_str_t *key, const char **wrong);


/* ngx_http_kv_condition.c */

/* Whether the request has a condition; most have none. */
static inline ngx_uint_t
ngx_http_kv_has_condition(ngx_http_request_t *r)
{
    return r->headers_in.if_match || r->headers_in.if_none_match;
}

/* NGX_OK, or NGX_DECLINED: a condition is no list of tags. */
ngx_int_t ngx_http_kv_condition_check(ngx_http_request_t *r);

/*
 * The status for a GET or HEAD that has found that version: 200, 304 (it has
 * it), 412.
 */
ngx_uint_t ngx_http_kv_condition_get(ngx_http_request_t *r,
    const kv_version_t *version);

/* What is behind ngx_http_kv_condition_put(), of a request that has one. */
kv_rc_t ngx_http_kv_condition_decide(ngx_http_kv_ctx_t *ctx);

/*
 * Decides a write's conditions by what is stored now.  KV_OK: they are true,
 * and the context's operation, if it has one, has what the committer must still
 * check; KV_PRECONDITION, with the version in ctx->version; KV_UNAVAILABLE;
 * KV_AGAIN: a group of writes is just becoming visible, and the committer
 * cannot check them: the caller tries again when the committer has answered it
 * (ngx_http_kv_reserve_wait(), for 0 bytes).
 */
static inline kv_rc_t
ngx_http_kv_condition_put(ngx_http_kv_ctx_t *ctx)
{
    return ngx_http_kv_has_condition(ctx->request)
           ? ngx_http_kv_condition_decide(ctx) : KV_OK;
}


/* ngx_http_kv_args.c */

/*
 * An argument that is a number (base/kv_number.h).  NGX_OK; NGX_DECLINED: there
 * is no such argument; NGX_ERROR: it is no number.  Of several of that name the
 * first counts.
 */
ngx_int_t ngx_http_kv_arg_number(ngx_http_request_t *r, const char *name,
    int64_t *number);

/*
 * The argument "ttl": seconds, from `least` to KV_STORE_TTL_MAX.  Results as
 * above.
 */
ngx_int_t ngx_http_kv_arg_ttl(ngx_http_request_t *r, uint32_t least,
    uint32_t *ttl);


/* An argument that a location knows; the last of a table has no name. */

typedef struct {
    ngx_str_t                  name;
    size_t                     where;         /* its ngx_str_t, in a struct */
} ngx_http_kv_arg_t;

/*
 * Reads all arguments into the struct `values`, decoded, in the request's pool;
 * data == NULL there: it is not given.  NGX_OK; NGX_DECLINED: one is not known,
 * and *wrong is what it was, or one is given twice, and *wrong says so;
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_args_read(ngx_http_request_t *r,
    const ngx_http_kv_arg_t *args, void *values, const char **wrong);


/* ngx_http_kv_prefer.c */

/* Whether a DELETE is to return the value. */
ngx_uint_t ngx_http_kv_prefers_value(ngx_http_request_t *r);


/* ngx_http_kv_digest.c */

/*
 * Reads Content-Digest.  NGX_OK: ctx->digest has begun, or is NULL: the header
 * says none that is checked; NGX_DECLINED: it is malformed; NGX_ERROR.
 */
ngx_int_t ngx_http_kv_digest(ngx_http_kv_ctx_t *ctx);

/* Begins anew, before the first byte.  Whether it did. */
ngx_uint_t ngx_http_kv_digest_begin(ngx_http_kv_digest_t *digest);

/* Adds the next bytes: a microsecond for each kilobyte, or three. */
void ngx_http_kv_digest_add(ngx_http_kv_digest_t *digest, const u_char *data,
    size_t n);

/* Once, after the last byte: whether they are what was sent. */
ngx_uint_t ngx_http_kv_digest_matches(ngx_http_kv_digest_t *digest);


/* ngx_http_kv_types.c */

/* The directive kv_types. */
char *ngx_http_kv_conf_types(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Reads Content-Type and Content-Encoding of a request that stores.  NGX_OK:
 * ctx->meta has them, or is empty where the location does not list the type;
 * NGX_DECLINED: *wrong says what is wrong with them, for
 * ngx_http_kv_reply_wrong(); NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_types_take(ngx_http_kv_ctx_t *ctx, const char **wrong);

/*
 * A line that was read (lines/kv_line.h): NULL, or why its type cannot be
 * stored, as a text that can stand in a JSON string as it is.
 */
const char *ngx_http_kv_types_line(ngx_http_kv_ctx_t *ctx,
    const kv_line_t *line);

/* What a put of a line is made with; `meta` has KV_META_MAX bytes. */
void ngx_http_kv_types_name(const kv_line_t *line, u_char *meta,
    kv_name_t *name);

/*
 * Sets ctx->type and ctx->encoding to those of an entry that was just read, if
 * the location lists that type.  NGX_OK, or NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_types_show(ngx_http_kv_ctx_t *ctx, const kv_entry_t *e);

/* The answer is of ctx->type, which is not empty. */
void ngx_http_kv_types_set(ngx_http_kv_ctx_t *ctx);

/* The answer is another one than the value: its charset and encoding go. */
void ngx_http_kv_types_drop(ngx_http_request_t *r);


/* ngx_http_kv_body.c */

/* Takes a value, up to the answer.  A content handler's result. */
ngx_int_t ngx_http_kv_put(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);

/*
 * Whether `n` bytes are all of a body that was announced: one that was cut
 * short must never be taken for what was sent.
 */
ngx_uint_t ngx_http_kv_body_whole(ngx_http_request_t *r, off_t n);

/*
 * What a request ends with whose body could not be read, for nginx's reason
 * `rc`: a client that left, or is too slow, gets no answer; others get plain
 * text.
 */
ngx_int_t ngx_http_kv_body_error(ngx_http_request_t *r, ngx_int_t rc);


/* ngx_http_kv_batch.c */

/* Takes lines, up to the answer.  A content handler's result. */
ngx_int_t ngx_http_kv_batch(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);


/* ngx_http_kv_bulk.c */

/* Takes lines, up to the answer.  A content handler's result. */
ngx_int_t ngx_http_kv_bulk(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);


/* ngx_http_kv_await.c */

/* How many requests of this worker, in all zones, wait: watches, too. */
extern ngx_uint_t  ngx_http_kv_awaiting;

/* Prepares the zone for the functions below. */
void ngx_http_kv_await_init(ngx_http_kv_zone_t *zone);

/*
 * Answers a GET or HEAD by `read`, now or when there is another answer than one
 * to wait on, but after `seconds` at the latest.  A content handler's result.
 */
ngx_int_t ngx_http_kv_await(ngx_http_kv_ctx_t *ctx, ngx_uint_t seconds,
    ngx_http_kv_read_pt read);

/* When the worker was woken: answers what need not wait any more. */
void ngx_http_kv_await_wake(ngx_http_kv_zone_t *zone);

/* The worker is to end: answers all as if their time was over. */
void ngx_http_kv_await_finish(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_later.c */

/* What ngx_http_kv_later() calls; as ngx_http_kv_read_pt. */
typedef ngx_int_t (*ngx_http_kv_later_pt)(ngx_http_kv_ctx_t *ctx);

/*
 * After NGX_HTTP_KV_LATER: calls `again` a moment later, and once more as long
 * as that is its result; any other ends the request.  A content handler's
 * result.
 */
ngx_int_t ngx_http_kv_later(ngx_http_kv_ctx_t *ctx, ngx_http_kv_later_pt again);


/* ngx_http_kv_backup.c */

/* Sends a backup.  A content handler's result. */
ngx_int_t ngx_http_kv_backup(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);

/* The worker is to end: ends all that are under way. */
void ngx_http_kv_backup_finish(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_watch.c */

/* Sends what changes, until the client leaves.  A content handler's result. */
ngx_int_t ngx_http_kv_watch(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);

/* The worker is to end: ends all, at once. */
void ngx_http_kv_watch_finish(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_watch_feed.c */

/* When the worker was woken: sends what is new. */
void ngx_http_kv_watch_wake(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_keys.c */

/* Answers with a page of keys.  A content handler's result. */
ngx_int_t ngx_http_kv_keys(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);


/* ngx_http_kv_keys_delete.c */

/* Deletes all keys that begin alike, or none.  A content handler's result. */
ngx_int_t ngx_http_kv_keys_delete(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx);


/* ngx_http_kv_bound.c */

/*
 * Evaluates what the location's directive has: key=, to ctx->key, or prefix=,
 * to ctx->prefix.  NGX_DECLINED: the request goes on; else this is the
 * handler's result: a variable is empty, or there is no memory.
 */
ngx_int_t ngx_http_kv_bind(ngx_http_kv_ctx_t *ctx);

/*
 * Puts ctx->prefix, if there is one, before a key or a part of one, in the
 * request's pool.  NGX_OK, or NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_kv_bound_name(ngx_http_kv_ctx_t *ctx, ngx_str_t *name);

/*
 * The same for the key of a line, in one place: it is good until the next call.
 * What is wrong with it then, or with the line's type in this location, without
 * a newline; or NULL.
 */
const char *ngx_http_kv_bound_line(ngx_http_kv_ctx_t *ctx, kv_line_t *line);


/* ngx_http_kv_reserve.c */

/* Prepares the zone for the functions below. */
void ngx_http_kv_reserve_init(ngx_http_kv_zone_t *zone);

/*
 * Has a request wait for `need` bytes of memory (0: for a delete's key and
 * record), and `resume` called when there may be.  It stays in the queue until
 * then, or until it ends.  NGX_OK, or NGX_DECLINED: waiting is in vain, the
 * caller refuses the request.
 */
ngx_int_t ngx_http_kv_reserve_wait(ngx_http_kv_ctx_t *ctx, uint32_t need,
    ngx_http_kv_resume_pt resume);

/* At exit: tries all requests that wait a last time, and refuses them. */
void ngx_http_kv_reserve_drain(ngx_http_kv_zone_t *zone);

/* Ends the uploads and readers that the committer evicts. */
void ngx_http_kv_evict(ngx_http_kv_zone_t *zone);


/* ngx_http_kv_reply.c */

/*
 * Decides what becomes of a body that is not all read when the request is
 * answered, and so of the connection; all replies below call it before they
 * make their header.  A body that is not read yet is read and thrown
 * away (nginx gives it `lingering_time`), and the connection goes on.  Where
 * the next request could not be found - the body is being read, it is not
 * well-formed, or the client waits for 100-continue - the answer says
 * "Connection: close", and the connection is closed once the client had time
 * to read that.  Over HTTP/2 only the stream ends, with NO_ERROR.
 */
void ngx_http_kv_early(ngx_http_request_t *r);

/*
 * Reads the request's body, if it has one, and throws it away.  Results as of
 * ngx_http_discard_request_body().
 */
ngx_int_t ngx_http_kv_discard(ngx_http_kv_ctx_t *ctx);

/*
 * Sends an answer without a value: `text` (NULL: an empty body) as one line.
 * The body may be unread, or half read.  An error that error_page takes over
 * (kv_intercept_errors) is not sent.  A content handler's result.
 */
ngx_int_t ngx_http_kv_reply(ngx_http_request_t *r, ngx_uint_t status,
    const char *text);

/* 400 with a text that has no newline yet. */
ngx_int_t ngx_http_kv_reply_wrong(ngx_http_request_t *r, const char *text);

/*
 * The answer for a result of the store; KV_OK is an empty 200.  With the tag of
 * ctx->version, if there is one and the result is about it.
 */
ngx_int_t ngx_http_kv_reply_rc(ngx_http_request_t *r, kv_rc_t rc);

/* 405, with the methods that the path takes. */
ngx_int_t ngx_http_kv_reply_allow(ngx_http_request_t *r, const char *allow);

/* 400, for a malformed body; the connection closes. */
ngx_int_t ngx_http_kv_reply_body(ngx_http_request_t *r);

/*
 * Finalizes a request from an event that is not its connection's, where nginx
 * does not run the requests that were posted.
 */
void ngx_http_kv_finish(ngx_http_request_t *r, ngx_int_t rc);

/*
 * The `done` of a request's operation: answers it.
 */
void ngx_http_kv_reply_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);

/*
 * The same of an increment, with the sum; and of a delete that returns the
 * value, with that.  Both release the operation, with ctx->keeps.
 */
void ngx_http_kv_reply_sum(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
void ngx_http_kv_reply_returned(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);

/*
 * 200 with the value of an entry that was just read, of ctx->version, or 304 or
 * 412 if the request says so; leaves the epoch.
 */
ngx_int_t ngx_http_kv_reply_value(ngx_http_request_t *r,
    ngx_http_kv_ctx_t *ctx, kv_entry_t *e);

/* 200 with a body of a given type, in one buffer or in some; or in none. */
ngx_int_t ngx_http_kv_reply_buf(ngx_http_request_t *r, const char *type,
    ngx_buf_t *b);
ngx_int_t ngx_http_kv_reply_chain(ngx_http_request_t *r, const char *type,
    ngx_chain_t *out);

/*
 * The header of an answer 200 with a body of `len` bytes, which follows by
 * ngx_http_output_filter(); -1: it is not known.  As ngx_http_send_header().
 */
ngx_int_t ngx_http_kv_reply_begin(ngx_http_request_t *r, const char *type,
    off_t len);

/* Adds a header to the answer.  NGX_OK, or NGX_ERROR: no memory. */
ngx_int_t ngx_http_kv_header(ngx_http_request_t *r, const char *name,
    const char *value);

/* An answer in JSON, of any status. */
ngx_int_t ngx_http_kv_reply_json(ngx_http_request_t *r, ngx_uint_t status,
    ngx_buf_t *b);


/* ngx_http_kv_intercept.c */

/*
 * Whether an error is left to error_page: then the request is to be finalized
 * with that status, and no header is to be added.
 */
ngx_uint_t ngx_http_kv_intercept(ngx_http_request_t *r, ngx_uint_t status);


/* ngx_http_kv_log_variables.c */

/* Preconfiguration: adds them.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_kv_add_log_variables(ngx_conf_t *cf);

/*
 * Has the variables of a request tell of this context, also when nginx takes
 * that from it, for error_page.  NGX_ERROR: no memory, they will not.
 */
ngx_int_t ngx_http_kv_log_keep(ngx_http_kv_ctx_t *ctx);

/* The context that they tell of; NULL: there is none. */
ngx_http_kv_ctx_t *ngx_http_kv_log_ctx(ngx_http_request_t *r);


/* ngx_http_kv_filter.c */

/* Postconfiguration: adds the header filter. */
void ngx_http_kv_filter_init(void);


/* ngx_http_kv_cluster.c */

/* The content handler of kv_cluster. */
ngx_int_t ngx_http_kv_cluster_handler(ngx_http_request_t *r);

/*
 * Whether this node is the one that answers the request, before its body is
 * read.  NGX_DECLINED: it is; else this is the handler's result: 307 to the
 * node that leads, or 503, as none does or is known.
 */
ngx_int_t ngx_http_kv_lead(ngx_http_kv_ctx_t *ctx);

/* Preconfiguration: adds $kv_leader.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_kv_add_leader_variable(ngx_conf_t *cf);


/* ngx_http_kv_metrics.c */

/* The content handler of kv_metrics. */
ngx_int_t ngx_http_kv_metrics_handler(ngx_http_request_t *r);


/* ngx_http_kv_stats.c */

/* What /stats says, in a buffer of the pool's; NULL: no memory. */
ngx_buf_t *ngx_http_kv_stats_json(ngx_pool_t *pool, ngx_http_kv_zone_t *zone);

/* The status that a request ends with. */
ngx_uint_t ngx_http_kv_status(ngx_http_request_t *r);

/* Counts a finished request, once. */
void ngx_http_kv_stats_count(ngx_http_request_t *r, ngx_http_kv_ctx_t *ctx);

/* Writes a line per route and method to the log. */
void ngx_http_kv_stats_log(ngx_http_kv_zone_t *zone, ngx_log_t *log);


/* ngx_http_kv_dashboard.c */

/* The content handler of kv_dashboard. */
ngx_int_t ngx_http_kv_dashboard_handler(ngx_http_request_t *r);

/*
 * Postconfiguration: tells each dashboard where its stores are.  NGX_OK, or
 * NGX_ERROR once it has logged which dashboard has none.
 */
ngx_int_t ngx_http_kv_dashboard_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_KV_H_INCLUDED_ */
