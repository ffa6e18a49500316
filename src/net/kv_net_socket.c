
/*
 * Sockets, none of which blocks; see kv_net_private.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                            /* accept4() */
#endif


#include <netinet/tcp.h>
#include <unistd.h>

#include "net/kv_net_private.h"


#define KV_NET_BACKLOG  64


static int kv_net_socket_make(const kv_net_address_t *address);
static int kv_net_socket_fail(int fd);
static int kv_net_socket_set(int fd, int level, int option, int value);
static int kv_net_socket_options(int fd, unsigned silent);


int
kv_net_socket_listen(const kv_net_address_t *address)
{
    int  fd;

    fd = kv_net_socket_make(address);

    if (fd == -1) {
        return -1;
    }

    if (kv_net_socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == -1
        || bind(fd, &address->any, kv_net_address_size(address)) == -1
        || listen(fd, KV_NET_BACKLOG) == -1)
    {
        return kv_net_socket_fail(fd);
    }

    return fd;
}


int
kv_net_socket_accept(int listener, unsigned silent, kv_net_address_t *from)
{
    int        fd;
    socklen_t  len;

    len = sizeof(*from);
    memset(from, 0, sizeof(*from));

    fd = accept4(listener, &from->any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd != -1 && kv_net_socket_options(fd, silent) == -1) {
        return kv_net_socket_fail(fd);
    }

    return fd;
}


int
kv_net_socket_connect(const kv_net_address_t *from, unsigned silent,
    const kv_net_address_t *to)
{
    int               fd;
    kv_net_address_t  source;

    fd = kv_net_socket_make(to);

    if (fd == -1) {
        return -1;
    }

    if (kv_net_socket_options(fd, silent) == -1) {
        return kv_net_socket_fail(fd);
    }

    if (!kv_net_address_is_any(from)
        && from->any.sa_family == to->any.sa_family)
    {
        /* its IP; connect() chooses a port that is free for that peer */

        source = *from;

        if (source.any.sa_family == AF_INET6) {
            source.in6.sin6_port = 0;

        } else {
            source.in.sin_port = 0;
        }

        if (kv_net_socket_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) == -1
            || bind(fd, &source.any, kv_net_address_size(&source)) == -1)
        {
            return kv_net_socket_fail(fd);
        }
    }

    if (connect(fd, &to->any, kv_net_address_size(to)) == -1
        && errno != EINPROGRESS)
    {
        return kv_net_socket_fail(fd);
    }

    return fd;
}


int
kv_net_socket_error(int fd)
{
    int        error;
    socklen_t  len;

    len = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1) {
        return errno;
    }

    return error;
}


static int
kv_net_socket_make(const kv_net_address_t *address)
{
    return socket(address->any.sa_family,
                  SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}


static int
kv_net_socket_fail(int fd)
{
    int  error;

    error = errno;
    (void) close(fd);
    errno = error;

    return -1;
}


static int
kv_net_socket_set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value));
}


/*
 * A peer whose machine is gone says nothing: the system asks a second after it
 * was last heard, and gives up when nothing was confirmed for `silent` ms.
 * By default TCP would go on to send again, ever more rarely, for minutes.
 */

static int
kv_net_socket_options(int fd, unsigned silent)
{
    if (kv_net_socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1) == -1
        || kv_net_socket_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int) silent)
           == -1
        || kv_net_socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1) == -1
        || kv_net_socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1) == -1
        || kv_net_socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1) == -1
        || kv_net_socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, 2) == -1)
    {
        return -1;
    }

    return 0;
}
