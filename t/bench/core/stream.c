
/*
 * A worker as nginx would be: one thread with operations in flight, and a pool
 * of two threads, as kv_store.h asks for.
 */


#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/core.h"


typedef struct {
    pool_t             *pool;
    unsigned            i;            /* in pool_bits */
} pool_thread_t;


static const unsigned  pool_bits[] = { KV_TODO_COMMIT, KV_TODO_BACKGROUND };


static void *
pool_run(void *data)
{
    unsigned        bit;
    pool_t         *pool;
    pool_thread_t  *me;

    me = data;
    pool = me->pool;
    bit = pool_bits[me->i];
    atomic_store(&pool->id[me->i], (int) syscall(SYS_gettid));
    free(me);

    (void) pthread_mutex_lock(&pool->lock);

    while (!pool->quit || (pool->todo & bit)) {

        if (!(pool->todo & bit)) {
            (void) pthread_cond_wait(&pool->cond, &pool->lock);
            continue;
        }

        pool->todo &= ~bit;
        (void) pthread_mutex_unlock(&pool->lock);

        if (bit == KV_TODO_COMMIT) {
            written = 0;
            kv_store_commit(pool->store);
            (void) atomic_fetch_add(&committer_written, written);

        } else {
            kv_store_background(pool->store);
        }

        (void) pthread_mutex_lock(&pool->lock);
    }

    (void) pthread_mutex_unlock(&pool->lock);

    return NULL;
}


void
pool_start(pool_t *pool, kv_store_t *store)
{
    unsigned        i;
    pool_thread_t  *thread;

    memset(pool, 0, sizeof(pool_t));
    pool->store = store;
    (void) pthread_mutex_init(&pool->lock, NULL);
    (void) pthread_cond_init(&pool->cond, NULL);

    for (i = 0; i < 2; i++) {
        thread = malloc(sizeof(pool_thread_t));

        if (thread == NULL) {
            fail("thread", "out of memory");
        }

        thread->pool = pool;
        thread->i = i;

        if (pthread_create(&pool->thread[i], NULL, pool_run, thread) != 0) {
            fail("thread", "cannot be made");
        }
    }
}


int
pool_thread_id(pool_t *pool, unsigned todo)
{
    unsigned  i;

    i = todo == pool_bits[0] ? 0 : 1;

    while (atomic_load(&pool->id[i]) == 0) {
        (void) sched_yield();
    }

    return atomic_load(&pool->id[i]);
}


void
pool_post_tasks(pool_t *pool, unsigned todo)
{
    if (todo & KV_TODO_RESET) {
        fail("zone", "it had to be rebuilt");
    }

    if (todo) {
        (void) pthread_mutex_lock(&pool->lock);
        pool->todo |= todo;
        (void) pthread_cond_broadcast(&pool->cond);
        (void) pthread_mutex_unlock(&pool->lock);
    }
}


void
pool_stop(pool_t *pool)
{
    unsigned  i;

    (void) pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    (void) pthread_cond_broadcast(&pool->cond);
    (void) pthread_mutex_unlock(&pool->lock);

    for (i = 0; i < 2; i++) {
        (void) pthread_join(pool->thread[i], NULL);
    }
}


/* The eventfds of all streams, by their places. */

static int  stream_wakes[KV_WORKERS_MAX];


static void
stream_submit(stream_t *s)
{
    kv_op_t     *op;
    kv_store_t  *store;

    store = s->store;
    op = bench_put(store, s->begun % s->keys, s->value);

    if (op == NULL) {
        fail("put", "the zone is full");
    }

    s->op[s->begun % s->max] = op;
    s->begun++;

    pool_post_tasks(&s->pool, kv_store_submit(store, op));
}


void
stream_process_events(stream_t *s, bool more)
{
    kv_rc_t         rc;
    uint64_t        n;
    kv_store_t     *store;
    struct pollfd   pfd;

    store = s->store;

    pfd.fd = stream_wakes[store->number];
    pfd.events = POLLIN;

    if (poll(&pfd, 1, KV_STORE_WATCH) == 1) {
        (void) !read(pfd.fd, &n, sizeof(n));
    }

    pool_post_tasks(&s->pool, kv_store_todo(store));

    while (s->done < s->begun && kv_store_done(s->op[s->done % s->max], &rc)) {

        if (rc != KV_OK) {
            fail("put", "it was refused");
        }

        kv_store_release(store, s->op[s->done % s->max]);
        s->done++;

        if (more) {
            stream_submit(s);
        }
    }
}


void
stream_start(stream_t *s, kv_store_t *store, uint64_t keys, uint32_t value,
    unsigned max)
{
    memset(s, 0, sizeof(stream_t));

    if (max == 0 || max > BENCH_FLIGHT) {
        fail("flight", "not from 1 to 1024");
    }

    if (kv_store_enter(store) != KV_OK) {
        fail("start", "no place");
    }

    stream_wakes[store->number] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    kv_store_wakes(store, stream_wakes, KV_WORKERS_MAX, store->number);

    s->store = store;
    s->keys = keys;
    s->value = value;
    s->max = max;

    pool_start(&s->pool, store);

    while (s->begun < max) {
        stream_submit(s);
    }
}


void
stream_stop(stream_t *s)
{
    while (s->done < s->begun) {
        stream_process_events(s, false);
    }

    pool_stop(&s->pool);

    (void) close(stream_wakes[s->store->number]);

    kv_store_leave(s->store);
}
