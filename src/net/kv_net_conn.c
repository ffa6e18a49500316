
/*
 * A connection: what is read from it and written to it; see kv_net_private.h.
 */


#include <sys/epoll.h>
#include <unistd.h>

#include "net/kv_net_private.h"


kv_rc_t
kv_net_conn_open(kv_net_t *net, kv_net_conn_t *c, int fd, bool connecting)
{
    int                 error;
    struct epoll_event  event;

    assert(c->fd == -1);

    event.events = EPOLLIN | EPOLLRDHUP | (connecting ? EPOLLOUT : 0);
    event.data.u64 = c->tag;

    if (epoll_ctl(net->epoll, EPOLL_CTL_ADD, fd, &event) == -1) {
        error = errno;
        (void) close(fd);
        errno = error;
        return KV_ERROR;
    }

    c->fd = fd;
    c->error = 0;
    c->peer = net->n;
    c->connecting = connecting;
    c->known = false;
    c->full = false;

    return KV_OK;
}


/* What ends up here is no longer sent, nor read. */

void
kv_net_conn_close(kv_net_conn_t *c)
{
    (void) close(c->fd);

    c->fd = -1;
    c->known = false;
    c->deadline = 0;
    kv_net_buffer_free(&c->in);
    kv_net_buffer_free(&c->out);
}


/*
 * A frame has memory as its bytes come, never for a length that is only said.
 */

kv_rc_t
kv_net_conn_receive(kv_net_conn_t *c, size_t max)
{
    size_t           have, room;
    ssize_t          n;
    unsigned char   *p;
    kv_net_frame_t   f;

    have = kv_net_buffer_len(&c->in);
    room = KV_NET_BUFFER;

    if (have && kv_net_frame_read(c->in.p + c->in.first, have, max, &f)
                == KV_AGAIN
        && f.len)
    {
        room = kv_min(KV_NET_OVERHEAD + f.len - have, kv_max(have, room));
    }

    p = kv_net_buffer_reserve(&c->in, room);

    n = recv(c->fd, p, c->in.size - c->in.end, 0);

    if (n > 0) {
        kv_net_buffer_add(&c->in, (size_t) n);
        return KV_OK;
    }

    if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
        return KV_OK;
    }

    c->error = n == 0 ? ECONNRESET : errno;

    return KV_ERROR;
}


kv_rc_t
kv_net_conn_frame(kv_net_conn_t *c, size_t max, kv_net_frame_t *f)
{
    kv_rc_t  rc;

    if (kv_net_buffer_len(&c->in) == 0) {
        kv_net_buffer_trim(&c->in);
        return KV_AGAIN;
    }

    rc = kv_net_frame_read(c->in.p + c->in.first, kv_net_buffer_len(&c->in),
                           max, f);

    if (rc == KV_OK) {
        kv_net_buffer_take(&c->in, KV_NET_OVERHEAD + f->len);
    }

    return rc;
}


void *
kv_net_conn_reserve(kv_net_conn_t *c, unsigned type, size_t len)
{
    c->type = type;
    c->reserved = len;

    return kv_net_buffer_reserve(&c->out, KV_NET_OVERHEAD + len)
           + KV_NET_OVERHEAD;
}


void
kv_net_conn_commit(kv_net_conn_t *c)
{
    kv_net_frame_write(c->out.p + c->out.end, c->type, c->reserved);
    kv_net_buffer_add(&c->out, KV_NET_OVERHEAD + c->reserved);
}


void
kv_net_conn_hello(kv_net_t *net, kv_net_conn_t *c)
{
    memcpy(kv_net_conn_reserve(c, KV_NET_HELLO, net->hello_len), net->hello,
           net->hello_len);
    kv_net_conn_commit(c);
}


void
kv_net_conn_send(kv_net_t *net, kv_net_conn_t *c)
{
    bool                full;
    ssize_t             n;
    struct epoll_event  event;

    full = false;

    while (c->error == 0 && !full && kv_net_buffer_len(&c->out)) {

        n = send(c->fd, c->out.p + c->out.first, kv_net_buffer_len(&c->out),
                 MSG_NOSIGNAL);

        if (n >= 0) {
            kv_net_buffer_take(&c->out, (size_t) n);

        } else if (errno == EAGAIN) {
            full = true;

        } else if (errno != EINTR) {
            c->error = errno;
        }
    }

    kv_net_buffer_trim(&c->out);

    if (full == c->full || c->error) {
        return;
    }

    event.events = EPOLLIN | EPOLLRDHUP | (full ? EPOLLOUT : 0);
    event.data.u64 = c->tag;

    if (epoll_ctl(net->epoll, EPOLL_CTL_MOD, c->fd, &event) == -1) {
        c->error = errno;
    }

    c->full = full;
}
