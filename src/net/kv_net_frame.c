
/*
 * Frames as bytes; see kv_net_private.h.
 */


#include "base/kv_crc32c.h"
#include "net/kv_net_private.h"


_Static_assert(KV_NET_OVERHEAD == 20, "see kv_net_private.h");


static const unsigned char  kv_net_magic[4] = { 'K', 'V', 'N', KV_NET_VERSION };


static void
kv_net_put(unsigned char *p, uint32_t value, unsigned bytes)
{
    for ( /* void */ ; bytes > 0; bytes--) {
        *p++ = (unsigned char) value;
        value >>= 8;
    }
}


static uint32_t
kv_net_get(const unsigned char *p, unsigned bytes)
{
    uint32_t  value;

    for (value = 0; bytes > 0; bytes--) {
        value = value << 8 | p[bytes - 1];
    }

    return value;
}


void
kv_net_frame_write(unsigned char *p, unsigned type, size_t len)
{
    memcpy(p, kv_net_magic, sizeof(kv_net_magic));
    kv_net_put(p + 4, (uint32_t) len, 4);
    kv_net_put(p + 8, type, 2);
    kv_net_put(p + 10, 0, 2);
    kv_net_put(p + 12, kv_crc32c(0, p + KV_NET_OVERHEAD, len), 4);
    kv_net_put(p + 16, kv_crc32c(0, p, 16), 4);
}


kv_rc_t
kv_net_frame_read(const unsigned char *p, size_t n, size_t max,
    kv_net_frame_t *f)
{
    f->len = 0;

    if (n && memcmp(p, kv_net_magic, kv_min(n, sizeof(kv_net_magic))) != 0) {
        return KV_DAMAGED;
    }

    if (n < KV_NET_OVERHEAD) {
        return KV_AGAIN;
    }

    f->len = kv_net_get(p + 4, 4);
    f->type = kv_net_get(p + 8, 2);
    f->crc = kv_net_get(p + 12, 4);
    f->data = p + KV_NET_OVERHEAD;

    if (f->len > max || kv_net_get(p + 10, 2) != 0
        || kv_net_get(p + 16, 4) != kv_crc32c(0, p, 16))
    {
        return KV_DAMAGED;
    }

    if (n - KV_NET_OVERHEAD < f->len) {
        return KV_AGAIN;
    }

    return kv_crc32c(0, f->data, f->len) == f->crc ? KV_OK : KV_DAMAGED;
}


void
kv_net_hello_write(kv_net_t *net, const void *data, size_t len)
{
    size_t  n;

    assert(len <= KV_NET_HELLO_MAX);

    n = strlen(net->name);

    kv_net_put(net->hello, (uint32_t) n, 2);
    memcpy(net->hello + 2, net->name, n);

    if (len) {
        memcpy(net->hello + 2 + n, data, len);
    }

    net->hello_len = 2 + n + len;
}


kv_rc_t
kv_net_hello_read(const kv_net_frame_t *f, const char **name,
    size_t *name_len, const unsigned char **data, size_t *len)
{
    size_t  i, n;

    if (f->len < 2 || f->len > KV_NET_HELLO_DATA) {
        return KV_DAMAGED;
    }

    n = kv_net_get(f->data, 2);

    if (n == 0 || n > KV_ADDRESS_MAX || n > f->len - 2
        || f->len - 2 - n > KV_NET_HELLO_MAX)
    {
        return KV_DAMAGED;
    }

    /* it may come to stand in a log */

    for (i = 0; i < n; i++) {
        if (f->data[2 + i] <= ' ' || f->data[2 + i] > '~') {
            return KV_DAMAGED;
        }
    }

    *name = (const char *) f->data + 2;
    *name_len = n;
    *data = f->data + 2 + n;
    *len = f->len - 2 - n;

    return KV_OK;
}
