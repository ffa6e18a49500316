
/*
 * Addresses of sockets and their text; see kv_net_private.h.
 */


#include <arpa/inet.h>

#include "base/kv_number.h"
#include "net/kv_net_private.h"


kv_rc_t
kv_net_address_read(const char *text, kv_net_address_t *address)
{
    bool         v6;
    char         ip[INET6_ADDRSTRLEN];
    size_t       len;
    int64_t      port;
    const char  *colon;

    memset(address, 0, sizeof(*address));

    colon = strrchr(text, ':');

    if (colon == NULL
        || !kv_number_parse(colon + 1, strlen(colon + 1), &port)
        || port < 1 || port > UINT16_MAX)
    {
        return KV_DAMAGED;
    }

    len = (size_t) (colon - text);
    v6 = len > 2 && text[0] == '[' && text[len - 1] == ']';

    if (v6) {
        text++;
        len -= 2;
    }

    if (len >= sizeof(ip)) {
        return KV_DAMAGED;
    }

    memcpy(ip, text, len);
    ip[len] = '\0';

    if (v6) {
        address->in6.sin6_family = AF_INET6;
        address->in6.sin6_port = htons((uint16_t) port);

        return inet_pton(AF_INET6, ip, &address->in6.sin6_addr) == 1
               ? KV_OK : KV_DAMAGED;
    }

    address->in.sin_family = AF_INET;
    address->in.sin_port = htons((uint16_t) port);

    return inet_pton(AF_INET, ip, &address->in.sin_addr) == 1
           ? KV_OK : KV_DAMAGED;
}


const char *
kv_net_address_write(const kv_net_address_t *address, char *text)
{
    char  ip[INET6_ADDRSTRLEN];

    if (address->any.sa_family == AF_INET6) {
        (void) inet_ntop(AF_INET6, &address->in6.sin6_addr, ip, sizeof(ip));
        (void) snprintf(text, KV_NET_TEXT, "[%s]:%u", ip,
                        ntohs(address->in6.sin6_port));

    } else {
        (void) inet_ntop(AF_INET, &address->in.sin_addr, ip, sizeof(ip));
        (void) snprintf(text, KV_NET_TEXT, "%s:%u", ip,
                        ntohs(address->in.sin_port));
    }

    return text;
}


socklen_t
kv_net_address_size(const kv_net_address_t *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof(address->in6)
                                              : sizeof(address->in);
}


bool
kv_net_address_same_ip(const kv_net_address_t *a, const kv_net_address_t *b)
{
    if (a->any.sa_family != b->any.sa_family) {
        return false;
    }

    if (a->any.sa_family == AF_INET6) {
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr,
                      sizeof(a->in6.sin6_addr)) == 0;
    }

    return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
}


bool
kv_net_address_is_any(const kv_net_address_t *address)
{
    return address->any.sa_family == AF_INET6
           ? IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr)
           : address->in.sin_addr.s_addr == htonl(INADDR_ANY);
}
