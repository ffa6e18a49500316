
/*
 * What kv_incr has counted and not written yet: a sum for each key, in the
 * worker's own memory.
 *
 * Every NGX_HTTP_KV_SUMS_EVERY milliseconds the worker writes the oldest sums:
 * up to NGX_HTTP_KV_SUMS_LEAST of them, or one in NGX_HTTP_KV_SUMS_SHARE if
 * that is more.  So where many keys are counted each is written less often, and
 * the store has less to do than the requests.  A sum is written as an increment
 * like any other, so the committer adds up what all workers count.  Some are
 * submitted at a time, which are one batch of the log, and the next when these
 * are done.
 *
 * A sum is in the table, where it grows, or, once submitted, in `queued`; what
 * is counted of its key then is another sum.  If it was certainly not written
 * (no memory, no space on the disk, an error that may pass) it goes back to the
 * table, and the worker tries again later, as it does while the store is being
 * rebuilt.  If it may have been written or not (the disk failed, or the zone
 * was rebuilt meanwhile), it is dropped: a request counts at most once.
 *
 * What waits takes bounded memory: beyond that, keys that have no sum yet are
 * not counted.
 */


#include "http/ngx_http_kv.h"

#include <sys/random.h>

#include "base/kv_hash.h"
#include "base/kv_number.h"


/* between two rounds; and before the next where writes fail; milliseconds */
#define NGX_HTTP_KV_SUMS_EVERY  100
#define NGX_HTTP_KV_SUMS_PAUSE  1000

/* what a round writes */
#define NGX_HTTP_KV_SUMS_LEAST  256
#define NGX_HTTP_KV_SUMS_SHARE  8

/* increments that are submitted at a time: less than 200 us */
#define NGX_HTTP_KV_SUMS_GROUP  256

/* what may wait in a worker, of one store */
#define NGX_HTTP_KV_SUMS_KEYS   65536
#define NGX_HTTP_KV_SUMS_BYTES  (16 * 1024 * 1024)

#define NGX_HTTP_KV_SUMS_BUCKETS  16384

/* bytes of a key that are logged */
#define NGX_HTTP_KV_SUMS_SHOWN  64


typedef struct ngx_http_kv_sum_s  ngx_http_kv_sum_t;

struct ngx_http_kv_sum_s {
    ngx_queue_t                queue;         /* in `waiting` or `queued` */
    ngx_http_kv_sum_t         *next;          /* in its bucket */
    uint64_t                   hash;
    int64_t                    by;
    uint64_t                   requests;
    uint32_t                   ttl;           /* seconds; 0: none */
    uint16_t                   len;
    u_char                     key[1];
};


struct ngx_http_kv_sums_s {
    ngx_http_kv_ctx_t          ctx;           /* of no request */
    ngx_http_kv_zone_t        *zone;
    ngx_event_t                timer;
    ngx_queue_t                waiting;       /* in the table, oldest first */
    ngx_queue_t                queued;        /* as their operations */
    ngx_uint_t                 n;             /* of both, */
    size_t                     bytes;         /* and their memory */
    ngx_uint_t                 left;          /* of this round */
    uint64_t                   counted[NGX_HTTP_KV_COUNTINGS];
                                              /* since the last round */
    uint64_t                   unlogged;      /* requests that were dropped */
    unsigned                   busy:1;        /* some are submitted, or wait
                                                 for memory in the zone */
    unsigned                   failed:1;      /* the last try */
    unsigned                   exits:1;       /* the worker */
    uint64_t                   seed[2];
    ngx_http_kv_sum_t         *bucket[NGX_HTTP_KV_SUMS_BUCKETS];
};


static ngx_http_kv_sums_t *ngx_http_kv_sums_get(ngx_http_kv_zone_t *zone);
static ngx_http_kv_sum_t **ngx_http_kv_sums_find(ngx_http_kv_sums_t *sums,
    uint64_t hash, const u_char *key, size_t len);
static ngx_http_kv_sum_t *ngx_http_kv_sums_new(ngx_http_kv_sums_t *sums,
    ngx_str_t *key);
static void ngx_http_kv_sums_free(ngx_http_kv_sums_t *sums,
    ngx_http_kv_sum_t *sum);
static size_t ngx_http_kv_sums_size(size_t len);
static void ngx_http_kv_sums_drop(ngx_http_kv_sums_t *sums, uint64_t requests,
    const char *why);
static void ngx_http_kv_sums_set_timer(ngx_http_kv_sums_t *sums);
static void ngx_http_kv_sums_handler(ngx_event_t *ev);
static void ngx_http_kv_sums_count(ngx_http_kv_sums_t *sums);
static void ngx_http_kv_sums_write(ngx_http_kv_sums_t *sums);
static kv_rc_t ngx_http_kv_sums_submit(ngx_http_kv_sums_t *sums);
static void ngx_http_kv_sums_wait(ngx_http_kv_sums_t *sums);
static kv_rc_t ngx_http_kv_sums_again(ngx_http_kv_ctx_t *ctx);
static void ngx_http_kv_sums_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);
static void ngx_http_kv_sums_result(ngx_http_kv_sums_t *sums,
    ngx_http_kv_sum_t *sum, kv_rc_t rc, ngx_queue_t *back);
static void ngx_http_kv_sums_log_value(ngx_http_kv_sums_t *sums,
    ngx_http_kv_sum_t *sum, const char *why);
static void ngx_http_kv_sums_put_back(ngx_http_kv_sums_t *sums,
    ngx_queue_t *back);
static void ngx_http_kv_sums_refused(ngx_http_kv_ctx_t *ctx, kv_rc_t rc);


void
ngx_http_kv_sums_add(ngx_http_kv_zone_t *zone, ngx_str_t *key, int64_t by,
    uint32_t ttl)
{
    int64_t               total;
    uint64_t              hash;
    ngx_http_kv_sum_t    *sum, **bucket;
    ngx_http_kv_sums_t   *sums;

    sums = ngx_http_kv_sums_get(zone);

    if (sums == NULL) {
        return;
    }

    sums->counted[NGX_HTTP_KV_COUNTED]++;

    hash = kv_hash(sums->seed, key->data, key->len);
    bucket = ngx_http_kv_sums_find(sums, hash, key->data, key->len);
    sum = *bucket;

    if (sum == NULL) {
        sum = ngx_http_kv_sums_new(sums, key);

        if (sum == NULL) {
            ngx_http_kv_sums_drop(sums, 1, "too many keys wait to be written");
            return;
        }

        sum->hash = hash;
        sum->ttl = ttl;

        *bucket = sum;
        ngx_queue_insert_tail(&sums->waiting, &sum->queue);

        ngx_http_kv_sums_set_timer(sums);
    }

    if (__builtin_add_overflow(sum->by, by, &total)) {
        ngx_http_kv_sums_drop(sums, 1, "a sum has more than 64 bits");
        return;
    }

    sum->by = total;
    sum->requests++;
}


void
ngx_http_kv_sums_refuse(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_sums_t  *sums;

    sums = ngx_http_kv_sums_get(zone);

    if (sums) {
        sums->counted[NGX_HTTP_KV_COUNTED]++;
        sums->counted[NGX_HTTP_KV_COUNTED_REFUSED]++;

        ngx_http_kv_sums_set_timer(sums);
    }
}


/* Those of the zone, which are made with the first request; NULL: no memory. */

static ngx_http_kv_sums_t *
ngx_http_kv_sums_get(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_sums_t  *sums;

    if (zone->sums) {
        return zone->sums;
    }

    sums = ngx_calloc(sizeof(ngx_http_kv_sums_t), zone->log);

    if (sums == NULL
        || getrandom(sums->seed, sizeof(sums->seed), 0) != sizeof(sums->seed))
    {
        ngx_free(sums);
        return NULL;
    }

    sums->zone = zone;
    ngx_queue_init(&sums->waiting);
    ngx_queue_init(&sums->queued);

    sums->timer.handler = ngx_http_kv_sums_handler;
    sums->timer.data = sums;
    sums->timer.log = zone->log;
    sums->timer.cancelable = 1;

    sums->ctx.zone = zone;
    sums->ctx.bulk = sums;
    sums->ctx.refuse = ngx_http_kv_sums_refused;
    sums->ctx.keeps = 1;
    sums->ctx.unhurried = 1;
    sums->ctx.may_starve = 1;

    zone->sums = sums;

    return sums;
}


/* Where the key's sum hangs, or would. */

static ngx_http_kv_sum_t **
ngx_http_kv_sums_find(ngx_http_kv_sums_t *sums, uint64_t hash,
    const u_char *key, size_t len)
{
    ngx_http_kv_sum_t  **sum;

    for (sum = &sums->bucket[hash % NGX_HTTP_KV_SUMS_BUCKETS];
         *sum;
         sum = &(*sum)->next)
    {
        if ((*sum)->hash == hash && (*sum)->len == len
            && ngx_memcmp((*sum)->key, key, len) == 0)
        {
            break;
        }
    }

    return sum;
}


/* A sum of nothing, in no list; NULL: there are as many as may be. */

static ngx_http_kv_sum_t *
ngx_http_kv_sums_new(ngx_http_kv_sums_t *sums, ngx_str_t *key)
{
    size_t              size;
    ngx_http_kv_sum_t  *sum;

    size = ngx_http_kv_sums_size(key->len);

    if (sums->n == NGX_HTTP_KV_SUMS_KEYS
        || size > NGX_HTTP_KV_SUMS_BYTES - sums->bytes)
    {
        return NULL;
    }

    sum = ngx_alloc(size, sums->zone->log);

    if (sum == NULL) {
        return NULL;
    }

    sums->n++;
    sums->bytes += size;

    sum->next = NULL;
    sum->by = 0;
    sum->requests = 0;
    sum->len = (uint16_t) key->len;
    ngx_memcpy(sum->key, key->data, key->len);

    return sum;
}


static void
ngx_http_kv_sums_free(ngx_http_kv_sums_t *sums, ngx_http_kv_sum_t *sum)
{
    sums->n--;
    sums->bytes -= ngx_http_kv_sums_size(sum->len);

    ngx_free(sum);
}


static size_t
ngx_http_kv_sums_size(size_t len)
{
    return offsetof(ngx_http_kv_sum_t, key) + len;
}


/* Requests are lost for good. */

static void
ngx_http_kv_sums_drop(ngx_http_kv_sums_t *sums, uint64_t requests,
    const char *why)
{
    sums->counted[NGX_HTTP_KV_COUNTED_DROPPED] += requests;
    sums->unlogged += requests;

    if (!ngx_http_kv_may_log(sums->zone, NGX_HTTP_KV_LOG_DROPPED)) {
        return;
    }

    ngx_log_error(NGX_LOG_ERR, sums->zone->log, 0,
                  "kv zone \"%V\": \"kv_incr\" does not count %uL request%s: "
                  "%s", &sums->zone->name, sums->unlogged,
                  sums->unlogged == 1 ? "" : "s", why);

    sums->unlogged = 0;
}


/* Unless the next round is under way, or the worker exits. */

static void
ngx_http_kv_sums_set_timer(ngx_http_kv_sums_t *sums)
{
    if (!sums->busy && !sums->timer.timer_set && !sums->zone->draining) {
        ngx_add_timer(&sums->timer, sums->failed ? NGX_HTTP_KV_SUMS_PAUSE
                                                 : NGX_HTTP_KV_SUMS_EVERY);
    }
}


static void
ngx_http_kv_sums_handler(ngx_event_t *ev)
{
    ngx_http_kv_sums_t *sums = ev->data;

    sums->left = ngx_max(sums->n / NGX_HTTP_KV_SUMS_SHARE,
                         NGX_HTTP_KV_SUMS_LEAST);
    sums->failed = 0;

    ngx_http_kv_sums_write(sums);
}


/* Takes what was counted into the statistics. */

static void
ngx_http_kv_sums_count(ngx_http_kv_sums_t *sums)
{
    ngx_uint_t  i;

    if (!kv_store_entered(sums->zone->store)) {
        return;
    }

    for (i = 0; i < NGX_HTTP_KV_COUNTINGS; i++) {

        if (sums->counted[i]) {
            ngx_http_kv_counts_counting(sums->zone->store, i,
                                        sums->counted[i]);
            sums->counted[i] = 0;
        }
    }
}


/* The next increments of this round, or the timer of the next one. */

static void
ngx_http_kv_sums_write(ngx_http_kv_sums_t *sums)
{
    kv_rc_t              rc;
    ngx_http_kv_zone_t  *zone;

    zone = sums->zone;
    rc = KV_UNAVAILABLE;

    if (ngx_http_kv_entered(zone) == NGX_OK) {
        ngx_http_kv_sums_count(sums);

        if (ngx_queue_empty(&sums->waiting)) {
            return;
        }

        if (sums->left == 0) {
            ngx_http_kv_sums_set_timer(sums);
            return;
        }

        rc = ngx_http_kv_sums_submit(sums);

        if (rc == KV_UNAVAILABLE && !sums->exits) {

            /* a rebuild may have to be started from here */

            zone->woken(zone);
        }
    }

    switch (rc) {

    case KV_OK:
        return;

    case KV_NO_MEMORY:
        ngx_http_kv_sums_wait(sums);
        return;

    default:
        sums->failed = 1;
        ngx_http_kv_sums_set_timer(sums);
    }
}


/*
 * Submits the oldest sums.  KV_OK: some of them, at least; KV_NO_MEMORY,
 * KV_UNAVAILABLE: none.
 */

static kv_rc_t
ngx_http_kv_sums_submit(ngx_http_kv_sums_t *sums)
{
    kv_rc_t              rc;
    kv_op_t             *op, *first, *last;
    ngx_uint_t           n;
    ngx_queue_t         *q;
    ngx_http_kv_sum_t   *sum, **bucket;

    rc = KV_OK;
    first = NULL;
    last = NULL;

    for (n = ngx_min(sums->left, NGX_HTTP_KV_SUMS_GROUP);
         n && !ngx_queue_empty(&sums->waiting);
         n--)
    {
        q = ngx_queue_head(&sums->waiting);
        sum = ngx_queue_data(q, ngx_http_kv_sum_t, queue);

        rc = kv_store_increment(sums->zone->store, sum->key, sum->len, sum->by,
                                sum->ttl, &op);
        if (rc != KV_OK) {
            break;
        }

        if (last) {
            last->data = op;

        } else {
            first = op;
        }

        last = op;
        sums->left--;

        bucket = ngx_http_kv_sums_find(sums, sum->hash, sum->key, sum->len);
        *bucket = sum->next;

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&sums->queued, q);
    }

    if (first == NULL) {
        return rc;
    }

    sums->busy = 1;

    ngx_http_kv_submit_group(&sums->ctx, first, last, ngx_http_kv_sums_done);

    return KV_OK;
}


/* The zone has no memory for the oldest of them. */

static void
ngx_http_kv_sums_wait(ngx_http_kv_sums_t *sums)
{
    ngx_queue_t        *q;
    ngx_http_kv_sum_t  *sum;

    q = ngx_queue_head(&sums->waiting);
    sum = ngx_queue_data(q, ngx_http_kv_sum_t, queue);

    sums->busy = 1;
    sums->ctx.started = kv_now_ns();
    sums->ctx.waited = 0;

    if (sums->zone->draining
        || ngx_http_kv_reserve_wait(&sums->ctx, sum->len + KV_NUMBER_MAX,
                                    ngx_http_kv_sums_again)
           != NGX_OK)
    {
        ngx_http_kv_sums_refused(&sums->ctx, KV_NO_MEMORY);
    }
}


static kv_rc_t
ngx_http_kv_sums_again(ngx_http_kv_ctx_t *ctx)
{
    kv_rc_t              rc;
    ngx_http_kv_sums_t  *sums;

    sums = ctx->bulk;
    rc = ngx_http_kv_sums_submit(sums);

    if (rc == KV_OK || rc == KV_NO_MEMORY) {
        return rc;
    }

    sums->busy = 0;
    sums->failed = 1;
    ngx_http_kv_sums_set_timer(sums);

    return KV_OK;
}


static void
ngx_http_kv_sums_done(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    kv_op_t             *op;
    ngx_queue_t          back, *q;
    ngx_http_kv_sums_t  *sums;

    sums = ctx->bulk;
    op = ctx->first;

    ngx_queue_init(&back);

    while (!ngx_queue_empty(&sums->queued)) {
        q = ngx_queue_head(&sums->queued);
        ngx_queue_remove(q);

        (void) kv_store_done(op, &rc);

        ngx_http_kv_sums_result(sums,
                                ngx_queue_data(q, ngx_http_kv_sum_t, queue),
                                rc, &back);
        op = op->data;
    }

    ngx_http_kv_detach(ctx);

    sums->busy = 0;

    if (!ngx_queue_empty(&back)) {
        ngx_http_kv_sums_put_back(sums, &back);
        sums->failed = 1;
        ngx_http_kv_sums_set_timer(sums);
        return;
    }

    /* at exit the caller goes on */

    if (!sums->zone->draining) {
        ngx_http_kv_sums_write(sums);
    }
}


/* What has become of a sum, which leaves `queued`. */

static void
ngx_http_kv_sums_result(ngx_http_kv_sums_t *sums, ngx_http_kv_sum_t *sum,
    kv_rc_t rc, ngx_queue_t *back)
{
    switch (rc) {

    case KV_OK:
        break;

    case KV_NO_MEMORY:
    case KV_NO_SPACE:
    case KV_REFUSED:
        ngx_queue_insert_tail(back, &sum->queue);
        return;

    case KV_NOT_INTEGER:
        ngx_http_kv_sums_log_value(sums, sum, "its value is not an integer");
        break;

    case KV_OVERFLOW:
        ngx_http_kv_sums_log_value(sums, sum, "integer overflow");
        break;

    default:
        ngx_http_kv_sums_drop(sums, sum->requests, "a write that has failed "
                              "may have counted them, and none counts twice");
    }

    ngx_http_kv_sums_free(sums, sum);
}


static void
ngx_http_kv_sums_log_value(ngx_http_kv_sums_t *sums, ngx_http_kv_sum_t *sum,
    const char *why)
{
    size_t  n;

    sums->counted[NGX_HTTP_KV_COUNTED_REFUSED] += sum->requests;

    if (!ngx_http_kv_may_log(sums->zone, NGX_HTTP_KV_LOG_VALUE)) {
        return;
    }

    n = ngx_min(sum->len, NGX_HTTP_KV_SUMS_SHOWN);

    ngx_log_error(NGX_LOG_ERR, sums->zone->log, 0,
                  "kv zone \"%V\": \"kv_incr\" cannot add %L to the key "
                  "\"%*s%s\": %s", &sums->zone->name, sum->by, n, sum->key,
                  n < sum->len ? "..." : "", why);
}


/* As the oldest; or to what was counted of the same key meanwhile. */

static void
ngx_http_kv_sums_put_back(ngx_http_kv_sums_t *sums, ngx_queue_t *back)
{
    int64_t              total;
    ngx_queue_t         *q;
    ngx_http_kv_sum_t   *sum, *newer, **bucket;

    while (!ngx_queue_empty(back)) {
        q = ngx_queue_last(back);
        ngx_queue_remove(q);

        sum = ngx_queue_data(q, ngx_http_kv_sum_t, queue);
        bucket = ngx_http_kv_sums_find(sums, sum->hash, sum->key, sum->len);
        newer = *bucket;

        if (newer) {

            if (__builtin_add_overflow(sum->by, newer->by, &total)) {
                ngx_http_kv_sums_drop(sums, newer->requests,
                                      "a sum has more than 64 bits");

            } else {
                sum->by = total;
                sum->requests += newer->requests;
            }

            *bucket = newer->next;
            ngx_queue_remove(&newer->queue);
            ngx_http_kv_sums_free(sums, newer);

            bucket = ngx_http_kv_sums_find(sums, sum->hash, sum->key,
                                           sum->len);
        }

        sum->next = NULL;
        *bucket = sum;
        ngx_queue_insert_head(&sums->waiting, q);
    }
}


/*
 * They wait for memory in vain; or the zone is to be rebuilt, which takes all
 * operations away.
 */

static void
ngx_http_kv_sums_refused(ngx_http_kv_ctx_t *ctx, kv_rc_t rc)
{
    ngx_queue_t          none, *q;
    ngx_http_kv_sums_t  *sums;

    sums = ctx->bulk;

    if (rc == KV_NO_MEMORY) {
        kv_store_refused(sums->zone->store);
    }

    ngx_queue_init(&none);

    while (!ngx_queue_empty(&sums->queued)) {
        q = ngx_queue_head(&sums->queued);
        ngx_queue_remove(q);

        ngx_http_kv_sums_result(sums,
                                ngx_queue_data(q, ngx_http_kv_sum_t, queue),
                                KV_UNAVAILABLE, &none);
    }

    sums->busy = 0;
    sums->failed = 1;
    ngx_http_kv_sums_set_timer(sums);
}


ngx_uint_t
ngx_http_kv_sums_drain(ngx_http_kv_zone_t *zone)
{
    ngx_http_kv_sums_t  *sums;

    sums = zone->sums;

    if (sums == NULL) {
        return 0;
    }

    if (!sums->exits) {
        sums->exits = 1;
        sums->failed = 0;
    }

    if (!sums->busy && !sums->failed) {
        sums->left = sums->n;
        ngx_http_kv_sums_write(sums);
    }

    return sums->busy;
}


void
ngx_http_kv_sums_leave(ngx_http_kv_zone_t *zone)
{
    uint64_t             requests;
    ngx_queue_t         *q, *lists[2];
    ngx_uint_t           i;
    ngx_http_kv_sum_t   *sum;
    ngx_http_kv_sums_t  *sums;

    sums = zone->sums;

    if (sums == NULL) {
        return;
    }

    lists[0] = &sums->waiting;
    lists[1] = &sums->queued;
    requests = 0;

    for (i = 0; i < 2; i++) {
        for (q = ngx_queue_head(lists[i]);
             q != ngx_queue_sentinel(lists[i]);
             q = ngx_queue_next(q))
        {
            sum = ngx_queue_data(q, ngx_http_kv_sum_t, queue);
            requests += sum->requests;
        }
    }

    sums->counted[NGX_HTTP_KV_COUNTED_DROPPED] += requests;
    ngx_http_kv_sums_count(sums);

    if (requests) {
        ngx_log_error(NGX_LOG_ERR, zone->log, 0,
                      "kv zone \"%V\": the worker exits, and could not write "
                      "what \"kv_incr\" has counted: %uL request%s to %ui "
                      "key%s are lost", &zone->name, requests,
                      requests == 1 ? "" : "s", sums->n,
                      sums->n == 1 ? "" : "s");
    }
}
