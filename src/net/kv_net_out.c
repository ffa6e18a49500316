
/*
 * The connections on which this node sends, one to each peer; see
 * kv_net_private.h.
 */


#include "net/kv_net_private.h"


static void kv_net_out_connect(kv_net_t *net, kv_net_peer_t *peer,
    uint64_t now);
static void kv_net_out_close(kv_net_t *net, kv_net_peer_t *peer, uint64_t now,
    unsigned pause);
static void kv_net_out_lost(kv_net_t *net, kv_net_peer_t *peer, uint64_t now);
static unsigned kv_net_out_pause(kv_net_t *net);
static void kv_net_out_receive(kv_net_t *net, kv_net_peer_t *peer,
    uint64_t now);
static bool kv_net_out_frame(kv_net_t *net, kv_net_peer_t *peer,
    const kv_net_frame_t *f, uint64_t now);


void
kv_net_out_timeout(kv_net_t *net, unsigned i, uint64_t now)
{
    kv_net_peer_t  *peer;
    kv_net_conn_t  *c;

    peer = &net->peers[i];
    c = &peer->out;

    if (c->fd != -1 && c->deadline && now >= c->deadline && c->error == 0) {
        c->error = ETIMEDOUT;
    }

    if (c->fd != -1 && c->error) {
        kv_net_out_lost(net, peer, now);
    }

    if (c->fd == -1 && now >= peer->retry) {
        kv_net_out_connect(net, peer, now);
    }
}


uint64_t
kv_net_out_next(const kv_net_t *net, unsigned i)
{
    const kv_net_peer_t  *peer;

    peer = &net->peers[i];

    if (peer->out.fd == -1) {
        return peer->retry;
    }

    if (peer->out.error) {
        return 0;
    }

    return peer->out.deadline ? peer->out.deadline : KV_NET_FOREVER;
}


static void
kv_net_out_connect(kv_net_t *net, kv_net_peer_t *peer, uint64_t now)
{
    int             fd;
    kv_net_conn_t  *c;

    c = &peer->out;
    fd = kv_net_socket_connect(&net->address, net->silent, &peer->address);

    if (fd == -1 || kv_net_conn_open(net, c, fd, true) != KV_OK) {
        c->error = errno;
        kv_net_out_lost(net, peer, now);
        return;
    }

    c->deadline = now + KV_NET_CONNECT;
}


void
kv_net_out_event(kv_net_t *net, unsigned i, uint64_t now)
{
    kv_net_peer_t  *peer;
    kv_net_conn_t  *c;

    peer = &net->peers[i];
    c = &peer->out;

    if (c->fd == -1) {
        return;
    }

    if (c->connecting) {
        c->error = kv_net_socket_error(c->fd);

        if (c->error) {
            kv_net_out_lost(net, peer, now);
            return;
        }

        c->connecting = false;
        c->full = true;
        c->deadline = now + KV_NET_GREET;
        kv_net_conn_hello(net, c);
    }

    kv_net_conn_send(net, c);
    kv_net_out_receive(net, peer, now);
}


/* What comes here is a hello alone. */

static void
kv_net_out_receive(kv_net_t *net, kv_net_peer_t *peer, uint64_t now)
{
    kv_rc_t          rc;
    kv_net_conn_t   *c;
    kv_net_frame_t   f;

    c = &peer->out;

    if (kv_net_conn_receive(c, KV_NET_HELLO_DATA) != KV_OK) {
        kv_net_out_lost(net, peer, now);
        return;
    }

    for ( ;; ) {
        rc = kv_net_conn_frame(c, KV_NET_HELLO_DATA, &f);

        if (rc == KV_AGAIN) {
            return;
        }

        if (rc != KV_OK || f.type != KV_NET_HELLO) {
            kv_net_log(net, &peer->odd, KV_LOG_ERR, "what answers at %s, "
                       "where node %s should be, is no node of this version: "
                       "look which server listens there", peer->where,
                       peer->name);
            kv_net_out_close(net, peer, now, KV_NET_PAUSE_REFUSED);
            return;
        }

        if (!kv_net_out_frame(net, peer, &f, now)) {
            return;
        }
    }
}


/* Whether the connection is still there. */

static bool
kv_net_out_frame(kv_net_t *net, kv_net_peer_t *peer, const kv_net_frame_t *f,
    uint64_t now)
{
    size_t                name_len, len;
    unsigned              i;
    const char           *name;
    kv_net_conn_t        *c;
    const unsigned char  *data;

    c = &peer->out;
    i = (unsigned) (peer - net->peers);

    if (kv_net_hello_read(f, &name, &name_len, &data, &len) != KV_OK
        || name_len != strlen(peer->name)
        || memcmp(name, peer->name, name_len) != 0)
    {
        kv_net_log(net, &peer->odd, KV_LOG_ERR, "at %s, where node %s should "
                   "be, is another one: all nodes need the same addresses in "
                   "\"peers=\"", peer->where, peer->name);
        kv_net_out_close(net, peer, now, KV_NET_PAUSE_REFUSED);
        return false;
    }

    if (net->ops->hello(net->ctx, i, data, len) != KV_OK) {

        if (peer->in) {
            peer->in->error = ECONNABORTED;
        }

        kv_net_out_close(net, peer, now, KV_NET_PAUSE_REFUSED);
        return false;
    }

    if (c->known) {
        return true;
    }

    c->known = true;
    c->deadline = 0;
    peer->connects++;
    peer->missed = false;
    peer->hangups = 0;

    kv_net_log(net, &peer->came, KV_LOG_NOTICE, "node %s is connected at %s",
               peer->name, peer->where);

    if (net->ops->connected) {
        net->ops->connected(net->ctx, i, true);
    }

    return true;
}


/* It ended, or did not come to be, by c->error. */

static void
kv_net_out_lost(kv_net_t *net, kv_net_peer_t *peer, uint64_t now)
{
    bool            known, refused;
    kv_net_conn_t  *c;

    c = &peer->out;
    known = c->fd != -1 && c->known;

    /*
     * It has hung up on our hello: if it does so again, not because it has just
     * ended, this node is none of its peers.
     */

    refused = c->fd != -1 && !c->known && !c->connecting
              && c->error != ETIMEDOUT && peer->hangups++;

    if (known) {
        kv_net_log(net, &peer->went, KV_LOG_WARN, "the connection to node %s "
                   "at %s ended: %s: it is tried again until it can be made",
                   peer->name, peer->where, strerror(c->error));

    } else if (refused) {
        kv_net_log(net, &peer->odd, KV_LOG_WARN, "node %s at %s hangs up: look "
                   "into its error log; all nodes need the same addresses in "
                   "\"peers=\", and must connect from them", peer->name,
                   peer->where);

    } else if (!peer->missed) {
        kv_net_log(net, &peer->went, KV_LOG_WARN, "node %s cannot be reached "
                   "at %s: %s: it is tried again until it can", peer->name,
                   peer->where, strerror(c->error));
    }

    peer->missed = true;

    kv_net_out_close(net, peer, now, refused ? KV_NET_PAUSE_REFUSED
                                             : kv_net_out_pause(net));
}


void
kv_net_out_decline(kv_net_t *net, unsigned i)
{
    kv_net_out_close(net, &net->peers[i], kv_net_now(), KV_NET_PAUSE_REFUSED);
}


/* So that nodes that lost each other do not keep step. */

static unsigned
kv_net_out_pause(kv_net_t *net)
{
    net->random = net->random * 1103515245 + 12345;

    return KV_NET_PAUSE + (net->random >> 16) % KV_NET_PAUSE_MORE;
}


static void
kv_net_out_close(kv_net_t *net, kv_net_peer_t *peer, uint64_t now,
    unsigned pause)
{
    bool            known;
    kv_net_conn_t  *c;

    c = &peer->out;
    known = c->fd != -1 && c->known;

    if (c->fd != -1) {
        kv_net_conn_close(c);
    }

    peer->retry = now + pause;

    if (known && net->ops->connected) {
        net->ops->connected(net->ctx, (unsigned) (peer - net->peers), false);
    }
}
