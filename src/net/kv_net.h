
/*
 * The connections between the nodes of a cluster.  They carry frames, whose
 * meaning is the caller's.  A frame arrives whole and as it was sent, or not at
 * all; those that arrive on one connection are in order.  Frames are lost where
 * a peer cannot be reached, is too slow, or a connection ends: the caller sends
 * again what matters.
 *
 * Each node connects to each other one, and sends on that connection; what it
 * receives comes on the one that the peer has made.  So two nodes that connect
 * at the same time need not agree which of two connections stays; and who lost
 * a connection makes a new one without the peer, which may not know it yet.
 *
 * A connection begins with a hello of either side: first of the one that has
 * connected, and, if that is a peer, of the other.  It has the address by which
 * clients know the node, which must be that of a peer with this very IP, and
 * some bytes of the caller's.  No frame leaves before.
 *
 * One thread calls all of these, but for kv_net_wake().  Nothing blocks but
 * kv_net_wait().  Times are of a clock that does not jump.
 *
 * Memory that cannot be allocated ends the process, as in src/raft.
 */


#ifndef KV_NET_H
#define KV_NET_H


#include "base/kv_base.h"


/* Peers at most. */
#define KV_NET_PEERS      8

/* Bytes that a caller may put into a hello. */
#define KV_NET_HELLO_MAX  8192

/* Bytes of a frame besides its data, in kv_net_conf_t's queue. */
#define KV_NET_OVERHEAD   20

/* Of kv_net_wait(): until something happens. */
#define KV_NET_FOREVER    UINT64_MAX


typedef struct kv_net_s  kv_net_t;


typedef struct {
    const char            *address;  /* IP:PORT where clients reach it: the name
                                        of the node among all */
    const char            *listen;   /* IP:PORT where its peers do; "[IP]:PORT"
                                        for version 6 */
} kv_net_node_t;


/*
 * What kv_net_wait() calls; a peer is its place in conf->peers.  They may call
 * kv_net_send() and the like, not kv_net_wait() and kv_net_close().  The data
 * are there until they return.
 */

typedef struct {

    /*
     * The peer says hello: at the beginning of a connection of either side, and
     * whenever it has called kv_net_hello().  KV_OK, or KV_DECLINED: this node
     * has nothing to do with it.  The connection is closed then, and tried
     * again in a second; the caller logs why.
     */
    kv_rc_t (*hello)(void *ctx, unsigned peer, const void *data, size_t len);

    /*
     * A frame of the peer, which has said hello on this connection.  KV_OK, or
     * KV_DAMAGED: no sound peer sends it; the connection is closed.
     */
    kv_rc_t (*receive)(void *ctx, unsigned peer, unsigned type,
        const void *data, size_t len);

    /* Whether what is sent to the peer leaves now; it is called at changes. */
    void (*connected)(void *ctx, unsigned peer, bool up);

} kv_net_ops_t;


typedef struct {
    const char            *zone;     /* for messages */
    kv_net_node_t          self;     /* the IP of `listen` is the source of its
                                        connections, if it is not 0.0.0.0 */
    const kv_net_node_t   *peers;
    unsigned               n;        /* 1 to KV_NET_PEERS */
    size_t                 frame;    /* largest data of a frame, in bytes */
    size_t                 queue;    /* bytes that may wait for a peer, at least
                                        frame + KV_NET_OVERHEAD */
    unsigned               silent;   /* milliseconds after which a connection is
                                        given up whose peer confirms nothing; 0:
                                        750 */
    int                    wake;     /* an eventfd that ends kv_net_wait() when
                                        it is written to, by any process; not
                                        blocking, the caller's; -1: none */
    kv_log_pt              log;
    void                  *log_ctx;
} kv_net_conf_t;


/*
 * Begins to listen and to connect.  `conf` may go, `ops` stays.  `hello`, of
 * `len` bytes, is what is said of this node.  KV_OK, and *net, which
 * kv_net_close() ends; KV_ERROR, `err` filled: an address is none, or the
 * system refused what may be refused.
 *
 * An address where nothing can listen now, because an older process of this
 * node still does, is no error: it is tried again until it works.
 */
kv_rc_t kv_net_open(const kv_net_conf_t *conf, const void *hello, size_t len,
    const kv_net_ops_t *ops, void *ctx, kv_net_t **net, kv_err_t *err);
void kv_net_close(kv_net_t *net);

/*
 * Sends what waits, connects, accepts, receives: all that can be done now; if
 * that is nothing, it waits for `ms` milliseconds at most, or until it is
 * woken.  It may return before anything has happened that the caller sees.
 */
void kv_net_wait(kv_net_t *net, uint64_t ms);

/* Ends a kv_net_wait(), or the next one.  Any thread of this process. */
void kv_net_wake(kv_net_t *net);

/*
 * Another hello from now on: it is sent to all who are connected, too, in order
 * with frames.
 */
void kv_net_hello(kv_net_t *net, const void *hello, size_t len);


/*
 * Sends a frame of that type, 1 to 65535, to a peer; copies the data.  It
 * leaves with the next kv_net_flush() or kv_net_wait().  KV_OK; KV_AGAIN: it is
 * dropped, as the peer is not connected, or too much waits for it already.
 */
kv_rc_t kv_net_send(kv_net_t *net, unsigned peer, unsigned type,
    const void *data, size_t len);

/*
 * The same without a copy: the memory for exactly `len` bytes of data, which
 * the caller fills before it calls anything else here, and then
 * kv_net_commit(); NULL: dropped.
 */
void *kv_net_reserve(kv_net_t *net, unsigned peer, unsigned type, size_t len);
void kv_net_commit(kv_net_t *net, unsigned peer);

/* Gives to the system what it takes of what waits. */
void kv_net_flush(kv_net_t *net);


/* ---- how a peer is */

typedef struct {
    bool                   up;       /* what is sent leaves */
    bool                   heard;    /* it has a connection to us */
    size_t                 waits;    /* bytes in the queue */
    uint64_t               sent;     /* frames, since the beginning */
    uint64_t               received;
    uint64_t               dropped;  /* by kv_net_send() */
    uint64_t               connects; /* how often it was connected */
} kv_net_peer_info_t;

void kv_net_peer_info(const kv_net_t *net, unsigned peer,
    kv_net_peer_info_t *info);

/* Connections of others that were closed, as no peer's or as damaged. */
uint64_t kv_net_refused(const kv_net_t *net);


#endif /* KV_NET_H */
