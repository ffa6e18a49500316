
/*
 * Nodes of a cluster that are connected by src/net, all in one thread: each has
 * an IP of its own on the loopback interface.  One that is not stepped is as a
 * process that is stopped.
 */


#ifndef NET_RIG_H
#define NET_RIG_H


#include "net/kv_net.h"


#define NET_RIG_NODES  (KV_NET_PEERS + 1)
#define NET_RIG_FRAME  ((size_t) 1 << 20)
#define NET_RIG_QUEUE  ((size_t) 3 << 20)

/* longer than anything may take on a machine that is busy; ms */
#define NET_RIG_LONG   60000u


typedef struct {
    kv_net_t       *net;
    char            address[64];       /* where clients would connect */
    char            listen[64];
    bool            stopped;           /* is not stepped */
    char            hello[64];         /* what it says */

    /* by the other's number */
    char            heard[NET_RIG_NODES][64];  /* its last hello */
    unsigned        hellos[NET_RIG_NODES];
    bool            up[NET_RIG_NODES];
    unsigned        ups[NET_RIG_NODES];
    unsigned        downs[NET_RIG_NODES];
    unsigned        frames[NET_RIG_NODES];
    uint64_t        seq[NET_RIG_NODES];        /* of the last frame */
    bool            declines[NET_RIG_NODES];   /* its hello */

    bool            odd;               /* takes the next frame for damaged */
    unsigned        lines;             /* logged */
    char            log[16384];
} net_rig_node_t;


extern net_rig_node_t  net_rig[NET_RIG_NODES];
extern unsigned        net_rig_n;

/* An eventfd for the nodes that are started, or -1. */
extern int             net_rig_wake;

/*
 * How long the peers of the nodes that are started may confirm nothing, ms: so
 * long that none is given up because this process stood still, or as it is.
 */
extern unsigned        net_rig_silent;

#define NET_RIG_PATIENT  600000u
#define NET_RIG_DEFAULT  0u

/* Gives `n` nodes their addresses; starts none. */
void net_rig_open(unsigned n);
void net_rig_close(void);

/* Starts a node that knows all others; ends it. */
void net_rig_start(unsigned i);
void net_rig_stop(unsigned i);

/* The place of node `j` among the peers of `i`. */
unsigned net_rig_place(unsigned i, unsigned j);

/* Has all nodes that are not stopped do what can be done. */
void net_rig_step(void);

/* Steps until it is true, NET_RIG_LONG at most: whether it is. */
bool net_rig_until(bool (*true_now)(void));

/* Steps for so many milliseconds. */
void net_rig_run(unsigned ms);

/* Whether all that are there, and not stopped, are connected, both ways. */
bool net_rig_all_up(void);

/*
 * Sends a frame with a number that says what is in it, of `len` bytes, at least
 * 8; what arrives is checked, and must have a higher number than the last one.
 */
kv_rc_t net_rig_send(unsigned from, unsigned to, uint64_t seq, size_t len);
void net_rig_fill(unsigned char *p, uint64_t seq, size_t len);

/* A socket of the test's own, from this IP, connected to a node; blocks. */
int net_rig_connect(const char *ip, unsigned to);

/* One that listens where a node would. */
int net_rig_listen(unsigned i);

/* The 20 bytes before a frame's data; a whole frame: its length. */
void net_rig_head(unsigned char *p, unsigned type, size_t len, uint32_t crc);
size_t net_rig_frame(unsigned char *p, unsigned type, const void *data,
    size_t len);

/* A hello of that name. */
size_t net_rig_hello(unsigned char *p, const char *name, const char *more);

/* Whether the node has closed that connection, without another byte. */
bool net_rig_closed(int fd);


#endif /* NET_RIG_H */
