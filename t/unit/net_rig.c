
/*
 * Nodes in one thread; see net_rig.h.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "net_rig.h"
#include "base/kv_crc32c.h"


net_rig_node_t  net_rig[NET_RIG_NODES];
unsigned        net_rig_n;
int             net_rig_wake = -1;
unsigned        net_rig_silent = NET_RIG_PATIENT;


static unsigned
net_rig_number(unsigned i, unsigned place)
{
    return place < i ? place : place + 1;
}


unsigned
net_rig_place(unsigned i, unsigned j)
{
    return j < i ? j : j - 1;
}


static kv_rc_t
net_rig_on_hello(void *ctx, unsigned peer, const void *data, size_t len)
{
    unsigned         j;
    net_rig_node_t  *node;

    node = ctx;
    j = net_rig_number((unsigned) (node - net_rig), peer);

    assert_true(len < sizeof(node->heard[j]));
    memcpy(node->heard[j], data, len);
    node->heard[j][len] = '\0';
    node->hellos[j]++;

    return node->declines[j] ? KV_DECLINED : KV_OK;
}


static kv_rc_t
net_rig_on_frame(void *ctx, unsigned peer, unsigned type, const void *data,
    size_t len)
{
    uint64_t         seq;
    unsigned         j;
    unsigned char   *p;
    net_rig_node_t  *node;

    node = ctx;
    j = net_rig_number((unsigned) (node - net_rig), peer);

    if (node->odd) {
        node->odd = false;
        return KV_DAMAGED;
    }

    assert_true(node->hellos[j] > 0);
    assert_true(len >= sizeof(seq));
    memcpy(&seq, data, sizeof(seq));

    assert_int_equal(type, 1 + seq % 65535);
    assert_true(seq > node->seq[j]);

    p = malloc(len);
    assert_non_null(p);
    net_rig_fill(p, seq, len);
    assert_memory_equal(p, data, len);
    free(p);

    node->seq[j] = seq;
    node->frames[j]++;

    return KV_OK;
}


static void
net_rig_on_connected(void *ctx, unsigned peer, bool up)
{
    unsigned         j;
    net_rig_node_t  *node;

    node = ctx;
    j = net_rig_number((unsigned) (node - net_rig), peer);

    assert_int_equal(up, !node->up[j]);
    node->up[j] = up;
    node->ups[j] += up;
    node->downs[j] += !up;
}


static void
net_rig_on_log(void *ctx, kv_log_level_t level, const char *text)
{
    size_t           len;
    net_rig_node_t  *node;

    node = ctx;
    len = strlen(node->log);

    (void) snprintf(node->log + len, sizeof(node->log) - len, "%d %s\n",
                    (int) level, text);
    node->lines++;
}


static const kv_net_ops_t  net_rig_ops = {
    net_rig_on_hello,
    net_rig_on_frame,
    net_rig_on_connected
};


/* A port where nothing listens on that IP. */

static unsigned
net_rig_port(const char *ip)
{
    int                 fd;
    socklen_t           len;
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    assert_int_equal(inet_pton(AF_INET, ip, &sin.sin_addr), 1);

    len = sizeof(sin);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &sin, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *) &sin, &len), 0);
    assert_int_equal(close(fd), 0);

    return ntohs(sin.sin_port);
}


void
net_rig_open(unsigned n)
{
    char      ip[24];
    unsigned  i;

    memset(net_rig, 0, sizeof(net_rig));
    net_rig_n = n;

    for (i = 0; i < n; i++) {
        (void) snprintf(ip, sizeof(ip), "127.0.42.%u", 101 + i);
        (void) snprintf(net_rig[i].address, sizeof(net_rig[i].address),
                        "%s:8080", ip);
        (void) snprintf(net_rig[i].listen, sizeof(net_rig[i].listen), "%s:%u",
                        ip, net_rig_port(ip));
        (void) snprintf(net_rig[i].hello, sizeof(net_rig[i].hello), "I am %u",
                        i);
    }
}


void
net_rig_close(void)
{
    unsigned  i;

    for (i = 0; i < net_rig_n; i++) {
        net_rig_stop(i);
    }
}


void
net_rig_start(unsigned i)
{
    unsigned        j;
    kv_err_t        err;
    kv_net_node_t   peers[KV_NET_PEERS];
    kv_net_conf_t   conf;

    memset(&conf, 0, sizeof(conf));
    conf.zone = "rig";
    conf.self.address = net_rig[i].address;
    conf.self.listen = net_rig[i].listen;
    conf.peers = peers;
    conf.frame = NET_RIG_FRAME;
    conf.queue = NET_RIG_QUEUE;
    conf.silent = net_rig_silent;
    conf.wake = net_rig_wake;
    conf.log = net_rig_on_log;
    conf.log_ctx = &net_rig[i];

    for (j = 0; j < net_rig_n; j++) {
        if (j != i) {
            peers[conf.n].address = net_rig[j].address;
            peers[conf.n++].listen = net_rig[j].listen;
        }
    }

    if (kv_net_open(&conf, net_rig[i].hello, strlen(net_rig[i].hello),
                    &net_rig_ops, &net_rig[i], &net_rig[i].net, &err)
        != KV_OK)
    {
        fail_msg("%s", err.text);
    }
}


void
net_rig_stop(unsigned i)
{
    unsigned  j;

    if (net_rig[i].net) {
        kv_net_close(net_rig[i].net);
        net_rig[i].net = NULL;
    }

    for (j = 0; j < net_rig_n; j++) {
        net_rig[i].up[j] = false;
        net_rig[j].seq[i] = 0;
    }
}


void
net_rig_step(void)
{
    unsigned  i;

    for (i = 0; i < net_rig_n; i++) {
        if (net_rig[i].net && !net_rig[i].stopped) {
            kv_net_wait(net_rig[i].net, 0);
        }
    }
}


bool
net_rig_until(bool (*true_now)(void))
{
    uint64_t  end;

    end = kv_now_ns() + NET_RIG_LONG * UINT64_C(1000000);

    while (!true_now()) {
        if (kv_now_ns() > end) {
            return false;
        }

        net_rig_step();
        (void) usleep(100);
    }

    return true;
}


void
net_rig_run(unsigned ms)
{
    uint64_t  end;

    end = kv_now_ns() + ms * UINT64_C(1000000);

    while (kv_now_ns() < end) {
        net_rig_step();
        (void) usleep(1000);
    }
}


bool
net_rig_all_up(void)
{
    unsigned            i, j;
    kv_net_peer_info_t  info;

    for (i = 0; i < net_rig_n; i++) {
        for (j = 0; j < net_rig_n; j++) {

            if (i == j || net_rig[i].net == NULL || net_rig[j].net == NULL
                || net_rig[i].stopped || net_rig[j].stopped)
            {
                continue;
            }

            kv_net_peer_info(net_rig[i].net, net_rig_place(i, j), &info);
            assert_int_equal(info.up, net_rig[i].up[j]);

            if (!info.up || !info.heard) {
                return false;
            }
        }
    }

    return true;
}


void
net_rig_fill(unsigned char *p, uint64_t seq, size_t len)
{
    memset(p, (int) (seq % 251), len);
    memcpy(p, &seq, sizeof(seq));
    p[len - 1] = len > sizeof(seq) ? (unsigned char) len : p[len - 1];
}


kv_rc_t
net_rig_send(unsigned from, unsigned to, uint64_t seq, size_t len)
{
    unsigned char  *p;

    p = kv_net_reserve(net_rig[from].net, net_rig_place(from, to),
                       1 + seq % 65535, len);

    if (p == NULL) {
        return KV_AGAIN;
    }

    net_rig_fill(p, seq, len);
    kv_net_commit(net_rig[from].net, net_rig_place(from, to));

    return KV_OK;
}


static int
net_rig_socket(const char *ip, unsigned port)
{
    int                 fd, one;
    struct sockaddr_in  sin;

    one = 1;
    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons((uint16_t) port);
    assert_int_equal(inet_pton(AF_INET, ip, &sin.sin_addr), 1);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
                                sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &sin, sizeof(sin)), 0);

    return fd;
}


int
net_rig_connect(const char *ip, unsigned to)
{
    int                 fd;
    char                host[32];
    unsigned            port;
    struct sockaddr_in  sin;

    fd = net_rig_socket(ip, 0);

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    assert_int_equal(sscanf(net_rig[to].listen, "%31[^:]:%u", host, &port), 2);
    assert_int_equal(inet_pton(AF_INET, host, &sin.sin_addr), 1);
    sin.sin_port = htons((uint16_t) port);
    assert_int_equal(connect(fd, (struct sockaddr *) &sin, sizeof(sin)), 0);

    return fd;
}


int
net_rig_listen(unsigned i)
{
    int       fd;
    char      host[32];
    unsigned  port;

    assert_int_equal(sscanf(net_rig[i].listen, "%31[^:]:%u", host, &port), 2);
    fd = net_rig_socket(host, port);
    assert_int_equal(listen(fd, 8), 0);

    return fd;
}


static void
net_rig_put(unsigned char *p, uint64_t value, unsigned bytes)
{
    for ( /* void */ ; bytes; bytes--) {
        *p++ = (unsigned char) value;
        value >>= 8;
    }
}


void
net_rig_head(unsigned char *p, unsigned type, size_t len, uint32_t crc)
{
    memcpy(p, "KVN\1", 4);
    net_rig_put(p + 4, len, 4);
    net_rig_put(p + 8, type, 4);
    net_rig_put(p + 12, crc, 4);
    net_rig_put(p + 16, kv_crc32c(0, p, 16), 4);
}


size_t
net_rig_frame(unsigned char *p, unsigned type, const void *data, size_t len)
{
    net_rig_head(p, type, len, kv_crc32c(0, data, len));
    memcpy(p + 20, data, len);

    return 20 + len;
}


size_t
net_rig_hello(unsigned char *p, const char *name, const char *more)
{
    size_t         len;
    unsigned char  data[512];

    len = strlen(name);
    net_rig_put(data, len, 2);
    memcpy(data + 2, name, len);
    memcpy(data + 2 + len, more, strlen(more));

    return net_rig_frame(p, 0, data, 2 + len + strlen(more));
}


bool
net_rig_closed(int fd)
{
    char           c;
    ssize_t        n;
    struct pollfd  p;

    p.fd = fd;
    p.events = POLLIN;

    if (poll(&p, 1, 0) != 1) {
        return false;
    }

    n = recv(fd, &c, 1, MSG_DONTWAIT);

    return n == 0 || (n == -1 && errno == ECONNRESET);
}
