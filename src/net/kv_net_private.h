
/*
 * What the files of this folder share.
 *
 * A frame, all numbers little-endian:
 *
 *      0  4  "KVN" and the version of the protocol, 1
 *      4  4  bytes of data
 *      8  2  type; 0: a hello
 *     10  2  0
 *     12  4  CRC32C of the data
 *     16  4  CRC32C of these 16 bytes
 *     20     data
 *
 * The head has a checksum of its own: a wrong length is noticed at once, and
 * not when as many bytes have come.
 *
 * A hello's data: 2 bytes with the length of the address by which clients know
 * the node, the address, then what the caller has to say.
 */


#ifndef KV_NET_PRIVATE_H
#define KV_NET_PRIVATE_H


#include <netinet/in.h>
#include <sys/socket.h>

#include "net/kv_net.h"


#define KV_NET_VERSION         1

#define KV_NET_HELLO           0     /* type of its frame */
#define KV_NET_HELLO_DATA      (2 + KV_ADDRESS_MAX + KV_NET_HELLO_MAX)

/* connections to us of which nobody has said hello yet; and all of them */
#define KV_NET_STRANGERS       16
#define KV_NET_ACCEPTED        (KV_NET_PEERS + KV_NET_STRANGERS)

/* memory that a connection keeps */
#define KV_NET_BUFFER          ((size_t) 16 << 10)
#define KV_NET_BUFFER_MAX      ((size_t) 1 << 20)

/* milliseconds */
#define KV_NET_CONNECT         500   /* until a connection is there, */
#define KV_NET_GREET           1000  /* until hello is said on it, */
#define KV_NET_SILENT          750   /* until what was sent is confirmed */
#define KV_NET_PAUSE           50    /* before it is tried again: this and a */
#define KV_NET_PAUSE_MORE      150   /* random part of that; */
#define KV_NET_PAUSE_REFUSED   1000  /* or this, if one side does not want to */
#define KV_NET_PAUSE_LISTEN    100   /* before listening is tried again, or
                                        accepting, where that fails */
#define KV_NET_RELOAD          5000  /* after which that is a fault */
#define KV_NET_PAUSE_LOG       10000 /* between two messages of a kind */


typedef union {
    struct sockaddr        any;
    struct sockaddr_in     in;
    struct sockaddr_in6    in6;
} kv_net_address_t;


/* Text of an address, with its port. */
#define KV_NET_TEXT            64


/* Bytes that wait, in the order that they came. */

typedef struct {
    unsigned char         *p;
    size_t                 size;
    size_t                 first;
    size_t                 end;
} kv_net_buffer_t;


typedef struct {
    unsigned               type;
    size_t                 len;
    uint32_t               crc;
    const unsigned char   *data;
} kv_net_frame_t;


/* A connection.  It has the place, and the tag of its events, for ever. */

typedef struct {
    int                    fd;       /* -1: there is none */
    uint64_t               tag;
    int                    error;    /* errno: to be closed for that */
    unsigned               peer;     /* net->n: not known yet */
    bool                   connecting;
    bool                   known;    /* has said hello, and may stay */
    bool                   full;     /* the system takes no more for now */
    uint64_t               since;
    uint64_t               deadline; /* for what comes next; 0: none */
    kv_net_buffer_t        in;
    kv_net_buffer_t        out;
    size_t                 reserved; /* bytes of data behind `out` */
    unsigned               type;     /* of what is reserved */
} kv_net_conn_t;


typedef struct {
    uint64_t               next;     /* when it may be said again */
    unsigned               more;     /* how often it was not */
} kv_net_limit_t;


typedef struct {
    char                   name[KV_ADDRESS_MAX + 1];
    char                   where[KV_NET_TEXT];
    kv_net_address_t       address;

    kv_net_conn_t          out;      /* what we send */
    kv_net_conn_t         *in;       /* what it sends; NULL: nothing */
    uint64_t               retry;    /* when to connect again */
    bool                   missed;   /* it was logged that it is not there */
    unsigned               hangups;  /* on our hello, one after the other */
    kv_net_limit_t         came;
    kv_net_limit_t         went;
    kv_net_limit_t         odd;

    uint64_t               sent;
    uint64_t               received;
    uint64_t               dropped;
    uint64_t               connects;
} kv_net_peer_t;


struct kv_net_s {
    const kv_net_ops_t    *ops;
    void                  *ctx;
    kv_log_pt              log;
    void                  *log_ctx;
    char                   zone[256];
    char                   name[KV_ADDRESS_MAX + 1];
    char                   where[KV_NET_TEXT];
    kv_net_address_t       address;  /* where it listens */
    size_t                 frame;
    size_t                 queue;
    unsigned               silent;

    int                    epoll;
    int                    woken;    /* eventfd of kv_net_wake() */
    int                    wake;     /* the caller's, or -1 */
    int                    listener;
    uint64_t               listen_retry;
    bool                   deaf;     /* accepts nothing until listen_retry */
    kv_net_limit_t         not_listening;
    kv_net_limit_t         strange;
    uint64_t               refused;

    uint64_t               begun;
    unsigned               random;
    size_t                 hello_len;
    unsigned char          hello[KV_NET_HELLO_DATA];

    unsigned               n;
    kv_net_peer_t          peers[KV_NET_PEERS];
    kv_net_conn_t          accepted[KV_NET_ACCEPTED];
};


/* Events are told apart by these; peers and places in `accepted` follow. */

enum {
    KV_NET_TAG_WOKEN = 0,
    KV_NET_TAG_WAKE,
    KV_NET_TAG_LISTENER,
    KV_NET_TAG_PEERS,
    KV_NET_TAG_ACCEPTED = KV_NET_TAG_PEERS + KV_NET_PEERS
};


/* ---- kv_net_log.c */

/* Logs a message behind the zone's name, if the limit, or NULL, allows it. */
void kv_net_log(kv_net_t *net, kv_net_limit_t *limit, kv_log_level_t level,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Milliseconds of a clock that does not jump. */
uint64_t kv_net_now(void);


/* ---- kv_net_address.c */

/* "IP:PORT" or "[IP]:PORT": KV_OK, KV_DAMAGED. */
kv_rc_t kv_net_address_read(const char *text, kv_net_address_t *address);

/* Its text, KV_NET_TEXT bytes at most; returns it. */
const char *kv_net_address_write(const kv_net_address_t *address, char *text);

socklen_t kv_net_address_size(const kv_net_address_t *address);
bool kv_net_address_same_ip(const kv_net_address_t *a,
    const kv_net_address_t *b);
bool kv_net_address_is_any(const kv_net_address_t *address);


/* ---- kv_net_buffer.c */

/* The memory for `n` more bytes; kv_net_buffer_add() then adds them. */
unsigned char *kv_net_buffer_reserve(kv_net_buffer_t *b, size_t n);
void kv_net_buffer_add(kv_net_buffer_t *b, size_t n);

/* Takes the first `n` away; those that follow stay where they are. */
void kv_net_buffer_take(kv_net_buffer_t *b, size_t n);

/* Gives memory back if it is empty, and has much; all of it. */
void kv_net_buffer_trim(kv_net_buffer_t *b);
void kv_net_buffer_free(kv_net_buffer_t *b);

static inline size_t
kv_net_buffer_len(const kv_net_buffer_t *b)
{
    return b->end - b->first;
}


/* ---- kv_net_frame.c */

/* Writes the head of a frame in front of its data, which is there already. */
void kv_net_frame_write(unsigned char *p, unsigned type, size_t len);

/*
 * The frame that begins the `n` bytes at p.  KV_OK; KV_AGAIN: it is not whole,
 * f->len is the length of its data, if so much is known, else 0; KV_DAMAGED:
 * it is none, or has more than `max` bytes of data.
 */
kv_rc_t kv_net_frame_read(const unsigned char *p, size_t n, size_t max,
    kv_net_frame_t *f);

/* Puts a hello into net->hello. */
void kv_net_hello_write(kv_net_t *net, const void *data, size_t len);

/* The address and the rest: KV_OK, KV_DAMAGED. */
kv_rc_t kv_net_hello_read(const kv_net_frame_t *f, const char **name,
    size_t *name_len, const unsigned char **data, size_t *len);


/* ---- kv_net_conn.c */

/* Has the socket's events from now on; KV_ERROR: errno, it is closed. */
kv_rc_t kv_net_conn_open(kv_net_t *net, kv_net_conn_t *c, int fd,
    bool connecting);
void kv_net_conn_close(kv_net_conn_t *c);

/* Reads once: KV_OK, also if nothing came; KV_ERROR: it ended, c->error. */
kv_rc_t kv_net_conn_receive(kv_net_conn_t *c, size_t max);

/* The next frame: KV_OK; KV_AGAIN: not yet; KV_DAMAGED. */
kv_rc_t kv_net_conn_frame(kv_net_conn_t *c, size_t max, kv_net_frame_t *f);

/* Appends a frame to what is to be sent. */
void *kv_net_conn_reserve(kv_net_conn_t *c, unsigned type, size_t len);
void kv_net_conn_commit(kv_net_conn_t *c);
void kv_net_conn_hello(kv_net_t *net, kv_net_conn_t *c);

/* Gives to the system what it takes; an error is in c->error. */
void kv_net_conn_send(kv_net_t *net, kv_net_conn_t *c);


/* ---- kv_net_socket.c: -1: errno */

int kv_net_socket_listen(const kv_net_address_t *address);
int kv_net_socket_accept(int listener, unsigned silent,
    kv_net_address_t *from);

/* Begins to connect; the connection may be there at once. */
int kv_net_socket_connect(const kv_net_address_t *from, unsigned silent,
    const kv_net_address_t *to);

/* What became of that: 0, or errno. */
int kv_net_socket_error(int fd);


/* ---- kv_net_out.c: the connections on which we send */

/* Connects if it is time; ends what takes too long, or failed. */
void kv_net_out_timeout(kv_net_t *net, unsigned peer, uint64_t now);

/* When that is due, or KV_NET_FOREVER. */
uint64_t kv_net_out_next(const kv_net_t *net, unsigned peer);

void kv_net_out_event(kv_net_t *net, unsigned peer, uint64_t now);

/* The caller has nothing to do with this peer. */
void kv_net_out_decline(kv_net_t *net, unsigned peer);


/* ---- kv_net_in.c: those of others */

void kv_net_in_timeout(kv_net_t *net, uint64_t now);
uint64_t kv_net_in_next(const kv_net_t *net);
void kv_net_in_accept(kv_net_t *net, uint64_t now);
void kv_net_in_event(kv_net_t *net, unsigned place);
void kv_net_in_close(kv_net_t *net, kv_net_conn_t *c);


#endif /* KV_NET_PRIVATE_H */
