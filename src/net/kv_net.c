
/*
 * The connections of a node: their loop; see kv_net.h.
 */


#include <stdlib.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/kv_net_private.h"


#define KV_NET_EVENTS  64


static kv_rc_t kv_net_addresses(kv_net_t *net, const kv_net_conf_t *conf,
    kv_err_t *err);
static kv_rc_t kv_net_address(const char *text, kv_net_address_t *address,
    char *where, kv_err_t *err);
static void kv_net_copy(char *to, size_t size, const char *from);
static kv_rc_t kv_net_watch(kv_net_t *net, int fd, uint64_t tag);
static int kv_net_timeout(const kv_net_t *net, uint64_t now, uint64_t ms);
static void kv_net_event(kv_net_t *net, const struct epoll_event *event,
    uint64_t now);
static void kv_net_drain(int fd);


kv_rc_t
kv_net_open(const kv_net_conf_t *conf, const void *hello, size_t len,
    const kv_net_ops_t *ops, void *ctx, kv_net_t **out, kv_err_t *err)
{
    unsigned   i;
    kv_net_t  *net;

    assert(conf->n >= 1 && conf->n <= KV_NET_PEERS);
    assert(conf->frame <= UINT32_MAX
           && conf->queue >= conf->frame + KV_NET_OVERHEAD);

    net = calloc(1, sizeof(*net));
    assert(net != NULL);

    net->ops = ops;
    net->ctx = ctx;
    net->log = conf->log;
    net->log_ctx = conf->log_ctx;
    net->frame = conf->frame;
    net->queue = conf->queue;
    net->silent = conf->silent ? conf->silent : KV_NET_SILENT;
    net->wake = conf->wake;
    net->n = conf->n;
    net->listener = -1;
    net->begun = kv_net_now();
    net->random = (unsigned) kv_now_ns() ^ (unsigned) getpid();

    for (i = 0; i < KV_NET_PEERS; i++) {
        net->peers[i].out.fd = -1;
        net->peers[i].out.tag = KV_NET_TAG_PEERS + i;
    }

    for (i = 0; i < KV_NET_ACCEPTED; i++) {
        net->accepted[i].fd = -1;
        net->accepted[i].tag = KV_NET_TAG_ACCEPTED + i;
    }

    net->epoll = epoll_create1(EPOLL_CLOEXEC);
    net->woken = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (kv_net_addresses(net, conf, err) != KV_OK) {
        kv_net_close(net);
        return KV_ERROR;
    }

    if (net->epoll == -1 || net->woken == -1
        || kv_net_watch(net, net->woken, KV_NET_TAG_WOKEN) != KV_OK
        || (net->wake != -1
            && kv_net_watch(net, net->wake, KV_NET_TAG_WAKE) != KV_OK))
    {
        kv_err_set(err, "the connections to other nodes cannot be made: %s",
                   strerror(errno));
        kv_net_close(net);
        return KV_ERROR;
    }

    kv_net_hello_write(net, hello, len);
    kv_net_in_timeout(net, kv_net_now());

    *out = net;

    return KV_OK;
}


static kv_rc_t
kv_net_addresses(kv_net_t *net, const kv_net_conf_t *conf, kv_err_t *err)
{
    unsigned        i;
    kv_net_peer_t  *peer;

    kv_net_copy(net->zone, sizeof(net->zone), conf->zone);
    kv_net_copy(net->name, sizeof(net->name), conf->self.address);

    if (kv_net_address(conf->self.listen, &net->address, net->where, err)
        != KV_OK)
    {
        return KV_ERROR;
    }

    for (i = 0; i < conf->n; i++) {
        peer = &net->peers[i];

        kv_net_copy(peer->name, sizeof(peer->name), conf->peers[i].address);

        if (kv_net_address(conf->peers[i].listen, &peer->address, peer->where,
                           err)
            != KV_OK)
        {
            return KV_ERROR;
        }
    }

    return KV_OK;
}


static kv_rc_t
kv_net_address(const char *text, kv_net_address_t *address, char *where,
    kv_err_t *err)
{
    if (kv_net_address_read(text, address) != KV_OK) {
        kv_err_set(err, "\"%s\" is no address where a node listens: it must be "
                   "\"IP:PORT\", or \"[IP]:PORT\" for version 6", text);
        return KV_ERROR;
    }

    (void) kv_net_address_write(address, where);

    return KV_OK;
}


static void
kv_net_copy(char *to, size_t size, const char *from)
{
    (void) snprintf(to, size, "%s", from);
}


static kv_rc_t
kv_net_watch(kv_net_t *net, int fd, uint64_t tag)
{
    struct epoll_event  event;

    event.events = EPOLLIN;
    event.data.u64 = tag;

    return epoll_ctl(net->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? KV_OK
                                                                 : KV_ERROR;
}


void
kv_net_close(kv_net_t *net)
{
    unsigned  i;

    for (i = 0; i < KV_NET_PEERS; i++) {
        if (net->peers[i].out.fd != -1) {
            kv_net_conn_close(&net->peers[i].out);
        }
    }

    for (i = 0; i < KV_NET_ACCEPTED; i++) {
        if (net->accepted[i].fd != -1) {
            kv_net_in_close(net, &net->accepted[i]);
        }
    }

    if (net->listener != -1) {
        (void) close(net->listener);
    }

    if (net->woken != -1) {
        (void) close(net->woken);
    }

    if (net->epoll != -1) {
        (void) close(net->epoll);
    }

    free(net);
}


void
kv_net_wait(kv_net_t *net, uint64_t ms)
{
    int                 i, n;
    uint64_t            now;
    unsigned            peer;
    struct epoll_event  events[KV_NET_EVENTS];

    now = kv_net_now();

    for (peer = 0; peer < net->n; peer++) {
        kv_net_out_timeout(net, peer, now);
    }

    kv_net_in_timeout(net, now);
    kv_net_flush(net);

    n = epoll_wait(net->epoll, events, KV_NET_EVENTS,
                   kv_net_timeout(net, now, ms));

    now = kv_net_now();

    for (i = 0; i < n; i++) {
        kv_net_event(net, &events[i], now);
    }
}


/* Milliseconds until something is due. */

static int
kv_net_timeout(const kv_net_t *net, uint64_t now, uint64_t ms)
{
    uint64_t  next;
    unsigned  i;

    next = kv_net_in_next(net);

    for (i = 0; i < net->n; i++) {
        next = kv_min(next, kv_net_out_next(net, i));
    }

    if (next != KV_NET_FOREVER) {
        ms = kv_min(ms, next > now ? next - now : 0);
    }

    return ms == KV_NET_FOREVER ? -1 : (int) kv_min(ms, (uint64_t) INT_MAX);
}


static void
kv_net_event(kv_net_t *net, const struct epoll_event *event, uint64_t now)
{
    uint64_t  tag;

    tag = event->data.u64;

    switch (tag) {

    case KV_NET_TAG_WOKEN:
        kv_net_drain(net->woken);
        return;

    case KV_NET_TAG_WAKE:
        kv_net_drain(net->wake);
        return;

    case KV_NET_TAG_LISTENER:
        kv_net_in_accept(net, now);
        return;
    }

    if (tag >= KV_NET_TAG_ACCEPTED) {
        kv_net_in_event(net, (unsigned) (tag - KV_NET_TAG_ACCEPTED));

    } else {
        kv_net_out_event(net, (unsigned) (tag - KV_NET_TAG_PEERS), now);
    }
}


static void
kv_net_drain(int fd)
{
    uint64_t  n;

    if (read(fd, &n, sizeof(n)) == -1) {
        assert(errno == EAGAIN || errno == EINTR);
    }
}


void
kv_net_wake(kv_net_t *net)
{
    uint64_t  n;

    n = 1;

    if (write(net->woken, &n, sizeof(n)) == -1) {
        assert(errno == EAGAIN || errno == EINTR);
    }
}


void
kv_net_hello(kv_net_t *net, const void *hello, size_t len)
{
    unsigned  i;

    kv_net_hello_write(net, hello, len);

    for (i = 0; i < net->n; i++) {
        if (net->peers[i].out.known) {
            kv_net_conn_hello(net, &net->peers[i].out);
        }
    }
}


kv_rc_t
kv_net_send(kv_net_t *net, unsigned peer, unsigned type, const void *data,
    size_t len)
{
    void  *p;

    p = kv_net_reserve(net, peer, type, len);

    if (p == NULL) {
        return KV_AGAIN;
    }

    if (len) {
        memcpy(p, data, len);
    }

    kv_net_commit(net, peer);

    return KV_OK;
}


void *
kv_net_reserve(kv_net_t *net, unsigned i, unsigned type, size_t len)
{
    kv_net_peer_t  *peer;

    assert(i < net->n && len <= net->frame);
    assert(type != KV_NET_HELLO && type <= UINT16_MAX);

    peer = &net->peers[i];

    if (!peer->out.known || peer->out.error
        || kv_net_buffer_len(&peer->out.out) + KV_NET_OVERHEAD + len
           > net->queue)
    {
        peer->dropped++;
        return NULL;
    }

    return kv_net_conn_reserve(&peer->out, type, len);
}


void
kv_net_commit(kv_net_t *net, unsigned i)
{
    kv_net_conn_commit(&net->peers[i].out);
    net->peers[i].sent++;
}


void
kv_net_flush(kv_net_t *net)
{
    unsigned        i;
    kv_net_conn_t  *c;

    for (i = 0; i < net->n; i++) {
        c = &net->peers[i].out;

        if (c->fd != -1 && !c->full && kv_net_buffer_len(&c->out)) {
            kv_net_conn_send(net, c);
        }
    }
}


void
kv_net_peer_info(const kv_net_t *net, unsigned i, kv_net_peer_info_t *info)
{
    const kv_net_peer_t  *peer;

    peer = &net->peers[i];

    info->up = peer->out.known;
    info->heard = peer->in != NULL;
    info->waits = kv_net_buffer_len(&peer->out.out);
    info->sent = peer->sent;
    info->received = peer->received;
    info->dropped = peer->dropped;
    info->connects = peer->connects;
}


uint64_t
kv_net_refused(const kv_net_t *net)
{
    return net->refused;
}
