
/*
 * The connections that others make; see kv_net_private.h.
 */


#include <sys/epoll.h>
#include <unistd.h>

#include "net/kv_net_private.h"


/* connections that are looked at before other events are */
#define KV_NET_ACCEPT_MOST  16


static void kv_net_in_listen(kv_net_t *net, uint64_t now);
static void kv_net_in_hear(kv_net_t *net, bool hear);
static kv_rc_t kv_net_in_take(kv_net_t *net, int fd, uint64_t now);
static bool kv_net_in_is_peers(const kv_net_t *net,
    const kv_net_address_t *from);
static kv_net_conn_t *kv_net_in_place(kv_net_t *net);
static size_t kv_net_in_most(const kv_net_t *net, const kv_net_conn_t *c);
static kv_rc_t kv_net_in_frame(kv_net_t *net, kv_net_conn_t *c,
    const kv_net_frame_t *f);
static kv_rc_t kv_net_in_hello(kv_net_t *net, kv_net_conn_t *c,
    const kv_net_frame_t *f);
static unsigned kv_net_in_who(const kv_net_t *net, const kv_net_conn_t *c,
    const char *name, size_t len);
static void kv_net_in_damaged(kv_net_t *net, kv_net_conn_t *c);


void
kv_net_in_timeout(kv_net_t *net, uint64_t now)
{
    unsigned        i;
    kv_net_conn_t  *c;

    if (net->listener == -1 && now >= net->listen_retry) {
        kv_net_in_listen(net, now);

    } else if (net->deaf && now >= net->listen_retry) {
        kv_net_in_hear(net, true);
    }

    for (i = 0; i < KV_NET_ACCEPTED; i++) {
        c = &net->accepted[i];

        if (c->fd != -1 && (c->error || (c->deadline && now >= c->deadline))) {

            if (!c->known) {
                net->refused++;
            }

            kv_net_in_close(net, c);
        }
    }
}


uint64_t
kv_net_in_next(const kv_net_t *net)
{
    uint64_t              next;
    unsigned              i;
    const kv_net_conn_t  *c;

    next = net->listener == -1 || net->deaf ? net->listen_retry
                                            : KV_NET_FOREVER;

    for (i = 0; i < KV_NET_ACCEPTED; i++) {
        c = &net->accepted[i];

        if (c->fd != -1 && c->error) {
            return 0;
        }

        if (c->fd != -1 && c->deadline) {
            next = kv_min(next, c->deadline);
        }
    }

    return next;
}


/* An older process of this node may listen still, or its IP come later. */

static void
kv_net_in_listen(kv_net_t *net, uint64_t now)
{
    int                 fd;
    struct epoll_event  event;

    fd = kv_net_socket_listen(&net->address);

    event.events = EPOLLIN;
    event.data.u64 = KV_NET_TAG_LISTENER;

    if (fd != -1 && epoll_ctl(net->epoll, EPOLL_CTL_ADD, fd, &event) != -1) {
        net->listener = fd;
        return;
    }

    /* at a reload it takes a moment, which is no news */

    if (errno != EADDRINUSE || now - net->begun > KV_NET_RELOAD) {
        kv_net_log(net, &net->not_listening, KV_LOG_ERR, "this node cannot "
                   "listen for other nodes at %s: %s: it is tried again until "
                   "it can", net->where, strerror(errno));
    }

    if (fd != -1) {
        (void) close(fd);
    }

    net->listen_retry = now + KV_NET_PAUSE_LISTEN;
}


/* Listens on, but takes no connections for a while, or does so again. */

static void
kv_net_in_hear(kv_net_t *net, bool hear)
{
    struct epoll_event  event;

    event.events = hear ? EPOLLIN : 0;
    event.data.u64 = KV_NET_TAG_LISTENER;

    if (epoll_ctl(net->epoll, EPOLL_CTL_MOD, net->listener, &event) == 0) {
        net->deaf = !hear;
    }
}


void
kv_net_in_accept(kv_net_t *net, uint64_t now)
{
    int               fd;
    char              text[KV_NET_TEXT];
    unsigned          i;
    kv_net_address_t  from;

    for (i = 0; i < KV_NET_ACCEPT_MOST; i++) {
        fd = kv_net_socket_accept(net->listener, net->silent, &from);

        if (fd == -1 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM
                         || errno == ENOBUFS))
        {
            kv_net_log(net, &net->not_listening, KV_LOG_ERR, "connections of "
                       "other nodes wait: %s: see \"worker_rlimit_nofile\"",
                       strerror(errno));
            net->listen_retry = now + KV_NET_PAUSE_LISTEN;
            kv_net_in_hear(net, false);
            return;
        }

        if (fd == -1) {
            return;
        }

        if (!kv_net_in_is_peers(net, &from)) {
            net->refused++;
            (void) close(fd);
            kv_net_log(net, &net->strange, KV_LOG_WARN, "a connection from %s "
                       "was closed: no other node has this address in "
                       "\"peers=\"", kv_net_address_write(&from, text));
            continue;
        }

        if (kv_net_in_take(net, fd, now) != KV_OK) {
            net->refused++;
        }
    }
}


static bool
kv_net_in_is_peers(const kv_net_t *net, const kv_net_address_t *from)
{
    unsigned  i;

    for (i = 0; i < net->n; i++) {
        if (kv_net_address_same_ip(&net->peers[i].address, from)) {
            return true;
        }
    }

    return false;
}


/* What it says may be there already. */

static kv_rc_t
kv_net_in_take(kv_net_t *net, int fd, uint64_t now)
{
    kv_net_conn_t  *c;

    c = kv_net_in_place(net);

    if (kv_net_conn_open(net, c, fd, false) != KV_OK) {
        return KV_ERROR;
    }

    c->since = now;
    c->deadline = now + KV_NET_GREET;

    kv_net_in_event(net, (unsigned) (c - net->accepted));

    return KV_OK;
}


/*
 * A free place; or that of the one who has been silent for longest: who only
 * connects keeps no peer out, which says hello at once.
 */

static kv_net_conn_t *
kv_net_in_place(kv_net_t *net)
{
    unsigned        i;
    kv_net_conn_t  *c, *oldest;

    oldest = NULL;

    for (i = 0; i < KV_NET_ACCEPTED; i++) {
        c = &net->accepted[i];

        if (c->fd == -1) {
            return c;
        }

        if (!c->known && (oldest == NULL || c->since < oldest->since)) {
            oldest = c;
        }
    }

    assert(oldest != NULL);

    net->refused++;
    kv_net_in_close(net, oldest);

    return oldest;
}


void
kv_net_in_event(kv_net_t *net, unsigned place)
{
    kv_rc_t          rc;
    kv_net_conn_t   *c;
    kv_net_frame_t   f;

    c = &net->accepted[place];

    if (c->fd == -1 || c->error) {
        return;
    }

    if (kv_net_conn_receive(c, kv_net_in_most(net, c)) != KV_OK) {
        kv_net_in_close(net, c);
        return;
    }

    for ( ;; ) {
        rc = kv_net_conn_frame(c, kv_net_in_most(net, c), &f);

        if (rc == KV_AGAIN) {
            break;
        }

        if (rc == KV_OK) {
            rc = kv_net_in_frame(net, c, &f);
        }

        if (rc == KV_DAMAGED) {
            kv_net_in_damaged(net, c);
        }

        if (rc != KV_OK) {
            net->refused++;
            kv_net_in_close(net, c);
            return;
        }
    }

    if (kv_net_buffer_len(&c->out)) {
        kv_net_conn_send(net, c);
    }
}


/* The longest data that may come on it. */

static size_t
kv_net_in_most(const kv_net_t *net, const kv_net_conn_t *c)
{
    return c->known ? kv_max(net->frame, KV_NET_HELLO_DATA)
                    : KV_NET_HELLO_DATA;
}


/* KV_OK; KV_DAMAGED; KV_DECLINED: the reason was logged. */

static kv_rc_t
kv_net_in_frame(kv_net_t *net, kv_net_conn_t *c, const kv_net_frame_t *f)
{
    kv_net_peer_t  *peer;

    if (f->type == KV_NET_HELLO) {
        return kv_net_in_hello(net, c, f);
    }

    if (!c->known || f->len > net->frame) {
        return KV_DAMAGED;
    }

    peer = &net->peers[c->peer];
    peer->received++;

    return net->ops->receive(net->ctx, c->peer, f->type, f->data, f->len);
}


static kv_rc_t
kv_net_in_hello(kv_net_t *net, kv_net_conn_t *c, const kv_net_frame_t *f)
{
    size_t                name_len, len;
    unsigned              who;
    const char           *name;
    kv_net_conn_t        *old;
    const unsigned char  *data;

    if (kv_net_hello_read(f, &name, &name_len, &data, &len) != KV_OK) {
        return KV_DAMAGED;
    }

    who = kv_net_in_who(net, c, name, name_len);

    if (who == net->n || (c->known && who != c->peer)) {
        kv_net_log(net, &net->strange, KV_LOG_WARN, "a connection was closed "
                   "whose other end says that it is node %.*s: no other node "
                   "has this name and its IP in \"peers=\"",
                   (int) kv_min(name_len, 64u), name);
        return KV_DECLINED;
    }

    if (net->ops->hello(net->ctx, who, data, len) != KV_OK) {
        kv_net_out_decline(net, who);
        return KV_DECLINED;
    }

    if (c->known) {
        return KV_OK;
    }

    /* The peer has lost the one before, or has started again. */

    old = net->peers[who].in;

    if (old) {
        kv_net_in_close(net, old);
    }

    c->known = true;
    c->peer = who;
    c->deadline = 0;
    net->peers[who].in = c;

    kv_net_conn_hello(net, c);

    return KV_OK;
}


/* The peer of that name, if the connection comes from its IP; else net->n. */

static unsigned
kv_net_in_who(const kv_net_t *net, const kv_net_conn_t *c, const char *name,
    size_t len)
{
    unsigned          i;
    socklen_t         size;
    kv_net_address_t  from;

    size = sizeof(from);
    memset(&from, 0, sizeof(from));

    if (getpeername(c->fd, &from.any, &size) == -1) {
        return net->n;
    }

    for (i = 0; i < net->n; i++) {
        if (strlen(net->peers[i].name) == len
            && memcmp(net->peers[i].name, name, len) == 0)
        {
            return kv_net_address_same_ip(&net->peers[i].address, &from)
                   ? i : net->n;
        }
    }

    return net->n;
}


static void
kv_net_in_damaged(kv_net_t *net, kv_net_conn_t *c)
{
    if (c->known) {
        kv_net_log(net, &net->peers[c->peer].odd, KV_LOG_ERR, "the connection "
                   "of node %s was closed: what it sends is damaged, or of "
                   "another version", net->peers[c->peer].name);

    } else {
        kv_net_log(net, &net->strange, KV_LOG_WARN, "a connection was closed "
                   "that did not begin as one of a node of this version");
    }
}


void
kv_net_in_close(kv_net_t *net, kv_net_conn_t *c)
{
    if (c->known && net->peers[c->peer].in == c) {
        net->peers[c->peer].in = NULL;
    }

    kv_net_conn_close(c);
}
