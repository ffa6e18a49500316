
/*
 * What tests of the whole store need: a directory, a zone, I/O that fails to
 * order, and a host, which does for a store what a worker's event loop does.
 */


#ifndef KIT_H
#define KIT_H


#include <pthread.h>

#include "store/kv_handle.h"


/* A kv_io_t that can be told to fail; in shared memory, for all processes. */

typedef struct {
    kv_io_t        io;               /* first */
    kv_io_t        base;
    bool           fast;             /* syncs only count: for process deaths */
    _Atomic int    fail_sync;        /* errno, or 0 */
    _Atomic int    fail_write;
    _Atomic int    slow_sync_us;
    _Atomic int    syncs;
} kit_io_t;


typedef struct {
    kv_store_conf_t   conf;
    char              path[256];
    int               dirfd;
    void             *mem;
    size_t            size;
    unsigned          workers;
    kit_io_t         *io;
    kv_store_t       *store;
    kv_err_t          err;
} kit_t;


/*
 * The address of the node that stores of tests are: NULL, or with
 * KV_TEST_CLUSTER in the environment, and libraft, KIT_ADDRESS.
 */
#define KIT_ADDRESS  "127.0.0.1:8080"

#if KV_HAVE_RAFT
#define KIT_CLUSTERS  1
#else
#define KIT_CLUSTERS  0
#endif

const char *kit_cluster(void);

/* Prepares everything but the store; change conf, then kit_start(). */
void kit_open(kit_t *kit, size_t size, unsigned workers);
void kit_close(kit_t *kit);

/* The eventfds of workers, by the number of their place. */
extern int  kit_wakes[KV_WORKERS_MAX];

/* A new zone from what the directory holds. */
kv_rc_t kit_start(kit_t *kit);
void kit_stop(kit_t *kit);


/*
 * The worker.  Threads commit and do the background work; the caller's thread
 * is the event loop.
 */

typedef struct {
    kv_store_t       *store;
    pthread_t         thread[2];
    pthread_mutex_t   lock;
    pthread_cond_t    cond;
    unsigned          todo;          /* for the threads */
    unsigned          busy;          /* bits that they are at */
    bool              quit;
    bool              no_background;
    bool              hold;          /* keeps KV_TODO_COMMIT in `held` */
    unsigned          held;
    void            (*on_reset)(void *ctx);
    void             *ctx;
    unsigned          resets;
} host_t;


kv_rc_t host_start(host_t *host, kv_store_t *store);

/* False if a thread did not come to its end in time. */
bool host_stop(host_t *host);

void host_post_tasks(host_t *host, unsigned todo);

/* Sleeps until it is woken or the time is over, then polls. */
void host_process_events(host_t *host, int ms);

/* Submits, waits (10 s at most), releases.  KV_BUSY: it did not end. */
kv_rc_t host_run(host_t *host, kv_op_t *op);


/*
 * Keys are numbers; a value says whose it is, which version, and is filled
 * with a byte that follows from both.
 */

size_t kit_key(uint32_t id, char *key);

/* Begins a put and writes all of it; the caller handles KV_NO_MEMORY. */
kv_rc_t kit_begin_put(host_t *host, uint32_t id, uint32_t version,
    uint32_t len, kv_op_t **op);

/*
 * Two of three values have metadata, which are made of `id` and `version`, too,
 * with a type of at most so many bytes, KV_META_TYPE or fewer; 0: none has any.
 */
extern unsigned  kit_typed;

/* The same for a key that expires: seconds, or 0. */
kv_rc_t kit_begin_ttl(host_t *host, uint32_t id, uint32_t version,
    uint32_t len, uint32_t ttl, kv_op_t **op);

/* Begins an upload of `len` bytes, of which `n` have come. */
kv_rc_t kit_upload(kv_store_t *store, const char *key, uint32_t len,
    uint32_t n, kv_op_t **op);

/* Whole operations.  `reserves` counts the KV_OP_RESERVE that were needed. */
kv_rc_t kit_put(host_t *host, uint32_t id, uint32_t version, uint32_t len,
    unsigned *reserves);
kv_rc_t kit_delete(host_t *host, uint32_t id);
kv_rc_t kit_clear(host_t *host);

/* KV_OK with the version, KV_NOT_FOUND, KV_UNAVAILABLE, KV_DAMAGED: torn. */
kv_rc_t kit_get(host_t *host, uint32_t id, uint32_t *version, uint32_t *len);
bool kit_check(const kv_entry_t *e, uint32_t id, uint32_t *version);

/*
 * Whether it is what kit_begin_put() made of these.  Values of less than 8
 * bytes do not say whose they are, and are for this alone.
 */
bool kit_holds(const kv_entry_t *e, uint32_t id, uint32_t version,
    uint32_t len);


/*
 * Waits until nothing is left to free, and compares the heap with what the
 * live keys, the map and the records of living workers take, to the byte.
 * NULL, or what is wrong.
 */
const char *kit_settle(host_t *host);

uint64_t kit_now_ms(void);


#endif /* KIT_H */
